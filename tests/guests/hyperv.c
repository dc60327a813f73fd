/* The Hyper-V interface as a 64-bit guest sees it, whoever answers: identity, hypercalls, pages that
 * cover others, time. */
#include "guest.h"

enum {
    GUEST_OS_ID = 0x40000000,
    HYPERCALL = 0x40000001,
    VP_INDEX = 0x40000002,
    TIME_REF_COUNT = 0x40000020,
    REFERENCE_TSC = 0x40000021,
    TSC_FREQUENCY = 0x40000022,
    APIC_FREQUENCY = 0x40000023,
    VP_ASSIST_PAGE = 0x40000073,
    SCONTROL = 0x40000080,
    CRASH_P0 = 0x40000100,
    CRASH_CTL = 0x40000105,
    REENLIGHTENMENT = 0x40000106,
    TSC_INVARIANT = 0x40000118,
};

#define LINUX_ID     UINT64_C(0x8100060100000000)
#define INVALID_CODE 2
#define TICKS_PER_S  UINT64_C(10000000)

static unsigned try_rdmsr(uint32_t msr)
{
    return TRAP("mov %%rdx, %%r11\n rdmsr\n mov %%r11, %%rdx", "c"(msr));
}

static unsigned try_wrmsr(uint32_t msr, uint32_t v)
{
    return TRAP("mov %%ebx, %%eax\n mov %%rdx, %%r11\n xor %%edx, %%edx\n wrmsr\n mov %%r11, %%rdx",
                "c"(msr), "b"(v));
}

static uint64_t call_page(void *page, uint64_t input, uint64_t *rdx, uint64_t *r8)
{
    register uint64_t r8_ __asm__("r8") = *r8;
    uint64_t result;
    uint64_t rdx_ = *rdx;
    __asm__ volatile("call *%[page]"
                     : "=a"(result), "+c"(input), "+d"(rdx_), "+r"(r8_)
                     : [page] "b"(page)
                     : "memory", "cc", "r9", "r10", "r11");
    *rdx = rdx_;
    *r8 = r8_;
    return result;
}

static bool page_is(const uint8_t *page, uint8_t byte)
{
    for (unsigned i = 0; i < PAGE; i++) {
        if (((const volatile uint8_t *)page)[i] != byte) {
            return false;
        }
    }
    return true;
}

static void identity(void)
{
    uint32_t r[4];
    cpuid(0x40000000, 0, r);
    ok(r[1] == 0x7263694d && r[2] == 0x666f736f && r[3] == 0x76482074, "it is Microsoft Hv");
    cpuid(0x40000001, 0, r);
    ok(r[0] == 0x31237648, "of interface Hv#1");
    ok(rdmsr(VP_INDEX) == 0, "VP_INDEX is 0");
    ok(try_wrmsr(VP_INDEX, 1) == GP && try_wrmsr(TIME_REF_COUNT, 1) == GP,
       "VP_INDEX and TIME_REF_COUNT are read-only");
    ok(try_rdmsr(SCONTROL) == GP && try_wrmsr(SCONTROL, 1) == GP &&
           try_rdmsr(REENLIGHTENMENT) == GP && try_wrmsr(REENLIGHTENMENT, 0) == GP,
       "what CPUID does not offer is not there");
    ok(rdmsr(APIC_FREQUENCY) == 1000000000, "the APIC ticks once a nanosecond");
    wrmsr(TSC_INVARIANT, 1);
    ok(rdmsr(TSC_INVARIANT) == 1, "the TSC is invariant");
    wrmsr(CRASH_P0 + 1, 0x123456789abcdef);
    ok(rdmsr(CRASH_P0 + 1) == 0x123456789abcdef && rdmsr(CRASH_CTL) >> 62 == 3,
       "there is a place for last words");
}

