/*
 * Machine code -> X86Insn. Zydis says what the instruction is and where its operands are; this file
 * brings that into the form that handlers read without asking again. Runs in the VP's thread.
 */
#include "config.h"

#include "src/soft/decode.h"

#include <string.h>

/* Row by key, filled once from the table. */
static uint16_t row_by_key[X86_KEY_END];

static void fill_rows(void)
{
    for (unsigned i = 1; i < X86_N_ROWS; i++) {
        row_by_key[x86_rows[i].key] = (uint16_t)i;
    }
}

unsigned x86_row_of(unsigned key)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        fill_rows();
        g_once_init_leave(&once, 1);
    }
    return key < X86_KEY_END ? row_by_key[key] : X86_ROW_INVALID;
}

void x86_decoder_init(X86Decoder *d, uint64_t features)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth stack;
    } sizes[3] = {
        [X86_MODE_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
        [X86_MODE_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
        [X86_MODE_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
    };
    /* Encodings that are something older where the feature is absent: NOP (MPX, CET, CLDEMOTE),
     * WBINVD, BSR, BSF. */
    static const ZydisDecoderMode off[] = { ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET,
                                            ZYDIS_DECODER_MODE_CLDEMOTE,
                                            ZYDIS_DECODER_MODE_WBNOINVD, ZYDIS_DECODER_MODE_KNC };
    x86_row_of(0);
    d->features = features;
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        ZydisDecoderInit(&d->size[i], sizes[i].mode, sizes[i].stack);
        for (unsigned j = 0; j < G_N_ELEMENTS(off); j++) {
            ZydisDecoderEnableMode(&d->size[i], off[j], ZYAN_FALSE);
        }
        ZydisDecoderEnableMode(&d->size[i], ZYDIS_DECODER_MODE_LZCNT,
                               features >> PTA_X86_FEAT_LZCNT & 1);
        ZydisDecoderEnableMode(&d->size[i], ZYDIS_DECODER_MODE_TZCNT,
                               features >> PTA_X86_FEAT_BMI1 & 1);
    }
}

/* Zydis' mnemonic, or one of ours where it is too coarse. */
static unsigned key_of(const ZydisDecodedInstruction *z)
{
    bool map0 = z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        if (map0 && (z->opcode == 0x8c || z->opcode == 0x8e)) {
            return X86_KEY_MOV_SEG;
        }
        if (z->opcode_map == ZYDIS_OPCODE_MAP_0F && (z->opcode & 0xf8) == 0x20) {
            return z->opcode & 1 ? X86_KEY_MOV_DR : X86_KEY_MOV_CR;
        }
        return z->mnemonic;
    case ZYDIS_MNEMONIC_PUSH:
        if (map0 ? z->opcode < 0x20 : true) {
            return X86_KEY_PUSH_SEG;
        }
        return z->mnemonic;
    case ZYDIS_MNEMONIC_POP:
        if (map0 ? z->opcode < 0x20 : true) {
            return X86_KEY_POP_SEG;
        }
        return z->mnemonic;
    case ZYDIS_MNEMONIC_CALL:
        return z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? X86_KEY_CALL_FAR : z->mnemonic;
    case ZYDIS_MNEMONIC_JMP:
        return z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? X86_KEY_JMP_FAR : z->mnemonic;
    case ZYDIS_MNEMONIC_RET:
        return z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? X86_KEY_RET_FAR : z->mnemonic;
    case ZYDIS_MNEMONIC_MOVSD:
        return map0 ? z->mnemonic : X86_KEY_MOVSD_SSE;
    case ZYDIS_MNEMONIC_CMPSD:
        return map0 ? z->mnemonic : X86_KEY_CMPSD_SSE;
    default:
        return z->mnemonic;
    }
}

static uint8_t gpr_offset(ZydisRegister reg, ZydisRegisterClass class)
{
    unsigned id = (unsigned)ZydisRegisterGetId(reg);
    if (class == ZYDIS_REGCLASS_GPR8) { /* AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B … */
        return (uint8_t)(id < 4 ? id * 8 : id < 8 ? (id - 4) * 8 + 1 : (id - 4) * 8);
    }
    return (uint8_t)(id * 8);
}

static uint8_t reg_operand(ZydisRegister reg)
{
    ZydisRegisterClass class = ZydisRegisterGetClass(reg);
    switch (class) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return gpr_offset(reg, class);
    default:
        return (uint8_t)ZydisRegisterGetId(reg);
    }
}

