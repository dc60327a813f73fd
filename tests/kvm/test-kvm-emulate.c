/*
 * Instructions that KVM cannot execute, on /dev/kvm: 64-bit code in ring 0. Where the CPU virtualises,
 * KVM executes them itself, and the results are the same.
 */
#include "config.h"

#include "src/kvm/kvm.h"

#include "tests/lib/cmocka-all.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM   (2 * PTA_MIB)
#define MORE  (4 * PTA_MIB) /* where another piece goes */
#define PML4  0x1000
#define PDPT  0x2000
#define PD    0x3000
#define IDT   0x4000
#define GDT   0x5000
#define STACK 0x8000
#define CODE  0x10000
#define DATA  0x20000
#define N_VPS 2
#define DONE  0x10 /* the port that ends it */

typedef struct Machine {
    PtaBackend *be;
    PtaBackendVp *vps[N_VPS];
    PtaPlatform platform;
    PtaCpuidTable cpuid;
    uint8_t *ram;
    PtaExit exit;
} Machine;

static void must(bool ok, GError *error)
{
    if (!ok) {
        print_error("%s\n", error ? error->message : "no error");
    }
    assert_true(ok);
}

static uint64_t mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    (void)opaque, (void)gpa, (void)size;
    return UINT64_MAX;
}

static void mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)opaque, (void)gpa, (void)size, (void)value;
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    (void)opaque, (void)port, (void)size;
    return UINT32_MAX;
}

/* The value is the VP's index. */
static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    (void)size;
    Machine *m = opaque;
    if (port == DONE) {
        m->be->ops->vp_kick(m->vps[value % N_VPS]);
    }
}

static bool no_msr(void *opaque, unsigned vp, uint32_t msr, uint64_t *value)
{
    (void)opaque, (void)vp, (void)msr, (void)value;
    return false;
}

static bool no_wrmsr(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    (void)opaque, (void)vp, (void)msr, (void)value;
    return false;
}

static void no_eoi(void *opaque, uint8_t vector)
{
    (void)opaque, (void)vector;
}

static void put8(Machine *m, uint64_t at, uint64_t value)
{
    memcpy(m->ram + at, &value, sizeof(value));
}

static Machine *machine_new(const PtaBackendOps *stepper)
{
    g_autoptr(GError) error = NULL;
    Machine *m = g_new0(Machine, 1);
    m->platform = (PtaPlatform){ .opaque = m,
                                 .mmio_read = mmio_read,
                                 .mmio_write = mmio_write,
                                 .pio_read = pio_read,
                                 .pio_write = pio_write,
                                 .msr_read = no_msr,
                                 .msr_write = no_wrmsr,
                                 .eoi = no_eoi };
    PtaCpuidParams cpuid = { .model = "host",
                             .hypervisor = PTA_HYPERVISOR_NONE,
                             .n_vps = N_VPS,
                             .tsc_hz = pta_kvm_backend.tsc_hz(NULL),
                             .apic_hz = pta_kvm_backend.apic_hz(NULL),
                             .supported = pta_kvm_backend.cpu_features() };
    must(pta_cpuid_build(&m->cpuid, &cpuid, &error), error);
    PtaBackendParams params = { .n_vps = N_VPS,
                                .cpuid = &m->cpuid,
                                .platform = &m->platform,
                                .hypervisor = PTA_HYPERVISOR_NONE,
                                .stepper = stepper };
    m->be = pta_kvm_backend.create(&params, &error);
    must(m->be != NULL, error);
    m->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(m->ram != MAP_FAILED);
    put8(m, PML4, PDPT | 7);
    put8(m, PDPT, PD | 7);
    for (unsigned i = 0; i < 512; i++) {
        put8(m, PD + i * 8, (uint64_t)i << 21 | 0x87);
    }
    put8(m, GDT + 8, UINT64_C(0x00af9b000000ffff));
    put8(m, GDT + 16, UINT64_C(0x00cf93000000ffff));
    must(
        m->be->ops->map(m->be, 0, RAM, m->ram, PTA_MAP_READ | PTA_MAP_WRITE | PTA_MAP_EXEC, &error),
        error);
    for (unsigned i = 0; i < N_VPS; i++) {
        m->vps[i] = m->be->ops->vp_create(m->be, i, &error);
        must(m->vps[i] != NULL, error);
    }
    m->be->ops->clock_start(m->be);
    return m;
}

