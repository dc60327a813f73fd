/* What every machine has: IOAPIC, power registers, clock, debug exit. */
#include "fixture.h"

#include "devices/devices.h"
#include "devices/ioapic.h"
#include "devices/power.h"
#include "qmp/gen/types.h"

/* ---- IOAPIC ---- */

typedef struct Apic {
    Fixture f;
    PtaDevice *dev;
    unsigned n;
    uint64_t address;
    uint32_t data;
    bool answer_at_once;  /* the receiver's EOI comes from within */
    bool assert_in_route; /* the pin's input rises while its route is told */
    unsigned n_routes;
    unsigned n_at_route; /* messages by then */
    struct {
        uint64_t address;
        uint32_t data;
    } routes[24];
} Apic;

static void on_msi(void *opaque, uint64_t address, uint32_t data)
{
    Apic *a = opaque;
    a->n++;
    a->address = address;
    a->data = data;
    if (a->answer_at_once && a->n < 5) {
        pta_ioapic_eoi(a->dev, (uint8_t)data);
    }
}

static void on_route(void *opaque, unsigned pin, uint64_t address, uint32_t data)
{
    Apic *a = opaque;
    assert_in_range(pin, 0, 23);
    assert_true(a->routes[pin].address != address || a->routes[pin].data != data);
    a->n_routes++;
    if (a->assert_in_route) {
        pta_ioapic_set(a->dev, pin, true);
        a->n_at_route = a->n;
    }
    a->routes[pin].address = address;
    a->routes[pin].data = data;
}

static void apic_open(Apic *a)
{
    memset(a, 0, sizeof(*a));
    fix_new(&a->f);
    PtaIoapicConfig cfg = {
        .n_pins = 24,
        .base = PTA_IOAPIC_BASE,
        .msi = on_msi,
        .route = on_route,
        .opaque = a,
    };
    a->dev = pta_device_new(&pta_ioapic_class, "ioapic", &a->f.host, &cfg, NULL);
    assert_non_null(a->dev);
}

static void apic_close(Apic *a)
{
    pta_device_free(a->dev);
    fix_free(&a->f);
}

static uint32_t apic_rd(Apic *a, uint8_t reg)
{
    fix_w32(&a->f, PTA_IOAPIC_BASE, reg);
    return fix_r32(&a->f, PTA_IOAPIC_BASE + 0x10);
}

static void apic_wr(Apic *a, uint8_t reg, uint32_t value)
{
    fix_w32(&a->f, PTA_IOAPIC_BASE, reg);
    fix_w32(&a->f, PTA_IOAPIC_BASE + 0x10, value);
}

static void apic_route(Apic *a, uint8_t pin, uint32_t low, uint8_t dest)
{
    apic_wr(a, (uint8_t)(0x10 + 2 * pin), 0x10000);
    apic_wr(a, (uint8_t)(0x11 + 2 * pin), (uint32_t)dest << 24);
    apic_wr(a, (uint8_t)(0x10 + 2 * pin), low);
}

#define LEVEL  0x8000u
#define MASKED 0x10000u
#define IRR    0x4000u

static void ioapic_registers(void **unused)
{
    (void)unused;
    Apic a;
    apic_open(&a);
    assert_int_equal(apic_rd(&a, 0x01), 0x00170020);
    apic_wr(&a, 0x00, UINT32_MAX);
    assert_int_equal(apic_rd(&a, 0x00), 0x0f000000);
    assert_int_equal(apic_rd(&a, 0x02), 0x0f000000);
    apic_wr(&a, 0x01, 0);
    assert_int_equal(apic_rd(&a, 0x01), 0x00170020);
    for (unsigned pin = 0; pin < 24; pin++) {
        assert_int_equal(apic_rd(&a, (uint8_t)(0x10 + 2 * pin)), MASKED);
    }
    apic_wr(&a, 0x10, UINT32_MAX); /* read-only bits stay clear */
    assert_int_equal(apic_rd(&a, 0x10), 0x1afff);
    apic_wr(&a, 0x11, UINT32_MAX);
    assert_int_equal(apic_rd(&a, 0x11), 0xff000000);
    assert_int_equal(apic_rd(&a, 0x10 + 48), 0); /* beyond the last pin */
    apic_wr(&a, 0x10 + 48, UINT32_MAX);
    assert_int_equal(apic_rd(&a, 0xff), 0);
    assert_int_equal(a.n, 0);
    apic_close(&a);
}

