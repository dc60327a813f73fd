/*
 * State units. A transition marks who takes part, then turns to whoever has nobody left to wait for,
 * again and again: units that never wait are done on the spot, the others by threads of their own
 * that post back when they are done. Main thread, but for unit_thread().
 */
#include "config.h"

#include "src/machine/units.h"

typedef enum Request {
    START,
    STOP,
    RESET,
    SAVE,
    RESTORE,
} Request;

/* How far a unit is in the transition under way. */
typedef enum Progress {
    APART, /* takes no part */
    WAITS,
    ACTS,
    DONE,
} Progress;

typedef struct Unit {
    PtaUnits *units;
    char *name;
    const PtaUnitOps *ops;
    void *opaque;
    GPtrArray *depends; /* of Unit: they come first */
    PtaUnitState state;
    Progress progress;
    /* The request's own; the unit's thread has them while it ACTS. */
    GThread *thread;
    json_t *saved;
    GError *error;
} Unit;

struct PtaUnits {
    GPtrArray *list; /* of Unit, in order of adding */
    bool started;
    bool busy;
    bool turning; /* advance() is on the stack */
    Request request;
    unsigned acting; /* units with a thread */
    PtaUnitsDone *done;
    void *data;
};

static const PtaUnitState acting_states[] = {
    [START] = PTA_UNIT_STARTING, [STOP] = PTA_UNIT_STOPPING,     [RESET] = PTA_UNIT_RESETTING,
    [SAVE] = PTA_UNIT_SAVING,    [RESTORE] = PTA_UNIT_RESTORING,
};

const char *pta_unit_state_name(PtaUnitState state)
{
    static const char *const names[] = {
        [PTA_UNIT_STOPPED] = "stopped",     [PTA_UNIT_STARTING] = "starting",
        [PTA_UNIT_RUNNING] = "running",     [PTA_UNIT_STOPPING] = "stopping",
        [PTA_UNIT_RESETTING] = "resetting", [PTA_UNIT_SAVING] = "saving",
        [PTA_UNIT_RESTORING] = "restoring",
    };
    return names[state];
}

/* ---- requests to single units ---- */

static bool has_op(const Unit *unit, Request request)
{
    switch (request) {
    case START:
        return unit->ops->start;
    case STOP:
        return unit->ops->stop;
    case RESET:
        return unit->ops->reset;
    case SAVE:
        return unit->ops->save;
    case RESTORE:
        return unit->ops->restore && unit->saved;
    }
    g_assert_not_reached();
}

/* The one thing that happens outside the main thread, if the unit may wait. */
static void run_request(Unit *unit, Request request)
{
    switch (request) {
    case START:
        unit->ops->start(unit->opaque);
        break;
    case STOP:
        unit->ops->stop(unit->opaque);
        break;
    case RESET:
        unit->ops->reset(unit->opaque, &unit->error);
        break;
    case SAVE:
        unit->ops->save(unit->opaque, &unit->saved, &unit->error);
        break;
    case RESTORE:
        unit->ops->restore(unit->opaque, unit->saved, &unit->error);
        break;
    }
}

static void advance(PtaUnits *units);

static void unit_done(Unit *unit)
{
    unit->progress = DONE;
    unit->state = unit->units->request == START ? PTA_UNIT_RUNNING : PTA_UNIT_STOPPED;
}

static void unit_answered(void *data)
{
    Unit *unit = data;
    g_thread_join(unit->thread);
    unit->thread = NULL;
    unit->units->acting--;
    unit_done(unit);
    advance(unit->units);
}

static void *unit_thread(void *data)
{
    Unit *unit = data;
    run_request(unit, unit->units->request);
    pta_main_call(unit_answered, unit);
    return NULL;
}

static void unit_begin(Unit *unit)
{
    PtaUnits *units = unit->units;
    unit->progress = ACTS;
    unit->state = acting_states[units->request];
    if (!has_op(unit, units->request)) {
        unit_done(unit);
        return;
    }
    if (unit->ops->may_wait) {
        unit->thread = g_thread_try_new(unit->name, unit_thread, unit, NULL);
    }
    if (unit->thread) {
        units->acting++;
    } else { /* or there is no thread to be had: then all wait for it */
        run_request(unit, units->request);
        unit_done(unit);
    }
}

/* ---- transitions ---- */

static bool is_over(const Unit *unit)
{
    return unit->progress == APART || unit->progress == DONE;
}

static bool depends_on(const Unit *unit, const Unit *other)
{
    return g_ptr_array_find(unit->depends, other, NULL);
}

/* Whether all that have to come before it have. */
static bool is_ready(const Unit *unit)
{
    const PtaUnits *units = unit->units;
    if (units->request == SAVE) {
        return true;
    }
    for (guint i = 0; i < units->list->len; i++) {
        const Unit *other = g_ptr_array_index(units->list, i);
        bool first = units->request == STOP ? depends_on(other, unit) : depends_on(unit, other);
        if (first && !is_over(other)) {
            return false;
        }
    }
    return true;
}

