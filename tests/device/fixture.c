#include "fixture.h"

#include <glib/gstdio.h>
#include <unistd.h>

static void fix_set_irq(void *opaque, unsigned pin, bool level)
{
    Fixture *f = opaque;
    g_assert(pin < FIX_N_IRQS);
    if (g_atomic_int_get(&f->irq[pin]) == 0 && level) {
        g_atomic_int_inc(&f->edges[pin]);
    }
    g_atomic_int_set(&f->irq[pin], level);
}

static void fix_power(PtaDeviceHost *host, int what, uint32_t code)
{
    Fixture *f = host->opaque;
    f->power_what = what;
    f->power_code = code;
    g_atomic_int_inc(&f->n_power);
}

static uint64_t fix_clock_ns(PtaDeviceHost *host)
{
    Fixture *f = host->opaque;
    return __atomic_load_n(&f->clock_ns, __ATOMIC_RELAXED);
}

static void fix_wrote(void *opaque, uint64_t gpa, uint64_t len)
{
    Fixture *f = opaque;
    (void)len;
    __atomic_store_n(&f->dirty_last, gpa, __ATOMIC_RELAXED);
    g_atomic_int_inc(&f->n_dirty);
}

void fix_new(Fixture *f)
{
    static const PtaRamRange ram = { 0, FIX_RAM };
    memset(f, 0, sizeof(*f));
    f->mmio = pta_bus_new("mmio");
    f->pio = pta_bus_new("pio");
    f->manager = pta_mmio_manager_new(&(PtaMmioManagerParams){
        .mmio = f->mmio,
        .pio = f->pio,
        .base = FIX_MMIO_BASE,
        .limit = FIX_MMIO_BASE + 0x100000,
        .irq_first = 16,
        .irq_last = 23,
        .n_irqs = FIX_N_IRQS,
    });
    pta_mmio_manager_connect(f->manager, fix_set_irq, f, NULL);
    f->memory = pta_memory_new(&ram, 1, NULL);
    assert_non_null(f->memory);
    pta_memory_set_write_observer(f->memory, fix_wrote, f);
    f->context = g_main_context_new();
    f->dir = g_dir_make_tmp("partita-device-XXXXXX", NULL);
    f->host = (PtaDeviceHost){
        .memory = f->memory,
        .io_context = f->context,
        .opaque = f,
        .power = fix_power,
        .clock_ns = fix_clock_ns,
        .base_dir = f->dir,
    };
    pta_mmio_manager_attach(f->manager, &f->host);
}

/* ---- doorbells ---- */

static bool fix_doorbell(PtaDeviceHost *host, const PtaDoorbell *bell, bool on, GError **error)
{
    Fixture *f = host->opaque;
    if (on && f->bell_fails > 0 && --f->bell_fails == 0) {
        return pta_throw(error, PTA_ERROR_HOST, "KVM_IOEVENTFD: no");
    }
    if (on) {
        g_array_append_val(f->bells, *bell);
        return true;
    }
    for (guint i = 0; i < f->bells->len; i++) {
        if (memcmp(&g_array_index(f->bells, PtaDoorbell, i), bell, sizeof(*bell)) == 0) {
            g_array_remove_index(f->bells, i);
            return true;
        }
    }
    fail_msg("a doorbell that was not on");
    return false;
}

void fix_with_bells(Fixture *f)
{
    f->bells = g_array_new(FALSE, TRUE, sizeof(PtaDoorbell));
    f->host.doorbell = fix_doorbell;
}

void fix_guest_w32(Fixture *f, uint64_t addr, uint32_t value)
{
    static const uint64_t one = 1;
    for (guint i = 0; f->bells && i < f->bells->len; i++) {
        const PtaDoorbell *bell = &g_array_index(f->bells, PtaDoorbell, i);
        if (bell->addr == addr && bell->size == 4 && bell->value == value) {
            assert_int_equal(write(bell->fd, &one, sizeof(one)), sizeof(one));
            return;
        }
    }
    fix_w32(f, addr, value);
}

