/*
 * Runs each loop of cpu-loops.S until it takes CYCLES of the time-stamp counter, and prints for the
 * run that did (the last one of its name)
 *
 *     begin
 *     end|NAME|iterations|instructions an iteration|bytes an iteration|cycles|checksum
 *
 * and, after all, "done". One source for two programs: freestanding, a guest without an operating
 * system that prints to COM1 (entered by cpu-entry.S), and hosted, a process of the host.
 */
#include <stdint.h>

#include "tests/bench/cpu-loops.h"

#define BUFFER_SIZE (32u << 20)
#define CYCLES      UINT64_C(1000000000)

typedef uint64_t Loop(uint64_t iterations, void *buffer);

#if __STDC_HOSTED__
#include <stdio.h>
#include <stdlib.h>

static void put(char c)
{
    putchar(c);
    if (c == '\n') {
        fflush(stdout);
    }
}

static uint8_t *get_buffer(void)
{
    uint8_t *buffer = aligned_alloc(4096, BUFFER_SIZE);
    if (!buffer) {
        abort();
    }
    return buffer;
}
#else
#define COM1 0x3f8
#define LSR  5 /* line status; bit 5: the transmitter takes a byte */

static void put(char c)
{
    uint8_t status;
    do {
        __asm__ volatile("inb %1, %0" : "=a"(status) : "Nd"((uint16_t)(COM1 + LSR)));
    } while (!(status & 0x20));
    __asm__ volatile("outb %0, %1" : : "a"((uint8_t)c), "Nd"((uint16_t)COM1));
}

static uint8_t *get_buffer(void)
{
    return (uint8_t *)(uintptr_t)(64u << 20); /* of 128 MiB, far from the kernel */
}
#endif

static uint64_t cycles(void)
{
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static void put_text(const char *text)
{
    while (*text) {
        put(*text++);
    }
}

static void put_number(uint64_t n)
{
    char digits[21];
    int i = sizeof(digits) - 1;
    digits[i] = '\0';
    do {
        digits[--i] = (char)('0' + n % 10);
    } while (n /= 10);
    put_text(digits + i);
}

static void clear(uint8_t *buffer)
{
    uint64_t n = BUFFER_SIZE / 8;
    __asm__ volatile("rep stosq" : "+D"(buffer), "+c"(n) : "a"(UINT64_C(0)) : "memory");
}

static void run_loop(const CpuLoop *l, uint8_t *buffer)
{
    Loop *f = (Loop *)(uintptr_t)(cpu_loops_begin + l->offset);
    for (uint64_t n = l->bytes ? 4 : 20000, took = 0; took < CYCLES;
         n *= took < CYCLES / 16 ? 4 : 2) {
        clear(buffer);
        put_text("begin\n");
        uint64_t start = cycles();
        uint64_t sum = f(n, buffer);
        took = cycles() - start;
        put_text("end|");
        put_text(l->name);
        const uint64_t numbers[] = { n, l->insns, l->bytes, took, sum };
        for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            put('|');
            put_number(numbers[i]);
        }
        put('\n');
    }
}

static void run_all(void)
{
    uint8_t *buffer = get_buffer();
    for (const CpuLoop *l = cpu_loops; l->insns || l->bytes; l++) {
        run_loop(l, buffer);
    }
    put_text("done\n");
}

#if __STDC_HOSTED__
int main(void)
{
    run_all();
    return 0;
}
#else
void guest_main(void);
void guest_main(void)
{
    run_all();
}
#endif
