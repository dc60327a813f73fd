/*
 * What the loaders of src/boot/ share: the state of one load, the map of guest memory with the
 * places already taken, little-endian words, ELF files. Nothing outside src/boot/ and its tests
 * includes this.
 */
#ifndef PTA_BOOT_LOADER_H
#define PTA_BOOT_LOADER_H

#include <string.h>

#include "src/boot/boot.h"

/* ---- little-endian words at any alignment ---- */

static inline uint16_t pta_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t pta_le32(const uint8_t *p)
{
    return pta_le16(p) | (uint32_t)pta_le16(p + 2) << 16;
}

static inline uint64_t pta_le64(const uint8_t *p)
{
    return pta_le32(p) | (uint64_t)pta_le32(p + 4) << 32;
}

static inline void pta_put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void pta_put_le32(uint8_t *p, uint32_t v)
{
    pta_put_le16(p, (uint16_t)v);
    pta_put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void pta_put_le64(uint8_t *p, uint64_t v)
{
    pta_put_le32(p, (uint32_t)v);
    pta_put_le32(p + 4, (uint32_t)(v >> 32));
}

/* ---- map.c: the memory map that the guest is told ---- */

/* ACPI 6.4, table 15.4; PVH and multiboot use the same numbers. */
typedef enum PtaBootMapType {
    PTA_BOOT_MAP_RAM = 1,
    PTA_BOOT_MAP_RESERVED = 2,
} PtaBootMapType;

typedef struct PtaBootMapEntry {
    uint64_t gpa;
    uint64_t size;
    PtaBootMapType type;
} PtaBootMapEntry;

/* Not more than the zero page has room for (E820_MAX_ENTRIES_ZEROPAGE). */
#define PTA_BOOT_MAP_MAX 128

typedef struct PtaBootMap {
    PtaBootMapEntry entry[PTA_BOOT_MAP_MAX]; /* ascending, disjoint */
    size_t n;
} PtaBootMap;

/* Errors: BAD_DESCRIPTION if the first megabyte is no RAM, or there are too many ranges. */
bool pta_boot_map_init(PtaBootMap *map, const PtaMemory *mem, GError **error);

/* Is all of [gpa, gpa + size) RAM that the guest may use? */
bool pta_boot_map_is_ram(const PtaBootMap *map, uint64_t gpa, uint64_t size);

/* ---- boot.c: one load ---- */

typedef struct PtaBootSpan {
    uint64_t gpa;
    uint64_t size;
    const char *what; /* a literal */
} PtaBootSpan;

typedef struct PtaBootLoader {
    PtaMemory *mem;
    const PtaBootParams *params;
    PtaX86State *bsp;
    const char *name; /* of the kernel image, for errors */
    PtaBootMap map;
    GArray *taken; /* of PtaBootSpan, in no order */
    char *cmdline;
    size_t cmdline_len; /* without the NUL */
    uint64_t rsdp;
    PtaBootSpan initrd; /* size 0: none */
} PtaBootLoader;

/* "NAME: …", class BAD_IMAGE; returns false. */
bool pta_boot_refuse(const PtaBootLoader *l, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* Takes a piece of guest RAM, which must be usable and not taken yet. Empty pieces are nothing. */
bool pta_boot_take(PtaBootLoader *l, uint64_t gpa, uint64_t size, const char *what, GError **error);

/* Writes into what was taken or reserved: cannot fail but by our bug, and says so. */
bool pta_boot_write(PtaBootLoader *l, uint64_t gpa, const void *buf, size_t len, GError **error);
bool pta_boot_zero(PtaBootLoader *l, uint64_t gpa, uint64_t len, GError **error);

/* Takes the command line's place, after checking its length against the image's limit (NUL not
 * counted), and writes it. `prefix` (may be "") comes before it. */
bool pta_boot_place_cmdline(PtaBootLoader *l, const char *prefix, uint64_t max_len, GError **error);

typedef enum PtaBootInitrdPlace {
    PTA_BOOT_INITRD_HIGH, /* as high below the limit as it fits, as Linux wants it */
    PTA_BOOT_INITRD_LOW,  /* at the first free page behind `bound`, as multiboot loaders do */
} PtaBootInitrdPlace;

/* Reads the initial RAM disk, if there is one, into free RAM and sets l->initrd. `bound`: for HIGH,
 * the first address behind where it may lie. */
bool pta_boot_place_initrd(PtaBootLoader *l, PtaBootInitrdPlace place, uint64_t bound,
                           GError **error);

/* ---- elf.c ---- */

typedef struct PtaBootSegment {
    uint64_t offset; /* in the file; offset + filesz lies within it */
    uint64_t paddr;
    uint64_t vaddr;
    uint64_t filesz; /* at most memsz */
    uint64_t memsz;  /* not 0; paddr + memsz does not wrap */
} PtaBootSegment;

#define PTA_BOOT_ELF_MAX_SEGMENTS 64

typedef struct PtaBootElf {
    bool is64;
    uint64_t entry;     /* physical, within the file's bytes of a segment */
    uint64_t end;       /* behind the highest segment */
    bool has_pvh;       /* a XEN_ELFNOTE_PHYS32_ENTRY was found */
    uint64_t pvh_entry; /* physical, not checked yet */
    size_t n_segments;
    PtaBootSegment segment[PTA_BOOT_ELF_MAX_SEGMENTS];
} PtaBootElf;

static inline bool pta_boot_is_elf(const uint8_t *image, size_t len)
{
    return len >= 4 && memcmp(image,
                              "\x7f"
                              "ELF",
                              4) == 0;
}

/* Checks headers and notes, and loads nothing. `what` is "ELF image", "payload": for errors. */
bool pta_boot_elf_parse(const PtaBootLoader *l, const char *what, const uint8_t *image, size_t len,
                        PtaBootElf *elf, GError **error);

/* Does the file put bytes at this physical address? */
bool pta_boot_elf_holds(const PtaBootElf *elf, uint64_t paddr);

/* Takes the segments' places, copies them, and zeroes what the file does not fill. `image` is what
 * was parsed. */
bool pta_boot_elf_load(PtaBootLoader *l, const PtaBootElf *elf, const uint8_t *image,
                       GError **error);

/* ---- the protocols; each is given an image that its own test has recognised ---- */

bool pta_boot_is_bzimage(const uint8_t *image, size_t len);
bool pta_boot_bzimage(PtaBootLoader *l, const uint8_t *image, size_t len, GError **error);

/* The 64-bit boot protocol. `header` are `len` bytes from offset 0x1f1 of a bzImage, or none. */
bool pta_boot_linux64(PtaBootLoader *l, const PtaBootElf *elf, const uint8_t *header, size_t len,
                      GError **error);

bool pta_boot_pvh(PtaBootLoader *l, const PtaBootElf *elf, GError **error);

/* The offset of a valid multiboot-1 header, or -1. */
gssize pta_boot_find_multiboot(const uint8_t *image, size_t len);
bool pta_boot_multiboot(PtaBootLoader *l, const uint8_t *image, size_t len, size_t header,
                        GError **error);

/* ---- decompress.c ---- */

/* "lz4", or NULL if it is none that we know by its first bytes. */
const char *pta_boot_compression_name(const uint8_t *data, size_t len);

/*
 * Unpacks the payload of a Linux bzImage: compressed data and, behind it, the unpacked size as a
 * little-endian word (for gzip that word is a part of the format). More than `max` bytes are
 * refused before anything is allocated, and the data must yield exactly that size. The result is
 * released with free().
 */
bool pta_boot_decompress(const PtaBootLoader *l, const uint8_t *data, size_t len, uint64_t max,
                         uint8_t **out, size_t *out_len, GError **error);

/* ---- entry.c: the boot processor's registers ---- */

/* 32-bit protected mode, paging off, flat segments (PVH, multiboot). */
bool pta_boot_enter_flat32(PtaBootLoader *l, uint64_t rip, uint32_t eax, uint32_t ebx,
                           GError **error);

/* 64-bit mode with the first 4 GiB identity-mapped (Linux). */
bool pta_boot_enter_long64(PtaBootLoader *l, uint64_t rip, uint64_t rsi, GError **error);

#endif
