/* Virtual-8086 mode: entry by IRET, traps out of it, IOPL, ports, segments; and by a task switch. */
#include "guest32.h"

#define SEG  0x1000 /* code and stack of the 8086: 64 KiB at 0x10000 */
#define BASE 0x10000

extern volatile uint32_t vm_regs[4];
void enter_vm86(uint32_t flags);
uint32_t vm_sp;
/* IRET with VM set to SEG:0; any trap out of it is on_vm_trap(). */
__asm__(".text\n"
        "enter_vm86:\n"
        "mov 4(%esp), %eax\n"
        "push %ebx\n push %esi\n push %edi\n push %ebp\n"
        "mov %esp, vm_sp\n"
        "push $0x5000\n push $0x4000\n push $0x3000\n push $0x1000\n" /* GS FS DS ES */
        "push $0x1000\n push $0xfff0\n"                               /* SS ESP */
        "push %eax\n push $0x1000\n push $0\n"                        /* EFLAGS CS EIP */
        "mov $0x1111, %eax\n"
        "iret\n");

static Frame frame;
static uint32_t frame_segs[4];
static uint16_t handler_ds;

static void on_vm_trap(Frame *f)
{
    if (!(f->flags & 0x20000)) {
        print("Bail out! trap %u error %x at %x:%x\n", (unsigned)f->vector, (uint64_t)f->error,
              (uint64_t)f->cs, (uint64_t)f->ip);
        quit(2);
    }
    frame = *f;
    uint32_t *more = (uint32_t *)(&f->ss + 1);
    for (unsigned i = 0; i < 4; i++) {
        frame_segs[i] = more[i];
    }
    __asm__ volatile("mov %%fs, %0" : "=r"(handler_ds));
    __asm__ volatile("mov vm_sp, %%esp; pop %%ebp; pop %%edi; pop %%esi; pop %%ebx; ret"
                     :
                     :
                     : "memory");
    __builtin_unreachable();
}

/* Runs bytes in the 8086 until they trap; gives the vector. */
static unsigned run(uint32_t flags, const char *bytes, unsigned n)
{
    memcpy((void *)BASE, bytes, n);
    for (unsigned v = 0; v < 256; v++) {
        handlers[v] = on_vm_trap;
    }
    enter_vm86(flags);
    for (unsigned v = 0; v < 256; v++) {
        handlers[v] = NULL;
    }
    return (unsigned)frame.vector;
}
#define RUN(flags, bytes) run(flags, bytes, sizeof(bytes) - 1)

#define VM                0x20002
#define IOPL3             0x3000

static void basics(void)
{
    ok(RUN(VM, "\xf4") == GP && frame.error == 0, "HLT: #GP(0)");
    ok((frame.cs & 0xffff) == SEG && frame.ip == 0 && (frame.ss & 0xffff) == SEG &&
           frame.sp == 0xfff0 && (frame.flags & VM) == VM,
       "the frame has VM and the 8086's CS:IP and SS:SP");
    ok((frame_segs[0] & 0xffff) == 0x1000 && (frame_segs[1] & 0xffff) == 0x3000 &&
           (frame_segs[2] & 0xffff) == 0x4000 && (frame_segs[3] & 0xffff) == 0x5000,
       "and ES, DS, FS, GS");
    ok(handler_ds == 0, "which are null in the handler");
    ok(RUN(VM, "\x8c\xd8\x8e\xc0\x8c\xc3\xf4") == GP && (frame.bx & 0xffff) == 0x3000 &&
           (frame_segs[0] & 0xffff) == 0x3000,
       "MOV to and from segment registers");
    *(volatile uint16_t *)0x30010 = 0x4242;
    ok(RUN(VM, "\xa1\x10\x00\xf4") == GP && (frame.ax & 0xffff) == 0x4242,
       "an address is segment * 16 + offset");
    ok(RUN(VM, "\x66\x67\xa1\x10\x00\x00\x00\xf4") == GP && (frame.ax & 0xffff) == 0x4242,
       "with 32-bit operand and address");
    ok_but_tcg(RUN(VM, "\x67\xa0\x00\x00\x01\x00\xf4") == GP && frame.ip == 0,
               "an offset beyond 0xffff: #GP");
    ok(RUN(VM, "\x50\x5b\xf4") == GP && (frame.bx & 0xffff) == 0x1111, "PUSH and POP");
    ok(RUN(VM, "\x9a\x06\x00\x00\x10\xf4\xbb\x07\x00\xcb") == GP && frame.ip == 5 &&
           (frame.bx & 0xffff) == 7,
       "far CALL and RETF");
}

