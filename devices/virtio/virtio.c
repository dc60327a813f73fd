/*
 * The device behind the registers: see virtio.h. A notification sets a bit and writes to an eventfd;
 * the I/O thread takes all bits at once. Where the back end has doorbells, each queue has an eventfd
 * of its own that the kernel signals. To reset or to quiesce is to wait until the back end has
 * given back every request, so that nothing is written to guest memory afterwards.
 */
#include "config.h"

#include "devices/virtio/virtio.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/io.h"
#include "devices/virtio/mmio.h"

#define RING_FEATURES                                                                    \
    (UINT64_C(1) << PTA_VIRTIO_F_INDIRECT_DESC | UINT64_C(1) << PTA_VIRTIO_F_EVENT_IDX | \
     UINT64_C(1) << PTA_VIRTIO_F_VERSION_1)

#define STATUS_KNOWN                                                           \
    (PTA_VIRTIO_S_ACKNOWLEDGE | PTA_VIRTIO_S_DRIVER | PTA_VIRTIO_S_DRIVER_OK | \
     PTA_VIRTIO_S_FEATURES_OK | PTA_VIRTIO_S_NEEDS_RESET | PTA_VIRTIO_S_FAILED)

/* ---- interrupts ---- */

/*
 * lock held. The line is an edge each time, and stays up until the driver has acknowledged: so a
 * driver that makes its input level-triggered, whatever the tables say, hears of it too. The eventfd
 * is for a device that is started: what comes later must not wait in it while a state is saved.
 */
static void interrupt(PtaVirtio *vd, uint32_t bits)
{
    g_mutex_lock(&vd->irq_lock);
    vd->s.interrupt_status |= bits;
    vd->n_interrupts++;
    if (!vd->irq_fd || !vd->started || !pta_irq_fd_signal(vd->irq_fd)) {
        pta_irq_set(&vd->irq, false);
        pta_irq_set(&vd->irq, true);
    }
    g_mutex_unlock(&vd->irq_lock);
}

uint32_t pta_virtio_interrupt_status(PtaVirtio *vd)
{
    g_mutex_lock(&vd->irq_lock);
    uint32_t status = vd->s.interrupt_status;
    g_mutex_unlock(&vd->irq_lock);
    return status;
}

void pta_virtio_interrupt_ack(PtaVirtio *vd, uint32_t bits)
{
    g_mutex_lock(&vd->irq_lock);
    vd->s.interrupt_status &= ~bits;
    if (vd->s.interrupt_status == 0) {
        pta_irq_set(&vd->irq, false);
    }
    g_mutex_unlock(&vd->irq_lock);
}

void pta_virtio_config_changed(PtaVirtio *vd)
{
    vd->s.config_generation++;
    if (vd->s.status & PTA_VIRTIO_S_DRIVER_OK) {
        interrupt(vd, PTA_VIRTIO_INT_CONFIG);
    }
}

void pta_virtio_fail(PtaVirtio *vd, const char *why)
{
    if (vd->s.status & PTA_VIRTIO_S_NEEDS_RESET) {
        return;
    }
    PTA_GUEST_ERROR("%s: %s; the device needs a reset", vd->parent.id, why);
    vd->s.status |= PTA_VIRTIO_S_NEEDS_RESET;
    pta_virtio_config_changed(vd);
}

static void queue_broke(void *opaque, PtaQueue *q, const char *why)
{
    (void)q;
    pta_virtio_fail(opaque, why);
}

/* ---- requests ---- */

bool pta_virtio_running(const PtaVirtio *vd)
{
    return vd->started && !vd->resetting &&
           (vd->s.status & (PTA_VIRTIO_S_DRIVER_OK | PTA_VIRTIO_S_NEEDS_RESET)) ==
               PTA_VIRTIO_S_DRIVER_OK;
}

