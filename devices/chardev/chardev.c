/*
 * What all chardevs share: the output buffer, and the pump, a GSource that moves bytes between the
 * stream and the front end. The pump waits for input only while the front end has room, and for
 * output only while the last write could not be finished.
 */
#include "config.h"

#include "devices/chardev/backend.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "devices/io.h"
#include "qmp/gen/types.h"

#define OUT_SIZE   ((size_t)65536)
#define OUT_URGENT (OUT_SIZE / 4)
#define IN_CHUNK   4096
/* After a character, the next ones wait this long for others to go with them; one after silence does not. */
#define COALESCE_US  1000
#define FLUSH_END_US G_USEC_PER_SEC

typedef struct Pump {
    GSource source;
    PtaChardev *c;
} Pump;

/* ---- the front end's side ---- */

typedef struct FrontendRef {
    const PtaChardevFrontend *ops;
    void *opaque;
} FrontendRef;

/* Attaching and detaching happen in the context, so what is read here stays while we use it. */
static FrontendRef frontend_get(PtaChardev *c)
{
    g_mutex_lock(&c->lock);
    FrontendRef fe = { c->frontend, c->frontend_opaque };
    g_mutex_unlock(&c->lock);
    return fe;
}

void pta_chardev_send_event(PtaChardev *c, PtaChardevEvent event)
{
    FrontendRef fe = frontend_get(c);
    if (fe.ops && fe.ops->event) {
        fe.ops->event(fe.opaque, event);
    }
}

size_t pta_chardev_write(PtaChardev *c, const void *data, size_t len)
{
    const uint8_t *p = data;
    g_mutex_lock(&c->lock);
    if (c->klass->sink) {
        c->klass->sink(c, p, len);
        c->n_written += len;
        g_mutex_unlock(&c->lock);
        return len;
    }
    if (!c->open) {
        c->n_dropped += len;
        g_mutex_unlock(&c->lock); /* nobody is there: like a cable that hangs free */
        return len;
    }
    size_t n = MIN(len, OUT_SIZE - c->out_len);
    size_t tail = (c->out_head + c->out_len) % OUT_SIZE;
    size_t first = MIN(n, OUT_SIZE - tail);
    memcpy(c->out + tail, p, first);
    memcpy(c->out, p + first, n - first);
    bool urgent = c->out_len < OUT_URGENT && c->out_len + n >= OUT_URGENT;
    c->out_len += n;
    c->starved |= n < len;
    bool wake = n > 0 && !c->scheduled;
    c->scheduled |= wake;
    int64_t ready = c->pumped_us + COALESCE_US;
    g_mutex_unlock(&c->lock);
    if (urgent) {
        g_source_set_ready_time(c->pump, 0);
    } else if (wake) {
        g_source_set_ready_time(c->pump, ready > g_get_monotonic_time() ? ready : 0);
    }
    return n;
}

void pta_chardev_accept_input(PtaChardev *c)
{
    if (g_atomic_int_compare_and_exchange(&c->input_wanted, 1, 0)) {
        g_source_set_ready_time(c->pump, 0);
    }
}

typedef struct Attach {
    PtaChardev *c;
    const PtaChardevFrontend *frontend;
    void *opaque;
} Attach;

static void attach_run(void *data)
{
    Attach *a = data;
    g_mutex_lock(&a->c->lock);
    a->c->frontend = a->frontend;
    a->c->frontend_opaque = a->opaque;
    g_mutex_unlock(&a->c->lock);
    g_source_set_ready_time(a->c->pump, 0);
}

void pta_chardev_attach(PtaChardev *c, const PtaChardevFrontend *frontend, void *opaque)
{
    Attach a = { c, frontend, opaque };
    pta_io_call(c->context, attach_run, &a);
}

/* ---- the stream's side; context ---- */

/*
 * A descriptor is polled only while something is wanted of it: one whose other end is gone reports
 * that whatever one asks for, and would keep the thread busy.
 */
static void *fd_watch(PtaChardev *c, void *tag, int fd, GIOCondition events)
{
    bool want = fd >= 0 && events != 0;
    if (want && !tag) {
        return g_source_add_unix_fd(c->pump, fd, events);
    }
    if (!want && tag) {
        g_source_remove_unix_fd(c->pump, tag);
        return NULL;
    }
    return tag;
}

static void stream_watch(PtaChardev *c, bool input, bool output)
{
    c->in_tag = fd_watch(c, c->in_tag, c->in_fd, input ? G_IO_IN : 0);
    c->out_tag = fd_watch(c, c->out_tag, c->out_fd, output ? G_IO_OUT : 0);
}

