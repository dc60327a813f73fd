/*
 * Instructions that KVM cannot execute: another back end, the stepper, executes them one at a time on
 * the VP's state. It is made when the first such instruction is met, has a VP for each of ours and the
 * same memory. It is known by its ops table only.
 *
 * kvm_emulate() is of the VP's thread. Locks: slots_lock, then stepper_lock.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

struct KvmStepper {
    PtaBackend *be;
    PtaBackendVp *vps[PTA_MAX_VPS]; /* lent to the thread of our VP */
};

/* ---- life ---- */

static void stepper_free(KvmStepper *s)
{
    if (!s) {
        return;
    }
    for (unsigned i = 0; i < PTA_MAX_VPS; i++) {
        if (s->vps[i]) {
            s->be->ops->vp_destroy(s->vps[i]);
        }
    }
    if (s->be) {
        s->be->ops->destroy(s->be);
    }
    g_free(s);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvmStepper, stepper_free)

void kvm_emulate_init(KvmPartition *m)
{
    g_mutex_init(&m->stepper_lock);
}

void kvm_emulate_fini(KvmPartition *m)
{
    g_clear_pointer(&m->stepper, stepper_free);
    g_mutex_clear(&m->stepper_lock);
}

static bool map_slot(KvmStepper *s, const KvmSlot *slot, GError **error)
{
    return s->be->ops->map(s->be, slot->gpa, slot->size, slot->host, slot->flags, error);
}

static KvmStepper *stepper_new(KvmPartition *m, GError **error)
{
    const PtaBackendOps *ops = m->stepper_ops;
    if (!ops) {
        pta_throw(error, PTA_ERROR_UNSUPPORTED, "nothing else is there to execute it");
        return NULL;
    }
    const PtaBackendParams params = {
        .n_vps = m->n_vps,
        .cpuid = m->cpuid,
        .platform = m->platform,
        .hypervisor = m->hypervisor,
        .stepping = true,
    };
    g_autoptr(KvmStepper) s = g_new0(KvmStepper, 1);
    s->be = ops->create(&params, error);
    if (!s->be) {
        return NULL;
    }
    for (guint i = 0; i < m->slots->len; i++) {
        if (!map_slot(s, &g_array_index(m->slots, KvmSlot, i), error)) {
            return NULL;
        }
    }
    for (unsigned i = 0; i < m->n_vps; i++) {
        s->vps[i] = ops->vp_create(s->be, i, error);
        if (!s->vps[i]) {
            return NULL;
        }
    }
    if (m->stepper_sink &&
        !ops->dirty_start(s->be, m->stepper_sink, m->stepper_sink_opaque, error)) {
        return NULL;
    }
    return g_steal_pointer(&s);
}

/* The stepper, made if need be. */
static KvmStepper *stepper(KvmPartition *m, GError **error)
{
    KvmStepper *s = __atomic_load_n(&m->stepper, __ATOMIC_ACQUIRE);
    if (G_LIKELY(s)) {
        return s;
    }
    g_mutex_lock(&m->slots_lock);
    g_mutex_lock(&m->stepper_lock);
    s = m->stepper;
    if (!s) {
        s = stepper_new(m, error);
        __atomic_store_n(&m->stepper, s, __ATOMIC_RELEASE);
        if (s) {
            g_info("KVM cannot execute an instruction: the software CPU does, as from now");
        }
    }
    g_mutex_unlock(&m->stepper_lock);
    g_mutex_unlock(&m->slots_lock);
    return s;
}

/* ---- memory, as our own; slots_lock is held by those that change the map ---- */

bool kvm_emulate_map(KvmPartition *m, const KvmSlot *slot, GError **error)
{
    g_mutex_lock(&m->stepper_lock);
    bool ok = !m->stepper || map_slot(m->stepper, slot, error);
    g_mutex_unlock(&m->stepper_lock);
    return ok;
}

