/*
 * Privileged and other system instructions: descriptor table registers, control and debug registers,
 * HLT, CPUID, TSC, MSRs, hypercalls. SDM vol. 2 for each. Runs on the VP's thread. Privilege and
 * mode were checked where the row says so (opcodes-sys.def).
 */
#include "config.h"

#include "src/soft/opcodes.h"
#include "src/soft/soft.h"
#include "src/soft/system.h"

static void check_umip(X86Cpu *c, const X86Insn *in)
{
    if ((c->cr4 & X86_CR4_UMIP) && c->cpl > 0) {
        x86_raise_gp(c, in, 0);
    }
}

static uint16_t word_operand(X86Cpu *c, const X86Insn *in)
{
    if (in->ea & X86_EA_MEM) {
        return (uint16_t)x86_load16(c, in, x86_ea(c, in, 2, X86_READ));
    }
    return X86_REG16(c, in->rm);
}

/* SLDT, STR, SMSW: memory gets 16 bits, a register its whole width. */
static void store_word(X86Cpu *c, const X86Insn *in, uint64_t value)
{
    if (in->ea & X86_EA_MEM) {
        x86_store16(c, in, x86_ea(c, in, 2, X86_WRITE), value);
    } else {
        x86_set_reg(c, in->rm, in->width, value);
    }
}

/* ---- GDTR, IDTR, LDTR, TR ---- */

static void store_table(X86Cpu *c, const X86Insn *in, uint64_t base, uint16_t limit)
{
    check_umip(c, in);
    unsigned width = x86_in_64bit(c) ? 8 : 4;
    uint64_t lin = x86_ea(c, in, 2 + width, X86_WRITE);
    x86_probe(c, in, lin, 2 + width, X86_WRITE);
    x86_store16(c, in, lin, limit);
    x86_store(c, in, lin + 2, width, base);
}

void op_sgdt(X86Cpu *c, const X86Insn *in)
{
    store_table(c, in, c->gdtr.base, c->gdtr.limit);
}

void op_sidt(X86Cpu *c, const X86Insn *in)
{
    store_table(c, in, c->idtr.base, c->idtr.limit);
}

static uint64_t load_table(X86Cpu *c, const X86Insn *in, uint16_t *limit)
{
    bool wide = x86_in_64bit(c);
    unsigned width = wide ? 8 : 4;
    uint64_t lin = x86_ea(c, in, 2 + width, X86_READ);
    *limit = (uint16_t)x86_load16(c, in, lin);
    uint64_t base = x86_load(c, in, lin + 2, width);
    if (!wide && in->width == 2) {
        base &= 0xffffff;
    }
    if (!x86_canonical(base)) {
        x86_raise_gp(c, in, 0);
    }
    return base;
}

void op_lgdt(X86Cpu *c, const X86Insn *in)
{
    uint16_t limit;
    uint64_t base = load_table(c, in, &limit);
    x86_serialize(c);
    c->gdtr.base = base;
    c->gdtr.limit = limit;
}

void op_lidt(X86Cpu *c, const X86Insn *in)
{
    uint16_t limit;
    uint64_t base = load_table(c, in, &limit);
    x86_serialize(c);
    c->idtr.base = base;
    c->idtr.limit = limit;
}

void op_sldt(X86Cpu *c, const X86Insn *in)
{
    check_umip(c, in);
    store_word(c, in, c->ldtr.selector);
}

void op_str(X86Cpu *c, const X86Insn *in)
{
    check_umip(c, in);
    store_word(c, in, c->tr.selector);
}

