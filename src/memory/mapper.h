/*
 * Who has to know what the guest sees where: the partitions that run on this memory, and what devices
 * reach it through (an IOMMU, a device in another process). A mapper is told of each piece of the
 * view that comes and goes.
 *
 * Two owners have references: the memory, and the one who registered it. Any thread.
 */
#ifndef PTA_MAPPER_H
#define PTA_MAPPER_H

#include "src/memory/view.h"

/* A partition: the ops of a back end, see PtaBackendOps in src/partition/backend.h. */
typedef struct PtaPartitionMapOps {
    bool (*map)(void *opaque, uint64_t gpa, uint64_t size, void *host, unsigned flags,
                GError **error);
    bool (*unmap)(void *opaque, uint64_t gpa, uint64_t size, GError **error);
} PtaPartitionMapOps;

/* A user of memory by DMA. host is mapped until unmap() was called. */
typedef struct PtaDmaOps {
    bool needs_fd; /* it cannot take memory that has no descriptor */
    /* fd is lent, or -1 if the memory is private. */
    bool (*map)(void *opaque, uint64_t gpa, uint64_t size, void *host, int fd, uint64_t fd_offset,
                bool writable, GError **error);
    bool (*unmap)(void *opaque, uint64_t gpa, uint64_t size, GError **error);
} PtaDmaOps;

typedef struct PtaMapper PtaMapper;

PtaMapper *pta_mapper_new_partition(const PtaPartitionMapOps *ops, void *opaque, uint64_t offset);
PtaMapper *pta_mapper_new_dma(const PtaDmaOps *ops, void *opaque);
PtaMapper *pta_mapper_ref(PtaMapper *m);
void pta_mapper_unref(PtaMapper *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaMapper, pta_mapper_unref)

bool pta_mapper_is_dma(const PtaMapper *m);
bool pta_mapper_needs_fd(const PtaMapper *m);

/* What it maps into is going, and takes its mappings along: on return nothing is being called, and
 * nothing will be. */
void pta_mapper_gone(PtaMapper *m);
bool pta_mapper_is_gone(PtaMapper *m);

/* Of one that is gone they succeed and do nothing. */
bool pta_mapper_map(PtaMapper *m, const PtaViewPiece *piece, GError **error);
bool pta_mapper_unmap(PtaMapper *m, const PtaViewPiece *piece, GError **error);

#endif
