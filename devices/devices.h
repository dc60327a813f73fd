/* The device classes that a machine description can name; for device.c and for tests. */
#ifndef PTA_DEVICES_H
#define PTA_DEVICES_H

#include "devices/device.h"

extern const PtaDeviceClass pta_debug_exit_class;
extern const PtaDeviceClass pta_pvpanic_class;
extern const PtaDeviceClass pta_rtc_cmos_class;
extern const PtaDeviceClass pta_uart16550_class;
extern const PtaDeviceClass pta_virtio_blk_class;
extern const PtaDeviceClass pta_virtio_net_class;
extern const PtaDeviceClass pta_virtio_rng_class;
extern const PtaDeviceClass pta_watchdog_class;

#endif
