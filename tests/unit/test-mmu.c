/*
 * The MMU and its neighbours without a CPU loop: page walks against an oracle, translation caches,
 * control registers, segments, the rules of double faults.
 */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "src/soft/soft.h"
#include "src/soft/system.h"

#define RAM  (16 * PTA_MIB)
#define ROM  UINT64_C(0x10000000) /* one page that the guest may not write */
#define PML4 UINT64_C(0x1000)
#define PDPT UINT64_C(0x2000)
#define PD   UINT64_C(0x3000)
#define PT   UINT64_C(0x4000)
#define PAGE UINT64_C(0x5000)
#define LIN  UINT64_C(0x0000123456789abc)

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (UINT64_C(1) << 63)

typedef struct Fixture {
    X86Machine machine;
    PtaCpuidTable cpuid;
    X86Cpu cpu;
    PtaPlatform platform;
    uint8_t *ram, *rom;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_aligned_alloc0(1, sizeof(Fixture), 64);
    f->ram = g_malloc0(RAM);
    f->rom = g_malloc0(PTA_PAGE_SIZE);
    f->cpuid.phys_bits = 40;
    f->cpuid.virt_bits = 48;
    f->cpuid.features = ~UINT64_C(0);
    f->machine.cpuid = &f->cpuid;
    f->machine.platform = &f->platform;
    x86_xsave_layout(&f->machine);
    X86Slots *slots = f->machine.slots = x86_slots_copy(NULL, 2);
    slots->n = 2;
    slots->slot[0] = (X86Slot){ .gpa = 0,
                                .size = RAM,
                                .host = f->ram,
                                .flags = PTA_MAP_READ | PTA_MAP_WRITE,
                                .code = g_new0(uint64_t, RAM / PTA_PAGE_SIZE) };
    slots->slot[1] = (X86Slot){ .gpa = ROM,
                                .size = PTA_PAGE_SIZE,
                                .host = f->rom,
                                .flags = PTA_MAP_READ,
                                .code = g_new0(uint64_t, 1) };
    X86Cpu *c = &f->cpu;
    c->machine = &f->machine;
    c->cpuid = &f->cpuid;
    x86_mmu_init(c);
    c->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
    c->cr4 = X86_CR4_PAE;
    c->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    c->cr3 = PML4;
    c->rflags = 2;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    x86_mmu_free(&f->cpu);
    g_free(f->machine.slots->slot[0].code);
    g_free(f->machine.slots->slot[1].code);
    g_free(f->machine.slots);
    g_free(f->ram);
    g_free(f->rom);
    g_aligned_free(f);
    return 0;
}

static uint64_t *word(Fixture *f, uint64_t gpa)
{
    return (uint64_t *)(f->ram + gpa);
}

/* The entry of LIN at a level of four. */
static uint64_t *entry(Fixture *f, unsigned level)
{
    static const uint64_t table[] = { 0, PT, PD, PDPT, PML4 };
    return word(f, table[level] + (LIN >> (12 + (level - 1) * 9) & 511) * 8);
}

static void map(Fixture *f, uint64_t bits)
{
    *entry(f, 4) = PDPT | bits;
    *entry(f, 3) = PD | bits;
    *entry(f, 2) = PT | bits;
    *entry(f, 1) = PAGE | bits;
}

static bool walk(Fixture *f, X86Access access, bool user, uint64_t *gpa, X86Fault *fault)
{
    return x86_walk(&f->cpu, LIN, access, user, true, gpa, fault);
}

/* ---- rights ---- */

