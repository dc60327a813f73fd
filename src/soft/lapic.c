/*
 * The local APIC's registers, priorities, messages to itself and its timer. Who gets an interrupt
 * message is in ipi.c.
 *
 * The timer's input clock ticks once a nanosecond of the partition's clock (X86_APIC_HZ), so only a
 * deadline is converted.
 */
#include "config.h"

#define G_LOG_DOMAIN "soft"

#include "src/soft/lapic-priv.h"

#include <string.h>

#include "src/partition/x86-state-check.h"

/* The page's registers, by offset / 16, which is also the x2APIC MSR less 800H. */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR2 = 0x31,
    REG_LVT = 0x32, /* timer, thermal, performance, LINT0, LINT1, error */
    REG_ICOUNT = 0x38,
    REG_CCOUNT = 0x39,
    REG_DCR = 0x3e,
    REG_SELF_IPI = 0x3f,
};

enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR };

#define LVT_MASKED          (UINT32_C(1) << 16)
#define LVT_MODE            (UINT32_C(3) << 17)
#define LVT_ONE_SHOT        (UINT32_C(0) << 17)
#define LVT_PERIODIC        (UINT32_C(1) << 17)
#define LVT_DEADLINE        (UINT32_C(2) << 17)
#define LAPIC_VERSION       UINT32_C(0x01050014) /* six LVT entries, EOI broadcast suppression */
#define SVR_NO_EOI_CAST     (UINT32_C(1) << 12)
#define SVR_MASK            UINT32_C(0x13ff)
#define DFR_ONES            UINT32_C(0x0fffffff)
#define ICR_MASK            UINT32_C(0xccfff)
#define DCR_MASK            UINT32_C(0xb)

#define BASE_BSP            (UINT64_C(1) << 8)
#define BASE_EXTD           (UINT64_C(1) << 10)
#define BASE_ENABLE         (UINT64_C(1) << 11)

#define ESR_SEND_ILLEGAL    (1u << 5)
#define ESR_RECEIVE_ILLEGAL (1u << 6)
#define ESR_ILLEGAL_REG     (1u << 7)

#define OFF                 UINT64_MAX /* timer_expiry: not armed */

static bool has(const X86Lapic *l, PtaX86Feature f)
{
    return pta_cpuid_has(l->cpu->cpuid, f);
}

static uint32_t lvt_mask(const X86Lapic *l, unsigned i)
{
    switch (i) {
    case LVT_TIMER:
        return has(l, PTA_X86_FEAT_TSC_DEADLINE) ? 0x700ff : 0x300ff;
    case LVT_LINT0:
    case LVT_LINT1:
        return 0x1a7ff;
    case LVT_ERROR:
        return 0x100ff;
    default:
        return 0x107ff;
    }
}

/* ---- sets of vectors ---- */

static int highest(const uint32_t set[8])
{
    for (int i = 7; i >= 0; i--) {
        uint32_t w = x86_get(&set[i]);
        if (w) {
            return i * 32 + 31 - __builtin_clz(w);
        }
    }
    return -1;
}

static void update_ppr(X86Lapic *l)
{
    int isrv = highest(l->isr);
    uint32_t in_service = isrv < 0 ? 0 : (uint32_t)isrv & 0xf0;
    x86_put(&l->ppr, (l->tpr & 0xf0) >= in_service ? l->tpr : in_service);
}

/* Priorities went down: something that waited may go now. */
static void look_again(X86Lapic *l)
{
    update_ppr(l);
    int irrv = highest(l->irr);
    if (irrv >= 0 && ((uint32_t)irrv & 0xf0) > (l->ppr & 0xf0)) {
        x86_attend(l->cpu, X86_ATT_IRQ);
    }
}

/* ---- messages that arrive; any thread ---- */

void x86_lapic_post(X86Lapic *l, uint8_t vector, bool level)
{
    if (vector < 16) {
        __atomic_fetch_or(&l->esr_new, ESR_RECEIVE_ILLEGAL, __ATOMIC_SEQ_CST);
        x86_notify(l->cpu, X86_ATT_IRQ);
        return;
    }
    uint32_t bit = UINT32_C(1) << (vector & 31);
    if (level) {
        __atomic_fetch_or(&l->tmr[vector >> 5], bit, __ATOMIC_SEQ_CST);
    } else {
        __atomic_fetch_and(&l->tmr[vector >> 5], ~bit, __ATOMIC_SEQ_CST);
    }
    __atomic_fetch_or(&l->irr[vector >> 5], bit, __ATOMIC_SEQ_CST);
    x86_notify(l->cpu, X86_ATT_IRQ);
}

