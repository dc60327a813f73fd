/* The dirty log: what is reported to whom, in which pieces; and with threads, that nothing is lost. */
#include "config.h"

#include "src/memory/memory.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#define N_PAGES 2048u /* 8 MiB */

static const PtaDirtySpan spans[] = {
    { 0, 0x3000 },                      /* shares its granule with the next one */
    { 0x100000, 0x500000 },             /* to the middle of the third granule */
    { UINT64_C(0x100000000), 0x200000 } /* above 4 GiB */
};

typedef struct Seen {
    GArray *pages; /* of uint64_t */
    uint64_t last_granule;
    unsigned granules;
} Seen;

static void see(void *opaque, uint64_t gpa, const uint64_t bits[PTA_DIRTY_WORDS])
{
    Seen *s = opaque;
    assert_int_equal(gpa % PTA_DIRTY_GRANULE, 0);
    assert_true(s->granules == 0 || gpa > s->last_granule);
    s->last_granule = gpa;
    s->granules++;
    for (unsigned i = 0; i < PTA_DIRTY_WORDS * 64; i++) {
        if (bits[i / 64] >> (i % 64) & 1) {
            uint64_t page = gpa + i * PTA_PAGE_SIZE;
            g_array_append_val(s->pages, page);
        }
    }
}

/* Takes [gpa, gpa + size) and compares; the list ends with 1. */
static void expect(PtaDirtyClient *c, uint64_t gpa, uint64_t size, const uint64_t *pages)
{
    Seen s = { .pages = g_array_new(FALSE, FALSE, sizeof(uint64_t)) };
    uint64_t n = pta_dirty_client_take(c, gpa, size, see, &s);
    assert_int_equal(n, s.pages->len);
    for (guint i = 0; i < s.pages->len; i++) {
        assert_int_equal(g_array_index(s.pages, uint64_t, i), pages[i]);
    }
    assert_int_equal(pages[s.pages->len], 1);
    g_array_free(s.pages, TRUE);
}
#define EXPECT(c, gpa, size, ...) expect(c, gpa, size, (const uint64_t[]){ __VA_ARGS__ })
#define ALL                       0, UINT64_MAX &PTA_PAGE_MASK
#define EXPECT_ALL(c, ...)        EXPECT(c, 0, UINT64_MAX &PTA_PAGE_MASK, __VA_ARGS__)
#define NOTHING                   1

static PtaDirtyClient *client(PtaDirtyLog *log, const char *name)
{
    g_autoptr(GError) error = NULL;
    PtaDirtyClient *c = pta_dirty_client_new(log, name, &error);
    assert_null(error);
    assert_non_null(c);
    return c;
}

static void exactly_what_was_written(void **unused)
{
    g_autoptr(PtaDirtyLog) log = pta_dirty_log_new(spans, 3);
    pta_dirty_log_mark(log, 0x1000, 1); /* nobody cares yet */
    PtaDirtyClient *c = client(log, "a");
    EXPECT_ALL(c, NOTHING);
    pta_dirty_log_mark(log, 0x1fff, 1);
    EXPECT_ALL(c, 0x1000, 1);
    EXPECT_ALL(c, NOTHING);
    pta_dirty_log_mark(log, 0x1fff, 2);
    EXPECT_ALL(c, 0x1000, 0x2000, 1);
    pta_dirty_log_mark(log, 0x2000, 0);
    EXPECT_ALL(c, NOTHING);
    /* Over the ends of a word and of a granule. */
    pta_dirty_log_mark(log, 0x13ffff, 2);
    pta_dirty_log_mark(log, 0x1fffff, 2);
    EXPECT_ALL(c, 0x13f000, 0x140000, 0x1ff000, 0x200000, 1);
    pta_dirty_log_mark(log, UINT64_C(0x1001ff000), 0x1000);
    EXPECT_ALL(c, UINT64_C(0x1001ff000), 1);
    /* Where no RAM is; and the end of the address space. */
    pta_dirty_log_mark(log, UINT64_C(0x200000000), 0x10000);
    pta_dirty_log_mark(log, UINT64_MAX, 1);
    pta_dirty_log_mark(log, UINT64_MAX - 1, 5);
    pta_dirty_log_sink(log, UINT64_C(0x200000000), UINT64_MAX);
    EXPECT_ALL(c, NOTHING);
    pta_dirty_log_mark(log, 0x100000, 0x500000);
    assert_int_equal(pta_dirty_client_count(c), 0x500);
    assert_int_equal(pta_dirty_client_take(c, ALL, NULL, NULL), 0x500);
    assert_int_equal(pta_dirty_client_count(c), 0);
    pta_dirty_client_free(c);
}

