/* Exceptions in 64-bit mode: vectors, error codes, priorities, frames, IST, double faults. */
#include "guest.h"

extern char trap_stubs[];

static void simple(void)
{
    ok(TRAP("xor %%ecx, %%ecx; div %%ecx", "d"(0)) == DE, "division by zero is #DE");
    ok(TRAP("mov $0x80000000, %%eax; cltd; mov $-1, %%ecx; idiv %%ecx", "d"(0)) == DE,
       "quotient overflow is #DE");
    ok(TRAP("ud2", "d"(0)) == UD, "UD2 is #UD");
    ok_but_tcg(trap.flags & 1 << 16, "a fault's frame has RF set");
    ok(TRAP("int3", "d"(0)) == BP && *(uint8_t *)(trap.ip - 1) == 0xcc,
       "INT3 is #BP, behind the instruction");
    ok(!(trap.flags & 1 << 16), "a trap's frame has RF clear");
    ok_but_tcg(TRAP(".byte 0xf1", "d"(0)) == DB, "INT1 is #DB");
    ok(TRAP("int $0x42", "d"(0)) == 0x42, "INT n has vector n");
    set_gate(GP, trap_stubs + 0x45 * 16, SEL_CODE64, 14, 0, 0); /* a stub that expects none */
    ok(TRAP("int $13", "d"(0)) == 0x45, "INT 13 pushes no error code");
    set_gate(GP, trap_stubs + GP * 16, SEL_CODE64, 14, 0, 0);
}

/* A fault that left the stack pointer bad: the handler runs on IST 2 and mends it from R10. */
static void on_bad_stack(Frame *f)
{
    trap.vector = (unsigned)f->vector;
    trap.error = (unsigned)f->error;
    trap.ip = f->ip;
    f->ip = resume;
    f->sp = f->r10;
}

static void bad_stack(void)
{
    static const unsigned vectors[] = { SS, GP };
    tss.ist[1] = (uint64_t)alloc_pages(2) + 2 * PAGE;
    for (unsigned i = 0; i < 2; i++) {
        set_gate(vectors[i], trap_stubs + vectors[i] * 16, SEL_CODE64, 14, 0, 2);
        handlers[vectors[i]] = on_bad_stack;
    }
    uint64_t bad = UINT64_C(0x8000000000000000);
    ok_but_tcg(TRAP("mov %%rsp, %%r10; mov %0, %%rsp; push %%rcx; mov %%r10, %%rsp", "c"(bad)) ==
                       SS &&
                   trap.error == 0,
               "push to a non-canonical stack: #SS(0)");
    ok_but_tcg(TRAP("mov %%rsp, %%r10; mov %0, %%rsp; mov (%%rsp), %%eax; mov %%r10, %%rsp",
                    "c"(bad)) == SS,
               "operand based on RSP: #SS(0)");
    ok_but_tcg(
        TRAP(
            "mov %%rsp, %%r10; mov %%rbp, %%r11; mov %0, %%rbp; mov (%%rbp), %%eax; mov %%r11, %%rbp",
            "c"(bad)) == SS,
        "operand based on RBP: #SS(0)");
    for (unsigned i = 0; i < 2; i++) {
        set_gate(vectors[i], trap_stubs + vectors[i] * 16, SEL_CODE64, 14, 0, 0);
        handlers[vectors[i]] = NULL;
    }
}

