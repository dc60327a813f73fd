/*
 * Where RAM is: ranges, and the pieces of them that are shown and hidden one by one. Pure functions.
 */
#ifndef PTA_LAYOUT_H
#define PTA_LAYOUT_H

#include "src/util/util.h"

#define PTA_MAX_RAM_RANGES 64

typedef struct PtaRamRange {
    uint64_t gpa;
    uint64_t size; /* both multiples of PTA_PAGE_SIZE */
} PtaRamRange;

static inline uint64_t pta_range_end(PtaRamRange r)
{
    return r.gpa + r.size;
}

static inline bool pta_range_overlaps(PtaRamRange a, PtaRamRange b)
{
    return a.gpa < b.gpa + b.size && b.gpa < a.gpa + a.size;
}

/* All of b is in a. */
static inline bool pta_range_contains(PtaRamRange a, PtaRamRange b)
{
    return b.gpa >= a.gpa && b.gpa - a.gpa <= a.size && b.size <= a.size - (b.gpa - a.gpa);
}

static inline bool pta_range_equal(PtaRamRange a, PtaRamRange b)
{
    return a.gpa == b.gpa && a.size == b.size;
}

/* Whole pages, not empty, and not past the end of the 64-bit space. */
bool pta_range_valid(PtaRamRange r);

/* The end of the last range, and the sum of all. Errors: BAD_DESCRIPTION. */
bool pta_layout_check(const PtaRamRange *ranges, size_t n, uint64_t *end, uint64_t *total,
                      GError **error);

/*
 * The pieces of a range whose visibility can be set, as ends: with x86_legacy the first range of a PC
 * is cut at 0xA0000 (video memory), 0xC0000, and every 16 KiB up to 0xF0000 (what a chipset's PAM
 * registers control), and at 0x100000. Errors: BAD_DESCRIPTION.
 */
bool pta_layout_split_x86(PtaRamRange first, GArray *pieces, GError **error);

#endif
