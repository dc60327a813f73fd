/* SYSCALL, SYSRET, SYSENTER, SYSEXIT and compatibility mode. */
#include "guest.h"

#define EFER   0xc0000080
#define STAR   0xc0000081
#define LSTAR  0xc0000082
#define SFMASK 0xc0000084
#define LOW    UINT64_C(0x80000000) /* a user page below 4 GiB */

static char *low; /* the page at LOW, as the supervisor sees it */

extern char syscall_entry[];
extern char sysenter_entry[];
extern volatile uint64_t seen_syscall[6];
extern volatile uint64_t sysret_wide;
uint64_t enter_low(uint64_t ip, uint64_t cs, uint64_t ax);
uint64_t sysret_low(uint64_t ip, uint64_t flags, uint64_t wide);
uint64_t sysexit_to(uint64_t ip, uint64_t sp, uint64_t wide);

/* The entries note what they find and go to leave_user() through vector 0x81's handler. */
__asm__(".text\n"
        "syscall_entry:\n"
        "mov %rcx, seen_syscall(%rip)\n"
        "mov %r11, seen_syscall+8(%rip)\n"
        "mov %rsp, seen_syscall+16(%rip)\n"
        "mov %cs, %r8d\n mov %r8, seen_syscall+24(%rip)\n"
        "mov %ss, %r8d\n mov %r8, seen_syscall+32(%rip)\n"
        "mov syscall_stack(%rip), %rsp\n"
        "pushf\n pop %r8\n mov %r8, seen_syscall+40(%rip)\n"
        "mov seen_syscall+16(%rip), %rsp\n"
        "cmpq $0, sysret_wide(%rip)\n"
        "je 1f\n"
        "sysretq\n"
        "1: sysretl\n"
        "sysenter_entry:\n"
        "mov %rsp, seen_syscall+16(%rip)\n"
        "mov %cs, %r8d\n mov %r8, seen_syscall+24(%rip)\n"
        "mov %ss, %r8d\n mov %r8, seen_syscall+32(%rip)\n"
        "pushf\n pop %r8\n mov %r8, seen_syscall+40(%rip)\n"
        "mov $77, %edi\n"
        "jmp leave_user\n"
        ".globl enter_low\n"
        "enter_low:\n" /* IRET to (rsi:rdi) with EAX = rdx */
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, kernel_rsp(%rip)\n"
        "mov $0x2b, %eax\n mov %eax, %ds\n mov %eax, %es\n"
        "push $0x2b\n mov $0x80000ff0, %eax\n push %rax\n push $2\n push %rsi\n push %rdi\n"
        "mov %rdx, %rax\n"
        "iretq\n"
        "sysret_low:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, kernel_rsp(%rip)\n"
        "mov %rdi, %rcx\n mov %rsi, %r11\n mov $0x80000ff0, %esp\n"
        "test %rdx, %rdx\n jz 1f\n sysretq\n 1: sysretl\n"
        "sysexit_to:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov %rsp, kernel_rsp(%rip)\n"
        "mov %rdx, %rax\n mov %rdi, %rdx\n mov %rsi, %rcx\n"
        "test %rax, %rax\n jz 1f\n sysexitq\n 1: sysexitl\n"
        ".data\n"
        ".globl seen_syscall\n"
        "seen_syscall: .fill 6, 8, 0\n"
        ".globl sysret_wide\n"
        "sysret_wide: .quad 1\n"
        ".globl syscall_stack\n"
        "syscall_stack: .quad 0\n"
        ".text\n");
extern volatile uint64_t syscall_stack;

static uint64_t do_syscall(uint64_t arg)
{
    uint64_t rcx;
    uint64_t r11;
    uint64_t good;
    __asm__ volatile(
        "stc; std; syscall; 1: lea 1b(%%rip), %0; cmp %0, %%rcx; sete %b2; movzx %b2, %k2; cld;"
        "mov %%r11, %1"
        : "=&r"(rcx), "=&r"(r11), "=&r"(good)
        :
        : "rcx", "r8", "r11", "memory", "cc");
    return arg ? r11 : good;
}

