/* virtio-net through its registers and rings, with a back end that the test plays: what is sent and
 * received, filtered, limited, cut up; hostile drivers; saved and restored. */
#include "fixture.h"

#include "devices/devices.h"
#include "devices/net/offload.h"
#include "devices/virtio/net-private.h"
#include "qmp/gen/types.h"

#define BASE   FIX_MMIO_BASE
#define MAC    "52:54:00:12:34:56"
#define SIZE   64
#define TX_BUF (DRV_DATA)
#define RX_BUF (DRV_DATA + 0x40000)
#define CTRL   (DRV_DATA + 0x80000)
#define HDR    PTA_NET_HEADER

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

/* ---- a back end ---- */

typedef struct Wire {
    PtaNet parent;
    GPtrArray *sent; /* of GBytes */
    unsigned room;   /* frames that it takes before it is full */
    unsigned offloads, pairs;
    unsigned n_ready;
} Wire;

static PtaNetSent wire_send(PtaNet *net, unsigned pair, const struct iovec *iov, unsigned n,
                            size_t len)
{
    (void)pair;
    Wire *w = (Wire *)net;
    g_autoptr(GByteArray) frame = g_byte_array_new();
    if (w->room == 0) {
        return PTA_NET_FULL;
    }
    w->room--;
    for (unsigned i = 0; i < n; i++) {
        g_byte_array_append(frame, iov[i].iov_base, (guint)iov[i].iov_len);
    }
    assert_int_equal(frame->len, len);
    g_ptr_array_add(w->sent, g_byte_array_free_to_bytes(g_steal_pointer(&frame)));
    return PTA_NET_SENT;
}

static void wire_configure(PtaNet *net, unsigned offloads, unsigned pairs)
{
    ((Wire *)net)->offloads = offloads;
    ((Wire *)net)->pairs = pairs;
}

static void wire_start(PtaNet *net)
{
    (void)net;
}

static void wire_ready(PtaNet *net, unsigned pair)
{
    (void)pair;
    ((Wire *)net)->n_ready++;
}

static void wire_free(PtaNet *net)
{
    g_ptr_array_unref(((Wire *)net)->sent);
}

static const PtaNetClass wire_class = {
    .instance_size = sizeof(Wire),
    .type = "wire",
    .send = wire_send,
    .configure = wire_configure,
    .start = wire_start,
    .ready = wire_ready,
    .free = wire_free,
};

/* ---- a card ---- */

typedef struct Card {
    Fixture f;
    Driver rx, tx, ctrl;
    PtaDevice *dev;
    Wire *wire;
    uint16_t ctrl_head;
} Card;

typedef struct CardConfig {
    VirtioNetConfig net;
    bool vnet_header;
    unsigned pairs;
    unsigned offloads;
} CardConfig;

static Wire *next_wire;

static bool card_realize(PtaDevice *dev, const void *config, GError **error)
{
    const CardConfig *cfg = config;
    PtaNetParams params = { dev->id, dev->host->io_context, dev->host->base_dir, NULL, NULL };
    Wire *w = (Wire *)pta_net_alloc(&wire_class, &params);
    w->sent = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    w->room = UINT_MAX;
    w->parent.vnet_header = cfg->vnet_header;
    w->parent.max_pairs = cfg->pairs ? cfg->pairs : 1;
    w->parent.offloads = cfg->offloads;
    pta_net_set_link(&w->parent, true);
    next_wire = w;
    return pta_virtio_net_realize_with(dev, &w->parent, &cfg->net, error);
}

static CardConfig config_default(void)
{
    return (CardConfig){ .net = {
                             .mac = (char *)(uintptr_t)MAC, .queue_size = SIZE, .offload = true } };
}

static PtaDevice *card_new(Fixture *f, const char *id, const CardConfig *cfg)
{
    static PtaDeviceClass klass;
    g_autoptr(GError) error = NULL;
    klass = pta_virtio_net_class;
    klass.realize = card_realize;
    PtaDevice *dev = pta_device_new(&klass, id, &f->host, cfg, &error);
    if (!dev) {
        fail_msg("%s", error->message);
    }
    return dev;
}

static void card_start_driver(Card *c, uint64_t without, unsigned pairs)
{
    Driver d;
    drv_negotiate(&d, &c->f, BASE, without);
    c->rx = c->tx = c->ctrl = d;
    drv_setup_queue(&c->rx, 0, SIZE);
    drv_setup_queue(&c->tx, 1, SIZE);
    drv_setup_queue(&c->ctrl, 2 * pairs, SIZE);
    fix_w32(&c->f, BASE + R(STATUS), 15);
    assert_int_equal(fix_r32(&c->f, BASE + R(STATUS)), 15);
    fix_run(&c->f);
}

static void card_open(Card *c, const CardConfig *cfg, uint64_t without)
{
    memset(c, 0, sizeof(*c));
    fix_new(&c->f);
    c->dev = card_new(&c->f, "net0", cfg);
    c->wire = next_wire;
    pta_device_start(c->dev);
    bool mq = cfg->pairs > 1 && !(without >> PTA_NET_F_MQ & 1);
    card_start_driver(c, without, mq ? cfg->pairs : 1);
}

static void card_close(Card *c)
{
    pta_device_free(c->dev);
    fix_free(&c->f);
}

static Net *net(Card *c)
{
    return (Net *)c->dev;
}

static const uint8_t *sent(Card *c, unsigned i, size_t *len)
{
    assert_true(i < c->wire->sent->len);
    return g_bytes_get_data(g_ptr_array_index(c->wire->sent, i), len);
}

/* One descriptor with header and frame. */
static void offer_tx(Card *c, const PtaNetHeader *hdr, const void *frame, size_t len)
{
    pta_memory_write(c->f.memory, TX_BUF, hdr, sizeof(*hdr));
    pta_memory_write(c->f.memory, TX_BUF + HDR, frame, len);
    drv_desc(&c->tx, 0, TX_BUF, (uint32_t)(HDR + len), 0, 0);
    drv_offer(&c->tx, 0);
    drv_kick(&c->tx);
}

