/*
 * What a VP does between two instructions: exits, messages (INIT, SIPI, NMI), interrupts, timers,
 * and sleep while it is halted. The VP's thread, except x86_notify().
 *
 * How time passes without a system call: c->budget counts instructions; when it is used up the
 * engine comes here, the clock is read once (vDSO), and the next budget is as many instructions as
 * went by in LOOK_NS, or until the timer is due. A VP that runs so looks at its timer about every
 * 25 microseconds, and a timer that is due sooner shortens the budget.
 */
#include "config.h"

#define G_LOG_DOMAIN "soft"

#include "src/soft/lapic.h"
#include "src/soft/opcodes.h"
#include "src/soft/soft.h"

#define LOOK_NS    25000
#define BUDGET_MIN 256
#define BUDGET_MAX (1 << 20)
/* A halt this short is not worth a system call. */
#define SPIN_NS 2000

/* Anything but what only concerns the engine wakes a VP that sleeps. */
#define WAKES (~(uint32_t)(X86_ATT_STEP | X86_ATT_HALT))

/* ---- attention; any thread ---- */

void x86_notify(X86Cpu *c, uint32_t bits)
{
    x86_attend(c, bits);
    /* The sleeper looks at its attention with the lock held: it either sees the bits or is waiting
     * by the time that we have the lock. */
    g_mutex_lock(&c->wait_lock);
    g_cond_signal(&c->wait_cond);
    g_mutex_unlock(&c->wait_lock);
}

static uint32_t attention(const X86Cpu *c)
{
    return __atomic_load_n(&c->attention, __ATOMIC_SEQ_CST);
}

/* Clears the bits and says which of them were set. What they announce is looked at afterwards, so
 * that what comes meanwhile sets them anew. */
static uint32_t take(X86Cpu *c, uint32_t bits)
{
    if (!(attention(c) & bits)) {
        return 0;
    }
    return __atomic_fetch_and(&c->attention, ~bits, __ATOMIC_SEQ_CST) & bits;
}

/* ---- time ---- */

uint64_t x86_tsc(X86Cpu *c)
{
    return x86_tsc_ticks(c->machine, x86_clock_ns(c->machine)) + c->tsc_offset;
}

static void set_budget(X86Cpu *c, uint64_t now)
{
    uint64_t expiry = x86_lapic_next_expiry(c);
    uint64_t ns = expiry > now ? MIN(expiry - now, LOOK_NS) : 0;
    uint64_t insns = ns * c->look_rate / LOOK_NS;
    c->budget = c->look_budget = (int32_t)CLAMP(insns, BUDGET_MIN, BUDGET_MAX);
    c->look_ns = now;
}

/* The clock is looked at: the rate is that of the budget that has just been used up. */
static void look_at_clock(X86Cpu *c)
{
    uint64_t now = x86_clock_ns(c->machine);
    int64_t used = (int64_t)c->look_budget - c->budget;
    uint64_t ns = now - c->look_ns;
    if (used >= BUDGET_MIN && ns > 0 && ns < 100 * LOOK_NS) {
        uint64_t rate = (uint64_t)used * LOOK_NS / ns;
        c->look_rate = CLAMP((3 * (uint64_t)c->look_rate + rate) / 4, BUDGET_MIN, BUDGET_MAX);
    }
    x86_lapic_timer(c, now);
    set_budget(c, now);
}

void x86_timer_armed(X86Cpu *c)
{
    x86_attend(c, X86_ATT_TIMER);
}

/* ---- INIT, start-up, NMI ---- */

/* SDM vol. 3, table 9-1, the column of INIT: FPU, XMM, TSC and most MSRs stay. */
static void init_vp(X86Cpu *c)
{
    g_autofree PtaX86State *old = g_new(PtaX86State, 1);
    g_autofree PtaX86State *new = g_new(PtaX86State, 1);
    x86_get_state(c, old);
    pta_x86_state_reset(new, c->index, c->index == 0);
    new->regs.cr0 |= old->regs.cr0 &(X86_CR0_CD | X86_CR0_NW);
    new->regs.cr0 &= old->regs.cr0 | ~(uint64_t)(X86_CR0_CD | X86_CR0_NW);
    new->regs.xcr0 = old->regs.xcr0;
    new->msrs = old->msrs;
    new->xsave = old->xsave;
    g_autoptr(GError) error = NULL;
    if (!x86_set_state(c, new, &error)) {
        g_error("vp%u: INIT: %s", c->index, error->message); /* our own state: a bug */
    }
    x86_lapic_init(c);
    c->shadow = 0;
}

