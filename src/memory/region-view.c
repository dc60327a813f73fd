/* From regions to a view, and from one view to the next. Any thread, under the regions' lock. */
#include "config.h"

#define G_LOG_DOMAIN "memory"

#include "src/memory/region-private.h"

#include <inttypes.h>
#include <string.h>

#include "src/util/reader.h"

/* ---- what the view is ---- */

/* Of two that overlap: `order` is which was made first. */
static bool stronger(const PtaRegion *a, guint a_order, const PtaRegion *b, guint b_order)
{
    return a->priority != b->priority ? a->priority > b->priority : a_order < b_order;
}

/*
 * The rule that applying "disable the weaker, enable the best" one step at a time leads to: whatever
 * overlaps a region and is stronger contains it, so one such that is mapped covers all of it.
 */
static bool active_at(const PtaRegions *r, guint at)
{
    const PtaRegion *region = g_ptr_array_index(r->regions, at);
    bool active = region->mapped && !region->leaving;
    for (guint i = 0; i < r->regions->len && active; i++) {
        const PtaRegion *other = g_ptr_array_index(r->regions, i);
        active = i == at || !other->mapped || other->leaving ||
                 !pta_range_overlaps(other->range, region->range) ||
                 !stronger(other, i, region, at);
    }
    return active;
}

bool region_active_locked(const PtaRegion *region)
{
    guint at;
    bool found = g_ptr_array_find(region->regions->regions, region, &at);
    g_assert(found);
    return active_at(region->regions, at);
}

static void add_pieces(GArray *pieces, const PtaRegion *region)
{
    for (guint i = 0; i < region->mappings->len; i++) {
        const RegionMapping *m = &g_array_index(region->mappings, RegionMapping, i);
        PtaViewPiece piece = {
            .range = { region->range.gpa + m->offset, m->size },
            .host = m->mapping->host + m->in_mapping,
            .flags = PTA_VIEW_READ | (m->writable && region->params.writable ? PTA_VIEW_WRITE : 0) |
                     (region->params.executable ? PTA_VIEW_EXEC : 0),
            .ram = region->priority == PTA_RAM_PRIORITY,
            .prefetch = region->params.prefetch,
            .mapping = m->mapping,
            .offset = m->in_mapping,
        };
        g_array_append_val(pieces, piece);
    }
}

static PtaView *compute(const PtaRegions *r)
{
    g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(PtaViewPiece));
    for (guint i = 0; i < r->regions->len; i++) {
        if (active_at(r, i)) {
            add_pieces(pieces, g_ptr_array_index(r->regions, i));
        }
    }
    return pta_view_new(pieces);
}

/* ---- from one to the next ---- */

typedef struct Step {
    PtaMapper *mapper;
    const PtaViewPiece *piece;
    bool map;
} Step;

static bool do_step(const Step *s, GError **error)
{
    return s->map ? pta_mapper_map(s->mapper, s->piece, error)
                  : pta_mapper_unmap(s->mapper, s->piece, error);
}

/* The first `n` steps backwards. A mapper that will not have back what it had is left without it. */
static void undo(const GArray *steps, guint n)
{
    while (n-- > 0) {
        Step back = g_array_index(steps, Step, n);
        g_autoptr(GError) error = NULL;
        back.map = !back.map;
        if (!do_step(&back, &error)) {
            g_warning("cannot undo a change at 0x%" PRIx64 ": %s", back.piece->range.gpa,
                      error->message);
        }
    }
}

static void plan_piece(GArray *steps, const PtaRegions *r, const PtaViewPiece *piece, bool map)
{
    for (guint i = 0; i < r->mappers->len; i++) {
        Step step = { g_ptr_array_index(r->mappers, i), piece, map };
        g_array_append_val(steps, step);
    }
}

/* What is in `from` and not in `to`. */
static void plan(GArray *steps, const PtaRegions *r, const PtaView *from, const PtaView *to,
                 bool map)
{
    for (unsigned i = 0; i < from->n_pieces; i++) {
        if (!pta_view_find_equal(to, &from->pieces[i])) {
            plan_piece(steps, r, &from->pieces[i], map);
        }
    }
}

static bool run(const GArray *steps, GError **error)
{
    for (guint i = 0; i < steps->len; i++) {
        if (!do_step(&g_array_index(steps, Step, i), error)) {
            undo(steps, i);
            return false;
        }
    }
    return true;
}

