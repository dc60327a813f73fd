/* A debugger's session: attaching, stops, going on, detaching, and the bytes around packets. MAIN. */
#include "config.h"

#define G_LOG_DOMAIN "gdb"

#include "src/partition/gdb-session.h"

#include <errno.h>
#include <string.h>

#include "src/partition/gdb-target.h"
#include "src/partition/x86-walk.h"

/* Above this much waiting output no packet is looked at. */
#define OUT_MARK (4 * PTA_GDB_PACKET_MAX)

#define DR6_BS   (UINT64_C(1) << 14)
#define X86_BP   3

/* Signals, as gdb numbers them. */
enum {
    SIG_HUP = 1,
    SIG_INT = 2,
    SIG_TRAP = 5,
    SIG_ABRT = 6,
    SIG_SEGV = 11,
};

/* ---- replies ---- */

void pta_gdb_reply(PtaGdbSession *s, const char *payload, size_t len)
{
    g_byte_array_set_size(s->last, 0);
    pta_gdb_write(s->last, payload, len);
    g_byte_array_append(s->out, s->last->data, s->last->len);
}

void pta_gdb_reply_text(PtaGdbSession *s, const char *text)
{
    pta_gdb_reply(s, text, strlen(text));
}

void pta_gdb_reply_errno(PtaGdbSession *s, int error)
{
    char text[8];
    g_snprintf(text, sizeof(text), "E%02x", (unsigned)error & 0xff);
    pta_gdb_reply_text(s, text);
}

void pta_gdb_reply_result(PtaGdbSession *s, int error)
{
    if (error == 0) {
        pta_gdb_reply_text(s, "OK");
    } else {
        pta_gdb_reply_errno(s, error);
    }
}

/* ---- registers and memory ---- */

const PtaX86State *pta_gdb_load(PtaGdbSession *s, unsigned vp)
{
    pta_partition_get_vp_state(s->env->partition, vp, s->cpu);
    return s->cpu;
}

bool pta_gdb_translate(PtaGdbSession *s, uint64_t addr, uint64_t *gpa)
{
    if (s->physical) {
        *gpa = addr;
        return true;
    }
    return pta_x86_translate(s->env->memory, &pta_gdb_load(s, s->vp)->regs, addr, gpa);
}

/* The part of [addr, addr + len) that is in one page; false: not mapped. s->cpu is loaded. */
static bool page_piece(PtaGdbSession *s, uint64_t addr, size_t len, uint64_t *gpa, size_t *n)
{
    *n = MIN(len, PTA_PAGE_SIZE - (addr & ~PTA_PAGE_MASK));
    if (s->physical) {
        *gpa = addr;
        return true;
    }
    return pta_x86_translate(s->env->memory, &s->cpu->regs, addr, gpa);
}

size_t pta_gdb_read_memory(PtaGdbSession *s, uint64_t addr, uint8_t *buf, size_t len)
{
    pta_gdb_load(s, s->vp);
    size_t done = 0;
    while (done < len) {
        uint64_t gpa;
        size_t n;
        if (!page_piece(s, addr + done, len - done, &gpa, &n) ||
            pta_gdb_memory_read(&s->breaks, gpa, buf + done, n) != PTA_MEM_OK) {
            break;
        }
        done += n;
    }
    return done;
}

int pta_gdb_write_memory(PtaGdbSession *s, uint64_t addr, const uint8_t *buf, size_t len)
{
    uint8_t page[PTA_PAGE_SIZE];
    uint64_t gpa;
    size_t n;
    pta_gdb_load(s, s->vp);
    for (size_t done = 0; done < len; done += n) {
        if (!page_piece(s, addr + done, len - done, &gpa, &n) ||
            pta_memory_read(s->env->memory, gpa, page, n) != PTA_MEM_OK) {
            return EFAULT;
        }
    }
    for (size_t done = 0; done < len; done += n) {
        if (!page_piece(s, addr + done, len - done, &gpa, &n) ||
            pta_gdb_memory_write(&s->breaks, gpa, buf + done, n) != PTA_MEM_OK) {
            return EFAULT; /* the write changed the page tables, or this is a ROM */
        }
    }
    return 0;
}

