/*
 * An I/O APIC. Register accesses come from VP threads, inputs from anywhere, EOI from the VP thread
 * whose local APIC finished. What is to be delivered is collected under the lock and sent after it:
 * the receiver may answer with an EOI from within.
 */
#include "config.h"

#include "devices/ioapic.h"

#include <string.h>

/* Window. */
#define IOREGSEL 0x00
#define IOWIN    0x10
#define IOEOI    0x40

/* Indexed registers. */
#define REG_ID         0x00
#define REG_VERSION    0x01
#define REG_ARB        0x02
#define REG_REDIR      0x10 /* two for each pin */

#define IOAPIC_VERSION 0x20u

/* A redirection entry. */
#define REDIR_VECTOR     UINT64_C(0xff)
#define REDIR_DELMODE(e) ((unsigned)((e) >> 8 & 7))
#define REDIR_LOGICAL    (UINT64_C(1) << 11)
#define REDIR_DELIVS     (UINT64_C(1) << 12)
#define REDIR_REMOTE_IRR (UINT64_C(1) << 14)
#define REDIR_LEVEL      (UINT64_C(1) << 15)
#define REDIR_MASKED     (UINT64_C(1) << 16)
#define REDIR_DEST(e)    ((unsigned)((e) >> 56))
#define REDIR_READ_ONLY  (REDIR_DELIVS | REDIR_REMOTE_IRR)
#define REDIR_RESERVED   UINT64_C(0x00fffffffffe0000)

#define DELMODE_FIXED    0
#define DELMODE_LOWEST   1

#define MSI_BASE         UINT64_C(0xfee00000)
#define MSI_REDIRECTION  (1u << 3)
#define MSI_LOGICAL      (1u << 2)
#define MSI_DATA_ASSERT  (1u << 14)
#define MSI_DATA_LEVEL   (1u << 15)

typedef struct IoapicState {
    uint64_t redirection[PTA_IOAPIC_MAX_PINS];
    uint8_t input[PTA_IOAPIC_MAX_PINS]; /* 1: asserted */
    uint8_t edge[PTA_IOAPIC_MAX_PINS];  /* 1: an edge came and was not delivered yet */
    uint32_t id;
    uint32_t select;
} IoapicState;

static const PtaStateField ioapic_fields[] = {
    PTA_STATE_UINT_ARRAY(IoapicState, redirection),
    PTA_STATE_UINT_ARRAY(IoapicState, input),
    PTA_STATE_UINT_ARRAY(IoapicState, edge),
    PTA_STATE_U32(IoapicState, id),
    PTA_STATE_U32(IoapicState, select),
    {},
};

typedef struct Message {
    uint64_t address; /* 0: none */
    uint32_t data;
} Message;

typedef struct Messages {
    unsigned n;
    Message list[PTA_IOAPIC_MAX_PINS];
} Messages;

typedef struct Ioapic {
    PtaDevice parent;
    PtaIoapicConfig config;            /* CONST */
    PtaPlacedDevice placed;            /* CONST */
    GMutex route_lock;                 /* before lock: who changes redirections and tells routes */
    Message told[PTA_IOAPIC_MAX_PINS]; /* LOCKED(route_lock): routes */
    GMutex lock;
    IoapicState state;                         /* LOCKED(lock) */
    int telling;                               /* LOCKED(lock): the pin whose route is told; -1 */
    uint64_t n_delivered[PTA_IOAPIC_MAX_PINS]; /* LOCKED(lock) */
} Ioapic;

static Ioapic *ioapic_of(PtaDevice *dev)
{
    g_assert(dev->klass == &pta_ioapic_class);
    return (Ioapic *)dev;
}

static void messages_send(const Ioapic *io, const Messages *out)
{
    for (unsigned i = 0; i < out->n; i++) {
        PTA_TRACE(PTA_TRACE_IRQ, "ioapic: msi address 0x%" G_GINT64_MODIFIER "x data 0x%x",
                  out->list[i].address, out->list[i].data);
        io->config.msi(io->config.opaque, out->list[i].address, out->list[i].data);
    }
}

/* Only fixed and lowest-priority interrupts are ever acknowledged by an EOI. */
static bool is_level(uint64_t entry)
{
    unsigned mode = REDIR_DELMODE(entry);
    return entry & REDIR_LEVEL && (mode == DELMODE_FIXED || mode == DELMODE_LOWEST);
}