static void tx(Card *c, const PtaNetHeader *hdr, const void *frame, size_t len)
{
    uint32_t used;
    offer_tx(c, hdr, frame, len);
    assert_int_equal(drv_wait(&c->tx, &used), 0);
    assert_int_equal(used, 0);
}

static void offer_rx(Card *c, uint16_t i, uint32_t len)
{
    drv_desc(&c->rx, i, RX_BUF + 0x1000u * i, len, D_WRITE, 0);
    drv_offer(&c->rx, i);
}

static bool rx(Card *c, const void *frame, size_t len)
{
    return c->wire->parent.frontend->receive(c->wire->parent.frontend_opaque, 0, frame, len);
}

static uint8_t ctrl(Card *c, uint8_t klass, uint8_t command, const void *data, uint32_t len)
{
    uint8_t head[2] = { klass, command };
    uint8_t ack = 0xee;
    pta_memory_write(c->f.memory, CTRL, head, 2);
    pta_memory_write(c->f.memory, CTRL + 0x100, data, len);
    pta_memory_write(c->f.memory, CTRL + 0x10, &ack, 1);
    drv_desc(&c->ctrl, 0, CTRL, 2, D_NEXT, len ? 1 : 2);
    if (len) {
        drv_desc(&c->ctrl, 1, CTRL + 0x100, len, D_NEXT, 2);
    }
    drv_desc(&c->ctrl, 2, CTRL + 0x10, 1, D_WRITE, 0);
    drv_offer(&c->ctrl, 0);
    drv_kick(&c->ctrl);
    drv_wait(&c->ctrl, NULL);
    pta_memory_read(c->f.memory, CTRL + 0x10, &ack, 1);
    return ack;
}

/* ---- frames ---- */

static void put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

/* An IPv4 or IPv6 TCP segment; headers are 54 or 74 bytes long. */
static size_t make_tcp(uint8_t *frame, bool ipv6, size_t payload, uint8_t flags)
{
    size_t l4 = ipv6 ? 54 : 34;
    memset(frame, 0, l4 + 20);
    memcpy(frame, mac, 6);
    memcpy(frame + 6, "\x52\x54\x00\x00\x00\x09", 6);
    if (ipv6) {
        put16(frame + 12, 0x86dd);
        frame[14] = 0x60;
        put16(frame + 18, (unsigned)(20 + payload));
        frame[20] = 6;
        memset(frame + 22, 0xfe, 32);
    } else {
        put16(frame + 12, 0x0800);
        frame[14] = 0x45;
        put16(frame + 16, (unsigned)(40 + payload));
        put16(frame + 18, 0x1234);
        frame[22] = 64;
        frame[23] = 6;
        memcpy(frame + 26, "\x0a\x00\x00\x01\x0a\x00\x00\x02", 8);
    }
    memcpy(frame + l4, "\x12\x34\x00\x50\xff\xff\xff\x00\x00\x00\x00\x01", 12);
    frame[l4 + 12] = 0x50;
    frame[l4 + 13] = flags;
    for (size_t i = 0; i < payload; i++) {
        frame[l4 + 20 + i] = (uint8_t)(i * 13 + i / 256);
    }
    return l4 + 20 + payload;
}

/* Puts the pseudo header's sum where a driver leaves it. */
static void put_pseudo(uint8_t *frame, bool ipv6, size_t len)
{
    size_t l4 = ipv6 ? 54 : 34;
    const uint8_t *p = ipv6 ? frame + 22 : frame + 26;
    uint32_t sum = 6 + (uint32_t)(len - l4);
    for (size_t i = 0; i < (ipv6 ? 32u : 8u); i += 2) {
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    put16(frame + l4 + 16, (sum & 0xffff) + (sum >> 16));
}

/* ---- cases ---- */

static void configuration(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    cfg.net.has_mtu = true;
    cfg.net.mtu = 1400;
    card_open(&c, &cfg, 0);
    assert_int_equal(fix_r32(&c.f, BASE + R(DEVICE_ID)), 1);
    uint64_t value = 0;
    for (unsigned i = 0; i < 6; i++) {
        assert_true(pta_bus_read(c.f.mmio, BASE + R(CONFIG) + i, 1, &value));
        assert_int_equal(value, mac[i]);
    }
    assert_true(pta_bus_read(c.f.mmio, BASE + R(CONFIG) + PTA_NET_CFG_STATUS, 2, &value));
    assert_int_equal(value, PTA_NET_S_LINK_UP);
    assert_true(pta_bus_read(c.f.mmio, BASE + R(CONFIG) + PTA_NET_CFG_MTU, 2, &value));
    assert_int_equal(value, 1400);
    card_close(&c);
}

static void addresses_that_cannot_be(void **unused)
{
    (void)unused;
    static const char *const bad[] = { "",
                                       "52:54:00:12:34",
                                       "52:54:00:12:34:5",
                                       "53:54:00:12:34:56",
                                       "525400123456",
                                       "52:54:00:12:34:5g",
                                       " 2:54:00:12:34:56" };
    static PtaDeviceClass klass;
    klass = pta_virtio_net_class;
    klass.realize = card_realize;
    Fixture f;
    fix_new(&f);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        CardConfig cfg = config_default();
        cfg.net.mac = (char *)(uintptr_t)bad[i];
        assert_null(pta_device_new(&klass, "net0", &f.host, &cfg, &error));
        assert_int_equal(error->code, PTA_ERROR_BAD_DESCRIPTION);
    }
    fix_free(&f);
}