/* ---- errors ---- */

/* Errors reach ESR when it is written, and the LVT entry at once (SDM 10.5.3). */
static void report_errors(X86Lapic *l)
{
    uint32_t news = __atomic_exchange_n(&l->esr_new, 0, __ATOMIC_SEQ_CST);
    if (news == 0) {
        return;
    }
    l->esr_pending |= news;
    uint32_t lvt = l->lvt[LVT_ERROR];
    if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16) {
        x86_lapic_post(l, (uint8_t)lvt, false);
    }
}

static void raise_error(X86Lapic *l, uint32_t bit)
{
    __atomic_fetch_or(&l->esr_new, bit, __ATOMIC_SEQ_CST);
    report_errors(l);
}

/* ---- what the VP takes ---- */

int x86_lapic_pending(X86Cpu *c)
{
    X86Lapic *l = c->lapic;
    if (G_UNLIKELY(x86_get(&l->esr_new))) {
        report_errors(l);
    }
    if (!x86_lapic_takes(l)) {
        return -1;
    }
    int irrv = highest(l->irr);
    return irrv >= 0 && ((uint32_t)irrv & 0xf0) > (l->ppr & 0xf0) ? irrv : -1;
}

void x86_lapic_accept(X86Cpu *c, uint8_t vector)
{
    X86Lapic *l = c->lapic;
    uint32_t bit = UINT32_C(1) << (vector & 31);
    __atomic_fetch_and(&l->irr[vector >> 5], ~bit, __ATOMIC_SEQ_CST);
    l->isr[vector >> 5] |= bit;
    update_ppr(l);
}

static void eoi(X86Lapic *l)
{
    int v = highest(l->isr);
    if (v < 0) {
        return;
    }
    uint32_t bit = UINT32_C(1) << (v & 31);
    l->isr[v >> 5] &= ~bit;
    bool level = x86_get(&l->tmr[v >> 5]) & bit;
    if (level && !(l->svr & SVR_NO_EOI_CAST)) {
        const PtaPlatform *p = l->cpu->machine->platform;
        p->eoi(p->opaque, (uint8_t)v);
    }
    look_again(l);
}

uint64_t x86_lapic_tpr(X86Cpu *c)
{
    return c->lapic->tpr >> 4;
}

static void set_tpr(X86Lapic *l, uint32_t tpr)
{
    l->tpr = tpr & 0xff;
    look_again(l);
}

void x86_lapic_set_tpr(X86Cpu *c, uint64_t tpr)
{
    set_tpr(c->lapic, (uint32_t)(tpr & 0xf) << 4);
}

/* ---- the timer ---- */

static unsigned divider(const X86Lapic *l)
{
    unsigned code = (l->dcr & 3) | (l->dcr >> 1 & 4);
    return code == 7 ? 1 : 2u << code;
}

static uint64_t now(const X86Lapic *l)
{
    return x86_clock_ns(l->cpu->machine);
}

static uint32_t mode(const X86Lapic *l)
{
    return l->lvt[LVT_TIMER] & LVT_MODE;
}

static void arm(X86Lapic *l, uint64_t expiry)
{
    l->timer_expiry = expiry;
    if (expiry != OFF) {
        x86_timer_armed(l->cpu);
    }
}

void x86_lapic_timer(X86Cpu *c, uint64_t t)
{
    X86Lapic *l = c->lapic;
    if (l->timer_expiry > t) {
        return;
    }
    uint64_t period = (uint64_t)l->icount * divider(l);
    if (mode(l) == LVT_PERIODIC && period != 0) {
        /* Ticks that passed while nobody looked are one interrupt, as on a CPU that had interrupts
         * off. */
        l->timer_expiry += ((t - l->timer_expiry) / period + 1) * period;
    } else {
        l->timer_expiry = OFF;
        l->deadline = 0;
    }
    uint32_t lvt = l->lvt[LVT_TIMER];
    if (!(lvt & LVT_MASKED)) {
        x86_lapic_post(l, (uint8_t)lvt, false);
    }
}

uint64_t x86_lapic_next_expiry(const X86Cpu *c)
{
    return c->lapic->timer_expiry;
}

static uint32_t current_count(X86Lapic *l)
{
    if (mode(l) == LVT_DEADLINE) {
        return 0;
    }
    uint64_t t = now(l);
    x86_lapic_timer(l->cpu, t);
    if (l->timer_expiry == OFF) {
        return 0;
    }
    uint64_t div = divider(l);
    return (uint32_t)((l->timer_expiry - t + div - 1) / div);
}

