/*
 * SSE2 and MMX: packed integers. No exception but those of the operands. An MMX operation runs in
 * the low half of a vector, so that both forms of an instruction are one expression.
 */
#include "config.h"

#include <string.h>

#include "src/soft/sse-forms.h"

/* ---- arithmetic ---- */

BOTH(paddb, _mm_add_epi8(d, s))
BOTH(paddw, _mm_add_epi16(d, s))
BOTH(paddd, _mm_add_epi32(d, s))
BOTH(paddq, _mm_add_epi64(d, s))
BOTH(paddsb, _mm_adds_epi8(d, s))
BOTH(paddsw, _mm_adds_epi16(d, s))
BOTH(paddusb, _mm_adds_epu8(d, s))
BOTH(paddusw, _mm_adds_epu16(d, s))
BOTH(psubb, _mm_sub_epi8(d, s))
BOTH(psubw, _mm_sub_epi16(d, s))
BOTH(psubd, _mm_sub_epi32(d, s))
BOTH(psubq, _mm_sub_epi64(d, s))
BOTH(psubsb, _mm_subs_epi8(d, s))
BOTH(psubsw, _mm_subs_epi16(d, s))
BOTH(psubusb, _mm_subs_epu8(d, s))
BOTH(psubusw, _mm_subs_epu16(d, s))
BOTH(pmullw, _mm_mullo_epi16(d, s))
BOTH(pmulhw, _mm_mulhi_epi16(d, s))
BOTH(pmulhuw, _mm_mulhi_epu16(d, s))
BOTH(pmuludq, _mm_mul_epu32(d, s))
BOTH(pmaddwd, _mm_madd_epi16(d, s))
BOTH(psadbw, _mm_sad_epu8(d, s))
BOTH(pavgb, _mm_avg_epu8(d, s))
BOTH(pavgw, _mm_avg_epu16(d, s))
BOTH(pmaxub, _mm_max_epu8(d, s))
BOTH(pmaxsw, _mm_max_epi16(d, s))
BOTH(pminub, _mm_min_epu8(d, s))
BOTH(pminsw, _mm_min_epi16(d, s))

/* ---- logic and comparison ---- */

BOTH(pand, _mm_and_si128(d, s))
BOTH(pandn, _mm_andnot_si128(d, s))
BOTH(por, _mm_or_si128(d, s))
BOTH(pxor, _mm_xor_si128(d, s))
BOTH(pcmpeqb, _mm_cmpeq_epi8(d, s))
BOTH(pcmpeqw, _mm_cmpeq_epi16(d, s))
BOTH(pcmpeqd, _mm_cmpeq_epi32(d, s))
BOTH(pcmpgtb, _mm_cmpgt_epi8(d, s))
BOTH(pcmpgtw, _mm_cmpgt_epi16(d, s))
BOTH(pcmpgtd, _mm_cmpgt_epi32(d, s))

/* ANDPS and the like: no MMX form, so no prefix to ask. */
SSE_INT(pand_fp, _mm_and_si128(d, s))
SSE_INT(pandn_fp, _mm_andnot_si128(d, s))
SSE_INT(por_fp, _mm_or_si128(d, s))
SSE_INT(pxor_fp, _mm_xor_si128(d, s))

/* ---- packing and interleaving ---- */

BOTH2(packsswb, _mm_packs_epi16(d, s), _mm_packs_epi16(_mm_unpacklo_epi64(d, s), s))
BOTH2(packssdw, _mm_packs_epi32(d, s), _mm_packs_epi32(_mm_unpacklo_epi64(d, s), s))
BOTH2(packuswb, _mm_packus_epi16(d, s), _mm_packus_epi16(_mm_unpacklo_epi64(d, s), s))
BOTH2(punpckhbw, _mm_unpackhi_epi8(d, s), _mm_srli_si128(_mm_unpacklo_epi8(d, s), 8))
BOTH2(punpckhwd, _mm_unpackhi_epi16(d, s), _mm_srli_si128(_mm_unpacklo_epi16(d, s), 8))
BOTH2(punpckhdq, _mm_unpackhi_epi32(d, s), _mm_srli_si128(_mm_unpacklo_epi32(d, s), 8))
SSE_INT(punpckldq_fp, _mm_unpacklo_epi32(d, s)) /* UNPCKLPS */
SSE_INT(punpckhdq_fp, _mm_unpackhi_epi32(d, s)) /* UNPCKHPS */
SSE_INT(punpckhqdq, _mm_unpackhi_epi64(d, s))
SSE_INT(punpcklqdq, _mm_unpacklo_epi64(d, s))

