/* A machine's life: construction from the description, run states, halts and what the policy makes
 * of them. Main thread, except the platform callbacks (VP threads) and the power callback (any). */
#include "config.h"

#define G_LOG_DOMAIN "machine"

#include "src/machine/machine.h"

#include "devices/ioapic.h"
#include "devices/power.h"
#include "src/boot/boot.h"
#include "src/machine/io-thread.h"
#include "src/machine/units.h"

#include <errno.h>
#include <string.h>

/* Where things are on an x86 machine: RAM below the gap, device windows in it, the rest of RAM above
 * 4 GiB. */
#define X86_RAM_GAP_BASE  UINT64_C(0xc0000000)
#define X86_MMIO_BASE     UINT64_C(0xd0000000)
#define X86_MMIO_LIMIT    UINT64_C(0xd4000000)
#define X86_HIGH_RAM_BASE UINT64_C(0x100000000)
#define X86_IOAPIC_PINS   64
#define X86_IOAPIC_ID     0
#define X86_IRQ_FIRST     16 /* below are COM ports, RTC and the power button */
#define X86_IRQ_LAST      (X86_IOAPIC_PINS - 1)

typedef struct Observer {
    const PtaVmObserver *ops;
    void *opaque;
} Observer;

struct PtaVm {
    const MachineConfig *config; /* lent */
    char *base_dir;
    char *uuid;
    PtaRunState state;
    const PtaBackendOps *backend;
    PtaMemory *memory;
    PtaBus *mmio, *pio;
    PtaMmioManager *placement;
    PtaIoThread *io;
    PtaDeviceHost host;
    PtaDevice *ioapic, *power;
    GPtrArray *devices; /* of PtaDevice: the described ones, then the machine's own */
    void *hyperv;  /* NULL without that interface */
    PtaPlatform platform;
    PtaPartition *partition;
    PtaUnits *units;
    GArray *observers;
    int64_t start_time_us;
};

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
    };
    g_assert(state < PTA_N_RUN_STATES);
    return names[state];
}

/* ---- observers ---- */

void pta_vm_add_observer(PtaVm *vm, const PtaVmObserver *observer, void *opaque)
{
    pta_assert_main();
    Observer o = { observer, opaque };
    g_array_append_val(vm->observers, o);
}

void pta_vm_remove_observer(PtaVm *vm, const PtaVmObserver *observer, void *opaque)
{
    pta_assert_main();
    for (guint i = 0; i < vm->observers->len; i++) {
        const Observer *o = &g_array_index(vm->observers, Observer, i);
        if (o->ops == observer && o->opaque == opaque) {
            g_array_remove_index(vm->observers, i);
            return;
        }
    }
}

#define TELL(vm, what, ...)                                                     \
    do {                                                                        \
        for (guint i_ = 0; i_ < (vm)->observers->len; i_++) {                   \
            const Observer *o_ = &g_array_index((vm)->observers, Observer, i_); \
            if (o_->ops->what) {                                                \
                o_->ops->what(o_->opaque, ##__VA_ARGS__);                       \
            }                                                                   \
        }                                                                       \
    } while (0)

/* ---- what VPs ask for; VP threads ---- */

static uint64_t platform_mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    PtaVm *vm = opaque;
    uint64_t value;
    if (!pta_bus_read(vm->mmio, gpa, size, &value)) {
        value = UINT64_MAX;
    }
    PTA_TRACE(PTA_TRACE_MMIO, "read 0x%" G_GINT64_MODIFIER "x/%u = 0x%" G_GINT64_MODIFIER "x", gpa,
              size, value);
    return value;
}

static void platform_mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    PtaVm *vm = opaque;
    PTA_TRACE(PTA_TRACE_MMIO, "write 0x%" G_GINT64_MODIFIER "x/%u = 0x%" G_GINT64_MODIFIER "x", gpa,
              size, value);
    pta_bus_write(vm->mmio, gpa, size, value);
}

