/*
 * Schema files to the model of schema.h: what each entity may say and must say. What needs the other
 * entities is checked afterwards, by schema-check.c.
 */
#include "config.h"

#include "qmp/schema.h"

#include <string.h>

/* ---- names ---- */

static const char *const kind_names[] = {
    [SCHEMA_STRUCT] = "struct",       [SCHEMA_ENUM] = "enum",       [SCHEMA_UNION] = "union",
    [SCHEMA_ALTERNATE] = "alternate", [SCHEMA_COMMAND] = "command", [SCHEMA_EVENT] = "event",
};

static const struct {
    const char *name;
    PtaKind kind;
} builtins[] = {
    { "bool", PTA_KIND_BOOL }, { "str", PTA_KIND_STR },   { "u8", PTA_KIND_U8 },
    { "u16", PTA_KIND_U16 },   { "u32", PTA_KIND_U32 },   { "u64", PTA_KIND_U64 },
    { "s64", PTA_KIND_S64 },   { "int", PTA_KIND_S64 },   { "number", PTA_KIND_NUMBER },
    { "size", PTA_KIND_SIZE }, { "uuid", PTA_KIND_UUID }, { "path", PTA_KIND_PATH },
    { "id", PTA_KIND_ID },     { "any", PTA_KIND_ANY },   { "null", PTA_KIND_NULL },
};

const char *schema_kind_name(SchemaEntityKind kind)
{
    return kind_names[kind];
}

const char *schema_builtin_name(PtaKind kind)
{
    for (size_t i = 0; i < G_N_ELEMENTS(builtins); i++) {
        if (builtins[i].kind == kind) {
            return builtins[i].name;
        }
    }
    return NULL;
}

bool schema_is_type(const SchemaEntity *entity)
{
    return entity->kind != SCHEMA_COMMAND && entity->kind != SCHEMA_EVENT;
}

char *schema_snake(const char *name)
{
    GString *out = g_string_new(NULL);
    for (const char *p = name; *p; p++) {
        if (g_ascii_isupper(*p) && p > name) {
            bool after_small = g_ascii_islower(p[-1]) || g_ascii_isdigit(p[-1]);
            bool new_word = g_ascii_isupper(p[-1]) && g_ascii_islower(p[1]);
            if (after_small || new_word) {
                g_string_append_c(out, '_');
            }
        }
        g_string_append_c(out, g_ascii_isalnum(*p) ? g_ascii_tolower(*p) : '_');
    }
    return g_string_free(out, FALSE);
}

char *schema_camel(const char *name)
{
    GString *out = g_string_new(NULL);
    bool start = true;
    /* An event is in capitals, of which only the first of a word stays. */
    bool shout = true;
    for (const char *p = name; *p; p++) {
        shout = shout && !g_ascii_islower(*p);
    }
    for (const char *p = name; *p; p++) {
        if (!g_ascii_isalnum(*p)) {
            start = true;
            continue;
        }
        char c = shout ? g_ascii_tolower(*p) : *p;
        g_string_append_c(out, start ? g_ascii_toupper(c) : c);
        start = false;
    }
    return g_string_free(out, FALSE);
}

/* Words that cannot be members in C as this project builds it: GNU C predefines the last two. */
static bool is_reserved(const char *word)
{
    static const char *const words[] = {
        "auto",    "break",  "case",   "char",     "const",  "continue", "default",
        "do",      "double", "else",   "enum",     "extern", "float",    "for",
        "goto",    "if",     "inline", "int",      "long",   "register", "restrict",
        "return",  "short",  "signed", "sizeof",   "static", "struct",   "switch",
        "typedef", "typeof", "union",  "unsigned", "void",   "volatile", "while",
        "asm",     "bool",   "true",   "false",    "errno",  "unix",     "linux",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

static char *member_c_name(const char *name)
{
    char *snake = schema_snake(name);
    if (!is_reserved(snake)) {
        return snake;
    }
    char *safe = g_strconcat(snake, "_", NULL);
    g_free(snake);
    return safe;
}

/* ---- life ---- */

static void member_free(SchemaMember *m)
{
    g_free(m->name);
    g_free(m->c_name);
    g_free(m->doc);
    g_free(m->since);
    g_free(m->type_name);
    g_free(m->def_text);
    json_decref(m->def);
    g_free(m);
}

static GPtrArray *members_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)member_free);
}

