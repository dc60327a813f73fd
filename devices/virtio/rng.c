/*
 * virtio-rng (virtio 1.2, 5.4): fills the driver's buffers from the host's getrandom(2), or from a
 * file that is given, which may be a device that answers slowly: then the request waits, and the
 * I/O thread does not.
 */
#include "config.h"

#include "devices/devices.h"
#include "devices/virtio/virtio.h"
#include "qmp/gen/types.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "devices/io.h"
#include "devices/virtio/iov.h"

#define RNG_DEVICE_ID  4
#define RNG_QUEUE_SIZE 64
/* More than that is not given at once: the driver asks again, and other devices get their turn. */
#define RNG_CHUNK 4096

typedef struct Rng {
    PtaVirtio parent;
    int fd;            /* CONST: -1: getrandom */
    GSource *readable; /* LOCKED(parent.lock): waits for fd, while a request is held back */
    bool exhausted;    /* LOCKED(parent.lock): the file ended; said once */
    uint64_t n_bytes;  /* LOCKED(parent.lock) */
} Rng;

static Rng *rng_of(PtaVirtio *vd)
{
    return (Rng *)vd;
}

/* Bytes that were got, at least 1; -EAGAIN if the source has none now. */
static ssize_t rng_bytes(Rng *rng, uint8_t *buf, size_t len)
{
    if (rng->fd >= 0 && !rng->exhausted) {
        ssize_t n = read(rng->fd, buf, len);
        if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) {
            return n > 0 ? n : -EAGAIN;
        }
        g_warning("%s: the source of entropy %s; the host's own is used from here on",
                  rng->parent.parent.id, n == 0 ? "has ended" : g_strerror(errno));
        rng->exhausted = true;
    }
    ssize_t n = getrandom(buf, len, GRND_NONBLOCK);
    return n > 0 ? n : -EAGAIN;
}

static gboolean rng_readable(int fd, GIOCondition condition, gpointer data)
{
    (void)fd, (void)condition;
    Rng *rng = data;
    g_mutex_lock(&rng->parent.lock);
    g_clear_pointer(&rng->readable, g_source_unref);
    g_mutex_unlock(&rng->parent.lock);
    pta_virtio_kick(&rng->parent, 0);
    return G_SOURCE_REMOVE;
}

static gboolean rng_retry(gpointer data)
{
    return rng_readable(-1, 0, data);
}

/* Comes back when the source has something. */
static void rng_wait_locked(Rng *rng)
{
    if (rng->readable) {
        return;
    }
    if (rng->fd >= 0 && !rng->exhausted) {
        rng->readable = g_unix_fd_source_new(rng->fd, G_IO_IN);
        g_source_set_callback(rng->readable, G_SOURCE_FUNC(rng_readable), rng, NULL);
    } else { /* the host has just booted */
        rng->readable = g_timeout_source_new(10);
        g_source_set_callback(rng->readable, rng_retry, rng, NULL);
    }
    g_source_attach(rng->readable, rng->parent.parent.host->io_context);
}

static bool rng_request(PtaVirtio *vd, PtaQueue *q, PtaChain *chain)
{
    Rng *rng = rng_of(vd);
    uint8_t buf[RNG_CHUNK];
    if (chain->n_in == 0) {
        pta_queue_push(q, chain, 0);
        pta_queue_break(q, "a request for entropy without a writable buffer");
        return false;
    }
    ssize_t n = rng_bytes(rng, buf, (size_t)MIN(chain->in_len, sizeof(buf)));
    if (n < 0) {
        pta_queue_unpop(q, chain);
        rng_wait_locked(rng);
        return false;
    }
    pta_iov_from_buf(chain->iov + chain->n_out, chain->n_in, 0, buf, (size_t)n);
    rng->n_bytes += (uint64_t)n;
    pta_virtio_complete(vd, q, chain, (uint32_t)n);
    return true;
}

static void rng_kick(PtaVirtio *vd, PtaQueue *q)
{
    if (!rng_of(vd)->readable) {
        pta_virtio_for_each(vd, q, rng_request);
    }
}

static void rng_inspect(PtaVirtio *vd, PtaInspect *req)
{
    const Rng *rng = rng_of(vd);
    pta_inspect_u64(req, "bytes", PTA_INSPECT_COUNTER, rng->n_bytes);
    pta_inspect_bool(req, "waits-for-source", PTA_INSPECT_PLAIN, rng->readable != NULL);
    pta_inspect_bool(req, "source-exhausted", PTA_INSPECT_PLAIN, rng->exhausted);
}

static const PtaVirtioClass rng_virtio = {
    .device_id = RNG_DEVICE_ID,
    .n_queues = 1,
    .kick = rng_kick,
    .inspect = rng_inspect,
};

static bool rng_realize(PtaDevice *dev, const void *config, GError **error)
{
    const VirtioRngConfig *cfg = config;
    Rng *rng = (Rng *)dev;
    pta_autofd int fd = -1;
    if (cfg->source) {
        g_autofree char *path = pta_resolve_path(dev->host->base_dir, cfg->source);
        fd = g_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
        if (fd < 0) {
            return pta_throw_errno(error, errno, "cannot open %s", path);
        }
    }
    if (!pta_virtio_realize(&rng->parent, &rng_virtio, 0, RNG_QUEUE_SIZE, error)) {
        return false;
    }
    rng->fd = g_steal_fd(&fd);
    return true;
}

static void rng_stop_waiting(void *data)
{
    Rng *rng = data;
    g_mutex_lock(&rng->parent.lock);
    if (rng->readable) {
        g_source_destroy(rng->readable);
        g_clear_pointer(&rng->readable, g_source_unref);
    }
    g_mutex_unlock(&rng->parent.lock);
}

static void rng_unrealize(PtaDevice *dev)
{
    Rng *rng = (Rng *)dev;
    pta_io_call(dev->host->io_context, rng_stop_waiting, rng);
    pta_virtio_unrealize(&rng->parent);
    pta_close(rng->fd);
}

const PtaDeviceClass pta_virtio_rng_class = {
    .type = "virtio-rng",
    .may_wait = true,
    .instance_size = sizeof(Rng),
    .realize = rng_realize,
    .reset = pta_virtio_device_reset,
    .start = pta_virtio_device_start,
    .quiesce = pta_virtio_device_quiesce,
    .unrealize = rng_unrealize,
    .save = pta_virtio_device_save,
    .restore = pta_virtio_device_restore,
    .inspect = pta_virtio_device_inspect,
};
