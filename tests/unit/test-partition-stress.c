/*
 * Ten thousand random requests to a partition of four VPs, beside a model that says what each of them
 * has to answer: start, stop, halts from several threads, clear-halt, resets, stop guards, state of
 * VPs, save and restore, a debugger. On the scripted back end and on each real one of this host.
 */
#include "config.h"

#include "src/partition/partition.h"

#include "tests/lib/cmocka-all.h"
#include "tests/lib/fake-backend.h"

#include <stdlib.h>
#include <string.h>

#define N_VPS      4
#define N_REQUESTS 10000
#define MAX_GUARDS 4
#define CODE       0x1000
#define COUNTER(i) (0x2000 + 64 * (i))
#define LIMIT_US   (20 * G_USEC_PER_SEC)

typedef struct Stress {
    const PtaBackendOps *backend;
    PtaMemory *memory;
    PtaPlatform platform;
    PtaPartition *p;
    GRand *rand;
    GString *trace; /* the last requests, for a failure */

    /* what happened */
    unsigned reports, debug_reports;
    PtaHaltKind last;

    /* the model */
    bool started;     /* the unit */
    bool vps_started; /* the VPs, halted or not */
    bool halted;
    PtaHaltKind reason;
    bool told;      /* not only to a debugger */
    GQueue pending; /* kinds of halts that were not taken, oldest first */
    unsigned n_guards;
    PtaStopGuard *guards[MAX_GUARDS];
    bool attached, notifier, reported;
    unsigned want_reports, want_debug_reports;
    PtaHaltKind want_last;
    json_t *saved;
    bool saved_halted, saved_told;
    PtaHaltKind saved_reason;
} Stress;

/* ---- the real thing ---- */

static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    Stress *s = opaque;
    s->reports++;
    s->last = reason->kind;
    for (unsigned i = 0; i < N_VPS; i++) {
        g_assert_cmpint(pta_vp_set_state(pta_partition_vps(s->p), i), ==, PTA_VP_STOPPED);
    }
}

static void on_debug_halt(void *opaque, const PtaHaltReason *reason)
{
    Stress *s = opaque;
    s->debug_reports++;
    s->last = reason->kind;
}

static void no_mmio(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
}

static uint64_t no_mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    return UINT64_MAX;
}

/* All VPs count in a loop of their own, in real mode. */
static void set_spinning(Stress *s)
{
    g_autofree PtaX86State *state = g_new(PtaX86State, 1);
    for (unsigned i = 0; i < N_VPS; i++) {
        pta_x86_state_reset(state, i, i == 0);
        state->events.activity = PTA_X86_RUNNING;
        state->regs.seg[PTA_X86_CS].selector = 0;
        state->regs.seg[PTA_X86_CS].base = 0;
        state->regs.rip = CODE;
        state->regs.gpr[PTA_X86_RBX] = COUNTER(i);
        g_autoptr(GError) error = NULL;
        if (!pta_partition_set_vp_state(s->p, i, state, &error)) {
            fail_msg("vp%u: %s", i, error->message);
        }
    }
}

static uint64_t progress(Stress *s, unsigned vp)
{
    uint64_t values[64] = { 0 };
    s->backend->vp_get_stats(pta_vp_set_get(pta_partition_vps(s->p), vp), values);
    /* What a back end of the scripted kind says of itself, or what the guest has written. */
    uint32_t counter = 0;
    pta_memory_load_u32(s->memory, COUNTER(vp), &counter);
    return values[0] + counter;
}

static void wait_progress(Stress *s, unsigned vp)
{
    gint64 end = g_get_monotonic_time() + LIMIT_US;
    uint64_t before = progress(s, vp);
    while (progress(s, vp) == before) {
        if (g_get_monotonic_time() > end) {
            fail_msg("vp%u does not run after %s", vp, s->trace->str);
        }
        g_usleep(100);
    }
}

static void turn_main_loop(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {}
}

/* ---- the model ---- */

static void model_start(Stress *s)
{
    s->vps_started |= s->started && !s->halted && s->n_guards == 0;
}