static void sends_in_any_framing(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    uint8_t frame[1514];
    size_t len = make_tcp(frame, false, sizeof(frame) - 54, 0x10);
    PtaNetHeader hdr = { 0 };
    card_open(&c, &cfg, 0);
    tx(&c, &hdr, frame, len);
    /* The header in two parts, the frame in three. */
    static const unsigned cuts[] = { 5, 9, 100, 1000, 1526 };
    uint64_t at = 0;
    for (uint16_t i = 0; i < G_N_ELEMENTS(cuts); i++) {
        drv_desc(&c.tx, i, TX_BUF + at, (uint32_t)(cuts[i] - at),
                 i + 1u < G_N_ELEMENTS(cuts) ? D_NEXT : 0, i + 1);
        at = cuts[i];
    }
    drv_offer(&c.tx, 0);
    drv_kick(&c.tx);
    drv_wait(&c.tx, NULL);
    for (unsigned i = 0; i < 2; i++) {
        size_t n;
        const uint8_t *got = sent(&c, i, &n);
        assert_int_equal(n, len);
        assert_memory_equal(got, frame, len);
    }
    assert_int_equal(net(&c)->pairs[0].stats.tx_packets, 2);
    assert_int_equal(net(&c)->pairs[0].stats.tx_bytes, 2 * len);
    card_close(&c);
}

static void many_pieces(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    card_open(&c, &cfg, 0);
    pta_memory_fill(c.f.memory, TX_BUF, 0, 4096);
    /* An indirect table of more pieces than are handed on one by one. */
    uint64_t table = CTRL;
    for (uint16_t i = 0; i < 200; i++) {
        drv_desc_at(&c.tx, table, i, TX_BUF + 6u * i, 6, i < 199 ? D_NEXT : 0, i + 1);
    }
    drv_desc(&c.tx, 0, table, 200 * 16, D_INDIRECT, 0);
    drv_offer(&c.tx, 0);
    drv_kick(&c.tx);
    drv_wait(&c.tx, NULL);
    size_t n;
    sent(&c, 0, &n);
    assert_int_equal(n, 200 * 6 - HDR);
    card_close(&c);
}

static void fills_in_checksums(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    card_open(&c, &cfg, 0);
    for (unsigned ipv6 = 0; ipv6 < 2; ipv6++) {
        for (size_t payload = 0; payload < 40; payload++) {
            uint8_t frame[200];
            size_t len = make_tcp(frame, ipv6, payload, 0x10);
            PtaNetHeader hdr = { .flags = 1, .csum_start = ipv6 ? 54 : 34, .csum_offset = 16 };
            put_pseudo(frame, ipv6, len);
            assert_false(pta_offload_is_valid(frame, len));
            tx(&c, &hdr, frame, len);
            size_t n;
            const uint8_t *got = sent(&c, c.wire->sent->len - 1, &n);
            assert_int_equal(n, len);
            assert_true(pta_offload_is_valid(got, n));
        }
    }
    card_close(&c);
}

static void check_segments(Card *c, bool ipv6, const uint8_t *frame, size_t len, size_t mss)
{
    size_t headers = ipv6 ? 74 : 54;
    size_t l4 = headers - 20;
    size_t done = 0;
    for (unsigned i = 0; i < c->wire->sent->len; i++) {
        size_t n;
        const uint8_t *got = sent(c, i, &n);
        bool last = i + 1 == c->wire->sent->len;
        assert_true(n == headers + mss || (last && n > headers));
        assert_true(pta_offload_is_valid(got, n));
        assert_memory_equal(got + headers, frame + headers + done, n - headers);
        uint32_t seq;
        memcpy(&seq, got + l4 + 4, sizeof(seq));
        seq = GUINT32_FROM_BE(seq);
        assert_int_equal(seq, 0xffffff00u + (uint32_t)done);
        assert_int_equal(got[l4 + 13], 0x10 | (last ? 0x09 : 0) | (i == 0 ? 0x80 : 0));
        if (!ipv6) {
            assert_int_equal(got[18] << 8 | got[19], 0x1234 + i);
        }
        done += n - headers;
    }
    assert_int_equal(done, len - headers);
}

static void cuts_large_segments(void **unused)
{
    (void)unused;
    g_autofree uint8_t *frame = g_malloc(PTA_NET_MAX_FRAME);
    static const size_t payloads[] = { 1, 1447, 1448, 1449, 20000, 60000 };
    for (unsigned k = 0; k < 2 * G_N_ELEMENTS(payloads); k++) {
        Card c;
        CardConfig cfg = config_default();
        bool ipv6 = k & 1;
        size_t len = make_tcp(frame, ipv6, payloads[k / 2], 0x99); /* CWR, ACK, PSH, FIN */
        PtaNetHeader hdr = { .flags = 1,
                             .gso_type = (ipv6 ? 4 : 1) | PTA_NET_GSO_ECN,
                             .gso_size = 1448,
                             .csum_start = ipv6 ? 54 : 34,
                             .csum_offset = 16 };
        put_pseudo(frame, ipv6, len);
        card_open(&c, &cfg, 0);
        tx(&c, &hdr, frame, len);
        check_segments(&c, ipv6, frame, len, 1448);
        card_close(&c);
        /* The same, but the back end is full each third frame: none is lost or sent twice. */
        card_open(&c, &cfg, 0);
        c.wire->room = 3;
        offer_tx(&c, &hdr, frame, len);
        while (drv_used_idx(&c.tx) == 0) {
            fix_run(&c.f);
            c.wire->room = 3;
            c.wire->parent.frontend->writable(c.wire->parent.frontend_opaque);
        }
        check_segments(&c, ipv6, frame, len, 1448);
        card_close(&c);
    }
}

/* More frames than any driver means: each takes the host's time. */
static void crumbs_are_not_cut(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    g_autofree uint8_t *frame = g_malloc0(54 + 14000);
    size_t len = make_tcp(frame, false, 14000, 0x10);
    PtaNetHeader hdr = { .flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16 };
    card_open(&c, &cfg, 0);
    hdr.gso_size = htole16(10);
    tx(&c, &hdr, frame, len);
    assert_int_equal(net(&c)->pairs[0].stats.tx_dropped, 1);
    hdr.gso_size = htole16(11);
    tx(&c, &hdr, frame, len);
    assert_int_equal(net(&c)->pairs[0].stats.tx_dropped, 1);
    assert_int_equal(c.wire->sent->len, 1273); /* 14000 / 11 */
    card_close(&c);
}

