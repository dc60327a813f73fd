/*
 * The back end of the software CPU as the partition uses it: small real-mode guests on VP threads.
 * Nothing waits without a limit: a guest that hangs fails its test after WAIT_S.
 */
#include "config.h"

#include "src/partition/backend.h"
#include "src/soft/soft.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define RAM_SIZE         (UINT64_C(1) << 20)
#define MAX_VPS          4
#define WAIT_S           60

#define CODE             0x1000u
#define HANDLER          0x3000u
#define AP_CODE          0x9000u /* start-up vector 9 */
#define STACK            0x8000u

#define MSR_APIC_BASE    0x1bu
#define MSR_X2_EOI       0x80bu
#define MSR_X2_SVR       0x80fu
#define MSR_X2_ICR       0x830u
#define MSR_X2_LVT_TIMER 0x832u
#define MSR_X2_ICOUNT    0x838u
#define MSR_X2_DCR       0x83eu
#define MSR_DEADLINE     0x6e0u

/* ---- a machine ---- */

typedef struct World World;

typedef struct Vp {
    World *world;
    PtaBackendVp *vp;
    GThread *thread;
    PtaExit exit;    /* after the thread has ended */
    unsigned n_runs; /* how often to run again after INTERRUPTED */
} Vp;

struct World {
    PtaBackend *be;
    const PtaBackendOps *ops;
    PtaPlatform platform;
    PtaCpuidTable cpuid;
    uint8_t *ram;
    unsigned n_vps;
    Vp vps[MAX_VPS];
    GMutex lock;
    GCond cond;
    /* LOCKED */
    unsigned n_out[256];  /* writes to each port */
    uint32_t out[256];    /* the last value */
    uint64_t out_ns[256]; /* when, partition clock */
    uint64_t mmio_read_gpa, mmio_write_gpa, mmio_value;
    unsigned n_mmio;
    uint16_t kick_on_port;
    uint32_t gate; /* what GATE_PORT reads as, once */
};

#define GATE_PORT 0x60

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    World *w = opaque;
    (void)size;
    g_mutex_lock(&w->lock);
    w->n_out[port & 0xff]++;
    w->out[port & 0xff] = value;
    w->out_ns[port & 0xff] = w->ops->clock_ns(w->be);
    if (w->kick_on_port && port == w->kick_on_port) {
        w->ops->vp_kick(w->vps[0].vp);
    }
    g_cond_broadcast(&w->cond);
    g_mutex_unlock(&w->lock);
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    World *w = opaque;
    (void)size;
    if (port != GATE_PORT) {
        return port * 3u;
    }
    g_mutex_lock(&w->lock);
    uint32_t open = w->gate;
    w->gate = 0;
    g_mutex_unlock(&w->lock);
    return open;
}

static uint64_t mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    World *w = opaque;
    (void)size;
    g_mutex_lock(&w->lock);
    w->mmio_read_gpa = gpa;
    w->n_mmio++;
    g_mutex_unlock(&w->lock);
    return 0x5c;
}

static void mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    World *w = opaque;
    (void)size;
    g_mutex_lock(&w->lock);
    w->mmio_write_gpa = gpa;
    w->mmio_value = value;
    w->n_mmio++;
    g_mutex_unlock(&w->lock);
}

static bool no_msr_read(void *opaque, unsigned vp, uint32_t msr, uint64_t *value)
{
    (void)opaque, (void)vp, (void)msr, (void)value;
    return false;
}

static bool no_msr_write(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    (void)opaque, (void)vp, (void)msr, (void)value;
    return false;
}

static bool no_hypercall(void *opaque, unsigned vp, PtaX86Regs *regs)
{
    (void)opaque, (void)vp, (void)regs;
    return false;
}

static void no_eoi(void *opaque, uint8_t vector)
{
    (void)opaque, (void)vector;
}

static void set_real_mode(World *w, unsigned vp, uint32_t rip)
{
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    g_autoptr(GError) error = NULL;
    w->ops->vp_get_state(w->vps[vp].vp, s);
    s->regs.seg[PTA_X86_CS].base = 0;
    s->regs.seg[PTA_X86_CS].selector = 0;
    s->regs.rip = rip;
    s->regs.gpr[PTA_X86_RSP] = STACK - vp * 0x100;
    s->regs.rflags = 2;
    s->events.activity = PTA_X86_RUNNING;
    assert_true(w->ops->vp_set_state(w->vps[vp].vp, s, &error));
    assert_null(error);
}

static World *new_world(unsigned n_vps)
{
    World *w = g_new0(World, 1);
    g_autoptr(GError) error = NULL;
    w->ops = &pta_soft_backend;
    w->n_vps = n_vps;
    g_mutex_init(&w->lock);
    g_cond_init(&w->cond);
    w->platform = (PtaPlatform){
        .opaque = w,
        .mmio_read = mmio_read,
        .mmio_write = mmio_write,
        .pio_read = pio_read,
        .pio_write = pio_write,
        .msr_read = no_msr_read,
        .msr_write = no_msr_write,
        .hypercall = no_hypercall,
        .eoi = no_eoi,
    };
    PtaCpuidParams cp = { .n_vps = n_vps,
                          .tsc_hz = w->ops->tsc_hz(NULL),
                          .apic_hz = w->ops->apic_hz(NULL),
                          .supported = w->ops->cpu_features() };
    assert_true(pta_cpuid_build(&w->cpuid, &cp, &error));
    PtaBackendParams bp = { .n_vps = n_vps, .cpuid = &w->cpuid, .platform = &w->platform };
    w->be = w->ops->create(&bp, &error);
    assert_non_null(w->be);
    w->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(w->ram != MAP_FAILED);
    assert_true(w->ops->map(w->be, 0, RAM_SIZE, w->ram, PTA_MAP_READ | PTA_MAP_WRITE | PTA_MAP_EXEC,
                            &error));
    for (unsigned i = 0; i < n_vps; i++) {
        w->vps[i].world = w;
        w->vps[i].vp = w->ops->vp_create(w->be, i, &error);
        assert_non_null(w->vps[i].vp);
    }
    return w;
}

