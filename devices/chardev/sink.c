/*
 * Chardevs that nobody sits at: a file, a ring buffer in memory, nothing. Output to the ring buffer
 * and to nothing is done at once, by the thread that writes.
 */
#include "config.h"

#include "devices/chardev/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "qmp/gen/types.h"

/* ---- file ---- */

static bool file_open(PtaChardev *c, const void *config, const char *base_dir, GError **error)
{
    const ChardevFileConfig *cfg = config;
    g_autofree char *path = pta_resolve_path(base_dir, cfg->path);
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | (cfg->append ? O_APPEND : O_TRUNC);
    int fd = g_open(path, flags, 0666);
    if (fd < 0) {
        return pta_throw_errno(error, errno, "cannot open %s", path);
    }
    c->out_fd = fd;
    c->open = true;
    return true;
}

static void file_close(PtaChardev *c)
{
    pta_close(c->out_fd);
    c->out_fd = -1;
}

static ssize_t file_write(PtaChardev *c, const uint8_t *buf, size_t len)
{
    ssize_t n = write(c->out_fd, buf, len);
    return n < 0 ? -errno : n;
}

static void file_hangup(PtaChardev *c, bool output)
{
    (void)output;
    g_warning("%s: the output file cannot be written to; output is dropped from here on", c->label);
    pta_chardev_set_open(c, false);
}

static char *file_filename(PtaChardev *c)
{
    (void)c;
    return g_strdup("file");
}

const PtaChardevClass pta_chardev_file = {
    .instance_size = sizeof(PtaChardev),
    .open = file_open,
    .close = file_close,
    .write = file_write,
    .hangup = file_hangup,
    .filename = file_filename,
};

/* ---- ring buffer ---- */

typedef struct Ringbuf {
    PtaChardev parent;
    uint8_t *ring;  /* LOCKED(parent.lock) */
    size_t size;    /* CONST; a power of two */
    uint64_t n_in;  /* LOCKED(parent.lock): bytes ever written … */
    uint64_t n_out; /* LOCKED(parent.lock): … and read or overwritten */
} Ringbuf;

static bool ringbuf_open(PtaChardev *c, const void *config, const char *base_dir, GError **error)
{
    (void)base_dir;
    const ChardevRingbufConfig *cfg = config;
    Ringbuf *rb = (Ringbuf *)c;
    if (!pta_is_pow2(cfg->size)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "size: expected a power of two, found %" G_GUINT64_FORMAT, cfg->size);
    }
    rb->size = cfg->size;
    rb->ring = g_try_malloc(rb->size);
    return rb->ring || pta_throw(error, PTA_ERROR_HOST, "no memory for a ring buffer");
}

static void ringbuf_close(PtaChardev *c)
{
    g_clear_pointer(&((Ringbuf *)c)->ring, g_free);
}

static void ringbuf_sink(PtaChardev *c, const uint8_t *data, size_t len)
{
    Ringbuf *rb = (Ringbuf *)c;
    if (len > rb->size) { /* only the end of it can stay */
        rb->n_in += len - rb->size;
        data += len - rb->size;
        len = rb->size;
    }
    size_t at = rb->n_in & (rb->size - 1);
    size_t first = MIN(len, rb->size - at);
    memcpy(rb->ring + at, data, first);
    memcpy(rb->ring, data + first, len - first);
    rb->n_in += len;
    rb->n_out = MAX(rb->n_out, rb->n_in < rb->size ? 0 : rb->n_in - rb->size);
}

GBytes *pta_ringbuf_take(PtaChardev *c, size_t size)
{
    Ringbuf *rb = (Ringbuf *)c;
    g_mutex_lock(&c->lock);
    size_t n = (size_t)MIN((uint64_t)size, rb->n_in - rb->n_out);
    if (n == 0) {
        g_mutex_unlock(&c->lock);
        return g_bytes_new_static("", 0);
    }
    uint8_t *bytes = g_malloc(n);
    size_t at = rb->n_out & (rb->size - 1);
    size_t first = MIN(n, rb->size - at);
    memcpy(bytes, rb->ring + at, first);
    memcpy(bytes + first, rb->ring, n - first);
    rb->n_out += n;
    g_mutex_unlock(&c->lock);
    return g_bytes_new_take(bytes, n);
}

static char *ringbuf_filename(PtaChardev *c)
{
    (void)c;
    return g_strdup("ringbuf");
}

const PtaChardevClass pta_chardev_ringbuf = {
    .instance_size = sizeof(Ringbuf),
    .open = ringbuf_open,
    .close = ringbuf_close,
    .sink = ringbuf_sink,
    .filename = ringbuf_filename,
};

/* ---- nothing ---- */

static bool null_open(PtaChardev *c, const void *config, const char *base_dir, GError **error)
{
    (void)c, (void)config, (void)base_dir, (void)error;
    return true;
}

static void null_close(PtaChardev *c)
{
    (void)c;
}

static void null_sink(PtaChardev *c, const uint8_t *data, size_t len)
{
    (void)c, (void)data, (void)len;
}

static char *null_filename(PtaChardev *c)
{
    (void)c;
    return g_strdup("null");
}

const PtaChardevClass pta_chardev_null = {
    .instance_size = sizeof(PtaChardev),
    .open = null_open,
    .close = null_close,
    .sink = null_sink,
    .filename = null_filename,
};
