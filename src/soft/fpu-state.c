/*
 * The FPU's state as a whole: reset, the host's floating-point environment while a VP runs, MXCSR,
 * FXSAVE and FXRSTOR. VP's thread, or any while it does not run.
 */
#include "config.h"

#include <fenv.h>
#include <string.h>

#include "src/soft/fpu.h"
#include "src/soft/opcodes.h"
#include "src/soft/sse.h"

/* ---- the host's MXCSR ---- */

#ifdef __x86_64__
static inline uint32_t host_mxcsr(void)
{
    return _mm_getcsr();
}

static inline void set_host_mxcsr(uint32_t v)
{
    _mm_setcsr(v);
}
#else
/* Without an MXCSR: rounding and flags of <fenv.h>; DAZ, FTZ and the denormal flag do not exist. */
static uint32_t host_mxcsr(void)
{
    const int e = fetestexcept(FE_ALL_EXCEPT);
    return (e & FE_INVALID ? X87_IE : 0) | (e & FE_DIVBYZERO ? X87_ZE : 0) |
           (e & FE_OVERFLOW ? X87_OE : 0) | (e & FE_UNDERFLOW ? X87_UE : 0) |
           (e & FE_INEXACT ? X87_PE : 0);
}

static void set_host_mxcsr(uint32_t v)
{
    static const int rounding[4] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
    fesetround(rounding[v >> 13 & 3]);
    feclearexcept(FE_ALL_EXCEPT); /* nobody sets flags in the host by this way */
}
#endif

/* Control bits of the guest, all exceptions masked, no flags. */
static uint32_t masked(uint32_t mxcsr)
{
    return (mxcsr & ~(uint32_t)X87_EXCEPTIONS) | X87_EXCEPTIONS << MXCSR_MASK_SHIFT;
}

void x86_mxcsr_fold(X86Cpu *c)
{
    if (c->fpu.on_host) {
        c->fpu.mxcsr |= host_mxcsr() & X87_EXCEPTIONS;
    }
}

void x86_mxcsr_set(X86Cpu *c, uint32_t value)
{
    c->fpu.mxcsr = value;
    c->fpu.checked = ~value >> MXCSR_MASK_SHIFT & X87_EXCEPTIONS;
    if (c->fpu.on_host) {
        set_host_mxcsr(masked(value));
    }
}

void x86_fpu_enter(X86Cpu *c)
{
    c->fpu.on_host = true;
    set_host_mxcsr(masked(c->fpu.mxcsr));
}

void x86_fpu_leave(X86Cpu *c)
{
    x86_mxcsr_fold(c);
    c->fpu.on_host = false;
    set_host_mxcsr(MXCSR_INIT);
}

void x86_fpu_reset(X86Cpu *c)
{
    const bool on_host = c->fpu.on_host;
    c->fpu = (X86Fpu){ .cw = 0x0040, .on_host = on_host }; /* SDM vol. 3, table 9-1 */
    c->fpu.tag_valid = 0xff;
    memset(c->xmm, 0, sizeof(c->xmm));
    x86_mxcsr_set(c, MXCSR_INIT);
}

/* ---- exceptions ---- */

void x87_pending(X86Cpu *c, const X86Insn *in)
{
    if (c->cr0 & X86_CR0_NE) {
        x86_raise(c, in, X86_MF, -1);
    }
}

void sse_misaligned(X86Cpu *c, const X86Insn *in, uint64_t lin)
{
    x86_raise_gp(c, in, 0);
}

/* A number brought to where its operation cannot over- or underflow: the significand with exponent
 * 0, or (an addition) everything less by `less`. Zeroes, infinities and NaNs stay. */
static uint64_t scale_element(uint64_t v, unsigned fraction_bits, unsigned exponent_bits,
                              unsigned less, bool daz)
{
    const uint64_t top = UINT64_C(1) << fraction_bits;
    const unsigned all = (1u << exponent_bits) - 1;
    const uint64_t sign = v & UINT64_C(1) << (fraction_bits + exponent_bits);
    unsigned exponent = (unsigned)(v >> fraction_bits) & all;
    uint64_t fraction = v & (top - 1);
    if (exponent == all || (exponent == 0 && (fraction == 0 || daz))) {
        return v;
    }
    if (less) {
        exponent = exponent > less ? exponent - less : 1;
    } else {
        while (exponent == 0 && !(fraction & top)) { /* a denormal */
            fraction <<= 1;
        }
        exponent = all >> 1;
    }
    return sign | (uint64_t)exponent << fraction_bits | (fraction & (top - 1));
}

static __m128i scale(__m128i v, unsigned lane, unsigned less, bool daz)
{
    X86Vec x;
    _mm_store_si128((__m128i *)&x, v);
    for (unsigned i = 0; i < 4; i++) {
        if (lane == 4) {
            x.u32[i] = (uint32_t)scale_element(x.u32[i], 23, 8, less, daz);
        } else if (i < 2) {
            x.u64[i] = scale_element(x.u64[i], 52, 11, less, daz);
        }
    }
    return _mm_load_si128((const __m128i *)&x);
}

