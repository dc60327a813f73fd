/* Registers to boot with, scrub, initial pages, save and restore of the partition unit. */
#include "config.h"

#include "src/partition/partition.h"

#include "src/partition/x86-state-table.h"
#include "tests/lib/partition-fixture.h"

#include <string.h>

/* ---- registers ---- */

static PtaX86State *boot_state(void)
{
    PtaX86State *bsp = g_new0(PtaX86State, 1);
    bsp->regs.rip = 0x1000;
    bsp->msrs.pat = 0x70106;
    bsp->msrs.mtrrs.def_type = 0xc06;
    return bsp;
}

static void registers_after_a_run_scrub_first(void **state)
{
    Fixture *f = *state;
    PtaBackend *be = pta_partition_backend(f->p);
    g_autofree PtaX86State *bsp = boot_state();
    assert_true(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, NULL));
    assert_int_equal(fake_backend_scrubs(be), 0);
    pta_partition_start(f->p);
    fixture_wait_running(f, 0);
    pta_partition_stop(f->p);
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    pta_partition_get_vp_state(f->p, 3, got);
    got->regs.gpr[PTA_X86_RBX] = 77;
    got->tsc = 1234;
    assert_true(pta_partition_set_vp_state(f->p, 3, got, NULL));
    assert_true(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, NULL));
    assert_int_equal(fake_backend_scrubs(be), 1);
    assert_true(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, NULL));
    assert_int_equal(fake_backend_scrubs(be), 1);

    /* General registers on the BSP only, MTRRs and PAT on all; the TSC is no VTL's own. */
    pta_partition_get_vp_state(f->p, 3, got);
    assert_int_equal(got->regs.gpr[PTA_X86_RBX], 0);
    assert_int_equal(got->regs.rip, 0xfff0);
    assert_int_equal(got->tsc, 1234);
    assert_int_equal(got->msrs.pat, 0x70106);
    assert_int_equal(got->msrs.mtrrs.def_type, 0xc06);
    pta_partition_get_vp_state(f->p, 0, got);
    assert_int_equal(got->regs.rip, 0x1000);
}

static void registers_may_be_set_under_a_guard(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *bsp = boot_state();
    pta_partition_start(f->p);
    fixture_wait_running(f, 0);
    G_GNUC_UNUSED g_autoptr(PtaStopGuard) guard = pta_partition_stop_vps(f->p);
    assert_true(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, NULL));
    assert_int_equal(fake_backend_scrubs(pta_partition_backend(f->p)), 1);
}

static void an_error_names_its_vp(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *bsp = g_new0(PtaX86State, 1);
    g_autoptr(GError) error = NULL;
    fake_backend_fail_set_state(pta_partition_backend(f->p), 2);
    assert_false(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, &error));
    assert_string_equal(error->message, "failed to set registers: vp2: told to fail");
}

static void a_failed_scrub_is_tried_again(void **state)
{
    Fixture *f = *state;
    PtaBackend *be = pta_partition_backend(f->p);
    g_autofree PtaX86State *bsp = boot_state();
    g_autoptr(GError) error = NULL;
    pta_partition_start(f->p);
    pta_partition_stop(f->p);
    fake_backend_fail_reset(be, true);
    assert_false(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, &error));
    assert_string_equal(error->message, "failed to scrub VTL state: told to fail");
    g_clear_error(&error);
    fake_backend_fail_reset(be, false);
    fake_backend_fail_set_state(be, 1);
    assert_false(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, &error));
    assert_string_equal(error->message, "failed to scrub VTL state: vp1: told to fail");
    g_clear_error(&error);
    fake_backend_fail_set_state(be, -1);
    assert_true(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, NULL));
    assert_int_equal(fake_backend_scrubs(be), 3);
}

static void there_is_one_vtl(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *bsp = boot_state();
    g_autoptr(GError) error = NULL;
    assert_false(pta_partition_set_initial_regs(f->p, PTA_VTL2, bsp, &error));
    assert_string_equal(error->message, "failed to set registers: there is no VTL 2");
    g_clear_error(&error);
    pta_partition_start(f->p);
    pta_partition_stop(f->p);
    assert_false(pta_partition_set_initial_regs(f->p, PTA_VTL1, bsp, &error));
    assert_string_equal(error->message, "failed to scrub VTL state: there is no VTL 1");
}

