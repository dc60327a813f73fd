/*
 * ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST; INC, DEC, NEG, NOT. The generic handlers serve every
 * mode and operand; the specialised ones are the same computation, instantiated per width, form of
 * operands and need for flags.
 */
#include "config.h"

#include "src/soft/int.h"

enum { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, N_ALU };
enum { INC, DEC, NEG, NOT, N_UNARY };

/* The result; sets the flags if wanted. ADC and SBB read CF before. */
X86_INLINE uint64_t alu(X86Cpu *c, unsigned op, unsigned width, uint64_t a, uint64_t b, bool flags)
{
    uint64_t r, carry = 0;
    switch (op) {
    case ADD:
        r = a + b;
        carry = x86_carry_add(a, b, r);
        break;
    case ADC:
        r = a + b + x86_cf(&c->flags);
        carry = x86_carry_add(a, b, r);
        break;
    case SUB:
    case CMP:
        r = a - b;
        carry = x86_carry_sub(a, b, r);
        break;
    case SBB:
        r = a - b - x86_cf(&c->flags);
        carry = x86_carry_sub(a, b, r);
        break;
    case OR:
        r = a | b;
        break;
    case XOR:
        r = a ^ b;
        break;
    default:
        r = a & b;
        break;
    }
    if (flags) {
        x86_flags_set(c, width, r, carry);
    }
    return r;
}

X86_INLINE uint64_t unary(X86Cpu *c, unsigned op, unsigned width, uint64_t a, bool flags)
{
    uint64_t r;
    switch (op) {
    case NOT:
        return ~a;
    case NEG:
        r = 0 - a;
        if (flags) {
            x86_flags_set(c, width, r, x86_carry_sub(0, a, r));
        }
        return r;
    default: {
        r = op == INC ? a + 1 : a - 1;
        if (flags) { /* CF stays */
            uint64_t carry = op == INC ? x86_carry_add(a, 1, r) : x86_carry_sub(a, 1, r);
            unsigned top = width * 8 - 1;
            bool of = (carry >> top ^ carry >> (top - 1)) & 1;
            bool cf = x86_cf(&c->flags);
            x86_flags_set(c, width, r, x86_carry_of(width, cf, of, carry >> 3 & 1));
        }
        return r;
    }
    }
}

/* ---- any mode, any operand ---- */

static uint64_t modify_add(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return old + arg;
}

static uint64_t modify_or(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return old | arg;
}

static uint64_t modify_and(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return old & arg;
}

static uint64_t modify_xor(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return old ^ arg;
}

static uint64_t modify_neg(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return arg - old;
}

static void alu_locked(X86Cpu *c, const X86Insn *in, unsigned op, uint64_t b)
{
    uint64_t old;
    switch (op) {
    case ADD:
        old = x86_locked(c, in, in->width, modify_add, b);
        break;
    case ADC:
        old = x86_locked(c, in, in->width, modify_add, b + x86_cf(&c->flags));
        break;
    case SUB:
        old = x86_locked(c, in, in->width, modify_add, 0 - b);
        break;
    case SBB:
        old = x86_locked(c, in, in->width, modify_add, 0 - b - x86_cf(&c->flags));
        break;
    case OR:
        old = x86_locked(c, in, in->width, modify_or, b);
        break;
    case AND:
        old = x86_locked(c, in, in->width, modify_and, b);
        break;
    default:
        old = x86_locked(c, in, in->width, modify_xor, b);
        break;
    }
    alu(c, op, in->width, old, b & x86_width_mask(in->width), true);
}

