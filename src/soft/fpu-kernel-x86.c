/* x87 operations on the x87 of an x86-64 host; see fpu-kernel.h. Any thread. */
#include "config.h"

#include "src/soft/fpu-kernel.h"

#ifdef __x86_64__

#include <string.h>

/*
 * The host's x87 is empty and has its default control word between these functions, as the ABI
 * says. Flags that host code left are cleared first, for the guest's control word may unmask them;
 * afterwards FNSTSW and FNCLEX do not wait, so an unmasked exception never reaches the host.
 */
static const uint16_t host_cw = X87_CW_INIT;

#define CLOBBER "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"

/* ST(0) = a op %st(1) or memory; the registers are emptied. */
#define ARITH_REG(insn)                                                                       \
    __asm__ volatile("fnclex\n\tfldt %3\n\tfldt %2\n\tfldcw %4\n\t" insn " %%st(1), %%st\n\t" \
                     "fnstsw %0\n\tfnclex\n\tfldcw %5\n\tfstpt %1\n\tfstp %%st(0)"            \
                     : "=a"(sw), "=m"(*r)                                                     \
                     : "m"(*a), "m"(*(const X86Fpr *)b), "m"(cw), "m"(host_cw)                \
                     : CLOBBER)
#define ARITH_MEM(insn, type)                                                \
    __asm__ volatile("fnclex\n\tfldt %2\n\tfldcw %4\n\t" insn " %3\n\t"      \
                     "fnstsw %0\n\tfnclex\n\tfldcw %5\n\tfstpt %1"           \
                     : "=a"(sw), "=m"(*r)                                    \
                     : "m"(*a), "m"(*(const type *)b), "m"(cw), "m"(host_cw) \
                     : CLOBBER)

#define ARITH(insn)                      \
    do {                                 \
        if (form == X87_REG) {           \
            ARITH_REG(insn);             \
        } else if (form == X87_F32) {    \
            ARITH_MEM(insn "s", float);  \
        } else {                         \
            ARITH_MEM(insn "l", double); \
        }                                \
    } while (0)

uint16_t x87_k_arith(X87Arith op, X87Form form, X86Fpr *r, const X86Fpr *a, const void *b,
                     uint16_t cw)
{
    uint16_t sw = 0;
    switch (op) {
    case X87_ADD:
        ARITH("fadd");
        break;
    case X87_MUL:
        ARITH("fmul");
        break;
    case X87_SUB:
        ARITH("fsub");
        break;
    case X87_SUBR:
        ARITH("fsubr");
        break;
    case X87_DIV:
        ARITH("fdiv");
        break;
    case X87_DIVR:
        ARITH("fdivr");
        break;
    }
    return sw;
}

#define COMPARE_REG(insn)                                                               \
    __asm__ volatile("fnclex\n\tfldt %2\n\tfldt %1\n\tfldcw %3\n\t" insn " %%st(1)\n\t" \
                     "fnstsw %0\n\tfnclex\n\tfldcw %4\n\tfstp %%st(0)\n\tfstp %%st(0)"  \
                     : "=a"(sw)                                                         \
                     : "m"(*a), "m"(*(const X86Fpr *)b), "m"(cw), "m"(host_cw)          \
                     : CLOBBER)
#define COMPARE_MEM(insn, type)                                              \
    __asm__ volatile("fnclex\n\tfldt %1\n\tfldcw %3\n\t" insn " %2\n\t"      \
                     "fnstsw %0\n\tfnclex\n\tfldcw %4\n\tfstp %%st(0)"       \
                     : "=a"(sw)                                              \
                     : "m"(*a), "m"(*(const type *)b), "m"(cw), "m"(host_cw) \
                     : CLOBBER)

uint16_t x87_k_compare(bool quiet, X87Form form, const X86Fpr *a, const void *b, uint16_t cw)
{
    uint16_t sw;
    if (quiet) {
        COMPARE_REG("fucom");
    } else if (form == X87_REG) {
        COMPARE_REG("fcom");
    } else if (form == X87_F32) {
        COMPARE_MEM("fcoms", float);
    } else {
        COMPARE_MEM("fcoml", double);
    }
    return sw;
}

/* An unmasked exception pushes nothing: then FSTP finds an empty stack, and *r is not used. */
#define LOAD(insn, type)                                                                        \
    __asm__ volatile("fnclex\n\tfldcw %3\n\t" insn " %2\n\tfnstsw %0\n\tfnclex\n\tfldcw %4\n\t" \
                     "fstpt %1\n\tfnclex\n\temms"                                               \
                     : "=a"(sw), "=m"(*r)                                                       \
                     : "m"(*(const type *)mem), "m"(cw), "m"(host_cw)                           \
                     : CLOBBER)

