/*
 * The VPs of a partition and what runs them. A VP is Stopped, Running or Halted; its runner looks at
 * its mailbox before each entry into guest code, acknowledges a stop only when the VP is out, and
 * while the halt counter is not zero it stays Halted without executing anything.
 *
 * A runner is bound to a thread by pta_vp_runner_run(), which comes back when it is cancelled or the
 * set is torn down. A cancelled runner keeps its state and may be run again by another thread;
 * while it is bound to none it executes nothing, and what is asked of its VP is done by the asking
 * thread. pta_vp_set_spawn() makes a thread for each runner that is not bound yet.
 *
 * Threads: MAIN, except where said otherwise. Stopping waits until the VPs are out. That wait is
 * short and cannot deadlock: a VP leaves guest code within one instruction of its kick, and a VP
 * never waits for the main thread.
 */
#ifndef PTA_VP_SET_H
#define PTA_VP_SET_H

#include <jansson.h>

#include "src/partition/backend.h"
#include "src/partition/halt.h"

typedef struct PtaVpSet PtaVpSet;
typedef struct PtaVpRunner PtaVpRunner;

typedef enum PtaVpState {
    PTA_VP_STOPPED,
    PTA_VP_RUNNING,
    PTA_VP_HALTED,
    PTA_VP_SUSPENDED, /* started, held back alone by the debugger */
} PtaVpState;

const char *pta_vp_state_name(PtaVpState state);

/* Creates the back end's VPs, in order, stopped, with a runner each. `halt` is lent. */
PtaVpSet *pta_vp_set_new(PtaBackend *be, unsigned n_vps, PtaHalt *halt, GError **error);
/* In any state. Runners come back with PTA_VP_RUN_TEARDOWN; waits until all have. */
void pta_vp_set_free(PtaVpSet *set);

/* Makes a thread for each runner that is not bound. Does not wait for them: until a thread is there, it is the
 * caller who does what is asked of its VP. */
bool pta_vp_set_spawn(PtaVpSet *set, GError **error);

unsigned pta_vp_set_size(const PtaVpSet *set);
PtaBackendVp *pta_vp_set_get(PtaVpSet *set, unsigned vp);

/* ---- runners ---- */

typedef enum PtaVpRunEnd {
    PTA_VP_RUN_TEARDOWN,  /* the set is gone: touch it no more */
    PTA_VP_RUN_CANCELLED, /* by pta_vp_runner_cancel() */
    PTA_VP_RUN_RETURNED,  /* the back end gave the VP back: PTA_EXIT_CANCELLED */
} PtaVpRunEnd;

PtaVpRunner *pta_vp_set_runner(PtaVpSet *set, unsigned vp);
/* Runs the VP in the calling thread, which must not be the main thread. One thread at a time. */
PtaVpRunEnd pta_vp_runner_run(PtaVpRunner *runner);
/* Makes a run() that is under way, or else the next one, come back. Requests that wait for the VP are
 * served first and a stop is acknowledged. Any thread. */
void pta_vp_runner_cancel(PtaVpRunner *runner);

/* ---- running ---- */

/* Idempotent both. After stop() no VP executes guest code and none will. */
void pta_vp_set_start(PtaVpSet *set);
void pta_vp_set_stop(PtaVpSet *set);
bool pta_vp_set_started(const PtaVpSet *set);

/* A suspended VP stays out of guest code although the set is started. Waits until it is out. */
void pta_vp_set_suspend(PtaVpSet *set, unsigned vp, bool suspended);

PtaVpState pta_vp_set_state(PtaVpSet *set, unsigned vp);
/* The host's id of the thread that runs it; 0 if none does. MAIN. */
int pta_vp_set_thread_id(PtaVpSet *set, unsigned vp);

/* ---- requests to single VPs ---- */

/* Called in the VP's own thread while it is out of guest code, between two instructions. */
typedef void PtaVpFn(PtaBackendVp *vp, void *data);

/* Runs fn and waits for it; a running VP goes on afterwards. */
void pta_vp_set_call(PtaVpSet *set, unsigned vp, PtaVpFn *fn, void *data);
/* The same on all VPs at once: fn(vp, data + vp's index * stride). */
void pta_vp_set_call_all(PtaVpSet *set, PtaVpFn *fn, void *data, size_t stride);
/* Runs fn and then done(data) in the main thread, from its main loop; does not wait. Both are called
 * even if the set is torn down in between; done then finds the VP gone. */
void pta_vp_set_post(PtaVpSet *set, unsigned vp, PtaVpFn *fn, PtaMainFn *done, void *data);

/* ---- state; stopped; on all VPs at once ---- */

/* Power-on state. Errors of all VPs: "vp1: …; vp3: …". */
bool pta_vp_set_reset(PtaVpSet *set, GError **error);
/* What belongs to VTL 0 of each VP as after power-on; what VTLs share (TSC) stays. */
bool pta_vp_set_scrub(PtaVpSet *set, GError **error);

typedef enum PtaVpRegistersToSet {
    PTA_VP_REGISTERS_ALL,   /* general registers of the BSP; MTRRs and PAT of all */
    PTA_VP_REGISTERS_MTRRS, /* MTRRs and PAT of all */
} PtaVpRegistersToSet;

bool pta_vp_set_set_initial_regs(PtaVpSet *set, const PtaX86State *bsp, PtaVpRegistersToSet which,
                                 GError **error);

/* [{"vp-index": 0, "state": …}, …]; a new reference. */
json_t *pta_vp_set_save(PtaVpSet *set);
/* Checked whole before any VP changes, as far as the form goes: BAD_SNAPSHOT, "unknown entry id: vp9"
 * for a VP that is not there, "vp1: missing" for one that was not saved. What a VP itself refuses is
 * reported for all that do. */
bool pta_vp_set_restore(PtaVpSet *set, const json_t *saved, GError **error);

#endif
