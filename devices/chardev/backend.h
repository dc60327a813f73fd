/* Between chardev.c and its back ends. */
#ifndef PTA_CHARDEV_BACKEND_H
#define PTA_CHARDEV_BACKEND_H

#include <sys/types.h>

#include "devices/chardev/chardev.h"

typedef struct PtaChardevClass {
    size_t instance_size;
    /* config: the branch of ChardevConfig. May set in_fd, out_fd, open. Undoes itself if it fails. */
    bool (*open)(PtaChardev *c, const void *config, const char *base_dir, GError **error);
    /* After the last read and write. */
    void (*close)(PtaChardev *c);
    /* As read(2) and write(2), not waiting; -errno if they failed. Context. read may be NULL; what
     * it answers may be fewer bytes than the stream gave (escape sequences). */
    ssize_t (*read)(PtaChardev *c, uint8_t *buf, size_t len);
    ssize_t (*write)(PtaChardev *c, const uint8_t *buf, size_t len);
    /* The input ended or failed, or the output did: stop using it. Context. */
    void (*hangup)(PtaChardev *c, bool output);
    /* If given, called when the pump wakes up while the stream is not open. Context. */
    void (*accept)(PtaChardev *c);
    /* If given, called each poll_ms while the stream is not open. Context. */
    void (*poll)(PtaChardev *c);
    unsigned poll_ms;
    /* If given, output goes here at once, under the lock; there is no stream. */
    void (*sink)(PtaChardev *c, const uint8_t *data, size_t len);
    char *(*filename)(PtaChardev *c); /* lock held */
} PtaChardevClass;

struct PtaChardev {
    const PtaChardevClass *klass; /* CONST */
    char *label;                  /* CONST */
    GMainContext *context;        /* CONST */
    void (*quit)(void *opaque);   /* CONST */
    void *quit_opaque;            /* CONST */
    GSource *pump;                /* CONST */

    /* Context only. */
    int in_fd;  /* -1: no input (any more) */
    int out_fd; /* -1: nowhere to write to: output is dropped while not open */
    void *in_tag;
    void *out_tag;
    bool out_blocked; /* the last write would have waited */

    int input_wanted; /* ATOMIC: there was no room; accept_input() is to wake us */

    GMutex lock;
    const PtaChardevFrontend *frontend; /* LOCKED(lock) */
    void *frontend_opaque;              /* LOCKED(lock) */
    bool open;                          /* LOCKED(lock): somebody is at the other end */
    bool starved;                       /* LOCKED(lock): a write fell short */
    bool scheduled;                     /* LOCKED(lock): the pump knows that there is output */
    int64_t pumped_us;                  /* LOCKED(lock): when the pump last had output */
    uint8_t *out;                       /* LOCKED(lock): a ring of OUT_SIZE */
    size_t out_head;                    /* LOCKED(lock) */
    size_t out_len;                     /* LOCKED(lock) */
    uint64_t n_written;                 /* LOCKED(lock): bytes that the stream has taken */
    uint64_t n_dropped;                 /* LOCKED(lock): nobody was there */
    uint64_t n_read;                    /* LOCKED(lock): bytes that the front end got */
};

extern const PtaChardevClass pta_chardev_stdio;
extern const PtaChardevClass pta_chardev_pty;
extern const PtaChardevClass pta_chardev_unix;
extern const PtaChardevClass pta_chardev_file;
extern const PtaChardevClass pta_chardev_ringbuf;
extern const PtaChardevClass pta_chardev_null;

/* For back ends, in the context (or in open()): the stream is there now, or gone. Descriptors that
 * are replaced are not closed. */
void pta_chardev_set_stream(PtaChardev *c, int in_fd, int out_fd);
void pta_chardev_set_open(PtaChardev *c, bool open);
void pta_chardev_send_event(PtaChardev *c, PtaChardevEvent event);
GBytes *pta_ringbuf_take(PtaChardev *c, size_t size);

#endif
