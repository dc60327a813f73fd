#include "config.h"

#include "tests/cpu/dirty-suite.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>
#include <sys/mman.h>

#define RAM_SIZE (8 * PTA_MIB)
#define N_WORDS  (RAM_SIZE / PTA_PAGE_SIZE / 64)

static void sink(void *opaque, uint64_t gpa, uint64_t bits)
{
    uint64_t *words = opaque;
    assert_int_equal(gpa % (64 * PTA_PAGE_SIZE), 0);
    assert_true(gpa < RAM_SIZE);
    assert_int_not_equal(bits, 0);
    words[gpa / PTA_PAGE_SIZE / 64] |= bits;
}

/* ---- one instruction ---- */

#define STACK_TOP  UINT64_C(0x240000)
#define STACK_PAGE 0x23f000
#define NO_PAGE    UINT64_C(0x600000) /* not present */

enum {
    TWICE_DIFFERS = 1, /* what it does the first time cannot be done again */
    CLEAR_D = 2,       /* pages have been accessed but not written */
    CLEAR_AD = 4,
    FRESH_SEGMENT = 8, /* the data segment has not been accessed */
    TSS = 16,          /* selector 0x10 is an available TSS */
    FAULTS = 32,
};

typedef struct Case {
    const char *name;
    uint8_t code[16];
    unsigned len;
    unsigned flags;
    uint64_t pages[5]; /* ends with 0 */
    uint64_t rbx, rcx; /* if not the usual ones */
    uint64_t
        perhaps; /* of DIRTY_LOOSE: a page that could be written to before another one faulted */
} Case;

#define CODE(...) { __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ })
#define D0        0x200000
#define D1        0x201000
#define D2        0x202000

