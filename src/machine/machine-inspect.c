/* What inspect sees of a machine. MAIN. */
#include "config.h"

#include "src/machine/machine-inspect.h"

#include "src/machine/inspect-vp.h"
#include "src/machine/machine-private.h"

#include <string.h>

/* ---- partition ---- */

static void inspect_vps(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    unsigned n = pta_vp_set_size(pta_partition_vps(vm->partition));
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        g_snprintf(name, sizeof(name), "%u", i);
        pta_inspect_child(req, name, PTA_INSPECT_SAFE, pta_vp_inspect, &(PtaVpRef){ vm, i });
    }
}

static void inspect_halt(void *obj, PtaInspect *req)
{
    const PtaHaltReason *reason = obj;
    pta_inspect_str(req, "reason", PTA_INSPECT_SAFE, pta_halt_kind_name(reason->kind));
    pta_inspect_s64(req, "time-us", PTA_INSPECT_SAFE, reason->time_us);
    if (reason->has_vp) {
        pta_inspect_u64(req, "vp", PTA_INSPECT_SAFE, reason->vp);
    }
    if (reason->kind == PTA_HALT_DEBUG_EXIT || reason->kind == PTA_HALT_PANIC) {
        pta_inspect_u64(req, "code", PTA_INSPECT_HEX, reason->code);
    }
    if (*reason->text) {
        pta_inspect_str(req, "description", PTA_INSPECT_PLAIN, reason->text);
    }
    if (reason->has_regs) {
        unsigned flags = PTA_INSPECT_HEX | PTA_INSPECT_SENSITIVE;
        pta_inspect_u64(req, "rip", flags, reason->regs.rip);
        pta_inspect_u64(req, "rsp", flags, reason->regs.gpr[PTA_X86_RSP]);
        pta_inspect_u64(req, "cr2", flags, reason->regs.cr2);
        pta_inspect_u64(req, "cr3", flags, reason->regs.cr3);
    }
}

static void get_clear_halt(void *obj, PtaInspect *req)
{
    pta_inspect_bool(req, "", PTA_INSPECT_SAFE, false);
}

static bool set_clear_halt(void *obj, const char *text, GError **error)
{
    bool clear;
    if (!pta_inspect_parse_bool(text, &clear, error)) {
        return false;
    }
    if (!clear) {
        return true;
    }
    if (pta_partition_debug_attached(((PtaVm *)obj)->partition)) {
        return pta_throw(error, PTA_ERROR_BAD_STATE, "a debugger is attached");
    }
    pta_vm_clear_halt(obj, NULL, NULL);
    return true;
}

static void inspect_topology(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    const PartitionConfig *config = vm->config->partition;
    const PtaCpuidTable *cpuid = pta_partition_cpuid(vm->partition);
    pta_inspect_u64(req, "vps", PTA_INSPECT_SAFE,
                    pta_vp_set_size(pta_partition_vps(vm->partition)));
    if (config->has_cpu_model) {
        pta_inspect_str(req, "cpu-model", PTA_INSPECT_SAFE, cpu_model_name(config->cpu_model));
    }
    pta_inspect_str(req, "hypervisor", PTA_INSPECT_SAFE, hypervisor_kind_name(config->hypervisor));
    pta_inspect_u64(req, "cpu-features", PTA_INSPECT_SAFE | PTA_INSPECT_HEX, cpuid->features);
    pta_inspect_u64(req, "phys-bits", PTA_INSPECT_SAFE, cpuid->phys_bits);
    pta_inspect_u64(req, "virt-bits", PTA_INSPECT_SAFE, cpuid->virt_bits);
}

static void inspect_clock(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    const PtaBackend *be = pta_partition_backend(vm->partition);
    pta_inspect_u64(req, "ns", PTA_INSPECT_SAFE | PTA_INSPECT_COUNTER, vm->backend->clock_ns(be));
    pta_inspect_u64(req, "tsc-hz", PTA_INSPECT_SAFE, vm->backend->tsc_hz(be));
    pta_inspect_u64(req, "apic-hz", PTA_INSPECT_SAFE, vm->backend->apic_hz(be));
    pta_inspect_bool(req, "tsc-stable", PTA_INSPECT_SAFE,
                     !vm->backend->tsc_stable || vm->backend->tsc_stable(be));
}

