/* The walker of guest rings: arithmetic that wraps, and drivers that lie. */
#include "fixture.h"

#include "devices/virtio/queue.h"

#define SIZE     8
#define FEATURES (UINT64_C(1) << PTA_VIRTIO_F_INDIRECT_DESC)
#define EVENTS   (FEATURES | UINT64_C(1) << PTA_VIRTIO_F_EVENT_IDX)
#define TABLE    (DRV_DATA + 0x8000) /* an indirect one */

typedef struct Ring {
    Fixture f;
    Driver d;
    PtaQueue q;
    const char *broke;
    int n_broke;
} Ring;

static void on_broke(void *opaque, PtaQueue *q, const char *why)
{
    Ring *r = opaque;
    assert_ptr_equal(q, &r->q);
    r->broke = why;
    r->n_broke++;
}

/* The driver's helpers on a queue that no device stands behind. */
static void ring_open(Ring *r, uint16_t size, uint64_t features, uint16_t start)
{
    const char *why = NULL;
    memset(r, 0, sizeof(*r));
    fix_new(&r->f);
    r->d = (Driver){
        .f = &r->f,
        .size = size,
        .desc = DRV_RINGS,
        .avail = DRV_RINGS + 16u * size,
        .used = DRV_RINGS + 0x10000,
        .avail_idx = start,
        .used_idx = start,
    };
    pta_queue_init(&r->q, 0, size, r->f.memory, on_broke, r);
    r->q.s.desc = r->d.desc;
    r->q.s.avail = r->d.avail;
    r->q.s.used = r->d.used;
    r->q.s.next_avail = start;
    r->q.s.next_used = start;
    r->q.s.ready = 1;
    drv_set_avail_idx(&r->d, start);
    assert_true(pta_queue_activate(&r->q, features, &why));
}

static void ring_close(Ring *r)
{
    pta_queue_clear(&r->q);
    fix_free(&r->f);
}

static void set_used_event(Ring *r, uint16_t event)
{
    pta_memory_store_u16(r->f.memory, r->d.avail + 4 + 2u * r->d.size, event);
}

static uint16_t get_avail_event(Ring *r)
{
    uint16_t event;
    pta_memory_load_u16(r->f.memory, r->d.used + 4 + 8u * r->d.size, &event);
    return event;
}

static void activation_checks_everything(void **unused)
{
    (void)unused;
    static const struct {
        PtaQueueState s;
        const char *why;
    } bad[] = {
        { { .size = 8, .ready = 0 }, "not ready" },
        { { .size = 0, .ready = 1 }, "size" },
        { { .size = 6, .ready = 1 }, "size" },
        { { .size = 16, .ready = 1 }, "size" },
        { { .size = 8, .ready = 1, .desc = DRV_RINGS + 8 }, "aligned" },
        { { .size = 8, .ready = 1, .avail = DRV_RINGS + 1 }, "aligned" },
        { { .size = 8, .ready = 1, .used = DRV_RINGS + 2 }, "aligned" },
        { { .size = 8, .ready = 1, .desc = FIX_RAM - 112 }, "outside RAM" },
        { { .size = 8, .ready = 1, .avail = FIX_RAM - 20 }, "outside RAM" },
        { { .size = 8, .ready = 1, .used = FIX_RAM - 68 }, "outside RAM" },
        { { .size = 8, .ready = 1, .used = UINT64_C(0xfffffffffffffffc) }, "outside RAM" },
        { { .size = 8, .ready = 1, .next_avail = 9 }, "further ahead" },
    };
    Ring r;
    ring_open(&r, SIZE, FEATURES, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        const char *why = NULL;
        pta_queue_reset(&r.q);
        r.q.s = bad[i].s;
        r.q.s.max_size = SIZE;
        assert_false(pta_queue_activate(&r.q, FEATURES, &why));
        assert_non_null(strstr(why, bad[i].why));
        assert_null(pta_queue_pop(&r.q));
    }
    ring_close(&r);
}

