/* A UNIX stream socket that we listen on: one client at a time, the others wait in the backlog. */
#include "config.h"

#include "devices/chardev/backend.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "qmp/gen/types.h"

#define BACKLOG 8

typedef struct Unix {
    PtaChardev parent;
    char *path; /* CONST */
    int listener;
    int client; /* -1 if there is none */
    void *listen_tag;
} Unix;

/* A socket that nobody listens on any more may be replaced. */
static bool remove_stale(const char *path, const struct sockaddr_un *addr, GError **error)
{
    struct stat st;
    if (lstat(path, &st) < 0) {
        return errno == ENOENT || pta_throw_errno(error, errno, "cannot look at %s", path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return pta_throw(error, PTA_ERROR_HOST, "%s is there and is no socket", path);
    }
    pta_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return pta_throw_errno(error, errno, "cannot make a socket");
    }
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno != ECONNREFUSED) {
        return pta_throw(error, PTA_ERROR_HOST, "%s is in use by another process", path);
    }
    return unlink(path) == 0 || pta_throw_errno(error, errno, "cannot remove the stale %s", path);
}

static bool unix_listen(Unix *u, GError **error)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    if (strlen(u->path) >= sizeof(addr.sun_path)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "the path of a socket has at most %zu characters: %s",
                         sizeof(addr.sun_path) - 1, u->path);
    }
    strcpy(addr.sun_path, u->path);
    if (!remove_stale(u->path, &addr, error)) {
        return false;
    }
    pta_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0077);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
    int saved = errno;
    umask(mask);
    errno = saved;
    if (!ok || listen(fd, BACKLOG) < 0) {
        return pta_throw_errno(error, errno, "cannot listen on %s", u->path);
    }
    u->listener = g_steal_fd(&fd);
    return true;
}

static void unix_close(PtaChardev *c)
{
    Unix *u = (Unix *)c;
    pta_close(u->client);
    if (u->listener >= 0) {
        pta_close(u->listener);
        unlink(u->path);
    }
    g_clear_pointer(&u->path, g_free);
}

/* Takes the next client, if one waits. */
static void unix_accept(PtaChardev *c)
{
    Unix *u = (Unix *)c;
    int fd = accept4(u->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    u->client = fd;
    if (u->listen_tag) {
        g_source_remove_unix_fd(c->pump, u->listen_tag);
        u->listen_tag = NULL;
    }
    pta_chardev_set_stream(c, fd, fd);
    pta_chardev_set_open(c, true);
}

static bool unix_open(PtaChardev *c, const void *config, const char *base_dir, GError **error)
{
    const ChardevUnixConfig *cfg = config;
    Unix *u = (Unix *)c;
    u->path = pta_resolve_path(base_dir, cfg->path);
    u->listener = -1;
    u->client = -1;
    if (!unix_listen(u, error)) {
        unix_close(c);
        return false;
    }
    if (cfg->wait) {
        g_message("%s: waiting for a client on %s", c->label, u->path);
        struct pollfd pfd = { .fd = u->listener, .events = POLLIN };
        if (poll(&pfd, 1, -1) < 0) { /* a signal: the user wants something else */
            pta_throw_errno(error, errno, "no client came to %s", u->path);
            unix_close(c);
            return false;
        }
        unix_accept(c);
    }
    if (u->client < 0) {
        u->listen_tag = g_source_add_unix_fd(c->pump, u->listener, G_IO_IN);
    }
    return true;
}

static ssize_t unix_read(PtaChardev *c, uint8_t *buf, size_t len)
{
    ssize_t n = recv(((Unix *)c)->client, buf, len, MSG_DONTWAIT);
    return n > 0 ? n : n < 0 ? -errno : -EPIPE;
}

static ssize_t unix_write(PtaChardev *c, const uint8_t *buf, size_t len)
{
    ssize_t n = send(((Unix *)c)->client, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

static void unix_hangup(PtaChardev *c, bool output)
{
    (void)output;
    Unix *u = (Unix *)c;
    pta_chardev_set_stream(c, -1, -1);
    pta_close(u->client);
    u->client = -1;
    pta_chardev_set_open(c, false);
    if (!u->listen_tag) {
        u->listen_tag = g_source_add_unix_fd(c->pump, u->listener, G_IO_IN);
    }
}

static char *unix_filename(PtaChardev *c)
{
    return g_strdup_printf("%sunix:%s,server=on",
                           c->open ? "" : "disconnected:", ((Unix *)c)->path);
}

const PtaChardevClass pta_chardev_unix = {
    .instance_size = sizeof(Unix),
    .open = unix_open,
    .close = unix_close,
    .read = unix_read,
    .write = unix_write,
    .hangup = unix_hangup,
    .accept = unix_accept,
    .filename = unix_filename,
};
