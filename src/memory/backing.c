/* Host memory behind guest memory. No state but the backing's own. */
#include "config.h"

#define G_LOG_DOMAIN "memory"

#include "src/memory/backing-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

typedef enum PtaBackingState {
    SHARED, /* another process's manager may have the lock */
    OWNED,  /* this one has it */
    GONE,   /* it was handed over */
} PtaBackingState;

struct PtaBacking {
    uint64_t size;      /* CONST */
    uint64_t page_size; /* CONST */
    const char *type;   /* CONST */
    int fd;             /* CONST; -1 if private */
    bool on_disk;       /* CONST: neither tmpfs nor hugetlbfs nor private */
    bool made_file;     /* CONST */
    bool thp, pin;      /* CONST */
    int bind_node;      /* CONST: private memory is bound when it is mapped; else -1 */
    int state;          /* ATOMIC, PtaBackingState */
};

/* ---- making ---- */

static int make_memfd(const PtaBackingParams *p, GError **error)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    if (p->hugepage_size) {
        flags |= MFD_HUGETLB | (unsigned)__builtin_ctzll(p->hugepage_size) << MFD_HUGE_SHIFT;
    }
    pta_autofd int fd = memfd_create(p->name, flags);
    if (fd < 0) {
        pta_throw_errno(error, errno, "memory: cannot create a memfd%s",
                        p->hugepage_size ? " of huge pages" : "");
        return -1;
    }
    /* Nothing may pull guest pages from under a running VP. */
    if (ftruncate(fd, (off_t)p->size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
        pta_throw_errno(error, errno, "memory: failed to allocate %" PRIu64 " bytes", p->size);
        return -1;
    }
    return g_steal_fd(&fd);
}

/* Blocks of the disk now: a guest's write into a hole of a full disk would be a SIGBUS. */
static bool size_file(int fd, const PtaBackingParams *p, GError **error)
{
    if (fallocate(fd, 0, 0, (off_t)p->size) == 0 ||
        (errno == EOPNOTSUPP && ftruncate(fd, (off_t)p->size) == 0)) {
        return true;
    }
    return pta_throw_errno(error, errno, "memory: \"%s\": failed to allocate %" PRIu64 " bytes",
                           p->path, p->size);
}

static int make_file(const PtaBackingParams *p, bool *made, GError **error)
{
    pta_autofd int fd = open(p->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        *made = size_file(fd, p, error);
        if (!*made) {
            unlink(p->path);
            return -1;
        }
        return g_steal_fd(&fd);
    }
    if (errno == EEXIST) {
        fd = open(p->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    }
    if (fd < 0) {
        pta_throw_errno(error, errno, "memory: cannot open \"%s\"", p->path);
    }
    return g_steal_fd(&fd);
}

static int take_fd(const PtaBackingParams *p, GError **error)
{
    int fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        pta_throw_errno(error, errno, "memory: descriptor %d", p->fd);
    }
    return fd;
}

/* What was there before is what it is said to be. */
static bool check_existing(int fd, const PtaBackingParams *p, GError **error)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (fstat(fd, &st) < 0 || flags < 0) {
        return pta_throw_errno(error, errno, "memory: \"%s\"", p->name);
    }
    if (!S_ISREG(st.st_mode) || (flags & O_ACCMODE) != O_RDWR) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory: \"%s\" is no memory; expected a regular file, open for reading "
                         "and writing",
                         p->path ? p->path : p->name);
    }
    if ((uint64_t)st.st_size != p->size) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory: \"%s\" has %" PRIu64 " bytes; expected %" PRIu64,
                         p->path ? p->path : p->name, (uint64_t)st.st_size, p->size);
    }
    return true;
}

/* Memory that somebody made is sealed as ours is; a file of a disk cannot be. */
static bool seal_existing(int fd, const PtaBackingParams *p, GError **error)
{
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0 ||
        (seals == F_SEAL_SEAL && p->path)) { /* as tmpfs has it for all its files with a name */
        return true;
    }
    return pta_throw_errno(error, errno, "memory: cannot seal \"%s\" against shrinking",
                           p->path ? p->path : p->name);
}

/* 0 if the file system is one of disks. */
static uint64_t memory_page_size(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0) {
        return 0;
    }
    switch ((uint32_t)fs.f_type) {
    case TMPFS_MAGIC:
        return PTA_PAGE_SIZE;
    case HUGETLBFS_MAGIC:
        return (uint64_t)fs.f_bsize;
    default:
        return 0;
    }
}

