/*
 * A tap interface of the host: by name, by an inherited descriptor, or by one that comes later. With
 * the kernel's virtio-net header, so that checksums and segmentation are left to whoever reads the
 * frame in the end. One descriptor for each pair of queues.
 *
 * All in the context but ready() and configure().
 */
#include "config.h"

#include "devices/net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "qmp/gen/types.h"

#define FRAMES_A_TURN 64
#define TAP_DEVICE    "/dev/net/tun"

typedef struct TapQueue {
    int fd; /* -1: none */
    void *tag;
    bool paused;
    bool attached; /* the interface knows of it */
    int wanted;    /* ATOMIC */
    uint8_t *in;
    size_t in_len; /* a frame that the front end has not taken; 0: none */
} TapQueue;

typedef struct Tap {
    PtaNet parent;
    char name[IFNAMSIZ];
    GSource *source;       /* CONST */
    GMutex lock;           /* of what configure() sets */
    unsigned set_offloads; /* LOCKED(lock) */
    unsigned set_pairs;    /* LOCKED(lock) */
    TapQueue queues[PTA_NET_MAX_PAIRS];
} Tap;

typedef struct TapSource {
    GSource source;
    Tap *tap;
} TapSource;

/* ---- frames ---- */

static PtaNetSent tap_send(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n,
                           size_t len)
{
    (void)len;
    const TapQueue *q = &((Tap *)net)->queues[pair];
    /* An interface that is down says EIO; one that is full drops by itself. */
    return q->fd >= 0 && writev(q->fd, iov, (int)n) >= 0 ? PTA_NET_SENT : PTA_NET_DROPPED;
}

static void tap_ready(PtaNet *net, unsigned pair)
{
    Tap *tap = (Tap *)net;
    __atomic_store_n(&tap->queues[pair].wanted, 1, __ATOMIC_RELEASE);
    g_source_set_ready_time(tap->source, 0);
}

static void tap_watch(Tap *tap, TapQueue *q)
{
    bool want = q->fd >= 0 && !q->paused;
    if (q->tag && !want) {
        g_source_remove_unix_fd(tap->source, q->tag);
        q->tag = NULL;
    } else if (!q->tag && want) {
        q->tag = g_source_add_unix_fd(tap->source, q->fd, G_IO_IN);
    }
}

static void tap_failed(Tap *tap, int errnum)
{
    g_mutex_lock(&tap->lock);
    for (unsigned i = 0; i < tap->parent.max_pairs; i++) {
        TapQueue *q = &tap->queues[i];
        q->paused = true;
        tap_watch(tap, q);
        pta_close(q->fd);
        q->fd = -1;
        q->paused = false;
        q->in_len = 0;
    }
    g_mutex_unlock(&tap->lock);
    pta_net_tell(&tap->parent, PTA_NET_EVENT_FAILED, "the tap interface %s cannot be read: %s",
                 tap->name, g_strerror(errnum));
    pta_net_set_link(&tap->parent, false);
}

/* False: no more now. */
static bool take_one(Tap *tap, unsigned pair)
{
    TapQueue *q = &tap->queues[pair];
    if (q->in_len == 0) {
        ssize_t n = read(q->fd, q->in, PTA_NET_HEADER + PTA_NET_MAX_FRAME);
        if (n <= 0) {
            /* EIO: it is down now, and may come up again. */
            if (n < 0 && errno != EAGAIN && errno != EINTR && errno != EIO) {
                tap_failed(tap, errno);
            }
            return false;
        }
        q->in_len = (size_t)n;
    }
    if (!tap->parent.frontend->receive(tap->parent.frontend_opaque, pair, q->in, q->in_len)) {
        q->paused = true;
        return false;
    }
    q->in_len = 0;
    return true;
}

static void turn(Tap *tap, unsigned pair)
{
    TapQueue *q = &tap->queues[pair];
    if (__atomic_exchange_n(&q->wanted, 0, __ATOMIC_ACQ_REL)) {
        q->paused = false;
    }
    bool dead = q->tag && g_source_query_unix_fd(tap->source, q->tag) & G_IO_ERR;
    for (unsigned i = 0; i < FRAMES_A_TURN && q->fd >= 0 && !q->paused && take_one(tap, pair);
         i++) {}
    if (dead && q->fd >= 0) { /* the interface was removed */
        tap_failed(tap, ENODEV);
    }
    tap_watch(tap, q);
}

static gboolean tap_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    Tap *tap = ((TapSource *)source)->tap;
    g_source_set_ready_time(source, -1);
    for (unsigned i = 0; i < tap->parent.max_pairs; i++) {
        turn(tap, i);
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs tap_funcs = { .dispatch = tap_dispatch };

/* ---- descriptors ---- */

static unsigned tun_offloads(unsigned offloads)
{
    static const struct {
        unsigned ours;
        unsigned tun;
    } map[] = { { PTA_NET_CSUM, TUN_F_CSUM },
                { PTA_NET_TSO4, TUN_F_TSO4 },
                { PTA_NET_TSO6, TUN_F_TSO6 },
                { PTA_NET_ECN, TUN_F_TSO_ECN },
                { PTA_NET_UFO, TUN_F_UFO } };
    unsigned tun = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(map); i++) {
        tun |= offloads & map[i].ours ? map[i].tun : 0;
    }
    return tun;
}