static void chains_are_described(void **unused)
{
    (void)unused;
    Ring r;
    ring_open(&r, SIZE, FEATURES, 0);
    drv_desc(&r.d, 7, DRV_DATA, 10, D_NEXT, 0);
    drv_desc(&r.d, 0, DRV_DATA + 0x100, 20, D_NEXT, 3);
    drv_desc(&r.d, 3, DRV_DATA + 0x200, 30, D_NEXT | D_WRITE, 4);
    drv_desc(&r.d, 4, DRV_DATA + 0x300, 40, D_WRITE, 99);
    drv_offer(&r.d, 7);
    PtaChain *c = pta_queue_pop(&r.q);
    assert_non_null(c);
    assert_int_equal(c->head, 7);
    assert_int_equal(c->n_out, 2);
    assert_int_equal(c->n_in, 2);
    assert_int_equal(c->out_len, 30);
    assert_int_equal(c->in_len, 70);
    assert_int_equal(c->iov[3].iov_len, 40);
    assert_int_equal(c->gpa[2], DRV_DATA + 0x200);
    assert_null(pta_queue_pop(&r.q));
    /* What was written is marked: 30 bytes of one buffer, 5 of the next, the ring. */
    r.f.n_dirty = 0;
    pta_queue_push(&r.q, c, 35);
    assert_int_equal(r.f.n_dirty, 4);
    uint32_t len;
    assert_int_equal(drv_wait(&r.d, &len), 7);
    assert_int_equal(len, 35);
    assert_int_equal(r.n_broke, 0);
    ring_close(&r);
}

static void indirect_tables(void **unused)
{
    (void)unused;
    Ring r;
    ring_open(&r, SIZE, FEATURES, 0);
    /* A table at an odd address, of more entries than the queue has, after a plain descriptor. */
    uint64_t table = TABLE + 3;
    for (uint16_t i = 0; i < 20; i++) {
        drv_desc_at(&r.d, table, i, DRV_DATA + i, 1,
                    i < 19 ? D_NEXT | (i > 9 ? D_WRITE : 0) : D_WRITE, i + 1);
    }
    drv_desc(&r.d, 2, DRV_DATA + 0x1000, 5, D_NEXT, 1);
    drv_desc(&r.d, 1, table, 20 * 16, D_INDIRECT | D_WRITE, 0); /* WRITE is to be ignored */
    drv_offer(&r.d, 2);
    PtaChain *c = pta_queue_pop(&r.q);
    assert_non_null(c);
    assert_int_equal(c->out_len, 15);
    assert_int_equal(c->in_len, 10);
    pta_queue_push(&r.q, c, 0);
    ring_close(&r);
}

/* One lie each; the queue breaks, says so once, and is dead. */
static void lie(const char *why, uint64_t features, void (*tell)(Ring *r))
{
    Ring r;
    ring_open(&r, SIZE, features, 0);
    tell(&r);
    assert_null(pta_queue_pop(&r.q));
    assert_int_equal(r.n_broke, 1);
    if (!strstr(r.broke, why)) {
        fail_msg("expected \"%s\", got \"%s\"", why, r.broke);
    }
    assert_int_equal(r.q.in_use, 0);
    assert_null(pta_queue_pop(&r.q));
    assert_int_equal(r.n_broke, 1);
    assert_false(pta_queue_wants_interrupt(&r.q));
    ring_close(&r);
}

static void tell_avail(Ring *r)
{
    drv_set_avail_idx(&r->d, SIZE + 1);
}

static void tell_head(Ring *r)
{
    drv_offer(&r->d, SIZE);
}

static void tell_next(Ring *r)
{
    drv_desc(&r->d, 0, DRV_DATA, 1, D_NEXT, SIZE);
    drv_offer(&r->d, 0);
}

static void tell_loop(Ring *r)
{
    drv_desc(&r->d, 0, DRV_DATA, 1, D_NEXT, 1);
    drv_desc(&r->d, 1, DRV_DATA, 1, D_NEXT, 0);
    drv_offer(&r->d, 0);
}

static void tell_empty(Ring *r)
{
    drv_desc(&r->d, 0, DRV_DATA, 0, 0, 0);
    drv_offer(&r->d, 0);
}

