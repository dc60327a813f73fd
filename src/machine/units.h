/*
 * State units: what starts, stops and resets together with the machine, in an order. A unit names
 * the units that it depends on: those start and reset before it, and stop after it.
 *
 * Threads: MAIN.
 */
#ifndef PTA_UNITS_H
#define PTA_UNITS_H

#include "src/util/util.h"

typedef struct PtaUnits PtaUnits;

typedef struct PtaUnitOps {
    void (*start)(void *opaque);
    void (*stop)(void *opaque);
    bool (*reset)(void *opaque, GError **error);
} PtaUnitOps;

PtaUnits *pta_units_new(void);
void pta_units_free(PtaUnits *units);

/* depends: names of units added before, NULL-terminated, or NULL. A name in use or unknown is our
 * bug or a bad description: GENERIC_ERROR. Added while started, a unit stays stopped until the next
 * start. */
bool pta_units_add(PtaUnits *units, const char *name, const char *const *depends,
                   const PtaUnitOps *ops, void *opaque, GError **error);
/* Stops it first if it was started. Names of removed units in others' dependencies are tolerated. */
void pta_units_remove(PtaUnits *units, const char *name);

void pta_units_start(PtaUnits *units); /* idempotent */
void pta_units_stop(PtaUnits *units);  /* idempotent */
bool pta_units_started(const PtaUnits *units);
/* Stopped. All are reset whatever fails; the errors are collected: "ram: …; disk0: …". */
bool pta_units_reset(PtaUnits *units, GError **error);

/* Names in the order of starting; for inspect. */
typedef void PtaUnitFn(void *data, const char *name, bool started);
void pta_units_foreach(const PtaUnits *units, PtaUnitFn *fn, void *data);

#endif
