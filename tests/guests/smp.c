/*
 * Several processors: start-up, IPIs in every mode, atomicity, memory order, TLB shoot-downs, code
 * that another processor writes, time. Runs with any number of them; with one it has nothing to do.
 *
 * The first processor directs: on_all() runs a function on all of them and waits for its end. Only it
 * prints. Every wait has an end.
 */
#include "smp.h"

/* ---- atomicity ---- */

enum { ROUNDS = 24000 }; /* in all, divided among the processors */

static struct {
    uint64_t add, inc, xadd, cmpxchg, cmpxchg8b, bits, plain, tickets, dec;
    uint64_t pair[2] __attribute__((aligned(16)));
    uint64_t xchg_in, xchg_out, token;
    uint32_t add32;
    uint16_t add16;
    uint8_t add8;
    uint32_t next, serving, lock;
} a __attribute__((aligned(64)));

static unsigned rounds(void)
{
    return ROUNDS / n_cpus;
}

static void simple_atomics(unsigned id)
{
    (void)id;
    for (unsigned i = 0; i < rounds(); i++) {
        uint64_t one = 1;
        __asm__ volatile("lock addq $3, %0" : "+m"(a.add));
        __asm__ volatile("lock incq %0" : "+m"(a.inc));
        __asm__ volatile("lock decq %0" : "+m"(a.dec));
        __asm__ volatile("lock xaddq %1, %0" : "+m"(a.xadd), "+r"(one));
        __asm__ volatile("lock addl $1, %0" : "+m"(a.add32));
        __asm__ volatile("lock addw $1, %0" : "+m"(a.add16));
        __asm__ volatile("lock addb $1, %0" : "+m"(a.add8));
    }
}

static void cmpxchg_atomics(unsigned id)
{
    (void)id;
    for (unsigned i = 0; i < rounds(); i++) {
        uint64_t old = a.cmpxchg;
        bool done;
        do {
            uint64_t next = old + 1;
            __asm__ volatile("lock cmpxchgq %3, %1"
                             : "=@ccz"(done), "+m"(a.cmpxchg), "+a"(old)
                             : "r"(next)
                             : "memory");
        } while (!done);
        old = a.cmpxchg8b;
        do {
            uint64_t next = old + 1;
            uint32_t lo = (uint32_t)old;
            uint32_t hi = (uint32_t)(old >> 32);
            __asm__ volatile("lock cmpxchg8b %1"
                             : "=@ccz"(done), "+m"(a.cmpxchg8b), "+a"(lo), "+d"(hi)
                             : "b"((uint32_t)next), "c"((uint32_t)(next >> 32))
                             : "memory");
            old = lo | (uint64_t)hi << 32;
        } while (!done);
    }
}

static void cmpxchg16b_atomics(unsigned id)
{
    (void)id;
    for (unsigned i = 0; i < rounds(); i++) {
        uint64_t lo = a.pair[0];
        uint64_t hi = a.pair[1];
        bool done;
        do {
            __asm__ volatile("lock cmpxchg16b %1"
                             : "=@ccz"(done), "+m"(a.pair), "+a"(lo), "+d"(hi)
                             : "b"(lo + 1), "c"(hi + 3)
                             : "memory");
        } while (!done);
    }
}

/* Each bit is set once; a value passed by XCHG is never lost or doubled. */
static void bits_and_xchg(unsigned id)
{
    for (unsigned i = 0; i < rounds(); i++) {
        bool was;
        __asm__ volatile("lock btsq %2, %1"
                         : "=@ccc"(was), "+m"(a.bits)
                         : "r"((uint64_t)(i & 63))
                         : "memory");
        if (!was) {
            __asm__ volatile("lock incq %0" : "+m"(a.plain));
            __asm__ volatile("lock btrq %1, %0" : "+m"(a.bits) : "r"((uint64_t)(i & 63)));
            __asm__ volatile("lock decq %0" : "+m"(a.plain));
        }
        uint64_t mine = (uint64_t)id << 32 | i;
        __asm__ volatile("lock addq %1, %0" : "+m"(a.xchg_in) : "r"(mine));
        __asm__ volatile("xchgq %0, %1" : "+r"(mine), "+m"(a.token) : : "memory");
        __asm__ volatile("lock addq %1, %0" : "+m"(a.xchg_out) : "r"(mine));
    }
}

