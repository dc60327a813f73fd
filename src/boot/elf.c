/*
 * ELF executables for x86, of 32 and 64 bits: checked first, then copied to the physical addresses
 * of their segments. The file is hostile.
 */
#include "config.h"

#include "src/boot/loader.h"

#include <elf.h>
#include <inttypes.h>

/* include/public/elfnote.h of Xen: the physical address at which a PVH kernel is entered. */
#define XEN_ELFNOTE_PHYS32_ENTRY 18

/* More program headers than any kernel has; bounds the work on a lying header. */
#define MAX_PROGRAM_HEADERS 128

/* A program header of either class. */
typedef struct Phdr {
    uint32_t type;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
} Phdr;

static Phdr phdr_read(const uint8_t *p, bool is64)
{
    if (is64) {
        Elf64_Phdr h;
        memcpy(&h, p, sizeof(h));
        return (
            Phdr){ h.p_type, h.p_offset, h.p_vaddr, h.p_paddr, h.p_filesz, h.p_memsz, h.p_align };
    }
    Elf32_Phdr h;
    memcpy(&h, p, sizeof(h));
    return (Phdr){ h.p_type, h.p_offset, h.p_vaddr, h.p_paddr, h.p_filesz, h.p_memsz, h.p_align };
}

typedef struct Ehdr {
    uint16_t type, machine, phentsize, phnum;
    uint64_t entry, phoff;
} Ehdr;

static bool ehdr_read(const PtaBootLoader *l, const char *what, const uint8_t *image, size_t len,
                      Ehdr *e, bool *is64, GError **error)
{
    if (len < EI_NIDENT || !pta_boot_is_elf(image, len)) {
        return pta_boot_refuse(l, error, "the %s of %zu bytes is not an ELF file", what, len);
    }
    uint8_t class = image[EI_CLASS];
    if (class != ELFCLASS32 && class != ELFCLASS64) {
        return pta_boot_refuse(l, error, "the %s has ELF class %u, expected 1 (32 bits) or 2 (64)",
                               what, class);
    }
    *is64 = class == ELFCLASS64;
    if (image[EI_DATA] != ELFDATA2LSB) {
        return pta_boot_refuse(l, error, "the %s has ELF byte order %u, expected 1 (little-endian)",
                               what, image[EI_DATA]);
    }
    size_t size = *is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
    if (len < size) {
        return pta_boot_refuse(l, error, "the %s ends after %zu bytes, within its ELF header", what,
                               len);
    }
    if (*is64) {
        Elf64_Ehdr h;
        memcpy(&h, image, sizeof(h));
        *e = (Ehdr){ h.e_type, h.e_machine, h.e_phentsize, h.e_phnum, h.e_entry, h.e_phoff };
    } else {
        Elf32_Ehdr h;
        memcpy(&h, image, sizeof(h));
        *e = (Ehdr){ h.e_type, h.e_machine, h.e_phentsize, h.e_phnum, h.e_entry, h.e_phoff };
    }
    uint16_t machine = *is64 ? EM_X86_64 : EM_386;
    if (e->machine != machine) {
        return pta_boot_refuse(l, error, "the %s is for ELF machine %u, expected %u (%s)", what,
                               e->machine, machine, *is64 ? "x86-64" : "i386");
    }
    if (e->type != ET_EXEC) {
        return pta_boot_refuse(l, error, "the %s has ELF type %u, expected 2 (executable)", what,
                               e->type);
    }
    size_t phentsize = *is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    if (e->phentsize != phentsize) {
        return pta_boot_refuse(l, error, "the %s has program headers of %u bytes, expected %zu",
                               what, e->phentsize, phentsize);
    }
    if (e->phnum == 0 || e->phnum > MAX_PROGRAM_HEADERS) {
        return pta_boot_refuse(l, error, "the %s has %u program headers, expected 1 to %d", what,
                               e->phnum, MAX_PROGRAM_HEADERS);
    }
    if (e->phoff > len || (uint64_t)e->phnum * phentsize > len - e->phoff) {
        return pta_boot_refuse(
            l, error, "the %s has %u program headers at 0x%" PRIx64 ", behind its end at 0x%zx",
            what, e->phnum, e->phoff, len);
    }
    return true;
}

static bool add_segment(const PtaBootLoader *l, const char *what, unsigned index, const Phdr *p,
                        PtaBootElf *elf, GError **error)
{
    if (p->filesz > p->memsz) {
        return pta_boot_refuse(l, error,
                               "segment %u of the %s has 0x%" PRIx64
                               " bytes in the file, but 0x%" PRIx64 " in memory",
                               index, what, p->filesz, p->memsz);
    }
    if (p->memsz == 0) {
        return true;
    }
    if (p->paddr + p->memsz < p->paddr) {
        return pta_boot_refuse(l, error,
                               "segment %u of the %s, 0x%" PRIx64 " bytes at 0x%" PRIx64
                               ", passes the end of the address space",
                               index, what, p->memsz, p->paddr);
    }
    if (elf->n_segments == PTA_BOOT_ELF_MAX_SEGMENTS) {
        return pta_boot_refuse(l, error, "the %s has more than %d segments to load", what,
                               PTA_BOOT_ELF_MAX_SEGMENTS);
    }
    elf->segment[elf->n_segments++] =
        (PtaBootSegment){ p->offset, p->paddr, p->vaddr, p->filesz, p->memsz };
    elf->end = MAX(elf->end, p->paddr + p->memsz);
    return true;
}

