/* UNIX stream sockets to listen on. Any thread. */
#include "config.h"

#include "src/util/socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Makes way for a socket at addr: removes one that nobody listens on. */
static bool remove_stale(const struct sockaddr_un *addr, GError **error)
{
    struct stat st;
    if (lstat(addr->sun_path, &st) < 0) {
        return errno == ENOENT ||
               pta_throw_errno(error, errno, "%s: cannot look at it", addr->sun_path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return pta_throw(error, PTA_ERROR_HOST, "%s: exists and is not a socket", addr->sun_path);
    }
    pta_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return pta_throw_errno(error, errno, "cannot make a socket");
    }
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN) {
        return pta_throw(error, PTA_ERROR_HOST, "%s: another process listens on it",
                         addr->sun_path);
    }
    if (errno != ECONNREFUSED) {
        return pta_throw_errno(error, errno, "%s: cannot tell whether it is in use",
                               addr->sun_path);
    }
    if (unlink(addr->sun_path) < 0 && errno != ENOENT) {
        return pta_throw_errno(error, errno, "%s: cannot remove the old socket", addr->sun_path);
    }
    return true;
}

int pta_unix_bind(const char *path, GError **error)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    if (*path == '\0' || strlen(path) >= sizeof(addr.sun_path)) {
        pta_throw(error, PTA_ERROR_HOST,
                  "'%s': the path of a socket has 1 to %zu bytes, this one has %zu", path,
                  sizeof(addr.sun_path) - 1, strlen(path));
        return -1;
    }
    strcpy(addr.sun_path, path);
    if (!remove_stale(&addr, error)) {
        return -1;
    }
    pta_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        pta_throw_errno(error, errno, "cannot make a socket");
        return -1;
    }
    /* Linux gives the file the mode of the socket, so it is never open to others; and until
     * listen() nobody can connect. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        pta_throw_errno(error, errno, "%s: cannot bind a socket", path);
        return -1;
    }
    return g_steal_fd(&fd);
}
