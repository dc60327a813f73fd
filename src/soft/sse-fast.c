/*
 * SSE and SSE2: the forms that real code is full of, in 64-bit mode with 64-bit addresses. Register
 * and memory operands are separate functions that go straight on to the next instruction; whatever
 * is not here runs by its row's handler, which is also what these do for a guest that has unmasked
 * a floating-point exception.
 */
#include "config.h"

#include "src/soft/engine.h"
#include "src/soft/sse.h"

#define FORM(name) static void name(X86Cpu *c, const X86Insn *in)

X86_INLINE uint64_t ea(const X86Cpu *c, const X86Insn *in)
{
    return c->gpr[in->base] + (c->gpr[in->index] << in->scale) + (uint64_t)(int64_t)in->disp +
           c->seg_base[in->seg];
}

X86_INLINE __m128i load_aligned(X86Cpu *c, const X86Insn *in)
{
    const uint64_t lin = ea(c, in);
    if (G_UNLIKELY(lin & 15)) {
        sse_misaligned(c, in, lin);
    }
    return sse_load_at(c, in, lin);
}

X86_INLINE __m128i load_any(X86Cpu *c, const X86Insn *in)
{
    return sse_load_at(c, in, ea(c, in));
}

X86_INLINE __m128i load_4(X86Cpu *c, const X86Insn *in)
{
    return sse_from32((uint32_t)x86_load32(c, in, ea(c, in)));
}

X86_INLINE __m128i load_8(X86Cpu *c, const X86Insn *in)
{
    return sse_from64(x86_load64(c, in, ea(c, in)));
}

/* ---- moves ---- */

FORM(mov16_rr)
{
    sse_set(c, in->reg, sse_get(c, in->rm));
    X86_NEXT(c, in);
}

FORM(mov16_rr_st)
{
    sse_set(c, in->rm, sse_get(c, in->reg));
    X86_NEXT(c, in);
}

FORM(movaps_load)
{
    sse_set(c, in->reg, load_aligned(c, in));
    X86_NEXT(c, in);
}

FORM(movups_load)
{
    sse_set(c, in->reg, load_any(c, in));
    X86_NEXT(c, in);
}

FORM(movaps_store)
{
    const uint64_t lin = ea(c, in);
    if (G_UNLIKELY(lin & 15)) {
        sse_misaligned(c, in, lin);
    }
    sse_store_at(c, in, lin, sse_get(c, in->reg));
    X86_NEXT(c, in);
}

FORM(movups_store)
{
    sse_store_at(c, in, ea(c, in), sse_get(c, in->reg));
    X86_NEXT(c, in);
}

FORM(mov4_load)
{
    sse_set(c, in->reg, load_4(c, in));
    X86_NEXT(c, in);
}

FORM(mov4_store)
{
    x86_store32(c, in, ea(c, in), c->xmm[in->reg].u32[0]);
    X86_NEXT(c, in);
}

FORM(mov8_load)
{
    sse_set(c, in->reg, load_8(c, in));
    X86_NEXT(c, in);
}

FORM(mov8_store)
{
    x86_store64(c, in, ea(c, in), c->xmm[in->reg].u64[0]);
    X86_NEXT(c, in);
}

FORM(movhps_load)
{
    c->xmm[in->reg].u64[1] = x86_load64(c, in, ea(c, in));
    X86_NEXT(c, in);
}

FORM(movhps_store)
{
    x86_store64(c, in, ea(c, in), c->xmm[in->reg].u64[1]);
    X86_NEXT(c, in);
}

FORM(movlps_load)
{
    c->xmm[in->reg].u64[0] = x86_load64(c, in, ea(c, in));
    X86_NEXT(c, in);
}

FORM(movss_rr)
{
    c->xmm[in->reg].u32[0] = c->xmm[in->rm].u32[0];
    X86_NEXT(c, in);
}

FORM(movsd_rr)
{
    c->xmm[in->reg].u64[0] = c->xmm[in->rm].u64[0];
    X86_NEXT(c, in);
}

FORM(movq_rr)
{
    sse_set(c, in->reg, sse_from64(c->xmm[in->rm].u64[0]));
    X86_NEXT(c, in);
}

