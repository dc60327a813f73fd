/*
 * A back end made with `stepping`: instruction by instruction it does what the ordinary engine does,
 * and it sees what others wrote between two steps without being told.
 */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "tests/cpu/cpu-harness.h"

#define RAM (8 * PTA_MIB)

/* One engine that runs, one that single-steps, and the stepper, for each mode. */
typedef struct Trio {
    CpuHarness *run, *single, *lent;
} Trio;
static Trio trio[3];

static Trio make(unsigned bits)
{
    return (Trio){ cpu_harness_new(bits, RAM), cpu_harness_new(bits, RAM),
                   cpu_harness_new_stepper(bits, RAM) };
}

static int setup(void **state)
{
    (void)state;
    trio[0] = make(16);
    trio[1] = make(32);
    trio[2] = make(64);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(trio); i++) {
        cpu_harness_free(trio[i].run);
        cpu_harness_free(trio[i].single);
        cpu_harness_free(trio[i].lent);
    }
    return 0;
}

/* APIC and time are not the stepper's. */
static void get(CpuHarness *h, PtaX86State *s)
{
    h->be->ops->vp_get_state(h->vp, s);
    memset(&s->lapic, 0, sizeof(s->lapic));
    s->tsc = 0;
    s->msrs.tsc_deadline = 0;
}

static PtaExitReason step(CpuHarness *h)
{
    h->be->ops->vp_run(h->vp, &h->exit);
    return h->exit.reason;
}

static void assert_same(CpuHarness *a, CpuHarness *b, const char *what, unsigned at)
{
    g_autofree PtaX86State *sa = g_new0(PtaX86State, 1);
    g_autofree PtaX86State *sb = g_new0(PtaX86State, 1);
    get(a, sa);
    get(b, sb);
    if (memcmp(sa, sb, sizeof(*sa)) != 0) {
        size_t n = 0;
        while (((uint8_t *)sa)[n] == ((uint8_t *)sb)[n]) {
            n++;
        }
        print_message("# %s, step %u: byte %zu of the state, RIP %#" G_GINT64_MODIFIER
                      "x and %#" G_GINT64_MODIFIER "x\n",
                      what, at, n, sa->regs.rip, sb->regs.rip);
    }
    assert_memory_equal(sa, sb, sizeof(*sa));
    if (memcmp(a->ram, b->ram, RAM) != 0) {
        print_message("# %s, step %u: RAM differs\n", what, at);
    }
    assert_memory_equal(a->ram, b->ram, RAM);
    assert_int_equal(a->mmio_reads, b->mmio_reads);
    assert_int_equal(a->mmio_writes, b->mmio_writes);
    assert_int_equal(a->mmio_value, b->mmio_value);
    assert_int_equal(a->vector, b->vector);
}

typedef struct Program {
    const char *what;
    unsigned bits; /* 0: each mode */
    uint64_t rflags;
    unsigned offset; /* in the page of code */
    uint8_t len;
    uint8_t code[40];
} Program;

#define CODE(...) .len = sizeof((uint8_t[]){ __VA_ARGS__ }), .code = { __VA_ARGS__ }

