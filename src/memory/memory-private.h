/* What the files of guest memory share about it. */
#ifndef PTA_MEMORY_PRIVATE_H
#define PTA_MEMORY_PRIVATE_H

#include "src/memory/memory.h"

typedef struct Ram {
    PtaRamRange range;
    PtaMapping *mapping;
} Ram;

/* What visibility is set of. */
typedef struct RamPiece {
    PtaRamRange range;
    PtaRegion *region;
} RamPiece;

struct PtaMemory {
    PtaView *view;              /* ATOMIC; never NULL */
    PtaMemoryWriteFn *observer; /* MAIN while no one accesses */
    void *observer_opaque;
    PtaRegions *regions;         /* CONST */
    Ram ram[PTA_MAX_RAM_RANGES]; /* CONST, ascending */
    size_t n_ram;                /* CONST */
    uint64_t size;               /* CONST, bytes of all ranges */
    GArray *pieces;              /* CONST, of RamPiece, ascending */
    GPtrArray *backings;         /* CONST, of PtaBacking */
    PtaDirtyLog *dirty;          /* CONST */
    PtaRamRange *mmio;           /* CONST */
    size_t n_mmio;               /* CONST */
    bool has_alias;              /* CONST */
    uint64_t alias_offset;       /* CONST */
};

#endif
