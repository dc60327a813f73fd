/*
 * Running a VP that is debugged. A step is one instruction (one iteration of a string instruction), and is
 * over before the next, or before the first of an exception's handler.
 *
 * The CPU's own means, RFLAGS.TF, does not give that: what exceptions, PUSHF and SYSCALL save shows it to the
 * guest, POPF and IRET load it, and a step that ends in a handler ends behind the handler. So the software
 * CPU makes the step where there is one (kvm-emulate.c), unless the instruction is one of those that only the
 * kernel can execute: what reaches the local APIC, MSRs, the TSC, CPUID, translations; or one that the software CPU
 * does not know. For those, and without it, TF it is.
 *
 * A VP in HLT is woken with a breakpoint at the next instruction, and what woke it is delivered with one at its
 * handler; so are interrupts that are not held back.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm-debug.h"

#include <Zydis/Zydis.h>
#include <string.h>

#define RFLAGS_IF    (UINT64_C(1) << 9)
#define EFER_LMA     (UINT64_C(1) << 10)
#define CR0_PE       UINT64_C(1)
#define RFLAGS_VM    (UINT64_C(1) << 17)
#define ATTRS_L      (1u << 13)
#define ATTRS_DB     (1u << 14)

#define APIC_ENABLED (UINT64_C(1) << 11)
#define APIC_X2      (UINT64_C(1) << 10)
#define APIC_IRR     0x200

#define VECTOR_DB    1
#define VECTOR_NMI   2

/* ---- the guest's memory ---- */

static bool is_64bit(const PtaX86Regs *r)
{
    return r->efer & EFER_LMA && r->seg[PTA_X86_CS].attrs & ATTRS_L;
}

static uint64_t linear(const PtaX86Regs *r)
{
    return is_64bit(r) ? r->rip : (uint32_t)(r->seg[PTA_X86_CS].base + r->rip);
}

uint64_t kvm_debug_linear_rip(KvmVp *vp)
{
    PtaX86Regs regs = { 0 };
    kvm_vp_get_regs(vp, &regs);
    return linear(&regs);
}

static bool translate(KvmVp *vp, uint64_t lin, uint64_t *gpa)
{
    struct kvm_translation t = { .linear_address = lin };
    bool ok = kvm_ioctl(vp->fd, KVM_TRANSLATE, &t) == 0 && t.valid;
    *gpa = t.physical_address;
    return ok;
}

/* As much as can be read, up to len. Other VPs may be writing there. */
__attribute__((no_sanitize("thread"))) static size_t read_linear(KvmVp *vp, uint64_t lin,
                                                                 uint8_t *buf, size_t len)
{
    KvmPartition *m = vp->m;
    size_t done = 0;
    while (done < len) {
        uint64_t gpa;
        size_t n = MIN(len - done, PTA_PAGE_SIZE - ((lin + done) & ~PTA_PAGE_MASK));
        bool found = false;
        if (!translate(vp, lin + done, &gpa)) {
            break;
        }
        g_mutex_lock(&m->slots_lock);
        for (guint i = 0; !found && i < m->slots->len; i++) {
            const KvmSlot *slot = &g_array_index(m->slots, KvmSlot, i);
            if (gpa - slot->gpa < slot->size) {
                memcpy(buf + done, (const uint8_t *)slot->host + (gpa - slot->gpa), n);
                found = true;
            }
        }
        g_mutex_unlock(&m->slots_lock);
        if (!found) {
            break;
        }
        done += n;
    }
    return done;
}

/* ---- who executes an instruction ---- */

typedef struct Insn {
    ZydisDecodedInstruction info;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
} Insn;

