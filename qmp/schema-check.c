/*
 * The checks of a schema that need all of it: names and their C forms, references, bounds, defaults,
 * recursion, branches.
 */
#include "config.h"

#include "qmp/schema.h"

#include <string.h>

/* ---- names ---- */

static bool matches(const char *name, bool upper_first, const char *extra, bool lower, bool upper)
{
    for (const char *p = name; *p; p++) {
        bool ok = (g_ascii_isdigit(*p) && p > name) || (lower && g_ascii_islower(*p)) ||
                  (upper && g_ascii_isupper(*p)) || (p > name && strchr(extra, *p));
        if (!ok) {
            return false;
        }
    }
    size_t len = strlen(name);
    return len > 0 && g_ascii_isalnum(name[len - 1]) && (!upper_first || g_ascii_isupper(*name));
}

static bool check_entity_name(const SchemaEntity *e, GError **error)
{
    if (e->implicit) {
        return true;
    }
    if (e->kind == SCHEMA_EVENT) {
        return matches(e->name, true, "_", false, true) ||
               schema_throw(error, e->pos, "bad name of an event: %s (such as GUEST_PANICKED)",
                            e->name);
    }
    if (e->kind == SCHEMA_COMMAND) {
        return matches(e->name, false, "-_", true, false) ||
               schema_throw(error, e->pos, "bad name of a command: %s (such as query-status)",
                            e->name);
    }
    return matches(e->name, true, "", true, true) ||
           schema_throw(error, e->pos, "bad name of a type: %s (such as VirtioBlkConfig)", e->name);
}

static bool check_member_name(const SchemaMember *m, const char *owner, GError **error)
{
    return matches(m->name, false, "-_", true, true) ||
           schema_throw(error, m->pos, "%s: bad name of a member: \"%s\" (such as \"queue-size\")",
                        owner, m->name);
}

static bool claim(GHashTable *names, char *c_name, const SchemaMember *m, const char *owner,
                  GError **error)
{
    g_autofree char *key = c_name;
    const SchemaMember *other = g_hash_table_lookup(names, key);
    if (other) {
        return schema_throw(error, m->pos, "%s: \"%s\" and \"%s\" are both %s in C", owner,
                            other->name, m->name, key);
    }
    g_hash_table_insert(names, g_steal_pointer(&key), (void *)m);
    return true;
}

static bool has_flag(const SchemaMember *m)
{
    return m->optional && !m->list &&
           (m->kind == PTA_KIND_BOOL || m->kind == PTA_KIND_ENUM ||
            (m->kind >= PTA_KIND_U8 && m->kind <= PTA_KIND_SIZE));
}

static bool check_members(GPtrArray *members, GHashTable *names, const char *owner, GError **error)
{
    for (guint i = 0; i < members->len; i++) {
        const SchemaMember *m = members->pdata[i];
        if (!check_member_name(m, owner, error) ||
            !claim(names, g_strdup(m->c_name), m, owner, error)) {
            return false;
        }
        if (m->list && !claim(names, g_strconcat("n_", m->c_name, NULL), m, owner, error)) {
            return false;
        }
        if (has_flag(m) && !claim(names, g_strconcat("has_", m->c_name, NULL), m, owner, error)) {
            return false;
        }
    }
    return true;
}

static bool check_names(const SchemaEntity *e, GError **error)
{
    g_autofree char *owner = g_strdup_printf("%s %s", schema_kind_name(e->kind), e->name);
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!check_entity_name(e, error) || !check_members(e->members, names, owner, error)) {
        return false;
    }
    static char tag_name[] = "kind"; /* the tag of an alternate in C */
    static const SchemaMember kind = { .name = tag_name };
    if (e->kind == SCHEMA_ALTERNATE) {
        g_hash_table_insert(names, g_strdup("kind"), (void *)&kind);
    }
    for (guint i = 0; i < e->branches->len; i++) {
        const SchemaMember *m = e->branches->pdata[i];
        if (!check_member_name(m, owner, error) ||
            !claim(names, g_strdup(m->c_name), m, owner, error)) {
            return false;
        }
    }
    for (guint i = 0; i < e->values->len; i++) {
        const SchemaMember *m = e->values->pdata[i];
        bool good = g_ascii_isalnum(*m->name);
        for (const char *p = m->name; *p; p++) {
            good = good && (g_ascii_isalnum(*p) || strchr("-_.", *p));
        }
        if (!good) {
            return schema_throw(error, m->pos,
                                "%s: bad name of a value: \"%s\" (such as \"x86-64\")", owner,
                                m->name);
        }
        if (!claim(names, g_strdup(m->c_name), m, owner, error)) {
            return false;
        }
    }
    return true;
}

