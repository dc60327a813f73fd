/*
 * inspect: one way to look into everything that lives. An object answers a request by naming its
 * fields and children; it is asked only for what the request's path and depth can reach, so that
 * children which cost something (registers of a running VP) are evaluated when they are wanted.
 *
 *     static void disk_inspect(void *obj, PtaInspect *req)
 *     {
 *         Disk *d = obj;
 *         pta_inspect_u64(req, "size", PTA_INSPECT_PLAIN, d->size);
 *         pta_inspect_u64(req, "requests", PTA_INSPECT_COUNTER, d->requests);
 *         pta_inspect_child(req, "queue", PTA_INSPECT_PLAIN, queue_inspect, &d->queue);
 *     }
 *
 * Names may be nested ("queue/0/size"); the empty name is the object itself, which merges another
 * answer into it. Where a name is answered twice, directories merge and otherwise the later one
 * stays. Children come out in natural order ("vp2" before "vp10").
 *
 * Paths: components between slashes; leading and repeated slashes mean nothing, a trailing one asks
 * for a directory. Depth: how many levels of directories below the one that the path names are
 * opened; those beneath are shown as unevaluated.
 *
 * Threads: as the objects say; the machine's tree (machine-inspect.c) is MAIN.
 */
#ifndef PTA_INSPECT_H
#define PTA_INSPECT_H

#include <jansson.h>

#include "src/util/util.h"

/* A request as one object sees it. */
typedef struct PtaInspect PtaInspect;

typedef void PtaInspectFn(void *obj, PtaInspect *req);

/* Takes the new value, as text; false and *error if it does not. */
typedef bool PtaInspectSetFn(void *obj, const char *text, GError **error);

typedef enum PtaInspectFlags {
    PTA_INSPECT_PLAIN = 0,
    /* how a number is shown */
    PTA_INSPECT_HEX = 1 << 0,
    PTA_INSPECT_BINARY = 1 << 1,
    PTA_INSPECT_COUNTER = 1 << 2, /* it only grows: a difference of two looks makes a rate */
    /* who may see it; without one of these it is unspecified, which is between the two */
    PTA_INSPECT_SAFE = 1 << 3,
    PTA_INSPECT_SENSITIVE = 1 << 4, /* guest data, registers */
} PtaInspectFlags;

/* ---- answering ---- */

/* A field. The name "" answers as the value itself. */
void pta_inspect_u64(PtaInspect *req, const char *name, unsigned flags, uint64_t value);
void pta_inspect_s64(PtaInspect *req, const char *name, unsigned flags, int64_t value);
void pta_inspect_bool(PtaInspect *req, const char *name, unsigned flags, bool value);
void pta_inspect_real(PtaInspect *req, const char *name, unsigned flags, double value);
void pta_inspect_str(PtaInspect *req, const char *name, unsigned flags, const char *value);
void pta_inspect_bytes(PtaInspect *req, const char *name, unsigned flags, const void *data,
                       size_t len);

/* JSON that exists already: objects and arrays become directories, null an absent field. */
void pta_inspect_json(PtaInspect *req, const char *name, unsigned flags, const json_t *value);

/* A field that could not be read. */
void pta_inspect_error(PtaInspect *req, const char *name, unsigned flags, const GError *error);

/* A directory, or whatever fn makes of it; fn is called now, or not at all. */
void pta_inspect_child(PtaInspect *req, const char *name, unsigned flags, PtaInspectFn *fn,
                       void *obj);

/* A field that can be set: `get` answers under the name "". */
void pta_inspect_mutable(PtaInspect *req, const char *name, unsigned flags, PtaInspectFn *get,
                         PtaInspectSetFn *set, void *obj);

/* False if nothing under this name is wanted: what is needed for it may be left undone. */
bool pta_inspect_wants(const PtaInspect *req, const char *name, unsigned flags);

/* ---- asking ---- */

typedef enum PtaInspectKind {
    PTA_INSPECT_UNEVALUATED, /* a directory below the depth limit */
    PTA_INSPECT_FAILED,
    PTA_INSPECT_VALUE,
    PTA_INSPECT_DIR,
} PtaInspectKind;

typedef enum PtaInspectError {
    PTA_INSPECT_NOT_FOUND,
    PTA_INSPECT_NOT_A_DIRECTORY,
    PTA_INSPECT_IMMUTABLE,
    PTA_INSPECT_UPDATE_FAILED,
    PTA_INSPECT_INTERNAL, /* the object says what */
} PtaInspectError;

typedef enum PtaInspectType {
    PTA_INSPECT_U64,
    PTA_INSPECT_S64,
    PTA_INSPECT_BOOL,
    PTA_INSPECT_REAL,
    PTA_INSPECT_STR,
    PTA_INSPECT_BYTES,
} PtaInspectType;

typedef struct PtaInspectValue {
    PtaInspectType type;
    unsigned flags;
    union {
        uint64_t u64;
        int64_t s64;
        bool b;
        double real;
        char *str;
        GBytes *bytes;
    };
} PtaInspectValue;

typedef struct PtaInspectNode {
    char *name; /* within its directory; NULL for the one that the path named */
    PtaInspectKind kind;
    union {
        struct {
            PtaInspectError code;
            char *text; /* "not found", "cannot set it: …" */
        } error;
        PtaInspectValue value;
        GPtrArray *children; /* of PtaInspectNode, in natural order of their names */
    };
} PtaInspectNode;

typedef struct PtaInspectParams {
    const char *path;   /* NULL is "" */
    unsigned depth;     /* UINT_MAX: all */
    const char *update; /* the new value of what path names; NULL to read */
    unsigned max_flags; /* the most that is shown: 0 (all), PTA_INSPECT_SAFE (only what is said to
                            be safe), or PTA_INSPECT_PLAIN_ONLY (all but the sensitive) */
} PtaInspectParams;

#define PTA_INSPECT_PLAIN_ONLY (1 << 5)

/* Never NULL: what went wrong is a node of kind FAILED. */
PtaInspectNode *pta_inspect(PtaInspectFn *fn, void *obj, const PtaInspectParams *params);
void pta_inspect_node_free(PtaInspectNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaInspectNode, pta_inspect_node_free)

/* The child of a directory, or NULL. */
const PtaInspectNode *pta_inspect_node_find(const PtaInspectNode *node, const char *name);

/*
 * A new reference. Directories are objects, unevaluated ones null, failures {"$error": TEXT}; bytes
 * are base64, numbers with HEX or BINARY strings ("0x1f", "0b101"), as are those beyond 63 bits.
 */
json_t *pta_inspect_node_to_json(const PtaInspectNode *node);

/* strcmp() that compares digits as numbers; 0 only for equal texts. */
int pta_natural_compare(const char *a, const char *b);

#endif
