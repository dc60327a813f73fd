/*
 * XSAVE and its family: against the host's CPU (x87 and SSE, hostile headers included) where it has
 * them, and by what the SDM says: components of which the software CPU knows the place only, checks,
 * the canonical state.
 */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "src/soft/fpu.h"
#include "tests/cpu/cpu-harness.h"

#define RAM   (8 * PTA_MIB)
#define AREA  576
#define COUNT 4000

static CpuHarness *h;
static uint64_t rng = UINT64_C(0x853c49e6748fea9b);

static uint64_t next(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

static int setup(void **state)
{
    (void)state;
    h = cpu_harness_new_stepper(64, RAM); /* it has the host's components */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cpu_harness_free(h);
    return 0;
}

/* ---- the host ---- */

enum Op { XSAVE, XSAVEOPT, XSAVEC, XRSTOR, N_OPS };

static const uint8_t op_code[N_OPS][4] = {
    { 0x48, 0x0f, 0xae, 0x27 }, /* xsave64 [rdi] */
    { 0x48, 0x0f, 0xae, 0x37 },
    { 0x48, 0x0f, 0xc7, 0x27 },
    { 0x48, 0x0f, 0xae, 0x2f },
};

static sigjmp_buf faulted;

static void on_fault(int sig)
{
    (void)sig;
    siglongjmp(faulted, 1);
}

/* Loads `fx`, executes, gives the registers afterwards in `fx`. False: #GP. */
static bool on_host(enum Op op, uint8_t *fx, uint8_t *area, uint64_t which)
{
    static uint8_t own[512] __attribute__((aligned(64)));
    static uint8_t after[512] __attribute__((aligned(64)));
    const uint32_t lo = (uint32_t)which, hi = (uint32_t)(which >> 32);
    __asm__ volatile("fxsave64 %0" : "=m"(own));
    if (sigsetjmp(faulted, 1)) {
        __asm__ volatile("fxrstor64 %0" : : "m"(own));
        return false;
    }
#define RUN(text)                                                                 \
    __asm__ volatile("fxrstor64 (%3)\n" text "\nfxsave64 (%4)\nfxrstor64 (%5)"    \
                     :                                                            \
                     : "D"(area), "a"(lo), "d"(hi), "r"(fx), "r"(after), "r"(own) \
                     : "memory")
    switch (op) {
    case XSAVE:
        RUN("xsave64 (%0)");
        break;
    case XSAVEOPT:
        RUN("xsaveopt64 (%0)");
        break;
    case XSAVEC:
        RUN("xsavec64 (%0)");
        break;
    default:
        RUN("xrstor64 (%0)");
        break;
    }
#undef RUN
    memcpy(fx, after, 512);
    return true;
}

static bool on_soft(enum Op op, uint8_t *fx, uint8_t *area, uint64_t which, uint64_t xcr0)
{
    X86Cpu *c = h->c;
    cpu_harness_reset(h);
    cpu_harness_code(h, 0, op_code[op], sizeof(op_code[op]));
    memcpy(h->ram + CPU_DATA, area, AREA);
    c->cr4 |= X86_CR4_OSXSAVE;
    c->xcr0 = xcr0;
    x86_fxrstor_image(c, fx, true, true, 16);
    c->gpr[PTA_X86_RDI] = CPU_DATA;
    c->gpr[PTA_X86_RAX] = (uint32_t)which;
    c->gpr[PTA_X86_RDX] = which >> 32;
    h->be->ops->vp_run(h->vp, &h->exit);
    assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
    memcpy(area, h->ram + CPU_DATA, AREA);
    memset(fx, 0, 512);
    x86_fxsave_image(c, fx, true, 16);
    return c->rip == CPU_CODE + sizeof(op_code[op]);
}

/* Registers; some of them as they are initially. Pointers stay 0: CPUs differ in when they save them. */
static void make_registers(uint8_t fx[512])
{
    memset(fx, 0, 512);
    fx[0] = 0x7f;
    fx[1] = 0x03;
    fx[24] = 0x80;
    fx[25] = 0x1f;
    memset(fx + 28, 0xff, 2);
    if (next() % 4) {
        fx[0] = (uint8_t)(0x40 | (next() & 0x3f));
        fx[1] = (uint8_t)(next() & 0x0f);
        fx[3] = (uint8_t)(next() & 0x38);
        fx[4] = (uint8_t)next();
        for (unsigned i = 0; i < 8; i++) {
            for (unsigned j = 0; j < 10; j++) {
                fx[32 + i * 16 + j] = (uint8_t)next();
            }
        }
    }
    if (next() % 4) {
        for (unsigned i = 160; i < 416; i++) {
            fx[i] = (uint8_t)next();
        }
    }
    if (next() % 2) {
        fx[24] = (uint8_t)(next() | 0x80);
        fx[25] = (uint8_t)(next() & 0x7f) | 0x1f;
    }
}

/* Bits of XSTATE_BV and XCOMP_BV that mean the same here and on the host: x87, SSE, and what neither
 * has. */
static void make_header(uint8_t *area, uint64_t xcr0)
{
    uint64_t bv = next() % 4, comp = 0;
    unsigned how = (unsigned)(next() % 8);
    uint64_t odd = UINT64_C(1) << next() % 64;
    while (odd & xcr0) {
        odd = UINT64_C(1) << next() % 64;
    }
    memset(area + 512, 0, 64);
    if (how == 1) {
        bv |= odd;
    } else if (how == 2) {
        comp = odd;
    } else if (how == 3) {
        area[528 + next() % 48] = (uint8_t)next();
    } else if (how >= 4) {
        comp = UINT64_C(1) << 63 | (how == 4 ? next() % 4 : bv | next() % 4);
        if (how == 5) {
            comp |= odd;
        } else if (how == 6) {
            area[528 + next() % 48] = (uint8_t)next();
        }
    }
    memcpy(area + 512, &bv, 8);
    memcpy(area + 520, &comp, 8);
}

static uint64_t host_xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo | (uint64_t)hi << 32;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i]) {
            return false;
        }
    }
    return true;
}

