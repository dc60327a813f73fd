/*
 * The one parser, printer and destructor of everything that the schema declares. Any thread.
 *
 * A path is a chain of frames on the stack, made into text only when something is refused.
 */
#include "config.h"

#include "qmp/marshal.h"

#include <math.h>
#include <string.h>

typedef struct Path {
    const struct Path *up;
    const char *key; /* NULL: an index */
    size_t index;
} Path;

typedef struct Parse {
    const char *where;
    GError **error;
} Parse;

/* ---- fields of structs whose types only the tables know ---- */

static void *load_ptr(const void *field)
{
    void *p;
    memcpy(&p, field, sizeof p);
    return p;
}

static void store_ptr(void *field, void *p)
{
    memcpy(field, &p, sizeof p);
}

static size_t kind_size(PtaKind kind)
{
    switch (kind) {
    case PTA_KIND_BOOL:
        return sizeof(bool);
    case PTA_KIND_U8:
        return 1;
    case PTA_KIND_U16:
        return 2;
    case PTA_KIND_U32:
        return 4;
    case PTA_KIND_U64:
    case PTA_KIND_S64:
    case PTA_KIND_SIZE:
        return 8;
    case PTA_KIND_NUMBER:
        return sizeof(double);
    case PTA_KIND_ENUM:
        return sizeof(unsigned);
    case PTA_KIND_NULL:
        return 0;
    case PTA_KIND_STR:
    case PTA_KIND_UUID:
    case PTA_KIND_PATH:
    case PTA_KIND_ID:
    case PTA_KIND_ANY:
    case PTA_KIND_STRUCT:
    case PTA_KIND_UNION:
    case PTA_KIND_ALTERNATE:
        break;
    }
    return sizeof(void *);
}

static uint64_t load_number(PtaKind kind, const void *field)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    switch (kind_size(kind)) {
    case 1:
        memcpy(&u8, field, sizeof u8);
        return u8;
    case 2:
        memcpy(&u16, field, sizeof u16);
        return u16;
    case 4:
        memcpy(&u32, field, sizeof u32);
        return u32;
    default:
        memcpy(&u64, field, sizeof u64);
        return u64;
    }
}

static void store_number(PtaKind kind, void *field, uint64_t n)
{
    uint8_t u8 = (uint8_t)n;
    uint16_t u16 = (uint16_t)n;
    uint32_t u32 = (uint32_t)n;
    switch (kind_size(kind)) {
    case 1:
        memcpy(field, &u8, sizeof u8);
        break;
    case 2:
        memcpy(field, &u16, sizeof u16);
        break;
    case 4:
        memcpy(field, &u32, sizeof u32);
        break;
    default:
        memcpy(field, &n, sizeof n);
        break;
    }
}

static bool is_string_kind(PtaKind kind)
{
    return kind == PTA_KIND_STR || kind == PTA_KIND_UUID || kind == PTA_KIND_PATH ||
           kind == PTA_KIND_ID;
}

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

/* ---- C -> JSON ---- */

static json_t *print_string(const char *text)
{
    g_assert(text != NULL);
    json_t *json = json_string(text);
    if (json) {
        return json;
    }
    /* A path of the host, or what a guest said, need not be UTF-8. */
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    return json_string(valid);
}

static json_t *print_field(const PtaMemberDesc *m, const void *field)
{
    switch (m->kind) {
    case PTA_KIND_BOOL:
        return json_boolean(load_number(m->kind, field));
    case PTA_KIND_U8:
    case PTA_KIND_U16:
    case PTA_KIND_U32:
    case PTA_KIND_U64:
    case PTA_KIND_S64:
    case PTA_KIND_SIZE:
        return json_integer((json_int_t)load_number(m->kind, field));
    case PTA_KIND_NUMBER: {
        double d;
        memcpy(&d, field, sizeof d);
        return isfinite(d) ? json_real(d) : json_null();
    }
    case PTA_KIND_STR:
    case PTA_KIND_UUID:
    case PTA_KIND_PATH:
    case PTA_KIND_ID:
        return print_string(load_ptr(field));
    case PTA_KIND_ANY: {
        json_t *json = load_ptr(field);
        g_assert(json != NULL);
        return json_incref(json);
    }
    case PTA_KIND_NULL:
        return json_null();
    case PTA_KIND_ENUM:
        return json_string(pta_marshal_enum_name(m->type, (unsigned)load_number(m->kind, field)));
    case PTA_KIND_STRUCT:
    case PTA_KIND_UNION:
    case PTA_KIND_ALTERNATE:
        break;
    }
    return pta_marshal_print(m->type, load_ptr(field));
}

