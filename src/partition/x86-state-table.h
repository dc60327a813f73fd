/* The field tables of the canonical VP state (x86-state.h): its form in saved states. */
#ifndef PTA_X86_STATE_TABLE_H
#define PTA_X86_STATE_TABLE_H

#include "src/partition/x86-state.h"
#include "src/state/state.h"

extern const PtaStateDesc pta_x86_state_desc; /* of PtaX86State */
extern const PtaStateDesc pta_x86_regs_desc;  /* of PtaX86Regs */

#endif
