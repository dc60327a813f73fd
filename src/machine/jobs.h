/*
 * Work of a machine's that blocks (files, /proc), each piece in a thread of its own, its end told in the
 * main thread.
 */
#ifndef PTA_JOBS_H
#define PTA_JOBS_H

#include "src/util/util.h"

typedef struct PtaJobs PtaJobs;

typedef struct PtaJobClass {
    const char *name; /* of the thread */
    /* In the thread. Ends soon once *cancel (ATOMIC) is not 0. */
    void (*work)(void *data, const int *cancel);
    /* MAIN, after work() has returned: exactly once. */
    void (*done)(void *data);
} PtaJobClass;

#define PTA_MAX_JOBS 8

/* MAIN, all of them. */
PtaJobs *pta_jobs_new(void);
/* Cancels what is under way, waits for it, and calls done(). */
void pta_jobs_free(PtaJobs *jobs);
/* BAD_STATE: PTA_MAX_JOBS are under way. HOST. Then done() is not called. */
bool pta_jobs_start(PtaJobs *jobs, const PtaJobClass *job, void *data, GError **error);

#endif
