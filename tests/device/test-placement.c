/* The bus, and the placement of devices on it. */
#include "fixture.h"

#include "devices/devices.h"
#include "devices/ioapic.h"
#include "devices/power.h"
#include "devices/virtio/virtio.h"
#include "qmp/gen/types.h"

/* ---- bus ---- */

typedef struct Target {
    uint64_t offset;
    uint64_t value;
    unsigned size;
    unsigned n;
} Target;

static uint64_t target_read(void *opaque, uint64_t offset, unsigned size)
{
    Target *t = opaque;
    t->offset = offset;
    t->size = size;
    t->n++;
    return UINT64_C(0x1122334455667788) + offset;
}

static void target_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    Target *t = opaque;
    t->offset = offset;
    t->size = size;
    t->value = value;
    t->n++;
}

static const PtaBusOps target_ops = { .read = target_read, .write = target_write };

static bool add(PtaBus *bus, uint64_t base, uint64_t size, Target *t)
{
    return pta_bus_add(bus, base, size, "t", &target_ops, t, NULL);
}

static void bus_refuses_overlaps(void **unused)
{
    (void)unused;
    g_autoptr(PtaBus) bus = pta_bus_new("mmio");
    Target t = { 0 };
    assert_true(add(bus, 0x1000, 0x100, &t));
    assert_false(add(bus, 0x1000, 0x100, &t));
    assert_false(add(bus, 0xfff, 2, &t));
    assert_false(add(bus, 0x10ff, 1, &t));
    assert_false(add(bus, 0, 0x5000, &t));
    assert_false(add(bus, 0x1010, 1, &t));
    assert_false(add(bus, 0x3000, 0, &t));
    assert_false(add(bus, UINT64_MAX, 2, &t));
    assert_true(add(bus, 0xfff, 1, &t));
    assert_true(add(bus, 0x1100, 1, &t));
    assert_true(add(bus, UINT64_MAX - 3, 4, &t));
    assert_false(pta_bus_remove(bus, 0x1001));
    assert_true(pta_bus_remove(bus, 0x1000));
    assert_false(pta_bus_remove(bus, 0x1000));
    assert_true(add(bus, 0x1000, 0x100, &t));
    g_autoptr(GError) error = NULL;
    assert_false(pta_bus_add(bus, 0x1080, 0x10, "new", &target_ops, &t, &error));
    assert_string_equal(error->message, "mmio: new at 0x1080-0x108f overlaps t at 0x1000-0x10ff");
}

static void bus_finds_what_is_there(void **unused)
{
    (void)unused;
    g_autoptr(PtaBus) bus = pta_bus_new("mmio");
    Target t[16] = { { 0 } };
    uint64_t value;
    assert_false(pta_bus_read(bus, 0, 1, &value));
    for (unsigned i = 0; i < 16; i++) { /* in an order that is none */
        unsigned k = i * 7 % 16;
        assert_true(add(bus, 0x1000 * (k + 1), 0x800, &t[k]));
    }
    for (unsigned i = 0; i < 16; i++) {
        uint64_t base = 0x1000 * (i + 1);
        assert_true(pta_bus_read(bus, base + 0x7fc, 4, &value));
        assert_int_equal(t[i].offset, 0x7fc);
        assert_int_equal(t[i].size, 4);
        assert_true(pta_bus_write(bus, base, 8, 42));
        assert_int_equal(t[i].value, 42);
        assert_false(pta_bus_write(bus, base + 0x800, 1, 1));
        assert_false(pta_bus_read(bus, base - 1, 1, &value));
        assert_int_equal(t[i].n, 2);
    }
}

/* A wide access over the edge of a range is taken apart. */
static void bus_splits_at_the_edge(void **unused)
{
    (void)unused;
    g_autoptr(PtaBus) bus = pta_bus_new("pio");
    Target a = { 0 };
    Target b = { 0 };
    uint64_t value;
    assert_true(add(bus, 0x64, 1, &a));
    assert_true(add(bus, 0x66, 2, &b));
    assert_true(pta_bus_read(bus, 0x64, 4, &value));
    assert_int_equal(value, 0x8988ff88);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 2);
    assert_true(pta_bus_write(bus, 0x63, 2, 0x1234));
    assert_int_equal(a.value, 0x12);
    assert_false(pta_bus_read(bus, 0x60, 4, &value));
}