static void inspect_gdb(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    PtaGdbInfo info;
    pta_gdb_info(vm->gdb, &info);
    if (info.device) {
        pta_inspect_str(req, "device", PTA_INSPECT_SAFE, info.device);
    }
    pta_inspect_bool(req, "listening", PTA_INSPECT_SAFE, info.device != NULL);
    pta_inspect_bool(req, "attached", PTA_INSPECT_SAFE, info.attached);
    pta_inspect_bool(req, "stopped", PTA_INSPECT_SAFE, info.stopped);
    pta_inspect_u64(req, "breakpoints/software", PTA_INSPECT_SAFE, info.n_software);
    pta_inspect_u64(req, "breakpoints/hardware", PTA_INSPECT_SAFE, info.n_hardware);
    pta_inspect_u64(req, "sessions", PTA_INSPECT_COUNTER | PTA_INSPECT_SAFE, info.sessions);
}

/* What the back end does by itself. */
static void inspect_caps(PtaVm *vm, PtaInspect *req)
{
    static const struct {
        PtaBackendCap cap;
        const char *name;
    } caps[] = {
        { PTA_CAP_HYPERV, "in-backend/hyperv" },
        { PTA_CAP_SYNIC, "in-backend/synic" },
        { PTA_CAP_IOEVENTFD, "in-backend/ioeventfd" },
        { PTA_CAP_IRQFD, "in-backend/irqfd" },
        { PTA_CAP_COALESCE, "in-backend/coalesced-writes" },
        { PTA_CAP_DIRTY_RING, "in-backend/dirty-ring" },
        { PTA_CAP_TSC_SCALING, "in-backend/tsc-scaling" },
    };
    const PtaBackend *be = pta_partition_backend(vm->partition);
    for (size_t i = 0; i < G_N_ELEMENTS(caps); i++) {
        pta_inspect_bool(req, caps[i].name, PTA_INSPECT_SAFE,
                         vm->backend->has_cap(be, caps[i].cap));
    }
}

static void inspect_partition(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    /* const was taken off for inspect_halt(), which only reads. */
    PtaHaltReason *reason = (PtaHaltReason *)pta_partition_halt_reason(vm->partition);
    pta_inspect_str(req, "power-state", PTA_INSPECT_SAFE, reason ? "halted" : "running");
    pta_inspect_str(req, "backend", PTA_INSPECT_SAFE, vm->backend->name);
    inspect_caps(vm, req);
    pta_inspect_bool(req, "started", PTA_INSPECT_SAFE, pta_partition_started(vm->partition));
    pta_inspect_bool(req, "running", PTA_INSPECT_SAFE, pta_partition_running(vm->partition));
    pta_inspect_bool(req, "debugger", PTA_INSPECT_SAFE,
                     pta_partition_debug_attached(vm->partition));
    pta_inspect_u64(req, "stop-count", PTA_INSPECT_SAFE, pta_partition_stop_count(vm->partition));
    pta_inspect_mutable(req, "clear-halt", PTA_INSPECT_SAFE, get_clear_halt, set_clear_halt, vm);
    if (reason) {
        pta_inspect_child(req, "halt", PTA_INSPECT_SAFE, inspect_halt, reason);
    }
    pta_inspect_child(req, "topology", PTA_INSPECT_SAFE, inspect_topology, vm);
    pta_inspect_child(req, "clock", PTA_INSPECT_SAFE, inspect_clock, vm);
    pta_inspect_child(req, "vp", PTA_INSPECT_SAFE, inspect_vps, vm);
    pta_inspect_child(req, "gdb", PTA_INSPECT_SAFE, inspect_gdb, vm);
}

/* ---- Hyper-V ---- */

static void inspect_overlay(PtaInspect *req, const char *name, uint64_t msr)
{
    g_autofree char *enabled = g_strconcat(name, "/enabled", NULL);
    g_autofree char *gpa = g_strconcat(name, "/gpa", NULL);
    pta_inspect_bool(req, enabled, PTA_INSPECT_PLAIN, msr & 1);
    pta_inspect_u64(req, gpa, PTA_INSPECT_HEX, msr & PTA_PAGE_MASK);
}

