/*
 * Guest memory against a model that knows nothing of regions, pieces or differences: it says for each
 * page by itself what is there. 100,000 random operations, some of which a partition refuses; after
 * each one the view, what host code reads and writes, and what every partition has mapped are
 * compared, page by page.
 */
#include "config.h"

#include "src/memory/device-memory.h"

#include "tests/lib/cmocka-all.h"

#include <inttypes.h>
#include <string.h>

#ifdef PTA_TSAN /* one thread: ten times slower, and nothing for it to find */
#define N_OPS 20000
#else
#define N_OPS 100000
#endif
#define PAGES      640 /* of guest addresses that anything happens at */
#define ALIAS      UINT64_C(0x10000000)
#define N_BACKINGS 4 /* 0: RAM */
#define B_PAGES    512
#define N_REGIONS  24
#define N_DEVICES  6
#define N_TARGETS  4
#define MMIO_FIRST 600 /* pages */
#define RAM_PAGES  300
#define RAM2_FIRST 320
#define RAM2_PAGES 60

/* ---- the model ---- */

typedef struct Part { /* pages */
    unsigned offset, n;
    unsigned backing, at;
    bool writable;
} Part;

typedef struct Region {
    unsigned first, n, priority;
    uint64_t order;
    bool exists, mapped, writable, executable;
    unsigned n_parts;
    Part parts[4];
} Region;

typedef struct Page {
    bool there, ram;
    unsigned backing, at, flags;
} Page;

typedef struct Target {
    struct World *world;
    bool dma;
    PtaMemoryAttachment *attachment;
    PtaMapper *mapper;
    bool alias;
    struct {
        uint8_t *host;
        unsigned flags;
        uint64_t start, size; /* of the piece */
    } page[2][PAGES];         /* at 0 and at the alias */
} Target;

typedef struct World {
    GRand *rand;
    PtaMemory *mem;
    PtaBacking *backing[N_BACKINGS];
    PtaMapping *mapping[N_BACKINGS]; /* the test's own look at it */
    Region region[N_REGIONS];        /* RAM pieces, then raw regions, then those of devices */
    unsigned n_ram;
    PtaRegion *raw[N_REGIONS];
    PtaDeviceMemory *device[N_DEVICES];
    Region device_region[N_DEVICES];
    Target target[N_TARGETS];
    uint64_t next_order;
    unsigned calls, fail_at;
    Page expected[PAGES];
    uint64_t n_changes, n_refusals, n_injected;
} World;

static unsigned pick(World *w, unsigned n)
{
    return (unsigned)g_rand_int_range(w->rand, 0, (gint32)n);
}

static bool wins(const Region *a, const Region *b)
{
    return !b || a->priority > b->priority || (a->priority == b->priority && a->order < b->order);
}

static void consider(const Region *r, unsigned page, const Region **best)
{
    if (r->exists && r->mapped && page >= r->first && page < r->first + r->n && wins(r, *best)) {
        *best = r;
    }
}

static Page page_of(const Region *r, unsigned page)
{
    Page result = { 0 };
    for (unsigned i = 0; r && i < r->n_parts; i++) {
        const Part *p = &r->parts[i];
        unsigned at = page - r->first;
        if (at >= p->offset && at < p->offset + p->n) {
            result =
                (Page){ .there = true,
                        .ram = r->priority == 255,
                        .backing = p->backing,
                        .at = p->at + (at - p->offset),
                        .flags = PTA_VIEW_READ | (p->writable && r->writable ? PTA_VIEW_WRITE : 0) |
                                 (r->executable ? PTA_VIEW_EXEC : 0) };
        }
    }
    return result;
}

static void expect_pages(World *w)
{
    for (unsigned page = 0; page < PAGES; page++) {
        const Region *best = NULL;
        for (unsigned i = 0; i < N_REGIONS; i++) {
            consider(&w->region[i], page, &best);
        }
        for (unsigned i = 0; i < N_DEVICES; i++) {
            consider(&w->device_region[i], page, &best);
        }
        w->expected[page] = page_of(best, page);
    }
}