void pta_virtio_kick(PtaVirtio *vd, unsigned queue)
{
    static const uint64_t one = 1;
    unsigned before = __atomic_fetch_or(&vd->kicked, 1u << queue, __ATOMIC_ACQ_REL);
    /* Bits that were set already have their wake-up under way. */
    if (before == 0 && write(vd->notify_fd, &one, sizeof(one)) < 0) {
        g_assert(errno == EAGAIN); /* the counter is at its limit: it is awake */
    }
}

void pta_virtio_for_each(PtaVirtio *vd, PtaQueue *q, PtaVirtioRequestFn *fn)
{
    unsigned budget = q->s.size;
    do {
        pta_queue_disable_notify(q);
        PtaChain *chain;
        while (budget > 0 && (chain = pta_queue_pop(q)) != NULL) {
            budget--;
            if (!fn(vd, q, chain)) {
                return;
            }
        }
        if (budget == 0) {
            pta_virtio_kick(vd, q->index);
            return;
        }
    } while (pta_queue_enable_notify(q));
}

void pta_virtio_pushed(PtaVirtio *vd, PtaQueue *q, unsigned n)
{
    vd->n_requests += n;
    if (pta_queue_wants_interrupt(q)) {
        interrupt(vd, PTA_VIRTIO_INT_QUEUE);
    }
}

void pta_virtio_complete(PtaVirtio *vd, PtaQueue *q, PtaChain *chain, uint32_t written)
{
    pta_queue_push(q, chain, written);
    pta_virtio_pushed(vd, q, 1);
}

void pta_virtio_begin(PtaVirtio *vd)
{
    vd->in_flight++;
}

void pta_virtio_end(PtaVirtio *vd)
{
    g_assert(vd->in_flight > 0);
    if (--vd->in_flight == 0) {
        g_cond_broadcast(&vd->idle);
    }
}

static bool is_idle(void *data)
{
    return ((PtaVirtio *)data)->in_flight == 0;
}

/* lock held, and given up while it waits */
static void drain_locked(PtaVirtio *vd)
{
    pta_io_wait(vd->parent.host->io_context, &vd->lock, &vd->idle, is_idle, vd);
}

/* ---- the I/O thread ---- */

typedef struct Waker {
    GSource source;
    PtaVirtio *vd;
} Waker;

/* Bit n: queue n's own eventfd was signalled. */
static unsigned bells_rung(PtaVirtio *vd)
{
    unsigned rung = 0;
    uint64_t count;
    for (unsigned i = 0; i < vd->n_bells; i++) {
        if (g_source_query_unix_fd(vd->waker, vd->bells[i].tag) != 0 &&
            read(vd->bells[i].bell.fd, &count, sizeof(count)) == sizeof(count)) {
            rung |= 1u << i;
        }
    }
    return rung;
}

static gboolean waker_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    PtaVirtio *vd = ((Waker *)source)->vd;
    uint64_t count;
    if (read(vd->notify_fd, &count, sizeof(count)) < 0) {
        g_assert(errno == EAGAIN || errno == EINTR);
    }
    unsigned kicked = __atomic_exchange_n(&vd->kicked, 0, __ATOMIC_ACQ_REL);
    unsigned rung = bells_rung(vd);
    kicked |= rung;
    g_mutex_lock(&vd->lock);
    vd->n_kicks++;
    vd->n_bells_rung += rung != 0;
    for (unsigned i = 0; i < vd->vclass->n_queues; i++) {
        if (kicked >> i & 1 && pta_virtio_running(vd) && vd->queues[i].active) {
            vd->vclass->kick(vd, &vd->queues[i]);
        }
    }
    g_mutex_unlock(&vd->lock);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs waker_funcs = { .dispatch = waker_dispatch };

/* ---- status ---- */

