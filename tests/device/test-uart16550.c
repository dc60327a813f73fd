/* The 16550 with a ring buffer or a socket behind it. */
#include "fixture.h"

#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/chardev/chardev.h"
#include "devices/devices.h"
#include "qmp/gen/types.h"

#define COM1 0x3f8
#define IRQ  4

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

typedef struct Port {
    Fixture f;
    PtaDevice *dev;
    int client; /* of the socket, -1 if there is none */
} Port;

static void port_open_config(Port *p, ChardevConfig *chardev)
{
    Uart16550Config cfg = { .chardev = chardev };
    g_autoptr(GError) error = NULL;
    p->dev = pta_device_new(&pta_uart16550_class, "serial0", &p->f.host, &cfg, &error);
    if (!p->dev) {
        fail_msg("%s", error->message);
    }
    pta_device_start(p->dev);
    p->client = -1;
}

static void port_open(Port *p)
{
    ChardevRingbufConfig ringbuf = { .size = 4096 };
    ChardevConfig chardev = { .type = CHARDEV_CONFIG_TYPE_RINGBUF, .ringbuf = &ringbuf };
    fix_new(&p->f);
    port_open_config(p, &chardev);
}

/* With somebody at the other end who can type, and who need not read. */
static void port_open_socket(Port *p)
{
    fix_new(&p->f);
    g_autofree char *path = fix_path(&p->f, "com1");
    ChardevUnixConfig sock = { .path = path };
    ChardevConfig chardev = { .type = CHARDEV_CONFIG_TYPE_UNIX, .unix_ = &sock };
    port_open_config(p, &chardev);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    p->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(p->client, (struct sockaddr *)&addr, sizeof(addr)), 0);
    fix_run(&p->f);
}

static void port_close(Port *p)
{
    pta_close(p->client);
    pta_device_free(p->dev);
    fix_free(&p->f);
}

static uint8_t in(Port *p, unsigned reg)
{
    return fix_in(&p->f, (uint16_t)(COM1 + reg));
}

static void out(Port *p, unsigned reg, uint8_t value)
{
    fix_out(&p->f, (uint16_t)(COM1 + reg), value);
}

static void type_text(Port *p, const char *text)
{
    assert_true(pta_write_full(p->client, text, strlen(text)));
    fix_run(&p->f);
}

static int line(Port *p)
{
    return g_atomic_int_get(&p->f.irq[IRQ]);
}

static void power_up_values(void **unused)
{
    (void)unused;
    Port p;
    port_open(&p);
    assert_int_equal(in(&p, IER), 0);
    assert_int_equal(in(&p, IIR), 0x01);
    assert_int_equal(in(&p, LCR), 0);
    assert_int_equal(in(&p, MCR), 0);
    assert_int_equal(in(&p, LSR), 0x60);
    assert_int_equal(in(&p, MSR), 0xb0);
    /* Linux tells a 16550A by these. */
    out(&p, SCR, 0xa5);
    assert_int_equal(in(&p, SCR), 0xa5);
    out(&p, IER, 0xff);
    assert_int_equal(in(&p, IER), 0x0f);
    out(&p, IER, 0);
    out(&p, IIR, 0x01);
    assert_int_equal(in(&p, IIR), 0xc1);
    out(&p, IIR, 0x00);
    assert_int_equal(in(&p, IIR), 0x01);
    /* The divisor is behind DLAB. */
    out(&p, LCR, 0x83);
    out(&p, DATA, 0x34);
    out(&p, IER, 0x12);
    assert_int_equal(in(&p, DATA), 0x34);
    assert_int_equal(in(&p, IER), 0x12);
    out(&p, LCR, 0x03);
    assert_int_equal(in(&p, IER), 0);
    port_close(&p);
}

static void bytes_go_out(void **unused)
{
    (void)unused;
    Port p;
    port_open(&p);
    for (const char *s = "hello\n"; *s; s++) {
        assert_int_equal(in(&p, LSR) & 0x20, 0x20);
        out(&p, DATA, (uint8_t)*s);
    }
    g_autoptr(GBytes) got = pta_chardev_ringbuf_read(p.dev->klass->chardev(p.dev), 100, NULL);
    assert_int_equal(g_bytes_get_size(got), 6);
    assert_memory_equal(g_bytes_get_data(got, NULL), "hello\n", 6);
    port_close(&p);
}

