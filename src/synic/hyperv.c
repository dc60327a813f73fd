/* Hyper-V's identity, time, reset and crash interface; see hyperv.h. */
#include "config.h"

#define G_LOG_DOMAIN "synic"

#include "src/synic/hyperv.h"

#include <string.h>

#include "src/partition/x86-cpuid.h"
#include "src/synic/hyperv-abi.h"

struct PtaHyperv {
    PtaHypervParams params; /* CONST */
    uint64_t tsc_hz;        /* MAIN writes while no VP runs */
    GMutex lock;
    PtaHypervState s; /* LOCKED */
};

#define CR0_PE         UINT64_C(1)
#define EFER_LMA       (UINT64_C(1) << 10)
#define RFLAGS_VM      (UINT64_C(1) << 17)
#define SEG_ATTRS_LONG (1u << 13)
#define SEG_ATTRS_DPL  0x60

/* ---- overlays, what they are ---- */

static uint8_t *below(PtaHyperv *hv, unsigned overlay)
{
    return overlay == PTA_HYPERV_HYPERCALL ? hv->s.hypercall_below : hv->s.reference_tsc_below;
}

static bool enabled(const PtaHyperv *hv, unsigned overlay)
{
    return hv->s.overlay_msr[overlay] & HV_PAGE_ENABLE;
}

static uint64_t page_of(const PtaHyperv *hv, unsigned overlay)
{
    return hv->s.overlay_msr[overlay] & PTA_PAGE_MASK;
}

/* Tells the back end. A page that is to go is told of before it goes. */
static bool tell(PtaHyperv *hv, unsigned vp, uint32_t msr, uint64_t value)
{
    const PtaHypervParams *p = &hv->params;
    return !p->mirror || p->mirror(p->opaque, vp, msr, value);
}

static bool tell_overlay(PtaHyperv *hv, unsigned vp, unsigned overlay, uint64_t value)
{
    static const uint32_t msrs[] = { HV_MSR_HYPERCALL, HV_MSR_REFERENCE_TSC };
    return tell(hv, vp, msrs[overlay], value);
}

/* ---- time ---- */

static uint64_t reference_time(const PtaHyperv *hv)
{
    return hv->params.clock_ns(hv->params.opaque) / 100;
}

static uint64_t tsc(const PtaHyperv *hv, unsigned vp)
{
    const PtaHypervParams *p = &hv->params;
    if (p->tsc) {
        return p->tsc(p->opaque, vp);
    }
    return (uint64_t)((unsigned __int128)p->clock_ns(p->opaque) * hv->tsc_hz / 1000000000);
}

/*
 * The page: reference time = (TSC * scale >> 64) + offset (TLFS 12.7.3). A reader compares the
 * sequence before and after, and takes the MSR instead while it is 0.
 */
static bool tsc_stable(const PtaHyperv *hv)
{
    const PtaHypervParams *p = &hv->params;
    return p->mirror || !p->tsc_stable || p->tsc_stable(p->opaque);
}

/* The hypercall page lies over the reference TSC page. */
static bool tsc_page_covered(const PtaHyperv *hv)
{
    return enabled(hv, PTA_HYPERV_HYPERCALL) && hv->s.top == PTA_HYPERV_HYPERCALL &&
           page_of(hv, PTA_HYPERV_HYPERCALL) == page_of(hv, PTA_HYPERV_REFERENCE_TSC);
}

/* A back end that keeps the page counts on where it finds the sequence. */
static void follow_sequence(PtaHyperv *hv)
{
    uint32_t sequence = 0;
    if (hv->params.mirror && enabled(hv, PTA_HYPERV_REFERENCE_TSC) && !tsc_page_covered(hv) &&
        pta_memory_load_u32(hv->params.memory, page_of(hv, PTA_HYPERV_REFERENCE_TSC), &sequence) ==
            PTA_MEM_OK &&
        sequence != 0) {
        hv->s.tsc_sequence = sequence;
    }
}

