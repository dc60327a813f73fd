/*
 * Model-specific registers (SDM vol. 4). Runs on the VP's thread. What this file does not know goes
 * to the platform (Hyper-V), and what nobody knows is #GP.
 */
#include "config.h"

#include "src/partition/x86-state-check.h"
#include "src/soft/lapic.h"
#include "src/soft/soft.h"
#include "src/soft/system.h"

enum {
    MSR_PLATFORM_ID = 0x17,
    MSR_TSC = 0x10,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_UCODE_WRITE = 0x79,
    MSR_UCODE_REV = 0x8b,
    MSR_PLATFORM_INFO = 0xce,
    MSR_MTRRCAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_FLUSH_CMD = 0x10b,
    MSR_MISC_FEATURES = 0x140,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_LAST_BRANCH_FIRST = 0x1db,
    MSR_LAST_BRANCH_LAST = 0x1de,
    MSR_MTRR_PHYS_FIRST = 0x200,
    MSR_MTRR_PHYS_LAST = 0x20f,
    MSR_MTRR_FIX_64K = 0x250,
    MSR_MTRR_FIX_16K = 0x258,
    MSR_MTRR_FIX_4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_XSS = 0xda0,
};
#define MSR_EFER           UINT32_C(0xc0000080)
#define MSR_STAR           UINT32_C(0xc0000081)
#define MSR_LSTAR          UINT32_C(0xc0000082)
#define MSR_CSTAR          UINT32_C(0xc0000083)
#define MSR_SFMASK         UINT32_C(0xc0000084)
#define MSR_FS_BASE        UINT32_C(0xc0000100)
#define MSR_GS_BASE        UINT32_C(0xc0000101)
#define MSR_KERNEL_GS_BASE UINT32_C(0xc0000102)
#define MSR_TSC_AUX        UINT32_C(0xc0000103)

#define N_VARIABLE_MTRRS   8
/* 8 variable ranges, fixed ranges, write combining (SDM vol. 3, 11.11.1). */
#define MTRRCAP UINT64_C(0x508)
/* A revision other than 0, as a CPU has after the firmware's update. */
#define UCODE_REVISION (UINT64_C(1) << 32)
/* What software may change: fast strings, LIMIT_CPUID, XD disable are the ones that exist. */
#define MISC_ENABLE_WRITABLE (UINT64_C(1) << 0 | UINT64_C(1) << 22 | UINT64_C(1) << 34)

/* ---- memory types: kept and answered, without effect ---- */

static bool beyond_phys(const X86Cpu *c, uint64_t value)
{
    return value >> c->cpuid->phys_bits;
}

static bool phys_base_valid(const X86Cpu *c, uint64_t value)
{
    return !beyond_phys(c, value) && !(value & 0xf00) && pta_x86_mtrr_type_valid(value & 0xff);
}

static bool phys_mask_valid(const X86Cpu *c, uint64_t value)
{
    return !beyond_phys(c, value) && !(value & 0x7ff);
}

static bool def_type_valid(uint64_t value)
{
    return !(value & ~UINT64_C(0xcff)) && pta_x86_mtrr_type_valid(value & 0xff);
}

/* The MTRR that an MSR index names, or NULL. */
static uint64_t *mtrr(X86Cpu *c, uint32_t msr)
{
    PtaX86Mtrrs *m = &c->msr.mtrrs;
    if (msr >= MSR_MTRR_PHYS_FIRST && msr <= MSR_MTRR_PHYS_LAST) {
        unsigned i = (msr - MSR_MTRR_PHYS_FIRST) / 2;
        return msr & 1 ? &m->phys_mask[i] : &m->phys_base[i];
    }
    if (msr == MSR_MTRR_FIX_64K) {
        return &m->fixed[0];
    }
    if (msr >= MSR_MTRR_FIX_16K && msr <= MSR_MTRR_FIX_16K + 1) {
        return &m->fixed[1 + msr - MSR_MTRR_FIX_16K];
    }
    if (msr >= MSR_MTRR_FIX_4K && msr <= MSR_MTRR_FIX_4K + 7) {
        return &m->fixed[3 + msr - MSR_MTRR_FIX_4K];
    }
    return msr == MSR_MTRR_DEF_TYPE ? &m->def_type : NULL;
}

static bool write_mtrr(X86Cpu *c, uint32_t msr, uint64_t *where, uint64_t value)
{
    bool ok;
    if (msr == MSR_MTRR_DEF_TYPE) {
        ok = def_type_valid(value);
    } else if (msr <= MSR_MTRR_PHYS_LAST) {
        ok = msr & 1 ? phys_mask_valid(c, value) : phys_base_valid(c, value);
    } else {
        ok = pta_x86_mtrr_fixed_valid(value);
    }
    if (ok) {
        *where = value;
    }
    return ok;
}

