/* What inspect sees of a virtual processor. MAIN. */
#include "config.h"

#include "src/machine/inspect-vp.h"

#include <string.h>

/* ---- registers ---- */

#define HEX PTA_INSPECT_HEX

static void inspect_segment(void *obj, PtaInspect *req)
{
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_U16(PtaX86Segment, selector, "selector", HEX),
        PTA_INSPECT_OF_U64(PtaX86Segment, base, "base", HEX),
        PTA_INSPECT_OF_U32(PtaX86Segment, limit, "limit", HEX),
        PTA_INSPECT_OF_U16(PtaX86Segment, attrs, "attrs", HEX),
        {},
    };
    pta_inspect_fields(req, fields, obj);
}

static void inspect_table(void *obj, PtaInspect *req)
{
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_U64(PtaX86Table, base, "base", HEX),
        PTA_INSPECT_OF_U16(PtaX86Table, limit, "limit", HEX),
        {},
    };
    pta_inspect_fields(req, fields, obj);
}

#define REG(name, member) PTA_INSPECT_OF_U64(PtaX86State, member, name, HEX)

static const PtaInspectField registers[] = {
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
    REG("xss", regs.xss),
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
    REG("msr/tsc-adjust", msrs.tsc_adjust),
    REG("msr/tsc-aux", msrs.tsc_aux),
    REG("msr/tsc-deadline", msrs.tsc_deadline),
    REG("msr/misc-enable", msrs.misc_enable),
    REG("msr/spec-ctrl", msrs.spec_ctrl),
    REG("msr/mtrr/def-type", msrs.mtrrs.def_type),
    REG("tsc", tsc),
    {},
};

static void inspect_mtrrs(PtaInspect *req, const PtaX86Mtrrs *mtrrs)
{
    char name[32];
    for (size_t i = 0; i < G_N_ELEMENTS(mtrrs->fixed); i++) {
        g_snprintf(name, sizeof(name), "msr/mtrr/fixed/%zu", i);
        pta_inspect_u64(req, name, HEX, mtrrs->fixed[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(mtrrs->phys_base); i++) {
        if (mtrrs->phys_base[i] == 0 && mtrrs->phys_mask[i] == 0) {
            continue; /* not used */
        }
        g_snprintf(name, sizeof(name), "msr/mtrr/variable/%zu/base", i);
        pta_inspect_u64(req, name, HEX, mtrrs->phys_base[i]);
        g_snprintf(name, sizeof(name), "msr/mtrr/variable/%zu/mask", i);
        pta_inspect_u64(req, name, HEX, mtrrs->phys_mask[i]);
    }
}

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
    if (events->exception_pending) {
        pta_inspect_u64(req, "exception/vector", PTA_INSPECT_PLAIN, events->vector);
        if (events->has_error_code) {
            pta_inspect_u64(req, "exception/error-code", HEX, events->error_code);
        }
    }
}

/* ---- the legacy area of XSAVE: SDM vol. 1, table 13-1 ---- */

static uint64_t load_le(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = size; i-- > 0;) {
        value = value << 8 | at[i];
    }
    return value;
}

static void inspect_x87(void *obj, PtaInspect *req)
{
    const uint8_t *area = obj;
    pta_inspect_u64(req, "control", HEX, load_le(area, 2));
    pta_inspect_u64(req, "status", HEX, load_le(area + 2, 2));
    pta_inspect_u64(req, "tag", HEX, area[4]);
    pta_inspect_u64(req, "opcode", HEX, load_le(area + 6, 2));
    pta_inspect_u64(req, "ip", HEX, load_le(area + 8, 8));
    pta_inspect_u64(req, "dp", HEX, load_le(area + 16, 8));
    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *st = area + 32 + (size_t)16 * i;
        char name[8], text[32];
        g_snprintf(name, sizeof(name), "st%u", i);
        g_snprintf(text, sizeof(text), "0x%04x%016" G_GINT64_MODIFIER "x",
                   (unsigned)load_le(st + 8, 2), load_le(st, 8));
        pta_inspect_str(req, name, PTA_INSPECT_PLAIN, text);
    }
}

static void inspect_sse(void *obj, PtaInspect *req)
{
    const uint8_t *area = obj;
    pta_inspect_u64(req, "mxcsr", HEX, load_le(area + 24, 4));
    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *xmm = area + 160 + (size_t)16 * i;
        char name[8], text[40];
        g_snprintf(name, sizeof(name), "xmm%u", i);
        g_snprintf(text, sizeof(text), "0x%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x",
                   load_le(xmm + 8, 8), load_le(xmm, 8));
        pta_inspect_str(req, name, PTA_INSPECT_PLAIN, text);
    }
}

/* ---- local APIC: SDM vol. 3, table 10-1 ---- */

static uint32_t lapic_register(const PtaX86Lapic *lapic, unsigned offset)
{
    return (uint32_t)load_le(lapic->page + offset, 4);
}

/* A bit for each vector, as a list: "49 236". */
static void inspect_vectors(PtaInspect *req, const char *name, const PtaX86Lapic *lapic,
                            unsigned offset)
{
    GString *text = g_string_new(NULL);
    for (unsigned vector = 0; vector < 256; vector++) {
        if (lapic_register(lapic, offset + vector / 32 * 16) >> vector % 32 & 1) {
            g_string_append_printf(text, "%s%u", text->len ? " " : "", vector);
        }
    }
    pta_inspect_str(req, name, PTA_INSPECT_PLAIN, text->len ? text->str : "none");
    g_string_free(text, TRUE);
}

