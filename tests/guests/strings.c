/* String instructions: every direction and prefix, faults in the middle, overlaps, watch of registers. */
#include "guest.h"

#define AT UINT64_C(0x700000000000)

static char *ram;

static void map(void)
{
    ram = alloc_pages(4);
    for (unsigned i = 0; i < 4; i++) {
        map_page(AT + i * PAGE, (uint64_t)ram + i * PAGE, PT_P | PT_W);
    }
    *page_entry(AT + 4 * PAGE, 1) = 0;
    invlpg((void *)(AT + 4 * PAGE));
}

static volatile uint64_t rsi;
static volatile uint64_t rdi;
static volatile uint64_t rcx;

/* Runs a repeated instruction with the registers above; they are what it leaves. */
#define RUN(text, rax)                                                          \
    ({                                                                          \
        uint64_t s_ = rsi;                                                      \
        uint64_t d_ = rdi;                                                      \
        uint64_t c_ = rcx;                                                      \
        trap.vector = NONE;                                                     \
        __asm__ volatile("lea 771f(%%rip), %%r8; mov %%r8, resume(%%rip);" text \
                         "; 771: movq $0, resume(%%rip); cld"                   \
                         : "+S"(s_), "+D"(d_), "+c"(c_)                         \
                         : "a"((uint64_t)(rax))                                 \
                         : "r8", "memory", "cc");                               \
        rsi = s_;                                                               \
        rdi = d_;                                                               \
        rcx = c_;                                                               \
        trap.vector;                                                            \
    })

static void fill(void)
{
    for (unsigned i = 0; i < 4 * PAGE; i++) {
        ram[i] = (char)(i * 7 + (i >> 8));
    }
}

static void faults(void)
{
    fill();
    rsi = AT + 3 * PAGE - 100;
    rdi = AT + 4 * PAGE - 50;
    rcx = 80;
    unsigned v = RUN("rep movsb", 0);
    ok(v == PF && trap.error == 2 && trap.cr2 == AT + 4 * PAGE, "REP MOVSB into the unmapped: #PF");
    ok(rcx == 30 && rsi == AT + 3 * PAGE - 50 && rdi == AT + 4 * PAGE,
       "registers stand at the byte that failed");
    ok(ram[4 * PAGE - 1] == ram[3 * PAGE - 51], "what came before is written");
    rdi = AT + 4 * PAGE - 20;
    rcx = 10;
    v = RUN("rep stosl", 0x55555555);
    ok(v == PF && rcx == 5 && rdi == AT + 4 * PAGE, "REP STOSD: the same");
    rdi = AT + 4 * PAGE - 6;
    rcx = 3;
    ram[4 * PAGE - 2] = 1;
    ram[4 * PAGE - 1] = 1;
    v = RUN("rep stosl", 0);
    ok(v == PF && rcx == 2 && rdi == AT + 4 * PAGE - 2 && ram[4 * PAGE - 1] == 1,
       "an element over the end is not written at all");
    rsi = AT + 4 * PAGE - 16;
    rcx = 4;
    v = RUN("rep lodsq", 0);
    ok(v == PF && trap.error == 0 && rcx == 2 && rsi == AT + 4 * PAGE, "REP LODSQ");
    rdi = AT + 4 * PAGE - 8;
    rcx = 100;
    memset(ram + 4 * PAGE - 8, 0x20, 8);
    v = RUN("repe scasb", 0x20);
    ok(v == PF && rcx == 92 && rdi == AT + 4 * PAGE, "REPE SCASB");
    rsi = AT + 4 * PAGE - 8;
    rdi = AT + 4 * PAGE - 8;
    rcx = 100;
    v = RUN("repe cmpsb", 0);
    ok(v == PF && rcx == 92 && rsi == AT + 4 * PAGE && rdi == AT + 4 * PAGE, "REPE CMPSB");
}

