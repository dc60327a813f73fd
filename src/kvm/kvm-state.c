/*
 * A VP's canonical state from and to the kernel. VP's thread, or while the VP does not run.
 *
 * What KVM has on its way into the VP has no place in the canonical state: an interrupt that it took
 * out of the APIC and has not delivered goes back to the APIC's page, an exception is pending again
 * (its address and DR6 are where the handler looks for them), an NMI is pending and not blocked.
 *
 * The four PDPTEs of PAE paging are not part of the canonical state either: as with the software CPU
 * they are loaded from memory when a state is set.
 *
 * A state that is set is hostile: it is checked before anything changes. What the kernel still
 * refuses is an error as well, after which the VP has to be reset.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm-state.h"
#include "src/partition/x86-state-check.h"

#include <errno.h>
#include <string.h>

#define CR0_ET        (UINT64_C(1) << 4)
#define CR0_PG        (UINT64_C(1) << 31)
#define RFLAGS_VM     (UINT64_C(1) << 17)
#define DR6_FIXED     UINT64_C(0xffff0ff0)
#define DR7_FIXED     UINT64_C(0x400)
#define EFER_LMA      (UINT64_C(1) << 10)

#define ATTR_PRESENT  (1u << 7)
#define ATTR_DPL      (3u << 5)
#define ATTR_L        (1u << 13)

#define SHADOW_STI    1 /* PtaX86Events.interrupt_shadow */
#define SHADOW_MOV_SS 2

#define VECTOR_DB     1
#define VECTOR_BP     3
#define VECTOR_OF     4
#define VECTOR_PF     14

/* XSAVE's area (SDM vol. 1, 13.4). */
#define XSAVE_MASK     28  /* MXCSR_MASK */
#define XSAVE_LEGACY   416 /* end of what FXSAVE writes */
#define XSAVE_BV       512
#define XSAVE_EXTENDED 576
#define XSAVE_AVX_END  832
#define MXCSR_MASK     UINT32_C(0xffff)

/* ---- ioctls ---- */

bool kvm_give_named(const KvmVp *vp, unsigned long request, const void *arg, const char *name,
                    GError **error)
{
    int r;
    do {
        r = kvm_ioctl(vp->fd, request, (void *)(uintptr_t)arg);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && errno == EINVAL) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "%s: the kernel refuses the state", name);
    }
    return r >= 0 || pta_throw_errno(error, errno, "%s", name);
}

bool kvm_fetch_named(const KvmVp *vp, unsigned long request, void *arg, const char *name)
{
    g_autoptr(GError) error = NULL;
    if (kvm_try_named(vp->fd, request, arg, name, &error)) {
        return true;
    }
    g_warning("vp%u: %s", vp->vp.index, error->message);
    return false;
}

/* ---- segments ---- */

static PtaX86Segment get_segment(const struct kvm_segment *s)
{
    unsigned attrs = (unsigned)s->type | (unsigned)s->s << 4 | (unsigned)s->dpl << 5 |
                     (unsigned)s->present << 7 | (unsigned)s->avl << 12 | (unsigned)s->l << 13 |
                     (unsigned)s->db << 14 | (unsigned)s->g << 15;
    if (s->unusable || !s->present) {
        /* The rest is what the CPU happens to have; the DPL of SS is the CPL. */
        attrs = PTA_X86_SEG_UNUSABLE | (attrs & ATTR_DPL);
    }
    return (PtaX86Segment){ s->base, s->limit, s->selector, (uint16_t)attrs };
}

static struct kvm_segment set_segment(const PtaX86Segment *s)
{
    unsigned a = s->attrs;
    bool unusable = (a & PTA_X86_SEG_UNUSABLE) || !(a & ATTR_PRESENT);
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = a & 15,
        .s = a >> 4 & 1,
        .dpl = a >> 5 & 3,
        .present = !unusable,
        .avl = a >> 12 & 1,
        .l = a >> 13 & 1,
        .db = a >> 14 & 1,
        .g = a >> 15 & 1,
        .unusable = unusable,
    };
}