static void inspect_lapic(void *obj, PtaInspect *req)
{
    static const struct {
        const char *name;
        unsigned offset;
    } fields[] = {
        { "id", 0x20 },
        { "version", 0x30 },
        { "tpr", 0x80 },
        { "ppr", 0xa0 },
        { "ldr", 0xd0 },
        { "dfr", 0xe0 },
        { "svr", 0xf0 },
        { "esr", 0x280 },
        { "icr-low", 0x300 },
        { "icr-high", 0x310 },
        { "lvt-timer", 0x320 },
        { "lvt-thermal", 0x330 },
        { "lvt-pmc", 0x340 },
        { "lvt-lint0", 0x350 },
        { "lvt-lint1", 0x360 },
        { "lvt-error", 0x370 },
        { "initial-count", 0x380 },
        { "divide", 0x3e0 },
    };
    const PtaX86Lapic *lapic = obj;
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        pta_inspect_u64(req, fields[i].name, HEX, lapic_register(lapic, fields[i].offset));
    }
    inspect_vectors(req, "isr", lapic, 0x100);
    inspect_vectors(req, "tmr", lapic, 0x180);
    inspect_vectors(req, "irr", lapic, 0x200);
    pta_inspect_u64(req, "timer-expiry-ns", PTA_INSPECT_PLAIN, lapic->timer_expiry_ns);
}

static void inspect_registers(void *obj, PtaInspect *req)
{
    static const char *const segments[PTA_X86_N_SEGS] = {
        [PTA_X86_ES] = "es", [PTA_X86_CS] = "cs", [PTA_X86_SS] = "ss",
        [PTA_X86_DS] = "ds", [PTA_X86_FS] = "fs", [PTA_X86_GS] = "gs",
    };
    PtaX86State *state = obj;
    pta_inspect_fields(req, registers, state);
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        pta_inspect_child(req, segments[i], PTA_INSPECT_PLAIN, inspect_segment,
                          &state->regs.seg[i]);
    }
    pta_inspect_child(req, "tr", PTA_INSPECT_PLAIN, inspect_segment, &state->regs.tr);
    pta_inspect_child(req, "ldtr", PTA_INSPECT_PLAIN, inspect_segment, &state->regs.ldtr);
    pta_inspect_child(req, "gdtr", PTA_INSPECT_PLAIN, inspect_table, &state->regs.gdtr);
    pta_inspect_child(req, "idtr", PTA_INSPECT_PLAIN, inspect_table, &state->regs.idtr);
    inspect_mtrrs(req, &state->msrs.mtrrs);
    inspect_events(req, &state->events);
    pta_inspect_child(req, "lapic", PTA_INSPECT_PLAIN, inspect_lapic, &state->lapic);
    pta_inspect_child(req, "x87", PTA_INSPECT_PLAIN, inspect_x87, state->xsave.area);
    pta_inspect_child(req, "sse", PTA_INSPECT_PLAIN, inspect_sse, state->xsave.area);
}

/* ---- the VP ---- */

/* A question to a VP, which answers when it comes out of guest code. */
typedef struct Ask {
    PtaX86State state;
    PtaInspectDeferred *deferred;
} Ask;

static void on_vp_state(void *data)
{
    Ask *ask = data;
    pta_inspect_deferred_answer(ask->deferred, inspect_registers, &ask->state);
    g_free(ask);
}

static void defer_registers(PtaVpRef *ref, PtaInspect *req)
{
    PtaInspectDeferred *deferred = pta_inspect_defer(req, "registers", PTA_INSPECT_SENSITIVE);
    if (deferred) {
        Ask *ask = g_new0(Ask, 1);
        ask->deferred = deferred;
        pta_partition_post_get_vp_state(ref->vm->partition, ref->index, &ask->state, on_vp_state,
                                        ask);
    }
}

static void inspect_stats(void *obj, PtaInspect *req)
{
    PtaVpRef *ref = obj;
    const PtaBackendOps *ops = ref->vm->backend;
    size_t n = g_strv_length((char **)ops->stat_names);
    g_autofree uint64_t *values = g_new0(uint64_t, n + 1);
    ops->vp_get_stats(pta_vp_set_get(pta_partition_vps(ref->vm->partition), ref->index), values);
    for (size_t i = 0; i < n; i++) {
        pta_inspect_u64(req, ops->stat_names[i], PTA_INSPECT_COUNTER, values[i]);
    }
}

void pta_vp_inspect(void *obj, PtaInspect *req)
{
    PtaVpRef *ref = obj;
    PtaVpSet *vps = pta_partition_vps(ref->vm->partition);
    pta_inspect_str(req, "state", PTA_INSPECT_SAFE,
                    pta_vp_state_name(pta_vp_set_state(vps, ref->index)));
    pta_inspect_s64(req, "thread-id", PTA_INSPECT_SAFE, pta_vp_set_thread_id(vps, ref->index));
    if (ref->vm->backend->stat_names) {
        pta_inspect_child(req, "stats", PTA_INSPECT_SAFE, inspect_stats, ref);
    }
    defer_registers(ref, req);
}