/* The rule of overlaps, on pages. */
static bool pair_fits(const Region *a, const Region *b)
{
    unsigned common = 0;
    for (unsigned p = a->first; p < a->first + a->n; p++) {
        common += p >= b->first && p < b->first + b->n;
    }
    if (!b->exists || common == 0) {
        return true;
    }
    return a->priority == b->priority  ? common == a->n && common == b->n
           : a->priority < b->priority ? common == a->n
                                       : common == b->n;
}

/* `but`: the region that it takes the place of, or NULL. */
static bool fits(const World *w, const Region *new, const Region *but)
{
    bool ok = true;
    for (unsigned i = 0; i < N_REGIONS; i++) {
        ok &= pair_fits(new, &w->region[i]);
    }
    for (unsigned i = 0; i < N_DEVICES; i++) {
        ok &= &w->device_region[i] == but || pair_fits(new, &w->device_region[i]);
    }
    return ok;
}

static bool part_fits(const Region *r, unsigned offset, unsigned n)
{
    bool ok = r->n_parts < G_N_ELEMENTS(r->parts);
    for (unsigned i = 0; i < r->n_parts; i++) {
        ok &= offset + n <= r->parts[i].offset || offset >= r->parts[i].offset + r->parts[i].n;
    }
    return ok;
}

/* False: one is only partly within. */
static bool take_parts(Region *r, unsigned offset, unsigned n)
{
    Region after = *r;
    after.n_parts = 0;
    for (unsigned i = 0; i < r->n_parts; i++) {
        const Part *p = &r->parts[i];
        bool within = p->offset >= offset && p->offset + p->n <= offset + n;
        bool apart = p->offset + p->n <= offset || p->offset >= offset + n;
        if (!within && !apart) {
            return false;
        }
        if (apart) {
            after.parts[after.n_parts++] = *p;
        }
    }
    *r = after;
    return true;
}

/* ---- partitions and a user of DMA ---- */

static bool refuses(World *w, GError **error)
{
    return ++w->calls == w->fail_at && !pta_throw(error, PTA_ERROR_HOST, "told to fail");
}

static void target_set(Target *t, uint64_t gpa, uint64_t size, uint8_t *host, unsigned flags)
{
    unsigned side = gpa >= ALIAS;
    uint64_t at = gpa - (side ? ALIAS : 0);
    for (uint64_t done = 0; done < size; done += PTA_PAGE_SIZE) {
        unsigned page = (unsigned)((at + done) >> PTA_PAGE_SHIFT);
        assert_true(page < PAGES);
        assert_true(!host == !!t->page[side][page].host); /* neither twice, nor what is not there */
        if (!host) {
            assert_true(t->page[side][page].start == gpa && t->page[side][page].size == size);
        }
        t->page[side][page].host = host ? host + done : NULL;
        t->page[side][page].flags = flags;
        t->page[side][page].start = gpa;
        t->page[side][page].size = size;
    }
}

static bool target_map(void *opaque, uint64_t gpa, uint64_t size, void *host, unsigned flags,
                       GError **error)
{
    Target *t = opaque;
    if (refuses(t->world, error)) {
        return false;
    }
    target_set(t, gpa, size, host, flags);
    return true;
}

static bool target_unmap(void *opaque, uint64_t gpa, uint64_t size, GError **error)
{
    Target *t = opaque;
    if (refuses(t->world, error)) {
        return false;
    }
    target_set(t, gpa, size, NULL, 0);
    return true;
}

static bool target_dma_map(void *opaque, uint64_t gpa, uint64_t size, void *host, int fd,
                           uint64_t fd_offset, bool writable, GError **error)
{
    assert_true(fd >= 0 && fd_offset % PTA_PAGE_SIZE == 0);
    return target_map(opaque, gpa, size, host, writable ? PTA_VIEW_WRITE : 0, error);
}

