/*
 * x87 operations for hosts without an x87, in long double; see fpu-kernel.h. Exact where long double
 * has at least 64 bits of significand and the precision control asks for no less, up to double
 * rounding; an unmasked overflow or underflow delivers the masked result; the transcendental
 * functions are the C library's. A test compares it with an x87 (tests/cpu/test-x87-portable.c).
 */
#include "config.h"

#include "src/soft/fpu-kernel.h"

#if !defined(__x86_64__) || defined(PTA_TEST_PORTABLE_X87)

#include <fenv.h>
#include <float.h>
#include <math.h>
#include <string.h>

static const X86Fpr indefinite = { .mantissa = UINT64_C(0xc000000000000000),
                                   .sign_exponent = 0xffff };

/* ---- values ---- */

typedef enum Class {
    ZERO,
    DENORMAL,
    NORMAL,
    INFINITE,
    QUIET_NAN,
    SIGNALLING_NAN,
    UNSUPPORTED
} Class;

static Class classify(const X86Fpr *a)
{
    const unsigned exponent = a->sign_exponent & 0x7fff;
    if (exponent == 0) {
        return a->mantissa ? DENORMAL : ZERO;
    }
    if (!(a->mantissa >> 63)) {
        return UNSUPPORTED;
    }
    if (exponent != 0x7fff) {
        return NORMAL;
    }
    return a->mantissa << 1 == 0 ? INFINITE : a->mantissa >> 62 & 1 ? QUIET_NAN : SIGNALLING_NAN;
}

static bool negative(const X86Fpr *a)
{
    return a->sign_exponent >> 15;
}

/* Of a number, not a NaN. */
static long double to_host(const X86Fpr *a)
{
    const int exponent = a->sign_exponent & 0x7fff;
    long double v;
    if (exponent == 0x7fff) {
        v = HUGE_VALL;
    } else {
        v = ldexpl((long double)a->mantissa, (exponent ? exponent : 1) - 16383 - 63);
    }
    return negative(a) ? -v : v;
}

static unsigned precision(uint16_t cw)
{
    static const unsigned bits[4] = { 24, 64, 53, 64 };
    return bits[cw >> 8 & 3];
}

static void set_rounding(uint16_t cw)
{
    static const int rounding[4] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
    fesetround(rounding[cw >> 10 & 3]);
    feclearexcept(FE_ALL_EXCEPT);
}

/* Rounds to `bits` and the range of the format, by the rounding mode in force; flags. */
static uint16_t from_host(long double v, unsigned bits, X86Fpr *r)
{
    uint16_t sw = 0;
    int e;
    r->sign_exponent = signbit(v) ? 0x8000 : 0;
    r->mantissa = 0;
    if (isnan(v)) {
        *r = indefinite;
        return 0;
    }
    if (isinf(v) || v == 0) {
        if (v != 0) {
            r->sign_exponent |= 0x7fff;
            r->mantissa = UINT64_C(1) << 63;
        }
        return 0;
    }
    const long double m = frexpl(v, &e); /* 0.5 <= |m| < 1 */
    int exponent = e + 16382;
    int keep = (int)bits;
    if (exponent < 1) { /* denormal: fewer bits */
        keep += exponent - 1;
        exponent = 0;
    }
    const long double scaled = ldexpl(m, keep);
    long double rounded = rintl(scaled);
    if (rounded != scaled) {
        sw |= X87_PE | (fabsl(rounded) > fabsl(scaled) ? X87_C1 : 0) | (exponent == 0 ? X87_UE : 0);
    }
    rounded = fabsl(rounded);
    if (rounded == ldexpl(1, keep)) {
        rounded /= 2;
        exponent++;
    }
    r->mantissa = (uint64_t)rounded << (64 - bits);
    if (exponent == 0 && r->mantissa >> 63) {
        exponent = 1;
    }
    if (exponent >= 0x7fff) {
        r->mantissa = UINT64_C(1) << 63;
        exponent = 0x7fff;
        sw |= X87_OE | X87_PE;
    }
    r->sign_exponent |= (uint16_t)exponent;
    return sw;
}

