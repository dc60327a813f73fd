/*
 * MSRs of the canonical state: which of them this host has, and all of them at once. VP's thread, or
 * while the VP does not run.
 *
 * What a host sets goes past the checks for a guest's WRMSR. IA32_TSC_ADJUST, so set, does not move
 * the TSC, and IA32_TSC does not change IA32_TSC_ADJUST.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm-state.h"
#include "src/partition/x86-state-check.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

typedef struct KnownMsr {
    uint32_t index;
    uint16_t offset; /* in PtaX86Msrs */
    const char *name;
} KnownMsr;

#define MSR(index, field, name)                      \
    {                                                \
        (index), offsetof(PtaX86Msrs, field), (name) \
    }
#define VARIABLE(n)                                               \
    MSR(0x200 + 2 * (n), mtrrs.phys_base[n], "MTRR_PHYSBASE" #n), \
        MSR(0x201 + 2 * (n), mtrrs.phys_mask[n], "MTRR_PHYSMASK" #n)

#define MSR_TSC_AUX   UINT32_C(0xc0000103)
#define MSR_SPEC_CTRL UINT32_C(0x48)

static const KnownMsr known_msrs[] = {
    MSR(0xc0000081, star, "STAR"),
    MSR(0xc0000082, lstar, "LSTAR"),
    MSR(0xc0000083, cstar, "CSTAR"),
    MSR(0xc0000084, sfmask, "SFMASK"),
    MSR(0xc0000102, kernel_gs_base, "KERNEL_GS_BASE"),
    MSR(0x174, sysenter_cs, "SYSENTER_CS"),
    MSR(0x175, sysenter_esp, "SYSENTER_ESP"),
    MSR(0x176, sysenter_eip, "SYSENTER_EIP"),
    MSR(0x277, pat, "PAT"),
    MSR(0x3b, tsc_adjust, "TSC_ADJUST"),
    MSR(MSR_TSC_AUX, tsc_aux, "TSC_AUX"),
    MSR(0x1a0, misc_enable, "MISC_ENABLE"),
    MSR(MSR_SPEC_CTRL, spec_ctrl, "SPEC_CTRL"),
    MSR(0x2ff, mtrrs.def_type, "MTRR_DEF_TYPE"),
    MSR(0x250, mtrrs.fixed[0], "MTRR_FIX64K_00000"),
    MSR(0x258, mtrrs.fixed[1], "MTRR_FIX16K_80000"),
    MSR(0x259, mtrrs.fixed[2], "MTRR_FIX16K_A0000"),
    MSR(0x268, mtrrs.fixed[3], "MTRR_FIX4K_C0000"),
    MSR(0x269, mtrrs.fixed[4], "MTRR_FIX4K_C8000"),
    MSR(0x26a, mtrrs.fixed[5], "MTRR_FIX4K_D0000"),
    MSR(0x26b, mtrrs.fixed[6], "MTRR_FIX4K_D8000"),
    MSR(0x26c, mtrrs.fixed[7], "MTRR_FIX4K_E0000"),
    MSR(0x26d, mtrrs.fixed[8], "MTRR_FIX4K_E8000"),
    MSR(0x26e, mtrrs.fixed[9], "MTRR_FIX4K_F0000"),
    MSR(0x26f, mtrrs.fixed[10], "MTRR_FIX4K_F8000"),
    VARIABLE(0),
    VARIABLE(1),
    VARIABLE(2),
    VARIABLE(3),
    VARIABLE(4),
    VARIABLE(5),
    VARIABLE(6),
    VARIABLE(7),
};

/* struct kvm_msrs with room for all; its own array member would have to be the last. */
typedef struct MsrBatch {
    uint32_t n, pad;
    struct kvm_msr_entry entries[G_N_ELEMENTS(known_msrs)];
} MsrBatch;

static uint64_t *field(PtaX86Msrs *msrs, const KnownMsr *k)
{
    return (uint64_t *)((uint8_t *)msrs + k->offset);
}

static uint64_t value_of(const PtaX86Msrs *msrs, const KnownMsr *k)
{
    return *(const uint64_t *)((const uint8_t *)msrs + k->offset);
}

static int batch(const KvmVp *vp, unsigned long request, MsrBatch *b)
{
    int r;
    do {
        r = kvm_ioctl(vp->fd, request, b);
    } while (r < 0 && errno == EINTR);
    return r;
}

/* ---- one ---- */

bool kvm_msr_get(KvmVp *vp, uint32_t msr, uint64_t *value)
{
    MsrBatch b = { .n = 1, .entries[0].index = msr };
    if (batch(vp, KVM_GET_MSRS, &b) != 1) {
        return false;
    }
    *value = b.entries[0].data;
    return true;
}

bool kvm_msr_set(KvmVp *vp, uint32_t msr, uint64_t value)
{
    MsrBatch b = { .n = 1, .entries[0] = { .index = msr, .data = value } };
    return batch(vp, KVM_SET_MSRS, &b) == 1;
}

/* ---- which there are ---- */

/* Whether the guest's model has it; what it has not, is not asked for. */
static bool in_model(const KvmVp *vp, const KnownMsr *k)
{
    switch (k->index) {
    case MSR_TSC_AUX:
        return pta_cpuid_has(vp->m->cpuid, PTA_X86_FEAT_RDTSCP);
    case MSR_SPEC_CTRL:
        return pta_x86_has_spec_ctrl(vp->m->cpuid);
    default:
        return true;
    }
}

/* KVM_GET_MSR_INDEX_LIST leaves some out (MTRRs before Linux 6.3); KVM_GET_MSRS ends at the first that is
 * unknown, so it is asked for the rest again. */
bool kvm_msrs_init(KvmVp *vp, GError **error)
{
    vp->msr_list = g_array_new(FALSE, FALSE, sizeof(const KnownMsr *));
    const KvmVp *first = vp->m->vps[0];
    if (first && first != vp && first->msr_list) { /* all VPs are alike */
        g_array_append_vals(vp->msr_list, first->msr_list->data, first->msr_list->len);
        return true;
    }
    unsigned next = 0;
    while (next < G_N_ELEMENTS(known_msrs)) {
        const KnownMsr *asked[G_N_ELEMENTS(known_msrs)];
        MsrBatch b = { 0 };
        for (; next < G_N_ELEMENTS(known_msrs); next++) {
            if (in_model(vp, &known_msrs[next])) {
                asked[b.n] = &known_msrs[next];
                b.entries[b.n++].index = known_msrs[next].index;
            }
        }
        int got = batch(vp, KVM_GET_MSRS, &b);
        if (got < 0) {
            return pta_throw_errno(error, errno, "KVM_GET_MSRS");
        }
        g_array_append_vals(vp->msr_list, asked, MIN((unsigned)got, b.n));
        if ((unsigned)got < b.n) {
            next = (unsigned)(asked[got] - known_msrs) + 1;
        }
    }
    return true;
}

void kvm_msrs_fini(KvmVp *vp)
{
    g_clear_pointer(&vp->msr_list, g_array_unref);
}

static bool is_listed(const KvmVp *vp, const KnownMsr *k)
{
    for (unsigned i = 0; i < vp->msr_list->len; i++) {
        if (g_array_index(vp->msr_list, const KnownMsr *, i) == k) {
            return true;
        }
    }
    return false;
}

/* ---- all ---- */

/* AMD's CPUs have no SYSENTER in 64-bit mode. SVM lets a guest write more than 32 bits and the host read them, but
 * not set them again. */
static bool narrow_sysenter(const KvmVp *vp)
{
    return strcmp(vp->m->cpuid->identity.vendor, "GenuineIntel") != 0;
}

bool kvm_msrs_get(KvmVp *vp, PtaX86Msrs *msrs)
{
    MsrBatch b = { .n = vp->msr_list->len };
    for (unsigned i = 0; i < b.n; i++) {
        b.entries[i].index = g_array_index(vp->msr_list, const KnownMsr *, i)->index;
    }
    int got = batch(vp, KVM_GET_MSRS, &b);
    if (got < 0 || (unsigned)got != b.n) {
        g_warning("kvm: vp%u: KVM_GET_MSRS: %d of %u: %s", vp->vp.index, got, b.n,
                  g_strerror(got < 0 ? errno : EINVAL));
    }
    for (int i = 0; i < got; i++) {
        *field(msrs, g_array_index(vp->msr_list, const KnownMsr *, i)) = b.entries[i].data;
    }
    if (narrow_sysenter(vp)) {
        msrs->sysenter_esp &= UINT32_MAX;
        msrs->sysenter_eip &= UINT32_MAX;
    }
    return got >= 0 && (unsigned)got == b.n;
}

/* What the host lacks, a state must not need. */
static bool check_lacking(const KvmVp *vp, const PtaX86Msrs *msrs, GError **error)
{
    if (vp->msr_list->len == G_N_ELEMENTS(known_msrs)) {
        return true;
    }
    g_autofree PtaX86State *reset = g_new(PtaX86State, 1);
    pta_x86_state_reset(reset, vp->vp.index, vp->vp.index == 0);
    for (size_t i = 0; i < G_N_ELEMENTS(known_msrs); i++) {
        const KnownMsr *k = &known_msrs[i];
        if (!is_listed(vp, k) && value_of(msrs, k) != value_of(&reset->msrs, k)) {
            return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                             "MSR %s is 0x%" PRIx64 ", and neither model nor host has it", k->name,
                             value_of(msrs, k));
        }
    }
    return true;
}

bool kvm_msrs_set(KvmVp *vp, const PtaX86Msrs *msrs, GError **error)
{
    if (!check_lacking(vp, msrs, error)) {
        return false;
    }
    MsrBatch b = { .n = vp->msr_list->len };
    for (unsigned i = 0; i < b.n; i++) {
        const KnownMsr *k = g_array_index(vp->msr_list, const KnownMsr *, i);
        b.entries[i] = (struct kvm_msr_entry){ .index = k->index, .data = value_of(msrs, k) };
    }
    int done = batch(vp, KVM_SET_MSRS, &b);
    if (done < 0) {
        return pta_throw_errno(error, errno, "KVM_SET_MSRS");
    }
    if ((unsigned)done < b.n) {
        const KnownMsr *k = g_array_index(vp->msr_list, const KnownMsr *, (unsigned)done);
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "MSR %s cannot be 0x%" PRIx64 ": the kernel refuses it", k->name,
                         value_of(msrs, k));
    }
    return true;
}
