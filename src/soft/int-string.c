/*
 * MOVS, STOS, LODS, SCAS, CMPS. A call of a handler does at most one page (or a bounded number of
 * elements where each needs the slow way), commits the registers, and asks to be run again; so the
 * instruction is interruptible, and a fault leaves the registers at the element that faulted.
 */
#include "config.h"

#include <string.h>

#include "src/soft/int.h"

#define SLOW_MAX 256 /* elements */

typedef struct String {
    unsigned width;   /* of an element */
    unsigned address; /* of RSI, RDI and RCX: 2, 4, 8 */
    uint64_t step;    /* width, or -width */
    uint64_t count;   /* elements to go; 1 without a repeat prefix */
    bool rep;
    bool flat; /* no limit to check */
} String;

static String string_begin(const X86Cpu *c, const X86Insn *in)
{
    String s = { .width = in->width };
    s.address = in->ea & X86_EA_A16 ? 2 : in->ea & X86_EA_A32 ? 4 : 8;
    s.step = c->rflags & X86_DF ? 0 - (uint64_t)s.width : s.width;
    s.rep = (in->pfx & (X86_PFX_REP | X86_PFX_REPNE)) != 0;
    s.count = s.rep ? x86_reg(c, PTA_X86_RCX * 8, s.address) : 1;
    s.flat = !(in->ea & X86_EA_CHECK);
    if ((__atomic_load_n(&c->attention, __ATOMIC_RELAXED) & X86_ATT_STEP) && s.count > 1) {
        s.count = 1; /* a trap after each iteration; RCX tells what is left */
    }
    return s;
}

static uint64_t string_address(X86Cpu *c, const X86Insn *in, const String *s, unsigned reg,
                               unsigned seg, X86Access access)
{
    uint64_t offset = x86_reg(c, reg * 8, s->address);
    return s->flat ? offset + c->seg_base[seg]
                   : x86_seg_check(c, in, seg, offset, s->width, access);
}

static uint64_t source(X86Cpu *c, const X86Insn *in, const String *s)
{
    return string_address(c, in, s, PTA_X86_RSI, in->seg, X86_READ);
}

static uint64_t destination(X86Cpu *c, const X86Insn *in, const String *s, X86Access access)
{
    /* ES, always; flat in 64-bit mode. */
    return string_address(c, in, s, PTA_X86_RDI, s->flat ? X86_SEG_FLAT : PTA_X86_ES, access);
}

static void advance(X86Cpu *c, const String *s, unsigned reg, uint64_t n)
{
    x86_set_reg(c, reg * 8, s->address, x86_reg(c, reg * 8, s->address) + n * s->step);
}

/* n elements are done. */
static void done(X86Cpu *c, String *s, uint64_t n)
{
    s->count -= n;
    if (s->rep) {
        uint64_t left = x86_reg(c, PTA_X86_RCX * 8, s->address) - n;
        x86_set_reg(c, PTA_X86_RCX * 8, s->address, left);
    }
}

/* Is there more to do for the instruction as a whole? */
static void string_end(X86Cpu *c, const String *s)
{
    if (s->rep && x86_reg(c, PTA_X86_RCX * 8, s->address) != 0) {
        x86_string_again(c);
    }
}

/* Host pointer to whole elements from lin upward in its page, at most s->count; NULL: one by one.
 * Only upward, without limits, and if the offset does not wrap. */
static void *span(X86Cpu *c, const String *s, unsigned reg, uint64_t lin, X86Access access,
                  uint64_t *n)
{
    uint64_t offset = x86_reg(c, reg * 8, s->address);
    uint64_t most = MIN(s->count, PTA_PAGE_SIZE / s->width);
    uint64_t bytes;
    if (!s->flat || s->step != s->width || s->count < 2 ||
        x86_width_mask(s->address) - offset < most * s->width) {
        return NULL;
    }
    void *p = x86_host_span(c, lin, most * s->width, access, &bytes);
    *n = bytes / s->width;
    return p && *n > 0 ? p : NULL;
}

/* ---- MOVS ---- */

/* As if element by element, upward. */
static void copy_up(uint8_t *to, const uint8_t *from, uint64_t n, unsigned width)
{
    uint64_t bytes = n * width;
    if (to <= from || to >= from + bytes) {
        memmove(to, from, bytes);
        return;
    }
    for (uint64_t i = 0; i < bytes; i += width) { /* overlap: a pattern repeats itself */
        uint64_t v = x86_peek(from + i, width);
        x86_poke(to + i, width, v);
    }
}

void op_movs(X86Cpu *c, const X86Insn *in)
{
    String s = string_begin(c, in);
    for (unsigned i = 0; s.count > 0 && i < SLOW_MAX; i++) {
        uint64_t from = source(c, in, &s), to = destination(c, in, &s, X86_WRITE);
        uint64_t n_from = 0, n_to = 0;
        const void *p = span(c, &s, PTA_X86_RSI, from, X86_READ, &n_from);
        void *q = p ? span(c, &s, PTA_X86_RDI, to, X86_WRITE, &n_to) : NULL;
        uint64_t n = 1;
        if (q) {
            n = MIN(n_from, n_to);
            copy_up(q, p, n, s.width);
            i += SLOW_MAX / 4;
        } else {
            x86_store(c, in, to, s.width, x86_load(c, in, from, s.width));
        }
        advance(c, &s, PTA_X86_RSI, n);
        advance(c, &s, PTA_X86_RDI, n);
        done(c, &s, n);
    }
    string_end(c, &s);
}

