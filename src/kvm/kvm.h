/*
 * The back end "kvm": Linux's KVM on x86-64 (Documentation/virt/kvm/api.rst of the kernel). What its
 * files share; nobody outside src/kvm includes this.
 *
 * The local APICs are in the kernel, the IOAPIC is ours (KVM_CAP_SPLIT_IRQCHIP); there is no PIC and
 * no PIT. HLT, IPIs and timers never leave the kernel.
 *
 * Threads: as backend.h says of each function. A field is CONST (after creation), MAIN, VP (of the
 * VP's thread, or of who asks while it does not run), LOCKED or ATOMIC.
 */
#ifndef PTA_KVM_H
#define PTA_KVM_H

#include <linux/kvm.h>

#include "src/partition/backend.h"

/* ---- ioctls ---- */

/* Every ioctl goes through these: the result, or -1 and errno. EINTR is for the caller. `name` is what an error
 * says. */
typedef int PtaKvmIoctlFn(int fd, unsigned long request, void *arg);
extern PtaKvmIoctlFn *pta_kvm_ioctl_hook; /* tests alone set it: each ioctl may be made to fail */

bool kvm_ioctl_is_hosts(void); /* no test's */

int kvm_ioctl(int fd, unsigned long request, void *arg);
static inline int kvm_ioctl_val(int fd, unsigned long request, uintptr_t value)
{
    return kvm_ioctl(fd, request, (void *)value);
}

