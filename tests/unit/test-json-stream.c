/* The splitter of JSON streams: what it accepts and refuses, how it goes on, any chunking. */
#include "config.h"

#include "qmp/json-stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void note(GString *log, PtaJsonItem *item)
{
    if (item->value) {
        char *text = json_dumps(item->value, JSON_ENCODE_ANY | JSON_COMPACT);
        g_string_append_printf(log, "%s\n", text);
        free(text);
        json_decref(item->value);
    } else if (item->error) {
        assert_non_null(strstr(item->error, "JSON parse error, "));
        g_string_append_printf(log, "!%s%s\n", item->is_jsonrpc ? "rpc " : "",
                               item->error + strlen("JSON parse error, "));
        g_free(item->error);
    }
}

static void feed(PtaJsonStream *s, const char *bytes, size_t len, GString *log)
{
    while (len > 0) {
        PtaJsonItem item;
        size_t n = pta_json_stream_feed(s, bytes, len, &item);
        /* Progress: at least a byte, or an item without one (a scalar that ended before). */
        assert_true(n > 0 || item.value || item.error);
        assert_true(n == len || item.value || item.error);
        note(log, &item);
        bytes += n;
        len -= n;
    }
}

/* cuts: positions, ascending. */
static char *run(const char *bytes, size_t len, const size_t *cuts, size_t n_cuts)
{
    g_autoptr(PtaJsonStream) s = pta_json_stream_new();
    GString *log = g_string_new("");
    size_t at = 0;
    for (size_t i = 0; i < n_cuts; i++) {
        feed(s, bytes + at, cuts[i] - at, log);
        at = cuts[i];
    }
    feed(s, bytes + at, len - at, log);
    PtaJsonItem item;
    pta_json_stream_finish(s, &item);
    if (item.value || item.error) {
        g_string_append(log, "end: ");
        note(log, &item);
    }
    return g_string_free(log, FALSE);
}

static const struct {
    const char *input;
    const char *log;
} cases[] = {
    { "", "" },
    { " \t\r\n", "" },
    { "{}", "{}\n" },
    { "{}{}[]\n\n[1,2]", "{}\n{}\n[]\n[1,2]\n" },
    { "{\"a\": [1, {\"b\": \"}]{[\\\"\\\\\"}], \"c\": null}\r\n",
      "{\"a\":[1,{\"b\":\"}]{[\\\"\\\\\"}],\"c\":null}\n" },
    { "{\n  \"a\":\n1\n}\n", "{\"a\":1}\n" },
    /* scalars: complete for JSON, the monitor refuses them by itself */
    { "1 -2.5e3 true null \"x\"\n", "1\n-2500.0\ntrue\nnull\n\"x\"\n" },
    { "12", "end: 12\n" },
    { "true{}", "true\n{}\n" },
    { "\"a\"\"b\"", "\"a\"\n\"b\"\n" },
    /* single quotes */
    { "{'a': 'b\"c\\'d'}", "{\"a\":\"b\\\"c'd\"}\n" },
    { "{\"a\": \"it\\'s\"}", "{\"a\":\"it's\"}\n" },
    /* text outside of a value: one error a line */
    { "hello world [1]\n{}", "!invalid word 'hello'\n{}\n" },
    { "hello\nworld\n{}", "!invalid word 'hello'\n!invalid word 'world'\n{}\n" },
    { "}{\"a\":1}\n{}", "!stray '}'\n{}\n" },
    { "\x01{}\r\n{}", "!stray byte 0x01\n{}\n" },
    { "hello", "end: !invalid word 'hello'\n" },
    /* balanced, but no JSON: the next message may follow at once */
    { "{\"a\" 1}{}", "!':' expected near '1' (byte 6 of the message)\n{}\n" },
    { "[1,]{}", "!unexpected token near ']' (byte 4 of the message)\n{}\n" },
    { "{\"a\":1,\"a\":2}{}", "!duplicate object key near '\"a\"' (byte 10 of the message)\n{}\n" },
    { "{\"jsonrpc\":x}{}", "!rpc invalid token near 'x' (byte 12 of the message)\n{}\n" },
    { "[\"\xc3\x28\"]{}", "!unable to decode byte 0xc3 near '\"' (byte 2 of the message)\n{}\n" },
    { "[9223372036854775808]{}",
      "!too big integer near '9223372036854775808' (byte 20 of the message)\n{}\n" },
    /* structure lost: only a line that begins a message is one; what is inside never is */
    { "{\"a\":]{\"quit\":1}}\n  {\"quit\":2}\n}\n{\"b\":1}",
      "!expected '}', found ']'\n{\"b\":1}\n" },
    { "[}\r\n\r\n[1]", "!expected ']', found '}'\n[1]\n" },
    { "{\"a\n{\"b\":1}", "!control character 0x0a in a string\n{\"b\":1}\n" },
    { "{\"a\r\n{\"b\":1}", "!control character 0x0d in a string\n{\"b\":1}\n" },
    { "\"a\tb\" {}\n{\"b\":1}", "!control character 0x09 in a string\n{\"b\":1}\n" },
    { "\"a\n{\"b\":1}", "!control character 0x0a in a string\n{\"b\":1}\n" },
    /* the byte that is in no text */
    { "\xff{}", "{}\n" },
    { "{\"a\": {\xff{}", "!the message ends too early\n{}\n" },
    { "{\"a\xff{}", "!the message ends too early\n{}\n" },
    { "12\xff{}", "12\n{}\n" },
    { "{]\xff{}", "!expected '}', found ']'\n{}\n" },
    /* the end of the stream */
    { "{\"a\":", "end: !the message ends too early\n" },
    { "{\"jsonrpc\": \"2.0", "end: !rpc the message ends too early\n" },
};

