/*
 * Interrupts and the short cuts of devices on /dev/kvm: the real IOAPIC and interrupt eventfds, a guest
 * of a few instructions, and devices that only keep a record. On any KVM: the guest is 32-bit code
 * without paging.
 */
#include "tests/device/fixture.h"

#include "src/partition/backend.h"

#include "devices/devices.h"
#include "devices/ioapic.h"
#include "devices/irq-fd.h"
#include "qmp/gen/types.h"
#include "src/kvm/kvm.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PIN        20
#define EDGE       0x41
#define LEVEL      0x51
#define LEVEL_MASK 0x52

/* The guest's memory. */
#define GDT   0x0800
#define IDT   0x1000
#define CODE  0x2000
#define STACK 0x8000
#define SIZE  0x10000

/* Where its devices are. */
#define RECORD FIX_MMIO_BASE /* an index register of four bytes, and data */
#define BELL   (RECORD + 0x50)
#define DONE   0x10 /* ports: it stops; */
#define SAYS   0x14 /* it says a vector */

/* clang-format off */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "guest_begin:\n"
        /* Doorbells: of two values, of none, and of another width. */
        "guest_bells:\n"
        "    movl $0, 0xd0000050\n"
        "    movl $1, 0xd0000050\n"
        "    movl $1, 0xd0000050\n"
        "    movl $7, 0xd0000050\n"
        "    movw $0, 0xd0000050\n"
        "    outl %eax, $0x10\n"
        "    hlt\n"
        /* Index register, data, index registers. */
        "guest_index:\n"
        "    movl $1, 0xd0000000\n"
        "    movl $2, 0xd0000000\n"
        "    movb $3, 0xd0000003\n"
        "    movl $4, 0xd0000004\n" /* data */
        "    movl $5, 0xd0000002\n" /* leaves the register */
        "    movl $6, 0xd0000000\n"
        "    movl $1, 0x9000\n"
        "1:  hlt\n"
        "    jmp 1b\n"
        /* More of them than a page holds. */
        "guest_many:\n"
        "    movl $1, %eax\n"
        "1:  movl %eax, 0xd0000000\n"
        "    incl %eax\n"
        "    cmpl $1000, %eax\n"
        "    jbe 1b\n"
        "    outl %eax, $0x10\n"
        "    hlt\n"
        /* Interrupts, with the local APIC on. Handlers do not return but wait again: where KVM
         * interprets ring 0, it has no IRET. */
        "guest_wait:\n"
        "    movl $0x1ff, 0xfee000f0\n"
        "    movb $0, %al\n"
        "    outb %al, $0x14\n"
        "guest_again:\n"
        "    movl $0x8000, %esp\n"
        "    sti\n"
        "1:  hlt\n"
        "    jmp 1b\n"
        "guest_edge:\n"
        "    movb $0x41, %al\n"
        "    jmp 1f\n"
        "guest_level:\n"
        "    movb $0x51, %al\n"
        "1:  outb %al, $0x14\n"
        "    movl $0, 0xfee000b0\n"
        "    jmp guest_again\n"
        /* Masks its input while it is not acknowledged, as Linux does to move an interrupt. */
        "guest_level_mask:\n"
        "    movl $0x38, 0xfec00000\n"
        "    movl $0x18052, 0xfec00010\n"
        "    movb $0x52, %al\n"
        "    outb %al, $0x14\n"
        "    movl $0, 0xfee000b0\n"
        "    movl $0x8052, 0xfec00010\n"
        "    jmp guest_again\n"
        "guest_end:\n"
        ".code64\n"
        ".popsection\n");
/* clang-format on */
extern const uint8_t guest_begin[], guest_end[], guest_bells[], guest_index[], guest_many[],
    guest_wait[], guest_edge[], guest_level[], guest_level_mask[];

