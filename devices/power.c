/*
 * Power registers: see power.h. Registers are written by VP threads, the button is pressed from any
 * thread; LOCKED by the device's lock.
 */
#include "config.h"

#include "devices/power.h"

/* ACPI 6.4, 4.8.3.7: Sleep Control and Status Registers. */
#define SLP_TYP(v)      ((v) >> 2 & 7)
#define SLP_EN          (1u << 5)
#define WAK_STS         (1u << 7)

#define KBD_PORT        0x64
#define KBD_PULSE_RESET 0xfe
#define CF8_PORT        0xcf8 /* with the three that follow: PCI's address register, which is not here */
#define CF9_OFFSET      1
#define CF9_RESET_CPU   (1u << 2)

typedef struct PowerState {
    uint32_t events; /* of the generic event device, not yet read */
    uint8_t sleep_control;
    uint8_t sleep_status;
    uint8_t cf9;
    uint8_t reserved;
} PowerState;

static const PtaStateField power_fields[] = {
    PTA_STATE_U32(PowerState, events),      PTA_STATE_U8(PowerState, sleep_control),
    PTA_STATE_U8(PowerState, sleep_status), PTA_STATE_U8(PowerState, cf9),
    PTA_STATE_U8(PowerState, reserved),     {},
};

typedef struct Power {
    PtaDevice parent;
    PtaPlacedDevice placed; /* CONST */
    PtaIrqLine irq;         /* CONST */
    GMutex lock;
    PowerState state; /* LOCKED(lock) */
} Power;

static Power *power_of(PtaDevice *dev)
{
    g_assert(dev->klass == &pta_power_class);
    return (Power *)dev;
}

void pta_power_button(PtaDevice *dev)
{
    Power *pw = power_of(dev);
    g_mutex_lock(&pw->lock);
    pw->state.events |= PTA_POWER_GED_BUTTON;
    pta_irq_pulse(&pw->irq);
    g_mutex_unlock(&pw->lock);
}

static uint64_t power_read(void *opaque, uint64_t offset, unsigned size)
{
    Power *pw = power_of(opaque);
    uint64_t value = 0;
    g_mutex_lock(&pw->lock);
    switch (offset) {
    case PTA_POWER_SLEEP_CONTROL:
        value = pw->state.sleep_control;
        break;
    case PTA_POWER_SLEEP_STATUS:
        value = pw->state.sleep_status;
        break;
    case PTA_POWER_GED_SELECT:
        if (size == 4) {
            value = pw->state.events;
            pw->state.events = 0;
        }
        break;
    default:
        break;
    }
    g_mutex_unlock(&pw->lock);
    return value;
}

static void power_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    (void)size;
    Power *pw = power_of(opaque);
    PtaDeviceHost *host = pw->parent.host;
    bool off = false;
    g_mutex_lock(&pw->lock);
    switch (offset) {
    case PTA_POWER_SLEEP_CONTROL:
        pw->state.sleep_control = value & ~SLP_EN & 0x1c; /* SLP_EN reads as zero */
        off = value & SLP_EN && SLP_TYP(value) == PTA_POWER_S5_TYPE;
        break;
    case PTA_POWER_SLEEP_STATUS:
        pw->state.sleep_status &= (uint8_t) ~(value & WAK_STS); /* write one to clear */
        break;
    default:
        break;
    }
    g_mutex_unlock(&pw->lock);
    if (off) {
        host->power(host, PTA_POWER_OFF, 0);
    } else if (offset == PTA_POWER_RESET_REG && (value & 0xff) == PTA_POWER_RESET_VALUE) {
        host->power(host, PTA_POWER_RESET, 0);
    }
}

static const PtaBusOps power_ops = { .read = power_read, .write = power_write };

/* ---- the PC's older ways to reset ---- */

static uint64_t kbd_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return UINT64_MAX;
}

static void kbd_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    (void)offset, (void)size;
    Power *pw = power_of(opaque);
    if ((value & 0xff) == KBD_PULSE_RESET) {
        pw->parent.host->power(pw->parent.host, PTA_POWER_RESET, 0);
    }
}

