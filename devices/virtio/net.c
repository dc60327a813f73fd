/*
 * virtio-net (virtio 1.2, 5.1): pairs of queues, receive and send, and a control queue. What the back
 * end cannot do of checksums and segmentation is done here (net/offload.h), so that a guest in
 * software has it cheaper in any case.
 *
 * Nothing is ever in flight: a frame to send is taken by the back end at once, or stays in the ring;
 * one that was received is copied into the ring at once, or stays with the back end.
 *
 * All LOCKED(parent.lock); queues and back end in the I/O thread.
 */
#include "config.h"

#include "devices/virtio/net-private.h"

#include <endian.h>
#include <string.h>
#include <sys/random.h>

#include "devices/devices.h"
#include "devices/io.h"
#include "devices/net/offload.h"
#include "devices/virtio/iov.h"
#include "qmp/gen/types.h"

#define MAX_RX_CHAINS 128 /* that one frame may fill */
#define MAX_TX_IOV    64  /* more pieces than that are put together first */
#define BIT(n)        (UINT64_C(1) << (n))

static unsigned active_pairs(const Net *net)
{
    return MIN(net->state.pairs, net_max_pairs(net));
}

static bool link_is_up(const Net *net)
{
    return net->state.status & PTA_NET_S_LINK_UP;
}

/* ---- limits ---- */

typedef struct NetTimer {
    GSource source;
    Net *net;
} NetTimer;

static void wake_later(Net *net, uint64_t wait_ns)
{
    int64_t at = g_get_monotonic_time() + (int64_t)(wait_ns / 1000) + 1;
    int64_t old = g_source_get_ready_time(net->timer);
    if (old < 0 || at < old) {
        g_source_set_ready_time(net->timer, at);
    }
}

static bool pay(Net *net, PtaRateLimit *limit, bool *paid, size_t len)
{
    uint64_t wait_ns;
    if (!*paid && pta_rate_limit_is_set(limit) &&
        !pta_rate_limit_take(limit, 1, len, pta_now_ns(), &wait_ns)) {
        wake_later(net, wait_ns);
        return false;
    }
    *paid = true;
    return true;
}

static void unblock_tx(Net *net)
{
    for (unsigned i = 0; i < net_max_pairs(net); i++) {
        if (net->pairs[i].tx_blocked) {
            net->pairs[i].tx_blocked = false;
            pta_virtio_kick(&net->parent, 2 * i + 1);
        }
    }
}

static void unblock_rx(Net *net, unsigned pair)
{
    if (net->pairs[pair].rx_blocked) {
        net->pairs[pair].rx_blocked = false;
        pta_net_ready(net->net, pair);
    }
}

static gboolean timer_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback, (void)data;
    PTA_TSAN_ACQUIRE(source);
    Net *net = ((NetTimer *)source)->net;
    g_source_set_ready_time(source, -1);
    g_mutex_lock(&net->parent.lock);
    unblock_tx(net);
    for (unsigned i = 0; i < net_max_pairs(net); i++) {
        unblock_rx(net, i);
    }
    g_mutex_unlock(&net->parent.lock);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs timer_funcs = { .dispatch = timer_dispatch };

/* ---- sending ---- */

/* Frames that are cut before others have their turn. */
#define SEGMENTS_A_TURN 4096

typedef struct Emit {
    Net *net;
    unsigned pair;
    bool full;
} Emit;

static bool emit_segment(void *opaque, const uint8_t *frame, size_t len)
{
    Emit *e = opaque;
    struct iovec iov = { (void *)(uintptr_t)frame, len };
    e->full = pta_net_send(e->net->net, e->pair, &iov, 1, len) == PTA_NET_FULL;
    e->net->segments++;
    return !e->full;
}