/* SDM vol. 3, 4.6 and 4.7, written as a decision about one access: the error code, or -1. */
static int expected(const Fixture *f, const unsigned bits[5], X86Access access, bool user)
{
    const X86Cpu *c = &f->cpu;
    bool nxe = c->efer & X86_EFER_NXE;
    int code = (access == X86_WRITE ? 2 : 0) | (user ? 4 : 0);
    if (access == X86_FETCH && (nxe || (c->cr4 & X86_CR4_SMEP))) {
        code |= 16;
    }
    bool all_u = true;
    bool all_w = true;
    bool any_nx = false;
    for (unsigned level = 4; level >= 1; level--) {
        if (!(bits[level] & 1)) {
            return code;
        }
        if ((bits[level] & 8) && !nxe) {
            return code | 9;
        }
        all_w = all_w && (bits[level] & 2);
        all_u = all_u && (bits[level] & 4);
        any_nx = any_nx || (bits[level] & 8);
    }
    bool refused;
    if (user) {
        refused = !all_u || (access == X86_WRITE && !all_w) || (access == X86_FETCH && any_nx);
    } else if (access == X86_FETCH) {
        refused = any_nx || (all_u && (c->cr4 & X86_CR4_SMEP));
    } else {
        refused = (all_u && (c->cr4 & X86_CR4_SMAP) && !(c->rflags & X86_AC)) ||
                  (access == X86_WRITE && !all_w && (c->cr0 & X86_CR0_WP));
    }
    return refused ? code | 1 : -1;
}

/* All rights in all levels, under one setting of the control registers. */
static void try_all_rights(Fixture *f)
{
    for (unsigned n = 0; n < 1u << 16; n++) {
        unsigned bits[5];
        uint64_t next[] = { 0, PAGE, PT, PD, PDPT };
        for (unsigned level = 1; level <= 4; level++) {
            bits[level] = n >> (level - 1) * 4 & 15;
            *entry(f, level) = next[level] | (bits[level] & 7) | (bits[level] & 8 ? NX : 0);
        }
        for (unsigned kind = 0; kind < 6; kind++) {
            X86Access access = (X86Access)(kind % 3);
            uint64_t gpa = 0;
            X86Fault fault;
            int want = expected(f, bits, access, kind >= 3);
            bool got = walk(f, access, kind >= 3, &gpa, &fault);
            if (got != (want < 0) ||
                (got ? gpa != (PAGE | (LIN & 0xfff))
                     : fault.vector != X86_PFV || (int)fault.error != want || fault.cr2 != LIN)) {
                fail_msg("entries %04x, access %u: expected %d, got %d (error %x)", n, kind, want,
                         got, got ? 0 : fault.error);
            }
        }
    }
}

static void rights_of_all_levels(void **state)
{
    Fixture *f = *state;
    for (unsigned n = 0; n < 32; n++) {
        /* Not each of the 32 settings on its own matters to each access: every fourth and the
         * corners keep the test short. */
        if (n % 4 != 1 && n != 0 && n != 31 && n != 14) {
            continue;
        }
        f->cpu.cr0 = X86_CR0_PE | X86_CR0_PG | (n & 1 ? X86_CR0_WP : 0);
        f->cpu.cr4 = X86_CR4_PAE | (n & 2 ? X86_CR4_SMEP : 0) | (n & 4 ? X86_CR4_SMAP : 0);
        f->cpu.rflags = 2 | (n & 8 ? X86_AC : 0);
        f->cpu.efer = X86_EFER_LME | X86_EFER_LMA | (n & 16 ? X86_EFER_NXE : 0);
        try_all_rights(f);
    }
}

static void reserved_bits(void **state)
{
    Fixture *f = *state;
    uint64_t gpa;
    X86Fault fault;
    for (unsigned level = 1; level <= 4; level++) {
        for (unsigned bit = 12; bit < 64; bit++) {
            map(f, P | W | U);
            *entry(f, level) |= UINT64_C(1) << bit;
            bool reserved = bit >= 40 && bit < 52;
            bool got = walk(f, X86_READ, true, &gpa, &fault);
            if (reserved) {
                assert_false(got);
                assert_int_equal(fault.error, 0xd);
            } else if (bit >= 52) {
                assert_true(got); /* ignored, or no-execute */
            }
        }
    }
    map(f, P | W);
    *entry(f, 4) |= PS;
    assert_false(walk(f, X86_READ, false, &gpa, &fault));
    assert_int_equal(fault.error, 9);
    /* Large pages: everything between PAT and the page's address. */
    for (unsigned bit = 13; bit < 30; bit++) {
        map(f, P | W);
        *entry(f, 3) = P | PS | UINT64_C(1) << bit;
        assert_false(walk(f, X86_READ, false, &gpa, &fault));
        assert_int_equal(fault.error, 9);
        *entry(f, 3) = PD | P | W;
        *entry(f, 2) = P | PS | UINT64_C(1) << bit;
        assert_int_equal(walk(f, X86_READ, false, &gpa, &fault), bit >= 21);
    }
    f->cpuid.features &= ~(UINT64_C(1) << PTA_X86_FEAT_1GPAGES);
    *entry(f, 3) = P | PS;
    assert_false(walk(f, X86_READ, false, &gpa, &fault));
    assert_int_equal(fault.error, 9);
}

