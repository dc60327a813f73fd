/*
 * What gdb.py looks at: a guest with symbols, built without optimisation, that does the same few
 * things again and again until `rounds_left` is 0. Other VPs count.
 */
#include "guest.h"

#define APIC UINT64_C(0xfee00000)

extern char ap_start[], ap_end[];
void ap_main(unsigned index);

volatile unsigned rounds_left = 1000000000;
volatile unsigned aps_up;
volatile uint64_t ap_count[64];
volatile uint64_t watched, quiet = 77;
volatile uint64_t wide[4];
volatile unsigned int3_seen, db_seen;
volatile unsigned spinning;
volatile uint64_t spins;
char text_from[32] = "a text that is moved", text_to[32];
double vector[2] = { 1.5, -2.25 };

static void apic_write(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(APIC + reg) = v;
}

static void on_int3(Frame *f)
{
    (void)f;
    int3_seen++;
}

static void on_db(Frame *f)
{
    (void)f;
    db_seen++;
}

__attribute__((noinline)) unsigned innermost(unsigned n)
{
    watched = n;
    return n * 2 + 1;
}

__attribute__((noinline)) unsigned middle(unsigned n)
{
    unsigned twice = innermost(n) + 5;
    return twice;
}

__attribute__((noinline)) unsigned outer(unsigned n)
{
    unsigned result = middle(n + 1);
    return result;
}

__attribute__((noinline)) uint64_t reads(void)
{
    return quiet + wide[1];
}

/* Instructions that a debugger may get wrong. */
__attribute__((noinline)) void oddities(void)
{
    __asm__ volatile(".globl odd_movss\n"
                     "odd_movss: mov %%ss, %%eax\n"
                     "mov %%eax, %%ss\n"
                     "nop\n"
                     ".globl odd_rep\n"
                     "odd_rep: lea text_from(%%rip), %%rsi\n"
                     "lea text_to(%%rip), %%rdi\n"
                     "mov $21, %%ecx\n"
                     "rep movsb\n"
                     ".globl odd_int3\n"
                     "odd_int3: int3\n"
                     ".globl odd_after\n"
                     "odd_after: nop\n"
                     ".globl odd_ud\n"
                     "odd_ud: movsd vector(%%rip), %%xmm3\n"
                     :
                     :
                     : "rax", "rcx", "rsi", "rdi", "memory");
}

__attribute__((noinline)) void spin(void)
{
    while (spinning) {
        spins++;
    }
}

void ap_main(unsigned index)
{
    __atomic_add_fetch(&aps_up, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        ap_count[index]++;
    }
}

/* All VPs but this one: INIT, start-up at 0x8000. */
static void start_others(void)
{
    memcpy((void *)0x8000, ap_start, (size_t)(ap_end - ap_start));
    apic_write(0x300, 0xc4500);
    for (volatile unsigned i = 0; i < 100000; i++) {}
    apic_write(0x300, 0xc4608);
    for (volatile unsigned i = 0; i < 2000000; i++) {}
}

void guest_main(void)
{
    handlers[BP] = on_int3;
    handlers[DB] = on_db;
    start_others();
    print("guest: ready\n");
    for (unsigned n = 0; rounds_left > 0; n++, rounds_left--) {
        wide[n & 3] = outer(n);
        reads();
        oddities();
        spin();
    }
    print("guest: done, %u breakpoints, %u traps\n", int3_seen, db_seen);
    quit(0);
}
