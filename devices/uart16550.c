/*
 * A 16550A serial port (PC16550D datasheet). The line is as fast as the chardev: the divisor is kept
 * and means nothing, a byte leaves at once, and what comes in is followed by silence, so that the
 * character timeout stands whenever there are fewer bytes than the trigger level. When the chardev
 * takes no more, the transmitter stays busy (THRE low), and the VP is never held up.
 *
 * OUT2, which gates the interrupt on a PC, does not here: kernels that forget it still get theirs.
 *
 * Registers: VP threads. The chardev's calls: the I/O thread. LOCKED by the device's lock.
 */
#include "config.h"

#include "devices/devices.h"
#include "qmp/gen/types.h"

#include <string.h>

#include "devices/chardev/chardev.h"

#define UART_PORTS 8
#define UART_FIFO  16

enum {
    UART_RBR = 0, /* THR when written, DLL with LCR.DLAB */
    UART_IER = 1, /* DLM with LCR.DLAB */
    UART_IIR = 2, /* FCR when written */
    UART_LCR = 3,
    UART_MCR = 4,
    UART_LSR = 5,
    UART_MSR = 6,
    UART_SCR = 7,
};

#define IER_RDI      0x01
#define IER_THRI     0x02
#define IER_RLSI     0x04
#define IER_MSI      0x08
#define IER_MASK     0x0f

#define IIR_MSI      0x00
#define IIR_NONE     0x01
#define IIR_THRI     0x02
#define IIR_RDI      0x04
#define IIR_RLSI     0x06
#define IIR_TIMEOUT  0x0c
#define IIR_FIFO     0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_CLEAR_TX 0x04
#define FCR_KEPT     0xc9 /* trigger level, DMA mode, enable */

#define LCR_DLAB     0x80

#define MCR_DTR      0x01
#define MCR_RTS      0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08
#define MCR_LOOP     0x10
#define MCR_MASK     0x1f

#define LSR_DR       0x01
#define LSR_OE       0x02
#define LSR_BI       0x10
#define LSR_ERRORS   0x1e /* overrun, parity, framing, break */
#define LSR_THRE     0x20
#define LSR_TEMT     0x40

#define MSR_TERI     0x04
#define MSR_DELTAS   0x0f
#define MSR_CTS      0x10
#define MSR_DSR      0x20
#define MSR_RI       0x40
#define MSR_DCD      0x80

typedef struct UartState {
    uint8_t rx[UART_FIFO];
    uint8_t tx[UART_FIFO];
    uint8_t rx_len;
    uint8_t tx_len;
    uint8_t dll;
    uint8_t dlm;
    uint8_t ier;
    uint8_t fcr;
    uint8_t lcr;
    uint8_t mcr;
    uint8_t scr;
    uint8_t lsr_errors; /* sticky until LSR is read */
    uint8_t msr;        /* lines and deltas */
    uint8_t thri;       /* 1: the transmitter has become empty and nobody has been told */
} UartState;

static const PtaStateField uart_fields[] = {
    PTA_STATE_BLOB(UartState, rx),
    PTA_STATE_BLOB(UartState, tx),
    PTA_STATE_U8(UartState, rx_len),
    PTA_STATE_U8(UartState, tx_len),
    PTA_STATE_U8(UartState, dll),
    PTA_STATE_U8(UartState, dlm),
    PTA_STATE_U8(UartState, ier),
    PTA_STATE_U8(UartState, fcr),
    PTA_STATE_U8(UartState, lcr),
    PTA_STATE_U8(UartState, mcr),
    PTA_STATE_U8(UartState, scr),
    PTA_STATE_U8(UartState, lsr_errors),
    PTA_STATE_U8(UartState, msr),
    PTA_STATE_U8(UartState, thri),
    {},
};

typedef struct Uart {
    PtaDevice parent;
    PtaPlacedDevice placed; /* CONST */
    PtaIrqLine irq;         /* CONST */
    PtaChardev *chardev;    /* CONST */
    GMutex lock;
    UartState state;     /* LOCKED(lock) */
    bool started;        /* LOCKED(lock) */
    uint64_t n_sent;     /* LOCKED(lock) */
    uint64_t n_received; /* LOCKED(lock) */
} Uart;

static Uart *uart_of(PtaDevice *dev)
{
    g_assert(dev->klass == &pta_uart16550_class);
    return (Uart *)dev;
}

/* ---- interrupts ---- */