static void ioapic_edge(void **unused)
{
    (void)unused;
    Apic a;
    apic_open(&a);
    apic_route(&a, 4, 0x31, 2);
    pta_ioapic_set(a.dev, 4, true);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.address, 0xfee02000);
    assert_int_equal(a.data, 0x4031);
    pta_ioapic_set(a.dev, 4, true); /* no edge */
    assert_int_equal(a.n, 1);
    pta_ioapic_eoi(a.dev, 0x31); /* means nothing to it */
    assert_int_equal(a.n, 1);
    pta_ioapic_set(a.dev, 4, false);
    pta_ioapic_set(a.dev, 4, true);
    assert_int_equal(a.n, 2);
    /* Logical destination, lowest priority. */
    apic_route(&a, 5, 0x0932, 0xff);
    pta_ioapic_set(a.dev, 5, true);
    assert_int_equal(a.address, 0xfeeff00c);
    assert_int_equal(a.data, 0x4132);
    /* An edge while masked comes when it is unmasked, once. */
    apic_route(&a, 6, MASKED | 0x33, 0);
    pta_ioapic_set(a.dev, 6, true);
    pta_ioapic_set(a.dev, 6, false);
    assert_int_equal(a.n, 3);
    apic_wr(&a, 0x10 + 12, 0x33);
    assert_int_equal(a.n, 4);
    apic_wr(&a, 0x10 + 12, 0x33);
    assert_int_equal(a.n, 4);
    apic_close(&a);
}

static void ioapic_level(void **unused)
{
    (void)unused;
    Apic a;
    apic_open(&a);
    apic_route(&a, 20, LEVEL | 0x40, 1);
    assert_true(pta_ioapic_has_level_vector(a.dev, 0x40));
    assert_false(pta_ioapic_has_level_vector(a.dev, 0x41));
    pta_ioapic_set(a.dev, 20, true);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.data, 0xc040);
    assert_int_equal(apic_rd(&a, 0x10 + 40), LEVEL | IRR | 0x40);
    pta_ioapic_set(a.dev, 20, false);
    pta_ioapic_set(a.dev, 20, true);
    assert_int_equal(a.n, 1); /* until the EOI */
    pta_ioapic_eoi(a.dev, 0x41);
    assert_int_equal(a.n, 1);
    pta_ioapic_eoi(a.dev, 0x40); /* still asserted: again */
    assert_int_equal(a.n, 2);
    pta_ioapic_set(a.dev, 20, false);
    fix_w32(&a.f, PTA_IOAPIC_BASE + 0x40, 0x40); /* by the EOI register */
    assert_int_equal(a.n, 2);
    assert_int_equal(apic_rd(&a, 0x10 + 40), LEVEL | 0x40);
    /* Masked: nothing is kept but the line itself. */
    apic_wr(&a, 0x10 + 40, MASKED | LEVEL | 0x40);
    pta_ioapic_set(a.dev, 20, true);
    pta_ioapic_set(a.dev, 20, false);
    apic_wr(&a, 0x10 + 40, LEVEL | 0x40);
    assert_int_equal(a.n, 2);
    apic_wr(&a, 0x10 + 40, MASKED | LEVEL | 0x40);
    pta_ioapic_set(a.dev, 20, true);
    apic_wr(&a, 0x10 + 40, LEVEL | 0x40);
    assert_int_equal(a.n, 3);
    /* Kernels clear a stuck remote IRR by way of edge mode. */
    pta_ioapic_set(a.dev, 20, false);
    apic_wr(&a, 0x10 + 40, MASKED | 0x40);
    assert_int_equal(apic_rd(&a, 0x10 + 40), MASKED | 0x40);
    apic_wr(&a, 0x10 + 40, LEVEL | 0x40);
    assert_int_equal(apic_rd(&a, 0x10 + 40), LEVEL | 0x40);
    apic_close(&a);
}

