/* query-qmp-schema as its users need it. An entity is the JSON object of a name. */
#include "config.h"

#include "qmp/client-schema.h"

#include "src/util/inspect.h" /* pta_natural_compare() */

#include <errno.h>
#include <string.h>

struct PtaClientSchema {
    json_t *list;
    GHashTable *entities; /* name -> its object, lent by list */
};

static const char *get(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key)) ?: "";
}

static json_t *entity(const PtaClientSchema *s, const char *name)
{
    return g_hash_table_lookup(s->entities, name);
}

static bool is_meta(const json_t *e, const char *meta)
{
    return e && strcmp(get(e, "meta-type"), meta) == 0;
}

PtaClientSchema *pta_client_schema_new(json_t *list)
{
    if (!json_is_array(list)) {
        return NULL;
    }
    PtaClientSchema *s = g_new0(PtaClientSchema, 1);
    s->list = json_incref(list);
    s->entities = g_hash_table_new(g_str_hash, g_str_equal);
    size_t i;
    json_t *e;
    json_array_foreach(list, i, e)
    {
        g_hash_table_insert(s->entities, (gpointer)(uintptr_t)get(e, "name"), e);
    }
    return s;
}

void pta_client_schema_free(PtaClientSchema *s)
{
    if (s) {
        g_hash_table_unref(s->entities);
        json_decref(s->list);
        g_free(s);
    }
}

bool pta_client_schema_has(const PtaClientSchema *s, const char *command)
{
    return is_meta(entity(s, command), "command");
}

/* ---- lists of names ---- */

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return pta_natural_compare(*(const char *const *)a, *(const char *const *)b);
}

