/*
 * SSE3 and SSSE3. Hosts that have less than the guest's model run these as well:
 * SIMDe computes them from what the host has.
 */
#include "config.h"

#include <string.h>

#include <simde/x86/ssse3.h>

#include "src/soft/sse-forms.h"

#define PS(v)  _mm_castsi128_ps(v)
#define PD(v)  _mm_castsi128_pd(v)
#define IPS(v) _mm_castps_si128(v)
#define IPD(v) _mm_castpd_si128(v)

/* ---- SSE3 ---- */

/* An addition and a subtraction by the host's own instructions, operands in their order. */
#ifdef __x86_64__
#define HOST(name, instruction, portable)                  \
    static __m128i name(__m128i d, __m128i s)              \
    {                                                      \
        __asm__(instruction " %1, %0" : "+x"(d) : "x"(s)); \
        return d;                                          \
    }
#else
#define HOST(name, instruction, portable)     \
    static __m128i name(__m128i d, __m128i s) \
    {                                         \
        return portable;                      \
    }
#endif
HOST(add_ps, "addps", IPS(_mm_add_ps(PS(d), PS(s))))
HOST(sub_ps, "subps", IPS(_mm_sub_ps(PS(d), PS(s))))
HOST(add_pd, "addpd", IPD(_mm_add_pd(PD(d), PD(s))))
HOST(sub_pd, "subpd", IPD(_mm_sub_pd(PD(d), PD(s))))

/* Elements 0 and 2 (1 and 3) of both, which a horizontal operation combines. */
static inline __m128i evens_ps(__m128i d, __m128i s)
{
    return IPS(_mm_shuffle_ps(PS(d), PS(s), 0x88));
}

static inline __m128i odds_ps(__m128i d, __m128i s)
{
    return IPS(_mm_shuffle_ps(PS(d), PS(s), 0xdd));
}

/* Operands are brought side by side first, so that it is one addition or subtraction of each pair
 * and its exceptions are those of sse_run(). */
#define HORIZONTAL_FP(name, kernel, first, second, lane)                              \
    void op_##name(X86Cpu *c, const X86Insn *in)                                      \
    {                                                                                 \
        const __m128i s = sse_rm128(c, in);                                           \
        const __m128i d = sse_get(c, in->reg);                                        \
        sse_set(c, in->reg, sse_run(c, in, kernel, first(d, s), second(d, s), lane)); \
    }
HORIZONTAL_FP(haddps, add_ps, evens_ps, odds_ps, 4)
HORIZONTAL_FP(hsubps, sub_ps, evens_ps, odds_ps, 4)
HORIZONTAL_FP(haddpd, add_pd, _mm_unpacklo_epi64, _mm_unpackhi_epi64, 8)
HORIZONTAL_FP(hsubpd, sub_pd, _mm_unpacklo_epi64, _mm_unpackhi_epi64, 8)

/* The even elements are subtracted: added with the other sign, which only a NaN must keep. */
void op_addsubps(X86Cpu *c, const X86Insn *in)
{
    X86Vec v;
    _mm_store_si128((__m128i *)&v, sse_rm128(c, in));
    for (unsigned i = 0; i < 4; i += 2) {
        v.u32[i] ^= (v.u32[i] & INT32_MAX) > 0x7f800000 ? 0 : UINT32_C(1) << 31;
    }
    const __m128i s = _mm_load_si128((const __m128i *)&v);
    sse_set(c, in->reg, sse_run(c, in, add_ps, sse_get(c, in->reg), s, 4));
}

void op_addsubpd(X86Cpu *c, const X86Insn *in)
{
    X86Vec v;
    _mm_store_si128((__m128i *)&v, sse_rm128(c, in));
    v.u64[0] ^= (v.u64[0] & INT64_MAX) > UINT64_C(0x7ff0000000000000) ? 0 : UINT64_C(1) << 63;
    const __m128i s = _mm_load_si128((const __m128i *)&v);
    sse_set(c, in->reg, sse_run(c, in, add_pd, sse_get(c, in->reg), s, 8));
}

#define UNARY(name, expr)                        \
    void op_##name(X86Cpu *c, const X86Insn *in) \
    {                                            \
        const __m128i s = sse_rm128(c, in);      \
        sse_set(c, in->reg, (expr));             \
    }
UNARY(movshdup, _mm_shuffle_epi32(s, 0xf5))
UNARY(movsldup, _mm_shuffle_epi32(s, 0xa0))

void op_movddup(X86Cpu *c, const X86Insn *in)
{
    const __m128i s = sse_rm64(c, in);
    sse_set(c, in->reg, _mm_unpacklo_epi64(s, s));
}

void op_lddqu(X86Cpu *c, const X86Insn *in)
{
    sse_set(c, in->reg, sse_load_unaligned(c, in));
}

/* ---- SSSE3 ---- */

/* v with the sign of s where that is negative; all ones are -1, so that v ^ -1 - -1 is -v. */
#define NEGATE(bits, v, s)                                                           \
    _mm_sub_epi##bits(_mm_xor_si128(v, _mm_cmpgt_epi##bits(_mm_setzero_si128(), s)), \
                      _mm_cmpgt_epi##bits(_mm_setzero_si128(), s))
#define SIGN(bits) _mm_andnot_si128(_mm_cmpeq_epi##bits(s, _mm_setzero_si128()), NEGATE(bits, d, s))
BOTH(pabsb, ((void)d, NEGATE(8, s, s)))
BOTH(pabsw, ((void)d, NEGATE(16, s, s)))
BOTH(pabsd, ((void)d, NEGATE(32, s, s)))
BOTH(psignb, SIGN(8))
BOTH(psignw, SIGN(16))
BOTH(psignd, SIGN(32))
BOTH(pmaddubsw, simde_mm_maddubs_epi16(d, s))
BOTH(pmulhrsw, simde_mm_mulhrs_epi16(d, s))
BOTH2(pshufb, simde_mm_shuffle_epi8(d, s),
      simde_mm_shuffle_epi8(d, _mm_and_si128(s, _mm_set1_epi8((char)0x87))))

/* MMX: both sources side by side in one vector, the results in its low half. */
#define HORIZONTAL(name, f) \
    BOTH2(name, f(d, s), f(_mm_unpacklo_epi64(d, s), _mm_unpacklo_epi64(d, s)))
HORIZONTAL(phaddw, simde_mm_hadd_epi16)
HORIZONTAL(phaddd, simde_mm_hadd_epi32)
HORIZONTAL(phaddsw, simde_mm_hadds_epi16)
HORIZONTAL(phsubw, simde_mm_hsub_epi16)
HORIZONTAL(phsubd, simde_mm_hsub_epi32)
HORIZONTAL(phsubsw, simde_mm_hsubs_epi16)

void op_palignr(X86Cpu *c, const X86Insn *in)
{
    const unsigned size = in->pfx & X86_PFX_OPSIZE ? 16 : 8;
    const unsigned shift = MIN((unsigned)in->imm & 0xff, size * 2);
    uint8_t both[64] = { 0 };
    if (size == 16) {
        _mm_storeu_si128((__m128i *)(void *)both, sse_rm128(c, in));
        memcpy(both + 16, &c->xmm[in->reg], 16);
        memcpy(&c->xmm[in->reg], both + shift, 16);
    } else {
        mmx_check(c, in);
        uint64_t v = mmx_rm(c, in);
        memcpy(both, &v, 8);
        v = mmx_get(c, in->reg);
        memcpy(both + 8, &v, 8);
        memcpy(&v, both + shift, 8);
        mmx_commit(c);
        mmx_set(c, in->reg, v);
    }
}
