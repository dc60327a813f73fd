/* The x87 and MMX registers and MXCSR of the software CPU. Belongs to its VP's thread. */
#ifndef PTA_SOFT_X86_FPU_STATE_H
#define PTA_SOFT_X86_FPU_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* An 80-bit register in the memory format of FLD m80; MMX is the mantissa. */
typedef struct X86Fpr {
    uint64_t mantissa;
    uint16_t sign_exponent;
    uint16_t pad[3];
} X86Fpr;

typedef struct X86Fpu {
    X86Fpr r[8]; /* physical registers R0-R7; ST(i) is r[(top + i) & 7] */
    uint16_t cw;
    uint16_t sw; /* TOP is bits 11-13 here */
    uint8_t
        tag_valid; /* bit i: physical register i is not empty (the abridged tag word of FXSAVE) */
    bool checked;  /* MXCSR unmasks an exception: each operation is looked at (sse_checked) */
    uint16_t fop;
    uint64_t fip, fdp;
    uint16_t fcs, fds;
    uint32_t mxcsr; /* while `on_host`: without the flags that the host's MXCSR holds */
    bool on_host;   /* between x86_fpu_enter() and x86_fpu_leave() */
} X86Fpu;

#endif