static void mtrr_replay_is_invisible(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *bsp = g_new0(PtaX86State, 1);
    bsp->msrs.pat = 0x123;
    assert_true(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, NULL));
    pta_partition_start(f->p);
    fixture_wait_running(f, 1);
    PtaStopGuard *guard = pta_partition_stop_vps(f->p);
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    for (unsigned i = 0; i < N_VPS; i++) {
        pta_partition_get_vp_state(f->p, i, got);
        got->msrs.pat = 0;
        got->regs.rip = 0x100 + i;
        assert_true(pta_partition_set_vp_state(f->p, i, got, NULL));
    }
    pta_stop_guard_free(guard);
    fixture_halt(f, PTA_HALT_REPLAY_MTRRS);
    fixture_drain();
    assert_int_equal(f->halts, 0);
    for (unsigned i = 0; i < N_VPS; i++) {
        pta_partition_get_vp_state(f->p, i, got);
        assert_int_equal(got->msrs.pat, 0x123);
        assert_int_equal(got->regs.rip, 0x100 + i); /* only MTRRs and PAT */
        fixture_wait_running(f, i);
    }
}

/* A replay that races with a halt neither hides nor clears it. */
static void mtrr_replay_beside_a_halt(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *bsp = boot_state();
    assert_true(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, NULL));
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_REPLAY_MTRRS);
    fixture_halt(f, PTA_HALT_POWER_OFF);
    fixture_halt(f, PTA_HALT_REPLAY_MTRRS);
    fixture_wait_for(&f->halts, 1);
    fixture_drain();
    assert_int_equal(f->halts, 1);
    assert_false(pta_partition_running(f->p));
    assert_true(pta_partition_clear_halt(f->p));
    fixture_wait_running(f, 0);
}

/* ---- initial pages ---- */

static void page_visibility(void **state)
{
    static const PtaInitialPages good[] = {
        { 0x100000, 0x10000, PTA_PAGES_EXCLUSIVE },
        { 0x1000, 0x1000, PTA_PAGES_SHARED },
        { 0x2000, 0xe000, PTA_PAGES_EXCLUSIVE },
    };
    static const struct {
        PtaInitialPages pages[2];
        size_t n;
        const char *why;
    } bad[] = {
        { { { 0x1000, 0 } }, 1, "0x0 bytes at 0x1000: the range is not made of whole pages" },
        { { { 0x1000, 0x800 } }, 1, "is not made of whole pages" },
        { { { 0x1800, 0x1000 } }, 1, "is not made of whole pages" },
        { { { 0xf000, 0x2000 } }, 1, "is no RAM" },
        { { { 0x20000, 0x1000 } }, 1, "is no RAM" },
        { { { 0x1000, UINT64_MAX - 0xfff } }, 1, "is no RAM" },
        { { { UINT64_MAX - 0xfff, 0x1000 } }, 1, "is no RAM" },
        { { { 0x2000, 0x2000 }, { 0x1000, 0x2000 } }, 2, "overlaps another range" },
    };
    Fixture *f = *state;
    size_t n;
    assert_true(pta_partition_set_initial_page_visibility(f->p, good, 3, NULL));
    const PtaInitialPages *got = pta_partition_initial_pages(f->p, &n);
    assert_int_equal(n, 3);
    assert_int_equal(got[0].gpa, 0x1000);
    assert_int_equal(got[0].visibility, PTA_PAGES_SHARED);
    assert_int_equal(got[2].gpa, 0x100000);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(
            pta_partition_set_initial_page_visibility(f->p, bad[i].pages, bad[i].n, &error));
        assert_true(g_str_has_prefix(error->message, "failed to set initial page acceptance: "));
        assert_true(g_str_has_suffix(error->message, bad[i].why));
    }
    got = pta_partition_initial_pages(f->p, &n);
    assert_int_equal(n, 3);
}

/* ---- save and restore ---- */

