/*
 * The engine: runs blocks one after another until something wants attention, takes exceptions, and
 * single-steps where that is needed. Runs in the VP's thread.
 */
#include "config.h"

#include <string.h>

#include "src/soft/engine.h"
#include "src/soft/soft.h"

/* ---- what every instruction does around its handler ---- */

X86_INLINE void preset_rip(X86Cpu *c, const X86Insn *in)
{
    uint64_t next = x86_next_rip(c, in);
    c->rip = (c->mode & X86_MODE_SIZE) == X86_MODE_64 ? next : (uint32_t)next;
}

/*
 * One wrapper per row. Rows that may change what comes next go on by looking it up; a string
 * instruction that is not done goes on at itself.
 */
#define WRAP(key, handler_, props_)                                                \
    static void exec_##key(X86Cpu *c, const X86Insn *in)                           \
    {                                                                              \
        if ((props_)&X86_P_ENDS || (handler_) == op_jmp || (handler_) == op_jcc || \
            (handler_) == op_call || (handler_) == op_ret) {                       \
            preset_rip(c, in);                                                     \
            c->budget -= in->n;                                                    \
            handler_(c, in);                                                       \
            X86_CALL_TAIL(x86_exec_dispatch, c, in);                               \
        }                                                                          \
        handler_(c, in);                                                           \
        if (((props_)&X86_P_REP) && G_UNLIKELY(c->string_again)) {                 \
            c->string_again = false;                                               \
            c->rip = x86_rip(c, in);                                               \
            c->budget -= in->n;                                                    \
            X86_CALL_TAIL(x86_exec_dispatch, c, in);                               \
        }                                                                          \
        X86_NEXT(c, in);                                                           \
    }
#define X(key, handler, feature, undefined, props) WRAP(key, op_##handler, props)
#define P(key, handler, feature, undefined, props) WRAP(key, op_##handler, props)
#include "src/soft/opcodes.def"
#undef X
#undef P

const X86Row x86_rows[] = {
    { "INVALID", x86_raise_ud_row, x86_exec_ud, 0, PTA_X86_FEAT_BASE, 0, 0 },
#define X(key_, handler_, feature_, undefined_, props_)                                       \
    { #key_,      op_##handler_, exec_##key_, ZYDIS_MNEMONIC_##key_, PTA_X86_FEAT_##feature_, \
      undefined_, props_ },
#define P(key_, handler_, feature_, undefined_, props_)                                  \
    {                                                                                    \
        #key_,      op_##handler_, exec_##key_, X86_KEY_##key_, PTA_X86_FEAT_##feature_, \
        undefined_, props_                                                               \
    },
#include "src/soft/opcodes.def"
#undef X
#undef P
};

void x86_exec_dispatch(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    if (x86_wanted(c)) {
        return;
    }
    uint64_t lin = c->rip + c->seg_base[PTA_X86_CS];
    const X86Block *b = c->blocks->jump[x86_jump_slot(lin)];
    if (G_LIKELY(b->lin == lin && b->key == x86_key(c))) {
        c->gpr[X86_R_CODE] = c->rip - (lin & ~PTA_PAGE_MASK);
        X86_GO(c, b->insns);
    }
    X86_GO(c, x86_block_find(c, 0));
}

/* A direct branch without a link, or a wanted VP; budget is already counted. */
void x86_exec_branch_slow(X86Cpu *c, const X86Insn *in)
{
    uint64_t target = x86_next_rip(c, in) + in->imm;
    if (G_UNLIKELY((int64_t)(target << 16) >> 16 != (int64_t)target)) {
        if (in->row == X86_ROW_CALL) {
            c->gpr[PTA_X86_RSP] += 8; /* the fault undoes the push */
        }
        x86_check_target(c, in, target);
    }
    c->rip = target;
    if (x86_wanted(c)) {
        return;
    }
    uint32_t flushes = c->blocks->flushes;
    const X86Insn *to = x86_block_find(c, 0);
    const X86Block *b =
        (const X86Block *)(const void *)((const char *)to - offsetof(X86Block, insns));
    if (flushes == c->blocks->flushes && b->key != X86_KEY_NONE) {
        X86Insn *from = (X86Insn *)(uintptr_t)in; /* the engine's own, see block.c */
        bool near = in->off + in->len + in->imm < PTA_PAGE_SIZE;
        from->aux = near ? (uintptr_t)to : (uintptr_t)b;
    }
    X86_GO(c, to);
}

