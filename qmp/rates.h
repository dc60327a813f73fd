/* Rates from two answers of `inspect` with "counters". Any thread. */
#ifndef PTA_RATES_H
#define PTA_RATES_H

#include <jansson.h>

/* Each {"$counter": N} of `now` that is one in `then`, too, gets a "$rate", the growth a second. One
 * that has become less was reset in between, and counts from zero. */
void pta_rates_add(json_t *now, const json_t *then, double seconds);

#endif
