/*
 * The flattened device tree of a machine (Devicetree specification 0.4), rendered from the table of
 * placed devices.
 */
#ifndef PTA_BOOT_FDT_H
#define PTA_BOOT_FDT_H

#include "devices/device.h"
#include "src/memory/memory.h"
#include "src/util/util.h"

typedef enum PtaFdtArch {
    PTA_FDT_X86_64,
} PtaFdtArch;

typedef struct PtaFdtParams {
    PtaFdtArch arch;
    const PtaRamRange *ram;
    size_t n_ram;
    unsigned n_vps;
    const char *cmdline; /* NULL: none */
    uint64_t initrd_gpa;
    uint64_t initrd_size; /* 0: none */
    const PtaPlacedDevice *devices;
    size_t n_devices;
} PtaFdtParams;

/* The tree, packed. NULL and class BAD_DESCRIPTION if it is larger than `max` bytes or the table of
 * devices cannot be described. */
GByteArray *pta_fdt_build(const PtaFdtParams *params, size_t max, GError **error);

#endif
