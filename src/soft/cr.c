/*
 * Control registers and EFER: reserved bits, the transitions between modes that they make, and the
 * translations that a change ends. SDM vol. 3, 2.5, 4.10.4.1, 9.8.5. Runs on the VP's thread.
 */
#include "config.h"

#include "src/partition/x86-state-check.h"
#include "src/soft/system.h"

/* PAE paging without long mode: the only kind with PDPTE registers. */
static bool uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) && !(efer & X86_EFER_LMA);
}

bool x86_set_cr0(X86Cpu *c, uint64_t value)
{
    const uint64_t known = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET |
                           X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD |
                           X86_CR0_PG;
    if (value >> 32) {
        return false;
    }
    value = (value & known) | X86_CR0_ET;
    if ((value & (X86_CR0_PG | X86_CR0_PE)) == X86_CR0_PG ||
        (value & (X86_CR0_NW | X86_CR0_CD)) == X86_CR0_NW) {
        return false;
    }
    uint64_t changed = c->cr0 ^ value;
    uint64_t efer = c->efer;
    bool in_64bit_code = (efer & X86_EFER_LMA) && (c->seg[PTA_X86_CS].attrs & X86_ATTR_L);
    if (changed & value & X86_CR0_PG) {
        if (efer & X86_EFER_LME) {
            bool tss16 = x86_is_system(c->tr.attrs, X86_TYPE_TSS16_BUSY) &&
                         !(c->tr.attrs & PTA_X86_SEG_UNUSABLE);
            if (!(c->cr4 & X86_CR4_PAE) || (c->seg[PTA_X86_CS].attrs & X86_ATTR_L) || tss16) {
                return false;
            }
            efer |= X86_EFER_LMA;
        }
    } else if (changed & X86_CR0_PG) {
        if (in_64bit_code || (c->cr4 & X86_CR4_PCIDE)) {
            return false;
        }
        efer &= ~X86_EFER_LMA;
    }
    if (uses_pdptes(value, c->cr4, efer) && (changed & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)) &&
        !x86_load_pdptes(c, c->cr3)) {
        return false;
    }
    c->cr0 = value;
    c->efer = efer;
    if (changed & X86_CR0_PE) {
        c->cpl = 0;
    }
    if (changed & (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE)) {
        x86_tlb_flush(c, true);
    }
    x86_mode_changed(c);
    return true;
}

bool x86_set_cr3(X86Cpu *c, uint64_t value)
{
    if (x86_in_long_mode(c)) {
        if (c->cr4 & X86_CR4_PCIDE) {
            value &= ~(UINT64_C(1) << 63); /* "need not flush": may all the same */
        }
        if (value >> c->cpuid->phys_bits) {
            return false;
        }
    } else if (uses_pdptes(c->cr0, c->cr4, c->efer) && !x86_load_pdptes(c, value)) {
        return false;
    }
    c->cr3 = value;
    x86_tlb_flush(c, false);
    return true;
}

bool x86_set_cr4(X86Cpu *c, uint64_t value)
{
    const uint64_t paging =
        X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP | X86_CR4_SMAP;
    uint64_t changed = c->cr4 ^ value;
    if (value & ~pta_x86_cr4_known(c->cpuid)) {
        return false;
    }
    if (x86_in_long_mode(c) && !(value & X86_CR4_PAE)) {
        return false;
    }
    if ((changed & value & X86_CR4_PCIDE) && (!x86_in_long_mode(c) || (c->cr3 & 0xfff))) {
        return false;
    }
    if (uses_pdptes(c->cr0, value, c->efer) && (changed & paging) && !x86_load_pdptes(c, c->cr3)) {
        return false;
    }
    c->cr4 = value;
    if (changed & paging) {
        x86_tlb_flush(c, true);
    }
    x86_mode_changed(c);
    return true;
}

bool x86_set_efer(X86Cpu *c, uint64_t value)
{
    if (value & ~(X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)) {
        return false;
    }
    uint64_t changed = c->efer ^ value;
    if ((changed & X86_EFER_LME) && (c->cr0 & X86_CR0_PG)) {
        return false;
    }
    c->efer = (value & ~X86_EFER_LMA) | (c->efer & X86_EFER_LMA);
    if (changed & X86_EFER_NXE) {
        x86_tlb_flush(c, true);
    }
    return true;
}