/* rbx D0, rdi D1, rsi D2, rcx 4, rax 0x10. */
static const Case cases[] = {
    { "nop", CODE(0x90), 0, { 0 } },
    { "mov rax, [rbx]", CODE(0x48, 0x8b, 0x03), 0, { 0 } },
    { "cmp [rbx], rax", CODE(0x48, 0x39, 0x03), 0, { 0 } },
    { "mov [rbx], rax", CODE(0x48, 0x89, 0x03), 0, { D0 } },
    { "mov [rbx], eax", CODE(0x89, 0x03), 0, { D0 } },
    { "mov [rbx], ax", CODE(0x66, 0x89, 0x03), 0, { D0 } },
    { "mov [rbx], al", CODE(0x88, 0x03), 0, { D0 } },
    { "mov [rbx], imm", CODE(0xc7, 0x03, 1, 2, 3, 4), 0, { D0 } },
    { "mov [rbx], ds", CODE(0x8c, 0x1b), 0, { D0 } },
    { "two pages", CODE(0x48, 0x89, 0x03), 0, { D0, D1 }, .rbx = D1 - 3 },
    { "page with code", CODE(0x48, 0x89, 0x03), 0, { CPU_CODE }, .rbx = CPU_CODE + 0x800 },
    { "add [rbx], rax", CODE(0x48, 0x01, 0x03), 0, { D0 } },
    { "add [rbx], imm", CODE(0x83, 0x03, 5), 0, { D0 } },
    { "inc [rbx]", CODE(0xff, 0x03), 0, { D0 } },
    { "not [rbx]", CODE(0xf7, 0x13), 0, { D0 } },
    { "shl [rbx], 1", CODE(0xd1, 0x23), 0, { D0 } },
    { "shld [rbx], rax, cl", CODE(0x48, 0x0f, 0xa5, 0x03), 0, { D0 } },
    { "setz [rbx]", CODE(0x0f, 0x94, 0x03), 0, { D0 } },
    { "bts [rbx], rcx", CODE(0x48, 0x0f, 0xab, 0x0b), 0, { D1 }, .rcx = 0x8000 },
    { "xadd [rbx], rax", CODE(0x48, 0x0f, 0xc1, 0x03), 0, { D0 } },
    { "cmpxchg that differs", CODE(0x48, 0x0f, 0xb1, 0x0b), 0, { D0 } },
    { "bswap eax; mov [rbx], eax", CODE(0x0f, 0xc8, 0x89, 0x03), 0, { D0 } },
    { "xchg [rbx], rax", CODE(0x48, 0x87, 0x03), 0, { D0 } },
    { "lock add [rbx], rax", CODE(0xf0, 0x48, 0x01, 0x03), 0, { D0 } },
    { "lock add, not aligned", CODE(0xf0, 0x01, 0x03), 0, { D0 }, .rbx = D0 + 1 },
    { "lock add, two lines", CODE(0xf0, 0x01, 0x03), 0, { D0 }, .rbx = D0 + 0x7e },
    { "lock add, two pages", CODE(0xf0, 0x01, 0x03), 0, { D0, D1 }, .rbx = D1 - 2 },
    { "lock xadd [rbx], rax", CODE(0xf0, 0x48, 0x0f, 0xc1, 0x03), 0, { D0 } },
    { "lock cmpxchg that differs", CODE(0xf0, 0x48, 0x0f, 0xb1, 0x0b), 0, { D0 } },
    { "lock bts [rbx], rcx", CODE(0xf0, 0x48, 0x0f, 0xab, 0x0b), 0, { D0 } },
    { "cmpxchg8b", CODE(0x0f, 0xc7, 0x0b), 0, { D0 } },
    { "cmpxchg16b", CODE(0xf0, 0x48, 0x0f, 0xc7, 0x0b), 0, { D0 } },
    { "push", CODE(0x50), 0, { STACK_PAGE } },
    { "push imm", CODE(0x6a, 1), 0, { STACK_PAGE } },
    { "push [rbx]", CODE(0xff, 0x33), 0, { STACK_PAGE } },
    { "pushf", CODE(0x9c), 0, { STACK_PAGE } },
    { "pop [rbx]", CODE(0x8f, 0x03), 0, { D0 } },
    { "call", CODE(0xe8, 0, 0, 0, 0), 0, { STACK_PAGE } },
    { "enter", CODE(0xc8, 16, 0, 0), 0, { STACK_PAGE } },
    { "enter, nested", CODE(0xc8, 16, 0, 2), 0, { STACK_PAGE } },
    { "stosb", CODE(0xaa), 0, { D1 } },
    { "std; stosq", CODE(0xfd, 0x48, 0xab, 0xfc), 0, { D1 } },
    { "rep stosb", CODE(0xf3, 0xaa), 0, { D1, D2 }, .rcx = 0x1800 },
    { "rep stosq, one page", CODE(0xf3, 0x48, 0xab), 0, { D1 }, .rcx = 0x200 },
    { "rep stosb of nothing", CODE(0x31, 0xc9, 0xf3, 0xaa), 0, { 0 } },
    { "std; rep stosd", CODE(0xfd, 0xf3, 0xab, 0xfc), 0, { D0, D1 }, .rcx = 8 },
    { "rep movsq", CODE(0xf3, 0x48, 0xa5), 0, { D1 }, .rcx = 0x200 },
    { "rep movsb, two pages", CODE(0xf3, 0xa4), 0, { D1, D2 }, .rcx = 0x1001 },
    { "movsd", CODE(0xa5), 0, { D1 } },
    { "rep insb", CODE(0xf3, 0x6c), 0, { D1 } },
    { "fxsave", CODE(0x0f, 0xae, 0x03), 0, { D0 } },
    { "fxsave, two pages", CODE(0x0f, 0xae, 0x03), 0, { D0, D1 }, .rbx = D1 - 16 },
    { "stmxcsr", CODE(0x0f, 0xae, 0x1b), 0, { D0 } },
    { "fnstenv", CODE(0xd9, 0x33), 0, { D0 } },
    { "fnsave", CODE(0xdd, 0x33), 0, { D0 } },
    { "fnstcw", CODE(0xd9, 0x3b), 0, { D0 } },
    { "fstp tbyte", CODE(0xdb, 0xe3, 0xd9, 0xe8, 0xdb, 0x3b), 0, { D0 } },
    { "fstp qword", CODE(0xdb, 0xe3, 0xd9, 0xe8, 0xdd, 0x1b), 0, { D0 } },
    { "fistp", CODE(0xdb, 0xe3, 0xd9, 0xe8, 0xdb, 0x1b), 0, { D0 } },
    { "fbstp", CODE(0xdb, 0xe3, 0xd9, 0xe8, 0xdf, 0x33), 0, { D0 } },
    { "movups [rbx], xmm0", CODE(0x0f, 0x11, 0x03), 0, { D0 } },
    { "movups, two pages", CODE(0x0f, 0x11, 0x03), 0, { D0, D1 }, .rbx = D1 - 8 },
    { "movaps [rbx], xmm0", CODE(0x0f, 0x29, 0x03), 0, { D0 } },
    { "movsd [rbx], xmm0", CODE(0xf2, 0x0f, 0x11, 0x03), 0, { D0 } },
    { "movq [rbx], mm0", CODE(0x0f, 0x7f, 0x03), 0, { D0 } },
    { "movntdq", CODE(0x66, 0x0f, 0xe7, 0x03), 0, { D0 } },
    { "movnti", CODE(0x0f, 0xc3, 0x03), 0, { D0 } },
    { "maskmovdqu of nothing", CODE(0x66, 0x0f, 0xf7, 0xc1), 0, { 0 } },
    { "maskmovdqu", CODE(0x66, 0x0f, 0x76, 0xc0, 0x66, 0x0f, 0xf7, 0xc0), 0, { D1 } },
    { "sgdt", CODE(0x0f, 0x01, 0x03), 0, { D0 } },
    { "sidt", CODE(0x0f, 0x01, 0x0b), 0, { D0 } },
    { "str", CODE(0x0f, 0x00, 0x0b), 0, { D0 } },
    { "smsw", CODE(0x0f, 0x01, 0x23), 0, { D0 } },
    { "mov es, ax: accessed", CODE(0x8e, 0xc0), FRESH_SEGMENT | TWICE_DIFFERS, { CPU_GDT } },
    { "mov es, ax: again", CODE(0x8e, 0xc0), 0, { 0 } },
    { "ltr: busy", CODE(0x0f, 0x00, 0xd8), TSS | TWICE_DIFFERS, { CPU_GDT } },
    { "ud2: its frame", CODE(0x0f, 0x0b), FAULTS, { STACK_PAGE } },
    { "a second page that faults",
      CODE(0x48, 0x89, 0x03),
      FAULTS,
      { STACK_PAGE },
      .rbx = NO_PAGE - 4,
      .perhaps = NO_PAGE - PTA_PAGE_SIZE },
    { "a locked one, too",
      CODE(0xf0, 0x48, 0x01, 0x03),
      FAULTS,
      { STACK_PAGE },
      .rbx = NO_PAGE - 4,
      .perhaps = NO_PAGE - PTA_PAGE_SIZE },
    { "fxsave that faults",
      CODE(0x0f, 0xae, 0x03),
      FAULTS,
      { STACK_PAGE },
      .rbx = NO_PAGE - 256,
      .perhaps = NO_PAGE - PTA_PAGE_SIZE },
    { "load, D clear", CODE(0x48, 0x8b, 0x03), CLEAR_D, { 0 } },
    { "store, D clear", CODE(0x48, 0x89, 0x03), CLEAR_D | TWICE_DIFFERS, { CPU_PD, D0 } },
    { "load, A clear",
      CODE(0x48, 0x8b, 0x03),
      CLEAR_AD | TWICE_DIFFERS,
      { CPU_PML4, CPU_PDPT, CPU_PD } },
    { "mmio", CODE(0x48, 0x89, 0x03), 0, { 0 }, .rbx = CPU_MMIO },
};

