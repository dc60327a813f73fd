/*
 * A VP on plain RAM, to run a few bytes of code: a real back end, the software CPU if nothing else is
 * said; a platform that counts what reaches it, and an OUT per exception vector.
 */
#ifndef PTA_TESTS_CPU_HARNESS_H
#define PTA_TESTS_CPU_HARNESS_H

#include "src/partition/backend.h"
#include "src/soft/soft.h"

/* Guest-physical layout; linear addresses are the same (in real mode: by segment bases). */
enum {
    CPU_PML4 = 0x1000,
    CPU_PDPT = 0x2000,
    CPU_PD = 0x3000,
    CPU_MMIO_PD = 0x4000,
    CPU_GDT = 0x8000,
    CPU_IDT = 0x9000,
    CPU_STUBS = 0xa000,
    CPU_STACK = 0xf000,  /* grows down */
    CPU_CODE = 0x10000,  /* real mode: CS is 0x1000 */
    CPU_DATA = 0x200000, /* real mode: DS is 0x2000, so 0x20000 */
    CPU_REAL_DATA = 0x20000,
    CPU_MMIO = 0x70000000,
};

enum {
    CPU_CS64 = 0x08,
    CPU_DS = 0x10,
    CPU_CS32 = 0x18,
};

typedef struct CpuHarness {
    PtaBackend *be;
    PtaBackendVp *vp;
    X86Cpu *c;          /* of the software CPU; else NULL */
    PtaX86State *state; /* for cpu_harness_load() */
    uint8_t *ram;
    uint64_t ram_size;
    unsigned bits; /* 16, 32, 64 */
    PtaCpuidTable cpuid;
    PtaPlatform platform;

    int vector; /* how the run ended: an exception, CPU_END, or CPU_STOPPED */
    uint64_t fault_rip;
    uint64_t fault_rflags;
    uint32_t error;
    PtaExit exit;
    unsigned mmio_reads, mmio_writes;
    uint64_t mmio_value;
} CpuHarness;

#define CPU_END     (-1) /* the OUT behind the code */
#define CPU_STOPPED (-2) /* anything else: `exit` */

/* bits: 16 (real mode), 32 (protected, no paging), 64; supervisor. */
CpuHarness *cpu_harness_new(unsigned bits, uint64_t ram_size);
/* A back end made with PtaBackendParams.stepping. */
CpuHarness *cpu_harness_new_stepper(unsigned bits, uint64_t ram_size);
/* On another back end than the software CPU. */
CpuHarness *cpu_harness_new_on(const PtaBackendOps *ops, unsigned bits, uint64_t ram_size);
void cpu_harness_free(CpuHarness *h);

/* Registers as after cpu_harness_new(), caches too; RAM stays. */
void cpu_harness_reset(CpuHarness *h);

/* The same, and RAM too. */
void cpu_harness_clear(CpuHarness *h);

/* The VP's state, to be looked at and changed; and back. */
PtaX86State *cpu_harness_load(CpuHarness *h);
void cpu_harness_store(CpuHarness *h);

/* Puts code at CPU_CODE + offset, and the OUT that ends the run behind it; RIP is its beginning. */
void cpu_harness_code(CpuHarness *h, unsigned offset, const void *code, size_t len);

/* Runs until the end, an exception, or something else stops it; gives h->vector. */
int cpu_harness_run(CpuHarness *h);

#endif