static void free_world(World *w)
{
    for (unsigned i = 0; i < w->n_vps; i++) {
        assert_null(w->vps[i].thread);
        w->ops->vp_destroy(w->vps[i].vp);
    }
    assert_true(w->ops->unmap(w->be, 0, RAM_SIZE, NULL));
    w->ops->destroy(w->be);
    munmap(w->ram, RAM_SIZE);
    g_mutex_clear(&w->lock);
    g_cond_clear(&w->cond);
    g_free(w);
}

static gpointer vp_thread(gpointer data)
{
    Vp *vp = data;
    do {
        vp->world->ops->vp_run(vp->vp, &vp->exit);
    } while (vp->exit.reason == PTA_EXIT_INTERRUPTED && vp->n_runs-- > 0);
    return NULL;
}

static void start(World *w, unsigned vp, unsigned again)
{
    w->vps[vp].n_runs = again;
    w->vps[vp].thread = g_thread_new("vp", vp_thread, &w->vps[vp]);
}

static PtaExitReason join(World *w, unsigned vp)
{
    g_thread_join(g_steal_pointer(&w->vps[vp].thread));
    return w->vps[vp].exit.reason;
}

static PtaExitReason stop(World *w, unsigned vp)
{
    w->ops->vp_kick(w->vps[vp].vp);
    return join(w, vp);
}

/* Waits until `port` was written `n` times; false if that takes for ever. */
static bool wait_out(World *w, uint8_t port, unsigned n)
{
    int64_t until = g_get_monotonic_time() + WAIT_S * G_TIME_SPAN_SECOND;
    bool ok = true;
    g_mutex_lock(&w->lock);
    while (w->n_out[port] < n && ok) {
        ok = g_cond_wait_until(&w->cond, &w->lock, until);
    }
    g_mutex_unlock(&w->lock);
    return ok;
}

static bool wait_value(World *w, uint8_t port, uint32_t value)
{
    int64_t until = g_get_monotonic_time() + WAIT_S * G_TIME_SPAN_SECOND;
    bool ok = true;
    g_mutex_lock(&w->lock);
    while (!(w->n_out[port] && w->out[port] == value) && ok) {
        ok = g_cond_wait_until(&w->cond, &w->lock, until);
    }
    g_mutex_unlock(&w->lock);
    return ok;
}

static unsigned outs(World *w, uint8_t port)
{
    g_mutex_lock(&w->lock);
    unsigned n = w->n_out[port];
    g_mutex_unlock(&w->lock);
    return n;
}

static PtaX86State *state_of(World *w, unsigned vp)
{
    PtaX86State *s = g_new(PtaX86State, 1);
    w->ops->vp_get_state(w->vps[vp].vp, s);
    return s;
}

/* ---- an assembler of what is needed, 16-bit ---- */

typedef struct Asm {
    uint8_t *at;
} Asm;

static void emit(Asm *a, const void *bytes, size_t n)
{
    memcpy(a->at, bytes, n);
    a->at += n;
}

#define EMIT(a, ...) \
    emit(a, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void mov32(Asm *a, uint8_t opcode, uint32_t value)
{
    EMIT(a, 0x66, opcode, (uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
         (uint8_t)(value >> 24));
}

static void out8(Asm *a, uint8_t port, uint8_t value)
{
    EMIT(a, 0xb0, value, 0xe6, port); /* mov al, value; out port, al */
}

static void wrmsr(Asm *a, uint32_t msr, uint64_t value)
{
    mov32(a, 0xb9, msr);
    mov32(a, 0xb8, (uint32_t)value);
    mov32(a, 0xba, (uint32_t)(value >> 32));
    EMIT(a, 0x0f, 0x30);
}

static void hlt(Asm *a)
{
    EMIT(a, 0xf4);
}

static void sti(Asm *a)
{
    EMIT(a, 0xfb);
}

static void cli(Asm *a)
{
    EMIT(a, 0xfa);
}

/* x2APIC, enabled by software. */
static void apic_on(Asm *a, bool bsp)
{
    wrmsr(a, MSR_APIC_BASE, UINT64_C(0xfee00c00) | (bsp ? 0x100 : 0));
    wrmsr(a, MSR_X2_SVR, 0x1ff);
}

/* TSC deadline = now + ns (a tick is a nanosecond). */
static void deadline_in(Asm *a, uint32_t ns)
{
    EMIT(a, 0x0f, 0x31); /* rdtsc */
    EMIT(a, 0x66, 0x05, (uint8_t)ns, (uint8_t)(ns >> 8), (uint8_t)(ns >> 16), (uint8_t)(ns >> 24));
    EMIT(a, 0x66, 0x83, 0xd2, 0x00); /* adc edx, 0 */
    mov32(a, 0xb9, MSR_DEADLINE);
    EMIT(a, 0x0f, 0x30);
}

static Asm at(World *w, uint32_t gpa)
{
    return (Asm){ w->ram + gpa };
}

/* The handler of `vector`: tells `port`, ends the interrupt, returns. */
static void handler(World *w, uint8_t vector, uint8_t port, bool eoi)
{
    uint32_t gpa = HANDLER + vector * 64u;
    uint32_t entry = gpa; /* 0000:gpa */
    memcpy(w->ram + vector * 4u, &entry, 4);
    Asm a = at(w, gpa);
    EMIT(&a, 0x66, 0x60); /* pushad */
    out8(&a, port, vector);
    if (eoi) {
        wrmsr(&a, MSR_X2_EOI, 0);
    }
    EMIT(&a, 0x66, 0x61, 0xcf); /* popad; iret */
}

/* ---- tests ---- */

static void a_guest_writes_to_a_port_and_halts(void **unused)
{
    World *w = new_world(1);
    Asm a = at(w, CODE);
    out8(&a, 0x10, 0x42);
    EMIT(&a, 0xe4, 0x21, 0xe6, 0x11); /* in al, 21h; out 11h, al */
    hlt(&a);
    uint32_t after = (uint32_t)(a.at - w->ram);
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x11, 1));
    assert_int_equal(w->out[0x10], 0x42);
    assert_int_equal(w->out[0x11], 0x63);
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    g_autofree PtaX86State *s = state_of(w, 0);
    while (s->events.activity != PTA_X86_HALTED) { /* it was stopped just before */
        assert_true(s->regs.rip < after);
        start(w, 0, 0);
        g_usleep(1000);
        assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
        w->ops->vp_get_state(w->vps[0].vp, s);
    }
    assert_int_equal(s->regs.rip, after);
    /* It goes on being halted. */
    start(w, 0, 0);
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    g_autofree PtaX86State *again = state_of(w, 0);
    assert_int_equal(again->regs.rip, after);
    free_world(w);
}