static void set_initial_count(X86Lapic *l, uint32_t count)
{
    if (mode(l) == LVT_DEADLINE) {
        return; /* SDM 10.5.4.1: ignored */
    }
    l->icount = count;
    arm(l, count ? now(l) + (uint64_t)count * divider(l) : OFF);
}

static void set_divider(X86Lapic *l, uint32_t dcr)
{
    uint32_t left = current_count(l);
    l->dcr = dcr & DCR_MASK;
    if (l->timer_expiry != OFF && mode(l) != LVT_DEADLINE) {
        arm(l, now(l) + (uint64_t)left * divider(l));
    }
}

static void set_deadline(X86Lapic *l, uint64_t tsc)
{
    if (mode(l) != LVT_DEADLINE) {
        return;
    }
    l->deadline = tsc;
    if (tsc == 0) {
        l->timer_expiry = OFF;
        return;
    }
    /* When it is, or was: the same whenever it is set, so that a saved timer comes back as it was. */
    const X86Machine *m = l->cpu->machine;
    uint64_t ticks = x86_tsc_ticks(m, now(l)), tsc_now = ticks + l->cpu->tsc_offset;
    if (tsc > tsc_now) {
        uint64_t left = tsc - tsc_now;
        uint64_t at = left < OFF - ticks ? x86_tsc_time(m, ticks + left) : OFF;
        arm(l, MIN(at, OFF - 1));
    } else {
        uint64_t late = tsc_now - tsc;
        arm(l, late < ticks ? x86_tsc_time(m, ticks - late) : 1);
    }
}

void x86_lapic_tsc_changed(X86Cpu *c)
{
    if (c->lapic->deadline != 0) {
        set_deadline(c->lapic, c->lapic->deadline);
    }
}

static void set_lvt_timer(X86Lapic *l, uint32_t value)
{
    uint32_t before = mode(l);
    l->lvt[LVT_TIMER] = value;
    /* Between counting and deadlines the timer is disarmed (SDM 10.5.4.1). */
    if ((before == LVT_DEADLINE) != (mode(l) == LVT_DEADLINE)) {
        l->timer_expiry = OFF;
        l->icount = 0;
        l->deadline = 0;
    }
}

/* ---- reset ---- */

static void publish_base(X86Lapic *l, uint64_t base)
{
    l->cpu->msr.apic_base = base;
    x86_put(&l->mode,
            (base & BASE_ENABLE ? X86_LAPIC_ON : 0) | (base & BASE_EXTD ? X86_LAPIC_X2 : 0));
}

static uint32_t x2_ldr(const X86Lapic *l)
{
    return l->cpu->index >> 4 << 16 | 1u << (l->cpu->index & 15);
}

/* SDM 10.4.7.1; not the base. */
static void clear(X86Lapic *l)
{
    for (unsigned i = 0; i < 8; i++) {
        x86_put(&l->irr[i], 0);
        x86_put(&l->tmr[i], 0);
        l->isr[i] = 0;
    }
    l->tpr = 0;
    x86_put(&l->ppr, 0);
    x86_put(&l->svr, 0xff);
    x86_put(&l->dfr, UINT32_MAX);
    x86_put(&l->esr_new, 0);
    l->esr = l->esr_pending = 0;
    l->icr = 0;
    for (unsigned i = 0; i < X86_N_LVT; i++) {
        l->lvt[i] = LVT_MASKED;
    }
    l->icount = l->dcr = 0;
    l->timer_expiry = OFF;
    l->deadline = 0;
    __atomic_store_n(&l->extint, 0, __ATOMIC_SEQ_CST);
}

void x86_lapic_init(X86Cpu *c)
{
    X86Lapic *l = c->lapic;
    clear(l);
    x86_put(&l->ldr, x86_get(&l->mode) & X86_LAPIC_X2 ? x2_ldr(l) : 0);
}

void x86_lapic_power_up(X86Cpu *c)
{
    X86Lapic *l = c->lapic;
    publish_base(l, UINT64_C(0xfee00000) | BASE_ENABLE | (c->index == 0 ? BASE_BSP : 0));
    x86_put(&l->id, c->index);
    x86_lapic_init(c);
}

X86Lapic *x86_lapic_new(X86Cpu *c)
{
    X86Lapic *l = g_new0(X86Lapic, 1);
    l->cpu = c;
    return l;
}

