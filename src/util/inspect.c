/* Requests of inspect on their way through the objects, and answers that come later. No state of its
 * own. */
#include "config.h"

#include "src/util/inspect-private.h"

#include <string.h>

static const char *skip_slashes(const char *path)
{
    while (*path == '/') {
        path++;
    }
    return path;
}

/* Takes the first component off *path, and the slashes behind it. */
static size_t take_component(const char **path)
{
    size_t len = strcspn(*path, "/");
    *path = skip_slashes(*path + len);
    return len;
}

static bool is_hidden(const PtaInspect *req, unsigned flags)
{
    Sensitivity s = flags & PTA_INSPECT_SAFE        ? SAFE
                    : flags & PTA_INSPECT_SENSITIVE ? SENSITIVE
                                                    : UNSPECIFIED;
    return s > req->max;
}

/* What the request for `name` within req comes to. */
typedef enum Reach {
    ELSEWHERE, /* the path leads away from it, or it is hidden */
    TOO_DEEP,  /* noted as unevaluated */
    REACHED,   /* *sub is the request for it */
} Reach;

/* make: note it in the tree. Without, sub->node is not valid. Nothing below what is to be set is
 * ever reached. */
static Reach descend(const PtaInspect *req, const char *name, unsigned flags, bool make,
                     PtaInspect *sub)
{
    if (is_hidden(req, flags)) {
        return ELSEWHERE;
    }
    *sub = *req;
    sub->answered = false;
    sub->below = false;
    name = skip_slashes(name);
    while (*name && *sub->path) { /* on the way to what is asked for */
        const char *have = name;
        const char *want = sub->path;
        size_t n = take_component(&name);
        size_t m = take_component(&sub->path);
        if (n != m || memcmp(have, want, n) != 0) {
            return ELSEWHERE;
        }
    }
    while (*name) { /* below it */
        if (req->update) {
            return TOO_DEEP;
        }
        const char *component = name;
        size_t n = take_component(&name);
        sub->below = true;
        sub->wants_dir = false;
        if (make) {
            inspect_node_set_dir(sub->node);
            sub->node = inspect_node_get_child(sub->node, component, n);
        }
        if (*name) {
            if (sub->levels == 0) {
                return TOO_DEEP;
            }
            sub->levels--;
        }
    }
    return REACHED;
}

/* And below it: *sub is the request for a directory, or whatever else its answer makes of it. */
static Reach descend_into(PtaInspect *req, const char *name, unsigned flags, PtaInspect *sub)
{
    Reach reach = descend(req, name, flags, true, sub);
    if (reach == TOO_DEEP || (reach == REACHED && sub->below && sub->levels == 0)) {
        req->answered = true;
        return TOO_DEEP;
    }
    if (reach == REACHED && sub->below) {
        sub->levels--;
    }
    return reach;
}

bool pta_inspect_wants(const PtaInspect *req, const char *name, unsigned flags)
{
    PtaInspect sub;
    return descend(req, name, flags, false, &sub) == REACHED;
}

/* Begins the answer for a value; false if it is not wanted, or if it is an error that there is one. */
static bool begin_value(PtaInspect *req, const char *name, unsigned flags, PtaInspect *sub)
{
    Reach reach = descend(req, name, flags, true, sub);
    if (reach != ELSEWHERE) {
        req->answered = true;
    }
    if (reach != REACHED) {
        return false;
    }
    if (*sub->path || sub->wants_dir) {
        inspect_node_set_error(sub->node, PTA_INSPECT_NOT_A_DIRECTORY, "");
        return false;
    }
    if (sub->update) {
        inspect_node_set_error(sub->node, PTA_INSPECT_IMMUTABLE, "");
        return false;
    }
    inspect_node_clear(sub->node);
    return true;
}

static void put_value(PtaInspect *req, const char *name, PtaInspectValue value)
{
    PtaInspect sub;
    if (begin_value(req, name, value.flags, &sub)) {
        if (value.type == PTA_INSPECT_STR) {
            value.str = g_strdup(value.str);
        } else if (value.type == PTA_INSPECT_BYTES) {
            g_bytes_ref(value.bytes);
        }
        sub.node->kind = PTA_INSPECT_VALUE;
        sub.node->value = value;
    }
}

void pta_inspect_u64(PtaInspect *req, const char *name, unsigned flags, uint64_t value)
{
    put_value(req, name, (PtaInspectValue){ PTA_INSPECT_U64, flags, .u64 = value });
}

