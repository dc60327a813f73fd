/* What a saved state may say (SDM vol. 3, 26.3.1 names most of it). Pure functions. */
#include "config.h"

#include "src/partition/x86-state-check.h"

#include <inttypes.h>
#include <string.h>

#define BIT(n)       (UINT64_C(1) << (n))

#define CR0_PE       BIT(0)
#define CR0_NW       BIT(29)
#define CR0_CD       BIT(30)
#define CR0_PG       BIT(31)

#define CR4_PAE      BIT(5)
#define CR4_UMIP     BIT(11)
#define CR4_FSGSBASE BIT(16)
#define CR4_PCIDE    BIT(17)
#define CR4_OSXSAVE  BIT(18)
#define CR4_SMEP     BIT(20)
#define CR4_SMAP     BIT(21)
/* TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT */
#define CR4_BASE UINT64_C(0x7fc)

#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
/* SCE, LME, LMA, NXE */
#define EFER_KNOWN (BIT(0) | EFER_LME | EFER_LMA | BIT(11))

#define RFLAGS_VM  BIT(17)
/* All that are defined. */
#define RFLAGS_KNOWN UINT64_C(0x3f7fd7)

#define ATTRS_KNOWN  (0xf0ff | PTA_X86_SEG_UNUSABLE)
#define ATTR_L       BIT(13)
#define ATTR_DB      BIT(14)

#define XCR0_X87     BIT(0)
#define XCR0_SSE     BIT(1)
#define XCR0_AVX     BIT(2)

#define MXCSR_KNOWN  UINT32_C(0xffff)

#define VECTOR_NMI   2

static bool bad(GError **error, const char *what, uint64_t value)
{
    return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "%s cannot be 0x%" PRIx64, what, value);
}

static bool canonical(uint64_t address)
{
    int64_t high = (int64_t)address >> 47;
    return high == 0 || high == -1;
}

/* ---- control registers ---- */

uint64_t pta_x86_cr4_known(const PtaCpuidTable *t)
{
    static const struct {
        PtaX86Feature feature;
        uint64_t bit;
    } bits[] = {
        { PTA_X86_FEAT_UMIP, CR4_UMIP },  { PTA_X86_FEAT_FSGSBASE, CR4_FSGSBASE },
        { PTA_X86_FEAT_PCID, CR4_PCIDE }, { PTA_X86_FEAT_XSAVE, CR4_OSXSAVE },
        { PTA_X86_FEAT_SMEP, CR4_SMEP },  { PTA_X86_FEAT_SMAP, CR4_SMAP },
    };
    uint64_t known = CR4_BASE;
    for (size_t i = 0; i < G_N_ELEMENTS(bits); i++) {
        known |= pta_cpuid_has(t, bits[i].feature) ? bits[i].bit : 0;
    }
    return known;
}

static bool check_xcr0(const PtaCpuidTable *t, const PtaX86Regs *r, GError **error)
{
    uint64_t known = XCR0_X87 | XCR0_SSE;
    if (pta_cpuid_has(t, PTA_X86_FEAT_AVX)) {
        known |= XCR0_AVX;
    }
    if (!pta_cpuid_has(t, PTA_X86_FEAT_XSAVE)) {
        known = XCR0_X87;
    }
    if ((r->xcr0 & ~known) || !(r->xcr0 & XCR0_X87) ||
        (r->xcr0 & (XCR0_SSE | XCR0_AVX)) == XCR0_AVX) {
        return bad(error, "XCR0", r->xcr0);
    }
    return r->xss == 0 || bad(error, "XSS", r->xss);
}

static bool check_control(const PtaCpuidTable *t, const PtaX86Regs *r, GError **error)
{
    bool paging = r->cr0 & CR0_PG;
    if (r->cr0 >> 32 || (paging && !(r->cr0 & CR0_PE)) || (r->cr0 & (CR0_NW | CR0_CD)) == CR0_NW) {
        return bad(error, "CR0", r->cr0);
    }
    if (r->cr4 & ~pta_x86_cr4_known(t)) {
        return bad(error, "CR4", r->cr4);
    }
    if (r->efer & ~EFER_KNOWN) {
        return bad(error, "EFER", r->efer);
    }
    bool active = (r->efer & EFER_LME) && paging;
    if (!!(r->efer & EFER_LMA) != active || (active && !(r->cr4 & CR4_PAE))) {
        return bad(error, "EFER", r->efer);
    }
    if ((r->cr4 & CR4_PCIDE) && !active) {
        return bad(error, "CR4", r->cr4);
    }
    if (r->cr3 >> t->phys_bits) {
        return bad(error, "CR3", r->cr3);
    }
    return r->cr8 <= 15 || bad(error, "CR8", r->cr8);
}

/* ---- segments ---- */

