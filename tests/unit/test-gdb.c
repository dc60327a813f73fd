/* Packets, registers and breakpoints of the debugger's stub, without a session. */
#include "config.h"

#include "src/partition/gdb-break.h"
#include "src/partition/gdb-packet.h"
#include "src/partition/gdb-target.h"
#include "tests/lib/cmocka-all.h"

#include <errno.h>
#include <string.h>

/* ---- packets ---- */

/* Items of a text as letters, packets as their payload in quotes; fed in chunks of any size. */
static char *items(const char *bytes, size_t len, size_t chunk)
{
    static const char letters[] = "?P+-IB>";
    g_autofree PtaGdbReader *r = g_new0(PtaGdbReader, 1);
    GString *log = g_string_new("");
    for (size_t at = 0; at < len;) {
        PtaGdbItem item;
        size_t n = pta_gdb_read(r, bytes + at, MIN(chunk, len - at), &item);
        assert_true(n > 0);
        at += n;
        if (item == PTA_GDB_PACKET) {
            assert_int_equal(r->data[r->len], 0);
            g_string_append_printf(log, "'%s'", r->data);
        } else if (item != PTA_GDB_NOTHING) {
            g_string_append_c(log, letters[item]);
        }
    }
    return g_string_free(log, FALSE);
}

static void check_items(const char *bytes, size_t len, const char *expected)
{
    for (size_t chunk = 1; chunk <= len; chunk += chunk < 9 ? 1 : len / 3) {
        g_autofree char *found = items(bytes, len, chunk);
        assert_string_equal(found, expected);
    }
}

#define ITEMS(bytes, expected) check_items(bytes, sizeof(bytes) - 1, expected)

static void packets(void **state)
{
    ITEMS("$g#67", "'g'");
    ITEMS("$#00", "''");
    ITEMS("+$g#67-", "+'g'-");
    ITEMS("$g#67$?#3f", "'g''?'");
    ITEMS("\003", "I");
    ITEMS("+\003$g#67", "+I'g'");
    ITEMS("$ab\003c#29", "'ab\003c'"); /* within a packet it is data */
    ITEMS("$a}]b#9d", "'a}b'");
    ITEMS("$a}\003b#43", "'a#b'");
}

static void damaged_packets(void **state)
{
    ITEMS("$g#66", "B");
    ITEMS("$g#6z", "B");
    ITEMS("$g#zz", "B");
    ITEMS("$g##7", "B");
    ITEMS("$G#67", "B");
    ITEMS("garbage$g#67noise$?#3f\r\n", "'g''?'");
    ITEMS("$cut short$g#67", "'g'"); /* what follows is understood again */
    ITEMS("$cut}$g#67", "'g'");
    ITEMS("#67g$g#67", "'g'");
    ITEMS("$g", "");
    ITEMS("$g#6", "");
    ITEMS("\xff\xfe$g#67", "'g'");
}

static void long_packets(void **state)
{
    for (size_t more = 0; more < 3; more++) {
        size_t len = PTA_GDB_PACKET_MAX - 1 + more;
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autofree char *payload = g_strnfill(len, 'x');
        pta_gdb_write(out, payload, len);
        g_autofree PtaGdbReader *r = g_new0(PtaGdbReader, 1);
        PtaGdbItem item;
        assert_int_equal(pta_gdb_read(r, out->data, out->len, &item), out->len);
        assert_int_equal(item, len <= PTA_GDB_PACKET_MAX ? PTA_GDB_PACKET : PTA_GDB_TOO_LONG);
        assert_int_equal(r->len, MIN(len, PTA_GDB_PACKET_MAX));
        pta_gdb_read(r, "$g#67", 5, &item);
        assert_int_equal(item, PTA_GDB_PACKET);
        assert_string_equal(r->data, "g");
    }
}

