/* The partition unit: life, running, halts. Main thread. Registers and saved state are in
 * partition-state.c, the debugger's part is in partition-debug.c. */
#include "config.h"

#define G_LOG_DOMAIN "partition"

#include "src/partition/partition-private.h"

#include <inttypes.h>

static void on_halts(void *data)
{
    partition_take_halts(data);
}

static void host_wrote(void *opaque, uint64_t gpa, uint64_t len)
{
    PtaPartition *p = opaque;
    p->be->ops->host_wrote(p->be, gpa, len);
}

/* ---- the memory's dirty log ---- */

static bool dirty_start(void *opaque, GError **error)
{
    PtaPartition *p = opaque;
    const PtaBackendOps *ops = p->be->ops;
    if (!ops->dirty_start) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "the back end %s cannot say which pages VPs write to", ops->name);
    }
    return ops->dirty_start(p->be, pta_dirty_log_sink, pta_memory_dirty_log(p->params.memory),
                            error);
}

static void dirty_stop(void *opaque)
{
    PtaPartition *p = opaque;
    p->be->ops->dirty_stop(p->be);
}

static void dirty_fetch(void *opaque, uint64_t gpa, uint64_t size)
{
    PtaPartition *p = opaque;
    p->be->ops->dirty_fetch(p->be, gpa, size);
}

static const PtaDirtySource dirty_source = {
    .start = dirty_start,
    .stop = dirty_stop,
    .fetch = dirty_fetch,
};

/* ---- memory ---- */

#define SAME(right) ((unsigned)PTA_VIEW_##right == (unsigned)PTA_MAP_##right)
G_STATIC_ASSERT(SAME(READ) && SAME(WRITE) && SAME(EXEC));

static bool map_piece(void *opaque, uint64_t gpa, uint64_t size, void *host, unsigned flags,
                      GError **error)
{
    PtaPartition *p = opaque;
    g_assert(!p->vps || !pta_vp_set_started(p->vps));
    return p->be->ops->map(p->be, gpa, size, host, flags, error);
}

static bool unmap_piece(void *opaque, uint64_t gpa, uint64_t size, GError **error)
{
    PtaPartition *p = opaque;
    g_assert(!p->vps || !pta_vp_set_started(p->vps));
    return p->be->ops->unmap(p->be, gpa, size, error);
}

static const PtaPartitionMapOps map_ops = { map_piece, unmap_piece };

static bool attach_memory(PtaPartition *p, GError **error)
{
    p->attachment = pta_memory_attach(p->params.memory, &map_ops, p, false, error);
    return p->attachment != NULL;
}

/* ---- life ---- */

static bool make_backend(PtaPartition *p, GError **error)
{
    const PtaPartitionParams *params = &p->params;
    const PtaBackendOps *ops = params->backend;
    if (!partition_build_cpu(p, NULL, ops->tsc_hz(NULL), &p->cpuid, error)) {
        return false;
    }
    PtaBackendParams be_params = {
        .n_vps = params->n_vps,
        .cpuid = &p->cpuid,
        .platform = params->platform,
        .hypervisor = params->hypervisor,
        .stepper = ops == &pta_soft_backend ? NULL : &pta_soft_backend,
    };
    p->be = ops->create(&be_params, error);
    return p->be && attach_memory(p, error);
}

static bool make_vps(PtaPartition *p, GError **error)
{
    p->vps = pta_vp_set_new(p->be, p->params.n_vps, p->halt, error);
    return p->vps && (p->params.no_threads || pta_vp_set_spawn(p->vps, error));
}

PtaPartition *pta_partition_new(const PtaPartitionParams *params, GError **error)
{
    pta_assert_main();
    PtaPartition *p = g_new0(PtaPartition, 1);
    p->params = *params;
    p->halt = pta_halt_new(on_halts, p);
    p->link = g_atomic_rc_box_new0(PtaPartitionLink);
    p->link->p = p;
    p->initial_pages = g_array_new(FALSE, FALSE, sizeof(PtaInitialPages));
    if (!make_backend(p, error) || !make_vps(p, error) ||
        !pta_dirty_log_add_source(pta_memory_dirty_log(params->memory), &dirty_source, p, error)) {
        pta_partition_free(p);
        return NULL;
    }
    if (p->be->ops->host_wrote) {
        pta_memory_set_write_observer(params->memory, host_wrote, p);
    }
    return p;
}