static void a_kick_before_the_run_is_kept(void **unused)
{
    World *w = new_world(1);
    Asm a = at(w, CODE);
    out8(&a, 0x10, 1);
    hlt(&a);
    set_real_mode(w, 0, CODE);
    w->ops->vp_kick(w->vps[0].vp);
    PtaExit exit;
    w->ops->vp_run(w->vps[0].vp, &exit);
    assert_int_equal(exit.reason, PTA_EXIT_INTERRUPTED);
    g_autofree PtaX86State *s = state_of(w, 0);
    assert_int_equal(s->regs.rip, CODE);
    assert_int_equal(outs(w, 0x10), 0);
    free_world(w);
}

/* A kick that comes with the HLT: the state says that it was executed. */
static void a_kick_does_not_swallow_a_halt(void **unused)
{
    World *w = new_world(1);
    Asm a = at(w, CODE);
    EMIT(&a, 0xba, 0x10, 0x00, 0x6e); /* mov dx, 10h; outsb, which does not end its block */
    hlt(&a);
    uint32_t after = (uint32_t)(a.at - w->ram);
    w->kick_on_port = 0x10;
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_int_equal(join(w, 0), PTA_EXIT_INTERRUPTED);
    g_autofree PtaX86State *s = state_of(w, 0);
    assert_int_equal(s->regs.rip, after);
    assert_int_equal(s->events.activity, PTA_X86_HALTED);
    free_world(w);
}

/* Four VPs, spinning or halted, kicked at all times: every kick ends one run. */
static void kicks_race_with_runs(void **unused)
{
    World *w = new_world(MAX_VPS);
    Asm a = at(w, CODE);
    EMIT(&a, 0xeb, 0xfe); /* jmp $ */
    a = at(w, CODE + 0x100);
    hlt(&a);
    w->ops->clock_start(w->be);
    for (unsigned i = 0; i < MAX_VPS; i++) {
        set_real_mode(w, i, i & 1 ? CODE + 0x100 : CODE);
    }
    for (unsigned round = 0; round < 100; round++) {
        bool early = round % 3 == 0;
        for (unsigned i = 0; i < MAX_VPS && early; i++) {
            w->ops->vp_kick(w->vps[i].vp);
        }
        for (unsigned i = 0; i < MAX_VPS; i++) {
            start(w, i, 0);
        }
        if (round % 3 == 1) {
            g_usleep(round * 7 % 300);
        }
        for (unsigned i = 0; i < MAX_VPS && !early; i++) {
            w->ops->vp_kick(w->vps[i].vp);
        }
        for (unsigned i = 0; i < MAX_VPS; i++) {
            assert_int_equal(join(w, i), PTA_EXIT_INTERRUPTED);
        }
    }
    free_world(w);
}

static void aps_wait_for_their_start_up(void **unused)
{
    World *w = new_world(MAX_VPS);
    Asm a = at(w, CODE);
    apic_on(&a, true);
    wrmsr(&a, MSR_X2_ICR, 0xc4500); /* INIT to all but self */
    wrmsr(&a, MSR_X2_ICR, 0xc4609); /* start-up at 9000h, */
    wrmsr(&a, MSR_X2_ICR, 0xc4609); /* twice, as everybody does */
    hlt(&a);
    a = at(w, AP_CODE);
    apic_on(&a, false);
    mov32(&a, 0xb9, 0x802);
    EMIT(&a, 0x0f, 0x32);             /* rdmsr: the APIC id */
    EMIT(&a, 0x04, 0x20, 0x88, 0xc2); /* add al, 20h; mov dl, al */
    EMIT(&a, 0xb6, 0x00, 0xee);       /* mov dh, 0; out dx, al */
    hlt(&a);
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    for (unsigned i = 1; i < MAX_VPS; i++) {
        start(w, i, 0);
    }
    g_usleep(2000);
    for (unsigned i = 1; i < MAX_VPS; i++) {
        assert_int_equal(outs(w, (uint8_t)(0x20 + i)), 0);
    }
    start(w, 0, 0);
    for (unsigned i = 1; i < MAX_VPS; i++) {
        assert_true(wait_out(w, (uint8_t)(0x20 + i), 1));
    }
    for (unsigned i = 0; i < MAX_VPS; i++) {
        assert_int_equal(stop(w, i), PTA_EXIT_INTERRUPTED);
        assert_int_equal(outs(w, (uint8_t)(0x20 + i)), i ? 1 : 0); /* the second was ignored */
    }
    g_autofree PtaX86State *s = state_of(w, 3);
    assert_int_equal(s->regs.seg[PTA_X86_CS].selector, 0x900);
    assert_int_equal(s->regs.seg[PTA_X86_CS].base, AP_CODE);
    free_world(w);
}

static void the_deadline_wakes_a_halted_vp(void **unused)
{
    World *w = new_world(1);
    handler(w, 0x40, 0x13, true);
    Asm a = at(w, CODE);
    apic_on(&a, true);
    wrmsr(&a, MSR_X2_LVT_TIMER, 0x40040);
    out8(&a, 0x10, 0);
    deadline_in(&a, 5000000);
    sti(&a);
    hlt(&a);
    out8(&a, 0x14, 0);
    cli(&a);
    hlt(&a);
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x14, 1));
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    assert_int_equal(w->n_out[0x13], 1);
    assert_true(w->out_ns[0x13] - w->out_ns[0x10] >= 5000000);
    free_world(w);
}

