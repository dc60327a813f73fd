/* What smp.c (tests) and smp-cpus.c (start-up, interrupts) share. */
#ifndef SMP_H
#define SMP_H

#include "guest.h"

#define MAX_CPUS 64

extern unsigned n_cpus;

/* Starts the others, tests how they start; false: there are none, or they did not come. */
bool smp_start(void);
/* Tests IPIs. */
void smp_ipis(void);

/* fn(0) here, fn(1) … on the others; returns when all are done, or ends the guest. */
void on_all(void (*fn)(unsigned id));

void apic_eoi(void);
/* A fixed interrupt to all but this one. */
void apic_ipi_others(unsigned vector);

bool has_cx16(void);

static inline void pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

static inline void delay(uint64_t ticks)
{
    uint64_t end = rdtsc() + ticks;
    while (rdtsc() < end) {
        pause();
    }
}

/* Ends the guest as failed. */
__attribute__((noreturn)) void gave_up(const char *what, unsigned line);

#define LIMIT_TICKS UINT64_C(60000000000) /* a minute at 1 GHz */

#define wait_for(condition)                    \
    do {                                       \
        uint64_t end_ = rdtsc() + LIMIT_TICKS; \
        while (!(condition)) {                 \
            pause();                           \
            if (rdtsc() > end_) {              \
                gave_up(#condition, __LINE__); \
            }                                  \
        }                                      \
    } while (0)

#endif
