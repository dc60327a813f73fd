/* Page faults in 64-bit mode: every level, every right, error codes, A and D, large and global pages,
 * NX, WP, SMEP, SMAP, UMIP, accesses that cross pages. */
#include "guest.h"

#define AT UINT64_C(0x700000001000) /* PML4 224, PDPT 0, PD 0, PT 1 */

static volatile uint32_t *const at = (volatile uint32_t *)AT;

static unsigned read_at(const volatile void *p)
{
    return TRAP("mov (%0), %%ecx", "r"(p), "c"(0));
}

static unsigned write_at(const volatile void *p)
{
    return TRAP("movl $0xc3c3c3c3, (%0)", "r"(p));
}

static unsigned call_at(const volatile void *p)
{
    return TRAP("call *%0", "r"(p));
}

static uint64_t user_read(uint64_t p)
{
    return TRAP("mov (%0), %%ecx", "r"(p), "c"(0));
}

static uint64_t user_write(uint64_t p)
{
    return TRAP("movl $0xc3c3c3c3, (%0)", "r"(p));
}

static uint64_t user_call(uint64_t p)
{
    return TRAP("call *%0", "r"(p));
}

static bool fault(unsigned vector, unsigned error)
{
    return vector == PF && trap.error == error && trap.cr2 == AT;
}

static void flush(void)
{
    WRITE_CR(3, READ_CR(3));
}

static const char *const level_name[] = { "", "PTE", "PDE", "PDPTE", "PML4E" };

static void rights(void)
{
    uint64_t *page = alloc_pages(1);
    memset(page, 0xc3, PAGE); /* RET */
    map_page(AT, (uint64_t)page, PT_P | PT_W | PT_U);
    ok(read_at(at) == NONE && write_at(at) == NONE && run_user(user_read, AT) == NONE &&
           run_user(user_write, AT) == NONE && run_user(user_call, AT) == NONE,
       "a page with all rights");
    for (unsigned level = 1; level <= 4; level++) {
        uint64_t *e = page_entry(AT, level);
        uint64_t whole = *e;
        *e = whole & ~(uint64_t)PT_P;
        flush();
        ok(fault(read_at(at), 0) && fault(write_at(at), 2) && fault(call_at(at), 0x10) &&
               fault((unsigned)run_user(user_read, AT), 4) &&
               fault((unsigned)run_user(user_write, AT), 6),
           "%s not present: error codes 0, 2, 10, 4, 6", level_name[level]);
        *e = whole & ~(uint64_t)PT_W;
        flush();
        ok(read_at(at) == NONE && fault(write_at(at), 3) &&
               fault((unsigned)run_user(user_write, AT), 7) && run_user(user_read, AT) == NONE,
           "%s read-only: 3, 7", level_name[level]);
        WRITE_CR(0, READ_CR(0) & ~(UINT64_C(1) << 16));
        ok(write_at(at) == NONE && fault((unsigned)run_user(user_write, AT), 7),
           "%s read-only without WP: only users fault", level_name[level]);
        WRITE_CR(0, READ_CR(0) | UINT64_C(1) << 16);
        ok(fault(write_at(at), 3), "%s read-only, WP again", level_name[level]);
        *e = whole & ~(uint64_t)PT_U;
        flush();
        ok(read_at(at) == NONE && write_at(at) == NONE &&
               fault((unsigned)run_user(user_read, AT), 5) &&
               fault((unsigned)run_user(user_write, AT), 7) &&
               fault((unsigned)run_user(user_call, AT), 0x15),
           "%s supervisor: 5, 7, 15", level_name[level]);
        *e = whole | PT_NX;
        flush();
        ok(read_at(at) == NONE && fault(call_at(at), 0x11) &&
               fault((unsigned)run_user(user_call, AT), 0x15),
           "%s no-execute: 11, 15", level_name[level]);
        uint64_t efer = rdmsr(0xc0000080);
        wrmsr(0xc0000080, efer & ~UINT64_C(0x800));
        flush();
        ok_but_tcg(fault(read_at(at), 9) && fault(write_at(at), 0xb),
                   "%s bit 63 without NXE: reserved", level_name[level]);
        wrmsr(0xc0000080, efer);
        *e = whole | UINT64_C(1) << 51;
        flush();
        ok_but_tcg(fault(read_at(at), 9) && fault(write_at(at), 0xb) &&
                       fault((unsigned)run_user(user_read, AT), 0xd),
                   "%s bit 51: reserved, 9, b, d", level_name[level]);
        *e = whole;
        flush();
    }
    uint64_t *pml4e = page_entry(AT, 4);
    *pml4e |= PT_PS;
    flush();
    ok_but_tcg(fault(read_at(at), 9), "PML4E bit 7: reserved");
    *pml4e &= ~(uint64_t)PT_PS;
    flush();
}