static void large_pages(void **state)
{
    Fixture *f = *state;
    uint64_t gpa;
    X86Fault fault;
    map(f, P | W);
    *entry(f, 2) = UINT64_C(0x123400000) | P | W | PS | 1 << 12; /* PAT is no address bit */
    assert_true(walk(f, X86_READ, false, &gpa, &fault));
    assert_int_equal(gpa, UINT64_C(0x123400000) | (LIN & 0x1fffff));
    *entry(f, 3) = UINT64_C(0x5640000000) | P | W | PS;
    assert_true(walk(f, X86_READ, false, &gpa, &fault));
    assert_int_equal(gpa, UINT64_C(0x5640000000) | (LIN & 0x3fffffff));
}

static void accessed_and_dirty(void **state)
{
    Fixture *f = *state;
    uint64_t gpa;
    X86Fault fault;
    map(f, P | W);
    assert_true(walk(f, X86_READ, false, &gpa, &fault));
    for (unsigned level = 1; level <= 4; level++) {
        assert_int_equal(*entry(f, level) & (A | D), A);
    }
    assert_true(walk(f, X86_WRITE, false, &gpa, &fault));
    assert_int_equal(*entry(f, 1) & (A | D), A | D);
    assert_int_equal(*entry(f, 2) & D, 0);
    map(f, P);
    assert_false(walk(f, X86_WRITE, false, &gpa, &fault));
    assert_int_equal(*entry(f, 1) & (A | D), 0); /* the access did not happen */
    map(f, P | W);
    assert_true(x86_walk(&f->cpu, LIN, X86_WRITE, false, false, &gpa, &fault));
    for (unsigned level = 1; level <= 4; level++) {
        assert_int_equal(*entry(f, level) & (A | D), 0); /* not asked for */
    }
    /* Tables in memory that cannot be written serve all the same. */
    memcpy(f->rom, f->ram + PT, PTA_PAGE_SIZE);
    *entry(f, 2) = ROM | P | W;
    assert_true(walk(f, X86_WRITE, false, &gpa, &fault));
    assert_memory_equal(f->rom, f->ram + PT, PTA_PAGE_SIZE);
    /* Where nothing is, all bits are ones, reserved ones too. */
    *entry(f, 2) = UINT64_C(0x20000000) | P | W;
    assert_false(walk(f, X86_READ, false, &gpa, &fault));
    assert_int_equal(fault.error, 9);
}

