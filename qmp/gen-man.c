/*
 * Manual pages in mdoc(7): of a struct that is read from a file, and of the monitor. `mandoc -Tlint`
 * has nothing to say about them; a test looks.
 */
#include "config.h"

#include "qmp/gen.h"

#include <string.h>

/* ---- text ---- */

static void put_char(GString *out, char c, bool code)
{
    if (c == '\\') {
        g_string_append(out, "\\e");
    } else if (code && c == '-') {
        g_string_append(out, "\\-");
    } else {
        g_string_append_c(out, c);
    }
}

static bool at_line_start(const GString *out)
{
    return out->len == 0 || out->str[out->len - 1] == '\n';
}

/* Prose: a line for each sentence, as mdoc wants it; `code` in bold. Ends its line. */
static void put_text(GString *out, const char *text)
{
    bool code = false;
    for (const char *p = text; *p; p++) {
        if (*p == '`') {
            code = !code;
            g_string_append(out, code ? "\\fB" : "\\fR");
            continue;
        }
        if (*p == '\n' || (*p == ' ' && !code && p > text && strchr(".!?", p[-1]))) {
            g_string_append_c(out, '\n');
            continue;
        }
        if (at_line_start(out) && (*p == '.' || *p == '\'')) {
            g_string_append(out, "\\&");
        }
        put_char(out, *p, code);
    }
    g_string_append_c(out, '\n');
}

/* One argument of a macro: never taken for a macro itself. */
static void put_arg(GString *out, const char *text)
{
    g_string_append(out, "\\&");
    for (const char *p = text; *p; p++) {
        if (*p == ' ') {
            g_string_append(out, "\\ ");
        } else if (*p == '"') {
            g_string_append(out, "\\(dq");
        } else {
            put_char(out, *p, true);
        }
    }
}

static void put_head(GString *out, const Schema *schema, const char *name, int section,
                     const char *what)
{
    g_autofree char *title = g_ascii_strup(name, -1);
    g_string_append_printf(out,
                           ".\\\" Made by schemac from schema/; do not edit.\n"
                           ".Dd %s\n.Dt %s %d\n.Os Partita\n.Sh NAME\n.Nm %s\n.Nd %s\n",
                           schema->date, title, section, name, what);
}

/* ---- members ---- */

static const char *kind_words(PtaKind kind)
{
    static const char *const words[] = {
        [PTA_KIND_BOOL] = "true or false", [PTA_KIND_STR] = "string",
        [PTA_KIND_U8] = "whole number",    [PTA_KIND_U16] = "whole number",
        [PTA_KIND_U32] = "whole number",   [PTA_KIND_U64] = "whole number",
        [PTA_KIND_S64] = "whole number",   [PTA_KIND_NUMBER] = "number",
        [PTA_KIND_SIZE] = "size",          [PTA_KIND_UUID] = "UUID",
        [PTA_KIND_PATH] = "path",          [PTA_KIND_ID] = "id",
        [PTA_KIND_ANY] = "any value",      [PTA_KIND_NULL] = "null",
        [PTA_KIND_ALTERNATE] = NULL,
    };
    return words[kind];
}

static void put_type(GString *out, const SchemaMember *m)
{
    if (m->list) {
        g_string_append(out, "list of ");
    }
    if (m->type) {
        g_string_append_printf(out, "Vt %s ", m->type->name);
    } else {
        g_string_append_printf(out, "%s ", kind_words(m->kind));
    }
}

static void put_number(GString *out, PtaKind kind, uint64_t n)
{
    g_autofree char *text = kind == PTA_KIND_SIZE
                                ? pta_format_size(n)
                                : g_strdup_printf("%" G_GINT64_FORMAT, (int64_t)n);
    put_arg(out, text);
}