static uint64_t user_step(uint64_t arg)
{
    (void)arg;
    __asm__ volatile("pushf; orl $0x100, (%%rsp); popf; syscall; pushf; andl $~0x100, (%%rsp); popf"
                     :
                     :
                     : "rcx", "r8", "r11", "memory", "cc");
    return 0;
}

static volatile unsigned n_db;
static volatile uint64_t db_cs[8];

static void on_db(Frame *f)
{
    if (n_db < 8) {
        db_cs[n_db] = f->cs;
    }
    n_db++;
}

static void syscalls(void)
{
    wrmsr(STAR, (uint64_t)SEL_CODE64 << 32 | (uint64_t)(SEL_USER32 | 3) << 48);
    wrmsr(LSTAR, (uint64_t)syscall_entry);
    wrmsr(SFMASK, 0x700);
    syscall_stack = (uint64_t)alloc_pages(1) + PAGE;
    ok(run_user(do_syscall, 0) == 1, "SYSCALL: RCX is the next RIP; SYSRET goes there");
    ok((seen_syscall[3] & 0xffff) == SEL_CODE64 && (seen_syscall[4] & 0xffff) == SEL_DATA,
       "CS and SS out of STAR");
    ok_but_tcg((seen_syscall[1] & 0x401) == 0x401 && !(seen_syscall[5] & 0x700) &&
                   (seen_syscall[5] & 1),
               "R11 has RFLAGS, SFMASK clears");
    ok(seen_syscall[2] >> 39 == 1, "RSP stays the user's");
    if (above_tcg()) {
        skip("TF that SFMASK clears", "QEMU's TCG does not end");
    } else {
        handlers[DB] = on_db;
        run_user(user_step, 0);
        bool kernel = false;
        for (unsigned i = 0; i < n_db && i < 8; i++) {
            kernel |= (db_cs[i] & 3) == 0;
        }
        ok(n_db > 0 && !kernel, "TF that SFMASK clears: no trap in the kernel");
        handlers[DB] = NULL;
    }
    uint64_t efer = rdmsr(EFER);
    wrmsr(EFER, efer & ~UINT64_C(1));
    ok(TRAP("syscall", "c"(0)) == UD, "without EFER.SCE: #UD");
    ok(TRAP("sysretq", "c"(0)) == UD, "SYSRET too");
    wrmsr(EFER, efer);
    ok(above_tcg() ||
           (TRAP("mov $1, %%ecx; shl $63, %%rcx; sysretq", "c"(0)) == GP && (trap.cs & 3) == 0),
       "SYSRET to a non-canonical RIP: #GP at CPL 0");
}

