/*
 * The flat view: what the guest sees at each address, as sorted pieces that do not overlap. A view is
 * never changed: another one takes its place (region.c), and readers that have the old one finish
 * with it (src/util/reader.h).
 *
 * The pieces are what mappers are told of. For look-ups, pieces that continue one another in guest
 * and host with the same rights are one span: the windows of a PC's first megabyte cost nothing as
 * long as all of them are plain RAM.
 */
#ifndef PTA_VIEW_H
#define PTA_VIEW_H

#include "src/memory/layout.h"
#include "src/memory/mapping.h"

enum { /* as PTA_MAP_* of src/partition/backend.h */
       PTA_VIEW_READ = 1,
       PTA_VIEW_WRITE = 2,
       PTA_VIEW_EXEC = 4,
};

typedef struct PtaViewPiece {
    PtaRamRange range;
    uint8_t *host;
    unsigned flags;      /* PTA_VIEW_* */
    bool ram;            /* else the memory of a device */
    bool prefetch;       /* its pages had better be there when it comes */
    PtaMapping *mapping; /* lent by the region */
    uint64_t offset;     /* in the mapping */
} PtaViewPiece;

typedef struct PtaViewSpan {
    uint64_t gpa, size;
    uint8_t *host;
    bool writable, ram;
} PtaViewSpan;

typedef struct PtaView {
    unsigned n_spans, n_pieces;
    PtaViewSpan *spans;
    const PtaViewSpan *largest; /* of spans: most accesses are there */
    PtaViewPiece *pieces;
} PtaView;

/* Of pieces in any order, which it sorts and copies. */
PtaView *pta_view_new(GArray *pieces);
void pta_view_free(PtaView *view);

/* Mappers would see no difference between the two pieces. */
bool pta_view_piece_equal(const PtaViewPiece *a, const PtaViewPiece *b);
/* The piece of `view` that starts where `piece` does and is equal, or NULL. */
const PtaViewPiece *pta_view_find_equal(const PtaView *view, const PtaViewPiece *piece);

/* The span that holds gpa, or NULL. */
static inline const PtaViewSpan *pta_view_span(const PtaView *view, uint64_t gpa)
{
    const PtaViewSpan *s = view->largest;
    if (G_LIKELY(gpa - s->gpa < s->size)) {
        return s;
    }
    s = view->spans;
    for (unsigned n = view->n_spans; n > 1;) {
        unsigned half = n / 2;
        s += gpa >= s[half].gpa ? half : 0;
        n -= half;
    }
    return gpa - s->gpa < s->size ? s : NULL;
}

#endif