static void inspect_hyperv(void *obj, PtaInspect *req)
{
    const PtaHypervState *s = obj;
    char name[24];
    pta_inspect_u64(req, "guest-os-id", PTA_INSPECT_HEX, s->guest_os_id);
    inspect_overlay(req, "hypercall-page", s->overlay_msr[PTA_HYPERV_HYPERCALL]);
    inspect_overlay(req, "reference-tsc", s->overlay_msr[PTA_HYPERV_REFERENCE_TSC]);
    pta_inspect_u64(req, "reference-tsc/sequence", PTA_INSPECT_PLAIN, s->tsc_sequence);
    pta_inspect_u64(req, "tsc-invariant-control", PTA_INSPECT_HEX, s->tsc_invariant_control);
    for (unsigned i = 0; i < G_N_ELEMENTS(s->crash); i++) {
        g_snprintf(name, sizeof(name), "crash/%u", i);
        pta_inspect_u64(req, name, PTA_INSPECT_HEX | PTA_INSPECT_SENSITIVE, s->crash[i]);
    }
}

static void inspect_synic(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    g_autofree PtaHypervState *state = g_new(PtaHypervState, 1);
    pta_hyperv_get_state(vm->hyperv, state);
    inspect_hyperv(state, req);
    unsigned n = pta_vp_set_size(pta_partition_vps(vm->partition));
    for (unsigned i = 0; i < n && i < PTA_HYPERV_MAX_VPS; i++) {
        char name[24];
        g_snprintf(name, sizeof(name), "vp/%u/assist-page", i);
        inspect_overlay(req, name, state->vp_assist[i]);
    }
}

/* ---- memory, places, devices ---- */

typedef struct RangeRef {
    PtaVm *vm;
    size_t index;
} RangeRef;

static void inspect_range(void *obj, PtaInspect *req)
{
    const RangeRef *ref = obj;
    const PtaMachineRam *part = &ref->vm->ram->parts[ref->index];
    pta_inspect_u64(req, "gpa", PTA_INSPECT_HEX, part->range.gpa);
    pta_inspect_u64(req, "size", PTA_INSPECT_HEX, part->range.size);
    pta_inspect_u64(req, "backing", PTA_INSPECT_PLAIN, part->backing);
    pta_inspect_u64(req, "backing-offset", PTA_INSPECT_HEX, part->offset);
    pta_inspect_u64(req, "host-address", PTA_INSPECT_HEX | PTA_INSPECT_SENSITIVE,
                    (uintptr_t)pta_memory_range_host(ref->vm->memory, ref->index));
}

/* "rwx", as /proc/self/maps has it. */
static void inspect_rights(PtaInspect *req, bool write, bool exec)
{
    const char rights[] = { 'r', write ? 'w' : '-', exec ? 'x' : '-', 0 };
    pta_inspect_str(req, "rights", PTA_INSPECT_PLAIN, rights);
}

static void inspect_region_info(void *obj, PtaInspect *req)
{
    const PtaRegionInfo *info = obj;
    pta_inspect_str(req, "name", PTA_INSPECT_PLAIN, info->name);
    pta_inspect_u64(req, "gpa", PTA_INSPECT_HEX, info->range.gpa);
    pta_inspect_u64(req, "size", PTA_INSPECT_HEX, info->range.size);
    pta_inspect_u64(req, "priority", PTA_INSPECT_PLAIN, info->priority);
    pta_inspect_u64(req, "mappings", PTA_INSPECT_PLAIN, info->n_mappings);
    pta_inspect_bool(req, "mapped", PTA_INSPECT_PLAIN, info->mapped);
    pta_inspect_bool(req, "active", PTA_INSPECT_PLAIN, info->active);
    if (info->mapped) {
        inspect_rights(req, info->params.writable, info->params.executable);
    }
}

typedef struct MemoryWalk {
    PtaInspect *req;
    unsigned i;
} MemoryWalk;

static void inspect_region(void *opaque, const PtaRegionInfo *info)
{
    MemoryWalk *walk = opaque;
    char name[32];
    PtaRegionInfo copy = *info;
    g_snprintf(name, sizeof(name), "regions/%u", walk->i++);
    pta_inspect_child(walk->req, name, PTA_INSPECT_PLAIN, inspect_region_info, &copy);
}

