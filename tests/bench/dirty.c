/*
 * What the dirty log costs. Prints "name value unit" lines:
 *   - taking a GiB: clean, one page in a hundred dirty, all dirty; the log alone, and with the software
 *     CPU as source;
 *   - a host store of a word with no client, one, four;
 *   - a guest that writes at random over 2 MiB (all in the TLB) and 64 MiB: with the log off, on, and
 *     while it is taken every 100 and every 10 ms.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "src/memory/memory.h"
#include "tests/cpu/cpu-harness.h"

static double now_us(void)
{
    return (double)pta_now_ns() / 1000;
}

static void report(const char *name, double value, const char *unit)
{
    printf("%s|%.3f|%s\n", name, value, unit);
}

static void see(void *opaque, uint64_t gpa, const uint64_t bits[PTA_DIRTY_WORDS])
{
    uint64_t *sum = opaque;
    (void)gpa;
    for (unsigned w = 0; w < PTA_DIRTY_WORDS; w++) {
        *sum += bits[w];
    }
}

/* Median of the time of a take after every `step`th page was marked; step 0: none. */
static double take_us(PtaDirtyLog *log, PtaDirtyClient *c, unsigned step)
{
    double t[21];
    uint64_t sum = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++) {
        for (uint64_t page = 0; step && page < PTA_GIB / PTA_PAGE_SIZE; page += step) {
            pta_dirty_log_mark(log, page * PTA_PAGE_SIZE, 1);
        }
        double begin = now_us();
        pta_dirty_client_take(c, 0, PTA_GIB, see, &sum);
        t[i] = now_us() - begin;
        for (unsigned k = i; k > 0 && t[k] < t[k - 1]; k--) {
            double x = t[k];
            t[k] = t[k - 1];
            t[k - 1] = x;
        }
    }
    return t[G_N_ELEMENTS(t) / 2];
}

static double store_ns(PtaMemory *mem)
{
    enum { N = 5000000 };
    double best = 1e9;
    for (unsigned round = 0; round < 5; round++) {
        double begin = now_us();
        for (unsigned i = 0; i < N; i++) {
            pta_memory_store_u64(mem, (i * UINT64_C(8)) & 0xfffff, i);
        }
        best = MIN(best, (now_us() - begin) * 1000 / N);
    }
    return best;
}

static void bench_log(void)
{
    const PtaRamRange range = { 0, PTA_GIB };
    g_autoptr(PtaMemory) mem = pta_memory_new(&range, 1, NULL);
    PtaDirtyLog *log = pta_memory_dirty_log(mem);
    report("host store, no client", store_ns(mem), "ns");
    PtaDirtyClient *c[4] = { pta_dirty_client_new(log, "bench", NULL) };
    report("host store, one client", store_ns(mem), "ns");
    report("take 1 GiB, clean", take_us(log, c[0], 0), "us");
    report("take 1 GiB, 1 % dirty", take_us(log, c[0], 100), "us");
    report("take 1 GiB, all dirty", take_us(log, c[0], 1), "us");
    for (unsigned i = 1; i < 4; i++) {
        c[i] = pta_dirty_client_new(log, "bench", NULL);
    }
    report("host store, four clients", store_ns(mem), "ns");
    for (unsigned i = 0; i < 4; i++) {
        pta_dirty_client_free(c[i]);
    }
}

/* ---- a guest ---- */

static void sink(void *opaque, uint64_t gpa, uint64_t bits)
{
    (void)gpa;
    *(uint64_t *)opaque += (uint64_t)__builtin_popcountll(bits);
}

typedef struct Run {
    CpuHarness *h;
    double cpu_us; /* of the thread: the machine has other things to do */
} Run;

static void *run(void *data)
{
    Run *r = data;
    struct timespec t;
    r->h->be->ops->vp_run(r->h->vp, &r->h->exit);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    r->cpu_us = (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1000;
    return NULL;
}

/*
 * 1: imul r8, r9; inc r8; mov rax, r8; shr rax, 38; and eax, 0x3fffff8; mov [rax + rbx], r8; jmp 1b
 */
static const uint8_t loop[] = { 0x4d, 0x0f, 0xaf, 0xc1, 0x49, 0xff, 0xc0, 0x4c, 0x89,
                                0xc0, 0x48, 0xc1, 0xe8, 0x26, 0x25, 0xf8, 0xff, 0xff,
                                0x03, 0x4c, 0x89, 0x04, 0x18, 0xeb, 0xe7 };

/* Millions of instructions a second of CPU time, over some two seconds. */
static double guest_mips(CpuHarness *h, unsigned fetch_ms, double *fetch_us)
{
    uint64_t fetches = 0, before[X86_N_STATS], after[X86_N_STATS];
    double in_fetch = 0, begin = now_us();
    Run r = { .h = h };
    h->be->ops->vp_get_stats(h->vp, before);
    GThread *t = g_thread_new("vp", run, &r);
    while (now_us() - begin < 2e6) {
        g_usleep((fetch_ms ? fetch_ms : 100) * 1000);
        if (fetch_ms) {
            double at = now_us();
            h->be->ops->dirty_fetch(h->be, 0, h->ram_size);
            in_fetch += now_us() - at;
            fetches++;
        }
    }
    h->be->ops->vp_kick(h->vp);
    g_thread_join(t);
    h->be->ops->vp_get_stats(h->vp, after);
    *fetch_us = fetches ? in_fetch / (double)fetches : 0;
    return (double)(after[0] - before[0]) / r.cpu_us;
}

static void bench_guest(uint32_t region)
{
    CpuHarness *h = cpu_harness_new(64, 512 * PTA_MIB);
    uint64_t pages = 0;
    double us = 0;
    uint8_t code[sizeof(loop)];
    uint32_t mask = region - 8;
    memcpy(code, loop, sizeof(loop));
    memcpy(code + 15, &mask, sizeof(mask));
    cpu_harness_code(h, 0, code, sizeof(code));
    printf("a guest that writes to %u MiB\n", region >> 20);
    h->c->gpr[8] = 1;
    h->c->gpr[9] = UINT64_C(6364136223846793005);
    h->c->gpr[PTA_X86_RBX] = 0x200000;
    guest_mips(h, 0, &us);
    for (unsigned round = 0; round < 3; round++) {
        report("guest, log off", guest_mips(h, 0, &us), "million instructions/s");
        h->be->ops->dirty_start(h->be, sink, &pages, NULL);
        report("guest, log on", guest_mips(h, 0, &us), "million instructions/s");
        report("guest, taken every 100 ms", guest_mips(h, 100, &us), "million instructions/s");
        report("fetch of 512 MiB from it", us, "us");
        report("guest, taken every 10 ms", guest_mips(h, 10, &us), "million instructions/s");
        h->be->ops->dirty_stop(h->be);
    }
    cpu_harness_free(h);
}

int main(void)
{
    bench_log();
    bench_guest(2 << 20);
    bench_guest(64 << 20);
    return 0;
}