void kvm_emulate_unmap(KvmPartition *m, const KvmSlot *slot)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&m->stepper_lock);
    KvmStepper *s = m->stepper;
    if (s && !s->be->ops->unmap(s->be, slot->gpa, slot->size, &error)) {
        g_error("kvm: the stepper keeps memory that is gone: %s", error->message);
    }
    g_mutex_unlock(&m->stepper_lock);
}

bool kvm_emulate_dirty_start(KvmPartition *m, PtaDirtySinkFn *sink, void *opaque, GError **error)
{
    g_mutex_lock(&m->stepper_lock);
    KvmStepper *s = m->stepper;
    bool ok = !s || s->be->ops->dirty_start(s->be, sink, opaque, error);
    if (ok) {
        m->stepper_sink = sink;
        m->stepper_sink_opaque = opaque;
    }
    g_mutex_unlock(&m->stepper_lock);
    return ok;
}

void kvm_emulate_dirty_fetch(KvmPartition *m, uint64_t gpa, uint64_t size)
{
    g_mutex_lock(&m->stepper_lock);
    KvmStepper *s = m->stepper;
    if (s && m->stepper_sink) {
        s->be->ops->dirty_fetch(s->be, gpa, size);
    }
    g_mutex_unlock(&m->stepper_lock);
}

void kvm_emulate_dirty_stop(KvmPartition *m)
{
    g_mutex_lock(&m->stepper_lock);
    KvmStepper *s = m->stepper;
    if (s && m->stepper_sink) {
        s->be->ops->dirty_stop(s->be);
    }
    m->stepper_sink = NULL;
    g_mutex_unlock(&m->stepper_lock);
}

/* ---- one instruction ---- */

/* KVM has looked at the debugger's breakpoints before it gave up. */
static void set_debug(const KvmVp *vp, PtaBackendVp *lent)
{
    PtaGuestDebug debug = vp->debug;
    debug.pass = true;
    lent->be->ops->vp_set_debug(lent, &debug);
}

bool kvm_emulate(KvmVp *vp, PtaExit *exit)
{
    KvmPartition *m = vp->m;
    g_autoptr(GError) error = NULL;
    KvmStepper *s = stepper(m, &error);
    if (!vp->scratch) {
        vp->scratch = g_new(PtaX86State, 2);
    }
    PtaX86State *before = vp->scratch, *after = vp->scratch + 1;
    kvm_vp_get_step(vp, before);
    if (!s) {
        return kvm_internal_error(
            exit, "KVM cannot execute the instruction at 0x%" G_GINT64_MODIFIER "x: %s",
            before->regs.rip, error->message);
    }
    PtaBackendVp *lent = s->vps[vp->vp.index];
    const PtaBackendOps *ops = s->be->ops;
    if (!ops->vp_set_state(lent, before, &error)) {
        return kvm_internal_error(exit,
                                  "KVM cannot execute the instruction at 0x%" G_GINT64_MODIFIER
                                  "x, nor can the software CPU in this state: %s",
                                  before->regs.rip, error->message);
    }
    if (G_UNLIKELY(vp->debug.enabled)) {
        set_debug(vp, lent);
    }
    PtaExit step;
    ops->vp_run(lent, &step);
    if (G_UNLIKELY(vp->debug.enabled)) {
        ops->vp_set_debug(lent, &(PtaGuestDebug){ 0 });
    }
    if (step.reason == PTA_EXIT_INTERNAL_ERROR) {
        return kvm_internal_error(exit, "KVM cannot execute %s", step.error.text);
    }
    vp->stats[KVM_STAT_EMULATED]++;
    ops->vp_get_state(lent, after);
    if (!kvm_vp_set_step(vp, before, after, &error)) {
        return kvm_internal_error(exit, "after an instruction that KVM cannot execute: %s",
                                  error->message);
    }
    switch (step.reason) {
    case PTA_EXIT_SHUTDOWN:
        vp->shutdown = true;
        *exit = step;
        return false;
    case PTA_EXIT_DEBUG:
        *exit = step;
        return false;
    default:
        return true;
    }
}
