/* The packets of a session, but queries. MAIN. */
#include "config.h"

#include "src/partition/gdb-session.h"

#include <errno.h>
#include <string.h>

#include "src/partition/gdb-target.h"

/* What fits into one answer, as hexadecimal digits. */
#define MEMORY_MAX (PTA_GDB_PACKET_MAX / 2)

/* ---- registers ---- */

static void read_registers(PtaGdbSession *s)
{
    uint8_t value[16];
    const PtaX86State *cpu = pta_gdb_load(s, s->vp);
    g_autoptr(GString) reply = g_string_new("");
    for (unsigned i = 0; i < pta_gdb_n_registers(); i++) {
        pta_gdb_register_get(cpu, i, value);
        pta_gdb_put_bytes(reply, value, pta_gdb_register_size(i));
    }
    pta_gdb_reply(s, reply->str, reply->len);
}

static int store(PtaGdbSession *s)
{
    return pta_partition_set_vp_state(s->env->partition, s->vp, s->cpu, NULL) ? 0 : EINVAL;
}

static int write_registers(PtaGdbSession *s, const char *hex, size_t len)
{
    uint8_t value[16];
    pta_gdb_load(s, s->vp);
    for (unsigned i = 0; i < pta_gdb_n_registers(); i++) {
        size_t size = pta_gdb_register_size(i);
        if (len < 2 * size || !pta_gdb_get_bytes(hex, value, size) ||
            !pta_gdb_register_set(s->cpu, i, value)) {
            return EINVAL;
        }
        hex += 2 * size;
        len -= 2 * size;
    }
    return len == 0 ? store(s) : EINVAL;
}

static bool get_register(const char **at, unsigned *reg)
{
    uint64_t number;
    if (!pta_gdb_get_u64(at, &number) || number >= pta_gdb_n_registers()) {
        return false;
    }
    *reg = (unsigned)number;
    return true;
}

static void read_register(PtaGdbSession *s, const char *at)
{
    unsigned reg;
    if (!get_register(&at, &reg) || *at) {
        pta_gdb_reply_errno(s, EINVAL);
        return;
    }
    uint8_t value[16];
    g_autoptr(GString) reply = g_string_new("");
    pta_gdb_register_get(pta_gdb_load(s, s->vp), reg, value);
    pta_gdb_put_bytes(reply, value, pta_gdb_register_size(reg));
    pta_gdb_reply(s, reply->str, reply->len);
}

static int write_register(PtaGdbSession *s, const char *at)
{
    unsigned reg;
    uint8_t value[16];
    if (!get_register(&at, &reg) || *at != '=' ||
        strlen(at + 1) != 2 * pta_gdb_register_size(reg) ||
        !pta_gdb_get_bytes(at + 1, value, pta_gdb_register_size(reg))) {
        return EINVAL;
    }
    pta_gdb_load(s, s->vp);
    return pta_gdb_register_set(s->cpu, reg, value) ? store(s) : EINVAL;
}

/* ---- memory ---- */

/* "ADDRESS,LENGTH". */
static bool get_range(const char **at, uint64_t *addr, uint64_t *len)
{
    if (!pta_gdb_get_u64(at, addr) || **at != ',') {
        return false;
    }
    (*at)++;
    return pta_gdb_get_u64(at, len);
}

static void read_memory(PtaGdbSession *s, const char *at, bool binary)
{
    uint64_t addr, len;
    if (!get_range(&at, &addr, &len) || *at) {
        pta_gdb_reply_errno(s, EINVAL);
        return;
    }
    size_t want = (size_t)MIN(len, MEMORY_MAX - 1);
    g_autofree uint8_t *bytes = g_malloc(want + 1);
    size_t n = pta_gdb_read_memory(s, addr, bytes, want);
    if (n == 0 && want > 0) {
        pta_gdb_reply_errno(s, EFAULT);
        return;
    }
    g_autoptr(GString) reply = g_string_new("");
    if (binary) {
        g_string_append_c(reply, 'b');
        g_string_append_len(reply, (const char *)bytes, (gssize)n);
    } else {
        pta_gdb_put_bytes(reply, bytes, n);
    }
    pta_gdb_reply(s, reply->str, reply->len);
}

static int write_hex(PtaGdbSession *s, const char *at)
{
    uint64_t addr, len;
    if (!get_range(&at, &addr, &len) || *at != ':' || len > MEMORY_MAX ||
        strlen(at + 1) != 2 * len) {
        return EINVAL;
    }
    g_autofree uint8_t *bytes = g_malloc((size_t)len + 1);
    if (!pta_gdb_get_bytes(at + 1, bytes, (size_t)len)) {
        return EINVAL;
    }
    return pta_gdb_write_memory(s, addr, bytes, (size_t)len);
}

