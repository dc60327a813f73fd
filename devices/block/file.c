/*
 * Raw images and block devices. A request is a sequence of system calls, until all of it is done:
 * counts may fall short, lists of buffers may be longer than a call takes, and O_DIRECT wants
 * aligned buffers, which a guest need not give.
 *
 * Context: that of the engine, but for making and freeing it.
 */
#include "config.h"

#include "devices/block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/virtio/iov.h"
#include "qmp/gen/types.h"

#define SECTOR       512u
#define BOUNCE_MAX   ((size_t)PTA_MIB)
#define ZERO_SIZE    65536u
#define ZERO_PIECES  16u
#define DIRECT_ALIGN 4096u /* what every file system is content with under O_DIRECT */

typedef struct File {
    PtaBlock parent;
    int fd;
    uint64_t file_size; /* at the start; parent.size is this, rounded up */
    uint32_t align;     /* of buffers and offsets, under O_DIRECT */
    PtaFileEngine *engine;
    uint8_t *zeros; /* ZERO_SIZE of them, made when they are needed */
} File;

typedef struct FileRequest {
    PtaFileIo io;
    File *file;
    PtaBlockRequest *req;
    uint64_t done;      /* bytes */
    void *bounce;       /* an aligned buffer, BOUNCE_MAX or what is left at first use */
    bool bounced;       /* this step goes through it */
    bool writing_zeros; /* fallocate was refused */
    bool syncing;       /* the last step: what was allocated or freed is to be stable */
    struct iovec iov[ZERO_PIECES];
} FileRequest;

static void file_step(FileRequest *fr);

static void request_end(FileRequest *fr, int error)
{
    File *f = fr->file;
    PtaBlockRequest *req = fr->req;
    free(fr->bounce);
    g_free(fr);
    pta_block_complete(&f->parent, req, error);
}

static void issue(FileRequest *fr, PtaFileCall call)
{
    fr->io.call = call;
    fr->file->engine->ops->submit(fr->file->engine, &fr->io);
}

/* An end that has to come from the engine: done() is not called from within submit. */
static void issue_failure(FileRequest *fr, int error)
{
    fr->io.result = error;
    issue(fr, PTA_FILE_FAIL);
}

/* ---- reading and writing ---- */

