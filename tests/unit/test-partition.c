/* The rules of the partition unit, on VPs that do what they are told. */
#include "config.h"

#include "src/partition/partition.h"

#include "tests/lib/partition-fixture.h"

#include <string.h>

static void stop_means_out(void **state)
{
    Fixture *f = *state;
    for (int round = 0; round < 50; round++) {
        pta_partition_start(f->p);
        fixture_wait_running(f, (unsigned)round % N_VPS);
        assert_true(fake_backend_clock_runs(pta_partition_backend(f->p)));
        pta_partition_stop(f->p);
        assert_false(fixture_any_in_run(f));
        assert_false(fake_backend_clock_runs(pta_partition_backend(f->p)));
        uint64_t before = fake_vp_executed(fixture_vp(f, 0));
        g_usleep(2000);
        assert_true(fake_vp_executed(fixture_vp(f, 0)) == before);
    }
    pta_partition_stop(f->p); /* idempotent */
}

static void triple_fault_is_reported_once_with_all_out(void **state)
{
    Fixture *f = *state;
    const PtaExit shutdown = { .reason = PTA_EXIT_SHUTDOWN };
    pta_partition_start(f->p);
    fake_vp_exit(fixture_vp(f, 1), &shutdown);
    fake_vp_exit(fixture_vp(f, 2), &shutdown);
    fixture_wait_for(&f->halts, 1);
    fixture_drain();
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
    fixture_halt(f, PTA_HALT_POWER_OFF);
    fixture_halt(f, PTA_HALT_RESET);
    fixture_halt(f, PTA_HALT_RESET);
    fixture_wait_for(&f->halts, 1);
    fixture_drain();
    assert_int_equal(f->halts, 1);
    assert_int_equal(f->last, PTA_HALT_POWER_OFF);
    assert_true(pta_partition_clear_halt(f->p));
    fixture_wait_running(f, 0); /* it could not run if the counter were not zero */
}

static void racing_second_halt_is_a_new_halt(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_POWER_OFF);
    fixture_wait_for(&f->halts, 1);
    /* Counted, but its message has not been taken when the client clears the first. */
    fixture_halt(f, PTA_HALT_RESET);
    uint64_t before = fake_vp_executed(fixture_vp(f, 0));
    assert_true(pta_partition_clear_halt(f->p));
    g_usleep(5000);
    assert_true(fake_vp_executed(fixture_vp(f, 0)) == before); /* Halted, not executing */
    fixture_wait_for(&f->halts, 2);
    assert_int_equal(f->last, PTA_HALT_RESET);
}

static void halt_before_the_first_run_executes_nothing(void **state)
{
    Fixture *f = *state;
    fixture_halt(f, PTA_HALT_POWER_OFF);
    pta_partition_start(f->p);
    fixture_wait_for(&f->halts, 1);
    for (unsigned i = 0; i < N_VPS; i++) {
        assert_int_equal(fake_vp_executed(fixture_vp(f, i)), 0);
        assert_int_equal(fake_vp_entered(fixture_vp(f, i)), 0);
    }
}

static void clear_halt_of_a_stopped_unit_does_not_start(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_RESET);
    fixture_wait_for(&f->halts, 1);
    pta_partition_stop(f->p);
    assert_true(pta_partition_clear_halt(f->p));
    assert_false(pta_partition_running(f->p));
    pta_partition_start(f->p);
    fixture_wait_running(f, 0);
}

static void halt_racing_with_stop_is_kept(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fixture_wait_running(f, 0);
    fixture_halt(f, PTA_HALT_POWER_OFF); /* queued; the main loop does not turn before stop */
    pta_partition_stop(f->p);
    assert_int_equal(f->halts, 1);
    assert_non_null(pta_partition_halt_reason(f->p));
    pta_partition_start(f->p);
    assert_false(pta_partition_running(f->p));
    assert_true(pta_partition_clear_halt(f->p));
    fixture_wait_running(f, 0);
}

