/* virtio-blk on a file, through its registers and rings, with both ways of making system calls. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/devices.h"
#include "devices/virtio/blk.h"
#include "qmp/gen/types.h"

#define HDR       DRV_DATA
#define STATUS    (DRV_DATA + 0x100)
#define BUF       (DRV_DATA + 0x1000)
#define SECTOR    512u
#define UNTOUCHED 0xee

typedef struct Disk {
    Fixture f;
    Driver d;
    PtaDevice *dev;
    uint64_t base;
    char *path;
} Disk;

static char *make_image(Fixture *f, uint64_t size)
{
    char *path = fix_path(f, "disk.img");
    g_autofree char *data = g_malloc(size);
    for (uint64_t i = 0; i < size; i++) {
        data[i] = (char)(i / SECTOR + 1);
    }
    assert_true(g_file_set_contents(path, data, (gssize)size, NULL));
    return path;
}

static PtaDevice *new_blk(Fixture *f, const char *id, char *path, BlockAio aio, bool read_only,
                          bool direct, GError **error)
{
    BlockFileConfig file = { .path = path, .read_only = read_only, .aio = aio, .direct = direct };
    BlockConfig block = { .type = BLOCK_CONFIG_TYPE_FILE, .file = &file };
    VirtioBlkConfig cfg = { .block = &block, .queue_size = 16, .serial = NULL };
    return pta_device_new(&pta_virtio_blk_class, id, &f->host, &cfg, error);
}

static void disk_open(Disk *k, uint64_t size, BlockAio aio, bool read_only)
{
    memset(k, 0, sizeof(*k));
    fix_new(&k->f);
    k->path = make_image(&k->f, size);
    g_autoptr(GError) error = NULL;
    k->dev = new_blk(&k->f, "disk0", k->path, aio, read_only, false, &error);
    if (!k->dev) {
        fail_msg("%s", error->message);
    }
    k->base = pta_mmio_manager_find(k->f.manager, PTA_PLACED_VIRTIO_MMIO, "disk0")->base;
    pta_device_start(k->dev);
    drv_start(&k->d, &k->f, k->base, 16, 0);
}

static void disk_close(Disk *k)
{
    pta_device_free(k->dev);
    g_free(k->path);
    fix_free(&k->f);
}

static void put_header(Disk *k, uint32_t type, uint64_t sector)
{
    struct {
        uint32_t type;
        uint32_t reserved;
        uint64_t sector;
    } h = { type, 0, sector };
    pta_memory_write(k->f.memory, HDR, &h, sizeof(h));
    pta_memory_fill(k->f.memory, STATUS, UNTOUCHED, 1);
}

static uint8_t status(Disk *k)
{
    uint8_t s;
    pta_memory_read(k->f.memory, STATUS, &s, 1);
    return s;
}

/* A request of three descriptors (two without data). */
static uint8_t request(Disk *k, uint32_t type, uint64_t sector, uint32_t len)
{
    bool in = type == PTA_BLK_T_IN || type == PTA_BLK_T_GET_ID;
    put_header(k, type, sector);
    drv_desc(&k->d, 0, HDR, 16, D_NEXT, len ? 1 : 2);
    if (len) {
        drv_desc(&k->d, 1, BUF, len, D_NEXT | (in ? D_WRITE : 0), 2);
    }
    drv_desc(&k->d, 2, STATUS, 1, D_WRITE, 0);
    drv_offer(&k->d, 0);
    drv_kick(&k->d);
    assert_int_equal(drv_wait(&k->d, NULL), 0);
    return status(k);
}

static void check_file(Disk *k, uint64_t offset, uint8_t want, size_t len)
{
    int fd = open(k->path, O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = 0;
        assert_int_equal(pread(fd, &byte, 1, (off_t)(offset + i)), 1);
        assert_int_equal(byte, want);
    }
    close(fd);
}