static char **end_names(GPtrArray *names, bool sort)
{
    if (sort) {
        g_ptr_array_sort(names, compare_names);
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

static char **names_of(const PtaClientSchema *s, const char *meta)
{
    GPtrArray *names = g_ptr_array_new();
    size_t i;
    json_t *e;
    json_array_foreach(s->list, i, e)
    {
        if (is_meta(e, meta)) {
            g_ptr_array_add(names, g_strdup(get(e, "name")));
        }
    }
    return end_names(names, true);
}

char **pta_client_schema_commands(const PtaClientSchema *s)
{
    return names_of(s, "command");
}

char **pta_client_schema_events(const PtaClientSchema *s)
{
    return names_of(s, "event");
}

/* ---- types ---- */

/* Calls fn for each member of an object type, those of its variants included; stops when it returns
 * true. */
typedef bool MemberFn(void *opaque, const json_t *member);

static bool each_member(const PtaClientSchema *s, const json_t *type, unsigned depth, MemberFn *fn,
                        void *opaque)
{
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(type, "members"), i, member)
    {
        if (fn(opaque, member)) {
            return true;
        }
    }
    json_t *variant;
    json_array_foreach(json_object_get(type, "variants"), i, variant)
    {
        json_t *branch = entity(s, get(variant, "type"));
        if (depth > 0 && branch && each_member(s, branch, depth - 1, fn, opaque)) {
            return true;
        }
    }
    return false;
}

#define MAX_VARIANT_DEPTH 8 /* of variants within variants: a schema may be cyclic */

typedef struct Find {
    const char *name;
    size_t len;
    const json_t *member;
} Find;

static bool find_member_fn(void *opaque, const json_t *member)
{
    Find *find = opaque;
    const char *name = get(member, "name");
    if (strlen(name) == find->len && memcmp(name, find->name, find->len) == 0) {
        find->member = member;
        return true;
    }
    return false;
}

/* The object type within a type: itself, or an alternate's branch. */
static const json_t *as_object(const PtaClientSchema *s, const json_t *type)
{
    if (is_meta(type, "object")) {
        return type;
    }
    if (is_meta(type, "alternate")) {
        size_t i;
        json_t *member;
        json_array_foreach(json_object_get(type, "members"), i, member)
        {
            json_t *branch = entity(s, get(member, "type"));
            if (is_meta(branch, "object")) {
                return branch;
            }
        }
    }
    return NULL;
}

static const json_t *member_type(const PtaClientSchema *s, const json_t *object, const char *name,
                                 size_t len)
{
    Find find = { name, len, NULL };
    if (!object || !each_member(s, object, MAX_VARIANT_DEPTH, find_member_fn, &find)) {
        return NULL;
    }
    return entity(s, get(find.member, "type"));
}

/* The object type in which the last component of key is a member, and where that begins. */
static const json_t *resolve(const PtaClientSchema *s, const char *command, const char *key,
                             const char **last)
{
    const json_t *object = as_object(s, entity(s, get(entity(s, command), "arg-type")));
    const char *dot;
    while (object && (dot = strchr(key, '.'))) {
        object = as_object(s, member_type(s, object, key, (size_t)(dot - key)));
        key = dot + 1;
    }
    *last = key;
    return object;
}

static const json_t *type_of_key(const PtaClientSchema *s, const char *command, const char *key)
{
    const char *last;
    const json_t *object = resolve(s, command, key, &last);
    return member_type(s, object, last, strlen(last));
}

typedef struct Keys {
    const PtaClientSchema *schema;
    GPtrArray *names;
    const char *path; /* before the last component */
    size_t path_len;
    const char *last;
} Keys;

static bool keys_fn(void *opaque, const json_t *member)
{
    Keys *keys = opaque;
    const char *name = get(member, "name");
    if (g_str_has_prefix(name, keys->last)) {
        const json_t *type = entity(keys->schema, get(member, "type"));
        g_ptr_array_add(keys->names, g_strdup_printf("%.*s%s%c", (int)keys->path_len, keys->path,
                                                     name, is_meta(type, "object") ? '.' : '='));
    }
    return false;
}

char **pta_client_schema_keys(const PtaClientSchema *s, const char *command, const char *prefix)
{
    Keys keys = { s, g_ptr_array_new(), prefix, 0, NULL };
    const json_t *object = resolve(s, command, prefix, &keys.last);
    keys.path_len = (size_t)(keys.last - prefix);
    if (object) {
        each_member(s, object, MAX_VARIANT_DEPTH, keys_fn, &keys);
    }
    return end_names(keys.names, true);
}

static void add_values(const PtaClientSchema *s, const json_t *type, GPtrArray *values,
                       unsigned depth)
{
    size_t i;
    json_t *e;
    if (is_meta(type, "enum")) {
        json_array_foreach(json_object_get(type, "values"), i, e)
        {
            g_ptr_array_add(values, g_strdup(json_string_value(e) ?: ""));
        }
    } else if (is_meta(type, "builtin") && strcmp(get(type, "json-type"), "boolean") == 0) {
        g_ptr_array_add(values, g_strdup("false"));
        g_ptr_array_add(values, g_strdup("true"));
    } else if (depth > 0 && is_meta(type, "alternate")) {
        json_array_foreach(json_object_get(type, "members"), i, e)
        {
            add_values(s, entity(s, get(e, "type")), values, depth - 1);
        }
    } else if (depth > 0 && is_meta(type, "array")) {
        add_values(s, entity(s, get(type, "element-type")), values, depth - 1);
    }
}

char **pta_client_schema_values(const PtaClientSchema *s, const char *command, const char *key)
{
    GPtrArray *values = g_ptr_array_new();
    add_values(s, type_of_key(s, command, key), values, MAX_VARIANT_DEPTH);
    return end_names(values, false);
}

/* ---- usage ---- */

static void put_type(const PtaClientSchema *s, const json_t *type, GString *text, unsigned depth)
{
    size_t i;
    json_t *e;
    if (is_meta(type, "enum")) {
        json_array_foreach(json_object_get(type, "values"), i, e)
        {
            g_string_append_printf(text, "%s%s", i ? "|" : "", json_string_value(e) ?: "");
        }
    } else if (is_meta(type, "builtin")) {
        g_autofree char *upper = g_ascii_strup(get(type, "json-type"), -1);
        g_string_append(text, upper);
    } else if (is_meta(type, "array") && depth > 0) {
        put_type(s, entity(s, get(type, "element-type")), text, depth - 1);
        g_string_append(text, ",…");
    } else if (is_meta(type, "alternate") && depth > 0) {
        json_array_foreach(json_object_get(type, "members"), i, e)
        {
            g_string_append(text, i ? "|" : "");
            put_type(s, entity(s, get(e, "type")), text, depth - 1);
        }
    } else {
        g_string_append(text, "{…}");
    }
}

typedef struct Usage {
    const PtaClientSchema *schema;
    GPtrArray *lines;
} Usage;

static bool usage_fn(void *opaque, const json_t *member)
{
    Usage *usage = opaque;
    bool optional = json_object_get(member, "default") != NULL;
    GString *text = g_string_new(optional ? "[" : "");
    g_string_append_printf(text, "%s=", get(member, "name"));
    put_type(usage->schema, entity(usage->schema, get(member, "type")), text, 3);
    g_string_append(text, optional ? "]" : "");
    g_ptr_array_add(usage->lines, g_string_free(text, FALSE));
    return false;
}

char **pta_client_schema_usage(const PtaClientSchema *s, const char *command)
{
    Usage usage = { s, g_ptr_array_new() };
    const json_t *object = as_object(s, entity(s, get(entity(s, command), "arg-type")));
    if (object) {
        each_member(s, object, MAX_VARIANT_DEPTH, usage_fn, &usage);
    }
    return end_names(usage.lines, false);
}

/* ---- values ---- */

static json_t *parse_json(const char *text)
{
    return json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
}

/* Of any type: JSON if it is that, else the text itself. */
static json_t *guess(const char *text)
{
    return parse_json(text) ?: json_string(text);
}

static json_t *parse_integer(const char *text)
{
    char *end;
    errno = 0;
    bool negative = *text == '-';
    uint64_t n = g_ascii_strtoull(text + negative, &end, 0);
    if (errno == 0 && end != text + negative && *end == '\0' && g_ascii_isdigit(text[negative]) &&
        n <= (uint64_t)INT64_MAX + negative) {
        return json_integer((json_int_t)(negative ? -n : n));
    }
    return pta_parse_size(text, &n) && n <= INT64_MAX ? json_integer((json_int_t)n) : NULL;
}

static json_t *parse_builtin(const char *type, const char *text)
{
    static const char *const yes[] = { "true", "on", "yes", NULL };
    static const char *const no[] = { "false", "off", "no", NULL };
    if (strcmp(type, "string") == 0) {
        return json_string(text);
    }
    if (strcmp(type, "int") == 0) {
        return parse_integer(text);
    }
    if (strcmp(type, "boolean") == 0) {
        return g_strv_contains(yes, text)  ? json_true()
               : g_strv_contains(no, text) ? json_false()
                                           : NULL;
    }
    if (strcmp(type, "value") == 0) {
        return guess(text);
    }
    json_t *value = parse_json(text);
    if (strcmp(type, "number") == 0 ? json_is_number(value) : json_is_null(value)) {
        return value;
    }
    json_decref(value);
    return NULL;
}

static json_t *parse_value(const PtaClientSchema *s, const json_t *type, const char *text,
                           unsigned depth);

static json_t *parse_list(const PtaClientSchema *s, const json_t *element, const char *text,
                          unsigned depth)
{
    if (*text == '[') {
        return parse_json(text);
    }
    json_t *list = json_array();
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    for (char **word = words; *word; word++) {
        json_t *value = parse_value(s, element, *word, depth);
        if (!value) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, value);
    }
    return list;
}