static void any_chunking_gives_the_same(void **unused)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *input = cases[i].input;
        size_t len = strlen(input);
        g_autofree char *whole = run(input, len, NULL, 0);
        assert_string_equal(whole, cases[i].log);
        for (size_t a = 0; a <= len; a++) {
            for (size_t b = a; b <= len; b++) {
                g_autofree char *log = run(input, len, (size_t[]){ a, b }, 2);
                assert_string_equal(log, cases[i].log);
            }
        }
        g_autofree size_t *all = g_new(size_t, len + 1);
        for (size_t a = 0; a < len; a++) {
            all[a] = a;
        }
        g_autofree char *bytewise = run(input, len, all, len);
        assert_string_equal(bytewise, cases[i].log);
    }
}

/* All cases as one stream: none spoils the next one, as long as a line ends between them. */
static void one_case_after_the_other(void **unused)
{
    g_autoptr(PtaJsonStream) s = pta_json_stream_new();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GString *log = g_string_new("");
        feed(s, cases[i].input, strlen(cases[i].input), log);
        g_string_truncate(log, 0);
        static const char next[] = "\xff[true]";
        feed(s, next, strlen(next), log);
        const char *last = strrchr(log->str, '[');
        assert_non_null(last);
        assert_string_equal(last, "[true]\n");
        g_string_free(log, TRUE);
    }
}

static GString *nested(unsigned levels)
{
    GString *text = g_string_new("");
    for (unsigned i = 0; i < levels; i++) {
        g_string_append(text, i % 2 ? "[" : "{\"a\":");
    }
    g_string_append(text, "\"}]\\\"\"");
    for (unsigned i = levels; i-- > 0;) {
        g_string_append_c(text, i % 2 ? ']' : '}');
    }
    return text;
}