void pta_inspect_s64(PtaInspect *req, const char *name, unsigned flags, int64_t value)
{
    put_value(req, name, (PtaInspectValue){ PTA_INSPECT_S64, flags, .s64 = value });
}

void pta_inspect_bool(PtaInspect *req, const char *name, unsigned flags, bool value)
{
    put_value(req, name, (PtaInspectValue){ PTA_INSPECT_BOOL, flags, .b = value });
}

void pta_inspect_real(PtaInspect *req, const char *name, unsigned flags, double value)
{
    put_value(req, name, (PtaInspectValue){ PTA_INSPECT_REAL, flags, .real = value });
}

void pta_inspect_str(PtaInspect *req, const char *name, unsigned flags, const char *value)
{
    put_value(req, name, (PtaInspectValue){ PTA_INSPECT_STR, flags, .str = (char *)value });
}

void pta_inspect_bytes(PtaInspect *req, const char *name, unsigned flags, const void *data,
                       size_t len)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, len);
    put_value(req, name, (PtaInspectValue){ PTA_INSPECT_BYTES, flags, .bytes = bytes });
}

void pta_inspect_error(PtaInspect *req, const char *name, unsigned flags, const GError *error)
{
    PtaInspect sub;
    if (begin_value(req, name, flags, &sub)) {
        inspect_node_set_error(sub.node, PTA_INSPECT_INTERNAL, error->message);
    }
}

/* Lets fn answer sub, which descend_into() has reached. */
static void ask(PtaInspect *sub, PtaInspectFn *fn, void *obj)
{
    if (*sub->path == '\0') {
        sub->answered = true;
        if (!sub->update) {
            inspect_node_set_dir(sub->node); /* until fn makes a value of it */
        }
    }
    fn(obj, sub);
}

void pta_inspect_child(PtaInspect *req, const char *name, unsigned flags, PtaInspectFn *fn,
                       void *obj)
{
    PtaInspect sub;
    if (descend_into(req, name, flags, &sub) == REACHED) {
        ask(&sub, fn, obj);
        req->answered |= sub.answered;
    }
}

void pta_inspect_mutable(PtaInspect *req, const char *name, unsigned flags, PtaInspectFn *get,
                         PtaInspectSetFn *set, void *obj)
{
    PtaInspect sub;
    Reach reach = descend(req, name, flags, true, &sub);
    if (reach == REACHED && sub.below) { /* a value is shown whatever the depth */
        req->answered = true;
        get(obj, &sub);
        return;
    }
    const char *text = req->update;
    if (reach == REACHED && text && *sub.path == '\0' && !sub.wants_dir) {
        g_autoptr(GError) error = NULL;
        if (!set(obj, text, &error)) {
            req->answered = true;
            inspect_node_set_error(sub.node, PTA_INSPECT_UPDATE_FAILED, error->message);
            return;
        }
        req->update = NULL; /* read it back */
    }
    pta_inspect_child(req, name, flags, get, obj);
    req->update = text;
}

/* ---- answers that come later ---- */

/* Where a node is, as names from the root of the request. */
static GPtrArray *location_of(const PtaInspect *req, const PtaInspectNode *node)
{
    GPtrArray *location = g_ptr_array_new_with_free_func(g_free);
    for (; node->parent; node = node->parent) {
        g_ptr_array_insert(location, 0, g_strdup(node->name));
    }
    for (guint i = 0; req->base && i < req->base->len; i++) {
        g_ptr_array_insert(location, (gint)i, g_strdup(g_ptr_array_index(req->base, i)));
    }
    return location;
}

PtaInspectDeferred *pta_inspect_defer(PtaInspect *req, const char *name, unsigned flags)
{
    PtaInspect sub;
    if (descend_into(req, name, flags, &sub) != REACHED) {
        return NULL;
    }
    PtaInspectDeferred *d = g_new0(PtaInspectDeferred, 1);
    d->call = req->call;
    d->location = location_of(req, sub.node);
    d->node = g_new0(PtaInspectNode, 1);
    d->req = sub;
    d->req.node = d->node;
    d->req.base = d->location;
    g_queue_push_tail(&req->call->deferred, d);
    return d;
}

bool pta_inspect_deferred_wanted(const PtaInspectDeferred *d)
{
    return d->call != NULL;
}

static void deferred_free(PtaInspectDeferred *d)
{
    pta_inspect_node_free(d->node);
    g_ptr_array_unref(d->location);
    g_free(d);
}

