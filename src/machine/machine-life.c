/*
 * Requests that move the whole machine: each is a list of steps, made one after the other, and the
 * requests form a queue. A step that has to wait ends in the main loop, which goes on meanwhile. What
 * a request means is decided when its turn comes. Main thread.
 */
#include "config.h"

#define G_LOG_DOMAIN "machine"

#include "src/machine/machine-private.h"

#include <string.h>

#include "devices/power.h"

typedef enum Step {
    STEP_END,
    STEP_STOP,
    STEP_SAVE,
    STEP_RESET,
    STEP_LOAD,     /* boot image and registers */
    STEP_RESTORE,  /* what STEP_SAVE has saved */
    STEP_SAVE_TOO, /* and compare with it */
    STEP_FINISH,   /* the request's own; left out after a failure */
    STEP_START,    /* if `start` says so */
} Step;

typedef struct Request {
    Step steps[8];
    /* False: that was all, *error says whether something was wrong. NULL: begins always. */
    bool (*begin)(PtaVm *vm, PtaVmTransition *t, GError **error);
    void (*finish)(PtaVm *vm, PtaVmTransition *t); /* STEP_FINISH */
    /* From this step on a failure leaves nothing that could run on. */
    Step point_of_no_return;
} Request;

struct PtaVmTransition {
    const Request *request;
    unsigned step; /* the one under way */
    bool begun;
    bool start; /* the units start again at the end */
    GError *error;
    PtaVmDone *done;
    PtaVmPulseDone *pulse_done;
    PtaVmClearHaltDone *clear_halt_done;
    void *data;
    /* reset */
    bool guest;
    const char *cause;
    PtaRunState before;
    /* pulse */
    json_t *saved;
    gint64 stop_us;
    PtaVmPulse pulse;
    unsigned later; /* PtaVmLater: what came meanwhile, and would be lost by the restore */
    /* clear-halt */
    bool had_halt;
};

static void next_step(PtaVm *vm);

/* ---- cont, stop ---- */

static bool cont_begin(PtaVm *vm, PtaVmTransition *t, GError **error)
{
    switch (vm->state) {
    case PTA_RUN_STATE_RUNNING:
        return false;
    case PTA_RUN_STATE_SHUTDOWN:
    case PTA_RUN_STATE_GUEST_PANICKED:
    case PTA_RUN_STATE_INTERNAL_ERROR:
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "Resetting the Virtual Machine is required (it is in state \"%s\")",
                         pta_run_state_name(vm->state));
    case PTA_RUN_STATE_DEBUG:
        if (pta_partition_debug_attached(vm->partition)) {
            return pta_throw(error, PTA_ERROR_BAD_STATE,
                             "a debugger has stopped the machine (it is in state \"debug\")");
        }
        break;
    case PTA_RUN_STATE_PRELAUNCH:
        vm->start_time_us = g_get_real_time();
        break;
    default:
        break;
    }
    pta_vm_enter(vm, PTA_RUN_STATE_RUNNING);
    if (!pta_partition_debug_attached(vm->partition)) {
        pta_partition_clear_halt(vm->partition); /* a debug stop ends by going on */
    } else if (pta_partition_halt_reason(vm->partition)) {
        pta_vm_enter(vm, PTA_RUN_STATE_DEBUG); /* the debugger says when */
    }
    pta_vm_tell_resumed(vm);
    t->start = true;
    return true;
}

static const Request cont_request = { { STEP_START }, .begin = cont_begin };

static bool stop_begin(PtaVm *vm, PtaVmTransition *t, GError **error)
{
    (void)t;
    (void)error;
    if (vm->state != PTA_RUN_STATE_RUNNING) {
        return false;
    }
    /* A halt that races with us is taken up on the way, and then decides the state. */
    pta_vm_enter(vm, PTA_RUN_STATE_PAUSED);
    return true;
}

static void stop_finish(PtaVm *vm, PtaVmTransition *t)
{
    (void)t;
    pta_vm_tell_stopped(vm);
}

static const Request stop_request = { { STEP_STOP, STEP_FINISH },
                                      .begin = stop_begin,
                                      .finish = stop_finish };

/* ---- clear-halt ---- */

