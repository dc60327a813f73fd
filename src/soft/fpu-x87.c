/*
 * x87 instructions: the register stack, loads and stores, arithmetic, comparison, constants.
 * The operation itself is fpu-kernel.h's. VP's thread.
 *
 * Order within a handler: a pending exception (#MF), the memory operand (which may fault), the
 * stack check, the operation, and then, unless an unmasked exception forbids it, the result.
 */
#include "config.h"

#include <string.h>

#include "src/soft/fpu-kernel.h"
#include "src/soft/opcodes.h"

static const X86Fpr indefinite = { .mantissa = UINT64_C(0xc000000000000000),
                                   .sign_exponent = 0xffff };

/* An unmasked one of these leaves the destination alone; overflow, underflow and inexact results
 * are delivered to registers first (SDM vol. 1, 8.5). */
#define PRE_EXCEPTIONS (X87_IE | X87_DE | X87_ZE)

/* ---- frame of an instruction ---- */

static inline void wait_x87(X86Cpu *c, const X86Insn *in)
{
    if (G_UNLIKELY(c->fpu.sw & X87_ES)) {
        x87_pending(c, in);
    }
}

/* Every instruction but the control ones leaves its traces for a handler of #MF. */
static void commit_pointers(X86Cpu *c, const X86Insn *in)
{
    X86Fpu *f = &c->fpu;
    f->fip = x86_rip(c, in);
    f->fcs = c->seg[PTA_X86_CS].selector;
    f->fop = (uint16_t)((in->opcode & 7) << 8 | in->modrm);
    if (in->ea & X86_EA_MEM) {
        f->fdp = x86_ea_offset(c, in);
        f->fds = c->seg[in->seg < PTA_X86_N_SEGS ? in->seg : PTA_X86_DS].selector;
    }
}

/* Takes the flags of an operation; its condition codes where `codes` says (C1 among them). True: an unmasked one of
 * `blocking` was among them, so there must be no result. */
static bool take_flags(X86Fpu *f, uint16_t sw, uint16_t codes, uint16_t blocking)
{
    f->sw = (uint16_t)((f->sw & ~codes) | (sw & codes) | (sw & (X87_EXCEPTIONS | X87_SF)));
    x87_update_es(f);
    return sw & ~f->cw & blocking;
}

/* Stack underflow (C1 = 0) or overflow (C1 = 1); false: unmasked, so nothing else happens. */
static bool stack_fault(X86Fpu *f, bool overflow)
{
    return !take_flags(f, X87_IE | X87_SF | (overflow ? X87_C1 : 0), X87_C1, X87_IE);
}

static inline void set_st(X86Fpu *f, unsigned i, const X86Fpr *v)
{
    const unsigned n = (x87_top(f) + i) & 7;
    f->r[n].mantissa = v->mantissa;
    f->r[n].sign_exponent = v->sign_exponent;
    f->tag_valid |= (uint8_t)(1 << n);
}

static inline void pop(X86Fpu *f)
{
    const unsigned top = x87_top(f);
    f->tag_valid &= (uint8_t) ~(1 << top);
    x87_set_top(f, top + 1);
}

static void push(X86Fpu *f, const X86Fpr *v)
{
    if (!x87_empty(f, 7)) {
        if (!stack_fault(f, true)) {
            return;
        }
        v = &indefinite;
    } else {
        f->sw &= ~X87_C1;
    }
    x87_set_top(f, x87_top(f) - 1);
    set_st(f, 0, v);
}

/* ---- numbers ---- */

static X86Fpr from_int(int64_t v)
{
    X86Fpr r = { 0 };
    if (v != 0) {
        const uint64_t magnitude = v < 0 ? -(uint64_t)v : (uint64_t)v;
        const unsigned shift = (unsigned)__builtin_clzll(magnitude);
        r.mantissa = magnitude << shift;
        r.sign_exponent = (uint16_t)((v < 0 ? 0x8000 : 0) | (16383 + 63 - shift));
    }
    return r;
}

