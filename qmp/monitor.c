/* Sockets of the monitor: listening, reading, writing; what is said on them is in session.c. MAIN. */
#include "config.h"

#include "qmp/monitor.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/util/socket.h"

#define READ_SIZE       (16 * PTA_KIB)
#define MESSAGES_A_TURN 64
#define ACCEPTS_A_TURN  16
#define ACCEPT_PAUSE_US (200 * 1000) /* after the host ran out of descriptors */
#define LISTEN_BACKLOG  64
#define MAX_FDS         16 /* of one message; the kernel closes the others */

typedef struct Client {
    PtaMonitor *monitor;
    PtaSession *session;
    GSource *source;
    gpointer tag; /* NULL once it hung up: its socket would only say so again and again */
    GIOCondition watched;
    int fd;
    uint64_t number;   /* CONST: from 1, in the order of their coming */
    struct ucred peer; /* CONST: who connected; pid 0 if it is not known */
    size_t in_next;    /* what of in has not been worked on */
    size_t in_len;
    bool ended;    /* it will send nothing more */
    bool finished; /* and the session knows */
    bool gone;     /* it cannot be written to */
    char in[READ_SIZE];
} Client;

typedef struct Listener {
    PtaMonitor *monitor;
    GSource *source;
    gpointer tag;
    int fd;
    char *path;
    dev_t dev; /* of the socket that bind() made: it alone is removed at the end */
    ino_t ino;
} Listener;

struct PtaMonitor {
    const PtaSessionEnv *env;
    unsigned max_clients;
    GPtrArray *clients;
    GPtrArray *listeners;
    uint64_t n_accepted; /* of all times */
    uint64_t n_refused;
};

/* A source that only knows its owner; g_source_set_callback() says who that is. */
static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
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

/* ---- clients ---- */

static void client_free(gpointer data)
{
    Client *c = data;
    g_source_destroy(c->source);
    g_source_unref(c->source);
    pta_session_free(c->session);
    pta_close(c->fd);
    g_free(c);
}

static void client_gone(Client *c)
{
    c->gone = true;
    pta_session_discard_output(c->session);
}

/* Both directions are closed; what it sent before is still to be read. */
static void client_hung_up(Client *c)
{
    g_source_remove_unix_fd(c->source, c->tag);
    c->tag = NULL;
    client_gone(c);
}

/* Sends what the socket takes. */
static void client_write(Client *c)
{
    size_t len;
    const char *text;
    while (text = pta_session_output(c->session, &len), len > 0) {
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            pta_session_sent(c->session, (size_t)n);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            client_gone(c);
        }
    }
}

static bool client_has_output(const Client *c)
{
    size_t len;
    pta_session_output(c->session, &len);
    return len > 0;
}

/* Descriptors that came along: the first is for `getfd`. */
static void client_take_fds(Client *c, struct msghdr *msg)
{
    bool first = true;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(h) + i * sizeof(fd), sizeof(fd));
            if (first) {
                pta_session_take_fd(c->session, fd);
            } else {
                pta_close(fd);
            }
            first = false;
        }
    }
}

static void client_read(Client *c)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = { c->in, sizeof(c->in) };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n >= 0) {
        client_take_fds(c, &msg);
    }
    c->in_next = 0;
    c->in_len = 0;
    if (n > 0) {
        c->in_len = (size_t)n;
    } else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
        c->ended = true;
    }
}

/* All of its input has been worked on, but a message that was cut short. */
static bool client_may_finish(const Client *c)
{
    return c->ended && !c->finished && c->in_next == c->in_len && pta_session_is_idle(c->session);
}

static void client_work(Client *c)
{
    unsigned budget = MESSAGES_A_TURN;
    c->in_next += pta_session_feed(c->session, c->in + c->in_next, c->in_len - c->in_next, &budget);
    if (client_may_finish(c)) {
        c->finished = true;
        pta_session_finish(c->session);
    }
    pta_session_add_events(c->session);
}

static bool client_may_read(const Client *c)
{
    bool wanted = pta_session_takes_input(c->session) && !pta_session_has_work(c->session);
    /* Of one that hung up, it has to be known whether it said any more. */
    return !c->ended && c->in_next == c->in_len && (wanted || !c->tag);
}

