/*
 * The memory map that the guest is told: the RAM of the machine, without what is reserved in the
 * first megabyte of a PC (layout.h).
 */
#include "config.h"

#include "src/boot/loader.h"

#include <inttypes.h>

#include "src/boot/layout.h"

static bool map_add(PtaBootMap *map, uint64_t gpa, uint64_t end, PtaBootMapType type)
{
    if (end <= gpa) {
        return true;
    }
    PtaBootMapEntry *last = map->n > 0 ? &map->entry[map->n - 1] : NULL;
    if (last && last->type == type && last->gpa + last->size == gpa) {
        last->size += end - gpa;
        return true;
    }
    if (map->n == PTA_BOOT_MAP_MAX) {
        return false;
    }
    map->entry[map->n++] = (PtaBootMapEntry){ gpa, end - gpa, type };
    return true;
}

bool pta_boot_map_init(PtaBootMap *map, const PtaMemory *mem, GError **error)
{
    size_t n = pta_memory_n_ranges(mem);
    PtaRamRange low = n > 0 ? pta_memory_range(mem, 0) : (PtaRamRange){ 0 };
    if (low.gpa != 0 || low.size < PTA_BOOT_HIGH_START) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory: RAM starts with 0x%" PRIx64 " bytes at 0x%" PRIx64
                         ", expected at least 1M at 0 to boot",
                         low.size, low.gpa);
    }
    map->n = 0;
    bool fits = map_add(map, 0, PTA_BOOT_EBDA, PTA_BOOT_MAP_RAM) &&
                map_add(map, PTA_BOOT_EBDA, PTA_BOOT_LOW_END, PTA_BOOT_MAP_RESERVED) &&
                map_add(map, PTA_BOOT_ACPI, PTA_BOOT_RESET_VECTOR + PTA_BOOT_RESET_VECTOR_SIZE,
                        PTA_BOOT_MAP_RESERVED) &&
                map_add(map, PTA_BOOT_HIGH_START, low.size, PTA_BOOT_MAP_RAM);
    for (size_t i = 1; i < n && fits; i++) {
        PtaRamRange range = pta_memory_range(mem, i);
        fits = map_add(map, range.gpa, range.gpa + range.size, PTA_BOOT_MAP_RAM);
    }
    if (!fits) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory: %zu RAM ranges are more than the boot protocols can name", n);
    }
    return true;
}

bool pta_boot_map_is_ram(const PtaBootMap *map, uint64_t gpa, uint64_t size)
{
    for (size_t i = 0; i < map->n; i++) {
        const PtaBootMapEntry *e = &map->entry[i];
        if (e->type == PTA_BOOT_MAP_RAM && gpa >= e->gpa && gpa - e->gpa <= e->size &&
            size <= e->size - (gpa - e->gpa)) {
            return true;
        }
    }
    return false;
}
