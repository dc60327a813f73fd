/*
 * A piece of a backing at an address of this process: a mapping has its place from the beginning to
 * the end, whether the guest sees it or not. So no view change takes memory from under somebody who
 * has a pointer into it, and what a guest hides (the RAM behind its video memory) keeps its content.
 *
 * Reference-counted; any thread.
 */
#ifndef PTA_MAPPING_H
#define PTA_MAPPING_H

#include "src/memory/backing.h"

typedef struct PtaMapping {
    PtaBacking *backing;
    uint64_t offset, size; /* in the backing */
    uint8_t *host;
    bool writable;
    void *span; /* the reservation around it */
    size_t span_size;
} PtaMapping;

/*
 * Reserves addresses, congruent with the offset in the backing as far as huge pages of the host could
 * profit from it, and maps the piece there. HOST: it could not, and nothing is left of it.
 */
PtaMapping *pta_mapping_new(PtaBacking *backing, uint64_t offset, uint64_t size, bool writable,
                            GError **error);
PtaMapping *pta_mapping_ref(PtaMapping *mapping);
void pta_mapping_unref(PtaMapping *mapping);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaMapping, pta_mapping_unref)

#endif