static bool client_has_work(const Client *c)
{
    bool input = c->in_next < c->in_len && pta_session_takes_input(c->session);
    bool events = pta_session_wants_events(c->session) && pta_session_takes_events(c->session);
    return input || events || pta_session_has_work(c->session) || client_may_finish(c) ||
           (!c->tag && client_may_read(c));
}

/* Nothing is left to be done for it. What is under way for a client that is gone goes on without. */
static bool client_is_done(const Client *c)
{
    if (c->gone && c->ended && c->in_next == c->in_len && pta_session_only_waits(c->session)) {
        return true;
    }
    return c->finished && !client_has_output(c);
}

/* Waits for what can happen next, or comes back at once if there is work. */
static void client_watch(Client *c)
{
    GIOCondition want = client_may_read(c) ? G_IO_IN : 0;
    if (client_has_output(c)) {
        want |= G_IO_OUT;
    }
    if (c->tag && want != c->watched) {
        c->watched = want;
        g_source_modify_unix_fd(c->source, c->tag, want);
    }
    if (client_has_work(c)) {
        g_source_set_ready_time(c->source, 0);
    }
}

static gboolean client_dispatch(gpointer data)
{
    Client *c = data;
    GIOCondition ready = c->tag ? g_source_query_unix_fd(c->source, c->tag) : 0;
    if (g_source_get_ready_time(c->source) >= 0) {
        g_source_set_ready_time(c->source, -1);
    }
    if (ready & (G_IO_ERR | G_IO_HUP)) {
        client_hung_up(c);
    }
    client_write(c);
    if ((!c->tag || ready & G_IO_IN) && client_may_read(c)) {
        client_read(c);
    }
    client_work(c);
    client_write(c);
    if (client_is_done(c)) {
        g_ptr_array_remove_fast(c->monitor->clients, c); /* frees it */
        return G_SOURCE_REMOVE;
    }
    client_watch(c);
    return G_SOURCE_CONTINUE;
}

/* A command that was under way has been answered. */
static void client_wake(void *owner)
{
    Client *c = owner;
    g_source_set_ready_time(c->source, 0);
}

static void refuse_client(int fd)
{
    static const char text[] =
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"too many clients\"}}\r\n";
    ssize_t n = send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n; /* it is hung up on in any case */
    pta_close(fd);
}

void pta_monitor_add_client(PtaMonitor *monitor, int fd)
{
    pta_assert_main();
    if (monitor->clients->len >= monitor->max_clients) {
        monitor->n_refused++;
        refuse_client(fd);
        return;
    }
    Client *c = g_new0(Client, 1);
    c->monitor = monitor;
    c->fd = fd;
    c->number = ++monitor->n_accepted;
    socklen_t size = sizeof(c->peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &size) < 0) {
        c->peer = (struct ucred){};
    }
    c->session = pta_session_new(monitor->env, client_wake, c);
    c->source = source_new(client_dispatch, c, fd, &c->tag);
    c->watched = G_IO_IN;
    g_ptr_array_add(monitor->clients, c);
    client_write(c);
    client_watch(c);
}

unsigned pta_monitor_n_clients(const PtaMonitor *monitor)
{
    return monitor->clients->len;
}

/* There is a new event: each client takes it in its own turn, since this is called from the middle
 * of whatever made the event. */
static void on_event(void *opaque)
{
    PtaMonitor *monitor = opaque;
    for (unsigned i = 0; i < monitor->clients->len; i++) {
        Client *c = g_ptr_array_index(monitor->clients, i);
        if (pta_session_wants_events(c->session) && pta_session_takes_events(c->session)) {
            g_source_set_ready_time(c->source, 0);
        }
    }
}

/* ---- listeners ---- */

static gboolean listener_dispatch(gpointer data)
{
    Listener *l = data;
    if (g_source_get_ready_time(l->source) >= 0) { /* the pause is over */
        g_source_set_ready_time(l->source, -1);
        g_source_modify_unix_fd(l->source, l->tag, G_IO_IN);
    }
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            pta_monitor_add_client(l->monitor, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) {
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            g_warning("%s: cannot accept a client: %s", l->path, g_strerror(errno));
            g_source_modify_unix_fd(l->source, l->tag, 0);
            g_source_set_ready_time(l->source, g_get_monotonic_time() + ACCEPT_PAUSE_US);
        }
        break;
    }
    return G_SOURCE_CONTINUE;
}

