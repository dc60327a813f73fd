/*
 * The local APIC by itself: the real lapic.c and ipi.c, on VPs that never run and a clock that the
 * test moves.
 */
#include "config.h"

#include "src/soft/lapic.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "src/soft/soft.h"

#define N_VPS 4

#define PAGE  UINT64_C(0xfee00000)
/* Registers, as offsets into the page. */
enum {
    ID = 0x20,
    VERSION_ = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR2 = 0x310,
    LVT_TIMER = 0x320,
    LVT_LINT0 = 0x350,
    LVT_ERROR = 0x370,
    ICOUNT = 0x380,
    CCOUNT = 0x390,
    DCR = 0x3e0,
    SELF_IPI = 0x3f0,
};

#define MASKED   0x10000u
#define PERIODIC 0x20000u
#define DEADLINE 0x40000u
#define MSR(reg) (0x800u + ((reg) >> 4))
#define BASE_BSP 0x100u
#define BASE_X2  0x400u
#define BASE_ON  0x800u
#define DIV_1    0xbu
#define DIV_2    0x0u
#define DIV_16   0x3u

/* ---- what the APIC stands on ---- */

static uint64_t fake_ns;
static unsigned n_armed, n_flushed;

uint64_t x86_clock_ns(const X86Machine *m)
{
    (void)m;
    return fake_ns;
}

void x86_notify(X86Cpu *c, uint32_t bits)
{
    x86_attend(c, bits);
}

void x86_timer_armed(X86Cpu *c)
{
    (void)c;
    n_armed++;
}

void x86_tlb_flush(X86Cpu *c, bool global_too)
{
    (void)c;
    (void)global_too;
    n_flushed++;
}

typedef struct World {
    X86Machine machine;
    PtaCpuidTable cpuid;
    PtaPlatform platform;
    unsigned n_eoi;
    uint8_t eoi;
} World;

static void on_eoi(void *opaque, uint8_t vector)
{
    World *w = opaque;
    w->n_eoi++;
    w->eoi = vector;
}

static int setup(void **state)
{
    World *w = g_new0(World, 1);
    PtaCpuidParams p = { .model = "x86-64-v1",
                         .n_vps = N_VPS,
                         .tsc_hz = X86_TSC_HZ,
                         .apic_hz = X86_APIC_HZ,
                         .supported = UINT64_MAX };
    if (!pta_cpuid_build(&w->cpuid, &p, NULL)) {
        return -1;
    }
    w->platform = (PtaPlatform){ .opaque = w, .eoi = on_eoi };
    w->machine.platform = &w->platform;
    w->machine.cpuid = &w->cpuid;
    w->machine.n_vps = N_VPS;
    w->machine.tsc_hz = X86_TSC_HZ;
    for (unsigned i = 0; i < N_VPS; i++) {
        X86Cpu *c = g_aligned_alloc0(1, sizeof(X86Cpu), G_ALIGNOF(X86Cpu));
        c->machine = &w->machine;
        c->index = i;
        c->cpuid = &w->cpuid;
        c->lapic = x86_lapic_new(c);
        w->machine.vps[i] = c;
        x86_lapic_power_up(c);
    }
    fake_ns = 1000;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    World *w = *state;
    for (unsigned i = 0; i < N_VPS; i++) {
        x86_lapic_free(w->machine.vps[i]->lapic);
        g_aligned_free(w->machine.vps[i]);
    }
    g_free(w);
    return 0;
}

static X86Cpu *vp(World *w, unsigned i)
{
    return w->machine.vps[i];
}

static uint32_t rd(X86Cpu *c, unsigned reg)
{
    uint64_t v = 0;
    assert_true(x86_lapic_mmio(c, PAGE + reg, false, 4, &v));
    return (uint32_t)v;
}

static void wr(X86Cpu *c, unsigned reg, uint32_t value)
{
    uint64_t v = value;
    assert_true(x86_lapic_mmio(c, PAGE + reg, true, 4, &v));
}

static uint64_t rdmsr(X86Cpu *c, uint32_t msr)
{
    uint64_t v = 0;
    assert_true(x86_lapic_rdmsr(c, msr, &v));
    return v;
}

static void wrmsr(X86Cpu *c, uint32_t msr, uint64_t value)
{
    assert_true(x86_lapic_wrmsr(c, msr, value));
}

static void enable_all(World *w)
{
    for (unsigned i = 0; i < N_VPS; i++) {
        wr(vp(w, i), SVR, 0x1ff);
    }
}

static void to_x2(X86Cpu *c)
{
    wrmsr(c, X86_MSR_APIC_BASE, rdmsr(c, X86_MSR_APIC_BASE) | BASE_X2);
}

