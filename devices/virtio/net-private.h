/* What net.c and net-ctrl.c share, and nobody else. */
#ifndef PTA_VIRTIO_NET_PRIVATE_H
#define PTA_VIRTIO_NET_PRIVATE_H

#include "devices/net/net.h"
#include "devices/rate-limit.h"
#include "devices/virtio/net.h"

#define NET_MAC 6

/* What the driver knows or has set. */
typedef struct NetState {
    uint8_t mac[NET_MAC];
    uint16_t status;  /* as in the configuration space */
    uint16_t pairs;   /* in use */
    uint8_t admin_up; /* set_link */
    uint8_t promisc;
    uint8_t allmulti;
    uint8_t alluni;
    uint8_t nomulti;
    uint8_t nouni;
    uint8_t nobcast;
    uint8_t uni_overflow;
    uint8_t multi_overflow;
    uint8_t n_uni;   /* the first ones of macs */
    uint8_t n_multi; /* the next ones */
    uint8_t reserved[3];
    uint8_t macs[PTA_NET_MAC_TABLE * NET_MAC];
    uint8_t vlans[PTA_NET_N_VLANS / 8];
} NetState;

typedef struct NetPairStats {
    uint64_t rx_packets, rx_bytes, rx_dropped, rx_filtered;
    uint64_t tx_packets, tx_bytes, tx_dropped;
} NetPairStats;

/* What is under way in a pair; nothing of it is saved: a packet that is held back is held back by the
 * back end (received), or is still in the ring (sent). */
typedef struct NetPair {
    NetPairStats stats;
    bool rx_blocked; /* the back end holds a packet */
    bool tx_blocked; /* a packet waits for the back end, or for tokens */
    bool rx_paid;    /* the packet has its tokens */
    bool tx_paid;
    unsigned tx_segments; /* of a large packet, that have been sent */
} NetPair;

typedef struct Net {
    PtaVirtio parent;
    PtaVirtioClass vclass; /* CONST: with as many queues as there are */
    PtaNet *net;           /* CONST */
    uint8_t mac[NET_MAC];  /* CONST: of the description */
    GSource *timer;        /* CONST: for the limits */
    uint8_t *bounce;       /* context: a frame in one piece */
    NetState state;        /* LOCKED(parent.lock), as what follows */
    NetPair pairs[PTA_NET_MAX_PAIRS];
    PtaRateLimit rx_limit, tx_limit;
    uint64_t n_ctrl, n_ctrl_failed;
    unsigned segments; /* of this turn */
    bool filter_told;  /* NIC_RX_FILTER_CHANGED, since the last query */
} Net;

static inline Net *net_of(PtaVirtio *vd)
{
    return (Net *)vd;
}

static inline unsigned net_max_pairs(const Net *net)
{
    return net->net->max_pairs;
}

/* The control queue follows the last pair that the driver knows of (5.1.2). */
static inline unsigned net_ctrl_queue(const Net *net)
{
    return pta_virtio_has(&net->parent, PTA_NET_F_MQ) ? 2 * net_max_pairs(net) : 2;
}

extern const PtaStateDesc net_state_desc;

/* net-ctrl.c; lock held */
void net_ctrl_kick(Net *net, PtaQueue *q);
void net_filter_reset(Net *net);
bool net_filter_accepts(const Net *net, const uint8_t *frame, size_t len);
void net_filter_inspect(void *net, PtaInspect *req);

/* net.c; lock held */
void net_put_config(Net *net);
void net_configure_backend(Net *net);

#endif
