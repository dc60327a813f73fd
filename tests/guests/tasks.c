/* Task switches: JMP, CALL, IRET, task gates for interrupts and double faults, the T bit. */
#include "guest32.h"

#define S_TASK      0x40 /* the other task's TSS */
#define S_TASK_GATE 0x48
#define S_DF_TASK   0x50

static Tss32 other;
static Tss32 df_tss;
static char other_stack[4096] __attribute__((aligned(16)));
static char df_stack[4096] __attribute__((aligned(16)));

static volatile unsigned runs;
static volatile uint32_t seen_flags;
static volatile uint32_t seen_link;
static volatile uint16_t seen_tr;
volatile uint32_t seen_error;
static volatile unsigned seen_ts;
uint32_t fix_eip; /* where the task that faulted is to go on */

static uint16_t tr(void)
{
    uint16_t v;
    __asm__ volatile("str %0" : "=r"(v));
    return v;
}

static bool busy(unsigned selector)
{
    return gdt[selector / 8] >> 41 & 1;
}

/* Note what the other task finds; the registers are in the TSS. */
void other_body(void);
void other_body(void)
{
    runs++;
    seen_tr = tr();
    seen_link = other.link & 0xffff;
    seen_ts = (READ_CR(0) >> 3) & 1;
    __asm__ volatile("pushf; pop %0" : "=r"(seen_flags));
}

extern char other_iret[];
extern char other_jmp[];
extern char other_error[];
__asm__(
    ".text\n"
    "other_iret: call other_body\n iret\n jmp other_iret\n"
    "other_jmp: call other_body\n ljmp $0x38, $0\n jmp other_jmp\n"
    "other_error: pop seen_error\n call other_body\n mov fix_eip, %eax\n mov %eax, main_tss+32\n iret\n jmp other_error\n");

static void init_task(Tss32 *t, void *entry, char *stack_end, unsigned selector)
{
    *t = (Tss32){ .eip = (uint32_t)entry,
                  .eflags = 2,
                  .esp = (uint32_t)stack_end,
                  .cs = S_CODE,
                  .ss = S_DATA,
                  .ds = S_DATA,
                  .es = S_DATA,
                  .iomap = sizeof(Tss32) };
    set_gdt(selector, (uint32_t)t, sizeof(Tss32) - 1, 0x089);
}

static void calls(void)
{
    init_task(&other, other_iret, other_stack + sizeof(other_stack), S_TASK);
    uint32_t before;
    uint32_t after;
    __asm__ volatile("mov %%esp, %0; mov $0x1234, %%ebx; lcall $0x40, $0; mov %%esp, %1"
                     : "=&r"(before), "=&r"(after)
                     :
                     : "ebx", "memory");
    ok(runs == 1 && seen_tr == S_TASK, "CALL to a TSS");
    ok(seen_link == S_TSS && (seen_flags & 0x4000), "the link names the caller, NT is set");
    ok(seen_ts && (READ_CR(0) & 8), "CR0.TS is set");
    ok(tr() == S_TSS && before == after, "IRET comes back");
    ok(busy(S_TSS) && !busy(S_TASK), "the busy bits");
    ok((main_tss.ebx == 0x1234), "the old task's registers are in its TSS");
    uint32_t flags;
    __asm__ volatile("pushf; pop %0" : "=r"(flags));
    ok(!(flags & 0x4000), "NT is clear again");
    __asm__ volatile("lcall $0x40, $0" : : : "memory");
    ok(runs == 2, "again: the task goes on behind its IRET");
    gdt[S_TASK_GATE / 8] = gate(S_TASK, 0, 5, 0, 0);
    __asm__ volatile("lcall $0x48, $0" : : : "memory");
    ok(runs == 3 && tr() == S_TSS, "through a task gate");
    init_task(&other, other_jmp, other_stack + sizeof(other_stack), S_TASK);
    __asm__ volatile("ljmp $0x40, $0" : : : "memory");
    ok(runs == 4 && !(seen_flags & 0x4000), "JMP to a TSS and back by JMP: no NT");
    ok(busy(S_TSS) && !busy(S_TASK), "and no busy bit stays behind");
    __asm__ volatile("clts");
}