/* In the order of PTA_X86_ES and so on. */
static struct kvm_segment *segment_of(struct kvm_sregs2 *s, unsigned i)
{
    struct kvm_segment *all[] = { &s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs };
    return all[i];
}

/* ---- special registers ---- */

/* struct kvm_sregs begins as struct kvm_sregs2 does, up to apic_base. */
#define SREGS_COMMON offsetof(struct kvm_sregs, interrupt_bitmap)
G_STATIC_ASSERT(SREGS_COMMON == offsetof(struct kvm_sregs2, flags));

static bool fetch_sregs(const KvmVp *vp, struct kvm_sregs2 *s)
{
    if (vp->m->caps.sregs2) {
        return kvm_fetch(vp, KVM_GET_SREGS2, s);
    }
    struct kvm_sregs old = { 0 };
    bool ok = kvm_fetch(vp, KVM_GET_SREGS, &old);
    memcpy(s, &old, SREGS_COMMON);
    return ok;
}

/* Without flags, so that the kernel loads PDPTEs. */
static bool give_sregs(const KvmVp *vp, const struct kvm_sregs2 *s, GError **error)
{
    if (vp->m->caps.sregs2) {
        return kvm_give(vp, KVM_SET_SREGS2, s, error);
    }
    struct kvm_sregs old = { 0 };
    memcpy(&old, s, SREGS_COMMON);
    return kvm_give(vp, KVM_SET_SREGS, &old, error);
}

static void get_sregs(PtaX86Regs *r, struct kvm_sregs2 *s)
{
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        r->seg[i] = get_segment(segment_of(s, i));
    }
    r->tr = get_segment(&s->tr);
    r->ldtr = get_segment(&s->ldt);
    r->gdtr = (PtaX86Table){ .base = s->gdt.base, .limit = s->gdt.limit };
    r->idtr = (PtaX86Table){ .base = s->idt.base, .limit = s->idt.limit };
    r->cr0 = s->cr0;
    r->cr2 = s->cr2;
    r->cr3 = s->cr3;
    r->cr4 = s->cr4;
    r->cr8 = s->cr8;
    r->efer = s->efer;
}

static void set_sregs(struct kvm_sregs2 *s, const PtaX86State *state)
{
    const PtaX86Regs *r = &state->regs;
    *s = (struct kvm_sregs2){ 0 };
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        *segment_of(s, i) = set_segment(&r->seg[i]);
    }
    if (!(r->efer & EFER_LMA)) {
        s->cs.l = 0; /* means nothing there, and the kernel refuses it */
    }
    s->tr = set_segment(&r->tr);
    s->ldt = set_segment(&r->ldtr);
    s->gdt.base = r->gdtr.base;
    s->gdt.limit = r->gdtr.limit;
    s->idt.base = r->idtr.base;
    s->idt.limit = r->idtr.limit;
    s->cr0 = r->cr0 | CR0_ET;
    s->cr2 = r->cr2;
    s->cr3 = r->cr3;
    s->cr4 = r->cr4;
    s->cr8 = state->lapic.page[0x80] >> 4; /* KVM_SET_LAPIC has the whole TPR */
    s->efer = r->efer;
    s->apic_base = state->msrs.apic_base;
}

/* ---- general registers ---- */

static bool fetch_regs(const KvmVp *vp, PtaX86Regs *r)
{
    struct kvm_regs k = { 0 };
    bool ok = kvm_fetch(vp, KVM_GET_REGS, &k);
    const uint64_t gpr[] = { k.rax, k.rcx, k.rdx, k.rbx, k.rsp, k.rbp, k.rsi, k.rdi,
                             k.r8,  k.r9,  k.r10, k.r11, k.r12, k.r13, k.r14, k.r15 };
    memcpy(r->gpr, gpr, sizeof(gpr));
    r->rip = k.rip;
    r->rflags = k.rflags;
    return ok;
}

/*
 * INT3 and INTO, of one byte each, have been executed, and their exception is pending. The stepper
 * delivers it before the VP runs (vp->trap). Where there is none: KVM has it so that RIP is still at the
 * instruction, and does not show the exception (it will be met again).
 */
