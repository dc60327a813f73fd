/*
 * CPUID by model (SDM vol. 2, CPUID; TLFS 2.4 for the Hyper-V leaves).
 *
 * Who the CPU says it is, is chosen for what a stock Linux concludes from it:
 *   - GenuineIntel, because only for that vendor leaf 15H gives both the TSC's and the APIC timer's
 *     frequency, so that a guest without a hypervisor interface needs no PIT either;
 *   - family 6, model 36H (Saltwell, an Atom that executes in order), because an interpreter does
 *     not speculate, and a kernel takes that model as free of every transient-execution flaw: it
 *     then boots without retpolines, page-table isolation or buffer clearing, and says so
 *     truthfully. A back end whose code does run on a speculating CPU gives another model here;
 *   - a hypervisor bit with every interface, which keeps the microcode loader away.
 *
 * No thread: pure functions over a table that does not change once it is built.
 */
#include "config.h"

#include "src/partition/x86-cpuid.h"

#include <string.h>

#define BIT(n)  (UINT32_C(1) << (n))
#define FEAT(f) (UINT64_C(1) << PTA_X86_FEAT_##f)

/* family 6, model 36H, stepping 1 */
#define SIGNATURE    UINT32_C(0x00030661)

#define PHYS_BITS    40
#define VIRT_BITS    48

#define MAX_BASIC    0x16
#define MAX_EXTENDED UINT32_C(0x80000008)
#define HYPERVISOR   UINT32_C(0x40000000)

#define CR4_OSXSAVE  (UINT64_C(1) << 18)

static const char *const feature_names[PTA_X86_N_FEATURES] = {
    [PTA_X86_FEAT_BASE] = "x86-64-v1",
    [PTA_X86_FEAT_CX16] = "cx16",
    [PTA_X86_FEAT_LAHF64] = "lahf_lm",
    [PTA_X86_FEAT_POPCNT] = "popcnt",
    [PTA_X86_FEAT_SSE3] = "sse3",
    [PTA_X86_FEAT_SSSE3] = "ssse3",
    [PTA_X86_FEAT_SSE41] = "sse4.1",
    [PTA_X86_FEAT_SSE42] = "sse4.2",
    [PTA_X86_FEAT_AVX] = "avx",
    [PTA_X86_FEAT_AVX2] = "avx2",
    [PTA_X86_FEAT_BMI1] = "bmi1",
    [PTA_X86_FEAT_BMI2] = "bmi2",
    [PTA_X86_FEAT_F16C] = "f16c",
    [PTA_X86_FEAT_FMA] = "fma",
    [PTA_X86_FEAT_LZCNT] = "lzcnt",
    [PTA_X86_FEAT_MOVBE] = "movbe",
    [PTA_X86_FEAT_XSAVE] = "xsave",
    [PTA_X86_FEAT_SMEP] = "smep",
    [PTA_X86_FEAT_SMAP] = "smap",
    [PTA_X86_FEAT_UMIP] = "umip",
    [PTA_X86_FEAT_RDRAND] = "rdrand",
    [PTA_X86_FEAT_RDSEED] = "rdseed",
    [PTA_X86_FEAT_FSGSBASE] = "fsgsbase",
    [PTA_X86_FEAT_RDTSCP] = "rdtscp",
    [PTA_X86_FEAT_PCID] = "pcid",
    [PTA_X86_FEAT_1GPAGES] = "pdpe1gb",
    [PTA_X86_FEAT_X2APIC] = "x2apic",
    [PTA_X86_FEAT_TSC_DEADLINE] = "tsc_deadline",
    [PTA_X86_FEAT_CLFLUSHOPT] = "clflushopt",
    [PTA_X86_FEAT_ERMS] = "erms",
    [PTA_X86_FEAT_XSAVEOPT] = "xsaveopt",
    [PTA_X86_FEAT_XSAVEC] = "xsavec",
    [PTA_X86_FEAT_XGETBV1] = "xgetbv1",
    [PTA_X86_FEAT_XSAVES] = "xsaves",
};