static void writes_what_it_reads(void **state)
{
    uint8_t all[256];
    for (unsigned i = 0; i < 256; i++) {
        all[i] = (uint8_t)i;
    }
    g_autoptr(GByteArray) out = g_byte_array_new();
    pta_gdb_write(out, all, sizeof(all));
    g_autofree PtaGdbReader *r = g_new0(PtaGdbReader, 1);
    PtaGdbItem item;
    assert_int_equal(pta_gdb_read(r, out->data, out->len, &item), out->len);
    assert_int_equal(item, PTA_GDB_PACKET);
    assert_int_equal(r->len, sizeof(all));
    assert_memory_equal(r->data, all, sizeof(all));
    /* No byte that means something stands in it. */
    for (unsigned i = 1; i + 3 < out->len; i++) {
        assert_true(out->data[i] != '$' && out->data[i] != '#' && out->data[i] != '*');
    }
}

static void numbers(void **state)
{
    uint64_t v;
    const char *at = "ffffffffffffffff,12";
    assert_true(pta_gdb_get_u64(&at, &v));
    assert_true(v == UINT64_MAX);
    assert_string_equal(at, ",12");
    at = "10000000000000000";
    assert_false(pta_gdb_get_u64(&at, &v));
    at = "0000000000000000000001";
    assert_true(pta_gdb_get_u64(&at, &v));
    assert_int_equal(v, 1);
    at = "";
    assert_false(pta_gdb_get_u64(&at, &v));
    at = "-1";
    assert_false(pta_gdb_get_u64(&at, &v));
    uint8_t bytes[3];
    assert_true(pta_gdb_get_bytes("00fFa5", bytes, 3));
    assert_memory_equal(bytes, "\x00\xff\xa5", 3);
    assert_false(pta_gdb_get_bytes("00fg00", bytes, 3));
    assert_false(pta_gdb_get_bytes("00f", bytes, 2)); /* does not look behind the end */
    g_autoptr(GString) out = g_string_new("");
    pta_gdb_put_bytes(out, bytes, 2);
    pta_gdb_put_u64(out, 0);
    pta_gdb_put_u64(out, UINT64_MAX);
    assert_string_equal(out->str, "00ff0ffffffffffffffff");
}

/* ---- registers ---- */

static unsigned reg_named(const char *name)
{
    for (unsigned i = 0; i < pta_gdb_n_registers(); i++) {
        if (strcmp(pta_gdb_register_name(i), name) == 0) {
            return i;
        }
    }
    fail_msg("no register %s", name);
    return 0;
}

/* The description and the table are one: name by name, in order, with the sizes of the packets. */
static void description_and_registers_agree(void **state)
{
    const char *at = pta_gdb_target_xml();
    for (unsigned i = 0; i < pta_gdb_n_registers(); i++) {
        at = strstr(at, "<reg name=\"");
        assert_non_null(at);
        g_autofree char *expected =
            g_strdup_printf("<reg name=\"%s\" bitsize=\"%zu\"", pta_gdb_register_name(i),
                            pta_gdb_register_size(i) * 8);
        assert_memory_equal(at, expected, strlen(expected));
        at++;
    }
    assert_null(strstr(at, "<reg "));
    assert_int_equal(reg_named("rbp"), PTA_GDB_REG_RBP);
    assert_int_equal(reg_named("rsp"), PTA_GDB_REG_RSP);
    assert_int_equal(reg_named("rip"), PTA_GDB_REG_RIP);
    /* The numbers that gdb has for them on its own, should it not read the description. */
    assert_int_equal(reg_named("st0"), 24);
    assert_int_equal(reg_named("xmm0"), 40);
    assert_int_equal(reg_named("mxcsr"), 56);
    static const char *const features[] = { "org.gnu.gdb.i386.core", "org.gnu.gdb.i386.sse",
                                            "org.gnu.gdb.i386.segments" };
    for (unsigned i = 0; i < G_N_ELEMENTS(features); i++) {
        assert_non_null(strstr(pta_gdb_target_xml(), features[i]));
    }
}