static uint8_t address_register(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_NONE) {
        return X86_R_ZERO;
    }
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) {
        return X86_R_CODE;
    }
    return (uint8_t)ZydisRegisterGetId(reg);
}

/* Segment and address size, for explicit and for implied (string) memory operands. */
static void decode_address_size(const ZydisDecodedInstruction *z, unsigned mode, X86Insn *in)
{
    bool long_mode = (mode & X86_MODE_SIZE) == X86_MODE_64;
    if (!long_mode) {
        in->ea |= X86_EA_CHECK;
    } else if (in->seg != PTA_X86_FS && in->seg != PTA_X86_GS) {
        in->seg = X86_SEG_FLAT;
    }
    if (z->address_width == 32) {
        in->ea |= X86_EA_A32;
    } else if (z->address_width == 16) {
        in->ea |= X86_EA_A16;
    }
}

static void decode_memory(const ZydisDecodedOperand *op, const ZydisDecodedInstruction *z,
                          unsigned mode, X86Insn *in)
{
    in->ea = X86_EA_MEM;
    in->base = address_register(op->mem.base);
    in->index = address_register(op->mem.index);
    in->scale = op->mem.scale > 1 ? (uint8_t)__builtin_ctz(op->mem.scale) : 0;
    in->disp = (int32_t)op->mem.disp.value;
    in->seg = op->mem.segment == ZYDIS_REGISTER_NONE ? PTA_X86_DS
                                                     : (uint8_t)ZydisRegisterGetId(op->mem.segment);
    if (in->seg == PTA_X86_SS) {
        in->ea |= X86_EA_SS;
    }
    if (in->base == X86_R_CODE) {
        /* Relative to the next instruction; X86_R_CODE is the page, so the builder adds off. */
        in->disp += z->length;
    }
    if (op->encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64 && z->address_width == 64) {
        in->form = X86_F_MOFFS;
        in->imm = (uint64_t)op->mem.disp.value;
    }
    decode_address_size(z, mode, in);
}

static void decode_operands(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
                            unsigned n, unsigned mode, const X86Row *row, X86Insn *in)
{
    bool vector = (row->props & (X86_P_X87 | X86_P_MMX | X86_P_SSE)) != 0;
    unsigned n_imm = 0;
    for (unsigned i = 0; i < n; i++) {
        const ZydisDecodedOperand *op = &ops[i];
        bool is_rm = op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM;
        switch (op->type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            if (is_rm) {
                in->rm = reg_operand(op->reg.value);
            } else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG ||
                       op->encoding == ZYDIS_OPERAND_ENCODING_OPCODE ||
                       row->key == X86_KEY_PUSH_SEG || row->key == X86_KEY_POP_SEG) {
                in->reg = reg_operand(op->reg.value);
            }
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            decode_memory(op, z, mode, in);
            break;
        case ZYDIS_OPERAND_TYPE_POINTER:
            in->imm = op->ptr.offset;
            in->aux = op->ptr.segment;
            break;
        default:
            if (n_imm++ == 0) {
                in->imm = op->imm.value.u;
            } else {
                in->aux = op->imm.value.u;
            }
            break;
        }
        if (vector && is_rm) {
            in->width = (uint8_t)(op->size / 8);
        }
    }
}