typedef struct Machine {
    Fixture f;
    PtaBackend *be;
    PtaBackendVp *vp;
    PtaPlatform platform;
    uint8_t *ram;
    PtaDevice *ioapic;
    PtaIrqFds *fds;
    GThread *thread;
    int stop;             /* ATOMIC */
    PtaExitReason reason; /* why the thread ended */
    GArray *record;       /* VP: of uint64_t: offset << 32 | value */
    int said[256];        /* ATOMIC: by vector */
    int lower_after[256]; /* the pin's line falls when this is said so often */
    int eois;             /* ATOMIC */
} Machine;

static PtaCpuidTable cpuid;
static PtaX86Identity identity;

/* ---- what the guest's accesses do; VP ---- */

static uint64_t mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    uint64_t value = UINT64_MAX;
    pta_bus_read(((Machine *)opaque)->f.mmio, gpa, size, &value);
    return value;
}

static void mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    pta_bus_write(((Machine *)opaque)->f.mmio, gpa, size, value);
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    (void)opaque, (void)port, (void)size;
    return UINT32_MAX;
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    Machine *m = opaque;
    (void)size;
    if (port == DONE) {
        g_atomic_int_set(&m->stop, true);
        m->be->ops->vp_kick(m->vp);
    } else if (port == SAYS) {
        uint8_t vector = (uint8_t)value;
        if (g_atomic_int_add(&m->said[vector], 1) + 1 == m->lower_after[vector]) {
            pta_ioapic_set(m->ioapic, PIN, false);
        }
    }
}

static void on_eoi(void *opaque, uint8_t vector)
{
    Machine *m = opaque;
    g_atomic_int_inc(&m->eois);
    pta_ioapic_eoi(m->ioapic, vector);
}

static uint64_t record_read(void *opaque, uint64_t offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return 0;
}

static void record_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    Machine *m = opaque;
    uint64_t entry = offset << 32 | value;
    (void)size;
    g_array_append_val(m->record, entry);
}

static const PtaBusOps record_ops = { .read = record_read, .write = record_write };

/* ---- the machine ---- */

static void must(bool ok, GError *error)
{
    if (!ok) {
        fail_msg("%s", error ? error->message : "no error");
    }
}

static void ioapic_msi(void *opaque, uint64_t address, uint32_t data)
{
    Machine *m = opaque;
    m->be->ops->msi(m->be, address, data);
}

static void ioapic_route(void *opaque, unsigned pin, uint64_t address, uint32_t data)
{
    Machine *m = opaque;
    bool direct = address != 0 && !(data & 0x8000);
    if (!direct) {
        pta_irq_fds_route(m->fds, pin, false);
    }
    m->be->ops->route(m->be, pin, address, data);
    if (direct) {
        pta_irq_fds_route(m->fds, pin, true);
    }
}

static bool bind_fd(void *opaque, unsigned pin, int fd, bool on, GError **error)
{
    Machine *m = opaque;
    return m->be->ops->irqfd(m->be, pin, fd, on, error);
}

static bool host_coalesce(PtaDeviceHost *host, bool pio, uint64_t addr, uint64_t size, bool on,
                          GError **error)
{
    Machine *m = host->opaque;
    return m->be->ops->coalesce(m->be, pio, addr, size, on, error);
}

static bool host_doorbell(PtaDeviceHost *host, const PtaDoorbell *bell, bool on, GError **error)
{
    Machine *m = host->opaque;
    const PtaIoeventfd io = {
        .fd = bell->fd,
        .addr = bell->addr,
        .size = bell->size,
        .match = true,
        .value = bell->value,
    };
    return m->be->ops->ioeventfd(m->be, &io, on, error);
}

static bool create(Machine *m, GError **error)
{
    m->platform = (PtaPlatform){
        .opaque = m,
        .mmio_read = mmio_read,
        .mmio_write = mmio_write,
        .pio_read = pio_read,
        .pio_write = pio_write,
        .eoi = on_eoi,
    };
    PtaBackendParams params = { .n_vps = 1, .cpuid = &cpuid, .platform = &m->platform };
    m->be = pta_kvm_backend.create(&params, error);
    m->vp = m->be ? m->be->ops->vp_create(m->be, 0, error) : NULL;
    return m->vp != NULL;
}

