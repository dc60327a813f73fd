/* State units: order, concurrency, aggregation of errors, saved states that do not fit, units that
 * come and go. */
#include "config.h"

#include "src/machine/units.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

typedef struct Fixture Fixture;

typedef struct Fake {
    const char *name;
    Fixture *f;
    bool fails;
    bool saves_nothing;
    unsigned value; /* its state */
    bool held;      /* LOCKED: its requests wait until it is let go */
    bool inside;    /* LOCKED: a request is waiting */
} Fake;

struct Fixture {
    PtaUnits *units;
    Fake disk, net, cpu, late;
    GMutex lock;
    GCond cond;
    GString *record; /* LOCKED */
    unsigned done;   /* transitions that ended */
    json_t *saved;
    char *error;
    int code;
};

static void note(Fake *fake, char what)
{
    Fixture *f = fake->f;
    g_mutex_lock(&f->lock);
    g_string_append_printf(f->record, "%c%s", what, fake->name);
    fake->inside = true;
    g_cond_broadcast(&f->cond);
    while (fake->held) {
        g_cond_wait(&f->cond, &f->lock);
    }
    fake->inside = false;
    g_mutex_unlock(&f->lock);
}

static void fake_start(void *opaque)
{
    note(opaque, '+');
}

static void fake_stop(void *opaque)
{
    note(opaque, '-');
}

static bool result(Fake *fake, GError **error)
{
    return !fake->fails || pta_throw(error, PTA_ERROR_HOST, "it is broken");
}

static bool fake_reset(void *opaque, GError **error)
{
    Fake *fake = opaque;
    note(fake, '=');
    fake->value = 0;
    return result(fake, error);
}

static bool fake_save(void *opaque, json_t **state, GError **error)
{
    Fake *fake = opaque;
    note(fake, '>');
    if (!fake->saves_nothing) {
        *state = json_integer(fake->value);
    }
    return result(fake, error);
}

static bool fake_restore(void *opaque, json_t *state, GError **error)
{
    Fake *fake = opaque;
    note(fake, '<');
    fake->value = (unsigned)json_integer_value(state);
    return result(fake, error);
}

static const PtaUnitOps quick_ops = { fake_start, fake_stop,    fake_reset,
                                      fake_save,  fake_restore, false };
static const PtaUnitOps slow_ops = { fake_start, fake_stop,    fake_reset,
                                     fake_save,  fake_restore, true };
static const PtaUnitOps no_ops = { 0 };

/* disk and net, and cpu that needs both. */
static int make(void **state, const PtaUnitOps *ops)
{
    static const char *const on_all[] = { "disk", "net", NULL };
    Fixture *f = g_new0(Fixture, 1);
    g_mutex_init(&f->lock);
    g_cond_init(&f->cond);
    f->record = g_string_new(NULL);
    f->disk = (Fake){ .name = "disk", .f = f };
    f->net = (Fake){ .name = "net", .f = f };
    f->cpu = (Fake){ .name = "cpu", .f = f };
    f->late = (Fake){ .name = "late", .f = f };
    f->units = pta_units_new();
    *state = f;
    return pta_units_add(f->units, "disk", NULL, NULL, ops, &f->disk, NULL) &&
                   pta_units_add(f->units, "net", NULL, NULL, ops, &f->net, NULL) &&
                   pta_units_add(f->units, "cpu", on_all, NULL, &quick_ops, &f->cpu, NULL)
               ? 0
               : -1;
}

static int setup(void **state)
{
    return make(state, &quick_ops);
}

static int setup_slow(void **state)
{
    return make(state, &slow_ops);
}

static int teardown(void **state)
{
    Fixture *f = *state;
    pta_units_free(f->units);
    json_decref(f->saved);
    g_free(f->error);
    g_string_free(f->record, TRUE);
    g_cond_clear(&f->cond);
    g_mutex_clear(&f->lock);
    g_free(f);
    return 0;
}

static void on_done(void *data, json_t *saved, const GError *error)
{
    Fixture *f = data;
    f->done++;
    json_decref(f->saved);
    f->saved = json_incref(saved);
    g_free(f->error);
    f->error = error ? g_strdup(error->message) : NULL;
    f->code = error ? error->code : -1;
}

