/* Guest smp, the part about processors as such: INIT and SIPI, interrupts between them, timers. */
#include "smp.h"

/*
 * Where a SIPI sends a processor: copied to two pages below 1 MiB. From real mode it goes straight
 * to the image's own 32-bit and 64-bit code, with the first processor's GDT and page tables.
 */
__asm__(".text\n"
        ".code16\n"
        "ap_begin:\n"
        "    cli\n"
        "    cld\n"
        "    mov %cs, %ax\n"
        "    mov %ax, %ds\n"
        "    mov %ax, ap_cs - ap_begin\n"
        "    lgdtl ap_gdt - ap_begin\n"
        "    mov %cr0, %eax\n"
        "    and $~0x60000000, %eax\n" /* caches on */
        "    or $1, %eax\n"
        "    mov %eax, %cr0\n"
        "    ljmpl $0x38, $ap32\n"
        "ap_gdt: .word 255\n"
        "    .long gdt\n"
        "ap_cs: .word 0\n"
        "ap_end:\n"
        ".code32\n"
        "ap32:\n"
        "    mov $0x10, %eax\n"
        "    mov %eax, %ds\n"
        "    mov %eax, %es\n"
        "    mov %eax, %ss\n"
        "    mov $pml4, %eax\n"
        "    mov %eax, %cr3\n"
        "    mov %cr4, %eax\n"
        "    or $0x6a0, %eax\n"
        "    mov %eax, %cr4\n"
        "    mov $0xc0000080, %ecx\n"
        "    rdmsr\n"
        "    or $0x901, %eax\n"
        "    wrmsr\n"
        "    mov %cr0, %eax\n"
        "    and $~0x4, %eax\n"
        "    or $0x80010022, %eax\n"
        "    mov %eax, %cr0\n"
        "    ljmp $0x08, $ap64\n"
        ".code64\n"
        "ap64:\n"
        "    mov $1, %eax\n"
        "    cpuid\n"
        "    shr $24, %ebx\n"
        "    mov %ebx, %edi\n"
        "    lea 1(%rbx), %eax\n"
        "    shl $14, %rax\n"
        "    lea ap_stacks(%rip), %rsp\n"
        "    add %rax, %rsp\n"
        "    call ap_entry\n"
        "    ud2\n");
extern char ap_begin[];
extern char ap_end[];
extern char ap_cs[];
char ap_stacks[MAX_CPUS][16384] __attribute__((aligned(16)));
__attribute__((noreturn)) void ap_entry(unsigned id);

#define PAGE_A 0x8000
#define PAGE_B 0x9000

unsigned n_cpus = 1;
static volatile uint32_t n_started;
static volatile uint32_t starts[MAX_CPUS];
static volatile uint64_t heartbeat[MAX_CPUS];
static volatile uint32_t nmis[MAX_CPUS];
static struct {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) idt_pointer;

/* What processor 1 does while it is idle; the others always halt until there is an interrupt. */
enum { SPIN, HALT_IF1, HALT_IF0 };
enum { WAKE = 0x50 };
static volatile uint32_t order;

static void (*volatile work)(unsigned id);
static volatile uint32_t generation;
static volatile uint32_t n_done;

void gave_up(const char *what, unsigned line)
{
    print("not ok 999 - line %u: waited too long for %s\n", line, what);
    quit(1);
}

bool has_cx16(void)
{
    uint32_t r[4];
    cpuid(1, 0, r);
    return r[2] >> 13 & 1;
}

/* ---- the local APIC, in either mode ---- */

#define APIC UINT64_C(0xfee00000)
enum {
    ID = 0x20,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT_TIMER = 0x320,
    INITIAL = 0x380,
    DIVIDE = 0x3e0
};
enum {
    PHYSICAL = 0,
    LOWEST = 0x100,
    NMI_MODE = 0x400,
    INIT = 0x500,
    SIPI = 0x600,
    LOGICAL = 0x800,
    ASSERT = 0x4000,
    TO_SELF = 0x40000,
    TO_ALL = 0x80000,
    TO_OTHERS = 0xc0000
};

static bool x2;

static uint32_t apic_read(unsigned reg)
{
    return x2 ? (uint32_t)rdmsr(0x800 + (reg >> 4)) : *(volatile uint32_t *)(APIC + reg);
}

static void apic_write(unsigned reg, uint32_t v)
{
    if (x2) {
        wrmsr(0x800 + (reg >> 4), v);
    } else {
        *(volatile uint32_t *)(APIC + reg) = v;
    }
}

static unsigned my_id(void)
{
    return x2 ? apic_read(ID) : apic_read(ID) >> 24;
}

