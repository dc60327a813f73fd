/* The model as C: structs and enums with their tables, dispatch of commands, emitters of events. */
#include "config.h"

#include "qmp/gen.h"

#include <string.h>

GString *gen_source_new(const Schema *schema, const char *header)
{
    GString *out = g_string_new(GEN_MADE_BY "#include \"config.h\"\n\n");
    gen_include(out, schema, header);
    g_string_append_c(out, '\n');
    return out;
}

void gen_include(GString *out, const Schema *schema, const char *header)
{
    g_string_append_printf(out, "#include \"%s/%s\"\n", schema->include, header);
}

void gen_c_string(GString *out, const char *text)
{
    if (!text) {
        g_string_append(out, "NULL");
        return;
    }
    g_string_append_c(out, '"');
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\') {
            g_string_append_printf(out, "\\%c", *p);
        } else if (*p == '\n') {
            g_string_append(out, "\\n");
        } else if (*p == '?') {
            g_string_append(out, "\\?"); /* no trigraphs */
        } else if (g_ascii_iscntrl(*p)) {
            g_string_append_printf(out, "\\%03o", (unsigned char)*p);
        } else {
            g_string_append_c(out, *p);
        }
    }
    g_string_append_c(out, '"');
}

static char *upper(const char *text)
{
    return g_ascii_strup(text, -1);
}

static bool is_record(const SchemaEntity *e)
{
    return e->kind == SCHEMA_STRUCT || e->kind == SCHEMA_UNION || e->kind == SCHEMA_ALTERNATE;
}

static bool is_scalar(PtaKind kind)
{
    return kind == PTA_KIND_BOOL || kind == PTA_KIND_ENUM ||
           (kind >= PTA_KIND_U8 && kind <= PTA_KIND_SIZE);
}

static bool is_whole(PtaKind kind)
{
    return kind == PTA_KIND_SIZE || (kind >= PTA_KIND_U8 && kind <= PTA_KIND_S64);
}

static bool is_string(PtaKind kind)
{
    return kind == PTA_KIND_STR || kind == PTA_KIND_UUID || kind == PTA_KIND_PATH ||
           kind == PTA_KIND_ID;
}

static bool has_flag(const SchemaMember *m)
{
    return m->list || (m->optional && is_scalar(m->kind));
}

/* The C type of one value, with what separates it from a name: "uint16_t ", "char *". */
static char *c_type(const SchemaMember *m)
{
    static const char *const types[] = {
        [PTA_KIND_BOOL] = "bool ",    [PTA_KIND_STR] = "char *",     [PTA_KIND_U8] = "uint8_t ",
        [PTA_KIND_U16] = "uint16_t ", [PTA_KIND_U32] = "uint32_t ",  [PTA_KIND_U64] = "uint64_t ",
        [PTA_KIND_S64] = "int64_t ",  [PTA_KIND_NUMBER] = "double ", [PTA_KIND_SIZE] = "uint64_t ",
        [PTA_KIND_UUID] = "char *",   [PTA_KIND_PATH] = "char *",    [PTA_KIND_ID] = "char *",
        [PTA_KIND_ANY] = "json_t *",  [PTA_KIND_ALTERNATE] = NULL,
    };
    const char *type = types[m->kind];
    if (type) {
        return g_strdup(type);
    }
    return g_strconcat(m->type->name, m->kind == PTA_KIND_ENUM ? " " : " *", NULL);
}

/* ---- types.h ---- */

static void put_field(GString *out, const SchemaMember *m, const char *indent)
{
    g_autofree char *type = c_type(m);
    if (m->list) {
        const char *star = g_str_has_suffix(type, "*") ? "*" : " *";
        g_autofree char *stem = g_strchomp(g_strdup(type));
        g_string_append_printf(out, "%s%s%s%s;\n%ssize_t n_%s;\n", indent, stem, star, m->c_name,
                               indent, m->c_name);
        return;
    }
    if (has_flag(m)) {
        g_string_append_printf(out, "%sbool has_%s;\n", indent, m->c_name);
    }
    g_string_append_printf(out, "%s%s%s;\n", indent, type, m->c_name);
}