static int write_binary(PtaGdbSession *s, const char *at, const char *end)
{
    uint64_t addr, len;
    if (!get_range(&at, &addr, &len) || *at != ':' || len != (uint64_t)(end - at - 1)) {
        return EINVAL;
    }
    return pta_gdb_write_memory(s, addr, (const uint8_t *)at + 1, (size_t)len);
}

/* ---- breakpoints ---- */

static int set_software(PtaGdbSession *s, uint64_t addr, uint64_t kind, bool add)
{
    uint64_t gpa;
    if (kind != 1) {
        return EINVAL;
    }
    if (!add) {
        return pta_gdb_software_remove(&s->breaks, addr);
    }
    return pta_gdb_translate(s, addr, &gpa) ? pta_gdb_software_add(&s->breaks, addr, gpa) : EFAULT;
}

static void set_breakpoint(PtaGdbSession *s, const char *at, bool add)
{
    uint64_t type, addr, len;
    if (!pta_gdb_get_u64(&at, &type) || *at++ != ',' || !get_range(&at, &addr, &len) || *at) {
        pta_gdb_reply_errno(s, EINVAL);
    } else if (type > PTA_GDB_WATCH_ACCESS) {
        pta_gdb_reply_text(s, "");
    } else if (type == PTA_GDB_SOFTWARE) {
        pta_gdb_reply_result(s, set_software(s, addr, len, add));
    } else if (add) {
        pta_gdb_reply_result(s, pta_gdb_hardware_add(&s->breaks, (PtaGdbBreakType)type, addr, len));
    } else {
        pta_gdb_reply_result(s,
                             pta_gdb_hardware_remove(&s->breaks, (PtaGdbBreakType)type, addr, len));
    }
}

/* ---- going on ---- */

static int set_rip(PtaGdbSession *s, unsigned vp, uint64_t rip)
{
    pta_gdb_load(s, vp);
    s->cpu->regs.rip = rip;
    return pta_partition_set_vp_state(s->env->partition, vp, s->cpu, NULL) ? 0 : EINVAL;
}

/* c, C, s and S: "[SIG;]ADDRESS", both optional. The VP that Hc named, or else: step the current one
 * alone, continue all. */
static void go_on(PtaGdbSession *s, const char *at, bool signal, bool step)
{
    uint64_t addr;
    if (signal) {
        uint64_t number;
        if (!pta_gdb_get_u64(&at, &number) || (*at && *at != ';')) {
            pta_gdb_reply_errno(s, EINVAL);
            return;
        }
        at += *at == ';';
    }
    unsigned vp = s->resume_vp >= 0 ? (unsigned)s->resume_vp : s->vp;
    if (*at) {
        if (!pta_gdb_get_u64(&at, &addr) || *at || set_rip(s, vp, addr) != 0) {
            pta_gdb_reply_errno(s, EINVAL);
            return;
        }
    }
    for (unsigned i = 0; i < s->n_vps; i++) {
        bool runs = i == vp || (s->resume_vp < 0 && !step);
        s->plan[i] = (PtaGdbPlan){ .action = !runs  ? PTA_GDB_SUSPEND
                                             : step ? PTA_GDB_STEP
                                                    : PTA_GDB_CONTINUE };
    }
    pta_gdb_go(s);
}

/* One action of vCont, without its thread: "c", "C05", "s", "S05", "rSTART,END", "t". */
static bool get_action(const char **at, PtaGdbPlan *plan)
{
    uint64_t number;
    char letter = *(*at)++;
    *plan = (PtaGdbPlan){ 0 };
    switch (letter) {
    case 'c':
        plan->action = PTA_GDB_CONTINUE;
        return true;
    case 'C':
        plan->action = PTA_GDB_CONTINUE;
        return pta_gdb_get_u64(at, &number);
    case 's':
        plan->action = PTA_GDB_STEP;
        return true;
    case 'S':
        plan->action = PTA_GDB_STEP;
        return pta_gdb_get_u64(at, &number);
    case 'r':
        plan->action = PTA_GDB_STEP;
        return get_range(at, &plan->range_start, &plan->range_end);
    case 't':
        plan->action = PTA_GDB_SUSPEND;
        return true;
    default:
        return false;
    }
}

/* The first action that fits a thread is its own; without one it stays where it is. */
static bool get_plan(PtaGdbSession *s, const char *at)
{
    bool has[PTA_MAX_VPS] = { false };
    for (unsigned i = 0; i < s->n_vps; i++) {
        s->plan[i] = (PtaGdbPlan){ .action = PTA_GDB_SUSPEND };
    }
    while (*at == ';') {
        PtaGdbPlan plan;
        int thread = -1;
        at++;
        if (!*at || !get_action(&at, &plan)) {
            return false;
        }
        if (*at == ':') {
            at++;
            if (!pta_gdb_get_thread(s, &at, &thread)) {
                return false;
            }
        }
        for (unsigned i = 0; i < s->n_vps; i++) {
            bool meant = thread < 0 || (thread == 0 ? i == s->vp : i + 1 == (unsigned)thread);
            if (meant && !has[i]) {
                s->plan[i] = plan;
                has[i] = true;
            }
        }
    }
    return *at == '\0';
}