static bool in_set(X86Cpu *c, unsigned set, uint8_t vector)
{
    return rd(c, set + (vector >> 5) * 0x10u) >> (vector & 31) & 1;
}

/* Takes what is pending, which must be `vector`. */
static void take(X86Cpu *c, int vector)
{
    assert_int_equal(x86_lapic_pending(c), vector);
    if (vector >= 0) {
        x86_lapic_accept(c, (uint8_t)vector);
    }
}

/* Which VPs have the vector in IRR; and forgets it everywhere. */
static unsigned who_got(World *w, uint8_t vector)
{
    unsigned set = 0;
    for (unsigned i = 0; i < N_VPS; i++) {
        X86Cpu *c = vp(w, i);
        if (x86_lapic_pending(c) == vector) {
            set |= 1u << i;
            x86_lapic_accept(c, vector);
            if (c->msr.apic_base & BASE_X2) {
                wrmsr(c, MSR(EOI), 0);
            } else {
                wr(c, EOI, 0);
            }
        }
    }
    return set;
}

static uint32_t attention(World *w, unsigned i)
{
    uint32_t a = vp(w, i)->attention;
    vp(w, i)->attention = 0;
    return a;
}

static void msi(World *w, uint8_t dest, bool logical, unsigned kind, uint8_t vector, bool level)
{
    x86_msi(&w->machine, PAGE | (uint64_t)dest << 12 | (logical ? 4u : 0),
            vector | kind << 8 | (level ? 0xc000u : 0));
}

/* ---- registers ---- */

static void power_up_state(void **state)
{
    World *w = *state;
    for (unsigned i = 0; i < N_VPS; i++) {
        X86Cpu *c = vp(w, i);
        assert_int_equal(rd(c, ID), i << 24);
        assert_int_equal(rd(c, VERSION_), 0x01050014);
        assert_int_equal(rd(c, SVR), 0xff);
        assert_int_equal(rd(c, DFR), UINT32_MAX);
        for (unsigned reg = LVT_TIMER; reg <= LVT_ERROR; reg += 0x10) {
            assert_int_equal(rd(c, reg), MASKED);
        }
        assert_int_equal(rdmsr(c, X86_MSR_APIC_BASE), PAGE | BASE_ON | (i == 0 ? BASE_BSP : 0));
    }
}

static void registers_keep_what_they_may(void **state)
{
    X86Cpu *c = vp(*state, 0);
    wr(c, SVR, UINT32_MAX);
    assert_int_equal(rd(c, SVR), 0x13ff);
    wr(c, LVT_TIMER, UINT32_MAX);
    assert_int_equal(rd(c, LVT_TIMER), 0x700ff);
    wr(c, LVT_LINT0, UINT32_MAX);
    assert_int_equal(rd(c, LVT_LINT0), 0x1a7ff);
    wr(c, DCR, UINT32_MAX);
    assert_int_equal(rd(c, DCR), 0xb);
    wr(c, DFR, 0);
    assert_int_equal(rd(c, DFR), 0x0fffffff);
    wr(c, LDR, UINT32_MAX);
    assert_int_equal(rd(c, LDR), 0xff000000);
    wr(c, TPR, 0x1a5);
    assert_int_equal(rd(c, TPR), 0xa5);
    assert_int_equal(x86_lapic_tpr(c), 0xa); /* CR8 */
    x86_lapic_set_tpr(c, 3);
    assert_int_equal(rd(c, TPR), 0x30);
    /* Software disable masks the LVT and keeps it masked. */
    wr(c, LVT_ERROR, 0x20);
    wr(c, SVR, 0xff);
    assert_int_equal(rd(c, LVT_ERROR), 0x20 | MASKED);
    wr(c, LVT_ERROR, 0x20);
    assert_int_equal(rd(c, LVT_ERROR), 0x20 | MASKED);
}

static void narrow_and_crooked_accesses_are_harmless(void **state)
{
    X86Cpu *c = vp(*state, 2);
    uint64_t v = 0;
    assert_true(x86_lapic_mmio(c, PAGE + ID + 3, false, 1, &v));
    assert_int_equal(v, 2);
    assert_true(x86_lapic_mmio(c, PAGE + ID + 4, false, 4, &v));
    assert_int_equal(v, 0);
    v = 0xff;
    assert_true(x86_lapic_mmio(c, PAGE + TPR, true, 1, &v));
    assert_true(x86_lapic_mmio(c, PAGE + TPR + 2, true, 4, &v));
    assert_int_equal(rd(c, TPR), 0);
    assert_true(x86_lapic_mmio(c, PAGE + 0xffc, false, 4, &v));
    assert_false(x86_lapic_mmio(c, PAGE + 0x1000, false, 4, &v));
    assert_false(x86_lapic_mmio(c, PAGE - 4, false, 4, &v));
}

