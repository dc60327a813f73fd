/* The watchdog: its countdown in a clock that the test moves, and registers that take anything. */
#include "fixture.h"

#include "devices/devices.h"
#include "devices/watchdog.h"
#include "qmp/gen/types.h"

#define PERIOD (PTA_WATCHDOG_PERIOD_MS * UINT64_C(1000000))

typedef struct Wd {
    Fixture f;
    PtaDevice *dev;
    uint64_t base;
} Wd;

static PtaDevice *wd_new(Fixture *f, const char *id, GError **error)
{
    WatchdogConfig cfg = { 0 };
    return pta_device_new(&pta_watchdog_class, id, &f->host, &cfg, error);
}

static void wd_open(Wd *w)
{
    memset(w, 0, sizeof(*w));
    fix_new(&w->f);
    w->f.clock_ns = 12345;
    w->dev = wd_new(&w->f, "wd", NULL);
    assert_non_null(w->dev);
    const PtaPlacedDevice *p = pta_mmio_manager_find(w->f.manager, PTA_PLACED_WATCHDOG, NULL);
    assert_true(!p->pio && p->irq < 0);
    assert_int_equal(p->size, PTA_WATCHDOG_SIZE);
    w->base = p->base;
    pta_device_start(w->dev);
}

static void wd_close(Wd *w)
{
    pta_device_free(w->dev);
    fix_free(&w->f);
}

static uint32_t rd(Wd *w, uint64_t reg)
{
    return fix_r32(&w->f, w->base + reg);
}

static void wr(Wd *w, uint64_t reg, uint32_t value)
{
    fix_w32(&w->f, w->base + reg, value);
}

static void pass(Wd *w, uint64_t ns)
{
    __atomic_fetch_add(&w->f.clock_ns, ns, __ATOMIC_RELAXED);
}

static void start_with(Wd *w, uint32_t count)
{
    wr(w, PTA_WATCHDOG_COUNT, count);
    wr(w, PTA_WATCHDOG_CONTROL, 1);
}

static void after_power_on(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    assert_int_equal(rd(&w, PTA_WATCHDOG_RELOAD), 0);
    assert_int_equal(rd(&w, PTA_WATCHDOG_COUNT), PTA_WATCHDOG_COUNT_DEFAULT);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), PTA_WATCHDOG_COUNT_DEFAULT);
    assert_int_equal(rd(&w, PTA_WATCHDOG_CONTROL), 0);
    assert_int_equal(rd(&w, PTA_WATCHDOG_EXPIRY), PTA_WATCHDOG_REBOOT);
    assert_int_equal(rd(&w, PTA_WATCHDOG_STATUS), 0);
    /* It does not run by itself. */
    pass(&w, 10 * PTA_WATCHDOG_COUNT_DEFAULT * PERIOD);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), PTA_WATCHDOG_COUNT_DEFAULT);
    fix_run(&w.f);
    assert_int_equal(w.f.n_power, 0);
    wd_close(&w);
}

static void it_counts_down_and_is_reloaded(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    start_with(&w, 10);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 10);
    pass(&w, 1);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 10); /* rounded up */
    pass(&w, 3 * PERIOD - 1);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 7);
    wr(&w, PTA_WATCHDOG_CONTROL, 1); /* it runs already */
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 7);
    wr(&w, PTA_WATCHDOG_LEFT, 1);
    wr(&w, PTA_WATCHDOG_RELOAD, 2);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 7);
    wr(&w, PTA_WATCHDOG_RELOAD, 1);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 10);
    /* A new count comes with the next reload. */
    wr(&w, PTA_WATCHDOG_COUNT, 20);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 10);
    wr(&w, PTA_WATCHDOG_RELOAD, 1);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 20);
    /* Whoever reloads in time lives for ever. */
    for (unsigned i = 0; i < 100; i++) {
        pass(&w, 20 * PERIOD - 1);
        wr(&w, PTA_WATCHDOG_RELOAD, 1);
    }
    assert_int_equal(w.f.n_power, 0);
    assert_int_equal(rd(&w, PTA_WATCHDOG_STATUS), 0);
    wd_close(&w);
}

static void stopped_it_stands_still(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    start_with(&w, 10);
    pass(&w, 4 * PERIOD);
    wr(&w, PTA_WATCHDOG_CONTROL, 0);
    assert_int_equal(rd(&w, PTA_WATCHDOG_CONTROL), 0);
    pass(&w, 100 * PERIOD);
    fix_run(&w.f);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 6);
    assert_int_equal(w.f.n_power, 0);
    wr(&w, PTA_WATCHDOG_CONTROL, 1); /* from the full count */
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 10);
    wd_close(&w);
}

