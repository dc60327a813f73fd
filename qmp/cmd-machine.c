/* Commands about the machine as a whole: identity, run state, halts, processors, memory. MAIN. */
#include "config.h"

#include "qmp/cmd.h"

#include "qmp/gen/commands.h"
#include "qmp/session.h"
#include "src/machine/machine.h"

#include <string.h>

bool qmp_query_version(PtaVm *vm, VersionInfo **ret, GError **error)
{
    VersionTriple *triple = g_new0(VersionTriple, 1);
    *triple = (VersionTriple){
        .major = PTA_QMP_QEMU_MAJOR,
        .minor = PTA_QMP_QEMU_MINOR,
        .micro = PTA_QMP_QEMU_MICRO,
    };
    *ret = g_new0(VersionInfo, 1);
    **ret = (VersionInfo){ .qemu = triple, .package = g_strdup(PACKAGE_STRING) };
    return true;
}

bool qmp_query_name(PtaVm *vm, NameInfo **ret, GError **error)
{
    *ret = g_new0(NameInfo, 1);
    (*ret)->name = g_strdup(pta_vm_name(vm));
    return true;
}

bool qmp_query_uuid(PtaVm *vm, UuidInfo **ret, GError **error)
{
    *ret = g_new0(UuidInfo, 1);
    (*ret)->uuid = g_strdup(pta_vm_uuid(vm));
    return true;
}

bool qmp_query_kvm(PtaVm *vm, KvmInfo **ret, GError **error)
{
    *ret = g_new0(KvmInfo, 1);
    for (const PtaBackendOps *const *ops = pta_backends; *ops; ops++) {
        if (strcmp((*ops)->name, "kvm") == 0) {
            (*ret)->present = (*ops)->probe(NULL);
            (*ret)->enabled = *ops == pta_vm_backend(vm);
        }
    }
    return true;
}

/* ---- run state ---- */

bool qmp_query_status(PtaVm *vm, StatusInfo **ret, GError **error)
{
    static const RunState states[PTA_N_RUN_STATES] = {
        [PTA_RUN_STATE_PRELAUNCH] = RUN_STATE_PRELAUNCH,
        [PTA_RUN_STATE_RUNNING] = RUN_STATE_RUNNING,
        [PTA_RUN_STATE_PAUSED] = RUN_STATE_PAUSED,
        [PTA_RUN_STATE_SHUTDOWN] = RUN_STATE_SHUTDOWN,
        [PTA_RUN_STATE_GUEST_PANICKED] = RUN_STATE_GUEST_PANICKED,
        [PTA_RUN_STATE_INTERNAL_ERROR] = RUN_STATE_INTERNAL_ERROR,
        [PTA_RUN_STATE_DEBUG] = RUN_STATE_DEBUG,
        [PTA_RUN_STATE_WATCHDOG] = RUN_STATE_WATCHDOG,
    };
    PtaRunState state = pta_vm_state(vm);
    *ret = g_new0(StatusInfo, 1);
    (*ret)->running = state == PTA_RUN_STATE_RUNNING;
    (*ret)->status = states[state];
    return true;
}

static void end_reply(void *data, const GError *error)
{
    if (error) {
        pta_qmp_reply_fail(data, error);
    } else {
        pta_qmp_reply_return(data, NULL);
    }
}

void qmp_stop(PtaVm *vm, PtaQmpReply *reply)
{
    pta_vm_stop(vm, end_reply, reply);
}

void qmp_cont(PtaVm *vm, PtaQmpReply *reply)
{
    pta_vm_cont(vm, end_reply, reply);
}

void qmp_system_reset(PtaVm *vm, PtaQmpReply *reply)
{
    pta_vm_reset(vm, end_reply, reply);
}

static void end_pulse(void *data, const PtaVmPulse *pulse, const GError *error)
{
    if (error) {
        pta_qmp_reply_fail(data, error);
        return;
    }
    const PulseInfo info = {
        .units = pulse->n_units,
        .state_size = pulse->state_bytes,
        .downtime_us = pulse->downtime_ns / 1000,
    };
    qmp_pulse_save_restore_return(data, &info);
}

void qmp_pulse_save_restore(PtaVm *vm, PtaQmpReply *reply)
{
    pta_vm_pulse_save_restore(vm, end_pulse, reply);
}

bool qmp_system_powerdown(PtaVm *vm, GError **error)
{
    return pta_vm_powerdown(vm, error);
}

bool qmp_quit(PtaVm *vm, GError **error)
{
    pta_vm_quit(vm, shutdown_cause_name(SHUTDOWN_CAUSE_HOST_QMP_QUIT), PTA_EXIT_STATUS_OK);
    return true;
}

bool qmp_inject_nmi(PtaVm *vm, GError **error)
{
    pta_vm_inject_nmi(vm);
    return true;
}

bool qmp_watchdog_set_action(PtaVm *vm, const WatchdogSetActionArgs *args, GError **error)
{
    pta_vm_set_watchdog_action(vm, args->action);
    return true;
}

/* ---- halts ---- */