void x86_lapic_free(X86Lapic *l)
{
    g_free(l);
}

static bool set_base(X86Lapic *l, uint64_t value)
{
    uint64_t reserved = 0x2ff | ~((UINT64_C(1) << l->cpu->cpuid->phys_bits) - 1);
    if (!has(l, PTA_X86_FEAT_X2APIC)) {
        reserved |= BASE_EXTD;
    }
    uint64_t before = l->cpu->msr.apic_base & (BASE_EXTD | BASE_ENABLE);
    uint64_t after = value & (BASE_EXTD | BASE_ENABLE);
    /* SDM 10.12.5: x2APIC is entered from xAPIC, and left to nothing but "disabled". */
    if ((value & reserved) || after == BASE_EXTD ||
        (after == (BASE_EXTD | BASE_ENABLE) && before == 0) ||
        (before == (BASE_EXTD | BASE_ENABLE) && after == BASE_ENABLE)) {
        return false;
    }
    publish_base(l, value);
    if (before != after) {
        if (after == 0) {
            x86_put(&l->id, l->cpu->index);
            x86_lapic_init(l->cpu);
        } else if (after & BASE_EXTD) {
            x86_put(&l->id, l->cpu->index);
            x86_put(&l->ldr, x2_ldr(l));
        }
    }
    /* What the page hides or shows has changed. */
    x86_tlb_flush(l->cpu, true);
    return true;
}

/* ---- registers ---- */

static bool x2(const X86Lapic *l)
{
    return l->cpu->msr.apic_base & BASE_EXTD;
}

/* False: no such register. */
static bool reg_read(X86Lapic *l, unsigned reg, uint32_t *value)
{
    switch (reg) {
    case REG_ID:
        *value = x2(l) ? l->id : l->id << 24;
        break;
    case REG_VERSION:
        *value = LAPIC_VERSION;
        break;
    case REG_TPR:
        *value = l->tpr;
        break;
    case REG_APR:
        *value = 0; /* not on anything later than the Pentium */
        return !x2(l);
    case REG_PPR:
        *value = l->ppr;
        break;
    case REG_LDR:
        *value = l->ldr;
        break;
    case REG_DFR:
        *value = l->dfr;
        return !x2(l);
    case REG_SVR:
        *value = l->svr;
        break;
    case REG_ISR ... REG_ISR + 7:
        *value = l->isr[reg - REG_ISR];
        break;
    case REG_TMR ... REG_TMR + 7:
        *value = x86_get(&l->tmr[reg - REG_TMR]);
        break;
    case REG_IRR ... REG_IRR + 7:
        *value = x86_get(&l->irr[reg - REG_IRR]);
        break;
    case REG_ESR:
        *value = l->esr;
        break;
    case REG_ICR:
        *value = (uint32_t)l->icr;
        break;
    case REG_ICR2:
        *value = (uint32_t)(l->icr >> 32);
        return !x2(l);
    case REG_LVT ... REG_LVT + X86_N_LVT - 1:
        *value = l->lvt[reg - REG_LVT];
        break;
    case REG_ICOUNT:
        *value = l->icount;
        break;
    case REG_CCOUNT:
        *value = current_count(l);
        break;
    case REG_DCR:
        *value = l->dcr;
        break;
    default:
        *value = 0;
        return false;
    }
    return true;
}

static void set_svr(X86Lapic *l, uint32_t value)
{
    x86_put(&l->svr, value & SVR_MASK);
    if (!(value & X86_SVR_ENABLE)) {
        for (unsigned i = 0; i < X86_N_LVT; i++) {
            l->lvt[i] |= LVT_MASKED; /* SDM 10.4.7.2 */
        }
    } else {
        look_again(l);
    }
}

static void send(X86Lapic *l, uint64_t icr)
{
    unsigned kind = icr >> 8 & 7;
    if ((kind == X86_DELIVER_FIXED || kind == X86_DELIVER_LOWEST) && (icr & 0xff) < 16) {
        raise_error(l, ESR_SEND_ILLEGAL);
        return;
    }
    x86_ipi_send(l, icr);
}