static void unknown_registers_set_esr(void **state)
{
    X86Cpu *c = vp(*state, 0);
    rd(c, 0x40);
    assert_int_equal(rd(c, ESR), 0); /* until it is written */
    wr(c, ESR, 0);
    assert_int_equal(rd(c, ESR), 0x80);
    wr(c, ESR, 0);
    assert_int_equal(rd(c, ESR), 0);
    wr(c, VERSION_, 1); /* read-only */
    wr(c, 0xff0, 1);
    wr(c, ESR, 0);
    assert_int_equal(rd(c, ESR), 0x80);
}

/* ---- base and modes ---- */

static void the_page_moves_and_goes(void **state)
{
    X86Cpu *c = vp(*state, 0);
    uint64_t v;
    unsigned flushed = n_flushed;
    wrmsr(c, X86_MSR_APIC_BASE, UINT64_C(0xd0000000) | BASE_ON | BASE_BSP);
    assert_true(n_flushed > flushed);
    assert_false(x86_lapic_mmio(c, PAGE + ID, false, 4, &v));
    assert_true(x86_lapic_mmio(c, UINT64_C(0xd0000000) + VERSION_, false, 4, &v));
    wrmsr(c, X86_MSR_APIC_BASE, PAGE | BASE_BSP); /* off */
    assert_false(x86_lapic_mmio(c, PAGE + ID, false, 4, &v));
    assert_false(x86_lapic_wrmsr(c, X86_MSR_APIC_BASE, PAGE | BASE_BSP | 1));
    assert_false(x86_lapic_wrmsr(c, X86_MSR_APIC_BASE, PAGE | BASE_ON | 0x200));
    assert_false(x86_lapic_wrmsr(c, X86_MSR_APIC_BASE, UINT64_C(1) << 40 | BASE_ON));
}

static void x2apic_transitions(void **state)
{
    X86Cpu *c = vp(*state, 1);
    uint64_t v;
    assert_false(x86_lapic_rdmsr(c, MSR(ID), &v)); /* not in xAPIC mode */
    assert_false(x86_lapic_wrmsr(c, X86_MSR_APIC_BASE, PAGE | BASE_X2));
    to_x2(c);
    assert_int_equal(rdmsr(c, MSR(ID)), 1);
    assert_int_equal(rdmsr(c, MSR(LDR)), 2);
    assert_false(x86_lapic_mmio(c, PAGE + ID, false, 4, &v));
    assert_false(x86_lapic_wrmsr(c, X86_MSR_APIC_BASE, PAGE | BASE_ON)); /* not back */
    wrmsr(c, X86_MSR_APIC_BASE, PAGE);
    assert_false(x86_lapic_wrmsr(c, X86_MSR_APIC_BASE, PAGE | BASE_ON | BASE_X2));
    wrmsr(c, X86_MSR_APIC_BASE, PAGE | BASE_ON);
    assert_int_equal(rd(c, SVR), 0xff); /* what it had been told is gone */
}

static void x2apic_registers_are_strict(void **state)
{
    X86Cpu *c = vp(*state, 0);
    to_x2(c);
    static const uint32_t read_only[] = { ID, VERSION_, PPR, LDR, ISR, TMR, IRR, CCOUNT };
    for (size_t i = 0; i < G_N_ELEMENTS(read_only); i++) {
        rdmsr(c, MSR(read_only[i]));
        assert_false(x86_lapic_wrmsr(c, MSR(read_only[i]), 0));
    }
    static const uint32_t absent[] = { 0x00, 0x90,  0xc0,  DFR,   0x2f0,
                                       ICR2, 0x3a0, 0x3d0, 0x400, 0xff0 };
    uint64_t v;
    for (size_t i = 0; i < G_N_ELEMENTS(absent); i++) {
        assert_false(x86_lapic_rdmsr(c, MSR(absent[i]), &v));
        assert_false(x86_lapic_wrmsr(c, MSR(absent[i]), 0));
    }
    assert_false(x86_lapic_rdmsr(c, MSR(EOI), &v));
    assert_false(x86_lapic_rdmsr(c, MSR(SELF_IPI), &v));
    assert_false(x86_lapic_wrmsr(c, MSR(EOI), 1));
    assert_false(x86_lapic_wrmsr(c, MSR(ESR), 1));
    assert_false(x86_lapic_wrmsr(c, MSR(TPR), 0x100));
    assert_false(x86_lapic_wrmsr(c, MSR(SVR), UINT64_C(1) << 32));
    assert_false(x86_lapic_wrmsr(c, MSR(LVT_TIMER), 0x100));
    wrmsr(c, MSR(EOI), 0);
    wrmsr(c, MSR(ESR), 0);
    wrmsr(c, MSR(TPR), 0xff);
}

/* ---- priorities ---- */