/* ---- placement ---- */

static PtaDevice *new_rng(Fixture *f, const char *id, GError **error)
{
    VirtioRngConfig cfg = { 0 };
    return pta_device_new(&pta_virtio_rng_class, id, &f->host, &cfg, error);
}

static void count_range(void *opaque, uint64_t base, uint64_t size, const char *name)
{
    (void)base, (void)size, (void)name;
    ++*(unsigned *)opaque;
}

static unsigned n_ranges(Fixture *f)
{
    unsigned n = 0;
    pta_bus_foreach(f->mmio, count_range, &n);
    pta_bus_foreach(f->pio, count_range, &n);
    return n;
}

/* The interrupts run out before the windows do; what is given back is given out again. */
static void interrupts_run_out(void **unused)
{
    (void)unused;
    Fixture f;
    PtaDevice *devs[8];
    fix_new(&f);
    for (unsigned i = 0; i < 8; i++) {
        g_autofree char *id = g_strdup_printf("rng%u", i);
        devs[i] = new_rng(&f, id, NULL);
        const PtaPlacedDevice *p = pta_mmio_manager_find(f.manager, PTA_PLACED_VIRTIO_MMIO, id);
        assert_int_equal(p->base, FIX_MMIO_BASE + 0x1000 * i);
        assert_int_equal(p->size, 0x1000);
        assert_int_equal(p->irq, 16 + i);
        assert_int_equal(p->ordinal, i);
        assert_true(!p->level && !p->pio);
        assert_ptr_equal(p, pta_mmio_manager_get(f.manager, i));
    }
    g_autoptr(GError) error = NULL;
    assert_null(new_rng(&f, "rng8", &error));
    assert_string_equal(error->message, "rng8: no more IRQs are available");
    assert_int_equal(pta_mmio_manager_count(f.manager), 8);
    assert_int_equal(n_ranges(&f), 8);

    pta_device_free(devs[3]);
    pta_device_free(devs[5]);
    assert_null(pta_mmio_manager_find(f.manager, PTA_PLACED_VIRTIO_MMIO, "rng3"));
    assert_int_equal(n_ranges(&f), 6);
    devs[3] = new_rng(&f, "new", NULL);
    const PtaPlacedDevice *p = pta_mmio_manager_find(f.manager, PTA_PLACED_VIRTIO_MMIO, "new");
    assert_int_equal(p->base, FIX_MMIO_BASE + 0x3000);
    assert_int_equal(p->irq, 19);
    assert_int_equal(p->ordinal, 3);
    devs[5] = new_rng(&f, "other", NULL);
    assert_non_null(devs[5]);
    for (unsigned i = 0; i < 8; i++) {
        pta_device_free(devs[i]);
    }
    assert_int_equal(n_ranges(&f), 0);
    fix_free(&f);
}

/* A device for the test: it asks for what its config says. */
typedef struct Ask {
    bool pio;
    uint64_t base;
    uint64_t size;
    int irq;
    bool second_too; /* another place, which overlaps the first */
} Ask;

typedef struct Asker {
    PtaDevice parent;
    PtaPlacedDevice placed;
    PtaIrqLine irq;
} Asker;

static bool asker_realize(PtaDevice *dev, const void *config, GError **error)
{
    const Ask *ask = config;
    Asker *a = (Asker *)dev;
    PtaPlacedDevice again;
    PtaIrqLine none;
    return dev->host->place(dev->host, dev, PTA_PLACED_DEBUG_EXIT, ask->pio, ask->base, ask->size,
                            &target_ops, ask->irq != -2, ask->irq, &a->placed, &a->irq, error) &&
           (!ask->second_too ||
            dev->host->place(dev->host, dev, PTA_PLACED_DEBUG_EXIT, ask->pio, ask->base, ask->size,
                             &target_ops, true, -1, &again, &none, error));
}

static const PtaDeviceClass asker_class = {
    .type = "asker",
    .instance_size = sizeof(Asker),
    .realize = asker_realize,
};

static PtaDevice *ask_for(Fixture *f, const char *id, Ask ask, GError **error)
{
    return pta_device_new(&asker_class, id, &f->host, &ask, error);
}

