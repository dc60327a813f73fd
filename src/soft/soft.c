/*
 * The back end "soft": an x86-64 CPU in software. This file is its ops table: life, memory, clock,
 * and the VPs' state around the engine.
 */
#include "config.h"

#define G_LOG_DOMAIN "soft"

#include "src/soft/soft.h"

#include <inttypes.h>
#include <string.h>
#include <sys/prctl.h>

#include "src/soft/lapic.h"
#include "src/util/reader.h"

typedef struct SoftVp {
    PtaBackendVp vp; /* base */
    X86Cpu cpu;
    PtaX86State *lent; /* a stepper's: what vp_set_state() got last */
} SoftVp;

static X86Machine *machine_of(const PtaBackend *be)
{
    return (X86Machine *)be;
}

static X86Cpu *cpu_of(const PtaBackendVp *vp)
{
    return &((SoftVp *)vp)->cpu;
}

/* ---- the clock ---- */

/*
 * X86Machine.clock, so that one atomic load gives a consistent reading: running: (host time at
 * which the clock was 0) << 1 | 1, stopped: (its value) << 1. 63 bits are 146 years.
 */
uint64_t x86_clock_ns(const X86Machine *m)
{
    uint64_t v = __atomic_load_n(&m->clock, __ATOMIC_RELAXED);
    return v & 1 ? pta_now_ns() - (uint64_t)((int64_t)v >> 1) : v >> 1;
}

static void set_clock(X86Machine *m, uint64_t ns, bool running)
{
    uint64_t v = running ? (pta_now_ns() - ns) << 1 | 1 : ns << 1;
    __atomic_store_n(&m->clock, v, __ATOMIC_RELAXED);
}

static bool clock_running(const X86Machine *m)
{
    return __atomic_load_n(&m->clock, __ATOMIC_RELAXED) & 1;
}

static uint64_t soft_clock_ns(const PtaBackend *be)
{
    return x86_clock_ns(machine_of(be));
}

static void soft_clock_start(PtaBackend *be)
{
    X86Machine *m = machine_of(be);
    set_clock(m, x86_clock_ns(m), true);
}

static void soft_clock_stop(PtaBackend *be)
{
    X86Machine *m = machine_of(be);
    set_clock(m, x86_clock_ns(m), false);
}

static void soft_clock_set(PtaBackend *be, uint64_t ns)
{
    X86Machine *m = machine_of(be);
    g_assert(!clock_running(m));
    set_clock(m, ns & (UINT64_MAX >> 2), false);
}

static uint64_t soft_tsc_hz(const PtaBackend *be)
{
    return be ? machine_of(be)->tsc_hz : X86_TSC_HZ;
}

static bool soft_set_tsc_hz(PtaBackend *be, uint64_t hz, GError **error)
{
    if (hz < PTA_MIN_TSC_HZ || hz > PTA_MAX_TSC_HZ) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED, "no TSC runs at %" PRIu64 " Hz", hz);
    }
    machine_of(be)->tsc_hz = hz;
    return true;
}

static uint64_t soft_apic_hz(const PtaBackend *be)
{
    (void)be;
    return X86_APIC_HZ;
}

static uint64_t soft_vp_tsc(const PtaBackendVp *vp)
{
    return x86_tsc(cpu_of(vp));
}

/* ---- memory ---- */

