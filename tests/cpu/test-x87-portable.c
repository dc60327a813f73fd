/*
 * The x87 of hosts without one against a real one: what must be exact is, transcendental functions
 * come close. The portable kernel is built here a second time under other names.
 */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/soft/fpu-kernel.h"

#define PTA_TEST_PORTABLE_X87
#define x87_k_arith   portable_arith
#define x87_k_compare portable_compare
#define x87_k_load    portable_load
#define x87_k_store   portable_store
#define x87_k_stack   portable_stack
uint16_t portable_arith(X87Arith op, X87Form form, X86Fpr *r, const X86Fpr *a, const void *b,
                        uint16_t cw);
uint16_t portable_compare(bool quiet, X87Form form, const X86Fpr *a, const void *b, uint16_t cw);
uint16_t portable_load(X87Form form, X86Fpr *r, const void *mem, uint16_t cw);
uint16_t portable_store(X87Form form, void *mem, const X86Fpr *a, uint16_t cw);
void portable_stack(X87Stack op, X86Fpu *f, uint8_t bcd[10]);
#include "src/soft/fpu-kernel-portable.c"
#undef x87_k_arith
#undef x87_k_compare
#undef x87_k_load
#undef x87_k_store
#undef x87_k_stack

static uint64_t seed = 88172645463325252;

static uint64_t next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Numbers, zeroes, infinities, NaNs, unsupported formats. */
static X86Fpr random_number(bool normal)
{
    X86Fpr a = { .mantissa = next() | UINT64_C(1) << 63 };
    a.sign_exponent = (uint16_t)((next() & 0x8000) | (16383 - 40 + next() % 80));
    if (normal) {
        return a;
    }
    switch (next() % 12) {
    case 0:
        a.mantissa = 0;
        a.sign_exponent &= 0x8000;
        break;
    case 1:
        a.mantissa = UINT64_C(1) << 63;
        a.sign_exponent |= 0x7fff;
        break;
    case 2:
        a.sign_exponent |= 0x7fff;
        break;
    case 3:
        a.mantissa &= INT64_MAX;
        break;
    case 4:
        a.sign_exponent &= 0x8000;
        break;
    case 5:
        a.mantissa &= UINT64_MAX << 48;
        break;
    default:
        break;
    }
    return a;
}

static void assert_number(const X86Fpr *a, const X86Fpr *b)
{
    assert_int_equal(a->mantissa, b->mantissa);
    assert_int_equal(a->sign_exponent, b->sign_exponent);
}

#define SIGNIFICANT (X87_EXCEPTIONS | X87_C0 | X87_C2 | X87_C3)

static void arithmetic_and_comparison(void **unused)
{
    static const X87Arith ops[] = { X87_ADD, X87_MUL, X87_SUB, X87_SUBR, X87_DIV, X87_DIVR };
    for (unsigned i = 0; i < 200000; i++) {
        const X86Fpr a = random_number(false), b = random_number(false);
        const uint16_t cw = (uint16_t)(0x37f | (next() & 3) << 10);
        X86Fpr r = { 0 }, s = { 0 };
        const X87Arith op = ops[i % 6];
        const uint16_t x = x87_k_arith(op, X87_REG, &r, &a, &b, cw);
        const uint16_t y = portable_arith(op, X87_REG, &s, &a, &b, cw);
        assert_number(&r, &s);
        assert_int_equal(x & X87_EXCEPTIONS, y & X87_EXCEPTIONS);
        const bool quiet = i & 1;
        assert_int_equal(x87_k_compare(quiet, X87_REG, &a, &b, cw) & SIGNIFICANT,
                         portable_compare(quiet, X87_REG, &a, &b, cw) & SIGNIFICANT);
    }
}

static void loads_and_stores(void **unused)
{
    for (unsigned i = 0; i < 200000; i++) {
        const X86Fpr a = random_number(false);
        const uint16_t cw = (uint16_t)(0x37f | (next() & 3) << 10);
        const X87Form form = X87_F32 + i % 5;
        uint64_t m = 0, n = 0, bits = next();
        const uint16_t x = x87_k_store(form, &m, &a, cw);
        const uint16_t y = portable_store(form, &n, &a, cw);
        assert_int_equal(m, n);
        assert_int_equal(x & (X87_EXCEPTIONS | X87_C1), y & (X87_EXCEPTIONS | X87_C1));
        if (form <= X87_F64) {
            X86Fpr r = { 0 }, s = { 0 };
            bits = i % 3 ? bits : bits & ~(UINT64_C(0x7ff00000) << 32 | 0x7f800000); /* denormals */
            const uint16_t v = x87_k_load(form, &r, &bits, cw);
            assert_int_equal(v & X87_EXCEPTIONS, portable_load(form, &s, &bits, cw));
            assert_number(&r, &s);
        }
    }
}

