/*
 * System calls by io_uring. Completions raise an eventfd that the context polls. No more calls are
 * in the ring than its completion queue holds; the others wait in a list.
 */
#include "config.h"

#include "devices/block/file.h"

#include <errno.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ENTRIES 128

typedef struct Uring {
    PtaFileEngine parent;
    PtaFileDoneFn *done; /* CONST */
    void *opaque;        /* CONST */
    GSource *source;     /* CONST */
    int event_fd;        /* CONST */
    /* Context only. */
    struct io_uring ring;
    unsigned in_ring;
    PtaFileIo *first; /* waiting for a place in the ring, the oldest first */
    PtaFileIo **last;
} Uring;

typedef struct UringSource {
    GSource source;
    Uring *u;
} UringSource;

static void prepare(struct io_uring_sqe *sqe, const PtaFileIo *io)
{
    switch (io->call) {
    case PTA_FILE_READV:
        io_uring_prep_readv(sqe, io->fd, io->iov, io->n_iov, io->offset);
        break;
    case PTA_FILE_WRITEV:
        io_uring_prep_writev(sqe, io->fd, io->iov, io->n_iov, io->offset);
        sqe->rw_flags = io->sync ? RWF_DSYNC : 0;
        break;
    case PTA_FILE_FDATASYNC:
        io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
        break;
    case PTA_FILE_FALLOCATE:
        io_uring_prep_fallocate(sqe, io->fd, io->mode, (off_t)io->offset, (off_t)io->len);
        break;
    case PTA_FILE_FAIL:
        io_uring_prep_nop(sqe);
        break;
    }
}

/* Fills the ring from the list and tells the kernel. */
static void pump(Uring *u)
{
    while (u->first && u->in_ring < ENTRIES) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
        if (!sqe) {
            break;
        }
        PtaFileIo *io = u->first;
        u->first = io->next;
        if (!u->first) {
            u->last = &u->first;
        }
        prepare(sqe, io);
        io_uring_sqe_set_data(sqe, io);
        u->in_ring++;
    }
    if (io_uring_sq_ready(&u->ring) > 0) {
        int n = io_uring_submit(&u->ring);
        if (n < 0 || io_uring_sq_ready(&u->ring) > 0) {
            /* EAGAIN, EBUSY, EINTR: the kernel is short of memory; it keeps its place. */
            g_source_set_ready_time(u->source, g_get_monotonic_time() + 1000);
        }
    }
}

static gboolean uring_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    Uring *u = ((UringSource *)source)->u;
    uint64_t count;
    g_source_set_ready_time(source, -1);
    if (read(u->event_fd, &count, sizeof(count)) < 0) {
        g_assert(errno == EAGAIN || errno == EINTR);
    }
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        PtaFileIo *io = io_uring_cqe_get_data(cqe);
        if (io->call != PTA_FILE_FAIL) {
            io->result = cqe->res;
        }
        io_uring_cqe_seen(&u->ring, cqe);
        u->in_ring--;
        u->done(u->opaque, io);
    }
    pump(u);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs uring_funcs = { .dispatch = uring_dispatch };

static bool has_operations(struct io_uring *ring)
{
    static const int needed[] = { IORING_OP_NOP, IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
                                  IORING_OP_FALLOCATE };
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool all = probe != NULL;
    for (size_t i = 0; all && i < G_N_ELEMENTS(needed); i++) {
        all = io_uring_opcode_supported(probe, needed[i]);
    }
    io_uring_free_probe(probe);
    return all;
}

static PtaFileEngine *uring_create(GMainContext *context, PtaFileDoneFn *done, void *opaque,
                                   GError **error)
{
    Uring *u = g_new0(Uring, 1);
    u->parent.ops = &pta_file_uring;
    u->done = done;
    u->opaque = opaque;
    u->last = &u->first;
    int err = io_uring_queue_init(ENTRIES, &u->ring, 0);
    if (err < 0) {
        pta_throw_errno(error, -err, "this host refuses io_uring");
        g_free(u);
        return NULL;
    }
    u->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (u->event_fd < 0 || !has_operations(&u->ring) ||
        io_uring_register_eventfd(&u->ring, u->event_fd) < 0) {
        pta_throw(error, PTA_ERROR_UNSUPPORTED, "this host's io_uring lacks what is needed");
        io_uring_queue_exit(&u->ring);
        pta_close(u->event_fd);
        g_free(u);
        return NULL;
    }
    u->source = g_source_new(&uring_funcs, sizeof(UringSource));
    ((UringSource *)u->source)->u = u;
    g_source_add_unix_fd(u->source, u->event_fd, G_IO_IN);
    PTA_TSAN_RELEASE(u->source);
    g_source_attach(u->source, context);
    return &u->parent;
}

static void uring_submit(PtaFileEngine *e, PtaFileIo *io)
{
    Uring *u = (Uring *)e;
    io->next = NULL;
    *u->last = io;
    u->last = &io->next;
}

static void uring_commit(PtaFileEngine *e)
{
    pump((Uring *)e);
}

static void uring_destroy(PtaFileEngine *e)
{
    Uring *u = (Uring *)e;
    g_assert(u->in_ring == 0 && !u->first);
    g_source_destroy(u->source);
    g_source_unref(u->source);
    io_uring_queue_exit(&u->ring);
    pta_close(u->event_fd);
    g_free(u);
}

const PtaFileEngineOps pta_file_uring = {
    .name = "io_uring",
    .create = uring_create,
    .submit = uring_submit,
    .commit = uring_commit,
    .destroy = uring_destroy,
};
