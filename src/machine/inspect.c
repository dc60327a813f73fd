/* The inspect tree: requests on their way down, nodes on the way up. No state of its own. */
#include "config.h"

#include "src/machine/inspect.h"

#include <string.h>

typedef enum Sensitivity {
    SAFE,
    UNSPECIFIED,
    SENSITIVE,
} Sensitivity;

struct PtaInspect {
    const char *path;   /* what is still to go, without leading slashes; "" if nothing */
    bool wants_dir;     /* the path ended in a slash */
    unsigned levels;    /* how many levels of directories below `node` may be opened */
    const char *update; /* NULL: read */
    Sensitivity max;
    PtaInspectNode *node; /* what is being made; answers go into it once path is "" */
    bool below;           /* node is beneath the one that the last name was asked of */
    bool answered;        /* something was there */
};

/* ---- nodes ---- */

static void node_clear(PtaInspectNode *node)
{
    switch (node->kind) {
    case PTA_INSPECT_FAILED:
        g_free(node->error.text);
        break;
    case PTA_INSPECT_DIR:
        g_ptr_array_unref(node->children);
        break;
    case PTA_INSPECT_VALUE:
        if (node->value.type == PTA_INSPECT_STR) {
            g_free(node->value.str);
        } else if (node->value.type == PTA_INSPECT_BYTES) {
            g_bytes_unref(node->value.bytes);
        }
        break;
    case PTA_INSPECT_UNEVALUATED:
        break;
    }
    node->kind = PTA_INSPECT_UNEVALUATED;
}

void pta_inspect_node_free(PtaInspectNode *node)
{
    if (node) {
        node_clear(node);
        g_free(node->name);
        g_free(node);
    }
}

static void free_child(gpointer node)
{
    pta_inspect_node_free(node);
}

static void node_set_dir(PtaInspectNode *node)
{
    if (node->kind != PTA_INSPECT_DIR) {
        node_clear(node);
        node->kind = PTA_INSPECT_DIR;
        node->children = g_ptr_array_new_with_free_func(free_child);
    }
}

static void node_set_error(PtaInspectNode *node, PtaInspectError code, const char *detail)
{
    static const char *const texts[] = {
        [PTA_INSPECT_NOT_FOUND] = "not found",
        [PTA_INSPECT_NOT_A_DIRECTORY] = "not a directory",
        [PTA_INSPECT_IMMUTABLE] = "cannot be set",
        [PTA_INSPECT_UPDATE_FAILED] = "cannot set it: ",
        [PTA_INSPECT_INTERNAL] = "",
    };
    char *text = g_strconcat(texts[code], detail, NULL);
    node_clear(node);
    node->kind = PTA_INSPECT_FAILED;
    node->error.code = code;
    node->error.text = text;
}

static const char *skip_zeroes(const char *s)
{
    while (*s == '0' && g_ascii_isdigit(s[1])) {
        s++;
    }
    return s;
}

int pta_natural_compare(const char *a, const char *b)
{
    const char *p = a;
    const char *q = b;
    while (*p && *q) {
        if (g_ascii_isdigit(*p) && g_ascii_isdigit(*q)) {
            p = skip_zeroes(p);
            q = skip_zeroes(q);
            size_t n = strspn(p, "0123456789");
            size_t m = strspn(q, "0123456789");
            if (n != m) {
                return n < m ? -1 : 1;
            }
            int order = memcmp(p, q, n);
            if (order != 0) {
                return order;
            }
            p += n;
            q += m;
        } else if (*p != *q) {
            return (unsigned char)*p < (unsigned char)*q ? -1 : 1;
        } else {
            p++;
            q++;
        }
    }
    if (*p || *q) {
        return *p ? 1 : -1;
    }
    return strcmp(a, b); /* they differ in leading zeroes at most */
}

/* Where `name` (len bytes) is among the children, or would be. */
static guint find_place(const PtaInspectNode *dir, const char *name, bool *found)
{
    guint low = 0;
    guint high = dir->children->len;
    while (low < high) {
        guint mid = low + (high - low) / 2;
        const PtaInspectNode *child = g_ptr_array_index(dir->children, mid);
        int order = pta_natural_compare(child->name, name);
        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *found = false;
    return low;
}

const PtaInspectNode *pta_inspect_node_find(const PtaInspectNode *node, const char *name)
{
    if (node->kind != PTA_INSPECT_DIR) {
        return NULL;
    }
    bool found;
    guint at = find_place(node, name, &found);
    return found ? g_ptr_array_index(node->children, at) : NULL;
}

/* The child of that name, made if it is not there. */
static PtaInspectNode *get_child(PtaInspectNode *dir, const char *name, size_t len)
{
    g_autofree char *copy = g_strndup(name, len);
    bool found;
    guint at = find_place(dir, copy, &found);
    if (found) {
        return g_ptr_array_index(dir->children, at);
    }
    PtaInspectNode *child = g_new0(PtaInspectNode, 1);
    child->name = g_steal_pointer(&copy);
    g_ptr_array_insert(dir->children, (gint)at, child);
    return child;
}

/* ---- requests ---- */

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
            node_set_dir(sub->node);
            sub->node = get_child(sub->node, component, n);
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
        node_set_error(sub->node, PTA_INSPECT_NOT_A_DIRECTORY, "");
        return false;
    }
    if (sub->update) {
        node_set_error(sub->node, PTA_INSPECT_IMMUTABLE, "");
        return false;
    }
    node_clear(sub->node);
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
        node_set_error(sub.node, PTA_INSPECT_INTERNAL, error->message);
    }
}

static void inspect_object(void *obj, PtaInspect *req)
{
    json_t *object = obj;
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        pta_inspect_json(req, key, 0, value);
    }
}

