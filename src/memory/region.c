/* The region manager. Any thread, under its lock. */
#include "config.h"

#include "src/memory/region-private.h"

#include <inttypes.h>
#include <string.h>

PtaRegions *pta_regions_new(PtaView **view, uint64_t limit)
{
    PtaRegions *r = g_new0(PtaRegions, 1);
    g_autoptr(GArray) none = g_array_new(FALSE, FALSE, sizeof(PtaViewPiece));
    g_mutex_init(&r->lock);
    r->limit = limit;
    r->regions = g_ptr_array_new();
    r->mappers = g_ptr_array_new_with_free_func((GDestroyNotify)pta_mapper_unref);
    r->view = view;
    *view = pta_view_new(none);
    return r;
}

static void drop_mapping(void *data)
{
    pta_mapping_unref(((RegionMapping *)data)->mapping);
}

static void region_free(PtaRegion *region)
{
    g_array_free(region->mappings, TRUE);
    g_free(region->name);
    g_free(region);
}

void pta_regions_free(PtaRegions *r)
{
    if (!r) {
        return;
    }
    for (guint i = 0; i < r->mappers->len; i++) {
        g_assert(pta_mapper_is_gone(g_ptr_array_index(r->mappers, i)));
    }
    g_clear_pointer(r->view, pta_view_free);
    g_ptr_array_free(r->mappers, TRUE);
    for (guint i = 0; i < r->regions->len; i++) {
        region_free(g_ptr_array_index(r->regions, i));
    }
    g_ptr_array_free(r->regions, TRUE);
    g_mutex_clear(&r->lock);
    g_free(r);
}

/* ---- regions ---- */

static bool fits(const PtaRegion *new, const PtaRegion *existing)
{
    if (!pta_range_overlaps(new->range, existing->range)) {
        return true;
    }
    if (new->priority == existing->priority) {
        return pta_range_equal(new->range, existing->range);
    }
    return new->priority < existing->priority ? pta_range_contains(existing->range, new->range)
                                              : pta_range_contains(new->range, existing->range);
}

static bool fits_all(const PtaRegions *r, const PtaRegion *new, GError **error)
{
    for (guint i = 0; i < r->regions->len; i++) {
        const PtaRegion *other = g_ptr_array_index(r->regions, i);
        if (!fits(new, other)) {
            return pta_throw(error, PTA_ERROR_BAD_STATE,
                             "memory region %s overlaps with existing region %s (0x%" PRIx64
                             "-0x%" PRIx64 ")",
                             new->name, other->name, other->range.gpa, pta_range_end(other->range));
        }
    }
    return true;
}

PtaRegion *pta_region_add(PtaRegions *r, const char *name, PtaRamRange range, unsigned priority,
                          GError **error)
{
    g_assert(priority <= 255);
    if (!pta_range_valid(range) || pta_range_end(range) > r->limit) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                  "memory region %s at 0x%" PRIx64 " of 0x%" PRIx64
                  " bytes is empty, not page-aligned or passes the end",
                  name, range.gpa, range.size);
        return NULL;
    }
    PtaRegion *region = g_new0(PtaRegion, 1);
    region->regions = r;
    region->name = g_strdup(name);
    region->range = range;
    region->priority = priority;
    region->mappings = g_array_new(FALSE, FALSE, sizeof(RegionMapping));
    g_array_set_clear_func(region->mappings, drop_mapping);
    g_mutex_lock(&r->lock);
    bool ok = fits_all(r, region, error);
    if (ok) {
        g_ptr_array_add(r->regions, region);
    }
    g_mutex_unlock(&r->lock);
    if (!ok) {
        region_free(region);
        return NULL;
    }
    return region;
}

bool pta_region_remove(PtaRegion *region, GError **error)
{
    PtaRegions *r = region->regions;
    g_mutex_lock(&r->lock);
    region->leaving = true;
    bool ok = regions_commit_locked(r, error);
    if (ok) {
        g_ptr_array_remove(r->regions, region); /* those behind it move up: order of making */
    } else {
        region->leaving = false;
    }
    g_mutex_unlock(&r->lock);
    if (ok) {
        region_free(region);
    }
    return ok;
}

PtaRamRange pta_region_range(const PtaRegion *region)
{
    return region->range;
}

/* ---- what a region shows ---- */

