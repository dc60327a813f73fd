/*
 * A network in this process: libslirp plays the router, the DHCP server and the name server, and turns
 * the guest's connections into sockets of the host. Frames from it go through a bounded queue: they
 * come from within slirp_input() as well, that is, while the front end is at work.
 *
 * All in the context but ready(); libslirp is told of time and descriptors by our source.
 */
#include "config.h"

#include "devices/net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libslirp.h>
#include <string.h>

#include "devices/virtio/iov.h"
#include "qmp/gen/types.h"
#include "src/util/lazy-lib.h"

#define QUEUE_BYTES (4 * PTA_MIB) /* more is dropped; TCP sends it again */
#define RUN_BYTES   (256 * PTA_KIB)
#define NO_TIMEOUT  UINT32_MAX

static PTA_LAZY_FUNCTION(slirp_new);
static PTA_LAZY_FUNCTION(slirp_cleanup);
static PTA_LAZY_FUNCTION(slirp_pollfds_fill);
static PTA_LAZY_FUNCTION(slirp_pollfds_poll);
static PTA_LAZY_FUNCTION(slirp_handle_timer);
static PTA_LAZY_FUNCTION(slirp_input);
static PTA_LAZY_FUNCTION(slirp_add_hostfwd);
static PtaLazyLib libslirp = { "libslirp.so.0",
                               (const PtaLazySymbol[]){ { PTA_LAZY_SYMBOL(slirp_new) },
                                                        { PTA_LAZY_SYMBOL(slirp_cleanup) },
                                                        { PTA_LAZY_SYMBOL(slirp_pollfds_fill) },
                                                        { PTA_LAZY_SYMBOL(slirp_pollfds_poll) },
                                                        { PTA_LAZY_SYMBOL(slirp_handle_timer) },
                                                        { PTA_LAZY_SYMBOL(slirp_input) },
                                                        { PTA_LAZY_SYMBOL(slirp_add_hostfwd) },
                                                        { NULL, NULL } } };

typedef struct UserPoll {
    int fd;
    void *tag;
    GIOCondition events;
    bool used; /* in this round */
} UserPoll;

typedef struct UserTimer {
    SlirpTimerId id;
    void *opaque;
    int64_t expire_ms; /* -1: not set */
} UserTimer;

typedef struct User {
    PtaNet parent;
    Slirp *slirp;
    GSource *source;
    GArray *polls;     /* of UserPoll, in the order of libslirp's indices */
    unsigned n_polls;  /* of this round */
    GPtrArray *timers; /* of UserTimer */
    GQueue queue;      /* of GBytes, for the guest */
    size_t queued;     /* bytes */
    bool paused;
    int wanted; /* ATOMIC */
    uint64_t n_lost;
    int64_t deadline_us; /* of libslirp's own timeouts; -1: none */
    char *net;           /* for inspect */
    uint8_t *out;        /* a frame in one piece */
} User;

typedef struct UserSource {
    GSource source;
    User *u;
} UserSource;

/* ---- what libslirp calls ---- */

static ssize_t user_send_packet(const void *buf, size_t len, void *opaque)
{
    User *u = opaque;
    if (u->queued + len > QUEUE_BYTES) {
        u->n_lost++;
        return (ssize_t)len;
    }
    g_queue_push_tail(&u->queue, g_bytes_new(buf, len));
    u->queued += len;
    g_source_set_ready_time(u->source, 0);
    return (ssize_t)len;
}

static void user_guest_error(const char *msg, void *opaque)
{
    const User *u = opaque;
    PTA_GUEST_ERROR("%s: %s", u->parent.id, msg);
}

static int64_t user_clock_get_ns(void *opaque)
{
    (void)opaque;
    return (int64_t)pta_now_ns();
}

static void *user_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
    User *u = opaque;
    UserTimer *timer = g_new(UserTimer, 1);
    *timer = (UserTimer){ id, cb_opaque, -1 };
    g_ptr_array_add(u->timers, timer);
    return timer;
}

static void user_timer_free(void *timer, void *opaque)
{
    g_ptr_array_remove(((User *)opaque)->timers, timer);
}

static void user_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    (void)opaque;
    ((UserTimer *)timer)->expire_ms = expire_ms;
}

static void user_poll_fd(int fd, void *opaque)
{
    (void)fd, (void)opaque; /* descriptors are asked for in each round */
}