json_t *pta_marshal_print_member(const PtaMemberDesc *m, const void *value)
{
    const char *base = value;
    const char *field = base + m->offset;
    if (m->list) {
        size_t n;
        memcpy(&n, base + m->flag, sizeof n);
        if (n == 0 && m->optional) {
            return NULL;
        }
        json_t *array = json_array();
        const char *elements = load_ptr(field);
        for (size_t i = 0; i < n; i++) {
            json_array_append_new(array, print_field(m, elements + i * kind_size(m->kind)));
        }
        return array;
    }
    if (m->optional) {
        bool absent = m->has_flag ? !load_number(PTA_KIND_BOOL, base + m->flag) : !load_ptr(field);
        if (absent) {
            return NULL;
        }
    }
    return print_field(m, field);
}

static void print_members(const PtaTypeDesc *type, const void *value, json_t *object)
{
    for (size_t i = 0; i < type->n_members; i++) {
        json_t *json = pta_marshal_print_member(&type->members[i], value);
        if (json) {
            json_object_set_new(object, type->members[i].name, json);
        }
    }
}

json_t *pta_marshal_print(const PtaTypeDesc *type, const void *value)
{
    g_assert(value != NULL);
    const char *base = value;
    if (type->kind == PTA_KIND_STRUCT) {
        json_t *object = json_object();
        print_members(type, value, object);
        return object;
    }
    uint64_t which = load_number(PTA_KIND_ENUM, base + type->tag);
    g_assert(which < type->n_branches);
    const PtaMemberDesc *branch = &type->branches[which];
    if (type->kind == PTA_KIND_ALTERNATE) {
        return print_field(branch, base + branch->offset);
    }
    json_t *object = json_object();
    print_members(type, value, object);
    print_members(branch->type, load_ptr(base + branch->offset), object);
    return object;
}

/* ---- the end ---- */

static void clear_field(const PtaMemberDesc *m, void *field)
{
    switch (m->kind) {
    case PTA_KIND_STR:
    case PTA_KIND_UUID:
    case PTA_KIND_PATH:
    case PTA_KIND_ID:
        g_free(load_ptr(field));
        break;
    case PTA_KIND_ANY:
        json_decref(load_ptr(field));
        break;
    case PTA_KIND_STRUCT:
    case PTA_KIND_UNION:
    case PTA_KIND_ALTERNATE:
        pta_marshal_free(m->type, load_ptr(field));
        break;
    case PTA_KIND_BOOL:
    case PTA_KIND_U8:
    case PTA_KIND_U16:
    case PTA_KIND_U32:
    case PTA_KIND_U64:
    case PTA_KIND_S64:
    case PTA_KIND_NUMBER:
    case PTA_KIND_SIZE:
    case PTA_KIND_NULL:
    case PTA_KIND_ENUM:
        break;
    }
}

void pta_marshal_clear_member(const PtaMemberDesc *m, void *value)
{
    char *base = value;
    if (!m->list) {
        clear_field(m, base + m->offset);
        return;
    }
    char *elements = load_ptr(base + m->offset);
    size_t n;
    memcpy(&n, base + m->flag, sizeof n);
    for (size_t i = 0; i < n; i++) {
        clear_field(m, elements + i * kind_size(m->kind));
    }
    g_free(elements);
}

void pta_marshal_free(const PtaTypeDesc *type, void *value)
{
    if (!value) {
        return;
    }
    char *base = value;
    for (size_t i = 0; i < type->n_members; i++) {
        pta_marshal_clear_member(&type->members[i], base);
    }
    if (type->n_branches) {
        /* The tag of a value that was refused may not be set, or its branch not be there: 0, NULL. */
        uint64_t which = load_number(PTA_KIND_ENUM, base + type->tag);
        g_assert(which < type->n_branches);
        clear_field(&type->branches[which], base + type->branches[which].offset);
    }
    g_free(value);
}

/* ---- enums ---- */

const char *pta_marshal_enum_name(const PtaTypeDesc *type, unsigned value)
{
    g_assert(value < type->n_values);
    return type->values[value];
}

bool pta_marshal_enum_parse(const PtaTypeDesc *type, const char *text, unsigned *value)
{
    for (size_t i = 0; i < type->n_values; i++) {
        if (strcmp(type->values[i], text) == 0) {
            *value = (unsigned)i;
            return true;
        }
    }
    return false;
}

/* ---- files ---- */

json_t *pta_json_load_file(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    g_autoptr(GError) err = NULL;
    if (!g_file_get_contents(path, &text, &len, &err)) {
        pta_throw(error, PTA_ERROR_HOST, "%s", err->message);
        return NULL;
    }
    json_error_t where;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!json) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s:%d:%d: %s", path, MAX(where.line, 1),
                  MAX(where.column, 0), where.text);
    }
    return json;
}