static const PtaPartitionMapOps partition_ops = { target_map, target_unmap };
static const PtaDmaOps dma_ops = { .map = target_dma_map, .unmap = target_unmap };

static bool attached(const Target *t)
{
    return t->attachment || t->mapper;
}

static void expect_empty(const Target *t)
{
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned p = 0; p < PAGES; p++) {
            assert_null(t->page[side][p].host);
        }
    }
}

/* ---- comparing ---- */

static uint64_t page_id(unsigned backing, unsigned at)
{
    return (uint64_t)(backing + 1) << 32 | at;
}

static uint64_t *own_page(World *w, unsigned backing, unsigned at)
{
    return (uint64_t *)(void *)(w->mapping[backing]->host + at * PTA_PAGE_SIZE);
}

static PtaMemStatus expected_status(const World *w, unsigned page, bool write, bool ram)
{
    const Page *e = &w->expected[page];
    if (!e->there) {
        return page >= MMIO_FIRST ? PTA_MEM_MMIO : PTA_MEM_HOLE;
    }
    return ram && !e->ram                          ? PTA_MEM_MMIO
           : write && !(e->flags & PTA_VIEW_WRITE) ? PTA_MEM_READ_ONLY
                                                   : PTA_MEM_OK;
}

static void compare_host(World *w)
{
    for (unsigned p = 0; p < PAGES; p++) {
        const Page *e = &w->expected[p];
        uint64_t value = 0;
        PtaMemStatus status = pta_memory_load_u64(w->mem, p * PTA_PAGE_SIZE, &value);
        assert_int_equal(status, expected_status(w, p, false, false));
        assert_true(value == (e->there ? page_id(e->backing, e->at) : 0));
    }
}

static void compare_target(World *w, const Target *t)
{
    for (unsigned p = 0; p < PAGES; p++) {
        const Page *e = &w->expected[p];
        unsigned flags = t->dma ? e->flags & PTA_VIEW_WRITE : e->flags;
        for (unsigned side = 0; side < (t->alias ? 2 : 1); side++) {
            const uint8_t *host = t->page[side][p].host;
            assert_true(e->there == (host != NULL));
            if (host) {
                assert_true(*(const uint64_t *)(const void *)host == page_id(e->backing, e->at));
                assert_int_equal(t->page[side][p].flags, flags);
            }
        }
    }
}

/* A copy over some pages, a word and iovecs at random places. */
static void compare_accesses(World *w)
{
    uint8_t buf[4 * 4096];
    unsigned first = pick(w, PAGES - 5), off = pick(w, 4096), len = 1 + pick(w, sizeof(buf));
    unsigned last = first + (off + len - 1) / 4096;
    bool write = pick(w, 2);
    uint64_t gpa = first * PTA_PAGE_SIZE + off;
    PtaMemStatus expected = PTA_MEM_OK, expected_map = PTA_MEM_OK;
    for (unsigned p = first; p <= last; p++) {
        expected = expected != PTA_MEM_OK ? expected : expected_status(w, p, write, false);
        expected_map =
            expected_map != PTA_MEM_OK ? expected_map : expected_status(w, p, write, true);
    }
    if (write) {
        /* Where the identities are it writes them again. */
        memset(buf, (int)pick(w, 256), len);
        for (unsigned p = first; p <= last; p++) {
            uint64_t id = page_id(w->expected[p].backing, w->expected[p].at);
            for (unsigned i = 0; i < 8; i++) {
                uint64_t at = p * PTA_PAGE_SIZE + i - gpa;
                if (at < len) {
                    buf[at] = (uint8_t)(id >> (8 * i));
                }
            }
        }
        assert_int_equal(pta_memory_write(w->mem, gpa, buf, len), expected);
    } else {
        assert_int_equal(pta_memory_read(w->mem, gpa, buf, len), expected);
    }
    for (unsigned i = 0; expected == PTA_MEM_OK && i < len; i += 1 + pick(w, 64)) {
        const Page *e = &w->expected[(gpa + i) >> PTA_PAGE_SHIFT];
        assert_int_equal(buf[i], ((uint8_t *)own_page(w, e->backing, e->at))[(gpa + i) % 4096]);
    }
    struct iovec iov[8];
    unsigned n = G_N_ELEMENTS(iov);
    size_t sum = 0;
    assert_int_equal(pta_memory_map(w->mem, gpa, len, write, iov, &n), expected_map);
    for (unsigned i = 0; i < n; i++) {
        sum += iov[i].iov_len;
    }
    assert_int_equal(sum, expected_map == PTA_MEM_OK ? len : 0);
}