/* Any NaN among the operands decides: the larger significand, made quiet. False: none. */
static bool propagate(const X86Fpr *a, const X86Fpr *b, X86Fpr *r, uint16_t *sw)
{
    const Class x = classify(a), y = classify(b);
    const bool a_nan = x == QUIET_NAN || x == SIGNALLING_NAN;
    const bool b_nan = y == QUIET_NAN || y == SIGNALLING_NAN;
    if (x == UNSUPPORTED || y == UNSUPPORTED) {
        *sw |= X87_IE;
        *r = indefinite;
        return true;
    }
    if (!a_nan && !b_nan) {
        return false;
    }
    if (x == SIGNALLING_NAN || y == SIGNALLING_NAN) {
        *sw |= X87_IE;
    }
    const uint64_t quiet = UINT64_C(1) << 62;
    const uint64_t am = a->mantissa, bm = b->mantissa;
    const bool take_a = a_nan && (!b_nan || am > bm || (am == bm && !negative(a)));
    *r = take_a ? *a : *b;
    r->mantissa |= quiet;
    return true;
}

static uint16_t host_flags(void)
{
    return (fetestexcept(FE_INVALID) ? X87_IE : 0) | (fetestexcept(FE_DIVBYZERO) ? X87_ZE : 0);
}

/* float or double in memory as an extended number; DE as a load would say. */
static uint16_t widen(X87Form form, const void *mem, X86Fpr *r)
{
    uint64_t v = 0;
    const bool single = form == X87_F32;
    const unsigned bits = single ? 23 : 52, bias = single ? 127 : 1023;
    memcpy(&v, mem, single ? 4 : 8);
    const unsigned all = bias * 2 + 1;
    const unsigned exponent = (unsigned)(v >> bits) & all;
    uint64_t fraction = v << (63 - bits) & ~(UINT64_C(1) << 63);
    *r = (X86Fpr){ .sign_exponent = v >> (single ? 31 : 63) & 1 ? 0x8000 : 0 };
    if (exponent == all) {
        r->sign_exponent |= 0x7fff;
        r->mantissa = UINT64_C(1) << 63 | fraction;
    } else if (exponent) {
        r->sign_exponent |= (uint16_t)(exponent - bias + 16383);
        r->mantissa = UINT64_C(1) << 63 | fraction;
    } else if (fraction) {
        const unsigned shift = (unsigned)__builtin_clzll(fraction);
        r->mantissa = fraction << shift;
        r->sign_exponent |= (uint16_t)(1 - bias + 16383 - shift);
        return X87_DE;
    }
    return 0;
}

/* ---- fpu-kernel.h ---- */

static uint16_t operand(X87Form form, const void *b, X86Fpr *wide)
{
    if (form == X87_REG) {
        *wide = *(const X86Fpr *)b;
        return classify(wide) == DENORMAL ? X87_DE : 0;
    }
    return widen(form, b, wide);
}

uint16_t x87_k_arith(X87Arith op, X87Form form, X86Fpr *r, const X86Fpr *a, const void *b,
                     uint16_t cw)
{
    X86Fpr wide;
    uint16_t sw = 0;
    const uint16_t denormal = operand(form, b, &wide) | (classify(a) == DENORMAL ? X87_DE : 0);
    if (propagate(a, &wide, r, &sw)) {
        return sw;
    }
    const bool reversed = op == X87_SUBR || op == X87_DIVR;
    const long double x = to_host(reversed ? &wide : a), y = to_host(reversed ? a : &wide);
    volatile long double v;
    set_rounding(cw);
    switch (op) {
    case X87_ADD:
        v = x + y;
        break;
    case X87_MUL:
        v = x * y;
        break;
    case X87_SUB:
    case X87_SUBR:
        v = x - y;
        break;
    default:
        v = x / y;
        break;
    }
    sw = host_flags();
    const bool inexact = fetestexcept(FE_INEXACT);
    const uint16_t rounding = from_host(v, precision(cw), r);
    if (!(sw & (X87_IE | X87_ZE))) {
        sw |= denormal | rounding | (inexact ? X87_PE : 0);
        sw |= (fetestexcept(FE_OVERFLOW) ? X87_OE : 0) | (fetestexcept(FE_UNDERFLOW) ? X87_UE : 0);
    }
    fesetround(FE_TONEAREST);
    return sw;
}