static bool is_initial_x87(const uint8_t fx[512])
{
    return fx[0] == 0x7f && fx[1] == 3 && is_zero(fx + 2, 22) && is_zero(fx + 32, 128);
}

static void does_as_the_host(void **state)
{
    (void)state;
    static uint8_t host_area[AREA] __attribute__((aligned(64)));
    static uint8_t soft_area[AREA] __attribute__((aligned(64)));
    static uint8_t host_fx[512] __attribute__((aligned(64)));
    uint8_t soft_fx[512];
    unsigned a = 0, b, c = 0, d, opt = 0, faults = 0;
    __get_cpuid_count(1, 0, &a, &b, &c, &d);
    if (!(c >> 27 & 1) || !__get_cpuid_count(0xd, 1, &opt, &b, &c, &d) || (opt & 3) != 3) {
        print_message("# this host has no XSAVE, XSAVEOPT or XSAVEC\n");
        return;
    }
    const uint64_t xcr0 = host_xcr0();
    struct sigaction action = { .sa_handler = on_fault }, before;
    sigaction(SIGSEGV, &action, &before);
    for (unsigned i = 0; i < COUNT; i++) {
        enum Op op = (enum Op)(next() % N_OPS);
        const uint64_t which = next() % 4 | (next() % 2 ? UINT64_C(0xffff) << 32 : 0);
        make_registers(host_fx);
        for (unsigned j = 0; j < AREA; j++) {
            host_area[j] = (uint8_t)next();
        }
        uint8_t image[512];
        make_registers(image);
        memcpy(host_area, image, 416);
        if (next() % 16 == 0) {
            host_area[26 + next() % 2] = 1; /* MXCSR with a reserved bit */
        }
        make_header(host_area, xcr0);
        memcpy(soft_area, host_area, AREA);
        memcpy(soft_fx, host_fx, 512);
        const bool host_ok =
            on_host(op, host_fx, host_area, which & (xcr0 | ~UINT64_C(0xffffffff)));
        const bool soft_ok = on_soft(op, soft_fx, soft_area, which, 3);
        if (host_ok != soft_ok) {
            print_message("# %u: op %d, which %#" G_GINT64_MODIFIER "x: %d, here %d\n", i, (int)op,
                          which, host_ok, soft_ok);
        }
        assert_int_equal(host_ok, soft_ok);
        faults += !host_ok;
        if (!host_ok) {
            continue;
        }
        memset(host_fx + 416, 0, 96);
        memset(host_fx + 28, 0, 4);
        memset(soft_fx + 28, 0, 4);
        assert_memory_equal(host_fx, soft_fx, 416);
        /* Where the host takes for in use what is as it is initially, its area says more. */
        uint64_t host_bv, soft_bv;
        memcpy(&host_bv, host_area + 512, 8);
        memcpy(&soft_bv, soft_area + 512, 8);
        uint64_t initial =
            (is_initial_x87(host_fx) ? 1 : 0) | (is_zero(host_fx + 160, 256) ? 2 : 0);
        assert_int_equal(soft_bv & ~host_bv, 0);
        assert_int_equal(host_bv & ~soft_bv & ~(which & initial), 0);
        if (host_bv == soft_bv) {
            memset(host_area + 28, 0, 4); /* MXCSR_MASK: of the CPU */
            memset(soft_area + 28, 0, 4);
            assert_memory_equal(host_area, soft_area, AREA);
        }
    }
    sigaction(SIGSEGV, &before, NULL);
    assert_in_range(faults, COUNT / 50, COUNT / 2);
}