/* Whether the result would be inexact with an exponent of any size (SDM vol. 1, 4.9.1.4 and
 * 4.9.1.5). A sum that is tiny is always exact. */
static uint32_t unbounded_precision(const X86Insn *in, SseKernel *kernel, __m128i dst, __m128i src,
                                    uint32_t control, uint32_t flags, unsigned lane)
{
    const bool sum =
        in->opcode != 0x59 && in->opcode != 0x5e && in->opcode != 0x5a && !(lane & SSE_PRODUCT);
    const bool daz = control & MXCSR_DAZ;
    if (sum && !(flags & X87_OE)) {
        return 0;
    }
    set_host_mxcsr(control);
    const unsigned size = lane & 15;
    kernel(scale(dst, size, sum ? 64 : 0, daz), scale(src, size, sum ? 64 : 0, daz));
    return host_mxcsr() & X87_PE;
}

/*
 * Flags of one operation; `enabled`: the exceptions that the guest unmasked. With underflow unmasked
 * a tiny result counts even if it is exact, which the host says under FTZ.
 */
static uint32_t operation_flags(const X86Insn *in, SseKernel *kernel, __m128i dst, __m128i src,
                                uint32_t control, uint32_t enabled, unsigned lane, __m128i *result)
{
    uint32_t flags;
    set_host_mxcsr(control);
    *result = kernel(dst, src);
    flags = host_mxcsr() & X87_EXCEPTIONS;
    if (enabled & X87_UE && !(flags & X87_UE)) {
        set_host_mxcsr(control | MXCSR_FTZ);
        kernel(dst, src);
        flags |= host_mxcsr() & X87_UE;
    }
    if (lane && flags & enabled & (X87_OE | X87_UE)) {
        flags = (flags & ~(uint32_t)X87_PE) |
                unbounded_precision(in, kernel, dst, src, control, flags, lane);
    }
    return flags;
}

/* The element at byte `at` in every place. */
static __m128i splat(__m128i v, unsigned lane, unsigned at)
{
    X86Vec x;
    _mm_store_si128((__m128i *)&x, v);
    return lane == 4 ? _mm_set1_epi32(x.i32[at / 4]) : _mm_set1_epi64x(x.i64[at / 8]);
}

/*
 * The flags of this operation alone decide (SDM vol. 1, 11.5.2 and 11.5.4): the exceptions seen
 * before the computation (invalid, denormal, divide by zero) in any element hide those after it if
 * one of them is unmasked.
 */
__m128i sse_checked(X86Cpu *c, const X86Insn *in, SseKernel *kernel, __m128i dst, __m128i src,
                    unsigned lane)
{
    const uint32_t pre = X87_IE | X87_DE | X87_ZE;
    uint32_t flags, unmasked;
    __m128i result, ignored;
    x86_mxcsr_fold(c);
    const uint32_t enabled = ~c->fpu.mxcsr >> MXCSR_MASK_SHIFT & X87_EXCEPTIONS;
    uint32_t control = masked(c->fpu.mxcsr);
    if (enabled & X87_UE) {
        control &= ~MXCSR_FTZ; /* counts only while underflow is masked */
    }
    flags = operation_flags(in, kernel, dst, src, control, enabled, lane, &result);
    if (lane && !(lane & SSE_SCALAR) && flags & enabled & (X87_OE | X87_UE)) {
        flags = 0; /* element by element */
        const unsigned size = lane & 15;
        for (unsigned at = 0; at < 16; at += size) {
            flags |= operation_flags(in, kernel, splat(dst, size, at), splat(src, size, at),
                                     control, enabled, lane, &ignored);
        }
    }
    unmasked = flags & enabled;
    if (unmasked & pre) {
        flags &= pre;
    }
    c->fpu.mxcsr |= flags;
    set_host_mxcsr(masked(c->fpu.mxcsr));
    if (unmasked) {
        if (c->cr4 & X86_CR4_OSXMMEXCPT) {
            x86_raise(c, in, X86_XM, -1);
        }
        x86_raise_ud(c, in);
    }
    return result;
}

/* ---- MXCSR ---- */

void op_ldmxcsr(X86Cpu *c, const X86Insn *in)
{
    const uint32_t v = sse_load32(c, in);
    if (v & ~MXCSR_WRITABLE) {
        x86_raise_gp(c, in, 0);
    }
    x86_mxcsr_set(c, v);
}

void op_stmxcsr(X86Cpu *c, const X86Insn *in)
{
    x86_mxcsr_fold(c);
    x86_store32(c, in, x86_ea(c, in, 4, X86_WRITE), c->fpu.mxcsr);
}

/* ---- FXSAVE (SDM vol. 1, 10.5) ---- */

static void put(uint8_t *p, uint64_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        p[i] = (uint8_t)(v >> i * 8);
    }
}

static uint64_t get(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++) {
        v |= (uint64_t)p[i] << i * 8;
    }
    return v;
}