static bool check_code(const PtaX86Regs *r, GError **error)
{
    bool active = r->efer & EFER_LMA;
    const PtaX86Segment *cs = &r->seg[PTA_X86_CS];
    bool wide = active && (cs->attrs & ATTR_L);
    if (wide && (cs->attrs & ATTR_DB)) {
        return bad(error, "CS", cs->attrs);
    }
    if (wide ? !canonical(r->rip) : r->rip >> 32 != 0) {
        return bad(error, "RIP", r->rip);
    }
    if ((r->rflags & ~RFLAGS_KNOWN) || !(r->rflags & 2) ||
        ((r->rflags & RFLAGS_VM) && (active || !(r->cr0 & CR0_PE)))) {
        return bad(error, "RFLAGS", r->rflags);
    }
    return true;
}

static bool check_segments(const PtaX86Regs *r, GError **error)
{
    static const char *const names[] = { "ES", "CS", "SS", "DS", "FS", "GS" };
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        const PtaX86Segment *s = &r->seg[i];
        if (s->attrs & ~ATTRS_KNOWN) {
            return bad(error, names[i], s->attrs);
        }
        if (i < PTA_X86_FS ? s->base >> 32 != 0 : !canonical(s->base)) {
            return bad(error, names[i], s->base);
        }
    }
    const PtaX86Segment *system[] = { &r->tr, &r->ldtr };
    for (unsigned i = 0; i < G_N_ELEMENTS(system); i++) {
        if (!canonical(system[i]->base) || (system[i]->attrs & ~ATTRS_KNOWN)) {
            return bad(error, i ? "LDTR" : "TR", system[i]->attrs);
        }
    }
    if (!canonical(r->gdtr.base) || !canonical(r->idtr.base)) {
        return bad(error, "a descriptor table's base", r->gdtr.base);
    }
    return true;
}

/* ---- MSRs ---- */

bool pta_x86_pat_valid(uint64_t pat)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = pat >> (i * 8) & 0xff;
        if (type > 7 || type == 2 || type == 3) {
            return false;
        }
    }
    return true;
}

bool pta_x86_mtrr_type_valid(unsigned type)
{
    return type <= 6 && type != 2 && type != 3;
}

bool pta_x86_mtrr_fixed_valid(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        if (!pta_x86_mtrr_type_valid(value >> (i * 8) & 0xff)) {
            return false;
        }
    }
    return true;
}

static bool check_mtrrs(const PtaCpuidTable *t, const PtaX86Mtrrs *m, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(m->fixed); i++) {
        if (!pta_x86_mtrr_fixed_valid(m->fixed[i])) {
            return bad(error, "a fixed MTRR", m->fixed[i]);
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(m->phys_base); i++) {
        uint64_t base = m->phys_base[i], mask = m->phys_mask[i];
        if (base >> t->phys_bits || (base & 0xf00) || !pta_x86_mtrr_type_valid(base & 0xff)) {
            return bad(error, "the base of an MTRR", base);
        }
        if (mask >> t->phys_bits || (mask & 0x7ff)) {
            return bad(error, "the mask of an MTRR", mask);
        }
    }
    if ((m->def_type & ~UINT64_C(0xcff)) || !pta_x86_mtrr_type_valid(m->def_type & 0xff)) {
        return bad(error, "MTRR_DEF_TYPE", m->def_type);
    }
    return true;
}

static uint32_t leaf(const PtaCpuidTable *t, uint32_t function, unsigned reg)
{
    uint32_t out[4];
    pta_cpuid_query(t, 0, 0, 1, function, 0, out);
    return out[reg];
}

/* IBRS and IBPB, STIBP, SSBD: Intel's bits, AMD's bits. */
bool pta_x86_has_spec_ctrl(const PtaCpuidTable *t)
{
    return (leaf(t, 7, 3) & (BIT(26) | BIT(27) | BIT(31))) ||
           (leaf(t, 0x80000008, 1) & (BIT(14) | BIT(15) | BIT(24)));
}

static bool check_msrs(const PtaCpuidTable *t, const PtaX86Msrs *m, GError **error)
{
    const uint64_t addresses[] = { m->lstar, m->cstar, m->kernel_gs_base, m->sysenter_esp,
                                   m->sysenter_eip };
    for (unsigned i = 0; i < G_N_ELEMENTS(addresses); i++) {
        if (!canonical(addresses[i])) {
            return bad(error, "an address in an MSR", addresses[i]);
        }
    }
    if (!pta_x86_pat_valid(m->pat)) {
        return bad(error, "PAT", m->pat);
    }
    if (m->sfmask >> 32) {
        return bad(error, "SFMASK", m->sfmask);
    }
    if (m->sysenter_cs >> 32) {
        return bad(error, "SYSENTER_CS", m->sysenter_cs);
    }
    if (m->tsc_aux >> 32) {
        return bad(error, "TSC_AUX", m->tsc_aux);
    }
    /* Which of its bits there are, the CPU says. */
    if (m->spec_ctrl >> 32 || (m->spec_ctrl != 0 && !pta_x86_has_spec_ctrl(t))) {
        return bad(error, "SPEC_CTRL", m->spec_ctrl);
    }
    return check_mtrrs(t, &m->mtrrs, error);
}

/* ---- the rest ---- */

/* SDM vol. 3, table 6-1: #DF #TS #NP #SS #GP #PF #AC #CP. */
static bool has_error_code(unsigned vector)
{
    return vector < 32 && (UINT32_C(0x227d00) >> vector & 1);
}

