/*
 * The PVH entry of Xen (docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h): 32-bit protected
 * mode at the address of the ELF note, EBX pointing to hvm_start_info.
 */
#include "config.h"

#include "src/boot/loader.h"

#include <inttypes.h>

#include "src/boot/layout.h"

enum {
    INFO_MAGIC = 0x000,
    INFO_VERSION = 0x004,
    INFO_NR_MODULES = 0x00c,
    INFO_MODLIST = 0x010,
    INFO_CMDLINE = 0x018,
    INFO_RSDP = 0x020,
    INFO_MEMMAP = 0x028,
    INFO_MEMMAP_ENTRIES = 0x030,
    INFO_SIZE = 0x038,
    MODULE_SIZE = 32,       /* address, size, command line, reserved: 8 bytes each */
    MEMMAP_ENTRY_SIZE = 24, /* address, size: 8 each; type, reserved: 4 each */
    MODLIST = 0x040,        /* where in the page */
    MEMMAP = 0x080,
    CMDLINE_MAX = 0xffff,
};

#define HVM_START_MAGIC UINT32_C(0x336ec578)

bool pta_boot_pvh(PtaBootLoader *l, const PtaBootElf *elf, GError **error)
{
    G_STATIC_ASSERT(INFO_SIZE <= MODLIST && MODLIST + MODULE_SIZE <= MEMMAP);
    G_STATIC_ASSERT(MEMMAP + PTA_BOOT_MAP_MAX * MEMMAP_ENTRY_SIZE <= PTA_BOOT_PVH_INFO_SIZE);
    if (!pta_boot_elf_holds(elf, elf->pvh_entry)) {
        return pta_boot_refuse(
            l, error, "has its PVH entry at 0x%" PRIx64 ", which is in none of its segments",
            elf->pvh_entry);
    }
    if (elf->end > PTA_BOOT_4G) {
        return pta_boot_refuse(l, error, "loads up to 0x%" PRIx64 ", expected below 4 GiB",
                               elf->end);
    }
    if (!pta_boot_take(l, PTA_BOOT_PVH_INFO, PTA_BOOT_PVH_INFO_SIZE, "hvm_start_info", error) ||
        !pta_boot_place_cmdline(l, "", CMDLINE_MAX, error) ||
        !pta_boot_enter_flat32(l, elf->pvh_entry, 0, (uint32_t)PTA_BOOT_PVH_INFO, error) ||
        !pta_boot_place_initrd(l, PTA_BOOT_INITRD_HIGH, PTA_BOOT_4G, error)) {
        return false;
    }
    uint8_t page[PTA_BOOT_PVH_INFO_SIZE] = { 0 };
    pta_put_le32(page + INFO_MAGIC, HVM_START_MAGIC);
    pta_put_le32(page + INFO_VERSION, 1);
    pta_put_le64(page + INFO_CMDLINE, PTA_BOOT_CMDLINE);
    pta_put_le64(page + INFO_RSDP, l->rsdp);
    if (l->initrd.size > 0) {
        pta_put_le32(page + INFO_NR_MODULES, 1);
        pta_put_le64(page + INFO_MODLIST, PTA_BOOT_PVH_INFO + MODLIST);
        pta_put_le64(page + MODLIST, l->initrd.gpa);
        pta_put_le64(page + MODLIST + 8, l->initrd.size);
    }
    pta_put_le64(page + INFO_MEMMAP, PTA_BOOT_PVH_INFO + MEMMAP);
    pta_put_le32(page + INFO_MEMMAP_ENTRIES, (uint32_t)l->map.n);
    for (size_t i = 0; i < l->map.n; i++) {
        uint8_t *e = page + MEMMAP + i * MEMMAP_ENTRY_SIZE;
        pta_put_le64(e, l->map.entry[i].gpa);
        pta_put_le64(e + 8, l->map.entry[i].size);
        pta_put_le32(e + 16, l->map.entry[i].type);
    }
    return pta_boot_write(l, PTA_BOOT_PVH_INFO, page, sizeof(page), error);
}