static void the_highest_class_goes_first(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    enable_all(w);
    msi(w, 0, false, 0, 0x31, false);
    msi(w, 0, false, 0, 0x62, false);
    msi(w, 0, false, 0, 0x65, false);
    assert_true(attention(w, 0) & X86_ATT_IRQ);
    assert_true(in_set(c, IRR, 0x31));
    take(c, 0x65);
    assert_true(in_set(c, ISR, 0x65));
    assert_false(in_set(c, IRR, 0x65));
    assert_int_equal(rd(c, PPR), 0x60);
    take(c, -1); /* 62 is of the same class, 31 of a lower one */
    msi(w, 0, false, 0, 0x71, false);
    take(c, 0x71); /* nests */
    wr(c, EOI, 0);
    assert_int_equal(rd(c, PPR), 0x60);
    take(c, -1);
    attention(w, 0);
    wr(c, EOI, 0);
    assert_true(attention(w, 0) & X86_ATT_IRQ); /* the VP is told */
    take(c, 0x62);
    wr(c, EOI, 0);
    take(c, 0x31);
    wr(c, EOI, 0);
    take(c, -1);
    wr(c, EOI, 0); /* of nothing */
}

static void the_task_priority_holds_back(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    enable_all(w);
    wr(c, TPR, 0x47);
    assert_int_equal(rd(c, PPR), 0x47);
    msi(w, 0, false, 0, 0x4f, false);
    take(c, -1);
    msi(w, 0, false, 0, 0x50, false);
    take(c, 0x50);
    assert_int_equal(rd(c, PPR), 0x50);
    wr(c, EOI, 0);
    attention(w, 0);
    x86_lapic_set_tpr(c, 3);
    assert_true(attention(w, 0) & X86_ATT_IRQ);
    take(c, 0x4f);
}

static void a_disabled_apic_takes_nothing(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    msi(w, 0, false, 0, 0x50, false); /* SVR.8 is clear */
    assert_false(in_set(c, IRR, 0x50));
    wr(c, SVR, 0x1ff);
    msi(w, 0, false, 0, 0x50, false);
    wr(c, SVR, 0xff);
    take(c, -1); /* held */
    attention(w, 0);
    wr(c, SVR, 0x1ff);
    assert_true(attention(w, 0) & X86_ATT_IRQ);
    take(c, 0x50);
    wrmsr(c, X86_MSR_APIC_BASE, PAGE | BASE_BSP);
    msi(w, 0, false, 4, 0, false);
    assert_int_equal(attention(w, 0), 0);
}

static void level_interrupts_are_told_at_eoi(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    enable_all(w);
    msi(w, 0, false, 0, 0x51, true);
    assert_true(in_set(c, TMR, 0x51));
    take(c, 0x51);
    assert_int_equal(w->n_eoi, 0);
    wr(c, EOI, 0);
    assert_int_equal(w->n_eoi, 1);
    assert_int_equal(w->eoi, 0x51);
    msi(w, 0, false, 0, 0x51, false); /* now an edge */
    assert_false(in_set(c, TMR, 0x51));
    take(c, 0x51);
    wr(c, EOI, 0);
    assert_int_equal(w->n_eoi, 1);
    /* Directed EOI: the guest tells the IOAPIC itself. */
    wr(c, SVR, 0x11ff);
    msi(w, 0, false, 0, 0x51, true);
    take(c, 0x51);
    wr(c, EOI, 0);
    assert_int_equal(w->n_eoi, 1);
}

/* ---- destinations ---- */

static void physical_destinations(void **state)
{
    World *w = *state;
    enable_all(w);
    for (unsigned i = 0; i < N_VPS; i++) {
        msi(w, (uint8_t)i, false, 0, 0x40, false);
        assert_int_equal(who_got(w, 0x40), 1u << i);
    }
    msi(w, 0xff, false, 0, 0x40, false);
    assert_int_equal(who_got(w, 0x40), 0xf);
    msi(w, 0x80, false, 0, 0x40, false);
    assert_int_equal(who_got(w, 0x40), 0);
    to_x2(vp(w, 2)); /* mixed: the broadcast still reaches it */
    msi(w, 0xff, false, 0, 0x40, false);
    assert_int_equal(who_got(w, 0x40), 0xf);
    msi(w, 2, false, 0, 0x40, false);
    assert_int_equal(who_got(w, 0x40), 4);
    x86_msi(&w->machine, UINT64_C(0xfed00000), 0x40); /* not an APIC's address */
    assert_int_equal(who_got(w, 0x40), 0);
}

