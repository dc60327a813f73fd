/*
 * The differential test: which encodings there are, and random vectors of them. Encodings are found
 * by decoding: every prefix, map, opcode and ModRM that gives a row of the table is a form, so that
 * a new row brings its tests with it.
 */
#include "config.h"

#include <string.h>

#include "tests/cpu/diff.h"

/* ---- what is left out ---- */

const char *diff_row_skipped(const X86Row *row)
{
    static const struct {
        uint16_t key;
        const char *why;
    } skipped[] = {
        { ZYDIS_MNEMONIC_SYSCALL, "enters the host's kernel" },
        { ZYDIS_MNEMONIC_SYSENTER, "enters the host's kernel" },
        { ZYDIS_MNEMONIC_INT, "enters the host's kernel" },
        { ZYDIS_MNEMONIC_INT3, "ends the tests' own vectors" },
        { ZYDIS_MNEMONIC_INT1, "enters the host's kernel" },
        { ZYDIS_MNEMONIC_IRET, "changes segments" },
        { ZYDIS_MNEMONIC_IRETD, "changes segments" },
        { ZYDIS_MNEMONIC_IRETQ, "changes segments" },
        { X86_KEY_CALL_FAR, "changes segments" },
        { X86_KEY_JMP_FAR, "changes segments" },
        { X86_KEY_RET_FAR, "changes segments" },
        { X86_KEY_POP_SEG, "loads selectors of the host's GDT" },
        { ZYDIS_MNEMONIC_LDS, "loads selectors of the host's GDT" },
        { ZYDIS_MNEMONIC_LES, "loads selectors of the host's GDT" },
        { ZYDIS_MNEMONIC_LFS, "loads selectors of the host's GDT" },
        { ZYDIS_MNEMONIC_LGS, "loads selectors of the host's GDT" },
        { ZYDIS_MNEMONIC_LSS, "loads selectors of the host's GDT" },
        { ZYDIS_MNEMONIC_LAR, "reads the host's GDT" },
        { ZYDIS_MNEMONIC_LSL, "reads the host's GDT" },
        { ZYDIS_MNEMONIC_VERR, "reads the host's GDT" },
        { ZYDIS_MNEMONIC_VERW, "reads the host's GDT" },
        { ZYDIS_MNEMONIC_SGDT, "the host's kernel answers (UMIP)" },
        { ZYDIS_MNEMONIC_SIDT, "the host's kernel answers (UMIP)" },
        { ZYDIS_MNEMONIC_SLDT, "the host's kernel answers (UMIP)" },
        { ZYDIS_MNEMONIC_SMSW, "the host's kernel answers (UMIP)" },
        { ZYDIS_MNEMONIC_STR, "the host's kernel answers (UMIP)" },
        { ZYDIS_MNEMONIC_CPUID, "differs between CPUs" },
        { ZYDIS_MNEMONIC_RDTSC, "differs with time" },
        { ZYDIS_MNEMONIC_RDTSCP, "differs with time" },
        { ZYDIS_MNEMONIC_RDPMC, "differs with time" },
        { ZYDIS_MNEMONIC_RDRAND, "differs with time" },
        { ZYDIS_MNEMONIC_RDSEED, "differs with time" },
        { ZYDIS_MNEMONIC_RDPID, "differs with time" },
        { ZYDIS_MNEMONIC_XGETBV, "differs between hosts" },
        { ZYDIS_MNEMONIC_XSETBV, "differs between hosts" },
        { ZYDIS_MNEMONIC_XSAVE, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XSAVE64, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XSAVEOPT, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XSAVEOPT64, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XSAVEC, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XSAVEC64, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XSAVES, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XSAVES64, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XRSTOR, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XRSTOR64, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XRSTORS, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_XRSTORS64, "needs an area with a header: test-xsave" },
        { ZYDIS_MNEMONIC_RDFSBASE, "the host's thread lives on it" },
        { ZYDIS_MNEMONIC_WRFSBASE, "the host's thread lives on it" },
        { ZYDIS_MNEMONIC_RDGSBASE, "the host's thread lives on it" },
        { ZYDIS_MNEMONIC_WRGSBASE, "the host's thread lives on it" },
        { ZYDIS_MNEMONIC_MONITOR, "differs between hypervisors" },
        { ZYDIS_MNEMONIC_MWAIT, "differs between hypervisors" },
        { ZYDIS_MNEMONIC_VMCALL, "differs between hypervisors" },
        { ZYDIS_MNEMONIC_VMMCALL, "differs between hypervisors" },
        { ZYDIS_MNEMONIC_RSM, "differs between hypervisors" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(skipped); i++) {
        if (skipped[i].key == row->key) {
            return skipped[i].why;
        }
    }
    return NULL;
}

/* Single encodings of rows that are otherwise tested. */
static bool encoding_skipped(const X86Row *row, const DiffForm *f, uint64_t features)
{
    if (row->key == ZYDIS_MNEMONIC_PEXTRW && f->map == 3) {
        return !(features >> PTA_X86_FEAT_SSE41 & 1);
    }
    return row->key == X86_KEY_MOV_SEG && f->opcode == 0x8e;
}

/* ---- forms ---- */

static unsigned put_opcode(uint8_t *p, const DiffForm *f, unsigned rex)
{
    unsigned n = 0;
    if (f->opsize || f->prefix == 0x66) {
        p[n++] = 0x66;
    }
    if (f->prefix && f->prefix != 0x66) {
        p[n++] = f->prefix;
    }
    if (rex) {
        p[n++] = (uint8_t)rex;
    }
    if (f->map) {
        p[n++] = 0x0f;
        if (f->map > 1) {
            p[n++] = f->map == 2 ? 0x38 : 0x3a;
        }
    }
    p[n++] = f->opcode;
    return n;
}

static unsigned mode_bits(bool compat)
{
    return X86_MODE_PROT | X86_MODE_LONG | X86_MODE_USER |
           (compat ? X86_MODE_32 | X86_MODE_SS32 : X86_MODE_64);
}

static bool decode(const uint8_t *code, bool compat, ZydisDecodedInstruction *z,
                   ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT])
{
    const X86Decoder *d = diff_decoder();
    return ZYAN_SUCCESS(
        ZydisDecoderDecodeFull(&d->size[compat ? X86_MODE_32 : X86_MODE_64], code, 15, z, ops));
}

