/* Mappings of backings into this process. */
#include "config.h"

#include "src/memory/mapping.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

/* Page tables of the host map 1 GiB or 2 MiB at once if both addresses are congruent. */
static uint64_t alignment(const PtaMapping *m)
{
    uint64_t worth = m->size >= PTA_GIB ? PTA_GIB : m->size >= 2 * PTA_MIB ? 2 * PTA_MIB : 0;
    return MAX(worth, pta_backing_page_size(m->backing));
}

static void unmap(void *data)
{
    PtaMapping *m = data;
    if (m->span) {
        munmap(m->span, m->span_size);
    }
    pta_backing_unref(m->backing);
}

static bool reserve(PtaMapping *m, GError **error)
{
    uint64_t align = alignment(m);
    m->span_size = (size_t)(m->size + align - PTA_PAGE_SIZE);
    void *span =
        mmap(NULL, m->span_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (span == MAP_FAILED) {
        return pta_throw_errno(error, errno, "failed to create VA mapper: %" PRIu64 " bytes",
                               m->size);
    }
    m->span = span;
    m->host = (uint8_t *)span + ((m->offset - (uintptr_t)span) & (align - 1));
    return true;
}

PtaMapping *pta_mapping_new(PtaBacking *backing, uint64_t offset, uint64_t size, bool writable,
                            GError **error)
{
    g_autoptr(PtaMapping) m = g_atomic_rc_box_new0(PtaMapping);
    m->backing = pta_backing_ref(backing);
    m->offset = offset;
    m->size = size;
    m->writable = writable;
    if (!reserve(m, error) || !pta_backing_map(backing, offset, size, m->host, writable, error)) {
        return NULL;
    }
    return g_steal_pointer(&m);
}

PtaMapping *pta_mapping_ref(PtaMapping *mapping)
{
    return g_atomic_rc_box_acquire(mapping);
}

void pta_mapping_unref(PtaMapping *mapping)
{
    if (mapping) {
        g_atomic_rc_box_release_full(mapping, unmap);
    }
}