static void add_ioapic(Machine *m, GError **error)
{
    const PtaIoapicConfig cfg = {
        .n_pins = 24,
        .base = PTA_IOAPIC_BASE,
        .msi = ioapic_msi,
        .route = ioapic_route,
        .opaque = m,
    };
    m->f.host.opaque = m;
    m->f.host.coalesce = host_coalesce;
    m->f.host.doorbell = host_doorbell;
    m->ioapic = pta_device_new(&pta_ioapic_class, "ioapic", &m->f.host, &cfg, error);
    m->fds = pta_irq_fds_new(&(PtaIrqFdsParams){
        .n_pins = 24,
        .context = m->f.context,
        .set = pta_ioapic_set,
        .set_opaque = m->ioapic,
        .bind = bind_fd,
        .bind_opaque = m,
    });
    if (m->ioapic) {
        pta_mmio_manager_connect(m->f.manager, pta_ioapic_set, m->ioapic, m->fds);
    }
}

static Machine *machine_new(void)
{
    g_autoptr(GError) error = NULL;
    Machine *m = g_new0(Machine, 1);
    fix_new(&m->f);
    m->record = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    must(create(m, &error), error);
    add_ioapic(m, &error);
    must(m->ioapic != NULL, error);
    must(posix_memalign((void **)&m->ram, PTA_PAGE_SIZE, SIZE) == 0, NULL);
    memset(m->ram, 0, SIZE);
    must(m->be->ops->map(m->be, 0, SIZE, m->ram, PTA_MAP_READ | PTA_MAP_WRITE | PTA_MAP_EXEC,
                         &error),
         error);
    must(pta_bus_add(m->f.mmio, RECORD, 0x1000, "record", &record_ops, m, &error), error);
    return m;
}

static void machine_free(Machine *m)
{
    pta_bus_remove(m->f.mmio, RECORD);
    pta_irq_fds_free(m->fds);
    pta_device_free(m->ioapic);
    m->be->ops->vp_destroy(m->vp);
    m->be->ops->destroy(m->be);
    g_array_free(m->record, TRUE);
    fix_free(&m->f);
    free(m->ram);
    g_free(m);
}

/* ---- the guest ---- */

static void gate(Machine *m, unsigned vector, const uint8_t *handler)
{
    uint64_t at = CODE + (uint64_t)(handler - guest_begin);
    uint64_t entry =
        (at & 0xffff) | UINT64_C(8) << 16 | UINT64_C(0x8e00) << 32 | (at & 0xffff0000) << 32;
    memcpy(m->ram + IDT + 8u * vector, &entry, sizeof(entry));
}

static void load(Machine *m, const uint8_t *entry)
{
    static const uint64_t gdt[] = { 0, UINT64_C(0x00cf9b000000ffff), UINT64_C(0x00cf93000000ffff) };
    g_autoptr(GError) error = NULL;
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    memcpy(m->ram + GDT, gdt, sizeof(gdt));
    memcpy(m->ram + CODE, guest_begin, (size_t)(guest_end - guest_begin));
    gate(m, EDGE, guest_edge);
    gate(m, LEVEL, guest_level);
    gate(m, LEVEL_MASK, guest_level_mask);
    pta_x86_state_reset(s, 0, true);
    s->regs.cr0 |= 1;
    s->regs.rip = CODE + (uint64_t)(entry - guest_begin);
    s->regs.gpr[PTA_X86_RSP] = STACK;
    s->regs.gdtr = (PtaX86Table){ .base = GDT, .limit = sizeof(gdt) - 1 };
    s->regs.idtr = (PtaX86Table){ .base = IDT, .limit = 0x7ff };
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        bool code = i == PTA_X86_CS;
        s->regs.seg[i] = (PtaX86Segment){
            .limit = UINT32_MAX,
            .selector = code ? 8 : 16,
            .attrs = code ? 0xc09b : 0xc093,
        };
    }
    must(m->be->ops->vp_set_state(m->vp, s, &error), error);
}