static void reset_locked(PtaVirtio *vd)
{
    uint32_t generation = vd->s.config_generation;
    for (unsigned i = 0; i < vd->vclass->n_queues; i++) {
        pta_queue_reset(&vd->queues[i]);
    }
    g_mutex_lock(&vd->irq_lock);
    vd->s = (PtaVirtioState){
        .offered_features = vd->features,
        .device_id = vd->vclass->device_id,
        .config_generation = generation, /* a driver may compare across a reset */
    };
    g_mutex_unlock(&vd->irq_lock);
    if (vd->vclass->reset) {
        vd->vclass->reset(vd);
    }
}

static void guest_reset_locked(PtaVirtio *vd)
{
    vd->resetting = true;
    drain_locked(vd);
    vd->resetting = false;
    reset_locked(vd);
    g_mutex_lock(&vd->irq_lock);
    pta_irq_set(&vd->irq, false);
    g_mutex_unlock(&vd->irq_lock);
}

static bool activate_queues(PtaVirtio *vd, PtaQueue *queues, uint64_t features, const char **why)
{
    for (unsigned i = 0; i < vd->vclass->n_queues; i++) {
        if (queues[i].s.ready && !pta_queue_activate(&queues[i], features, why)) {
            return false;
        }
    }
    return true;
}

static void driver_ok_locked(PtaVirtio *vd)
{
    const char *why = NULL;
    if (!activate_queues(vd, vd->queues, vd->s.driver_features, &why) ||
        (vd->vclass->activate && !vd->vclass->activate(vd, &why))) {
        pta_virtio_fail(vd, why);
    }
}

/*
 * 2.1 and 3.1.1: a driver adds one bit after another, in order; FAILED at any time. It cannot take
 * bits away but by a reset, and NEEDS_RESET is not its to write.
 */
void pta_virtio_set_status(PtaVirtio *vd, uint32_t status)
{
    static const struct {
        uint32_t bit;
        uint32_t before;
    } order[] = {
        { PTA_VIRTIO_S_ACKNOWLEDGE, 0 },
        { PTA_VIRTIO_S_DRIVER, PTA_VIRTIO_S_ACKNOWLEDGE },
        { PTA_VIRTIO_S_FEATURES_OK, PTA_VIRTIO_S_ACKNOWLEDGE | PTA_VIRTIO_S_DRIVER },
        { PTA_VIRTIO_S_DRIVER_OK,
          PTA_VIRTIO_S_ACKNOWLEDGE | PTA_VIRTIO_S_DRIVER | PTA_VIRTIO_S_FEATURES_OK },
    };
    const uint32_t own = PTA_VIRTIO_S_NEEDS_RESET | PTA_VIRTIO_S_FAILED;
    if (vd->resetting) {
        return; /* another VP's reset is under way */
    }
    if (status == 0) {
        guest_reset_locked(vd);
        return;
    }
    if (status & PTA_VIRTIO_S_FAILED) {
        vd->s.status |= PTA_VIRTIO_S_FAILED;
    }
    uint32_t have = vd->s.status & ~own;
    uint32_t want = status & ~own;
    if (want == have) {
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        if (have != order[i].before || want != (have | order[i].bit)) {
            continue;
        }
        if (order[i].bit == PTA_VIRTIO_S_FEATURES_OK &&
            (vd->s.driver_features & ~vd->features ||
             !pta_virtio_has(vd, PTA_VIRTIO_F_VERSION_1))) {
            PTA_GUEST_ERROR("%s: features 0x%" G_GINT64_MODIFIER
                            "x are not among 0x%" G_GINT64_MODIFIER "x, or lack VERSION_1",
                            vd->parent.id, vd->s.driver_features, vd->features);
            return; /* FEATURES_OK stays clear, which tells the driver (3.1.1, step 6) */
        }
        vd->s.status |= order[i].bit;
        if (order[i].bit == PTA_VIRTIO_S_DRIVER_OK) {
            driver_ok_locked(vd);
        }
        return;
    }
    PTA_GUEST_ERROR("%s: status 0x%x cannot follow 0x%x", vd->parent.id, status, vd->s.status);
}

/* ---- life ---- */