/* ---- by the book ---- */

/* Runs one instruction with RDI at `offset` of the data; RFBM in EDX:EAX. The vector, or -1. */
static int run(const uint8_t *code, size_t len, unsigned offset, uint64_t which)
{
    cpu_harness_code(h, 0, code, len);
    h->c->gpr[PTA_X86_RDI] = CPU_DATA + offset;
    h->c->gpr[PTA_X86_RAX] = (uint32_t)which;
    h->c->gpr[PTA_X86_RDX] = which >> 32;
    h->c->gpr[PTA_X86_RSP] = CPU_STACK;
    h->be->ops->vp_run(h->vp, &h->exit);
    if (h->c->rip == CPU_CODE + len) {
        return -1;
    }
    return (int)(h->c->rip - CPU_STUBS) / 16;
}
#define INSN(offset, which, ...) \
    run((const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }), offset, which)
#define XSAVE_RDI    0x0f, 0xae, 0x27
#define XRSTOR_RDI   0x0f, 0xae, 0x2f
#define XSAVEOPT_RDI 0x0f, 0xae, 0x37
#define XSAVEC_RDI   0x0f, 0xc7, 0x27
#define XSAVES_RDI   0x0f, 0xc7, 0x2f
#define XRSTORS_RDI  0x0f, 0xc7, 0x1f
#define XGETBV       0x0f, 0x01, 0xd0
#define XSETBV       0x0f, 0x01, 0xd1

static void fresh(uint64_t xcr0)
{
    cpu_harness_clear(h);
    h->c->cr4 |= X86_CR4_OSXSAVE;
    h->c->xcr0 = xcr0;
}

static void checks(void **state)
{
    (void)state;
    fresh(3);
    assert_int_equal(INSN(16, 3, XSAVE_RDI), X86_GP);
    assert_int_equal(INSN(64, 3, XSAVE_RDI), -1);
    assert_int_equal(INSN(64, 3, 0xf0, XSAVE_RDI), X86_UD);
    h->c->cr0 |= X86_CR0_TS;
    x86_mode_changed(h->c);
    assert_int_equal(INSN(16, 3, XRSTOR_RDI), X86_NM);
    assert_int_equal(INSN(0, 3, XGETBV), -1);
    h->c->cr0 &= ~X86_CR0_TS;
    h->c->cr0 |= X86_CR0_EM; /* says nothing here */
    x86_mode_changed(h->c);
    assert_int_equal(INSN(64, 3, XSAVE_RDI), -1);
    h->c->cr4 &= ~X86_CR4_OSXSAVE;
    assert_int_equal(INSN(16, 3, XSAVE_RDI), X86_UD);
    assert_int_equal(INSN(0, 0, XGETBV), X86_UD);
    assert_int_equal(INSN(0, 3, XSETBV), X86_UD);

    fresh(1);
    h->c->gpr[PTA_X86_RCX] = 0;
    static const uint64_t bad[] = { 0, 2, 5, 4, 1 | UINT64_C(1) << 62, 1 | 0x20, 0x80000001 };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_int_equal(INSN(0, bad[i], XSETBV), X86_GP);
    }
    assert_int_equal(INSN(0, 3, XSETBV), -1);
    assert_int_equal(h->c->xcr0, 3);
    h->c->gpr[PTA_X86_RCX] = 1;
    assert_int_equal(INSN(0, 3, XSETBV), X86_GP);
    assert_int_equal(INSN(0, 0, XGETBV), -1);
    h->c->gpr[PTA_X86_RCX] = 2;
    assert_int_equal(INSN(0, 0, XGETBV), X86_GP);

    /* A fault leaves everything: the second page is absent. */
    fresh(3);
    uint64_t none = 0;
    memcpy(h->ram + CPU_PD + 16, &none, 8);
    memset(h->ram + 0x400000 - 256, 0x11, 256);
    assert_int_equal(INSN(0x200000 - 256, 3, XSAVE_RDI), X86_PFV);
    for (unsigned i = 1; i <= 256; i++) {
        assert_int_equal(h->ram[0x400000 - i], 0x11);
    }
    assert_int_equal(INSN(0x200000 - 256, 3, XRSTOR_RDI), X86_PFV);
}