static uint32_t platform_pio_read(void *opaque, uint16_t port, unsigned size)
{
    PtaVm *vm = opaque;
    uint64_t value;
    if (!pta_bus_read(vm->pio, port, size, &value)) {
        value = UINT32_MAX;
    }
    PTA_TRACE(PTA_TRACE_PIO, "in 0x%x/%u = 0x%x", port, size, (uint32_t)value);
    return (uint32_t)value;
}

static void platform_pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    PtaVm *vm = opaque;
    PTA_TRACE(PTA_TRACE_PIO, "out 0x%x/%u = 0x%x", port, size, value);
    pta_bus_write(vm->pio, port, size, value);
}

static bool platform_msr_read(void *opaque, unsigned vp, uint32_t msr, uint64_t *value)
{
    bool ok = false;
    PTA_TRACE(PTA_TRACE_MSR, "rdmsr 0x%x%s", msr, ok ? "" : " #GP");
    return ok;
}

static bool platform_msr_write(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    bool ok = false;
    PTA_TRACE(PTA_TRACE_MSR, "wrmsr 0x%x = 0x%" G_GINT64_MODIFIER "x%s", msr, value,
              ok ? "" : " #GP");
    return ok;
}

static bool platform_hypercall(void *opaque, unsigned vp, PtaX86Regs *regs)
{
    return false;
}

static void platform_eoi(void *opaque, uint8_t vector)
{
    PtaVm *vm = opaque;
    pta_ioapic_eoi(vm->ioapic, vector);
}

/* ---- what devices ask for; any thread ---- */

static void quit_from_console(void *opaque)
{
    pta_vm_quit(opaque, "host-ui", PTA_EXIT_STATUS_OK);
}

static void host_power(PtaDeviceHost *host, int what, uint32_t code)
{
    static const PtaHaltKind kinds[] = {
        [PTA_POWER_OFF] = PTA_HALT_POWER_OFF,       [PTA_POWER_RESET] = PTA_HALT_RESET,
        [PTA_POWER_HIBERNATE] = PTA_HALT_HIBERNATE, [PTA_POWER_DEBUG_EXIT] = PTA_HALT_DEBUG_EXIT,
        [PTA_POWER_PANIC] = PTA_HALT_PANIC,
    };
    PtaVm *vm = host->opaque;
    if (what == PTA_POWER_QUIT) {
        pta_main_call(quit_from_console, vm);
        return;
    }
    g_assert(what >= 0 && (size_t)what < G_N_ELEMENTS(kinds));
    PtaHaltReason reason = { .kind = kinds[what], .code = code };
    pta_partition_halt(vm->partition, &reason);
}

static void ioapic_msi(void *opaque, uint64_t address, uint32_t data)
{
    PtaVm *vm = opaque;
    pta_partition_msi(vm->partition, address, data);
}

/* ---- units ---- */

static void device_unit_start(void *opaque)
{
    pta_device_start(opaque);
}

static void device_unit_stop(void *opaque)
{
    pta_device_quiesce(opaque);
}

static bool device_unit_reset(void *opaque, GError **error)
{
    pta_device_reset(opaque);
    return true;
}

static const PtaUnitOps device_unit = { device_unit_start, device_unit_stop, device_unit_reset };

static bool load_kernel(PtaVm *vm, GError **error)
{
    size_t n = pta_mmio_manager_count(vm->placement);
    g_autofree PtaPlacedDevice *placed = g_new(PtaPlacedDevice, n);
    for (size_t i = 0; i < n; i++) {
        placed[i] = *pta_mmio_manager_get(vm->placement, i);
    }
    const BootConfig *boot = vm->config->boot;
    g_autofree char *kernel = pta_resolve_path(vm->base_dir, boot->kernel);
    g_autofree char *initrd = boot->initrd ? pta_resolve_path(vm->base_dir, boot->initrd) : NULL;
    PtaBootParams params = {
        .kernel_path = kernel,
        .initrd_path = initrd,
        .cmdline = boot->cmdline,
        .devices = placed,
        .n_devices = n,
        .n_vps = vm->config->partition->vps,
        .ioapic_id = X86_IOAPIC_ID,
    };
    g_autofree PtaX86State *bsp = g_new(PtaX86State, 1);
    pta_x86_state_reset(bsp, 0, true);
    return pta_boot_load(vm->memory, &params, bsp, error) &&
           pta_partition_set_initial_state(vm->partition, bsp, error);
}