void pta_partition_free(PtaPartition *p)
{
    pta_assert_main();
    if (!p) {
        return;
    }
    p->link->p = NULL;
    g_atomic_rc_box_release(p->link);
    pta_dirty_log_remove_source(pta_memory_dirty_log(p->params.memory), p);
    g_clear_pointer(&p->vps, pta_vp_set_free);
    if (p->be) {
        pta_memory_set_write_observer(p->params.memory, NULL, NULL);
        pta_memory_detach(p->attachment);
        p->be->ops->destroy(p->be);
    }
    pta_halt_free(p->halt);
    g_array_free(p->initial_pages, TRUE);
    g_free(p->halt_reason);
    g_free(p->initial);
    g_free(p);
}

/* ---- running ---- */

void partition_start_vps(PtaPartition *p)
{
    if (!p->started || p->halt_reason || p->stop_count > 0) {
        return;
    }
    p->needs_reset = true;
    if (!pta_vp_set_started(p->vps)) {
        p->be->ops->clock_start(p->be);
    }
    pta_vp_set_start(p->vps);
}

void partition_stop_vps(PtaPartition *p)
{
    if (!pta_vp_set_started(p->vps)) {
        return;
    }
    pta_vp_set_stop(p->vps);
    p->be->ops->clock_stop(p->be);
}

void pta_partition_start(PtaPartition *p)
{
    pta_assert_main();
    p->started = true;
    partition_start_vps(p);
}

void pta_partition_stop(PtaPartition *p)
{
    pta_assert_main();
    partition_stop_vps(p);
    p->started = false;
    partition_take_halts(p);
}

bool pta_partition_started(const PtaPartition *p)
{
    return p->started;
}

bool pta_partition_running(const PtaPartition *p)
{
    return pta_vp_set_started(p->vps);
}

/* ---- stop guards ---- */

struct PtaStopGuard {
    PtaPartitionLink *link;
};

PtaStopGuard *pta_partition_stop_vps(PtaPartition *p)
{
    pta_assert_main();
    partition_stop_vps(p);
    p->stop_count++;
    PtaStopGuard *guard = g_new(PtaStopGuard, 1);
    guard->link = g_atomic_rc_box_acquire(p->link);
    return guard;
}

static void release_guard(void *data)
{
    PtaStopGuard *guard = data;
    PtaPartition *p = guard->link->p;
    if (p) {
        g_assert(p->stop_count > 0);
        p->stop_count--;
        partition_start_vps(p);
    }
    g_atomic_rc_box_release(guard->link);
    g_free(guard);
}

void pta_stop_guard_free(PtaStopGuard *guard)
{
    if (!guard) {
        return;
    }
    if (pta_in_main()) {
        release_guard(guard);
    } else {
        pta_main_call(release_guard, guard);
    }
}

unsigned pta_partition_stop_count(const PtaPartition *p)
{
    return p->stop_count;
}

/* ---- halts ---- */

void partition_describe_halt(PtaPartition *p, PtaHaltReason *reason)
{
    const PtaX86Regs *r = &reason->regs;
    const char *text = "not readable";
    reason->n_insns = pta_x86_disassemble_around(p->params.memory, r, PTA_HALT_INSNS_BEFORE,
                                                 PTA_HALT_INSNS_AFTER, reason->insns);
    for (unsigned i = 0; i < reason->n_insns; i++) {
        if (reason->insns[i].current) {
            text = reason->insns[i].text;
        }
    }
    g_snprintf(reason->text, sizeof(reason->text),
               "triple fault at rip 0x%" PRIx64 ": %s (cr0 0x%" PRIx64 " cr2 0x%" PRIx64
               " cr3 0x%" PRIx64 " rsp 0x%" PRIx64 ")",
               r->rip, text, r->cr0, r->cr2, r->cr3, r->gpr[PTA_X86_RSP]);
}

