/* Sockets of the debugger's stub: listening, reading, writing, and one session at a time. MAIN. */
#include "config.h"

#define G_LOG_DOMAIN "gdb"

#include "src/partition/gdb.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/partition/gdb-session.h"
#include "src/util/socket.h"

#define READ_SIZE       (16 * PTA_KIB)
#define BACKLOG         4
#define ACCEPT_PAUSE_US (200 * 1000) /* after the host ran out of descriptors */

typedef struct Client {
    PtaGdb *gdb;
    PtaGdbSession *session;
    GSource *source;
    gpointer tag;
    GIOCondition watched;
    int fd;
    size_t in_next, in_len; /* what of `in` has not been worked on */
    bool ended;             /* it will send nothing more */
    bool heard;             /* it has begun as a debugger does */
    char in[READ_SIZE];
} Client;

struct PtaGdb {
    PtaGdbEnv env;
    char *device; /* NULL: does not listen */
    int fd;
    GSource *source;
    gpointer tag;
    char *path; /* of a UNIX socket */
    dev_t dev;  /* of the file that bind() made: it alone is removed at the end */
    ino_t ino;
    Client *client;
    uint64_t sessions;
};

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)source;
    return callback(data);
}

static GSource *source_new(GSourceFunc callback, void *owner, int fd, gpointer *tag)
{
    static GSourceFuncs funcs = { .dispatch = source_dispatch };
    GSource *source = g_source_new(&funcs, sizeof(GSource));
    g_source_set_callback(source, callback, owner, NULL);
    *tag = g_source_add_unix_fd(source, fd, G_IO_IN);
    g_source_attach(source, NULL);
    return source;
}

static void source_free(GSource *source)
{
    if (source) {
        g_source_destroy(source);
        g_source_unref(source);
    }
}

/* ---- the debugger ---- */

static void client_free(Client *c)
{
    if (c) {
        source_free(c->source);
        pta_gdb_session_free(c->session);
        pta_close(c->fd);
        g_free(c);
    }
}

/* May be called from the middle of anything: the socket is served in a turn of its own. */
static void on_output(void *opaque)
{
    Client *c = opaque;
    if (c->source) {
        g_source_set_ready_time(c->source, 0);
    }
}

static void client_write(Client *c)
{
    if (!c->session) {
        return;
    }
    GByteArray *out = c->session->out;
    while (out->len > 0) {
        ssize_t n = send(c->fd, out->data, out->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            g_byte_array_remove_range(out, 0, (guint)n);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            c->ended = true;
            g_byte_array_set_size(out, 0);
        }
    }
}

/* On TCP anybody may ring the bell, a browser that was sent here for one: what does not begin as a
 * debugger does is hung up on. */
static void client_read(Client *c)
{
    ssize_t n = recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT);
    c->in_next = 0;
    c->in_len = 0;
    if (n > 0 && (c->heard || memchr("+-$\003", c->in[0], 4))) {
        c->in_len = (size_t)n;
        c->heard = true;
    } else if (n > 0) {
        c->ended = true;
    } else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
        c->ended = true;
    }
}

static bool client_takes_input(const Client *c)
{
    return !c->session || pta_gdb_session_takes_input(c->session);
}

static bool client_may_read(const Client *c)
{
    return !c->ended && c->in_next == c->in_len && client_takes_input(c);
}

static void client_watch(Client *c)
{
    GIOCondition want = client_may_read(c) ? G_IO_IN : 0;
    if (c->session && c->session->out->len > 0) {
        want |= G_IO_OUT;
    }
    if (want != c->watched) {
        c->watched = want;
        g_source_modify_unix_fd(c->source, c->tag, want);
    }
    if (c->in_next < c->in_len && client_takes_input(c)) {
        g_source_set_ready_time(c->source, 0);
    }
}

/* A hang-up counts at once, unless what the debugger said before has not been heard yet. */
static bool client_is_done(const Client *c)
{
    bool heard = c->in_next == c->in_len || !client_takes_input(c);
    return (c->session && c->session->state == PTA_GDB_ENDED) || (c->ended && heard);
}

/* With an answer that gdb shows to its user. */
static void send_refusal(int fd, const char *why)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree char *text = g_strconcat("E.", why, NULL);
    g_byte_array_append(out, (const uint8_t *)"+", 1);
    pta_gdb_write(out, text, strlen(text));
    ssize_t n = send(fd, out->data, out->len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n; /* it is hung up on in any case */
}

/* It is a debugger: it attaches, which stops the machine. */
static void client_begin(Client *c)
{
    g_autoptr(GError) error = NULL;
    c->session = pta_gdb_session_new(&c->gdb->env, on_output, c, &error);
    if (!c->session) {
        send_refusal(c->fd, error->message);
        c->ended = true;
        c->in_next = c->in_len;
        return;
    }
    c->gdb->sessions++;
    g_message("a debugger has come");
}