static void refusals_leave_no_trace(void **unused)
{
    (void)unused;
    static const struct {
        const char *id;
        Ask ask;
        const char *why;
    } bad[] = {
        { "a", { true, 0x700, 8, -2, false }, "there is a device of this id" },
        { "b", { true, 0x604, 8, -2, false }, "overlaps a" },
        { "b", { true, 0x800, 8, 17, false }, "IRQ 17 is taken by a" },
        { "b", { true, 0x800, 8, 64, false }, "there is no IRQ 64" },
        { "b", { true, 0, 8, -2, false }, "a port must be given" },
        { "b", { true, 0x800, 0, -1, false }, "cannot be" },
        { "b", { false, 0, 0x101000, -1, false }, "no more device windows" },
        { "b", { true, 0x800, 8, -1, true }, "overlaps b" },
        { "b", { false, FIX_MMIO_BASE, 0x1000, -1, true }, "overlaps b" },
    };
    Fixture f;
    fix_new(&f);
    PtaDevice *a = ask_for(&f, "a", (Ask){ true, 0x600, 8, 17, false }, NULL);
    assert_non_null(a);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(ask_for(&f, bad[i].id, bad[i].ask, &error));
        if (!strstr(error->message, bad[i].why)) {
            fail_msg("expected \"%s\", got \"%s\"", bad[i].why, error->message);
        }
        assert_int_equal(pta_mmio_manager_count(f.manager), 1);
        assert_int_equal(n_ranges(&f), 1);
    }
    /* All of it is still to be had. */
    PtaDevice *b = ask_for(&f, "b", (Ask){ false, 0, 0x100000, -1, false }, NULL);
    assert_int_equal(((Asker *)b)->placed.irq, 16);
    pta_device_free(b);
    pta_device_free(a);
    fix_free(&f);
}

/* Windows go around places that were asked for by address. */
static void windows_go_around(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    PtaDevice *a = ask_for(&f, "a", (Ask){ false, FIX_MMIO_BASE + 0x1800, 0x100, -2, false }, NULL);
    PtaDevice *b = ask_for(&f, "b", (Ask){ false, 0, 0x1800, -1, false }, NULL);
    PtaDevice *c = ask_for(&f, "c", (Ask){ false, 0, 1, -1, false }, NULL);
    PtaDevice *d = ask_for(&f, "d", (Ask){ false, 0, 1, -1, false }, NULL);
    assert_int_equal(((Asker *)b)->placed.base, FIX_MMIO_BASE + 0x2000);
    assert_int_equal(((Asker *)c)->placed.base, FIX_MMIO_BASE);
    assert_int_equal(((Asker *)d)->placed.base, FIX_MMIO_BASE + 0x4000);
    pta_device_free(d);
    pta_device_free(c);
    pta_device_free(b);
    pta_device_free(a);
    fix_free(&f);
}

/* A device that goes takes its interrupt down with it. */
static void a_line_falls_at_the_end(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    PtaDevice *a = ask_for(&f, "a", (Ask){ true, 0x600, 8, 17, false }, NULL);
    pta_irq_set(&((Asker *)a)->irq, true);
    assert_int_equal(f.irq[17], 1);
    pta_device_free(a);
    assert_int_equal(f.irq[17], 0);
    fix_free(&f);
}

static void no_ports_on_other_machines(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    PtaMmioManager *m = pta_mmio_manager_new(&(PtaMmioManagerParams){ .mmio = f.mmio });
    PtaDeviceHost host = f.host;
    pta_mmio_manager_attach(m, &host);
    Ask ask = { true, 0x600, 8, -2, false };
    g_autoptr(GError) error = NULL;
    assert_null(pta_device_new(&asker_class, "a", &host, &ask, &error));
    assert_string_equal(error->message, "a: this machine has no I/O ports");
    pta_mmio_manager_free(m);
    fix_free(&f);
}

/* ---- every state table says all of its struct ---- */

static void table_is_complete(const PtaStateDesc *desc)
{
    size_t sum = 0;
    for (const PtaStateField *f = desc->fields; f->name; sum += f++->size) {
        if (f->offset != sum) {
            fail_msg("%s.%s is not where the table says", desc->name, f->name);
        }
        assert_true(f->count > 0 && f->size % f->count == 0);
        if (f->sub) {
            table_is_complete(f->sub);
            assert_int_equal(f->size, f->count * f->sub->size);
        }
    }
    if (sum != desc->size) {
        fail_msg("%s: the table lacks fields", desc->name);
    }
}

