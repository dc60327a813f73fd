/* Handlers made of one expression over d (destination) and s (source), for the files that have
 * packed integer instructions. */
#ifndef PTA_SOFT_SSE_FORMS_H
#define PTA_SOFT_SSE_FORMS_H

#include "src/soft/opcodes.h"
#include "src/soft/sse.h"

/* name_xmm: xmm, xmm/m128 */
#define XMM_FORM(name, expr)                             \
    static void name##_xmm(X86Cpu *c, const X86Insn *in) \
    {                                                    \
        const __m128i s = sse_rm128(c, in);              \
        const __m128i d = sse_get(c, in->reg);           \
        sse_set(c, in->reg, (expr));                     \
    }

/* name_mmx: mm, mm/m64 */
#define MMX_FORM(name, expr)                             \
    static void name##_mmx(X86Cpu *c, const X86Insn *in) \
    {                                                    \
        __m128i s, d;                                    \
        mmx_check(c, in);                                \
        s = sse_from64(mmx_rm(c, in));                   \
        d = sse_from64(mmx_get(c, in->reg));             \
        mmx_commit(c);                                   \
        mmx_set(c, in->reg, sse_low64(expr));            \
    }

/* The instruction: which of the two it is, the 66 prefix tells. */
#define EITHER(name)                              \
    void op_##name(X86Cpu *c, const X86Insn *in)  \
    {                                             \
        if (G_LIKELY(in->pfx & X86_PFX_OPSIZE)) { \
            name##_xmm(c, in);                    \
        } else {                                  \
            name##_mmx(c, in);                    \
        }                                         \
    }

#define SSE_INT(name, expr)                      \
    XMM_FORM(name, expr)                         \
    void op_##name(X86Cpu *c, const X86Insn *in) \
    {                                            \
        name##_xmm(c, in);                       \
    }
#define BOTH(name, expr)      XMM_FORM(name, expr) MMX_FORM(name, expr) EITHER(name)
#define BOTH2(name, xmm, mmx) XMM_FORM(name, xmm) MMX_FORM(name, mmx) EITHER(name)

#endif
