/* The kernel command line: what may be added, and that a failed addition changes nothing. */
#include "config.h"

#include "src/boot/cmdline.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

static void an_empty_line_is_empty(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(4);
    assert_string_equal(pta_cmdline_text(line), "");
    assert_int_equal(pta_cmdline_try_add_text(line, ""), PTA_CMDLINE_OK);
    assert_string_equal(pta_cmdline_text(line), "");
}

static void pieces_are_separated_by_one_space(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(100);
    assert_int_equal(pta_cmdline_try_add(line, "hello", "world"), PTA_CMDLINE_OK);
    assert_string_equal(pta_cmdline_text(line), "hello=world");
    assert_int_equal(pta_cmdline_try_add(line, "foo", "bar"), PTA_CMDLINE_OK);
    assert_int_equal(pta_cmdline_try_add_text(line, "quiet root=/dev/vda a=b=c"), PTA_CMDLINE_OK);
    assert_string_equal(pta_cmdline_text(line), "hello=world foo=bar quiet root=/dev/vda a=b=c");
}

static void spaces_are_refused(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(100);
    assert_int_equal(pta_cmdline_try_add(line, "a ", "b"), PTA_CMDLINE_HAS_SPACE);
    assert_int_equal(pta_cmdline_try_add(line, "a", "b "), PTA_CMDLINE_HAS_SPACE);
    assert_int_equal(pta_cmdline_try_add(line, " ", " "), PTA_CMDLINE_HAS_SPACE);
    assert_string_equal(pta_cmdline_text(line), "");
}

static void equals_signs_are_refused(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(100);
    assert_int_equal(pta_cmdline_try_add(line, "a=", "b"), PTA_CMDLINE_HAS_EQUALS);
    assert_int_equal(pta_cmdline_try_add(line, "a", "=b"), PTA_CMDLINE_HAS_EQUALS);
    assert_string_equal(pta_cmdline_text(line), "");
}

static void other_bytes_are_refused(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(100);
    static const char *const bad[] = { "\t", "a\nb", "\x7f", "\xe2\x98\xba", "\x1b[0m" };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_int_equal(pta_cmdline_try_add(line, bad[i], "x"), PTA_CMDLINE_INVALID_ASCII);
        assert_int_equal(pta_cmdline_try_add(line, "x", bad[i]), PTA_CMDLINE_INVALID_ASCII);
        assert_int_equal(pta_cmdline_try_add_text(line, bad[i]), PTA_CMDLINE_INVALID_ASCII);
    }
    assert_string_equal(pta_cmdline_text(line), "");
}

static void empty_words_are_refused(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(100);
    assert_int_equal(pta_cmdline_try_add(line, "", "b"), PTA_CMDLINE_EMPTY);
    assert_int_equal(pta_cmdline_try_add(line, "a", ""), PTA_CMDLINE_EMPTY);
}

static void the_limit_is_exact(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(7);
    assert_int_equal(pta_cmdline_try_add(line, "abcd", "efg"), PTA_CMDLINE_TOO_LARGE);
    assert_int_equal(pta_cmdline_try_add(line, "a", "b"), PTA_CMDLINE_OK);
    assert_int_equal(pta_cmdline_try_add(line, "c", "de"), PTA_CMDLINE_TOO_LARGE);
    assert_string_equal(pta_cmdline_text(line), "a=b");
    assert_int_equal(pta_cmdline_try_add(line, "c", "d"), PTA_CMDLINE_OK);
    assert_string_equal(pta_cmdline_text(line), "a=b c=d");
    assert_int_equal(pta_cmdline_try_add_text(line, "e"), PTA_CMDLINE_TOO_LARGE);
    assert_string_equal(pta_cmdline_text(line), "a=b c=d");
}

static void errors_say_what_and_where(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(10);
    static const struct {
        const char *key, *value, *text;
    } bad[] = {
        { "a b", "c", "\"a b=c\" has a space" },
        { "a", "b=c", "\"a=b=c\" has an equals sign" },
        { "a", "\001", "\"a=\\001\" has a byte" },
        { "", "c", "\"=c\" has an empty key" },
        { "aaaaaaaaaa", "b", "12 bytes behind 0 pass the limit of 10" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(pta_cmdline_add(line, bad[i].key, bad[i].value, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
        assert_non_null(strstr(error->message, bad[i].text));
    }
}

static void virtio_devices_are_named(void **unused)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(100);
    g_autoptr(GError) error = NULL;
    const PtaPlacedDevice dev = {
        .kind = PTA_PLACED_VIRTIO_MMIO, .base = 0xd0000000, .size = 4096, .irq = 5
    };
    assert_true(pta_cmdline_add_virtio_mmio(line, &dev, &error));
    assert_string_equal(pta_cmdline_text(line), "virtio_mmio.device=4K@0xd0000000:5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_line_is_empty),
        cmocka_unit_test(pieces_are_separated_by_one_space),
        cmocka_unit_test(spaces_are_refused),
        cmocka_unit_test(equals_signs_are_refused),
        cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(empty_words_are_refused),
        cmocka_unit_test(the_limit_is_exact),
        cmocka_unit_test(errors_say_what_and_where),
        cmocka_unit_test(virtio_devices_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
