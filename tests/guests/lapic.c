/* The local APIC of a 64-bit guest: timer, priorities, HLT, shadows; and the time stamp counter. */
#include "guest.h"

#define APIC UINT64_C(0xfee00000)

enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    SVR = 0xf0,
    ISR = 0x100,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT_TIMER = 0x320,
    INITIAL = 0x380,
    CURRENT = 0x390,
    DIVIDE = 0x3e0,
};

static uint32_t apic_read(unsigned reg)
{
    return *(volatile uint32_t *)(APIC + reg);
}

static void apic_write(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(APIC + reg) = v;
}

static bool bit(unsigned bank, unsigned vector)
{
    return apic_read(bank + vector / 32 * 16) >> (vector % 32) & 1;
}

static void self(unsigned vector)
{
    apic_write(ICR, 0x44000 | vector); /* to itself, fixed, edge */
}

static volatile unsigned seen[16];
static volatile unsigned n_seen;
static volatile unsigned nested;
static volatile uint64_t last_ip;

static void on_irq(Frame *f)
{
    last_ip = f->ip;
    seen[n_seen++ & 15] = (unsigned)f->vector;
    if (nested && f->vector == nested) {
        nested = 0;
        self(0x90);
        self(0x31);
        __asm__ volatile("sti; nop; nop; cli"); /* the higher one only */
        seen[n_seen++ & 15] = 0;
    }
    apic_write(EOI, 0);
}

static void on_nmi(Frame *f)
{
    (void)f;
    seen[n_seen++ & 15] = 2;
}

/* Interrupts on for a while. */
static void window(void)
{
    __asm__ volatile("sti; nop; nop; cli");
}

static void spin(uint64_t ticks)
{
    uint64_t end = rdtsc() + ticks;
    while (rdtsc() < end) {
        __asm__ volatile("pause");
    }
}

static void basics(void)
{
    ok((rdmsr(0x1b) & 0xfffffffffffffc00) == (APIC | 0x800) && (rdmsr(0x1b) & 0x100),
       "APIC_BASE: enabled, BSP, at 0xfee00000");
    ok((apic_read(VERSION) & 0xff) >= 0x10 && apic_read(VERSION) >> 16 >= 3, "version");
    ok(apic_read(ID) == 0, "id");
    apic_write(SVR, 0x1ff);
    self(0x40);
    ok(bit(IRR, 0x40) && n_seen == 0, "with IF clear a self-IPI waits in IRR");
    window();
    ok(n_seen == 1 && seen[0] == 0x40 && !bit(IRR, 0x40) && !bit(ISR, 0x40), "and comes with STI");
}

static void priorities(void)
{
    n_seen = 0;
    self(0x35);
    self(0x61);
    self(0x62);
    self(0x50);
    window();
    window();
    window();
    window();
    ok(n_seen == 4 && seen[0] == 0x62 && seen[1] == 0x61 && seen[2] == 0x50 && seen[3] == 0x35,
       "the highest vector comes first");
    n_seen = 0;
    apic_write(TPR, 0x60);
    self(0x61);
    self(0x70);
    window();
    window();
    ok(n_seen == 1 && seen[0] == 0x70 && bit(IRR, 0x61), "TPR holds its class and lower off");
    ok(apic_read(PPR) == 0x60 && READ_CR(8) == 6, "PPR and CR8 follow TPR");
    WRITE_CR(8, 0);
    window();
    ok(n_seen == 2 && seen[1] == 0x61 && apic_read(TPR) == 0, "CR8 opens it");
    n_seen = 0;
    nested = 0x60;
    self(0x60);
    window();
    window();
    ok(n_seen == 4 && seen[0] == 0x60 && seen[1] == 0x90 && seen[2] == 0 && seen[3] == 0x31,
       "in a handler: higher ones nest, lower ones wait for its EOI");
}