static void read_and_write_with(BlockAio aio)
{
    Disk k;
    disk_open(&k, 64 * SECTOR, aio, false);
    uint8_t buf[SECTOR];
    assert_int_equal(fix_r32(&k.f, k.base + R(CONFIG)), 64);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 8, SECTOR), PTA_BLK_S_OK);
    pta_memory_read(k.f.memory, BUF, buf, SECTOR);
    assert_int_equal(buf[0], 9);
    assert_int_equal(buf[SECTOR - 1], 9);
    pta_memory_fill(k.f.memory, BUF, 0xab, SECTOR);
    assert_int_equal(request(&k, PTA_BLK_T_OUT, 16, SECTOR), PTA_BLK_S_OK);
    assert_int_equal(request(&k, PTA_BLK_T_FLUSH, 0, 0), PTA_BLK_S_OK);
    check_file(&k, 16 * SECTOR, 0xab, SECTOR);
    check_file(&k, 16 * SECTOR - 1, 16, 1);
    pta_memory_fill(k.f.memory, BUF, 0, SECTOR);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 16, SECTOR), PTA_BLK_S_OK);
    pta_memory_read(k.f.memory, BUF, buf, SECTOR);
    assert_int_equal(buf[SECTOR / 2], 0xab);
    assert_int_equal(k.f.irq[16], 1);
    fix_w32(&k.f, k.base + R(INTERRUPT_ACK), 1);
    assert_int_equal(k.f.irq[16], 0);
    disk_close(&k);
}

static void reads_and_writes(void **unused)
{
    (void)unused;
    read_and_write_with(BLOCK_AIO_AUTO);
    read_and_write_with(BLOCK_AIO_THREADS);
}

/* Header in two parts, data in odd pieces, status at the end of a data buffer. */
static void any_framing(void **unused)
{
    (void)unused;
    Disk k;
    disk_open(&k, 64 * SECTOR, BLOCK_AIO_AUTO, false);
    put_header(&k, PTA_BLK_T_IN, 3);
    drv_desc(&k.d, 5, HDR, 7, D_NEXT, 9);
    drv_desc(&k.d, 9, HDR + 7, 9, D_NEXT, 1);
    drv_desc(&k.d, 1, BUF, 100, D_NEXT | D_WRITE, 2);
    drv_desc(&k.d, 2, BUF + 1000, 413, D_WRITE, 0);
    drv_offer(&k.d, 5);
    drv_kick(&k.d);
    uint32_t len;
    assert_int_equal(drv_wait(&k.d, &len), 5);
    assert_int_equal(len, 513);
    uint8_t buf[1413];
    pta_memory_read(k.f.memory, BUF, buf, sizeof(buf));
    assert_int_equal(buf[0], 4);
    assert_int_equal(buf[99], 4);
    assert_int_equal(buf[100], 0);
    assert_int_equal(buf[1000], 4);
    assert_int_equal(buf[1411], 4);
    assert_int_equal(buf[1412], PTA_BLK_S_OK);
    disk_close(&k);
}

static void what_is_out_of_bounds_fails(void **unused)
{
    (void)unused;
    Disk k;
    disk_open(&k, 64 * SECTOR, BLOCK_AIO_AUTO, false);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 63, SECTOR), PTA_BLK_S_OK);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 64, SECTOR), PTA_BLK_S_IOERR);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 63, 2 * SECTOR), PTA_BLK_S_IOERR);
    assert_int_equal(request(&k, PTA_BLK_T_IN, UINT64_MAX, SECTOR), PTA_BLK_S_IOERR);
    assert_int_equal(request(&k, PTA_BLK_T_OUT, UINT64_MAX / SECTOR, SECTOR), PTA_BLK_S_IOERR);
    assert_int_equal(request(&k, PTA_BLK_T_OUT, UINT64_C(1) << 55, SECTOR), PTA_BLK_S_IOERR);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 0, SECTOR - 1), PTA_BLK_S_IOERR);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 64, 0), PTA_BLK_S_OK);
    assert_int_equal(request(&k, 99, 0, 0), PTA_BLK_S_UNSUPP);
    assert_false(drv_needs_reset(&k.d));
    disk_close(&k);
}

static uint8_t unmap(Disk *k, uint32_t type, uint64_t sector, uint32_t n, uint32_t flags)
{
    struct {
        uint64_t sector;
        uint32_t n;
        uint32_t flags;
    } seg = { sector, n, flags };
    pta_memory_write(k->f.memory, BUF, &seg, sizeof(seg));
    return request(k, type, 0, sizeof(seg));
}