static void interrupts(void)
{
    init_task(&other, other_iret, other_stack + sizeof(other_stack), S_TASK);
    set_task_gate(0x42, S_TASK);
    __asm__ volatile("int $0x42" : : : "memory");
    ok(runs == 5 && seen_link == S_TSS, "INT through a task gate");
    set_task_gate(GP, S_TASK);
    init_task(&other, other_error, other_stack + sizeof(other_stack), S_TASK);
    /* The task's IRET goes back to the instruction that faulted: mend it there. */
    seen_error = 0;
    gdt[0x58 / 8] = 0;
    __asm__ volatile("mov $1f, %%eax\n"
                     "movl %%eax, fix_eip\n"
                     "mov $0x58, %%eax\n"
                     "mov %%eax, %%fs\n" /* #GP; the fix below makes the task return behind it */
                     "1:"
                     :
                     :
                     : "eax", "memory");
    ok(runs == 6 && seen_error == 0x58, "#GP through a task gate: the error code is on its stack");
    __asm__ volatile("clts");
    set_gate(GP, trap_stubs + GP * 16, S_CODE, 14, 0, 0);
}

static volatile bool df_ran;
volatile uint32_t df_error;
extern char df_entry[];
void df_body(void);
void df_body(void)
{
    df_ran = true;
    main_tss.eip = resume;
}
__asm__(".text\n df_entry: pop df_error\n call df_body\n iret\n jmp df_entry\n");

static void double_fault(void)
{
    init_task(&df_tss, df_entry, df_stack + sizeof(df_stack), S_DF_TASK);
    set_task_gate(DF, S_DF_TASK);
    /* A stack that is no stack: #SS cannot be delivered. */
    set_gdt(0x58, 0, 0x10, 0x493);
    TRAP("mov $0x58, %%eax; mov %%eax, %%ss; push %%eax", "r"(0));
    __asm__ volatile("mov %0, %%ss" : : "r"(S_DATA));
    ok_but_tcg(df_ran && df_error == 0, "a double fault on a bad stack goes to its own task");
    __asm__ volatile("clts");
}

static void refusals(void)
{
    init_task(&other, other_iret, other_stack + sizeof(other_stack), S_TASK);
    set_gdt(S_TASK, (uint32_t)&other, 0x66, 0x089);
    ok(TRAP("lcall $0x40, $0", "r"(0)) == TS && trap.error == S_TASK, "a TSS too small: #TS");
    set_gdt(S_TASK, (uint32_t)&other, 0x67, 0x08b);
    ok(TRAP("lcall $0x40, $0", "r"(0)) == GP && trap.error == S_TASK, "a busy one: #GP");
    set_gdt(S_TASK, (uint32_t)&other, 0x67, 0x009);
    ok(TRAP("lcall $0x40, $0", "r"(0)) == NP && trap.error == S_TASK, "an absent one: #NP");
    ok(TRAP("lcall $0x38, $0", "r"(0)) == GP && trap.error == S_TSS, "its own: busy");
    __asm__ volatile("pushf; andl $~0x4000, (%%esp); popf" : : : "memory");
}

static volatile unsigned n_db;
static volatile uint32_t db_dr6;

static void on_db(Frame *f)
{
    (void)f;
    n_db++;
    db_dr6 = READ_DR(6);
}

static void trap_bit(void)
{
    handlers[DB] = on_db;
    init_task(&other, other_iret, other_stack + sizeof(other_stack), S_TASK);
    other.trap = 1;
    WRITE_DR(6, 0xffff0ff0);
    __asm__ volatile("lcall $0x40, $0" : : : "memory");
    ok_but_tcg(n_db == 1 && (db_dr6 & 0x8000), "the T bit: #DB with BT in the new task");
    __asm__ volatile("clts");
}

void guest_main(void)
{
    calls();
    interrupts();
    double_fault();
    refusals();
    trap_bit();
}
