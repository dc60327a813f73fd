/* Runners: binding to threads, cancellation, mailboxes, suspension, teardown; and the debugger's
 * part of the partition, which suspends and stops VPs. */
#include "config.h"

#include "src/partition/partition.h"

#include "tests/lib/partition-fixture.h"

#include <string.h>

/* ---- threads of the caller's ---- */

typedef struct Bind {
    PtaVpRunner *runner;
    PtaVpRunEnd end;
    GThread *thread;
} Bind;

static void *run_thread(void *data)
{
    Bind *bind = data;
    bind->end = pta_vp_runner_run(bind->runner);
    return NULL;
}

static void bind_vp(Fixture *f, Bind *bind, unsigned i)
{
    PtaVpSet *vps = pta_partition_vps(f->p);
    bind->runner = pta_vp_set_runner(vps, i);
    bind->thread = g_thread_new("runner", run_thread, bind);
    while (pta_vp_set_thread_id(vps, i) == 0) {
        g_thread_yield();
    }
}

static PtaVpRunEnd join(Bind *bind)
{
    g_thread_join(bind->thread);
    return bind->end;
}

static void cancelled_and_run_by_another_thread(void **state)
{
    Fixture *f = *state;
    PtaVpSet *vps = pta_partition_vps(f->p);
    Bind binds[N_VPS], again;
    for (unsigned i = 0; i < N_VPS; i++) {
        bind_vp(f, &binds[i], i);
    }
    pta_partition_start(f->p);
    fixture_wait_running(f, 2);
    pta_vp_runner_cancel(pta_vp_set_runner(vps, 2));
    assert_int_equal(join(&binds[2]), PTA_VP_RUN_CANCELLED);
    assert_false(fake_vp_in_run(fixture_vp(f, 2)));
    assert_int_equal(pta_vp_set_thread_id(vps, 2), 0);
    assert_int_equal(pta_vp_set_state(vps, 2), PTA_VP_RUNNING); /* started, by nobody just now */

    /* State requests and stops do not wait for a thread that may never come. */
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    pta_partition_get_vp_state(f->p, 2, got);
    bind_vp(f, &again, 2);
    fixture_wait_running(f, 2);
    pta_vp_runner_cancel(again.runner);
    assert_int_equal(join(&again), PTA_VP_RUN_CANCELLED);
    pta_partition_stop(f->p);
    assert_int_equal(pta_vp_set_state(vps, 2), PTA_VP_STOPPED);
    pta_partition_start(f->p);
    bind_vp(f, &again, 2);
    fixture_wait_running(f, 2);

    pta_partition_free(f->p);
    f->p = NULL;
    assert_int_equal(join(&again), PTA_VP_RUN_TEARDOWN);
    for (unsigned i = 0; i < N_VPS; i++) {
        if (i != 2) {
            assert_int_equal(join(&binds[i]), PTA_VP_RUN_TEARDOWN);
        }
    }
}

static void cancelled_before_it_runs(void **state)
{
    Fixture *f = *state;
    PtaVpRunner *runner = pta_vp_set_runner(pta_partition_vps(f->p), 1);
    Bind bind = { .runner = runner };
    pta_vp_runner_cancel(runner);
    bind.thread = g_thread_new("runner", run_thread, &bind);
    assert_int_equal(join(&bind), PTA_VP_RUN_CANCELLED);
    assert_int_equal(fake_vp_entered(fixture_vp(f, 1)), 0);
}

static void given_back_by_the_back_end(void **state)
{
    Fixture *f = *state;
    Bind bind;
    bind_vp(f, &bind, 0);
    fake_vp_exit(fixture_vp(f, 0), &(PtaExit){ .reason = PTA_EXIT_CANCELLED });
    pta_partition_start(f->p);
    assert_int_equal(join(&bind), PTA_VP_RUN_RETURNED);
    fixture_drain();
    assert_int_equal(f->halts, 0);
}

static void never_run_at_all(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_POWER_OFF);
    fixture_wait_for(&f->halts, 1); /* stopping waits for nobody */
    pta_partition_stop(f->p);
}

static void late_threads(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    assert_true(pta_vp_set_spawn(pta_partition_vps(f->p), NULL));
    for (unsigned i = 0; i < N_VPS; i++) {
        fixture_wait_running(f, i);
    }
}

static void own_threads_survive_a_cancellation(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    for (unsigned i = 0; i < 100; i++) {
        pta_vp_runner_cancel(pta_vp_set_runner(pta_partition_vps(f->p), i % N_VPS));
    }
    for (unsigned i = 0; i < N_VPS; i++) {
        fixture_wait_running(f, i);
    }
    pta_partition_stop(f->p);
}

/* ---- mailboxes ---- */