static void close_bells(PtaVirtio *vd)
{
    PtaDeviceHost *host = vd->parent.host;
    for (unsigned i = 0; i < vd->n_bells; i++) {
        g_autoptr(GError) error = NULL;
        if (!host->doorbell(host, &vd->bells[i].bell, false, &error)) {
            g_warning("%s: %s", vd->parent.id, error->message);
        }
        pta_close(vd->bells[i].bell.fd);
    }
    vd->n_bells = 0;
    g_clear_pointer(&vd->bells, g_free);
}

/* One doorbell for each queue, where the machine has them. */
static bool open_bells(PtaVirtio *vd, GError **error)
{
    PtaDeviceHost *host = vd->parent.host;
    if (!host->doorbell) {
        return true;
    }
    vd->bells = g_new0(PtaVirtioBell, vd->vclass->n_queues);
    for (unsigned i = 0; i < vd->vclass->n_queues; i++) {
        pta_autofd int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        vd->bells[i].bell = (PtaDoorbell){
            .fd = fd,
            .addr = vd->placed.base + PTA_VIRTIO_MMIO_QUEUE_NOTIFY,
            .size = 4,
            .value = i,
        };
        if (fd < 0 ? !pta_throw_errno(error, errno, "cannot make an eventfd")
                   : !host->doorbell(host, &vd->bells[i].bell, true, error)) {
            close_bells(vd);
            return false;
        }
        g_steal_fd(&fd);
        vd->n_bells++;
    }
    return true;
}

static void make_waker(PtaVirtio *vd)
{
    vd->waker = g_source_new(&waker_funcs, sizeof(Waker));
    ((Waker *)vd->waker)->vd = vd;
    g_source_add_unix_fd(vd->waker, vd->notify_fd, G_IO_IN);
    for (unsigned i = 0; i < vd->n_bells; i++) {
        vd->bells[i].tag = g_source_add_unix_fd(vd->waker, vd->bells[i].bell.fd, G_IO_IN);
    }
    PTA_TSAN_RELEASE(vd->waker);
    g_source_attach(vd->waker, vd->parent.host->io_context);
}

bool pta_virtio_realize(PtaVirtio *vd, const PtaVirtioClass *vclass, uint64_t features,
                        uint16_t queue_size, GError **error)
{
    PtaDeviceHost *host = vd->parent.host;
    g_assert(vclass->n_queues <= PTA_VIRTIO_MAX_QUEUES);
    vd->vclass = vclass;
    vd->features = features | RING_FEATURES;
    pta_autofd int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return pta_throw_errno(error, errno, "cannot make an eventfd");
    }
    if (!host->place(host, &vd->parent, PTA_PLACED_VIRTIO_MMIO, false, 0, PTA_VIRTIO_MMIO_SIZE,
                     &pta_virtio_mmio_ops, true, -1, &vd->placed, &vd->irq, error) ||
        !open_bells(vd, error)) {
        return false;
    }
    if (pta_irq_fds_direct(vd->irq.fds)) {
        vd->irq_fd = pta_irq_fd_new(&vd->irq, error);
        if (!vd->irq_fd) {
            close_bells(vd);
            return false;
        }
    }
    vd->notify_fd = g_steal_fd(&fd);
    g_mutex_init(&vd->lock);
    g_mutex_init(&vd->irq_lock);
    g_cond_init(&vd->idle);
    vd->queues = g_new0(PtaQueue, vclass->n_queues);
    for (unsigned i = 0; i < vclass->n_queues; i++) {
        pta_queue_init(&vd->queues[i], i, queue_size, host->memory, queue_broke, vd);
    }
    make_waker(vd);
    return true;
}

static void stop_waker(void *data)
{
    g_source_destroy(((PtaVirtio *)data)->waker);
}