static void discard_and_write_zeroes(void **unused)
{
    (void)unused;
    for (int aio = 0; aio < 2; aio++) {
        Disk k;
        disk_open(&k, 4096 * 16, aio ? BLOCK_AIO_THREADS : BLOCK_AIO_AUTO, false);
        assert_int_equal(unmap(&k, PTA_BLK_T_WRITE_ZEROES, 8, 3, 0), PTA_BLK_S_OK);
        check_file(&k, 8 * SECTOR, 0, 3 * SECTOR);
        check_file(&k, 11 * SECTOR, 12, 1);
        assert_int_equal(unmap(&k, PTA_BLK_T_WRITE_ZEROES, 32, 9, 1), PTA_BLK_S_OK);
        check_file(&k, 32 * SECTOR, 0, 9 * SECTOR);
        assert_int_equal(unmap(&k, PTA_BLK_T_DISCARD, 64, 16, 0), PTA_BLK_S_OK);
        assert_int_equal(unmap(&k, PTA_BLK_T_DISCARD, 64, 16, 1), PTA_BLK_S_UNSUPP);
        assert_int_equal(unmap(&k, PTA_BLK_T_WRITE_ZEROES, 64, 1, 2), PTA_BLK_S_UNSUPP);
        assert_int_equal(unmap(&k, PTA_BLK_T_DISCARD, 128, 1, 0), PTA_BLK_S_IOERR);
        assert_int_equal(unmap(&k, PTA_BLK_T_DISCARD, 0, UINT32_MAX, 0), PTA_BLK_S_IOERR);
        assert_int_equal(unmap(&k, PTA_BLK_T_WRITE_ZEROES, UINT64_MAX, 1, 0), PTA_BLK_S_IOERR);
        assert_int_equal(request(&k, PTA_BLK_T_DISCARD, 0, 32), PTA_BLK_S_IOERR);
        disk_close(&k);
    }
}

static void serial_is_the_id(void **unused)
{
    (void)unused;
    Disk k;
    disk_open(&k, 64 * SECTOR, BLOCK_AIO_AUTO, false);
    pta_memory_fill(k.f.memory, BUF, UNTOUCHED, 64);
    assert_int_equal(request(&k, PTA_BLK_T_GET_ID, 0, 20), PTA_BLK_S_OK);
    uint8_t id[21];
    pta_memory_read(k.f.memory, BUF, id, sizeof(id));
    assert_memory_equal(id, "disk0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xee", 21);
    disk_close(&k);
}

static void read_only_is_read_only(void **unused)
{
    (void)unused;
    Disk k;
    disk_open(&k, 64 * SECTOR, BLOCK_AIO_AUTO, true);
    fix_w32(&k.f, k.base + R(DEVICE_FEATURES_SEL), 0);
    assert_true(fix_r32(&k.f, k.base + R(DEVICE_FEATURES)) >> PTA_BLK_F_RO & 1);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 0, SECTOR), PTA_BLK_S_OK);
    assert_int_equal(request(&k, PTA_BLK_T_OUT, 0, SECTOR), PTA_BLK_S_IOERR);
    assert_int_equal(unmap(&k, PTA_BLK_T_WRITE_ZEROES, 8, 3, 0), PTA_BLK_S_UNSUPP);
    check_file(&k, 0, 1, SECTOR);
    disk_close(&k);
}

/* The last sector of a file of an odd size reads as zeros where the file has ended. */
static void a_file_of_an_odd_size(void **unused)
{
    (void)unused;
    for (int aio = 0; aio < 2; aio++) {
        Disk k;
        disk_open(&k, 3 * SECTOR + 100, aio ? BLOCK_AIO_THREADS : BLOCK_AIO_AUTO, false);
        assert_int_equal(fix_r32(&k.f, k.base + R(CONFIG)), 4);
        pta_memory_fill(k.f.memory, BUF, UNTOUCHED, 2 * SECTOR);
        assert_int_equal(request(&k, PTA_BLK_T_IN, 2, 2 * SECTOR), PTA_BLK_S_OK);
        uint8_t buf[2 * SECTOR];
        pta_memory_read(k.f.memory, BUF, buf, sizeof(buf));
        assert_int_equal(buf[SECTOR + 99], 4);
        assert_int_equal(buf[SECTOR + 100], 0);
        assert_int_equal(buf[2 * SECTOR - 1], 0);
        disk_close(&k);
    }
}

static void a_file_that_shrinks_is_an_error(void **unused)
{
    (void)unused;
    Disk k;
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    disk_open(&k, 64 * SECTOR, BLOCK_AIO_AUTO, false);
    assert_int_equal(truncate(k.path, 10 * SECTOR), 0);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 9, SECTOR), PTA_BLK_S_OK);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 9, 2 * SECTOR), PTA_BLK_S_IOERR);
    assert_int_equal(request(&k, PTA_BLK_T_IN, 20, SECTOR), PTA_BLK_S_IOERR);
    disk_close(&k);
}