/* The facts in parentheses behind a member's name: arguments of .It. */
static void put_facts(GString *out, const SchemaMember *m)
{
    g_string_append(out, " Pq ");
    put_type(out, m);
    if (m->has_min) {
        g_string_append(out, "from ");
        put_number(out, m->kind, (uint64_t)m->min);
        g_string_append_c(out, ' ');
    }
    if (m->has_max) {
        g_string_append(out, m->has_min ? "to " : "up to ");
        put_number(out, m->kind, m->max);
        g_string_append_c(out, ' ');
    }
    if (m->max_length) {
        g_string_append_printf(out, "of at most %" G_GUINT64_FORMAT " %s ", m->max_length,
                               m->list ? "elements" : "bytes");
    }
    if (m->optional) {
        g_string_append(out, ", No optional");
    } else if (m->def && m->kind != PTA_KIND_STRUCT) {
        char *dump = json_dumps(m->def, JSON_ENCODE_ANY);
        g_string_append(out, ", No default ");
        put_arg(out, dump);
        free(dump);
    } else if (m->def) {
        g_string_append(out, ", No all of it optional");
    }
    /* White space at the end of a line means something in roff. */
    while (out->str[out->len - 1] == ' ') {
        g_string_truncate(out, out->len - 1);
    }
    g_string_append_c(out, '\n');
}

static void put_since(GString *out, const SchemaMember *m)
{
    if (m->since) {
        g_string_append_printf(out, "Since version %s.\n", m->since);
    }
}

static void put_members(GString *out, GPtrArray *members)
{
    if (members->len == 0) {
        return;
    }
    g_string_append(out, ".Bl -tag -width Ds\n");
    for (guint i = 0; i < members->len; i++) {
        const SchemaMember *m = members->pdata[i];
        g_string_append(out, ".It Ic ");
        put_arg(out, m->name);
        put_facts(out, m);
        put_text(out, m->doc);
        put_since(out, m);
    }
    g_string_append(out, ".El\n");
}

/* ---- types ---- */

static void put_values(GString *out, const SchemaEntity *e)
{
    g_string_append(out, ".Bl -tag -width Ds\n");
    for (guint i = 0; i < e->values->len; i++) {
        const SchemaMember *value = e->values->pdata[i];
        g_string_append(out, ".It Cm ");
        put_arg(out, value->name);
        g_string_append_c(out, '\n');
        put_text(out, value->doc);
        put_since(out, value);
    }
    g_string_append(out, ".El\n");
}

/* A branch's own members stand here, where they are looked for, not under the name of its type. */
static void put_branches(GString *out, const SchemaEntity *e)
{
    const SchemaMember *tag = e->members->pdata[e->members->len - 1];
    g_string_append(out, ".Pp\nThe other members depend on\n.Ic ");
    put_arg(out, tag->name);
    g_string_append(out, " :\n.Bl -tag -width Ds\n");
    for (guint i = 0; i < e->branches->len; i++) {
        const SchemaMember *branch = e->branches->pdata[i];
        g_string_append(out, ".It Cm ");
        put_arg(out, branch->name);
        g_string_append_c(out, '\n');
        put_text(out, branch->type->doc);
        put_members(out, branch->type->members);
    }
    g_string_append(out, ".El\n");
}

static void put_entity_type(GString *out, const SchemaEntity *e)
{
    g_string_append_printf(out, ".Ss %s\n", e->name);
    put_text(out, e->doc);
    if (e->kind == SCHEMA_ENUM) {
        put_values(out, e);
    } else if (e->kind == SCHEMA_ALTERNATE) {
        g_string_append(out, "It is one of\n.Bl -bullet -compact\n");
        for (guint i = 0; i < e->branches->len; i++) {
            g_autoptr(GString) type = g_string_new(NULL);
            const SchemaMember *branch = e->branches->pdata[i];
            put_type(type, branch);
            g_string_append_printf(out, ".It\n%s%s\n", branch->type ? ".Vt " : "",
                                   branch->type ? branch->type->name : g_strchomp(type->str));
        }
        g_string_append(out, ".El\n");
    } else if (e->kind == SCHEMA_UNION) {
        /* The discriminator comes last in the model; a list of its values follows anyway. */
        g_autoptr(GPtrArray) base = g_ptr_array_new();
        for (guint i = 0; i + 1 < e->members->len; i++) {
            g_ptr_array_add(base, e->members->pdata[i]);
        }
        put_members(out, base);
        put_branches(out, e);
    } else {
        put_members(out, e->members);
    }
}

