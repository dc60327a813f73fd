/*
 * A thread with a GMainContext of its own, for queues and character devices. Threads: new and free
 * MAIN; sources are attached to its context from any thread.
 */
#ifndef PTA_IO_THREAD_H
#define PTA_IO_THREAD_H

#include "src/util/util.h"

typedef struct PtaIoThread PtaIoThread;

PtaIoThread *pta_io_thread_new(const char *name, GError **error);
void pta_io_thread_free(PtaIoThread *io); /* waits for its end */
GMainContext *pta_io_thread_context(PtaIoThread *io);

#endif
