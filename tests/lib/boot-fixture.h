/*
 * What the tests of src/boot/ share: a machine's table of devices, guest RAM, and images that are
 * put together byte by byte, so that each field can be made to lie.
 */
#ifndef PTA_TESTS_BOOT_FIXTURE_H
#define PTA_TESTS_BOOT_FIXTURE_H

#include "src/boot/boot.h"
#include "src/boot/loader.h"

/* COM1, RTC, I/O APIC, power, three virtio devices (the last one level-triggered). */
extern const PtaPlacedDevice fixture_devices[];
extern const size_t fixture_n_devices;

/* One range from 0. */
PtaMemory *fixture_ram(uint64_t size);

/* An ELF executable under construction. */
typedef struct FixtureSegment {
    uint32_t type; /* PT_LOAD, PT_NOTE */
    uint64_t paddr, vaddr, memsz;
    const void *data;
    size_t len;
} FixtureSegment;

/* Headers, then the segments' data one after another. */
GByteArray *fixture_elf(bool is64, uint64_t entry, const FixtureSegment *segments, size_t n);

/* Offset of a program header in such a file. */
size_t fixture_elf_phdr(bool is64, size_t i);

/* The note that gives a PVH entry of 4 or 8 bytes. */
GByteArray *fixture_pvh_note(uint64_t entry, unsigned size);

/* A bzImage with this payload (the size word included). */
GByteArray *fixture_bzimage(const uint8_t *payload, size_t len);

/* Packs as Linux's build does, the size word behind it. `format` is a name of decompress.c. */
GByteArray *fixture_pack(const char *format, const uint8_t *data, size_t len);

#endif