static Message message_of(uint64_t entry)
{
    unsigned mode = REDIR_DELMODE(entry);
    return (Message){
        .address = MSI_BASE | REDIR_DEST(entry) << 12 | (entry & REDIR_LOGICAL ? MSI_LOGICAL : 0) |
                   (mode == DELMODE_LOWEST ? MSI_REDIRECTION : 0),
        .data = (uint32_t)(entry & REDIR_VECTOR) | mode << 8 | MSI_DATA_ASSERT |
                (is_level(entry) ? MSI_DATA_LEVEL : 0),
    };
}

/* Delivers the pin if it is due. */
static void pin_service_locked(Ioapic *io, unsigned pin, Messages *out)
{
    IoapicState *s = &io->state;
    uint64_t entry = s->redirection[pin];
    if (entry & REDIR_MASKED || io->telling == (int)pin) {
        return;
    }
    if (is_level(entry)) {
        if (!s->input[pin] || entry & REDIR_REMOTE_IRR) {
            return;
        }
        s->redirection[pin] |= REDIR_REMOTE_IRR;
    } else if (!s->edge[pin]) {
        return;
    }
    s->edge[pin] = 0;
    io->n_delivered[pin]++;
    out->list[out->n++] = message_of(entry);
}

/*
 * Both locks held; lock is given up while the route is told. Until then the pin sends nothing: the
 * back end would not know that it has to tell of the EOI.
 */
static void pin_tell_locked(Ioapic *io, unsigned pin)
{
    uint64_t entry = io->state.redirection[pin];
    Message now = { 0 };
    if (!(entry & REDIR_MASKED)) {
        now = message_of(entry);
    }
    Message *told = &io->told[pin];
    if (!io->config.route || (told->address == now.address && told->data == now.data)) {
        return;
    }
    *told = now;
    io->telling = (int)pin;
    g_mutex_unlock(&io->lock);
    io->config.route(io->config.opaque, pin, now.address, now.data);
    g_mutex_lock(&io->lock);
    io->telling = -1;
}

static void tell_all(Ioapic *io)
{
    g_mutex_lock(&io->route_lock);
    g_mutex_lock(&io->lock);
    for (unsigned pin = 0; pin < io->config.n_pins; pin++) {
        pin_tell_locked(io, pin);
    }
    g_mutex_unlock(&io->lock);
    g_mutex_unlock(&io->route_lock);
}

void pta_ioapic_set(void *ioapic, unsigned pin, bool level)
{
    Ioapic *io = ioapic_of(ioapic);
    g_assert(pin < io->config.n_pins);
    Messages out;
    out.n = 0;
    g_mutex_lock(&io->lock);
    bool was = io->state.input[pin];
    io->state.input[pin] = level;
    if (level && !was) {
        /*
         * Latched even while masked: the datasheet lets such an edge vanish, but a guest that
         * loses one never hears of that device again, and one too many does no harm.
         */
        io->state.edge[pin] = 1;
        pin_service_locked(io, pin, &out);
    }
    g_mutex_unlock(&io->lock);
    messages_send(io, &out);
}

static void eoi_locked(Ioapic *io, uint8_t vector, Messages *out)
{
    for (unsigned pin = 0; pin < io->config.n_pins; pin++) {
        uint64_t *entry = &io->state.redirection[pin];
        if ((*entry & REDIR_VECTOR) == vector && *entry & REDIR_REMOTE_IRR) {
            *entry &= ~REDIR_REMOTE_IRR;
            pin_service_locked(io, pin, out);
        }
    }
}

void pta_ioapic_eoi(PtaDevice *ioapic, uint8_t vector)
{
    Ioapic *io = ioapic_of(ioapic);
    Messages out;
    out.n = 0;
    g_mutex_lock(&io->lock);
    eoi_locked(io, vector, &out);
    g_mutex_unlock(&io->lock);
    messages_send(io, &out);
}

bool pta_ioapic_has_level_vector(PtaDevice *ioapic, uint8_t vector)
{
    Ioapic *io = ioapic_of(ioapic);
    bool found = false;
    g_mutex_lock(&io->lock);
    for (unsigned pin = 0; pin < io->config.n_pins && !found; pin++) {
        uint64_t entry = io->state.redirection[pin];
        found = entry & REDIR_LEVEL && !(entry & REDIR_MASKED) && (entry & REDIR_VECTOR) == vector;
    }
    g_mutex_unlock(&io->lock);
    return found;
}