static const Program programs[] = {
    { "a loop", .bits = 64,
      CODE(0xb9, 3, 0, 0, 0, 0x31, 0xc0, 0x01, 0xc8, 0xff, 0xc9, 0x75, 0xfa) },
    { "call and ret", .bits = 64, CODE(0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3, 0x90) },
    { "jump into the next page", .bits = 64, .offset = 0xffd, CODE(0xeb, 1, 0x90) },
    { "an instruction over a page", .bits = 64, .offset = 0xffd,
      CODE(0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8) },
    { "add, flags", CODE(0x04, 0x7f, 0x14, 0x80, 0x9f) },
    { "div by zero", CODE(0x31, 0xc9, 0xf7, 0xf1) },
    { "ud2", CODE(0x0f, 0x0b) },
    { "no such opcode", .bits = 64, CODE(0x0f, 0x04) },
    { "lock where it may not be", CODE(0xf0, 0x90) },
    { "int3", CODE(0xcc) },
    { "int 5", CODE(0xcd, 0x05) },
    { "into", .bits = 32, CODE(0xb0, 0x7f, 0x04, 1, 0xce) },
    { "cmpxchg16b", .bits = 64,
      CODE(0xbb, 1, 0, 0, 0, 0xb9, 2, 0, 0, 0, 0xf0, 0x48, 0x0f, 0xc7, 0x0f, 0x48, 0x0f, 0xc7,
           0x0f) },
    { "cmpxchg16b, misaligned", .bits = 64, CODE(0x48, 0x0f, 0xc7, 0x4f, 8) },
    { "popcnt", .bits = 64, CODE(0xb8, 0xff, 0x0f, 1, 0, 0xf3, 0x48, 0x0f, 0xb8, 0xd0) },
    { "clac and stac", .bits = 64, CODE(0x0f, 0x01, 0xcb, 0x0f, 0x01, 0xca) },
    { "fwait", CODE(0x9b) },
    { "fwait with an exception that waits", .bits = 64,
      /* fninit; push 0; fldcw [rsp]; fldz; fld1; fdiv st, st(1); fwait */
      CODE(0xdb, 0xe3, 0x6a, 0, 0xd9, 0x2c, 0x24, 0xd9, 0xee, 0xd9, 0xe8, 0xd8, 0xf1, 0x9b) },
    { "x87 arithmetic", CODE(0xdb, 0xe3, 0xd9, 0xeb, 0xd9, 0xe8, 0xde, 0xc1) },
    { "sse store to mmio", .bits = 64,
      CODE(0xb8, 0, 0, 0, 0x70, 0x0f, 0x11, 0x00, 0x66, 0x0f, 0x6f, 0x08) },
    { "rep movsb", .bits = 64, CODE(0xb9, 5, 0, 0, 0, 0xf3, 0xa4) },
    { "rep movsd to mmio", .bits = 64,
      CODE(0xb9, 3, 0, 0, 0, 0xbf, 0x00, 0x00, 0x00, 0x70, 0xf3, 0xa5) },
    { "rep stosb in 16 and 32 bits", CODE(0x31, 0xc9, 0x80, 0xc1, 4, 0xf3, 0xaa) },
    { "repne scasb", .bits = 64, CODE(0xb9, 9, 0, 0, 0, 0xb0, 0, 0xf2, 0xae) },
    { "rep with nothing to do", CODE(0x31, 0xc9, 0xf3, 0xa4, 0xf3, 0xab) },
    { "sti, its shadow", CODE(0xfb, 0x90, 0xfa) },
    { "pop ss, its shadow", .bits = 32, CODE(0x16, 0x17, 0x90) },
    { "popf sets TF", CODE(0x9c, 0x58, 0x80, 0xcc, 1, 0x50, 0x9d, 0x90, 0x90) },
    { "TF from the beginning", .rflags = X86_TF, CODE(0x90, 0x90) },
    { "TF and a fault", .rflags = X86_TF, CODE(0x0f, 0x0b) },
    { "a page that is not there", .bits = 64,
      CODE(0x48, 0xc1, 0xe0, 0x2d, 0x48, 0xb8, 0, 0, 0, 0, 0, 1, 0, 0, 0xff, 0x00) },
    { "a non-canonical address", .bits = 64,
      CODE(0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8b, 0x00) },
    { "xchg with mmio", .bits = 64, CODE(0xb8, 0, 0, 0, 0x70, 0x87, 0x18) },
    { "cli, cld, std", CODE(0xfa, 0xfd, 0xfc) },
    { "cpuid, rdmsr EFER", .bits = 64,
      CODE(0x31, 0xc0, 0x0f, 0xa2, 0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32) },
    { "wrmsr GS base", .bits = 64,
      CODE(0xb9, 1, 1, 0, 0xc0, 0x31, 0xd2, 0xb8, 0, 0, 0x20, 0, 0x0f, 0x30, 0x65, 0x8a, 0x03) },
    { "mov to cr3, invlpg", .bits = 64,
      CODE(0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x0f, 0x01, 0x38) },
    { "lgdt of nonsense, then int", .bits = 64, CODE(0x0f, 0x01, 0x17, 0xcd, 3) },
    { "store to its own code", .bits = 64, CODE(0xc6, 0x05, 1, 0, 0, 0, 7, 0xb0, 1, 0xfe, 0xc4) },
    { "no IDT: triple fault", .bits = 64, CODE(0x50, 0x50, 0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b) },
};

