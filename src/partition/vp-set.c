/* VPs and their runners. One lock for the set: everything under it is short, and VPs take it only
 * outside guest code. What VPs are asked for their state is in vp-set-state.c. */
#include "config.h"

#include "src/partition/vp-set.h"

#include <sys/syscall.h>
#include <unistd.h>

/* A request to a VP, in its mailbox. */
typedef struct Call {
    struct Call *next;
    PtaVpFn *fn;
    void *data;
    PtaMainFn *done; /* NULL: the caller waits, and owns this */
    bool finished;   /* LOCKED */
} Call;

struct PtaVpRunner {
    PtaVpSet *set;       /* CONST */
    PtaBackendVp *be_vp; /* CONST */
    GThread *thread;     /* MAIN: made by spawn() */
    GCond wake;          /* for the thread that runs it: something of this VP changed */
    PtaVpState state;    /* LOCKED */
    int thread_id;       /* LOCKED; 0 while no thread runs it */
    bool bound;          /* LOCKED: a thread is in run(), or another one does a call for it */
    bool in_guest;       /* LOCKED: in the back end's vp_run() */
    bool cancel;         /* LOCKED */
    bool suspended;      /* LOCKED */
    Call *first, *last;  /* LOCKED: the mailbox */
};

struct PtaVpSet {
    PtaBackend *be; /* CONST */
    PtaHalt *halt;  /* CONST */
    unsigned n;     /* CONST */
    GMutex lock;
    GCond changed; /* for those who wait for VPs: a state, a binding or a call changed */
    bool run;      /* LOCKED: VPs may enter guest code; MAIN alone writes */
    bool teardown; /* LOCKED */
    PtaVpRunner vps[PTA_MAX_VPS];
};

const char *pta_vp_state_name(PtaVpState state)
{
    static const char *const names[] = { "stopped", "running", "halted", "suspended" };
    return names[state];
}

/* ---- in the VP's thread ---- */