static void an_image_has_one_writer(void **unused)
{
    (void)unused;
    Disk k;
    disk_open(&k, 64 * SECTOR, BLOCK_AIO_AUTO, false);
    for (int read_only = 0; read_only < 2; read_only++) {
        g_autoptr(GError) error = NULL;
        assert_null(new_blk(&k.f, "disk1", k.path, BLOCK_AIO_AUTO, read_only, false, &error));
        assert_non_null(strstr(error->message, "is in use by another machine"));
    }
    disk_close(&k);

    disk_open(&k, 64 * SECTOR, BLOCK_AIO_AUTO, true);
    PtaDevice *second = new_blk(&k.f, "disk1", k.path, BLOCK_AIO_AUTO, true, false, NULL);
    assert_non_null(second);
    g_autoptr(GError) error = NULL;
    assert_null(new_blk(&k.f, "disk2", k.path, BLOCK_AIO_AUTO, false, false, &error));
    assert_non_null(error);
    pta_device_free(second);
    disk_close(&k);
}

static void bad_images_are_refused(void **unused)
{
    (void)unused;
    Fixture f;
    fix_new(&f);
    g_autofree char *empty = fix_path(&f, "empty");
    assert_true(g_file_set_contents(empty, "", 0, NULL));
    g_autoptr(GError) e1 = NULL;
    assert_null(new_blk(&f, "a", empty, BLOCK_AIO_AUTO, false, false, &e1));
    assert_true(g_error_matches(e1, PTA_ERROR, PTA_ERROR_BAD_IMAGE));
    g_autoptr(GError) e2 = NULL;
    assert_null(new_blk(&f, "a", f.dir, BLOCK_AIO_AUTO, true, false, &e2));
    assert_true(g_error_matches(e2, PTA_ERROR, PTA_ERROR_BAD_IMAGE));
    g_autoptr(GError) e3 = NULL;
    assert_null(new_blk(&f, "a", (char *)"nothing", BLOCK_AIO_AUTO, true, false, &e3));
    assert_true(g_error_matches(e3, PTA_ERROR, PTA_ERROR_HOST));
    assert_int_equal(pta_mmio_manager_count(f.manager), 0);
    fix_free(&f);
}

/* ---- a back end that fails, and one that takes its time ---- */

typedef struct FakeBlock {
    PtaBlock parent;
    GPtrArray *held;
    unsigned last_flags;
    int n_flushes;
} FakeBlock;

static void fake_submit(PtaBlock *b, PtaBlockRequest *req)
{
    FakeBlock *fb = (FakeBlock *)b;
    fb->last_flags = req->flags;
    fb->n_flushes += req->op == PTA_BLOCK_FLUSH;
    g_ptr_array_add(fb->held, req);
}

static void fake_free(PtaBlock *b)
{
    g_ptr_array_unref(((FakeBlock *)b)->held);
    g_free(b);
}

static const PtaBlockClass fake_class = { .submit = fake_submit, .free = fake_free };

/* config: the FakeBlock. */
static bool fake_realize(PtaDevice *dev, const void *config, GError **error)
{
    FakeBlock *fb = (FakeBlock *)(uintptr_t)config;
    return pta_virtio_blk_realize_with(dev, &fb->parent, "fake", 16, error);
}

static FakeBlock *fake_open(Disk *k)
{
    static PtaDeviceClass klass;
    memset(k, 0, sizeof(*k));
    fix_new(&k->f);
    klass = pta_virtio_blk_class;
    klass.realize = fake_realize;
    FakeBlock *fb = g_new0(FakeBlock, 1);
    fb->parent = (PtaBlock){
        .klass = &fake_class,
        .filename = (char *)"fake",
        .driver = "fake",
        .aio = "none",
        .size = 64 * SECTOR,
        .logical_size = SECTOR,
        .physical_size = 4096,
        .discard_align = 4096,
    };
    fb->held = g_ptr_array_new();
    k->dev = pta_device_new(&klass, "disk0", &k->f.host, fb, NULL);
    assert_non_null(k->dev);
    k->base = FIX_MMIO_BASE;
    pta_device_start(k->dev);
    drv_start(&k->d, &k->f, k->base, 16, 0);
    return fb;
}