/* By the host's timer: nobody touches a register. */
static void it_expires(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    start_with(&w, 1);
    pass(&w, PERIOD - 1);
    /* The host's timer comes before the partition's time: VPs stood still for a while. */
    for (int64_t end = g_get_monotonic_time() + 300000; g_get_monotonic_time() < end;) {
        fix_run(&w.f);
        g_usleep(1000);
    }
    assert_int_equal(w.f.n_power, 0);
    pass(&w, 1);
    fix_run_until(&w.f, &w.f.n_power, 1);
    assert_int_equal(w.f.power_what, PTA_POWER_WATCHDOG);
    assert_int_equal(w.f.power_code, PTA_WATCHDOG_REBOOT);
    assert_int_equal(rd(&w, PTA_WATCHDOG_STATUS), 1);
    /* It goes on from the full count, and says so again. */
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 1);
    pass(&w, 3 * PERIOD);
    fix_run_until(&w.f, &w.f.n_power, 2);
    assert_int_equal(w.f.n_power, 2);
    /* The status is cleared by a 1 in its bit. */
    wr(&w, PTA_WATCHDOG_STATUS, 0xfffffffe);
    assert_int_equal(rd(&w, PTA_WATCHDOG_STATUS), 1);
    wr(&w, PTA_WATCHDOG_STATUS, 1);
    assert_int_equal(rd(&w, PTA_WATCHDOG_STATUS), 0);
    wd_close(&w);
}

/* The end in the partition's time counts, though the host's timer is late. */
static void a_reload_that_is_late_does_not_help(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    wr(&w, PTA_WATCHDOG_EXPIRY, PTA_WATCHDOG_SHUTDOWN);
    assert_int_equal(rd(&w, PTA_WATCHDOG_EXPIRY), PTA_WATCHDOG_SHUTDOWN);
    start_with(&w, 5);
    pass(&w, 5 * PERIOD);
    wr(&w, PTA_WATCHDOG_RELOAD, 1);
    assert_int_equal(w.f.n_power, 1);
    assert_int_equal(w.f.power_what, PTA_POWER_WATCHDOG);
    assert_int_equal(w.f.power_code, PTA_WATCHDOG_SHUTDOWN);
    wr(&w, PTA_WATCHDOG_EXPIRY, PTA_WATCHDOG_REBOOT);
    pass(&w, 5 * PERIOD);
    wr(&w, PTA_WATCHDOG_CONTROL, 0);
    assert_int_equal(w.f.n_power, 2);
    assert_int_equal(w.f.power_code, PTA_WATCHDOG_REBOOT);
    wd_close(&w);
}

static void a_stopped_machine_has_no_time(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    start_with(&w, 2);
    pass(&w, PERIOD);
    pta_device_quiesce(w.dev);
    /* Even if the clock went on, and the host's timer would have been due. */
    pass(&w, 1000 * PERIOD);
    for (int64_t end = g_get_monotonic_time() + 300000; g_get_monotonic_time() < end;) {
        fix_run(&w.f);
        g_usleep(1000);
    }
    assert_int_equal(w.f.n_power, 0);
    pta_device_start(w.dev);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 1);
    assert_int_equal(w.f.n_power, 0);
    w.f.clock_ns = 0; /* as a reset of the partition sets it */
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 1);
    pass(&w, PERIOD);
    fix_run_until(&w.f, &w.f.n_power, 1);
    /* What ended just before a stop is said after it. */
    pass(&w, 2 * PERIOD);
    pta_device_quiesce(w.dev);
    fix_run(&w.f);
    assert_int_equal(w.f.n_power, 1);
    pta_device_start(w.dev);
    fix_run_until(&w.f, &w.f.n_power, 2);
    wd_close(&w);
}