/* Each register reads what was written to it, and no two are the same place. */
static void registers_keep_values(void **state)
{
    g_autofree PtaX86State *cpu = g_new0(PtaX86State, 1);
    unsigned n = pta_gdb_n_registers();
    uint8_t value[16], found[16];
    for (unsigned i = 0; i < n; i++) {
        memset(value, 0, sizeof(value));
        value[0] = (uint8_t)(i + 2) & 0xfe;
        value[1] = (uint8_t)(i / 2);
        if (strcmp(pta_gdb_register_name(i), "ftag") == 0) {
            memcpy(value, "\xff\xff", 2); /* all empty */
        } else if (strcmp(pta_gdb_register_name(i), "eflags") == 0) {
            value[0] |= 2;
        }
        assert_true(pta_gdb_register_set(cpu, i, value));
    }
    for (unsigned i = 0; i < n; i++) {
        const char *name = pta_gdb_register_name(i);
        memset(value, 0, sizeof(value));
        value[0] = (uint8_t)(i + 2) & 0xfe;
        value[1] = (uint8_t)(i / 2);
        pta_gdb_register_get(cpu, i, found);
        if (strcmp(name, "ftag") == 0) {
            memcpy(value, "\xff\xff", 2);
        } else if (strcmp(name, "eflags") == 0) {
            value[0] |= 2;
        }
        if (memcmp(found, value, pta_gdb_register_size(i)) != 0) {
            fail_msg("%s has lost its value", name);
        }
    }
}

static void set_u32(PtaX86State *cpu, const char *name, uint32_t v, bool works)
{
    uint8_t value[16] = { 0 };
    memcpy(value, &v, sizeof(v));
    assert_int_equal(pta_gdb_register_set(cpu, reg_named(name), value), works);
}

static void impossible_values(void **state)
{
    g_autofree PtaX86State *cpu = g_new0(PtaX86State, 1);
    set_u32(cpu, "cs", 0x1234, true); /* real mode */
    assert_int_equal(cpu->regs.seg[PTA_X86_CS].base, 0x12340);
    set_u32(cpu, "cs", 0x10000, false);
    set_u32(cpu, "fctrl", 0x10000, false);
    set_u32(cpu, "ftag", 0x10000, false);
    set_u32(cpu, "mxcsr", 0x10000, false);
    cpu->regs.cr0 = 1;
    set_u32(cpu, "cs", 0x1234, true); /* as it is */
    set_u32(cpu, "cs", 0x1235, false);
    cpu->regs.rflags = 1 << 17;
    set_u32(cpu, "ds", 0x77, true);
    assert_int_equal(cpu->regs.seg[PTA_X86_DS].base, 0x770);
}

static uint32_t tag(const PtaX86State *cpu)
{
    uint8_t value[16];
    uint32_t v;
    pta_gdb_register_get(cpu, reg_named("ftag"), value);
    memcpy(&v, value, sizeof(v));
    return v;
}

static void tag_word(void **state)
{
    g_autofree PtaX86State *cpu = g_new0(PtaX86State, 1);
    uint8_t *area = cpu->xsave.area;
    assert_int_equal(tag(cpu), 0xffff);
    area[3] = 6 << 3; /* TOP is 6: ST(0) is register 6, ST(1) register 7, ST(2) register 0 */
    area[4] = 1 << 6 | 1 << 7 | 1 << 0;
    memset(area + 32, 0, 10);                            /* zero */
    memcpy(area + 48, "\0\0\0\0\0\0\0\x80\xff\x3f", 10); /* one */
    memcpy(area + 64, "\0\0\0\0\0\0\0\x80\xff\x7f", 10); /* infinity */
    assert_int_equal(tag(cpu), (0xffff & ~(3 << 12 | 3 << 14 | 3)) | 1 << 12 | 2);
    set_u32(cpu, "ftag", 0xfffc, true);
    assert_int_equal(area[4], 1);
}

