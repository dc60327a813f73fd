/*
 * JSON with line numbers. jansson judges the text and gives the values; since it keeps no positions
 * of values, a second walk over the text, now known to be good, finds the line of each.
 */
#include "config.h"

#include "qmp/schema.h"

#include <string.h>

typedef struct Scan {
    const char *at;
    SchemaPos pos;
} Scan;

bool schema_throw(GError **error, SchemaPos pos, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s:%d: %s", pos.file, pos.line, text);
}

static void skip_space(Scan *s)
{
    for (; *s->at == ' ' || *s->at == '\t' || *s->at == '\r' || *s->at == '\n'; s->at++) {
        s->pos.line += *s->at == '\n';
    }
}

/* Over white space, then over one of : , { } [ ]. */
static void skip_punct(Scan *s)
{
    skip_space(s);
    g_assert(*s->at != '\0');
    s->at++;
    skip_space(s);
}

static void skip_string(Scan *s)
{
    g_assert(*s->at == '"');
    for (s->at++; *s->at != '"'; s->at++) {
        if (*s->at == '\\') {
            s->at++;
        }
    }
    s->at++;
}

static void skip_scalar(Scan *s)
{
    if (*s->at == '"') {
        skip_string(s);
    } else {
        s->at += strcspn(s->at, " \t\r\n,]}");
    }
}

static SchemaNode *scan_value(Scan *s, json_t *json)
{
    skip_space(s);
    SchemaNode *node = g_new0(SchemaNode, 1);
    *node = (SchemaNode){ .json = json_incref(json), .pos = s->pos };
    if (json_is_object(json)) {
        node->items = g_ptr_array_new_with_free_func((GDestroyNotify)schema_node_free);
        skip_punct(s);
        const char *key;
        json_t *value;
        /* jansson iterates in the order of insertion, which is that of the text. */
        json_object_foreach(json, key, value)
        {
            SchemaPos pos = s->pos;
            skip_string(s);
            skip_punct(s);
            SchemaNode *member = scan_value(s, value);
            member->key = key;
            member->pos = pos;
            g_ptr_array_add(node->items, member);
            skip_space(s);
            if (*s->at == ',') {
                skip_punct(s);
            }
        }
        skip_punct(s);
    } else if (json_is_array(json)) {
        node->items = g_ptr_array_new_with_free_func((GDestroyNotify)schema_node_free);
        skip_punct(s);
        for (size_t i = 0; i < json_array_size(json); i++) {
            g_ptr_array_add(node->items, scan_value(s, json_array_get(json, i)));
            skip_space(s);
            if (*s->at == ',') {
                skip_punct(s);
            }
        }
        skip_punct(s);
    } else {
        skip_scalar(s);
    }
    return node;
}

void schema_node_free(SchemaNode *node)
{
    if (node->items) {
        g_ptr_array_unref(node->items);
    }
    json_decref(node->json);
    g_free(node);
}

SchemaNode *schema_node_get(const SchemaNode *node, const char *key)
{
    for (guint i = 0; node->items && i < node->items->len; i++) {
        SchemaNode *item = node->items->pdata[i];
        if (item->key && strcmp(item->key, key) == 0) {
            return item;
        }
    }
    return NULL;
}

SchemaNode *schema_node_load(const char *dir, const char *file, GError **error)
{
    g_autofree char *path = dir ? g_build_filename(dir, file, NULL) : g_strdup(file);
    g_autofree char *text = NULL;
    gsize len;
    g_autoptr(GError) err = NULL;
    if (!g_file_get_contents(path, &text, &len, &err)) {
        pta_throw(error, PTA_ERROR_HOST, "%s", err->message);
        return NULL;
    }
    Scan s = { .at = text, .pos = { .file = g_intern_string(path), .line = 1 } };
    json_error_t json_error;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &json_error);
    if (!root) {
        schema_throw(error, (SchemaPos){ s.pos.file, MAX(json_error.line, 1) }, "%s",
                     json_error.text);
        return NULL;
    }
    SchemaNode *node = scan_value(&s, root);
    json_decref(root);
    return node;
}
