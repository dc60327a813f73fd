/* A machine is put together from its description, taken apart again, and reset. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "machine"

#include "src/machine/machine-private.h"

#include "devices/power.h"
#include "src/boot/boot.h"

#include <inttypes.h>

/* Device windows in the gap of an x86 machine's RAM (machine-memory.h). */
#define X86_MMIO_BASE   UINT64_C(0xd0000000)
#define X86_MMIO_LIMIT  UINT64_C(0xd4000000)
#define X86_IOAPIC_PINS 64
#define X86_IOAPIC_ID   0
#define X86_IRQ_FIRST   16 /* below are COM ports, RTC and the power button */
#define X86_IRQ_LAST    (X86_IOAPIC_PINS - 1)

G_STATIC_ASSERT(X86_IRQ_LAST - X86_IRQ_FIRST + 1 == PTA_MACHINE_VIRTIO_MAX);

/* With the devices that are placed by now. */
static bool boot_with_devices(PtaVm *vm, bool tables_only, GError **error)
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
        .ioapic_id = PTA_X86_IOAPIC_ID,
    };
    if (tables_only) {
        return pta_boot_write_tables(vm->memory, &params, error);
    }
    g_autofree PtaX86State *bsp = g_new(PtaX86State, 1);
    pta_x86_state_reset(bsp, 0, true);
    if (!pta_boot_load(vm->memory, &params, bsp, error)) {
        g_prefix_error(error, "$.boot: ");
        return false;
    }
    return pta_partition_set_initial_regs(vm->partition, PTA_VTL0, bsp, error);
}

/* There is no isolation yet: all RAM is the guest's own. */
static bool give_pages(PtaVm *vm, GError **error)
{
    size_t n = pta_memory_n_ranges(vm->memory);
    g_autofree PtaInitialPages *pages = g_new0(PtaInitialPages, n);
    for (size_t i = 0; i < n; i++) {
        PtaRamRange range = pta_memory_range(vm->memory, i);
        pages[i] = (PtaInitialPages){ range.gpa, range.size, PTA_PAGES_EXCLUSIVE };
    }
    return pta_partition_set_initial_page_visibility(vm->partition, pages, n, error);
}

bool pta_vm_load_kernel(PtaVm *vm, GError **error)
{
    return boot_with_devices(vm, false, error) && give_pages(vm, error);
}

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
    };
    bool has_rtc;
    pta_vm_connect_devices(vm);
    pta_vm_connect_ioapic(vm, &ioapic);
    if (!add_device(vm, &pta_ioapic_class, "ioapic", &ioapic, &vm->ioapic, error)) {
        return false;
    }
    pta_vm_make_irq_fds(vm, X86_IOAPIC_PINS);
    pta_mmio_manager_connect(vm->placement, pta_ioapic_set, vm->ioapic, vm->irq_fds);
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

/* A machine that is only checked has plain memory: no file, no huge page, nothing pinned. */
static bool make_memory(PtaVm *vm, bool check, GError **error)
{
    vm->ram = pta_machine_memory_plan(vm->config->memory, vm->base_dir, error);
    if (!vm->ram) {
        return false;
    }
    if (check) {
        vm->memory = pta_memory_new(vm->ram->ranges, vm->ram->n_ranges, error);
        return vm->memory != NULL;
    }
    if (!pta_machine_memory_make(vm->ram, error)) {
        return false;
    }
    vm->memory = pta_machine_memory_build(vm->ram, error);
    if (!vm->memory) {
        g_prefix_error(error, "$.memory: ");
        return false;
    }
    pta_machine_memory_prefault(vm->ram, vm->memory);
    return true;
}

static bool make_partition(PtaVm *vm, GError **error)
{
    const PartitionConfig *config = vm->config->partition;
    static const PtaHypervisorKind kinds[] = {
        [HYPERVISOR_KIND_HYPERV] = PTA_HYPERVISOR_HYPERV,
        [HYPERVISOR_KIND_KVM] = PTA_HYPERVISOR_KVM,
        [HYPERVISOR_KIND_NONE] = PTA_HYPERVISOR_NONE,
    };
    pta_vm_init_platform(vm);
    PtaPartitionParams params = {
        .backend = vm->backend,
        .n_vps = config->vps,
        .cpu_model = config->has_cpu_model ? cpu_model_name(config->cpu_model) : NULL,
        .hypervisor = kinds[config->hypervisor],
        .memory = vm->memory,
        .platform = &vm->platform,
        .on_halt = pta_vm_on_halt,
        .on_debug = pta_vm_on_debug,
        .opaque = vm,
    };
    g_autoptr(GError) refusal = NULL;
    vm->partition = pta_partition_new(&params, &refusal);
    if (!vm->partition) {
        bool model = g_error_matches(refusal, PTA_ERROR, PTA_ERROR_UNSUPPORTED);
        g_propagate_prefixed_error(error, g_steal_pointer(&refusal), "%s",
                                   model ? "$.partition.cpu-model: " : "$.partition: ");
        return false;
    }
    if (config->has_tsc_frequency &&
        !pta_partition_set_tsc_hz(vm->partition, config->tsc_frequency, error)) {
        g_prefix_error(error, "$.partition.tsc-frequency: ");
        return false;
    }
    if (config->hypervisor == HYPERVISOR_KIND_HYPERV) {
        pta_vm_make_hyperv(vm);
    }
    return true;
}

