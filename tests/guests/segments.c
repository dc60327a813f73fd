/* Segments in 32-bit protected mode: limits, rights, expand-down, loads, gates, LAR and its sisters. */
#include "guest32.h"

#define DS_TRAP(sel, text, ...)                                                             \
    ({                                                                                      \
        trap.vector = NONE;                                                                 \
        __asm__ volatile("movl $771f, resume\n movl %%esp, resume_sp\n mov %0, %%fs\n" text \
                         "\n771: movl $0, resume\n movl resume_sp, %%esp"                   \
                         :                                                                  \
                         : "r"(sel), ##__VA_ARGS__                                          \
                         : "eax", "memory", "cc");                                          \
        trap.vector;                                                                        \
    })

static char *area;

static void limits(void)
{
    set_gdt(S_SPARE, (uint32_t)area, 0xfff, 0x493); /* 4 KiB, byte granular */
    ok(DS_TRAP(S_SPARE, "movl %%fs:0xffc, %%eax") == NONE, "the last dword of a segment");
    ok_but_tcg(DS_TRAP(S_SPARE, "movl %%fs:0xffd, %%eax") == GP && trap.error == 0,
               "one byte beyond its limit: #GP(0)");
    ok_but_tcg(DS_TRAP(S_SPARE, "movb %%fs:0xfff, %%al") == NONE &&
                   DS_TRAP(S_SPARE, "movb %%fs:0x1000, %%al") == GP,
               "bytes at the limit and beyond");
    ok_but_tcg(DS_TRAP(S_SPARE, "movl $-1, %%eax; movb %%fs:(%%eax), %%al") == GP,
               "offset 0xffffffff");
    set_gdt(S_SPARE, (uint32_t)area, 1, 0xc93); /* 2 pages */
    ok_but_tcg(DS_TRAP(S_SPARE, "movl %%fs:0x1ffc, %%eax") == NONE &&
                   DS_TRAP(S_SPARE, "movl %%fs:0x1ffd, %%eax") == GP,
               "granularity of pages");
    set_gdt(S_SPARE, (uint32_t)area, 0xfff, 0x497); /* expand-down, B: 0x1000 up to 4 GiB */
    ok_but_tcg(DS_TRAP(S_SPARE, "movb %%fs:0xfff, %%al") == GP &&
                   DS_TRAP(S_SPARE, "movb %%fs:0x1000, %%al") == NONE,
               "expand-down: above the limit is inside");
    set_gdt(S_SPARE, (uint32_t)area, 0xfff, 0x097); /* not B: up to 0xffff */
    ok_but_tcg(DS_TRAP(S_SPARE, "movb %%fs:0xffff, %%al") == NONE &&
                   DS_TRAP(S_SPARE, "movb %%fs:0x10000, %%al") == GP,
               "expand-down of 16 bits ends at 0xffff");
    *(volatile uint32_t *)(area + 0x100) = 0x1234;
    set_gdt(S_SPARE, (uint32_t)area + 0x100, 0xfff, 0x493);
    uint32_t v;
    __asm__ volatile("mov %1, %%fs; movl %%fs:0, %0" : "=r"(v) : "r"(S_SPARE));
    ok(v == 0x1234, "the base is added");
}

