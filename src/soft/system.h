/*
 * What the files of the system part share: descriptors, privilege-changing stacks, task switches.
 * Included by seg.c, exception.c, task.c, system-*.c, msr.c and state.c only.
 */
#ifndef PTA_SOFT_SYSTEM_H
#define PTA_SOFT_SYSTEM_H

#include "src/soft/x86-cpu.h"

/* ---- descriptors (SDM vol. 3, 3.4.5, 3.5, 6.11) ---- */

/* Attributes, where X86Seg.attrs has them. */
enum {
    X86_ATTR_TYPE = 0xf,
    X86_ATTR_ACCESSED = 1 << 0,
    X86_ATTR_WRITE = 1 << 1,      /* data */
    X86_ATTR_READ = 1 << 1,       /* code */
    X86_ATTR_DOWN = 1 << 2,       /* data: expands down */
    X86_ATTR_CONFORMING = 1 << 2, /* code */
    X86_ATTR_CODE = 1 << 3,
    X86_ATTR_S = 1 << 4, /* code or data, not a system descriptor */
    X86_ATTR_DPL = 3 << 5,
    X86_ATTR_P = 1 << 7,
    X86_ATTR_L = 1 << 13,
    X86_ATTR_DB = 1 << 14,
    X86_ATTR_G = 1 << 15,
};

/* Types of system descriptors. */
enum {
    X86_TYPE_TSS16 = 1,
    X86_TYPE_LDT = 2,
    X86_TYPE_TSS16_BUSY = 3,
    X86_TYPE_CALL16 = 4,
    X86_TYPE_TASK_GATE = 5,
    X86_TYPE_INT16 = 6,
    X86_TYPE_TRAP16 = 7,
    X86_TYPE_TSS32 = 9, /* in long mode: of 64 bits, as are the following */
    X86_TYPE_TSS32_BUSY = 11,
    X86_TYPE_CALL32 = 12,
    X86_TYPE_INT32 = 14,
    X86_TYPE_TRAP32 = 15,
};

typedef struct X86Desc {
    uint32_t lo, hi;
    uint64_t lin; /* where it was read from */
} X86Desc;

static inline unsigned x86_desc_attrs(const X86Desc *d)
{
    return d->hi >> 8 & 0xf0ff;
}

static inline unsigned x86_attrs_dpl(unsigned attrs)
{
    return attrs >> 5 & 3;
}

/* Code and data: S is set. */
static inline bool x86_is_code(unsigned attrs)
{
    return (attrs & (X86_ATTR_S | X86_ATTR_CODE)) == (X86_ATTR_S | X86_ATTR_CODE);
}

static inline bool x86_is_data(unsigned attrs)
{
    return (attrs & (X86_ATTR_S | X86_ATTR_CODE)) == X86_ATTR_S;
}

static inline bool x86_is_writable_data(unsigned attrs)
{
    return x86_is_data(attrs) && (attrs & X86_ATTR_WRITE);
}

static inline bool x86_is_system(unsigned attrs, unsigned type)
{
    return (attrs & (X86_ATTR_S | X86_ATTR_TYPE)) == type;
}

static inline bool x86_null_selector(uint16_t selector)
{
    return (selector & ~3) == 0;
}

static inline bool x86_in_long_mode(const X86Cpu *c)
{
    return c->efer & X86_EFER_LMA;
}

static inline bool x86_in_64bit(const X86Cpu *c)
{
    return (c->mode & X86_MODE_SIZE) == X86_MODE_64;
}

static inline bool x86_protected(const X86Cpu *c)
{
    return c->cr0 & X86_CR0_PE;
}

static inline bool x86_in_vm86(const X86Cpu *c)
{
    return c->rflags & X86_VM;
}

static inline unsigned x86_iopl(const X86Cpu *c)
{
    return c->rflags >> 12 & 3;
}

/* Reads the descriptor of a selector that is not null; false if it is beyond its table. */
bool x86_desc_read(X86Cpu *c, const X86Insn *in, uint16_t selector, X86Desc *d);
/* The second half of a 16-byte descriptor (long mode): false if it is beyond its table; the base's
 * upper half. */
