/*
 * Frames on a stream socket, to another machine: each after its length in four bytes, the highest
 * first, which is the framing of QEMU's `-netdev stream`. A client, or a server of one peer at a
 * time. The peer is hostile: a length that cannot be ends the connection.
 *
 * All in the context but ready().
 */
#include "config.h"

#include "devices/net/net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "devices/net/address.h"
#include "devices/virtio/iov.h"
#include "qmp/gen/types.h"

#define LENGTH 4
/* QEMU's limit; what is longer than a frame can be is read and dropped by the front end. */
#define MAX_LENGTH (4096 + 65536)
#define IN_SIZE    (256 * PTA_KIB)
#define OUT_SIZE   (256 * PTA_KIB)
/* After a peer has gone, or the host ran out of descriptors: nobody makes a storm of events. */
#define ACCEPT_PAUSE_US 100000
#define CONNECT_MS      5000
#define BACKLOG         1
/* Bytes that are read in one turn: other devices want to be served as well. */
#define TURN (1024 * PTA_KIB)

G_STATIC_ASSERT(IN_SIZE >= LENGTH + MAX_LENGTH);

typedef struct Stream {
    PtaNet parent;
    PtaNetAddress addr; /* CONST */
    bool server;        /* CONST */
    unsigned reconnect; /* CONST: seconds */
    GSource *source;    /* CONST */
    int listener;
    int fd; /* -1: no peer */
    bool connecting;
    bool failed; /* a send met an error; errnum says which */
    int errnum;
    void *listen_tag;
    void *tag;
    bool paused; /* the front end has no room */
    int wanted;  /* ATOMIC: it may have now */
    bool starved;
    int64_t retry_at; /* 0: never */
    uint8_t *in;
    size_t in_pos, in_len;
    uint8_t *out;
    size_t out_pos, out_len;
    uint64_t n_connections;
} Stream;

typedef struct StreamSource {
    GSource source;
    Stream *s;
} StreamSource;

/* ---- what is waited for ---- */

/* Without a condition the descriptor is not watched at all, or its end would wake us for ever. */
static void watch(Stream *s, void **tag, int fd, GIOCondition want)
{
    if (*tag && (fd < 0 || !want)) {
        g_source_remove_unix_fd(s->source, *tag);
        *tag = NULL;
    } else if (*tag) {
        g_source_modify_unix_fd(s->source, *tag, want);
    } else if (fd >= 0 && want) {
        *tag = g_source_add_unix_fd(s->source, fd, want);
    }
}

static void watch_all(Stream *s)
{
    /* `starved`: what the front end waits for is told from the loop, even if all has gone meanwhile. */
    bool out = s->connecting || s->starved || s->out_len > s->out_pos;
    bool in = !s->paused && !s->connecting;
    watch(s, &s->tag, s->fd, (in ? G_IO_IN : 0) | (out ? G_IO_OUT : 0));
    bool listens = s->fd < 0 && !(s->server && s->retry_at > g_get_monotonic_time());
    watch(s, &s->listen_tag, s->listener, listens ? G_IO_IN : 0);
    if (s->fd < 0 && s->retry_at && !(s->server && listens)) {
        g_source_set_ready_time(s->source, s->retry_at);
    }
}

/* ---- connections ---- */

static void forget_peer(Stream *s)
{
    watch(s, &s->tag, -1, 0);
    pta_close(s->fd);
    s->fd = -1;
    s->connecting = false;
    s->failed = false;
    s->in_pos = s->in_len = 0;
    s->out_pos = s->out_len = 0;
    if (s->server) {
        s->retry_at = g_get_monotonic_time() + ACCEPT_PAUSE_US;
    } else if (s->reconnect) {
        s->retry_at = g_get_monotonic_time() + (int64_t)s->reconnect * G_USEC_PER_SEC;
    }
}

static void hang_up(Stream *s, const char *why)
{
    bool was_up = !s->connecting;
    forget_peer(s);
    if (was_up) {
        pta_net_tell(&s->parent, PTA_NET_EVENT_DISCONNECTED, "the peer at %s is gone: %s",
                     s->addr.text, why);
    }
    pta_net_set_link(&s->parent, false);
    if (s->starved) { /* what waits is for nobody now */
        s->starved = false;
        s->parent.frontend->writable(s->parent.frontend_opaque);
    }
}

static void connected(Stream *s)
{
    static const int on = 1;
    struct sockaddr_storage sa = { 0 };
    socklen_t len = sizeof(sa);
    if (!s->addr.path) {
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    g_autofree char *peer =
        s->server && !s->addr.path && getpeername(s->fd, (struct sockaddr *)&sa, &len) == 0
            ? pta_net_address_text(&sa, len)
            : g_strdup(s->addr.text);
    s->connecting = false;
    s->retry_at = 0;
    s->n_connections++;
    pta_net_tell(&s->parent, PTA_NET_EVENT_CONNECTED, "%s", peer);
    pta_net_set_link(&s->parent, true);
}

static void accept_peer(Stream *s)
{
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        s->fd = fd;
        connected(s);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        s->retry_at = g_get_monotonic_time() + ACCEPT_PAUSE_US; /* no descriptors, perhaps */
    }
}