static void spin_locks(unsigned id)
{
    (void)id;
    for (unsigned i = 0; i < rounds() / 4 + 1; i++) {
        while (__atomic_exchange_n(&a.lock, 1, __ATOMIC_ACQUIRE)) {
            pause();
        }
        a.plain++;
        __atomic_store_n(&a.lock, 0, __ATOMIC_RELEASE);
        uint32_t ticket = __atomic_fetch_add(&a.next, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&a.serving, __ATOMIC_ACQUIRE) != ticket) {
            pause();
        }
        a.tickets++;
        __atomic_store_n(&a.serving, ticket + 1, __ATOMIC_RELEASE);
    }
}

static void atomics(void)
{
    uint64_t n = (uint64_t)rounds() * n_cpus;
    on_all(simple_atomics);
    ok(a.add == 3 * n && a.inc == n && a.dec == 0 - n && a.xadd == n, "LOCK ADD, INC, DEC, XADD");
    ok(a.add32 == (uint32_t)n && a.add16 == (uint16_t)n && a.add8 == (uint8_t)n,
       "LOCK on 1, 2, 4 bytes next to each other");
    on_all(cmpxchg_atomics);
    ok(a.cmpxchg == n && a.cmpxchg8b == n, "LOCK CMPXCHG, CMPXCHG8B");
    if (has_cx16()) {
        on_all(cmpxchg16b_atomics);
        ok(a.pair[0] == n && a.pair[1] == 3 * n, "LOCK CMPXCHG16B");
    } else {
        skip("LOCK CMPXCHG16B", "the model has none");
    }
    on_all(bits_and_xchg);
    ok(a.bits == 0 && a.plain == 0, "LOCK BTS, BTR");
    ok(a.xchg_in == a.xchg_out + a.token, "XCHG needs no LOCK");
    on_all(spin_locks);
    n = (uint64_t)(rounds() / 4 + 1) * n_cpus;
    ok(a.plain == n && a.tickets == n, "spin locks, ticket locks");
}

/* ---- LOCK on operands that are not aligned ---- */

static char *split; /* of 8 bytes */
static volatile unsigned lost, adders_left;
static uint32_t added[MAX_CPUS];
enum { SPLIT_TICKS = 60000000, SPLIT_MOST = 2000000 };

/* The last processor owns the lower half and writes it plainly; the others add to the upper one, by an
 * operand that covers both. */
static void split_half(unsigned id)
{
    uint64_t end = rdtsc() + SPLIT_TICKS;
    added[id] = 0;
    if (id != n_cpus - 1) {
        while (added[id] < SPLIT_MOST && rdtsc() < end) {
            for (unsigned i = 0; i < 8; i++) {
                __asm__ volatile("lock addq %1, (%0)"
                                 :
                                 : "r"(split), "r"(UINT64_C(1) << 32)
                                 : "memory");
            }
            added[id] += 8;
        }
        __atomic_sub_fetch(&adders_left, 1, __ATOMIC_SEQ_CST);
        return;
    }
    volatile uint32_t *low = (volatile uint32_t *)split;
    for (uint32_t i = 1; adders_left > 0; i++) {
        *low = i;
        for (unsigned k = 0; k < 20; k++) {
            if (*low != i) {
                lost++;
            }
        }
    }
    *low = 0;
}

static void split_at(char *at, const char *what)
{
    split = at;
    lost = 0;
    adders_left = n_cpus - 1;
    memset(at, 0, 8);
    on_all(split_half);
    uint32_t sum;
    memcpy(&sum, at + 4, 4);
    uint32_t expected = 0;
    for (unsigned i = 0; i < n_cpus; i++) {
        expected += added[i];
    }
    ok(sum == expected && lost == 0, "LOCK %s: %u of %u additions, %u plain stores lost", what, sum,
       expected, lost);
}