const X86Slot *x86_slot(const X86Machine *m, uint64_t gpa)
{
    const X86Slots *all = __atomic_load_n(&m->slots, __ATOMIC_ACQUIRE);
    if (G_LIKELY(all->likely && gpa - all->likely->gpa < all->likely->size)) {
        return all->likely;
    }
    unsigned low = 0;
    for (unsigned high = all->n; low < high;) { /* the first that ends behind gpa */
        unsigned mid = low + (high - low) / 2;
        const X86Slot *s = &all->slot[mid];
        if (gpa >= s->gpa && gpa - s->gpa >= s->size) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < all->n && gpa >= all->slot[low].gpa ? &all->slot[low] : NULL;
}

X86Slots *x86_slots_copy(const X86Slots *from, unsigned more)
{
    unsigned n = from ? from->n : 0;
    X86Slots *to = g_malloc0(sizeof(X86Slots) + (n + more) * sizeof(X86Slot));
    to->n = n;
    if (n > 0) {
        memcpy(to->slot, from->slot, n * sizeof(X86Slot));
    }
    return to;
}

/* The map has changed: nothing that was derived from it may stay. */
static void forget_translations(X86Machine *m)
{
    for (unsigned i = 0; i < m->n_vps; i++) {
        if (m->vps[i]) {
            x86_tlb_flush(m->vps[i], true);
            x86_blocks_flush(m->vps[i]);
        }
    }
}

/* Others may be reading: those who say that the host wrote somewhere. */
static void replace_slots(X86Machine *m, X86Slots *new)
{
    X86Slots *old = m->slots;
    for (unsigned i = 0; i < new->n; i++) {
        if (!new->likely || new->slot[i].size > new->likely->size) {
            new->likely = &new->slot[i];
        }
    }
    forget_translations(m);
    g_mutex_lock(&m->dirty_lock); /* who fetches the dirty log goes through the slots under it */
    __atomic_store_n(&m->slots, new, __ATOMIC_RELEASE);
    g_mutex_unlock(&m->dirty_lock);
    pta_read_wait();
    g_free(old);
}

static bool soft_map(PtaBackend *be, uint64_t gpa, uint64_t size, void *host, unsigned flags,
                     GError **error)
{
    (void)error;
    X86Machine *m = machine_of(be);
    g_assert(size != 0 && ((gpa | size) & ~PTA_PAGE_MASK) == 0 && gpa + size > gpa);
    X86Slots *new = x86_slots_copy(m->slots, 1);
    unsigned at = 0;
    while (at < new->n &&new->slot[at].gpa < gpa) {
        at++;
    }
    X86Slot *s = &new->slot[at];
    g_assert(at == 0 || gpa - s[-1].gpa >= s[-1].size);
    g_assert(at == new->n || s->gpa - gpa >= size);
    memmove(s + 1, s, (new->n - at) * sizeof(X86Slot));
    *s = (X86Slot){ .gpa = gpa,
                    .size = size,
                    .host = host,
                    .flags = flags,
                    .code = g_new0(uint64_t, size >> PTA_PAGE_SHIFT),
                    .writers = m->n_vps > 1 ? g_new0(uint64_t, size >> PTA_PAGE_SHIFT) : NULL,
                    .dirty = g_new0(uint64_t, x86_dirty_words(gpa, size)) };
    new->n++;
    replace_slots(m, new);
    return true;
}

static void free_slot(X86Slot *s)
{
    g_free(s->code);
    g_free(s->writers);
    g_free(s->dirty);
}

static bool soft_unmap(PtaBackend *be, uint64_t gpa, uint64_t size, GError **error)
{
    X86Machine *m = machine_of(be);
    for (unsigned i = 0; i < m->slots->n; i++) {
        X86Slot gone = m->slots->slot[i];
        if (gone.gpa == gpa && gone.size == size) {
            X86Slots *new = x86_slots_copy(m->slots, 0);
            new->n--;
            memmove(&new->slot[i], &new->slot[i + 1], (new->n - i) * sizeof(X86Slot));
            g_mutex_lock(&m->dirty_lock);
            x86_dirty_unmap(m, &gone);
            g_mutex_unlock(&m->dirty_lock);
            replace_slots(m, new);
            free_slot(&gone);
            return true;
        }
    }
    return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "0x%" G_GINT64_MODIFIER "x is not mapped",
                     gpa);
}

static void soft_host_wrote(PtaBackend *be, uint64_t gpa, uint64_t len)
{
    PtaReadSection section = pta_read_begin();
    x86_code_host_wrote(machine_of(be), gpa, len);
    pta_read_end(section);
}

