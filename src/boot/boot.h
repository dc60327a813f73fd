/*
 * Puts a kernel, its initial RAM disk, its command line and the description of the machine into
 * guest memory, and sets the boot processor's registers so that the kernel starts without firmware.
 *
 * What the image is, is told from its content: a Linux bzImage (its compressed payload is unpacked
 * on the host and entered by the 64-bit boot protocol), an ELF file with a multiboot-1 header, an
 * ELF file with a PVH note, or an ELF64 vmlinux.
 *
 * Nothing here knows the machine: these are functions of memory and of the table of placed devices.
 * Threads: MAIN, while no VP runs.
 */
#ifndef PTA_BOOT_H
#define PTA_BOOT_H

#include "devices/device.h"
#include "src/memory/memory.h"
#include "src/partition/x86-state.h"
#include "src/util/util.h"

/* All lent for the call. */
typedef struct PtaBootParams {
    const char *kernel_path;
    const char *initrd_path; /* NULL: none */
    const char *cmdline;     /* NULL: empty */
    const PtaPlacedDevice *devices;
    size_t n_devices;
    unsigned n_vps; /* APIC ids are 0 to n_vps - 1 */
    uint8_t ioapic_id;
    bool vmbus;        /* the DSDT names a VMBus */
    bool mmio_cmdline; /* append a virtio_mmio.device= for each virtio device: for Linux kernels
                            without ACPI; the others would find each device twice */
} PtaBootParams;

/*
 * Loads everything. `bsp` comes as pta_x86_state_reset() left it, and its registers are changed to
 * the entry state of the image's boot protocol.
 *
 * May be called again, for a reset of the machine: RAM need not be cleared before, for all that
 * the protocols want zeroed is written. The files are read anew each time and not kept, so a reset
 * boots what the paths name then, and the VMM does not carry a second copy of the kernel; a file
 * that has become unusable is an error of that reset.
 *
 * Errors: BAD_IMAGE (the file, what was found, what was expected), BAD_DESCRIPTION (the command
 * line, or the machine, does not fit), HOST (a file cannot be read).
 */
bool pta_boot_load(PtaMemory *mem, const PtaBootParams *params, PtaX86State *bsp, GError **error);

/*
 * The part of it that depends on the table of placed devices, written anew: a machine is loaded
 * before its devices exist, so that an unusable kernel is refused before they touch the host.
 * Not for `mmio_cmdline`, whose command line depends on the table as well.
 */
bool pta_boot_write_tables(PtaMemory *mem, const PtaBootParams *params, GError **error);

/* The same as pta_boot_load() with the kernel's bytes at hand; kernel_path is then only its name in errors. */
bool pta_boot_load_image(PtaMemory *mem, const PtaBootParams *params, const uint8_t *image,
                         size_t len, PtaX86State *bsp, GError **error);

#endif
