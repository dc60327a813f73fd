/*
 * The kernel's local APIC as canonical state and back, and its timer.
 *
 * KVM counts its timers whether the VP runs or not, and starts them when a page is set
 * (KVM_SET_LAPIC) or IA32_TSC_DEADLINE is. So while the partition's clock stands still the kernel's
 * APIC has no timer at all: initial count and deadline are 0 there, and here in vp->frozen and
 * vp->apic_icount.
 *
 * A one-shot timer that has expired cannot be set in the kernel: with an initial count and a current
 * count of 0 it would expire again at once. Its initial count stays here (vp->apic_icount); a guest
 * that reads the register then finds 0.
 *
 * The kernel counts nanoseconds, as the partition's clock does, divided by the divider.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm-state.h"

#include <errno.h>
#include <string.h>

/* The page's registers, by offset / 16 (SDM vol. 3, table 10-1). */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_PPR = 0x0a,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR2 = 0x31,
    REG_LVT_TIMER = 0x32,
    REG_LVT_THERMAL = 0x33,
    REG_LVT_PERF = 0x34,
    REG_LVT_LINT0 = 0x35,
    REG_LVT_LINT1 = 0x36,
    REG_LVT_ERROR = 0x37,
    REG_ICOUNT = 0x38,
    REG_CCOUNT = 0x39,
    REG_DCR = 0x3e,
};

#define LVT_MODE     (UINT32_C(3) << 17)
#define LVT_ONE_SHOT (UINT32_C(0) << 17)
#define LVT_PERIODIC (UINT32_C(1) << 17)
#define LVT_DEADLINE (UINT32_C(2) << 17)

#define NS_PER_S     UINT64_C(1000000000)

/* Which bits a register has; the kernel keeps more of what a guest writes. */
typedef struct KnownReg {
    uint8_t reg;
    uint32_t mask;
} KnownReg;

static const KnownReg known_regs[] = {
    { REG_VERSION, UINT32_MAX },  { REG_TPR, 0xff },
    { REG_SVR, 0x13ff },          { REG_ESR, 0xff },
    { REG_ICR, 0xccfff },         { REG_LVT_TIMER, 0x700ff },
    { REG_LVT_THERMAL, 0x107ff }, { REG_LVT_PERF, 0x107ff },
    { REG_LVT_LINT0, 0x1a7ff },   { REG_LVT_LINT1, 0x1a7ff },
    { REG_LVT_ERROR, 0x100ff },   { REG_DCR, 0xb },
};

static uint32_t page_get(const uint8_t *page, unsigned reg)
{
    uint32_t v;
    memcpy(&v, page + (size_t)reg * 16, sizeof(v));
    return GUINT32_FROM_LE(v);
}

static void page_put(uint8_t *page, unsigned reg, uint32_t value)
{
    uint32_t v = GUINT32_TO_LE(value);
    memcpy(page + (size_t)reg * 16, &v, sizeof(v));
}

static uint8_t *bytes(struct kvm_lapic_state *s)
{
    return (uint8_t *)s->regs;
}

/* ---- the timer ---- */

static uint32_t mode(const uint8_t *page)
{
    return page_get(page, REG_LVT_TIMER) & LVT_MODE;
}

static bool counts(const uint8_t *page)
{
    return mode(page) == LVT_ONE_SHOT || mode(page) == LVT_PERIODIC;
}

static uint64_t divider(const uint8_t *page)
{
    uint32_t dcr = page_get(page, REG_DCR);
    unsigned code = (dcr & 3) | (dcr >> 1 & 4);
    return code == 7 ? 1 : UINT64_C(2) << code;
}

/* a * b / c without overflow on the way; UINT64_MAX if it is more. */
static uint64_t muldiv(uint64_t a, uint64_t b, uint64_t c)
{
    unsigned __int128 r = (unsigned __int128)a * b / c;
    return r > UINT64_MAX ? UINT64_MAX : (uint64_t)r;
}

/* When a deadline is, by the partition's clock; one that has passed: when it was. */
static uint64_t deadline_expiry(const KvmVp *vp, uint64_t deadline, uint64_t tsc, uint64_t now)
{
    if (deadline > tsc) {
        uint64_t left = muldiv(deadline - tsc, NS_PER_S, vp->m->tsc_hz);
        return left < UINT64_MAX - 1 - now ? now + left : UINT64_MAX - 1;
    }
    uint64_t late = muldiv(tsc - deadline, NS_PER_S, vp->m->tsc_hz);
    return late < now ? now - late : 1;
}