static void prepare(CpuHarness *h, const Program *p)
{
    cpu_harness_clear(h);
    h->mmio_reads = h->mmio_writes = 0;
    h->mmio_value = 0;
    uint64_t data = h->bits == 16 ? 0x100 : CPU_DATA;
    g_autofree PtaX86State *s = g_new0(PtaX86State, 1);
    h->be->ops->vp_get_state(h->vp, s);
    for (unsigned i = 0; i < 8; i++) {
        s->regs.gpr[i] = i == PTA_X86_RSP ? s->regs.gpr[i] : i;
    }
    s->regs.gpr[PTA_X86_RSI] = data;
    s->regs.gpr[PTA_X86_RDI] = data + 0x40;
    s->regs.rflags |= p->rflags;
    for (unsigned i = 0; i < 256; i++) {
        h->ram[CPU_DATA + i] = h->ram[CPU_REAL_DATA + 0x100 + i] = (uint8_t)(i * 7 + 1);
    }
    g_autoptr(GError) error = NULL;
    assert_true(h->be->ops->vp_set_state(h->vp, s, &error));
    cpu_harness_code(h, p->offset, p->code, p->len);
    x86_blocks_flush(h->c); /* x86_step() does not look at what host_wrote() asks */
    h->vector = CPU_STOPPED;
}

static void run_program(Trio *t, const Program *p)
{
    prepare(t->run, p);
    prepare(t->single, p);
    prepare(t->lent, p);
    CpuHarness *l = t->lent, *s = t->single;
    PtaX86State *state = g_new0(PtaX86State, 1);
    get(l, state); /* RIP was poked */
    assert_true(l->be->ops->vp_set_state(l->vp, state, NULL));
    unsigned n = 0;
    for (; l->vector == CPU_STOPPED && n < 100; n++) {
        get(l, state); /* there and back, as it is lent for each step */
        assert_true(l->be->ops->vp_set_state(l->vp, state, NULL));
        PtaExitReason why = step(l);
        x86_step(s->c);
        assert_same(s, l, p->what, n);
        if (why == PTA_EXIT_SHUTDOWN) {
            assert_int_equal(s->c->events.activity, PTA_X86_SHUTDOWN);
            break;
        }
        assert_int_equal(why, PTA_EXIT_INTERRUPTED);
    }
    g_free(state);
    if (n >= 100) {
        print_message("# %s: goes on and on\n", p->what);
    }
    assert_in_range(n, 1, 99);
    if (!(p->rflags & X86_TF)) {
        cpu_harness_run(t->run);
        assert_same(t->run, l, p->what, n);
    }
}

static void steps_as_the_engine_runs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(programs); i++) {
        const Program *p = &programs[i];
        for (unsigned m = 0; m < 3; m++) {
            if (p->bits == 0 || p->bits == 16u << m) {
                run_program(&trio[m], p);
            }
        }
    }
}

/* ---- what others do between two steps ---- */

static CpuHarness *fresh(const void *code, size_t len)
{
    CpuHarness *h = trio[2].lent;
    cpu_harness_clear(h);
    cpu_harness_code(h, 0, code, len);
    h->mmio_reads = h->mmio_writes = 0;
    return h;
}
#define FRESH(...) fresh((const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

static void lend(CpuHarness *h, PtaX86State *s)
{
    h->be->ops->vp_get_state(h->vp, s);
}

static void give(CpuHarness *h, const PtaX86State *s)
{
    g_autoptr(GError) error = NULL;
    bool ok = h->be->ops->vp_set_state(h->vp, s, &error);
    if (!ok) {
        print_message("# %s\n", error->message);
    }
    assert_true(ok);
}

static void sees_code_that_others_write(void **state)
{
    (void)state;
    CpuHarness *h = FRESH(0xb0, 1, 0xeb, 0xfc); /* mov al, 1; jmp back */
    for (unsigned i = 1; i < 200; i++) {
        h->ram[CPU_CODE + 1] = (uint8_t)i; /* nobody is told */
        assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
        assert_int_equal(h->c->gpr[PTA_X86_RAX] & 0xff, i);
        assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
    }
}