/* Takes key. */
static bool take_name(GHashTable *names, char *key, SchemaEntity *e, GError **error)
{
    g_autofree char *owned = key;
    const SchemaEntity *other = g_hash_table_lookup(names, key);
    if (other) {
        return schema_throw(error, e->pos, "%s %s and %s %s (%s:%d) are both %s in C",
                            schema_kind_name(e->kind), e->name, schema_kind_name(other->kind),
                            other->name, other->pos.file, other->pos.line, key);
    }
    g_hash_table_insert(names, g_steal_pointer(&owned), e);
    return true;
}

/* Types share the name space of their C functions; so do commands among themselves. */
static bool check_entity_clashes(const Schema *schema, GError **error)
{
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < schema->entities->len; i++) {
        SchemaEntity *e = schema->entities->pdata[i];
        const char *prefix = schema_is_type(e)         ? ""
                             : e->kind == SCHEMA_EVENT ? "qmp_event_"
                                                       : "qmp_";
        if (!take_name(names, g_strconcat(prefix, e->c_name, NULL), e, error) ||
            ((e->flags & SCHEMA_ASYNC) &&
             !take_name(names, g_strconcat(prefix, e->c_name, "_return", NULL), e, error))) {
            return false;
        }
    }
    return true;
}

/* ---- references ---- */

static bool resolve(const Schema *schema, SchemaMember *m, const char *owner, GError **error)
{
    if (schema_builtin_name(m->kind)) {
        return true;
    }
    static const PtaKind kinds[] = {
        [SCHEMA_STRUCT] = PTA_KIND_STRUCT,
        [SCHEMA_ENUM] = PTA_KIND_ENUM,
        [SCHEMA_UNION] = PTA_KIND_UNION,
        [SCHEMA_ALTERNATE] = PTA_KIND_ALTERNATE,
    };
    SchemaEntity *e = schema_find(schema, m->type_name);
    if (!e || !schema_is_type(e)) {
        return schema_throw(error, m->pos, "%s, \"%s\": unknown type \"%s\"", owner, m->name,
                            m->type_name);
    }
    m->type = e;
    m->kind = kinds[e->kind];
    return true;
}

static bool resolve_all(const Schema *schema, SchemaEntity *e, GError **error)
{
    g_autofree char *owner = g_strdup_printf("%s %s", schema_kind_name(e->kind), e->name);
    for (guint i = 0; i < e->members->len; i++) {
        SchemaMember *m = e->members->pdata[i];
        if (!resolve(schema, m, owner, error)) {
            return false;
        }
        if (m->kind == PTA_KIND_NULL) {
            return schema_throw(error, m->pos, "%s, \"%s\": null is for alternates only", owner,
                                m->name);
        }
    }
    for (guint i = 0; i < e->branches->len; i++) {
        if (!resolve(schema, e->branches->pdata[i], owner, error)) {
            return false;
        }
    }
    if (e->returns) {
        if (!resolve(schema, e->returns, owner, error)) {
            return false;
        }
        if (e->returns->kind == PTA_KIND_NULL) {
            return schema_throw(error, e->returns->pos,
                                "%s, \"returns\": null is for alternates only", owner);
        }
    }
    if (e->data_name) {
        e->data = schema_find(schema, e->data_name);
        if (!e->data || e->data->kind != SCHEMA_STRUCT) {
            return schema_throw(error, e->data_pos, "%s: \"%s\" is not a struct", owner,
                                e->data_name);
        }
    }
    const SchemaEntity *classes = schema_find(schema, "ErrorClass");
    for (guint i = 0; i < e->errors->len; i++) {
        const SchemaMember *m = e->errors->pdata[i];
        bool found = false;
        for (guint k = 0; classes && k < classes->values->len; k++) {
            const SchemaMember *value = classes->values->pdata[k];
            found = found || strcmp(value->name, m->name) == 0;
        }
        if (!found) {
            return schema_throw(error, m->pos,
                                "%s: unknown error class \"%s\" (see enum ErrorClass)", owner,
                                m->name);
        }
    }
    return true;
}