/* ---- VPs ---- */

/* A stepper: APIC and time are those of whoever lent the VP. */
static void get_lent_state(const SoftVp *vp, X86Cpu *c, PtaX86State *state)
{
    const PtaX86State *lent = vp->lent;
    *state = *lent;
    x86_get_state(c, state);
    state->msrs.apic_base = lent->msrs.apic_base;
    state->msrs.tsc_deadline = lent->msrs.tsc_deadline;
}

static bool set_lent_state(SoftVp *vp, X86Cpu *c, const PtaX86State *state, GError **error)
{
    if (!x86_set_state(c, state, error)) {
        return false;
    }
    c->tsc_offset = state->tsc - x86_clock_ns(c->machine);
    c->msr.apic_base |= X86_APIC_BASE_X2; /* so no page is the APIC's: it is reached by platform */
    x86_lapic_set_tpr(c, state->regs.cr8);
    *vp->lent = *state;
    return true;
}

static void soft_vp_get_state(PtaBackendVp *vp, PtaX86State *state)
{
    X86Cpu *c = cpu_of(vp);
    if (c->machine->stepping) {
        get_lent_state((const SoftVp *)vp, c, state);
        return;
    }
    memset(state, 0, sizeof(*state));
    x86_take_messages(c);
    x86_get_state(c, state);
    x86_lapic_get(c, &state->lapic);
    state->msrs.apic_base = c->msr.apic_base;
    state->msrs.tsc_deadline = x86_lapic_deadline(c);
    state->tsc = x86_tsc(c);
}

static bool soft_vp_set_state(PtaBackendVp *vp, const PtaX86State *state, GError **error)
{
    X86Cpu *c = cpu_of(vp);
    if (c->machine->stepping) {
        return set_lent_state((SoftVp *)vp, c, state, error);
    }
    if (!x86_lapic_check(c, &state->lapic, state->msrs.apic_base, error)) {
        return false;
    }
    x86_take_messages(c);
    if (!x86_set_state(c, state, error)) {
        return false;
    }
    c->tsc_offset = state->tsc - x86_tsc_ticks(c->machine, x86_clock_ns(c->machine));
    x86_lapic_set(c, &state->lapic, state->msrs.apic_base, state->msrs.tsc_deadline);
    return true;
}

static void reset_vp(PtaBackendVp *vp)
{
    g_autofree PtaX86State *state = g_new(PtaX86State, 1);
    g_autoptr(GError) error = NULL;
    pta_x86_state_reset(state, vp->index, vp->index == 0);
    if (!soft_vp_set_state(vp, state, &error)) {
        g_error("vp%u: reset: %s", vp->index, error->message); /* our own state: a bug */
    }
}

static PtaBackendVp *soft_vp_create(PtaBackend *be, unsigned index, GError **error)
{
    (void)error;
    X86Machine *m = machine_of(be);
    g_assert(index < m->n_vps && !m->vps[index]);
    SoftVp *vp = g_aligned_alloc0(1, sizeof(SoftVp), G_ALIGNOF(SoftVp));
    X86Cpu *c = &vp->cpu;
    vp->vp.be = be;
    vp->vp.index = index;
    c->machine = m;
    c->index = index;
    c->cpuid = m->cpuid;
    g_mutex_init(&c->wait_lock);
    g_cond_init(&c->wait_cond);
    c->look_rate = 1000;
    if (m->stepping) {
        vp->lent = g_new0(PtaX86State, 1);
    }
    c->lapic = x86_lapic_new(c);
    x86_mmu_init(c);
    x86_blocks_new(c);
    x86_fpu_reset(c);
    m->vps[index] = c;
    reset_vp(&vp->vp);
    return &vp->vp;
}