static void tell_hole(Ring *r)
{
    drv_desc(&r->d, 0, FIX_RAM - 4, 5, 0, 0);
    drv_offer(&r->d, 0);
}

static void tell_wrap(Ring *r)
{
    drv_desc(&r->d, 0, UINT64_MAX - 4, 100, D_WRITE, 0);
    drv_offer(&r->d, 0);
}

static void tell_order(Ring *r)
{
    drv_desc(&r->d, 0, DRV_DATA, 1, D_WRITE | D_NEXT, 1);
    drv_desc(&r->d, 1, DRV_DATA, 1, 0, 0);
    drv_offer(&r->d, 0);
}

static void tell_indirect(Ring *r, uint32_t len, uint16_t flags)
{
    drv_desc(&r->d, 0, TABLE, len, D_INDIRECT | flags, 1);
    drv_offer(&r->d, 0);
}

static void tell_indirect_plain(Ring *r)
{
    drv_desc_at(&r->d, TABLE, 0, DRV_DATA, 1, 0, 0);
    tell_indirect(r, 16, 0);
}

static void tell_indirect_next(Ring *r)
{
    tell_indirect(r, 16, D_NEXT);
}

static void tell_indirect_size(Ring *r)
{
    tell_indirect(r, 24, 0);
}

static void tell_indirect_nothing(Ring *r)
{
    tell_indirect(r, 0, 0);
}

static void tell_indirect_nested(Ring *r)
{
    drv_desc_at(&r->d, TABLE, 0, TABLE, 16, D_INDIRECT, 0);
    tell_indirect(r, 16, 0);
}

static void tell_indirect_leaves(Ring *r)
{
    drv_desc_at(&r->d, TABLE, 0, DRV_DATA, 1, D_NEXT, 1);
    tell_indirect(r, 16, 0);
}

static void tell_indirect_loop(Ring *r)
{
    drv_desc_at(&r->d, TABLE, 0, DRV_DATA, 1, D_NEXT, 0);
    tell_indirect(r, 16, 0);
}

static void tell_indirect_hole(Ring *r)
{
    drv_desc(&r->d, 0, FIX_RAM - 8, 16, D_INDIRECT, 0);
    drv_offer(&r->d, 0);
}

static void tell_too_much(Ring *r)
{
    for (uint16_t i = 0; i < 1024; i++) {
        drv_desc_at(&r->d, TABLE, i, 0, (uint32_t)FIX_RAM, i < 1023 ? D_NEXT : 0, i + 1);
    }
    tell_indirect(r, 1024 * 16, 0);
}

static void lies_break_the_queue(void **unused)
{
    (void)unused;
    lie("further ahead", FEATURES, tell_avail);
    lie("outside the table", FEATURES, tell_head);
    lie("outside the table", FEATURES, tell_next);
    lie("loop", FEATURES, tell_loop);
    lie("no bytes", FEATURES, tell_empty);
    lie("outside RAM", FEATURES, tell_hole);
    lie("outside RAM", FEATURES, tell_wrap);
    lie("after a writable", FEATURES, tell_order);
    lie("not negotiated", 0, tell_indirect_plain);
    lie("successor", FEATURES, tell_indirect_next);
    lie("size that cannot be", FEATURES, tell_indirect_size);
    lie("size that cannot be", FEATURES, tell_indirect_nothing);
    lie("indirect table", FEATURES, tell_indirect_nested);
    lie("leaves its table", FEATURES, tell_indirect_leaves);
    lie("loop", FEATURES, tell_indirect_loop);
    lie("outside RAM", FEATURES, tell_indirect_hole);
    lie("four gigabytes", FEATURES, tell_too_much);
}

/* The same head over and over, without an answer: no more are taken than there are entries. */
static void requests_are_bounded(void **unused)
{
    (void)unused;
    Ring r;
    ring_open(&r, SIZE, FEATURES, 0);
    drv_desc(&r.d, 0, DRV_DATA, 1, 0, 0);
    PtaChain *held[SIZE];
    for (int i = 0; i < SIZE; i++) {
        drv_offer(&r.d, 0);
        held[i] = pta_queue_pop(&r.q);
        assert_non_null(held[i]);
    }
    drv_offer(&r.d, 0);
    assert_null(pta_queue_pop(&r.q));
    assert_int_equal(r.n_broke, 1);
    for (int i = 0; i < SIZE; i++) {
        pta_queue_push(&r.q, held[i], 0);
    }
    assert_int_equal(drv_used_idx(&r.d), 0); /* a broken queue writes nothing */
    ring_close(&r);
}