static void linear_rip(void **state)
{
    PtaX86Regs regs = { .rip = 0xffffffff81000010 };
    regs.seg[PTA_X86_CS].base = 0x10000;
    assert_int_equal(pta_gdb_linear_rip(&regs), 0x81010010);
    regs.efer = 1 << 10;
    assert_int_equal(pta_gdb_linear_rip(&regs), 0x81010010); /* compatibility mode */
    regs.seg[PTA_X86_CS].attrs = 1 << 13;
    assert_true(pta_gdb_linear_rip(&regs) == 0xffffffff81000010);
}

/* ---- breakpoints ---- */

typedef struct Breaks {
    PtaMemory *memory;
    PtaGdbBreaks *b;
} Breaks;

static int breaks_setup(void **state)
{
    static const PtaRamRange ram = { 0, 0x10000 };
    Breaks *f = g_new0(Breaks, 1);
    f->memory = pta_memory_new(&ram, 1, NULL);
    f->b = g_new0(PtaGdbBreaks, 1);
    f->b->memory = f->memory;
    *state = f;
    return 0;
}

static int breaks_teardown(void **state)
{
    Breaks *f = *state;
    pta_memory_free(f->memory);
    g_free(f->b);
    g_free(f);
    return 0;
}

static unsigned raw(Breaks *f, uint64_t gpa)
{
    uint8_t byte;
    assert_int_equal(pta_memory_read(f->memory, gpa, &byte, 1), PTA_MEM_OK);
    return byte;
}

static unsigned seen(Breaks *f, uint64_t gpa)
{
    uint8_t byte;
    assert_int_equal(pta_gdb_memory_read(f->b, gpa, &byte, 1), PTA_MEM_OK);
    return byte;
}

static void int3_comes_and_goes(void **state)
{
    Breaks *f = *state;
    pta_memory_write(f->memory, 0x1000, "\x90\x91\x92", 3);
    assert_int_equal(pta_gdb_software_add(f->b, 0xffff1001, 0x1001), 0);
    assert_int_equal(pta_gdb_software_add(f->b, 0xffff1001, 0x1001), 0); /* once more: the same */
    assert_int_equal(f->b->n_software, 1);
    assert_int_equal(raw(f, 0x1001), 0xcc);
    assert_int_equal(seen(f, 0x1001), 0x91);
    assert_true(pta_gdb_software_at(f->b, 0x1001));
    assert_false(pta_gdb_software_at(f->b, 0x1000));
    /* The same byte at another virtual address. */
    assert_int_equal(pta_gdb_software_add(f->b, 0x7001, 0x1001), 0);
    assert_int_equal(pta_gdb_software_remove(f->b, 0xffff1001), 0);
    assert_int_equal(raw(f, 0x1001), 0xcc);
    assert_int_equal(pta_gdb_software_remove(f->b, 0x7001), 0);
    assert_int_equal(raw(f, 0x1001), 0x91);
    assert_int_equal(pta_gdb_software_remove(f->b, 0x7001), 0);
    assert_int_equal(pta_gdb_software_add(f->b, 0x20000, 0x20000), EFAULT);
}

static void writes_go_under_breakpoints(void **state)
{
    Breaks *f = *state;
    uint8_t text[4] = { 1, 2, 3, 4 };
    pta_gdb_software_add(f->b, 0x1001, 0x1001);
    assert_int_equal(pta_gdb_memory_write(f->b, 0x1000, text, 4), PTA_MEM_OK);
    assert_int_equal(raw(f, 0x1001), 0xcc);
    assert_int_equal(seen(f, 0x1001), 2);
    /* What the guest writes there itself stays. */
    pta_memory_write(f->memory, 0x1001, "\x55", 1);
    assert_int_equal(seen(f, 0x1001), 0x55);
    pta_gdb_breaks_clear(f->b);
    assert_int_equal(raw(f, 0x1001), 0x55);
    /* The page of a virtual address is another one now. */
    pta_gdb_software_add(f->b, 0x9000, 0x1000);
    pta_gdb_software_add(f->b, 0x9000, 0x2000);
    assert_int_equal(raw(f, 0x1000), 1);
    assert_int_equal(raw(f, 0x2000), 0xcc);
    pta_gdb_breaks_clear(f->b);
    assert_int_equal(raw(f, 0x2000), 0);
}

