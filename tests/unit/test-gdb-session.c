/* A debugger's session on the scripted back end: every packet, good and bad, and who hears of what. */
#include "config.h"

#include "src/partition/gdb-session.h"
#include "src/partition/gdb-target.h"
#include "tests/lib/partition-fixture.h"

#include <errno.h>
#include <string.h>

typedef struct Gdb {
    Fixture *f;
    PtaGdbEnv env;
    PtaGdbSession *s;
    unsigned outputs, goes, kills, resets;
    bool reset_fails, reset_waits;
    PtaGdbResetDone *done; /* of a reset that waits */
    void *done_data;
    GString *answer; /* payload of the last packet */
} Gdb;

static void on_output(void *opaque)
{
    ((Gdb *)opaque)->outputs++;
}

static void on_go(void *opaque)
{
    ((Gdb *)opaque)->goes++;
}

static void on_kill(void *opaque)
{
    ((Gdb *)opaque)->kills++;
}

static void finish_reset(Gdb *g)
{
    g_autoptr(GError) error = NULL;
    if (g->reset_fails) {
        pta_throw(&error, PTA_ERROR_HOST, "told to fail");
    } else {
        pta_partition_stop(g->f->p);
        pta_partition_reset(g->f->p, &error);
        pta_partition_start(g->f->p);
    }
    g->done(g->done_data, error);
    g->done = NULL;
}

static void on_reset(void *opaque, PtaGdbResetDone *done, void *data)
{
    Gdb *g = opaque;
    g->resets++;
    g->done = done;
    g->done_data = data;
    if (!g->reset_waits) {
        finish_reset(g);
    }
}

static void attach(Gdb *g)
{
    unsigned before = g->outputs;
    g->s = pta_gdb_session_new(&g->env, on_output, g, NULL);
    assert_non_null(g->s);
    fixture_wait_for(&g->outputs, before + 1);
    assert_int_equal(g->s->state, PTA_GDB_STOPPED);
}

static void leave(Gdb *g)
{
    pta_gdb_session_free(g->s);
    g->s = NULL;
}

static int setup(void **state)
{
    Gdb *g = g_new0(Gdb, 1);
    if (fixture_setup((void **)&g->f) != 0) {
        return -1;
    }
    g->answer = g_string_new("");
    g->env = (PtaGdbEnv){ g->f->p, g->f->memory, on_go, on_kill, on_reset, g };
    pta_partition_start(g->f->p);
    attach(g);
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    Gdb *g = *state;
    pta_gdb_session_free(g->s);
    void *f = g->f;
    fixture_teardown(&f);
    g_string_free(g->answer, TRUE);
    g_free(g);
    return 0;
}

static void feed(Gdb *g, const char *bytes, size_t len)
{
    assert_int_equal(pta_gdb_session_feed(g->s, bytes, len), len);
}

/* What waits to be sent; acknowledgements are left out, packets become their payload and ";". */
static const char *output(Gdb *g)
{
    g_autofree PtaGdbReader *r = g_new0(PtaGdbReader, 1);
    GByteArray *out = g->s->out;
    g_string_truncate(g->answer, 0);
    for (size_t at = 0; at < out->len;) {
        PtaGdbItem item;
        at += pta_gdb_read(r, out->data + at, out->len - at, &item);
        assert_true(item != PTA_GDB_BAD_CHECKSUM && item != PTA_GDB_TOO_LONG);
        if (item == PTA_GDB_NACK) {
            g_string_append_c(g->answer, '-');
        } else if (item == PTA_GDB_PACKET) {
            g_string_append_len(g->answer, r->data, (gssize)r->len);
            g_string_append_c(g->answer, ';');
        }
    }
    g_byte_array_set_size(out, 0);
    return g->answer->str;
}

static const char *ask_bytes(Gdb *g, const char *payload, size_t len)
{
    g_autoptr(GByteArray) packet = g_byte_array_new();
    pta_gdb_write(packet, payload, len);
    feed(g, (const char *)packet->data, packet->len);
    return output(g);
}

static const char *ask(Gdb *g, const char *payload)
{
    return ask_bytes(g, payload, strlen(payload));
}

#define ASK(g, payload, expected) assert_string_equal(ask(g, payload), expected ";")

/* Waits for the next stop, and gives what is said of it without registers. */
static const char *wait_stop(Gdb *g)
{
    unsigned before = g->outputs;
    fixture_wait_for(&g->outputs, before + 1);
    char *regs = (char *)strstr(output(g), "06:");
    if (regs) {
        g_string_truncate(g->answer, (gsize)(regs - g->answer->str));
    }
    return g->answer->str;
}