/* A VP that never halts looks at its timer all the same. */
static void the_timer_interrupts_a_busy_vp(void **unused)
{
    World *w = new_world(1);
    handler(w, 0x41, 0x13, true);
    Asm a = at(w, CODE);
    apic_on(&a, true);
    wrmsr(&a, MSR_X2_LVT_TIMER, 0x20041); /* periodic */
    wrmsr(&a, MSR_X2_DCR, 0xb);
    wrmsr(&a, MSR_X2_ICOUNT, 500000);
    sti(&a);
    EMIT(&a, 0xeb, 0xfe);
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x13, 20));
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    free_world(w);
}

static uint64_t cpu_time_us(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define IDLE_RATIO 5 /* the sanitizer's own cost */
#else
#define IDLE_RATIO 50
#endif

/* 250 ticks a second, as a kernel that is not tickless: under 2 % of a core. */
static void an_idle_guest_costs_little(void **unused)
{
    World *w = new_world(1);
    handler(w, 0x41, 0x13, true);
    Asm a = at(w, CODE);
    apic_on(&a, true);
    wrmsr(&a, MSR_X2_LVT_TIMER, 0x20041);
    wrmsr(&a, MSR_X2_DCR, 0xb);
    wrmsr(&a, MSR_X2_ICOUNT, 4000000);
    sti(&a);
    hlt(&a);
    EMIT(&a, 0xeb, 0xfd); /* jmp to the hlt */
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x13, 5));
    uint64_t cpu = cpu_time_us();
    int64_t wall = g_get_monotonic_time();
    unsigned ticks = outs(w, 0x13);
    g_usleep(400000);
    ticks = outs(w, 0x13) - ticks;
    cpu = cpu_time_us() - cpu;
    wall = g_get_monotonic_time() - wall;
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    print_message("# %u ticks, %" G_GUINT64_FORMAT " us of CPU in %" G_GINT64_FORMAT " us\n", ticks,
                  cpu, wall);
    assert_true(ticks >= 10);
    assert_true(cpu * IDLE_RATIO <= (uint64_t)wall);
    free_world(w);
}

static void messages_wake_and_interrupt(void **unused)
{
    World *w = new_world(2);
    handler(w, 0x42, 0x13, true);
    handler(w, 2, 0x15, false);
    Asm a = at(w, CODE);
    apic_on(&a, true);
    out8(&a, 0x10, 0);
    sti(&a);
    hlt(&a);
    EMIT(&a, 0xeb, 0xfd);
    a = at(w, CODE + 0x200); /* VP 1: interrupts off, so only NMI wakes it */
    apic_on(&a, false);
    out8(&a, 0x11, 0);
    hlt(&a);
    out8(&a, 0x16, 0);
    EMIT(&a, 0xeb, 0xfe);
    set_real_mode(w, 0, CODE);
    set_real_mode(w, 1, CODE + 0x200);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    start(w, 1, 0);
    assert_true(wait_out(w, 0x10, 1));
    assert_true(wait_out(w, 0x11, 1));
    for (unsigned i = 1; i <= 200; i++) {
        w->ops->msi(w->be, UINT64_C(0xfee00000), 0x42);
        assert_true(wait_out(w, 0x13, i));
    }
    w->ops->msi(w->be, UINT64_C(0xfee01000), 0x42); /* VP 1 does not take it */
    g_usleep(2000);
    assert_int_equal(outs(w, 0x16), 0);
    w->ops->nmi(w->be, 1);
    assert_true(wait_out(w, 0x16, 1));
    assert_int_equal(outs(w, 0x15), 1);
    w->ops->nmi(w->be, 1); /* and one that does not sleep */
    assert_true(wait_out(w, 0x15, 2));
    stop(w, 0);
    stop(w, 1);
    assert_int_equal(outs(w, 0x13), 200);
    g_autofree PtaX86State *s = state_of(w, 1);
    assert_int_equal(s->lapic.page[0x220] & 4, 4); /* 42h waits in IRR */
    free_world(w);
}

/* NMI inside an NMI waits for IRET. */
static void nmis_do_not_nest(void **unused)
{
    World *w = new_world(1);
    uint32_t entry = HANDLER;
    memcpy(w->ram + 8, &entry, 4);
    Asm a = at(w, HANDLER); /* tell; wait for the gate; tell; iret */
    out8(&a, 0x15, 1);
    EMIT(&a, 0xe4, GATE_PORT, 0x84, 0xc0, 0x74, 0xfa); /* in al, 60h; test al, al; jz */
    out8(&a, 0x16, 1);
    EMIT(&a, 0xcf);
    a = at(w, CODE);
    EMIT(&a, 0xeb, 0xfe);
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    w->ops->nmi(w->be, 0);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x15, 1));
    w->ops->nmi(w->be, 0);
    w->ops->nmi(w->be, 0); /* one is remembered, not two */
    g_usleep(2000);
    assert_int_equal(outs(w, 0x15), 1);
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    g_autofree PtaX86State *s = state_of(w, 0);
    assert_int_equal(s->events.nmi_blocked, 1);
    assert_int_equal(s->events.nmi_pending, 1);
    start(w, 0, 0);
    for (unsigned i = 1; i <= 2; i++) {
        g_mutex_lock(&w->lock);
        w->gate = 1;
        g_mutex_unlock(&w->lock);
        assert_true(wait_out(w, 0x16, i));
    }
    g_usleep(2000);
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    assert_int_equal(outs(w, 0x15), 2);
    free_world(w);
}

