/* The back end "kvm": its ops table and the partition's life. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>

static const char *const stat_names[] = {
    [KVM_STAT_EXITS] = "exits",
    [KVM_STAT_PIO] = "port-io",
    [KVM_STAT_MMIO] = "mmio",
    [KVM_STAT_MSR] = "msrs",
    [KVM_STAT_EOI] = "eois",
    [KVM_STAT_HYPERCALL] = "hypercalls",
    [KVM_STAT_COALESCED] = "coalesced",
    [KVM_STAT_EMULATED] = "emulated",
    [KVM_STAT_DEBUG] = "debug",
    [KVM_STAT_KICK] = "kicks",
    [KVM_STAT_RING_FULL] = "ring-full",
    [KVM_N_STATS] = NULL,
};

/* ---- the host ---- */

static bool kvm_probe(GError **error)
{
    KvmCaps caps;
    pta_autofd int fd = kvm_open(&caps, error);
    return fd >= 0;
}

static bool kvm_probe_auto(GError **error)
{
    KvmCaps caps;
    pta_autofd int fd = kvm_open(&caps, error);
    if (fd < 0) {
        return false;
    }
    return !caps.pvm || pta_throw(error, PTA_ERROR_UNSUPPORTED,
                                  "the host's KVM has neither VMX nor SVM and interprets kernels");
}

static bool kvm_has_cap(const PtaBackend *be, PtaBackendCap cap)
{
    const KvmPartition *m = kvm_of((PtaBackend *)(uintptr_t)be);
    switch (cap) {
    case PTA_CAP_HYPERV:
        return m->kernel_hyperv;
    case PTA_CAP_SYNIC:
        return m->kernel_hyperv && m->caps.synic2;
    case PTA_CAP_IOEVENTFD:
        return m->caps.ioeventfd;
    case PTA_CAP_IRQFD:
        return m->caps.irqfd;
    case PTA_CAP_COALESCE:
        return m->caps.coalesced_page != 0;
    case PTA_CAP_DIRTY_RING:
        return m->caps.dirty_ring_max != 0;
    case PTA_CAP_GUEST_DEBUG:
        return true;
    case PTA_CAP_TSC_SCALING:
        return m->caps.tsc_control;
    }
    return false;
}

/* ---- life ---- */

static bool create_vm(KvmPartition *m, GError **error)
{
    int fd = kvm_take_spare_vm();
    while (fd < 0) {
        fd = kvm_ioctl_val(m->sys_fd, KVM_CREATE_VM, 0);
        if (fd < 0 && errno != EINTR) {
            break;
        }
    }
    if (fd < 0) {
        return pta_throw_errno(error, errno, "KVM_CREATE_VM");
    }
    m->vm_fd = fd;
    int size = kvm_ioctl_val(m->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof(struct kvm_run)) {
        return pta_throw_errno(error, size < 0 ? errno : EINVAL, "KVM_GET_VCPU_MMAP_SIZE");
    }
    m->run_size = (size_t)size;
    return true;
}

/* Without the last, KVM raises #UD for what it cannot emulate: in user mode at once, in the kernel as
 * well as telling us, and before we have a say. */
static bool ask_for_events(KvmPartition *m, GError **error)
{
    struct kvm_enable_cap fault = { .cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args[0] = 1 };
    struct kvm_enable_cap payload = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args[0] = 1 };
    struct kvm_enable_cap emulation = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args[0] = 1 };
    return (!m->caps.triple_fault_event || kvm_try(m->vm_fd, KVM_ENABLE_CAP, &fault, error)) &&
           (!m->caps.exception_payload || kvm_try(m->vm_fd, KVM_ENABLE_CAP, &payload, error)) &&
           (!m->caps.exit_on_emulation_failure ||
            kvm_try(m->vm_fd, KVM_ENABLE_CAP, &emulation, error));
}

/* Three pages that VMX without unrestricted guests wants for real mode: below the IOAPIC, where nothing is placed. */
static bool set_tss(KvmPartition *m, GError **error)
{
    uint64_t identity = UINT64_C(0xfeffc000);
    return kvm_try(m->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity, error) &&
           kvm_try(m->vm_fd, KVM_SET_TSS_ADDR, UINT64_C(0xfeffd000), error);
}

static bool set_up(KvmPartition *m, GError **error)
{
    return kvm_clock_init(m, error) && create_vm(m, error) && set_tss(m, error) &&
           kvm_irq_init(m, error) && ask_for_events(m, error) && kvm_hyperv_init(m, error) &&
           kvm_dirty_init(m, error);
}