/* ---- bounds and defaults ---- */

static bool is_whole(PtaKind kind)
{
    return (kind >= PTA_KIND_U8 && kind <= PTA_KIND_S64) || kind == PTA_KIND_SIZE;
}

static bool is_text(PtaKind kind)
{
    return kind == PTA_KIND_STR || kind == PTA_KIND_PATH || kind == PTA_KIND_ID;
}

static bool check_bounds(SchemaMember *m, const char *owner, GError **error)
{
    static const uint64_t highest[] = {
        [PTA_KIND_U8] = UINT8_MAX,   [PTA_KIND_U16] = UINT16_MAX, [PTA_KIND_U32] = UINT32_MAX,
        [PTA_KIND_U64] = UINT64_MAX, [PTA_KIND_S64] = INT64_MAX,  [PTA_KIND_SIZE] = INT64_MAX,
    };
    if (m->max_length && !is_text(m->kind) && !m->list) {
        return schema_throw(error, m->pos, "%s, \"%s\": \"max-length\" is for strings and lists",
                            owner, m->name);
    }
    if (!is_whole(m->kind)) {
        return (!m->has_min && !m->has_max) ||
               schema_throw(error, m->pos, "%s, \"%s\": \"min\" and \"max\" are for whole numbers",
                            owner, m->name);
    }
    int64_t low = m->kind == PTA_KIND_S64 ? INT64_MIN : 0;
    uint64_t high = highest[m->kind];
    if ((m->has_min && m->min < low) || (m->has_max && m->max > high)) {
        return schema_throw(error, m->pos, "%s, \"%s\": \"min\" or \"max\" does not fit into %s",
                            owner, m->name, m->type_name);
    }
    m->min = m->has_min ? m->min : low;
    m->max = m->has_max ? m->max : high;
    return m->min < 0 || (uint64_t)m->min <= m->max ||
           schema_throw(error, m->pos, "%s, \"%s\": \"min\" is above \"max\"", owner, m->name);
}

/* An object without members is a value of the struct. */
static bool all_optional(const SchemaEntity *e, const char **missing)
{
    for (guint i = 0; i < e->members->len; i++) {
        const SchemaMember *m = e->members->pdata[i];
        if (!m->optional && !m->def) {
            *missing = m->name;
            return false;
        }
    }
    return true;
}

