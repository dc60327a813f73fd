/*
 * Interrupts and the short cuts of devices. Messages go to the kernel's APICs by KVM_SIGNAL_MSI.
 * The routes say what the IOAPIC's inputs send: KVM sends it for an irqfd, and takes from the
 * level-triggered among the first N_PINS which vectors' EOIs are to be told (KVM_EXIT_IOAPIC_EOI).
 * Any thread.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>
#include <string.h>

/* As many as an IOAPIC can have. */
#define N_PINS         120

#define MSI_DATA_LEVEL (1u << 15)

/* KVM_COALESCED_MMIO_MAX, which wants a PAGE_SIZE. */
#define RING_SIZE                                                          \
    ((uint32_t)((PTA_PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) / \
                sizeof(struct kvm_coalesced_mmio)))

typedef struct Irqfd {
    unsigned pin;
    int fd;
} Irqfd;

struct KvmRoutes {
    GMutex sending; /* a message is; or kvm_irq_hold(). Before `lock` */
    bool held;      /* MAIN */
    GMutex lock;
    GArray *irqfds; /* LOCKED(lock): of Irqfd; those that the kernel has, unless `held` */
    struct {
        uint64_t address; /* 0: the pin sends nothing */
        uint32_t data;
    } pins[N_PINS];                  /* LOCKED(lock) */
    struct kvm_irq_routing *scratch; /* LOCKED(lock): room for all pins */
};

bool kvm_irq_init(KvmPartition *m, GError **error)
{
    struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = N_PINS };
    if (!kvm_try(m->vm_fd, KVM_ENABLE_CAP, &split, error)) {
        g_prefix_error(error, "KVM_CAP_SPLIT_IRQCHIP: ");
        return false;
    }
    m->routes = g_new0(KvmRoutes, 1);
    g_mutex_init(&m->routes->sending);
    g_mutex_init(&m->routes->lock);
    m->routes->irqfds = g_array_new(FALSE, FALSE, sizeof(Irqfd));
    m->routes->scratch =
        g_malloc0(sizeof(struct kvm_irq_routing) + N_PINS * sizeof(struct kvm_irq_routing_entry));
    return true;
}

void kvm_irq_fini(KvmPartition *m)
{
    if (m->routes) {
        g_mutex_clear(&m->routes->sending);
        g_mutex_clear(&m->routes->lock);
        g_array_unref(m->routes->irqfds);
        g_free(m->routes->scratch);
        g_clear_pointer(&m->routes, g_free);
    }
}

/* ---- messages ---- */

void kvm_msi(PtaBackend *be, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address,
        .address_hi = (uint32_t)(address >> 32),
        .data = data,
    };
    KvmPartition *m = kvm_of(be);
    g_mutex_lock(&m->routes->sending);
    int r = kvm_ioctl(m->vm_fd, KVM_SIGNAL_MSI, &msi);
    int errnum = errno;
    g_mutex_unlock(&m->routes->sending);
    /* 0: no APIC takes it now; that is the guest's affair. */
    if (r < 0) {
        PTA_GUEST_ERROR("an interrupt to 0x%x with data 0x%x is lost: KVM_SIGNAL_MSI: %s",
                        msi.address_lo, data, g_strerror(errnum));
    }
}

/* ---- routes ---- */

/* KVM takes the whole table, or nothing. */
static void set_routing_locked(KvmPartition *m)
{
    KvmRoutes *r = m->routes;
    r->scratch->nr = 0;
    for (unsigned pin = 0; pin < N_PINS; pin++) {
        if (r->pins[pin].address != 0) {
            r->scratch->entries[r->scratch->nr++] = (struct kvm_irq_routing_entry){
                .gsi = pin,
                .type = KVM_IRQ_ROUTING_MSI,
                .u.msi.address_lo = (uint32_t)r->pins[pin].address,
                .u.msi.address_hi = (uint32_t)(r->pins[pin].address >> 32),
                .u.msi.data = r->pins[pin].data,
            };
        }
    }
    if (kvm_ioctl(m->vm_fd, KVM_SET_GSI_ROUTING, r->scratch) < 0) {
        PTA_GUEST_ERROR("the IOAPIC's routes are not set: KVM_SET_GSI_ROUTING: %s",
                        g_strerror(errno));
    }
}

/*
 * A level-triggered route outlives its mask: an interrupt may be under way whose EOI the IOAPIC has
 * to hear of. Nothing else is ever sent by it, for irqfds are for edges.
 */
void kvm_route(PtaBackend *be, unsigned pin, uint64_t address, uint32_t data)
{
    KvmPartition *m = kvm_of(be);
    KvmRoutes *r = m->routes;
    g_assert(pin < N_PINS);
    g_mutex_lock(&r->lock);
    bool stays = address == 0 && r->pins[pin].data & MSI_DATA_LEVEL;
    if (!stays && (r->pins[pin].address != address || r->pins[pin].data != data)) {
        r->pins[pin].address = address;
        r->pins[pin].data = data;
        set_routing_locked(m);
    }
    g_mutex_unlock(&r->lock);
}