static SchemaEntity *entity_new(SchemaEntityKind kind, SchemaPos pos, const char *name)
{
    SchemaEntity *e = g_new0(SchemaEntity, 1);
    e->kind = kind;
    e->pos = pos;
    e->name = g_strdup(name);
    e->c_name = schema_snake(name);
    e->members = members_new();
    e->values = members_new();
    e->branches = members_new();
    e->errors = members_new();
    return e;
}

static void entity_free(SchemaEntity *e)
{
    g_free(e->name);
    g_free(e->c_name);
    g_free(e->doc);
    g_free(e->since);
    g_free(e->manual);
    json_decref(e->example);
    g_free(e->data_name);
    g_ptr_array_unref(e->members);
    g_ptr_array_unref(e->values);
    g_ptr_array_unref(e->branches);
    g_ptr_array_unref(e->errors);
    if (e->returns) {
        member_free(e->returns);
    }
    g_free(e);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SchemaEntity, entity_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SchemaMember, member_free)

void schema_free(Schema *schema)
{
    g_hash_table_unref(schema->by_name);
    g_ptr_array_unref(schema->entities);
    g_free(schema);
}

SchemaEntity *schema_find(const Schema *schema, const char *name)
{
    return g_hash_table_lookup(schema->by_name, name);
}

/* Takes e in any case. */
static bool schema_add(Schema *schema, SchemaEntity *e, GError **error)
{
    g_ptr_array_add(schema->entities, e);
    const SchemaEntity *other = schema_find(schema, e->name);
    if (other) {
        return schema_throw(error, e->pos, "%s %s is declared again; first at %s:%d",
                            kind_names[e->kind], e->name, other->pos.file, other->pos.line);
    }
    g_hash_table_insert(schema->by_name, e->name, e);
    return true;
}

/* ---- values of an entity ---- */