static void a_part_is_taken(void **unused)
{
    g_autoptr(PtaDirtyLog) log = pta_dirty_log_new(spans, 3);
    PtaDirtyClient *c = client(log, "a");
    pta_dirty_log_mark(log, 0x13e000, 0x4000);
    EXPECT(c, 0x13f000, 0x1000, 0x13f000, 1);
    EXPECT(c, 0x13f000, 0x1000, NOTHING);
    EXPECT(c, 0x100000, 0x3e000, NOTHING);
    EXPECT(c, 0x100000, 0x3f000, 0x13e000, 1);
    EXPECT(c, 0x141000, 0x500000, 0x141000, 1);
    EXPECT_ALL(c, 0x140000, 1);
    EXPECT(c, 0x140000, 0, NOTHING);
    /* What is given back is dirty again. */
    uint64_t bits[PTA_DIRTY_WORDS] = { [7] = UINT64_C(1) << 63 };
    pta_dirty_client_give_back(c, 0x200000, bits);
    EXPECT_ALL(c, 0x3ff000, 1);
    pta_dirty_client_free(c);
}

static void clients_do_not_disturb_one_another(void **unused)
{
    g_autoptr(PtaDirtyLog) log = pta_dirty_log_new(spans, 3);
    PtaDirtyClient *a = client(log, "a");
    pta_dirty_log_mark(log, 0x1000, 1);
    PtaDirtyClient *b = client(log, "b");
    pta_dirty_log_mark(log, 0x2000, 1);
    EXPECT_ALL(b, 0x2000, 1);
    EXPECT_ALL(a, 0x1000, 0x2000, 1);
    PtaDirtyInfo info;
    assert_true(pta_dirty_log_info(log, 0, &info));
    assert_string_equal(info.name, "a");
    assert_int_equal(info.takes, 1);
    assert_int_equal(info.taken, 2);
    assert_true(pta_dirty_log_info(log, 1, &info));
    assert_int_equal(info.taken, 1);
    assert_false(pta_dirty_log_info(log, 2, &info));
    assert_false(pta_dirty_log_info(log, 1000, &info));
    /* A place that is taken again begins clean. */
    pta_dirty_log_mark(log, 0x0, 1);
    pta_dirty_client_free(a);
    a = client(log, "again");
    EXPECT_ALL(a, NOTHING);
    EXPECT_ALL(b, 0, 1);
    PtaDirtyClient *more[PTA_DIRTY_MAX_CLIENTS - 2];
    for (unsigned i = 0; i < G_N_ELEMENTS(more); i++) {
        more[i] = client(log, "more");
    }
    g_autoptr(GError) error = NULL;
    assert_null(pta_dirty_client_new(log, "one too many", &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_STATE));
    for (unsigned i = 0; i < G_N_ELEMENTS(more); i++) {
        pta_dirty_client_free(more[i]);
    }
    pta_dirty_client_free(a);
    pta_dirty_client_free(b);
}

/* ---- sources ---- */

typedef struct Source {
    PtaDirtyLog *log;
    bool refuses;
    int on;
    uint64_t gpa, bits; /* what it has */
} Source;

static bool source_start(void *opaque, GError **error)
{
    Source *s = opaque;
    if (s->refuses) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED, "no");
    }
    assert_int_equal(s->on++, 0);
    s->bits = 0;
    return true;
}

static void source_stop(void *opaque)
{
    Source *s = opaque;
    assert_int_equal(s->on--, 1);
}

static void source_fetch(void *opaque, uint64_t gpa, uint64_t size)
{
    Source *s = opaque;
    assert_int_equal(s->on, 1);
    if (s->bits && gpa <= s->gpa + 64 * PTA_PAGE_SIZE - 1 && gpa + (size - 1) >= s->gpa) {
        pta_dirty_log_sink(s->log, s->gpa, s->bits);
        s->bits = 0;
    }
}

static const PtaDirtySource source_ops = { source_start, source_stop, source_fetch };

