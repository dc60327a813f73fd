/*
 * The partition unit: back end, VP set, halts, debugger. The rules are OpenVMM's:
 *
 *   - all VPs are stopped, and have said so, before a halt is reported;
 *   - the first halt since the last clear or reset is reported, later ones only balance the counter;
 *   - VPs run if and only if the unit is started, no halt is outstanding and no stop guard is held;
 *   - stopping the unit takes up halts that raced with it, so that a power-off is not lost;
 *   - registers set after a run scrub first;
 *   - while a debugger is attached it hears of halts, and nobody else does.
 *
 * Threads: everything MAIN except pta_partition_halt(), pta_partition_msi() and
 * pta_stop_guard_free(), which are any thread.
 */
#ifndef PTA_PARTITION_H
#define PTA_PARTITION_H

#include "src/memory/memory.h"
#include "src/partition/vp-set.h"

typedef struct PtaPartition PtaPartition;

typedef struct PtaPartitionParams {
    const PtaBackendOps *backend;
    unsigned n_vps;
    const char *cpu_model; /* NULL: the first default */
    PtaHypervisorKind hypervisor;
    PtaMemory *memory;           /* lent */
    const PtaPlatform *platform; /* lent */
    bool no_threads; /* the caller runs the VPs: pta_vp_set_runner(), pta_vp_runner_run() */
    /* The first halt of a boot, after all VPs have stopped. MAIN. The reason is lent. */
    void (*on_halt)(void *opaque, const PtaHaltReason *reason);
    /* An attached debugger was told of a halt, or has let it go. MAIN. May be NULL. */
    void (*on_debug)(void *opaque, bool stopped);
    void *opaque;
} PtaPartitionParams;

/* Errors: UNSUPPORTED (CPU model), HOST, BAD_DESCRIPTION. */
PtaPartition *pta_partition_new(const PtaPartitionParams *params, GError **error);
/* In any state: waits for the end of all runners. Stop guards may outlive it. */
void pta_partition_free(PtaPartition *p);

/* The TSC's frequency, instead of the back end's own: in Hz, of PTA_MIN_TSC_HZ to PTA_MAX_TSC_HZ, before
 * VPs have run. UNSUPPORTED, HOST: as it was. */
bool pta_partition_set_tsc_hz(PtaPartition *p, uint64_t hz, GError **error);

/* ---- the unit ---- */

void pta_partition_start(PtaPartition *p);
void pta_partition_stop(PtaPartition *p);
bool pta_partition_started(const PtaPartition *p); /* the unit, whether or not VPs run */
bool pta_partition_running(const PtaPartition *p); /* VPs may execute */

/* Power-on state: back end, VPs, then the halt is cleared, unless a debugger holds the VPs: that becomes
 * a DEBUG_BREAK, and lasts. Only while stopped. The first failure is
 * returned and what comes after it is left undone. */
bool pta_partition_reset(PtaPartition *p, GError **error);

/*
 * Only while stopped. {"cpu": …, "partition": …, "vps": […], "halt": … if there is one, "stop-count": …},
 * a new reference. Halts that wait are taken up first, so the saved state has them.
 *
 * Stop guards belong to those who hold them in this process: their number is saved for the record,
 * and restoring neither adds nor drops one, so a restored machine stays held for as long as its
 * guards are.
 */
json_t *pta_partition_save(PtaPartition *p);
/* Only while stopped; RAM has been restored. A halt of this process that is outstanding or waits is
 * forgotten: it belongs to what is overwritten. The saved one is outstanding afterwards and is not
 * reported again, but to a debugger that waits for a halt, or if only a debugger heard of it before. Of a halt that a debugger made (a break, a
 * breakpoint) nothing is restored unless it holds the VPs now. BAD_SNAPSHOT; after an error VPs may
 * have parts of both states: reset. The guest sees the CPU that it saw when it was saved, its frequency
 * included; UNSUPPORTED if the back end cannot show that. */
bool pta_partition_restore(PtaPartition *p, const json_t *saved, GError **error);

/* ---- halts ---- */

/* Any thread. On return no VP enters guest code. */
void pta_partition_halt(PtaPartition *p, const PtaHaltReason *reason);
/* The outstanding halt, or NULL. Lent until cleared. */
const PtaHaltReason *pta_partition_halt_reason(const PtaPartition *p);
/* Lets the outstanding halt go and starts the VPs if nothing else holds them; whether there was one. */
bool pta_partition_clear_halt(PtaPartition *p);

/*
 * Stops the VPs until the guard is freed. Guards nest. Freed in the main thread, the last one starts
 * the VPs at once, in another thread soon after; freed after the partition, it does nothing.
 */
typedef struct PtaStopGuard PtaStopGuard;
PtaStopGuard *pta_partition_stop_vps(PtaPartition *p);
void pta_stop_guard_free(PtaStopGuard *guard); /* any thread */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaStopGuard, pta_stop_guard_free)
unsigned pta_partition_stop_count(const PtaPartition *p); /* guards that are held */

