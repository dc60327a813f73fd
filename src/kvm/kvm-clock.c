/*
 * The partition's clock is KVM's own (KVM_GET_CLOCK), so that the kernel's Hyper-V reference time
 * is the same; while the partition is stopped it stands still, and so do the VPs' TSCs and APIC
 * timers, which KVM itself would let run on (KvmFrozen).
 *
 * TSCs are set by offset where the kernel lets us (KVM_VCPU_TSC_OFFSET, Linux 5.16), so that VPs
 * keep their distance to one another to the tick; else by value, which KVM takes for synchronous
 * if it comes within a second.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>
#include <inttypes.h>

#define MSR_TSC 0x10

static uint64_t read_clock(const KvmPartition *m)
{
    struct kvm_clock_data data = { 0 };
    if (kvm_ioctl(m->vm_fd, KVM_GET_CLOCK, &data) < 0) {
        g_warning("kvm: KVM_GET_CLOCK: %s", g_strerror(errno));
    }
    return data.clock;
}

uint64_t kvm_clock_ns(const PtaBackend *be)
{
    KvmPartition *m = kvm_of((PtaBackend *)(uintptr_t)be);
    g_mutex_lock(&m->clock_lock);
    uint64_t ns = m->clock_running ? read_clock(m) : m->clock_ns;
    g_mutex_unlock(&m->clock_lock);
    return ns;
}

void kvm_clock_set(PtaBackend *be, uint64_t ns)
{
    KvmPartition *m = kvm_of(be);
    g_mutex_lock(&m->clock_lock);
    g_assert(!m->clock_running);
    m->clock_ns = ns & (UINT64_MAX >> 2);
    g_mutex_unlock(&m->clock_lock);
}

/* ---- TSCs ---- */

static bool offset_attr(KvmVp *vp, bool set, uint64_t *offset)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)offset,
    };
    return kvm_ioctl(vp->fd, set ? KVM_SET_DEVICE_ATTR : KVM_GET_DEVICE_ATTR, &attr) == 0;
}

uint64_t kvm_vp_tsc(const PtaBackendVp *be_vp)
{
    KvmVp *vp = kvm_vp_of((PtaBackendVp *)(uintptr_t)be_vp);
    if (vp->frozen.valid) {
        return vp->frozen.tsc;
    }
    uint64_t tsc = 0;
    kvm_msr_get(vp, MSR_TSC, &tsc);
    return tsc;
}

/* All VPs' TSCs at one instant. */
static void freeze_tscs(KvmPartition *m)
{
    uint64_t first = 0, first_offset = 0;
    for (unsigned i = 0; i < m->n_vps; i++) {
        KvmVp *vp = m->vps[i];
        uint64_t offset = 0;
        bool by_offset = offset_attr(vp, false, &offset);
        if (i == 0) {
            kvm_msr_get(vp, MSR_TSC, &first);
            first_offset = offset;
        }
        if (by_offset) {
            vp->frozen.tsc = first + (offset - first_offset);
        } else if (i == 0) {
            vp->frozen.tsc = first;
        } else {
            kvm_msr_get(vp, MSR_TSC, &vp->frozen.tsc);
        }
    }
}

static void thaw_tscs(KvmPartition *m)
{
    uint64_t now = 0, first_offset = 0;
    KvmVp *first = m->vps[0];
    bool by_offset = offset_attr(first, false, &first_offset) && kvm_msr_get(first, MSR_TSC, &now);
    for (unsigned i = 0; i < m->n_vps; i++) {
        KvmVp *vp = m->vps[i];
        /* At this instant VP 0 reads `now` with its old offset. */
        uint64_t offset = first_offset + (vp->frozen.tsc - now);
        if (!(by_offset && offset_attr(vp, true, &offset)) &&
            !kvm_msr_set(vp, MSR_TSC, vp->frozen.tsc)) {
            g_warning("kvm: vp%u: the TSC cannot be set", i);
        }
    }
}

