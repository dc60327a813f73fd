/* A 64-bit guest that lives for ever and looks after itself: once in a while it writes a line, "beat N at SECONDS ok",
 * or what it found wrong instead. For tests/kvm/move.c. */
#include "guest.h"

enum {
    GUEST_OS_ID = 0x40000000,
    HYPERCALL = 0x40000001,
    TIME_REF_COUNT = 0x40000020,
    REFERENCE_TSC = 0x40000021,
    TSC_FREQUENCY = 0x40000022,
};

#define LINUX_ID      UINT64_C(0x8100060100000000)
#define INVALID_CODE  2
#define TICKS_PER_S   UINT64_C(10000000)
#define BEAT_TICKS    (TICKS_PER_S / 20)
#define APIC          UINT64_C(0xfee00000)
#define TIMER_VECTOR  0x40
#define TIMER_INITIAL (5000000 / 16) /* 5 ms */

static volatile unsigned timer_ticks;

static void apic_write(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(APIC + reg) = v;
}

static void on_timer(Frame *f)
{
    (void)f;
    timer_ticks++;
    apic_write(0xb0, 0);
}

static void start_timer(void)
{
    handlers[TIMER_VECTOR] = on_timer;
    apic_write(0xf0, 0x1ff);
    apic_write(0x3e0, 3); /* by 16 */
    apic_write(0x320, 0x20000 | TIMER_VECTOR);
    apic_write(0x380, TIMER_INITIAL);
}

static uint64_t hypercall(void *page)
{
    uint64_t result, input = 0x7fff;
    __asm__ volatile("call *%[page]"
                     : "=a"(result), "+c"(input)
                     : [page] "b"(page)
                     : "memory", "cc", "rdx", "r8", "r9", "r10", "r11");
    return result;
}

/* False: the page says that it is of no use. */
static bool page_time(const volatile uint64_t *page, uint64_t *t)
{
    uint32_t sequence;
    do {
        sequence = (uint32_t)page[0];
        *t = (uint64_t)((unsigned __int128)rdtsc() * page[1] >> 64) + page[2];
    } while (sequence != (uint32_t)page[0]);
    return sequence != 0;
}

typedef struct Seen {
    uint64_t ref, tsc, paged;
    unsigned ticks;
    uint32_t cpu[4], vendor[4];
    uint64_t hz;
} Seen;

static void look(Seen *s, const uint64_t *tsc_page)
{
    s->ref = rdmsr(TIME_REF_COUNT);
    s->tsc = rdtsc();
    s->ticks = timer_ticks;
    s->hz = rdmsr(TSC_FREQUENCY);
    cpuid(1, 0, s->cpu);
    cpuid(0, 0, s->vendor);
    if (!page_time(tsc_page, &s->paged)) {
        s->paged = s->ref;
    }
}

static uint64_t apart(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static const char *complaint(const Seen *old, const Seen *now, void *hypercall_page)
{
    if (now->ref <= old->ref || now->paged <= old->paged) {
        return "time-went-back";
    }
    if (now->hz != old->hz || now->cpu[0] != old->cpu[0] || now->vendor[1] != old->vendor[1]) {
        return "another-cpu";
    }
    if (now->ticks == old->ticks) {
        return "the-timer-stopped";
    }
    if (apart(now->paged, now->ref) > TICKS_PER_S / 50) {
        return "the-page-and-the-msr-differ";
    }
    if (hypercall(hypercall_page) != INVALID_CODE) {
        return "a-hypercall-failed";
    }
    /* TSC and reference time have gone on by the same. */
    uint64_t by = (now->tsc - old->tsc) * TICKS_PER_S / now->hz;
    if (now->tsc <= old->tsc || apart(by, now->ref - old->ref) > TICKS_PER_S / 50) {
        return "the-tsc-jumped";
    }
    return "ok";
}

static void print_beat(unsigned n, const Seen *now, const char *what)
{
    unsigned us = (unsigned)(now->ref % TICKS_PER_S / 10);
    char fraction[7];
    for (unsigned i = 6; i-- > 0; us /= 10) {
        fraction[i] = (char)('0' + us % 10);
    }
    fraction[6] = 0;
    print("beat %u at %u.%s %s\n", n, now->ref / TICKS_PER_S, fraction, what);
}

void guest_main(void)
{
    uint64_t *tsc_page = alloc_pages(1);
    void *hypercall_page = alloc_pages(1);
    Seen old, now;
    wrmsr(GUEST_OS_ID, LINUX_ID);
    wrmsr(HYPERCALL, (uint64_t)hypercall_page | 1);
    wrmsr(REFERENCE_TSC, (uint64_t)tsc_page | 1);
    start_timer();
    __asm__ volatile("sti");
    look(&old, tsc_page);
    for (unsigned n = 1;; n++) {
        while (rdmsr(TIME_REF_COUNT) < old.ref + BEAT_TICKS) {
            __asm__ volatile("hlt");
        }
        look(&now, tsc_page);
        print_beat(n, &now, complaint(&old, &now, hypercall_page));
        old = now;
    }
}
