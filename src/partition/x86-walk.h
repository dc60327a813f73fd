/*
 * Guest-virtual memory as the debugger and the log see it: a walk of the guest's page tables from
 * the canonical state, without permissions and without side effects. Any thread; the tables may
 * change underneath, then the answer is one of the moments.
 */
#ifndef PTA_X86_WALK_H
#define PTA_X86_WALK_H

#include "src/memory/memory.h"
#include "src/partition/x86-state.h"

/* False if nothing is mapped there. */
bool pta_x86_translate(const PtaMemory *mem, const PtaX86Regs *regs, uint64_t lin, uint64_t *gpa);

/* Reads up to len bytes, page by page; how many could be read before the first failure. */
size_t pta_x86_read_linear(const PtaMemory *mem, const PtaX86Regs *regs, uint64_t lin, void *buf,
                           size_t len);
/* Writes likewise, whatever the pages' permissions are; RAM only. */
size_t pta_x86_write_linear(PtaMemory *mem, const PtaX86Regs *regs, uint64_t lin, const void *buf,
                            size_t len);

#endif
