/*
 * The region manager with mappers that record what they are told and fail when asked to: overlaps,
 * who is active, the order of calls, roll-back at every step.
 */
#include "config.h"

#include "src/memory/region.h"

#include "tests/lib/cmocka-all.h"

#include <inttypes.h>
#include <string.h>

/* ---- mappers that record ---- */

typedef struct World World;

typedef struct Target {
    World *world;
    char name;      /* in the log: 'd' for DMA, 'p' for partitions */
    GArray *mapped; /* of PtaRamRange */
    unsigned flags; /* of the last map */
    int fd;
    uint64_t fd_offset;
} Target;

struct World {
    PtaView *view;
    PtaRegions *r;
    PtaBacking *backing;
    PtaMapping *mapping;     /* of 0x10000 bytes */
    GString *log;            /* "+d:0x1000 -p:0x3000 " */
    unsigned calls, fail_at; /* the call that fails, from 1; 0: none */
    Target d, p, q;
    PtaMapper *md, *mp, *mq;
};

static bool called(Target *t, char what, uint64_t gpa, GError **error)
{
    World *w = t->world;
    if (++w->calls == w->fail_at) {
        return pta_throw(error, PTA_ERROR_HOST, "told to fail");
    }
    g_string_append_printf(w->log, "%c%c:0x%" PRIx64 " ", what, t->name, gpa);
    return true;
}

static bool target_unmap(void *opaque, uint64_t gpa, uint64_t size, GError **error)
{
    Target *t = opaque;
    if (!called(t, '-', gpa, error)) {
        return false;
    }
    for (guint i = 0; i < t->mapped->len; i++) {
        if (pta_range_equal(g_array_index(t->mapped, PtaRamRange, i), (PtaRamRange){ gpa, size })) {
            g_array_remove_index(t->mapped, i);
            return true;
        }
    }
    fail_msg("%c: 0x%" PRIx64 " is not mapped", t->name, gpa);
    return false;
}

static bool target_map(Target *t, uint64_t gpa, uint64_t size, GError **error)
{
    PtaRamRange range = { gpa, size };
    if (!called(t, '+', gpa, error)) {
        return false;
    }
    for (guint i = 0; i < t->mapped->len; i++) {
        assert_false(pta_range_overlaps(g_array_index(t->mapped, PtaRamRange, i), range));
    }
    g_array_append_val(t->mapped, range);
    return true;
}

static bool partition_map(void *opaque, uint64_t gpa, uint64_t size, void *host, unsigned flags,
                          GError **error)
{
    Target *t = opaque;
    assert_non_null(host);
    t->flags = flags;
    return target_map(t, gpa, size, error);
}

static bool dma_map(void *opaque, uint64_t gpa, uint64_t size, void *host, int fd,
                    uint64_t fd_offset, bool writable, GError **error)
{
    Target *t = opaque;
    assert_non_null(host);
    t->flags = writable ? PTA_VIEW_WRITE : 0;
    t->fd = fd;
    t->fd_offset = fd_offset;
    return target_map(t, gpa, size, error);
}

static const PtaPartitionMapOps partition_ops = { partition_map, target_unmap };
static const PtaDmaOps dma_ops = { .map = dma_map, .unmap = target_unmap };
static const PtaDmaOps dma_fd_ops = { .needs_fd = true, .map = dma_map, .unmap = target_unmap };

static void target_init(World *w, Target *t, char name)
{
    *t = (Target){ .world = w, .name = name };
    t->mapped = g_array_new(FALSE, FALSE, sizeof(PtaRamRange));
}

/* ---- a world ---- */

static int setup(void **state)
{
    World *w = g_new0(World, 1);
    w->r = pta_regions_new(&w->view, UINT64_MAX);
    w->backing = pta_backing_new(&(PtaBackingParams){ .name = "test", .size = 0x10000 }, NULL);
    w->mapping = pta_mapping_new(w->backing, 0, 0x10000, true, NULL);
    w->log = g_string_new(NULL);
    target_init(w, &w->d, 'd');
    target_init(w, &w->p, 'p');
    target_init(w, &w->q, 'q');
    *state = w;
    return w->mapping ? 0 : -1;
}