/* Every field of the tables, in order and without holes. */
static void check_table(const PtaStateDesc *desc)
{
    size_t sum = 0;
    for (const PtaStateField *field = desc->fields; field->name; field++) {
        assert_int_equal(field->offset, sum);
        sum += field->size;
        if (field->sub) {
            assert_int_equal(field->size / field->count, field->sub->size);
            check_table(field->sub);
        }
    }
    assert_int_equal(sum, desc->size);
}

static void every_field_is_saved(void **state)
{
    check_table(&pta_x86_state_desc);
    assert_int_equal(pta_x86_state_desc.size, sizeof(PtaX86State));
}

/* Distinct and different everywhere. */
static void scramble(PtaX86State *s, unsigned vp)
{
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < sizeof(*s); i++) {
        ((uint8_t *)s)[i] = (uint8_t)(i * 31 + i / 251 + vp * 7);
    }
}

static json_t *through_text(json_t *json)
{
    char *text = json_dumps(json, JSON_SORT_KEYS);
    json_decref(json);
    json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    assert_non_null(json);
    return json;
}

static void all_vps_come_back(void **state)
{
    Fixture *f = *state;
    g_autofree PtaX86State *want = g_new(PtaX86State, N_VPS);
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    for (unsigned i = 0; i < N_VPS; i++) {
        scramble(&want[i], i);
        assert_true(pta_partition_set_vp_state(f->p, i, &want[i], NULL));
    }
    const PtaBackendOps *ops = &fake_backend;
    ops->clock_set(pta_partition_backend(f->p), 123456789);
    json_t *saved = through_text(pta_partition_save(f->p));
    assert_true(pta_partition_reset(f->p, NULL));
    ops->clock_set(pta_partition_backend(f->p), 0);
    g_autoptr(GError) error = NULL;
    if (!pta_partition_restore(f->p, saved, &error)) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(ops->clock_ns(pta_partition_backend(f->p)), 123456789);
    for (unsigned i = 0; i < N_VPS; i++) {
        pta_partition_get_vp_state(f->p, i, got);
        assert_memory_equal(got, &want[i], sizeof(*got));
    }
    /* It has to be scrubbed before it is given other registers. */
    g_autofree PtaX86State *bsp = boot_state();
    assert_true(pta_partition_set_initial_regs(f->p, PTA_VTL0, bsp, NULL));
    assert_int_equal(fake_backend_scrubs(pta_partition_backend(f->p)), 1);
    json_decref(saved);
}

static void a_halt_survives(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    const PtaHaltReason reason = { .kind = PTA_HALT_WATCHDOG,
                                   .has_vp = true,
                                   .vp = 2,
                                   .code = 9,
                                   .text = "nobody pinged",
                                   .time_us = 77 };
    pta_partition_halt(f->p, &reason);
    fixture_wait_for(&f->halts, 1);
    pta_partition_stop(f->p);
    json_t *halted = through_text(pta_partition_save(f->p));
    assert_true(pta_partition_reset(f->p, NULL));
    json_t *running = through_text(pta_partition_save(f->p));

    assert_true(pta_partition_restore(f->p, halted, NULL));
    const PtaHaltReason *got = pta_partition_halt_reason(f->p);
    assert_non_null(got);
    assert_int_equal(got->kind, PTA_HALT_WATCHDOG);
    assert_true(got->has_vp && got->vp == 2 && got->code == 9 && got->time_us == 77);
    assert_string_equal(got->text, "nobody pinged");
    pta_partition_start(f->p);
    fixture_drain();
    assert_int_equal(f->halts, 1); /* it was reported once, before it was saved */
    assert_false(pta_partition_running(f->p));
    fixture_halt(f, PTA_HALT_RESET); /* not the first */
    fixture_drain();
    assert_int_equal(f->halts, 1);
    assert_true(pta_partition_clear_halt(f->p));
    fixture_wait_running(f, 0); /* so the counter is right */

    /* And the other way: no halt in the saved state, one here, and another that waits. */
    fixture_halt(f, PTA_HALT_POWER_OFF);
    fixture_wait_for(&f->halts, 2);
    pta_partition_stop(f->p);
    fixture_halt(f, PTA_HALT_RESET);
    assert_true(pta_partition_restore(f->p, running, NULL));
    assert_null(pta_partition_halt_reason(f->p));
    pta_partition_start(f->p);
    fixture_drain();
    assert_int_equal(f->halts, 2);
    fixture_wait_running(f, 1);
    json_decref(halted);
    json_decref(running);
}

