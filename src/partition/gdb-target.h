/*
 * What the debugger sees of a VP: its registers, in the order of the target description that is sent
 * to it. MAIN.
 */
#ifndef PTA_GDB_TARGET_H
#define PTA_GDB_TARGET_H

#include "src/partition/x86-state.h"
#include "src/util/util.h"

/* The target description (GDB manual, appendix G): 64-bit x86 with SSE, segment bases, control
 * registers. A constant of the process; lent. */
const char *pta_gdb_target_xml(void);

unsigned pta_gdb_n_registers(void);
const char *pta_gdb_register_name(unsigned reg);
size_t pta_gdb_register_size(unsigned reg); /* in bytes, at most 16 */
/* Little-endian, as packets carry it. */
void pta_gdb_register_get(const PtaX86State *state, unsigned reg, uint8_t *value);
/* False: a value that the register cannot have. */
bool pta_gdb_register_set(PtaX86State *state, unsigned reg, const uint8_t *value);

/* Numbers of those that are sent along with each stop. */
enum {
    PTA_GDB_REG_RBP = 6,
    PTA_GDB_REG_RSP = 7,
    PTA_GDB_REG_RIP = 16,
};

/* The linear address of an instruction at RIP, for what translates addresses. */
uint64_t pta_gdb_linear_rip(const PtaX86Regs *regs);

#endif