static void free_device(gpointer dev)
{
    pta_device_free(dev);
}

/* All that leaves no trace outside the process: what can be refused is refused here, before the
 * devices make sockets and open files. */
static bool build_partition(PtaVm *vm, bool check, GError **error)
{
    vm->backend = pta_backend_choose(backend_kind_name(vm->config->partition->backend), error);
    if (!vm->backend || !make_memory(vm, check, error)) {
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
    pta_vm_init_device_host(vm);
    pta_mmio_manager_attach(vm->placement, &vm->host);
    return make_partition(vm, error) && pta_vm_load_kernel(vm, error);
}

static bool build_devices(PtaVm *vm, GError **error)
{
    return add_devices(vm, error) && pta_vm_add_units(vm, error) &&
           boot_with_devices(vm, true, error);
}

static PtaVm *new_vm(const MachineConfig *config, const char *base_dir)
{
    pta_assert_main();
    PtaVm *vm = g_new0(PtaVm, 1);
    vm->config = config;
    vm->base_dir = g_strdup(base_dir);
    vm->uuid = config->uuid ? g_strdup(config->uuid) : g_uuid_string_random();
    pta_vm_set_watchdog_action(vm, pta_vm_watchdog_action_of(config->on_watchdog));
    vm->observers = g_array_new(FALSE, FALSE, sizeof(PtaVmObserverRef));
    vm->devices = g_ptr_array_new_with_free_func(free_device);
    vm->units = pta_units_new();
    vm->jobs = pta_jobs_new();
    vm->dumps = g_ptr_array_new();
    g_queue_init(&vm->transitions);
    return vm;
}

PtaVm *pta_vm_new(const MachineConfig *config, const char *base_dir, GError **error)
{
    g_autoptr(PtaVm) vm = new_vm(config, base_dir);
    if (!pta_machine_config_check(config, base_dir, error) ||
        !pta_machine_config_check_live(config, base_dir, error) ||
        !build_partition(vm, false, error) || !build_devices(vm, error) ||
        !pta_vm_open_gdb(vm, error)) {
        return NULL;
    }
    vm->ram->keep_files = true;
    return g_steal_pointer(&vm);
}

bool pta_vm_check(const MachineConfig *config, const char *base_dir, GError **error)
{
    g_autoptr(PtaVm) vm = new_vm(config, base_dir);
    return pta_machine_config_check(config, base_dir, error) && build_partition(vm, true, error);
}

void pta_vm_free(PtaVm *vm)
{
    pta_assert_main();
    if (!vm) {
        return;
    }
    pta_gdb_free(vm->gdb);
    pta_vm_wait(vm, -1);
    pta_jobs_free(vm->jobs);
    pta_vm_forget_dumps(vm);
    pta_vm_end_dirty_rate(vm);
    pta_dirty_client_free(vm->dirty_watch);
    pta_units_free(vm->units);
    vm->going = true;
    /* Devices hold interrupt lines into the IOAPIC, which was made first: the last goes first. */
    while (vm->devices->len > 0) {
        g_ptr_array_remove_index(vm->devices, vm->devices->len - 1);
    }
    g_ptr_array_free(vm->devices, TRUE);
    pta_irq_fds_free(vm->irq_fds);
    pta_partition_free(vm->partition);
    pta_hyperv_free(vm->hyperv);
    pta_io_thread_free(vm->io);
    pta_mmio_manager_free(vm->placement);
    pta_bus_free(vm->mmio);
    pta_bus_free(vm->pio);
    pta_memory_free(vm->memory);
    pta_machine_memory_free(vm->ram);
    g_array_free(vm->observers, TRUE);
    g_clear_pointer(&vm->inspectables, g_array_unref);
    g_free(vm->base_dir);
    g_free(vm->uuid);
    g_free(vm);
}
