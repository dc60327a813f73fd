/*
 * virtio-net's control queue (5.1.6.5) and what it sets: which frames are received. A command is
 * copied in before it is looked at; what is not understood is answered with an error and changes
 * nothing.
 */
#include "config.h"

#include "devices/virtio/net-private.h"

#include <endian.h>
#include <string.h>

#include "devices/virtio/iov.h"
#include "qmp/gen/types.h"

/* The longest command is a table of addresses; a longer one cannot be taken. */
#define CTRL_MAX (2 + 2 * 4 + 2 * 4096 * NET_MAC)

typedef struct Args {
    const uint8_t *data;
    size_t len;
} Args;

static bool take(Args *a, void *to, size_t len)
{
    if (a->len < len) {
        return false;
    }
    memcpy(to, a->data, len);
    a->data += len;
    a->len -= len;
    return true;
}

static bool ctrl_rx(Net *net, uint8_t command, Args *a)
{
    uint8_t *modes[] = {
        [PTA_NET_CTRL_RX_PROMISC] = &net->state.promisc,
        [PTA_NET_CTRL_RX_ALLMULTI] = &net->state.allmulti,
        [PTA_NET_CTRL_RX_ALLUNI] = &net->state.alluni,
        [PTA_NET_CTRL_RX_NOMULTI] = &net->state.nomulti,
        [PTA_NET_CTRL_RX_NOUNI] = &net->state.nouni,
        [PTA_NET_CTRL_RX_NOBCAST] = &net->state.nobcast,
    };
    unsigned feature =
        command <= PTA_NET_CTRL_RX_ALLMULTI ? PTA_NET_F_CTRL_RX : PTA_NET_F_CTRL_RX_EXTRA;
    uint8_t on;
    if (command >= G_N_ELEMENTS(modes) || !pta_virtio_has(&net->parent, feature) ||
        !take(a, &on, 1)) {
        return false;
    }
    *modes[command] = on != 0;
    return true;
}

/* One of the two tables; those that do not fit are remembered as "all". */
static bool take_table(Args *a, uint8_t *macs, unsigned room, uint8_t *n, uint8_t *overflow)
{
    uint32_t count;
    if (!take(a, &count, sizeof(count))) {
        return false;
    }
    count = le32toh(count);
    if (count > a->len / NET_MAC) {
        return false;
    }
    *overflow = count > room;
    *n = *overflow ? 0 : (uint8_t)count;
    memcpy(macs, a->data, (size_t)*n * NET_MAC);
    a->data += (size_t)count * NET_MAC;
    a->len -= (size_t)count * NET_MAC;
    return true;
}

static bool ctrl_mac(Net *net, uint8_t command, Args *a)
{
    if (command == PTA_NET_CTRL_MAC_ADDR_SET) {
        if (!pta_virtio_has(&net->parent, PTA_NET_F_CTRL_MAC_ADDR) || a->len != NET_MAC) {
            return false;
        }
        memcpy(net->state.mac, a->data, NET_MAC);
        net_put_config(net);
        return true;
    }
    NetState s = net->state;
    memset(s.macs, 0, sizeof(s.macs));
    if (command != PTA_NET_CTRL_MAC_TABLE_SET || !pta_virtio_has(&net->parent, PTA_NET_F_CTRL_RX) ||
        !take_table(a, s.macs, PTA_NET_MAC_TABLE, &s.n_uni, &s.uni_overflow) ||
        !take_table(a, s.macs + (size_t)s.n_uni * NET_MAC, PTA_NET_MAC_TABLE - s.n_uni, &s.n_multi,
                    &s.multi_overflow)) {
        return false;
    }
    net->state = s;
    return true;
}

static bool ctrl_vlan(Net *net, uint8_t command, Args *a)
{
    uint16_t id;
    if (!pta_virtio_has(&net->parent, PTA_NET_F_CTRL_VLAN) || command > PTA_NET_CTRL_VLAN_DEL ||
        !take(a, &id, sizeof(id)) || le16toh(id) >= PTA_NET_N_VLANS) {
        return false;
    }
    id = le16toh(id);
    uint8_t bit = (uint8_t)(1u << id % 8);
    if (command == PTA_NET_CTRL_VLAN_ADD) {
        net->state.vlans[id / 8] |= bit;
    } else {
        net->state.vlans[id / 8] &= (uint8_t)~bit;
    }
    return true;
}

static bool ctrl_announce(Net *net, uint8_t command)
{
    if (!pta_virtio_has(&net->parent, PTA_NET_F_GUEST_ANNOUNCE) ||
        command != PTA_NET_CTRL_ANNOUNCE_ACK || !(net->state.status & PTA_NET_S_ANNOUNCE)) {
        return false;
    }
    net->state.status &= (uint16_t)~PTA_NET_S_ANNOUNCE;
    net_put_config(net);
    return true;
}

