/*
 * One pass over the bytes, one state for each; jansson parses a message once its end is known, so
 * that its parser never sees more than the bounds allow. Any thread, one at a time.
 */
#include "config.h"

#include "qmp/json-stream.h"

#include <string.h>

typedef enum State {
    BETWEEN,     /* white space before a message */
    SCALAR,      /* a number or word outside of any container */
    INSIDE,      /* in a container, or just after it was opened */
    STRING,      /* in a string, at any depth */
    SKIP_LINE,   /* refused: up to the end of the line */
    SKIP_NEST,   /* refused, balanced so far: up to the closing bracket */
    SKIP_BROKEN, /* refused, its structure is lost: up to a sign of a new message */
} State;

struct PtaJsonStream {
    State state;
    GString *text; /* the message so far, single quotes replaced by double ones */
    size_t max_bytes;
    size_t taken;    /* how many bytes of the input it was */
    unsigned depth;  /* open brackets, at most the limit except in SKIP_NEST */
    uint64_t braces; /* bit i: the bracket of level i is a brace */
    char quote;      /* STRING: what ends it. SKIP_NEST: the same, 0 outside of strings */
    bool escaped;    /* the last byte was a backslash in a string */
    bool line_start; /* SKIP_*: nothing but line ends since the last line end */
};

G_STATIC_ASSERT(PTA_JSON_STREAM_MAX_DEPTH <= 64); /* the bits of braces */

PtaJsonStream *pta_json_stream_new(void)
{
    PtaJsonStream *s = g_new0(PtaJsonStream, 1);
    s->text = g_string_sized_new(256);
    s->max_bytes = PTA_JSON_STREAM_MAX_BYTES;
    return s;
}

void pta_json_stream_set_max_bytes(PtaJsonStream *s, size_t max)
{
    s->max_bytes = max;
}

void pta_json_stream_free(PtaJsonStream *s)
{
    if (s) {
        g_string_free(s->text, TRUE);
        g_free(s);
    }
}

static void restart(PtaJsonStream *s, State state)
{
    s->state = state;
    s->taken = 0;
    s->quote = 0;
    s->escaped = false;
    s->line_start = false;
    if (s->text->allocated_len > 64 * PTA_KIB) {
        g_string_free(s->text, TRUE);
        s->text = g_string_sized_new(256);
    } else {
        g_string_truncate(s->text, 0);
    }
    if (state != SKIP_NEST) {
        s->depth = 0;
    }
}