/* Only what can raise nothing: zero, normal numbers, infinity. */
static bool widen32(uint32_t v, X86Fpr *r)
{
    const unsigned exponent = v >> 23 & 0xff;
    const uint64_t fraction = v & 0x7fffff;
    const uint16_t sign = (uint16_t)(v >> 16 & 0x8000);
    if ((exponent == 0 || exponent == 0xff) && fraction != 0) {
        return false;
    }
    *r = (X86Fpr){ .mantissa = exponent ? UINT64_C(1) << 63 | fraction << 40 : 0,
                   .sign_exponent = sign | (exponent == 0      ? 0
                                            : exponent == 0xff ? 0x7fff
                                                               : exponent - 127 + 16383) };
    return true;
}

static bool widen64(uint64_t v, X86Fpr *r)
{
    const unsigned exponent = v >> 52 & 0x7ff;
    const uint64_t fraction = v & UINT64_C(0xfffffffffffff);
    const uint16_t sign = (uint16_t)(v >> 48 & 0x8000);
    if ((exponent == 0 || exponent == 0x7ff) && fraction != 0) {
        return false;
    }
    *r = (X86Fpr){ .mantissa = exponent ? UINT64_C(1) << 63 | fraction << 11 : 0,
                   .sign_exponent = sign | (exponent == 0       ? 0
                                            : exponent == 0x7ff ? 0x7fff
                                                                : exponent - 1023 + 16383) };
    return true;
}

static uint64_t load_mem(X86Cpu *c, const X86Insn *in, unsigned size)
{
    return x86_load(c, in, x86_ea(c, in, size, X86_READ), size);
}

static int64_t load_int(X86Cpu *c, const X86Insn *in, unsigned size)
{
    const uint64_t v = load_mem(c, in, size);
    return size == 2 ? (int16_t)v : size == 4 ? (int32_t)v : (int64_t)v;
}

/* ---- loads ---- */

void op_fld(X86Cpu *c, const X86Insn *in)
{
    X86Fpu *f = &c->fpu;
    X86Fpr v = { 0 };
    uint64_t raw;
    uint16_t sw = 0;
    wait_x87(c, in);
    if (!(in->ea & X86_EA_MEM)) { /* D9 C0 */
        const bool empty = x87_empty(f, in->modrm & 7);
        v = *x87_st(f, in->modrm & 7);
        commit_pointers(c, in);
        if (empty) { /* goes before an overflow */
            if (stack_fault(f, false)) {
                x87_set_top(f, x87_top(f) - 1);
                set_st(f, 0, &indefinite);
            }
        } else {
            push(f, &v);
        }
        return;
    }
    if (in->opcode == 0xdb) { /* m80 */
        x86_load_bytes(c, in, x86_ea(c, in, 10, X86_READ), &v, 10);
    } else if (in->opcode == 0xd9) {
        raw = load_mem(c, in, 4);
        if (!widen32((uint32_t)raw, &v)) {
            sw = x87_k_load(X87_F32, &v, &raw, f->cw);
        }
    } else {
        raw = load_mem(c, in, 8);
        if (!widen64(raw, &v)) {
            sw = x87_k_load(X87_F64, &v, &raw, f->cw);
        }
    }
    commit_pointers(c, in);
    if (!x87_empty(f, 7)) { /* the operand's own exceptions do not count then */
        sw = 0;
    }
    /* A denormal is loaded even if that is unmasked. */
    if (!take_flags(f, sw & (uint16_t)~X87_C1, X87_C1, X87_IE)) {
        push(f, &v);
    }
}

void op_fild(X86Cpu *c, const X86Insn *in)
{
    X86Fpr v;
    wait_x87(c, in);
    v = from_int(load_int(c, in, in->opcode == 0xdb ? 4 : (in->modrm >> 3 & 7) == 5 ? 8 : 2));
    commit_pointers(c, in);
    push(&c->fpu, &v);
}