static bool default_fits(SchemaMember *m, const char **why)
{
    json_t *def = m->def;
    *why = "the value does not fit the type";
    if (m->list) {
        *why = "a list has none; make it optional";
        return false;
    }
    switch (m->kind) {
    case PTA_KIND_BOOL:
        m->def_number = json_is_true(def);
        return json_is_boolean(def);
    case PTA_KIND_STR:
    case PTA_KIND_PATH:
        m->def_text = g_strdup(json_string_value(def));
        return json_is_string(def) && (m->kind == PTA_KIND_STR || *m->def_text) &&
               (m->max_length == 0 || json_string_length(def) <= m->max_length);
    case PTA_KIND_SIZE:
        if (json_is_string(def)) {
            return pta_parse_size(json_string_value(def), &m->def_number) &&
                   m->def_number >= (uint64_t)m->min && m->def_number <= m->max;
        }
        /* fall through */
    case PTA_KIND_U8:
    case PTA_KIND_U16:
    case PTA_KIND_U32:
    case PTA_KIND_U64:
    case PTA_KIND_S64: {
        json_int_t n = json_integer_value(def);
        m->def_number = (uint64_t)n;
        return json_is_integer(def) && n >= m->min && (n < 0 || (uint64_t)n <= m->max);
    }
    case PTA_KIND_NUMBER:
        m->def_real = json_number_value(def);
        return json_is_number(def);
    case PTA_KIND_ENUM:
        for (guint i = 0; json_is_string(def) && i < m->type->values->len; i++) {
            const SchemaMember *value = m->type->values->pdata[i];
            if (strcmp(value->name, json_string_value(def)) == 0) {
                m->def_number = i;
                return true;
            }
        }
        return false;
    case PTA_KIND_STRUCT:
        if (!json_is_object(def) || json_object_size(def) != 0) {
            *why = "that of a struct is {}";
            return false;
        }
        *why = "the struct has members that are neither optional nor have a default";
        const char *missing;
        return all_optional(m->type, &missing);
    case PTA_KIND_UUID:
    case PTA_KIND_ID:
    case PTA_KIND_ANY:
    case PTA_KIND_NULL:
    case PTA_KIND_UNION:
    case PTA_KIND_ALTERNATE:
        break;
    }
    *why = "the type has none; make it optional";
    return false;
}

static bool check_values(SchemaEntity *e, GError **error)
{
    g_autofree char *owner = g_strdup_printf("%s %s", schema_kind_name(e->kind), e->name);
    for (guint i = 0; i < e->members->len; i++) {
        SchemaMember *m = e->members->pdata[i];
        if (!check_bounds(m, owner, error)) {
            return false;
        }
        if (!m->def) {
            continue;
        }
        if (m->optional) {
            return schema_throw(error, m->pos,
                                "%s, \"%s\": \"optional\" and \"default\" exclude "
                                "each other",
                                owner, m->name);
        }
        const char *why;
        if (!default_fits(m, &why)) {
            return schema_throw(error, m->pos, "%s, \"%s\": bad default: %s", owner, m->name, why);
        }
    }
    for (guint i = 0; i < e->branches->len; i++) {
        if (!check_bounds(e->branches->pdata[i], owner, error)) {
            return false;
        }
    }
    return !e->returns || check_bounds(e->returns, owner, error);
}

/* ---- shapes ---- */

static bool check_union(const SchemaEntity *e, GError **error)
{
    for (guint i = 0; i < e->branches->len; i++) {
        const SchemaMember *branch = e->branches->pdata[i];
        if (branch->kind != PTA_KIND_STRUCT || branch->list) {
            return schema_throw(error, branch->pos, "union %s, branch \"%s\" is not a struct",
                                e->name, branch->name);
        }
        for (guint k = 0; k < branch->type->members->len; k++) {
            const SchemaMember *inner = branch->type->members->pdata[k];
            for (guint b = 0; b < e->members->len; b++) {
                const SchemaMember *base = e->members->pdata[b];
                if (strcmp(base->name, inner->name) == 0) {
                    return schema_throw(error, branch->pos,
                                        "union %s, branch \"%s\": member \"%s\" of %s is in the "
                                        "base too",
                                        e->name, branch->name, inner->name, branch->type->name);
                }
            }
        }
    }
    return true;
}

enum {
    TAKES_NULL = 1,
    TAKES_BOOL = 2,
    TAKES_NUMBER = 4,
    TAKES_STRING = 8,
    TAKES_OBJECT = 16,
};

/* Which JSON types a branch of an alternate takes; 0 if it cannot be one. */
static unsigned takes(const SchemaMember *m)
{
    if (m->list) {
        return 0;
    }
    switch (m->kind) {
    case PTA_KIND_NULL:
        return TAKES_NULL;
    case PTA_KIND_BOOL:
        return TAKES_BOOL;
    case PTA_KIND_U8:
    case PTA_KIND_U16:
    case PTA_KIND_U32:
    case PTA_KIND_U64:
    case PTA_KIND_S64:
    case PTA_KIND_NUMBER:
        return TAKES_NUMBER;
    case PTA_KIND_SIZE:
        return TAKES_NUMBER | TAKES_STRING;
    case PTA_KIND_STR:
    case PTA_KIND_UUID:
    case PTA_KIND_PATH:
    case PTA_KIND_ID:
    case PTA_KIND_ENUM:
        return TAKES_STRING;
    case PTA_KIND_STRUCT:
    case PTA_KIND_UNION:
        return TAKES_OBJECT;
    case PTA_KIND_ANY:
    case PTA_KIND_ALTERNATE:
        break;
    }
    return 0;
}