static bool check_events(const PtaX86Events *e, GError **error)
{
    if (e->activity > PTA_X86_SHUTDOWN) {
        return bad(error, "the activity", e->activity);
    }
    if (e->interrupt_shadow > 3) {
        return bad(error, "the interrupt shadow", e->interrupt_shadow);
    }
    if (e->nmi_pending > 1 || e->nmi_blocked > 1 || e->smi_blocked > 1 ||
        e->exception_pending > 1 || e->has_error_code > 1) {
        return bad(error, "an event flag",
                   e->nmi_pending | e->nmi_blocked | e->smi_blocked | e->exception_pending |
                       e->has_error_code);
    }
    if (e->exception_pending && (e->vector > 31 || e->vector == VECTOR_NMI)) {
        return bad(error, "the pending exception", e->vector);
    }
    if (e->exception_pending && e->has_error_code && !has_error_code(e->vector)) {
        return bad(error, "the error code of the pending exception", e->error_code);
    }
    return true;
}

static bool check_fpu(const PtaX86Xsave *x, GError **error)
{
    uint32_t mxcsr;
    memcpy(&mxcsr, x->area + 24, sizeof(mxcsr));
    mxcsr = GUINT32_FROM_LE(mxcsr);
    return (mxcsr & ~MXCSR_KNOWN) == 0 ||
           pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                     "FPU state: MXCSR is 0x%x, which has reserved bits", mxcsr);
}

bool pta_x86_state_check_form(const PtaX86State *s, GError **error)
{
    if (s->debug.dr6 >> 32) {
        return bad(error, "DR6", s->debug.dr6);
    }
    if (s->debug.dr7 >> 32) {
        return bad(error, "DR7", s->debug.dr7);
    }
    return check_segments(&s->regs, error) && check_code(&s->regs, error) &&
           check_events(&s->events, error) && check_fpu(&s->xsave, error);
}

bool pta_x86_state_check(const PtaCpuidTable *cpuid, const PtaX86State *s, GError **error)
{
    return check_control(cpuid, &s->regs, error) && check_xcr0(cpuid, &s->regs, error) &&
           check_msrs(cpuid, &s->msrs, error) && pta_x86_state_check_form(s, error);
}

/* ---- the local APIC ---- */

/* Registers by offset / 16, and the bits that a saved one may have. */
typedef struct ApicReg {
    uint8_t first, last;
    const char *name;
    uint32_t known;
} ApicReg;

static const ApicReg apic_regs[] = {
    { 0x08, 0x08, "TPR", 0xff },       { 0x0f, 0x0f, "SVR", 0x13ff },
    { 0x10, 0x10, "ISR", 0xffff0000 }, { 0x18, 0x18, "TMR", 0xffff0000 },
    { 0x20, 0x20, "IRR", 0xffff0000 }, { 0x33, 0x34, "LVT", 0x107ff },
    { 0x35, 0x36, "LINT", 0x1a7ff },   { 0x37, 0x37, "the error LVT", 0x100ff },
    { 0x3e, 0x3e, "DCR", 0xb },
};

static uint32_t page_get(const PtaX86Lapic *l, unsigned reg)
{
    uint32_t v;
    memcpy(&v, l->page + (size_t)reg * 16, sizeof(v));
    return GUINT32_FROM_LE(v);
}

static bool bad_reg(GError **error, const char *name, uint32_t value)
{
    return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "lapic: %s cannot be 0x%x", name, value);
}

static bool check_base(const PtaCpuidTable *t, uint64_t base, GError **error)
{
    const uint64_t extd = BIT(10), enable = BIT(11);
    uint64_t reserved = 0x2ff | ~(BIT(t->phys_bits) - 1);
    if ((base & reserved) || (base & (extd | enable)) == extd ||
        ((base & extd) && !pta_cpuid_has(t, PTA_X86_FEAT_X2APIC))) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "apic_base: 0x%" PRIx64 " cannot be", base);
    }
    return true;
}

bool pta_x86_lapic_check(const PtaCpuidTable *t, unsigned vp, const PtaX86Lapic *l, uint64_t base,
                         GError **error)
{
    if (!check_base(t, base, error)) {
        return false;
    }
    uint32_t id = page_get(l, 0x02);
    if (base & BIT(10) ? id != vp : (id & 0xffffff) != 0) {
        return bad_reg(error, "ID", id);
    }
    if ((page_get(l, 0x0e) & 0x0fffffff) != 0x0fffffff) {
        return bad_reg(error, "DFR", page_get(l, 0x0e));
    }
    uint32_t timer = page_get(l, 0x32);
    uint32_t known = pta_cpuid_has(t, PTA_X86_FEAT_TSC_DEADLINE) ? 0x700ff : 0x300ff;
    if (timer & ~known) {
        return bad_reg(error, "the timer's LVT", timer);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(apic_regs); i++) {
        const ApicReg *r = &apic_regs[i];
        for (unsigned reg = r->first; reg <= r->last; reg++) {
            if (page_get(l, reg) & ~r->known) {
                return bad_reg(error, r->name, page_get(l, reg));
            }
        }
    }
    return true;
}