static bool prefix_matters(const ZydisDecodedInstruction *z, uint8_t value)
{
    for (unsigned i = 0; i < z->raw.prefix_count; i++) {
        if (z->raw.prefixes[i].value == value) {
            return z->raw.prefixes[i].type != ZYDIS_PREFIX_TYPE_IGNORED;
        }
    }
    return false;
}

static int register_number(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return ZydisRegisterGetId(reg);
    default:
        return -1;
    }
}

/* What the operands say about the form; false if it is the same as one without REX.W. */
static void describe(DiffForm *f, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                     bool *reg_is_operand, bool *rm_is_operand)
{
    *reg_is_operand = *rm_is_operand = false;
    f->branches = z->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
    f->lockable = z->attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK;
    f->imm[0] = z->raw.imm[0].size / 8;
    f->imm[1] = z->raw.imm[1].size / 8;
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *op = &ops[i];
        *reg_is_operand |= op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG;
        *rm_is_operand |= op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;
        if (op->encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64) {
            f->moffs = true;
            f->imm[0] = z->raw.disp.size / 8;
        }
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            f->mem_size = (uint16_t)MAX(f->mem_size, op->size / 8);
            if (op->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
                const int base = register_number(op->mem.base);
                f->pinned |= (uint16_t)(base >= 0 ? 1 << base : 0);
            }
        }
    }
}

static void try_form(GArray *forms, const DiffForm *wanted, unsigned reg, unsigned rm,
                     uint64_t features)
{
    DiffForm f = *wanted;
    uint8_t code[32] = { 0 };
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    X86Insn in;
    X86Decoded info;
    bool reg_is_operand, rm_is_operand;
    unsigned n = put_opcode(code, &f, f.rex_w ? 0x48 : 0);
    code[n] = (uint8_t)((f.mem ? 0 : 0xc0) | reg << 3 | rm);
    if (!decode(code, f.compat, &z, ops) ||
        x86_decode(diff_decoder(), mode_bits(f.compat), code, 15, &in, &info) != X86_DECODE_OK) {
        return;
    }
    f.row = in.row;
    f.has_modrm = z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
    if ((f.prefix && !prefix_matters(&z, f.prefix)) || (f.opsize && !prefix_matters(&z, 0x66)) ||
        (!f.has_modrm && (reg || rm || f.mem)) || diff_row_skipped(&x86_rows[f.row]) ||
        encoding_skipped(&x86_rows[f.row], &f, features)) {
        return;
    }
    describe(&f, &z, ops, &reg_is_operand, &rm_is_operand);
    if (f.branches && (f.prefix || f.opsize)) {
        return; /* 66 before a branch is read in two ways by two makers */
    }
    if (f.has_modrm && ((reg_is_operand && reg) || (!f.mem && rm_is_operand && rm))) {
        return; /* found already */
    }
    if (f.rex_w) {
        ZydisDecodedInstruction narrow;
        ZydisDecodedOperand narrow_ops[ZYDIS_MAX_OPERAND_COUNT];
        uint8_t without[32] = { 0 };
        unsigned m = put_opcode(without, &f, 0);
        without[m] = code[n];
        if (decode(without, f.compat, &narrow, narrow_ops) && narrow.mnemonic == z.mnemonic &&
            narrow.operand_width == z.operand_width && narrow_ops[0].size == ops[0].size &&
            narrow_ops[1].size == ops[1].size) {
            return;
        }
    }
    if (!f.has_modrm && ops[0].encoding == ZYDIS_OPERAND_ENCODING_OPCODE && (f.opcode & 7) != 0 &&
        x86_rows[f.row].key != ZYDIS_MNEMONIC_XCHG) {
        return;
    }
    f.reg = f.has_modrm && !reg_is_operand ? (int8_t)reg : -1;
    f.rm = f.has_modrm && !f.mem && !rm_is_operand ? (int8_t)rm : -1;
    ZydisFormatter formatter;
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterFormatInstruction(&formatter, &z, ops, z.operand_count_visible, f.text,
                                    sizeof(f.text), 0, NULL);
    g_array_append_val(forms, f);
}