/* Bytes 416 to 511 are left as they are: they belong to software, or are reserved. */
void x86_fxsave_image(X86Cpu *c, uint8_t image[512], bool rex_w, unsigned xmm)
{
    const X86Fpu *f = &c->fpu;
    x86_mxcsr_fold(c);
    put(image, f->cw, 2);
    put(image + 2, f->sw, 2);
    put(image + 4, f->tag_valid, 2);
    put(image + 6, f->fop, 2);
    if (rex_w) {
        put(image + 8, f->fip, 8);
        put(image + 16, f->fdp, 8);
    } else {
        put(image + 8, f->fip, 4);
        put(image + 12, f->fcs, 4);
        put(image + 16, f->fdp, 4);
        put(image + 20, f->fds, 4);
    }
    put(image + 24, f->mxcsr, 4);
    put(image + 28, MXCSR_WRITABLE, 4);
    for (unsigned i = 0; i < 8; i++) {
        const X86Fpr *r = &f->r[(x87_top(f) + i) & 7];
        put(image + 32 + i * 16, r->mantissa, 8);
        put(image + 40 + i * 16, r->sign_exponent, 8);
    }
    for (unsigned i = 0; i < xmm; i++) {
        memcpy(image + 160 + i * 16, &c->xmm[i], 16);
    }
}

void x86_fxrstor_image(X86Cpu *c, const uint8_t image[512], bool rex_w, bool sse, unsigned xmm)
{
    X86Fpu *f = &c->fpu;
    f->cw = (uint16_t)((get(image, 2) & X87_CW_WRITABLE) | X87_CW_FIXED);
    f->sw = (uint16_t)get(image + 2, 2);
    f->tag_valid = image[4];
    f->fop = get(image + 6, 2) & 0x7ff;
    if (rex_w) {
        f->fip = get(image + 8, 8);
        f->fdp = get(image + 16, 8);
        f->fcs = f->fds = 0;
    } else {
        f->fip = get(image + 8, 4);
        f->fcs = (uint16_t)get(image + 12, 2);
        f->fdp = get(image + 16, 4);
        f->fds = (uint16_t)get(image + 20, 2);
    }
    for (unsigned i = 0; i < 8; i++) {
        X86Fpr *r = &f->r[(x87_top(f) + i) & 7];
        r->mantissa = get(image + 32 + i * 16, 8);
        r->sign_exponent = (uint16_t)get(image + 40 + i * 16, 2);
    }
    x87_update_es(f);
    if (sse) {
        x86_mxcsr_set(c, (uint32_t)get(image + 24, 4));
        for (unsigned i = 0; i < xmm; i++) {
            memcpy(&c->xmm[i], image + 160 + i * 16, 16);
        }
    }
}

/* XMM8 to XMM15 exist in 64-bit mode only. */
static unsigned n_xmm(const X86Cpu *c)
{
    return (c->mode & X86_MODE_SIZE) == X86_MODE_64 ? 16 : 8;
}

static uint64_t fxsave_address(X86Cpu *c, const X86Insn *in, X86Access access)
{
    const uint64_t lin = x86_ea(c, in, 512, access);
    const int64_t high = (int64_t)lin >> 47;
    if (lin & 15) {
        if (in->ea & X86_EA_SS && high != 0 && high != -1) { /* looked at before the alignment */
            x86_raise(c, in, X86_SS, 0);
        }
        sse_misaligned(c, in, lin);
    }
    return lin;
}

/* In 64-byte pieces, after a probe of the whole: a fault leaves nothing half done. */
static void load_area(X86Cpu *c, const X86Insn *in, uint64_t lin, uint8_t area[512])
{
    x86_probe(c, in, lin, 512, X86_READ);
    for (unsigned i = 0; i < 512; i += 64) {
        x86_load_bytes(c, in, lin + i, area + i, 64);
    }
}

static void store_area(X86Cpu *c, const X86Insn *in, uint64_t lin, const uint8_t *area, unsigned n)
{
    x86_probe(c, in, lin, n, X86_WRITE);
    for (unsigned i = 0; i < n; i += 32) {
        x86_store_bytes(c, in, lin + i, area + i, 32);
    }
}

void op_fxsave(X86Cpu *c, const X86Insn *in)
{
    uint8_t image[512] = { 0 };
    const uint64_t lin = fxsave_address(c, in, X86_WRITE);
    const bool sse = c->cr4 & X86_CR4_OSFXSR;
    const unsigned xmm = n_xmm(c);
    x86_fxsave_image(c, image, in->pfx & X86_PFX_REXW, xmm);
    /* Without CR4.OSFXSR the XMM registers stay out; MXCSR is written all the same. */
    store_area(c, in, lin, image, sse ? 160 + xmm * 16 : 160);
}

void op_fxrstor(X86Cpu *c, const X86Insn *in)
{
    uint8_t image[512];
    const bool sse = c->cr4 & X86_CR4_OSFXSR;
    load_area(c, in, fxsave_address(c, in, X86_READ), image);
    if (get(image + 24, 4) & ~(uint64_t)MXCSR_WRITABLE) {
        x86_raise_gp(c, in, 0);
    }
    x86_fxrstor_image(c, image, in->pfx & X86_PFX_REXW, sse, n_xmm(c));
}
