/*
 * Instructions that an interpreter of the host's kernel may lack, in ring 0 and each with what it may
 * raise: CMPXCHG16B, POPCNT, CLAC, INT3, FWAIT, SSE to device memory, XSAVE. In a machine whose back end executes
 * guest code in a kernel they go round by the software CPU.
 */
#include "guest.h"

#define CR0_MP         (1 << 1)
#define CR0_TS         (1 << 3)
#define CR0_NE         (1 << 5)
#define CR4_OSFXSR     (1 << 9)
#define CR4_OSXMMEXCPT (1 << 10)
#define CR4_OSXSAVE    (1 << 18)
#define CR4_SMAP       (1 << 21)

/* Nothing is there: in a machine of 64 MiB, and below what QEMU places. */
#define HOLE UINT64_C(0x30000000)

static bool has(uint32_t leaf, unsigned reg, unsigned bit)
{
    uint32_t out[4];
    cpuid(leaf & 0x80000000, 0, out);
    if (out[0] < leaf) {
        return false;
    }
    cpuid(leaf, 0, out);
    return out[reg] >> bit & 1;
}

static uint64_t pair[4] __attribute__((aligned(16)));

/* CMPXCHG16B with these; gives ZF, and in *old RDX:RAX. */
static bool cmpxchg16b(uint64_t *at, uint64_t old[2], uint64_t lo, uint64_t hi)
{
    bool zf;
    __asm__ volatile("lock cmpxchg16b %1; sete %0"
                     : "=q"(zf), "+m"(*(uint64_t(*)[2])at), "+a"(old[0]), "+d"(old[1])
                     : "b"(lo), "c"(hi)
                     : "cc");
    return zf;
}

static void compare_and_exchange(void)
{
    uint64_t old[2] = { 1, 2 };
    if (!has(1, 2, 13)) {
        skip("CMPXCHG16B", "CPUID has none");
        return;
    }
    pair[0] = 1;
    pair[1] = 2;
    ok(cmpxchg16b(pair, old, 3, 4) && pair[0] == 3 && pair[1] == 4, "CMPXCHG16B exchanges");
    old[0] = 9;
    ok(!cmpxchg16b(pair, old, 5, 6) && pair[0] == 3 && old[0] == 3 && old[1] == 4,
       "CMPXCHG16B that does not loads RDX:RAX");
    bool good = true;
    for (uint64_t i = 0; i < 1000; i++) {
        old[0] = pair[0];
        old[1] = pair[1];
        good = good && cmpxchg16b(pair, old, i, ~i) && pair[0] == i && pair[1] == ~i;
    }
    ok(good, "CMPXCHG16B a thousand times");
    ok(TRAP("cmpxchg16b 8(%0)", "D"(pair), "b"(0), "c"(0), "d"(0)) == GP && trap.error == 0,
       "CMPXCHG16B that is not aligned: #GP(0)");
    map_page(UINT64_C(0x700000000000), 0, 0);
    ok_but_tcg(TRAP("cmpxchg16b (%0)", "D"(UINT64_C(0x700000000000)), "b"(0), "c"(0), "d"(0)) ==
                       PF &&
                   trap.cr2 == UINT64_C(0x700000000000) && trap.error == 2,
               "CMPXCHG16B on a page that is absent: #PF, as a write");
}

static void counts(void)
{
    if (!has(1, 2, 23)) {
        skip("POPCNT", "CPUID has none");
        return;
    }
    uint64_t n = 0;
    uint64_t flags = 0;
    __asm__ volatile("popcnt %2, %0; pushf; pop %1"
                     : "=r"(n), "=r"(flags)
                     : "r"(UINT64_C(0xf00000000000000f))
                     : "cc");
    ok(n == 8 && (flags & 0x8d5) == 0, "POPCNT counts, and clears the flags");
    __asm__ volatile("popcnt %2, %0; pushf; pop %1"
                     : "=r"(n), "=r"(flags)
                     : "r"(UINT64_C(0))
                     : "cc");
    ok(n == 0 && (flags & 0x8d5) == 0x40, "POPCNT of 0 sets ZF");
    static const uint16_t word = 0x0ff1;
    n = UINT64_C(0xffff0000);
    __asm__ volatile("popcntw %1, %w0" : "+r"(n) : "m"(word) : "cc");
    ok(n == UINT64_C(0xffff0009), "POPCNT of 16 bits of memory");
}

static uint64_t rflags(void)
{
    uint64_t flags;
    __asm__ volatile("pushf; pop %0" : "=r"(flags));
    return flags;
}

static void access_control(void)
{
    if (!has(7, 1, 20)) {
        ok(!has(1, 3, 31), "no SMAP, no CLAC");
        return;
    }
    __asm__ volatile("push %0; popf" : : "r"(rflags() | 1 << 18) : "cc");
    unsigned v = TRAP("clac", "d"(0));
    ok(v == NONE && !(rflags() & 1 << 18), "CLAC clears AC");
    v = TRAP("stac", "d"(0));
    ok(v == NONE && (rflags() & 1 << 18), "STAC sets it");
    __asm__ volatile("push %0; popf" : : "r"(rflags() & ~(UINT64_C(1) << 18)) : "cc");
}