static void kvm_destroy(PtaBackend *be)
{
    KvmPartition *m = kvm_of(be);
    for (unsigned i = 0; i < m->n_vps; i++) {
        g_assert(!m->vps[i]);
    }
    kvm_emulate_fini(m);
    kvm_dirty_fini(m);
    kvm_irq_fini(m);
    kvm_memory_fini(m);
    g_mutex_clear(&m->clock_lock);
    g_mutex_clear(&m->coalesced_lock);
    pta_autofd_clear(&m->vm_fd);
    pta_autofd_clear(&m->sys_fd);
    g_free(m);
}

static PtaBackend *kvm_create(const PtaBackendParams *params, GError **error)
{
    KvmCaps caps;
    pta_autofd int fd = kvm_open(&caps, error);
    if (fd < 0) {
        return NULL;
    }
    unsigned most = MIN(caps.max_vps, (unsigned)PTA_MAX_VPS);
    if (params->n_vps == 0 || params->n_vps > most) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%u VPs; this host's KVM allows 1 to %u",
                  params->n_vps, most);
        return NULL;
    }
    kvm_install_kick_signal();
    KvmPartition *m = g_new0(KvmPartition, 1);
    m->be.ops = &pta_kvm_backend;
    m->caps = caps;
    m->sys_fd = g_steal_fd(&fd);
    m->vm_fd = -1;
    m->cpuid = params->cpuid;
    m->platform = params->platform;
    m->hypervisor = params->hypervisor;
    m->stepper_ops = params->stepper;
    m->n_vps = params->n_vps;
    g_mutex_init(&m->clock_lock);
    g_mutex_init(&m->coalesced_lock);
    kvm_emulate_init(m);
    kvm_memory_init(m);
    if (!set_up(m, error)) {
        g_prefix_error(error, "kvm: ");
        kvm_destroy(&m->be);
        return NULL;
    }
    return &m->be;
}

static bool kvm_reset(PtaBackend *be, GError **error)
{
    (void)error;
    KvmPartition *m = kvm_of(be);
    g_mutex_lock(&m->clock_lock);
    m->clock_ns = 0;
    g_mutex_unlock(&m->clock_lock);
    return true;
}

/* The VP may run: what it counts is read as it stands. */
__attribute__((no_sanitize("thread"))) static void kvm_vp_get_stats(const PtaBackendVp *be_vp,
                                                                    uint64_t *values)
{
    const KvmVp *vp = kvm_vp_of((PtaBackendVp *)(uintptr_t)be_vp);
    for (unsigned i = 0; i < KVM_N_STATS; i++) {
        values[i] = ((const volatile uint64_t *)vp->stats)[i];
    }
}

const PtaBackendOps pta_kvm_backend = {
    .name = "kvm",
    .probe = kvm_probe,
    .probe_auto = kvm_probe_auto,
    .cpu_features = kvm_cpu_features,
    .cpu_identity = kvm_cpu_identity,
    .create = kvm_create,
    .destroy = kvm_destroy,
    .has_cap = kvm_has_cap,
    .map = kvm_map,
    .unmap = kvm_unmap,
    .dirty_start = kvm_dirty_start,
    .dirty_fetch = kvm_dirty_fetch,
    .dirty_stop = kvm_dirty_stop,
    .vp_create = kvm_vp_create,
    .vp_destroy = kvm_vp_destroy,
    .vp_run = kvm_vp_run,
    .vp_kick = kvm_vp_kick,
    .vp_get_state = kvm_vp_get_state,
    .vp_set_state = kvm_vp_set_state,
    .vp_set_debug = kvm_vp_set_debug,
    .stat_names = stat_names,
    .vp_get_stats = kvm_vp_get_stats,
    .msi = kvm_msi,
    .nmi = kvm_nmi,
    .ioeventfd = kvm_ioeventfd,
    .route = kvm_route,
    .irqfd = kvm_irqfd,
    .coalesce = kvm_coalesce,
    .hyperv_mirror = kvm_hyperv_mirror,
    .hypercall_insn = kvm_hypercall_insn,
    .clock_ns = kvm_clock_ns,
    .tsc_hz = kvm_tsc_hz,
    .apic_hz = kvm_apic_hz,
    .set_tsc_hz = kvm_set_tsc_hz,
    .cpuid_changed = kvm_cpuid_changed,
    .vp_tsc = kvm_vp_tsc,
    .tsc_stable = kvm_tsc_stable,
    .clock_start = kvm_clock_start,
    .clock_stop = kvm_clock_stop,
    .clock_set = kvm_clock_set,
    .reset = kvm_reset,
};