/* An AP starts in real mode at vector * 4096 (SDM vol. 3, 8.4.3). */
static void start_up(X86Cpu *c, uint8_t vector)
{
    if (c->events.activity != PTA_X86_WAIT_FOR_SIPI) {
        return;
    }
    X86Seg *cs = &c->seg[PTA_X86_CS];
    cs->selector = (uint16_t)(vector << 8);
    cs->base = (uint64_t)vector << 12;
    c->rip = 0;
    c->events.activity = PTA_X86_RUNNING;
    x86_mode_changed(c);
    x86_attend(c, X86_ATT_IRQ);
    g_debug("vp%u: started at 0x%x", c->index, vector << 12);
}

void x86_take_messages(X86Cpu *c)
{
    uint32_t got = take(c, X86_ATT_HALT | X86_ATT_INIT | X86_ATT_SIPI | X86_ATT_NMI);
    if (G_LIKELY(got == 0)) {
        return;
    }
    if ((got & X86_ATT_HALT) && c->events.activity == PTA_X86_RUNNING) {
        c->events.activity = PTA_X86_HALTED;
        c->stats[X86_STAT_HLT]++;
    }
    if (got & X86_ATT_INIT) {
        init_vp(c);
    }
    if (got & X86_ATT_SIPI) {
        start_up(c, x86_lapic_sipi_vector(c));
    }
    if (got & X86_ATT_NMI) {
        c->events.nmi_pending = 1;
    }
}

/* ---- interrupts ---- */

void x86_raise_pending(X86Cpu *c)
{
    X86Fault f = {
        .vector = c->events.vector,
        .has_error = c->events.has_error_code,
        .error = c->events.error_code,
        .cr2 = c->cr2,
    };
    c->events.exception_pending = 0;
    if (f.vector == X86_BP) { /* an INT3 that is done: RIP is behind it */
        x86_raise_int3(c);
    }
    x86_raise_fault(c, NULL, &f);
}

/* The debugger wants a step to be of the program that it looks at; what ends HLT is part of it. */
static bool blocked_by_debugger(const X86Cpu *c)
{
    return c->debug.block_interrupts && c->events.activity == PTA_X86_RUNNING;
}

/* True if RIP is now that of the handler. While NMIs are blocked it waits for IRET, which attends
 * X86_ATT_NMI. (A shadow is over by the time that the engine comes here.) */
static bool deliver_nmi(X86Cpu *c)
{
    if (G_LIKELY(!c->events.nmi_pending) || c->events.nmi_blocked || blocked_by_debugger(c)) {
        return false;
    }
    c->events.nmi_pending = 0;
    c->events.activity = PTA_X86_RUNNING;
    x86_attend(c, X86_ATT_IRQ); /* whatever else waits; delivery may not return */
    x86_interrupt(c, X86_NMI);
    return true;
}

/* The same; while IF is clear it waits for x86_set_rflags(), and behind a priority for EOI or TPR,
 * which attend X86_ATT_IRQ. */
static bool deliver_irq(X86Cpu *c)
{
    if (!take(c, X86_ATT_IRQ) || !(c->rflags & X86_IF) || blocked_by_debugger(c)) {
        return false;
    }
    int vector;
    if (x86_lapic_extint_pending(c)) {
        vector = x86_lapic_extint_accept(c);
    } else {
        vector = x86_lapic_pending(c);
        if (vector < 0) {
            return false;
        }
        x86_lapic_accept(c, (uint8_t)vector);
    }
    PTA_TRACE(PTA_TRACE_IRQ, "vp%u: interrupt 0x%x", c->index, (unsigned)vector);
    c->events.activity = PTA_X86_RUNNING;
    x86_attend(c, X86_ATT_IRQ);
    c->stats[X86_STAT_IRQ]++;
    x86_interrupt(c, (uint8_t)vector);
    return true;
}

/* ---- sleep ---- */

/* Outside, until there is attention or the clock is at `expiry`. */
static void sleep_until(X86Cpu *c, uint64_t now, uint64_t expiry)
{
    uint64_t left = expiry - now;
    /* The clock may run at another rate than the host's by no more than NTP slews it: whoever wakes
     * too early comes back here. */
    bool forever = expiry == UINT64_MAX || left > UINT64_C(1000000000) * 3600;
    int64_t until = g_get_monotonic_time() + (forever ? 0 : (int64_t)((left + 999) / 1000));
    x86_leave(c);
    g_mutex_lock(&c->wait_lock);
    while (!(attention(c) & WAKES)) {
        if (forever) {
            g_cond_wait(&c->wait_cond, &c->wait_lock);
        } else if (!g_cond_wait_until(&c->wait_cond, &c->wait_lock, until)) {
            break;
        }
    }
    g_mutex_unlock(&c->wait_lock);
    x86_enter(c);
}

