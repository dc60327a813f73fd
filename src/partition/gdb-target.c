/* Registers and target description. MAIN. */
#include "config.h"

#include "src/partition/gdb-target.h"

#include <string.h>

/* Where things are in the FXSAVE area (SDM vol. 1, table 10-2). */
enum {
    FX_FCW = 0,
    FX_FSW = 2,
    FX_FTW = 4, /* one bit a register: not empty */
    FX_FOP = 6,
    FX_FIP = 8, /* 64-bit forms: offset, then selector in bits 32 ff. */
    FX_FDP = 16,
    FX_MXCSR = 24,
    FX_ST = 32,
    FX_XMM = 160,
};

#define CR0_PE     (UINT64_C(1) << 0)
#define EFER_LMA   (UINT64_C(1) << 10)
#define RFLAGS_VM  (UINT64_C(1) << 17)
#define ATTR_LONG  (1u << 13)
#define MXCSR_BITS 0xffffu

typedef enum Kind {
    KIND_PLAIN,   /* `size` bytes at `offset` of PtaX86State, little-endian */
    KIND_RFLAGS,  /* 32 bits */
    KIND_SEGMENT, /* the selector, with the rules for loading one */
    KIND_SMALL,   /* 16 bits at `offset`, shown as 32 */
    KIND_TAG,     /* the x87 tag word, made of what the area has */
} Kind;

typedef struct Register {
    const char *name;
    const char *type;
    uint8_t size; /* in packets */
    uint8_t kind;
    uint16_t offset;
} Register;

G_STATIC_ASSERT(G_BYTE_ORDER == G_LITTLE_ENDIAN); /* the host is an x86 as well */

