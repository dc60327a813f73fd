/* Which specialised handler an instruction gets, by its row; the tables are beside the handlers. */
#include "config.h"

#include "src/soft/int.h"

X86Handler *x86_select(const X86Insn *in, const X86Select *s)
{
    if (x86_rows[in->row].props & X86_P_SSE) {
        return x86_select_sse(in, s);
    }
    switch (in->row) {
    case X86_ROW_ADD:
    case X86_ROW_OR:
    case X86_ROW_ADC:
    case X86_ROW_SBB:
    case X86_ROW_AND:
    case X86_ROW_SUB:
    case X86_ROW_XOR:
    case X86_ROW_CMP:
    case X86_ROW_TEST:
        return x86_select_alu(in, s);
    case X86_ROW_INC:
    case X86_ROW_DEC:
    case X86_ROW_NEG:
    case X86_ROW_NOT:
        return x86_select_unary(in, s);
    case X86_ROW_SHL:
    case X86_ROW_SHR:
    case X86_ROW_SAR:
    case X86_ROW_ROL:
    case X86_ROW_ROR:
        return x86_select_shift(in, s);
    case X86_ROW_IMUL:
        return x86_select_mul(in, s);
    case X86_ROW_PUSH:
    case X86_ROW_POP:
    case X86_ROW_LEAVE:
        return x86_select_stack(in, s);
    case X86_ROW_JMP:
    case X86_ROW_CALL:
    case X86_ROW_RET:
        return x86_select_branch(in, s);
    default:
        break;
    }
    X86Handler *handler = x86_rows[in->row].handler;
    if (handler == op_jcc) {
        return x86_select_branch(in, s);
    }
    if (handler == op_setcc || handler == op_cmov) {
        return x86_select_cond(in, s);
    }
    return x86_select_move(in, s);
}
