/*
 * What the monitor says about itself: query-qmp-schema in QEMU's format, where types have numbers
 * instead of names (they are no part of the interface, members are), query-commands, query-events;
 * and the tables that a client completes and helps with.
 */
#include "config.h"

#include "qmp/gen.h"

#include <string.h>

typedef struct Masks {
    GHashTable *numbers; /* SchemaEntity -> its number + 1 */
    GPtrArray *order;    /* of types, by number */
    GHashTable *arrays;  /* "[12]", in the order of arrays_order */
    GPtrArray *arrays_order;
    bool builtins[PTA_KIND_ENUM];
} Masks;

/* The empty object has a number of its own: arguments and results that are not there. */
static SchemaEntity empty_type = { .kind = SCHEMA_STRUCT };

static char *mask_entity(Masks *masks, SchemaEntity *e)
{
    gpointer known = g_hash_table_lookup(masks->numbers, e);
    if (!known) {
        g_ptr_array_add(masks->order, e);
        known = GUINT_TO_POINTER(masks->order->len);
        g_hash_table_insert(masks->numbers, e, known);
    }
    return g_strdup_printf("%u", GPOINTER_TO_UINT(known) - 1);
}

/* QEMU's six kinds: how a value looks, not what it means. */
static PtaKind shape(PtaKind kind)
{
    switch (kind) {
    case PTA_KIND_U8:
    case PTA_KIND_U16:
    case PTA_KIND_U32:
    case PTA_KIND_U64:
    case PTA_KIND_S64:
    case PTA_KIND_SIZE:
        return PTA_KIND_S64;
    case PTA_KIND_UUID:
    case PTA_KIND_PATH:
    case PTA_KIND_ID:
        return PTA_KIND_STR;
    default:
        return kind;
    }
}

static const char *shape_name(PtaKind kind)
{
    return kind == PTA_KIND_S64 ? "int" : schema_builtin_name(kind);
}

static char *mask_member(Masks *masks, const SchemaMember *m)
{
    g_autofree char *element = NULL;
    if (m->type) {
        element = mask_entity(masks, m->type);
    } else {
        masks->builtins[shape(m->kind)] = true;
        element = g_strdup(shape_name(shape(m->kind)));
    }
    if (!m->list) {
        return g_steal_pointer(&element);
    }
    char *array = g_strdup_printf("[%s]", element);
    if (!g_hash_table_contains(masks->arrays, array)) {
        char *key = g_strdup(array);
        g_hash_table_add(masks->arrays, key);
        g_ptr_array_add(masks->arrays_order, key);
    }
    return array;
}

static json_t *take_string(char *text)
{
    json_t *json = json_string(text);
    g_free(text);
    return json;
}

static json_t *describe_member(Masks *masks, const SchemaMember *m)
{
    json_t *json =
        json_pack("{s:s, s:o}", "name", m->name, "type", take_string(mask_member(masks, m)));
    if (m->optional || m->def) {
        json_object_set_new(json, "default", json_null());
    }
    return json;
}

static json_t *describe_members(Masks *masks, GPtrArray *members)
{
    json_t *array = json_array();
    for (guint i = 0; members && i < members->len; i++) {
        json_array_append_new(array, describe_member(masks, members->pdata[i]));
    }
    return array;
}

static json_t *describe_type(Masks *masks, SchemaEntity *e)
{
    json_t *json = json_object();
    json_object_set_new(json, "name", take_string(mask_entity(masks, e)));
    if (e->kind == SCHEMA_ENUM) {
        json_object_set_new(json, "meta-type", json_string("enum"));
        json_t *values = json_array(), *members = json_array();
        for (guint i = 0; i < e->values->len; i++) {
            const SchemaMember *value = e->values->pdata[i];
            json_array_append_new(values, json_string(value->name));
            json_array_append_new(members, json_pack("{s:s}", "name", value->name));
        }
        json_object_set_new(json, "values", values);
        json_object_set_new(json, "members", members);
        return json;
    }
    json_t *branches = json_array();
    for (guint i = 0; e->branches && i < e->branches->len; i++) {
        const SchemaMember *branch = e->branches->pdata[i];
        json_t *type = take_string(mask_member(masks, branch));
        json_array_append_new(branches,
                              e->kind == SCHEMA_UNION
                                  ? json_pack("{s:s, s:o}", "case", branch->name, "type", type)
                                  : json_pack("{s:o}", "type", type));
    }
    if (e->kind == SCHEMA_ALTERNATE) {
        json_object_set_new(json, "meta-type", json_string("alternate"));
        json_object_set_new(json, "members", branches);
        return json;
    }
    json_object_set_new(json, "meta-type", json_string("object"));
    json_object_set_new(json, "members", describe_members(masks, e->members));
    if (e->kind == SCHEMA_UNION) {
        const SchemaMember *tag = e->members->pdata[e->members->len - 1];
        json_object_set_new(json, "tag", json_string(tag->name));
        json_object_set_new(json, "variants", branches);
    } else {
        json_decref(branches);
    }
    return json;
}