/* D9 E8 to EE; by rounding control where a constant is not exact (SDM vol. 1, 8.3.8). */
void op_fldconst(X86Cpu *c, const X86Insn *in)
{
    static const struct {
        uint16_t exponent;
        uint64_t mantissa[4]; /* nearest, down, up, to zero */
    } constants[8] = {
#define ROUNDED(low, near) { (near), (low), (low) + 1, (low) }
        { 0x3fff, { UINT64_C(1) << 63, UINT64_C(1) << 63, UINT64_C(1) << 63, UINT64_C(1) << 63 } },
        { 0x4000, ROUNDED(UINT64_C(0xd49a784bcd1b8afe), UINT64_C(0xd49a784bcd1b8afe)) },
        { 0x3fff, ROUNDED(UINT64_C(0xb8aa3b295c17f0bb), UINT64_C(0xb8aa3b295c17f0bc)) },
        { 0x4000, ROUNDED(UINT64_C(0xc90fdaa22168c234), UINT64_C(0xc90fdaa22168c235)) },
        { 0x3ffd, ROUNDED(UINT64_C(0x9a209a84fbcff798), UINT64_C(0x9a209a84fbcff799)) },
        { 0x3ffe, ROUNDED(UINT64_C(0xb17217f7d1cf79ab), UINT64_C(0xb17217f7d1cf79ac)) },
        { 0, { 0, 0, 0, 0 } },
#undef ROUNDED
    };
    X86Fpu *f = &c->fpu;
    X86Fpr v;
    wait_x87(c, in);
    v = (X86Fpr){ .mantissa = constants[in->modrm & 7].mantissa[f->cw >> 10 & 3],
                  .sign_exponent = constants[in->modrm & 7].exponent };
    commit_pointers(c, in);
    push(f, &v);
}

/* ---- stores ---- */

/* What a masked stack underflow stores. */
static void store_indefinite(X87Form form, void *mem)
{
    static const uint32_t f32 = 0xffc00000;
    static const uint64_t f64 = UINT64_C(0xfff8000000000000);
    static const uint64_t integer = UINT64_C(1) << 63;
    switch (form) {
    case X87_F32:
        memcpy(mem, &f32, 4);
        break;
    case X87_F64:
        memcpy(mem, &f64, 8);
        break;
    case X87_I16:
        memcpy(mem, (const uint8_t *)&integer + 6, 2);
        break;
    case X87_I32:
        memcpy(mem, (const uint8_t *)&integer + 4, 4);
        break;
    default:
        memcpy(mem, &integer, 8);
        break;
    }
}

static void store(X86Cpu *c, const X86Insn *in, X87Form form, unsigned size, uint16_t cw, bool pops)
{
    X86Fpu *f = &c->fpu;
    const uint16_t no_result = PRE_EXCEPTIONS | X87_OE | X87_UE;
    const uint64_t lin = x86_ea(c, in, size, X86_WRITE);
    uint64_t mem = 0;
    uint16_t sw;
    if (x87_empty(f, 0)) {
        store_indefinite(form, &mem);
        sw = X87_IE | X87_SF;
    } else {
        sw = x87_k_store(form, &mem, x87_st(f, 0), cw);
    }
    if (!(sw & ~f->cw & no_result)) { /* else memory is not even looked at */
        x86_store(c, in, lin, size, mem);
    }
    commit_pointers(c, in);
    if (!take_flags(f, sw, X87_C1, no_result) && pops) {
        pop(f);
    }
}

/* FST and FSTP to a register; DF D0 and DF D8 are FSTP's aliases. */
static void store_reg(X86Cpu *c, const X86Insn *in, bool pops)
{
    X86Fpu *f = &c->fpu;
    X86Fpr v = *x87_st(f, 0);
    commit_pointers(c, in);
    if (x87_empty(f, 0)) {
        if (!stack_fault(f, false)) {
            return;
        }
        v = indefinite;
    } else {
        f->sw &= ~X87_C1;
    }
    set_st(f, in->modrm & 7, &v);
    if (pops) {
        pop(f);
    }
}