/* The card's own work on a frame: it is copied first, so that the driver cannot change it. */
static PtaNetSent send_worked(Net *net, unsigned pair, const PtaNetHeader *hdr,
                              const PtaChain *chain, size_t len)
{
    struct iovec whole = { net->bounce, len };
    pta_iov_to_buf(chain->iov, chain->n_out, PTA_NET_HEADER, net->bounce, len);
    if (hdr->gso_type == PTA_NET_GSO_NONE) {
        return pta_offload_checksum(hdr, net->bounce, len)
                   ? pta_net_send(net->net, pair, &whole, 1, len)
                   : PTA_NET_DROPPED;
    }
    Emit emit = { net, pair, false };
    switch (pta_offload_segment(hdr, net->bounce, len, &net->pairs[pair].tx_segments, emit_segment,
                                &emit)) {
    case PTA_OFFLOAD_DONE:
        return PTA_NET_SENT;
    case PTA_OFFLOAD_STOPPED:
        return PTA_NET_FULL;
    default:
        return PTA_NET_DROPPED;
    }
}

static PtaNetSent send_as_is(Net *net, unsigned pair, const PtaNetHeader *hdr,
                             const PtaChain *chain, size_t len)
{
    struct iovec iov[MAX_TX_IOV + 1];
    unsigned n = 0;
    size_t total = len;
    if (net->net->vnet_header) {
        iov[n++] = (struct iovec){ (void *)(uintptr_t)hdr, sizeof(*hdr) };
        total += sizeof(*hdr);
    }
    if (chain->n_out <= MAX_TX_IOV) {
        n += pta_iov_slice(chain->iov, chain->n_out, PTA_NET_HEADER, len, iov + n);
    } else {
        pta_iov_to_buf(chain->iov, chain->n_out, PTA_NET_HEADER, net->bounce, len);
        iov[n++] = (struct iovec){ net->bounce, len };
    }
    return pta_net_send(net->net, pair, iov, n, total);
}

/* What the driver may not say according to what it has accepted is left out. */
static bool header_read(const Net *net, const PtaChain *chain, PtaNetHeader *hdr)
{
    static const struct {
        uint8_t type;
        unsigned feature;
    } types[] = { { PTA_NET_GSO_TCPV4, PTA_NET_F_HOST_TSO4 },
                  { PTA_NET_GSO_TCPV6, PTA_NET_F_HOST_TSO6 },
                  { PTA_NET_GSO_UDP, PTA_NET_F_HOST_UFO } };
    pta_iov_to_buf(chain->iov, chain->n_out, 0, hdr, sizeof(*hdr));
    hdr->num_buffers = 0;
    hdr->flags &= PTA_NET_HDR_NEEDS_CSUM;
    if (hdr->flags && !pta_virtio_has(&net->parent, PTA_NET_F_CSUM)) {
        return false;
    }
    if (hdr->gso_type == PTA_NET_GSO_NONE) {
        hdr->gso_size = 0;
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        if ((hdr->gso_type & ~PTA_NET_GSO_ECN) == types[i].type) {
            return pta_virtio_has(&net->parent, types[i].feature);
        }
    }
    return false;
}

static PtaNetSent send_chain(Net *net, unsigned pair, const PtaChain *chain, size_t len)
{
    PtaNetHeader hdr;
    if (len < PTA_NET_ETH_HEADER || len > PTA_NET_MAX_FRAME || !link_is_up(net) ||
        pair >= active_pairs(net) || !header_read(net, chain, &hdr)) {
        return PTA_NET_DROPPED;
    }
    bool work = !net->net->vnet_header && (hdr.flags || hdr.gso_type != PTA_NET_GSO_NONE);
    return work ? send_worked(net, pair, &hdr, chain, len)
                : send_as_is(net, pair, &hdr, chain, len);
}

static bool tx_request(PtaVirtio *vd, PtaQueue *q, PtaChain *chain)
{
    Net *net = net_of(vd);
    unsigned pair = q->index / 2;
    NetPair *p = &net->pairs[pair];
    if (chain->out_len < PTA_NET_HEADER) {
        pta_queue_push(q, chain, 0);
        pta_queue_break(q, "a frame without a header");
        return false;
    }
    size_t len = (size_t)chain->out_len - PTA_NET_HEADER;
    if (!pay(net, &net->tx_limit, &p->tx_paid, len)) {
        p->tx_blocked = true;
        pta_queue_unpop(q, chain);
        return false;
    }
    PtaNetSent sent = send_chain(net, pair, chain, len);
    if (sent == PTA_NET_FULL) {
        p->tx_blocked = true;
        pta_queue_unpop(q, chain);
        return false;
    }
    p->tx_paid = false;
    p->tx_segments = 0;
    p->stats.tx_packets += sent == PTA_NET_SENT;
    p->stats.tx_bytes += sent == PTA_NET_SENT ? len : 0;
    p->stats.tx_dropped += sent == PTA_NET_DROPPED;
    pta_virtio_complete(vd, q, chain, 0);
    if (net->segments >= SEGMENTS_A_TURN) {
        pta_virtio_kick(vd, q->index); /* goes on from the loop, behind what else waits there */
        return false;
    }
    return true;
}

