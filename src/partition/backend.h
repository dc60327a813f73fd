/*
 * The contract between the partition and what executes guest code: KVM or the software CPU. One
 * const ops table a back end. The code above asks for capabilities, never for the name.
 *
 * A VP's run() handles MMIO, port I/O, MSRs and hypercalls itself, by calling PtaPlatform from the
 * VP's thread, and comes back only when the VP has to leave guest code (the shape of OpenVMM's
 * run_vp(CpuIo)); so that an interpreter need not unwind a half-done instruction for each device
 * register, and the exit union names only what the partition itself must decide.
 */
#ifndef PTA_BACKEND_H
#define PTA_BACKEND_H

#include "src/partition/x86-cpuid.h"
#include "src/partition/x86-state.h"
#include "src/util/util.h"

#define PTA_MAX_VPS 64

typedef struct PtaBackend PtaBackend;
typedef struct PtaBackendVp PtaBackendVp;
typedef struct PtaBackendOps PtaBackendOps;

/* ---- what the machine does for a VP; all called from the VP's thread ---- */

typedef struct PtaPlatform {
    void *opaque;
    /* size is 1, 2, 4 or 8 (MMIO) and 1, 2, 4 (ports); data little-endian. Nothing there: reads are
     * all ones, writes vanish; decided by the callee. */
    uint64_t (*mmio_read)(void *opaque, uint64_t gpa, unsigned size);
    void (*mmio_write)(void *opaque, uint64_t gpa, unsigned size, uint64_t value);
    uint32_t (*pio_read)(void *opaque, uint16_t port, unsigned size);
    void (*pio_write)(void *opaque, uint16_t port, unsigned size, uint32_t value);
    /* MSRs that the back end does not know (the Hyper-V ranges); false: #GP. */
    bool (*msr_read)(void *opaque, unsigned vp, uint32_t msr, uint64_t *value);
    bool (*msr_write)(void *opaque, unsigned vp, uint32_t msr, uint64_t value);
    /* VMCALL (or VMMCALL) with the hypercall interface on; reads and writes *regs (rax, rcx, rdx, r8,
     * xmm by state). false: #UD. */
    bool (*hypercall)(void *opaque, unsigned vp, PtaX86Regs *regs);
    /* The local APIC finished a level-triggered interrupt (EOI broadcast). */
    void (*eoi)(void *opaque, uint8_t vector);
} PtaPlatform;

/* ---- why run() came back ---- */

typedef enum PtaExitReason {
    PTA_EXIT_INTERRUPTED, /* kicked */
    PTA_EXIT_HALT,        /* HLT with nothing to wake it, only if the back end cannot wait itself */
    PTA_EXIT_SHUTDOWN,    /* triple fault */
    PTA_EXIT_DEBUG,       /* single step, breakpoint: `debug` */
    PTA_EXIT_CANCELLED, /* the back end gives the VP back: its thread is wanted for something else */
    PTA_EXIT_INTERNAL_ERROR, /* the back end cannot go on: `error` */
} PtaExitReason;

typedef struct PtaExit {
    PtaExitReason reason;
    union {
        struct {
            uint64_t rip;
            uint64_t dr6;   /* which condition */
            uint8_t vector; /* 1 (#DB) or 3 (#BP) */
        } debug;
        struct {
            char text[160]; /* for the log and the halt reason */
        } error;
    };
} PtaExit;

typedef enum PtaBackendCap {
    PTA_CAP_HYPERV, /* hyperv_mirror(): it answers Hyper-V guests by itself where that is faster */
    PTA_CAP_SYNIC,  /* SynIC in the back end */
    PTA_CAP_IOEVENTFD, /* ioeventfd() */
    PTA_CAP_IRQFD,     /* route() and irqfd() */
    PTA_CAP_COALESCE,  /* coalesce() */
    PTA_CAP_DIRTY_RING,
    PTA_CAP_GUEST_DEBUG,
    PTA_CAP_TSC_SCALING, /* any TSC frequency */
} PtaBackendCap;

