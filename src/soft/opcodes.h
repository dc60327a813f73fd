/*
 * The one opcode table: which handler an instruction has, which CPU feature it belongs to, which
 * flags it leaves undefined, and what the engine must know about it. opcodes.def puts it together
 * from opcodes-int.def, opcodes-sys.def and opcodes-fp.def.
 *
 * A row is
 *
 *     X(MNEMONIC, handler, FEATURE, undefined, properties)
 *
 * MNEMONIC: that of Zydis (ZYDIS_MNEMONIC_<it>). Where Zydis has one name for what are different
 * instructions to us, decode.c splits it and the row is written P(KEY, …) with a key of the list
 * below. handler: the function is `void op_<handler>(X86Cpu *c, const X86Insn *in)`, declared by
 * this header; several rows may share one and look at in->row, in->opcode, in->width.
 * FEATURE: PTA_X86_FEAT_<it>; in a model without it the instruction is #UD. undefined: X86_CF | …
 * that the SDM calls undefined, for the tests. properties: X86_P_*, or 0.
 *
 * What the decoder does before a handler runs: invalid encodings, LOCK where it may not be, missing
 * features: #UD; more than 15 bytes: #GP; privilege and mode by the properties below.
 *
 * What a handler finds in X86Insn, beside the comment there:
 *   - a memory operand, wherever it is: ea has X86_EA_MEM, x86_ea() gives its linear address;
 *   - reg, rm: byte offsets for general registers, else numbers (XMM 0-15, MMX, ST(i), CR, DR,
 *     segment 0-5); a register encoded in the opcode is in `reg` if the ModRM byte has none
 *     (PUSH r, BSWAP), except that ST(i) is in `rm`. Without a register operand they are the raw
 *     ModRM fields (REX included);
 *   - width: general instructions: the operand size in bytes (MOVZX, MOVSX: of the destination);
 *     rows with X86_P_X87, _MMX or _SSE: the size of the ModRM.rm operand, be it memory or
 *     register (CVTSI2SD: 4 or 8; MOVSS xmm, m32: 4; MOVAPS: 16);
 *   - imm: the (first) immediate; aux: a second one (ENTER), or the selector of a far pointer;
 *     branches: imm is the displacement, sign-extended.
 */
#ifndef PTA_SOFT_OPCODES_H
#define PTA_SOFT_OPCODES_H

#include <Zydis/Zydis.h>

#include "src/soft/x86-cpu.h"

/* Keys of P() rows: parts of a mnemonic. */
enum {
    X86_KEY_FIRST = ZYDIS_MNEMONIC_MAX_VALUE,
    X86_KEY_MOV_SEG,  /* 8C, 8E; in `reg` the segment, in `rm` or memory the other */
    X86_KEY_MOV_CR,   /* 0F 20, 0F 22; opcode bit 1: to the control register */
    X86_KEY_MOV_DR,   /* 0F 21, 0F 23 */
    X86_KEY_PUSH_SEG, /* `reg` is the segment */
    X86_KEY_POP_SEG,
    X86_KEY_CALL_FAR,  /* 9A: imm offset, aux selector; FF /3: memory */
    X86_KEY_JMP_FAR,   /* EA; FF /5 */
    X86_KEY_RET_FAR,   /* CA, CB */
    X86_KEY_MOVSD_SSE, /* F2 0F 10, 11; MOVSD is the string instruction */
    X86_KEY_CMPSD_SSE, /* F2 0F C2; CMPSD is the string instruction */
    X86_KEY_END,
};

enum {
    X86_P_ENDS = 1 << 0, /* may change RIP, mode, privilege, interruptibility: ends its block.
                           * c->rip is preset to the next instruction */
    X86_P_PRIV = 1 << 1, /* #GP(0) unless CPL is 0 */
    X86_P_PROT = 1 << 2, /* #UD in real and virtual-8086 mode */
    X86_P_X87 = 1 << 3,  /* #NM if CR0.EM or CR0.TS, checked for you */
    X86_P_MMX = 1 << 4,  /* #UD if CR0.EM, #NM if CR0.TS, checked for you */
    X86_P_SSE = 1 << 5,  /* #UD if CR0.EM or not CR4.OSFXSR, #NM if CR0.TS, checked for you */
    X86_P_INT = 1 << 6,  /* int-select.c picks a specialised handler at decode time */
    X86_P_REP = 1 << 7,  /* string instruction: may ask to be run again (x86_string_again()) */
    X86_P_NO64 = 1 << 8, /* not in 64-bit mode (for the tests; Zydis refuses it) */
    X86_P_ONLY64 = 1 << 9,
    X86_P_NOTEST = 1 << 10, /* not for the differential test: changes control flow or the machine */
};

typedef struct X86Row {
    const char *name;
    X86Handler *handler;
    X86Handler *exec; /* the engine's wrapper */
    uint16_t key;     /* Zydis mnemonic or X86_KEY_* */
    uint8_t feature;  /* PtaX86Feature */
    uint16_t undefined;
    uint16_t props;
} X86Row;

extern const X86Row x86_rows[]; /* engine.c; row 0 is #UD */

#define X(key, handler, feature, undefined, props) X86_ROW_##key,
#define P(key, handler, feature, undefined, props) X86_ROW_##key,
enum {
    X86_ROW_INVALID,
#include "src/soft/opcodes.def"
    X86_N_ROWS,
};
#undef X
#undef P

#define X(key, handler, feature, undefined, props) X86Handler op_##handler;
#define P(key, handler, feature, undefined, props) X86Handler op_##handler;
#include "src/soft/opcodes.def"
#undef X
#undef P

/* Row of a key, X86_ROW_INVALID if there is none. */
unsigned x86_row_of(unsigned key);

/*
 * For a handler with X86_P_REP that has committed some iterations and has more to do: the engine
 * looks at attention and the clock, and runs the same instruction again.
 */
static inline void x86_string_again(X86Cpu *c)
{
    c->string_again = true;
}

#endif