/* ---- eventfds ---- */

static bool set_irqfd(const KvmPartition *m, const Irqfd *i, bool assign, GError **error)
{
    struct kvm_irqfd arg = {
        .fd = (uint32_t)i->fd,
        .gsi = i->pin,
        .flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
    };
    return kvm_try(m->vm_fd, KVM_IRQFD, &arg, error);
}

bool kvm_irqfd(PtaBackend *be, unsigned pin, int fd, bool assign, GError **error)
{
    KvmPartition *m = kvm_of(be);
    KvmRoutes *r = m->routes;
    const Irqfd irqfd = { pin, fd };
    g_assert(pin < N_PINS);
    if (!set_irqfd(m, &irqfd, assign, error)) {
        return false;
    }
    g_mutex_lock(&r->lock);
    if (assign) {
        g_array_append_val(r->irqfds, irqfd);
    }
    for (unsigned i = 0; !assign && i < r->irqfds->len; i++) {
        const Irqfd *known = &g_array_index(r->irqfds, Irqfd, i);
        if (known->pin == pin && known->fd == fd) {
            g_array_remove_index_fast(r->irqfds, i);
            break;
        }
    }
    g_mutex_unlock(&r->lock);
    return true;
}

/* An eventfd that the kernel does not listen to keeps its count, and is looked at when it is given back. */
static void all_irqfds(KvmPartition *m, bool assign)
{
    KvmRoutes *r = m->routes;
    g_mutex_lock(&r->lock);
    for (unsigned i = 0; i < r->irqfds->len; i++) {
        g_autoptr(GError) error = NULL;
        const Irqfd *irqfd = &g_array_index(r->irqfds, Irqfd, i);
        if (!set_irqfd(m, irqfd, assign, &error)) {
            g_warning("kvm: interrupt %u: %s", irqfd->pin, error->message);
        }
    }
    g_mutex_unlock(&r->lock);
}

void kvm_irq_hold(KvmPartition *m)
{
    if (!m->routes->held) {
        m->routes->held = true;
        g_mutex_lock(&m->routes->sending);
        all_irqfds(m, false);
    }
}

void kvm_irq_release(KvmPartition *m)
{
    if (m->routes->held) {
        all_irqfds(m, true);
        m->routes->held = false;
        g_mutex_unlock(&m->routes->sending);
    }
}

/* ---- writes that need no VP's exit ---- */

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

bool kvm_coalesce(PtaBackend *be, bool pio, uint64_t addr, uint64_t size, bool on, GError **error)
{
    KvmPartition *m = kvm_of(be);
    struct kvm_coalesced_mmio_zone zone = { .addr = addr, .size = (uint32_t)size, .pio = pio };
    if (!m->coalesced || (pio && !m->caps.coalesced_pio)) {
        return true; /* then each write is an exit, as any other is */
    }
    if (on) {
        return kvm_try(m->vm_fd, KVM_REGISTER_COALESCED_MMIO, &zone, error);
    }
    kvm_coalesced_drain(m, NULL); /* whom it was for may be about to go */
    return kvm_try(m->vm_fd, KVM_UNREGISTER_COALESCED_MMIO, &zone, error);
}

static void deliver(const KvmPartition *m, const struct kvm_coalesced_mmio *w)
{
    const PtaPlatform *p = m->platform;
    unsigned len = MIN(w->len, (unsigned)sizeof(w->data));
    if (w->pio) {
        uint32_t value = 0;
        len = MIN(len, (unsigned)sizeof(value));
        memcpy(&value, w->data, len);
        p->pio_write(p->opaque, (uint16_t)w->phys_addr, len, value);
    } else {
        kvm_mmio_write(m, w->phys_addr, w->data, len);
    }
}

/*
 * An entry counts as taken when it was delivered, not before: so a VP that finds the ring empty
 * without the lock knows that its own writes have arrived.
 */
void kvm_coalesced_drain(KvmPartition *m, KvmVp *vp)
{
    struct kvm_coalesced_mmio_ring *ring = m->coalesced;
    if (!ring || __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE) ==
                     __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
        return;
    }
    g_mutex_lock(&m->coalesced_lock);
    uint32_t first = ring->first % RING_SIZE;
    while (first != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
        deliver(m, &ring->coalesced_mmio[first]);
        first = (first + 1) % RING_SIZE;
        __atomic_store_n(&ring->first, first, __ATOMIC_RELEASE);
        if (vp) {
            vp->stats[KVM_STAT_COALESCED]++;
        }
    }
    g_mutex_unlock(&m->coalesced_lock);
}
