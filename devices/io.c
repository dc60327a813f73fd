/* Calls into, and waits for, an I/O thread. Any thread. */
#include "config.h"

#include "devices/io.h"

/* Whether a thread runs the context is asked again this often: it may end while we wait. */
#define RETRY_US 5000

typedef struct Call {
    PtaMainFn *fn;
    void *data;
    GMutex lock;
    GCond cond;
    bool done; /* LOCKED(lock) */
} Call;

static gboolean call_run(gpointer data)
{
    Call *call = data;
    PTA_TSAN_ACQUIRE(call); /* handed over by the context's own lock */
    call->fn(call->data);
    g_mutex_lock(&call->lock);
    call->done = true;
    g_cond_signal(&call->cond);
    g_mutex_unlock(&call->lock);
    return G_SOURCE_REMOVE;
}

static bool call_done(void *data)
{
    return ((Call *)data)->done;
}

void pta_io_call(GMainContext *context, PtaMainFn *fn, void *data)
{
    if (g_main_context_acquire(context)) {
        fn(data);
        g_main_context_release(context);
        return;
    }
    Call call = { .fn = fn, .data = data };
    g_mutex_init(&call.lock);
    g_cond_init(&call.cond);
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_HIGH);
    g_source_set_callback(source, call_run, &call, NULL);
    PTA_TSAN_RELEASE(&call);
    g_source_attach(source, context);
    g_mutex_lock(&call.lock);
    pta_io_wait(context, &call.lock, &call.cond, call_done, &call);
    g_mutex_unlock(&call.lock);
    g_cond_clear(&call.cond);
    g_mutex_clear(&call.lock);
}

void pta_io_wait(GMainContext *context, GMutex *lock, GCond *cond, bool (*done)(void *data),
                 void *data)
{
    while (!done(data)) {
        g_mutex_unlock(lock);
        bool ours = g_main_context_acquire(context);
        if (ours) {
            /* Not for ever: the event may come from a worker that has signalled already. */
            g_main_context_iteration(context, false);
            g_main_context_release(context);
        }
        g_mutex_lock(lock);
        if (!done(data)) {
            g_cond_wait_until(cond, lock,
                              g_get_monotonic_time() + (ours ? RETRY_US / 10 : RETRY_US));
        }
    }
}