bool pta_gdb_get_thread(const PtaGdbSession *s, const char **text, int *thread)
{
    uint64_t id;
    if (strncmp(*text, "-1", 2) == 0) {
        *text += 2;
        *thread = -1;
        return true;
    }
    if (!pta_gdb_get_u64(text, &id) || id > s->n_vps) {
        return false;
    }
    *thread = (int)id;
    return true;
}

/* ---- stops ---- */

static unsigned signal_of(PtaHaltKind kind)
{
    switch (kind) {
    case PTA_HALT_DEBUG_BREAK:
        return SIG_INT;
    case PTA_HALT_RESET:
        return SIG_HUP;
    case PTA_HALT_TRIPLE_FAULT:
        return SIG_SEGV;
    case PTA_HALT_SINGLE_STEP:
    case PTA_HALT_HW_BREAKPOINT:
    case PTA_HALT_SW_BREAKPOINT:
        return SIG_TRAP;
    default:
        return SIG_ABRT;
    }
}

static void add_register(PtaGdbSession *s, unsigned reg)
{
    uint8_t value[16];
    pta_gdb_register_get(s->cpu, reg, value);
    g_string_append_printf(s->stop_reply, "%02x:", reg);
    pta_gdb_put_bytes(s->stop_reply, value, pta_gdb_register_size(reg));
    g_string_append_c(s->stop_reply, ';');
}

static void add_cause(PtaGdbSession *s)
{
    static const char *const watch[] = {
        [PTA_GDB_WATCH_WRITE] = "watch",
        [PTA_GDB_WATCH_READ] = "rwatch",
        [PTA_GDB_WATCH_ACCESS] = "awatch",
    };
    const PtaGdbHardware *hit = pta_gdb_hardware_hit(&s->breaks, s->stop.dr6);
    if (s->stop.kind == PTA_HALT_SW_BREAKPOINT && s->swbreak) {
        g_string_append(s->stop_reply, "swbreak:;");
    } else if (hit && hit->type != PTA_GDB_HARDWARE) {
        g_string_append_printf(s->stop_reply, "%s:%" G_GINT64_MODIFIER "x;", watch[hit->type],
                               hit->lin);
    } else if (hit && s->hwbreak) {
        g_string_append(s->stop_reply, "hwbreak:;");
    }
}

static void make_stop_reply(PtaGdbSession *s)
{
    g_string_truncate(s->stop_reply, 0);
    switch (s->stop.kind) {
    case PTA_HALT_POWER_OFF:
    case PTA_HALT_HIBERNATE:
        g_string_append(s->stop_reply, "W00");
        return;
    case PTA_HALT_DEBUG_EXIT:
        g_string_append_printf(s->stop_reply, "W%02x", s->stop.code & 0xff);
        return;
    default:
        break;
    }
    pta_gdb_load(s, s->vp);
    g_string_append_printf(s->stop_reply, "T%02xthread:%x;", signal_of(s->stop.kind), s->vp + 1);
    add_cause(s);
    add_register(s, PTA_GDB_REG_RBP);
    add_register(s, PTA_GDB_REG_RSP);
    add_register(s, PTA_GDB_REG_RIP);
}

static void on_halt(void *opaque, const PtaHaltReason *reason);

static void resume(PtaGdbSession *s)
{
    pta_partition_debug_resume(s->env->partition, on_halt, s);
}

/* An INT3 of the guest's own goes where it would have gone without us. False: it is ours. */
static bool give_back_int3(PtaGdbSession *s, const PtaHaltReason *reason)
{
    uint64_t gpa;
    const PtaX86State *cpu = pta_gdb_load(s, reason->vp);
    if (pta_x86_translate(s->env->memory, &cpu->regs, pta_gdb_linear_rip(&cpu->regs), &gpa) &&
        pta_gdb_software_at(&s->breaks, gpa)) {
        return false;
    }
    s->cpu->regs.rip += 1;
    s->cpu->events.exception_pending = 1;
    s->cpu->events.vector = X86_BP;
    s->cpu->events.has_error_code = 0;
    s->cpu->events.error_code = 0;
    g_autoptr(GError) error = NULL;
    if (!pta_partition_set_vp_state(s->env->partition, reason->vp, s->cpu, &error)) {
        g_warning("vp%u: a breakpoint of the guest's own is lost: %s", reason->vp, error->message);
    }
    return true;
}