/* Brings ALU-like operands into a few forms; see X86_F_*. */
static uint8_t form_of(const ZydisDecodedInstruction *z, X86Insn *in)
{
    bool mem = (in->ea & X86_EA_MEM) != 0;
    uint8_t op = z->opcode;
    uint8_t form;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
        form = op >= 0x80 || (op & 4) ? X86_F_E_I : op & 2 ? X86_F_R_E : X86_F_E_R;
        break;
    case ZYDIS_MNEMONIC_TEST:
        form = op == 0x84 || op == 0x85 ? X86_F_E_R : X86_F_E_I;
        break;
    case ZYDIS_MNEMONIC_MOV:
        if (op >= 0xb0 && op < 0xc0) { /* the register is in the opcode: make it E */
            in->rm = in->reg;
            return X86_F_E_I;
        }
        form = op >= 0xc6 ? X86_F_E_I : op & 2 ? X86_F_R_E : X86_F_E_R;
        if (op >= 0xa0 && op < 0xa4) {
            form = op & 2 ? X86_F_E_R : X86_F_R_E;
        }
        break;
    case ZYDIS_MNEMONIC_MOVNTI:
        return X86_F_E_R;
    case ZYDIS_MNEMONIC_IMUL:
        return z->opcode_map == ZYDIS_OPCODE_MAP_0F ? X86_F_R_E
               : op == 0x69 || op == 0x6b           ? X86_F_R_E_I
                                                    : X86_F_E;
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
        if (op == 0xd0 || op == 0xd1) {
            in->imm = 1;
        }
        return op == 0xd2 || op == 0xd3 ? X86_F_E_R : X86_F_E_I; /* E_R: by CL */
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        return op == 0xba ? X86_F_E_I : X86_F_E_R;
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        return op & 1 ? X86_F_E_R : X86_F_E_I; /* E_R: by CL */
    case ZYDIS_MNEMONIC_PUSH:
        if (op == 0x68 || op == 0x6a) {
            return X86_F_E_I;
        }
        if (op != 0xff) {
            in->rm = in->reg;
        }
        return X86_F_E;
    case ZYDIS_MNEMONIC_POP:
        if (op != 0x8f) {
            in->rm = in->reg;
        }
        return X86_F_E;
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
        if (op < 0x50) {
            in->rm = in->reg;
        }
        return X86_F_E;
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP:
        return op == 0xff ? X86_F_E : X86_F_E_I;
    default:
        return X86_F_E;
    }
    if (form == X86_F_R_E && !mem) { /* register to register: one form */
        uint8_t reg = in->reg;
        in->reg = in->rm;
        in->rm = reg;
        form = X86_F_E_R;
    }
    return form;
}

/* Which rows surely define all (or some) flags, so that earlier results are dead. */
static uint16_t flags_defined(const X86Row *row, const X86Insn *in)
{
    switch (row->key) {
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
        return X86_STATUS;
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
        return X86_STATUS & ~X86_CF;
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
        return in->form == X86_F_E_I && (in->imm & 31) != 0 ? X86_STATUS : 0;
    default:
        return 0;
    }
}

static void describe(const ZydisDecodedInstruction *z, const X86Row *row, const X86Insn *in,
                     X86Decoded *info)
{
    *info = (X86Decoded){ 0 };
    if (z->cpu_flags) {
        info->reads = (uint16_t)(z->cpu_flags->tested & X86_STATUS);
    }
    info->writes = flags_defined(row, in);
    switch (row->key) {
    case ZYDIS_MNEMONIC_LEA:
    case ZYDIS_MNEMONIC_NOP:
        info->may_fault = false;
        break;
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_MUL: /* generic handlers: cheap to call anyway */
        info->may_fault = true;
        break;
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_RET:
        info->branch = true;
        info->may_fault = true;
        break;
    default:
        info->branch = row->key >= ZYDIS_MNEMONIC_JB && row->key <= ZYDIS_MNEMONIC_JZ &&
                       row->handler == op_jcc;
        info->may_fault = (in->ea & X86_EA_MEM) || !(row->props & X86_P_INT);
        break;
    }
    if (info->branch) { /* whoever comes next may look at all of them */
        info->reads = X86_STATUS;
    }
}

/* F3 and F2 are kept where they mean something to a handler. */
static uint8_t prefixes_of(const ZydisDecodedInstruction *z)
{
    uint8_t pfx = 0;
    if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK) {
        pfx |= X86_PFX_LOCK;
    }
    if (z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) {
        pfx |= X86_PFX_REP;
    }
    if (z->attributes & ZYDIS_ATTRIB_HAS_REPNE) {
        pfx |= X86_PFX_REPNE;
    }
    if (z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) {
        pfx |= X86_PFX_OPSIZE;
    }
    if ((z->attributes & ZYDIS_ATTRIB_HAS_REX) && z->raw.rex.W) {
        pfx |= X86_PFX_REXW;
    }
    for (unsigned i = 0; i < z->raw.prefix_count; i++) { /* those that select the opcode */
        if (z->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY) {
            uint8_t value = z->raw.prefixes[i].value;
            pfx |= value == 0xf3   ? X86_PFX_REP
                   : value == 0xf2 ? X86_PFX_REPNE
                   : value == 0x66 ? X86_PFX_OPSIZE
                                   : 0;
        }
    }
    return pfx;
}

