/*
 * Exceptions and interrupts: raising, the rules for double faults, and delivery through the IDT in
 * every mode. SDM vol. 3, chapter 6; vm86: 20.3. Runs on the VP's thread.
 *
 * Raising notes the fault in the CPU and unwinds to the engine, which calls x86_deliver(). Delivery
 * checks everything, writes the frame, and commits registers last; what it raises itself unwinds
 * once more and meets fault_depth.
 */
#include "config.h"

#include "src/soft/system.h"

#define INT3 0xcc

/* ---- raising ---- */

G_NORETURN static void unwind(X86Cpu *c)
{
    g_assert(c->in_engine); /* nothing may raise outside of the engine */
    while (c->world_depth > 0) {
        x86_unlock_world(c);
    }
    c->string_again = false;
    _longjmp(c->unwind, 1);
}

/* SDM vol. 3, table 6-4. */
typedef enum FaultClass {
    CLASS_BENIGN,
    CLASS_CONTRIBUTORY,
    CLASS_PAGE_FAULT,
} FaultClass;

static FaultClass class_of(unsigned vector)
{
    switch (vector) {
    case X86_DE:
    case X86_TS:
    case X86_NP:
    case X86_SS:
    case X86_GP:
        return CLASS_CONTRIBUTORY;
    case X86_PFV:
        return CLASS_PAGE_FAULT;
    default:
        return CLASS_BENIGN;
    }
}

/* A fault while another event was being delivered: table 6-5. */
static void combine(X86Cpu *c, const X86Fault *second)
{
    bool exception = !c->fault_soft && !c->fault_external;
    FaultClass a = exception ? class_of(c->fault.vector) : CLASS_BENIGN;
    FaultClass b = class_of(second->vector);
    if (c->fault_depth >= 2 && b != CLASS_BENIGN) {
        c->fault_depth = 3; /* while delivering #DF */
        return;
    }
    bool ext = !c->fault_soft;
    c->fault = *second;
    if ((a == CLASS_CONTRIBUTORY && b == CLASS_CONTRIBUTORY) ||
        (a == CLASS_PAGE_FAULT && b != CLASS_BENIGN)) {
        c->fault = (X86Fault){ .vector = X86_DFV, .has_error = true };
        c->fault_depth = 2;
    } else if (ext && b == CLASS_CONTRIBUTORY && second->vector != X86_DE) {
        c->fault.error |= 1; /* EXT: the program did not cause it */
    }
}

static void note_fault(X86Cpu *c, const X86Insn *in, const X86Fault *fault)
{
    if (fault->vector == X86_PFV) {
        c->cr2 = fault->cr2;
    }
    if (c->fault_depth > 0) {
        combine(c, fault);
        c->rip = c->fault_rip;
    } else {
        c->fault = *fault;
        if (in) {
            c->rip = x86_rip(c, in);
        }
        c->fault_rip = c->rip;
    }
    c->fault_is_trap = false;
    c->fault_soft = false;
    c->fault_int3 = false;
    c->fault_external = false;
}

void x86_raise_fault(X86Cpu *c, const X86Insn *in, const X86Fault *fault)
{
    X86Fault copy = *fault;
    note_fault(c, in, &copy);
    unwind(c);
}

void x86_raise(X86Cpu *c, const X86Insn *in, unsigned vector, int64_t error)
{
    X86Fault fault = { .vector = (uint8_t)vector };
    if (error >= 0) {
        fault.has_error = true;
        fault.error = (uint32_t)error;
    }
    note_fault(c, in, &fault);
    unwind(c);
}

void x86_raise_ud(X86Cpu *c, const X86Insn *in)
{
    x86_raise(c, in, X86_UD, -1);
}

void x86_raise_gp(X86Cpu *c, const X86Insn *in, uint32_t error)
{
    x86_raise(c, in, X86_GP, error);
}

void x86_raise_trap(X86Cpu *c, unsigned vector)
{
    X86Fault fault = { .vector = (uint8_t)vector };
    note_fault(c, NULL, &fault);
    c->fault_is_trap = true;
    unwind(c);
}

void x86_raise_db(X86Cpu *c, const X86Insn *in, uint64_t dr6_bits, bool trap)
{
    if (c->fault_depth == 0) {
        c->dr6 = (c->dr6 & ~UINT64_C(0xf)) | dr6_bits;
        c->dr7 &= ~X86_DR7_GD;
    }
    if (trap) {
        x86_raise_trap(c, X86_DB);
    }
    x86_raise(c, in, X86_DB, -1);
}

