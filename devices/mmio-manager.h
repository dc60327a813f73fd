/*
 * Places devices: 4 KiB windows of guest-physical addresses, ports, interrupts. It alone puts
 * ranges on the machine's two buses on behalf of devices, and its table is the only source for the
 * ACPI tables, the FDT and the kernel's command line.
 *
 * Threads: MAIN, while no VP runs; interrupt lines from any thread.
 */
#ifndef PTA_MMIO_MANAGER_H
#define PTA_MMIO_MANAGER_H

#include "devices/device.h"

#define PTA_MMIO_WINDOW UINT64_C(0x1000)

typedef struct PtaMmioManager PtaMmioManager;

typedef struct PtaMmioManagerParams {
    PtaBus *mmio; /* lent; so is pio, which may be NULL on a machine without ports */
    PtaBus *pio;
    uint64_t base;      /* windows are given out from here … (x86: 0xd0000000) */
    uint64_t limit;     /* … up to here, exclusive */
    unsigned irq_first; /* the range from which irq -1 is served … */
    unsigned irq_last;  /* … inclusive */
    unsigned n_irqs;    /* interrupts asked for by number are below this */
} PtaMmioManagerParams;

PtaMmioManager *pta_mmio_manager_new(const PtaMmioManagerParams *params);
void pta_mmio_manager_free(PtaMmioManager *m); /* all devices were freed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaMmioManager, pta_mmio_manager_free)

/* Where the interrupt lines lead to (pta_ioapic_set and the IOAPIC), and what makes eventfds of them
 * (NULL: nothing; lent): before the first device that has one is placed. */
void pta_mmio_manager_connect(PtaMmioManager *m,
                              void (*set)(void *opaque, unsigned pin, bool level), void *opaque,
                              PtaIrqFds *fds);

/* Sets host->manager, place and unplace. */
void pta_mmio_manager_attach(PtaMmioManager *m, PtaDeviceHost *host);

/* PtaDeviceHost.place and unplace. Errors: GENERIC_ERROR "no more IRQs are available", "no more
 * device windows are available", "… overlaps …", an id or an interrupt that is taken. On failure
 * nothing has changed. */
bool pta_mmio_manager_place(PtaDeviceHost *host, PtaDevice *dev, PtaPlacedKind kind, bool pio,
                            uint64_t base, uint64_t size, const PtaBusOps *ops, bool with_irq,
                            int irq, PtaPlacedDevice *placed, PtaIrqLine *line, GError **error);
void pta_mmio_manager_unplace(PtaDeviceHost *host, PtaDevice *dev);

/* The table, in the order of placement; valid until the next place or unplace. */
size_t pta_mmio_manager_count(const PtaMmioManager *m);
const PtaPlacedDevice *pta_mmio_manager_get(const PtaMmioManager *m, size_t i);
/* The first place of that kind and id (any id if NULL); NULL: "the device couldn't be found". */
const PtaPlacedDevice *pta_mmio_manager_find(const PtaMmioManager *m, PtaPlacedKind kind,
                                             const char *id);

/* "uart16550", "virtio-mmio": for inspect. */
const char *pta_placed_kind_name(PtaPlacedKind kind);

#endif
