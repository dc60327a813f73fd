/* What inspect sees of a machine. MAIN. */
#include "config.h"

#include "src/machine/machine-inspect.h"

#include "src/machine/machine-private.h"

#include <string.h>

/* ---- registers ---- */

static void inspect_segment(PtaInspect *req, const char *name, const PtaX86Segment *s)
{
    if (!pta_inspect_wants(req, name, PTA_INSPECT_PLAIN)) {
        return;
    }
    g_autofree char *selector = g_strconcat(name, "/selector", NULL);
    g_autofree char *base = g_strconcat(name, "/base", NULL);
    g_autofree char *limit = g_strconcat(name, "/limit", NULL);
    g_autofree char *attrs = g_strconcat(name, "/attrs", NULL);
    pta_inspect_u64(req, selector, PTA_INSPECT_HEX, s->selector);
    pta_inspect_u64(req, base, PTA_INSPECT_HEX, s->base);
    pta_inspect_u64(req, limit, PTA_INSPECT_HEX, s->limit);
    pta_inspect_u64(req, attrs, PTA_INSPECT_HEX, s->attrs);
}

typedef struct Register {
    const char *name;
    size_t offset; /* of a uint64_t in PtaX86State */
} Register;

#define REG(name, member)                   \
    {                                       \
        name, offsetof(PtaX86State, member) \
    }

static const Register registers[] = {
    REG("rax", regs.gpr[PTA_X86_RAX]),
    REG("rcx", regs.gpr[PTA_X86_RCX]),
    REG("rdx", regs.gpr[PTA_X86_RDX]),
    REG("rbx", regs.gpr[PTA_X86_RBX]),
    REG("rsp", regs.gpr[PTA_X86_RSP]),
    REG("rbp", regs.gpr[PTA_X86_RBP]),
    REG("rsi", regs.gpr[PTA_X86_RSI]),
    REG("rdi", regs.gpr[PTA_X86_RDI]),
    REG("r8", regs.gpr[PTA_X86_R8]),
    REG("r9", regs.gpr[PTA_X86_R9]),
    REG("r10", regs.gpr[PTA_X86_R10]),
    REG("r11", regs.gpr[PTA_X86_R11]),
    REG("r12", regs.gpr[PTA_X86_R12]),
    REG("r13", regs.gpr[PTA_X86_R13]),
    REG("r14", regs.gpr[PTA_X86_R14]),
    REG("r15", regs.gpr[PTA_X86_R15]),
    REG("rip", regs.rip),
    REG("rflags", regs.rflags),
    REG("cr0", regs.cr0),
    REG("cr2", regs.cr2),
    REG("cr3", regs.cr3),
    REG("cr4", regs.cr4),
    REG("cr8", regs.cr8),
    REG("efer", regs.efer),
    REG("xcr0", regs.xcr0),
    REG("gdtr/base", regs.gdtr.base),
    REG("idtr/base", regs.idtr.base),
    REG("dr0", debug.dr[0]),
    REG("dr1", debug.dr[1]),
    REG("dr2", debug.dr[2]),
    REG("dr3", debug.dr[3]),
    REG("dr6", debug.dr6),
    REG("dr7", debug.dr7),
    REG("msr/apic-base", msrs.apic_base),
    REG("msr/star", msrs.star),
    REG("msr/lstar", msrs.lstar),
    REG("msr/cstar", msrs.cstar),
    REG("msr/sfmask", msrs.sfmask),
    REG("msr/kernel-gs-base", msrs.kernel_gs_base),
    REG("msr/sysenter-cs", msrs.sysenter_cs),
    REG("msr/sysenter-esp", msrs.sysenter_esp),
    REG("msr/sysenter-eip", msrs.sysenter_eip),
    REG("msr/pat", msrs.pat),
    REG("msr/tsc-aux", msrs.tsc_aux),
    REG("msr/tsc-deadline", msrs.tsc_deadline),
    REG("msr/misc-enable", msrs.misc_enable),
    REG("tsc", tsc),
};

