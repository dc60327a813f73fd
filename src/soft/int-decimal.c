/* AAA, AAS, AAM, AAD, DAA, DAS, SALC (not in 64-bit mode). Undefined flags as the operation that the
 * SDM's pseudocode performs would leave them. */
#include "config.h"

#include "src/soft/int.h"

static uint8_t *al(X86Cpu *c)
{
    return &X86_REG8(c, PTA_X86_RAX * 8);
}

static uint8_t *ah(X86Cpu *c)
{
    return &X86_REG8(c, PTA_X86_RAX * 8 + 1);
}

static void result_flags(X86Cpu *c, uint8_t r, bool cf, bool af)
{
    x86_flags_set(c, 1, r, x86_carry_of(1, cf, false, af));
}

static void ascii_adjust(X86Cpu *c, int sign)
{
    bool adjust = (*al(c) & 15) > 9 || x86_af(&c->flags);
    if (adjust) {
        X86_REG16(c, PTA_X86_RAX * 8) = (uint16_t)(X86_REG16(c, PTA_X86_RAX * 8) + sign * 0x106);
    }
    result_flags(c, *al(c), adjust, adjust);
    *al(c) &= 15;
}

void op_aaa(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    ascii_adjust(c, 1);
}

void op_aas(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    ascii_adjust(c, -1);
}

void op_aam(X86Cpu *c, const X86Insn *in)
{
    uint8_t base = (uint8_t)in->imm;
    if (base == 0) {
        x86_raise(c, in, X86_DE, -1);
    }
    uint8_t v = *al(c);
    *ah(c) = v / base;
    *al(c) = v % base;
    result_flags(c, *al(c), false, false);
}

void op_aad(X86Cpu *c, const X86Insn *in)
{
    uint8_t r = (uint8_t)(*al(c) + *ah(c) * (uint8_t)in->imm);
    *al(c) = r;
    *ah(c) = 0;
    result_flags(c, r, false, false);
}

static void decimal_adjust(X86Cpu *c, int sign)
{
    uint8_t old = *al(c);
    bool old_cf = x86_cf(&c->flags), cf = false;
    bool af = (old & 15) > 9 || x86_af(&c->flags);
    unsigned v = old;
    if (af) {
        v = (unsigned)((int)v + sign * 6);
        cf = old_cf || v > 0xff;
        v &= 0xff;
    }
    if (old > 0x99 || old_cf) {
        v = (unsigned)((int)v + sign * 0x60);
        cf = true;
    } else if (sign > 0) {
        cf = false; /* DAS keeps the borrow of its first step, DAA does not */
    }
    *al(c) = (uint8_t)v;
    result_flags(c, (uint8_t)v, cf, af);
}

void op_daa(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    decimal_adjust(c, 1);
}

void op_das(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    decimal_adjust(c, -1);
}

void op_salc(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    *al(c) = x86_cf(&c->flags) ? 0xff : 0;
}
