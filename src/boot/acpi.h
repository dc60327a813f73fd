/*
 * The ACPI tables of a machine, rendered from the table of placed devices: hardware-reduced ACPI
 * (ACPI 6.4, 4.1), without FACS, PM timer, GPE blocks and SCI.
 */
#ifndef PTA_BOOT_ACPI_H
#define PTA_BOOT_ACPI_H

#include "devices/device.h"
#include "src/util/util.h"

typedef struct PtaAcpiParams {
    const PtaPlacedDevice *devices;
    size_t n_devices;
    unsigned n_vps; /* APIC ids and processor UIDs are 0 to n_vps - 1 */
    uint8_t ioapic_id;
    bool vmbus;
} PtaAcpiParams;

/*
 * RSDP, XSDT, FADT, MADT, DSDT and, if there is a watchdog, WDAT as one piece that is to lie at `base`, where a kernel scans for
 * it; the RSDP is its first byte. NULL and class BAD_DESCRIPTION if that is more than `max` bytes,
 * or the table of devices cannot be described.
 */
GByteArray *pta_acpi_build(const PtaAcpiParams *params, uint64_t base, size_t max, GError **error);

#endif