/* ---- a debugger meanwhile ---- */

static void heard(void *opaque, const PtaHaltReason *reason)
{
    *(PtaHaltKind *)opaque = reason->kind;
}

/* Neither a reset nor a restore takes the VPs from a debugger that has stopped them. */
static void a_debugger_goes_on_holding(void **state)
{
    Fixture *f = *state;
    PtaHaltKind last = PTA_N_HALTS;
    json_t *running = pta_partition_save(f->p);
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_start(f->p);
    pta_partition_debug_resume(f->p, heard, &last);
    fixture_halt(f, PTA_HALT_POWER_OFF);
    fixture_drain();
    assert_int_equal(last, PTA_HALT_POWER_OFF);
    assert_true(pta_partition_debug_holds(f->p));
    pta_partition_stop(f->p);
    json_t *halted = pta_partition_save(f->p);

    assert_true(pta_partition_reset(f->p, NULL));
    pta_partition_start(f->p);
    fixture_drain();
    assert_false(pta_partition_running(f->p));
    assert_int_equal(pta_partition_halt_reason(f->p)->kind, PTA_HALT_DEBUG_BREAK);
    pta_partition_stop(f->p);
    assert_true(pta_partition_restore(f->p, halted, NULL));
    assert_int_equal(pta_partition_halt_reason(f->p)->kind, PTA_HALT_POWER_OFF);
    assert_true(pta_partition_restore(f->p, running, NULL));
    assert_int_equal(pta_partition_halt_reason(f->p)->kind, PTA_HALT_DEBUG_BREAK);
    pta_partition_start(f->p);
    assert_false(pta_partition_running(f->p));
    assert_int_equal(f->debug_stops, 1);
    assert_int_equal(f->debug_goes, 0);

    pta_partition_debug_resume(f->p, heard, &last);
    fixture_wait_running(f, 0);
    assert_int_equal(f->debug_goes, 1);
    assert_int_equal(f->halts, 0);
    json_decref(running);
    json_decref(halted);
}

/* What a debugger stopped, and has let go since, does not stand still again; a break that it asked for
 * meanwhile comes. */
static void a_debuggers_stop_is_not_restored(void **state)
{
    Fixture *f = *state;
    PtaHaltKind last = PTA_N_HALTS;
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_start(f->p);
    pta_partition_debug_resume(f->p, heard, &last);
    pta_partition_debug_break(f->p);
    fixture_drain();
    assert_int_equal(last, PTA_HALT_DEBUG_BREAK);
    pta_partition_stop(f->p);
    json_t *saved = pta_partition_save(f->p);
    pta_partition_debug_resume(f->p, heard, &last);
    last = PTA_N_HALTS;
    assert_true(pta_partition_restore(f->p, saved, NULL));
    assert_null(pta_partition_halt_reason(f->p));
    pta_partition_debug_break(f->p);
    assert_true(pta_partition_restore(f->p, saved, NULL));
    pta_partition_start(f->p);
    fixture_drain();
    assert_int_equal(last, PTA_HALT_DEBUG_BREAK);
    pta_partition_debug_resume(f->p, heard, &last);
    pta_partition_debug_detach(f->p);
    pta_partition_stop(f->p);
    assert_true(pta_partition_restore(f->p, saved, NULL));
    pta_partition_start(f->p);
    fixture_wait_running(f, 0);
    assert_int_equal(f->halts, 0);
    json_decref(saved);
}

static void a_restored_halt_is_told_to_a_debugger_that_waits(void **state)
{
    Fixture *f = *state;
    PtaHaltKind last = PTA_N_HALTS;
    pta_partition_start(f->p);
    fixture_halt(f, PTA_HALT_HIBERNATE);
    fixture_wait_for(&f->halts, 1);
    pta_partition_stop(f->p);
    json_t *saved = pta_partition_save(f->p);
    assert_true(pta_partition_clear_halt(f->p));
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_debug_resume(f->p, heard, &last);
    assert_true(pta_partition_restore(f->p, saved, NULL));
    assert_int_equal(last, PTA_HALT_HIBERNATE);
    assert_true(pta_partition_debug_holds(f->p));
    json_decref(saved);
}