static void logical_destinations_flat_and_cluster(void **state)
{
    World *w = *state;
    enable_all(w);
    for (unsigned i = 0; i < N_VPS; i++) {
        wr(vp(w, i), LDR, 1u << (24 + i));
    }
    for (unsigned set = 0; set < 16; set++) {
        msi(w, (uint8_t)set, true, 0, 0x41, false);
        assert_int_equal(who_got(w, 0x41), set);
    }
    /* Two clusters of two. */
    for (unsigned i = 0; i < N_VPS; i++) {
        wr(vp(w, i), DFR, 0x0fffffff);
        wr(vp(w, i), LDR, (i / 2) << 28 | 1u << (24 + i % 2));
    }
    msi(w, 0x03, true, 0, 0x41, false);
    assert_int_equal(who_got(w, 0x41), 3);
    msi(w, 0x12, true, 0, 0x41, false);
    assert_int_equal(who_got(w, 0x41), 8);
    msi(w, 0xf1, true, 0, 0x41, false); /* all clusters */
    assert_int_equal(who_got(w, 0x41), 5);
    msi(w, 0x21, true, 0, 0x41, false);
    assert_int_equal(who_got(w, 0x41), 0);
}

static void ipi(World *w, unsigned from, uint32_t dest, uint32_t low)
{
    wr(vp(w, from), ICR2, dest << 24);
    wr(vp(w, from), ICR, low);
}

static void ipis_and_shorthands(void **state)
{
    World *w = *state;
    enable_all(w);
    ipi(w, 1, 3, 0x42);
    assert_int_equal(who_got(w, 0x42), 8);
    assert_int_equal(rd(vp(w, 1), ICR), 0x42);
    assert_int_equal(rd(vp(w, 1), ICR2), 3u << 24);
    ipi(w, 1, 0xff, 0x42);
    assert_int_equal(who_got(w, 0x42), 0xf);
    ipi(w, 1, 0, 0x42 | 1u << 18);
    assert_int_equal(who_got(w, 0x42), 2);
    ipi(w, 1, 0, 0x42 | 2u << 18);
    assert_int_equal(who_got(w, 0x42), 0xf);
    ipi(w, 1, 0, 0x42 | 3u << 18);
    assert_int_equal(who_got(w, 0x42), 0xd);
}

static void x2apic_ipis(void **state)
{
    World *w = *state;
    enable_all(w);
    for (unsigned i = 0; i < N_VPS; i++) {
        to_x2(vp(w, i));
    }
    X86Cpu *c = vp(w, 0);
    wrmsr(c, MSR(ICR), UINT64_C(2) << 32 | 0x43);
    assert_int_equal(who_got(w, 0x43), 4);
    assert_int_equal(rdmsr(c, MSR(ICR)), UINT64_C(2) << 32 | 0x43);
    wrmsr(c, MSR(ICR), UINT64_C(0xffffffff) << 32 | 0x43);
    assert_int_equal(who_got(w, 0x43), 0xf);
    wrmsr(c, MSR(ICR), UINT64_C(0xff) << 32 | 0x43); /* an id like any other */
    assert_int_equal(who_got(w, 0x43), 0);
    wrmsr(c, MSR(ICR), UINT64_C(0x0000000a) << 32 | 0x843); /* logical: cluster 0, members 1, 3 */
    assert_int_equal(who_got(w, 0x43), 0xa);
    wrmsr(c, MSR(ICR), UINT64_C(0x0001000a) << 32 | 0x843); /* another cluster */
    assert_int_equal(who_got(w, 0x43), 0);
    wrmsr(c, MSR(SELF_IPI), 0x43);
    assert_int_equal(who_got(w, 0x43), 1);
    assert_false(x86_lapic_wrmsr(c, MSR(SELF_IPI), 0x143));
}

static void lowest_priority_goes_in_turns_to_the_least_busy(void **state)
{
    World *w = *state;
    enable_all(w);
    for (unsigned i = 0; i < N_VPS; i++) {
        wr(vp(w, i), LDR, 1u << (24 + i));
    }
    unsigned seen = 0;
    for (unsigned i = 0; i < N_VPS; i++) {
        msi(w, 0xf, true, 1, 0x44, false);
        unsigned got = who_got(w, 0x44);
        assert_true(pta_is_pow2(got));
        seen |= got;
    }
    assert_int_equal(seen, 0xf); /* in turns */
    wr(vp(w, 0), TPR, 0x20);
    wr(vp(w, 1), TPR, 0x20);
    wr(vp(w, 3), TPR, 0x20);
    for (unsigned i = 0; i < N_VPS; i++) {
        msi(w, 0xf, true, 1, 0x44, false);
        assert_int_equal(who_got(w, 0x44), 4);
    }
    wr(vp(w, 2), SVR, 0xff); /* it does not take any more */
    msi(w, 0x6, true, 1, 0x44, false);
    assert_int_equal(who_got(w, 0x44), 2);
}