static void partition_unit_start(void *opaque)
{
    PtaVm *vm = opaque;
    pta_partition_start(vm->partition);
}

static void partition_unit_stop(void *opaque)
{
    PtaVm *vm = opaque;
    pta_partition_stop(vm->partition);
}

/* Devices and interrupt lines are reset by now (they are dependencies): VPs, then what they boot. */
static bool partition_unit_reset(void *opaque, GError **error)
{
    PtaVm *vm = opaque;
    pta_partition_reset(vm->partition);
    return load_kernel(vm, error);
}

static const PtaUnitOps partition_unit = { partition_unit_start, partition_unit_stop,
                                           partition_unit_reset };

/* ---- construction ---- */

static bool add_device(PtaVm *vm, const PtaDeviceClass *klass, const char *id, const void *config,
                       PtaDevice **out, GError **error)
{
    PtaDevice *dev = pta_device_new(klass, id, &vm->host, config, error);
    if (!dev) {
        return false;
    }
    g_ptr_array_add(vm->devices, dev);
    if (out) {
        *out = dev;
    }
    return true;
}

/* The branch of the flat union that belongs to its type: all of them are pointers. */
static bool add_described_devices(PtaVm *vm, bool *has_rtc, GError **error)
{
    const MachineConfig *config = vm->config;
    *has_rtc = false;
    for (size_t i = 0; i < config->n_devices; i++) {
        const DeviceConfig *d = config->devices[i];
        const char *type = device_config_type_name(d->type);
        const PtaDeviceClass *klass = pta_device_class_find(type);
        g_assert(klass); /* the schema and the table of classes name the same */
        if (!add_device(vm, klass, d->id, d->uart16550, NULL, error)) {
            g_prefix_error(error, "$.devices[%zu]: ", i);
            return false;
        }
        *has_rtc |= d->type == DEVICE_CONFIG_TYPE_RTC_CMOS;
    }
    return true;
}

static bool add_devices(PtaVm *vm, GError **error)
{
    PtaIoapicConfig ioapic = {
        .n_pins = X86_IOAPIC_PINS,
        .base = PTA_IOAPIC_BASE,
        .msi = ioapic_msi,
        .opaque = vm,
    };
    bool has_rtc;
    if (!add_device(vm, &pta_ioapic_class, "ioapic", &ioapic, &vm->ioapic, error)) {
        return false;
    }
    pta_mmio_manager_connect(vm->placement, pta_ioapic_set, vm->ioapic);
    if (!add_described_devices(vm, &has_rtc, error) ||
        !add_device(vm, &pta_power_class, "power", NULL, &vm->power, error)) {
        return false;
    }
    if (!has_rtc) {
        static const RtcCmosConfig rtc = { 0 };
        return add_device(vm, pta_device_class_find("rtc-cmos"), "rtc", &rtc, NULL, error);
    }
    return true;
}

/* Reset order: devices, the interrupt controller with its lines, then VPs; start order as well. */
static bool add_units(PtaVm *vm, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (guint i = 0; i < vm->devices->len; i++) {
        PtaDevice *dev = g_ptr_array_index(vm->devices, i);
        if (dev != vm->ioapic &&
            !pta_units_add(vm->units, dev->id, NULL, &device_unit, dev, error)) {
            return false;
        }
        if (dev != vm->ioapic) {
            g_ptr_array_add(names, dev->id);
        }
    }
    g_ptr_array_add(names, NULL);
    static const char *const on_ioapic[] = { "ioapic", NULL };
    return pta_units_add(vm->units, "ioapic", (const char *const *)names->pdata, &device_unit,
                         vm->ioapic, error) &&
           pta_units_add(vm->units, "partition", on_ioapic, &partition_unit, vm, error);
}