/* ELF gABI, "Note Section": name and descriptor are padded to words, whatever p_align says (4 for
 * all notes that Xen defines). */
static void read_notes(const uint8_t *notes, uint64_t len, PtaBootElf *elf)
{
    uint64_t at = 0;
    while (len - at >= sizeof(Elf32_Nhdr)) {
        uint64_t namesz = pta_le32(notes + at);
        uint64_t descsz = pta_le32(notes + at + 4);
        uint32_t type = pta_le32(notes + at + 8);
        uint64_t name = at + sizeof(Elf32_Nhdr);
        uint64_t desc = name + pta_align_up(namesz, 4);
        if (desc > len || descsz > len - desc) {
            return;
        }
        if (type == XEN_ELFNOTE_PHYS32_ENTRY && namesz == 4 &&
            memcmp(notes + name, "Xen", 4) == 0 && (descsz == 4 || descsz == 8)) {
            elf->has_pvh = true;
            elf->pvh_entry = descsz == 8 ? pta_le64(notes + desc) : pta_le32(notes + desc);
            return;
        }
        at = desc + pta_align_up(descsz, 4);
        if (at > len) {
            return;
        }
    }
}

bool pta_boot_elf_holds(const PtaBootElf *elf, uint64_t paddr)
{
    for (size_t i = 0; i < elf->n_segments; i++) {
        const PtaBootSegment *s = &elf->segment[i];
        if (paddr >= s->paddr && paddr - s->paddr < s->filesz) {
            return true;
        }
    }
    return false;
}

/* Linux gives its entry as a physical address; other kernels may give a virtual one. */
static bool resolve_entry(PtaBootElf *elf, uint64_t entry)
{
    if (pta_boot_elf_holds(elf, entry)) {
        elf->entry = entry;
        return true;
    }
    for (size_t i = 0; i < elf->n_segments; i++) {
        const PtaBootSegment *s = &elf->segment[i];
        if (entry >= s->vaddr && entry - s->vaddr < s->filesz) {
            elf->entry = s->paddr + (entry - s->vaddr);
            return true;
        }
    }
    return false;
}

bool pta_boot_elf_parse(const PtaBootLoader *l, const char *what, const uint8_t *image, size_t len,
                        PtaBootElf *elf, GError **error)
{
    *elf = (PtaBootElf){ 0 };
    Ehdr e = { 0 };
    if (!ehdr_read(l, what, image, len, &e, &elf->is64, error)) {
        return false;
    }
    for (unsigned i = 0; i < e.phnum; i++) {
        Phdr p = phdr_read(image + e.phoff + (size_t)i * e.phentsize, elf->is64);
        if (p.type != PT_LOAD && p.type != PT_NOTE) {
            continue;
        }
        if (p.offset > len || p.filesz > len - p.offset) {
            return pta_boot_refuse(l, error,
                                   "segment %u of the %s is 0x%" PRIx64 " bytes at 0x%" PRIx64
                                   " of the file, behind its end at 0x%zx",
                                   i, what, p.filesz, p.offset, len);
        }
        if (p.type == PT_NOTE) {
            read_notes(image + p.offset, p.filesz, elf);
        } else if (!add_segment(l, what, i, &p, elf, error)) {
            return false;
        }
    }
    if (elf->n_segments == 0) {
        return pta_boot_refuse(l, error, "the %s has no segment to load", what);
    }
    if (!resolve_entry(elf, e.entry)) {
        return pta_boot_refuse(l, error,
                               "the %s starts at 0x%" PRIx64 ", which is in none of its segments",
                               what, e.entry);
    }
    return true;
}

bool pta_boot_elf_load(PtaBootLoader *l, const PtaBootElf *elf, const uint8_t *image,
                       GError **error)
{
    for (size_t i = 0; i < elf->n_segments; i++) {
        const PtaBootSegment *s = &elf->segment[i];
        if (!pta_boot_take(l, s->paddr, s->memsz, "a segment of the kernel", error)) {
            return false;
        }
    }
    for (size_t i = 0; i < elf->n_segments; i++) {
        const PtaBootSegment *s = &elf->segment[i];
        if (!pta_boot_write(l, s->paddr, image + s->offset, s->filesz, error) ||
            !pta_boot_zero(l, s->paddr + s->filesz, s->memsz - s->filesz, error)) {
            return false;
        }
    }
    return true;
}
