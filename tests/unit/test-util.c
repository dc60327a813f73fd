/* Sizes, paths, errors, rate limits, calls into the main loop, libraries that are opened late. */
#include "config.h"

#include "src/util/lazy-lib.h"
#include "src/util/util.h"

#include "tests/lib/cmocka-all.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void sizes(void **unused)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        { "0", 0 },
        { "4096", 4096 },
        { "512M", 512 * PTA_MIB },
        { "1G", PTA_GIB },
        { "3K", 3072 },
        { "16777215T", UINT64_C(16777215) << 40 },
        { "18446744073709551615", UINT64_MAX },
    };
    static const char *const bad[] = { "",
                                       "M",
                                       "-1",
                                       "+1",
                                       " 1",
                                       "1 ",
                                       "1m",
                                       "1MB",
                                       "0x10",
                                       "1.5G",
                                       "18446744073709551616",
                                       "16777216T",
                                       "99999999999999999G" };
    uint64_t n;
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        assert_true(pta_parse_size(good[i].text, &n));
        assert_true(n == good[i].bytes);
        g_autofree char *text = pta_format_size(n);
        uint64_t again = 1;
        assert_true(pta_parse_size(text, &again));
        assert_true(again == n);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_false(pta_parse_size(bad[i], &n));
    }
    g_autofree char *odd = pta_format_size(1536);
    assert_string_equal(odd, "1536");
}

static void paths(void **unused)
{
    g_autofree char *absolute = pta_resolve_path("/base", "/etc/x");
    g_autofree char *relative = pta_resolve_path("/base/", "sub/x");
    assert_string_equal(absolute, "/etc/x");
    assert_string_equal(relative, "/base/sub/x");
}

static void errors(void **unused)
{
    g_autoptr(GError) error = NULL;
    assert_false(pta_throw_errno(&error, ENOENT, "%s: cannot open", "x"));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_HOST));
    assert_string_equal(error->message, "x: cannot open: No such file or directory");
    assert_false(pta_throw(NULL, PTA_ERROR_BAD_STATE, "nobody listens"));
}

static void full_reads_and_writes(void **unused)
{
    int fds[2];
    char buf[8] = { 0 };
    assert_int_equal(pipe(fds), 0);
    assert_true(pta_write_full(fds[1], "abcdef", 6));
    pta_close(fds[1]);
    assert_true(pta_read_full(fds[0], buf, 4));
    errno = EIO;
    assert_false(pta_read_full(fds[0], buf, 4)); /* two are left */
    assert_int_equal(errno, 0);
    pta_close(fds[0]);
    assert_false(pta_read_full(fds[0], buf, 1));
    assert_int_equal(errno, EBADF);
}

static void floods_are_counted(void **unused)
{
    PtaRatelimit limit = { .last_ns = pta_now_ns() };
    uint32_t missed = 0, shown = 0;
    for (int i = 0; i < 1000; i++) {
        shown += pta_ratelimit_ok(&limit, &missed);
    }
    assert_in_range(shown, 5, 6);
    limit.last_ns -= UINT64_C(2000000000);
    assert_true(pta_ratelimit_ok(&limit, &missed));
    assert_int_equal(missed, 1000 - shown);
}

static void note(void *data)
{
    assert_true(pta_in_main());
    GString *order = data;
    g_string_append_printf(order, "%u", (unsigned)order->len);
}

static void *caller(void *data)
{
    assert_false(pta_in_main());
    for (int i = 0; i < 3; i++) {
        pta_main_call(note, data);
    }
    return NULL;
}

static void calls_reach_the_main_loop_in_order(void **unused)
{
    g_autoptr(GString) order = g_string_new(NULL);
    g_thread_join(g_thread_new("caller", caller, order));
    assert_int_equal(order->len, 0);
    while (order->len < 3) {
        g_main_context_iteration(NULL, TRUE);
    }
    assert_string_equal(order->str, "012");
}

static void count(void *data)
{
    ++*(unsigned *)data;
}

static void signals_reach_the_main_loop(void **unused)
{
    (void)unused;
    static const int signums[] = { SIGUSR1, SIGUSR2 };
    static unsigned n_calls;
    assert_true(pta_on_signals(signums, G_N_ELEMENTS(signums), count, &n_calls, NULL));
    while (g_main_context_iteration(NULL, FALSE)) {}
    assert_int_equal(n_calls, 0);
    raise(SIGUSR1);
    assert_int_equal(n_calls, 0); /* nothing happens in the handler */
    g_main_context_iteration(NULL, FALSE);
    assert_int_equal(n_calls, 1);
    raise(SIGUSR1);
    raise(SIGUSR2);
    while (g_main_context_iteration(NULL, FALSE)) {}
    assert_int_equal(n_calls, 2);
}

static PTA_LAZY_FUNCTION(cos);
static PTA_LAZY_FUNCTION(free);

static void libraries_are_opened_late(void **unused)
{
    (void)unused;
    const PtaLazySymbol good[] = { { PTA_LAZY_SYMBOL(cos) }, { NULL, NULL } };
    const PtaLazySymbol bad[] = { { PTA_LAZY_SYMBOL(free) },
                                  { "no_such", &dl_free },
                                  { NULL, NULL } };
    PtaLazyLib math = { "libm.so.6", good, false }, none = { "libnone.so.1", good, false };
    PtaLazyLib lacks = { "libm.so.6", bad, false };
    GError *error = NULL;
    assert_true(pta_lazy_lib_load(&math, &error));
    assert_true(dl_cos(0) == 1);
    assert_true(pta_lazy_lib_load(&math, &error));
    assert_false(pta_lazy_lib_load(&none, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_HOST));
    assert_non_null(strstr(error->message, "libnone.so.1"));
    g_clear_error(&error);
    assert_false(pta_lazy_lib_load(&none, NULL));
    assert_false(pta_lazy_lib_load(&lacks, &error));
    assert_string_equal(error->message, "libm.so.6 has no no_such");
    g_clear_error(&error);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(paths),
        cmocka_unit_test(errors),
        cmocka_unit_test(full_reads_and_writes),
        cmocka_unit_test(floods_are_counted),
        cmocka_unit_test(calls_reach_the_main_loop_in_order),
        cmocka_unit_test(signals_reach_the_main_loop),
        cmocka_unit_test(libraries_are_opened_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
