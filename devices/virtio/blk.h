/* Numbers of virtio-blk (virtio 1.2, 5.2), for the device and its tests. */
#ifndef PTA_VIRTIO_BLK_H
#define PTA_VIRTIO_BLK_H

#define PTA_BLK_DEVICE_ID 2

/* Bit numbers of features. */
#define PTA_BLK_F_SEG_MAX      2
#define PTA_BLK_F_RO           5
#define PTA_BLK_F_BLK_SIZE     6
#define PTA_BLK_F_FLUSH        9
#define PTA_BLK_F_TOPOLOGY     10
#define PTA_BLK_F_CONFIG_WCE   11
#define PTA_BLK_F_DISCARD      13
#define PTA_BLK_F_WRITE_ZEROES 14

/* Request types. */
#define PTA_BLK_T_IN           0
#define PTA_BLK_T_OUT          1
#define PTA_BLK_T_FLUSH        4
#define PTA_BLK_T_GET_ID       8
#define PTA_BLK_T_DISCARD      11
#define PTA_BLK_T_WRITE_ZEROES 13

/* Status bytes. */
#define PTA_BLK_S_OK     0
#define PTA_BLK_S_IOERR  1
#define PTA_BLK_S_UNSUPP 2

/* Offsets in the configuration space. */
#define PTA_BLK_CFG_CAPACITY            0
#define PTA_BLK_CFG_SEG_MAX             12
#define PTA_BLK_CFG_BLK_SIZE            20
#define PTA_BLK_CFG_PHYSICAL_EXP        24
#define PTA_BLK_CFG_MIN_IO_SIZE         26
#define PTA_BLK_CFG_WRITEBACK           32
#define PTA_BLK_CFG_MAX_DISCARD_SECTORS 36
#define PTA_BLK_CFG_MAX_DISCARD_SEG     40
#define PTA_BLK_CFG_DISCARD_ALIGN       44
#define PTA_BLK_CFG_MAX_WZ_SECTORS      48
#define PTA_BLK_CFG_MAX_WZ_SEG          52
#define PTA_BLK_CFG_WZ_MAY_UNMAP        56
#define PTA_BLK_CFG_SIZE                60

#define PTA_BLK_ID_BYTES                20
#define PTA_BLK_SECTOR                  512
#define PTA_BLK_HEADER                  16
#define PTA_BLK_SEGMENT                 16 /* of discard and write zeroes */
#define PTA_BLK_SEG_UNMAP               1u
#define PTA_BLK_MAX_UNMAP               0x400000u /* sectors: 2 GiB */

#include "devices/virtio/virtio.h"

struct PtaBlock;

/* realize() apart from opening the medium; takes it over, also if it fails. For tests. */
bool pta_virtio_blk_realize_with(PtaDevice *dev, struct PtaBlock *block, const char *serial,
                                 uint16_t queue_size, GError **error);

#endif
