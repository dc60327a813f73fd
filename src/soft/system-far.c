/*
 * Control transfers that change CS: far JMP, CALL, RET, call gates, IRET, software interrupts, and
 * the fast system calls. SDM vol. 3, 5.8; vol. 2 for each. Everything is checked and every frame
 * read or written before the first register changes.
 */
#include "config.h"

#include "src/soft/opcodes.h"
#include "src/soft/system.h"

/* ---- far pointers ---- */

typedef struct FarPointer {
    uint16_t selector;
    uint64_t offset;
} FarPointer;

static FarPointer far_operand(X86Cpu *c, const X86Insn *in)
{
    if (!(in->ea & X86_EA_MEM)) {
        uint64_t mask = in->width == 2 ? 0xffff : 0xffffffff;
        return (FarPointer){ (uint16_t)in->aux, in->imm & mask };
    }
    uint64_t lin = x86_ea(c, in, in->width + 2u, X86_READ);
    FarPointer p = { .offset = x86_load(c, in, lin, in->width) };
    p.selector = (uint16_t)x86_load16(c, in, lin + in->width);
    return p;
}

/* Whether code of segment attributes `attrs` runs in 64-bit mode. */
static bool code_is_64bit(const X86Cpu *c, unsigned attrs)
{
    return x86_in_long_mode(c) && (attrs & X86_ATTR_L);
}

static void check_offset(X86Cpu *c, const X86Insn *in, const X86Seg *cs, uint64_t offset)
{
    bool ok = code_is_64bit(c, cs->attrs) ? x86_canonical(offset) : offset <= cs->limit;
    if (!ok) {
        x86_raise_gp(c, in, 0);
    }
}

/* Reads a code segment's descriptor; what is wrong with it is #GP(selector). */
static X86Desc read_code(X86Cpu *c, const X86Insn *in, uint16_t selector)
{
    X86Desc d;
    if (x86_null_selector(selector)) {
        x86_raise_gp(c, in, 0);
    }
    if (!x86_desc_read(c, in, selector, &d)) {
        x86_raise_gp(c, in, selector & ~3u);
    }
    return d;
}

static void check_code(X86Cpu *c, const X86Insn *in, uint16_t selector, unsigned attrs)
{
    bool both = x86_in_long_mode(c) && (attrs & X86_ATTR_L) && (attrs & X86_ATTR_DB);
    if (!x86_is_code(attrs) || both) {
        x86_raise_gp(c, in, selector & ~3u);
    }
}

static void check_present(X86Cpu *c, const X86Insn *in, uint16_t selector, unsigned attrs)
{
    if (!(attrs & X86_ATTR_P)) {
        x86_raise(c, in, X86_NP, selector & ~3u);
    }
}

/* CS and RIP of real and virtual-8086 mode. */
static void set_cs_real(X86Cpu *c, uint16_t selector, uint64_t offset)
{
    if (x86_in_vm86(c)) {
        c->seg[PTA_X86_CS] = x86_vm86_segment(selector);
    } else {
        c->seg[PTA_X86_CS].selector = selector;
        c->seg[PTA_X86_CS].base = (uint32_t)selector << 4;
    }
    c->rip = offset;
    x86_mode_changed(c);
}

static void check_offset_real(X86Cpu *c, const X86Insn *in, uint64_t offset)
{
    if (offset > c->seg[PTA_X86_CS].limit) {
        x86_raise_gp(c, in, 0);
    }
}

/* ---- JMP and CALL ---- */

typedef struct CallGate {
    uint16_t selector;
    uint64_t offset;
    unsigned width;
    unsigned params;
} CallGate;

static CallGate read_call_gate(X86Cpu *c, const X86Insn *in, uint16_t selector, const X86Desc *d)
{
    CallGate g = {
        .selector = (uint16_t)(d->lo >> 16),
        .offset = (d->lo & 0xffff) | (d->hi & 0xffff0000),
        .width = 4,
        .params = d->hi & 31,
    };
    if (x86_in_long_mode(c)) {
        uint32_t high;
        uint32_t zero;
        /* SDM vol. 3, figure 5-9: the second half's type is 0. */
        if (!x86_desc_read_high(c, in, selector, d, &high, &zero) || (zero & 0x1f00)) {
            x86_raise_gp(c, in, selector & ~3u);
        }
        g.offset |= (uint64_t)high << 32;
        g.width = 8;
        g.params = 0;
    } else if ((x86_desc_attrs(d) & X86_ATTR_TYPE) == X86_TYPE_CALL16) {
        g.offset &= 0xffff;
        g.width = 2;
    }
    return g;
}

