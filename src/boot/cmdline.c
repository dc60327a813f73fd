/* The kernel command line: a string that keeps to what a kernel can parse. */
#include "config.h"

#include "src/boot/cmdline.h"

#include <inttypes.h>
#include <string.h>

struct PtaCmdline {
    GString *text;
    size_t max_len;
};

PtaCmdline *pta_cmdline_new(size_t max_len)
{
    PtaCmdline *line = g_new0(PtaCmdline, 1);
    line->text = g_string_new(NULL);
    line->max_len = max_len;
    return line;
}

void pta_cmdline_free(PtaCmdline *line)
{
    if (line) {
        g_string_free(line->text, TRUE);
        g_free(line);
    }
}

static PtaCmdlineStatus check_ascii(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (!g_ascii_isprint(*p)) {
            return PTA_CMDLINE_INVALID_ASCII;
        }
    }
    return PTA_CMDLINE_OK;
}

static PtaCmdlineStatus check_word(const char *word)
{
    PtaCmdlineStatus status = check_ascii(word);
    if (status != PTA_CMDLINE_OK) {
        return status;
    }
    if (word[0] == '\0') {
        return PTA_CMDLINE_EMPTY;
    }
    if (strchr(word, ' ')) {
        return PTA_CMDLINE_HAS_SPACE;
    }
    return strchr(word, '=') ? PTA_CMDLINE_HAS_EQUALS : PTA_CMDLINE_OK;
}

static PtaCmdlineStatus append(PtaCmdline *line, const char *a, const char *b, const char *c)
{
    size_t space = line->text->len > 0 ? 1 : 0;
    size_t room = line->max_len - line->text->len;
    /* Each is a string in memory, so the sum cannot wrap. */
    if (space + strlen(a) + strlen(b) + strlen(c) > room) {
        return PTA_CMDLINE_TOO_LARGE;
    }
    if (space) {
        g_string_append_c(line->text, ' ');
    }
    g_string_append(line->text, a);
    g_string_append(line->text, b);
    g_string_append(line->text, c);
    return PTA_CMDLINE_OK;
}

PtaCmdlineStatus pta_cmdline_try_add(PtaCmdline *line, const char *key, const char *value)
{
    PtaCmdlineStatus status = check_word(key);
    if (status == PTA_CMDLINE_OK) {
        status = check_word(value);
    }
    return status == PTA_CMDLINE_OK ? append(line, key, "=", value) : status;
}

PtaCmdlineStatus pta_cmdline_try_add_text(PtaCmdline *line, const char *text)
{
    PtaCmdlineStatus status = check_ascii(text);
    if (status != PTA_CMDLINE_OK || text[0] == '\0') {
        return status;
    }
    return append(line, text, "", "");
}

static bool throw_status(const PtaCmdline *line, PtaCmdlineStatus status, const char *piece,
                         GError **error)
{
    switch (status) {
    case PTA_CMDLINE_OK:
        return true;
    case PTA_CMDLINE_HAS_SPACE:
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "command line: \"%s\" has a space in its key or value", piece);
    case PTA_CMDLINE_HAS_EQUALS:
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "command line: \"%s\" has an equals sign in its key or value", piece);
    case PTA_CMDLINE_EMPTY:
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "command line: \"%s\" has an empty key or value", piece);
    case PTA_CMDLINE_TOO_LARGE:
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "command line: %zu bytes behind %zu pass the limit of %zu", strlen(piece),
                         line->text->len, line->max_len);
    case PTA_CMDLINE_INVALID_ASCII:
        break;
    }
    g_autofree char *escaped = g_strescape(piece, NULL);
    return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                     "command line: \"%s\" has a byte that is not printable ASCII", escaped);
}

bool pta_cmdline_add(PtaCmdline *line, const char *key, const char *value, GError **error)
{
    g_autofree char *piece = g_strdup_printf("%s=%s", key, value);
    return throw_status(line, pta_cmdline_try_add(line, key, value), piece, error);
}

bool pta_cmdline_add_text(PtaCmdline *line, const char *text, GError **error)
{
    return throw_status(line, pta_cmdline_try_add_text(line, text), text, error);
}

bool pta_cmdline_add_virtio_mmio(PtaCmdline *line, const PtaPlacedDevice *dev, GError **error)
{
    g_autofree char *size = pta_format_size(dev->size);
    g_autofree char *value = g_strdup_printf("%s@0x%" PRIx64 ":%d", size, dev->base, dev->irq);
    return pta_cmdline_add(line, "virtio_mmio.device", value, error);
}

const char *pta_cmdline_text(const PtaCmdline *line)
{
    return line->text->str;
}