static void a_triple_fault_shuts_down(void **unused)
{
    World *w = new_world(1);
    memset(w->ram + 0x500, 0, 6);
    Asm a = at(w, CODE);
    EMIT(&a, 0x2e, 0x0f, 0x01, 0x1e, 0x00, 0x05, 0xcc); /* lidt cs:[500h]; int3 */
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_int_equal(join(w, 0), PTA_EXIT_SHUTDOWN);
    start(w, 0, 0); /* it stays so, and is not reported again: a halt that was cleared is over */
    g_usleep(2000);
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    g_autofree PtaX86State *s = state_of(w, 0);
    assert_int_equal(s->events.activity, PTA_X86_SHUTDOWN);
    w->ops->clock_stop(w->be);
    assert_true(w->ops->reset(w->be, NULL));
    g_autofree PtaX86State *want = g_new(PtaX86State, 1);
    pta_x86_state_reset(want, 0, 1);
    assert_true(w->ops->vp_set_state(w->vps[0].vp, want, NULL));
    g_autofree PtaX86State *fresh = state_of(w, 0);
    assert_int_equal(fresh->events.activity, PTA_X86_RUNNING);
    assert_memory_equal(&fresh->regs, &want->regs, sizeof(want->regs));
    assert_int_equal(fresh->tsc, 0);
    free_world(w);
}

/* The host changes code while it runs. */
static void host_writes_reach_decoded_code(void **unused)
{
    World *w = new_world(2);
    Asm a = at(w, CODE);
    out8(&a, 0x12, 1);
    EMIT(&a, 0xeb, 0xfa); /* jmp back */
    for (unsigned i = 0; i < 2; i++) {
        set_real_mode(w, i, CODE);
    }
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    start(w, 1, 0);
    for (unsigned v = 1; v < 100; v++) {
        __atomic_store_n(w->ram + CODE + 1, (uint8_t)v, __ATOMIC_SEQ_CST);
        w->ops->host_wrote(w->be, CODE + 1, 1);
        assert_true(wait_value(w, 0x12, v));
    }
    stop(w, 0);
    stop(w, 1);
    free_world(w);
}

static void what_is_not_mapped_is_the_platforms(void **unused)
{
    World *w = new_world(1);
    g_autoptr(GError) error = NULL;
    uint8_t *rom = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    rom[5] = 0x99;
    Asm a = at(w, CODE);
    EMIT(&a, 0xb8, 0xff, 0xff, 0x8e, 0xd8); /* mov ax, ffffh; mov ds, ax: base ffff0h */
    EMIT(&a, 0xa0, 0x15, 0x00, 0xe6, 0x10); /* mov al, [0015h]: 100005h; out 10h, al */
    EMIT(&a, 0xa2, 0x16, 0x00);             /* mov [0016h], al: 100006h */
    out8(&a, 0x11, 0);
    hlt(&a);
    w->ops->clock_start(w->be);
    /* Nothing there; then a read-only page; then nothing again. */
    for (unsigned round = 0; round < 3; round++) {
        if (round == 1) {
            assert_true(w->ops->map(w->be, RAM_SIZE, 4096, rom, PTA_MAP_READ, &error));
        } else if (round == 2) {
            assert_true(w->ops->unmap(w->be, RAM_SIZE, 4096, &error));
            assert_false(w->ops->unmap(w->be, RAM_SIZE, 4096, &error));
        }
        set_real_mode(w, 0, CODE);
        start(w, 0, 0);
        assert_true(wait_out(w, 0x11, round + 1));
        assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
        assert_int_equal(w->out[0x10], round == 1 ? 0x99 : 0x5c);
        assert_int_equal(w->n_mmio, round == 0 ? 2 : round == 1 ? 3 : 5);
        assert_int_equal(w->mmio_write_gpa, RAM_SIZE + 6);
        assert_int_equal(w->mmio_value, w->out[0x10]);
    }
    assert_int_equal(rom[6], 0);
    munmap(rom, 4096);
    free_world(w);
}

/* ---- clock ---- */

static void the_clock_stands_still_while_stopped(void **unused)
{
    World *w = new_world(2);
    assert_int_equal(w->ops->clock_ns(w->be), 0);
    g_usleep(1000);
    assert_int_equal(w->ops->clock_ns(w->be), 0);
    uint64_t last = 0, last_tsc = 0;
    for (unsigned i = 0; i < 20; i++) {
        w->ops->clock_start(w->be);
        for (unsigned j = 0; j < 1000; j++) {
            uint64_t now = w->ops->clock_ns(w->be), tsc = w->ops->vp_tsc(w->vps[j & 1].vp);
            assert_true(now >= last && tsc >= last_tsc);
            last = now;
            last_tsc = tsc;
        }
        w->ops->clock_stop(w->be);
        uint64_t stopped = w->ops->clock_ns(w->be);
        assert_true(stopped >= last);
        g_usleep(200);
        assert_int_equal(w->ops->clock_ns(w->be), stopped);
        assert_int_equal(w->ops->vp_tsc(w->vps[0].vp), w->ops->vp_tsc(w->vps[1].vp));
        last = stopped;
    }
    w->ops->clock_set(w->be, UINT64_C(1) << 60);
    assert_int_equal(w->ops->clock_ns(w->be), UINT64_C(1) << 60);
    w->ops->clock_start(w->be);
    g_usleep(100);
    uint64_t now = w->ops->clock_ns(w->be);
    assert_true(now > UINT64_C(1) << 60 && now < (UINT64_C(1) << 60) + UINT64_C(60000000000));
    w->ops->clock_stop(w->be);
    w->ops->clock_set(w->be, 7); /* before the host's own uptime, and after */
    assert_int_equal(w->ops->clock_ns(w->be), 7);
    free_world(w);
}