static bool is_soft_exception(const PtaX86Events *e)
{
    return e->exception_pending && (e->vector == VECTOR_BP || e->vector == VECTOR_OF);
}

static bool give_regs(KvmVp *vp, const PtaX86State *state, GError **error)
{
    const PtaX86Regs *r = &state->regs;
    const uint64_t *g = r->gpr;
    bool wide = (r->efer & EFER_LMA) && (r->seg[PTA_X86_CS].attrs & ATTR_L);
    bool soft = is_soft_exception(&state->events);
    vp->trap = soft && vp->m->stepper_ops ? state->events.vector : 0;
    uint64_t rip = soft && !vp->trap ? r->rip - 1 : r->rip;
    struct kvm_regs k = {
        .rax = g[PTA_X86_RAX],
        .rcx = g[PTA_X86_RCX],
        .rdx = g[PTA_X86_RDX],
        .rbx = g[PTA_X86_RBX],
        .rsp = g[PTA_X86_RSP],
        .rbp = g[PTA_X86_RBP],
        .rsi = g[PTA_X86_RSI],
        .rdi = g[PTA_X86_RDI],
        .r8 = g[PTA_X86_R8],
        .r9 = g[PTA_X86_R9],
        .r10 = g[PTA_X86_R10],
        .r11 = g[PTA_X86_R11],
        .r12 = g[PTA_X86_R12],
        .r13 = g[PTA_X86_R13],
        .r14 = g[PTA_X86_R14],
        .r15 = g[PTA_X86_R15],
        .rip = wide ? rip : (uint32_t)rip,
        .rflags = r->rflags,
    };
    return kvm_give(vp, KVM_SET_REGS, &k, error);
}

static bool has_xsave(const KvmVp *vp)
{
    return pta_cpuid_has(vp->m->cpuid, PTA_X86_FEAT_XSAVE);
}

/* As the VP has it, whatever the model says. */
static uint64_t fetch_xcr0(const KvmVp *vp)
{
    struct kvm_xcrs x = { 0 };
    if (kvm_fetch(vp, KVM_GET_XCRS, &x)) {
        for (unsigned i = 0; i < MIN(x.nr_xcrs, G_N_ELEMENTS(x.xcrs)); i++) {
            if (x.xcrs[i].xcr == 0) {
                return x.xcrs[i].value;
            }
        }
    }
    return 1;
}

static uint64_t get_xcr0(const KvmVp *vp)
{
    return has_xsave(vp) ? fetch_xcr0(vp) : 1;
}

static bool give_xcr0(const KvmVp *vp, uint64_t xcr0, GError **error)
{
    struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0].value = xcr0 };
    return kvm_give(vp, KVM_SET_XCRS, &x, error);
}

static bool set_xcr0(const KvmVp *vp, uint64_t xcr0, GError **error)
{
    return !has_xsave(vp) || give_xcr0(vp, xcr0, error);
}

bool kvm_vp_get_regs(KvmVp *vp, PtaX86Regs *regs)
{
    struct kvm_sregs2 s = { 0 };
    *regs = (PtaX86Regs){ 0 };
    bool ok = fetch_regs(vp, regs);
    ok = fetch_sregs(vp, &s) && ok;
    get_sregs(regs, &s);
    regs->xcr0 = get_xcr0(vp);
    return ok;
}

/* ---- x87, SSE, AVX ---- */

/* The kernel's area is as large as the host's features make it; ours is its beginning. */
static size_t xsave_size(const KvmVp *vp)
{
    int size =
        vp->m->caps.xsave2 ? kvm_ioctl_val(vp->m->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) : 0;
    return MAX((size_t)MAX(size, 0), sizeof(struct kvm_xsave));
}