static void put_comment(GString *out, const char *doc)
{
    g_autofree char *safe = g_strdup(doc);
    for (char *p = strstr(safe, "*/"); p; p = strstr(p, "*/")) {
        p[1] = ' ';
    }
    g_string_append_printf(out, "/* %s */\n", safe);
}

static void put_enum(GString *out, const SchemaEntity *e)
{
    g_autofree char *prefix = upper(e->c_name);
    put_comment(out, e->doc);
    g_string_append_printf(out, "typedef enum %s {\n", e->name);
    for (guint i = 0; i < e->values->len; i++) {
        const SchemaMember *value = e->values->pdata[i];
        g_string_append_printf(out, "    %s,\n", value->c_name);
    }
    g_string_append_printf(out, "    %s__MAX\n} %s;\n", prefix, e->name);
    g_string_append_printf(out, "extern const PtaTypeDesc %s_desc;\n", e->c_name);
    g_string_append_printf(out, "const char *%s_name(%s value);\n", e->c_name, e->name);
    g_string_append_printf(out, "bool %s_parse(const char *text, %s *value);\n\n", e->c_name,
                           e->name);
}

static void put_record(GString *out, const SchemaEntity *e)
{
    put_comment(out, e->doc);
    g_string_append_printf(out, "struct %s {\n", e->name);
    for (guint i = 0; i < e->members->len; i++) {
        put_field(out, e->members->pdata[i], "    ");
    }
    if (e->kind == SCHEMA_ALTERNATE) {
        g_string_append_printf(out, "    %s kind;\n", e->tag->name);
    }
    if (e->branches->len) {
        g_string_append(out, "    union {\n");
        bool any = false;
        for (guint i = 0; i < e->branches->len; i++) {
            const SchemaMember *branch = e->branches->pdata[i];
            if (branch->kind != PTA_KIND_NULL) {
                put_field(out, branch, "        ");
                any = true;
            }
        }
        g_string_append(out, any ? "    };\n" : "        char unused_;\n    };\n");
    } else if (e->members->len == 0) {
        g_string_append(out, "    char unused_; /* it has no members */\n");
    }
    g_string_append(out, "};\n");
    g_string_append_printf(out, "extern const PtaTypeDesc %s_desc;\n", e->c_name);
    g_string_append_printf(out, "void %s_free(%s *value);\n", e->c_name, e->name);
    g_string_append_printf(out, "G_DEFINE_AUTOPTR_CLEANUP_FUNC(%s, %s_free)\n", e->name, e->c_name);
    g_string_append_printf(out,
                           "%s *%s_from_json(json_t *json, const char *where, GError **error);\n",
                           e->name, e->c_name);
    g_string_append_printf(out, "json_t *%s_to_json(const %s *value);\n\n", e->c_name, e->name);
}

char *gen_types_h(const Schema *schema)
{
    GString *out = g_string_new(GEN_MADE_BY "#ifndef PTA_GEN_TYPES_H\n#define PTA_GEN_TYPES_H\n\n"
                                            "#include \"qmp/marshal.h\"\n\n");
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (is_record(e)) {
            g_string_append_printf(out, "typedef struct %s %s;\n", e->name, e->name);
        }
    }
    g_string_append_c(out, '\n');
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind == SCHEMA_ENUM) {
            put_enum(out, e);
        }
    }
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (is_record(e)) {
            put_record(out, e);
        }
    }
    g_string_append(out, "#endif\n");
    return g_string_free(out, FALSE);
}

/* ---- types.c ---- */