HaltReason pta_qmp_halt_reason(PtaHaltKind kind)
{
    static const HaltReason reasons[PTA_N_HALTS] = {
        [PTA_HALT_POWER_OFF] = HALT_REASON_POWER_OFF,
        [PTA_HALT_RESET] = HALT_REASON_RESET,
        [PTA_HALT_HIBERNATE] = HALT_REASON_HIBERNATE,
        [PTA_HALT_TRIPLE_FAULT] = HALT_REASON_TRIPLE_FAULT,
        [PTA_HALT_PANIC] = HALT_REASON_CRASH,
        [PTA_HALT_DEBUG_BREAK] = HALT_REASON_DEBUG_BREAK,
        [PTA_HALT_SINGLE_STEP] = HALT_REASON_SINGLE_STEP,
        [PTA_HALT_HW_BREAKPOINT] = HALT_REASON_HW_BREAKPOINT,
        [PTA_HALT_SW_BREAKPOINT] = HALT_REASON_SW_BREAKPOINT,
        [PTA_HALT_WATCHDOG] = HALT_REASON_WATCHDOG,
        [PTA_HALT_INTERNAL_ERROR] = HALT_REASON_INTERNAL_ERROR,
        [PTA_HALT_DEBUG_EXIT] = HALT_REASON_DEBUG_EXIT,
    };
    g_assert(kind < PTA_HALT_REPLAY_MTRRS); /* that one stays within the partition */
    return reasons[kind];
}

static void put_register(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_sprintf("0x%" G_GINT64_MODIFIER "x", value));
}

static json_t *halt_registers(const PtaX86Regs *r)
{
    static const char *const gprs[PTA_X86_N_GPRS] = {
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15",
    };
    static const char *const segments[PTA_X86_N_SEGS] = { "es", "cs", "ss", "ds", "fs", "gs" };
    json_t *object = json_object();
    for (unsigned i = 0; i < PTA_X86_N_GPRS; i++) {
        put_register(object, gprs[i], r->gpr[i]);
    }
    put_register(object, "rip", r->rip);
    put_register(object, "rflags", r->rflags);
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        put_register(object, segments[i], r->seg[i].selector);
    }
    put_register(object, "gdtr", r->gdtr.base);
    put_register(object, "idtr", r->idtr.base);
    put_register(object, "cr0", r->cr0);
    put_register(object, "cr2", r->cr2);
    put_register(object, "cr3", r->cr3);
    put_register(object, "cr4", r->cr4);
    put_register(object, "efer", r->efer);
    return object;
}

static void put_instructions(HaltInfo *info, const PtaHaltReason *reason)
{
    info->n_instructions = reason->n_insns;
    info->instructions = g_new0(HaltInstruction *, reason->n_insns);
    for (unsigned i = 0; i < reason->n_insns; i++) {
        const PtaX86DisasmLine *line = &reason->insns[i];
        HaltInstruction *insn = info->instructions[i] = g_new0(HaltInstruction, 1);
        GString *bytes = g_string_new(NULL);
        for (unsigned k = 0; k < line->len; k++) {
            g_string_append_printf(bytes, "%02x", line->bytes[k]);
        }
        insn->address = line->rip;
        insn->bytes = g_string_free(bytes, FALSE);
        insn->text = g_strdup(line->text);
        insn->current = line->current;
    }
}

bool qmp_query_halt(PtaVm *vm, HaltInfo **ret, GError **error)
{
    const PtaHaltReason *reason = pta_partition_halt_reason(pta_vm_partition(vm));
    HaltInfo *info = *ret = g_new0(HaltInfo, 1);
    if (!reason) {
        return true;
    }
    info->halted = true;
    info->has_reason = true;
    info->reason = pta_qmp_halt_reason(reason->kind);
    info->has_vp = reason->has_vp;
    info->vp = reason->vp;
    info->time = g_new0(Timestamp, 1);
    info->time->seconds = reason->time_us / G_USEC_PER_SEC;
    info->time->microseconds = reason->time_us % G_USEC_PER_SEC;
    info->description = *reason->text ? g_strdup(reason->text) : NULL;
    if (reason->has_regs) {
        info->registers = halt_registers(&reason->regs);
    }
    if (reason->n_insns > 0) {
        put_instructions(info, reason);
    }
    return true;
}

static void end_clear_halt(void *data, bool had, const GError *error)
{
    if (error) {
        pta_qmp_reply_fail(data, error);
    } else {
        qmp_clear_halt_return(data, had);
    }
}

void qmp_clear_halt(PtaVm *vm, PtaQmpReply *reply)
{
    pta_vm_clear_halt(vm, end_clear_halt, reply);
}

/* ---- processors and memory ---- */

bool qmp_query_cpus_fast(PtaVm *vm, CpuInfoFast ***ret, size_t *n_ret, GError **error)
{
    PtaVpSet *vps = pta_partition_vps(pta_vm_partition(vm));
    unsigned n = pta_vp_set_size(vps);
    *ret = g_new0(CpuInfoFast *, n);
    *n_ret = n;
    for (unsigned i = 0; i < n; i++) {
        CpuInfoFast *info = (*ret)[i] = g_new0(CpuInfoFast, 1);
        info->cpu_index = i;
        info->qom_path = g_strdup_printf("/partition/vp/%u", i);
        info->thread_id = pta_vp_set_thread_id(vps, i);
        info->target = SYS_EMU_TARGET_X86_64;
    }
    return true;
}

bool qmp_query_memory_size_summary(PtaVm *vm, MemoryInfo **ret, GError **error)
{
    *ret = g_new0(MemoryInfo, 1);
    (*ret)->base_memory = pta_memory_ram_size(pta_vm_memory(vm));
    (*ret)->has_plugged_memory = true;
    return true;
}