/* What an interrupt-driven transmitter relies on. */
static void transmitter_interrupt(void **unused)
{
    (void)unused;
    Port p;
    port_open(&p);
    assert_int_equal(line(&p), 0);
    out(&p, IER, 0x02); /* enabling it while the transmitter is empty raises it */
    assert_int_equal(line(&p), 1);
    assert_int_equal(in(&p, IIR), 0x02);
    assert_int_equal(line(&p), 0); /* reading IIR clears it */
    assert_int_equal(in(&p, IIR), 0x01);
    int before = p.f.edges[IRQ];
    out(&p, DATA, 'x'); /* each byte that leaves makes an edge */
    assert_int_equal(p.f.edges[IRQ], before + 1);
    out(&p, DATA, 'y');
    assert_int_equal(p.f.edges[IRQ], before + 2);
    assert_int_equal(in(&p, IIR), 0x02);
    out(&p, IER, 0);
    out(&p, IER, 0x02);
    assert_int_equal(line(&p), 1);
    out(&p, IER, 0);
    assert_int_equal(line(&p), 0);
    port_close(&p);
}

static void receiver_interrupts_and_timeout(void **unused)
{
    (void)unused;
    Port p;
    port_open_socket(&p);
    out(&p, IIR, 0x81); /* FIFO, trigger at 8 */
    out(&p, IER, 0x01);
    type_text(&p, "abc");
    assert_int_equal(line(&p), 1);
    assert_int_equal(in(&p, IIR), 0xcc); /* fewer than 8, and then silence */
    assert_int_equal(in(&p, LSR), 0x61);
    assert_int_equal(in(&p, DATA), 'a');
    assert_int_equal(line(&p), 1);
    type_text(&p, "defghijk");
    assert_int_equal(in(&p, IIR), 0xc4); /* the trigger level */
    for (char c = 'b'; c <= 'k'; c++) {
        assert_int_equal(in(&p, DATA), c);
    }
    assert_int_equal(line(&p), 0);
    assert_int_equal(in(&p, LSR), 0x60);
    assert_int_equal(in(&p, IIR), 0xc1);
    port_close(&p);
}

/* More than fits waits outside: nothing is lost, nothing overruns. */
static void input_waits_for_room(void **unused)
{
    (void)unused;
    for (int fifo = 0; fifo < 2; fifo++) {
        Port p;
        port_open_socket(&p);
        out(&p, IIR, (uint8_t)fifo);
        g_autofree char *text = g_strnfill(100, '.');
        for (int i = 0; i < 100; i++) {
            text[i] = (char)(' ' + i % 90);
        }
        type_text(&p, text);
        for (int i = 0; i < 100; i++) {
            for (int n = 0; n < 100 && !(in(&p, LSR) & 1); n++) {
                fix_run(&p.f);
            }
            assert_int_equal(in(&p, LSR) & 0x02, 0);
            assert_int_equal(in(&p, DATA), text[i]);
        }
        fix_run(&p.f);
        assert_int_equal(in(&p, LSR) & 1, 0);
        port_close(&p);
    }
}

static void fifo_can_be_cleared(void **unused)
{
    (void)unused;
    Port p;
    port_open_socket(&p);
    out(&p, IIR, 0x01);
    type_text(&p, "abc");
    assert_int_equal(in(&p, LSR) & 1, 1);
    out(&p, IIR, 0x03);
    assert_int_equal(in(&p, LSR) & 1, 0);
    port_close(&p);
}