typedef struct PieceRef {
    const PtaViewPiece *piece;
    const char *region;
} PieceRef;

static void inspect_piece_info(void *obj, PtaInspect *req)
{
    const PieceRef *ref = obj;
    pta_inspect_u64(req, "gpa", PTA_INSPECT_HEX, ref->piece->range.gpa);
    pta_inspect_u64(req, "size", PTA_INSPECT_HEX, ref->piece->range.size);
    inspect_rights(req, ref->piece->flags & PTA_VIEW_WRITE, ref->piece->flags & PTA_VIEW_EXEC);
    pta_inspect_str(req, "region", PTA_INSPECT_PLAIN, ref->region);
}

static void inspect_piece(void *opaque, const PtaViewPiece *piece, const char *region)
{
    MemoryWalk *walk = opaque;
    char name[32];
    g_snprintf(name, sizeof(name), "view/%u", walk->i++);
    pta_inspect_child(walk->req, name, PTA_INSPECT_PLAIN, inspect_piece_info,
                      &(PieceRef){ piece, region });
}

static void inspect_initial_pages(void *obj, PtaInspect *req)
{
    const PtaInitialPages *pages = obj;
    pta_inspect_u64(req, "gpa", PTA_INSPECT_HEX, pages->gpa);
    pta_inspect_u64(req, "size", PTA_INSPECT_HEX, pages->size);
    pta_inspect_str(req, "visibility", PTA_INSPECT_PLAIN,
                    pages->visibility == PTA_PAGES_SHARED ? "shared" : "exclusive");
}

static void inspect_memory(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    size_t n;
    const PtaInitialPages *pages = pta_partition_initial_pages(vm->partition, &n);
    for (size_t i = 0; i < n; i++) {
        char name[40];
        PtaInitialPages copy = pages[i];
        g_snprintf(name, sizeof(name), "initial-pages/%zu", i);
        pta_inspect_child(req, name, PTA_INSPECT_PLAIN, inspect_initial_pages, &copy);
    }
    pta_machine_memory_inspect(&(PtaMachineMemoryRef){ vm->ram, vm->memory }, req);
    pta_inspect_u64(req, "ram-size", PTA_INSPECT_SAFE, pta_memory_ram_size(vm->memory));
    pta_vm_inspect_memory_stats(vm, req);
    for (size_t i = 0; i < vm->ram->n_parts; i++) {
        char name[32];
        g_snprintf(name, sizeof(name), "ram/%zu", i);
        pta_inspect_child(req, name, PTA_INSPECT_PLAIN, inspect_range, &(RangeRef){ vm, i });
    }
    PtaRegions *regions = pta_memory_regions(vm->memory);
    pta_regions_foreach(regions, inspect_region, &(MemoryWalk){ req, 0 });
    pta_regions_foreach_piece(regions, inspect_piece, &(MemoryWalk){ req, 0 });
}

static void inspect_place(void *obj, PtaInspect *req)
{
    const PtaPlacedDevice *placed = obj;
    pta_inspect_str(req, "id", PTA_INSPECT_PLAIN, placed->id);
    pta_inspect_str(req, "kind", PTA_INSPECT_PLAIN, pta_placed_kind_name(placed->kind));
    pta_inspect_str(req, "space", PTA_INSPECT_PLAIN, placed->pio ? "port" : "memory");
    pta_inspect_u64(req, "base", PTA_INSPECT_HEX, placed->base);
    pta_inspect_u64(req, "size", PTA_INSPECT_HEX, placed->size);
    if (placed->irq >= 0) {
        pta_inspect_s64(req, "irq", PTA_INSPECT_PLAIN, placed->irq);
        pta_inspect_str(req, "trigger", PTA_INSPECT_PLAIN, placed->level ? "level" : "edge");
    }
}

static void inspect_placement(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    for (size_t i = 0; i < pta_mmio_manager_count(vm->placement); i++) {
        PtaPlacedDevice placed = *pta_mmio_manager_get(vm->placement, i);
        char name[24];
        g_snprintf(name, sizeof(name), "%zu", i);
        pta_inspect_child(req, name, PTA_INSPECT_PLAIN, inspect_place, &placed);
    }
}