static void fill_tsc_page(PtaHyperv *hv, unsigned vp)
{
    PtaMemory *mem = hv->params.memory;
    uint64_t gpa = page_of(hv, PTA_HYPERV_REFERENCE_TSC);
    uint64_t scale = (uint64_t)(((unsigned __int128)10000000 << 64) / hv->tsc_hz);
    uint64_t now = reference_time(hv);
    uint64_t ticks = (uint64_t)((unsigned __int128)tsc(hv, vp) * scale >> 64);
    pta_memory_store_u32(mem, gpa, 0);
    pta_memory_store_u64(mem, gpa + 8, scale);
    pta_memory_store_u64(mem, gpa + 16, now - ticks);
    pta_memory_store_u32(mem, gpa, tsc_stable(hv) ? hv->s.tsc_sequence : 0);
}

/* With new numbers and a new sequence. */
static bool write_tsc_page(PtaHyperv *hv, unsigned vp)
{
    follow_sequence(hv);
    do {
        hv->s.tsc_sequence++;
    } while (hv->s.tsc_sequence == 0 || hv->s.tsc_sequence == UINT32_MAX);
    if (tsc_page_covered(hv)) {
        memset(hv->s.hypercall_below, 0, 4); /* no valid sequence when it reappears */
        return true;
    }
    fill_tsc_page(hv, vp);
    return tell_overlay(hv, vp, PTA_HYPERV_REFERENCE_TSC,
                        hv->s.overlay_msr[PTA_HYPERV_REFERENCE_TSC]);
}

/* ---- overlays, how they come and go ---- */

/* Takes an overlay away. */
static void uncover(PtaHyperv *hv, unsigned overlay, unsigned vp)
{
    unsigned other = !overlay;
    if (!enabled(hv, overlay)) {
        return;
    }
    tell_overlay(hv, vp, overlay, hv->s.overlay_msr[overlay] & ~HV_PAGE_ENABLE);
    if (overlay == PTA_HYPERV_REFERENCE_TSC) {
        follow_sequence(hv);
    }
    if (enabled(hv, other) && page_of(hv, other) == page_of(hv, overlay) && hv->s.top == other) {
        /* The other one lies on top: what we covered is now what it covers. */
        memcpy(below(hv, other), below(hv, overlay), PTA_PAGE_SIZE);
    } else {
        pta_memory_write(hv->params.memory, page_of(hv, overlay), below(hv, overlay),
                         PTA_PAGE_SIZE);
    }
    memset(below(hv, overlay), 0, PTA_PAGE_SIZE);
    hv->s.overlay_msr[overlay] &= ~(uint64_t)HV_PAGE_ENABLE;
}

/* What an overlay shows at first: an entry point, and INT3 where nobody should jump; or zeros. */
static void fill_page(const PtaHyperv *hv, unsigned overlay, uint8_t page[4096])
{
    const uint8_t *insn = hv->params.hypercall_insn;
    memset(page, overlay == PTA_HYPERV_HYPERCALL ? 0xcc : 0, 4096);
    if (overlay == PTA_HYPERV_HYPERCALL) {
        memcpy(page, insn, sizeof(hv->params.hypercall_insn));
        page[sizeof(hv->params.hypercall_insn)] = 0xc3; /* RET */
    }
}

/* Lays an overlay over the page of `msr`; false if there is no RAM that could be written. */
static bool cover(PtaHyperv *hv, unsigned overlay, uint64_t msr, unsigned vp)
{
    PtaMemory *mem = hv->params.memory;
    uint64_t gpa = msr & PTA_PAGE_MASK;
    uint8_t page[4096];
    fill_page(hv, overlay, page);
    if (pta_memory_read(mem, gpa, below(hv, overlay), PTA_PAGE_SIZE) != PTA_MEM_OK ||
        pta_memory_write(mem, gpa, page, sizeof(page)) != PTA_MEM_OK) {
        memset(below(hv, overlay), 0, PTA_PAGE_SIZE);
        return false;
    }
    hv->s.top = overlay;
    hv->s.overlay_msr[overlay] = msr;
    if (enabled(hv, PTA_HYPERV_REFERENCE_TSC) && tsc_page_covered(hv)) {
        tell_overlay(hv, vp, PTA_HYPERV_REFERENCE_TSC, 0);
    }
    bool known = overlay == PTA_HYPERV_REFERENCE_TSC ? write_tsc_page(hv, vp)
                                                     : tell_overlay(hv, vp, overlay, msr);
    if (!known) {
        uncover(hv, overlay, vp);
    }
    return known;
}