/* The initial count that the guest wrote: the kernel's, or what is kept from it. */
static uint32_t initial_count(KvmVp *vp, const uint8_t *kernel_page)
{
    uint32_t icount = page_get(kernel_page, REG_ICOUNT);
    if (icount != 0 || !counts(kernel_page)) {
        vp->apic_icount = 0; /* the guest has written another since */
    }
    return icount != 0 ? icount : vp->apic_icount;
}

/* When the kernel's counting timer expires, by the partition's clock; 0: it does not. */
static uint64_t running_expiry(const KvmVp *vp, const uint8_t *page)
{
    if (!counts(page) || page_get(page, REG_ICOUNT) == 0) {
        return 0;
    }
    uint32_t count = page_get(page, REG_CCOUNT);
    if (count == 0 && mode(page) == LVT_ONE_SHOT) {
        return 0;
    }
    return kvm_clock_ns(vp->vp.be) + MAX(count, 1) * divider(page);
}

/* kvm_pvm shows the host's TSC, whatever is set: there the deadline keeps its distance. */
static bool start_deadline(KvmVp *vp, uint64_t deadline, GError **error)
{
    uint64_t tsc;
    if (vp->m->caps.pvm && vp->frozen.valid && kvm_msr_get(vp, KVM_MSR_TSC, &tsc)) {
        uint64_t moved = deadline + (tsc - vp->frozen.tsc);
        bool wraps = tsc > vp->frozen.tsc && moved < deadline;
        deadline = wraps ? UINT64_MAX : MAX(moved, 1);
    }
    return kvm_msr_set(vp, KVM_MSR_TSC_DEADLINE, deadline) ||
           pta_throw(error, PTA_ERROR_HOST, "KVM_SET_MSRS: TSC_DEADLINE");
}

/*
 * Starts the kernel's timer by what stands still. KVM forgets the initial count when the mode
 * changes between counting and deadline, so the page with its mode is there already.
 */
static bool start_timer(KvmVp *vp, uint64_t expiry, uint64_t deadline, GError **error)
{
    if (deadline != 0 && !start_deadline(vp, deadline, error)) {
        return false;
    }
    if (expiry == 0) {
        return true;
    }
    struct kvm_lapic_state s;
    kvm_irq_hold(vp->m);
    if (!kvm_try(vp->fd, KVM_GET_LAPIC, &s, error)) {
        return false;
    }
    uint64_t now = kvm_clock_ns(vp->vp.be), div = divider(bytes(&s));
    uint64_t left = expiry > now ? (expiry - now - 1) / div + 1 : 1; /* rounded up; due: at once */
    page_put(bytes(&s), REG_ICOUNT, vp->apic_icount);
    page_put(bytes(&s), REG_CCOUNT, (uint32_t)MIN(left, vp->apic_icount));
    vp->apic_icount = 0;
    return kvm_give(vp, KVM_SET_LAPIC, &s, error);
}

/* Its interrupt reaches IRR when the VP is entered again: not if the page is set or saved before. (A
 * deadline stays readable until then.) */
static bool may_have_expired(const uint8_t *page)
{
    return counts(page) && page_get(page, REG_ICOUNT) != 0 &&
           (mode(page) == LVT_PERIODIC || page_get(page, REG_CCOUNT) == 0);
}

/* The clock has stopped and vp->frozen is not valid yet. */
void kvm_lapic_freeze(KvmVp *vp)
{
    struct kvm_lapic_state s;
    KvmFrozen *f = &vp->frozen;
    f->tsc_deadline = f->timer_expiry_ns = 0;
    if (!kvm_fetch(vp, KVM_GET_LAPIC, &s)) {
        return;
    }
    if (mode(bytes(&s)) == LVT_DEADLINE) {
        if (kvm_msr_get(vp, KVM_MSR_TSC_DEADLINE, &f->tsc_deadline) && f->tsc_deadline != 0) {
            kvm_msr_set(vp, KVM_MSR_TSC_DEADLINE, 0);
        }
        return;
    }
    if (may_have_expired(bytes(&s))) {
        kvm_irq_release(vp->m); /* held for a VP before this one: an EOI may send */
        kvm_vp_settle(vp);
        if (!kvm_fetch(vp, KVM_GET_LAPIC, &s)) {
            return;
        }
    }
    f->timer_expiry_ns = running_expiry(vp, bytes(&s));
    vp->apic_icount = initial_count(vp, bytes(&s));
    if (f->timer_expiry_ns != 0) {
        g_autoptr(GError) error = NULL;
        kvm_irq_hold(vp->m);
        kvm_fetch(vp, KVM_GET_LAPIC, &s); /* once more, with all that has come since */
        page_put(bytes(&s), REG_ICOUNT, 0);
        if (!kvm_give(vp, KVM_SET_LAPIC, &s, &error)) {
            g_warning("kvm: %s", error->message);
        }
    }
}