void pta_virtio_unrealize(PtaVirtio *vd)
{
    pta_io_call(vd->parent.host->io_context, stop_waker, vd);
    g_source_unref(vd->waker);
    close_bells(vd);
    pta_irq_fd_free(vd->irq_fd);
    for (unsigned i = 0; i < vd->vclass->n_queues; i++) {
        pta_queue_clear(&vd->queues[i]);
    }
    g_free(vd->queues);
    pta_close(vd->notify_fd);
    g_cond_clear(&vd->idle);
    g_mutex_clear(&vd->irq_lock);
    g_mutex_clear(&vd->lock);
}

void pta_virtio_device_reset(PtaDevice *dev)
{
    PtaVirtio *vd = (PtaVirtio *)dev;
    g_mutex_lock(&vd->lock);
    g_assert(vd->in_flight == 0);
    reset_locked(vd);
    g_mutex_unlock(&vd->lock);
}

void pta_virtio_device_start(PtaDevice *dev)
{
    PtaVirtio *vd = (PtaVirtio *)dev;
    if (vd->irq_fd) {
        pta_irq_fd_start(vd->irq_fd);
    }
    g_mutex_lock(&vd->lock);
    vd->started = true;
    g_mutex_unlock(&vd->lock);
    /* What was announced while we stood still. */
    for (unsigned i = 0; i < vd->vclass->n_queues; i++) {
        pta_virtio_kick(vd, i);
    }
}

void pta_virtio_device_quiesce(PtaDevice *dev)
{
    PtaVirtio *vd = (PtaVirtio *)dev;
    g_mutex_lock(&vd->lock);
    vd->started = false;
    drain_locked(vd);
    g_mutex_unlock(&vd->lock);
    if (vd->irq_fd) {
        pta_irq_fd_stop(vd->irq_fd);
    }
}

/* ---- state ---- */

static const PtaStateField virtio_fields[] = {
    PTA_STATE_U64(PtaVirtioState, offered_features),
    PTA_STATE_U64(PtaVirtioState, driver_features),
    PTA_STATE_U32(PtaVirtioState, device_id),
    PTA_STATE_U32(PtaVirtioState, device_features_sel),
    PTA_STATE_U32(PtaVirtioState, driver_features_sel),
    PTA_STATE_U32(PtaVirtioState, queue_sel),
    PTA_STATE_U32(PtaVirtioState, shm_sel),
    PTA_STATE_U32(PtaVirtioState, status),
    PTA_STATE_U32(PtaVirtioState, config_generation),
    PTA_STATE_U32(PtaVirtioState, interrupt_status),
    {},
};

/* Only what a strict status machine can have led to. */
static bool virtio_validate(const void *state, GError **error)
{
    static const uint32_t reachable[] = { 0, 1, 3, 11, 15 };
    const PtaVirtioState *s = state;
    uint32_t steps = s->status & ~(PTA_VIRTIO_S_NEEDS_RESET | PTA_VIRTIO_S_FAILED);
    bool known = false;
    for (size_t i = 0; i < G_N_ELEMENTS(reachable); i++) {
        known |= steps == reachable[i];
    }
    if (!known || s->status & ~STATUS_KNOWN ||
        s->interrupt_status & ~(PTA_VIRTIO_INT_QUEUE | PTA_VIRTIO_INT_CONFIG)) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "the status cannot be");
    }
    if (s->status & PTA_VIRTIO_S_FEATURES_OK &&
        (s->driver_features & ~s->offered_features ||
         !(s->driver_features >> PTA_VIRTIO_F_VERSION_1 & 1))) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "features were accepted that were not offered");
    }
    return true;
}

const PtaStateDesc pta_virtio_state = {
    .name = "virtio",
    .version = 1,
    .size = sizeof(PtaVirtioState),
    .fields = virtio_fields,
    .validate = virtio_validate,
};

