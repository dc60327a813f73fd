/* C structs to JSON, their end, enums, files. The parser is in marshal-parse.c. Any thread. */
#include "config.h"

#include "qmp/marshal-private.h"

#include <math.h>

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