static bool decode(KvmVp *vp, const PtaX86Regs *r, Insn *in)
{
    uint8_t code[ZYDIS_MAX_INSTRUCTION_LENGTH];
    size_t len = read_linear(vp, linear(r), code, sizeof(code));
    bool db = r->seg[PTA_X86_CS].attrs & ATTRS_DB;
    bool real = !(r->cr0 & CR0_PE) || r->rflags & RFLAGS_VM;
    ZydisMachineMode mode = is_64bit(r) ? ZYDIS_MACHINE_MODE_LONG_64
                            : real      ? ZYDIS_MACHINE_MODE_REAL_16
                            : db        ? ZYDIS_MACHINE_MODE_LEGACY_32
                                        : ZYDIS_MACHINE_MODE_LEGACY_16;
    ZydisStackWidth width = is_64bit(r) ? ZYDIS_STACK_WIDTH_64
                            : db        ? ZYDIS_STACK_WIDTH_32
                                        : ZYDIS_STACK_WIDTH_16;
    ZydisDecoder decoder;
    return ZYAN_SUCCESS(ZydisDecoderInit(&decoder, mode, width)) &&
           ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, len, &in->info, in->operands));
}

static bool is_register(const Insn *in, ZydisRegisterClass class)
{
    for (unsigned i = 0; i < in->info.operand_count_visible; i++) {
        const ZydisDecodedOperand *op = &in->operands[i];
        if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(op->reg.value) == class) {
            return true;
        }
    }
    return false;
}

static bool is_kernels(const Insn *in)
{
    switch (in->info.mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_INVLPG:
    case ZYDIS_MNEMONIC_INVPCID:
    case ZYDIS_MNEMONIC_LMSW:
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MONITORX:
    case ZYDIS_MNEMONIC_MWAIT:
    case ZYDIS_MNEMONIC_MWAITX:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSD:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
    case ZYDIS_MNEMONIC_WBINVD:
    case ZYDIS_MNEMONIC_WRMSR:
    case ZYDIS_MNEMONIC_XSETBV:
        return true;
    default:
        return is_register(in, ZYDIS_REGCLASS_CONTROL);
    }
}

static unsigned segment_of(ZydisRegister reg)
{
    switch (reg) {
    case ZYDIS_REGISTER_ES:
        return PTA_X86_ES;
    case ZYDIS_REGISTER_CS:
        return PTA_X86_CS;
    case ZYDIS_REGISTER_SS:
        return PTA_X86_SS;
    case ZYDIS_REGISTER_FS:
        return PTA_X86_FS;
    case ZYDIS_REGISTER_GS:
        return PTA_X86_GS;
    default:
        return PTA_X86_DS;
    }
}

static uint64_t effective(const PtaX86Regs *r, const Insn *in, const ZydisDecodedOperandMem *mem)
{
    static const ZydisRegister first[] = { ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_EAX,
                                           ZYDIS_REGISTER_AX };
    uint64_t sum = mem->disp.has_displacement ? (uint64_t)mem->disp.value : 0;
    const struct {
        ZydisRegister reg;
        uint64_t scale;
    } part[] = { { mem->base, 1 }, { mem->index, mem->scale } };
    for (unsigned i = 0; i < G_N_ELEMENTS(part); i++) {
        if (part[i].reg == ZYDIS_REGISTER_RIP || part[i].reg == ZYDIS_REGISTER_EIP) {
            sum += r->rip + in->info.length;
        }
        for (unsigned k = 0; k < G_N_ELEMENTS(first); k++) {
            unsigned n = (unsigned)(part[i].reg - first[k]);
            if (part[i].reg >= first[k] && n < PTA_X86_N_GPRS) {
                sum += r->gpr[n] * part[i].scale;
            }
        }
    }
    sum &= UINT64_MAX >> (64 - in->info.address_width);
    unsigned seg = segment_of(mem->segment);
    bool flat = is_64bit(r) && seg != PTA_X86_FS && seg != PTA_X86_GS;
    return sum + (flat ? 0 : r->seg[seg].base);
}

/* The registers of the local APIC, where they are memory. */
static bool reaches_apic(KvmVp *vp, const PtaX86Regs *r, const Insn *in)
{
    uint64_t base, gpa;
    if (!kvm_msr_get(vp, 0x1b, &base) || (base & (APIC_ENABLED | APIC_X2)) != APIC_ENABLED) {
        return false;
    }
    for (unsigned i = 0; i < in->info.operand_count; i++) {
        const ZydisDecodedOperand *op = &in->operands[i];
        if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.type == ZYDIS_MEMOP_TYPE_MEM &&
            translate(vp, effective(r, in, &op->mem), &gpa) &&
            (gpa & PTA_PAGE_MASK) == (base & UINT64_C(0x000ffffffffff000))) {
            return true;
        }
    }
    return false;
}