/* The descriptor for LLDT or LTR as a segment; in long mode it has 16 bytes. */
static X86Seg load_system_segment(X86Cpu *c, const X86Insn *in, uint16_t selector, bool tss,
                                  X86Desc *d)
{
    uint32_t error = selector & ~3u;
    if ((selector & 4) || !x86_desc_read(c, in, selector, d)) {
        x86_raise_gp(c, in, error);
    }
    unsigned attrs = x86_desc_attrs(d);
    bool ok = tss ? x86_is_system(attrs, X86_TYPE_TSS32) ||
                        (!x86_in_long_mode(c) && x86_is_system(attrs, X86_TYPE_TSS16))
                  : x86_is_system(attrs, X86_TYPE_LDT);
    if (!ok) {
        x86_raise_gp(c, in, error);
    }
    if (!(attrs & X86_ATTR_P)) {
        x86_raise(c, in, X86_NP, error);
    }
    X86Seg s = x86_desc_segment(selector, d);
    if (x86_in_long_mode(c)) {
        uint32_t high;
        uint32_t zero;
        if (!x86_desc_read_high(c, in, selector, d, &high, &zero) || (zero & 0x1f00)) {
            x86_raise_gp(c, in, error);
        }
        s.base |= (uint64_t)high << 32;
        if (!x86_canonical(s.base)) {
            x86_raise_gp(c, in, error);
        }
    }
    return s;
}

void op_lldt(X86Cpu *c, const X86Insn *in)
{
    uint16_t selector = word_operand(c, in);
    x86_serialize(c);
    if (x86_null_selector(selector)) {
        c->ldtr = (X86Seg){ .selector = selector, .attrs = PTA_X86_SEG_UNUSABLE };
        return;
    }
    X86Desc d;
    c->ldtr = load_system_segment(c, in, selector, false, &d);
}

void op_ltr(X86Cpu *c, const X86Insn *in)
{
    uint16_t selector = word_operand(c, in);
    if (x86_null_selector(selector)) {
        x86_raise_gp(c, in, 0);
    }
    X86Desc d;
    X86Seg tr = load_system_segment(c, in, selector, true, &d);
    x86_desc_set_busy(c, in, &d, true);
    tr.attrs |= 2;
    c->tr = tr;
    x86_serialize(c);
}

/* ---- control registers ---- */

void op_mov_cr(X86Cpu *c, const X86Insn *in)
{
    unsigned width = x86_in_64bit(c) ? 8 : 4;
    if (in->opcode & 2) {
        uint64_t value = x86_reg(c, in->rm, width);
        bool ok = true;
        x86_serialize(c);
        switch (in->reg) {
        case 0:
            ok = x86_set_cr0(c, value);
            break;
        case 2:
            c->cr2 = value;
            break;
        case 3:
            ok = x86_set_cr3(c, value);
            break;
        case 4:
            ok = x86_set_cr4(c, value);
            break;
        case 8:
            ok = value <= 15;
            if (ok) {
                x86_lapic_set_tpr(c, value);
            }
            break;
        default:
            x86_raise_ud(c, in);
        }
        if (!ok) {
            x86_raise_gp(c, in, 0);
        }
        return;
    }
    uint64_t value = 0;
    switch (in->reg) {
    case 0:
        value = c->cr0;
        break;
    case 2:
        value = c->cr2;
        break;
    case 3:
        value = c->cr3;
        break;
    case 4:
        value = c->cr4;
        break;
    case 8:
        value = x86_lapic_tpr(c);
        break;
    default:
        x86_raise_ud(c, in);
    }
    x86_set_reg(c, in->rm, width, value);
}

void op_clts(X86Cpu *c, const X86Insn *in)
{
    c->cr0 &= ~X86_CR0_TS;
    x86_mode_changed(c);
}

void op_smsw(X86Cpu *c, const X86Insn *in)
{
    check_umip(c, in);
    store_word(c, in, c->cr0);
}

void op_lmsw(X86Cpu *c, const X86Insn *in)
{
    uint64_t low = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
    x86_serialize(c);
    uint64_t value = (c->cr0 & ~(low & ~X86_CR0_PE)) | (word_operand(c, in) & low);
    if (!x86_set_cr0(c, value)) {
        x86_raise_gp(c, in, 0);
    }
}

