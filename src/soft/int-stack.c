/* PUSH, POP and their relatives, ENTER, LEAVE. */
#include "config.h"

#include "src/soft/int.h"
#include "src/soft/soft.h"

/* ---- any mode ---- */

/* Linear address of `size` bytes at offset sp in the stack segment; checks. */
static uint64_t stack_linear(X86Cpu *c, const X86Insn *in, uint64_t sp, unsigned size,
                             X86Access access)
{
    if (G_LIKELY((c->mode & X86_MODE_SIZE) == X86_MODE_64)) {
        return sp;
    }
    return x86_seg_check(c, in, PTA_X86_SS, sp, size, access);
}

static void set_sp(X86Cpu *c, uint64_t sp)
{
    uint64_t mask = x86_stack_mask(c);
    c->gpr[PTA_X86_RSP] = (c->gpr[PTA_X86_RSP] & ~mask) | (sp & mask);
}

void x86_stack_add(X86Cpu *c, int64_t bytes)
{
    set_sp(c, c->gpr[PTA_X86_RSP] + (uint64_t)bytes);
}

void x86_push(X86Cpu *c, const X86Insn *in, unsigned width, uint64_t value)
{
    uint64_t sp = (c->gpr[PTA_X86_RSP] - width) & x86_stack_mask(c);
    x86_store(c, in, stack_linear(c, in, sp, width, X86_WRITE), width, value);
    set_sp(c, sp);
}

uint64_t x86_stack_top(X86Cpu *c, const X86Insn *in, unsigned width)
{
    uint64_t sp = c->gpr[PTA_X86_RSP] & x86_stack_mask(c);
    return x86_load(c, in, stack_linear(c, in, sp, width, X86_READ), width);
}

void op_push(X86Cpu *c, const X86Insn *in)
{
    uint64_t v = in->form == X86_F_E_I ? in->imm : x86_e_load(c, in, in->width);
    x86_push(c, in, in->width, v);
}

/* POP m: the address is computed with RSP already increased (SDM vol. 2, POP). */
void op_pop(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    uint64_t v = x86_stack_top(c, in, width);
    if (!x86_e_mem(in)) {
        x86_stack_add(c, width);
        x86_set_reg(c, in->rm, width, v);
        return;
    }
    uint64_t sp = c->gpr[PTA_X86_RSP];
    x86_stack_add(c, width);
    uint64_t after = c->gpr[PTA_X86_RSP];
    uint64_t offset = x86_ea_offset(c, in);
    c->gpr[PTA_X86_RSP] = sp; /* the store may fault */
    uint64_t lin = in->ea & X86_EA_CHECK ? x86_seg_check(c, in, in->seg, offset, width, X86_WRITE)
                                         : offset + c->seg_base[in->seg];
    x86_store(c, in, lin, width, v);
    c->gpr[PTA_X86_RSP] = after;
}

/* Eight registers, RAX first; the old SP among them. All or nothing. */
void op_pusha(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    uint64_t mask = x86_stack_mask(c);
    uint64_t sp = c->gpr[PTA_X86_RSP];
    for (unsigned i = 8; i-- > 0;) { /* the last to be pushed first: all are checked so */
        uint64_t at = (sp - (i + 1) * width) & mask;
        uint64_t lin = stack_linear(c, in, at, width, X86_WRITE);
        if (i == 7) {
            x86_probe(c, in, lin, width, X86_WRITE);
            uint64_t top = stack_linear(c, in, (sp - width) & mask, width, X86_WRITE);
            x86_probe(c, in, top, width, X86_WRITE);
        }
        x86_store(c, in, lin, width, c->gpr[i]);
    }
    set_sp(c, sp - 8 * width);
}

void op_popa(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    uint64_t mask = x86_stack_mask(c);
    uint64_t sp = c->gpr[PTA_X86_RSP];
    uint64_t v[8];
    for (unsigned i = 0; i < 8; i++) {
        uint64_t at = (sp + i * width) & mask;
        v[7 - i] = x86_load(c, in, stack_linear(c, in, at, width, X86_READ), width);
    }
    for (unsigned i = 0; i < 8; i++) {
        if (i != PTA_X86_RSP) {
            x86_set_reg(c, i * 8, width, v[i]);
        }
    }
    set_sp(c, sp + 8 * width);
}

/* ---- PUSHF, POPF: virtual-8086 mode needs IOPL 3 (or CR4.VME, which no model has) ---- */

static void need_iopl3_in_vm86(X86Cpu *c, const X86Insn *in)
{
    if ((c->mode & X86_MODE_VM86) && (c->rflags & X86_IOPL) != X86_IOPL) {
        x86_raise_gp(c, in, 0);
    }
}

void op_pushf(X86Cpu *c, const X86Insn *in)
{
    need_iopl3_in_vm86(c, in);
    x86_push(c, in, in->width, x86_rflags(c) & ~(uint64_t)(X86_VM | X86_RF));
}

