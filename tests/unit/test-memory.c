/* Guest memory: ranges, holes, wrap-around, words, iovecs, and who hears of writes. */
#include "config.h"

#include "src/memory/memory.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

static PtaMemory *two_ranges(void)
{
    static const PtaRamRange ranges[] = {
        { 0, 0x4000 },
        { 0x4000, 0x1000 }, /* adjacent in guest and host */
        { 0x100000, 0x2000 },
    };
    g_autoptr(GError) error = NULL;
    PtaMemory *mem = pta_memory_new(ranges, G_N_ELEMENTS(ranges), &error);
    assert_null(error);
    assert_non_null(mem);
    return mem;
}

static void ranges_are_checked(void **unused)
{
    static const struct {
        PtaRamRange ranges[2];
        size_t n;
        const char *text;
    } bad[] = {
        { { { 0, 0 } }, 1, "empty" },
        { { { 0x800, 0x1000 } }, 1, "not page-aligned" },
        { { { 0, 0x1800 } }, 1, "not page-aligned" },
        { { { UINT64_C(0xfffffffffffff000), 0x2000 } }, 1, "passes the end" },
        { { { 0, 0x2000 }, { 0x1000, 0x1000 } }, 2, "overlaps" },
        { { { 0x4000, 0x1000 }, { 0, 0x1000 } }, 2, "precedes" },
        { { { 0, 0x1000 } }, 0, "0 RAM ranges" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(pta_memory_new(bad[i].ranges, bad[i].n, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
        assert_non_null(strstr(error->message, bad[i].text));
    }
}

static void copies_cross_ranges_but_not_holes(void **unused)
{
    g_autoptr(PtaMemory) mem = two_ranges();
    assert_int_equal(pta_memory_ram_size(mem), 0x7000);
    uint8_t out[0x1000], in[0x1000];
    for (size_t i = 0; i < sizeof(out); i++) {
        out[i] = (uint8_t)(i * 7 + 1);
    }
    assert_int_equal(pta_memory_write(mem, 0x3800, out, sizeof(out)), PTA_MEM_OK);
    assert_int_equal(pta_memory_read(mem, 0x3800, in, sizeof(in)), PTA_MEM_OK);
    assert_memory_equal(in, out, sizeof(out));

    /* Half in RAM: refused as a whole, nothing written. */
    uint8_t last = 0;
    assert_int_equal(pta_memory_write(mem, 0x4fff, out + 1, 2), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_read(mem, 0x4fff, &last, 1), PTA_MEM_OK);
    assert_int_equal(last, 0);
    assert_int_equal(pta_memory_fill(mem, 0x4fff, 1, 2), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_read(mem, 0x5000, in, 1), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_read(mem, 0x101fff, in, 2), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_read(mem, UINT64_MAX - 1, in, 8), PTA_MEM_WRAP);
    assert_int_equal(pta_memory_write(mem, UINT64_MAX, in, 2), PTA_MEM_WRAP);
    assert_int_equal(pta_memory_read(mem, UINT64_MAX, in, 1), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_read(mem, 0x9000, in, 0), PTA_MEM_OK);
}

static void words(void **unused)
{
    g_autoptr(PtaMemory) mem = two_ranges();
    uint16_t w = 0;
    uint32_t d = 0;
    uint64_t q = 0;
    assert_int_equal(pta_memory_store_u64(mem, 0x101ff8, UINT64_C(0x1122334455667788)), PTA_MEM_OK);
    assert_int_equal(pta_memory_load_u64(mem, 0x101ff8, &q), PTA_MEM_OK);
    assert_true(q == UINT64_C(0x1122334455667788));
    assert_int_equal(pta_memory_load_u32(mem, 0x101ffc, &d), PTA_MEM_OK);
    assert_int_equal(d, 0x11223344);
    assert_int_equal(pta_memory_load_u16(mem, 0x101ff8, &w), PTA_MEM_OK);
    assert_int_equal(w, 0x7788);
    assert_int_equal(pta_memory_load_u64(mem, 0x101ffc, &q), PTA_MEM_ALIGN);
    assert_int_equal(pta_memory_store_u16(mem, 0x101, 1), PTA_MEM_ALIGN);
    assert_int_equal(pta_memory_store_u32(mem, 0x102000, 1), PTA_MEM_HOLE);
}

static void iovecs(void **unused)
{
    g_autoptr(PtaMemory) mem = two_ranges();
    struct iovec iov[2];
    unsigned n = 2;
    assert_int_equal(pta_memory_map(mem, 0x3000, 0x2000, true, iov, &n), PTA_MEM_OK);
    assert_int_equal(n, 2);
    assert_int_equal(iov[0].iov_len + iov[1].iov_len, 0x2000);
    assert_ptr_equal(iov[0].iov_base, (char *)pta_memory_range_host(mem, 0) + 0x3000);
    n = 1;
    assert_int_equal(pta_memory_map(mem, 0x3000, 0x2000, true, iov, &n), PTA_MEM_TOO_MANY);
    n = 2;
    assert_int_equal(pta_memory_map(mem, 0x4000, 0x1001, false, iov, &n), PTA_MEM_HOLE);
    n = 2;
    assert_int_equal(pta_memory_map(mem, UINT64_MAX - 3, 8, false, iov, &n), PTA_MEM_WRAP);
}

typedef struct Seen {
    uint64_t gpa, len;
    unsigned calls;
} Seen;

static void seen_write(void *opaque, uint64_t gpa, uint64_t len)
{
    Seen *seen = opaque;
    *seen = (Seen){ gpa, len, seen->calls + 1 };
}

static void every_write_is_reported_once(void **unused)
{
    g_autoptr(PtaMemory) mem = two_ranges();
    Seen seen = { 0 };
    pta_memory_set_write_observer(mem, seen_write, &seen);
    uint8_t buf[16] = { 0 };
    assert_int_equal(pta_memory_write(mem, 0x10, buf, 16), PTA_MEM_OK);
    assert_true(seen.calls == 1 && seen.gpa == 0x10 && seen.len == 16);
    assert_int_equal(pta_memory_fill(mem, 0x100, 0, 0x3fff), PTA_MEM_OK);
    assert_true(seen.calls == 2 && seen.gpa == 0x100 && seen.len == 0x3fff);
    assert_int_equal(pta_memory_store_u16(mem, 0x100002, 1), PTA_MEM_OK);
    assert_true(seen.calls == 3 && seen.gpa == 0x100002 && seen.len == 2);
    assert_int_equal(pta_memory_write(mem, 0x5000, buf, 16), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_read(mem, 0x10, buf, 16), PTA_MEM_OK);
    assert_int_equal(seen.calls, 3);
    pta_memory_set_write_observer(mem, NULL, NULL);
    assert_int_equal(pta_memory_write(mem, 0x10, buf, 16), PTA_MEM_OK);
    assert_int_equal(seen.calls, 3);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_checked),
        cmocka_unit_test(copies_cross_ranges_but_not_holes),
        cmocka_unit_test(words),
        cmocka_unit_test(iovecs),
        cmocka_unit_test(every_write_is_reported_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
