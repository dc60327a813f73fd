/* Device memory: a list of mappings, and a region while the guest may see it. */
#include "config.h"

#define G_LOG_DOMAIN "memory"

#include "src/memory/device-memory.h"

#include <inttypes.h>

typedef struct Part {
    uint64_t offset, size; /* in the device's memory */
    PtaMapping *mapping;
} Part;

struct PtaDeviceMemory {
    PtaMemory *mem;
    char *name;
    uint64_t size;
    GArray *parts;     /* of Part */
    PtaRegion *region; /* NULL: nowhere */
    bool writable;     /* there */
};

static void part_clear(void *data)
{
    pta_mapping_unref(((Part *)data)->mapping);
}

PtaDeviceMemory *pta_device_memory_new(PtaMemory *mem, const char *name, uint64_t size)
{
    g_assert(size != 0 && size % PTA_PAGE_SIZE == 0);
    PtaDeviceMemory *dm = g_new0(PtaDeviceMemory, 1);
    dm->mem = mem;
    dm->name = g_strdup(name);
    dm->size = size;
    dm->parts = g_array_new(FALSE, FALSE, sizeof(Part));
    g_array_set_clear_func(dm->parts, part_clear);
    return dm;
}

void pta_device_memory_free(PtaDeviceMemory *dm)
{
    if (!dm) {
        return;
    }
    g_autoptr(GError) error = NULL;
    if (!pta_device_memory_unmap_from_guest(dm, &error)) {
        /* The region keeps references, so what a partition still has stays valid memory. */
        g_warning("%s: cannot be taken from the guest: %s", dm->name, error->message);
    }
    g_array_free(dm->parts, TRUE);
    g_free(dm->name);
    g_free(dm);
}

/* ---- what it consists of ---- */

static bool show_part(PtaRegion *region, const Part *part, GError **error)
{
    return pta_region_add_mapping(region, part->offset, part->size, part->mapping, 0,
                                  part->mapping->writable, error);
}

bool pta_device_memory_map(PtaDeviceMemory *dm, uint64_t offset, uint64_t size, PtaBacking *backing,
                           uint64_t backing_offset, bool writable, GError **error)
{
    PtaRamRange whole = { 0, dm->size }, new = { offset, size };
    g_assert(size != 0 && (offset | size | backing_offset) % PTA_PAGE_SIZE == 0);
    g_assert(pta_range_contains(whole, new));
    for (guint i = 0; i < dm->parts->len; i++) {
        const Part *p = &g_array_index(dm->parts, Part, i);
        if (pta_range_overlaps(new, (PtaRamRange){ p->offset, p->size })) {
            return pta_throw(error, PTA_ERROR_BAD_STATE,
                             "%s: the mapping at 0x%" PRIx64 " of 0x%" PRIx64
                             " bytes overlaps another",
                             dm->name, offset, size);
        }
    }
    Part part = { offset, size, NULL };
    part.mapping = pta_mapping_new(backing, backing_offset, size, writable, error);
    if (!part.mapping) {
        return false;
    }
    if (dm->region && !show_part(dm->region, &part, error)) {
        pta_mapping_unref(part.mapping);
        return false;
    }
    g_array_append_val(dm->parts, part);
    return true;
}

bool pta_device_memory_unmap(PtaDeviceMemory *dm, uint64_t offset, uint64_t size, GError **error)
{
    PtaRamRange going = { offset, size };
    for (guint i = 0; i < dm->parts->len; i++) {
        const Part *p = &g_array_index(dm->parts, Part, i);
        PtaRamRange at = { p->offset, p->size };
        if (pta_range_overlaps(going, at) && !pta_range_contains(going, at)) {
            return pta_throw(error, PTA_ERROR_BAD_STATE,
                             "%s: no partial unmappings allowed (0x%" PRIx64 " of 0x%" PRIx64
                             " bytes)",
                             dm->name, p->offset, p->size);
        }
    }
    if (dm->region && !pta_region_remove_mappings(dm->region, offset, size, error)) {
        return false;
    }
    for (guint i = dm->parts->len; i-- > 0;) {
        const Part *p = &g_array_index(dm->parts, Part, i);
        if (pta_range_contains(going, (PtaRamRange){ p->offset, p->size })) {
            g_array_remove_index(dm->parts, i);
        }
    }
    return true;
}

/* ---- where the guest sees it ---- */

/* A region with all parts, mapped; or NULL, and nothing is left of it. */
static PtaRegion *make_region(PtaDeviceMemory *dm, uint64_t gpa, bool writable, GError **error)
{
    PtaRamRange range = { gpa, dm->size };
    PtaMapParams params = { .writable = writable, .executable = true };
    PtaRegion *region =
        pta_region_add(pta_memory_regions(dm->mem), dm->name, range, PTA_DEVICE_PRIORITY, error);
    if (!region) {
        return NULL;
    }
    bool ok = true;
    for (guint i = 0; i < dm->parts->len && ok; i++) {
        ok = show_part(region, &g_array_index(dm->parts, Part, i), error);
    }
    if (!ok || !pta_region_map(region, &params, error)) {
        pta_region_remove(region, NULL); /* not mapped: no mapper is asked */
        return NULL;
    }
    return region;
}

bool pta_device_memory_map_to_guest(PtaDeviceMemory *dm, uint64_t gpa, bool writable,
                                    GError **error)
{
    uint64_t before = 0;
    bool was_mapped = pta_device_memory_where(dm, &before), was_writable = dm->writable;
    if (was_mapped && before == gpa && was_writable == writable) {
        return true;
    }
    if (!pta_device_memory_unmap_from_guest(dm, error)) {
        return false;
    }
    dm->region = make_region(dm, gpa, writable, error);
    if (!dm->region) {
        g_autoptr(GError) second = NULL;
        if (was_mapped && !(dm->region = make_region(dm, before, was_writable, &second))) {
            g_warning("%s: cannot be put back to 0x%" PRIx64 ": %s", dm->name, before,
                      second->message);
        }
        return false;
    }
    dm->writable = writable;
    return true;
}

bool pta_device_memory_unmap_from_guest(PtaDeviceMemory *dm, GError **error)
{
    if (dm->region && !pta_region_remove(dm->region, error)) {
        return false;
    }
    dm->region = NULL;
    return true;
}

bool pta_device_memory_where(const PtaDeviceMemory *dm, uint64_t *gpa)
{
    if (dm->region) {
        *gpa = pta_region_range(dm->region).gpa;
    }
    return dm->region != NULL;
}