static void rights(void)
{
    set_gdt(S_SPARE, (uint32_t)area, 0xfff, 0x491);
    ok_but_tcg(DS_TRAP(S_SPARE, "movl %%fs:0, %%eax") == NONE &&
                   DS_TRAP(S_SPARE, "movl %%eax, %%fs:0") == GP && trap.error == 0,
               "read-only data: a write is #GP(0)");
    set_gdt(S_SPARE, (uint32_t)area, 0xfff, 0x49b);
    ok_but_tcg(DS_TRAP(S_SPARE, "movl %%fs:0, %%eax") == NONE &&
                   DS_TRAP(S_SPARE, "movl %%eax, %%fs:0") == GP,
               "readable code: the same");
    set_gdt(S_SPARE, (uint32_t)area, 0xfff, 0x499);
    ok(TRAP("mov %0, %%fs", "r"(S_SPARE)) == GP && trap.error == S_SPARE,
       "execute-only code is no data: #GP(selector)");
    ok_but_tcg(TRAP("mov $0, %%eax; mov %%eax, %%fs; movl %%fs:0, %%eax", "r"(0)) == GP &&
                   trap.error == 0,
               "a null segment: #GP(0) when used");
    ok(TRAP("mov %0, %%ss", "r"(0)) == GP && trap.error == 0, "null in SS: #GP(0) at once");
    ok_but_tcg(TRAP("movl %%cs:0x400000, %%eax", "r"(0)) == NONE &&
                   TRAP("movl %%eax, %%cs:0x400000", "r"(0)) == GP,
               "CS can be read, not written");
    set_gdt(S_SPARE, 0, 0xfffff, 0xc13);
    ok(TRAP("mov %0, %%fs", "r"(S_SPARE)) == NP && trap.error == S_SPARE, "absent: #NP");
    ok(TRAP("mov %0, %%ss", "r"(S_SPARE)) == SS && trap.error == S_SPARE, "absent stack: #SS");
    set_gdt(S_SPARE, (uint32_t)area, 0xfff, 0x092);
    __asm__ volatile("mov %0, %%fs" : : "r"(S_SPARE));
    ok(gdt[S_SPARE / 8] >> 40 & 1, "a load sets the accessed bit");
    __asm__ volatile("lldt %w0" : : "r"(0));
    ok(TRAP("mov %0, %%fs", "r"(4)) == GP && trap.error == 4, "LDT selector without LDT");
    uint64_t *ldt = (uint64_t *)(area + 0x800);
    ldt[1] = descriptor((uint32_t)area + 0x100, 0xff, 0x493);
    set_gdt(S_SPARE + 8, (uint32_t)ldt, 15, 0x082);
    __asm__ volatile("lldt %w0" : : "r"(S_SPARE + 8));
    uint32_t v;
    __asm__ volatile("mov %1, %%fs; movl %%fs:0, %0" : "=r"(v) : "r"(12));
    ok(v == 0x1234, "a segment of the LDT");
    ok(TRAP("mov %0, %%fs", "r"(20)) == GP && trap.error == 20, "beyond the LDT");
}

static void stack_limit(void)
{
    set_gdt(S_SPARE + 16, 0, 0x3ff, 0x493); /* SS up to 1 KiB: any use of ours is beyond */
    /* No trap may come on that stack: #SS through a task would be needed; so test by its offset. */
    set_gdt(S_SPARE + 16, 0, 0x003fff, 0xc93); /* 64 MiB */
    ok_but_tcg(
        TRAP("mov %%ss, %%ecx; mov %0, %%ss; mov $0x8000000, %%eax; movl %%ss:(%%eax), %%eax;"
             "mov %%ecx, %%ss",
             "r"(S_SPARE + 16), "c"(0)) == SS &&
            trap.error == 0,
        "beyond the limit of SS: #SS(0)");
    __asm__ volatile("mov %0, %%ss" : : "r"(S_DATA));
}

static uint32_t lar(unsigned sel, bool *zf)
{
    uint32_t v = 0xabcd;
    uint8_t z;
    __asm__ volatile("lar %2, %0; setz %1" : "+r"(v), "=q"(z) : "r"(sel) : "cc");
    *zf = z;
    return v;
}