static bool same(const PtaView *a, const PtaView *b)
{
    bool equal = a->n_pieces == b->n_pieces;
    for (unsigned i = 0; i < a->n_pieces && equal; i++) {
        equal = pta_view_piece_equal(&a->pieces[i], &b->pieces[i]);
    }
    return equal;
}

static bool is_leaving(const PtaRegions *r, const PtaViewPiece *piece)
{
    for (guint i = 0; i < r->regions->len; i++) {
        const PtaRegion *region = g_ptr_array_index(r->regions, i);
        for (guint j = 0; j < region->mappings->len; j++) {
            if (g_array_index(region->mappings, RegionMapping, j).mapping == piece->mapping &&
                pta_range_contains(region->range, piece->range)) {
                return region->leaving;
            }
        }
    }
    return true; /* the mapping alone was removed */
}

/*
 * Private memory is nowhere but where it is mapped. Our own mapping of it stays, but that of a mapper
 * may be all that it has (another process, a pinned page): so it is shown until it goes for good.
 */
static bool keeps_private(const PtaRegions *r, const PtaView *old, const PtaView *new,
                          GError **error)
{
    for (unsigned i = 0; i < old->n_pieces; i++) {
        const PtaViewPiece *p = &old->pieces[i];
        if (pta_backing_is_private(p->mapping->backing) && !pta_view_find_equal(new, p) &&
            !is_leaving(r, p)) {
            return pta_throw(error, PTA_ERROR_BAD_STATE,
                             "private memory at 0x%" PRIx64
                             " cannot be disabled: its content would be lost",
                             p->range.gpa);
        }
    }
    return true;
}

static void prefetch(const PtaView *old, const PtaView *new)
{
    for (unsigned i = 0; i < new->n_pieces; i++) {
        const PtaViewPiece *p = &new->pieces[i];
        if (!p->prefetch || pta_view_find_equal(old, p)) {
            continue;
        }
        g_autoptr(GError) error = NULL;
        if (p->mapping->writable && !pta_backing_prefault(p->host, p->range.size, &error)) {
            g_message("cannot prefetch 0x%" PRIx64 ": %s", p->range.gpa, error->message);
        }
    }
}

/* Mappers of what is gone need not be asked any more. */
static void forget_gone(PtaRegions *r)
{
    for (guint i = r->mappers->len; i-- > 0;) {
        if (pta_mapper_is_gone(g_ptr_array_index(r->mappers, i))) {
            g_ptr_array_remove_index(r->mappers, i);
        }
    }
}

bool regions_commit_locked(PtaRegions *r, GError **error)
{
    PtaView *old = *r->view;
    PtaView *new = compute(r);
    g_autoptr(GArray) steps = g_array_new(FALSE, FALSE, sizeof(Step));
    forget_gone(r);
    plan(steps, r, old, new, false);
    plan(steps, r, new, old, true);
    if (same(old, new)) {
        /* Regions may have the same pieces with other wishes: nobody sees a difference. */
        pta_view_free(new);
        return true;
    }
    if (!keeps_private(r, old, new, error) || !run(steps, error)) {
        pta_view_free(new);
        return false;
    }
    __atomic_store_n(r->view, new, __ATOMIC_RELEASE);
    pta_read_wait();
    prefetch(old, new);
    pta_view_free(old);
    return true;
}

bool regions_replay_locked(PtaRegions *r, PtaMapper *m, GError **error)
{
    g_autoptr(GArray) steps = g_array_new(FALSE, FALSE, sizeof(Step));
    for (unsigned i = 0; i < (*r->view)->n_pieces; i++) {
        Step step = { m, &(*r->view)->pieces[i], true };
        g_array_append_val(steps, step);
    }
    return run(steps, error);
}

void regions_withdraw_locked(PtaRegions *r, PtaMapper *m)
{
    for (unsigned i = 0; i < (*r->view)->n_pieces; i++) {
        g_autoptr(GError) error = NULL;
        const PtaViewPiece *piece = &(*r->view)->pieces[i];
        if (!pta_mapper_unmap(m, piece, &error)) {
            g_warning("cannot unmap 0x%" PRIx64 ": %s", piece->range.gpa, error->message);
        }
    }
}