static void vp_exits(Gdb *g, unsigned vp, unsigned vector, uint64_t dr6)
{
    PtaExit exit = { .reason = PTA_EXIT_DEBUG };
    exit.debug.vector = (uint8_t)vector;
    exit.debug.dr6 = dr6;
    fake_vp_exit(fixture_vp(g->f, vp), &exit);
}

/* ---- packets ---- */

static void acknowledgements(void **state)
{
    Gdb *g = *state;
    feed(g, "$qC#b4", 6);
    assert_memory_equal(g->s->out->data, "+$QC1#c5", 8);
    output(g);
    feed(g, "-", 1); /* said again */
    assert_string_equal(output(g), "QC1;");
    feed(g, "$qC#b5", 6);
    assert_string_equal(output(g), "-");
    feed(g, "+garbage\n", 9);
    assert_string_equal(output(g), "");
    feed(g, "$qC$qC#b4", 9);
    assert_string_equal(output(g), "QC1;");
    ASK(g, "QStartNoAckMode", "OK");
    feed(g, "$qC#b4", 6);
    assert_memory_equal(g->s->out->data, "$QC1#c5", 7);
    output(g);
    feed(g, "-", 1);
    assert_string_equal(output(g), "");
    feed(g, "$qC#b5", 6);
    assert_string_equal(output(g), "E4a;"); /* EBADMSG */
}

static void packets_that_are_too_long(void **state)
{
    Gdb *g = *state;
    g_autofree char *text = g_strnfill(PTA_GDB_PACKET_MAX + 1, 'm');
    assert_string_equal(ask(g, text), "E07;");
    ASK(g, "qC", "QC1");
}

static void output_is_bounded(void **state)
{
    Gdb *g = *state;
    g_autoptr(GByteArray) all = g_byte_array_new();
    for (unsigned i = 0; i < 100; i++) {
        pta_gdb_write(all, "m0,2000", 7);
    }
    size_t done = pta_gdb_session_feed(g->s, all->data, all->len);
    assert_true(done < all->len);
    assert_false(pta_gdb_session_takes_input(g->s));
    assert_true(g->s->out->len < 6 * PTA_GDB_PACKET_MAX);
    while (done < all->len) {
        output(g);
        done += pta_gdb_session_feed(g->s, all->data + done, all->len - done);
    }
    output(g);
    ASK(g, "qC", "QC1");
}

static void queries(void **state)
{
    Gdb *g = *state;
    assert_non_null(
        strstr(ask(g, "qSupported:multiprocess+;swbreak+;hwbreak+"), "PacketSize=4000;"));
    assert_true(g->s->swbreak && g->s->hwbreak);
    ask(g, "qSupported");
    assert_false(g->s->swbreak || g->s->hwbreak);
    ASK(g, "vMustReplyEmpty", "");
    ASK(g, "vCont?", "vCont;c;C;s;S;t;r");
    ASK(g, "qAttached", "1");
    ASK(g, "qTStatus", "");
    ASK(g, "qfThreadInfo", "m1,2,3,4");
    ASK(g, "qsThreadInfo", "l");
    ASK(g, "qThreadExtraInfo,2", "767031202872756e6e696e6729"); /* vp1 (running) */
    ASK(g, "qThreadExtraInfo,5", "E16");
    ASK(g, "qThreadExtraInfo,0", "E16");
    ASK(g, "qThreadExtraInfo,", "E16");
    ASK(g, "qThreadExtraInfo,1x", "E16");
    ASK(g, "!", "");
    ASK(g, "", "");
    ASK(g, "bogus", "");
    ASK(g, "vAttach;1", "");
    ASK(g, "\x80\xff", "");
    assert_string_equal(ask_bytes(g, "qC\0x", 4), "E16;");
}

static void transfers(void **state)
{
    Gdb *g = *state;
    g_autoptr(GString) xml = g_string_new("");
    bool more = true;
    while (more) { /* in odd pieces */
        g_autofree char *packet =
            g_strdup_printf("qXfer:features:read:target.xml:%zx,1f3", xml->len);
        const char *part = ask(g, packet);
        more = *part == 'm';
        assert_true(more || *part == 'l');
        g_string_append_len(xml, part + 1, (gssize)strlen(part) - 2);
    }
    assert_string_equal(xml->str, pta_gdb_target_xml());
    g_autofree char *end = g_strdup_printf("qXfer:features:read:target.xml:%zx,10", xml->len);
    ASK(g, end, "l");
    g_autofree char *behind =
        g_strdup_printf("qXfer:features:read:target.xml:%zx,10", xml->len + 1);
    ASK(g, behind, "E16");
    ASK(g, "qXfer:features:read:target.xml:0", "E16");
    ASK(g, "qXfer:features:read:target.xml:0,", "E16");
    ASK(g, "qXfer:features:read:target.xml:0,10x", "E16");
    ASK(g, "qXfer:features:read:target.xml:ffffffffffffffff,ffffffffffffffff", "E16");
    ASK(g, "qXfer:features:read:other.xml:0,10", "E00");
    ASK(g, "qXfer:auxv:read::0,10", "");
    assert_non_null(strstr(ask(g, "qXfer:threads:read::0,ffffffffffffffff"),
                           "<thread id=\"4\" core=\"3\" name=\"vp3\">running</thread>"));
    ASK(g, "qXfer:threads:read::5000,1", "E16");
}