/* False: no such register, or not writable. */
static bool reg_write(X86Lapic *l, unsigned reg, uint32_t value)
{
    switch (reg) {
    case REG_ID:
        if (x2(l)) {
            return false;
        }
        x86_put(&l->id, value >> 24);
        break;
    case REG_TPR:
        set_tpr(l, value);
        break;
    case REG_EOI:
        eoi(l);
        break;
    case REG_LDR:
        if (x2(l)) {
            return false;
        }
        x86_put(&l->ldr, value & 0xff000000);
        break;
    case REG_DFR:
        if (x2(l)) {
            return false;
        }
        x86_put(&l->dfr, value | DFR_ONES);
        break;
    case REG_SVR:
        set_svr(l, value);
        break;
    case REG_ESR:
        report_errors(l);
        l->esr = l->esr_pending;
        l->esr_pending = 0;
        break;
    case REG_ICR:
        l->icr = (l->icr & ~UINT64_C(0xffffffff)) | (value & ICR_MASK);
        send(l, l->icr);
        break;
    case REG_ICR2:
        if (x2(l)) {
            return false;
        }
        l->icr = (uint32_t)l->icr | (uint64_t)(value & 0xff000000) << 32;
        break;
    case REG_LVT ... REG_LVT + X86_N_LVT - 1: {
        unsigned i = reg - REG_LVT;
        value &= lvt_mask(l, i);
        if (!(l->svr & X86_SVR_ENABLE)) {
            value |= LVT_MASKED;
        }
        if (i == LVT_TIMER) {
            set_lvt_timer(l, value);
        } else {
            l->lvt[i] = value;
        }
        break;
    }
    case REG_ICOUNT:
        set_initial_count(l, value);
        break;
    case REG_DCR:
        set_divider(l, value);
        break;
    default:
        return false;
    }
    return true;
}

bool x86_lapic_mmio(X86Cpu *c, uint64_t gpa, bool write, unsigned size, uint64_t *value)
{
    X86Lapic *l = c->lapic;
    if (!x86_lapic_covers(c, gpa)) {
        return false;
    }
    unsigned offset = gpa & 0xfff;
    unsigned reg = offset >> 4, byte = offset & 15;
    if (write) {
        /* Anything but a whole register is undefined (SDM 10.4.1): it vanishes. */
        if (size == 4 && byte == 0 && (reg >= 0x40 || !reg_write(l, reg, (uint32_t)*value))) {
            raise_error(l, ESR_ILLEGAL_REG);
        }
        return true;
    }
    uint32_t v = 0;
    if (byte < 4 && (reg >= 0x40 || !reg_read(l, reg, &v))) {
        raise_error(l, ESR_ILLEGAL_REG);
    }
    *value = byte < 4 ? v >> (8 * byte) : 0;
    return true;
}

/* ---- MSRs ---- */

/* Bits of an x2APIC register that may be written (SDM table 10-6); 0: read-only or none. */
static uint64_t x2_writable(const X86Lapic *l, unsigned reg)
{
    switch (reg) {
    case REG_TPR:
    case REG_SELF_IPI:
        return 0xff;
    case REG_SVR:
        return SVR_MASK;
    case REG_ICR:
        return UINT64_C(0xffffffff00000000) | ICR_MASK;
    case REG_LVT ... REG_LVT + X86_N_LVT - 1:
        /* Delivery status and remote IRR are read-only, and what is read is written back. */
        return lvt_mask(l, reg - REG_LVT) | 0x5000;
    case REG_ICOUNT:
        return UINT32_MAX;
    case REG_DCR:
        return DCR_MASK;
    default:
        return 0;
    }
}

static bool x2_write(X86Lapic *l, unsigned reg, uint64_t value)
{
    bool writable = x2_writable(l, reg) != 0 || reg == REG_EOI || reg == REG_ESR;
    if (!writable || (value & ~x2_writable(l, reg))) {
        return false;
    }
    switch (reg) {
    case REG_ICR:
        l->icr = value;
        send(l, value);
        return true;
    case REG_SELF_IPI:
        if (value < 16) {
            raise_error(l, ESR_SEND_ILLEGAL);
        } else if (x86_lapic_takes(l)) {
            x86_lapic_post(l, (uint8_t)value, false);
        }
        return true;
    default:
        return reg_write(l, reg, (uint32_t)value);
    }
}

bool x86_lapic_rdmsr(X86Cpu *c, uint32_t msr, uint64_t *value)
{
    X86Lapic *l = c->lapic;
    switch (msr) {
    case X86_MSR_APIC_BASE:
        *value = c->msr.apic_base;
        return true;
    case X86_MSR_TSC_DEADLINE:
        if (!has(l, PTA_X86_FEAT_TSC_DEADLINE)) {
            return false;
        }
        x86_lapic_timer(c, now(l));
        *value = l->deadline;
        return true;
    default:
        break;
    }
    unsigned reg = msr - X86_MSR_X2APIC_FIRST;
    uint32_t v;
    if (!x2(l) || reg >= 0x40 || reg == REG_APR || !reg_read(l, reg, &v)) {
        return false;
    }
    *value = reg == REG_ICR ? l->icr : v;
    return true;
}

