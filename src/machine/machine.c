/* A machine's life: run states, halts and what the policy makes of them, and who hears of it. Main
 * thread. */
#include "config.h"

#define G_LOG_DOMAIN "machine"

#include "src/machine/machine-private.h"

#include "devices/power.h"

const char *pta_run_state_name(PtaRunState state)
{
    static const char *const names[PTA_N_RUN_STATES] = {
        [PTA_RUN_STATE_PRELAUNCH] = "prelaunch",
        [PTA_RUN_STATE_RUNNING] = "running",
        [PTA_RUN_STATE_PAUSED] = "paused",
        [PTA_RUN_STATE_SHUTDOWN] = "shutdown",
        [PTA_RUN_STATE_GUEST_PANICKED] = "guest-panicked",
        [PTA_RUN_STATE_INTERNAL_ERROR] = "internal-error",
        [PTA_RUN_STATE_DEBUG] = "debug",
        [PTA_RUN_STATE_WATCHDOG] = "watchdog",
    };
    g_assert(state < PTA_N_RUN_STATES);
    return names[state];
}

/* ---- observers ---- */

void pta_vm_add_observer(PtaVm *vm, const PtaVmObserver *observer, void *opaque)
{
    pta_assert_main();
    PtaVmObserverRef o = { observer, opaque };
    g_array_append_val(vm->observers, o);
}

void pta_vm_remove_observer(PtaVm *vm, const PtaVmObserver *observer, void *opaque)
{
    pta_assert_main();
    for (guint i = 0; i < vm->observers->len; i++) {
        const PtaVmObserverRef *o = &g_array_index(vm->observers, PtaVmObserverRef, i);
        if (o->ops == observer && o->opaque == opaque) {
            g_array_remove_index(vm->observers, i);
            return;
        }
    }
}

/* ---- run states ---- */

PtaRunState pta_vm_state(const PtaVm *vm)
{
    return vm->state;
}

void pta_vm_enter(PtaVm *vm, PtaRunState state)
{
    if (vm->state != state) {
        g_info("machine: %s -> %s", pta_run_state_name(vm->state), pta_run_state_name(state));
        vm->state = state;
    }
}

void pta_vm_tell_stopped(PtaVm *vm)
{
    if (vm->told_running) {
        vm->told_running = false;
        PTA_VM_TELL(vm, stopped);
    }
}

void pta_vm_tell_resumed(PtaVm *vm)
{
    if (!vm->told_running) {
        vm->told_running = true;
        PTA_VM_TELL(vm, resumed);
    }
}

bool pta_vm_powerdown(PtaVm *vm, GError **error)
{
    pta_assert_main();
    if (vm->state != PTA_RUN_STATE_RUNNING) {
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "the machine is in state \"%s\", not running: nobody would see the button",
                         pta_run_state_name(vm->state));
    }
    if (!pta_vm_do_later(vm, PTA_VM_LATER_BUTTON)) {
        pta_power_button(vm->power);
    }
    PTA_VM_TELL(vm, powerdown);
    return true;
}

void pta_vm_quit(PtaVm *vm, const char *cause, int status)
{
    pta_assert_main();
    PTA_VM_TELL(vm, shutdown, false, cause);
    PTA_VM_TELL(vm, quit, status);
}

void pta_vm_inject_nmi(PtaVm *vm)
{
    pta_assert_main();
    if (pta_vm_do_later(vm, PTA_VM_LATER_NMI)) {
        return;
    }
    for (unsigned i = 0; i < vm->config->partition->vps; i++) {
        pta_partition_nmi(vm->partition, i);
    }
}

/* ---- halts ---- */

typedef struct HaltPolicy {
    PtaRunState state; /* with action `halt` */
    int exit_status;   /* with action `exit` */
    bool crash;
} HaltPolicy;