static void splits(void)
{
    char *p = alloc_pages(2);
    split_at(p + 64, "on an aligned operand");
    split_at(p + 64 + 20, "on an unaligned operand within a cache line");
    split_at(p + 128 - 4, "over two cache lines");
    split_at(p + 128 - 3, "over two cache lines, oddly");
    split_at(p + PAGE - 4, "over two pages");
    /* Now there is code in the pages. */
    p[0] = p[PAGE] = (char)0xc3;
    ((void (*)(void))(uintptr_t)p)();
    ((void (*)(void))(uintptr_t)(p + PAGE))();
    split_at(p + 64, "in a page with code");
    split_at(p + PAGE - 4, "over two pages with code");
}

/* ---- plain accesses do not tear ---- */

static volatile uint64_t whole __attribute__((aligned(64)));
static volatile unsigned torn;

static void tear(unsigned id)
{
    for (unsigned i = 0; i < 20000; i++) {
        if (id == 0) {
            whole = i & 1 ? UINT64_C(0x5555555566666666) : UINT64_C(0xaaaaaaaa99999999);
        } else {
            uint64_t v = whole;
            if (v != 0 && v != UINT64_C(0x5555555566666666) && v != UINT64_C(0xaaaaaaaa99999999)) {
                torn = 1;
            }
        }
    }
}

/* ---- memory order: SDM vol. 3, 8.2.3 ---- */

typedef struct Litmus {
    volatile uint64_t x __attribute__((aligned(64)));
    volatile uint64_t y __attribute__((aligned(64)));
    volatile uint64_t r[4] __attribute__((aligned(64)));
    volatile uint32_t arrived __attribute__((aligned(64)));
} Litmus;
static Litmus l;
static void (*litmus_part)(unsigned id);
static unsigned litmus_cpus;
static unsigned litmus_seen; /* rounds in which the forbidden (or allowed) thing was seen */
static bool (*litmus_result)(void);
enum { LITMUS_ROUNDS = 3000, LITMUS_TICKS = 400000000 };
static volatile bool litmus_over;
static unsigned litmus_rounds;

/* All arrive, spinning without PAUSE at first, so that they go on at the same time. */
static void meet(uint32_t n)
{
    __atomic_fetch_add(&l.arrived, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; l.arrived < n; i++) {
        if (i > 200) {
            pause();
        }
    }
}

static void litmus_run(unsigned id)
{
    if (id >= litmus_cpus) {
        return;
    }
    uint32_t n = 0;
    uint64_t end = rdtsc() + LITMUS_TICKS; /* where few cores serve many, a meeting takes long */
    for (unsigned i = 0; !litmus_over; i++) {
        meet(n += litmus_cpus);
        /* Both lines are in all caches: the loads are quick, the stores are not. */
        (void)l.x, (void)l.y;
        meet(n += litmus_cpus);
        for (unsigned k = i % 7 * id; k; k--) {
            __asm__ volatile("nop");
        }
        litmus_part(id);
        meet(n += litmus_cpus);
        if (id == 0) {
            litmus_seen += litmus_result();
            l.x = l.y = 0;
            litmus_rounds = i + 1;
            litmus_over = i + 1 == LITMUS_ROUNDS || (i > 30 && rdtsc() > end);
        }
        meet(n += litmus_cpus);
    }
}

static unsigned litmus(unsigned n, void (*part)(unsigned id), bool (*result)(void))
{
    l = (Litmus){ 0 };
    litmus_over = false;
    litmus_seen = 0;
    litmus_cpus = n;
    litmus_part = part;
    litmus_result = result;
    on_all(litmus_run);
    return litmus_seen;
}

