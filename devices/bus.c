/*
 * A sorted array of ranges. It changes only while no VP runs, so the lookup, which any VP thread
 * makes, takes no lock and counts no reference.
 */
#include "config.h"

#include "devices/bus.h"

#include <string.h>

typedef struct Range {
    uint64_t base;
    uint64_t last; /* inclusive, so that a range may end at the top of the space */
    const PtaBusOps *ops;
    void *opaque;
    char *name;
} Range;

struct PtaBus {
    char *name;     /* CONST */
    GArray *ranges; /* of Range, ascending; changed by MAIN only, see above */
};

static void range_clear(void *data)
{
    g_free(((Range *)data)->name);
}

PtaBus *pta_bus_new(const char *name)
{
    PtaBus *bus = g_new0(PtaBus, 1);
    bus->name = g_strdup(name);
    bus->ranges = g_array_new(false, false, sizeof(Range));
    g_array_set_clear_func(bus->ranges, range_clear);
    return bus;
}

void pta_bus_free(PtaBus *bus)
{
    if (bus) {
        g_array_unref(bus->ranges);
        g_free(bus->name);
        g_free(bus);
    }
}

static Range *range_at(const PtaBus *bus, guint i)
{
    return &g_array_index(bus->ranges, Range, i);
}

/* Index of the first range that ends at or after addr; the number of ranges if there is none. */
static guint lower_bound(const PtaBus *bus, uint64_t addr)
{
    guint low = 0;
    guint high = bus->ranges->len;
    while (low < high) {
        guint mid = low + (high - low) / 2;
        if (range_at(bus, mid)->last < addr) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

bool pta_bus_add(PtaBus *bus, uint64_t base, uint64_t size, const char *name, const PtaBusOps *ops,
                 void *opaque, GError **error)
{
    if (size == 0 || size - 1 > UINT64_MAX - base) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                         "%s: a range of 0x%" G_GINT64_MODIFIER "x bytes at 0x%" G_GINT64_MODIFIER
                         "x cannot be for %s",
                         bus->name, size, base, name);
    }
    uint64_t last = base + (size - 1);
    guint i = lower_bound(bus, base);
    if (i < bus->ranges->len && range_at(bus, i)->base <= last) {
        const Range *there = range_at(bus, i);
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                         "%s: %s at 0x%" G_GINT64_MODIFIER "x-0x%" G_GINT64_MODIFIER
                         "x overlaps %s at 0x%" G_GINT64_MODIFIER "x-0x%" G_GINT64_MODIFIER "x",
                         bus->name, name, base, last, there->name, there->base, there->last);
    }
    Range range = { base, last, ops, opaque, g_strdup(name) };
    g_array_insert_val(bus->ranges, i, range);
    return true;
}

bool pta_bus_remove(PtaBus *bus, uint64_t base)
{
    guint i = lower_bound(bus, base);
    if (i == bus->ranges->len || range_at(bus, i)->base != base) {
        return false;
    }
    g_array_remove_index(bus->ranges, i);
    return true;
}

/* The range that addr is in, NULL if it is in none. */
static const Range *range_find(const PtaBus *bus, uint64_t addr)
{
    guint i = lower_bound(bus, addr);
    if (i == bus->ranges->len || range_at(bus, i)->base > addr) {
        return NULL;
    }
    return range_at(bus, i);
}

/*
 * An access that leaves its range is made byte by byte, as a real bus with narrower targets does;
 * bytes where nothing is read as all ones.
 */
static bool read_bytes(PtaBus *bus, uint64_t addr, unsigned size, uint64_t *value)
{
    bool any = false;
    *value = 0;
    for (unsigned i = 0; i < size; i++) {
        const Range *r = range_find(bus, addr + i);
        uint64_t byte = r ? r->ops->read(r->opaque, addr + i - r->base, 1) : 0xff;
        *value |= (byte & 0xff) << (8 * i);
        any |= r != NULL;
    }
    return any;
}

static bool write_bytes(PtaBus *bus, uint64_t addr, unsigned size, uint64_t value)
{
    bool any = false;
    for (unsigned i = 0; i < size; i++) {
        const Range *r = range_find(bus, addr + i);
        if (r) {
            r->ops->write(r->opaque, addr + i - r->base, 1, value >> (8 * i) & 0xff);
            any = true;
        }
    }
    return any;
}

bool pta_bus_read(PtaBus *bus, uint64_t addr, unsigned size, uint64_t *value)
{
    const Range *r = range_find(bus, addr);
    if (G_UNLIKELY(!r || r->last - addr < size - 1)) {
        return read_bytes(bus, addr, size, value);
    }
    *value = r->ops->read(r->opaque, addr - r->base, size);
    return true;
}

bool pta_bus_write(PtaBus *bus, uint64_t addr, unsigned size, uint64_t value)
{
    const Range *r = range_find(bus, addr);
    if (G_UNLIKELY(!r || r->last - addr < size - 1)) {
        return write_bytes(bus, addr, size, value);
    }
    r->ops->write(r->opaque, addr - r->base, size, value);
    return true;
}

void pta_bus_foreach(const PtaBus *bus, PtaBusRangeFn *fn, void *opaque)
{
    for (guint i = 0; i < bus->ranges->len; i++) {
        const Range *r = range_at(bus, i);
        fn(opaque, r->base, r->last - r->base + 1, r->name);
    }
}