static const char *kind_constant(PtaKind kind)
{
    static const char *const names[] = {
        [PTA_KIND_BOOL] = "BOOL",   [PTA_KIND_STR] = "STR",
        [PTA_KIND_U8] = "U8",       [PTA_KIND_U16] = "U16",
        [PTA_KIND_U32] = "U32",     [PTA_KIND_U64] = "U64",
        [PTA_KIND_S64] = "S64",     [PTA_KIND_NUMBER] = "NUMBER",
        [PTA_KIND_SIZE] = "SIZE",   [PTA_KIND_UUID] = "UUID",
        [PTA_KIND_PATH] = "PATH",   [PTA_KIND_ID] = "ID",
        [PTA_KIND_ANY] = "ANY",     [PTA_KIND_NULL] = "NULL",
        [PTA_KIND_ENUM] = "ENUM",   [PTA_KIND_STRUCT] = "STRUCT",
        [PTA_KIND_UNION] = "UNION", [PTA_KIND_ALTERNATE] = "ALTERNATE",
    };
    return names[kind];
}

static void put_default(GString *out, const SchemaMember *m)
{
    if (!m->def) {
        return;
    }
    g_string_append(out, ", .has_default = true");
    if (is_string(m->kind)) {
        g_string_append(out, ", .text = ");
        gen_c_string(out, m->def_text);
    } else if (m->kind == PTA_KIND_NUMBER) {
        char text[G_ASCII_DTOSTR_BUF_SIZE];
        g_string_append_printf(out, ", .real = %s", g_ascii_dtostr(text, sizeof text, m->def_real));
    } else if (m->kind != PTA_KIND_STRUCT) {
        g_string_append_printf(out, ", .number = UINT64_C(%" G_GUINT64_FORMAT ")", m->def_number);
    }
}

static void put_bounds(GString *out, const SchemaMember *m)
{
    if (m->min == INT64_MIN) {
        g_string_append(out, ", .min = INT64_MIN");
    } else {
        g_string_append_printf(out, ", .min = INT64_C(%" G_GINT64_FORMAT ")", m->min);
    }
    g_string_append_printf(out, ", .max = UINT64_C(%" G_GUINT64_FORMAT ")", m->max);
}

/* `record` is the C type that offsets are taken in. */
static void put_member_desc(GString *out, const SchemaMember *m, const char *record)
{
    g_string_append(out, "{ .name = ");
    gen_c_string(out, m->name);
    g_string_append_printf(out, ", .kind = PTA_KIND_%s", kind_constant(m->kind));
    if (m->type) {
        g_string_append_printf(out, ", .type = &%s_desc", m->type->c_name);
    }
    if (m->list) {
        g_string_append(out, ", .list = true");
    }
    if (m->optional) {
        g_string_append(out, ", .optional = true");
    }
    if (m->sensitive) {
        g_string_append(out, ", .sensitive = true");
    }
    if (m->kind != PTA_KIND_NULL) {
        g_string_append_printf(out, ",\n      .offset = offsetof(%s, %s)", record, m->c_name);
    }
    if (has_flag(m)) {
        g_string_append_printf(out, ", .has_flag = true, .flag = offsetof(%s, %s_%s)", record,
                               m->list ? "n" : "has", m->c_name);
    }
    if (is_whole(m->kind)) {
        put_bounds(out, m);
    }
    if (m->max_length) {
        g_string_append_printf(out, ", .max_length = %" G_GUINT64_FORMAT, m->max_length);
    }
    put_default(out, m);
    g_string_append(out, ",\n      .doc = ");
    gen_c_string(out, m->doc);
    g_string_append(out, " }");
}

static void put_members(GString *out, const SchemaEntity *e, GPtrArray *members, const char *suffix)
{
    if (members->len == 0) {
        return;
    }
    g_string_append_printf(out, "static const PtaMemberDesc %s_%s[] = {\n", e->c_name, suffix);
    for (guint i = 0; i < members->len; i++) {
        g_string_append(out, "    ");
        put_member_desc(out, members->pdata[i], e->name);
        g_string_append(out, ",\n");
    }
    g_string_append(out, "};\n");
}

static void put_list(GString *out, const SchemaEntity *e, const char *field, guint n)
{
    if (n) {
        g_string_append_printf(out, "    .%s = %s_%s,\n    .n_%s = %u,\n", field, e->c_name, field,
                               field, n);
    }
}