static void threads(void **state)
{
    Gdb *g = *state;
    ASK(g, "Hg2", "OK");
    ASK(g, "qC", "QC2");
    ASK(g, "Hg0", "OK"); /* any: as it is */
    ASK(g, "Hg-1", "OK");
    ASK(g, "qC", "QC2");
    ASK(g, "Hc-1", "OK");
    assert_int_equal(g->s->resume_vp, -1);
    ASK(g, "Hc4", "OK");
    assert_int_equal(g->s->resume_vp, 3);
    ASK(g, "Hg5", "E16");
    ASK(g, "Hg", "E16");
    ASK(g, "H", "E16");
    ASK(g, "Hx1", "E16");
    ASK(g, "Hgp1.1", "E16");
    ASK(g, "Hg1 ", "E16");
    ASK(g, "Hg10000000000000001", "E16");
    ASK(g, "T1", "OK");
    ASK(g, "T4", "OK");
    ASK(g, "T5", "E16");
    ASK(g, "T0", "E16");
    ASK(g, "T-1", "E16");
    ASK(g, "T", "E16");
}

/* ---- registers and memory ---- */

static void registers(void **state)
{
    Gdb *g = *state;
    ASK(g, "P10=f0debc9a78563412", "OK"); /* RIP */
    ASK(g, "p10", "f0debc9a78563412");
    g_autofree char *all = g_strdup(ask(g, "g"));
    size_t size = 0;
    for (unsigned i = 0; i < pta_gdb_n_registers(); i++) {
        size += pta_gdb_register_size(i);
    }
    assert_int_equal(strlen(all), 2 * size + 1);
    all[2 * size] = '\0'; /* the ";" */
    assert_memory_equal(all + 2 * 16 * 8, "f0debc9a78563412", 16);
    memcpy(all, "0102030405060708", 16); /* RAX */
    g_autofree char *write = g_strconcat("G", all, NULL);
    ASK(g, write, "OK");
    ASK(g, "p0", "0102030405060708");
    PtaX86State cpu;
    pta_partition_get_vp_state(g->f->p, 0, &cpu);
    assert_true(cpu.regs.gpr[PTA_X86_RAX] == 0x0807060504030201);
    /* Another VP has its own. */
    ASK(g, "Hg3", "OK");
    ASK(g, "p0", "0000000000000000");
    write[strlen(write) - 1] = '\0';
    ASK(g, write, "E16");
    write[1] = 'x';
    ASK(g, write, "E16");
    ASK(g, "G", "E16");
    g_autofree char *longer = g_strconcat("G", all, "00", NULL);
    ASK(g, longer, "E16");
    ASK(g, "p1000", "E16");
    ASK(g, "p", "E16");
    ASK(g, "p1z", "E16");
    ASK(g, "pffffffffffffffff", "E16");
    ASK(g, "P0", "E16");
    ASK(g, "P0=", "E16");
    ASK(g, "P0=01", "E16");
    ASK(g, "P0=010203040506070809", "E16");
    ASK(g, "P0=010203040506070x", "E16");
    ASK(g, "Pfff=00", "E16");
    fake_backend_fail_set_state(pta_partition_backend(g->f->p), 2);
    ASK(g, "P0=0102030405060708", "E16"); /* the VP refuses it */
}

static void memory(void **state)
{
    Gdb *g = *state;
    ASK(g, "M1000,4:01020304", "OK");
    ASK(g, "m1000,4", "01020304");
    ASK(g, "m1001,2", "0203");
    assert_string_equal(ask_bytes(g, "X1000,5:a\0$}#", 13), "OK;");
    ASK(g, "m1000,5", "6100247d23");
    assert_memory_equal(ask(g, "x1000,5"), "ba\0$}#;", 7);
    assert_string_equal(ask_bytes(g, "X1000,0:", 8), "OK;");
    ASK(g, "mfffe,4", "0000"); /* up to the end of RAM */
    ASK(g, "m10000,4", "E0e");
    ASK(g, "mffffffffffffffff,4", "E0e");
    ASK(g, "Mfffe,4:01020304", "E0e");
    ASK(g, "mfffe,2", "0000"); /* nothing was written */
    ASK(g, "M20000,1:00", "E0e");
    ASK(g, "m1000,0", "");
    assert_int_equal(strlen(ask(g, "m0,ffffffffffffffff")), PTA_GDB_PACKET_MAX - 2 + 1);
    ASK(g, "m", "E16");
    ASK(g, "m1000", "E16");
    ASK(g, "m1000,", "E16");
    ASK(g, "m1000;4", "E16");
    ASK(g, "mxyz,4", "E16");
    ASK(g, "m1000,4,", "E16");
    ASK(g, "m10000000000000000,4", "E16");
    ASK(g, "M1000,4", "E16");
    ASK(g, "M1000,4:010203", "E16");
    ASK(g, "M1000,4:0102030405", "E16");
    ASK(g, "M1000,4:0102030x", "E16");
    ASK(g, "M1000,ffffffffffffffff:00", "E16");
    ASK(g, "M1000,8000000000000000:", "E16");
    ASK(g, "X1000,4:abc", "E16");
    ASK(g, "X1000,4", "E16");
    ASK(g, "X", "E16");
}