/* One that libslirp is about to close must not stay in the set. */
static void user_unpoll_fd(int fd, void *opaque)
{
    User *u = opaque;
    for (guint i = 0; i < u->polls->len; i++) {
        UserPoll *p = &g_array_index(u->polls, UserPoll, i);
        if (p->fd == fd && p->tag) {
            g_source_remove_unix_fd(u->source, p->tag);
            *p = (UserPoll){ .fd = -1 };
        }
    }
}

static void user_notify(void *opaque)
{
    g_source_set_ready_time(((User *)opaque)->source, 0);
}

static const SlirpCb callbacks = {
    .send_packet = user_send_packet,
    .guest_error = user_guest_error,
    .clock_get_ns = user_clock_get_ns,
    .timer_free = user_timer_free,
    .timer_mod = user_timer_mod,
    .register_poll_fd = user_poll_fd,
    .unregister_poll_fd = user_unpoll_fd,
    .notify = user_notify,
    .timer_new_opaque = user_timer_new,
};

/* ---- a round: ask what to wait for, wait, say what has come ---- */

static int add_poll(int fd, int events, void *opaque)
{
    User *u = opaque;
    GIOCondition want = (events & SLIRP_POLL_IN ? G_IO_IN : 0) |
                        (events & SLIRP_POLL_OUT ? G_IO_OUT : 0) |
                        (events & SLIRP_POLL_PRI ? G_IO_PRI : 0);
    unsigned i = u->n_polls++;
    if (i == u->polls->len) {
        g_array_append_val(u->polls, ((UserPoll){ .fd = -1 }));
    }
    UserPoll *p = &g_array_index(u->polls, UserPoll, i);
    if (p->tag && (p->fd != fd || p->events != want)) {
        g_source_remove_unix_fd(u->source, p->tag);
        p->tag = NULL;
    }
    if (!p->tag) {
        *p = (UserPoll){ fd, g_source_add_unix_fd(u->source, fd, want), want, true };
    }
    return (int)i;
}

static int get_revents(int i, void *opaque)
{
    User *u = opaque;
    g_assert(i >= 0 && (guint)i < u->polls->len);
    const UserPoll *p = &g_array_index(u->polls, UserPoll, (guint)i);
    GIOCondition got = p->tag ? g_source_query_unix_fd(u->source, p->tag) : 0;
    return (got & G_IO_IN ? SLIRP_POLL_IN : 0) | (got & G_IO_OUT ? SLIRP_POLL_OUT : 0) |
           (got & G_IO_PRI ? SLIRP_POLL_PRI : 0) | (got & G_IO_ERR ? SLIRP_POLL_ERR : 0) |
           (got & G_IO_HUP ? SLIRP_POLL_HUP : 0);
}

static int64_t next_timer_us(const User *u)
{
    int64_t next = u->deadline_us;
    for (guint i = 0; i < u->timers->len; i++) {
        const UserTimer *t = g_ptr_array_index(u->timers, i);
        if (t->expire_ms >= 0 && (next < 0 || t->expire_ms * 1000 < next)) {
            next = t->expire_ms * 1000;
        }
    }
    return next;
}

static int64_t now_us(void)
{
    return (int64_t)(pta_now_ns() / 1000);
}

static gboolean user_prepare(GSource *source, gint *timeout)
{
    User *u = ((UserSource *)source)->u;
    uint32_t wait = NO_TIMEOUT;
    u->n_polls = 0;
    dl_slirp_pollfds_fill(u->slirp, &wait, add_poll, u);
    for (guint i = u->n_polls; i < u->polls->len; i++) {
        UserPoll *p = &g_array_index(u->polls, UserPoll, i);
        if (p->tag) {
            g_source_remove_unix_fd(source, p->tag);
        }
    }
    g_array_set_size(u->polls, u->n_polls);
    u->deadline_us = wait == NO_TIMEOUT ? -1 : now_us() + (int64_t)wait * 1000;
    int64_t next = next_timer_us(u);
    *timeout = next < 0 ? -1 : (gint)CLAMP((next - now_us() + 999) / 1000, 0, G_MAXINT);
    return *timeout == 0;
}

static gboolean user_check(GSource *source)
{
    User *u = ((UserSource *)source)->u;
    for (guint i = 0; i < u->polls->len; i++) {
        const UserPoll *p = &g_array_index(u->polls, UserPoll, i);
        if (p->tag && g_source_query_unix_fd(source, p->tag)) {
            return true;
        }
    }
    int64_t next = next_timer_us(u);
    return next >= 0 && now_us() >= next;
}

