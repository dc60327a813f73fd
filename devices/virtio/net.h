/* Numbers of virtio-net (virtio 1.2, 5.1), for the device and its tests; and what the monitor asks of it. */
#ifndef PTA_VIRTIO_NET_H
#define PTA_VIRTIO_NET_H

#include "devices/virtio/virtio.h"

#define PTA_NET_DEVICE_ID 1

/* Bit numbers of features. */
#define PTA_NET_F_CSUM           0
#define PTA_NET_F_GUEST_CSUM     1
#define PTA_NET_F_MTU            3
#define PTA_NET_F_MAC            5
#define PTA_NET_F_GUEST_TSO4     7
#define PTA_NET_F_GUEST_TSO6     8
#define PTA_NET_F_GUEST_ECN      9
#define PTA_NET_F_GUEST_UFO      10
#define PTA_NET_F_HOST_TSO4      11
#define PTA_NET_F_HOST_TSO6      12
#define PTA_NET_F_HOST_ECN       13
#define PTA_NET_F_HOST_UFO       14
#define PTA_NET_F_MRG_RXBUF      15
#define PTA_NET_F_STATUS         16
#define PTA_NET_F_CTRL_VQ        17
#define PTA_NET_F_CTRL_RX        18
#define PTA_NET_F_CTRL_VLAN      19
#define PTA_NET_F_CTRL_RX_EXTRA  20
#define PTA_NET_F_GUEST_ANNOUNCE 21
#define PTA_NET_F_MQ             22
#define PTA_NET_F_CTRL_MAC_ADDR  23

/* Offsets in the configuration space. */
#define PTA_NET_CFG_MAC       0
#define PTA_NET_CFG_STATUS    6
#define PTA_NET_CFG_MAX_PAIRS 8
#define PTA_NET_CFG_MTU       10
#define PTA_NET_CFG_SIZE      12

#define PTA_NET_S_LINK_UP     1u
#define PTA_NET_S_ANNOUNCE    2u

/* Classes and commands of the control queue. */
#define PTA_NET_CTRL_RX            0
#define PTA_NET_CTRL_RX_PROMISC    0
#define PTA_NET_CTRL_RX_ALLMULTI   1
#define PTA_NET_CTRL_RX_ALLUNI     2
#define PTA_NET_CTRL_RX_NOMULTI    3
#define PTA_NET_CTRL_RX_NOUNI      4
#define PTA_NET_CTRL_RX_NOBCAST    5
#define PTA_NET_CTRL_MAC           1
#define PTA_NET_CTRL_MAC_TABLE_SET 0
#define PTA_NET_CTRL_MAC_ADDR_SET  1
#define PTA_NET_CTRL_VLAN          2
#define PTA_NET_CTRL_VLAN_ADD      0
#define PTA_NET_CTRL_VLAN_DEL      1
#define PTA_NET_CTRL_ANNOUNCE      3
#define PTA_NET_CTRL_ANNOUNCE_ACK  0
#define PTA_NET_CTRL_MQ            4
#define PTA_NET_CTRL_MQ_PAIRS_SET  0
#define PTA_NET_CTRL_OK            0
#define PTA_NET_CTRL_ERR           1

#define PTA_NET_MAC_TABLE          64
#define PTA_NET_N_VLANS            4096

struct PtaNet;
struct VirtioNetConfig; /* qmp/gen/types.h */

/* realize() apart from opening the back end; takes it over, also if it fails. For tests. */
bool pta_virtio_net_realize_with(PtaDevice *dev, struct PtaNet *backend,
                                 const struct VirtioNetConfig *cfg, GError **error);

/* ---- for the monitor; MAIN. dev: of pta_virtio_net_class ---- */

struct RxFilterInfo; /* qmp/gen/types.h */

void pta_virtio_net_set_link(PtaDevice *dev, bool up);
/* New. NIC_RX_FILTER_CHANGED may be told again. */
struct RxFilterInfo *pta_virtio_net_rx_filter(PtaDevice *dev);
/* Asks the driver to tell the network of its address. False: it cannot. */
bool pta_virtio_net_announce(PtaDevice *dev);

#endif