static void accessed_dirty(void)
{
    for (unsigned level = 1; level <= 4; level++) {
        *page_entry(AT, level) &= ~(uint64_t)(PT_A | PT_D);
    }
    flush();
    read_at(at);
    bool a = true;
    bool d = false;
    for (unsigned level = 1; level <= 4; level++) {
        a &= !!(*page_entry(AT, level) & PT_A);
        d |= !!(*page_entry(AT, level) & PT_D);
    }
    ok(a && !d, "a read sets A in all levels, D in none");
    write_at(at);
    ok((*page_entry(AT, 1) & PT_D) && !(*page_entry(AT, 2) & PT_D), "a write sets D in the PTE");
    *page_entry(AT, 1) &= ~(uint64_t)(PT_A | PT_D | PT_W);
    invlpg(at);
    ok(fault(write_at(at), 3) && !(*page_entry(AT, 1) & PT_D), "a write that faults sets no D");
    *page_entry(AT, 1) |= PT_W;
    invlpg(at);
    *page_entry(AT, 1) &= ~(uint64_t)PT_D;
    invlpg(at);
    read_at(at);
    ok(!(*page_entry(AT, 1) & PT_D), "D stays clear while the page is read");
    write_at(at);
    ok(*page_entry(AT, 1) & PT_D, "and is set by the first write after that");
}

static void large(void)
{
    uint64_t lin = UINT64_C(0x710000000000);
    uint64_t *pde = page_entry(lin, 2);
    *pde = 0x400000 | PT_P | PT_W | PT_PS;
    invlpg((void *)lin);
    *(volatile uint32_t *)0x5f0000 = 0x12345678;
    ok(*(volatile uint32_t *)(lin + 0x1f0000) == 0x12345678, "2 MiB page");
    ok(*pde & PT_A, "2 MiB page: A");
    *(volatile uint32_t *)(lin + 0x1f0000) = 1;
    ok((*pde & PT_D) && *(volatile uint32_t *)0x5f0000 == 1, "2 MiB page: D");
    *pde = 0x600000 | PT_P | PT_W | PT_PS;
    invlpg((void *)(lin + 0x3000));
    *(volatile uint32_t *)0x7f0000 = 2;
    ok(*(volatile uint32_t *)(lin + 0x1f0000) == 2, "INVLPG anywhere in it drops all of it");
    *pde = 0x600000 | PT_P | PT_W | PT_PS | 1 << 13;
    invlpg((void *)lin);
    ok_but_tcg(read_at((void *)lin) == PF && trap.error == 9, "2 MiB page: bit 13 is reserved");
    uint32_t r[4];
    cpuid(0x80000001, 0, r);
    uint64_t *pdpte = page_entry(lin + (UINT64_C(1) << 30), 3);
    *pdpte = PT_P | PT_W | PT_PS;
    invlpg((void *)(lin + (UINT64_C(1) << 30)));
    if (r[3] & 1 << 26) {
        ok(*(volatile uint32_t *)(lin + (UINT64_C(1) << 30) + 0x7f0000) == 2, "1 GiB page");
        *pdpte |= 1 << 29;
        invlpg((void *)(lin + (UINT64_C(1) << 30)));
        ok_but_tcg(read_at((void *)(lin + (UINT64_C(1) << 30))) == PF && trap.error == 9,
                   "1 GiB page: bit 29 is reserved");
    } else {
        ok_but_tcg(read_at((void *)(lin + (UINT64_C(1) << 30))) == PF && trap.error == 9,
                   "no 1 GiB pages: bit 7 of a PDPTE is reserved");
        skip("1 GiB page", "not in this model");
    }
}

static void global(void)
{
    uint64_t *one = alloc_pages(1);
    uint64_t *two = alloc_pages(1);
    uint64_t lin = UINT64_C(0x720000000000);
    volatile uint64_t *p = (volatile uint64_t *)lin;
    *one = 1;
    *two = 2;
    map_page(lin, (uint64_t)one, PT_P | PT_W);
    (void)*p;
    *page_entry(lin, 1) = (uint64_t)two | PT_P | PT_W;
    flush();
    ok(*p == 2, "a load of CR3 drops translations");
    *page_entry(lin, 1) = (uint64_t)one | PT_P | PT_W | PT_G;
    invlpg(p);
    ok(*p == 1, "INVLPG drops one");
    *page_entry(lin, 1) = (uint64_t)two | PT_P | PT_W | PT_G;
    uint64_t cr4 = READ_CR(4);
    WRITE_CR(4, cr4 & ~UINT64_C(0x80));
    ok(*p == 2, "a change of CR4.PGE drops global ones");
    WRITE_CR(4, cr4);
    (void)*p;
    *page_entry(lin, 1) = (uint64_t)one | PT_P | PT_W | PT_G;
    invlpg(p);
    ok(*p == 1, "INVLPG drops a global one");
    *page_entry(lin, 1) = 0;
    invlpg(p);
    ok(read_at(p) == PF && trap.error == 0, "unmapped and dropped: #PF");
    *page_entry(lin, 1) = (uint64_t)two | PT_P | PT_W;
    ok(*p == 2, "a translation that was absent needs no INVLPG");
    *page_entry(lin, 1) = (uint64_t)two | PT_P;
    invlpg(p);
    (void)*p;
    *page_entry(lin, 1) |= PT_W;
    ok(TRAP("movq $3, (%0)", "r"(p)) == NONE || TRAP("movq $3, (%0)", "r"(p)) == NONE,
       "more rights: at most one spurious fault");
    ok(*two == 3, "and the write arrives");
}