static void other_delivery_modes(void **state)
{
    World *w = *state;
    msi(w, 1, false, 4, 0, false); /* NMI: even to one that software disabled */
    assert_int_equal(attention(w, 1), X86_ATT_NMI);
    ipi(w, 0, 2, 0x4500);
    assert_int_equal(attention(w, 2), X86_ATT_INIT);
    ipi(w, 0, 2, 0x8500); /* level de-assert */
    assert_int_equal(attention(w, 2), 0);
    ipi(w, 0, 2, 0x69a);
    assert_int_equal(attention(w, 2), X86_ATT_SIPI);
    assert_int_equal(x86_lapic_sipi_vector(vp(w, 2)), 0x9a);
    ipi(w, 0, 0, 0x4500 | 3u << 18);
    for (unsigned i = 0; i < N_VPS; i++) {
        assert_int_equal(attention(w, i), i ? X86_ATT_INIT : 0);
    }
    msi(w, 0, false, 2, 0, false); /* SMI: there is none */
    assert_int_equal(attention(w, 0), 0);
    enable_all(w);
    attention(w, 0);
    msi(w, 0, false, 7, 0x33, false);
    assert_int_equal(attention(w, 0), X86_ATT_IRQ);
    assert_true(x86_lapic_extint_pending(vp(w, 0)));
    assert_int_equal(x86_lapic_extint_accept(vp(w, 0)), 0x33);
    assert_false(x86_lapic_extint_pending(vp(w, 0)));
    assert_int_equal(x86_lapic_pending(vp(w, 0)), -1);
}

static void illegal_vectors_are_errors(void **state)
{
    World *w = *state;
    enable_all(w);
    X86Cpu *c = vp(w, 0);
    wr(c, LVT_ERROR, 0xe0);
    ipi(w, 0, 1, 0x0f);
    assert_int_equal(who_got(w, 0xf), 0);
    take(c, 0xe0);
    wr(c, ESR, 0);
    assert_int_equal(rd(c, ESR), 0x20);
    wr(c, EOI, 0);
    msi(w, 0, false, 0, 0x0f, false);
    take(c, 0xe0);
    wr(c, ESR, 0);
    assert_int_equal(rd(c, ESR), 0x40);
}

/* ---- timer ---- */

static void run_to(X86Cpu *c, uint64_t ns)
{
    fake_ns = ns;
    x86_lapic_timer(c, ns);
}

static void one_shot(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    enable_all(w);
    wr(c, DCR, DIV_16);
    wr(c, LVT_TIMER, 0x55);
    unsigned armed = n_armed;
    wr(c, ICOUNT, 100);
    assert_true(n_armed > armed);
    assert_int_equal(x86_lapic_next_expiry(c), 1000 + 1600);
    assert_int_equal(rd(c, CCOUNT), 100);
    fake_ns = 1000 + 160;
    assert_int_equal(rd(c, CCOUNT), 90);
    run_to(c, 2599);
    assert_int_equal(rd(c, CCOUNT), 1);
    take(c, -1);
    run_to(c, 2600);
    assert_int_equal(rd(c, CCOUNT), 0);
    take(c, 0x55);
    wr(c, EOI, 0);
    assert_int_equal(x86_lapic_next_expiry(c), UINT64_MAX);
    run_to(c, 1000000);
    take(c, -1);
    assert_int_equal(rd(c, ICOUNT), 100);
    wr(c, ICOUNT, 1000);
    wr(c, ICOUNT, 0); /* stops it */
    assert_int_equal(x86_lapic_next_expiry(c), UINT64_MAX);
    assert_int_equal(rd(c, CCOUNT), 0);
}

static void periodic(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    enable_all(w);
    wr(c, DCR, DIV_1);
    wr(c, LVT_TIMER, 0x56 | PERIODIC);
    wr(c, ICOUNT, 1000);
    for (unsigned i = 1; i <= 5; i++) {
        run_to(c, 1000 + i * 1000u + 30); /* late, but it does not drift */
        take(c, 0x56);
        wr(c, EOI, 0);
        assert_int_equal(rd(c, CCOUNT), 970);
        assert_int_equal(x86_lapic_next_expiry(c), 2000 + i * 1000u);
    }
    run_to(c, 1000 + 50500); /* nobody looked for long: one interrupt, in step */
    take(c, 0x56);
    wr(c, EOI, 0);
    take(c, -1);
    assert_int_equal(x86_lapic_next_expiry(c), 52000);
    wr(c, LVT_TIMER, 0x56 | PERIODIC | MASKED);
    run_to(c, 60000);
    take(c, -1);
    assert_int_equal(x86_lapic_next_expiry(c), 61000); /* it counts on */
    wr(c, LVT_TIMER, 0x56);                            /* one-shot: the count goes to its end */
    run_to(c, 61000);
    take(c, 0x56);
    assert_int_equal(x86_lapic_next_expiry(c), UINT64_MAX);
}