static void loopback(void **unused)
{
    (void)unused;
    Port p;
    port_open(&p);
    out(&p, MCR, 0x1a); /* LOOP, OUT2, RTS */
    assert_int_equal(in(&p, MSR) & 0xf0, 0x90);
    out(&p, MCR, 0x15); /* LOOP, OUT1, DTR */
    assert_int_equal(in(&p, MSR) & 0xf0, 0x60);
    out(&p, IIR, 0x01);
    out(&p, DATA, 'L');
    assert_int_equal(in(&p, LSR) & 1, 1);
    assert_int_equal(in(&p, DATA), 'L');
    /* Too many: an overrun, reported once, with its interrupt. */
    out(&p, IER, 0x04);
    for (int i = 0; i < 17; i++) {
        out(&p, DATA, (uint8_t)i);
    }
    assert_int_equal(line(&p), 1);
    assert_int_equal(in(&p, IIR), 0xc6);
    assert_int_equal(in(&p, LSR), 0x63);
    assert_int_equal(in(&p, LSR), 0x61);
    assert_int_equal(line(&p), 0);
    g_autoptr(GBytes) got = pta_chardev_ringbuf_read(p.dev->klass->chardev(p.dev), 100, NULL);
    assert_int_equal(g_bytes_get_size(got), 0);
    port_close(&p);
}

static void modem_status_interrupt(void **unused)
{
    (void)unused;
    Port p;
    port_open(&p);
    in(&p, MSR);
    out(&p, IER, 0x08);
    assert_int_equal(line(&p), 0);
    out(&p, MCR, 0x10); /* all lines fall */
    assert_int_equal(line(&p), 1);
    assert_int_equal(in(&p, IIR), 0x00);
    assert_int_equal(in(&p, MSR), 0x0b);
    assert_int_equal(line(&p), 0);
    out(&p, MCR, 0x14);
    assert_int_equal(in(&p, MSR), 0x40); /* a ring that begins is no event … */
    out(&p, MCR, 0x10);
    assert_int_equal(in(&p, MSR), 0x04); /* … one that ends is */
    port_close(&p);
}

/* Nobody reads: the transmitter stays busy, the writer is not held up, and all arrives later. */
static void back_pressure(void **unused)
{
    (void)unused;
    Port p;
    port_open_socket(&p);
    out(&p, IIR, 0x01);
    out(&p, IER, 0x02);
    uint64_t sent = 0;
    for (; sent < 8 * PTA_MIB && in(&p, LSR) & 0x20; sent++) {
        out(&p, DATA, (uint8_t)sent);
        if (sent % 4096 == 0) {
            fix_run(&p.f);
        }
    }
    assert_true(sent < 8 * PTA_MIB);
    fix_run(&p.f);
    assert_int_equal(in(&p, LSR) & 0x60, 0);
    in(&p, IIR);
    assert_int_equal(line(&p), 0);
    uint64_t got = 0;
    uint8_t buf[4096];
    while (got < sent) {
        ssize_t n = recv(p.client, buf, sizeof(buf), MSG_DONTWAIT);
        for (ssize_t i = 0; i < n; i++) {
            assert_int_equal(buf[i], (uint8_t)(got + (uint64_t)i));
        }
        got += n > 0 ? (uint64_t)n : 0;
        g_main_context_iteration(p.f.context, false);
    }
    assert_int_equal(in(&p, LSR) & 0x60, 0x60);
    assert_int_equal(line(&p), 1);
    assert_int_equal(in(&p, IIR), 0xc2);
    port_close(&p);
}

static void quiesced_takes_no_input(void **unused)
{
    (void)unused;
    Port p;
    port_open_socket(&p);
    pta_device_quiesce(p.dev);
    type_text(&p, "x");
    assert_int_equal(in(&p, LSR) & 1, 0);
    pta_device_start(p.dev);
    fix_run(&p.f);
    assert_int_equal(in(&p, LSR) & 1, 1);
    assert_int_equal(in(&p, DATA), 'x');
    port_close(&p);
}