static void fst(X86Cpu *c, const X86Insn *in, bool pops)
{
    X86Fpu *f = &c->fpu;
    wait_x87(c, in);
    if (!(in->ea & X86_EA_MEM)) {
        store_reg(c, in, pops);
    } else if (in->opcode == 0xd9) {
        store(c, in, X87_F32, 4, f->cw, pops);
    } else if (in->opcode == 0xdd) {
        store(c, in, X87_F64, 8, f->cw, pops);
    } else { /* DB /7: m80, as it is */
        const uint64_t lin = x86_ea(c, in, 10, X86_WRITE);
        const bool empty = x87_empty(f, 0);
        if (empty && !(f->cw & X87_IE)) {
            commit_pointers(c, in);
            stack_fault(f, false);
            return;
        }
        x86_store_bytes(c, in, lin, empty ? &indefinite : x87_st(f, 0), 10);
        commit_pointers(c, in);
        take_flags(f, empty ? X87_IE | X87_SF : 0, X87_C1, 0);
        pop(f);
    }
}

void op_fst(X86Cpu *c, const X86Insn *in)
{
    fst(c, in, false);
}

void op_fstp(X86Cpu *c, const X86Insn *in)
{
    fst(c, in, true);
}

/* D9 D8: as FSTP, but does not look whether ST(0) is empty. */
void op_fstpnce(X86Cpu *c, const X86Insn *in)
{
    X86Fpu *f = &c->fpu;
    wait_x87(c, in);
    commit_pointers(c, in);
    f->sw &= ~X87_C1;
    if (!x87_empty(f, 0)) {
        const X86Fpr v = *x87_st(f, 0);
        set_st(f, in->modrm & 7, &v);
    }
    pop(f);
}

/* DB, DF with ModRM.reg 2 (FIST), 3 (FISTP), 7 (FISTP m64). */
void op_fist(X86Cpu *c, const X86Insn *in)
{
    const unsigned reg = in->modrm >> 3 & 7;
    wait_x87(c, in);
    if (in->opcode == 0xdb) {
        store(c, in, X87_I32, 4, c->fpu.cw, reg != 2);
    } else if (reg == 7) {
        store(c, in, X87_I64, 8, c->fpu.cw, true);
    } else {
        store(c, in, X87_I16, 2, c->fpu.cw, reg != 2);
    }
}

/* FISTP that rounds to zero whatever the control word says (SSE3): DB, DD, DF /1. */
void op_fisttp(X86Cpu *c, const X86Insn *in)
{
    const uint16_t cw = c->fpu.cw | 0x0c00;
    wait_x87(c, in);
    if (in->opcode == 0xdb) {
        store(c, in, X87_I32, 4, cw, true);
    } else if (in->opcode == 0xdd) {
        store(c, in, X87_I64, 8, cw, true);
    } else {
        store(c, in, X87_I16, 2, cw, true);
    }
}

/* ---- arithmetic ---- */

/* The destination is ST(0) or ST(i), the other operand a register or from memory. */
static void arith(X86Cpu *c, const X86Insn *in, X87Arith op)
{
    X86Fpu *f = &c->fpu;
    X87Form form = X87_REG;
    X86Fpr b = { 0 }, r = { 0 };
    unsigned dst = 0;
    bool empty = x87_empty(f, 0), pops = false;
    uint16_t sw;
    wait_x87(c, in);
    if (in->ea & X86_EA_MEM) {
        uint64_t raw;
        switch (in->opcode) {
        case 0xd8:
            raw = load_mem(c, in, 4);
            memcpy(&b, &raw, 4);
            form = X87_F32;
            break;
        case 0xdc:
            raw = load_mem(c, in, 8);
            memcpy(&b, &raw, 8);
            form = X87_F64;
            break;
        default: /* DA, DE */
            b = from_int(load_int(c, in, in->opcode == 0xda ? 4 : 2));
            break;
        }
    } else {
        empty |= x87_empty(f, in->modrm & 7);
        if (in->opcode == 0xd8) {
            b = *x87_st(f, in->modrm & 7);
        } else { /* DC; DE pops */
            dst = in->modrm & 7;
            b = *x87_st(f, 0);
            pops = in->opcode == 0xde;
        }
    }
    commit_pointers(c, in);
    if (empty) {
        if (!stack_fault(f, false)) {
            return;
        }
        r = indefinite;
    } else {
        sw = x87_k_arith(op, form, &r, x87_st(f, dst), &b, f->cw);
        if (take_flags(f, sw, X87_C1, PRE_EXCEPTIONS)) {
            return;
        }
    }
    set_st(f, dst, &r);
    if (pops) {
        pop(f);
    }
}