static void headers_that_lie(void **unused)
{
    (void)unused;
    static const PtaNetHeader lies[] = {
        { .flags = 1, .csum_start = 0, .csum_offset = 0 },
        { .flags = 1, .csum_start = 34, .csum_offset = 2000 },
        { .flags = 1, .csum_start = 65535, .csum_offset = 65535 },
        { .flags = 1, .gso_type = 1, .gso_size = 0, .csum_start = 34, .csum_offset = 16 },
        { .flags = 0, .gso_type = 1, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
        { .flags = 1, .gso_type = 1, .gso_size = 100, .csum_start = 30, .csum_offset = 16 },
        { .flags = 1, .gso_type = 1, .gso_size = 100, .csum_start = 500, .csum_offset = 16 },
        { .flags = 1, .gso_type = 1, .gso_size = 100, .csum_start = 34, .csum_offset = 6 },
        { .flags = 1, .gso_type = 4, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
        { .flags = 1, .gso_type = 3, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
        { .flags = 1, .gso_type = 0x7f, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
        { .flags = 1, .gso_type = 0xff, .gso_size = 100, .csum_start = 34, .csum_offset = 16 },
    };
    Card c;
    CardConfig cfg = config_default();
    uint8_t frame[400];
    size_t len = make_tcp(frame, false, sizeof(frame) - 54, 0x10);
    card_open(&c, &cfg, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
        tx(&c, &lies[i], frame, len);
        assert_int_equal(c.wire->sent->len, 0);
        assert_int_equal(net(&c)->pairs[0].stats.tx_dropped, i + 1);
    }
    /* A TCP header that is said to be longer than the frame, or shorter than one. */
    PtaNetHeader hdr = { 1, 1, 0, 100, 34, 16, 0 };
    frame[34 + 12] = 0xf0;
    tx(&c, &hdr, frame, 60);
    frame[34 + 12] = 0x40;
    tx(&c, &hdr, frame, len);
    frame[14] = 0x4f; /* so is its IP header */
    tx(&c, &hdr, frame, len);
    /* Frames that are none. */
    hdr = (PtaNetHeader){ 0 };
    tx(&c, &hdr, frame, 0);
    tx(&c, &hdr, frame, 13);
    assert_int_equal(c.wire->sent->len, 0);
    tx(&c, &hdr, frame, 14);
    assert_int_equal(c.wire->sent->len, 1);
    assert_false(drv_needs_reset(&c.tx));
    card_close(&c);
}

static void offloads_that_were_not_accepted(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    uint8_t frame[400];
    size_t len = make_tcp(frame, false, sizeof(frame) - 54, 0x10);
    PtaNetHeader hdr = { 1, 0, 0, 0, 34, 16, 0 };
    card_open(&c, &cfg, UINT64_C(1) << PTA_NET_F_CSUM | UINT64_C(1) << PTA_NET_F_HOST_TSO4);
    tx(&c, &hdr, frame, len);
    hdr = (PtaNetHeader){ 0, 1, 0, 100, 34, 16, 0 };
    tx(&c, &hdr, frame, len);
    assert_int_equal(c.wire->sent->len, 0);
    card_close(&c);
    cfg.net.offload = false;
    card_open(&c, &cfg, 0);
    assert_int_equal(net(&c)->parent.features & 0x7f83, 0);
    card_close(&c);
}

static void a_back_end_with_headers(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    cfg.vnet_header = true;
    cfg.offloads = PTA_NET_CSUM | PTA_NET_TSO4;
    uint8_t frame[2000];
    size_t len = make_tcp(frame, false, sizeof(frame) - 54, 0x10);
    PtaNetHeader hdr = { 0xff, 1, 54, 500, 34, 16, 0xffff };
    card_open(&c, &cfg, 0);
    assert_int_equal(c.wire->offloads, PTA_NET_CSUM | PTA_NET_TSO4);
    tx(&c, &hdr, frame, len);
    size_t n;
    const uint8_t *got = sent(&c, 0, &n);
    assert_int_equal(n, HDR + len);
    PtaNetHeader clean = { 1, 1, 54, 500, 34, 16, 0 };
    assert_memory_equal(got, &clean, HDR);
    assert_memory_equal(got + HDR, frame, len);
    /* And what comes brings its own. */
    g_autofree uint8_t *with = g_malloc(HDR + len);
    memcpy(with, &clean, HDR);
    memcpy(with + HDR, frame, len);
    offer_rx(&c, 0, 4096);
    assert_true(rx(&c, with, HDR + len));
    uint8_t seen[HDR];
    pta_memory_read(c.f.memory, RX_BUF, seen, HDR);
    clean.num_buffers = 1;
    assert_memory_equal(seen, &clean, HDR);
    assert_true(rx(&c, with, HDR + 13)); /* too short: dropped */
    assert_true(rx(&c, with, 5));
    assert_int_equal(net(&c)->pairs[0].stats.rx_dropped, 2);
    card_close(&c);
}

static void receives(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    uint8_t frame[1000];
    uint8_t seen[1000 + HDR];
    size_t len = make_tcp(frame, false, sizeof(frame) - 54, 0x10);
    uint32_t used;
    card_open(&c, &cfg, 0);
    /* There is no buffer: it stays with the back end, until the driver says that there is. */
    assert_false(rx(&c, frame, len));
    unsigned n_ready = c.wire->n_ready;
    offer_rx(&c, 0, 300);
    drv_kick(&c.rx);
    fix_run(&c.f);
    assert_int_equal(c.wire->n_ready, n_ready + 1);
    assert_false(rx(&c, frame, len)); /* too little */
    offer_rx(&c, 1, 300);
    offer_rx(&c, 2, 4000);
    drv_kick(&c.rx);
    fix_run(&c.f);
    assert_int_equal(c.wire->n_ready, n_ready + 2);
    assert_true(rx(&c, frame, len));
    assert_int_equal(drv_wait(&c.rx, &used), 0);
    assert_int_equal(used, 300);
    assert_int_equal(drv_wait(&c.rx, &used), 1);
    assert_int_equal(used, 300);
    assert_int_equal(drv_wait(&c.rx, &used), 2);
    assert_int_equal(used, HDR + len - 600);
    for (unsigned i = 0; i < 3; i++) {
        pta_memory_read(c.f.memory, RX_BUF + 0x1000 * i, seen + 300 * i, i < 2 ? 300 : used);
    }
    const PtaNetHeader *hdr = (const void *)seen;
    assert_int_equal(hdr->num_buffers, 3);
    assert_int_equal(hdr->flags, 0); /* its checksum is wrong */
    assert_memory_equal(seen + HDR, frame, len);
    assert_int_equal(c.f.irq[16], 1);
    card_close(&c);
}

static void a_good_checksum_is_said(void **unused)
{
    (void)unused;
    for (unsigned without = 0; without < 2; without++) {
        Card c;
        CardConfig cfg = config_default();
        uint8_t frame[100];
        size_t len = make_tcp(frame, false, sizeof(frame) - 54, 0x10);
        PtaNetHeader hdr = { 1, 0, 0, 0, 34, 16, 0 };
        put_pseudo(frame, false, len);
        assert_true(pta_offload_checksum(&hdr, frame, len));
        card_open(&c, &cfg, without ? UINT64_C(1) << PTA_NET_F_GUEST_CSUM : 0);
        offer_rx(&c, 0, 400);
        assert_true(rx(&c, frame, len));
        pta_memory_read(c.f.memory, RX_BUF, &hdr, sizeof(hdr));
        assert_int_equal(hdr.flags, without ? 0 : PTA_NET_HDR_DATA_VALID);
        card_close(&c);
    }
}

static void buffers_that_are_not_merged(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    uint8_t frame[500];
    size_t len = make_tcp(frame, false, sizeof(frame) - 54, 0x10);
    card_open(&c, &cfg, UINT64_C(1) << PTA_NET_F_MRG_RXBUF);
    offer_rx(&c, 0, 300);
    offer_rx(&c, 1, 300);
    assert_true(rx(&c, frame, len)); /* dropped: it will never fit */
    assert_int_equal(net(&c)->pairs[0].stats.rx_dropped, 1);
    assert_int_equal(drv_used_idx(&c.rx), 0);
    assert_true(rx(&c, frame, 288));
    assert_int_equal(drv_used_idx(&c.rx), 1);
    card_close(&c);
}

static void an_announced_frame_is_asked_for_once_more(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    uint8_t frame[60] = { 0 };
    memcpy(frame, mac, 6);
    card_open(&c, &cfg, UINT64_C(1) << PTA_VIRTIO_F_EVENT_IDX);
    assert_false(rx(&c, frame, sizeof(frame)));
    uint16_t flags;
    assert_int_equal(pta_memory_load_u16(c.f.memory, c.rx.used, &flags), 0);
    assert_int_equal(flags, 0); /* the driver has to notify */
    card_close(&c);
}

static void hostile_rings(void **unused)
{
    (void)unused;
    CardConfig cfg = config_default();
    uint8_t frame[60] = { 0 };
    memcpy(frame, mac, 6);
    for (unsigned kind = 0; kind < 9; kind++) {
        Card c;
        card_open(&c, &cfg, 0);
        switch (kind) {
        case 0: /* a frame without a header */
            drv_desc(&c.tx, 0, TX_BUF, 11, 0, 0);
            break;
        case 1: /* one that can only be written to */
            drv_desc(&c.tx, 0, TX_BUF, 100, D_WRITE, 0);
            break;
        case 2: /* a loop */
            drv_desc(&c.tx, 0, TX_BUF, 100, D_NEXT, 0);
            break;
        case 3: /* no bytes */
            drv_desc(&c.tx, 0, TX_BUF, 0, 0, 0);
            break;
        case 4: /* beyond RAM */
            drv_desc(&c.tx, 0, FIX_RAM - 20, 100, 0, 0);
            break;
        case 5: /* a successor that is not there */
            drv_desc(&c.tx, 0, TX_BUF, 100, D_NEXT, SIZE);
            break;
        case 6: /* a receive buffer that cannot hold a header */
            offer_rx(&c, 0, 11);
            assert_false(rx(&c, frame, sizeof(frame)));
            assert_true(drv_needs_reset(&c.rx));
            break;
        case 7: /* a command without room for its answer */
            drv_desc(&c.ctrl, 0, CTRL, 2, 0, 0);
            drv_offer(&c.ctrl, 0);
            drv_kick(&c.ctrl);
            break;
        case 8: /* a receive buffer beyond RAM */
            drv_desc(&c.rx, 0, FIX_RAM, 4096, D_WRITE, 0);
            drv_offer(&c.rx, 0);
            assert_false(rx(&c, frame, sizeof(frame)));
            break;
        }
        if (kind < 6) {
            drv_offer(&c.tx, 0);
            drv_kick(&c.tx);
        }
        fix_run(&c.f);
        assert_true(drv_needs_reset(&c.tx));
        assert_int_equal(c.wire->sent->len, 0);
        assert_false(rx(&c, frame, sizeof(frame)));
        /* A reset cures it. */
        card_start_driver(&c, 0, 1);
        offer_rx(&c, 0, 400);
        assert_true(rx(&c, frame, sizeof(frame)));
        PtaNetHeader hdr = { 0 };
        tx(&c, &hdr, frame, sizeof(frame));
        assert_int_equal(c.wire->sent->len, 1);
        card_close(&c);
    }
}

static void a_huge_frame(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    card_open(&c, &cfg, 0);
    drv_desc(&c.tx, 0, TX_BUF, 0x100000, 0, 0);
    drv_offer(&c.tx, 0);
    drv_kick(&c.tx);
    drv_wait(&c.tx, NULL);
    assert_int_equal(net(&c)->pairs[0].stats.tx_dropped, 1);
    assert_int_equal(c.wire->sent->len, 0);
    card_close(&c);
}

static void tiny_receive_buffers(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    g_autofree uint8_t *frame = g_malloc0(60000);
    memcpy(frame, mac, 6);
    card_open(&c, &cfg, 0);
    for (uint16_t i = 0; i < SIZE; i++) {
        offer_rx(&c, i, i == 0 ? 12 : 1);
    }
    assert_true(rx(&c, frame, 60000)); /* dropped: no more buffers can come */
    assert_int_equal(net(&c)->pairs[0].stats.rx_dropped, 1);
    assert_int_equal(drv_used_idx(&c.rx), 0);
    assert_true(rx(&c, frame, 14) && drv_used_idx(&c.rx) == 15);
    assert_false(drv_needs_reset(&c.rx));
    card_close(&c);
}

static void a_full_back_end(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    uint8_t frame[60] = { 0 };
    PtaNetHeader hdr = { 0 };
    card_open(&c, &cfg, 0);
    c.wire->room = 0;
    offer_tx(&c, &hdr, frame, sizeof(frame));
    fix_run(&c.f);
    assert_int_equal(drv_used_idx(&c.tx), 0);
    drv_kick(&c.tx);
    fix_run(&c.f);
    assert_int_equal(drv_used_idx(&c.tx), 0);
    /* What waits survives being saved and restored in place. */
    pta_device_quiesce(c.dev);
    json_t *state = pta_device_save(c.dev);
    pta_device_reset(c.dev);
    assert_true(pta_device_restore(c.dev, state, NULL));
    json_decref(state);
    c.wire->room = 1;
    pta_device_start(c.dev);
    drv_wait(&c.tx, NULL);
    assert_int_equal(c.wire->sent->len, 1);
    card_close(&c);
}

static void limits(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    TokenBucketConfig ops = { .size = 2, .refill_time = 100 };
    RateLimitConfig limit = { .ops = &ops };
    cfg.net.tx_rate_limit = &limit;
    cfg.net.rx_rate_limit = &limit;
    uint8_t frame[60] = { 0 };
    memcpy(frame, mac, 6);
    PtaNetHeader hdr = { 0 };
    card_open(&c, &cfg, 0);
    int64_t begin = g_get_monotonic_time();
    for (unsigned i = 0; i < 6; i++) { /* two at once, and then one each 50 ms */
        tx(&c, &hdr, frame, sizeof(frame));
    }
    assert_true(g_get_monotonic_time() - begin >= 195000);
    assert_int_equal(c.wire->sent->len, 6);
    for (uint16_t i = 0; i < 4; i++) {
        offer_rx(&c, i, 400);
    }
    assert_true(rx(&c, frame, sizeof(frame)));
    assert_true(rx(&c, frame, sizeof(frame)));
    unsigned n_ready = c.wire->n_ready;
    assert_false(rx(&c, frame, sizeof(frame)));
    while (c.wire->n_ready == n_ready) {
        g_main_context_iteration(c.f.context, true);
    }
    assert_true(rx(&c, frame, sizeof(frame)));
    card_close(&c);
}

static void the_link(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    uint8_t frame[60] = { 0 };
    memcpy(frame, mac, 6);
    PtaNetHeader hdr = { 0 };
    card_open(&c, &cfg, 0);
    uint32_t generation = fix_r32(&c.f, BASE + R(CONFIG_GENERATION));
    pta_virtio_net_set_link(c.dev, false);
    assert_int_equal(net(&c)->state.status, 0);
    assert_int_equal(fix_r32(&c.f, BASE + R(INTERRUPT_STATUS)) & 2, 2);
    assert_int_equal(fix_r32(&c.f, BASE + R(CONFIG_GENERATION)), generation + 1);
    tx(&c, &hdr, frame, sizeof(frame));
    assert_int_equal(c.wire->sent->len, 0);
    offer_rx(&c, 0, 400);
    assert_true(rx(&c, frame, sizeof(frame)));
    assert_int_equal(drv_used_idx(&c.rx), 0);
    pta_net_set_link(&c.wire->parent, false);
    pta_virtio_net_set_link(c.dev, true);
    assert_int_equal(net(&c)->state.status, 0);
    pta_net_set_link(&c.wire->parent, true);
    assert_int_equal(net(&c)->state.status, 1);
    assert_int_equal(fix_r32(&c.f, BASE + R(CONFIG_GENERATION)), generation + 2);
    /* While it stands still, nothing changes. */
    pta_device_quiesce(c.dev);
    pta_net_set_link(&c.wire->parent, false);
    assert_int_equal(net(&c)->state.status, 1);
    pta_device_start(c.dev);
    assert_int_equal(net(&c)->state.status, 0);
    pta_net_set_link(&c.wire->parent, true);
    /* The driver is asked to tell of itself. */
    assert_true(pta_virtio_net_announce(c.dev));
    assert_int_equal(net(&c)->state.status, 3);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_ANNOUNCE, 0, "", 0), 0);
    assert_int_equal(net(&c)->state.status, 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_ANNOUNCE, 0, "", 0), 1);
    card_close(&c);
}

static bool arrives(Card *c, const char *to, unsigned vlan)
{
    uint8_t frame[60] = { 0 };
    uint64_t before = net(c)->pairs[0].stats.rx_packets;
    for (unsigned i = 0; i < 6; i++) {
        frame[i] = (uint8_t)g_ascii_strtoull(to + 3 * (size_t)i, NULL, 16);
    }
    if (vlan) {
        put16(frame + 12, 0x8100);
        put16(frame + 14, vlan | 0x6000);
    }
    offer_rx(c, 0, 400);
    assert_true(rx(c, frame, sizeof(frame)));
    return net(c)->pairs[0].stats.rx_packets > before;
}

static void filters(void **unused)
{
    (void)unused;
    static const uint8_t on = 1, off = 0;
    static const char group[] = "01:00:5e:00:00:01", all[] = "ff:ff:ff:ff:ff:ff",
                      other[] = "52:54:00:00:00:99";
    Card c;
    CardConfig cfg = config_default();
    card_open(&c, &cfg, 0);
    assert_true(arrives(&c, other, 0)); /* promiscuous until the driver says otherwise */
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, PTA_NET_CTRL_RX_PROMISC, &off, 1), 0);
    assert_true(arrives(&c, MAC, 0));
    assert_true(arrives(&c, all, 0));
    assert_false(arrives(&c, other, 0));
    assert_false(arrives(&c, group, 0));
    uint8_t table[4 + 6 + 4 + 6] = { 1, 0, 0, 0, 0x52, 0x54, 0,    0, 0, 0x99,
                                     1, 0, 0, 0, 0x01, 0x00, 0x5e, 0, 0, 0x01 };
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MAC, PTA_NET_CTRL_MAC_TABLE_SET, table, sizeof(table)),
                     0);
    assert_true(arrives(&c, other, 0));
    assert_true(arrives(&c, group, 0));
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, PTA_NET_CTRL_RX_NOMULTI, &on, 1), 0);
    assert_false(arrives(&c, group, 0));
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, PTA_NET_CTRL_RX_NOUNI, &on, 1), 0);
    assert_false(arrives(&c, MAC, 0));
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, PTA_NET_CTRL_RX_NOBCAST, &on, 1), 0);
    assert_false(arrives(&c, all, 0));
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, PTA_NET_CTRL_RX_NOUNI, &off, 1), 0);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MAC, PTA_NET_CTRL_MAC_ADDR_SET, "\x52\x54\0\0\0\x77", 6),
                     0);
    assert_false(arrives(&c, MAC, 0));
    assert_true(arrives(&c, "52:54:00:00:00:77", 0));
    assert_int_equal(fix_r32(&c.f, BASE + R(CONFIG) + 4) & 0xffff, 0x7700);
    /* VLANs. */
    assert_false(arrives(&c, "52:54:00:00:00:77", 5));
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_VLAN, PTA_NET_CTRL_VLAN_ADD, "\x05\x00", 2), 0);
    assert_true(arrives(&c, "52:54:00:00:00:77", 5));
    assert_false(arrives(&c, "52:54:00:00:00:77", 6));
    RxFilterInfo *info = pta_virtio_net_rx_filter(c.dev);
    assert_int_equal(info->n_vlan_table, 1);
    assert_int_equal(info->vlan_table[0], 5);
    assert_string_equal(info->unicast_table[0], other);
    assert_string_equal(info->multicast_table[0], group);
    assert_int_equal(info->multicast, RX_STATE_NONE);
    rx_filter_info_free(info);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_VLAN, PTA_NET_CTRL_VLAN_DEL, "\x05\x00", 2), 0);
    assert_false(arrives(&c, "52:54:00:00:00:77", 5));
    /* A reset forgets it all. */
    card_start_driver(&c, 0, 1);
    assert_true(arrives(&c, other, 7));
    card_close(&c);
}