static void legacy_paging(void **state)
{
    Fixture *f = *state;
    X86Cpu *c = &f->cpu;
    uint64_t gpa;
    X86Fault fault;
    c->efer = 0;
    c->cr4 = 0;
    c->cr3 = PD;
    uint32_t lin = 0x12345678;
    uint32_t *pde = (uint32_t *)(f->ram + PD + (lin >> 22) * 4);
    uint32_t *pte = (uint32_t *)(f->ram + PT + (lin >> 12 & 1023) * 4);
    *pde = (uint32_t)PT | P | W | U;
    *pte = 0x00abc000 | P | W;
    assert_true(x86_walk(c, lin, X86_WRITE, false, true, &gpa, &fault));
    assert_int_equal(gpa, 0xabc678);
    assert_int_equal(*pte & (A | D), A | D);
    assert_int_equal(*pde & (A | D), A);
    assert_false(x86_walk(c, lin, X86_FETCH, true, true, &gpa, &fault));
    assert_int_equal(fault.error, 5); /* no I bit without NX and SMEP */
    *pde |= PS;
    assert_true(x86_walk(c, lin, X86_READ, false, true, &gpa, &fault)); /* no PSE: ignored */
    c->cr4 = X86_CR4_PSE;
    *pde = 0x00c00000 | 0x12 << 13 | P | PS; /* PSE-36 */
    assert_true(x86_walk(c, lin, X86_READ, false, true, &gpa, &fault));
    assert_int_equal(gpa, UINT64_C(0x1200000000) | 0xc00000 | (lin & 0x3fffff));
    *pde |= 1 << 21;
    assert_false(x86_walk(c, lin, X86_READ, false, true, &gpa, &fault));
    assert_int_equal(fault.error, 9);

    /* PAE: the PDPTEs are registers. */
    c->cr4 = X86_CR4_PAE;
    c->cr3 = PDPT + 0x20;
    memset(f->ram + PD, 0, PTA_PAGE_SIZE);
    *word(f, PDPT + 0x20) = PD | P;
    *word(f, PD + (lin >> 21 & 511) * 8) = PT | P | W;
    *word(f, PT + (lin >> 12 & 511) * 8) = UINT64_C(0x7654321000) | P | W;
    assert_true(x86_load_pdptes(c, c->cr3));
    assert_true(x86_walk(c, lin, X86_WRITE, false, true, &gpa, &fault));
    assert_int_equal(gpa, UINT64_C(0x7654321678));
    assert_false(x86_walk(c, lin | 0xc0000000, X86_READ, false, true, &gpa, &fault));
    assert_int_equal(fault.error, 0);
    *word(f, PD + (lin >> 21 & 511) * 8) |= UINT64_C(1)
                                            << 60; /* reserved here, ignored in 4 levels */
    assert_false(x86_walk(c, lin, X86_READ, false, true, &gpa, &fault));
    assert_int_equal(fault.error, 9);
    *word(f, PDPT + 0x20) |= 1 << 5;
    assert_false(x86_load_pdptes(c, c->cr3));
    c->cr0 &= ~X86_CR0_PG;
    assert_true(x86_walk(c, lin, X86_WRITE, true, true, &gpa, &fault));
    assert_int_equal(gpa, lin);
}

static void canonical(void **state)
{
    Fixture *f = *state;
    uint64_t gpa;
    X86Fault fault;
    assert_false(x86_walk(&f->cpu, UINT64_C(1) << 47, X86_READ, false, true, &gpa, &fault));
    assert_int_equal(fault.vector, X86_GP);
    assert_false(x86_walk(&f->cpu, UINT64_MAX << 47, X86_READ, false, true, &gpa, &fault));
    assert_int_equal(fault.vector, X86_PFV);
}

/* ---- translation caches ---- */

static uint64_t load(Fixture *f)
{
    return x86_load64(&f->cpu, NULL, LIN & ~UINT64_C(7));
}

