/* See jobs.h. A job is referred to by the list, and by the call that its thread posts at its end. */
#include "config.h"

#include "src/machine/jobs.h"

typedef struct Job {
    PtaJobs *jobs; /* NULL: it has been ended */
    const PtaJobClass *class;
    void *data;
    GThread *thread;
    int cancel; /* ATOMIC */
} Job;

struct PtaJobs {
    GPtrArray *all; /* of Job */
};

PtaJobs *pta_jobs_new(void)
{
    PtaJobs *jobs = g_new0(PtaJobs, 1);
    jobs->all = g_ptr_array_new();
    return jobs;
}

static void end_job(Job *job)
{
    g_thread_join(job->thread);
    g_ptr_array_remove(job->jobs->all, job);
    job->jobs = NULL;
    job->class->done(job->data);
    g_atomic_rc_box_release(job);
}

static void on_end(void *data)
{
    Job *job = data;
    if (job->jobs) {
        end_job(job);
    }
    g_atomic_rc_box_release(job);
}

static void *run(void *data)
{
    Job *job = data;
    job->class->work(job->data, &job->cancel);
    pta_main_call(on_end, job);
    return NULL;
}

void pta_jobs_free(PtaJobs *jobs)
{
    pta_assert_main();
    if (!jobs) {
        return;
    }
    for (guint i = 0; i < jobs->all->len; i++) {
        g_atomic_int_set(&((Job *)g_ptr_array_index(jobs->all, i))->cancel, 1);
    }
    while (jobs->all->len > 0) {
        end_job(g_ptr_array_index(jobs->all, jobs->all->len - 1));
    }
    g_ptr_array_free(jobs->all, TRUE);
    g_free(jobs);
}

bool pta_jobs_start(PtaJobs *jobs, const PtaJobClass *class, void *data, GError **error)
{
    pta_assert_main();
    if (jobs->all->len >= PTA_MAX_JOBS) {
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "%d requests that take long are under way already", PTA_MAX_JOBS);
    }
    g_autoptr(GError) refused = NULL;
    Job *job = g_atomic_rc_box_new0(Job);
    *job = (Job){ .jobs = jobs, .class = class, .data = data };
    g_atomic_rc_box_acquire(job); /* the posted call's */
    job->thread = g_thread_try_new(class->name, run, job, &refused);
    if (!job->thread) {
        g_atomic_rc_box_release(job);
        g_atomic_rc_box_release(job);
        return pta_throw(error, PTA_ERROR_HOST, "cannot start a thread: %s", refused->message);
    }
    g_ptr_array_add(jobs->all, job);
    return true;
}