static bool is_prefix(unsigned opcode, bool compat)
{
    switch (opcode) {
    case 0x0f:
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return !compat && (opcode & 0xf0) == 0x40;
    }
}

GArray *diff_forms(uint64_t features, bool compat)
{
    static const struct {
        uint8_t prefix;
        bool opsize;
    } prefixes[] = { { 0, false },    { 0, true },    { 0xf3, false },
                     { 0xf2, false }, { 0xf3, true }, { 0xf2, true } };
    GArray *forms = g_array_new(FALSE, TRUE, sizeof(DiffForm));
    for (unsigned map = 0; map < 4; map++) {
        for (unsigned opcode = 0; opcode < 256; opcode++) {
            if (map == 0 && is_prefix(opcode, compat)) {
                continue;
            }
            for (unsigned p = 0; p < G_N_ELEMENTS(prefixes) * 2; p++) {
                const DiffForm f = { .map = (uint8_t)map,
                                     .opcode = (uint8_t)opcode,
                                     .prefix = prefixes[p / 2].prefix,
                                     .opsize = prefixes[p / 2].opsize,
                                     .rex_w = p & 1,
                                     .compat = compat };
                if (compat && f.rex_w) {
                    continue;
                }
                for (unsigned modrm = 0; modrm < 128; modrm++) {
                    DiffForm g = f;
                    g.mem = modrm < 64;
                    if (g.mem && (modrm & 7) != 0) {
                        continue;
                    }
                    try_form(forms, &g, modrm >> 3 & 7, modrm & 7, features);
                }
            }
        }
    }
    return forms;
}

/* ---- values ---- */

static uint64_t random_integer(DiffRand *r)
{
    static const uint64_t edges[] = {
        0,
        1,
        2,
        0x7f,
        0x80,
        0x81,
        0xff,
        0x100,
        0x7fff,
        0x8000,
        0x8001,
        0xffff,
        0x10000,
        0x7fffffff,
        0x80000000,
        0x80000001,
        0xffffffff,
        UINT64_C(0x100000000),
        UINT64_C(0x7fffffffffffffff),
        UINT64_C(0x8000000000000000),
        UINT64_C(0x8000000000000001),
        UINT64_MAX,
        UINT64_MAX - 1,
        UINT64_C(0xffffffff80000000),
        UINT64_C(0xffffffff7fffffff),
        UINT64_C(0xaaaaaaaaaaaaaaaa),
    };
    const uint64_t v = diff_rand(r);
    switch (diff_below(r, 8)) {
    case 0:
    case 1:
        return edges[diff_below(r, G_N_ELEMENTS(edges))];
    case 2:
        return v & 0x3f;
    case 3:
        return v >> diff_below(r, 64);
    case 4:
        return (uint64_t)((int64_t)v >> diff_below(r, 64));
    default:
        return v;
    }
}

static uint32_t random_f32(DiffRand *r)
{
    static const uint32_t edges[] = {
        0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
        0x7fc00000, 0xffc00000, 0x7f800001, 0x7fa12345, 0xffbfffff, 1,
        0x80000001, 0x007fffff, 0x00800000, 0x00800001, 0x7f7fffff, 0xff7fffff,
        0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000, 0xdf000000, 0x3f000000,
        0x3f7fffff, 0x40490fdb, 0x4b000001, 0x00ffffff, 0x33800000,
    };
    const uint32_t v = (uint32_t)(diff_rand(r) >> 32);
    switch (diff_below(r, 4)) {
    case 0:
        return edges[diff_below(r, G_N_ELEMENTS(edges))];
    case 1:
        return (v & 0x807fffff) | (100 + diff_below(r, 60)) << 23; /* around 1 */
    case 2:
        return (v & 0x80000000) | (120 + diff_below(r, 30)) << 23 | (v & 0x700000); /* short */
    default:
        return v;
    }
}