void op_popf(X86Cpu *c, const X86Insn *in)
{
    need_iopl3_in_vm86(c, in);
    uint64_t v = x86_stack_top(c, in, in->width);
    uint64_t mask = X86_STATUS | X86_TF | X86_DF | X86_NT | X86_AC | X86_ID | X86_RF;
    unsigned iopl = (unsigned)(c->rflags >> 12 & 3);
    if (c->cpl == 0 && !(c->mode & X86_MODE_VM86)) {
        mask |= X86_IOPL;
    }
    if (c->cpl <= iopl || (c->mode & X86_MODE_VM86)) {
        mask |= X86_IF;
    }
    if (in->width == 2) {
        mask &= 0xffff;
    }
    x86_stack_add(c, in->width);
    x86_set_rflags(c, v & ~(uint64_t)X86_RF, mask); /* RF is cleared */
}

/* ---- ENTER, LEAVE ---- */

/* SDM vol. 2, ENTER. The whole frame is probed first, so that a fault undoes nothing. */
void op_enter(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    unsigned level = in->aux & 31;
    uint64_t mask = x86_stack_mask(c);
    uint64_t sp = c->gpr[PTA_X86_RSP], bp = c->gpr[PTA_X86_RBP];
    uint64_t at = (sp - width) & mask;
    uint64_t frame = at;
    uint64_t values[33];
    unsigned n = 0;
    values[n++] = bp;
    for (unsigned i = 1; i < level; i++) {
        uint64_t from = (bp - i * width) & mask;
        values[n++] = x86_load(c, in, stack_linear(c, in, from, width, X86_READ), width);
    }
    if (level > 0) {
        values[n++] = frame;
    }
    uint64_t end = (sp - n * width - (in->imm & 0xffff)) & mask;
    x86_probe(c, in, stack_linear(c, in, end, width, X86_WRITE), width, X86_WRITE);
    uint64_t lowest = (sp - n * width) & mask;
    x86_probe(c, in, stack_linear(c, in, lowest, width, X86_WRITE), width, X86_WRITE);
    for (unsigned i = 0; i < n; i++) {
        if (i > 0 && i < level) { /* again: a push may have changed it */
            uint64_t from = (bp - i * width) & mask;
            values[i] = x86_load(c, in, stack_linear(c, in, from, width, X86_READ), width);
        }
        at = (sp - (i + 1) * width) & mask;
        x86_store(c, in, stack_linear(c, in, at, width, X86_WRITE), width, values[i]);
    }
    set_sp(c, end);
    if (width == 2) {
        X86_REG16(c, PTA_X86_RBP * 8) = (uint16_t)frame;
    } else {
        x86_set_reg(c, PTA_X86_RBP * 8, width, mask == UINT16_MAX ? (bp & ~mask) | frame : frame);
    }
}

void op_leave(X86Cpu *c, const X86Insn *in)
{
    uint64_t mask = x86_stack_mask(c);
    uint64_t sp = c->gpr[PTA_X86_RBP] & mask;
    uint64_t v = x86_load(c, in, stack_linear(c, in, sp, in->width, X86_READ), in->width);
    set_sp(c, sp + in->width);
    x86_set_reg(c, PTA_X86_RBP * 8, in->width, v);
}

/* ---- specialised: 64-bit mode, 8 bytes ---- */

X86_INLINE void push_exec(X86Cpu *c, const X86Insn *in, uint64_t v)
{
    uint64_t sp = c->gpr[PTA_X86_RSP] - 8;
    void *p = x86_tlb_lookup(c->tlb->write, sp, 8);
    if (G_LIKELY(p)) {
        x86_poke(p, 8, v);
        c->gpr[PTA_X86_RSP] = sp;
    } else {
        op_push(c, in);
    }
}

static void push_r(X86Cpu *c, const X86Insn *in)
{
    push_exec(c, in, X86_REG64(c, in->rm));
    X86_NEXT(c, in);
}

static void push_i(X86Cpu *c, const X86Insn *in)
{
    push_exec(c, in, in->imm);
    X86_NEXT(c, in);
}

static void pop_r(X86Cpu *c, const X86Insn *in)
{
    uint64_t sp = c->gpr[PTA_X86_RSP];
    const void *p = x86_tlb_lookup(c->tlb->read, sp, 8);
    if (G_LIKELY(p)) {
        c->gpr[PTA_X86_RSP] = sp + 8;
        X86_REG64(c, in->rm) = x86_peek(p, 8);
    } else {
        op_pop(c, in);
    }
    X86_NEXT(c, in);
}

static void leave(X86Cpu *c, const X86Insn *in)
{
    uint64_t sp = c->gpr[PTA_X86_RBP];
    const void *p = x86_tlb_lookup(c->tlb->read, sp, 8);
    if (G_LIKELY(p)) {
        c->gpr[PTA_X86_RSP] = sp + 8;
        c->gpr[PTA_X86_RBP] = x86_peek(p, 8);
    } else {
        op_leave(c, in);
    }
    X86_NEXT(c, in);
}

X86Handler *x86_select_stack(const X86Insn *in, const X86Select *s)
{
    if (!s->wide || in->width != 8 || x86_e_mem(in)) {
        return NULL;
    }
    switch (in->row) {
    case X86_ROW_PUSH:
        return in->form == X86_F_E_I ? push_i : push_r;
    case X86_ROW_POP:
        return pop_r;
    case X86_ROW_LEAVE:
        return leave;
    default:
        return NULL;
    }
}