static void commands_that_fail(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    uint8_t many[4 + 6 * 65 + 4] = { 65 };
    card_open(&c, &cfg, 0);
    json_t *before = pta_state_save(&net_state_desc, &net(&c)->state);
    assert_int_equal(ctrl(&c, 9, 0, "", 0), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, 6, "\1", 1), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, 0, "", 0), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MAC, 1, "12345", 5), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MAC, 2, "123456", 6), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MAC, 0, "\xff\xff\xff\xff", 4), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MAC, 0, "\0\0\0\0\1\0\0\0", 8), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_VLAN, 0, "\x00\x10", 2), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_VLAN, 2, "\x05\x00", 2), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MQ, 0, "\1\0", 2), 1); /* not offered */
    json_t *after = pta_state_save(&net_state_desc, &net(&c)->state);
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
    /* More addresses than it can hold: all are taken. */
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, PTA_NET_CTRL_RX_PROMISC, "\0", 1), 0);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MAC, 0, many, sizeof(many)), 0);
    assert_true(arrives(&c, "52:54:00:00:00:42", 0));
    card_close(&c);
}

static void several_pairs(void **unused)
{
    (void)unused;
    Card c;
    CardConfig cfg = config_default();
    cfg.pairs = 4;
    card_open(&c, &cfg, 0);
    assert_int_equal(c.wire->pairs, 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MQ, 0, "\4\0", 2), 0);
    assert_int_equal(c.wire->pairs, 4);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MQ, 0, "\5\0", 2), 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_MQ, 0, "\0\0", 2), 1);
    assert_int_equal(c.wire->pairs, 4);
    card_close(&c);
    /* A driver that knows of one pair has its control queue right behind it. */
    card_open(&c, &cfg, UINT64_C(1) << PTA_NET_F_MQ);
    assert_int_equal(c.wire->pairs, 1);
    assert_int_equal(ctrl(&c, PTA_NET_CTRL_RX, 0, "\0", 1), 0);
    card_close(&c);
}