static bool is_ram_page(PtaHyperv *hv, uint64_t gpa)
{
    struct iovec iov[2];
    unsigned n = G_N_ELEMENTS(iov);
    return pta_memory_map(hv->params.memory, gpa, PTA_PAGE_SIZE, true, iov, &n) == PTA_MEM_OK;
}

/* A write to the MSR of an overlay: it comes, goes, moves, or stays. */
static bool write_overlay_msr(PtaHyperv *hv, unsigned overlay, uint64_t value, unsigned vp)
{
    bool enable = value & HV_PAGE_ENABLE;
    if (enable && !is_ram_page(hv, value & PTA_PAGE_MASK)) {
        return false; /* and nothing has changed */
    }
    if (enable && enabled(hv, overlay) && page_of(hv, overlay) == (value & PTA_PAGE_MASK)) {
        hv->s.overlay_msr[overlay] = value;
        return true;
    }
    uncover(hv, overlay, vp);
    if (enable) {
        return cover(hv, overlay, value, vp);
    }
    hv->s.overlay_msr[overlay] = value;
    return true;
}

/* ---- MSRs ---- */

static bool write_hypercall_msr(PtaHyperv *hv, uint64_t value, unsigned vp)
{
    if (hv->s.overlay_msr[PTA_HYPERV_HYPERCALL] & HV_HYPERCALL_LOCKED) {
        return true; /* unchanged until reset (TLFS 3.13) */
    }
    if (hv->s.guest_os_id == 0) {
        value &= ~(uint64_t)HV_PAGE_ENABLE; /* first the guest has to say who it is */
    }
    return write_overlay_msr(hv, PTA_HYPERV_HYPERCALL, value, vp);
}

static bool write_guest_os_id(PtaHyperv *hv, uint64_t value, unsigned vp)
{
    if (value == 0) {
        uncover(hv, PTA_HYPERV_HYPERCALL, vp);
    }
    if (!tell(hv, vp, HV_MSR_GUEST_OS_ID, value)) {
        return false;
    }
    hv->s.guest_os_id = value;
    return true;
}

/*
 * A plain page of the guest's own that we never read: nothing that it is for is offered, but a
 * stock Linux enables it on every VP without asking (arch/x86/hyperv/hv_init.c). It starts zeroed.
 */
static bool write_vp_assist(PtaHyperv *hv, unsigned vp, uint64_t value)
{
    if (value & HV_VP_ASSIST_RESERVED) {
        return false;
    }
    if ((value & HV_PAGE_ENABLE) &&
        pta_memory_fill(hv->params.memory, value & PTA_PAGE_MASK, 0, PTA_PAGE_SIZE) != PTA_MEM_OK) {
        return false;
    }
    hv->s.vp_assist[vp] = value;
    return true;
}

