/* What guests of both sizes share: printing, TAP, traps. */
#include "guest.h"

#include <stdarg.h>

#define COM1 0x3f8

extern char heap[];
static uintptr_t heap_next;
static unsigned n_tests;
static unsigned n_failed;

volatile Trap trap;
volatile uintptr_t resume;
volatile uintptr_t resume_sp;
Handler *handlers[256];

void *memset(void *to, int byte, size_t n)
{
    char *p = to;
    while (n--) {
        *p++ = (char)byte;
        __asm__ volatile("" : : : "memory"); /* or the compiler calls memset for it */
    }
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    char *p = to;
    const char *q = from;
    while (n--) {
        *p++ = *q++;
        __asm__ volatile("" : : : "memory");
    }
    return to;
}

void *alloc_pages(unsigned n)
{
    if (heap_next == 0) {
        heap_next = (uintptr_t)heap;
    }
    void *p = (void *)heap_next;
    heap_next += n * (uintptr_t)PAGE;
    return memset(p, 0, n * (size_t)PAGE);
}

static void put(char ch)
{
    while (!(inb(COM1 + 5) & 0x20)) {}
    outb(COM1, (uint8_t)ch);
}

static void put_number(uint64_t v, unsigned base)
{
    char text[20];
    unsigned n = 0;
    do {
        unsigned digit = 0;
        /* Division by shifting: 32-bit guests have no library for 64-bit division. */
        uint64_t quotient = 0;
        for (int bit = 63; bit >= 0; bit--) {
            digit = digit << 1 | (v >> bit & 1);
            if (digit >= base) {
                digit -= base;
                quotient |= (uint64_t)1 << bit;
            }
        }
        text[n++] = "0123456789abcdef"[digit];
        v = quotient;
    } while (v);
    while (n--) {
        put(text[n]);
    }
}

static void print_list(const char *format, va_list args)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            for (const char *s = va_arg(args, const char *); *s; s++) {
                put(*s);
            }
            break;
        case 'd': {
            int v = va_arg(args, int);
            if (v < 0) {
                put('-');
            }
            put_number(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10);
            break;
        }
        case 'u':
            put_number(va_arg(args, unsigned), 10);
            break;
        case 'x':
            put_number(va_arg(args, uint64_t), 16);
            break;
        default:
            put(*format);
            break;
        }
    }
}

void print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_list(format, args);
    va_end(args);
}

bool on_tcg(void)
{
    uint32_t r[4];
    cpuid(0x40000000, 0, r);
    return r[1] == 0x54474354 && r[2] == 0x43544743; /* "TCGTCGTC…" */
}

uint32_t multiboot_info; /* from start*.S */
static bool emulated;

/* Before anything is allocated: the loader's data may be there. */
void read_command_line(void)
{
    const uint32_t *info = (const uint32_t *)(uintptr_t)multiboot_info;
    static const char word[] = "first-level=tcg";
    unsigned same = 0;
    if (info[0] & 4) { /* there is one */
        for (const char *c = (const char *)(uintptr_t)info[4]; *c && word[same]; c++) {
            same = *c == word[same] ? same + 1 : 0;
        }
        emulated = !word[same];
    }
}

bool above_tcg(void)
{
    return emulated || on_tcg();
}

static void report(bool good, bool excused, const char *format, va_list args)
{
    n_failed += !good && !excused;
    print("%s %u - ", good || excused ? "ok" : "not ok", ++n_tests);
    print_list(format, args);
    print(good || !excused ? "\n" : " # SKIP QEMU's TCG differs from the SDM\n");
    if (!good && !excused) {
        print("# last trap: vector %u error %x ip %x cs %x flags %x cr2 %x\n", trap.vector,
              (uint64_t)trap.error, (uint64_t)trap.ip, (uint64_t)trap.cs, (uint64_t)trap.flags,
              (uint64_t)trap.cr2);
    }
}

void ok(bool good, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(good, false, format, args);
    va_end(args);
}

void ok_but_tcg(bool good, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(good, on_tcg(), format, args);
    va_end(args);
}

void skip(const char *name, const char *why)
{
    print("ok %u - %s # SKIP %s\n", ++n_tests, name, why);
}

void quit(unsigned code)
{
    outl(0xf4, code);
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

void finish(void)
{
    print("1..%u\n", n_tests);
    quit(n_failed ? 1 : 0);
}

/* From the assembly stubs. */
void on_trap(Frame *f);
void on_trap(Frame *f)
{
    if (handlers[f->vector]) {
        handlers[f->vector](f);
        return;
    }
    trap.vector = (unsigned)f->vector;
    trap.error = (unsigned)f->error;
    trap.ip = f->ip;
    trap.cs = f->cs;
    trap.flags = f->flags;
    trap.cr2 = READ_CR(2);
    trap.count++;
    if (resume) {
        f->ip = resume;
        return;
    }
    print("Bail out! trap %u error %x at %x:%x cr2 %x\n", (unsigned)f->vector, (uint64_t)f->error,
          (uint64_t)f->cs, (uint64_t)f->ip, (uint64_t)READ_CR(2));
    quit(2);
}