bool kvm_lapic_thaw(KvmVp *vp, GError **error)
{
    KvmFrozen *f = &vp->frozen;
    uint64_t expiry = f->timer_expiry_ns, deadline = f->tsc_deadline;
    f->timer_expiry_ns = f->tsc_deadline = 0;
    vp->apic_given.valid = false;
    return start_timer(vp, expiry, deadline, error);
}

/* ---- from the kernel ---- */

static void update_ppr(uint8_t *page)
{
    uint32_t in_service = 0, tpr = page_get(page, REG_TPR);
    for (int i = 7; i >= 0 && in_service == 0; i--) {
        uint32_t w = page_get(page, REG_ISR + (unsigned)i);
        if (w != 0) {
            in_service = ((uint32_t)i * 32 + 31 - (uint32_t)__builtin_clz(w)) & 0xf0;
        }
    }
    page_put(page, REG_PPR, (tpr & 0xf0) >= in_service ? tpr : in_service);
}

/* As if it had not been taken yet. */
static void put_back(uint8_t *page, unsigned vector)
{
    unsigned word = vector >> 5;
    uint32_t bit = UINT32_C(1) << (vector & 31);
    page_put(page, REG_ISR + word, page_get(page, REG_ISR + word) & ~bit);
    page_put(page, REG_IRR + word, page_get(page, REG_IRR + word) | bit);
}

static void copy_regs(const KvmVp *vp, uint8_t *to, const uint8_t *from, bool x2)
{
    for (size_t i = 0; i < G_N_ELEMENTS(known_regs); i++) {
        page_put(to, known_regs[i].reg, page_get(from, known_regs[i].reg) & known_regs[i].mask);
    }
    for (unsigned i = 0; i < 8; i++) {
        page_put(to, REG_ISR + i, page_get(from, REG_ISR + i));
        page_put(to, REG_TMR + i, page_get(from, REG_TMR + i));
        page_put(to, REG_IRR + i, page_get(from, REG_IRR + i));
    }
    page_put(to, REG_ID, x2 ? vp->vp.index : page_get(from, REG_ID) & 0xff000000);
    page_put(to, REG_LDR, page_get(from, REG_LDR) & (x2 ? UINT32_MAX : 0xff000000));
    page_put(to, REG_DFR, page_get(from, REG_DFR) | 0x0fffffff);
    page_put(to, REG_ICR2, page_get(from, REG_ICR2) & (x2 ? UINT32_MAX : 0xff000000));
}

uint64_t kvm_lapic_get(KvmVp *vp, const KvmApicContext *context, PtaX86Lapic *lapic)
{
    struct kvm_lapic_state s = { 0 };
    uint64_t now = kvm_clock_ns(vp->vp.be), deadline = 0, expiry = 0;
    memset(lapic, 0, sizeof(*lapic));
    kvm_fetch(vp, KVM_GET_LAPIC, &s);
    copy_regs(vp, lapic->page, bytes(&s), context->apic_base & KVM_APIC_BASE_EXTD);
    if (context->injected >= 16) {
        put_back(lapic->page, (unsigned)context->injected);
    }
    update_ppr(lapic->page);
    if (mode(lapic->page) == LVT_DEADLINE) {
        deadline = vp->frozen.tsc_deadline;
        if (!vp->frozen.valid) {
            kvm_msr_get(vp, KVM_MSR_TSC_DEADLINE, &deadline);
        }
        if (deadline != 0) {
            expiry = MAX(deadline_expiry(vp, deadline, context->tsc, now), 1);
        }
    } else if (counts(lapic->page)) {
        expiry = vp->frozen.valid ? vp->frozen.timer_expiry_ns : running_expiry(vp, bytes(&s));
        page_put(lapic->page, REG_ICOUNT, initial_count(vp, bytes(&s)));
        uint64_t left = expiry > now ? expiry - now : 0;
        page_put(lapic->page, REG_CCOUNT, (uint32_t)(left / divider(lapic->page)));
    }
    lapic->timer_expiry_ns = expiry;
    vp->apic_given = (KvmApicGiven){ vp->frozen.valid, context->apic_base, deadline, *lapic };
    return deadline;
}

