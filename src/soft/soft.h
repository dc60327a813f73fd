/*
 * What the VPs of one soft partition share: the memory slots, the page flags for decoded code, the
 * clock, the world lock.
 */
#ifndef PTA_SOFT_SOFT_H
#define PTA_SOFT_SOFT_H

#include "src/partition/backend.h"
#include "src/soft/x86-cpu.h"

typedef struct X86Slot {
    uint64_t gpa, size;
    uint8_t *host;
    unsigned flags;      /* PTA_MAP_* */
    uint8_t *code_pages; /* per page: ATOMIC, non-zero if any VP decoded code from it */
} X86Slot;

#define X86_MAX_SLOTS 64

struct X86Machine {
    PtaBackend be; /* base */
    const PtaPlatform *platform;
    const PtaCpuidTable *cpuid;
    unsigned n_vps;
    X86Cpu *vps[PTA_MAX_VPS];
    X86Slot slots[X86_MAX_SLOTS]; /* sorted by gpa; changes only while no VP runs */
    unsigned n_slots;
    GRecMutex world;      /* x86_lock_world: LOCK on what host atomics cannot do */
    uint64_t clock;       /* ATOMIC; soft.c: x86_clock_ns() reads it */
    uint32_t lowest_turn; /* ATOMIC; ipi.c: whose turn among equals */
};

/* The TSC and the input of the APIC timers tick with the partition's clock, once a nanosecond: an
 * interpreter has no frequency of its own, and so nothing is converted anywhere, a saved machine
 * fits every host, and the Hyper-V reference time is exact. */
#define X86_TSC_HZ  UINT64_C(1000000000)
#define X86_APIC_HZ UINT64_C(1000000000)

/* The slot that holds gpa, or NULL. */
const X86Slot *x86_slot(const X86Machine *m, uint64_t gpa);

/* Nanoseconds of the partition's clock; any thread. */
uint64_t x86_clock_ns(const X86Machine *m);

/* ---- service.c ---- */

/* x86_attend(), and wakes the VP if it sleeps in HLT. Any thread. */
void x86_notify(X86Cpu *c, uint32_t bits);
/* The APIC timer was set: the clock must be looked at in time. VP thread, or stopped. */
void x86_timer_armed(X86Cpu *c);
/* Turns HLT, INIT, SIPI and NMI messages that wait into state. VP thread, or stopped. */
void x86_take_messages(X86Cpu *c);

#endif
