/*
 * Where boot data lies in an x86 guest, and why. Every fixed address of src/boot/ is here. The rest
 * is computed: the kernel lies where its image says, the initial RAM disk as high as the kernel
 * allows.
 *
 *     0x00000  interrupt vectors and BIOS data area: 0x40e EBDA segment, 0x413 KiB of low memory
 *     0x00500  GDT
 *     0x06000  PVH start information, modules, memory map
 *     0x07000  Linux boot_params (the "zero page")
 *     0x08000  stack of the first instructions
 *     0x09000  page tables: identity map of the first 4 GiB
 *     0x10000  multiboot information
 *     0x20000  command line
 *     0x9fc00  EBDA                                  reserved in the memory map
 *     0xa0000  (video memory and option ROMs of a PC: not RAM for the guest)
 *     0xe0000  RSDP and the other ACPI tables        reserved in the memory map
 *     0xffff0  reset vector                          reserved with them
 *    0x100000  RAM
 */
#ifndef PTA_BOOT_LAYOUT_H
#define PTA_BOOT_LAYOUT_H

#include <stdint.h>

/* BIOS data area. Linux (arch/x86/kernel/ebda.c) and ACPICA look here for the end of low memory
 * and for the extended BIOS data area; zeros would make Linux guess. */
#define PTA_BOOT_BDA_EBDA_SEGMENT UINT64_C(0x40e)
#define PTA_BOOT_BDA_LOW_KIB      UINT64_C(0x413)

/* Right behind the BIOS data area: no boot protocol and no kernel puts anything there. */
#define PTA_BOOT_GDT UINT64_C(0x500)

/* One page: 56 bytes of hvm_start_info, one module, the memory map. */
#define PTA_BOOT_PVH_INFO      UINT64_C(0x6000)
#define PTA_BOOT_PVH_INFO_SIZE UINT64_C(0x1000)

#define PTA_BOOT_ZERO_PAGE     UINT64_C(0x7000)

/* Linux sets its own stack before its first push; other kernels may not. Top of a page. */
#define PTA_BOOT_STACK     UINT64_C(0x8000)
#define PTA_BOOT_STACK_TOP UINT64_C(0x8ff0)

/* One PML4, one page directory pointer table, four page directories of 2 MiB pages: the 64-bit
 * boot protocol wants the kernel, boot_params and the command line identity-mapped. */
#define PTA_BOOT_PAGE_TABLES         UINT64_C(0x9000)
#define PTA_BOOT_PAGE_TABLES_SIZE    UINT64_C(0x6000)

#define PTA_BOOT_MULTIBOOT_INFO      UINT64_C(0x10000)
#define PTA_BOOT_MULTIBOOT_INFO_SIZE UINT64_C(0x10000)

/* 64 KiB with its final NUL. Below 1 MiB, where each protocol can point to. */
#define PTA_BOOT_CMDLINE      UINT64_C(0x20000)
#define PTA_BOOT_CMDLINE_SIZE UINT64_C(0x10000)

/* 1 KiB at the end of conventional memory, where a PC has it. */
#define PTA_BOOT_EBDA    UINT64_C(0x9fc00)

#define PTA_BOOT_LOW_END UINT64_C(0xa0000)

/* The RSDP is found by scanning 0xe0000-0xfffff on 16-byte boundaries (ACPI 6.4, 5.2.5.1); the
 * tables follow it, so that one reserved area holds them all. */
#define PTA_BOOT_ACPI      UINT64_C(0xe0000)
#define PTA_BOOT_ACPI_SIZE UINT64_C(0x1fff0)

/* Where a PC's firmware begins. To restart a machine with hardware-reduced ACPI and without UEFI,
 * Linux ends by jumping here in real mode (arch/x86/kernel/reboot.c): the code here asks the reset
 * register for it. */
#define PTA_BOOT_RESET_VECTOR      UINT64_C(0xffff0)
#define PTA_BOOT_RESET_VECTOR_SIZE UINT64_C(0x10)

#define PTA_BOOT_HIGH_START        UINT64_C(0x100000)

/* The identity map ends here, and so do the 32-bit pointers of the boot protocols. */
#define PTA_BOOT_4G UINT64_C(0x100000000)

/* Local APICs and, in its page, nothing else. */
#define PTA_BOOT_LAPIC UINT64_C(0xfee00000)

#endif
