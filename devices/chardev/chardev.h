/*
 * A character device of the host: a stream of bytes to and from the outside, with a front end (a
 * serial port, a console) inside.
 *
 * Output goes into a bounded buffer, from any thread, and never waits; when the buffer is full the
 * front end is told, and told again when there is room. All else happens in the given GMainContext.
 */
#ifndef PTA_CHARDEV_H
#define PTA_CHARDEV_H

#include "src/util/inspect.h"
#include "src/util/util.h"

struct ChardevConfig; /* qmp/gen/types.h */

typedef struct PtaChardev PtaChardev;

typedef enum PtaChardevEvent {
    PTA_CHARDEV_OPENED, /* somebody is there now */
    PTA_CHARDEV_CLOSED,
    PTA_CHARDEV_BREAK, /* Ctrl-A b on a terminal */
} PtaChardevEvent;

/* Called in the context, with no lock of the chardev held. */
typedef struct PtaChardevFrontend {
    size_t (*room)(void *opaque); /* how many bytes receive() would take now */
    void (*receive)(void *opaque, const uint8_t *data, size_t len); /* len <= room() */
    void (*writable)(void *opaque); /* a write fell short, and now there is room */
    void (*event)(void *opaque, PtaChardevEvent event); /* may be NULL */
} PtaChardevFrontend;

typedef struct PtaChardevParams {
    const char *label;     /* copied */
    GMainContext *context; /* referenced */
    const char *base_dir;  /* lent for the call: what relative paths start from */
    /* Ctrl-A x was typed: end the machine. In the context. */
    void (*quit)(void *opaque);
    void *opaque;
} PtaChardevParams;

/* MAIN. Errors: HOST, BAD_DESCRIPTION. */
PtaChardev *pta_chardev_new(const PtaChardevParams *params, const struct ChardevConfig *config,
                            GError **error);
/* MAIN. Writes out what is buffered, for at most a second, and restores the terminal. The front end
 * is not called any more. */
void pta_chardev_free(PtaChardev *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaChardev, pta_chardev_free)

/* MAIN. NULL to detach: on return the front end is not called any more. */
void pta_chardev_attach(PtaChardev *c, const PtaChardevFrontend *frontend, void *opaque);

/* Any thread. How many bytes were taken; if fewer than len, writable() will be called. */
size_t pta_chardev_write(PtaChardev *c, const void *data, size_t len);

/* Any thread. room() has grown. */
void pta_chardev_accept_input(PtaChardev *c);

/* ---- for the monitor; MAIN ---- */

const char *pta_chardev_label(const PtaChardev *c);
/* As QEMU's query-chardev has it: "stdio", "pty:/dev/pts/3", "disconnected:unix:vm.sock". New. */
char *pta_chardev_filename(PtaChardev *c);
bool pta_chardev_frontend_open(PtaChardev *c);

/* PtaInspectFn. */
void pta_chardev_inspect(void *c, PtaInspect *req);

/* Takes at most `size` bytes out of a ring buffer, the oldest first. GENERIC_ERROR if it is none. */
GBytes *pta_chardev_ringbuf_read(PtaChardev *c, size_t size, GError **error);

#endif