static void listener_free(gpointer data)
{
    Listener *l = data;
    if (l->source) {
        g_source_destroy(l->source);
        g_source_unref(l->source);
    }
    struct stat st;
    if (l->ino && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino) {
        unlink(l->path);
    }
    pta_close(l->fd);
    g_free(l->path);
    g_free(l);
}

bool pta_monitor_listen(PtaMonitor *monitor, const char *path, GError **error)
{
    pta_assert_main();
    int fd = pta_unix_bind(path, error);
    if (fd < 0) {
        return false;
    }
    Listener *l = g_new0(Listener, 1);
    l->monitor = monitor;
    l->fd = fd;
    l->path = g_strdup(path);
    struct stat st;
    if (lstat(path, &st) < 0 || chmod(path, 0600) < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
        pta_throw_errno(error, errno, "%s: cannot listen", path);
        listener_free(l);
        return false;
    }
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    l->source = source_new(listener_dispatch, l, fd, &l->tag);
    g_ptr_array_add(monitor->listeners, l);
    return true;
}

/* ---- inspect ---- */

static void inspect_client(void *obj, PtaInspect *req)
{
    const Client *c = obj;
    if (c->peer.pid > 0) {
        pta_inspect_s64(req, "pid", PTA_INSPECT_PLAIN, c->peer.pid);
        pta_inspect_u64(req, "uid", PTA_INSPECT_PLAIN, c->peer.uid);
    }
    pta_inspect_bool(req, "gone", PTA_INSPECT_PLAIN, c->gone);
    pta_inspect_child(req, "", PTA_INSPECT_PLAIN, pta_session_inspect, c->session);
}

void pta_monitor_inspect(void *obj, PtaInspect *req)
{
    const PtaMonitor *monitor = obj;
    char name[40];
    pta_inspect_u64(req, "max-clients", PTA_INSPECT_PLAIN, monitor->max_clients);
    pta_inspect_u64(req, "accepted", PTA_INSPECT_COUNTER, monitor->n_accepted);
    pta_inspect_u64(req, "refused", PTA_INSPECT_COUNTER, monitor->n_refused);
    for (unsigned i = 0; i < monitor->listeners->len; i++) {
        const Listener *l = g_ptr_array_index(monitor->listeners, i);
        g_snprintf(name, sizeof(name), "listeners/%u/path", i);
        pta_inspect_str(req, name, PTA_INSPECT_PLAIN, l->path);
    }
    for (unsigned i = 0; i < monitor->clients->len; i++) {
        Client *c = g_ptr_array_index(monitor->clients, i);
        g_snprintf(name, sizeof(name), "clients/%" G_GUINT64_FORMAT, c->number);
        pta_inspect_child(req, name, PTA_INSPECT_PLAIN, inspect_client, c);
    }
}

/* ---- the monitor ---- */

PtaMonitor *pta_monitor_new(const PtaSessionEnv *env, unsigned max_clients)
{
    pta_assert_main();
    PtaMonitor *monitor = g_new0(PtaMonitor, 1);
    monitor->env = env;
    monitor->max_clients = max_clients ? max_clients : PTA_MONITOR_MAX_CLIENTS;
    monitor->clients = g_ptr_array_new_with_free_func(client_free);
    monitor->listeners = g_ptr_array_new_with_free_func(listener_free);
    pta_event_sink_subscribe(env->sink, on_event, monitor);
    return monitor;
}

void pta_monitor_free(PtaMonitor *monitor)
{
    if (!monitor) {
        return;
    }
    pta_event_sink_unsubscribe(monitor->env->sink, monitor);
    g_ptr_array_unref(monitor->listeners);
    for (unsigned i = 0; i < monitor->clients->len; i++) {
        Client *c = g_ptr_array_index(monitor->clients, i);
        pta_session_add_events(c->session);
        client_write(c);
    }
    g_ptr_array_unref(monitor->clients);
    g_free(monitor);
}