/* The code segment behind a call gate. */
static X86Desc gate_code(X86Cpu *c, const X86Insn *in, const CallGate *g)
{
    X86Desc d = read_code(c, in, g->selector);
    unsigned attrs = x86_desc_attrs(&d);
    if (!x86_is_code(attrs) || x86_attrs_dpl(attrs) > c->cpl ||
        (x86_in_long_mode(c) && (attrs & (X86_ATTR_L | X86_ATTR_DB)) != X86_ATTR_L)) {
        x86_raise_gp(c, in, g->selector & ~3u);
    }
    return d;
}

static void push_return(X86Cpu *c, X86Stack *s, unsigned width)
{
    x86_stack_push(s, width, c->seg[PTA_X86_CS].selector);
    x86_stack_push(s, width, c->rip);
}

/* Through a call gate to more privilege: the stack of the TSS, the old one on it, parameters. */
static void call_inner(X86Cpu *c, const X86Insn *in, const CallGate *g, const X86Seg *cs)
{
    unsigned dpl = x86_attrs_dpl(cs->attrs);
    uint16_t ss;
    X86Stack outer = x86_stack(c, in);
    X86Stack s = { .c = c, .in = in };
    x86_tss_stack(c, in, dpl, &ss, &s.sp);
    if (x86_in_long_mode(c)) {
        s.mask = UINT64_MAX;
        s.flat = true;
        s.seg = (X86Seg){ .selector = (uint16_t)dpl,
                          .attrs = (uint16_t)(PTA_X86_SEG_UNUSABLE | dpl << 5) };
    } else {
        s.seg = x86_check_ss(c, in, ss, dpl, X86_TS);
        s.mask = s.seg.attrs & X86_ATTR_DB ? UINT32_MAX : UINT16_MAX;
        s.error = ss & ~3u;
    }
    uint64_t params[31];
    for (unsigned i = 0; i < g->params; i++) {
        params[i] = x86_stack_pop(&outer, g->width);
    }
    x86_stack_push(&s, g->width, c->seg[PTA_X86_SS].selector);
    x86_stack_push(&s, g->width, c->gpr[PTA_X86_RSP]);
    for (unsigned i = g->params; i-- > 0;) {
        x86_stack_push(&s, g->width, params[i]);
    }
    push_return(c, &s, g->width);
    c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, 0);
    c->seg[PTA_X86_SS] = s.seg;
    x86_commit_cs(c, cs, dpl);
    c->rip = g->offset;
}

static void through_call_gate(X86Cpu *c, const X86Insn *in, uint16_t selector, const X86Desc *gate,
                              bool call)
{
    CallGate g = read_call_gate(c, in, selector, gate);
    X86Desc d = gate_code(c, in, &g);
    unsigned attrs = x86_desc_attrs(&d);
    bool conforming = attrs & X86_ATTR_CONFORMING;
    if (!call && !conforming && x86_attrs_dpl(attrs) != c->cpl) {
        x86_raise_gp(c, in, g.selector & ~3u);
    }
    check_present(c, in, g.selector, attrs);
    x86_desc_touch(c, in, &d);
    X86Seg cs = x86_desc_segment(g.selector, &d);
    check_offset(c, in, &cs, g.offset);
    if (call && !conforming && x86_attrs_dpl(attrs) < c->cpl) {
        call_inner(c, in, &g, &cs);
    } else {
        if (call) {
            X86Stack s = x86_stack(c, in);
            push_return(c, &s, g.width);
            c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
        }
        x86_commit_cs(c, &cs, c->cpl);
        c->rip = g.offset;
    }
    x86_mode_changed(c);
}