static void caches(void **state)
{
    Fixture *f = *state;
    X86Cpu *c = &f->cpu;
    uint64_t at = LIN & 0xff8;
    *word(f, PAGE + at) = 1;
    *word(f, 0x6000 + at) = 2;
    map(f, P | W);
    c->in_engine = true;
    if (_setjmp(c->unwind)) {
        fail_msg("vector %u, error %x", c->fault.vector, c->fault.error);
    }
    assert_int_equal(load(f), 1);
    *entry(f, 1) = 0x6000 | P | W;
    assert_int_equal(load(f), 1); /* nobody said so */
    x86_tlb_flush_page(c, LIN);
    assert_int_equal(load(f), 2);
    *entry(f, 1) = PAGE | P | W;
    assert_true(x86_set_cr3(c, PML4));
    assert_int_equal(load(f), 1);
    /* Global. */
    c->cr4 |= X86_CR4_PGE;
    *entry(f, 1) = PAGE | P | W | G;
    x86_tlb_flush(c, true);
    assert_int_equal(load(f), 1);
    *entry(f, 1) = 0x6000 | P | W | G;
    assert_true(x86_set_cr3(c, PML4));
    assert_int_equal(load(f), 1);
    x86_tlb_flush_page(c, LIN + 8);
    assert_int_equal(load(f), 2);
    /* One piece of a large page stands for all of it. */
    *entry(f, 2) = P | W | PS;
    x86_tlb_flush(c, true);
    *word(f, LIN & 0x1ffff8) = 3;
    assert_int_equal(load(f), 3);
    *entry(f, 2) = 0x200000 | P | W | PS;
    *word(f, 0x200000 | (LIN & 0x1ffff8)) = 4;
    x86_tlb_flush_page(c, LIN ^ 0x100000);
    assert_int_equal(load(f), 4);
    /* The first store sets D, whatever was read before. */
    map(f, P | W);
    x86_tlb_flush(c, true);
    load(f);
    assert_int_equal(*entry(f, 1) & D, 0);
    x86_store64(c, NULL, LIN & ~UINT64_C(7), 9);
    assert_int_equal(*entry(f, 1) & D, D);
    assert_int_equal(*word(f, PAGE + at), 9);
}

static void page_crossing(void **state)
{
    Fixture *f = *state;
    X86Cpu *c = &f->cpu;
    uint64_t lin = (LIN & PTA_PAGE_MASK) + 0xffd;
    map(f, P | W);
    c->in_engine = true;
    volatile bool faulted = false;
    if (_setjmp(c->unwind) == 0) {
        x86_store64(c, NULL, lin, UINT64_MAX);
    } else {
        faulted = true;
    }
    assert_true(faulted);
    assert_int_equal(c->fault.vector, X86_PFV);
    assert_int_equal(c->fault.error, 2);
    assert_int_equal(c->cr2, lin + 3);
    assert_int_equal(*word(f, PAGE + 0xff8), 0);
}

/* ---- control registers ---- */

static void control_registers(void **state)
{
    Fixture *f = *state;
    X86Cpu *c = &f->cpu;
    c->seg[PTA_X86_CS].attrs = X86_ATTR_L | X86_ATTR_P | X86_ATTR_S | X86_ATTR_CODE;
    assert_false(x86_set_cr0(c, X86_CR0_PG));          /* without PE */
    assert_false(x86_set_cr0(c, c->cr0 | X86_CR0_NW)); /* without CD */
    assert_false(x86_set_cr0(c, c->cr0 | UINT64_C(1) << 32));
    assert_false(x86_set_cr0(c, c->cr0 & ~X86_CR0_PG));       /* in 64-bit code */
    assert_false(x86_set_cr4(c, 0));                          /* PAE in long mode */
    assert_false(x86_set_cr4(c, c->cr4 | UINT64_C(1) << 12)); /* LA57 is not offered */
    assert_false(x86_set_cr4(c, c->cr4 | X86_CR4_VME));
    assert_true(x86_set_cr4(c, c->cr4 | X86_CR4_PCIDE));
    assert_true(x86_set_cr4(c, c->cr4 & ~X86_CR4_PCIDE));
    c->cr3 |= 1;
    assert_false(x86_set_cr4(c, c->cr4 | X86_CR4_PCIDE)); /* CR3 has a PCID */
    assert_false(x86_set_cr3(c, UINT64_C(1) << 40));
    assert_false(x86_set_efer(c, X86_EFER_NXE));      /* LME under paging */
    assert_false(x86_set_efer(c, c->efer | 1 << 14)); /* FFXSR */
    assert_true(x86_set_efer(c, (c->efer | X86_EFER_SCE) & ~X86_EFER_LMA));
    assert_true(c->efer & X86_EFER_LMA); /* not for software */
    f->cpuid.features = 1;
    assert_false(x86_set_cr4(c, c->cr4 | X86_CR4_SMEP)); /* not in this model */
    c->seg[PTA_X86_CS].attrs &= ~X86_ATTR_L;
    assert_true(x86_set_cr0(c, c->cr0 & ~X86_CR0_PG));
    assert_false(c->efer & X86_EFER_LMA);
    assert_true(x86_set_cr4(c, 0));
    assert_false(x86_set_cr0(c, c->cr0 | X86_CR0_PG)); /* LME without PAE */
    assert_true(x86_set_cr4(c, X86_CR4_PAE));
    c->tr.attrs = X86_TYPE_TSS16_BUSY | X86_ATTR_P;
    assert_false(x86_set_cr0(c, c->cr0 | X86_CR0_PG)); /* with a 16-bit TSS */
    c->tr.attrs = X86_TYPE_TSS32_BUSY | X86_ATTR_P;
    assert_true(x86_set_cr0(c, c->cr0 | X86_CR0_PG));
    assert_true(c->efer & X86_EFER_LMA);
}

