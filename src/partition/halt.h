/*
 * Why guest execution stops for good, and the counter that makes it stop. Shared by VPs and devices:
 * whoever sees a reason calls pta_halt(), and from the moment it returns no VP enters guest code.
 *
 * The counter and the queued reasons are one to one (reference: OpenVMM's Halt): a second halt that
 * races with the first is neither lost nor merged; it is taken, and either reported or let go, by
 * its own pta_halt_clear().
 */
#ifndef PTA_HALT_H
#define PTA_HALT_H

#include "src/partition/x86-disasm.h"
#include "src/util/util.h"

typedef enum PtaHaltKind {
    PTA_HALT_POWER_OFF,
    PTA_HALT_RESET,
    PTA_HALT_HIBERNATE,
    PTA_HALT_TRIPLE_FAULT,
    PTA_HALT_PANIC, /* the guest said so (Hyper-V crash registers, panic device) */
    PTA_HALT_DEBUG_BREAK,
    PTA_HALT_SINGLE_STEP,
    PTA_HALT_HW_BREAKPOINT, /* an execution breakpoint or watchpoint of the debugger's */
    PTA_HALT_SW_BREAKPOINT, /* INT3, with a debugger that asked for them */
    PTA_HALT_WATCHDOG,
    PTA_HALT_INTERNAL_ERROR, /* the back end cannot go on */
    PTA_HALT_DEBUG_EXIT,     /* a test guest ends the process with `code` */
    PTA_HALT_REPLAY_MTRRS,   /* internal: never seen by a client */
    PTA_N_HALTS,
} PtaHaltKind;

const char *pta_halt_kind_name(PtaHaltKind kind); /* "triple-fault" */
/* False if it is none of the names. */
bool pta_halt_kind_parse(const char *name, PtaHaltKind *kind);

/* Made for a debugger, and nobody else's: it lasts as long as the debugger holds the VPs. */
bool pta_halt_kind_is_debuggers(PtaHaltKind kind);

/* How much of the code around a triple fault is kept. */
#define PTA_HALT_INSNS_BEFORE 4
#define PTA_HALT_INSNS_AFTER  3

typedef struct PtaHaltReason {
    PtaHaltKind kind;
    bool has_vp;
    unsigned vp;
    uint32_t code; /* DEBUG_EXIT: exit status; PANIC: reason bits; WATCHDOG: 1 for a shutdown */
    bool has_regs;
    PtaX86Regs regs; /* of `vp`, if has_regs */
    uint64_t dr6;    /* SINGLE_STEP, HW_BREAKPOINT: which condition (SDM vol. 3, 17.2.3) */
    char text[192];  /* for people: the decoded instruction, the back end's error */
    int64_t time_us; /* wall clock, when it happened */
    /* TRIPLE_FAULT: what stands around regs.rip; empty if that cannot be read. Filled in when the
     * halt is taken. */
    PtaX86DisasmLine insns[PTA_HALT_INSNS_BEFORE + 1 + PTA_HALT_INSNS_AFTER];
    unsigned n_insns;
} PtaHaltReason;

typedef struct PtaHalt PtaHalt;

/* Called, in the thread of the halt and under the lock, to make VPs look: must only kick. */
typedef void PtaHaltWakeFn(void *opaque);

/* MAIN. `notify` runs in the main thread soon after a halt: it takes all that there are. */
PtaHalt *pta_halt_new(PtaMainFn *notify, void *data);
void pta_halt_free(PtaHalt *halt);

/* At most one waker. NULL removes it. Any thread. */
void pta_halt_set_waker(PtaHalt *halt, PtaHaltWakeFn *wake, void *opaque);

/* Any thread. The reason is copied. */
void pta_halt(PtaHalt *halt, const PtaHaltReason *reason);

/* Whether VPs have to stay out. Any thread. */
bool pta_halt_pending(PtaHalt *halt);

/* MAIN. The oldest reason that has not been taken; NULL if there is none. Free with g_free. */
PtaHaltReason *pta_halt_take(PtaHalt *halt);

/* MAIN. Lets one halt go; more clears than halts are our bug. */
void pta_halt_clear(PtaHalt *halt);

/* MAIN. Counts a halt that has been taken already: a saved one, restored. */
void pta_halt_count(PtaHalt *halt);
/* Halts that were counted and not cleared. Any thread. */
unsigned pta_halt_outstanding(PtaHalt *halt);

#endif