static void run_timers(User *u)
{
    int64_t now_ms = now_us() / 1000;
    for (guint i = 0; i < u->timers->len; i++) {
        UserTimer *t = g_ptr_array_index(u->timers, i);
        if (t->expire_ms >= 0 && t->expire_ms <= now_ms) {
            t->expire_ms = -1;
            dl_slirp_handle_timer(u->slirp, t->id, t->opaque);
        }
    }
}

static void deliver(User *u)
{
    size_t run = 0;
    if (__atomic_exchange_n(&u->wanted, 0, __ATOMIC_ACQ_REL)) {
        u->paused = false;
    }
    while (!u->paused && run < RUN_BYTES && !g_queue_is_empty(&u->queue)) {
        GBytes *frame = g_queue_peek_head(&u->queue);
        gsize len;
        const uint8_t *data = g_bytes_get_data(frame, &len);
        if (!u->parent.frontend->receive(u->parent.frontend_opaque, 0, data, len)) {
            u->paused = true;
            return;
        }
        run += len;
        u->queued -= len;
        g_queue_pop_head(&u->queue);
        g_bytes_unref(frame);
    }
    if (!u->paused && !g_queue_is_empty(&u->queue)) {
        g_source_set_ready_time(u->source, 0);
    }
}

static gboolean user_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    User *u = ((UserSource *)source)->u;
    g_source_set_ready_time(source, -1);
    dl_slirp_pollfds_poll(u->slirp, 0, get_revents, u);
    run_timers(u);
    deliver(u);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs user_funcs = {
    .prepare = user_prepare,
    .check = user_check,
    .dispatch = user_dispatch,
};

/* ---- the back end ---- */

static PtaNetSent user_send(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n,
                            size_t len)
{
    (void)pair;
    User *u = (User *)net;
    if (len > PTA_NET_MAX_FRAME) {
        return PTA_NET_DROPPED;
    }
    pta_iov_to_buf(iov, n, 0, u->out, len);
    dl_slirp_input(u->slirp, u->out, (int)len);
    return PTA_NET_SENT;
}

static void user_ready(PtaNet *net, unsigned pair)
{
    (void)pair;
    User *u = (User *)net;
    __atomic_store_n(&u->wanted, 1, __ATOMIC_RELEASE);
    g_source_set_ready_time(u->source, 0);
}

static void user_start(PtaNet *net)
{
    User *u = (User *)net;
    PTA_TSAN_RELEASE(u->source);
    g_source_attach(u->source, net->context);
}

static void unref_bytes(gpointer data)
{
    g_bytes_unref(data);
}

static void user_free(PtaNet *net)
{
    User *u = (User *)net;
    if (u->slirp) {
        dl_slirp_cleanup(u->slirp);
    }
    g_source_destroy(u->source);
    g_source_unref(u->source);
    g_queue_clear_full(&u->queue, unref_bytes);
    g_array_unref(u->polls);
    g_ptr_array_unref(u->timers);
    g_free(u->net);
    g_free(u->out);
}

/* ---- from the description ---- */

static bool parse_ip(const char *what, const char *text, struct in_addr *addr, GError **error)
{
    return inet_pton(AF_INET, text, addr) == 1 ||
           pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s: expected an IPv4 address, found \"%s\"",
                     what, text);
}

static bool parse_net(const char *text, SlirpConfig *sc, GError **error)
{
    const char *slash = strchr(text, '/');
    g_autofree char *address = slash ? g_strndup(text, (gsize)(slash - text)) : NULL;
    guint64 bits = 0;
    if (!slash || inet_pton(AF_INET, address, &sc->vnetwork) != 1 ||
        !g_ascii_string_to_unsigned(slash + 1, 10, 8, 28, &bits, NULL)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "net: expected a network with 8 to 28 bits, such as 10.0.2.0/24, found "
                         "\"%s\"",
                         text);
    }
    sc->vnetmask.s_addr = htonl(~(uint32_t)((UINT64_C(1) << (32 - bits)) - 1));
    return (sc->vnetwork.s_addr & ~sc->vnetmask.s_addr) == 0 ||
           pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                     "net: %s is not the first address of the network", text);
}