static void put_record_code(GString *out, const SchemaEntity *e)
{
    put_members(out, e, e->members, "members");
    put_members(out, e, e->branches, "branches");
    static const char *const kinds[] = {
        [SCHEMA_STRUCT] = "STRUCT", [SCHEMA_UNION] = "UNION", [SCHEMA_ALTERNATE] = "ALTERNATE"
    };
    g_string_append_printf(out,
                           "const PtaTypeDesc %s_desc = {\n    .name = \"%s\",\n"
                           "    .kind = PTA_KIND_%s,\n    .size = sizeof(%s),\n",
                           e->c_name, e->name, kinds[e->kind], e->name);
    put_list(out, e, "members", e->members->len);
    put_list(out, e, "branches", e->branches->len);
    if (e->kind == SCHEMA_UNION) {
        const SchemaMember *tag = e->members->pdata[e->members->len - 1];
        g_string_append_printf(out, "    .tag = offsetof(%s, %s),\n", e->name, tag->c_name);
    } else if (e->kind == SCHEMA_ALTERNATE) {
        g_string_append_printf(out, "    .tag = offsetof(%s, kind),\n", e->name);
    }
    g_string_append(out, "};\n\n");
    g_string_append_printf(
        out, "void %s_free(%s *value)\n{\n    pta_marshal_free(&%s_desc, value);\n}\n\n", e->c_name,
        e->name, e->c_name);
    g_string_append_printf(out,
                           "%s *%s_from_json(json_t *json, const char *where, GError **error)\n{\n"
                           "    return pta_marshal_parse(&%s_desc, json, where, error);\n"
                           "}\n\n",
                           e->name, e->c_name, e->c_name);
    g_string_append_printf(out,
                           "json_t *%s_to_json(const %s *value)\n{\n"
                           "    return pta_marshal_print(&%s_desc, value);\n}\n\n",
                           e->c_name, e->name, e->c_name);
}

static void put_enum_code(GString *out, const SchemaEntity *e)
{
    g_string_append_printf(out, "static const char *const %s_values[] = {\n", e->c_name);
    for (guint i = 0; i < e->values->len; i++) {
        const SchemaMember *value = e->values->pdata[i];
        g_string_append_printf(out, "    [%s] = \"%s\",\n", value->c_name, value->name);
    }
    g_string_append_printf(out,
                           "};\nconst PtaTypeDesc %s_desc = {\n    .name = \"%s\",\n"
                           "    .kind = PTA_KIND_ENUM,\n    .size = sizeof(%s),\n",
                           e->c_name, e->name, e->name);
    put_list(out, e, "values", e->values->len);
    g_string_append(out, "};\n\n");
    g_string_append_printf(out,
                           "const char *%s_name(%s value)\n{\n"
                           "    return pta_marshal_enum_name(&%s_desc, value);\n}\n\n",
                           e->c_name, e->name, e->c_name);
    g_string_append_printf(out,
                           "bool %s_parse(const char *text, %s *value)\n{\n"
                           "    unsigned n;\n"
                           "    if (!pta_marshal_enum_parse(&%s_desc, text, &n)) {\n"
                           "        return false;\n    }\n    *value = n;\n    return true;\n}\n\n",
                           e->c_name, e->name, e->c_name);
}

char *gen_types_c(const Schema *schema)
{
    GString *out = gen_source_new(schema, "types.h");
    g_string_append(out, "_Static_assert(sizeof(PtaKind) == sizeof(unsigned), "
                         "\"marshal.c keeps enums as unsigned\");\n\n");
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind == SCHEMA_ENUM) {
            put_enum_code(out, e);
        }
    }
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (is_record(e)) {
            put_record_code(out, e);
        }
    }
    return g_string_free(out, FALSE);
}

/* ---- commands ---- */

static bool is_handled(const SchemaEntity *e)
{
    return e->kind == SCHEMA_COMMAND && !(e->flags & (SCHEMA_SERVER | SCHEMA_GENERATED));
}