/* ---- segments ---- */

static void segment_limits(void **state)
{
    static const struct {
        uint16_t attrs;
        uint32_t limit;
        uint64_t offset;
        unsigned size;
        bool ok;
    } t[] = {
        { X86_ATTR_S | X86_ATTR_WRITE, 0xfff, 0xffc, 4, true },
        { X86_ATTR_S | X86_ATTR_WRITE, 0xfff, 0xffd, 4, false },
        { X86_ATTR_S | X86_ATTR_WRITE, 0xffffffff, 0xfffffffc, 4, true },
        { X86_ATTR_S | X86_ATTR_WRITE, 0xffffffff, 0xfffffffd, 4, false },
        { X86_ATTR_S | X86_ATTR_WRITE, 0, 0, 1, true },
        { X86_ATTR_S | X86_ATTR_WRITE | X86_ATTR_DOWN | X86_ATTR_DB, 0xfff, 0xfff, 1, false },
        { X86_ATTR_S | X86_ATTR_WRITE | X86_ATTR_DOWN | X86_ATTR_DB, 0xfff, 0x1000, 4, true },
        { X86_ATTR_S | X86_ATTR_WRITE | X86_ATTR_DOWN | X86_ATTR_DB, 0xfff, 0xffffffff, 1, true },
        { X86_ATTR_S | X86_ATTR_WRITE | X86_ATTR_DOWN, 0xfff, 0xfffe, 2, true },
        { X86_ATTR_S | X86_ATTR_WRITE | X86_ATTR_DOWN, 0xfff, 0xffff, 2, false },
        { X86_ATTR_S | X86_ATTR_CODE | X86_ATTR_CONFORMING, 0xfff, 0xfff, 1, true },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(t); i++) {
        X86Seg s = { .limit = t[i].limit, .attrs = t[i].attrs };
        assert_int_equal(x86_limit_ok(&s, t[i].offset, t[i].size), t[i].ok);
    }
    X86Desc d = { .lo = 0x5678ffff, .hi = 0x12cf9b34 };
    X86Seg s = x86_desc_segment(0x28, &d);
    assert_int_equal(s.base, 0x12345678);
    assert_int_equal(s.limit, 0xffffffff);
    assert_int_equal(s.attrs, 0xc09b);
    assert_int_equal(s.selector, 0x28);
}

/* What a load of DS makes of each descriptor: the vector, or -1. */
static int load_ds(Fixture *f, uint16_t selector, unsigned cpl)
{
    X86Cpu *c = &f->cpu;
    c->cpl = (uint8_t)cpl;
    c->fault_depth = 0;
    c->in_engine = true;
    if (_setjmp(c->unwind)) {
        return c->fault.vector;
    }
    x86_load_seg(c, NULL, PTA_X86_DS, selector);
    return -1;
}

