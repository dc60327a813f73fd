/*
 * Guest-physical memory: RAM backed by a memfd, and the one way in which host code reads and writes
 * it. Guest addresses are hostile: every call checks its range, and a caller that needs a guest
 * word twice reads it once.
 *
 * Threads: construction and destruction MAIN. The map does not change while a VP runs, so accesses
 * take no lock and may come from any thread.
 */
#ifndef PTA_MEMORY_H
#define PTA_MEMORY_H

#include <sys/uio.h>

#include "src/memory/backing.h"
#include "src/memory/dirty.h"

typedef struct PtaMemory PtaMemory;

/* Why an access failed; each names one condition. */
typedef enum PtaMemStatus {
    PTA_MEM_OK = 0,
    PTA_MEM_WRAP,      /* gpa + len passes the end of the 64-bit space */
    PTA_MEM_HOLE,      /* (part of) the range is no RAM: nothing or MMIO is there */
    PTA_MEM_READ_ONLY, /* a write, and (part of) the range is read-only RAM */
    PTA_MEM_TOO_MANY,  /* pta_memory_map: more pieces than iovecs */
    PTA_MEM_ALIGN,     /* a word access that is not naturally aligned */
} PtaMemStatus;

/* English, for logs: "no RAM there". */
const char *pta_mem_status_text(PtaMemStatus status);

typedef struct PtaRamRange {
    uint64_t gpa;
    uint64_t size; /* both multiples of PTA_PAGE_SIZE */
} PtaRamRange;

/* RAM that is a piece of a backing. */
typedef struct PtaRamPart {
    PtaRamRange range;
    PtaBacking *backing;
    uint64_t offset; /* in the backing */
} PtaRamPart;

/*
 * RAM of the given ranges (ascending, disjoint; copied), zeroed, backed by one memfd in which they
 * follow one another. Errors: HOST (memfd or mapping refused), BAD_DESCRIPTION (ranges).
 */
PtaMemory *pta_memory_new(const PtaRamRange *ranges, size_t n, GError **error);
/* The same of backings, to which it takes references. Each part is a range of its own below. */
PtaMemory *pta_memory_new_parts(const PtaRamPart *parts, size_t n, GError **error);
void pta_memory_free(PtaMemory *mem);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaMemory, pta_memory_free)

uint64_t pta_memory_ram_size(const PtaMemory *mem); /* bytes, of all ranges */
size_t pta_memory_n_ranges(const PtaMemory *mem);
PtaRamRange pta_memory_range(const PtaMemory *mem, size_t i);
/* Host address of a range's first byte, for the back end's map(). */
void *pta_memory_range_host(const PtaMemory *mem, size_t i);

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
 * devices). The iovecs stay valid as long as the map does.
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