bool x86_desc_read_high(X86Cpu *c, const X86Insn *in, uint16_t selector, const X86Desc *d,
                        uint32_t *base_high, uint32_t *zero);
X86Seg x86_desc_segment(uint16_t selector, const X86Desc *d);
/* Sets the accessed bit in memory and in *d. */
void x86_desc_touch(X86Cpu *c, const X86Insn *in, X86Desc *d);
/* Sets or clears a TSS descriptor's busy bit. */
void x86_desc_set_busy(X86Cpu *c, const X86Insn *in, const X86Desc *d, bool busy);

/* A segment as real and virtual-8086 mode make it. */
X86Seg x86_vm86_segment(uint16_t selector);

/*
 * Checks a selector for SS at privilege `cpl` and gives the segment, accessed bit set. What is wrong
 * with it raises `vector` (#GP or #TS), a segment that is not present #SS; error code: selector.
 */
X86Seg x86_check_ss(X86Cpu *c, const X86Insn *in, uint16_t selector, unsigned cpl, unsigned vector);

/* The same for DS, ES, FS, GS at the current privilege; not present: #NP. */
X86Seg x86_check_data(X86Cpu *c, const X86Insn *in, uint16_t selector, unsigned vector);

/* RSP and SS for privilege `dpl` out of the current TSS; #TS. Long mode: only the former. */
void x86_tss_stack(X86Cpu *c, const X86Insn *in, unsigned dpl, uint16_t *ss, uint64_t *rsp);
uint64_t x86_tss_ist(X86Cpu *c, unsigned ist);

/* Returning to an outer privilege: data segments that it may not have become null. */
void x86_drop_inner_segments(X86Cpu *c);

/* ---- a stack being built or read; nothing is committed ---- */

typedef struct X86Stack {
    X86Cpu *c;
    const X86Insn *in;
    X86Seg seg;
    uint64_t sp;
    uint64_t mask;
    bool user;      /* who accesses it */
    bool flat;      /* 64-bit: neither base nor limit */
    uint32_t error; /* of the #SS that a bad address raises */
} X86Stack;

/* The current stack. */
X86Stack x86_stack(X86Cpu *c, const X86Insn *in);
void x86_stack_push(X86Stack *s, unsigned size, uint64_t value);
uint64_t x86_stack_pop(X86Stack *s, unsigned size);
/* The new RSP, with the bits that the stack's width leaves alone. */
uint64_t x86_stack_rsp(const X86Stack *s, uint64_t old);

/* Whether [offset, offset + size) is inside a segment of protected or real mode. */
bool x86_limit_ok(const X86Seg *s, uint64_t offset, unsigned size);

static inline bool x86_canonical(uint64_t lin)
{
    return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

/* New CS, with its RPL replaced by `cpl`, and CPL. x86_mode_changed() follows. */
static inline void x86_commit_cs(X86Cpu *c, const X86Seg *cs, unsigned cpl)
{
    c->seg[PTA_X86_CS] = *cs;
    c->seg[PTA_X86_CS].selector = (uint16_t)((cs->selector & ~3) | cpl);
    c->cpl = (uint8_t)cpl;
}

/* ---- tasks (task.c) ---- */

typedef enum X86TaskReason {
    X86_TASK_JMP,
    X86_TASK_CALL,
    X86_TASK_IRET,
    X86_TASK_GATE, /* interrupt or exception */
} X86TaskReason;

/* `d` is the new task's TSS descriptor, already found available (busy: IRET). c->rip is what the old
 * task will go on with. error: -1, or pushed on the new stack. Raises #TS and others. */
void x86_task_switch(X86Cpu *c, const X86Insn *in, uint16_t selector, const X86Desc *d,
                     X86TaskReason reason, int64_t error);
/* Through a task gate or TSS selector: all checks but the gate's own. */
void x86_task_switch_selector(X86Cpu *c, const X86Insn *in, uint16_t selector, X86TaskReason reason,
                              int64_t error);

/* ---- debugging ---- */

/* #DB and DR6. */
G_NORETURN void x86_raise_db(X86Cpu *c, const X86Insn *in, uint64_t dr6_bits, bool trap);

#endif
