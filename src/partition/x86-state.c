/* The state of a VP after power-up (SDM vol. 3, 9.1.1, table 9-1; the APIC: 10.4.7.1). */
#include "config.h"

#include "src/partition/x86-state.h"

#include <string.h>

/* Type, S and P bits of PtaX86Segment.attrs. */
#define ATTRS_DATA        0x93 /* read/write, accessed */
#define ATTRS_CODE        0x9b /* execute/read, accessed */
#define ATTRS_LDT         0x82
#define ATTRS_TSS         0x8b /* busy */

#define APIC_BASE_DEFAULT UINT64_C(0xfee00000)
#define APIC_BASE_BSP     (UINT64_C(1) << 8)
#define APIC_BASE_ENABLE  (UINT64_C(1) << 11)

#define CR0_RESET         UINT64_C(0x60000010) /* CD, NW, ET */
#define PAT_RESET         UINT64_C(0x0007040600070406)

/* MISC_ENABLE: fast strings; without the bit Linux forgets REP_GOOD and ERMS. */
#define MISC_ENABLE_RESET UINT64_C(1)

static void put32(uint8_t *page, unsigned reg, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        page[reg * 16 + i] = (uint8_t)(value >> (8 * i));
    }
}

static void reset_lapic(PtaX86Lapic *lapic, uint32_t apic_id)
{
    uint8_t *p = lapic->page;
    put32(p, 0x02, apic_id << 24);
    put32(p, 0x03, UINT32_C(0x01050014)); /* version, six LVT entries, EOI broadcast suppression */
    put32(p, 0x0e, UINT32_MAX);           /* DFR: flat */
    put32(p, 0x0f, 0xff);                 /* SVR: disabled by software */
    for (unsigned reg = 0x32; reg <= 0x37; reg++) {
        put32(p, reg, UINT32_C(0x10000)); /* LVT: masked */
    }
}

static void reset_regs(PtaX86Regs *r)
{
    r->gpr[PTA_X86_RDX] = UINT64_C(0x00030661); /* the signature of CPUID leaf 1 */
    r->rip = 0xfff0;
    r->rflags = 2;
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        r->seg[i] = (PtaX86Segment){ .limit = 0xffff, .attrs = ATTRS_DATA };
    }
    r->seg[PTA_X86_CS] = (PtaX86Segment){
        .base = UINT64_C(0xffff0000), .limit = 0xffff, .selector = 0xf000, .attrs = ATTRS_CODE
    };
    r->ldtr = (PtaX86Segment){ .limit = 0xffff, .attrs = ATTRS_LDT };
    r->tr = (PtaX86Segment){ .limit = 0xffff, .attrs = ATTRS_TSS };
    r->gdtr.limit = 0xffff;
    r->idtr.limit = 0xffff;
    r->cr0 = CR0_RESET;
    r->xcr0 = 1;
}

static void reset_fpu(uint8_t *area)
{
    area[0] = 0x40; /* FCW = 0040H; FSW = 0 */
    area[4] = 0xff; /* FTW = 5555H: eight zeros, none empty */
    area[24] = 0x80;
    area[25] = 0x1f;            /* MXCSR = 1F80H */
    area[28] = area[29] = 0xff; /* MXCSR_MASK */
    area[512] = 3;              /* XSTATE_BV: x87 and SSE */
}

void pta_x86_state_reset(PtaX86State *state, uint32_t apic_id, int is_bsp)
{
    memset(state, 0, sizeof(*state));
    reset_regs(&state->regs);
    state->debug.dr6 = UINT64_C(0xffff0ff0);
    state->debug.dr7 = 0x400;
    state->msrs.apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (is_bsp ? APIC_BASE_BSP : 0);
    state->msrs.pat = PAT_RESET;
    state->msrs.misc_enable = MISC_ENABLE_RESET;
    state->events.activity = is_bsp ? PTA_X86_RUNNING : PTA_X86_WAIT_FOR_SIPI;
    reset_lapic(&state->lapic, apic_id);
    reset_fpu(state->xsave.area);
}