static void apply_locked(Tap *tap)
{
    /* Drivers may take features without those that they need (virtio 1.2, 5.1.3.1); tun takes none such. */
    bool ecn_only = !(tap->set_offloads & (PTA_NET_TSO4 | PTA_NET_TSO6));
    unsigned offloads = tap->set_offloads & ~(ecn_only ? PTA_NET_ECN : 0u);
    offloads = tap->set_offloads & PTA_NET_CSUM ? offloads : 0;
    for (unsigned i = 0; i < tap->parent.max_pairs; i++) {
        TapQueue *q = &tap->queues[i];
        bool want = i < tap->set_pairs;
        if (q->fd < 0) {
            continue;
        }
        if (want != q->attached) {
            struct ifreq ifr = { .ifr_flags = want ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };
            q->attached = ioctl(q->fd, TUNSETQUEUE, &ifr) == 0 ? want : q->attached;
        }
        if (i == 0 && tap->parent.vnet_header &&
            ioctl(q->fd, TUNSETOFFLOAD, (unsigned long)tun_offloads(offloads)) < 0) {
            g_warning("%s: the tap interface does not take the offloads 0x%x: %s", tap->parent.id,
                      offloads, g_strerror(errno));
        }
    }
}

static void tap_configure(PtaNet *net, unsigned offloads, unsigned pairs)
{
    Tap *tap = (Tap *)net;
    g_mutex_lock(&tap->lock);
    tap->set_offloads = offloads;
    tap->set_pairs = pairs;
    apply_locked(tap);
    g_mutex_unlock(&tap->lock);
}

/* Whether the kernel can hand such frames on; what is set stays with the last try. */
static void probe_offloads(Tap *tap, int fd)
{
    const unsigned tso = PTA_NET_CSUM | PTA_NET_TSO4 | PTA_NET_TSO6 | PTA_NET_ECN;
    const unsigned tries[] = { tso | PTA_NET_UFO, tso, PTA_NET_CSUM };
    for (size_t i = 0; i < G_N_ELEMENTS(tries) && !tap->parent.offloads; i++) {
        if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)tun_offloads(tries[i])) == 0) {
            tap->parent.offloads = tries[i];
        }
    }
    ioctl(fd, TUNSETOFFLOAD, 0ul);
}

static bool set_header(int fd, GError **error)
{
    int size = PTA_NET_HEADER;
    int little = 1;
    if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) {
        return pta_throw_errno(error, errno, "the tap interface takes no header of 12 bytes");
    }
    ioctl(fd, TUNSETVNETLE, &little); /* what it is on this host in any case */
    return true;
}

static void add_queue(Tap *tap, unsigned pair, int fd)
{
    TapQueue *q = &tap->queues[pair];
    q->fd = fd;
    q->attached = true;
    if (!q->in) {
        q->in = g_malloc(PTA_NET_HEADER + PTA_NET_MAX_FRAME);
    }
}

/* A descriptor that somebody else made. */
static bool adopt(Tap *tap, int fd, GError **error)
{
    struct ifreq ifr = { 0 };
    if (ioctl(fd, TUNGETIFF, &ifr) < 0) {
        return pta_throw_errno(error, errno, "the descriptor is of no tap interface");
    }
    if ((ifr.ifr_flags & (IFF_TAP | IFF_TUN)) != IFF_TAP || !(ifr.ifr_flags & IFF_NO_PI) ||
        !(ifr.ifr_flags & IFF_VNET_HDR)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "the descriptor's interface %s is not of kind IFF_TAP, IFF_NO_PI and "
                         "IFF_VNET_HDR",
                         ifr.ifr_name);
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return pta_throw_errno(error, errno, "cannot use the descriptor");
    }
    if (!set_header(fd, error)) {
        return false;
    }
    g_strlcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
    return true;
}

static bool open_error(GError **error, int errnum, const char *name, unsigned pairs)
{
    switch (errnum) {
    case EBUSY:
        return pta_throw(error, PTA_ERROR_HOST, "the tap interface %s is in use by another process",
                         name);
    case EPERM:
    case EACCES:
        return pta_throw(error, PTA_ERROR_HOST,
                         "the tap interface %s may not be used by this user: its owner is another, "
                         "or " TAP_DEVICE " cannot be opened",
                         name);
    case EINVAL:
        return pta_throw(error, PTA_ERROR_HOST,
                         pairs > 1 ? "%s is no tap interface, or was made without multi_queue"
                                   : "%s is no tap interface, or was made with multi_queue and "
                                     "needs more than one pair of queues",
                         name);
    default:
        return pta_throw_errno(error, errnum, "cannot open the tap interface %s", name);
    }
}