static void power_off_from_guest(void *opaque)
{
    fixture_halt(opaque, PTA_HALT_POWER_OFF);
}

static void device_halts_from_a_vp_thread(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fake_vp_in_guest(fixture_vp(f, 3), power_off_from_guest, f);
    fixture_wait_for(&f->halts, 1);
    assert_int_equal(f->last, PTA_HALT_POWER_OFF);
    assert_false(f->in_run_at_report);
}

static void teardown_while_halted(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_POWER_OFF); /* and the fixture's teardown follows, message not taken */
    assert_int_equal(f->halts, 0);
}

static void teardown_while_running(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fixture_wait_running(f, 0);
}

static void guards_nest(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    PtaStopGuard *one = pta_partition_stop_vps(f->p);
    PtaStopGuard *two = pta_partition_stop_vps(f->p);
    assert_int_equal(pta_partition_stop_count(f->p), 2);
    assert_false(fixture_any_in_run(f));
    pta_stop_guard_free(one);
    assert_false(pta_partition_running(f->p));
    pta_stop_guard_free(two);
    fixture_wait_running(f, 0);
}

static void guard_defers_the_start_of_clear_halt(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_RESET);
    fixture_wait_for(&f->halts, 1);
    PtaStopGuard *guard = pta_partition_stop_vps(f->p);
    assert_true(pta_partition_clear_halt(f->p));
    assert_false(pta_partition_running(f->p));
    pta_stop_guard_free(guard);
    fixture_wait_running(f, 3);
}

/* And the other way round: the guard goes first, and the halt still holds. */
static void halt_outlives_a_guard(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    PtaStopGuard *guard = pta_partition_stop_vps(f->p);
    fixture_halt(f, PTA_HALT_RESET); /* arrives under the guard */
    fixture_wait_for(&f->halts, 1);
    pta_stop_guard_free(guard);
    assert_false(pta_partition_running(f->p));
    assert_true(pta_partition_clear_halt(f->p));
    fixture_wait_running(f, 3);
}

static void *free_guard(void *guard)
{
    pta_stop_guard_free(guard);
    return NULL;
}

static void guard_freed_in_another_thread(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    PtaStopGuard *guard = pta_partition_stop_vps(f->p);
    g_thread_join(g_thread_new("guard", free_guard, guard));
    assert_int_equal(pta_partition_stop_count(f->p), 1); /* asked for, not done yet */
    fixture_drain();
    assert_int_equal(pta_partition_stop_count(f->p), 0);
    fixture_wait_running(f, 0);
}

static void guard_outlives_the_partition(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    PtaStopGuard *one = pta_partition_stop_vps(f->p);
    PtaStopGuard *two = pta_partition_stop_vps(f->p);
    pta_partition_free(f->p);
    f->p = NULL;
    pta_stop_guard_free(one);
    g_thread_join(g_thread_new("guard", free_guard, two));
    fixture_drain();
}

static void reset_clears_the_halt(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_RESET);
    fixture_wait_for(&f->halts, 1);
    pta_partition_stop(f->p);
    assert_true(pta_partition_reset(f->p, NULL));
    assert_null(pta_partition_halt_reason(f->p));
    pta_partition_start(f->p);
    fixture_wait_running(f, 0);
}

static void failed_reset_keeps_the_halt(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_RESET);
    fixture_wait_for(&f->halts, 1);
    pta_partition_stop(f->p);
    fake_backend_fail_reset(pta_partition_backend(f->p), true);
    assert_false(pta_partition_reset(f->p, &error));
    assert_string_equal(error->message, "partition: told to fail");
    g_clear_error(&error);
    fake_backend_fail_reset(pta_partition_backend(f->p), false);
    fake_backend_fail_set_state(pta_partition_backend(f->p), 3);
    assert_false(pta_partition_reset(f->p, &error));
    assert_string_equal(error->message, "vp3: told to fail");
    assert_non_null(pta_partition_halt_reason(f->p));
}