static void ipi(uint32_t dest, uint32_t command)
{
    if (x2) {
        __asm__ volatile("mfence"
                         :
                         :
                         : "memory"); /* WRMSR to the x2APIC does not wait for stores */
        wrmsr(0x830, (uint64_t)dest << 32 | ASSERT | command);
        return;
    }
    wait_for(!(apic_read(ICR) & 0x1000));
    apic_write(ICR_HIGH, dest << 24);
    apic_write(ICR, ASSERT | command);
}

void apic_eoi(void)
{
    apic_write(EOI, 0);
}

void apic_ipi_others(unsigned vector)
{
    ipi(0, TO_OTHERS | vector);
}

/* ---- the processors ---- */

void ap_entry(unsigned id)
{
    __asm__ volatile("lidt %0" : : "m"(idt_pointer));
    apic_write(SVR, 0x1ff);
    uint32_t seen = generation;
    __atomic_fetch_add(&starts[id], 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&n_started, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        heartbeat[id]++;
        switch (id == 1 ? order : HALT_IF1) {
        case SPIN:
            __asm__ volatile("sti; pause; cli" : : : "memory");
            break;
        case HALT_IF1:
            __asm__ volatile("sti; hlt; cli" : : : "memory");
            break;
        default:
            __asm__ volatile("cli; hlt" : : : "memory");
            break;
        }
        if (generation != seen) {
            seen = generation;
            work(id);
            __atomic_fetch_add(&n_done, 1, __ATOMIC_SEQ_CST);
        }
    }
}

void on_all(void (*fn)(unsigned id))
{
    n_done = 0;
    work = fn;
    __atomic_fetch_add(&generation, 1, __ATOMIC_SEQ_CST);
    ipi(0, TO_OTHERS | WAKE);
    fn(0);
    wait_for(n_done == n_cpus - 1);
}

#define MS UINT64_C(1000000) /* at 1 GHz; less where the TSC is faster */

static bool beats(unsigned id)
{
    delay(5 * MS); /* what is under way ends */
    uint64_t before = heartbeat[id];
    for (unsigned i = 0; i < 200 && heartbeat[id] == before; i++) {
        delay(MS);
    }
    return heartbeat[id] != before;
}

/* It has stopped, and stays so. In time: a hypervisor's host may have had no CPU for it until now. */
static bool stands(unsigned id)
{
    bool still = false;
    for (unsigned i = 0; i < 20 && !still; i++) {
        delay(20 * MS);
        uint64_t before = heartbeat[id];
        delay(20 * MS);
        still = heartbeat[id] == before;
    }
    return still;
}

static void on_nmi(Frame *f)
{
    (void)f;
    __atomic_fetch_add(&nmis[my_id()], 1, __ATOMIC_SEQ_CST);
}

static void on_wake(Frame *f)
{
    (void)f;
    apic_eoi();
}

static bool came_again(unsigned id, uint32_t times)
{
    wait_for(starts[id] == times);
    return beats(id);
}

static unsigned started_at(unsigned page)
{
    return *(volatile uint16_t *)(uintptr_t)(page + (unsigned)(ap_cs - ap_begin)) << 4;
}

static void restart(void)
{
    ipi(1, SIPI | PAGE_B >> 12);
    ok(beats(1) && starts[1] == 1, "SIPI does nothing to one that runs");
    ipi(1, INIT);
    ok(stands(1), "INIT stops it");
    ipi(1, SIPI | PAGE_B >> 12);
    ok(came_again(1, 2) && started_at(PAGE_B) == PAGE_B, "SIPI starts it at another vector");
    ipi(1, SIPI | PAGE_A >> 12);
    ipi(1, INIT);
    bool kept = !stands(1) || starts[1] != 2;
    ok_but_tcg(!kept, "SIPI, INIT: the SIPI is not kept");
    ipi(1, INIT);
    delay(20 * MS);
    uint32_t n = starts[1];
    if (on_tcg()) {
        skip("an NMI does not start it", "QEMU's TCG takes it, in real mode");
    } else {
        ipi(1, NMI_MODE);
        ok(stands(1) && starts[1] == n, "an NMI does not start it");
        ipi(1, INIT); /* and it is forgotten */
    }
    ipi(1, SIPI | PAGE_A >> 12);
    ipi(1, SIPI | PAGE_B >> 12);
    ok(came_again(1, n + 1), "INIT, SIPI, SIPI without a pause: it starts once");
    order = HALT_IF0;
    ok(stands(1), "CLI, HLT");
    uint32_t before = nmis[1];
    order = SPIN;
    ipi(1, NMI_MODE);
    ok(beats(1) && nmis[1] == before + 1, "an NMI ends it");
    order = HALT_IF0;
    delay(5 * MS);
    ipi(1, INIT);
    order = SPIN;
    ipi(1, SIPI | PAGE_A >> 12);
    ok(came_again(1, n + 2), "INIT reaches one that is halted");
    order = HALT_IF1;
}