static uint64_t random_f64(DiffRand *r)
{
    static const uint64_t edges[] = {
        0,
        UINT64_C(0x8000000000000000),
        UINT64_C(0x3ff0000000000000),
        UINT64_C(0xbff0000000000000),
        UINT64_C(0x7ff0000000000000),
        UINT64_C(0xfff0000000000000),
        UINT64_C(0x7ff8000000000000),
        UINT64_C(0xfff8000000000000),
        UINT64_C(0x7ff0000000000001),
        UINT64_C(0xfff4000000000000),
        1,
        UINT64_C(0x8000000000000001),
        UINT64_C(0x000fffffffffffff),
        UINT64_C(0x0010000000000000),
        UINT64_C(0x7fefffffffffffff),
        UINT64_C(0xffefffffffffffff),
        UINT64_C(0x41dfffffffc00000),
        UINT64_C(0xc1e0000000000000),
        UINT64_C(0x43e0000000000000),
        UINT64_C(0xc3e0000000000000),
        UINT64_C(0x3fe0000000000000),
        UINT64_C(0x36a0000000000000), /* the smallest single denormal */
        UINT64_C(0x380fffffe0000000),
        UINT64_C(0x47efffffe0000000),
        UINT64_C(0x400921fb54442d18),
    };
    const uint64_t v = diff_rand(r);
    switch (diff_below(r, 4)) {
    case 0:
        return edges[diff_below(r, G_N_ELEMENTS(edges))];
    case 1:
        return (v & UINT64_C(0x800fffffffffffff)) | (uint64_t)(880 + diff_below(r, 300)) << 52;
    case 2:
        return (v & UINT64_C(0x8000000000000000)) | (uint64_t)(1015 + diff_below(r, 60)) << 52 |
               (v & UINT64_C(0xe000000000000));
    default:
        return v;
    }
}

/* 80 bits into 16 bytes: also what no processor since the 387 makes itself (pseudo-denormals,
 * unnormals, pseudo-NaNs). */
static void random_m80(DiffRand *r, uint8_t out[16])
{
    static const struct {
        uint16_t se;
        uint64_t m;
    } edges[] = {
        { 0, 0 },
        { 0x8000, 0 },
        { 0x3fff, UINT64_C(1) << 63 },
        { 0xbfff, UINT64_C(1) << 63 },
        { 0x7fff, UINT64_C(1) << 63 },
        { 0xffff, UINT64_C(1) << 63 },
        { 0x7fff, UINT64_C(0xc000000000000000) },
        { 0xffff, UINT64_C(0xc000000000000000) },
        { 0x7fff, UINT64_C(0x8000000000000001) },
        { 0xffff, UINT64_C(0xa000000012345678) },
        { 0, 1 },
        { 0x8000, UINT64_C(0x7fffffffffffffff) },
        { 0, UINT64_C(1) << 63 },
        { 0x8000, UINT64_MAX },
        { 1, UINT64_C(1) << 63 },
        { 0x7ffe, UINT64_MAX },
        { 0xfffe, UINT64_MAX },
        { 0x3fff, 1 },
        { 0x7fff, 0 },
        { 0x7fff, 1 },
        { 0x4000, UINT64_C(0xc90fdaa22168c235) },
        { 0x3ffe, UINT64_C(1) << 63 },
        { 0x403e, UINT64_C(1) << 63 },
        { 0xc03e, UINT64_C(1) << 63 },
        { 0x403d, UINT64_MAX },
        { 0x401d, UINT64_C(0xfffffffe00000000) },
        { 0x400d, UINT64_C(0xfffe000000000000) },
        { 0x4039, UINT64_C(0xde0b6b3a763ffff0) }, /* 999,999,999,999,999,999 */
        { 0x3ffd, UINT64_C(0x9504f333f9de6484) },
    };
    uint64_t m = diff_rand(r);
    uint16_t se = (uint16_t)(diff_rand(r) >> 48);
    switch (diff_below(r, 5)) {
    case 0: {
        const unsigned i = diff_below(r, G_N_ELEMENTS(edges));
        m = edges[i].m;
        se = edges[i].se;
        break;
    }
    case 1:
        m |= UINT64_C(1) << 63;
        break;
    case 2: /* a short number */
        m = (m & UINT64_C(0x7c00000000000000)) | UINT64_C(1) << 63;
        se = (uint16_t)((se & 0x8000) | (0x3fff - 10 + diff_below(r, 80)));
        break;
    default:
        m |= UINT64_C(1) << 63;
        se = (uint16_t)((se & 0x8000) | (0x3fff - 70 + diff_below(r, 140)));
        break;
    }
    memset(out, 0, 16);
    memcpy(out, &m, 8);
    memcpy(out + 8, &se, 2);
}