static gpointer run(gpointer data)
{
    Machine *m = data;
    PtaExit exit = { 0 };
    do {
        m->be->ops->vp_run(m->vp, &exit);
    } while (exit.reason == PTA_EXIT_INTERRUPTED && !g_atomic_int_get(&m->stop));
    if (exit.reason == PTA_EXIT_INTERNAL_ERROR) {
        print_error("%s\n", exit.error.text);
    }
    m->reason = exit.reason;
    return NULL;
}

static void start(Machine *m)
{
    g_atomic_int_set(&m->stop, false);
    m->be->ops->clock_start(m->be);
    m->thread = g_thread_new("vp", run, m);
}

/* By itself, or now. */
static void join(Machine *m)
{
    g_thread_join(m->thread);
    assert_int_equal(m->reason, PTA_EXIT_INTERRUPTED);
    m->be->ops->clock_stop(m->be);
}

static void stop(Machine *m)
{
    g_atomic_int_set(&m->stop, true);
    m->be->ops->vp_kick(m->vp);
    join(m);
}

static void wait_for(const int *what, int n)
{
    int64_t deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    while (g_atomic_int_get(what) < n) {
        if (g_get_monotonic_time() > deadline) {
            fail_msg("%d instead of %d", g_atomic_int_get(what), n);
        }
        g_usleep(200);
    }
}

static uint64_t stat_of(const Machine *m, const char *name)
{
    uint64_t values[KVM_N_STATS];
    m->be->ops->vp_get_stats(m->vp, values);
    for (unsigned i = 0; i < KVM_N_STATS; i++) {
        if (strcmp(m->be->ops->stat_names[i], name) == 0) {
            return values[i];
        }
    }
    fail_msg("no %s", name);
    return 0;
}

static uint64_t take(int fd)
{
    uint64_t count = 0;
    return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static uint64_t recorded(const Machine *m, unsigned i)
{
    assert_in_range(i, 0, m->record->len - 1);
    return g_array_index(m->record, uint64_t, i);
}

/* ---- doorbells ---- */

static void doorbells_ring_in_the_kernel(void **unused)
{
    (void)unused;
    g_autoptr(GError) error = NULL;
    Machine *m = machine_new();
    int fds[2];
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        PtaDoorbell bell = { .fd = fds[i], .addr = BELL, .size = 4, .value = i };
        must(m->f.host.doorbell(&m->f.host, &bell, true, &error), error);
    }
    load(m, guest_bells);
    start(m);
    join(m);
    assert_int_equal(take(fds[0]), 1);
    assert_int_equal(take(fds[1]), 2);
    assert_int_equal(m->record->len, 2); /* those that fit no doorbell */
    assert_int_equal(recorded(m, 0), UINT64_C(0x50) << 32 | 7);
    assert_int_equal(recorded(m, 1), UINT64_C(0x50) << 32);
    assert_int_equal(stat_of(m, "mmio"), 2);
    assert_int_equal(stat_of(m, "port-io"), 1);
    /* Taken away: all come by the bus. */
    for (unsigned i = 0; i < 2; i++) {
        PtaDoorbell bell = { .fd = fds[i], .addr = BELL, .size = 4, .value = i };
        must(m->f.host.doorbell(&m->f.host, &bell, false, &error), error);
    }
    load(m, guest_bells);
    start(m);
    join(m);
    assert_int_equal(take(fds[0]) + take(fds[1]), 0);
    assert_int_equal(m->record->len, 2 + 5);
    close(fds[0]);
    close(fds[1]);
    machine_free(m);
}

