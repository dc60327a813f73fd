/*
 * A machine: from description to device tree, its life, and what happens when the guest halts. The
 * monitor and the command line are its users; it knows neither, it tells observers.
 *
 * Run states are QEMU's: a machine is made in `prelaunch`, pta_vm_cont() makes it `running`,
 * pta_vm_stop() `paused`, each as soon as it begins; a guest power-off with action `halt` leaves it in
 * `shutdown`, a crash in `guest-panicked`, a back end that cannot go on in `internal-error`, a debug
 * stop in `debug`, an expiry of the watchdog in `watchdog`. From the last two pta_vm_cont() goes on.
 *
 * Threads: everything MAIN.
 */
#ifndef PTA_MACHINE_H
#define PTA_MACHINE_H

#include "devices/device.h"
#include "devices/mmio-manager.h"
#include "qmp/gen/types.h"
#include "src/memory/memory.h"
#include "src/partition/gdb.h"
#include "src/partition/partition.h"

typedef struct PtaVm PtaVm;

typedef enum PtaRunState {
    PTA_RUN_STATE_PRELAUNCH,
    PTA_RUN_STATE_RUNNING,
    PTA_RUN_STATE_PAUSED,
    PTA_RUN_STATE_SHUTDOWN,
    PTA_RUN_STATE_GUEST_PANICKED,
    PTA_RUN_STATE_INTERNAL_ERROR,
    PTA_RUN_STATE_DEBUG, /* a debugger has stopped it */
    PTA_RUN_STATE_WATCHDOG,
    PTA_N_RUN_STATES,
} PtaRunState;

const char *pta_run_state_name(PtaRunState state); /* QEMU's: "guest-panicked" */

/* Exit statuses of `partita run` (partita(1)). */
enum {
    PTA_EXIT_STATUS_OK = 0,          /* the guest powered off, or quit was asked for */
    PTA_EXIT_STATUS_DESCRIPTION = 1, /* command line or machine description */
    PTA_EXIT_STATUS_HOST = 2,        /* the host refused something */
    PTA_EXIT_STATUS_CRASH = 3,       /* the guest crashed and on-crash is exit */
    PTA_EXIT_STATUS_RESET = 4,       /* the guest reset and on-reset is exit */
    PTA_EXIT_STATUS_INTERNAL = 5,    /* the back end could not go on */
    PTA_EXIT_STATUS_WATCHDOG = 6,    /* the watchdog expired and on-watchdog is exit */
};

/* Each needs an interrupt of its own. */
#define PTA_MACHINE_VIRTIO_MAX 48

/* What a machine tells. Members may be NULL. `guest`: the guest asked for it, not a client. */
typedef struct PtaVmObserver {
    void (*stopped)(void *opaque);
    void (*resumed)(void *opaque);
    void (*reset)(void *opaque, bool guest, const char *reason);    /* QEMU's ShutdownCause */
    void (*powerdown)(void *opaque);                                /* the button was pressed */
    void (*shutdown)(void *opaque, bool guest, const char *reason); /* ShutdownCause */
    void (*panicked)(void *opaque, HaltAction action);
    void (*crash_loaded)(void *opaque); /* it looks into its panic itself, and runs on */
    void (*watchdog)(void *opaque, WatchdogAction action); /* it expired */
    void (*report)(void *opaque, const char *id, PtaDeviceReport what, const char *text);
    /* Once a boot; `action` is what the policy makes of it, done right after. Lent. */
    void (*halted)(void *opaque, const PtaHaltReason *reason, HaltAction action);
    void (*quit)(void *opaque, int status); /* the process should end with this status */
} PtaVmObserver;

/*
 * Builds everything from the description, stopped, in state prelaunch. `config` is lent for the
 * machine's life, `base_dir` (what relative paths start from) is copied. Errors: BAD_DESCRIPTION
 * ("$.devices[1].block.path: …"), BAD_IMAGE, HOST, UNSUPPORTED; nothing is left behind.
 */
PtaVm *pta_vm_new(const MachineConfig *config, const char *base_dir, GError **error);
void pta_vm_free(PtaVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaVm, pta_vm_free)

/* Says whether such a machine could be made here, its kernel loaded, and makes nothing that outlives
 * the call. Errors are those of pta_vm_new(). */
bool pta_vm_check(const MachineConfig *config, const char *base_dir, GError **error);

/* The part of it that needs no machine: that files are there and ids make sense. */
bool pta_machine_config_check(const MachineConfig *config, const char *base_dir, GError **error);

/* Is another process, perhaps the same machine, at the sockets? HOST. Its log files shall not have
 * been emptied by the time that this is found out. */
bool pta_machine_config_check_live(const MachineConfig *config, const char *base_dir,
                                   GError **error);

/* `observer` and opaque are lent until removed. */
void pta_vm_add_observer(PtaVm *vm, const PtaVmObserver *observer, void *opaque);
void pta_vm_remove_observer(PtaVm *vm, const PtaVmObserver *observer, void *opaque);

