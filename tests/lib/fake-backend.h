/*
 * A back end whose VPs do what a test tells them: they "execute" by counting, and leave when kicked
 * or when the test has queued an exit. Any thread may queue.
 */
#ifndef PTA_TESTS_FAKE_BACKEND_H
#define PTA_TESTS_FAKE_BACKEND_H

#include "src/partition/backend.h"

typedef struct FakeVp FakeVp;

extern const PtaBackendOps fake_backend;

/* The VP leaves with this exit as soon as it runs. */
void fake_vp_exit(PtaBackendVp *vp, const PtaExit *exit);
/* The VP's thread calls fn(opaque) once as soon as it runs, as a device would be called. */
void fake_vp_in_guest(PtaBackendVp *vp, void (*fn)(void *opaque), void *opaque);
/* How many "instructions" it executed; how often it was entered. */
uint64_t fake_vp_executed(PtaBackendVp *vp);
unsigned fake_vp_entered(PtaBackendVp *vp);
bool fake_vp_in_run(PtaBackendVp *vp);
/* What the debugger asked of it last. While it does not run. */
PtaGuestDebug fake_vp_debug(PtaBackendVp *vp);
/* Resets and scrubs of the back end so far; whether its clock runs. */
unsigned fake_backend_resets(PtaBackend *be);
unsigned fake_backend_scrubs(PtaBackend *be);
bool fake_backend_clock_runs(PtaBackend *be);
/* vp_set_state() of this VP fails from now on (-1: of none). */
void fake_backend_fail_set_state(PtaBackend *be, int vp);
/* reset() and scrub() of the back end fail from now on. */
void fake_backend_fail_reset(PtaBackend *be, bool fail);

#endif