static void segment_loads(void **state)
{
    Fixture *f = *state;
    X86Cpu *c = &f->cpu;
    c->cr0 = X86_CR0_PE;
    c->efer = 0;
    c->gdtr.base = 0x8000;
    c->gdtr.limit = 0x17;
    x86_mode_changed(c);
    for (unsigned access = 0; access < 256; access++) {
        for (unsigned n = 0; n < 16; n++) {
            unsigned rpl = n & 3;
            unsigned cpl = n >> 2;
            *word(f, 0x8008) = UINT64_C(0xffff) | (uint64_t)access << 40;
            unsigned dpl = access >> 5 & 3;
            bool code = access & 8;
            bool usable = (access & 0x10) && (!code || (access & 2));
            bool conforming = code && (access & 4);
            int want = !usable                                   ? X86_GP
                       : !conforming && (rpl > dpl || cpl > dpl) ? X86_GP
                       : !(access & 0x80)                        ? X86_NP
                                                                 : -1;
            assert_int_equal(load_ds(f, (uint16_t)(8 | rpl), cpl), want);
            if (want >= 0) {
                assert_int_equal(c->fault.error, 8);
            } else {
                assert_int_equal(*word(f, 0x8008) >> 40 & 1, 1); /* accessed */
                assert_int_equal(c->seg[PTA_X86_DS].limit, 0xffff);
            }
        }
    }
    assert_int_equal(load_ds(f, 3, 3), -1);
    assert_true(c->seg[PTA_X86_DS].attrs & PTA_X86_SEG_UNUSABLE);
    assert_int_equal(load_ds(f, 0x18, 0), X86_GP); /* beyond the limit */
    assert_int_equal(load_ds(f, 0xc, 0), X86_GP);  /* no LDT */
    assert_int_equal(c->fault.error, 0xc);
}

/* ---- double faults: SDM vol. 3, table 6-5 ---- */

/* `second` is raised while `first` is delivered: what comes next. */
static unsigned raise_during(X86Cpu *c, unsigned first, unsigned second)
{
    c->fault = (X86Fault){ .vector = (uint8_t)first };
    c->fault_depth = 1;
    c->in_engine = true;
    if (_setjmp(c->unwind) == 0) {
        x86_raise(c, NULL, second, second == X86_PFV || second >= 10 ? 0x10 : -1);
    }
    return c->fault.vector;
}

static void double_faults(void **state)
{
    Fixture *f = *state;
    X86Cpu *c = &f->cpu;
    static const uint8_t benign[] = { X86_DB, X86_BP, X86_OFV, X86_BR, X86_UD, X86_NM, X86_MF };
    static const uint8_t contributory[] = { X86_DE, X86_TS, X86_NP, X86_SS, X86_GP };
    for (size_t i = 0; i < G_N_ELEMENTS(contributory); i++) {
        for (size_t j = 0; j < G_N_ELEMENTS(contributory); j++) {
            assert_int_equal(raise_during(c, contributory[i], contributory[j]), X86_DFV);
            assert_int_equal(c->fault.error, 0);
            assert_int_equal(c->fault_depth, 2);
        }
        assert_int_equal(raise_during(c, contributory[i], X86_PFV), X86_PFV);
        assert_int_equal(c->fault_depth, 1);
        assert_int_equal(raise_during(c, X86_PFV, contributory[i]), X86_DFV);
        for (size_t j = 0; j < G_N_ELEMENTS(benign); j++) {
            assert_int_equal(raise_during(c, benign[j], contributory[i]), contributory[i]);
            assert_int_equal(c->fault.error, contributory[i] == X86_DE ? 0 : 0x11); /* EXT */
            assert_int_equal(raise_during(c, contributory[i], benign[j]), benign[j]);
        }
    }
    assert_int_equal(raise_during(c, X86_PFV, X86_PFV), X86_DFV);
    /* INT n of the same number is no exception; its faults have no EXT. */
    c->fault_soft = true;
    assert_int_equal(raise_during(c, X86_GP, X86_GP), X86_GP);
    assert_int_equal(c->fault.error, 0x10);
    c->fault_external = true;
    assert_int_equal(raise_during(c, X86_PFV, X86_NP), X86_NP);
    assert_int_equal(c->fault.error, 0x11);
    /* During #DF: shutdown, unless benign. */
    raise_during(c, X86_GP, X86_GP);
    if (_setjmp(c->unwind) == 0) {
        x86_raise_gp(c, NULL, 0);
    }
    x86_deliver(c);
    assert_int_equal(c->exit.reason, PTA_EXIT_SHUTDOWN);
    assert_int_equal(c->events.activity, PTA_X86_SHUTDOWN);
}