/* ---- index registers ---- */

static void late_writes_keep_their_order(void **unused)
{
    (void)unused;
    g_autoptr(GError) error = NULL;
    Machine *m = machine_new();
    must(m->f.host.coalesce(&m->f.host, false, RECORD, 4, true, &error), error);
    load(m, guest_index);
    start(m);
    const uint32_t *done = (const uint32_t *)(m->ram + 0x9000);
    wait_for((const int *)done, 1);
    stop(m);
    static const uint64_t want[] = {
        1, 2, UINT64_C(3) << 32 | 3, UINT64_C(4) << 32 | 4, UINT64_C(2) << 32 | 5, 6,
    };
    assert_int_equal(m->record->len, G_N_ELEMENTS(want));
    for (unsigned i = 0; i < G_N_ELEMENTS(want); i++) {
        assert_int_equal(recorded(m, i), want[i]);
    }
    assert_int_equal(stat_of(m, "mmio"), 2);
    /* The last one had no exit to come with: it came when the machine stopped. */
    assert_in_range(stat_of(m, "coalesced"), 3, 4);
    must(m->f.host.coalesce(&m->f.host, false, RECORD, 4, false, &error), error);
    machine_free(m);
}

static void a_full_ring_is_no_loss(void **unused)
{
    (void)unused;
    g_autoptr(GError) error = NULL;
    Machine *m = machine_new();
    must(m->f.host.coalesce(&m->f.host, false, RECORD, 4, true, &error), error);
    load(m, guest_many);
    start(m);
    join(m);
    assert_int_equal(m->record->len, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(recorded(m, i), i + 1);
    }
    assert_true(stat_of(m, "coalesced") > 900);
    assert_true(stat_of(m, "mmio") < 20);
    must(m->f.host.coalesce(&m->f.host, false, RECORD, 4, false, &error), error);
    machine_free(m);
}

/* ---- interrupts ---- */

static void redirect(Machine *m, uint32_t low)
{
    fix_w32(&m->f, PTA_IOAPIC_BASE, 0x11 + 2 * PIN);
    fix_w32(&m->f, PTA_IOAPIC_BASE + 0x10, 0); /* APIC 0 */
    fix_w32(&m->f, PTA_IOAPIC_BASE, 0x10 + 2 * PIN);
    fix_w32(&m->f, PTA_IOAPIC_BASE + 0x10, low);
}

static PtaIrqFd *line_fd(Machine *m)
{
    const PtaIrqLine line = { pta_ioapic_set, m->ioapic, PIN, m->fds };
    PtaIrqFd *fd = pta_irq_fd_new(&line, NULL);
    assert_non_null(fd);
    return fd;
}

static bool in_irr(Machine *m, unsigned vector)
{
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    m->be->ops->vp_get_state(m->vp, s);
    return s->lapic.page[0x200 + (vector >> 5) * 16 + (vector >> 3 & 3)] >> (vector & 7) & 1;
}

static void an_eventfd_interrupts(void **unused)
{
    (void)unused;
    Machine *m = machine_new();
    PtaIrqFd *fd = line_fd(m);
    load(m, guest_wait);
    redirect(m, EDGE);
    pta_irq_fd_start(fd);
    start(m);
    wait_for(&m->said[0], 1);
    for (int i = 1; i <= 20; i++) {
        assert_true(pta_irq_fd_signal(fd));
        wait_for(&m->said[EDGE], i);
    }
    assert_int_equal(g_atomic_int_get(&m->eois), 0);
    assert_int_equal(pta_irq_fds_signalled(m->fds, PIN), 20);
    /* Masked: it waits, and comes when the mask goes, once. */
    redirect(m, 0x10000 | EDGE);
    assert_false(pta_irq_fd_signal(fd));
    uint64_t two = 2;
    assert_int_equal(write(pta_irq_fd_get(fd), &two, sizeof(two)), sizeof(two));
    fix_run(&m->f);
    g_usleep(20000);
    assert_int_equal(g_atomic_int_get(&m->said[EDGE]), 20);
    redirect(m, EDGE);
    wait_for(&m->said[EDGE], 21);
    g_usleep(20000);
    assert_int_equal(g_atomic_int_get(&m->said[EDGE]), 21);
    /* What is signalled just before it stops is in the APIC, and so in a saved state. */
    stop(m);
    assert_true(pta_irq_fd_signal(fd));
    pta_irq_fd_stop(fd);
    assert_true(in_irr(m, EDGE));
    pta_irq_fd_start(fd);
    start(m);
    wait_for(&m->said[EDGE], 22);
    stop(m);
    assert_int_equal(g_atomic_int_get(&m->said[EDGE]), 22);
    pta_irq_fd_stop(fd);
    pta_irq_fd_free(fd);
    machine_free(m);
}

