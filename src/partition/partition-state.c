/* Registers to boot with, page visibility, saved state of the partition unit. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "partition"

#include "src/partition/partition-private.h"

#include <inttypes.h>
#include <string.h>

#include "src/partition/x86-state-table.h"

/* ---- reset, scrub ---- */

bool pta_partition_reset(PtaPartition *p, GError **error)
{
    pta_assert_main();
    g_assert(!pta_vp_set_started(p->vps));
    if (!p->be->ops->reset(p->be, error)) {
        g_prefix_error(error, "partition: ");
        return false;
    }
    if (!pta_vp_set_reset(p->vps, error)) {
        return false;
    }
    if (!partition_hold_for_debugger(p)) {
        pta_partition_clear_halt(p);
    }
    p->needs_reset = false;
    return true;
}

static bool scrub(PtaPartition *p, PtaVtl vtl, GError **error)
{
    bool ok = vtl == PTA_VTL0 ? (!p->be->ops->scrub || p->be->ops->scrub(p->be, error)) &&
                                    pta_vp_set_scrub(p->vps, error)
                              : pta_throw(error, PTA_ERROR_UNSUPPORTED, "there is no VTL %d", vtl);
    if (!ok) {
        g_prefix_error(error, "failed to scrub VTL state: ");
    }
    return ok;
}

bool pta_partition_set_initial_regs(PtaPartition *p, PtaVtl vtl, const PtaX86State *bsp,
                                    GError **error)
{
    pta_assert_main();
    g_assert(!p->started || p->stop_count > 0);
    if (p->needs_reset) {
        if (!scrub(p, vtl, error)) {
            return false;
        }
        p->needs_reset = false;
    }
    if (vtl != PTA_VTL0) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "failed to set registers: there is no VTL %d", vtl);
    }
    if (!pta_vp_set_set_initial_regs(p->vps, bsp, PTA_VP_REGISTERS_ALL, error)) {
        g_prefix_error(error, "failed to set registers: ");
        return false;
    }
    g_free(p->initial);
    p->initial = g_memdup2(bsp, sizeof(*bsp));
    return true;
}

/* ---- initial pages ---- */

static int by_gpa(const void *a, const void *b)
{
    const PtaInitialPages *x = a, *y = b;
    return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

/* Whole pages of RAM, without a gap. */
static bool is_ram(const PtaMemory *mem, const PtaInitialPages *pages)
{
    for (size_t i = 0; i < pta_memory_n_ranges(mem); i++) {
        PtaRamRange r = pta_memory_range(mem, i);
        if (pages->gpa >= r.gpa && pages->gpa - r.gpa < r.size &&
            pages->size <= r.size - (pages->gpa - r.gpa)) {
            return true;
        }
    }
    return false;
}

/* `sorted` by address. */
static bool check_pages(const PtaMemory *mem, const PtaInitialPages *sorted, size_t n,
                        GError **error)
{
    for (size_t i = 0; i < n; i++) {
        const PtaInitialPages *e = &sorted[i];
        const char *wrong = NULL;
        if (e->size == 0 || (e->gpa | e->size) & ~PTA_PAGE_MASK) {
            wrong = "is not made of whole pages";
        } else if (!is_ram(mem, e)) {
            wrong = "is no RAM";
        } else if (i > 0 && sorted[i - 1].gpa + sorted[i - 1].size > e->gpa) {
            wrong = "overlaps another range";
        }
        if (wrong) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                             "failed to set initial page acceptance: 0x%" PRIx64
                             " bytes at 0x%" PRIx64 ": the range %s",
                             e->size, e->gpa, wrong);
        }
    }
    return true;
}

bool pta_partition_set_initial_page_visibility(PtaPartition *p, const PtaInitialPages *pages,
                                               size_t n, GError **error)
{
    pta_assert_main();
    g_assert(!p->started);
    g_autoptr(GArray) sorted = g_array_new(FALSE, FALSE, sizeof(PtaInitialPages));
    g_array_append_vals(sorted, pages, (guint)n);
    g_array_sort(sorted, by_gpa);
    if (!check_pages(p->params.memory, (PtaInitialPages *)(void *)sorted->data, n, error)) {
        return false;
    }
    g_array_unref(p->initial_pages);
    p->initial_pages = g_steal_pointer(&sorted);
    return true;
}

const PtaInitialPages *pta_partition_initial_pages(const PtaPartition *p, size_t *n)
{
    *n = p->initial_pages->len;
    return (const PtaInitialPages *)(const void *)p->initial_pages->data;
}