/* What is in an area of this model, and nothing else: all components, in use or not. */
static void tidy_xsave(const KvmVp *vp, uint8_t *area)
{
    bool avx = pta_cpuid_has(vp->m->cpuid, PTA_X86_FEAT_AVX);
    size_t end = avx ? XSAVE_AVX_END : XSAVE_EXTENDED;
    uint32_t mask = GUINT32_TO_LE(MXCSR_MASK);
    uint64_t components = GUINT64_TO_LE(avx ? 7 : 3);
    memcpy(area + XSAVE_MASK, &mask, sizeof(mask));
    for (unsigned i = 0; i < 8; i++) {
        memset(area + 32 + (size_t)16 * i + 10, 0, 6); /* beyond the 80 bits of ST(i) */
    }
    memset(area + XSAVE_LEGACY, 0, XSAVE_EXTENDED - XSAVE_LEGACY);
    memcpy(area + XSAVE_BV, &components, sizeof(components));
    memset(area + end, 0, PTA_X86_XSAVE_SIZE - end);
}

/* The kernel's area, all of it; free with g_free. */
static uint8_t *fetch_xsave(const KvmVp *vp)
{
    uint8_t *area = g_malloc0(xsave_size(vp));
    if (vp->m->caps.xsave2) {
        kvm_fetch(vp, KVM_GET_XSAVE2, area);
    } else {
        kvm_fetch(vp, KVM_GET_XSAVE, area);
    }
    return area;
}

/* `all`: components that are not the model's as well. */
static void get_xsave(const KvmVp *vp, bool all, PtaX86Xsave *x)
{
    g_autofree uint8_t *area = fetch_xsave(vp);
    memcpy(x->area, area, sizeof(x->area));
    if (!all) {
        tidy_xsave(vp, x->area);
    }
}

static bool set_xsave(const KvmVp *vp, const PtaX86Xsave *x, GError **error)
{
    g_autofree uint8_t *area = g_malloc0(xsave_size(vp));
    memcpy(area, x->area, sizeof(x->area));
    tidy_xsave(vp, area);
    return kvm_give(vp, KVM_SET_XSAVE, area, error);
}

/* ---- debug registers ---- */

static void get_debug(const KvmVp *vp, PtaX86DebugRegs *d)
{
    struct kvm_debugregs k = { 0 };
    kvm_fetch(vp, KVM_GET_DEBUGREGS, &k);
    memcpy(d->dr, k.db, sizeof(d->dr));
    d->dr6 = k.dr6;
    d->dr7 = k.dr7;
}

static bool set_debug(const KvmVp *vp, const PtaX86DebugRegs *d, GError **error)
{
    struct kvm_debugregs k = { .dr6 = d->dr6 | DR6_FIXED, .dr7 = d->dr7 | DR7_FIXED };
    memcpy(k.db, d->dr, sizeof(d->dr));
    return kvm_give(vp, KVM_SET_DEBUGREGS, &k, error);
}

/* ---- events ---- */

static uint8_t get_shadow(uint8_t k)
{
    /* SVM has one bit for both, and MOV SS holds up more. */
    return k & KVM_X86_SHADOW_INT_MOV_SS ? SHADOW_MOV_SS
           : k & KVM_X86_SHADOW_INT_STI  ? SHADOW_STI
                                         : 0;
}

static uint8_t set_shadow(uint8_t shadow)
{
    return shadow & SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS
           : shadow & SHADOW_STI  ? KVM_X86_SHADOW_INT_STI
                                  : 0;
}

static void get_exception(const KvmVp *vp, const struct kvm_vcpu_events *k, PtaX86State *state)
{
    PtaX86Events *e = &state->events;
    if (vp->trap) {
        e->exception_pending = 1;
        e->vector = vp->trap;
        return;
    }
    if (!k->exception.pending && !k->exception.injected) {
        return;
    }
    e->exception_pending = 1;
    e->vector = k->exception.nr;
    e->has_error_code = k->exception.has_error_code != 0;
    e->error_code = e->has_error_code ? k->exception.error_code : 0;
    if (!k->exception.pending || !(k->flags & KVM_VCPUEVENT_VALID_PAYLOAD) ||
        !k->exception_has_payload) {
        return;
    }
    if (e->vector == VECTOR_PF) {
        state->regs.cr2 = k->exception_payload;
    } else if (e->vector == VECTOR_DB) {
        /* Conditions of before go, and bits that are active low (RTM, bus lock) go the other way. */
        uint64_t dr6 = (state->debug.dr6 & ~UINT64_C(15)) | DR6_FIXED;
        dr6 |= k->exception_payload;
        state->debug.dr6 = dr6 ^ (k->exception_payload & DR6_FIXED);
    }
}

