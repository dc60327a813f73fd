/* Making and comparing flat views. */
#include "config.h"

#include "src/memory/view.h"

#include <string.h>

static gint by_gpa(gconstpointer a, gconstpointer b)
{
    const PtaViewPiece *x = a, *y = b;
    return x->range.gpa < y->range.gpa ? -1 : x->range.gpa > y->range.gpa;
}

static bool continues(const PtaViewSpan *s, const PtaViewPiece *p)
{
    return s->gpa + s->size == p->range.gpa && s->host + s->size == p->host &&
           s->writable == !!(p->flags & PTA_VIEW_WRITE) && s->ram == p->ram;
}

PtaView *pta_view_new(GArray *pieces)
{
    g_array_sort(pieces, by_gpa);
    PtaView *v = g_new0(PtaView, 1);
    v->n_pieces = pieces->len;
    v->pieces = g_memdup2(pieces->data, pieces->len * sizeof(PtaViewPiece));
    v->spans = g_new0(PtaViewSpan, MAX(pieces->len, 1)); /* an empty one holds no address */
    for (unsigned i = 0; i < v->n_pieces; i++) {
        const PtaViewPiece *p = &v->pieces[i];
        g_assert(i == 0 || pta_range_end(p[-1].range) <= p->range.gpa);
        if (v->n_spans > 0 && continues(&v->spans[v->n_spans - 1], p)) {
            v->spans[v->n_spans - 1].size += p->range.size;
            continue;
        }
        v->spans[v->n_spans++] = (PtaViewSpan){ .gpa = p->range.gpa,
                                                .size = p->range.size,
                                                .host = p->host,
                                                .writable = p->flags & PTA_VIEW_WRITE,
                                                .ram = p->ram };
    }
    v->largest = v->spans;
    for (unsigned i = 1; i < v->n_spans; i++) {
        if (v->spans[i].size > v->largest->size) {
            v->largest = &v->spans[i];
        }
    }
    return v;
}

void pta_view_free(PtaView *view)
{
    if (view) {
        g_free(view->spans);
        g_free(view->pieces);
        g_free(view);
    }
}

bool pta_view_piece_equal(const PtaViewPiece *a, const PtaViewPiece *b)
{
    return pta_range_equal(a->range, b->range) && a->host == b->host && a->flags == b->flags &&
           a->mapping == b->mapping && a->offset == b->offset && a->ram == b->ram;
}

const PtaViewPiece *pta_view_find_equal(const PtaView *view, const PtaViewPiece *piece)
{
    unsigned low = 0;
    for (unsigned high = view->n_pieces; low < high;) {
        unsigned mid = low + (high - low) / 2;
        if (view->pieces[mid].range.gpa < piece->range.gpa) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < view->n_pieces && pta_view_piece_equal(&view->pieces[low], piece)
               ? &view->pieces[low]
               : NULL;
}
