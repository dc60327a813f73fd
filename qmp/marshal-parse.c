/*
 * JSON to C structs. Any thread.
 *
 * A path is a chain of frames on the stack, made into text only when something is refused.
 */
#include "config.h"

#include "qmp/marshal-private.h"

typedef struct Path {
    const struct Path *up;
    const char *key; /* NULL: an index */
    size_t index;
} Path;

typedef struct Parse {
    const char *where;
    GError **error;
} Parse;

/* ---- refusals ---- */

static void path_append(GString *out, const Path *path)
{
    if (!path) {
        g_string_append_c(out, '$');
        return;
    }
    path_append(out, path->up);
    if (!path->key) {
        g_string_append_printf(out, "[%zu]", path->index);
        return;
    }
    bool plain = *path->key != '\0' && strlen(path->key) <= 64;
    for (const char *p = path->key; *p && plain; p++) {
        plain = g_ascii_isalnum(*p) || *p == '-' || *p == '_';
    }
    if (plain) {
        g_string_append_printf(out, ".%s", path->key);
    }
    /* Keys that are not plain appear as what was found, in quotes. */
}

/* The value as a person wrote it, short and without control characters. */
static char *describe(json_t *json)
{
    if (!json) {
        return g_strdup("nothing");
    }
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return g_strdup("an object");
    case JSON_ARRAY:
        return g_strdup("an array");
    case JSON_STRING: {
        enum { SHOWN = 60 };
        const char *text = json_string_value(json);
        size_t len = json_string_length(json);
        size_t shown = len;
        if (len > SHOWN) {
            shown = SHOWN;
            while (shown > 0 && ((unsigned char)text[shown] & 0xc0) == 0x80) {
                shown--; /* not within a character */
            }
        }
        json_t *head = json_stringn(text, shown);
        g_autofree char *quoted = NULL;
        char *dump = json_dumps(head, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        json_decref(head);
        quoted = g_strdup(dump ? dump : "a string");
        free(dump);
        return shown < len ? g_strdup_printf("%s… (%zu bytes)", quoted, len)
                           : g_steal_pointer(&quoted);
    }
    case JSON_INTEGER:
        return g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(json));
    case JSON_REAL: {
        char *dump = json_dumps(json, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        char *text = g_strdup(dump ? dump : "a number");
        free(dump);
        return text;
    }
    case JSON_TRUE:
        return g_strdup("true");
    case JSON_FALSE:
        return g_strdup("false");
    case JSON_NULL:
        break;
    }
    return g_strdup("null");
}

static bool refuse_text(const Parse *parse, const Path *path, const char *expected,
                        const char *found)
{
    g_autoptr(GString) text = g_string_new(NULL);
    if (parse->where) {
        g_string_append_printf(text, "%s: ", parse->where);
    }
    path_append(text, path);
    g_string_append_printf(text, ": expected %s, found %s", expected, found);
    return pta_throw(parse->error, PTA_ERROR_BAD_DESCRIPTION, "%s", text->str);
}

static char *join_values(const PtaTypeDesc *type)
{
    GString *out = g_string_new(type->n_values == 1 ? "" : "one of ");
    for (size_t i = 0; i < type->n_values; i++) {
        g_string_append_printf(out, "%s%s", i ? ", " : "", type->values[i]);
    }
    return g_string_free(out, FALSE);
}

/* What a kind looks like, without bounds. */
static const char *kind_text(PtaKind kind)
{
    static const char *const texts[] = {
        [PTA_KIND_BOOL] = "true or false",
        [PTA_KIND_STR] = "a string",
        [PTA_KIND_U8] = "a whole number",
        [PTA_KIND_U16] = "a whole number",
        [PTA_KIND_U32] = "a whole number",
        [PTA_KIND_U64] = "a whole number",
        [PTA_KIND_S64] = "a whole number",
        [PTA_KIND_NUMBER] = "a number",
        [PTA_KIND_SIZE] = "a size in bytes or such as \"512M\"",
        [PTA_KIND_UUID] = "a UUID such as \"1b4e28ba-2fa1-11d2-883f-0016d3cca427\"",
        [PTA_KIND_PATH] = "a path",
        [PTA_KIND_ID] = "an id (a letter, then letters, digits, '-', '_', '.')",
        [PTA_KIND_ANY] = "a value",
        [PTA_KIND_NULL] = "null",
        [PTA_KIND_ENUM] = "a string",
        [PTA_KIND_STRUCT] = "an object",
        [PTA_KIND_UNION] = "an object",
        [PTA_KIND_ALTERNATE] = "a value",
    };
    return texts[kind];
}

