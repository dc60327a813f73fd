/*
 * A block back end: an array of bytes that requests read and write. Requests are submitted and
 * completed in the GMainContext that the back end was made for; what a request comes to is told by
 * its done(), never from within pta_block_submit().
 */
#ifndef PTA_BLOCK_H
#define PTA_BLOCK_H

#include <sys/uio.h>

#include "src/util/inspect.h"
#include "src/util/util.h"

struct BlockConfig; /* qmp/gen/types.h */

typedef struct PtaBlock PtaBlock;
typedef struct PtaBlockRequest PtaBlockRequest;

typedef enum PtaBlockOp {
    PTA_BLOCK_READ,
    PTA_BLOCK_WRITE,
    PTA_BLOCK_FLUSH,
    PTA_BLOCK_DISCARD,
    PTA_BLOCK_WRITE_ZEROES,
} PtaBlockOp;
#define PTA_BLOCK_N_OPS 5

#define PTA_BLOCK_FUA   1u /* write: done when it is on stable storage */
#define PTA_BLOCK_UNMAP 2u /* write zeroes: the space may be given back */

/* Made and owned by whoever submits it; untouched by others once done() is called. */
struct PtaBlockRequest {
    PtaBlockOp op;
    unsigned flags;
    uint64_t offset; /* bytes; the submitter has checked the range against the size */
    uint64_t len;
    struct iovec *iov; /* read and write: of len bytes in all; the back end may change it */
    unsigned n_iov;
    void (*done)(PtaBlockRequest *req, int error); /* 0 or -errno */
    uint64_t start_ns;                             /* the back end's */
};

typedef struct PtaBlockClass {
    void (*submit)(PtaBlock *b, PtaBlockRequest *req);
    void (*commit)(PtaBlock *b); /* may be NULL */
    void (*free)(PtaBlock *b);   /* context */
} PtaBlockClass;

typedef struct PtaBlockStats {
    uint64_t n[PTA_BLOCK_N_OPS];
    uint64_t bytes[PTA_BLOCK_N_OPS];
    uint64_t ns[PTA_BLOCK_N_OPS];
    uint64_t failed[PTA_BLOCK_N_OPS];
} PtaBlockStats;

struct PtaBlock {
    const PtaBlockClass *klass;
    GMainContext *context;  /* CONST; may be NULL: freed at once */
    char *filename;         /* CONST: for query-block */
    const char *driver;     /* CONST: "file" */
    const char *aio;        /* CONST: "io_uring", "threads" */
    uint64_t size;          /* CONST: bytes, a multiple of logical_size */
    uint32_t logical_size;  /* CONST: what requests are multiples of, from 512 */
    uint32_t physical_size; /* CONST */
    uint32_t discard_align; /* CONST: bytes */
    bool read_only;         /* CONST */
    bool direct;            /* CONST: the host's page cache is bypassed */
    PtaBlockStats stats;    /* ATOMIC: the context alone writes */
};

/* MAIN. Errors: HOST, BAD_IMAGE, UNSUPPORTED. base_dir: where relative paths start from. */
PtaBlock *pta_block_new(const struct BlockConfig *config, const char *base_dir,
                        GMainContext *context, GError **error);
/* MAIN; no request is under way. */
void pta_block_free(PtaBlock *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaBlock, pta_block_free)

/* Context. Requests may be gathered until commit(), which must follow. */
void pta_block_submit(PtaBlock *b, PtaBlockRequest *req);
void pta_block_commit(PtaBlock *b);

/* PtaInspectFn. MAIN. */
void pta_block_inspect(void *b, PtaInspect *req);

/* For back ends: counts, and calls done(). */
void pta_block_complete(PtaBlock *b, PtaBlockRequest *req, int error);

#endif