#define ARITH(name, op)                          \
    void op_##name(X86Cpu *c, const X86Insn *in) \
    {                                            \
        arith(c, in, op);                        \
    }
ARITH(fadd, X87_ADD)
ARITH(fmul, X87_MUL)
ARITH(fsub, X87_SUB)
ARITH(fsubr, X87_SUBR)
ARITH(fdiv, X87_DIV)
ARITH(fdivr, X87_DIVR)

/* ---- comparison ---- */

#define C320 (X87_C3 | X87_C2 | X87_C0)

/* ST(0) with an operand; `pops` registers go; to_flags: ZF, PF, CF instead of C3, C2, C0. */
static void compare(X86Cpu *c, const X86Insn *in, X87Form form, const X86Fpr *b, bool empty,
                    bool quiet, unsigned pops, bool to_flags)
{
    X86Fpu *f = &c->fpu;
    uint16_t sw = X87_IE | X87_SF | C320; /* unordered */
    empty |= x87_empty(f, 0);
    commit_pointers(c, in);
    if (!empty) {
        sw = (uint16_t)(x87_k_compare(quiet, form, x87_st(f, 0), b, f->cw) & ~X87_C1);
    }
    /* The forms that set RFLAGS touch C1 only to report a stack fault. */
    const bool blocked =
        take_flags(f, sw, to_flags ? (sw & X87_SF ? X87_C1 : 0) : C320 | X87_C1, PRE_EXCEPTIONS);
    if (to_flags) {
        x86_set_status(c, (sw & X87_C3 ? X86_ZF : 0) | (sw & X87_C2 ? X86_PF : 0) |
                              (sw & X87_C0 ? X86_CF : 0));
    }
    while (!blocked && pops--) {
        pop(f);
    }
}

static void compare_rm(X86Cpu *c, const X86Insn *in, unsigned pops)
{
    X86Fpr b = { 0 };
    uint64_t raw;
    wait_x87(c, in);
    if (!(in->ea & X86_EA_MEM)) {
        b = *x87_st(&c->fpu, in->modrm & 7);
        compare(c, in, X87_REG, &b, x87_empty(&c->fpu, in->modrm & 7), false, pops, false);
        return;
    }
    switch (in->opcode) {
    case 0xd8:
        raw = load_mem(c, in, 4);
        memcpy(&b, &raw, 4);
        compare(c, in, X87_F32, &b, false, false, pops, false);
        break;
    case 0xdc:
        raw = load_mem(c, in, 8);
        memcpy(&b, &raw, 8);
        compare(c, in, X87_F64, &b, false, false, pops, false);
        break;
    default:
        b = from_int(load_int(c, in, in->opcode == 0xda ? 4 : 2));
        compare(c, in, X87_REG, &b, false, false, pops, false);
        break;
    }
}

void op_fcom(X86Cpu *c, const X86Insn *in)
{
    compare_rm(c, in, 0);
}

void op_fcomp(X86Cpu *c, const X86Insn *in)
{
    compare_rm(c, in, 1);
}

static void compare_st(X86Cpu *c, const X86Insn *in, unsigned i, bool quiet, unsigned pops,
                       bool to_flags)
{
    wait_x87(c, in);
    const X86Fpr b = *x87_st(&c->fpu, i);
    compare(c, in, X87_REG, &b, x87_empty(&c->fpu, i), quiet, pops, to_flags);
}

void op_fcompp(X86Cpu *c, const X86Insn *in)
{
    compare_st(c, in, 1, false, 2, false);
}

void op_fucom(X86Cpu *c, const X86Insn *in)
{
    compare_st(c, in, in->modrm & 7, true, 0, false);
}