/* ---- state of single VPs ---- */

static void get_state(PtaBackendVp *vp, void *data)
{
    vp->be->ops->vp_get_state(vp, data);
}

void pta_partition_get_vp_state(PtaPartition *p, unsigned vp, PtaX86State *state)
{
    pta_vp_set_call(p->vps, vp, get_state, state);
}

typedef struct Post {
    PtaX86State *state;
    PtaMainFn *done;
    void *data;
} Post;

static void get_posted_state(PtaBackendVp *vp, void *data)
{
    Post *post = data;
    vp->be->ops->vp_get_state(vp, post->state);
}

static void finish_post(void *data)
{
    Post *post = data;
    post->done(post->data);
    g_free(post);
}

void pta_partition_post_get_vp_state(PtaPartition *p, unsigned vp, PtaX86State *state,
                                     PtaMainFn *done, void *data)
{
    Post *post = g_new(Post, 1);
    *post = (Post){ state, done, data };
    pta_vp_set_post(p->vps, vp, get_posted_state, finish_post, post);
}

bool pta_partition_set_vp_state(PtaPartition *p, unsigned vp, const PtaX86State *state,
                                GError **error)
{
    g_assert(!pta_vp_set_started(p->vps));
    return p->be->ops->vp_set_state(pta_vp_set_get(p->vps, vp), state, error);
}

/* ---- save and restore ---- */

typedef struct PartitionState {
    uint64_t clock_ns;
} PartitionState;

static const PtaStateField partition_fields[] = { PTA_STATE_U64(PartitionState, clock_ns), {} };
static const PtaStateDesc partition_desc = { "partition", 1, sizeof(PartitionState),
                                             partition_fields, NULL };

/* A PtaHaltReason without what is text or follows from the rest. */
typedef struct HaltState {
    PtaX86Regs regs;
    uint64_t dr6;
    uint64_t time_us;
    uint32_t vp;
    uint32_t code;
    uint8_t has_vp;
    uint8_t has_regs;
    uint8_t reserved[6];
} HaltState;

static bool halt_validate(const void *state, GError **error)
{
    const HaltState *s = state;
    return (s->has_vp <= 1 && s->has_regs <= 1 && s->vp < PTA_MAX_VPS) ||
           pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "a field is out of range");
}

static const PtaStateField halt_fields[] = {
    PTA_STATE_SUB(HaltState, regs, &pta_x86_regs_desc),
    PTA_STATE_U64(HaltState, dr6),
    PTA_STATE_U64(HaltState, time_us),
    PTA_STATE_U32(HaltState, vp),
    PTA_STATE_U32(HaltState, code),
    PTA_STATE_U8(HaltState, has_vp),
    PTA_STATE_U8(HaltState, has_regs),
    PTA_STATE_UINT_ARRAY(HaltState, reserved),
    {},
};
static const PtaStateDesc halt_desc = { "halt", 1, sizeof(HaltState), halt_fields, halt_validate };

static json_t *save_halt(const PtaHaltReason *reason, bool told)
{
    HaltState s = {
        .regs = reason->regs,
        .dr6 = reason->dr6,
        .time_us = (uint64_t)reason->time_us,
        .vp = reason->vp,
        .code = reason->code,
        .has_vp = reason->has_vp,
        .has_regs = reason->has_regs,
    };
    g_autofree char *text = g_utf8_make_valid(reason->text, -1);
    return json_pack("{s:s, s:s, s:b, s:o}", "reason", pta_halt_kind_name(reason->kind), "text",
                     text, "reported", told, "state", pta_state_save(&halt_desc, &s));
}

json_t *pta_partition_save(PtaPartition *p)
{
    pta_assert_main();
    g_assert(!p->started && !pta_vp_set_started(p->vps));
    partition_take_halts(p);
    PartitionState s = { .clock_ns = p->be->ops->clock_ns(p->be) };
    json_t *saved =
        json_pack("{s:o, s:o, s:i}", "cpu", partition_save_cpu(p), "partition",
                  pta_state_save(&partition_desc, &s), "stop-count", (int)p->stop_count);
    json_object_set_new(saved, "vps", pta_vp_set_save(p->vps));
    if (p->halt_reason) {
        json_object_set_new(saved, "halt", save_halt(p->halt_reason, p->halt_told));
    }
    return saved;
}

