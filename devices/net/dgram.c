/* A frame in each datagram, as in QEMU's `-netdev dgram`. The link is always up; what the peer does
 * not take is lost, as on a wire. All in the context but ready(). */
#include "config.h"

#include "devices/net/net.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "devices/net/address.h"
#include "qmp/gen/types.h"

#define FRAMES_A_TURN 64

typedef struct Dgram {
    PtaNet parent;
    PtaNetAddress local, remote; /* CONST */
    GSource *source;             /* CONST */
    int fd;                      /* CONST */
    void *tag;
    bool paused;
    int wanted; /* ATOMIC */
    uint8_t *in;
    size_t in_len; /* a frame that the front end has not taken; 0: none */
} Dgram;

typedef struct DgramSource {
    GSource source;
    Dgram *d;
} DgramSource;

static PtaNetSent dgram_send(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n,
                             size_t len)
{
    (void)pair, (void)len;
    Dgram *d = (Dgram *)net;
    struct msghdr msg = {
        .msg_name = &d->remote.sa,
        .msg_namelen = d->remote.len,
        .msg_iov = (struct iovec *)(uintptr_t)iov,
        .msg_iovlen = n,
    };
    return sendmsg(d->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? PTA_NET_SENT : PTA_NET_DROPPED;
}

static void dgram_ready(PtaNet *net, unsigned pair)
{
    (void)pair;
    Dgram *d = (Dgram *)net;
    __atomic_store_n(&d->wanted, 1, __ATOMIC_RELEASE);
    g_source_set_ready_time(d->source, 0);
}

static bool take_one(Dgram *d)
{
    if (d->in_len == 0) {
        ssize_t n = recv(d->fd, d->in, PTA_NET_MAX_FRAME, MSG_DONTWAIT | MSG_TRUNC);
        if (n <= 0) {
            return n == 0 || errno == ECONNREFUSED; /* of something that was sent before */
        }
        if (n > PTA_NET_MAX_FRAME) {
            return true; /* none of ours, and cut off */
        }
        d->in_len = (size_t)n;
    }
    if (!d->parent.frontend->receive(d->parent.frontend_opaque, 0, d->in, d->in_len)) {
        d->paused = true;
        return false;
    }
    d->in_len = 0;
    return true;
}

static gboolean dgram_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    Dgram *d = ((DgramSource *)source)->d;
    g_source_set_ready_time(source, -1);
    if (__atomic_exchange_n(&d->wanted, 0, __ATOMIC_ACQ_REL)) {
        d->paused = false;
    }
    for (unsigned i = 0; i < FRAMES_A_TURN && !d->paused && take_one(d); i++) {}
    if (d->tag && d->paused) {
        g_source_remove_unix_fd(source, d->tag);
        d->tag = NULL;
    } else if (!d->tag && !d->paused) {
        d->tag = g_source_add_unix_fd(source, d->fd, G_IO_IN);
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs dgram_funcs = { .dispatch = dgram_dispatch };

static void dgram_start(PtaNet *net)
{
    Dgram *d = (Dgram *)net;
    d->tag = g_source_add_unix_fd(d->source, d->fd, G_IO_IN);
    PTA_TSAN_RELEASE(d->source);
    g_source_attach(d->source, net->context);
}

static void dgram_free(PtaNet *net)
{
    Dgram *d = (Dgram *)net;
    g_source_destroy(d->source);
    g_source_unref(d->source);
    pta_close(d->fd);
    if (d->local.path) {
        unlink(d->local.path);
    }
    pta_net_address_clear(&d->local);
    pta_net_address_clear(&d->remote);
    g_free(d->in);
}

bool pta_net_dgram_init(PtaNet *net, const void *config, const char *base_dir, GError **error)
{
    const NetDgramConfig *cfg = config;
    Dgram *d = (Dgram *)net;
    bool ok = pta_net_address_init(&d->local, cfg->local, base_dir, error) &&
              pta_net_address_init(&d->remote, cfg->remote, base_dir, error);
    if (ok && d->local.sa.ss_family != d->remote.sa.ss_family) {
        ok = pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                       "local and remote: expected addresses of one type, found %s and %s",
                       d->local.text, d->remote.text);
    }
    if (!ok || (d->fd = pta_net_address_bind(&d->local, SOCK_DGRAM, error)) < 0) {
        pta_net_address_clear(&d->local);
        pta_net_address_clear(&d->remote);
        return false;
    }
    d->in = g_malloc(PTA_NET_MAX_FRAME);
    d->source = g_source_new(&dgram_funcs, sizeof(DgramSource));
    ((DgramSource *)d->source)->d = d;
    pta_net_set_link(net, true);
    return true;
}

static void dgram_inspect(PtaNet *net, PtaInspect *req)
{
    const Dgram *d = (const Dgram *)net;
    pta_inspect_str(req, "local", PTA_INSPECT_PLAIN, d->local.text);
    pta_inspect_str(req, "remote", PTA_INSPECT_PLAIN, d->remote.text);
}

const PtaNetClass pta_net_dgram_class = {
    .instance_size = sizeof(Dgram),
    .type = "dgram",
    .send = dgram_send,
    .start = dgram_start,
    .ready = dgram_ready,
    .free = dgram_free,
    .inspect = dgram_inspect,
};