static void through_system_descriptor(X86Cpu *c, const X86Insn *in, uint16_t selector,
                                      const X86Desc *d, bool call)
{
    unsigned attrs = x86_desc_attrs(d);
    unsigned type = attrs & X86_ATTR_TYPE;
    unsigned dpl = x86_attrs_dpl(attrs);
    bool wide = x86_in_long_mode(c);
    bool task = !wide && (type == X86_TYPE_TSS16 || type == X86_TYPE_TSS32);
    bool gate = type == X86_TYPE_CALL32 ||
                (!wide && (type == X86_TYPE_CALL16 || type == X86_TYPE_TASK_GATE));
    if ((!task && !gate) || dpl < c->cpl || dpl < (selector & 3u)) {
        x86_raise_gp(c, in, selector & ~3u);
    }
    check_present(c, in, selector, attrs);
    X86TaskReason reason = call ? X86_TASK_CALL : X86_TASK_JMP;
    if (task) {
        x86_task_switch_selector(c, in, selector, reason, -1);
    } else if (type == X86_TYPE_TASK_GATE) {
        x86_task_switch_selector(c, in, (uint16_t)(d->lo >> 16), reason, -1);
    } else {
        through_call_gate(c, in, selector, d, call);
    }
}

static void far_transfer(X86Cpu *c, const X86Insn *in, bool call)
{
    FarPointer p = far_operand(c, in);
    if (!(c->mode & X86_MODE_PROT)) {
        check_offset_real(c, in, p.offset);
        if (call) {
            X86Stack s = x86_stack(c, in);
            push_return(c, &s, in->width);
            c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
        }
        set_cs_real(c, p.selector, p.offset);
        return;
    }
    X86Desc d = read_code(c, in, p.selector);
    unsigned attrs = x86_desc_attrs(&d);
    if (!(attrs & X86_ATTR_S)) {
        through_system_descriptor(c, in, p.selector, &d, call);
        return;
    }
    check_code(c, in, p.selector, attrs);
    unsigned dpl = x86_attrs_dpl(attrs);
    bool allowed =
        attrs & X86_ATTR_CONFORMING ? dpl <= c->cpl : (p.selector & 3u) <= c->cpl && dpl == c->cpl;
    if (!allowed) {
        x86_raise_gp(c, in, p.selector & ~3u);
    }
    check_present(c, in, p.selector, attrs);
    x86_desc_touch(c, in, &d);
    X86Seg cs = x86_desc_segment(p.selector, &d);
    check_offset(c, in, &cs, p.offset);
    if (call) {
        X86Stack s = x86_stack(c, in);
        push_return(c, &s, in->width);
        c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
    }
    x86_commit_cs(c, &cs, c->cpl);
    c->rip = p.offset;
    x86_mode_changed(c);
}

void op_jmp_far(X86Cpu *c, const X86Insn *in)
{
    far_transfer(c, in, false);
}

void op_call_far(X86Cpu *c, const X86Insn *in)
{
    far_transfer(c, in, true);
}

/* ---- RET and IRET ---- */

/* The CS that a return pops. */
static X86Seg check_return_cs(X86Cpu *c, const X86Insn *in, uint16_t selector)
{
    unsigned rpl = selector & 3;
    X86Desc d = read_code(c, in, selector);
    unsigned attrs = x86_desc_attrs(&d);
    check_code(c, in, selector, attrs);
    unsigned dpl = x86_attrs_dpl(attrs);
    if (rpl < c->cpl || (attrs & X86_ATTR_CONFORMING ? dpl > rpl : dpl != rpl)) {
        x86_raise_gp(c, in, selector & ~3u);
    }
    check_present(c, in, selector, attrs);
    x86_desc_touch(c, in, &d);
    return x86_desc_segment(selector, &d);
}

static X86Seg check_return_ss(X86Cpu *c, const X86Insn *in, uint16_t selector, const X86Seg *cs)
{
    unsigned rpl = cs->selector & 3;
    if (x86_null_selector(selector) && !code_is_64bit(c, cs->attrs)) {
        x86_raise_gp(c, in, 0);
    }
    return x86_check_ss(c, in, selector, rpl, X86_GP);
}