static const HaltPolicy policies[PTA_N_HALTS] = {
    [PTA_HALT_POWER_OFF] = { PTA_RUN_STATE_SHUTDOWN, PTA_EXIT_STATUS_OK },
    [PTA_HALT_HIBERNATE] = { PTA_RUN_STATE_SHUTDOWN, PTA_EXIT_STATUS_OK },
    [PTA_HALT_RESET] = { PTA_RUN_STATE_SHUTDOWN, PTA_EXIT_STATUS_RESET },
    [PTA_HALT_TRIPLE_FAULT] = { PTA_RUN_STATE_GUEST_PANICKED, PTA_EXIT_STATUS_CRASH, true },
    [PTA_HALT_PANIC] = { PTA_RUN_STATE_GUEST_PANICKED, PTA_EXIT_STATUS_CRASH, true },
    [PTA_HALT_WATCHDOG] = { PTA_RUN_STATE_WATCHDOG, PTA_EXIT_STATUS_WATCHDOG },
    [PTA_HALT_INTERNAL_ERROR] = { PTA_RUN_STATE_INTERNAL_ERROR, PTA_EXIT_STATUS_INTERNAL, true },
    [PTA_HALT_DEBUG_BREAK] = { PTA_RUN_STATE_DEBUG },
    [PTA_HALT_SINGLE_STEP] = { PTA_RUN_STATE_DEBUG },
    [PTA_HALT_HW_BREAKPOINT] = { PTA_RUN_STATE_DEBUG },
    [PTA_HALT_SW_BREAKPOINT] = { PTA_RUN_STATE_DEBUG },
    [PTA_HALT_DEBUG_EXIT] = { PTA_RUN_STATE_SHUTDOWN },
};

WatchdogAction pta_vm_watchdog_action_of(HaltAction action)
{
    static const WatchdogAction actions[] = {
        [HALT_ACTION_HALT] = WATCHDOG_ACTION_PAUSE,
        [HALT_ACTION_RESET] = WATCHDOG_ACTION_RESET,
        [HALT_ACTION_EXIT] = WATCHDOG_ACTION_POWEROFF,
    };
    return actions[action];
}

/* The other actions have let the guest run on: they were asked for in the meantime. */
static HaltAction watchdog_halt_action(const PtaVm *vm, bool shutdown)
{
    switch (g_atomic_int_get(&vm->watchdog_action)) {
    case WATCHDOG_ACTION_RESET:
        return shutdown ? vm->config->on_shutdown : HALT_ACTION_RESET;
    case WATCHDOG_ACTION_POWEROFF:
        return HALT_ACTION_EXIT;
    default:
        return HALT_ACTION_HALT;
    }
}

static HaltAction halt_action(const PtaVm *vm, const PtaHaltReason *reason)
{
    switch (reason->kind) {
    case PTA_HALT_POWER_OFF:
    case PTA_HALT_HIBERNATE:
        return vm->config->on_shutdown;
    case PTA_HALT_RESET:
        return vm->config->on_reset;
    case PTA_HALT_TRIPLE_FAULT:
    case PTA_HALT_PANIC:
        return vm->config->on_crash;
    case PTA_HALT_WATCHDOG:
        return watchdog_halt_action(vm, reason->code == 1);
    case PTA_HALT_INTERNAL_ERROR:
        /* A reset would only bring it back. */
        return vm->config->on_crash == HALT_ACTION_EXIT ? HALT_ACTION_EXIT : HALT_ACTION_HALT;
    case PTA_HALT_DEBUG_EXIT:
        return HALT_ACTION_EXIT;
    default:
        return HALT_ACTION_HALT;
    }
}

static void tell_qemu_events(PtaVm *vm, const PtaHaltReason *reason, HaltAction action)
{
    const HaltPolicy *policy = &policies[reason->kind];
    if (policy->crash) {
        PTA_VM_TELL(vm, panicked, action);
    }
    if (reason->kind == PTA_HALT_WATCHDOG) {
        PTA_VM_TELL(vm, watchdog, pta_vm_watchdog_action_of(action));
    }
    if (action == HALT_ACTION_RESET) {
        return; /* RESET follows */
    }
    if (policy->crash) {
        if (action == HALT_ACTION_EXIT) {
            PTA_VM_TELL(vm, shutdown, true, "guest-panic");
        }
    } else if (reason->kind == PTA_HALT_WATCHDOG) {
        if (action == HALT_ACTION_EXIT) {
            PTA_VM_TELL(vm, shutdown, true, "guest-reset");
        }
    } else if (policy->state == PTA_RUN_STATE_SHUTDOWN) {
        PTA_VM_TELL(vm, shutdown, true,
                    reason->kind == PTA_HALT_RESET ? "guest-reset" : "guest-shutdown");
    }
}