/* A new reason, or NULL. */
static PtaHaltReason *load_halt(const PtaPartition *p, json_t *halt, bool *told, GError **error)
{
    const char *kind = json_string_value(json_object_get(halt, "reason"));
    const char *text = json_string_value(json_object_get(halt, "text"));
    json_t *state = json_object_get(halt, "state");
    json_t *reported = json_object_get(halt, "reported");
    if (!kind || !text || !json_is_boolean(reported) || !state || json_object_size(halt) != 4) {
        pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "halt: expected reason, text, reported and state");
        return NULL;
    }
    g_autofree PtaHaltReason *reason = g_new0(PtaHaltReason, 1);
    if (!pta_halt_kind_parse(kind, &reason->kind) || reason->kind == PTA_HALT_REPLAY_MTRRS) {
        pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "halt: \"%s\" is no reason", kind);
        return NULL;
    }
    HaltState s;
    if (!pta_state_load(&halt_desc, state, &s, error)) {
        return NULL;
    }
    if (s.has_vp && s.vp >= p->params.n_vps) {
        pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "halt: there is no vp%u", s.vp);
        return NULL;
    }
    *told = json_is_true(reported);
    g_strlcpy(reason->text, text, sizeof(reason->text));
    reason->regs = s.regs;
    reason->dr6 = s.dr6;
    reason->time_us = (int64_t)s.time_us;
    reason->vp = s.vp;
    reason->code = s.code;
    reason->has_vp = s.has_vp;
    reason->has_regs = s.has_regs;
    return g_steal_pointer(&reason);
}

/* What this process knew of a halt belongs to the state that is overwritten, but for a break that the
 * debugger asked for and waits for. */
static void drop_halts(PtaPartition *p)
{
    PtaHaltReason *waiting;
    bool asked = false;
    while ((waiting = pta_halt_take(p->halt))) {
        asked |= waiting->kind == PTA_HALT_DEBUG_BREAK && p->debug.attached;
        g_free(waiting);
        pta_halt_clear(p->halt);
    }
    if (asked) {
        pta_partition_debug_break(p);
    }
}

/* The halt is another one, or none; who holds the VPs is not part of the state. */
static void replace_halt(PtaPartition *p, PtaHaltReason *reason, bool told)
{
    drop_halts(p);
    if (reason && reason->kind == PTA_HALT_TRIPLE_FAULT && reason->has_regs) {
        partition_describe_halt(p, reason);
    }
    if (partition_hold_for_debugger(p)) {
        if (reason) {
            g_free(p->halt_reason);
            p->halt_reason = reason;
            p->halt_told = told;
        }
        return;
    }
    partition_forget_halt(p);
    if (reason && !pta_halt_kind_is_debuggers(reason->kind)) {
        p->halt_reason = g_steal_pointer(&reason);
        pta_halt_count(p->halt);
        p->halt_told = told;
        if (!partition_report_to_debugger(p, p->halt_reason) && !told) {
            partition_report_halt(p); /* a debugger that has gone heard of it, and nobody else */
        }
    }
    g_free(reason); /* of a debugger that has let it go, or is not there */
}

static bool restore(PtaPartition *p, const json_t *saved, GError **error)
{
    json_t *cpu = json_object_get(saved, "cpu");
    json_t *partition = json_object_get(saved, "partition");
    json_t *vps = json_object_get(saved, "vps");
    json_t *halt = json_object_get(saved, "halt");
    json_t *stop_count = json_object_get(saved, "stop-count");
    PartitionState s;
    if (!cpu || !partition || !vps || !json_is_integer(stop_count) ||
        json_object_size(saved) != (halt ? 5 : 4)) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "expected cpu, partition, vps, stop-count and perhaps halt");
    }
    g_autofree PtaHaltReason *reason = NULL;
    bool told = false;
    if ((halt && !(reason = load_halt(p, halt, &told, error))) ||
        !pta_state_load(&partition_desc, partition, &s, error) ||
        !partition_restore_cpu(p, cpu, error)) {
        return false;
    }
    p->needs_reset = true;
    /* The VPs' TSCs and timers are set against the partition's clock. */
    p->be->ops->clock_set(p->be, s.clock_ns);
    if (!pta_vp_set_restore(p->vps, vps, error)) {
        return false;
    }
    replace_halt(p, g_steal_pointer(&reason), told);
    return true;
}

bool pta_partition_restore(PtaPartition *p, const json_t *saved, GError **error)
{
    pta_assert_main();
    g_assert(!p->started && !pta_vp_set_started(p->vps));
    return restore(p, saved, error);
}