/*
 * The reset control register is a byte within PCI's address register and answers to byte accesses
 * alone; all four ports are ours so that a wider access, by a kernel that looks for PCI, is not
 * taken apart and read as a reset.
 */
static uint64_t cf9_read(void *opaque, uint64_t offset, unsigned size)
{
    Power *pw = power_of(opaque);
    if (offset != CF9_OFFSET || size != 1) {
        return UINT64_MAX;
    }
    g_mutex_lock(&pw->lock);
    uint64_t value = pw->state.cf9;
    g_mutex_unlock(&pw->lock);
    return value;
}

/* The reset happens when bit 2 rises; bit 1 says how hard, which is one and the same here. */
static void cf9_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    Power *pw = power_of(opaque);
    if (offset != CF9_OFFSET || size != 1) {
        return;
    }
    g_mutex_lock(&pw->lock);
    bool rises = value & CF9_RESET_CPU && !(pw->state.cf9 & CF9_RESET_CPU);
    pw->state.cf9 = (uint8_t)value;
    g_mutex_unlock(&pw->lock);
    if (rises) {
        pw->parent.host->power(pw->parent.host, PTA_POWER_RESET, 0);
    }
}

static const PtaBusOps kbd_ops = { .read = kbd_read, .write = kbd_write };
static const PtaBusOps cf9_ops = { cf9_read, cf9_write };

/* ---- life ---- */

static bool power_realize(PtaDevice *dev, const void *config, GError **error)
{
    (void)config;
    Power *pw = power_of(dev);
    PtaDeviceHost *host = dev->host;
    PtaPlacedDevice legacy;
    PtaIrqLine none;
    if (!host->place(host, dev, PTA_PLACED_POWER, true, PTA_POWER_PIO_BASE, PTA_POWER_PIO_SIZE,
                     &power_ops, true, -1, &pw->placed, &pw->irq, error) ||
        !host->place(host, dev, PTA_PLACED_LEGACY_RESET, true, KBD_PORT, 1, &kbd_ops, false, -1,
                     &legacy, &none, error) ||
        !host->place(host, dev, PTA_PLACED_LEGACY_RESET, true, CF8_PORT, 4, &cf9_ops, false, -1,
                     &legacy, &none, error)) {
        return false;
    }
    g_mutex_init(&pw->lock);
    return true;
}

static void power_unrealize(PtaDevice *dev)
{
    g_mutex_clear(&power_of(dev)->lock);
}

static void power_reset(PtaDevice *dev)
{
    power_of(dev)->state = (PowerState){ 0 };
}

static bool power_validate(const void *state, GError **error)
{
    const PowerState *s = state;
    return (!(s->events & ~PTA_POWER_GED_BUTTON) && !(s->sleep_control & ~0x1c) &&
            !(s->sleep_status & ~WAK_STS) && s->reserved == 0) ||
           pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "a register has bits that cannot be set");
}

static const PtaStateDesc power_state = {
    .name = "power",
    .version = 1,
    .size = sizeof(PowerState),
    .fields = power_fields,
    .validate = power_validate,
};

static void power_inspect(PtaDevice *dev, PtaInspect *req)
{
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_U32(PowerState, events, "events", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(PowerState, sleep_control, "sleep-control", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(PowerState, sleep_status, "sleep-status", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(PowerState, cf9, "cf9", PTA_INSPECT_HEX),
        {},
    };
    Power *pw = power_of(dev);
    g_mutex_lock(&pw->lock);
    pta_inspect_fields(req, fields, &pw->state);
    g_mutex_unlock(&pw->lock);
}

const PtaDeviceClass pta_power_class = {
    .type = "power",
    .instance_size = sizeof(Power),
    .state = &power_state,
    .state_offset = offsetof(Power, state),
    .realize = power_realize,
    .reset = power_reset,
    .unrealize = power_unrealize,
    .inspect = power_inspect,
};
