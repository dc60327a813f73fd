/*
 * Accesses to the registers of virtio-mmio, of any width, with guest memory from the input. The
 * status is always one that the state machine can reach, and what can be saved can be restored.
 */
#include "device-fuzz.h"

#include "devices/virtio/virtio.h"
#include "qmp/gen/types.h"

static FuzzMachine machine;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static PtaDevice *dev;
    FuzzMachine *m = &machine;
    if (!dev) {
        VirtioRngConfig cfg = { 0 };
        fuzz_machine_init(m);
        dev = pta_device_new(&pta_virtio_rng_class, "rng0", &m->host, &cfg, NULL);
        g_assert(dev != NULL);
    }
    FuzzInput in = { data, size };
    unsigned flags = (unsigned)fuzz_take(&in, 1);
    char *ram = pta_memory_range_host(m->host.memory, 0);
    memset(ram, 0, FUZZ_RAM);
    pta_device_start(dev);
    if (flags & 1) {
        fuzz_start_driver(m);
    }
    while (in.size > 0) {
        unsigned op = (unsigned)fuzz_take(&in, 1);
        uint64_t reg = fuzz_take(&in, 2) & 0xfff;
        unsigned width = 1u << (op >> 2 & 3);
        uint64_t value;
        switch (op & 3) {
        case 0:
            pta_bus_read(m->mmio, FUZZ_BASE + reg, width, &value);
            break;
        case 1:
            pta_bus_write(m->mmio, FUZZ_BASE + reg, width, fuzz_take(&in, width));
            break;
        case 2:
            fuzz_w32(m, reg & 0xfc, (uint32_t)fuzz_take(&in, 1));
            break;
        default: /* into the rings */
            ram[reg] = (char)fuzz_take(&in, 1);
            break;
        }
        if (op & 0x80) {
            fuzz_run(m);
        }
        uint32_t steps =
            fuzz_r32(m, PTA_VIRTIO_MMIO_STATUS) & ~(PTA_VIRTIO_S_FAILED | PTA_VIRTIO_S_NEEDS_RESET);
        g_assert(steps == 0 || steps == 1 || steps == 3 || steps == 11 || steps == 15);
        g_assert(m->level == (fuzz_r32(m, PTA_VIRTIO_MMIO_INTERRUPT_STATUS) != 0));
    }
    pta_device_quiesce(dev);
    json_t *state = pta_device_save(dev);
    pta_device_restore(dev, state, NULL); /* refused if the rings have run away meanwhile */
    json_t *again = pta_device_save(dev);
    g_assert(json_equal(state, again));
    json_decref(state);
    json_decref(again);
    pta_device_reset(dev);
    m->level = 0;
    return 0;
}