static void wait_done(Fixture *f, unsigned n)
{
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (f->done < n) {
        g_main_context_iteration(NULL, FALSE);
        assert_true(g_get_monotonic_time() < end);
    }
    assert_int_equal(f->done, n);
}

static void expect_record(Fixture *f, const char *text)
{
    assert_string_equal(f->record->str, text);
    g_string_truncate(f->record, 0);
}

static void hold(Fake *fake, bool held)
{
    g_mutex_lock(&fake->f->lock);
    fake->held = held;
    g_cond_broadcast(&fake->f->cond);
    g_mutex_unlock(&fake->f->lock);
}

static void wait_inside(Fake *fake)
{
    g_mutex_lock(&fake->f->lock);
    while (!fake->inside) {
        g_cond_wait(&fake->f->cond, &fake->f->lock);
    }
    g_mutex_unlock(&fake->f->lock);
}

/* ---- transitions: what, and in what order ---- */

static void state_changes(void **state)
{
    Fixture *f = *state;
    f->disk.value = 5;
    pta_units_start(f->units, on_done, f);
    assert_true(pta_units_started(f->units));
    pta_units_start(f->units, on_done, f); /* nobody is stopped */
    pta_units_stop(f->units, on_done, f);
    pta_units_stop(f->units, on_done, f);
    assert_int_equal(f->done, 4); /* units that never wait are done at once */
    expect_record(f, "+disk+net+cpu-cpu-net-disk");
    pta_units_save(f->units, on_done, f);
    expect_record(f, ">disk>net>cpu");
    json_t *saved = json_incref(f->saved);
    pta_units_reset(f->units, on_done, f);
    expect_record(f, "=disk=net=cpu");
    assert_int_equal(f->disk.value, 0);
    pta_units_restore(f->units, saved, on_done, f);
    expect_record(f, "<disk<net<cpu");
    assert_int_equal(f->disk.value, 5);
    assert_null(f->error);
    json_decref(saved);
}

static void without_done(void **state)
{
    Fixture *f = *state;
    pta_units_start(f->units, NULL, NULL);
    pta_units_stop(f->units, NULL, NULL);
    expect_record(f, "+disk+net+cpu-cpu-net-disk");
}

typedef struct Seen {
    GString *text;
} Seen;

static void see(void *data, const char *name, PtaUnitState state, const char *const *depends)
{
    Seen *seen = data;
    g_autofree char *list = g_strjoinv(",", (char **)depends);
    g_string_append_printf(seen->text, "%s(%s)=%s ", name, list, pta_unit_state_name(state));
}

static void expect_states(Fixture *f, const char *text)
{
    Seen seen = { g_string_new(NULL) };
    pta_units_foreach(f->units, see, &seen);
    assert_string_equal(seen.text->str, text);
    g_string_free(seen.text, TRUE);
}

/* Those that do not need one another act at once; who needs them waits; all can be seen meanwhile. */
static void dependencies(void **state)
{
    Fixture *f = *state;
    hold(&f->disk, true);
    hold(&f->net, true);
    pta_units_start(f->units, on_done, f);
    wait_inside(&f->disk);
    wait_inside(&f->net);
    assert_true(pta_units_busy(f->units));
    expect_states(f, "disk()=starting net()=starting cpu(disk,net)=stopped ");
    hold(&f->net, false);
    for (int i = 0; i < 20; i++) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(500);
    }
    assert_int_equal(f->done, 0);
    hold(&f->disk, false);
    wait_done(f, 1);
    assert_true(g_str_has_suffix(f->record->str, "+cpu"));
    expect_states(f, "disk()=running net()=running cpu(disk,net)=running ");

    g_string_truncate(f->record, 0);
    hold(&f->disk, true);
    pta_units_stop(f->units, on_done, f);
    wait_inside(&f->disk);
    assert_true(g_str_has_prefix(f->record->str, "-cpu"));
    hold(&f->disk, false);
    wait_done(f, 2);
    expect_states(f, "disk()=stopped net()=stopped cpu(disk,net)=stopped ");
}

static void every_request_may_wait(void **state)
{
    Fixture *f = *state;
    f->net.value = 3;
    pta_units_save(f->units, on_done, f);
    wait_done(f, 1);
    json_t *saved = json_incref(f->saved);
    pta_units_reset(f->units, on_done, f);
    wait_done(f, 2);
    assert_int_equal(f->net.value, 0);
    pta_units_restore(f->units, saved, on_done, f);
    wait_done(f, 3);
    assert_int_equal(f->net.value, 3);
    json_decref(saved);
}

