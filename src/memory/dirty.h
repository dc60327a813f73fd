/*
 * Which pages of guest RAM were written: by the host (pta_memory_mark_dirty() calls it), and by VPs
 * (a source: the partition's back end). Several clients at once, each with its own bits, enabled
 * when it comes: migration, snapshots, statistics.
 *
 * What is promised: a page that was written after a client came and before a take is reported by
 * that take or by the next one, and never before the bytes can be read; a page that was not written
 * is not reported, unless a source can only say more. dirty.c says why.
 *
 * Threads: marks any, without a lock. Clients come, take and go in any thread, each client in one at
 * a time. Takes fetch from the sources, which may wait until VPs have come out of guest code for a
 * moment: so a VP's thread may not take, nor whoever a VP waits for.
 */
#ifndef PTA_DIRTY_H
#define PTA_DIRTY_H

#include "src/util/util.h"

#define PTA_DIRTY_GRANULE (2 * PTA_MIB) /* taken in one pass, and skipped fast while clean */
#define PTA_DIRTY_WORDS   (PTA_DIRTY_GRANULE / PTA_PAGE_SIZE / 64)

typedef struct PtaDirtyLog {
    uint32_t on; /* ATOMIC, a bit for each client; 0: nobody cares */
} PtaDirtyLog;   /* dirty.c has the rest */

typedef struct PtaDirtySpan {
    uint64_t gpa, size; /* whole pages */
} PtaDirtySpan;

/* For RAM in these places (ascending, disjoint; copied). What is marked elsewhere, but for the rest of
 * a granule with RAM, is ignored. */
PtaDirtyLog *pta_dirty_log_new(const PtaDirtySpan *spans, size_t n);
void pta_dirty_log_free(PtaDirtyLog *log); /* no clients, no sources */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaDirtyLog, pta_dirty_log_free)

void pta_dirty_log_mark_slow(PtaDirtyLog *log, uint64_t gpa, uint64_t len);

/* The host has written to [gpa, gpa + len): called after the write. Any thread, lock-free. */
static inline void pta_dirty_log_mark(PtaDirtyLog *log, uint64_t gpa, uint64_t len)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the compiler leaves the look behind the write */
    if (G_UNLIKELY(__atomic_load_n(&log->on, __ATOMIC_RELAXED) != 0)) {
        pta_dirty_log_mark_slow(log, gpa, len);
    }
}

/* ---- who else writes ---- */

/* Bit n of `bits`: page gpa + n * PTA_PAGE_SIZE was written; gpa is a multiple of 64 pages. Any
 * thread, lock-free. */
void pta_dirty_log_sink(void *log, uint64_t gpa, uint64_t bits);

/* Called one at a time; not from the thread of a VP. */
typedef struct PtaDirtySource {
    /* From now on what is written is kept, until stop(). What had been written before can be read
     * on return. */
    bool (*start)(void *opaque, GError **error);
    void (*stop)(void *opaque);
    /* Hands what was written in [gpa, gpa + size) (whole pages), and more if it likes, to
     * pta_dirty_log_sink(), and forgets it; on return everything that was so reported can be read,
     * and what is written after that will be reported again. */
    void (*fetch)(void *opaque, uint64_t gpa, uint64_t size);
} PtaDirtySource;

/* At most 4. If there are clients it starts at once, and that may fail. */
bool pta_dirty_log_add_source(PtaDirtyLog *log, const PtaDirtySource *source, void *opaque,
                              GError **error);
void pta_dirty_log_remove_source(PtaDirtyLog *log, void *opaque);

/* ---- clients ---- */

typedef struct PtaDirtyClient PtaDirtyClient;

/* From now on; nothing is dirty yet. At most 8 (BAD_STATE); HOST: a source refuses. */
PtaDirtyClient *pta_dirty_client_new(PtaDirtyLog *log, const char *name, GError **error);
void pta_dirty_client_free(PtaDirtyClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaDirtyClient, pta_dirty_client_free)

/* Bit n % 64 of bits[n / 64]: page gpa + n * PTA_PAGE_SIZE; gpa is a multiple of
 * PTA_DIRTY_GRANULE. */
typedef void PtaDirtyGranuleFn(void *opaque, uint64_t gpa, const uint64_t bits[PTA_DIRTY_WORDS]);

/*
 * The pages in [gpa, gpa + size) (whole pages) that are dirty become clean; how many they were. fn (or
 * NULL) is called for each granule that had any, in ascending order and without a lock, and may read
 * the pages. What is fetched from the sources is as old as the call: who takes long in fn takes
 * granule by granule.
 */
uint64_t pta_dirty_client_take(PtaDirtyClient *client, uint64_t gpa, uint64_t size,
                               PtaDirtyGranuleFn *fn, void *opaque);
/* Makes pages dirty again: what was taken could not be used. */
void pta_dirty_client_give_back(PtaDirtyClient *client, uint64_t gpa,
                                const uint64_t bits[PTA_DIRTY_WORDS]);
/* How many are dirty; they stay so. */
uint64_t pta_dirty_client_count(PtaDirtyClient *client);

typedef struct PtaDirtyInfo {
    char name[32];
    uint64_t takes; /* calls */
    uint64_t taken; /* pages */
} PtaDirtyInfo;

/* Of client i; false: there is none with this number. */
bool pta_dirty_log_info(PtaDirtyLog *log, unsigned i, PtaDirtyInfo *info);
#define PTA_DIRTY_MAX_CLIENTS 8

#endif