static void soft_vp_destroy(PtaBackendVp *vp)
{
    X86Cpu *c = cpu_of(vp);
    c->machine->vps[c->index] = NULL;
    x86_blocks_free(c);
    x86_mmu_free(c);
    x86_lapic_free(c->lapic);
    g_mutex_clear(&c->wait_lock);
    g_cond_clear(&c->wait_cond);
    g_free(((SoftVp *)vp)->lent);
    g_aligned_free(vp);
}

static void soft_vp_run(PtaBackendVp *vp, PtaExit *exit)
{
    X86Cpu *c = cpu_of(vp);
    if (c->machine->stepping) {
        x86_run_one(c, exit);
        return;
    }
    if (c->events.activity != PTA_X86_RUNNING) {
        c->shadow = 0; /* there is no next instruction that it could cover */
    }
    if (!c->slack_set) {
        prctl(PR_SET_TIMERSLACK, 1UL); /* a VP sleeps until its timer is due, not 50 us longer */
        c->slack_set = true;
    }
    /* What came or was set while it did not run is looked at before the first instruction. */
    x86_attend(c, X86_ATT_IRQ | X86_ATT_TIMER);
    x86_run(c, exit);
    if (exit->reason == PTA_EXIT_SHUTDOWN) {
        c->events.activity = PTA_X86_SHUTDOWN;
    }
}

static void soft_vp_kick(PtaBackendVp *vp)
{
    if (cpu_of(vp)->machine->stepping) {
        return;
    }
    x86_notify(cpu_of(vp), X86_ATT_KICK);
}

static void soft_vp_set_debug(PtaBackendVp *vp, const PtaGuestDebug *debug)
{
    x86_debug_set(cpu_of(vp), debug);
}

static const char *const stat_names[] = {
    [X86_STAT_INSNS] = "instructions",
    [X86_STAT_BLOCKS] = "blocks",
    [X86_STAT_DECODED] = "decoded",
    [X86_STAT_TLB_FILL] = "tlb-fills",
    [X86_STAT_TLB_FLUSH] = "tlb-flushes",
    [X86_STAT_MMIO] = "mmio",
    [X86_STAT_PIO] = "port-io",
    [X86_STAT_IRQ] = "interrupts",
    [X86_STAT_EXCEPTION] = "exceptions",
    [X86_STAT_HLT] = "halts",
    [X86_STAT_KICK] = "kicks",
    [X86_STAT_SMC] = "code-writes",
    [X86_STAT_MSR] = "msrs",
    [X86_STAT_CPUID] = "cpuids",
    [X86_STAT_SPIN] = "spin-sleeps",
    [X86_STAT_WAIT] = "code-waits",
    [X86_STAT_WORLD] = "world-stops",
    [X86_N_STATS] = NULL,
};

/* The VP may run: what it counts is read as it stands. */
__attribute__((no_sanitize("thread"))) static void soft_vp_get_stats(const PtaBackendVp *vp,
                                                                     uint64_t *values)
{
    const X86Cpu *c = cpu_of(vp);
    for (unsigned i = 0; i < X86_N_STATS; i++) {
        values[i] = ((const volatile uint64_t *)c->stats)[i];
    }
    values[X86_STAT_INSNS] = *(const volatile uint64_t *)&c->insns;
}

/* ---- interrupts ---- */

static void soft_msi(PtaBackend *be, uint64_t address, uint32_t data)
{
    x86_msi(machine_of(be), address, data);
}

static void soft_nmi(PtaBackend *be, unsigned vp)
{
    X86Machine *m = machine_of(be);
    g_assert(vp < m->n_vps);
    x86_notify(m->vps[vp], X86_ATT_NMI);
}

/* ---- life ---- */

static bool soft_probe(GError **error)
{
    (void)error;
    return true;
}