/* An address of the network: the given one, or its nth. */
static bool member(const SlirpConfig *sc, const char *what, const char *text, uint32_t nth,
                   struct in_addr *addr, GError **error)
{
    addr->s_addr = sc->vnetwork.s_addr | htonl(nth);
    if (!text) {
        return true;
    }
    if (!parse_ip(what, text, addr, error)) {
        return false;
    }
    return (addr->s_addr & sc->vnetmask.s_addr) == sc->vnetwork.s_addr ||
           pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s: %s is not in the network", what, text);
}

static bool make_slirp(User *u, const NetUserConfig *cfg, SlirpConfig *sc, GError **error)
{
    if (!pta_lazy_lib_load(&libslirp, error)) {
        return false;
    }
    *sc = (SlirpConfig){ .version = 4, .restricted = cfg->restrict_, .in_enabled = true };
    if (!parse_net(cfg->net, sc, error) || !member(sc, "host", cfg->host, 2, &sc->vhost, error) ||
        !member(sc, "dns", cfg->dns, 3, &sc->vnameserver, error) ||
        !member(sc, "dhcp-start", cfg->dhcp_start, 15, &sc->vdhcp_start, error)) {
        return false;
    }
    if (sc->vhost.s_addr == sc->vnameserver.s_addr || sc->vhost.s_addr == sc->vdhcp_start.s_addr ||
        sc->vnameserver.s_addr == sc->vdhcp_start.s_addr) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "host, dns and dhcp-start: expected three addresses");
    }
    sc->in6_enabled = cfg->ipv6;
    sc->vprefix_len = 64;
    inet_pton(AF_INET6, "fec0::", &sc->vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &sc->vhost6);
    inet_pton(AF_INET6, "fec0::3", &sc->vnameserver6);
    sc->vhostname = cfg->hostname;
    u->slirp = dl_slirp_new(sc, &callbacks, u);
    return u->slirp || pta_throw(error, PTA_ERROR_HOST, "libslirp cannot make the network");
}

static bool add_forward(User *u, const NetForward *f, const SlirpConfig *sc, GError **error)
{
    struct in_addr host;
    struct in_addr guest = sc->vdhcp_start;
    if (!parse_ip("host-address", f->host_address, &host, error) ||
        (f->guest_address && !member(sc, "guest-address", f->guest_address, 0, &guest, error))) {
        return false;
    }
    errno = 0;
    if (dl_slirp_add_hostfwd(u->slirp, f->protocol == NET_PROTOCOL_UDP, host, f->host_port, guest,
                             f->guest_port) < 0) {
        return pta_throw_errno(error, errno ? errno : EADDRINUSE,
                               "cannot listen at %s port %u of %s", net_protocol_name(f->protocol),
                               f->host_port, f->host_address);
    }
    return true;
}

bool pta_net_user_init(PtaNet *net, const void *config, const char *base_dir, GError **error)
{
    (void)base_dir;
    const NetUserConfig *cfg = config;
    User *u = (User *)net;
    SlirpConfig sc;
    u->source = g_source_new(&user_funcs, sizeof(UserSource));
    ((UserSource *)u->source)->u = u;
    u->polls = g_array_new(false, true, sizeof(UserPoll));
    u->timers = g_ptr_array_new_with_free_func(g_free);
    g_queue_init(&u->queue);
    u->net = g_strdup(cfg->net);
    u->out = g_malloc(PTA_NET_MAX_FRAME);
    bool ok = make_slirp(u, cfg, &sc, error);
    for (size_t i = 0; ok && i < cfg->n_forward; i++) {
        ok = add_forward(u, cfg->forward[i], &sc, error);
        if (!ok) {
            g_prefix_error(error, "forward[%zu]: ", i);
        }
    }
    if (!ok) {
        user_free(net);
        return false;
    }
    pta_net_set_link(net, true);
    return true;
}

static void user_inspect(PtaNet *net, PtaInspect *req)
{
    const User *u = (const User *)net;
    pta_inspect_str(req, "network", PTA_INSPECT_PLAIN, u->net);
    pta_inspect_u64(req, "queued-bytes", PTA_INSPECT_COUNTER, u->queued);
    pta_inspect_u64(req, "lost", PTA_INSPECT_COUNTER, u->n_lost);
}

const PtaNetClass pta_net_user_class = {
    .instance_size = sizeof(User),
    .type = "user",
    .send = user_send,
    .start = user_start,
    .ready = user_ready,
    .free = user_free,
    .inspect = user_inspect,
};
