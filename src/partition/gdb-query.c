/* Queries: what this stub can do, objects to be transferred, threads, and gdb's `monitor`. MAIN. */
#include "config.h"

#include "src/partition/gdb-session.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "src/partition/gdb-target.h"

/* If `text` begins with `prefix`: what follows; else NULL. */
static const char *after(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

/* ---- features ---- */

static void query_supported(PtaGdbSession *s, const char *features)
{
    g_auto(GStrv) all = g_strsplit(*features == ':' ? features + 1 : "", ";", 64);
    s->swbreak = g_strv_contains((const char *const *)all, "swbreak+");
    s->hwbreak = g_strv_contains((const char *const *)all, "hwbreak+");
    g_autofree char *text =
        g_strdup_printf("PacketSize=%x;QStartNoAckMode+;swbreak+;hwbreak+;vContSupported+;"
                        "qXfer:features:read+;qXfer:threads:read+;binary-upload+",
                        PTA_GDB_PACKET_MAX);
    pta_gdb_reply_text(s, text);
}

/* A part of an object: "OFFSET,LENGTH". */
static void reply_part(PtaGdbSession *s, const char *range, const char *object)
{
    uint64_t offset, len;
    size_t size = strlen(object);
    if (!pta_gdb_get_u64(&range, &offset) || *range++ != ',' || !pta_gdb_get_u64(&range, &len) ||
        *range || offset > size) {
        pta_gdb_reply_errno(s, EINVAL);
        return;
    }
    /* Each byte may have to be escaped. */
    size_t n = MIN(size - (size_t)offset, (size_t)MIN(len, PTA_GDB_PACKET_MAX / 2 - 1));
    g_autoptr(GString) reply = g_string_new(offset + n < size ? "m" : "l");
    g_string_append_len(reply, object + offset, (gssize)n);
    pta_gdb_reply(s, reply->str, reply->len);
}

/* ---- threads ---- */

static const char *thread_state(PtaGdbSession *s, unsigned vp)
{
    static const char *const activities[] = {
        [PTA_X86_RUNNING] = "running",
        [PTA_X86_HALTED] = "halted",
        [PTA_X86_WAIT_FOR_SIPI] = "waits for SIPI",
        [PTA_X86_SHUTDOWN] = "shut down",
    };
    uint32_t activity = pta_gdb_load(s, vp)->events.activity;
    return activity < G_N_ELEMENTS(activities) ? activities[activity] : "?";
}

static void transfer_threads(PtaGdbSession *s, const char *range)
{
    g_autoptr(GString) xml = g_string_new("<?xml version=\"1.0\"?>\n<threads>\n");
    for (unsigned i = 0; i < s->n_vps; i++) {
        g_string_append_printf(xml, "<thread id=\"%x\" core=\"%u\" name=\"vp%u\">%s</thread>\n",
                               i + 1, i, i, thread_state(s, i));
    }
    g_string_append(xml, "</threads>\n");
    reply_part(s, range, xml->str);
}

static void list_threads(PtaGdbSession *s)
{
    g_autoptr(GString) reply = g_string_new("m");
    for (unsigned i = 0; i < s->n_vps; i++) {
        g_string_append_printf(reply, "%s%x", i > 0 ? "," : "", i + 1);
    }
    pta_gdb_reply(s, reply->str, reply->len);
}

static void describe_thread(PtaGdbSession *s, const char *at)
{
    int thread;
    if (!pta_gdb_get_thread(s, &at, &thread) || *at || thread <= 0) {
        pta_gdb_reply_errno(s, EINVAL);
        return;
    }
    unsigned vp = (unsigned)thread - 1;
    g_autofree char *text = g_strdup_printf("vp%u (%s)", vp, thread_state(s, vp));
    g_autoptr(GString) reply = g_string_new("");
    pta_gdb_put_bytes(reply, text, strlen(text));
    pta_gdb_reply(s, reply->str, reply->len);
}

/* ---- gdb's `monitor` ---- */

/* Text for the debugger's user. */
void pta_gdb_say(PtaGdbSession *s, const char *text)
{
    while (*text) {
        size_t n = MIN(strlen(text), PTA_GDB_PACKET_MAX / 2 - 1);
        g_autoptr(GString) packet = g_string_new("O");
        pta_gdb_put_bytes(packet, text, n);
        pta_gdb_reply(s, packet->str, packet->len);
        text += n;
    }
}

static void add_segment(GString *text, const char *name, const PtaX86Segment *s)
{
    g_string_append_printf(text, "%-4s %04x base %016" PRIx64 " limit %08x attrs %04x\n", name,
                           s->selector, s->base, s->limit, s->attrs);
}

static char *registers_text(PtaGdbSession *s, unsigned vp)
{
    static const char *const names[PTA_X86_N_GPRS] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                                       "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                                       "r12", "r13", "r14", "r15" };
    static const char *const segs[PTA_X86_N_SEGS] = { "es", "cs", "ss", "ds", "fs", "gs" };
    const PtaX86State *cpu = pta_gdb_load(s, vp);
    const PtaX86Regs *r = &cpu->regs;
    GString *text = g_string_new("");
    g_string_append_printf(text, "vp%u (%s)\n", vp, thread_state(s, vp));
    for (unsigned i = 0; i < PTA_X86_N_GPRS; i++) {
        g_string_append_printf(text, "%-4s %016" PRIx64 "%s", names[i], r->gpr[i],
                               i % 3 == 2 ? "\n" : "  ");
    }
    g_string_append_printf(text, "rip  %016" PRIx64 "  rflags %08" PRIx64 "\n", r->rip, r->rflags);
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        add_segment(text, segs[i], &r->seg[i]);
    }
    add_segment(text, "tr", &r->tr);
    add_segment(text, "ldtr", &r->ldtr);
    g_string_append_printf(text, "gdtr base %016" PRIx64 " limit %04x\n", r->gdtr.base,
                           r->gdtr.limit);
    g_string_append_printf(text, "idtr base %016" PRIx64 " limit %04x\n", r->idtr.base,
                           r->idtr.limit);
    g_string_append_printf(text,
                           "cr0 %" PRIx64 "  cr2 %" PRIx64 "  cr3 %" PRIx64 "  cr4 %" PRIx64
                           "  cr8 %" PRIx64 "  efer %" PRIx64 "\n",
                           r->cr0, r->cr2, r->cr3, r->cr4, r->cr8, r->efer);
    g_string_append_printf(text,
                           "dr0 %" PRIx64 "  dr1 %" PRIx64 "  dr2 %" PRIx64 "  dr3 %" PRIx64
                           "  dr6 %" PRIx64 "  dr7 %" PRIx64 "\n",
                           cpu->debug.dr[0], cpu->debug.dr[1], cpu->debug.dr[2], cpu->debug.dr[3],
                           cpu->debug.dr6, cpu->debug.dr7);
    return g_string_free(text, FALSE);
}

