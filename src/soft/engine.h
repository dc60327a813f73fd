/*
 * How decoded instructions follow one another: inside the engine only (engine.c, block.c, int-*.c).
 *
 * X86Insn.exec does its instruction and then runs what follows, by a sibling call: the stack never
 * grows. Where the compiler does not promise that (sanitizers, -O0), exec leaves the next
 * instruction in c->resume and x86_chain() goes round a loop.
 */
#ifndef PTA_SOFT_ENGINE_H
#define PTA_SOFT_ENGINE_H

#include "src/soft/decode.h"

#define X86_INLINE static inline __attribute__((always_inline))

#if defined(__clang__) && !defined(PTA_SANITIZED)
#define X86_SIBLING_CALLS 1
#define X86_TAIL          __attribute__((musttail)) return
#elif defined(__OPTIMIZE__) && !defined(PTA_SANITIZED)
#define X86_SIBLING_CALLS 1
#define X86_TAIL          return
#else
#define X86_SIBLING_CALLS 0
#endif

#if X86_SIBLING_CALLS
#define X86_GO(c, insn)               \
    do {                              \
        const X86Insn *go_ = (insn);  \
        X86_TAIL go_->exec((c), go_); \
    } while (0)
#define X86_CALL_TAIL(fn, c, in) X86_TAIL fn((c), (in))
#else
#define X86_GO(c, insn)       \
    do {                      \
        (c)->resume = (insn); \
        return;               \
    } while (0)
#define X86_CALL_TAIL(fn, c, in) \
    do {                         \
        fn((c), (in));           \
        return;                  \
    } while (0)
#endif
#define X86_NEXT(c, in) X86_GO(c, (in) + 1)

/* Runs a chain of blocks until something wants attention. */
static inline void x86_chain(X86Cpu *c, const X86Insn *first)
{
#if X86_SIBLING_CALLS
    first->exec(c, first);
#else
    for (const X86Insn *in = first; in;) {
        c->resume = NULL;
        in->exec(c, in);
        in = c->resume;
    }
#endif
}

/* ---- blocks ---- */

#define X86_BLOCK_MAX 32 /* instructions */

/* Bits of X86_MODE_ENGINE. */
#define X86_MODE_ONE (1u << 28) /* a block of one instruction, for single-stepping */

typedef struct X86Block X86Block;
struct X86Block {
    uint64_t lin; /* where it was last found … */
    uint64_t key; /* … in which mode and generation; X86_KEY_NONE: look it up */
    uint64_t gpa;
    uint64_t gpa2; /* the second page, if the (only) instruction crosses into one; else 0 */
    X86Block *hash_next;
    X86Block *page_next;
    X86Block *cross_next;
    uint32_t mode;
    uint16_t len;    /* bytes of code */
    uint8_t n;       /* instructions */
    uint8_t n_slots; /* the same, or one more for a jump to what follows */
    X86Insn insns[];
};

/* mode 0xffffffff does not exist. */
#define X86_KEY_NONE  UINT64_C(0xffffffff)

#define X86_JUMP_BITS 12
#define X86_JUMP_SIZE (1u << X86_JUMP_BITS)

typedef struct X86CodePage X86CodePage;
#define X86_HASH_SIZE  8192u
#define X86_PAGES_SIZE 1024u

/* What others asked this VP to do (X86_ATT_FLUSH). */
typedef struct X86CodeRequest {
    uint64_t gpa;
    uint32_t len; /* 0: only drop write access to the page */
} X86CodeRequest;
#define X86_MAX_REQUESTS 32

struct X86BlockCache {
    X86Block *jump[X86_JUMP_SIZE]; /* by linear address; never NULL */
    X86Block *hash[X86_HASH_SIZE]; /* by guest-physical address */
    X86CodePage *pages[X86_PAGES_SIZE];
    X86CodePage *free_pages;
    X86CodePage *last_page;
    X86Decoder decoder;
    uint8_t *arena;
    size_t arena_used, arena_size;
    uint32_t flushes;  /* links made before the last flush are void */
    uint8_t bytes[15]; /* a stepper's: of the last instruction that could not be decoded */
    uint8_t n_bytes;

    GMutex lock;
    X86CodeRequest requests[X86_MAX_REQUESTS]; /* LOCKED(lock) */
    unsigned n_requests;
    bool drop_code;  /* LOCKED(lock): too many: drop all blocks, */
    bool drop_write; /* LOCKED(lock): or only all write entries */
    bool drop_clean; /* LOCKED(lock): write entries of pages that the dirty log has as clean */
    uint64_t asked;  /* ATOMIC: number of the last request */
    uint64_t done;   /* ATOMIC: number of the last request that was honoured */
};

