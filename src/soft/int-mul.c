/* MUL, IMUL, DIV, IDIV. Undefined flags: SF, PF by the low half, ZF and AF clear after multiplying;
 * unchanged after dividing. */
#include "config.h"

#include "src/soft/int.h"

__extension__ typedef unsigned __int128 U128;
__extension__ typedef __int128 S128;

X86_INLINE void mul_flags(X86Cpu *c, unsigned width, uint64_t low, bool overflow)
{
    x86_flags_set(c, width, low, x86_carry_of(width, overflow, overflow, false));
}

/* The double-width product goes to AX, or rDX:rAX. */
static void set_product(X86Cpu *c, unsigned width, uint64_t low, uint64_t high)
{
    if (width == 1) {
        X86_REG16(c, PTA_X86_RAX * 8) = (uint16_t)(low & 0xff) | (uint16_t)(high << 8);
    } else {
        x86_set_reg(c, PTA_X86_RAX * 8, width, low);
        x86_set_reg(c, PTA_X86_RDX * 8, width, high);
    }
}

void op_mul(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    U128 p = (U128)x86_e_load(c, in, width) * x86_reg(c, PTA_X86_RAX * 8, width);
    uint64_t low = (uint64_t)p & x86_width_mask(width), high = (uint64_t)(p >> (width * 8));
    set_product(c, width, low, high);
    mul_flags(c, width, low, high != 0);
}

X86_INLINE uint64_t signed_product(X86Cpu *c, unsigned width, uint64_t a, uint64_t b,
                                   uint64_t *high, bool flags)
{
    S128 p = (S128)(int64_t)x86_sign_extend(a, width) * (int64_t)x86_sign_extend(b, width);
    uint64_t low = (uint64_t)p;
    if (high) {
        *high = (uint64_t)(p >> (width * 8));
    }
    if (flags) {
        mul_flags(c, width, low, p != (S128)(int64_t)x86_sign_extend(low, width));
    }
    return low;
}

void op_imul(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    uint64_t b = x86_e_load(c, in, width);
    uint64_t high;
    switch (in->form) {
    case X86_F_R_E_I:
        x86_set_reg(c, in->reg, width, signed_product(c, width, b, in->imm, NULL, true));
        break;
    case X86_F_R_E:
        x86_set_reg(c, in->reg, width,
                    signed_product(c, width, x86_reg(c, in->reg, width), b, NULL, true));
        break;
    default: {
        uint64_t low = signed_product(c, width, x86_reg(c, PTA_X86_RAX * 8, width), b, &high, true);
        set_product(c, width, low, high);
        break;
    }
    }
}

/* The double-width dividend. */
static U128 dividend(const X86Cpu *c, unsigned width)
{
    if (width == 1) {
        return X86_REG16(c, PTA_X86_RAX * 8);
    }
    return (U128)x86_reg(c, PTA_X86_RDX * 8, width) << (width * 8) |
           x86_reg(c, PTA_X86_RAX * 8, width);
}

static void set_quotient(X86Cpu *c, unsigned width, uint64_t q, uint64_t r)
{
    if (width == 1) {
        X86_REG16(c, PTA_X86_RAX * 8) = (uint16_t)((q & 0xff) | (r & 0xff) << 8);
    } else {
        x86_set_reg(c, PTA_X86_RAX * 8, width, q);
        x86_set_reg(c, PTA_X86_RDX * 8, width, r);
    }
}

void op_div(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    uint64_t d = x86_e_load(c, in, width);
    U128 n = dividend(c, width);
    if (d == 0 || (uint64_t)(n >> (width * 8)) >= d) {
        x86_raise(c, in, X86_DE, -1);
    }
    if ((uint64_t)(n >> 64) == 0) {
        set_quotient(c, width, (uint64_t)n / d, (uint64_t)n % d);
    } else {
        set_quotient(c, width, (uint64_t)(n / d), (uint64_t)(n % d));
    }
}

void op_idiv(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width, bits = width * 8;
    int64_t d = (int64_t)x86_sign_extend(x86_e_load(c, in, width), width);
    U128 u = dividend(c, width);
    S128 n = (S128)(u << (128 - 2 * bits)) >> (128 - 2 * bits);
    if (d == 0) {
        x86_raise(c, in, X86_DE, -1);
    }
    if (width == 8 && d == -1 && n == (S128)((U128)1 << 127)) { /* the host would trap */
        x86_raise(c, in, X86_DE, -1);
    }
    S128 q, r;
    if (n == (int64_t)n && !((int64_t)n == INT64_MIN && d == -1)) {
        q = (int64_t)n / d;
        r = (int64_t)n % d;
    } else {
        q = n / d;
        r = n % d;
    }
    if (q != (S128)(int64_t)x86_sign_extend((uint64_t)q, width)) {
        x86_raise(c, in, X86_DE, -1);
    }
    set_quotient(c, width, (uint64_t)q, (uint64_t)r);
}

/* ---- specialised ---- */

X86_INLINE void imul_exec(X86Cpu *c, const X86Insn *in, unsigned width, bool imm, bool mem,
                          bool flags)
{
    uint64_t b;
    if (mem) {
        const void *p = x86_tlb_lookup(c->tlb->read, x86_ea_fast(c, in, X86_EAK_ANY), width);
        if (G_UNLIKELY(!p)) {
            op_imul(c, in);
            return;
        }
        b = x86_peek(p, width);
    } else {
        b = x86_get(c, in->rm, width);
    }
    uint64_t a = imm ? in->imm : x86_get(c, in->reg, width);
    x86_put(c, in->reg, width, signed_product(c, width, a, b, NULL, flags));
}

#define IMUL(name, w, imm, mem)                           \
    static void name##_f##w(X86Cpu *c, const X86Insn *in) \
    {                                                     \
        imul_exec(c, in, w, imm, mem, true);              \
        X86_NEXT(c, in);                                  \
    }                                                     \
    static void name##_n##w(X86Cpu *c, const X86Insn *in) \
    {                                                     \
        imul_exec(c, in, w, imm, mem, false);             \
        X86_NEXT(c, in);                                  \
    }
IMUL(imul_rr, 4, false, false)
IMUL(imul_rr, 8, false, false)
IMUL(imul_rm, 4, false, true)
IMUL(imul_rm, 8, false, true)
IMUL(imul_ri, 4, true, false)
IMUL(imul_ri, 8, true, false)
IMUL(imul_mi, 4, true, true)
IMUL(imul_mi, 8, true, true)

X86Handler *x86_select_mul(const X86Insn *in, const X86Select *s)
{
    bool mem = x86_e_mem(in);
    if (in->width < 4 || in->form == X86_F_E || (mem && (!s->wide || (in->ea & X86_EA_SLOW)))) {
        return NULL;
    }
    /* [immediate][memory][8 bytes][flags dead] */
    static X86Handler *const table[2][2][2][2] = {
        { { { imul_rr_f4, imul_rr_n4 }, { imul_rr_f8, imul_rr_n8 } },
          { { imul_rm_f4, imul_rm_n4 }, { imul_rm_f8, imul_rm_n8 } } },
        { { { imul_ri_f4, imul_ri_n4 }, { imul_ri_f8, imul_ri_n8 } },
          { { imul_mi_f4, imul_mi_n4 }, { imul_mi_f8, imul_mi_n8 } } },
    };
    return table[in->form == X86_F_R_E_I][mem][in->width == 8][s->flags_dead];
}