static void sensitive(void)
{
    ok(RUN(VM, "\xfa") == GP && RUN(VM, "\xfb") == GP && RUN(VM, "\x9c") == GP &&
           RUN(VM, "\x9d") == GP && RUN(VM, "\xcf") == GP && RUN(VM, "\xcd\x21") == GP,
       "CLI STI PUSHF POPF IRET INT with IOPL 0: #GP(0)");
    ok(frame.error == 0 && frame.ip == 0, "at the instruction");
    ok(RUN(VM | IOPL3, "\xfa\xfb\xfa\xf4") == GP && frame.ip == 3, "CLI and STI with IOPL 3");
    ok(RUN(VM | IOPL3, "\x9c\x58\xf4") == GP && (frame.ax & 0x3000) == 0x3000,
       "PUSHF with IOPL 3 pushes the flags");
    ok(RUN(VM | IOPL3, "\xb8\x02\x00\x50\x9d\xf4") == GP && (frame.flags & 0x3000) == 0x3000,
       "POPF does not change IOPL");
    gate_dpl(0x21, 3);
    ok(RUN(VM | IOPL3, "\xcd\x21") == 0x21 && frame.ip == 2, "INT with IOPL 3 goes to the monitor");
    gate_dpl(0x21, 0);
    ok(RUN(VM | IOPL3, "\xcd\x21") == GP && frame.error == (0x21 << 3 | 2),
       "if its gate's DPL allows it");
    gate_dpl(3, 3);
    ok(RUN(VM, "\xcc") == 3 && frame.ip == 1, "INT3 needs no IOPL");
    gate_dpl(3, 0);
    ok(RUN(VM | IOPL3, "\x9c\x0e\x68\x08\x00\xcf\x90\x90\xf4") == GP && frame.ip == 8,
       "IRET with IOPL 3 stays in the 8086");
    ok(RUN(VM, "\x0f\x20\xc0") == GP, "MOV CR: #GP");
    ok(RUN(VM, "\x0f\x00\xc0") == UD, "SLDT: #UD");
    ok(RUN(VM, "\x0f\x02\xc0") == UD, "LAR: #UD");
    ok(RUN(VM, "\x63\xc0") == UD, "ARPL: #UD");
    ok(RUN(VM, "\x31\xd2\x31\xdb\xf7\xf3") == DE && frame.ip == 4, "#DE goes to the monitor");
}

static struct {
    Tss32 tss;
    uint8_t map[32 + 1];
} io_tss;

static void ports(void)
{
    ok(RUN(VM | IOPL3, "\xe6\x80\xf4") == GP && frame.ip == 0,
       "OUT looks at the bitmap even with IOPL 3");
    io_tss.tss = main_tss;
    io_tss.tss.iomap = sizeof(Tss32);
    memset(io_tss.map, 0xff, sizeof(io_tss.map));
    io_tss.map[0x80 / 8] = 0xfe;
    set_gdt(0x40, (uint32_t)&io_tss, sizeof(io_tss) - 1, 0x089);
    __asm__ volatile("ltr %w0" : : "r"(0x40));
    ok(RUN(VM, "\xe6\x80\xf4") == GP && frame.ip == 2, "a clear bit lets it through");
    ok(RUN(VM, "\xe7\x80\xf4") == GP && frame.ip == 0, "two ports need two bits");
    ok(RUN(VM, "\xba\x00\x02\xec\xf4") == GP && frame.ip == 3, "beyond the map: #GP");
}

/* A task whose TSS has VM. */
static Tss32 vm_tss;

static void task(void)
{
    vm_tss = (Tss32){ .eip = 0,
                      .eflags = VM,
                      .cs = SEG,
                      .ss = SEG,
                      .esp = 0xfff0,
                      .ds = 0x3000,
                      .esp0 = main_tss.esp0,
                      .ss0 = S_DATA,
                      .iomap = sizeof(Tss32) };
    set_gdt(0x48, (uint32_t)&vm_tss, sizeof(vm_tss) - 1, 0x089);
    memcpy((void *)BASE, "\xb8\x34\x12\xf4", 4);
    handlers[GP] = on_vm_trap;
    __asm__ volatile(
        "push %%ebx; push %%esi; push %%edi; push %%ebp; push $1f; push %%ebx; push %%esi;"
        "push %%edi; push %%ebp; mov %%esp, vm_sp; ljmp $0x48, $0; 1: pop %%ebp;"
        "pop %%edi; pop %%esi; pop %%ebx"
        :
        :
        : "eax", "ecx", "edx", "memory", "cc");
    handlers[GP] = NULL;
    ok((frame.ax & 0xffff) == 0x1234 && (frame.flags & 0x20000) && frame.ip == 3,
       "a task switch into the 8086");
}

void guest_main(void)
{
    basics();
    sensitive();
    ports();
    task();
}