static json_t *describe_all(const Schema *schema)
{
    g_autoptr(GHashTable) numbers = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    g_autoptr(GHashTable) arrays = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) arrays_order = g_ptr_array_new();
    Masks masks = { numbers, order, arrays, arrays_order, { false } };
    json_t *all = json_array();
    for (guint i = 0; i < schema->entities->len; i++) {
        SchemaEntity *e = schema->entities->pdata[i];
        if (schema_is_type(e)) {
            continue;
        }
        json_t *json = json_pack("{s:s, s:s, s:o}", "name", e->name, "meta-type",
                                 schema_kind_name(e->kind), "arg-type",
                                 take_string(mask_entity(&masks, e->data ? e->data : &empty_type)));
        if (e->kind == SCHEMA_COMMAND) {
            char *type =
                e->returns ? mask_member(&masks, e->returns) : mask_entity(&masks, &empty_type);
            json_object_set_new(json, "ret-type", take_string(type));
            if (e->flags & SCHEMA_OOB) {
                json_object_set_new(json, "allow-oob", json_true());
            }
        }
        json_array_append_new(all, json);
    }
    /* Describing a type may number others, which then follow. */
    for (guint i = 0; i < order->len; i++) {
        json_array_append_new(all, describe_type(&masks, order->pdata[i]));
    }
    for (guint i = 0; i < arrays_order->len; i++) {
        const char *name = arrays_order->pdata[i];
        g_autofree char *element = g_strndup(name + 1, strlen(name) - 2);
        json_array_append_new(all, json_pack("{s:s, s:s, s:s}", "name", name, "meta-type", "array",
                                             "element-type", element));
    }
    static const char *const json_types[] = {
        [PTA_KIND_BOOL] = "boolean",  [PTA_KIND_STR] = "string", [PTA_KIND_S64] = "int",
        [PTA_KIND_NUMBER] = "number", [PTA_KIND_ANY] = "value",  [PTA_KIND_NULL] = "null",
    };
    for (size_t kind = 0; kind < G_N_ELEMENTS(masks.builtins); kind++) {
        if (masks.builtins[kind]) {
            json_array_append_new(all,
                                  json_pack("{s:s, s:s, s:s}", "name", shape_name(kind),
                                            "meta-type", "builtin", "json-type", json_types[kind]));
        }
    }
    return all;
}

/* The names of all entities of a kind, as query-commands and query-events list them. */
static json_t *describe_names(const Schema *schema, SchemaEntityKind kind)
{
    json_t *all = json_array();
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind == kind) {
            json_array_append_new(all, json_pack("{s:s}", "name", e->name));
        }
    }
    return all;
}

/* ---- C ---- */

char *gen_introspect_h(const Schema *schema)
{
    GString *out =
        g_string_new(GEN_MADE_BY "#ifndef PTA_GEN_INTROSPECT_H\n#define PTA_GEN_INTROSPECT_H\n\n");
    gen_include(out, schema, "types.h");
    g_string_append(out,
                    "\n/* The answers of the commands of these names: new references. */\n"
                    "json_t *pta_introspect_query_qmp_schema(void);\n"
                    "json_t *pta_introspect_query_commands(void);\n"
                    "json_t *pta_introspect_query_events(void);\n\n"
                    "/* For completion and help: needs no handler to be linked. */\n"
                    "typedef struct PtaQmpInfo {\n"
                    "    const char *name;\n"
                    "    const char *doc;\n"
                    "    const PtaTypeDesc *type; /* arguments or data; NULL if there are none */\n"
                    "} PtaQmpInfo;\n\n"
                    "/* In the order of the schema, the last one's name is NULL. */\n"
                    "extern const PtaQmpInfo pta_qmp_command_info[];\n"
                    "extern const PtaQmpInfo pta_qmp_event_info[];\n\n"
                    "#endif\n");
    return g_string_free(out, FALSE);
}

/* A function that parses JSON text, kept in lines of moderate length: one element of the array each. */
static void put_json(GString *out, const char *name, json_t *array)
{
    g_string_append_printf(out,
                           "json_t *pta_introspect_%s(void)\n{\n"
                           "    static const char text[] = \"[\"\n",
                           name);
    for (size_t i = 0; i < json_array_size(array); i++) {
        char *dump = json_dumps(json_array_get(array, i), JSON_COMPACT);
        g_string_append(out, "        ");
        gen_c_string(out, dump);
        g_string_append(out, i + 1 < json_array_size(array) ? " \",\"\n" : "\n");
        free(dump);
    }
    g_string_append(out, "        \"]\";\n"
                         "    json_t *json = json_loads(text, 0, NULL);\n"
                         "    g_assert(json != NULL);\n    return json;\n}\n\n");
    json_decref(array);
}

static void put_info(GString *out, const Schema *schema, SchemaEntityKind kind, const char *name)
{
    g_string_append_printf(out, "const PtaQmpInfo pta_qmp_%s_info[] = {\n", name);
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind != kind) {
            continue;
        }
        g_string_append_printf(out, "    { \"%s\", ", e->name);
        gen_c_string(out, e->doc);
        if (e->data) {
            g_string_append_printf(out, ", &%s_desc },\n", e->data->c_name);
        } else {
            g_string_append(out, ", NULL },\n");
        }
    }
    g_string_append(out, "    { NULL, NULL, NULL },\n};\n");
}

char *gen_introspect_c(const Schema *schema)
{
    GString *out = gen_source_new(schema, "introspect.h");
    put_json(out, "query_qmp_schema", describe_all(schema));
    put_json(out, "query_commands", describe_names(schema, SCHEMA_COMMAND));
    put_json(out, "query_events", describe_names(schema, SCHEMA_EVENT));
    put_info(out, schema, SCHEMA_COMMAND, "command");
    g_string_append_c(out, '\n');
    put_info(out, schema, SCHEMA_EVENT, "event");
    return g_string_free(out, FALSE);
}