uint64_t pta_backing_page_size_of(int fd, GError **error)
{
    uint64_t page_size = memory_page_size(fd);
    if (page_size == 0) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "it is no memory, but a file of a disk");
    }
    return page_size;
}

static bool is_huge(const PtaBacking *b)
{
    return b->page_size > PTA_PAGE_SIZE;
}

/*
 * The pages' node belongs to the file, and huge pages are taken from the pool: both through a
 * mapping that goes again.
 */
static bool place_pages(PtaBacking *b, const PtaBackingParams *p, GError **error)
{
    void *host = mmap(NULL, b->size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | (is_huge(b) ? 0 : MAP_NORESERVE), b->fd, 0);
    g_autoptr(GError) why = NULL;
    if (host == MAP_FAILED) {
        pta_throw_errno(&why, errno, "failed to map %" PRIu64 " bytes", b->size);
    } else {
        if (!p->has_numa_node || pta_backing_bind(host, b->size, p->numa_node, &why)) {
            if (is_huge(b)) {
                pta_backing_prefault(host, b->size, &why);
            }
        }
        munmap(host, b->size);
    }
    if (!why) {
        return true;
    }
    if (!is_huge(b)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    g_autofree char *page = pta_format_size(b->page_size);
    return pta_throw(error, PTA_ERROR_HOST,
                     "memory: failed to allocate %" PRIu64 " huge pages of %s (%s): increase the "
                     "hugetlb pool, by writing their number to /sys/kernel/mm/hugepages/"
                     "hugepages-%" PRIu64 "kB/nr_hugepages",
                     b->size / b->page_size, page, why->message, b->page_size / PTA_KIB);
}

static int open_backing(const PtaBackingParams *p, bool *made, GError **error)
{
    pta_autofd int fd = p->path     ? make_file(p, made, error)
                        : p->has_fd ? take_fd(p, error)
                                    : make_memfd(p, error);
    if (fd < 0 ||
        ((p->path || p->has_fd) &&
         (!check_existing(fd, p, error) || !seal_existing(fd, p, error))) ||
        !pta_backing_lock(fd, p->path ? p->path : p->name, error)) {
        return -1;
    }
    return g_steal_fd(&fd);
}

static void warn_no_thp(const PtaBackingParams *p)
{
    const char *why = pta_backing_no_thp("/sys", !p->private_anonymous);
    if (why) {
        g_message("\"%s\" will have no transparent huge pages: %s", p->name, why);
    }
}

static PtaBacking *make_backing(const PtaBackingParams *params, bool *made, GError **error)
{
    if (!pta_backing_params_check(params, error)) {
        g_prefix_error(error, "memory: ");
        return NULL;
    }
    pta_autofd int fd = params->private_anonymous ? -1 : open_backing(params, made, error);
    if (fd < 0 && !params->private_anonymous) {
        return NULL;
    }
    g_autoptr(PtaBacking) b = g_atomic_rc_box_new0(PtaBacking);
    b->size = params->size;
    b->page_size = fd >= 0 ? memory_page_size(fd) : PTA_PAGE_SIZE;
    b->on_disk = b->page_size == 0;
    b->page_size = MAX(b->page_size, PTA_PAGE_SIZE);
    b->type = pta_backing_params_type(params);
    b->made_file = *made;
    b->thp = params->thp;
    b->pin = params->pin;
    b->state = OWNED;
    b->bind_node = fd < 0 && params->has_numa_node ? (int)params->numa_node : -1;
    b->fd = g_steal_fd(&fd);
    if (is_huge(b) && (b->size % b->page_size != 0 || params->legacy)) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                  "memory: \"%s\" is on hugetlbfs; expected a backing of type hugetlb",
                  params->path ? params->path : params->name);
        return NULL;
    }
    if (b->fd >= 0 && (is_huge(b) || params->has_numa_node) && !place_pages(b, params, error)) {
        return NULL;
    }
    if (b->thp) {
        warn_no_thp(params);
    }
    return g_steal_pointer(&b);
}

PtaBacking *pta_backing_new(const PtaBackingParams *params, GError **error)
{
    bool made = false;
    PtaBacking *b = make_backing(params, &made, error);
    if (!b && made) {
        unlink(params->path);
    }
    return b;
}