static void model_report(Stress *s)
{
    if (s->attached && s->notifier) {
        s->notifier = false;
        s->reported = true;
        s->want_debug_reports++;
        s->want_last = s->reason;
    } else if (!s->attached) {
        s->told = true;
        s->want_reports++;
        s->want_last = s->reason;
    }
}

static void model_take_all(Stress *s)
{
    while (!g_queue_is_empty(&s->pending)) {
        PtaHaltKind kind = GPOINTER_TO_UINT(g_queue_pop_head(&s->pending));
        s->vps_started = false;
        if (kind == PTA_HALT_REPLAY_MTRRS) {
            model_start(s);
        } else if (!s->halted) {
            s->halted = true;
            s->reason = kind;
            s->told = false;
            model_report(s);
        }
    }
}

static bool model_clear(Stress *s)
{
    bool had = s->halted;
    s->halted = false;
    s->reported &= !had;
    if (had) {
        model_start(s);
    }
    return had;
}

/* ---- requests ---- */

static void *halt_thread(void *data)
{
    Stress *s = data;
    PtaHaltKind kind = GPOINTER_TO_UINT(g_queue_peek_tail(&s->pending));
    pta_partition_halt(s->p, &(PtaHaltReason){ .kind = kind, .has_vp = true, .vp = 3 });
    return NULL;
}

static void request_halt(Stress *s)
{
    static const PtaHaltKind kinds[] = {
        PTA_HALT_POWER_OFF, PTA_HALT_RESET,    PTA_HALT_HIBERNATE,
        PTA_HALT_PANIC,     PTA_HALT_WATCHDOG, PTA_HALT_REPLAY_MTRRS,
    };
    PtaHaltKind kind = kinds[g_rand_int_range(s->rand, 0, G_N_ELEMENTS(kinds))];
    g_queue_push_tail(&s->pending, GUINT_TO_POINTER(kind));
    if (g_rand_boolean(s->rand)) {
        halt_thread(s);
    } else {
        g_thread_join(g_thread_new("halt", halt_thread, s));
    }
}

static void request_guard(Stress *s)
{
    if (s->n_guards < MAX_GUARDS && (s->n_guards == 0 || g_rand_int_range(s->rand, 0, 4) == 0)) {
        s->guards[s->n_guards++] = pta_partition_stop_vps(s->p);
        s->vps_started = false;
    } else {
        unsigned i = (unsigned)g_rand_int_range(s->rand, 0, (int)s->n_guards);
        PtaStopGuard *guard = s->guards[i];
        s->guards[i] = s->guards[--s->n_guards];
        pta_stop_guard_free(guard);
        model_start(s);
    }
}

static void stop_unit(Stress *s)
{
    pta_partition_stop(s->p);
    s->vps_started = false;
    s->started = false;
    model_take_all(s);
}

static void request_reset(Stress *s)
{
    stop_unit(s);
    assert_true(pta_partition_reset(s->p, NULL));
    set_spinning(s);
    if (s->reported) {
        s->told = false;
        s->reason = PTA_HALT_DEBUG_BREAK; /* the debugger goes on holding the VPs */
    } else {
        model_clear(s);
    }
}

static void request_save(Stress *s)
{
    stop_unit(s);
    json_decref(s->saved);
    s->saved = pta_partition_save(s->p);
    s->saved_halted = s->halted;
    s->saved_reason = s->reason;
    s->saved_told = s->told;
}

static void request_restore(Stress *s)
{
    if (!s->saved) {
        return;
    }
    stop_unit(s);
    if (g_rand_boolean(s->rand)) {
        request_halt(s); /* waits, and belongs to what is overwritten */
    }
    g_autoptr(GError) error = NULL;
    if (!pta_partition_restore(s->p, s->saved, &error)) {
        fail_msg("%s", error->message);
    }
    bool asked = s->attached && g_queue_find(&s->pending, GUINT_TO_POINTER(PTA_HALT_DEBUG_BREAK));
    g_queue_clear(&s->pending);
    if (asked) {
        g_queue_push_tail(&s->pending, GUINT_TO_POINTER(PTA_HALT_DEBUG_BREAK));
    }
    if (s->reported) {
        s->reason = s->saved_halted ? s->saved_reason : PTA_HALT_DEBUG_BREAK;
        s->told = s->saved_halted && s->saved_told;
        return;
    }
    model_clear(s);
    s->halted = s->saved_halted && !pta_halt_kind_is_debuggers(s->saved_reason);
    s->reason = s->saved_reason;
    s->told = s->saved_told;
    if (s->halted && (s->attached || !s->told)) {
        model_report(s);
    }
}

