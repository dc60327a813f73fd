/*
 * Port I/O and the interrupt flag: IN, OUT, INS, OUTS with the I/O permission bitmap (SDM vol. 1,
 * chapter 19), CLI, STI. Runs on the VP's thread; devices answer through the platform.
 */
#include "config.h"

#include "src/soft/opcodes.h"
#include "src/soft/soft.h"
#include "src/soft/system.h"

/* #GP(0) unless IOPL or the bitmap of the TSS allow the ports. */
static void check_ports(X86Cpu *c, const X86Insn *in, uint16_t port, unsigned size)
{
    if (!x86_protected(c) || (!x86_in_vm86(c) && c->cpl <= x86_iopl(c))) {
        return;
    }
    bool wide_enough = (c->tr.attrs & X86_ATTR_TYPE) == X86_TYPE_TSS32_BUSY && c->tr.limit >= 103;
    if (!wide_enough || (c->tr.attrs & PTA_X86_SEG_UNUSABLE)) {
        x86_raise_gp(c, in, 0);
    }
    uint32_t map = (uint32_t)x86_sys_load(c, in, c->tr.base + 102, 2);
    uint32_t at = map + port / 8;
    if (at + 1 > c->tr.limit) {
        x86_raise_gp(c, in, 0);
    }
    unsigned bits = (unsigned)x86_sys_load(c, in, c->tr.base + at, 2);
    if (bits >> (port & 7) & ((1u << size) - 1)) {
        x86_raise_gp(c, in, 0);
    }
}

static uint32_t port_in(X86Cpu *c, uint16_t port, unsigned size)
{
    const PtaPlatform *p = c->machine->platform;
    c->stats[X86_STAT_PIO]++;
    x86_serialize(c);
    x86_debug_io(c, port, size);
    return p->pio_read(p->opaque, port, size);
}

static void port_out(X86Cpu *c, uint16_t port, unsigned size, uint32_t value)
{
    const PtaPlatform *p = c->machine->platform;
    c->stats[X86_STAT_PIO]++;
    x86_serialize(c);
    x86_debug_io(c, port, size);
    p->pio_write(p->opaque, port, size, value);
}

static uint16_t port_operand(const X86Cpu *c, const X86Insn *in)
{
    bool immediate = (in->opcode & 0x0c) == 0x04; /* E4 to E7; EC to EF take DX */
    return immediate ? (uint8_t)in->imm : (uint16_t)c->gpr[PTA_X86_RDX];
}

/* Bit 0 of these opcodes is the width: byte, or the operand size, of which 8 means 4. */
static unsigned port_width(const X86Insn *in)
{
    return in->opcode & 1 ? MIN(in->width, 4u) : 1;
}

void op_in(X86Cpu *c, const X86Insn *in)
{
    uint16_t port = port_operand(c, in);
    unsigned size = port_width(in);
    check_ports(c, in, port, size);
    x86_set_reg(c, PTA_X86_RAX * 8, size, port_in(c, port, size));
}

void op_out(X86Cpu *c, const X86Insn *in)
{
    uint16_t port = port_operand(c, in);
    unsigned size = port_width(in);
    check_ports(c, in, port, size);
    port_out(c, port, size, (uint32_t)x86_reg(c, PTA_X86_RAX * 8, size));
}

/* ---- strings ---- */

static uint64_t address_mask(const X86Insn *in)
{
    return in->ea & X86_EA_A16 ? UINT16_MAX : in->ea & X86_EA_A32 ? UINT32_MAX : UINT64_MAX;
}

static void advance(X86Cpu *c, unsigned reg, uint64_t mask, int64_t by)
{
    uint64_t value = (c->gpr[reg] + (uint64_t)by) & mask;
    /* A 32-bit register clears the upper half, a 16-bit one keeps the rest. */
    c->gpr[reg] = mask == UINT16_MAX ? (c->gpr[reg] & ~mask) | value : value;
}

static uint64_t string_linear(X86Cpu *c, const X86Insn *in, unsigned seg, uint64_t offset,
                              unsigned size, X86Access access)
{
    return x86_seg_check(c, in, seg, offset, size, access);
}

static void ins_one(X86Cpu *c, const X86Insn *in, uint16_t port, unsigned size, uint64_t mask)
{
    uint64_t offset = c->gpr[PTA_X86_RDI] & mask;
    uint64_t lin = string_linear(c, in, PTA_X86_ES, offset, size, X86_WRITE);
    x86_probe(c, in, lin, size, X86_WRITE); /* a device read cannot be undone */
    x86_store(c, in, lin, size, port_in(c, port, size));
    advance(c, PTA_X86_RDI, mask, c->rflags & X86_DF ? -(int64_t)size : (int64_t)size);
}

static void outs_one(X86Cpu *c, const X86Insn *in, uint16_t port, unsigned size, uint64_t mask)
{
    unsigned seg = in->seg == X86_SEG_FLAT ? PTA_X86_DS : in->seg;
    uint64_t offset = c->gpr[PTA_X86_RSI] & mask;
    uint64_t lin = string_linear(c, in, seg, offset, size, X86_READ);
    port_out(c, port, size, (uint32_t)x86_load(c, in, lin, size));
    advance(c, PTA_X86_RSI, mask, c->rflags & X86_DF ? -(int64_t)size : (int64_t)size);
}

static void string_io(X86Cpu *c, const X86Insn *in,
                      void (*one)(X86Cpu *, const X86Insn *, uint16_t, unsigned, uint64_t))
{
    uint16_t port = (uint16_t)c->gpr[PTA_X86_RDX];
    unsigned size = port_width(in);
    uint64_t mask = address_mask(in);
    check_ports(c, in, port, size); /* even if nothing is to be done */
    if (!(in->pfx & (X86_PFX_REP | X86_PFX_REPNE))) {
        one(c, in, port, size, mask);
        return;
    }
    if ((c->gpr[PTA_X86_RCX] & mask) == 0) {
        return;
    }
    do {
        one(c, in, port, size, mask);
        advance(c, PTA_X86_RCX, mask, -1);
        if ((c->gpr[PTA_X86_RCX] & mask) == 0) {
            return;
        }
    } while (__atomic_load_n(&c->attention, __ATOMIC_RELAXED) == 0);
    x86_string_again(c);
}

void op_ins(X86Cpu *c, const X86Insn *in)
{
    string_io(c, in, ins_one);
}

void op_outs(X86Cpu *c, const X86Insn *in)
{
    string_io(c, in, outs_one);
}

/* ---- the interrupt flag ---- */

static void check_iopl(X86Cpu *c, const X86Insn *in)
{
    if (x86_protected(c) && c->cpl > x86_iopl(c)) {
        x86_raise_gp(c, in, 0); /* virtual-8086 mode has CPL 3; VME and PVI are not offered */
    }
}

void op_cli(X86Cpu *c, const X86Insn *in)
{
    check_iopl(c, in);
    c->rflags &= ~(uint64_t)X86_IF;
}

void op_sti(X86Cpu *c, const X86Insn *in)
{
    check_iopl(c, in);
    if (!(c->rflags & X86_IF)) {
        x86_set_rflags(c, X86_IF, X86_IF);
        c->shadow = 1;
        x86_attend(c, X86_ATT_STEP);
    }
}