static void the_divider_may_change_under_way(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    static const struct {
        uint32_t dcr;
        unsigned by;
    } dividers[] = { { 0, 2 },  { 1, 4 },  { 2, 8 },     { 3, 16 },
                     { 8, 32 }, { 9, 64 }, { 0xa, 128 }, { 0xb, 1 } };
    enable_all(w);
    for (size_t i = 0; i < G_N_ELEMENTS(dividers); i++) {
        wr(c, DCR, dividers[i].dcr);
        wr(c, ICOUNT, 1000);
        assert_int_equal(x86_lapic_next_expiry(c), fake_ns + 1000 * dividers[i].by);
    }
    wr(c, DCR, DIV_2);
    wr(c, ICOUNT, 1000);
    fake_ns += 1000; /* half */
    wr(c, DCR, DIV_16);
    assert_int_equal(rd(c, CCOUNT), 500);
    assert_int_equal(x86_lapic_next_expiry(c), fake_ns + 8000);
}

static void tsc_deadline(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    enable_all(w);
    c->tsc_offset = 500000;
    wrmsr(c, X86_MSR_TSC_DEADLINE, 600000); /* not in this mode */
    assert_int_equal(rdmsr(c, X86_MSR_TSC_DEADLINE), 0);
    wr(c, LVT_TIMER, 0x57 | DEADLINE);
    wr(c, ICOUNT, 77); /* ignored */
    assert_int_equal(x86_lapic_next_expiry(c), UINT64_MAX);
    wrmsr(c, X86_MSR_TSC_DEADLINE, 600000);
    assert_int_equal(rdmsr(c, X86_MSR_TSC_DEADLINE), 600000);
    assert_int_equal(x86_lapic_next_expiry(c), 100000);
    assert_int_equal(rd(c, CCOUNT), 0);
    run_to(c, 99999);
    take(c, -1);
    run_to(c, 100000);
    take(c, 0x57);
    wr(c, EOI, 0);
    assert_int_equal(rdmsr(c, X86_MSR_TSC_DEADLINE), 0);
    /* In the past: at once. */
    wrmsr(c, X86_MSR_TSC_DEADLINE, 1);
    run_to(c, fake_ns);
    take(c, 0x57);
    wr(c, EOI, 0);
    /* Far away, and disarmed by zero. */
    wrmsr(c, X86_MSR_TSC_DEADLINE, UINT64_MAX);
    assert_true(x86_lapic_next_expiry(c) > UINT64_MAX / 2);
    assert_int_not_equal(rdmsr(c, X86_MSR_TSC_DEADLINE), 0);
    wrmsr(c, X86_MSR_TSC_DEADLINE, 0);
    assert_int_equal(x86_lapic_next_expiry(c), UINT64_MAX);
    /* The TSC is written: the deadline is one of the TSC, not of time. */
    wrmsr(c, X86_MSR_TSC_DEADLINE, 800000);
    c->tsc_offset += 100000;
    x86_lapic_tsc_changed(c);
    assert_int_equal(x86_lapic_next_expiry(c), 200000);
    /* Another mode disarms. */
    wr(c, LVT_TIMER, 0x57);
    assert_int_equal(x86_lapic_next_expiry(c), UINT64_MAX);
    wr(c, LVT_TIMER, 0x57 | DEADLINE);
    assert_int_equal(rdmsr(c, X86_MSR_TSC_DEADLINE), 0);
}

/* ---- INIT and state ---- */

static void init_keeps_the_id_and_the_mode(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 3);
    enable_all(w);
    to_x2(c);
    msi(w, 3, false, 0, 0x50, false);
    x86_lapic_init(c);
    assert_int_equal(rdmsr(c, MSR(ID)), 3);
    assert_int_equal(rdmsr(c, MSR(LDR)), 8);
    assert_int_equal(rdmsr(c, MSR(SVR)), 0xff);
    assert_int_equal(rdmsr(c, X86_MSR_APIC_BASE), PAGE | BASE_ON | BASE_X2);
    assert_int_equal(rdmsr(c, MSR(IRR) + 2), 0);
}