static void machine_free(Machine *m)
{
    for (unsigned i = 0; i < N_VPS; i++) {
        m->be->ops->vp_destroy(m->vps[i]);
    }
    m->be->ops->destroy(m->be);
    munmap(m->ram, RAM);
    g_free(m);
}

static uint64_t emulated(const Machine *m, unsigned vp)
{
    return kvm_vp_of(m->vps[vp])->stats[KVM_STAT_EMULATED];
}

static bool interprets(const Machine *m)
{
    return kvm_vp_of(m->vps[0])->m->caps.pvm;
}

/* Puts code there, an OUT of the VP's index behind it, and the VP at its beginning; RDI is `rdi`. */
static void load(Machine *m, unsigned vp, const uint8_t *code, size_t len, uint64_t rdi)
{
    const uint8_t end[] = { 0xb0, (uint8_t)vp, 0xe6, DONE, 0xf4 };
    uint64_t at = CODE + vp * 0x1000;
    memcpy(m->ram + at, code, len);
    memcpy(m->ram + at + len, end, sizeof(end));
    g_autofree PtaX86State *s = g_new0(PtaX86State, 1);
    m->be->ops->vp_get_state(m->vps[vp], s);
    PtaX86Regs *r = &s->regs;
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        r->seg[i] = (PtaX86Segment){ .limit = UINT32_MAX, .selector = 16, .attrs = 0xc093 };
    }
    r->seg[PTA_X86_CS] = (PtaX86Segment){ .limit = UINT32_MAX, .selector = 8, .attrs = 0xa09b };
    r->gdtr = (PtaX86Table){ .base = GDT, .limit = 23 };
    r->idtr = (PtaX86Table){ .base = IDT, .limit = 0xfff };
    r->cr0 = 0x80000033;
    r->cr3 = PML4;
    r->cr4 = 0x620; /* PAE, OSFXSR, OSXMMEXCPT */
    r->efer = 0x500;
    r->rip = at;
    r->rflags = 2;
    r->gpr[PTA_X86_RSP] = STACK + vp * 0x1000;
    r->gpr[PTA_X86_RDI] = rdi;
    r->gpr[PTA_X86_RBX] = r->gpr[PTA_X86_RCX] = r->gpr[PTA_X86_RAX] = r->gpr[PTA_X86_RDX] = 0;
    s->events.activity = PTA_X86_RUNNING;
    g_autoptr(GError) error = NULL;
    must(m->be->ops->vp_set_state(m->vps[vp], s, &error), error);
}
#define LOAD(m, vp, rdi, ...) \
    load(m, vp, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }), (rdi))

static PtaExitReason run(Machine *m)
{
    m->be->ops->vp_run(m->vps[0], &m->exit);
    if (m->exit.reason == PTA_EXIT_INTERNAL_ERROR) {
        print_message("# %s\n", m->exit.error.text);
    }
    return m->exit.reason;
}

/* mov bl, 7; lock cmpxchg16b [rdi] */
#define EXCHANGE 0xb3, 7, 0xf0, 0x48, 0x0f, 0xc7, 0x0f

static void executes_and_counts(void **unused)
{
    (void)unused;
    Machine *m = machine_new(&pta_soft_backend);
    LOAD(m, 0, DATA, EXCHANGE);
    assert_int_equal(run(m), PTA_EXIT_INTERRUPTED);
    assert_int_equal(m->ram[DATA], 7);
    assert_int_equal(emulated(m, 0), interprets(m));
    assert_int_equal(emulated(m, 1), 0);
    machine_free(m);
}