/* 0, or an errno. */
static int begin_connect(Stream *s)
{
    pta_autofd int fd = socket(s->addr.sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return errno;
    }
    s->connecting = connect(fd, (const struct sockaddr *)&s->addr.sa, s->addr.len) < 0;
    if (s->connecting && errno != EINPROGRESS) {
        s->connecting = false;
        return errno;
    }
    s->fd = g_steal_fd(&fd);
    return 0;
}

static int connect_result(const Stream *s)
{
    int errnum = 0;
    socklen_t len = sizeof(errnum);
    return getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0 ? errno : errnum;
}

static void try_again(Stream *s)
{
    s->retry_at = 0;
    int errnum = begin_connect(s);
    if (errnum) {
        forget_peer(s);
    } else if (!s->connecting) {
        connected(s);
    }
}

/* ---- sending ---- */

static void flush(Stream *s)
{
    while (s->out_pos < s->out_len && !s->failed) {
        ssize_t n =
            send(s->fd, s->out + s->out_pos, s->out_len - s->out_pos, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            s->out_pos += (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            s->failed = true; /* the front end holds its lock: hung up on in our next turn */
            s->errnum = errno;
            g_source_set_ready_time(s->source, 0);
        }
    }
    if (s->out_pos == s->out_len) {
        s->out_pos = s->out_len = 0;
    }
}

static PtaNetSent stream_send(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n,
                              size_t len)
{
    (void)pair;
    Stream *s = (Stream *)net;
    if (s->fd < 0 || s->connecting || s->failed) {
        return PTA_NET_DROPPED;
    }
    if (s->out_len + LENGTH + len > OUT_SIZE) {
        flush(s);
        memmove(s->out, s->out + s->out_pos, s->out_len - s->out_pos);
        s->out_len -= s->out_pos;
        s->out_pos = 0;
    }
    if (s->out_len + LENGTH + len > OUT_SIZE) {
        s->starved = true;
        watch_all(s);
        return PTA_NET_FULL;
    }
    uint32_t be = GUINT32_TO_BE((uint32_t)len);
    memcpy(s->out + s->out_len, &be, LENGTH);
    pta_iov_to_buf(iov, n, 0, s->out + s->out_len + LENGTH, len);
    s->out_len += LENGTH + len;
    return PTA_NET_SENT;
}

static void stream_commit(PtaNet *net)
{
    Stream *s = (Stream *)net;
    if (s->fd >= 0 && !s->connecting && s->out_len > 0) {
        flush(s);
        watch_all(s);
    }
}

/* ---- receiving ---- */

/* Gives on what is in the buffer. False: what comes cannot be. */
static bool deliver(Stream *s)
{
    const PtaNetFrontend *front = s->parent.frontend;
    while (!s->paused && s->in_len - s->in_pos >= LENGTH) {
        uint32_t be;
        memcpy(&be, s->in + s->in_pos, LENGTH);
        size_t len = GUINT32_FROM_BE(be);
        if (len > MAX_LENGTH) {
            return false;
        }
        if (s->in_len - s->in_pos < LENGTH + len) {
            break;
        }
        if (!front->receive(s->parent.frontend_opaque, 0, s->in + s->in_pos + LENGTH, len)) {
            s->paused = true;
            break;
        }
        s->in_pos += LENGTH + len;
    }
    if (s->in_pos > 0) {
        memmove(s->in, s->in + s->in_pos, s->in_len - s->in_pos);
        s->in_len -= s->in_pos;
        s->in_pos = 0;
    }
    return true;
}

static void receive(Stream *s, bool readable)
{
    size_t turn = 0;
    do {
        if (!deliver(s)) {
            hang_up(s, "it does not send frames");
            return;
        }
        if (s->paused || !readable || turn >= TURN) {
            return;
        }
        size_t room = IN_SIZE - s->in_len;
        ssize_t n = recv(s->fd, s->in + s->in_len, room, MSG_DONTWAIT);
        if (n == 0) {
            hang_up(s, "it has closed the connection");
            return;
        }
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
                hang_up(s, g_strerror(errno));
            }
            return;
        }
        s->in_len += (size_t)n;
        turn += (size_t)n;
        readable = (size_t)n == room; /* else the socket is empty, most likely */
    } while (true);
}

static void stream_ready(PtaNet *net, unsigned pair)
{
    (void)pair;
    Stream *s = (Stream *)net;
    __atomic_store_n(&s->wanted, 1, __ATOMIC_RELEASE);
    g_source_set_ready_time(s->source, 0);
}