typedef struct PtaBackendParams {
    unsigned n_vps;
    const PtaCpuidTable *cpuid;   /* lent for the back end's life; APIC ids are patched per VP */
    const PtaPlatform *platform;  /* lent for the back end's life */
    PtaHypervisorKind hypervisor; /* what the guest sees; CPUID says so already */
    /* Executes single instructions for a back end that cannot execute them all; NULL: none. */
    const PtaBackendOps *stepper;
    bool stepping; /* it is to be such a stepper itself: see below; REFUSED by those that cannot */
} PtaBackendParams;

/*
 * A back end that was made with `stepping` is for another one, to whose VPs it is lent for single
 * instructions: vp_set_state(), vp_run(), vp_get_state(), all in the thread of that VP; VPs may do so
 * at the same time. Its memory is shared with whatever runs otherwise, so from one vp_run() to the
 * next it keeps nothing that was derived from guest memory: no translation, no decoded code; nobody
 * calls host_wrote().
 *
 * vp_run() executes exactly one instruction (one iteration, if it has a repeat prefix), or delivers
 * the exception that was pending; vp_kick() has no effect. Interrupts, NMIs and INIT wait, time
 * stands still. What the instruction raises is delivered through the guest's IDT, the #DB of
 * RFLAGS.TF and DR7 included. HLT leaves the VP halted; a VP that is not running stays as it is. It
 * returns
 *   PTA_EXIT_INTERRUPTED     done: executed, or its exception is delivered;
 *   PTA_EXIT_SHUTDOWN        the same, and it was a triple fault;
 *   PTA_EXIT_DEBUG           as ever, if vp_set_debug() asked for it;
 *   PTA_EXIT_INTERNAL_ERROR  nothing was done, the VP's state is what it was: the instruction (its
 *                            bytes are in the text) is one that a CPU may have and that this back end
 *                            does not know. What no CPU has is #UD, as is what has been switched off
 *                            (CR0, CR4, XCR0); what this back end knows it executes even if CPUID
 *                            does not show it, as the CPU of a virtualising host does.
 *
 * The local APIC, its MSRs and the TSC are not the stepper's: vp_get_state() gives what vp_set_state()
 * got, accesses to the APIC's page go to platform->mmio_read and mmio_write. So do bits that it does
 * not know in MSRs and control registers, and components of the XSAVE area. Only a state that it
 * cannot execute in (five-level paging) is refused. msi() and nmi() are not for it. LOCK is atomic to
 * all that share the memory where one instruction of the host can do it; else to its own VPs only.
 */

/* An address at which a write of the guest signals an eventfd. */
typedef struct PtaIoeventfd {
    int fd;   /* lent until it is taken away */
    bool pio; /* a port, else guest-physical */
    uint64_t addr;
    unsigned size; /* of the access: 1, 2, 4, 8 */
    bool match;    /* only if it writes `value` */
    uint64_t value;
} PtaIoeventfd;

enum {
    PTA_MAP_READ = 1,
    PTA_MAP_WRITE = 2,
    PTA_MAP_EXEC = 4,
};

/* What the debugger asks of a VP. */
typedef struct PtaGuestDebug {
    bool enabled;
    bool single_step;
    bool sw_breakpoints; /* #BP exits instead of being delivered */
    /* Interrupts and NMIs wait while it steps, but for one that ends HLT: else a step ends in a
     * handler more often than not. */
    bool block_interrupts;
    bool pass; /* the instruction at RIP does not hit a breakpoint again */
    uint64_t dr[4];
    uint64_t dr7; /* hardware breakpoints on behalf of the debugger */
} PtaGuestDebug;

/* Bit n of `bits`: page gpa + n * PTA_PAGE_SIZE; gpa is a multiple of 64 pages. Any thread. */
typedef void PtaDirtySinkFn(void *opaque, uint64_t gpa, uint64_t bits);

struct PtaBackendOps {
    const char *name; /* "soft", "kvm" */

