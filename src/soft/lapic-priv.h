/* The inside of the local APIC, for lapic.c and ipi.c. */
#ifndef PTA_SOFT_LAPIC_PRIV_H
#define PTA_SOFT_LAPIC_PRIV_H

#include "src/soft/lapic.h"
#include "src/soft/soft.h"

#define X86_N_LVT      6

#define X86_SVR_ENABLE (UINT32_C(1) << 8)

enum {
    X86_LAPIC_ON = 1 << 0, /* IA32_APIC_BASE.EN */
    X86_LAPIC_X2 = 1 << 1, /* IA32_APIC_BASE.EXTD */
};

/* Delivery modes (SDM vol. 3, 10.6.1, 10.11.2). */
enum {
    X86_DELIVER_FIXED,
    X86_DELIVER_LOWEST,
    X86_DELIVER_SMI,
    X86_DELIVER_RESERVED,
    X86_DELIVER_NMI,
    X86_DELIVER_INIT,
    X86_DELIVER_STARTUP,
    X86_DELIVER_EXTINT,
};

struct X86Lapic {
    X86Cpu *cpu; /* CONST */

    /* ATOMIC: senders write or compare with these. Those of the second line have one writer, the
     * VP, which therefore may read them plainly. */
    uint32_t irr[8], tmr[8], esr_new, extint /* 0x100 | vector, or 0 */, sipi;
    uint32_t id, ldr, dfr, svr, ppr, mode /* X86_LAPIC_* */;

    /* VP */
    uint32_t isr[8];
    uint32_t tpr;
    uint32_t esr, esr_pending;
    uint64_t icr;
    uint32_t lvt[X86_N_LVT];
    uint32_t icount, dcr;
    uint64_t timer_expiry; /* nanoseconds of the partition's clock; UINT64_MAX: off */
    uint64_t deadline;     /* IA32_TSC_DEADLINE */
};

static inline uint32_t x86_get(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void x86_put(uint32_t *p, uint32_t value)
{
    __atomic_store_n(p, value, __ATOMIC_RELAXED);
}

/* Enabled in both ways: it takes fixed interrupts. */
static inline bool x86_lapic_takes(const X86Lapic *l)
{
    return (x86_get(&l->mode) & X86_LAPIC_ON) && (x86_get(&l->svr) & X86_SVR_ENABLE);
}

/* A fixed interrupt arrives. Any thread. */
void x86_lapic_post(X86Lapic *l, uint8_t vector, bool level);

/* Sends what ICR says; the vector was checked. VP thread. */
void x86_ipi_send(X86Lapic *from, uint64_t icr);

#endif
