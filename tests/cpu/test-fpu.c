/* x87, MMX and SSE where the differential test cannot go: control registers, deferred and unmasked
 * exceptions, images in all modes, the canonical state. */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "src/soft/fpu.h"
#include "tests/cpu/cpu-harness.h"

#define RAM (8 * PTA_MIB)

static CpuHarness *h64, *h32, *h16;

static int setup(void **state)
{
    h64 = cpu_harness_new(64, RAM);
    h32 = cpu_harness_new(32, RAM);
    h16 = cpu_harness_new(16, RAM);
    return 0;
}

static int teardown(void **state)
{
    cpu_harness_free(h64);
    cpu_harness_free(h32);
    cpu_harness_free(h16);
    return 0;
}

/* A fresh VP whose FPU is as after FNINIT, with these bits changed. */
static X86Cpu *fresh(CpuHarness *h, uint64_t cr0_set, uint64_t cr0_clear, uint64_t cr4_clear)
{
    cpu_harness_reset(h);
    X86Cpu *c = h->c;
    c->cr0 =
        ((c->cr0 | X86_CR0_MP | X86_CR0_NE) & ~(X86_CR0_EM | X86_CR0_TS | cr0_clear)) | cr0_set;
    c->cr4 = (c->cr4 | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT) & ~cr4_clear;
    x86_mode_changed(c);
    c->fpu.cw = X87_CW_INIT;
    c->fpu.tag_valid = 0;
    c->gpr[PTA_X86_RDI] = h->bits == 16 ? 0 : CPU_DATA;
    return c;
}

static uint8_t *data(CpuHarness *h)
{
    return h->ram + (h->bits == 16 ? CPU_REAL_DATA : CPU_DATA);
}

#define RUN(h, ...)                                     \
    do {                                                \
        static const uint8_t code_[] = { __VA_ARGS__ }; \
        cpu_harness_code((h), 0, code_, sizeof(code_)); \
        cpu_harness_run(h);                             \
    } while (0)

/* ---- CR0 and CR4 ---- */

static void control_registers_gate(void **state)
{
    static const struct {
        const char *name;
        uint8_t code[4];
        uint8_t len;
        int em, ts, ts_no_mp, no_fxsr, em_ts; /* the vector, or CPU_END */
    } insns[] = {
        { "FLD1", { 0xd9, 0xe8 }, 2, X86_NM, X86_NM, X86_NM, CPU_END, X86_NM },
        { "FNINIT", { 0xdb, 0xe3 }, 2, X86_NM, X86_NM, X86_NM, CPU_END, X86_NM },
        { "FWAIT", { 0x9b }, 1, CPU_END, X86_NM, CPU_END, CPU_END, X86_NM },
        { "EMMS", { 0x0f, 0x77 }, 2, X86_UD, X86_NM, X86_NM, CPU_END, X86_UD },
        { "PADDB mm", { 0x0f, 0xfc, 0xc1 }, 3, X86_UD, X86_NM, X86_NM, CPU_END, X86_UD },
        { "PADDB xmm", { 0x66, 0x0f, 0xfc, 0xc1 }, 4, X86_UD, X86_NM, X86_NM, X86_UD, X86_UD },
        { "ADDPS", { 0x0f, 0x58, 0xc1 }, 3, X86_UD, X86_NM, X86_NM, X86_UD, X86_UD },
        { "LDMXCSR", { 0x0f, 0xae, 0x17 }, 3, X86_UD, X86_NM, X86_NM, X86_UD, X86_UD },
        { "FXSAVE", { 0x0f, 0xae, 0x07 }, 3, X86_NM, X86_NM, X86_NM, CPU_END, X86_NM },
        { "MOVNTI", { 0x0f, 0xc3, 0x07 }, 3, CPU_END, CPU_END, CPU_END, CPU_END, CPU_END },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(insns); i++) {
        const struct {
            uint64_t set, clear, cr4_clear;
            int vector;
        } cases[] = {
            { 0, 0, 0, CPU_END },
            { X86_CR0_EM, 0, 0, insns[i].em },
            { X86_CR0_TS, 0, 0, insns[i].ts },
            { X86_CR0_TS, X86_CR0_MP, 0, insns[i].ts_no_mp },
            { 0, 0, X86_CR4_OSFXSR, insns[i].no_fxsr },
            { X86_CR0_EM | X86_CR0_TS, 0, 0, insns[i].em_ts },
        };
        for (unsigned k = 0; k < G_N_ELEMENTS(cases); k++) {
            fresh(h64, cases[k].set, cases[k].clear, cases[k].cr4_clear);
            memset(data(h64), 0, 512);
            cpu_harness_code(h64, 0, insns[i].code, insns[i].len);
            if (cpu_harness_run(h64) != cases[k].vector) {
                fail_msg("%s, case %u: vector %d, not %d", insns[i].name, k, h64->vector,
                         cases[k].vector);
            }
        }
    }
}