static void set_ad(uint64_t *entry, uint64_t ad)
{
    *entry = (*entry & ~UINT64_C(0x60)) | ad;
}

/* Memory as the host sees to it: accessed and dirty bits, descriptors, code. */
static void prepare(CpuHarness *h, const Case *t)
{
    uint64_t ad = t->flags & CLEAR_AD ? 0 : t->flags & CLEAR_D ? 0x20 : 0x60;
    uint64_t *pd = (uint64_t *)(void *)(h->ram + CPU_PD);
    for (unsigned i = 0; i < 512; i++) {
        set_ad(&pd[i], ad);
    }
    pd[NO_PAGE >> 21] = 0;
    set_ad((void *)(h->ram + CPU_PML4), ad);
    set_ad((void *)(h->ram + CPU_PDPT), ad);
    set_ad((void *)(h->ram + CPU_PDPT + 8), ad);
    uint64_t *gdt = (uint64_t *)(void *)(h->ram + CPU_GDT);
    if (t->flags & FRESH_SEGMENT) {
        gdt[2] &= ~(UINT64_C(1) << 40);
    }
    if (t->flags & TSS) {
        gdt[2] = UINT64_C(0x0000890000000067);
        gdt[3] = 0;
    }
    cpu_harness_code(h, 0, t->code, t->len);
}