/* ---- debug registers (SDM vol. 3, 17.2) ---- */

static void write_dr(X86Cpu *c, const X86Insn *in, unsigned n, uint64_t value)
{
    if (n < 4) {
        c->dr[n] = value;
    } else if (value >> 32) {
        x86_raise_gp(c, in, 0);
    } else if (n == 6) {
        c->dr6 = (value & (X86_DR6_BD | X86_DR6_BS | X86_DR6_BT | 0xf)) | X86_DR6_FIXED;
        return;
    } else {
        c->dr7 = (value & UINT64_C(0xffff23ff)) | X86_DR7_FIXED;
    }
    x86_debug_changed(c);
}

void op_mov_dr(X86Cpu *c, const X86Insn *in)
{
    unsigned n = in->reg;
    if (n >= 8 || ((n == 4 || n == 5) && (c->cr4 & X86_CR4_DE))) {
        x86_raise_ud(c, in);
    }
    n |= n == 4 || n == 5 ? 2 : 0;
    if (c->dr7 & X86_DR7_GD) {
        x86_raise_db(c, in, X86_DR6_BD, false);
    }
    unsigned width = x86_in_64bit(c) ? 8 : 4;
    if (in->opcode & 2) {
        x86_serialize(c);
        write_dr(c, in, n, x86_reg(c, in->rm, width));
    } else {
        x86_set_reg(c, in->rm, width, n < 4 ? c->dr[n] : n == 6 ? c->dr6 : c->dr7);
    }
}

/* ---- memory types and translations ---- */

void op_invlpg(X86Cpu *c, const X86Insn *in)
{
    uint64_t lin = c->seg_base[in->seg] + x86_ea_offset(c, in); /* no limit, no rights */
    if (!x86_in_long_mode(c)) {
        lin = (uint32_t)lin;
    }
    x86_serialize(c);
    x86_tlb_flush_page(c, lin);
}

/* INVD, WBINVD: memory is always coherent here. */
void op_wbinvd(X86Cpu *c, const X86Insn *in)
{
}

/* ---- HLT, CPUID, time ---- */

void op_hlt(X86Cpu *c, const X86Insn *in)
{
    x86_attend(c, X86_ATT_HALT);
}

static void set_pair(X86Cpu *c, uint64_t value)
{
    c->gpr[PTA_X86_RAX] = (uint32_t)value;
    c->gpr[PTA_X86_RDX] = value >> 32;
}

void op_cpuid(X86Cpu *c, const X86Insn *in)
{
    uint32_t out[4];
    c->stats[X86_STAT_CPUID]++;
    x86_serialize(c);
    pta_cpuid_query(c->cpuid, c->index, c->cr4, c->xcr0, (uint32_t)c->gpr[PTA_X86_RAX],
                    (uint32_t)c->gpr[PTA_X86_RCX], out);
    if ((uint32_t)c->gpr[PTA_X86_RAX] == 1 && !(c->msr.apic_base & 0x800)) {
        out[3] &= ~(UINT32_C(1) << 9); /* SDM vol. 3, 10.4.3: no APIC while it is off */
    }
    c->gpr[PTA_X86_RAX] = out[0];
    c->gpr[PTA_X86_RBX] = out[1];
    c->gpr[PTA_X86_RCX] = out[2];
    c->gpr[PTA_X86_RDX] = out[3];
}

static void check_tsd(X86Cpu *c, const X86Insn *in)
{
    if ((c->cr4 & X86_CR4_TSD) && c->cpl > 0) {
        x86_raise_gp(c, in, 0);
    }
}

void op_rdtsc(X86Cpu *c, const X86Insn *in)
{
    check_tsd(c, in);
    set_pair(c, x86_tsc(c));
}