static void net_kick(PtaVirtio *vd, PtaQueue *q)
{
    Net *net = net_of(vd);
    if (q->index == net_ctrl_queue(net)) {
        net_ctrl_kick(net, q);
    } else if (q->index >= 2 * net_max_pairs(net)) {
        return; /* the control queue's place if there were more pairs */
    } else if (q->index % 2 == 0) {
        pta_queue_disable_notify(q);
        unblock_rx(net, q->index / 2);
    } else if (!net->pairs[q->index / 2].tx_blocked) {
        net->segments = 0;
        pta_virtio_for_each(vd, q, tx_request);
        pta_net_commit(net->net);
    }
}

static void net_writable(void *opaque)
{
    Net *net = opaque;
    g_mutex_lock(&net->parent.lock);
    unblock_tx(net);
    g_mutex_unlock(&net->parent.lock);
}

/* ---- receiving ---- */

typedef enum RxRoom { RX_ROOM, RX_NO_ROOM, RX_NEVER } RxRoom;

/*
 * Takes as many chains as a frame needs. If there are too few they go back, and the driver will tell
 * of the next one: that has to be asked for while all of them are out, since it will not tell again
 * of those that it has told of.
 */
static RxRoom rx_take(Net *net, PtaQueue *q, PtaChain **chains, unsigned *n, size_t len)
{
    unsigned max = pta_virtio_has(&net->parent, PTA_NET_F_MRG_RXBUF) ? MAX_RX_CHAINS : 1;
    RxRoom room = RX_NEVER;
    size_t have = 0;
    *n = 0;
    while (*n < max) {
        PtaChain *chain = pta_queue_pop(q);
        if (!chain) {
            if (!q->broken && pta_queue_enable_notify(q)) {
                continue;
            }
            /* If these are all that the ring can have, no more will ever come. */
            room = *n == q->s.size ? RX_NEVER : RX_NO_ROOM;
            break;
        }
        chains[(*n)++] = chain;
        have += (size_t)chain->in_len;
        if (chains[0]->in_len < PTA_NET_HEADER) {
            pta_queue_break(q, "a receive buffer that cannot hold a header");
            room = RX_NO_ROOM;
            break;
        }
        if (have >= len) {
            return RX_ROOM;
        }
    }
    for (unsigned i = *n; i > 0; i--) {
        pta_queue_unpop(q, chains[i - 1]);
    }
    return room;
}

static void rx_fill(Net *net, PtaQueue *q, PtaChain **chains, unsigned n, const PtaNetHeader *hdr,
                    const uint8_t *frame, size_t len)
{
    PtaNetHeader own = *hdr;
    own.num_buffers = htole16((uint16_t)n);
    size_t done = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct iovec *in = chains[i]->iov + chains[i]->n_out;
        size_t skip = 0;
        if (i == 0) {
            skip = pta_iov_from_buf(in, chains[i]->n_in, 0, &own, sizeof(own));
        }
        size_t part = pta_iov_from_buf(in, chains[i]->n_in, skip, frame + done, len - done);
        done += part;
        pta_queue_push_later(q, chains[i], (uint32_t)(skip + part));
    }
    pta_queue_publish(q);
    pta_virtio_pushed(&net->parent, q, n);
}

/* What goes before the frame, and where the frame begins. */
static const uint8_t *rx_header(const Net *net, const uint8_t *data, size_t *len, PtaNetHeader *hdr)
{
    if (net->net->vnet_header) {
        if (*len < sizeof(*hdr)) {
            return NULL;
        }
        memcpy(hdr, data, sizeof(*hdr));
        *len -= sizeof(*hdr);
        data += sizeof(*hdr);
    } else {
        *hdr = (PtaNetHeader){ 0 };
    }
    return *len >= PTA_NET_ETH_HEADER && *len <= PTA_NET_MAX_FRAME ? data : NULL;
}

