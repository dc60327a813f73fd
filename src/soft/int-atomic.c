/*
 * LOCK: read-modify-write of guest memory with the host's atomic instructions, or with the world
 * stopped where they cannot do it (split over pages or cache lines, device registers). XCHG, XADD,
 * CMPXCHG and its wider sisters.
 */
#include "config.h"

#include "src/soft/int.h"

uint64_t x86_e_load_rmw(X86Cpu *c, const X86Insn *in, unsigned width, uint64_t *lin)
{
    if (!x86_e_mem(in)) {
        *lin = 0;
        return x86_reg(c, in->rm, width);
    }
    *lin = x86_ea(c, in, width, X86_WRITE);
    if (!x86_tlb_lookup(c->tlb->write, *lin, width)) {
        x86_probe(c, in, *lin, width, X86_WRITE);
    }
    return x86_load(c, in, *lin, width);
}

#define DEFINE_CAS(bits)                                                                        \
    static bool cas##bits(void *p, uint64_t *expected, uint64_t desired)                        \
    {                                                                                           \
        uint##bits##_t e = (uint##bits##_t) * expected;                                         \
        bool ok = __atomic_compare_exchange_n((uint##bits##_t *)p, &e, (uint##bits##_t)desired, \
                                              false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);       \
        *expected = e;                                                                          \
        return ok;                                                                              \
    }
DEFINE_CAS(8)
DEFINE_CAS(16)
DEFINE_CAS(32)
DEFINE_CAS(64)

#if defined(__x86_64__)
/* Not aligned, but within a cache line: C has no such thing. */
#define CAS_UNALIGNED(suffix, type)                               \
    __asm__ volatile("lock cmpxchg" suffix " %2, %0"              \
                     : "+m"(*(char(*)[sizeof(type)])p), "+a"(old) \
                     : "r"((type)desired)                         \
                     : "cc", "memory")
static bool cas_unaligned(void *p, unsigned width, uint64_t *expected, uint64_t desired)
{
    uint64_t old = *expected & x86_width_mask(width);
    uint64_t before = old;
    switch (width) {
    case 2:
        CAS_UNALIGNED("w", uint16_t);
        break;
    case 4:
        CAS_UNALIGNED("l", uint32_t);
        break;
    default:
        CAS_UNALIGNED("q", uint64_t);
        break;
    }
    *expected = old & x86_width_mask(width);
    return *expected == before;
}
#endif

/* As x86_host_rmw() promises. */
static bool host_cas(void *p, unsigned width, uint64_t *expected, uint64_t desired)
{
#if defined(__x86_64__)
    if (G_UNLIKELY((uintptr_t)p & (width - 1))) {
        return cas_unaligned(p, width, expected, desired);
    }
#endif
    switch (width) {
    case 1:
        return cas8(p, expected, desired);
    case 2:
        return cas16(p, expected, desired);
    case 4:
        return cas32(p, expected, desired);
    default:
        return cas64(p, expected, desired);
    }
}

/* What is there now: a first guess for host_cas(). */
static uint64_t host_get(const void *p, unsigned width)
{
    if (G_UNLIKELY((uintptr_t)p & (width - 1))) {
        return x86_peek(p, width);
    }
    switch (width) {
    case 1:
        return __atomic_load_n((const uint8_t *)p, __ATOMIC_RELAXED);
    case 2:
        return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
    case 4:
        return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
    default:
        return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
    }
}

uint64_t x86_locked_at(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned width, X86Modify *fn,
                       uint64_t arg)
{
    uint64_t written;
    void *p = x86_host_rmw(c, in, lin, width, &written);
    if (G_LIKELY(p)) {
        uint64_t old = host_get(p, width);
        while (!host_cas(p, width, &old, fn(old, arg, width))) {}
        x86_rmw_done(c, written, width);
        return old;
    }
    x86_lock_world(c);
    x86_probe(c, in, lin, width, X86_WRITE);
    uint64_t old = x86_load(c, in, lin, width);
    x86_store(c, in, lin, width, fn(old, arg, width));
    x86_unlock_world(c);
    return old;
}

uint64_t x86_locked_cas(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned width,
                        uint64_t expected, uint64_t desired)
{
    uint64_t written;
    void *p = x86_host_rmw(c, in, lin, width, &written);
    if (G_LIKELY(p)) {
        host_cas(p, width, &expected, desired);
        x86_rmw_done(c, written, width);
        return expected;
    }
    x86_lock_world(c);
    x86_probe(c, in, lin, width, X86_WRITE);
    uint64_t old = x86_load(c, in, lin, width);
    /* The write cycle always happens (SDM vol. 2, CMPXCHG). */
    x86_store(c, in, lin, width, old == expected ? desired : old);
    x86_unlock_world(c);
    return old;
}

static uint64_t modify_swap(uint64_t old, uint64_t arg, unsigned width)
{
    (void)old, (void)width;
    return arg;
}

static uint64_t modify_add(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return old + arg;
}

void op_xchg(X86Cpu *c, const X86Insn *in)
{
    uint64_t b = x86_reg(c, in->reg, in->width);
    uint64_t a;
    if (x86_e_mem(in)) { /* locked with or without the prefix */
        a = x86_locked(c, in, in->width, modify_swap, b);
    } else {
        a = x86_reg(c, in->rm, in->width);
        x86_set_reg(c, in->rm, in->width, b);
    }
    x86_set_reg(c, in->reg, in->width, a);
}

void op_xadd(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    uint64_t b = x86_reg(c, in->reg, width);
    uint64_t a;
    if (in->pfx & X86_PFX_LOCK) {
        a = x86_locked(c, in, width, modify_add, b);
        x86_set_reg(c, in->reg, width, a);
    } else {
        uint64_t lin;
        a = x86_e_load_rmw(c, in, width, &lin);
        if (x86_e_mem(in)) {
            x86_e_store_rmw(c, in, width, lin, a + b);
            x86_set_reg(c, in->reg, width, a);
        } else { /* XADD r, r with one register leaves the sum */
            x86_set_reg(c, in->reg, width, a);
            x86_set_reg(c, in->rm, width, a + b);
        }
    }
    x86_flags_set(c, width, a + b, x86_carry_add(a, b, a + b));
}

void op_cmpxchg(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    uint64_t acc = x86_reg(c, PTA_X86_RAX * 8, width);
    uint64_t b = x86_reg(c, in->reg, width);
    uint64_t old;
    if (in->pfx & X86_PFX_LOCK) {
        old = x86_locked_cas(c, in, x86_ea(c, in, width, X86_WRITE), width, acc, b);
    } else {
        uint64_t lin;
        old = x86_e_load_rmw(c, in, width, &lin);
        if (x86_e_mem(in) || old == acc) {
            x86_e_store_rmw(c, in, width, lin, old == acc ? b : old);
        } /* a register that differs is left alone, its upper half included, as processors do */
    }
    if (old != acc) {
        x86_set_reg(c, PTA_X86_RAX * 8, width, old);
    }
    uint64_t r = acc - old;
    x86_flags_set(c, width, r, x86_carry_sub(acc, old, r));
}

static void set_zf(X86Cpu *c, bool zf)
{
    uint64_t status = x86_flags_pack(&c->flags) & ~(uint64_t)X86_ZF;
    x86_set_status(c, status | (zf ? X86_ZF : 0));
}

/* CMPXCHG8B of any alignment; LOCK or not makes no difference to what a guest may see. */
void op_cmpxchg8b(X86Cpu *c, const X86Insn *in)
{
    uint64_t lin = x86_ea(c, in, 8, X86_WRITE);
    uint64_t expected = (uint32_t)c->gpr[PTA_X86_RAX] | c->gpr[PTA_X86_RDX] << 32;
    uint64_t desired = (uint32_t)c->gpr[PTA_X86_RBX] | c->gpr[PTA_X86_RCX] << 32;
    uint64_t old = x86_locked_cas(c, in, lin, 8, expected, desired);
    if (old != expected) {
        c->gpr[PTA_X86_RAX] = (uint32_t)old;
        c->gpr[PTA_X86_RDX] = old >> 32;
    }
    set_zf(c, old == expected);
}

typedef struct Pair {
    uint64_t lo, hi;
} Pair;

#if defined(__x86_64__)
__attribute__((target("cx16"))) static Pair cas128(void *p, Pair expected, Pair desired)
{
    __asm__ volatile("lock cmpxchg16b %2"
                     : "+a"(expected.lo), "+d"(expected.hi), "+m"(*(__uint128_t *)p)
                     : "b"(desired.lo), "c"(desired.hi)
                     : "cc", "memory");
    return expected;
}
#endif

void op_cmpxchg16b(X86Cpu *c, const X86Insn *in)
{
    uint64_t lin = x86_ea(c, in, 16, X86_WRITE);
    if (lin & 15) {
        x86_raise_gp(c, in, 0);
    }
    Pair expected = { c->gpr[PTA_X86_RAX], c->gpr[PTA_X86_RDX] };
    Pair desired = { c->gpr[PTA_X86_RBX], c->gpr[PTA_X86_RCX] };
    Pair old;
#if defined(__x86_64__)
    uint64_t written;
    void *p = x86_host_rmw(c, in, lin, 16, &written);
#else
    void *p = NULL; /* the world lock alone */
#endif
    if (p) {
#if defined(__x86_64__)
        old = cas128(p, expected, desired);
        x86_rmw_done(c, written, 16);
#endif
    } else {
        x86_lock_world(c);
        x86_probe(c, in, lin, 16, X86_WRITE);
        x86_load_bytes(c, in, lin, &old, 16);
        bool same = old.lo == expected.lo && old.hi == expected.hi;
        x86_store_bytes(c, in, lin, same ? &desired : &old, 16);
        x86_unlock_world(c);
    }
    bool same = old.lo == expected.lo && old.hi == expected.hi;
    if (!same) {
        c->gpr[PTA_X86_RAX] = old.lo;
        c->gpr[PTA_X86_RDX] = old.hi;
    }
    set_zf(c, same);
}