/* The handler's parameters for what it returns, with a trailing ", ". */
static void put_return_params(GString *out, const SchemaMember *m)
{
    if (!m) {
        return;
    }
    g_autofree char *type = c_type(m);
    const char *space = g_str_has_suffix(type, "*") ? "" : " ";
    g_autofree char *stem = g_strchomp(g_strdup(type));
    if (m->list) {
        g_string_append_printf(out, "%s%s**ret, size_t *n_ret, ", stem, space);
    } else {
        g_string_append_printf(out, "%s%s*ret, ", stem, space);
    }
}

/* What is returned as lent parameters, each with a leading ", ". */
static void put_lent_params(GString *out, const SchemaMember *m)
{
    if (!m) {
        return;
    }
    g_autofree char *type = c_type(m);
    bool pointer = g_str_has_suffix(type, "*");
    if (m->list) {
        g_autofree char *stem = g_strchomp(g_strdup(type));
        g_string_append_printf(out, ", %s%s*value, size_t n_value", stem, pointer ? "" : " ");
        return;
    }
    bool lend = pointer && m->kind != PTA_KIND_ANY;
    g_string_append_printf(out, ", %s%svalue", lend ? "const " : "", type);
}

static void put_async_prototypes(GString *out, const SchemaEntity *e)
{
    g_string_append_printf(out, "void qmp_%s(PtaVm *vm, ", e->c_name);
    if (e->data) {
        g_string_append_printf(out, "const %s *args, ", e->data->name);
    }
    g_string_append_printf(out, "PtaQmpReply *reply);\nvoid qmp_%s_return(PtaQmpReply *reply",
                           e->c_name);
    put_lent_params(out, e->returns);
    g_string_append(out, ");\n");
}

char *gen_commands_h(const Schema *schema)
{
    GString *out =
        g_string_new(GEN_MADE_BY "#ifndef PTA_GEN_COMMANDS_H\n#define PTA_GEN_COMMANDS_H\n\n");
    gen_include(out, schema, "types.h");
    g_string_append(
        out,
        "#include \"qmp/reply.h\"\n"
        "\ntypedef struct PtaVm PtaVm;\n\n"
        "enum {\n"
        "    PTA_QMP_OOB = 1 << 0,    /* never waits: may be executed out of band */\n"
        "    PTA_QMP_SERVER = 1 << 1, /* the server itself answers: no dispatch, no start */\n"
        "};\n\n"
        "typedef struct PtaQmpCommand {\n"
        "    const char *name;\n"
        "    unsigned flags;\n"
        "    /* Parses the arguments, calls the handler, gives its result: a new reference, an empty\n"
        "     * object if it returns nothing. args may be NULL. Main thread. */\n"
        "    bool (*dispatch)(PtaVm *vm, json_t *args, json_t **ret, GError **error);\n"
        "    /* In place of dispatch, if it may answer later: ends the reply in the call or after it. */\n"
        "    void (*start)(PtaVm *vm, json_t *args, PtaQmpReply *reply);\n"
        "} PtaQmpCommand;\n\n"
        "/* Sorted by name, the last one's name is NULL. */\n"
        "extern const PtaQmpCommand pta_qmp_commands[];\n"
        "#define PTA_QMP_N_COMMANDS ");
    guint n = 0;
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        n += e->kind == SCHEMA_COMMAND;
    }
    g_string_append_printf(
        out,
        "%u\nconst PtaQmpCommand *pta_qmp_command_find(const char *name);\n\n"
        "/* The handlers, one a command, are written by hand. Those with a reply may answer it\n"
        " * later, with the function beside them, whose arguments are lent. */\n\n",
        n);
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (!is_handled(e)) {
            continue;
        }
        put_comment(out, e->doc);
        if (e->flags & SCHEMA_ASYNC) {
            put_async_prototypes(out, e);
            continue;
        }
        g_string_append_printf(out, "bool qmp_%s(PtaVm *vm, ", e->c_name);
        if (e->data) {
            g_string_append_printf(out, "const %s *args, ", e->data->name);
        }
        put_return_params(out, e->returns);
        g_string_append(out, "GError **error);\n");
    }
    g_string_append(out, "\n#endif\n");
    return g_string_free(out, FALSE);
}

