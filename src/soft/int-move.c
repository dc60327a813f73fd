/* MOV, MOVZX, MOVSX, MOVSXD, LEA, CMOVcc, SETcc, sign extensions, XLAT, flag moves. */
#include "config.h"

#include "src/soft/int.h"

/* ---- any mode, any operand ---- */

/* A0-A3 with an address that does not fit into disp. */
static uint64_t moffs(const X86Cpu *c, const X86Insn *in)
{
    return c->seg_base[in->seg] + in->imm;
}

void op_mov(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    switch (in->form) {
    case X86_F_E_I:
        x86_e_store(c, in, width, in->imm);
        break;
    case X86_F_E_R:
        x86_e_store(c, in, width, x86_reg(c, in->reg, width));
        break;
    case X86_F_MOFFS:
        if (in->opcode & 2) {
            x86_store(c, in, moffs(c, in), width, x86_reg(c, PTA_X86_RAX * 8, width));
        } else {
            x86_set_reg(c, PTA_X86_RAX * 8, width, x86_load(c, in, moffs(c, in), width));
        }
        break;
    default:
        x86_set_reg(c, in->reg, width, x86_e_load(c, in, width));
        break;
    }
}

void op_movzx(X86Cpu *c, const X86Insn *in)
{
    x86_set_reg(c, in->reg, in->width, x86_e_load(c, in, in->opcode & 1 ? 2 : 1));
}

void op_movsx(X86Cpu *c, const X86Insn *in)
{
    unsigned from = in->opcode & 1 ? 2 : 1;
    x86_set_reg(c, in->reg, in->width, x86_sign_extend(x86_e_load(c, in, from), from));
}

void op_movsxd(X86Cpu *c, const X86Insn *in)
{
    unsigned from = in->width == 8 ? 4 : in->width;
    x86_set_reg(c, in->reg, in->width, x86_sign_extend(x86_e_load(c, in, from), from));
}

void op_lea(X86Cpu *c, const X86Insn *in)
{
    x86_set_reg(c, in->reg, in->width, x86_ea_offset(c, in));
}

/* The source is read whatever the condition; a 4-byte destination is always written. */
void op_cmov(X86Cpu *c, const X86Insn *in)
{
    uint64_t v = x86_e_load(c, in, in->width);
    if (x86_cond(&c->flags, in->opcode & 15)) {
        x86_set_reg(c, in->reg, in->width, v);
    } else if (in->width == 4) {
        x86_set_reg(c, in->reg, 4, x86_reg(c, in->reg, 4));
    }
}

void op_setcc(X86Cpu *c, const X86Insn *in)
{
    x86_e_store(c, in, 1, x86_cond(&c->flags, in->opcode & 15));
}

/* CBW, CWDE, CDQE: width is the result's. */
void op_cbw(X86Cpu *c, const X86Insn *in)
{
    unsigned from = in->width / 2;
    x86_set_reg(c, PTA_X86_RAX * 8, in->width,
                x86_sign_extend(x86_reg(c, PTA_X86_RAX * 8, from), from));
}

/* CWD, CDQ, CQO. */
void op_cwd(X86Cpu *c, const X86Insn *in)
{
    uint64_t a = x86_sign_extend(x86_reg(c, PTA_X86_RAX * 8, in->width), in->width);
    x86_set_reg(c, PTA_X86_RDX * 8, in->width, (int64_t)a < 0 ? UINT64_MAX : 0);
}

void op_xlat(X86Cpu *c, const X86Insn *in)
{
    uint64_t offset = c->gpr[PTA_X86_RBX] + X86_REG8(c, PTA_X86_RAX * 8);
    offset = in->ea & X86_EA_A16   ? (uint16_t)offset
             : in->ea & X86_EA_A32 ? (uint32_t)offset
                                   : offset;
    uint64_t lin = in->ea & X86_EA_CHECK ? x86_seg_check(c, in, in->seg, offset, 1, X86_READ)
                                         : offset + c->seg_base[in->seg];
    X86_REG8(c, PTA_X86_RAX * 8) = (uint8_t)x86_load8(c, in, lin);
}