/* Puts what it was answered with into the tree. Others may have answered there as well. */
static void graft(PtaInspectDeferred *d)
{
    PtaInspectNode *place = d->call->root;
    for (guint i = 0; d->node->kind != PTA_INSPECT_UNEVALUATED && i < d->location->len; i++) {
        const char *name = g_ptr_array_index(d->location, i);
        inspect_node_set_dir(place);
        place = inspect_node_get_child(place, name, strlen(name));
    }
    inspect_node_merge(place, d->node);
    d->call->answered |= d->req.answered;
}

static void finish(InspectCall *call)
{
    PtaInspectNode *root = call->root;
    if (!call->answered) {
        inspect_node_set_error(root, PTA_INSPECT_NOT_FOUND, "");
    } else if (call->update &&
               (root->kind == PTA_INSPECT_DIR || root->kind == PTA_INSPECT_UNEVALUATED)) {
        inspect_node_set_error(root, PTA_INSPECT_IMMUTABLE, "");
    }
    if (call->timer) {
        g_source_destroy(call->timer);
        g_source_unref(call->timer);
    }
    call->done(call->data, root);
    g_free(call->path);
    g_free(call->update);
    g_free(call);
}

/* Time is up for whoever has not answered. */
static void give_up(InspectCall *call)
{
    PtaInspectDeferred *d;
    while ((d = g_queue_pop_head(&call->deferred))) {
        inspect_node_set_error(d->node, PTA_INSPECT_UNRESOLVED, "");
        d->req.answered = true;
        graft(d);
        d->call = NULL;
    }
    finish(call);
}

static gboolean on_deadline(gpointer data)
{
    give_up(data);
    return G_SOURCE_REMOVE;
}

static void deferred_end(PtaInspectDeferred *d)
{
    InspectCall *call = d->call;
    g_queue_remove(&call->deferred, d);
    graft(d);
    deferred_free(d);
    if (call->deferred.length == 0 && !call->starting) {
        finish(call);
    }
}

void pta_inspect_deferred_answer(PtaInspectDeferred *d, PtaInspectFn *fn, void *obj)
{
    if (!d->call) {
        deferred_free(d);
        return;
    }
    ask(&d->req, fn, obj);
    deferred_end(d);
}

void pta_inspect_deferred_drop(PtaInspectDeferred *d)
{
    if (!d->call) {
        deferred_free(d);
        return;
    }
    inspect_node_set_error(d->node, PTA_INSPECT_DROPPED, "");
    d->req.answered = true;
    deferred_end(d);
}

/* ---- asking ---- */

static Sensitivity most_shown(PtaInspectShow show)
{
    static const Sensitivity most[] = {
        [PTA_INSPECT_SHOW_ALL] = SENSITIVE,
        [PTA_INSPECT_SHOW_UNSPECIFIED] = UNSPECIFIED,
        [PTA_INSPECT_SHOW_SAFE] = SAFE,
    };
    return most[show];
}

/* Asks; what is deferred may be answered already, too. */
static InspectCall *start(PtaInspectFn *fn, void *obj, const PtaInspectParams *params,
                          PtaInspectDoneFn *done, void *data)
{
    InspectCall *call = g_new0(InspectCall, 1);
    call->path = g_strdup(params->path ?: "");
    call->update = g_strdup(params->update);
    call->root = g_new0(PtaInspectNode, 1);
    call->done = done;
    call->data = data;
    call->starting = true;
    g_queue_init(&call->deferred);
    size_t len = strlen(call->path);
    PtaInspect req = {
        .call = call,
        .path = skip_slashes(call->path),
        .wants_dir = len > 0 && call->path[len - 1] == '/',
        .levels = params->depth,
        .update = call->update,
        .max = most_shown(params->show),
        .node = call->root,
    };
    ask(&req, fn, obj);
    call->answered |= req.answered;
    call->starting = false;
    return call;
}

void pta_inspect_start(PtaInspectFn *fn, void *obj, const PtaInspectParams *params,
                       unsigned deadline_ms, PtaInspectDoneFn *done, void *data)
{
    pta_assert_main();
    InspectCall *call = start(fn, obj, params, done, data);
    if (call->deferred.length == 0) {
        finish(call);
        return;
    }
    call->timer = g_timeout_source_new(deadline_ms);
    g_source_set_callback(call->timer, on_deadline, call, NULL);
    g_source_attach(call->timer, NULL);
}

static void take_node(void *data, PtaInspectNode *node)
{
    *(PtaInspectNode **)data = node;
}

PtaInspectNode *pta_inspect(PtaInspectFn *fn, void *obj, const PtaInspectParams *params)
{
    PtaInspectNode *node = NULL;
    give_up(start(fn, obj, params, take_node, &node));
    return node;
}
