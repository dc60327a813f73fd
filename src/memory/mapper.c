/* Mappers: one interface to partitions and to users of DMA. */
#include "config.h"

#include "src/memory/mapper.h"

struct PtaMapper {
    const PtaPartitionMapOps *partition; /* CONST; one of the two */
    const PtaDmaOps *dma;                /* CONST */
    void *opaque;                        /* CONST */
    uint64_t offset;                     /* CONST: of the partition's addresses */
    GMutex lock;                         /* held over calls: a leaf */
    bool gone;                           /* LOCKED */
};

static PtaMapper *mapper_new(void *opaque)
{
    PtaMapper *m = g_atomic_rc_box_new0(PtaMapper);
    g_mutex_init(&m->lock);
    m->opaque = opaque;
    return m;
}

PtaMapper *pta_mapper_new_partition(const PtaPartitionMapOps *ops, void *opaque, uint64_t offset)
{
    PtaMapper *m = mapper_new(opaque);
    m->partition = ops;
    m->offset = offset;
    return m;
}

PtaMapper *pta_mapper_new_dma(const PtaDmaOps *ops, void *opaque)
{
    PtaMapper *m = mapper_new(opaque);
    m->dma = ops;
    return m;
}

PtaMapper *pta_mapper_ref(PtaMapper *m)
{
    return g_atomic_rc_box_acquire(m);
}

static void clear(void *data)
{
    g_mutex_clear(&((PtaMapper *)data)->lock);
}

void pta_mapper_unref(PtaMapper *m)
{
    if (m) {
        g_atomic_rc_box_release_full(m, clear);
    }
}

bool pta_mapper_is_dma(const PtaMapper *m)
{
    return m->dma != NULL;
}

bool pta_mapper_needs_fd(const PtaMapper *m)
{
    return m->dma && m->dma->needs_fd;
}

void pta_mapper_gone(PtaMapper *m)
{
    g_mutex_lock(&m->lock);
    m->gone = true;
    g_mutex_unlock(&m->lock);
}

bool pta_mapper_is_gone(PtaMapper *m)
{
    g_mutex_lock(&m->lock);
    bool gone = m->gone;
    g_mutex_unlock(&m->lock);
    return gone;
}

static bool map_locked(PtaMapper *m, const PtaViewPiece *p, GError **error)
{
    if (m->partition) {
        return m->partition->map(m->opaque, m->offset + p->range.gpa, p->range.size, p->host,
                                 p->flags, error);
    }
    return m->dma->map(m->opaque, p->range.gpa, p->range.size, p->host,
                       pta_backing_fd(p->mapping->backing), p->mapping->offset + p->offset,
                       p->flags & PTA_VIEW_WRITE, error);
}

bool pta_mapper_map(PtaMapper *m, const PtaViewPiece *piece, GError **error)
{
    g_mutex_lock(&m->lock);
    bool ok = m->gone || map_locked(m, piece, error);
    g_mutex_unlock(&m->lock);
    return ok;
}

bool pta_mapper_unmap(PtaMapper *m, const PtaViewPiece *piece, GError **error)
{
    bool ok = true;
    g_mutex_lock(&m->lock);
    if (!m->gone) {
        ok = m->partition ? m->partition->unmap(m->opaque, m->offset + piece->range.gpa,
                                                piece->range.size, error)
                          : m->dma->unmap(m->opaque, piece->range.gpa, piece->range.size, error);
    }
    g_mutex_unlock(&m->lock);
    return ok;
}