/* Of each frequency, ticks and times are the inverse of each other, and neither overflows. */
static void the_tsc_may_have_another_frequency(void **unused)
{
    static const uint64_t all[] = { 20000000,   999999999,  1000000000,
                                    2599998000, 2600088384, UINT64_C(10000000000) };
    static const uint64_t times[] = {
        0, 1, 999, 123456789, UINT64_C(999999999999), UINT64_C(31536000000000007)
    };
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        World *w = new_world(2);
        assert_true(w->ops->set_tsc_hz(w->be, all[i], NULL));
        assert_int_equal(w->ops->tsc_hz(w->be), all[i]);
        for (size_t j = 0; j < G_N_ELEMENTS(times); j++) {
            w->ops->clock_set(w->be, times[j]);
            g_autofree PtaX86State *s = state_of(w, 0);
            s->tsc = 0;
            assert_true(w->ops->vp_set_state(w->vps[0].vp, s, NULL));
            w->ops->clock_set(w->be, times[j] + 3000000007);
            uint64_t ticks = w->ops->vp_tsc(w->vps[0].vp);
            uint64_t want = (uint64_t)((unsigned __int128)3000000007 * all[i] / 1000000000);
            assert_in_range(ticks, want - (want ? 1 : 0), want + 1);
            /* A deadline is reached when the TSC has its value, and not a nanosecond before. */
            s->lapic.page[0xf1] |= 1;                                 /* SVR: on */
            memcpy(s->lapic.page + 0x320, &(uint32_t){ 0x40040 }, 4); /* LVT: deadline */
            s->tsc = w->ops->vp_tsc(w->vps[0].vp);
            s->msrs.tsc_deadline = s->tsc + 12345;
            assert_true(w->ops->vp_set_state(w->vps[0].vp, s, NULL));
            g_autofree PtaX86State *armed = state_of(w, 0);
            uint64_t expiry = armed->lapic.timer_expiry_ns;
            w->ops->clock_set(w->be, expiry);
            assert_true(w->ops->vp_tsc(w->vps[0].vp) >= s->msrs.tsc_deadline);
            w->ops->clock_set(w->be, expiry - 1);
            assert_true(w->ops->vp_tsc(w->vps[0].vp) < s->msrs.tsc_deadline);
            /* Saved and restored at another time it is still the same. */
            g_autofree PtaX86State *later = state_of(w, 0);
            assert_true(w->ops->vp_set_state(w->vps[0].vp, later, NULL));
            g_autofree PtaX86State *again = state_of(w, 0);
            assert_int_equal(again->lapic.timer_expiry_ns, expiry);
            assert_int_equal(again->tsc, later->tsc);
        }
        free_world(w);
    }
}

/* A guest that comes from a CPU that speculates finds its MSRs; another one has none. */
static void speculation_is_controlled_without_effect(void **unused)
{
    enum { SPEC_CTRL = 0x48, PRED_CMD = 0x49, ARCH_CAPABILITIES = 0x10a, FLUSH_CMD = 0x10b };
    static const uint32_t msrs[] = { SPEC_CTRL, PRED_CMD, FLUSH_CMD };
    World *w = new_world(1);
    X86Cpu *c = ((X86Machine *)w->be)->vps[0];
    uint64_t v;
    for (size_t i = 0; i < G_N_ELEMENTS(msrs); i++) {
        assert_false(x86_wrmsr(c, msrs[i], 1));
        assert_false(x86_rdmsr(c, msrs[i], &v));
    }
    assert_false(x86_rdmsr(c, ARCH_CAPABILITIES, &v));

    const PtaX86Identity amd = { .vendor = "AuthenticAMD", .leaf8_8_ebx = 1 << 12 | 1 << 24 };
    const PtaX86Identity intel = { .vendor = "GenuineIntel", .leaf7_edx = UINT32_C(0xb4000400) };
    const PtaX86Identity *all[] = { &amd, &intel };
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        PtaCpuidParams cp = { .n_vps = 1,
                              .tsc_hz = w->ops->tsc_hz(NULL),
                              .apic_hz = w->ops->apic_hz(NULL),
                              .supported = w->ops->cpu_features(),
                              .identity = all[i] };
        assert_true(pta_cpuid_build(&w->cpuid, &cp, NULL));
        assert_true(x86_wrmsr(c, SPEC_CTRL, 4));
        assert_true(x86_rdmsr(c, SPEC_CTRL, &v));
        assert_int_equal(v, 4);
        assert_false(x86_wrmsr(c, SPEC_CTRL, UINT64_C(1) << 32));
        assert_true(x86_wrmsr(c, PRED_CMD, 1));
        assert_false(x86_wrmsr(c, PRED_CMD, 2));
        assert_false(x86_rdmsr(c, PRED_CMD, &v));
        assert_int_equal(x86_wrmsr(c, FLUSH_CMD, 1), all[i] == &intel);
        assert_int_equal(x86_rdmsr(c, ARCH_CAPABILITIES, &v), all[i] == &intel);
        g_autofree PtaX86State *s = state_of(w, 0);
        assert_int_equal(s->msrs.spec_ctrl, 4);
        assert_true(w->ops->vp_set_state(w->vps[0].vp, s, NULL));
    }
    free_world(w);
}

/* An armed deadline counts guest time: while the clock stands, it does not come nearer. */
static void timers_stand_still_with_the_clock(void **unused)
{
    World *w = new_world(1);
    handler(w, 0x40, 0x13, true);
    Asm a = at(w, CODE);
    apic_on(&a, true);
    wrmsr(&a, MSR_X2_LVT_TIMER, 0x40040);
    deadline_in(&a, 200000000);
    out8(&a, 0x10, 0);
    sti(&a);
    hlt(&a);
    out8(&a, 0x14, 0);
    cli(&a);
    hlt(&a);
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x10, 1));
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    w->ops->clock_stop(w->be);
    if (w->ops->clock_ns(w->be) - w->out_ns[0x10] < 190000000) { /* else the host was too slow */
        g_usleep(250000);
        assert_int_equal(outs(w, 0x13), 0);
    }
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x14, 1));
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    assert_true(w->out_ns[0x13] - w->out_ns[0x10] >= 199000000);
    free_world(w);
}

/* ---- state ---- */