static void seen_piece(void *opaque, const PtaViewPiece *piece, const char *region)
{
    unsigned *next = opaque;
    unsigned first = (unsigned)(piece->range.gpa >> PTA_PAGE_SHIFT);
    assert_non_null(region);
    assert_true(first >= *next);
    *next = (unsigned)(pta_range_end(piece->range) >> PTA_PAGE_SHIFT);
}

static void compare(World *w)
{
    unsigned next = 0;
    expect_pages(w);
    pta_regions_foreach_piece(pta_memory_regions(w->mem), seen_piece, &next);
    compare_host(w);
    for (unsigned i = 0; i < N_TARGETS; i++) {
        if (attached(&w->target[i])) {
            compare_target(w, &w->target[i]);
        }
    }
    compare_accesses(w);
}

/* ---- operations; each leaves the model as the real thing has to be ---- */

/* What came of it; `allowed`: the rules allow it. False: nothing changed. */
static bool outcome(World *w, bool ok, bool allowed, GError *error)
{
    bool injected = error && strstr(error->message, "told to fail");
    w->fail_at = 0;
    assert_true(ok == !error);
    assert_true(ok ? allowed : injected || !allowed);
    w->n_changes += ok;
    w->n_refusals += !ok && !injected;
    w->n_injected += injected;
    g_clear_error(&error);
    return ok;
}

static void inject(World *w)
{
    w->calls = 0;
    w->fail_at = pick(w, 4) == 0 ? 1 + pick(w, 12) : 0;
}

static void op_visibility(World *w)
{
    unsigned i = pick(w, w->n_ram), how = pick(w, 3);
    Region *r = &w->region[i];
    PtaRamRange range = { r->first * PTA_PAGE_SIZE, r->n * PTA_PAGE_SIZE };
    bool exact = pick(w, 8) != 0;
    range.size += exact ? 0 : PTA_PAGE_SIZE;
    GError *error = NULL;
    inject(w);
    bool ok = pta_memory_set_ram_visibility(w->mem, range, (PtaRamVisibility)how, &error);
    if (outcome(w, ok, exact, error)) {
        r->mapped = how != PTA_RAM_UNMAPPED;
        r->writable = how == PTA_RAM_READ_WRITE;
    }
}

static void random_range(World *w, unsigned *first, unsigned *n)
{
    /* Often of the same few ranges, so that regions meet. */
    static const unsigned liked[][2] = { { 0xa0, 0x20 }, { 0xc0, 4 }, { 0xa0, 0x10 }, { 310, 8 },
                                         { 390, 40 },    { 400, 16 }, { 400, 4 },     { 596, 12 } };
    if (pick(w, 4) > 0) {
        unsigned i = pick(w, G_N_ELEMENTS(liked));
        *first = liked[i][0];
        *n = liked[i][1];
    } else {
        *first = pick(w, PAGES - 40);
        *n = 1 + pick(w, 40);
    }
}

