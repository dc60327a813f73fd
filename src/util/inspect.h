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
 * What cannot be answered at once is deferred: the object keeps a handle and answers it later, from
 * the main thread. A request has a deadline; what is not answered by then is shown as unresolved.
 *
 * Threads: MAIN; an object that others use takes its lock.
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

/* A field that could not be read. */
void pta_inspect_error(PtaInspect *req, const char *name, unsigned flags, const GError *error);

/* A directory, or whatever fn makes of it; fn is called now, or not at all. */
void pta_inspect_child(PtaInspect *req, const char *name, unsigned flags, PtaInspectFn *fn,
                       void *obj);

/* A field that can be set: `get` answers under the name "". */
void pta_inspect_mutable(PtaInspect *req, const char *name, unsigned flags, PtaInspectFn *get,
                         PtaInspectSetFn *set, void *obj);

/*
 * Fields that can be set, of type bool or number, kept by an atomic that other threads may use. A
 * number is decimal or, after 0x, hexadecimal, and at most max.
 */
void pta_inspect_atomic_bool(PtaInspect *req, const char *name, unsigned flags, bool *value);
void pta_inspect_atomic_u64(PtaInspect *req, const char *name, unsigned flags, uint64_t *value,
                            uint64_t max);

/* What is typed for a bool (true, false) or a number, for PtaInspectSetFn. BAD_DESCRIPTION. */
bool pta_inspect_parse_bool(const char *text, bool *value, GError **error);
bool pta_inspect_parse_u64(const char *text, uint64_t max, uint64_t *value, GError **error);

/* False if nothing under this name is wanted: what is needed for it may be left undone. */
bool pta_inspect_wants(const PtaInspect *req, const char *name, unsigned flags);

/* ---- tables of fields, beside the struct that has them ---- */

typedef enum PtaInspectFieldKind {
    PTA_INSPECT_FIELD_BOOL,
    PTA_INSPECT_FIELD_U8,
    PTA_INSPECT_FIELD_U16,
    PTA_INSPECT_FIELD_U32,
    PTA_INSPECT_FIELD_U64,
    PTA_INSPECT_FIELD_S64,
    PTA_INSPECT_FIELD_STR,  /* char *; absent if NULL */
    PTA_INSPECT_FIELD_ENUM, /* an enum or unsigned */
} PtaInspectFieldKind;

typedef struct PtaInspectField {
    const char *name; /* NULL ends the table */
    unsigned flags;
    PtaInspectFieldKind kind;
    size_t offset;
    const char *const *names;
    size_t n_names;
} PtaInspectField;

/* Members of type T at m; a member of another type does not compile. */
#define PTA_INSPECT_FIELD_OF(T, m, c_type, field_kind, n, f)                            \
    {                                                                                   \
        .name = (n), .flags = (f), .kind = (field_kind),                                \
        .offset = offsetof(T, m) + 0 * sizeof(char[_Generic(((T *)0)->m, c_type : 1)]), \
    }
#define PTA_INSPECT_OF_BOOL(T, m, n, f) \
    PTA_INSPECT_FIELD_OF(T, m, bool, PTA_INSPECT_FIELD_BOOL, n, f)
#define PTA_INSPECT_OF_U8(T, m, n, f) \
    PTA_INSPECT_FIELD_OF(T, m, uint8_t, PTA_INSPECT_FIELD_U8, n, f)
#define PTA_INSPECT_OF_U16(T, m, n, f) \
    PTA_INSPECT_FIELD_OF(T, m, uint16_t, PTA_INSPECT_FIELD_U16, n, f)
#define PTA_INSPECT_OF_U32(T, m, n, f) \
    PTA_INSPECT_FIELD_OF(T, m, uint32_t, PTA_INSPECT_FIELD_U32, n, f)
#define PTA_INSPECT_OF_U64(T, m, n, f) \
    PTA_INSPECT_FIELD_OF(T, m, uint64_t, PTA_INSPECT_FIELD_U64, n, f)
#define PTA_INSPECT_OF_S64(T, m, n, f) \
    PTA_INSPECT_FIELD_OF(T, m, int64_t, PTA_INSPECT_FIELD_S64, n, f)
#define PTA_INSPECT_OF_STR(T, m, n, f) \
    PTA_INSPECT_FIELD_OF(T, m, char *, PTA_INSPECT_FIELD_STR, n, f)