/* Only the debugger heard of it, and has gone when it comes back. */
static void a_restored_halt_is_told_to_those_who_have_not_heard(void **state)
{
    Fixture *f = *state;
    PtaHaltKind last = PTA_N_HALTS;
    assert_true(pta_partition_debug_attach(f->p, NULL));
    pta_partition_start(f->p);
    pta_partition_debug_resume(f->p, heard, &last);
    fixture_halt(f, PTA_HALT_POWER_OFF);
    fixture_drain();
    pta_partition_stop(f->p);
    json_t *saved = through_text(pta_partition_save(f->p));
    assert_true(pta_partition_reset(f->p, NULL));
    pta_partition_debug_resume(f->p, heard, &last);
    pta_partition_debug_detach(f->p);
    assert_int_equal(f->halts, 0);
    assert_true(pta_partition_restore(f->p, saved, NULL));
    assert_int_equal(f->halts, 1);
    assert_int_equal(f->last, PTA_HALT_POWER_OFF);
    json_decref(saved);
    saved = pta_partition_save(f->p);
    assert_true(pta_partition_restore(f->p, saved, NULL));
    assert_int_equal(f->halts, 1);
    json_decref(saved);
}

static void a_halt_that_waits_is_saved(void **state)
{
    Fixture *f = *state;
    pta_partition_start(f->p);
    pta_partition_stop(f->p);
    fixture_halt(f, PTA_HALT_HIBERNATE); /* from an I/O thread, say */
    json_t *saved = pta_partition_save(f->p);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(saved, "halt"), "reason")), "hibernate");
    assert_int_equal(f->halts, 1);
    json_decref(saved);
}

static void guards_are_their_holders(void **state)
{
    Fixture *f = *state;
    PtaStopGuard *one = pta_partition_stop_vps(f->p);
    PtaStopGuard *two = pta_partition_stop_vps(f->p);
    json_t *saved = through_text(pta_partition_save(f->p));
    assert_int_equal(json_integer_value(json_object_get(saved, "stop-count")), 2);
    pta_stop_guard_free(two);
    assert_true(pta_partition_restore(f->p, saved, NULL));
    assert_int_equal(pta_partition_stop_count(f->p), 1);
    pta_partition_start(f->p);
    assert_false(pta_partition_running(f->p));
    pta_stop_guard_free(one);
    fixture_wait_running(f, 0);
    json_decref(saved);
}

static json_t *vp_entry(json_t *saved, size_t i)
{
    return json_array_get(json_object_get(saved, "vps"), i);
}

static void add_unknown_vp(json_t *saved)
{
    json_t *copy = json_deep_copy(vp_entry(saved, 1));
    json_object_set_new(copy, "vp-index", json_integer(4));
    json_array_append_new(json_object_get(saved, "vps"), copy);
}

static void negative_vp(json_t *saved)
{
    json_object_set_new(vp_entry(saved, 2), "vp-index", json_integer(-1));
}

static void vp_twice(json_t *saved)
{
    json_object_set_new(vp_entry(saved, 2), "vp-index", json_integer(1));
}

static void drop_vp(json_t *saved)
{
    json_array_remove(json_object_get(saved, "vps"), 3);
}

static void no_vps(json_t *saved)
{
    json_object_del(saved, "vps");
}

static void vps_no_array(json_t *saved)
{
    json_object_set_new(saved, "vps", json_object());
}

static void vp_no_object(json_t *saved)
{
    json_array_set_new(json_object_get(saved, "vps"), 0, json_integer(1));
}

static void more_members(json_t *saved)
{
    json_object_set_new(saved, "more", json_true());
}

static void bad_register(json_t *saved)
{
    json_t *fields = json_object_get(json_object_get(vp_entry(saved, 1), "state"), "fields");
    json_object_set_new(fields, "tsc", json_string("12"));
}

static void bad_halt_kind(json_t *saved)
{
    json_object_set_new(saved, "halt",
                        json_pack("{s:s, s:s, s:b, s:{}}", "reason", "replay-mtrrs", "text", "",
                                  "reported", 1, "state"));
}