/* n bytes, a multiple of 16, of one kind of element. */
static void random_block(DiffRand *r, uint8_t *p, unsigned n)
{
    const unsigned kind = diff_below(r, 6);
    for (unsigned i = 0; i < n; i += 16) {
        uint64_t v[2];
        if (kind == 0 || kind == 1) {
            v[0] = random_f32(r) | (uint64_t)random_f32(r) << 32;
            v[1] = random_f32(r) | (uint64_t)random_f32(r) << 32;
        } else if (kind == 2 || kind == 3) {
            v[0] = random_f64(r);
            v[1] = random_f64(r);
        } else {
            v[0] = random_integer(r);
            v[1] = random_integer(r);
        }
        memcpy(p + i, v, 16);
    }
}

static void random_fx(DiffRand *r, uint8_t fx[512], bool x87)
{
    uint16_t cw = (uint16_t)(0x007f | (diff_below(r, 4) << 10));
    uint16_t sw = (uint16_t)(diff_rand(r) & 0x7f00);
    uint32_t mxcsr = 0x1f80 | diff_below(r, 4) << 13;
    uint8_t tags = 0xff;
    static const uint16_t precisions[] = { 0x300, 0x300, 0x200, 0 };
    memset(fx, 0, 512);
    cw |= precisions[diff_below(r, 4)];
    if (diff_percent(r, 25)) {
        cw = (uint16_t)((cw & ~0x3f) | (diff_rand(r) & 0x3f));
    }
    if (diff_percent(r, 30)) {
        sw |= (uint16_t)(diff_rand(r) & 0x7f);
        if (!diff_percent(r, 15)) {
            sw &= (uint16_t)(cw | 0xffc0); /* nothing pending */
        }
    }
    if (sw & ~cw & 0x3f) {
        sw |= 0x8080;
    }
    if (x87) { /* mostly valid */
        tags = (uint8_t)(diff_rand(r) | diff_rand(r) | diff_rand(r));
        if (diff_percent(r, 25)) { /* room for a push */
            tags &= (uint8_t) ~(1 << (((sw >> 11) - 1) & 7));
        }
    }
    if (diff_percent(r, 20)) {
        mxcsr |= (uint32_t)(diff_rand(r) & 0x8040);
    }
    if (diff_percent(r, 25)) {
        mxcsr = (mxcsr & ~UINT32_C(0x1f80)) | (uint32_t)(diff_rand(r) & 0x1f80);
    }
    mxcsr |= diff_percent(r, 30) ? (uint32_t)(diff_rand(r) & 0x3f) : 0;
    memcpy(fx, &cw, 2);
    memcpy(fx + 2, &sw, 2);
    fx[4] = tags;
    memcpy(fx + 24, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) {
        random_m80(r, fx + 32 + i * 16);
        if (!x87 && diff_percent(r, 80)) { /* an MMX register */
            const uint64_t v = random_integer(r);
            memcpy(fx + 32 + i * 16, &v, 8);
        }
    }
    random_block(r, fx + 160, 128);
    random_block(r, fx + 288, 128);
}

/* ---- addresses ---- */

/* Where a memory operand of `size` bytes shall lie. */
static uint64_t random_address(DiffRand *r, unsigned size, bool compat)
{
    const unsigned dice = diff_below(r, 100);
    uint64_t lin;
    size = CLAMP(size, 1, 512);
    if (dice < 2) { /* over the end of what is mapped */
        return DIFF_DATA_END - diff_below(r, MIN(size, DIFF_EDGE_LEN));
    }
    if (dice < 3) {
        return DIFF_DATA_END + diff_below(r, 64);
    }
    if (dice < 4 && !compat) {
        return (diff_rand(r) & UINT64_C(0x7fffffffffff)) | UINT64_C(0x4000) << 48;
    }
    if (dice < 10) { /* over the boundary of two pages */
        return DIFF_MID - diff_below(r, size);
    }
    lin = DIFF_ARENA + diff_below(r, DIFF_ARENA_LEN - size + 1);
    if (dice < 70 || (size >= 16 && dice < 95)) {
        lin &= ~(uint64_t)(size >= 16 ? 15 : size - 1);
    }
    return MAX(lin, DIFF_ARENA);
}

