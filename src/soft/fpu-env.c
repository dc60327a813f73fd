/*
 * x87 control: control and status word, environment and FSAVE images in their four layouts
 * (SDM vol. 1, 8.1.10). VP's thread.
 */
#include "config.h"

#include <string.h>

#include "src/soft/fpu.h"
#include "src/soft/opcodes.h"

static void wait_x87(X86Cpu *c, const X86Insn *in)
{
    if (c->fpu.sw & X87_ES) {
        x87_pending(c, in);
    }
}

static void init(X86Fpu *f)
{
    f->cw = X87_CW_INIT;
    f->sw = 0;
    f->tag_valid = 0;
    f->fop = 0;
    f->fip = f->fdp = 0;
    f->fcs = f->fds = 0;
}

static void set_cw(X86Fpu *f, uint64_t cw)
{
    f->cw = (uint16_t)((cw & X87_CW_WRITABLE) | X87_CW_FIXED);
    x87_update_es(f);
}

/* FWAIT looks at CR0.MP and CR0.TS, not at CR0.EM (SDM vol. 3, table 2-2). */
void op_fwait(X86Cpu *c, const X86Insn *in)
{
    if ((c->cr0 & (X86_CR0_MP | X86_CR0_TS)) == (X86_CR0_MP | X86_CR0_TS)) {
        x86_raise(c, in, X86_NM, -1);
    }
    wait_x87(c, in);
}

void op_fninit(X86Cpu *c, const X86Insn *in)
{
    init(&c->fpu);
}

void op_fnclex(X86Cpu *c, const X86Insn *in)
{
    c->fpu.sw &= (uint16_t) ~(X87_EXCEPTIONS | X87_SF | X87_ES | X87_B);
}

void op_fldcw(X86Cpu *c, const X86Insn *in)
{
    uint64_t cw;
    wait_x87(c, in);
    cw = x86_load16(c, in, x86_ea(c, in, 2, X86_READ));
    set_cw(&c->fpu, cw);
}

void op_fnstcw(X86Cpu *c, const X86Insn *in)
{
    x86_store16(c, in, x86_ea(c, in, 2, X86_WRITE), c->fpu.cw);
}

/* DD /7: m16; DF E0: AX */
void op_fnstsw(X86Cpu *c, const X86Insn *in)
{
    if (in->ea & X86_EA_MEM) {
        x86_store16(c, in, x86_ea(c, in, 2, X86_WRITE), c->fpu.sw);
    } else {
        X86_REG16(c, PTA_X86_RAX * 8) = c->fpu.sw;
    }
}

/* ---- images ---- */

/* The two bits a register that FSTENV writes: valid, zero, special, empty. */
static uint16_t full_tags(const X86Fpu *f)
{
    uint16_t tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        const X86Fpr *r = &f->r[i];
        const unsigned exponent = r->sign_exponent & 0x7fff;
        unsigned tag = 0;
        if (!(f->tag_valid >> i & 1)) {
            tag = 3;
        } else if (exponent == 0 && r->mantissa == 0) {
            tag = 1;
        } else if (exponent == 0 || exponent == 0x7fff || !(r->mantissa >> 63)) {
            tag = 2;
        }
        tags |= (uint16_t)(tag << i * 2);
    }
    return tags;
}

typedef union Env {
    uint16_t w[14];
    uint32_t d[7];
} Env;

/* Operand size 16 or 32 bits; real-mode images hold linear pointers and the opcode. */
static bool wide(const X86Cpu *c, const X86Insn *in)
{
    const bool code16 = (c->mode & X86_MODE_SIZE) == X86_MODE_16;
    return in->pfx & X86_PFX_REXW || code16 == !!(in->pfx & X86_PFX_OPSIZE);
}

static bool linear_pointers(const X86Cpu *c)
{
    return !(c->mode & X86_MODE_PROT);
}

static unsigned env_size(bool is_wide)
{
    return is_wide ? 28 : 14;
}

