/*
 * Multiboot specification, version 0.6.96: a header in the first 8 KiB of the image; entry in
 * 32-bit protected mode with a magic number in EAX and the multiboot information in EBX. Images are
 * ELF files, or anything whose header says itself where to load it (the "a.out kludge").
 */
#include "config.h"

#include "src/boot/loader.h"

#include <inttypes.h>

#include "src/boot/layout.h"

#define HEADER_MAGIC UINT32_C(0x1badb002)
#define LOADER_MAGIC UINT32_C(0x2badb002)

enum {
    SEARCH = 8192,
    HDR_FLAGS = 4,
    HDR_CHECKSUM = 8,
    HDR_HEADER_ADDR = 12,
    HDR_LOAD_ADDR = 16,
    HDR_LOAD_END_ADDR = 20,
    HDR_BSS_END_ADDR = 24,
    HDR_ENTRY_ADDR = 28,
    HDR_SHORT = 12,
    HDR_LONG = 32,
};

/* Header flags. Those of bits 0 to 15 that a loader does not know must be refused. */
#define FLAG_PAGE_ALIGN  (UINT32_C(1) << 0)
#define FLAG_MEMORY_INFO (UINT32_C(1) << 1)
#define FLAG_ADDRESSES   (UINT32_C(1) << 16)
#define FLAGS_REQUIRED   UINT32_C(0xffff)
#define FLAGS_SUPPORTED  (FLAG_PAGE_ALIGN | FLAG_MEMORY_INFO)

/* Multiboot information. */
enum {
    MBI_FLAGS = 0,
    MBI_MEM_LOWER = 4,
    MBI_MEM_UPPER = 8,
    MBI_CMDLINE = 16,
    MBI_MODS_COUNT = 20,
    MBI_MODS_ADDR = 24,
    MBI_MMAP_LENGTH = 44,
    MBI_MMAP_ADDR = 48,
    MBI_LOADER_NAME = 64,
    MBI_SIZE = 120,
    MOD_SIZE = 16,        /* start, end, string, reserved */
    MMAP_ENTRY_SIZE = 24, /* size of the rest (20), base, length, type */
    /* Where in the area. */
    AREA_MOD = 0x80,
    AREA_MMAP = 0x100,
    AREA_STRINGS = AREA_MMAP + PTA_BOOT_MAP_MAX * MMAP_ENTRY_SIZE,
    STRING_MAX = 4096,
    AREA_USED = AREA_STRINGS + 2 * STRING_MAX,
};

enum {
    HAS_MEMORY = 1 << 0,
    HAS_CMDLINE = 1 << 2,
    HAS_MODS = 1 << 3,
    HAS_MMAP = 1 << 6,
    HAS_LOADER_NAME = 1 << 9,
};

gssize pta_boot_find_multiboot(const uint8_t *image, size_t len)
{
    size_t end = MIN(len, SEARCH);
    for (size_t at = 0; at + HDR_SHORT <= end; at += 4) {
        const uint8_t *h = image + at;
        if (pta_le32(h) == HEADER_MAGIC &&
            HEADER_MAGIC + pta_le32(h + HDR_FLAGS) + pta_le32(h + HDR_CHECKSUM) == 0) {
            return (gssize)at;
        }
    }
    return -1;
}

/* Loads by the addresses of the header ("The address fields of Multiboot header"). */
static bool load_by_header(PtaBootLoader *l, const uint8_t *image, size_t len, size_t header,
                           PtaBootSpan *span, uint64_t *entry, GError **error)
{
    if (len - header < HDR_LONG) {
        return pta_boot_refuse(l, error, "ends within its multiboot header at 0x%zx", header);
    }
    const uint8_t *h = image + header;
    uint64_t header_addr = pta_le32(h + HDR_HEADER_ADDR);
    uint64_t load = pta_le32(h + HDR_LOAD_ADDR);
    uint64_t load_end = pta_le32(h + HDR_LOAD_END_ADDR);
    uint64_t bss_end = pta_le32(h + HDR_BSS_END_ADDR);
    *entry = pta_le32(h + HDR_ENTRY_ADDR);
    if (header_addr < load || header_addr - load > header) {
        return pta_boot_refuse(
            l, error,
            "has its multiboot header at 0x%zx of the file and wants it at 0x%" PRIx64
            " with a load address of 0x%" PRIx64 ": the text would start before the file",
            header, header_addr, load);
    }
    size_t offset = header - (size_t)(header_addr - load);
    uint64_t filesz = load_end == 0 ? len - offset : load_end - load;
    if ((load_end != 0 && load_end <= load) || filesz > len - offset) {
        return pta_boot_refuse(l, error,
                               "wants to be loaded from 0x%" PRIx64 " to 0x%" PRIx64
                               ", but has 0x%zx bytes for it",
                               load, load_end, len - offset);
    }
    uint64_t memsz = filesz;
    if (bss_end != 0) {
        if (bss_end < load + filesz) {
            return pta_boot_refuse(l, error,
                                   "has a bss that ends at 0x%" PRIx64
                                   ", before its data does at 0x%" PRIx64,
                                   bss_end, load + filesz);
        }
        memsz = bss_end - load;
    }
    if (*entry < load || *entry - load >= filesz) {
        return pta_boot_refuse(l, error,
                               "starts at 0x%" PRIx64 ", outside of what is loaded (0x%" PRIx64
                               " bytes at 0x%" PRIx64 ")",
                               *entry, filesz, load);
    }
    *span = (PtaBootSpan){ load, memsz, "the kernel" };
    return pta_boot_take(l, load, memsz, span->what, error) &&
           pta_boot_write(l, load, image + offset, filesz, error) &&
           pta_boot_zero(l, load + filesz, memsz - filesz, error);
}