static bool lacks_feature(const X86Decoder *d, const X86Row *row, unsigned mode)
{
    if (!(d->features >> row->feature & 1) && row->feature != PTA_X86_FEAT_BASE) {
        return true;
    }
    return (row->key == ZYDIS_MNEMONIC_LAHF || row->key == ZYDIS_MNEMONIC_SAHF) &&
           (mode & X86_MODE_SIZE) == X86_MODE_64 && !(d->features >> PTA_X86_FEAT_LAHF64 & 1);
}

static X86DecodeStatus failure(ZyanStatus status)
{
    switch (status) {
    case ZYDIS_STATUS_NO_MORE_DATA:
        return X86_DECODE_MORE;
    case ZYDIS_STATUS_INSTRUCTION_TOO_LONG:
        return X86_DECODE_TOO_LONG;
    default:
        return X86_DECODE_UD;
    }
}

/* Whether a bad address is #SS: what has no memory operand but the stack. */
static bool uses_stack(unsigned key)
{
    switch (key) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
        return true;
    default:
        return false;
    }
}

/*
 * No row has it. Whether a CPU with more features than our models may: not what is meant to be
 * undefined, what belongs to a feature that a model could have and this one lacks, and what takes a
 * mode that no model can enter (VMX, SVM, SMX).
 */
static X86DecodeStatus unknown(const X86Decoder *d, const ZydisDecodedInstruction *z)
{
    static const struct {
        ZydisISAExt ext;
        PtaX86Feature feature; /* N_FEATURES: no model has it */
    } governed[] = {
        { ZYDIS_ISA_EXT_BMI1, PTA_X86_FEAT_BMI1 },
        { ZYDIS_ISA_EXT_BMI2, PTA_X86_FEAT_BMI2 },
        { ZYDIS_ISA_EXT_LZCNT, PTA_X86_FEAT_LZCNT },
        { ZYDIS_ISA_EXT_MOVBE, PTA_X86_FEAT_MOVBE },
        { ZYDIS_ISA_EXT_RDRAND, PTA_X86_FEAT_RDRAND },
        { ZYDIS_ISA_EXT_RDSEED, PTA_X86_FEAT_RDSEED },
        { ZYDIS_ISA_EXT_CLFLUSHOPT, PTA_X86_FEAT_CLFLUSHOPT },
        { ZYDIS_ISA_EXT_XSAVE, PTA_X86_FEAT_XSAVE },
        { ZYDIS_ISA_EXT_XSAVEC, PTA_X86_FEAT_XSAVE },
        { ZYDIS_ISA_EXT_XSAVES, PTA_X86_FEAT_XSAVE },
        { ZYDIS_ISA_EXT_XSAVEOPT, PTA_X86_FEAT_XSAVE },
        { ZYDIS_ISA_EXT_VTX, PTA_X86_N_FEATURES },
        { ZYDIS_ISA_EXT_SVM, PTA_X86_N_FEATURES },
        { ZYDIS_ISA_EXT_SMX, PTA_X86_N_FEATURES },
        { ZYDIS_ISA_EXT_AMD3DNOW, PTA_X86_N_FEATURES },
        { ZYDIS_ISA_EXT_XOP, PTA_X86_N_FEATURES },
    };
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
        return X86_DECODE_UD;
    default:
        break;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(governed); i++) {
        if (governed[i].ext == z->meta.isa_ext) {
            PtaX86Feature f = governed[i].feature;
            return f < PTA_X86_N_FEATURES && (d->features >> f & 1) ? X86_DECODE_UNKNOWN
                                                                    : X86_DECODE_UD;
        }
    }
    bool vector = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ||
                  z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
    return vector ? X86_DECODE_UNKNOWN_VECTOR : X86_DECODE_UNKNOWN;
}

