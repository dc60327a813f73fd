/* The halt counter and its reasons. Any thread, under its own leaf lock. */
#include "config.h"

#include "src/partition/halt.h"

struct PtaHalt {
    GMutex lock;
    unsigned count;      /* LOCKED; also read without the lock by pta_halt_pending: ATOMIC */
    GQueue reasons;      /* LOCKED: those not taken, oldest first */
    PtaHaltWakeFn *wake; /* LOCKED */
    void *wake_opaque;
    GSource *source;   /* CONST: wakes the main thread; set ready under the lock */
    PtaMainFn *notify; /* CONST */
    void *data;
};

static const char *const kind_names[PTA_N_HALTS] = {
    [PTA_HALT_POWER_OFF] = "power-off",
    [PTA_HALT_RESET] = "reset",
    [PTA_HALT_HIBERNATE] = "hibernate",
    [PTA_HALT_TRIPLE_FAULT] = "triple-fault",
    [PTA_HALT_PANIC] = "crash",
    [PTA_HALT_DEBUG_BREAK] = "debug-break",
    [PTA_HALT_SINGLE_STEP] = "single-step",
    [PTA_HALT_HW_BREAKPOINT] = "hw-breakpoint",
    [PTA_HALT_SW_BREAKPOINT] = "sw-breakpoint",
    [PTA_HALT_WATCHDOG] = "watchdog",
    [PTA_HALT_INTERNAL_ERROR] = "internal-error",
    [PTA_HALT_DEBUG_EXIT] = "debug-exit",
    [PTA_HALT_REPLAY_MTRRS] = "replay-mtrrs",
};

const char *pta_halt_kind_name(PtaHaltKind kind)
{
    g_assert(kind < PTA_N_HALTS);
    return kind_names[kind];
}

bool pta_halt_kind_parse(const char *name, PtaHaltKind *kind)
{
    for (unsigned i = 0; i < PTA_N_HALTS; i++) {
        if (g_str_equal(kind_names[i], name)) {
            *kind = (PtaHaltKind)i;
            return true;
        }
    }
    return false;
}

bool pta_halt_kind_is_debuggers(PtaHaltKind kind)
{
    return kind == PTA_HALT_DEBUG_BREAK || kind == PTA_HALT_SINGLE_STEP ||
           kind == PTA_HALT_HW_BREAKPOINT || kind == PTA_HALT_SW_BREAKPOINT;
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    g_source_set_ready_time(source, -1);
    return callback(data);
}

static gboolean source_notify(gpointer data)
{
    PtaHalt *halt = data;
    halt->notify(halt->data);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = { .dispatch = source_dispatch };

PtaHalt *pta_halt_new(PtaMainFn *notify, void *data)
{
    pta_assert_main();
    PtaHalt *halt = g_new0(PtaHalt, 1);
    g_mutex_init(&halt->lock);
    g_queue_init(&halt->reasons);
    halt->notify = notify;
    halt->data = data;
    halt->source = g_source_new(&source_funcs, sizeof(GSource));
    g_source_set_callback(halt->source, source_notify, halt, NULL);
    g_source_attach(halt->source, NULL);
    return halt;
}

void pta_halt_free(PtaHalt *halt)
{
    if (!halt) {
        return;
    }
    pta_assert_main();
    g_source_destroy(halt->source);
    g_source_unref(halt->source);
    g_queue_clear_full(&halt->reasons, g_free);
    g_mutex_clear(&halt->lock);
    g_free(halt);
}

void pta_halt_set_waker(PtaHalt *halt, PtaHaltWakeFn *wake, void *opaque)
{
    g_mutex_lock(&halt->lock);
    g_assert(!wake || !halt->wake);
    halt->wake = wake;
    halt->wake_opaque = opaque;
    g_mutex_unlock(&halt->lock);
}

void pta_halt(PtaHalt *halt, const PtaHaltReason *reason)
{
    PtaHaltReason *copy = g_memdup2(reason, sizeof(*reason));
    if (copy->time_us == 0) {
        copy->time_us = g_get_real_time();
    }
    g_mutex_lock(&halt->lock);
    __atomic_store_n(&halt->count, halt->count + 1, __ATOMIC_SEQ_CST);
    /* Queued under the counter's lock, so that counter and reasons stay one to one. */
    g_queue_push_tail(&halt->reasons, copy);
    if (halt->wake) {
        halt->wake(halt->wake_opaque);
    }
    g_source_set_ready_time(halt->source, 0);
    g_mutex_unlock(&halt->lock);
}

bool pta_halt_pending(PtaHalt *halt)
{
    return __atomic_load_n(&halt->count, __ATOMIC_SEQ_CST) > 0;
}

PtaHaltReason *pta_halt_take(PtaHalt *halt)
{
    pta_assert_main();
    g_mutex_lock(&halt->lock);
    PtaHaltReason *reason = g_queue_pop_head(&halt->reasons);
    g_mutex_unlock(&halt->lock);
    return reason;
}

void pta_halt_clear(PtaHalt *halt)
{
    pta_assert_main();
    g_mutex_lock(&halt->lock);
    g_assert(halt->count > g_queue_get_length(&halt->reasons)); /* too many halt clears */
    __atomic_store_n(&halt->count, halt->count - 1, __ATOMIC_SEQ_CST);
    g_mutex_unlock(&halt->lock);
}

void pta_halt_count(PtaHalt *halt)
{
    pta_assert_main();
    g_mutex_lock(&halt->lock);
    __atomic_store_n(&halt->count, halt->count + 1, __ATOMIC_SEQ_CST);
    if (halt->wake) {
        halt->wake(halt->wake_opaque);
    }
    g_mutex_unlock(&halt->lock);
}

unsigned pta_halt_outstanding(PtaHalt *halt)
{
    return __atomic_load_n(&halt->count, __ATOMIC_SEQ_CST);
}