static void physical_memory(void **state)
{
    Gdb *g = *state;
    /* 32-bit paging without tables: nothing is mapped. */
    PtaX86State cpu;
    pta_partition_get_vp_state(g->f->p, 0, &cpu);
    cpu.regs.cr0 = UINT64_C(1) << 31 | 1;
    cpu.regs.cr3 = 0x2000;
    assert_true(pta_partition_set_vp_state(g->f->p, 0, &cpu, NULL));
    ASK(g, "m1000,4", "E0e");
    ASK(g, "M1000,1:00", "E0e");
    ASK(g, "Z0,1000,1", "E0e");
    ASK(g, "qqemu.PhyMemMode", "0");
    ASK(g, "Qqemu.PhyMemMode:1", "OK");
    ASK(g, "qqemu.PhyMemMode", "1");
    ASK(g, "m1000,4", "00000000");
    ASK(g, "Z0,1000,1", "OK");
    ASK(g, "z0,1000,1", "OK");
    ASK(g, "Qqemu.PhyMemMode:2", "E16");
    ASK(g, "Qqemu.PhyMemMode:", "E16");
    ASK(g, "Qqemu.PhyMemMode:0", "OK");
    ASK(g, "m1000,4", "E0e");
}

static void step_flags(void **state)
{
    Gdb *g = *state;
    ASK(g, "qqemu.sstepbits", "ENABLE=1,NOIRQ=2,NOTIMER=4");
    ASK(g, "qqemu.sstep", "0x7");
    ASK(g, "Qqemu.sstep=5", "OK");
    ASK(g, "qqemu.sstep", "0x5");
    ASK(g, "Qqemu.sstep=0x7", "OK");
    ASK(g, "Qqemu.sstep=8", "E16");
    ASK(g, "Qqemu.sstep=", "E16");
}

static const char *monitor(Gdb *g, const char *command)
{
    g_autoptr(GString) packet = g_string_new("qRcmd,");
    pta_gdb_put_bytes(packet, command, strlen(command));
    ask(g, packet->str);
    /* "O" and digits, then OK. */
    g_autoptr(GString) text = g_string_new("");
    for (const char *at = g->answer->str; *at == 'O' && at[1] != 'K';) {
        for (at++; *at != ';'; at += 2) {
            uint8_t byte;
            assert_true(pta_gdb_get_bytes(at, &byte, 1));
            g_string_append_c(text, (char)byte);
        }
        at++;
    }
    assert_true(g_str_has_suffix(g->answer->str, "OK;"));
    g_string_assign(g->answer, text->str);
    return g->answer->str;
}

static void monitor_commands(void **state)
{
    Gdb *g = *state;
    assert_non_null(strstr(monitor(g, "help"), "system_reset"));
    assert_non_null(strstr(monitor(g, "info registers"), "vp0 (running)\nrax "));
    assert_non_null(strstr(monitor(g, "info registers 3"), "vp3"));
    assert_non_null(strstr(monitor(g, "info registers 4"), "no such VP"));
    assert_non_null(strstr(monitor(g, "info registers x"), "no such VP"));
    assert_non_null(strstr(monitor(g, ""), "unknown"));
    assert_non_null(strstr(monitor(g, "\xff\x01"), "unknown"));
    ASK(g, "qRcmd,0", "E16");
    ASK(g, "qRcmd,zz", "E16");
    g->reset_fails = true;
    assert_non_null(strstr(monitor(g, "system_reset"), "told to fail"));
    assert_int_equal(g->s->state, PTA_GDB_STOPPED);
    monitor(g, "quit");
    assert_int_equal(g->kills, 1);
    assert_int_equal(g->s->state, PTA_GDB_ENDED);
}

/* ---- breakpoints ---- */

