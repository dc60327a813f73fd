/*
 * The Hyper-V interface with KVM. Its state is in src/synic, as with every back end; where the kernel
 * knows Hyper-V it is told of the guest's identity and of the two pages, and answers hypercalls,
 * VP_INDEX and TIME_REF_COUNT without an exit, and keeps the reference TSC page right. All the rest,
 * every write among it, comes to platform: a filter over the MSRs says so (KVM_X86_SET_MSR_FILTER).
 *
 * A kernel without Hyper-V does not let hypercalls out: VMCALL is KVM's own there. So the hypercall
 * page has an OUT to a port instead (the guest does not look into the page, TLFS 3.13). Any code
 * of ring 0 may as well write to the port itself: that is a hypercall as good as any.
 *
 * The VP's thread, but for what is made with partition and VPs.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>
#include <string.h>

/* MSRs of Hyper-V (TLFS, appendix B). */
#define MSR_FIRST          UINT32_C(0x40000000)
#define MSR_N              0x200
#define MSR_GUEST_OS_ID    UINT32_C(0x40000000)
#define MSR_HYPERCALL      UINT32_C(0x40000001)
#define MSR_VP_INDEX       UINT32_C(0x40000002)
#define MSR_TIME_REF_COUNT UINT32_C(0x40000020)
#define MSR_REFERENCE_TSC  UINT32_C(0x40000021)

/* Of leaf 40000003H, EAX: what the kernel has to serve if it is to serve anything: reference counter, hypercalls,
 * VP index, reference TSC page. */
#define LEAF_FEATURES UINT32_C(0x40000003)
#define KERNEL_PART   (UINT32_C(1) << 1 | UINT32_C(1) << 5 | UINT32_C(1) << 6 | UINT32_C(1) << 9)

/* A port that no device of a PC has, as wide as none would be written to: 66 E7 EA is OUT 0xea, AX. */
#define HYPERCALL_PORT 0xea

/* ---- what the kernel has ---- */

static uint32_t offered(const PtaCpuidTable *t)
{
    uint32_t regs[4];
    pta_cpuid_query(t, 0, 0, 0, LEAF_FEATURES, 0, regs);
    return regs[0];
}

static bool kernel_serves(const KvmPartition *m)
{
    enum { ROOM = 64 };
    g_autofree struct kvm_cpuid2 *c = g_malloc0(sizeof(*c) + ROOM * sizeof(c->entries[0]));
    uint32_t needed = offered(m->cpuid) & KERNEL_PART;
    c->nent = ROOM;
    if (!m->caps.hyperv || kvm_ioctl(m->sys_fd, KVM_GET_SUPPORTED_HV_CPUID, c) < 0) {
        return false; /* before Linux 5.11 only a VP could be asked */
    }
    for (unsigned i = 0; i < MIN(c->nent, (unsigned)ROOM); i++) {
        if (c->entries[i].function == LEAF_FEATURES) {
            return (needed & ~c->entries[i].eax) == 0;
        }
    }
    return false;
}

/* Which MSRs the kernel answers: all others exit. Bit n of a map: it is the kernel's. */
static bool set_filter(KvmPartition *m, GError **error)
{
    uint8_t reads[MSR_N / 8] = { 0 }, writes[MSR_N / 8] = { 0 };
    if (m->kernel_hyperv) {
        static const uint32_t kernels[] = { MSR_VP_INDEX, MSR_TIME_REF_COUNT };
        for (size_t i = 0; i < G_N_ELEMENTS(kernels); i++) {
            reads[(kernels[i] - MSR_FIRST) / 8] |= (uint8_t)(1 << (kernels[i] & 7));
        }
    }
    struct kvm_msr_filter filter = {
        .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
        .ranges = { { .flags = KVM_MSR_FILTER_READ,
                      .nmsrs = MSR_N,
                      .base = MSR_FIRST,
                      .bitmap = reads },
                    { .flags = KVM_MSR_FILTER_WRITE,
                      .nmsrs = MSR_N,
                      .base = MSR_FIRST,
                      .bitmap = writes } },
    };
    return kvm_try(m->vm_fd, KVM_X86_SET_MSR_FILTER, &filter, error);
}

/* The kernel's module answers MSRs that it does not know itself, with zero. */
static bool kernel_ignores_msrs(void)
{
    g_autofree char *text = NULL;
    return !g_file_get_contents("/sys/module/kvm/parameters/ignore_msrs", &text, NULL, NULL) ||
           *text != 'N';
}

/*
 * Without a filter, MSRs that the kernel knows are its own. Setting one waits for the readers of the
 * last, without haste: 1 to 10 ms, where a start takes 3. So a kernel that knows none of these gets none.
 */
static bool needs_filter(const KvmPartition *m)
{
    return m->caps.msr_filter && (m->caps.hyperv || kernel_ignores_msrs());
}