static void bad_halt(json_t *saved)
{
    json_object_set_new(saved, "halt", json_string("power-off"));
}

static void bad_states_are_refused(void **state)
{
    static const struct {
        void (*spoil)(json_t *saved);
        const char *why;
    } bad[] = {
        { add_unknown_vp, "unknown entry id: vp4" },
        { negative_vp, "unknown entry id: vp-1" },
        { vp_twice, "vp1: saved twice" },
        { drop_vp, "vp3: missing" },
        { no_vps, "expected cpu, partition, vps, stop-count and perhaps halt" },
        { vps_no_array, "vps: expected an array" },
        { vp_no_object, "expected objects of vp-index and state" },
        { more_members, "expected cpu, partition, vps, stop-count and perhaps halt" },
        { bad_register, "vp1: vp.tsc: expected an integer as a string \"0x…\"" },
        { bad_halt_kind, "halt: \"replay-mtrrs\" is no reason" },
        { bad_halt, "halt: expected reason, text, reported and state" },
    };
    Fixture *f = *state;
    g_autofree PtaX86State *got = g_new(PtaX86State, 1);
    json_t *saved = pta_partition_save(f->p);
    for (unsigned i = 0; i < N_VPS; i++) {
        scramble(got, i);
        assert_true(pta_partition_set_vp_state(f->p, i, got, NULL));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        json_t *copy = json_deep_copy(saved);
        bad[i].spoil(copy);
        assert_false(pta_partition_restore(f->p, copy, &error));
        assert_string_equal(error->message, bad[i].why);
        assert_int_equal(error->code, PTA_ERROR_BAD_SNAPSHOT);
        json_decref(copy);
    }
    g_autofree PtaX86State *want = g_new(PtaX86State, 1);
    for (unsigned i = 0; i < N_VPS; i++) { /* none of them has changed a VP */
        scramble(want, i);
        pta_partition_get_vp_state(f->p, i, got);
        assert_memory_equal(got, want, sizeof(*got));
    }
    json_decref(saved);
}

static void a_halt_of_no_vp_is_refused(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    pta_partition_start(f->p);
    pta_partition_halt(f->p,
                       &(PtaHaltReason){ .kind = PTA_HALT_WATCHDOG, .has_vp = true, .vp = 2 });
    fixture_wait_for(&f->halts, 1);
    pta_partition_stop(f->p);
    json_t *saved = through_text(pta_partition_save(f->p));
    assert_true(pta_partition_restore(f->p, saved, NULL));
    json_t *state_of = json_object_get(json_object_get(saved, "halt"), "state");
    json_object_set_new(json_object_get(state_of, "fields"), "vp", json_string("0x4"));
    assert_false(pta_partition_restore(f->p, saved, &error));
    assert_string_equal(error->message, "halt: there is no vp4");
    assert_int_equal(error->code, PTA_ERROR_BAD_SNAPSHOT);
    json_decref(saved);
}

static void each_vp_that_refuses_is_named(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    json_t *saved = pta_partition_save(f->p);
    fake_backend_fail_set_state(pta_partition_backend(f->p), 2);
    assert_false(pta_partition_restore(f->p, saved, &error));
    assert_string_equal(error->message, "vp2: told to fail");
    json_decref(saved);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        CASE(registers_after_a_run_scrub_first),
        CASE(registers_may_be_set_under_a_guard),
        CASE(an_error_names_its_vp),
        CASE(a_failed_scrub_is_tried_again),
        CASE(there_is_one_vtl),
        CASE(mtrr_replay_is_invisible),
        CASE(mtrr_replay_beside_a_halt),
        CASE(page_visibility),
        CASE(every_field_is_saved),
        CASE(all_vps_come_back),
        CASE(a_halt_survives),
        CASE(a_debugger_goes_on_holding),
        CASE(a_debuggers_stop_is_not_restored),
        CASE(a_restored_halt_is_told_to_a_debugger_that_waits),
        CASE(a_restored_halt_is_told_to_those_who_have_not_heard),
        CASE(a_halt_that_waits_is_saved),
        CASE(guards_are_their_holders),
        CASE(bad_states_are_refused),
        CASE(a_halt_of_no_vp_is_refused),
        CASE(each_vp_that_refuses_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