static bool ctrl_mq(Net *net, uint8_t command, Args *a)
{
    uint16_t pairs;
    if (!pta_virtio_has(&net->parent, PTA_NET_F_MQ) || command != PTA_NET_CTRL_MQ_PAIRS_SET ||
        !take(a, &pairs, sizeof(pairs)) || le16toh(pairs) < 1 ||
        le16toh(pairs) > net_max_pairs(net)) {
        return false;
    }
    net->state.pairs = le16toh(pairs);
    net_configure_backend(net);
    return true;
}

static bool ctrl_run(Net *net, Args *a)
{
    uint8_t head[2];
    if (!take(a, head, sizeof(head))) {
        return false;
    }
    switch (head[0]) {
    case PTA_NET_CTRL_RX:
        return ctrl_rx(net, head[1], a);
    case PTA_NET_CTRL_MAC:
        return ctrl_mac(net, head[1], a);
    case PTA_NET_CTRL_VLAN:
        return ctrl_vlan(net, head[1], a);
    case PTA_NET_CTRL_ANNOUNCE:
        return ctrl_announce(net, head[1]);
    case PTA_NET_CTRL_MQ:
        return ctrl_mq(net, head[1], a);
    default:
        return false;
    }
}

/* Until the client asks, one change is told like many. */
static void tell_filter(Net *net, uint8_t klass)
{
    PtaDeviceHost *host = net->parent.parent.host;
    if (klass <= PTA_NET_CTRL_VLAN && !net->filter_told && host->report) {
        net->filter_told = true;
        host->report(host, net->parent.parent.id, PTA_REPORT_NET_RX_FILTER, "");
    }
}

static bool ctrl_request(PtaVirtio *vd, PtaQueue *q, PtaChain *chain)
{
    Net *net = net_of(vd);
    if (chain->out_len < 2 || chain->in_len < 1) {
        pta_queue_push(q, chain, 0);
        pta_queue_break(q, "a control command without a header or without room for its answer");
        return false;
    }
    size_t len = (size_t)MIN(chain->out_len, CTRL_MAX + 1);
    g_autofree uint8_t *data = g_malloc(len);
    pta_iov_to_buf(chain->iov, chain->n_out, 0, data, len);
    Args args = { data, len };
    bool ok = len <= CTRL_MAX && ctrl_run(net, &args);
    net->n_ctrl++;
    net->n_ctrl_failed += !ok;
    if (ok) {
        tell_filter(net, data[0]);
    }
    uint8_t ack = ok ? PTA_NET_CTRL_OK : PTA_NET_CTRL_ERR;
    pta_iov_from_buf(chain->iov + chain->n_out, chain->n_in, 0, &ack, 1);
    pta_virtio_complete(vd, q, chain, 1);
    return true;
}

void net_ctrl_kick(Net *net, PtaQueue *q)
{
    pta_virtio_for_each(&net->parent, q, ctrl_request);
}

/* ---- the filter ---- */

void net_filter_reset(Net *net)
{
    NetState *s = &net->state;
    *s = (NetState){ .admin_up = s->admin_up, .status = s->status, .pairs = 1, .promisc = 1 };
    memcpy(s->mac, net->mac, NET_MAC);
    net->filter_told = false;
}

static bool in_table(const uint8_t *macs, unsigned n, const uint8_t *mac)
{
    for (unsigned i = 0; i < n; i++) {
        if (memcmp(macs + (size_t)i * NET_MAC, mac, NET_MAC) == 0) {
            return true;
        }
    }
    return false;
}

static bool vlan_accepted(const Net *net, const uint8_t *frame, size_t len)
{
    if (len < 16 || frame[12] != 0x81 || frame[13] != 0 ||
        !pta_virtio_has(&net->parent, PTA_NET_F_CTRL_VLAN)) {
        return true;
    }
    unsigned id = (unsigned)(frame[14] << 8 | frame[15]) & 0xfff;
    return net->state.vlans[id / 8] >> id % 8 & 1;
}

bool net_filter_accepts(const Net *net, const uint8_t *frame, size_t len)
{
    static const uint8_t broadcast[NET_MAC] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    const NetState *s = &net->state;
    if (s->promisc) {
        return true;
    }
    if (!vlan_accepted(net, frame, len)) {
        return false;
    }
    if (memcmp(frame, broadcast, NET_MAC) == 0) {
        return !s->nobcast;
    }
    if (frame[0] & 1) {
        return !s->nomulti && (s->allmulti || s->multi_overflow ||
                               in_table(s->macs + (size_t)s->n_uni * NET_MAC, s->n_multi, frame));
    }
    return !s->nouni && (s->alluni || s->uni_overflow || memcmp(frame, s->mac, NET_MAC) == 0 ||
                         in_table(s->macs, s->n_uni, frame));
}

static char *mac_text(const uint8_t *mac)
{
    return g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
                           mac[5]);
}