static void assert_filled(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        assert_int_equal(h->ram[CPU_DATA + i], 0xaa);
    }
}

/* What is as it is initially is not written, but by XSAVE. */
static void leaves_out_what_is_initial(void **state)
{
    (void)state;
    uint64_t word;
    fresh(3);
    memset(h->ram + CPU_DATA, 0, AREA);
    h->ram[CPU_DATA + 24] = 0x80;
    h->ram[CPU_DATA + 25] = 0x1f;
    assert_int_equal(INSN(0, 3, XRSTOR_RDI), -1);
    memset(h->ram + CPU_DATA, 0xaa, AREA);
    assert_int_equal(INSN(0, 3, XSAVEC_RDI), -1);
    assert_filled(0, 512);
    assert_filled(528, AREA);
    memcpy(&word, h->ram + CPU_DATA + 512, 8);
    assert_int_equal(word, 0);
    memcpy(&word, h->ram + CPU_DATA + 520, 8);
    assert_true(word == (UINT64_C(1) << 63 | 3));
    memset(h->ram + CPU_DATA, 0xaa, AREA);
    assert_int_equal(INSN(0, 3, XSAVEOPT_RDI), -1);
    assert_filled(0, 24);
    assert_filled(32, 512);
    assert_filled(520, AREA);
    memcpy(&word, h->ram + CPU_DATA + 24, 8);
    assert_true(word == (UINT64_C(0xffff) << 32 | 0x1f80));
    memcpy(&word, h->ram + CPU_DATA + 512, 8);
    assert_true(word == (UINT64_C(0xaaaaaaaaaaaaaaaa) & ~UINT64_C(3)));
    assert_int_equal(INSN(0, 1, XSAVE_RDI), -1);
    assert_int_equal(h->ram[CPU_DATA], 0x7f);
    assert_filled(160, 512);
    /* MXCSR alone makes SSE in use for the compacted format. */
    x86_mxcsr_set(h->c, 0x1f00);
    assert_int_equal(INSN(0, 3, XSAVEC_RDI), -1);
    memcpy(&word, h->ram + CPU_DATA + 512, 8);
    assert_int_equal(word, 2);
    assert_int_equal(h->ram[CPU_DATA + 24], 0);
}

/* A component that nothing here computes on, if there is one: it is transported. */
static void transports_what_it_does_not_know(void **state)
{
    (void)state;
    const X86XsaveLayout *l = &((X86Machine *)h->be)->xsave;
    if (!(l->user & 4)) {
        print_message("# this host has no AVX\n");
        return;
    }
    fresh(7);
    PtaX86State *s = g_new0(PtaX86State, 1);
    h->be->ops->vp_get_state(h->vp, s);
    for (unsigned i = 0; i < l->size[2]; i++) {
        s->xsave.area[l->offset[2] + i] = (uint8_t)(i + 1);
    }
    s->xsave.area[512] |= 4;
    assert_true(h->be->ops->vp_set_state(h->vp, s, NULL));
    memset(h->ram + CPU_DATA, 0, 4096);
    assert_int_equal(INSN(0, 7, XSAVE_RDI), -1);
    assert_memory_equal(h->ram + CPU_DATA + l->offset[2], s->xsave.area + l->offset[2], l->size[2]);
    assert_int_equal(h->ram[CPU_DATA + 512] & 4, 4);
    assert_int_equal(INSN(8192, 4, XSAVEC_RDI), -1); /* alone: directly behind the header */
    assert_memory_equal(h->ram + CPU_DATA + 8192 + 576, s->xsave.area + l->offset[2], l->size[2]);
    assert_int_equal(INSN(0x3000, 7, XSAVES_RDI), -1);

    /* Initial: the area without it. */
    h->ram[CPU_DATA + 512] &= (uint8_t)~4;
    assert_int_equal(INSN(0, 7, XRSTOR_RDI), -1);
    PtaX86State *t = g_new0(PtaX86State, 1);
    h->be->ops->vp_get_state(h->vp, t);
    assert_int_equal(t->xsave.area[512] & 4, 0);
    for (unsigned i = 0; i < l->size[2]; i++) {
        assert_int_equal(t->xsave.area[l->offset[2] + i], 0);
    }
    h->c->gpr[PTA_X86_RCX] = 1;
    assert_int_equal(INSN(0, 0, XGETBV), -1);
    assert_int_equal(h->c->gpr[PTA_X86_RAX] & 4, 0);
    /* And back, by the compacted format. */
    assert_int_equal(INSN(8192, 7, XRSTOR_RDI), -1);
    assert_int_equal(INSN(0x3000, 7, XRSTORS_RDI), -1);
    h->be->ops->vp_get_state(h->vp, t);
    assert_memory_equal(t->xsave.area + l->offset[2], s->xsave.area + l->offset[2], l->size[2]);
    assert_int_equal(t->xsave.area[512] & 4, 4);
    assert_int_equal(INSN(0, 7, XRSTORS_RDI), X86_GP); /* not compacted */
    g_free(s);
    g_free(t);
}