static uint64_t soft_cpu_features(void)
{
#define F(name) (UINT64_C(1) << PTA_X86_FEAT_##name)
    return F(BASE) | F(X2APIC) | F(TSC_DEADLINE) | F(ERMS) | F(SMEP) | F(SMAP) | F(UMIP) |
           F(FSGSBASE) | F(RDTSCP) | F(1GPAGES) | F(CX16) | F(LAHF64) | F(POPCNT) | F(XSAVE) |
           F(XSAVEOPT) | F(XSAVEC) | F(XGETBV1) | F(XSAVES) | F(SSE3) | F(SSSE3) | F(SSE41) |
           F(SSE42);
#undef F
}

static bool soft_has_cap(const PtaBackend *be, PtaBackendCap cap)
{
    (void)be;
    return cap == PTA_CAP_GUEST_DEBUG;
}

static PtaBackend *soft_create(const PtaBackendParams *params, GError **error)
{
    if (params->n_vps == 0 || params->n_vps > PTA_MAX_VPS) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%u VPs; 1 to %d are possible", params->n_vps,
                  PTA_MAX_VPS);
        return NULL;
    }
    x86_engine_init();
    X86Machine *m = g_new0(X86Machine, 1);
    m->be.ops = &pta_soft_backend;
    m->platform = params->platform;
    m->cpuid = params->cpuid;
    m->stepping = params->stepping;
    if (m->stepping) {
        m->own_cpuid = *params->cpuid;
        m->own_cpuid.features |= soft_cpu_features();
        m->cpuid = &m->own_cpuid;
    }
    m->n_vps = params->n_vps;
    x86_xsave_layout(m);
    m->tsc_hz = X86_TSC_HZ;
    m->slots = x86_slots_copy(NULL, 0);
    g_mutex_init(&m->world);
    g_mutex_init(&m->dirty_lock);
    g_mutex_init(&m->sync_lock);
    g_cond_init(&m->sync_cond);
    return &m->be;
}

static void soft_destroy(PtaBackend *be)
{
    X86Machine *m = machine_of(be);
    for (unsigned i = 0; i < m->slots->n; i++) {
        free_slot(&m->slots->slot[i]);
    }
    g_free(m->slots);
    g_mutex_clear(&m->world);
    g_mutex_clear(&m->dirty_lock);
    g_mutex_clear(&m->sync_lock);
    g_cond_clear(&m->sync_cond);
    g_free(m);
}

static bool soft_scrub(PtaBackend *be, GError **error)
{
    (void)error;
    machine_of(be)->lowest_turn = 0;
    return true;
}

static bool soft_reset(PtaBackend *be, GError **error)
{
    X86Machine *m = machine_of(be);
    set_clock(m, 0, clock_running(m));
    return soft_scrub(be, error);
}

const PtaBackendOps pta_soft_backend = {
    .name = "soft",
    .probe = soft_probe,
    .cpu_features = soft_cpu_features,
    .create = soft_create,
    .destroy = soft_destroy,
    .has_cap = soft_has_cap,
    .map = soft_map,
    .unmap = soft_unmap,
    .host_wrote = soft_host_wrote,
    .dirty_start = x86_dirty_start,
    .dirty_fetch = x86_dirty_fetch,
    .dirty_stop = x86_dirty_stop,
    .vp_create = soft_vp_create,
    .vp_destroy = soft_vp_destroy,
    .vp_run = soft_vp_run,
    .vp_kick = soft_vp_kick,
    .vp_get_state = soft_vp_get_state,
    .vp_set_state = soft_vp_set_state,
    .vp_set_debug = soft_vp_set_debug,
    .stat_names = stat_names,
    .vp_get_stats = soft_vp_get_stats,
    .msi = soft_msi,
    .nmi = soft_nmi,
    .clock_ns = soft_clock_ns,
    .tsc_hz = soft_tsc_hz,
    .apic_hz = soft_apic_hz,
    .set_tsc_hz = soft_set_tsc_hz,
    .vp_tsc = soft_vp_tsc,
    .clock_start = soft_clock_start,
    .clock_stop = soft_clock_stop,
    .clock_set = soft_clock_set,
    .reset = soft_reset,
    .scrub = soft_scrub,
};