static void op_raw_add(World *w, unsigned i)
{
    Region new = { .priority = pick(w, 3) * 100, .exists = true };
    random_range(w, &new.first, &new.n);
    GError *error = NULL;
    PtaRegion *region = pta_region_add(
        pta_memory_regions(w->mem), "raw",
        (PtaRamRange){ new.first *PTA_PAGE_SIZE, new.n *PTA_PAGE_SIZE }, new.priority, &error);
    if (outcome(w, region != NULL, fits(w, &new, NULL), error)) {
        new.order = w->next_order++;
        w->region[i] = new;
        w->raw[i] = region;
    }
}

static void op_raw_add_mapping(World *w, unsigned i)
{
    Region *r = &w->region[i];
    Part part = { .offset = pick(w, r->n), .backing = 1 + pick(w, N_BACKINGS - 1) };
    part.n = 1 + pick(w, r->n - part.offset);
    part.at = pick(w, B_PAGES - part.n);
    part.writable = pick(w, 4) > 0;
    if (r->n_parts == G_N_ELEMENTS(r->parts)) {
        return;
    }
    GError *error = NULL;
    inject(w);
    bool ok = pta_region_add_mapping(w->raw[i], part.offset * PTA_PAGE_SIZE, part.n * PTA_PAGE_SIZE,
                                     w->mapping[part.backing], part.at * PTA_PAGE_SIZE,
                                     part.writable, &error);
    if (outcome(w, ok, part_fits(r, part.offset, part.n), error)) {
        r->parts[r->n_parts++] = part;
    }
}

static void op_raw_change(World *w, unsigned i)
{
    Region *r = &w->region[i], after = *r;
    GError *error = NULL;
    bool ok, allowed = true;
    inject(w);
    switch (pick(w, 4)) {
    case 0:
    case 1: {
        PtaMapParams params = { .writable = pick(w, 2), .executable = pick(w, 2) };
        after.mapped = true;
        after.writable = params.writable;
        after.executable = params.executable;
        ok = pta_region_map(w->raw[i], &params, &error);
        break;
    }
    case 2:
        after.mapped = false;
        ok = pta_region_unmap(w->raw[i], &error);
        break;
    default: {
        unsigned offset = pick(w, r->n), n = 1 + pick(w, r->n - offset);
        allowed = take_parts(&after, offset, n);
        ok = pta_region_remove_mappings(w->raw[i], offset * PTA_PAGE_SIZE, n * PTA_PAGE_SIZE,
                                        &error);
        break;
    }
    }
    if (outcome(w, ok, allowed, error)) {
        *r = after;
    }
}

static void op_raw(World *w)
{
    unsigned i = w->n_ram + pick(w, N_REGIONS - w->n_ram);
    if (!w->region[i].exists) {
        op_raw_add(w, i);
    } else if (pick(w, 6) == 0) {
        GError *error = NULL;
        inject(w);
        bool ok = pta_region_remove(w->raw[i], &error);
        if (outcome(w, ok, true, error)) {
            w->region[i] = (Region){ 0 };
        }
    } else if (pick(w, 2)) {
        op_raw_add_mapping(w, i);
    } else {
        op_raw_change(w, i);
    }
}

static void op_device_place(World *w, unsigned i)
{
    Region *r = &w->device_region[i], after = *r;
    unsigned n;
    GError *error = NULL;
    random_range(w, &after.first, &n);
    after.exists = after.mapped = after.executable = true;
    after.writable = pick(w, 4) > 0;
    bool same = r->exists && r->first == after.first && r->writable == after.writable;
    w->calls = w->fail_at = 0;
    if (!r->exists) {
        inject(w);
    }
    bool ok = pta_device_memory_map_to_guest(w->device[i], after.first * PTA_PAGE_SIZE,
                                             after.writable, &error);
    if (outcome(w, ok, fits(w, &after, r), error)) {
        after.order = same ? r->order : w->next_order++;
        *r = after;
    } else if (r->exists) {
        r->order = w->next_order++; /* taken away and put back */
    }
}

