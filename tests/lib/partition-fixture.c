/* See partition-fixture.h. */
#include "config.h"

#include "tests/lib/partition-fixture.h"

#define LIMIT_US (10 * G_USEC_PER_SEC)

PtaBackendVp *fixture_vp(Fixture *f, unsigned i)
{
    return pta_vp_set_get(pta_partition_vps(f->p), i);
}

static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    Fixture *f = opaque;
    f->halts++;
    f->last = reason->kind;
    f->in_run_at_report |= fixture_any_in_run(f);
}

static void on_debug(void *opaque, bool stopped)
{
    Fixture *f = opaque;
    f->debug_stops += stopped;
    f->debug_goes += !stopped;
}

static int make(void **state, bool no_threads)
{
    static const PtaRamRange ram[] = { { 0, 0x10000 }, { 0x100000, 0x10000 } };
    Fixture *f = g_new0(Fixture, 1);
    f->memory = pta_memory_new(ram, 2, NULL);
    PtaPartitionParams params = {
        .backend = &fake_backend,
        .n_vps = N_VPS,
        .hypervisor = PTA_HYPERVISOR_NONE,
        .memory = f->memory,
        .platform = &f->platform,
        .no_threads = no_threads,
        .on_halt = on_halt,
        .on_debug = on_debug,
        .opaque = f,
    };
    g_autoptr(GError) error = NULL;
    f->p = pta_partition_new(&params, &error);
    if (!f->p) {
        print_error("%s\n", error->message);
        return -1;
    }
    *state = f;
    return 0;
}

int fixture_setup(void **state)
{
    return make(state, false);
}

int fixture_setup_no_threads(void **state)
{
    return make(state, true);
}

int fixture_teardown(void **state)
{
    Fixture *f = *state;
    pta_partition_free(f->p);
    pta_memory_free(f->memory);
    fixture_drain();
    g_free(f);
    return 0;
}

void fixture_wait_for(const unsigned *what, unsigned n)
{
    gint64 end = g_get_monotonic_time() + LIMIT_US;
    while (*what < n) {
        g_main_context_iteration(NULL, FALSE);
        assert_true(g_get_monotonic_time() < end);
    }
}

void fixture_drain(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {}
}

void fixture_wait_running(Fixture *f, unsigned i)
{
    gint64 end = g_get_monotonic_time() + LIMIT_US;
    while (!fake_vp_in_run(fixture_vp(f, i))) {
        assert_true(g_get_monotonic_time() < end);
        g_thread_yield();
    }
}

void fixture_halt(Fixture *f, PtaHaltKind kind)
{
    pta_partition_halt(f->p, &(PtaHaltReason){ .kind = kind });
}

bool fixture_any_in_run(Fixture *f)
{
    for (unsigned i = 0; i < N_VPS; i++) {
        if (fake_vp_in_run(fixture_vp(f, i))) {
            return true;
        }
    }
    return false;
}