/* Still within the range that is stepped over as a whole. */
static bool in_range(PtaGdbSession *s, const PtaHaltReason *reason)
{
    const PtaGdbPlan *plan = &s->plan[reason->vp];
    if (reason->kind != PTA_HALT_SINGLE_STEP || plan->action != PTA_GDB_STEP ||
        pta_gdb_hardware_hit(&s->breaks, reason->dr6) || plan->range_start == plan->range_end) {
        return false;
    }
    uint64_t rip = pta_gdb_load(s, reason->vp)->regs.rip;
    return rip - plan->range_start < plan->range_end - plan->range_start;
}

/* Nothing that the debugger has to know: the VPs go on. */
static bool is_ours_to_ignore(PtaGdbSession *s, const PtaHaltReason *reason)
{
    if (s->state != PTA_GDB_RUNNING) {
        return false;
    }
    if (reason->kind == PTA_HALT_DEBUG_BREAK) {
        return !s->breaking; /* of an interrupt that another stop has answered */
    }
    if (reason->kind == PTA_HALT_SW_BREAKPOINT && give_back_int3(s, reason)) {
        return !s->breaking;
    }
    return !s->breaking && reason->has_vp && in_range(s, reason);
}

static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    PtaGdbSession *s = opaque;
    if (is_ours_to_ignore(s, reason)) {
        resume(s);
        return;
    }
    bool starting = s->state == PTA_GDB_STARTING;
    s->stop = *reason;
    if (s->stop.kind == PTA_HALT_SW_BREAKPOINT && s->breaking && !starting) {
        /* Either ours, or one of the guest's that an interrupt came together with. */
        uint64_t gpa;
        const PtaX86Regs *regs = &pta_gdb_load(s, reason->vp)->regs;
        if (!pta_x86_translate(s->env->memory, regs, pta_gdb_linear_rip(regs), &gpa) ||
            !pta_gdb_software_at(&s->breaks, gpa)) {
            s->stop.kind = PTA_HALT_DEBUG_BREAK;
        }
    }
    if (reason->has_vp) {
        s->vp = reason->vp;
    }
    s->resume_vp = -1;
    s->state = PTA_GDB_STOPPED;
    s->breaking = false;
    make_stop_reply(s);
    if (!starting && !s->detaching) {
        pta_gdb_reply(s, s->stop_reply->str, s->stop_reply->len);
    }
    s->on_output(s->opaque);
}

/* ---- going on ---- */

/* Whether a VP still stands at the breakpoint that it reported: it gets over it first. */
static bool has_reported(PtaGdbSession *s, unsigned vp)
{
    const PtaGdbHardware *hit = pta_gdb_hardware_hit(&s->breaks, s->stop.dr6);
    return hit && hit->type == PTA_GDB_HARDWARE && s->stop.has_vp && s->stop.vp == vp &&
           s->stop.has_regs && s->stop.regs.rip == pta_gdb_load(s, vp)->regs.rip;
}

static void set_debug(PtaGdbSession *s, unsigned vp, const PtaGdbPlan *plan)
{
    PtaGuestDebug debug = { .single_step = plan->action == PTA_GDB_STEP };
    debug.block_interrupts = debug.single_step && s->step_flags & PTA_GDB_STEP_NOIRQ;
    debug.pass = has_reported(s, vp);
    pta_gdb_breaks_fill(&s->breaks, &debug);
    pta_partition_debug_set(s->env->partition, vp, &debug);
    pta_partition_debug_suspend(s->env->partition, vp, plan->action == PTA_GDB_SUSPEND);
}

static void carry_out_plan(PtaGdbSession *s)
{
    for (unsigned i = 0; i < s->n_vps; i++) {
        set_debug(s, i, &s->plan[i]);
    }
    s->state = PTA_GDB_RUNNING;
    resume(s);
}