void pta_chardev_set_stream(PtaChardev *c, int in_fd, int out_fd)
{
    stream_watch(c, false, false);
    c->in_fd = in_fd;
    c->out_fd = out_fd;
    c->out_blocked = false;
    g_source_set_ready_time(c->pump, 0);
}

void pta_chardev_set_open(PtaChardev *c, bool open)
{
    g_mutex_lock(&c->lock);
    bool was = c->open;
    c->open = open;
    bool starved = c->starved;
    if (!open) {
        c->out_len = 0;
        c->scheduled = false;
        c->starved = false;
    }
    g_mutex_unlock(&c->lock);
    if (was == open) {
        return;
    }
    pta_chardev_send_event(c, open ? PTA_CHARDEV_OPENED : PTA_CHARDEV_CLOSED);
    FrontendRef fe = frontend_get(c);
    if (!open && starved && fe.ops) {
        fe.ops->writable(fe.opaque);
    }
}

/* Writes what it can. False if the stream failed. */
static bool pump_output(PtaChardev *c)
{
    for (;;) {
        g_mutex_lock(&c->lock);
        size_t n = MIN(c->out_len, OUT_SIZE - c->out_head);
        const uint8_t *p = c->out + c->out_head;
        c->scheduled = n > 0;
        if (n > 0) {
            c->pumped_us = g_get_monotonic_time();
        }
        g_mutex_unlock(&c->lock);
        if (n == 0) {
            c->out_blocked = false;
            return true;
        }
        ssize_t done = c->klass->write(c, p, n); /* what is in the ring stays where it is */
        if (done == -EINTR) {
            continue;
        }
        if (done == -EAGAIN) {
            c->out_blocked = true;
            return true;
        }
        if (done < 0) {
            return false;
        }
        g_mutex_lock(&c->lock);
        c->out_head = (c->out_head + (size_t)done) % OUT_SIZE;
        c->out_len -= (size_t)done;
        c->n_written += (size_t)done;
        bool tell = c->starved && c->out_len <= OUT_SIZE / 2;
        if (tell) {
            c->starved = false;
        }
        g_mutex_unlock(&c->lock);
        FrontendRef fe = frontend_get(c);
        if (tell && fe.ops) {
            fe.ops->writable(fe.opaque);
        }
    }
}

static size_t frontend_room(PtaChardev *c)
{
    FrontendRef fe = frontend_get(c);
    size_t room = fe.ops ? fe.ops->room(fe.opaque) : 0;
    if (room == 0 && fe.ops) {
        g_atomic_int_set(&c->input_wanted, 1);
        room = fe.ops->room(fe.opaque); /* it may have grown before it could see the flag */
    }
    return room;
}

/* Reads what there is room for. False if the stream ended. */
static bool pump_input(PtaChardev *c)
{
    uint8_t buf[IN_CHUNK];
    size_t room = MIN(frontend_room(c), sizeof(buf));
    if (room == 0) {
        return true;
    }
    ssize_t n = c->klass->read(c, buf, room);
    if (n == -EAGAIN || n == -EINTR) {
        return true;
    }
    FrontendRef fe = frontend_get(c);
    if (n > 0 && fe.ops) {
        g_mutex_lock(&c->lock);
        c->n_read += (size_t)n;
        g_mutex_unlock(&c->lock);
        fe.ops->receive(fe.opaque, buf, (size_t)n);
    }
    return n >= 0;
}