static void breakpoints(void **state)
{
    Gdb *g = *state;
    ASK(g, "M1000,2:9091", "OK");
    ASK(g, "Z0,1001,1", "OK");
    ASK(g, "m1000,2", "9091");
    uint8_t bytes[2];
    pta_memory_read(g->f->memory, 0x1000, bytes, 2);
    assert_memory_equal(bytes, "\x90\xcc", 2);
    ASK(g, "M1000,2:aabb", "OK");
    pta_memory_read(g->f->memory, 0x1000, bytes, 2);
    assert_memory_equal(bytes, "\xaa\xcc", 2);
    ASK(g, "z0,1001,1", "OK");
    ASK(g, "z0,1001,1", "OK");
    pta_memory_read(g->f->memory, 0x1000, bytes, 2);
    assert_memory_equal(bytes, "\xaa\xbb", 2);
    ASK(g, "Z0,20000,1", "E0e");
    ASK(g, "Z0,1000,2", "E16");
    ASK(g, "Z0,1000", "E16");
    ASK(g, "Z0", "E16");
    ASK(g, "Z", "E16");
    ASK(g, "Zx,0,1", "E16");
    ASK(g, "Z0,1000,1;X0", "E16"); /* conditions were not offered */
    ASK(g, "Z5,0,1", "");
    ASK(g, "z9,0,1", "");
    ASK(g, "Z1,1000,1", "OK");
    ASK(g, "Z2,2000,8", "OK");
    ASK(g, "Z3,3000,4", "OK");
    ASK(g, "Z4,4000,1", "OK");
    ASK(g, "Z1,5000,1", "E1c");
    ASK(g, "Z2,ffffffffffffffff,2", "E16");
    ASK(g, "Z2,0,0", "E16");
    ASK(g, "z3,3000,4", "OK");
    ASK(g, "Z1,5000,1", "OK");
}

/* ---- running ---- */

static void first_stop(void **state)
{
    Gdb *g = *state;
    assert_string_equal(output(g), ""); /* unasked nothing is said */
    assert_true(g_str_has_prefix(ask(g, "?"), "T02thread:1;06:"));
    assert_false(fixture_any_in_run(g->f));
    assert_int_equal(g->f->halts, 0);
}

static void wait_all_running(Gdb *g)
{
    for (unsigned i = 0; i < N_VPS; i++) {
        fixture_wait_running(g->f, i);
    }
}

static void interrupts(void **state)
{
    Gdb *g = *state;
    feed(g, "\003", 1); /* while it is stopped: nothing */
    for (unsigned i = 0; i < 20; i++) {
        assert_string_equal(ask(g, i % 2 ? "vCont;c" : "c"), "");
        wait_all_running(g);
        feed(g, "\003", 1);
        feed(g, "\003", 1); /* impatient */
        assert_string_equal(wait_stop(g), "T02thread:1;");
        assert_false(fixture_any_in_run(g->f));
    }
    fixture_drain();
    assert_string_equal(output(g), "");
    assert_int_equal(g->goes, 20);
    assert_int_equal(g->f->halts, 0);
}

static void while_it_runs(void **state)
{
    Gdb *g = *state;
    ask(g, "c");
    ASK(g, "g", "E10");
    ASK(g, "m0,1", "E10");
    ASK(g, "c", "E10");
    ASK(g, "vCont;s", "E10");
    ASK(g, "qC", "E10");
    ASK(g, "Z0,0,1", "E10");
    wait_all_running(g);
    ASK(g, "D", "OK");
    assert_int_equal(g->s->state, PTA_GDB_ENDED);
    wait_all_running(g);
    assert_int_equal(g->f->halts, 0);
}

static void reasons(void **state)
{
    Gdb *g = *state;
    ask(g, "qSupported:swbreak+;hwbreak+");
    ASK(g, "Z1,5000,1", "OK");
    ASK(g, "Z2,6000,4", "OK");
    ASK(g, "Z3,7000,4", "OK");
    ASK(g, "Z4,8000,4", "OK");
    ASK(g, "Z0,0,1", "OK"); /* all VPs are at 0 */
    static const struct {
        unsigned vector;
        uint64_t dr6;
        const char *expected;
    } cases[] = {
        { 1, 1 << 0, "T05thread:3;hwbreak:;" },
        { 1, 1 << 1, "T05thread:3;watch:6000;" },
        { 1, 1 << 2, "T05thread:3;rwatch:7000;" },
        { 1, 1 << 3, "T05thread:3;awatch:8000;" },
        { 1, 1 << 14, "T05thread:3;" },
        { 1, 1 << 14 | 2, "T05thread:3;watch:6000;" },
        { 3, 0, "T05thread:3;swbreak:;" },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_string_equal(ask(g, "c"), "");
        vp_exits(g, 2, cases[i].vector, cases[i].dr6);
        assert_string_equal(wait_stop(g), cases[i].expected);
        ASK(g, "qC", "QC3");
    }
    ask(g, "qSupported"); /* one that does not know these */
    ask(g, "c");
    vp_exits(g, 1, 1, 1);
    assert_string_equal(wait_stop(g), "T05thread:2;");
    ask(g, "c");
    vp_exits(g, 1, 3, 0);
    assert_string_equal(wait_stop(g), "T05thread:2;");
    assert_int_equal(g->f->halts, 0);
}