static bool make_memory(PtaVm *vm, GError **error)
{
    uint64_t size = vm->config->memory->size;
    uint64_t low = MIN(size, X86_RAM_GAP_BASE);
    if (size % PTA_PAGE_SIZE != 0) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "$.memory.size: expected a multiple of 4K, found %" G_GUINT64_FORMAT,
                         size);
    }
    PtaRamRange ranges[2] = { { 0, low }, { X86_HIGH_RAM_BASE, size - low } };
    vm->memory = pta_memory_new(ranges, size > low ? 2 : 1, error);
    return vm->memory != NULL;
}

static void on_halt(void *opaque, const PtaHaltReason *reason);

static bool make_partition(PtaVm *vm, GError **error)
{
    const PartitionConfig *config = vm->config->partition;
    static const PtaHypervisorKind kinds[] = {
        [HYPERVISOR_KIND_HYPERV] = PTA_HYPERVISOR_HYPERV,
        [HYPERVISOR_KIND_KVM] = PTA_HYPERVISOR_KVM,
        [HYPERVISOR_KIND_NONE] = PTA_HYPERVISOR_NONE,
    };
    vm->platform = (PtaPlatform){
        .opaque = vm,
        .mmio_read = platform_mmio_read,
        .mmio_write = platform_mmio_write,
        .pio_read = platform_pio_read,
        .pio_write = platform_pio_write,
        .msr_read = platform_msr_read,
        .msr_write = platform_msr_write,
        .hypercall = platform_hypercall,
        .eoi = platform_eoi,
    };
    PtaPartitionParams params = {
        .backend = vm->backend,
        .n_vps = config->vps,
        .cpu_model = config->has_cpu_model ? cpu_model_name(config->cpu_model) : NULL,
        .hypervisor = kinds[config->hypervisor],
        .memory = vm->memory,
        .platform = &vm->platform,
        .on_halt = on_halt,
        .opaque = vm,
    };
    vm->partition = pta_partition_new(&params, error);
    if (!vm->partition) {
        return false;
    }
    return true;
}

static void free_device(gpointer dev)
{
    pta_device_free(dev);
}

static bool build(PtaVm *vm, GError **error)
{
    if (!pta_machine_config_check(vm->config, vm->base_dir, error)) {
        return false;
    }
    vm->backend =
        pta_backend_choose(backend_kind_name(vm->config->partition->backend), error);
    if (!vm->backend || !make_memory(vm, error)) {
        return false;
    }
    vm->mmio = pta_bus_new("mmio");
    vm->pio = pta_bus_new("pio");
    vm->placement = pta_mmio_manager_new(&(PtaMmioManagerParams){
        .mmio = vm->mmio,
        .pio = vm->pio,
        .base = X86_MMIO_BASE,
        .limit = X86_MMIO_LIMIT,
        .irq_first = X86_IRQ_FIRST,
        .irq_last = X86_IRQ_LAST,
        .n_irqs = X86_IOAPIC_PINS,
    });
    vm->io = pta_io_thread_new("io", error);
    if (!vm->io) {
        return false;
    }
    vm->host = (PtaDeviceHost){
        .memory = vm->memory,
        .io_context = pta_io_thread_context(vm->io),
        .opaque = vm,
        .power = host_power,
        .base_dir = vm->base_dir,
    };
    pta_mmio_manager_attach(vm->placement, &vm->host);
    return make_partition(vm, error) && add_devices(vm, error) && add_units(vm, error) &&
           load_kernel(vm, error);
}

PtaVm *pta_vm_new(const MachineConfig *config, const char *base_dir, GError **error)
{
    pta_assert_main();
    PtaVm *vm = g_new0(PtaVm, 1);
    vm->config = config;
    vm->base_dir = g_strdup(base_dir);
    vm->uuid = config->uuid ? g_strdup(config->uuid) : g_uuid_string_random();
    vm->observers = g_array_new(FALSE, FALSE, sizeof(Observer));
    vm->devices = g_ptr_array_new_with_free_func(free_device);
    vm->units = pta_units_new();
    if (!build(vm, error)) {
        pta_vm_free(vm);
        return NULL;
    }
    return vm;
}