static char *expected_text(const PtaMemberDesc *m)
{
    switch (m->kind) {
    case PTA_KIND_ENUM:
        return join_values(m->type);
    case PTA_KIND_U8:
    case PTA_KIND_U16:
    case PTA_KIND_U32:
        return g_strdup_printf("a whole number from %" G_GINT64_FORMAT " to %" G_GUINT64_FORMAT,
                               m->min, m->max);
    case PTA_KIND_U64:
    case PTA_KIND_S64:
        if (m->min <= 0 && m->max >= INT64_MAX) {
            return g_strdup(m->min == 0 && m->kind == PTA_KIND_S64
                                ? "a whole number that is not negative"
                                : "a whole number");
        }
        return g_strdup_printf("a whole number from %" G_GINT64_FORMAT " to %" G_GUINT64_FORMAT,
                               m->min, m->max);
    case PTA_KIND_SIZE: {
        g_autofree char *low = pta_format_size((uint64_t)m->min);
        g_autofree char *high = pta_format_size(m->max);
        if (m->max < INT64_MAX) {
            return g_strdup_printf("a size from %s to %s", low, high);
        }
        return m->min > 0 ? g_strdup_printf("a size of at least %s", low)
                          : g_strdup(kind_text(m->kind));
    }
    case PTA_KIND_STR:
    case PTA_KIND_PATH:
        if (m->max_length && !m->list) {
            return g_strdup_printf("%s of at most %zu bytes", kind_text(m->kind), m->max_length);
        }
        return g_strdup(kind_text(m->kind));
    case PTA_KIND_ALTERNATE: {
        GString *out = g_string_new(NULL);
        for (size_t i = 0; i < m->type->n_branches; i++) {
            g_autofree char *branch = expected_text(&m->type->branches[i]);
            g_string_append_printf(out, "%s%s", i ? " or " : "", branch);
        }
        return g_string_free(out, FALSE);
    }
    case PTA_KIND_BOOL:
    case PTA_KIND_NUMBER:
    case PTA_KIND_UUID:
    case PTA_KIND_ID:
    case PTA_KIND_ANY:
    case PTA_KIND_NULL:
    case PTA_KIND_STRUCT:
    case PTA_KIND_UNION:
        break;
    }
    return g_strdup(kind_text(m->kind));
}

static bool refuse(const Parse *parse, const Path *path, const PtaMemberDesc *m, json_t *json)
{
    g_autofree char *expected = expected_text(m);
    g_autofree char *found = m->sensitive && json ? g_strdup("something else") : describe(json);
    return refuse_text(parse, path, expected, found);
}

/* ---- JSON -> C ---- */

static void *parse_value(const Parse *parse, const Path *path, const PtaTypeDesc *type,
                         json_t *json);

static bool is_uuid(const char *text)
{
    return g_uuid_string_is_valid(text);
}

static bool is_id(const char *text, size_t len)
{
    bool ok = g_ascii_isalpha(text[0]) && len <= PTA_ID_MAX;
    for (size_t i = 0; i < len && ok; i++) {
        ok = g_ascii_isalnum(text[i]) || strchr("-_.", text[i]);
    }
    return ok;
}

static bool string_fits(const PtaMemberDesc *m, json_t *json)
{
    if (!json_is_string(json)) {
        return false;
    }
    const char *text = json_string_value(json);
    size_t len = json_string_length(json);
    if (strlen(text) != len) {
        return false; /* \u0000 within */
    }
    if (m->max_length && !m->list && len > m->max_length) {
        return false;
    }
    switch (m->kind) {
    case PTA_KIND_UUID:
        return is_uuid(text);
    case PTA_KIND_PATH:
        return len > 0;
    case PTA_KIND_ID:
        return is_id(text, len);
    default:
        return true;
    }
}