/* 32-bit code at LOW: notes CS, adds, comes back by INT 0x81. */
static void compat(void)
{
    uint64_t *pde = page_entry(LOW, 2);
    *pde = 0;
    low = alloc_pages(1);
    map_page(LOW, (uint64_t)low, PT_P | PT_W | PT_U);
    *page_entry(LOW, 4) |= PT_U;
    *page_entry(LOW, 3) |= PT_U;
    *page_entry(LOW, 2) |= PT_U;
    WRITE_CR(3, READ_CR(3));
    static const uint8_t code[] = {
        0x40, 0x40,                 /* inc %eax twice: REX in 64-bit mode */
        0x50, 0x5a,                 /* push %eax; pop %edx */
        0x8c, 0xc8,                 /* mov %cs, %eax */
        0xc1, 0xe0, 16, 0x01, 0xd0, /* shl $16, %eax; add %edx, %eax */
        0xcd, 0x81,                 /* int $0x81 */
    };
    memcpy(low, code, sizeof(code));
    ok(enter_low(LOW, SEL_USER32 | 3, 5) == ((SEL_USER32 | 3) << 16 | 7),
       "IRET to compatibility mode and back");
    ok((uint32_t)sysret_low(LOW, 2, 0) >> 16 == (SEL_USER32 | 3), "SYSRETL: 32-bit code");
    static const uint8_t wide[] = { 0x8c, 0xc8, 0xcd, 0x81 };
    memcpy(low, wide, sizeof(wide));
    ok((uint32_t)sysret_low(LOW, 2, 1) == (SEL_USER64 | 3), "SYSRETQ: 64-bit code");
    static const uint8_t flags[] = { 0x9c, 0x58, 0xcd, 0x81 }; /* pushf; pop %eax */
    memcpy(low, flags, sizeof(flags));
    ok((uint32_t)sysret_low(LOW, 0x10ad7, 0) == 0xad7, "SYSRET: RFLAGS out of R11, RF clear");
    if (above_tcg()) {
        skip("SYSRET: VM clear", "QEMU's TCG sets it, and is in no mode at all");
    } else {
        ok((uint32_t)sysret_low(LOW, 0x30ad7, 0) == 0xad7, "SYSRET: VM clear");
    }
    /* Addresses wrap at 4 GiB. */
    static const uint8_t wrap[] = { 0xa1, 0xf0, 0xff, 0xff, 0xff, 0xcd, 0x81 };
    memcpy(low, wrap, sizeof(wrap));
    static const uint8_t based[] = { 0xbb, 0xf0, 0x0f, 0, 0x90, /* mov $0x90000ff0, %ebx */
                                     0x8b, 0x83, 0,    0, 0,
                                     0xf0, /* mov -0x10000000(%ebx), %eax */
                                     0xcd, 0x81 };
    memcpy(low, based, sizeof(based));
    *(volatile uint32_t *)(low + 0xff0) = 0x1234;
    ok(enter_low(LOW, SEL_USER32 | 3, 0) == 0x1234, "32-bit addresses wrap");
    static const uint8_t sysc[] = { 0x0f, 0x05, 0xcd, 0x81 };
    memcpy(low, sysc, sizeof(sysc));
    trap.vector = NONE;
    resume = LOW + 2;
    enter_low(LOW, SEL_USER32 | 3, 0);
    resume = 0;
    ok_but_tcg(trap.vector == UD, "SYSCALL in compatibility mode: #UD");
    static const uint8_t les[] = { 0x0e, 0x58, 0xcd, 0x81 }; /* push %cs; pop %eax */
    memcpy(low, les, sizeof(les));
    ok((uint32_t)enter_low(LOW, SEL_USER32 | 3, 0) == (SEL_USER32 | 3), "PUSH CS exists there");
}

static void sysenter(void)
{
    wrmsr(0x174, SEL_SYSENTER);
    wrmsr(0x175, 0x123000);
    wrmsr(0x176, (uint64_t)sysenter_entry);
    uint64_t stack = (uint64_t)alloc_pages(1) + PAGE;
    wrmsr(0x175, stack);
    static const uint8_t enter[] = { 0x0f, 0x34 };
    memcpy(low, enter, 2);
    ok(enter_low(LOW, SEL_USER32 | 3, 0) == 77, "SYSENTER from 32-bit code");
    ok(seen_syscall[2] == stack && (seen_syscall[3] & 0xffff) == SEL_SYSENTER &&
           (seen_syscall[4] & 0xffff) == SEL_SYSENTER + 8 && !(seen_syscall[5] & 0x200),
       "RSP, CS, SS out of the MSRs, IF clear");
    static const uint8_t cs[] = { 0x8c, 0xc8, 0xcd, 0x81 };
    memcpy(low, cs, sizeof(cs));
    ok((uint32_t)sysexit_to(LOW, LOW + 0xff0, 0) == ((SEL_SYSENTER + 16) | 3),
       "SYSEXIT: 32-bit code");
    ok((uint32_t)sysexit_to(LOW, LOW + 0xff0, 1) == ((SEL_SYSENTER + 32) | 3),
       "SYSEXIT with REX.W: 64-bit code");
    wrmsr(0x174, 0);
    ok(TRAP("sysexitl", "c"(0), "d"(0)) == GP, "SYSEXIT without SYSENTER_CS: #GP");
    ok(TRAP("sysenter", "c"(0)) == GP, "SYSENTER without SYSENTER_CS: #GP");
}

void guest_main(void)
{
    gate_dpl(0x81, 3);
    syscalls();
    compat();
    if (above_tcg()) {
        skip("SYSENTER and SYSEXIT", "QEMU's TCG goes from 32-bit code to 32-bit code");
    } else {
        sysenter();
    }
}