static void crossing(void)
{
    char *pages = alloc_pages(2);
    uint64_t lin = UINT64_C(0x730000000000);
    map_page(lin, (uint64_t)pages, PT_P | PT_W);
    *page_entry(lin + PAGE, 1) = 0;
    invlpg((void *)(lin + PAGE));
    ok(TRAP("movq $-1, (%0)", "r"(lin + PAGE - 3)) == PF && trap.error == 2 &&
           trap.cr2 == lin + PAGE,
       "write over the end of the mapped: CR2 is the second page");
    ok(pages[PAGE - 1] == 0 && pages[PAGE - 2] == 0 && pages[PAGE - 3] == 0,
       "and nothing was written");
    map_page(lin + PAGE, (uint64_t)pages + PAGE, PT_P);
    ok(TRAP("movq $-1, (%0)", "r"(lin + PAGE - 3)) == PF && trap.error == 3 && pages[PAGE - 1] == 0,
       "the second page read-only: the same");
    map_page(lin + PAGE, (uint64_t)pages + PAGE, PT_P | PT_W);
    *(volatile uint64_t *)(lin + PAGE - 3) = UINT64_C(0x8877665544332211);
    ok((uint8_t)pages[PAGE - 3] == 0x11 && (uint8_t)pages[PAGE + 4] == 0x88 &&
           *(volatile uint64_t *)(lin + PAGE - 3) == UINT64_C(0x8877665544332211),
       "both writable: written and read back");
    /* Pages that are neighbours here are not there. */
    map_page(lin, (uint64_t)pages + PAGE, PT_P | PT_W);
    map_page(lin + PAGE, (uint64_t)pages, PT_P | PT_W);
    memset(pages, 0, 2 * PAGE);
    *(volatile uint32_t *)(lin + PAGE - 1) = 0x44332211;
    ok((uint8_t)pages[2 * PAGE - 1] == 0x11 && (uint8_t)pages[0] == 0x22,
       "two frames in the wrong order");
    /* mov $imm32, %eax; ret over a page's end */
    static const uint8_t code[] = { 0xb8, 1, 2, 3, 4, 0xc3 };
    for (unsigned i = 0; i < sizeof(code); i++) {
        ((volatile uint8_t *)lin)[PAGE - 2 + i] = code[i];
    }
    uint64_t value;
    __asm__ volatile("call *%1" : "=a"(value) : "r"(lin + PAGE - 2));
    ok(value == 0x04030201, "an instruction over two pages");
    *page_entry(lin + PAGE, 1) = 0;
    invlpg((void *)(lin + PAGE));
    ok(call_at((void *)(lin + PAGE - 2)) == PF && trap.error == 0x10 && trap.cr2 == lin + PAGE &&
           trap.ip == lin + PAGE - 2,
       "the second one absent: #PF there, RIP at the beginning");
}

static unsigned read_in_ac(const volatile void *p)
{
    return TRAP("stac; mov (%0), %%ecx; clac", "r"(p), "c"(0));
}

static void protection(void)
{
    uint32_t r[4];
    cpuid(7, 0, r);
    if (r[1] & 1 << 7) {
        WRITE_CR(4, READ_CR(4) | UINT64_C(1) << 20);
        ok(fault(call_at(at), 0x11), "SMEP: the supervisor cannot execute a user page");
        ok(run_user(user_call, AT) == NONE, "SMEP: a user can");
        WRITE_CR(4, READ_CR(4) & ~(UINT64_C(1) << 20));
        ok(call_at(at) == NONE, "without SMEP it can");
    } else {
        skip("SMEP", "not in this model");
    }
    if (r[1] & 1 << 20) {
        WRITE_CR(4, READ_CR(4) | UINT64_C(1) << 21);
        ok(fault(read_at(at), 1) && fault(write_at(at), 3),
           "SMAP: the supervisor cannot touch a user page");
        ok(read_in_ac(at) == NONE, "SMAP: with AC it can");
        ok(fault(read_at(at), 1), "SMAP: CLAC closes it again");
        ok(run_user(user_read, AT) == NONE && run_user(user_write, AT) == NONE,
           "SMAP: users are not concerned");
        WRITE_CR(4, READ_CR(4) & ~(UINT64_C(1) << 21));
        ok(read_at(at) == NONE, "without SMAP it can");
    } else {
        skip("SMAP", "not in this model");
        ok(TRAP("stac", "c"(0)) == UD, "no SMAP: STAC is #UD");
    }
}

