/*
 * Regions: ranges of guest addresses that somebody has something to show at, with a priority. A
 * region is mapped or not, as its owner wants; of mapped regions that overlap, the strongest is active:
 * the one of the highest priority, and of several with the same the one that was made first. The
 * pieces of all active regions are the view.
 *
 * Where regions overlap, the weaker lies within the stronger, and equals have the same range: so a
 * region is active as a whole or not at all.
 *
 * Each call is a transaction: the view is computed anew, mappers are told of the difference (first
 * what goes, DMA before partitions; then what comes, DMA before partitions), and the new view is
 * published. If a mapper refuses, what was done is undone, and everything is as it was before.
 *
 * Threads: any, under one lock; not from a mapper's ops. What changes the view is called while no VP
 * runs; others may read at that moment.
 */
#ifndef PTA_REGION_H
#define PTA_REGION_H

#include "src/memory/mapper.h"

#define PTA_RAM_PRIORITY    255 /* wins over everything */
#define PTA_DEVICE_PRIORITY 0

typedef struct PtaRegions PtaRegions;
typedef struct PtaRegion PtaRegion;

typedef struct PtaMapParams {
    bool writable, executable;
    /* Of a writable mapping: pages had better be there before the guest touches them; no error if not. */
    bool prefetch;
} PtaMapParams;

/* Views are published at *view (ATOMIC), which is never NULL. No region reaches past `limit`. */
PtaRegions *pta_regions_new(PtaView **view, uint64_t limit);
/* No mapper is left but such as are gone. */
void pta_regions_free(PtaRegions *r);

/* ---- regions ---- */

/* Lent until pta_region_remove(). BAD_DESCRIPTION: not whole pages; BAD_STATE: "memory region {new}
 * overlaps with existing region {existing}". It is not mapped yet. */
PtaRegion *pta_region_add(PtaRegions *r, const char *name, PtaRamRange range, unsigned priority,
                          GError **error);
/* Takes it out of the view, and frees it; false and it is as before if a mapper refuses. */
bool pta_region_remove(PtaRegion *region, GError **error);

/*
 * Shows `size` bytes of a mapping, from `in_mapping`, at `offset` of the region, which may be mapped
 * already. BAD_STATE: it overlaps what is there, or is private and a DMA mapper needs a descriptor.
 */
bool pta_region_add_mapping(PtaRegion *region, uint64_t offset, uint64_t size, PtaMapping *mapping,
                            uint64_t in_mapping, bool writable, GError **error);
/* Takes away all mappings within [offset, offset + size). BAD_STATE: one of them is only partly in it. */
bool pta_region_remove_mappings(PtaRegion *region, uint64_t offset, uint64_t size, GError **error);

/* Once more with equal parameters: nothing happens. */
bool pta_region_map(PtaRegion *region, const PtaMapParams *params, GError **error);
bool pta_region_unmap(PtaRegion *region, GError **error);

PtaRamRange pta_region_range(const PtaRegion *region);

/* ---- mappers ---- */

/* Maps all of the view into it; nothing of it if that fails. A reference of the caller's. */
PtaMapper *pta_regions_add_partition(PtaRegions *r, const PtaPartitionMapOps *ops, void *opaque,
                                     uint64_t offset, GError **error);
PtaMapper *pta_regions_add_dma(PtaRegions *r, const PtaDmaOps *ops, void *opaque, GError **error);
/* Unmaps everything from it, and takes the caller's reference. NULL is nothing. */
void pta_regions_remove_mapper(PtaRegions *r, PtaMapper *m);

/* ---- what there is, for inspect; the lock is held over the calls ---- */

typedef struct PtaRegionInfo {
    const char *name;
    PtaRamRange range;
    unsigned priority, n_mappings;
    bool mapped, active;
    PtaMapParams params; /* if mapped */
} PtaRegionInfo;

typedef void PtaRegionFn(void *opaque, const PtaRegionInfo *info);
typedef void PtaPieceFn(void *opaque, const PtaViewPiece *piece, const char *region);
void pta_regions_foreach(PtaRegions *r, PtaRegionFn *fn, void *opaque);
void pta_regions_foreach_piece(PtaRegions *r, PtaPieceFn *fn, void *opaque);

#endif