json_t *pta_virtio_device_save(PtaDevice *dev)
{
    PtaVirtio *vd = (PtaVirtio *)dev;
    const PtaVirtioClass *vc = vd->vclass;
    g_mutex_lock(&vd->lock);
    g_assert(vd->in_flight == 0);
    json_t *queues = json_array();
    for (unsigned i = 0; i < vc->n_queues; i++) {
        json_array_append_new(queues, pta_state_save(&pta_queue_state, &vd->queues[i].s));
    }
    g_mutex_lock(&vd->irq_lock);
    json_t *transport = pta_state_save(&pta_virtio_state, &vd->s);
    g_mutex_unlock(&vd->irq_lock);
    json_t *json = json_pack("{s:o, s:o}", "transport", transport, "queues", queues);
    if (vc->state) {
        json_object_set_new(json, "device",
                            pta_state_save(vc->state, (char *)vd + vc->state_offset));
    }
    g_mutex_unlock(&vd->lock);
    return json;
}

static bool queues_load(PtaVirtio *vd, json_t *json, const PtaVirtioState *s, PtaQueue *queues,
                        GError **error)
{
    unsigned n = vd->vclass->n_queues;
    if (!json_is_array(json) || json_array_size(json) != n) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "queues: expected an array of %u", n);
    }
    for (unsigned i = 0; i < n; i++) {
        PtaQueue *mine = &vd->queues[i];
        pta_queue_init(&queues[i], i, mine->s.max_size, mine->mem, mine->broke, mine->opaque);
        if (!pta_state_load(&pta_queue_state, json_array_get(json, i), &queues[i].s, error)) {
            g_prefix_error(error, "queues[%u]: ", i);
            return false;
        }
        if (queues[i].s.max_size != mine->s.max_size) {
            return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                             "queues[%u]: of at most %u entries, here at most %u", i,
                             queues[i].s.max_size, mine->s.max_size);
        }
    }
    const char *why;
    if ((s->status & (PTA_VIRTIO_S_DRIVER_OK | PTA_VIRTIO_S_NEEDS_RESET)) ==
            PTA_VIRTIO_S_DRIVER_OK &&
        !activate_queues(vd, queues, s->driver_features, &why)) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "queues: %s", why);
    }
    return true;
}

static bool restore_locked(PtaVirtio *vd, json_t *json, GError **error)
{
    const PtaVirtioClass *vc = vd->vclass;
    PtaVirtioState s;
    g_autofree PtaQueue *queues = g_new0(PtaQueue, vc->n_queues);
    g_autofree void *own = vc->state ? g_malloc0(vc->state->size) : NULL;
    if (json_object_size(json) != (vc->state ? 3 : 2)) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "expected transport, queues%s",
                         vc->state ? " and device" : "");
    }
    if (!pta_state_load(&pta_virtio_state, json_object_get(json, "transport"), &s, error)) {
        return false;
    }
    if (s.device_id != vc->device_id || s.driver_features & ~vd->features) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "of another type, or with features that this one does not have");
    }
    if (!queues_load(vd, json_object_get(json, "queues"), &s, queues, error) ||
        (vc->state && !pta_state_load(vc->state, json_object_get(json, "device"), own, error))) {
        return false;
    }
    for (unsigned i = 0; i < vc->n_queues; i++) {
        queues[i].spare = vd->queues[i].spare;
        vd->queues[i] = queues[i];
    }
    s.offered_features = vd->features;
    g_mutex_lock(&vd->irq_lock);
    vd->s = s;
    g_mutex_unlock(&vd->irq_lock);
    if (vc->state) {
        memcpy((char *)vd + vc->state_offset, own, vc->state->size);
    }
    if (vc->restored) {
        vc->restored(vd);
    }
    return true;
}

bool pta_virtio_device_restore(PtaDevice *dev, json_t *json, GError **error)
{
    PtaVirtio *vd = (PtaVirtio *)dev;
    g_mutex_lock(&vd->lock);
    g_assert(vd->in_flight == 0);
    bool ok = restore_locked(vd, json, error);
    g_mutex_unlock(&vd->lock);
    return ok;
}