static void ioapic_answered_from_within(void **unused)
{
    (void)unused;
    Apic a;
    apic_open(&a);
    a.answer_at_once = true;
    apic_route(&a, 20, LEVEL | 0x40, 1);
    pta_ioapic_set(a.dev, 20, true);
    assert_int_equal(a.n, 5);
    apic_close(&a);
}

static void ioapic_state_comes_back(void **unused)
{
    (void)unused;
    Apic a;
    apic_open(&a);
    apic_route(&a, 20, LEVEL | 0x40, 1);
    apic_route(&a, 4, MASKED | 0x31, 1);
    pta_ioapic_set(a.dev, 20, true);
    pta_ioapic_set(a.dev, 4, true);
    json_t *saved = pta_device_save(a.dev);
    pta_device_reset(a.dev);
    assert_int_equal(apic_rd(&a, 0x10 + 40), MASKED);
    assert_true(pta_device_restore(a.dev, saved, NULL));
    assert_int_equal(a.n, 1);
    pta_ioapic_eoi(a.dev, 0x40);
    assert_int_equal(a.n, 2);
    apic_wr(&a, 0x10 + 8, 0x31);
    assert_int_equal(a.n, 3);
    json_decref(saved);
    apic_close(&a);
}

/* Each change of what a pin sends is told once, and before the pin sends it. */
static void ioapic_tells_routes(void **unused)
{
    (void)unused;
    Apic a;
    apic_open(&a);
    assert_int_equal(a.n_routes, 0);
    apic_route(&a, 4, 0x31, 2);
    assert_int_equal(a.n_routes, 1);
    assert_int_equal(a.routes[4].address, 0xfee02000);
    assert_int_equal(a.routes[4].data, 0x4031);
    apic_wr(&a, 0x10 + 8, 0x31);       /* as it was */
    apic_wr(&a, 0x10 + 8, 0x31 | IRR); /* read-only */
    assert_int_equal(a.n_routes, 1);
    apic_wr(&a, 0x11 + 8, 3u << 24);
    assert_int_equal(a.n_routes, 2);
    assert_int_equal(a.routes[4].address, 0xfee03000);
    apic_wr(&a, 0x10 + 8, MASKED | 0x31);
    assert_int_equal(a.n_routes, 3);
    assert_int_equal(a.routes[4].address, 0);
    apic_wr(&a, 0x11 + 8, 1u << 24); /* of a masked pin nobody hears */
    apic_wr(&a, 0x10 + 8, MASKED | 0x33);
    assert_int_equal(a.n_routes, 3);
    /* Interrupts that come while a level-triggered pin's route is told wait until it is known. */
    a.assert_in_route = true;
    apic_route(&a, 20, LEVEL | 0x40, 1);
    assert_int_equal(a.n_routes, 4);
    assert_int_equal(a.routes[20].data, 0xc040);
    assert_int_equal(a.n_at_route, 0);
    assert_int_equal(a.n, 1);
    apic_wr(&a, 0x10 + 8, 0x31); /* the same for an edge */
    assert_int_equal(a.n_routes, 5);
    assert_int_equal(a.n_at_route, 1);
    assert_int_equal(a.n, 2);
    a.assert_in_route = false;
    /* A reset masks them, a restored state has its own; what stays as it was is not told again. */
    json_t *saved = pta_device_save(a.dev);
    assert_true(pta_device_restore(a.dev, saved, NULL));
    assert_int_equal(a.n_routes, 5);
    pta_device_reset(a.dev);
    assert_int_equal(a.n_routes, 7);
    assert_int_equal(a.routes[4].address, 0);
    assert_int_equal(a.routes[20].address, 0);
    assert_true(pta_device_restore(a.dev, saved, NULL));
    assert_int_equal(a.n_routes, 9);
    assert_int_equal(a.routes[4].data, 0x4031);
    assert_int_equal(a.routes[20].data, 0xc040);
    assert_int_equal(a.n, 2);
    json_decref(saved);
    apic_close(&a);
}

/* ---- power ---- */