/* From the VP's own thread, so that the halt holds before any other VP runs further. */
static void report_exit(PtaVpRunner *vp, const PtaExit *exit)
{
    PtaHaltReason reason = { .has_vp = true, .vp = vp->be_vp->index };
    switch (exit->reason) {
    case PTA_EXIT_INTERRUPTED:
    case PTA_EXIT_HALT:
    case PTA_EXIT_CANCELLED:
        return;
    case PTA_EXIT_SHUTDOWN:
        reason.kind = PTA_HALT_TRIPLE_FAULT;
        g_strlcpy(reason.text, "triple fault", sizeof(reason.text));
        break;
    case PTA_EXIT_DEBUG:
        reason.kind = exit->debug.vector == 3            ? PTA_HALT_SW_BREAKPOINT
                      : exit->debug.dr6 & PTA_X86_DR6_BS ? PTA_HALT_SINGLE_STEP
                                                         : PTA_HALT_HW_BREAKPOINT;
        reason.dr6 = exit->debug.dr6;
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

static void set_state_locked(PtaVpRunner *vp, PtaVpState state)
{
    if (vp->state != state) {
        vp->state = state;
        g_cond_broadcast(&vp->set->changed);
    }
}

static void finish_call_locked(PtaVpSet *set, Call *call)
{
    if (call->done) {
        pta_main_call(call->done, call->data);
        g_free(call);
    } else {
        call->finished = true;
        g_cond_broadcast(&set->changed);
    }
}

/* Does what is in the mailbox, in the thread that the VP is bound to. The lock is given up meanwhile. */
static void serve_calls_locked(PtaVpRunner *vp)
{
    PtaVpSet *set = vp->set;
    while (vp->first) {
        Call *call = vp->first;
        vp->first = call->next;
        g_mutex_unlock(&set->lock);
        call->fn(vp->be_vp, call->data);
        g_mutex_lock(&set->lock);
        finish_call_locked(set, call);
    }
}

static void bind_locked(PtaVpRunner *vp)
{
    while (vp->bound) { /* by a thread that does a call for it */
        g_assert(vp->thread_id == 0);
        g_cond_wait(&vp->set->changed, &vp->set->lock);
    }
    vp->bound = true;
    vp->thread_id = (int)syscall(SYS_gettid);
    g_cond_broadcast(&vp->set->changed);
}

static void unbind_locked(PtaVpRunner *vp)
{
    vp->bound = false;
    vp->thread_id = 0;
    g_cond_broadcast(&vp->set->changed);
}

static PtaExitReason enter_guest_locked(PtaVpRunner *vp)
{
    PtaVpSet *set = vp->set;
    set_state_locked(vp, PTA_VP_RUNNING);
    vp->in_guest = true;
    g_mutex_unlock(&set->lock);
    PtaExit exit = { .reason = PTA_EXIT_INTERRUPTED };
    set->be->ops->vp_run(vp->be_vp, &exit);
    report_exit(vp, &exit);
    g_mutex_lock(&set->lock);
    vp->in_guest = false;
    g_cond_broadcast(&set->changed);
    return exit.reason;
}

PtaVpRunEnd pta_vp_runner_run(PtaVpRunner *vp)
{
    PtaVpSet *set = vp->set;
    g_assert(!pta_in_main());
    g_mutex_lock(&set->lock);
    bind_locked(vp);
    PtaVpRunEnd end;
    for (bool returned = false;;) {
        if (vp->first) {
            serve_calls_locked(vp);
        } else if (set->teardown) {
            set_state_locked(vp, PTA_VP_STOPPED);
            end = PTA_VP_RUN_TEARDOWN;
            break;
        } else if (!set->run && vp->state != PTA_VP_STOPPED) {
            set_state_locked(vp, PTA_VP_STOPPED);
        } else if (vp->cancel || returned) {
            end = vp->cancel ? PTA_VP_RUN_CANCELLED : PTA_VP_RUN_RETURNED;
            vp->cancel = false;
            break;
        } else if (!set->run) {
            g_cond_wait(&vp->wake, &set->lock);
        } else if (pta_halt_pending(set->halt)) {
            set_state_locked(vp, PTA_VP_HALTED);
            g_cond_wait(&vp->wake, &set->lock);
        } else if (vp->suspended) {
            set_state_locked(vp, PTA_VP_SUSPENDED);
            g_cond_wait(&vp->wake, &set->lock);
        } else {
            returned = enter_guest_locked(vp) == PTA_EXIT_CANCELLED;
        }
    }
    unbind_locked(vp);
    g_mutex_unlock(&set->lock);
    return end;
}

/* ---- from outside ---- */

/* Makes it look at its mailbox and flags. A kick is never lost: run() under way or about to start
 * comes back. */
static void nudge_locked(PtaVpRunner *vp)
{
    g_cond_signal(&vp->wake);
    if (vp->in_guest) {
        vp->set->be->ops->vp_kick(vp->be_vp);
    }
}

/* Any thread, under the halt's lock: the set's own must not be taken here, for a VP holds that one
 * when it asks for the halt. So all are kicked, in guest code or not. */
static void on_halt(void *opaque)
{
    PtaVpSet *set = opaque;
    for (unsigned i = 0; i < set->n; i++) {
        set->be->ops->vp_kick(set->vps[i].be_vp);
    }
}

void pta_vp_runner_cancel(PtaVpRunner *vp)
{
    g_mutex_lock(&vp->set->lock);
    vp->cancel = true;
    nudge_locked(vp);
    g_mutex_unlock(&vp->set->lock);
}

/* ---- life ---- */

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
        PtaVpRunner *vp = &set->vps[set->n];
        vp->be_vp = be->ops->vp_create(be, set->n, error);
        if (!vp->be_vp) {
            pta_vp_set_free(set);
            return NULL;
        }
        vp->set = set;
        g_cond_init(&vp->wake);
    }
    pta_halt_set_waker(halt, on_halt, set);
    return set;
}

static void *vp_thread(void *data)
{
    PtaVpRunner *vp = data;
    /* A cancellation asks for the thread of a runner; this one has no other use for its own. */
    while (pta_vp_runner_run(vp) != PTA_VP_RUN_TEARDOWN) {}
    return NULL;
}

bool pta_vp_set_spawn(PtaVpSet *set, GError **error)
{
    pta_assert_main();
    for (unsigned i = 0; i < set->n; i++) {
        PtaVpRunner *vp = &set->vps[i];
        g_mutex_lock(&set->lock);
        bool bound = vp->bound;
        g_mutex_unlock(&set->lock);
        if (bound || vp->thread) {
            continue;
        }
        g_autofree char *name = g_strdup_printf("vp%u", i);
        vp->thread = g_thread_try_new(name, vp_thread, vp, error);
        if (!vp->thread) {
            return false;
        }
    }
    return true;
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
    for (unsigned i = 0; i < set->n; i++) {
        nudge_locked(&set->vps[i]);
    }
    for (unsigned i = 0; i < set->n; i++) {
        while (set->vps[i].bound) {
            g_cond_wait(&set->changed, &set->lock);
        }
    }
    g_mutex_unlock(&set->lock);
    for (unsigned i = 0; i < set->n; i++) {
        if (set->vps[i].thread) {
            g_thread_join(set->vps[i].thread);
        }
        g_assert(!set->vps[i].first);
        set->be->ops->vp_destroy(set->vps[i].be_vp);
        g_cond_clear(&set->vps[i].wake);
    }
    g_cond_clear(&set->changed);
    g_mutex_clear(&set->lock);
    g_free(set);
}