static bool open_by_name(Tap *tap, const char *name, unsigned pairs, GError **error)
{
    if (if_nametoindex(name) == 0) {
        return pta_throw(error, PTA_ERROR_HOST,
                         "there is no interface %s; `ip tuntap add dev %s mode tap` makes one",
                         name, name);
    }
    g_strlcpy(tap->name, name, sizeof(tap->name));
    for (unsigned i = 0; i < pairs; i++) {
        pta_autofd int fd = open(TAP_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
        ifr.ifr_flags |= (short)(pairs > 1 ? IFF_MULTI_QUEUE : 0);
        g_strlcpy(ifr.ifr_name, name, sizeof(ifr.ifr_name));
        if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0) {
            return open_error(error, errno, name, pairs);
        }
        if (!set_header(fd, error)) {
            return false;
        }
        add_queue(tap, i, g_steal_fd(&fd));
    }
    return true;
}

static bool tap_set_fd(PtaNet *net, int fd, GError **error)
{
    Tap *tap = (Tap *)net;
    if (tap->queues[0].fd >= 0) {
        return pta_throw(error, PTA_ERROR_BAD_STATE, "%s: the tap interface %s is in use", net->id,
                         tap->name);
    }
    if (!adopt(tap, fd, error)) {
        return false;
    }
    g_mutex_lock(&tap->lock);
    add_queue(tap, 0, fd);
    apply_locked(tap);
    g_mutex_unlock(&tap->lock);
    tap_ready(net, 0);
    pta_net_set_link(net, true);
    return true;
}

/* ---- life ---- */

static void tap_start(PtaNet *net)
{
    Tap *tap = (Tap *)net;
    for (unsigned i = 0; i < net->max_pairs; i++) {
        tap_watch(tap, &tap->queues[i]);
    }
    PTA_TSAN_RELEASE(tap->source);
    g_source_attach(tap->source, net->context);
}

static void tap_free(PtaNet *net)
{
    Tap *tap = (Tap *)net;
    g_source_destroy(tap->source);
    g_source_unref(tap->source);
    for (unsigned i = 0; i < PTA_NET_MAX_PAIRS; i++) {
        pta_close(tap->queues[i].fd);
        g_free(tap->queues[i].in);
    }
    g_mutex_clear(&tap->lock);
}

static bool check_config(const NetTapConfig *cfg, GError **error)
{
    if (cfg->name && cfg->has_fd) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "a tap interface has a name or a descriptor, not both");
    }
    return cfg->queue_pairs == 1 || cfg->name ||
           pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "queue-pairs: more than one needs a name");
}

bool pta_net_tap_init(PtaNet *net, const void *config, const char *base_dir, GError **error)
{
    (void)base_dir;
    const NetTapConfig *cfg = config;
    Tap *tap = (Tap *)net;
    bool ok = check_config(cfg, error);
    if (!ok) {
        return false;
    }
    net->vnet_header = true;
    net->max_pairs = cfg->queue_pairs;
    tap->set_pairs = 1;
    g_mutex_init(&tap->lock);
    for (unsigned i = 0; i < PTA_NET_MAX_PAIRS; i++) {
        tap->queues[i].fd = -1;
    }
    tap->source = g_source_new(&tap_funcs, sizeof(TapSource));
    ((TapSource *)tap->source)->tap = tap;
    if (cfg->name) {
        ok = open_by_name(tap, cfg->name, cfg->queue_pairs, error);
    } else if (cfg->has_fd) {
        ok = adopt(tap, cfg->fd, error);
        if (ok) {
            add_queue(tap, 0, cfg->fd);
        }
    } else { /* what all kernels can that we run on */
        net->offloads = PTA_NET_CSUM | PTA_NET_TSO4 | PTA_NET_TSO6 | PTA_NET_ECN;
    }
    if (!ok) {
        tap_free(net);
        return false;
    }
    if (tap->queues[0].fd >= 0) {
        probe_offloads(tap, tap->queues[0].fd);
        pta_net_set_link(net, true);
    }
    return true;
}

static void tap_inspect(PtaNet *net, PtaInspect *req)
{
    Tap *tap = (Tap *)net;
    pta_inspect_str(req, "interface", PTA_INSPECT_PLAIN, tap->name);
    pta_inspect_u64(req, "queue-pairs", PTA_INSPECT_PLAIN, net->max_pairs);
    g_mutex_lock(&tap->lock);
    pta_inspect_u64(req, "offloads", PTA_INSPECT_HEX, tap->set_offloads);
    g_mutex_unlock(&tap->lock);
}

const PtaNetClass pta_net_tap_class = {
    .instance_size = sizeof(Tap),
    .type = "tap",
    .send = tap_send,
    .configure = tap_configure,
    .start = tap_start,
    .ready = tap_ready,
    .free = tap_free,
    .inspect = tap_inspect,
    .set_fd = tap_set_fd,
};
