/* See address.h. MAIN. */
#include "config.h"

#include "devices/net/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "qmp/gen/types.h"
#include "src/util/socket.h"

char *pta_net_address_text(const struct sockaddr_storage *sa, socklen_t len)
{
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    if (sa->ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const void *)sa;
        size_t max = len > offsetof(struct sockaddr_un, sun_path)
                         ? len - offsetof(struct sockaddr_un, sun_path)
                         : 0;
        g_autofree char *path = g_strndup(un->sun_path, max);
        return g_strdup_printf("unix:%s", path);
    }
    if (getnameinfo((const struct sockaddr *)sa, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return g_strdup("unknown:0");
    }
    return g_strdup_printf("%s:%s", host, port);
}

static bool init_unix(PtaNetAddress *a, const char *path, GError **error)
{
    struct sockaddr_un *un = (void *)&a->sa;
    if (strlen(path) >= sizeof(un->sun_path)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "the path of a socket has at most %zu characters: %s",
                         sizeof(un->sun_path) - 1, path);
    }
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, path);
    a->len = sizeof(*un);
    a->path = g_strdup(path);
    return true;
}

static bool init_inet(PtaNetAddress *a, const NetInetAddress *config, GError **error)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found;
    g_autofree char *port = g_strdup_printf("%u", config->port);
    int failed = getaddrinfo(config->host, port, &hints, &found);
    if (failed) {
        return pta_throw(error, PTA_ERROR_HOST, "cannot find the host %s: %s", config->host,
                         gai_strerror(failed));
    }
    memcpy(&a->sa, found->ai_addr, found->ai_addrlen);
    a->len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

bool pta_net_address_init(PtaNetAddress *a, const NetAddress *config, const char *base_dir,
                          GError **error)
{
    *a = (PtaNetAddress){ 0 };
    if (config->type == NET_ADDRESS_TYPE_UNIX) {
        g_autofree char *path = pta_resolve_path(base_dir, config->unix_->path);
        if (!init_unix(a, path, error)) {
            return false;
        }
    } else if (!init_inet(a, config->inet, error)) {
        return false;
    }
    a->text = pta_net_address_text(&a->sa, a->len);
    return true;
}

void pta_net_address_clear(PtaNetAddress *a)
{
    g_clear_pointer(&a->path, g_free);
    g_clear_pointer(&a->text, g_free);
}

/* A datagram socket of which only the file is left. */
static bool remove_stale_dgram(const PtaNetAddress *a, GError **error)
{
    struct stat st;
    if (lstat(a->path, &st) < 0) {
        return errno == ENOENT || pta_throw_errno(error, errno, "cannot look at %s", a->path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return pta_throw(error, PTA_ERROR_HOST, "%s: exists and is not a socket", a->path);
    }
    pta_autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return pta_throw_errno(error, errno, "cannot make a socket");
    }
    if (connect(fd, (const struct sockaddr *)&a->sa, a->len) == 0 || errno != ECONNREFUSED) {
        return pta_throw(error, PTA_ERROR_HOST, "%s: another process is at it", a->path);
    }
    return unlink(a->path) == 0 || errno == ENOENT ||
           pta_throw_errno(error, errno, "cannot remove the stale %s", a->path);
}

int pta_net_address_bind(const PtaNetAddress *a, int type, GError **error)
{
    static const int on = 1;
    if (a->path && type == SOCK_STREAM) {
        return pta_unix_bind(a->path, error);
    }
    if (a->path && !remove_stale_dgram(a, error)) {
        return -1;
    }
    pta_autofd int fd = socket(a->sa.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        pta_throw_errno(error, errno, "cannot make a socket");
        return -1;
    }
    if (!a->path && type == SOCK_STREAM) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    mode_t mask = umask(0177);
    int failed = bind(fd, (const struct sockaddr *)&a->sa, a->len);
    int errnum = errno;
    umask(mask);
    if (failed) {
        pta_throw_errno(error, errnum, "cannot listen at %s", a->text);
        return -1;
    }
    return g_steal_fd(&fd);
}
