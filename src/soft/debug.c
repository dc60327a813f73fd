/*
 * Breakpoints and single step: the guest's debug registers (SDM vol. 3, 17.2) and the debugger's.
 * Runs on the VP's thread, under X86_ATT_STEP.
 */
#include "config.h"

#include "src/soft/system.h"

/* What a breakpoint waits for: DR7.RW. */
enum {
    BP_EXECUTE = 0,
    BP_WRITE = 1,
    BP_IO = 2,
    BP_ACCESS = 3,
};

static bool bp_enabled(uint64_t dr7, unsigned i)
{
    return dr7 >> (i * 2) & 3;
}

static unsigned bp_kind(uint64_t dr7, unsigned i)
{
    return dr7 >> (16 + i * 4) & 3;
}

static unsigned bp_size(uint64_t dr7, unsigned i)
{
    static const uint8_t size[] = { 1, 2, 8, 4 };
    return size[dr7 >> (18 + i * 4) & 3];
}

/* DR6 bits of the enabled breakpoints of the kinds in `kinds` that overlap. */
static uint32_t hits(const uint64_t dr[4], uint64_t dr7, unsigned kinds, uint64_t at, unsigned size)
{
    uint32_t found = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (!bp_enabled(dr7, i) || !(kinds >> bp_kind(dr7, i) & 1)) {
            continue;
        }
        uint64_t len = bp_size(dr7, i);
        uint64_t base = dr[i] & ~(len - 1);
        /* Both ranges may wrap: compare distances. */
        if (at - base < len || base - at < size) {
            found |= 1u << i;
        }
    }
    return found;
}

/* The VP leaves between two instructions. */
static void debugger_exit(X86Cpu *c, uint64_t dr6)
{
    c->debugger_hits = 0;
    c->exit = (PtaExit){ .reason = PTA_EXIT_DEBUG };
    c->exit.debug.vector = X86_DB;
    c->exit.debug.dr6 = dr6;
    c->exit.debug.rip = c->rip;
    x86_attend(c, X86_ATT_EXIT);
}

bool x86_step_needed(const X86Cpu *c)
{
    return (c->rflags & X86_TF) || c->shadow || (c->dr7 & 0xff) || c->debug_hits ||
           c->debugger_hits || (c->debug.enabled && c->debug.single_step);
}

static uint64_t code_address(const X86Cpu *c)
{
    uint64_t lin = c->rip + (x86_in_64bit(c) ? 0 : c->seg[PTA_X86_CS].base);
    return x86_in_long_mode(c) ? lin : (uint32_t)lin;
}

/* True if it is to be reported before the instruction at `lin`. */
static bool debugger_stops(X86Cpu *c, uint64_t lin)
{
    uint32_t found = c->debugger_hits; /* met outside of instructions */
    bool pass = c->debug.pass && lin == c->debug_pass_lin;
    if (!found && !pass) {
        found = hits(c->debug.dr, c->debug.dr7, 1 << BP_EXECUTE, lin, 1);
    }
    if (found) {
        debugger_exit(c, found);
        return true;
    }
    c->debug.pass &= !pass;
    return false;
}

bool x86_step_begin(X86Cpu *c)
{
    if (c->debug.enabled && debugger_stops(c, code_address(c))) {
        return false;
    }
    if (c->debug_hits && !(c->shadow & 2)) {
        /* Met outside of single-stepping: the T bit of a new task, or I/O. */
        uint32_t found = c->debug_hits;
        c->debug_hits = 0;
        x86_raise_db(c, NULL, found, true);
    }
    bool resumed = c->rflags & X86_RF;
    c->rflags &= ~(uint64_t)X86_RF;
    uint64_t lin = code_address(c);
    if (!resumed && !(c->shadow & 2)) {
        uint32_t found = hits(c->dr, c->dr7, 1 << BP_EXECUTE, lin, 1);
        if (found) {
            x86_raise_db(c, NULL, found, false);
        }
    }
    if (c->rflags & X86_TF) {
        c->debug_hits |= X86_DR6_BS;
    }
    return true;
}

void x86_step_end(X86Cpu *c)
{
    if (c->debug_hits && !(c->shadow & 2)) {
        uint32_t found = c->debug_hits;
        c->debug_hits = 0;
        x86_raise_db(c, NULL, found, true); /* reported when that is delivered */
    }
    x86_debug_delivered(c);
}

void x86_debug_delivered(X86Cpu *c)
{
    uint64_t found = c->debugger_hits;
    if (c->debug.enabled && c->debug.single_step) {
        found |= X86_DR6_BS;
    }
    if (found) {
        debugger_exit(c, found);
    }
}

bool x86_debug_break_at(const X86Cpu *c, unsigned offset)
{
    if (G_LIKELY(!c->debug.enabled)) {
        return false;
    }
    for (unsigned i = 0; i < 4; i++) {
        if (bp_enabled(c->debug.dr7, i) && bp_kind(c->debug.dr7, i) == BP_EXECUTE &&
            (c->debug.dr[i] & ~PTA_PAGE_MASK) == offset) {
            return true;
        }
    }
    return false;
}

/* Decoded code has stops at the breakpoints: does it have to go? */
static bool code_differs(const PtaGuestDebug *a, const PtaGuestDebug *b)
{
    for (unsigned i = 0; i < 4; i++) {
        bool in_a = a->enabled && bp_enabled(a->dr7, i) && bp_kind(a->dr7, i) == BP_EXECUTE;
        bool in_b = b->enabled && bp_enabled(b->dr7, i) && bp_kind(b->dr7, i) == BP_EXECUTE;
        if (in_a != in_b || (in_a && a->dr[i] != b->dr[i])) {
            return true;
        }
    }
    return false;
}

void x86_debug_set(X86Cpu *c, const PtaGuestDebug *debug)
{
    if (code_differs(&c->debug, debug)) {
        x86_blocks_flush(c);
    }
    c->debug = *debug;
    c->debug_pass_lin = code_address(c);
    c->debugger_hits = 0;
    x86_debug_changed(c);
}

void x86_debug_data(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, X86Access access)
{
    unsigned kinds = 1 << BP_ACCESS | (access == X86_WRITE ? 1 << BP_WRITE : 0);
    if (c->debug.enabled) {
        uint32_t found = hits(c->debug.dr, c->debug.dr7, kinds, lin, size);
        if (found && in && !c->stepping) {
            x86_restart(c, in);
        }
        if (found) {
            c->debugger_hits |= found;
            x86_attend(c, X86_ATT_STEP);
        }
    }
    c->debug_hits |= hits(c->dr, c->dr7, kinds, lin, size);
}

void x86_debug_io(X86Cpu *c, uint16_t port, unsigned size)
{
    if ((c->dr7 & 0xff) && (c->cr4 & X86_CR4_DE)) {
        c->debug_hits |= hits(c->dr, c->dr7, 1 << BP_IO, port, size);
    }
}

static unsigned watch_pages(const uint64_t dr[4], uint64_t dr7, uint64_t *pages)
{
    unsigned n = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (bp_enabled(dr7, i) && (bp_kind(dr7, i) & 1)) {
            pages[n++] = dr[i] & PTA_PAGE_MASK;
        }
    }
    return n;
}

void x86_debug_changed(X86Cpu *c)
{
    uint64_t pages[8];
    unsigned n = watch_pages(c->dr, c->dr7, pages);
    if (c->debug.enabled) {
        n += watch_pages(c->debug.dr, c->debug.dr7, pages + n);
    }
    x86_mmu_watch(c, pages, n);
    if (x86_step_needed(c)) {
        x86_attend(c, X86_ATT_STEP);
    }
}