/* ---- speculation ---- */

#define LEAF7_IBRS              (UINT32_C(1) << 26)
#define LEAF7_L1D_FLUSH         (UINT32_C(1) << 28)
#define LEAF7_ARCH_CAPABILITIES (UINT32_C(1) << 29)
#define LEAF8_8_IBPB            (UINT32_C(1) << 12)

static uint32_t leaf7_edx(const X86Cpu *c)
{
    return c->cpuid->identity.leaf7_edx;
}

/* ---- time ---- */

static void move_tsc(X86Cpu *c, uint64_t by)
{
    c->tsc_offset += by;
    x86_lapic_tsc_changed(c);
}

/* ---- all ---- */

static bool is_lapic(uint32_t msr)
{
    return msr == X86_MSR_APIC_BASE || msr == X86_MSR_TSC_DEADLINE ||
           (msr >= X86_MSR_X2APIC_FIRST && msr <= X86_MSR_X2APIC_LAST);
}

/* A stepper's VP has its APIC and its time elsewhere. */
static bool is_elsewhere(const X86Cpu *c, uint32_t msr)
{
    return c->machine->stepping && (is_lapic(msr) || msr == MSR_TSC || msr == MSR_TSC_ADJUST);
}

bool x86_rdmsr(X86Cpu *c, uint32_t msr, uint64_t *value)
{
    const PtaPlatform *p = c->machine->platform;
    if (G_UNLIKELY(is_elsewhere(c, msr))) {
        return p->msr_read && p->msr_read(p->opaque, c->index, msr, value);
    }
    if (is_lapic(msr)) {
        return x86_lapic_rdmsr(c, msr, value);
    }
    const uint64_t *m = mtrr(c, msr);
    if (m) {
        *value = *m;
        return true;
    }
    switch (msr) {
    case MSR_TSC:
        *value = x86_tsc(c);
        break;
    case MSR_TSC_ADJUST:
        *value = c->msr.tsc_adjust;
        break;
    case MSR_UCODE_REV:
        *value = UCODE_REVISION;
        break;
    case MSR_PLATFORM_ID:
    case MSR_PLATFORM_INFO:
    case MSR_MISC_FEATURES:
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_DEBUGCTL:
    case MSR_LAST_BRANCH_FIRST ... MSR_LAST_BRANCH_LAST:
        *value = 0;
        break;
    case MSR_SPEC_CTRL:
        *value = c->msr.spec_ctrl;
        return pta_x86_has_spec_ctrl(c->cpuid);
    case MSR_ARCH_CAPABILITIES:
        *value = 0;
        return leaf7_edx(c) & LEAF7_ARCH_CAPABILITIES;
    case MSR_MTRRCAP:
        *value = MTRRCAP;
        break;
    case MSR_SYSENTER_CS:
        *value = c->msr.sysenter_cs;
        break;
    case MSR_SYSENTER_ESP:
        *value = c->msr.sysenter_esp;
        break;
    case MSR_SYSENTER_EIP:
        *value = c->msr.sysenter_eip;
        break;
    case MSR_MISC_ENABLE:
        *value = c->msr.misc_enable;
        break;
    case MSR_PAT:
        *value = c->msr.pat;
        break;
    case MSR_EFER:
        *value = c->efer;
        break;
    case MSR_STAR:
        *value = c->msr.star;
        break;
    case MSR_LSTAR:
        *value = c->msr.lstar;
        break;
    case MSR_CSTAR:
        *value = c->msr.cstar;
        break;
    case MSR_SFMASK:
        *value = c->msr.sfmask;
        break;
    case MSR_FS_BASE:
        *value = c->seg[PTA_X86_FS].base;
        break;
    case MSR_GS_BASE:
        *value = c->seg[PTA_X86_GS].base;
        break;
    case MSR_KERNEL_GS_BASE:
        *value = c->msr.kernel_gs_base;
        break;
    case MSR_TSC_AUX:
        *value = c->msr.tsc_aux;
        return pta_cpuid_has(c->cpuid, PTA_X86_FEAT_RDTSCP);
    case MSR_XSS:
        *value = c->xss;
        return pta_cpuid_has(c->cpuid, PTA_X86_FEAT_XSAVES);
    default:
        if (p->msr_read && p->msr_read(p->opaque, c->index, msr, value)) {
            return true;
        }
        PTA_TRACE(PTA_TRACE_MSR, "vp %u: rdmsr %#x is unknown", c->index, msr);
        return false;
    }
    return true;
}

static bool write_address(uint64_t *where, uint64_t value)
{
    if (!x86_canonical(value)) {
        return false;
    }
    *where = value;
    return true;
}