static void hypercalls(void)
{
    uint8_t *page = alloc_pages(1);
    uint64_t rdx = 0x1111, r8 = 0x2222;
    memset(page, 0x5a, PAGE);
    wrmsr(HYPERCALL, (uint64_t)page | 1);
    ok(!(rdmsr(HYPERCALL) & 1) && page_is(page, 0x5a), "no hypercall page for nobody");
    wrmsr(GUEST_OS_ID, LINUX_ID);
    wrmsr(HYPERCALL, (uint64_t)page | 1);
    ok(rdmsr(HYPERCALL) == ((uint64_t)page | 1) && rdmsr(GUEST_OS_ID) == LINUX_ID,
       "the hypercall page is on");
    ok(page[3] == 0xc3 && page[4] == 0xcc, "three bytes, RET, and nothing else");
    bool good = true;
    for (unsigned i = 0; i < 100; i++) {
        good &= call_page(page, 0x7fff, &rdx, &r8) == INVALID_CODE;
    }
    ok(good, "an unknown hypercall is an invalid code, a hundred times");
    ok(rdx == 0x1111 && r8 == 0x2222, "its inputs are as they were");
    good = true;
    for (unsigned code = 2; code <= 3; code++) { /* flushes of address spaces */
        good &= (call_page(page, code | 1u << 16, &rdx, &r8) & 0xffff) != 0;
    }
    ok(good, "what is not offered is refused");
    unsigned vector = TRAP("call *%%rbx", "b"(page));
    ok(vector == NONE, "it may be called with whatever is in registers");
    wrmsr(HYPERCALL, 0);
    ok(page_is(page, 0x5a), "what the page covered is there again");
    wrmsr(HYPERCALL, (uint64_t)page | 1);
    wrmsr(GUEST_OS_ID, 0);
    ok(!(rdmsr(HYPERCALL) & 1) && page_is(page, 0x5a), "without a guest there is no page");
}

static void assist(void)
{
    uint8_t *page = alloc_pages(1);
    memset(page, 0x5a, PAGE);
    wrmsr(VP_ASSIST_PAGE, (uint64_t)page | 1);
    ok(rdmsr(VP_ASSIST_PAGE) == ((uint64_t)page | 1) && page_is(page, 0),
       "the assist page is there and empty");
    wrmsr(VP_ASSIST_PAGE, 0);
}

/* The page's time; false if it says that it is of no use. */
static bool page_time(const volatile uint64_t *page, uint64_t *t)
{
    uint32_t sequence;
    do {
        sequence = (uint32_t)page[0];
        *t = (uint64_t)((unsigned __int128)rdtsc() * page[1] >> 64) + page[2];
    } while (sequence != (uint32_t)page[0]);
    return sequence != 0;
}

static void time(void)
{
    uint64_t *page = alloc_pages(1);
    uint64_t hz = rdmsr(TSC_FREQUENCY), t0 = rdmsr(TIME_REF_COUNT), c0 = rdtsc(), t, c, paged;
    bool monotonic = true;
    for (unsigned i = 0; i < 1000 || rdtsc() - c0 < hz / 20; i++) {
        uint64_t now = rdmsr(TIME_REF_COUNT);
        monotonic &= now >= t0;
    }
    t = rdmsr(TIME_REF_COUNT) - t0;
    c = rdtsc() - c0;
    ok(monotonic, "reference time does not go back");
    uint64_t want = c * TICKS_PER_S / hz;
    uint64_t off = want > t ? want - t : t - want;
    ok(off < TICKS_PER_S / 100 + t / 20, "TSC and reference time run together: %u of %u ticks", off,
       t);
    memset(page, 0x5a, PAGE);
    wrmsr(REFERENCE_TSC, (uint64_t)page | 1);
    ok(rdmsr(REFERENCE_TSC) == ((uint64_t)page | 1), "the reference TSC page is on");
    if (!page_time(page, &paged)) {
        skip("the page says what the MSR says", "this host's clock is not its TSC");
    } else {
        t = rdmsr(TIME_REF_COUNT);
        off = t > paged ? t - paged : paged - t;
        ok(off < TICKS_PER_S / 100, "the page says what the MSR says: %u ticks away", off);
    }
    wrmsr(REFERENCE_TSC, 0);
    ok(page_is((uint8_t *)page, 0x5a), "what it covered is there again");
}

void guest_main(void)
{
    identity();
    hypercalls();
    assist();
    time();
    finish();
}
