/*
 * schema.lock: one line for each thing that somebody outside may rely on, in a canonical form and
 * sorted. Lines may be added; one that goes or changes breaks a client or a description.
 */
#include "config.h"

#include "qmp/gen.h"

#include <string.h>

static void put_type(GString *out, const SchemaMember *m)
{
    g_string_append_printf(out, m->list ? "[%s]" : "%s", m->type_name);
}

static void put_member(GPtrArray *lines, const SchemaEntity *e, const SchemaMember *m)
{
    GString *line = g_string_new(NULL);
    g_string_append_printf(line, "%s %s . %s: ", schema_kind_name(e->kind), e->name, m->name);
    put_type(line, m);
    if (m->optional) {
        g_string_append(line, " optional");
    } else if (m->def) {
        char *dump = json_dumps(m->def, JSON_ENCODE_ANY | JSON_COMPACT);
        g_string_append_printf(line, " = %s", dump);
        free(dump);
    } else {
        g_string_append(line, " required");
    }
    g_ptr_array_add(lines, g_string_free(line, FALSE));
}

static void put_entity(GPtrArray *lines, const SchemaEntity *e)
{
    GString *line = g_string_new(NULL);
    g_string_append_printf(line, "%s %s", schema_kind_name(e->kind), e->name);
    if (e->kind == SCHEMA_COMMAND || e->kind == SCHEMA_EVENT) {
        g_string_append_printf(line, "(%s)", e->data ? e->data->name : "");
    }
    if (e->returns) {
        g_string_append(line, " -> ");
        put_type(line, e->returns);
    }
    if (e->flags & SCHEMA_OOB) {
        g_string_append(line, " oob");
    }
    g_ptr_array_add(lines, g_string_free(line, FALSE));
    for (guint i = 0; i < e->members->len; i++) {
        put_member(lines, e, e->members->pdata[i]);
    }
    for (guint i = 0; i < e->values->len; i++) {
        const SchemaMember *value = e->values->pdata[i];
        g_ptr_array_add(
            lines, g_strdup_printf("%s %s = %s", schema_kind_name(e->kind), e->name, value->name));
    }
    for (guint i = 0; i < e->branches->len; i++) {
        const SchemaMember *branch = e->branches->pdata[i];
        g_ptr_array_add(lines, g_strdup_printf("%s %s | %s: %s", schema_kind_name(e->kind), e->name,
                                               branch->name, branch->type_name));
    }
}

static int compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char *gen_lock(const Schema *schema)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < schema->entities->len; i++) {
        put_entity(lines, schema->entities->pdata[i]);
    }
    g_ptr_array_sort(lines, compare);
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < lines->len; i++) {
        g_string_append_printf(out, "%s\n", (char *)lines->pdata[i]);
    }
    return g_string_free(out, FALSE);
}