static void monitor_registers(PtaGdbSession *s, const char *word)
{
    guint64 vp = s->vp;
    if (*word && (!g_ascii_string_to_unsigned(word, 10, 0, s->n_vps - 1, &vp, NULL))) {
        pta_gdb_say(s, "there is no such VP\n");
        return;
    }
    g_autofree char *text = registers_text(s, (unsigned)vp);
    pta_gdb_say(s, text);
}

static void monitor_command(PtaGdbSession *s, const char *command)
{
    static const char help[] = "info registers [VP]  all registers of a VP\n"
                               "system_reset         reset the machine; it waits to be continued\n"
                               "quit                 end the machine\n";
    const char *word;
    if (strcmp(command, "help") == 0) {
        pta_gdb_say(s, help);
    } else if ((word = after(command, "info registers"))) {
        monitor_registers(s, word + strspn(word, " "));
    } else if (strcmp(command, "system_reset") == 0 || strcmp(command, "reset") == 0) {
        pta_gdb_reset_machine(s, false); /* answers when it is done */
        return;
    } else if (strcmp(command, "quit") == 0) {
        pta_gdb_reply_text(s, "OK");
        pta_gdb_kill(s);
        return;
    } else {
        pta_gdb_say(s, "unknown command; `monitor help` lists them\n");
    }
    pta_gdb_reply_text(s, "OK");
}

