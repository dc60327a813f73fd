/*
 * What CPU the guest sees, and how fast its TSC runs: chosen with the partition, part of its saved
 * state, and shown again where that is restored. Features cannot change, they are the model's; vendor,
 * signature and frequency go along, for a kernel has made its conclusions from them. Main thread,
 * stopped.
 */
#include "config.h"

#define G_LOG_DOMAIN "partition"

#include "src/partition/partition-private.h"

#include <inttypes.h>
#include <string.h>

#include "src/state/state.h"

/* ---- the table ---- */

bool partition_build_cpu(PtaPartition *p, const PtaX86Identity *identity, uint64_t tsc_hz,
                         PtaCpuidTable *table, GError **error)
{
    const PtaPartitionParams *params = &p->params;
    const PtaBackendOps *ops = params->backend;
    PtaX86Identity own;
    if (!identity && ops->cpu_identity) {
        ops->cpu_identity(params->hypervisor, &own);
        identity = &own;
    }
    PtaCpuidParams cpuid = {
        .model = params->cpu_model,
        .hypervisor = params->hypervisor,
        .n_vps = params->n_vps,
        .tsc_hz = tsc_hz,
        .apic_hz = ops->apic_hz(NULL),
        .supported = ops->cpu_features(),
        .identity = identity,
    };
    return pta_cpuid_build(table, &cpuid, error);
}

static bool set_tsc_hz(PtaPartition *p, uint64_t hz, GError **error)
{
    const PtaBackendOps *ops = p->be->ops;
    uint64_t own = ops->tsc_hz(p->be);
    if (hz == own) {
        return true;
    }
    if (!ops->set_tsc_hz) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "the TSC runs at %" PRIu64 " Hz here, not at %" PRIu64 " Hz", own, hz);
    }
    return ops->set_tsc_hz(p->be, hz, error);
}

/* All of it, or nothing. */
static bool show(PtaPartition *p, const PtaX86Identity *identity, uint64_t tsc_hz, GError **error)
{
    const PtaBackendOps *ops = p->be->ops;
    const PtaCpuidTable before = p->cpuid;
    uint64_t hz_before = ops->tsc_hz(p->be);
    PtaCpuidTable table;
    if (pta_x86_identity_equal(identity, &before.identity) && tsc_hz == hz_before) {
        return true;
    }
    if (!partition_build_cpu(p, identity, tsc_hz, &table, error) || !set_tsc_hz(p, tsc_hz, error)) {
        return false;
    }
    p->cpuid = table;
    if (ops->cpuid_changed && !ops->cpuid_changed(p->be, error)) {
        p->cpuid = before;
        ops->cpuid_changed(p->be, NULL);
        set_tsc_hz(p, hz_before, NULL);
        return false;
    }
    return true;
}

bool pta_partition_set_tsc_hz(PtaPartition *p, uint64_t hz, GError **error)
{
    pta_assert_main();
    g_assert(!p->started && !pta_vp_set_started(p->vps));
    const PtaX86Identity identity = p->cpuid.identity;
    return show(p, &identity, hz, error);
}

/* ---- saved ---- */

typedef struct CpuState {
    uint64_t tsc_hz;
    uint32_t signature;
    uint32_t leaf7_edx;
    uint32_t leaf8_8_ebx;
    uint32_t phys_bits;
} CpuState;

static const PtaStateField cpu_fields[] = {
    PTA_STATE_U64(CpuState, tsc_hz),    PTA_STATE_U32(CpuState, signature),
    PTA_STATE_U32(CpuState, leaf7_edx), PTA_STATE_U32(CpuState, leaf8_8_ebx),
    PTA_STATE_U32(CpuState, phys_bits), {},
};

static bool cpu_validate(const void *state, GError **error)
{
    const CpuState *s = state;
    const bool good = (s->leaf7_edx & ~PTA_X86_LEAF7_SPECULATION) == 0 &&
                      (s->leaf8_8_ebx & ~PTA_X86_LEAF8_8_SPECULATION) == 0 && s->phys_bits >= 32 &&
                      s->phys_bits <= 52 && s->tsc_hz >= PTA_MIN_TSC_HZ &&
                      s->tsc_hz <= PTA_MAX_TSC_HZ;
    return good || pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "a field is out of range");
}

static const PtaStateDesc cpu_desc = { "cpu", 1, sizeof(CpuState), cpu_fields, cpu_validate };

json_t *partition_save_cpu(PtaPartition *p)
{
    const PtaX86Identity *id = &p->cpuid.identity;
    g_autofree char *features = pta_cpuid_list_features(p->cpuid.features);
    CpuState s = {
        .tsc_hz = p->be->ops->tsc_hz(p->be),
        .signature = id->signature,
        .leaf7_edx = id->leaf7_edx,
        .leaf8_8_ebx = id->leaf8_8_ebx,
        .phys_bits = p->cpuid.phys_bits,
    };
    return json_pack("{s:s, s:s, s:o}", "vendor", id->vendor, "features", features, "state",
                     pta_state_save(&cpu_desc, &s));
}

static bool vendor_valid(const char *vendor)
{
    for (const char *c = vendor; *c; c++) {
        if (*c < ' ' || *c > '~') {
            return false;
        }
    }
    return strlen(vendor) == 12;
}

bool partition_restore_cpu(PtaPartition *p, json_t *saved, GError **error)
{
    const char *vendor = json_string_value(json_object_get(saved, "vendor"));
    const char *features = json_string_value(json_object_get(saved, "features"));
    json_t *state = json_object_get(saved, "state");
    CpuState s;
    if (!vendor || !vendor_valid(vendor) || !features || !state || json_object_size(saved) != 3) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "cpu: expected vendor, features and state");
    }
    if (!pta_state_load(&cpu_desc, state, &s, error)) {
        return false;
    }
    g_autofree char *own = pta_cpuid_list_features(p->cpuid.features);
    if (strcmp(features, own) != 0) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "the guest saw a CPU with %s; this machine's has %s "
                         "(partition.cpu-model)",
                         features, own);
    }
    PtaX86Identity identity = {
        .signature = s.signature,
        .leaf7_edx = s.leaf7_edx,
        .leaf8_8_ebx = s.leaf8_8_ebx,
        .phys_bits = (uint8_t)s.phys_bits,
    };
    g_strlcpy(identity.vendor, vendor, sizeof(identity.vendor));
    uint64_t hz = p->be->ops->tsc_hz(p->be);
    if (!show(p, &identity, s.tsc_hz, error)) {
        if (s.tsc_hz != hz) {
            g_prefix_error(error,
                           "the guest's TSC runs at %" PRIu64 " Hz, this machine's at %" PRIu64
                           " Hz (partition.tsc-frequency): ",
                           s.tsc_hz, hz);
        }
        return false;
    }
    return true;
}