/* kvm_try(fd, KVM_CREATE_VM, arg, error): HOST, "KVM_CREATE_VM: …" if it fails. */
#define kvm_try(fd, request, arg, error) \
    kvm_try_named((fd), (request), (void *)(uintptr_t)(arg), #request, (error))
bool kvm_try_named(int fd, unsigned long request, void *arg, const char *name, GError **error);

/* ---- what the host has; kvm-caps.c ---- */

typedef struct KvmCaps {
    unsigned max_vps;
    unsigned max_slots;
    unsigned coalesced_page; /* of the VP's mapping; 0: none */
    unsigned dirty_ring_max; /* bytes; 0: none that can be relied on */
    uint64_t manual_protect; /* flags of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
    bool page_log; /* the CPU keeps pages that a VP wrote to back until it leaves guest code */
    bool readonly_mem;
    bool sregs2;
    bool xsave2;
    bool coalesced_pio;
    bool ioeventfd, irqfd;
    bool user_space_msr, msr_filter;
    bool triple_fault_event;
    bool exception_payload;
    bool exit_on_emulation_failure;
    bool vcpu_tsc_offset; /* KVM_VCPU_TSC_OFFSET */
    bool tsc_control;
    bool hyperv;         /* KVM_CAP_HYPERV, _VP_INDEX; what of it we ask for: kvm-hyperv.c */
    bool enforce_pv;     /* KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
    bool enforce_hyperv; /* KVM_CAP_HYPERV_ENFORCE_CPUID */
    bool synic2;
    uint32_t guest_debug;   /* KVM_GUESTDBG_* that it takes beside those of old */
    bool x86_disable_exits; /* …: KVM_CAP_X86_DISABLE_EXITS */
    bool pvm;               /* neither VMX nor SVM: ring 0 is interpreted */
} KvmCaps;

/* Opens /dev/kvm and asks. Errors say what is missing and what would help: UNSUPPORTED, HOST,
 * KVM_MISSING_CAP. The caller closes the fd. */
int kvm_open(KvmCaps *caps, GError **error);

/* ---- the partition ---- */

typedef struct KvmSlot {
    uint64_t gpa, size;
    void *host;
    unsigned flags; /* PTA_MAP_* */
    uint32_t id;    /* of KVM */
} KvmSlot;

typedef struct KvmPartition KvmPartition;
typedef struct KvmVp KvmVp;
typedef struct KvmDirty KvmDirty;     /* kvm-dirty.c */
typedef struct KvmRoutes KvmRoutes;   /* kvm-irq.c */
typedef struct KvmStepper KvmStepper; /* kvm-emulate.c */

struct KvmPartition {
    PtaBackend be;                /* base */
    KvmCaps caps;                 /* CONST */
    int sys_fd, vm_fd;            /* CONST */
    size_t run_size;              /* CONST: bytes of a VP's mapping */
    const PtaCpuidTable *cpuid;   /* CONST */
    const PtaPlatform *platform;  /* CONST */
    PtaHypervisorKind hypervisor; /* CONST */
    bool kernel_hyperv;           /* CONST: the kernel answers Hyper-V's guests, see kvm-hyperv.c */
    unsigned n_vps;               /* CONST */
    KvmVp *vps[PTA_MAX_VPS];      /* MAIN; constant while VPs run */

    GMutex slots_lock;
    GArray *
        slots; /* LOCKED(slots_lock): of KvmSlot, by address; MAIN alone changes it, while no VP runs */
    uint64_t *slot_ids; /* LOCKED(slots_lock): bit n: id n is in use */
    bool slots_told;    /* LOCKED(slots_lock): KVM knows them; they are no longer joined */
    bool dirty_logging; /* LOCKED(slots_lock): slots have KVM_MEM_LOG_DIRTY_PAGES */

    GMutex clock_lock;
    bool clock_running;               /* LOCKED(clock_lock) */
    uint64_t clock_ns;                /* LOCKED(clock_lock): while it stands still */
    uint64_t host_tsc_hz;             /* CONST */
    uint64_t tsc_hz;                  /* MAIN */
    bool tsc_fixed;                   /* CONST once there is a VP: TSCs cannot be set */
    const PtaBackendOps *stepper_ops; /* CONST; may be NULL */

    KvmDirty *dirty;   /* CONST */
    KvmRoutes *routes; /* CONST */
    GMutex stepper_lock;
    KvmStepper *stepper; /* LOCKED(stepper_lock), and ATOMIC: made when first needed */
    PtaDirtySinkFn
        *stepper_sink;         /* LOCKED(stepper_lock): who follows what it writes; NULL: nobody */
    void *stepper_sink_opaque; /* LOCKED(stepper_lock) */
    GMutex coalesced_lock;     /* who empties the ring */
    struct kvm_coalesced_mmio_ring
        *coalesced; /* CONST: NULL if there is none. The kernel fills it under
                                                  its own lock; LOCKED(coalesced_lock) for reading */
};

enum {
    KVM_STAT_EXITS, /* KVM_RUN came back */
    KVM_STAT_PIO,
    KVM_STAT_MMIO,
    KVM_STAT_MSR,
    KVM_STAT_EOI,
    KVM_STAT_HYPERCALL,
    KVM_STAT_COALESCED,
    KVM_STAT_EMULATED, /* instructions that the software CPU executed */
    KVM_STAT_DEBUG,
    KVM_STAT_KICK,
    KVM_STAT_RING_FULL,
    KVM_N_STATS,
};

/* What stands still while the clock does, and KVM would let run on. */
typedef struct KvmFrozen {
    bool valid;
    uint64_t tsc;
    uint64_t tsc_deadline;
    uint64_t timer_expiry_ns; /* of the APIC's counting timer, by the partition's clock; 0: off */
} KvmFrozen;

/* What was handed out of the APIC while the clock stood still. */
typedef struct KvmApicGiven {
    bool valid; /* until something is set, or the clock starts */
    uint64_t apic_base, deadline;
    PtaX86Lapic lapic;
} KvmApicGiven;

/* What the kernel does for the debugger while the VP is in guest code. */
typedef struct KvmArmed {
    bool step, registers;
    int8_t guest_of[4]; /* which of the guest's breakpoints is in a debug register; -1: none */
    uint64_t dr7;
    uint64_t rip; /* step: where it began */
} KvmArmed;

struct KvmVp {
    PtaBackendVp vp; /* base */
    KvmPartition *m; /* CONST */
    int fd;          /* CONST */
    struct kvm_run *run;
    int tid;                 /* ATOMIC: the thread in KVM_RUN, 0: none */
    unsigned rounds;         /* ATOMIC: how often KVM_RUN came back */
    bool kicked;             /* ATOMIC: immediate_exit is for vp_run() */
    bool nmi;                /* ATOMIC: one is to be injected by whoever has the VP next */
    bool shutdown;           /* VP: a triple fault; until the state is set */
    KvmFrozen frozen;        /* VP: valid while the clock stands still */
    KvmApicGiven apic_given; /* VP: kvm-lapic.c */
    uint32_t apic_icount;    /* VP: kvm-lapic.c: initial count that the kernel lacks */
    PtaGuestDebug debug;     /* VP */
    uint64_t pass_lin;       /* VP: what debug.pass is about */
    KvmArmed armed;          /* VP: kvm-debug.c */
    uint8_t
        trap; /* VP: #BP or #OF that an instruction raised, for the stepper to deliver; 0: none */
    uint64_t stats[KVM_N_STATS]; /* VP writes; read as they stand */
    struct kvm_dirty_gfn *ring;  /* CONST: kvm-dirty.c */
    uint32_t ring_next;          /* LOCKED(slots_lock) */
    GArray *msr_list;            /* CONST: kvm-msrs.c */
    PtaX86State *scratch;        /* VP: for emulation */
};

static inline KvmPartition *kvm_of(const PtaBackend *be)
{
    return (KvmPartition *)be;
}

static inline KvmVp *kvm_vp_of(const PtaBackendVp *vp)
{
    return (KvmVp *)vp;
}

/* ---- memory; kvm-memory.c ---- */

void kvm_memory_init(KvmPartition *m);
void kvm_memory_fini(KvmPartition *m);
bool kvm_map(PtaBackend *be, uint64_t gpa, uint64_t size, void *host, unsigned flags,
             GError **error);
bool kvm_unmap(PtaBackend *be, uint64_t gpa, uint64_t size, GError **error);
/* All slots to KVM: before the first VP. */
bool kvm_memory_commit(KvmPartition *m, GError **error);
/* KVM_MEM_LOG_DIRTY_PAGES on or off for all slots, and for those that come. */
bool kvm_memory_log(KvmPartition *m, bool on, GError **error);

/* ---- VPs; kvm-vp.c, kvm-exit.c ---- */

PtaBackendVp *kvm_vp_create(PtaBackend *be, unsigned index, GError **error);
void kvm_vp_destroy(PtaBackendVp *vp);
void kvm_vp_run(PtaBackendVp *vp, PtaExit *exit);
void kvm_vp_kick(PtaBackendVp *vp);
/* The loop around KVM_RUN, until something else than an access ends it. */
void kvm_vp_loop(KvmVp *vp, PtaExit *exit);
/* What the kernel puts off until a VP's next entry is done: the interrupt of a timer that has expired, an
 * EOI, which may send: not under kvm_irq_hold(). Executes nothing of the guest. The VP's thread; or any,
 * while the VP is not in vp_run(), for milliseconds. */
void kvm_vp_settle(KvmVp *vp);
void kvm_install_kick_signal(void);
/* An NMI that was asked for while the VP was in KVM_RUN. The VP's thread, or the VP is not in vp_run(). */
void kvm_vp_take_nmi(KvmVp *vp);
/* Whether it was kicked; once for each kick. The VP's thread. */
bool kvm_vp_take_kick(KvmVp *vp);
/* Returns when each VP has been outside of KVM_RUN since the call; they go on. Not a VP's thread. */
void kvm_vps_come_out(KvmPartition *m);
/* One exit, done; false: *exit says why the VP leaves guest code. */
bool kvm_vp_exit(KvmVp *vp, PtaExit *exit);
/* A write as KVM has it, of 1 to 8 bytes, goes to platform. */
void kvm_mmio_write(const KvmPartition *m, uint64_t gpa, const uint8_t *data, unsigned len);
bool kvm_internal_error(PtaExit *exit, const char *format, ...) G_GNUC_PRINTF(2, 3); /* false */

/* ---- state; kvm-state.c, kvm-lapic.c, kvm-msrs.c ---- */

void kvm_vp_get_state(PtaBackendVp *vp, PtaX86State *state);
bool kvm_vp_set_state(PtaBackendVp *vp, const PtaX86State *state, GError **error);
/* General registers alone, from and to the VP: for hypercalls and debugging. */
bool kvm_vp_get_regs(KvmVp *vp, PtaX86Regs *regs);
/*
 * For an instruction that is executed in the kernel's stead, while devices and other VPs go on: the
 * whole state but for the APIC, without taking an INIT that waits; and back what differs, but for TSC
 * and what has arrived meanwhile (interrupts, NMIs).
 */
void kvm_vp_get_step(KvmVp *vp, PtaX86State *before);
bool kvm_vp_set_step(KvmVp *vp, const PtaX86State *before, const PtaX86State *after,
                     GError **error);
/* Single MSRs, as the host sees them. */
bool kvm_msr_get(KvmVp *vp, uint32_t msr, uint64_t *value);
bool kvm_msr_set(KvmVp *vp, uint32_t msr, uint64_t value);
/* Which MSRs of PtaX86Msrs this host has, asked once; VP creation. */
bool kvm_msrs_init(KvmVp *vp, GError **error);
void kvm_msrs_fini(KvmVp *vp);
/* May hold interrupts: kvm_irq_release() after it.
 * The APIC's timer stops counting (vp->frozen.timer_expiry_ns, tsc_deadline), and goes on. */
void kvm_lapic_freeze(KvmVp *vp);
bool kvm_lapic_thaw(KvmVp *vp, GError **error);

/* ---- CPUID; kvm-cpuid.c ---- */

uint64_t kvm_cpu_features(void);
void kvm_cpu_identity(PtaHypervisorKind hypervisor, PtaX86Identity *identity);
bool kvm_vp_set_cpuid(KvmVp *vp, GError **error);
bool kvm_cpuid_changed(PtaBackend *be, GError **error);

/* ---- time; kvm-clock.c ---- */

bool kvm_clock_init(KvmPartition *m, GError **error); /* before there is a VM */
void kvm_clock_vp_init(KvmVp *vp);
/* A VM that is there already, or -1. */
int kvm_take_spare_vm(void);
uint64_t kvm_clock_ns(const PtaBackend *be);
void kvm_clock_start(PtaBackend *be);
void kvm_clock_stop(PtaBackend *be);
void kvm_clock_set(PtaBackend *be, uint64_t ns);
uint64_t kvm_tsc_hz(const PtaBackend *be);
uint64_t kvm_apic_hz(const PtaBackend *be);
bool kvm_set_tsc_hz(PtaBackend *be, uint64_t hz, GError **error);
uint64_t kvm_vp_tsc(const PtaBackendVp *vp);
bool kvm_tsc_stable(const PtaBackend *be);

/* ---- interrupts and short cuts; kvm-irq.c ---- */

bool kvm_irq_init(KvmPartition *m, GError **error); /* before the first VP */
void kvm_irq_fini(KvmPartition *m);
void kvm_msi(PtaBackend *be, uint64_t address, uint32_t data);
void kvm_nmi(PtaBackend *be, unsigned vp);
bool kvm_ioeventfd(PtaBackend *be, const PtaIoeventfd *io, bool assign, GError **error);
void kvm_route(PtaBackend *be, unsigned pin, uint64_t address, uint32_t data);
bool kvm_irqfd(PtaBackend *be, unsigned pin, int fd, bool assign, GError **error);
/* No message reaches an APIC from hold to release; what is sent meanwhile does then. Between them an
 * APIC's page can be read and written. MAIN, no VP runs; holding twice is holding once. */
void kvm_irq_hold(KvmPartition *m);
void kvm_irq_release(KvmPartition *m);
bool kvm_coalesce(PtaBackend *be, bool pio, uint64_t addr, uint64_t size, bool on, GError **error);
/* What coalesced writes wait goes to platform: before any other access does, and when VPs stop. VP's
 * thread, or MAIN while no VP runs. */
void kvm_coalesced_drain(KvmPartition *m, KvmVp *vp);

/* ---- the dirty log; kvm-dirty.c ---- */

bool kvm_dirty_init(KvmPartition *m, GError **error); /* before the first VP */
void kvm_dirty_fini(KvmPartition *m);
bool kvm_dirty_vp_init(KvmVp *vp, GError **error);
void kvm_dirty_vp_fini(KvmVp *vp);
bool kvm_dirty_start(PtaBackend *be, PtaDirtySinkFn *sink, void *opaque, GError **error);
void kvm_dirty_fetch(PtaBackend *be, uint64_t gpa, uint64_t size);
void kvm_dirty_stop(PtaBackend *be);
void kvm_dirty_ring_full(KvmVp *vp); /* KVM_EXIT_DIRTY_RING_FULL */
/* A slot is about to go: what is in its log goes to the sink. */
void kvm_dirty_unmap(KvmPartition *m, const KvmSlot *slot);

/* ---- the debugger; kvm-debug.c, kvm-step.c ---- */

void kvm_vp_set_debug(PtaBackendVp *vp, const PtaGuestDebug *debug);
/* KVM_EXIT_DEBUG; as kvm_vp_exit(). */
bool kvm_debug_exit(KvmVp *vp, PtaExit *exit);
/* A step that the kernel makes has ended, and the kernel has not said so. */
bool kvm_debug_stepped(KvmVp *vp, PtaExit *exit);
/* kvm_vp_run() of a VP that is debugged; kvm-step.c. */
void kvm_debug_run(KvmVp *vp, PtaExit *exit);

/* ---- Hyper-V; kvm-hyperv.c ---- */

bool kvm_hyperv_init(KvmPartition *m, GError **error); /* before the first VP */
bool kvm_hyperv_vp_init(KvmVp *vp, GError **error);
bool kvm_hyperv_mirror(PtaBackendVp *vp, uint32_t msr, uint64_t value);
bool kvm_hyperv_exit(KvmVp *vp, PtaExit *exit); /* KVM_EXIT_HYPERV */
void kvm_hypercall_insn(uint8_t insn[3]);
/* A port access: was it one of kvm_hypercall_insn(), and done? */
bool kvm_hypercall_port(KvmVp *vp);

/* ---- instructions that KVM cannot execute; kvm-emulate.c ---- */

/* KVM_EXIT_INTERNAL_ERROR with suberror EMULATION; as kvm_vp_exit(). */
bool kvm_emulate(KvmVp *vp, PtaExit *exit);
void kvm_emulate_init(KvmPartition *m);
void kvm_emulate_fini(KvmPartition *m);
/* What it writes: as the functions of PtaBackendOps, whether there is a stepper by now or not. They are called
 * without a lock. */
bool kvm_emulate_dirty_start(KvmPartition *m, PtaDirtySinkFn *sink, void *opaque, GError **error);
void kvm_emulate_dirty_fetch(KvmPartition *m, uint64_t gpa, uint64_t size);
void kvm_emulate_dirty_stop(KvmPartition *m);
/* The map has changed: MAIN, no VP runs. */
bool kvm_emulate_map(KvmPartition *m, const KvmSlot *slot, GError **error);
void kvm_emulate_unmap(KvmPartition *m, const KvmSlot *slot);

#endif