static void breakpoints(void)
{
    bool good = true;
    for (unsigned i = 0; i < 100; i++) {
        good = good && TRAP("int3", "d"(0)) == BP && *(uint8_t *)(trap.ip - 1) == 0xcc;
    }
    ok(good, "INT3 is #BP, behind the instruction, a hundred times");
    gate_present(BP, false);
    ok_but_tcg(TRAP("int3", "d"(0)) == NP && trap.error == BP * 8 + 2 &&
                   *(uint8_t *)trap.ip == 0xcc,
               "INT3 through a gate that is absent: #NP, at the instruction");
    gate_present(BP, true);
}

static void waits(void)
{
    WRITE_CR(0, (READ_CR(0) | CR0_MP | CR0_NE) & ~(uint64_t)CR0_TS);
    __asm__ volatile("fninit");
    ok(TRAP("fwait", "d"(0)) == NONE, "FWAIT with nothing to wait for");
    uint16_t control = 0x37b; /* division by zero is not masked */
    __asm__ volatile("fldcw %0; fldz; fld1; fdiv %%st(1), %%st" : : "m"(control));
    uint64_t here = 0;
    ok(TRAP("fwait", "d"(here)) == MF && *(uint8_t *)trap.ip == 0x9b, "FWAIT: #MF of what waits");
    __asm__ volatile("fninit");
    WRITE_CR(0, READ_CR(0) | CR0_TS);
    ok(TRAP("fwait", "d"(0)) == NM, "FWAIT with CR0.TS and MP: #NM");
    WRITE_CR(0, READ_CR(0) & ~(uint64_t)CR0_TS);
}

static uint8_t vector[32] __attribute__((aligned(16)));

static void device_stores(void)
{
    WRITE_CR(4, READ_CR(4) | CR4_OSFXSR | CR4_OSXMMEXCPT);
    ok(TRAP("movdqa (%0), %%xmm3; movaps %%xmm3, (%1)", "S"(vector), "D"(HOLE)) == NONE,
       "MOVAPS to where no memory is");
    ok(TRAP("movups %%xmm3, 3(%0)", "D"(HOLE)) == NONE, "MOVUPS, not aligned");
    ok(TRAP("movntdq %%xmm3, 16(%0)", "D"(HOLE)) == NONE, "MOVNTDQ");
    ok(TRAP("movlps %%xmm3, 24(%0)", "D"(HOLE)) == NONE, "MOVLPS");
    ok(TRAP("movaps %%xmm3, 1(%0)", "D"(HOLE)) == GP, "MOVAPS, not aligned: #GP");
    memset(vector + 16, 0, 16);
    __asm__ volatile("movdqa %%xmm3, (%0)" : : "D"(vector + 16) : "memory");
    bool same = true;
    for (unsigned i = 0; i < 16; i++) {
        same = same && vector[i] == vector[16 + i];
    }
    ok(same, "the register is what it was");
}

static uint8_t area[4096] __attribute__((aligned(64)));

static void extended_state(void)
{
    if (!has(1, 2, 26)) {
        skip("XSAVE", "CPUID has none");
        return;
    }
    WRITE_CR(4, READ_CR(4) | CR4_OSXSAVE | CR4_OSFXSR);
    memset(area, 0xa5, sizeof(area));
    memset(area + 512, 0, 64);
    __asm__ volatile("xor %%ecx, %%ecx; mov $3, %%eax; xor %%edx, %%edx; xsetbv"
                     :
                     :
                     : "eax", "ecx", "edx");
    __asm__ volatile("movdqa (%0), %%xmm5" : : "S"(vector));
    ok(TRAP("mov $3, %%eax; xsave (%0)", "D"(area), "d"(0)) == NONE, "XSAVE of x87 and SSE");
    bool same = area[512] & 2;
    for (unsigned i = 0; i < 16; i++) {
        same = same && area[160 + 5 * 16 + i] == vector[i];
    }
    ok(same, "XMM5 is in the area, and XSTATE_BV says so");
    area[160 + 5 * 16] ^= 0xff;
    ok(TRAP("mov $3, %%eax; xrstor (%0)", "D"(area), "d"(0)) == NONE, "XRSTOR");
    __asm__ volatile("movdqa %%xmm5, (%0)" : : "D"(vector + 16) : "memory");
    ok(vector[16] == (vector[0] ^ 0xff) && vector[17] == vector[1], "XMM5 is what the area had");
    ok(TRAP("mov $3, %%eax; xrstor 16(%0)", "D"(area), "d"(0)) == GP,
       "XRSTOR that is not aligned: #GP");
}

void guest_main(void)
{
    compare_and_exchange();
    counts();
    access_control();
    breakpoints();
    waits();
    for (unsigned i = 0; i < 16; i++) {
        vector[i] = (uint8_t)(i * 3 + 1);
    }
    extended_state();
    device_stores(); /* QEMU with KVM does not come further */
    finish();
}