/* A halted VP waits for attention or for its timer. */
static void sleep_halted(X86Cpu *c)
{
    uint64_t now = x86_clock_ns(c->machine);
    uint64_t expiry = x86_lapic_next_expiry(c);
    if (expiry > now && expiry - now > SPIN_NS) {
        sleep_until(c, now, expiry);
    }
}

/* ---- spin loops ---- */

/*
 * What a spin loop waits for is done by another VP, which may have no core while this one spins. So a
 * loop that has gone round for some 20 microseconds sleeps: longer and longer, at most about half as
 * long as it has already waited. (Yielding the core instead would give it to whoever else is on the
 * host for a whole time slice.) An interrupt ends the sleep, as does the timer.
 *
 * A fair lock that many VPs wait for is handed to one that sleeps, so the longest sleep is how long
 * handing it on takes; on the other hand all that wait wake up that often. So it grows with the
 * number of VPs, to where they need about half a core for it.
 */
#define PAUSES       400 /* before the first sleep, */
#define PAUSES_AGAIN 16  /* and between two */
#define PAUSE_GAP    128 /* so many instructions without PAUSE: it was not one loop */
#define PAUSE_US     10  /* the first sleep */
#define PAUSE_US_MAX 25  /* the longest one, times the number of VPs */

static uint64_t insns_now(const X86Cpu *c)
{
    return c->insns + (uint64_t)(int64_t)(c->budget_start - c->budget);
}

/* STI announces an interrupt whether there is one or not. */
static bool irq_waits(X86Cpu *c)
{
    if (!take(c, X86_ATT_IRQ)) {
        return false;
    }
    if (!x86_lapic_extint_pending(c) && x86_lapic_pending(c) < 0) {
        return false;
    }
    x86_attend(c, X86_ATT_IRQ);
    return true;
}

static void sleep_paused(X86Cpu *c)
{
    uint64_t now = x86_clock_ns(c->machine);
    uint64_t expiry = x86_lapic_next_expiry(c);
    if (expiry <= now || irq_waits(c) || (attention(c) & WAKES)) {
        return;
    }
    c->stats[X86_STAT_SPIN]++;
    c->pause_us = CLAMP(c->pause_us * 3 / 2, PAUSE_US, PAUSE_US_MAX * c->machine->n_vps);
    sleep_until(c, now, MIN(now + c->pause_us * UINT64_C(1000), expiry));
    /* The budget's time is over; what went by in it says nothing about how fast the VP is. */
    c->look_budget = c->budget;
    x86_attend(c, X86_ATT_TIMER);
}

void op_pause(X86Cpu *c, const X86Insn *in)
{
    (void)in;
    if (c->machine->n_vps == 1 || c->machine->stepping) {
        return;
    }
    uint64_t at = insns_now(c);
    if (at - c->pause_at > PAUSE_GAP) {
        c->pauses = 0;
        c->pause_us = 0;
    }
    c->pause_at = at;
    if (++c->pauses >= PAUSES) {
        c->pauses = PAUSES - PAUSES_AGAIN;
        sleep_paused(c);
    }
}

/* ---- what the engine calls ---- */

bool x86_service(X86Cpu *c)
{
    for (;;) {
        x86_take_messages(c); /* before an exit: they are part of the state that it leaves */
        if (take(c, X86_ATT_EXIT)) {
            return false;
        }
        if (take(c, X86_ATT_KICK)) {
            c->stats[X86_STAT_KICK]++;
            c->exit = (PtaExit){ .reason = PTA_EXIT_INTERRUPTED };
            return false;
        }
        if (take(c, X86_ATT_FLUSH)) {
            x86_blocks_attend(c);
            x86_world_attend(c);
        }
        if (c->budget <= 0 || take(c, X86_ATT_TIMER) || c->events.activity == PTA_X86_HALTED) {
            look_at_clock(c);
        }
        if (G_UNLIKELY(c->events.exception_pending)) {
            x86_raise_pending(c);
        }
        if (c->events.activity == PTA_X86_WAIT_FOR_SIPI ||
            c->events.activity == PTA_X86_SHUTDOWN) { /* it has been reported; only INIT ends it */
            take(c, X86_ATT_IRQ);                     /* stays in IRR */
        } else if (deliver_nmi(c) || deliver_irq(c)) {
            return true;
        }
        if (c->events.activity == PTA_X86_RUNNING) {
            return true;
        }
        sleep_halted(c);
    }
}