static int teardown(void **state)
{
    World *w = *state;
    w->fail_at = 0;
    pta_regions_remove_mapper(w->r, w->md);
    pta_regions_remove_mapper(w->r, w->mp);
    pta_regions_remove_mapper(w->r, w->mq);
    assert_int_equal(w->d.mapped->len + w->p.mapped->len + w->q.mapped->len, 0);
    pta_regions_free(w->r);
    assert_null(w->view);
    pta_mapping_unref(w->mapping);
    pta_backing_unref(w->backing);
    g_array_free(w->d.mapped, TRUE);
    g_array_free(w->p.mapped, TRUE);
    g_array_free(w->q.mapped, TRUE);
    g_string_free(w->log, TRUE);
    g_free(w);
    return 0;
}

static void attach(World *w)
{
    w->mp = pta_regions_add_partition(w->r, &partition_ops, &w->p, 0, NULL);
    w->md = pta_regions_add_dma(w->r, &dma_ops, &w->d, NULL);
    w->mq = pta_regions_add_partition(w->r, &partition_ops, &w->q, 0x1000000, NULL);
    assert_true(w->mp && w->md && w->mq);
}

static const PtaMapParams rwx = { .writable = true, .executable = true };

/* Made and mapped. NULL: it overlaps. */
static PtaRegion *add(World *w, unsigned priority, uint64_t start, uint64_t end)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("prio%u", priority);
    PtaRegion *region =
        pta_region_add(w->r, name, (PtaRamRange){ start, end - start }, priority, &error);
    if (!region) {
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_STATE));
        assert_non_null(strstr(error->message, "overlaps with existing region prio"));
        return NULL;
    }
    assert_true(pta_region_map(region, &rwx, NULL));
    return region;
}

/* The same, with memory in all of it. */
static PtaRegion *add_full(World *w, unsigned priority, uint64_t start, uint64_t end)
{
    PtaRegion *region = add(w, priority, start, end);
    assert_non_null(region);
    assert_true(pta_region_add_mapping(region, 0, end - start, w->mapping, 0, true, NULL));
    return region;
}

static void add_mapping(World *w, PtaRegion *region, uint64_t start, uint64_t end)
{
    assert_true(pta_region_add_mapping(region, start, end - start, w->mapping, start, true, NULL));
}

static void expect_log(World *w, const char *text)
{
    assert_string_equal(w->log->str, text);
    g_string_truncate(w->log, 0);
}

/* "0x1000-0x3000 rwx, …" */
static void expect_view(World *w, const char *text)
{
    g_autoptr(GString) s = g_string_new(NULL);
    for (unsigned i = 0; i < w->view->n_pieces; i++) {
        const PtaViewPiece *p = &w->view->pieces[i];
        g_string_append_printf(s, "%s0x%" PRIx64 "-0x%" PRIx64 " r%s%s", i ? ", " : "",
                               p->range.gpa, pta_range_end(p->range),
                               p->flags & PTA_VIEW_WRITE ? "w" : "-",
                               p->flags & PTA_VIEW_EXEC ? "x" : "-");
    }
    assert_string_equal(s->str, text);
}

/* ---- regions ---- */

static void overlap(void **state)
{
    World *w = *state;
    PtaRegion *high = add(w, 1, 0x1000, 0x3000);
    assert_non_null(high);
    assert_null(add(w, 0, 0x2000, 0x4000));
    PtaRegion *low = add(w, 0, 0x1000, 0x3000);
    assert_non_null(low);
    assert_true(pta_region_remove(high, NULL));
    assert_null(add(w, 1, 0x2000, 0x4000));
    assert_null(add(w, 1, 0x2000, 0x3000));
    assert_non_null(add(w, 1, 0, 0x10000));
    assert_true(pta_region_remove(low, NULL));
    assert_null(add(w, 0, 0, 0x20000));
    assert_non_null(add(w, 0, 0x1000, 0x8000));
}