/* Where a feature shows: one bit of one register. */
typedef struct FeatureBit {
    PtaX86Feature feature;
    uint32_t function;
    enum { EAX, EBX, ECX, EDX } reg;
    uint8_t bit;
    uint8_t index; /* ECX */
} FeatureBit;

static const FeatureBit feature_bits[] = {
    { PTA_X86_FEAT_SSE3, 1, ECX, 0 },
    { PTA_X86_FEAT_SSSE3, 1, ECX, 9 },
    { PTA_X86_FEAT_FMA, 1, ECX, 12 },
    { PTA_X86_FEAT_CX16, 1, ECX, 13 },
    { PTA_X86_FEAT_PCID, 1, ECX, 17 },
    { PTA_X86_FEAT_SSE41, 1, ECX, 19 },
    { PTA_X86_FEAT_SSE42, 1, ECX, 20 },
    { PTA_X86_FEAT_X2APIC, 1, ECX, 21 },
    { PTA_X86_FEAT_MOVBE, 1, ECX, 22 },
    { PTA_X86_FEAT_POPCNT, 1, ECX, 23 },
    { PTA_X86_FEAT_TSC_DEADLINE, 1, ECX, 24 },
    { PTA_X86_FEAT_XSAVE, 1, ECX, 26 },
    { PTA_X86_FEAT_AVX, 1, ECX, 28 },
    { PTA_X86_FEAT_F16C, 1, ECX, 29 },
    { PTA_X86_FEAT_RDRAND, 1, ECX, 30 },
    { PTA_X86_FEAT_FSGSBASE, 7, EBX, 0 },
    { PTA_X86_FEAT_BMI1, 7, EBX, 3 },
    { PTA_X86_FEAT_AVX2, 7, EBX, 5 },
    { PTA_X86_FEAT_SMEP, 7, EBX, 7 },
    { PTA_X86_FEAT_BMI2, 7, EBX, 8 },
    { PTA_X86_FEAT_ERMS, 7, EBX, 9 },
    { PTA_X86_FEAT_RDSEED, 7, EBX, 18 },
    { PTA_X86_FEAT_SMAP, 7, EBX, 20 },
    { PTA_X86_FEAT_CLFLUSHOPT, 7, EBX, 23 },
    { PTA_X86_FEAT_UMIP, 7, ECX, 2 },
    { PTA_X86_FEAT_LAHF64, 0x80000001, ECX, 0 },
    { PTA_X86_FEAT_LZCNT, 0x80000001, ECX, 5 },
    { PTA_X86_FEAT_1GPAGES, 0x80000001, EDX, 26 },
    { PTA_X86_FEAT_RDTSCP, 0x80000001, EDX, 27 },
    { PTA_X86_FEAT_XSAVEOPT, 0xd, EAX, 0, 1 },
    { PTA_X86_FEAT_XSAVEC, 0xd, EAX, 1, 1 },
    { PTA_X86_FEAT_XGETBV1, 0xd, EAX, 2, 1 },
    { PTA_X86_FEAT_XSAVES, 0xd, EAX, 3, 1 },
};

/*
 * The levels of the psABI name what user code may use. What the machine itself adds to each of them
 * is the APIC's (every back end emulates that) and ERMS, a hint that REP MOVSB and STOSB are the
 * fast way, which costs no host anything.
 */
#define LEVEL1 (FEAT(BASE) | FEAT(X2APIC) | FEAT(TSC_DEADLINE) | FEAT(ERMS))
#define LEVEL2                                                                                    \
    (LEVEL1 | FEAT(CX16) | FEAT(LAHF64) | FEAT(POPCNT) | FEAT(SSE3) | FEAT(SSSE3) | FEAT(SSE41) | \
     FEAT(SSE42) | FEAT(RDTSCP))
