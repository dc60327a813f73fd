/*
 * What guest memory is made of on the host: a file descriptor (memfd, hugetlbfs, one that another
 * process handed over) or private anonymous memory. A backing does not know where in the guest it
 * shows; regions map pieces of it.
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
    bool
        private_anonymous; /* no descriptor: cannot be shared, and loses its content when unmapped */
} PtaBackingParams;

/* Zeroed. HOST: the host refuses it. */
PtaBacking *pta_backing_new(const PtaBackingParams *params, GError **error);
PtaBacking *pta_backing_ref(PtaBacking *backing);
void pta_backing_unref(PtaBacking *backing);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaBacking, pta_backing_unref)

uint64_t pta_backing_size(const PtaBacking *backing);
/* Lent; -1 if it has none. */
int pta_backing_fd(const PtaBacking *backing);
bool pta_backing_is_private(const PtaBacking *backing);
/*
 * Maps `size` bytes from `offset` at `host` (MAP_FIXED over a reservation of the caller's), readable,
 * and writable if asked for. Private memory is mapped at one place at a time: its content is there.
 */
bool pta_backing_map(PtaBacking *backing, uint64_t offset, uint64_t size, void *host, bool writable,
                     GError **error);

#endif