/* ---- state ---- */

static void every_field_is_saved(void **unused)
{
    (void)unused;
    size_t sum = 0;
    for (const PtaStateField *f = net_state_desc.fields; f->name; sum += f++->size) {
        assert_int_equal(f->offset, sum);
    }
    assert_int_equal(sum, net_state_desc.size);
}

static void random_traffic(Card *c, GRand *r)
{
    uint8_t frame[600];
    for (unsigned n = 0; n < 60; n++) {
        PtaNetHeader hdr = { .flags = (uint8_t)g_rand_int_range(r, 0, 2),
                             .csum_start = 34,
                             .csum_offset = 16 };
        size_t len = make_tcp(frame, false, (size_t)g_rand_int_range(r, 0, 500), 0x10);
        uint8_t data[20];
        for (size_t i = 0; i < sizeof(data); i++) {
            data[i] = (uint8_t)g_rand_int_range(r, 0, 3);
        }
        switch (g_rand_int_range(r, 0, 5)) {
        case 0:
            tx(c, &hdr, frame, len);
            break;
        case 1:
            offer_rx(c, (uint16_t)(n % SIZE), 700);
            rx(c, frame, len);
            break;
        case 2:
            ctrl(c, data[0], data[1], data + 2, (uint32_t)g_rand_int_range(r, 0, 18));
            break;
        case 3:
            pta_virtio_net_set_link(c->dev, g_rand_int_range(r, 0, 4) != 0);
            break;
        default:
            pta_virtio_net_announce(c->dev);
            break;
        }
    }
}