#define LEVEL3                                                                            \
    (LEVEL2 | FEAT(AVX) | FEAT(AVX2) | FEAT(BMI1) | FEAT(BMI2) | FEAT(F16C) | FEAT(FMA) | \
     FEAT(LZCNT) | FEAT(MOVBE) | FEAT(XSAVE) | FEAT(SMEP) | FEAT(FSGSBASE))

typedef struct Model {
    const char *name;
    uint64_t features; /* 0: whatever is supported */
} Model;

/* The default is the first that is served. */
static const Model models[] = {
    { "x86-64-v3", LEVEL3 },
    { "x86-64-v2", LEVEL2 },
    { "x86-64-v1", LEVEL1 },
    { "host", 0 },
};

bool pta_x86_identity_equal(const PtaX86Identity *a, const PtaX86Identity *b)
{
    return strcmp(a->vendor, b->vendor) == 0 && a->signature == b->signature &&
           a->leaf7_edx == b->leaf7_edx && a->leaf8_8_ebx == b->leaf8_8_ebx &&
           a->phys_bits == b->phys_bits;
}

/* ---- the table ---- */

static PtaCpuidLeaf *add(PtaCpuidTable *t, uint32_t function, uint32_t eax, uint32_t ebx,
                         uint32_t ecx, uint32_t edx)
{
    g_assert(t->n_leaves < PTA_CPUID_MAX_LEAVES);
    PtaCpuidLeaf *l = &t->leaves[t->n_leaves++];
    *l = (PtaCpuidLeaf){ .function = function, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx };
    return l;
}

static void add_indexed(PtaCpuidTable *t, uint32_t function, uint32_t index, uint32_t eax,
                        uint32_t ebx, uint32_t ecx, uint32_t edx)
{
    PtaCpuidLeaf *l = add(t, function, eax, ebx, ecx, edx);
    l->indexed = true;
    l->index = index;
}

static const PtaCpuidLeaf *find(const PtaCpuidTable *t, uint32_t function, uint32_t index,
                                bool *known)
{
    *known = false;
    for (unsigned i = 0; i < t->n_leaves; i++) {
        const PtaCpuidLeaf *l = &t->leaves[i];
        if (l->function == function) {
            *known = true;
            if (!l->indexed || l->index == index) {
                return l;
            }
        }
    }
    return NULL;
}

static uint32_t text4(const char *text, size_t offset)
{
    uint32_t v = 0;
    for (size_t i = 0; i < 4; i++) {
        v |= (uint32_t)(uint8_t)text[offset + i] << (8 * i);
    }
    return v;
}

/* Bits that number `n` things. */
static unsigned width_of(unsigned n)
{
    unsigned w = 0;
    while ((1u << w) < n) {
        w++;
    }
    return w;
}

/* Leaf 4: `kind` 1 data, 2 instruction, 3 unified; shared by `sharing` logical processors. */
static void add_cache(PtaCpuidTable *t, uint32_t index, unsigned kind, unsigned level,
                      unsigned ways, uint32_t kib, unsigned sharing)
{
    uint32_t line = 64, sets = kib * 1024 / line / ways;
    uint32_t cores = (1u << width_of(t->n_vps)) - 1;
    add_indexed(t, 4, index,
                kind | level << 5 | BIT(8) | ((1u << width_of(sharing)) - 1) << 14 | cores << 26,
                (line - 1) | (ways - 1) << 22, sets - 1, 0);
}

/*
 * Leaf 15H: TSC = crystal * EBX / EAX, and the crystal is the APIC timer's input. Linux multiplies the
 * crystal's kHz by EBX in 32 bits, so EBX is bounded, and the fraction is the best one within the bound:
 * the last convergent of the continued fraction, or what lies on the way to the next. With a crystal
 * of 1 GHz it is off by a millionth as a rule, and by 40 at worst.
 */
