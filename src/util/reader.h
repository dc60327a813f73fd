/*
 * Readers without locks: who reads a published pointer says when it begins and when it ends, and who
 * has replaced the pointer waits until all that may still have the old one have ended. A reader pays
 * two stores to memory of its own thread; the writer pays for both, with membarrier(2).
 *
 * A section is short (a copy), does not nest, and does not wait for anybody. Any thread.
 */
#ifndef PTA_READER_H
#define PTA_READER_H

#include "src/util/util.h"

typedef struct PtaReader {
    uint64_t sections; /* ATOMIC, its thread writes: odd while it reads */
    bool fence;        /* CONST: the kernel has no membarrier(), so the reader pays */
    struct PtaReader *next;
} PtaReader;

/* This thread's; NULL until its first section. No thread sees another's. */
extern __thread PtaReader *pta_reader_self;
PtaReader *pta_reader_register(void);

typedef struct PtaReadSection {
    PtaReader *reader;
    uint64_t number;
} PtaReadSection;

static inline PtaReadSection pta_read_begin(void)
{
    PtaReader *r = pta_reader_self;
    if (G_UNLIKELY(!r)) {
        r = pta_reader_register();
    }
    PtaReadSection section = { r, r->sections + 1 };
    __atomic_store_n(&r->sections, section.number, __ATOMIC_RELAXED);
    /* The store comes before every load of the section: for the other side's membarrier() it is
     * enough that the compiler keeps them in order. */
    if (G_UNLIKELY(r->fence)) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return section;
}

static inline void pta_read_end(PtaReadSection section)
{
    __atomic_store_n(&section.reader->sections, section.number + 1, __ATOMIC_RELEASE);
}

/* Returns when every section that had begun has ended. Not from within one. */
void pta_read_wait(void);

#endif