static void general_protection(void)
{
    ok(TRAP("mov %0, %%ds", "r"(0x1000)) == GP && trap.error == 0x1000,
       "selector beyond the GDT: #GP(selector)");
    ok(TRAP("mov %0, %%ds", "r"(0x1007)) == GP && trap.error == 0x1004,
       "RPL is not part of the error code, TI is");
    ok(TRAP("mov %0, %%ss", "r"(0)) == NONE, "SS may be null at CPL 0");
    __asm__ volatile("mov %0, %%ss" : : "r"(SEL_DATA));
    ok_but_tcg(TRAP("mov %0, %%ss", "r"(3)) == GP && trap.error == 0, "but not with RPL 3");
    ok(TRAP("mov %0, %%ss", "r"(SEL_CODE64)) == GP && trap.error == SEL_CODE64, "code in SS: #GP");
    gdt[SEL_SPARE / 8] = descriptor(0, 0xfffff, 0xc13);
    ok(TRAP("mov %0, %%ds", "r"(SEL_SPARE)) == NP && trap.error == SEL_SPARE,
       "absent data segment: #NP");
    ok(TRAP("mov %0, %%ss", "r"(SEL_SPARE)) == SS && trap.error == SEL_SPARE,
       "absent stack segment: #SS");
    gdt[SEL_SPARE / 8] = descriptor(0, 0xfffff, 0xc92);
    ok(TRAP("mov %0, %%ds", "r"(SEL_SPARE)) == NONE && (gdt[SEL_SPARE / 8] >> 40 & 1),
       "a load sets the accessed bit");
    __asm__ volatile("mov %0, %%ds" : : "r"(SEL_DATA));
    ok(TRAP("mov (%0), %%ecx", "r"(UINT64_C(0x8000000000000000)), "d"(0)) == GP && trap.error == 0,
       "non-canonical data address: #GP(0)");
}

static void gates(void)
{
    gate_present(0x42, false);
    ok_but_tcg(TRAP("int $0x42", "d"(0)) == NP && trap.error == (0x42 << 3 | 2),
               "absent gate: #NP with IDT bit, EXT clear");
    gate_present(0x42, true);
    gate_present(UD, false);
    ok_but_tcg(TRAP("ud2", "d"(0)) == NP && trap.error == (UD << 3 | 3),
               "absent gate of an exception: EXT set");
    gate_present(UD, true);
    set_gate(0x42, (void *)0x1000, 0x1000, 14, 0, 0);
    ok(TRAP("int $0x42", "d"(0)) == GP && trap.error == 0x1000,
       "gate to no segment: #GP(selector)");
    set_gate(0x42, (void *)0x1000, SEL_DATA, 14, 0, 0);
    ok(TRAP("int $0x42", "d"(0)) == GP && trap.error == SEL_DATA, "gate to data: #GP(selector)");
    set_gate(0x42, (void *)0x1000, SEL_CODE32, 14, 0, 0);
    ok(TRAP("int $0x42", "d"(0)) == GP && trap.error == SEL_CODE32,
       "gate to 32-bit code: #GP(selector)");
    set_gate(0x42, (void *)0x1000, 0, 14, 0, 0);
    ok(TRAP("int $0x42", "d"(0)) == GP && trap.error == 0, "gate to null: #GP(0)");
    set_gate(0x42, (void *)0x1000, SEL_CODE64, 5, 0, 0);
    ok_but_tcg(TRAP("int $0x42", "d"(0)) == GP && trap.error == (0x42 << 3 | 2),
               "task gate in long mode: #GP(vector)");
}

static volatile uint64_t ist_sp;
static volatile uint64_t frame_sp;

static void on_ist(Frame *f)
{
    ist_sp = (uint64_t)f;
    frame_sp = f->sp;
}

static volatile unsigned user_vector;
static volatile unsigned user_error;

static uint64_t user_int42(uint64_t arg)
{
    TRAP("int $0x42", "d"(0));
    user_vector = trap.vector;
    user_error = trap.error;
    return arg + 1;
}

static uint64_t user_privileged(uint64_t which)
{
    switch (which) {
    case 0:
        return TRAP("hlt", "d"(0));
    case 1:
        return TRAP("mov %%cr0, %%rax", "d"(0));
    case 2:
        return TRAP("cli", "d"(0));
    case 3:
        return TRAP("wrmsr", "c"(0x10), "d"(0));
    case 4:
        return TRAP("out %%al, $0x80", "d"(0));
    case 5:
        return TRAP("lidt (%0)", "r"(0), "d"(0));
    case 6:
        return TRAP("invlpg (%0)", "r"(0), "d"(0));
    default:
        return TRAP("swapgs", "d"(0));
    }
}