static void freed_in_the_middle(void **state)
{
    Fixture *f = *state;
    pta_units_start(f->units, on_done, f);
    assert_true(pta_units_busy(f->units));
    pta_units_free(f->units);
    f->units = pta_units_new();
    assert_int_equal(f->done, 1);
    assert_true(g_str_has_prefix(strstr(f->record->str, "-cpu"), "-cpu-"));
}

/* ---- errors ---- */

static void all_take_part_whatever_fails(void **state)
{
    Fixture *f = *state;
    f->disk.fails = f->cpu.fails = true;
    pta_units_reset(f->units, on_done, f);
    wait_done(f, 1);
    assert_string_equal(f->error, "disk: it is broken; cpu: it is broken");
    assert_int_equal(f->code, PTA_ERROR_HOST);
    assert_non_null(strstr(f->record->str, "=net"));
    pta_units_save(f->units, on_done, f);
    wait_done(f, 2);
    assert_string_equal(f->error, "disk: it is broken; cpu: it is broken");
    json_t *saved = json_incref(f->saved);
    pta_units_restore(f->units, saved, on_done, f);
    wait_done(f, 3);
    assert_string_equal(f->error, "disk: it is broken; cpu: it is broken");
    json_decref(saved);
    f->disk.fails = f->cpu.fails = false;
    pta_units_reset(f->units, on_done, f);
    wait_done(f, 4);
    assert_null(f->error);
}

static void names_are_unique_and_known(void **state)
{
    static const char *const unknown[] = { "gpu", NULL };
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    assert_false(pta_units_add(f->units, "net", NULL, NULL, &quick_ops, &f->net, &error));
    assert_string_equal(error->message, "unit name \"net\" is in use");
    g_clear_error(&error);
    assert_false(pta_units_add(f->units, "vga", unknown, NULL, &quick_ops, &f->net, &error));
    assert_string_equal(error->message, "unit \"vga\" names the unknown unit \"gpu\"");
    g_clear_error(&error);
    assert_false(pta_units_add(f->units, "vga", NULL, unknown, &quick_ops, &f->net, &error));
    assert_string_equal(error->message, "unit \"vga\" names the unknown unit \"gpu\"");
}

static void circles_are_refused(void **state)
{
    static const char *const cpu[] = { "cpu", NULL };
    static const char *const disk[] = { "disk", NULL };
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    assert_false(pta_units_add(f->units, "x", cpu, disk, &quick_ops, &f->late, &error));
    assert_string_equal(error->message, "unit \"x\" would depend on itself, by way of others");
    g_clear_error(&error);
    assert_false(pta_units_add(f->units, "x", cpu, cpu, &quick_ops, &f->late, &error));
    assert_non_null(error);
    assert_true(pta_units_add(f->units, "x", disk, cpu, &quick_ops, &f->late, NULL));
    pta_units_start(f->units, on_done, f);
    expect_record(f, "+disk+net+late+cpu");
}

/* ---- saved states ---- */

static void nothing_to_save(void **state)
{
    Fixture *f = *state;
    static const char *const on_net[] = { "net", NULL };
    static const char *const cpu[] = { "cpu", NULL };
    assert_true(pta_units_add(f->units, "plain", on_net, cpu, &no_ops, NULL, NULL));
    f->net.saves_nothing = true;
    pta_units_save(f->units, on_done, f);
    char *text = json_dumps(f->saved, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text,
                        "[{\"name\":\"disk\",\"state\":0},{\"name\":\"net\",\"state\":null},"
                        "{\"name\":\"cpu\",\"state\":0},{\"name\":\"plain\",\"state\":null}]");
    free(text);
    /* Such a unit is skipped and still keeps its place in the order: cpu comes after net and plain. */
    g_string_truncate(f->record, 0);
    json_t *saved = json_incref(f->saved);
    pta_units_restore(f->units, saved, on_done, f);
    expect_record(f, "<disk<cpu");
    json_decref(saved);
}