static const char *node_type(const SchemaNode *node)
{
    switch (json_typeof(node->json)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static bool want_object(const SchemaNode *node, const char *what, GError **error)
{
    return json_is_object(node->json) ||
           schema_throw(error, node->pos, "%s: expected an object, found %s", what,
                        node_type(node));
}

/* *text is set if the key is there; strings may not be empty. */
static bool get_string(const SchemaNode *object, const char *what, const char *key, char **text,
                       GError **error)
{
    const SchemaNode *node = schema_node_get(object, key);
    if (!node) {
        return true;
    }
    if (!json_is_string(node->json)) {
        return schema_throw(error, node->pos, "%s: \"%s\": expected a string, found %s", what, key,
                            node_type(node));
    }
    if (json_string_length(node->json) == 0) {
        return schema_throw(error, node->pos, "%s: \"%s\" is empty", what, key);
    }
    *text = g_strdup(json_string_value(node->json));
    return true;
}

static bool get_bool(const SchemaNode *object, const char *what, const char *key, bool *value,
                     GError **error)
{
    const SchemaNode *node = schema_node_get(object, key);
    if (!node) {
        return true;
    }
    if (!json_is_boolean(node->json)) {
        return schema_throw(error, node->pos, "%s: \"%s\": expected true or false, found %s", what,
                            key, node_type(node));
    }
    *value = json_is_true(node->json);
    return true;
}

static bool check_keys(const SchemaNode *object, const char *what, const char *const *known,
                       GError **error)
{
    for (guint i = 0; i < object->items->len; i++) {
        const SchemaNode *item = object->items->pdata[i];
        if (!g_strv_contains(known, item->key)) {
            g_autofree char *list = g_strjoinv(", ", (char **)known);
            return schema_throw(error, item->pos, "%s: unknown key \"%s\"; known are %s", what,
                                item->key, list);
        }
    }
    return true;
}

static bool is_version(const char *text)
{
    char *end;
    return g_ascii_isdigit(*text) && (g_ascii_strtoull(text, &end, 10), *end == '.') &&
           g_ascii_isdigit(end[1]) && (g_ascii_strtoull(end + 1, &end, 10), *end == '\0');
}

static bool get_since(const SchemaNode *object, const char *what, char **since, GError **error)
{
    if (!get_string(object, what, "since", since, error)) {
        return false;
    }
    if (*since && !is_version(*since)) {
        return schema_throw(error, schema_node_get(object, "since")->pos,
                            "%s: \"since\": expected a version such as \"0.1\", found \"%s\"", what,
                            *since);
    }
    return true;
}

static bool get_doc(const SchemaNode *object, const char *what, char **doc, GError **error)
{
    if (!get_string(object, what, "doc", doc, error)) {
        return false;
    }
    return *doc || schema_throw(error, object->pos, "%s: \"doc\" is missing", what);
}

/* "T" or ["T"]. */
static bool get_type(const SchemaNode *node, const char *what, SchemaMember *m, GError **error)
{
    json_t *name = node->json;
    if (json_is_array(name) && json_array_size(name) == 1) {
        m->list = true;
        name = json_array_get(name, 0);
    }
    if (!json_is_string(name)) {
        return schema_throw(error, node->pos, "%s: expected a type: \"NAME\" or [\"NAME\"]", what);
    }
    m->type_name = g_strdup(json_string_value(name));
    for (size_t i = 0; i < G_N_ELEMENTS(builtins); i++) {
        if (strcmp(builtins[i].name, m->type_name) == 0) {
            m->kind = builtins[i].kind;
            return true;
        }
    }
    m->kind = PTA_KIND_STRUCT; /* some named type: schema-check.c resolves it */
    return true;
}

static bool get_bound(const SchemaNode *object, const char *what, const char *key, bool *has,
                      int64_t *low, uint64_t *high, GError **error)
{
    const SchemaNode *node = schema_node_get(object, key);
    if (!node) {
        return true;
    }
    *has = true;
    if (json_is_integer(node->json)) {
        *low = json_integer_value(node->json);
        *high = *low < 0 ? 0 : (uint64_t)*low;
        return true;
    }
    if (json_is_string(node->json) && pta_parse_size(json_string_value(node->json), high) &&
        *high <= INT64_MAX) {
        *low = (int64_t)*high;
        return true;
    }
    return schema_throw(error, node->pos,
                        "%s: \"%s\": expected a whole number or a size such as \"64K\"", what, key);
}

static SchemaMember *member_load(const SchemaNode *node, const char *owner, GError **error)
{
    static const char *const keys[] = { "type", "doc", "since",      "optional",  "default",
                                        "min",  "max", "max-length", "sensitive", NULL };
    g_autofree char *what = g_strdup_printf("%s, member \"%s\"", owner, node->key);
    if (!want_object(node, what, error) || !check_keys(node, what, keys, error)) {
        return NULL;
    }
    g_autoptr(SchemaMember) m = g_new0(SchemaMember, 1);
    m->pos = node->pos;
    m->name = g_strdup(node->key);
    m->c_name = member_c_name(node->key);
    m->max = UINT64_MAX;
    m->min = INT64_MIN;
    const SchemaNode *type = schema_node_get(node, "type");
    if (!type) {
        schema_throw(error, node->pos, "%s: \"type\" is missing", what);
        return NULL;
    }
    int64_t low;
    uint64_t high, length;
    bool has_length = false;
    if (!get_type(type, what, m, error) || !get_doc(node, what, &m->doc, error) ||
        !get_since(node, what, &m->since, error) ||
        !get_bool(node, what, "optional", &m->optional, error) ||
        !get_bool(node, what, "sensitive", &m->sensitive, error) ||
        !get_bound(node, what, "min", &m->has_min, &m->min, &high, error) ||
        !get_bound(node, what, "max", &m->has_max, &low, &m->max, error) ||
        !get_bound(node, what, "max-length", &has_length, &low, &length, error)) {
        return NULL;
    }
    if (m->has_max && json_integer_value(json_object_get(node->json, "max")) < 0) {
        schema_throw(error, schema_node_get(node, "max")->pos, "%s: \"max\" is negative", what);
        return NULL;
    }
    if (has_length) {
        if (low <= 0) {
            schema_throw(error, schema_node_get(node, "max-length")->pos,
                         "%s: \"max-length\" is not positive", what);
            return NULL;
        }
        m->max_length = length;
    }
    const SchemaNode *def = schema_node_get(node, "default");
    if (def) {
        m->def = json_incref(def->json);
    }
    return g_steal_pointer(&m);
}

static bool members_load(const SchemaNode *object, const char *owner, GPtrArray *members,
                         GError **error)
{
    if (!want_object(object, owner, error)) {
        return false;
    }
    for (guint i = 0; i < object->items->len; i++) {
        SchemaMember *m = member_load(object->items->pdata[i], owner, error);
        if (!m) {
            return false;
        }
        g_ptr_array_add(members, m);
    }
    return true;
}

/* The values of an enum: "name": "doc", or "name": {"doc", "since"}. */
static SchemaMember *value_load(const SchemaEntity *e, const SchemaNode *node, const char *owner,
                                GError **error)
{
    static const char *const keys[] = { "doc", "since", NULL };
    g_autofree char *what = g_strdup_printf("%s, value \"%s\"", owner, node->key);
    g_autoptr(SchemaMember) m = g_new0(SchemaMember, 1);
    m->pos = node->pos;
    m->name = g_strdup(node->key);
    g_autofree char *snake = schema_snake(node->key);
    g_autofree char *prefixed = g_strconcat(e->c_name, "_", snake, NULL);
    m->c_name = g_ascii_strup(prefixed, -1);
    if (json_is_string(node->json)) {
        m->doc = g_strdup(json_string_value(node->json));
        if (*m->doc == '\0') {
            schema_throw(error, node->pos, "%s: its documentation is empty", what);
            return NULL;
        }
    } else if (!want_object(node, what, error) || !check_keys(node, what, keys, error) ||
               !get_doc(node, what, &m->doc, error) || !get_since(node, what, &m->since, error)) {
        return NULL;
    }
    return g_steal_pointer(&m);
}

/* ---- entities, kind by kind ---- */

static const SchemaNode *want_key(const SchemaNode *node, const char *what, const char *key,
                                  GError **error)
{
    const SchemaNode *value = schema_node_get(node, key);
    if (!value) {
        schema_throw(error, node->pos, "%s: \"%s\" is missing", what, key);
    }
    return value;
}

static bool struct_load(Schema *schema, SchemaEntity *e, const SchemaNode *node, const char *what,
                        GError **error)
{
    const SchemaNode *members = want_key(node, what, "members", error);
    if (!members || !members_load(members, what, e->members, error) ||
        !get_string(node, what, "manual", &e->manual, error)) {
        return false;
    }
    for (const char *p = e->manual; p && *p; p++) {
        if (!g_ascii_islower(*p) && *p != '-') { /* it becomes a file's name */
            return schema_throw(error, schema_node_get(node, "manual")->pos,
                                "%s: bad name of a manual page: \"%s\"", what, e->manual);
        }
    }
    const SchemaNode *example = schema_node_get(node, "example");
    if (example) {
        if (!e->manual) {
            return schema_throw(error, example->pos, "%s: \"example\" without \"manual\"", what);
        }
        if (!want_object(example, what, error)) {
            return false;
        }
        e->example = json_incref(example->json);
    }
    return true;
}

static bool enum_load(Schema *schema, SchemaEntity *e, const SchemaNode *node, const char *what,
                      GError **error)
{
    const SchemaNode *values = want_key(node, what, "values", error);
    if (!values || !want_object(values, what, error)) {
        return false;
    }
    if (values->items->len == 0) {
        return schema_throw(error, values->pos, "%s has no values", what);
    }
    for (guint i = 0; i < values->items->len; i++) {
        SchemaMember *m = value_load(e, values->items->pdata[i], what, error);
        if (!m) {
            return false;
        }
        g_ptr_array_add(e->values, m);
    }
    return true;
}

/* The branches, and the enum of their names. */
static bool branches_load(Schema *schema, SchemaEntity *e, const SchemaNode *node, const char *what,
                          const char *tag_name, GError **error)
{
    const SchemaNode *branches = want_key(node, what, "branches", error);
    if (!branches || !want_object(branches, what, error)) {
        return false;
    }
    if (branches->items->len == 0) {
        return schema_throw(error, branches->pos, "%s has no branches", what);
    }
    e->tag = entity_new(SCHEMA_ENUM, e->pos, tag_name);
    e->tag->implicit = true;
    e->tag->doc = g_strdup_printf("The branches of %s.", e->name);
    e->tag->since = g_strdup(e->since);
    if (!schema_add(schema, e->tag, error)) {
        return false;
    }
    for (guint i = 0; i < branches->items->len; i++) {
        const SchemaNode *item = branches->items->pdata[i];
        g_autofree char *branch_what = g_strdup_printf("%s, branch \"%s\"", what, item->key);
        SchemaMember *m = g_new0(SchemaMember, 1);
        g_ptr_array_add(e->branches, m);
        m->pos = item->pos;
        m->name = g_strdup(item->key);
        m->c_name = member_c_name(item->key);
        m->doc = g_strdup("");
        m->min = INT64_MIN;
        m->max = UINT64_MAX;
        if (!get_type(item, branch_what, m, error)) {
            return false;
        }
        SchemaMember *value = g_new0(SchemaMember, 1);
        g_ptr_array_add(e->tag->values, value);
        value->pos = item->pos;
        value->name = g_strdup(item->key);
        value->doc = g_strdup("");
        g_autofree char *snake = schema_snake(item->key);
        g_autofree char *prefixed = g_strconcat(e->tag->c_name, "_", snake, NULL);
        value->c_name = g_ascii_strup(prefixed, -1);
    }
    return true;
}

static bool union_load(Schema *schema, SchemaEntity *e, const SchemaNode *node, const char *what,
                       GError **error)
{
    const SchemaNode *base = want_key(node, what, "base", error);
    if (!base || !members_load(base, what, e->members, error)) {
        return false;
    }
    g_autofree char *key = NULL, *doc = NULL;
    const SchemaNode *discriminator = want_key(node, what, "discriminator", error);
    if (!discriminator || !get_string(node, what, "discriminator", &key, error) ||
        !want_key(node, what, "discriminator-doc", error) ||
        !get_string(node, what, "discriminator-doc", &doc, error)) {
        return false;
    }
    g_autofree char *camel = schema_camel(key);
    g_autofree char *tag_name = g_strconcat(e->name, camel, NULL);
    if (!branches_load(schema, e, node, what, tag_name, error)) {
        return false;
    }
    SchemaMember *m = g_new0(SchemaMember, 1);
    g_ptr_array_add(e->members, m);
    m->pos = discriminator->pos;
    m->name = g_steal_pointer(&key);
    m->c_name = member_c_name(m->name);
    m->doc = g_steal_pointer(&doc);
    m->type_name = g_steal_pointer(&tag_name);
    m->kind = PTA_KIND_ENUM;
    m->min = INT64_MIN;
    m->max = UINT64_MAX;
    return true;
}

static bool alternate_load(Schema *schema, SchemaEntity *e, const SchemaNode *node,
                           const char *what, GError **error)
{
    g_autofree char *tag_name = g_strconcat(e->name, "Type", NULL);
    return branches_load(schema, e, node, what, tag_name, error);
}

/* Arguments or data: the name of a struct, or members that become a struct of their own. */
static bool data_load(Schema *schema, SchemaEntity *e, const SchemaNode *node, const char *what,
                      const char *key, const char *suffix, GError **error)
{
    const SchemaNode *data = schema_node_get(node, key);
    if (!data) {
        return true;
    }
    e->data_pos = data->pos;
    if (json_is_string(data->json)) {
        e->data_name = g_strdup(json_string_value(data->json));
        return true;
    }
    g_autofree char *camel = schema_camel(e->name);
    e->data_name = g_strconcat(camel, suffix, NULL);
    SchemaEntity *s = entity_new(SCHEMA_STRUCT, data->pos, e->data_name);
    s->implicit = true;
    s->doc = g_strdup_printf("The %s of %s.", key, e->name);
    s->since = g_strdup(e->since);
    return schema_add(schema, s, error) && members_load(data, what, s->members, error);
}

static bool command_load(Schema *schema, SchemaEntity *e, const SchemaNode *node, const char *what,
                         GError **error)
{
    static const struct {
        const char *name;
        unsigned flag;
    } flags[] = { { "oob", SCHEMA_OOB },
                  { "server", SCHEMA_SERVER },
                  { "generated", SCHEMA_GENERATED },
                  { "async", SCHEMA_ASYNC } };
    static const struct {
        const char *one, *other;
    } exclusive[] = { { "server", "generated" },
                      { "async", "oob" },
                      { "async", "server" },
                      { "async", "generated" } };
    if (!data_load(schema, e, node, what, "arguments", "Args", error)) {
        return false;
    }
    const SchemaNode *returns = schema_node_get(node, "returns");
    if (returns) {
        e->returns = g_new0(SchemaMember, 1);
        e->returns->pos = returns->pos;
        e->returns->name = g_strdup("returns");
        e->returns->c_name = g_strdup("value");
        e->returns->min = INT64_MIN;
        e->returns->max = UINT64_MAX;
        g_autofree char *ret_what = g_strdup_printf("%s, \"returns\"", what);
        if (!get_type(returns, ret_what, e->returns, error) ||
            !want_key(node, what, "returns-doc", error) ||
            !get_string(node, what, "returns-doc", &e->returns->doc, error)) {
            return false;
        }
    } else if (schema_node_get(node, "returns-doc")) {
        return schema_throw(error, schema_node_get(node, "returns-doc")->pos,
                            "%s: \"returns-doc\" without \"returns\"", what);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        bool on = false;
        if (!get_bool(node, what, flags[i].name, &on, error)) {
            return false;
        }
        e->flags |= on ? flags[i].flag : 0;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(exclusive); i++) {
        const SchemaNode *one = schema_node_get(node, exclusive[i].one);
        const SchemaNode *other = schema_node_get(node, exclusive[i].other);
        if (one && other && json_is_true(one->json) && json_is_true(other->json)) {
            return schema_throw(error, other->pos, "%s is both \"%s\" and \"%s\"", what,
                                exclusive[i].one, exclusive[i].other);
        }
    }
    const SchemaNode *errors = schema_node_get(node, "errors");
    if (errors && !json_is_array(errors->json)) {
        return schema_throw(error, errors->pos, "%s: \"errors\": expected an array, found %s", what,
                            node_type(errors));
    }
    for (guint i = 0; errors && i < errors->items->len; i++) {
        const SchemaNode *item = errors->items->pdata[i];
        if (!json_is_string(item->json)) {
            return schema_throw(error, item->pos, "%s: \"errors\": expected a string, found %s",
                                what, node_type(item));
        }
        SchemaMember *m = g_new0(SchemaMember, 1);
        g_ptr_array_add(e->errors, m);
        m->pos = item->pos;
        m->name = g_strdup(json_string_value(item->json));
    }
    return true;
}

static bool event_load(Schema *schema, SchemaEntity *e, const SchemaNode *node, const char *what,
                       GError **error)
{
    return data_load(schema, e, node, what, "data", "Event", error);
}

typedef bool LoadFn(Schema *schema, SchemaEntity *e, const SchemaNode *node, const char *what,
                    GError **error);

static bool entity_load(Schema *schema, const SchemaNode *node, GError **error)
{
    static const struct {
        LoadFn *load;
        const char *keys[13];
    } kinds[] = {
        [SCHEMA_STRUCT] = { struct_load,
                            { "struct", "since", "doc", "members", "manual", "example" } },
        [SCHEMA_ENUM] = { enum_load, { "enum", "since", "doc", "values" } },
        [SCHEMA_UNION] = { union_load,
                           { "union", "since", "doc", "base", "discriminator", "discriminator-doc",
                             "branches" } },
        [SCHEMA_ALTERNATE] = { alternate_load, { "alternate", "since", "doc", "branches" } },
        [SCHEMA_COMMAND] = { command_load,
                             { "command", "since", "doc", "arguments", "returns", "returns-doc",
                               "errors", "oob", "server", "generated", "async" } },
        [SCHEMA_EVENT] = { event_load, { "event", "since", "doc", "data" } },
    };
    if (!want_object(node, "entity", error)) {
        return false;
    }
    size_t kind = 0;
    const SchemaNode *name_node = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds) && !name_node; i++) {
        name_node = schema_node_get(node, kind_names[i]);
        kind = i;
    }
    if (!name_node) {
        return schema_throw(error, node->pos,
                            "expected an entity with one of the keys \"struct\", "
                            "\"enum\", \"union\", \"alternate\", \"command\", "
                            "\"event\"");
    }
    g_autofree char *name = NULL;
    if (!get_string(node, "entity", kind_names[kind], &name, error)) {
        return false;
    }
    g_autofree char *what = g_strdup_printf("%s %s", kind_names[kind], name);
    SchemaEntity *e = entity_new(kind, node->pos, name);
    g_autoptr(SchemaEntity) owned = e;
    if (!check_keys(node, what, kinds[kind].keys, error) || !get_doc(node, what, &e->doc, error) ||
        !want_key(node, what, "since", error) || !get_since(node, what, &e->since, error) ||
        !kinds[kind].load(schema, e, node, what, error)) {
        return false;
    }
    return schema_add(schema, g_steal_pointer(&owned), error);
}

Schema *schema_load(const char *dir, const char *const *files, size_t n_files, GError **error)
{
    g_autoptr(Schema) schema = g_new0(Schema, 1);
    schema->entities = g_ptr_array_new_with_free_func((GDestroyNotify)entity_free);
    schema->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    schema->date = "";
    schema->include = "qmp/gen";
    for (size_t f = 0; f < n_files; f++) {
        g_autoptr(SchemaNode) root = schema_node_load(dir, files[f], error);
        if (!root) {
            return NULL;
        }
        if (!json_is_array(root->json)) {
            schema_throw(error, root->pos, "expected an array of entities, found %s",
                         node_type(root));
            return NULL;
        }
        for (guint i = 0; i < root->items->len; i++) {
            if (!entity_load(schema, root->items->pdata[i], error)) {
                return NULL;
            }
        }
    }
    return schema_check(schema, error) ? g_steal_pointer(&schema) : NULL;
}
