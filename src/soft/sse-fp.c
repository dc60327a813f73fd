/*
 * SSE and SSE2: floating-point arithmetic, comparison and conversion. A kernel does one operation
 * on the host's vector unit; sse.h says how rounding and exceptions come out right.
 *
 * On an x86-64 host a kernel is the very instruction, as inline assembly: a compiler may swap the
 * operands of an addition, and then the wrong one of two NaNs would survive.
 */
#include "config.h"

#include "src/soft/opcodes.h"
#include "src/soft/sse.h"

#define PS(v)  _mm_castsi128_ps(v)
#define PD(v)  _mm_castsi128_pd(v)
#define IPS(v) _mm_castps_si128(v)
#define IPD(v) _mm_castpd_si128(v)

#ifdef __x86_64__
#define HOST(instruction, portable)                    \
    __asm__(instruction " %1, %0" : "+x"(d) : "x"(s)); \
    return d
#else
#define HOST(instruction, portable) return (portable)
#endif

#define KERNEL(name, instruction, portable)       \
    static __m128i k_##name(__m128i d, __m128i s) \
    {                                             \
        HOST(instruction, portable);              \
    }

/* xmm, xmm/m: the operation and how much of memory it reads */
#define SSE_FP(name, load, lane)                                                     \
    void op_##name(X86Cpu *c, const X86Insn *in)                                     \
    {                                                                                \
        const __m128i s = load(c, in);                                               \
        sse_set(c, in->reg, sse_run(c, in, k_##name, sse_get(c, in->reg), s, lane)); \
    }

/* ---- arithmetic in its four forms ---- */

#define ARITHMETIC(name)                                             \
    KERNEL(name##ps, #name "ps", IPS(_mm_##name##_ps(PS(d), PS(s)))) \
    KERNEL(name##pd, #name "pd", IPD(_mm_##name##_pd(PD(d), PD(s)))) \
    KERNEL(name##ss, #name "ss", IPS(_mm_##name##_ss(PS(d), PS(s)))) \
    KERNEL(name##sd, #name "sd", IPD(_mm_##name##_sd(PD(d), PD(s)))) \
    SSE_FP(name##ps, sse_rm128, 4)                                   \
    SSE_FP(name##pd, sse_rm128, 8)                                   \
    SSE_FP(name##ss, sse_rm32, SSE_SCALAR | 4)                       \
    SSE_FP(name##sd, sse_rm64, SSE_SCALAR | 8)

ARITHMETIC(add)
ARITHMETIC(sub)
ARITHMETIC(mul)
ARITHMETIC(div)
ARITHMETIC(min)
ARITHMETIC(max)

KERNEL(sqrtps, "sqrtps", IPS(_mm_sqrt_ps(PS(s))))
KERNEL(sqrtpd, "sqrtpd", IPD(_mm_sqrt_pd(PD(s))))
KERNEL(sqrtss, "sqrtss", IPS(_mm_move_ss(PS(d), _mm_sqrt_ss(PS(s)))))
KERNEL(sqrtsd, "sqrtsd", IPD(_mm_sqrt_sd(PD(d), PD(s))))
SSE_FP(sqrtps, sse_rm128, 4)
SSE_FP(sqrtpd, sse_rm128, 8)
SSE_FP(sqrtss, sse_rm32, SSE_SCALAR | 4)
SSE_FP(sqrtsd, sse_rm64, SSE_SCALAR | 8)

/* Approximations to 12 bits; no exceptions. The last bits are the host's own. */
KERNEL(rcpps, "rcpps", IPS(_mm_rcp_ps(PS(s))))
KERNEL(rcpss, "rcpss", IPS(_mm_move_ss(PS(d), _mm_rcp_ss(PS(s)))))
KERNEL(rsqrtps, "rsqrtps", IPS(_mm_rsqrt_ps(PS(s))))
KERNEL(rsqrtss, "rsqrtss", IPS(_mm_move_ss(PS(d), _mm_rsqrt_ss(PS(s)))))
SSE_FP(rcpps, sse_rm128, 4)
SSE_FP(rcpss, sse_rm32, SSE_SCALAR | 4)
SSE_FP(rsqrtps, sse_rm128, 4)
SSE_FP(rsqrtss, sse_rm32, SSE_SCALAR | 4)

/* ---- comparison: a kernel per predicate (imm8 bits 0-2) ---- */

#define COMPARE(form, cast, uncast, load)                                                     \
    KERNEL(cmp##form##_0, "cmpeq" #form, uncast(_mm_cmpeq_##form(cast(d), cast(s))))          \
    KERNEL(cmp##form##_1, "cmplt" #form, uncast(_mm_cmplt_##form(cast(d), cast(s))))          \
    KERNEL(cmp##form##_2, "cmple" #form, uncast(_mm_cmple_##form(cast(d), cast(s))))          \
    KERNEL(cmp##form##_3, "cmpunord" #form, uncast(_mm_cmpunord_##form(cast(d), cast(s))))    \
    KERNEL(cmp##form##_4, "cmpneq" #form, uncast(_mm_cmpneq_##form(cast(d), cast(s))))        \
    KERNEL(cmp##form##_5, "cmpnlt" #form, uncast(_mm_cmpnlt_##form(cast(d), cast(s))))        \
    KERNEL(cmp##form##_6, "cmpnle" #form, uncast(_mm_cmpnle_##form(cast(d), cast(s))))        \
    KERNEL(cmp##form##_7, "cmpord" #form, uncast(_mm_cmpord_##form(cast(d), cast(s))))        \
    void op_cmp##form##_fp(X86Cpu *c, const X86Insn *in)                                      \
    {                                                                                         \
        static SseKernel *const kernels[8] = {                                                \
            k_cmp##form##_0, k_cmp##form##_1, k_cmp##form##_2, k_cmp##form##_3,               \
            k_cmp##form##_4, k_cmp##form##_5, k_cmp##form##_6, k_cmp##form##_7,               \
        };                                                                                    \
        const __m128i s = load(c, in);                                                        \
        sse_set(c, in->reg, sse_run(c, in, kernels[in->imm & 7], sse_get(c, in->reg), s, 0)); \
    }
COMPARE(ps, PS, IPS, sse_rm128)
COMPARE(pd, PD, IPD, sse_rm128)
COMPARE(ss, PS, IPS, sse_rm32)
COMPARE(sd, PD, IPD, sse_rm64)

/* ZF, PF, CF as the instruction sets them; OF, SF, AF are 0. */
#ifdef __x86_64__
#define COMI(name, type, cast)                                                             \
    static __m128i k_##name(__m128i d, __m128i s)                                          \
    {                                                                                      \
        bool zf, pf, cf;                                                                   \
        __asm__(#name " %4, %3" : "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf) : "x"(d), "x"(s)); \
        return sse_from32((zf ? X86_ZF : 0) | (pf ? X86_PF : 0) | (cf ? X86_CF : 0));      \
    }
#else
static uint32_t comi_flags(double a, double b)
{
    return a > b ? 0 : a < b ? X86_CF : a == b ? X86_ZF : X86_ZF | X86_PF | X86_CF;
}
#define COMI(name, type, cast)                                                                   \
    static __m128i k_##name(__m128i d, __m128i s)                                                \
    {                                                                                            \
        return sse_from32(comi_flags(_mm_cvts##type##_f##cast(d), _mm_cvts##type##_f##cast(s))); \
    }
#define _mm_cvtss_fPS(v) ((double)_mm_cvtss_f32(PS(v)))
#define _mm_cvtsd_fPD(v) _mm_cvtsd_f64(PD(v))
#endif

#define COMI_OP(name, type, cast, load)                                                    \
    COMI(name, type, cast)                                                                 \
    void op_##name(X86Cpu *c, const X86Insn *in)                                           \
    {                                                                                      \
        const __m128i s = load(c, in);                                                     \
        x86_set_status(c, sse_low64(sse_run(c, in, k_##name, sse_get(c, in->reg), s, 0))); \
    }
COMI_OP(ucomiss, s, PS, sse_rm32)
COMI_OP(ucomisd, d, PD, sse_rm64)
COMI_OP(comiss, s, PS, sse_rm32)
COMI_OP(comisd, d, PD, sse_rm64)

/* ---- conversions between vectors ---- */

KERNEL(cvtps2pd, "cvtps2pd", IPD(_mm_cvtps_pd(PS(s))))
KERNEL(cvtpd2ps, "cvtpd2ps", IPS(_mm_cvtpd_ps(PD(s))))
KERNEL(cvtss2sd, "cvtss2sd", IPD(_mm_cvtss_sd(PD(d), PS(s))))
KERNEL(cvtsd2ss, "cvtsd2ss", IPS(_mm_cvtsd_ss(PS(d), PD(s))))
KERNEL(cvtdq2ps, "cvtdq2ps", IPS(_mm_cvtepi32_ps(s)))
KERNEL(cvtdq2pd, "cvtdq2pd", IPD(_mm_cvtepi32_pd(s)))
KERNEL(cvtps2dq, "cvtps2dq", _mm_cvtps_epi32(PS(s)))
KERNEL(cvttps2dq, "cvttps2dq", _mm_cvttps_epi32(PS(s)))
KERNEL(cvtpd2dq, "cvtpd2dq", _mm_cvtpd_epi32(PD(s)))
KERNEL(cvttpd2dq, "cvttpd2dq", _mm_cvttpd_epi32(PD(s)))
SSE_FP(cvtps2pd, sse_rm64, 4)
SSE_FP(cvtpd2ps, sse_rm128, 8)
SSE_FP(cvtss2sd, sse_rm32, SSE_SCALAR | 4)
SSE_FP(cvtsd2ss, sse_rm64, SSE_SCALAR | 8)
SSE_FP(cvtdq2ps, sse_rm128, 0)
SSE_FP(cvtdq2pd, sse_rm64, 0)
SSE_FP(cvtps2dq, sse_rm128, 4)
SSE_FP(cvttps2dq, sse_rm128, 4)
SSE_FP(cvtpd2dq, sse_rm128, 8)
SSE_FP(cvttpd2dq, sse_rm128, 8)

/* ---- conversions with general registers ---- */

/* A 32-bit source is sign-extended first: the same number, so the same result and flags. */
#ifdef __x86_64__
#define FROM_GPR(name, portable)                                 \
    static __m128i k_##name(__m128i d, __m128i s)                \
    {                                                            \
        __asm__(#name "q %1, %0" : "+x"(d) : "r"(sse_low64(s))); \
        return d;                                                \
    }
#define TO_GPR(name, portable32, portable64)           \
    static __m128i k_##name##_32(__m128i d, __m128i s) \
    {                                                  \
        uint32_t r;                                    \
        __asm__(#name " %1, %0" : "=r"(r) : "x"(s));   \
        return sse_from32(r);                          \
    }                                                  \
    static __m128i k_##name##_64(__m128i d, __m128i s) \
    {                                                  \
        uint64_t r;                                    \
        __asm__(#name " %1, %0" : "=r"(r) : "x"(s));   \
        return sse_from64(r);                          \
    }
#else
#define FROM_GPR(name, portable)                  \
    static __m128i k_##name(__m128i d, __m128i s) \
    {                                             \
        return (portable);                        \
    }
#define TO_GPR(name, portable32, portable64)           \
    static __m128i k_##name##_32(__m128i d, __m128i s) \
    {                                                  \
        return sse_from32((uint32_t)(portable32));     \
    }                                                  \
    static __m128i k_##name##_64(__m128i d, __m128i s) \
    {                                                  \
        return sse_from64((uint64_t)(portable64));     \
    }
#endif

#define FROM_GPR_OP(name, portable)                                                           \
    FROM_GPR(name, portable)                                                                  \
    void op_##name(X86Cpu *c, const X86Insn *in)                                              \
    {                                                                                         \
        const unsigned size = in->pfx & X86_PFX_REXW ? 8 : 4;                                 \
        uint64_t v = sse_is_mem(in) ? x86_load(c, in, x86_ea(c, in, size, X86_READ), size)    \
                                    : x86_reg(c, in->rm, size);                               \
        v = size == 4 ? (uint64_t)(int64_t)(int32_t)v : v;                                    \
        sse_set(c, in->reg, sse_run(c, in, k_##name, sse_get(c, in->reg), sse_from64(v), 0)); \
    }
FROM_GPR_OP(cvtsi2ss, IPS(_mm_cvtsi64_ss(PS(d), (int64_t)sse_low64(s))))
FROM_GPR_OP(cvtsi2sd, IPD(_mm_cvtsi64_sd(PD(d), (int64_t)sse_low64(s))))

#define TO_GPR_OP(name, load, portable32, portable64)                                     \
    TO_GPR(name, portable32, portable64)                                                  \
    void op_##name(X86Cpu *c, const X86Insn *in)                                          \
    {                                                                                     \
        SseKernel *const kernel = in->pfx & X86_PFX_REXW ? k_##name##_64 : k_##name##_32; \
        const __m128i s = load(c, in);                                                    \
        X86_REG64(c, in->reg) = sse_low64(sse_run(c, in, kernel, s, s, 0));               \
    }
TO_GPR_OP(cvtss2si, sse_rm32, _mm_cvtss_si32(PS(s)), _mm_cvtss_si64(PS(s)))
TO_GPR_OP(cvttss2si, sse_rm32, _mm_cvttss_si32(PS(s)), _mm_cvttss_si64(PS(s)))
TO_GPR_OP(cvtsd2si, sse_rm64, _mm_cvtsd_si32(PD(s)), _mm_cvtsd_si64(PD(s)))
TO_GPR_OP(cvttsd2si, sse_rm64, _mm_cvttsd_si32(PD(s)), _mm_cvttsd_si64(PD(s)))

/* ---- conversions with MMX registers: the 128-bit ones, whose upper half is zero, so exact ---- */

static __m128i k_cvtpi2ps(__m128i d, __m128i s)
{
    return IPS(_mm_movelh_ps(PS(k_cvtdq2ps(d, s)), PS(_mm_srli_si128(d, 8))));
}

/* From memory it is no MMX instruction: x87 state stays (SDM vol. 2, CVTPI2PD; CVTPI2PS behaves so
 * as well). */
static void from_mmx(X86Cpu *c, const X86Insn *in, SseKernel *kernel)
{
    uint64_t v;
    if (sse_is_mem(in)) {
        v = sse_load64(c, in);
    } else {
        mmx_check(c, in);
        v = mmx_get(c, in->rm);
        mmx_commit(c); /* an exception of the operation comes later */
    }
    sse_set(c, in->reg, sse_run(c, in, kernel, sse_get(c, in->reg), sse_from64(v), 0));
}

void op_cvtpi2ps(X86Cpu *c, const X86Insn *in)
{
    from_mmx(c, in, k_cvtpi2ps);
}

void op_cvtpi2pd(X86Cpu *c, const X86Insn *in)
{
    from_mmx(c, in, k_cvtdq2pd);
}

#define TO_MMX(name, kernel, load)               \
    void op_##name(X86Cpu *c, const X86Insn *in) \
    {                                            \
        __m128i s, r;                            \
        mmx_check(c, in);                        \
        s = load(c, in);                         \
        mmx_commit(c);                           \
        r = sse_run(c, in, kernel, s, s, 0);     \
        mmx_set(c, in->reg, sse_low64(r));       \
    }

/* The low two singles only. */
static inline __m128i low_half_rm(X86Cpu *c, const X86Insn *in)
{
    return sse_from64(sse_is_mem(in) ? sse_load64(c, in) : c->xmm[in->rm].u64[0]);
}

TO_MMX(cvtps2pi, k_cvtps2dq, low_half_rm)
TO_MMX(cvttps2pi, k_cvttps2dq, low_half_rm)
TO_MMX(cvtpd2pi, k_cvtpd2dq, sse_rm128)
TO_MMX(cvttpd2pi, k_cvttpd2dq, sse_rm128)
