/*
 * A raw image or a block device of the host (file.c), and what makes its system calls: an engine,
 * by io_uring (file-uring.c) or by a pool of threads (file-threads.c).
 */
#ifndef PTA_BLOCK_FILE_H
#define PTA_BLOCK_FILE_H

#include "devices/block/block.h"

struct BlockFileConfig; /* qmp/gen/types.h */

PtaBlock *pta_block_file_new(const struct BlockFileConfig *config, const char *base_dir,
                             GMainContext *context, GError **error);

/* ---- engines ---- */

typedef enum PtaFileCall {
    PTA_FILE_READV,
    PTA_FILE_WRITEV,
    PTA_FILE_FDATASYNC,
    PTA_FILE_FALLOCATE,
    PTA_FILE_FAIL, /* comes back with the result that is in it */
} PtaFileCall;

/* One system call. The iovecs stay until it is done. */
typedef struct PtaFileIo {
    struct PtaFileIo *next; /* the engine's */
    PtaFileCall call;
    int fd;
    int mode;  /* of fallocate */
    bool sync; /* writev: RWF_DSYNC */
    const struct iovec *iov;
    unsigned n_iov; /* at most IOV_MAX */
    uint64_t offset;
    uint64_t len;   /* of fallocate */
    int64_t result; /* as of the call; -errno */
} PtaFileIo;

typedef struct PtaFileEngine PtaFileEngine;
/* In the context, never from within submit() or commit(). */
typedef void PtaFileDoneFn(void *opaque, PtaFileIo *io);

typedef struct PtaFileEngineOps {
    const char *name;
    /* HOST or UNSUPPORTED if this host refuses it. */
    PtaFileEngine *(*create)(GMainContext *context, PtaFileDoneFn *done, void *opaque,
                             GError **error);
    void (*submit)(PtaFileEngine *e, PtaFileIo *io);
    void (*commit)(PtaFileEngine *e);
    void (*destroy)(PtaFileEngine *e); /* nothing is under way */
} PtaFileEngineOps;

struct PtaFileEngine {
    const PtaFileEngineOps *ops;
};

extern const PtaFileEngineOps pta_file_uring;
extern const PtaFileEngineOps pta_file_threads;

/* ---- locks on images (file-lock.c) ---- */

/*
 * Takes the locks that QEMU takes, on the same bytes of the file, so that neither a second Partita
 * nor a QEMU writes to an image that is in use. They go with the descriptor. HOST if the image is
 * in use; a file system without such locks is used without them, with a warning.
 */
bool pta_file_lock(int fd, const char *path, bool read_only, GError **error);

#endif