static void what_does_not_fit_is_refused(void **state)
{
    static const struct {
        const char *saved, *why;
    } bad[] = {
        { "{}", "expected an array of units" },
        { "[1]", "expected units as objects of name and state" },
        { "[{\"name\": \"disk\"}]", "expected units as objects of name and state" },
        { "[{\"name\": 1, \"state\": 1}]", "expected units as objects of name and state" },
        { "[{\"name\": \"disk\", \"state\": 1, \"x\": 1}]",
          "expected units as objects of name and state" },
        { "[{\"name\": \"gpu\", \"state\": 1}]", "unknown unit name \"gpu\"" },
        { "[{\"name\": \"disk\", \"state\": 1}, {\"name\": \"disk\", \"state\": null}]",
          "duplicate unit name \"disk\"" },
        { "[{\"name\": \"disk\", \"state\": 1}, {\"name\": \"cpu\", \"state\": 1}]",
          "missing unit name \"net\"" },
        { "[]", "missing unit name \"disk\"" },
    };
    Fixture *f = *state;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        json_t *saved = json_loads(bad[i].saved, 0, NULL);
        pta_units_restore(f->units, saved, on_done, f);
        assert_int_equal(f->done, i + 1);
        assert_string_equal(f->error, bad[i].why);
        assert_int_equal(f->code, PTA_ERROR_BAD_SNAPSHOT);
        json_decref(saved);
    }
    expect_record(f, ""); /* no unit has seen any of it */
    assert_true(pta_units_add(f->units, "plain", NULL, NULL, &no_ops, NULL, NULL));
    json_t *saved = json_loads("[{\"name\": \"plain\", \"state\": 1}]", 0, NULL);
    pta_units_restore(f->units, saved, on_done, f);
    assert_string_equal(f->error, "unit \"plain\" has no state to restore");
    json_decref(saved);
}

/* ---- units that come and go ---- */

static void added_while_started_waits_for_the_next_start(void **state)
{
    static const char *const on_net[] = { "net", NULL };
    Fixture *f = *state;
    pta_units_start(f->units, NULL, NULL);
    g_string_truncate(f->record, 0);
    assert_true(pta_units_add(f->units, "late", on_net, NULL, &quick_ops, &f->late, NULL));
    expect_record(f, "");
    expect_states(f, "disk()=running net()=running cpu(disk,net)=running late(net)=stopped ");
    pta_units_start(f->units, NULL, NULL);
    expect_record(f, "+late");
    pta_units_remove(f->units, "late");
    expect_record(f, "-late");
    pta_units_remove(f->units, "late");
    expect_record(f, "");
}

static void removed_dependency_is_tolerated(void **state)
{
    Fixture *f = *state;
    pta_units_remove(f->units, "disk");
    expect_states(f, "net()=stopped cpu(net)=stopped ");
    pta_units_start(f->units, NULL, NULL);
    expect_record(f, "+net+cpu");
}

static void many_units_at_once(void **state)
{
    Fixture *f = *state;
    Fake many[64];
    for (unsigned i = 0; i < G_N_ELEMENTS(many); i++) {
        char name[16];
        g_snprintf(name, sizeof(name), "m%u", i);
        many[i] = (Fake){ .name = "m", .f = f };
        assert_true(pta_units_add(f->units, name, NULL, NULL, &slow_ops, &many[i], NULL));
    }
    for (unsigned i = 1; i <= 40; i += 2) {
        pta_units_start(f->units, on_done, f);
        wait_done(f, i);
        pta_units_stop(f->units, on_done, f);
        wait_done(f, i + 1);
    }
    pta_units_free(f->units);
    f->units = pta_units_new();
}

#define CASE(name)      cmocka_unit_test_setup_teardown(name, setup, teardown)
#define CASE_SLOW(name) cmocka_unit_test_setup_teardown(name, setup_slow, teardown)

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        CASE(state_changes),
        CASE(without_done),
        CASE_SLOW(dependencies),
        CASE_SLOW(every_request_may_wait),
        CASE_SLOW(freed_in_the_middle),
        CASE(all_take_part_whatever_fails),
        CASE_SLOW(all_take_part_whatever_fails),
        CASE(names_are_unique_and_known),
        CASE(circles_are_refused),
        CASE(nothing_to_save),
        CASE(what_does_not_fit_is_refused),
        CASE(added_while_started_waits_for_the_next_start),
        CASE(removed_dependency_is_tolerated),
        CASE_SLOW(many_units_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
