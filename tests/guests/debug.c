/* Single step, breakpoints, watchpoints, the debug registers, interrupt shadows. */
#include "guest.h"

#define TF 0x100
#define RF 0x10000

static volatile unsigned n_db;
static volatile uint64_t db_ip[32];
static volatile uint64_t db_dr6[32];
static volatile uint64_t db_stop; /* after that many: TF off */

static void on_db(Frame *f)
{
    if (n_db < 32) {
        db_ip[n_db] = f->ip;
        db_dr6[n_db] = READ_DR(6);
    }
    n_db++;
    WRITE_DR(6, 0xffff0ff0);
    if (n_db >= db_stop) {
        f->flags &= ~(uint64_t)TF;
    }
    f->flags |= RF; /* on with the instruction of a breakpoint */
}

static void begin(unsigned stop)
{
    n_db = 0;
    db_stop = stop;
    WRITE_DR(6, 0xffff0ff0);
}

#define STEP_ON  "pushf; orl $0x100, (%%rsp); popf;"
#define STEP_OFF "pushf; andl $~0x100, (%%rsp); popf;"

static void single_step(void)
{
    uint64_t a;
    uint64_t b;
    begin(100);
    __asm__ volatile(STEP_ON "1: nop; 2: nop; 3:" STEP_OFF "lea 2b(%%rip), %0; lea 3b(%%rip), %1"
                     : "=&r"(a), "=&r"(b)
                     :
                     : "memory", "cc");
    ok(db_ip[0] == a && db_ip[1] == b, "TF: a trap after each instruction, none after the POPF");
    ok(n_db == 5, "and one after the POPF that clears it (%u)", n_db);
    ok(db_dr6[0] == 0xffff4ff0, "DR6 has BS");
    begin(100);
    __asm__ volatile(STEP_ON "mov %%ss, %%eax; mov %%eax, %%ss; nop; 3:" STEP_OFF
                             "lea 3b(%%rip), %0"
                     : "=&r"(a)
                     :
                     : "rax", "memory", "cc");
    ok(db_ip[1] == a, "no trap after MOV SS, one after the next instruction");
    static char from[4] = "abc";
    static char to[4];
    begin(100);
    __asm__ volatile("lea %2, %%rsi; lea %1, %%rdi; mov $3, %%ecx;" STEP_ON
                     "1: rep movsb; 3:" STEP_OFF "lea 1b(%%rip), %0"
                     : "=&r"(a), "=m"(to)
                     : "m"(from)
                     : "rsi", "rdi", "rcx", "memory", "cc");
    ok(db_ip[0] == a && db_ip[1] == a && db_ip[2] > a && to[2] == 'c',
       "REP MOVSB: a trap after each iteration");
    begin(100);
    __asm__ volatile(STEP_ON "int $0x46; 3:" STEP_OFF "lea 3b(%%rip), %0"
                     : "=&r"(a)
                     :
                     : "memory", "cc");
    ok(db_ip[0] != a && db_ip[0] > a, "INT n clears TF: the next trap is behind its return");
    begin(100);
    __asm__ volatile(STEP_ON "cpuid; 3:" STEP_OFF "lea 3b(%%rip), %0"
                     : "=&S"(a)
                     :
                     : "rax", "rbx", "rcx", "rdx", "memory", "cc");
    ok(db_ip[0] == a, "CPUID is stepped as any");
}

static void execution(void)
{
    uint64_t a;
    begin(100);
    __asm__ volatile("lea 1f(%%rip), %0; mov %0, %%dr0; mov $2, %%eax; mov %%rax, %%dr7;"
                     "nop; 1: nop; nop; xor %%eax, %%eax; mov %%rax, %%dr7"
                     : "=&r"(a)
                     :
                     : "rax", "memory");
    ok(n_db == 1 && db_ip[0] == a, "execution breakpoint: a fault, before the instruction");
    ok(db_dr6[0] == 0xffff0ff1, "DR6 has B0");
    begin(100);
    __asm__ volatile("lea 1f(%%rip), %0; mov %0, %%dr1; mov $8, %%eax; mov %%rax, %%dr7;"
                     "mov $3, %%ecx; 1: dec %%ecx; jnz 1b; xor %%eax, %%eax; mov %%rax, %%dr7"
                     : "=&r"(a)
                     :
                     : "rax", "rcx", "memory");
    ok(n_db == 3 && db_dr6[2] == 0xffff0ff2, "in a loop it hits each time: RF lives for one");
}

static volatile uint64_t watched[4];