typedef struct Encoder {
    const DiffForm *form;
    DiffRand *r;
    DiffVector *v;
    unsigned reg, rm; /* 4 bits each */
    bool a32;
    uint8_t modrm, sib;
    bool has_sib;
    int32_t disp;
    unsigned disp_size;
    unsigned base, index, scale; /* 16: none */
    bool rip_relative;
    uint64_t target;
} Encoder;

/* Chooses an addressing mode for e->target and the registers' values that make it so. */
static void choose_address(Encoder *e)
{
    DiffRand *r = e->r;
    uint64_t *gpr = e->v->in.gpr;
    const unsigned n_regs = e->form->compat ? 8 : 16;
    const unsigned dice = diff_below(r, 100);
    const uint64_t mask = e->a32 || e->form->compat ? UINT32_MAX : UINT64_MAX;
    e->base = diff_below(r, n_regs);
    e->index = 16;
    e->disp_size = diff_below(r, 3);
    if (dice < 8 && e->target <= INT32_MAX) { /* absolute, or relative to RIP */
        e->base = 16;
        e->rip_relative = !e->form->compat && diff_percent(r, 50);
        e->has_sib = !e->form->compat && !e->rip_relative;
        e->disp_size = 4;
        e->disp = (int32_t)e->target; /* RIP-relative: corrected when the length is known */
        e->modrm = e->has_sib ? 4 : 5;
        e->sib = 0x25;
        return;
    }
    e->disp_size = e->disp_size == 2 ? 4 : e->disp_size;
    if (diff_percent(r, 40)) {
        e->index = diff_below(r, n_regs);
        e->scale = diff_below(r, 4);
        if (e->index == 4 || e->index == e->base || e->form->pinned >> e->index & 1) {
            e->index = 16;
        }
    }
    const bool pinned = e->form->pinned >> e->base & 1 || e->base == PTA_X86_RSP;
    if (pinned || (e->disp_size == 0 && (e->base & 7) == 5)) {
        e->disp_size = 4;
    }
    e->disp = (int32_t)diff_rand(r);
    if (e->disp_size <= 1) {
        e->disp = e->disp_size ? (int8_t)e->disp : 0;
    }
    uint64_t offset = 0;
    if (e->index != 16) {
        if (diff_percent(r, 60)) {
            gpr[e->index] &= 0xff;
        }
        offset = gpr[e->index] << e->scale;
    }
    if (pinned && e->target >> 32) { /* out of a displacement's reach */
        e->target = DIFF_DATA_END;
    }
    if (pinned) { /* its value is given: the displacement or nothing */
        if (e->index != 16) {
            gpr[e->index] = diff_below(r, 16);
            offset = gpr[e->index] << e->scale;
        }
        e->disp = (int32_t)(uint32_t)(e->target - offset - gpr[e->base]);
    } else {
        const uint64_t junk = mask == UINT32_MAX && !e->form->compat ? diff_rand(r) << 32 : 0;
        gpr[e->base] = ((e->target - offset - (uint64_t)(int64_t)e->disp) & mask) | junk;
    }
    e->has_sib = e->index != 16 || (e->base & 7) == 4;
    e->modrm = (uint8_t)((e->disp_size == 0   ? 0
                          : e->disp_size == 1 ? 0x40
                                              : 0x80) |
                         (e->has_sib ? 4 : e->base & 7));
    e->sib = (uint8_t)(e->scale << 6 | (e->index == 16 ? 4 : e->index & 7) << 3 | (e->base & 7));
}

/* ---- what single instructions ask of their operands ---- */

static bool is_bit_test(unsigned key)
{
    return key == ZYDIS_MNEMONIC_BT || key == ZYDIS_MNEMONIC_BTS || key == ZYDIS_MNEMONIC_BTR ||
           key == ZYDIS_MNEMONIC_BTC;
}