static void offer_write(Disk *k, uint16_t head)
{
    put_header(k, PTA_BLK_T_OUT, 1);
    drv_desc(&k->d, head, HDR, 16, D_NEXT, head + 1);
    drv_desc(&k->d, head + 1, BUF, SECTOR, D_NEXT, head + 2);
    drv_desc(&k->d, head + 2, STATUS, 1, D_WRITE, 0);
    drv_offer(&k->d, head);
    drv_kick(&k->d);
    fix_run(&k->f);
}

static void fake_complete(FakeBlock *fb, guint i, int error)
{
    PtaBlockRequest *req = g_ptr_array_steal_index(fb->held, i);
    pta_block_complete(&fb->parent, req, error);
}

static void errors_reach_the_driver(void **unused)
{
    (void)unused;
    Disk k;
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    FakeBlock *fb = fake_open(&k);
    offer_write(&k, 0);
    assert_int_equal(fb->held->len, 1);
    fake_complete(fb, 0, -EIO);
    assert_int_equal(drv_wait(&k.d, NULL), 0);
    assert_int_equal(status(&k), PTA_BLK_S_IOERR);
    assert_int_equal(fb->parent.stats.failed[PTA_BLOCK_WRITE], 1);
    disk_close(&k);
}

static void completions_may_overtake(void **unused)
{
    (void)unused;
    Disk k;
    FakeBlock *fb = fake_open(&k);
    offer_write(&k, 0);
    offer_write(&k, 3);
    assert_int_equal(fb->held->len, 2);
    fake_complete(fb, 1, 0);
    assert_int_equal(drv_wait(&k.d, NULL), 3);
    fake_complete(fb, 0, 0);
    assert_int_equal(drv_wait(&k.d, NULL), 0);
    disk_close(&k);
}

static gboolean complete_all(gpointer data)
{
    FakeBlock *fb = data;
    while (fb->held->len > 0) {
        fake_complete(fb, 0, 0);
    }
    return G_SOURCE_REMOVE;
}

static void complete_later(Disk *k, FakeBlock *fb)
{
    g_autoptr(GSource) later = g_timeout_source_new(30);
    g_source_set_callback(later, complete_all, fb, NULL);
    g_source_attach(later, k->f.context);
}

/* Nothing is in flight any more when a reset or a quiesce is done. */
static void reset_and_quiesce_wait(void **unused)
{
    (void)unused;
    Disk k;
    FakeBlock *fb = fake_open(&k);
    offer_write(&k, 0);
    assert_int_equal(fb->held->len, 1);
    complete_later(&k, fb);
    fix_w32(&k.f, k.base + R(STATUS), 0);
    assert_int_equal(fb->held->len, 0);
    assert_int_equal(fix_r32(&k.f, k.base + R(STATUS)), 0);

    drv_start(&k.d, &k.f, k.base, 16, 0);
    offer_write(&k, 0);
    assert_int_equal(fb->held->len, 1);
    complete_later(&k, fb);
    pta_device_quiesce(k.dev);
    assert_int_equal(fb->held->len, 0);
    assert_int_equal(drv_used_idx(&k.d), 1);
    /* What comes while it stands still is seen when it starts again. */
    k.d.used_idx = 1;
    offer_write(&k, 3);
    assert_int_equal(fb->held->len, 0);
    pta_device_start(k.dev);
    fix_run(&k.f);
    assert_int_equal(fb->held->len, 1);
    fake_complete(fb, 0, 0);
    assert_int_equal(drv_wait(&k.d, NULL), 3);
    disk_close(&k);
}

