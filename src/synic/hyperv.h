/*
 * The part of the Hyper-V interface that a kernel needs to keep time and to say who it is (TLFS
 * 6.0b, chapters 3, 4, 12 and 13): identity, hypercall page, VP index, reference time, frequencies,
 * reset and crash MSRs. What it offers is what CPUID says (x86-cpuid.c).
 *
 * The hypercall page and the reference TSC page are overlays: while enabled they cover what the
 * guest has at their address, and that reappears when they go or move. The covered page is kept
 * here and is part of the state; guest memory holds the overlay.
 *
 * The state is here with every back end. One that answers guests by itself (KVM's Hyper-V) is told
 * what it needs for that (`mirror`), so a machine moves from one back end to the other.
 *
 * Threads: MSRs and hypercalls any VP thread, LOCKED by its own lock; everything else MAIN while no
 * VP runs.
 */
#ifndef PTA_HYPERV_H
#define PTA_HYPERV_H

#include "src/memory/memory.h"
#include "src/partition/x86-state.h"
#include "src/state/state.h"

#define PTA_HYPERV_MAX_VPS 64

typedef struct PtaHyperv PtaHyperv;

typedef struct PtaHypervParams {
    PtaMemory *memory; /* lent */
    unsigned n_vps;    /* at most PTA_HYPERV_MAX_VPS */
    uint64_t tsc_hz, apic_hz;
    void *opaque;
    /* Nanoseconds of the partition's clock; any thread. */
    uint64_t (*clock_ns)(void *opaque);
    /* The TSC of a VP, called from its thread or while no VP runs. NULL: the TSC is
     * clock_ns * tsc_hz / 10^9. */
    uint64_t (*tsc)(void *opaque, unsigned vp);
    /* Whether clock and TSCs run at one rate; while they do not, the reference TSC page says that it is
     * of no use. NULL: they do. */
    bool (*tsc_stable)(void *opaque);
    /* PtaBackendOps.hyperv_mirror; NULL: the back end wants to know nothing. With it, the numbers in the
     * reference TSC page are those of the back end once a VP has run. */
    bool (*mirror)(void *opaque, unsigned vp, uint32_t msr, uint64_t value);
    /* PtaBackendOps.hypercall_insn; all zero: VMCALL. */
    uint8_t hypercall_insn[3];
    /* The guest wrote the reset MSR. VP thread, returns at once. May be NULL. */
    void (*reset)(void *opaque, unsigned vp);
    /* The guest wrote that it has crashed: the five parameters, and the text that it left, or NULL
     * (lent; printable UTF-8 of several lines). VP thread, returns at once. May be NULL. */
    void (*crash)(void *opaque, unsigned vp, const uint64_t params[5], const char *message);
} PtaHypervParams;

PtaHyperv *pta_hyperv_new(const PtaHypervParams *params);
void pta_hyperv_free(PtaHyperv *hv);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaHyperv, pta_hyperv_free)

/* For PtaPlatform. False: #GP, or #UD for a hypercall. */
bool pta_hyperv_msr_read(PtaHyperv *hv, unsigned vp, uint32_t msr, uint64_t *value);
bool pta_hyperv_msr_write(PtaHyperv *hv, unsigned vp, uint32_t msr, uint64_t value);
bool pta_hyperv_hypercall(PtaHyperv *hv, unsigned vp, PtaX86Regs *regs);

/* Power-on state; the covered pages reappear. */
void pta_hyperv_reset(PtaHyperv *hv);

/* Another TSC frequency than the parameters'; what the guest has been told of it follows with the next
 * pta_hyperv_set_state() or pta_hyperv_update_time(). */
void pta_hyperv_set_tsc_hz(PtaHyperv *hv, uint64_t hz);

/* The relation of TSC and reference time has changed (restored on another host, clock set): the
 * page gets new numbers and a new sequence. */
void pta_hyperv_update_time(PtaHyperv *hv);

/* ---- state ---- */

enum { PTA_HYPERV_HYPERCALL, PTA_HYPERV_REFERENCE_TSC, PTA_HYPERV_N_OVERLAYS };

typedef struct PtaHypervState {
    uint64_t guest_os_id;
    uint64_t overlay_msr[PTA_HYPERV_N_OVERLAYS]; /* HYPERCALL, REFERENCE_TSC */
    uint64_t tsc_invariant_control;
    uint64_t crash[5];
    uint64_t vp_assist[PTA_HYPERV_MAX_VPS];
    uint32_t tsc_sequence;
    uint32_t top; /* the overlay that was enabled last: it covers the other if they coincide */
    uint8_t hypercall_below[4096];
    uint8_t reference_tsc_below[4096];
} PtaHypervState;

extern const PtaStateDesc pta_hyperv_state;

void pta_hyperv_get_state(PtaHyperv *hv, PtaHypervState *state);
/* Guest memory has been restored already, or was never touched: the overlays are laid over it. The
 * clock and the VPs' TSCs have been restored. BAD_SNAPSHOT: an overlay is where no RAM is. */
bool pta_hyperv_set_state(PtaHyperv *hv, const PtaHypervState *state, GError **error);

#endif