/* True: the frame is done with. */
/* A tap may still hold frames for the driver before this one (virtio 1.2, 5.1.6.4.1). */
static bool takes_header(const Net *net, PtaNetHeader *hdr)
{
    if (pta_virtio_has(&net->parent, PTA_NET_F_GUEST_CSUM)) {
        return true;
    }
    bool plain = !(hdr->flags & PTA_NET_HDR_NEEDS_CSUM) && hdr->gso_type == PTA_NET_GSO_NONE;
    hdr->flags = 0;
    return plain;
}

static bool receive_locked(Net *net, unsigned pair, const uint8_t *data, size_t len)
{
    PtaNetHeader hdr;
    PtaChain *chains[MAX_RX_CHAINS];
    PtaQueue *q = &net->parent.queues[2 * pair];
    NetPair *p = &net->pairs[pair];
    const uint8_t *frame = rx_header(net, data, &len, &hdr);
    if (!frame || !link_is_up(net) || pair >= active_pairs(net) || !q->active ||
        !takes_header(net, &hdr)) {
        p->rx_paid = false;
        p->stats.rx_dropped++;
        return true;
    }
    if (!net_filter_accepts(net, frame, len)) {
        p->rx_paid = false;
        p->stats.rx_filtered++;
        return true;
    }
    if (!pay(net, &net->rx_limit, &p->rx_paid, len)) {
        return false;
    }
    unsigned n;
    switch (rx_take(net, q, chains, &n, len + PTA_NET_HEADER)) {
    case RX_ROOM:
        break;
    case RX_NO_ROOM:
        return false;
    default:
        p->rx_paid = false;
        p->stats.rx_dropped++;
        return true;
    }
    if (!net->net->vnet_header && pta_virtio_has(&net->parent, PTA_NET_F_GUEST_CSUM) &&
        pta_offload_is_valid(frame, len)) {
        hdr.flags = PTA_NET_HDR_DATA_VALID;
    }
    rx_fill(net, q, chains, n, &hdr, frame, len);
    p->rx_paid = false;
    p->stats.rx_packets++;
    p->stats.rx_bytes += len;
    return true;
}

static bool net_receive(void *opaque, unsigned pair, const uint8_t *data, size_t len)
{
    Net *net = opaque;
    g_mutex_lock(&net->parent.lock);
    bool done = pta_virtio_running(&net->parent) && receive_locked(net, pair, data, len);
    net->pairs[pair].rx_blocked |= !done;
    g_mutex_unlock(&net->parent.lock);
    return done;
}

/* ---- link and configuration space ---- */

static void put_le16(PtaVirtio *vd, unsigned offset, uint16_t value)
{
    uint16_t le = htole16(value);
    memcpy(vd->config + offset, &le, sizeof(le));
}

void net_put_config(Net *net)
{
    memcpy(net->parent.config + PTA_NET_CFG_MAC, net->state.mac, NET_MAC);
    put_le16(&net->parent, PTA_NET_CFG_STATUS, net->state.status);
}

static void set_status_locked(Net *net, uint16_t status)
{
    if (status != net->state.status) {
        net->state.status = status;
        net_put_config(net);
        pta_virtio_config_changed(&net->parent);
    }
}

/* While the machine stands still, what the guest sees stands still as well. */
static void update_link_locked(Net *net)
{
    if (net->parent.started) {
        bool up = net->state.admin_up && pta_net_link_up(net->net);
        set_status_locked(net, (uint16_t)((net->state.status & ~PTA_NET_S_LINK_UP) |
                                          (up ? PTA_NET_S_LINK_UP : 0)));
    }
}

static void net_link(void *opaque)
{
    Net *net = opaque;
    g_mutex_lock(&net->parent.lock);
    update_link_locked(net);
    g_mutex_unlock(&net->parent.lock);
}

void pta_virtio_net_set_link(PtaDevice *dev, bool up)
{
    Net *net = (Net *)dev;
    g_mutex_lock(&net->parent.lock);
    net->state.admin_up = up;
    update_link_locked(net);
    g_mutex_unlock(&net->parent.lock);
}