void x86_soft_int(X86Cpu *c, const X86Insn *in, unsigned vector)
{
    uint64_t next = x86_next_rip(c, in);
    X86Fault fault = { .vector = (uint8_t)vector };
    note_fault(c, in, &fault);
    c->rip = next;
    c->fault_is_trap = true;
    c->fault_soft = true;
    c->fault_int3 = in->opcode == INT3;
    unwind(c);
}

void x86_raise_int3(X86Cpu *c)
{
    X86Fault fault = { .vector = X86_BP };
    note_fault(c, NULL, &fault);
    c->fault_rip = c->rip - 1;
    c->fault_is_trap = true;
    c->fault_soft = true;
    unwind(c);
}

void x86_restart(X86Cpu *c, const X86Insn *in)
{
    c->rip = x86_rip(c, in);
    c->restart = true;
    x86_attend(c, X86_ATT_STEP);
    unwind(c);
}

/* ---- delivery ---- */

typedef struct Gate {
    uint16_t selector;
    uint64_t offset;
    unsigned type;
    unsigned ist;
    bool present;
    unsigned dpl;
} Gate;

/* The error code that names the IDT's entry; EXT is added by combine(). */
static uint32_t idt_error(const X86Cpu *c)
{
    return c->fault.vector * 8u + 2;
}

static Gate read_gate(X86Cpu *c)
{
    bool wide = x86_in_long_mode(c);
    unsigned size = wide ? 16 : 8;
    unsigned at = c->fault.vector * size;
    if (at + size - 1 > c->idtr.limit) {
        x86_raise_gp(c, NULL, idt_error(c));
    }
    uint64_t raw = x86_sys_load(c, NULL, c->idtr.base + at, 8);
    uint32_t hi = (uint32_t)(raw >> 32);
    Gate g = {
        .selector = (uint16_t)(raw >> 16),
        .offset = (raw & 0xffff) | (hi & 0xffff0000),
        .type = hi >> 8 & 0x1f,
        .dpl = hi >> 13 & 3,
        .present = hi & 0x8000,
    };
    if (wide) {
        g.ist = hi & 7;
        g.offset |= x86_sys_load(c, NULL, c->idtr.base + at + 8, 8) << 32;
    }
    bool ok = g.type == X86_TYPE_INT32 || g.type == X86_TYPE_TRAP32 ||
              (!wide && (g.type == X86_TYPE_INT16 || g.type == X86_TYPE_TRAP16 ||
                         g.type == X86_TYPE_TASK_GATE));
    if (!ok || (c->fault_soft && g.dpl < c->cpl)) {
        x86_raise_gp(c, NULL, idt_error(c));
    }
    if (!g.present) {
        x86_raise(c, NULL, X86_NP, idt_error(c));
    }
    if (!wide && (g.type == X86_TYPE_INT16 || g.type == X86_TYPE_TRAP16)) {
        g.offset &= 0xffff;
    }
    return g;
}

/* RFLAGS as the frame gets it: SDM vol. 3, 17.3.1.1. */
static uint64_t pushed_flags(const X86Cpu *c)
{
    uint64_t flags = x86_rflags(c) & ~(uint64_t)X86_RF;
    bool fault = !c->fault_is_trap && !c->fault_external && c->fault.vector != X86_DB;
    return flags | (fault ? X86_RF : 0);
}

static void deliver_real(X86Cpu *c)
{
    unsigned at = c->fault.vector * 4;
    if (at + 3 > c->idtr.limit) {
        x86_raise_gp(c, NULL, idt_error(c));
    }
    uint32_t target = (uint32_t)x86_sys_load(c, NULL, c->idtr.base + at, 4);
    X86Stack s = x86_stack(c, NULL);
    x86_stack_push(&s, 2, x86_rflags(c));
    x86_stack_push(&s, 2, c->seg[PTA_X86_CS].selector);
    x86_stack_push(&s, 2, c->rip);
    c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
    c->seg[PTA_X86_CS].selector = (uint16_t)(target >> 16);
    c->seg[PTA_X86_CS].base = (target >> 16) << 4;
    c->rip = target & 0xffff;
    x86_mode_changed(c); /* the base that code is fetched from */
    x86_set_rflags(c, 0, X86_IF | X86_TF | X86_AC | X86_RF);
}

/* Where the handler runs. */
typedef struct Target {
    X86Seg cs;
    X86Desc desc;
    unsigned cpl;
} Target;