static void int3_of_the_guest(void **state)
{
    Gdb *g = *state;
    ASK(g, "Z0,4000,1", "OK");
    ask(g, "c");
    vp_exits(g, 1, 3, 0); /* at 0, where there is none of ours */
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    PtaX86State cpu = { 0 };
    while (!cpu.events.exception_pending) {
        g_main_context_iteration(NULL, FALSE);
        pta_partition_get_vp_state(g->f->p, 1, &cpu);
        assert_true(g_get_monotonic_time() < end);
    }
    assert_int_equal(cpu.events.vector, 3);
    assert_int_equal(cpu.events.has_error_code, 0);
    assert_int_equal(cpu.regs.rip, 1);
    wait_all_running(g); /* and it goes on */
    assert_string_equal(output(g), "");
    feed(g, "\003", 1);
    assert_string_equal(wait_stop(g), "T02thread:1;");
}

static PtaGuestDebug debug_of(Gdb *g, unsigned vp)
{
    return fake_vp_debug(fixture_vp(g->f, vp));
}

/* Which VPs run, as a bit mask; the machine is stopped again. */
static unsigned who_runs(Gdb *g, const char *packet)
{
    uint64_t before[N_VPS];
    for (unsigned i = 0; i < N_VPS; i++) {
        before[i] = fake_vp_executed(fixture_vp(g->f, i));
    }
    assert_string_equal(ask(g, packet), "");
    g_usleep(20000);
    feed(g, "\003", 1);
    wait_stop(g);
    unsigned mask = 0;
    for (unsigned i = 0; i < N_VPS; i++) {
        mask |= fake_vp_executed(fixture_vp(g->f, i)) > before[i] ? 1u << i : 0;
    }
    return mask;
}

static void who_goes_on(void **state)
{
    Gdb *g = *state;
    assert_int_equal(who_runs(g, "vCont;c"), 0xf);
    assert_int_equal(who_runs(g, "vCont;c:2"), 0x2);
    assert_int_equal(who_runs(g, "vCont;c:-1"), 0xf);
    assert_int_equal(who_runs(g, "vCont;t:1;c"), 0xe);
    assert_int_equal(who_runs(g, "vCont;C05:1;c:4"), 0x9);
    assert_int_equal(who_runs(g, "vCont;s:3;c"), 0xf);
    assert_true(debug_of(g, 2).single_step && debug_of(g, 2).enabled);
    assert_true(debug_of(g, 2).block_interrupts);
    assert_false(debug_of(g, 1).enabled);
    assert_int_equal(who_runs(g, "vCont;s:1"), 0x1);
    assert_false(debug_of(g, 2).single_step);
    ask(g, "Qqemu.sstep=1");
    assert_int_equal(who_runs(g, "vCont;s:1"), 0x1);
    assert_false(debug_of(g, 0).block_interrupts);
    ask(g, "Hg3");
    assert_int_equal(who_runs(g, "vCont;c:0"), 0x4);
    ask(g, "Hc2");
    assert_int_equal(who_runs(g, "c"), 0x2);
    ask(g, "Hc-1");
    assert_int_equal(who_runs(g, "c"), 0xf);
    ask(g, "Hg4");
    assert_int_equal(who_runs(g, "s"), 0x8);
    assert_int_equal(who_runs(g, "C05"), 0xf);
    ask(g, "Hg2");
    assert_int_equal(who_runs(g, "S05;4000"), 0x2);
    ask(g, "Hg2");
    ASK(g, "p10", "0040000000000000");
    ASK(g, "vCont", "E16");
    ASK(g, "vCont;", "E16");
    ASK(g, "vCont;x", "E16");
    ASK(g, "vCont;c:", "E16");
    ASK(g, "vCont;c:9", "E16");
    ASK(g, "vCont;c:1x", "E16");
    ASK(g, "vCont;c;", "E16");
    ASK(g, "vCont;t", "E16");
    ASK(g, "vCont;C", "E16");
    ASK(g, "vCont;r1:1", "E16");
    ASK(g, "cxyz", "E16");
    ASK(g, "c10000000000000000", "E16");
    ASK(g, "Cxx", "E16");
    ASK(g, "C", "E16");
    ASK(g, "S05:1", "E16");
}