bool kvm_hyperv_init(KvmPartition *m, GError **error)
{
    uint64_t reasons = KVM_MSR_EXIT_REASON_UNKNOWN;
    if (m->caps.msr_filter) {
        reasons |= KVM_MSR_EXIT_REASON_FILTER;
    }
    struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args[0] = reasons };
    if (m->caps.user_space_msr && !kvm_try(m->vm_fd, KVM_ENABLE_CAP, &cap, error)) {
        return false;
    }
    if (m->hypervisor != PTA_HYPERVISOR_HYPERV) {
        return true;
    }
    if (!m->caps.user_space_msr || (m->caps.hyperv && !m->caps.msr_filter)) {
        return pta_throw(
            error, PTA_ERROR_KVM_MISSING_CAP, "the Hyper-V interface needs %s: Linux 5.10 or later",
            m->caps.user_space_msr ? "KVM_CAP_X86_MSR_FILTER" : "KVM_CAP_X86_USER_SPACE_MSR");
    }
    m->kernel_hyperv = kernel_serves(m);
    return !needs_filter(m) || set_filter(m, error);
}

/* What CPUID does not offer, of KVM's own interface and of Hyper-V's hypercalls, is not there either. */
bool kvm_hyperv_vp_init(KvmVp *vp, GError **error)
{
    const KvmCaps *caps = &vp->m->caps;
    struct kvm_enable_cap pv = { .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args[0] = 1 };
    struct kvm_enable_cap hv = { .cap = KVM_CAP_HYPERV_ENFORCE_CPUID, .args[0] = 1 };
    return (!caps->enforce_pv || kvm_try(vp->fd, KVM_ENABLE_CAP, &pv, error)) &&
           (!caps->enforce_hyperv || kvm_try(vp->fd, KVM_ENABLE_CAP, &hv, error));
}

/* ---- the pages ---- */

bool kvm_hyperv_mirror(PtaBackendVp *be_vp, uint32_t msr, uint64_t value)
{
    KvmVp *vp = kvm_vp_of(be_vp);
    g_assert(msr == MSR_GUEST_OS_ID || msr == MSR_HYPERCALL || msr == MSR_REFERENCE_TSC);
    return kvm_msr_set(vp, msr, value);
}

void kvm_hypercall_insn(uint8_t insn[3])
{
    static const uint8_t out[] = { 0x66, 0xe7, HYPERCALL_PORT };
    memcpy(insn, out, sizeof(out));
}

/* ---- hypercalls ---- */

#define EFER_LMA    (UINT64_C(1) << 10)
#define ATTR_LONG   (1u << 13)
#define GPR(r)      regs.gpr[PTA_X86_##r]
#define SPLIT(a, d) ((d) << 32 | (uint32_t)(a))

/* One that the kernel leaves to us. Its result goes where the ABI says by the kernel's hand. */
static bool on_hypercall(KvmVp *vp)
{
    const PtaPlatform *p = vp->m->platform;
    PtaX86Regs regs;
    if (!kvm_vp_get_regs(vp, &regs) || !p->hypercall(p->opaque, vp->vp.index, &regs)) {
        vp->run->hyperv.u.hcall.result = 2; /* HV_STATUS_INVALID_HYPERCALL_CODE */
        return true;
    }
    bool long_mode = (regs.efer & EFER_LMA) && (regs.seg[PTA_X86_CS].attrs & ATTR_LONG);
    vp->run->hyperv.u.hcall.result = long_mode ? GPR(RAX) : SPLIT(GPR(RAX), GPR(RDX));
    return true;
}

bool kvm_hyperv_exit(KvmVp *vp, PtaExit *exit)
{
    switch (vp->run->hyperv.type) {
    case KVM_EXIT_HYPERV_HCALL:
        vp->stats[KVM_STAT_HYPERCALL]++;
        return on_hypercall(vp);
    case KVM_EXIT_HYPERV_SYNIC: /* what the guest wrote to its SynIC, which has been done */
        return true;
    default:
        return kvm_internal_error(exit, "KVM: Hyper-V exit %u, which nothing here asked for",
                                  vp->run->hyperv.type);
    }
}

/* RIP stays: whether the kernel has moved it yet, or does with the next KVM_RUN, is its affair. */
static bool give_results(KvmVp *vp, const PtaX86Regs *regs)
{
    struct kvm_regs k;
    if (kvm_ioctl(vp->fd, KVM_GET_REGS, &k) < 0) {
        return false;
    }
    k.rax = regs->gpr[PTA_X86_RAX];
    k.rcx = regs->gpr[PTA_X86_RCX];
    k.rdx = regs->gpr[PTA_X86_RDX];
    k.r8 = regs->gpr[PTA_X86_R8];
    return kvm_ioctl(vp->fd, KVM_SET_REGS, &k) == 0;
}

bool kvm_hypercall_port(KvmVp *vp)
{
    const struct kvm_run *run = vp->run;
    const PtaPlatform *p = vp->m->platform;
    PtaX86Regs regs;
    if (run->io.port != HYPERCALL_PORT || run->io.size != 2 || run->io.count != 1 ||
        run->io.direction != KVM_EXIT_IO_OUT || vp->m->kernel_hyperv ||
        vp->m->hypervisor != PTA_HYPERVISOR_HYPERV) {
        return false;
    }
    if (!kvm_vp_get_regs(vp, &regs) || !p->hypercall(p->opaque, vp->vp.index, &regs)) {
        return false; /* from outside the kernel, or there is no page: any port */
    }
    vp->stats[KVM_STAT_HYPERCALL]++;
    if (!give_results(vp, &regs)) {
        g_warning("kvm: vp%u: a hypercall's result is lost: %s", vp->vp.index, g_strerror(errno));
    }
    return true;
}