X86_INLINE void alu_generic(X86Cpu *c, const X86Insn *in, unsigned op)
{
    unsigned width = in->width;
    if (in->form == X86_F_R_E) {
        uint64_t b = x86_e_load(c, in, width);
        uint64_t r = alu(c, op, width, x86_reg(c, in->reg, width), b, true);
        if (op != CMP) {
            x86_set_reg(c, in->reg, width, r);
        }
        return;
    }
    uint64_t b =
        in->form == X86_F_E_I ? in->imm & x86_width_mask(width) : x86_reg(c, in->reg, width);
    if (op == CMP || op == TEST) {
        alu(c, op, width, x86_e_load(c, in, width), b, true);
    } else if (in->pfx & X86_PFX_LOCK) {
        alu_locked(c, in, op, b);
    } else {
        uint64_t lin;
        uint64_t a = x86_e_load_rmw(c, in, width, &lin);
        x86_e_store_rmw(c, in, width, lin, alu(c, op, width, a, b, false));
        /* Nothing faults any more. ADC, SBB: CF is still the old one. */
        alu(c, op, width, a, b, true);
    }
}

#define GENERIC(name, op)                        \
    void op_##name(X86Cpu *c, const X86Insn *in) \
    {                                            \
        alu_generic(c, in, op);                  \
    }
GENERIC(add, ADD)
GENERIC(or, OR)
GENERIC(adc, ADC)
GENERIC(sbb, SBB)
GENERIC(and, AND)
GENERIC(sub, SUB)
GENERIC(xor, XOR)
GENERIC(cmp, CMP)
GENERIC(test, TEST)

static void unary_generic(X86Cpu *c, const X86Insn *in, unsigned op)
{
    unsigned width = in->width;
    uint64_t a;
    if (in->pfx & X86_PFX_LOCK) {
        static const struct {
            X86Modify *fn;
            uint64_t arg;
        } how[] = {
            [INC] = { modify_add, 1 },
            [DEC] = { modify_add, UINT64_MAX },
            [NEG] = { modify_neg, 0 },
            [NOT] = { modify_xor, UINT64_MAX },
        };
        a = x86_locked(c, in, width, how[op].fn, how[op].arg);
    } else {
        uint64_t lin;
        a = x86_e_load_rmw(c, in, width, &lin);
        x86_e_store_rmw(c, in, width, lin, unary(c, op, width, a, false));
    }
    unary(c, op, width, a, true);
}

void op_inc(X86Cpu *c, const X86Insn *in)
{
    unary_generic(c, in, INC);
}

void op_dec(X86Cpu *c, const X86Insn *in)
{
    unary_generic(c, in, DEC);
}

void op_neg(X86Cpu *c, const X86Insn *in)
{
    unary_generic(c, in, NEG);
}

void op_not(X86Cpu *c, const X86Insn *in)
{
    unary_generic(c, in, NOT);
}

/* ---- specialised ---- */

enum { RR, RI, RM, MR, MI };

X86_INLINE void alu_exec(X86Cpu *c, const X86Insn *in, unsigned op, unsigned width, unsigned form,
                         unsigned kind, bool flags, X86Handler *slow)
{
    bool compare = op == CMP || op == TEST;
    if (form == RR || form == RI) {
        uint64_t a = x86_get(c, in->rm, width);
        uint64_t b = form == RR ? x86_get(c, in->reg, width) : in->imm;
        uint64_t r = alu(c, op, width, a, b, flags);
        if (!compare) {
            x86_put(c, in->rm, width, r);
        }
        return;
    }
    bool store = form != RM && !compare;
    void *p = x86_tlb_lookup(store ? c->tlb->write : c->tlb->read, x86_ea_fast(c, in, kind), width);
    if (G_UNLIKELY(!p)) {
        slow(c, in);
        return;
    }
    uint64_t m = x86_peek(p, width);
    if (form == RM) {
        uint64_t r = alu(c, op, width, x86_get(c, in->reg, width), m, flags);
        if (!compare) {
            x86_put(c, in->reg, width, r);
        }
    } else {
        uint64_t b = form == MR ? x86_get(c, in->reg, width) : in->imm;
        uint64_t r = alu(c, op, width, m, b, flags);
        if (store) {
            x86_poke(p, width, r);
        }
    }
}

