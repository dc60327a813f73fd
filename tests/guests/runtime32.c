/* The 32-bit guests' own part: IDT, GDT entries, TSS. */
#include "guest32.h"

void runtime32_init(void);

static uint64_t idt[256];
static char trap_stack[16384] __attribute__((aligned(16)));
Tss32 main_tss;

void set_gdt(unsigned selector, uint32_t base, uint32_t limit, unsigned bits)
{
    gdt[selector / 8] = descriptor(base, limit, bits);
}

uint64_t gate(unsigned selector, uint32_t offset, unsigned type, unsigned dpl, unsigned params)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)params << 32 |
           (uint64_t)(0x80 | dpl << 5 | type) << 40 | (uint64_t)(offset >> 16) << 48;
}

void set_gate(unsigned vector, void *entry, unsigned selector, unsigned type, unsigned dpl,
              unsigned ist)
{
    (void)ist;
    idt[vector] = gate(selector, (uint32_t)entry, type, dpl, 0);
}

void set_task_gate(unsigned vector, unsigned selector)
{
    idt[vector] = gate(selector, 0, 5, 0, 0);
}

void gate_present(unsigned vector, bool present)
{
    uint64_t p = (uint64_t)0x80 << 40;
    idt[vector] = present ? idt[vector] | p : idt[vector] & ~p;
}

void gate_dpl(unsigned vector, unsigned dpl)
{
    idt[vector] = (idt[vector] & ~((uint64_t)0x60 << 40)) | (uint64_t)(dpl << 5) << 40;
}

void runtime32_init(void)
{
    read_command_line();
    for (unsigned i = 0; i < 256; i++) {
        set_gate(i, trap_stubs + i * 16, S_CODE, 14, i == 0x80 || i == 0x81 ? 3 : 0, 0);
    }
    struct __attribute__((packed)) {
        uint16_t limit;
        void *base;
    } pointer = { sizeof(idt) - 1, idt };
    __asm__ volatile("lidt %0" : : "m"(pointer));
    main_tss.ss0 = S_DATA;
    main_tss.esp0 = (uint32_t)trap_stack + sizeof(trap_stack);
    main_tss.iomap = sizeof(main_tss);
    set_gdt(S_TSS, (uint32_t)&main_tss, sizeof(main_tss) - 1, 0x089);
    __asm__ volatile("ltr %w0" : : "r"(S_TSS));
    trap.vector = NONE;
}