static void sources_are_fetched_for_all(void **unused)
{
    g_autoptr(PtaDirtyLog) log = pta_dirty_log_new(spans, 3);
    Source s = { .log = log }, second = { .log = log };
    assert_true(pta_dirty_log_add_source(log, &source_ops, &s, NULL));
    assert_int_equal(s.on, 0);
    PtaDirtyClient *a = client(log, "a");
    assert_int_equal(s.on, 1);
    s.gpa = 0x200000, s.bits = 5;
    PtaDirtyClient *b = client(log, "b"); /* what was written before is a's alone */
    EXPECT_ALL(b, NOTHING);
    s.gpa = 0x240000, s.bits = 2;
    EXPECT_ALL(b, 0x241000, 1);
    EXPECT_ALL(a, 0x200000, 0x202000, 0x241000, 1);
    s.bits = 2;
    EXPECT(a, 0, 0x200000, NOTHING); /* elsewhere */
    assert_int_equal(pta_dirty_client_count(a), 1);
    /* One that comes while there are clients starts; one that leaves gives what it has. */
    assert_true(pta_dirty_log_add_source(log, &source_ops, &second, NULL));
    assert_int_equal(second.on, 1);
    second.gpa = 0x280000, second.bits = 1;
    pta_dirty_log_remove_source(log, &second);
    assert_int_equal(second.on, 0);
    EXPECT_ALL(a, 0x241000, 0x280000, 1);
    pta_dirty_client_free(a);
    assert_int_equal(s.on, 1);
    pta_dirty_client_free(b);
    assert_int_equal(s.on, 0);
    pta_dirty_log_remove_source(log, &s);
    pta_dirty_log_remove_source(log, &s); /* not there: nothing */
}

static void a_source_may_refuse(void **unused)
{
    g_autoptr(PtaDirtyLog) log = pta_dirty_log_new(spans, 3);
    Source good = { .log = log }, bad = { .log = log, .refuses = true };
    assert_true(pta_dirty_log_add_source(log, &source_ops, &good, NULL));
    assert_true(pta_dirty_log_add_source(log, &source_ops, &bad, NULL));
    g_autoptr(GError) error = NULL;
    assert_null(pta_dirty_client_new(log, "a", &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_UNSUPPORTED));
    assert_int_equal(good.on, 0);
    PtaDirtyInfo info;
    assert_false(pta_dirty_log_info(log, 0, &info));
    pta_dirty_log_remove_source(log, &bad);
    PtaDirtyClient *c = client(log, "a");
    assert_false(pta_dirty_log_add_source(log, &source_ops, &bad, NULL));
    pta_dirty_client_free(c);
    pta_dirty_log_remove_source(log, &good);
}

/* ---- the functions that write ---- */

static void every_host_write_is_marked(void **unused)
{
    static const PtaRamRange ranges[] = { { 0, 0x100000 }, { 0x100000, 0x100000 } };
    g_autoptr(PtaMemory) mem = pta_memory_new(ranges, 2, NULL);
    PtaDirtyClient *c = client(pta_memory_dirty_log(mem), "a");
    uint8_t buf[0x2000] = { 1 };
    assert_int_equal(pta_memory_write(mem, 0x1ffe, buf, 0x1004), PTA_MEM_OK);
    EXPECT_ALL(c, 0x1000, 0x2000, 0x3000, 1);
    assert_int_equal(pta_memory_fill(mem, 0xfffff, 1, 2), PTA_MEM_OK);
    EXPECT_ALL(c, 0xff000, 0x100000, 1);
    assert_int_equal(pta_memory_store_u16(mem, 0x5000, 1), PTA_MEM_OK);
    assert_int_equal(pta_memory_store_u32(mem, 0x6000, 1), PTA_MEM_OK);
    assert_int_equal(pta_memory_store_u64(mem, 0x7000, 1), PTA_MEM_OK);
    EXPECT_ALL(c, 0x5000, 0x6000, 0x7000, 1);
    /* What fails, and what reads, marks nothing. */
    uint64_t value;
    assert_int_equal(pta_memory_write(mem, 0x1ffffe, buf, 4), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_read(mem, 0, buf, 4), PTA_MEM_OK);
    assert_int_equal(pta_memory_load_u64(mem, 0, &value), PTA_MEM_OK);
    assert_int_equal(pta_memory_store_u64(mem, 1, 1), PTA_MEM_ALIGN);
    EXPECT_ALL(c, NOTHING);
    pta_dirty_client_free(c);
}

