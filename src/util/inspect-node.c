/* The nodes that inspect answers with: making, merging, order, rates, JSON. No state of its own. */
#include "config.h"

#include "src/util/inspect-private.h"

#include <math.h>
#include <string.h>

void inspect_node_clear(PtaInspectNode *node)
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
        inspect_node_clear(node);
        g_free(node->name);
        g_free(node);
    }
}

static void free_child(gpointer node)
{
    pta_inspect_node_free(node);
}

void inspect_node_set_dir(PtaInspectNode *node)
{
    if (node->kind != PTA_INSPECT_DIR) {
        inspect_node_clear(node);
        node->kind = PTA_INSPECT_DIR;
        node->children = g_ptr_array_new_with_free_func(free_child);
    }
}

void inspect_node_set_error(PtaInspectNode *node, PtaInspectError code, const char *detail)
{
    static const char *const texts[] = {
        [PTA_INSPECT_NOT_FOUND] = "not found",
        [PTA_INSPECT_NOT_A_DIRECTORY] = "not a directory",
        [PTA_INSPECT_IMMUTABLE] = "cannot be set",
        [PTA_INSPECT_UPDATE_FAILED] = "cannot set it: ",
        [PTA_INSPECT_UNRESOLVED] = "unresolved",
        [PTA_INSPECT_DROPPED] = "dropped",
        [PTA_INSPECT_INTERNAL] = "",
    };
    char *text = g_strconcat(texts[code], detail, NULL);
    inspect_node_clear(node);
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
PtaInspectNode *inspect_node_get_child(PtaInspectNode *dir, const char *name, size_t len)
{
    g_autofree char *copy = g_strndup(name, len);
    bool found;
    guint at = find_place(dir, copy, &found);
    if (found) {
        return g_ptr_array_index(dir->children, at);
    }
    PtaInspectNode *child = g_new0(PtaInspectNode, 1);
    child->name = g_steal_pointer(&copy);
    child->parent = dir;
    g_ptr_array_insert(dir->children, (gint)at, child);
    return child;
}

void inspect_node_merge(PtaInspectNode *into, PtaInspectNode *from)
{
    if (from->kind == PTA_INSPECT_UNEVALUATED) {
        return;
    }
    if (from->kind != PTA_INSPECT_DIR) {
        inspect_node_clear(into);
        into->kind = from->kind;
        if (from->kind == PTA_INSPECT_VALUE) {
            into->value = from->value;
        } else {
            into->error = from->error;
        }
        from->kind = PTA_INSPECT_UNEVALUATED; /* what it owned is the other's now */
        return;
    }
    inspect_node_set_dir(into);
    for (guint i = 0; i < from->children->len; i++) {
        PtaInspectNode *child = g_ptr_array_index(from->children, i);
        PtaInspectNode *place = inspect_node_get_child(into, child->name, strlen(child->name));
        inspect_node_merge(place, child);
    }
}

/* ---- rates ---- */

static void set_rate(PtaInspectNode *now, const PtaInspectNode *then, double seconds)
{
    if (now->value.type != PTA_INSPECT_U64 || !(now->value.flags & PTA_INSPECT_COUNTER) ||
        then->kind != PTA_INSPECT_VALUE || then->value.type != PTA_INSPECT_U64) {
        return;
    }
    uint64_t base = then->value.u64;
    if (now->value.u64 < base) {
        base = 0; /* it was reset in between */
    }
    now->value.has_rate = true;
    now->value.rate = (double)(now->value.u64 - base) / seconds;
}

void pta_inspect_node_since(PtaInspectNode *now, const PtaInspectNode *then, double seconds)
{
    if (!(seconds > 0)) {
        return;
    }
    if (now->kind == PTA_INSPECT_VALUE) {
        set_rate(now, then, seconds);
    }
    for (guint i = 0; now->kind == PTA_INSPECT_DIR && i < now->children->len; i++) {
        PtaInspectNode *child = g_ptr_array_index(now->children, i);
        const PtaInspectNode *old = pta_inspect_node_find(then, child->name);
        if (old) {
            pta_inspect_node_since(child, old, seconds);
        }
    }
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
        return isfinite(value->real) ? json_real(value->real) : json_null();
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

/* Takes value. Names are ours, but for ids and the like. */
static void set_member(json_t *object, const char *name, json_t *value)
{
    g_autofree char *valid = g_utf8_make_valid(name, -1);
    json_object_set_new(object, valid, value);
}

static json_t *counter_to_json(const PtaInspectValue *value)
{
    json_t *json = json_pack("{s:o}", "$counter", value_to_json(value));
    if (value->has_rate) {
        json_object_set_new(json, "$rate", json_real(value->rate));
    }
    return json;
}

json_t *pta_inspect_node_to_json(const PtaInspectNode *node, bool counters)
{
    switch (node->kind) {
    case PTA_INSPECT_UNEVALUATED:
        return json_null();
    case PTA_INSPECT_FAILED: {
        g_autofree char *valid = g_utf8_make_valid(node->error.text, -1);
        return json_pack("{s:s}", "$error", valid);
    }
    case PTA_INSPECT_VALUE:
        if (node->value.has_rate || (counters && node->value.flags & PTA_INSPECT_COUNTER)) {
            return counter_to_json(&node->value);
        }
        return value_to_json(&node->value);
    case PTA_INSPECT_DIR: {
        json_t *object = json_object();
        for (guint i = 0; i < node->children->len; i++) {
            const PtaInspectNode *child = g_ptr_array_index(node->children, i);
            set_member(object, child->name, pta_inspect_node_to_json(child, counters));
        }
        return object;
    }
    }
    g_assert_not_reached();
}