/* A struct for what it returns, and the table for that. */
static void put_result(GString *out, const SchemaEntity *e)
{
    if (!e->returns) {
        return;
    }
    g_string_append_printf(out, "typedef struct %s_result {\n", e->c_name);
    put_field(out, e->returns, "    ");
    g_string_append_printf(out, "} %s_result;\n", e->c_name);
    g_autofree char *record = g_strconcat(e->c_name, "_result", NULL);
    g_string_append_printf(out, "static const PtaMemberDesc %s_return = ", e->c_name);
    put_member_desc(out, e->returns, record);
    g_string_append(out, ";\n");
}

static void put_async_return(GString *out, const SchemaEntity *e)
{
    g_string_append_printf(out, "void qmp_%s_return(PtaQmpReply *reply", e->c_name);
    put_lent_params(out, e->returns);
    g_string_append(out, ")\n{\n");
    if (!e->returns) {
        g_string_append(out, "    pta_qmp_reply_return(reply, NULL);\n}\n\n");
        return;
    }
    g_autofree char *type = c_type(e->returns);
    bool cast =
        g_str_has_suffix(type, "*") && !e->returns->list && e->returns->kind != PTA_KIND_ANY;
    g_string_append_printf(
        out,
        "    %s_result result = { .value = %s%s%svalue%s };\n"
        "    pta_qmp_reply_return(reply, pta_marshal_print_member(&%s_return, &result));\n}\n\n",
        e->c_name, cast ? "(" : "", cast ? type : "", cast ? ")" : "",
        e->returns->list ? ", .n_value = n_value" : "", e->c_name);
}

static void put_start(GString *out, const SchemaEntity *e)
{
    put_result(out, e);
    g_string_append_printf(out,
                           "static void start_%s(PtaVm *vm, json_t *json, PtaQmpReply *reply)\n{\n"
                           "    g_autoptr(GError) error = NULL;\n",
                           e->c_name);
    if (e->data) {
        g_string_append_printf(
            out,
            "    g_autoptr(%s) args = parse_args(&%s_desc, json, \"%s\", &error);\n"
            "    if (!args) {\n",
            e->data->name, e->data->c_name, e->name);
    } else {
        g_string_append_printf(out, "    if (!no_args(json, \"%s\", &error)) {\n", e->name);
    }
    g_string_append_printf(out,
                           "        pta_qmp_reply_fail(reply, error);\n        return;\n    }\n"
                           "    qmp_%s(vm, %sreply);\n}\n\n",
                           e->c_name, e->data ? "args, " : "");
    put_async_return(out, e);
}

static void put_dispatch(GString *out, const SchemaEntity *e)
{
    put_result(out, e);
    g_string_append_printf(out,
                           "static bool dispatch_%s(PtaVm *vm, json_t *json, json_t **ret, "
                           "GError **error)\n{\n",
                           e->c_name);
    if (e->data) {
        g_string_append_printf(
            out,
            "    g_autoptr(%s) args = parse_args(&%s_desc, json, \"%s\", error);\n"
            "    if (!args) {\n        return false;\n    }\n",
            e->data->name, e->data->c_name, e->name);
    } else {
        g_string_append_printf(out,
                               "    if (!no_args(json, \"%s\", error)) {\n        return false;\n"
                               "    }\n",
                               e->name);
    }
    if (e->returns) {
        g_string_append_printf(out, "    %s_result result = { 0 };\n    bool ok = ", e->c_name);
    } else {
        g_string_append(out, "    bool ok = ");
    }
    g_string_append_printf(out, "qmp_%s(vm, %s", e->c_name, e->data ? "args, " : "");
    if (e->returns) {
        g_string_append(out,
                        e->returns->list ? "&result.value, &result.n_value, " : "&result.value, ");
    }
    g_string_append(out, "error);\n");
    if (e->returns) {
        g_string_append_printf(out,
                               "    if (ok) {\n"
                               "        *ret = pta_marshal_print_member(&%s_return, &result);\n"
                               "    }\n"
                               "    pta_marshal_clear_member(&%s_return, &result);\n"
                               "    return ok;\n}\n\n",
                               e->c_name, e->c_name);
    } else {
        g_string_append(out, "    if (ok) {\n        *ret = json_object();\n    }\n"
                             "    return ok;\n}\n\n");
    }
}