static void inspect_events(PtaInspect *req, const PtaX86Events *events)
{
    static const char *const activities[] = {
        [PTA_X86_RUNNING] = "running",
        [PTA_X86_HALTED] = "halted",
        [PTA_X86_WAIT_FOR_SIPI] = "wait-for-sipi",
        [PTA_X86_SHUTDOWN] = "shutdown",
    };
    g_assert(events->activity < G_N_ELEMENTS(activities));
    pta_inspect_str(req, "activity", PTA_INSPECT_PLAIN, activities[events->activity]);
    pta_inspect_u64(req, "interrupt-shadow", PTA_INSPECT_PLAIN, events->interrupt_shadow);
    pta_inspect_bool(req, "nmi-pending", PTA_INSPECT_PLAIN, events->nmi_pending);
    pta_inspect_bool(req, "nmi-blocked", PTA_INSPECT_PLAIN, events->nmi_blocked);
}

/* A register of the local APIC's page (SDM vol. 3, table 10-1). */
static uint32_t lapic_register(const PtaX86Lapic *lapic, unsigned offset)
{
    uint32_t value;
    memcpy(&value, lapic->page + offset, sizeof(value));
    return GUINT32_FROM_LE(value);
}

static void inspect_lapic(PtaInspect *req, const PtaX86Lapic *lapic)
{
    static const struct {
        const char *name;
        unsigned offset;
    } fields[] = {
        { "lapic/id", 0x20 },
        { "lapic/tpr", 0x80 },
        { "lapic/ppr", 0xa0 },
        { "lapic/ldr", 0xd0 },
        { "lapic/svr", 0xf0 },
        { "lapic/esr", 0x280 },
        { "lapic/lvt-timer", 0x320 },
        { "lapic/lvt-lint0", 0x350 },
        { "lapic/lvt-lint1", 0x360 },
        { "lapic/lvt-error", 0x370 },
        { "lapic/initial-count", 0x380 },
        { "lapic/divide", 0x3e0 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        pta_inspect_u64(req, fields[i].name, PTA_INSPECT_HEX,
                        lapic_register(lapic, fields[i].offset));
    }
    pta_inspect_u64(req, "lapic/timer-expiry-ns", PTA_INSPECT_PLAIN, lapic->timer_expiry_ns);
}

typedef struct VpRef {
    PtaVm *vm;
    unsigned index;
} VpRef;

static void inspect_registers(void *obj, PtaInspect *req)
{
    static const char *const segments[PTA_X86_N_SEGS] = {
        [PTA_X86_ES] = "es", [PTA_X86_CS] = "cs", [PTA_X86_SS] = "ss",
        [PTA_X86_DS] = "ds", [PTA_X86_FS] = "fs", [PTA_X86_GS] = "gs",
    };
    VpRef *ref = obj;
    g_autofree PtaX86State *state = g_new0(PtaX86State, 1);
    pta_partition_get_vp_state(ref->vm->partition, ref->index, state);
    for (size_t i = 0; i < G_N_ELEMENTS(registers); i++) {
        uint64_t value;
        memcpy(&value, (const char *)state + registers[i].offset, sizeof(value));
        pta_inspect_u64(req, registers[i].name, PTA_INSPECT_HEX, value);
    }
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        inspect_segment(req, segments[i], &state->regs.seg[i]);
    }
    inspect_segment(req, "tr", &state->regs.tr);
    inspect_segment(req, "ldtr", &state->regs.ldtr);
    pta_inspect_u64(req, "gdtr/limit", PTA_INSPECT_HEX, state->regs.gdtr.limit);
    pta_inspect_u64(req, "idtr/limit", PTA_INSPECT_HEX, state->regs.idtr.limit);
    inspect_events(req, &state->events);
    inspect_lapic(req, &state->lapic);
}

/* ---- partition ---- */

static void inspect_stats(void *obj, PtaInspect *req)
{
    VpRef *ref = obj;
    const PtaBackendOps *ops = ref->vm->backend;
    size_t n = g_strv_length((char **)ops->stat_names);
    g_autofree uint64_t *values = g_new0(uint64_t, n + 1);
    ops->vp_get_stats(pta_vp_set_get(pta_partition_vps(ref->vm->partition), ref->index), values);
    for (size_t i = 0; i < n; i++) {
        pta_inspect_u64(req, ops->stat_names[i], PTA_INSPECT_COUNTER, values[i]);
    }
}

