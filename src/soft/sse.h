/*
 * What the SSE and MMX handlers share: availability checks, operands of 4 to 16 bytes, and how one
 * operation runs on the host's own vector unit.
 *
 * While a VP runs, the host's MXCSR is the guest's with every exception masked (x86_fpu_enter()),
 * so that rounding, DAZ and FTZ are right by themselves and flags gather in the host's register. If
 * the guest unmasks an exception, fpu.checked sends each operation through sse_checked(), which
 * looks at the flags of that operation alone before anything is committed.
 */
#ifndef PTA_SOFT_SSE_H
#define PTA_SOFT_SSE_H

#include "src/soft/fpu.h"

#ifdef __x86_64__
#include <emmintrin.h>
#else
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/sse2.h>
#endif

/* dst op src -> new dst; integers for a general register come back in the low bits. */
typedef __m128i SseKernel(__m128i dst, __m128i src);

/* #MF if an x87 exception is pending: every MMX instruction waits (SDM vol. 1, 9.6.2). #UD and #NM
 * come from the row's X86_P_MMX. */
static inline void mmx_check(X86Cpu *c, const X86Insn *in)
{
    if (G_UNLIKELY(c->fpu.sw & X87_ES)) {
        x87_pending(c, in);
    }
}

/* A 16-byte operand that is not aligned: #GP(0), also where the address is not canonical. */
G_NORETURN void sse_misaligned(X86Cpu *c, const X86Insn *in, uint64_t lin);
/* Runs the kernel for a guest that has unmasked exceptions; raises #XM (or #UD) before a commit.
 * lane: bytes of a source element of an operation that may over- or underflow, and SSE_SCALAR if it
 * is for the lowest alone; 0 for the others. */
#define SSE_SCALAR  16
#define SSE_PRODUCT 32 /* a multiplication though the opcode does not say so */
__m128i sse_checked(X86Cpu *c, const X86Insn *in, SseKernel *kernel, __m128i dst, __m128i src,
                    unsigned lane);

static inline bool sse_is_mem(const X86Insn *in)
{
    return in->ea & X86_EA_MEM;
}

static inline __m128i sse_get(const X86Cpu *c, unsigned n)
{
    return _mm_load_si128((const __m128i *)&c->xmm[n]);
}

static inline void sse_set(X86Cpu *c, unsigned n, __m128i v)
{
    _mm_store_si128((__m128i *)&c->xmm[n], v);
}

/* ---- memory operands ---- */

/* What the TLB does not answer. Out of line: a caller whose locals have no address can go on to the
 * next instruction by a sibling call. */
__m128i sse_load_slow(X86Cpu *c, const X86Insn *in, uint64_t lin);
void sse_store_slow(X86Cpu *c, const X86Insn *in, uint64_t lin, __m128i value);

static inline __m128i sse_load_at(X86Cpu *c, const X86Insn *in, uint64_t lin)
{
    const void *p = x86_tlb_lookup(c->tlb->read, lin, 16);
    return G_LIKELY(p) ? _mm_loadu_si128(p) : sse_load_slow(c, in, lin);
}

static inline void sse_store_at(X86Cpu *c, const X86Insn *in, uint64_t lin, __m128i value)
{
    void *p = x86_tlb_lookup(c->tlb->write, lin, 16);
    if (G_LIKELY(p)) {
        _mm_storeu_si128(p, value);
    } else {
        sse_store_slow(c, in, lin, value);
    }
}

static inline __m128i sse_load_unaligned(X86Cpu *c, const X86Insn *in)
{
    return sse_load_at(c, in, x86_ea(c, in, 16, X86_READ));
}

static inline __m128i sse_load_aligned(X86Cpu *c, const X86Insn *in)
{
    uint64_t lin = x86_ea(c, in, 16, X86_READ);
    if (G_UNLIKELY(lin & 15)) {
        sse_misaligned(c, in, lin);
    }
    return sse_load_at(c, in, lin);
}

static inline void sse_store_unaligned(X86Cpu *c, const X86Insn *in, __m128i v)
{
    sse_store_at(c, in, x86_ea(c, in, 16, X86_WRITE), v);
}

static inline void sse_store_aligned(X86Cpu *c, const X86Insn *in, __m128i v)
{
    uint64_t lin = x86_ea(c, in, 16, X86_WRITE);
    if (G_UNLIKELY(lin & 15)) {
        sse_misaligned(c, in, lin);
    }
    sse_store_at(c, in, lin, v);
}

static inline uint32_t sse_load32(X86Cpu *c, const X86Insn *in)
{
    return (uint32_t)x86_load32(c, in, x86_ea(c, in, 4, X86_READ));
}

static inline uint64_t sse_load64(X86Cpu *c, const X86Insn *in)
{
    return x86_load64(c, in, x86_ea(c, in, 8, X86_READ));
}

static inline __m128i sse_from32(uint32_t v)
{
    return _mm_cvtsi32_si128((int)v);
}

static inline __m128i sse_from64(uint64_t v)
{
    return _mm_cvtsi64_si128((int64_t)v);
}

static inline uint64_t sse_low64(__m128i v)
{
    return (uint64_t)_mm_cvtsi128_si64(v);
}

/* The ModRM.rm operand: a whole register or 16 aligned bytes; 4 or 8 bytes of memory leave the rest
 * of the vector zero (a register gives all of itself). */
static inline __m128i sse_rm128(X86Cpu *c, const X86Insn *in)
{
    return sse_is_mem(in) ? sse_load_aligned(c, in) : sse_get(c, in->rm);
}

static inline __m128i sse_rm32(X86Cpu *c, const X86Insn *in)
{
    return sse_is_mem(in) ? sse_from32(sse_load32(c, in)) : sse_get(c, in->rm);
}

static inline __m128i sse_rm64(X86Cpu *c, const X86Insn *in)
{
    return sse_is_mem(in) ? sse_from64(sse_load64(c, in)) : sse_get(c, in->rm);
}

/* ---- MMX registers ---- */

/* Every MMX instruction: x87 registers are all valid afterwards and TOP is 0 (SDM vol. 1, 9.5.1).
 * To be called where the instruction can no longer fault. */
static inline void mmx_commit(X86Cpu *c)
{
    c->fpu.sw &= ~0x3800;
    c->fpu.tag_valid = 0xff;
}

static inline uint64_t mmx_get(const X86Cpu *c, unsigned n)
{
    return c->fpu.r[n & 7].mantissa;
}

static inline void mmx_set(X86Cpu *c, unsigned n, uint64_t v)
{
    c->fpu.r[n & 7].mantissa = v;
    c->fpu.r[n & 7].sign_exponent = 0xffff;
}

static inline uint64_t mmx_rm(X86Cpu *c, const X86Insn *in)
{
    return sse_is_mem(in) ? sse_load64(c, in) : mmx_get(c, in->rm);
}

static inline __m128i sse_run(X86Cpu *c, const X86Insn *in, SseKernel *kernel, __m128i d, __m128i s,
                              unsigned lane)
{
    return G_UNLIKELY(c->fpu.checked) ? sse_checked(c, in, kernel, d, s, lane) : kernel(d, s);
}

#endif
