/*
 * What a back end's dirty log owes. One VP: every way in which an instruction writes to memory, and
 * the pages that it wrote to. One and several VPs that write at random while the log is being fetched: a
 * copy of memory that is kept up from the log alone becomes whole, and at rest the log names the
 * pages whose bytes have changed.
 */
#ifndef PTA_TESTS_DIRTY_SUITE_H
#define PTA_TESTS_DIRTY_SUITE_H

#include "tests/cpu/cpu-harness.h"

enum {
    /* What the host may report beside what was written: pages that a VP reads or executes for the first time,
     * page tables that the CPU walks, and a page for which a VP was stopped before it wrote to it. */
    DIRTY_LOOSE = 1,
    DIRTY_USER = 2,  /* several VPs run in ring 3 */
    DIRTY_LACKS = 4, /* there are instructions that cannot be executed: said, and left out */
    DIRTY_WHOLE = 8, /* a fetch may give more than it was asked for */
};

void dirty_suite_stores(const PtaBackendOps *ops, unsigned flags);
void dirty_suite_parts(const PtaBackendOps *ops, unsigned flags);
void dirty_suite_crowd(const PtaBackendOps *ops, unsigned n, unsigned flags);

#endif