bool pta_virtio_net_announce(PtaDevice *dev)
{
    Net *net = (Net *)dev;
    g_mutex_lock(&net->parent.lock);
    bool can = pta_virtio_running(&net->parent) && link_is_up(net) &&
               pta_virtio_has(&net->parent, PTA_NET_F_GUEST_ANNOUNCE);
    if (can) {
        set_status_locked(net, net->state.status | PTA_NET_S_ANNOUNCE);
    }
    g_mutex_unlock(&net->parent.lock);
    return can;
}

void net_configure_backend(Net *net)
{
    static const struct {
        unsigned feature;
        unsigned offload;
    } map[] = {
        { PTA_NET_F_GUEST_CSUM, PTA_NET_CSUM }, { PTA_NET_F_GUEST_TSO4, PTA_NET_TSO4 },
        { PTA_NET_F_GUEST_TSO6, PTA_NET_TSO6 }, { PTA_NET_F_GUEST_ECN, PTA_NET_ECN },
        { PTA_NET_F_GUEST_UFO, PTA_NET_UFO },
    };
    unsigned offloads = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(map); i++) {
        offloads |= pta_virtio_has(&net->parent, map[i].feature) ? map[i].offload : 0;
    }
    pta_net_configure(net->net, offloads, active_pairs(net));
}

static const PtaNetFrontend frontend = {
    .receive = net_receive,
    .writable = net_writable,
    .link = net_link,
};

/* ---- the class ---- */

static void wake_all(Net *net)
{
    for (unsigned i = 0; i < net_max_pairs(net); i++) {
        net->pairs[i].tx_blocked = false;
        pta_virtio_kick(&net->parent, 2 * i);
        pta_virtio_kick(&net->parent, 2 * i + 1);
    }
}

static bool net_activate(PtaVirtio *vd, const char **why)
{
    (void)why;
    net_configure_backend(net_of(vd));
    wake_all(net_of(vd)); /* frames may have come before */
    return true;
}

static void forget_work(Net *net)
{
    for (unsigned i = 0; i < PTA_NET_MAX_PAIRS; i++) {
        NetPair *p = &net->pairs[i];
        p->tx_blocked = false;
        p->tx_paid = false;
        p->tx_segments = 0;
    }
}

static void net_reset(PtaVirtio *vd)
{
    Net *net = net_of(vd);
    forget_work(net);
    net_filter_reset(net);
    net->state.status &= PTA_NET_S_LINK_UP;
    net_put_config(net);
}

static void net_restored(PtaVirtio *vd)
{
    Net *net = net_of(vd);
    forget_work(net);
    net_put_config(net);
    net_configure_backend(net);
}