#define AT(member) offsetof(PtaX86State, member)
#define FX(at)     (AT(xsave) + (at))
#define GPR(name, NAME)                                            \
    {                                                              \
        name, "int64", 8, KIND_PLAIN, AT(regs.gpr[PTA_X86_##NAME]) \
    }
#define SEG(name, NAME)                                                       \
    {                                                                         \
        name, "int32", 4, KIND_SEGMENT, AT(regs.seg[PTA_X86_##NAME].selector) \
    }
#define ST(n)                                                     \
    {                                                             \
        "st" #n, "i387_ext", 10, KIND_PLAIN, FX(FX_ST + 16 * (n)) \
    }
#define XMM(n)                                                    \
    {                                                             \
        "xmm" #n, "vec128", 16, KIND_PLAIN, FX(FX_XMM + 16 * (n)) \
    }

/* clang-format off */
static const Register registers[] = {
    GPR("rax", RAX), GPR("rbx", RBX), GPR("rcx", RCX), GPR("rdx", RDX),
    GPR("rsi", RSI), GPR("rdi", RDI),
    { "rbp", "data_ptr", 8, KIND_PLAIN, AT(regs.gpr[PTA_X86_RBP]) },
    { "rsp", "data_ptr", 8, KIND_PLAIN, AT(regs.gpr[PTA_X86_RSP]) },
    GPR("r8", R8), GPR("r9", R9), GPR("r10", R10), GPR("r11", R11),
    GPR("r12", R12), GPR("r13", R13), GPR("r14", R14), GPR("r15", R15),
    { "rip", "code_ptr", 8, KIND_PLAIN, AT(regs.rip) },
    { "eflags", "i386_eflags", 4, KIND_RFLAGS, AT(regs.rflags) },
    SEG("cs", CS), SEG("ss", SS), SEG("ds", DS), SEG("es", ES), SEG("fs", FS), SEG("gs", GS),
    ST(0), ST(1), ST(2), ST(3), ST(4), ST(5), ST(6), ST(7),
    { "fctrl", "int", 4, KIND_SMALL, FX(FX_FCW) },
    { "fstat", "int", 4, KIND_SMALL, FX(FX_FSW) },
    { "ftag", "int", 4, KIND_TAG, FX(FX_FTW) },
    { "fiseg", "int", 4, KIND_SMALL, FX(FX_FIP + 4) },
    { "fioff", "int", 4, KIND_PLAIN, FX(FX_FIP) },
    { "foseg", "int", 4, KIND_SMALL, FX(FX_FDP + 4) },
    { "fooff", "int", 4, KIND_PLAIN, FX(FX_FDP) },
    { "fop", "int", 4, KIND_SMALL, FX(FX_FOP) },
    XMM(0), XMM(1), XMM(2), XMM(3), XMM(4), XMM(5), XMM(6), XMM(7),
    XMM(8), XMM(9), XMM(10), XMM(11), XMM(12), XMM(13), XMM(14), XMM(15),
    { "mxcsr", "i386_mxcsr", 4, KIND_PLAIN, FX(FX_MXCSR) },
    { "fs_base", "int64", 8, KIND_PLAIN, AT(regs.seg[PTA_X86_FS].base) },
    { "gs_base", "int64", 8, KIND_PLAIN, AT(regs.seg[PTA_X86_GS].base) },
    { "k_gs_base", "int64", 8, KIND_PLAIN, AT(msrs.kernel_gs_base) },
    { "cr0", "cr0_flags", 8, KIND_PLAIN, AT(regs.cr0) },
    { "cr2", "int64", 8, KIND_PLAIN, AT(regs.cr2) },
    { "cr3", "int64", 8, KIND_PLAIN, AT(regs.cr3) },
    { "cr4", "cr4_flags", 8, KIND_PLAIN, AT(regs.cr4) },
    { "cr8", "int64", 8, KIND_PLAIN, AT(regs.cr8) },
    { "efer", "efer_flags", 8, KIND_PLAIN, AT(regs.efer) },
};
/* clang-format on */

/* ---- the description ---- */

typedef struct Flag {
    const char *name;
    unsigned bit;
} Flag;

static const Flag eflags[] = {
    { "CF", 0 },  { "", 1 },    { "PF", 2 },   { "AF", 4 },   { "ZF", 6 },  { "SF", 7 },
    { "TF", 8 },  { "IF", 9 },  { "DF", 10 },  { "OF", 11 },  { "NT", 14 }, { "RF", 16 },
    { "VM", 17 }, { "AC", 18 }, { "VIF", 19 }, { "VIP", 20 }, { "ID", 21 }, { NULL, 0 },
};
static const Flag mxcsr[] = {
    { "IE", 0 },  { "DE", 1 },  { "ZE", 2 },  { "OE", 3 },  { "PE", 4 },
    { "UE", 5 },  { "DAZ", 6 }, { "IM", 7 },  { "DM", 8 },  { "ZM", 9 },
    { "OM", 10 }, { "UM", 11 }, { "PM", 12 }, { "FZ", 15 }, { NULL, 0 },
};
static const Flag cr0[] = {
    { "PE", 0 },  { "MP", 1 },  { "EM", 2 },  { "TS", 3 },  { "ET", 4 },  { "NE", 5 },
    { "WP", 16 }, { "AM", 18 }, { "NW", 29 }, { "CD", 30 }, { "PG", 31 }, { NULL, 0 },
};
static const Flag cr4[] = {
    { "VME", 0 },         { "PVI", 1 },    { "TSD", 2 },      { "DE", 3 },    { "PSE", 4 },
    { "PAE", 5 },         { "MCE", 6 },    { "PGE", 7 },      { "PCE", 8 },   { "OSFXSR", 9 },
    { "OSXMMEXCPT", 10 }, { "UMIP", 11 },  { "LA57", 12 },    { "VMXE", 13 }, { "SMXE", 14 },
    { "FSGSBASE", 16 },   { "PCIDE", 17 }, { "OSXSAVE", 18 }, { "SMEP", 20 }, { "SMAP", 21 },
    { "PKE", 22 },        { NULL, 0 },
};
static const Flag efer[] = {
    { "SCE", 0 }, { "LME", 8 }, { "LMA", 10 }, { "NXE", 11 }, { NULL, 0 },
};

static void add_flags(GString *xml, const char *id, unsigned size, const Flag *flags)
{
    g_string_append_printf(xml, "<flags id=\"%s\" size=\"%u\">\n", id, size);
    for (; flags->name; flags++) {
        g_string_append_printf(xml, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>\n", flags->name,
                               flags->bit, flags->bit);
    }
    g_string_append(xml, "</flags>\n");
}

static const char vec128[] = "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>\n"
                             "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>\n"
                             "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>\n"
                             "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>\n"
                             "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>\n"
                             "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>\n"
                             "<union id=\"vec128\">\n"
                             "<field name=\"v4_float\" type=\"v4f\"/>\n"
                             "<field name=\"v2_double\" type=\"v2d\"/>\n"
                             "<field name=\"v16_int8\" type=\"v16i8\"/>\n"
                             "<field name=\"v8_int16\" type=\"v8i16\"/>\n"
                             "<field name=\"v4_int32\" type=\"v4i32\"/>\n"
                             "<field name=\"v2_int64\" type=\"v2i64\"/>\n"
                             "<field name=\"uint128\" type=\"uint128\"/>\n"
                             "</union>\n";

static void begin_feature(GString *xml, const char *name)
{
    g_string_append_printf(xml, "%s<feature name=\"%s\">\n",
                           g_str_has_suffix(xml->str, "</architecture>\n") ? "" : "</feature>\n",
                           name);
}

/* A feature begins before its first register. */
static void begin_feature_of(GString *xml, const char *reg)
{
    if (strcmp(reg, "rax") == 0) {
        begin_feature(xml, "org.gnu.gdb.i386.core");
        add_flags(xml, "i386_eflags", 4, eflags);
    } else if (strcmp(reg, "xmm0") == 0) {
        begin_feature(xml, "org.gnu.gdb.i386.sse");
        g_string_append(xml, vec128);
        add_flags(xml, "i386_mxcsr", 4, mxcsr);
    } else if (strcmp(reg, "fs_base") == 0) {
        begin_feature(xml, "org.gnu.gdb.i386.segments");
    } else if (strcmp(reg, "k_gs_base") == 0) {
        begin_feature(xml, "org.partita.i386.system");
        add_flags(xml, "cr0_flags", 8, cr0);
        add_flags(xml, "cr4_flags", 8, cr4);
        add_flags(xml, "efer_flags", 8, efer);
    }
}

static char *make_xml(void)
{
    GString *xml = g_string_new("<?xml version=\"1.0\"?>\n"
                                "<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
                                "<target>\n<architecture>i386:x86-64</architecture>\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(registers); i++) {
        const Register *r = &registers[i];
        begin_feature_of(xml, r->name);
        g_string_append_printf(xml, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"%s/>\n", r->name,
                               r->size * 8u, r->type,
                               strcmp(r->type, "int") == 0 ? " group=\"float\"" : "");
    }
    g_string_append(xml, "</feature>\n</target>\n");
    return g_string_free(xml, FALSE);
}

const char *pta_gdb_target_xml(void)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        g_once_init_leave(&once, (gsize)make_xml());
    }
    return (const char *)once;
}

/* ---- registers ---- */

unsigned pta_gdb_n_registers(void)
{
    return G_N_ELEMENTS(registers);
}

const char *pta_gdb_register_name(unsigned reg)
{
    g_assert(reg < G_N_ELEMENTS(registers));
    return registers[reg].name;
}

size_t pta_gdb_register_size(unsigned reg)
{
    g_assert(reg < G_N_ELEMENTS(registers));
    return registers[reg].size;
}

/* The two bits of one x87 register, by what is in it (SDM vol. 1, 8.1.7). */
static unsigned tag_of(const uint8_t *st)
{
    uint64_t mantissa;
    uint16_t exponent;
    memcpy(&mantissa, st, 8);
    memcpy(&exponent, st + 8, 2);
    exponent &= 0x7fff;
    if (exponent == 0 && mantissa == 0) {
        return 1;
    }
    return exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

static uint32_t full_tag(const uint8_t *area)
{
    unsigned top = area[FX_FSW + 1] >> 3 & 7;
    uint32_t tag = 0;
    for (unsigned i = 0; i < 8; i++) { /* physical register i is ST((i - top) mod 8) */
        const uint8_t *st = area + FX_ST + 16 * ((i - top) & 7);
        unsigned bits = area[FX_FTW] >> i & 1 ? tag_of(st) : 3;
        tag |= bits << (2 * i);
    }
    return tag;
}

void pta_gdb_register_get(const PtaX86State *state, unsigned reg, uint8_t *value)
{
    g_assert(reg < G_N_ELEMENTS(registers));
    const Register *r = &registers[reg];
    const uint8_t *from = (const uint8_t *)state + r->offset;
    memset(value, 0, r->size);
    switch ((Kind)r->kind) {
    case KIND_PLAIN:
    case KIND_RFLAGS:
        memcpy(value, from, r->size);
        break;
    case KIND_SEGMENT:
    case KIND_SMALL:
        memcpy(value, from, 2);
        break;
    case KIND_TAG: {
        uint32_t tag = full_tag(state->xsave.area);
        memcpy(value, &tag, sizeof(tag));
        break;
    }
    }
}

/* The debugger knows selectors, not descriptors: only where a selector says everything can one be
 * loaded (real mode, virtual-8086). Elsewhere it may be written back as it is. */
static bool set_segment(PtaX86State *state, unsigned offset, uint32_t value)
{
    PtaX86Segment *s =
        (PtaX86Segment *)(void *)((uint8_t *)state + offset - offsetof(PtaX86Segment, selector));
    if (value == s->selector) {
        return true;
    }
    bool real = !(state->regs.cr0 & CR0_PE) || state->regs.rflags & RFLAGS_VM;
    if (!real || value > UINT16_MAX) {
        return false;
    }
    s->selector = (uint16_t)value;
    s->base = (uint64_t)value << 4;
    return true;
}

static bool is_mxcsr(const Register *r)
{
    return r->offset == FX(FX_MXCSR);
}

bool pta_gdb_register_set(PtaX86State *state, unsigned reg, const uint8_t *value)
{
    g_assert(reg < G_N_ELEMENTS(registers));
    const Register *r = &registers[reg];
    uint8_t *to = (uint8_t *)state + r->offset;
    uint32_t word;
    memcpy(&word, value, sizeof(word));
    switch ((Kind)r->kind) {
    case KIND_PLAIN:
        if (is_mxcsr(r) && (word & ~MXCSR_BITS)) {
            return false;
        }
        memcpy(to, value, r->size);
        return true;
    case KIND_RFLAGS:
        state->regs.rflags = word | 2u;
        return true;
    case KIND_SEGMENT:
        return set_segment(state, r->offset, word);
    case KIND_SMALL:
        if (word > UINT16_MAX) {
            return false;
        }
        memcpy(to, value, 2);
        return true;
    case KIND_TAG:
        if (word > UINT16_MAX) {
            return false;
        }
        *to = 0;
        for (unsigned i = 0; i < 8; i++) {
            *to |= (word >> (2 * i) & 3) != 3 ? (uint8_t)(1u << i) : 0;
        }
        return true;
    }
    g_assert_not_reached();
}

uint64_t pta_gdb_linear_rip(const PtaX86Regs *regs)
{
    const PtaX86Segment *cs = &regs->seg[PTA_X86_CS];
    bool wide = regs->efer & EFER_LMA && cs->attrs & ATTR_LONG;
    return wide ? regs->rip : (uint32_t)(cs->base + regs->rip);
}
