/*
 * The partition's clock is KVM's own (KVM_GET_CLOCK), so that the kernel's Hyper-V reference time
 * is the same; while the partition is stopped it stands still, and so do the VPs' TSCs and APIC
 * timers, which KVM itself would let run on (KvmFrozen).
 *
 * Where the host keeps time by its TSC, KVM's clock is a linear function of it, and KVM_GET_CLOCK says
 * both at one instant (Linux 5.16). So clock and TSCs stop and go on together to the tick, and
 * TSC = clock * frequency + a constant for as long as the machine lives. Elsewhere the two are read one
 * after the other, and lie a system call's time apart.
 *
 * TSCs are set by offset where the kernel lets us (KVM_VCPU_TSC_OFFSET, Linux 5.16), so that VPs
 * keep their distance to one another to the tick; else by value, which KVM takes for synchronous
 * if it comes within a second.
 *
 * Main thread, but for kvm_clock_ns() and kvm_vp_tsc().
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm-state.h"

#include <errno.h>
#include <inttypes.h>

#define NS_PER_S UINT64_C(1000000000)

/* KVM's own tolerance: within it a TSC of another frequency is the host's as it is. */
#define TOLERANCE_PPM 250

/* ---- the clock ---- */

static struct kvm_clock_data read_clock(const KvmPartition *m)
{
    struct kvm_clock_data data = { 0 };
    if (kvm_ioctl(m->vm_fd, KVM_GET_CLOCK, &data) < 0) {
        g_warning("kvm: KVM_GET_CLOCK: %s", g_strerror(errno));
    }
    return data;
}