/* What cannot be fetched or decoded raises an exception. */
static bool wants_kernel(KvmVp *vp, const PtaX86Regs *r)
{
    Insn in;
    return decode(vp, r, &in) && (is_kernels(&in) || reaches_apic(vp, r, &in));
}

/* ---- an event, to its handler ---- */

/* The vector that comes next; -1: none. */
static int next_vector(KvmVp *vp)
{
    struct kvm_vcpu_events e = { 0 };
    struct kvm_lapic_state apic;
    if (kvm_ioctl(vp->fd, KVM_GET_VCPU_EVENTS, &e) == 0 && (e.nmi.pending || e.nmi.injected)) {
        return VECTOR_NMI;
    }
    if (e.interrupt.injected) {
        return e.interrupt.nr;
    }
    if (kvm_ioctl(vp->fd, KVM_GET_LAPIC, &apic) < 0) {
        return -1;
    }
    for (int word = 7; word >= 0; word--) {
        uint32_t bits;
        memcpy(&bits, apic.regs + APIC_IRR + word * 16, sizeof(bits));
        if (bits) {
            return word * 32 + 31 - __builtin_clz(bits);
        }
    }
    return -1;
}

/* Where its handler begins; linear. */
static bool handler_of(KvmVp *vp, const PtaX86Regs *r, unsigned vector, uint64_t *lin)
{
    uint8_t gate[16] = { 0 };
    uint16_t low, high, sel;
    uint32_t top;
    bool real = !(r->cr0 & CR0_PE), wide = r->efer & EFER_LMA;
    size_t size = real ? 4 : wide ? 16 : 8;
    if (read_linear(vp, r->idtr.base + vector * size, gate, size) < size) {
        return false;
    }
    memcpy(&low, gate, 2);
    memcpy(&sel, gate + 2, 2);
    memcpy(&high, gate + 6, 2);
    memcpy(&top, gate + 8, 4);
    if (real) {
        *lin = (uint32_t)sel * 16 + low;
    } else {
        *lin = (uint64_t)top << 32 | (uint32_t)high << 16 | low; /* where CS has base 0 */
    }
    return true;
}

static uint32_t activity(KvmVp *vp)
{
    struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
    kvm_ioctl(vp->fd, KVM_GET_MP_STATE, &mp);
    return mp.mp_state;
}

/* Runs until one of the breakpoints; false: something else came first, *exit says what. */
static bool run_to(KvmVp *vp, struct kvm_guest_debug *g, uint32_t slots, PtaExit *exit)
{
    if (!kvm_debug_arm(vp, g, exit)) {
        return false;
    }
    kvm_vp_loop(vp, exit);
    kvm_debug_disarm(vp);
    return exit->reason == PTA_EXIT_DEBUG && exit->debug.vector == VECTOR_DB &&
           exit->debug.dr6 & slots;
}

static void step_is_done(PtaExit *exit, uint32_t slots)
{
    exit->debug.dr6 = (exit->debug.dr6 & ~(uint64_t)slots) | PTA_X86_DR6_BS;
}

/* HLT ends, or a while passes (the VP is kicked). */
static bool wake(KvmVp *vp, const PtaX86Regs *r, PtaExit *exit)
{
    struct kvm_guest_debug g;
    uint32_t slots = 0;
    kvm_debug_ask(vp, &g);
    g.control |= KVM_GUESTDBG_BLOCKIRQ;
    if (!kvm_debug_add(&g, linear(r), &slots)) {
        g.control |= KVM_GUESTDBG_SINGLESTEP; /* behind the handler */
        vp->armed.rip = r->rip;
    }
    return run_to(vp, &g, slots, exit);
}

/* An event that waits is delivered. False: *exit says what came of it. True: there was none. */
static bool deliver(KvmVp *vp, const PtaX86Regs *r, PtaExit *exit)
{
    struct kvm_guest_debug g;
    uint32_t slots = 0;
    uint64_t lin;
    int vector = next_vector(vp);
    if (vector < 0 || (vector != VECTOR_NMI && !(r->rflags & RFLAGS_IF)) ||
        !handler_of(vp, r, (unsigned)vector, &lin)) {
        return true;
    }
    kvm_debug_ask(vp, &g);
    if (!kvm_debug_add(&g, lin, &slots)) {
        return true;
    }
    kvm_debug_add(&g, linear(r), &slots); /* if it is not delivered, or behind its handler */
    if (run_to(vp, &g, slots, exit)) {
        step_is_done(exit, slots);
    }
    return false;
}

