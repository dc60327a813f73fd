/* The rules of the partition unit, on VPs that do what they are told. */
#include "config.h"

#include "src/partition/partition.h"

#include "tests/lib/cmocka-all.h"
#include "tests/lib/fake-backend.h"

#include <string.h>

#define N_VPS 4

typedef struct Fixture {
    PtaMemory *memory;
    PtaPartition *p;
    PtaPlatform platform;
    unsigned halts;
    PtaHaltKind last;
    bool in_run_at_report; /* a VP was in guest code when a halt was reported */
} Fixture;

static PtaBackendVp *vp(Fixture *f, unsigned i)
{
    return pta_vp_set_get(pta_partition_vps(f->p), i);
}

static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    Fixture *f = opaque;
    f->halts++;
    f->last = reason->kind;
    for (unsigned i = 0; i < N_VPS; i++) {
        f->in_run_at_report |= fake_vp_in_run(vp(f, i));
    }
}

static int setup(void **state)
{
    static const PtaRamRange ram = { 0, 0x10000 };
    Fixture *f = g_new0(Fixture, 1);
    f->memory = pta_memory_new(&ram, 1, NULL);
    PtaPartitionParams params = {
        .backend = &fake_backend,
        .n_vps = N_VPS,
        .hypervisor = PTA_HYPERVISOR_NONE,
        .memory = f->memory,
        .platform = &f->platform,
        .on_halt = on_halt,
        .opaque = f,
    };
    g_autoptr(GError) error = NULL;
    f->p = pta_partition_new(&params, &error);
    if (!f->p) {
        print_error("%s\n", error->message);
        return -1;
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    pta_partition_free(f->p);
    pta_memory_free(f->memory);
    g_free(f);
    return 0;
}

/* Iterates the main loop until *what >= n; fails after five seconds. */
static void wait_for(const unsigned *what, unsigned n)
{
    gint64 end = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
    while (*what < n) {
        g_main_context_iteration(NULL, FALSE);
        assert_true(g_get_monotonic_time() < end);
    }
}

static void drain(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {}
}

static void wait_running(Fixture *f, unsigned i)
{
    gint64 end = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
    while (!fake_vp_in_run(vp(f, i))) {
        assert_true(g_get_monotonic_time() < end);
        g_thread_yield();
    }
}

static void halt_now(Fixture *f, PtaHaltKind kind)
{
    pta_partition_halt(f->p, &(PtaHaltReason){ .kind = kind });
}

static bool any_in_run(Fixture *f)
{
    for (unsigned i = 0; i < N_VPS; i++) {
        if (fake_vp_in_run(vp(f, i))) {
            return true;
        }
    }
    return false;
}

static void stop_means_out(void **state)
{
    Fixture *f = *state;
    for (int round = 0; round < 50; round++) {
        pta_partition_start(f->p);
        wait_running(f, (unsigned)round % N_VPS);
        assert_true(fake_backend_clock_runs(pta_partition_backend(f->p)));
        pta_partition_stop(f->p);
        assert_false(any_in_run(f));
        assert_false(fake_backend_clock_runs(pta_partition_backend(f->p)));
        uint64_t before = fake_vp_executed(vp(f, 0));
        g_usleep(2000);
        assert_true(fake_vp_executed(vp(f, 0)) == before);
    }
    pta_partition_stop(f->p); /* idempotent */
}

static void triple_fault_is_reported_once_with_all_out(void **state)
{
    Fixture *f = *state;
    const PtaExit shutdown = { .reason = PTA_EXIT_SHUTDOWN };
    pta_partition_start(f->p);
    fake_vp_exit(vp(f, 1), &shutdown);
    fake_vp_exit(vp(f, 2), &shutdown);
    wait_for(&f->halts, 1);
    drain();
    assert_int_equal(f->halts, 1);
    assert_int_equal(f->last, PTA_HALT_TRIPLE_FAULT);
    assert_false(f->in_run_at_report);
    assert_true(pta_partition_halt_reason(f->p)->has_vp);
    assert_true(pta_partition_clear_halt(f->p));
    assert_false(pta_partition_clear_halt(f->p));
}

static void two_halts_give_one_report_and_a_balanced_counter(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    halt_now(f, PTA_HALT_POWER_OFF);
    halt_now(f, PTA_HALT_RESET);
    halt_now(f, PTA_HALT_RESET);
    wait_for(&f->halts, 1);
    drain();
    assert_int_equal(f->halts, 1);
    assert_int_equal(f->last, PTA_HALT_POWER_OFF);
    assert_true(pta_partition_clear_halt(f->p));
    wait_running(f, 0); /* it could not run if the counter were not zero */
}

static void racing_second_halt_is_a_new_halt(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    halt_now(f, PTA_HALT_POWER_OFF);
    wait_for(&f->halts, 1);
    /* Counted, but its message has not been taken when the client clears the first. */
    halt_now(f, PTA_HALT_RESET);
    uint64_t before = fake_vp_executed(vp(f, 0));
    assert_true(pta_partition_clear_halt(f->p));
    g_usleep(5000);
    assert_true(fake_vp_executed(vp(f, 0)) == before); /* Halted, not executing */
    wait_for(&f->halts, 2);
    assert_int_equal(f->last, PTA_HALT_RESET);
}

static void halt_before_the_first_run_executes_nothing(void **state)
{
    Fixture *f = *state;
    halt_now(f, PTA_HALT_POWER_OFF);
    pta_partition_start(f->p);
    wait_for(&f->halts, 1);
    for (unsigned i = 0; i < N_VPS; i++) {
        assert_int_equal(fake_vp_executed(vp(f, i)), 0);
        assert_int_equal(fake_vp_entered(vp(f, i)), 0);
    }
}

static void guards_nest(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    pta_partition_hold(f->p);
    pta_partition_hold(f->p);
    assert_false(any_in_run(f));
    pta_partition_release(f->p);
    assert_false(pta_partition_running(f->p));
    pta_partition_release(f->p);
    wait_running(f, 0);
}

static void guard_defers_the_start_of_clear_halt(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    halt_now(f, PTA_HALT_RESET);
    wait_for(&f->halts, 1);
    pta_partition_hold(f->p);
    assert_true(pta_partition_clear_halt(f->p));
    assert_false(pta_partition_running(f->p));
    pta_partition_release(f->p);
    wait_running(f, 3);
}

static void clear_halt_of_a_stopped_unit_does_not_start(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    halt_now(f, PTA_HALT_RESET);
    wait_for(&f->halts, 1);
    pta_partition_stop(f->p);
    assert_true(pta_partition_clear_halt(f->p));
    assert_false(pta_partition_running(f->p));
    pta_partition_start(f->p);
    wait_running(f, 0);
}

static void halt_racing_with_stop_is_kept(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    wait_running(f, 0);
    halt_now(f, PTA_HALT_POWER_OFF); /* queued; the main loop does not turn before stop */
    pta_partition_stop(f->p);
    assert_int_equal(f->halts, 1);
    assert_non_null(pta_partition_halt_reason(f->p));
    pta_partition_start(f->p);
    assert_false(pta_partition_running(f->p));
    assert_true(pta_partition_clear_halt(f->p));
    wait_running(f, 0);
}

static void reset_clears_the_halt(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    halt_now(f, PTA_HALT_RESET);
    wait_for(&f->halts, 1);
    pta_partition_stop(f->p);
    pta_partition_reset(f->p);
    assert_null(pta_partition_halt_reason(f->p));
    pta_partition_start(f->p);
    wait_running(f, 0);
}

static void registers_after_a_run_scrub_first(void **state)
{
    Fixture *f = *state;
    PtaBackend *be = pta_partition_backend(f->p);
    g_autofree PtaX86State *bsp = g_new0(PtaX86State, 1);
    bsp->regs.rip = 0x1000;
    bsp->msrs.pat = 0x70106;
    bsp->msrs.mtrrs.def_type = 0xc06;
    assert_true(pta_partition_set_initial_state(f->p, bsp, NULL));
    assert_int_equal(fake_backend_resets(be), 0);
    pta_partition_start(f->p);
    wait_running(f, 0);
    pta_partition_stop(f->p);
    assert_true(pta_partition_set_initial_state(f->p, bsp, NULL));
    assert_int_equal(fake_backend_resets(be), 1);
    assert_true(pta_partition_set_initial_state(f->p, bsp, NULL));
    assert_int_equal(fake_backend_resets(be), 1);

    /* General registers on the BSP only, MTRRs and PAT on all. */
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    pta_partition_get_vp_state(f->p, 0, got);
    assert_int_equal(got->regs.rip, 0x1000);
    pta_partition_get_vp_state(f->p, 3, got);
    assert_int_equal(got->regs.rip, 0);
    assert_int_equal(got->msrs.pat, 0x70106);
    assert_int_equal(got->msrs.mtrrs.def_type, 0xc06);
}

static void an_error_names_its_vp(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *bsp = g_new0(PtaX86State, 1);
    g_autoptr(GError) error = NULL;
    fake_backend_fail_set_state(pta_partition_backend(f->p), 2);
    assert_false(pta_partition_set_initial_state(f->p, bsp, &error));
    assert_string_equal(error->message, "failed to set registers: vp2: told to fail");
}

static void mtrr_replay_is_invisible(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *bsp = g_new0(PtaX86State, 1);
    bsp->msrs.pat = 0x123;
    assert_true(pta_partition_set_initial_state(f->p, bsp, NULL));
    pta_partition_start(f->p);
    wait_running(f, 1);
    pta_partition_hold(f->p);
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    pta_partition_get_vp_state(f->p, 2, got);
    got->msrs.pat = 0;
    assert_true(pta_partition_set_vp_state(f->p, 2, got, NULL));
    pta_partition_release(f->p);
    halt_now(f, PTA_HALT_REPLAY_MTRRS);
    drain();
    assert_int_equal(f->halts, 0);
    pta_partition_get_vp_state(f->p, 2, got);
    assert_int_equal(got->msrs.pat, 0x123);
    wait_running(f, 2);
}

static void state_of_a_running_vp(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    pta_partition_start(f->p);
    wait_running(f, 0);
    for (int i = 0; i < 100; i++) {
        pta_partition_get_vp_state(f->p, (unsigned)i % N_VPS, got);
    }
    wait_running(f, 0);
    assert_int_equal(pta_vp_set_state(pta_partition_vps(f->p), 0), PTA_VP_RUNNING);
    assert_true(pta_vp_set_thread_id(pta_partition_vps(f->p), 0) > 0);
}

static void power_off_from_guest(void *opaque)
{
    halt_now(opaque, PTA_HALT_POWER_OFF);
}

static void device_halts_from_a_vp_thread(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fake_vp_in_guest(vp(f, 3), power_off_from_guest, f);
    wait_for(&f->halts, 1);
    assert_int_equal(f->last, PTA_HALT_POWER_OFF);
    assert_false(f->in_run_at_report);
}

static void teardown_while_halted(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    halt_now(f, PTA_HALT_POWER_OFF); /* and the fixture's teardown follows, message not taken */
    assert_int_equal(f->halts, 0);
}

static void teardown_while_running(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    wait_running(f, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        CASE(stop_means_out),
        CASE(triple_fault_is_reported_once_with_all_out),
        CASE(two_halts_give_one_report_and_a_balanced_counter),
        CASE(racing_second_halt_is_a_new_halt),
        CASE(halt_before_the_first_run_executes_nothing),
        CASE(guards_nest),
        CASE(guard_defers_the_start_of_clear_halt),
        CASE(clear_halt_of_a_stopped_unit_does_not_start),
        CASE(halt_racing_with_stop_is_kept),
        CASE(reset_clears_the_halt),
        CASE(registers_after_a_run_scrub_first),
        CASE(an_error_names_its_vp),
        CASE(mtrr_replay_is_invisible),
        CASE(state_of_a_running_vp),
        CASE(device_halts_from_a_vp_thread),
        CASE(teardown_while_halted),
        CASE(teardown_while_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