static void set_regs(CpuHarness *h, const Case *t)
{
    PtaX86Regs *regs = &cpu_harness_load(h)->regs;
    uint64_t *r = regs->gpr;
    r[PTA_X86_RAX] = 0x10;
    r[PTA_X86_RBX] = t->rbx ? t->rbx : D0;
    r[PTA_X86_RCX] = t->rcx ? t->rcx : 4;
    r[PTA_X86_RDX] = 0x60;
    r[PTA_X86_RDI] = D1;
    r[PTA_X86_RSI] = D2;
    r[PTA_X86_RBP] = STACK_TOP - 0x100;
    r[PTA_X86_RSP] = STACK_TOP - 0x200;
    regs->rip = CPU_CODE;
    cpu_harness_store(h);
}

/* Runs it once; false: it cannot be executed, and that may be. */
static bool run_case(CpuHarness *h, const Case *t, unsigned flags)
{
    set_regs(h, t);
    int end = cpu_harness_run(h);
    if (end == CPU_STOPPED && flags & DIRTY_LACKS && h->exit.reason == PTA_EXIT_INTERNAL_ERROR) {
        print_message("# %s: left out: %s\n", t->name, h->exit.error.text);
        return false;
    }
    if (t->flags & FAULTS ? end < 0 : end != CPU_END) {
        fail_msg("%s: ended with %d", t->name, end);
    }
    return true;
}

static void compare(const Case *t, unsigned round, uint64_t *words, unsigned flags)
{
    uint64_t wanted[N_WORDS] = { 0 };
    for (const uint64_t *page = t->pages; *page; page++) {
        wanted[*page / PTA_PAGE_SIZE / 64] |= UINT64_C(1) << (*page / PTA_PAGE_SIZE % 64);
    }
    for (unsigned w = 0; w < N_WORDS; w++) {
        uint64_t more = 0;
        if (flags & DIRTY_LOOSE && t->perhaps && t->perhaps / PTA_PAGE_SIZE / 64 == w) {
            more = UINT64_C(1) << t->perhaps / PTA_PAGE_SIZE % 64;
        }
        if (flags & DIRTY_LOOSE && w == 0) { /* the CPU walks page tables as if it wrote to them */
            more |= 1 << CPU_PML4 / PTA_PAGE_SIZE | 1 << CPU_PDPT / PTA_PAGE_SIZE |
                    1 << CPU_PD / PTA_PAGE_SIZE | 1 << CPU_MMIO_PD / PTA_PAGE_SIZE;
        }
        if ((words[w] & ~more) != (wanted[w] & ~more) || (wanted[w] & ~words[w])) {
            fail_msg("%s, round %u: pages from 0x%x: 0x%" G_GINT64_MODIFIER
                     "x, expected 0x%" G_GINT64_MODIFIER "x",
                     t->name, round, w << 18, words[w], wanted[w]);
        }
    }
    memset(words, 0, N_WORDS * 8);
}

static void one_kind(CpuHarness *h, const Case *t, unsigned flags)
{
    const PtaBackendOps *ops = h->be->ops;
    uint64_t words[N_WORDS] = { 0 };
    cpu_harness_clear(h);
    prepare(h, t);
    assert_true(ops->dirty_start(h->be, sink, words, NULL));
    bool can = true;
    if (flags & DIRTY_LOOSE) { /* after this every page has been seen */
        can = run_case(h, t, flags);
        ops->dirty_fetch(h->be, 0, RAM_SIZE);
        memset(words, 0, sizeof(words));
        cpu_harness_reset(h);
        prepare(h, t);
    }
    /* Translations stay from one round to the next: what the first one left is not a way round
     * the log. */
    for (unsigned round = 0; can && round < (t->flags & TWICE_DIFFERS ? 1 : 3); round++) {
        can = run_case(h, t, flags);
        ops->dirty_fetch(h->be, 0, RAM_SIZE);
        if (can) {
            compare(t, round, words, flags);
        }
    }
    ops->dirty_fetch(h->be, 0, RAM_SIZE);
    assert_true(!can || (words[0] == 0 && words[8] == 0));
    ops->dirty_stop(h->be);
}

void dirty_suite_stores(const PtaBackendOps *ops, unsigned flags)
{
    CpuHarness *h = cpu_harness_new_on(ops, 64, RAM_SIZE);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        one_kind(h, &cases[i], flags);
    }
    cpu_harness_free(h);
}

static const Case a_store = { "a store", CODE(0x48, 0x89, 0x03), 0, { D0 } };

