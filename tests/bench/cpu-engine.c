/*
 * Runs the loops of cpu-loops.S natively and in the software CPU by itself (no machine around it);
 * prints millions of instructions (or MiB) a second and the ratio. For profiling:
 * cpu-engine [NAME-PREFIX [SECONDS]].
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/bench/cpu-loops.h"
#include "tests/cpu/cpu-harness.h"

#define RAM    (64 * PTA_MIB)
#define BUFFER (16 * PTA_MIB)

typedef uint64_t Loop(uint64_t iterations, void *buffer);

static uint64_t run_native(const CpuLoop *l, uint64_t n, void *buffer)
{
    Loop *f = (Loop *)(uintptr_t)(cpu_loops_begin + l->offset);
    return f(n, buffer);
}

static uint64_t run_soft(CpuHarness *h, const CpuLoop *l, uint64_t n)
{
    cpu_harness_reset(h);
    cpu_harness_code(h, 0, cpu_loops_begin, (size_t)(cpu_loops_end - cpu_loops_begin));
    unsigned end = (unsigned)(cpu_loops_end - cpu_loops_begin);
    uint64_t back = CPU_CODE + end;
    memcpy(h->ram + CPU_STACK - 8, &back, 8);
    h->c->gpr[PTA_X86_RSP] = CPU_STACK - 8;
    h->c->gpr[PTA_X86_RDI] = n;
    h->c->gpr[PTA_X86_RSI] = BUFFER;
    h->c->rip = CPU_CODE + l->offset;
    if (cpu_harness_run(h) != CPU_END) {
        g_error("%s: stopped by vector %d at 0x%" G_GINT64_MODIFIER "x", l->name, h->vector,
                h->fault_rip);
    }
    return h->c->gpr[PTA_X86_RAX];
}

/* Millions of instructions (or MiB) a second. */
static double rate(const CpuLoop *l, uint64_t n, uint64_t ns)
{
    return l->insns ? (double)l->insns * (double)n * 1e3 / (double)ns
                    : (double)l->bytes * (double)n * 1e9 / (double)ns / (double)PTA_MIB;
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : "";
    double seconds = argc > 2 ? atof(argv[2]) : 0.5;
    CpuHarness *h = cpu_harness_new(64, RAM);
    uint8_t *buffer =
        mmap(NULL, 32 * PTA_MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(buffer != MAP_FAILED);
    printf("%-24s %10s %10s %8s\n", "loop", "native", "soft", "ratio");
    for (const CpuLoop *l = cpu_loops; l->insns || l->bytes; l++) {
        if (!g_str_has_prefix(l->name, only)) {
            continue;
        }
        memset(buffer, 0, 32 * PTA_MIB);
        memset(h->ram + BUFFER, 0, 32 * PTA_MIB);
        uint64_t n = 1000, ns = 0;
        uint64_t soft = 0;
        while (ns < (uint64_t)(seconds * 1e9)) {
            n = ns < 10000000 ? n * 4 : (uint64_t)((double)n * seconds * 1.1e9 / (double)ns);
            uint64_t start = pta_now_ns();
            soft = run_soft(h, l, n);
            ns = pta_now_ns() - start;
        }
        uint64_t start = pta_now_ns();
        uint64_t native = run_native(l, n, buffer);
        uint64_t native_ns = pta_now_ns() - start;
        double a = rate(l, n, native_ns), b = rate(l, n, ns);
        printf("%-24s %10.0f %10.0f %8.3f%s\n", l->name, a, b, b / a,
               strcmp(l->name, "load/store copy") && strcmp(l->name, "rep movsb") && native != soft
                   ? "  WRONG RESULT"
                   : "");
    }
    cpu_harness_free(h);
    return 0;
}
