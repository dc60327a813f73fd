/*
 * SSE4.1: blends, extensions, insertions, rounding, dot products, tests. Integer operations through
 * SIMDe, so that hosts that have less can run them; rounding in integers, for the mode is data.
 */
#include "config.h"

#include <string.h>

#include <simde/x86/sse4.2.h>

#include "src/soft/sse-forms.h"

#define PS(v)  _mm_castsi128_ps(v)
#define PD(v)  _mm_castsi128_pd(v)
#define IPS(v) _mm_castps_si128(v)
#define IPD(v) _mm_castpd_si128(v)

/* ---- packed integers ---- */

SSE_INT(pmulld, simde_mm_mullo_epi32(d, s))
SSE_INT(pmuldq, simde_mm_mul_epi32(d, s))
SSE_INT(pminsb, simde_mm_min_epi8(d, s))
SSE_INT(pminsd, simde_mm_min_epi32(d, s))
SSE_INT(pminuw, simde_mm_min_epu16(d, s))
SSE_INT(pminud, simde_mm_min_epu32(d, s))
SSE_INT(pmaxsb, simde_mm_max_epi8(d, s))
SSE_INT(pmaxsd, simde_mm_max_epi32(d, s))
SSE_INT(pmaxuw, simde_mm_max_epu16(d, s))
SSE_INT(pmaxud, simde_mm_max_epu32(d, s))
SSE_INT(pcmpeqq, simde_mm_cmpeq_epi64(d, s))
SSE_INT(packusdw, simde_mm_packus_epi32(d, s))
SSE_INT(pcmpgtq, simde_mm_cmpgt_epi64(d, s)) /* SSE4.2 */

/* From a register, or 2, 4 or 8 bytes of memory. */
static __m128i part(X86Cpu *c, const X86Insn *in, unsigned size)
{
    if (!sse_is_mem(in)) {
        return sse_get(c, in->rm);
    }
    return sse_from64(x86_load(c, in, x86_ea(c, in, size, X86_READ), size));
}

#define EXTEND(name, size, intrinsic)                      \
    void op_##name(X86Cpu *c, const X86Insn *in)           \
    {                                                      \
        sse_set(c, in->reg, intrinsic(part(c, in, size))); \
    }
EXTEND(pmovsxbw, 8, simde_mm_cvtepi8_epi16)
EXTEND(pmovsxbd, 4, simde_mm_cvtepi8_epi32)
EXTEND(pmovsxbq, 2, simde_mm_cvtepi8_epi64)
EXTEND(pmovsxwd, 8, simde_mm_cvtepi16_epi32)
EXTEND(pmovsxwq, 4, simde_mm_cvtepi16_epi64)
EXTEND(pmovsxdq, 8, simde_mm_cvtepi32_epi64)
EXTEND(pmovzxbw, 8, simde_mm_cvtepu8_epi16)
EXTEND(pmovzxbd, 4, simde_mm_cvtepu8_epi32)
EXTEND(pmovzxbq, 2, simde_mm_cvtepu8_epi64)
EXTEND(pmovzxwd, 8, simde_mm_cvtepu16_epi32)
EXTEND(pmovzxwq, 4, simde_mm_cvtepu16_epi64)
EXTEND(pmovzxdq, 8, simde_mm_cvtepu32_epi64)

void op_phminposuw(X86Cpu *c, const X86Insn *in)
{
    X86Vec v, r = { 0 };
    unsigned least = 0;
    _mm_store_si128((__m128i *)&v, sse_rm128(c, in));
    for (unsigned i = 1; i < 8; i++) {
        least = v.u16[i] < v.u16[least] ? i : least;
    }
    r.u16[0] = v.u16[least];
    r.u16[1] = (uint16_t)least;
    sse_set(c, in->reg, _mm_load_si128((const __m128i *)&r));
}

