/*
 * The RAM of a machine, from its description: which ranges there are, below and above the gap under
 * 4 GiB, and which backing is behind which part of them. Main thread.
 */
#ifndef PTA_MACHINE_MEMORY_H
#define PTA_MACHINE_MEMORY_H

#include "qmp/gen/types.h"
#include "src/memory/memory.h"
#include "src/util/inspect.h"

/* Where RAM is on an x86 machine: device windows are in the gap. */
#define PTA_X86_RAM_GAP_BASE  UINT64_C(0xc0000000)
#define PTA_X86_HIGH_RAM_BASE UINT64_C(0x100000000)

#define PTA_MACHINE_BACKINGS  17 /* those described, and one for the first MiB */

typedef struct PtaMachineBacking {
    char *where;       /* its place in the description: "$.memory.backing[1]" */
    char *name, *path; /* what params points to; path may be NULL */
    PtaBackingParams params;
    PtaBacking *backing; /* NULL in a plan */
} PtaMachineBacking;

typedef struct PtaMachineRam {
    PtaRamRange range;
    size_t backing; /* its index */
    uint64_t offset;
} PtaMachineRam;

typedef struct PtaMachineMemory {
    PtaRamRange ranges[2];
    size_t n_ranges;
    PtaMachineBacking backings[PTA_MACHINE_BACKINGS];
    size_t n_backings;
    PtaMachineRam parts[PTA_MACHINE_BACKINGS + 1]; /* ascending; the gap cuts one in two */
    size_t n_parts;
    bool prefault;
    bool keep_files; /* set when the machine has come to be: those that were made stay behind */
} PtaMachineMemory;

/* A pure function of the description. Errors: BAD_DESCRIPTION, naming the place in it. */
PtaMachineMemory *pta_machine_memory_plan(const MemoryConfig *config, const char *base_dir,
                                          GError **error);
void pta_machine_memory_free(PtaMachineMemory *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaMachineMemory, pta_machine_memory_free)

/* Whether this host has what the plan names; makes nothing. */
bool pta_machine_memory_check(const PtaMachineMemory *m, GError **error);
/* Makes the backings. */
bool pta_machine_memory_make(PtaMachineMemory *m, GError **error);
/* Guest memory of the parts, each at its place, of its backing. The first MiB is split, for which the
 * plan has put memory there that can be shown and hidden. The backings have been made. */
PtaMemory *pta_machine_memory_build(const PtaMachineMemory *m, GError **error);
/* The pages of `mem`, which was built of these parts, if the description wants them made. */
void pta_machine_memory_prefault(const PtaMachineMemory *m, PtaMemory *mem);

/* The children "backing/N" of /memory. */
typedef struct PtaMachineMemoryRef {
    const PtaMachineMemory *ram;
    PtaMemory *mem;
} PtaMachineMemoryRef;
void pta_machine_memory_inspect(const PtaMachineMemoryRef *ref, PtaInspect *req);

#endif