static bool clear_halt_begin(PtaVm *vm, PtaVmTransition *t, GError **error)
{
    if (!pta_partition_halt_reason(vm->partition)) {
        return false;
    }
    if (pta_partition_debug_attached(vm->partition)) {
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "the halt is a debugger's to clear (the machine is in state \"%s\")",
                         pta_run_state_name(vm->state));
    }
    if (vm->state != PTA_RUN_STATE_PAUSED && vm->state != PTA_RUN_STATE_PRELAUNCH) {
        pta_vm_enter(vm,
                     pta_units_started(vm->units) ? PTA_RUN_STATE_RUNNING : PTA_RUN_STATE_PAUSED);
    }
    if (vm->state == PTA_RUN_STATE_RUNNING) {
        pta_vm_tell_resumed(vm);
    }
    t->had_halt = pta_partition_clear_halt(vm->partition);
    return false;
}

static const Request clear_halt_request = { { STEP_END }, .begin = clear_halt_begin };

/* ---- reset ---- */

static bool reset_begin(PtaVm *vm, PtaVmTransition *t, GError **error)
{
    (void)error;
    t->before = vm->state;
    return true;
}

static void reset_finish(PtaVm *vm, PtaVmTransition *t)
{
    vm->start_time_us = g_get_real_time();
    PTA_VM_TELL(vm, reset, t->guest, t->cause);
    if (t->before == PTA_RUN_STATE_PRELAUNCH || t->before == PTA_RUN_STATE_PAUSED) {
        pta_vm_enter(vm, PTA_RUN_STATE_PRELAUNCH); /* as QEMU: reset, and waiting for cont */
        return;
    }
    /* A debugger that holds the VPs goes on holding them. */
    pta_vm_enter(vm, pta_partition_debug_holds(vm->partition) ? PTA_RUN_STATE_DEBUG
                                                              : PTA_RUN_STATE_RUNNING);
    pta_vm_tell_resumed(vm);
    t->start = true;
}

static const Request reset_request = {
    { STEP_STOP, STEP_RESET, STEP_LOAD, STEP_FINISH, STEP_START },
    .begin = reset_begin,
    .finish = reset_finish,
    .point_of_no_return = STEP_RESET,
};

/* ---- pulse ---- */

static bool pulse_begin(PtaVm *vm, PtaVmTransition *t, GError **error)
{
    (void)error;
    t->start = pta_units_started(vm->units);
    t->stop_us = g_get_monotonic_time();
    return true;
}

static void pulse_finish(PtaVm *vm, PtaVmTransition *t)
{
    (void)vm;
    t->pulse.downtime_ns = (uint64_t)(g_get_monotonic_time() - t->stop_us) * 1000;
}

static const Request pulse_request = {
    { STEP_STOP, STEP_SAVE, STEP_RESET, STEP_RESTORE, STEP_SAVE_TOO, STEP_FINISH, STEP_START },
    .begin = pulse_begin,
    .finish = pulse_finish,
    .point_of_no_return = STEP_RESET,
};

static void count_saved(PtaVmTransition *t)
{
    size_t i;
    json_t *unit;
    json_array_foreach(t->saved, i, unit)
    {
        json_t *state = json_object_get(unit, "state");
        if (!json_is_null(state)) {
            t->pulse.n_units++;
            t->pulse.state_bytes += json_dumpb(state, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
        }
    }
}

/* Where two values differ first: "fields.tsc"; NULL if nowhere. */
static char *find_difference(const json_t *a, const json_t *b)
{
    if (json_is_object(a) && json_is_object(b)) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)a, key, value)
        {
            g_autofree char *below = find_difference(value, json_object_get(b, key));
            if (below) {
                return *below ? g_strdup_printf("%s.%s", key, below) : g_strdup(key);
            }
        }
        json_object_foreach((json_t *)(uintptr_t)b, key, value)
        {
            if (!json_object_get(a, key)) {
                return g_strdup(key);
            }
        }
        return NULL;
    }
    if (json_is_array(a) && json_is_array(b) && json_array_size(a) == json_array_size(b)) {
        for (size_t i = 0; i < json_array_size(a); i++) {
            g_autofree char *below = find_difference(json_array_get(a, i), json_array_get(b, i));
            if (below) {
                return *below ? g_strdup_printf("%zu.%s", i, below) : g_strdup_printf("%zu", i);
            }
        }
        return NULL;
    }
    return json_equal(a, b) ? NULL : g_strdup("");
}

/* What belongs to others in this process, who may have changed it meanwhile: stop guards, and the halts
 * that a debugger makes and lets go. */
static void leave_out_others(const PtaVm *vm, json_t *partition)
{
    PtaHaltKind kind;
    const char *reason =
        json_string_value(json_object_get(json_object_get(partition, "halt"), "reason"));
    json_object_del(partition, "stop-count");
    if (pta_partition_debug_attached(vm->partition) ||
        (reason && pta_halt_kind_parse(reason, &kind) && pta_halt_kind_is_debuggers(kind))) {
        json_object_del(partition, "halt");
    }
    json_object_del(json_object_get(partition, "halt"), "reported");
}