void net_filter_inspect(void *obj, PtaInspect *req)
{
    const Net *net = obj;
    const NetState *s = &net->state;
    g_autofree char *mac = mac_text(s->mac);
    pta_inspect_str(req, "mac", PTA_INSPECT_PLAIN, mac);
    pta_inspect_bool(req, "promiscuous", PTA_INSPECT_PLAIN, s->promisc);
    pta_inspect_bool(req, "all-multicast", PTA_INSPECT_PLAIN, s->allmulti || s->multi_overflow);
    pta_inspect_bool(req, "all-unicast", PTA_INSPECT_PLAIN, s->alluni || s->uni_overflow);
    pta_inspect_bool(req, "broadcast", PTA_INSPECT_PLAIN, !s->nobcast);
    pta_inspect_u64(req, "unicast-addresses", PTA_INSPECT_PLAIN, s->n_uni);
    pta_inspect_u64(req, "multicast-addresses", PTA_INSPECT_PLAIN, s->n_multi);
}

/* ---- query-rx-filter ---- */

static RxState rx_state(bool none, bool all)
{
    return none ? RX_STATE_NONE : all ? RX_STATE_ALL : RX_STATE_NORMAL;
}

static char **mac_list(const uint8_t *macs, unsigned n)
{
    char **list = g_new0(char *, n + 1);
    for (unsigned i = 0; i < n; i++) {
        list[i] = mac_text(macs + (size_t)i * NET_MAC);
    }
    return list;
}

static int64_t *vlan_list(const NetState *s, size_t *n)
{
    GArray *ids = g_array_new(false, false, sizeof(int64_t));
    for (int64_t id = 0; id < PTA_NET_N_VLANS; id++) {
        if (s->vlans[id / 8] >> id % 8 & 1) {
            g_array_append_val(ids, id);
        }
    }
    *n = ids->len;
    return (int64_t *)(void *)g_array_free(ids, false);
}

RxFilterInfo *pta_virtio_net_rx_filter(PtaDevice *dev)
{
    Net *net = (Net *)dev;
    const NetState *s = &net->state;
    RxFilterInfo *info = g_new0(RxFilterInfo, 1);
    g_mutex_lock(&net->parent.lock);
    info->name = g_strdup(dev->id);
    info->promiscuous = s->promisc;
    info->multicast = rx_state(s->nomulti, s->allmulti);
    info->unicast = rx_state(s->nouni, s->alluni);
    info->vlan = pta_virtio_has(&net->parent, PTA_NET_F_CTRL_VLAN) ? RX_STATE_NORMAL : RX_STATE_ALL;
    info->broadcast_allowed = !s->nobcast;
    info->multicast_overflow = s->multi_overflow;
    info->unicast_overflow = s->uni_overflow;
    info->main_mac = mac_text(s->mac);
    info->vlan_table = vlan_list(s, &info->n_vlan_table);
    info->unicast_table = mac_list(s->macs, s->n_uni);
    info->n_unicast_table = s->n_uni;
    info->multicast_table = mac_list(s->macs + (size_t)s->n_uni * NET_MAC, s->n_multi);
    info->n_multicast_table = s->n_multi;
    net->filter_told = false;
    g_mutex_unlock(&net->parent.lock);
    return info;
}

/* ---- state ---- */

static const PtaStateField net_fields[] = {
    PTA_STATE_BLOB(NetState, mac),        PTA_STATE_U16(NetState, status),
    PTA_STATE_U16(NetState, pairs),       PTA_STATE_U8(NetState, admin_up),
    PTA_STATE_U8(NetState, promisc),      PTA_STATE_U8(NetState, allmulti),
    PTA_STATE_U8(NetState, alluni),       PTA_STATE_U8(NetState, nomulti),
    PTA_STATE_U8(NetState, nouni),        PTA_STATE_U8(NetState, nobcast),
    PTA_STATE_U8(NetState, uni_overflow), PTA_STATE_U8(NetState, multi_overflow),
    PTA_STATE_U8(NetState, n_uni),        PTA_STATE_U8(NetState, n_multi),
    PTA_STATE_BLOB(NetState, reserved),   PTA_STATE_BLOB(NetState, macs),
    PTA_STATE_BLOB(NetState, vlans),      {},
};

static bool net_validate(const void *state, GError **error)
{
    const NetState *s = state;
    const uint8_t flags[] = { s->admin_up, s->promisc,      s->allmulti,
                              s->alluni,   s->nomulti,      s->nouni,
                              s->nobcast,  s->uni_overflow, s->multi_overflow };
    bool ok = !(s->status & ~(PTA_NET_S_LINK_UP | PTA_NET_S_ANNOUNCE)) && s->pairs >= 1 &&
              s->pairs <= PTA_NET_MAX_PAIRS && s->n_uni + s->n_multi <= PTA_NET_MAC_TABLE &&
              !(s->reserved[0] | s->reserved[1] | s->reserved[2]);
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        ok = ok && flags[i] <= 1;
    }
    return ok || pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "the card's state cannot be");
}

const PtaStateDesc net_state_desc = {
    .name = "virtio-net",
    .version = 1,
    .size = sizeof(NetState),
    .fields = net_fields,
    .validate = net_validate,
};
