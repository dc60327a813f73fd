/* The 32-bit guests' own part. */
#ifndef GUEST32_H
#define GUEST32_H

#include "guest.h"

enum {
    S_CODE = 0x08,
    S_DATA = 0x10,
    S_CODE16 = 0x18,
    S_DATA16 = 0x20,
    S_USER_CODE = 0x28 | 3,
    S_USER_DATA = 0x30 | 3,
    S_TSS = 0x38,
    S_SPARE = 0x40, /* 24 more */
};

/* SDM vol. 3, figure 7-2. */
typedef struct Tss32 {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
} Tss32;
extern Tss32 main_tss;

void set_gdt(unsigned selector, uint32_t base, uint32_t limit, unsigned bits);
/* A call gate, interrupt gate …: `type` is 12, 14, 5 … */
uint64_t gate(unsigned selector, uint32_t offset, unsigned type, unsigned dpl, unsigned params);
void set_task_gate(unsigned vector, unsigned selector);

extern char trap_stubs[];
extern uint32_t keep_segments;

#endif