/* Implied memory operands lie in the arena, counts are small, divisions mostly succeed. */
static void prepare_registers(const DiffForm *f, const X86Row *row, DiffRand *r, DiffVector *v)
{
    uint64_t *gpr = v->in.gpr;
    for (unsigned i = 0; i < 16; i++) {
        gpr[i] = random_integer(r);
        if (f->compat) {
            gpr[i] &= UINT32_MAX;
        }
    }
    for (unsigned i = 0; i < 16; i++) {
        if (f->pinned >> i & 1) {
            /* Two of them, or one that may be masked: which #GP or #PF comes first is open. */
            const bool canonical = f->compat || f->pinned & (f->pinned - 1) ||
                                   row->handler == op_maskmovq || row->handler == op_maskmovdqu;
            gpr[i] = random_address(r, MAX(f->mem_size, 8), canonical);
        }
    }
    gpr[PTA_X86_RSP] = DIFF_MID - 128 + (diff_below(r, 32) * 8) + (diff_percent(r, 10) ? 3 : 0);
    if (row->props & X86_P_REP) {
        gpr[PTA_X86_RCX] = diff_below(r, 20);
        if (diff_percent(r, 3)) {
            gpr[PTA_X86_RDI] = DIFF_DATA_END - 40;
        }
    }
    switch (row->key) {
    case ZYDIS_MNEMONIC_XLAT:
        gpr[PTA_X86_RBX] = DIFF_ARENA + diff_below(r, DIFF_ARENA_LEN - 256);
        break;
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
        gpr[PTA_X86_RBP] = DIFF_MID + diff_below(r, 64) * 4;
        gpr[PTA_X86_RSP] = DIFF_MID + 256;
        break;
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        if (diff_percent(r, 60)) {
            const bool minus = row->key == ZYDIS_MNEMONIC_IDIV && diff_percent(r, 40);
            gpr[PTA_X86_RDX] = minus ? UINT64_MAX : diff_below(r, 3) ? 0 : diff_below(r, 1000);
        }
        break;
    default:
        break;
    }
    if (f->compat) {
        for (unsigned i = 0; i < 16; i++) {
            gpr[i] = i < 8 ? gpr[i] & UINT32_MAX : 0;
        }
    }
}

/* Immediates that the test can bear. */
static uint64_t choose_immediate(const DiffForm *f, const X86Row *row, DiffRand *r, unsigned which)
{
    if (f->branches) {
        return diff_below(r, 24);
    }
    if (row->key == ZYDIS_MNEMONIC_ENTER) {
        return which == 0 ? diff_below(r, 96) : diff_below(r, 6) | (diff_rand(r) & 0xe0);
    }
    return random_integer(r);
}

/* Results that the SDM leaves open: not to be compared at all. */
static bool undefined_result(const X86Row *row, const X86Insn *in, const DiffVector *v)
{
    if (row->props & X86_P_REP && in->ea & X86_EA_A32 && !v->compat) {
        /* whether upper halves are cleared although nothing was done */
        return (uint32_t)v->in.gpr[PTA_X86_RCX] == 0 || v->in.gpr[PTA_X86_RDI] >> 32 ||
               v->in.gpr[PTA_X86_RSI] >> 32;
    }
    const unsigned count =
        in->form == X86_F_E_R ? (unsigned)v->in.gpr[PTA_X86_RCX] & 31 : (unsigned)in->imm & 31;
    switch (row->key) {
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        return in->width == 2 && count > 16;
    case ZYDIS_MNEMONIC_BSWAP:
        return in->width == 2;
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU: /* whether masked bytes fault */
        return (uint32_t)v->in.gpr[PTA_X86_RDI] > DIFF_DATA_END - 16;
    case ZYDIS_MNEMONIC_BOUND:
    case ZYDIS_MNEMONIC_FBSTP:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE: /* what of it is done before the fault */
        return v->target > DIFF_DATA_END - 128;
    case ZYDIS_MNEMONIC_FSTP:
        return in->opcode == 0xdb && v->target > DIFF_DATA_END - 10;
    default:
        return false;
    }
}

/* ---- a vector ---- */

static void put(DiffVector *v, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size && v->len < 16; i++) {
        v->code[v->len++] = (uint8_t)(value >> i * 8);
    }
}

static void encode(Encoder *e)
{
    const DiffForm *f = e->form;
    const X86Row *row = &x86_rows[f->row];
    DiffVector *v = e->v;
    unsigned rex = f->rex_w ? 0x48 : 0;
    uint8_t opcode[8];
    if (f->lockable ? f->mem && diff_percent(e->r, 15) : diff_percent(e->r, 1)) {
        put(v, 0xf0, 1);
    }
    if (e->a32) {
        put(v, 0x67, 1);
    }
    if (!f->compat) {
        rex |= (e->reg & 8 ? 0x44u : 0) | (!f->mem && e->rm & 8 ? 0x41u : 0);
        if (f->mem && e->base < 16) {
            rex |= e->base & 8 ? 0x41u : 0;
            rex |= e->index < 16 && e->index & 8 ? 0x42u : 0;
        }
        if (diff_percent(e->r, 5)) {
            rex |= 0x40; /* SPL and its like instead of AH */
        }
    }
    const unsigned n = put_opcode(opcode, f, rex);
    if (!f->has_modrm && f->opcode != 0x90 && e->reg != 0 && (f->opcode & 7) == 0) {
        /* Perhaps a register in the opcode: another row then, and the caller throws again. */
        opcode[n - 1] |= e->reg & 7;
    }
    for (unsigned i = 0; i < n; i++) {
        put(v, opcode[i], 1);
    }
    unsigned disp_at = 0;
    if (f->has_modrm) {
        put(v, (f->mem ? e->modrm : 0xc0u | (e->rm & 7)) | (e->reg & 7) << 3, 1);
        if (f->mem) {
            if (e->has_sib) {
                put(v, e->sib, 1);
            }
            disp_at = v->len;
            put(v, (uint64_t)(int64_t)e->disp, e->disp_size);
        }
    }
    if (f->moffs) {
        put(v, e->target, f->imm[0]);
    } else {
        put(v, choose_immediate(f, row, e->r, 0), f->imm[0]);
        put(v, choose_immediate(f, row, e->r, 1), f->imm[1]);
    }
    if (e->rip_relative) {
        const int32_t rel = (int32_t)(e->target - (v->in.rip + v->len));
        memcpy(v->code + disp_at, &rel, 4);
    }
}

