/*
 * The local APIC of a software VP (SDM vol. 3, chapter 10), xAPIC and x2APIC.
 *
 * Threads: registers belong to the VP's thread. Any thread may send it messages (x86_msi() and
 * IPIs): IRR, TMR and what destinations are compared with are ATOMIC, everything else that a
 * message does is a bit in the VP's attention word.
 */
#ifndef PTA_SOFT_LAPIC_H
#define PTA_SOFT_LAPIC_H

#include "src/soft/x86-cpu.h"

#define X86_MSR_APIC_BASE    0x1b
#define X86_MSR_TSC_DEADLINE 0x6e0
#define X86_MSR_X2APIC_FIRST 0x800
#define X86_MSR_X2APIC_LAST  0x8ff

X86Lapic *x86_lapic_new(X86Cpu *c);
void x86_lapic_free(X86Lapic *l);

/* INIT keeps the APIC id and the base; power-up does not keep the base. VP thread, or stopped. */
void x86_lapic_init(X86Cpu *c);
void x86_lapic_power_up(X86Cpu *c);

/* ---- for msr.c: IA32_APIC_BASE, IA32_TSC_DEADLINE, 0x800 to 0x8ff; false: #GP ---- */
bool x86_lapic_rdmsr(X86Cpu *c, uint32_t msr, uint64_t *value);
bool x86_lapic_wrmsr(X86Cpu *c, uint32_t msr, uint64_t value);
/* IA32_TSC or IA32_TSC_ADJUST moved this VP's TSC: an armed deadline moves with it. */
void x86_lapic_tsc_changed(X86Cpu *c);

/* ---- for service.c, VP thread ---- */

/* The highest-priority vector that may interrupt now (IRR above PPR), or -1. */
int x86_lapic_pending(X86Cpu *c);
/* Moves `vector` from IRR to ISR. */
void x86_lapic_accept(X86Cpu *c, uint8_t vector);
/* Fires what is due at `now` (partition clock). */
void x86_lapic_timer(X86Cpu *c, uint64_t now);
/* When the timer fires next, partition clock; UINT64_MAX: not at all. */
uint64_t x86_lapic_next_expiry(const X86Cpu *c);
/* Whether an ExtINT message waits; there is no PIC to ask, so its vector comes with the message.
 * It goes past IRR and the priorities. */
bool x86_lapic_extint_pending(const X86Cpu *c);
uint8_t x86_lapic_extint_accept(X86Cpu *c);
/* Vector of the last start-up message. */
uint8_t x86_lapic_sipi_vector(const X86Cpu *c);

/* ---- any thread ---- */

/* A message-signalled interrupt: SDM vol. 3, 10.11. */
void x86_msi(X86Machine *m, uint64_t address, uint32_t data);

/* ---- state; stopped ---- */

void x86_lapic_get(X86Cpu *c, PtaX86Lapic *state);
/* Whether x86_lapic_set() may have it: BAD_SNAPSHOT. */
bool x86_lapic_check(const X86Cpu *c, const PtaX86Lapic *state, uint64_t apic_base, GError **error);
/* c->tsc_offset is right. */
void x86_lapic_set(X86Cpu *c, const PtaX86Lapic *state, uint64_t apic_base, uint64_t deadline);
uint64_t x86_lapic_deadline(const X86Cpu *c); /* IA32_TSC_DEADLINE */

#endif
