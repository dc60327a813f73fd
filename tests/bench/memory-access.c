/*
 * How much slower than memcpy() guest memory is read and written, and what a word costs. Prints a
 * line for each size, "copy SIZE READ-RATIO WRITE-RATIO", and "word LOAD-NS STORE-NS"; ratios are of
 * throughput, 1 is memcpy's. Both run in turns, and the best of each is taken: what else runs on the
 * machine can only slow them down.
 */
#include "config.h"

#include "src/memory/memory.h"

#include <stdio.h>
#include <string.h>

#define RAM    (64 * PTA_MIB)
#define ROUNDS 25
#define BYTES  (8 * PTA_MIB) /* a round */

typedef struct Bench {
    PtaMemory *mem;
    uint8_t *host, *buf;
} Bench;

typedef void RoundFn(Bench *b, size_t size);

/* Through pointers, so that no compiler knows the sizes. */
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;

#define AREA (256 * PTA_KIB) /* stays in the cache, with the buffer: the worst case for overhead */

static uint64_t place(uint64_t i, size_t size)
{
    return 0x200000 + (i * size & (AREA - 1)); /* both are powers of two */
}

static void plain_read(Bench *b, size_t size)
{
    for (uint64_t i = 0; i < BYTES / size; i++) {
        copy(b->buf, b->host + place(i, size), size);
    }
}

static void plain_write(Bench *b, size_t size)
{
    for (uint64_t i = 0; i < BYTES / size; i++) {
        copy(b->host + place(i, size), b->buf, size);
    }
}

static void guest_read(Bench *b, size_t size)
{
    for (uint64_t i = 0; i < BYTES / size; i++) {
        pta_memory_read(b->mem, place(i, size), b->buf, size);
    }
}

static void guest_write(Bench *b, size_t size)
{
    for (uint64_t i = 0; i < BYTES / size; i++) {
        pta_memory_write(b->mem, place(i, size), b->buf, size);
    }
}

static void guest_load(Bench *b, size_t size)
{
    uint32_t value;
    for (uint64_t i = 0; i < BYTES / size; i++) {
        pta_memory_load_u32(b->mem, place(i, size), &value);
    }
}

static void guest_store(Bench *b, size_t size)
{
    for (uint64_t i = 0; i < BYTES / size; i++) {
        pta_memory_store_u32(b->mem, place(i, size), (uint32_t)i);
    }
}

static void time_once(RoundFn *fn, Bench *b, size_t size, uint64_t *best)
{
    uint64_t start = pta_now_ns();
    fn(b, size);
    *best = MIN(*best, pta_now_ns() - start);
}

/* How fast b is, a being 1. */
static double ratio(RoundFn *fa, RoundFn *fb, Bench *b, size_t size)
{
    uint64_t ta = UINT64_MAX, tb = UINT64_MAX;
    for (unsigned i = 0; i < ROUNDS; i++) {
        time_once(fa, b, size, &ta);
        time_once(fb, b, size, &tb);
    }
    return (double)ta / (double)tb;
}

static double each_ns(RoundFn *fn, Bench *b)
{
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < ROUNDS; i++) {
        time_once(fn, b, sizeof(uint32_t), &best);
    }
    return (double)best / (BYTES / sizeof(uint32_t));
}

/* The machine's layout: the first megabyte in windows, RAM above 4 GiB. One window is read-only, so
 * that look-ups have something to look at. */
static PtaMemory *make_memory(void)
{
    const PtaRamRange ram[] = { { 0, RAM }, { 4 * PTA_GIB, PTA_MIB } };
    PtaMemory *mem =
        pta_memory_build(&(PtaMemoryParams){ .ram = ram, .n_ram = 2, .x86_legacy = true }, NULL);
    if (!mem || !pta_memory_set_ram_visibility(mem, (PtaRamRange){ 0xc0000, 0x4000 },
                                               PTA_RAM_READ_ONLY, NULL)) {
        return NULL;
    }
    return mem;
}

int main(void)
{
    pta_thread_init_main();
    Bench b = { .mem = make_memory(), .buf = g_malloc0(PTA_MIB) };
    if (!b.mem) {
        fputs("no memory\n", stderr);
        return 1;
    }
    b.host = pta_memory_range_host(b.mem, 0);
    memset(b.host, 1, RAM);
    for (size_t size = 64; size <= PTA_MIB; size *= 4) {
        printf("copy %zu %.3f %.3f\n", size, ratio(plain_read, guest_read, &b, size),
               ratio(plain_write, guest_write, &b, size));
    }
    printf("word %.2f %.2f\n", each_ns(guest_load, &b), each_ns(guest_store, &b));
    pta_memory_free(b.mem);
    g_free(b.buf);
    return 0;
}
