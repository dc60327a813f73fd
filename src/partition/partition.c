/* The partition unit. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "partition"

#include "src/partition/partition.h"
#include "src/partition/x86-walk.h"

#include <Zydis/Zydis.h>
#include <inttypes.h>
#include <string.h>

struct PtaPartition {
    PtaPartitionParams params;
    PtaCpuidTable cpuid;
    PtaBackend *be;
    PtaHalt *halt;
    PtaVpSet *vps;
    size_t n_mapped; /* RAM ranges mapped */
    bool started;
    unsigned stop_count;        /* stop guards held */
    bool needs_reset;           /* VPs ran since registers were set */
    PtaHaltReason *halt_reason; /* outstanding and reported */
    PtaX86State *initial;       /* what the last boot began with */
};

static void take_halts(void *data);

static void host_wrote(void *opaque, uint64_t gpa, uint64_t len)
{
    PtaPartition *p = opaque;
    p->be->ops->host_wrote(p->be, gpa, len);
}

static bool map_ram(PtaPartition *p, GError **error)
{
    PtaMemory *mem = p->params.memory;
    for (; p->n_mapped < pta_memory_n_ranges(mem); p->n_mapped++) {
        PtaRamRange r = pta_memory_range(mem, p->n_mapped);
        if (!p->be->ops->map(p->be, r.gpa, r.size, pta_memory_range_host(mem, p->n_mapped),
                             PTA_MAP_READ | PTA_MAP_WRITE | PTA_MAP_EXEC, error)) {
            return false;
        }
    }
    return true;
}

