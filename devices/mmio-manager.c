/*
 * The table of places. Everything is chosen and checked before the bus is touched, and what follows
 * the bus cannot fail: a refusal leaves no trace.
 */
#include "config.h"

#define G_LOG_DOMAIN "devices"

#include "devices/mmio-manager.h"

#include <string.h>

typedef struct Place {
    PtaPlacedDevice placed;
    PtaDevice *dev;
    const PtaBusOps *ops;
} Place;

struct PtaMmioManager {
    PtaMmioManagerParams params;                             /* CONST */
    void (*set_irq)(void *opaque, unsigned pin, bool level); /* CONST from the first placement on */
    void *set_irq_opaque;
    PtaIrqFds *irq_fds;
    GArray *places; /* of Place; MAIN */
};

/* The PC's serial ports. COM3 and COM4 shared the interrupts of COM1 and COM2 when there were
 * fifteen of them; here each has its own, and the DSDT says so. */
static const struct {
    uint16_t base;
    int irq;
} com_ports[] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 6 }, { 0x2e8, 7 } };

static const char *const kind_names[] = {
    [PTA_PLACED_UART16550] = "uart16550",
    [PTA_PLACED_RTC_CMOS] = "rtc-cmos",
    [PTA_PLACED_VIRTIO_MMIO] = "virtio-mmio",
    [PTA_PLACED_IOAPIC] = "ioapic",
    [PTA_PLACED_POWER] = "power",
    [PTA_PLACED_DEBUG_EXIT] = "debug-exit",
    [PTA_PLACED_LEGACY_RESET] = "legacy-reset",
    [PTA_PLACED_WATCHDOG] = "watchdog",
    [PTA_PLACED_PVPANIC] = "pvpanic",
};

const char *pta_placed_kind_name(PtaPlacedKind kind)
{
    return kind_names[kind];
}

PtaMmioManager *pta_mmio_manager_new(const PtaMmioManagerParams *params)
{
    g_assert(params->base % PTA_MMIO_WINDOW == 0 && params->base <= params->limit);
    PtaMmioManager *m = g_new0(PtaMmioManager, 1);
    m->params = *params;
    m->places = g_array_new(false, false, sizeof(Place));
    return m;
}

void pta_mmio_manager_free(PtaMmioManager *m)
{
    if (m) {
        g_assert(m->places->len == 0);
        g_array_unref(m->places);
        g_free(m);
    }
}

void pta_mmio_manager_connect(PtaMmioManager *m,
                              void (*set)(void *opaque, unsigned pin, bool level), void *opaque,
                              PtaIrqFds *fds)
{
    m->set_irq = set;
    m->set_irq_opaque = opaque;
    m->irq_fds = fds;
}

void pta_mmio_manager_attach(PtaMmioManager *m, PtaDeviceHost *host)
{
    host->manager = m;
    host->place = pta_mmio_manager_place;
    host->unplace = pta_mmio_manager_unplace;
}

static Place *place_at(const PtaMmioManager *m, guint i)
{
    return &g_array_index(m->places, Place, i);
}

static bool ordinal_taken(const PtaMmioManager *m, PtaPlacedKind kind, unsigned ordinal)
{
    for (guint i = 0; i < m->places->len; i++) {
        const PtaPlacedDevice *p = &place_at(m, i)->placed;
        if (p->kind == kind && p->ordinal == ordinal) {
            return true;
        }
    }
    return false;
}

static const Place *irq_owner(const PtaMmioManager *m, int irq)
{
    for (guint i = 0; i < m->places->len; i++) {
        if (place_at(m, i)->placed.irq == irq) {
            return place_at(m, i);
        }
    }
    return NULL;
}

/* ---- choosing ---- */

static bool choose_window(const PtaMmioManager *m, PtaPlacedDevice *placed, GError **error)
{
    uint64_t base = m->params.base;
    uint64_t span = pta_align_up(placed->size, PTA_MMIO_WINDOW);
    for (guint i = 0; i < m->places->len;) {
        const PtaPlacedDevice *p = &place_at(m, i)->placed;
        if (!p->pio && base < p->base + p->size && p->base < base + span) {
            base = pta_align_up(p->base + p->size, PTA_MMIO_WINDOW);
            i = 0; /* the next candidate may hit a place that was passed */
        } else {
            i++;
        }
    }
    if (base > m->params.limit || m->params.limit - base < span) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "no more device windows are available");
    }
    placed->base = base;
    return true;
}

static bool choose_com_port(const PtaMmioManager *m, PtaPlacedDevice *placed, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(com_ports); i++) {
        if (!ordinal_taken(m, PTA_PLACED_UART16550, i)) {
            placed->base = com_ports[i].base;
            placed->irq = com_ports[i].irq;
            return true;
        }
    }
    return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "no more serial ports are available");
}