#define STORE_BUFFER(name, fence)                                                \
    static void name(unsigned id)                                                \
    {                                                                            \
        volatile uint64_t *mine = id ? &l.y : &l.x;                              \
        volatile uint64_t *other = id ? &l.x : &l.y;                             \
        uint64_t v;                                                              \
        __asm__ volatile("movq $1, %1\n" fence "\nmovq %2, %%rax\nmov %%rax, %0" \
                         : "=r"(v), "=m"(*mine)                                  \
                         : "m"(*other)                                           \
                         : "rax", "memory", "cc");                               \
        l.r[id] = v;                                                             \
    }
STORE_BUFFER(sb_plain, "")
STORE_BUFFER(sb_mfence, "mfence")
STORE_BUFFER(sb_lock, "lock addl $0, -64(%%rsp)")
STORE_BUFFER(sb_cpuid, "push %%rbx\n push %%rcx\n push %%rdx\n xor %%eax, %%eax\n cpuid\n"
                       "pop %%rdx\n pop %%rcx\n pop %%rbx")

static bool both_zero(void)
{
    return l.r[0] == 0 && l.r[1] == 0;
}

static void sb_xchg(unsigned id)
{
    volatile uint64_t *mine = id ? &l.y : &l.x;
    uint64_t one = 1;
    __asm__ volatile("xchgq %0, %1" : "+r"(one), "+m"(*mine) : : "memory");
    l.r[id] = id ? l.x : l.y;
}

static void mp(unsigned id)
{
    if (id == 0) {
        l.x = 1;
        l.y = 1;
    } else {
        l.r[0] = l.y;
        l.r[1] = l.x;
    }
}

static bool mp_wrong(void)
{
    return l.r[0] == 1 && l.r[1] == 0;
}

static void lb(unsigned id)
{
    l.r[id] = id ? l.y : l.x;
    *(id ? &l.x : &l.y) = 1;
}

static bool lb_wrong(void)
{
    return l.r[0] == 1 && l.r[1] == 1;
}

static void iriw(unsigned id)
{
    switch (id) {
    case 0:
        l.x = 1;
        break;
    case 1:
        l.y = 1;
        break;
    case 2:
        l.r[0] = l.x;
        l.r[1] = l.y;
        break;
    default:
        l.r[2] = l.y;
        l.r[3] = l.x;
        break;
    }
}

static bool iriw_wrong(void)
{
    return l.r[0] == 1 && l.r[1] == 0 && l.r[2] == 1 && l.r[3] == 0;
}

static void memory_order(void)
{
    on_all(tear);
    ok(!torn, "plain 8-byte accesses do not tear");
    unsigned passed = litmus(2, sb_plain, both_zero);
    print("# a store was passed by a later load %u times of %u\n", passed, litmus_rounds);
    ok(litmus(2, sb_mfence, both_zero) == 0, "not with MFENCE in between");
    ok(litmus(2, sb_lock, both_zero) == 0, "not with a LOCK in between");
    ok(litmus(2, sb_xchg, both_zero) == 0, "not if the store is an XCHG");
    ok_but_tcg(litmus(2, sb_cpuid, both_zero) == 0, "not with CPUID in between");
    ok(litmus(2, mp, mp_wrong) == 0, "stores are seen in order, loads are done in order");
    ok(litmus(2, lb, lb_wrong) == 0, "a store does not pass an earlier load");
    if (n_cpus >= 4) {
        ok(litmus(4, iriw, iriw_wrong) == 0, "all see two stores in one order");
    }
}

/* ---- TLB shoot-down ---- */

#define REMAPPED UINT64_C(0x10000000000)
enum { FRAMES = 8, SHOOT_DOWNS = 300, SHOOT = 0x71 };

static uint64_t *frames[FRAMES];
static volatile uint64_t epoch;
static volatile uint32_t acks, stale, over;

static void on_shoot(Frame *f)
{
    (void)f;
    invlpg((void *)REMAPPED);
    __atomic_fetch_add(&acks, 1, __ATOMIC_SEQ_CST);
    apic_eoi();
}

static void shoot_down(void)
{
    acks = 0;
    invlpg((void *)REMAPPED);
    apic_ipi_others(SHOOT);
    wait_for(acks == n_cpus - 1);
}