/* The guest's own words on why it died: registers, and the code that it was in. */
static void log_triple_fault(const PtaHaltReason *reason)
{
    static const char *const names[PTA_X86_N_GPRS] = {
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15",
    };
    const PtaX86Regs *r = &reason->regs;
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < PTA_X86_N_GPRS; i++) {
        g_string_append_printf(text, "%s%s 0x%" PRIx64, i % 4 ? "  " : "\n  ", names[i], r->gpr[i]);
    }
    g_string_append_printf(text,
                           "\n  rflags 0x%" PRIx64 "  efer 0x%" PRIx64 "  cr4 0x%" PRIx64
                           "  cs 0x%x  ss 0x%x  gdtr 0x%" PRIx64 "  idtr 0x%" PRIx64,
                           r->rflags, r->efer, r->cr4, r->seg[PTA_X86_CS].selector,
                           r->seg[PTA_X86_SS].selector, r->gdtr.base, r->idtr.base);
    for (unsigned i = 0; i < reason->n_insns; i++) {
        const PtaX86DisasmLine *line = &reason->insns[i];
        g_string_append_printf(text, "\n  %s 0x%" PRIx64 ": %s", line->current ? "=>" : "  ",
                               line->rip, line->text);
    }
    g_message("vp%u: %s%s", reason->vp, reason->text, text->str);
}

static void replay_mtrrs(PtaPartition *p)
{
    g_autoptr(GError) error = NULL;
    if (!p->initial) {
        g_warning("partition: no initial mtrrs to replay");
    } else if (!pta_vp_set_set_initial_regs(p->vps, p->initial, PTA_VP_REGISTERS_MTRRS, &error)) {
        g_warning("partition: failed to replay mtrrs, guest may see inconsistent results: %s",
                  error->message);
    }
}

void partition_report_halt(PtaPartition *p)
{
    p->halt_told = true;
    p->params.on_halt(p->params.opaque, p->halt_reason);
}

static void handle_halt(PtaPartition *p, PtaHaltReason *reason)
{
    partition_stop_vps(p);
    if (reason->kind == PTA_HALT_REPLAY_MTRRS) {
        replay_mtrrs(p);
        pta_halt_clear(p->halt);
        g_free(reason);
        partition_start_vps(p);
        return;
    }
    if (p->halt_reason) {
        /* The first one wins; this one only balances the counter. */
        pta_halt_clear(p->halt);
        g_free(reason);
        return;
    }
    if (reason->kind == PTA_HALT_TRIPLE_FAULT && reason->has_regs) {
        partition_describe_halt(p, reason);
        log_triple_fault(reason);
    }
    p->halt_reason = reason;
    g_info("halt: %s%s%s", pta_halt_kind_name(reason->kind), reason->text[0] ? ": " : "",
           reason->text);
    if (!partition_report_to_debugger(p, reason)) {
        partition_report_halt(p);
    }
}

void partition_take_halts(PtaPartition *p)
{
    PtaHaltReason *reason;
    while ((reason = pta_halt_take(p->halt))) {
        handle_halt(p, reason);
    }
}

void pta_partition_halt(PtaPartition *p, const PtaHaltReason *reason)
{
    pta_halt(p->halt, reason);
}

const PtaHaltReason *pta_partition_halt_reason(const PtaPartition *p)
{
    return p->halt_reason;
}

bool partition_forget_halt(PtaPartition *p)
{
    if (!p->halt_reason) {
        return false;
    }
    g_clear_pointer(&p->halt_reason, g_free);
    p->halt_told = false;
    pta_halt_clear(p->halt);
    if (p->debug.reported) {
        p->debug.reported = false;
        if (p->params.on_debug) {
            p->params.on_debug(p->params.opaque, false);
        }
    }
    return true;
}

bool pta_partition_clear_halt(PtaPartition *p)
{
    pta_assert_main();
    g_assert(!p->halt_reason || !pta_vp_set_started(p->vps));
    bool had = partition_forget_halt(p);
    if (had) {
        partition_start_vps(p);
    }
    return had;
}

/* ---- what others may see ---- */

void pta_partition_nmi(PtaPartition *p, unsigned vp)
{
    p->be->ops->nmi(p->be, vp);
}

void pta_partition_msi(PtaPartition *p, uint64_t address, uint32_t data)
{
    p->be->ops->msi(p->be, address, data);
}

PtaBackend *pta_partition_backend(PtaPartition *p)
{
    return p->be;
}

const PtaCpuidTable *pta_partition_cpuid(const PtaPartition *p)
{
    return &p->cpuid;
}

PtaVpSet *pta_partition_vps(PtaPartition *p)
{
    return p->vps;
}
