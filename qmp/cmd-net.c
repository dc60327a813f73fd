/* Commands about network cards. MAIN. */
#include "config.h"

#include <unistd.h>

#include "devices/devices.h"
#include "devices/net/net.h"
#include "devices/virtio/net.h"
#include "qmp/gen/commands.h"
#include "src/machine/machine.h"

static PtaDevice *find_card(PtaVm *vm, const char *name, GError **error)
{
    PtaDevice *dev = pta_vm_find_device(vm, name);
    if (dev && dev->klass == &pta_virtio_net_class) {
        return dev;
    }
    pta_throw(error, PTA_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", name);
    return NULL;
}

bool qmp_set_link(PtaVm *vm, const SetLinkArgs *args, GError **error)
{
    PtaDevice *dev = find_card(vm, args->name, error);
    if (!dev) {
        return false;
    }
    pta_virtio_net_set_link(dev, args->up);
    return true;
}

bool qmp_query_rx_filter(PtaVm *vm, const QueryRxFilterArgs *args, RxFilterInfo ***ret,
                         size_t *n_ret, GError **error)
{
    if (args->name && !find_card(vm, args->name, error)) {
        return false;
    }
    *ret = g_new0(RxFilterInfo *, pta_vm_n_devices(vm));
    for (size_t i = 0; i < pta_vm_n_devices(vm); i++) {
        PtaDevice *dev = pta_vm_device(vm, i);
        if (dev->klass == &pta_virtio_net_class &&
            (!args->name || g_str_equal(args->name, dev->id))) {
            (*ret)[(*n_ret)++] = pta_virtio_net_rx_filter(dev);
        }
    }
    return true;
}