/* Indirect branches go to the slot as well. */
static void aim_branch(const DiffForm *f, const ZydisDecodedInstruction *z, const Encoder *e)
{
    DiffVector *v = e->v;
    const uint64_t target = v->in.rip + 20 + diff_below(e->r, 40);
    uint64_t where = 0;
    if (z->mnemonic == ZYDIS_MNEMONIC_RET) {
        where = v->in.gpr[PTA_X86_RSP];
    } else if (f->mem) {
        where = e->target;
    } else if (f->has_modrm) {
        v->in.gpr[e->rm] = target;
    }
    if (where >= DIFF_ARENA && where + 8 <= DIFF_ARENA + DIFF_ARENA_LEN) {
        memcpy(v->in.arena + (where - DIFF_ARENA), &target, f->compat ? 4 : 8);
    }
}

bool diff_make(const DiffForm *f, DiffRand *r, unsigned slot, DiffVector *v)
{
    const X86Row *row = &x86_rows[f->row];
    const bool x87 = row->props & X86_P_X87;
    Encoder e = { .form = f, .r = r, .v = v, .base = 16, .index = 16 };
    ZydisDecodedInstruction z;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    X86Insn in;
    X86Decoded info;
    memset(v, 0, sizeof(*v));
    v->compat = f->compat;
    v->branches = f->branches;
    v->in.rip = DIFF_CODE + slot * DIFF_SLOT;
    v->in.rflags = (diff_rand(r) & X86_STATUS) | 0x202 | (diff_percent(r, 15) ? X86_DF : 0);
    random_fx(r, v->in.fx, x87);
    random_block(r, v->in.arena, DIFF_ARENA_LEN);
    random_block(r, v->in.edge, DIFF_EDGE_LEN);
    prepare_registers(f, row, r, v);
    e.reg = f->reg >= 0 ? (unsigned)f->reg : diff_below(r, f->compat ? 8 : 16);
    e.rm = f->rm >= 0 ? (unsigned)f->rm : diff_below(r, f->compat ? 8 : 16);
    e.a32 = !f->compat && (f->mem || f->pinned) && diff_percent(r, 5) && !f->moffs;
    e.target = random_address(r, f->mem_size, f->compat || e.a32);
    if (f->mem) {
        if (is_bit_test(row->key) && f->reg < 0) { /* the register's bits go beyond the operand */
            e.target = DIFF_MID;
        }
        choose_address(&e);
        if (is_bit_test(row->key) && f->reg < 0) {
            if (e.reg == e.base || e.reg == e.index) {
                return false;
            }
            v->in.gpr[e.reg] = (uint64_t)((int64_t)diff_below(r, 4000) - 2000);
            if (f->compat) {
                v->in.gpr[e.reg] &= UINT32_MAX;
            }
        }
    }
    v->target = e.target;
    encode(&e);
    if (!decode(v->code, f->compat, &z, ops)) {
        return v->code[0] == 0xf0; /* LOCK where it may not be: #UD */
    }
    if (z.length != v->len ||
        x86_decode(diff_decoder(), mode_bits(f->compat), v->code, 15, &in, &info) !=
            X86_DECODE_OK ||
        in.row != f->row || undefined_result(row, &in, v)) {
        return false;
    }
    if (f->branches) {
        aim_branch(f, &z, &e);
        if (z.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR && e.rm == PTA_X86_RSP && !f->mem &&
            f->has_modrm) {
            return false;
        }
    }
    if (row->key == ZYDIS_MNEMONIC_POPF || row->key == ZYDIS_MNEMONIC_POPFD ||
        row->key == ZYDIS_MNEMONIC_POPFQ) { /* no TF, NT, AC */
        const uint64_t flags = (diff_rand(r) & (X86_STATUS | X86_DF | X86_ID)) | 0x202;
        memcpy(v->in.arena + (v->in.gpr[PTA_X86_RSP] - DIFF_ARENA), &flags, 8);
    }
    return true;
}
