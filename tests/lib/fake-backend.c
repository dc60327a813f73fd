/* The scripted back end. Each VP has a lock of its own. */
#include "config.h"

#include "tests/lib/fake-backend.h"

#include <string.h>

struct FakeVp {
    PtaBackendVp vp;
    GMutex lock;
    GCond cond;
    bool kicked;
    bool has_exit;
    PtaExit exit;
    void (*fn)(void *);
    void *opaque;
    uint64_t executed;
    unsigned entered;
    bool in_run;
    PtaX86State state;
    PtaGuestDebug debug;
};

typedef struct FakeBackend {
    PtaBackend be;
    unsigned resets, scrubs;
    bool fail_reset;
    bool clock_runs;
    uint64_t clock_ns;
    int fail_vp;
    unsigned n_vps;
    FakeVp *vps[PTA_MAX_VPS];
} FakeBackend;

static bool fake_probe(GError **error)
{
    return true;
}

static uint64_t fake_features(void)
{
    return UINT64_MAX;
}

static PtaBackend *fake_create(const PtaBackendParams *params, GError **error)
{
    FakeBackend *f = g_new0(FakeBackend, 1);
    f->be.ops = &fake_backend;
    f->fail_vp = -1;
    f->n_vps = params->n_vps;
    return &f->be;
}

static void fake_destroy(PtaBackend *be)
{
    g_free(be);
}

static bool fake_has_cap(const PtaBackend *be, PtaBackendCap cap)
{
    return false;
}

static bool fake_map(PtaBackend *be, uint64_t gpa, uint64_t size, void *host, unsigned flags,
                     GError **error)
{
    return true;
}

static bool fake_unmap(PtaBackend *be, uint64_t gpa, uint64_t size, GError **error)
{
    return true;
}

static PtaBackendVp *fake_vp_create(PtaBackend *be, unsigned index, GError **error)
{
    FakeVp *v = g_new0(FakeVp, 1);
    g_mutex_init(&v->lock);
    g_cond_init(&v->cond);
    v->vp = (PtaBackendVp){ .be = be, .index = index };
    ((FakeBackend *)be)->vps[index] = v;
    return &v->vp;
}

static void fake_vp_destroy(PtaBackendVp *vp)
{
    FakeVp *v = (FakeVp *)vp;
    g_mutex_clear(&v->lock);
    g_cond_clear(&v->cond);
    g_free(v);
}

static void fake_vp_run(PtaBackendVp *vp, PtaExit *exit)
{
    FakeVp *v = (FakeVp *)vp;
    g_mutex_lock(&v->lock);
    v->in_run = true;
    v->entered++;
    for (;;) {
        if (v->kicked) {
            v->kicked = false;
            exit->reason = PTA_EXIT_INTERRUPTED;
            break;
        }
        v->executed++;
        if (v->fn) {
            void (*fn)(void *) = v->fn;
            v->fn = NULL;
            g_mutex_unlock(&v->lock);
            fn(v->opaque);
            g_mutex_lock(&v->lock);
        } else if (v->has_exit) {
            v->has_exit = false;
            *exit = v->exit;
            break;
        } else {
            g_cond_wait_until(&v->cond, &v->lock, g_get_monotonic_time() + 200);
        }
    }
    v->in_run = false;
    g_mutex_unlock(&v->lock);
}

static void fake_vp_kick(PtaBackendVp *vp)
{
    FakeVp *v = (FakeVp *)vp;
    g_mutex_lock(&v->lock);
    v->kicked = true;
    g_cond_broadcast(&v->cond);
    g_mutex_unlock(&v->lock);
}

static void fake_get_state(PtaBackendVp *vp, PtaX86State *state)
{
    *state = ((FakeVp *)vp)->state;
}

static bool fake_set_state(PtaBackendVp *vp, const PtaX86State *state, GError **error)
{
    FakeVp *v = (FakeVp *)vp;
    if (((FakeBackend *)vp->be)->fail_vp == (int)vp->index) {
        return pta_throw(error, PTA_ERROR_HOST, "told to fail");
    }
    v->state = *state;
    return true;
}

static void fake_set_debug(PtaBackendVp *vp, const PtaGuestDebug *debug)
{
    ((FakeVp *)vp)->debug = *debug;
}

static const char *const fake_stat_names[] = { "executed", NULL };

static void fake_get_stats(const PtaBackendVp *vp, uint64_t *values)
{
    values[0] = fake_vp_executed((PtaBackendVp *)(uintptr_t)vp);
}

static void fake_msi(PtaBackend *be, uint64_t address, uint32_t data)
{
}

static void fake_nmi(PtaBackend *be, unsigned vp)
{
}