#define EXEC(name, op, slow, width, form, kind, flags)       \
    static void name(X86Cpu *c, const X86Insn *in)           \
    {                                                        \
        alu_exec(c, in, op, width, form, kind, flags, slow); \
        X86_NEXT(c, in);                                     \
    }
#define EXEC_WIDTH(name, op, slow, w)                          \
    EXEC(name##_rr_f##w, op, slow, w, RR, 0, true)             \
    EXEC(name##_rr_n##w, op, slow, w, RR, 0, false)            \
    EXEC(name##_ri_f##w, op, slow, w, RI, 0, true)             \
    EXEC(name##_ri_n##w, op, slow, w, RI, 0, false)            \
    EXEC(name##_rm_f##w, op, slow, w, RM, X86_EAK_BASE, true)  \
    EXEC(name##_rx_f##w, op, slow, w, RM, X86_EAK_ANY, true)   \
    EXEC(name##_rm_n##w, op, slow, w, RM, X86_EAK_BASE, false) \
    EXEC(name##_rx_n##w, op, slow, w, RM, X86_EAK_ANY, false)  \
    EXEC(name##_mr_f##w, op, slow, w, MR, X86_EAK_BASE, true)  \
    EXEC(name##_xr_f##w, op, slow, w, MR, X86_EAK_ANY, true)   \
    EXEC(name##_mi_f##w, op, slow, w, MI, X86_EAK_BASE, true)  \
    EXEC(name##_xi_f##w, op, slow, w, MI, X86_EAK_ANY, true)
#define EXEC_OP(name, op)              \
    EXEC_WIDTH(name, op, op_##name, 1) \
    EXEC_WIDTH(name, op, op_##name, 4) \
    EXEC_WIDTH(name, op, op_##name, 8)
EXEC_OP(add, ADD)
EXEC_OP(or, OR)
EXEC_OP(adc, ADC)
EXEC_OP(sbb, SBB)
EXEC_OP(and, AND)
EXEC_OP(sub, SUB)
EXEC_OP(xor, XOR)
EXEC_OP(cmp, CMP)
EXEC_OP(test, TEST)

#define ROW_WIDTH(name, w)                                                                 \
    {                                                                                      \
        [RR] = { { name##_rr_f##w, name##_rr_n##w }, { name##_rr_f##w, name##_rr_n##w } }, \
        [RI] = { { name##_ri_f##w, name##_ri_n##w }, { name##_ri_f##w, name##_ri_n##w } }, \
        [RM] = { { name##_rm_f##w, name##_rm_n##w }, { name##_rx_f##w, name##_rx_n##w } }, \
        [MR] = { { name##_mr_f##w, name##_mr_f##w }, { name##_xr_f##w, name##_xr_f##w } }, \
        [MI] = { { name##_mi_f##w, name##_mi_f##w }, { name##_xi_f##w, name##_xi_f##w } }, \
    }
#define ROW_OP(name)                                               \
    {                                                              \
        ROW_WIDTH(name, 1), ROW_WIDTH(name, 4), ROW_WIDTH(name, 8) \
    }
/* [operation][width: 1, 4, 8][form][address kind][flags dead] */
static X86Handler *const alu_table[N_ALU][3][5][X86_N_EAK][2] = {
    [ADD] = ROW_OP(add), [OR] = ROW_OP(or),   [ADC] = ROW_OP(adc),
    [SBB] = ROW_OP(sbb), [AND] = ROW_OP(and), [SUB] = ROW_OP(sub),
    [XOR] = ROW_OP(xor), [CMP] = ROW_OP(cmp), [TEST] = ROW_OP(test),
};

static unsigned alu_op(unsigned row)
{
    switch (row) {
    case X86_ROW_ADD:
        return ADD;
    case X86_ROW_OR:
        return OR;
    case X86_ROW_ADC:
        return ADC;
    case X86_ROW_SBB:
        return SBB;
    case X86_ROW_AND:
        return AND;
    case X86_ROW_SUB:
        return SUB;
    case X86_ROW_XOR:
        return XOR;
    case X86_ROW_CMP:
        return CMP;
    default:
        return TEST;
    }
}

X86Handler *x86_select_alu(const X86Insn *in, const X86Select *s)
{
    bool mem = x86_e_mem(in);
    if (in->width == 2 || (in->pfx & X86_PFX_LOCK) ||
        (mem && (!s->wide || (in->ea & X86_EA_SLOW)))) {
        return NULL;
    }
    unsigned width = in->width == 1 ? 0 : in->width == 4 ? 1 : 2;
    unsigned form = in->form == X86_F_R_E   ? RM
                    : in->form == X86_F_E_R ? (mem ? MR : RR)
                                            : (mem ? MI : RI);
    return alu_table[alu_op(in->row)][width][form][mem ? x86_ea_kind(in) : 0][s->flags_dead];
}

X86_INLINE void unary_exec(X86Cpu *c, const X86Insn *in, unsigned op, unsigned width, bool mem,
                           bool flags, X86Handler *slow)
{
    if (!mem) {
        x86_put(c, in->rm, width, unary(c, op, width, x86_get(c, in->rm, width), flags));
        return;
    }
    void *p = x86_tlb_lookup(c->tlb->write, x86_ea_fast(c, in, X86_EAK_ANY), width);
    if (G_UNLIKELY(!p)) {
        slow(c, in);
        return;
    }
    x86_poke(p, width, unary(c, op, width, x86_peek(p, width), flags));
}

#define UNARY(name, op, w)                                  \
    static void name##_r_f##w(X86Cpu *c, const X86Insn *in) \
    {                                                       \
        unary_exec(c, in, op, w, false, true, op_##name);   \
        X86_NEXT(c, in);                                    \
    }                                                       \
    static void name##_r_n##w(X86Cpu *c, const X86Insn *in) \
    {                                                       \
        unary_exec(c, in, op, w, false, false, op_##name);  \
        X86_NEXT(c, in);                                    \
    }                                                       \
    static void name##_m_f##w(X86Cpu *c, const X86Insn *in) \
    {                                                       \
        unary_exec(c, in, op, w, true, true, op_##name);    \
        X86_NEXT(c, in);                                    \
    }
#define UNARY_OP(name, op) UNARY(name, op, 1) UNARY(name, op, 4) UNARY(name, op, 8)
UNARY_OP(inc, INC)
UNARY_OP(dec, DEC)
UNARY_OP(neg, NEG)
UNARY_OP(not, NOT)

#define UNARY_ROW(name)                                                                       \
    {                                                                                         \
        { name##_r_f1, name##_r_n1, name##_m_f1 }, { name##_r_f4, name##_r_n4, name##_m_f4 }, \
            { name##_r_f8, name##_r_n8, name##_m_f8 },                                        \
    }
static X86Handler *const unary_table[N_UNARY][3][3] = {
    [INC] = UNARY_ROW(inc),
    [DEC] = UNARY_ROW(dec),
    [NEG] = UNARY_ROW(neg),
    [NOT] = UNARY_ROW(not ),
};

X86Handler *x86_select_unary(const X86Insn *in, const X86Select *s)
{
    bool mem = x86_e_mem(in);
    if (in->width == 2 || (in->pfx & X86_PFX_LOCK) ||
        (mem && (!s->wide || (in->ea & X86_EA_SLOW)))) {
        return NULL;
    }
    unsigned op = in->row == X86_ROW_INC   ? INC
                  : in->row == X86_ROW_DEC ? DEC
                  : in->row == X86_ROW_NEG ? NEG
                                           : NOT;
    unsigned width = in->width == 1 ? 0 : in->width == 4 ? 1 : 2;
    return unary_table[op][width][mem ? 2 : s->flags_dead];
}