/* Whatever the area says comes back, as long as nothing changes it. */
static void keeps_the_area_bit_for_bit(void **state)
{
    (void)state;
    g_autofree PtaX86State *s = g_new0(PtaX86State, 1);
    g_autofree PtaX86State *t = g_new0(PtaX86State, 1);
    fresh(3);
    h->be->ops->vp_get_state(h->vp, s);
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < PTA_X86_XSAVE_SIZE; i++) {
            s->xsave.area[i] = (uint8_t)next();
        }
        make_registers(s->xsave.area);
        s->xsave.area[28] = (uint8_t)next();
        for (unsigned i = 416; i < 512; i++) {
            s->xsave.area[i] = (uint8_t)next();
        }
        uint64_t bv = round % 2 ? next() : UINT64_MAX;
        memcpy(s->xsave.area + 512, &bv, 8);
        const X86XsaveLayout *l = &((X86Machine *)h->be)->xsave;
        for (uint64_t left = l->user & ~bv & ~UINT64_C(3); left; left &= left - 1) {
            unsigned i = (unsigned)__builtin_ctzll(left); /* what is not in use is zero */
            memset(s->xsave.area + l->offset[i], 0, l->size[i]);
        }
        assert_true(h->be->ops->vp_set_state(h->vp, s, NULL));
        h->be->ops->vp_get_state(h->vp, t);
        assert_memory_equal(s, t, sizeof(*s));
    }
}

/* Not of a VP that is lent: hostile snapshots. */
static void refuses_headers_that_cannot_be(void **state)
{
    (void)state;
    CpuHarness *own = cpu_harness_new(64, RAM);
    g_autofree PtaX86State *s = g_new0(PtaX86State, 1);
    own->be->ops->vp_get_state(own->vp, s);
    assert_int_equal(s->xsave.area[512], 3);
    assert_true(own->be->ops->vp_set_state(own->vp, s, NULL));
    for (unsigned i = 515; i < 576; i++) {
        g_autoptr(GError) error = NULL;
        s->xsave.area[i] ^= 0x80;
        assert_false(own->be->ops->vp_set_state(own->vp, s, &error));
        assert_int_equal(error->code, PTA_ERROR_BAD_SNAPSHOT);
        s->xsave.area[i] ^= 0x80;
    }
    static const uint64_t bad[] = { 0, 2, 4, 7, UINT64_C(1) << 63 };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        s->regs.xcr0 = bad[i];
        assert_false(own->be->ops->vp_set_state(own->vp, s, NULL));
    }
    s->regs.xcr0 = 3;
    s->regs.xss = 1 << 8;
    assert_false(own->be->ops->vp_set_state(own->vp, s, NULL));
    cpu_harness_free(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(does_as_the_host),
        cmocka_unit_test(checks),
        cmocka_unit_test(leaves_out_what_is_initial),
        cmocka_unit_test(transports_what_it_does_not_know),
        cmocka_unit_test(keeps_the_area_bit_for_bit),
        cmocka_unit_test(refuses_headers_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