unsigned fix_n_fds(void)
{
    unsigned n = 0;
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

void fix_free(Fixture *f)
{
    fix_stop_thread(f);
    if (f->bells) {
        assert_int_equal(f->bells->len, 0);
        g_array_unref(f->bells);
    }
    pta_mmio_manager_free(f->manager);
    pta_bus_free(f->pio);
    pta_bus_free(f->mmio);
    pta_memory_free(f->memory);
    g_main_context_unref(f->context);
    g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = fix_path(f, name);
        g_unlink(path);
    }
    g_rmdir(f->dir);
    g_free(f->dir);
}

static gpointer thread_run(gpointer data)
{
    g_main_loop_run(((Fixture *)data)->loop);
    return NULL;
}

void fix_start_thread(Fixture *f)
{
    f->loop = g_main_loop_new(f->context, false);
    f->thread = g_thread_new("io", thread_run, f);
}

static gboolean thread_quit(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

void fix_stop_thread(Fixture *f)
{
    if (f->thread) {
        g_autoptr(GSource) source = g_idle_source_new();
        g_source_set_callback(source, thread_quit, f->loop, NULL);
        g_source_attach(source, f->context);
        g_thread_join(f->thread);
        g_main_loop_unref(f->loop);
        f->thread = NULL;
    }
}

void fix_run(Fixture *f)
{
    while (g_main_context_iteration(f->context, false)) {}
}

static gboolean tick(gpointer data)
{
    (void)data;
    return G_SOURCE_CONTINUE;
}

void fix_run_until(Fixture *f, const int *what, int n)
{
    int64_t deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    g_autoptr(GSource) source = g_timeout_source_new(5);
    g_source_set_callback(source, tick, NULL, NULL);
    if (!f->thread) {
        g_source_attach(source, f->context);
    }
    while (g_atomic_int_get(what) < n) {
        assert_true(g_get_monotonic_time() < deadline);
        if (f->thread) {
            g_usleep(100);
        } else {
            g_main_context_iteration(f->context, true);
        }
    }
    g_source_destroy(source);
}

char *fix_path(const Fixture *f, const char *name)
{
    return g_build_filename(f->dir, name, NULL);
}

uint32_t fix_r32(Fixture *f, uint64_t addr)
{
    uint64_t value = 0;
    assert_true(pta_bus_read(f->mmio, addr, 4, &value));
    return (uint32_t)value;
}

void fix_w32(Fixture *f, uint64_t addr, uint32_t value)
{
    assert_true(pta_bus_write(f->mmio, addr, 4, value));
}

uint8_t fix_in(Fixture *f, uint16_t port)
{
    uint64_t value = 0;
    assert_true(pta_bus_read(f->pio, port, 1, &value));
    return (uint8_t)value;
}

void fix_out(Fixture *f, uint16_t port, uint8_t value)
{
    assert_true(pta_bus_write(f->pio, port, 1, value));
}

/* ---- the driver ---- */

void drv_negotiate(Driver *d, Fixture *f, uint64_t base, uint64_t without)
{
    *d = (Driver){ .f = f, .base = base };
    fix_w32(f, base + R(STATUS), 0);
    fix_w32(f, base + R(STATUS), 1);
    fix_w32(f, base + R(STATUS), 3);
    for (uint32_t page = 0; page < 2; page++) {
        fix_w32(f, base + R(DEVICE_FEATURES_SEL), page);
        fix_w32(f, base + R(DRIVER_FEATURES_SEL), page);
        uint32_t offered = fix_r32(f, base + R(DEVICE_FEATURES));
        fix_w32(f, base + R(DRIVER_FEATURES), offered & ~(uint32_t)(without >> (32 * page)));
    }
    fix_w32(f, base + R(STATUS), 11);
    assert_int_equal(fix_r32(f, base + R(STATUS)), 11);
}

void drv_setup_queue(Driver *d, unsigned queue, uint16_t size)
{
    Fixture *f = d->f;
    d->queue = queue;
    d->size = size;
    d->desc = DRV_RINGS + UINT64_C(0x4000) * queue; /* of up to 512 entries, beside others */
    d->avail = d->desc + 16u * size;
    d->used = pta_align_up(d->avail + 6 + 2u * size, 4);
    pta_memory_fill(f->memory, d->desc, 0, (size_t)(d->used - d->desc) + 6 + 8u * size);
    fix_w32(f, d->base + R(QUEUE_SEL), queue);
    fix_w32(f, d->base + R(QUEUE_NUM), size);
    fix_w32(f, d->base + R(QUEUE_DESC_LOW), (uint32_t)d->desc);
    fix_w32(f, d->base + R(QUEUE_DESC_HIGH), 0);
    fix_w32(f, d->base + R(QUEUE_DRIVER_LOW), (uint32_t)d->avail);
    fix_w32(f, d->base + R(QUEUE_DRIVER_HIGH), 0);
    fix_w32(f, d->base + R(QUEUE_DEVICE_LOW), (uint32_t)d->used);
    fix_w32(f, d->base + R(QUEUE_DEVICE_HIGH), 0);
    fix_w32(f, d->base + R(QUEUE_READY), 1);
}

void drv_start(Driver *d, Fixture *f, uint64_t base, uint16_t size, uint64_t without)
{
    drv_negotiate(d, f, base, without);
    drv_setup_queue(d, 0, size);
    fix_w32(f, base + R(STATUS), 15);
    assert_int_equal(fix_r32(f, base + R(STATUS)), 15);
}

void drv_desc_at(Driver *d, uint64_t table, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
                 uint16_t next)
{
    struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags;
        uint16_t next;
    } desc = { addr, len, flags, next };
    assert_int_equal(pta_memory_write(d->f->memory, table + 16u * i, &desc, sizeof(desc)), 0);
}