static void state_of_a_running_vp(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    pta_partition_start(f->p);
    fixture_wait_running(f, 0);
    for (int i = 0; i < 100; i++) {
        pta_partition_get_vp_state(f->p, (unsigned)i % N_VPS, got);
    }
    fixture_wait_running(f, 0);
    assert_int_equal(pta_vp_set_state(pta_partition_vps(f->p), 0), PTA_VP_RUNNING);
    assert_true(pta_vp_set_thread_id(pta_partition_vps(f->p), 0) > 0);
}

typedef struct Posted {
    Fixture *f;
    PtaX86State state;
    unsigned done;
} Posted;

static void posted_done(void *data)
{
    pta_assert_main();
    ((Posted *)data)->done++;
}

static void state_without_waiting(void **state)
{
    Fixture *f = *state;
    g_autofree Posted *posted = g_new0(Posted, 1);
    posted->f = f;
    pta_partition_start(f->p);
    for (unsigned i = 0; i < 50; i++) {
        pta_partition_post_get_vp_state(f->p, i % N_VPS, &posted->state, posted_done, posted);
        fixture_wait_for(&posted->done, i + 1);
    }
    /* What is asked for is answered, if only in the end. */
    pta_partition_post_get_vp_state(f->p, 3, &posted->state, posted_done, posted);
    pta_partition_free(f->p);
    f->p = NULL;
    fixture_drain();
    assert_int_equal(posted->done, 51);
}

/* ---- suspension ---- */

static void a_suspended_vp_stays_out(void **state)
{
    Fixture *f = *state;
    PtaVpSet *vps = pta_partition_vps(f->p);
    pta_partition_start(f->p);
    fixture_wait_running(f, 1);
    pta_vp_set_suspend(vps, 1, true);
    assert_false(fake_vp_in_run(fixture_vp(f, 1)));
    uint64_t before = fake_vp_executed(fixture_vp(f, 1));
    fixture_wait_running(f, 0);
    pta_partition_stop(f->p);
    pta_partition_start(f->p);
    fixture_wait_running(f, 2);
    g_usleep(3000);
    assert_int_equal(fake_vp_executed(fixture_vp(f, 1)), before);
    assert_int_equal(pta_vp_set_state(vps, 1), PTA_VP_SUSPENDED);
    pta_vp_set_suspend(vps, 1, false);
    fixture_wait_running(f, 1);
}

/* ---- the debugger ---- */

typedef struct Debugger {
    unsigned told;
    PtaHaltReason last;
} Debugger;

static void told(void *opaque, const PtaHaltReason *reason)
{
    Debugger *d = opaque;
    d->told++;
    d->last = *reason;
}

static void one_debugger(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    assert_true(pta_partition_debug_attach(f->p, NULL));
    assert_false(pta_partition_debug_attach(f->p, &error));
    assert_string_equal(error->message, "another debugger is attached");
    assert_true(pta_partition_debug_attached(f->p));
    pta_partition_debug_detach(f->p);
    assert_false(pta_partition_debug_attached(f->p));
    assert_int_equal(f->halts, 0);
}

static void break_and_resume(void **state)
{
    Fixture *f = *state;
    Debugger d = { 0 };
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_start(f->p);
    pta_partition_debug_resume(f->p, told, &d);
    fixture_wait_running(f, 0);
    for (unsigned i = 1; i <= 20; i++) {
        pta_partition_debug_break(f->p);
        fixture_wait_for(&d.told, i);
        assert_int_equal(d.last.kind, PTA_HALT_DEBUG_BREAK);
        assert_false(fixture_any_in_run(f));
        assert_int_equal(f->debug_stops, i);
        pta_partition_debug_resume(f->p, told, &d);
        assert_int_equal(f->debug_goes, i);
        fixture_wait_running(f, i % N_VPS);
    }
    assert_int_equal(f->halts, 0);
    pta_partition_debug_detach(f->p);
    fixture_wait_running(f, 0);
    assert_int_equal(f->halts, 0);
}

/* It is told once for each resume: a halt without a notifier waits for the next one. */
static void a_halt_waits_for_the_notifier(void **state)
{
    Fixture *f = *state;
    Debugger d = { 0 };
    pta_partition_start(f->p);
    assert_true(pta_partition_debug_attach(f->p, NULL));
    fixture_halt(f, PTA_HALT_POWER_OFF);
    fixture_drain();
    assert_non_null(pta_partition_halt_reason(f->p));
    assert_int_equal(f->halts, 0);
    pta_partition_debug_resume(f->p, told, &d); /* at once, and nothing runs */
    assert_int_equal(d.told, 1);
    assert_int_equal(d.last.kind, PTA_HALT_POWER_OFF);
    assert_false(pta_partition_running(f->p));
    pta_partition_debug_resume(f->p, told, &d);
    assert_int_equal(d.told, 1);
    fixture_wait_running(f, 0);
}