/* Each unit is again what it was. One thing may differ: the guest is told anew how TSC and reference
 * time relate, by a new sequence number (TLFS 12.7). */
static GError *compare_saved(const PtaVm *vm, const json_t *before, const json_t *after)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (size_t i = 0; i < json_array_size(before); i++) {
        json_t *a = json_array_get(before, i);
        json_t *b = json_array_get(after, i);
        const char *name = json_string_value(json_object_get(a, "name"));
        json_t *old = json_object_get(json_object_get(a, "state"), "fields");
        json_t *now = json_object_get(json_object_get(b, "state"), "fields");
        if (strcmp(name, "synic") == 0) {
            json_object_set(old, "tsc_sequence", json_object_get(now, "tsc_sequence"));
        } else if (strcmp(name, "partition") == 0) {
            leave_out_others(vm, json_object_get(a, "state"));
            leave_out_others(vm, json_object_get(b, "state"));
        }
        g_autofree char *where =
            find_difference(json_object_get(a, "state"), json_object_get(b, "state"));
        if (where) {
            g_string_append_printf(text, "%s%s: %s is not what was saved", text->len ? "; " : "",
                                   name, where);
        }
    }
    return text->len > 0 ? g_error_new_literal(PTA_ERROR, PTA_ERROR_GENERIC_ERROR, text->str)
                         : NULL;
}

/* ---- steps ---- */

bool pta_vm_do_later(PtaVm *vm, PtaVmLater what)
{
    PtaVmTransition *t = g_queue_peek_head(&vm->transitions);
    if (!t || t->request != &pulse_request) {
        return false;
    }
    t->later |= (unsigned)what;
    return true;
}

static void end_transition(PtaVm *vm)
{
    PtaVmTransition *t = g_queue_pop_head(&vm->transitions);
    if (t->later & PTA_VM_LATER_BUTTON) {
        pta_power_button(vm->power);
    }
    if (t->later & PTA_VM_LATER_NMI) {
        pta_vm_inject_nmi(vm);
    }
    if (t->error) {
        g_info("machine: %s", t->error->message);
    }
    if (t->done) {
        t->done(t->data, t->error);
    }
    if (t->pulse_done) {
        t->pulse_done(t->data, &t->pulse, t->error);
    }
    if (t->clear_halt_done) {
        t->clear_halt_done(t->data, t->had_halt, t->error);
    }
    json_decref(t->saved);
    g_clear_error(&t->error);
    g_free(t);
}

static const char *step_verb(Step step)
{
    static const char *const verbs[] = {
        [STEP_STOP] = "stop",   [STEP_SAVE] = "save",       [STEP_RESET] = "reset",
        [STEP_LOAD] = "reset",  [STEP_RESTORE] = "restore", [STEP_SAVE_TOO] = "save",
        [STEP_START] = "start",
    };
    return verbs[step];
}

/* On to the last step: what can run on does. */
static void step_failed(PtaVm *vm, PtaVmTransition *t, Step step, const GError *error)
{
    t->error = g_error_copy(error);
    g_prefix_error(&t->error, "%s failed: ", step_verb(step));
    Step limit = t->request->point_of_no_return;
    if (limit != STEP_END && step >= limit) {
        pta_vm_enter(vm, PTA_RUN_STATE_INTERNAL_ERROR);
        pta_vm_tell_stopped(vm);
        t->start = false;
    }
    while (t->request->steps[t->step] != STEP_START && t->request->steps[t->step] != STEP_END) {
        t->step++;
    }
}

static void step_done(void *data, json_t *saved, const GError *error)
{
    PtaVm *vm = data;
    PtaVmTransition *t = g_queue_peek_head(&vm->transitions);
    Step step = t->request->steps[t->step++];
    if (error) {
        step_failed(vm, t, step, error);
    } else if (step == STEP_SAVE) {
        t->saved = json_incref(saved);
        count_saved(t);
    } else if (step == STEP_SAVE_TOO) {
        t->error = compare_saved(vm, t->saved, saved);
    }
    next_step(vm);
}

static void load_step(PtaVm *vm)
{
    g_autoptr(GError) error = NULL;
    pta_vm_load_kernel(vm, &error);
    step_done(vm, NULL, error);
}

static void begin_first(PtaVm *vm);