static Target check_target(X86Cpu *c, const Gate *g)
{
    Target t;
    if (x86_null_selector(g->selector)) {
        x86_raise_gp(c, NULL, 0);
    }
    uint32_t error = g->selector & ~3u;
    if (!x86_desc_read(c, NULL, g->selector, &t.desc)) {
        x86_raise_gp(c, NULL, error);
    }
    unsigned attrs = x86_desc_attrs(&t.desc);
    unsigned dpl = x86_attrs_dpl(attrs);
    if (!x86_is_code(attrs) || dpl > c->cpl) {
        x86_raise_gp(c, NULL, error);
    }
    if (x86_in_long_mode(c) && (attrs & (X86_ATTR_L | X86_ATTR_DB)) != X86_ATTR_L) {
        x86_raise_gp(c, NULL, error);
    }
    if (!(attrs & X86_ATTR_P)) {
        x86_raise(c, NULL, X86_NP, error);
    }
    t.cpl = attrs & X86_ATTR_CONFORMING ? c->cpl : dpl;
    if (x86_in_vm86(c) && t.cpl != 0) {
        x86_raise_gp(c, NULL, error);
    }
    x86_desc_touch(c, NULL, &t.desc);
    t.cs = x86_desc_segment(g->selector, &t.desc);
    return t;
}

static void finish(X86Cpu *c, const Gate *g, const Target *t)
{
    x86_commit_cs(c, &t->cs, t->cpl);
    c->rip = g->offset;
    uint64_t clear = X86_TF | X86_NT | X86_RF | X86_VM;
    if (g->type == X86_TYPE_INT16 || g->type == X86_TYPE_INT32) {
        clear |= X86_IF;
    }
    c->rflags &= ~clear;
    x86_mode_changed(c);
}

static void deliver_long(X86Cpu *c, const Gate *g)
{
    Target t = check_target(c, g);
    bool inner = t.cpl < c->cpl;
    X86Stack s = {
        .c = c,
        .mask = UINT64_MAX,
        .user = t.cpl == 3,
        .flat = true,
        .sp = c->gpr[PTA_X86_RSP],
    };
    if (g->ist) {
        s.sp = x86_tss_ist(c, g->ist);
    } else if (inner) {
        uint16_t unused;
        x86_tss_stack(c, NULL, t.cpl, &unused, &s.sp);
    }
    if (!x86_canonical(g->offset)) {
        x86_raise_gp(c, NULL, 0);
    }
    s.sp &= ~UINT64_C(15);
    x86_stack_push(&s, 8, c->seg[PTA_X86_SS].selector);
    x86_stack_push(&s, 8, c->gpr[PTA_X86_RSP]);
    x86_stack_push(&s, 8, pushed_flags(c));
    x86_stack_push(&s, 8, c->seg[PTA_X86_CS].selector);
    x86_stack_push(&s, 8, c->rip);
    if (c->fault.has_error) {
        x86_stack_push(&s, 8, c->fault.error);
    }
    c->gpr[PTA_X86_RSP] = s.sp;
    if (inner) {
        c->seg[PTA_X86_SS] = (X86Seg){ .selector = (uint16_t)t.cpl,
                                       .attrs = (uint16_t)(PTA_X86_SEG_UNUSABLE | t.cpl << 5) };
    }
    finish(c, g, &t);
}

static void push_vm86_segments(X86Cpu *c, X86Stack *s, unsigned width)
{
    x86_stack_push(s, width, c->seg[PTA_X86_GS].selector);
    x86_stack_push(s, width, c->seg[PTA_X86_FS].selector);
    x86_stack_push(s, width, c->seg[PTA_X86_DS].selector);
    x86_stack_push(s, width, c->seg[PTA_X86_ES].selector);
}