bool smp_start(void)
{
    uint32_t r[4];
    cpuid(0, 0, r);
    if (r[0] >= 0xb) {
        cpuid(0xb, 1, r);
        n_cpus = r[1] & 0xffff;
    }
    if (n_cpus < 2 || n_cpus > MAX_CPUS) {
        skip("everything", "one processor, or more than 64");
        return false;
    }
    __asm__ volatile("sidt %0" : "=m"(idt_pointer));
    outb(0x21, 0xff); /* a PC's PIC, where there is one */
    outb(0xa1, 0xff);
    handlers[2] = on_nmi;
    handlers[WAKE] = on_wake;
    memcpy((void *)PAGE_A, ap_begin, (size_t)(ap_end - ap_begin));
    memcpy((void *)PAGE_B, ap_begin, (size_t)(ap_end - ap_begin));
    apic_write(SVR, 0x1ff);
    ipi(0, TO_OTHERS | INIT);
    delay(10 * MS);
    ipi(0, TO_OTHERS | SIPI | PAGE_A >> 12);
    wait_for(n_started == n_cpus - 1);
    ipi(0, TO_OTHERS | SIPI | PAGE_A >> 12);
    delay(10 * MS);
    bool once = n_started == n_cpus - 1;
    for (unsigned i = 1; i < n_cpus; i++) {
        once = once && starts[i] == 1;
    }
    ok(once && started_at(PAGE_A) == PAGE_A, "INIT, SIPI, SIPI to all others start %u, each once",
       n_cpus - 1);
    restart();
    return true;
}

/* ---- interrupts between processors ---- */

enum { VECTOR = 0x51, TIMER = 0x52, NEXT = 0x53 };
static volatile uint32_t got[MAX_CPUS], ticks[MAX_CPUS], passed[MAX_CPUS];

static void on_ipi(Frame *f)
{
    volatile uint32_t *count = f->vector == VECTOR ? got : f->vector == TIMER ? ticks : passed;
    __atomic_fetch_add(&count[my_id()], 1, __ATOMIC_SEQ_CST);
    apic_eoi();
}

static uint32_t total(void)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < n_cpus; i++) {
        sum += got[i];
    }
    return sum;
}

/* One message; exactly the processors in the set get it, once. */
static bool reaches(uint32_t dest, uint32_t command, uint64_t set)
{
    uint32_t n = 0;
    for (unsigned i = 0; i < n_cpus; i++) {
        got[i] = 0;
        n += set >> i & 1;
    }
    ipi(dest, command | VECTOR);
    __asm__ volatile("sti; nop; nop" : : : "memory");
    wait_for(total() >= n);
    __asm__ volatile("cli");
    for (unsigned i = 0; i < n_cpus; i++) {
        if (got[i] != (set >> i & 1)) {
            print("# processor %u got %u\n", i, got[i]);
            return false;
        }
    }
    return true;
}

static uint64_t all(void)
{
    return UINT64_MAX >> (64 - n_cpus);
}

static void physical(const char *mode)
{
    bool good = true;
    for (unsigned i = 0; i < n_cpus; i++) {
        good = good && reaches(i, PHYSICAL, UINT64_C(1) << i);
    }
    ok(good, "%s: physical, to each", mode);
    ok(reaches(x2 ? UINT32_MAX : 0xff, PHYSICAL, all()), "%s: physical, to everybody", mode);
    ok(reaches(0, TO_SELF, 1), "%s: to itself", mode);
    ok(reaches(0, TO_ALL, all()), "%s: to all", mode);
    ok(reaches(0, TO_OTHERS, all() & ~UINT64_C(1)), "%s: to all others", mode);
    uint32_t before[MAX_CPUS];
    for (unsigned i = 0; i < n_cpus; i++) {
        before[i] = nmis[i];
    }
    ipi(0, TO_OTHERS | NMI_MODE);
    for (unsigned i = 1; i < n_cpus; i++) {
        wait_for(nmis[i] == before[i] + 1);
    }
    ok(nmis[0] == before[0], "%s: an NMI to all others", mode);
}

static void set_flat(unsigned id)
{
    apic_write(DFR, UINT32_MAX);
    apic_write(LDR, id < 8 ? 1u << (24 + id) : 0);
}