PtaRunState pta_vm_state(const PtaVm *vm);

/*
 * Requests that move the whole machine. They are carried out one after the other, in the order of the
 * calls; a device whose I/O takes its time delays them and nothing else, for the main loop goes on.
 * done(data, error), which may be NULL, is called at the end, in the call or later from the main loop;
 * error is NULL on success, else lent.
 */
typedef void PtaVmDone(void *data, const GError *error);

/* QEMU's `cont`: idempotent while running. BAD_STATE after shutdown or a crash: a reset (or, for
 * the same boot, clear-halt) has to come first. */
void pta_vm_cont(PtaVm *vm, PtaVmDone *done, void *data);
/* QEMU's `stop`: idempotent; when it is done no VP executes, no device works and the guest's clock
 * stands still. */
void pta_vm_stop(PtaVm *vm, PtaVmDone *done, void *data);
/* Devices, interrupt controller, VPs, kernel image again; runs on if it was running or halted. */
void pta_vm_reset(PtaVm *vm, PtaVmDone *done, void *data);

typedef struct PtaVmPulse {
    unsigned n_units;     /* that have saved something */
    uint64_t state_bytes; /* of what they saved, as JSON */
    uint64_t downtime_ns; /* from stop to start */
} PtaVmPulse;

/*
 * Self-test of saved state: stops the machine, saves, resets and restores all units in place, saves
 * again and compares, and lets it run on if it ran. The guest sees a pause. RAM stays. An error names
 * the units; if the state could not be restored the machine is in state internal-error afterwards.
 */
typedef void PtaVmPulseDone(void *data, const PtaVmPulse *pulse, const GError *error);
void pta_vm_pulse_save_restore(PtaVm *vm, PtaVmPulseDone *done, void *data);

/*
 * Writes `size` bytes of guest memory from `at` to a file (relative to base_dir) while the machine
 * runs: guest-physical addresses, or linear ones as VP `vp` translates them, -1 for none. RAM only.
 */
void pta_vm_save_memory(PtaVm *vm, int64_t vp, uint64_t at, uint64_t size, const char *path,
                        PtaVmDone *done, void *data);

/* Measures for info->calc_time seconds how fast memory becomes dirty; calc_time, sample_pages and mode
 * are kept as given. BAD_STATE: a measurement is under way. UNSUPPORTED: the back end cannot. */
bool pta_vm_calc_dirty_rate(PtaVm *vm, const DirtyRateInfo *info, GError **error);
/* The last one that was begun; no member is allocated. */
const DirtyRateInfo *pta_vm_dirty_rate(const PtaVm *vm);

/* Iterates the main loop until all that was asked for is done, for at most timeout_ms (-1: however
 * long it takes). False: a device still waits for its I/O. */
bool pta_vm_wait(PtaVm *vm, int timeout_ms);

/* Presses the ACPI power button. BAD_STATE unless running. */
bool pta_vm_powerdown(PtaVm *vm, GError **error);
/* Asks the process to end: observers hear `shutdown` (host-qmp-quit or host-signal) and `quit`. */
void pta_vm_quit(PtaVm *vm, const char *cause, int status);
/* Takes back the outstanding halt when its turn comes; the machine runs on unless stopped. had: whether
 * there was one. BAD_STATE while a debugger is attached: it is told of halts, and clears them. */
typedef void PtaVmClearHaltDone(void *data, bool had, const GError *error);
void pta_vm_clear_halt(PtaVm *vm, PtaVmClearHaltDone *done, void *data);
void pta_vm_inject_nmi(PtaVm *vm);
/* What follows an expiry of the watchdog, instead of what the description says. */
void pta_vm_set_watchdog_action(PtaVm *vm, WatchdogAction action);

/* Opens a socket for a debugger: as pta_gdb_listen(), or "none". BAD_STATE, BAD_DESCRIPTION, HOST. */
bool pta_vm_gdbserver(PtaVm *vm, const char *device, GError **error);
const PtaGdb *pta_vm_gdb(const PtaVm *vm);

const MachineConfig *pta_vm_config(const PtaVm *vm);
const char *pta_vm_name(const PtaVm *vm);
const char *pta_vm_uuid(const PtaVm *vm);
PtaPartition *pta_vm_partition(PtaVm *vm);
const PtaBackendOps *pta_vm_backend(const PtaVm *vm);
PtaMemory *pta_vm_memory(PtaVm *vm);
PtaMmioManager *pta_vm_placement(PtaVm *vm);
/* The devices: the IOAPIC, those of the description in its order, the machine's own. */
size_t pta_vm_n_devices(const PtaVm *vm);
PtaDevice *pta_vm_device(PtaVm *vm, size_t i);
PtaDevice *pta_vm_find_device(PtaVm *vm, const char *id);
int64_t pta_vm_start_time_us(const PtaVm *vm); /* wall clock of the last boot; 0 before */

#endif
