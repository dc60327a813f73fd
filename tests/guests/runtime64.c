/* The 64-bit guests' own part: IDT, TSS, user mode, page tables. */
#include "guest.h"

typedef struct Gate {
    uint16_t offset0, selector;
    uint8_t ist, type;
    uint16_t offset1;
    uint32_t offset2, zero;
} Gate;

extern char trap_stubs[];
extern uint64_t pml4[512];
uint64_t enter_user(uint64_t (*fn)(uint64_t), uint64_t arg, uint64_t stack);
__attribute__((noreturn)) void leave_user(uint64_t value);
void runtime64_init(void);

static Gate idt[256] __attribute__((aligned(16)));
Tss tss;
static char trap_stack[16384] __attribute__((aligned(16)));
static char user_stack[16384] __attribute__((aligned(16)));

void set_gate(unsigned vector, void *entry, unsigned selector, unsigned type, unsigned dpl,
              unsigned ist)
{
    uint64_t at = (uint64_t)entry;
    idt[vector] = (Gate){ (uint16_t)at,
                          (uint16_t)selector,
                          (uint8_t)ist,
                          (uint8_t)(0x80 | dpl << 5 | type),
                          (uint16_t)(at >> 16),
                          (uint32_t)(at >> 32),
                          0 };
}

void gate_present(unsigned vector, bool present)
{
    idt[vector].type = (uint8_t)((idt[vector].type & 0x7f) | (present ? 0x80 : 0));
}

void gate_dpl(unsigned vector, unsigned dpl)
{
    idt[vector].type = (uint8_t)((idt[vector].type & ~0x60) | dpl << 5);
}

/* A user function has returned: its value goes back to run_user()'s caller. */
static void on_user_exit(Frame *f)
{
    leave_user(f->ax);
}

uint64_t run_user(uint64_t (*fn)(uint64_t), uint64_t arg)
{
    return enter_user(USER(fn), arg, USER((uint64_t)user_stack + sizeof(user_stack)));
}

void runtime64_init(void)
{
    read_command_line();
    for (unsigned i = 0; i < 256; i++) {
        set_gate(i, trap_stubs + i * 16, SEL_CODE64, 14, 0, 0);
    }
    gate_dpl(0x80, 3);
    gate_dpl(0x81, 3);
    handlers[0x81] = on_user_exit;
    struct __attribute__((packed)) {
        uint16_t limit;
        void *base;
    } pointer = { sizeof(idt) - 1, idt };
    __asm__ volatile("lidt %0" : : "m"(pointer));

    tss.rsp[0] = (uint64_t)trap_stack + sizeof(trap_stack);
    tss.iomap = offsetof(Tss, bitmap);
    memset(tss.bitmap, 0xff, sizeof(tss.bitmap));
    uint64_t base = (uint64_t)&tss;
    gdt[SEL_TSS / 8] = descriptor((uint32_t)base, sizeof(tss) - 1, 0x089);
    gdt[SEL_TSS / 8 + 1] = base >> 32;
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
    trap.vector = NONE;
}

uint64_t *page_entry(uint64_t lin, unsigned level)
{
    uint64_t *table = pml4;
    for (unsigned at = 4; at > level; at--) {
        uint64_t *e = &table[lin >> (12 + (at - 1) * 9) & 511];
        if (!(*e & PT_P)) {
            *e = (uint64_t)alloc_pages(1) | PT_P | PT_W | PT_U;
        } else if (*e & PT_PS) {
            return NULL;
        }
        table = (uint64_t *)(*e & UINT64_C(0x000ffffffffff000));
    }
    return &table[lin >> (12 + (level - 1) * 9) & 511];
}

void map_page(uint64_t lin, uint64_t gpa, uint64_t bits)
{
    *page_entry(lin, 1) = gpa | bits;
    invlpg((void *)lin);
}
