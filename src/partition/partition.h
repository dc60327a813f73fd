/*
 * The partition unit: back end, VP set, halts. The rules are OpenVMM's:
 *
 *   - all VPs are stopped, and have said so, before a halt is reported;
 *   - the first halt since the last clear or reset is reported, later ones only balance the counter;
 *   - VPs run if and only if the unit is started, no halt is outstanding and no stop guard is held;
 *   - stopping the unit takes up halts that raced with it, so that a power-off is not lost;
 *   - registers set after a run scrub first.
 *
 * Threads: everything MAIN except pta_partition_halt(), which is any thread.
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
    /* The first halt of a boot, after all VPs have stopped. MAIN. The reason is lent. */
    void (*on_halt)(void *opaque, const PtaHaltReason *reason);
    void *opaque;
} PtaPartitionParams;

PtaPartition *pta_partition_new(const PtaPartitionParams *params, GError **error);
void pta_partition_free(PtaPartition *p);

void pta_partition_start(PtaPartition *p);
void pta_partition_stop(PtaPartition *p);
bool pta_partition_started(const PtaPartition *p); /* the unit, whether or not VPs run */
bool pta_partition_running(const PtaPartition *p); /* VPs may execute */

/* Power-on state: VPs, clock. Clears the halt. Only while stopped. */
void pta_partition_reset(PtaPartition *p);

/* Any thread. */
void pta_partition_halt(PtaPartition *p, const PtaHaltReason *reason);

/* The outstanding halt, or NULL. Lent until cleared. */
const PtaHaltReason *pta_partition_halt_reason(const PtaPartition *p);
/* Lets the outstanding halt go and starts the VPs if nothing else holds them; whether there was one. */
bool pta_partition_clear_halt(PtaPartition *p);

/* Holds the VPs out of guest code; nests. */
void pta_partition_hold(PtaPartition *p);
void pta_partition_release(PtaPartition *p);

/* Boot state of the BSP; MTRRs and PAT go to all VPs. Only while stopped or held. */
bool pta_partition_set_initial_state(PtaPartition *p, const PtaX86State *bsp, GError **error);

/* A copy of the state of one VP, taken between two instructions; the VP goes on. */
void pta_partition_get_vp_state(PtaPartition *p, unsigned vp, PtaX86State *state);
bool pta_partition_set_vp_state(PtaPartition *p, unsigned vp, const PtaX86State *state,
                                GError **error);

void pta_partition_nmi(PtaPartition *p, unsigned vp);
void pta_partition_msi(PtaPartition *p, uint64_t address, uint32_t data); /* any thread */

PtaBackend *pta_partition_backend(PtaPartition *p);
const PtaCpuidTable *pta_partition_cpuid(const PtaPartition *p);
PtaVpSet *pta_partition_vps(PtaPartition *p);
unsigned pta_partition_stop_count(const PtaPartition *p);

#endif