static X86DecodeStatus decode(const X86Decoder *d, unsigned mode, const uint8_t *bytes, size_t n,
                              ZydisDecodedInstruction *out, X86Insn *in, X86Decoded *info)
{
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT_VISIBLE];
    ZydisDecoderContext context;
    const ZydisDecoder *decoder = &d->size[mode & X86_MODE_SIZE];
    ZyanStatus status = ZydisDecoderDecodeInstruction(decoder, &context, bytes, n, out);
    if (!ZYAN_SUCCESS(status)) {
        return failure(status);
    }
    const ZydisDecodedInstruction *z = out;
    unsigned row_index = x86_row_of(key_of(z));
    const X86Row *row = &x86_rows[row_index];
    if (row_index == X86_ROW_INVALID) {
        return unknown(d, z);
    }
    if (lacks_feature(d, row, mode)) {
        return X86_DECODE_UD;
    }
    *in = (X86Insn){
        .base = X86_R_ZERO,
        .index = X86_R_ZERO,
        .width = z->operand_width / 8,
        .len = z->length,
        .opcode = z->opcode,
        .row = (uint16_t)row_index,
        .seg = PTA_X86_DS,
        .pfx = prefixes_of(z),
        .reg = z->raw.modrm.reg,
        .rm = z->raw.modrm.rm,
    };
    if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
        in->modrm =
            (uint8_t)(z->raw.modrm.mod << 6 | (z->raw.modrm.reg & 7) << 3 | (z->raw.modrm.rm & 7));
        in->reg |= (uint8_t)(z->raw.rex.R << 3);
        in->rm |= (uint8_t)(z->raw.rex.B << 3);
    }
    if (z->operand_count_visible > 0) {
        if (!ZYAN_SUCCESS(
                ZydisDecoderDecodeOperands(decoder, &context, z, ops, z->operand_count_visible))) {
            return X86_DECODE_UD;
        }
        decode_operands(z, ops, z->operand_count_visible, mode, row, in);
    }
    if (!(in->ea & X86_EA_MEM)) { /* implied operands: strings, XLAT, the stack */
        if (uses_stack(row->key)) {
            in->ea |= X86_EA_SS;
        }
        if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT) {
            uint64_t which =
                (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT) / ZYDIS_ATTRIB_HAS_SEGMENT_CS;
            static const uint8_t order[] = { PTA_X86_CS, PTA_X86_SS, PTA_X86_DS,
                                             PTA_X86_ES, PTA_X86_FS, PTA_X86_GS };
            in->seg = order[__builtin_ctzll(which)];
        }
        decode_address_size(z, mode, in);
    }
    if (in->form != X86_F_MOFFS) {
        in->form = row->key >= X86_KEY_FIRST ? X86_F_E : form_of(z, in);
    }
    describe(z, row, in, info);
    return X86_DECODE_OK;
}

/* ---- what was decoded before ----
 *
 * Code that was dropped from the cache of blocks comes back, and the same few thousand instructions
 * make up most of any code, but for their displacements and immediates. An entry holds a decoded
 * instruction and which of its bytes decide what it is; what the others say is put into a copy.
 */

#define MEMO_BITS 11
#define MEMO_SIZE (1u << MEMO_BITS)

typedef struct MemoField {
    uint8_t at;   /* offset of a displacement or an immediate in the code */
    uint8_t size; /* in bytes; 0: there is none, or it is among the bytes that decide */
    bool is_signed;
} MemoField;

typedef struct MemoEntry {
    uint64_t bytes; /* those that decide, the first in the lowest bits */
    uint64_t mask;
    uint8_t mode; /* X86_MODE_SIZE */
    MemoField disp, imm;
    int32_t disp_extra; /* what the decoder adds to the displacement */
    X86Decoded info;
    X86Insn insn; /* len 0: the entry is empty */
} MemoEntry;

struct X86Memo {
    MemoEntry entries[MEMO_SIZE];
};

void x86_decoder_remember(X86Decoder *d)
{
    d->memo = g_new0(X86Memo, 1);
}

void x86_decoder_clear(X86Decoder *d)
{
    g_clear_pointer(&d->memo, g_free);
}

static uint64_t low_bytes(unsigned n)
{
    return n >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * n) - 1;
}

/* One-byte opcodes with a ModRM byte (SDM volume 2, table A-2), VEX and EVEX apart. */
static const uint64_t has_modrm[4] = {
    UINT64_C(0x0f0f0f0f0f0f0f0f),
    UINT64_C(0x00000a0c00000000),
    UINT64_C(0x000000000000ffff),
    UINT64_C(0xc0c00000ff0f00c3),
};