static void inspect_pair(void *obj, PtaInspect *req)
{
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_U64(NetPair, stats.rx_packets, "rx-packets", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(NetPair, stats.rx_bytes, "rx-bytes", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(NetPair, stats.rx_dropped, "rx-dropped", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(NetPair, stats.rx_filtered, "rx-filtered", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(NetPair, stats.tx_packets, "tx-packets", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(NetPair, stats.tx_bytes, "tx-bytes", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(NetPair, stats.tx_dropped, "tx-dropped", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_BOOL(NetPair, rx_blocked, "rx-blocked", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_BOOL(NetPair, tx_blocked, "tx-blocked", PTA_INSPECT_PLAIN),
        {},
    };
    pta_inspect_fields(req, fields, obj);
}

static void net_inspect(PtaVirtio *vd, PtaInspect *req)
{
    Net *net = net_of(vd);
    pta_inspect_bool(req, "link", PTA_INSPECT_PLAIN, link_is_up(net));
    pta_inspect_bool(req, "set-link", PTA_INSPECT_PLAIN, net->state.admin_up);
    pta_inspect_u64(req, "pairs", PTA_INSPECT_PLAIN, active_pairs(net));
    pta_inspect_u64(req, "control-commands", PTA_INSPECT_COUNTER, net->n_ctrl);
    pta_inspect_u64(req, "control-failed", PTA_INSPECT_COUNTER, net->n_ctrl_failed);
    for (unsigned i = 0; i < net_max_pairs(net); i++) {
        char name[16];
        g_snprintf(name, sizeof(name), "pair/%u", i);
        pta_inspect_child(req, name, PTA_INSPECT_PLAIN, inspect_pair, &net->pairs[i]);
    }
    pta_inspect_child(req, "filter", PTA_INSPECT_PLAIN, net_filter_inspect, net);
    pta_inspect_child(req, "rx-limit", PTA_INSPECT_PLAIN, pta_rate_limit_inspect, &net->rx_limit);
    pta_inspect_child(req, "tx-limit", PTA_INSPECT_PLAIN, pta_rate_limit_inspect, &net->tx_limit);
}

static const PtaVirtioClass net_virtio = {
    .device_id = PTA_NET_DEVICE_ID,
    .activate = net_activate,
    .kick = net_kick,
    .reset = net_reset,
    .state = &net_state_desc,
    .state_offset = offsetof(Net, state),
    .restored = net_restored,
    .inspect = net_inspect,
};

/* ---- life ---- */

static bool parse_mac(const char *text, uint8_t *mac, GError **error)
{
    bool ok = strlen(text) == 3 * NET_MAC - 1;
    for (unsigned i = 0; ok && i < NET_MAC; i++) {
        int high = g_ascii_xdigit_value(text[3 * i]);
        int low = g_ascii_xdigit_value(text[3 * i + 1]);
        ok = high >= 0 && low >= 0 && (i == NET_MAC - 1 || text[3 * i + 2] == ':');
        mac[i] = ok ? (uint8_t)(high << 4 | low) : 0;
    }
    return (ok && !(mac[0] & 1)) ||
           pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                     "mac: expected the address of one card, such as 52:54:00:12:34:56, found "
                     "\"%s\"",
                     text);
}

/* QEMU's prefix, which is nobody's. */
static void random_mac(uint8_t *mac)
{
    static const uint8_t prefix[] = { 0x52, 0x54, 0x00 };
    memcpy(mac, prefix, sizeof(prefix));
    if (getrandom(mac + 3, 3, GRND_NONBLOCK) != 3) {
        uint32_t n = g_random_int();
        memcpy(mac + 3, &n, 3);
    }
}

static uint64_t net_features(const Net *net, const VirtioNetConfig *cfg)
{
    const PtaNet *b = net->net;
    uint64_t features = BIT(PTA_NET_F_MAC) | BIT(PTA_NET_F_MRG_RXBUF) | BIT(PTA_NET_F_STATUS) |
                        BIT(PTA_NET_F_CTRL_VQ) | BIT(PTA_NET_F_CTRL_RX) | BIT(PTA_NET_F_CTRL_VLAN) |
                        BIT(PTA_NET_F_CTRL_RX_EXTRA) | BIT(PTA_NET_F_GUEST_ANNOUNCE) |
                        BIT(PTA_NET_F_CTRL_MAC_ADDR);
    features |= cfg->has_mtu ? BIT(PTA_NET_F_MTU) : 0;
    features |= b->max_pairs > 1 ? BIT(PTA_NET_F_MQ) : 0;
    if (!cfg->offload) {
        return features;
    }
    features |= BIT(PTA_NET_F_CSUM) | BIT(PTA_NET_F_HOST_TSO4) | BIT(PTA_NET_F_HOST_TSO6) |
                BIT(PTA_NET_F_HOST_ECN);
    if (!b->vnet_header || b->offloads & PTA_NET_CSUM) {
        features |= BIT(PTA_NET_F_GUEST_CSUM);
    }
    features |= b->offloads & PTA_NET_TSO4 ? BIT(PTA_NET_F_GUEST_TSO4) : 0;
    features |= b->offloads & PTA_NET_TSO6 ? BIT(PTA_NET_F_GUEST_TSO6) : 0;
    features |= b->offloads & PTA_NET_ECN ? BIT(PTA_NET_F_GUEST_ECN) : 0;
    features |= b->offloads & PTA_NET_UFO ? BIT(PTA_NET_F_GUEST_UFO) | BIT(PTA_NET_F_HOST_UFO) : 0;
    return features;
}

static void net_event(void *opaque, PtaNetEvent event, const char *text)
{
    static const PtaDeviceReport reports[] = {
        [PTA_NET_EVENT_CONNECTED] = PTA_REPORT_NET_CONNECTED,
        [PTA_NET_EVENT_DISCONNECTED] = PTA_REPORT_NET_DISCONNECTED,
        [PTA_NET_EVENT_FAILED] = PTA_REPORT_NET_FAILED,
    };
    PtaDevice *dev = opaque;
    if (dev->host->report) {
        dev->host->report(dev->host, dev->id, (int)reports[event], text);
    }
}

static void make_timer(Net *net)
{
    net->timer = g_source_new(&timer_funcs, sizeof(NetTimer));
    ((NetTimer *)net->timer)->net = net;
    PTA_TSAN_RELEASE(net->timer);
    g_source_attach(net->timer, net->parent.parent.host->io_context);
}

bool pta_virtio_net_realize_with(PtaDevice *dev, PtaNet *net_backend, const VirtioNetConfig *cfg,
                                 GError **error)
{
    g_autoptr(PtaNet) backend = net_backend;
    Net *net = (Net *)dev;
    PtaVirtio *vd = &net->parent;
    if (!cfg->mac) {
        random_mac(net->mac);
    } else if (!parse_mac(cfg->mac, net->mac, error)) {
        return false;
    }
    net->net = backend;
    net->vclass = net_virtio;
    net->vclass.n_queues = 2 * backend->max_pairs + 1;
    vd->config_size = PTA_NET_CFG_SIZE;
    put_le16(vd, PTA_NET_CFG_MAX_PAIRS, (uint16_t)backend->max_pairs);
    put_le16(vd, PTA_NET_CFG_MTU, cfg->has_mtu ? cfg->mtu : 0);
    pta_rate_limit_init(&net->rx_limit, cfg->rx_rate_limit);
    pta_rate_limit_init(&net->tx_limit, cfg->tx_rate_limit);
    if (!pta_virtio_realize(vd, &net->vclass, net_features(net, cfg), cfg->queue_size, error)) {
        return false;
    }
    net->bounce = g_malloc(PTA_NET_MAX_FRAME);
    net->state.admin_up = 1;
    net->state.status = pta_net_link_up(backend) ? PTA_NET_S_LINK_UP : 0;
    make_timer(net);
    pta_net_attach(g_steal_pointer(&backend), &frontend, net);
    return true;
}

static bool net_realize(PtaDevice *dev, const void *config, GError **error)
{
    const VirtioNetConfig *cfg = config;
    PtaNetParams params = { dev->id, dev->host->io_context, dev->host->base_dir, net_event, dev };
    if (!pta_is_pow2(cfg->queue_size)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "queue-size: expected a power of two, found %u", cfg->queue_size);
    }
    PtaNet *backend = pta_net_new(cfg->net, &params, error);
    return backend && pta_virtio_net_realize_with(dev, backend, cfg, error);
}

static void stop_timer(void *data)
{
    g_source_destroy(data);
}

static void net_unrealize(PtaDevice *dev)
{
    Net *net = (Net *)dev;
    pta_io_call(dev->host->io_context, stop_timer, net->timer);
    g_source_unref(net->timer);
    pta_net_free(net->net);
    pta_virtio_unrealize(&net->parent);
    g_free(net->bounce);
}

static void net_start(PtaDevice *dev)
{
    Net *net = (Net *)dev;
    pta_virtio_device_start(dev);
    g_mutex_lock(&net->parent.lock);
    update_link_locked(net);
    wake_all(net);
    g_mutex_unlock(&net->parent.lock);
}

static PtaNet *net_backend(PtaDevice *dev)
{
    return ((Net *)dev)->net;
}

const PtaDeviceClass pta_virtio_net_class = {
    .type = "virtio-net",
    .may_wait = true,
    .instance_size = sizeof(Net),
    .realize = net_realize,
    .reset = pta_virtio_device_reset,
    .start = net_start,
    .quiesce = pta_virtio_device_quiesce,
    .unrealize = net_unrealize,
    .save = pta_virtio_device_save,
    .restore = pta_virtio_device_restore,
    .inspect = pta_virtio_device_inspect,
    .net = net_backend,
};