static void client_leave(Client *c)
{
    if (c->session) {
        g_message("the debugger has gone");
    }
    c->gdb->client = NULL;
    client_free(c);
}

static gboolean client_dispatch(gpointer data)
{
    Client *c = data;
    GIOCondition ready = g_source_query_unix_fd(c->source, c->tag);
    if (g_source_get_ready_time(c->source) >= 0) {
        g_source_set_ready_time(c->source, -1);
    }
    client_write(c);
    if (ready & (G_IO_IN | G_IO_HUP | G_IO_ERR)) {
        if (client_may_read(c)) {
            client_read(c);
        } else if (ready & (G_IO_HUP | G_IO_ERR)) {
            c->ended = true; /* nothing that could be read would be of use */
        }
    }
    if (c->heard && !c->session) {
        client_begin(c);
    }
    if (c->session) {
        c->in_next += pta_gdb_session_feed(c->session, c->in + c->in_next, c->in_len - c->in_next);
    }
    client_write(c);
    if (client_is_done(c)) {
        client_leave(c);
        return G_SOURCE_REMOVE;
    }
    client_watch(c);
    return G_SOURCE_CONTINUE;
}

/*
 * On a UNIX socket whoever comes is a debugger. On TCP it has to say something first: until then it
 * does not stop the machine, and makes way for the next one.
 */
static void client_new(PtaGdb *gdb, int fd)
{
    if (gdb->client && gdb->client->session) {
        send_refusal(fd, "another debugger is attached");
        pta_close(fd);
        return;
    }
    if (gdb->client) {
        client_leave(gdb->client);
    }
    Client *c = g_new0(Client, 1);
    c->gdb = gdb;
    c->fd = fd;
    c->heard = gdb->path != NULL;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* a UNIX socket refuses it */
    c->source = source_new(client_dispatch, c, fd, &c->tag);
    c->watched = G_IO_IN;
    gdb->client = c;
    if (c->heard) {
        client_begin(c);
        if (!c->session) {
            client_leave(c);
            return;
        }
    }
    client_watch(c);
}

/* ---- listening ---- */

static gboolean accept_clients(gpointer data)
{
    PtaGdb *gdb = data;
    if (g_source_get_ready_time(gdb->source) >= 0) { /* the pause is over */
        g_source_set_ready_time(gdb->source, -1);
        g_source_modify_unix_fd(gdb->source, gdb->tag, G_IO_IN);
    }
    int fd = accept4(gdb->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        client_new(gdb, fd);
    } else if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN && errno != EWOULDBLOCK) {
        g_warning("%s: cannot accept a debugger: %s", gdb->device, g_strerror(errno));
        g_source_modify_unix_fd(gdb->source, gdb->tag, 0);
        g_source_set_ready_time(gdb->source, g_get_monotonic_time() + ACCEPT_PAUSE_US);
    }
    return G_SOURCE_CONTINUE;
}

static bool is_free(const PtaGdb *gdb, GError **error)
{
    return !gdb->device ||
           pta_throw(error, PTA_ERROR_BAD_STATE,
                     "gdbserver already listens at %s; close it with \"none\"", gdb->device);
}

static bool start(PtaGdb *gdb, int fd, char *device)
{
    gdb->fd = fd;
    gdb->device = device;
    gdb->source = source_new(accept_clients, gdb, fd, &gdb->tag);
    g_message("waiting for a debugger at %s", device);
    return true;
}

bool pta_gdb_listen_unix(PtaGdb *gdb, const char *path, GError **error)
{
    pta_assert_main();
    if (!is_free(gdb, error)) {
        return false;
    }
    pta_autofd int fd = pta_unix_bind(path, error);
    if (fd < 0) {
        return false;
    }
    struct stat st;
    if (lstat(path, &st) < 0 || listen(fd, BACKLOG) < 0) {
        int saved = errno;
        unlink(path);
        return pta_throw_errno(error, saved, "%s: cannot listen", path);
    }
    gdb->path = g_strdup(path);
    gdb->dev = st.st_dev;
    gdb->ino = st.st_ino;
    return start(gdb, g_steal_fd(&fd), g_strdup_printf("unix:%s", path));
}

typedef union Address {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} Address;

/* Only addresses that nobody reaches from elsewhere; names are not looked up. */
static bool loopback(const char *host, uint16_t port, Address *addr, GError **error)
{
    memset(addr, 0, sizeof(*addr));
    if (!host || *host == '\0' || strcmp(host, "localhost") == 0) {
        host = "127.0.0.1";
    }
    if (inet_pton(AF_INET, host, &addr->v4.sin_addr) == 1 &&
        ntohl(addr->v4.sin_addr.s_addr) >> 24 == 127) {
        addr->v4.sin_family = AF_INET;
        addr->v4.sin_port = htons(port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &addr->v6.sin6_addr) == 1 &&
        IN6_IS_ADDR_LOOPBACK(&addr->v6.sin6_addr)) {
        addr->v6.sin6_family = AF_INET6;
        addr->v6.sin6_port = htons(port);
        return true;
    }
    return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                     "\"%s\" is no address of this host alone; expected localhost, 127.0.0.0/8 "
                     "or ::1",
                     host);
}