/* An entry for these bytes: hashes what probably decides. A wrong guess costs a miss, no more. */
static MemoEntry *memo_entry(X86Memo *memo, uint64_t head, unsigned size)
{
    unsigned i = 0;
    uint8_t op = (uint8_t)head;
    while (i < 3 && (op == 0x66 || op == 0xf2 || op == 0xf3 || op == 0x65 ||
                     (size == X86_MODE_64 && (op & 0xf0) == 0x40))) {
        op = (uint8_t)(head >> 8 * ++i);
    }
    bool modrm;
    if (op == 0x0f) {
        op = (uint8_t)(head >> 8 * ++i);
        modrm = (op & 0xf0) != 0x80; /* not Jcc */
    } else {
        modrm = has_modrm[op >> 6] >> (op & 63) & 1;
    }
    if (modrm) {
        uint8_t byte = (uint8_t)(head >> 8 * ++i);
        if ((byte & 7) == 4 && byte < 0xc0) {
            i++; /* SIB */
        }
    }
    uint64_t hash = ((head & low_bytes(i + 1)) + size) * UINT64_C(0x9e3779b97f4a7c15);
    return &memo->entries[hash >> (64 - MEMO_BITS)];
}

static uint64_t read_field(const MemoField *f, const uint8_t *bytes)
{
    uint64_t value = 0;
    memcpy(&value, bytes + f->at, f->size);
    value = GUINT64_FROM_LE(value);
    unsigned above = 64 - 8u * f->size;
    return f->is_signed ? (uint64_t)((int64_t)(value << above) >> above) : value;
}

static void memo_fill(const MemoEntry *e, const uint8_t *bytes, X86Insn *in)
{
    *in = e->insn;
    if (e->disp.size) {
        in->disp = (int32_t)((uint32_t)read_field(&e->disp, bytes) + (uint32_t)e->disp_extra);
    }
    if (e->imm.size) {
        in->imm = read_field(&e->imm, bytes);
    }
}

/* Whether the immediate has no say in anything but in->imm. */
static bool imm_is_data(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_SHL: /* flags_defined(): not by 0 */
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
        return false;
    default:
        return z->raw.imm[1].size == 0;
    }
}

static void memo_keep(MemoEntry *e, uint64_t head, unsigned size, const ZydisDecodedInstruction *z,
                      const X86Insn *in, const X86Decoded *info)
{
    unsigned decide = z->length;
    MemoField disp = { 0 }, imm = { 0 };
    if (z->raw.imm[0].size && imm_is_data(z)) {
        imm = (MemoField){ .at = z->raw.imm[0].offset,
                           .size = z->raw.imm[0].size / 8,
                           .is_signed = z->raw.imm[0].is_signed };
        decide = imm.at;
    }
    bool imm_apart = imm.size || !z->raw.imm[0].size;
    if (z->raw.disp.size && imm_apart && in->form != X86_F_MOFFS && z->raw.disp.offset < decide) {
        disp = (MemoField){ .at = z->raw.disp.offset,
                            .size = z->raw.disp.size / 8,
                            .is_signed = true };
        decide = disp.at;
    }
    if (decide > 8) {
        return;
    }
    *e = (MemoEntry){
        .bytes = head & low_bytes(decide),
        .mask = low_bytes(decide),
        .mode = (uint8_t)size,
        .disp = disp,
        .imm = imm,
        .disp_extra = in->base == X86_R_CODE ? z->length : 0,
        .info = *info,
        .insn = *in,
    };
}

X86DecodeStatus x86_decode(const X86Decoder *d, unsigned mode, const uint8_t *bytes, size_t n,
                           X86Insn *in, X86Decoded *info)
{
    ZydisDecodedInstruction z;
    if (!d->memo) {
        return decode(d, mode, bytes, n, &z, in, info);
    }
    uint64_t head = 0;
    memcpy(&head, bytes, MIN(n, sizeof(head)));
    head = GUINT64_FROM_LE(head);
    unsigned size = mode & X86_MODE_SIZE;
    MemoEntry *e = memo_entry(d->memo, head, size);
    if (e->mode == size && ((head ^ e->bytes) & e->mask) == 0 && e->insn.len && e->insn.len <= n) {
        memo_fill(e, bytes, in);
        *info = e->info;
        return X86_DECODE_OK;
    }
    X86DecodeStatus status = decode(d, mode, bytes, n, &z, in, info);
    if (status == X86_DECODE_OK) {
        memo_keep(e, head, size, &z, in, info);
    }
    return status;
}
