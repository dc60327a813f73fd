/* What is asked of the host's memory management: pages now, pages of a node, pages that stay. */
#include "config.h"

#define G_LOG_DOMAIN "memory"

#include "src/memory/backing-private.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define MAX_NODES   1024
#define CHUNK       (64 * PTA_MIB)
#define MAX_THREADS 16

/* By its number: one call is no reason to link with libnuma. */
bool pta_backing_bind(void *host, uint64_t size, unsigned node, GError **error)
{
    enum { WORD = 8 * sizeof(unsigned long) };
    if (node >= MAX_NODES) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED, "memory: host NUMA node %u", node);
    }
    unsigned long mask[MAX_NODES / WORD] = { 0 };
    mask[node / WORD] = 1UL << node % WORD;
    /* The kernel reads one bit less than it is told. */
    if (syscall(SYS_mbind, host, (unsigned long)size, MPOL_BIND, mask, MAX_NODES + 1, 0) < 0) {
        return pta_throw_errno(error, errno, "memory: cannot bind %" PRIu64 " bytes to node %u",
                               size, node);
    }
    return true;
}

const char *pta_backing_no_thp(const char *sysfs, bool shared)
{
    g_autofree char *path = g_build_filename(sysfs, "kernel/mm/transparent_hugepage",
                                             shared ? "shmem_enabled" : "enabled", NULL);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return "the host's kernel has none";
    }
    if (strstr(text, "[never]") || strstr(text, "[deny]")) {
        return shared ? "/sys/kernel/mm/transparent_hugepage/shmem_enabled says no"
                      : "/sys/kernel/mm/transparent_hugepage/enabled says no";
    }
    return NULL;
}

/* ---- prefault ---- */

typedef struct Prefault {
    uint8_t *host;
    uint64_t size;
    uint64_t next; /* ATOMIC: the first byte that nobody has taken */
    int failed;    /* ATOMIC: errno of one that failed */
} Prefault;

static gpointer prefault_thread(gpointer data)
{
    Prefault *p = data;
    while (__atomic_load_n(&p->failed, __ATOMIC_RELAXED) == 0) {
        uint64_t at = __atomic_fetch_add(&p->next, CHUNK, __ATOMIC_RELAXED);
        if (at >= p->size) {
            break;
        }
        uint64_t n = MIN(CHUNK, p->size - at);
        int result;
        do {
            result = madvise(p->host + at, n, MADV_POPULATE_WRITE);
        } while (result < 0 && errno == EINTR);
        if (result < 0) {
            __atomic_store_n(&p->failed, errno, __ATOMIC_RELAXED);
        }
    }
    return NULL;
}

bool pta_backing_prefault(void *host, uint64_t size, GError **error)
{
    Prefault p = { .host = host, .size = size };
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t chunks = (size + CHUNK - 1) / CHUNK;
    uint64_t wanted = MIN(MIN(chunks, (uint64_t)MAX(n_cpus, 1)), MAX_THREADS);
    GThread *threads[MAX_THREADS];
    unsigned n = 0;
    /* The calling thread works as well. One that cannot be made is not missed. */
    while (n + 1 < wanted) {
        GThread *thread = g_thread_try_new("prefault", prefault_thread, &p, NULL);
        if (!thread) {
            break;
        }
        threads[n++] = thread;
    }
    prefault_thread(&p);
    while (n > 0) {
        g_thread_join(threads[--n]);
    }
    if (p.failed) {
        return pta_throw_errno(error, p.failed,
                               "memory: cannot make all pages of %" PRIu64 " bytes", size);
    }
    return true;
}

/* ---- what is there ---- */

uint64_t pta_backing_resident(const void *host, uint64_t size)
{
    enum { PAGES = 65536 };
    g_autofree unsigned char *vec = g_malloc(PAGES);
    uint64_t resident = 0;
    for (uint64_t at = 0; at < size; at += PAGES * PTA_PAGE_SIZE) {
        uint64_t n = MIN(PAGES * PTA_PAGE_SIZE, size - at);
        if (mincore((char *)(uintptr_t)host + at, n, vec) < 0) {
            continue;
        }
        for (uint64_t i = 0; i < n / PTA_PAGE_SIZE; i++) {
            resident += vec[i] & 1 ? PTA_PAGE_SIZE : 0;
        }
    }
    return resident;
}
