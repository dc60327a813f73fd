/* What VPs and devices ask of the machine. VP threads and I/O threads: nothing here changes the machine,
 * it reads what is constant and posts what it is told. */
#include "config.h"

#define G_LOG_DOMAIN "machine"

#include "src/machine/machine-private.h"

#include <inttypes.h>

/* ---- what VPs ask for; VP threads ---- */

static uint64_t platform_mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    PtaVm *vm = opaque;
    uint64_t value;
    if (!pta_bus_read(vm->mmio, gpa, size, &value)) {
        value = UINT64_MAX;
    }
    PTA_TRACE(PTA_TRACE_MMIO, "read 0x%" PRIx64 "/%u = 0x%" PRIx64 "", gpa, size, value);
    return value;
}

static void platform_mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    PtaVm *vm = opaque;
    PTA_TRACE(PTA_TRACE_MMIO, "write 0x%" PRIx64 "/%u = 0x%" PRIx64 "", gpa, size, value);
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
    PtaVm *vm = opaque;
    bool ok = vm->hyperv && pta_hyperv_msr_read(vm->hyperv, vp, msr, value);
    PTA_TRACE(PTA_TRACE_MSR, "rdmsr 0x%x%s", msr, ok ? "" : " #GP");
    return ok;
}

static bool platform_msr_write(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    PtaVm *vm = opaque;
    bool ok = vm->hyperv && pta_hyperv_msr_write(vm->hyperv, vp, msr, value);
    PTA_TRACE(PTA_TRACE_MSR, "wrmsr 0x%x = 0x%" PRIx64 "%s", msr, value, ok ? "" : " #GP");
    return ok;
}