/* The first branch that takes it, strings last. */
static json_t *parse_alternate(const PtaClientSchema *s, const json_t *type, const char *text,
                               unsigned depth)
{
    for (unsigned strings = 0; strings < 2; strings++) {
        size_t i;
        json_t *member;
        json_array_foreach(json_object_get(type, "members"), i, member)
        {
            json_t *branch = entity(s, get(member, "type"));
            bool is_string =
                is_meta(branch, "builtin") && strcmp(get(branch, "json-type"), "string") == 0;
            json_t *value = is_string == strings ? parse_value(s, branch, text, depth) : NULL;
            if (value) {
                return value;
            }
        }
    }
    return NULL;
}

/* NULL if text is no value of that type. */
static json_t *parse_value(const PtaClientSchema *s, const json_t *type, const char *text,
                           unsigned depth)
{
    size_t i;
    json_t *e;
    if (!type || depth == 0) {
        return guess(text);
    }
    if (is_meta(type, "builtin")) {
        return parse_builtin(get(type, "json-type"), text);
    }
    if (is_meta(type, "enum")) {
        json_array_foreach(json_object_get(type, "values"), i, e)
        {
            if (g_strcmp0(json_string_value(e), text) == 0) {
                return json_string(text);
            }
        }
        return NULL;
    }
    if (is_meta(type, "array")) {
        return parse_list(s, entity(s, get(type, "element-type")), text, depth - 1);
    }
    if (is_meta(type, "alternate")) {
        return parse_alternate(s, type, text, depth - 1);
    }
    json_t *object = parse_json(text);
    if (!json_is_object(object)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* Puts value at a dotted path into object; steals it. */
static bool put_at(json_t *object, const char *path, json_t *value, GError **error)
{
    g_auto(GStrv) components = g_strsplit(path, ".", -1);
    for (char **c = components; c[1]; c++) {
        json_t *inner = json_object_get(object, *c);
        if (!inner) {
            inner = json_object();
            json_object_set_new(object, *c, inner);
        }
        object = inner;
    }
    const char *last = components[g_strv_length(components) - 1];
    if (!json_is_object(object) || json_object_get(object, last)) {
        json_decref(value);
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s is given twice", path);
    }
    return json_object_set_new(object, last, value) == 0 ||
           pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s is not UTF-8", path);
}

static bool parse_word(const PtaClientSchema *s, const char *command, const char *word,
                       json_t *args, GError **error)
{
    const char *equals = strchr(word, '=');
    if (!equals || equals == word) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "expected key=value, found %s", word);
    }
    g_autofree char *key = g_strndup(word, (size_t)(equals - word));
    const char *text = equals + 1;
    bool known = s && pta_client_schema_has(s, command);
    const json_t *type = known ? type_of_key(s, command, key) : NULL;
    if (known && !type) {
        g_auto(GStrv) keys = pta_client_schema_usage(s, command);
        g_autofree char *usage = g_strjoinv(" ", keys);
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s has no argument %s; it takes %s",
                         command, key, *usage ? usage : "none");
    }
    json_t *value = parse_value(s, type, text, MAX_VARIANT_DEPTH);
    if (!value) {
        GString *expected = g_string_new("");
        put_type(s, type, expected, 3);
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s: expected %s, found %s", key, expected->str,
                  text);
        g_string_free(expected, TRUE);
        return false;
    }
    return put_at(args, key, value, error);
}

json_t *pta_client_schema_parse(const PtaClientSchema *s, const char *command,
                                const char *const *words, GError **error)
{
    json_t *args = json_object();
    for (; *words; words++) {
        if (!g_utf8_validate(*words, -1, NULL)) {
            pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "an argument is not UTF-8");
        } else if (parse_word(s, command, *words, args, error)) {
            continue;
        }
        json_decref(args);
        return NULL;
    }
    return args;
}