static uint64_t fake_clock_ns(const PtaBackend *be)
{
    return ((const FakeBackend *)be)->clock_ns;
}

static uint64_t fake_hz(const PtaBackend *be)
{
    return 1000000000;
}

static uint64_t fake_tsc(const PtaBackendVp *vp)
{
    return 0;
}

static void fake_clock_start(PtaBackend *be)
{
    ((FakeBackend *)be)->clock_runs = true;
}

static void fake_clock_stop(PtaBackend *be)
{
    ((FakeBackend *)be)->clock_runs = false;
}

static void fake_clock_set(PtaBackend *be, uint64_t ns)
{
    g_assert(!((FakeBackend *)be)->clock_runs);
    ((FakeBackend *)be)->clock_ns = ns;
}

static bool fake_reset(PtaBackend *be, GError **error)
{
    FakeBackend *f = (FakeBackend *)be;
    f->resets++;
    return !f->fail_reset || pta_throw(error, PTA_ERROR_HOST, "told to fail");
}

static bool fake_scrub(PtaBackend *be, GError **error)
{
    FakeBackend *f = (FakeBackend *)be;
    f->scrubs++;
    return !f->fail_reset || pta_throw(error, PTA_ERROR_HOST, "told to fail");
}

const PtaBackendOps fake_backend = {
    .name = "fake",
    .probe = fake_probe,
    .cpu_features = fake_features,
    .create = fake_create,
    .destroy = fake_destroy,
    .has_cap = fake_has_cap,
    .map = fake_map,
    .unmap = fake_unmap,
    .vp_create = fake_vp_create,
    .vp_destroy = fake_vp_destroy,
    .vp_run = fake_vp_run,
    .vp_kick = fake_vp_kick,
    .vp_get_state = fake_get_state,
    .vp_set_state = fake_set_state,
    .vp_set_debug = fake_set_debug,
    .stat_names = fake_stat_names,
    .vp_get_stats = fake_get_stats,
    .msi = fake_msi,
    .nmi = fake_nmi,
    .clock_ns = fake_clock_ns,
    .tsc_hz = fake_hz,
    .apic_hz = fake_hz,
    .vp_tsc = fake_tsc,
    .clock_start = fake_clock_start,
    .clock_stop = fake_clock_stop,
    .clock_set = fake_clock_set,
    .reset = fake_reset,
    .scrub = fake_scrub,
};

void fake_vp_exit(PtaBackendVp *vp, const PtaExit *exit)
{
    FakeVp *v = (FakeVp *)vp;
    g_mutex_lock(&v->lock);
    v->exit = *exit;
    v->has_exit = true;
    g_cond_broadcast(&v->cond);
    g_mutex_unlock(&v->lock);
}

void fake_vp_in_guest(PtaBackendVp *vp, void (*fn)(void *opaque), void *opaque)
{
    FakeVp *v = (FakeVp *)vp;
    g_mutex_lock(&v->lock);
    v->fn = fn;
    v->opaque = opaque;
    g_cond_broadcast(&v->cond);
    g_mutex_unlock(&v->lock);
}

uint64_t fake_vp_executed(PtaBackendVp *vp)
{
    FakeVp *v = (FakeVp *)vp;
    g_mutex_lock(&v->lock);
    uint64_t n = v->executed;
    g_mutex_unlock(&v->lock);
    return n;
}

unsigned fake_vp_entered(PtaBackendVp *vp)
{
    FakeVp *v = (FakeVp *)vp;
    g_mutex_lock(&v->lock);
    unsigned n = v->entered;
    g_mutex_unlock(&v->lock);
    return n;
}

bool fake_vp_in_run(PtaBackendVp *vp)
{
    FakeVp *v = (FakeVp *)vp;
    g_mutex_lock(&v->lock);
    bool in = v->in_run;
    g_mutex_unlock(&v->lock);
    return in;
}

unsigned fake_backend_resets(PtaBackend *be)
{
    return ((FakeBackend *)be)->resets;
}

bool fake_backend_clock_runs(PtaBackend *be)
{
    return ((FakeBackend *)be)->clock_runs;
}

void fake_backend_fail_set_state(PtaBackend *be, int vp)
{
    ((FakeBackend *)be)->fail_vp = vp;
}

unsigned fake_backend_scrubs(PtaBackend *be)
{
    return ((FakeBackend *)be)->scrubs;
}

void fake_backend_fail_reset(PtaBackend *be, bool fail)
{
    ((FakeBackend *)be)->fail_reset = fail;
}

PtaGuestDebug fake_vp_debug(PtaBackendVp *vp)
{
    return ((FakeVp *)vp)->debug;
}