/* Eight sums of four absolute differences, of blocks that imm8 chooses. */
void op_mpsadbw(X86Cpu *c, const X86Insn *in)
{
    X86Vec s, r = { 0 };
    _mm_store_si128((__m128i *)&s, sse_rm128(c, in));
    const uint8_t *block = s.u8 + (in->imm & 3) * 4;
    const uint8_t *window = c->xmm[in->reg].u8 + (in->imm >> 2 & 1) * 4;
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned k = 0; k < 4; k++) {
            const int difference = window[i + k] - block[k];
            r.u16[i] = (uint16_t)(r.u16[i] + (difference < 0 ? -difference : difference));
        }
    }
    sse_set(c, in->reg, _mm_load_si128((const __m128i *)&r));
}

void op_ptest(X86Cpu *c, const X86Insn *in)
{
    const __m128i s = sse_rm128(c, in), d = sse_get(c, in->reg);
    const __m128i zero = _mm_setzero_si128();
    const bool zf = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(s, d), zero)) == 0xffff;
    const bool cf = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_andnot_si128(d, s), zero)) == 0xffff;
    x86_set_status(c, (zf ? X86_ZF : 0) | (cf ? X86_CF : 0));
}

/* ---- blends ---- */

/* Elements of `size` bytes; bit i of `from` takes element i of the source. */
static void blend(X86Cpu *c, const X86Insn *in, unsigned size, unsigned from)
{
    X86Vec s;
    _mm_store_si128((__m128i *)&s, sse_rm128(c, in));
    for (unsigned i = 0; i < 16 / size; i++) {
        if (from >> i & 1) {
            memcpy(c->xmm[in->reg].u8 + i * size, s.u8 + i * size, size);
        }
    }
}

void op_pblendw(X86Cpu *c, const X86Insn *in)
{
    blend(c, in, 2, (unsigned)in->imm & 0xff);
}

void op_blendps(X86Cpu *c, const X86Insn *in)
{
    blend(c, in, 4, (unsigned)in->imm & 15);
}

void op_blendpd(X86Cpu *c, const X86Insn *in)
{
    blend(c, in, 8, (unsigned)in->imm & 3);
}

/* By the sign bits of XMM0. */
void op_pblendvb(X86Cpu *c, const X86Insn *in)
{
    blend(c, in, 1, (unsigned)_mm_movemask_epi8(sse_get(c, 0)));
}

void op_blendvps(X86Cpu *c, const X86Insn *in)
{
    blend(c, in, 4, (unsigned)_mm_movemask_ps(PS(sse_get(c, 0))));
}

void op_blendvpd(X86Cpu *c, const X86Insn *in)
{
    blend(c, in, 8, (unsigned)_mm_movemask_pd(PD(sse_get(c, 0))));
}

/* ---- elements in and out ---- */

static void insert(X86Cpu *c, const X86Insn *in, unsigned size)
{
    const uint64_t v = sse_is_mem(in) ? x86_load(c, in, x86_ea(c, in, size, X86_READ), size)
                                      : X86_REG64(c, in->rm);
    memcpy(c->xmm[in->reg].u8 + (in->imm & (16 / size - 1)) * size, &v, size);
}

static void extract(X86Cpu *c, const X86Insn *in, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, c->xmm[in->reg].u8 + (in->imm & (16 / size - 1)) * size, size);
    if (sse_is_mem(in)) {
        x86_store(c, in, x86_ea(c, in, size, X86_WRITE), size, v);
    } else {
        X86_REG64(c, in->rm) = v;
    }
}

void op_pinsrb(X86Cpu *c, const X86Insn *in)
{
    insert(c, in, 1);
}

void op_pinsrd(X86Cpu *c, const X86Insn *in)
{
    insert(c, in, in->pfx & X86_PFX_REXW ? 8 : 4);
}

void op_pextrb(X86Cpu *c, const X86Insn *in)
{
    extract(c, in, 1);
}

/* PEXTRD, PEXTRQ, EXTRACTPS */
void op_pextrd(X86Cpu *c, const X86Insn *in)
{
    extract(c, in, in->opcode == 0x16 && in->pfx & X86_PFX_REXW ? 8 : 4);
}