/* Write-through: without FLUSH, or with the cache turned off, a write is done when it is stable. */
static void cache_modes(void **unused)
{
    (void)unused;
    Disk k;
    FakeBlock *fb = fake_open(&k);
    uint64_t wb = k.base + R(CONFIG) + PTA_BLK_CFG_WRITEBACK;
    uint64_t value = 0;
    assert_true(pta_bus_read(k.f.mmio, wb, 1, &value));
    assert_int_equal(value, 1);
    offer_write(&k, 0);
    assert_int_equal(fb->last_flags, 0);
    fake_complete(fb, 0, 0);
    assert_true(pta_bus_write(k.f.mmio, wb, 1, 0));
    fix_run(&k.f);
    assert_int_equal(fb->n_flushes, 1); /* what was cached went out */
    fake_complete(fb, 0, 0);
    offer_write(&k, 0);
    assert_int_equal(fb->last_flags, PTA_BLOCK_FUA);
    fake_complete(fb, 0, 0);

    drv_start(&k.d, &k.f, k.base, 16,
              UINT64_C(1) << PTA_BLK_F_CONFIG_WCE | UINT64_C(1) << PTA_BLK_F_FLUSH);
    offer_write(&k, 0);
    assert_int_equal(fb->last_flags, PTA_BLOCK_FUA);
    fake_complete(fb, 0, 0);
    drv_start(&k.d, &k.f, k.base, 16, UINT64_C(1) << PTA_BLK_F_CONFIG_WCE);
    offer_write(&k, 0);
    assert_int_equal(fb->last_flags, 0);
    fake_complete(fb, 0, 0);
    disk_close(&k);
}

static void hostile_requests_break_the_device(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t header_len;
        bool with_status;
    } shapes[] = { { 15, true }, { 16, false }, { 0, true } };
    for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
        Disk k;
        FakeBlock *fb = fake_open(&k);
        put_header(&k, PTA_BLK_T_IN, 0);
        if (shapes[i].header_len) {
            drv_desc(&k.d, 0, HDR, shapes[i].header_len, shapes[i].with_status ? D_NEXT : 0, 1);
        }
        drv_desc(&k.d, 1, STATUS, 1, D_WRITE, 0);
        drv_offer(&k.d, shapes[i].header_len ? 0 : 1);
        drv_kick(&k.d);
        fix_run(&k.f);
        assert_true(drv_needs_reset(&k.d));
        assert_int_equal(fb->held->len, 0);
        assert_int_equal(fix_r32(&k.f, k.base + R(INTERRUPT_STATUS)) & 2, 2);
        /* A reset mends it. */
        drv_start(&k.d, &k.f, k.base, 16, 0);
        offer_write(&k, 0);
        assert_int_equal(fb->held->len, 1);
        fake_complete(fb, 0, 0);
        disk_close(&k);
    }
}

static void save_and_restore(void **unused)
{
    (void)unused;
    Disk k;
    FakeBlock *fb = fake_open(&k);
    offer_write(&k, 0);
    fake_complete(fb, 0, 0);
    assert_int_equal(drv_wait(&k.d, NULL), 0);
    uint64_t wb = k.base + R(CONFIG) + PTA_BLK_CFG_WRITEBACK;
    pta_bus_write(k.f.mmio, wb, 1, 0);
    fix_run(&k.f);
    fake_complete(fb, 0, 0);
    pta_device_quiesce(k.dev);
    json_t *saved = pta_device_save(k.dev);

    /* Restored in place after a reset: it goes on where it was. */
    pta_device_reset(k.dev);
    assert_int_equal(fix_r32(&k.f, k.base + R(STATUS)), 0);
    g_autoptr(GError) error = NULL;
    assert_true(pta_device_restore(k.dev, saved, &error));
    json_t *again = pta_device_save(k.dev);
    assert_true(json_equal(saved, again));
    json_decref(again);
    uint64_t value = 1;
    assert_true(pta_bus_read(k.f.mmio, wb, 1, &value));
    assert_int_equal(value, 0);
    pta_device_start(k.dev);
    offer_write(&k, 3);
    assert_int_equal(fb->held->len, 1);
    assert_int_equal(fb->last_flags, PTA_BLOCK_FUA);
    fake_complete(fb, 0, 0);
    assert_int_equal(drv_wait(&k.d, NULL), 3);
    pta_device_quiesce(k.dev);

    /* A state whose ring has run away is refused, and changes nothing. */
    json_t *before = pta_device_save(k.dev);
    drv_set_avail_idx(&k.d, 100);
    assert_false(pta_device_restore(k.dev, saved, &error));
    assert_non_null(strstr(error->message, "further ahead"));
    json_t *after = pta_device_save(k.dev);
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
    json_decref(saved);
    disk_close(&k);
}

/* ---- O_DIRECT: the guest's buffers are where the guest wants them ---- */