static void make_env(const X86Cpu *c, bool is_wide, Env *e)
{
    const X86Fpu *f = &c->fpu;
    const uint32_t ip = (uint32_t)(f->fip + ((uint32_t)f->fcs << 4));
    const uint32_t dp = (uint32_t)(f->fdp + ((uint32_t)f->fds << 4));
    if (is_wide) {
        const uint32_t ones = 0xffff0000; /* what processors store in the reserved halves */
        e->d[0] = ones | f->cw;
        e->d[1] = ones | f->sw;
        e->d[2] = ones | full_tags(f);
        if (linear_pointers(c)) {
            e->d[3] = ones | (ip & 0xffff);
            e->d[4] = (ip >> 16) << 12 | f->fop;
            e->d[5] = ones | (dp & 0xffff);
            e->d[6] = (dp >> 16) << 12;
        } else {
            e->d[3] = (uint32_t)f->fip;
            e->d[4] = (uint32_t)f->fop << 16 | f->fcs;
            e->d[5] = (uint32_t)f->fdp;
            e->d[6] = ones | f->fds;
        }
    } else {
        e->w[0] = f->cw;
        e->w[1] = f->sw;
        e->w[2] = full_tags(f);
        if (linear_pointers(c)) {
            e->w[3] = (uint16_t)ip;
            e->w[4] = (uint16_t)((ip >> 16) << 12 | f->fop);
            e->w[5] = (uint16_t)dp;
            e->w[6] = (uint16_t)((dp >> 16) << 12);
        } else {
            e->w[3] = (uint16_t)f->fip;
            e->w[4] = f->fcs;
            e->w[5] = (uint16_t)f->fdp;
            e->w[6] = f->fds;
        }
    }
}

static void take_env(X86Cpu *c, bool is_wide, const Env *e)
{
    X86Fpu *f = &c->fpu;
    const uint16_t tags = is_wide ? (uint16_t)e->d[2] : e->w[2];
    f->sw = is_wide ? (uint16_t)e->d[1] : e->w[1];
    f->tag_valid = 0;
    for (unsigned i = 0; i < 8; i++) {
        f->tag_valid |= (uint8_t)((tags >> i * 2 & 3) != 3 ? 1 << i : 0);
    }
    if (linear_pointers(c)) { /* a linear pointer, kept with selector 0 */
        f->fip = is_wide ? (e->d[3] & 0xffff) | (e->d[4] >> 12 << 16)
                         : e->w[3] | (uint32_t)(e->w[4] >> 12) << 16;
        f->fdp = is_wide ? (e->d[5] & 0xffff) | (e->d[6] >> 12 << 16)
                         : e->w[5] | (uint32_t)(e->w[6] >> 12) << 16;
        f->fop = (is_wide ? e->d[4] : e->w[4]) & 0x7ff;
        f->fcs = f->fds = 0;
    } else if (is_wide) {
        f->fip = e->d[3];
        f->fcs = (uint16_t)e->d[4];
        f->fop = e->d[4] >> 16 & 0x7ff;
        f->fdp = e->d[5];
        f->fds = (uint16_t)e->d[6];
    } else {
        f->fip = e->w[3];
        f->fcs = e->w[4];
        f->fdp = e->w[5];
        f->fds = e->w[6];
        f->fop = 0;
    }
    set_cw(f, is_wide ? e->d[0] : e->w[0]);
}

void op_fldenv(X86Cpu *c, const X86Insn *in)
{
    const bool is_wide = wide(c, in);
    Env e;
    wait_x87(c, in);
    x86_load_bytes(c, in, x86_ea(c, in, env_size(is_wide), X86_READ), &e, env_size(is_wide));
    take_env(c, is_wide, &e);
}

void op_fnstenv(X86Cpu *c, const X86Insn *in)
{
    const bool is_wide = wide(c, in);
    Env e;
    make_env(c, is_wide, &e);
    x86_store_bytes(c, in, x86_ea(c, in, env_size(is_wide), X86_WRITE), &e, env_size(is_wide));
    set_cw(&c->fpu, c->fpu.cw | X87_EXCEPTIONS);
}

/* The environment, then ST(0) to ST(7) with 10 bytes each. */
void op_fnsave(X86Cpu *c, const X86Insn *in)
{
    const bool is_wide = wide(c, in);
    const unsigned n = env_size(is_wide);
    const uint64_t lin = x86_ea(c, in, n + 80, X86_WRITE);
    Env e;
    make_env(c, is_wide, &e);
    x86_probe(c, in, lin, n + 80, X86_WRITE);
    x86_store_bytes(c, in, lin, &e, n);
    for (unsigned i = 0; i < 8; i++) {
        x86_store_bytes(c, in, lin + n + i * 10, x87_st(&c->fpu, i), 10);
    }
    init(&c->fpu);
}

void op_frstor(X86Cpu *c, const X86Insn *in)
{
    const bool is_wide = wide(c, in);
    const unsigned n = env_size(is_wide);
    uint8_t st[8][10];
    uint64_t lin;
    Env e;
    wait_x87(c, in);
    lin = x86_ea(c, in, n + 80, X86_READ);
    x86_load_bytes(c, in, lin, &e, n);
    for (unsigned i = 0; i < 8; i++) {
        x86_load_bytes(c, in, lin + n + i * 10, st[i], 10);
    }
    take_env(c, is_wide, &e);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(x87_st(&c->fpu, i), st[i], 10);
    }
}
