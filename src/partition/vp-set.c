/* VP threads. One lock for the set: everything under it is short, and VPs take it only outside guest
 * code. */
#include "config.h"

#include "src/partition/vp-set.h"

#include <sys/syscall.h>
#include <unistd.h>

typedef struct Call {
    PtaVpFn *fn;
    void *data;
    bool done; /* LOCKED */
} Call;

typedef struct Vp {
    PtaVpSet *set;       /* CONST */
    PtaBackendVp *be_vp; /* CONST */
    GThread *thread;     /* CONST */
    int thread_id;       /* LOCKED; 0 until the thread runs */
    PtaVpState state;    /* LOCKED */
    Call *call;          /* LOCKED */
} Vp;

struct PtaVpSet {
    PtaBackend *be; /* CONST */
    PtaHalt *halt;  /* CONST */
    unsigned n;     /* CONST */
    GMutex lock;
    GCond changed; /* anything LOCKED changed */
    bool run;      /* LOCKED: VPs may enter guest code; MAIN alone writes */
    bool teardown; /* LOCKED */
    Vp vps[PTA_MAX_VPS];
};

const char *pta_vp_state_name(PtaVpState state)
{
    static const char *const names[] = { "stopped", "running", "halted" };
    return names[state];
}

/* From the VP's own thread, so that the halt holds before any other VP runs further. */
static void report_exit(Vp *vp, const PtaExit *exit)
{
    PtaHaltReason reason = { .has_vp = true, .vp = vp->be_vp->index };
    switch (exit->reason) {
    case PTA_EXIT_INTERRUPTED:
    case PTA_EXIT_HALT:
        return;
    case PTA_EXIT_SHUTDOWN:
        reason.kind = PTA_HALT_TRIPLE_FAULT;
        g_strlcpy(reason.text, "triple fault", sizeof(reason.text));
        break;
    case PTA_EXIT_DEBUG:
        reason.kind = exit->debug.dr6 & (1u << 14) ? PTA_HALT_SINGLE_STEP : PTA_HALT_HW_BREAKPOINT;
        break;
    case PTA_EXIT_INTERNAL_ERROR:
        reason.kind = PTA_HALT_INTERNAL_ERROR;
        g_strlcpy(reason.text, exit->error.text, sizeof(reason.text));
        break;
    }
    PtaX86State *state = g_new(PtaX86State, 1);
    vp->set->be->ops->vp_get_state(vp->be_vp, state);
    reason.regs = state->regs;
    reason.has_regs = true;
    g_free(state);
    pta_halt(vp->set->halt, &reason);
}

static void set_state_locked(Vp *vp, PtaVpState state)
{
    if (vp->state != state) {
        vp->state = state;
        g_cond_broadcast(&vp->set->changed);
    }
}

static void *vp_thread(void *data)
{
    Vp *vp = data;
    PtaVpSet *set = vp->set;
    const PtaBackendOps *ops = set->be->ops;
    g_mutex_lock(&set->lock);
    vp->thread_id = (int)syscall(SYS_gettid);
    g_cond_broadcast(&set->changed);
    while (!set->teardown) {
        if (vp->call) {
            Call *call = vp->call;
            vp->call = NULL;
            g_mutex_unlock(&set->lock);
            call->fn(vp->be_vp, call->data);
            g_mutex_lock(&set->lock);
            call->done = true;
            g_cond_broadcast(&set->changed);
        } else if (!set->run) {
            set_state_locked(vp, PTA_VP_STOPPED);
            g_cond_wait(&set->changed, &set->lock);
        } else if (pta_halt_pending(set->halt)) {
            set_state_locked(vp, PTA_VP_HALTED);
            g_cond_wait(&set->changed, &set->lock);
        } else {
            set_state_locked(vp, PTA_VP_RUNNING);
            g_mutex_unlock(&set->lock);
            PtaExit exit = { .reason = PTA_EXIT_INTERRUPTED };
            ops->vp_run(vp->be_vp, &exit);
            report_exit(vp, &exit);
            g_mutex_lock(&set->lock);
        }
    }
    set_state_locked(vp, PTA_VP_STOPPED);
    g_mutex_unlock(&set->lock);
    return NULL;
}

static void kick_all(PtaVpSet *set)
{
    for (unsigned i = 0; i < set->n; i++) {
        set->be->ops->vp_kick(set->vps[i].be_vp);
    }
}

/* A kick is never lost: run() under way or about to start comes back, and then sees the counter. */
static void on_halt(void *opaque)
{
    kick_all(opaque);
}