bool x86_lapic_wrmsr(X86Cpu *c, uint32_t msr, uint64_t value)
{
    X86Lapic *l = c->lapic;
    switch (msr) {
    case X86_MSR_APIC_BASE:
        return set_base(l, value);
    case X86_MSR_TSC_DEADLINE:
        if (!has(l, PTA_X86_FEAT_TSC_DEADLINE)) {
            return false;
        }
        set_deadline(l, value);
        return true;
    default:
        return x2(l) && msr - X86_MSR_X2APIC_FIRST < 0x40 &&
               x2_write(l, msr - X86_MSR_X2APIC_FIRST, value);
    }
}

/* ---- state ---- */

static void page_put(PtaX86Lapic *s, unsigned reg, uint32_t value)
{
    memcpy(s->page + (size_t)reg * 16, &(uint32_t){ GUINT32_TO_LE(value) }, 4);
}

static uint32_t page_get(const PtaX86Lapic *s, unsigned reg)
{
    uint32_t v;
    memcpy(&v, s->page + (size_t)reg * 16, 4);
    return GUINT32_FROM_LE(v);
}

void x86_lapic_get(X86Cpu *c, PtaX86Lapic *state)
{
    X86Lapic *l = c->lapic;
    memset(state, 0, sizeof(*state));
    for (unsigned reg = 0; reg < 0x40; reg++) {
        uint32_t v;
        if (reg != REG_CCOUNT && reg_read(l, reg, &v)) {
            page_put(state, reg, v);
        }
    }
    page_put(state, REG_DFR, l->dfr);
    page_put(state, REG_ICR2, (uint32_t)(l->icr >> 32));
    uint64_t t = now(l);
    if (l->timer_expiry != OFF) {
        state->timer_expiry_ns = MAX(l->timer_expiry, 1);
        uint64_t left = l->timer_expiry > t ? l->timer_expiry - t : 0;
        page_put(state, REG_CCOUNT, mode(l) == LVT_DEADLINE ? 0 : (uint32_t)(left / divider(l)));
    }
}

bool x86_lapic_check(const X86Cpu *c, const PtaX86Lapic *s, uint64_t base, GError **error)
{
    return pta_x86_lapic_check(c->cpuid, c->index, s, base, error);
}

void x86_lapic_set(X86Cpu *c, const PtaX86Lapic *s, uint64_t base, uint64_t deadline)
{
    X86Lapic *l = c->lapic;
    clear(l);
    publish_base(l, base);
    uint32_t id = page_get(s, REG_ID);
    x86_put(&l->id, base & BASE_EXTD ? id : id >> 24);
    l->tpr = page_get(s, REG_TPR);
    x86_put(&l->ldr, base & BASE_EXTD ? x2_ldr(l) : page_get(s, REG_LDR) & 0xff000000);
    x86_put(&l->dfr, page_get(s, REG_DFR));
    x86_put(&l->svr, page_get(s, REG_SVR));
    for (unsigned i = 0; i < 8; i++) {
        l->isr[i] = page_get(s, REG_ISR + i);
        x86_put(&l->tmr[i], page_get(s, REG_TMR + i));
        x86_put(&l->irr[i], page_get(s, REG_IRR + i));
    }
    l->esr = page_get(s, REG_ESR) & 0xff;
    uint32_t icr2 = page_get(s, REG_ICR2);
    l->icr = (page_get(s, REG_ICR) & ICR_MASK) |
             (uint64_t)(base & BASE_EXTD ? icr2 : icr2 & 0xff000000) << 32;
    for (unsigned i = 0; i < X86_N_LVT; i++) {
        l->lvt[i] = page_get(s, REG_LVT + i);
    }
    l->icount = page_get(s, REG_ICOUNT);
    l->dcr = page_get(s, REG_DCR);
    if (mode(l) == LVT_DEADLINE) {
        l->icount = 0;
        set_deadline(l, deadline);
    } else if (s->timer_expiry_ns != 0 && l->icount != 0) {
        arm(l, s->timer_expiry_ns);
    }
    update_ppr(l);
    x86_attend(c, X86_ATT_IRQ | X86_ATT_TIMER);
}

uint64_t x86_lapic_deadline(const X86Cpu *c)
{
    return c->lapic->deadline;
}