/* ---- STOS, LODS ---- */

static void fill(uint8_t *to, uint64_t n, unsigned width, uint64_t v)
{
    uint64_t repeated = width == 1   ? (v & 0xff) * UINT64_C(0x0101010101010101)
                        : width == 2 ? (v & 0xffff) * UINT64_C(0x0001000100010001)
                        : width == 4 ? (v & 0xffffffff) * UINT64_C(0x0000000100000001)
                                     : v;
    uint64_t bytes = n * width;
    if (repeated == (repeated & 0xff) * UINT64_C(0x0101010101010101)) {
        memset(to, (int)(repeated & 0xff), bytes);
        return;
    }
    uint64_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        memcpy(to + i, &repeated, 8);
    }
    memcpy(to + i, &repeated, bytes - i);
}

void op_stos(X86Cpu *c, const X86Insn *in)
{
    String s = string_begin(c, in);
    uint64_t v = x86_reg(c, PTA_X86_RAX * 8, s.width);
    for (unsigned i = 0; s.count > 0 && i < SLOW_MAX; i++) {
        uint64_t to = destination(c, in, &s, X86_WRITE);
        uint64_t n = 1;
        void *q = span(c, &s, PTA_X86_RDI, to, X86_WRITE, &n);
        if (q) {
            fill(q, n, s.width, v);
            i += SLOW_MAX / 4;
        } else {
            n = 1;
            x86_store(c, in, to, s.width, v);
        }
        advance(c, &s, PTA_X86_RDI, n);
        done(c, &s, n);
    }
    string_end(c, &s);
}

void op_lods(X86Cpu *c, const X86Insn *in)
{
    String s = string_begin(c, in);
    for (unsigned i = 0; s.count > 0 && i < SLOW_MAX; i++) {
        uint64_t v = x86_load(c, in, source(c, in, &s), s.width);
        x86_set_reg(c, PTA_X86_RAX * 8, s.width, v);
        advance(c, &s, PTA_X86_RSI, 1);
        done(c, &s, 1);
    }
    string_end(c, &s);
}

/* ---- SCAS, CMPS: end early by ZF ---- */

static void compare(X86Cpu *c, const X86Insn *in, uint64_t a, uint64_t b)
{
    uint64_t r = a - b;
    x86_flags_set(c, in->width, r, x86_carry_sub(a, b, r));
}

/* Whether the repetition goes on after comparing what was (or was not) equal. */
static bool goes_on(const X86Insn *in, bool equal)
{
    return equal == ((in->pfx & X86_PFX_REP) != 0);
}

/* The last comparison of this call decides; `ended`: by ZF. */
/* Flags are set at the end only: if an element faults, or between two runs of the same instruction,
 * they are those before it (SDM vol. 2, REP). */
static void compare_end(X86Cpu *c, const X86Insn *in, const String *s, uint64_t a, uint64_t b,
                        bool ended)
{
    compare(c, in, a, b);
    if (!ended) {
        string_end(c, s);
    }
}

void op_scas(X86Cpu *c, const X86Insn *in)
{
    String s = string_begin(c, in);
    uint64_t a = x86_reg(c, PTA_X86_RAX * 8, s.width), b = 0;
    bool ended = false;
    if (s.count == 0) {
        return;
    }
    for (unsigned i = 0; s.count > 0 && i < SLOW_MAX && !ended; i++) {
        uint64_t at = destination(c, in, &s, X86_READ);
        uint64_t n = 1, k = 0;
        const uint8_t *p = span(c, &s, PTA_X86_RDI, at, X86_READ, &n);
        if (p) {
            do {
                b = x86_peek(p + k * s.width, s.width);
                ended = !goes_on(in, a == b);
            } while (++k < n && !ended);
            i += SLOW_MAX / 4;
        } else {
            b = x86_load(c, in, at, s.width);
            ended = !goes_on(in, a == b);
            k = 1;
        }
        advance(c, &s, PTA_X86_RDI, k);
        done(c, &s, k);
    }
    compare_end(c, in, &s, a, b, ended);
}

void op_cmps(X86Cpu *c, const X86Insn *in)
{
    String s = string_begin(c, in);
    uint64_t a = 0, b = 0;
    bool ended = false;
    if (s.count == 0) {
        return;
    }
    for (unsigned i = 0; s.count > 0 && i < SLOW_MAX && !ended; i++) {
        uint64_t from = source(c, in, &s), to = destination(c, in, &s, X86_READ);
        uint64_t n_from = 1, n_to = 1, k = 0;
        const uint8_t *p = span(c, &s, PTA_X86_RSI, from, X86_READ, &n_from);
        const uint8_t *q = p ? span(c, &s, PTA_X86_RDI, to, X86_READ, &n_to) : NULL;
        if (q) {
            uint64_t n = MIN(n_from, n_to);
            do {
                a = x86_peek(p + k * s.width, s.width);
                b = x86_peek(q + k * s.width, s.width);
                ended = !goes_on(in, a == b);
            } while (++k < n && !ended);
            i += SLOW_MAX / 4;
        } else {
            b = x86_load(c, in, to, s.width); /* faults first, as on processors */
            a = x86_load(c, in, from, s.width);
            ended = !goes_on(in, a == b);
            k = 1;
        }
        advance(c, &s, PTA_X86_RSI, k);
        advance(c, &s, PTA_X86_RDI, k);
        done(c, &s, k);
    }
    compare_end(c, in, &s, a, b, ended);
}