static unsigned fifo_size(const UartState *s)
{
    return s->fcr & FCR_ENABLE ? UART_FIFO : 1;
}

static unsigned trigger_level(const UartState *s)
{
    static const uint8_t levels[] = { 1, 4, 8, 14 };
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The interrupt of highest priority, as IIR reports it. */
static uint8_t pending_locked(const UartState *s)
{
    if (s->ier & IER_RLSI && s->lsr_errors) {
        return IIR_RLSI;
    }
    if (s->ier & IER_RDI && s->rx_len > 0) {
        return s->rx_len >= trigger_level(s) ? IIR_RDI : IIR_TIMEOUT;
    }
    if (s->ier & IER_THRI && s->thri) {
        return IIR_THRI;
    }
    if (s->ier & IER_MSI && s->msr & MSR_DELTAS) {
        return IIR_MSI;
    }
    return IIR_NONE;
}

static void update_irq_locked(Uart *u)
{
    pta_irq_set(&u->irq, pending_locked(&u->state) != IIR_NONE);
}

/* ---- the two directions ---- */

static void rx_push_locked(Uart *u, uint8_t byte)
{
    UartState *s = &u->state;
    if (s->rx_len < fifo_size(s)) {
        s->rx[s->rx_len++] = byte;
    } else {
        s->lsr_errors |= LSR_OE;
    }
}

/* Hands what is to be sent to the chardev. */
static void tx_flush_locked(Uart *u)
{
    UartState *s = &u->state;
    if (s->tx_len == 0) {
        return;
    }
    size_t n = pta_chardev_write(u->chardev, s->tx, s->tx_len);
    u->n_sent += n;
    memmove(s->tx, s->tx + n, s->tx_len - n);
    s->tx_len -= (uint8_t)n;
    if (s->tx_len == 0) {
        s->thri = 1;
    }
}

static void thr_write_locked(Uart *u, uint8_t value)
{
    UartState *s = &u->state;
    s->thri = 0;
    update_irq_locked(u); /* the line falls, so that the next empty transmitter makes an edge */
    if (s->mcr & MCR_LOOP) {
        rx_push_locked(u, value);
        s->thri = 1;
        return;
    }
    if (s->tx_len < fifo_size(s)) {
        s->tx[s->tx_len++] = value;
    } else {
        s->tx[s->tx_len - 1] = value; /* what a driver that ignores THRE gets */
    }
    if (u->started) {
        tx_flush_locked(u);
    }
}

static uint8_t rbr_read_locked(Uart *u)
{
    UartState *s = &u->state;
    if (s->rx_len == 0) {
        return 0;
    }
    uint8_t value = s->rx[0];
    memmove(s->rx, s->rx + 1, --s->rx_len);
    if (s->rx_len == 0) {
        pta_chardev_accept_input(u->chardev);
    }
    return value;
}

/* ---- registers ---- */

/* The modem's lines: looped back, or those of a cable whose other end is always ready. */
static void modem_update_locked(UartState *s)
{
    uint8_t lines = MSR_CTS | MSR_DSR | MSR_DCD;
    if (s->mcr & MCR_LOOP) {
        lines = (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
                (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
    }
    uint8_t changed = (lines ^ s->msr) >> 4;
    uint8_t deltas = changed & (MSR_DELTAS & ~MSR_TERI);
    if (s->msr & ~lines & MSR_RI) { /* the ring indicator is reported when it ends */
        deltas |= MSR_TERI;
    }
    s->msr = lines | (s->msr & MSR_DELTAS) | deltas;
}

static uint8_t lsr_locked(const UartState *s)
{
    return s->lsr_errors | (s->rx_len > 0 ? LSR_DR : 0) |
           (s->tx_len == 0 ? LSR_THRE | LSR_TEMT : 0);
}

static uint8_t reg_read_locked(Uart *u, unsigned reg)
{
    UartState *s = &u->state;
    uint8_t value;
    switch (reg) {
    case UART_RBR:
        return s->lcr & LCR_DLAB ? s->dll : rbr_read_locked(u);
    case UART_IER:
        return s->lcr & LCR_DLAB ? s->dlm : s->ier;
    case UART_IIR:
        value = pending_locked(s);
        if (value == IIR_THRI) {
            s->thri = 0;
        }
        return value | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
    case UART_LCR:
        return s->lcr;
    case UART_MCR:
        return s->mcr;
    case UART_LSR:
        value = lsr_locked(s);
        s->lsr_errors = 0;
        return value;
    case UART_MSR:
        value = s->msr;
        s->msr &= ~MSR_DELTAS;
        return value;
    default:
        return s->scr;
    }
}

static void fcr_write_locked(Uart *u, uint8_t value)
{
    UartState *s = &u->state;
    bool toggled = (s->fcr ^ value) & FCR_ENABLE;
    /* The other bits count only together with the enable bit. */
    s->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
    if (toggled || (value & FCR_ENABLE && value & FCR_CLEAR_RX)) {
        s->rx_len = 0;
        pta_chardev_accept_input(u->chardev);
    }
    if ((toggled || (value & FCR_ENABLE && value & FCR_CLEAR_TX)) && s->tx_len > 0) {
        s->tx_len = 0;
        s->thri = 1;
    }
}

static void reg_write_locked(Uart *u, unsigned reg, uint8_t value)
{
    UartState *s = &u->state;
    switch (reg) {
    case UART_RBR:
        if (s->lcr & LCR_DLAB) {
            s->dll = value;
        } else {
            thr_write_locked(u, value);
        }
        break;
    case UART_IER:
        if (s->lcr & LCR_DLAB) {
            s->dlm = value;
            break;
        }
        /* To enable it while the transmitter is empty asks for the interrupt at once. */
        if (value & ~s->ier & IER_THRI && s->tx_len == 0) {
            s->thri = 1;
        }
        s->ier = value & IER_MASK;
        break;
    case UART_IIR:
        fcr_write_locked(u, value);
        break;
    case UART_LCR:
        s->lcr = value;
        break;
    case UART_MCR:
        if (s->mcr & ~value & MCR_LOOP) {
            pta_chardev_accept_input(u->chardev);
        }
        s->mcr = value & MCR_MASK;
        modem_update_locked(s);
        break;
    case UART_SCR:
        s->scr = value;
        break;
    default:
        break; /* LSR and MSR are read-only outside factory tests */
    }
}

static uint64_t uart_read(void *opaque, uint64_t offset, unsigned size)
{
    Uart *u = uart_of(opaque);
    uint64_t value = 0;
    g_mutex_lock(&u->lock);
    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)reg_read_locked(u, (unsigned)offset + i) << (8 * i);
    }
    update_irq_locked(u);
    g_mutex_unlock(&u->lock);
    return value;
}

static void uart_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    Uart *u = uart_of(opaque);
    g_mutex_lock(&u->lock);
    for (unsigned i = 0; i < size; i++) {
        reg_write_locked(u, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
    }
    update_irq_locked(u);
    g_mutex_unlock(&u->lock);
}

static const PtaBusOps uart_bus_ops = { .read = uart_read, .write = uart_write };

/* ---- the chardev's calls; I/O thread ---- */

static size_t uart_room(void *opaque)
{
    Uart *u = opaque;
    g_mutex_lock(&u->lock);
    const UartState *s = &u->state;
    size_t room =
        u->started && !(s->mcr & MCR_LOOP) ? fifo_size(s) - MIN(s->rx_len, fifo_size(s)) : 0;
    g_mutex_unlock(&u->lock);
    return room;
}

static void uart_receive(void *opaque, const uint8_t *data, size_t len)
{
    Uart *u = opaque;
    g_mutex_lock(&u->lock);
    for (size_t i = 0; i < len; i++) {
        rx_push_locked(u, data[i]);
    }
    u->n_received += len;
    update_irq_locked(u);
    g_mutex_unlock(&u->lock);
}

static void uart_writable(void *opaque)
{
    Uart *u = opaque;
    g_mutex_lock(&u->lock);
    if (u->started) {
        tx_flush_locked(u);
        update_irq_locked(u);
    }
    g_mutex_unlock(&u->lock);
}

static void uart_event(void *opaque, PtaChardevEvent event)
{
    Uart *u = opaque;
    if (event != PTA_CHARDEV_BREAK) {
        return;
    }
    g_mutex_lock(&u->lock);
    if (u->started && !(u->state.mcr & MCR_LOOP)) {
        rx_push_locked(u, 0); /* a break is received as a character of zeros */
        u->state.lsr_errors |= LSR_BI;
        update_irq_locked(u);
    }
    g_mutex_unlock(&u->lock);
}

static const PtaChardevFrontend uart_frontend = { uart_room, uart_receive, uart_writable,
                                                  uart_event };

/* ---- life ---- */

static void uart_quit(void *opaque)
{
    PtaDevice *dev = opaque;
    dev->host->power(dev->host, PTA_POWER_QUIT, 0);
}

static bool uart_realize(PtaDevice *dev, const void *config, GError **error)
{
    const Uart16550Config *cfg = config;
    Uart *u = uart_of(dev);
    PtaDeviceHost *host = dev->host;
    if (!host->place(host, dev, PTA_PLACED_UART16550, true, 0, UART_PORTS, &uart_bus_ops, true, -1,
                     &u->placed, &u->irq, error)) {
        return false;
    }
    PtaChardevParams params = {
        .label = dev->id,
        .context = host->io_context,
        .base_dir = host->base_dir,
        .quit = uart_quit,
        .opaque = dev,
    };
    u->chardev = pta_chardev_new(&params, cfg->chardev, error);
    if (!u->chardev) {
        return false;
    }
    g_mutex_init(&u->lock);
    pta_chardev_attach(u->chardev, &uart_frontend, u);
    return true;
}

static void uart_unrealize(PtaDevice *dev)
{
    Uart *u = uart_of(dev);
    pta_chardev_free(u->chardev);
    g_mutex_clear(&u->lock);
}

static void uart_reset(PtaDevice *dev)
{
    Uart *u = uart_of(dev);
    g_mutex_lock(&u->lock);
    u->state = (UartState){ .dll = 12, .msr = MSR_CTS | MSR_DSR | MSR_DCD }; /* 9600 baud */
    g_mutex_unlock(&u->lock);
}

static void uart_start(PtaDevice *dev)
{
    Uart *u = uart_of(dev);
    g_mutex_lock(&u->lock);
    u->started = true;
    tx_flush_locked(u);
    update_irq_locked(u);
    g_mutex_unlock(&u->lock);
    pta_chardev_accept_input(u->chardev);
}

static void uart_quiesce(PtaDevice *dev)
{
    Uart *u = uart_of(dev);
    g_mutex_lock(&u->lock);
    u->started = false;
    g_mutex_unlock(&u->lock);
}

static bool uart_validate(const void *state, GError **error)
{
    const UartState *s = state;
    return (s->rx_len <= fifo_size(s) && s->tx_len <= fifo_size(s) && s->thri <= 1 &&
            !(s->ier & ~IER_MASK) && !(s->mcr & ~MCR_MASK) && !(s->lsr_errors & ~LSR_ERRORS) &&
            !(s->fcr & ~FCR_KEPT)) ||
           pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "registers or FIFO lengths cannot be");
}