/* Appends what m names, and what that names, each once; implicit types are shown by their users. */
static void collect(GPtrArray *types, SchemaEntity *e, bool self);

static void collect_member(GPtrArray *types, const SchemaMember *m)
{
    if (m->type) {
        collect(types, m->type, true);
    }
}

static void collect(GPtrArray *types, SchemaEntity *e, bool self)
{
    if (self && (e->implicit || g_ptr_array_find(types, e, NULL))) {
        return;
    }
    if (self) {
        g_ptr_array_add(types, e);
    }
    for (guint i = 0; i < e->members->len; i++) {
        collect_member(types, e->members->pdata[i]);
    }
    for (guint i = 0; i < e->branches->len; i++) {
        const SchemaMember *branch = e->branches->pdata[i];
        if (e->kind == SCHEMA_UNION) {
            collect(types, branch->type, false);
        } else {
            collect_member(types, branch);
        }
    }
}

/* ---- pages ---- */

static void put_example(GString *out, const SchemaEntity *e)
{
    if (!e->example) {
        return;
    }
    char *dump = json_dumps(e->example, JSON_INDENT(2));
    g_string_append(out, ".Sh EXAMPLES\n.Bd -literal\n");
    for (const char *p = dump; *p; p++) {
        put_char(out, *p, true);
    }
    g_string_append(out, "\n.Ed\n");
    free(dump);
}

char *gen_man_struct(const Schema *schema, const SchemaEntity *entity)
{
    GString *out = g_string_new(NULL);
    put_head(out, schema, entity->manual, 5, "description of a virtual machine");
    g_string_append(out, ".Sh DESCRIPTION\n");
    put_text(out, entity->doc);
    g_string_append(out,
                    ".Pp\n"
                    "The file holds one JSON object in UTF-8.\n"
                    "Members that are not described here, members that are given twice, and\n"
                    "values of another type or out of range are refused; the message names the\n"
                    "file, the place in it, what was expected and what was found.\n"
                    ".Pp\n"
                    "A size is a number of bytes, or a string of digits with one of the suffixes\n"
                    ".Cm K , M , G , T ,\n"
                    "which are powers of 1024.\n"
                    "An id is a letter, then letters, digits and any of\n"
                    ".Ql \\-_.\n"
                    "in any order; ids are unique in their list.\n"
                    ".Sh MEMBERS\n");
    put_members(out, entity->members);
    g_autoptr(GPtrArray) types = g_ptr_array_new();
    collect(types, (SchemaEntity *)entity, false);
    if (types->len) {
        g_string_append(out, ".Sh TYPES\n");
    }
    for (guint i = 0; i < types->len; i++) {
        put_entity_type(out, types->pdata[i]);
    }
    put_example(out, entity);
    g_string_append(out, ".Sh SEE ALSO\n.Xr partita 1 ,\n.Xr partita-qmp 7\n");
    return g_string_free(out, FALSE);
}