static uint64_t user_umip(uint64_t which)
{
    uint64_t buf[2];
    switch (which) {
    case 0:
        return TRAP("sgdt (%0)", "r"(buf));
    case 1:
        return TRAP("sidt (%0)", "r"(buf));
    case 2:
        return TRAP("sldt %%ecx", "c"(0));
    case 3:
        return TRAP("str %%ecx", "c"(0));
    default:
        return TRAP("smsw %%ecx", "c"(0));
    }
}

static void umip(void)
{
    static const char *const names[] = { "SGDT", "SIDT", "SLDT", "STR", "SMSW" };
    uint32_t r[4];
    cpuid(7, 0, r);
    for (unsigned i = 0; i < 5; i++) {
        ok(run_user(user_umip, i) == NONE, "%s at CPL 3", names[i]);
    }
    if (!(r[2] & 1 << 2)) {
        skip("UMIP", "not in this model");
        ok(TRAP("mov %%cr4, %%rcx; bts $11, %%rcx; mov %%rcx, %%cr4", "c"(0)) == GP,
           "no UMIP: CR4 bit 11 is reserved");
        return;
    }
    WRITE_CR(4, READ_CR(4) | 1 << 11);
    for (unsigned i = 0; i < 5; i++) {
        ok(run_user(user_umip, i) == GP && trap.error == 0, "UMIP: %s at CPL 3 is #GP(0)",
           names[i]);
    }
    ok(TRAP("str %%ecx", "c"(0)) == NONE, "UMIP: the supervisor may");
    WRITE_CR(4, READ_CR(4) & ~UINT64_C(0x800));
}

static void control(void)
{
    if (on_tcg()) {
        skip("control registers", "QEMU's TCG checks few of their bits");
        return;
    }
    ok(TRAP("mov %%cr0, %%rcx; btr $0, %%rcx; mov %%rcx, %%cr0", "c"(0)) == GP,
       "CR0: PG without PE is #GP");
    ok(TRAP("mov %%cr0, %%rcx; btr $31, %%rcx; mov %%rcx, %%cr0", "c"(0)) == GP,
       "CR0: paging off in 64-bit mode is #GP");
    ok(TRAP("mov %%cr0, %%rcx; bts $29, %%rcx; mov %%rcx, %%cr0", "c"(0)) == GP,
       "CR0: NW without CD is #GP");
    if (above_tcg()) {
        skip("CR0 and CR3: reserved bits", "QEMU's TCG takes them, and SVM then enters no guest");
    } else {
        ok(TRAP("mov %%cr0, %%rcx; bts $32, %%rcx; mov %%rcx, %%cr0", "c"(0)) == GP,
           "CR0: bit 32 is #GP");
        ok(TRAP("mov %%cr3, %%rcx; bts $60, %%rcx; mov %%rcx, %%cr3", "c"(0)) == GP,
           "CR3: a reserved bit is #GP");
    }
    ok(TRAP("mov %%cr4, %%rcx; btr $5, %%rcx; mov %%rcx, %%cr4", "c"(0)) == GP,
       "CR4: PAE off in long mode is #GP");
    ok(TRAP("mov %%cr4, %%rcx; bts $31, %%rcx; mov %%rcx, %%cr4", "c"(0)) == GP,
       "CR4: a reserved bit is #GP");
    ok(TRAP("mov $0xc0000080, %%ecx; rdmsr; btr $8, %%eax; wrmsr", "c"(0), "d"(0)) == GP,
       "EFER: LME off under paging is #GP");
    ok(TRAP("mov $0xc0000082, %%ecx; mov $1, %%edx; shl $31, %%edx; wrmsr", "c"(0), "d"(0)) == GP,
       "LSTAR: not canonical is #GP");
    ok(TRAP("mov $0x12345, %%ecx; rdmsr", "c"(0), "d"(0)) == GP, "an unknown MSR is #GP");
}

void guest_main(void)
{
    rights();
    accessed_dirty();
    large();
    global();
    crossing();
    protection();
    umip();
    control();
}