static void state_comes_back(void **unused)
{
    (void)unused;
    Port p;
    port_open_socket(&p);
    out(&p, IIR, 0x41);
    out(&p, IER, 0x05);
    out(&p, SCR, 0x77);
    type_text(&p, "ab");
    pta_device_quiesce(p.dev);
    json_t *saved = pta_device_save(p.dev);
    pta_device_reset(p.dev);
    assert_int_equal(in(&p, SCR), 0);
    assert_true(pta_device_restore(p.dev, saved, NULL));
    json_t *again = pta_device_save(p.dev);
    assert_true(json_equal(saved, again));
    pta_device_start(p.dev);
    assert_int_equal(line(&p), 1);
    assert_int_equal(in(&p, DATA), 'a');
    assert_int_equal(in(&p, DATA), 'b');
    pta_device_quiesce(p.dev);
    json_object_set_new(json_object_get(saved, "fields"), "rx_len", json_string("0x11"));
    assert_false(pta_device_restore(p.dev, saved, NULL));
    json_decref(saved);
    json_decref(again);
    port_close(&p);
}

/* The four ports of a PC, and no fifth. */
static void com_ports(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t base;
        int irq;
    } want[] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 6 }, { 0x2e8, 7 } };
    Fixture f;
    PtaDevice *devs[4];
    ChardevNullConfig null = { 0 };
    ChardevConfig chardev = { .type = CHARDEV_CONFIG_TYPE_NULL, .null = &null };
    Uart16550Config cfg = { .chardev = &chardev };
    fix_new(&f);
    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *id = g_strdup_printf("serial%u", i);
        devs[i] = pta_device_new(&pta_uart16550_class, id, &f.host, &cfg, NULL);
        const PtaPlacedDevice *p = pta_mmio_manager_find(f.manager, PTA_PLACED_UART16550, id);
        assert_int_equal(p->base, want[i].base);
        assert_int_equal(p->irq, want[i].irq);
        assert_int_equal(p->ordinal, i);
        assert_true(p->pio && !p->level);
    }
    g_autoptr(GError) error = NULL;
    assert_null(pta_device_new(&pta_uart16550_class, "serial4", &f.host, &cfg, &error));
    assert_string_equal(error->message, "serial4: no more serial ports are available");
    pta_device_free(devs[1]);
    devs[1] = pta_device_new(&pta_uart16550_class, "again", &f.host, &cfg, NULL);
    assert_int_equal(pta_mmio_manager_find(f.manager, PTA_PLACED_UART16550, "again")->base, 0x2f8);
    for (unsigned i = 0; i < 4; i++) {
        pta_device_free(devs[i]);
    }
    fix_free(&f);
}

/* A VP thread that prints as fast as it can, while another types. */
static void two_threads(void **unused)
{
    (void)unused;
    Port p;
    port_open_socket(&p);
    fix_start_thread(&p.f);
    out(&p, IIR, 0x01);
    uint64_t got = 0;
    unsigned typed = 0;
    unsigned received = 0;
    uint8_t buf[4096];
    for (unsigned i = 0; i < 100000; i++) {
        while (!(in(&p, LSR) & 0x20)) {
            ssize_t n = recv(p.client, buf, sizeof(buf), MSG_DONTWAIT);
            got += n > 0 ? (uint64_t)n : 0;
        }
        out(&p, DATA, 'z');
        if (i % 100 == 0 && send(p.client, "k", 1, MSG_DONTWAIT) == 1) {
            typed++;
        }
        if (in(&p, LSR) & 1) {
            assert_int_equal(in(&p, DATA), 'k');
            received++;
        }
    }
    assert_true(typed > 100);
    while (got < 100000) {
        ssize_t n = read(p.client, buf, sizeof(buf));
        assert_true(n > 0);
        got += (uint64_t)n;
    }
    while (received < typed) {
        if (in(&p, LSR) & 1) {
            in(&p, DATA);
            received++;
        }
    }
    pta_device_quiesce(p.dev);
    port_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_up_values),
        cmocka_unit_test(bytes_go_out),
        cmocka_unit_test(transmitter_interrupt),
        cmocka_unit_test(receiver_interrupts_and_timeout),
        cmocka_unit_test(input_waits_for_room),
        cmocka_unit_test(fifo_can_be_cleared),
        cmocka_unit_test(loopback),
        cmocka_unit_test(modem_status_interrupt),
        cmocka_unit_test(back_pressure),
        cmocka_unit_test(quiesced_takes_no_input),
        cmocka_unit_test(state_comes_back),
        cmocka_unit_test(com_ports),
        cmocka_unit_test(two_threads),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