static void query_command(PtaGdbSession *s, const char *hex)
{
    size_t n = strlen(hex) / 2;
    g_autofree char *command = g_malloc0(n + 1);
    if (strlen(hex) % 2 || !pta_gdb_get_bytes(hex, command, n)) {
        pta_gdb_reply_errno(s, EINVAL);
        return;
    }
    monitor_command(s, g_strstrip(command));
}

/* ---- settings ---- */

static void set_physical(PtaGdbSession *s, const char *value)
{
    bool ok = strcmp(value, "0") == 0 || strcmp(value, "1") == 0;
    if (ok) {
        s->physical = *value == '1';
    }
    pta_gdb_reply_result(s, ok ? 0 : EINVAL);
}

static void set_step_flags(PtaGdbSession *s, const char *value)
{
    uint64_t flags;
    value = after(value, "0x") ? value + 2 : value;
    const uint64_t all = PTA_GDB_STEP_ENABLE | PTA_GDB_STEP_NOIRQ | PTA_GDB_STEP_NOTIMER;
    if (!pta_gdb_get_u64(&value, &flags) || *value || flags & ~all) {
        pta_gdb_reply_errno(s, EINVAL);
        return;
    }
    s->step_flags = (unsigned)flags;
    pta_gdb_reply_text(s, "OK");
}

static void reply_step_flags(PtaGdbSession *s)
{
    char text[16];
    g_snprintf(text, sizeof(text), "0x%x", s->step_flags);
    pta_gdb_reply_text(s, text);
}

static void start_no_ack(PtaGdbSession *s)
{
    pta_gdb_reply_text(s, "OK");
    s->no_ack = true;
}

static bool query_thread(PtaGdbSession *s, const char *packet)
{
    const char *rest;
    char text[16];
    if (strcmp(packet, "qC") == 0) {
        g_snprintf(text, sizeof(text), "QC%x", s->vp + 1);
        pta_gdb_reply_text(s, text);
    } else if (strcmp(packet, "qfThreadInfo") == 0) {
        list_threads(s);
    } else if (strcmp(packet, "qsThreadInfo") == 0) {
        pta_gdb_reply_text(s, "l");
    } else if ((rest = after(packet, "qThreadExtraInfo,"))) {
        describe_thread(s, rest);
    } else if ((rest = after(packet, "qXfer:threads:read::"))) {
        transfer_threads(s, rest);
    } else {
        return false;
    }
    return true;
}

void pta_gdb_query(PtaGdbSession *s, const char *packet)
{
    const char *rest;
    if (query_thread(s, packet)) {
        return;
    }
    if ((rest = after(packet, "qSupported"))) {
        query_supported(s, rest);
    } else if (strcmp(packet, "QStartNoAckMode") == 0) {
        start_no_ack(s);
    } else if ((rest = after(packet, "qXfer:features:read:target.xml:"))) {
        reply_part(s, rest, pta_gdb_target_xml());
    } else if (after(packet, "qXfer:features:read:")) {
        pta_gdb_reply_text(s, "E00"); /* no such annex */
    } else if (strcmp(packet, "qAttached") == 0 || after(packet, "qAttached:")) {
        pta_gdb_reply_text(s, "1"); /* so that gdb's `quit` detaches, and does not kill */
    } else if ((rest = after(packet, "qRcmd,"))) {
        query_command(s, rest);
    } else if (strcmp(packet, "qqemu.PhyMemMode") == 0) {
        pta_gdb_reply_text(s, s->physical ? "1" : "0");
    } else if ((rest = after(packet, "Qqemu.PhyMemMode:"))) {
        set_physical(s, rest);
    } else if (strcmp(packet, "qqemu.sstepbits") == 0) {
        pta_gdb_reply_text(s, "ENABLE=1,NOIRQ=2,NOTIMER=4");
    } else if (strcmp(packet, "qqemu.sstep") == 0) {
        reply_step_flags(s);
    } else if ((rest = after(packet, "Qqemu.sstep=")) || (rest = after(packet, "qqemu.sstep="))) {
        set_step_flags(s, rest);
    } else {
        pta_gdb_reply_text(s, "");
    }
}