/* MMX: the low halves need 4 bytes of memory only (SDM vol. 2, PUNPCKLBW: m32). */
#define BOTH_LOW(name, expr)                                                                 \
    XMM_FORM(name, expr)                                                                     \
    static void name##_mmx(X86Cpu *c, const X86Insn *in)                                     \
    {                                                                                        \
        __m128i s, d;                                                                        \
        mmx_check(c, in);                                                                    \
        s = sse_is_mem(in) ? sse_from32(sse_load32(c, in)) : sse_from64(mmx_get(c, in->rm)); \
        d = sse_from64(mmx_get(c, in->reg));                                                 \
        mmx_commit(c);                                                                       \
        mmx_set(c, in->reg, sse_low64(expr));                                                \
    }                                                                                        \
    EITHER(name)
BOTH_LOW(punpcklbw, _mm_unpacklo_epi8(d, s))
BOTH_LOW(punpcklwd, _mm_unpacklo_epi16(d, s))
BOTH_LOW(punpckldq, _mm_unpacklo_epi32(d, s))

/* ---- shuffles: the immediate is data here, so elements are picked one by one ---- */

void op_pshufd(X86Cpu *c, const X86Insn *in)
{
    const unsigned imm = (unsigned)in->imm;
    X86Vec s;
    _mm_store_si128((__m128i *)&s, sse_rm128(c, in));
    sse_set(c, in->reg,
            _mm_setr_epi32(s.i32[imm & 3], s.i32[imm >> 2 & 3], s.i32[imm >> 4 & 3],
                           s.i32[imm >> 6 & 3]));
}

/* Four words of `v`, chosen by two bits each. */
static inline uint64_t shuffle_words(uint64_t v, unsigned imm)
{
    return (v >> (imm & 3) * 16 & 0xffff) | (v >> (imm >> 2 & 3) * 16 & 0xffff) << 16 |
           (v >> (imm >> 4 & 3) * 16 & 0xffff) << 32 | (v >> (imm >> 6 & 3) * 16 & 0xffff) << 48;
}

void op_pshuflw(X86Cpu *c, const X86Insn *in)
{
    __m128i s;
    s = sse_rm128(c, in);
    sse_set(c, in->reg,
            _mm_unpacklo_epi64(sse_from64(shuffle_words(sse_low64(s), (unsigned)in->imm)),
                               _mm_srli_si128(s, 8)));
}

void op_pshufhw(X86Cpu *c, const X86Insn *in)
{
    __m128i s;
    s = sse_rm128(c, in);
    sse_set(c, in->reg,
            _mm_unpacklo_epi64(
                s, sse_from64(shuffle_words(sse_low64(_mm_srli_si128(s, 8)), (unsigned)in->imm))));
}

void op_pshufw(X86Cpu *c, const X86Insn *in)
{
    uint64_t s;
    mmx_check(c, in);
    s = mmx_rm(c, in);
    mmx_commit(c);
    mmx_set(c, in->reg, shuffle_words(s, (unsigned)in->imm));
}

/* SHUFPS, UNPCK*PS, ANDPS and the like move or combine bits only: integers to us. */
void op_shufps(X86Cpu *c, const X86Insn *in)
{
    const unsigned imm = (unsigned)in->imm;
    X86Vec s, d;
    _mm_store_si128((__m128i *)&s, sse_rm128(c, in));
    d = c->xmm[in->reg];
    sse_set(c, in->reg,
            _mm_setr_epi32(d.i32[imm & 3], d.i32[imm >> 2 & 3], s.i32[imm >> 4 & 3],
                           s.i32[imm >> 6 & 3]));
}

void op_shufpd(X86Cpu *c, const X86Insn *in)
{
    X86Vec s, d;
    _mm_store_si128((__m128i *)&s, sse_rm128(c, in));
    d = c->xmm[in->reg];
    sse_set(
        c, in->reg,
        _mm_unpacklo_epi64(sse_from64(d.u64[in->imm & 1]), sse_from64(s.u64[in->imm >> 1 & 1])));
}

/* ---- words in and out ---- */

static uint16_t word_rm(X86Cpu *c, const X86Insn *in)
{
    return sse_is_mem(in) ? (uint16_t)x86_load16(c, in, x86_ea(c, in, 2, X86_READ))
                          : X86_REG16(c, in->rm);
}