static void a_reset_forgets_all_but_the_status(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    wr(&w, PTA_WATCHDOG_EXPIRY, PTA_WATCHDOG_SHUTDOWN);
    start_with(&w, 2);
    pass(&w, 2 * PERIOD);
    rd(&w, PTA_WATCHDOG_LEFT);
    assert_int_equal(w.f.n_power, 1);
    for (unsigned i = 0; i < 2; i++) {
        pta_device_quiesce(w.dev);
        pta_device_reset(w.dev);
        w.f.clock_ns = 0;
        pta_device_start(w.dev);
        assert_int_equal(rd(&w, PTA_WATCHDOG_CONTROL), 0);
        assert_int_equal(rd(&w, PTA_WATCHDOG_COUNT), PTA_WATCHDOG_COUNT_DEFAULT);
        assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), PTA_WATCHDOG_COUNT_DEFAULT);
        assert_int_equal(rd(&w, PTA_WATCHDOG_EXPIRY), PTA_WATCHDOG_REBOOT);
        assert_int_equal(rd(&w, PTA_WATCHDOG_STATUS), i == 0);
        wr(&w, PTA_WATCHDOG_STATUS, 1);
    }
    assert_int_equal(w.f.n_power, 1);
    wd_close(&w);
}

static void it_is_saved_in_the_middle_of_a_count(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    wr(&w, PTA_WATCHDOG_EXPIRY, PTA_WATCHDOG_SHUTDOWN);
    start_with(&w, 10);
    pass(&w, 4 * PERIOD);
    pta_device_quiesce(w.dev);
    json_t *saved = pta_device_save(w.dev);
    wd_close(&w);

    wd_open(&w);
    w.f.clock_ns = 7; /* another machine's clock */
    pta_device_quiesce(w.dev);
    assert_true(pta_device_restore(w.dev, saved, NULL));
    json_t *again = pta_device_save(w.dev);
    assert_true(json_equal(saved, again));
    pta_device_start(w.dev);
    assert_int_equal(rd(&w, PTA_WATCHDOG_CONTROL), 1);
    assert_int_equal(rd(&w, PTA_WATCHDOG_COUNT), 10);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), 6);
    pass(&w, 6 * PERIOD - 1);
    fix_run(&w.f);
    assert_int_equal(w.f.n_power, 0);
    pass(&w, 1);
    fix_run_until(&w.f, &w.f.n_power, 1);
    assert_int_equal(w.f.power_code, PTA_WATCHDOG_SHUTDOWN);
    json_decref(saved);
    json_decref(again);
    wd_close(&w);
}

static void states_that_cannot_be_are_refused(void **unused)
{
    (void)unused;
    static const struct {
        const char *field, *value;
    } bad[] = {
        { "count", "0x0" },
        { "count", "0x10000" },
        { "left_ns", "0x5f5b9f0a1c00" },
        { "running", "0x2" },
        { "expiry", "0x2" },
        { "status", "0x2" },
        { "reserved", "0x1" },
        { "left_ns", "0xffffffffffffffff" },
    };
    Wd w;
    wd_open(&w);
    pta_device_quiesce(w.dev);
    json_t *good = pta_device_save(w.dev);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        json_t *state = json_deep_copy(good);
        json_t *fields = json_object_get(state, "fields");
        assert_non_null(json_object_get(fields, bad[i].field));
        json_object_set_new(fields, bad[i].field, json_string(bad[i].value));
        assert_false(pta_device_restore(w.dev, state, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
        json_decref(state);
        json_t *after = pta_device_save(w.dev);
        assert_true(json_equal(good, after));
        json_decref(after);
    }
    json_decref(good);
    wd_close(&w);
}

static void counts_are_clamped(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    wr(&w, PTA_WATCHDOG_COUNT, 0);
    assert_int_equal(rd(&w, PTA_WATCHDOG_COUNT), PTA_WATCHDOG_COUNT_MIN);
    wr(&w, PTA_WATCHDOG_COUNT, UINT32_MAX);
    assert_int_equal(rd(&w, PTA_WATCHDOG_COUNT), PTA_WATCHDOG_COUNT_MAX);
    wr(&w, PTA_WATCHDOG_CONTROL, UINT32_MAX);
    assert_int_equal(rd(&w, PTA_WATCHDOG_CONTROL), 1);
    assert_int_equal(rd(&w, PTA_WATCHDOG_LEFT), PTA_WATCHDOG_COUNT_MAX);
    wr(&w, PTA_WATCHDOG_EXPIRY, UINT32_MAX);
    assert_int_equal(rd(&w, PTA_WATCHDOG_EXPIRY), PTA_WATCHDOG_SHUTDOWN);
    wd_close(&w);
}

/* Every width at every offset with odd values: only whole registers are touched. */
static void odd_accesses_do_nothing(void **unused)
{
    (void)unused;
    static const uint64_t values[] = { 0, 1, 0x80, 0xffff, 0x100000001, UINT64_MAX };
    Wd w;
    wd_open(&w);
    start_with(&w, 10);
    pta_device_quiesce(w.dev);
    json_t *before = pta_device_save(w.dev);
    pta_device_start(w.dev);
    for (uint64_t offset = 0; offset < PTA_WATCHDOG_SIZE; offset++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            uint64_t value = 1;
            bool whole = size == 4 && offset % 4 == 0;
            uint64_t inside =
                MIN(size, PTA_WATCHDOG_SIZE - offset); /* what is beyond is not ours */
            assert_true(pta_bus_read(w.f.mmio, w.base + offset, size, &value));
            assert_true(whole || (value & UINT64_MAX >> (64 - 8 * inside)) == 0);
            for (size_t i = 0; !whole && i < G_N_ELEMENTS(values); i++) {
                pta_bus_write(w.f.mmio, w.base + offset, size, values[i]);
            }
        }
    }
    pta_device_quiesce(w.dev);
    json_t *after = pta_device_save(w.dev);
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
    pta_device_start(w.dev);
    /* And any value in any register, at odd times. */
    for (unsigned round = 0; round < 200; round++) {
        for (uint64_t reg = 0; reg < PTA_WATCHDOG_SIZE; reg += 4) {
            for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
                wr(&w, reg, (uint32_t)values[i]);
                pass(&w, values[i] & 0xffffffff);
                rd(&w, reg);
                fix_run(&w.f);
            }
        }
    }
    pta_device_quiesce(w.dev);
    after = pta_device_save(w.dev);
    assert_true(pta_device_restore(w.dev, after, NULL)); /* it is in a state that can be */
    json_decref(after);
    wd_close(&w);
}

