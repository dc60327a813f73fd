/*
 * A port that ends the process: a write of `value` asks for exit status (value << 1) | 1, the
 * convention of kvm-unit-tests. VP threads; it has no state.
 */
#include "config.h"

#include "devices/devices.h"
#include "qmp/gen/types.h"

#define DEBUG_EXIT_SIZE 4

typedef struct DebugExit {
    PtaDevice parent;
    PtaPlacedDevice placed; /* CONST */
} DebugExit;

static uint64_t debug_exit_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return 0;
}

static void debug_exit_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    (void)offset, (void)size;
    PtaDevice *dev = opaque;
    dev->host->power(dev->host, PTA_POWER_DEBUG_EXIT, (uint32_t)value << 1 | 1);
}

static const PtaBusOps debug_exit_ops = { .read = debug_exit_read, .write = debug_exit_write };

static bool debug_exit_realize(PtaDevice *dev, const void *config, GError **error)
{
    const DebugExitConfig *c = config;
    DebugExit *de = (DebugExit *)dev;
    PtaIrqLine none;
    return dev->host->place(dev->host, dev, PTA_PLACED_DEBUG_EXIT, true, c->port, DEBUG_EXIT_SIZE,
                            &debug_exit_ops, false, -1, &de->placed, &none, error);
}

const PtaDeviceClass pta_debug_exit_class = {
    .type = "debug-exit",
    .instance_size = sizeof(DebugExit),
    .realize = debug_exit_realize,
};
