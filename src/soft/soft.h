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
    PtaBackend be;                /* base */
    const PtaPlatform *platform;
    const PtaCpuidTable *cpuid;
    unsigned n_vps;
    X86Cpu *vps[PTA_MAX_VPS];
    X86Slot slots[X86_MAX_SLOTS]; /* sorted by gpa; changes only while no VP runs */
    unsigned n_slots;
    GRecMutex world;              /* x86_lock_world: LOCK on what host atomics cannot do */
    /* the clock: ns = running ? base_ns + (now - started) : base_ns */
    uint64_t clock_base_ns;
    uint64_t clock_started;       /* pta_now_ns(); 0: stopped. ATOMIC */
    uint64_t tsc_hz;
};

/* The slot that holds gpa, or NULL. */
const X86Slot *x86_slot(const X86Machine *m, uint64_t gpa);

/* Nanoseconds of the partition's clock; any thread. */
uint64_t x86_clock_ns(const X86Machine *m);

#endif