/* Takes the errors of all units; NULL if there are none. */
static GError *collect_errors(PtaUnits *units)
{
    g_autoptr(GString) text = g_string_new(NULL);
    int code = PTA_ERROR_GENERIC_ERROR;
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        if (!unit->error) {
            continue;
        }
        if (text->len == 0 && unit->error->domain == PTA_ERROR) {
            code = unit->error->code;
        }
        bool named = g_str_has_prefix(unit->error->message, unit->name);
        g_string_append_printf(text, "%s%s%s%s", text->len ? "; " : "", named ? "" : unit->name,
                               named ? "" : ": ", unit->error->message);
        g_clear_error(&unit->error);
    }
    return text->len > 0 ? g_error_new_literal(PTA_ERROR, code, text->str) : NULL;
}

static json_t *collect_saved(PtaUnits *units)
{
    json_t *list = json_array();
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        json_array_append_new(list,
                              json_pack("{s:s, s:O?}", "name", unit->name, "state", unit->saved));
    }
    return list;
}

static void finish(PtaUnits *units)
{
    g_autoptr(GError) error = collect_errors(units);
    json_t *saved = units->request == SAVE ? collect_saved(units) : NULL;
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        json_decref(unit->saved);
        unit->saved = NULL;
        unit->progress = APART;
    }
    units->busy = false;
    if (units->done) {
        units->done(units->data, saved, error);
    }
    json_decref(saved);
}

static void advance(PtaUnits *units)
{
    if (units->turning) {
        return;
    }
    units->turning = true;
    bool over;
    for (bool moved = true; moved;) {
        moved = false;
        over = true;
        for (guint i = 0; i < units->list->len; i++) {
            /* Stopping goes the other way round, so that one pass does most. */
            guint at = units->request == STOP ? units->list->len - 1 - i : i;
            Unit *unit = g_ptr_array_index(units->list, at);
            if (unit->progress == WAITS && is_ready(unit)) {
                unit_begin(unit);
                moved = true;
            }
            over &= is_over(unit);
        }
    }
    units->turning = false;
    if (over) {
        finish(units);
    } else {
        g_assert(units->acting > 0); /* there are no circles: somebody always can */
    }
}

static void begin(PtaUnits *units, Request request, PtaUnitsDone *done, void *data)
{
    pta_assert_main();
    g_assert(!units->busy);
    units->busy = true;
    units->request = request;
    units->done = done;
    units->data = data;
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        bool apart = (request == START && unit->state == PTA_UNIT_RUNNING) ||
                     (request == STOP && unit->state == PTA_UNIT_STOPPED);
        g_assert(request <= STOP || unit->state == PTA_UNIT_STOPPED);
        unit->progress = apart ? APART : WAITS;
    }
    advance(units);
}

void pta_units_start(PtaUnits *units, PtaUnitsDone *done, void *data)
{
    units->started = true;
    begin(units, START, done, data);
}

void pta_units_stop(PtaUnits *units, PtaUnitsDone *done, void *data)
{
    units->started = false;
    begin(units, STOP, done, data);
}

void pta_units_reset(PtaUnits *units, PtaUnitsDone *done, void *data)
{
    begin(units, RESET, done, data);
}

void pta_units_save(PtaUnits *units, PtaUnitsDone *done, void *data)
{
    begin(units, SAVE, done, data);
}

/* ---- restore ---- */

static Unit *find(const PtaUnits *units, const char *name)
{
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        if (g_str_equal(unit->name, name)) {
            return unit;
        }
    }
    return NULL;
}

/* Gives one entry to its unit; seen: names so far. */
static bool take_entry(const PtaUnits *units, json_t *entry, GHashTable *seen, GError **error)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    json_t *state = json_object_get(entry, "state");
    if (!name || !state || json_object_size(entry) != 2) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "expected units as objects of name and state");
    }
    Unit *unit = find(units, name);
    if (!unit) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "unknown unit name \"%s\"", name);
    }
    if (!g_hash_table_add(seen, unit)) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "duplicate unit name \"%s\"", name);
    }
    if (json_is_null(state)) {
        return true;
    }
    if (!unit->ops->restore) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "unit \"%s\" has no state to restore",
                         name);
    }
    unit->saved = json_incref(state);
    return true;
}

static bool take_saved(const PtaUnits *units, const json_t *saved, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    if (!json_is_array(saved)) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "expected an array of units");
    }
    for (size_t i = 0; i < json_array_size(saved); i++) {
        if (!take_entry(units, json_array_get(saved, i), seen, error)) {
            return false;
        }
    }
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        if (!g_hash_table_contains(seen, unit)) {
            return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "missing unit name \"%s\"", unit->name);
        }
    }
    return true;
}