static void levels_are_limited(void **unused)
{
    GString *text = nested(PTA_JSON_STREAM_MAX_DEPTH);
    g_autofree char *log = run(text->str, text->len, NULL, 0);
    assert_true(g_str_has_prefix(log, "{\"a\":["));
    g_string_free(text, TRUE);

    for (unsigned levels = PTA_JSON_STREAM_MAX_DEPTH + 1; levels < 300; levels += 29) {
        text = nested(levels);
        g_string_append(text, "{}"); /* the refused one has ended, so this is a message */
        g_autofree char *refused = run(text->str, text->len, NULL, 0);
        assert_string_equal(refused, "!more than 64 levels\n{}\n");
        g_string_free(text, TRUE);
    }

    /* never closed: a line that begins a message ends it */
    text = g_string_new("");
    for (unsigned i = 0; i < 100000; i++) {
        g_string_append_c(text, '[');
    }
    g_string_append(text, "\n {\"quit\":1}\n{}");
    g_autofree char *open = run(text->str, text->len, NULL, 0);
    assert_string_equal(open, "!more than 64 levels\n{}\n");
    g_string_free(text, TRUE);
}

static GString *large(const char *begin, size_t len, const char *end)
{
    GString *text = g_string_new(begin);
    while (text->len + strlen(end) < len) {
        g_string_append_c(text, 'x');
    }
    g_string_append(text, end);
    return text;
}

static void size_is_limited(void **unused)
{
    static const char end[] = "\\\"}\"}";
    GString *text = large("{\"a\": \"", PTA_JSON_STREAM_MAX_BYTES, end);
    g_autofree char *fits = run(text->str, text->len, NULL, 0);
    assert_int_equal(fits[0], '{');
    g_string_free(text, TRUE);

    static const size_t sizes[] = { PTA_JSON_STREAM_MAX_BYTES + 1, PTA_JSON_STREAM_MAX_BYTES + 2,
                                    PTA_JSON_STREAM_MAX_BYTES + 5, 2 * PTA_JSON_STREAM_MAX_BYTES };
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        text = large("{\"a\": \"", sizes[i], end);
        g_string_append(text, "{}");
        g_autofree char *log = run(text->str, text->len, NULL, 0);
        assert_string_equal(log, "!more than 1048576 bytes\n{}\n");
        g_autofree char *cut =
            run(text->str, text->len, (size_t[]){ PTA_JSON_STREAM_MAX_BYTES }, 1);
        assert_string_equal(cut, log);
        g_string_free(text, TRUE);
    }

    text = large("", PTA_JSON_STREAM_MAX_BYTES + 100, "\n{}"); /* a word without end */
    g_autofree char *word = run(text->str, text->len, NULL, 0);
    assert_string_equal(word, "!more than 1048576 bytes\n{}\n");
    g_string_free(text, TRUE);
}

static void white_space_has_no_limit(void **unused)
{
    GString *text = g_string_new("");
    for (unsigned i = 0; i < 2 * PTA_JSON_STREAM_MAX_BYTES; i++) {
        g_string_append_c(text, ' ');
    }
    g_string_append(text, "{}");
    g_autofree char *log = run(text->str, text->len, NULL, 0);
    assert_string_equal(log, "{}\n");
    g_string_free(text, TRUE);
}

static void nul_is_no_text(void **unused)
{
    static const char input[] = "\0{}\n{\"a\":\0 1}[\"\\u0000\"]{}";
    g_autofree char *log = run(input, sizeof(input) - 1, NULL, 0);
    assert_true(g_str_has_prefix(log, "!stray byte 0x00\n!"));
    assert_true(g_str_has_suffix(log, "\n{}\n"));
    unsigned errors = 0;
    for (const char *p = log; *p; p++) {
        errors += *p == '!';
    }
    assert_int_equal(errors, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_chunking_gives_the_same), cmocka_unit_test(one_case_after_the_other),
        cmocka_unit_test(levels_are_limited),          cmocka_unit_test(size_is_limited),
        cmocka_unit_test(white_space_has_no_limit),    cmocka_unit_test(nul_is_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
