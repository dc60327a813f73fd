/*
 * The partition's clock on KVM: clock, TSCs and reference time stand still together and go on together,
 * on all VPs. No guest runs: what the kernel would show it is asked for by the host.
 */
#include "config.h"

#include "src/kvm/kvm.h"
#include "src/partition/partition.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#define N_VPS   3
#define ROUNDS  30
#define NS      UINT64_C(1000000000)
#define CALL_NS UINT64_C(20000000) /* a system call's time on a host that is busy, or emulated */

typedef struct World {
    PtaMemory *memory;
    PtaPlatform platform;
    PtaPartition *p;
    PtaBackend *be;
    const PtaBackendOps *ops;
} World;

static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    (void)opaque;
    (void)reason;
}

static int setup(void **state)
{
    static const PtaRamRange ram = { 0, 0x100000 };
    World *w = g_new0(World, 1);
    w->memory = pta_memory_new(&ram, 1, NULL);
    const PtaPartitionParams params = {
        .backend = &pta_kvm_backend,
        .n_vps = N_VPS,
        .cpu_model = "x86-64-v1",
        .hypervisor = PTA_HYPERVISOR_HYPERV,
        .memory = w->memory,
        .platform = &w->platform,
        .no_threads = true,
        .on_halt = on_halt,
        .opaque = w,
    };
    g_autoptr(GError) error = NULL;
    w->p = pta_partition_new(&params, &error);
    if (!w->p) {
        print_error("%s\n", error->message);
        return -1;
    }
    w->be = pta_partition_backend(w->p);
    w->ops = w->be->ops;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    World *w = *state;
    pta_partition_free(w->p);
    pta_memory_free(w->memory);
    while (g_main_context_iteration(NULL, FALSE)) {}
    g_free(w);
    return 0;
}

static PtaBackendVp *vp(World *w, unsigned i)
{
    return pta_vp_set_get(pta_partition_vps(w->p), i);
}

static uint64_t tsc(World *w, unsigned i)
{
    return w->ops->vp_tsc(vp(w, i));
}

static bool tsc_fixed(World *w)
{
    return kvm_of(w->be)->tsc_fixed;
}

static uint64_t ticks(World *w, uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * w->ops->tsc_hz(w->be) / NS);
}

static void set_tsc(World *w, unsigned i, uint64_t value)
{
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    w->ops->vp_get_state(vp(w, i), s);
    s->tsc = value;
    assert_true(w->ops->vp_set_state(vp(w, i), s, NULL));
}

static void time_stands_still(void **state)
{
    World *w = *state;
    assert_int_equal(w->ops->clock_ns(w->be), 0);
    uint64_t last = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t before[N_VPS], ns = w->ops->clock_ns(w->be);
        assert_true(ns >= last);
        for (unsigned i = 0; i < N_VPS; i++) {
            before[i] = tsc(w, i);
        }
        g_usleep(1000);
        assert_int_equal(w->ops->clock_ns(w->be), ns);
        for (unsigned i = 0; i < N_VPS; i++) {
            assert_int_equal(tsc(w, i), before[i]);
        }
        w->ops->clock_start(w->be);
        for (unsigned i = 0; i < N_VPS; i++) { /* it goes on from where it was */
            uint64_t now = tsc(w, i);
            assert_true(now >= before[i]);
            assert_true(tsc_fixed(w) || now < before[i] + ticks(w, CALL_NS));
        }
        uint64_t running = w->ops->clock_ns(w->be);
        assert_in_range(running, ns, ns + CALL_NS);
        g_usleep(500);
        assert_true(w->ops->clock_ns(w->be) >= running + 400000);
        w->ops->clock_stop(w->be);
        last = w->ops->clock_ns(w->be);
    }
}

static void tscs_are_equal(void **state)
{
    World *w = *state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        w->ops->clock_start(w->be);
        g_usleep(200);
        w->ops->clock_stop(w->be);
        for (unsigned i = 1; i < N_VPS; i++) {
            assert_int_equal(tsc(w, i), tsc(w, 0));
        }
    }
}