static void backwards(void)
{
    fill();
    *page_entry(AT, 1) = 0;
    invlpg((void *)AT);
    rsi = AT + 2 * PAGE;
    rdi = AT + PAGE + 4;
    rcx = 10;
    unsigned v = RUN("std; rep movsb", 0);
    ok(v == PF && rcx == 5 && rdi == AT + PAGE - 1 && rsi == AT + 2 * PAGE - 5,
       "DF: down into the unmapped");
    map_page(AT, (uint64_t)ram, PT_P | PT_W);
    rsi = AT + PAGE + 3;
    rdi = AT + PAGE + 7;
    rcx = 0x800;
    fill();
    char first = ram[PAGE + 3 - 0x7ff];
    v = RUN("std; rep movsb", 0);
    ok(v == NONE && rcx == 0 && ram[PAGE + 7 - 0x7ff] == first && rsi == AT + PAGE + 3 - 0x800,
       "DF: over a page's end, overlapping");
}

static void overlaps(void)
{
    memset(ram, 0, 2 * PAGE);
    ram[0] = 'x';
    rsi = AT;
    rdi = AT + 1;
    rcx = PAGE + 100;
    RUN("rep movsb", 0);
    ok(ram[PAGE + 100] == 'x' && ram[PAGE + 101] == 0, "overlap by one byte fills");
    for (unsigned i = 0; i < 16; i++) {
        ram[i] = (char)i;
    }
    rsi = AT;
    rdi = AT + 3;
    rcx = 100;
    RUN("rep movsl", 0);
    bool good = true;
    for (unsigned i = 3; i < 8; i++) {
        good &= ram[i] == (i < 7 ? (char)(i - 3) : ram[4]);
    }
    ok(good, "overlap by less than an element");
    rcx = 0;
    rsi = rdi = 1;
    ok(RUN("rep movsb", 0) == NONE && rsi == 1 && rdi == 1, "count 0 touches nothing");
}

static void large(void)
{
    uint64_t n = 64 * PAGE;
    char *a = alloc_pages(64);
    char *b = alloc_pages(64);
    for (uint64_t i = 0; i < n; i++) {
        a[i] = (char)(i * 13 + (i >> 12));
    }
    rsi = (uint64_t)a + 5;
    rdi = (uint64_t)b + 3;
    rcx = n - 16;
    RUN("rep movsb", 0);
    bool good = rcx == 0;
    for (uint64_t i = 0; i < n - 16; i++) {
        good &= b[i + 3] == a[i + 5];
    }
    ok(good && b[2] == 0 && b[n - 13] == 0, "256 KiB by REP MOVSB, not aligned");
    rsi = (uint64_t)a + 5;
    rdi = (uint64_t)b + 3;
    rcx = n;
    b[100000] ^= 1;
    RUN("repe cmpsb", 0);
    ok(rsi == (uint64_t)a + 5 + 100000 - 3 + 1, "REPE CMPSB finds the difference");
    rdi = (uint64_t)b;
    rcx = n / 8;
    RUN("rep stosq", UINT64_C(0x4141414141414141));
    b[123456] = 'B';
    rdi = (uint64_t)b;
    rcx = n;
    RUN("repne scasb", 'B');
    ok(rdi == (uint64_t)b + 123457, "REPNE SCASB finds a byte");
}

static void address_size(void)
{
    memset(ram, 0, 64);
    rsi = (uint64_t)ram | UINT64_C(0xabcd) << 48;
    rdi = ((uint64_t)ram + 32) | UINT64_C(0xabcd) << 48;
    rcx = 4 | UINT64_C(1) << 40;
    ram[0] = 9;
    ram[3] = 8;
    unsigned v = RUN("rep movsb (%%esi), (%%edi)", 0);
    ok(v == NONE && ram[32] == 9 && ram[35] == 8 && ram[36] == 0,
       "32-bit addresses: ESI, EDI and ECX count");
    ok(rsi == (uint32_t)(uint64_t)ram + 4 && rdi == (uint32_t)(uint64_t)ram + 36 && rcx == 0,
       "and their upper halves become 0");
}

void guest_main(void)
{
    map();
    faults();
    backwards();
    overlaps();
    large();
    address_size();
}