static void op_device_part(World *w, unsigned i)
{
    Region *r = &w->device_region[i], after = *r;
    unsigned offset = pick(w, r->n), n = 1 + pick(w, r->n - offset);
    GError *error = NULL;
    inject(w);
    if (pick(w, 3) == 0) {
        bool allowed = take_parts(&after, offset, n);
        bool ok = pta_device_memory_unmap(w->device[i], offset * PTA_PAGE_SIZE, n * PTA_PAGE_SIZE,
                                          &error);
        if (outcome(w, ok, allowed, error)) {
            *r = after;
        }
    } else if (r->n_parts < G_N_ELEMENTS(r->parts)) {
        Part part = { offset, n, 1 + pick(w, N_BACKINGS - 1), 0, pick(w, 4) > 0 };
        part.at = pick(w, B_PAGES - n);
        bool ok = pta_device_memory_map(w->device[i], offset * PTA_PAGE_SIZE, n * PTA_PAGE_SIZE,
                                        w->backing[part.backing], part.at * PTA_PAGE_SIZE,
                                        part.writable, &error);
        if (outcome(w, ok, part_fits(r, offset, n), error)) {
            r->parts[r->n_parts++] = part;
        }
    }
}

static void op_device(World *w)
{
    unsigned i = pick(w, N_DEVICES), n, first;
    Region *r = &w->device_region[i];
    if (!w->device[i]) {
        random_range(w, &first, &n);
        w->device[i] = pta_device_memory_new(w->mem, "device", n * PTA_PAGE_SIZE);
        *r = (Region){ .n = n };
        return;
    }
    switch (pick(w, 12)) {
    case 0:
        w->fail_at = 0;
        pta_device_memory_free(g_steal_pointer(&w->device[i]));
        *r = (Region){ 0 };
        break;
    case 1:
    case 2: {
        GError *error = NULL;
        inject(w);
        bool ok = pta_device_memory_unmap_from_guest(w->device[i], &error);
        if (outcome(w, ok, true, error)) {
            r->exists = r->mapped = false;
        }
        break;
    }
    case 3:
    case 4:
    case 5:
    case 6:
        op_device_place(w, i);
        break;
    default:
        op_device_part(w, i);
        break;
    }
}

static void op_target(World *w)
{
    Target *t = &w->target[pick(w, N_TARGETS)];
    GError *error = NULL;
    if (attached(t)) {
        w->fail_at = 0;
        if (t->dma) {
            pta_regions_remove_mapper(pta_memory_regions(w->mem), g_steal_pointer(&t->mapper));
        } else if (pick(w, 2)) {
            pta_memory_detach(g_steal_pointer(&t->attachment));
        } else {
            pta_memory_attachment_gone(g_steal_pointer(&t->attachment));
            memset(t->page, 0, sizeof(t->page));
        }
        expect_empty(t);
        return;
    }
    inject(w);
    t->alias = !t->dma && pick(w, 2);
    if (t->dma) {
        t->mapper = pta_regions_add_dma(pta_memory_regions(w->mem), &dma_ops, t, &error);
    } else {
        t->attachment = pta_memory_attach(w->mem, &partition_ops, t, t->alias, &error);
    }
    if (!outcome(w, attached(t), true, error)) {
        expect_empty(t); /* not half of it */
    }
}

/* ---- the test ---- */

static void add_ram(World *w, unsigned first, unsigned end, unsigned at)
{
    w->region[w->n_ram++] = (Region){ .first = first,
                                      .n = end - first,
                                      .priority = 255,
                                      .order = w->next_order++,
                                      .exists = true,
                                      .mapped = true,
                                      .writable = true,
                                      .executable = true,
                                      .n_parts = 1,
                                      .parts = { { 0, end - first, 0, at, true } } };
}