/* ---- x87 exceptions ---- */

/* FLDCW [rdi]; FLD1; FLDZ; FDIVP: 1 / 0 */
#define DIVIDE_BY_ZERO 0xd9, 0x2f, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9

static void unmasked_x87_exception_waits(void **state)
{
    X86Cpu *c = fresh(h64, 0, 0, 0);
    memcpy(data(h64), "\x7b\x03", 2);                 /* ZM clear */
    RUN(h64, DIVIDE_BY_ZERO, 0xdd, 0x7f, 0x08, 0x9b); /* FNSTSW [rdi+8]; FWAIT */
    assert_int_equal(h64->vector, X86_MF);
    assert_int_equal(h64->fault_rip, CPU_CODE + 11);
    uint16_t sw;
    memcpy(&sw, data(h64) + 8, 2);
    assert_int_equal(sw & (X87_ES | X87_B | X87_ZE), X87_ES | X87_B | X87_ZE);
    assert_int_equal(c->fpu.fip, CPU_CODE + 6); /* FDIVP */
    assert_int_equal(c->fpu.tag_valid, 0xc0);   /* operands are still there */

    fresh(h64, 0, 0, 0);
    RUN(h64, DIVIDE_BY_ZERO, 0x0f, 0x77); /* MMX waits, too */
    assert_int_equal(h64->vector, X86_MF);
    fresh(h64, 0, 0, 0);
    RUN(h64, DIVIDE_BY_ZERO, 0xdb, 0xe2, 0x9b); /* FNCLEX does not, and clears it */
    assert_int_equal(h64->vector, CPU_END);
    fresh(h64, 0, X86_CR0_NE, 0);
    RUN(h64, DIVIDE_BY_ZERO, 0x9b); /* nobody hears FERR# */
    assert_int_equal(h64->vector, CPU_END);
}

static void masked_x87_exception_goes_on(void **state)
{
    X86Cpu *c = fresh(h64, 0, 0, 0);
    memcpy(data(h64), "\x7f\x03", 2);
    RUN(h64, DIVIDE_BY_ZERO, 0x9b);
    assert_int_equal(h64->vector, CPU_END);
    assert_int_equal(c->fpu.sw & (X87_ZE | X87_ES), X87_ZE);
    assert_int_equal(x87_st(&c->fpu, 0)->sign_exponent, 0x7fff); /* infinity */
    assert_int_equal(c->fpu.tag_valid, 0x80);
}

/* ---- SSE exceptions ---- */

static void unmasked_sse_exception(void **state)
{
    X86Cpu *c = fresh(h64, 0, 0, 0);
    const uint32_t mxcsr = 0x1f80 & ~0x200u; /* ZM clear */
    memcpy(data(h64), &mxcsr, 4);
    c->xmm[0].f32[0] = 1;
    c->xmm[1].f32[0] = 0;
    RUN(h64, 0x0f, 0xae, 0x17, 0xf3, 0x0f, 0x5e, 0xc1); /* LDMXCSR [rdi]; DIVSS xmm0, xmm1 */
    assert_int_equal(h64->vector, X86_XM);
    assert_int_equal(h64->fault_rip, CPU_CODE + 3);
    assert_true(c->xmm[0].f32[0] == 1);
    assert_int_equal(c->fpu.mxcsr, mxcsr | X87_ZE);

    c = fresh(h64, 0, 0, X86_CR4_OSXMMEXCPT);
    c->xmm[0].f32[0] = 1;
    c->xmm[1].f32[0] = 0;
    RUN(h64, 0x0f, 0xae, 0x17, 0xf3, 0x0f, 0x5e, 0xc1);
    assert_int_equal(h64->vector, X86_UD);
}

