/*
 * Instructions on segment registers and selectors: MOV, PUSH, POP, LDS and sisters, LAR, LSL, VERR,
 * VERW, ARPL. SDM vol. 2 for each.
 */
#include "config.h"

#include "src/soft/opcodes.h"
#include "src/soft/system.h"

static uint16_t selector_operand(X86Cpu *c, const X86Insn *in)
{
    if (in->ea & X86_EA_MEM) {
        return (uint16_t)x86_load16(c, in, x86_ea(c, in, 2, X86_READ));
    }
    return X86_REG16(c, in->rm);
}

/* MOV SS and POP SS hold interrupts and debug traps off for one instruction. */
static void load_seg(X86Cpu *c, const X86Insn *in, unsigned seg, uint16_t selector)
{
    x86_load_seg(c, in, seg, selector);
    if (seg == PTA_X86_SS) {
        c->shadow = 2;
        x86_attend(c, X86_ATT_STEP);
    }
}

void op_mov_seg(X86Cpu *c, const X86Insn *in)
{
    if (in->reg >= PTA_X86_N_SEGS) {
        x86_raise_ud(c, in);
    }
    if (in->opcode == 0x8c) {
        uint64_t selector = c->seg[in->reg].selector;
        if (in->ea & X86_EA_MEM) {
            x86_store16(c, in, x86_ea(c, in, 2, X86_WRITE), selector);
        } else {
            x86_set_reg(c, in->rm, in->width, selector);
        }
        return;
    }
    if (in->reg == PTA_X86_CS) {
        x86_raise_ud(c, in);
    }
    load_seg(c, in, in->reg, selector_operand(c, in));
}

void op_push_seg(X86Cpu *c, const X86Insn *in)
{
    X86Stack s = x86_stack(c, in);
    if (in->width == 4) { /* the upper half of the slot is left as it was, as processors do */
        s.sp -= 2;
        x86_stack_push(&s, 2, c->seg[in->reg].selector);
    } else {
        x86_stack_push(&s, in->width, c->seg[in->reg].selector);
    }
    c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
}

void op_pop_seg(X86Cpu *c, const X86Insn *in)
{
    X86Stack s = x86_stack(c, in);
    uint16_t selector = (uint16_t)x86_stack_pop(&s, in->width);
    load_seg(c, in, in->reg, selector);
    c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
}

static void load_far(X86Cpu *c, const X86Insn *in, unsigned seg)
{
    if (!(in->ea & X86_EA_MEM)) {
        x86_raise_ud(c, in);
    }
    uint64_t lin = x86_ea(c, in, in->width + 2u, X86_READ);
    uint64_t offset = x86_load(c, in, lin, in->width);
    uint16_t selector = (uint16_t)x86_load16(c, in, lin + in->width);
    x86_load_seg(c, in, seg, selector);
    x86_set_reg(c, in->reg, in->width, offset);
}

void op_lds(X86Cpu *c, const X86Insn *in)
{
    load_far(c, in, PTA_X86_DS);
}

void op_les(X86Cpu *c, const X86Insn *in)
{
    load_far(c, in, PTA_X86_ES);
}

void op_lss(X86Cpu *c, const X86Insn *in)
{
    load_far(c, in, PTA_X86_SS);
}

void op_lfs(X86Cpu *c, const X86Insn *in)
{
    load_far(c, in, PTA_X86_FS);
}

void op_lgs(X86Cpu *c, const X86Insn *in)
{
    load_far(c, in, PTA_X86_GS);
}

/* ---- questions about selectors: the answer is ZF ---- */

static void answer(X86Cpu *c, bool yes)
{
    x86_set_rflags(c, yes ? X86_ZF : 0, X86_ZF);
}

/* A descriptor that the current privilege may see; `system` has a bit for each type that counts. */
static bool visible(X86Cpu *c, const X86Insn *in, uint16_t selector, unsigned system, X86Desc *d)
{
    if (x86_null_selector(selector) || !x86_desc_read(c, in, selector, d)) {
        return false;
    }
    unsigned attrs = x86_desc_attrs(d);
    if (!(attrs & X86_ATTR_S) && !(system >> (attrs & X86_ATTR_TYPE) & 1)) {
        return false;
    }
    if (x86_is_code(attrs) && (attrs & X86_ATTR_CONFORMING)) {
        return true;
    }
    return x86_attrs_dpl(attrs) >= MAX(c->cpl, selector & 3u);
}

#define TYPE_BIT(t) (1u << X86_TYPE_##t)

void op_lar(X86Cpu *c, const X86Insn *in)
{
    unsigned system = TYPE_BIT(LDT) | TYPE_BIT(TSS32) | TYPE_BIT(TSS32_BUSY) | TYPE_BIT(CALL32);
    if (!x86_in_long_mode(c)) {
        system |= TYPE_BIT(TSS16) | TYPE_BIT(TSS16_BUSY) | TYPE_BIT(CALL16) | TYPE_BIT(TASK_GATE);
    }
    X86Desc d;
    bool ok = visible(c, in, selector_operand(c, in), system, &d);
    if (ok) {
        x86_set_reg(c, in->reg, in->width, d.hi & 0x00ffff00);
    }
    answer(c, ok);
}

void op_lsl(X86Cpu *c, const X86Insn *in)
{
    unsigned system = TYPE_BIT(LDT) | TYPE_BIT(TSS32) | TYPE_BIT(TSS32_BUSY);
    if (!x86_in_long_mode(c)) {
        system |= TYPE_BIT(TSS16) | TYPE_BIT(TSS16_BUSY);
    }
    X86Desc d;
    bool ok = visible(c, in, selector_operand(c, in), system, &d);
    if (ok) {
        x86_set_reg(c, in->reg, in->width, x86_desc_segment(0, &d).limit);
    }
    answer(c, ok);
}

void op_verr(X86Cpu *c, const X86Insn *in)
{
    X86Desc d;
    bool ok = visible(c, in, selector_operand(c, in), 0, &d);
    answer(c, ok && (!x86_is_code(x86_desc_attrs(&d)) || (x86_desc_attrs(&d) & X86_ATTR_READ)));
}

void op_verw(X86Cpu *c, const X86Insn *in)
{
    X86Desc d;
    bool ok = visible(c, in, selector_operand(c, in), 0, &d);
    answer(c, ok && x86_is_writable_data(x86_desc_attrs(&d)));
}

void op_arpl(X86Cpu *c, const X86Insn *in)
{
    bool memory = in->ea & X86_EA_MEM;
    uint64_t lin = memory ? x86_ea(c, in, 2, X86_WRITE) : 0;
    uint16_t to = memory ? (uint16_t)x86_load16(c, in, lin) : X86_REG16(c, in->rm);
    unsigned rpl = X86_REG16(c, in->reg) & 3;
    bool lower = (to & 3u) < rpl;
    if (lower) {
        to = (uint16_t)((to & ~3) | rpl);
        if (memory) {
            x86_store16(c, in, lin, to);
        } else {
            X86_REG16(c, in->rm) = to;
        }
    }
    answer(c, lower);
}