/* Broadcast is nothing that KVM sends from within the signal: it takes a worker of the kernel. */
static void a_slow_way_is_waited_for(void **unused)
{
    (void)unused;
    Machine *m = machine_new();
    PtaIrqFd *fd = line_fd(m);
    load(m, guest_wait);
    fix_w32(&m->f, PTA_IOAPIC_BASE, 0x11 + 2 * PIN);
    fix_w32(&m->f, PTA_IOAPIC_BASE + 0x10, UINT32_C(0xff) << 24);
    fix_w32(&m->f, PTA_IOAPIC_BASE, 0x10 + 2 * PIN);
    fix_w32(&m->f, PTA_IOAPIC_BASE + 0x10, EDGE);
    start(m);
    wait_for(&m->said[0], 1);
    for (int i = 1; i <= 50; i++) {
        stop(m);
        pta_irq_fd_start(fd);
        assert_true(pta_irq_fd_signal(fd));
        pta_irq_fd_stop(fd);
        assert_true(in_irr(m, EDGE));
        start(m);
        wait_for(&m->said[EDGE], i);
    }
    stop(m);
    pta_irq_fd_free(fd);
    machine_free(m);
}

static void level_comes_again_until_it_falls(void **unused)
{
    (void)unused;
    Machine *m = machine_new();
    load(m, guest_wait);
    redirect(m, 0x8000 | LEVEL);
    m->lower_after[LEVEL] = 3;
    start(m);
    wait_for(&m->said[0], 1);
    pta_ioapic_set(m->ioapic, PIN, true);
    wait_for(&m->said[LEVEL], 3);
    wait_for(&m->eois, 3);
    g_usleep(20000);
    assert_int_equal(g_atomic_int_get(&m->said[LEVEL]), 3);
    /* The vector changes, and with it what the kernel tells of. */
    redirect(m, 0x8000 | LEVEL_MASK);
    m->lower_after[LEVEL_MASK] = 4;
    pta_ioapic_set(m->ioapic, PIN, true);
    wait_for(&m->said[LEVEL_MASK], 4);
    wait_for(&m->eois, 7);
    g_usleep(20000);
    assert_int_equal(g_atomic_int_get(&m->said[LEVEL_MASK]), 4);
    assert_int_equal(stat_of(m, "eois"), 7);
    stop(m);
    assert_true(stat_of(m, "coalesced") > 0); /* IOREGSEL */
    machine_free(m);
}

static void a_restored_ioapic_routes(void **unused)
{
    (void)unused;
    Machine *m = machine_new();
    PtaIrqFd *fd = line_fd(m);
    load(m, guest_wait);
    redirect(m, EDGE);
    json_t *saved = pta_device_save(m->ioapic);
    pta_device_reset(m->ioapic);
    pta_irq_fd_start(fd);
    start(m);
    wait_for(&m->said[0], 1);
    assert_false(pta_irq_fd_signal(fd));
    stop(m);
    pta_irq_fd_stop(fd);
    assert_true(pta_device_restore(m->ioapic, saved, NULL));
    pta_irq_fd_start(fd);
    start(m);
    assert_true(pta_irq_fd_signal(fd));
    wait_for(&m->said[EDGE], 1);
    stop(m);
    pta_irq_fd_stop(fd);
    pta_irq_fd_free(fd);
    json_decref(saved);
    machine_free(m);
}