void pta_vm_free(PtaVm *vm)
{
    pta_assert_main();
    if (!vm) {
        return;
    }
    pta_units_free(vm->units);
    /* Devices hold interrupt lines into the IOAPIC, which was made first: the last goes first. */
    while (vm->devices->len > 0) {
        g_ptr_array_remove_index(vm->devices, vm->devices->len - 1);
    }
    g_ptr_array_free(vm->devices, TRUE);
    pta_partition_free(vm->partition);
    pta_io_thread_free(vm->io);
    pta_mmio_manager_free(vm->placement);
    pta_bus_free(vm->mmio);
    pta_bus_free(vm->pio);
    pta_memory_free(vm->memory);
    g_array_free(vm->observers, TRUE);
    g_free(vm->base_dir);
    g_free(vm->uuid);
    g_free(vm);
}

/* ---- run states ---- */

PtaRunState pta_vm_state(const PtaVm *vm)
{
    return vm->state;
}

static void enter(PtaVm *vm, PtaRunState state)
{
    g_info("machine: %s -> %s", pta_run_state_name(vm->state), pta_run_state_name(state));
    vm->state = state;
}

bool pta_vm_cont(PtaVm *vm, GError **error)
{
    pta_assert_main();
    switch (vm->state) {
    case PTA_RUN_STATE_RUNNING:
        return true;
    case PTA_RUN_STATE_SHUTDOWN:
    case PTA_RUN_STATE_GUEST_PANICKED:
    case PTA_RUN_STATE_INTERNAL_ERROR:
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "Resetting the Virtual Machine is required (it is in state \"%s\")",
                         pta_run_state_name(vm->state));
    case PTA_RUN_STATE_PRELAUNCH:
        vm->start_time_us = g_get_real_time();
        break;
    default:
        break;
    }
    enter(vm, PTA_RUN_STATE_RUNNING);
    pta_partition_clear_halt(vm->partition); /* a debug stop ends by going on */
    TELL(vm, resumed);
    pta_units_start(vm->units);
    return true;
}

void pta_vm_stop(PtaVm *vm)
{
    pta_assert_main();
    if (vm->state != PTA_RUN_STATE_RUNNING) {
        return;
    }
    enter(vm, PTA_RUN_STATE_PAUSED);
    /* May take up a halt that raced with us, which then decides the state. */
    pta_units_stop(vm->units);
    TELL(vm, stopped);
}

static bool reset_units(PtaVm *vm, GError **error)
{
    pta_units_stop(vm->units);
    if (!pta_units_reset(vm->units, error)) {
        enter(vm, PTA_RUN_STATE_INTERNAL_ERROR);
        return false;
    }
    vm->start_time_us = g_get_real_time();
    return true;
}

static bool do_reset(PtaVm *vm, bool guest, const char *cause, GError **error)
{
    PtaRunState before = vm->state;
    if (!reset_units(vm, error)) {
        return false;
    }
    TELL(vm, reset, guest, cause);
    switch (before) {
    case PTA_RUN_STATE_PRELAUNCH:
    case PTA_RUN_STATE_PAUSED:
        enter(vm, PTA_RUN_STATE_PRELAUNCH); /* as QEMU: reset, and waiting for cont */
        return true;
    case PTA_RUN_STATE_RUNNING:
        break;
    default:
        enter(vm, PTA_RUN_STATE_RUNNING);
        TELL(vm, resumed);
        break;
    }
    pta_units_start(vm->units);
    return true;
}

bool pta_vm_reset(PtaVm *vm, GError **error)
{
    pta_assert_main();
    return do_reset(vm, false, "host-qmp-system-reset", error);
}

bool pta_vm_powerdown(PtaVm *vm, GError **error)
{
    pta_assert_main();
    if (vm->state != PTA_RUN_STATE_RUNNING) {
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "the machine is in state \"%s\", not running: nobody would see the button",
                         pta_run_state_name(vm->state));
    }
    pta_power_button(vm->power);
    TELL(vm, powerdown);
    return true;
}