static void a_range_is_one_step(void **state)
{
    Gdb *g = *state;
    PtaX86State cpu;
    assert_string_equal(ask(g, "vCont;r0,10:2"), "");
    for (unsigned i = 0; i < 5; i++) { /* RIP stays 0, in the range */
        fixture_wait_running(g->f, 1);
        unsigned entered = fake_vp_entered(fixture_vp(g->f, 1));
        vp_exits(g, 1, 1, 1 << 14);
        gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
        while (fake_vp_entered(fixture_vp(g->f, 1)) == entered) {
            g_main_context_iteration(NULL, FALSE);
            assert_true(g_get_monotonic_time() < end);
        }
        assert_string_equal(output(g), "");
    }
    feed(g, "\003", 1);
    assert_string_equal(wait_stop(g), "T02thread:1;");
    pta_partition_get_vp_state(g->f->p, 1, &cpu);
    cpu.regs.rip = 0x10;
    pta_partition_set_vp_state(g->f->p, 1, &cpu, NULL);
    assert_string_equal(ask(g, "vCont;r0,10:2"), "");
    vp_exits(g, 1, 1, 1 << 14);
    assert_string_equal(wait_stop(g), "T05thread:2;");
}

static void gets_over_what_it_reported(void **state)
{
    Gdb *g = *state;
    ASK(g, "Z1,0,1", "OK");
    assert_string_equal(ask(g, "c"), "");
    assert_false(debug_of(g, 1).pass);
    vp_exits(g, 1, 1, 1);
    wait_stop(g);
    assert_string_equal(ask(g, "c"), "");
    assert_true(debug_of(g, 1).pass);
    assert_false(debug_of(g, 0).pass);
    vp_exits(g, 1, 1, 1);
    wait_stop(g);
    ASK(g, "P10=1000000000000000", "OK"); /* somewhere else: there it counts */
    ask(g, "c");
    assert_false(debug_of(g, 1).pass);
    vp_exits(g, 1, 1, 1 << 14);
    wait_stop(g);
    ask(g, "c"); /* only a step had been reported */
    assert_false(debug_of(g, 1).pass);
}

/* ---- halts that are not the debugger's ---- */

static void other_halts(void **state)
{
    static const struct {
        PtaHaltKind kind;
        const char *expected;
    } cases[] = {
        { PTA_HALT_POWER_OFF, "W00;" },
        { PTA_HALT_HIBERNATE, "W00;" },
        { PTA_HALT_DEBUG_EXIT, "W00;" },
        { PTA_HALT_TRIPLE_FAULT, "T0bthread:1;" },
        { PTA_HALT_PANIC, "T06thread:1;" },
        { PTA_HALT_WATCHDOG, "T06thread:1;" },
        { PTA_HALT_INTERNAL_ERROR, "T06thread:1;" },
    };
    Gdb *g = *state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        ask(g, "c");
        fixture_halt(g->f, cases[i].kind);
        assert_string_equal(wait_stop(g), cases[i].expected);
        assert_int_equal(g->f->halts, i);
        assert_true(g_str_has_prefix(ask(g, "c"), *cases[i].expected == 'W' ? "W00" : "T"));
        assert_false(fixture_any_in_run(g->f)); /* it cannot go on */
        ASK(g, "D", "OK");
        assert_int_equal(g->f->halts, i + 1);
        assert_int_equal(g->f->last, cases[i].kind);
        assert_false(fixture_any_in_run(g->f));
        leave(g);
        pta_partition_clear_halt(g->f->p);
        attach(g);
    }
}

static void a_reset_of_the_guest(void **state)
{
    Gdb *g = *state;
    ask(g, "c");
    fixture_halt(g->f, PTA_HALT_RESET);
    assert_string_equal(wait_stop(g), "T01thread:1;");
    assert_int_equal(g->resets, 0);
    g->reset_fails = true;
    ASK(g, "c", "E.cannot reset the machine: told to fail");
    g->reset_fails = false;
    assert_string_equal(ask(g, "c"), "");
    assert_int_equal(g->resets, 2);
    wait_all_running(g);
    feed(g, "\003", 1);
    assert_string_equal(wait_stop(g), "T02thread:1;");
    assert_non_null(strstr(monitor(g, "system_reset"), "was reset"));
    assert_int_equal(g->resets, 3);
    fixture_wait_for(&g->outputs, g->outputs + 1);
    assert_int_equal(g->s->state, PTA_GDB_STOPPED);
    assert_false(fixture_any_in_run(g->f));
    assert_string_equal(output(g), "");
    assert_int_equal(g->f->halts, 0);
}