static void power_off_and_reset(void **unused)
{
    (void)unused;
    Fixture f;
    uint64_t value;
    fix_new(&f);
    PtaDevice *dev = pta_device_new(&pta_power_class, "power", &f.host, NULL, NULL);
    assert_non_null(dev);
    const PtaPlacedDevice *p = pta_mmio_manager_find(f.manager, PTA_PLACED_POWER, NULL);
    uint16_t base = (uint16_t)p->base;
    assert_true(p->pio && p->irq >= 0 && !p->level);
    assert_int_equal(base, PTA_POWER_PIO_BASE);
    /* Only the type of S5, and only with the enable bit. */
    fix_out(&f, base + PTA_POWER_SLEEP_CONTROL, PTA_POWER_S5_TYPE << 2);
    fix_out(&f, base + PTA_POWER_SLEEP_CONTROL, 0x20 | 1 << 2);
    fix_out(&f, base + PTA_POWER_SLEEP_STATUS, 0x80);
    assert_int_equal(f.n_power, 0);
    fix_out(&f, base + PTA_POWER_SLEEP_CONTROL, 0x20 | PTA_POWER_S5_TYPE << 2);
    assert_int_equal(f.n_power, 1);
    assert_int_equal(f.power_what, PTA_POWER_OFF);
    assert_int_equal(fix_in(&f, base + PTA_POWER_SLEEP_CONTROL), PTA_POWER_S5_TYPE << 2);
    fix_out(&f, base + PTA_POWER_RESET_REG, 0);
    assert_int_equal(f.n_power, 1);
    fix_out(&f, base + PTA_POWER_RESET_REG, PTA_POWER_RESET_VALUE);
    assert_int_equal(f.n_power, 2);
    assert_int_equal(f.power_what, PTA_POWER_RESET);
    /* The older ways. */
    fix_out(&f, 0x64, 0xd1);
    assert_int_equal(f.n_power, 2);
    fix_out(&f, 0x64, 0xfe);
    assert_int_equal(f.n_power, 3);
    assert_int_equal(fix_in(&f, 0x64), 0xff);
    fix_out(&f, 0xcf9, 0x02);
    assert_int_equal(f.n_power, 3);
    fix_out(&f, 0xcf9, 0x06);
    assert_int_equal(f.n_power, 4);
    assert_int_equal(fix_in(&f, 0xcf9), 0x06);
    fix_out(&f, 0xcf9, 0x06); /* it did not rise */
    assert_int_equal(f.n_power, 4);
    fix_out(&f, 0xcf9, 0x02);
    /* A kernel that looks for PCI is not asking for a reset. */
    assert_true(pta_bus_write(f.pio, 0xcf8, 4, 0x8000ff00));
    assert_int_equal(f.n_power, 4);
    assert_true(pta_bus_read(f.pio, 0xcf8, 4, &value));
    assert_int_equal((uint32_t)value, UINT32_MAX);
    pta_device_free(dev);
    fix_free(&f);
}

static void power_button(void **unused)
{
    (void)unused;
    Fixture f;
    uint64_t value;
    fix_new(&f);
    PtaDevice *dev = pta_device_new(&pta_power_class, "power", &f.host, NULL, NULL);
    const PtaPlacedDevice *p = pta_mmio_manager_find(f.manager, PTA_PLACED_POWER, NULL);
    uint64_t select = p->base + PTA_POWER_GED_SELECT;
    int irq = p->irq;
    pta_power_button(dev);
    pta_power_button(dev);
    assert_int_equal(f.edges[irq], 2);
    json_t *saved = pta_device_save(dev);
    assert_true(pta_bus_read(f.pio, select, 4, &value));
    assert_int_equal(value, PTA_POWER_GED_BUTTON);
    assert_true(pta_bus_read(f.pio, select, 4, &value));
    assert_int_equal(value, 0);
    assert_true(pta_device_restore(dev, saved, NULL));
    assert_true(pta_bus_read(f.pio, select, 4, &value));
    assert_int_equal(value, PTA_POWER_GED_BUTTON);
    json_decref(saved);
    pta_device_free(dev);
    fix_free(&f);
}

/* ---- clock ---- */