static char *address_text(const Address *addr)
{
    char host[INET6_ADDRSTRLEN];
    if (addr->sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &addr->v4.sin_addr, host, sizeof(host));
        return g_strdup_printf("tcp:%s:%u", host, ntohs(addr->v4.sin_port));
    }
    inet_ntop(AF_INET6, &addr->v6.sin6_addr, host, sizeof(host));
    return g_strdup_printf("tcp:[%s]:%u", host, ntohs(addr->v6.sin6_port));
}

bool pta_gdb_listen_tcp(PtaGdb *gdb, const char *host, uint16_t port, GError **error)
{
    pta_assert_main();
    Address addr;
    if (!is_free(gdb, error) || !loopback(host, port, &addr, error)) {
        return false;
    }
    socklen_t len = addr.sa.sa_family == AF_INET ? sizeof(addr.v4) : sizeof(addr.v6);
    pta_autofd int fd =
        socket(addr.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    int one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, &addr.sa, len) < 0 || listen(fd, BACKLOG) < 0) {
        int saved = errno;
        g_autofree char *text = address_text(&addr);
        return pta_throw_errno(error, saved, "cannot listen at %s", text);
    }
    len = sizeof(addr);
    if (getsockname(fd, &addr.sa, &len) < 0) {
        return pta_throw_errno(error, errno, "cannot tell the port of a socket");
    }
    return start(gdb, g_steal_fd(&fd), address_text(&addr));
}

/* "[HOST]:[PORT]"; an IPv6 address may be in brackets. */
static bool listen_tcp_text(PtaGdb *gdb, const char *text, GError **error)
{
    const char *colon = strrchr(text, ':');
    guint64 port = 0;
    if (!colon ||
        (colon[1] && !g_ascii_string_to_unsigned(colon + 1, 10, 0, UINT16_MAX, &port, NULL))) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "tcp:%s: expected tcp:[HOST]:[PORT] with a port from 0 to 65535", text);
    }
    g_autofree char *host = g_strndup(text, (size_t)(colon - text));
    size_t len = strlen(host);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    }
    return pta_gdb_listen_tcp(gdb, host, (uint16_t)port, error);
}

bool pta_gdb_listen(PtaGdb *gdb, const char *device, const char *base_dir, GError **error)
{
    if (g_str_has_prefix(device, "unix:") && device[strlen("unix:")]) {
        g_autofree char *path = pta_resolve_path(base_dir, device + strlen("unix:"));
        return pta_gdb_listen_unix(gdb, path, error);
    }
    if (g_str_has_prefix(device, "tcp:")) {
        return listen_tcp_text(gdb, device + strlen("tcp:"), error);
    }
    return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                     "\"%s\": expected unix:PATH, tcp:[HOST]:[PORT] or none", device);
}

void pta_gdb_close(PtaGdb *gdb)
{
    pta_assert_main();
    client_free(g_steal_pointer(&gdb->client));
    if (!gdb->device) {
        return;
    }
    source_free(g_steal_pointer(&gdb->source));
    struct stat st;
    if (gdb->path && lstat(gdb->path, &st) == 0 && st.st_dev == gdb->dev && st.st_ino == gdb->ino) {
        unlink(gdb->path);
    }
    pta_close(gdb->fd);
    g_clear_pointer(&gdb->path, g_free);
    g_clear_pointer(&gdb->device, g_free);
}

/* ---- life ---- */

PtaGdb *pta_gdb_new(const PtaGdbEnv *env)
{
    pta_assert_main();
    PtaGdb *gdb = g_new0(PtaGdb, 1);
    gdb->env = *env;
    gdb->fd = -1;
    return gdb;
}

void pta_gdb_free(PtaGdb *gdb)
{
    if (gdb) {
        pta_gdb_close(gdb);
        g_free(gdb);
    }
}

void pta_gdb_info(const PtaGdb *gdb, PtaGdbInfo *info)
{
    const PtaGdbSession *s = gdb->client ? gdb->client->session : NULL;
    *info = (PtaGdbInfo){
        .device = gdb->device,
        .attached = s != NULL,
        .stopped = s && s->state == PTA_GDB_STOPPED,
        .n_software = s ? s->breaks.n_software : 0,
        .n_hardware = s ? s->breaks.n_hardware : 0,
        .sessions = gdb->sessions,
    };
}