static void put_command(GString *out, const SchemaEntity *e)
{
    g_string_append_printf(out, ".Ss %s\n", e->name);
    put_text(out, e->doc);
    if (e->flags & SCHEMA_OOB) {
        g_string_append(out, "It may be executed out of band.\n");
    }
    if (e->flags & SCHEMA_ASYNC) {
        g_string_append(out,
                        "It may take a while, for which the client's further commands wait.\n");
    }
    if (e->data && e->data->members->len) {
        g_string_append(out, ".Pp\nArguments:\n");
        put_members(out, e->data->members);
    }
    if (e->returns) {
        g_string_append_printf(out, ".Pp\nReturns%s", e->returns->list ? " list of" : "");
        if (e->returns->type) {
            g_string_append_printf(out, "\n.Vt %s :\n", e->returns->type->name);
        } else {
            g_string_append_printf(out, " %s:\n", kind_words(e->returns->kind));
        }
        put_text(out, e->returns->doc);
    }
    if (e->errors->len) {
        g_string_append(out, ".Pp\nErrors:\n");
    }
    for (guint i = 0; i < e->errors->len; i++) {
        const SchemaMember *class = e->errors->pdata[i];
        g_string_append_printf(out, ".Er %s%s\n", class->name,
                               i + 1 < e->errors->len ? " ," : " .");
    }
}

static void put_event(GString *out, const SchemaEntity *e)
{
    g_string_append_printf(out, ".Ss %s\n", e->name);
    put_text(out, e->doc);
    if (e->data && e->data->members->len) {
        g_string_append(out, ".Pp\nData:\n");
        put_members(out, e->data->members);
    }
}

char *gen_man_qmp(const Schema *schema)
{
    GString *out = g_string_new(NULL);
    put_head(out, schema, "partita-qmp", 7, "commands and events of the monitor of partita");
    g_string_append(
        out,
        ".Sh DESCRIPTION\n"
        "A running machine answers a monitor on the UNIX sockets that its description names.\n"
        "Both sides send JSON objects, one after the other; white space between them is ignored.\n"
        "A client speaks one of two dialects, told apart by its messages.\n"
        ".Ss QMP\n"
        "The protocol of QEMU: names and shapes that exist there are the same here.\n"
        "The server greets; the client answers with\n"
        ".Ic qmp_capabilities\n"
        "and then sends commands:\n"
        ".Bd -literal -offset indent\n"
        "{\"execute\": \"query\\-status\", \"id\": 1}\n"
        "{\"return\": {\"running\": true, \"singlestep\": false, \"status\": \"running\"}, \"id\": 1}\n"
        ".Ed\n"
        ".Pp\n"
        "Arguments are the members of the object\n"
        ".Ic arguments .\n"
        "An error has a class and a description:\n"
        ".Ql {\\(dqerror\\(dq: {\\(dqclass\\(dq: ..., \\(dqdesc\\(dq: ...}} .\n"
        "Events come at any time between answers and carry a timestamp and a sequence number,\n"
        ".Ic seq .\n"
        "With the capability\n"
        ".Cm oob\n"
        "a command that allows it is executed ahead of those that wait, as\n"
        ".Ic exec\\-oob .\n"
        ".Ss JSON-RPC 2.0\n"
        "The same commands as methods, with their arguments as\n"
        ".Ic params ;\n"
        "batches are allowed, and events are notifications.\n"
        ".Sh COMMANDS\n");
    g_autoptr(GPtrArray) types = g_ptr_array_new();
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind == SCHEMA_COMMAND) {
            put_command(out, e);
        }
    }
    g_string_append(out, ".Sh EVENTS\n");
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind == SCHEMA_EVENT) {
            put_event(out, e);
        }
        if (schema_is_type(e)) {
            continue;
        }
        if (e->data) {
            collect(types, e->data, false);
        }
        if (e->returns) {
            collect_member(types, e->returns);
        }
    }
    SchemaEntity *classes = schema_find(schema, "ErrorClass");
    if (classes) {
        collect(types, classes, true);
    }
    if (types->len) {
        g_string_append(out, ".Sh TYPES\n");
    }
    for (guint i = 0; i < types->len; i++) {
        put_entity_type(out, types->pdata[i]);
    }
    g_string_append(out, ".Sh SEE ALSO\n.Xr partita 1 ,\n.Xr partita-machine 5\n");
    return g_string_free(out, FALSE);
}