static uint8_t cmos(Fixture *f, uint8_t reg)
{
    fix_out(f, 0x70, reg);
    return fix_in(f, 0x71);
}

static void set_cmos(Fixture *f, uint8_t reg, uint8_t value)
{
    fix_out(f, 0x70, reg);
    fix_out(f, 0x71, value);
}

static PtaDevice *new_rtc(Fixture *f, const char *base, GError **error)
{
    RtcCmosConfig cfg = { .base = (char *)base };
    return pta_device_new(&pta_rtc_cmos_class, "rtc", &f->host, &cfg, error);
}

static void clock_starts_where_it_is_told(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    PtaDevice *dev = new_rtc(&f, "1999-12-31T23:58:30Z", NULL);
    assert_non_null(dev);
    assert_int_equal(cmos(&f, 0x0b), 0x02);
    assert_int_equal(cmos(&f, 0x0d), 0x80);
    assert_int_equal(cmos(&f, 0x0c), 0);
    assert_int_equal(cmos(&f, 0x0a) & 0x7f, 0x26);
    assert_int_equal(cmos(&f, 0x32), 0x19);
    assert_int_equal(cmos(&f, 0x09), 0x99);
    assert_int_equal(cmos(&f, 0x08), 0x12);
    assert_int_equal(cmos(&f, 0x07), 0x31);
    assert_int_equal(cmos(&f, 0x06), 6); /* a Friday */
    assert_int_equal(cmos(&f, 0x04), 0x23);
    assert_int_equal(cmos(&f, 0x02), 0x58);
    /* Binary, and twelve hours. */
    set_cmos(&f, 0x0b, 0x04);
    assert_int_equal(cmos(&f, 0x02), 58);
    assert_int_equal(cmos(&f, 0x04), 0x80 | 11);
    set_cmos(&f, 0x0b, 0x00);
    assert_int_equal(cmos(&f, 0x04), 0x80 | 0x11);
    /* The index port reads as nothing; bit 7 is not part of the index. */
    assert_int_equal(fix_in(&f, 0x70), 0xff);
    assert_int_equal(cmos(&f, 0x80 | 0x32), 0x19);
    pta_device_free(dev);
    g_autoptr(GError) error = NULL;
    assert_null(new_rtc(&f, "yesterday", &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
    fix_free(&f);
}

static void clock_is_set_by_the_guest(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    PtaDevice *dev = new_rtc(&f, NULL, NULL);
    set_cmos(&f, 0x0b, 0x82); /* updates stop */
    set_cmos(&f, 0x32, 0x20);
    set_cmos(&f, 0x09, 0x31);
    set_cmos(&f, 0x08, 0x02);
    set_cmos(&f, 0x07, 0x28);
    set_cmos(&f, 0x04, 0x12);
    set_cmos(&f, 0x02, 0x34);
    set_cmos(&f, 0x00, 0x00);
    assert_int_equal(cmos(&f, 0x0a) & 0x80, 0);
    assert_int_equal(cmos(&f, 0x00), 0x00); /* and it stands */
    set_cmos(&f, 0x0b, 0x02);
    assert_int_equal(cmos(&f, 0x32), 0x20);
    assert_int_equal(cmos(&f, 0x09), 0x31);
    assert_int_equal(cmos(&f, 0x08), 0x02);
    assert_int_equal(cmos(&f, 0x07), 0x28);
    assert_int_equal(cmos(&f, 0x06), 6);
    assert_int_equal(cmos(&f, 0x04), 0x12);
    assert_int_equal(cmos(&f, 0x02), 0x34);
    /* A reset does not stop the clock, memory is memory, and both are saved. */
    set_cmos(&f, 0x50, 0xa5);
    pta_device_reset(dev);
    assert_int_equal(cmos(&f, 0x09), 0x31);
    assert_int_equal(cmos(&f, 0x50), 0xa5);
    json_t *saved = pta_device_save(dev);
    pta_device_free(dev);
    dev = new_rtc(&f, NULL, NULL);
    assert_true(pta_device_restore(dev, saved, NULL));
    assert_int_equal(cmos(&f, 0x09), 0x31);
    assert_int_equal(cmos(&f, 0x50), 0xa5);
    json_decref(saved);
    pta_device_free(dev);
    fix_free(&f);
}

/* Every value in every register: nothing that a guest writes to a clock does harm. */
static void clock_takes_nonsense(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    PtaDevice *dev = new_rtc(&f, NULL, NULL);
    for (unsigned mode = 0; mode < 8; mode++) {
        for (unsigned reg = 0; reg < 128; reg++) {
            for (unsigned value = 0; value < 256; value += 5) {
                set_cmos(&f, 0x0b, (uint8_t)(mode & 1 ? 0x80 | mode : mode));
                set_cmos(&f, (uint8_t)reg, (uint8_t)value);
                set_cmos(&f, 0x0b, (uint8_t)mode);
                cmos(&f, (uint8_t)reg);
            }
        }
    }
    g_autoptr(PtaInspectNode) node =
        pta_inspect(pta_device_inspect, dev, &(PtaInspectParams){ .path = "time" });
    assert_int_equal(node->kind, PTA_INSPECT_VALUE);
    assert_int_equal(node->value.type, PTA_INSPECT_STR);
    pta_device_free(dev);
    fix_free(&f);
}

static void clock_shows_updates(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    PtaDevice *dev = new_rtc(&f, NULL, NULL);
    /* UIP is seen within a second and a bit, and right after it falls the second is a new one. */
    int64_t deadline = g_get_monotonic_time() + 3 * G_USEC_PER_SEC;
    while (!(cmos(&f, 0x0a) & 0x80)) {
        assert_true(g_get_monotonic_time() < deadline);
    }
    pta_device_free(dev);
    fix_free(&f);
}

/* ---- debug exit ---- */

static void debug_exit(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    DebugExitConfig cfg = { .port = 0xf4 };
    PtaDevice *dev = pta_device_new(&pta_debug_exit_class, "exit", &f.host, &cfg, NULL);
    assert_true(pta_bus_write(f.pio, 0xf4, 4, 3));
    assert_int_equal(f.power_what, PTA_POWER_DEBUG_EXIT);
    assert_int_equal(f.power_code, 7);
    assert_int_equal(fix_in(&f, 0xf4), 0);
    assert_null(pta_device_save(dev));
    pta_device_free(dev);
    fix_free(&f);
}

/* ---- the panic device ---- */

static void panic_device(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    PvpanicConfig cfg = { .port = 0x505 };
    PtaDevice *dev = pta_device_new(&pta_pvpanic_class, "panic", &f.host, &cfg, NULL);
    assert_int_equal(fix_in(&f, 0x505), 3); /* what it knows */
    assert_true(pta_bus_write(f.pio, 0x505, 1, 2));
    assert_int_equal(f.power_what, PTA_POWER_CRASH_LOADED);
    f.power_what = -1;
    assert_true(pta_bus_write(f.pio, 0x505, 1, 0));
    assert_true(pta_bus_write(f.pio, 0x505, 1, 0xfc));
    assert_int_equal(f.power_what, -1);
    assert_true(pta_bus_write(f.pio, 0x505, 1, 1));
    assert_int_equal(f.power_what, PTA_POWER_PANIC);
    f.power_what = -1;
    assert_true(pta_bus_write(f.pio, 0x505, 1, 3)); /* both: the panic is the greater news */
    assert_int_equal(f.power_what, PTA_POWER_PANIC);
    assert_null(pta_device_save(dev));
    pta_device_free(dev);
    fix_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ioapic_registers),
        cmocka_unit_test(ioapic_edge),
        cmocka_unit_test(ioapic_level),
        cmocka_unit_test(ioapic_answered_from_within),
        cmocka_unit_test(ioapic_state_comes_back),
        cmocka_unit_test(ioapic_tells_routes),
        cmocka_unit_test(power_off_and_reset),
        cmocka_unit_test(power_button),
        cmocka_unit_test(clock_starts_where_it_is_told),
        cmocka_unit_test(clock_is_set_by_the_guest),
        cmocka_unit_test(clock_takes_nonsense),
        cmocka_unit_test(clock_shows_updates),
        cmocka_unit_test(debug_exit),
        cmocka_unit_test(panic_device),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