/* ---- a turn ---- */

static void turn_connecting(Stream *s, GIOCondition ready)
{
    if (ready) {
        int errnum = connect_result(s);
        if (errnum) {
            forget_peer(s);
        } else {
            connected(s);
        }
    }
}

static void turn_connected(Stream *s, GIOCondition ready)
{
    if (s->failed) {
        hang_up(s, g_strerror(s->errnum));
        return;
    }
    flush(s);
    if (s->starved && s->out_len - s->out_pos < OUT_SIZE / 2) {
        s->starved = false;
        s->parent.frontend->writable(s->parent.frontend_opaque);
    }
    if (__atomic_exchange_n(&s->wanted, 0, __ATOMIC_ACQ_REL)) {
        s->paused = false;
    }
    receive(s, ready & (G_IO_IN | G_IO_HUP | G_IO_ERR));
}

static gboolean stream_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    Stream *s = ((StreamSource *)source)->s;
    GIOCondition ready = s->tag ? g_source_query_unix_fd(source, s->tag) : 0;
    g_source_set_ready_time(source, -1);
    if (s->fd < 0 && s->listen_tag && g_source_query_unix_fd(source, s->listen_tag)) {
        accept_peer(s);
    } else if (s->fd < 0 && !s->server && s->retry_at && g_get_monotonic_time() >= s->retry_at) {
        try_again(s);
    } else if (s->connecting) {
        turn_connecting(s, ready);
    }
    if (s->fd >= 0 && !s->connecting) {
        turn_connected(s, ready);
    }
    watch_all(s);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs stream_funcs = { .dispatch = stream_dispatch };

static void stream_start(PtaNet *net)
{
    Stream *s = (Stream *)net;
    watch_all(s);
    PTA_TSAN_RELEASE(s->source);
    g_source_attach(s->source, net->context);
    if (s->fd >= 0) {
        stream_ready(net, 0);
    }
}

/* ---- life ---- */

static void stream_clear(Stream *s)
{
    g_source_destroy(s->source);
    g_source_unref(s->source);
    pta_close(s->fd);
    if (s->listener >= 0) {
        pta_close(s->listener);
        if (s->addr.path) {
            unlink(s->addr.path);
        }
    }
    pta_net_address_clear(&s->addr);
    g_free(s->in);
    g_free(s->out);
}

static void stream_free(PtaNet *net)
{
    stream_clear((Stream *)net);
}

static bool stream_listen(Stream *s, GError **error)
{
    s->listener = pta_net_address_bind(&s->addr, SOCK_STREAM, error);
    if (s->listener < 0) {
        return false;
    }
    return listen(s->listener, BACKLOG) == 0 ||
           pta_throw_errno(error, errno, "cannot listen at %s", s->addr.text);
}

static bool stream_connect(Stream *s, GError **error)
{
    int errnum = begin_connect(s);
    if (!errnum && s->connecting) {
        struct pollfd pfd = { .fd = s->fd, .events = POLLOUT };
        errnum = poll(&pfd, 1, CONNECT_MS) == 1 ? connect_result(s) : ETIMEDOUT;
    }
    if (!errnum) {
        connected(s);
        return true;
    }
    forget_peer(s);
    return s->reconnect || pta_throw_errno(error, errnum, "cannot connect with %s", s->addr.text);
}

bool pta_net_stream_init(PtaNet *net, const void *config, const char *base_dir, GError **error)
{
    const NetStreamConfig *cfg = config;
    Stream *s = (Stream *)net;
    if (!pta_net_address_init(&s->addr, cfg->addr, base_dir, error)) {
        return false;
    }
    s->server = cfg->server;
    s->reconnect = cfg->reconnect;
    s->listener = -1;
    s->fd = -1;
    s->in = g_malloc(IN_SIZE);
    s->out = g_malloc(OUT_SIZE);
    s->source = g_source_new(&stream_funcs, sizeof(StreamSource));
    ((StreamSource *)s->source)->s = s;
    if (s->server ? !stream_listen(s, error) : !stream_connect(s, error)) {
        stream_clear(s);
        return false;
    }
    return true;
}

static void stream_inspect(PtaNet *net, PtaInspect *req)
{
    const Stream *s = (const Stream *)net;
    pta_inspect_str(req, "address", PTA_INSPECT_PLAIN, s->addr.text);
    pta_inspect_bool(req, "server", PTA_INSPECT_PLAIN, s->server);
    pta_inspect_u64(req, "connections", PTA_INSPECT_COUNTER, s->n_connections);
}

const PtaNetClass pta_net_stream_class = {
    .instance_size = sizeof(Stream),
    .type = "stream",
    .send = stream_send,
    .commit = stream_commit,
    .start = stream_start,
    .ready = stream_ready,
    .free = stream_free,
    .inspect = stream_inspect,
};
