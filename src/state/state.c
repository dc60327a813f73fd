/*
 * The JSON form of guest-visible state, driven by the field tables of state.h. What is loaded is
 * hostile: every value is checked against its field before the owner sees any of it.
 */
#include "config.h"

#include "src/state/state.h"

#include <string.h>

#define HEX_DIGITS_MAX 16

static uint64_t uint_get(const void *p, size_t size)
{
    switch (size) {
    case 1:
        return *(const uint8_t *)p;
    case 2:
        return *(const uint16_t *)p;
    case 4:
        return *(const uint32_t *)p;
    default:
        g_assert(size == 8);
        return *(const uint64_t *)p;
    }
}

static void uint_set(void *p, size_t size, uint64_t value)
{
    switch (size) {
    case 1:
        *(uint8_t *)p = (uint8_t)value;
        break;
    case 2:
        *(uint16_t *)p = (uint16_t)value;
        break;
    case 4:
        *(uint32_t *)p = (uint32_t)value;
        break;
    default:
        g_assert(size == 8);
        *(uint64_t *)p = value;
        break;
    }
}

/* ---- save ---- */

static json_t *uint_save(const void *p, size_t size)
{
    return json_sprintf("0x%" G_GINT64_MODIFIER "x", uint_get(p, size));
}

static json_t *field_save(const PtaStateField *f, const uint8_t *p)
{
    json_t *array;
    size_t step = f->size / f->count;
    switch (f->type) {
    case PTA_STATE_UINT:
        return uint_save(p, f->size);
    case PTA_STATE_BYTES: {
        g_autofree char *text = g_base64_encode(p, f->size);
        return json_string(text);
    }
    case PTA_STATE_STRUCT:
        return pta_state_save(f->sub, p);
    case PTA_STATE_ARRAY:
        array = json_array();
        for (size_t i = 0; i < f->count; i++) {
            json_array_append_new(array, pta_state_save(f->sub, p + i * step));
        }
        return array;
    case PTA_STATE_UINTS:
        array = json_array();
        for (size_t i = 0; i < f->count; i++) {
            json_array_append_new(array, uint_save(p + i * step, step));
        }
        return array;
    }
    g_assert_not_reached();
}

json_t *pta_state_save(const PtaStateDesc *desc, const void *state)
{
    json_t *fields = json_object();
    for (const PtaStateField *f = desc->fields; f->name; f++) {
        json_object_set_new(fields, f->name, field_save(f, (const uint8_t *)state + f->offset));
    }
    return json_pack("{s:i, s:o}", "version", (int)desc->version, "fields", fields);
}

/* ---- load ---- */

/* Where in the JSON we are, for messages: "virtio.queues[3].size". */
typedef struct Path {
    const struct Path *up;
    const char *name;
    size_t index; /* used if name is NULL */
} Path;

static void path_append(GString *text, const Path *path)
{
    if (path->up) {
        path_append(text, path->up);
    }
    if (path->name) {
        g_string_append_printf(text, "%s%s", text->len > 0 ? "." : "", path->name);
    } else {
        g_string_append_printf(text, "[%zu]", path->index);
    }
}

static bool refuse(GError **error, const Path *path, const char *why)
{
    g_autoptr(GString) text = g_string_new(NULL);
    path_append(text, path);
    return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "%s: %s", text->str, why);
}

static bool uint_load(const Path *path, json_t *json, void *p, size_t size, GError **error)
{
    const char *text = json_string_value(json);
    if (!text || text[0] != '0' || text[1] != 'x') {
        return refuse(error, path, "expected an integer as a string \"0x…\"");
    }
    const char *digits = text + 2;
    size_t n = strspn(digits, "0123456789abcdef");
    if (n == 0 || n > HEX_DIGITS_MAX || n != json_string_length(json) - 2) {
        return refuse(error, path, "expected one to sixteen hexadecimal digits after 0x");
    }
    uint64_t value = g_ascii_strtoull(digits, NULL, 16);
    if (size < sizeof(value) && value >> (8 * size) != 0) {
        return refuse(error, path, "the integer is too large for its field");
    }
    uint_set(p, size, value);
    return true;
}