unsigned pta_vp_set_size(const PtaVpSet *set)
{
    return set->n;
}

static PtaVpRunner *runner(PtaVpSet *set, unsigned vp)
{
    g_assert(vp < set->n);
    return &set->vps[vp];
}

PtaVpRunner *pta_vp_set_runner(PtaVpSet *set, unsigned vp)
{
    return runner(set, vp);
}

PtaBackendVp *pta_vp_set_get(PtaVpSet *set, unsigned vp)
{
    return runner(set, vp)->be_vp;
}

/* ---- running ---- */

void pta_vp_set_start(PtaVpSet *set)
{
    pta_assert_main();
    g_mutex_lock(&set->lock);
    set->run = true;
    for (unsigned i = 0; i < set->n; i++) {
        g_cond_signal(&set->vps[i].wake);
    }
    g_mutex_unlock(&set->lock);
}

void pta_vp_set_stop(PtaVpSet *set)
{
    pta_assert_main();
    g_mutex_lock(&set->lock);
    set->run = false;
    for (unsigned i = 0; i < set->n; i++) {
        nudge_locked(&set->vps[i]);
    }
    for (unsigned i = 0; i < set->n; i++) {
        PtaVpRunner *vp = &set->vps[i];
        while (vp->state != PTA_VP_STOPPED) {
            if (!vp->bound) { /* cancelled: it is out, and nobody is there to say so */
                vp->state = PTA_VP_STOPPED;
            } else {
                g_cond_wait(&set->changed, &set->lock);
            }
        }
    }
    g_mutex_unlock(&set->lock);
}

bool pta_vp_set_started(const PtaVpSet *set)
{
    return set->run;
}

void pta_vp_set_suspend(PtaVpSet *set, unsigned index, bool suspended)
{
    pta_assert_main();
    PtaVpRunner *vp = runner(set, index);
    g_mutex_lock(&set->lock);
    vp->suspended = suspended;
    nudge_locked(vp);
    while (suspended && vp->in_guest) {
        g_cond_wait(&set->changed, &set->lock);
    }
    g_mutex_unlock(&set->lock);
}

PtaVpState pta_vp_set_state(PtaVpSet *set, unsigned vp)
{
    g_mutex_lock(&set->lock);
    PtaVpState state = runner(set, vp)->state;
    g_mutex_unlock(&set->lock);
    return state;
}

int pta_vp_set_thread_id(PtaVpSet *set, unsigned vp)
{
    PtaVpRunner *r = runner(set, vp);
    g_mutex_lock(&set->lock);
    while (r->thread && r->thread_id == 0) { /* it is on its way */
        g_cond_wait(&set->changed, &set->lock);
    }
    int id = r->thread_id;
    g_mutex_unlock(&set->lock);
    return id;
}

/* ---- requests ---- */

static void push_call_locked(PtaVpRunner *vp, Call *call)
{
    call->next = NULL;
    if (vp->first) {
        vp->last->next = call;
    } else {
        vp->first = call;
    }
    vp->last = call;
    if (!vp->bound) { /* no thread has it: this one does, and run() waits for it */
        vp->bound = true;
        serve_calls_locked(vp);
        unbind_locked(vp);
    } else {
        nudge_locked(vp);
    }
}

void pta_vp_set_call(PtaVpSet *set, unsigned vp, PtaVpFn *fn, void *data)
{
    pta_assert_main();
    Call call = { .fn = fn, .data = data };
    g_mutex_lock(&set->lock);
    push_call_locked(runner(set, vp), &call);
    while (!call.finished) {
        g_cond_wait(&set->changed, &set->lock);
    }
    g_mutex_unlock(&set->lock);
}

void pta_vp_set_call_all(PtaVpSet *set, PtaVpFn *fn, void *data, size_t stride)
{
    pta_assert_main();
    Call calls[PTA_MAX_VPS] = { 0 };
    g_mutex_lock(&set->lock);
    for (unsigned i = 0; i < set->n; i++) {
        calls[i] = (Call){ .fn = fn, .data = (char *)data + i * stride };
        push_call_locked(&set->vps[i], &calls[i]);
    }
    for (unsigned i = 0; i < set->n; i++) {
        while (!calls[i].finished) {
            g_cond_wait(&set->changed, &set->lock);
        }
    }
    g_mutex_unlock(&set->lock);
}

void pta_vp_set_post(PtaVpSet *set, unsigned vp, PtaVpFn *fn, PtaMainFn *done, void *data)
{
    pta_assert_main();
    Call *call = g_new(Call, 1);
    *call = (Call){ .fn = fn, .data = data, .done = done };
    g_mutex_lock(&set->lock);
    push_call_locked(runner(set, vp), call);
    g_mutex_unlock(&set->lock);
}
