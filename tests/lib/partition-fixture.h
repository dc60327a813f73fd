/*
 * A partition of four VPs on the scripted back end (fake-backend.h), and what was reported of it.
 * The main loop turns only where a function here says so.
 */
#ifndef PTA_TESTS_PARTITION_FIXTURE_H
#define PTA_TESTS_PARTITION_FIXTURE_H

#include "src/partition/partition.h"
#include "tests/lib/cmocka-all.h"
#include "tests/lib/fake-backend.h"

#define N_VPS 4

typedef struct Fixture {
    PtaMemory *memory;
    PtaPartition *p;
    PtaPlatform platform;
    unsigned halts;
    PtaHaltKind last;
    bool in_run_at_report; /* a VP was in guest code when a halt was reported */
    unsigned debug_stops, debug_goes;
} Fixture;

int fixture_setup(void **state);
int fixture_setup_no_threads(void **state); /* nobody runs the VPs yet */
int fixture_teardown(void **state);

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define CASE_NO_THREADS(name) \
    cmocka_unit_test_setup_teardown(name, fixture_setup_no_threads, fixture_teardown)

PtaBackendVp *fixture_vp(Fixture *f, unsigned i);
void fixture_halt(Fixture *f, PtaHaltKind kind); /* any thread */
bool fixture_any_in_run(Fixture *f);
/* Iterates the main loop until *what >= n; fails after ten seconds. */
void fixture_wait_for(const unsigned *what, unsigned n);
/* Iterates the main loop while it has something to do. */
void fixture_drain(void);
/* Without the main loop; fails after ten seconds. */
void fixture_wait_running(Fixture *f, unsigned i);

#endif