uint16_t x87_k_compare(bool quiet, X87Form form, const X86Fpr *a, const void *b, uint16_t cw)
{
    X86Fpr wide, ignored;
    uint16_t sw = 0;
    const uint16_t denormal = operand(form, b, &wide) | (classify(a) == DENORMAL ? X87_DE : 0);
    if (propagate(a, &wide, &ignored, &sw)) {
        return sw | (quiet ? 0 : X87_IE) | X87_C3 | X87_C2 | X87_C0;
    }
    const long double x = to_host(a), y = to_host(&wide);
    return denormal | (x > y ? 0 : x < y ? X87_C0 : X87_C3);
}

uint16_t x87_k_load(X87Form form, X86Fpr *r, const void *mem, uint16_t cw)
{
    uint16_t sw = widen(form, mem, r);
    if (classify(r) == SIGNALLING_NAN) {
        sw |= X87_IE;
        r->mantissa |= UINT64_C(1) << 62;
    }
    return sw;
}

static uint16_t store_integer(X87Form form, void *mem, const X86Fpr *a, uint16_t cw)
{
    const unsigned size = form == X87_I16 ? 2 : form == X87_I32 ? 4 : 8;
    const long double limit = ldexpl(1, (int)size * 8 - 1);
    int64_t v = INT64_MIN; /* its upper bytes are the indefinite of the shorter ones */
    uint16_t sw = X87_IE;
    const Class class = classify(a);
    if (class <= NORMAL) {
        set_rounding(cw);
        const long double x = to_host(a), rounded = rintl(x);
        fesetround(FE_TONEAREST);
        if (rounded >= -limit && rounded < limit) {
            v = (int64_t)rounded;
            sw = rounded != x ? X87_PE | (fabsl(rounded) > fabsl(x) ? X87_C1 : 0) : 0;
            memcpy(mem, &v, size);
            return sw;
        }
    }
    memcpy(mem, (const uint8_t *)&v + 8 - size, size);
    return sw;
}

uint16_t x87_k_store(X87Form form, void *mem, const X86Fpr *a, uint16_t cw)
{
    const bool single = form == X87_F32;
    const Class class = classify(a);
    if (form >= X87_I16) {
        return store_integer(form, mem, a, cw);
    }
    const unsigned bits = single ? 23 : 52;
    const uint64_t sign = (uint64_t)negative(a) << (single ? 31 : 63);
    const uint64_t all = single ? 0xff : 0x7ff;
    uint64_t v = sign | all << bits;
    uint16_t sw = 0;
    if (class == UNSUPPORTED) {
        sw = X87_IE;
        v = UINT64_C(1) << (single ? 31 : 63) | all << bits | UINT64_C(1) << (bits - 1);
    } else if (class >= QUIET_NAN) {
        sw = class == SIGNALLING_NAN ? X87_IE : 0;
        v |= UINT64_C(1) << (bits - 1) | (a->mantissa << 1 >> (64 - bits));
    } else if (class != INFINITE) {
        set_rounding(cw);
        const long double x = to_host(a);
        volatile long double back;
        if (single) {
            const volatile float f = (float)x;
            back = f;
            memcpy(&v, (const void *)&f, 4);
            v &= UINT32_MAX;
        } else {
            const volatile double f = (double)x;
            back = f;
            memcpy(&v, (const void *)&f, 8);
        }
        sw = (fetestexcept(FE_OVERFLOW) ? X87_OE : 0) | (fetestexcept(FE_UNDERFLOW) ? X87_UE : 0) |
             (back != x ? X87_PE : 0) | (fabsl(back) > fabsl(x) ? X87_C1 : 0);
        fesetround(FE_TONEAREST);
    }
    memcpy(mem, &v, single ? 4 : 8);
    return sw;
}