/* Word 0 of a frame is its stamp; from 8 on each processor has one that it writes. */
static void use_remapped(unsigned id)
{
    volatile uint64_t *page = (volatile uint64_t *)REMAPPED;
    if (id != 0) {
        __asm__ volatile("sti");
        while (!over) {
            for (unsigned i = 0; i < 50; i++) {
                uint64_t least = epoch;
                if (page[0] < least) {
                    __atomic_fetch_add(&stale, 1, __ATOMIC_SEQ_CST);
                }
                page[8 + id]++;
            }
            pause();
        }
        __asm__ volatile("cli");
        return;
    }
    for (uint64_t k = 1; k <= SHOOT_DOWNS / (1 + n_cpus / 4); k++) {
        uint64_t *old = frames[(k - 1) % FRAMES];
        uint64_t *new = frames[k % FRAMES];
        memset(new, 0, PAGE);
        new[0] = k;
        *page_entry(REMAPPED, 1) = (uint64_t) new | PT_P | PT_W;
        shoot_down();
        epoch = k;
        /* Nobody writes to what is gone. */
        uint64_t sum[2] = { 0, 0 };
        for (unsigned i = 0; i < 2; i++) {
            for (unsigned cpu = 0; cpu < n_cpus; cpu++) {
                sum[i] += ((volatile uint64_t *)old)[8 + cpu];
            }
            delay(20000);
        }
        if (sum[0] != sum[1]) {
            stale++;
        }
    }
    over = 1;
}

/* One processor counts in the software's bits of an entry, the others set A and D in it. */
static volatile uint32_t missing, busy;

static void entry_bits(unsigned id)
{
    uint64_t *entry = page_entry(REMAPPED, 1);
    volatile uint64_t *page = (volatile uint64_t *)REMAPPED;
    if (id == 0) {
        wait_for(busy == n_cpus - 1);
        for (unsigned i = 0; i < 100; i++) {
            __asm__ volatile("lock addq %1, %0" : "+m"(*entry) : "r"(UINT64_C(1) << 52));
            delay(1000);
        }
        over = 1;
        return;
    }
    for (bool first = true; !over; first = false) {
        if (id == 1) {
            __asm__ volatile("lock btrq $5, %0" : "+m"(*entry));
            invlpg((void *)REMAPPED);
            (void)page[0];
            missing += !(*(volatile uint64_t *)entry & PT_A);
        } else {
            invlpg((void *)REMAPPED);
            page[8 + id]++;
        }
        if (first) {
            __atomic_fetch_add(&busy, 1, __ATOMIC_SEQ_CST);
        }
        pause();
    }
}

static void translations(void)
{
    for (unsigned i = 0; i < FRAMES; i++) {
        frames[i] = alloc_pages(1);
    }
    handlers[SHOOT] = on_shoot;
    map_page(REMAPPED, (uint64_t)frames[0], PT_P | PT_W);
    on_all(use_remapped);
    ok(stale == 0 && epoch > 0,
       "after a TLB shoot-down nobody reads or writes the old page: %u did", stale);
    over = 0;
    *page_entry(REMAPPED, 1) = (uint64_t)frames[0] | PT_P | PT_W;
    on_all(entry_bits);
    uint64_t entry = *page_entry(REMAPPED, 1);
    ok((entry >> 52 & 127) == 100 && (entry & PT_A) && missing == 0,
       "A and D are set atomically: entry %x, A was missing %u times", entry, missing);
}

/* ---- code that another processor writes (SDM vol. 3, 8.1.3) ---- */

static uint8_t *code;
static volatile uint32_t version, wrong_code, ready;
enum { VERSIONS = 400 };

static void serialize(void)
{
    uint32_t r[4];
    cpuid(0, 0, r);
}

static uint32_t call(const uint8_t *at)
{
    return ((uint32_t(*)(void))(uintptr_t)at)();
}

static unsigned versions(void)
{
    return VERSIONS / (1 + n_cpus / 8);
}

