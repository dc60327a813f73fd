/* The life of a device, the same for all; the list of all classes. MAIN, unless device.h says else. */
#include "config.h"

#include "devices/device.h"

#include "devices/block/block.h"
#include "devices/chardev/chardev.h"
#include "devices/devices.h"
#include "devices/net/net.h"

#include <string.h>

const PtaDeviceClass *const pta_device_classes[] = {
    &pta_debug_exit_class, &pta_rtc_cmos_class,   &pta_uart16550_class,
    &pta_virtio_blk_class, &pta_virtio_net_class, &pta_virtio_rng_class,
    &pta_pvpanic_class,    &pta_watchdog_class,   NULL,
};

const PtaDeviceClass *pta_device_class_find(const char *type)
{
    for (size_t i = 0; pta_device_classes[i]; i++) {
        if (strcmp(pta_device_classes[i]->type, type) == 0) {
            return pta_device_classes[i];
        }
    }
    return NULL;
}

static void device_destroy(PtaDevice *dev)
{
    dev->host->unplace(dev->host, dev);
    g_free(dev->id);
    g_free(dev);
}

PtaDevice *pta_device_new(const PtaDeviceClass *klass, const char *id, PtaDeviceHost *host,
                          const void *config, GError **error)
{
    g_assert(klass->instance_size >= sizeof(PtaDevice));
    PtaDevice *dev = g_malloc0(klass->instance_size);
    dev->klass = klass;
    dev->id = g_strdup(id);
    dev->host = host;
    if (!klass->realize(dev, config, error)) {
        g_prefix_error(error, "%s: ", id);
        device_destroy(dev);
        return NULL;
    }
    g_atomic_int_set(&dev->phase, PTA_DEVICE_REALIZED);
    pta_device_reset(dev);
    return dev;
}

void pta_device_start(PtaDevice *dev)
{
    g_assert(dev->phase == PTA_DEVICE_REALIZED);
    g_atomic_int_set(&dev->phase, PTA_DEVICE_STARTED);
    if (dev->klass->start) {
        dev->klass->start(dev);
    }
}

void pta_device_quiesce(PtaDevice *dev)
{
    if (dev->phase != PTA_DEVICE_STARTED) {
        return;
    }
    if (dev->klass->quiesce) {
        dev->klass->quiesce(dev);
    }
    g_atomic_int_set(&dev->phase, PTA_DEVICE_REALIZED);
}

void pta_device_reset(PtaDevice *dev)
{
    g_assert(dev->phase == PTA_DEVICE_REALIZED);
    if (dev->klass->reset) {
        dev->klass->reset(dev);
    }
}

void pta_device_free(PtaDevice *dev)
{
    if (!dev) {
        return;
    }
    pta_device_quiesce(dev);
    if (dev->klass->unrealize) {
        dev->klass->unrealize(dev);
    }
    device_destroy(dev);
}

json_t *pta_device_save(PtaDevice *dev)
{
    g_assert(dev->phase == PTA_DEVICE_REALIZED);
    if (dev->klass->save) {
        return dev->klass->save(dev);
    }
    if (dev->klass->state) {
        return pta_state_save(dev->klass->state, (char *)dev + dev->klass->state_offset);
    }
    return NULL;
}

bool pta_device_restore(PtaDevice *dev, json_t *json, GError **error)
{
    g_assert(dev->phase == PTA_DEVICE_REALIZED);
    const PtaDeviceClass *klass = dev->klass;
    bool ok;
    if (klass->restore) {
        ok = klass->restore(dev, json, error);
    } else if (klass->state) {
        ok = pta_state_load(klass->state, json, (char *)dev + klass->state_offset, error);
    } else {
        ok = pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "%s has no state to restore", klass->type);
    }
    if (!ok) {
        g_prefix_error(error, "%s: ", dev->id);
        return false;
    }
    if (klass->restored) {
        klass->restored(dev);
    }
    return true;
}

static void inspect_chardev(void *obj, PtaInspect *req)
{
    pta_chardev_inspect(obj, req);
}

static void inspect_block(void *obj, PtaInspect *req)
{
    pta_block_inspect(obj, req);
}

static void inspect_net(void *obj, PtaInspect *req)
{
    pta_net_inspect(obj, req);
}

void pta_device_inspect(void *obj, PtaInspect *req)
{
    PtaDevice *dev = obj;
    const PtaDeviceClass *klass = dev->klass;
    pta_inspect_str(req, "type", PTA_INSPECT_SAFE, klass->type);
    pta_inspect_bool(req, "started", PTA_INSPECT_SAFE,
                     g_atomic_int_get(&dev->phase) == PTA_DEVICE_STARTED);
    if (klass->inspect) {
        klass->inspect(dev, req);
    }
    PtaChardev *chardev = klass->chardev ? klass->chardev(dev) : NULL;
    if (chardev) {
        pta_inspect_child(req, "chardev", PTA_INSPECT_PLAIN, inspect_chardev, chardev);
    }
    PtaBlock *block = klass->block ? klass->block(dev) : NULL;
    if (block) {
        pta_inspect_child(req, "block", PTA_INSPECT_PLAIN, inspect_block, block);
    }
    PtaNet *net = klass->net ? klass->net(dev) : NULL;
    if (net) {
        pta_inspect_child(req, "net", PTA_INSPECT_PLAIN, inspect_net, net);
    }
}