static void users(void)
{
    set_gate(0x42, trap_stubs + 0x42 * 16, SEL_CODE64, 14, 0, 0);
    ok(run_user(user_int42, 41) == 42, "CPL 3 and back");
    ok_but_tcg(user_vector == GP && user_error == (0x42 << 3 | 2),
               "INT n from CPL 3, gate DPL 0: #GP");
    gate_dpl(0x42, 3);
    run_user(user_int42, 0);
    ok(user_vector == 0x42 && (trap.cs & 3) == 3, "gate DPL 3: it goes through");
    static const char *const names[] = { "HLT", "MOV CR", "CLI",    "WRMSR",
                                         "OUT", "LIDT",   "INVLPG", "SWAPGS" };
    for (unsigned i = 0; i < 8; i++) {
        ok(run_user(user_privileged, i) == GP && trap.error == 0, "%s at CPL 3 is #GP(0)",
           names[i]);
    }
    tss.bitmap[0x80 / 8] &= (uint8_t)~1;
    ok(run_user(user_privileged, 4) == NONE, "OUT with its bit clear in the TSS");
    tss.bitmap[0x80 / 8] |= 1;
}

static void stacks(void)
{
    char *stack = alloc_pages(1);
    tss.ist[0] = (uint64_t)stack + PAGE - 8; /* not aligned: the CPU aligns */
    set_gate(0x43, trap_stubs + 0x43 * 16, SEL_CODE64, 14, 0, 1);
    handlers[0x43] = on_ist;
    uint64_t sp;
    __asm__ volatile("mov %%rsp, %0; int $0x43" : "=r"(sp) : : "memory");
    ok(ist_sp == (((uint64_t)stack + PAGE - 8) & ~UINT64_C(15)) - sizeof(Frame),
       "IST: the stack of the TSS, aligned by 16");
    ok(frame_sp == sp, "the frame has the old RSP, unaligned or not");
    set_gate(0x43, trap_stubs + 0x43 * 16, SEL_CODE64, 14, 0, 0);
    __asm__ volatile("mov %%rsp, %%rbx; sub $4, %%rsp; mov %%rsp, %0; int $0x43; mov %%rbx, %%rsp"
                     : "=r"(sp)
                     :
                     : "rbx", "memory");
    ok(frame_sp == sp && (ist_sp & 7) == 0, "without IST RSP is aligned as well");
}

static volatile unsigned df_count;

static void on_df(Frame *f)
{
    df_count++;
    trap.vector = DF;
    trap.error = (unsigned)f->error;
    f->ip = resume;
}

static void double_faults(void)
{
    handlers[DF] = on_df;
    gate_present(GP, false);
    ok(TRAP("mov %0, %%ds", "r"(0x1000)) == DF && trap.error == 0,
       "#GP whose gate is absent (#NP): #DF(0)");
    gate_present(PF, false);
    ok(TRAP("mov 0x0(%0), %%ecx", "r"(UINT64_C(0x700000000000)), "d"(0)) == DF,
       "#PF whose gate is absent: #DF");
    gate_present(PF, true);
    gate_present(GP, true);
    gate_present(BP, false);
    ok_but_tcg(TRAP("int3", "d"(0)) == NP && trap.error == (BP << 3 | 2),
               "#BP is benign: #NP, no #DF");
    ok(*(uint8_t *)trap.ip == 0xcc, "and points at the INT3");
    gate_present(BP, true);
    handlers[DF] = NULL;
}

static volatile unsigned order[4];
static volatile unsigned n_order;

static void on_order(Frame *f)
{
    order[n_order++ & 3] = (unsigned)f->vector;
}

static void flags(void)
{
    uint64_t f;
    set_gate(0x44, trap_stubs + 0x44 * 16, SEL_CODE64, 15, 0, 0);
    handlers[0x44] = on_order;
    __asm__ volatile("int $0x44; pushf; pop %0" : "=r"(f) : : "memory");
    ok(order[0] == 0x44 && !(f & 1 << 9), "trap gate, interrupts off before: off after");
    ok(TRAP("pushf; orl $0x4000, (%%rsp); popf; iretq", "d"(0)) == GP,
       "IRET with NT in long mode: #GP");
    __asm__ volatile("pushf; andl $~0x4000, (%rsp); popf");
    ok(TRAP("push %0; push $0; push $2; push %1; lea 1f(%%rip), %%rcx; push %%rcx; iretq; 1:",
            "i"(SEL_DATA), "i"(SEL_DATA), "d"(0)) == GP &&
           trap.error == SEL_DATA,
       "IRET to a data segment: #GP(selector)");
}