/* A reset starts the machine: a stop guard keeps its VPs out until the debugger has said what it
 * wants. The session may end before that. */
struct PtaGdbReset {
    PtaGdbSession *s; /* NULL: it has ended */
    PtaStopGuard *guard;
    bool goes_on;
};

static void reset_failed(PtaGdbSession *s, bool goes_on, const GError *error)
{
    g_autofree char *text = g_strdup_printf("cannot reset the machine: %s\n", error->message);
    s->state = PTA_GDB_STOPPED;
    if (goes_on) {
        g_autofree char *reply = g_strconcat("E.", g_strchomp(text), NULL);
        pta_gdb_reply_text(s, reply);
    } else {
        pta_gdb_say(s, text);
        pta_gdb_reply_text(s, "OK");
    }
}

static void on_reset(void *data, const GError *error)
{
    PtaGdbReset *r = data;
    PtaGdbSession *s = r->s;
    if (s) {
        s->reset = NULL;
        if (error) {
            reset_failed(s, r->goes_on, error);
        } else if (r->goes_on) {
            carry_out_plan(s);
        } else {
            pta_gdb_say(s, "The machine was reset and waits at its first instruction.\n");
            pta_gdb_reply_text(s, "OK");
            s->state = PTA_GDB_STARTING;
            pta_partition_debug_break(s->env->partition);
            resume(s);
        }
        s->on_output(s->opaque);
    }
    pta_stop_guard_free(r->guard);
    if (s && s->state == PTA_GDB_RUNNING) {
        s->env->go(s->env->opaque);
    }
    g_free(r);
}

void pta_gdb_reset_machine(PtaGdbSession *s, bool goes_on)
{
    s->reset = g_new0(PtaGdbReset, 1);
    s->reset->s = s;
    s->reset->guard = pta_partition_stop_vps(s->env->partition);
    s->reset->goes_on = goes_on;
    s->state = PTA_GDB_RESETTING;
    s->env->reset(s->env->opaque, on_reset, s->reset);
}

/* What keeps the VPs out now: somebody else may have reset the machine since it stopped. */
static PtaHaltKind held_by(const PtaGdbSession *s)
{
    const PtaHaltReason *reason = pta_partition_halt_reason(s->env->partition);
    return reason ? reason->kind : s->stop.kind;
}

void pta_gdb_go(PtaGdbSession *s)
{
    PtaHaltKind kind = held_by(s);
    if (kind == PTA_HALT_RESET) {
        pta_gdb_reset_machine(s, true);
        return;
    }
    if (!pta_halt_kind_is_debuggers(kind)) {
        pta_gdb_reply(s, s->stop_reply->str, s->stop_reply->len); /* it cannot: told again */
        return;
    }
    g_autoptr(PtaStopGuard) guard = pta_partition_stop_vps(s->env->partition);
    carry_out_plan(s);
    g_clear_pointer(&guard, pta_stop_guard_free);
    if (s->state == PTA_GDB_RUNNING) {
        s->env->go(s->env->opaque);
    }
}

/* ---- bytes ---- */

bool pta_gdb_session_takes_input(const PtaGdbSession *s)
{
    bool listens = s->state == PTA_GDB_STOPPED || s->state == PTA_GDB_RUNNING;
    return listens && s->out->len < OUT_MARK;
}

static void interrupt(PtaGdbSession *s)
{
    if (s->state == PTA_GDB_RUNNING && !s->breaking) {
        s->breaking = true;
        pta_partition_debug_break(s->env->partition);
    }
}

