/*
 * The state units of a machine: its devices, the interrupt controller, the partition, the hypervisor
 * interface. Each depends on what it needs: a VP runs when the devices do; interrupt lines are reset
 * and restored after the devices that drive them, VPs after their interrupt controller, and the
 * hypervisor interface, which reads the clock and the VPs' TSCs, last. Main thread, but for devices
 * that wait for I/O.
 */
#include "config.h"

#include "src/machine/machine-private.h"

/* ---- devices ---- */

static void device_start(void *opaque)
{
    pta_device_start(opaque);
}

static void device_stop(void *opaque)
{
    pta_device_quiesce(opaque);
}

static bool device_reset(void *opaque, GError **error)
{
    (void)error;
    pta_device_reset(opaque);
    return true;
}

static bool device_save(void *opaque, json_t **state, GError **error)
{
    (void)error;
    *state = pta_device_save(opaque);
    return true;
}

static bool device_restore(void *opaque, json_t *state, GError **error)
{
    return pta_device_restore(opaque, state, error);
}

static const PtaUnitOps device_unit = { device_start, device_stop,    device_reset,
                                        device_save,  device_restore, false };
static const PtaUnitOps waiting_device_unit = { device_start, device_stop,    device_reset,
                                                device_save,  device_restore, true };

/* ---- the partition ---- */

static void partition_start(void *opaque)
{
    pta_partition_start(((PtaVm *)opaque)->partition);
}

static void partition_stop(void *opaque)
{
    pta_partition_stop(((PtaVm *)opaque)->partition);
}

static bool partition_reset(void *opaque, GError **error)
{
    return pta_partition_reset(((PtaVm *)opaque)->partition, error);
}

static bool partition_save(void *opaque, json_t **state, GError **error)
{
    (void)error;
    *state = pta_partition_save(((PtaVm *)opaque)->partition);
    return true;
}

static bool partition_restore(void *opaque, json_t *state, GError **error)
{
    return pta_partition_restore(((PtaVm *)opaque)->partition, state, error);
}

static const PtaUnitOps partition_unit = { partition_start, partition_stop,    partition_reset,
                                           partition_save,  partition_restore, false };

/* ---- the hypervisor interface ---- */

static bool synic_reset(void *opaque, GError **error)
{
    (void)error;
    pta_hyperv_reset(((PtaVm *)opaque)->hyperv);
    return true;
}

static bool synic_save(void *opaque, json_t **state, GError **error)
{
    (void)error;
    g_autofree PtaHypervState *s = g_new(PtaHypervState, 1);
    pta_hyperv_get_state(((PtaVm *)opaque)->hyperv, s);
    *state = pta_state_save(&pta_hyperv_state, s);
    return true;
}

static bool synic_restore(void *opaque, json_t *state, GError **error)
{
    PtaVm *vm = opaque;
    g_autofree PtaHypervState *s = g_new(PtaHypervState, 1);
    pta_hyperv_set_tsc_hz(vm->hyperv, vm->backend->tsc_hz(pta_partition_backend(vm->partition)));
    return pta_state_load(&pta_hyperv_state, state, s, error) &&
           pta_hyperv_set_state(vm->hyperv, s, error);
}

static const PtaUnitOps synic_unit = { NULL, NULL, synic_reset, synic_save, synic_restore, false };

/* ---- all of them ---- */

bool pta_vm_add_units(PtaVm *vm, GError **error)
{
    static const char *const on_ioapic[] = { "ioapic", NULL };
    static const char *const on_partition[] = { "partition", NULL };
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (guint i = 0; i < vm->devices->len; i++) {
        PtaDevice *dev = g_ptr_array_index(vm->devices, i);
        const PtaUnitOps *ops = dev->klass->may_wait ? &waiting_device_unit : &device_unit;
        if (dev == vm->ioapic) {
            continue;
        }
        if (!pta_units_add(vm->units, dev->id, NULL, NULL, ops, dev, error)) {
            return false;
        }
        g_ptr_array_add(names, dev->id);
    }
    g_ptr_array_add(names, NULL);
    const char *const *devices = (const char *const *)names->pdata;
    return pta_units_add(vm->units, "ioapic", devices, NULL, &device_unit, vm->ioapic, error) &&
           pta_units_add(vm->units, "partition", on_ioapic, NULL, &partition_unit, vm, error) &&
           (!vm->hyperv ||
            pta_units_add(vm->units, "synic", on_partition, NULL, &synic_unit, vm, error));
}