/* ---- states that cannot be ---- */

static void spoil(PtaX86State *s, unsigned n)
{
    switch (n) {
    case 0:
        s->regs.cr0 = X86_CR0_PG; /* without PE */
        break;
    case 1:
        s->regs.cr4 = X86_CR4_VME;
        break;
    case 2:
        s->regs.efer = X86_EFER_LMA;
        break;
    case 3:
        s->regs.efer = UINT64_C(1) << 40;
        break;
    case 4:
        s->regs.cr3 = UINT64_C(1) << 40;
        break;
    case 5:
        s->regs.rip = UINT64_C(1) << 32; /* no 64-bit code */
        break;
    case 6:
        s->regs.rflags = 0;
        break;
    case 7:
        s->regs.rflags = 2 | X86_VM; /* in real mode */
        break;
    case 8:
        s->regs.seg[PTA_X86_FS].base = UINT64_C(1) << 50;
        break;
    case 9:
        s->regs.seg[PTA_X86_DS].base = UINT64_C(1) << 40;
        break;
    case 10:
        s->regs.gdtr.base = UINT64_C(1) << 60;
        break;
    case 11:
        s->msrs.lstar = UINT64_C(1) << 63;
        break;
    case 12:
        s->msrs.pat = 2;
        break;
    case 13:
        s->msrs.mtrrs.def_type = 7;
        break;
    case 14:
        s->msrs.mtrrs.phys_mask[7] = 1;
        break;
    case 15:
        s->debug.dr7 = UINT64_C(1) << 32;
        break;
    case 16:
        s->events.activity = 4;
        break;
    case 17:
        s->events.exception_pending = 1;
        s->events.vector = 32;
        break;
    case 18:
        s->events.nmi_blocked = 2;
        break;
    case 19:
        s->regs.cr8 = 16;
        break;
    case 20:
        s->regs.xcr0 = 5; /* AVX without SSE */
        break;
    default:
        s->regs.xss = 1;
        break;
    }
}

static void bad_states(void **state)
{
    Fixture *f = *state;
    X86Cpu *c = &f->cpu;
    g_autofree PtaX86State *good = g_new0(PtaX86State, 1);
    g_autofree PtaX86State *bad = g_new0(PtaX86State, 1);
    g_autofree PtaX86State *after = g_new0(PtaX86State, 1);
    pta_x86_state_reset(good, 0, true);
    good->regs.gpr[PTA_X86_R13] = 0x1313;
    good->debug.dr[2] = 0x2222;
    good->msrs.star = 0x3333;
    g_autoptr(GError) none = NULL;
    if (!x86_set_state(c, good, &none)) {
        fail_msg("%s", none->message);
    }
    x86_get_state(c, after);
    assert_memory_equal(&after->regs, &good->regs, sizeof(good->regs));
    assert_memory_equal(&after->debug, &good->debug, sizeof(good->debug));
    assert_memory_equal(&after->msrs, &good->msrs, sizeof(good->msrs));
    assert_memory_equal(&after->events, &good->events, sizeof(good->events));
    for (unsigned n = 0; n < 22; n++) {
        g_autoptr(GError) error = NULL;
        *bad = *good;
        bad->regs.gpr[PTA_X86_RAX] = 7;
        spoil(bad, n);
        if (x86_set_state(c, bad, &error)) {
            fail_msg("state %u was taken", n);
        }
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
        x86_get_state(c, after);
        assert_memory_equal(&after->regs, &good->regs, sizeof(good->regs));
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rights_of_all_levels),
        TEST(reserved_bits),
        TEST(large_pages),
        TEST(accessed_and_dirty),
        TEST(legacy_paging),
        TEST(canonical),
        TEST(caches),
        TEST(page_crossing),
        TEST(control_registers),
        TEST(segment_limits),
        TEST(segment_loads),
        TEST(double_faults),
        TEST(bad_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