static X86Fpu stack_of(const X86Fpr *a, const X86Fpr *b)
{
    X86Fpu f = { .cw = X87_CW_INIT, .sw = 6 << 11, .tag_valid = 0xc0 };
    f.r[6] = *a;
    f.r[7] = *b;
    return f;
}

static void exact_functions(void **unused)
{
    static const X87Stack ops[] = { X87_FSQRT, X87_FRNDINT, X87_FXTRACT };
    for (unsigned i = 0; i < 100000; i++) {
        const X86Fpr a = random_number(i & 1), b = random_number(true);
        X86Fpu f = stack_of(&a, &b), g = f;
        f.cw = g.cw = (uint16_t)(0x37f | (next() & 3) << 10);
        x87_k_stack(ops[i % 3], &f, NULL);
        portable_stack(ops[i % 3], &g, NULL);
        assert_int_equal(f.tag_valid, g.tag_valid);
        assert_int_equal(f.sw & (X87_TOP | X87_IE | X87_ZE | X87_PE),
                         g.sw & (X87_TOP | X87_IE | X87_ZE | X87_PE));
        assert_number(x87_st(&f, 0), x87_st(&g, 0));
        assert_number(x87_st(&f, 1), x87_st(&g, 1));
    }
}

static void transcendental_functions(void **unused)
{
    static const X87Stack ops[] = { X87_FSIN,   X87_FCOS,  X87_FSINCOS, X87_FPTAN,
                                    X87_FPATAN, X87_F2XM1, X87_FYL2X,   X87_FYL2XP1 };
    for (unsigned i = 0; i < 40000; i++) {
        X86Fpr a = random_number(true), b = random_number(true);
        const X87Stack op = ops[i % 8];
        a.sign_exponent = (uint16_t)((a.sign_exponent & 0x8000) | (16383 - 2 - next() % 8));
        if (op == X87_FYL2X) {
            a.sign_exponent &= 0x7fff;
        }
        X86Fpu f = stack_of(&a, &b), g = f;
        x87_k_stack(op, &f, NULL);
        portable_stack(op, &g, NULL);
        assert_int_equal(f.sw & X87_TOP, g.sw & X87_TOP);
        assert_int_equal(f.tag_valid, g.tag_valid);
        for (unsigned k = 0; k < 2; k++) {
            if (x87_empty(&f, k)) {
                continue;
            }
            const long double x = to_host(x87_st(&f, k)), y = to_host(x87_st(&g, k));
            assert_true(fabsl(x - y) <= fabsl(x) * 1e-17L);
        }
    }
}

static void packed_decimal(void **unused)
{
    for (unsigned i = 0; i < 50000; i++) {
        X86Fpr a = random_number(i & 1), b = random_number(true);
        uint8_t x[10] = { 0 }, y[10] = { 0 };
        a.sign_exponent += i % 3 ? 20 : 0;
        X86Fpu f = stack_of(&a, &b), g = f;
        x87_k_stack(X87_FBSTP, &f, x);
        portable_stack(X87_FBSTP, &g, y);
        assert_memory_equal(x, y, 10);
        assert_int_equal(f.sw & (X87_TOP | X87_IE | X87_PE), g.sw & (X87_TOP | X87_IE | X87_PE));
        f = stack_of(&a, &b);
        g = f;
        if (x[9] != 0xff) {
            x87_k_stack(X87_FBLD, &f, x);
            portable_stack(X87_FBLD, &g, x);
            assert_number(x87_st(&f, 0), x87_st(&g, 0));
        }
    }
}

static void empty_and_full_stack(void **unused)
{
    const X86Fpr a = random_number(true);
    for (unsigned op = X87_FSQRT; op <= X87_FBSTP; op++) {
        for (unsigned tags = 0; tags < 2; tags++) {
            uint8_t x[10] = { 1 }, y[10] = { 1 };
            X86Fpu f = stack_of(&a, &a), g;
            f.tag_valid = tags ? 0xff : 0;
            for (unsigned i = 0; i < 8; i++) {
                f.r[i] = a;
            }
            g = f;
            x87_k_stack(op, &f, x);
            portable_stack(op, &g, y);
            assert_int_equal(f.sw & (X87_TOP | X87_IE | X87_SF),
                             g.sw & (X87_TOP | X87_IE | X87_SF));
            assert_int_equal(f.tag_valid, g.tag_valid);
        }
    }
}

int main(void)
{
#ifdef __x86_64__
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic_and_comparison),
        cmocka_unit_test(loads_and_stores),
        cmocka_unit_test(exact_functions),
        cmocka_unit_test(transcendental_functions),
        cmocka_unit_test(packed_decimal),
        cmocka_unit_test(empty_and_full_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
#else
    printf("1..0 # SKIP the host has no x87 to compare with\n");
    return 0;
#endif
}
