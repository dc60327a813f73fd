/*
 * The VPs of a partition and their threads. A VP is Stopped, Running or Halted; it looks at its
 * mailbox before each entry into guest code, acknowledges a stop only when it is out, and while the
 * halt counter is not zero it stays Halted without executing anything.
 *
 * Threads: all functions MAIN. Stopping waits until the VPs are out. That wait is short and cannot
 * deadlock: a VP leaves guest code within one instruction of its kick, and a VP never waits for the
 * main thread.
 */
#ifndef PTA_VP_SET_H
#define PTA_VP_SET_H

#include "src/partition/backend.h"
#include "src/partition/halt.h"

typedef struct PtaVpSet PtaVpSet;

typedef enum PtaVpState {
    PTA_VP_STOPPED,
    PTA_VP_RUNNING,
    PTA_VP_HALTED,
} PtaVpState;

const char *pta_vp_state_name(PtaVpState state);

/* Creates the back end's VPs, in order, and their threads, stopped. `halt` is lent. */
PtaVpSet *pta_vp_set_new(PtaBackend *be, unsigned n_vps, PtaHalt *halt, GError **error);
/* In any state; waits until all threads have ended. */
void pta_vp_set_free(PtaVpSet *set);

unsigned pta_vp_set_size(const PtaVpSet *set);
PtaBackendVp *pta_vp_set_get(PtaVpSet *set, unsigned vp);

/* Idempotent both. After stop() no VP executes guest code and none will. */
void pta_vp_set_start(PtaVpSet *set);
void pta_vp_set_stop(PtaVpSet *set);
bool pta_vp_set_started(const PtaVpSet *set);

/*
 * Runs fn(vp, data) in the VP's own thread while it is out of guest code, and waits for it: state of
 * a running VP for inspect. The VP goes on afterwards.
 */
typedef void PtaVpFn(PtaBackendVp *vp, void *data);
void pta_vp_set_call(PtaVpSet *set, unsigned vp, PtaVpFn *fn, void *data);

PtaVpState pta_vp_set_state(PtaVpSet *set, unsigned vp);
int pta_vp_set_thread_id(PtaVpSet *set, unsigned vp); /* as gettid(2) says */

#endif