/* A reset takes its time; the session may end in between. */
static void a_reset_that_takes_long(void **state)
{
    Gdb *g = *state;
    g->reset_waits = true;
    ask(g, "qRcmd,7265736574"); /* reset */
    assert_string_equal(g->answer->str, "");
    assert_int_equal(g->s->state, PTA_GDB_RESETTING);
    assert_int_equal(pta_gdb_session_feed(g->s, "\003", 1), 0);
    finish_reset(g);
    fixture_wait_for(&g->outputs, g->outputs + 1);
    assert_true(g_str_has_suffix(output(g), ";OK;"));
    ASK(g, "qC", "QC1");
    ask(g, "qRcmd,7265736574");
    leave(g);
    assert_false(fixture_any_in_run(g->f));
    finish_reset(g);
    wait_all_running(g);
    assert_int_equal(g->f->halts, 0);
    attach(g);
}

static void one_debugger(void **state)
{
    Gdb *g = *state;
    g_autoptr(GError) error = NULL;
    assert_null(pta_gdb_session_new(&g->env, on_output, g, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_STATE));
    ASK(g, "qC", "QC1");
}

/* However it goes away, the guest goes on and nobody hears of stops. */
static void going_away(void **state)
{
    Gdb *g = *state;
    for (unsigned how = 0; how < 6; how++) {
        ASK(g, "Z0,1000,1", "OK");
        ASK(g, "Z1,2000,1", "OK");
        if (how >= 2) {
            ask(g, "vCont;s:1;c");
        }
        if (how == 3) {
            wait_all_running(g);
            feed(g, "\003", 1); /* and does not wait for the answer */
        } else if (how >= 4) {  /* a breakpoint is met, and nobody was told yet */
            wait_all_running(g);
            vp_exits(g, 1, how == 4 ? 1 : 3, 1);
            while (fake_vp_in_run(fixture_vp(g->f, 1))) {
                g_thread_yield();
            }
        }
        if (how % 2) {
            leave(g);
        } else {
            ASK(g, "D", "OK");
            leave(g);
        }
        uint8_t byte;
        pta_memory_read(g->f->memory, 0x1000, &byte, 1);
        assert_int_equal(byte, 0);
        fixture_drain();
        wait_all_running(g);
        assert_false(pta_partition_debug_attached(g->f->p));
        assert_int_equal(g->f->halts, 0);
        attach(g);
        assert_false(debug_of(g, 0).enabled);
    }
    /* As soon as it has come. */
    ask(g, "D");
    pta_gdb_session_free(g->s);
    g->s = pta_gdb_session_new(&g->env, on_output, g, NULL);
    assert_int_equal(pta_gdb_session_feed(g->s, "$?#3f", 5), 0); /* not before it is stopped */
    pta_gdb_session_free(g->s);
    fixture_drain();
    wait_all_running(g);
    assert_int_equal(g->f->halts, 0);
    attach(g);
}

static void kills(void **state)
{
    Gdb *g = *state;
    uint64_t executed = fake_vp_executed(fixture_vp(g->f, 0));
    ask(g, "k");
    assert_int_equal(g->kills, 1);
    g_usleep(5000);
    assert_int_equal(fake_vp_executed(fixture_vp(g->f, 0)), executed);
    leave(g);
    attach(g);
    ASK(g, "vKill;1", "OK");
    assert_int_equal(g->kills, 2);
    leave(g);
    attach(g);
    ask(g, "c");
    ask(g, "k"); /* while it runs */
    assert_int_equal(g->kills, 3);
}

/* The machine ends: what the guest has done by then leads to nothing. */
static void kills_what_has_halted(void **state)
{
    Gdb *g = *state;
    ask(g, "c");
    fixture_halt(g->f, PTA_HALT_POWER_OFF);
    assert_string_equal(wait_stop(g), "W00;");
    ask(g, "k");
    assert_int_equal(g->kills, 1);
    assert_int_equal(g->f->halts, 0);
}

#define GDB(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        GDB(acknowledgements),
        GDB(packets_that_are_too_long),
        GDB(output_is_bounded),
        GDB(queries),
        GDB(transfers),
        GDB(threads),
        GDB(registers),
        GDB(memory),
        GDB(physical_memory),
        GDB(step_flags),
        GDB(monitor_commands),
        GDB(breakpoints),
        GDB(first_stop),
        GDB(interrupts),
        GDB(while_it_runs),
        GDB(reasons),
        GDB(int3_of_the_guest),
        GDB(who_goes_on),
        GDB(a_range_is_one_step),
        GDB(gets_over_what_it_reported),
        GDB(other_halts),
        GDB(a_reset_of_the_guest),
        GDB(a_reset_that_takes_long),
        GDB(one_debugger),
        GDB(going_away),
        GDB(kills),
        GDB(kills_what_has_halted),
    };
    return cmocka_run_group_tests_name("gdb-session", tests, NULL, NULL);
}