void op_rdtscp(X86Cpu *c, const X86Insn *in)
{
    check_tsd(c, in);
    set_pair(c, x86_tsc(c));
    c->gpr[PTA_X86_RCX] = (uint32_t)c->msr.tsc_aux;
}

/* No counter is offered, so every index is wrong. */
void op_rdpmc(X86Cpu *c, const X86Insn *in)
{
    x86_raise_gp(c, in, 0);
}

void op_rdmsr(X86Cpu *c, const X86Insn *in)
{
    uint64_t value;
    c->stats[X86_STAT_MSR]++;
    if (!x86_rdmsr(c, (uint32_t)c->gpr[PTA_X86_RCX], &value)) {
        x86_raise_gp(c, in, 0);
    }
    set_pair(c, value);
}

void op_wrmsr(X86Cpu *c, const X86Insn *in)
{
    uint64_t value = (uint32_t)c->gpr[PTA_X86_RAX] | c->gpr[PTA_X86_RDX] << 32;
    c->stats[X86_STAT_MSR]++;
    x86_serialize(c);
    if (!x86_wrmsr(c, (uint32_t)c->gpr[PTA_X86_RCX], value)) {
        x86_raise_gp(c, in, 0);
    }
}

/* ---- FS and GS bases ---- */

void op_swapgs(X86Cpu *c, const X86Insn *in)
{
    if (c->cpl != 0) {
        x86_raise_gp(c, in, 0);
    }
    uint64_t base = c->seg[PTA_X86_GS].base;
    c->seg[PTA_X86_GS].base = c->seg_base[PTA_X86_GS] = c->msr.kernel_gs_base;
    c->msr.kernel_gs_base = base;
}

static void check_fsgsbase(X86Cpu *c, const X86Insn *in)
{
    if (!(c->cr4 & X86_CR4_FSGSBASE)) {
        x86_raise_ud(c, in);
    }
}

static void write_base(X86Cpu *c, const X86Insn *in, unsigned seg)
{
    check_fsgsbase(c, in);
    uint64_t base = x86_reg(c, in->rm, in->width);
    if (!x86_canonical(base)) {
        x86_raise_gp(c, in, 0);
    }
    c->seg[seg].base = c->seg_base[seg] = base;
}

void op_rdfsbase(X86Cpu *c, const X86Insn *in)
{
    check_fsgsbase(c, in);
    x86_set_reg(c, in->rm, in->width, c->seg[PTA_X86_FS].base);
}

void op_rdgsbase(X86Cpu *c, const X86Insn *in)
{
    check_fsgsbase(c, in);
    x86_set_reg(c, in->rm, in->width, c->seg[PTA_X86_GS].base);
}

void op_wrfsbase(X86Cpu *c, const X86Insn *in)
{
    write_base(c, in, PTA_X86_FS);
}

void op_wrgsbase(X86Cpu *c, const X86Insn *in)
{
    write_base(c, in, PTA_X86_GS);
}

/* ---- SMAP ---- */

static void set_ac(X86Cpu *c, const X86Insn *in, uint64_t ac)
{
    if (c->cpl != 0) {
        x86_raise_ud(c, in);
    }
    x86_set_rflags(c, ac, X86_AC);
}

void op_stac(X86Cpu *c, const X86Insn *in)
{
    set_ac(c, in, X86_AC);
}

void op_clac(X86Cpu *c, const X86Insn *in)
{
    set_ac(c, in, 0);
}

/* ---- hypercalls ---- */

void op_vmcall(X86Cpu *c, const X86Insn *in)
{
    const PtaPlatform *p = c->machine->platform;
    PtaX86Regs regs;
    x86_get_regs(c, &regs);
    if (!p->hypercall || !p->hypercall(p->opaque, c->index, &regs)) {
        x86_raise_ud(c, in);
    }
    for (unsigned i = 0; i < PTA_X86_N_GPRS; i++) {
        c->gpr[i] = regs.gpr[i];
    }
}