/* Memory that is mapped later, and memory that goes, is that of the stepper too. */
static void memory_comes_and_goes(void **unused)
{
    (void)unused;
    g_autoptr(GError) error = NULL;
    Machine *m = machine_new(&pta_soft_backend);
    LOAD(m, 0, DATA, EXCHANGE);
    run(m);
    uint8_t *more = mmap(NULL, PTA_MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(more != MAP_FAILED);
    must(m->be->ops->map(m->be, MORE, PTA_MIB, more, PTA_MAP_READ | PTA_MAP_WRITE, &error), error);
    LOAD(m, 0, MORE + 0x40, EXCHANGE);
    assert_int_equal(run(m), PTA_EXIT_INTERRUPTED);
    assert_int_equal(more[0x40], 7);
    must(m->be->ops->unmap(m->be, MORE, PTA_MIB, &error), error);
    munmap(more, PTA_MIB);                     /* whoever reaches it now is ended by it */
    LOAD(m, 0, MORE + 0x40, 0x0f, 0x11, 0x07); /* movups [rdi], xmm0 */
    assert_int_equal(run(m), PTA_EXIT_INTERRUPTED);
    machine_free(m);
}

typedef struct Seen {
    uint64_t pages[RAM / PTA_PAGE_SIZE / 64];
} Seen;

static void note_dirty(void *opaque, uint64_t gpa, uint64_t bits)
{
    Seen *seen = opaque;
    if (gpa < RAM) {
        seen->pages[gpa / PTA_PAGE_SIZE / 64] |= bits;
    }
}

static bool is_dirty(const Seen *seen, uint64_t gpa)
{
    uint64_t page = gpa / PTA_PAGE_SIZE;
    return seen->pages[page / 64] >> (page % 64) & 1;
}

/* Whether logging began before or after the first such instruction. */
static void writes_are_logged(void **unused)
{
    (void)unused;
    for (unsigned late = 0; late < 2; late++) {
        g_autoptr(GError) error = NULL;
        Seen seen = { { 0 } };
        Machine *m = machine_new(&pta_soft_backend);
        if (late) {
            LOAD(m, 0, DATA, EXCHANGE);
            run(m);
        }
        if (!m->be->ops->dirty_start ||
            !m->be->ops->dirty_start(m->be, note_dirty, &seen, &error)) {
            print_message("# no dirty log: %s\n", error ? error->message : "");
            machine_free(m);
            return;
        }
        for (unsigned i = 1; i < 4; i++) {
            m->be->ops->dirty_fetch(m->be, 0, RAM);
            memset(&seen, 0, sizeof(seen));
            LOAD(m, 0, DATA + i * PTA_PAGE_SIZE, EXCHANGE);
            run(m);
            m->be->ops->dirty_fetch(m->be, 0, RAM);
            assert_true(is_dirty(&seen, DATA + i * PTA_PAGE_SIZE));
            assert_false(is_dirty(&seen, DATA + 8 * PTA_PAGE_SIZE));
        }
        m->be->ops->dirty_stop(m->be);
        machine_free(m);
    }
}

#define ROUNDS 2000

static gpointer run_vp1(gpointer data)
{
    Machine *m = data;
    PtaExit exit;
    m->be->ops->vp_run(m->vps[1], &exit);
    return GINT_TO_POINTER(exit.reason);
}

/* Two VPs count up the same 16 bytes. */
static void lock_is_atomic(void **unused)
{
    (void)unused;
    Machine *m = machine_new(&pta_soft_backend);
    for (unsigned vp = 0; vp < N_VPS; vp++) {
        /* mov esi, ROUNDS; 1: mov rax, [rdi]; mov rdx, [rdi + 8]; 2: lea rbx, [rax + 1]; mov rcx, rdx;
         * lock cmpxchg16b [rdi]; jnz 2b; dec esi; jnz 1b */
        LOAD(m, vp, DATA, 0xbe, ROUNDS & 0xff, ROUNDS >> 8, 0, 0, 0x48, 0x8b, 0x07, 0x48, 0x8b,
             0x57, 8, 0x48, 0x8d, 0x58, 1, 0x48, 0x89, 0xd1, 0xf0, 0x48, 0x0f, 0xc7, 0x0f, 0x75,
             0xf2, 0xff, 0xce, 0x75, 0xe7);
    }
    GThread *other = g_thread_new("vp1", run_vp1, m);
    assert_int_equal(run(m), PTA_EXIT_INTERRUPTED);
    assert_int_equal(GPOINTER_TO_INT(g_thread_join(other)), PTA_EXIT_INTERRUPTED);
    uint64_t count;
    memcpy(&count, m->ram + DATA, sizeof(count));
    assert_int_equal(count, N_VPS * ROUNDS);
    if (interprets(m)) {
        assert_in_range(emulated(m, 0) + emulated(m, 1), N_VPS * ROUNDS, UINT32_MAX);
    }
    machine_free(m);
}

/* INT3 without a present gate is #NP, #DF, and so on. */
static void triple_faults_end_it(void **unused)
{
    (void)unused;
    Machine *m = machine_new(&pta_soft_backend);
    LOAD(m, 0, DATA, 0xcc);
    assert_int_equal(run(m), PTA_EXIT_SHUTDOWN);
    assert_int_equal(run(m), PTA_EXIT_SHUTDOWN); /* until a state is set */
    LOAD(m, 0, DATA, EXCHANGE);
    assert_int_equal(run(m), PTA_EXIT_INTERRUPTED);
    machine_free(m);
}

static void what_nobody_knows_is_said(void **unused)
{
    (void)unused;
    Machine *m = machine_new(&pta_soft_backend);
    if (!interprets(m)) {
        print_message("# this host's KVM has all instructions\n");
        machine_free(m);
        return;
    }
    LOAD(m, 0, DATA, 0x66, 0x0f, 0x38, 0xdc, 0xc1); /* aesenc */
    assert_int_equal(run(m), PTA_EXIT_INTERNAL_ERROR);
    assert_non_null(strstr(m->exit.error.text, "66 0f 38 dc c1"));
    machine_free(m);

    m = machine_new(NULL);
    LOAD(m, 0, DATA, EXCHANGE);
    assert_int_equal(run(m), PTA_EXIT_INTERNAL_ERROR);
    assert_non_null(strstr(m->exit.error.text, "0x10002"));
    assert_int_equal(m->ram[DATA], 0);
    machine_free(m);
}

/* A figure for who reads the log; it decides nothing. */
static void takes_little_time(void **unused)
{
    (void)unused;
    Machine *m = machine_new(&pta_soft_backend);
    /* mov esi, 2000; 1: lock cmpxchg16b [rdi]; dec esi; jnz 1b */
    LOAD(m, 0, DATA, 0xbe, 0xd0, 7, 0, 0, 0xf0, 0x48, 0x0f, 0xc7, 0x0f, 0xff, 0xce, 0x75, 0xf7);
    int64_t start = g_get_monotonic_time();
    assert_int_equal(run(m), PTA_EXIT_INTERRUPTED);
    if (interprets(m)) {
        print_message("# an instruction that goes round: %.1f us\n",
                      (double)(g_get_monotonic_time() - start) / 2000);
    }
    machine_free(m);
}

int main(void)
{
    pta_thread_init_main();
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        puts("1..0 # SKIP no /dev/kvm, or no permission");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(executes_and_counts),  cmocka_unit_test(memory_comes_and_goes),
        cmocka_unit_test(writes_are_logged),    cmocka_unit_test(lock_is_atomic),
        cmocka_unit_test(triple_faults_end_it), cmocka_unit_test(what_nobody_knows_is_said),
        cmocka_unit_test(takes_little_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