static void put_generated(GString *out, const SchemaEntity *e)
{
    g_string_append_printf(
        out,
        "static bool dispatch_%s(PtaVm *vm, json_t *json, json_t **ret, "
        "GError **error)\n{\n"
        "    if (!no_args(json, \"%s\", error)) {\n        return false;\n    }\n"
        "    *ret = pta_introspect_%s();\n    return true;\n}\n\n",
        e->c_name, e->name, e->c_name);
}

static int by_name(gconstpointer a, gconstpointer b)
{
    const SchemaEntity *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static void put_row(GString *out, const SchemaEntity *e)
{
    bool server = e->flags & SCHEMA_SERVER;
    bool oob = e->flags & SCHEMA_OOB;
    const char *flags = oob && server ? "PTA_QMP_OOB | PTA_QMP_SERVER"
                        : oob         ? "PTA_QMP_OOB"
                        : server      ? "PTA_QMP_SERVER"
                                      : "0";
    g_string_append_printf(out, "    { \"%s\", %s, ", e->name, flags);
    if (server) {
        g_string_append(out, "NULL, NULL },\n");
    } else if (e->flags & SCHEMA_ASYNC) {
        g_string_append_printf(out, "NULL, start_%s },\n", e->c_name);
    } else {
        g_string_append_printf(out, "dispatch_%s, NULL },\n", e->c_name);
    }
}

char *gen_commands_c(const Schema *schema)
{
    GString *out = gen_source_new(schema, "commands.h");
    gen_include(out, schema, "introspect.h");
    g_string_append(out, "\n#include <stdlib.h>\n#include <string.h>\n\n");
    g_autoptr(GPtrArray) commands = g_ptr_array_new();
    bool with_args = false, without = false;
    for (guint i = 0; i < schema->entities->len; i++) {
        SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind == SCHEMA_COMMAND) {
            g_ptr_array_add(commands, e);
            with_args = with_args || (e->data && is_handled(e));
            without = without || (!e->data && !(e->flags & SCHEMA_SERVER));
        }
    }
    g_ptr_array_sort(commands, by_name);
    if (with_args) {
        g_string_append(out, "static void *parse_args(const PtaTypeDesc *type, json_t *json, "
                             "const char *name, GError **error)\n{\n"
                             "    json_t *args = json ? json_incref(json) : json_object();\n"
                             "    void *value = pta_marshal_parse(type, args, name, error);\n"
                             "    json_decref(args);\n"
                             "    return value;\n}\n\n");
    }
    if (without) {
        g_string_append(
            out, "static bool no_args(json_t *json, const char *name, GError **error)\n{\n"
                 "    static const PtaTypeDesc none = { .kind = PTA_KIND_STRUCT, .size = 1 };\n"
                 "    void *value = json ? pta_marshal_parse(&none, json, name, error) : NULL;\n"
                 "    pta_marshal_free(&none, value);\n"
                 "    return !json || value;\n}\n\n");
    }
    for (guint i = 0; i < commands->len; i++) {
        const SchemaEntity *e = commands->pdata[i];
        if (e->flags & SCHEMA_ASYNC) {
            put_start(out, e);
        } else if (is_handled(e)) {
            put_dispatch(out, e);
        } else if (e->flags & SCHEMA_GENERATED) {
            put_generated(out, e);
        }
    }
    g_string_append(out, "const PtaQmpCommand pta_qmp_commands[] = {\n");
    for (guint i = 0; i < commands->len; i++) {
        put_row(out, commands->pdata[i]);
    }
    g_string_append(out, "    { NULL, 0, NULL, NULL },\n};\n\n"
                         "static int compare(const void *name, const void *command)\n{\n"
                         "    return strcmp(name, ((const PtaQmpCommand *)command)->name);\n}\n\n"
                         "const PtaQmpCommand *pta_qmp_command_find(const char *name)\n{\n"
                         "    return bsearch(name, pta_qmp_commands, PTA_QMP_N_COMMANDS,\n"
                         "                   sizeof pta_qmp_commands[0], compare);\n}\n");
    return g_string_free(out, FALSE);
}

