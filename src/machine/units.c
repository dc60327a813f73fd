/* State units. A unit may depend only on units added before it, so the order of adding is an order
 * of dependencies and cycles cannot be. Main thread. */
#include "config.h"

#include "src/machine/units.h"

typedef struct Unit {
    char *name;
    const PtaUnitOps *ops;
    void *opaque;
    bool started;
} Unit;

struct PtaUnits {
    GPtrArray *list; /* of Unit, in order of adding */
    bool started;
};

static void unit_free(gpointer data)
{
    Unit *unit = data;
    g_free(unit->name);
    g_free(unit);
}

PtaUnits *pta_units_new(void)
{
    PtaUnits *units = g_new0(PtaUnits, 1);
    units->list = g_ptr_array_new_with_free_func(unit_free);
    return units;
}

static void unit_stop(Unit *unit)
{
    if (unit->started) {
        unit->started = false;
        unit->ops->stop(unit->opaque);
    }
}

void pta_units_free(PtaUnits *units)
{
    if (!units) {
        return;
    }
    pta_units_stop(units);
    g_ptr_array_free(units->list, TRUE);
    g_free(units);
}

static Unit *find(const PtaUnits *units, const char *name, guint *index)
{
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        if (g_str_equal(unit->name, name)) {
            if (index) {
                *index = i;
            }
            return unit;
        }
    }
    return NULL;
}

bool pta_units_add(PtaUnits *units, const char *name, const char *const *depends,
                   const PtaUnitOps *ops, void *opaque, GError **error)
{
    pta_assert_main();
    if (find(units, name, NULL)) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "unit name \"%s\" is in use", name);
    }
    for (; depends && *depends; depends++) {
        if (!find(units, *depends, NULL)) {
            return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                             "unit \"%s\" depends on unknown \"%s\"", name, *depends);
        }
    }
    Unit *unit = g_new(Unit, 1);
    *unit = (Unit){ .name = g_strdup(name), .ops = ops, .opaque = opaque };
    g_ptr_array_add(units->list, unit);
    return true;
}

void pta_units_remove(PtaUnits *units, const char *name)
{
    pta_assert_main();
    guint i;
    Unit *unit = find(units, name, &i);
    if (unit) {
        unit_stop(unit);
        g_ptr_array_remove_index(units->list, i);
    }
}

void pta_units_start(PtaUnits *units)
{
    pta_assert_main();
    units->started = true;
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        if (!unit->started) {
            unit->started = true;
            unit->ops->start(unit->opaque);
        }
    }
}

void pta_units_stop(PtaUnits *units)
{
    pta_assert_main();
    units->started = false;
    for (guint i = units->list->len; i-- > 0;) {
        unit_stop(g_ptr_array_index(units->list, i));
    }
}

bool pta_units_started(const PtaUnits *units)
{
    return units->started;
}

bool pta_units_reset(PtaUnits *units, GError **error)
{
    pta_assert_main();
    g_assert(!units->started);
    g_autoptr(GString) failed = g_string_new(NULL);
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        g_autoptr(GError) why = NULL;
        if (!unit->ops->reset(unit->opaque, &why)) {
            g_string_append_printf(failed, "%s%s: %s", failed->len ? "; " : "", unit->name,
                                   why->message);
        }
    }
    if (failed->len > 0) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "reset failed: %s", failed->str);
    }
    return true;
}

void pta_units_foreach(const PtaUnits *units, PtaUnitFn *fn, void *data)
{
    for (guint i = 0; i < units->list->len; i++) {
        const Unit *unit = g_ptr_array_index(units->list, i);
        fn(data, unit->name, unit->started);
    }
}
