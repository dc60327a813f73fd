/*
 * `memsave` and `pmemsave`: guest memory into a file, piece by piece, by a job's thread, while the
 * machine runs. Read by way of src/memory/memory.h, so what the guest does to its page tables or to
 * the pieces meanwhile is its own affair.
 *
 * A file that is not there yet is written under another name, and gets its own when it is complete. One
 * that is there is written in place, as QEMU does: clients make a file that they may read, hand over its
 * name, and keep it open. If that fails it is left empty.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/machine/machine-private.h"
#include "src/partition/x86-walk.h"

#define PIECE PTA_MIB

typedef struct Dump {
    PtaVm *vm; /* NULL: is gone */
    PtaMemory *mem;
    bool linear;
    PtaX86State state; /* of the VP whose page tables count */
    uint64_t at, size;
    char *path;
    GError *error;
    PtaVmDone *done;
    void *data;
} Dump;

static bool bad_range(const Dump *d, GError **error)
{
    return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                     "Invalid addr 0x%016" PRIx64 "/size %" PRId64 " specified", d->at,
                     (int64_t)d->size);
}

/* ---- the thread ---- */

static bool read_piece(const Dump *d, uint64_t at, uint8_t *buf, size_t n)
{
    if (d->linear) {
        return pta_x86_read_linear(d->mem, &d->state.regs, at, buf, n) == n;
    }
    return pta_memory_read(d->mem, at, buf, n) == PTA_MEM_OK;
}

static bool write_all(int fd, const uint8_t *buf, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, buf, n);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return false;
        }
        buf += done;
        n -= (size_t)done;
    }
    return true;
}

static bool copy(const Dump *d, int fd, const int *cancel, GError **error)
{
    g_autofree uint8_t *buf = g_malloc(PIECE);
    for (uint64_t done = 0; done < d->size;) {
        uint64_t at = d->at + done;
        size_t n = (size_t)MIN(PIECE, d->size - done);
        if (g_atomic_int_get(cancel)) {
            return pta_throw(error, PTA_ERROR_BAD_STATE, "the machine ends");
        }
        if (!read_piece(d, at, buf, n)) {
            return bad_range(d, error);
        }
        if (!write_all(fd, buf, n)) {
            return pta_throw(error, PTA_ERROR_HOST, "writing memory to '%s' failed: %s", d->path,
                             g_strerror(errno));
        }
        done += n;
    }
    return true;
}

static bool throw_open(const Dump *d, int errnum, GError **error)
{
    return pta_throw(error, PTA_ERROR_HOST, "Could not open '%s': %s", d->path, g_strerror(errnum));
}

static bool into_new_file(const Dump *d, const int *cancel, GError **error)
{
    g_autofree char *name = g_strconcat(d->path, ".XXXXXX", NULL);
    pta_autofd int fd = g_mkstemp_full(name, O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return throw_open(d, errno, error);
    }
    bool ok = copy(d, fd, cancel, error);
    if (ok && rename(name, d->path) < 0) {
        ok = throw_open(d, errno, error);
    }
    if (!ok) {
        unlink(name);
    }
    return ok;
}

static bool into_file(const Dump *d, int fd, const int *cancel, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return pta_throw(error, PTA_ERROR_HOST, "Could not open '%s': not a regular file", d->path);
    }
    if (ftruncate(fd, 0) < 0) {
        return throw_open(d, errno, error);
    }
    if (!copy(d, fd, cancel, error)) {
        if (ftruncate(fd, 0) < 0) {
            g_info("memory: %s keeps a part: %s", d->path, g_strerror(errno));
        }
        return false;
    }
    return true;
}

static void dump_work(void *data, const int *cancel)
{
    Dump *d = data;
    /* O_NONBLOCK: a FIFO that nobody reads is an error. */
    pta_autofd int fd = open(d->path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0) {
        into_file(d, fd, cancel, &d->error);
    } else if (errno == ENOENT) {
        into_new_file(d, cancel, &d->error);
    } else {
        throw_open(d, errno, &d->error);
    }
}

/* ---- the main thread ---- */

static void dump_done(void *data)
{
    Dump *d = data;
    d->done(d->data, d->error);
    g_clear_error(&d->error);
    g_free(d->path);
    g_free(d);
}

static void dump_fail(Dump *d, GError *error)
{
    d->error = error;
    dump_done(d);
}

static const PtaJobClass dump_job = { "memory-dump", dump_work, dump_done };

static void dump_start(Dump *d)
{
    GError *error = NULL;
    d->mem = d->vm->memory;
    if (!pta_jobs_start(d->vm->jobs, &dump_job, d, &error)) {
        dump_fail(d, error);
    }
}

/* The state of the VP is there. */
static void dump_have_state(void *data)
{
    Dump *d = data;
    GError *error = NULL;
    if (d->vm) {
        g_ptr_array_remove(d->vm->dumps, d);
        dump_start(d);
    } else {
        pta_throw(&error, PTA_ERROR_BAD_STATE, "the machine ends");
        dump_fail(d, error);
    }
}

void pta_vm_forget_dumps(PtaVm *vm)
{
    for (guint i = 0; i < vm->dumps->len; i++) {
        ((Dump *)g_ptr_array_index(vm->dumps, i))->vm = NULL;
    }
    g_ptr_array_free(vm->dumps, TRUE);
}

/* All of it is RAM, and no more than there is. */
static bool range_is_ram(PtaVm *vm, const Dump *d)
{
    if (d->size == 0 || d->size > pta_memory_ram_size(vm->memory)) {
        return d->size == 0;
    }
    if (d->linear) {
        return d->at + (d->size - 1) >= d->at;
    }
    struct iovec iov[64];
    unsigned n = G_N_ELEMENTS(iov);
    PtaMemStatus status = pta_memory_map(vm->memory, d->at, d->size, false, iov, &n);
    return status == PTA_MEM_OK || status == PTA_MEM_TOO_MANY; /* then the copy will see */
}

void pta_vm_save_memory(PtaVm *vm, int64_t vp, uint64_t at, uint64_t size, const char *path,
                        PtaVmDone *done, void *data)
{
    pta_assert_main();
    GError *error = NULL;
    Dump *d = g_new0(Dump, 1);
    *d = (Dump){ .vm = vm, .linear = vp >= 0, .at = at, .size = size, .done = done, .data = data };
    d->path = pta_resolve_path(vm->base_dir, path);
    if (!range_is_ram(vm, d)) {
        bad_range(d, &error);
        dump_fail(d, error);
    } else if (!d->linear) {
        dump_start(d);
    } else if (vp >= (int64_t)pta_vp_set_size(pta_partition_vps(vm->partition))) {
        pta_throw(&error, PTA_ERROR_GENERIC_ERROR, "Parameter 'cpu-index' expects a CPU number");
        dump_fail(d, error);
    } else if (vm->dumps->len >= PTA_MAX_JOBS) {
        pta_throw(&error, PTA_ERROR_BAD_STATE, "%d requests that take long are under way already",
                  PTA_MAX_JOBS);
        dump_fail(d, error);
    } else {
        g_ptr_array_add(vm->dumps, d);
        pta_partition_post_get_vp_state(vm->partition, (unsigned)vp, &d->state, dump_have_state, d);
    }
}