/* ---- to the kernel ---- */

/*
 * A debugger changes a register and sets the whole state, and devices go on meanwhile: if the APIC's
 * part comes back as it was handed out, the kernel's page stays, with what has arrived at it since.
 * (KVM_SET_SREGS has just cleared the lower half of TPR.)
 */
static bool is_given(const KvmVp *vp, const PtaX86Lapic *lapic, uint64_t apic_base,
                     uint64_t deadline)
{
    const KvmApicGiven *g = &vp->apic_given;
    return g->valid && g->apic_base == apic_base && g->deadline == deadline &&
           (page_get(lapic->page, REG_TPR) & 15) == 0 &&
           memcmp(&g->lapic, lapic, sizeof(*lapic)) == 0;
}

/* Nothing has happened to it but interrupts that arrived: not an INIT, and none was put back. */
static bool is_still_given(const KvmVp *vp)
{
    struct kvm_lapic_state s = { 0 };
    uint8_t now[sizeof(vp->apic_given.lapic.page)] = { 0 };
    const KvmApicGiven *g = &vp->apic_given;
    if (!kvm_fetch(vp, KVM_GET_LAPIC, &s)) {
        return false;
    }
    copy_regs(vp, now, bytes(&s), g->apic_base & KVM_APIC_BASE_EXTD);
    for (unsigned reg = 0; reg < 0x40; reg++) {
        uint32_t then = page_get(g->lapic.page, reg), here = page_get(now, reg);
        bool arrives = reg >= REG_TMR && reg < REG_IRR + 8; /* TMR and IRR */
        bool derived = reg == REG_PPR || reg == REG_ICOUNT || reg == REG_CCOUNT;
        if (!derived && (arrives ? reg >= REG_IRR && (then & ~here) != 0 : then != here)) {
            return false;
        }
    }
    return true;
}

/* In x2APIC mode the ID is the VP's own, in one of two forms (KVM_CAP_X2APIC_API); the kernel's page
 * says in which. */
static bool take_kernel_id(KvmVp *vp, uint8_t *page, GError **error)
{
    struct kvm_lapic_state s;
    if (!kvm_try(vp->fd, KVM_GET_LAPIC, &s, error)) {
        return false;
    }
    page_put(page, REG_ID, page_get(bytes(&s), REG_ID));
    return true;
}

bool kvm_lapic_set(KvmVp *vp, const PtaX86Lapic *lapic, uint64_t apic_base, uint64_t deadline,
                   GError **error)
{
    struct kvm_lapic_state s = { 0 };
    if (is_given(vp, lapic, apic_base, deadline) && is_still_given(vp)) {
        return true;
    }
    vp->apic_given.valid = false;
    bool x2 = apic_base & KVM_APIC_BASE_EXTD, counting = counts(lapic->page);
    copy_regs(vp, bytes(&s), lapic->page, x2);
    if (x2 && !take_kernel_id(vp, bytes(&s), error)) {
        return false;
    }
    /* A deadline that is armed would be armed again with the page. */
    if (!kvm_msr_set(vp, KVM_MSR_TSC_DEADLINE, 0)) {
        return pta_throw(error, PTA_ERROR_HOST, "KVM_SET_MSRS: TSC_DEADLINE");
    }
    if (!kvm_give(vp, KVM_SET_LAPIC, &s, error)) {
        return false;
    }
    vp->apic_icount = counting ? page_get(lapic->page, REG_ICOUNT) : 0;
    uint64_t expiry = vp->apic_icount != 0 ? lapic->timer_expiry_ns : 0;
    if (mode(lapic->page) != LVT_DEADLINE) {
        deadline = 0;
    }
    if (vp->frozen.valid) {
        vp->frozen.timer_expiry_ns = expiry;
        vp->frozen.tsc_deadline = deadline;
        return true;
    }
    bool ok = start_timer(vp, expiry, deadline, error);
    kvm_irq_release(vp->m);
    return ok;
}
