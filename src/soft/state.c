/*
 * The software CPU's registers as canonical state and back. A state that is set is hostile input
 * (a snapshot, a migration stream, a debugger): it is checked whole before anything changes.
 * While the VP does not run.
 */
#include "config.h"

#include <string.h>

#include "src/soft/soft.h"
#include "src/soft/system.h"

#define RFLAGS_KNOWN                                                                        \
    (X86_STATUS | X86_TF | X86_IF | X86_DF | X86_IOPL | X86_NT | X86_RF | X86_VM | X86_AC | \
     X86_VIF | X86_VIP | X86_ID | 2)
#define ATTRS_KNOWN (0xf0ff | PTA_X86_SEG_UNUSABLE)

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

static bool check_control(const X86Cpu *c, const PtaX86Regs *r, GError **error)
{
    bool paging = r->cr0 & X86_CR0_PG;
    if (r->cr0 >> 32 || (paging && !(r->cr0 & X86_CR0_PE)) ||
        (r->cr0 & (X86_CR0_NW | X86_CR0_CD)) == X86_CR0_NW) {
        return bad(error, "CR0", r->cr0);
    }
    if (r->cr4 & ~x86_cr4_known(c)) {
        return bad(error, "CR4", r->cr4);
    }
    if (r->efer & ~(X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)) {
        return bad(error, "EFER", r->efer);
    }
    bool active = (r->efer & X86_EFER_LME) && paging;
    if (!!(r->efer & X86_EFER_LMA) != active || (active && !(r->cr4 & X86_CR4_PAE))) {
        return bad(error, "EFER", r->efer);
    }
    if ((r->cr4 & X86_CR4_PCIDE) && !active) {
        return bad(error, "CR4", r->cr4);
    }
    if (r->cr3 >> c->cpuid->phys_bits) {
        return bad(error, "CR3", r->cr3);
    }
    if (r->cr8 > 15) {
        return bad(error, "CR8", r->cr8);
    }
    if (r->xss != 0) {
        return bad(error, "XSS", r->xss);
    }
    uint64_t known = pta_cpuid_has(c->cpuid, PTA_X86_FEAT_AVX) ? 7 : 3;
    if ((r->xcr0 & ~known) || (r->xcr0 & 6) == 4) {
        return bad(error, "XCR0", r->xcr0);
    }
    return true;
}

static bool check_segments(const PtaX86Regs *r, GError **error)
{
    static const char *const names[] = { "ES", "CS", "SS", "DS", "FS", "GS" };
    bool active = r->efer & X86_EFER_LMA;
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        if (!x86_canonical(r->seg[i].base) || (r->seg[i].attrs & ~ATTRS_KNOWN)) {
            return bad(error, names[i], r->seg[i].attrs);
        }
        if (i < PTA_X86_FS && r->seg[i].base >> 32) {
            return bad(error, names[i], r->seg[i].base);
        }
    }
    const PtaX86Segment *cs = &r->seg[PTA_X86_CS];
    bool wide = active && (cs->attrs & X86_ATTR_L);
    if (wide && (cs->attrs & X86_ATTR_DB)) {
        return bad(error, "CS", cs->attrs);
    }
    if (wide ? !x86_canonical(r->rip) : r->rip >> 32) {
        return bad(error, "RIP", r->rip);
    }
    const PtaX86Segment *system[] = { &r->tr, &r->ldtr };
    for (unsigned i = 0; i < G_N_ELEMENTS(system); i++) {
        if (!x86_canonical(system[i]->base) || (system[i]->attrs & ~ATTRS_KNOWN)) {
            return bad(error, i ? "LDTR" : "TR", system[i]->attrs);
        }
    }
    if (!x86_canonical(r->gdtr.base) || !x86_canonical(r->idtr.base)) {
        return bad(error, "a descriptor table's base", r->gdtr.base);
    }
    if ((r->rflags & ~(uint64_t)RFLAGS_KNOWN) || !(r->rflags & 2) ||
        ((r->rflags & X86_VM) && (active || !(r->cr0 & X86_CR0_PE)))) {
        return bad(error, "RFLAGS", r->rflags);
    }
    return true;
}

static bool check_msrs(const X86Cpu *c, const PtaX86Msrs *m, GError **error)
{
    const uint64_t addresses[] = { m->lstar, m->cstar, m->kernel_gs_base, m->sysenter_esp,
                                   m->sysenter_eip };
    for (unsigned i = 0; i < G_N_ELEMENTS(addresses); i++) {
        if (!x86_canonical(addresses[i])) {
            return bad(error, "an address in an MSR", addresses[i]);
        }
    }
    if (!x86_pat_valid(m->pat)) {
        return bad(error, "PAT", m->pat);
    }
    if (!x86_mtrrs_valid(c, &m->mtrrs)) {
        return bad(error, "an MTRR", m->mtrrs.def_type);
    }
    if (m->sfmask >> 32 || m->sysenter_cs >> 32 || m->tsc_aux >> 32) {
        return bad(error, "SFMASK, SYSENTER_CS or TSC_AUX", m->sfmask);
    }
    if (m->spec_ctrl != 0) {
        return bad(error, "SPEC_CTRL", m->spec_ctrl);
    }
    return true;
}

static bool check_rest(const PtaX86State *s, GError **error)
{
    const PtaX86Events *e = &s->events;
    if (s->debug.dr6 >> 32 || s->debug.dr7 >> 32) {
        return bad(error, "DR6 or DR7", s->debug.dr7);
    }
    if (e->activity > PTA_X86_SHUTDOWN) {
        return bad(error, "the activity", e->activity);
    }
    if (e->interrupt_shadow > 3 || e->nmi_pending > 1 || e->nmi_blocked > 1 || e->smi_blocked > 1 ||
        e->exception_pending > 1 || e->has_error_code > 1) {
        return bad(error, "an event flag", e->interrupt_shadow);
    }
    if (e->exception_pending && (e->vector > 31 || e->vector == X86_NMI)) {
        return bad(error, "the pending exception", e->vector);
    }
    return true;
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
    /* SDM vol. 3, 24.4.1: the DPL of SS is the CPL. */
    c->cpl = !(r->cr0 & X86_CR0_PE) ? 0
             : r->rflags & X86_VM   ? 3
                                    : (uint8_t)x86_attrs_dpl(r->seg[PTA_X86_SS].attrs);
}

bool x86_set_state(X86Cpu *c, const PtaX86State *state, GError **error)
{
    bool lent = c->machine->stepping;
    if (!(lent ? check_lent(&state->regs, error) : check_control(c, &state->regs, error)) ||
        !check_segments(&state->regs, error) || !(lent || check_msrs(c, &state->msrs, error)) ||
        !check_rest(state, error) || !x86_fpu_set(c, &state->xsave, error)) {
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