static void bad_ranges_are_refused(void **state)
{
    World *w = *state;
    static const PtaRamRange bad[] = {
        { 0x1000, 0 },
        { 0x800, 0x1000 },
        { 0x1000, 0x800 },
        { UINT64_C(0xfffffffffffff000), 0x1000 },
        { UINT64_C(0xfffffffffffff000), 0x2000 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(pta_region_add(w->r, "bad", bad[i], 0, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
    }
}

static void strongest_is_shown(void **state)
{
    World *w = *state;
    PtaRegion *low1 = add_full(w, 0, 0x2000, 0x3000);
    PtaRegion *low2 = add_full(w, 0, 0x5000, 0x7000);
    PtaRegion *mid = add_full(w, 7, 0x5000, 0x8000);
    expect_view(w, "0x2000-0x3000 rwx, 0x5000-0x8000 rwx");
    PtaRegion *high = add_full(w, 9, 0x1000, 0x9000);
    expect_view(w, "0x1000-0x9000 rwx");
    /* Only remembered. */
    assert_true(pta_region_unmap(mid, NULL));
    assert_true(pta_region_map(mid, &(PtaMapParams){ .executable = true }, NULL));
    expect_view(w, "0x1000-0x9000 rwx");
    /* The best again, all over the freed span. */
    assert_true(pta_region_unmap(high, NULL));
    expect_view(w, "0x2000-0x3000 rwx, 0x5000-0x8000 r-x");
    assert_true(pta_region_remove(mid, NULL));
    expect_view(w, "0x2000-0x3000 rwx, 0x5000-0x7000 rwx");
    assert_true(pta_region_map(high, &rwx, NULL));
    expect_view(w, "0x1000-0x9000 rwx");
    assert_true(pta_region_remove(high, NULL) && pta_region_remove(low1, NULL));
    expect_view(w, "0x5000-0x7000 rwx");
    assert_true(pta_region_remove(low2, NULL));
    expect_view(w, "");
}

static void earlier_of_equals_wins(void **state)
{
    World *w = *state;
    PtaRegion *first = add_full(w, 3, 0x1000, 0x3000);
    PtaRegion *second = add(w, 3, 0x1000, 0x3000);
    assert_true(pta_region_add_mapping(second, 0, 0x1000, w->mapping, 0, true, NULL));
    expect_view(w, "0x1000-0x3000 rwx");
    assert_true(pta_region_unmap(first, NULL));
    expect_view(w, "0x1000-0x2000 rwx");
    assert_true(pta_region_map(first, &rwx, NULL));
    expect_view(w, "0x1000-0x3000 rwx");
}

/* ---- mappings ---- */

static void mappings_do_not_overlap(void **state)
{
    World *w = *state;
    PtaRegion *region = add(w, 0, 0x10000, 0x20000);
    add_mapping(w, region, 0x2000, 0x4000);
    static const uint64_t bad[][2] = { { 0x1000, 0x2000 }, { 0x3000, 0x2000 }, { 0x2000, 0x2000 } };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(
            pta_region_add_mapping(region, bad[i][0], bad[i][1], w->mapping, 0, true, &error));
        assert_non_null(strstr(error->message, "overlaps another"));
    }
    add_mapping(w, region, 0x4000, 0x5000);
    expect_view(w, "0x12000-0x14000 rwx, 0x14000-0x15000 rwx");
    assert_int_equal(w->view->n_spans, 1); /* they continue one another in the host too */
    g_autoptr(GError) error = NULL;
    assert_false(pta_region_remove_mappings(region, 0x3000, 0x2000, &error));
    assert_non_null(strstr(error->message, "no partial unmappings allowed"));
    expect_view(w, "0x12000-0x14000 rwx, 0x14000-0x15000 rwx");
    assert_true(pta_region_remove_mappings(region, 0x1000, 0x3000, NULL));
    expect_view(w, "0x14000-0x15000 rwx");
    assert_true(pta_region_remove_mappings(region, 0, 0x10000, NULL));
    assert_true(pta_region_remove_mappings(region, 0, 0x10000, NULL));
    expect_view(w, "");
}

static void equal_parameters_do_nothing(void **state)
{
    World *w = *state;
    PtaRegion *region = add_full(w, 0, 0x1000, 0x2000);
    attach(w);
    g_string_truncate(w->log, 0);
    const PtaView *before = w->view;
    assert_true(pta_region_map(region, &rwx, NULL));
    expect_log(w, "");
    assert_ptr_equal(w->view, before);
    assert_true(pta_region_map(region, &(PtaMapParams){ .writable = true }, NULL));
    expect_log(w, "-d:0x1000 -p:0x1000 -q:0x1001000 +d:0x1000 +p:0x1000 +q:0x1001000 ");
    assert_int_equal(w->p.flags, PTA_VIEW_READ | PTA_VIEW_WRITE);
}

/* ---- mappers ---- */

static void dma_replay(void **state)
{
    World *w = *state;
    PtaRegion *region = add(w, 0, 0x1000, 0x9000);
    add_mapping(w, region, 0x2000, 0x3000);
    add_mapping(w, region, 0, 0x1000);
    attach(w);
    expect_log(w, "+p:0x1000 +p:0x3000 +d:0x1000 +d:0x3000 +q:0x1001000 +q:0x1003000 ");
    assert_int_equal(w->d.fd, pta_backing_fd(w->backing));
    assert_int_equal(w->d.fd_offset, 0x2000);
    assert_int_equal(w->d.flags, PTA_VIEW_WRITE);
}

static void dma_live_and_order(void **state)
{
    World *w = *state;
    attach(w);
    PtaRegion *region = add(w, 0, 0x1000, 0x9000);
    expect_log(w, "");
    add_mapping(w, region, 0, 0x1000);
    expect_log(w, "+d:0x1000 +p:0x1000 +q:0x1001000 ");
    add_mapping(w, region, 0x4000, 0x5000);
    expect_log(w, "+d:0x5000 +p:0x5000 +q:0x1005000 ");
    /* What goes before what comes, DMA before partitions in both. */
    PtaRegion *high = pta_region_add(w->r, "high", (PtaRamRange){ 0x1000, 0x8000 }, 1, NULL);
    add_mapping(w, high, 0, 0x2000);
    expect_log(w, "");
    assert_true(pta_region_map(high, &rwx, NULL));
    expect_log(w, "-d:0x1000 -p:0x1000 -q:0x1001000 -d:0x5000 -p:0x5000 -q:0x1005000 "
                  "+d:0x1000 +p:0x1000 +q:0x1001000 ");
}

static void dma_private_has_no_fd(void **state)
{
    World *w = *state;
    PtaBackingParams params = { .name = "p", .size = 0x2000, .private_anonymous = true };
    g_autoptr(PtaBacking) private = pta_backing_new(&params, NULL);
    g_autoptr(PtaMapping) mapping = pta_mapping_new(private, 0, 0x2000, true, NULL);
    PtaRegion *region = add(w, 0, 0x1000, 0x3000);
    assert_true(pta_region_add_mapping(region, 0, 0x2000, mapping, 0, true, NULL));
    attach(w);
    assert_int_equal(w->d.fd, -1);
    assert_int_equal(w->d.mapped->len, 1);

    /* It cannot be hidden for a while: by an unmap, other rights, or a stronger region. */
    g_string_truncate(w->log, 0);
    for (unsigned i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL;
        PtaRegion *high = pta_region_add(w->r, "high", (PtaRamRange){ 0x1000, 0x2000 }, 1, NULL);
        assert_false(i == 0   ? pta_region_unmap(region, &error)
                     : i == 1 ? pta_region_map(region, &(PtaMapParams){ 0 }, &error)
                              : pta_region_map(high, &rwx, &error));
        assert_non_null(strstr(error->message, "content would be lost"));
        expect_log(w, "");
        expect_view(w, "0x1000-0x3000 rwx");
        assert_true(pta_region_remove(high, NULL));
    }
    assert_true(pta_region_remove(region, NULL)); /* for good */
    expect_view(w, "");
}

static void needs_fd_refuses_private(void **state)
{
    World *w = *state;
    PtaBackingParams params = { .name = "p", .size = 0x1000, .private_anonymous = true };
    g_autoptr(PtaBacking) private = pta_backing_new(&params, NULL);
    g_autoptr(PtaMapping) mapping = pta_mapping_new(private, 0, 0x1000, true, NULL);
    g_autoptr(GError) error = NULL;
    PtaRegion *region = pta_region_add(w->r, "private", (PtaRamRange){ 0x1000, 0x1000 }, 0, NULL);
    assert_true(pta_region_add_mapping(region, 0, 0x1000, mapping, 0, true, NULL));
    /* Whether active or not. */
    assert_null(pta_regions_add_dma(w->r, &dma_fd_ops, &w->d, &error));
    assert_non_null(strstr(error->message, "needs descriptors"));
    assert_true(pta_region_remove_mappings(region, 0, 0x1000, NULL));
    w->md = pta_regions_add_dma(w->r, &dma_fd_ops, &w->d, NULL);
    assert_non_null(w->md);
    g_clear_error(&error);
    assert_false(pta_region_add_mapping(region, 0, 0x1000, mapping, 0, true, &error));
    assert_non_null(strstr(error->message, "no descriptor"));
    assert_true(pta_region_map(region, &rwx, NULL));
    assert_true(pta_region_add_mapping(region, 0, 0x1000, w->mapping, 0, true, NULL));
    expect_log(w, "+d:0x1000 ");
}

static void dma_disable(void **state)
{
    World *w = *state;
    attach(w);
    PtaRegion *region = add(w, 0, 0x1000, 0x9000);
    add_mapping(w, region, 0, 0x1000);
    add_mapping(w, region, 0x4000, 0x5000);
    g_string_truncate(w->log, 0);
    assert_true(pta_region_unmap(region, NULL));
    expect_log(w, "-d:0x1000 -p:0x1000 -q:0x1001000 -d:0x5000 -p:0x5000 -q:0x1005000 ");
    assert_true(pta_region_map(region, &(PtaMapParams){ .executable = true }, NULL));
    assert_int_equal(w->d.flags, 0);
    assert_int_equal(w->p.flags, PTA_VIEW_READ | PTA_VIEW_EXEC);
}

static void dma_remove(void **state)
{
    World *w = *state;
    attach(w);
    PtaRegion *region = add_full(w, 0, 0x1000, 0x3000);
    g_string_truncate(w->log, 0);
    pta_regions_remove_mapper(w->r, w->md);
    w->md = NULL;
    expect_log(w, "-d:0x1000 ");
    assert_true(pta_region_remove(region, NULL));
    expect_log(w, "-p:0x1000 -q:0x1001000 ");
}

static void inactive_regions_are_not_told_of(void **state)
{
    World *w = *state;
    attach(w);
    PtaRegion *hidden = pta_region_add(w->r, "hidden", (PtaRamRange){ 0x1000, 0x1000 }, 0, NULL);
    add_mapping(w, hidden, 0, 0x1000);
    PtaRegion *high = add(w, 1, 0x4000, 0x8000);
    PtaRegion *low = add_full(w, 0, 0x4000, 0x5000);
    assert_true(pta_region_remove_mappings(low, 0, 0x1000, NULL));
    add_mapping(w, low, 0, 0x1000);
    expect_log(w, "");
    expect_view(w, "");
    assert_true(pta_region_remove(high, NULL));
    expect_log(w, "+d:0x4000 +p:0x4000 +q:0x1004000 ");
}

static void gone_partitions_are_skipped(void **state)
{
    World *w = *state;
    attach(w);
    PtaRegion *region = add_full(w, 0, 0x1000, 0x3000);
    g_string_truncate(w->log, 0);
    pta_mapper_gone(w->mp);
    g_array_set_size(w->p.mapped, 0);
    assert_true(pta_region_unmap(region, NULL));
    expect_log(w, "-d:0x1000 -q:0x1001000 ");
    assert_true(pta_region_map(region, &rwx, NULL));
    expect_log(w, "+d:0x1000 +q:0x1001000 ");
}

/* ---- roll-back ---- */

typedef bool ChangeFn(World *w, PtaRegion *low, PtaRegion *high, GError **error);

static bool change_show(World *w, PtaRegion *low, PtaRegion *high, GError **error)
{
    return pta_region_map(high, &rwx, error);
}

static bool change_add(World *w, PtaRegion *low, PtaRegion *high, GError **error)
{
    return pta_region_add_mapping(low, 0x3000, 0x1000, w->mapping, 0x8000, true, error);
}

static bool change_take(World *w, PtaRegion *low, PtaRegion *high, GError **error)
{
    return pta_region_remove_mappings(low, 0, 0x2000, error);
}

static bool change_rights(World *w, PtaRegion *low, PtaRegion *high, GError **error)
{
    return pta_region_map(low, &(PtaMapParams){ 0 }, error);
}

static bool change_hide(World *w, PtaRegion *low, PtaRegion *high, GError **error)
{
    return pta_region_unmap(low, error);
}

static bool change_remove(World *w, PtaRegion *low, PtaRegion *high, GError **error)
{
    return pta_region_remove(low, error);
}

static bool same_ranges(const GArray *a, const GArray *b, uint64_t offset)
{
    bool same = a->len == b->len;
    for (guint i = 0; i < a->len && same; i++) {
        PtaRamRange r = g_array_index(a, PtaRamRange, i);
        bool found = false;
        for (guint j = 0; j < b->len; j++) {
            PtaRamRange s = g_array_index(b, PtaRamRange, j);
            found |= r.gpa + offset == s.gpa && r.size == s.size;
        }
        same = found;
    }
    return same;
}

/* All mappers have what the view has. */
static void expect_in_step(World *w)
{
    g_autoptr(GArray) view = g_array_new(FALSE, FALSE, sizeof(PtaRamRange));
    for (unsigned i = 0; i < w->view->n_pieces; i++) {
        g_array_append_val(view, w->view->pieces[i].range);
    }
    assert_true(same_ranges(view, w->d.mapped, 0));
    assert_true(same_ranges(view, w->p.mapped, 0));
    assert_true(same_ranges(view, w->q.mapped, 0x1000000));
}

/* The change fails at each of its calls in turn, and in the end succeeds. */
static void fails_everywhere(void **state, ChangeFn *change, unsigned n_calls, const char *before,
                             const char *after)
{
    World *w = *state;
    attach(w);
    PtaRegion *low = add(w, 0, 0x1000, 0x9000);
    add_mapping(w, low, 0, 0x1000);
    add_mapping(w, low, 0x1000, 0x2000);
    PtaRegion *high = pta_region_add(w->r, "high", (PtaRamRange){ 0x1000, 0x8000 }, 1, NULL);
    add_mapping(w, high, 0x2000, 0x4000);
    for (unsigned at = 1;; at++) {
        g_autoptr(GError) error = NULL;
        const PtaView *view = w->view;
        w->calls = 0;
        w->fail_at = at;
        if (change(w, low, high, &error)) {
            assert_int_equal(at, n_calls + 1);
            break;
        }
        assert_string_equal(error->message, "told to fail");
        assert_ptr_equal(w->view, view); /* still in force */
        expect_view(w, before);
        expect_in_step(w);
    }
    w->fail_at = 0;
    expect_view(w, after);
    expect_in_step(w);
}

#define BEFORE "0x1000-0x2000 rwx, 0x2000-0x3000 rwx"

static void roll_back_show(void **state)
{
    fails_everywhere(state, change_show, 9, BEFORE, "0x3000-0x5000 rwx");
}

static void roll_back_add(void **state)
{
    fails_everywhere(state, change_add, 3, BEFORE, BEFORE ", 0x4000-0x5000 rwx");
}

static void roll_back_take(void **state)
{
    fails_everywhere(state, change_take, 6, BEFORE, "");
}

static void roll_back_rights(void **state)
{
    fails_everywhere(state, change_rights, 12, BEFORE, "0x1000-0x2000 r--, 0x2000-0x3000 r--");
}

static void roll_back_hide(void **state)
{
    fails_everywhere(state, change_hide, 6, BEFORE, "");
}

static void roll_back_remove(void **state)
{
    fails_everywhere(state, change_remove, 6, BEFORE, "");
}

static void roll_back_registration(void **state)
{
    World *w = *state;
    PtaRegion *region = add(w, 0, 0x1000, 0x9000);
    for (uint64_t at = 0; at < 0x3000; at += 0x1000) {
        add_mapping(w, region, at, at + 0x1000);
    }
    for (unsigned at = 1; at <= 3; at++) {
        g_autoptr(GError) error = NULL;
        w->calls = 0;
        w->fail_at = at;
        assert_null(pta_regions_add_dma(w->r, &dma_ops, &w->d, &error));
        assert_int_equal(w->d.mapped->len, 0);
        w->calls = 0;
        assert_null(pta_regions_add_partition(w->r, &partition_ops, &w->p, 0, NULL));
        assert_int_equal(w->p.mapped->len, 0);
    }
    w->fail_at = 0;
    attach(w);
    expect_in_step(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        TEST(overlap),
        TEST(bad_ranges_are_refused),
        TEST(strongest_is_shown),
        TEST(earlier_of_equals_wins),
        TEST(mappings_do_not_overlap),
        TEST(equal_parameters_do_nothing),
        TEST(dma_replay),
        TEST(dma_live_and_order),
        TEST(dma_private_has_no_fd),
        TEST(needs_fd_refuses_private),
        TEST(dma_disable),
        TEST(dma_remove),
        TEST(inactive_regions_are_not_told_of),
        TEST(gone_partitions_are_skipped),
        TEST(roll_back_show),
        TEST(roll_back_add),
        TEST(roll_back_take),
        TEST(roll_back_rights),
        TEST(roll_back_hide),
        TEST(roll_back_remove),
        TEST(roll_back_registration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