static void sees_page_tables_that_others_write(void **state)
{
    (void)state;
    CpuHarness *h =
        FRESH(0x8a, 0x07, 0x88, 0x07, 0xeb, 0xfa); /* mov al, [rdi]; mov [rdi], al; jmp */
    h->c->gpr[PTA_X86_RDI] = CPU_DATA;
    h->ram[CPU_DATA] = 1;
    h->ram[0x400000] = 2;
    for (unsigned i = 0; i < 20; i++) {
        uint64_t entry = (i & 1 ? 0x400000 : 0x200000) | 0x87;
        memcpy(h->ram + CPU_PD + 8, &entry, 8);
        for (unsigned j = 0; j < 3; j++) {
            assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
        }
        assert_int_equal(h->c->gpr[PTA_X86_RAX] & 0xff, i & 1 ? 2 : 1);
        memcpy(&entry, h->ram + CPU_PD + 8, 8);
        assert_int_equal(entry & 0x60, 0x60); /* accessed, dirty: set anew each time */
    }
    uint64_t none = 0;
    memcpy(h->ram + CPU_PD + 8, &none, 8);
    h->vector = CPU_STOPPED;
    assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
    assert_int_equal(h->c->cr2, CPU_DATA);
    assert_int_equal(h->c->rip, CPU_STUBS + X86_PFV * 16);
}

/* ---- what a step is not ---- */

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    g_autofree PtaX86State *before = g_new0(PtaX86State, 1);
    g_autofree PtaX86State *after = g_new0(PtaX86State, 1);
    CpuHarness *h = FRESH(0x66, 0x0f, 0x38, 0xdc, 0xc1); /* aesenc xmm0, xmm1 */
    lend(h, before);
    before->regs.rflags |= X86_TF | X86_RF;
    before->events.interrupt_shadow = 1;
    give(h, before);
    assert_int_equal(step(h), PTA_EXIT_INTERNAL_ERROR);
    assert_non_null(strstr(h->exit.error.text, "66 0f 38 dc c1"));
    lend(h, after);
    assert_memory_equal(before, after, sizeof(*before));

    /* vaddps xmm0, xmm0, xmm1: #UD as long as XCR0 says no */
    h = FRESH(0xc5, 0xf8, 0x58, 0xc1);
    assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
    assert_int_equal(h->c->rip, CPU_STUBS + X86_UD * 16);
    h = FRESH(0xc5, 0xf8, 0x58, 0xc1);
    lend(h, before);
    before->regs.cr4 |= X86_CR4_OSXSAVE;
    before->regs.xcr0 = 7;
    give(h, before);
    assert_int_equal(step(h), PTA_EXIT_INTERNAL_ERROR);
    lend(h, after);
    assert_memory_equal(before, after, sizeof(*before));

    h = FRESH(0x0f, 0x01, 0xc2); /* vmlaunch: no VMX */
    assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
    assert_int_equal(h->c->rip, CPU_STUBS + X86_UD * 16);
}

static void keeps_what_is_not_its_own(void **state)
{
    (void)state;
    g_autofree PtaX86State *before = g_new0(PtaX86State, 1);
    g_autofree PtaX86State *after = g_new0(PtaX86State, 1);
    CpuHarness *h = FRESH(0x90, 0xf0, 0x48, 0x0f, 0xc1, 0x07); /* nop; lock xadd [rdi], rax */
    lend(h, before);
    for (unsigned i = 0; i < sizeof(before->lapic.page); i++) {
        before->lapic.page[i] = (uint8_t)(i * 31);
    }
    before->lapic.timer_expiry_ns = 12345;
    before->tsc = UINT64_C(0x123456789abcdef);
    before->msrs.apic_base = 0xfee00900;
    before->msrs.tsc_deadline = 77;
    before->msrs.spec_ctrl = 5;
    before->regs.cr4 |= UINT64_C(1) << 22; /* PKE */
    before->regs.cr8 = 9;
    before->regs.efer |= UINT64_C(1) << 12; /* SVME */
    before->regs.gpr[PTA_X86_RDI] = CPU_DATA;
    give(h, before);
    assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
    before->regs.rip++;
    lend(h, after);
    assert_memory_equal(before, after, sizeof(*before));
    assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);

    /* The APIC's page is the platform's. */
    h = FRESH(0x0f, 0x11, 0x07); /* movups [rdi], xmm0 */
    lend(h, before);
    before->regs.gpr[PTA_X86_RDI] = CPU_MMIO + 0x1000;
    before->msrs.apic_base = CPU_MMIO + 0x1900;
    give(h, before);
    assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
    assert_int_equal(h->mmio_writes, 2);

    before->regs.cr4 |= X86_CR4_LA57;
    assert_false(h->be->ops->vp_set_state(h->vp, before, NULL));
}

