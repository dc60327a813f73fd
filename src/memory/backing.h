/*
 * What guest memory is made of on the host: a file descriptor (memfd, hugetlbfs, a file, one that
 * another process handed over) or private anonymous memory. A backing does not know where in the
 * guest it shows; regions map pieces of it.
 *
 * One manager at a time owns what has a descriptor: the backing keeps a lock on it, from its making
 * to its end or until it is handed over (backing-share.h).
 *
 * Reference-counted; any thread, unless said otherwise.
 */
#ifndef PTA_BACKING_H
#define PTA_BACKING_H

#include "src/util/util.h"

typedef struct PtaBacking PtaBacking;

typedef struct PtaBackingParams {
    const char *name; /* "guest-ram", "guest-ram-1"; of the memfd, for /proc */
    uint64_t size;    /* bytes, whole pages */
    /* no descriptor: cannot be shared, and loses its content when unmapped */
    bool private_anonymous;

    /* What it is, if it is neither private nor a memfd of ordinary pages: at most one of these. */
    uint64_t hugepage_size; /* a memfd of hugetlb pages of this size (2 MiB or 1 GiB); 0: none */
    const char *path; /* a file that others may map: made, or taken if it has just this size */
    bool has_fd;      /* `fd` is memory that is there already: taken over (duplicated) */
    int fd;

    /* How it is used. */
    bool legacy; /* the split of the first MiB of an x86 machine is made in it: small pieces, each
                       of which is mapped and unmapped by itself */
    bool thp;    /* transparent huge pages, please: advice */
    bool pin;    /* every mapping is locked into RAM, with its pages */
    bool has_numa_node;
    unsigned numa_node; /* of the host, that the pages come from, and no other */
} PtaBackingParams;

/*
 * Whether these can be together and this host has what they name. BAD_DESCRIPTION, or UNSUPPORTED
 * by this host. Touches nothing. pta_backing_new() begins with it.
 */
bool pta_backing_params_check(const PtaBackingParams *params, GError **error);
/* The same for a host whose sysfs is at `sysfs`. */
bool pta_backing_params_check_at(const PtaBackingParams *params, const char *sysfs, GError **error);

/* "memfd", "hugetlb", "private", "file" or "fd": the words of the machine description. */
const char *pta_backing_params_type(const PtaBackingParams *params);

/*
 * Zeroed, unless it was there already. HOST: the host refuses it, or another process owns it; else
 * as pta_backing_params_check(). Huge pages are taken from the pool here: when the guest touches one
 * that is not there it would be too late.
 */
PtaBacking *pta_backing_new(const PtaBackingParams *params, GError **error);
PtaBacking *pta_backing_ref(PtaBacking *backing);
void pta_backing_unref(PtaBacking *backing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaBacking, pta_backing_unref)

uint64_t pta_backing_size(const PtaBacking *backing);
/* Lent; -1 if it has none. */
int pta_backing_fd(const PtaBacking *backing);
bool pta_backing_is_private(const PtaBacking *backing);
/* Offset, size and host address of a mapping are multiples of it: the page size, of the huge pages
 * if it has such. */
uint64_t pta_backing_page_size(const PtaBacking *backing);
/* There was no such file before: who fails later removes it. */
bool pta_backing_made_file(const PtaBacking *backing);
/* What the host address of a mapping had better be congruent with its offset to: 2 MiB, or a huge
 * page. Nothing breaks otherwise, but transparent huge pages stay away. */
uint64_t pta_backing_alignment(const PtaBacking *backing);
const char *pta_backing_type(const PtaBacking *backing);

/*
 * Maps `size` bytes from `offset` at `host` (MAP_FIXED over a reservation of the caller's), readable,
 * and writable if asked for. Private memory is mapped at one place at a time: its content is there.
 * If it fails there is a reservation (PROT_NONE) at `host` again.
 */
bool pta_backing_map(PtaBacking *backing, uint64_t offset, uint64_t size, void *host, bool writable,
                     GError **error);

/*
 * Makes the pages of [host, host + size), a writable mapping of a backing, in several threads; waits
 * for them. Returns false and HOST if it could not: the guest runs nevertheless, only slower.
 */
bool pta_backing_prefault(void *host, uint64_t size, GError **error);

/* How many bytes of it have pages, in RAM or swap; false where only its mappings tell: private
 * memory, and a file on a disk. */
bool pta_backing_allocated(const PtaBacking *backing, uint64_t *bytes);
/* How many bytes of a mapping are in RAM. Looks at each page: some 10 ms for a GiB. */
uint64_t pta_backing_resident(const void *host, uint64_t size);

/* ---- ownership; see backing-share.h ---- */

/* The manager of this process has it. */
bool pta_backing_is_owned(const PtaBacking *backing);
/* Takes shared memory whose owner has gone. HOST: there is one. */
bool pta_backing_own(PtaBacking *backing, GError **error);
/* Another process has it now, together with the lock: it cannot be mapped any more. */
void pta_backing_disown(PtaBacking *backing);

#endif