FORM(from_gpr4)
{
    sse_set(c, in->reg, sse_from32(X86_REG32(c, in->rm)));
    X86_NEXT(c, in);
}

FORM(from_gpr8)
{
    sse_set(c, in->reg, sse_from64(X86_REG64(c, in->rm)));
    X86_NEXT(c, in);
}

FORM(to_gpr4)
{
    X86_REG64(c, in->rm) = c->xmm[in->reg].u32[0];
    X86_NEXT(c, in);
}

FORM(to_gpr8)
{
    X86_REG64(c, in->rm) = c->xmm[in->reg].u64[0];
    X86_NEXT(c, in);
}

FORM(pmovmskb_rr)
{
    X86_REG64(c, in->reg) = (unsigned)_mm_movemask_epi8(sse_get(c, in->rm));
    X86_NEXT(c, in);
}

FORM(pshufd_rr)
{
    const int32_t *s = c->xmm[in->rm].i32;
    const unsigned imm = (unsigned)in->imm;
    sse_set(c, in->reg,
            _mm_setr_epi32(s[imm & 3], s[imm >> 2 & 3], s[imm >> 4 & 3], s[imm >> 6 & 3]));
    X86_NEXT(c, in);
}

/* ---- operations: xmm, xmm and xmm, memory ---- */

