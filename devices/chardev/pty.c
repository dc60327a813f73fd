/*
 * A pseudo-terminal. Its master says hang-up while nobody has the other side open, and cannot be
 * waited for to say otherwise: so it is looked at from time to time.
 */
#include "config.h"

#include "devices/chardev/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "qmp/gen/types.h"

#define LOOK_MS 100

typedef struct Pty {
    PtaChardev parent;
    int master;
    char *name; /* CONST: of the other side */
    char *link; /* CONST: NULL if none was asked for */
} Pty;

static bool pty_link(Pty *p, const char *base_dir, const char *path, GError **error)
{
    g_autofree char *link = pta_resolve_path(base_dir, path);
    if (symlink(p->name, link) < 0) {
        /* A link that another machine left behind is replaced, anything else is not ours. */
        g_autofree char *old = errno == EEXIST ? g_file_read_link(link, NULL) : NULL;
        if (!old || !g_str_has_prefix(old, "/dev/pts/") || unlink(link) < 0 ||
            symlink(p->name, link) < 0) {
            return pta_throw_errno(error, errno, "cannot make the link %s", link);
        }
    }
    p->link = g_steal_pointer(&link);
    return true;
}

static bool pty_open(PtaChardev *c, const void *config, const char *base_dir, GError **error)
{
    const ChardevPtyConfig *cfg = config;
    Pty *p = (Pty *)c;
    char name[64];
    pta_autofd int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
        ptsname_r(master, name, sizeof(name)) != 0) {
        return pta_throw_errno(error, errno, "cannot make a pseudo-terminal");
    }
    /* Opened and closed once: only then does the master report that nobody is there. */
    pta_autofd int slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios t;
    if (slave < 0 || tcgetattr(slave, &t) < 0) {
        return pta_throw_errno(error, errno, "cannot open %s", name);
    }
    cfmakeraw(&t);
    int flags = fcntl(master, F_GETFL);
    if (tcsetattr(slave, TCSANOW, &t) < 0 || fcntl(master, F_SETFL, flags | O_NONBLOCK) < 0) {
        return pta_throw_errno(error, errno, "cannot set %s to raw mode", name);
    }
    p->name = g_strdup(name);
    if (cfg->link && !pty_link(p, base_dir, cfg->link, error)) {
        g_clear_pointer(&p->name, g_free);
        return false;
    }
    p->master = g_steal_fd(&master);
    return true;
}

static void pty_close(PtaChardev *c)
{
    Pty *p = (Pty *)c;
    pta_close(p->master);
    if (p->link) {
        unlink(p->link);
    }
    g_free(p->link);
    g_free(p->name);
}

static void pty_poll(PtaChardev *c)
{
    Pty *p = (Pty *)c;
    struct pollfd pfd = { .fd = p->master, .events = POLLIN };
    if (poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLHUP)) {
        pta_chardev_set_stream(c, p->master, p->master);
        pta_chardev_set_open(c, true);
    }
}

static ssize_t pty_read(PtaChardev *c, uint8_t *buf, size_t len)
{
    ssize_t n = read(((Pty *)c)->master, buf, len);
    return n > 0 ? n : n < 0 ? -errno : -EIO;
}

static ssize_t pty_write(PtaChardev *c, const uint8_t *buf, size_t len)
{
    ssize_t n = write(((Pty *)c)->master, buf, len);
    return n < 0 ? -errno : n;
}

static void pty_hangup(PtaChardev *c, bool output)
{
    (void)output;
    pta_chardev_set_stream(c, -1, -1);
    pta_chardev_set_open(c, false);
}

static char *pty_filename(PtaChardev *c)
{
    return g_strdup_printf("pty:%s", ((Pty *)c)->name);
}

const PtaChardevClass pta_chardev_pty = {
    .instance_size = sizeof(Pty),
    .open = pty_open,
    .close = pty_close,
    .read = pty_read,
    .write = pty_write,
    .hangup = pty_hangup,
    .poll = pty_poll,
    .poll_ms = LOOK_MS,
    .filename = pty_filename,
};