static char *save_text(PtaDevice *dev)
{
    json_t *json = pta_device_save(dev);
    char *text = json_dumps(json, JSON_SORT_KEYS);
    json_decref(json);
    return text;
}

static void states_come_back(void **unused)
{
    (void)unused;
    for (unsigned seed = 0; seed < 30; seed++) {
        g_autoptr(GRand) r = g_rand_new_with_seed(seed);
        Card c;
        CardConfig cfg = config_default();
        card_open(&c, &cfg, 0);
        random_traffic(&c, r);
        pta_device_quiesce(c.dev);
        json_t *state = pta_device_save(c.dev);
        char *text = save_text(c.dev);
        /* A new one, and this one after it went on. */
        PtaDevice *fresh = card_new(&c.f, "net1", &cfg);
        g_autoptr(GError) error = NULL;
        if (!pta_device_restore(fresh, state, &error)) {
            fail_msg("%s", error->message);
        }
        char *restored = save_text(fresh);
        assert_string_equal(text, restored);
        pta_device_start(c.dev);
        random_traffic(&c, r);
        pta_device_quiesce(c.dev);
        /* The rings are in RAM, which goes back with the device. */
        Net *a = net(&c);
        const PtaQueueState saved[] = { ((Net *)fresh)->parent.queues[0].s,
                                        ((Net *)fresh)->parent.queues[1].s,
                                        ((Net *)fresh)->parent.queues[2].s };
        const Driver *drivers[] = { &c.rx, &c.tx, &c.ctrl };
        for (unsigned i = 0; i < 3; i++) {
            pta_memory_store_u16(c.f.memory, drivers[i]->avail + 2, saved[i].next_avail);
        }
        if (!pta_device_restore(c.dev, state, &error)) {
            fail_msg("%s", error->message);
        }
        char *applied = save_text(c.dev);
        assert_string_equal(text, applied);
        assert_memory_equal(&a->state, &((Net *)fresh)->state, sizeof(a->state));
        assert_memory_equal(a->parent.config, ((Net *)fresh)->parent.config, PTA_NET_CFG_SIZE);
        json_decref(state);
        free(text);
        free(restored);
        free(applied);
        pta_device_free(fresh);
        card_close(&c);
    }
}