void op_insertps(X86Cpu *c, const X86Insn *in)
{
    const unsigned imm = (unsigned)in->imm;
    const uint32_t v = sse_is_mem(in) ? sse_load32(c, in) : c->xmm[in->rm].u32[imm >> 6 & 3];
    X86Vec *d = &c->xmm[in->reg];
    d->u32[imm >> 4 & 3] = v;
    for (unsigned i = 0; i < 4; i++) {
        d->u32[i] = imm >> i & 1 ? 0 : d->u32[i];
    }
}

void op_movntdqa(X86Cpu *c, const X86Insn *in)
{
    sse_set(c, in->reg, sse_load_aligned(c, in));
}

/* ---- rounding ---- */

/* Makes the host raise what the low bits of s name: so the flags go the way of all others. */
static __m128i raise_flags(__m128i d, __m128i s)
{
    const uint64_t flags = sse_low64(s);
    volatile float a, b;
    uint32_t signalling = 0x7f800001;
    float nan;
    memcpy(&nan, &signalling, 4);
    if (flags & X87_IE) {
        a = nan;
        b = a + a;
    }
    if (flags & X87_PE) {
        a = 1;
        b = a + 0x1p-60f;
    }
    (void)b;
    return d;
}

/* To an integer in the format itself; mode as MXCSR.RC; *flags: IE, PE. */
static uint64_t round_element(uint64_t v, unsigned fraction_bits, unsigned exponent_bits,
                              unsigned mode, bool daz, uint32_t *flags)
{
    const unsigned all = (1u << exponent_bits) - 1, bias = all >> 1;
    const uint64_t sign = v & UINT64_C(1) << (fraction_bits + exponent_bits);
    const unsigned exponent = (unsigned)(v >> fraction_bits) & all;
    const uint64_t fraction = v & ((UINT64_C(1) << fraction_bits) - 1);
    if (exponent == all) {
        const uint64_t quiet = UINT64_C(1) << (fraction_bits - 1);
        *flags |= fraction && !(v & quiet) ? X87_IE : 0;
        return fraction ? v | quiet : v;
    }
    if (exponent == 0 && (fraction == 0 || daz)) {
        return sign;
    }
    if (exponent >= bias + fraction_bits) {
        return v;
    }
    const bool up = mode == 2 ? !sign : mode == 1 ? sign != 0 : false; /* away from zero */
    const uint64_t magnitude = v & ~sign;
    const uint64_t one = (uint64_t)bias << fraction_bits;
    if (exponent < bias) { /* below 1 */
        const uint64_t half = one - (UINT64_C(1) << fraction_bits);
        *flags |= X87_PE;
        return sign | (up || (mode == 0 && magnitude > half) ? one : 0);
    }
    const uint64_t unit = UINT64_C(1) << (fraction_bits - (exponent - bias)); /* of value 1 */
    const uint64_t rest = magnitude & (unit - 1);
    uint64_t whole = magnitude - rest;
    if (rest == 0) {
        return v;
    }
    *flags |= X87_PE;
    const bool odd = whole & unit || unit >> fraction_bits; /* exponent 0: the hidden bit */
    if (mode == 0 ? rest > unit / 2 || (rest == unit / 2 && odd) : up) {
        whole += unit; /* a carry goes into the exponent */
    }
    return sign | whole;
}