/* ---- the stack as a whole ---- */

/* Operands and results of an operation: ST(0) alone, ST(0) and ST(1); what is pushed or popped. */
typedef struct Shape {
    unsigned operands;
    bool pushes, pops;
} Shape;

static const Shape shapes[] = {
    [X87_FSQRT] = { 1 },
    [X87_FRNDINT] = { 1 },
    [X87_FSIN] = { 1 },
    [X87_FCOS] = { 1 },
    [X87_FSINCOS] = { 1, .pushes = true },
    [X87_FPTAN] = { 1, .pushes = true },
    [X87_FPATAN] = { 2, .pops = true },
    [X87_F2XM1] = { 1 },
    [X87_FYL2X] = { 2, .pops = true },
    [X87_FYL2XP1] = { 2, .pops = true },
    [X87_FPREM] = { 2 },
    [X87_FPREM1] = { 2 },
    [X87_FXTRACT] = { 1, .pushes = true },
    [X87_FSCALE] = { 2 },
    [X87_FBLD] = { 0, .pushes = true },
    [X87_FBSTP] = { 1, .pops = true },
};

static void put_st(X86Fpu *f, unsigned i, const X86Fpr *v)
{
    const unsigned n = (x87_top(f) + i) & 7;
    f->r[n] = *v;
    f->tag_valid |= (uint8_t)(1 << n);
}

static void drop_st(X86Fpu *f)
{
    f->tag_valid &= (uint8_t) ~(1 << x87_top(f));
    x87_set_top(f, x87_top(f) + 1);
}

static void load_bcd(const uint8_t bcd[10], X86Fpr *r)
{
    long double v = 0;
    for (unsigned i = 9; i-- > 0;) {
        v = v * 100 + (bcd[i] >> 4) * 10 + (bcd[i] & 15);
    }
    from_host(bcd[9] & 0x80 ? -v : v, 64, r);
}

static uint16_t store_bcd(const X86Fpr *a, uint16_t cw, uint8_t bcd[10])
{
    uint64_t v;
    const uint16_t sw = x87_k_store(X87_I64, &v, a, cw);
    const bool minus = negative(a);
    const uint64_t magnitude = minus ? -v : v;
    if (sw & X87_IE || magnitude > UINT64_C(999999999999999999)) {
        memcpy(bcd, "\0\0\0\0\0\0\0\xc0\xff\xff", 10);
        return X87_IE;
    }
    v = magnitude;
    for (unsigned i = 0; i < 9; i++, v /= 100) {
        bcd[i] = (uint8_t)((v % 100 / 10) << 4 | v % 10);
    }
    bcd[9] = minus ? 0x80 : 0;
    return sw;
}

/* The quotient's low bits go to C0, C3, C1 (SDM vol. 2, FPREM). */
static long double remainder_of(long double x, long double y, bool nearest, uint16_t *sw)
{
    const long double part = fmodl(fabsl(x), 8 * fabsl(y));
    const long double quotient = part / fabsl(y);
    const unsigned q = (unsigned)(nearest ? rintl(quotient) : floorl(quotient));
    *sw |= (q & 4 ? X87_C0 : 0) | (q & 2 ? X87_C3 : 0) | (q & 1 ? X87_C1 : 0);
    return nearest ? remainderl(x, y) : fmodl(x, y);
}