static void there_is_one(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    g_autoptr(GError) error = NULL;
    assert_null(wd_new(&w.f, "second", &error));
    assert_string_equal(error->message, "second: a machine has at most one watchdog, and wd is it");
    pta_device_free(w.dev);
    w.dev = wd_new(&w.f, "second", NULL);
    assert_non_null(w.dev);
    wd_close(&w);
}

static void inspect_shows_it(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    start_with(&w, 10);
    pass(&w, PERIOD);
    g_autoptr(PtaInspectNode) node =
        pta_inspect(pta_device_inspect, w.dev, &(PtaInspectParams){ .depth = UINT_MAX });
    json_t *json = pta_inspect_node_to_json(node, false);
    json_t *expected =
        json_pack("{s:b,s:i,s:i,s:s,s:b,s:s,s:b}", "running", 1, "count-ms", 1000, "left-ms", 900,
                  "on-expiry", "reboot", "has-expired", 0, "type", "watchdog", "started", 1);
    assert_true(json_equal(json, expected));
    json_decref(json);
    json_decref(expected);
    wd_close(&w);
}

/* The timer on a thread of its own while registers are used and the machine stops and starts. */
static void threads(void **unused)
{
    (void)unused;
    Wd w;
    wd_open(&w);
    fix_start_thread(&w.f);
    start_with(&w, 1);
    for (unsigned i = 0; i < 300; i++) {
        pass(&w, PERIOD / 3);
        if (i % 5 == 0) {
            wr(&w, PTA_WATCHDOG_RELOAD, 1);
        }
        if (i % 7 == 0) {
            pta_device_quiesce(w.dev);
            int n = g_atomic_int_get(&w.f.n_power);
            pass(&w, 10 * PERIOD);
            g_usleep(500);
            assert_int_equal(g_atomic_int_get(&w.f.n_power), n);
            pta_device_start(w.dev);
        }
        g_usleep(200);
    }
    int n = g_atomic_int_get(&w.f.n_power);
    wr(&w, PTA_WATCHDOG_RELOAD, 1);
    pass(&w, PERIOD);
    fix_run_until(&w.f, &w.f.n_power, n + 1);
    pta_device_free(w.dev); /* while the thread runs */
    fix_free(&w.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_power_on),
        cmocka_unit_test(it_counts_down_and_is_reloaded),
        cmocka_unit_test(stopped_it_stands_still),
        cmocka_unit_test(it_expires),
        cmocka_unit_test(a_reload_that_is_late_does_not_help),
        cmocka_unit_test(a_stopped_machine_has_no_time),
        cmocka_unit_test(a_reset_forgets_all_but_the_status),
        cmocka_unit_test(it_is_saved_in_the_middle_of_a_count),
        cmocka_unit_test(states_that_cannot_be_are_refused),
        cmocka_unit_test(counts_are_clamped),
        cmocka_unit_test(odd_accesses_do_nothing),
        cmocka_unit_test(there_is_one),
        cmocka_unit_test(inspect_shows_it),
        cmocka_unit_test(threads),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