PtaBacking *pta_backing_new_shared(int fd, uint64_t size, uint64_t page_size, GError **error)
{
    g_autoptr(PtaBacking) b = g_atomic_rc_box_new0(PtaBacking);
    b->size = size;
    b->page_size = page_size;
    b->type = page_size > PTA_PAGE_SIZE ? "hugetlb" : "memfd";
    b->bind_node = -1;
    b->fd = fd;
    if (is_huge(b) && !place_pages(b, &(PtaBackingParams){ 0 }, error)) {
        return NULL; /* whoever sent it need not have taken its pages from the pool */
    }
    return g_steal_pointer(&b);
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

/* ---- looking ---- */

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

uint64_t pta_backing_page_size(const PtaBacking *backing)
{
    return backing->page_size;
}

uint64_t pta_backing_alignment(const PtaBacking *backing)
{
    return MAX(backing->page_size, PTA_HUGEPAGE_2M);
}

bool pta_backing_made_file(const PtaBacking *backing)
{
    return backing->made_file;
}

const char *pta_backing_type(const PtaBacking *backing)
{
    return backing->type;
}

bool pta_backing_allocated(const PtaBacking *backing, uint64_t *bytes)
{
    struct stat st;
    if (backing->fd < 0 || backing->on_disk || fstat(backing->fd, &st) < 0) {
        return false;
    }
    *bytes = (uint64_t)st.st_blocks * 512;
    return true;
}

/* ---- ownership ---- */

bool pta_backing_is_owned(const PtaBacking *backing)
{
    return g_atomic_int_get(&backing->state) == OWNED;
}

bool pta_backing_own(PtaBacking *backing, GError **error)
{
    g_assert(g_atomic_int_get(&backing->state) != GONE);
    if (backing->fd >= 0 && !pta_backing_lock(backing->fd, "guest-ram", error)) {
        return false;
    }
    g_atomic_int_set(&backing->state, OWNED);
    return true;
}

/* Its descriptor is now one without the lock, under the same number: the lock stays with the other
 * process, and with the mappings of this one. */
void pta_backing_disown(PtaBacking *backing)
{
    pta_autofd int fd = backing->fd >= 0 ? pta_backing_reopen(backing, NULL) : -1;
    if (fd >= 0) {
        dup3(fd, backing->fd, O_CLOEXEC);
    }
    g_atomic_int_set(&backing->state, GONE);
}

int pta_backing_reopen(const PtaBacking *backing, GError **error)
{
    char path[40];
    g_snprintf(path, sizeof(path), "/proc/self/fd/%d", backing->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        pta_throw_errno(error, errno, "memory: cannot open %s", path);
    }
    return fd;
}

/* ---- mapping ---- */

/* What goes with every mapping. Transparent huge pages are advice; a pin is a promise. */
static bool dress(const PtaBacking *b, void *host, uint64_t size, bool writable, GError **error)
{
    madvise(host, size, MADV_DONTDUMP); /* advice: a core file without guest RAM */
    if (b->thp) {
        madvise(host, size, MADV_HUGEPAGE);
    }
    if (b->bind_node >= 0 && !pta_backing_bind(host, size, (unsigned)b->bind_node, error)) {
        return false;
    }
    if (!b->pin) {
        return true;
    }
    if (writable) {
        pta_backing_prefault(host, size, NULL); /* faster; mlock2() makes what it did not */
    }
    if (mlock2(host, size, 0) < 0) { /* sanitizers make nothing of mlock() */
        return pta_throw_errno(error, errno,
                               "memory: cannot pin %" PRIu64
                               " bytes: RLIMIT_MEMLOCK (`ulimit -l`) has to be raised, or the host "
                               "has too little RAM",
                               size);
    }
    return true;
}

bool pta_backing_map(PtaBacking *backing, uint64_t offset, uint64_t size, void *host, bool writable,
                     GError **error)
{
    g_assert(offset <= backing->size && size <= backing->size - offset);
    g_assert((offset | size | (uintptr_t)host) % backing->page_size == 0);
    if (g_atomic_int_get(&backing->state) == GONE) {
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "memory: guest memory was handed over to another process");
    }
    int flags = MAP_FIXED | (is_huge(backing) ? 0 : MAP_NORESERVE) |
                (backing->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    int prot = PROT_READ | (writable ? PROT_WRITE : 0);
    bool done = true;
    if (mmap(host, size, prot, flags, backing->fd, backing->fd < 0 ? 0 : (off_t)offset) ==
        MAP_FAILED) {
        done = pta_throw_errno(error, errno, "memory: failed to map %" PRIu64 " bytes", size);
    }
    if (done && dress(backing, host, size, writable, error)) {
        return true;
    }
    /* The reservation, as it was. */
    mmap(host, size, PROT_NONE, MAP_FIXED | MAP_NORESERVE | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return false;
}
