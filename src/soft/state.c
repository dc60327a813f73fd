/*
 * The software CPU's registers as canonical state and back. A state that is set is hostile input
 * (a snapshot, a migration stream, a debugger): it is checked whole before anything changes.
 * While the VP does not run.
 */
#include "config.h"

#include <string.h>

#include "src/partition/x86-state-check.h"
#include "src/soft/soft.h"
#include "src/soft/system.h"

static PtaX86Segment get_segment(const X86Seg *s)
{
    return (PtaX86Segment){ s->base, s->limit, s->selector, s->attrs };
}

static X86Seg set_segment(const PtaX86Segment *s)
{
    return (X86Seg){ s->base, s->limit, s->selector, s->attrs };
}

void x86_get_regs(X86Cpu *c, PtaX86Regs *r)
{
    *r = (PtaX86Regs){ 0 };
    memcpy(r->gpr, c->gpr, sizeof(r->gpr));
    r->rip = c->rip;
    r->rflags = x86_rflags(c);
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        r->seg[i] = get_segment(&c->seg[i]);
    }
    r->tr = get_segment(&c->tr);
    r->ldtr = get_segment(&c->ldtr);
    r->gdtr.base = c->gdtr.base;
    r->gdtr.limit = c->gdtr.limit;
    r->idtr.base = c->idtr.base;
    r->idtr.limit = c->idtr.limit;
    r->cr0 = c->cr0;
    r->cr2 = c->cr2;
    r->cr3 = c->cr3;
    r->cr4 = c->cr4;
    r->cr8 = c->lapic ? x86_lapic_tpr(c) : 0;
    r->efer = c->efer;
    r->xcr0 = c->xcr0;
    r->xss = c->xss;
}

void x86_get_state(X86Cpu *c, PtaX86State *state)
{
    x86_get_regs(c, &state->regs);
    memcpy(state->debug.dr, c->dr, sizeof(c->dr));
    state->debug.dr6 = c->dr6;
    state->debug.dr7 = c->dr7;
    state->msrs = c->msr;
    state->events = c->events;
    state->events.interrupt_shadow = c->shadow;
    x86_fpu_get(c, &state->xsave);
}

/* ---- validity ---- */

static bool bad(GError **error, const char *what, uint64_t value)
{
    return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "%s cannot be 0x%" G_GINT64_MODIFIER "x", what,
                     value);
}

/* A stepper's VP: whoever runs it answers for it, so only what cannot be executed in is refused. */
static bool check_lent(const PtaX86Regs *r, GError **error)
{
    const uint64_t cannot = X86_CR4_LA57 | X86_CR4_FRED;
    bool paging = r->cr0 & X86_CR0_PG;
    if (r->cr0 >> 32 || (paging && !(r->cr0 & X86_CR0_PE))) {
        return bad(error, "CR0", r->cr0);
    }
    if (r->cr4 & cannot) {
        return bad(error, "CR4", r->cr4);
    }
    bool active = (r->efer & X86_EFER_LME) && paging;
    if (!!(r->efer & X86_EFER_LMA) != active || (active && !(r->cr4 & X86_CR4_PAE))) {
        return bad(error, "EFER", r->efer);
    }
    return r->cr8 <= 15 || bad(error, "CR8", r->cr8);
}

static void set_regs(X86Cpu *c, const PtaX86Regs *r)
{
    memcpy(c->gpr, r->gpr, sizeof(r->gpr));
    c->rip = r->rip;
    c->rflags = (r->rflags & ~(uint64_t)X86_STATUS) | 2;
    x86_set_status(c, r->rflags);
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        c->seg[i] = set_segment(&r->seg[i]);
    }
    c->tr = set_segment(&r->tr);
    c->ldtr = set_segment(&r->ldtr);
    c->gdtr.base = r->gdtr.base;
    c->gdtr.limit = r->gdtr.limit;
    c->idtr.base = r->idtr.base;
    c->idtr.limit = r->idtr.limit;
    c->cr0 = r->cr0 | X86_CR0_ET;
    c->cr2 = r->cr2;
    c->cr3 = r->cr3;
    c->cr4 = r->cr4;
    c->efer = r->efer;
    c->xcr0 = r->xcr0;
    c->xss = r->xss;
    /* SDM vol. 3, 24.4.1: the DPL of SS is the CPL. */
    c->cpl = !(r->cr0 & X86_CR0_PE) ? 0
             : r->rflags & X86_VM   ? 3
                                    : (uint8_t)x86_attrs_dpl(r->seg[PTA_X86_SS].attrs);
}

bool x86_set_state(X86Cpu *c, const PtaX86State *state, GError **error)
{
    bool lent = c->machine->stepping;
    if (!(lent ? check_lent(&state->regs, error) && pta_x86_state_check_form(state, error)
               : pta_x86_state_check(c->cpuid, state, error))) {
        return false;
    }
    if (!lent &&
        !x86_xcr0_valid(c, state->regs.xcr0)) { /* components without a place in the area */
        return bad(error, "XCR0", state->regs.xcr0);
    }
    if (!x86_fpu_set(c, &state->xsave, error)) {
        return false;
    }
    set_regs(c, &state->regs);
    memcpy(c->dr, state->debug.dr, sizeof(c->dr));
    c->dr6 = state->debug.dr6 | X86_DR6_FIXED;
    c->dr7 = state->debug.dr7 | X86_DR7_FIXED;
    c->msr = state->msrs;
    c->events = state->events;
    c->events.interrupt_shadow = 0;
    c->shadow = state->events.interrupt_shadow;
    c->gpr[X86_R_ZERO] = 0;
    c->debug_hits = 0;
    c->debugger_hits = 0;
    c->fault_depth = 0;
    c->string_again = false;
    x86_tlb_flush(c, true);
    x86_pdptes_stale(c);
    x86_debug_changed(c); /* single step and shadow as well */
    x86_mode_changed(c);
    return true;
}