static void iret_frames(void)
{
    ok(TRAP("mov %%rsp, %%r10; push %0; push %%r10; push $2; push %1; mov $1, %%ecx;"
            "shl $63, %%rcx; push %%rcx; iretq",
            "i"(SEL_DATA), "i"(SEL_CODE64), "c"(0)) == GP &&
           trap.error == 0 && (trap.cs & 3) == 0,
       "IRET to a non-canonical RIP: #GP(0) at the IRET");
    ok(TRAP("mov %%rsp, %%r10; push $0; push %%r10; push $2; push %0; lea 1f(%%rip), %%rcx;"
            "push %%rcx; iretq; 1:",
            "i"(SEL_CODE64), "c"(0)) == NONE,
       "IRET to CPL 0 with a null SS");
    __asm__ volatile("mov %0, %%ss" : : "r"(SEL_DATA));
}

static void alignment(void)
{
    uint64_t cr0 = READ_CR(0);
    WRITE_CR(0, cr0 | 1 << 18);
    uint64_t page[2];
    page[0] = page[1] = 0;
    ok(TRAP("pushf; orl $0x40000, (%%rsp); popf; mov 1(%0), %%ecx; pushf; andl $~0x40000, (%%rsp);"
            "popf",
            "r"(page), "d"(0)) == NONE,
       "alignment is not checked at CPL 0");
    WRITE_CR(0, cr0);
}

static uint64_t user_unaligned(uint64_t at)
{
    uint64_t vector =
        TRAP("pushf; orl $0x40000, (%%rsp); popf; mov (%0), %%ecx; pushf; andl $~0x40000, (%%rsp);"
             "popf",
             "r"(at), "d"(0));
    __asm__ volatile("pushf; andl $~0x40000, (%rsp); popf");
    return vector;
}

static void user_alignment(void)
{
    uint64_t cr0 = READ_CR(0);
    WRITE_CR(0, cr0 | 1 << 18);
    uint64_t at = USER((uint64_t)alloc_pages(2));
    ok(run_user(user_unaligned, at + 4) == NONE, "aligned at CPL 3 with AC: nothing");
    ok_but_tcg(run_user(user_unaligned, at + 5) == AC && trap.error == 0, "unaligned: #AC(0)");
    ok_but_tcg(run_user(user_unaligned, at + PAGE - 2) == AC, "unaligned over a page's end: #AC");
    WRITE_CR(0, cr0);
    ok(run_user(user_unaligned, at + 5) == NONE, "without CR0.AM: nothing");
}

static void fpu(void)
{
    WRITE_CR(0, READ_CR(0) | 8); /* TS */
    ok(TRAP("fld1", "d"(0)) == NM, "x87 with CR0.TS: #NM");
    ok(TRAP("fwait", "d"(0)) == NM, "FWAIT with CR0.TS and MP: #NM");
    ok(TRAP("movaps %%xmm0, %%xmm1", "d"(0)) == NM, "SSE with CR0.TS: #NM");
    __asm__ volatile("clts");
    ok(TRAP("fld1; fstp %%st(0)", "d"(0)) == NONE, "CLTS ends it");
    uint64_t cr4 = READ_CR(4);
    WRITE_CR(4, cr4 & ~UINT64_C(0x200));
    ok(TRAP("movaps %%xmm0, %%xmm1", "d"(0)) == UD, "SSE without OSFXSR: #UD");
    WRITE_CR(4, cr4);
}

void guest_main(void)
{
    simple();
    general_protection();
    bad_stack();
    gates();
    users();
    stacks();
    double_faults();
    flags();
    iret_frames();
    alignment();
    user_alignment();
    fpu();
}