void dirty_suite_parts(const PtaBackendOps *ops, unsigned flags)
{
    const Case *t = &a_store;
    CpuHarness *h = cpu_harness_new_on(ops, 64, RAM_SIZE);
    uint64_t words[N_WORDS] = { 0 };
    cpu_harness_clear(h);
    prepare(h, t);
    run_case(h, t, 0); /* there is a write entry from before */
    run_case(h, t, 0);
    assert_true(ops->dirty_start(h->be, sink, words, NULL));
    run_case(h, t, 0);
    ops->dirty_fetch(h->be, D0, 0);
    assert_int_equal(words[8], 0);
    ops->dirty_fetch(h->be, 0, D0);
    ops->dirty_fetch(h->be, D1, RAM_SIZE);
    if (!(flags & DIRTY_WHOLE)) {
        assert_int_equal(words[8], 0);
    }
    ops->dirty_fetch(h->be, D0, PTA_PAGE_SIZE);
    assert_int_equal(words[8], 1);
    words[8] = 0;
    run_case(h, t, 0);
    ops->dirty_stop(h->be);
    ops->dirty_fetch(h->be, 0, RAM_SIZE); /* not on: nothing */
    assert_true(ops->dirty_start(h->be, sink, words, NULL));
    ops->dirty_fetch(h->be, 0, RAM_SIZE);
    assert_int_equal(words[8], 0);
    run_case(h, t, 0);
    assert_true(ops->unmap(h->be, 0, RAM_SIZE, NULL));
    assert_int_equal(words[8], 1);
    words[8] = 0;
    /* What is mapped while writes are logged: and the part that cannot be written to has no log. */
    unsigned rx = PTA_MAP_READ | PTA_MAP_EXEC;
    assert_true(ops->map(h->be, 0, D1, h->ram, rx | PTA_MAP_WRITE, NULL));
    assert_true(ops->map(h->be, D1, RAM_SIZE - D1, h->ram + D1, rx, NULL));
    run_case(h, t, 0);
    ops->dirty_fetch(h->be, 0, RAM_SIZE);
    assert_int_equal(words[8], 1);
    assert_true(ops->unmap(h->be, D1, RAM_SIZE - D1, NULL));
    ops->dirty_stop(h->be);
    cpu_harness_free(h);
}

/* ---- many stores, by several VPs, while the log is fetched ---- */

#define MAX_VPS   4
#define REGION    UINT64_C(0x200000) /* 1,024 pages that all VPs write to */
#define LOOP      0x10000
#define CROWD_TSS 0x7000

/*
 * r8: random; r9: multiplier; r10: REGION + where in its pages this VP writes (the locked counter is
 * for all); r11: REGION.
 */
static const uint8_t loop_code[] = {
    /* 1: */
    0x4d, 0x0f, 0xaf, 0xc1,                               /* imul r8, r9 */
    0x49, 0xff, 0xc0,                                     /* inc r8 */
    0x4c, 0x89, 0xc0,                                     /* mov rax, r8 */
    0x48, 0xc1, 0xe8, 0x36,                               /* shr rax, 54 */
    0x48, 0xc1, 0xe0, 0x0c,                               /* shl rax, 12 */
    0xf0, 0x4a, 0xff, 0x04, 0x18,                         /* lock inc qword [rax + r11] */
    0x4c, 0x89, 0xc1,                                     /* mov rcx, r8 */
    0x48, 0xc1, 0xe1, 0x08,                               /* shl rcx, 8 */
    0x48, 0xc1, 0xe9, 0x36,                               /* shr rcx, 54 */
    0x48, 0xc1, 0xe1, 0x0c,                               /* shl rcx, 12 */
    0x4a, 0xff, 0x44, 0x11, 0x08,                         /* inc qword [rcx + r10 + 8] */
    0x4c, 0x89, 0xc7,                                     /* mov rdi, r8 */
    0x48, 0xc1, 0xe7, 0x10,                               /* shl rdi, 16 */
    0x48, 0xc1, 0xef, 0x36,                               /* shr rdi, 54 */
    0x48, 0xc1, 0xe7, 0x0c,                               /* shl rdi, 12 */
    0x4a, 0x8d, 0x64, 0x17, 0x40,                         /* lea rsp, [rdi + r10 + 64] */
    0x41, 0x50,                                           /* push r8 */
    0x4a, 0x8d, 0x7c, 0x17, 0x40,                         /* lea rdi, [rdi + r10 + 64] */
    0xb9, 0x08, 0x00, 0x00, 0x00,                         /* mov ecx, 8 */
    0x4c, 0x89, 0xc0,                                     /* mov rax, r8 */
    0xf3, 0x48, 0xab,                                     /* rep stosq */
    0x66, 0x49, 0x0f, 0x6e, 0xc0,                         /* movq xmm0, r8 */
    0x4c, 0x89, 0xc1,                                     /* mov rcx, r8 */
    0x48, 0xc1, 0xe1, 0x0c,                               /* shl rcx, 12 */
    0x48, 0xc1, 0xe9, 0x36,                               /* shr rcx, 54 */
    0x48, 0xc1, 0xe1, 0x0c,                               /* shl rcx, 12 */
    0x42, 0x0f, 0x11, 0x84, 0x11, 0x80, 0x00, 0x00, 0x00, /* movups [rcx + r10 + 128], xmm0 */
    0xeb, 0x90,                                           /* jmp 1b */
};