/* ---- registers ---- */

static uint32_t reg_read_locked(const Ioapic *io, unsigned reg)
{
    switch (reg) {
    case REG_ID:
    case REG_ARB:
        return io->state.id;
    case REG_VERSION:
        return IOAPIC_VERSION | (io->config.n_pins - 1) << 16;
    default:
        if (reg >= REG_REDIR && (reg - REG_REDIR) / 2 < io->config.n_pins) {
            uint64_t entry = io->state.redirection[(reg - REG_REDIR) / 2];
            return (uint32_t)(reg & 1 ? entry >> 32 : entry);
        }
        return 0;
    }
}

/* Both locks held. */
static void redir_write_locked(Ioapic *io, unsigned reg, uint32_t value, Messages *out)
{
    unsigned pin = (reg - REG_REDIR) / 2;
    uint64_t *entry = &io->state.redirection[pin];
    if (reg & 1) {
        *entry = (*entry & UINT32_MAX) | (uint64_t)value << 32;
    } else {
        *entry = (*entry & ~(uint64_t)UINT32_MAX) | (value & ~REDIR_READ_ONLY) |
                 (*entry & REDIR_READ_ONLY);
    }
    *entry &= ~REDIR_RESERVED;
    if (!(*entry & REDIR_LEVEL)) {
        /* Kernels clear a stuck remote IRR by way of edge mode. */
        *entry &= ~REDIR_REMOTE_IRR;
    } else if (!io->state.input[pin]) {
        io->state.edge[pin] = 0;
    }
    pin_tell_locked(io, pin);
    pin_service_locked(io, pin, out);
}

static uint64_t ioapic_read(void *opaque, uint64_t offset, unsigned size)
{
    Ioapic *io = ioapic_of(opaque);
    uint32_t value = 0;
    g_mutex_lock(&io->lock);
    if (offset == IOREGSEL) {
        value = io->state.select;
    } else if (offset == IOWIN) {
        value = reg_read_locked(io, io->state.select);
    }
    g_mutex_unlock(&io->lock);
    return size < 4 ? value & ((1u << (8 * size)) - 1) : value;
}

static void ioapic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    Ioapic *io = ioapic_of(opaque);
    Messages out;
    out.n = 0;
    if (offset == IOWIN) {
        g_mutex_lock(&io->route_lock);
    }
    g_mutex_lock(&io->lock);
    unsigned reg = io->state.select;
    if (offset == IOREGSEL) {
        io->state.select = value & 0xff;
    } else if (offset == IOEOI) {
        eoi_locked(io, (uint8_t)value, &out);
    } else if (offset == IOWIN && size >= 4) {
        if (reg == REG_ID) {
            io->state.id = value & 0x0f000000;
        } else if (reg >= REG_REDIR && (reg - REG_REDIR) / 2 < io->config.n_pins) {
            redir_write_locked(io, reg, (uint32_t)value, &out);
        }
    }
    g_mutex_unlock(&io->lock);
    if (offset == IOWIN) {
        g_mutex_unlock(&io->route_lock);
    }
    messages_send(io, &out);
}

static const PtaBusOps ioapic_bus_ops = {
    .read = ioapic_read,
    .write = ioapic_write,
    .index_offset = IOREGSEL,
    .index_size = 4,
};

/* ---- life ---- */

static bool ioapic_realize(PtaDevice *dev, const void *config, GError **error)
{
    Ioapic *io = ioapic_of(dev);
    io->config = *(const PtaIoapicConfig *)config;
    g_assert(io->config.n_pins >= 24 && io->config.n_pins <= PTA_IOAPIC_MAX_PINS);
    PtaIrqLine none;
    if (!dev->host->place(dev->host, dev, PTA_PLACED_IOAPIC, false, io->config.base, PTA_PAGE_SIZE,
                          &ioapic_bus_ops, false, -1, &io->placed, &none, error)) {
        return false;
    }
    g_mutex_init(&io->lock);
    g_mutex_init(&io->route_lock);
    io->telling = -1;
    return true;
}

static void ioapic_unrealize(PtaDevice *dev)
{
    Ioapic *io = ioapic_of(dev);
    g_mutex_clear(&io->lock);
    g_mutex_clear(&io->route_lock);
}

