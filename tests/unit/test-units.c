/* State units: order, aggregation of errors, units that come and go. */
#include "config.h"

#include "src/machine/units.h"

#include "tests/lib/cmocka-all.h"

static GString *record;

typedef struct Fake {
    const char *name;
    bool fails;
} Fake;

static void fake_start(void *opaque)
{
    g_string_append_printf(record, "+%s", ((Fake *)opaque)->name);
}

static void fake_stop(void *opaque)
{
    g_string_append_printf(record, "-%s", ((Fake *)opaque)->name);
}

static bool fake_reset(void *opaque, GError **error)
{
    Fake *fake = opaque;
    g_string_append_printf(record, "=%s", fake->name);
    return !fake->fails || pta_throw(error, PTA_ERROR_HOST, "%s is broken", fake->name);
}

static const PtaUnitOps fake_ops = { fake_start, fake_stop, fake_reset };

typedef struct Fixture {
    PtaUnits *units;
    Fake disk, net, cpu;
} Fixture;

static int setup(void **state)
{
    static const char *const on_disk[] = { "disk", NULL };
    static const char *const on_all[] = { "disk", "net", NULL };
    Fixture *f = g_new0(Fixture, 1);
    record = g_string_new(NULL);
    f->disk.name = "disk";
    f->net.name = "net";
    f->cpu.name = "cpu";
    f->units = pta_units_new();
    g_autoptr(GError) error = NULL;
    bool ok = pta_units_add(f->units, "disk", NULL, &fake_ops, &f->disk, &error) &&
              pta_units_add(f->units, "net", on_disk, &fake_ops, &f->net, &error) &&
              pta_units_add(f->units, "cpu", on_all, &fake_ops, &f->cpu, &error);
    *state = f;
    return ok ? 0 : -1;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    pta_units_free(f->units);
    g_string_free(record, TRUE);
    g_free(f);
    return 0;
}

static void order_of_dependencies(void **state)
{
    Fixture *f = *state;
    pta_units_start(f->units);
    pta_units_start(f->units);
    pta_units_stop(f->units);
    pta_units_stop(f->units);
    assert_true(pta_units_reset(f->units, NULL));
    assert_string_equal(record->str, "+disk+net+cpu-cpu-net-disk=disk=net=cpu");
}

static void all_are_reset_whatever_fails(void **state)
{
    Fixture *f = *state;
    f->disk.fails = f->cpu.fails = true;
    g_autoptr(GError) error = NULL;
    assert_false(pta_units_reset(f->units, &error));
    assert_string_equal(record->str, "=disk=net=cpu");
    assert_string_equal(error->message, "reset failed: disk: disk is broken; cpu: cpu is broken");
}

static void names_are_unique_and_known(void **state)
{
    static const char *const unknown[] = { "gpu", NULL };
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;
    assert_false(pta_units_add(f->units, "net", NULL, &fake_ops, &f->net, &error));
    assert_string_equal(error->message, "unit name \"net\" is in use");
    g_clear_error(&error);
    assert_false(pta_units_add(f->units, "vga", unknown, &fake_ops, &f->net, &error));
    assert_string_equal(error->message, "unit \"vga\" depends on unknown \"gpu\"");
}

static void added_while_started_waits_for_the_next_start(void **state)
{
    Fixture *f = *state;
    Fake late = { .name = "late" };
    pta_units_start(f->units);
    g_string_truncate(record, 0);
    assert_true(pta_units_add(f->units, "late", NULL, &fake_ops, &late, NULL));
    assert_string_equal(record->str, "");
    pta_units_start(f->units);
    assert_string_equal(record->str, "+late");
    pta_units_remove(f->units, "late");
    assert_string_equal(record->str, "+late-late");
    pta_units_remove(f->units, "late");
}

static void removed_dependency_is_tolerated(void **state)
{
    Fixture *f = *state;
    pta_units_remove(f->units, "disk");
    pta_units_start(f->units);
    assert_string_equal(record->str, "+net+cpu");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        CASE(order_of_dependencies),           CASE(all_are_reset_whatever_fails),
        CASE(names_are_unique_and_known),      CASE(added_while_started_waits_for_the_next_start),
        CASE(removed_dependency_is_tolerated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