static bool write_base(X86Cpu *c, unsigned seg, uint64_t value)
{
    if (!x86_canonical(value)) {
        return false;
    }
    c->seg[seg].base = c->seg_base[seg] = value;
    return true;
}

static bool write_lapic(X86Cpu *c, uint32_t msr, uint64_t value)
{
    uint64_t base = c->msr.apic_base;
    if (!x86_lapic_wrmsr(c, msr, value)) {
        return false;
    }
    if (c->msr.apic_base != base) {
        x86_tlb_flush(c, true); /* another page is, or is not, the APIC's */
    }
    return true;
}

bool x86_wrmsr(X86Cpu *c, uint32_t msr, uint64_t value)
{
    const PtaPlatform *p = c->machine->platform;
    if (G_UNLIKELY(is_elsewhere(c, msr))) {
        return p->msr_write && p->msr_write(p->opaque, c->index, msr, value);
    }
    if (is_lapic(msr)) {
        return write_lapic(c, msr, value);
    }
    uint64_t *m = mtrr(c, msr);
    if (m) {
        return write_mtrr(c, msr, m, value);
    }
    switch (msr) {
    case MSR_TSC: {
        uint64_t by = value - x86_tsc(c);
        c->msr.tsc_adjust += by;
        move_tsc(c, by);
        return true;
    }
    case MSR_TSC_ADJUST: {
        uint64_t by = value - c->msr.tsc_adjust;
        c->msr.tsc_adjust = value;
        move_tsc(c, by);
        return true;
    }
    case MSR_UCODE_REV: /* written before CPUID fetches the revision */
    case MSR_UCODE_WRITE:
        return true;
    case MSR_MISC_FEATURES:
    case MSR_MCG_STATUS:
        return value == 0;
    case MSR_DEBUGCTL:
        return (value & ~UINT64_C(3)) == 0; /* no branch records: LBR and BTF do nothing */
    /* A guest that has been on another CPU goes on with its precautions: nothing here speculates. */
    case MSR_SPEC_CTRL:
        if (value >> 32 || !pta_x86_has_spec_ctrl(c->cpuid)) {
            return false;
        }
        c->msr.spec_ctrl = value;
        return true;
    case MSR_PRED_CMD:
        return (value & ~UINT64_C(1)) == 0 &&
               ((leaf7_edx(c) & LEAF7_IBRS) || (c->cpuid->identity.leaf8_8_ebx & LEAF8_8_IBPB));
    case MSR_FLUSH_CMD:
        return (value & ~UINT64_C(1)) == 0 && (leaf7_edx(c) & LEAF7_L1D_FLUSH);
    case MSR_SYSENTER_CS:
        c->msr.sysenter_cs = (uint32_t)value;
        return true;
    case MSR_SYSENTER_ESP:
        return write_address(&c->msr.sysenter_esp, value);
    case MSR_SYSENTER_EIP:
        return write_address(&c->msr.sysenter_eip, value);
    case MSR_MISC_ENABLE:
        c->msr.misc_enable =
            (c->msr.misc_enable & ~MISC_ENABLE_WRITABLE) | (value & MISC_ENABLE_WRITABLE);
        return true;
    case MSR_PAT:
        if (!pta_x86_pat_valid(value)) {
            return false;
        }
        c->msr.pat = value;
        return true;
    case MSR_EFER:
        return x86_set_efer(c, value);
    case MSR_STAR:
        c->msr.star = value;
        return true;
    case MSR_LSTAR:
        return write_address(&c->msr.lstar, value);
    case MSR_CSTAR:
        return write_address(&c->msr.cstar, value);
    case MSR_SFMASK:
        c->msr.sfmask = (uint32_t)value;
        return true;
    case MSR_FS_BASE:
        return write_base(c, PTA_X86_FS, value);
    case MSR_GS_BASE:
        return write_base(c, PTA_X86_GS, value);
    case MSR_KERNEL_GS_BASE:
        return write_address(&c->msr.kernel_gs_base, value);
    case MSR_TSC_AUX:
        if (value >> 32 || !pta_cpuid_has(c->cpuid, PTA_X86_FEAT_RDTSCP)) {
            return false;
        }
        c->msr.tsc_aux = value;
        return true;
    case MSR_XSS: /* there are no supervisor components */
        return value == c->xss && pta_cpuid_has(c->cpuid, PTA_X86_FEAT_XSAVES);
    default:
        if (p->msr_write && p->msr_write(p->opaque, c->index, msr, value)) {
            return true;
        }
        PTA_TRACE(PTA_TRACE_MSR, "vp %u: wrmsr %#x is unknown", c->index, msr);
        return false;
    }
}