static bool whole_fits(const PtaMemberDesc *m, json_t *json, uint64_t *n)
{
    if (json_is_integer(json)) {
        json_int_t i = json_integer_value(json);
        *n = (uint64_t)i;
        if (i >= 0) {
            return (m->min < 0 || *n >= (uint64_t)m->min) && *n <= m->max;
        }
        /* A u64 without bounds takes the upper half as negative numbers, as it prints them. */
        return (m->kind == PTA_KIND_U64 && m->min == 0 && m->max == UINT64_MAX) ||
               (m->kind == PTA_KIND_S64 && i >= m->min);
    }
    return m->kind == PTA_KIND_SIZE && json_is_string(json) &&
           strlen(json_string_value(json)) == json_string_length(json) &&
           pta_parse_size(json_string_value(json), n) && *n >= (uint64_t)m->min && *n <= m->max;
}

/* One value into the field; of a list, into the field of an element. */
static bool parse_field(const Parse *parse, const Path *path, const PtaMemberDesc *m, json_t *json,
                        void *field)
{
    switch (m->kind) {
    case PTA_KIND_BOOL:
        if (!json_is_boolean(json)) {
            break;
        }
        store_number(m->kind, field, json_is_true(json));
        return true;
    case PTA_KIND_U8:
    case PTA_KIND_U16:
    case PTA_KIND_U32:
    case PTA_KIND_U64:
    case PTA_KIND_S64:
    case PTA_KIND_SIZE: {
        uint64_t n;
        if (!whole_fits(m, json, &n)) {
            break;
        }
        store_number(m->kind, field, n);
        return true;
    }
    case PTA_KIND_NUMBER: {
        if (!json_is_number(json)) {
            break;
        }
        double d = json_number_value(json);
        memcpy(field, &d, sizeof d);
        return true;
    }
    case PTA_KIND_STR:
    case PTA_KIND_UUID:
    case PTA_KIND_PATH:
    case PTA_KIND_ID:
        if (!string_fits(m, json)) {
            break;
        }
        store_ptr(field, g_strdup(json_string_value(json)));
        return true;
    case PTA_KIND_ANY:
        store_ptr(field, json_incref(json));
        return true;
    case PTA_KIND_NULL:
        if (!json_is_null(json)) {
            break;
        }
        return true;
    case PTA_KIND_ENUM: {
        unsigned value;
        if (!json_is_string(json) ||
            !pta_marshal_enum_parse(m->type, json_string_value(json), &value)) {
            break;
        }
        store_number(m->kind, field, value);
        return true;
    }
    case PTA_KIND_STRUCT:
    case PTA_KIND_UNION: {
        if (!json_is_object(json)) {
            break;
        }
        void *value = parse_value(parse, path, m->type, json);
        store_ptr(field, value);
        return value != NULL;
    }
    case PTA_KIND_ALTERNATE: {
        void *value = parse_value(parse, path, m->type, json);
        store_ptr(field, value);
        return value != NULL;
    }
    }
    return refuse(parse, path, m, json);
}

/* The member that names things of this type, if it has one. */
static const PtaMemberDesc *id_member(const PtaTypeDesc *type)
{
    for (size_t i = 0; type && i < type->n_members; i++) {
        if (type->members[i].kind == PTA_KIND_ID && !type->members[i].list) {
            return &type->members[i];
        }
    }
    return NULL;
}

/* Ids of a list: of its structs, or its elements themselves. `seen` maps an id to its index + 1. */
static bool check_unique(const Parse *parse, const Path *path, const PtaMemberDesc *m,
                         const void *element, size_t index, GHashTable *seen)
{
    const PtaMemberDesc *id = m->kind == PTA_KIND_ID ? m : id_member(m->type);
    if (!id) {
        return true;
    }
    const char *name = load_ptr(id == m ? element : (const char *)load_ptr(element) + id->offset);
    if (!name) {
        return true;
    }
    size_t first = GPOINTER_TO_SIZE(g_hash_table_lookup(seen, name));
    if (first == 0) {
        g_hash_table_insert(seen, (void *)name, GSIZE_TO_POINTER(index + 1));
        return true;
    }
    g_autofree char *found = g_strdup_printf("\"%s\" again (first at index %zu)", name, first - 1);
    Path inner = { path, id->name, 0 };
    return refuse_text(parse, id == m ? path : &inner, "a unique id", found);
}