/* What the log says of a triple fault is the code around it. */
static void triple_fault_is_described(void **state)
{
    /* mov eax, [rbx]; xor ecx, ecx; nop; int3; ud2; hlt */
    static const uint8_t code[] = { 0x8b, 0x03, 0x31, 0xc9, 0x90, 0xcc, 0x0f, 0x0b, 0xf4 };
    Fixture *f = *state;
    pta_memory_write(f->memory, 0x1000, code, sizeof(code));
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    pta_x86_state_reset(s, 1, 0);
    s->regs.cr0 |= 1;
    s->regs.seg[PTA_X86_CS] =
        (PtaX86Segment){ .limit = UINT32_MAX, .attrs = 0xc09b, .selector = 8 };
    s->regs.rip = 0x1005;
    s->regs.gpr[PTA_X86_RSP] = 0x7000;
    assert_true(pta_partition_set_vp_state(f->p, 1, s, NULL));
    fake_vp_exit(fixture_vp(f, 1), &(PtaExit){ .reason = PTA_EXIT_SHUTDOWN });
    pta_partition_start(f->p);
    fixture_wait_for(&f->halts, 1);
    const PtaHaltReason *r = pta_partition_halt_reason(f->p);
    assert_int_equal(r->vp, 1);
    assert_true(r->has_regs);
    assert_int_equal(r->regs.rip, 0x1005);
    assert_non_null(strstr(r->text, "triple fault at rip 0x1005: int3 (cr0 0x60000011"));
    unsigned at = 0;
    while (at < r->n_insns && !r->insns[at].current) {
        at++;
    }
    assert_true(at >= 3 && at + 2 < r->n_insns);
    assert_string_equal(r->insns[at].text, "int3");
    assert_string_equal(r->insns[at - 1].text, "nop");
    assert_string_equal(r->insns[at - 2].text, "xor ecx, ecx");
    assert_string_equal(r->insns[at - 3].text, "mov eax, [ebx]");
    assert_string_equal(r->insns[at + 1].text, "ud2");
    assert_string_equal(r->insns[at + 2].text, "hlt");
    assert_int_equal(r->insns[at + 2].rip, 0x1008);
}

static void nothing_readable_at_a_triple_fault(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    pta_x86_state_reset(s, 0, 1); /* at 0xfffffff0, where no RAM is */
    assert_true(pta_partition_set_vp_state(f->p, 0, s, NULL));
    fake_vp_exit(fixture_vp(f, 0), &(PtaExit){ .reason = PTA_EXIT_SHUTDOWN });
    pta_partition_start(f->p);
    fixture_wait_for(&f->halts, 1);
    assert_int_equal(pta_partition_halt_reason(f->p)->n_insns, 0);
    assert_non_null(strstr(pta_partition_halt_reason(f->p)->text, "not readable"));
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        CASE(stop_means_out),
        CASE(triple_fault_is_reported_once_with_all_out),
        CASE(two_halts_give_one_report_and_a_balanced_counter),
        CASE(racing_second_halt_is_a_new_halt),
        CASE(halt_before_the_first_run_executes_nothing),
        CASE(clear_halt_of_a_stopped_unit_does_not_start),
        CASE(halt_racing_with_stop_is_kept),
        CASE(device_halts_from_a_vp_thread),
        CASE(teardown_while_halted),
        CASE(teardown_while_running),
        CASE(guards_nest),
        CASE(guard_defers_the_start_of_clear_halt),
        CASE(halt_outlives_a_guard),
        CASE(guard_freed_in_another_thread),
        CASE(guard_outlives_the_partition),
        CASE(reset_clears_the_halt),
        CASE(failed_reset_keeps_the_halt),
        CASE(triple_fault_is_described),
        CASE(nothing_readable_at_a_triple_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