static void refuse(PtaJsonStream *s, State next, PtaJsonItem *item, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
static void refuse(PtaJsonStream *s, State next, PtaJsonItem *item, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *what = g_strdup_vprintf(format, ap);
    va_end(ap);
    item->error = g_strdup_printf("JSON parse error, %s", what);
    item->is_jsonrpc = strstr(s->text->str, "\"jsonrpc\"") != NULL;
    char quote = s->state == STRING ? s->quote : 0;
    bool escaped = s->escaped;
    restart(s, next);
    if (next == SKIP_NEST) { /* goes on where it was */
        s->quote = quote;
        s->escaped = escaped;
    }
}

/* The message is complete: hands it over, or says why it is none. */
static void complete(PtaJsonStream *s, PtaJsonItem *item)
{
    bool scalar = s->state == SCALAR;
    json_error_t e;
    json_t *value =
        json_loadb(s->text->str, s->text->len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
    if (value) {
        item->value = value;
        restart(s, BETWEEN);
    } else if (scalar) {
        refuse(s, SKIP_LINE, item, "invalid word '%.32s'", s->text->str);
    } else {
        refuse(s, BETWEEN, item, "%s (byte %d of the message)", e.text, e.position);
    }
}

static void open_bracket(PtaJsonStream *s, char c, PtaJsonItem *item)
{
    if (s->depth == PTA_JSON_STREAM_MAX_DEPTH) {
        s->depth++;
        refuse(s, SKIP_NEST, item, "more than %d levels", PTA_JSON_STREAM_MAX_DEPTH);
        return;
    }
    uint64_t bit = UINT64_C(1) << s->depth;
    s->braces = c == '{' ? s->braces | bit : s->braces & ~bit;
    s->depth++;
    s->state = INSIDE;
}

static void close_bracket(PtaJsonStream *s, char c, PtaJsonItem *item)
{
    bool brace = s->braces >> (s->depth - 1) & 1;
    if (brace != (c == '}')) {
        refuse(s, SKIP_BROKEN, item, "expected '%c', found '%c'", brace ? '}' : ']', c);
    } else if (--s->depth == 0) {
        complete(s, item);
    }
}

/* A byte within a string; the opening quote has been stored. */
static void string_byte(PtaJsonStream *s, char c, PtaJsonItem *item)
{
    if ((unsigned char)c < 0x20) {
        refuse(s, s->depth ? SKIP_BROKEN : SKIP_LINE, item, "control character 0x%02x in a string",
               (unsigned char)c);
        s->line_start = c == '\n';
        if (c == '\n' && s->state == SKIP_LINE) {
            s->state = BETWEEN;
        }
        return;
    }
    if (s->escaped) { /* the backslash was held back: \' is no escape of JSON */
        s->escaped = false;
        if (c != '\'') {
            g_string_append_c(s->text, '\\');
        }
        g_string_append_c(s->text, c);
    } else if (c == '\\') {
        s->escaped = true;
    } else if (c == s->quote) {
        g_string_append_c(s->text, '"');
        s->quote = 0;
        s->state = INSIDE;
        if (s->depth == 0) {
            complete(s, item);
        }
    } else {
        if (c == '"') { /* within single quotes */
            g_string_append_c(s->text, '\\');
        }
        g_string_append_c(s->text, c);
    }
}

static bool is_scalar_byte(char c)
{
    return g_ascii_isalnum(c) || c == '+' || c == '-' || c == '.' || c == '_';
}

/* Returns false if the byte was not taken (it ends a scalar and belongs to what follows). */
static bool message_byte(PtaJsonStream *s, char c, PtaJsonItem *item)
{
    if (s->state == SCALAR && !is_scalar_byte(c)) {
        complete(s, item);
        return false;
    }
    if (s->state == BETWEEN) {
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            return true;
        }
        if (!is_scalar_byte(c) && c != '{' && c != '[' && c != '"' && c != '\'') {
            refuse(s, SKIP_LINE, item, g_ascii_isprint(c) ? "stray '%c'" : "stray byte 0x%02x",
                   (unsigned char)c);
            return true;
        }
        s->state = is_scalar_byte(c) ? SCALAR : INSIDE;
    }
    if (++s->taken > s->max_bytes) {
        refuse(s, s->depth ? SKIP_NEST : SKIP_LINE, item, "more than %zu bytes", s->max_bytes);
        return false; /* SKIP_* looks at it */
    }
    if (s->state == STRING) {
        string_byte(s, c, item);
    } else if (c == '"' || c == '\'') {
        g_string_append_c(s->text, '"');
        s->quote = c;
        s->state = STRING;
    } else {
        g_string_append_c(s->text, c);
        if (c == '{' || c == '[') {
            open_bracket(s, c, item);
        } else if (c == '}' || c == ']') {
            close_bracket(s, c, item);
        }
    }
    return true;
}

/* Follows the structure of a refused message without keeping it. */
static void nest_byte(PtaJsonStream *s, char c)
{
    if (s->escaped) {
        s->escaped = false;
    } else if (s->quote) {
        if (c == '\\') {
            s->escaped = true;
        } else if (c == s->quote) {
            s->quote = 0;
        }
    } else if (c == '"' || c == '\'') {
        s->quote = c;
    } else if (c == '{' || c == '[') {
        if (s->depth < UINT_MAX) {
            s->depth++;
        }
    } else if (c == '}' || c == ']') {
        if (--s->depth == 0) {
            restart(s, BETWEEN);
        }
    }
}

/* Returns false if the byte begins a new message. */
static bool skip_byte(PtaJsonStream *s, char c)
{
    if (s->line_start && (c == '{' || c == '[')) {
        restart(s, BETWEEN);
        return false;
    }
    if (c == '\n') {
        if (s->state == SKIP_LINE) {
            restart(s, BETWEEN);
        } else {
            s->line_start = true;
        }
        return true;
    }
    s->line_start = s->line_start && c == '\r';
    if (s->state == SKIP_NEST) {
        nest_byte(s, c);
    }
    return true;
}

size_t pta_json_stream_feed(PtaJsonStream *s, const char *bytes, size_t len, PtaJsonItem *item)
{
    *item = (PtaJsonItem){};
    size_t i = 0;
    while (i < len && !item->value && !item->error) {
        char c = bytes[i];
        if ((unsigned char)c == 0xff) {
            pta_json_stream_finish(s, item);
            i++;
        } else if (s->state >= SKIP_LINE) {
            i += skip_byte(s, c);
        } else {
            i += message_byte(s, c, item);
        }
    }
    return i;
}

void pta_json_stream_finish(PtaJsonStream *s, PtaJsonItem *item)
{
    *item = (PtaJsonItem){};
    switch (s->state) {
    case SCALAR:
        complete(s, item);
        break;
    case INSIDE:
    case STRING:
        refuse(s, BETWEEN, item, "the message ends too early");
        break;
    case BETWEEN:
    case SKIP_LINE:
    case SKIP_NEST:
    case SKIP_BROKEN:
        break;
    }
    restart(s, BETWEEN);
}
