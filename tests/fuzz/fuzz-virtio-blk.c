/*
 * Block requests of any form. The back end sees none that passes the end of the medium, that is not
 * whole blocks, or whose buffers are not of its length; and every request comes back.
 */
#include "device-fuzz.h"

#include "devices/block/block.h"
#include "devices/virtio/blk.h"

#define SECTORS 1000

static FuzzMachine machine;
static GQueue held = G_QUEUE_INIT;

static void fuzz_submit(PtaBlock *b, PtaBlockRequest *req)
{
    uint64_t len = 0;
    g_assert(req->offset <= b->size && req->len <= b->size - req->offset);
    g_assert(req->offset % b->logical_size == 0 && req->len % b->logical_size == 0);
    for (unsigned i = 0; i < req->n_iov; i++) {
        len += req->iov[i].iov_len;
    }
    if (req->op == PTA_BLOCK_READ || req->op == PTA_BLOCK_WRITE) {
        g_assert(len == req->len && len > 0);
    } else {
        g_assert(req->n_iov == 0);
    }
    g_queue_push_tail(&held, req);
}

static const PtaBlockClass fuzz_class = { .submit = fuzz_submit };
static PtaBlock block = {
    .klass = &fuzz_class,
    .filename = (char *)"fuzz",
    .driver = "fuzz",
    .aio = "none",
    .size = SECTORS * 512,
    .logical_size = 512,
    .physical_size = 512,
    .discard_align = 512,
};

static bool fuzz_realize(PtaDevice *dev, const void *config, GError **error)
{
    (void)config;
    return pta_virtio_blk_realize_with(dev, &block, "fuzz", 16, error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static PtaDeviceClass klass;
    static PtaDevice *dev;
    FuzzMachine *m = &machine;
    if (!dev) {
        fuzz_machine_init(m);
        klass = pta_virtio_blk_class;
        klass.realize = fuzz_realize;
        dev = pta_device_new(&klass, "disk0", &m->host, NULL, NULL);
        g_assert(dev != NULL);
    }
    FuzzInput in = { data, size };
    char *ram = pta_memory_range_host(m->host.memory, 0);
    block.logical_size = fuzz_take(&in, 1) & 1 ? 4096 : 512;
    block.size = block.logical_size * UINT64_C(125);
    memset(ram, 0, FUZZ_RAM);
    pta_device_start(dev);
    fuzz_start_driver(m);
    memcpy(ram, in.data, MIN(in.size, FUZZ_RAM));
    fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    fuzz_run(m);
    int error = 0;
    PtaBlockRequest *req;
    while ((req = g_queue_pop_head(&held)) != NULL) {
        pta_block_complete(&block, req, error);
        error = error ? 0 : -5;
    }
    pta_device_quiesce(dev);
    pta_device_reset(dev);
    return 0;
}