/* What a guest that has set one VP's TSC apart sees stays so, to the tick. */
static void tscs_keep_their_distance(void **state)
{
    World *w = *state;
    if (tsc_fixed(w)) {
        print_message("# TSCs cannot be set here\n");
        return;
    }
    set_tsc(w, 0, UINT64_C(1) << 40);
    set_tsc(w, 1, (UINT64_C(1) << 40) + 12345);
    set_tsc(w, 2, UINT64_C(0) - 1000000000);
    for (unsigned round = 0; round < ROUNDS; round++) {
        w->ops->clock_start(w->be);
        g_usleep(200);
        w->ops->clock_stop(w->be);
        assert_int_equal(tsc(w, 1) - tsc(w, 0), 12345);
        assert_int_equal(tsc(w, 2) - tsc(w, 0), UINT64_C(0) - 1000000000 - (UINT64_C(1) << 40));
    }
}

/* TSC and clock go on by the same, however often they are stopped: nothing adds up. */
static void tsc_and_clock_do_not_part(void **state)
{
    World *w = *state;
    if (tsc_fixed(w)) {
        print_message("# TSCs cannot be set here\n");
        return;
    }
    uint64_t worst = 0;
    bool exact = true;
    for (unsigned round = 0; round < ROUNDS; round++) {
        w->ops->clock_start(w->be);
        exact &= w->ops->tsc_stable(w->be);
        w->ops->clock_stop(w->be);
        uint64_t want = ticks(w, w->ops->clock_ns(w->be)), is = tsc(w, 0);
        worst = MAX(worst, want > is ? want - is : is - want);
    }
    print_message("# %" G_GUINT64_FORMAT " ticks apart at worst after %u stops, %s\n", worst,
                  ROUNDS, exact ? "read at one instant" : "read one after the other");
    assert_true(worst <= (exact ? 4 * ROUNDS : ticks(w, CALL_NS)));
}

static void the_clock_can_be_set(void **state)
{
    World *w = *state;
    const uint64_t times[] = { 7, NS, UINT64_C(1) << 60, 12345678 };
    for (size_t i = 0; i < G_N_ELEMENTS(times); i++) {
        w->ops->clock_set(w->be, times[i]);
        assert_int_equal(w->ops->clock_ns(w->be), times[i]);
        w->ops->clock_start(w->be);
        assert_in_range(w->ops->clock_ns(w->be), times[i], times[i] + CALL_NS);
        w->ops->clock_stop(w->be);
        assert_in_range(w->ops->clock_ns(w->be), times[i], times[i] + 2 * CALL_NS);
    }
    assert_true(pta_partition_reset(w->p, NULL));
    assert_int_equal(w->ops->clock_ns(w->be), 0);
    assert_int_equal(tsc(w, 0), 0);
}

static void other_frequencies(void **state)
{
    World *w = *state;
    g_autoptr(GError) error = NULL;
    uint64_t hz = w->ops->tsc_hz(w->be), near = hz + hz / 10000;
    assert_int_equal(hz, w->ops->tsc_hz(NULL));
    assert_true(pta_partition_set_tsc_hz(w->p, near, &error)); /* 100 ppm: nobody would notice */
    assert_int_equal(w->ops->tsc_hz(w->be), near);
    assert_true(pta_partition_set_tsc_hz(w->p, hz, &error));
    if (w->ops->has_cap(w->be, PTA_CAP_TSC_SCALING)) {
        assert_true(pta_partition_set_tsc_hz(w->p, 1000000000, &error));
        w->ops->clock_start(w->be);
        g_usleep(10000);
        w->ops->clock_stop(w->be);
        uint64_t ns = w->ops->clock_ns(w->be);
        assert_in_range(tsc(w, 0), ns - MIN(ns, CALL_NS), ns + CALL_NS);
    } else {
        assert_false(pta_partition_set_tsc_hz(w->p, 1000000000, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_UNSUPPORTED));
        g_autofree char *own = g_strdup_printf("%" G_GUINT64_FORMAT " Hz", hz);
        assert_non_null(strstr(error->message, "1000000000 Hz"));
        assert_non_null(strstr(error->message, own));
        assert_int_equal(w->ops->tsc_hz(w->be), hz);
    }
}

int main(void)
{
    g_autoptr(GError) error = NULL;
    pta_thread_init_main();
    if (!pta_kvm_backend.probe(&error)) {
        printf("1..0 # SKIP %s\n", error->message);
        return 0;
    }
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(time_stands_still),         T(tscs_are_equal),       T(tscs_keep_their_distance),
        T(tsc_and_clock_do_not_part), T(the_clock_can_be_set), T(other_frequencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