/* ---- threads ---- */

#define N_WRITERS 3

typedef struct Race {
    PtaDirtyLog *log;
    uint64_t *words; /* ATOMIC: one in each page, as RAM; only grows */
    int end;         /* ATOMIC */
    int started;     /* ATOMIC */
} Race;

static void *write_pages(void *data)
{
    Race *r = data;
    uint32_t seed = 12345 + (uint32_t)g_atomic_int_add(&r->started, 1);
    while (!g_atomic_int_get(&r->end)) {
        seed = seed * 1664525 + 1013904223;
        unsigned page = (seed >> 8) % N_PAGES;
        __atomic_fetch_add(&r->words[page], 1, __ATOMIC_RELAXED);
        pta_dirty_log_mark(r->log, page * PTA_PAGE_SIZE, 8);
    }
    return NULL;
}

typedef struct Copy {
    Race *race;
    uint64_t pages[N_PAGES];
} Copy;

static void copy_granule(void *opaque, uint64_t gpa, const uint64_t bits[PTA_DIRTY_WORDS])
{
    Copy *copy = opaque;
    for (unsigned i = 0; i < PTA_DIRTY_WORDS * 64; i++) {
        if (bits[i / 64] >> (i % 64) & 1) {
            uint64_t page = gpa / PTA_PAGE_SIZE + i;
            copy->pages[page] = __atomic_load_n(&copy->race->words[page], __ATOMIC_RELAXED);
        }
    }
}

/* A migration: a copy of all, then of what was written meanwhile, again and again; at last with the
 * writers at rest. Then the copy has to be whole. */
static void *copy_pages(void *data)
{
    Race *r = data;
    Copy *copy = g_new0(Copy, 1);
    copy->race = r;
    for (unsigned round = 0; round < 20; round++) {
        PtaDirtyClient *c = client(r->log, "copy");
        for (unsigned i = 0; i < N_PAGES; i++) {
            copy->pages[i] = __atomic_load_n(&r->words[i], __ATOMIC_RELAXED);
        }
        for (unsigned i = 0; i < 10; i++) {
            for (uint64_t at = 0; at < N_PAGES * PTA_PAGE_SIZE; at += PTA_DIRTY_GRANULE) {
                pta_dirty_client_take(c, at, PTA_DIRTY_GRANULE, copy_granule, copy);
            }
            g_usleep(100);
        }
        if (round + 1 < 20) {
            pta_dirty_client_free(c);
            continue;
        }
        g_atomic_int_add(&r->started, 1); /* says: at rest, please */
        while (g_atomic_int_get(&r->end) < 2) {
            g_usleep(100);
        }
        pta_dirty_client_take(c, ALL, copy_granule, copy);
        pta_dirty_client_free(c);
    }
    return copy;
}

static void nothing_is_lost(void **unused)
{
    const PtaDirtySpan ram = { 0, N_PAGES * PTA_PAGE_SIZE };
    Race r = { .log = pta_dirty_log_new(&ram, 1), .words = g_new0(uint64_t, N_PAGES) };
    GThread *writers[N_WRITERS], *copiers[2];
    for (unsigned i = 0; i < N_WRITERS; i++) {
        writers[i] = g_thread_new("writer", write_pages, &r);
    }
    for (unsigned i = 0; i < 2; i++) {
        copiers[i] = g_thread_new("copier", copy_pages, &r);
    }
    while (g_atomic_int_get(&r.started) < N_WRITERS + 2) {
        g_usleep(1000);
    }
    g_atomic_int_set(&r.end, 1);
    for (unsigned i = 0; i < N_WRITERS; i++) {
        g_thread_join(writers[i]);
    }
    g_atomic_int_set(&r.end, 2);
    for (unsigned i = 0; i < 2; i++) {
        g_autofree Copy *copy = g_thread_join(copiers[i]);
        for (unsigned page = 0; page < N_PAGES; page++) {
            assert_int_equal(copy->pages[page], r.words[page]);
        }
    }
    g_free(r.words);
    pta_dirty_log_free(r.log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_what_was_written),
        cmocka_unit_test(a_part_is_taken),
        cmocka_unit_test(clients_do_not_disturb_one_another),
        cmocka_unit_test(sources_are_fetched_for_all),
        cmocka_unit_test(a_source_may_refuse),
        cmocka_unit_test(every_host_write_is_marked),
        cmocka_unit_test(nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