#define BINARY(name, load, expr)               \
    FORM(name##_rr)                            \
    {                                          \
        const __m128i d = sse_get(c, in->reg); \
        const __m128i s = sse_get(c, in->rm);  \
        sse_set(c, in->reg, (expr));           \
        X86_NEXT(c, in);                       \
    }                                          \
    FORM(name##_rm)                            \
    {                                          \
        const __m128i s = load(c, in);         \
        const __m128i d = sse_get(c, in->reg); \
        sse_set(c, in->reg, (expr));           \
        X86_NEXT(c, in);                       \
    }

BINARY(pand, load_aligned, _mm_and_si128(d, s))
BINARY(pandn, load_aligned, _mm_andnot_si128(d, s))
BINARY(por, load_aligned, _mm_or_si128(d, s))
BINARY(pxor, load_aligned, _mm_xor_si128(d, s))
BINARY(paddb, load_aligned, _mm_add_epi8(d, s))
BINARY(paddw, load_aligned, _mm_add_epi16(d, s))
BINARY(paddd, load_aligned, _mm_add_epi32(d, s))
BINARY(paddq, load_aligned, _mm_add_epi64(d, s))
BINARY(psubb, load_aligned, _mm_sub_epi8(d, s))
BINARY(psubw, load_aligned, _mm_sub_epi16(d, s))
BINARY(psubd, load_aligned, _mm_sub_epi32(d, s))
BINARY(psubq, load_aligned, _mm_sub_epi64(d, s))
BINARY(pcmpeqb, load_aligned, _mm_cmpeq_epi8(d, s))
BINARY(pcmpeqw, load_aligned, _mm_cmpeq_epi16(d, s))
BINARY(pcmpeqd, load_aligned, _mm_cmpeq_epi32(d, s))
BINARY(pcmpgtb, load_aligned, _mm_cmpgt_epi8(d, s))
BINARY(pcmpgtw, load_aligned, _mm_cmpgt_epi16(d, s))
BINARY(pcmpgtd, load_aligned, _mm_cmpgt_epi32(d, s))
BINARY(pminub, load_aligned, _mm_min_epu8(d, s))
BINARY(pmaxub, load_aligned, _mm_max_epu8(d, s))
BINARY(pmullw, load_aligned, _mm_mullo_epi16(d, s))
BINARY(pmuludq, load_aligned, _mm_mul_epu32(d, s))
BINARY(pmaddwd, load_aligned, _mm_madd_epi16(d, s))
BINARY(punpcklbw, load_aligned, _mm_unpacklo_epi8(d, s))
BINARY(punpcklwd, load_aligned, _mm_unpacklo_epi16(d, s))
BINARY(punpckldq, load_aligned, _mm_unpacklo_epi32(d, s))
BINARY(punpcklqdq, load_aligned, _mm_unpacklo_epi64(d, s))
BINARY(punpckhbw, load_aligned, _mm_unpackhi_epi8(d, s))
BINARY(punpckhwd, load_aligned, _mm_unpackhi_epi16(d, s))
BINARY(punpckhdq, load_aligned, _mm_unpackhi_epi32(d, s))
BINARY(punpckhqdq, load_aligned, _mm_unpackhi_epi64(d, s))
BINARY(packuswb, load_aligned, _mm_packus_epi16(d, s))

#ifdef __x86_64__

/* As the kernels of sse-fp.c, whose handlers take over where exceptions are unmasked. */
#define ARITH_FORM(name, instruction, source)                  \
    FORM(name)                                                 \
    {                                                          \
        if (G_UNLIKELY(c->fpu.checked)) {                      \
            x86_rows[in->row].handler(c, in);                  \
        } else {                                               \
            const __m128i s = source;                          \
            __m128i d = sse_get(c, in->reg);                   \
            __asm__(instruction " %1, %0" : "+x"(d) : "x"(s)); \
            sse_set(c, in->reg, d);                            \
        }                                                      \
        X86_NEXT(c, in);                                       \
    }
#define ARITH(name, load) \
    ARITH_FORM(name##_rr, #name, sse_get(c, in->rm)) ARITH_FORM(name##_rm, #name, load(c, in))
#define ARITH4(name)              \
    ARITH(name##ps, load_aligned) \
    ARITH(name##pd, load_aligned) \
    ARITH(name##ss, load_4)       \
    ARITH(name##sd, load_8)

ARITH4(add)
ARITH4(sub)
ARITH4(mul)
ARITH4(div)
ARITH4(min)
ARITH4(max)
ARITH4(sqrt)
ARITH(cvtss2sd, load_4)
ARITH(cvtsd2ss, load_8)
ARITH(cvtps2pd, load_8)
ARITH(cvtdq2pd, load_8)
ARITH(cvtdq2ps, load_aligned)
ARITH(cvttps2dq, load_aligned)

#define COMI_FORM(name, instruction, source)                                              \
    FORM(name)                                                                            \
    {                                                                                     \
        if (G_UNLIKELY(c->fpu.checked)) {                                                 \
            x86_rows[in->row].handler(c, in);                                             \
        } else {                                                                          \
            const __m128i s = source;                                                     \
            bool zf, pf, cf;                                                              \
            __asm__(instruction " %4, %3"                                                 \
                    : "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf)                               \
                    : "x"(sse_get(c, in->reg)), "x"(s));                                  \
            x86_set_status(c, (zf ? X86_ZF : 0) | (pf ? X86_PF : 0) | (cf ? X86_CF : 0)); \
        }                                                                                 \
        X86_NEXT(c, in);                                                                  \
    }
#define COMI(name, load) \
    COMI_FORM(name##_rr, #name, sse_get(c, in->rm)) COMI_FORM(name##_rm, #name, load(c, in))
COMI(ucomiss, load_4)
COMI(ucomisd, load_8)
COMI(comiss, load_4)
COMI(comisd, load_8)

/* CVTSI2SD and the like: the general register or memory, 4 or 8 bytes, sign-extended. */
#define FROM_GPR(name, instruction, value)                     \
    FORM(name)                                                 \
    {                                                          \
        if (G_UNLIKELY(c->fpu.checked)) {                      \
            x86_rows[in->row].handler(c, in);                  \
        } else {                                               \
            const int64_t s = value;                           \
            __m128i d = sse_get(c, in->reg);                   \
            __asm__(instruction " %1, %0" : "+x"(d) : "r"(s)); \
            sse_set(c, in->reg, d);                            \
        }                                                      \
        X86_NEXT(c, in);                                       \
    }
FROM_GPR(cvtsi2sd_r4, "cvtsi2sdq", (int32_t)X86_REG32(c, in->rm))
FROM_GPR(cvtsi2sd_r8, "cvtsi2sdq", (int64_t)X86_REG64(c, in->rm))
FROM_GPR(cvtsi2ss_r4, "cvtsi2ssq", (int32_t)X86_REG32(c, in->rm))
FROM_GPR(cvtsi2ss_r8, "cvtsi2ssq", (int64_t)X86_REG64(c, in->rm))

#define TO_GPR(name, instruction, type)                                         \
    FORM(name)                                                                  \
    {                                                                           \
        if (G_UNLIKELY(c->fpu.checked)) {                                       \
            x86_rows[in->row].handler(c, in);                                   \
        } else {                                                                \
            type r;                                                             \
            __asm__(instruction " %1, %0" : "=r"(r) : "x"(sse_get(c, in->rm))); \
            X86_REG64(c, in->reg) = r;                                          \
        }                                                                       \
        X86_NEXT(c, in);                                                        \
    }
TO_GPR(cvttsd2si_r4, "cvttsd2si", uint32_t)
TO_GPR(cvttsd2si_r8, "cvttsd2si", uint64_t)
TO_GPR(cvttss2si_r4, "cvttss2si", uint32_t)
TO_GPR(cvttss2si_r8, "cvttss2si", uint64_t)

#define FP_ROW(ROW, name) { X86_ROW_##ROW, name##_rr, name##_rm },
#define FP_ROW4(ROW, name)    \
    FP_ROW(ROW##PS, name##ps) \
    FP_ROW(ROW##PD, name##pd) FP_ROW(ROW##SS, name##ss) FP_ROW(ROW##SD, name##sd)
#define FP_ROWS                  \
    FP_ROW4(ADD, add)            \
    FP_ROW4(SUB, sub)            \
    FP_ROW4(MUL, mul)            \
    FP_ROW4(DIV, div)            \
    FP_ROW4(MIN, min)            \
    FP_ROW4(MAX, max)            \
    FP_ROW4(SQRT, sqrt)          \
    FP_ROW(CVTSS2SD, cvtss2sd)   \
    FP_ROW(CVTSD2SS, cvtsd2ss)   \
    FP_ROW(CVTPS2PD, cvtps2pd)   \
    FP_ROW(CVTDQ2PD, cvtdq2pd)   \
    FP_ROW(CVTDQ2PS, cvtdq2ps)   \
    FP_ROW(CVTTPS2DQ, cvttps2dq) \
    FP_ROW(UCOMISS, ucomiss)     \
    FP_ROW(UCOMISD, ucomisd) FP_ROW(COMISS, comiss) FP_ROW(COMISD, comisd)

static X86Handler *select_convert(const X86Insn *in)
{
    const bool wide = in->pfx & X86_PFX_REXW;
    switch (in->row) {
    case X86_ROW_CVTSI2SD:
        return wide ? cvtsi2sd_r8 : cvtsi2sd_r4;
    case X86_ROW_CVTSI2SS:
        return wide ? cvtsi2ss_r8 : cvtsi2ss_r4;
    case X86_ROW_CVTTSD2SI:
        return wide ? cvttsd2si_r8 : cvttsd2si_r4;
    case X86_ROW_CVTTSS2SI:
        return wide ? cvttss2si_r8 : cvttss2si_r4;
    default:
        return NULL;
    }
}

#else

#define FP_ROWS
static X86Handler *select_convert(const X86Insn *in)
{
    return NULL;
}

#endif

/* ---- selection ---- */

static const struct {
    uint16_t row;
    X86Handler *rr, *rm;
} binary[] = {
#define ROW(ROW_, name) { X86_ROW_##ROW_, name##_rr, name##_rm },
    ROW(PAND, pand) ROW(PANDN, pandn) ROW(POR, por) ROW(PXOR, pxor) ROW(ANDPS, pand)
        ROW(ANDPD, pand) ROW(ANDNPS, pandn) ROW(ANDNPD, pandn) ROW(ORPS, por) ROW(ORPD, por)
            ROW(XORPS, pxor) ROW(XORPD, pxor) ROW(PADDB, paddb) ROW(PADDW, paddw) ROW(PADDD, paddd)
                ROW(PADDQ, paddq) ROW(PSUBB, psubb) ROW(PSUBW, psubw) ROW(PSUBD, psubd) ROW(
                    PSUBQ, psubq) ROW(PCMPEQB, pcmpeqb) ROW(PCMPEQW, pcmpeqw) ROW(PCMPEQD, pcmpeqd)
                    ROW(PCMPGTB, pcmpgtb) ROW(PCMPGTW, pcmpgtw) ROW(PCMPGTD, pcmpgtd)
                        ROW(PMINUB, pminub) ROW(PMAXUB, pmaxub) ROW(PMULLW, pmullw)
                            ROW(PMULUDQ, pmuludq) ROW(PMADDWD, pmaddwd) ROW(PUNPCKLBW, punpcklbw)
                                ROW(PUNPCKLWD, punpcklwd) ROW(PUNPCKLDQ, punpckldq)
                                    ROW(PUNPCKLQDQ, punpcklqdq) ROW(PUNPCKHBW, punpckhbw)
                                        ROW(PUNPCKHWD, punpckhwd) ROW(PUNPCKHDQ, punpckhdq)
                                            ROW(PUNPCKHQDQ, punpckhqdq) ROW(PACKUSWB, packuswb)
                                                ROW(UNPCKLPS, punpckldq) ROW(UNPCKHPS, punpckhdq)
                                                    ROW(UNPCKLPD, punpcklqdq)
                                                        ROW(UNPCKHPD, punpckhqdq) FP_ROWS
#undef ROW
};

static X86Handler *select_move(const X86Insn *in, bool mem)
{
    const bool low = in->opcode & 1, high = in->opcode & 0x10; /* store: 11, 13, 17, 29; 7F */
    const bool wide = in->pfx & X86_PFX_REXW;
    switch (in->row) {
    case X86_ROW_MOVAPS:
    case X86_ROW_MOVAPD:
        return !mem ? (low ? mov16_rr_st : mov16_rr) : low ? movaps_store : movaps_load;
    case X86_ROW_MOVDQA:
        return !mem ? (high ? mov16_rr_st : mov16_rr) : high ? movaps_store : movaps_load;
    case X86_ROW_MOVUPS:
    case X86_ROW_MOVUPD:
        return !mem ? (low ? mov16_rr_st : mov16_rr) : low ? movups_store : movups_load;
    case X86_ROW_MOVDQU:
        return !mem ? (high ? mov16_rr_st : mov16_rr) : high ? movups_store : movups_load;
    case X86_ROW_MOVNTPS:
    case X86_ROW_MOVNTPD:
    case X86_ROW_MOVNTDQ:
        return movaps_store;
    case X86_ROW_MOVSS:
        return !mem ? (low ? NULL : movss_rr) : low ? mov4_store : mov4_load;
    case X86_ROW_MOVSD_SSE:
        return !mem ? (low ? NULL : movsd_rr) : low ? mov8_store : mov8_load;
    case X86_ROW_MOVLPS:
    case X86_ROW_MOVLPD:
        return low ? mov8_store : movlps_load;
    case X86_ROW_MOVHPS:
    case X86_ROW_MOVHPD:
        return low ? movhps_store : movhps_load;
    case X86_ROW_MOVD:
        if (!(in->pfx & X86_PFX_OPSIZE)) {
            return NULL; /* MMX */
        }
        return in->opcode == 0x7e ? (mem ? mov4_store : to_gpr4) : mem ? mov4_load : from_gpr4;
    case X86_ROW_MOVQ:
        if (in->opcode == 0x7e && in->pfx & X86_PFX_REP) {
            return mem ? mov8_load : movq_rr;
        }
        if (!(in->pfx & X86_PFX_OPSIZE) || (in->opcode == 0xd6 && !mem)) {
            return NULL;
        }
        if (in->opcode == 0xd6 || (in->opcode == 0x7e && wide)) {
            return mem ? mov8_store : to_gpr8;
        }
        return in->opcode == 0x6e && wide ? (mem ? mov8_load : from_gpr8) : NULL;
    case X86_ROW_PMOVMSKB:
        return in->pfx & X86_PFX_OPSIZE ? pmovmskb_rr : NULL;
    case X86_ROW_PSHUFD:
        return mem ? NULL : pshufd_rr;
    default:
        return mem ? NULL : select_convert(in);
    }
}

X86Handler *x86_select_sse(const X86Insn *in, const X86Select *s)
{
    const bool mem = in->ea & X86_EA_MEM;
    if (!s->wide || in->ea & X86_EA_SLOW) {
        return NULL;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(binary); i++) {
        if (binary[i].row == in->row) {
            if (x86_rows[in->row].props & X86_P_MMX && !(in->pfx & X86_PFX_OPSIZE)) {
                return NULL;
            }
            return mem ? binary[i].rm : binary[i].rr;
        }
    }
    return select_move(in, mem);
}
