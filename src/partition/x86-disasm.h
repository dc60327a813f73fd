/*
 * Guest code as text, for the log, halt reasons and people: what stands around an address. Decoding
 * forwards is exact; backwards it is a guess, for x86 code has no boundaries: the longest run of
 * instructions that ends at the address.
 *
 * Any thread; guest memory may change underneath.
 */
#ifndef PTA_X86_DISASM_H
#define PTA_X86_DISASM_H

#include "src/memory/memory.h"
#include "src/partition/x86-state.h"

#define PTA_X86_INSN_MAX 15 /* bytes; SDM vol. 2, 2.3.11 */

typedef struct PtaX86DisasmLine {
    uint64_t rip; /* offset in CS */
    uint8_t len;
    uint8_t bytes[PTA_X86_INSN_MAX];
    bool current;  /* it is the one at regs->rip */
    char text[71]; /* Intel syntax; "(bad)" if the bytes are no instruction */
} PtaX86DisasmLine;

/*
 * Up to `before` instructions before regs->rip, the one there, and up to `after` behind it, in order
 * of address, into lines (before + 1 + after of them). Returns how many there are: 0 if the memory
 * at regs->rip cannot be read.
 */
unsigned pta_x86_disassemble_around(const PtaMemory *mem, const PtaX86Regs *regs, unsigned before,
                                    unsigned after, PtaX86DisasmLine *lines);

#endif