static void take_item(PtaGdbSession *s, PtaGdbItem item)
{
    static const uint8_t ack = '+';
    static const uint8_t nack = '-';
    switch (item) {
    case PTA_GDB_NOTHING:
    case PTA_GDB_ACK:
        break;
    case PTA_GDB_NACK:
        if (!s->no_ack) {
            g_byte_array_append(s->out, s->last->data, s->last->len);
        }
        break;
    case PTA_GDB_INTERRUPT:
        interrupt(s);
        break;
    case PTA_GDB_BAD_CHECKSUM:
        if (s->no_ack) {
            pta_gdb_reply_errno(s, EBADMSG);
        } else {
            g_byte_array_append(s->out, &nack, 1);
        }
        break;
    case PTA_GDB_TOO_LONG:
    case PTA_GDB_PACKET:
        if (!s->no_ack) {
            g_byte_array_append(s->out, &ack, 1);
        }
        if (item == PTA_GDB_TOO_LONG) {
            pta_gdb_reply_errno(s, E2BIG);
        } else {
            pta_gdb_command(s, s->reader.data, s->reader.len);
        }
        break;
    }
}

size_t pta_gdb_session_feed(PtaGdbSession *s, const void *bytes, size_t len)
{
    pta_assert_main();
    size_t done = 0;
    while (done < len && pta_gdb_session_takes_input(s)) {
        PtaGdbItem item;
        done += pta_gdb_read(&s->reader, (const uint8_t *)bytes + done, len - done, &item);
        take_item(s, item);
    }
    return done;
}

/* ---- life ---- */

static void ignore_halt(void *opaque, const PtaHaltReason *reason)
{
    (void)opaque;
    (void)reason;
}

/* What is on its way to us is ours: an interrupt, or a breakpoint that was met just now. */
static void take_halts(PtaGdbSession *s)
{
    PtaPartition *p = s->env->partition;
    bool started = pta_partition_started(p);
    pta_partition_stop(p);
    if (started) {
        pta_partition_start(p);
    }
}

void pta_gdb_detach(PtaGdbSession *s)
{
    PtaPartition *p = s->env->partition;
    if (s->state == PTA_GDB_ENDED) {
        return;
    }
    G_GNUC_UNUSED g_autoptr(PtaStopGuard) guard = pta_partition_stop_vps(p);
    s->detaching = true;
    if (s->reset) {
        s->reset->s = NULL;
        s->reset = NULL;
    }
    take_halts(s);
    pta_gdb_breaks_clear(&s->breaks);
    if (s->killing || s->state == PTA_GDB_RESETTING || /* whatever it was, that ends it */
        (s->state == PTA_GDB_STOPPED && pta_halt_kind_is_debuggers(held_by(s)))) {
        pta_partition_debug_resume(p, ignore_halt, NULL);
    }
    s->state = PTA_GDB_ENDED;
    pta_partition_debug_detach(p);
}

void pta_gdb_kill(PtaGdbSession *s)
{
    pta_partition_stop(s->env->partition); /* the guest executes nothing any more */
    s->killing = true;
    pta_gdb_detach(s);
    s->env->kill(s->env->opaque);
}

PtaGdbSession *pta_gdb_session_new(const PtaGdbEnv *env, void (*on_output)(void *opaque),
                                   void *opaque, GError **error)
{
    pta_assert_main();
    if (!pta_partition_debug_attach(env->partition, error)) {
        return NULL;
    }
    PtaGdbSession *s = g_new0(PtaGdbSession, 1);
    s->env = env;
    s->n_vps = pta_vp_set_size(pta_partition_vps(env->partition));
    s->state = PTA_GDB_STARTING;
    s->step_flags = PTA_GDB_STEP_ENABLE | PTA_GDB_STEP_NOIRQ | PTA_GDB_STEP_NOTIMER;
    s->resume_vp = -1;
    s->breaks.memory = env->memory;
    s->cpu = g_new0(PtaX86State, 1);
    s->stop_reply = g_string_new("");
    s->out = g_byte_array_new();
    s->last = g_byte_array_new();
    s->on_output = on_output;
    s->opaque = opaque;
    s->breaking = true;
    pta_partition_debug_break(env->partition);
    resume(s);
    return s;
}

void pta_gdb_session_free(PtaGdbSession *s)
{
    if (!s) {
        return;
    }
    pta_assert_main();
    pta_gdb_detach(s);
    g_byte_array_unref(s->out);
    g_byte_array_unref(s->last);
    g_string_free(s->stop_reply, TRUE);
    g_free(s->cpu);
    g_free(s);
}