static bool any_needs_fd(const PtaRegions *r)
{
    for (guint i = 0; i < r->mappers->len; i++) {
        PtaMapper *m = g_ptr_array_index(r->mappers, i);
        if (pta_mapper_needs_fd(m) && !pta_mapper_is_gone(m)) {
            return true;
        }
    }
    return false;
}

static bool check_mapping_locked(const PtaRegion *region, const RegionMapping *new, GError **error)
{
    if (pta_backing_is_private(new->mapping->backing) && any_needs_fd(region->regions)) {
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "memory region %s: private memory has no descriptor, which a user of "
                         "memory by DMA needs",
                         region->name);
    }
    for (guint i = 0; i < region->mappings->len; i++) {
        const RegionMapping *m = &g_array_index(region->mappings, RegionMapping, i);
        if (new->offset < m->offset + m->size && m->offset < new->offset + new->size) {
            return pta_throw(error, PTA_ERROR_BAD_STATE,
                             "memory region %s: the mapping at 0x%" PRIx64 " of 0x%" PRIx64
                             " bytes overlaps another",
                             region->name, new->offset, new->size);
        }
    }
    return true;
}

bool pta_region_add_mapping(PtaRegion *region, uint64_t offset, uint64_t size, PtaMapping *mapping,
                            uint64_t in_mapping, bool writable, GError **error)
{
    PtaRamRange whole = { 0, region->range.size }, part = { offset, size };
    PtaRamRange mapped = { 0, mapping->size }, shown = { in_mapping, size };
    g_assert(size != 0 && (offset | size | in_mapping) % PTA_PAGE_SIZE == 0);
    g_assert(pta_range_contains(whole, part) && pta_range_contains(mapped, shown));
    RegionMapping new = { offset, size, mapping, in_mapping, writable && mapping->writable };
    PtaRegions *r = region->regions;
    g_mutex_lock(&r->lock);
    bool ok = check_mapping_locked(region, &new, error);
    if (ok) {
        pta_mapping_ref(mapping);
        g_array_append_val(region->mappings, new);
        ok = regions_commit_locked(r, error);
        if (!ok) {
            g_array_set_size(region->mappings, region->mappings->len - 1);
        }
    }
    g_mutex_unlock(&r->lock);
    return ok;
}

/* Those that stay and those that go; false if one does half. */
static bool part_mappings(const PtaRegion *region, PtaRamRange going, GArray *stay, GArray *go,
                          GError **error)
{
    for (guint i = 0; i < region->mappings->len; i++) {
        RegionMapping m = g_array_index(region->mappings, RegionMapping, i);
        PtaRamRange at = { m.offset, m.size };
        if (pta_range_contains(going, at)) {
            g_array_append_val(go, m);
        } else if (pta_range_overlaps(going, at)) {
            return pta_throw(error, PTA_ERROR_BAD_STATE,
                             "memory region %s: no partial unmappings allowed (0x%" PRIx64
                             " of 0x%" PRIx64 " bytes)",
                             region->name, m.offset, m.size);
        } else {
            g_array_append_val(stay, m);
        }
    }
    return true;
}

bool pta_region_remove_mappings(PtaRegion *region, uint64_t offset, uint64_t size, GError **error)
{
    PtaRegions *r = region->regions;
    GArray *stay = g_array_new(FALSE, FALSE, sizeof(RegionMapping));
    g_autoptr(GArray) go = g_array_new(FALSE, FALSE, sizeof(RegionMapping));
    g_mutex_lock(&r->lock);
    bool ok = part_mappings(region, (PtaRamRange){ offset, size }, stay, go, error);
    if (ok) {
        GArray *before = region->mappings;
        region->mappings = stay;
        stay = before;
        ok = regions_commit_locked(r, error);
        if (!ok) {
            stay = region->mappings;
            region->mappings = before;
        }
    }
    if (ok) { /* `stay` is the list from before: what went is dropped, the rest has moved over */
        g_array_set_clear_func(region->mappings, drop_mapping);
        g_array_set_clear_func(stay, NULL);
        g_array_set_clear_func(go, drop_mapping);
    }
    g_mutex_unlock(&r->lock);
    g_array_free(stay, TRUE);
    return ok;
}

static bool set_mapped(PtaRegion *region, bool mapped, PtaMapParams params, GError **error)
{
    PtaRegions *r = region->regions;
    g_mutex_lock(&r->lock);
    bool was_mapped = region->mapped;
    PtaMapParams before = region->params;
    region->mapped = mapped;
    region->params = params;
    bool ok = regions_commit_locked(r, error);
    if (!ok) {
        region->mapped = was_mapped;
        region->params = before;
    }
    g_mutex_unlock(&r->lock);
    return ok;
}