/* RSP as a return to `ss` loads it. */
static void load_outer_stack(X86Cpu *c, const X86Seg *cs, const X86Seg *ss, uint64_t rsp)
{
    if (code_is_64bit(c, cs->attrs) || (ss->attrs & X86_ATTR_DB)) {
        c->gpr[PTA_X86_RSP] = code_is_64bit(c, cs->attrs) ? rsp : (uint32_t)rsp;
    } else {
        c->gpr[PTA_X86_RSP] = (c->gpr[PTA_X86_RSP] & ~UINT64_C(0xffff)) | (rsp & 0xffff);
    }
    c->seg[PTA_X86_SS] = *ss;
}

void op_ret_far(X86Cpu *c, const X86Insn *in)
{
    uint64_t drop = in->opcode == 0xca ? in->imm & 0xffff : 0;
    X86Stack s = x86_stack(c, in);
    uint64_t rip = x86_stack_pop(&s, in->width);
    uint16_t selector = (uint16_t)x86_stack_pop(&s, in->width);
    if (!(c->mode & X86_MODE_PROT)) {
        check_offset_real(c, in, rip);
        s.sp += drop;
        c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
        set_cs_real(c, selector, rip);
        return;
    }
    X86Seg cs = check_return_cs(c, in, selector);
    unsigned rpl = selector & 3;
    s.sp += drop;
    if (rpl == c->cpl) {
        check_offset(c, in, &cs, rip);
        c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
    } else {
        uint64_t rsp = x86_stack_pop(&s, in->width);
        X86Seg ss = check_return_ss(c, in, (uint16_t)x86_stack_pop(&s, in->width), &cs);
        check_offset(c, in, &cs, rip);
        load_outer_stack(c, &cs, &ss, rsp);
        uint64_t mask = code_is_64bit(c, cs.attrs) ? UINT64_MAX
                        : ss.attrs & X86_ATTR_DB   ? UINT32_MAX
                                                   : UINT16_MAX;
        uint64_t old = c->gpr[PTA_X86_RSP];
        c->gpr[PTA_X86_RSP] = (old & ~mask) | ((old + drop) & mask);
    }
    bool outer = rpl > c->cpl;
    x86_commit_cs(c, &cs, rpl);
    c->rip = rip;
    if (outer) {
        x86_drop_inner_segments(c);
    }
    x86_mode_changed(c);
}

/* What IRET may change in RFLAGS at this privilege. */
static uint64_t iret_flags_mask(const X86Cpu *c, unsigned width)
{
    uint64_t mask = X86_STATUS | X86_TF | X86_DF | X86_NT | X86_RF | X86_AC | X86_ID;
    if (!(c->mode & (X86_MODE_PROT | X86_MODE_VM86))) {
        mask |= X86_IF | X86_IOPL;
    } else {
        mask |= c->cpl <= x86_iopl(c) ? X86_IF : 0;
        mask |= c->cpl == 0 ? X86_IOPL | X86_VIF | X86_VIP : 0;
    }
    return width == 2 ? mask & 0xffff : mask;
}

static void iret_real(X86Cpu *c, const X86Insn *in)
{
    if (x86_in_vm86(c) && x86_iopl(c) != 3) {
        x86_raise_gp(c, in, 0);
    }
    X86Stack s = x86_stack(c, in);
    uint64_t rip = x86_stack_pop(&s, in->width);
    uint16_t cs = (uint16_t)x86_stack_pop(&s, in->width);
    uint64_t flags = x86_stack_pop(&s, in->width);
    check_offset_real(c, in, rip);
    c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
    uint64_t mask = iret_flags_mask(c, in->width);
    set_cs_real(c, cs, rip);
    x86_set_rflags(c, flags, mask);
}

/* From privilege 0 to virtual-8086 mode; RIP, CS and RFLAGS were popped. */
static void iret_to_vm86(X86Cpu *c, X86Stack *s, uint64_t rip, uint16_t cs, uint64_t flags)
{
    static const uint8_t order[] = { PTA_X86_ES, PTA_X86_DS, PTA_X86_FS, PTA_X86_GS };
    uint64_t rsp = x86_stack_pop(s, 4);
    uint16_t selector[PTA_X86_N_SEGS];
    selector[PTA_X86_CS] = cs;
    selector[PTA_X86_SS] = (uint16_t)x86_stack_pop(s, 4);
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++) {
        selector[order[i]] = (uint16_t)x86_stack_pop(s, 4);
    }
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        c->seg[i] = x86_vm86_segment(selector[i]);
    }
    c->gpr[PTA_X86_RSP] = (uint32_t)rsp;
    c->rip = rip & 0xffff;
    c->cpl = 3;
    x86_set_rflags(c, flags, UINT32_MAX);
    x86_mode_changed(c);
}