static void questions(void)
{
    bool zf;
    ok((lar(S_DATA, &zf) & 0xf0ff00) == 0xc09300 && zf, "LAR of data");
    ok(lar(S_TSS, &zf) == 0x008b00 && zf, "LAR of a busy TSS");
    ok(lar(0, &zf) == 0xabcd && !zf, "LAR of null");
    gdt[S_SPARE / 8] = gate(S_CODE, 0, 14, 0, 0);
    ok(lar(S_SPARE, &zf) == 0xabcd && !zf, "LAR of an interrupt gate: not");
    gdt[S_SPARE / 8] = gate(S_CODE, 0, 12, 0, 0);
    lar(S_SPARE, &zf);
    ok(zf, "LAR of a call gate");
    uint32_t v;
    __asm__ volatile("lsl %1, %0" : "=r"(v) : "r"(S_DATA) : "cc");
    ok(v == 0xffffffff, "LSL applies the granularity");
    __asm__ volatile("lsl %1, %0" : "=r"(v) : "r"(S_TSS) : "cc");
    ok(v == sizeof(Tss32) - 1, "LSL of a TSS");
    uint8_t a;
    uint8_t b;
    __asm__ volatile("verr %w2; setz %0; verw %w2; setz %1"
                     : "=&q"(a), "=&q"(b)
                     : "r"(S_CODE)
                     : "cc");
    ok(a && !b, "VERR and VERW of code");
    __asm__ volatile("verr %w2; setz %0; verw %w2; setz %1"
                     : "=&q"(a), "=&q"(b)
                     : "r"(S_DATA | 3)
                     : "cc");
    ok(!a && !b, "of data that the RPL may not have");
    uint32_t to = 0x1231;
    __asm__ volatile("arpl %w2, %w0; setz %1" : "+r"(to), "=q"(a) : "r"(3) : "cc");
    ok(to == 0x1233 && a, "ARPL raises");
    __asm__ volatile("arpl %w2, %w0; setz %1" : "+r"(to), "=q"(a) : "r"(1) : "cc");
    ok(to == 0x1233 && !a, "ARPL does not lower");
}

/* Far calls through gates, from CPL 3 to CPL 0 with parameters. */
extern char gate_entry[];
extern volatile uint32_t gate_seen[8];
uint32_t user_gate_call(void);
__asm__(".text\n"
        "gate_entry:\n" /* CPL 0: note CS and the parameters; RETF takes them away */
        "mov %cs, %eax\n mov %eax, gate_seen\n"
        "mov 8(%esp), %eax\n mov %eax, gate_seen+4\n"
        "mov 12(%esp), %eax\n mov %eax, gate_seen+8\n"
        "mov %ss, %eax\n mov %eax, gate_seen+12\n"
        "mov 20(%esp), %eax\n mov %eax, gate_seen+16\n"
        "lret $8\n"
        ".globl user_gate_call\n"
        "user_gate_call:\n"
        "push %ebx\n push %esi\n push %edi\n push %ebp\n"
        "mov %esp, gate_sp\n"
        "push $0x33\n push $gate_user_stack\n push $2\n push $0x2b\n push $1f\n"
        "iret\n"
        "1: mov $0x33, %eax\n mov %eax, %ds\n mov %eax, %es\n"
        "push $0x1111\n push $0x2222\n"
        "lcall $0x53, $0\n" /* the spare gate, RPL 3 */
        "mov %cs, %eax\n mov %eax, gate_seen+20\n"
        "mov %esp, gate_seen+24\n"
        "int $0x81\n"
        ".bss\n .skip 4096\n gate_user_stack: .skip 64\n"
        ".globl gate_seen\n gate_seen: .skip 32\n"
        ".globl gate_sp\n gate_sp: .skip 4\n"
        ".globl gate_user_stack\n"
        ".text\n");
extern char gate_user_stack[];
extern uint32_t gate_sp;

static void back_to_kernel(Frame *f)
{
    (void)f;
    __asm__ volatile(
        "mov gate_sp, %%esp; pop %%ebp; pop %%edi; pop %%esi; pop %%ebx; mov $1, %%eax; ret"
        :
        :
        : "memory");
    __builtin_unreachable();
}