static bool choose_irq(const PtaMmioManager *m, PtaPlacedDevice *placed, GError **error)
{
    if (placed->irq < 0) {
        for (unsigned irq = m->params.irq_first; irq <= m->params.irq_last; irq++) {
            if (!irq_owner(m, (int)irq)) {
                placed->irq = (int)irq;
                return true;
            }
        }
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "no more IRQs are available");
    }
    if ((unsigned)placed->irq >= m->params.n_irqs) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "there is no IRQ %d", placed->irq);
    }
    const Place *owner = irq_owner(m, placed->irq);
    if (owner) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "IRQ %d is taken by %s", placed->irq,
                         owner->placed.id);
    }
    return true;
}

/* ---- index registers: their writes may come late, where the back end can do that ---- */

static bool coalesce(PtaDeviceHost *host, const PtaPlacedDevice *placed, const PtaBusOps *ops,
                     bool on, GError **error)
{
    return !host->coalesce || ops->index_size == 0 ||
           host->coalesce(host, placed->pio, placed->base + ops->index_offset, ops->index_size, on,
                          error);
}

static unsigned choose_ordinal(const PtaMmioManager *m, const PtaPlacedDevice *placed)
{
    if (placed->kind == PTA_PLACED_UART16550) {
        for (unsigned i = 0; i < G_N_ELEMENTS(com_ports); i++) {
            if (placed->base == com_ports[i].base) {
                return i;
            }
        }
    }
    unsigned ordinal = 0;
    while (ordinal_taken(m, placed->kind, ordinal)) {
        ordinal++;
    }
    return ordinal;
}

bool pta_mmio_manager_place(PtaDeviceHost *host, PtaDevice *dev, PtaPlacedKind kind, bool pio,
                            uint64_t base, uint64_t size, const PtaBusOps *ops, bool with_irq,
                            int irq, PtaPlacedDevice *placed, PtaIrqLine *line, GError **error)
{
    PtaMmioManager *m = host->manager;
    PtaBus *bus = pio ? m->params.pio : m->params.mmio;
    for (guint i = 0; i < m->places->len; i++) {
        const Place *p = place_at(m, i);
        if (p->dev != dev && strcmp(p->placed.id, dev->id) == 0) {
            return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                             "there is a device of this id already");
        }
    }
    if (!bus) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "this machine has no I/O ports");
    }
    PtaPlacedDevice want = {
        .kind = kind,
        .id = dev->id,
        .pio = pio,
        .base = base,
        .size = size,
        .irq = irq,
        /* All are edges: an edge can go by eventfd, and its EOI concerns nobody. */
        .level = false,
    };
    if (base == 0) {
        bool chosen = !pio ? choose_window(m, &want, error)
                      : kind == PTA_PLACED_UART16550
                          ? choose_com_port(m, &want, error)
                          : pta_throw(error, PTA_ERROR_GENERIC_ERROR, "a port must be given");
        if (!chosen) {
            return false;
        }
    }
    if (!with_irq) {
        want.irq = -1;
    } else if (!choose_irq(m, &want, error)) {
        return false;
    }
    want.ordinal = choose_ordinal(m, &want);
    if (!pta_bus_add(bus, want.base, size, dev->id, ops, dev, error)) {
        return false;
    }
    if (!coalesce(host, &want, ops, true, error)) {
        pta_bus_remove(bus, want.base);
        return false;
    }
    Place place = { want, dev, ops };
    g_array_append_val(m->places, place);
    *placed = want;
    if (with_irq) {
        g_assert(m->set_irq != NULL);
        *line = (PtaIrqLine){
            .set = m->set_irq,
            .opaque = m->set_irq_opaque,
            .pin = (unsigned)want.irq,
            .fds = m->irq_fds,
        };
    }
    return true;
}

void pta_mmio_manager_unplace(PtaDeviceHost *host, PtaDevice *dev)
{
    PtaMmioManager *m = host->manager;
    for (guint i = m->places->len; i-- > 0;) {
        const Place *p = place_at(m, i);
        if (p->dev != dev) {
            continue;
        }
        g_autoptr(GError) error = NULL;
        if (!coalesce(host, &p->placed, p->ops, false, &error)) {
            g_warning("%s: %s", p->placed.id, error->message);
        }
        if (!pta_bus_remove(p->placed.pio ? m->params.pio : m->params.mmio, p->placed.base)) {
            g_assert_not_reached();
        }
        if (p->placed.irq >= 0) {
            m->set_irq(m->set_irq_opaque, (unsigned)p->placed.irq, false);
        }
        g_array_remove_index(m->places, i);
    }
}

size_t pta_mmio_manager_count(const PtaMmioManager *m)
{
    return m->places->len;
}

const PtaPlacedDevice *pta_mmio_manager_get(const PtaMmioManager *m, size_t i)
{
    g_assert(i < m->places->len);
    return &place_at(m, (guint)i)->placed;
}

const PtaPlacedDevice *pta_mmio_manager_find(const PtaMmioManager *m, PtaPlacedKind kind,
                                             const char *id)
{
    for (guint i = 0; i < m->places->len; i++) {
        const PtaPlacedDevice *p = &place_at(m, i)->placed;
        if (p->kind == kind && (!id || strcmp(p->id, id) == 0)) {
            return p;
        }
    }
    return NULL;
}