void x86_exec_jump_near(X86Cpu *c, const X86Insn *in)
{
    X86_BRANCH_NEAR(c, in);
}

void x86_exec_jump_far(X86Cpu *c, const X86Insn *in)
{
    X86_BRANCH_FAR(c, in);
}

void x86_exec_jump_slow(X86Cpu *c, const X86Insn *in)
{
    c->budget -= in->n;
    c->rip = (uint32_t)x86_rip(c, in);
    X86_CALL_TAIL(x86_exec_dispatch, c, in);
}

void x86_exec_redispatch(X86Cpu *c, const X86Insn *in)
{
    c->budget -= in->n - 1;
    uint64_t rip = x86_rip(c, in);
    c->rip = (c->mode & X86_MODE_SIZE) == X86_MODE_64 ? rip : (uint32_t)rip;
    X86_CALL_TAIL(x86_exec_dispatch, c, in);
}

void x86_exec_break(X86Cpu *c, const X86Insn *in)
{
    c->budget -= in->n - 1;
    uint64_t rip = x86_rip(c, in);
    c->rip = (c->mode & X86_MODE_SIZE) == X86_MODE_64 ? rip : (uint32_t)rip;
    x86_attend(c, X86_ATT_STEP);
}

void x86_raise_ud_row(X86Cpu *c, const X86Insn *in)
{
    x86_raise_ud(c, in);
}

void x86_exec_ud(X86Cpu *c, const X86Insn *in)
{
    x86_raise_ud(c, in);
}

void x86_exec_gp(X86Cpu *c, const X86Insn *in)
{
    x86_raise_gp(c, in, 0);
}

void x86_exec_unknown(X86Cpu *c, const X86Insn *in)
{
    x86_give_up(c, in, "that the software CPU does not know");
}

/* An x87, MMX or SSE instruction while CR0 and CR4 may forbid it (SDM vol. 3, 2.5, table 13-1). */
void x86_exec_fp_gate(X86Cpu *c, const X86Insn *in)
{
    enum { EM = 1 << 2, TS = 1 << 3, OSFXSR = 1 << 9 };
    const X86Row *row = &x86_rows[in->row];
    /* The MMX form of a mnemonic that has both; CVTPI2PS and its like (2A to 2D) are SSE's. */
    const bool mmx = row->props & X86_P_MMX &&
                     !(in->pfx & (X86_PFX_OPSIZE | X86_PFX_REP | X86_PFX_REPNE)) &&
                     (in->opcode < 0x2a || in->opcode > 0x2d);
    if (!(row->props & X86_P_X87) && (c->cr0 & EM)) {
        x86_raise_ud(c, in);
    }
    if ((row->props & X86_P_SSE) && !mmx && !(c->cr4 & OSFXSR)) {
        x86_raise_ud(c, in);
    }
    if (c->cr0 & (TS | ((row->props & X86_P_X87) ? EM : 0))) {
        x86_raise(c, in, X86_NM, -1);
    }
    X86_CALL_TAIL(row->exec, c, in);
}

/* ---- effective addresses outside 64-bit mode ---- */