static void state_goes_out_and_in(void **unused)
{
    World *w = new_world(2);
    g_autoptr(GError) error = NULL;
    g_autofree PtaX86State *s = state_of(w, 1);
    assert_int_equal(s->events.activity, PTA_X86_WAIT_FOR_SIPI);
    for (unsigned i = 0; i < PTA_X86_N_GPRS; i++) {
        s->regs.gpr[i] = i * UINT64_C(0x0101010101010101);
    }
    s->regs.rip = 0x1234;
    s->regs.rflags = 0xad7 | 2;
    s->regs.cr2 = UINT64_C(0xfffff00012345678);
    s->msrs.lstar = UINT64_C(0xffffffff81000000);
    s->events.activity = PTA_X86_HALTED;
    s->events.nmi_pending = 1;
    s->lapic.page[0x80] = 0x20; /* TPR */
    s->lapic.page[0xa0] = 0x20; /* PPR */
    s->regs.cr8 = 2;
    s->tsc = 123456789;
    assert_true(w->ops->vp_set_state(w->vps[1].vp, s, &error));
    g_autofree PtaX86State *out = state_of(w, 1);
    assert_memory_equal(out, s, sizeof(*s));
    /* Refused, and nothing has changed. */
    s->msrs.apic_base |= 0x400; /* x2APIC, and an id that does not fit */
    s->regs.gpr[0] = 7;
    assert_false(w->ops->vp_set_state(w->vps[1].vp, s, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
    g_autofree PtaX86State *still = state_of(w, 1);
    assert_memory_equal(still, out, sizeof(*out));
    free_world(w);
}

/* Messages that came while the VP did not run are not lost by a save. */
static void waiting_messages_are_saved(void **unused)
{
    World *w = new_world(2);
    set_real_mode(w, 1, CODE);
    w->ops->nmi(w->be, 1);
    g_autofree PtaX86State *s = state_of(w, 1);
    assert_int_equal(s->events.nmi_pending, 1);
    w->ops->msi(w->be, UINT64_C(0xfee01000), 0x500); /* INIT */
    g_autofree PtaX86State *init = state_of(w, 1);
    assert_int_equal(init->events.activity, PTA_X86_WAIT_FOR_SIPI);
    assert_int_equal(init->regs.rip, 0xfff0);
    w->ops->msi(w->be, UINT64_C(0xfee01000), 0x609); /* start-up */
    g_autofree PtaX86State *up = state_of(w, 1);
    assert_int_equal(up->events.activity, PTA_X86_RUNNING);
    assert_int_equal(up->regs.seg[PTA_X86_CS].base, 0x9000);
    assert_int_equal(up->regs.rip, 0);
    free_world(w);
}

/* A pending exception of a restored state is delivered before the first instruction. */
static void a_pending_exception_comes_first(void **unused)
{
    World *w = new_world(1);
    g_autoptr(GError) error = NULL;
    handler(w, 6, 0x17, false);
    Asm a = at(w, CODE);
    EMIT(&a, 0x83, 0xc4, 0x00); /* add sp, 0: what #UD is said to be about */
    out8(&a, 0x18, 0);
    hlt(&a);
    set_real_mode(w, 0, CODE);
    g_autofree PtaX86State *s = state_of(w, 0);
    s->events.exception_pending = 1;
    s->events.vector = 6;
    assert_true(w->ops->vp_set_state(w->vps[0].vp, s, &error));
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x18, 1));
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    assert_int_equal(outs(w, 0x17), 1);
    free_world(w);
}

/* All VPs run this code; it ends with a write to `port`. */
static void run_all(World *w, uint8_t port)
{
    w->ops->clock_start(w->be);
    for (unsigned i = 0; i < w->n_vps; i++) {
        start(w, i, 0);
    }
    assert_true(wait_out(w, port, w->n_vps));
    for (unsigned i = 0; i < w->n_vps; i++) {
        assert_int_equal(stop(w, i), PTA_EXIT_INTERRUPTED);
    }
}

static uint32_t ram32(const World *w, uint32_t at)
{
    uint32_t v;
    memcpy(&v, w->ram + at, sizeof(v));
    return v;
}

/* LOCK on operands that lie in a cache line, over two, over two pages, and among decoded code. */
static void locked_counters_add_up(void **unused)
{
    enum { N = 2000, LINE = 0x5101, LINES = 0x523e, PAGES = 0x5ffe, AMONG_CODE = CODE + 0x200 };
    World *w = new_world(MAX_VPS);
    Asm a = at(w, CODE);
    mov32(&a, 0xb9, N); /* mov ecx, N */
    const uint8_t *loop = a.at;
    const uint16_t where[] = { LINE, LINES, PAGES, AMONG_CODE };
    for (unsigned i = 0; i < G_N_ELEMENTS(where); i++) {
        EMIT(&a, 0xf0, 0x66, 0x83, 0x06, (uint8_t)where[i], (uint8_t)(where[i] >> 8), 1);
    }
    EMIT(&a, 0xf3, 0x90, 0x66, 0x49, 0x75); /* pause; dec ecx; jnz */
    EMIT(&a, (uint8_t)(loop - a.at - 1));
    out8(&a, 0x40, 0);
    hlt(&a);
    for (unsigned i = 0; i < w->n_vps; i++) {
        set_real_mode(w, i, CODE);
    }
    run_all(w, 0x40);
    for (unsigned i = 0; i < G_N_ELEMENTS(where); i++) {
        assert_int_equal(ram32(w, where[i]), MAX_VPS * N);
    }
    free_world(w);
}

