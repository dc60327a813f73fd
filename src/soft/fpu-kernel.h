/*
 * One x87 operation on values: what fpu-x87.c needs from the host. fpu-kernel-x86.c executes it on
 * the host's own x87 under the guest's control word, so that results, flags and the oddities of
 * pseudo-denormals and unsupported formats are exact; fpu-kernel-portable.c computes it in long
 * double for other hosts.
 *
 * Each gives the status word of that operation alone: flags in bits 0-5, condition codes. Where an
 * exception that `cw` does not mask forbids the result, the result is not to be used.
 */
#ifndef PTA_SOFT_FPU_KERNEL_H
#define PTA_SOFT_FPU_KERNEL_H

#include "src/soft/fpu.h"

typedef enum X87Form {
    X87_REG, /* X86Fpr */
    X87_F32, /* float in memory */
    X87_F64,
    X87_I16, /* stores only: integers are loaded exactly without help */
    X87_I32,
    X87_I64,
} X87Form;

/* In the order of ModRM.reg of D8 (FCOM and FCOMP are in between). */
typedef enum X87Arith {
    X87_ADD = 0,
    X87_MUL = 1,
    X87_SUB = 4,
    X87_SUBR = 5,
    X87_DIV = 6,
    X87_DIVR = 7,
} X87Arith;

/* *r = a op b (the reversed ones: b op a); b is an X86Fpr, a float or a double. */
uint16_t x87_k_arith(X87Arith op, X87Form form, X86Fpr *r, const X86Fpr *a, const void *b,
                     uint16_t cw);
/* C3, C2, C0 as FCOM sets them; quiet: a QNaN is no invalid operation (FUCOM). */
uint16_t x87_k_compare(bool quiet, X87Form form, const X86Fpr *a, const void *b, uint16_t cw);
uint16_t x87_k_load(X87Form form, X86Fpr *r, const void *mem, uint16_t cw);
uint16_t x87_k_store(X87Form form, void *mem, const X86Fpr *a, uint16_t cw);

/* Operations on the register stack as a whole, stack faults included; f->sw and the registers are
 * updated, ES is not. */
typedef enum X87Stack {
    X87_FSQRT,
    X87_FRNDINT,
    X87_FSIN,
    X87_FCOS,
    X87_FSINCOS,
    X87_FPTAN,
    X87_FPATAN,
    X87_F2XM1,
    X87_FYL2X,
    X87_FYL2XP1,
    X87_FPREM,
    X87_FPREM1,
    X87_FXTRACT,
    X87_FSCALE,
    X87_FBLD,  /* operand: 10 bytes */
    X87_FBSTP, /* operand: 10 bytes, written only if the result may be */
} X87Stack;

void x87_k_stack(X87Stack op, X86Fpu *f, uint8_t bcd[10]);

#endif