uint64_t x86_ea_offset(const X86Cpu *c, const X86Insn *in)
{
    uint64_t offset =
        c->gpr[in->base] + (c->gpr[in->index] << in->scale) + (uint64_t)(int64_t)in->disp;
    if (G_UNLIKELY(in->ea & X86_EA_RIP)) {
        offset += in->off + in->len;
    }
    if (in->ea & X86_EA_A32) {
        return (uint32_t)offset;
    }
    return in->ea & X86_EA_A16 ? (uint16_t)offset : offset;
}

uint64_t x86_ea_slow(X86Cpu *c, const X86Insn *in, unsigned size, X86Access access)
{
    uint64_t offset = x86_ea_offset(c, in);
    if (in->ea & X86_EA_CHECK) {
        return x86_seg_check(c, in, in->seg, offset, size, access);
    }
    return offset + c->seg_base[in->seg];
}

/* ---- single-stepping (debug.c knows why and what for) ---- */

/* Runs one instruction; false: c->exit is set. */
static bool step_one(X86Cpu *c)
{
    uint8_t shadow = c->shadow;
    uint64_t rip = c->rip;
    bool rf = (c->rflags & X86_RF) != 0;
    if (!x86_step_begin(c)) {
        return false;
    }
    const X86Insn *in = x86_block_find(c, X86_MODE_ONE);
    unsigned row = in->row; /* the block may die */
    c->shadow = 0;
    x86_attend(c, X86_ATT_STEP); /* so that the chain ends after one */
    c->stepping = true;
    x86_chain(c, in);
    c->stepping = false;
    if (shadow) {
        c->shadow = 0; /* a shadow does not renew itself */
    }
    if (rf && c->rip == rip && (x86_rows[row].props & X86_P_REP)) {
        c->rflags |= X86_RF; /* the string instruction is not done */
    }
    x86_step_end(c);
    return true;
}

/* ---- running ---- */

#define BUDGET_DEFAULT 10000

static void count(X86Cpu *c)
{
    c->insns += (uint64_t)(int64_t)(c->budget_start - c->budget);
    c->stats[X86_STAT_INSNS] = c->insns;
    c->budget_start = c->budget;
}

/* False: leave x86_run(). */
static bool serve(X86Cpu *c)
{
    count(c);
    bool go_on = x86_service(c);
    if (c->budget <= 0) {
        c->budget = BUDGET_DEFAULT;
    }
    c->budget_start = c->budget;
    return go_on;
}

static void clear_step(X86Cpu *c)
{
    if (!x86_step_needed(c)) {
        __atomic_fetch_and(&c->attention, ~(uint32_t)X86_ATT_STEP, __ATOMIC_SEQ_CST);
    }
}

static const X86Insn enter = { .exec = x86_exec_dispatch };

/* Returns when an exit is to be reported; exceptions leave it by longjmp. */
static void run_until_exit(X86Cpu *c)
{
    for (;;) {
        uint32_t attention = __atomic_load_n(&c->attention, __ATOMIC_SEQ_CST);
        if (c->budget <= 0 || (attention & ~(uint32_t)X86_ATT_STEP)) {
            if (c->shadow && !(attention & (X86_ATT_EXIT | X86_ATT_HALT))) {
                attention |= X86_ATT_STEP; /* first one more instruction */
            } else if (!serve(c)) {
                return;
            } else if (__atomic_load_n(&c->attention, __ATOMIC_RELAXED) & X86_ATT_EXIT) {
                continue; /* an interrupt was delivered, and that is the debugger's step */
            }
        }
        if (attention & X86_ATT_STEP) {
            c->budget--;
            if (step_one(c)) {
                clear_step(c);
            }
            continue;
        }
        if (!x86_wanted(c)) {
            x86_chain(c, &enter);
        }
    }
}

/* An exception is to be delivered, or an instruction begins again. */
static void after_unwinding(X86Cpu *c)
{
    c->stepping = false;
    c->string_again = false;
    if (c->restart) {
        c->restart = false;
        return;
    }
    c->shadow = 0;
    x86_deliver(c);
}

