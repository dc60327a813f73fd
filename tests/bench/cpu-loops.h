/* What cpu-loops.S defines. */
#ifndef PTA_BENCH_CPU_LOOPS_H
#define PTA_BENCH_CPU_LOOPS_H

#include <stdint.h>

typedef struct CpuLoop {
    uint32_t offset; /* from cpu_loops_begin */
    uint32_t insns;  /* an iteration; 0: bytes count */
    uint32_t bytes;
    uint32_t zero;
    char name[32];
} CpuLoop;

extern const uint8_t cpu_loops_begin[], cpu_loops_end[];
extern const CpuLoop cpu_loops[]; /* the last has insns and bytes 0 */

#endif