static void inspect_devices(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    for (guint i = 0; i < vm->devices->len; i++) {
        PtaDevice *dev = g_ptr_array_index(vm->devices, i);
        pta_inspect_child(req, dev->id, PTA_INSPECT_PLAIN, pta_device_inspect, dev);
    }
}

/* ---- state units ---- */

static void inspect_unit(void *data, const char *name, PtaUnitState state,
                         const char *const *depends)
{
    PtaInspect *req = data;
    g_autofree char *state_name = g_strconcat(name, "/state", NULL);
    g_autofree char *depends_name = g_strconcat(name, "/depends-on", NULL);
    g_autofree char *list = g_strjoinv(", ", (char **)depends);
    pta_inspect_str(req, state_name, PTA_INSPECT_SAFE, pta_unit_state_name(state));
    if (*list) {
        pta_inspect_str(req, depends_name, PTA_INSPECT_SAFE, list);
    }
}

static void inspect_units(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    pta_units_foreach(vm->units, inspect_unit, req);
}

/* ---- the machine ---- */

static void get_trace(void *obj, PtaInspect *req)
{
    g_autofree char *text = pta_trace_text();
    pta_inspect_str(req, "", PTA_INSPECT_SAFE, text);
}

static bool set_trace(void *obj, const char *text, GError **error)
{
    return pta_trace_set(text, error);
}

typedef struct PtaVmInspectable {
    char *name;
    PtaInspectFn *fn;
    void *obj;
} PtaVmInspectable;

static void inspectable_clear(void *data)
{
    g_free(((PtaVmInspectable *)data)->name);
}

void pta_vm_add_inspect(PtaVm *vm, const char *name, PtaInspectFn *fn, void *obj)
{
    pta_assert_main();
    if (!vm->inspectables) {
        vm->inspectables = g_array_new(FALSE, FALSE, sizeof(PtaVmInspectable));
        g_array_set_clear_func(vm->inspectables, inspectable_clear);
    }
    PtaVmInspectable i = { .name = g_strdup(name), .fn = fn, .obj = obj };
    g_array_append_val(vm->inspectables, i);
}

void pta_vm_remove_inspect(PtaVm *vm, const char *name)
{
    pta_assert_main();
    for (guint i = 0; vm->inspectables && i < vm->inspectables->len; i++) {
        if (strcmp(g_array_index(vm->inspectables, PtaVmInspectable, i).name, name) == 0) {
            g_array_remove_index(vm->inspectables, i);
            return;
        }
    }
}

void pta_vm_inspect(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    pta_assert_main();
    pta_inspect_str(req, "name", PTA_INSPECT_PLAIN, pta_vm_name(vm));
    pta_inspect_str(req, "uuid", PTA_INSPECT_PLAIN, pta_vm_uuid(vm));
    pta_inspect_str(req, "version", PTA_INSPECT_SAFE, PACKAGE_STRING);
    pta_inspect_str(req, "state", PTA_INSPECT_SAFE, pta_run_state_name(pta_vm_state(vm)));
    pta_inspect_s64(req, "start-time-us", PTA_INSPECT_SAFE, pta_vm_start_time_us(vm));
    pta_inspect_mutable(req, "trace", PTA_INSPECT_SAFE, get_trace, set_trace, vm);
    pta_inspect_child(req, "partition", PTA_INSPECT_SAFE, inspect_partition, vm);
    pta_inspect_child(req, "memory", PTA_INSPECT_SAFE, inspect_memory, vm);
    pta_inspect_child(req, "placement", PTA_INSPECT_PLAIN, inspect_placement, vm);
    if (vm->hyperv) {
        pta_inspect_child(req, "synic", PTA_INSPECT_PLAIN, inspect_synic, vm);
    }
    pta_inspect_child(req, "devices", PTA_INSPECT_PLAIN, inspect_devices, vm);
    pta_inspect_child(req, "units", PTA_INSPECT_SAFE, inspect_units, vm);
    pta_inspect_u64(req, "requests-waiting", PTA_INSPECT_SAFE,
                    g_queue_get_length(&vm->transitions));
    for (guint i = 0; vm->inspectables && i < vm->inspectables->len; i++) {
        const PtaVmInspectable *more = &g_array_index(vm->inspectables, PtaVmInspectable, i);
        pta_inspect_child(req, more->name, PTA_INSPECT_PLAIN, more->fn, more->obj);
    }
}