static void too_many_breakpoints(void **state)
{
    Breaks *f = *state;
    for (unsigned i = 0; i < PTA_GDB_MAX_SOFTWARE; i++) {
        assert_int_equal(pta_gdb_software_add(f->b, 0x1000 + i, 0x1000 + i), 0);
    }
    assert_int_equal(pta_gdb_software_add(f->b, 0x8000, 0x8000), ENOSPC);
    assert_int_equal(raw(f, 0x8000), 0);
    pta_gdb_breaks_clear(f->b);
    for (unsigned i = 0; i < PTA_GDB_MAX_SOFTWARE; i++) {
        assert_int_equal(raw(f, 0x1000 + i), 0);
    }
}

static void debug_registers(void **state)
{
    Breaks *f = *state;
    PtaGdbBreaks *b = f->b;
    PtaGuestDebug debug = { 0 };
    pta_gdb_breaks_fill(b, &debug);
    assert_false(debug.enabled);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_HARDWARE, 0x1234, 1), 0);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_HARDWARE, 0x1234, 1), 0);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_WATCH_WRITE, 0x2000, 8), 0);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_WATCH_ACCESS, 0x2001, 3), 0); /* 1 + 2 */
    pta_gdb_breaks_fill(b, &debug);
    assert_true(debug.enabled);
    assert_false(debug.sw_breakpoints);
    assert_int_equal(debug.dr[0], 0x1234);
    assert_int_equal(debug.dr[1], 0x2000);
    assert_int_equal(debug.dr[2], 0x2001);
    assert_int_equal(debug.dr[3], 0x2002);
    assert_int_equal(debug.dr7, 0xaa | 0x0u << 16 | 0x9u << 20 | 0x3u << 24 | 0x7u << 28);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_WATCH_READ, 0x3000, 1), ENOSPC);
    assert_int_equal(pta_gdb_hardware_hit(b, 1 << 3)->lin, 0x2001);
    assert_null(pta_gdb_hardware_hit(b, 1 << 14));
    pta_gdb_hardware_remove(b, PTA_GDB_WATCH_ACCESS, 0x2001, 3);
    assert_null(pta_gdb_hardware_hit(b, 1 << 3));
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_WATCH_WRITE, 0x3001, 8), ENOSPC); /* 1+2+4+1 */
    pta_gdb_breaks_fill(b, &debug);
    assert_int_equal(debug.dr7, 0xa | 0x9u << 20); /* a failure leaves nothing */
    pta_gdb_breaks_clear(b);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_WATCH_WRITE, UINT64_MAX, 1), 0);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_WATCH_WRITE, UINT64_MAX, 2), EINVAL);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_WATCH_WRITE, 0, UINT64_MAX), ENOSPC);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_WATCH_WRITE, 0, 0), EINVAL);
    assert_int_equal(pta_gdb_hardware_add(b, PTA_GDB_HARDWARE, 0, 2), EINVAL);
}

#define BREAKS(name) cmocka_unit_test_setup_teardown(name, breaks_setup, breaks_teardown)

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets),
        cmocka_unit_test(damaged_packets),
        cmocka_unit_test(long_packets),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(numbers),
        cmocka_unit_test(description_and_registers_agree),
        cmocka_unit_test(registers_keep_values),
        cmocka_unit_test(impossible_values),
        cmocka_unit_test(tag_word),
        cmocka_unit_test(linear_rip),
        BREAKS(int3_comes_and_goes),
        BREAKS(writes_go_under_breakpoints),
        BREAKS(too_many_breakpoints),
        BREAKS(debug_registers),
    };
    return cmocka_run_group_tests_name("gdb", tests, NULL, NULL);
}