static void shadows(void)
{
    uint64_t at;
    n_seen = 0;
    self(0x41);
    __asm__ volatile("sti; 1: nop; 2: nop; cli; lea 2b(%%rip), %0" : "=r"(at) : : "memory");
    ok(n_seen == 1 && last_ip == at, "STI holds interrupts off for one instruction");
    n_seen = 0;
    self(0x41);
    __asm__ volatile("sti; cli; nop");
    ok(n_seen == 0, "STI, CLI: nothing in between");
    __asm__ volatile("mov %%ss, %%eax; sti; nop; cli" : : : "rax");
    n_seen = 0;
    __asm__ volatile("sti");
    uint64_t flags;
    self(0x41);
    __asm__ volatile("pushf; pop %0; cli" : "=r"(flags));
    ok(n_seen == 1, "with IF set an IPI comes at once");
    n_seen = 0;
    __asm__ volatile("mov %%ss, %%ecx\n"
                     "mov %1, %%rdx\n"
                     "sti\n"
                     "nop\n"
                     "mov $0x44042, %%eax\n"
                     "mov %%eax, 0x300(%%rdx)\n"
                     "cli\n"
                     "lea 1f(%%rip), %0\n"
                     "1:"
                     : "=&r"(at)
                     : "r"(APIC)
                     : "rax", "rcx", "rdx", "memory");
    window();
    ok(n_seen == 1, "one IPI, one interrupt");
    n_seen = 0;
    self(0x42);
    __asm__ volatile("pushf; orl $0x200, (%%rsp); popf; 1: nop; cli; lea 1b(%%rip), %0"
                     : "=r"(at)
                     :
                     : "memory");
    ok(n_seen == 1 && last_ip == at, "POPF has no shadow");
}

static void timer(void)
{
    apic_write(DIVIDE, 0xb); /* by 1 */
    n_seen = 0;
    apic_write(LVT_TIMER, 0x50);
    apic_write(INITIAL, 100000);
    ok(apic_read(CURRENT) <= 100000, "the timer counts down");
    __asm__ volatile("sti; hlt; cli");
    ok(n_seen == 1 && seen[0] == 0x50, "one-shot: HLT until it fires");
    ok(apic_read(CURRENT) == 0, "and it stays at 0");
    n_seen = 0;
    apic_write(LVT_TIMER, 0x20051);
    apic_write(INITIAL, 50000);
    for (unsigned i = 0; i < 5; i++) {
        __asm__ volatile("sti; hlt; cli");
    }
    ok(n_seen >= 5 && seen[4] == 0x51, "periodic: five times");
    apic_write(LVT_TIMER, 0x10051);
    apic_write(INITIAL, 0);
    n_seen = 0;
    spin(1000000);
    window();
    window();
    ok(n_seen <= 1, "masked: nothing more");
    uint32_t r[4];
    cpuid(1, 0, r);
    if (r[2] & 1 << 24) {
        apic_write(LVT_TIMER, 0x40052);
        __asm__ volatile("mfence");
        n_seen = 0;
        uint64_t due = rdtsc() + 2000000;
        wrmsr(0x6e0, due);
        __asm__ volatile("sti; hlt; cli");
        ok(n_seen == 1 && seen[0] == 0x52 && rdtsc() >= due, "TSC deadline: not before its time");
        ok(rdmsr(0x6e0) == 0, "and it is disarmed");
        n_seen = 0;
        wrmsr(0x6e0, 1);
        window();
        ok(n_seen == 1, "a deadline in the past fires at once");
    } else {
        skip("TSC deadline", "not in this model");
    }
    n_seen = 0;
    apic_write(LVT_TIMER, 0x50);
    apic_write(INITIAL, 1000);
    spin(2000000);
    uint64_t before = n_seen;
    __asm__ volatile("sti; hlt; cli");
    ok(before == 0 && n_seen == 1, "HLT with an interrupt waiting does not sleep");
}

static void nmi(void)
{
    handlers[2] = on_nmi;
    n_seen = 0;
    apic_write(ICR_HIGH, 0);
    apic_write(ICR, 0x400); /* NMI to id 0 */
    spin(10000);
    ok(n_seen == 1 && seen[0] == 2, "NMI with IF clear");
}

static void tsc(void)
{
    uint64_t last = rdtsc();
    bool good = true;
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t now = rdtsc();
        good &= now >= last;
        last = now;
    }
    ok(good, "RDTSC never goes back");
    wrmsr(0x10, 0x100000000000);
    last = rdtsc();
    ok_but_tcg(last >= 0x100000000000 && last < 0x110000000000, "a write of the TSC sets it");
    WRITE_CR(4, READ_CR(4) | 4);
    ok(TRAP("rdtsc", "c"(0)) == NONE, "CR4.TSD does not concern CPL 0");
    WRITE_CR(4, READ_CR(4) & ~UINT64_C(4));
}

void guest_main(void)
{
    map_page(0x740000000000, 0, PT_P); /* tables exist before interrupts do */
    for (unsigned v = 0x30; v < 0x80; v++) {
        handlers[v] = on_irq;
    }
    handlers[0x90] = on_irq;
    basics();
    priorities();
    shadows();
    timer();
    nmi();
    tsc();
}