static void iret_protected(X86Cpu *c, const X86Insn *in)
{
    if (c->rflags & X86_NT) {
        if (x86_in_long_mode(c)) {
            x86_raise_gp(c, in, 0);
        }
        uint16_t link = (uint16_t)x86_sys_load(c, in, c->tr.base, 2);
        x86_task_switch_selector(c, in, link, X86_TASK_IRET, -1);
        return;
    }
    X86Stack s = x86_stack(c, in);
    uint64_t rip = x86_stack_pop(&s, in->width);
    uint16_t selector = (uint16_t)x86_stack_pop(&s, in->width);
    uint64_t flags = x86_stack_pop(&s, in->width);
    if ((flags & X86_VM) && in->width == 4 && c->cpl == 0 && !x86_in_long_mode(c)) {
        iret_to_vm86(c, &s, rip, selector, flags);
        return;
    }
    X86Seg cs = check_return_cs(c, in, selector);
    unsigned rpl = selector & 3;
    bool outer = rpl > c->cpl;
    uint64_t mask = iret_flags_mask(c, in->width);
    if (outer || x86_in_64bit(c)) {
        uint64_t rsp = x86_stack_pop(&s, in->width);
        X86Seg ss = check_return_ss(c, in, (uint16_t)x86_stack_pop(&s, in->width), &cs);
        check_offset(c, in, &cs, rip);
        load_outer_stack(c, &cs, &ss, rsp);
    } else {
        check_offset(c, in, &cs, rip);
        c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
    }
    x86_commit_cs(c, &cs, rpl);
    c->rip = rip;
    if (outer) {
        x86_drop_inner_segments(c);
    }
    x86_mode_changed(c);
    x86_set_rflags(c, flags, mask);
}

void op_iret(X86Cpu *c, const X86Insn *in)
{
    c->events.nmi_blocked = 0; /* even if it faults: SDM vol. 3, 6.7.1 */
    if (G_UNLIKELY(c->events.nmi_pending)) {
        x86_attend(c, X86_ATT_NMI); /* it may be delivered now */
    }
    x86_serialize(c);
    if (c->mode & X86_MODE_PROT) {
        iret_protected(c, in);
    } else {
        iret_real(c, in);
    }
}

/* ---- software interrupts ---- */

void op_int(X86Cpu *c, const X86Insn *in)
{
    if (x86_in_vm86(c) && x86_iopl(c) != 3) {
        x86_raise_gp(c, in, 0);
    }
    x86_soft_int(c, in, (uint8_t)in->imm);
}

void op_int3(X86Cpu *c, const X86Insn *in)
{
    x86_soft_int(c, in, X86_BP);
}

void op_int1(X86Cpu *c, const X86Insn *in)
{
    x86_raise_trap(c, X86_DB);
}

/* ---- fast system calls ---- */

enum {
    FLAT_CODE =
        X86_ATTR_G | X86_ATTR_P | X86_ATTR_S | X86_ATTR_CODE | X86_ATTR_READ | X86_ATTR_ACCESSED,
    FLAT_DATA =
        X86_ATTR_G | X86_ATTR_DB | X86_ATTR_P | X86_ATTR_S | X86_ATTR_WRITE | X86_ATTR_ACCESSED,
};

/* CS and SS with fixed contents; `size` is X86_ATTR_L or X86_ATTR_DB. */
static void load_flat(X86Cpu *c, uint16_t cs, uint16_t ss, unsigned cpl, unsigned size)
{
    c->seg[PTA_X86_CS] = (X86Seg){ .limit = UINT32_MAX,
                                   .selector = (uint16_t)((cs & ~3) | cpl),
                                   .attrs = (uint16_t)(FLAT_CODE | size | cpl << 5) };
    c->seg[PTA_X86_SS] = (X86Seg){ .limit = UINT32_MAX,
                                   .selector = (uint16_t)((ss & ~3) | cpl),
                                   .attrs = (uint16_t)(FLAT_DATA | cpl << 5) };
    c->cpl = (uint8_t)cpl;
    x86_mode_changed(c);
}

