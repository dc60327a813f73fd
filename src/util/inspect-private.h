/* What the files of inspect share, and nobody else. */
#ifndef PTA_INSPECT_PRIVATE_H
#define PTA_INSPECT_PRIVATE_H

#include "src/util/inspect.h"

typedef enum Sensitivity {
    SAFE,
    UNSPECIFIED,
    SENSITIVE,
} Sensitivity;

/* One whole request; ends when all that was deferred is answered, or at the deadline. */
typedef struct InspectCall {
    char *path;
    char *update; /* NULL: read */
    PtaInspectNode *root;
    bool answered;
    bool starting;   /* the objects are being asked */
    GQueue deferred; /* of PtaInspectDeferred, lent: those that are not answered */
    GSource *timer;
    PtaInspectDoneFn *done;
    void *data;
} InspectCall;

struct PtaInspect {
    InspectCall *call;
    const char *path;   /* what is still to go, without leading slashes; "" if nothing */
    bool wants_dir;     /* the path ended in a slash */
    unsigned levels;    /* how many levels of directories below `node` may be opened */
    const char *update; /* NULL: read */
    Sensitivity max;
    PtaInspectNode *node; /* what is being made; answers go into it once path is "" */
    GPtrArray *base;      /* where the root of `node` is in the tree; NULL: at its root */
    bool below;           /* node is beneath the one that the last name was asked of */
    bool answered;        /* something was there */
};

struct PtaInspectDeferred {
    InspectCall *call; /* NULL: nobody waits any more */
    PtaInspect req;
    PtaInspectNode *node; /* the answer, not in the tree yet: that may change until then */
    GPtrArray *location;  /* its place there: names from the root */
};

void inspect_node_clear(PtaInspectNode *node);
void inspect_node_set_dir(PtaInspectNode *node);
void inspect_node_set_error(PtaInspectNode *node, PtaInspectError code, const char *detail);
/* The child of that name, made if it is not there. */
PtaInspectNode *inspect_node_get_child(PtaInspectNode *dir, const char *name, size_t len);
/* Moves an answer to where there may be one: directories merge, else `from` stays. */
void inspect_node_merge(PtaInspectNode *into, PtaInspectNode *from);

#endif