static void round_to_integer(X86Cpu *c, const X86Insn *in, __m128i source, unsigned size,
                             unsigned n)
{
    const unsigned imm = (unsigned)in->imm;
    const unsigned mode = imm & 4 ? c->fpu.mxcsr >> 13 & 3 : imm & 3;
    const bool daz = c->fpu.mxcsr & MXCSR_DAZ;
    uint32_t flags = 0;
    X86Vec s, r = c->xmm[in->reg];
    _mm_store_si128((__m128i *)&s, source);
    for (unsigned i = 0; i < n; i++) {
        if (size == 4) {
            r.u32[i] = (uint32_t)round_element(s.u32[i], 23, 8, mode, daz, &flags);
        } else {
            r.u64[i] = round_element(s.u64[i], 52, 11, mode, daz, &flags);
        }
    }
    if (imm & 8) {
        flags &= ~(uint32_t)X87_PE;
    }
    if (flags) {
        sse_run(c, in, raise_flags, source, sse_from32(flags), 0);
    }
    c->xmm[in->reg] = r;
}

void op_roundps(X86Cpu *c, const X86Insn *in)
{
    round_to_integer(c, in, sse_rm128(c, in), 4, 4);
}

void op_roundpd(X86Cpu *c, const X86Insn *in)
{
    round_to_integer(c, in, sse_rm128(c, in), 8, 2);
}

void op_roundss(X86Cpu *c, const X86Insn *in)
{
    round_to_integer(c, in, sse_rm32(c, in), 4, 1);
}

void op_roundsd(X86Cpu *c, const X86Insn *in)
{
    round_to_integer(c, in, sse_rm64(c, in), 8, 1);
}

/* ---- dot products: products, then sums of pairs, each with its exceptions ---- */

#ifdef __x86_64__
#define STEP(name, instruction, portable)                  \
    static __m128i name(__m128i d, __m128i s)              \
    {                                                      \
        __asm__(instruction " %1, %0" : "+x"(d) : "x"(s)); \
        return d;                                          \
    }
#else
#define STEP(name, instruction, portable)     \
    static __m128i name(__m128i d, __m128i s) \
    {                                         \
        return portable;                      \
    }
#endif
STEP(mul_ps, "mulps", IPS(_mm_mul_ps(PS(d), PS(s))))
STEP(mul_pd, "mulpd", IPD(_mm_mul_pd(PD(d), PD(s))))
STEP(add_ps, "addps", IPS(_mm_add_ps(PS(d), PS(s))))
STEP(add_pd, "addpd", IPD(_mm_add_pd(PD(d), PD(s))))

static __m128i mask32(unsigned bits)
{
    return _mm_setr_epi32(-(int)(bits & 1), -(int)(bits >> 1 & 1), -(int)(bits >> 2 & 1),
                          -(int)(bits >> 3 & 1));
}

static __m128i mask64(unsigned bits)
{
    return mask32((bits & 1) * 3 | (bits >> 1 & 1) * 12);
}

void op_dpps(X86Cpu *c, const X86Insn *in)
{
    const unsigned imm = (unsigned)in->imm;
    const __m128i which = mask32(imm >> 4 & 15);
    __m128i s = _mm_and_si128(sse_rm128(c, in), which);
    s = sse_run(c, in, mul_ps, _mm_and_si128(sse_get(c, in->reg), which), s, SSE_PRODUCT | 4);
    s = _mm_and_si128(s, which);
    /* Each element has its own order, which shows if there are several NaNs. */
    s = sse_run(c, in, add_ps, _mm_shuffle_epi32(s, 0xb1), s, 4);
    s = sse_run(c, in, add_ps, s, _mm_shuffle_epi32(s, 0x4e), 4);
    sse_set(c, in->reg, _mm_and_si128(s, mask32(imm & 15)));
}

void op_dppd(X86Cpu *c, const X86Insn *in)
{
    const unsigned imm = (unsigned)in->imm;
    const __m128i which = mask64(imm >> 4 & 3);
    __m128i s = _mm_and_si128(sse_rm128(c, in), which);
    s = sse_run(c, in, mul_pd, _mm_and_si128(sse_get(c, in->reg), which), s, SSE_PRODUCT | 8);
    s = _mm_and_si128(s, which);
    s = sse_run(c, in, add_pd, s, _mm_shuffle_epi32(s, 0x4e), 8);
    sse_set(c, in->reg, _mm_and_si128(s, mask64(imm & 3)));
}
