/* What the files of general-purpose instructions (int-*.c) share: operands, flags, atomics. */
#ifndef PTA_SOFT_INT_H
#define PTA_SOFT_INT_H

#include "src/soft/engine.h"

static inline uint64_t x86_width_mask(unsigned width)
{
    return UINT64_MAX >> (64 - width * 8);
}

static inline uint64_t x86_sign_extend(uint64_t v, unsigned width)
{
    unsigned shift = 64 - width * 8;
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

/* ---- operand E ---- */

static inline bool x86_e_mem(const X86Insn *in)
{
    return (in->ea & X86_EA_MEM) != 0;
}

static inline uint64_t x86_e_load(X86Cpu *c, const X86Insn *in, unsigned width)
{
    return x86_e_mem(in) ? x86_load(c, in, x86_ea(c, in, width, X86_READ), width)
                         : x86_reg(c, in->rm, width);
}

static inline void x86_e_store(X86Cpu *c, const X86Insn *in, unsigned width, uint64_t value)
{
    if (x86_e_mem(in)) {
        x86_store(c, in, x86_ea(c, in, width, X86_WRITE), width, value);
    } else {
        x86_set_reg(c, in->rm, width, value);
    }
}

/* Loads E for a change: write permission is checked first, so that the fault is that of a write. */
uint64_t x86_e_load_rmw(X86Cpu *c, const X86Insn *in, unsigned width, uint64_t *lin);

static inline void x86_e_store_rmw(X86Cpu *c, const X86Insn *in, unsigned width, uint64_t lin,
                                   uint64_t value)
{
    if (x86_e_mem(in)) {
        x86_store(c, in, lin, width, value);
    } else {
        x86_set_reg(c, in->rm, width, value);
    }
}

/*
 * LOCK: replaces the memory operand by fn(old, arg) atomically; returns the old value. fn may be
 * called several times.
 */
typedef uint64_t X86Modify(uint64_t old, uint64_t arg, unsigned width);
uint64_t x86_locked_at(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned width, X86Modify *fn,
                       uint64_t arg);
static inline uint64_t x86_locked(X86Cpu *c, const X86Insn *in, unsigned width, X86Modify *fn,
                                  uint64_t arg)
{
    return x86_locked_at(c, in, x86_ea(c, in, width, X86_WRITE), width, fn, arg);
}
/* Replaces it by `desired` if it is `expected`; returns what was there. */
uint64_t x86_locked_cas(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned width,
                        uint64_t expected, uint64_t desired);

/* ---- flags ---- */

X86_INLINE uint64_t x86_carry_add(uint64_t a, uint64_t b, uint64_t r)
{
    return (a & b) | ((a | b) & ~r);
}

X86_INLINE uint64_t x86_carry_sub(uint64_t a, uint64_t b, uint64_t r)
{
    return (~a & b) | (~(a ^ b) & r);
}

X86_INLINE void x86_flags_set(X86Cpu *c, unsigned width, uint64_t result, uint64_t carry)
{
    c->flags.result = result;
    c->flags.carry = carry;
    c->flags.width = width * 8;
}

/* A carry vector with this CF, OF and AF. */
X86_INLINE uint64_t x86_carry_of(unsigned width, bool cf, bool of, bool af)
{
    unsigned top = width * 8 - 1;
    return (uint64_t)cf << top | (uint64_t)(cf ^ of) << (top - 1) | (uint64_t)af << 3;
}

/* cc is the low nibble of the opcode. */
X86_INLINE bool x86_cond(const X86Flags *f, unsigned cc)
{
    bool r;
    switch (cc >> 1) {
    case 0:
        r = x86_of(f);
        break;
    case 1:
        r = x86_cf(f);
        break;
    case 2:
        r = x86_zf(f);
        break;
    case 3:
        r = x86_cf(f) || x86_zf(f);
        break;
    case 4:
        r = x86_sf(f);
        break;
    case 5:
        r = x86_pf(f);
        break;
    case 6:
        r = x86_sf(f) != x86_of(f);
        break;
    default:
        r = x86_zf(f) || x86_sf(f) != x86_of(f);
        break;
    }
    return r != (cc & 1);
}

/* ---- memory operands of specialised handlers (64-bit mode, no slow address) ---- */

enum {
    X86_EAK_BASE, /* base + disp, no segment base */
    X86_EAK_ANY,
    X86_N_EAK,
};

static inline unsigned x86_ea_kind(const X86Insn *in)
{
    return in->index == X86_R_ZERO && in->seg == X86_SEG_FLAT ? X86_EAK_BASE : X86_EAK_ANY;
}

X86_INLINE uint64_t x86_ea_fast(const X86Cpu *c, const X86Insn *in, unsigned kind)
{
    uint64_t lin = c->gpr[in->base] + (uint64_t)(int64_t)in->disp;
    if (kind == X86_EAK_ANY) {
        lin += (c->gpr[in->index] << in->scale) + c->seg_base[in->seg];
    }
    return lin;
}

X86_INLINE uint64_t x86_peek(const void *p, unsigned width)
{
    uint64_t v = 0;
    __builtin_memcpy(&v, p, width);
    return v;
}

X86_INLINE void x86_poke(void *p, unsigned width, uint64_t v)
{
    __builtin_memcpy(p, &v, width);
}

X86_INLINE uint64_t x86_get(const X86Cpu *c, unsigned byte_offset, unsigned width)
{
    return x86_peek((const char *)c->gpr + byte_offset, width);
}

X86_INLINE void x86_put(X86Cpu *c, unsigned byte_offset, unsigned width, uint64_t v)
{
    if (width == 4) {
        X86_REG64(c, byte_offset) = (uint32_t)v;
    } else {
        x86_poke((char *)c->gpr + byte_offset, width, v);
    }
}

/* 0, 1, 2, 3 for 1, 2, 4, 8. */
static inline unsigned x86_log2(unsigned width)
{
    return (unsigned)__builtin_ctz(width);
}

/* ---- the stack, any mode (int-stack.c) ---- */

void x86_push(X86Cpu *c, const X86Insn *in, unsigned width, uint64_t value);
/* The value at the top; RSP stays: x86_stack_add() commits. */
uint64_t x86_stack_top(X86Cpu *c, const X86Insn *in, unsigned width);
void x86_stack_add(X86Cpu *c, int64_t bytes);

#endif
