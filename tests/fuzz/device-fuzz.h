/*
 * What the device targets share: a machine without processors, made once, and a reader of the input
 * that gives zeros when it is used up.
 */
#ifndef PTA_DEVICE_FUZZ_H
#define PTA_DEVICE_FUZZ_H

#include "config.h"

#include <string.h>

#include "devices/devices.h"
#include "devices/mmio-manager.h"
#include "devices/virtio/mmio.h"

#define FUZZ_RAM  UINT64_C(0x10000)
#define FUZZ_BASE UINT64_C(0xd0000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct FuzzInput {
    const uint8_t *data;
    size_t size;
} FuzzInput;

static inline uint64_t fuzz_take(FuzzInput *in, unsigned n)
{
    uint64_t value = 0;
    unsigned got = (unsigned)MIN(n, in->size);
    memcpy(&value, in->data, got);
    in->data += got;
    in->size -= got;
    return value;
}

typedef struct FuzzMachine {
    PtaBus *mmio;
    PtaMmioManager *manager;
    PtaDeviceHost host;
    unsigned level;    /* of the interrupt line */
    uint64_t clock_ns; /* the partition's time */
} FuzzMachine;

static inline void fuzz_set_irq(void *opaque, unsigned pin, bool level)
{
    (void)pin;
    ((FuzzMachine *)opaque)->level = level;
}

static inline void fuzz_power(PtaDeviceHost *host, int what, uint32_t code)
{
    (void)host, (void)what, (void)code;
}

static inline uint64_t fuzz_clock_ns(PtaDeviceHost *host)
{
    return ((FuzzMachine *)host->opaque)->clock_ns;
}

static inline void fuzz_quiet(const char *domain, GLogLevelFlags level, const char *text,
                              gpointer data)
{
    (void)domain, (void)level, (void)text, (void)data;
}

static inline void fuzz_machine_init(FuzzMachine *m)
{
    const PtaRamRange range = { 0, FUZZ_RAM };
    pta_thread_init_main();
    g_log_set_always_fatal(G_LOG_FATAL_MASK); /* a medium that fails is part of the game */
    g_log_set_default_handler(fuzz_quiet, NULL);
    m->mmio = pta_bus_new("mmio");
    m->manager = pta_mmio_manager_new(&(PtaMmioManagerParams){
        .mmio = m->mmio,
        .base = FUZZ_BASE,
        .limit = FUZZ_BASE + 0x10000,
        .irq_first = 5,
        .irq_last = 15,
        .n_irqs = 24,
    });
    pta_mmio_manager_connect(m->manager, fuzz_set_irq, m, NULL);
    m->host = (PtaDeviceHost){
        .memory = pta_memory_new(&range, 1, NULL),
        .io_context = g_main_context_new(),
        .opaque = m,
        .power = fuzz_power,
        .clock_ns = fuzz_clock_ns,
        .base_dir = "/",
    };
    g_assert(m->host.memory != NULL);
    pta_mmio_manager_attach(m->manager, &m->host);
}

static inline void fuzz_run(FuzzMachine *m)
{
    for (unsigned i = 0; i < 100 && g_main_context_iteration(m->host.io_context, false); i++) {}
}

static inline uint32_t fuzz_r32(FuzzMachine *m, uint64_t reg)
{
    uint64_t value = 0;
    pta_bus_read(m->mmio, FUZZ_BASE + reg, 4, &value);
    return (uint32_t)value;
}

static inline void fuzz_w32(FuzzMachine *m, uint64_t reg, uint32_t value)
{
    pta_bus_write(m->mmio, FUZZ_BASE + reg, 4, value);
}

/* A driver that gets as far as DRIVER_OK: rings of 16 entries at 0, 0x100 and 0x200. */
static inline void fuzz_start_driver(FuzzMachine *m)
{
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 0);
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 1);
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 3);
    for (uint32_t page = 0; page < 2; page++) {
        fuzz_w32(m, PTA_VIRTIO_MMIO_DEVICE_FEATURES_SEL, page);
        fuzz_w32(m, PTA_VIRTIO_MMIO_DRIVER_FEATURES_SEL, page);
        fuzz_w32(m, PTA_VIRTIO_MMIO_DRIVER_FEATURES, fuzz_r32(m, PTA_VIRTIO_MMIO_DEVICE_FEATURES));
    }
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 11);
    fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_SEL, 0);
    fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_NUM, 16);
    fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_DRIVER_LOW, 0x100);
    fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_DEVICE_LOW, 0x200);
    fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_READY, 1);
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 15);
}

#endif
