/* What the x87 files share: bits of the status and control words, the register stack. */
#ifndef PTA_SOFT_FPU_H
#define PTA_SOFT_FPU_H

#include "src/soft/x86-cpu.h"

/* Status word; the low six are also the exception masks of the control word and, in this order, the
 * flags and masks of MXCSR. */
enum {
    X87_IE = 1 << 0,
    X87_DE = 1 << 1,
    X87_ZE = 1 << 2,
    X87_OE = 1 << 3,
    X87_UE = 1 << 4,
    X87_PE = 1 << 5,
    X87_EXCEPTIONS = 0x3f,
    X87_SF = 1 << 6, /* stack fault */
    X87_ES = 1 << 7, /* an unmasked exception is pending */
    X87_C0 = 1 << 8,
    X87_C1 = 1 << 9,
    X87_C2 = 1 << 10,
    X87_TOP = 7 << 11,
    X87_C3 = 1 << 14,
    X87_B = 1 << 15, /* as ES */
    X87_CONDITION = X87_C0 | X87_C1 | X87_C2 | X87_C3,
};

#define X87_CW_INIT      UINT16_C(0x037f)
#define X87_CW_FIXED     UINT16_C(0x0040) /* reads as 1; bits 13-15 and 7 as 0 */
#define X87_CW_WRITABLE  UINT16_C(0x1f3f)
#define MXCSR_INIT       UINT32_C(0x1f80)
#define MXCSR_WRITABLE   UINT32_C(0xffff) /* with DAZ; what FXSAVE reports as MXCSR_MASK */
#define MXCSR_DAZ        UINT32_C(0x0040)
#define MXCSR_FTZ        UINT32_C(0x8000)
#define MXCSR_MASK_SHIFT 7

/* #MF if CR0.NE is set; without it the exception stays pending unheard, as on a PC whose FERR# pin
 * goes nowhere. */
void x87_pending(X86Cpu *c, const X86Insn *in);

static inline unsigned x87_top(const X86Fpu *f)
{
    return f->sw >> 11 & 7;
}

static inline void x87_set_top(X86Fpu *f, unsigned top)
{
    f->sw = (uint16_t)((f->sw & ~X87_TOP) | (top & 7) << 11);
}

/* ST(i) */
static inline X86Fpr *x87_st(X86Fpu *f, unsigned i)
{
    return &f->r[(x87_top(f) + i) & 7];
}

static inline bool x87_empty(const X86Fpu *f, unsigned i)
{
    return !(f->tag_valid >> ((x87_top(f) + i) & 7) & 1);
}

/* ES and B follow from the flags and the control word's masks. */
static inline void x87_update_es(X86Fpu *f)
{
    const bool pending = f->sw & ~f->cw & X87_EXCEPTIONS;
    f->sw = (uint16_t)((f->sw & ~(X87_ES | X87_B)) | (pending ? X87_ES | X87_B : 0));
}

/* Makes c->fpu.mxcsr current: takes over the flags that the host's MXCSR gathered. */
void x86_mxcsr_fold(X86Cpu *c);
/* A new value (reserved bits already refused), in force at once. */
void x86_mxcsr_set(X86Cpu *c, uint32_t value);

/* The FXSAVE image in memory order (SDM vol. 1, table 10-2); `rex_w`: 64-bit FIP and FDP. `xmm`: how
 * many registers. */
void x86_fxsave_image(X86Cpu *c, uint8_t image[512], bool rex_w, unsigned xmm);
/* The x87 part and, if `sse`, MXCSR and XMM; MXCSR has been checked by the caller. */
void x86_fxrstor_image(X86Cpu *c, const uint8_t image[512], bool rex_w, bool sse, unsigned xmm);

#endif
