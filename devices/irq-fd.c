/*
 * Eventfds for interrupt lines: see irq-fd.h. `lock` covers which of them the back end has and which
 * are watched; pins are set without it.
 */
#include "config.h"

#define G_LOG_DOMAIN "devices"

#include "devices/irq-fd.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/io.h"

struct PtaIrqFds {
    PtaIrqFdsParams params; /* CONST */
    GMutex lock;
    GPtrArray *list;     /* LOCKED(lock): of PtaIrqFd */
    bool *direct;        /* LOCKED(lock): by pin */
    uint64_t *signalled; /* ATOMIC: by pin */
};

struct PtaIrqFd {
    PtaIrqFds *fds; /* CONST */
    unsigned pin;   /* CONST */
    int fd;         /* CONST */
    int bound;      /* ATOMIC; LOCKED(fds->lock) for changes: the back end has it */
    bool started;   /* LOCKED(fds->lock) */
    bool watched;   /* LOCKED(fds->lock): it was since it was started */
    GSource *watch; /* LOCKED(fds->lock): NULL unless it is watched */
};

PtaIrqFds *pta_irq_fds_new(const PtaIrqFdsParams *params)
{
    PtaIrqFds *fds = g_new0(PtaIrqFds, 1);
    fds->params = *params;
    g_mutex_init(&fds->lock);
    fds->list = g_ptr_array_new();
    fds->direct = g_new0(bool, params->n_pins);
    fds->signalled = g_new0(uint64_t, params->n_pins);
    return fds;
}

void pta_irq_fds_free(PtaIrqFds *fds)
{
    if (fds) {
        g_assert(fds->list->len == 0);
        g_ptr_array_free(fds->list, TRUE);
        g_free(fds->direct);
        g_free(fds->signalled);
        g_mutex_clear(&fds->lock);
        g_free(fds);
    }
}

bool pta_irq_fds_direct(const PtaIrqFds *fds)
{
    return fds && fds->params.bind;
}

uint64_t pta_irq_fds_signalled(PtaIrqFds *fds, unsigned pin)
{
    g_assert(pin < fds->params.n_pins);
    return __atomic_load_n(&fds->signalled[pin], __ATOMIC_RELAXED);
}

/* ---- watched ---- */

/* What was signalled becomes one edge, as it would in the kernel. Falls first: a device may hold the line. */
static void take(PtaIrqFd *fd)
{
    const PtaIrqFdsParams *p = &fd->fds->params;
    uint64_t count;
    if (read(fd->fd, &count, sizeof(count)) == sizeof(count)) {
        p->set(p->set_opaque, fd->pin, false);
        p->set(p->set_opaque, fd->pin, true);
        p->set(p->set_opaque, fd->pin, false);
    }
}

typedef struct Watch {
    GSource source;
    PtaIrqFd *fd;
} Watch;

static gboolean watch_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    take(((Watch *)source)->fd);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs watch_funcs = { .dispatch = watch_dispatch };

static void watch_locked(PtaIrqFd *fd)
{
    g_assert(!fd->watch);
    fd->watched = true;
    fd->watch = g_source_new(&watch_funcs, sizeof(Watch));
    ((Watch *)fd->watch)->fd = fd;
    g_source_add_unix_fd(fd->watch, fd->fd, G_IO_IN);
    PTA_TSAN_RELEASE(fd->watch);
    g_source_attach(fd->watch, fd->fds->params.context);
}

static void unwatch_locked(PtaIrqFd *fd)
{
    if (fd->watch) {
        g_source_destroy(fd->watch);
        g_clear_pointer(&fd->watch, g_source_unref);
    }
}

/* ---- bound ---- */

static bool bind_locked(PtaIrqFd *fd)
{
    const PtaIrqFdsParams *p = &fd->fds->params;
    g_autoptr(GError) error = NULL;
    if (!p->bind || !fd->fds->direct[fd->pin]) {
        return false;
    }
    if (!p->bind(p->bind_opaque, fd->pin, fd->fd, true, &error)) {
        g_warning("interrupt %u takes the long way: %s", fd->pin, error->message);
        return false;
    }
    g_atomic_int_set(&fd->bound, true);
    return true;
}