static void request_debugger(Stress *s)
{
    if (!s->attached) {
        assert_true(pta_partition_debug_attach(s->p, NULL));
        s->attached = true;
        s->notifier = s->reported = false;
    } else if (g_rand_int_range(s->rand, 0, 3) == 0) {
        s->attached = s->notifier = s->reported = false;
        if (s->halted) {
            s->told = true;
            s->want_reports++;
            s->want_last = s->reason;
        }
        pta_partition_debug_detach(s->p);
    } else if (g_rand_int_range(s->rand, 0, 4) == 0) {
        g_queue_push_tail(&s->pending, GUINT_TO_POINTER(PTA_HALT_DEBUG_BREAK));
        pta_partition_debug_break(s->p);
    } else {
        s->notifier = true;
        if (s->reported) {
            model_clear(s);
        } else if (s->halted) {
            model_report(s);
        }
        pta_partition_debug_resume(s->p, on_debug_halt, s);
    }
}

static void request_suspend(Stress *s)
{
    unsigned vp = (unsigned)g_rand_int_range(s->rand, 0, N_VPS);
    pta_vp_set_suspend(pta_partition_vps(s->p), vp, true);
    pta_vp_set_suspend(pta_partition_vps(s->p), vp, false);
}

static void one_request(Stress *s)
{
    static const char names[] = "ssssssssssssphhcccccccccrggttttttttttvvkxXdddddu";
    char what = names[g_rand_int_range(s->rand, 0, sizeof(names) - 1)];
    g_string_append_c(s->trace, what);
    if (s->trace->len > 200) {
        g_string_erase(s->trace, 0, 100);
    }
    switch (what) {
    case 's':
        pta_partition_start(s->p);
        s->started = true;
        model_start(s);
        break;
    case 'p':
        stop_unit(s);
        break;
    case 'h':
        request_halt(s);
        break;
    case 'c':
        if (s->halted || g_rand_boolean(s->rand)) {
            bool want = model_clear(s);
            assert_int_equal(pta_partition_clear_halt(s->p), want);
        }
        break;
    case 'r':
        request_reset(s);
        break;
    case 'g':
        request_guard(s);
        break;
    case 't':
        turn_main_loop();
        model_take_all(s);
        break;
    case 'v': {
        g_autofree PtaX86State *state = g_new(PtaX86State, 1);
        pta_partition_get_vp_state(s->p, (unsigned)g_rand_int_range(s->rand, 0, N_VPS), state);
        break;
    }
    case 'k':
        pta_vp_runner_cancel(pta_vp_set_runner(pta_partition_vps(s->p),
                                               (unsigned)g_rand_int_range(s->rand, 0, N_VPS)));
        break;
    case 'x':
        request_save(s);
        break;
    case 'X':
        request_restore(s);
        break;
    case 'd':
        request_debugger(s);
        break;
    case 'u':
        request_suspend(s);
        break;
    default:
        g_assert_not_reached();
    }
}

/* ---- checks ---- */

static void check(Stress *s)
{
    const PtaHaltReason *reason = pta_partition_halt_reason(s->p);
    if (pta_partition_running(s->p) != s->vps_started ||
        pta_partition_started(s->p) != s->started || !!reason != s->halted ||
        (reason && reason->kind != s->reason) || s->reports != s->want_reports ||
        s->debug_reports != s->want_debug_reports ||
        (s->reports + s->debug_reports > 0 && s->last != s->want_last) ||
        pta_partition_stop_count(s->p) != s->n_guards) {
        fail_msg("after %s: running %d (expected %d), halted %s (expected %s), %u reports "
                 "(expected %u), %u to the debugger (expected %u), last %s (expected %s)",
                 s->trace->str, pta_partition_running(s->p), s->vps_started,
                 reason ? pta_halt_kind_name(reason->kind) : "no",
                 s->halted ? pta_halt_kind_name(s->reason) : "no", s->reports, s->want_reports,
                 s->debug_reports, s->want_debug_reports, pta_halt_kind_name(s->last),
                 pta_halt_kind_name(s->want_last));
    }
}