static bool parse_list(const Parse *parse, const Path *path, const PtaMemberDesc *m, json_t *json,
                       char *base)
{
    if (!json_is_array(json)) {
        g_autofree char *found = describe(json);
        return refuse_text(parse, path, "an array", found);
    }
    size_t n = json_array_size(json);
    if (m->max_length && n > m->max_length) {
        g_autofree char *expected =
            g_strdup_printf("an array of at most %zu elements", m->max_length);
        g_autofree char *found = g_strdup_printf("%zu", n);
        return refuse_text(parse, path, expected, found);
    }
    size_t size = kind_size(m->kind);
    /* The array is NULL if it is empty; its count grows with the elements, so that what is there is
     * freed after a refusal. */
    char *elements = n ? g_malloc0_n(n, size) : NULL;
    store_ptr(base + m->offset, elements);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (size_t i = 0; i < n; i++) {
        Path inner = { path, NULL, i };
        char *element = elements + i * size;
        if (!parse_field(parse, &inner, m, json_array_get(json, i), element)) {
            return false;
        }
        size_t count = i + 1;
        memcpy(base + m->flag, &count, sizeof count);
        if (!check_unique(parse, &inner, m, element, i, seen)) {
            return false;
        }
    }
    return true;
}

static void store_default(const PtaMemberDesc *m, void *field)
{
    if (is_string_kind(m->kind)) {
        store_ptr(field, g_strdup(m->text));
    } else if (m->kind == PTA_KIND_NUMBER) {
        memcpy(field, &m->real, sizeof m->real);
    } else {
        store_number(m->kind, field, m->number);
    }
}

static bool parse_member(const Parse *parse, const Path *path, const PtaMemberDesc *m,
                         json_t *object, char *base)
{
    json_t *json = json_object_get(object, m->name);
    Path inner = { path, m->name, 0 };
    void *field = base + m->offset;
    if (!json) {
        if (m->optional) {
            return true;
        }
        if (!m->has_default) {
            if (m->list) {
                return refuse_text(parse, &inner, "an array", "nothing");
            }
            return refuse(parse, &inner, m, NULL);
        }
        if (m->kind != PTA_KIND_STRUCT) {
            store_default(m, field);
            return true;
        }
        json_t *empty = json_object();
        bool ok = parse_field(parse, &inner, m, empty, field);
        json_decref(empty);
        return ok;
    }
    if (m->list) {
        return parse_list(parse, &inner, m, json, base);
    }
    if (m->has_flag) {
        store_number(PTA_KIND_BOOL, base + m->flag, true);
    }
    return parse_field(parse, &inner, m, json, field);
}

static const PtaMemberDesc *find_member(const PtaTypeDesc *type, const char *name)
{
    for (size_t i = 0; i < type->n_members; i++) {
        if (strcmp(type->members[i].name, name) == 0) {
            return &type->members[i];
        }
    }
    return NULL;
}

const PtaMemberDesc *pta_marshal_find(const PtaTypeDesc *type, const char *name)
{
    const PtaMemberDesc *m = find_member(type, name);
    for (size_t i = 0; !m && type->kind == PTA_KIND_UNION && i < type->n_branches; i++) {
        m = find_member(type->branches[i].type, name);
    }
    return m;
}

static void append_names(GString *out, const PtaTypeDesc *type)
{
    for (size_t i = 0; i < type->n_members; i++) {
        g_string_append_printf(out, "%s%s", out->len ? ", " : "", type->members[i].name);
    }
}

/* Every key must be a member of the type or of its branch (NULL if it has none). */
static bool check_keys(const Parse *parse, const Path *path, const PtaTypeDesc *type,
                       const PtaTypeDesc *branch, json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (find_member(type, key) || (branch && find_member(branch, key))) {
            continue;
        }
        g_autoptr(GString) names = g_string_new(NULL);
        append_names(names, type);
        if (branch) {
            append_names(names, branch);
        }
        g_autofree char *expected =
            names->len ? g_strdup_printf("only %s", names->str) : g_strdup("no members");
        json_t *name = json_string(key);
        g_autofree char *quoted = describe(name);
        json_decref(name);
        g_autofree char *found = g_strdup_printf("the unknown member %s", quoted);
        Path inner = { path, key, 0 };
        return refuse_text(parse, &inner, expected, found);
    }
    return true;
}

