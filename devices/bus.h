/*
 * An address space of device registers: exact half-open ranges, no overlap, offset passed relative.
 * One for memory-mapped I/O, one for ports.
 *
 * Threads: add and remove MAIN while no VP runs; read and write from any VP thread, without a lock
 * of the bus (the device takes its own).
 */
#ifndef PTA_BUS_H
#define PTA_BUS_H

#include "src/util/util.h"

typedef struct PtaBus PtaBus;

typedef struct PtaBusOps {
    /* offset within the range; size 1, 2, 4, 8. An access never passes the end of the range. */
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
    /* An index register: a write within these bytes does nothing but say what the others mean. It may
     * come late, in order, before any other access of a VP and before the device is stopped. */
    uint16_t index_offset, index_size; /* 0: there is none */
} PtaBusOps;

PtaBus *pta_bus_new(const char *name);
void pta_bus_free(PtaBus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaBus, pta_bus_free)

/* Errors: GENERIC_ERROR "… overlaps …" names both, or length 0 or wrap-around. `name` is copied. */
bool pta_bus_add(PtaBus *bus, uint64_t base, uint64_t size, const char *name, const PtaBusOps *ops,
                 void *opaque, GError **error);
/* The range that was added with exactly this base; false if there is none. */
bool pta_bus_remove(PtaBus *bus, uint64_t base);

/* False if nothing is there (the caller answers all ones, or drops the write). */
bool pta_bus_read(PtaBus *bus, uint64_t addr, unsigned size, uint64_t *value);
bool pta_bus_write(PtaBus *bus, uint64_t addr, unsigned size, uint64_t value);

/* Calls fn for each range in ascending order: inspect, and the refusal of RAM on top of devices. */
typedef void PtaBusRangeFn(void *opaque, uint64_t base, uint64_t size, const char *name);
void pta_bus_foreach(const PtaBus *bus, PtaBusRangeFn *fn, void *opaque);

#endif