static void add_tsc_leaf(PtaCpuidTable *t, const PtaCpuidParams *p)
{
    if (p->apic_hz < 1000 || p->apic_hz > UINT32_MAX || p->tsc_hz == 0) {
        return;
    }
    uint64_t most = UINT32_MAX / (p->apic_hz / 1000);
    uint64_t a = p->tsc_hz, b = p->apic_hz;
    uint64_t num = 1, den = 0, last_num = 0, last_den = 1;
    while (b != 0) {
        uint64_t q = a / b, r = a % b;
        uint64_t num_room = num == 0 ? UINT64_MAX : (most - last_num) / num;
        uint64_t den_room = den == 0 ? UINT64_MAX : (UINT32_MAX - last_den) / den;
        uint64_t step = MIN(q, MIN(num_room, den_room));
        if (step < q && (step <= q / 2 || den == 0)) {
            break;
        }
        uint64_t next_num = step * num + last_num, next_den = step * den + last_den;
        last_num = num, last_den = den;
        num = next_num, den = next_den;
        a = b, b = step < q ? 0 : r;
    }
    if (num != 0 && den != 0) {
        add(t, 0x15, (uint32_t)den, (uint32_t)num, (uint32_t)p->apic_hz, 0);
    }
}

static void add_basic(PtaCpuidTable *t, const PtaCpuidParams *p)
{
    const char *vendor = p->identity->vendor; /* in the order EBX, EDX, ECX */
    add(t, 0, MAX_BASIC, text4(vendor, 0), text4(vendor, 8), text4(vendor, 4));
    t->max_basic = MAX_BASIC;

    /* FPU DE PSE TSC MSR PAE CX8 APIC SEP MTRR PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2. No
     * machine check (there are no banks) and no VME. */
    uint32_t edx = BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(9) | BIT(11) |
                   BIT(12) | BIT(13) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) |
                   BIT(25) | BIT(26) | (t->n_vps > 1 ? BIT(28) : 0);
    uint32_t ecx = p->hypervisor == PTA_HYPERVISOR_NONE ? 0 : BIT(31);
    add(t, 1, p->identity->signature, 8u << 8 | (1u << width_of(t->n_vps)) << 16, ecx, edx);

    add(t, 2, 0x0000ff01, 0, 0, 0); /* one descriptor: "see leaf 4" */
    add_cache(t, 0, 1, 1, 8, 32, 1);
    add_cache(t, 1, 2, 1, 8, 32, 1);
    add_cache(t, 2, 3, 2, 8, 512, 1);
    add_cache(t, 3, 3, 3, 16, 16 * 1024, t->n_vps);
    add_indexed(t, 4, 4, 0, 0, 0, 0);
    /* ARAT: the APIC timer never stops; without it Linux wants another timer for idle, and gives up
     * high resolution if there is none. */
    add(t, 6, BIT(2), 0, 0, 0);
    add_indexed(t, 7, 0, 0, BIT(1) /* TSC_ADJUST */, 0, p->identity->leaf7_edx);

    /* Topology: one thread a core, one package. */
    add_indexed(t, 0xb, 0, 0, 1, 1u << 8 | 0, 0);
    add_indexed(t, 0xb, 1, width_of(t->n_vps), t->n_vps, 2u << 8 | 1, 0);

    if (pta_cpuid_has(t, PTA_X86_FEAT_XSAVE)) {
        bool avx = pta_cpuid_has(t, PTA_X86_FEAT_AVX);
        add_indexed(t, 0xd, 0, avx ? 7 : 3, 0, avx ? 832 : 576, 0);
        add_indexed(t, 0xd, 1, 0, 0, 0, 0);
        if (avx) {
            add_indexed(t, 0xd, 2, 256, 576, 0, 0);
        }
    }

    add_tsc_leaf(t, p);
    uint32_t mhz = (uint32_t)MIN(p->tsc_hz / 1000000, UINT64_C(0xffff));
    add(t, 0x16, mhz, mhz, (uint32_t)MIN(p->apic_hz / 1000000, UINT64_C(0xffff)), 0);
}