/* Every phase of the free-running indices, rings of 1 to 8, all fill levels; used in reverse. */
static void indices_wrap(void **unused)
{
    (void)unused;
    static const uint16_t starts[] = { 0, 1, 0x7ffd, 0xfff0, 0xfffd, 0xfffe, 0xffff };
    for (uint16_t size = 1; size <= 8; size *= 2) {
        for (size_t s = 0; s < G_N_ELEMENTS(starts); s++) {
            Ring r;
            ring_open(&r, size, FEATURES, starts[s]);
            for (uint16_t i = 0; i < size; i++) {
                drv_desc(&r.d, i, DRV_DATA + 8u * i, 8, D_WRITE, 0);
            }
            for (int step = 0; step < 40; step++) {
                uint16_t n = (uint16_t)(1 + step % size);
                PtaChain *held[8];
                for (uint16_t i = 0; i < n; i++) {
                    drv_offer(&r.d, (uint16_t)((step + i) % size));
                }
                for (uint16_t i = 0; i < n; i++) {
                    held[i] = pta_queue_pop(&r.q);
                    assert_non_null(held[i]);
                    assert_int_equal(held[i]->head, (step + i) % size);
                }
                assert_null(pta_queue_pop(&r.q));
                for (uint16_t i = n; i-- > 0;) {
                    pta_queue_push(&r.q, held[i], i);
                }
                for (uint16_t i = n; i-- > 0;) {
                    uint32_t len;
                    assert_int_equal(drv_wait(&r.d, &len), (step + i) % size);
                    assert_int_equal(len, i);
                }
            }
            assert_int_equal(r.n_broke, 0);
            ring_close(&r);
        }
    }
}

/* 2.7.7.2 in words: an interrupt if the entry that the driver waits for is among the new ones. */
static void used_event_in_every_position(void **unused)
{
    (void)unused;
    static const uint16_t starts[] = { 0, 3, 0x7ffc, 0x8000, 0xfffa, 0xffff };
    Ring r;
    ring_open(&r, SIZE, EVENTS, 0);
    drv_desc(&r.d, 0, DRV_DATA, 1, D_WRITE, 0);
    for (size_t s = 0; s < G_N_ELEMENTS(starts); s++) {
        for (uint16_t n = 0; n <= SIZE; n++) {
            for (int distance = -12; distance <= 12; distance++) {
                uint16_t start = starts[s];
                uint16_t event = (uint16_t)(start + distance);
                r.q.s.next_avail = start;
                r.q.s.next_used = start;
                r.q.s.signalled_used = start;
                r.q.s.signalled_valid = 1;
                drv_set_avail_idx(&r.d, start);
                set_used_event(&r, event);
                for (uint16_t i = 0; i < n; i++) {
                    drv_offer(&r.d, 0);
                    pta_queue_push(&r.q, pta_queue_pop(&r.q), 0);
                }
                bool want = distance >= 0 && distance < n;
                assert_int_equal(pta_queue_wants_interrupt(&r.q), want);
                assert_false(pta_queue_wants_interrupt(&r.q)); /* once */
            }
        }
    }
    ring_close(&r);
}

static void interrupt_without_event_idx(void **unused)
{
    (void)unused;
    Ring r;
    ring_open(&r, SIZE, FEATURES, 0);
    drv_desc(&r.d, 0, DRV_DATA, 1, D_WRITE, 0);
    for (uint16_t flags = 0; flags < 2; flags++) {
        pta_memory_store_u16(r.f.memory, r.d.avail, flags);
        drv_offer(&r.d, 0);
        pta_queue_push(&r.q, pta_queue_pop(&r.q), 0);
        assert_int_equal(pta_queue_wants_interrupt(&r.q), flags == 0);
    }
    ring_close(&r);
}