typedef struct Crowd {
    PtaBackend *be;
    PtaPlatform platform;
    PtaCpuidTable cpuid;
    uint8_t *ram, *copy;
    unsigned n_vps;
    PtaBackendVp *vps[MAX_VPS];
    GThread *threads[MAX_VPS];
    unsigned flags; /* of the suite */
    uint64_t words[N_WORDS];
} Crowd;

static void *run_vp(void *data)
{
    PtaBackendVp *vp = data;
    PtaExit exit;
    vp->be->ops->vp_run(vp, &exit);
    if (exit.reason != PTA_EXIT_INTERRUPTED) {
        g_error("vp%u: exit %d: %s", vp->index, (int)exit.reason,
                exit.reason == PTA_EXIT_INTERNAL_ERROR ? exit.error.text : "");
    }
    return NULL;
}

static void crowd_run(Crowd *c)
{
    for (unsigned i = 0; i < c->n_vps; i++) {
        c->threads[i] = g_thread_new("vp", run_vp, c->vps[i]);
    }
}

static void crowd_halt(Crowd *c)
{
    for (unsigned i = 0; i < c->n_vps; i++) {
        c->be->ops->vp_kick(c->vps[i]);
        g_thread_join(c->threads[i]);
    }
}

static void set_state(Crowd *c, unsigned i, bool user)
{
    PtaX86State s;
    unsigned dpl = user ? 3 : 0;
    pta_x86_state_reset(&s, i, true);
    for (unsigned k = 0; k < PTA_X86_N_SEGS; k++) {
        s.regs.seg[k] = (PtaX86Segment){ .limit = UINT32_MAX,
                                         .selector = (uint16_t)(CPU_DS | dpl),
                                         .attrs = (uint16_t)(0xc093 | dpl << 5) };
    }
    s.regs.seg[PTA_X86_CS] = (PtaX86Segment){ .limit = UINT32_MAX,
                                              .selector = (uint16_t)(CPU_CS64 | dpl),
                                              .attrs = (uint16_t)(0xa09b | dpl << 5) };
    s.regs.gdtr = (PtaX86Table){ .base = CPU_GDT, .limit = 0xf };
    s.regs.idtr = (PtaX86Table){ .base = CPU_IDT, .limit = 0x1ff };
    s.regs.tr = (PtaX86Segment){ .base = CROWD_TSS + i * 0x100, .limit = 0x67, .attrs = 0x8b };
    s.regs.gpr[PTA_X86_RSP] = CPU_STACK - i * 0x100;
    s.regs.cr0 = X86_CR0_ET | X86_CR0_NE | X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
    s.regs.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR;
    s.regs.cr3 = CPU_PML4;
    s.regs.efer = X86_EFER_LME | X86_EFER_LMA;
    s.regs.rflags = 2;
    s.regs.rip = LOOP;
    s.regs.gpr[8] = 1 + i;
    s.regs.gpr[9] = UINT64_C(6364136223846793005);
    s.regs.gpr[10] = REGION + 0x400 + i * 0x100;
    s.regs.gpr[11] = REGION;
    assert_true(c->be->ops->vp_set_state(c->vps[i], &s, NULL));
}

static void no_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)opaque, (void)size, (void)value;
    g_error("a write to 0x%" G_GINT64_MODIFIER "x", gpa);
}

/* There is no exception to be had: if one comes, it says which. */
#define EXCEPTION_PORT 0x80

