/*
 * Interrupts and the short cuts of devices. Messages go to the kernel's APICs by KVM_SIGNAL_MSI.
 * The routes say what the IOAPIC's inputs send: KVM sends it for an irqfd, and takes from them
 * which vectors' EOIs are to be told (KVM_EXIT_IOAPIC_EOI). Any thread.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>

/* As many as an IOAPIC can have. */
#define N_PINS 120

bool kvm_irq_init(KvmPartition *m, GError **error)
{
    struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = N_PINS };
    return kvm_try(m->vm_fd, KVM_ENABLE_CAP, &split, error);
}

void kvm_irq_fini(KvmPartition *m)
{
    (void)m;
}

void kvm_msi(PtaBackend *be, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address,
        .address_hi = (uint32_t)(address >> 32),
        .data = data,
    };
    /* 0: no APIC takes it now; that is the guest's affair. */
    if (kvm_ioctl(kvm_of(be)->vm_fd, KVM_SIGNAL_MSI, &msi) < 0) {
        PTA_GUEST_ERROR("an interrupt to 0x%x with data 0x%x is lost: %s", msi.address_lo, data,
                        g_strerror(errno));
    }
}

void kvm_nmi(PtaBackend *be, unsigned vp)
{
    KvmPartition *m = kvm_of(be);
    g_assert(vp < m->n_vps);
    if (kvm_ioctl(m->vps[vp]->fd, KVM_NMI, NULL) < 0) {
        g_warning("vp%u: KVM_NMI: %s", vp, g_strerror(errno));
    }
}

bool kvm_ioeventfd(PtaBackend *be, const PtaIoeventfd *io, bool assign, GError **error)
{
    struct kvm_ioeventfd arg = {
        .datamatch = io->value,
        .addr = io->addr,
        .len = io->size,
        .fd = io->fd,
        .flags = (io->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
                 (io->pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
                 (assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
    };
    return kvm_try(kvm_of(be)->vm_fd, KVM_IOEVENTFD, &arg, error);
}

void kvm_route(PtaBackend *be, unsigned pin, uint64_t address, uint32_t data)
{
    (void)be, (void)pin, (void)address, (void)data;
}

bool kvm_irqfd(PtaBackend *be, unsigned pin, int fd, bool assign, GError **error)
{
    (void)be, (void)pin, (void)fd, (void)assign;
    return pta_throw(error, PTA_ERROR_UNSUPPORTED, "irqfd");
}

bool kvm_coalesce(PtaBackend *be, bool pio, uint64_t addr, uint64_t size, bool on, GError **error)
{
    (void)be, (void)pio, (void)addr, (void)size, (void)on;
    return pta_throw(error, PTA_ERROR_UNSUPPORTED, "coalesce");
}

void kvm_coalesced_drain(KvmPartition *m, KvmVp *vp)
{
    (void)m, (void)vp;
}