/* ---- index registers ---- */

typedef struct Zone {
    bool pio;
    uint64_t addr, size;
    int count;
    bool refuse;
} Zone;

static Zone zone;

static bool on_coalesce(PtaDeviceHost *host, bool pio, uint64_t addr, uint64_t size, bool on,
                        GError **error)
{
    (void)host;
    if (on && zone.refuse) {
        return pta_throw(error, PTA_ERROR_HOST, "KVM_REGISTER_COALESCED_MMIO: no");
    }
    if (on) {
        zone.pio = pio;
        zone.addr = addr;
        zone.size = size;
        zone.count++;
    } else {
        assert_true(zone.pio == pio && zone.addr == addr && zone.size == size);
        zone.count--;
    }
    return true;
}

static void index_registers_may_come_late(void **unused)
{
    (void)unused;
    static const RtcCmosConfig cfg = { 0 };
    Fixture f;
    fix_new(&f);
    memset(&zone, 0, sizeof(zone));
    f.host.coalesce = on_coalesce;
    PtaDevice *rtc = pta_device_new(&pta_rtc_cmos_class, "rtc", &f.host, &cfg, NULL);
    assert_non_null(rtc);
    assert_int_equal(zone.count, 1);
    assert_true(zone.pio && zone.addr == 0x70 && zone.size == 1);
    PtaDevice *rng = new_rng(&f, "rng0", NULL); /* has none */
    assert_int_equal(zone.count, 1);
    pta_device_free(rng);
    pta_device_free(rtc);
    assert_int_equal(zone.count, 0);
    /* Refused: nothing stays behind. */
    zone.refuse = true;
    g_autoptr(GError) error = NULL;
    assert_null(pta_device_new(&pta_rtc_cmos_class, "rtc", &f.host, &cfg, &error));
    assert_string_equal(error->message, "rtc: KVM_REGISTER_COALESCED_MMIO: no");
    assert_int_equal(zone.count, 0);
    assert_int_equal(n_ranges(&f), 0);
    assert_int_equal(pta_mmio_manager_count(f.manager), 0);
    fix_free(&f);
}

static void every_field_is_saved(void **unused)
{
    (void)unused;
    unsigned n = 0;
    Fixture f;
    fix_new(&f);
    table_is_complete(&pta_virtio_state);
    table_is_complete(&pta_queue_state);
    table_is_complete(pta_ioapic_class.state);
    table_is_complete(pta_power_class.state);
    for (size_t i = 0; pta_device_classes[i]; i++) {
        const PtaDeviceClass *klass = pta_device_classes[i];
        assert_ptr_equal(pta_device_class_find(klass->type), klass);
        assert_int_equal(klass->save != NULL, klass->restore != NULL);
        if (klass->state) {
            table_is_complete(klass->state);
            assert_true(klass->state_offset + klass->state->size <= klass->instance_size);
            n++;
        }
    }
    assert_true(n >= 2);
    assert_null(pta_device_class_find("nonesuch"));
    g_autofree char *image = fix_path(&f, "img");
    g_file_set_contents(image, "x", 1, NULL);
    BlockFileConfig file = { .path = image };
    BlockConfig block = { .type = BLOCK_CONFIG_TYPE_FILE, .file = &file };
    VirtioBlkConfig cfg = { .block = &block, .queue_size = 16 };
    PtaDevice *blk = pta_device_new(&pta_virtio_blk_class, "d", &f.host, &cfg, NULL);
    table_is_complete(((PtaVirtio *)blk)->vclass->state);
    pta_device_free(blk);
    fix_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bus_refuses_overlaps),
        cmocka_unit_test(bus_finds_what_is_there),
        cmocka_unit_test(bus_splits_at_the_edge),
        cmocka_unit_test(interrupts_run_out),
        cmocka_unit_test(refusals_leave_no_trace),
        cmocka_unit_test(windows_go_around),
        cmocka_unit_test(a_line_falls_at_the_end),
        cmocka_unit_test(no_ports_on_other_machines),
        cmocka_unit_test(index_registers_may_come_late),
        cmocka_unit_test(every_field_is_saved),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