static void gates(void)
{
    handlers[0x81] = back_to_kernel;
    gdt[0x50 / 8] = gate(S_CODE, (uint32_t)gate_entry, 12, 3, 2);
    main_tss.ss0 = S_DATA;
    user_gate_call();
    ok((gate_seen[0] & 0xffff) == S_CODE && (gate_seen[3] & 0xffff) == S_DATA,
       "call gate: CPL 0 with the TSS's stack");
    ok(gate_seen[1] == 0x2222 && gate_seen[2] == 0x1111, "two parameters are copied");
    ok((gate_seen[4] & 0xffff) == S_USER_DATA, "above them the old SS and ESP");
    ok((gate_seen[5] & 0xffff) == S_USER_CODE && gate_seen[6] == (uint32_t)gate_user_stack,
       "RETF goes back and drops the parameters on both stacks");
    gdt[0x50 / 8] = gate(S_CODE, (uint32_t)gate_entry, 12, 0, 2);
    ok(TRAP("lcall $0x53, $0", "r"(0)) == GP && trap.error == 0x50, "gate DPL below RPL: #GP");
    gdt[0x50 / 8] = gate(S_DATA, 0, 12, 3, 0);
    ok(TRAP("lcall $0x50, $0", "r"(0)) == GP && trap.error == S_DATA, "gate to data: #GP");
    ok(TRAP("ljmp $0x10, $0", "r"(0)) == GP && trap.error == 0x10, "JMP to data: #GP");
    ok(TRAP("ljmp $0, $0", "r"(0)) == GP && trap.error == 0, "JMP to null: #GP(0)");
    ok(TRAP("ljmp $0x2b, $0", "r"(0)) == GP && trap.error == 0x28, "JMP to outer code: #GP");
    uint32_t v;
    __asm__ volatile("push %%cs; push $1f; lret; 1: mov %%cs, %0" : "=r"(v) : : "memory");
    ok((v & 0xffff) == S_CODE, "RETF at one privilege");
    ok(TRAP("push $0x10; push $0; lret", "r"(0)) == GP && trap.error == 0x10, "RETF to data: #GP");
    gdt[S_SPARE / 8] = descriptor(0, 0xfffff, 0xc9f); /* conforming, DPL 0 */
    __asm__ volatile("lcall $0x40, $1f; jmp 2f; 1: mov %%cs, %0; lret; 2:" : "=r"(v) : : "memory");
    ok((v & 0xffff) == S_SPARE, "conforming code at its own privilege");
}

static void misc(void)
{
    ok(TRAP("ltr %w0", "r"(S_TSS)) == GP && trap.error == S_TSS, "LTR of a busy TSS: #GP");
    ok(TRAP("ltr %w0", "r"(S_DATA)) == GP && trap.error == S_DATA, "LTR of data: #GP");
    ok_but_tcg(TRAP("ltr %w0", "r"(0)) == GP && trap.error == 0, "LTR of null: #GP(0)");
    ok(TRAP("lldt %w0", "r"(S_DATA)) == GP && trap.error == S_DATA, "LLDT of data: #GP");
    uint16_t lo;
    uint32_t cr0 = READ_CR(0);
    __asm__ volatile("smsw %0" : "=r"(lo));
    ok(lo == (cr0 & 0xffff), "SMSW");
    __asm__ volatile("lmsw %w0" : : "r"(cr0 | 8));
    ok(READ_CR(0) == (cr0 | 8), "LMSW sets TS");
    __asm__ volatile("lmsw %w0" : : "r"(0));
    ok(READ_CR(0) & 1, "LMSW cannot clear PE");
    __asm__ volatile("clts");
    uint32_t bounds[2] = { 1, 5 };
    ok(TRAP("bound %0, (%1)", "r"(5), "r"(bounds)) == NONE &&
           TRAP("bound %0, (%1)", "r"(6), "r"(bounds)) == BR,
       "BOUND");
    ok(TRAP("movb $0x7f, %%al; addb $1, %%al; into", "r"(0)) == OF, "INTO with OF");
    ok(TRAP("xor %%eax, %%eax; into", "r"(0)) == NONE, "INTO without");
    struct __attribute__((packed)) {
        uint32_t offset;
        uint16_t selector;
    } far_pointer = { 0x12345678, S_DATA };
    uint32_t v;
    __asm__ volatile("push %%es; les (%1), %0; pop %%es" : "=&r"(v) : "r"(&far_pointer) : "memory");
    ok(v == 0x12345678, "LES");
    far_pointer.selector = 0x1000;
    ok(TRAP("lfs (%0), %%eax", "r"(&far_pointer)) == GP && trap.error == 0x1000,
       "LFS with a bad selector");
}

void guest_main(void)
{
    area = alloc_pages(3);
    limits();
    rights();
    stack_limit();
    questions();
    gates();
    misc();
}
