/*
 * Work on an I/O thread, that is, in the GMainContext that it runs. Where no thread runs the
 * context (tests, and the end of a machine), the caller runs it itself.
 */
#ifndef PTA_IO_H
#define PTA_IO_H

#include "src/util/util.h"

/* Runs fn(data) in the context and returns when it has returned. Not with a lock held that anything
 * in the context takes. */
void pta_io_call(GMainContext *context, PtaMainFn *fn, void *data);

/*
 * Waits until done(data), called with the lock held, says so. What makes it true happens in the
 * context, under the lock, and signals cond. The lock is held on entry and on return, and not in
 * between.
 */
void pta_io_wait(GMainContext *context, GMutex *lock, GCond *cond, bool (*done)(void *data),
                 void *data);

#endif