/* The guest's last words: P3 is where, P4 how long. NULL if there are none. */
static char *crash_message(PtaHyperv *hv, uint64_t control)
{
    size_t len = MIN(hv->s.crash[4], HV_CRASH_MESSAGE_MAX);
    if (!(control & HV_CRASH_NOTIFY_MESSAGE) || len == 0) {
        return NULL;
    }
    g_autofree char *raw = g_malloc(len);
    if (pta_memory_read(hv->params.memory, hv->s.crash[3], raw, len) != PTA_MEM_OK) {
        return NULL;
    }
    char *text = g_utf8_make_valid(raw, (gssize)len);
    for (char *c = text; *c; c++) {
        if (((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f) {
            *c = ' ';
        }
    }
    return text;
}

bool pta_hyperv_msr_read(PtaHyperv *hv, unsigned vp, uint32_t msr, uint64_t *value)
{
    g_assert(vp < hv->params.n_vps);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&hv->lock);
    (void)locker;
    switch (msr) {
    case HV_MSR_GUEST_OS_ID:
        *value = hv->s.guest_os_id;
        return true;
    case HV_MSR_HYPERCALL:
        *value = hv->s.overlay_msr[PTA_HYPERV_HYPERCALL];
        return true;
    case HV_MSR_VP_INDEX:
        *value = vp;
        return true;
    case HV_MSR_RESET:
        *value = 0;
        return true;
    case HV_MSR_TIME_REF_COUNT:
        *value = reference_time(hv);
        return true;
    case HV_MSR_REFERENCE_TSC:
        *value = hv->s.overlay_msr[PTA_HYPERV_REFERENCE_TSC];
        return true;
    case HV_MSR_TSC_FREQUENCY:
        *value = hv->tsc_hz;
        return true;
    case HV_MSR_APIC_FREQUENCY:
        *value = hv->params.apic_hz;
        return true;
    case HV_MSR_VP_ASSIST_PAGE:
        *value = hv->s.vp_assist[vp];
        return true;
    case HV_MSR_CRASH_P0 ... HV_MSR_CRASH_P4:
        *value = hv->s.crash[msr - HV_MSR_CRASH_P0];
        return true;
    case HV_MSR_CRASH_CTL:
        *value = HV_CRASH_NOTIFY | HV_CRASH_NOTIFY_MESSAGE; /* what we understand */
        return true;
    case HV_MSR_TSC_INVARIANT_CONTROL:
        *value = hv->s.tsc_invariant_control;
        return true;
    default:
        return false;
    }
}

/* What is left to do once the lock is no longer held. */
typedef struct After {
    bool reset, crash;
    uint64_t params[5];
    char *message;
} After;

static bool msr_write_locked(PtaHyperv *hv, unsigned vp, uint32_t msr, uint64_t value, After *after)
{
    switch (msr) {
    case HV_MSR_GUEST_OS_ID:
        return write_guest_os_id(hv, value, vp);
    case HV_MSR_HYPERCALL:
        return write_hypercall_msr(hv, value, vp);
    case HV_MSR_RESET:
        after->reset = value & 1;
        return true;
    case HV_MSR_REFERENCE_TSC:
        return write_overlay_msr(hv, PTA_HYPERV_REFERENCE_TSC, value, vp);
    case HV_MSR_VP_ASSIST_PAGE:
        return write_vp_assist(hv, vp, value);
    case HV_MSR_CRASH_P0 ... HV_MSR_CRASH_P4:
        hv->s.crash[msr - HV_MSR_CRASH_P0] = value;
        return true;
    case HV_MSR_CRASH_CTL:
        if (value & HV_CRASH_NOTIFY) {
            after->crash = true;
            after->message = crash_message(hv, value);
            memcpy(after->params, hv->s.crash, sizeof(after->params));
        }
        return true;
    case HV_MSR_TSC_INVARIANT_CONTROL:
        if (value & ~UINT64_C(1)) {
            return false;
        }
        hv->s.tsc_invariant_control = value;
        return true;
    default:
        /* VP_INDEX, TIME_REF_COUNT and the frequencies are read-only. */
        return false;
    }
}

bool pta_hyperv_msr_write(PtaHyperv *hv, unsigned vp, uint32_t msr, uint64_t value)
{
    g_assert(vp < hv->params.n_vps);
    After after = { 0 };
    g_mutex_lock(&hv->lock);
    bool ok = msr_write_locked(hv, vp, msr, value, &after);
    g_mutex_unlock(&hv->lock);
    const PtaHypervParams *p = &hv->params;
    if (after.reset && p->reset) {
        p->reset(p->opaque, vp);
    }
    if (after.crash && p->crash) {
        p->crash(p->opaque, vp, after.params, after.message);
    }
    g_free(after.message);
    return ok;
}

/* ---- hypercalls ---- */

bool pta_hyperv_hypercall(PtaHyperv *hv, unsigned vp, PtaX86Regs *regs)
{
    g_assert(vp < hv->params.n_vps);
    g_mutex_lock(&hv->lock);
    bool on = enabled(hv, PTA_HYPERV_HYPERCALL);
    g_mutex_unlock(&hv->lock);
    bool kernel = (regs->cr0 & CR0_PE) && !(regs->rflags & RFLAGS_VM) &&
                  !(regs->seg[PTA_X86_SS].attrs & SEG_ATTRS_DPL);
    if (!on || !kernel) {
        return false; /* TLFS 3.7: #UD outside the kernel */
    }
    bool long_mode = (regs->efer & EFER_LMA) && (regs->seg[PTA_X86_CS].attrs & SEG_ATTRS_LONG);
    uint64_t *rax = &regs->gpr[PTA_X86_RAX], *rcx = &regs->gpr[PTA_X86_RCX];
    uint64_t *rdx = &regs->gpr[PTA_X86_RDX];
    uint64_t input = long_mode ? *rcx : *rdx << 32 | (uint32_t)*rax;
    uint64_t result = HV_STATUS_INVALID_HYPERCALL_CODE; /* none is served yet */
    PTA_GUEST_ERROR("vp%u: hypercall 0x%" G_GINT64_MODIFIER "x is not known", vp, input);
    *rax = long_mode ? result : (uint32_t)result;
    if (!long_mode) {
        *rdx = result >> 32;
    }
    return true;
}

/* ---- life and state ---- */

void pta_hyperv_set_tsc_hz(PtaHyperv *hv, uint64_t hz)
{
    g_assert(hz >= PTA_MIN_TSC_HZ);
    hv->tsc_hz = hz;
}

PtaHyperv *pta_hyperv_new(const PtaHypervParams *params)
{
    static const uint8_t vmcall[] = { 0x0f, 0x01, 0xc1 };
    g_assert(params->n_vps > 0 && params->n_vps <= PTA_HYPERV_MAX_VPS);
    PtaHyperv *hv = g_new0(PtaHyperv, 1);
    hv->params = *params;
    pta_hyperv_set_tsc_hz(hv, params->tsc_hz);
    if (params->hypercall_insn[0] == 0) {
        memcpy(hv->params.hypercall_insn, vmcall, sizeof(vmcall));
    }
    g_mutex_init(&hv->lock);
    return hv;
}

void pta_hyperv_free(PtaHyperv *hv)
{
    if (hv) {
        g_mutex_clear(&hv->lock);
        g_free(hv);
    }
}

/* The back end forgets the guest, and what was covered reappears: the upper page first, so that the
 * lower one's is uncovered last. */
static void forget(PtaHyperv *hv)
{
    uncover(hv, hv->s.top, 0);
    uncover(hv, !hv->s.top, 0);
    tell(hv, 0, HV_MSR_GUEST_OS_ID, 0);
}

void pta_hyperv_reset(PtaHyperv *hv)
{
    g_mutex_lock(&hv->lock);
    forget(hv);
    memset(&hv->s, 0, sizeof(hv->s));
    g_mutex_unlock(&hv->lock);
}

void pta_hyperv_update_time(PtaHyperv *hv)
{
    g_mutex_lock(&hv->lock);
    if (enabled(hv, PTA_HYPERV_REFERENCE_TSC)) {
        write_tsc_page(hv, 0);
    }
    g_mutex_unlock(&hv->lock);
}

static bool state_valid(const void *state, GError **error)
{
    const PtaHypervState *s = state;
    if (s->top >= PTA_HYPERV_N_OVERLAYS || s->tsc_invariant_control > 1) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "hyperv: a field is out of range");
    }
    if ((s->overlay_msr[PTA_HYPERV_HYPERCALL] & HV_PAGE_ENABLE) && s->guest_os_id == 0) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "hyperv: the hypercall page is on without a guest");
    }
    for (unsigned i = 0; i < PTA_HYPERV_MAX_VPS; i++) {
        if (s->vp_assist[i] & HV_VP_ASSIST_RESERVED) {
            return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                             "hyperv: vp_assist[%u] has reserved bits set", i);
        }
    }
    return true;
}