static void detach_hands_the_halt_over(void **state)
{
    Fixture *f = *state;
    Debugger d = { 0 };
    pta_partition_start(f->p);
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_debug_resume(f->p, told, &d);
    fixture_halt(f, PTA_HALT_RESET);
    fixture_wait_for(&d.told, 1);
    assert_int_equal(f->halts, 0);
    pta_partition_debug_detach(f->p);
    assert_int_equal(f->halts, 1);
    assert_int_equal(f->last, PTA_HALT_RESET);
    assert_true(pta_partition_clear_halt(f->p));
    fixture_wait_running(f, 0);
}

/* The client clears the halt behind the debugger's back: the next one is a new one. */
static void cleared_by_the_client(void **state)
{
    Fixture *f = *state;
    Debugger d = { 0 };
    pta_partition_start(f->p);
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_debug_resume(f->p, told, &d);
    pta_partition_debug_break(f->p);
    fixture_wait_for(&d.told, 1);
    assert_true(pta_partition_clear_halt(f->p));
    fixture_halt(f, PTA_HALT_RESET);
    fixture_drain();
    assert_int_equal(d.told, 1);
    pta_partition_debug_resume(f->p, told, &d);
    assert_int_equal(d.told, 2);
    assert_int_equal(d.last.kind, PTA_HALT_RESET);
    assert_false(pta_partition_running(f->p));
    assert_int_equal(f->halts, 0);
}

static void debug_exits_say_what_it_was(void **state)
{
    static const struct {
        uint8_t vector;
        uint64_t dr6;
        PtaHaltKind kind;
    } exits[] = {
        { 1, UINT64_C(1) << 14, PTA_HALT_SINGLE_STEP },
        { 1, 2, PTA_HALT_HW_BREAKPOINT },
        { 3, 0, PTA_HALT_SW_BREAKPOINT },
    };
    Fixture *f = *state;
    Debugger d = { 0 };
    pta_partition_start(f->p);
    assert_true(pta_partition_debug_attach(f->p, NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(exits); i++) {
        pta_partition_debug_resume(f->p, told, &d);
        PtaExit exit = { .reason = PTA_EXIT_DEBUG };
        exit.debug.vector = exits[i].vector;
        exit.debug.dr6 = exits[i].dr6;
        fake_vp_exit(fixture_vp(f, 1), &exit);
        fixture_wait_for(&d.told, i + 1);
        assert_int_equal(d.last.kind, exits[i].kind);
        assert_int_equal(d.last.vp, 1);
        assert_int_equal(d.last.dr6, exits[i].dr6);
    }
}

static void detach_clears_what_was_set(void **state)
{
    Fixture *f = *state;
    PtaGuestDebug debug = { .enabled = true, .single_step = true, .dr = { 1, 2, 3, 4 } };
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_debug_set(f->p, 2, &debug);
    pta_partition_debug_suspend(f->p, 3, true);
    PtaGuestDebug got = fake_vp_debug(fixture_vp(f, 2));
    assert_true(got.enabled && got.single_step && got.dr[3] == 4);
    assert_false(fake_vp_debug(fixture_vp(f, 1)).enabled);
    pta_partition_debug_detach(f->p);
    assert_false(fake_vp_debug(fixture_vp(f, 2)).enabled);
    pta_partition_start(f->p);
    fixture_wait_running(f, 3);
}

static void guest_memory_for_the_debugger(void **state)
{
    Fixture *f = *state;
    char text[16] = "";
    assert_int_equal(pta_partition_debug_write(f->p, 0, 0xfffa, "abcdefgh", 8), 6);
    assert_int_equal(pta_partition_debug_read(f->p, 0, 0xfffa, text, 8), 6);
    assert_string_equal(text, "abcdef");
    assert_int_equal(pta_partition_debug_read(f->p, 0, 0x20000, text, 8), 0);
    assert_int_equal(pta_partition_debug_read(f->p, 0, UINT64_MAX, text, 8), 0);
}

static void freed_while_a_debugger_is_attached(void **state)
{
    Fixture *f = *state;
    Debugger d = { 0 };
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_start(f->p);
    pta_partition_debug_resume(f->p, told, &d);
    pta_partition_debug_break(f->p);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        CASE_NO_THREADS(cancelled_and_run_by_another_thread),
        CASE_NO_THREADS(cancelled_before_it_runs),
        CASE_NO_THREADS(given_back_by_the_back_end),
        CASE_NO_THREADS(never_run_at_all),
        CASE_NO_THREADS(late_threads),
        CASE(own_threads_survive_a_cancellation),
        CASE(state_of_a_running_vp),
        CASE(state_without_waiting),
        CASE(a_suspended_vp_stays_out),
        CASE(one_debugger),
        CASE(break_and_resume),
        CASE(a_halt_waits_for_the_notifier),
        CASE(detach_hands_the_halt_over),
        CASE(cleared_by_the_client),
        CASE(debug_exits_say_what_it_was),
        CASE(detach_clears_what_was_set),
        CASE(guest_memory_for_the_debugger),
        CASE(freed_while_a_debugger_is_attached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