static void next_step(PtaVm *vm)
{
    PtaVmTransition *t = g_queue_peek_head(&vm->transitions);
    switch (t->request->steps[t->step]) {
    case STEP_STOP:
        pta_units_stop(vm->units, step_done, vm);
        break;
    case STEP_SAVE:
    case STEP_SAVE_TOO:
        pta_units_save(vm->units, step_done, vm);
        break;
    case STEP_RESET:
        pta_units_reset(vm->units, step_done, vm);
        break;
    case STEP_LOAD:
        load_step(vm);
        break;
    case STEP_RESTORE:
        pta_units_restore(vm->units, t->saved, step_done, vm);
        break;
    case STEP_FINISH:
        t->request->finish(vm, t);
        step_done(vm, NULL, NULL);
        break;
    case STEP_START:
        if (t->start) {
            pta_units_start(vm->units, step_done, vm);
        } else {
            step_done(vm, NULL, NULL);
        }
        break;
    case STEP_END:
        end_transition(vm);
        begin_first(vm);
        break;
    }
}

/* ---- the queue ---- */

/* The first of the queue begins, if it has not. */
static void begin_first(PtaVm *vm)
{
    PtaVmTransition *t;
    while ((t = g_queue_peek_head(&vm->transitions)) && !t->begun) {
        t->begun = true;
        if (t->request->begin(vm, t, &t->error)) {
            next_step(vm);
        } else {
            end_transition(vm);
        }
    }
}

static PtaVmTransition *transition_new(const Request *request, void *data)
{
    pta_assert_main();
    PtaVmTransition *t = g_new0(PtaVmTransition, 1);
    t->request = request;
    t->data = data;
    return t;
}

static void enqueue(PtaVm *vm, PtaVmTransition *t)
{
    g_queue_push_tail(&vm->transitions, t);
    begin_first(vm);
}

void pta_vm_cont(PtaVm *vm, PtaVmDone *done, void *data)
{
    PtaVmTransition *t = transition_new(&cont_request, data);
    t->done = done;
    enqueue(vm, t);
}

void pta_vm_stop(PtaVm *vm, PtaVmDone *done, void *data)
{
    PtaVmTransition *t = transition_new(&stop_request, data);
    t->done = done;
    enqueue(vm, t);
}

void pta_vm_reset(PtaVm *vm, PtaVmDone *done, void *data)
{
    PtaVmTransition *t = transition_new(&reset_request, data);
    t->done = done;
    t->cause = "host-qmp-system-reset";
    enqueue(vm, t);
}

void pta_vm_clear_halt(PtaVm *vm, PtaVmClearHaltDone *done, void *data)
{
    PtaVmTransition *t = transition_new(&clear_halt_request, data);
    t->clear_halt_done = done;
    enqueue(vm, t);
}

static void guest_reset_done(void *data, const GError *error)
{
    (void)data;
    if (error) {
        g_warning("machine: %s", error->message);
    }
}

void pta_vm_guest_reset(PtaVm *vm, const char *cause)
{
    const PtaVmTransition *first = g_queue_peek_head(&vm->transitions);
    if (first && first->request == &reset_request &&
        first->request->steps[first->step] == STEP_STOP) {
        return; /* it asked just before it is reset anyway */
    }
    PtaVmTransition *t = transition_new(&reset_request, NULL);
    t->done = guest_reset_done;
    t->guest = true;
    t->cause = cause;
    enqueue(vm, t);
}

void pta_vm_pulse_save_restore(PtaVm *vm, PtaVmPulseDone *done, void *data)
{
    PtaVmTransition *t = transition_new(&pulse_request, data);
    t->pulse_done = done;
    enqueue(vm, t);
}

bool pta_vm_will_run(const PtaVm *vm)
{
    const PtaVmTransition *t = g_queue_peek_head((GQueue *)(uintptr_t)&vm->transitions);
    return pta_units_started(vm->units) || (t && t->begun && t->start);
}

static gboolean time_is_up(gpointer data)
{
    *(bool *)data = true;
    return G_SOURCE_REMOVE;
}

bool pta_vm_wait(PtaVm *vm, int timeout_ms)
{
    pta_assert_main();
    bool up = timeout_ms == 0;
    guint timer = timeout_ms > 0 ? g_timeout_add((guint)timeout_ms, time_is_up, &up) : 0;
    while (!g_queue_is_empty(&vm->transitions) && !up) {
        g_main_context_iteration(NULL, TRUE);
    }
    if (timer != 0 && !up) {
        g_source_remove(timer);
    }
    return g_queue_is_empty(&vm->transitions);
}