static void exception(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    const Crowd *c = opaque;
    (void)size, (void)value;
    for (unsigned i = 0; i < c->n_vps; i++) {
        const uint64_t *frame = (const void *)(c->ram + CPU_STACK - i * 0x100 - 48);
        g_printerr("# vp%u's stack: error code 0x%" G_GINT64_MODIFIER "x, rip 0x%" G_GINT64_MODIFIER
                   "x, rflags 0x%" G_GINT64_MODIFIER "x\n",
                   i, frame[0], frame[1], frame[3]);
    }
    g_error("a VP met exception %u", port - EXCEPTION_PORT);
}

static void make_handlers(Crowd *c)
{
    for (unsigned i = 0; i < 32; i++) {
        uint64_t stub = CPU_STUBS + i * 16;
        const uint8_t code[] = { 0xe6, (uint8_t)(EXCEPTION_PORT + i), 0xf4 };
        uint64_t gate[2] = { stub | CPU_CS64 << 16 | UINT64_C(0x8e00) << 32, 0 };
        memcpy(c->ram + stub, code, sizeof(code));
        memcpy(c->ram + CPU_IDT + i * 16, gate, sizeof(gate));
    }
    for (unsigned i = 0; i < c->n_vps; i++) {
        uint64_t rsp0 = CPU_STACK - i * 0x100;
        memcpy(c->ram + CROWD_TSS + i * 0x100 + 4, &rsp0, sizeof(rsp0));
    }
    const uint64_t cs = UINT64_C(0x00af9b000000ffff);
    memcpy(c->ram + CPU_GDT + CPU_CS64, &cs, sizeof(cs));
}

static void crowd_cpuid(Crowd *c, const PtaBackendOps *ops, unsigned n)
{
    PtaX86Identity identity;
    PtaCpuidParams params = { .model = "x86-64-v1",
                              .n_vps = n,
                              .tsc_hz = 1000000000,
                              .apic_hz = 1000000000,
                              .hypervisor = PTA_HYPERVISOR_NONE,
                              .supported = ops->cpu_features() };
    if (ops->cpu_identity) {
        ops->cpu_identity(PTA_HYPERVISOR_NONE, &identity);
        params.identity = &identity;
    }
    assert_true(pta_cpuid_build(&c->cpuid, &params, NULL));
}

static Crowd *crowd_new(const PtaBackendOps *ops, unsigned n, unsigned flags)
{
    Crowd *c = g_new0(Crowd, 1);
    crowd_cpuid(c, ops, n);
    c->flags = flags;
    c->platform.opaque = c;
    c->platform.mmio_write = no_write;
    c->platform.pio_write = exception;
    c->n_vps = n;
    c->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(c->ram != MAP_FAILED);
    c->copy = g_malloc0(RAM_SIZE);
    memcpy(c->ram + LOOP, loop_code, sizeof(loop_code));
    make_handlers(c);
    /* Pages of 4 KiB for the region, whose D bits are in the log, too. */
    uint64_t *pml4 = (void *)(c->ram + CPU_PML4), *pdpt = (void *)(c->ram + CPU_PDPT);
    uint64_t *pd = (void *)(c->ram + CPU_PD), *pt = (void *)(c->ram + 0x20000);
    pml4[0] = CPU_PDPT | 7;
    pdpt[0] = CPU_PD | 7;
    for (unsigned i = 0; i < 4; i++) {
        pd[i] = (0x20000 + i * PTA_PAGE_SIZE) | 7;
    }
    for (unsigned i = 0; i < 4 * 512; i++) {
        pt[i] = i * PTA_PAGE_SIZE | 7;
    }
    PtaBackendParams be = {
        .n_vps = n, .cpuid = &c->cpuid, .platform = &c->platform, .hypervisor = PTA_HYPERVISOR_NONE
    };
    c->be = ops->create(&be, NULL);
    assert_non_null(c->be);
    c->n_vps = n;
    /* Two slots, the second begins within a word of the log. */
    unsigned rwx = PTA_MAP_READ | PTA_MAP_WRITE | PTA_MAP_EXEC;
    assert_true(c->be->ops->map(c->be, 0, REGION + 0x5000, c->ram, rwx, NULL));
    assert_true(c->be->ops->map(c->be, REGION + 0x5000, RAM_SIZE - REGION - 0x5000,
                                c->ram + REGION + 0x5000, rwx, NULL));
    for (unsigned i = 0; i < n; i++) {
        c->vps[i] = c->be->ops->vp_create(c->be, i, NULL);
        assert_non_null(c->vps[i]);
        set_state(c, i, flags & DIRTY_USER);
    }
    c->be->ops->clock_start(c->be);
    return c;
}