static const PtaStateField state_fields[] = {
    PTA_STATE_U64(PtaHypervState, guest_os_id),
    PTA_STATE_UINT_ARRAY(PtaHypervState, overlay_msr),
    PTA_STATE_U64(PtaHypervState, tsc_invariant_control),
    PTA_STATE_UINT_ARRAY(PtaHypervState, crash),
    PTA_STATE_UINT_ARRAY(PtaHypervState, vp_assist),
    PTA_STATE_U32(PtaHypervState, tsc_sequence),
    PTA_STATE_U32(PtaHypervState, top),
    PTA_STATE_BLOB(PtaHypervState, hypercall_below),
    PTA_STATE_BLOB(PtaHypervState, reference_tsc_below),
    { 0 },
};

const PtaStateDesc pta_hyperv_state = {
    .name = "hyperv",
    .version = 1,
    .size = sizeof(PtaHypervState),
    .fields = state_fields,
    .validate = state_valid,
};

void pta_hyperv_get_state(PtaHyperv *hv, PtaHypervState *state)
{
    g_mutex_lock(&hv->lock);
    follow_sequence(hv);
    *state = hv->s;
    g_mutex_unlock(&hv->lock);
}

/* RAM holds the overlays after a snapshot; after a reset in place what they cover is there. */
static bool show_again(PtaHyperv *hv, unsigned overlay)
{
    uint8_t page[4096];
    if (!enabled(hv, overlay)) {
        return true;
    }
    fill_page(hv, overlay, page);
    pta_memory_write(hv->params.memory, page_of(hv, overlay), page, sizeof(page));
    return overlay == PTA_HYPERV_REFERENCE_TSC ||
           tell_overlay(hv, 0, overlay, hv->s.overlay_msr[overlay]);
}

