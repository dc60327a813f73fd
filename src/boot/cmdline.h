/* A kernel command line, built piece by piece and checked as it grows. */
#ifndef PTA_BOOT_CMDLINE_H
#define PTA_BOOT_CMDLINE_H

#include "devices/device.h"
#include "src/util/util.h"

typedef struct PtaCmdline PtaCmdline;

/* An empty line of at most `max_len` bytes, its NUL not counted. */
PtaCmdline *pta_cmdline_new(size_t max_len);
void pta_cmdline_free(PtaCmdline *line);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaCmdline, pta_cmdline_free)

/*
 * What cannot be added. Each addition is separated by a space from what is there, and changes
 * nothing if it fails; then *error has class BAD_DESCRIPTION and a text that names the condition.
 */
typedef enum PtaCmdlineStatus {
    PTA_CMDLINE_OK,
    PTA_CMDLINE_HAS_SPACE,     /* a space in a key or a value */
    PTA_CMDLINE_HAS_EQUALS,    /* an '=' in a key or a value */
    PTA_CMDLINE_INVALID_ASCII, /* a byte that is not printable ASCII */
    PTA_CMDLINE_TOO_LARGE,     /* it would pass max_len */
    PTA_CMDLINE_EMPTY,         /* an empty key or value */
} PtaCmdlineStatus;

/* key=value; neither may have a space or an '='. */
PtaCmdlineStatus pta_cmdline_try_add(PtaCmdline *line, const char *key, const char *value);
bool pta_cmdline_add(PtaCmdline *line, const char *key, const char *value, GError **error);

/* Text as it stands, spaces and all: what a person wrote. Empty text is nothing. */
PtaCmdlineStatus pta_cmdline_try_add_text(PtaCmdline *line, const char *text);
bool pta_cmdline_add_text(PtaCmdline *line, const char *text, GError **error);

/* virtio_mmio.device=4K@0xd0000000:5 (drivers/virtio/virtio_mmio.c of Linux). */
bool pta_cmdline_add_virtio_mmio(PtaCmdline *line, const PtaPlacedDevice *dev, GError **error);

const char *pta_cmdline_text(const PtaCmdline *line);

#endif
