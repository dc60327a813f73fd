/*
 * The panic device of QEMU (its docs/specs/pvpanic.rst): one port that the guest's kernel writes to
 * when it has panicked, or when it loads a crash kernel that will look into it. Linux finds it by the
 * ACPI id QEMU0001 (drivers/misc/pvpanic). VP threads; it has no state.
 */
#include "config.h"

#include "devices/devices.h"
#include "qmp/gen/types.h"

#define PANICKED     1u
#define CRASH_LOADED 2u

typedef struct Pvpanic {
    PtaDevice parent;
    PtaPlacedDevice placed; /* CONST */
} Pvpanic;

/* The events that it knows. */
static uint64_t pvpanic_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque, (void)size;
    return offset == 0 ? PANICKED | CRASH_LOADED : 0xff;
}

static void pvpanic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    (void)size;
    PtaDevice *dev = opaque;
    if (offset != 0) {
        return;
    }
    if (value & ~(uint64_t)(PANICKED | CRASH_LOADED)) {
        PTA_GUEST_ERROR("%s: unknown events 0x%x", dev->id, (unsigned)value & 0xff);
    }
    if (value & PANICKED) {
        dev->host->power(dev->host, PTA_POWER_PANIC, PANICKED);
    } else if (value & CRASH_LOADED) {
        dev->host->power(dev->host, PTA_POWER_CRASH_LOADED, 0);
    }
}

static const PtaBusOps pvpanic_ops = { pvpanic_read, pvpanic_write };

static bool pvpanic_realize(PtaDevice *dev, const void *config, GError **error)
{
    const PvpanicConfig *c = config;
    Pvpanic *pv = (Pvpanic *)dev;
    PtaIrqLine none;
    return dev->host->place(dev->host, dev, PTA_PLACED_PVPANIC, true, c->port, 1, &pvpanic_ops,
                            false, -1, &pv->placed, &none, error);
}

const PtaDeviceClass pta_pvpanic_class = {
    .type = "pvpanic",
    .instance_size = sizeof(Pvpanic),
    .realize = pvpanic_realize,
};