/* The upper one last. */
static bool show_all_again(PtaHyperv *hv)
{
    return tell(hv, 0, HV_MSR_GUEST_OS_ID, hv->s.guest_os_id) && show_again(hv, !hv->s.top) &&
           show_again(hv, hv->s.top) &&
           (!enabled(hv, PTA_HYPERV_REFERENCE_TSC) || write_tsc_page(hv, 0));
}

bool pta_hyperv_set_state(PtaHyperv *hv, const PtaHypervState *state, GError **error)
{
    if (!state_valid(state, error)) {
        return false;
    }
    for (unsigned i = 0; i < PTA_HYPERV_N_OVERLAYS; i++) {
        uint64_t msr = state->overlay_msr[i];
        if ((msr & HV_PAGE_ENABLE) && !is_ram_page(hv, msr & PTA_PAGE_MASK)) {
            return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                             "hyperv: an overlay is at 0x%" G_GINT64_MODIFIER "x, where no RAM is",
                             msr & PTA_PAGE_MASK);
        }
    }
    g_mutex_lock(&hv->lock);
    tell_overlay(hv, 0, PTA_HYPERV_HYPERCALL, 0); /* pages that are no overlays any more */
    tell_overlay(hv, 0, PTA_HYPERV_REFERENCE_TSC, 0);
    hv->s = *state;
    bool known = show_all_again(hv);
    g_mutex_unlock(&hv->lock);
    return known ||
           pta_throw(error, PTA_ERROR_HOST, "hyperv: the back end does not take the state");
}