void x86_run(X86Cpu *c, PtaExit *exit)
{
    x86_fpu_enter(c);
    x86_enter(c);
    if (x86_step_needed(c)) {
        x86_attend(c, X86_ATT_STEP);
    }
    c->budget_start = c->budget;
    c->in_engine = true;
    if (_setjmp(c->unwind)) {
        c->budget--; /* so that a loop of faults is interruptible */
        after_unwinding(c);
    }
    run_until_exit(c);
    c->in_engine = false;
    count(c);
    x86_leave(c);
    x86_fpu_leave(c);
    *exit = c->exit;
}

void x86_step(X86Cpu *c)
{
    x86_fpu_enter(c);
    c->in_engine = true;
    if (_setjmp(c->unwind) == 0) {
        step_one(c);
    } else {
        after_unwinding(c);
    }
    clear_step(c);
    c->in_engine = false;
    x86_fpu_leave(c);
}

void x86_give_up(X86Cpu *c, const X86Insn *in, const char *why)
{
    g_assert(c->machine->stepping);
    uint8_t bytes[15];
    unsigned n = 0;
    if (in->exec == x86_exec_unknown) {
        n = c->blocks->n_bytes;
        memcpy(bytes, c->blocks->bytes, n);
    } else {
        for (; n < in->len; n++) { /* it was fetched a moment ago */
            uint64_t gpa;
            X86Fault fault;
            if (!x86_walk(c, c->seg_base[PTA_X86_CS] + x86_rip(c, in) + n, X86_FETCH, c->cpl == 3,
                          false, &gpa, &fault)) {
                break;
            }
            const uint8_t *host = x86_phys_host(c, gpa, NULL);
            bytes[n] = host ? __atomic_load_n(host, __ATOMIC_RELAXED) : 0xff;
        }
    }
    char hex[sizeof(bytes) * 3 + 1] = "";
    for (unsigned i = 0; i < n; i++) {
        g_snprintf(hex + i * 3, 4, " %02x", bytes[i]);
    }
    c->exit = (PtaExit){ .reason = PTA_EXIT_INTERNAL_ERROR };
    g_snprintf(c->exit.error.text, sizeof(c->exit.error.text),
               "an instruction %s, at 0x%" G_GINT64_MODIFIER "x:%s", why, x86_rip(c, in), hex);
    x86_restart(c, in);
}

/* The exception that was pending, or one instruction. */
static void run_one(X86Cpu *c)
{
    if (c->events.exception_pending) {
        x86_raise_pending(c);
    }
    step_one(c);
}

void x86_run_one(X86Cpu *c, PtaExit *exit)
{
    const uint64_t rflags = c->rflags;
    const uint8_t shadow = c->shadow;
    c->exit = (PtaExit){ .reason = PTA_EXIT_INTERRUPTED };
    if (c->events.activity != PTA_X86_RUNNING && !c->events.exception_pending) {
        *exit = c->exit;
        return;
    }
    c->budget = c->budget_start = BUDGET_DEFAULT;
    x86_fpu_enter(c);
    x86_enter(c);
    c->in_engine = true;
    if (_setjmp(c->unwind)) {
        after_unwinding(c);
    } else {
        run_one(c);
    }
    c->in_engine = false;
    count(c);
    x86_leave(c);
    x86_fpu_leave(c);
    if (c->exit.reason == PTA_EXIT_INTERNAL_ERROR) {
        c->rflags = rflags;
        c->shadow = shadow;
    }
    if (__atomic_load_n(&c->attention, __ATOMIC_RELAXED) & X86_ATT_HALT) {
        c->events.activity = PTA_X86_HALTED;
    }
    c->debug_hits = 0;
    __atomic_store_n(&c->attention, 0, __ATOMIC_SEQ_CST);
    x86_tlb_flush(c, true);
    x86_pdptes_stale(c);
    *exit = c->exit;
}

void x86_engine_init(void)
{
    x86_row_of(0);
}