uint64_t kvm_clock_ns(const PtaBackend *be)
{
    KvmPartition *m = kvm_of((PtaBackend *)(uintptr_t)be);
    g_mutex_lock(&m->clock_lock);
    uint64_t ns = m->clock_running ? read_clock(m).clock : m->clock_ns;
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

/* kvm_pvm shows its guests the host's TSC, whatever it is told: only trying tells. There a TSC does not stand
 * still with the clock. */
void kvm_clock_vp_init(KvmVp *vp)
{
    KvmPartition *m = vp->m;
    uint64_t was = 0, now = 0;
    if (vp->vp.index != 0 || !offset_attr(vp, false, &was)) {
        return;
    }
    uint64_t other = was + 1;
    m->tsc_fixed = offset_attr(vp, true, &other) && offset_attr(vp, false, &now) && now != other;
    offset_attr(vp, true, &was);
}

/* The guest's TSC is the host's plus an offset. */
static bool unscaled(const KvmPartition *m)
{
    return !m->caps.tsc_control || m->tsc_hz == m->host_tsc_hz;
}

/* The clock and VP 0's TSC at one instant. */
typedef struct Instant {
    uint64_t clock, tsc;
    uint64_t offset; /* of VP 0's TSC */
    bool by_offset;  /* TSCs can be set by offset */
} Instant;

static Instant read_instant(KvmPartition *m)
{
    struct kvm_clock_data data = read_clock(m);
    Instant now = { .clock = data.clock };
    now.by_offset = offset_attr(m->vps[0], false, &now.offset);
    if (now.by_offset && (data.flags & KVM_CLOCK_HOST_TSC) && unscaled(m)) {
        now.tsc = data.host_tsc + now.offset;
    } else if (!kvm_msr_get(m->vps[0], KVM_MSR_TSC, &now.tsc)) {
        g_warning("kvm: the TSC cannot be read");
    }
    return now;
}

bool kvm_tsc_stable(const PtaBackend *be)
{
    const KvmPartition *m = kvm_of((PtaBackend *)(uintptr_t)be);
    const uint32_t exact = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_HOST_TSC;
    return !m->tsc_fixed && (read_clock(m).flags & exact) == exact &&
           (m->caps.tsc_control || m->tsc_hz == m->host_tsc_hz);
}

uint64_t kvm_vp_tsc(const PtaBackendVp *be_vp)
{
    KvmVp *vp = kvm_vp_of((PtaBackendVp *)(uintptr_t)be_vp);
    if (vp->frozen.valid) {
        return vp->frozen.tsc;
    }
    uint64_t tsc = 0;
    kvm_msr_get(vp, KVM_MSR_TSC, &tsc);
    return tsc;
}

static void freeze_tscs(KvmPartition *m, const Instant *now)
{
    for (unsigned i = 0; i < m->n_vps; i++) {
        KvmVp *vp = m->vps[i];
        uint64_t offset = 0;
        if (now->by_offset && offset_attr(vp, false, &offset)) {
            vp->frozen.tsc = now->tsc + (offset - now->offset);
        } else if (i == 0) {
            vp->frozen.tsc = now->tsc;
        } else {
            kvm_msr_get(vp, KVM_MSR_TSC, &vp->frozen.tsc);
        }
    }
}

/* The clock has been running from `since` on, by itself. */
static void thaw_tscs(KvmPartition *m, uint64_t since)
{
    Instant now = read_instant(m);
    uint64_t elapsed = now.clock > since ? now.clock - since : 0;
    uint64_t ticks = (uint64_t)((unsigned __int128)elapsed * m->tsc_hz / NS_PER_S);
    for (unsigned i = 0; i < m->n_vps; i++) {
        KvmVp *vp = m->vps[i];
        uint64_t tsc = vp->frozen.tsc + ticks; /* at that instant */
        uint64_t offset = now.offset + (tsc - now.tsc);
        if (!(now.by_offset && offset_attr(vp, true, &offset)) &&
            !kvm_msr_set(vp, KVM_MSR_TSC, vp->frozen.tsc)) {
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
    thaw_tscs(m, data.clock);
    for (unsigned i = 0; i < m->n_vps; i++) {
        g_autoptr(GError) error = NULL;
        if (!kvm_lapic_thaw(m->vps[i], &error)) {
            g_warning("kvm: vp%u: the APIC's timer is lost: %s", i, error->message);
        }
        m->vps[i]->frozen.valid = false;
    }
    kvm_irq_release(m);
}

void kvm_clock_stop(PtaBackend *be)
{
    KvmPartition *m = kvm_of(be);
    kvm_coalesced_drain(m, NULL);
    Instant now = read_instant(m);
    g_mutex_lock(&m->clock_lock);
    g_assert(m->clock_running);
    m->clock_ns = now.clock;
    m->clock_running = false;
    g_mutex_unlock(&m->clock_lock);
    freeze_tscs(m, &now);
    for (unsigned i = 0; i < m->n_vps; i++) {
        kvm_lapic_freeze(m->vps[i]);
        m->vps[i]->frozen.valid = true;
    }
    kvm_irq_release(m);
}

/* ---- frequencies ---- */

/* The host's TSC frequency is a question to a VM, and making one takes its time: the next partition
 * takes the one that was made to ask. MAIN. */
static int spare_vm = -1;

int kvm_take_spare_vm(void)
{
    return g_steal_fd(&spare_vm);
}

/* Of a VM (Linux 5.18), or else of a VP of it, which then is used up. */
static uint64_t ask_tsc_hz(int vm, bool *used_up)
{
    int khz = kvm_ioctl_val(vm, KVM_GET_TSC_KHZ, 0);
    *used_up = khz <= 0;
    if (*used_up) {
        pta_autofd int vp = kvm_ioctl_val(vm, KVM_CREATE_VCPU, 0);
        khz = vp >= 0 ? kvm_ioctl_val(vp, KVM_GET_TSC_KHZ, 0) : -1;
    }
    return khz > 0 ? (uint64_t)khz * 1000 : 0;
}

static uint64_t host_tsc_hz(void)
{
    static uint64_t hz; /* MAIN */
    pta_assert_main();
    if (hz == 0) {
        KvmCaps caps;
        bool used_up = true;
        pta_autofd int sys = kvm_open(&caps, NULL);
        pta_autofd int vm = sys >= 0 ? kvm_ioctl_val(sys, KVM_CREATE_VM, 0) : -1;
        hz = vm >= 0 ? ask_tsc_hz(vm, &used_up) : 0;
        if (!used_up && spare_vm < 0) {
            spare_vm = g_steal_fd(&vm);
        }
    }
    return hz;
}

bool kvm_clock_init(KvmPartition *m, GError **error)
{
    m->host_tsc_hz = m->tsc_hz = host_tsc_hz();
    return m->tsc_hz != 0 ||
           pta_throw(error, PTA_ERROR_HOST, "KVM_GET_TSC_KHZ: the host's TSC has no frequency");
}

uint64_t kvm_tsc_hz(const PtaBackend *be)
{
    if (be) {
        return kvm_of((PtaBackend *)(uintptr_t)be)->tsc_hz;
    }
    uint64_t hz = host_tsc_hz();
    return hz ? hz : NS_PER_S; /* of what cannot be made: kvm_clock_init() */
}

uint64_t kvm_apic_hz(const PtaBackend *be)
{
    (void)be;
    return NS_PER_S; /* KVM counts nanoseconds */
}

static bool tolerated(const KvmPartition *m, uint64_t hz)
{
    uint64_t most = m->host_tsc_hz / 1000000 * TOLERANCE_PPM;
    uint64_t off = hz > m->host_tsc_hz ? hz - m->host_tsc_hz : m->host_tsc_hz - hz;
    return off <= most;
}

bool kvm_set_tsc_hz(PtaBackend *be, uint64_t hz, GError **error)
{
    KvmPartition *m = kvm_of(be);
    if (hz == m->tsc_hz) {
        return true;
    }
    if (!m->caps.tsc_control && !tolerated(m, hz)) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "the TSC cannot run at %" PRIu64 " Hz: this host's has %" PRIu64
                         " Hz, and its CPU cannot scale it",
                         hz, m->host_tsc_hz);
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