void drv_desc(Driver *d, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
    drv_desc_at(d, d->desc, i, addr, len, flags, next);
}

void drv_set_avail_idx(Driver *d, uint16_t idx)
{
    d->avail_idx = idx;
    assert_int_equal(pta_memory_store_u16(d->f->memory, d->avail + 2, idx), 0);
}

void drv_offer(Driver *d, uint16_t head)
{
    uint64_t entry = d->avail + 4 + 2u * (d->avail_idx & (d->size - 1));
    assert_int_equal(pta_memory_store_u16(d->f->memory, entry, head), 0);
    drv_set_avail_idx(d, d->avail_idx + 1);
}

void drv_kick(Driver *d)
{
    fix_guest_w32(d->f, d->base + R(QUEUE_NOTIFY), d->queue);
}

uint16_t drv_used_idx(const Driver *d)
{
    uint16_t idx;
    assert_int_equal(pta_memory_load_u16(d->f->memory, d->used + 2, &idx), 0);
    return idx;
}

uint32_t drv_wait(Driver *d, uint32_t *len)
{
    int64_t deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (drv_used_idx(d) == d->used_idx) {
        assert_true(g_get_monotonic_time() < deadline);
        if (d->f->thread) {
            g_usleep(20);
        } else {
            g_main_context_iteration(d->f->context, false);
        }
    }
    uint64_t at = d->used + 4 + 8u * (d->used_idx & (d->size - 1));
    uint32_t id;
    uint32_t length;
    assert_int_equal(pta_memory_load_u32(d->f->memory, at, &id), 0);
    assert_int_equal(pta_memory_load_u32(d->f->memory, at + 4, &length), 0);
    d->used_idx++;
    if (len) {
        *len = length;
    }
    return id;
}

bool drv_needs_reset(const Driver *d)
{
    return fix_r32(d->f, d->base + R(STATUS)) & PTA_VIRTIO_S_NEEDS_RESET;
}