PtaPartition *pta_partition_new(const PtaPartitionParams *params, GError **error)
{
    pta_assert_main();
    PtaPartition *p = g_new0(PtaPartition, 1);
    p->params = *params;
    p->halt = pta_halt_new(take_halts, p);
    const PtaBackendOps *ops = params->backend;
    PtaCpuidParams cpuid = {
        .model = params->cpu_model,
        .hypervisor = params->hypervisor,
        .n_vps = params->n_vps,
        .tsc_hz = ops->tsc_hz(NULL),
        .apic_hz = ops->apic_hz(NULL),
        .supported = ops->cpu_features(),
    };
    if (!pta_cpuid_build(&p->cpuid, &cpuid, error)) {
        pta_partition_free(p);
        return NULL;
    }
    PtaBackendParams be_params = {
        .n_vps = params->n_vps,
        .cpuid = &p->cpuid,
        .platform = params->platform,
    };
    p->be = ops->create(&be_params, error);
    if (!p->be || !map_ram(p, error)) {
        pta_partition_free(p);
        return NULL;
    }
    p->vps = pta_vp_set_new(p->be, params->n_vps, p->halt, error);
    if (!p->vps) {
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
    pta_vp_set_free(p->vps);
    if (p->be) {
        pta_memory_set_write_observer(p->params.memory, NULL, NULL);
        for (size_t i = 0; i < p->n_mapped; i++) {
            PtaRamRange r = pta_memory_range(p->params.memory, i);
            p->be->ops->unmap(p->be, r.gpa, r.size, NULL);
        }
        p->be->ops->destroy(p->be);
    }
    pta_halt_free(p->halt);
    g_free(p->halt_reason);
    g_free(p->initial);
    g_free(p);
}

/* ---- running ---- */

static void start_vps(PtaPartition *p)
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

static void stop_vps(PtaPartition *p)
{
    if (!pta_vp_set_started(p->vps)) {
        return;
    }
    pta_vp_set_stop(p->vps);
    p->be->ops->clock_stop(p->be);
}

/* ---- halts ---- */

/* What stands around RIP, for the log: the guest's own words on why it died. */
static void describe_triple_fault(PtaPartition *p, PtaHaltReason *reason)
{
    const PtaX86Regs *r = &reason->regs;
    uint8_t code[15];
    char insn[96] = "?";
    size_t n = pta_x86_read_linear(p->params.memory, r, r->seg[PTA_X86_CS].base + r->rip, code,
                                   sizeof(code));
    if (n > 0) {
        bool long_mode = r->efer & (1u << 10) && r->seg[PTA_X86_CS].attrs & (1u << 13);
        bool big = r->seg[PTA_X86_CS].attrs & (1u << 14);
        ZydisDisassembledInstruction d;
        if (ZYAN_SUCCESS(ZydisDisassembleIntel(
                long_mode ? ZYDIS_MACHINE_MODE_LONG_64
                          : (big ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16),
                r->rip, code, n, &d))) {
            g_strlcpy(insn, d.text, sizeof(insn));
        }
    }
    g_snprintf(reason->text, sizeof(reason->text),
               "triple fault at rip 0x%" PRIx64 ": %s (cr0 0x%" PRIx64 " cr2 0x%" PRIx64
               " cr3 0x%" PRIx64 " rsp 0x%" PRIx64 ")",
               r->rip, insn, r->cr0, r->cr2, r->cr3, r->gpr[PTA_X86_RSP]);
}

static void replay_mtrrs(PtaPartition *p)
{
    if (!p->initial) {
        g_warning("partition: no initial mtrrs to replay");
        return;
    }
    g_autofree PtaX86State *state = g_new(PtaX86State, 1);
    for (unsigned i = 0; i < pta_vp_set_size(p->vps); i++) {
        PtaBackendVp *vp = pta_vp_set_get(p->vps, i);
        g_autoptr(GError) error = NULL;
        p->be->ops->vp_get_state(vp, state);
        state->msrs.mtrrs = p->initial->msrs.mtrrs;
        state->msrs.pat = p->initial->msrs.pat;
        if (!p->be->ops->vp_set_state(vp, state, &error)) {
            g_warning("partition: failed to replay mtrrs, guest may see inconsistent results: %s",
                      error->message);
        }
    }
}

static void handle_halt(PtaPartition *p, PtaHaltReason *reason)
{
    stop_vps(p);
    if (reason->kind == PTA_HALT_REPLAY_MTRRS) {
        replay_mtrrs(p);
        pta_halt_clear(p->halt);
        g_free(reason);
        start_vps(p);
        return;
    }
    if (p->halt_reason) {
        /* The first one wins; this one only balances the counter. */
        pta_halt_clear(p->halt);
        g_free(reason);
        return;
    }
    if (reason->kind == PTA_HALT_TRIPLE_FAULT && reason->has_regs) {
        describe_triple_fault(p, reason);
    }
    p->halt_reason = reason;
    g_info("halt: %s%s%s", pta_halt_kind_name(reason->kind), reason->text[0] ? ": " : "",
           reason->text);
    p->params.on_halt(p->params.opaque, reason);
}

static void take_halts(void *data)
{
    PtaPartition *p = data;
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

static bool forget_halt(PtaPartition *p)
{
    if (!p->halt_reason) {
        return false;
    }
    g_clear_pointer(&p->halt_reason, g_free);
    pta_halt_clear(p->halt);
    return true;
}

bool pta_partition_clear_halt(PtaPartition *p)
{
    pta_assert_main();
    g_assert(!p->halt_reason || !pta_vp_set_started(p->vps));
    bool had = forget_halt(p);
    if (had) {
        start_vps(p);
    }
    return had;
}

/* ---- the unit ---- */

void pta_partition_start(PtaPartition *p)
{
    pta_assert_main();
    p->started = true;
    start_vps(p);
}

void pta_partition_stop(PtaPartition *p)
{
    pta_assert_main();
    stop_vps(p);
    p->started = false;
    take_halts(p);
}

bool pta_partition_started(const PtaPartition *p)
{
    return p->started;
}

bool pta_partition_running(const PtaPartition *p)
{
    return pta_vp_set_started(p->vps);
}

void pta_partition_reset(PtaPartition *p)
{
    pta_assert_main();
    g_assert(!pta_vp_set_started(p->vps));
    p->be->ops->reset(p->be);
    forget_halt(p);
    p->needs_reset = false;
}

void pta_partition_hold(PtaPartition *p)
{
    pta_assert_main();
    stop_vps(p);
    p->stop_count++;
}

void pta_partition_release(PtaPartition *p)
{
    pta_assert_main();
    g_assert(p->stop_count > 0);
    p->stop_count--;
    start_vps(p);
}

unsigned pta_partition_stop_count(const PtaPartition *p)
{
    return p->stop_count;
}

/* ---- VPs ---- */

bool pta_partition_set_initial_state(PtaPartition *p, const PtaX86State *bsp, GError **error)
{
    pta_assert_main();
    g_assert(!pta_vp_set_started(p->vps));
    if (p->needs_reset) {
        p->be->ops->reset(p->be); /* scrub: what an earlier run left must not show */
        p->needs_reset = false;
    }
    g_autofree PtaX86State *state = g_new(PtaX86State, 1);
    for (unsigned i = 0; i < pta_vp_set_size(p->vps); i++) {
        PtaBackendVp *vp = pta_vp_set_get(p->vps, i);
        p->be->ops->vp_get_state(vp, state);
        if (i == 0) {
            PtaX86Lapic lapic = state->lapic;
            *state = *bsp;
            state->lapic = lapic;
        }
        state->msrs.mtrrs = bsp->msrs.mtrrs;
        state->msrs.pat = bsp->msrs.pat;
        if (!p->be->ops->vp_set_state(vp, state, error)) {
            g_prefix_error(error, "failed to set registers: vp%u: ", i);
            return false;
        }
    }
    g_free(p->initial);
    p->initial = g_memdup2(bsp, sizeof(*bsp));
    return true;
}

static void get_state(PtaBackendVp *vp, void *data)
{
    vp->be->ops->vp_get_state(vp, data);
}

void pta_partition_get_vp_state(PtaPartition *p, unsigned vp, PtaX86State *state)
{
    pta_vp_set_call(p->vps, vp, get_state, state);
}

bool pta_partition_set_vp_state(PtaPartition *p, unsigned vp, const PtaX86State *state,
                                GError **error)
{
    g_assert(!pta_vp_set_started(p->vps));
    return p->be->ops->vp_set_state(pta_vp_set_get(p->vps, vp), state, error);
}

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