static void pinsrw_xmm(X86Cpu *c, const X86Insn *in)
{
    c->xmm[in->reg].u16[in->imm & 7] = word_rm(c, in);
}

static void pinsrw_mmx(X86Cpu *c, const X86Insn *in)
{
    const unsigned shift = (in->imm & 3) * 16;
    uint64_t v;
    mmx_check(c, in);
    v = word_rm(c, in);
    mmx_commit(c);
    mmx_set(c, in->reg, (mmx_get(c, in->reg) & ~(UINT64_C(0xffff) << shift)) | v << shift);
}

/* PEXTRW r32, xmm, imm8 (0F C5) */
static void pextrw_xmm(X86Cpu *c, const X86Insn *in)
{
    X86_REG64(c, in->reg) = c->xmm[in->rm].u16[in->imm & 7];
}

static void pextrw_mmx(X86Cpu *c, const X86Insn *in)
{
    mmx_check(c, in);
    mmx_commit(c);
    X86_REG64(c, in->reg) = (uint16_t)(mmx_get(c, in->rm) >> (in->imm & 3) * 16);
}

EITHER(pinsrw)

/* 0F C5 to a register; 66 0F 3A 15 is SSE4.1's, which may go to memory. */
void op_pextrw(X86Cpu *c, const X86Insn *in)
{
    if (in->opcode == 0x15) {
        if (!pta_cpuid_has(c->cpuid, PTA_X86_FEAT_SSE41)) {
            x86_raise_ud(c, in);
        }
        const uint16_t v = c->xmm[in->reg].u16[in->imm & 7];
        if (sse_is_mem(in)) {
            x86_store16(c, in, x86_ea(c, in, 2, X86_WRITE), v);
        } else {
            X86_REG64(c, in->rm) = v;
        }
    } else if (in->pfx & X86_PFX_OPSIZE) {
        pextrw_xmm(c, in);
    } else {
        pextrw_mmx(c, in);
    }
}

/* ---- shifts: by xmm/m128 (its low 64 bits), or by an immediate on ModRM.rm ---- */

#define SHIFT(name, intrinsic)                                                                   \
    XMM_FORM(name, intrinsic(d, s))                                                              \
    MMX_FORM(name, intrinsic(d, s))                                                              \
    void op_##name(X86Cpu *c, const X86Insn *in)                                                 \
    {                                                                                            \
        if (in->opcode >= 0xd0) {                                                                \
            if (in->pfx & X86_PFX_OPSIZE) {                                                      \
                name##_xmm(c, in);                                                               \
            } else {                                                                             \
                name##_mmx(c, in);                                                               \
            }                                                                                    \
        } else { /* 71, 72, 73 */                                                                \
            const __m128i count = sse_from64(in->imm & 0xff);                                    \
            if (in->pfx & X86_PFX_OPSIZE) {                                                      \
                sse_set(c, in->rm, intrinsic(sse_get(c, in->rm), count));                        \
            } else {                                                                             \
                mmx_check(c, in);                                                                \
                mmx_commit(c);                                                                   \
                mmx_set(c, in->rm, sse_low64(intrinsic(sse_from64(mmx_get(c, in->rm)), count))); \
            }                                                                                    \
        }                                                                                        \
    }
SHIFT(psllw, _mm_sll_epi16)
SHIFT(pslld, _mm_sll_epi32)
SHIFT(psllq, _mm_sll_epi64)
SHIFT(psrlw, _mm_srl_epi16)
SHIFT(psrld, _mm_srl_epi32)
SHIFT(psrlq, _mm_srl_epi64)
SHIFT(psraw, _mm_sra_epi16)
SHIFT(psrad, _mm_sra_epi32)

/* A window over the register between zeroes. */
static void shift_bytes(X86Cpu *c, const X86Insn *in, bool left)
{
    const unsigned n = (in->imm & 0xff) > 16 ? 16 : in->imm & 0xff;
    uint8_t window[48] = { 0 };
    memcpy(window + 16, &c->xmm[in->rm], 16);
    memcpy(&c->xmm[in->rm], left ? window + 16 - n : window + 16 + n, 16);
}

void op_pslldq(X86Cpu *c, const X86Insn *in)
{
    shift_bytes(c, in, true);
}

void op_psrldq(X86Cpu *c, const X86Insn *in)
{
    shift_bytes(c, in, false);
}

/* ---- the end of MMX ---- */

void op_emms(X86Cpu *c, const X86Insn *in)
{
    mmx_check(c, in);
    mmx_commit(c);
    c->fpu.tag_valid = 0;
}