static bool is_aligned(const PtaBlockRequest *req, unsigned n_iov, uint32_t align)
{
    for (unsigned i = 0; i < n_iov; i++) {
        if (((uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len) % align != 0) {
            return false;
        }
    }
    return true;
}

static bool use_bounce(FileRequest *fr)
{
    PtaBlockRequest *req = fr->req;
    size_t len = (size_t)MIN(req->len - fr->done, BOUNCE_MAX);
    if (!fr->bounce && posix_memalign(&fr->bounce, DIRECT_ALIGN, len) != 0) {
        fr->bounce = NULL;
        issue_failure(fr, -ENOMEM);
        return false;
    }
    if (req->op == PTA_BLOCK_WRITE) {
        pta_iov_to_buf(req->iov, req->n_iov, 0, fr->bounce, len);
    }
    fr->bounced = true;
    fr->iov[0] = (struct iovec){ fr->bounce, len };
    fr->io.iov = fr->iov;
    fr->io.n_iov = 1;
    return true;
}

static void step_transfer(FileRequest *fr)
{
    PtaBlockRequest *req = fr->req;
    fr->io.iov = req->iov;
    fr->io.n_iov = MIN(req->n_iov, IOV_MAX);
    fr->bounced = false;
    fr->io.offset = req->offset + fr->done;
    if (fr->file->parent.direct && !is_aligned(req, fr->io.n_iov, fr->file->align) &&
        !use_bounce(fr)) {
        return;
    }
    fr->io.sync = req->flags & PTA_BLOCK_FUA;
    issue(fr, req->op == PTA_BLOCK_READ ? PTA_FILE_READV : PTA_FILE_WRITEV);
}

/* The file ends within the last sector: the rest of it is zeros. */
static void zero_tail(FileRequest *fr)
{
    PtaBlockRequest *req = fr->req;
    for (unsigned i = 0; i < req->n_iov; i++) {
        memset(req->iov[i].iov_base, 0, req->iov[i].iov_len);
    }
    request_end(fr, 0);
}

static void transferred(FileRequest *fr, size_t n)
{
    PtaBlockRequest *req = fr->req;
    bool read = req->op == PTA_BLOCK_READ;
    if (read && fr->bounced) {
        pta_iov_from_buf(req->iov, req->n_iov, 0, fr->bounce, n);
    }
    fr->done += n;
    pta_iov_advance(&req->iov, &req->n_iov, n);
    uint64_t at = req->offset + fr->done;
    if (fr->done == req->len) {
        request_end(fr, 0);
    } else if (read && at >= fr->file->file_size) {
        zero_tail(fr);
    } else if (n == 0) {
        /* Somebody made the file shorter; or no space is left, without a word. */
        request_end(fr, read ? -EIO : -ENOSPC);
    } else {
        file_step(fr);
    }
}

/* ---- zeros and discard ---- */

static void step_write_zeros(FileRequest *fr)
{
    File *f = fr->file;
    if (!f->zeros) {
        void *zeros;
        if (posix_memalign(&zeros, DIRECT_ALIGN, ZERO_SIZE) != 0) {
            issue_failure(fr, -ENOMEM);
            return;
        }
        f->zeros = memset(zeros, 0, ZERO_SIZE);
    }
    uint64_t left = fr->req->len - fr->done;
    unsigned n = 0;
    for (; n < ZERO_PIECES && left > 0; n++) {
        size_t part = (size_t)MIN(left, ZERO_SIZE);
        fr->iov[n] = (struct iovec){ f->zeros, part };
        left -= part;
    }
    fr->io.iov = fr->iov;
    fr->io.n_iov = n;
    fr->io.offset = fr->req->offset + fr->done;
    fr->io.sync = fr->req->flags & PTA_BLOCK_FUA;
    issue(fr, PTA_FILE_WRITEV);
}

static void step_fallocate(FileRequest *fr)
{
    const PtaBlockRequest *req = fr->req;
    bool punch = req->op == PTA_BLOCK_DISCARD || req->flags & PTA_BLOCK_UNMAP;
    fr->io.mode = FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
    fr->io.offset = req->offset;
    fr->io.len = req->len;
    issue(fr, PTA_FILE_FALLOCATE);
}

static void fallocated(FileRequest *fr, int64_t result)
{
    bool unsupported = result == -EOPNOTSUPP || result == -ENOTTY || result == -ENODEV ||
                       result == -ENOSYS || result == -EINVAL;
    if (unsupported && fr->req->op == PTA_BLOCK_DISCARD) {
        request_end(fr, 0); /* it was a hint */
    } else if (unsupported) {
        fr->writing_zeros = true;
        file_step(fr);
    } else if (result < 0) {
        request_end(fr, (int)result);
    } else if (fr->req->flags & PTA_BLOCK_FUA) {
        fr->syncing = true;
        file_step(fr);
    } else {
        request_end(fr, 0);
    }
}

/* ---- the sequence ---- */

static void file_step(FileRequest *fr)
{
    if (fr->syncing) {
        issue(fr, PTA_FILE_FDATASYNC);
        return;
    }
    switch (fr->req->op) {
    case PTA_BLOCK_READ:
    case PTA_BLOCK_WRITE:
        step_transfer(fr);
        break;
    case PTA_BLOCK_FLUSH:
        fr->syncing = true;
        issue(fr, PTA_FILE_FDATASYNC);
        break;
    case PTA_BLOCK_WRITE_ZEROES:
        if (fr->writing_zeros) {
            step_write_zeros(fr);
            break;
        }
        /* fall through */
    case PTA_BLOCK_DISCARD:
        step_fallocate(fr);
        break;
    }
}

static void file_done(void *opaque, PtaFileIo *io)
{
    (void)opaque;
    FileRequest *fr = (FileRequest *)io;
    int64_t result = io->result;
    if (result == -EINTR || result == -EAGAIN) {
        file_step(fr);
        return;
    }
    if (io->call == PTA_FILE_FALLOCATE) {
        fallocated(fr, result);
    } else if (result < 0 || fr->syncing) {
        request_end(fr, (int)MIN(result, 0));
    } else if (fr->writing_zeros) {
        fr->done += (uint64_t)result;
        if (fr->done == fr->req->len || result == 0) {
            request_end(fr, result == 0 ? -ENOSPC : 0);
        } else {
            file_step(fr);
        }
    } else {
        transferred(fr, (size_t)result);
    }
}

static void file_submit(PtaBlock *b, PtaBlockRequest *req)
{
    File *f = (File *)b;
    FileRequest *fr = g_new0(FileRequest, 1);
    fr->file = f;
    fr->req = req;
    fr->io.fd = f->fd;
    file_step(fr);
}

static void file_commit(PtaBlock *b)
{
    PtaFileEngine *e = ((File *)b)->engine;
    e->ops->commit(e);
}

static void file_free(PtaBlock *b)
{
    File *f = (File *)b;
    if (f->engine) {
        f->engine->ops->destroy(f->engine);
    }
    pta_close(f->fd);
    free(f->zeros);
    g_free(b->filename);
    g_free(f);
}

static const PtaBlockClass file_class = { file_submit, file_commit, file_free };

/* ---- making one ---- */

/* File systems differ in what O_DIRECT wants, and few say it: so a read is tried. */
static uint32_t probe_alignment(int fd, uint32_t at_least)
{
    g_autofree char *buf = g_malloc(3 * DIRECT_ALIGN);
    for (uint32_t align = at_least; align < DIRECT_ALIGN; align *= 2) {
        char *page = (char *)(((uintptr_t)buf + DIRECT_ALIGN - 1) & ~(uintptr_t)(DIRECT_ALIGN - 1));
        if (pread(fd, page + align, align, 0) >= 0) {
            return align;
        }
    }
    return MAX(at_least, DIRECT_ALIGN);
}

static bool file_measure(File *f, GError **error)
{
    PtaBlock *b = &f->parent;
    struct stat st;
    if (fstat(f->fd, &st) < 0) {
        return pta_throw_errno(error, errno, "cannot look at %s", b->filename);
    }
    b->logical_size = SECTOR;
    b->physical_size = SECTOR;
    b->discard_align = SECTOR;
    if (S_ISBLK(st.st_mode)) {
        int logical = 0;
        unsigned physical = 0;
        if (ioctl(f->fd, BLKGETSIZE64, &f->file_size) < 0 ||
            ioctl(f->fd, BLKSSZGET, &logical) < 0 || ioctl(f->fd, BLKPBSZGET, &physical) < 0) {
            return pta_throw_errno(error, errno, "cannot ask for the size of %s", b->filename);
        }
        b->logical_size = (uint32_t)MAX(logical, (int)SECTOR);
        b->physical_size = MAX(physical, b->logical_size);
        b->discard_align = b->physical_size;
    } else if (S_ISREG(st.st_mode)) {
        f->file_size = (uint64_t)st.st_size;
        if (st.st_blksize >= (long)SECTOR && st.st_blksize <= 65536 &&
            pta_is_pow2((uint64_t)st.st_blksize)) {
            b->physical_size = (uint32_t)st.st_blksize;
            b->discard_align = b->physical_size; /* holes are made of whole blocks */
        }
    } else {
        return pta_throw(error, PTA_ERROR_BAD_IMAGE, "%s is neither a file nor a block device",
                         b->filename);
    }
    if (b->direct) {
        b->logical_size = probe_alignment(f->fd, b->logical_size);
        b->physical_size = MAX(b->physical_size, b->logical_size);
        f->align = b->logical_size;
    }
    b->size = pta_align_up(f->file_size, b->logical_size);
    if (f->file_size == 0 || b->size > INT64_MAX) {
        return pta_throw(error, PTA_ERROR_BAD_IMAGE, "%s is empty or too large", b->filename);
    }
    return true;
}

static bool file_start_engine(File *f, BlockAio aio, GMainContext *context, GError **error)
{
    g_autoptr(GError) refused = NULL;
    if (aio != BLOCK_AIO_THREADS) {
        f->engine = pta_file_uring.create(context, file_done, f, &refused);
        if (!f->engine && aio == BLOCK_AIO_IO_URING) {
            g_propagate_error(error, g_steal_pointer(&refused));
            return false;
        }
    }
    if (!f->engine) {
        if (refused) {
            g_info("%s: %s; using threads", f->parent.filename, refused->message);
        }
        f->engine = pta_file_threads.create(context, file_done, f, error);
    }
    if (f->engine) {
        f->parent.aio = f->engine->ops->name;
    }
    return f->engine != NULL;
}

PtaBlock *pta_block_file_new(const BlockFileConfig *config, const char *base_dir,
                             GMainContext *context, GError **error)
{
    File *f = g_new0(File, 1);
    PtaBlock *b = &f->parent;
    b->klass = &file_class;
    b->context = g_main_context_ref(context);
    b->filename = pta_resolve_path(base_dir, config->path);
    b->driver = "file";
    b->read_only = config->read_only;
    b->direct = config->direct;
    f->fd = g_open(b->filename,
                   (b->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                       (b->direct ? O_DIRECT : 0),
                   0);
    if (f->fd < 0) {
        pta_throw_errno(error, errno, "cannot open %s", b->filename);
    } else if (file_measure(f, error) && pta_file_lock(f->fd, b->filename, b->read_only, error) &&
               file_start_engine(f, config->aio, context, error)) {
        return b;
    }
    file_free(b);
    return NULL;
}
