/* Host memory behind guest memory. No state but the backing's own. */
#include "config.h"

#include "src/memory/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

struct PtaBacking {
    uint64_t size; /* CONST */
    int fd;        /* CONST; -1 if private */
};

PtaBacking *pta_backing_new(const PtaBackingParams *params, GError **error)
{
    g_assert(params->size != 0 && params->size % PTA_PAGE_SIZE == 0);
    pta_autofd int fd = -1;
    if (!params->private_anonymous) {
        fd = memfd_create(params->name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0) {
            pta_throw_errno(error, errno, "memory: cannot create a memfd");
            return NULL;
        }
        /* Nothing may pull guest pages from under a running VP. */
        if (ftruncate(fd, (off_t)params->size) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
            pta_throw_errno(error, errno, "memory: failed to allocate %" PRIu64 " bytes",
                            params->size);
            return NULL;
        }
    }
    PtaBacking *backing = g_atomic_rc_box_new0(PtaBacking);
    backing->size = params->size;
    backing->fd = g_steal_fd(&fd);
    return backing;
}

PtaBacking *pta_backing_ref(PtaBacking *backing)
{
    return g_atomic_rc_box_acquire(backing);
}

static void clear(void *data)
{
    pta_close(((PtaBacking *)data)->fd);
}

void pta_backing_unref(PtaBacking *backing)
{
    if (backing) {
        g_atomic_rc_box_release_full(backing, clear);
    }
}

uint64_t pta_backing_size(const PtaBacking *backing)
{
    return backing->size;
}

int pta_backing_fd(const PtaBacking *backing)
{
    return backing->fd;
}

bool pta_backing_is_private(const PtaBacking *backing)
{
    return backing->fd < 0;
}

bool pta_backing_map(PtaBacking *backing, uint64_t offset, uint64_t size, void *host, bool writable,
                     GError **error)
{
    g_assert(offset <= backing->size && size <= backing->size - offset);
    int flags =
        MAP_FIXED | MAP_NORESERVE | (backing->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    int prot = PROT_READ | (writable ? PROT_WRITE : 0);
    if (mmap(host, size, prot, flags, backing->fd, backing->fd < 0 ? 0 : (off_t)offset) ==
        MAP_FAILED) {
        return pta_throw_errno(error, errno, "memory: failed to map %" PRIu64 " bytes", size);
    }
    madvise(host, size, MADV_DONTDUMP); /* advice: a core file without guest RAM */
    return true;
}
