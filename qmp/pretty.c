/* JSON for people. */
#include "config.h"

#include "qmp/pretty.h"

#include <string.h>

/* Width on a terminal, in columns. */
static size_t width(const char *text)
{
    size_t columns = 0;
    for (; *text; text = g_utf8_next_char(text)) {
        gunichar c = g_utf8_get_char(text);
        columns += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return columns;
}

static void put_padded(GString *out, const char *text, size_t columns)
{
    g_string_append(out, text);
    for (size_t have = width(text); have < columns; have++) {
        g_string_append_c(out, ' ');
    }
}

static void put_text(GString *out, const char *text, bool lines)
{
    for (; *text; text = g_utf8_next_char(text)) {
        gunichar c = g_utf8_get_char(text);
        bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
        if (control && !(lines && (c == '\n' || c == '\t'))) {
            g_string_append_printf(out, "\\x%02x", c);
        } else {
            g_string_append_unichar(out, c);
        }
    }
}

static const char *error_text(const json_t *value)
{
    return json_object_size(value) == 1 ? json_string_value(json_object_get(value, "$error"))
                                        : NULL;
}

static bool is_scalar(const json_t *value)
{
    return value && !json_is_object(value) && !json_is_array(value);
}

/* A counter of inspect: {"$counter": N}, perhaps with a "$rate". */
static bool is_counter(const json_t *value)
{
    size_t known = json_object_get(value, "$rate") ? 2 : 1;
    return json_object_size(value) == known && is_scalar(json_object_get(value, "$counter"));
}

/* What fits into one line. */
static bool is_flat(const json_t *value)
{
    return is_scalar(value) || error_text(value) || is_counter(value) ||
           json_object_size(value) + json_array_size(value) == 0;
}

static void put_flat(GString *out, bool tree, const json_t *value);

static void put_counter(GString *out, bool tree, const json_t *value)
{
    const json_t *rate = json_object_get(value, "$rate");
    put_flat(out, tree, json_object_get(value, "$counter"));
    if (json_is_number(rate)) {
        double r = json_number_value(rate);
        char text[G_ASCII_DTOSTR_BUF_SIZE];
        g_ascii_formatd(text, sizeof(text), r < 100 ? "%.2f" : "%.0f", r);
        g_string_append_printf(out, " (%s/s)", text);
    }
}

static void put_flat(GString *out, bool tree, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        put_text(out, json_string_value(value), false);
        break;
    case JSON_INTEGER:
        g_string_append_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL: {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        g_string_append(out, text);
        free(text);
        break;
    }
    case JSON_TRUE:
        g_string_append(out, "true");
        break;
    case JSON_FALSE:
        g_string_append(out, "false");
        break;
    case JSON_NULL:
        g_string_append(out, tree ? "…" : "-");
        break;
    case JSON_OBJECT:
        if (error_text(value)) {
            g_string_append_c(out, '(');
            put_text(out, error_text(value), false);
            g_string_append_c(out, ')');
        } else if (is_counter(value)) {
            put_counter(out, tree, value);
        } else {
            g_string_append(out, "{}");
        }
        break;
    case JSON_ARRAY:
        g_string_append(out, "[]");
        break;
    }
}

static char *flat(const json_t *value)
{
    GString *text = g_string_new("");
    put_flat(text, false, value);
    return g_string_free(text, FALSE);
}

static void indent(GString *out, unsigned level)
{
    for (unsigned i = 0; i < level; i++) {
        g_string_append(out, "  ");
    }
}

/* ---- tables ---- */

static bool is_table(const json_t *list)
{
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row)
    {
        if (!json_is_object(row) || json_object_size(row) == 0) {
            return false;
        }
        const char *key;
        json_t *cell;
        json_object_foreach((json_t *)(uintptr_t)row, key, cell)
        {
            if (!is_flat(cell)) {
                return false;
            }
        }
    }
    return json_array_size(list) > 0;
}

/* All keys in the order in which they first come; the strings are the rows'. */
static GPtrArray *table_columns(const json_t *list)
{
    GPtrArray *columns = g_ptr_array_new();
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row)
    {
        const char *key;
        json_t *cell;
        json_object_foreach(row, key, cell)
        {
            if (!g_ptr_array_find_with_equal_func(columns, key, g_str_equal, NULL)) {
                g_ptr_array_add(columns, (gpointer)(uintptr_t)key);
            }
        }
    }
    return columns;
}