/* No single-step trap after an instruction that cleared TF on the way into the kernel. */
static void forget_step(X86Cpu *c)
{
    if (!(c->rflags & X86_TF)) {
        c->debug_hits &= ~(uint32_t)X86_DR6_BS;
    }
}

void op_syscall(X86Cpu *c, const X86Insn *in)
{
    if (!(c->efer & X86_EFER_SCE) || !x86_in_64bit(c)) {
        x86_raise_ud(c, in);
    }
    uint64_t flags = x86_rflags(c) & ~(uint64_t)X86_RF;
    c->gpr[PTA_X86_RCX] = c->rip;
    c->gpr[PTA_X86_R11] = flags;
    c->rip = c->msr.lstar;
    uint16_t cs = (uint16_t)(c->msr.star >> 32);
    load_flat(c, cs, (uint16_t)((cs & ~3) + 8), 0, X86_ATTR_L);
    x86_set_rflags(c, flags & ~c->msr.sfmask, UINT32_MAX);
    forget_step(c);
}

void op_sysret(X86Cpu *c, const X86Insn *in)
{
    if (!(c->efer & X86_EFER_SCE) || !x86_in_64bit(c)) {
        x86_raise_ud(c, in);
    }
    bool wide = in->pfx & X86_PFX_REXW;
    if (c->cpl != 0 || (wide && !x86_canonical(c->gpr[PTA_X86_RCX]))) {
        x86_raise_gp(c, in, 0);
    }
    uint16_t base = (uint16_t)(c->msr.star >> 48);
    c->rip = wide ? c->gpr[PTA_X86_RCX] : (uint32_t)c->gpr[PTA_X86_RCX];
    uint64_t flags = c->gpr[PTA_X86_R11] & 0x3c7fd7;
    load_flat(c, (uint16_t)(base + (wide ? 16 : 0)), (uint16_t)(base + 8), 3,
              wide ? X86_ATTR_L : X86_ATTR_DB);
    x86_set_rflags(c, flags, UINT32_MAX);
}

void op_sysenter(X86Cpu *c, const X86Insn *in)
{
    uint16_t cs = (uint16_t)c->msr.sysenter_cs & 0xfffc;
    if (!x86_protected(c) || cs == 0) {
        x86_raise_gp(c, in, 0);
    }
    bool wide = x86_in_long_mode(c);
    c->rflags &= ~(uint64_t)(X86_VM | X86_IF | X86_RF);
    c->gpr[PTA_X86_RSP] = wide ? c->msr.sysenter_esp : (uint32_t)c->msr.sysenter_esp;
    c->rip = wide ? c->msr.sysenter_eip : (uint32_t)c->msr.sysenter_eip;
    load_flat(c, cs, (uint16_t)(cs + 8), 0, wide ? X86_ATTR_L : X86_ATTR_DB);
}

void op_sysexit(X86Cpu *c, const X86Insn *in)
{
    uint16_t base = (uint16_t)c->msr.sysenter_cs & 0xfffc;
    bool wide = in->pfx & X86_PFX_REXW;
    uint64_t rip = c->gpr[PTA_X86_RDX];
    uint64_t rsp = c->gpr[PTA_X86_RCX];
    if (!x86_protected(c) || c->cpl != 0 || base == 0 ||
        (wide && (!x86_canonical(rip) || !x86_canonical(rsp)))) {
        x86_raise_gp(c, in, 0);
    }
    uint16_t cs = (uint16_t)(base + (wide ? 32 : 16));
    c->rip = wide ? rip : (uint32_t)rip;
    c->gpr[PTA_X86_RSP] = wide ? rsp : (uint32_t)rsp;
    load_flat(c, cs, (uint16_t)(cs + 8), 3, wide ? X86_ATTR_L : X86_ATTR_DB);
}