/* Shown by its name in `table`, an array; as a number beyond its end. */
#define PTA_INSPECT_OF_ENUM(T, m, n, f, table)                                          \
    {                                                                                   \
        .name = (n), .flags = (f), .kind = PTA_INSPECT_FIELD_ENUM,                      \
        .offset = offsetof(T, m) + 0 * sizeof(char[sizeof(((T *)0)->m) == 4 ? 1 : -1]), \
        .names = (table), .n_names = G_N_ELEMENTS(table),                               \
    }

/* The fields of the struct at base. */
void pta_inspect_fields(PtaInspect *req, const PtaInspectField *fields, const void *base);

/* ---- answering later ---- */

typedef struct PtaInspectDeferred PtaInspectDeferred;

/* Keeps the place of `name` for an answer that comes later. NULL if it is not wanted: then there is
 * nothing to answer. Whoever gets a handle ends it, once, by one of the two below. */
PtaInspectDeferred *pta_inspect_defer(PtaInspect *req, const char *name, unsigned flags);

/* fn answers, as for a child, unless the deadline has passed, which does no harm. */
void pta_inspect_deferred_answer(PtaInspectDeferred *deferred, PtaInspectFn *fn, void *obj);
/* There will be no answer. */
void pta_inspect_deferred_drop(PtaInspectDeferred *deferred);
/* Whether anybody still waits for it. */
bool pta_inspect_deferred_wanted(const PtaInspectDeferred *deferred);

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
    PTA_INSPECT_UNRESOLVED, /* not answered by the deadline */
    PTA_INSPECT_DROPPED,    /* whoever was to answer is gone */
    PTA_INSPECT_INTERNAL,   /* the object says what */
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
    bool has_rate;
    double rate; /* of a counter, a second */
    union {
        uint64_t u64;
        int64_t s64;
        bool b;
        double real;
        char *str;
        GBytes *bytes;
    };
} PtaInspectValue;

typedef struct PtaInspectNode PtaInspectNode;
struct PtaInspectNode {
    PtaInspectNode *parent; /* NULL: the one that the path named */
    char *name;             /* within its directory; NULL for the one that the path named */
    PtaInspectKind kind;
    union {
        struct {
            PtaInspectError code;
            char *text; /* "not found", "cannot set it: …" */
        } error;
        PtaInspectValue value;
        GPtrArray *children; /* of PtaInspectNode, in natural order of their names */
    };
};

typedef enum PtaInspectShow {
    PTA_INSPECT_SHOW_ALL,
    PTA_INSPECT_SHOW_UNSPECIFIED, /* all but the sensitive */
    PTA_INSPECT_SHOW_SAFE,        /* only what is said to be safe */
} PtaInspectShow;

typedef struct PtaInspectParams {
    const char *path;   /* NULL is "" */
    unsigned depth;     /* UINT_MAX: all */
    const char *update; /* the new value of what path names; NULL to read */
    PtaInspectShow show;
} PtaInspectParams;

/* Hands over the answer, never NULL: what went wrong is a node of kind FAILED. */
typedef void PtaInspectDoneFn(void *data, PtaInspectNode *node);

/* Params are lent for the call. done is called once, perhaps before this returns, at the latest
 * deadline_ms later. */
void pta_inspect_start(PtaInspectFn *fn, void *obj, const PtaInspectParams *params,
                       unsigned deadline_ms, PtaInspectDoneFn *done, void *data);

/* The same at once: what is deferred is unresolved. */
PtaInspectNode *pta_inspect(PtaInspectFn *fn, void *obj, const PtaInspectParams *params);
void pta_inspect_node_free(PtaInspectNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaInspectNode, pta_inspect_node_free)

/* The child of a directory, or NULL. */
const PtaInspectNode *pta_inspect_node_find(const PtaInspectNode *node, const char *name);

/*
 * Two looks at the same make rates: each counter of `now` that was in `then` gets one. One that has
 * become less was reset in between, and counts from zero.
 */
void pta_inspect_node_since(PtaInspectNode *now, const PtaInspectNode *then, double seconds);

/*
 * A new reference. Directories are objects, unevaluated ones null, failures {"$error": TEXT}; bytes
 * are base64, numbers with HEX or BINARY strings ("0x1f", "0b101"), as are those beyond 63 bits. A
 * counter with a rate is {"$counter": N, "$rate": R}; with `counters` all counters are told apart so.
 */
json_t *pta_inspect_node_to_json(const PtaInspectNode *node, bool counters);

/* strcmp() that compares digits as numbers; 0 only for equal texts. */
int pta_natural_compare(const char *a, const char *b);

#endif
