/*
 * A network card with any rings, headers, frames and commands. The back end sees no frame that is too
 * short, too long or of another length than is said; it refuses some, and sends them back to the
 * guest; and whatever the guest does, the card lives.
 */
#include "device-fuzz.h"

#include "devices/net/offload.h"
#include "devices/virtio/net.h"
#include "qmp/gen/types.h"

static FuzzMachine machine;
static PtaNet *wire;
static unsigned n_sent;
static uint8_t last[PTA_NET_HEADER + PTA_NET_MAX_FRAME];
static size_t last_len;

static PtaNetSent fuzz_send(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n,
                            size_t len)
{
    size_t done = 0;
    size_t extra = net->vnet_header ? PTA_NET_HEADER : 0;
    g_assert(pair < net->max_pairs);
    g_assert(len >= PTA_NET_ETH_HEADER + extra && len <= PTA_NET_MAX_FRAME + extra);
    if (++n_sent % 5 == 0) {
        return PTA_NET_FULL;
    }
    for (unsigned i = 0; i < n; i++) {
        g_assert(iov[i].iov_len <= len - done);
        memcpy(last + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    g_assert(done == len);
    last_len = len;
    return PTA_NET_SENT;
}

static void fuzz_nothing(PtaNet *net)
{
    (void)net;
}

static void fuzz_ready(PtaNet *net, unsigned pair)
{
    g_assert(pair < net->max_pairs);
}

static void fuzz_configure(PtaNet *net, unsigned offloads, unsigned pairs)
{
    (void)offloads;
    g_assert(pairs >= 1 && pairs <= net->max_pairs);
}

static const PtaNetClass fuzz_class = {
    .instance_size = sizeof(PtaNet),
    .type = "fuzz",
    .send = fuzz_send,
    .configure = fuzz_configure,
    .start = fuzz_nothing,
    .ready = fuzz_ready,
    .free = fuzz_nothing,
};

static bool fuzz_realize(PtaDevice *dev, const void *config, GError **error)
{
    const bool *header = config;
    VirtioNetConfig cfg = { .mac = (char *)(uintptr_t) "52:54:00:12:34:56",
                            .queue_size = 16,
                            .offload = true };
    PtaNetParams params = { dev->id, dev->host->io_context, dev->host->base_dir, NULL, NULL };
    PtaNet *net = pta_net_alloc(&fuzz_class, &params);
    net->vnet_header = *header;
    net->offloads = UINT_MAX;
    net->max_pairs = 2;
    pta_net_set_link(net, true);
    if (!*header) {
        wire = net;
    }
    return pta_virtio_net_realize_with(dev, net, &cfg, error);
}

/* Rings of 16 entries: each queue has 0x400 bytes, the five of them the first 5 KiB. */
static void start_driver(FuzzMachine *m, uint64_t refused)
{
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 0);
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 1);
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 3);
    for (uint32_t page = 0; page < 2; page++) {
        fuzz_w32(m, PTA_VIRTIO_MMIO_DEVICE_FEATURES_SEL, page);
        fuzz_w32(m, PTA_VIRTIO_MMIO_DRIVER_FEATURES_SEL, page);
        fuzz_w32(m, PTA_VIRTIO_MMIO_DRIVER_FEATURES,
                 fuzz_r32(m, PTA_VIRTIO_MMIO_DEVICE_FEATURES) &
                     ~(page == 0 ? (uint32_t)refused : 0));
    }
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 11);
    for (uint32_t q = 0; q < 5; q++) {
        fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_SEL, q);
        fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_NUM, 16);
        fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_DESC_LOW, 0x400 * q);
        fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_DRIVER_LOW, 0x400 * q + 0x100);
        fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_DEVICE_LOW, 0x400 * q + 0x200);
        fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_READY, 1);
    }
    fuzz_w32(m, PTA_VIRTIO_MMIO_STATUS, 15);
}

static void offload_alone(const uint8_t *data, size_t size)
{
    PtaNetHeader hdr;
    if (size < sizeof(hdr)) {
        return;
    }
    memcpy(&hdr, data, sizeof(hdr));
    g_autofree uint8_t *frame = g_memdup2(data + sizeof(hdr), size - sizeof(hdr));
    if (frame) {
        pta_offload_is_valid(frame, size - sizeof(hdr));
        pta_offload_checksum(&hdr, frame, size - sizeof(hdr));
    }
}

/* Input: features that are refused (4 bytes), steps (1 + n bytes), memory. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static PtaDeviceClass klass;
    static PtaDevice *dev;
    FuzzMachine *m = &machine;
    if (!dev) {
        static const bool header = false;
        fuzz_machine_init(m);
        klass = pta_virtio_net_class;
        klass.realize = fuzz_realize;
        dev = pta_device_new(&klass, "net0", &m->host, &header, NULL);
        g_assert(dev != NULL);
    }
    FuzzInput in = { data, size };
    uint32_t refused = (uint32_t)fuzz_take(&in, 4);
    unsigned n_steps = (unsigned)fuzz_take(&in, 1) % 32;
    FuzzInput steps = { in.data, MIN(n_steps, in.size) };
    in.data += steps.size;
    in.size -= steps.size;
    char *ram = pta_memory_range_host(m->host.memory, 0);
    offload_alone(in.data, in.size);
    memset(ram, 0, FUZZ_RAM);
    n_sent = 0;
    last_len = 0;
    wire->vnet_header = refused & 1u << 31; /* a back end of either kind */
    pta_device_start(dev);
    start_driver(m, refused);
    memcpy(ram, in.data, MIN(in.size, FUZZ_RAM));
    while (steps.size > 0) {
        uint8_t step = (uint8_t)fuzz_take(&steps, 1);
        switch (step >> 5) {
        case 0: /* a frame comes: the last that went, or a part of memory */
            wire->frontend->receive(wire->frontend_opaque, step & 1, last, last_len);
            break;
        case 1:
            wire->frontend->receive(wire->frontend_opaque, step & 1, (const uint8_t *)ram + 0x2000,
                                    (step & 31) * 64u);
            break;
        case 2:
            wire->frontend->writable(wire->frontend_opaque);
            break;
        case 3:
            pta_net_set_link(wire, step & 1);
            break;
        case 4:
            pta_virtio_net_announce(dev);
            break;
        default:
            fuzz_w32(m, PTA_VIRTIO_MMIO_QUEUE_NOTIFY, step & 7);
            fuzz_run(m);
            break;
        }
    }
    rx_filter_info_free(pta_virtio_net_rx_filter(dev));
    pta_device_quiesce(dev);
    json_t *state = pta_device_save(dev);
    json_decref(state);
    pta_device_reset(dev);
    return 0;
}
