/*
 * The state in which the boot processor enters a kernel: 32-bit protected mode for PVH and
 * multiboot, 64-bit mode for Linux. The guest gets a GDT that fits the hidden parts of its segment
 * registers, with Linux's selectors (Documentation/x86/boot.rst: __BOOT_CS 0x10, __BOOT_DS 0x18).
 */
#include "config.h"

#include "src/boot/loader.h"

#include "src/boot/layout.h"

enum {
    SEL_CODE = 0x10,
    SEL_DATA = 0x18,
    SEL_TSS = 0x20,
};

/* attrs of PtaX86Segment: type, S, P, then AVL, L, D/B, G from bit 12 on. */
enum {
    ATTR_CODE32 = 0xc09b, /* execute/read, accessed; D, G */
    ATTR_CODE64 = 0xa09b, /* the same with L instead of D */
    ATTR_DATA = 0xc093,   /* read/write, accessed */
    ATTR_TSS = 0x008b,    /* busy 32/64-bit TSS */
};

enum {
    TSS_LIMIT = 0x67,
    GDT_ENTRIES = 6, /* null, unused, code, data, and a TSS that is two wide in 64-bit mode */
};

#define CR0_PE    (UINT64_C(1) << 0)
#define CR0_ET    (UINT64_C(1) << 4)
#define CR0_PG    (UINT64_C(1) << 31)
#define CR4_PAE   (UINT64_C(1) << 5)
#define EFER_LME  (UINT64_C(1) << 8)
#define EFER_LMA  (UINT64_C(1) << 10)
#define RFLAGS_1  UINT64_C(2)
#define PTE_P     (UINT64_C(1) << 0)
#define PTE_RW    (UINT64_C(1) << 1)
#define PTE_PS    (UINT64_C(1) << 7)
#define SIZE_2MIB (2 * PTA_MIB)

/* SDM vol. 3, figure 3-8: base, limit and attributes are scattered. */
static uint64_t gdt_entry(uint16_t attrs, uint32_t base, uint32_t limit)
{
    uint32_t field = attrs & 0x8000 ? limit >> 12 : limit;
    return (uint64_t)(field & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
           (uint64_t)(attrs & 0xf0ff) << 40 | (uint64_t)(field >> 16 & 0xf) << 48 |
           (uint64_t)(base >> 24) << 56;
}

static bool write_gdt(PtaBootLoader *l, uint16_t code_attrs, GError **error)
{
    uint64_t entries[GDT_ENTRIES] = {
        [SEL_CODE / 8] = gdt_entry(code_attrs, 0, UINT32_MAX),
        [SEL_DATA / 8] = gdt_entry(ATTR_DATA, 0, UINT32_MAX),
        [SEL_TSS / 8] = gdt_entry(ATTR_TSS, 0, TSS_LIMIT),
    };
    uint8_t gdt[sizeof(entries)];
    for (size_t i = 0; i < GDT_ENTRIES; i++) {
        pta_put_le64(gdt + 8 * i, entries[i]);
    }
    return pta_boot_take(l, PTA_BOOT_GDT, sizeof(gdt), "the GDT", error) &&
           pta_boot_write(l, PTA_BOOT_GDT, gdt, sizeof(gdt), error);
}

static bool write_page_tables(PtaBootLoader *l, GError **error)
{
    if (!pta_boot_take(l, PTA_BOOT_PAGE_TABLES, PTA_BOOT_PAGE_TABLES_SIZE, "the page tables",
                       error)) {
        return false;
    }
    g_autofree uint8_t *tables = g_malloc0(PTA_BOOT_PAGE_TABLES_SIZE);
    const uint64_t pdpt = PTA_BOOT_PAGE_TABLES + PTA_PAGE_SIZE;
    const uint64_t pd = pdpt + PTA_PAGE_SIZE;
    pta_put_le64(tables, pdpt | PTE_P | PTE_RW);
    for (uint64_t gib = 0; gib < 4; gib++) {
        pta_put_le64(tables + (pdpt - PTA_BOOT_PAGE_TABLES) + 8 * gib,
                     (pd + gib * PTA_PAGE_SIZE) | PTE_P | PTE_RW);
    }
    for (uint64_t i = 0; i < PTA_BOOT_4G / SIZE_2MIB; i++) {
        pta_put_le64(tables + (pd - PTA_BOOT_PAGE_TABLES) + 8 * i,
                     i * SIZE_2MIB | PTE_P | PTE_RW | PTE_PS);
    }
    return pta_boot_write(l, PTA_BOOT_PAGE_TABLES, tables, PTA_BOOT_PAGE_TABLES_SIZE, error);
}

static void set_common(PtaX86State *s, uint16_t code_attrs, uint64_t rip)
{
    PtaX86Regs *r = &s->regs;
    memset(r->gpr, 0, sizeof(r->gpr));
    const PtaX86Segment data = { .limit = UINT32_MAX, .selector = SEL_DATA, .attrs = ATTR_DATA };
    for (size_t i = 0; i < PTA_X86_N_SEGS; i++) {
        r->seg[i] = data;
    }
    r->seg[PTA_X86_CS] =
        (PtaX86Segment){ .limit = UINT32_MAX, .selector = SEL_CODE, .attrs = code_attrs };
    r->tr = (PtaX86Segment){ .limit = TSS_LIMIT, .selector = SEL_TSS, .attrs = ATTR_TSS };
    r->gdtr = (PtaX86Table){ .base = PTA_BOOT_GDT, .limit = GDT_ENTRIES * 8 - 1 };
    /* An exception before the kernel has its own table is a triple fault, not a jump to nowhere. */
    r->idtr = (PtaX86Table){ 0 };
    r->rip = rip;
    r->rflags = RFLAGS_1;
    r->gpr[PTA_X86_RSP] = PTA_BOOT_STACK_TOP;
    s->events.activity = PTA_X86_RUNNING;
}

static bool take_stack(PtaBootLoader *l, GError **error)
{
    return pta_boot_take(l, PTA_BOOT_STACK, PTA_PAGE_SIZE, "the boot stack", error);
}

bool pta_boot_enter_flat32(PtaBootLoader *l, uint64_t rip, uint32_t eax, uint32_t ebx,
                           GError **error)
{
    if (!write_gdt(l, ATTR_CODE32, error)) {
        return false;
    }
    PtaX86Regs *r = &l->bsp->regs;
    set_common(l->bsp, ATTR_CODE32, rip);
    r->gpr[PTA_X86_RSP] = 0; /* neither multiboot nor PVH gives a stack; an image may lie there */
    r->cr0 = CR0_PE | CR0_ET;
    r->cr3 = 0;
    r->cr4 = 0;
    r->efer = 0;
    r->gpr[PTA_X86_RAX] = eax;
    r->gpr[PTA_X86_RBX] = ebx;
    return true;
}

bool pta_boot_enter_long64(PtaBootLoader *l, uint64_t rip, uint64_t rsi, GError **error)
{
    if (!take_stack(l, error) || !write_gdt(l, ATTR_CODE64, error) ||
        !write_page_tables(l, error)) {
        return false;
    }
    PtaX86Regs *r = &l->bsp->regs;
    set_common(l->bsp, ATTR_CODE64, rip);
    r->cr0 = CR0_PE | CR0_ET | CR0_PG;
    r->cr3 = PTA_BOOT_PAGE_TABLES;
    r->cr4 = CR4_PAE;
    r->efer = EFER_LME | EFER_LMA;
    r->gpr[PTA_X86_RSI] = rsi;
    return true;
}
