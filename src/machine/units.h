/*
 * State units: what starts, stops, resets, is saved and restored together with the machine, in an
 * order. A unit names the units that it depends on: they start, reset and are restored before it, and
 * stop after it; saving has no order. Units that do not depend on one another make a transition at the
 * same time: those that may wait do so in threads of their own, so that the main loop, and with it
 * the monitor and inspect, go on.
 *
 * All take part whatever fails: errors are collected by unit.
 *
 * Threads: MAIN.
 */
#ifndef PTA_UNITS_H
#define PTA_UNITS_H

#include <jansson.h>

#include "src/util/util.h"

typedef struct PtaUnits PtaUnits;

typedef enum PtaUnitState {
    PTA_UNIT_STOPPED,
    PTA_UNIT_STARTING,
    PTA_UNIT_RUNNING,
    PTA_UNIT_STOPPING,
    PTA_UNIT_RESETTING,
    PTA_UNIT_SAVING,
    PTA_UNIT_RESTORING,
} PtaUnitState;

const char *pta_unit_state_name(PtaUnitState state); /* "stopping" */

/* Members may be NULL. */
typedef struct PtaUnitOps {
    void (*start)(void *opaque);
    void (*stop)(void *opaque);
    /* The others only while stopped. */
    bool (*reset)(void *opaque, GError **error);
    /* *state: a new reference, or left alone if there is nothing to save. */
    bool (*save)(void *opaque, json_t **state, GError **error);
    bool (*restore)(void *opaque, json_t *state, GError **error);
    /* They may wait for what others do (I/O in flight): they are called in a thread of
     * their own, one at a time for each unit. Else in the main thread, and must not wait. */
    bool may_wait;
} PtaUnitOps;

PtaUnits *pta_units_new(void);
/* Waits for the end of a transition and stops what has not been stopped. */
void pta_units_free(PtaUnits *units);

/*
 * depends_on, dependency_of: names of units, NULL-terminated, or NULL. GENERIC_ERROR if the name is
 * in use, another one unknown, or a circle would result. Added while started, a unit stays stopped
 * until the next start. Not during a transition.
 */
bool pta_units_add(PtaUnits *units, const char *name, const char *const *depends_on,
                   const char *const *dependency_of, const PtaUnitOps *ops, void *opaque,
                   GError **error);
/* Stops it first if it was started. Nothing if there is none of that name. Not during a transition.
 * The stop may wait, which the main loop does with it: prefer to remove what is stopped. */
void pta_units_remove(PtaUnits *units, const char *name);

/*
 * Transitions: one at a time. done(data, saved, error) is called when all units have made it, which
 * may be before these functions return. error, lent, is NULL if none failed, else "disk0: …; ram: …"
 * (of the code of the first), `saved` the result of pta_units_save(), lent, also if some failed.
 */
typedef void PtaUnitsDone(void *data, json_t *saved, const GError *error);

void pta_units_start(PtaUnits *units, PtaUnitsDone *done, void *data); /* those that are stopped */
void pta_units_stop(PtaUnits *units, PtaUnitsDone *done, void *data);  /* those that are started */
/* These want the units stopped. */
void pta_units_reset(PtaUnits *units, PtaUnitsDone *done, void *data);
/* [{"name": …, "state": … or null}, …] */
void pta_units_save(PtaUnits *units, PtaUnitsDone *done, void *data);
/* saved: lent until done. Refused before any unit sees it (BAD_SNAPSHOT): a name that is unknown,
 * there twice, or missing; a state for a unit that has none. Null restores nothing in its turn. */
void pta_units_restore(PtaUnits *units, json_t *saved, PtaUnitsDone *done, void *data);

bool pta_units_started(const PtaUnits *units); /* the last of start and stop was start */
bool pta_units_busy(const PtaUnits *units);    /* a transition is under way */

/* In the order of adding; for inspect. depends: names, lent, NULL-terminated. */
typedef void PtaUnitFn(void *data, const char *name, PtaUnitState state,
                       const char *const *depends);
void pta_units_foreach(const PtaUnits *units, PtaUnitFn *fn, void *data);

#endif