static void data(void)
{
    begin(100);
    WRITE_DR(0, &watched[1]);
    WRITE_DR(7, 0x90002); /* global 0, write, 8 bytes */
    uint64_t a;
    watched[0] = 1;
    watched[2] = 1;
    ok(n_db == 0, "watchpoint: neighbours do not hit");
    __asm__ volatile("movl $5, 4(%1); 1: nop; lea 1b(%%rip), %0"
                     : "=&r"(a)
                     : "r"(&watched[1])
                     : "memory");
    ok(n_db == 1 && db_ip[0] == a, "write to its second half: a trap, after the instruction");
    ok(db_dr6[0] == 0xffff0ff1 && watched[1] >> 32 == 5, "DR6 has B0, the write was done");
    (void)watched[1];
    ok(n_db == 1, "a read does not hit a write watchpoint");
    __asm__ volatile("movb $1, (%0)" : : "r"((char *)&watched[1] - 1) : "memory");
    ok(n_db == 1, "the byte before does not hit");
    __asm__ volatile("movw $1, (%0)" : : "r"((char *)&watched[1] - 1) : "memory");
    ok(n_db == 2, "an access that overlaps hits");
    WRITE_DR(7, 0xb0002); /* read or write */
    (void)watched[1];
    ok(n_db == 3, "a read hits a read-write watchpoint");
    __asm__ volatile("push %%rax; mov %%ss, %%eax; mov (%0), %%ecx; mov %%eax, %%ss; pop %%rax"
                     :
                     : "r"(&watched[1])
                     : "rcx", "rax", "memory");
    ok(n_db == 4, "once for one access");
    WRITE_DR(7, 0);
    watched[1] = 9;
    ok(n_db == 4, "disabled: nothing");
    begin(100);
    WRITE_DR(7, 0xb0002);
    uint64_t to = (uint64_t)&watched[0];
    uint64_t n = 4;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(7UL) : "memory");
    ok(n_db == 1 && watched[3] == 7, "REP STOS over it: one hit, all written");
    WRITE_DR(7, 0);
}

static void registers(void)
{
    WRITE_DR(7, 0xffffffffU & ~0x2000U);
    ok_but_tcg(READ_DR(7) == 0xffff07ff, "DR7: reserved bits (%x)", (uint64_t)READ_DR(7));
    WRITE_DR(7, 0);
    ok(READ_DR(7) == 0x400, "DR7: bit 10 is 1");
    WRITE_DR(6, 0);
    ok(READ_DR(6) == 0xffff0ff0, "DR6: bits that are 1");
    ok(TRAP("mov %0, %%dr7", "r"(UINT64_C(1) << 32)) == GP, "DR7: upper half: #GP");
    ok(TRAP("mov %0, %%dr6", "r"(UINT64_C(1) << 40)) == GP, "DR6: upper half: #GP");
    WRITE_CR(4, READ_CR(4) | 8);
    ok(TRAP("mov %%dr4, %%rcx", "c"(0)) == UD, "DR4 with CR4.DE: #UD");
    WRITE_CR(4, READ_CR(4) & ~UINT64_C(8));
    ok(TRAP("mov %%dr4, %%rcx", "c"(0)) == NONE, "DR4 without: DR6");
    begin(100);
    handlers[DB] = NULL;
    WRITE_DR(7, 0x2000);
    ok_but_tcg(TRAP("1: mov %%dr0, %%rcx", "c"(0)) == DB && (READ_DR(6) & 0x2000),
               "DR7.GD: MOV DR is #DB with BD");
    ok_but_tcg(!(READ_DR(7) & 0x2000), "and GD is off");
    WRITE_DR(6, 0xffff0ff0);
    handlers[DB] = on_db;
}

static void io(void)
{
    WRITE_CR(4, READ_CR(4) | 8);
    begin(100);
    WRITE_DR(2, 0x80);
    WRITE_DR(7, 0x2000020); /* global 2, I/O */
    outb(0x81, 0);
    unsigned before = n_db;
    outb(0x80, 0);
    ok(before == 0 && n_db == 1 && db_dr6[0] == 0xffff0ff4, "I/O breakpoint");
    WRITE_DR(7, 0);
    WRITE_CR(4, READ_CR(4) & ~UINT64_C(8));
}

static void nothing(Frame *f)
{
    (void)f;
}

void guest_main(void)
{
    handlers[DB] = on_db;
    handlers[0x46] = nothing;
    single_step();
    execution();
    data();
    registers();
    io();
}