PtaVpSet *pta_vp_set_new(PtaBackend *be, unsigned n_vps, PtaHalt *halt, GError **error)
{
    pta_assert_main();
    g_assert(n_vps >= 1 && n_vps <= PTA_MAX_VPS);
    PtaVpSet *set = g_new0(PtaVpSet, 1);
    g_mutex_init(&set->lock);
    g_cond_init(&set->changed);
    set->be = be;
    set->halt = halt;
    for (; set->n < n_vps; set->n++) {
        Vp *vp = &set->vps[set->n];
        vp->set = set;
        vp->be_vp = be->ops->vp_create(be, set->n, error);
        if (!vp->be_vp) {
            pta_vp_set_free(set);
            return NULL;
        }
    }
    for (unsigned i = 0; i < n_vps; i++) {
        g_autofree char *name = g_strdup_printf("vp%u", i);
        set->vps[i].thread = g_thread_try_new(name, vp_thread, &set->vps[i], error);
        if (!set->vps[i].thread) {
            pta_vp_set_free(set);
            return NULL;
        }
    }
    g_mutex_lock(&set->lock);
    for (unsigned i = 0; i < n_vps; i++) {
        while (set->vps[i].thread_id == 0) {
            g_cond_wait(&set->changed, &set->lock);
        }
    }
    g_mutex_unlock(&set->lock);
    pta_halt_set_waker(halt, on_halt, set);
    return set;
}

void pta_vp_set_free(PtaVpSet *set)
{
    pta_assert_main();
    if (!set) {
        return;
    }
    pta_halt_set_waker(set->halt, NULL, NULL);
    g_mutex_lock(&set->lock);
    set->teardown = true;
    g_cond_broadcast(&set->changed);
    g_mutex_unlock(&set->lock);
    kick_all(set);
    for (unsigned i = 0; i < set->n; i++) {
        if (set->vps[i].thread) {
            g_thread_join(set->vps[i].thread);
        }
    }
    for (unsigned i = 0; i < set->n; i++) {
        set->be->ops->vp_destroy(set->vps[i].be_vp);
    }
    g_cond_clear(&set->changed);
    g_mutex_clear(&set->lock);
    g_free(set);
}

unsigned pta_vp_set_size(const PtaVpSet *set)
{
    return set->n;
}

PtaBackendVp *pta_vp_set_get(PtaVpSet *set, unsigned vp)
{
    g_assert(vp < set->n);
    return set->vps[vp].be_vp;
}

void pta_vp_set_start(PtaVpSet *set)
{
    pta_assert_main();
    g_mutex_lock(&set->lock);
    set->run = true;
    g_cond_broadcast(&set->changed);
    g_mutex_unlock(&set->lock);
}

void pta_vp_set_stop(PtaVpSet *set)
{
    pta_assert_main();
    g_mutex_lock(&set->lock);
    set->run = false;
    g_cond_broadcast(&set->changed);
    g_mutex_unlock(&set->lock);
    kick_all(set);
    g_mutex_lock(&set->lock);
    for (unsigned i = 0; i < set->n; i++) {
        while (set->vps[i].state != PTA_VP_STOPPED) {
            g_cond_wait(&set->changed, &set->lock);
        }
    }
    g_mutex_unlock(&set->lock);
}

bool pta_vp_set_started(const PtaVpSet *set)
{
    return set->run;
}

void pta_vp_set_call(PtaVpSet *set, unsigned vp, PtaVpFn *fn, void *data)
{
    pta_assert_main();
    g_assert(vp < set->n);
    Call call = { .fn = fn, .data = data };
    g_mutex_lock(&set->lock);
    g_assert(!set->vps[vp].call);
    set->vps[vp].call = &call;
    g_cond_broadcast(&set->changed);
    g_mutex_unlock(&set->lock);
    set->be->ops->vp_kick(set->vps[vp].be_vp);
    g_mutex_lock(&set->lock);
    while (!call.done) {
        g_cond_wait(&set->changed, &set->lock);
    }
    g_mutex_unlock(&set->lock);
}

PtaVpState pta_vp_set_state(PtaVpSet *set, unsigned vp)
{
    g_assert(vp < set->n);
    g_mutex_lock(&set->lock);
    PtaVpState state = set->vps[vp].state;
    g_mutex_unlock(&set->lock);
    return state;
}

int pta_vp_set_thread_id(PtaVpSet *set, unsigned vp)
{
    g_assert(vp < set->n);
    return set->vps[vp].thread_id;
}