static void flags_of_sse_are_sticky(void **state)
{
    X86Cpu *c = fresh(h64, 0, 0, 0);
    c->xmm[0].f32[0] = 1;
    c->xmm[1].f32[0] = 3;
    RUN(h64, 0xf3, 0x0f, 0x5e, 0xc1, 0x0f, 0xae, 0x1f); /* DIVSS; STMXCSR [rdi] */
    assert_int_equal(h64->vector, CPU_END);
    uint32_t mxcsr;
    memcpy(&mxcsr, data(h64), 4);
    assert_int_equal(mxcsr, 0x1f80 | X87_PE);
    assert_int_equal(c->fpu.mxcsr, mxcsr); /* folded in when the VP stopped */
}

static void reserved_bits_are_refused(void **state)
{
    const uint32_t bad = 0x10000;
    fresh(h64, 0, 0, 0);
    memcpy(data(h64), &bad, 4);
    RUN(h64, 0x0f, 0xae, 0x17);
    assert_int_equal(h64->vector, X86_GP);
    fresh(h64, 0, 0, 0);
    memset(data(h64), 0, 512);
    memcpy(data(h64) + 24, &bad, 4);
    RUN(h64, 0x0f, 0xae, 0x0f); /* FXRSTOR [rdi] */
    assert_int_equal(h64->vector, X86_GP);
    fresh(h64, 0, 0, 0);
    RUN(h64, 0x0f, 0xae, 0x4f, 0x08); /* FXRSTOR [rdi+8] */
    assert_int_equal(h64->vector, X86_GP);
}

/* ---- images ---- */

static uint16_t word(CpuHarness *h, unsigned at)
{
    uint16_t v;
    memcpy(&v, data(h) + at, 2);
    return v;
}

/* FLD1; FLD1 [di]; FNSTENV [di]: pointers in the layout of the mode. */
static void environments(void **state)
{
    fresh(h32, 0, 0, 0);
    RUN(h32, 0xd9, 0x07, 0xd9, 0x77, 0x40); /* FLD dword [edi]; FNSTENV [edi+0x40] */
    assert_int_equal(h32->vector, CPU_END);
    assert_int_equal(word(h32, 0x40), 0x037f);
    assert_int_equal(word(h32, 0x44), 7 << 11);
    uint32_t ip, dp;
    memcpy(&ip, data(h32) + 0x4c, 4);
    memcpy(&dp, data(h32) + 0x54, 4);
    assert_int_equal(ip, CPU_CODE);
    assert_int_equal(dp, CPU_DATA);
    assert_int_equal(word(h32, 0x50), CPU_CS32);
    assert_int_equal(word(h32, 0x52), 0x107); /* D9 /0 [edi] */
    assert_int_equal(word(h32, 0x58), CPU_DS);

    fresh(h16, 0, 0, 0);
    RUN(h16, 0xd9, 0x05, 0xd9, 0x75, 0x40); /* FLD dword [di]; FNSTENV [di+0x40]: 14 bytes */
    assert_int_equal(h16->vector, CPU_END);
    assert_int_equal(word(h16, 0x40), 0x037f);
    assert_int_equal(word(h16, 0x46), CPU_CODE & 0xffff); /* linear, low half */
    assert_int_equal(word(h16, 0x48), (CPU_CODE >> 16) << 12 | 0x105);
    assert_int_equal(word(h16, 0x4a), CPU_REAL_DATA & 0xffff);
    assert_int_equal(word(h16, 0x4c), (CPU_REAL_DATA >> 16) << 12);
}

static void save_and_restore(void **state)
{
    X86Cpu *c = fresh(h64, 0, 0, 0);
    /* FLD1; FLDPI; FLDZ; FNSAVE [rdi]; FRSTOR [rdi] */
    RUN(h64, 0xd9, 0xe8, 0xd9, 0xeb, 0xd9, 0xee, 0xdd, 0x37, 0xdd, 0x27);
    assert_int_equal(h64->vector, CPU_END);
    assert_int_equal(c->fpu.tag_valid, 0xe0);
    assert_int_equal(x87_top(&c->fpu), 5);
    assert_int_equal(x87_st(&c->fpu, 0)->mantissa, 0);
    assert_int_equal(x87_st(&c->fpu, 1)->mantissa, UINT64_C(0xc90fdaa22168c235));
    assert_int_equal(x87_st(&c->fpu, 2)->sign_exponent, 0x3fff);
    assert_int_equal(word(h64, 8), 0x3ff | 1 << 10); /* R5 zero, R6 and R7 valid */
}