static void crowd_free(Crowd *c)
{
    for (unsigned i = 0; i < c->n_vps; i++) {
        c->be->ops->vp_destroy(c->vps[i]);
    }
    c->be->ops->destroy(c->be);
    munmap(c->ram, RAM_SIZE);
    g_free(c->copy);
    g_free(c);
}

/* VPs may be writing: this is what the log is for. */
__attribute__((no_sanitize("thread"))) static void copy_page(Crowd *c, unsigned page)
{
    const volatile uint64_t *from = (void *)(c->ram + page * PTA_PAGE_SIZE);
    uint64_t *to = (void *)(c->copy + page * PTA_PAGE_SIZE);
    for (unsigned i = 0; i < PTA_PAGE_SIZE / 8; i++) {
        to[i] = from[i];
    }
}

static unsigned copy_dirty(Crowd *c)
{
    unsigned n = 0;
    for (unsigned page = 0; page < RAM_SIZE / PTA_PAGE_SIZE; page++) {
        if (c->words[page / 64] >> (page % 64) & 1) {
            copy_page(c, page);
            n++;
        }
    }
    memset(c->words, 0, sizeof(c->words));
    return n;
}

static bool page_differs(const Crowd *c, unsigned page)
{
    return memcmp(c->ram + page * PTA_PAGE_SIZE, c->copy + page * PTA_PAGE_SIZE, PTA_PAGE_SIZE) !=
           0;
}

static void a_copy_becomes_whole(Crowd *c)
{
    const PtaBackendOps *ops = c->be->ops;
    unsigned copied = 0;
    crowd_run(c);
    for (unsigned again = 0; again < 5; again++) {
        assert_true(ops->dirty_start(c->be, sink, c->words, NULL));
        for (unsigned page = 0; page < RAM_SIZE / PTA_PAGE_SIZE; page++) {
            copy_page(c, page);
        }
        for (unsigned round = 0; round < 60; round++) {
            /* In pieces, whole, and so soon that write entries are fresh. */
            for (uint64_t at = 0; round % 3 == 0 && at < RAM_SIZE; at += RAM_SIZE / 16) {
                ops->dirty_fetch(c->be, at, RAM_SIZE / 16);
            }
            if (round % 3 != 0) {
                ops->dirty_fetch(c->be, 0, RAM_SIZE);
            }
            copied += copy_dirty(c);
            if (round % 5 == 0 || c->flags & DIRTY_LOOSE) {
                g_usleep(1000);
            }
        }
        if (again < 4) {
            ops->dirty_stop(c->be);
            memset(c->words, 0, sizeof(c->words));
        }
    }
    crowd_halt(c);
    ops->dirty_fetch(c->be, 0, RAM_SIZE);
    copied += copy_dirty(c);
    for (unsigned page = 0; page < RAM_SIZE / PTA_PAGE_SIZE; page++) {
        if (page_differs(c, page)) {
            fail_msg("%u VPs: page 0x%x was written and not reported", c->n_vps, page << 12);
        }
    }
    assert_true(copied > 1000);
}

/* A page that was not written to: of code or page tables, or one that a VP was about to write to. */
static bool may_be_reported(const Crowd *c, unsigned page, unsigned *spare)
{
    return c->flags & DIRTY_LOOSE && (page < REGION / PTA_PAGE_SIZE || ++*spare <= 2 * c->n_vps);
}

static void at_rest_it_is_exact(Crowd *c)
{
    for (unsigned round = 0; round < 30; round++) {
        crowd_run(c);
        g_usleep(round * 50);
        crowd_halt(c);
        c->be->ops->dirty_fetch(c->be, 0, RAM_SIZE);
        unsigned spare = 0;
        for (unsigned page = 0; page < RAM_SIZE / PTA_PAGE_SIZE; page++) {
            bool reported = c->words[page / 64] >> (page % 64) & 1;
            bool differs = page_differs(c, page);
            if (reported && !differs && may_be_reported(c, page, &spare)) {
                continue;
            }
            if (reported != differs) {
                fail_msg("%u VPs, round %u: page 0x%x %s", c->n_vps, round, page << 12,
                         reported ? "was reported and not written" : "was written, not reported");
            }
        }
        copy_dirty(c);
    }
}

void dirty_suite_crowd(const PtaBackendOps *ops, unsigned n, unsigned flags)
{
    Crowd *c = crowd_new(ops, n, flags);
    a_copy_becomes_whole(c);
    at_rest_it_is_exact(c);
    c->be->ops->dirty_stop(c->be);
    crowd_free(c);
}