static void notifications(void **unused)
{
    (void)unused;
    for (int events = 0; events < 2; events++) {
        Ring r;
        uint16_t flags;
        ring_open(&r, SIZE, events ? EVENTS : FEATURES, 0xffff);
        drv_desc(&r.d, 0, DRV_DATA, 1, D_WRITE, 0);
        pta_queue_disable_notify(&r.q);
        pta_memory_load_u16(r.f.memory, r.d.used, &flags);
        assert_int_equal(flags, events ? 0 : 1);
        assert_false(pta_queue_enable_notify(&r.q));
        pta_memory_load_u16(r.f.memory, r.d.used, &flags);
        assert_int_equal(flags, 0);
        if (events) {
            assert_int_equal(get_avail_event(&r), 0xffff);
        }
        drv_offer(&r.d, 0);
        assert_true(pta_queue_enable_notify(&r.q)); /* it came in between */
        PtaChain *c = pta_queue_pop(&r.q);
        pta_queue_unpop(&r.q, c);
        c = pta_queue_pop(&r.q);
        assert_non_null(c);
        pta_queue_push(&r.q, c, 1);
        assert_false(pta_queue_enable_notify(&r.q));
        ring_close(&r);
    }
}

/* Random rings: whatever is in memory, pop ends, and what it gives lies in RAM. */
static void random_rings(void **unused)
{
    (void)unused;
    GRand *rand = g_rand_new_with_seed(7);
    Ring r;
    ring_open(&r, SIZE, EVENTS, 0);
    const char *ram = pta_memory_range_host(r.f.memory, 0);
    unsigned n_popped = 0;
    for (int round = 0; round < 20000; round++) {
        const char *why;
        pta_queue_reset(&r.q);
        r.q.s.desc = r.d.desc;
        r.q.s.avail = r.d.avail;
        r.q.s.used = r.d.used;
        r.q.s.ready = 1;
        r.d.avail_idx = 0;
        drv_set_avail_idx(&r.d, 0);
        assert_true(pta_queue_activate(&r.q, EVENTS, &why));
        for (uint16_t i = 0; i < SIZE; i++) {
            uint64_t addr = DRV_DATA + 16u * (g_rand_int(rand) % 32);
            if (g_rand_int(rand) % 16 == 0) {
                addr = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
            }
            uint16_t flags =
                (uint16_t)(g_rand_int(rand) % 16 ? g_rand_int(rand) % 4 : g_rand_int(rand));
            drv_desc(&r.d, i, addr, 16 * (g_rand_int(rand) % 20), flags,
                     (uint16_t)(g_rand_int(rand) % (SIZE + 1)));
            drv_desc_at(&r.d, DRV_DATA, i, addr, g_rand_int(rand) % 100, flags,
                        (uint16_t)(g_rand_int(rand) % SIZE));
            drv_offer(&r.d, (uint16_t)(g_rand_int(rand) % (SIZE + 1)));
        }
        PtaChain *c;
        while ((c = pta_queue_pop(&r.q)) != NULL) {
            n_popped++;
            for (unsigned i = 0; i < c->n_out + c->n_in; i++) {
                const char *base = c->iov[i].iov_base;
                assert_true(base >= ram && c->iov[i].iov_len <= (size_t)(ram + FIX_RAM - base));
            }
            pta_queue_push(&r.q, c, (uint32_t)c->in_len);
        }
        assert_int_equal(r.q.in_use, 0);
    }
    assert_true(n_popped > 1000);
    g_rand_free(rand);
    ring_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activation_checks_everything),
        cmocka_unit_test(chains_are_described),
        cmocka_unit_test(indirect_tables),
        cmocka_unit_test(lies_break_the_queue),
        cmocka_unit_test(requests_are_bounded),
        cmocka_unit_test(indices_wrap),
        cmocka_unit_test(used_event_in_every_position),
        cmocka_unit_test(interrupt_without_event_idx),
        cmocka_unit_test(notifications),
        cmocka_unit_test(random_rings),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