/* The partition stopped all VPs. */
void pta_vm_on_halt(void *opaque, const PtaHaltReason *reason)
{
    PtaVm *vm = opaque;
    const HaltPolicy *policy = &policies[reason->kind];
    HaltAction action = halt_action(vm, reason);
    g_message("machine: the guest halted: %s%s%s%s", pta_halt_kind_name(reason->kind),
              reason->text[0] ? " (" : "", reason->text, reason->text[0] ? ")" : "");
    if (action == HALT_ACTION_HALT) {
        pta_vm_enter(vm, policy->state);
    }
    PTA_VM_TELL(vm, halted, reason, action);
    tell_qemu_events(vm, reason, action);
    switch (action) {
    case HALT_ACTION_HALT:
        pta_vm_tell_stopped(vm);
        break;
    case HALT_ACTION_RESET:
        pta_vm_guest_reset(vm, policy->crash ? "guest-panic" : "guest-reset");
        break;
    default:
        PTA_VM_TELL(vm, quit,
                    reason->kind == PTA_HALT_DEBUG_EXIT ? (int)reason->code : policy->exit_status);
        break;
    }
}

/* A debugger is told of halts in the place of clients; they only see the state if they ask. */
void pta_vm_on_debug(void *opaque, bool stopped)
{
    PtaVm *vm = opaque;
    if (stopped && vm->state == PTA_RUN_STATE_RUNNING) {
        pta_vm_enter(vm, PTA_RUN_STATE_DEBUG);
    } else if (!stopped && vm->state == PTA_RUN_STATE_DEBUG) {
        pta_vm_enter(vm, pta_vm_will_run(vm) ? PTA_RUN_STATE_RUNNING : PTA_RUN_STATE_PAUSED);
    }
}

void pta_vm_set_watchdog_action(PtaVm *vm, WatchdogAction action)
{
    pta_assert_main();
    g_atomic_int_set(&vm->watchdog_action, (int)action);
}

void pta_vm_on_crash_loaded(PtaVm *vm)
{
    static PtaRatelimit limit;
    uint32_t missed;
    pta_assert_main();
    if (pta_ratelimit_ok(&limit, &missed)) {
        PTA_VM_TELL(vm, crash_loaded);
        g_message(
            "machine: the guest has panicked and runs its crash kernel (%u more since the last line)",
            missed);
    }
}

void pta_vm_on_watchdog(PtaVm *vm, WatchdogAction action)
{
    static PtaRatelimit limit;
    uint32_t missed;
    pta_assert_main();
    PTA_VM_TELL(vm, watchdog, action);
    if (action == WATCHDOG_ACTION_DEBUG && pta_ratelimit_ok(&limit, &missed)) {
        g_message("machine: the watchdog expired (%u more since the last line)", missed);
    } else if (action == WATCHDOG_ACTION_INJECT_NMI) {
        pta_vm_inject_nmi(vm);
    } else if (action == WATCHDOG_ACTION_SHUTDOWN) {
        g_autoptr(GError) error = NULL;
        if (!pta_vm_powerdown(vm, &error)) {
            g_warning("machine: the watchdog expired, but %s", error->message);
        }
    }
}

/* ---- what others may see ---- */

const MachineConfig *pta_vm_config(const PtaVm *vm)
{
    return vm->config;
}

const char *pta_vm_name(const PtaVm *vm)
{
    return vm->config->name;
}

const char *pta_vm_uuid(const PtaVm *vm)
{
    return vm->uuid;
}

PtaPartition *pta_vm_partition(PtaVm *vm)
{
    return vm->partition;
}

const PtaBackendOps *pta_vm_backend(const PtaVm *vm)
{
    return vm->backend;
}

PtaMemory *pta_vm_memory(PtaVm *vm)
{
    return vm->memory;
}

PtaMmioManager *pta_vm_placement(PtaVm *vm)
{
    return vm->placement;
}

size_t pta_vm_n_devices(const PtaVm *vm)
{
    return vm->devices->len;
}

PtaDevice *pta_vm_device(PtaVm *vm, size_t i)
{
    g_assert(i < vm->devices->len);
    return g_ptr_array_index(vm->devices, i);
}

PtaDevice *pta_vm_find_device(PtaVm *vm, const char *id)
{
    for (guint i = 0; i < vm->devices->len; i++) {
        PtaDevice *dev = g_ptr_array_index(vm->devices, i);
        if (g_str_equal(dev->id, id)) {
            return dev;
        }
    }
    return NULL;
}

int64_t pta_vm_start_time_us(const PtaVm *vm)
{
    return vm->start_time_us;
}