static bool check_alternate(const SchemaEntity *e, GError **error)
{
    unsigned taken = 0;
    for (guint i = 0; i < e->branches->len; i++) {
        const SchemaMember *branch = e->branches->pdata[i];
        unsigned types = takes(branch);
        if (types == 0) {
            return schema_throw(error, branch->pos, "alternate %s, branch \"%s\": %s cannot be one",
                                e->name, branch->name, branch->list ? "a list" : branch->type_name);
        }
        if (types & taken) {
            return schema_throw(error, branch->pos,
                                "alternate %s, branch \"%s\": another branch takes the same JSON "
                                "type",
                                e->name, branch->name);
        }
        taken |= types;
    }
    return true;
}

/* A type that needs itself has no finite value, and its defaults no end. Optional members, lists and
 * branches are a way out. */
static bool check_recursion(SchemaEntity *e, GError **error)
{
    if (e->visited) {
        return true;
    }
    e->visiting = true;
    for (guint i = 0; i < e->members->len; i++) {
        const SchemaMember *m = e->members->pdata[i];
        if (m->optional || m->list || !m->type) {
            continue;
        }
        if (m->type->visiting) {
            return schema_throw(error, m->pos, "%s %s, \"%s\": %s contains itself",
                                schema_kind_name(e->kind), e->name, m->name, m->type->name);
        }
        if (!check_recursion(m->type, error)) {
            return false;
        }
    }
    e->visiting = false;
    e->visited = true;
    return true;
}

/* The commands that generated code answers (gen-introspect.c). */
static bool check_generated(const SchemaEntity *e, GError **error)
{
    static const char *const names[] = { "query-qmp-schema", "query-commands", "query-events",
                                         NULL };
    if (!(e->flags & SCHEMA_GENERATED)) {
        return true;
    }
    if (!g_strv_contains(names, e->name)) {
        return schema_throw(error, e->pos, "command %s: no generated code answers it", e->name);
    }
    return !e->data || schema_throw(error, e->pos,
                                    "command %s: what generated code answers has no "
                                    "arguments",
                                    e->name);
}

/* Constants of all enums share one name space. */
static bool check_constants(const Schema *schema, GError **error)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < schema->entities->len; i++) {
        SchemaEntity *e = schema->entities->pdata[i];
        for (guint k = 0; k < e->values->len; k++) {
            const SchemaMember *value = e->values->pdata[k];
            const SchemaEntity *other = g_hash_table_lookup(names, value->c_name);
            if (other) {
                return schema_throw(error, value->pos,
                                    "enum %s, value \"%s\": enum %s has a %s in C, too", e->name,
                                    value->name, other->name, value->c_name);
            }
            g_hash_table_insert(names, value->c_name, e);
        }
    }
    return true;
}

bool schema_check(Schema *schema, GError **error)
{
    for (guint i = 0; i < schema->entities->len; i++) {
        if (!resolve_all(schema, schema->entities->pdata[i], error)) {
            return false;
        }
    }
    for (guint i = 0; i < schema->entities->len; i++) {
        SchemaEntity *e = schema->entities->pdata[i];
        if (!check_names(e, error) || !check_values(e, error) || !check_recursion(e, error) ||
            !check_generated(e, error) || (e->kind == SCHEMA_UNION && !check_union(e, error)) ||
            (e->kind == SCHEMA_ALTERNATE && !check_alternate(e, error))) {
            return false;
        }
    }
    return check_entity_clashes(schema, error) && check_constants(schema, error);
}
