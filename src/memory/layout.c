/* The layout of RAM: checks and the split of a PC's first megabyte. */
#include "config.h"

#include "src/memory/layout.h"

#include <inttypes.h>

#define X86_VIDEO  UINT64_C(0xa0000)
#define X86_PAM    UINT64_C(0xc0000) /* windows of 16 KiB from here */
#define X86_BIOS   UINT64_C(0xf0000) /* one window of 64 KiB */
#define X86_HIGH   UINT64_C(0x100000)
#define X86_WINDOW (16 * PTA_KIB)

bool pta_range_valid(PtaRamRange r)
{
    return r.size != 0 && (r.gpa | r.size) % PTA_PAGE_SIZE == 0 && r.gpa + r.size > r.gpa;
}

bool pta_layout_check(const PtaRamRange *ranges, size_t n, uint64_t *end, uint64_t *total,
                      GError **error)
{
    if (n == 0 || n > PTA_MAX_RAM_RANGES) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory: %zu RAM ranges, expected 1 to %d", n, PTA_MAX_RAM_RANGES);
    }
    uint64_t sum = 0, floor = 0;
    for (size_t i = 0; i < n; i++) {
        PtaRamRange r = ranges[i];
        if (!pta_range_valid(r)) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                             "memory: RAM range at 0x%" PRIx64 " of 0x%" PRIx64
                             " bytes is empty, not page-aligned or passes the end",
                             r.gpa, r.size);
        }
        if (r.gpa < floor) {
            return pta_throw(
                error, PTA_ERROR_BAD_DESCRIPTION,
                "memory: RAM range at 0x%" PRIx64 " overlaps or precedes the one before", r.gpa);
        }
        floor = pta_range_end(r);
        sum += r.size;
    }
    *end = floor;
    *total = sum;
    return true;
}

static void add_piece(GArray *pieces, uint64_t from, uint64_t to)
{
    PtaRamRange piece = { from, to - from };
    if (piece.size != 0) {
        g_array_append_val(pieces, piece);
    }
}

bool pta_layout_split_x86(PtaRamRange first, GArray *pieces, GError **error)
{
    if (first.gpa != 0 || first.size < X86_HIGH) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "x86 support requires RAM to start at 0 and contain at least 1MB");
    }
    add_piece(pieces, 0, X86_VIDEO);
    add_piece(pieces, X86_VIDEO, X86_PAM);
    for (uint64_t at = X86_PAM; at < X86_BIOS; at += X86_WINDOW) {
        add_piece(pieces, at, at + X86_WINDOW);
    }
    add_piece(pieces, X86_BIOS, X86_HIGH);
    add_piece(pieces, X86_HIGH, first.size);
    return true;
}