/* VP 0 changes an instruction, the others run it; what they tell one another goes by LOCK. */
static void code_that_another_vp_changes(void **unused)
{
    enum { FLAG = 0x5000, ACKS = 0x5002, PATCHED = 0xa000, LAST = 100 };
    World *w = new_world(MAX_VPS);
    Asm a = at(w, PATCHED);
    EMIT(&a, 0xb0, 0x00, 0xc3); /* mov al, 0; ret */
    a = at(w, CODE);
    EMIT(&a, 0xb3, 1, 0xb9, MAX_VPS - 1, 0);                  /* mov bl, 1; mov cx, 3 */
    EMIT(&a, 0x88, 0x1e, (PATCHED + 1) & 0xff, PATCHED >> 8); /* 5: mov [PATCHED + 1], bl */
    EMIT(&a, 0x88, 0xd8, 0x86, 0x06, FLAG & 0xff, FLAG >> 8); /* mov al, bl; xchg [FLAG], al */
    EMIT(&a, 0xf3, 0x90, 0x31, 0xc0);                         /* 15: pause; xor ax, ax */
    EMIT(&a, 0xf0, 0x0f, 0xc1, 0x06, ACKS & 0xff, ACKS >> 8); /* lock xadd [ACKS], ax */
    EMIT(&a, 0x39, 0xc8, 0x75, (uint8_t)(15 - 29));           /* cmp ax, cx; jne 15 */
    EMIT(&a, 0x83, 0xc1, MAX_VPS - 1, 0xfe, 0xc3);            /* 29: add cx, 3; inc bl */
    EMIT(&a, 0x80, 0xfb, LAST + 1, 0x75, (uint8_t)(5 - 39));  /* cmp bl, 101; jne 5 */
    out8(&a, 0x41, 0);
    hlt(&a);
    a = at(w, AP_CODE);
    EMIT(&a, 0xb3, 1, 0xf3, 0x90, 0x30, 0xc0);                /* mov bl, 1; 2: pause; xor al, al */
    EMIT(&a, 0xf0, 0x0f, 0xc0, 0x06, FLAG & 0xff, FLAG >> 8); /* lock xadd [FLAG], al */
    EMIT(&a, 0x38, 0xd8, 0x75, (uint8_t)(2 - 16));            /* cmp al, bl; jne 2 */
    EMIT(&a, 0xe8, (PATCHED - AP_CODE - 19) & 0xff, (PATCHED - AP_CODE - 19) >> 8);
    EMIT(&a, 0x38, 0xd8, 0x75, 17);                     /* 19: cmp al, bl; jne bad */
    EMIT(&a, 0xf0, 0xff, 0x06, ACKS & 0xff, ACKS >> 8); /* lock inc word [ACKS] */
    EMIT(&a, 0xfe, 0xc3, 0x80, 0xfb, LAST + 1);         /* inc bl; cmp bl, 101 */
    EMIT(&a, 0x75, (uint8_t)(2 - 35));                  /* jne 2 */
    out8(&a, 0x41, 0);
    hlt(&a);
    out8(&a, 0x42, 0); /* bad */
    hlt(&a);
    for (unsigned i = 0; i < w->n_vps; i++) {
        set_real_mode(w, i, i ? AP_CODE : CODE);
    }
    run_all(w, 0x41);
    assert_int_equal(outs(w, 0x42), 0);
    free_world(w);
}

/* A VP that spins for another one does not use its core up. */
static void a_spinning_vp_sleeps(void **unused)
{
    World *w = new_world(2);
    Asm a = at(w, CODE);
    EMIT(&a, 0xf3, 0x90, 0xeb, 0xfc); /* pause; jmp $ - 2 */
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    g_usleep(20000); /* the sleeps grow */
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    g_usleep(400000);
    getrusage(RUSAGE_SELF, &after);
    int64_t used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * G_TIME_SPAN_SECOND +
                   after.ru_utime.tv_usec - before.ru_utime.tv_usec;
    assert_true(used < 200000);
    int64_t begin = g_get_monotonic_time();
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    assert_true(g_get_monotonic_time() - begin < WAIT_S * G_TIME_SPAN_SECOND);
    free_world(w);
}

/* Start-up messages before an INIT are void, and so is an NMI: the VP had not looked at any. */
static void init_voids_what_came_before(void **unused)
{
    World *w = new_world(2);
    Asm a = at(w, CODE);
    apic_on(&a, true);
    wrmsr(&a, MSR_X2_ICR, UINT64_C(1) << 32 | 0x4609);
    wrmsr(&a, MSR_X2_ICR, UINT64_C(1) << 32 | 0x4400);
    wrmsr(&a, MSR_X2_ICR, UINT64_C(1) << 32 | 0x4500);
    out8(&a, 0x40, 0);
    hlt(&a);
    set_real_mode(w, 0, CODE);
    w->ops->clock_start(w->be);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x40, 1));
    g_autofree PtaX86State *s = state_of(w, 1);
    assert_int_equal(s->events.activity, PTA_X86_WAIT_FOR_SIPI);
    assert_int_equal(s->events.nmi_pending, 0);
    assert_int_equal(stop(w, 0), PTA_EXIT_INTERRUPTED);
    free_world(w);
}

static void statistics_have_names(void **unused)
{
    World *w = new_world(1);
    unsigned n = 0;
    while (w->ops->stat_names[n]) {
        n++;
    }
    uint64_t *values = g_new0(uint64_t, n);
    Asm a = at(w, CODE);
    out8(&a, 0x10, 1);
    hlt(&a);
    set_real_mode(w, 0, CODE);
    start(w, 0, 0);
    assert_true(wait_out(w, 0x10, 1));
    stop(w, 0);
    w->ops->vp_get_stats(w->vps[0].vp, values);
    assert_string_equal(w->ops->stat_names[0], "instructions");
    assert_true(values[0] >= 2);
    g_free(values);
    free_world(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_writes_to_a_port_and_halts),
        cmocka_unit_test(a_kick_before_the_run_is_kept),
        cmocka_unit_test(a_kick_does_not_swallow_a_halt),
        cmocka_unit_test(kicks_race_with_runs),
        cmocka_unit_test(aps_wait_for_their_start_up),
        cmocka_unit_test(the_deadline_wakes_a_halted_vp),
        cmocka_unit_test(the_timer_interrupts_a_busy_vp),
        cmocka_unit_test(an_idle_guest_costs_little),
        cmocka_unit_test(messages_wake_and_interrupt),
        cmocka_unit_test(nmis_do_not_nest),
        cmocka_unit_test(a_triple_fault_shuts_down),
        cmocka_unit_test(host_writes_reach_decoded_code),
        cmocka_unit_test(what_is_not_mapped_is_the_platforms),
        cmocka_unit_test(the_clock_stands_still_while_stopped),
        cmocka_unit_test(the_tsc_may_have_another_frequency),
        cmocka_unit_test(speculation_is_controlled_without_effect),
        cmocka_unit_test(timers_stand_still_with_the_clock),
        cmocka_unit_test(state_goes_out_and_in),
        cmocka_unit_test(waiting_messages_are_saved),
        cmocka_unit_test(a_pending_exception_comes_first),
        cmocka_unit_test(locked_counters_add_up),
        cmocka_unit_test(code_that_another_vp_changes),
        cmocka_unit_test(a_spinning_vp_sleeps),
        cmocka_unit_test(init_voids_what_came_before),
        cmocka_unit_test(statistics_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