static bool bytes_load(const Path *path, json_t *json, uint8_t *p, size_t size, GError **error)
{
    const char *text = json_string_value(json);
    if (!text || json_string_length(json) != (size + 2) / 3 * 4 ||
        strlen(text) != json_string_length(json)) {
        return refuse(error, path, "expected base64 of exactly the field's size");
    }
    gsize n;
    g_autofree guchar *bytes = g_base64_decode(text, &n);
    g_autofree char *again = g_base64_encode(bytes, n);
    if (n != size || strcmp(text, again) != 0) { /* GLib's decoder skips what is no base64 */
        return refuse(error, path, "expected base64 of exactly the field's size");
    }
    memcpy(p, bytes, size);
    return true;
}

static bool struct_load(const Path *path, const PtaStateDesc *desc, json_t *json, void *state,
                        GError **error);

static bool field_load(const Path *path, const PtaStateField *f, json_t *json, uint8_t *p,
                       GError **error)
{
    size_t step = f->size / f->count;
    switch (f->type) {
    case PTA_STATE_UINT:
        return uint_load(path, json, p, f->size, error);
    case PTA_STATE_BYTES:
        return bytes_load(path, json, p, f->size, error);
    case PTA_STATE_STRUCT:
        return struct_load(path, f->sub, json, p, error);
    case PTA_STATE_ARRAY:
    case PTA_STATE_UINTS:
        if (!json_is_array(json) || json_array_size(json) != f->count) {
            return refuse(error, path, "expected an array with the field's number of elements");
        }
        for (size_t i = 0; i < f->count; i++) {
            Path element = { .up = path, .index = i };
            json_t *value = json_array_get(json, i);
            if (!(f->type == PTA_STATE_UINTS
                      ? uint_load(&element, value, p + i * step, step, error)
                      : struct_load(&element, f->sub, value, p + i * step, error))) {
                return false;
            }
        }
        return true;
    }
    g_assert_not_reached();
}

static bool fields_load(const Path *path, const PtaStateDesc *desc, json_t *fields, void *state,
                        GError **error)
{
    size_t n = 0;
    for (const PtaStateField *f = desc->fields; f->name; f++, n++) {
        Path here = { .up = path, .name = f->name };
        json_t *value = json_object_get(fields, f->name);
        if (!value) {
            return refuse(error, &here, "missing");
        }
        if (!field_load(&here, f, value, (uint8_t *)state + f->offset, error)) {
            return false;
        }
    }
    if (json_object_size(fields) == n) {
        return true;
    }
    const char *key;
    json_t *value;
    json_object_foreach(fields, key, value)
    {
        const PtaStateField *f = desc->fields;
        while (f->name && strcmp(f->name, key) != 0) {
            f++;
        }
        if (!f->name) {
            Path here = { .up = path, .name = key };
            return refuse(error, &here, "unknown field");
        }
    }
    g_assert_not_reached(); /* names of a table are unique, and so are keys of an object */
}

static bool struct_load(const Path *path, const PtaStateDesc *desc, json_t *json, void *state,
                        GError **error)
{
    json_t *version = json_object_get(json, "version");
    json_t *fields = json_object_get(json, "fields");
    if (!json_is_integer(version) || !json_is_object(fields) || json_object_size(json) != 2) {
        return refuse(error, path, "expected an object of version and fields");
    }
    json_int_t v = json_integer_value(version);
    if (v < 1 || v > (json_int_t)desc->version) {
        return refuse(error, path, "the version of this state is not known");
    }
    if (!fields_load(path, desc, fields, state, error)) {
        return false;
    }
    g_autoptr(GError) invalid = NULL;
    if (desc->validate && !desc->validate(state, &invalid)) {
        return refuse(error, path, invalid ? invalid->message : "the state cannot be");
    }
    return true;
}

bool pta_state_load(const PtaStateDesc *desc, json_t *json, void *state, GError **error)
{
    Path root = { .name = desc->name };
    g_autofree void *copy = g_malloc0(desc->size);
    if (!struct_load(&root, desc, json, copy, error)) {
        return false;
    }
    memcpy(state, copy, desc->size);
    return true;
}