static void direct_with_misaligned_buffers(void **unused)
{
    (void)unused;
    Disk k;
    memset(&k, 0, sizeof(k));
    fix_new(&k.f);
    k.path = make_image(&k.f, 64 * SECTOR);
    k.dev = new_blk(&k.f, "disk0", k.path, BLOCK_AIO_AUTO, false, true, NULL);
    if (!k.dev) { /* a file system without O_DIRECT */
        g_free(k.path);
        fix_free(&k.f);
        return;
    }
    k.base = FIX_MMIO_BASE;
    pta_device_start(k.dev);
    drv_start(&k.d, &k.f, k.base, 16, 0);
    uint32_t n = fix_r32(&k.f, k.base + R(CONFIG) + PTA_BLK_CFG_BLK_SIZE);
    for (int write = 0; write < 2; write++) {
        put_header(&k, write ? PTA_BLK_T_OUT : PTA_BLK_T_IN, 8);
        drv_desc(&k.d, 0, HDR, 16, D_NEXT, 1);
        drv_desc(&k.d, 1, BUF + 3, 101, D_NEXT | (write ? 0 : D_WRITE), 2);
        drv_desc(&k.d, 2, BUF + 0x1001, n - 101, D_NEXT | (write ? 0 : D_WRITE), 3);
        drv_desc(&k.d, 3, STATUS, 1, D_WRITE, 0);
        if (write) {
            pta_memory_fill(k.f.memory, BUF, 0x5a, 0x4000);
        }
        drv_offer(&k.d, 0);
        drv_kick(&k.d);
        drv_wait(&k.d, NULL);
        assert_int_equal(status(&k), PTA_BLK_S_OK);
        uint8_t byte = 0;
        pta_memory_read(k.f.memory, BUF + 3 + 100, &byte, 1);
        assert_int_equal(byte, write ? 0x5a : 9);
    }
    check_file(&k, 8 * SECTOR, 0x5a, n);
    disk_close(&k);
}

/* Several requests at once, worked on by another thread: order is free, none is lost. */
static void many_requests_on_a_thread(void **unused)
{
    (void)unused;
    for (int aio = 0; aio < 2; aio++) {
        Disk k;
        disk_open(&k, 256 * SECTOR, aio ? BLOCK_AIO_THREADS : BLOCK_AIO_AUTO, false);
        fix_start_thread(&k.f);
        for (unsigned round = 0; round < 200; round++) {
            for (uint16_t i = 0; i < 5; i++) {
                uint64_t hdr = HDR + 32u * i;
                struct {
                    uint32_t type;
                    uint32_t reserved;
                    uint64_t sector;
                } h = { PTA_BLK_T_IN, 0, (round + i * 7u) % 250 };
                pta_memory_write(k.f.memory, hdr, &h, sizeof(h));
                drv_desc(&k.d, 3 * i, hdr, 16, D_NEXT, 3 * i + 1);
                drv_desc(&k.d, 3 * i + 1, BUF + 0x1000u * i, SECTOR, D_NEXT | D_WRITE, 3 * i + 2);
                drv_desc(&k.d, 3 * i + 2, STATUS + i, 1, D_WRITE, 0);
                drv_offer(&k.d, 3 * i);
            }
            drv_kick(&k.d);
            unsigned seen = 0;
            for (int i = 0; i < 5; i++) {
                seen |= 1u << drv_wait(&k.d, NULL) / 3;
            }
            assert_int_equal(seen, 31);
            uint8_t byte;
            pta_memory_read(k.f.memory, BUF + 0x4000, &byte, 1);
            assert_int_equal(byte, (uint8_t)((round + 28) % 250 + 1));
        }
        pta_device_quiesce(k.dev);
        disk_close(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes),
        cmocka_unit_test(any_framing),
        cmocka_unit_test(what_is_out_of_bounds_fails),
        cmocka_unit_test(discard_and_write_zeroes),
        cmocka_unit_test(serial_is_the_id),
        cmocka_unit_test(read_only_is_read_only),
        cmocka_unit_test(a_file_of_an_odd_size),
        cmocka_unit_test(an_image_has_one_writer),
        cmocka_unit_test(bad_images_are_refused),
        cmocka_unit_test(completions_may_overtake),
        cmocka_unit_test(reset_and_quiesce_wait),
        cmocka_unit_test(cache_modes),
        cmocka_unit_test(hostile_requests_break_the_device),
        cmocka_unit_test(save_and_restore),
        cmocka_unit_test(direct_with_misaligned_buffers),
        cmocka_unit_test(many_requests_on_a_thread),
        cmocka_unit_test(a_file_that_shrinks_is_an_error),
        cmocka_unit_test(errors_reach_the_driver),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