static bool parse_members(const Parse *parse, const Path *path, const PtaTypeDesc *type,
                          json_t *object, void *base)
{
    for (size_t i = 0; i < type->n_members; i++) {
        if (!parse_member(parse, path, &type->members[i], object, base)) {
            return false;
        }
    }
    return true;
}

static bool parse_struct(const Parse *parse, const Path *path, const PtaTypeDesc *type,
                         json_t *object, void *base)
{
    return check_keys(parse, path, type, NULL, object) &&
           parse_members(parse, path, type, object, base);
}

static bool parse_union(const Parse *parse, const Path *path, const PtaTypeDesc *type,
                        json_t *object, char *base)
{
    /* The discriminator first, for it says which members there may be. */
    const PtaMemberDesc *tag = &type->members[type->n_members - 1];
    if (!parse_member(parse, path, tag, object, base)) {
        return false;
    }
    uint64_t which = load_number(PTA_KIND_ENUM, base + type->tag);
    const PtaMemberDesc *branch = &type->branches[which];
    if (!check_keys(parse, path, type, branch->type, object) ||
        !parse_members(parse, path, type, object, base)) {
        return false;
    }
    void *value = g_malloc0(branch->type->size);
    store_ptr(base + branch->offset, value);
    return parse_members(parse, path, branch->type, object, value);
}

static bool json_suits(const PtaMemberDesc *branch, json_t *json)
{
    switch (branch->kind) {
    case PTA_KIND_NULL:
        return json_is_null(json);
    case PTA_KIND_BOOL:
        return json_is_boolean(json);
    case PTA_KIND_NUMBER:
        return json_is_number(json);
    case PTA_KIND_U8:
    case PTA_KIND_U16:
    case PTA_KIND_U32:
    case PTA_KIND_U64:
    case PTA_KIND_S64:
        return json_is_integer(json);
    case PTA_KIND_SIZE:
        return json_is_integer(json) || json_is_string(json);
    case PTA_KIND_STR:
    case PTA_KIND_UUID:
    case PTA_KIND_PATH:
    case PTA_KIND_ID:
    case PTA_KIND_ENUM:
        return json_is_string(json);
    case PTA_KIND_STRUCT:
    case PTA_KIND_UNION:
        return json_is_object(json);
    case PTA_KIND_ANY:
    case PTA_KIND_ALTERNATE:
        break;
    }
    return false;
}

static bool parse_alternate(const Parse *parse, const Path *path, const PtaTypeDesc *type,
                            json_t *json, char *base)
{
    for (size_t i = 0; i < type->n_branches; i++) {
        const PtaMemberDesc *branch = &type->branches[i];
        if (json_suits(branch, json)) {
            store_number(PTA_KIND_ENUM, base + type->tag, i);
            return parse_field(parse, path, branch, json, base + branch->offset);
        }
    }
    PtaMemberDesc self = { .kind = PTA_KIND_ALTERNATE, .type = type };
    return refuse(parse, path, &self, json);
}

static void *parse_value(const Parse *parse, const Path *path, const PtaTypeDesc *type,
                         json_t *json)
{
    void *value = g_malloc0(type->size);
    bool ok = false;
    if (type->kind == PTA_KIND_ALTERNATE) {
        ok = parse_alternate(parse, path, type, json, value);
    } else if (!json_is_object(json)) {
        g_autofree char *found = describe(json);
        refuse_text(parse, path, "an object", found);
    } else if (type->kind == PTA_KIND_UNION) {
        ok = parse_union(parse, path, type, json, value);
    } else {
        g_assert(type->kind == PTA_KIND_STRUCT);
        ok = parse_struct(parse, path, type, json, value);
    }
    if (!ok) {
        pta_marshal_free(type, value);
        return NULL;
    }
    return value;
}

void *pta_marshal_parse(const PtaTypeDesc *type, json_t *json, const char *where, GError **error)
{
    Parse parse = { where, error };
    return parse_value(&parse, NULL, type, json);
}
