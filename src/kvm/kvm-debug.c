/*
 * The debugger: its breakpoints and watchpoints are in the debug registers of the CPU while the VP is in
 * guest code, its INT3s and single steps leave guest code (KVM_SET_GUEST_DEBUG). In between the kernel
 * is told that nobody debugs: what the VP's state says of RFLAGS.TF is the guest's.
 *
 * The guest's own breakpoints are in the registers that the debugger leaves free, as they are when the VP
 * enters guest code; what they meet, and the guest's own single steps, become its #DB. Those for
 * which there is no register left do not work as long as the debugger needs all of them.
 *
 * How a single step is made is in kvm-step.c. The VP's thread, or MAIN while it does not run.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm-debug.h"

#include <errno.h>
#include <string.h>

#define VECTOR_DB 1
#define VECTOR_BP 3

#define DR7_FIXED UINT64_C(0x400)
#define DR6_FIXED UINT64_C(0xffff0ff0)
#define DR6_BD    (UINT64_C(1) << 13)
#define DR6_BT    (UINT64_C(1) << 15)

/* ---- debug registers ---- */

static bool enabled(uint64_t dr7, unsigned i)
{
    return dr7 >> (i * 2) & 3;
}

static void put_breakpoint(struct kvm_guest_debug *g, unsigned slot, uint64_t at, unsigned type)
{
    g->arch.debugreg[slot] = at;
    g->arch.debugreg[7] &= ~(UINT64_C(0xf) << (16 + slot * 4));
    g->arch.debugreg[7] |=
        DR7_FIXED | UINT64_C(2) << (slot * 2) | (uint64_t)type << (16 + slot * 4);
}

static void add_guests(KvmVp *vp, struct kvm_guest_debug *g)
{
    struct kvm_debugregs r = { 0 };
    if (kvm_ioctl(vp->fd, KVM_GET_DEBUGREGS, &r) < 0) {
        g_warning("kvm: vp%u: KVM_GET_DEBUGREGS: %s", vp->vp.index, g_strerror(errno));
        return;
    }
    unsigned slot = 0;
    for (unsigned i = 0; i < 4; i++) {
        while (slot < 4 && enabled(g->arch.debugreg[7], slot)) {
            slot++;
        }
        if (slot < 4 && enabled(r.dr7, i)) {
            put_breakpoint(g, slot, r.db[i], r.dr7 >> (16 + i * 4) & 0xf);
            vp->armed.guest_of[slot] = (int8_t)i;
        }
    }
}

bool kvm_debug_add(struct kvm_guest_debug *g, uint64_t lin, uint32_t *slots)
{
    for (unsigned slot = 0; slot < 4; slot++) {
        if (!enabled(g->arch.debugreg[7], slot)) {
            put_breakpoint(g, slot, lin, 0);
            *slots |= 1u << slot;
            return true;
        }
    }
    return false;
}

uint32_t kvm_debug_breaks_at(const PtaGuestDebug *d, uint64_t lin)
{
    uint32_t found = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (enabled(d->dr7, i) && (d->dr7 >> (16 + i * 4) & 3) == 0 && d->dr[i] == lin) {
            found |= 1u << i;
        }
    }
    return found;
}

void kvm_debug_ask(const KvmVp *vp, struct kvm_guest_debug *g)
{
    memset(g, 0, sizeof(*g));
    g->control = KVM_GUESTDBG_ENABLE | (vp->debug.sw_breakpoints ? KVM_GUESTDBG_USE_SW_BP : 0);
    g->arch.debugreg[7] = vp->debug.dr7;
    for (unsigned i = 0; i < 4; i++) {
        g->arch.debugreg[i] = vp->debug.dr[i];
    }
}

bool kvm_debug_arm(KvmVp *vp, struct kvm_guest_debug *g, PtaExit *exit)
{
    memset(vp->armed.guest_of, -1, sizeof(vp->armed.guest_of));
    vp->armed.registers = (g->arch.debugreg[7] & 0xff) != 0;
    vp->armed.step = g->control & KVM_GUESTDBG_SINGLESTEP;
    if (vp->armed.registers) {
        add_guests(vp, g);
        g->control |= KVM_GUESTDBG_USE_HW_BP;
    }
    vp->armed.dr7 = g->arch.debugreg[7];
    g->control &= vp->m->caps.guest_debug | ~(uint32_t)KVM_GUESTDBG_BLOCKIRQ;
    return kvm_ioctl(vp->fd, KVM_SET_GUEST_DEBUG, g) == 0 ||
           kvm_internal_error(exit, "KVM_SET_GUEST_DEBUG: %s", g_strerror(errno));
}