bool pta_region_map(PtaRegion *region, const PtaMapParams *params, GError **error)
{
    return set_mapped(region, true, *params, error);
}

bool pta_region_unmap(PtaRegion *region, GError **error)
{
    return set_mapped(region, false, (PtaMapParams){ 0 }, error);
}

/* ---- mappers ---- */

static bool all_have_fd(const PtaRegions *r, GError **error)
{
    for (guint i = 0; i < r->regions->len; i++) {
        const PtaRegion *region = g_ptr_array_index(r->regions, i);
        for (guint j = 0; j < region->mappings->len; j++) {
            const RegionMapping *m = &g_array_index(region->mappings, RegionMapping, j);
            if (pta_backing_is_private(m->mapping->backing)) {
                return pta_throw(error, PTA_ERROR_BAD_STATE,
                                 "a user of memory by DMA needs descriptors, and memory region %s "
                                 "is private memory, which has none",
                                 region->name);
            }
        }
    }
    return true;
}

/* Takes m, and returns it. Those for DMA stand before partitions. */
static PtaMapper *add_mapper(PtaRegions *r, PtaMapper *m, GError **error)
{
    g_mutex_lock(&r->lock);
    bool ok =
        (!pta_mapper_needs_fd(m) || all_have_fd(r, error)) && regions_replay_locked(r, m, error);
    if (ok) {
        guint at = pta_mapper_is_dma(m) ? 0 : r->mappers->len;
        while (pta_mapper_is_dma(m) && at < r->mappers->len &&
               pta_mapper_is_dma(g_ptr_array_index(r->mappers, at))) {
            at++;
        }
        g_ptr_array_insert(r->mappers, (gint)at, pta_mapper_ref(m));
    }
    g_mutex_unlock(&r->lock);
    if (!ok) {
        pta_mapper_unref(m);
        return NULL;
    }
    return m;
}

PtaMapper *pta_regions_add_partition(PtaRegions *r, const PtaPartitionMapOps *ops, void *opaque,
                                     uint64_t offset, GError **error)
{
    return add_mapper(r, pta_mapper_new_partition(ops, opaque, offset), error);
}

PtaMapper *pta_regions_add_dma(PtaRegions *r, const PtaDmaOps *ops, void *opaque, GError **error)
{
    return add_mapper(r, pta_mapper_new_dma(ops, opaque), error);
}

void pta_regions_remove_mapper(PtaRegions *r, PtaMapper *m)
{
    if (!m) {
        return;
    }
    g_mutex_lock(&r->lock);
    regions_withdraw_locked(r, m);
    g_ptr_array_remove(r->mappers, m);
    g_mutex_unlock(&r->lock);
    pta_mapper_unref(m);
}

/* ---- what there is ---- */

void pta_regions_foreach(PtaRegions *r, PtaRegionFn *fn, void *opaque)
{
    g_mutex_lock(&r->lock);
    for (guint i = 0; i < r->regions->len; i++) {
        const PtaRegion *region = g_ptr_array_index(r->regions, i);
        fn(opaque, &(PtaRegionInfo){ .name = region->name,
                                     .range = region->range,
                                     .priority = region->priority,
                                     .n_mappings = region->mappings->len,
                                     .mapped = region->mapped,
                                     .active = region_active_locked(region),
                                     .params = region->params });
    }
    g_mutex_unlock(&r->lock);
}

static const char *region_of(const PtaRegions *r, const PtaViewPiece *piece)
{
    for (guint i = 0; i < r->regions->len; i++) {
        const PtaRegion *region = g_ptr_array_index(r->regions, i);
        if (pta_range_contains(region->range, piece->range) && region_active_locked(region)) {
            return region->name;
        }
    }
    g_assert_not_reached(); /* every piece is an active region's */
}

void pta_regions_foreach_piece(PtaRegions *r, PtaPieceFn *fn, void *opaque)
{
    g_mutex_lock(&r->lock);
    const PtaView *view = *r->view;
    for (unsigned i = 0; i < view->n_pieces; i++) {
        fn(opaque, &view->pieces[i], region_of(r, &view->pieces[i]));
    }
    g_mutex_unlock(&r->lock);
}