static bool platform_hypercall(void *opaque, unsigned vp, PtaX86Regs *regs)
{
    PtaVm *vm = opaque;
    return vm->hyperv && pta_hyperv_hypercall(vm->hyperv, vp, regs);
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

typedef struct Expiry {
    PtaVm *vm;
    WatchdogAction action;
} Expiry;

static void watchdog_in_main(void *opaque)
{
    g_autofree Expiry *expiry = opaque;
    pta_vm_on_watchdog(expiry->vm, expiry->action);
}

/* Whether the guest runs on over an expiry; then the main thread is told. */
static bool runs_on_over_watchdog(PtaVm *vm)
{
    WatchdogAction action = (WatchdogAction)g_atomic_int_get(&vm->watchdog_action);
    if (action == WATCHDOG_ACTION_RESET || action == WATCHDOG_ACTION_PAUSE ||
        action == WATCHDOG_ACTION_POWEROFF) {
        return false;
    }
    Expiry *expiry = g_new(Expiry, 1);
    *expiry = (Expiry){ vm, action };
    pta_main_call(watchdog_in_main, expiry);
    return true;
}

static void crash_loaded_in_main(void *opaque)
{
    pta_vm_on_crash_loaded(opaque);
}

static void host_power(PtaDeviceHost *host, int what, uint32_t code)
{
    static const PtaHaltKind kinds[] = {
        [PTA_POWER_OFF] = PTA_HALT_POWER_OFF,       [PTA_POWER_RESET] = PTA_HALT_RESET,
        [PTA_POWER_HIBERNATE] = PTA_HALT_HIBERNATE, [PTA_POWER_DEBUG_EXIT] = PTA_HALT_DEBUG_EXIT,
        [PTA_POWER_PANIC] = PTA_HALT_PANIC,         [PTA_POWER_WATCHDOG] = PTA_HALT_WATCHDOG,
    };
    PtaVm *vm = host->opaque;
    if (what == PTA_POWER_QUIT) {
        pta_main_call(quit_from_console, vm);
        return;
    }
    if (what == PTA_POWER_CRASH_LOADED) {
        pta_main_call(crash_loaded_in_main, vm);
        return;
    }
    if (what == PTA_POWER_WATCHDOG && runs_on_over_watchdog(vm)) {
        return;
    }
    g_assert(what >= 0 && (size_t)what < G_N_ELEMENTS(kinds));
    PtaHaltReason reason = { .kind = kinds[what], .code = code };
    pta_partition_halt(vm->partition, &reason);
}

typedef struct Report {
    PtaVm *vm;
    int what;
    char *id;
    char *text;
} Report;

static void report_in_main(void *opaque)
{
    Report *r = opaque;
    PTA_VM_TELL(r->vm, report, r->id, (PtaDeviceReport)r->what, r->text);
    g_free(r->id);
    g_free(r->text);
    g_free(r);
}

static void host_report(PtaDeviceHost *host, const char *id, int what, const char *text)
{
    Report *r = g_new(Report, 1);
    *r = (Report){ host->opaque, what, g_strdup(id), g_strdup(text) };
    pta_main_call(report_in_main, r);
}

static uint64_t host_clock_ns(PtaDeviceHost *host)
{
    PtaVm *vm = host->opaque;
    PtaBackend *be = pta_partition_backend(vm->partition);
    return be->ops->clock_ns(be);
}

/* ---- short cuts of the back end, for devices ---- */

static bool has_cap(PtaVm *vm, PtaBackendCap cap)
{
    PtaBackend *be = pta_partition_backend(vm->partition);
    return be->ops->has_cap(be, cap);
}

static bool host_doorbell(PtaDeviceHost *host, const PtaDoorbell *bell, bool on, GError **error)
{
    PtaVm *vm = host->opaque;
    PtaBackend *be = pta_partition_backend(vm->partition);
    const PtaIoeventfd io = {
        .fd = bell->fd,
        .addr = bell->addr,
        .size = bell->size,
        .match = true,
        .value = bell->value,
    };
    return (vm->going && !on) || be->ops->ioeventfd(be, &io, on, error);
}

static bool host_coalesce(PtaDeviceHost *host, bool pio, uint64_t addr, uint64_t size, bool on,
                          GError **error)
{
    PtaVm *vm = host->opaque;
    PtaBackend *be = pta_partition_backend(vm->partition);
    return (vm->going && !on) || be->ops->coalesce(be, pio, addr, size, on, error);
}

void pta_vm_connect_devices(PtaVm *vm)
{
    if (has_cap(vm, PTA_CAP_IOEVENTFD)) {
        vm->host.doorbell = host_doorbell;
    }
    if (has_cap(vm, PTA_CAP_COALESCE)) {
        vm->host.coalesce = host_coalesce;
    }
}

/* ---- the IOAPIC's ends; any thread ---- */

#define MSI_DATA_LEVEL (1u << 15)

static void ioapic_msi(void *opaque, uint64_t address, uint32_t data)
{
    PtaVm *vm = opaque;
    pta_partition_msi(vm->partition, address, data);
}

/* An eventfd is the back end's only while the back end has an edge to send for it. */
static void ioapic_route(void *opaque, unsigned pin, uint64_t address, uint32_t data)
{
    PtaVm *vm = opaque;
    PtaBackend *be = pta_partition_backend(vm->partition);
    bool direct = address != 0 && !(data & MSI_DATA_LEVEL);
    if (!direct) {
        pta_irq_fds_route(vm->irq_fds, pin, false);
    }
    be->ops->route(be, pin, address, data);
    if (direct) {
        pta_irq_fds_route(vm->irq_fds, pin, true);
    }
}

static uint64_t ioapic_n_direct(void *opaque, unsigned pin)
{
    return pta_irq_fds_signalled(((PtaVm *)opaque)->irq_fds, pin);
}

static bool bind_irq_fd(void *opaque, unsigned pin, int fd, bool on, GError **error)
{
    PtaVm *vm = opaque;
    PtaBackend *be = pta_partition_backend(vm->partition);
    return (vm->going && !on) || be->ops->irqfd(be, pin, fd, on, error);
}

void pta_vm_connect_ioapic(PtaVm *vm, PtaIoapicConfig *config)
{
    config->msi = ioapic_msi;
    config->opaque = vm;
    if (has_cap(vm, PTA_CAP_IRQFD)) {
        config->route = ioapic_route;
        config->n_direct = ioapic_n_direct;
    }
}

void pta_vm_make_irq_fds(PtaVm *vm, unsigned n_pins)
{
    vm->irq_fds = pta_irq_fds_new(&(PtaIrqFdsParams){
        .n_pins = n_pins,
        .context = vm->host.io_context,
        .set = pta_ioapic_set,
        .set_opaque = vm->ioapic,
        .bind = has_cap(vm, PTA_CAP_IRQFD) ? bind_irq_fd : NULL,
        .bind_opaque = vm,
    });
}

void pta_vm_init_platform(PtaVm *vm)
{
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
}

void pta_vm_init_device_host(PtaVm *vm)
{
    vm->host = (PtaDeviceHost){
        .memory = vm->memory,
        .io_context = pta_io_thread_context(vm->io),
        .opaque = vm,
        .power = host_power,
        .report = host_report,
        .clock_ns = host_clock_ns,
        .base_dir = vm->base_dir,
    };
}

/* ---- the Hyper-V interface; VP threads ---- */

static uint64_t hyperv_clock_ns(void *opaque)
{
    PtaVm *vm = opaque;
    PtaBackend *be = pta_partition_backend(vm->partition);
    return be->ops->clock_ns(be);
}

static uint64_t hyperv_tsc(void *opaque, unsigned vp)
{
    PtaVm *vm = opaque;
    return vm->backend->vp_tsc(pta_vp_set_get(pta_partition_vps(vm->partition), vp));
}

static bool hyperv_tsc_stable(void *opaque)
{
    PtaVm *vm = opaque;
    return !vm->backend->tsc_stable ||
           vm->backend->tsc_stable(pta_partition_backend(vm->partition));
}

static bool hyperv_mirror(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    PtaVm *vm = opaque;
    PtaBackendVp *be_vp = pta_vp_set_get(pta_partition_vps(vm->partition), vp);
    return vm->backend->hyperv_mirror(be_vp, msr, value);
}

static void hyperv_reset(void *opaque, unsigned vp)
{
    PtaVm *vm = opaque;
    PtaHaltReason reason = { .kind = PTA_HALT_RESET, .has_vp = true, .vp = vp };
    pta_partition_halt(vm->partition, &reason);
}

static void hyperv_crash(void *opaque, unsigned vp, const uint64_t params[5], const char *message)
{
    PtaVm *vm = opaque;
    PtaHaltReason reason = { .kind = PTA_HALT_PANIC, .has_vp = true, .vp = vp };
    g_snprintf(reason.text, sizeof(reason.text),
               "the guest reports a crash: 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64
               " 0x%" PRIx64,
               params[0], params[1], params[2], params[3], params[4]);
    if (message) {
        g_message("machine: last words of the guest:\n%s", message);
    }
    pta_partition_halt(vm->partition, &reason);
}

void pta_vm_make_hyperv(PtaVm *vm)
{
    const PtaBackendOps *ops = vm->backend;
    const PtaBackend *be = pta_partition_backend(vm->partition);
    PtaHypervParams params = {
        .memory = vm->memory,
        .n_vps = vm->config->partition->vps,
        .tsc_hz = ops->tsc_hz(be),
        .apic_hz = ops->apic_hz(be),
        .opaque = vm,
        .clock_ns = hyperv_clock_ns,
        .tsc = hyperv_tsc,
        .tsc_stable = hyperv_tsc_stable,
        .mirror = ops->has_cap(be, PTA_CAP_HYPERV) ? hyperv_mirror : NULL,
        .reset = hyperv_reset,
        .crash = hyperv_crash,
    };
    if (ops->hypercall_insn) {
        ops->hypercall_insn(params.hypercall_insn);
    }
    vm->hyperv = pta_hyperv_new(&params);
}
