/*
 * Guest-physical memory: RAM, the memory of devices, and the one way in which host code reads and
 * writes it. Guest addresses are hostile: every call checks its range, and a caller that needs a
 * guest word twice reads it once.
 *
 * Host code sees what the guest sees (region.h): hidden RAM is not there, read-only RAM cannot be
 * written. The view changes only while no VP runs, but others may access memory at that moment: an
 * access happens wholly in the old view or wholly in the new one, and takes no lock.
 *
 * Threads: construction and destruction MAIN; accesses any.
 */
#ifndef PTA_MEMORY_H
#define PTA_MEMORY_H

#include <sys/uio.h>

#include "src/memory/dirty.h"
#include "src/memory/region.h"

typedef struct PtaMemory PtaMemory;

/* Why an access failed; each names one condition. */
typedef enum PtaMemStatus {
    PTA_MEM_OK = 0,
    PTA_MEM_WRAP, /* gpa + len passes the end of the 64-bit space */
    PTA_MEM_HOLE, /* nothing is at (part of) the range */
    PTA_MEM_MMIO, /* the registers of devices are, or memory of theirs where only RAM will do */
    PTA_MEM_READ_ONLY, /* a write, and (part of) the range may only be read */
    PTA_MEM_TOO_MANY,  /* pta_memory_map: more pieces than iovecs */
    PTA_MEM_ALIGN,     /* a word access that is not naturally aligned */
} PtaMemStatus;

/* English, for logs: "no RAM there". */
const char *pta_mem_status_text(PtaMemStatus status);

/* ---- construction ---- */

/* What RAM comes from. */
typedef struct PtaMemoryBacking {
    PtaBackingParams
        params; /* size is filled in; so is the name, if NULL: "guest-ram", "guest-ram-1" */
    PtaBacking *existing; /* lent: take this one, and look at nothing in `params`; or NULL */
    bool prefetch;        /* its pages are made before the guest touches them */
} PtaMemoryBacking;

typedef struct PtaMemoryParams {
    /* Ascending and disjoint. Those of one backing follow one another in it. */
    const PtaRamRange *ram;
    size_t n_ram;
    const unsigned *ram_backing; /* for each range, which of `backings`; NULL: all the first */
    const PtaMemoryBacking *backings;
    size_t n_backings; /* 0: one memfd */
    /* Where device registers are: for the status of accesses that go astray. */
    const PtaRamRange *mmio;
    size_t n_mmio;
    bool x86_legacy; /* the first megabyte in pieces whose visibility can be set: layout.h */
    bool has_alias;
    uint64_t alias_offset; /* all of memory shows there once more, to partitions that ask for it */
} PtaMemoryParams;

/*
 * Zeroed RAM, shown to no partition yet. Copies all that `params` names. The errors, in the order in
 * which they are looked for:
 *   BAD_DESCRIPTION  the ranges (layout.h)
 *   BAD_DESCRIPTION  private memory with x86_legacy, or asked for where there is a backing
 *   BAD_DESCRIPTION  "ram size {n} is too large"
 *   HOST             "failed to allocate memory"; BAD_DESCRIPTION: what exists is too small for it
 *   BAD_DESCRIPTION  "not enough guest address space available for the vtl0 alias map"
 *   HOST             "failed to create VA mapper", or the host will not map or pin it
 *   BAD_DESCRIPTION  "x86 support requires RAM to start at 0 and contain at least 1MB"
 */
PtaMemory *pta_memory_build(const PtaMemoryParams *params, GError **error);
/* The simple case: no split, one memfd in which the ranges follow one another. */
PtaMemory *pta_memory_new(const PtaRamRange *ranges, size_t n, GError **error);
/* No partition is attached any more. */
void pta_memory_free(PtaMemory *mem);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaMemory, pta_memory_free)

uint64_t pta_memory_ram_size(const PtaMemory *mem); /* bytes, of all ranges */
size_t pta_memory_n_ranges(const PtaMemory *mem);
PtaRamRange pta_memory_range(const PtaMemory *mem, size_t i);
/* Host address of a range's first byte. The whole range is there, whatever the guest sees of it. */
void *pta_memory_range_host(const PtaMemory *mem, size_t i);
/* Lends what it comes from, and where in that it begins. */
PtaBacking *pta_memory_range_backing(const PtaMemory *mem, size_t i, uint64_t *offset);
/* The one backing of all RAM, if there is just one and it can be shared; else NULL. Lent. */
PtaBacking *pta_memory_shared_backing(const PtaMemory *mem);
int pta_memory_fd(const PtaMemory *mem); /* lends its descriptor; -1 */