static void add_extended(PtaCpuidTable *t, const char *model, const PtaX86Identity *identity)
{
    add(t, 0x80000000, MAX_EXTENDED, 0, 0, 0);
    t->max_extended = MAX_EXTENDED;
    add(t, 0x80000001, 0, 0, 0, BIT(11) | BIT(20) | BIT(29)); /* SYSCALL, NX, LM */
    char brand[48] = { 0 };
    g_snprintf(brand, sizeof(brand), "Partita %s", model);
    for (unsigned i = 0; i < 3; i++) {
        const char *b = brand + (size_t)16 * i;
        add(t, 0x80000002 + i, text4(b, 0), text4(b, 4), text4(b, 8), text4(b, 12));
    }
    add(t, 0x80000006, 0, 0, 64 | 6u << 12 | 512u << 16,
        0);                              /* L2: 64-byte lines, 8 ways, 512 KiB */
    add(t, 0x80000007, 0, 0, 0, BIT(8)); /* invariant TSC */
    bool narrow = identity->phys_bits != 0 && identity->phys_bits < PHYS_BITS;
    t->phys_bits = narrow ? identity->phys_bits : PHYS_BITS;
    t->virt_bits = VIRT_BITS;
    add(t, 0x80000008, t->phys_bits | VIRT_BITS << 8, identity->leaf8_8_ebx, 0, 0);
}

static void add_hyperv(PtaCpuidTable *t)
{
    static const char vendor[] = "Microsoft Hv";
    t->max_hypervisor = HYPERVISOR + 6;
    add(t, HYPERVISOR, t->max_hypervisor, text4(vendor, 0), text4(vendor, 4), text4(vendor, 8));
    add(t, HYPERVISOR + 1, text4("Hv#1", 0), 0, 0, 0);
    add(t, HYPERVISOR + 2, 17763, 10u << 16, 0, 0); /* the interface of TLFS 6.0: build, version */
    /* EAX: reference counter (1), hypercall MSRs (5), VP index (6), reset (7), reference TSC page
     * (9), frequency MSRs (11), TSC invariant control (15). EDX: frequency MSRs are there (8),
     * crash MSRs (10). */
    add(t, HYPERVISOR + 3, BIT(1) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(11) | BIT(15), 0, 0,
        BIT(8) | BIT(10));
    /* Relaxed timing: a VP may be away for longer than a watchdog likes. Spinlocks: never call. */
    add(t, HYPERVISOR + 4, BIT(5), UINT32_MAX, 0, 0);
    add(t, HYPERVISOR + 5, 64, 64, 0, 0); /* most VPs, most logical processors */
    add(t, HYPERVISOR + 6, 0, 0, 0, 0);
}

static void add_hypervisor(PtaCpuidTable *t, PtaHypervisorKind kind)
{
    static const char kvm[12] = "KVMKVMKVM";
    switch (kind) {
    case PTA_HYPERVISOR_HYPERV:
        add_hyperv(t);
        break;
    case PTA_HYPERVISOR_KVM:
        t->max_hypervisor = HYPERVISOR + 1;
        add(t, HYPERVISOR, t->max_hypervisor, text4(kvm, 0), text4(kvm, 4), text4(kvm, 8));
        add(t, HYPERVISOR + 1, 0, 0, 0, 0); /* no paravirtual features */
        break;
    case PTA_HYPERVISOR_NONE:
        break;
    }
}

static void apply_features(PtaCpuidTable *t)
{
    for (size_t i = 0; i < G_N_ELEMENTS(feature_bits); i++) {
        const FeatureBit *f = &feature_bits[i];
        if (!pta_cpuid_has(t, f->feature)) {
            continue;
        }
        for (unsigned j = 0; j < t->n_leaves; j++) {
            PtaCpuidLeaf *l = &t->leaves[j];
            if (l->function == f->function && l->index == f->index) {
                uint32_t *regs[] = { &l->eax, &l->ebx, &l->ecx, &l->edx };
                *regs[f->reg] |= BIT(f->bit);
            }
        }
    }
}

