/*
 * CPU models: named feature sets (x86-64 psABI levels), rendered as CPUID leaves. The same table
 * feeds every back end, so a machine saved on one runs on another.
 */
#ifndef PTA_X86_CPUID_H
#define PTA_X86_CPUID_H

#include "src/util/util.h"

/* Feature words that handlers and the CPUID leaves are keyed by. BASE is what x86-64-v1 has. */
typedef enum PtaX86Feature {
    PTA_X86_FEAT_BASE, /* 64-bit mode, CMOV, CX8, FPU, FXSR, MMX, SSE, SSE2, SYSCALL, NX, … */
    PTA_X86_FEAT_CX16,
    PTA_X86_FEAT_LAHF64,
    PTA_X86_FEAT_POPCNT,
    PTA_X86_FEAT_SSE3,
    PTA_X86_FEAT_SSSE3,
    PTA_X86_FEAT_SSE41,
    PTA_X86_FEAT_SSE42,
    PTA_X86_FEAT_AVX,
    PTA_X86_FEAT_AVX2,
    PTA_X86_FEAT_BMI1,
    PTA_X86_FEAT_BMI2,
    PTA_X86_FEAT_F16C,
    PTA_X86_FEAT_FMA,
    PTA_X86_FEAT_LZCNT,
    PTA_X86_FEAT_MOVBE,
    PTA_X86_FEAT_XSAVE,
    PTA_X86_FEAT_SMEP,
    PTA_X86_FEAT_SMAP,
    PTA_X86_FEAT_UMIP,
    PTA_X86_FEAT_RDRAND,
    PTA_X86_FEAT_RDSEED,
    PTA_X86_FEAT_FSGSBASE,
    PTA_X86_FEAT_RDTSCP,
    PTA_X86_FEAT_PCID,
    PTA_X86_FEAT_1GPAGES,
    PTA_X86_FEAT_X2APIC,
    PTA_X86_FEAT_TSC_DEADLINE,
    PTA_X86_FEAT_CLFLUSHOPT,
    PTA_X86_FEAT_ERMS,
    PTA_X86_FEAT_XSAVEOPT,
    PTA_X86_FEAT_XSAVEC,
    PTA_X86_FEAT_XGETBV1,
    PTA_X86_FEAT_XSAVES,
    PTA_X86_N_FEATURES,
} PtaX86Feature;

typedef enum PtaHypervisorKind {
    PTA_HYPERVISOR_HYPERV,
    PTA_HYPERVISOR_KVM,
    PTA_HYPERVISOR_NONE,
} PtaHypervisorKind;

typedef struct PtaCpuidLeaf {
    uint32_t function;
    uint32_t index;
    bool indexed; /* the answer depends on ECX */
    uint32_t eax, ebx, ecx, edx;
} PtaCpuidLeaf;

/* Whom a guest takes the CPU for, and what it says of its speculation: not part of a model. */
typedef struct PtaX86Identity {
    char vendor[13];      /* "GenuineIntel", in the order EBX, EDX, ECX of leaf 0 */
    uint32_t signature;   /* EAX of leaf 1: family, model, stepping */
    uint32_t leaf7_edx;   /* controls of speculation: bits 10 and 26 to 31 of EDX of leaf 7 */
    uint32_t leaf8_8_ebx; /* AMD's: bits 12 and up of EBX of leaf 80000008H */
    uint8_t phys_bits;    /* width of a physical address, if it is less than the model's */
} PtaX86Identity;

/* What of leaves 7 and 80000008H an identity may have: MD_CLEAR and IBRS to SSBD; IBPB and what follows it, but
 * for VIRT_SSBD, whose MSR no state has. */
#define PTA_X86_LEAF7_SPECULATION   UINT32_C(0xfc000400)
#define PTA_X86_LEAF8_8_SPECULATION UINT32_C(0xfdfff000)

bool pta_x86_identity_equal(const PtaX86Identity *a, const PtaX86Identity *b);

/* Of a TSC: below, Hyper-V's reference TSC page has no scale; above, nanoseconds times frequency does not fit
 * into 64 bits a second. */
#define PTA_MIN_TSC_HZ       UINT64_C(20000000)
#define PTA_MAX_TSC_HZ       UINT64_C(10000000000)

#define PTA_CPUID_MAX_LEAVES 48
typedef struct PtaCpuidTable {
    uint64_t features; /* bit per PtaX86Feature */
    unsigned n_leaves;
    unsigned n_vps;
    PtaCpuidLeaf leaves[PTA_CPUID_MAX_LEAVES];
    uint32_t max_basic, max_hypervisor, max_extended;
    uint8_t phys_bits, virt_bits;
    PtaX86Identity identity; /* phys_bits: as above */
} PtaCpuidTable;

static inline bool pta_cpuid_has(const PtaCpuidTable *t, PtaX86Feature f)
{
    return t->features >> f & 1;
}

typedef struct PtaCpuidParams {
    const char *model; /* "x86-64-v1" …; NULL: the first default */
    PtaHypervisorKind hypervisor;
    unsigned n_vps;
    uint64_t tsc_hz, apic_hz;
    uint64_t supported;             /* features that the back end can serve */
    const PtaX86Identity *identity; /* NULL: the software CPU's */
} PtaCpuidParams;

/* Where CPUID with ECX 0 says that a feature is there (reg: 0 EAX to 3 EDX). False: nowhere. */
bool pta_cpuid_feature_bit(PtaX86Feature feature, uint32_t *function, unsigned *reg, unsigned *bit);

/* Errors: BAD_DESCRIPTION (unknown model: lists the known ones), UNSUPPORTED (lists the features
 * that the back end lacks). */
bool pta_cpuid_build(PtaCpuidTable *table, const PtaCpuidParams *params, GError **error);

/* "x86-64-v1, cx16, …", in the order of the bits; free with g_free. */
char *pta_cpuid_list_features(uint64_t features);

/* The CPUID instruction of VP `vp`: APIC ids patched in; leaves beyond the maximum answer as the
 * SDM says (the highest basic leaf). OSXSAVE and such dynamic bits: `cr4`, `xcr0`. */
void pta_cpuid_query(const PtaCpuidTable *table, unsigned vp, uint64_t cr4, uint64_t xcr0,
                     uint32_t function, uint32_t index, uint32_t out[4]);

#endif