/* Where usable RAM that starts at 1 MiB ends. */
static uint64_t upper_end(const PtaBootMap *map)
{
    for (size_t i = 0; i < map->n; i++) {
        if (map->entry[i].gpa == PTA_BOOT_HIGH_START) {
            return map->entry[i].gpa + map->entry[i].size;
        }
    }
    return PTA_BOOT_HIGH_START;
}

/* The file's name without its folders, and without what would end the first word. */
static char *image_name(const char *path)
{
    char *name = g_path_get_basename(path);
    g_strdelimit(name, " \t", '_');
    if (strlen(name) >= STRING_MAX) {
        name[STRING_MAX - 1] = '\0';
    }
    return name;
}

static bool write_info(PtaBootLoader *l, GError **error)
{
    G_STATIC_ASSERT(MBI_SIZE <= AREA_MOD && AREA_MOD + MOD_SIZE <= AREA_MMAP);
    G_STATIC_ASSERT(AREA_USED <= PTA_BOOT_MULTIBOOT_INFO_SIZE);
    const uint32_t base = (uint32_t)PTA_BOOT_MULTIBOOT_INFO;
    g_autofree uint8_t *area = g_malloc0(AREA_USED);
    uint32_t flags = HAS_MEMORY | HAS_CMDLINE | HAS_MODS | HAS_MMAP | HAS_LOADER_NAME;

    pta_put_le32(area + MBI_FLAGS, flags);
    pta_put_le32(area + MBI_MEM_LOWER, (uint32_t)(PTA_BOOT_EBDA / PTA_KIB));
    uint64_t upper = (upper_end(&l->map) - PTA_BOOT_HIGH_START) / PTA_KIB;
    pta_put_le32(area + MBI_MEM_UPPER, (uint32_t)MIN(upper, UINT32_MAX));
    pta_put_le32(area + MBI_CMDLINE, (uint32_t)PTA_BOOT_CMDLINE);
    if (l->initrd.size > 0) {
        g_autofree char *name = image_name(l->params->initrd_path);
        strcpy((char *)area + AREA_STRINGS, name);
        pta_put_le32(area + MBI_MODS_COUNT, 1);
        pta_put_le32(area + MBI_MODS_ADDR, base + AREA_MOD);
        pta_put_le32(area + AREA_MOD, (uint32_t)l->initrd.gpa);
        pta_put_le32(area + AREA_MOD + 4, (uint32_t)(l->initrd.gpa + l->initrd.size));
        pta_put_le32(area + AREA_MOD + 8, base + AREA_STRINGS);
    }
    for (size_t i = 0; i < l->map.n; i++) {
        uint8_t *e = area + AREA_MMAP + i * MMAP_ENTRY_SIZE;
        pta_put_le32(e, MMAP_ENTRY_SIZE - 4);
        pta_put_le64(e + 4, l->map.entry[i].gpa);
        pta_put_le64(e + 12, l->map.entry[i].size);
        pta_put_le32(e + 20, l->map.entry[i].type);
    }
    pta_put_le32(area + MBI_MMAP_LENGTH, (uint32_t)(l->map.n * MMAP_ENTRY_SIZE));
    pta_put_le32(area + MBI_MMAP_ADDR, base + AREA_MMAP);
    strcpy((char *)area + AREA_STRINGS + STRING_MAX, "partita");
    pta_put_le32(area + MBI_LOADER_NAME, base + AREA_STRINGS + STRING_MAX);
    return pta_boot_write(l, PTA_BOOT_MULTIBOOT_INFO, area, AREA_USED, error);
}

bool pta_boot_multiboot(PtaBootLoader *l, const uint8_t *image, size_t len, size_t header,
                        GError **error)
{
    uint32_t flags = pta_le32(image + header + HDR_FLAGS);
    if (flags & FLAGS_REQUIRED & ~FLAGS_SUPPORTED) {
        return pta_boot_refuse(l, error,
                               "has multiboot flags 0x%" PRIx32 ", of which 0x%" PRIx32
                               " cannot be served (bit 2 is a video mode)",
                               flags, flags & FLAGS_REQUIRED & ~FLAGS_SUPPORTED);
    }
    if (!pta_boot_take(l, PTA_BOOT_MULTIBOOT_INFO, PTA_BOOT_MULTIBOOT_INFO_SIZE,
                       "the multiboot information", error)) {
        return false;
    }
    uint64_t entry = 0, end;
    if (flags & FLAG_ADDRESSES) {
        PtaBootSpan span = { 0 };
        if (!load_by_header(l, image, len, header, &span, &entry, error)) {
            return false;
        }
        end = span.gpa + span.size;
    } else {
        PtaBootElf elf;
        if (!pta_boot_elf_parse(l, "multiboot image", image, len, &elf, error)) {
            return false;
        }
        if (elf.end > PTA_BOOT_4G) {
            return pta_boot_refuse(l, error, "loads up to 0x%" PRIx64 ", expected below 4 GiB",
                                   elf.end);
        }
        if (!pta_boot_elf_load(l, &elf, image, error)) {
            return false;
        }
        entry = elf.entry;
        end = elf.end;
    }
    /* By custom the command line starts with the image's name. */
    g_autofree char *name = image_name(l->name);
    g_autofree char *prefix = g_strconcat(name, l->cmdline_len > 0 ? " " : "", NULL);
    return pta_boot_place_cmdline(l, prefix, PTA_BOOT_CMDLINE_SIZE - 1, error) &&
           pta_boot_enter_flat32(l, entry, LOADER_MAGIC, (uint32_t)PTA_BOOT_MULTIBOOT_INFO,
                                 error) &&
           pta_boot_place_initrd(l, PTA_BOOT_INITRD_LOW, end, error) && write_info(l, error);
}