static void state_round_trip(void **state)
{
    World *w = *state;
    for (unsigned x2 = 0; x2 < 2; x2++) {
        X86Cpu *c = vp(w, x2);
        if (x2) {
            to_x2(c);
            wrmsr(c, MSR(SVR), 0x1ff);
            wrmsr(c, MSR(LVT_TIMER), 0x58 | PERIODIC);
            wrmsr(c, MSR(ICR), UINT64_C(0x12345678) << 32 | 0x99);
            wrmsr(c, MSR(ICOUNT), 5000);
        } else {
            wr(c, SVR, 0x1ff);
            wr(c, TPR, 0x10);
            wr(c, LDR, 0x01000000);
            wr(c, LVT_TIMER, 0x58 | PERIODIC);
            wr(c, ICOUNT, 5000);
        }
        msi(w, (uint8_t)x2, false, 0, 0x61, true);
        take(c, 0x61);
        msi(w, (uint8_t)x2, false, 0, 0x32, false);
        PtaX86Lapic one, two;
        x86_lapic_get(c, &one);
        uint64_t base = c->msr.apic_base, deadline = x86_lapic_deadline(c);
        assert_int_equal(one.timer_expiry_ns, x86_lapic_next_expiry(c));
        x86_lapic_power_up(c);
        g_autoptr(GError) error = NULL;
        assert_true(x86_lapic_check(c, &one, base, &error));
        c->attention = 0;
        x86_lapic_set(c, &one, base, deadline);
        assert_true(c->attention & X86_ATT_IRQ);
        x86_lapic_get(c, &two);
        assert_memory_equal(&one, &two, sizeof(one));
        assert_int_equal(c->msr.apic_base, base);
        take(c, -1); /* 61 is in service */
    }
}

static void the_deadline_is_restored(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 0);
    enable_all(w);
    wr(c, LVT_TIMER, 0x57 | DEADLINE);
    wrmsr(c, X86_MSR_TSC_DEADLINE, 90000);
    PtaX86Lapic s;
    x86_lapic_get(c, &s);
    x86_lapic_power_up(c);
    assert_int_equal(x86_lapic_next_expiry(c), UINT64_MAX);
    x86_lapic_set(c, &s, c->msr.apic_base, 90000);
    assert_int_equal(x86_lapic_next_expiry(c), 90000);
    assert_int_equal(rdmsr(c, X86_MSR_TSC_DEADLINE), 90000);
}

static void hostile_states_are_refused(void **state)
{
    World *w = *state;
    X86Cpu *c = vp(w, 1);
    PtaX86Lapic good;
    x86_lapic_get(c, &good);
    uint64_t base = c->msr.apic_base;
    static const struct {
        unsigned offset;
        uint8_t value;
    } bad[] = {
        { ID, 1 },  { TPR + 1, 1 },       { SVR + 1, 0x20 }, { ISR, 1 }, { IRR + 1, 0x80 },
        { TMR, 4 }, { LVT_TIMER + 3, 1 }, { DCR, 4 },        { DFR, 0 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        PtaX86Lapic s = good;
        s.page[bad[i].offset] = bad[i].value;
        g_autoptr(GError) error = NULL;
        assert_false(x86_lapic_check(c, &s, base, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
    }
    assert_false(x86_lapic_check(c, &good, base | 1, NULL));
    assert_false(x86_lapic_check(c, &good, (base & ~(uint64_t)BASE_ON) | BASE_X2, NULL));
    assert_false(x86_lapic_check(c, &good, base | UINT64_C(1) << 50, NULL));
    assert_false(x86_lapic_check(c, &good, base | BASE_X2, NULL)); /* the id is in xAPIC's form */
    assert_true(x86_lapic_check(c, &good, base, NULL));
    /* A timer that is due in the past of a restored clock fires; the largest numbers do no harm. */
    PtaX86Lapic s = good;
    memset(s.page + ICOUNT, 0xff, 4);
    memset(s.page + SVR + 1, 1, 1);
    s.page[LVT_TIMER] = 0x59;
    s.page[LVT_TIMER + 2] = 2;
    s.timer_expiry_ns = 1;
    x86_lapic_set(c, &s, base, UINT64_MAX);
    run_to(c, UINT64_MAX / 4);
    take(c, 0x59);
    assert_true(x86_lapic_next_expiry(c) > fake_ns);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(power_up_state),
        T(registers_keep_what_they_may),
        T(narrow_and_crooked_accesses_are_harmless),
        T(unknown_registers_set_esr),
        T(the_page_moves_and_goes),
        T(x2apic_transitions),
        T(x2apic_registers_are_strict),
        T(the_highest_class_goes_first),
        T(the_task_priority_holds_back),
        T(a_disabled_apic_takes_nothing),
        T(level_interrupts_are_told_at_eoi),
        T(physical_destinations),
        T(logical_destinations_flat_and_cluster),
        T(ipis_and_shorthands),
        T(x2apic_ipis),
        T(lowest_priority_goes_in_turns_to_the_least_busy),
        T(other_delivery_modes),
        T(illegal_vectors_are_errors),
        T(one_shot),
        T(periodic),
        T(the_divider_may_change_under_way),
        T(tsc_deadline),
        T(init_keeps_the_id_and_the_mode),
        T(state_round_trip),
        T(the_deadline_is_restored),
        T(hostile_states_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
