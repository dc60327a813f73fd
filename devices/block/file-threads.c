/* System calls by a pool of threads, for hosts that refuse io_uring. */
#include "config.h"

#include "devices/block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#define N_THREADS 8

typedef struct Threads {
    PtaFileEngine parent;
    PtaFileDoneFn *done; /* CONST */
    void *opaque;        /* CONST */
    GThreadPool *pool;   /* CONST */
    GSource *source;     /* CONST */
    GMutex lock;
    PtaFileIo *first; /* LOCKED(lock): completed, the oldest first */
    PtaFileIo **last; /* LOCKED(lock) */
} Threads;

typedef struct ThreadsSource {
    GSource source;
    Threads *t;
} ThreadsSource;

static int64_t call(const PtaFileIo *io)
{
    ssize_t n;
    switch (io->call) {
    case PTA_FILE_READV:
        n = preadv(io->fd, io->iov, (int)io->n_iov, (off_t)io->offset);
        break;
    case PTA_FILE_WRITEV:
        n = pwritev2(io->fd, io->iov, (int)io->n_iov, (off_t)io->offset, io->sync ? RWF_DSYNC : 0);
        break;
    case PTA_FILE_FDATASYNC:
        n = fdatasync(io->fd);
        break;
    case PTA_FILE_FALLOCATE:
        n = fallocate(io->fd, io->mode, (off_t)io->offset, (off_t)io->len);
        break;
    default:
        return io->result;
    }
    return n < 0 ? -errno : n;
}

static void worker(gpointer data, gpointer user_data)
{
    PtaFileIo *io = data;
    Threads *t = user_data;
    PTA_TSAN_ACQUIRE(io);
    io->result = call(io);
    g_mutex_lock(&t->lock);
    bool wake = t->first == NULL;
    io->next = NULL;
    *t->last = io;
    t->last = &io->next;
    if (wake) { /* with the lock held, so that destroy() is not overtaken */
        g_source_set_ready_time(t->source, 0);
    }
    g_mutex_unlock(&t->lock);
}

static gboolean threads_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    Threads *t = ((ThreadsSource *)source)->t;
    g_mutex_lock(&t->lock);
    g_source_set_ready_time(source, -1);
    PtaFileIo *io = t->first;
    t->first = NULL;
    t->last = &t->first;
    g_mutex_unlock(&t->lock);
    while (io) {
        PtaFileIo *next = io->next;
        t->done(t->opaque, io);
        io = next;
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs threads_funcs = { .dispatch = threads_dispatch };

static PtaFileEngine *threads_create(GMainContext *context, PtaFileDoneFn *done, void *opaque,
                                     GError **error)
{
    Threads *t = g_new0(Threads, 1);
    t->parent.ops = &pta_file_threads;
    t->done = done;
    t->opaque = opaque;
    t->last = &t->first;
    g_autoptr(GError) refused = NULL;
    t->pool = g_thread_pool_new(worker, t, N_THREADS, false, &refused);
    if (!t->pool) {
        pta_throw(error, PTA_ERROR_HOST, "cannot make threads: %s", refused->message);
        g_free(t);
        return NULL;
    }
    g_mutex_init(&t->lock);
    t->source = g_source_new(&threads_funcs, sizeof(ThreadsSource));
    ((ThreadsSource *)t->source)->t = t;
    PTA_TSAN_RELEASE(t->source);
    g_source_attach(t->source, context);
    return &t->parent;
}

static void threads_submit(PtaFileEngine *e, PtaFileIo *io)
{
    PTA_TSAN_RELEASE(io);
    g_thread_pool_push(((Threads *)e)->pool, io, NULL);
}

static void threads_commit(PtaFileEngine *e)
{
    (void)e;
}

static void threads_destroy(PtaFileEngine *e)
{
    Threads *t = (Threads *)e;
    g_thread_pool_free(t->pool, false, true);
    g_source_destroy(t->source);
    g_source_unref(t->source);
    g_mutex_clear(&t->lock);
    g_free(t);
}

const PtaFileEngineOps pta_file_threads = {
    .name = "threads",
    .create = threads_create,
    .submit = threads_submit,
    .commit = threads_commit,
    .destroy = threads_destroy,
};
