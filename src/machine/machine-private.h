/* What the files of src/machine/ share about a machine: nobody else includes this. */
#ifndef PTA_MACHINE_PRIVATE_H
#define PTA_MACHINE_PRIVATE_H

#include "src/machine/io-thread.h"
#include "src/machine/jobs.h"
#include "src/machine/machine-memory.h"
#include "src/machine/machine.h"
#include "src/machine/units.h"
#include "src/synic/hyperv.h"

#include "devices/ioapic.h"
#include "devices/irq-fd.h"

#define PTA_X86_IOAPIC_ID 0

typedef struct PtaVmObserverRef {
    const PtaVmObserver *ops;
    void *opaque;
} PtaVmObserverRef;

typedef struct PtaVmTransition PtaVmTransition; /* machine-life.c */

typedef struct PtaDirtyRate {
    DirtyRateInfo info;     /* the last measurement; no member is allocated */
    PtaDirtyClient *client; /* NULL: none is under way */
    guint timer;
    uint64_t start_ns;
} PtaDirtyRate;

struct PtaVm {
    const MachineConfig *config; /* lent */
    char *base_dir;
    char *uuid;
    PtaRunState state;
    int watchdog_action; /* WatchdogAction; ATOMIC, MAIN writes */
    const PtaBackendOps *backend;
    PtaMachineMemory *ram; /* what memory is made of */
    PtaMemory *memory;
    PtaBus *mmio, *pio;
    PtaMmioManager *placement;
    PtaIoThread *io;
    PtaDeviceHost host;
    PtaIrqFds *irq_fds; /* NULL before there is an IOAPIC */
    PtaDevice *ioapic, *power;
    GPtrArray *devices; /* of PtaDevice: the described ones, then the machine's own */
    PtaHyperv *hyperv;  /* NULL without that interface */
    PtaPlatform platform;
    PtaPartition *partition;
    bool going; /* the partition goes, and with it all that it was told of devices */
    PtaGdb *gdb;
    PtaUnits *units;
    GArray *observers;  /* of PtaVmObserverRef */
    bool told_running;  /* observers: the last of resumed and stopped was resumed */
    GQueue transitions; /* of PtaVmTransition: the first is under way, the others wait */
    int64_t start_time_us;
    PtaJobs *jobs;
    GPtrArray *dumps; /* memory-dump.c: that wait for a VP's state */
    PtaDirtyRate dirty_rate;
    PtaDirtyClient *dirty_watch; /* memory-stats.c: NULL unless somebody switched it on */
    GArray *inspectables;        /* machine-inspect.c's; NULL until somebody adds something */
};

#define PTA_VM_TELL(vm, what, ...)                                                              \
    do {                                                                                        \
        for (guint i_ = 0; i_ < (vm)->observers->len; i_++) {                                   \
            const PtaVmObserverRef *o_ = &g_array_index((vm)->observers, PtaVmObserverRef, i_); \
            if (o_->ops->what) {                                                                \
                o_->ops->what(o_->opaque, ##__VA_ARGS__);                                       \
            }                                                                                   \
        }                                                                                       \
    } while (0)

/* platform.c: what VPs and devices ask of the machine. */
void pta_vm_init_platform(PtaVm *vm);
void pta_vm_init_device_host(PtaVm *vm);
void pta_vm_make_hyperv(PtaVm *vm);
/* What the back end can do for devices: once there is a partition, before the first device. */
void pta_vm_connect_devices(PtaVm *vm);
/* The IOAPIC's ends: opaque is the PtaVm, msi, and routes where the back end takes eventfds. */
void pta_vm_connect_ioapic(PtaVm *vm, PtaIoapicConfig *config);
/* Eventfds for the IOAPIC's inputs, which it must have by now. */
void pta_vm_make_irq_fds(PtaVm *vm, unsigned n_pins);

/* machine-units.c: a state unit for each part that is built. */
bool pta_vm_add_units(PtaVm *vm, GError **error);

/* machine-build.c: boot image and registers, at construction and at each reset. */
bool pta_vm_load_kernel(PtaVm *vm, GError **error);

/* machine-gdb.c: makes vm->gdb and opens what the description asks for. */
bool pta_vm_open_gdb(PtaVm *vm, GError **error);

/* machine.c: PtaPartitionParams.on_halt, .on_debug. */
void pta_vm_on_halt(void *opaque, const PtaHaltReason *reason);
void pta_vm_on_debug(void *opaque, bool stopped);
/* An action in QEMU's words. */
WatchdogAction pta_vm_watchdog_action_of(HaltAction action);
/* The watchdog expired, and the action is one with which the guest runs on. */
void pta_vm_on_watchdog(PtaVm *vm, WatchdogAction action);
void pta_vm_on_crash_loaded(PtaVm *vm);
/* The run state; and STOP and RESUME, each once for a change. */
void pta_vm_enter(PtaVm *vm, PtaRunState state);
void pta_vm_tell_stopped(PtaVm *vm);
void pta_vm_tell_resumed(PtaVm *vm);

/* dirty-rate.c: the machine is going. */
void pta_vm_end_dirty_rate(PtaVm *vm);

/* memory-dump.c: the machine is going. */
void pta_vm_forget_dumps(PtaVm *vm);

/* memory-stats.c: for inspect, below /memory. */
void pta_vm_inspect_memory_stats(PtaVm *vm, PtaInspect *req);

/* machine-life.c: the guest asked for a reset; cause is QEMU's ShutdownCause, a constant. */
void pta_vm_guest_reset(PtaVm *vm, const char *cause);
/* If the machine is in the middle of a save and restore, which would lose it: noted, and done at the
 * end. False: it is not. */
typedef enum PtaVmLater {
    PTA_VM_LATER_BUTTON = 1,
    PTA_VM_LATER_NMI = 2,
} PtaVmLater;
bool pta_vm_do_later(PtaVm *vm, PtaVmLater what);
/* The units are started, or will be at the end of the request that is under way. */
bool pta_vm_will_run(const PtaVm *vm);

#endif