/* ---- inspect; lock held ---- */

static char *status_text(uint32_t status)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } bits[] = {
        { PTA_VIRTIO_S_ACKNOWLEDGE, "acknowledge" }, { PTA_VIRTIO_S_DRIVER, "driver" },
        { PTA_VIRTIO_S_FEATURES_OK, "features-ok" }, { PTA_VIRTIO_S_DRIVER_OK, "driver-ok" },
        { PTA_VIRTIO_S_NEEDS_RESET, "needs-reset" }, { PTA_VIRTIO_S_FAILED, "failed" },
    };
    GString *text = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(bits); i++) {
        if (status & bits[i].bit) {
            g_string_append_printf(text, "%s%s", text->len ? " " : "", bits[i].name);
        }
    }
    if (status == 0) {
        g_string_assign(text, "reset");
    }
    return g_string_free(text, FALSE);
}

static void inspect_queue(void *obj, PtaInspect *req)
{
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_BOOL(PtaQueue, active, "active", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_BOOL(PtaQueue, broken, "broken", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U8(PtaQueue, s.ready, "ready", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U16(PtaQueue, s.size, "size", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U16(PtaQueue, s.max_size, "max-size", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U16(PtaQueue, s.next_avail, "next-avail", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U16(PtaQueue, s.next_used, "next-used", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U64(PtaQueue, s.desc, "desc-gpa", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U64(PtaQueue, s.avail, "avail-gpa", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U64(PtaQueue, s.used, "used-gpa", PTA_INSPECT_HEX),
        {},
    };
    const PtaQueue *q = obj;
    pta_inspect_fields(req, fields, q);
    pta_inspect_u64(req, "in-use", PTA_INSPECT_PLAIN, q->in_use);
}

static void inspect_queues(void *obj, PtaInspect *req)
{
    PtaVirtio *vd = obj;
    for (unsigned i = 0; i < vd->vclass->n_queues; i++) {
        char name[8];
        g_snprintf(name, sizeof(name), "%u", i);
        pta_inspect_child(req, name, PTA_INSPECT_PLAIN, inspect_queue, &vd->queues[i]);
    }
}

void pta_virtio_device_inspect(PtaDevice *dev, PtaInspect *req)
{
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_U64(PtaVirtio, features, "offered-features", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U64(PtaVirtio, s.driver_features, "driver-features", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U32(PtaVirtio, s.config_generation, "config-generation", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_BOOL(PtaVirtio, resetting, "resetting", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U64(PtaVirtio, n_kicks, "kicks", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(PtaVirtio, n_bells_rung, "doorbells", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(PtaVirtio, n_requests, "requests", PTA_INSPECT_COUNTER),
        {},
    };
    PtaVirtio *vd = (PtaVirtio *)dev;
    g_mutex_lock(&vd->lock);
    g_mutex_lock(&vd->irq_lock);
    uint64_t n_interrupts = vd->n_interrupts;
    uint32_t isr = vd->s.interrupt_status;
    g_mutex_unlock(&vd->irq_lock);
    g_autofree char *status = status_text(vd->s.status);
    pta_inspect_str(req, "status", PTA_INSPECT_PLAIN, status);
    pta_inspect_u64(req, "status-bits", PTA_INSPECT_HEX, vd->s.status);
    pta_inspect_u64(req, "interrupt-status", PTA_INSPECT_HEX, isr);
    pta_inspect_u64(req, "in-flight", PTA_INSPECT_PLAIN, vd->in_flight);
    pta_inspect_u64(req, "interrupts", PTA_INSPECT_COUNTER, n_interrupts);
    pta_inspect_fields(req, fields, vd);
    pta_inspect_child(req, "queues", PTA_INSPECT_PLAIN, inspect_queues, vd);
    if (vd->vclass->inspect) {
        vd->vclass->inspect(vd, req);
    }
    g_mutex_unlock(&vd->lock);
}