/* After registers and debug registers. */
static void get_events(KvmVp *vp, const struct kvm_vcpu_events *k, uint32_t mp_state,
                       PtaX86State *state)
{
    PtaX86Events *e = &state->events;
    get_exception(vp, k, state);
    e->interrupt_shadow = get_shadow(k->interrupt.shadow);
    e->nmi_pending = k->nmi.pending || k->nmi.injected;
    e->nmi_blocked = k->nmi.masked && !k->nmi.injected;
    e->smi_blocked = (k->flags & KVM_VCPUEVENT_VALID_SMM) && k->smi.smm;
    if (vp->shutdown ||
        ((k->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && k->triple_fault.pending)) {
        e->activity = PTA_X86_SHUTDOWN;
    } else if (mp_state == KVM_MP_STATE_HALTED) {
        e->activity = PTA_X86_HALTED;
    } else if (mp_state == KVM_MP_STATE_UNINITIALIZED || mp_state == KVM_MP_STATE_INIT_RECEIVED) {
        e->activity = PTA_X86_WAIT_FOR_SIPI;
    }
}

/*
 * Without KVM_CAP_EXCEPTION_PAYLOAD, "injected" means pending as well. The guest meets INT3 and INTO
 * again by itself, unless INT3 is the debugger's to see: the kernel delivers one that is queued.
 */
static void give_exception(const KvmVp *vp, const PtaX86Events *e, struct kvm_vcpu_events *k)
{
    bool payload = k->flags & KVM_VCPUEVENT_VALID_PAYLOAD;
    bool seen = e->vector == VECTOR_BP && vp->debug.enabled && vp->debug.sw_breakpoints;
    bool queue = e->exception_pending && !vp->trap && (!is_soft_exception(e) || seen);
    k->exception.pending = payload && queue;
    k->exception.injected = !payload && queue;
    k->exception.nr = queue ? e->vector : 0;
    k->exception.has_error_code = queue && e->has_error_code;
    k->exception.error_code = k->exception.has_error_code ? e->error_code : 0;
    k->exception_has_payload = 0;
    k->exception_payload = 0;
}

static bool set_events(KvmVp *vp, const PtaX86Events *e, GError **error)
{
    struct kvm_vcpu_events had = { 0 };
    if (!kvm_try(vp->fd, KVM_GET_VCPU_EVENTS, &had, error)) {
        return false;
    }
    /* What the kernel says of itself it takes as well; a pending triple fault and INIT go. */
    struct kvm_vcpu_events k = { .flags = had.flags | KVM_VCPUEVENT_VALID_NMI_PENDING |
                                          KVM_VCPUEVENT_VALID_SHADOW };
    give_exception(vp, e, &k);
    k.interrupt.shadow = set_shadow(e->interrupt_shadow);
    k.nmi.pending = e->nmi_pending;
    k.nmi.masked = e->nmi_blocked;
    if (k.flags & KVM_VCPUEVENT_VALID_SMM) {
        k.smi.smm = e->smi_blocked;
    }
    return kvm_give(vp, KVM_SET_VCPU_EVENTS, &k, error);
}

static bool set_activity(KvmVp *vp, uint32_t activity, GError **error)
{
    static const uint32_t states[] = {
        [PTA_X86_RUNNING] = KVM_MP_STATE_RUNNABLE,
        [PTA_X86_HALTED] = KVM_MP_STATE_HALTED,
        [PTA_X86_WAIT_FOR_SIPI] = KVM_MP_STATE_INIT_RECEIVED, /* UNINITIALIZED would want an INIT */
        [PTA_X86_SHUTDOWN] = KVM_MP_STATE_RUNNABLE,           /* vp->shutdown keeps it out */
    };
    struct kvm_mp_state k = { .mp_state = states[activity] };
    return kvm_give(vp, KVM_SET_MP_STATE, &k, error);
}

/* ---- the whole ---- */

/* `step`: for one instruction: of the extended registers what is not the model's as well, and no APIC. */
static void get_state(KvmVp *vp, uint32_t mp_state, bool step, PtaX86State *state)
{
    struct kvm_vcpu_events events = { 0 };
    struct kvm_sregs2 sregs = { 0 };
    /* Takes NMIs that wait, before anything else is read. */
    kvm_fetch(vp, KVM_GET_VCPU_EVENTS, &events);
    fetch_regs(vp, &state->regs);
    fetch_sregs(vp, &sregs);
    get_sregs(&state->regs, &sregs);
    state->regs.xcr0 = step ? fetch_xcr0(vp) : get_xcr0(vp);
    get_debug(vp, &state->debug);
    get_xsave(vp, step, &state->xsave);
    kvm_msrs_get(vp, &state->msrs);
    get_events(vp, &events, mp_state, state);
    state->tsc = kvm_vp_tsc(&vp->vp);
    state->msrs.apic_base = sregs.apic_base;
    if (step) {
        return;
    }
    const KvmApicContext context = {
        .apic_base = sregs.apic_base,
        .injected = events.interrupt.injected ? events.interrupt.nr : -1,
        .tsc = state->tsc,
    };
    state->msrs.tsc_deadline = kvm_lapic_get(vp, &context, &state->lapic);
}

void kvm_vp_get_state(PtaBackendVp *be_vp, PtaX86State *state)
{
    KvmVp *vp = kvm_vp_of(be_vp);
    struct kvm_mp_state mp = { 0 };
    memset(state, 0, sizeof(*state));
    kvm_vp_take_nmi(vp);
    kvm_fetch(vp, KVM_GET_MP_STATE, &mp); /* INIT and SIPI that wait change the registers */
    get_state(vp, mp.mp_state, false, state);
}

/* What kvm_pvm would drop without a word. */
static bool check_pvm(const PtaX86Regs *r, GError **error)
{
    const char *mode = (r->cr0 & CR0_PG) && !(r->efer & EFER_LMA) ? "32-bit paging"
                       : r->rflags & RFLAGS_VM                    ? "virtual-8086 mode"
                                                                  : NULL;
    return !mode ||
           pta_throw(error, PTA_ERROR_UNSUPPORTED,
                     "the guest is in %s, which this host's KVM (kvm_pvm) does not have", mode);
}

static bool check_cpu(const KvmVp *vp, const PtaX86State *state, GError **error)
{
    return pta_x86_state_check(vp->m->cpuid, state, error) &&
           (!vp->m->caps.pvm || check_pvm(&state->regs, error));
}

static bool set_tsc(KvmVp *vp, uint64_t tsc, GError **error)
{
    if (vp->frozen.valid) {
        vp->frozen.tsc = tsc;
        return true;
    }
    return kvm_msr_set(vp, KVM_MSR_TSC, tsc) ||
           pta_throw(error, PTA_ERROR_HOST, "KVM_SET_MSRS: TSC");
}

bool kvm_vp_set_state(PtaBackendVp *be_vp, const PtaX86State *state, GError **error)
{
    KvmVp *vp = kvm_vp_of(be_vp);
    struct kvm_mp_state mp;
    struct kvm_sregs2 sregs;
    if (!check_cpu(vp, state, error) ||
        !pta_x86_lapic_check(vp->m->cpuid, vp->vp.index, &state->lapic, state->msrs.apic_base,
                             error)) {
        return false;
    }
    set_sregs(&sregs, state);
    /* An NMI, INIT or SIPI that waits belongs to the state that goes. General registers drop a pending
     * exception, and the APIC's base decides what its page means. */
    __atomic_store_n(&vp->nmi, false, __ATOMIC_SEQ_CST);
    if (!kvm_try(vp->fd, KVM_GET_MP_STATE, &mp, error) || !give_regs(vp, state, error) ||
        !give_sregs(vp, &sregs, error) || !set_xcr0(vp, state->regs.xcr0, error) ||
        !set_xsave(vp, &state->xsave, error) || !set_debug(vp, &state->debug, error) ||
        !kvm_msrs_set(vp, &state->msrs, error) || !set_tsc(vp, state->tsc, error) ||
        !kvm_lapic_set(vp, &state->lapic, state->msrs.apic_base, state->msrs.tsc_deadline, error) ||
        !set_activity(vp, PTA_X86_RUNNING, error) || !set_events(vp, &state->events, error) ||
        !set_activity(vp, state->events.activity, error)) {
        return false;
    }
    vp->shutdown = state->events.activity == PTA_X86_SHUTDOWN;
    return true;
}

/* ---- one instruction ---- */

void kvm_vp_get_step(KvmVp *vp, PtaX86State *before)
{
    memset(before, 0, sizeof(*before));
    get_state(vp, KVM_MP_STATE_RUNNABLE, true, before);
}

#define DIFFERS(field) (memcmp(&before->field, &after->field, sizeof(after->field)) != 0)

static bool step_sregs(const KvmVp *vp, const PtaX86State *before, const PtaX86State *after,
                       GError **error)
{
    const size_t from = offsetof(PtaX86Regs, seg), to = offsetof(PtaX86Regs, xcr0);
    struct kvm_sregs2 had = { 0 }, sregs;
    if (memcmp((const uint8_t *)&before->regs + from, (const uint8_t *)&after->regs + from,
               to - from) == 0) {
        return true;
    }
    set_sregs(&sregs, after);
    sregs.cr8 = after->regs.cr8; /* the APIC's page is not the step's */
    bool same_tables = before->regs.cr3 == after->regs.cr3 && before->regs.cr0 == after->regs.cr0 &&
                       before->regs.cr4 == after->regs.cr4 && before->regs.efer == after->regs.efer;
    if (same_tables && vp->m->caps.sregs2 && fetch_sregs(vp, &had)) {
        sregs.flags = had.flags; /* PDPTEs stay as they were loaded */
        memcpy(sregs.pdptrs, had.pdptrs, sizeof(sregs.pdptrs));
    }
    return give_sregs(vp, &sregs, error);
}

static bool step_events(KvmVp *vp, const PtaX86State *before, const PtaX86State *after,
                        GError **error)
{
    struct kvm_vcpu_events k = { 0 };
    const PtaX86Events *e = &after->events;
    if (!DIFFERS(events) && !e->exception_pending) {
        return true;
    }
    if (!kvm_try(vp->fd, KVM_GET_VCPU_EVENTS, &k, error)) {
        return false;
    }
    k.flags &= KVM_VCPUEVENT_VALID_PAYLOAD;
    k.flags |= KVM_VCPUEVENT_VALID_SHADOW;
    give_exception(vp, e, &k);
    k.interrupt.shadow = set_shadow(e->interrupt_shadow);
    k.nmi.masked = e->nmi_blocked;
    if (!kvm_give(vp, KVM_SET_VCPU_EVENTS, &k, error) ||
        (DIFFERS(events.activity) && !set_activity(vp, e->activity, error))) {
        return false;
    }
    vp->shutdown = e->activity == PTA_X86_SHUTDOWN;
    return true;
}

/* What lies beyond our area stays. */
static bool step_xsave(const KvmVp *vp, const PtaX86State *after, GError **error)
{
    g_autofree uint8_t *area = fetch_xsave(vp);
    memcpy(area, after->xsave.area, sizeof(after->xsave.area));
    return kvm_give(vp, KVM_SET_XSAVE, area, error);
}

/* Not checked against the model: it comes from this VP, which may be in a state that the model does not
 * have (kvm_pvm shows the host's CPUID), and KVM has the last word. */
bool kvm_vp_set_step(KvmVp *vp, const PtaX86State *before, const PtaX86State *after, GError **error)
{
    /* General registers drop a pending exception: events come after them. */
    return give_regs(vp, after, error) && step_sregs(vp, before, after, error) &&
           (!DIFFERS(regs.xcr0) || give_xcr0(vp, after->regs.xcr0, error)) &&
           (!DIFFERS(xsave) || step_xsave(vp, after, error)) &&
           (!DIFFERS(debug) || set_debug(vp, &after->debug, error)) &&
           (!DIFFERS(msrs) || kvm_msrs_set(vp, &after->msrs, error)) &&
           step_events(vp, before, after, error);
}