static void build(World *w)
{
    for (unsigned b = 0; b < N_BACKINGS; b++) {
        PtaBackingParams params = { .name = "model", .size = B_PAGES * PTA_PAGE_SIZE };
        w->backing[b] = pta_backing_new(&params, NULL);
        w->mapping[b] = pta_mapping_new(w->backing[b], 0, params.size, true, NULL);
        for (unsigned p = 0; p < B_PAGES; p++) {
            *own_page(w, b, p) = page_id(b, p);
        }
    }
    const PtaRamRange ram[] = { { 0, RAM_PAGES * PTA_PAGE_SIZE },
                                { RAM2_FIRST * PTA_PAGE_SIZE, RAM2_PAGES * PTA_PAGE_SIZE } };
    const PtaRamRange mmio = { MMIO_FIRST * PTA_PAGE_SIZE, (PAGES - MMIO_FIRST) * PTA_PAGE_SIZE };
    PtaMemoryParams params = {
        .ram = ram,
        .n_ram = 2,
        .backings = &(PtaMemoryBacking){ .existing = w->backing[0] },
        .n_backings = 1,
        .mmio = &mmio,
        .n_mmio = 1,
        .x86_legacy = true,
        .has_alias = true,
        .alias_offset = ALIAS,
    };
    w->mem = pta_memory_build(&params, NULL);
    assert_non_null(w->mem);
    static const unsigned cuts[] = { 0,    0xa0, 0xc0, 0xc4, 0xc8, 0xcc, 0xd0,  0xd4,     0xd8,
                                     0xdc, 0xe0, 0xe4, 0xe8, 0xec, 0xf0, 0x100, RAM_PAGES };
    for (unsigned i = 0; i + 1 < G_N_ELEMENTS(cuts); i++) {
        add_ram(w, cuts[i], cuts[i + 1], cuts[i]);
    }
    add_ram(w, RAM2_FIRST, RAM2_FIRST + RAM2_PAGES, RAM_PAGES);
    for (unsigned i = 0; i < N_TARGETS; i++) {
        w->target[i].world = w;
        w->target[i].dma = i == 0;
    }
}

static void tear_down(World *w)
{
    w->fail_at = 0;
    for (unsigned i = 0; i < N_DEVICES; i++) {
        pta_device_memory_free(w->device[i]);
    }
    pta_regions_remove_mapper(pta_memory_regions(w->mem), w->target[0].mapper);
    for (unsigned i = 0; i < N_TARGETS; i++) {
        pta_memory_detach(w->target[i].attachment);
        expect_empty(&w->target[i]);
    }
    pta_memory_free(w->mem);
    for (unsigned b = 0; b < N_BACKINGS; b++) {
        pta_mapping_unref(w->mapping[b]);
        pta_backing_unref(w->backing[b]);
    }
    g_rand_free(w->rand);
    g_free(w);
}

static void random_operations(void **unused)
{
    const char *seed = g_getenv("PTA_TEST_SEED");
    World *w = g_new0(World, 1);
    w->rand = g_rand_new_with_seed(seed ? (guint32)g_ascii_strtoull(seed, NULL, 0) : 20261125);
    build(w);
    compare(w);
    for (unsigned i = 0; i < N_OPS; i++) {
        static void (*const ops[])(World *) = { op_visibility, op_raw,    op_raw,    op_raw,
                                                op_device,     op_device, op_device, op_target };
        ops[pick(w, G_N_ELEMENTS(ops))](w);
        w->fail_at = 0;
        compare(w);
    }
    print_message("# %" PRIu64 " changes, %" PRIu64 " refused by the rules, %" PRIu64
                  " by a mapper\n",
                  w->n_changes, w->n_refusals, w->n_injected);
    assert_true(w->n_changes > N_OPS / 3 && w->n_refusals > N_OPS / 100 &&
                w->n_injected > N_OPS / 100);
    tear_down(w);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_operations) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