    /* Whether this host can do it; the error says why not (HOST or UNSUPPORTED). */
    bool (*probe)(GError **error);
    /* Whether `auto` should take it, if that is another question. May be NULL. */
    bool (*probe_auto)(GError **error);
    /* Bits of PtaX86Feature that it can serve on this host: PtaCpuidParams.supported. */
    uint64_t (*cpu_features)(void);
    /* Whom the guest takes the CPU for: PtaCpuidParams.identity. NULL: the software CPU's own. */
    void (*cpu_identity)(PtaHypervisorKind hypervisor, PtaX86Identity *identity);
    PtaBackend *(*create)(const PtaBackendParams *params, GError **error);
    void (*destroy)(PtaBackend *be); /* all VPs were destroyed */
    bool (*has_cap)(const PtaBackend *be, PtaBackendCap cap);

    /* Memory. MAIN, no VP runs. Page-aligned; ranges do not overlap what is mapped. host stays valid
     * until unmapped. Without PTA_MAP_WRITE, guest writes go to platform->mmio_write. */
    bool (*map)(PtaBackend *be, uint64_t gpa, uint64_t size, void *host, unsigned flags,
                GError **error);
    bool (*unmap)(PtaBackend *be, uint64_t gpa, uint64_t size, GError **error);
    /* The host wrote there (from any thread, VPs may run): decoded code must go. NULL if nothing to
     * do. */
    void (*host_wrote)(PtaBackend *be, uint64_t gpa, uint64_t len);

    /*
     * Dirty logging: which pages VPs write to. Any thread but a VP's, one call at a time; VPs may
     * run. All NULL: the back end cannot.
     *
     * start: from now on. On return, what VPs wrote and is not logged can be read by the caller.
     * fetch: hands the pages in [gpa, gpa + size) that were written since they were last handed out to
     * the sink, and more of them if the back end has it so (a ring is emptied whole); then they
     * count as clean. On return the bytes of what was handed out can be read, and a store that comes
     * later is logged again: so write access that VPs hold for such pages, and what is on its way in
     * them, has to be settled (KVM: KVM_CLEAR_DIRTY_LOG and KVM_RESET_DIRTY_RINGS protect the page on
     * all VPs before they return). The sink is called by fetch, by unmap() for what would be lost,
     * and by a VP whose ring is full.
     * stop: what was not fetched is forgotten.
     *
     * A page is handed out if a VP wrote to it, whatever the value, accessed and dirty bits of page
     * tables and segments included; others only where the host knows no better.
     */
    bool (*dirty_start)(PtaBackend *be, PtaDirtySinkFn *sink, void *opaque, GError **error);
    void (*dirty_fetch)(PtaBackend *be, uint64_t gpa, uint64_t size);
    void (*dirty_stop)(PtaBackend *be);

    /* VPs, made in order of index. The thread that calls run() is the VP's until it returned. */
    PtaBackendVp *(*vp_create)(PtaBackend *be, unsigned index, GError **error);
    void (*vp_destroy)(PtaBackendVp *vp);
    void (*vp_run)(PtaBackendVp *vp, PtaExit *exit);
    /* Makes a vp_run() that is under way, or else the next one, return PTA_EXIT_INTERRUPTED (or
     * another reason if that came first). Any thread. */
    void (*vp_kick)(PtaBackendVp *vp);
    /* Only while the VP does not run. set: what is not architecturally valid is refused (BAD_SNAPSHOT). */
    void (*vp_get_state)(PtaBackendVp *vp, PtaX86State *state);
    bool (*vp_set_state)(PtaBackendVp *vp, const PtaX86State *state, GError **error);
    void (*vp_set_debug)(PtaBackendVp *vp, const PtaGuestDebug *debug);
    /* Number of exits and instructions, for inspect: names in stat_names, NULL-terminated. */
    const char *const *stat_names;
    void (*vp_get_stats)(const PtaBackendVp *vp, uint64_t *values);

    /* Interrupts. Any thread. An MSI as written by a device or the IOAPIC (SDM vol. 3, 10.11);
     * `level`: trigger mode bit of data. */
    void (*msi)(PtaBackend *be, uint64_t address, uint32_t data);
    void (*nmi)(PtaBackend *be, unsigned vp);