/* ---- what the guest sees where ---- */

typedef enum PtaRamVisibility {
    PTA_RAM_UNMAPPED,   /* hidden: device memory beneath shows, or accesses go to registers */
    PTA_RAM_READ_ONLY,  /* writes go to registers, even if device memory is beneath */
    PTA_RAM_READ_WRITE, /* as at the beginning */
} PtaRamVisibility;

/*
 * `range` is one of the pieces that RAM was cut into (a whole RAM range, if it was not). BAD_STATE:
 * "{range} is not a controllable RAM range"; a mapper's error, and then nothing has changed. No VP
 * runs.
 */
bool pta_memory_set_ram_visibility(PtaMemory *mem, PtaRamRange range, PtaRamVisibility visibility,
                                   GError **error);
/* For device memory (device-memory.h), users of DMA, and inspect. */
PtaRegions *pta_memory_regions(PtaMemory *mem);

typedef struct PtaMemoryAttachment PtaMemoryAttachment;

/*
 * Shows all of the view to a partition, now and as it changes; `alias`: at the alias offset too, if
 * there is one (first there). HOST or the partition's error, "failed to attach partition to memory
 * manager"; it then has nothing of it. No VP runs.
 */
PtaMemoryAttachment *pta_memory_attach(PtaMemory *mem, const PtaPartitionMapOps *ops, void *opaque,
                                       bool alias, GError **error);
/* Unmaps everything from it. NULL is nothing. */
void pta_memory_detach(PtaMemoryAttachment *attachment);
/* Instead, if the partition goes and takes its mappings along: its ops are not called any more. The
 * memory may be gone by then. */
void pta_memory_attachment_gone(PtaMemoryAttachment *attachment);

/* ---- accesses ---- */

/* Copies. On failure nothing was copied, whatever part of the range is RAM. */
PtaMemStatus pta_memory_read(const PtaMemory *mem, uint64_t gpa, void *buf, size_t len);
PtaMemStatus pta_memory_write(PtaMemory *mem, uint64_t gpa, const void *buf, size_t len);
PtaMemStatus pta_memory_fill(PtaMemory *mem, uint64_t gpa, uint8_t byte, size_t len);

/* Little-endian words, naturally aligned, read with acquire and written with release order, each in
 * one access. */
PtaMemStatus pta_memory_load_u16(const PtaMemory *mem, uint64_t gpa, uint16_t *value);
PtaMemStatus pta_memory_load_u32(const PtaMemory *mem, uint64_t gpa, uint32_t *value);
PtaMemStatus pta_memory_load_u64(const PtaMemory *mem, uint64_t gpa, uint64_t *value);
PtaMemStatus pta_memory_store_u16(PtaMemory *mem, uint64_t gpa, uint16_t value);
PtaMemStatus pta_memory_store_u32(PtaMemory *mem, uint64_t gpa, uint32_t value);
PtaMemStatus pta_memory_store_u64(PtaMemory *mem, uint64_t gpa, uint64_t value);

/*
 * Describes [gpa, gpa + len) as host iovecs, RAM only, for readv/writev/io_uring. `*n` in: how many
 * there are room for; out: how many were used. `write`: the host will write to them; the caller
 * calls pta_memory_mark_dirty() over what it wrote when it has done so (pta_queue_push does it for
 * devices). The iovecs stay valid as long as `mem` lives: RAM has its place in this process whether
 * the guest sees it or not (mapping.h). A transfer that is under way when the guest hides or protects
 * RAM ends in that RAM, as if the device had been faster.
 */
PtaMemStatus pta_memory_map(PtaMemory *mem, uint64_t gpa, size_t len, bool write, struct iovec *iov,
                            unsigned *n);

/*
 * Says that the host wrote to [gpa, gpa + len): dirty logs, and the software CPU's decoded code,
 * learn of it. All functions above that write call it themselves. Any thread.
 */
void pta_memory_mark_dirty(PtaMemory *mem, uint64_t gpa, uint64_t len);

/* Which pages the host (and VPs, through the partitions) wrote to. Lent. */
PtaDirtyLog *pta_memory_dirty_log(PtaMemory *mem);

/*
 * Who wants to know of host writes (the partition's back end). At most one; NULL to remove.
 * MAIN, while no other thread uses the memory. fn is called from the writing thread, after the
 * write.
 */
typedef void PtaMemoryWriteFn(void *opaque, uint64_t gpa, uint64_t len);
void pta_memory_set_write_observer(PtaMemory *mem, PtaMemoryWriteFn *fn, void *opaque);

#endif
