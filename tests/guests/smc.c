/* Code that changes while it runs: the next instruction, the same page, another page, another
 * mapping, over a page's end, by string instructions, by device-like stores of every width. */
#include "guest.h"

static char *page;

static void code(unsigned at, const void *bytes, unsigned n)
{
    memcpy(page + at, bytes, n);
}

static uint64_t call(unsigned at)
{
    uint64_t v;
    __asm__ volatile("call *%1" : "=a"(v) : "r"(page + at) : "rcx", "rdx", "rdi", "memory");
    return v;
}

static void immediate(void)
{
    static const uint8_t mov_ret[] = { 0xb8, 1, 0, 0, 0, 0xc3 }; /* mov $1, %eax; ret */
    code(0, mov_ret, 6);
    bool good = call(0) == 1;
    for (unsigned i = 2; i < 1000; i++) {
        *(volatile uint32_t *)(page + 1) = i;
        good &= call(0) == i;
    }
    ok(good, "an immediate that changes 1,000 times");
    *(volatile uint8_t *)(page + 1) = 0x55;
    ok(call(0) == 0x300 + 0x55, "a store of one byte");
    *(volatile uint64_t *)page = UINT64_C(0x00c3c3deadbeefb8);
    ok(call(0) == 0xdeadbeef, "a store of eight");
    uint32_t expected = 0xdeadbeef;
    __asm__ volatile("lock cmpxchgl %2, %1"
                     : "+a"(expected), "+m"(*(uint32_t *)(page + 1))
                     : "r"(77)
                     : "memory");
    ok(call(0) == 77, "LOCK CMPXCHG into code");
    __asm__ volatile("lock incl %0" : "+m"(*(uint32_t *)(page + 1)) : : "memory");
    ok(call(0) == 78, "LOCK INC into code");
    __asm__ volatile("movd %1, %%xmm0; movd %%xmm0, %0" : "=m"(*(uint32_t *)(page + 1)) : "r"(5));
    ok(call(0) == 5, "an SSE store into code");
}

static void next_instruction(void)
{
    /* movb $2, 1(%rip) -> the immediate of the mov that follows; ret */
    static const uint8_t self[] = { 0xc6, 0x05, 1, 0, 0, 0, 2, 0xb8, 1, 0, 0, 0, 0xc3 };
    code(0x100, self, sizeof(self));
    ok(call(0x100) == 2, "an instruction changes the one behind it");
    page[0x108] = 1;
    ok(call(0x100) == 2, "again, from a cached block");
    /* The same, 40 instructions away. */
    static const uint8_t far_off[] = { 0xc6, 0x05, 41, 0, 0, 0, 9 };
    code(0x200, far_off, 7);
    memset(page + 0x207, 0x90, 40);
    static const uint8_t tail[] = { 0xb8, 1, 0, 0, 0, 0xc3 };
    code(0x207 + 40, tail, 6);
    ok(call(0x200) == 9, "40 instructions away");
    /* rep stosb over itself's successor: mov $0x90, %al; mov $3,%ecx; lea 2(%rip),%rdi; rep stosb;
     * ud2; nop; xor eax,eax; ret */
    static const uint8_t rep[] = {
        0xb0, 0x90, 0xb9, 3,    0,    0,    0,    0x48, 0x8d, 0x3d, 2,
        0,    0,    0,    0xf3, 0xaa, 0x0f, 0x0b, 0x0f, 0x31, 0xc0, 0xc3
    };
    code(0x300, rep, sizeof(rep));
    ok(call(0x300) == 0, "REP STOSB over the UD2 behind it");
}

static void loop_patch(void)
{
    /* mov $0,%eax; mov $10,%ecx; 1: add $1,%eax; incb (imm of add); dec %ecx; jnz 1b; ret */
    static const uint8_t loop[] = { 0xb8, 0,    0,    0,    0,    0xb9, 10, 0, 0, 0, /* 0 */
                                    0x83, 0xc0, 1,                                   /* 10: add */
                                    0xfe, 0x05, 0xf9, 0xff, 0xff, 0xff,              /* 13: incb */
                                    0xff, 0xc9, 0x75, 0xf3, 0xc3 };
    code(0x400, loop, sizeof(loop));
    ok(call(0x400) == 55, "a loop whose body grows: 1 + 2 + ... + 10");
}

static void alias(void)
{
    uint64_t lin = UINT64_C(0x700000000000);
    map_page(lin, (uint64_t)page, PT_P | PT_W);
    static const uint8_t mov_ret[] = { 0xb8, 1, 0, 0, 0, 0xc3 };
    code(0x500, mov_ret, 6);
    call(0x500);
    *(volatile uint32_t *)(lin + 0x501) = 42;
    ok(call(0x500) == 42, "a write through another mapping");
    uint64_t v;
    __asm__ volatile("call *%1" : "=a"(v) : "r"(lin + 0x500));
    ok(v == 42, "a run through another mapping");
    *(volatile uint32_t *)(page + 0x501) = 43;
    __asm__ volatile("call *%1" : "=a"(v) : "r"(lin + 0x500));
    ok(v == 43, "and a write through the first");
    /* The mapping changes under the code. */
    char *other = alloc_pages(1);
    memcpy(other + 0x500, mov_ret, 6);
    map_page(lin, (uint64_t)other, PT_P | PT_W);
    __asm__ volatile("call *%1" : "=a"(v) : "r"(lin + 0x500));
    ok(v == 1, "other code at the same address after INVLPG");
    *page_entry(lin, 1) = (uint64_t)page | PT_P | PT_W;
    WRITE_CR(3, READ_CR(3));
    __asm__ volatile("call *%1" : "=a"(v) : "r"(lin + 0x500));
    ok(v == 43, "and after a load of CR3");
}

static void crossing(void)
{
    static const uint8_t mov_ret[] = { 0xb8, 1, 0, 0, 0, 0xc3 };
    code(PAGE - 3, mov_ret, 6);
    ok(call(PAGE - 3) == 1, "an instruction over two pages");
    page[PAGE] = 1; /* byte 2 of the immediate */
    ok(call(PAGE - 3) == 0x10001, "a change of its second half");
    page[PAGE - 2] = 7;
    ok(call(PAGE - 3) == 0x10007, "a change of its first half");
    /* A block that runs on into the next page. */
    memset(page + PAGE - 16, 0x90, 16);
    code(PAGE, mov_ret, 6);
    ok(call(PAGE - 16) == 1, "code that runs into the next page");
    page[PAGE + 1] = 8;
    ok(call(PAGE - 16) == 8, "a change there");
}

static void cross_modify(void)
{
    /* Data beside code in one page must stay right, and cheap enough to finish. */
    static const uint8_t count[] = { 0xff, 0x05, 0xfa, 0x01, 0, 0, 0xff, 0xc9, 0x75, 0xf6, 0xc3 };
    code(0x600, count, sizeof(count)); /* 1: incl 0x800 in this page; dec %ecx; jnz 1b; ret */
    *(volatile uint32_t *)(page + 0x800) = 0;
    uint64_t n = 20000;
    __asm__ volatile("call *%1" : "+c"(n) : "r"(page + 0x600) : "memory");
    ok(*(volatile uint32_t *)(page + 0x800) == 20000, "a counter in the page of its code");
}

void guest_main(void)
{
    page = alloc_pages(3);
    immediate();
    next_instruction();
    loop_patch();
    alias();
    crossing();
    cross_modify();
}
