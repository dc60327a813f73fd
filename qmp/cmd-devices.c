/* Commands about the back ends of devices: query-chardev, ringbuf-read, query-block. MAIN. */
#include "config.h"

#include "devices/block/block.h"
#include "devices/chardev/chardev.h"
#include "devices/device.h"
#include "qmp/gen/commands.h"
#include "src/machine/machine.h"

#include <sys/stat.h>

static PtaChardev *device_chardev(PtaDevice *dev)
{
    return dev->klass->chardev ? dev->klass->chardev(dev) : NULL;
}

static PtaBlock *device_block(PtaDevice *dev)
{
    return dev->klass->block ? dev->klass->block(dev) : NULL;
}

bool qmp_query_chardev(PtaVm *vm, ChardevInfo ***ret, size_t *n_ret, GError **error)
{
    *ret = g_new0(ChardevInfo *, pta_vm_n_devices(vm));
    for (size_t i = 0; i < pta_vm_n_devices(vm); i++) {
        PtaChardev *c = device_chardev(pta_vm_device(vm, i));
        if (!c) {
            continue;
        }
        ChardevInfo *info = (*ret)[(*n_ret)++] = g_new0(ChardevInfo, 1);
        info->label = g_strdup(pta_chardev_label(c));
        info->filename = pta_chardev_filename(c);
        info->frontend_open = pta_chardev_frontend_open(c);
    }
    return true;
}

bool qmp_ringbuf_read(PtaVm *vm, const RingbufReadArgs *args, char **ret, GError **error)
{
    PtaDevice *dev = pta_vm_find_device(vm, args->device);
    PtaChardev *c = dev ? device_chardev(dev) : NULL;
    if (!c) {
        return pta_throw(error, PTA_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", args->device);
    }
    g_autoptr(GBytes) bytes = pta_chardev_ringbuf_read(c, (size_t)args->size, error);
    if (!bytes) {
        return false;
    }
    gsize len;
    const void *data = g_bytes_get_data(bytes, &len);
    *ret = args->format == DATA_FORMAT_BASE64 ? g_base64_encode(data, len)
                                              : g_utf8_make_valid(data ?: "", (gssize)len);
    return true;
}

static BlockDeviceInfo *medium_info(const PtaBlock *b)
{
    ImageInfo *image = g_new0(ImageInfo, 1);
    image->filename = g_strdup(b->filename);
    image->format = g_strdup("raw");
    image->virtual_size = b->size;
    struct stat st;
    if (stat(b->filename, &st) == 0) {
        image->has_actual_size = true;
        image->actual_size = (uint64_t)st.st_blocks * 512;
    }
    BlockdevCacheInfo *cache = g_new0(BlockdevCacheInfo, 1);
    cache->writeback = true;
    cache->direct = b->direct;
    BlockDeviceInfo *info = g_new0(BlockDeviceInfo, 1);
    info->file = g_strdup(b->filename);
    info->ro = b->read_only;
    info->drv = g_strdup("raw");
    info->image = image;
    info->cache = cache;
    return info;
}

bool qmp_query_block(PtaVm *vm, BlockInfo ***ret, size_t *n_ret, GError **error)
{
    *ret = g_new0(BlockInfo *, pta_vm_n_devices(vm));
    for (size_t i = 0; i < pta_vm_n_devices(vm); i++) {
        PtaDevice *dev = pta_vm_device(vm, i);
        PtaBlock *b = device_block(dev);
        if (!b) {
            continue;
        }
        BlockInfo *info = (*ret)[(*n_ret)++] = g_new0(BlockInfo, 1);
        info->device = g_strdup(dev->id);
        info->qdev = g_strdup_printf("/devices/%s", dev->id);
        info->type = g_strdup("unknown");
        info->inserted = medium_info(b);
    }
    return true;
}
