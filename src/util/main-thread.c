/*
 * Which thread is the main one, and calls posted to it. The queue and its lock are ours, so that what
 * happens before what is plain to see, for ThreadSanitizer too; GLib only wakes the main loop.
 */
#include "config.h"

#include "src/util/util.h"

/* How many calls a turn of the main loop makes, so that those who post without end starve nobody. */
#define CALLS_A_TURN 64

typedef struct Call {
    struct Call *next;
    PtaMainFn *fn;
    void *data;
} Call;

typedef struct Queue {
    GMutex lock;
    Call *first, *last; /* LOCKED */
    GSource *source;    /* CONST; ready while there are calls: set under the lock */
} Queue;

static Queue *the_queue(void)
{
    static Queue queue;
    return &queue;
}

static GThread *main_thread_of(bool set)
{
    static GThread *main_thread; /* written once, before there are other threads */
    if (set) {
        main_thread = g_thread_self();
    }
    return main_thread;
}

bool pta_in_main(void)
{
    return main_thread_of(false) == g_thread_self();
}

static Call *pop(Queue *q)
{
    g_mutex_lock(&q->lock);
    Call *call = q->first;
    if (call) {
        q->first = call->next;
    }
    if (!q->first) {
        g_source_set_ready_time(q->source, -1);
    }
    g_mutex_unlock(&q->lock);
    return call;
}

static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)source, (void)callback, (void)data;
    Call *call;
    for (unsigned i = 0; i < CALLS_A_TURN && (call = pop(the_queue())); i++) {
        PtaMainFn *fn = call->fn;
        void *arg = call->data;
        g_free(call);
        fn(arg);
    }
    return G_SOURCE_CONTINUE;
}

void pta_thread_init_main(void)
{
    main_thread_of(true);
    static GSourceFuncs funcs = { .dispatch = dispatch };
    Queue *q = the_queue();
    if (!q->source) {
        q->source = g_source_new(&funcs, sizeof(GSource));
        g_source_set_can_recurse(q->source, TRUE);
        g_source_set_ready_time(q->source, -1);
        g_source_attach(q->source, NULL);
    }
}

void pta_main_call(PtaMainFn *fn, void *data)
{
    Queue *q = the_queue();
    Call *call = g_new(Call, 1);
    *call = (Call){ .fn = fn, .data = data };
    g_mutex_lock(&q->lock);
    if (q->first) {
        q->last->next = call;
    } else {
        q->first = call;
        g_source_set_ready_time(q->source, 0);
    }
    q->last = call;
    g_mutex_unlock(&q->lock);
}
