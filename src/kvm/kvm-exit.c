/* What KVM_RUN came back for. The VP's thread. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <inttypes.h>
#include <string.h>

bool kvm_internal_error(PtaExit *exit, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    exit->reason = PTA_EXIT_INTERNAL_ERROR;
    g_vsnprintf(exit->error.text, sizeof(exit->error.text), format, ap);
    va_end(ap);
    return false;
}

/* ---- ports and memory ---- */

static bool on_pio(KvmVp *vp)
{
    const PtaPlatform *p = vp->m->platform;
    struct kvm_run *run = vp->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned size = run->io.size;
    vp->stats[KVM_STAT_PIO]++;
    if (kvm_hypercall_port(vp)) {
        return true;
    }
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint32_t value = 0;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, size);
            p->pio_write(p->opaque, run->io.port, size, value);
        } else {
            value = p->pio_read(p->opaque, run->io.port, size);
            memcpy(data, &value, size);
        }
    }
    return true;
}

/* The largest piece of an access that a device can be asked for: a power of two, aligned. KVM splits at
 * eight bytes and at pages, so a piece may have any length up to eight. */
static unsigned piece(uint64_t gpa, unsigned len)
{
    unsigned size = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
    if (size == len) {
        return size; /* an access as the guest made it, aligned or not */
    }
    while (gpa & (size - 1)) {
        size /= 2;
    }
    return size;
}

void kvm_mmio_write(const KvmPartition *m, uint64_t gpa, const uint8_t *data, unsigned len)
{
    const PtaPlatform *p = m->platform;
    for (unsigned done = 0; done < len;) {
        unsigned size = piece(gpa + done, len - done);
        uint64_t value = 0;
        memcpy(&value, data + done, size);
        p->mmio_write(p->opaque, gpa + done, size, value);
        done += size;
    }
}

static void mmio_read(const KvmPartition *m, uint64_t gpa, uint8_t *data, unsigned len)
{
    const PtaPlatform *p = m->platform;
    for (unsigned done = 0; done < len;) {
        unsigned size = piece(gpa + done, len - done);
        uint64_t value = p->mmio_read(p->opaque, gpa + done, size);
        memcpy(data + done, &value, size);
        done += size;
    }
}

static bool on_mmio(KvmVp *vp)
{
    struct kvm_run *run = vp->run;
    unsigned len = MIN(run->mmio.len, (unsigned)sizeof(run->mmio.data));
    vp->stats[KVM_STAT_MMIO]++;
    if (run->mmio.is_write) {
        kvm_mmio_write(vp->m, run->mmio.phys_addr, run->mmio.data, len);
    } else {
        mmio_read(vp->m, run->mmio.phys_addr, run->mmio.data, len);
    }
    return true;
}

/* ---- MSRs ---- */

static bool on_rdmsr(KvmVp *vp)
{
    const PtaPlatform *p = vp->m->platform;
    struct kvm_run *run = vp->run;
    uint64_t value = 0;
    vp->stats[KVM_STAT_MSR]++;
    run->msr.error = !p->msr_read(p->opaque, vp->vp.index, run->msr.index, &value);
    run->msr.data = value;
    return true;
}

static bool on_wrmsr(KvmVp *vp)
{
    const PtaPlatform *p = vp->m->platform;
    struct kvm_run *run = vp->run;
    vp->stats[KVM_STAT_MSR]++;
    run->msr.error = !p->msr_write(p->opaque, vp->vp.index, run->msr.index, run->msr.data);
    return true;
}

/* ---- what ends it ---- */

static bool on_internal_error(KvmVp *vp, PtaExit *exit)
{
    const struct kvm_run *run = vp->run;
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
        return kvm_emulate(vp, exit);
    }
    PtaX86Regs regs = { 0 };
    kvm_vp_get_regs(vp, &regs);
    g_autoptr(GString) data = g_string_new(NULL);
    for (uint32_t i = 0; i < MIN(run->internal.ndata, 4u); i++) {
        g_string_append_printf(data, " 0x%" PRIx64, (uint64_t)run->internal.data[i]);
    }
    return kvm_internal_error(exit, "KVM internal error, suberror %u, at rip 0x%" PRIx64 "%s%s",
                              run->internal.suberror, regs.rip, data->len ? ":" : "", data->str);
}

static bool on_shutdown(KvmVp *vp, PtaExit *exit)
{
    vp->shutdown = true;
    exit->reason = PTA_EXIT_SHUTDOWN;
    return false;
}

bool kvm_vp_exit(KvmVp *vp, PtaExit *exit)
{
    const struct kvm_run *run = vp->run;
    const PtaPlatform *p = vp->m->platform;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        return on_pio(vp);
    case KVM_EXIT_MMIO:
        return on_mmio(vp);
    case KVM_EXIT_X86_RDMSR:
        return on_rdmsr(vp);
    case KVM_EXIT_X86_WRMSR:
        return on_wrmsr(vp);
    case KVM_EXIT_IOAPIC_EOI:
        vp->stats[KVM_STAT_EOI]++;
        p->eoi(p->opaque, run->eoi.vector);
        return true;
    case KVM_EXIT_HYPERV:
        return kvm_hyperv_exit(vp, exit);
    case KVM_EXIT_DEBUG:
        vp->stats[KVM_STAT_DEBUG]++;
        return kvm_debug_exit(vp, exit);
    case KVM_EXIT_DIRTY_RING_FULL:
        vp->stats[KVM_STAT_RING_FULL]++;
        kvm_dirty_ring_full(vp);
        return true;
    case KVM_EXIT_SHUTDOWN:
        return on_shutdown(vp, exit);
    case KVM_EXIT_INTERNAL_ERROR:
        return on_internal_error(vp, exit);
    case KVM_EXIT_FAIL_ENTRY:
        return kvm_internal_error(exit, "KVM: entry failed, hardware reason 0x%" PRIx64,
                                  (uint64_t)run->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_HLT: /* not with the APIC in the kernel */
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
        return true;
    default:
        return kvm_internal_error(exit, "KVM: exit %u, which nothing here asked for",
                                  run->exit_reason);
    }
}
