/*
 * Whether a VP with this CPUID table can be in a state: what comes from a snapshot, a migration
 * stream or a debugger is hostile, and every back end refuses the same.
 */
#ifndef PTA_X86_STATE_CHECK_H
#define PTA_X86_STATE_CHECK_H

#include "src/partition/x86-cpuid.h"
#include "src/partition/x86-state.h"

/* Bits of CR4 that the table's features give a meaning. */
uint64_t pta_x86_cr4_known(const PtaCpuidTable *cpuid);
/* Whether CPUID offers anything of IA32_SPEC_CTRL. */
bool pta_x86_has_spec_ctrl(const PtaCpuidTable *cpuid);
bool pta_x86_pat_valid(uint64_t pat);
/* A memory type, and the eight of a fixed-range register (SDM vol. 3, 12.11). */
bool pta_x86_mtrr_type_valid(unsigned type);
bool pta_x86_mtrr_fixed_valid(uint64_t value);

/* BAD_SNAPSHOT, which names the field. All but the local APIC; _form: what no model has (segments, RFLAGS,
 * debug registers, events, FPU), the rest is right. */
bool pta_x86_state_check_form(const PtaX86State *state, GError **error);
bool pta_x86_state_check(const PtaCpuidTable *cpuid, const PtaX86State *state, GError **error);
/* The local APIC of VP `vp`, and IA32_APIC_BASE. */
bool pta_x86_lapic_check(const PtaCpuidTable *cpuid, unsigned vp, const PtaX86Lapic *lapic,
                         uint64_t apic_base, GError **error);

#endif