/* *r takes the place of ST(0), or of ST(1) if the operation pops; *pushed goes on top. */
static uint16_t compute(X87Stack op, const X86Fpr *a, const X86Fpr *b, uint16_t cw, X86Fpr *r,
                        X86Fpr *pushed)
{
    const long double x = to_host(a), y = b ? to_host(b) : 0;
    const bool angle = op == X87_FSIN || op == X87_FCOS || op == X87_FSINCOS || op == X87_FPTAN;
    volatile long double v = 0, top = 0;
    uint16_t sw = 0;
    int e;
    if (angle && fabsl(x) >= ldexpl(1, 63) && !isinf(x)) {
        return X87_C2; /* out of range: nothing done */
    }
    set_rounding(cw);
    switch (op) {
    case X87_FSQRT:
        v = sqrtl(x);
        break;
    case X87_FRNDINT:
        v = rintl(x);
        break;
    case X87_FSIN:
        v = sinl(x);
        break;
    case X87_FCOS:
        v = cosl(x);
        break;
    case X87_FSINCOS:
        v = sinl(x);
        top = cosl(x);
        break;
    case X87_FPTAN:
        v = tanl(x);
        top = 1;
        break;
    case X87_FPATAN:
        v = atan2l(y, x);
        break;
    case X87_F2XM1:
        v = expm1l(x * 0.693147180559945309417232121458176568L);
        break;
    case X87_FYL2X:
        v = y * log2l(x);
        break;
    case X87_FYL2XP1:
        v = y * (log1pl(x) / 0.693147180559945309417232121458176568L);
        break;
    case X87_FPREM:
    case X87_FPREM1:
        v = remainder_of(x, y, op == X87_FPREM1, &sw);
        break;
    case X87_FXTRACT:
        v = x == 0 ? -HUGE_VALL : isinf(x) ? HUGE_VALL : (long double)(ilogbl(x));
        top = x == 0 || isinf(x) ? x : frexpl(x, &e) * 2;
        sw |= x == 0 ? X87_ZE : 0;
        break;
    case X87_FSCALE:
        v = isinf(y) ? x * (y > 0 ? HUGE_VALL : 0)
                     : ldexpl(x, (int)(y > 70000    ? 70000
                                       : y < -70000 ? -70000
                                                    : truncl(y)));
        break;
    default:
        break;
    }
    sw |= host_flags();
    const bool inexact = fetestexcept(FE_INEXACT) && op != X87_FXTRACT;
    sw |= from_host(v, op == X87_FSQRT ? precision(cw) : 64, r) | (inexact ? X87_PE : 0);
    if (shapes[op].pushes) {
        from_host(top, 64, pushed);
    }
    fesetround(FE_TONEAREST);
    return sw;
}

void x87_k_stack(X87Stack op, X86Fpu *f, uint8_t bcd[10])
{
    const Shape *s = &shapes[op];
    X86Fpr r = indefinite, pushed = indefinite;
    uint16_t sw = 0;
    bool nothing = false;
    f->sw &= (uint16_t)~X87_C1;
    if ((s->operands > 0 && x87_empty(f, 0)) || (s->operands > 1 && x87_empty(f, 1))) {
        sw = X87_IE | X87_SF;
        if (op == X87_FBSTP) {
            memcpy(bcd, "\0\0\0\0\0\0\0\xc0\xff\xff", 10);
        }
    } else if (s->pushes && !x87_empty(f, 7)) {
        sw = X87_IE | X87_SF | X87_C1;
    } else if (op == X87_FBLD) {
        load_bcd(bcd, &pushed);
    } else if (op == X87_FBSTP) {
        sw = store_bcd(x87_st(f, 0), f->cw, bcd);
    } else {
        const X86Fpr *a = x87_st(f, 0);
        const X86Fpr *b = s->operands > 1 ? x87_st(f, 1) : NULL;
        if (propagate(a, b ? b : a, &r, &sw)) {
            pushed = r;
        } else {
            sw = compute(op, a, b, f->cw, &r, &pushed);
            nothing = sw & X87_C2;
            if (classify(a) == DENORMAL || (b && classify(b) == DENORMAL)) {
                sw |= X87_DE;
            }
        }
    }
    f->sw =
        (uint16_t)((f->sw & ~(op >= X87_FPREM && op <= X87_FPREM1 ? X87_CONDITION : X87_C2)) | sw);
    if (nothing || sw & ~f->cw & (X87_IE | X87_DE | X87_ZE)) {
        return;
    }
    if (s->pops) {
        drop_st(f);
    }
    if (op != X87_FBSTP && op != X87_FBLD) {
        put_st(f, 0, &r);
    }
    if (s->pushes) {
        x87_set_top(f, x87_top(f) - 1);
        put_st(f, 0, &pushed);
    }
}

#endif