static void unbind_locked(PtaIrqFd *fd)
{
    const PtaIrqFdsParams *p = &fd->fds->params;
    g_autoptr(GError) error = NULL;
    if (!fd->bound) {
        return;
    }
    g_atomic_int_set(&fd->bound, false);
    if (!p->bind(p->bind_opaque, fd->pin, fd->fd, false, &error)) {
        g_warning("interrupt %u: %s", fd->pin, error->message);
    }
}

/* Not watched while it is bound, or a signal would come twice. */
static void settle_locked(PtaIrqFd *fd)
{
    bool want = fd->started && fd->fds->direct[fd->pin];
    if (fd->bound && !want) {
        unbind_locked(fd);
    }
    if (fd->started && !fd->bound) {
        unwatch_locked(fd);
        if (!bind_locked(fd)) {
            watch_locked(fd);
        }
    } else if (!fd->started) {
        unwatch_locked(fd);
    }
}

void pta_irq_fds_route(PtaIrqFds *fds, unsigned pin, bool direct)
{
    g_assert(pin < fds->params.n_pins);
    g_mutex_lock(&fds->lock);
    if (fds->direct[pin] != direct) {
        fds->direct[pin] = direct;
        for (guint i = 0; i < fds->list->len; i++) {
            PtaIrqFd *fd = g_ptr_array_index(fds->list, i);
            if (fd->pin == pin) {
                settle_locked(fd);
            }
        }
    }
    g_mutex_unlock(&fds->lock);
}

/* ---- for devices ---- */

PtaIrqFd *pta_irq_fd_new(const PtaIrqLine *line, GError **error)
{
    g_assert(line->fds && line->pin < line->fds->params.n_pins);
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0) {
        pta_throw_errno(error, errno, "cannot make an eventfd");
        return NULL;
    }
    PtaIrqFd *fd = g_new0(PtaIrqFd, 1);
    fd->fds = line->fds;
    fd->pin = line->pin;
    fd->fd = event;
    g_mutex_lock(&fd->fds->lock);
    g_ptr_array_add(fd->fds->list, fd);
    g_mutex_unlock(&fd->fds->lock);
    return fd;
}

void pta_irq_fd_start(PtaIrqFd *fd)
{
    g_mutex_lock(&fd->fds->lock);
    fd->started = true;
    settle_locked(fd);
    g_mutex_unlock(&fd->fds->lock);
}

static void nothing(void *unused)
{
    (void)unused;
}

void pta_irq_fd_stop(PtaIrqFd *fd)
{
    g_mutex_lock(&fd->fds->lock);
    bool watched = fd->watched;
    fd->watched = false;
    fd->started = false;
    settle_locked(fd);
    g_mutex_unlock(&fd->fds->lock);
    if (watched) { /* the I/O thread may be in its last dispatch */
        pta_io_call(fd->fds->params.context, nothing, NULL);
    }
    take(fd);
}

void pta_irq_fd_free(PtaIrqFd *fd)
{
    if (!fd) {
        return;
    }
    PtaIrqFds *fds = fd->fds;
    g_mutex_lock(&fds->lock);
    g_assert(!fd->started && !fd->bound && !fd->watch);
    g_ptr_array_remove(fds->list, fd);
    g_mutex_unlock(&fds->lock);
    pta_close(fd->fd);
    g_free(fd);
}

int pta_irq_fd_get(const PtaIrqFd *fd)
{
    return fd->fd;
}

bool pta_irq_fd_signal(PtaIrqFd *fd)
{
    static const uint64_t one = 1;
    if (!g_atomic_int_get(&fd->bound)) {
        return false;
    }
    __atomic_fetch_add(&fd->fds->signalled[fd->pin], 1, __ATOMIC_RELAXED);
    if (write(fd->fd, &one, sizeof(one)) < 0) {
        g_assert(errno == EAGAIN); /* the counter is at its limit: it is signalled */
    }
    return true;
}