static void inspect_vp(void *obj, PtaInspect *req)
{
    VpRef *ref = obj;
    PtaVpSet *vps = pta_partition_vps(ref->vm->partition);
    pta_inspect_str(req, "state", PTA_INSPECT_SAFE,
                    pta_vp_state_name(pta_vp_set_state(vps, ref->index)));
    pta_inspect_s64(req, "thread-id", PTA_INSPECT_SAFE, pta_vp_set_thread_id(vps, ref->index));
    if (ref->vm->backend->stat_names) {
        pta_inspect_child(req, "stats", PTA_INSPECT_SAFE, inspect_stats, ref);
    }
    pta_inspect_child(req, "registers", PTA_INSPECT_SENSITIVE, inspect_registers, ref);
}

static void inspect_vps(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    unsigned n = pta_vp_set_size(pta_partition_vps(vm->partition));
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        g_snprintf(name, sizeof(name), "%u", i);
        pta_inspect_child(req, name, PTA_INSPECT_SAFE, inspect_vp, &(VpRef){ vm, i });
    }
}

static void inspect_halt(PtaInspect *req, const PtaHaltReason *reason)
{
    pta_inspect_str(req, "halt/reason", PTA_INSPECT_SAFE, pta_halt_kind_name(reason->kind));
    if (reason->has_vp) {
        pta_inspect_u64(req, "halt/vp", PTA_INSPECT_SAFE, reason->vp);
    }
    if (*reason->text) {
        pta_inspect_str(req, "halt/description", PTA_INSPECT_PLAIN, reason->text);
    }
}

static void inspect_partition(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    const PtaBackend *be = pta_partition_backend(vm->partition);
    pta_inspect_str(req, "backend", PTA_INSPECT_SAFE, vm->backend->name);
    pta_inspect_bool(req, "started", PTA_INSPECT_SAFE, pta_partition_started(vm->partition));
    pta_inspect_bool(req, "running", PTA_INSPECT_SAFE, pta_partition_running(vm->partition));
    pta_inspect_u64(req, "clock-ns", PTA_INSPECT_COUNTER, vm->backend->clock_ns(be));
    pta_inspect_u64(req, "tsc-hz", PTA_INSPECT_SAFE, vm->backend->tsc_hz(be));
    pta_inspect_u64(req, "apic-hz", PTA_INSPECT_SAFE, vm->backend->apic_hz(be));
    const PtaHaltReason *reason = pta_partition_halt_reason(vm->partition);
    if (reason) {
        inspect_halt(req, reason);
    }
    pta_inspect_child(req, "vp", PTA_INSPECT_SAFE, inspect_vps, vm);
}

/* ---- memory, places, devices ---- */

static void inspect_memory(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    pta_inspect_u64(req, "ram-size", PTA_INSPECT_SAFE, pta_memory_ram_size(vm->memory));
    for (size_t i = 0; i < pta_memory_n_ranges(vm->memory); i++) {
        PtaRamRange range = pta_memory_range(vm->memory, i);
        char name[32];
        g_snprintf(name, sizeof(name), "ram/%zu/gpa", i);
        pta_inspect_u64(req, name, PTA_INSPECT_HEX, range.gpa);
        g_snprintf(name, sizeof(name), "ram/%zu/size", i);
        pta_inspect_u64(req, name, PTA_INSPECT_HEX, range.size);
    }
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

static void inspect_device(void *obj, PtaInspect *req)
{
    json_t *json = pta_device_inspect(obj);
    pta_inspect_json(req, "", PTA_INSPECT_PLAIN, json);
    json_decref(json);
}

static void inspect_devices(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    for (guint i = 0; i < vm->devices->len; i++) {
        PtaDevice *dev = g_ptr_array_index(vm->devices, i);
        pta_inspect_child(req, dev->id, PTA_INSPECT_PLAIN, inspect_device, dev);
    }
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
    pta_inspect_child(req, "devices", PTA_INSPECT_PLAIN, inspect_devices, vm);
}
