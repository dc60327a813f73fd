/* What region.c and region-view.c share. */
#ifndef PTA_REGION_PRIVATE_H
#define PTA_REGION_PRIVATE_H

#include "src/memory/region.h"

typedef struct RegionMapping {
    uint64_t offset, size; /* in the region */
    PtaMapping *mapping;
    uint64_t in_mapping;
    bool writable;
} RegionMapping;

struct PtaRegion { /* LOCKED, all of it, but for what is CONST */
    PtaRegions *regions;
    char *name;        /* CONST */
    PtaRamRange range; /* CONST */
    unsigned priority; /* CONST */
    bool mapped;
    bool leaving; /* is being removed */
    PtaMapParams params;
    GArray *mappings; /* of RegionMapping */
};

struct PtaRegions {
    GMutex lock;
    uint64_t limit;     /* CONST */
    GPtrArray *regions; /* LOCKED; of PtaRegion, in order of making */
    GPtrArray *mappers; /* LOCKED; of PtaMapper: those for DMA first */
    PtaView **view;     /* CONST; *view is written under the lock */
};

/* Whether the guest sees it: it is mapped, and no stronger one that is mapped overlaps it. */
bool region_active_locked(const PtaRegion *region);
/* Makes the view what the regions now say; false, and mappers and view are as before. */
bool regions_commit_locked(PtaRegions *r, GError **error);
/* Maps the whole view into one mapper, or nothing of it. */
bool regions_replay_locked(PtaRegions *r, PtaMapper *m, GError **error);
/* Unmaps it, as far as the mapper lets it. */
void regions_withdraw_locked(PtaRegions *r, PtaMapper *m);

#endif