void pta_units_restore(PtaUnits *units, json_t *saved, PtaUnitsDone *done, void *data)
{
    pta_assert_main();
    g_assert(!units->busy && !units->started);
    g_autoptr(GError) error = NULL;
    if (take_saved(units, saved, &error)) {
        begin(units, RESTORE, done, data);
        return;
    }
    for (guint i = 0; i < units->list->len; i++) {
        Unit *unit = g_ptr_array_index(units->list, i);
        json_decref(unit->saved);
        unit->saved = NULL;
    }
    if (done) {
        done(data, NULL, error);
    }
}

/* ---- life ---- */

static void unit_free(gpointer data)
{
    Unit *unit = data;
    g_ptr_array_unref(unit->depends);
    g_free(unit->name);
    g_free(unit);
}

PtaUnits *pta_units_new(void)
{
    PtaUnits *units = g_new0(PtaUnits, 1);
    units->list = g_ptr_array_new_with_free_func(unit_free);
    return units;
}

static void wait(PtaUnits *units)
{
    while (units->busy) {
        g_main_context_iteration(NULL, TRUE);
    }
}

void pta_units_free(PtaUnits *units)
{
    if (!units) {
        return;
    }
    wait(units);
    pta_units_stop(units, NULL, NULL);
    wait(units);
    g_ptr_array_free(units->list, TRUE);
    g_free(units);
}

/* Whether `from` needs `to`, directly or not. */
static bool reaches(const Unit *from, const Unit *to)
{
    if (from == to) {
        return true;
    }
    for (guint i = 0; i < from->depends->len; i++) {
        if (reaches(g_ptr_array_index(from->depends, i), to)) {
            return true;
        }
    }
    return false;
}

/* The units of these names, or NULL and an error. */
static GPtrArray *resolve(const PtaUnits *units, const char *name, const char *const *others,
                          GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    for (; others && *others; others++) {
        Unit *unit = find(units, *others);
        if (!unit) {
            pta_throw(error, PTA_ERROR_GENERIC_ERROR, "unit \"%s\" names the unknown unit \"%s\"",
                      name, *others);
            return NULL;
        }
        g_ptr_array_add(found, unit);
    }
    return g_steal_pointer(&found);
}

static bool makes_circle(const GPtrArray *needs, const GPtrArray *needed_by)
{
    for (guint i = 0; i < needs->len; i++) {
        for (guint k = 0; k < needed_by->len; k++) {
            if (reaches(g_ptr_array_index(needs, i), g_ptr_array_index(needed_by, k))) {
                return true;
            }
        }
    }
    return false;
}

bool pta_units_add(PtaUnits *units, const char *name, const char *const *depends,
                   const char *const *dependency_of, const PtaUnitOps *ops, void *opaque,
                   GError **error)
{
    pta_assert_main();
    g_assert(!units->busy);
    if (find(units, name)) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "unit name \"%s\" is in use", name);
    }
    g_autoptr(GPtrArray) needs = resolve(units, name, depends, error);
    g_autoptr(GPtrArray) needed_by = needs ? resolve(units, name, dependency_of, error) : NULL;
    if (!needed_by) {
        return false;
    }
    if (makes_circle(needs, needed_by)) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                         "unit \"%s\" would depend on itself, by way of others", name);
    }
    Unit *unit = g_new0(Unit, 1);
    *unit = (Unit){ .units = units, .name = g_strdup(name), .ops = ops, .opaque = opaque };
    unit->depends = g_steal_pointer(&needs);
    for (guint i = 0; i < needed_by->len; i++) {
        Unit *other = g_ptr_array_index(needed_by, i);
        g_ptr_array_add(other->depends, unit);
    }
    g_ptr_array_add(units->list, unit);
    return true;
}

void pta_units_remove(PtaUnits *units, const char *name)
{
    pta_assert_main();
    g_assert(!units->busy);
    Unit *unit = find(units, name);
    if (!unit) {
        return;
    }
    if (unit->state == PTA_UNIT_RUNNING && unit->ops->stop) {
        unit->ops->stop(unit->opaque);
    }
    for (guint i = 0; i < units->list->len; i++) {
        Unit *other = g_ptr_array_index(units->list, i);
        while (g_ptr_array_remove(other->depends, unit)) {}
    }
    g_ptr_array_remove(units->list, unit);
}

bool pta_units_started(const PtaUnits *units)
{
    return units->started;
}

bool pta_units_busy(const PtaUnits *units)
{
    return units->busy;
}

void pta_units_foreach(const PtaUnits *units, PtaUnitFn *fn, void *data)
{
    for (guint i = 0; i < units->list->len; i++) {
        const Unit *unit = g_ptr_array_index(units->list, i);
        g_autoptr(GPtrArray) names = g_ptr_array_new();
        for (guint k = 0; k < unit->depends->len; k++) {
            g_ptr_array_add(names, ((const Unit *)g_ptr_array_index(unit->depends, k))->name);
        }
        g_ptr_array_add(names, NULL);
        fn(data, unit->name, unit->state, (const char *const *)names->pdata);
    }
}