static void set_cluster(unsigned id)
{
    apic_write(DFR, 0x0fffffff);
    apic_write(LDR, id < 60 ? (id / 4) << 28 | 1u << (24 + id % 4) : 0);
}

/* Each of a number of messages goes to one of those addressed. */
static void lowest(const char *mode, uint32_t dest)
{
    for (unsigned i = 0; i < n_cpus; i++) {
        got[i] = 0;
    }
    for (unsigned i = 1; i <= 16; i++) {
        ipi(dest, LOGICAL | LOWEST | VECTOR);
        __asm__ volatile("sti; nop; nop" : : : "memory");
        wait_for(total() >= i);
        __asm__ volatile("cli");
    }
    delay(MS);
    ok(total() == 16, "%s: lowest priority, one of them gets it: %u of 16", mode, total());
}

static void logical(void)
{
    on_all(set_flat);
    bool good = true;
    unsigned n = n_cpus < 8 ? n_cpus : 8;
    for (unsigned i = 0; i < n; i++) {
        good = good && reaches(1u << i, LOGICAL, UINT64_C(1) << i);
    }
    ok(good, "xAPIC, flat: to each of the first eight");
    ok(reaches(3, LOGICAL, 3), "xAPIC, flat: to two of them");
    ok(reaches(0xff, LOGICAL, all() & 0xff), "xAPIC, flat: to all eight");
    lowest("xAPIC, flat", (1u << n) - 1);
    on_all(set_cluster);
    good = true;
    for (unsigned i = 0; i < n_cpus && i < 60; i++) {
        good = good && reaches((i / 4) << 4 | 1u << i % 4, LOGICAL, UINT64_C(1) << i);
    }
    ok(good, "xAPIC, clusters: to each");
    unsigned last = ((n_cpus < 60 ? n_cpus : 60) - 1) / 4;
    ok(reaches(last << 4 | 0xf, LOGICAL, all() & UINT64_C(0xf) << 4 * last),
       "xAPIC, clusters: to the last");
    on_all(set_flat);
}

static void enable_x2(unsigned id)
{
    (void)id;
    wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
}

static void logical_x2(void)
{
    bool good = true;
    for (unsigned i = 0; i < n_cpus; i++) {
        good = good && reaches((i >> 4) << 16 | 1u << (i & 15), LOGICAL, UINT64_C(1) << i);
    }
    ok(good, "x2APIC: logical, to each");
    unsigned last = (n_cpus - 1) >> 4;
    ok(reaches(last << 16 | 0xffff, LOGICAL, all() & UINT64_C(0xffff) << 16 * last),
       "x2APIC: logical, to all of a cluster");
    lowest("x2APIC", 0xffff);
    got[0] = 0;
    wrmsr(0x83f, VECTOR);
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
    ok(got[0] == 1, "x2APIC: SELF IPI");
}

/* Each sends to the next one, and waits for that to have got it. */
static void pass_on(unsigned id)
{
    unsigned next = (id + 1) % n_cpus;
    __asm__ volatile("sti");
    for (uint32_t i = 1; i <= 1600 / n_cpus; i++) {
        __asm__ volatile("cli"); /* ICR is two registers */
        ipi(next, NEXT);
        __asm__ volatile("sti");
        wait_for(passed[next] >= i);
    }
    wait_for(passed[id] == 1600 / n_cpus);
    __asm__ volatile("cli");
}

static void one_shot(unsigned id)
{
    apic_write(DIVIDE, 0xb); /* by 1 */
    apic_write(LVT_TIMER, TIMER);
    apic_write(INITIAL, 2000000 + id * 1000);
    while (!ticks[id]) {
        __asm__ volatile("sti; hlt; cli" : : : "memory");
    }
}

void smp_ipis(void)
{
    handlers[VECTOR] = handlers[TIMER] = handlers[NEXT] = on_ipi;
    physical("xAPIC");
    logical();
    on_all(pass_on);
    bool good = true;
    for (unsigned i = 0; i < n_cpus; i++) {
        good = good && passed[i] == 1600 / n_cpus;
    }
    ok(good, "interrupts round and round: none is lost or doubled");
    on_all(one_shot);
    good = true;
    for (unsigned i = 0; i < n_cpus; i++) {
        good = good && ticks[i] == 1;
    }
    ok(good, "each has a timer");
    uint32_t r[4];
    cpuid(1, 0, r);
    if (!(r[2] >> 21 & 1)) {
        skip("x2APIC", "the model has none");
        return;
    }
    on_all(enable_x2);
    x2 = true;
    physical("x2APIC");
    logical_x2();
}