void op_fucomp(X86Cpu *c, const X86Insn *in)
{
    compare_st(c, in, in->modrm & 7, true, 1, false);
}

void op_fucompp(X86Cpu *c, const X86Insn *in)
{
    compare_st(c, in, 1, true, 2, false);
}

/* DB and DF: FCOMI, FCOMIP; FUCOMI, FUCOMIP */
void op_fcomi(X86Cpu *c, const X86Insn *in)
{
    compare_st(c, in, in->modrm & 7, false, in->opcode == 0xdf, true);
}

void op_fucomi(X86Cpu *c, const X86Insn *in)
{
    compare_st(c, in, in->modrm & 7, true, in->opcode == 0xdf, true);
}

void op_ftst(X86Cpu *c, const X86Insn *in)
{
    const X86Fpr zero = { 0 };
    wait_x87(c, in);
    compare(c, in, X87_REG, &zero, false, false, 0, false);
}

void op_fxam(X86Cpu *c, const X86Insn *in)
{
    X86Fpu *f = &c->fpu;
    const X86Fpr *r = x87_st(f, 0);
    const unsigned exponent = r->sign_exponent & 0x7fff;
    uint16_t class; /* SDM vol. 2, table 3-38 */
    wait_x87(c, in);
    if (x87_empty(f, 0)) {
        class = X87_C3 | X87_C0;
    } else if (exponent == 0) {
        class = r->mantissa ? X87_C3 | X87_C2 : X87_C3; /* denormal, zero */
    } else if (!(r->mantissa >> 63)) {
        class = 0; /* unsupported */
    } else if (exponent == 0x7fff) {
        class = r->mantissa << 1 ? X87_C0 : X87_C2 | X87_C0; /* NaN, infinity */
    } else {
        class = X87_C2; /* normal */
    }
    commit_pointers(c, in);
    f->sw = (uint16_t)((f->sw & ~X87_CONDITION) | class | (r->sign_exponent >> 15 ? X87_C1 : 0));
}

/* ---- registers among themselves ---- */

void op_fxch(X86Cpu *c, const X86Insn *in)
{
    X86Fpu *f = &c->fpu;
    const unsigned i = in->modrm & 7;
    X86Fpr a = *x87_st(f, 0), b = *x87_st(f, i);
    const bool a_empty = x87_empty(f, 0), b_empty = x87_empty(f, i);
    wait_x87(c, in);
    commit_pointers(c, in);
    if (a_empty || b_empty) {
        if (!stack_fault(f, false)) {
            return;
        }
        a = a_empty ? indefinite : a;
        b = b_empty ? indefinite : b;
    } else {
        f->sw &= ~X87_C1;
    }
    set_st(f, 0, &b);
    set_st(f, i, &a);
}

/* FCHS and FABS never look at the value. */
static void set_sign(X86Cpu *c, const X86Insn *in, uint16_t keep, uint16_t flip)
{
    X86Fpu *f = &c->fpu;
    X86Fpr v = *x87_st(f, 0);
    wait_x87(c, in);
    commit_pointers(c, in);
    if (x87_empty(f, 0)) {
        if (!stack_fault(f, false)) {
            return;
        }
        v = indefinite;
    } else {
        f->sw &= ~X87_C1;
        v.sign_exponent = (uint16_t)((v.sign_exponent & keep) ^ flip);
    }
    set_st(f, 0, &v);
}

void op_fchs(X86Cpu *c, const X86Insn *in)
{
    set_sign(c, in, 0xffff, 0x8000);
}

void op_fabs(X86Cpu *c, const X86Insn *in)
{
    set_sign(c, in, 0x7fff, 0);
}

