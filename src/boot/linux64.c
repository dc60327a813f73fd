/*
 * The 64-bit boot protocol of Linux (Documentation/x86/boot.rst, zero-page.rst): boot_params, the
 * initial RAM disk, the command line, and entry in 64-bit mode at the vmlinux's own start.
 */
#include "config.h"

#include "src/boot/loader.h"

#include <inttypes.h>

#include "src/boot/layout.h"

/* Offsets in struct boot_params; from 0x1f1 on they are those of a bzImage. */
enum {
    BP_ACPI_RSDP_ADDR = 0x070,
    BP_E820_ENTRIES = 0x1e8,
    BP_HDR = 0x1f1,
    BP_VID_MODE = 0x1fa,
    BP_BOOT_FLAG = 0x1fe,
    BP_MAGIC = 0x202,
    BP_VERSION = 0x206,
    BP_TYPE_OF_LOADER = 0x210,
    BP_LOADFLAGS = 0x211,
    BP_CODE32_START = 0x214,
    BP_RAMDISK_IMAGE = 0x218,
    BP_RAMDISK_SIZE = 0x21c,
    BP_CMD_LINE_PTR = 0x228,
    BP_INITRD_ADDR_MAX = 0x22c,
    BP_KERNEL_ALIGNMENT = 0x230,
    BP_XLOADFLAGS = 0x236,
    BP_CMDLINE_SIZE = 0x238,
    BP_SETUP_DATA = 0x250,
    BP_E820_TABLE = 0x2d0,
    BP_SIZE = 4096,
    E820_ENTRY_SIZE = 20,
};

enum {
    LOADED_HIGH = 1 << 0,
    LOADFLAGS_KEEP = 0x20, /* QUIET_FLAG: the builder's choice, not the loader's */
    LOADER_UNDEFINED = 0xff,
    VID_MODE_NORMAL = 0xffff,
};

/* What a vmlinux without a setup header is taken for: a Linux that can do all of protocol 2.15. */
enum {
    PLAIN_VERSION = 0x020f,
    PLAIN_CMDLINE_SIZE = 2047,
    PLAIN_INITRD_ADDR_MAX = 0x7fffffff,
    PLAIN_ALIGNMENT = 0x200000,
    XLF_KERNEL_64 = 1 << 0,
};

static void plain_header(uint8_t *bp)
{
    pta_put_le16(bp + BP_BOOT_FLAG, 0xaa55);
    memcpy(bp + BP_MAGIC, "HdrS", 4);
    pta_put_le16(bp + BP_VERSION, PLAIN_VERSION);
    pta_put_le32(bp + BP_INITRD_ADDR_MAX, PLAIN_INITRD_ADDR_MAX);
    pta_put_le32(bp + BP_KERNEL_ALIGNMENT, PLAIN_ALIGNMENT);
    pta_put_le16(bp + BP_XLOADFLAGS, XLF_KERNEL_64);
    pta_put_le32(bp + BP_CMDLINE_SIZE, PLAIN_CMDLINE_SIZE);
}

static void put_e820(uint8_t *bp, const PtaBootMap *map)
{
    bp[BP_E820_ENTRIES] = (uint8_t)map->n;
    for (size_t i = 0; i < map->n; i++) {
        uint8_t *e = bp + BP_E820_TABLE + i * E820_ENTRY_SIZE;
        pta_put_le64(e, map->entry[i].gpa);
        pta_put_le64(e + 8, map->entry[i].size);
        pta_put_le32(e + 16, map->entry[i].type);
    }
}

bool pta_boot_linux64(PtaBootLoader *l, const PtaBootElf *elf, const uint8_t *header, size_t len,
                      GError **error)
{
    G_STATIC_ASSERT(BP_E820_TABLE + PTA_BOOT_MAP_MAX * E820_ENTRY_SIZE <= BP_SIZE);
    if (!elf->is64) {
        return pta_boot_refuse(l, error, "is a 32-bit Linux, expected a 64-bit one");
    }
    if (elf->end > PTA_BOOT_4G) {
        return pta_boot_refuse(l, error, "loads up to 0x%" PRIx64 ", expected below 4 GiB",
                               elf->end);
    }
    uint8_t bp[BP_SIZE] = { 0 };
    if (header) {
        g_assert(BP_HDR + len <= BP_E820_TABLE);
        memcpy(bp + BP_HDR, header, len);
    } else {
        plain_header(bp);
    }
    bp[BP_TYPE_OF_LOADER] = LOADER_UNDEFINED;
    bp[BP_LOADFLAGS] = (uint8_t)((bp[BP_LOADFLAGS] & LOADFLAGS_KEEP) | LOADED_HIGH);
    pta_put_le16(bp + BP_VID_MODE, VID_MODE_NORMAL);
    pta_put_le32(bp + BP_CODE32_START, (uint32_t)elf->entry);
    pta_put_le64(bp + BP_SETUP_DATA, 0);

    if (!pta_boot_take(l, PTA_BOOT_ZERO_PAGE, BP_SIZE, "boot_params", error) ||
        !pta_boot_place_cmdline(l, "", pta_le32(bp + BP_CMDLINE_SIZE), error) ||
        !pta_boot_enter_long64(l, elf->entry, PTA_BOOT_ZERO_PAGE, error)) {
        return false;
    }
    uint64_t initrd_bound = (uint64_t)pta_le32(bp + BP_INITRD_ADDR_MAX) + 1;
    if (!pta_boot_place_initrd(l, PTA_BOOT_INITRD_HIGH, initrd_bound, error)) {
        return false;
    }
    pta_put_le32(bp + BP_CMD_LINE_PTR, (uint32_t)PTA_BOOT_CMDLINE);
    pta_put_le32(bp + BP_RAMDISK_IMAGE, (uint32_t)l->initrd.gpa);
    pta_put_le32(bp + BP_RAMDISK_SIZE, (uint32_t)l->initrd.size);
    pta_put_le64(bp + BP_ACPI_RSDP_ADDR, l->rsdp);
    put_e820(bp, &l->map);
    return pta_boot_write(l, PTA_BOOT_ZERO_PAGE, bp, sizeof(bp), error);
}
