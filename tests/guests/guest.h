/*
 * A freestanding guest: what its C sees. Output is TAP on COM1; the machine ends by a write to port
 * 0xf4. Compiled for 64 and for 32 bits.
 *
 * 64-bit guests: memory is mapped one to one for the supervisor, and once more at USER_BASE for
 * users; all code is position-independent, so that a function runs at either address.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096

/* ---- what every guest has ---- */

void print(const char *format, ...); /* %s %d %u %x (64 bits all), %% */
/* One line of TAP. */
void ok(bool good, const char *format, ...);
/* The same where QEMU 7.2's TCG is known to be wrong: it is the peer that these guests are checked on. */
void ok_but_tcg(bool good, const char *format, ...);
bool on_tcg(void);
/* This, or a hypervisor on an emulated CPU, whose command line for the guest has `first-level=tcg`: for
 * what does not only differ there but ends the test, or does worse. */
bool above_tcg(void);
void read_command_line(void);
void skip(const char *name, const char *why);
/* Prints the plan and ends the machine: status 0 if all was ok. */
__attribute__((noreturn)) void finish(void);
__attribute__((noreturn)) void quit(unsigned code);
void *alloc_pages(unsigned n); /* zeroed, one-to-one */
void *memset(void *to, int byte, size_t n);
void *memcpy(void *to, const void *from, size_t n);

void guest_main(void);

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(sub));
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo;
    uint32_t hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return lo | (uint64_t)hi << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

static inline uint64_t rdtsc(void)
{
    uint32_t lo;
    uint32_t hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return lo | (uint64_t)hi << 32;
}

#define READ_CR(n)                                         \
    ({                                                     \
        uintptr_t v_;                                      \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)); \
        v_;                                                \
    })
#define WRITE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n : : "r"((uintptr_t)(v)) : "memory")
#define READ_DR(n)                                         \
    ({                                                     \
        uintptr_t v_;                                      \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(v_)); \
        v_;                                                \
    })
#define WRITE_DR(n, v) __asm__ volatile("mov %0, %%dr" #n : : "r"((uintptr_t)(v)) : "memory")

static inline void invlpg(const volatile void *at)
{
    __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
}

/* ---- traps ---- */

enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM };
#define NONE 0xfff

/* What was pushed, lowest address first. */
typedef struct Frame {
#ifdef __x86_64__
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
#endif
    uintptr_t di, si, bp, bx, dx, cx, ax;
    uintptr_t vector, error;
    uintptr_t ip, cs, flags;
    uintptr_t sp, ss; /* 32 bits: only from another privilege */
} Frame;

/* The last trap. */
typedef struct Trap {
    unsigned vector; /* NONE */
    unsigned error;
    uintptr_t ip, cs, flags, cr2;
    unsigned count;
} Trap;
extern volatile Trap trap;
/* Where to go on after a trap: set by TRAP(), 0 else. */
extern volatile uintptr_t resume;
extern volatile uintptr_t resume_sp;

typedef void Handler(Frame *f);
extern Handler *handlers[256];

void set_gate(unsigned vector, void *entry, unsigned selector, unsigned type, unsigned dpl,
              unsigned ist);
void gate_present(unsigned vector, bool present);
void gate_dpl(unsigned vector, unsigned dpl);

#ifdef __x86_64__
#define RESUME_ASM \
    "lea 771f(%%rip), %%rax\n mov %%rax, resume(%%rip)\n mov %%rsp, resume_sp(%%rip)\n"
#define RESUME_END    "\n771: movq $0, resume(%%rip)\n mov resume_sp(%%rip), %%rsp\n"
#define TRAP_CLOBBERS "rax", "r10", "r11"
#else
#define RESUME_ASM    "movl $771f, resume\n movl %%esp, resume_sp\n"
#define RESUME_END    "\n771: movl $0, resume\n movl resume_sp, %%esp\n"
#define TRAP_CLOBBERS "eax"
#endif
/* Runs assembly; gives the vector that it raised, or NONE. RSP is what it was, RAX (EAX), R10 and R11
 * are free. */
#define TRAP(text, ...)                                    \
    ({                                                     \
        trap.vector = NONE;                                \
        __asm__ volatile(RESUME_ASM text RESUME_END        \
                         :                                 \
                         : __VA_ARGS__                     \
                         : TRAP_CLOBBERS, "memory", "cc"); \
        trap.vector;                                       \
    })

/* ---- GDT: selectors ---- */

enum {
    SEL_CODE64 = 0x08, /* SYSCALL: CODE64, DATA; SYSRET: USER32, USER_DATA, USER64 */
    SEL_DATA = 0x10,
    SEL_USER32 = 0x20,
    SEL_USER_DATA = 0x28,
    SEL_USER64 = 0x30,
    SEL_CODE32 = 0x38,
    SEL_CODE16 = 0x40,
    SEL_DATA16 = 0x48,
    SEL_TSS = 0x50,      /* 16 bytes */
    SEL_SPARE = 0x60,    /* eight more, for tests */
    SEL_SYSENTER = 0xa0, /* code 64, data, user 32, data, user 64, data */
    GDT_ENTRIES = 32,
};
extern uint64_t gdt[GDT_ENTRIES];

/* A descriptor: access byte and flags as in the SDM (0xa9b, 0xc93 …: G D/B L AVL, then the byte). */
static inline uint64_t descriptor(uint32_t base, uint32_t limit, unsigned bits)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(bits & 0xff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(bits >> 8 & 15) << 52 |
           (uint64_t)(base >> 24) << 56;
}

#ifdef __x86_64__

#define USER_BASE UINT64_C(0x8000000000)
#define USER(p)   ((__typeof__(p))((uint64_t)(p) | USER_BASE))

typedef struct __attribute__((packed)) Tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, iomap;
    uint8_t bitmap[8193];
} Tss;
extern Tss tss;

/* Runs fn(arg) at CPL 3; it must be position-independent. What it returns. */
uint64_t run_user(uint64_t (*fn)(uint64_t), uint64_t arg);

/* Page tables: the entry of `lin` at `level` (1: 4 KiB), tables made on the way, or NULL if a larger
 * page is there. */
uint64_t *page_entry(uint64_t lin, unsigned level);
void map_page(uint64_t lin, uint64_t gpa, uint64_t bits);

enum {
    PT_P = 1,
    PT_W = 2,
    PT_U = 4,
    PT_A = 0x20,
    PT_D = 0x40,
    PT_PS = 0x80,
    PT_G = 0x100,
};
#define PT_NX (UINT64_C(1) << 63)

#endif

#endif