static inline uint64_t x86_key(const X86Cpu *c)
{
    uint64_t key;
    __builtin_memcpy(&key, &c->mode, sizeof(key));
    return key;
}

static inline unsigned x86_jump_slot(uint64_t lin)
{
    return (unsigned)(lin ^ lin >> X86_JUMP_BITS) & (X86_JUMP_SIZE - 1);
}

extern X86Block x86_no_block; /* matches nothing */

static inline bool x86_wanted(const X86Cpu *c)
{
    return c->budget <= 0 || __atomic_load_n(&c->attention, __ATOMIC_RELAXED) != 0;
}

/* The instruction at c->rip, decoded if need be; c->gpr[X86_R_CODE] is set. May raise. `extra`:
 * X86_MODE_ONE or 0. */
const X86Insn *x86_block_find(X86Cpu *c, uint32_t extra);

/* exec functions. */
X86Handler x86_raise_ud_row;
X86Handler x86_exec_dispatch;    /* goes on at c->rip */
X86Handler x86_exec_branch_slow; /* direct branch: goes on at its target, and links */
X86Handler x86_exec_redispatch;  /* the block died: looks for this instruction again */
X86Handler x86_exec_break;       /* may be a breakpoint of the debugger: goes on as a single step */
X86Handler x86_exec_ud, x86_exec_gp, x86_exec_fp_gate;
X86Handler x86_exec_unknown; /* a stepper's: there may be such an instruction */
X86Handler x86_exec_jump_near, x86_exec_jump_far, x86_exec_jump_slow;

/* Direct branch taken, target in the same page / anywhere (64-bit mode only). */
#define X86_BRANCH_NEAR(c, in)                                      \
    do {                                                            \
        const X86Insn *to_ = (const X86Insn *)(uintptr_t)(in)->aux; \
        (c)->budget -= (in)->n;                                     \
        if (G_UNLIKELY(!to_ || x86_wanted(c))) {                    \
            X86_CALL_TAIL(x86_exec_branch_slow, c, in);             \
        }                                                           \
        X86_GO(c, to_);                                             \
    } while (0)

#define X86_BRANCH_FAR(c, in)                                                             \
    do {                                                                                  \
        const X86Block *to_ = (const X86Block *)(uintptr_t)(in)->aux;                     \
        uint64_t target_ = x86_next_rip(c, in) + (in)->imm;                               \
        (c)->budget -= (in)->n;                                                           \
        if (G_UNLIKELY(to_->lin != target_ || to_->key != x86_key(c) || x86_wanted(c))) { \
            X86_CALL_TAIL(x86_exec_branch_slow, c, in);                                   \
        }                                                                                 \
        (c)->gpr[X86_R_CODE] = target_ & ~UINT64_C(0xfff);                                \
        X86_GO(c, to_->insns);                                                            \
    } while (0)

/* Indirect branch, 64-bit mode; the target was checked (or is checked by the miss). */
#define X86_BRANCH_TO(c, in, target)                                                      \
    do {                                                                                  \
        uint64_t to_rip_ = (target);                                                      \
        const X86Block *to_ = (c)->blocks->jump[x86_jump_slot(to_rip_)];                  \
        (c)->budget -= (in)->n;                                                           \
        if (G_UNLIKELY(to_->lin != to_rip_ || to_->key != x86_key(c) || x86_wanted(c))) { \
            (c)->rip = to_rip_;                                                           \
            X86_CALL_TAIL(x86_exec_dispatch, c, in);                                      \
        }                                                                                 \
        (c)->gpr[X86_R_CODE] = to_rip_ & ~UINT64_C(0xfff);                                \
        X86_GO(c, to_->insns);                                                            \
    } while (0)

/* ---- selection of specialised handlers (int-*.c) ---- */

typedef struct X86Select {
    bool wide;       /* 64-bit mode */
    bool flags_dead; /* nobody will see the flags that this instruction sets */
    bool near;       /* direct branch within the page */
    bool last;       /* nothing follows in the block */
} X86Select;

/* NULL: none, take the row's. */
X86Handler *x86_select(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_alu(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_unary(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_shift(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_mul(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_move(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_cond(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_stack(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_branch(const X86Insn *in, const X86Select *s);
X86Handler *x86_select_sse(const X86Insn *in, const X86Select *s); /* sse-fast.c */
/* For in[0] and in[1] together; near: in[1]'s. */
X86Handler *x86_select_fused(const X86Insn *in, bool near);

#endif