uint16_t x87_k_load(X87Form form, X86Fpr *r, const void *mem, uint16_t cw)
{
    uint16_t sw;
    if (form == X87_F32) {
        LOAD("flds", float);
    } else {
        LOAD("fldl", double);
    }
    return sw;
}

/* EMMS empties the stack, whether the instruction popped or not. */
#define STORE(insn, type)                                                                      \
    __asm__ volatile("fnclex\n\tfldt %2\n\tfldcw %3\n\t" insn " %1\n\tfnstsw %0\n\tfnclex\n\t" \
                     "fldcw %4\n\temms"                                                        \
                     : "=a"(sw), "+m"(*(type *)mem)                                            \
                     : "m"(*a), "m"(cw), "m"(host_cw)                                          \
                     : CLOBBER)

uint16_t x87_k_store(X87Form form, void *mem, const X86Fpr *a, uint16_t cw)
{
    uint16_t sw = 0;
    switch (form) {
    case X87_F32:
        STORE("fsts", float);
        break;
    case X87_F64:
        STORE("fstl", double);
        break;
    case X87_I16:
        STORE("fists", int16_t);
        break;
    case X87_I32:
        STORE("fistl", int32_t);
        break;
    case X87_I64:
        STORE("fistpll", int64_t);
        break;
    case X87_REG:
        break;
    }
    return sw;
}

/* ---- the rare ones: the guest's whole register stack goes to the host's and back ---- */

/* FNSAVE's image, 32-bit protected-mode form (SDM vol. 1, figure 8-9). */
typedef struct HostX87 {
    uint32_t cw, sw, tw, fip, fcs, fdp, fds;
    uint8_t st[8][10];
} HostX87;
_Static_assert(sizeof(HostX87) == 108, "the layout of FNSAVE");

#define STACK(insn)                                         \
    __asm__ volatile("frstor %0\n\t" insn "\n\tfnsave %0"   \
                     : "+m"(*h), "+m"(*(uint8_t(*)[10])bcd) \
                     :                                      \
                     : CLOBBER)

static void run(X87Stack op, HostX87 *h, uint8_t bcd[10])
{
    switch (op) {
    case X87_FSQRT:
        STACK("fsqrt");
        break;
    case X87_FRNDINT:
        STACK("frndint");
        break;
    case X87_FSIN:
        STACK("fsin");
        break;
    case X87_FCOS:
        STACK("fcos");
        break;
    case X87_FSINCOS:
        STACK("fsincos");
        break;
    case X87_FPTAN:
        STACK("fptan");
        break;
    case X87_FPATAN:
        STACK("fpatan");
        break;
    case X87_F2XM1:
        STACK("f2xm1");
        break;
    case X87_FYL2X:
        STACK("fyl2x");
        break;
    case X87_FYL2XP1:
        STACK("fyl2xp1");
        break;
    case X87_FPREM:
        STACK("fprem");
        break;
    case X87_FPREM1:
        STACK("fprem1");
        break;
    case X87_FXTRACT:
        STACK("fxtract");
        break;
    case X87_FSCALE:
        STACK("fscale");
        break;
    case X87_FBLD:
        STACK("fbld %1");
        break;
    case X87_FBSTP:
        STACK("fbstp %1");
        break;
    }
}

void x87_k_stack(X87Stack op, X86Fpu *f, uint8_t bcd[10])
{
    uint8_t none[10];
    HostX87 h = { .cw = f->cw, .sw = f->sw & (X87_TOP | X87_CONDITION) };
    const unsigned top = x87_top(f);
    for (unsigned i = 0; i < 8; i++) {
        h.tw |= (f->tag_valid >> i & 1 ? 0u : 3u) << i * 2;
        memcpy(h.st[i], &f->r[(top + i) & 7], 10);
    }
    run(op, &h, bcd ? bcd : none);
    const unsigned new_top = h.sw >> 11 & 7;
    f->tag_valid = 0;
    for (unsigned i = 0; i < 8; i++) {
        f->tag_valid |= (uint8_t)((h.tw >> i * 2 & 3) == 3 ? 0 : 1 << i);
        memcpy(&f->r[(new_top + i) & 7], h.st[i], 10);
    }
    f->sw = (uint16_t)((f->sw & (X87_EXCEPTIONS | X87_SF)) |
                       (h.sw & (X87_EXCEPTIONS | X87_SF | X87_TOP | X87_CONDITION)));
}

#endif