bool pta_cpuid_feature_bit(PtaX86Feature feature, uint32_t *function, unsigned *reg, unsigned *bit)
{
    for (size_t i = 0; i < G_N_ELEMENTS(feature_bits); i++) {
        const FeatureBit *f = &feature_bits[i];
        if (f->feature == feature && f->index == 0) {
            *function = f->function;
            *reg = f->reg;
            *bit = f->bit;
            return true;
        }
    }
    return false;
}

/* ---- models ---- */

char *pta_cpuid_list_features(uint64_t features)
{
    GString *s = g_string_new(NULL);
    for (unsigned i = 0; i < PTA_X86_N_FEATURES; i++) {
        if (features >> i & 1) {
            g_string_append_printf(s, "%s%s", s->len ? ", " : "", feature_names[i]);
        }
    }
    return g_string_free(s, FALSE);
}

static const Model *find_model(const char *name, uint64_t supported, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(models); i++) {
        const Model *m = &models[i];
        if (name ? strcmp(m->name, name) == 0 : (m->features & ~supported) == 0) {
            return m;
        }
        g_string_append_printf(known, "%s%s", known->len ? ", " : "", m->name);
    }
    pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "unknown CPU model \"%s\"; expected one of: %s",
              name, known->str);
    return NULL;
}

bool pta_cpuid_build(PtaCpuidTable *table, const PtaCpuidParams *params, GError **error)
{
    const Model *model = find_model(params->model, params->supported, error);
    if (!model) {
        return false;
    }
    uint64_t features = model->features ? model->features : params->supported;
    uint64_t lacking = (features | FEAT(BASE)) & ~params->supported;
    if (lacking) {
        g_autofree char *list = pta_cpuid_list_features(lacking);
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "CPU model \"%s\" needs what the back end lacks: %s", model->name, list);
    }
    static const PtaX86Identity software = { .vendor = "GenuineIntel", .signature = SIGNATURE };
    PtaCpuidParams p = *params;
    if (!p.identity) {
        p.identity = &software;
    }
    PtaCpuidTable t = { .features = features, .n_vps = params->n_vps };
    add_basic(&t, &p);
    add_hypervisor(&t, params->hypervisor);
    add_extended(&t, model->name, p.identity);
    apply_features(&t);
    t.identity = *p.identity;
    t.identity.phys_bits = t.phys_bits;
    *table = t;
    return true;
}

/* ---- the instruction ---- */

/* The size of the XSAVE area for what XCR0 enables (SDM vol. 1, 13.4.3). */
static uint32_t xsave_size(uint64_t xcr0)
{
    return xcr0 & 4 ? 832 : 576;
}

void pta_cpuid_query(const PtaCpuidTable *table, unsigned vp, uint64_t cr4, uint64_t xcr0,
                     uint32_t function, uint32_t index, uint32_t out[4])
{
    bool hypervisor = function >> 8 == HYPERVISOR >> 8 && table->max_hypervisor != 0;
    if (!hypervisor && function > table->max_basic &&
        (function < 0x80000000 || function > table->max_extended)) {
        function = table->max_basic; /* as Intel's: the highest basic leaf */
    }
    bool known;
    const PtaCpuidLeaf *l = find(table, function, index, &known);
    out[0] = l ? l->eax : 0;
    out[1] = l ? l->ebx : 0;
    out[2] = l ? l->ecx : 0;
    out[3] = l ? l->edx : 0;
    switch (function) {
    case 1:
        out[1] |= vp << 24;
        if (pta_cpuid_has(table, PTA_X86_FEAT_XSAVE) && (cr4 & CR4_OSXSAVE)) {
            out[2] |= BIT(27);
        }
        break;
    case 0xb:
        if (!l) {
            out[2] = index & 0xff; /* no such level: type 0 */
        }
        out[3] = vp;
        break;
    case 0xd:
        /* Sub-leaf 1: the compacted format, which is the same as long as AVX is all that there is. */
        if (known && (index == 0 || (index == 1 && (out[0] & (BIT(1) | BIT(3)))))) {
            out[1] = xsave_size(xcr0);
        }
        break;
    default:
        break;
    }
}