/* ---- a step ---- */

/* False: the kernel has to. */
static bool step_by_software(KvmVp *vp, const PtaX86Regs *r, PtaExit *exit)
{
    if (!vp->m->stepper_ops || wants_kernel(vp, r)) {
        return false;
    }
    PtaGuestDebug asked = vp->debug;
    vp->debug.single_step = true;
    bool goes_on = kvm_emulate(vp, exit);
    vp->debug = asked;
    if (goes_on) { /* it does not execute (a triple fault that waits): the kernel says why */
        return false;
    }
    return exit->reason != PTA_EXIT_INTERNAL_ERROR;
}

static void step_by_kernel(KvmVp *vp, const PtaX86Regs *r, uint32_t passed, PtaExit *exit)
{
    struct kvm_guest_debug g;
    kvm_debug_ask(vp, &g);
    for (unsigned i = 0; i < 4; i++) {
        if (passed >> i & 1) {
            g.arch.debugreg[7] &= ~(UINT64_C(3) << (i * 2));
        }
    }
    g.control |= KVM_GUESTDBG_SINGLESTEP;
    if (vp->debug.block_interrupts || !vp->debug.single_step) {
        g.control |= KVM_GUESTDBG_BLOCKIRQ;
    }
    vp->armed.rip = r->rip;
    run_to(vp, &g, 0, exit);
}

/* From a breakpoint that was reported, or as the debugger asked. */
static void step(KvmVp *vp, const PtaX86Regs *r, uint32_t passed, PtaExit *exit)
{
    uint32_t met = kvm_debug_breaks_at(&vp->debug, linear(r)) & ~passed;
    uint32_t was = activity(vp);
    bool halted = was == KVM_MP_STATE_HALTED;
    if (met) {
        *exit = (PtaExit){ .reason = PTA_EXIT_DEBUG };
        exit->debug.rip = r->rip;
        exit->debug.dr6 = met;
        exit->debug.vector = VECTOR_DB;
        return;
    }
    if (halted && !wake(vp, r, exit)) {
        return;
    }
    if ((halted || (vp->debug.single_step && !vp->debug.block_interrupts)) &&
        !deliver(vp, r, exit)) {
        return;
    }
    /* One that waits for its SIPI has no instruction; the step is lost with its registers. */
    bool waits = was != KVM_MP_STATE_RUNNABLE && !halted;
    if (waits || !step_by_software(vp, r, exit)) {
        step_by_kernel(vp, r, passed, exit);
    }
}

static bool is_only_step(const PtaExit *exit)
{
    return exit->reason == PTA_EXIT_DEBUG && exit->debug.vector == VECTOR_DB &&
           exit->debug.dr6 == PTA_X86_DR6_BS;
}

void kvm_debug_run(KvmVp *vp, PtaExit *exit)
{
    PtaX86Regs r = { 0 };
    struct kvm_guest_debug g;
    for (;;) {
        if (!kvm_vp_get_regs(vp, &r)) {
            kvm_internal_error(exit, "the registers cannot be had");
            return;
        }
        uint64_t lin = linear(&r);
        uint32_t passed =
            vp->debug.pass && lin == vp->pass_lin ? kvm_debug_breaks_at(&vp->debug, lin) : 0;
        vp->debug.pass &= lin == vp->pass_lin;
        if (!vp->debug.single_step && !passed) {
            break;
        }
        step(vp, &r, passed, exit);
        if (vp->debug.single_step || !is_only_step(exit)) {
            return;
        }
        if (kvm_vp_take_kick(vp)) { /* an instruction that branches to itself would never end */
            exit->reason = PTA_EXIT_INTERRUPTED;
            return;
        }
    }
    kvm_debug_ask(vp, &g);
    run_to(vp, &g, 0, exit);
}