void pta_vm_quit(PtaVm *vm, const char *cause, int status)
{
    pta_assert_main();
    TELL(vm, shutdown, false, cause);
    TELL(vm, quit, status);
}

void pta_vm_inject_nmi(PtaVm *vm)
{
    pta_assert_main();
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
    [PTA_HALT_WATCHDOG] = { PTA_RUN_STATE_GUEST_PANICKED, PTA_EXIT_STATUS_CRASH, true },
    [PTA_HALT_INTERNAL_ERROR] = { PTA_RUN_STATE_INTERNAL_ERROR, PTA_EXIT_STATUS_INTERNAL, true },
    [PTA_HALT_DEBUG_BREAK] = { PTA_RUN_STATE_DEBUG },
    [PTA_HALT_SINGLE_STEP] = { PTA_RUN_STATE_DEBUG },
    [PTA_HALT_HW_BREAKPOINT] = { PTA_RUN_STATE_DEBUG },
    [PTA_HALT_DEBUG_EXIT] = { PTA_RUN_STATE_SHUTDOWN },
};

static HaltAction halt_action(const PtaVm *vm, PtaHaltKind kind)
{
    switch (kind) {
    case PTA_HALT_POWER_OFF:
    case PTA_HALT_HIBERNATE:
        return vm->config->on_shutdown;
    case PTA_HALT_RESET:
        return vm->config->on_reset;
    case PTA_HALT_TRIPLE_FAULT:
    case PTA_HALT_PANIC:
    case PTA_HALT_WATCHDOG:
        return vm->config->on_crash;
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
        TELL(vm, panicked, action);
    }
    if (action == HALT_ACTION_RESET) {
        return; /* RESET follows */
    }
    if (policy->crash) {
        if (action == HALT_ACTION_EXIT) {
            TELL(vm, shutdown, true, "guest-panic");
        }
    } else if (policy->state == PTA_RUN_STATE_SHUTDOWN) {
        TELL(vm, shutdown, true, reason->kind == PTA_HALT_RESET ? "guest-reset" : "guest-shutdown");
    }
}

/* The partition stopped all VPs. */
static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    PtaVm *vm = opaque;
    const HaltPolicy *policy = &policies[reason->kind];
    HaltAction action = halt_action(vm, reason->kind);
    bool was_running = vm->state == PTA_RUN_STATE_RUNNING;
    g_message("machine: the guest halted: %s%s%s%s", pta_halt_kind_name(reason->kind),
              reason->text[0] ? " (" : "", reason->text, reason->text[0] ? ")" : "");
    if (action == HALT_ACTION_HALT) {
        enter(vm, policy->state);
    }
    TELL(vm, halted, reason, action);
    tell_qemu_events(vm, reason, action);
    switch (action) {
    case HALT_ACTION_HALT:
        if (was_running) {
            TELL(vm, stopped);
        }
        break;
    case HALT_ACTION_RESET: {
        g_autoptr(GError) error = NULL;
        if (!do_reset(vm, true, policy->crash ? "guest-panic" : "guest-reset", &error)) {
            g_warning("machine: %s", error->message);
        }
        break;
    }
    default:
        TELL(vm, quit,
             reason->kind == PTA_HALT_DEBUG_EXIT ? (int)reason->code : policy->exit_status);
        break;
    }
}

bool pta_vm_clear_halt(PtaVm *vm)
{
    pta_assert_main();
    if (!pta_partition_halt_reason(vm->partition)) {
        return false;
    }
    if (vm->state != PTA_RUN_STATE_PAUSED && vm->state != PTA_RUN_STATE_PRELAUNCH) {
        enter(vm, pta_units_started(vm->units) ? PTA_RUN_STATE_RUNNING : PTA_RUN_STATE_PAUSED);
    }
    if (vm->state == PTA_RUN_STATE_RUNNING) {
        TELL(vm, resumed);
    }
    return pta_partition_clear_halt(vm->partition);
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