static char *table_cell(const json_t *row, const char *column)
{
    const json_t *cell = json_object_get(row, column);
    return cell ? flat(cell) : g_strdup("");
}

static void put_table(GString *out, const json_t *list, unsigned level)
{
    g_autoptr(GPtrArray) columns = table_columns(list);
    g_autofree size_t *widths = g_new0(size_t, columns->len);
    size_t i;
    json_t *row;
    for (guint c = 0; c < columns->len; c++) {
        widths[c] = width(columns->pdata[c]);
        json_array_foreach(list, i, row)
        {
            g_autofree char *text = table_cell(row, columns->pdata[c]);
            widths[c] = MAX(widths[c], width(text));
        }
    }
    for (size_t r = 0; r <= json_array_size(list); r++) {
        indent(out, level);
        for (guint c = 0; c < columns->len; c++) {
            g_autofree char *text =
                r == 0 ? g_ascii_strup(columns->pdata[c], -1)
                       : table_cell(json_array_get(list, r - 1), columns->pdata[c]);
            bool last = c + 1 == columns->len;
            put_padded(out, text, last ? 0 : widths[c] + 2);
        }
        while (out->str[out->len - 1] == ' ') {
            g_string_truncate(out, out->len - 1);
        }
        g_string_append_c(out, '\n');
    }
}

/* ---- everything ---- */

static void put(GString *out, bool tree, const json_t *value, unsigned level);

static void put_members(GString *out, bool tree, const json_t *object, unsigned level)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        indent(out, level);
        put_text(out, key, false);
        g_string_append_c(out, ':');
        if (is_flat(value)) {
            g_string_append_c(out, ' ');
            put_flat(out, tree, value);
            g_string_append_c(out, '\n');
        } else {
            g_string_append_c(out, '\n');
            put(out, tree, value, level + 1);
        }
    }
}

static void put_elements(GString *out, bool tree, const json_t *list, unsigned level)
{
    size_t i;
    json_t *value;
    json_array_foreach(list, i, value)
    {
        if (is_flat(value)) {
            indent(out, level);
            put_flat(out, tree, value);
            g_string_append_c(out, '\n');
        } else {
            size_t start = out->len;
            put(out, tree, value, level + 1);
            /* The first line's last indentation is where the mark of an element goes. */
            out->str[start + 2 * (size_t)level] = '-';
        }
    }
}

static void put(GString *out, bool tree, const json_t *value, unsigned level)
{
    if (is_flat(value)) {
        indent(out, level);
        put_flat(out, tree, value);
        g_string_append_c(out, '\n');
    } else if (json_is_object(value)) {
        put_members(out, tree, value, level);
    } else if (is_table(value)) {
        put_table(out, value, level);
    } else {
        put_elements(out, tree, value, level);
    }
}

char *pta_pretty(const json_t *value, bool tree)
{
    GString *out = g_string_new("");
    if (json_is_string(value)) {
        put_text(out, json_string_value(value), true);
        if (out->len == 0 || out->str[out->len - 1] != '\n') {
            g_string_append_c(out, '\n');
        }
    } else if (!json_is_object(value) || json_object_size(value) > 0) {
        put(out, tree, value, 0);
    }
    return g_string_free(out, FALSE);
}

char *pta_pretty_event(const json_t *event)
{
    const json_t *timestamp = json_object_get(event, "timestamp");
    gint64 seconds = json_integer_value(json_object_get(timestamp, "seconds"));
    gint64 micros = json_integer_value(json_object_get(timestamp, "microseconds"));
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(seconds);
    g_autofree char *clock = time ? g_date_time_format(time, "%H:%M:%S") : g_strdup("?");
    GString *out = g_string_new("");
    g_string_append_printf(out, "%s.%03d ", clock, (int)(micros / 1000));
    put_text(out, json_string_value(json_object_get(event, "event")) ?: "?", false);
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(event, "data"), key, value)
    {
        g_string_append_c(out, ' ');
        put_text(out, key, false);
        g_string_append_c(out, '=');
        if (is_flat(value)) {
            put_flat(out, false, value);
        } else {
            char *text = json_dumps(value, JSON_COMPACT);
            put_text(out, text, false);
            free(text);
        }
    }
    const json_t *seq = json_object_get(event, "seq");
    if (seq) {
        g_string_append_printf(out, " (%" JSON_INTEGER_FORMAT ")", json_integer_value(seq));
    }
    return g_string_free(out, FALSE);
}