/* ---- the host refuses ---- */

static unsigned long refused;
static PtaKvmIoctlFn *real_ioctl;

static int refusing_ioctl(int fd, unsigned long request, void *arg)
{
    if (request == refused) {
        const struct kvm_enable_cap *cap = arg;
        if (request != KVM_ENABLE_CAP || cap->cap == KVM_CAP_SPLIT_IRQCHIP) {
            errno = ENOSPC;
            return -1;
        }
    }
    return real_ioctl(fd, request, arg);
}

static void refusals_name_the_call(void **unused)
{
    (void)unused;
    static const struct {
        unsigned long request;
        const char *says;
    } tries[] = {
        { KVM_ENABLE_CAP, "kvm: KVM_CAP_SPLIT_IRQCHIP: KVM_ENABLE_CAP: No space left on device" },
        { KVM_REGISTER_COALESCED_MMIO,
          "ioapic: KVM_REGISTER_COALESCED_MMIO: No space left on device" },
        { KVM_IOEVENTFD, "rng0: KVM_IOEVENTFD: No space left on device" },
    };
    real_ioctl = pta_kvm_ioctl_hook;
    for (size_t i = 0; i < G_N_ELEMENTS(tries); i++) {
        g_autoptr(GError) error = NULL;
        Machine m = { 0 };
        VirtioRngConfig cfg = { 0 };
        unsigned fds = fix_n_fds();
        fix_new(&m.f);
        refused = tries[i].request;
        pta_kvm_ioctl_hook = refusing_ioctl;
        if (create(&m, &error)) {
            add_ioapic(&m, &error);
            PtaDevice *rng =
                m.ioapic ? pta_device_new(&pta_virtio_rng_class, "rng0", &m.f.host, &cfg, &error)
                         : NULL;
            assert_null(rng);
            pta_irq_fds_free(m.fds);
            pta_device_free(m.ioapic);
            assert_int_equal(pta_mmio_manager_count(m.f.manager), 0);
            m.be->ops->vp_destroy(m.vp);
            m.be->ops->destroy(m.be);
        }
        pta_kvm_ioctl_hook = real_ioctl;
        assert_non_null(error);
        assert_string_equal(error->message, tries[i].says);
        fix_free(&m.f);
        assert_int_equal(fix_n_fds(), fds);
    }
}

int main(void)
{
    g_autoptr(GError) error = NULL;
    if (!pta_kvm_backend.probe(&error)) {
        printf("1..0 # SKIP %s\n", error->message);
        return 0;
    }
    pta_thread_init_main();
    pta_kvm_backend.cpu_identity(PTA_HYPERVISOR_NONE, &identity);
    PtaCpuidParams params = { .n_vps = 1,
                              .tsc_hz = pta_kvm_backend.tsc_hz(NULL),
                              .apic_hz = 1000000000,
                              .supported = pta_kvm_backend.cpu_features(),
                              .identity = &identity };
    if (!pta_cpuid_build(&cpuid, &params, &error)) {
        g_printerr("%s\n", error->message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doorbells_ring_in_the_kernel),
        cmocka_unit_test(late_writes_keep_their_order),
        cmocka_unit_test(a_full_ring_is_no_loss),
        cmocka_unit_test(an_eventfd_interrupts),
        cmocka_unit_test(a_slow_way_is_waited_for),
        cmocka_unit_test(level_comes_again_until_it_falls),
        cmocka_unit_test(a_restored_ioapic_routes),
        cmocka_unit_test(refusals_name_the_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