/* Whether guest code is executed where it should be, and only there. */
static void check_progress(Stress *s)
{
    if (s->vps_started && g_queue_is_empty(&s->pending)) {
        for (unsigned i = 0; i < N_VPS; i++) {
            wait_progress(s, i);
        }
    } else if (!s->vps_started) {
        uint64_t before[N_VPS];
        for (unsigned i = 0; i < N_VPS; i++) {
            before[i] = progress(s, i);
        }
        g_usleep(300);
        for (unsigned i = 0; i < N_VPS; i++) {
            assert_true(progress(s, i) == before[i]);
        }
    }
}

static void stress(const PtaBackendOps *backend)
{
    static const PtaRamRange ram = { 0, 0x10000 };
    static const uint8_t loop[] = {
        0xf0, 0x66, 0xff, 0x07, 0xeb, 0xfa
    }; /* lock inc dword [bx]; jmp back */
    const char *seed = getenv("PTA_TEST_SEED");
    Stress s = { .backend = backend, .last = PTA_HALT_RESET, .want_last = PTA_HALT_RESET };
    s.rand = g_rand_new_with_seed(seed ? (guint32)strtoul(seed, NULL, 0) : 20261125);
    s.trace = g_string_new(NULL);
    s.memory = pta_memory_new(&ram, 1, NULL);
    s.platform = (PtaPlatform){ .mmio_read = no_mmio_read, .mmio_write = no_mmio };
    pta_memory_write(s.memory, CODE, loop, sizeof(loop));
    PtaPartitionParams params = {
        .backend = backend,
        .n_vps = N_VPS,
        .hypervisor = PTA_HYPERVISOR_NONE,
        .memory = s.memory,
        .platform = &s.platform,
        .on_halt = on_halt,
        .opaque = &s,
    };
    g_autoptr(GError) error = NULL;
    s.p = pta_partition_new(&params, &error);
    if (!s.p) {
        fail_msg("%s", error->message);
    }
    g_autofree PtaX86State *bsp = g_new(PtaX86State, 1);
    pta_x86_state_reset(bsp, 0, true);
    assert_true(pta_partition_set_initial_regs(s.p, PTA_VTL0, bsp, NULL)); /* to be replayed */
    set_spinning(&s);
    unsigned n_running = 0;
    for (unsigned i = 0; i < N_REQUESTS; i++) {
        one_request(&s);
        check(&s);
        if (i % 25 == 0) {
            check_progress(&s);
            n_running += s.vps_started;
        }
    }
    assert_true(n_running > 10); /* it was no test of a stopped machine */
    print_message("# %s: %u halts reported, %u to a debugger, %u looks at running VPs\n",
                  backend->name, s.reports, s.debug_reports, n_running);
    assert_true(s.reports > 50 && s.debug_reports > 50);
    pta_partition_free(s.p); /* as it is */
    while (s.n_guards > 0) {
        pta_stop_guard_free(s.guards[--s.n_guards]);
    }
    turn_main_loop();
    json_decref(s.saved);
    g_queue_clear(&s.pending);
    pta_memory_free(s.memory);
    g_string_free(s.trace, TRUE);
    g_rand_free(s.rand);
}

static void stress_case(void **state)
{
    stress(*state);
}

int main(void)
{
    pta_thread_init_main();
    struct CMUnitTest tests[8] = { 0 };
    static char names[8][32];
    size_t n = 0;
    const PtaBackendOps *all[8] = { &fake_backend };
    for (size_t i = 0; pta_backends[i]; i++) {
        all[i + 1] = pta_backends[i];
    }
    for (size_t i = 0; all[i]; i++) {
        if (all[i]->probe(NULL)) {
            g_snprintf(names[n], sizeof(names[n]), "stress_on_%s", all[i]->name);
            tests[n] = (struct CMUnitTest){ .name = names[n],
                                            .test_func = stress_case,
                                            .initial_state = (void *)(uintptr_t)all[i] };
            n++;
        }
    }
    return _cmocka_run_group_tests("stress", tests, n, NULL, NULL);
}