void kvm_debug_disarm(KvmVp *vp)
{
    struct kvm_guest_debug g = { 0 };
    vp->armed.step = false;
    if (kvm_ioctl(vp->fd, KVM_SET_GUEST_DEBUG, &g) < 0) {
        g_warning("kvm: vp%u: KVM_SET_GUEST_DEBUG: %s", vp->vp.index, g_strerror(errno));
    }
}

/* ---- exits ---- */

/* What happened is the guest's own: its #DB. */
static bool raise_db(KvmVp *vp, uint64_t dr6)
{
    struct kvm_debugregs r = { 0 };
    struct kvm_vcpu_events e = { 0 };
    if (kvm_ioctl(vp->fd, KVM_GET_DEBUGREGS, &r) < 0 ||
        kvm_ioctl(vp->fd, KVM_GET_VCPU_EVENTS, &e) < 0) {
        return false;
    }
    r.dr6 = (r.dr6 & ~UINT64_C(15)) | DR6_FIXED | dr6;
    e.flags &= KVM_VCPUEVENT_VALID_PAYLOAD;
    e.exception.pending = e.flags != 0;
    e.exception.injected = e.flags == 0;
    e.exception.nr = VECTOR_DB;
    e.exception.has_error_code = 0;
    e.exception_has_payload = 0;
    return kvm_ioctl(vp->fd, KVM_SET_DEBUGREGS, &r) == 0 &&
           kvm_ioctl(vp->fd, KVM_SET_VCPU_EVENTS, &e) == 0;
}

static bool leave(KvmVp *vp, uint8_t vector, uint64_t dr6, PtaExit *exit)
{
    struct kvm_regs regs = { 0 };
    if (kvm_ioctl(vp->fd, KVM_GET_REGS, &regs) < 0) {
        return kvm_internal_error(exit, "KVM_GET_REGS: %s", g_strerror(errno));
    }
    *exit = (PtaExit){ .reason = PTA_EXIT_DEBUG };
    exit->debug.vector = vector;
    exit->debug.dr6 = dr6;
    exit->debug.rip = regs.rip;
    return false;
}

bool kvm_debug_exit(KvmVp *vp, PtaExit *exit)
{
    const struct kvm_debug_exit_arch *met = &vp->run->debug.arch;
    uint64_t debuggers = 0, guests = met->dr6 & (DR6_BD | DR6_BT);
    if (met->exception == VECTOR_BP) {
        return leave(vp, VECTOR_BP, 0, exit);
    }
    for (unsigned i = 0; i < 4; i++) {
        if (!(met->dr6 >> i & 1)) {
            continue;
        }
        if (!vp->armed.registers) {
            guests |= UINT64_C(1) << i;
        } else if (vp->armed.guest_of[i] >= 0) {
            guests |= UINT64_C(1) << vp->armed.guest_of[i];
        } else if (enabled(vp->armed.dr7, i)) {
            debuggers |= UINT64_C(1) << i;
        }
    }
    if (met->dr6 & PTA_X86_DR6_BS) {
        *(vp->armed.step ? &debuggers : &guests) |= PTA_X86_DR6_BS;
    }
    if (guests && !raise_db(vp, guests)) {
        return kvm_internal_error(exit, "a #DB of the guest's own is lost: %s", g_strerror(errno));
    }
    return !debuggers || leave(vp, VECTOR_DB, debuggers, exit);
}

/* It forgets steps over an instruction that writes to MMIO. */
bool kvm_debug_stepped(KvmVp *vp, PtaExit *exit)
{
    struct kvm_regs regs = { 0 };
    if (kvm_ioctl(vp->fd, KVM_GET_REGS, &regs) < 0 || regs.rip == vp->armed.rip) {
        return false;
    }
    leave(vp, VECTOR_DB, PTA_X86_DR6_BS, exit);
    return true;
}

void kvm_vp_set_debug(PtaBackendVp *be_vp, const PtaGuestDebug *debug)
{
    KvmVp *vp = kvm_vp_of(be_vp);
    vp->debug = *debug;
    if (debug->pass) {
        vp->pass_lin = kvm_debug_linear_rip(vp);
    }
}