/* ---- events ---- */

static void put_event_params(GString *out, const SchemaEntity *e)
{
    g_string_append_printf(out, "void qmp_event_%s(PtaEventSink *sink_", e->c_name);
    for (guint i = 0; e->data && i < e->data->members->len; i++) {
        const SchemaMember *m = e->data->members->pdata[i];
        g_autofree char *type = c_type(m);
        bool pointer = g_str_has_suffix(type, "*");
        g_autofree char *stem = g_strchomp(g_strdup(type));
        if (m->list) {
            g_string_append_printf(out, ", %s%s*%s, size_t n_%s", stem, pointer ? "" : " ",
                                   m->c_name, m->c_name);
            continue;
        }
        if (has_flag(m)) {
            g_string_append_printf(out, ", bool has_%s", m->c_name);
        }
        bool lend = pointer && m->kind != PTA_KIND_ANY;
        g_string_append_printf(out, ", %s%s%s", lend ? "const " : "", type, m->c_name);
    }
    g_string_append_c(out, ')');
}

char *gen_events_h(const Schema *schema)
{
    GString *out = g_string_new(GEN_MADE_BY "#ifndef PTA_GEN_EVENTS_H\n#define PTA_GEN_EVENTS_H\n\n"
                                            "#include \"qmp/event-sink.h\"\n");
    gen_include(out, schema, "types.h");
    g_string_append(out, "\n/* All arguments are lent. Main thread. */\n\n");
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind == SCHEMA_EVENT) {
            put_comment(out, e->doc);
            put_event_params(out, e);
            g_string_append(out, ";\n");
        }
    }
    g_string_append(out, "\n#endif\n");
    return g_string_free(out, FALSE);
}

char *gen_events_c(const Schema *schema)
{
    GString *out = gen_source_new(schema, "events.h");
    for (guint i = 0; i < schema->entities->len; i++) {
        const SchemaEntity *e = schema->entities->pdata[i];
        if (e->kind != SCHEMA_EVENT) {
            continue;
        }
        put_event_params(out, e);
        if (!e->data) {
            g_string_append_printf(out, "\n{\n    pta_event_emit(sink_, \"%s\", NULL);\n}\n\n",
                                   e->name);
            continue;
        }
        g_string_append_printf(out, "\n{\n    %s data_ = {\n", e->data->name);
        for (guint k = 0; k < e->data->members->len; k++) {
            const SchemaMember *m = e->data->members->pdata[k];
            g_autofree char *type = c_type(m);
            bool cast = g_str_has_suffix(type, "*") && !m->list && m->kind != PTA_KIND_ANY;
            g_string_append_printf(out, "        .%s = %s%s%s%s,\n", m->c_name, cast ? "(" : "",
                                   cast ? type : "", cast ? ")" : "", m->c_name);
            if (has_flag(m)) {
                const char *prefix = m->list ? "n" : "has";
                g_string_append_printf(out, "        .%s_%s = %s_%s,\n", prefix, m->c_name, prefix,
                                       m->c_name);
            }
        }
        g_string_append_printf(out,
                               "    };\n    pta_event_emit(sink_, \"%s\", "
                               "pta_marshal_print(&%s_desc, &data_));\n}\n\n",
                               e->name, e->data->c_name);
    }
    return g_string_free(out, FALSE);
}