/* ---- start and stop ---- */

void kvm_clock_start(PtaBackend *be)
{
    KvmPartition *m = kvm_of(be);
    g_mutex_lock(&m->clock_lock);
    g_assert(!m->clock_running);
    struct kvm_clock_data data = { .clock = m->clock_ns };
    if (kvm_ioctl(m->vm_fd, KVM_SET_CLOCK, &data) < 0) {
        g_warning("kvm: KVM_SET_CLOCK: %s", g_strerror(errno));
    }
    m->clock_running = true;
    g_mutex_unlock(&m->clock_lock);
    thaw_tscs(m);
    for (unsigned i = 0; i < m->n_vps; i++) {
        g_autoptr(GError) error = NULL;
        if (!kvm_lapic_thaw(m->vps[i], &error)) {
            g_warning("kvm: vp%u: the APIC's timer is lost: %s", i, error->message);
        }
        m->vps[i]->frozen.valid = false;
    }
}

void kvm_clock_stop(PtaBackend *be)
{
    KvmPartition *m = kvm_of(be);
    kvm_coalesced_drain(m, NULL);
    g_mutex_lock(&m->clock_lock);
    g_assert(m->clock_running);
    m->clock_ns = read_clock(m);
    m->clock_running = false;
    g_mutex_unlock(&m->clock_lock);
    freeze_tscs(m);
    for (unsigned i = 0; i < m->n_vps; i++) {
        kvm_lapic_freeze(m->vps[i]);
        m->vps[i]->frozen.valid = true;
    }
}

/* ---- frequencies ---- */

/* Of the host; 0: unknown. */
static uint64_t host_tsc_hz(void)
{
    static gsize hz; /* 1: not known */
    if (g_once_init_enter(&hz)) {
        KvmCaps caps;
        uint64_t found = 0;
        pta_autofd int sys = kvm_open(&caps, NULL);
        pta_autofd int vm = sys >= 0 ? kvm_ioctl_val(sys, KVM_CREATE_VM, 0) : -1;
        int khz = vm >= 0 ? kvm_ioctl_val(vm, KVM_GET_TSC_KHZ, 0) : -1;
        pta_autofd int vp = vm >= 0 && khz <= 0 ? kvm_ioctl_val(vm, KVM_CREATE_VCPU, 0) : -1;
        if (vp >= 0) {
            khz = kvm_ioctl_val(vp, KVM_GET_TSC_KHZ, 0);
        }
        if (khz > 0) {
            found = (uint64_t)khz * 1000;
        }
        g_once_init_leave(&hz, found ? found : 1);
    }
    return hz == 1 ? 0 : hz;
}

uint64_t kvm_tsc_hz(const PtaBackend *be)
{
    if (be) {
        return kvm_of((PtaBackend *)(uintptr_t)be)->tsc_hz;
    }
    uint64_t hz = host_tsc_hz();
    return hz ? hz : UINT64_C(1000000000);
}

uint64_t kvm_apic_hz(const PtaBackend *be)
{
    (void)be;
    return UINT64_C(1000000000); /* KVM counts nanoseconds */
}

bool kvm_set_tsc_hz(PtaBackend *be, uint64_t hz, GError **error)
{
    KvmPartition *m = kvm_of(be);
    if (hz == m->tsc_hz) {
        return true;
    }
    if (!m->caps.tsc_control) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "a TSC of %" PRIu64 " Hz: this host's is %" PRIu64
                         " Hz and its CPU cannot scale it",
                         hz, m->tsc_hz);
    }
    for (unsigned i = 0; i < m->n_vps; i++) {
        if (!kvm_try(m->vps[i]->fd, KVM_SET_TSC_KHZ, hz / 1000, error)) {
            g_prefix_error(error, "a TSC of %" PRIu64 " Hz: ", hz);
            return false;
        }
    }
    m->tsc_hz = hz;
    return true;
}