static void deliver_legacy(X86Cpu *c, const Gate *g)
{
    Target t = check_target(c, g);
    unsigned width = g->type == X86_TYPE_INT16 || g->type == X86_TYPE_TRAP16 ? 2 : 4;
    bool inner = t.cpl < c->cpl;
    X86Stack s = x86_stack(c, NULL);
    if (inner) {
        uint16_t ss;
        x86_tss_stack(c, NULL, t.cpl, &ss, &s.sp);
        s.seg = x86_check_ss(c, NULL, ss, t.cpl, X86_TS);
        s.mask = s.seg.attrs & X86_ATTR_DB ? UINT32_MAX : UINT16_MAX;
        s.user = false;
        s.error = ss & ~3u;
        if (x86_in_vm86(c)) {
            push_vm86_segments(c, &s, width);
        }
        x86_stack_push(&s, width, c->seg[PTA_X86_SS].selector);
        x86_stack_push(&s, width, c->gpr[PTA_X86_RSP]);
    }
    x86_stack_push(&s, width, pushed_flags(c));
    x86_stack_push(&s, width, c->seg[PTA_X86_CS].selector);
    x86_stack_push(&s, width, c->rip);
    if (c->fault.has_error) {
        x86_stack_push(&s, width, c->fault.error);
    }
    if ((uint32_t)g->offset > t.cs.limit) {
        x86_raise_gp(c, NULL, 0);
    }
    if (inner && x86_in_vm86(c)) {
        static const uint8_t data[] = { PTA_X86_ES, PTA_X86_DS, PTA_X86_FS, PTA_X86_GS };
        for (unsigned i = 0; i < G_N_ELEMENTS(data); i++) {
            c->seg[data[i]] = (X86Seg){ .attrs = PTA_X86_SEG_UNUSABLE };
        }
    }
    if (inner) {
        c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, 0);
        c->seg[PTA_X86_SS] = s.seg;
    } else {
        c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
    }
    finish(c, g, &t);
}

static void deliver_event(X86Cpu *c)
{
    if (!x86_protected(c)) {
        deliver_real(c);
    } else {
        Gate g = read_gate(c);
        if (g.type == X86_TYPE_TASK_GATE) {
            int64_t error = c->fault.has_error ? (int64_t)c->fault.error : -1;
            x86_task_switch_selector(c, NULL, g.selector, X86_TASK_GATE, error);
        } else if (x86_in_long_mode(c)) {
            deliver_long(c, &g);
        } else {
            deliver_legacy(c, &g);
        }
    }
    c->fault_depth = 0;
    c->shadow = 0;
    if (G_UNLIKELY(c->debug.enabled)) {
        x86_debug_delivered(c);
    }
}

void x86_deliver(X86Cpu *c)
{
    if (c->fault_int3 && c->fault_depth == 0 && c->debug.enabled && c->debug.sw_breakpoints) {
        c->rip = c->fault_rip;
        c->exit = (PtaExit){ .reason = PTA_EXIT_DEBUG };
        c->exit.debug.vector = X86_BP;
        c->exit.debug.rip = c->rip;
        x86_attend(c, X86_ATT_EXIT);
        return;
    }
    if (c->fault_depth >= 3) {
        c->fault_depth = 0;
        c->events.activity = PTA_X86_SHUTDOWN;
        c->exit = (PtaExit){ .reason = PTA_EXIT_SHUTDOWN };
        x86_attend(c, X86_ATT_EXIT);
        return;
    }
    c->stats[X86_STAT_EXCEPTION]++;
    /* A fault discards what its instruction met; INT n takes it along to the handler: after MOV SS
     * it may be waiting for its turn (SDM vol. 3, 6.8.3). */
    c->debug_hits &= c->fault_soft ? ~(uint32_t)X86_DR6_BS : 0;
    if (!c->fault_is_trap) {
        c->debugger_hits = 0;
    }
    if (c->debug_hits) {
        x86_attend(c, X86_ATT_STEP);
    }
    if (G_UNLIKELY(__atomic_load_n(&c->attention, __ATOMIC_RELAXED) & X86_ATT_HALT)) {
        /* The trap of a single-stepped HLT: the handler runs, the VP does not halt in it. */
        __atomic_fetch_and(&c->attention, ~(uint32_t)X86_ATT_HALT, __ATOMIC_SEQ_CST);
    }
    PTA_TRACE(PTA_TRACE_CPU,
              "vp %u: exception %u error %#x cr2 %#" G_GINT64_MODIFIER
              "x at %#x:%#" G_GINT64_MODIFIER "x",
              c->index, c->fault.vector, c->fault.error, c->fault.cr2, c->seg[PTA_X86_CS].selector,
              c->rip);
    if (c->fault_depth == 0) {
        c->fault_depth = 1;
    }
    deliver_event(c);
}

void x86_interrupt(X86Cpu *c, uint8_t vector)
{
    c->fault = (X86Fault){ .vector = vector };
    c->fault_rip = c->rip;
    c->fault_is_trap = true;
    c->fault_soft = false;
    c->fault_int3 = false;
    c->fault_external = true;
    c->fault_depth = 1;
    if (vector == X86_NMI) {
        c->events.nmi_blocked = 1; /* external interrupts begin at 16 */
    }
    deliver_event(c);
}