static void leaves_events_alone(void **state)
{
    (void)state;
    g_autofree PtaX86State *s = g_new0(PtaX86State, 1);
    CpuHarness *h = FRESH(0xfb, 0x90, 0x90, 0xf4, 0x90); /* sti; nop; nop; hlt; nop */
    lend(h, s);
    s->events.nmi_pending = 1;
    give(h, s);
    h->be->ops->vp_kick(h->vp);
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
        lend(h, s);
        assert_int_equal(s->regs.rip, CPU_CODE + i);
        assert_int_equal(s->events.interrupt_shadow, i == 1);
        assert_int_equal(s->events.nmi_pending, 1);
        assert_int_equal(s->events.activity, i == 4 ? PTA_X86_HALTED : PTA_X86_RUNNING);
    }
    assert_int_equal(step(h), PTA_EXIT_INTERRUPTED); /* halted: nothing */
    lend(h, s);
    assert_int_equal(s->regs.rip, CPU_CODE + 4);

    h = FRESH(0x90);
    lend(h, s);
    s->events.exception_pending = 1;
    s->events.vector = X86_GP;
    s->events.has_error_code = 1;
    s->events.error_code = 0x18;
    give(h, s);
    assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
    lend(h, s);
    assert_int_equal(s->events.exception_pending, 0);
    assert_int_equal(s->regs.rip, CPU_STUBS + X86_GP * 16);
    assert_int_equal(h->ram[s->regs.gpr[PTA_X86_RSP]], 0x18);

    /* INT3 under a debugger */
    h = FRESH(0xcc);
    h->be->ops->vp_set_debug(h->vp, &(PtaGuestDebug){ .enabled = true, .sw_breakpoints = true });
    assert_int_equal(step(h), PTA_EXIT_DEBUG);
    assert_int_equal(h->exit.debug.vector, X86_BP);
    assert_int_equal(h->exit.debug.rip, CPU_CODE);
    h->be->ops->vp_set_debug(h->vp, &(PtaGuestDebug){ 0 });
}

static void note_dirty(void *opaque, uint64_t gpa, uint64_t bits)
{
    uint64_t *seen = opaque;
    for (; bits; bits &= bits - 1) {
        uint64_t page = (gpa >> PTA_PAGE_SHIFT) + (unsigned)__builtin_ctzll(bits);
        seen[page / 64] |= UINT64_C(1) << (page % 64);
    }
}

static void logs_dirty_pages(void **state)
{
    (void)state;
    uint64_t seen[RAM / PTA_PAGE_SIZE / 64] = { 0 };
    CpuHarness *h = FRESH(0x88, 0x07, 0xeb, 0xfc); /* mov [rdi], al; jmp back */
    assert_true(h->be->ops->dirty_start(h->be, note_dirty, seen, NULL));
    for (unsigned i = 0; i < 3; i++) {
        h->c->gpr[PTA_X86_RDI] = CPU_DATA + i * PTA_PAGE_SIZE;
        step(h);
        step(h);
        h->be->ops->dirty_fetch(h->be, 0, RAM);
        uint64_t page = CPU_DATA / PTA_PAGE_SIZE + i;
        assert_int_equal(seen[page / 64] >> (page % 64), 1);
        memset(seen, 0, sizeof(seen));
    }
    h->be->ops->dirty_stop(h->be);
}

/* A figure for who reads the log; it decides nothing. */
static void takes_little_time(void **state)
{
    (void)state;
    g_autofree PtaX86State *s = g_new0(PtaX86State, 1);
    CpuHarness *h =
        FRESH(0xf0, 0x48, 0x0f, 0xc7, 0x0f, 0xeb, 0xf9); /* cmpxchg16b [rdi]; jmp back */
    h->c->gpr[PTA_X86_RDI] = CPU_DATA;
    enum { N = 20000 };
    int64_t start = g_get_monotonic_time();
    for (unsigned i = 0; i < N; i++) {
        lend(h, s);
        give(h, s);
        assert_int_equal(step(h), PTA_EXIT_INTERRUPTED);
    }
    print_message("# get, set and step: %.2f us\n", (double)(g_get_monotonic_time() - start) / N);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_as_the_engine_runs),
        cmocka_unit_test(sees_code_that_others_write),
        cmocka_unit_test(sees_page_tables_that_others_write),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(keeps_what_is_not_its_own),
        cmocka_unit_test(leaves_events_alone),
        cmocka_unit_test(logs_dirty_pages),
        cmocka_unit_test(takes_little_time),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
