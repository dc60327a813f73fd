/*
 * A machine's memory for another process: its descriptors, and in JSON which piece of which is where
 * in the guest.
 *
 *     { "partita-memory": 1,
 *       "backings": [ { "size": 4294967296, "page-size": 4096 } ],
 *       "ranges": [ { "gpa": 0, "size": 3221225472, "backing": 0, "offset": 0 }, … ] }
 *
 * What comes in is hostile. A descriptor is taken if it is memory (tmpfs or hugetlbfs), readable and
 * writable, sealed against shrinking and growing and against nothing else, and of the size and the
 * pages that the JSON says. Private memory and files cannot be given away: the first has no
 * descriptor, the second no seals.
 *
 * Who gets it shares the memory, or takes it over: exactly one process at a time owns a backing
 * (backing-lock.c). The lock goes along with the descriptor and is acknowledged, so that there is no
 * moment at which a third one could have it, and after a failure the sender still has it.
 *
 * These calls wait for the other process, up to ten seconds. Any thread but one at a time for a
 * socket.
 */
#ifndef PTA_BACKING_SHARE_H
#define PTA_BACKING_SHARE_H

#include <jansson.h>

#include "src/memory/backing.h"

#define PTA_SHARE_BACKINGS 32
#define PTA_SHARE_RANGES   128
#define PTA_SHARE_TEXT     65536 /* bytes of JSON, at most */

typedef struct PtaSharedRange {
    uint64_t gpa, size;
    unsigned backing; /* its index */
    uint64_t offset;  /* in it */
} PtaSharedRange;

typedef struct PtaSharedMemory {
    PtaBacking *backings[PTA_SHARE_BACKINGS];
    size_t n_backings;
    PtaSharedRange ranges[PTA_SHARE_RANGES]; /* ascending and disjoint */
    size_t n_ranges;
} PtaSharedMemory;

void pta_shared_memory_free(PtaSharedMemory *m); /* and its references */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaSharedMemory, pta_shared_memory_free)

typedef enum PtaShareMode {
    PTA_SHARE,     /* both use it; the sender stays its owner */
    PTA_HAND_OVER, /* the receiver becomes the owner. The sender's VPs stand still, and it gives up
                      its mappings when this has succeeded: they would be seen */
} PtaShareMode;

/* Over a connected UNIX socket, SOCK_SEQPACKET. HOST, UNSUPPORTED (private memory, a file),
 * BAD_STATE (to hand over what it does not own). */
bool pta_backing_export(const PtaSharedMemory *m, PtaShareMode mode, int sock, GError **error);
/* NULL and *error: BAD_DESCRIPTION for what is not as it should be; HOST also for memory that has
 * another owner, if it is to be handed over. */
PtaSharedMemory *pta_backing_import(PtaShareMode mode, int sock, GError **error);

/* The same for descriptors that a child inherits. `fds` (room for PTA_SHARE_BACKINGS) are the
 * caller's to close, close-on-exec as they are. A new reference; NULL and *error. */
json_t *pta_backing_export_fds(const PtaSharedMemory *m, PtaShareMode mode, int *fds,
                               GError **error);
/* What the parent does when the child has them: it owns nothing any more. */
void pta_backing_handed_over(const PtaSharedMemory *m);
/* Takes the descriptors, whatever comes of it. */
PtaSharedMemory *pta_backing_import_fds(PtaShareMode mode, const char *text, size_t len, int *fds,
                                        size_t n_fds, GError **error);

/* ---- the layout alone ---- */

typedef struct PtaSharedLayout {
    uint64_t size[PTA_SHARE_BACKINGS], page_size[PTA_SHARE_BACKINGS];
    size_t n_backings;
    PtaSharedRange ranges[PTA_SHARE_RANGES];
    size_t n_ranges;
} PtaSharedLayout;

/* Everything in range: each piece is within its backing, on its pages, and no two overlap. */
bool pta_shared_layout_parse(PtaSharedLayout *layout, const char *text, size_t len, GError **error);
json_t *pta_shared_layout_to_json(const PtaSharedLayout *layout);

#endif
