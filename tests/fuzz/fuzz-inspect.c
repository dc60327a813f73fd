/*
 * Paths, depths and new values of inspect, against a tree with a node of each kind. Input: a byte of
 * options, one of depth, the path up to a line end, the value. Whatever comes is answered once; what
 * can be set holds nothing that it should not; the answer is JSON, its names in order.
 */
#include "config.h"

#include "src/util/inspect.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LEVEL_MAX  1000
#define N_DEFERRED 64

typedef struct Tree {
    bool on;
    uint64_t level;
    unsigned options;
    PtaInspectDeferred *deferred[N_DEFERRED];
    unsigned n_deferred;
} Tree;

enum {
    OPTION_UPDATE = 1 << 0,
    OPTION_SAFE = 1 << 1,
    OPTION_UNSPECIFIED = 1 << 2,
    OPTION_DROP = 1 << 3,      /* what was deferred */
    OPTION_LATE = 1 << 4,      /* it is answered when nobody waits any more */
    OPTION_BACKWARDS = 1 << 5, /* the last first */
};

static void leaf(void *obj, PtaInspect *req)
{
    pta_inspect_bytes(req, "bytes", PTA_INSPECT_PLAIN, "\0\xff", 2);
    pta_inspect_real(req, "real", PTA_INSPECT_SAFE, 0.5);
    pta_inspect_s64(req, "", PTA_INSPECT_PLAIN, -1); /* a value after all */
}

static void middle(void *obj, PtaInspect *req)
{
    Tree *t = obj;
    pta_inspect_atomic_bool(req, "on", PTA_INSPECT_SAFE, &t->on);
    pta_inspect_atomic_u64(req, "level", PTA_INSPECT_HEX, &t->level, LEVEL_MAX);
    pta_inspect_u64(req, "vp10", PTA_INSPECT_COUNTER, 10);
    pta_inspect_u64(req, "vp2", PTA_INSPECT_BINARY, 2);
    pta_inspect_u64(req, "a//b/c", PTA_INSPECT_SENSITIVE, 3);
    pta_inspect_child(req, "a/b", PTA_INSPECT_PLAIN, leaf, t);
    pta_inspect_str(req, "caf\xe9", PTA_INSPECT_PLAIN, "\xe9");
}

static void later(void *obj, PtaInspect *req)
{
    Tree *t = obj;
    PtaInspectDeferred *d =
        t->n_deferred < N_DEFERRED ? pta_inspect_defer(req, "later", PTA_INSPECT_PLAIN) : NULL;
    if (d) {
        t->deferred[t->n_deferred++] = d;
    }
    middle(obj, req);
}

static void root(void *obj, PtaInspect *req)
{
    g_autoptr(GError) error = g_error_new(PTA_ERROR, PTA_ERROR_HOST, "no");
    later(obj, req);
    pta_inspect_child(req, "x", PTA_INSPECT_SAFE, later, obj);
    pta_inspect_child(req, "x/y", PTA_INSPECT_PLAIN, middle, obj);
    pta_inspect_child(req, "", PTA_INSPECT_SENSITIVE, leaf, obj);
    pta_inspect_error(req, "broken", PTA_INSPECT_PLAIN, error);
}

static void take(void *data, PtaInspectNode *node)
{
    PtaInspectNode **place = data;
    g_assert(*place == NULL && node != NULL);
    *place = node;
}

/* Answers may defer more. */
static void end_deferred(Tree *t)
{
    while (t->n_deferred > 0) {
        unsigned n = t->options & OPTION_BACKWARDS ? t->n_deferred - 1 : 0;
        PtaInspectDeferred *d = t->deferred[n];
        t->deferred[n] = t->deferred[--t->n_deferred];
        if (t->options & OPTION_DROP) {
            pta_inspect_deferred_drop(d);
        } else {
            pta_inspect_deferred_answer(d, later, t);
        }
    }
}

static void check(const PtaInspectNode *node, const char *above)
{
    for (guint i = 0; node->kind == PTA_INSPECT_DIR && i < node->children->len; i++) {
        const PtaInspectNode *child = g_ptr_array_index(node->children, i);
        g_assert(child->parent == node && *child->name && !strchr(child->name, '/'));
        g_assert(i == 0 || pta_natural_compare(above, child->name) < 0);
        above = child->name;
        check(child, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    pta_thread_init_main();
    const char *text = (const char *)data + 2;
    const char *line = memchr(text, '\n', size - 2);
    size_t path_len = line ? (size_t)(line - text) : size - 2;
    g_autofree char *path = g_strndup(text, path_len);
    g_autofree char *value = line ? g_strndup(line + 1, size - 3 - path_len) : NULL;
    Tree t = { .options = data[0] };
    PtaInspectParams params = {
        .path = path,
        .depth = data[1] % 8,
        .update = t.options & OPTION_UPDATE ? value : NULL,
        .show = t.options & OPTION_SAFE          ? PTA_INSPECT_SHOW_SAFE
                : t.options & OPTION_UNSPECIFIED ? PTA_INSPECT_SHOW_UNSPECIFIED
                                                 : PTA_INSPECT_SHOW_ALL,
    };
    PtaInspectNode *node = NULL;
    if (t.options & OPTION_LATE) {
        node = pta_inspect(root, &t, &params);
        end_deferred(&t);
    } else {
        pta_inspect_start(root, &t, &params, 60000, take, &node);
        end_deferred(&t);
    }
    g_assert(node != NULL && t.level <= LEVEL_MAX);
    check(node, NULL);
    json_t *json = pta_inspect_node_to_json(node, t.options & OPTION_DROP);
    char *dump = json_dumps(json, JSON_ENCODE_ANY);
    g_assert(dump != NULL);
    free(dump);
    json_decref(json);
    pta_inspect_node_free(node);
    return 0;
}