void op_lahf(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    uint64_t low = x86_flags_pack(&c->flags) & (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF);
    X86_REG8(c, PTA_X86_RAX * 8 + 1) = (uint8_t)(low | 2);
}

void op_sahf(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    uint64_t ah = X86_REG8(c, PTA_X86_RAX * 8 + 1);
    uint64_t mask = X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF;
    x86_set_status(c, (ah & mask) | (x86_of(&c->flags) ? X86_OF : 0));
}

static void set_carry(X86Cpu *c, bool cf)
{
    x86_set_status(c, (x86_flags_pack(&c->flags) & ~(uint64_t)X86_CF) | cf);
}

void op_cmc(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    set_carry(c, !x86_cf(&c->flags));
}

void op_clc(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    set_carry(c, false);
}

void op_stc(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    set_carry(c, true);
}

void op_cld(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    c->rflags &= ~(uint64_t)X86_DF;
}

void op_std(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    c->rflags |= X86_DF;
}

void op_nop(X86Cpu *c, const X86Insn *in)
{
    (void)c, (void)in;
}

void op_fence(X86Cpu *c, const X86Insn *in)
{
    (void)c, (void)in;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Nothing to flush, but the address is checked like that of a load. */
void op_clflush(X86Cpu *c, const X86Insn *in)
{
    x86_load8(c, in, x86_ea(c, in, 1, X86_READ));
}

void op_ud(X86Cpu *c, const X86Insn *in)
{
    x86_raise_ud(c, in);
}

/* ---- specialised ---- */

#define MOV(w)                                                \
    static void mov_rr##w(X86Cpu *c, const X86Insn *in)       \
    {                                                         \
        x86_put(c, in->rm, w, x86_get(c, in->reg, w));        \
        X86_NEXT(c, in);                                      \
    }                                                         \
    static void mov_ri##w(X86Cpu *c, const X86Insn *in)       \
    {                                                         \
        x86_put(c, in->rm, w, in->imm);                       \
        X86_NEXT(c, in);                                      \
    }                                                         \
    LOAD(mov_rm##w, w, w, X86_EAK_BASE, , op_mov)             \
    LOAD(mov_rx##w, w, w, X86_EAK_ANY, , op_mov)              \
    STORE(mov_mr##w, w, X86_EAK_BASE, x86_get(c, in->reg, w)) \
    STORE(mov_xr##w, w, X86_EAK_ANY, x86_get(c, in->reg, w))  \
    STORE(mov_mi##w, w, X86_EAK_BASE, in->imm)                \
    STORE(mov_xi##w, w, X86_EAK_ANY, in->imm)

/* Loads `from` bytes, converts, puts `w` bytes into reg. */
#define LOAD(name, w, from, kind, convert, slow)                                      \
    static void name(X86Cpu *c, const X86Insn *in)                                    \
    {                                                                                 \
        const void *p = x86_tlb_lookup(c->tlb->read, x86_ea_fast(c, in, kind), from); \
        if (G_LIKELY(p)) {                                                            \
            x86_put(c, in->reg, w, convert(x86_peek(p, from)));                       \
        } else {                                                                      \
            slow(c, in);                                                              \
        }                                                                             \
        X86_NEXT(c, in);                                                              \
    }
#define STORE(name, w, kind, value)                                           \
    static void name(X86Cpu *c, const X86Insn *in)                            \
    {                                                                         \
        void *p = x86_tlb_lookup(c->tlb->write, x86_ea_fast(c, in, kind), w); \
        if (G_LIKELY(p)) {                                                    \
            x86_poke(p, w, value);                                            \
        } else {                                                              \
            op_mov(c, in);                                                    \
        }                                                                     \
        X86_NEXT(c, in);                                                      \
    }
MOV(1)
MOV(2)
MOV(4)
MOV(8)

#define SEXT1(v) x86_sign_extend(v, 1)
#define SEXT2(v) x86_sign_extend(v, 2)
#define SEXT4(v) x86_sign_extend(v, 4)
#define EXTEND(name, w, from, convert, slow)                       \
    static void name##_r(X86Cpu *c, const X86Insn *in)             \
    {                                                              \
        x86_put(c, in->reg, w, convert(x86_get(c, in->rm, from))); \
        X86_NEXT(c, in);                                           \
    }                                                              \
    LOAD(name##_m, w, from, X86_EAK_BASE, convert, slow)           \
    LOAD(name##_x, w, from, X86_EAK_ANY, convert, slow)
/* MOVZX to 4 and to 8 bytes is the same. */
EXTEND(movzx1, 8, 1, , op_movzx)
EXTEND(movzx2, 8, 2, , op_movzx)
EXTEND(movsx14, 4, 1, SEXT1, op_movsx)
EXTEND(movsx24, 4, 2, SEXT2, op_movsx)
EXTEND(movsx18, 8, 1, SEXT1, op_movsx)
EXTEND(movsx28, 8, 2, SEXT2, op_movsx)
EXTEND(movsxd48, 8, 4, SEXT4, op_movsxd)

#define LEA(name, w, value)                        \
    static void name(X86Cpu *c, const X86Insn *in) \
    {                                              \
        x86_put(c, in->reg, w, value);             \
        X86_NEXT(c, in);                           \
    }
#define LEA_BASE  (c->gpr[in->base] + (uint64_t)(int64_t)in->disp)
#define LEA_INDEX (LEA_BASE + (c->gpr[in->index] << in->scale))
LEA(lea_m4, 4, LEA_BASE)
LEA(lea_m8, 8, LEA_BASE)
LEA(lea_x4, 4, LEA_INDEX)
LEA(lea_x8, 8, LEA_INDEX)

#define CBW(name, w, from)                                        \
    static void name(X86Cpu *c, const X86Insn *in)                \
    {                                                             \
        uint64_t v = x86_get(c, PTA_X86_RAX * 8, from);           \
        x86_put(c, PTA_X86_RAX * 8, w, x86_sign_extend(v, from)); \
        X86_NEXT(c, in);                                          \
    }
CBW(cwde, 4, 2)
CBW(cdqe, 8, 4)

static void cdq(X86Cpu *c, const X86Insn *in)
{
    c->gpr[PTA_X86_RDX] = (uint32_t)((int32_t)c->gpr[PTA_X86_RAX] >> 31);
    X86_NEXT(c, in);
}

static void cqo(X86Cpu *c, const X86Insn *in)
{
    c->gpr[PTA_X86_RDX] = (uint64_t)((int64_t)c->gpr[PTA_X86_RAX] >> 63);
    X86_NEXT(c, in);
}

static void nop(X86Cpu *c, const X86Insn *in)
{
    X86_NEXT(c, in);
}

#define FOR_WIDTH(name)                    \
    {                                      \
        name##1, name##2, name##4, name##8 \
    }

static X86Handler *select_mov(const X86Insn *in, bool mem)
{
    static X86Handler *const table[][4] = {
        FOR_WIDTH(mov_rr), FOR_WIDTH(mov_ri), FOR_WIDTH(mov_rm), FOR_WIDTH(mov_rx),
        FOR_WIDTH(mov_mr), FOR_WIDTH(mov_xr), FOR_WIDTH(mov_mi), FOR_WIDTH(mov_xi),
    };
    unsigned any = mem && x86_ea_kind(in) == X86_EAK_ANY;
    unsigned which;
    switch (in->form) {
    case X86_F_E_R:
        which = mem ? 4 + any : 0;
        break;
    case X86_F_E_I:
        which = mem ? 6 + any : 1;
        break;
    case X86_F_R_E:
        which = 2 + any;
        break;
    default:
        return NULL;
    }
    return table[which][x86_log2(in->width)];
}

X86Handler *x86_select_move(const X86Insn *in, const X86Select *s)
{
    bool mem = x86_e_mem(in);
    if (in->row == X86_ROW_LEA) {
        if ((in->ea & (X86_EA_SLOW & ~X86_EA_CHECK)) || in->width < 4) {
            return NULL;
        }
        return in->index == X86_R_ZERO ? (in->width == 8 ? lea_m8 : lea_m4)
                                       : (in->width == 8 ? lea_x8 : lea_x4);
    }
    if (mem && (!s->wide || (in->ea & X86_EA_SLOW))) {
        return NULL;
    }
    bool any = mem && x86_ea_kind(in) == X86_EAK_ANY;
#define PICK(name) (!mem ? name##_r : any ? name##_x : name##_m)
    switch (in->row) {
    case X86_ROW_MOV:
    case X86_ROW_MOVNTI:
        return select_mov(in, mem);
    case X86_ROW_MOVZX:
        if (in->width < 4) {
            return NULL;
        }
        return in->opcode & 1 ? PICK(movzx2) : PICK(movzx1);
    case X86_ROW_MOVSX:
        if (in->width < 4) {
            return NULL;
        }
        if (in->width == 8) {
            return in->opcode & 1 ? PICK(movsx28) : PICK(movsx18);
        }
        return in->opcode & 1 ? PICK(movsx24) : PICK(movsx14);
    case X86_ROW_MOVSXD:
        return in->width == 8 ? PICK(movsxd48) : NULL;
    case X86_ROW_CWDE:
        return cwde;
    case X86_ROW_CDQE:
        return cdqe;
    case X86_ROW_CDQ:
        return cdq;
    case X86_ROW_CQO:
        return cqo;
    case X86_ROW_NOP:
        return nop;
    default:
        return NULL;
    }
}

/* ---- CMOVcc, SETcc, one per condition ---- */

#define COND(n)                                                    \
    static void set_##n(X86Cpu *c, const X86Insn *in)              \
    {                                                              \
        X86_REG8(c, in->rm) = x86_cond(&c->flags, n);              \
        X86_NEXT(c, in);                                           \
    }                                                              \
    static void cmov4_##n(X86Cpu *c, const X86Insn *in)            \
    {                                                              \
        unsigned from = x86_cond(&c->flags, n) ? in->rm : in->reg; \
        x86_put(c, in->reg, 4, x86_get(c, from, 4));               \
        X86_NEXT(c, in);                                           \
    }                                                              \
    static void cmov8_##n(X86Cpu *c, const X86Insn *in)            \
    {                                                              \
        unsigned from = x86_cond(&c->flags, n) ? in->rm : in->reg; \
        x86_put(c, in->reg, 8, x86_get(c, from, 8));               \
        X86_NEXT(c, in);                                           \
    }
COND(0)
COND(1)
COND(2)
COND(3)
COND(4)
COND(5)
COND(6)
COND(7)
COND(8)
COND(9)
COND(10)
COND(11)
COND(12)
COND(13)
COND(14)
COND(15)
#define ALL(name)                                                                                 \
    {                                                                                             \
        name##_0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8, \
            name##_9, name##_10, name##_11, name##_12, name##_13, name##_14, name##_15,           \
    }

X86Handler *x86_select_cond(const X86Insn *in, const X86Select *s)
{
    static X86Handler *const set[16] = ALL(set), *const cmov4[16] = ALL(cmov4),
                             *const cmov8[16] = ALL(cmov8);
    unsigned cc = in->opcode & 15;
    (void)s;
    if (x86_e_mem(in)) {
        return NULL;
    }
    if (x86_rows[in->row].handler == op_setcc) {
        return set[cc];
    }
    return in->width == 4 ? cmov4[cc] : in->width == 8 ? cmov8[cc] : NULL;
}