static const PtaStateDesc uart_state = {
    .name = "uart16550",
    .version = 1,
    .size = sizeof(UartState),
    .fields = uart_fields,
    .validate = uart_validate,
};

static void uart_inspect(PtaDevice *dev, PtaInspect *req)
{
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_U8(Uart, state.ier, "ier", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(Uart, state.fcr, "fcr", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(Uart, state.lcr, "lcr", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(Uart, state.mcr, "mcr", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(Uart, state.msr, "msr", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(Uart, state.scr, "scr", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U8(Uart, state.rx_len, "rx-fifo", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U8(Uart, state.tx_len, "tx-fifo", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U64(Uart, n_sent, "bytes-sent", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(Uart, n_received, "bytes-received", PTA_INSPECT_COUNTER),
        {},
    };
    Uart *u = uart_of(dev);
    g_mutex_lock(&u->lock);
    pta_inspect_fields(req, fields, u);
    pta_inspect_u64(req, "lsr", PTA_INSPECT_HEX, lsr_locked(&u->state));
    pta_inspect_u64(req, "divisor", PTA_INSPECT_PLAIN, u->state.dll | u->state.dlm << 8);
    g_mutex_unlock(&u->lock);
}

static PtaChardev *uart_chardev(PtaDevice *dev)
{
    return uart_of(dev)->chardev;
}

const PtaDeviceClass pta_uart16550_class = {
    .type = "uart16550",
    .instance_size = sizeof(Uart),
    .state = &uart_state,
    .state_offset = offsetof(Uart, state),
    .realize = uart_realize,
    .reset = uart_reset,
    .start = uart_start,
    .quiesce = uart_quiesce,
    .unrealize = uart_unrealize,
    .inspect = uart_inspect,
    .chardev = uart_chardev,
};
