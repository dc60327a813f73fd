/* BT, BTS, BTR, BTC (bit strings in memory included), BSF, BSR, LZCNT, TZCNT, POPCNT, BSWAP, MOVBE,
 * CRC32. */
#include "config.h"

#include "src/soft/int.h"

enum { BT, BTS, BTR, BTC };

static void set_flag(X86Cpu *c, uint64_t flag, bool on)
{
    uint64_t status = x86_flags_pack(&c->flags) & ~flag;
    x86_set_status(c, status | (on ? flag : 0));
}

static uint64_t bit_op(unsigned op, uint64_t a, uint64_t mask)
{
    switch (op) {
    case BTS:
        return a | mask;
    case BTR:
        return a & ~mask;
    default:
        return a ^ mask;
    }
}

static uint64_t modify_set(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return old | arg;
}

static uint64_t modify_reset(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return old & ~arg;
}

static uint64_t modify_complement(uint64_t old, uint64_t arg, unsigned width)
{
    (void)width;
    return old ^ arg;
}

/* Linear address of the word that has the bit: a register counts bits from the operand's address,
 * either way. */
static uint64_t bit_string_address(X86Cpu *c, const X86Insn *in, X86Access access)
{
    unsigned width = in->width;
    if (in->form == X86_F_E_I) {
        return x86_ea(c, in, width, access);
    }
    int64_t bit = (int64_t)x86_sign_extend(x86_reg(c, in->reg, width), width);
    int64_t bytes = (bit >> (width == 8 ? 6 : width == 4 ? 5 : 4)) * (int64_t)width;
    if (G_LIKELY(!(in->ea & X86_EA_SLOW))) {
        return x86_ea(c, in, width, access) + (uint64_t)bytes;
    }
    uint64_t offset = x86_ea_offset(c, in) + (uint64_t)bytes;
    offset = in->ea & X86_EA_A16   ? (uint16_t)offset
             : in->ea & X86_EA_A32 ? (uint32_t)offset
                                   : offset;
    if (in->ea & X86_EA_CHECK) {
        return x86_seg_check(c, in, in->seg, offset, width, access);
    }
    return offset + c->seg_base[in->seg];
}

static void bit_test(X86Cpu *c, const X86Insn *in, unsigned op)
{
    unsigned width = in->width;
    uint64_t n = in->form == X86_F_E_I ? in->imm : x86_reg(c, in->reg, width);
    uint64_t mask = UINT64_C(1) << (n & (width * 8 - 1));
    uint64_t a;
    if (!x86_e_mem(in)) {
        a = x86_reg(c, in->rm, width);
        if (op != BT) {
            x86_set_reg(c, in->rm, width, bit_op(op, a, mask));
        }
    } else if (op == BT) {
        a = x86_load(c, in, bit_string_address(c, in, X86_READ), width);
    } else {
        uint64_t lin = bit_string_address(c, in, X86_WRITE);
        if (in->pfx & X86_PFX_LOCK) {
            static X86Modify *const how[] = {
                [BTS] = modify_set, [BTR] = modify_reset, [BTC] = modify_complement
            };
            a = x86_locked_at(c, in, lin, width, how[op], mask);
        } else {
            if (!x86_tlb_lookup(c->tlb->write, lin, width)) {
                x86_probe(c, in, lin, width, X86_WRITE);
            }
            a = x86_load(c, in, lin, width);
            x86_store(c, in, lin, width, bit_op(op, a, mask));
        }
    }
    set_flag(c, X86_CF, (a & mask) != 0);
}

void op_bt(X86Cpu *c, const X86Insn *in)
{
    bit_test(c, in, BT);
}

void op_bts(X86Cpu *c, const X86Insn *in)
{
    bit_test(c, in, BTS);
}

void op_btr(X86Cpu *c, const X86Insn *in)
{
    bit_test(c, in, BTR);
}

void op_btc(X86Cpu *c, const X86Insn *in)
{
    bit_test(c, in, BTC);
}

/* With a source of 0 the destination stays, upper half included (as both vendors do). */
static void bit_scan(X86Cpu *c, const X86Insn *in, bool reverse)
{
    uint64_t a = x86_e_load(c, in, in->width);
    if (a) {
        x86_set_reg(c, in->reg, in->width,
                    reverse ? 63 - (unsigned)__builtin_clzll(a) : (unsigned)__builtin_ctzll(a));
    }
    set_flag(c, X86_ZF, a == 0);
}

void op_bsf(X86Cpu *c, const X86Insn *in)
{
    bit_scan(c, in, false);
}

void op_bsr(X86Cpu *c, const X86Insn *in)
{
    bit_scan(c, in, true);
}

static void count_zeros(X86Cpu *c, const X86Insn *in, bool leading)
{
    unsigned bits = in->width * 8u;
    uint64_t a = x86_e_load(c, in, in->width);
    unsigned n = bits;
    if (a) {
        n = leading ? (unsigned)__builtin_clzll(a) - (64 - bits) : (unsigned)__builtin_ctzll(a);
    }
    x86_set_reg(c, in->reg, in->width, n);
    set_flag(c, X86_CF, a == 0);
    set_flag(c, X86_ZF, n == 0);
}

void op_lzcnt(X86Cpu *c, const X86Insn *in)
{
    count_zeros(c, in, true);
}

void op_tzcnt(X86Cpu *c, const X86Insn *in)
{
    count_zeros(c, in, false);
}

void op_popcnt(X86Cpu *c, const X86Insn *in)
{
    uint64_t a = x86_e_load(c, in, in->width);
    x86_set_reg(c, in->reg, in->width, (unsigned)__builtin_popcountll(a));
    x86_set_status(c, a == 0 ? X86_ZF : 0);
}

static uint64_t swap_bytes(uint64_t v, unsigned width)
{
    return __builtin_bswap64(v) >> (64 - width * 8);
}

/* 16 bits: undefined; the register's low half becomes 0, as on Intel's cores. */
void op_bswap(X86Cpu *c, const X86Insn *in)
{
    uint64_t v = x86_reg(c, in->reg, in->width);
    x86_set_reg(c, in->reg, in->width, in->width == 2 ? 0 : swap_bytes(v, in->width));
}

void op_movbe(X86Cpu *c, const X86Insn *in)
{
    if (in->opcode & 1) {
        x86_e_store(c, in, in->width, swap_bytes(x86_reg(c, in->reg, in->width), in->width));
    } else {
        x86_set_reg(c, in->reg, in->width, swap_bytes(x86_e_load(c, in, in->width), in->width));
    }
}

/* CRC-32C, bit-reflected, without inversions; the source is 1, 2, 4 or 8 bytes. */
void op_crc32(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->opcode == 0xf0         ? 1
                     : in->pfx & X86_PFX_REXW   ? 8
                     : in->pfx & X86_PFX_OPSIZE ? 2
                                                : in->width;
    if (in->opcode == 0xf1 && width == 2 && (c->mode & X86_MODE_SIZE) == X86_MODE_16) {
        width = 4; /* 66 widens there */
    }
    uint64_t v = x86_e_load(c, in, width);
    uint32_t crc = (uint32_t)x86_reg(c, in->reg, 4);
    for (unsigned i = 0; i < width * 8; i++) {
        uint32_t bit = (crc ^ (uint32_t)(v >> i)) & 1;
        crc = crc >> 1 ^ (bit ? UINT32_C(0x82f63b78) : 0);
    }
    x86_set_reg(c, in->reg, 8, crc);
}