/* DA: if the condition holds, DB: if not; ModRM.reg: CF, ZF, CF or ZF, PF. */
void op_fcmov(X86Cpu *c, const X86Insn *in)
{
    X86Fpu *f = &c->fpu;
    const unsigned i = in->modrm & 7;
    bool holds;
    wait_x87(c, in);
    switch (in->modrm >> 3 & 3) {
    case 0:
        holds = x86_cf(&c->flags);
        break;
    case 1:
        holds = x86_zf(&c->flags);
        break;
    case 2:
        holds = x86_cf(&c->flags) || x86_zf(&c->flags);
        break;
    default:
        holds = x86_pf(&c->flags);
        break;
    }
    commit_pointers(c, in);
    if (x87_empty(f, 0) || x87_empty(f, i)) {
        if (stack_fault(f, false)) { /* whatever the condition */
            set_st(f, 0, &indefinite);
        }
        return;
    }
    if (holds == (in->opcode == 0xda)) {
        const X86Fpr v = *x87_st(f, i);
        set_st(f, 0, &v);
    }
}

/* ---- the stack's own ---- */

void op_ffree(X86Cpu *c, const X86Insn *in)
{
    X86Fpu *f = &c->fpu;
    wait_x87(c, in);
    commit_pointers(c, in);
    f->tag_valid &= (uint8_t) ~(1 << ((x87_top(f) + in->modrm) & 7));
    f->sw &= ~X87_C1;
}

void op_fincstp(X86Cpu *c, const X86Insn *in)
{
    X86Fpu *f = &c->fpu;
    const int step = in->modrm & 1 ? 1 : -1; /* F7; F6 is FDECSTP */
    wait_x87(c, in);
    commit_pointers(c, in);
    x87_set_top(f, x87_top(f) + (unsigned)step);
    f->sw &= ~X87_C1;
}

void op_fnop(X86Cpu *c, const X86Insn *in)
{
    wait_x87(c, in);
}

/* What was FENI, FDISI and FSETPM on the 8087 and 80287: does not even wait. */
void op_fnop_8087(X86Cpu *c, const X86Insn *in)
{
}

/* ---- what the kernel does with the whole stack ---- */

static void stack_op(X86Cpu *c, const X86Insn *in, X87Stack op, uint8_t bcd[10])
{
    commit_pointers(c, in);
    x87_k_stack(op, &c->fpu, bcd);
    x87_update_es(&c->fpu);
}

#define STACK(name, op)                          \
    void op_##name(X86Cpu *c, const X86Insn *in) \
    {                                            \
        wait_x87(c, in);                         \
        stack_op(c, in, op, NULL);               \
    }
STACK(fsqrt, X87_FSQRT)
STACK(frndint, X87_FRNDINT)
STACK(fsin, X87_FSIN)
STACK(fcos, X87_FCOS)
STACK(fsincos, X87_FSINCOS)
STACK(fptan, X87_FPTAN)
STACK(fpatan, X87_FPATAN)
STACK(f2xm1, X87_F2XM1)
STACK(fyl2x, X87_FYL2X)
STACK(fyl2xp1, X87_FYL2XP1)
STACK(fprem, X87_FPREM)
STACK(fprem1, X87_FPREM1)
STACK(fxtract, X87_FXTRACT)
STACK(fscale, X87_FSCALE)

void op_fbld(X86Cpu *c, const X86Insn *in)
{
    uint8_t bcd[10];
    wait_x87(c, in);
    x86_load_bytes(c, in, x86_ea(c, in, 10, X86_READ), bcd, 10);
    stack_op(c, in, X87_FBLD, bcd);
}

/* The store may fault and must then leave the stack alone: the operation is done on a copy. */
void op_fbstp(X86Cpu *c, const X86Insn *in)
{
    uint8_t bcd[10];
    X86Fpu next;
    uint64_t lin;
    wait_x87(c, in);
    lin = x86_ea(c, in, 10, X86_WRITE);
    next = c->fpu;
    next.sw &= ~(X87_IE | X87_SF);
    x87_k_stack(X87_FBSTP, &next, bcd);
    if (!(next.sw & ~next.cw & X87_IE)) {
        x86_store_bytes(c, in, lin, bcd, 10);
    }
    next.sw |= c->fpu.sw & (X87_IE | X87_SF);
    c->fpu = next;
    commit_pointers(c, in);
    x87_update_es(&c->fpu);
}