static void states_that_cannot_be(void **unused)
{
    (void)unused;
    static const struct {
        const char *field;
        const char *value;
    } bad[] = { { "status", "\"0x4\"" },  { "pairs", "\"0x0\"" },       { "pairs", "\"0x9\"" },
                { "promisc", "\"0x2\"" }, { "n_uni", "\"0x41\"" },      { "n_multi", "\"0xff\"" },
                { "mac", "\"00\"" },      { "vlans", "\"\"" },          { "admin_up", "\"0x2\"" },
                { "macs", "null" },       { "reserved", "\"0101010\"" } };
    Card c;
    CardConfig cfg = config_default();
    card_open(&c, &cfg, 0);
    pta_device_quiesce(c.dev);
    char *before = save_text(c.dev);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        json_t *state = pta_device_save(c.dev);
        json_t *fields = json_object_get(json_object_get(state, "device"), "fields");
        assert_non_null(json_object_get(fields, bad[i].field));
        json_object_set_new(fields, bad[i].field, json_loads(bad[i].value, JSON_DECODE_ANY, NULL));
        assert_false(pta_device_restore(c.dev, state, &error));
        assert_int_equal(error->code, PTA_ERROR_BAD_SNAPSHOT);
        json_decref(state);
        char *after = save_text(c.dev);
        assert_string_equal(before, after);
        free(after);
    }
    free(before);
    card_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configuration),
        cmocka_unit_test(addresses_that_cannot_be),
        cmocka_unit_test(sends_in_any_framing),
        cmocka_unit_test(many_pieces),
        cmocka_unit_test(fills_in_checksums),
        cmocka_unit_test(cuts_large_segments),
        cmocka_unit_test(crumbs_are_not_cut),
        cmocka_unit_test(headers_that_lie),
        cmocka_unit_test(offloads_that_were_not_accepted),
        cmocka_unit_test(a_back_end_with_headers),
        cmocka_unit_test(receives),
        cmocka_unit_test(a_good_checksum_is_said),
        cmocka_unit_test(buffers_that_are_not_merged),
        cmocka_unit_test(an_announced_frame_is_asked_for_once_more),
        cmocka_unit_test(hostile_rings),
        cmocka_unit_test(a_huge_frame),
        cmocka_unit_test(tiny_receive_buffers),
        cmocka_unit_test(a_full_back_end),
        cmocka_unit_test(limits),
        cmocka_unit_test(the_link),
        cmocka_unit_test(filters),
        cmocka_unit_test(commands_that_fail),
        cmocka_unit_test(several_pairs),
        cmocka_unit_test(every_field_is_saved),
        cmocka_unit_test(states_come_back),
        cmocka_unit_test(states_that_cannot_be),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