static gboolean pump_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    PtaChardev *c = ((Pump *)source)->c;
    g_source_set_ready_time(source, -1);
    if (c->klass->sink) {
        return G_SOURCE_CONTINUE;
    }
    int in = c->in_tag ? g_source_query_unix_fd(source, c->in_tag) : 0;
    if (c->open && c->out_fd >= 0 && !pump_output(c)) {
        c->klass->hangup(c, true);
    } else if (in != 0 && c->in_fd >= 0 && !pump_input(c)) {
        c->klass->hangup(c, false);
    }
    if (!c->open && c->klass->accept) {
        c->klass->accept(c);
    }
    bool want = c->in_fd >= 0 && frontend_room(c) > 0;
    stream_watch(c, want, c->out_blocked);
    if (!c->open && c->klass->poll) {
        c->klass->poll(c);
        if (!c->open) {
            g_source_set_ready_time(source, g_get_monotonic_time() +
                                                c->klass->poll_ms * G_TIME_SPAN_MILLISECOND);
        }
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs pump_funcs = { .dispatch = pump_dispatch };

/* ---- life ---- */

static const PtaChardevClass *const classes[] = {
    [CHARDEV_CONFIG_TYPE_STDIO] = &pta_chardev_stdio,
    [CHARDEV_CONFIG_TYPE_PTY] = &pta_chardev_pty,
    [CHARDEV_CONFIG_TYPE_UNIX] = &pta_chardev_unix,
    [CHARDEV_CONFIG_TYPE_FILE] = &pta_chardev_file,
    [CHARDEV_CONFIG_TYPE_RINGBUF] = &pta_chardev_ringbuf,
    [CHARDEV_CONFIG_TYPE_NULL] = &pta_chardev_null,
};

static void chardev_destroy(PtaChardev *c)
{
    g_source_destroy(c->pump);
    g_source_unref(c->pump);
    g_main_context_unref(c->context);
    g_mutex_clear(&c->lock);
    g_free(c->out);
    g_free(c->label);
    g_free(c);
}

PtaChardev *pta_chardev_new(const PtaChardevParams *params, const ChardevConfig *config,
                            GError **error)
{
    const PtaChardevClass *klass = classes[config->type];
    PtaChardev *c = g_malloc0(klass->instance_size);
    c->klass = klass;
    c->label = g_strdup(params->label);
    c->context = g_main_context_ref(params->context);
    c->quit = params->quit;
    c->quit_opaque = params->opaque;
    c->in_fd = -1;
    c->out_fd = -1;
    g_mutex_init(&c->lock);
    c->out = klass->sink ? NULL : g_malloc(OUT_SIZE);
    c->pump = g_source_new(&pump_funcs, sizeof(Pump));
    ((Pump *)c->pump)->c = c;
    /* The union's branches are all pointers. */
    if (!klass->open(c, config->file, params->base_dir, error)) {
        chardev_destroy(c);
        return NULL;
    }
    g_source_set_ready_time(c->pump, 0);
    PTA_TSAN_RELEASE(c->pump);
    g_source_attach(c->pump, c->context);
    return c;
}

static void flush_to_the_end(PtaChardev *c)
{
    int64_t deadline = g_get_monotonic_time() + FLUSH_END_US;
    while (c->open && c->out_fd >= 0 && pump_output(c) && c->out_blocked) {
        int64_t left = deadline - g_get_monotonic_time();
        struct pollfd pfd = { .fd = c->out_fd, .events = POLLOUT };
        if (left <= 0 || poll(&pfd, 1, (int)(left / 1000) + 1) == 0) {
            return;
        }
    }
}

static void chardev_end(void *data)
{
    PtaChardev *c = data;
    g_mutex_lock(&c->lock);
    c->frontend = NULL;
    g_mutex_unlock(&c->lock);
    if (!c->klass->sink) {
        flush_to_the_end(c);
    }
    c->klass->close(c);
    g_source_destroy(c->pump);
}

void pta_chardev_free(PtaChardev *c)
{
    if (c) {
        pta_io_call(c->context, chardev_end, c);
        chardev_destroy(c);
    }
}

/* ---- for the monitor ---- */

const char *pta_chardev_label(const PtaChardev *c)
{
    return c->label;
}

char *pta_chardev_filename(PtaChardev *c)
{
    g_mutex_lock(&c->lock);
    char *name = c->klass->filename(c);
    g_mutex_unlock(&c->lock);
    return name;
}

bool pta_chardev_frontend_open(PtaChardev *c)
{
    return frontend_get(c).ops != NULL;
}

void pta_chardev_inspect(void *obj, PtaInspect *req)
{
    PtaChardev *c = obj;
    g_autofree char *filename = pta_chardev_filename(c);
    pta_inspect_str(req, "label", PTA_INSPECT_PLAIN, c->label);
    pta_inspect_str(req, "filename", PTA_INSPECT_PLAIN, filename);
    g_mutex_lock(&c->lock);
    pta_inspect_bool(req, "frontend-open", PTA_INSPECT_PLAIN, c->frontend != NULL);
    pta_inspect_bool(req, "open", PTA_INSPECT_PLAIN, c->open || c->klass->sink);
    pta_inspect_u64(req, "buffered", PTA_INSPECT_PLAIN, c->out_len);
    pta_inspect_bool(req, "full", PTA_INSPECT_PLAIN, c->starved);
    pta_inspect_u64(req, "bytes-written", PTA_INSPECT_COUNTER, c->n_written);
    pta_inspect_u64(req, "bytes-dropped", PTA_INSPECT_COUNTER, c->n_dropped);
    pta_inspect_u64(req, "bytes-read", PTA_INSPECT_COUNTER, c->n_read);
    g_mutex_unlock(&c->lock);
}

GBytes *pta_chardev_ringbuf_read(PtaChardev *c, size_t size, GError **error)
{
    if (c->klass != &pta_chardev_ringbuf) {
        pta_throw(error, PTA_ERROR_GENERIC_ERROR, "%s is not a ring buffer", c->label);
        return NULL;
    }
    return pta_ringbuf_take(c, size);
}