/* 32-bit code has eight XMM registers only: the others stay out of the image. */
static void fxsave_by_mode(void **state)
{
    X86Cpu *c = fresh(h32, 0, 0, 0);
    memset(data(h32), 0xee, 512);
    memset(&c->xmm[0], 0x11, 16);
    memset(&c->xmm[8], 0x22, 16);
    RUN(h32, 0x0f, 0xae, 0x07);
    assert_int_equal(h32->vector, CPU_END);
    assert_int_equal(data(h32)[160], 0x11);
    assert_int_equal(data(h32)[288], 0xee);
    c = fresh(h32, 0, 0, X86_CR4_OSFXSR);
    memset(data(h32), 0xee, 512);
    RUN(h32, 0x0f, 0xae, 0x07);
    assert_int_equal(h32->vector, CPU_END);
    assert_int_equal(data(h32)[160], 0xee);
    c = fresh(h64, 0, 0, 0);
    memset(data(h64), 0xee, 512);
    memset(&c->xmm[15], 0x33, 16);
    RUN(h64, 0x0f, 0xae, 0x07);
    assert_int_equal(data(h64)[400], 0x33);
    assert_int_equal(data(h64)[416], 0xee);
}

/* ---- the canonical state ---- */

static void canonical_state(void **state)
{
    X86Cpu *c = fresh(h64, 0, 0, 0);
    g_autofree PtaX86Xsave *a = g_new0(PtaX86Xsave, 1), *b = g_new0(PtaX86Xsave, 1);
    c->fpu.cw = 0x0a7f;
    c->fpu.sw = 3 << 11 | X87_C2;
    c->fpu.tag_valid = 0x5a;
    c->fpu.fip = UINT64_C(0xffff800012345678);
    for (unsigned i = 0; i < 8; i++) {
        c->fpu.r[i] = (X86Fpr){ .mantissa = i * UINT64_C(0x0101010101010101),
                                .sign_exponent = (uint16_t)(0x3fff + i) };
    }
    memset(c->xmm, 0x5c, sizeof(c->xmm));
    x86_mxcsr_set(c, 0x9fa3);
    x86_fpu_get(c, a);
    x86_fpu_reset(c);
    assert_int_equal(c->fpu.mxcsr, 0x1f80);
    assert_true(x86_fpu_set(c, a, NULL));
    x86_fpu_get(c, b);
    assert_memory_equal(a, b, sizeof(*a));
    assert_int_equal(c->fpu.r[3].mantissa, UINT64_C(0x0303030303030303));
    assert_int_equal(c->fpu.mxcsr, 0x9fa3);
}

static void hostile_state_is_refused(void **state)
{
    X86Cpu *c = fresh(h64, 0, 0, 0);
    g_autofree PtaX86Xsave *a = g_new0(PtaX86Xsave, 1);
    GError *error = NULL;
    x86_fpu_get(c, a);
    a->area[26] = 1; /* MXCSR bit 16 */
    assert_false(x86_fpu_set(c, a, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
    g_clear_error(&error);
    a->area[26] = 0;
    a->area[1] = 0xff; /* reserved bits of the control word do not stay, as with FXRSTOR */
    a->area[2] = 0xff; /* ES without an unmasked exception does not, either */
    assert_true(x86_fpu_set(c, a, NULL));
    assert_int_equal(c->fpu.cw, 0x1f7f);
    assert_int_equal(c->fpu.sw & (X87_ES | X87_B), 0);
    assert_int_equal(c->fpu.mxcsr, 0x1f80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_registers_gate),
        cmocka_unit_test(unmasked_x87_exception_waits),
        cmocka_unit_test(masked_x87_exception_goes_on),
        cmocka_unit_test(unmasked_sse_exception),
        cmocka_unit_test(flags_of_sse_are_sticky),
        cmocka_unit_test(reserved_bits_are_refused),
        cmocka_unit_test(environments),
        cmocka_unit_test(save_and_restore),
        cmocka_unit_test(fxsave_by_mode),
        cmocka_unit_test(canonical_state),
        cmocka_unit_test(hostile_state_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
