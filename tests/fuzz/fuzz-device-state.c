/*
 * Saved states of devices, as text. One that is refused changes nothing; one that is taken is what
 * is saved next.
 */
#include "device-fuzz.h"

#include "devices/ioapic.h"
#include "devices/power.h"
#include "qmp/gen/types.h"

static FuzzMachine machine;

static void no_msi(void *opaque, uint64_t address, uint32_t data)
{
    (void)opaque, (void)address, (void)data;
}

static void restore(PtaDevice *dev, json_t *json)
{
    g_autoptr(GError) error = NULL;
    json_t *before = pta_device_save(dev);
    bool ok = pta_device_restore(dev, json, &error);
    json_t *after = pta_device_save(dev);
    g_assert(ok == (error == NULL));
    g_assert(ok || error->code == PTA_ERROR_BAD_SNAPSHOT);
    if (!ok) {
        g_assert(json_equal(before, after));
    } else {
        g_assert(pta_device_restore(dev, after, NULL));
    }
    /* Whatever was taken can be lived with. */
    pta_device_start(dev);
    machine.clock_ns += UINT64_C(1) << 40;
    fuzz_run(&machine);
    pta_device_quiesce(dev);
    g_autoptr(PtaInspectNode) node =
        pta_inspect(pta_device_inspect, dev, &(PtaInspectParams){ .depth = UINT_MAX });
    g_assert(node->kind == PTA_INSPECT_DIR);
    json_decref(before);
    json_decref(after);
}

/* Input: which device, then its state. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static PtaDevice *devs[4];
    FuzzMachine *m = &machine;
    if (!devs[0]) {
        VirtioRngConfig rng = { 0 };
        WatchdogConfig watchdog = { 0 };
        NetTapConfig tap = { .queue_pairs = 1 }; /* that waits for its descriptor */
        NetConfig net = { .type = NET_CONFIG_TYPE_TAP, .tap = &tap };
        VirtioNetConfig card = { .net = &net, .queue_size = 16, .offload = true };
        PtaIoapicConfig ioapic = { .n_pins = 24, .base = PTA_IOAPIC_BASE, .msi = no_msi };
        fuzz_machine_init(m);
        devs[0] = pta_device_new(&pta_virtio_rng_class, "rng0", &m->host, &rng, NULL);
        devs[1] = pta_device_new(&pta_ioapic_class, "ioapic", &m->host, &ioapic, NULL);
        devs[2] = pta_device_new(&pta_watchdog_class, "wd", &m->host, &watchdog, NULL);
        devs[3] = pta_device_new(&pta_virtio_net_class, "net0", &m->host, &card, NULL);
        g_assert(devs[0] && devs[1] && devs[2] && devs[3]);
    }
    if (size < 1) {
        return 0;
    }
    json_t *json = json_loadb((const char *)data + 1, size - 1, JSON_REJECT_DUPLICATES, NULL);
    if (json) {
        restore(devs[(data[0] & 0xf) % G_N_ELEMENTS(devs)], json);
        json_decref(json);
    }
    return 0;
}
