/* Field tables of the canonical VP state, in the order of its structs. What is architecturally valid
 * is for the back end to say (vp_set_state); here only the form is checked. */
#include "config.h"

#include "src/partition/x86-state-table.h"

static const PtaStateField segment_fields[] = {
    PTA_STATE_U64(PtaX86Segment, base),
    PTA_STATE_U32(PtaX86Segment, limit),
    PTA_STATE_U16(PtaX86Segment, selector),
    PTA_STATE_U16(PtaX86Segment, attrs),
    {},
};
static const PtaStateDesc segment_desc = { "segment", 1, sizeof(PtaX86Segment), segment_fields,
                                           NULL };

static const PtaStateField table_fields[] = {
    PTA_STATE_U64(PtaX86Table, base),
    PTA_STATE_U16(PtaX86Table, limit),
    PTA_STATE_UINT_ARRAY(PtaX86Table, reserved),
    {},
};
static const PtaStateDesc table_desc = { "table", 1, sizeof(PtaX86Table), table_fields, NULL };

static const PtaStateField regs_fields[] = {
    PTA_STATE_UINT_ARRAY(PtaX86Regs, gpr),
    PTA_STATE_U64(PtaX86Regs, rip),
    PTA_STATE_U64(PtaX86Regs, rflags),
    PTA_STATE_SUB_ARRAY(PtaX86Regs, seg, &segment_desc),
    PTA_STATE_SUB(PtaX86Regs, tr, &segment_desc),
    PTA_STATE_SUB(PtaX86Regs, ldtr, &segment_desc),
    PTA_STATE_SUB(PtaX86Regs, gdtr, &table_desc),
    PTA_STATE_SUB(PtaX86Regs, idtr, &table_desc),
    PTA_STATE_U64(PtaX86Regs, cr0),
    PTA_STATE_U64(PtaX86Regs, cr2),
    PTA_STATE_U64(PtaX86Regs, cr3),
    PTA_STATE_U64(PtaX86Regs, cr4),
    PTA_STATE_U64(PtaX86Regs, cr8),
    PTA_STATE_U64(PtaX86Regs, efer),
    PTA_STATE_U64(PtaX86Regs, xcr0),
    PTA_STATE_U64(PtaX86Regs, xss),
    {},
};
const PtaStateDesc pta_x86_regs_desc = { "registers", 1, sizeof(PtaX86Regs), regs_fields, NULL };

static const PtaStateField debug_fields[] = {
    PTA_STATE_UINT_ARRAY(PtaX86DebugRegs, dr),
    PTA_STATE_U64(PtaX86DebugRegs, dr6),
    PTA_STATE_U64(PtaX86DebugRegs, dr7),
    {},
};
static const PtaStateDesc debug_desc = { "debug-registers", 1, sizeof(PtaX86DebugRegs),
                                         debug_fields, NULL };

static const PtaStateField mtrrs_fields[] = {
    PTA_STATE_U64(PtaX86Mtrrs, def_type),
    PTA_STATE_UINT_ARRAY(PtaX86Mtrrs, fixed),
    PTA_STATE_UINT_ARRAY(PtaX86Mtrrs, phys_base),
    PTA_STATE_UINT_ARRAY(PtaX86Mtrrs, phys_mask),
    {},
};
static const PtaStateDesc mtrrs_desc = { "mtrrs", 1, sizeof(PtaX86Mtrrs), mtrrs_fields, NULL };

static const PtaStateField msrs_fields[] = {
    PTA_STATE_U64(PtaX86Msrs, apic_base),
    PTA_STATE_U64(PtaX86Msrs, star),
    PTA_STATE_U64(PtaX86Msrs, lstar),
    PTA_STATE_U64(PtaX86Msrs, cstar),
    PTA_STATE_U64(PtaX86Msrs, sfmask),
    PTA_STATE_U64(PtaX86Msrs, kernel_gs_base),
    PTA_STATE_U64(PtaX86Msrs, sysenter_cs),
    PTA_STATE_U64(PtaX86Msrs, sysenter_esp),
    PTA_STATE_U64(PtaX86Msrs, sysenter_eip),
    PTA_STATE_U64(PtaX86Msrs, pat),
    PTA_STATE_U64(PtaX86Msrs, tsc_adjust),
    PTA_STATE_U64(PtaX86Msrs, tsc_aux),
    PTA_STATE_U64(PtaX86Msrs, tsc_deadline),
    PTA_STATE_U64(PtaX86Msrs, misc_enable),
    PTA_STATE_U64(PtaX86Msrs, spec_ctrl),
    PTA_STATE_SUB(PtaX86Msrs, mtrrs, &mtrrs_desc),
    {},
};
static const PtaStateDesc msrs_desc = { "msrs", 1, sizeof(PtaX86Msrs), msrs_fields, NULL };

static const PtaStateField events_fields[] = {
    PTA_STATE_U32(PtaX86Events, activity),
    PTA_STATE_U8(PtaX86Events, interrupt_shadow),
    PTA_STATE_U8(PtaX86Events, nmi_pending),
    PTA_STATE_U8(PtaX86Events, nmi_blocked),
    PTA_STATE_U8(PtaX86Events, smi_blocked),
    PTA_STATE_U8(PtaX86Events, exception_pending),
    PTA_STATE_U8(PtaX86Events, vector),
    PTA_STATE_U8(PtaX86Events, has_error_code),
    PTA_STATE_U8(PtaX86Events, sipi_vector),
    PTA_STATE_U32(PtaX86Events, error_code),
    {},
};
static const PtaStateDesc events_desc = { "events", 1, sizeof(PtaX86Events), events_fields, NULL };

static const PtaStateField lapic_fields[] = {
    PTA_STATE_BLOB(PtaX86Lapic, page),
    PTA_STATE_U64(PtaX86Lapic, timer_expiry_ns),
    {},
};
static const PtaStateDesc lapic_desc = { "lapic", 1, sizeof(PtaX86Lapic), lapic_fields, NULL };

static const PtaStateField xsave_fields[] = {
    PTA_STATE_BLOB(PtaX86Xsave, area),
    {},
};
static const PtaStateDesc xsave_desc = { "xsave", 1, sizeof(PtaX86Xsave), xsave_fields, NULL };

static const PtaStateField state_fields[] = {
    PTA_STATE_SUB(PtaX86State, regs, &pta_x86_regs_desc),
    PTA_STATE_SUB(PtaX86State, debug, &debug_desc),
    PTA_STATE_SUB(PtaX86State, msrs, &msrs_desc),
    PTA_STATE_SUB(PtaX86State, events, &events_desc),
    PTA_STATE_SUB(PtaX86State, lapic, &lapic_desc),
    PTA_STATE_SUB(PtaX86State, xsave, &xsave_desc),
    PTA_STATE_U64(PtaX86State, tsc),
    {},
};
const PtaStateDesc pta_x86_state_desc = { "vp", 1, sizeof(PtaX86State), state_fields, NULL };
