/* The CPU that a guest sees goes along with its state: whom it takes it for, and how fast its TSC runs.
 * On the software CPU, which can show any, and on one that can nothing. */
#include "config.h"

#include "src/partition/partition.h"

#include "tests/lib/cmocka-all.h"
#include "tests/lib/fake-backend.h"

#include <string.h>

typedef struct World {
    PtaMemory *memory;
    PtaPlatform platform;
    PtaPartition *p;
} World;

static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    (void)opaque;
    (void)reason;
}

static World *new_world(const PtaBackendOps *backend, const char *model)
{
    static const PtaRamRange ram = { 0, 0x10000 };
    World *w = g_new0(World, 1);
    w->memory = pta_memory_new(&ram, 1, NULL);
    const PtaPartitionParams params = {
        .backend = backend,
        .n_vps = 2,
        .cpu_model = model,
        .hypervisor = PTA_HYPERVISOR_NONE,
        .memory = w->memory,
        .platform = &w->platform,
        .no_threads = true,
        .on_halt = on_halt,
        .opaque = w,
    };
    w->p = pta_partition_new(&params, NULL);
    assert_non_null(w->p);
    return w;
}

static void free_world(World *w)
{
    pta_partition_free(w->p);
    pta_memory_free(w->memory);
    while (g_main_context_iteration(NULL, FALSE)) {}
    g_free(w);
}

static uint64_t tsc_hz(World *w)
{
    PtaBackend *be = pta_partition_backend(w->p);
    return be->ops->tsc_hz(be);
}

static uint32_t leaf(World *w, uint32_t function, unsigned reg)
{
    uint32_t out[4];
    pta_cpuid_query(pta_partition_cpuid(w->p), 0, 0, 1, function, 0, out);
    return out[reg];
}

/* What VPs saved is the same on every machine of this test: they are in their reset state. */
static json_t *saved_elsewhere(World *w, const char *vendor, const char *signature, const char *hz)
{
    json_t *saved = pta_partition_save(w->p);
    json_t *cpu = json_object_get(saved, "cpu");
    json_t *fields = json_object_get(json_object_get(cpu, "state"), "fields");
    json_object_set_new(cpu, "vendor", json_string(vendor));
    json_object_set_new(fields, "signature", json_string(signature));
    json_object_set_new(fields, "tsc_hz", json_string(hz));
    return saved;
}

static void the_frequency_may_be_chosen(void **unused)
{
    World *w = new_world(&pta_soft_backend, NULL);
    g_autoptr(GError) error = NULL;
    assert_int_equal(leaf(w, 0x16, 0), 1000);
    assert_true(pta_partition_set_tsc_hz(w->p, UINT64_C(2600000000), &error));
    assert_int_equal(tsc_hz(w), UINT64_C(2600000000));
    assert_int_equal(leaf(w, 0x16, 0), 2600);
    /* Crystal times EBX over EAX. */
    assert_int_equal((uint64_t)leaf(w, 0x15, 2) * leaf(w, 0x15, 1) / leaf(w, 0x15, 0),
                     UINT64_C(2600000000));
    assert_false(pta_partition_set_tsc_hz(w->p, PTA_MAX_TSC_HZ + 1, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_UNSUPPORTED));
    assert_int_equal(leaf(w, 0x16, 0), 2600);
    free_world(w);
}

static void the_cpu_goes_along(void **unused)
{
    World *w = new_world(&pta_soft_backend, NULL);
    g_autoptr(GError) error = NULL;
    json_t *saved = saved_elsewhere(w, "AuthenticAMD", "0x830f10", "0x9afa3340");
    if (!pta_partition_restore(w->p, saved, &error)) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(leaf(w, 0, 1), 0x68747541);
    assert_int_equal(leaf(w, 0, 3), 0x69746e65);
    assert_int_equal(leaf(w, 0, 2), 0x444d4163);
    assert_int_equal(leaf(w, 1, 0), 0x830f10);
    assert_int_equal(tsc_hz(w), 0x9afa3340);
    assert_int_equal(leaf(w, 0x16, 0), 0x9afa3340 / 1000000);
    /* On to a third: it saves what it shows. */
    json_t *again = pta_partition_save(w->p);
    assert_true(json_equal(saved, again));
    json_decref(again);
    json_decref(saved);
    free_world(w);
}

static void other_features_are_refused(void **unused)
{
    World *v1 = new_world(&pta_soft_backend, "x86-64-v1");
    World *v2 = new_world(&pta_soft_backend, "x86-64-v2");
    g_autoptr(GError) error = NULL;
    json_t *saved = saved_elsewhere(v1, "AuthenticAMD", "0x830f10", "0x9afa3340");
    assert_false(pta_partition_restore(v2->p, saved, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
    assert_non_null(strstr(error->message, "popcnt"));
    assert_non_null(strstr(error->message, "partition.cpu-model"));
    assert_int_equal(leaf(v2, 0, 1), 0x756e6547); /* nothing has changed */
    assert_int_equal(tsc_hz(v2), 1000000000);
    json_decref(saved);
    free_world(v1);
    free_world(v2);
}

static void hostile_cpus_are_refused(void **unused)
{
    static const struct {
        const char *field, *value;
    } bad[] = {
        { "tsc_hz", "0x0" },      { "tsc_hz", "0xffffffffffffffff" },
        { "leaf7_edx", "0x1" },   { "leaf8_8_ebx", "0x2000000" },
        { "phys_bits", "0x1f" },  { "phys_bits", "0x35" },
        { "phys_bits", "0x128" }, { "signature", "0x100000000" },
    };
    static const char *const vendors[] = { "", "GenuineIntel!", "Genuine\nItel", "short" };
    World *w = new_world(&pta_soft_backend, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(bad) + G_N_ELEMENTS(vendors); i++) {
        g_autoptr(GError) error = NULL;
        json_t *saved = pta_partition_save(w->p);
        json_t *cpu = json_object_get(saved, "cpu");
        if (i < G_N_ELEMENTS(bad)) {
            json_object_set_new(json_object_get(json_object_get(cpu, "state"), "fields"),
                                bad[i].field, json_string(bad[i].value));
        } else {
            json_object_set_new(cpu, "vendor", json_string(vendors[i - G_N_ELEMENTS(bad)]));
        }
        assert_false(pta_partition_restore(w->p, saved, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
        json_decref(saved);
    }
    free_world(w);
}

static void who_cannot_says_what_and_where(void **unused)
{
    World *w = new_world(&fake_backend, NULL);
    g_autoptr(GError) error = NULL;
    json_t *saved = saved_elsewhere(w, "GenuineIntel", "0x30661", "0x9afa3340");
    assert_false(pta_partition_restore(w->p, saved, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_UNSUPPORTED));
    assert_non_null(strstr(error->message, "2600088384 Hz"));
    assert_non_null(strstr(error->message, "1000000000 Hz"));
    assert_non_null(strstr(error->message, "partition.tsc-frequency"));
    json_decref(saved);
    free_world(w);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_frequency_may_be_chosen),
        cmocka_unit_test(the_cpu_goes_along),
        cmocka_unit_test(other_features_are_refused),
        cmocka_unit_test(hostile_cpus_are_refused),
        cmocka_unit_test(who_cannot_says_what_and_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