    /*
     * Short cuts for devices, each NULL without its capability. What they do can always be done by
     * way of platform and msi() as well.
     *
     * ioeventfd: a write there signals the fd and does not reach platform. Any thread, VPs may run.
     * route: what input `pin` of the IOAPIC sends, as msi() has it; address 0: masked. Of level-triggered routes
     * the back end learns here which vectors need platform->eoi: so every pin is told. Any thread.
     * irqfd: an eventfd that sends what its pin's route says each time it is signalled. Any thread.
     * coalesce: writes there have no effect that anybody waits for, and may reach platform later, in order:
     * at the latest before any other access of a VP does, and when VPs stop. MAIN, no VP runs.
     */
    bool (*ioeventfd)(PtaBackend *be, const PtaIoeventfd *io, bool assign, GError **error);
    void (*route)(PtaBackend *be, unsigned pin, uint64_t address, uint32_t data);
    bool (*irqfd)(PtaBackend *be, unsigned pin, int fd, bool assign, GError **error);
    bool (*coalesce)(PtaBackend *be, bool pio, uint64_t addr, uint64_t size, bool on,
                     GError **error);

    /*
     * The state of the Hyper-V interface is kept above, with every back end, and guests' writes to its
     * MSRs all come to platform. A back end with PTA_CAP_HYPERV answers reads and hypercalls itself,
     * and for that it is told of GUEST_OS_ID, HYPERCALL and REFERENCE_TSC after they have changed and
     * the page is laid. It may write its own entry point there, of the form of hypercall_insn(), and
     * keeps the numbers of the reference TSC page right as long as that is on. VP's thread, or MAIN
     * while no VP runs. False: it cannot, and nothing has changed.
     */
    bool (*hyperv_mirror)(PtaBackendVp *vp, uint32_t msr, uint64_t value);
    /* The instruction that a hypercall page begins with, before a RET. It has three bytes in every back
     * end, for a VP may be saved between the two. NULL: VMCALL. */
    void (*hypercall_insn)(uint8_t insn[3]);

    /* The partition's clock: nanoseconds since power-up that stand still while it is stopped. TSC,
     * APIC timers and Hyper-V reference time derive from it. The frequencies are known before there
     * is a partition (be may be NULL), for the CPUID table must name them. */
    uint64_t (*clock_ns)(const PtaBackend *be);
    uint64_t (*tsc_hz)(const PtaBackend *be);
    uint64_t (*apic_hz)(const PtaBackend *be); /* input of the APIC timer's divider */
    /* Another TSC frequency than tsc_hz(NULL): VPs were made and none has run. UNSUPPORTED. NULL: never. */
    bool (*set_tsc_hz)(PtaBackend *be, uint64_t hz, GError **error);
    /* PtaBackendParams.cpuid has another identity or frequency. MAIN, no VP runs. UNSUPPORTED if VPs have
     * run already. NULL: nothing is kept of it. */
    bool (*cpuid_changed)(PtaBackend *be, GError **error);
    uint64_t (*vp_tsc)(const PtaBackendVp *vp);
    /* Whether TSCs run with the clock, so that what lies between them stays the same as long as a guest
     * does not write its TSC. NULL: always. */
    bool (*tsc_stable)(const PtaBackend *be);
    /* Start and stop it. MAIN, no VP runs. */
    void (*clock_start)(PtaBackend *be);
    void (*clock_stop)(PtaBackend *be);
    void (*clock_set)(PtaBackend *be, uint64_t ns); /* stopped */
    /* Power-on state of what is not per VP (clock, arbitration); no VP runs. VPs are reset by
     * vp_set_state(). */
    bool (*reset)(PtaBackend *be, GError **error);
    /* The same for what belongs to VTL 0 alone: not the clock. NULL if there is nothing. */
    bool (*scrub)(PtaBackend *be, GError **error);
};

struct PtaBackend {
    const PtaBackendOps *ops;
};

struct PtaBackendVp {
    PtaBackend *be;
    unsigned index;
};

/* All that this build has, NULL-terminated, in the order in which `auto` tries them. */
extern const PtaBackendOps *const pta_backends[];

/* By name, or for "auto" by what the host has; logs one line that says which and why. Errors:
 * UNSUPPORTED, HOST. MAIN. */
const PtaBackendOps *pta_backend_choose(const char *name, GError **error);

extern const PtaBackendOps pta_soft_backend;
#ifdef PTA_HAVE_KVM
extern const PtaBackendOps pta_kvm_backend;
#endif

#endif