static void modify(unsigned id)
{
    for (uint32_t k = 1; k <= versions(); k++) {
        if (id == 0) {
            *(volatile uint32_t *)(code + 4) = k;
            if (k % 3 == 0) {
                /* Another instruction: the immediate goes to ECX, and EAX is that. */
                memcpy(code + 8, "\x89\xc8\xc3", 3);
                code[3] = 0xb9;
            } else {
                memcpy(code + 8, "\xc3\x90\x90", 3);
                code[3] = 0xb8;
            }
            ready = 0;
            version = k;
            wait_for(ready == n_cpus - 1);
        } else {
            wait_for(version == k);
            serialize();
            uint32_t got = call(code + 3);
            if (got != k) {
                __atomic_fetch_add(&wrong_code, 1, __ATOMIC_SEQ_CST);
            }
            __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
        }
    }
}

/* Everybody runs code of the page and writes to it: what a JIT compiler does. */
static void share_page(unsigned id)
{
    uint8_t *mine = code + 128 + (id & 15) * 192; /* processors 16 apart share one */
    for (uint32_t k = 0; k < versions(); k++) {
        if (id < 16) {
            mine[0] = 0xb8;
            memcpy(mine + 1, &k, 4);
            mine[5] = 0xc3;
            uint32_t got = call(mine);
            if (got != k) {
                __atomic_fetch_add(&wrong_code, 1, __ATOMIC_SEQ_CST);
            }
        }
        __asm__ volatile("lock incl %0" : "+m"(*(uint32_t *)(code + 64)));
    }
}

static const uint8_t *volatile published;

/* Fresh code each time, found by a pointer; no serialising instruction. */
static void publish(unsigned id)
{
    static uint8_t *fresh;
    for (uint32_t k = 1; k <= 64; k++) {
        if (id == 0) {
            if (k % 32 == 1) {
                fresh = alloc_pages(1);
            }
            uint8_t *at = fresh + k % 32 * 96;
            at[0] = 0xb8;
            memcpy(at + 1, &k, 4);
            at[5] = 0xc3;
            ready = 0;
            published = at;
            wait_for(ready == n_cpus - 1);
        } else {
            const uint8_t *before = published;
            static const uint8_t *last[MAX_CPUS];
            wait_for((before = published) != last[id] && before);
            last[id] = before;
            if (call(before) != k) {
                __atomic_fetch_add(&wrong_code, 1, __ATOMIC_SEQ_CST);
            }
            __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
        }
    }
}

static void cross_modifying(void)
{
    code = alloc_pages(1);
    on_all(modify);
    ok(wrong_code == 0, "code that another processor has changed: %u wrong", wrong_code);
    wrong_code = 0;
    on_all(publish);
    ok(wrong_code == 0, "new code, found by a pointer: %u wrong", wrong_code);
    wrong_code = 0;
    on_all(share_page);
    uint32_t count;
    memcpy(&count, code + 64, 4);
    ok(wrong_code == 0 && count == n_cpus * versions(),
       "all write to, and run, code of one page: %u wrong, %u of %u", wrong_code, count,
       n_cpus * versions());
}

/* ---- time ---- */

static uint64_t last_tsc;
static unsigned warps;

static void warp(unsigned id)
{
    (void)id;
    for (unsigned i = 0; i < rounds() / 4; i++) {
        while (__atomic_exchange_n(&a.lock, 1, __ATOMIC_ACQUIRE)) {
            pause();
        }
        uint64_t now = rdtsc();
        if (now < last_tsc) {
            warps++;
        }
        last_tsc = now;
        __atomic_store_n(&a.lock, 0, __ATOMIC_RELEASE);
    }
}

void guest_main(void)
{
    if (!smp_start()) {
        finish();
    }
    smp_ipis();
    atomics();
    splits();
    memory_order();
    translations();
    cross_modifying();
    on_all(warp);
    ok(warps == 0, "the time stamp counter never goes back between processors: %u times", warps);
    finish();
}