static void ioapic_reset(PtaDevice *dev)
{
    Ioapic *io = ioapic_of(dev);
    g_mutex_lock(&io->lock);
    memset(&io->state, 0, sizeof(io->state));
    for (unsigned pin = 0; pin < PTA_IOAPIC_MAX_PINS; pin++) {
        io->state.redirection[pin] = REDIR_MASKED;
    }
    g_mutex_unlock(&io->lock);
    tell_all(io);
}

static void ioapic_restored(PtaDevice *dev)
{
    tell_all(ioapic_of(dev));
}

static bool ioapic_validate(const void *state, GError **error)
{
    const IoapicState *s = state;
    bool ok = s->select <= 0xff && (s->id & ~0x0f000000u) == 0;
    for (unsigned pin = 0; pin < PTA_IOAPIC_MAX_PINS && ok; pin++) {
        ok = s->input[pin] <= 1 && s->edge[pin] <= 1 &&
             (s->redirection[pin] & (REDIR_RESERVED | REDIR_DELIVS)) == 0;
    }
    return ok || pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "a register has bits that cannot be set");
}

static const PtaStateDesc ioapic_state = {
    .name = "ioapic",
    .version = 1,
    .size = sizeof(IoapicState),
    .fields = ioapic_fields,
    .validate = ioapic_validate,
};

/* What a person asks of a pin, in one line. */
static char *route_text(uint64_t entry)
{
    if (entry & REDIR_MASKED) {
        return g_strdup("masked");
    }
    return g_strdup_printf("vector 0x%02x, %s, %s %u%s", (unsigned)(entry & REDIR_VECTOR),
                           entry & REDIR_LEVEL ? "level" : "edge",
                           entry & REDIR_LOGICAL ? "logical" : "apic", REDIR_DEST(entry),
                           entry & REDIR_REMOTE_IRR ? ", not acknowledged" : "");
}

static uint64_t n_direct(const Ioapic *io, unsigned pin)
{
    return io->config.n_direct ? io->config.n_direct(io->config.opaque, pin) : 0;
}

typedef struct PinRef {
    const Ioapic *io;
    unsigned pin;
} PinRef;

static void inspect_pin(void *obj, PtaInspect *req)
{
    const PinRef *ref = obj;
    uint64_t entry = ref->io->state.redirection[ref->pin];
    g_autofree char *text = route_text(entry);
    pta_inspect_str(req, "route", PTA_INSPECT_PLAIN, text);
    pta_inspect_u64(req, "redirection", PTA_INSPECT_HEX, entry);
    pta_inspect_bool(req, "input", PTA_INSPECT_PLAIN, ref->io->state.input[ref->pin]);
    pta_inspect_u64(req, "delivered", PTA_INSPECT_COUNTER, ref->io->n_delivered[ref->pin]);
    pta_inspect_u64(req, "delivered-directly", PTA_INSPECT_COUNTER, n_direct(ref->io, ref->pin));
}

/* Those that somebody uses: most of them nobody does. */
static void inspect_pins(void *obj, PtaInspect *req)
{
    const Ioapic *io = obj;
    for (unsigned pin = 0; pin < io->config.n_pins; pin++) {
        if (io->state.redirection[pin] & REDIR_MASKED && io->n_delivered[pin] == 0 &&
            n_direct(io, pin) == 0 && !io->state.input[pin]) {
            continue;
        }
        char name[8];
        g_snprintf(name, sizeof(name), "%u", pin);
        pta_inspect_child(req, name, PTA_INSPECT_PLAIN, inspect_pin, &(PinRef){ io, pin });
    }
}

static void ioapic_inspect(PtaDevice *dev, PtaInspect *req)
{
    Ioapic *io = ioapic_of(dev);
    g_mutex_lock(&io->lock);
    pta_inspect_u64(req, "n-pins", PTA_INSPECT_PLAIN, io->config.n_pins);
    pta_inspect_u64(req, "id", PTA_INSPECT_HEX, io->state.id);
    pta_inspect_u64(req, "select", PTA_INSPECT_HEX, io->state.select);
    pta_inspect_child(req, "pins", PTA_INSPECT_PLAIN, inspect_pins, io);
    g_mutex_unlock(&io->lock);
}

const PtaDeviceClass pta_ioapic_class = {
    .type = "ioapic",
    .instance_size = sizeof(Ioapic),
    .state = &ioapic_state,
    .state_offset = offsetof(Ioapic, state),
    .realize = ioapic_realize,
    .reset = ioapic_reset,
    .restored = ioapic_restored,
    .unrealize = ioapic_unrealize,
    .inspect = ioapic_inspect,
};