static void inspect_array(void *obj, PtaInspect *req)
{
    json_t *array = obj;
    size_t i;
    json_t *value;
    json_array_foreach(array, i, value)
    {
        char name[24];
        g_snprintf(name, sizeof(name), "%zu", i);
        pta_inspect_json(req, name, 0, value);
    }
}

void pta_inspect_json(PtaInspect *req, const char *name, unsigned flags, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        /* The const is back in inspect_object(), which only reads. */
        pta_inspect_child(req, name, flags, inspect_object, (void *)(uintptr_t)value);
        break;
    case JSON_ARRAY:
        pta_inspect_child(req, name, flags, inspect_array, (void *)(uintptr_t)value);
        break;
    case JSON_STRING:
        pta_inspect_str(req, name, flags, json_string_value(value));
        break;
    case JSON_INTEGER:
        pta_inspect_s64(req, name, flags, json_integer_value(value));
        break;
    case JSON_REAL:
        pta_inspect_real(req, name, flags, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        pta_inspect_bool(req, name, flags, json_is_true(value));
        break;
    case JSON_NULL:
        break;
    }
}

void pta_inspect_child(PtaInspect *req, const char *name, unsigned flags, PtaInspectFn *fn,
                       void *obj)
{
    PtaInspect sub;
    Reach reach = descend(req, name, flags, true, &sub);
    if (reach == ELSEWHERE) {
        return;
    }
    if (reach == TOO_DEEP || (sub.below && sub.levels == 0)) {
        req->answered = true;
        return;
    }
    if (sub.below) {
        sub.levels--;
    }
    if (*sub.path == '\0') {
        sub.answered = true;
        if (!sub.update) {
            node_set_dir(sub.node); /* until fn makes a value of it */
        }
    }
    fn(obj, &sub);
    req->answered |= sub.answered;
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
            node_set_error(sub.node, PTA_INSPECT_UPDATE_FAILED, error->message);
            return;
        }
        req->update = NULL; /* read it back */
    }
    pta_inspect_child(req, name, flags, get, obj);
    req->update = text;
}

PtaInspectNode *pta_inspect(PtaInspectFn *fn, void *obj, const PtaInspectParams *params)
{
    const char *path = params->path ?: "";
    size_t len = strlen(path);
    PtaInspectNode *node = g_new0(PtaInspectNode, 1);
    PtaInspect req = {
        .path = skip_slashes(path),
        .wants_dir = len > 0 && path[len - 1] == '/',
        .levels = params->depth,
        .update = params->update,
        .max = params->max_flags & PTA_INSPECT_SAFE         ? SAFE
               : params->max_flags & PTA_INSPECT_PLAIN_ONLY ? UNSPECIFIED
                                                            : SENSITIVE,
        .node = node,
    };
    if (*req.path == '\0') {
        req.answered = true;
        if (!req.update) {
            node_set_dir(node);
        }
    }
    fn(obj, &req);
    if (!req.answered) {
        node_set_error(node, PTA_INSPECT_NOT_FOUND, "");
    } else if (params->update &&
               (node->kind == PTA_INSPECT_DIR || node->kind == PTA_INSPECT_UNEVALUATED)) {
        node_set_error(node, PTA_INSPECT_IMMUTABLE, "");
    }
    return node;
}

/* ---- JSON ---- */

static json_t *binary_string(uint64_t value)
{
    char text[2 + 64 + 1] = "0b";
    char *p = text + 2;
    for (int bit = value ? 63 - __builtin_clzll(value) : 0; bit >= 0; bit--) {
        *p++ = value >> bit & 1 ? '1' : '0';
    }
    *p = '\0';
    return json_string(text);
}

static json_t *number_to_json(uint64_t value, unsigned flags)
{
    if (flags & PTA_INSPECT_HEX) {
        return json_sprintf("0x%" G_GINT64_MODIFIER "x", value);
    }
    if (flags & PTA_INSPECT_BINARY) {
        return binary_string(value);
    }
    if (value > INT64_MAX) {
        return json_sprintf("%" G_GUINT64_FORMAT, value);
    }
    return json_integer((json_int_t)value);
}

static json_t *value_to_json(const PtaInspectValue *value)
{
    switch (value->type) {
    case PTA_INSPECT_U64:
        return number_to_json(value->u64, value->flags);
    case PTA_INSPECT_S64:
        return json_integer(value->s64);
    case PTA_INSPECT_BOOL:
        return json_boolean(value->b);
    case PTA_INSPECT_REAL:
        return json_real(value->real);
    case PTA_INSPECT_STR: {
        g_autofree char *valid = g_utf8_make_valid(value->str, -1);
        return json_string(valid);
    }
    case PTA_INSPECT_BYTES: {
        gsize len;
        const guchar *data = g_bytes_get_data(value->bytes, &len);
        g_autofree char *text = g_base64_encode(data, len);
        return json_string(text);
    }
    }
    g_assert_not_reached();
}

json_t *pta_inspect_node_to_json(const PtaInspectNode *node)
{
    switch (node->kind) {
    case PTA_INSPECT_UNEVALUATED:
        return json_null();
    case PTA_INSPECT_FAILED: {
        g_autofree char *valid = g_utf8_make_valid(node->error.text, -1);
        return json_pack("{s:s}", "$error", valid);
    }
    case PTA_INSPECT_VALUE:
        return value_to_json(&node->value);
    case PTA_INSPECT_DIR: {
        json_t *object = json_object();
        for (guint i = 0; i < node->children->len; i++) {
            const PtaInspectNode *child = g_ptr_array_index(node->children, i);
            json_object_set_new(object, child->name, pta_inspect_node_to_json(child));
        }
        return object;
    }
    }
    g_assert_not_reached();
}