/* ---- the state to boot with ---- */

/* Virtual trust levels (TLFS 15). No back end has more than the first yet. */
typedef enum PtaVtl {
    PTA_VTL0,
    PTA_VTL1,
    PTA_VTL2,
} PtaVtl;

/*
 * General registers of the BSP, MTRRs and PAT of all VPs. Only while the unit is stopped or a stop
 * guard is held. If VPs have run since the last reset, the VTL is scrubbed first. Errors begin with
 * "failed to scrub VTL state: " or "failed to set registers: ".
 */
bool pta_partition_set_initial_regs(PtaPartition *p, PtaVtl vtl, const PtaX86State *bsp,
                                    GError **error);

typedef enum PtaPageVisibility {
    PTA_PAGES_EXCLUSIVE, /* the guest's own */
    PTA_PAGES_SHARED,    /* shared with the host, where the two are told apart */
} PtaPageVisibility;

typedef struct PtaInitialPages {
    uint64_t gpa, size; /* bytes, whole pages */
    PtaPageVisibility visibility;
} PtaInitialPages;

/* What the loader gives to the guest. Only while the unit is not started. Ranges that are no RAM,
 * empty, not whole pages or overlap: BAD_DESCRIPTION, "failed to set initial page acceptance: …",
 * and the list that was there stays. */
bool pta_partition_set_initial_page_visibility(PtaPartition *p, const PtaInitialPages *pages,
                                               size_t n, GError **error);
/* Lent until the next call above. */
const PtaInitialPages *pta_partition_initial_pages(const PtaPartition *p, size_t *n);

/* ---- VPs ---- */

/* A copy of the state of one VP, taken between two instructions; the VP goes on. */
void pta_partition_get_vp_state(PtaPartition *p, unsigned vp, PtaX86State *state);
/* The same without waiting: done(data) is called from the main loop when *state is there. state has
 * to stay valid until then, even if the partition is freed in between. */
void pta_partition_post_get_vp_state(PtaPartition *p, unsigned vp, PtaX86State *state,
                                     PtaMainFn *done, void *data);
bool pta_partition_set_vp_state(PtaPartition *p, unsigned vp, const PtaX86State *state,
                                GError **error); /* while no VP runs */

void pta_partition_nmi(PtaPartition *p, unsigned vp);
void pta_partition_msi(PtaPartition *p, uint64_t address, uint32_t data); /* any thread */

PtaBackend *pta_partition_backend(PtaPartition *p);
const PtaCpuidTable *pta_partition_cpuid(const PtaPartition *p);
PtaVpSet *pta_partition_vps(PtaPartition *p);

/* ---- the debugger ---- */

/* A debugger is told the reason of a halt. Lent for the call. All VPs have stopped. */
typedef void PtaDebugHaltFn(void *opaque, const PtaHaltReason *reason);

/* At most one debugger. While it is attached halts are reported to it and never to on_halt. BAD_STATE
 * if there is one. Attaching stops nothing: pta_partition_debug_break() does. */
bool pta_partition_debug_attach(PtaPartition *p, GError **error);
/* Forgets the notifier, clears breakpoints, single steps and suspensions of all VPs; a halt that is
 * outstanding is reported to on_halt. Does not resume: whoever wants the guest to go on calls
 * pta_partition_debug_resume() before. */
void pta_partition_debug_detach(PtaPartition *p);
bool pta_partition_debug_attached(const PtaPartition *p);
/* It was told of the outstanding halt and has not let it go. Reset and restore change nothing about
 * that: the VPs stay out until it resumes them. */
bool pta_partition_debug_holds(const PtaPartition *p);

/* "Go on, and tell me of the next halt": notify is called once and then forgotten. If a halt had been
 * reported to the debugger it is cleared, and the VPs start unless the unit is stopped or held.
 * Otherwise, if a halt is outstanding that it has not been told of, notify is called from within. */
void pta_partition_debug_resume(PtaPartition *p, PtaDebugHaltFn *notify, void *opaque);
/* Halts all VPs with DEBUG_BREAK. The notifier hears of it from the main loop; if none is set, at the
 * next pta_partition_debug_resume(). */
void pta_partition_debug_break(PtaPartition *p);
/* Breakpoints, watchpoints, single step of one VP, until the next call or detach. */
void pta_partition_debug_set(PtaPartition *p, unsigned vp, const PtaGuestDebug *debug);
/* A suspended VP executes nothing although the others run. */
void pta_partition_debug_suspend(PtaPartition *p, unsigned vp, bool suspended);
/* Guest memory by linear address as that VP translates it, page by page; returns the bytes done
 * before the first address that is not mapped or no RAM. Writes go to RAM whatever the page's
 * permissions are, and decoded code is dropped. */
size_t pta_partition_debug_read(PtaPartition *p, unsigned vp, uint64_t lin, void *buf, size_t len);
size_t pta_partition_debug_write(PtaPartition *p, unsigned vp, uint64_t lin, const void *buf,
                                 size_t len);

#endif