static void cont(PtaGdbSession *s, const char *at)
{
    bool any = false;
    bool ok = get_plan(s, at);
    for (unsigned i = 0; i < s->n_vps; i++) {
        any |= s->plan[i].action != PTA_GDB_SUSPEND;
    }
    if (!ok || !any) {
        pta_gdb_reply_errno(s, EINVAL);
    } else {
        pta_gdb_go(s);
    }
}

/* ---- threads ---- */

static void set_thread(PtaGdbSession *s, const char *at)
{
    int thread;
    char what = *at ? *at++ : '\0';
    if ((what != 'g' && what != 'c') || !pta_gdb_get_thread(s, &at, &thread) || *at) {
        pta_gdb_reply_errno(s, EINVAL);
        return;
    }
    if (what == 'c') {
        s->resume_vp = thread > 0 ? thread - 1 : -1;
    } else if (thread > 0) {
        s->vp = (unsigned)thread - 1;
    }
    pta_gdb_reply_text(s, "OK");
}

static void is_alive(PtaGdbSession *s, const char *at)
{
    int thread;
    bool ok = pta_gdb_get_thread(s, &at, &thread) && !*at && thread > 0;
    pta_gdb_reply_result(s, ok ? 0 : EINVAL);
}

/* ---- all of them ---- */

static void detach(PtaGdbSession *s)
{
    pta_gdb_detach(s);
    pta_gdb_reply_text(s, "OK");
}

static void multi_letter(PtaGdbSession *s, const char *packet)
{
    if (strcmp(packet, "vCont?") == 0) {
        pta_gdb_reply_text(s, "vCont;c;C;s;S;t;r");
    } else if (g_str_has_prefix(packet, "vCont")) {
        cont(s, packet + strlen("vCont"));
    } else if (g_str_has_prefix(packet, "vKill;")) {
        pta_gdb_reply_text(s, "OK");
        pta_gdb_kill(s);
    } else {
        pta_gdb_reply_text(s, ""); /* vMustReplyEmpty wants this, too */
    }
}

/* While VPs run there is nothing to look at: what can be said is that they shall stop for good. */
static bool needs_stop(const char *packet)
{
    return strchr("?cCDgGHkmMpPqQsSTvxXzZ", *packet) && *packet != 'D' && *packet != 'k' &&
           !g_str_has_prefix(packet, "vKill;");
}

void pta_gdb_command(PtaGdbSession *s, const char *packet, size_t len)
{
    if (s->state != PTA_GDB_STOPPED && *packet && needs_stop(packet)) {
        pta_gdb_reply_errno(s, EBUSY);
        return;
    }
    if (*packet != 'X' && strlen(packet) != len) {
        pta_gdb_reply_errno(s, EINVAL); /* text does not contain zeros */
        return;
    }
    const char *at = packet + 1;
    switch (*packet) {
    case '?':
        pta_gdb_reply(s, s->stop_reply->str, s->stop_reply->len);
        break;
    case 'c':
    case 'C':
    case 's':
    case 'S':
        go_on(s, at, g_ascii_isupper(*packet), g_ascii_tolower(*packet) == 's');
        break;
    case 'D':
        detach(s);
        break;
    case 'g':
        read_registers(s);
        break;
    case 'G':
        pta_gdb_reply_result(s, write_registers(s, at, len - 1));
        break;
    case 'H':
        set_thread(s, at);
        break;
    case 'k':
        pta_gdb_kill(s);
        break;
    case 'm':
    case 'x':
        read_memory(s, at, *packet == 'x');
        break;
    case 'M':
        pta_gdb_reply_result(s, write_hex(s, at));
        break;
    case 'X':
        pta_gdb_reply_result(s, write_binary(s, at, packet + len));
        break;
    case 'p':
        read_register(s, at);
        break;
    case 'P':
        pta_gdb_reply_result(s, write_register(s, at));
        break;
    case 'q':
    case 'Q':
        pta_gdb_query(s, packet);
        break;
    case 'T':
        is_alive(s, at);
        break;
    case 'v':
        multi_letter(s, packet);
        break;
    case 'z':
    case 'Z':
        set_breakpoint(s, at, *packet == 'Z');
        break;
    default:
        pta_gdb_reply_text(s, "");
        break;
    }
}
