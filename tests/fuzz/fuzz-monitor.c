/*
 * A client's bytes. However they are cut, the same messages and errors come out of the splitter; and
 * whatever a session was told, its output stays within bounds, is JSON, line by line, and it answers
 * the next call. Commands under way (`later`) are ended at different times, or after the session.
 */
#include "config.h"

#include "qmp/json-stream.h"
#include "tests/monitor/fake.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(GString *log, PtaJsonItem *item)
{
    if (item->value) {
        char *text = json_dumps(item->value, JSON_ENCODE_ANY);
        g_assert(text != NULL);
        g_string_append_printf(log, "%s\n", text);
        free(text);
        json_decref(item->value);
    } else if (item->error) {
        g_string_append_printf(log, "!%d%s\n", item->is_jsonrpc, item->error);
        g_free(item->error);
    }
}

static GString *split(const char *bytes, size_t size, size_t chunk)
{
    g_autoptr(PtaJsonStream) stream = pta_json_stream_new();
    GString *log = g_string_new("");
    PtaJsonItem item;
    for (size_t at = 0; at < size;) {
        size_t n = pta_json_stream_feed(stream, bytes + at, MIN(chunk, size - at), &item);
        g_assert(n > 0 || item.value || item.error);
        at += n;
        note(log, &item);
    }
    pta_json_stream_finish(stream, &item);
    note(log, &item);
    return log;
}

/* Takes the output; each line must be JSON. */
static void take_output(PtaSession *session, GString *all)
{
    size_t len;
    const char *text = pta_session_output(session, &len);
    g_assert(len < PTA_SESSION_OUT_MARK + 11 * PTA_MIB);
    g_string_append_len(all, text, (gssize)len);
    pta_session_sent(session, len);
    for (char *end; (end = strstr(all->str, "\r\n")); g_string_erase(all, 0, end + 2 - all->str)) {
        json_t *line = json_loadb(all->str, (size_t)(end - all->str), 0, NULL);
        g_assert(line != NULL);
        json_decref(line);
    }
}

/* Ends what is under way after `patience` turns that took nothing. */
static void feed(Fake *fake, PtaSession *session, const char *bytes, size_t size, unsigned patience,
                 GString *all)
{
    unsigned turns = 0;
    size_t at = 0;
    while (at < size || !pta_session_is_idle(session)) {
        unsigned budget = 7;
        at += pta_session_feed(session, bytes + at, size - at, &budget);
        take_output(session, all);
        g_assert(fake->later.length <= 1); /* one at a time */
        if (!pta_session_has_work(session) && (at == size || !pta_session_takes_input(session)) &&
            turns++ >= patience) {
            bool waits = pta_session_is_idle(session);
            g_assert(waits == !fake_end(fake));
            turns = 0;
        }
    }
}

/* The client goes while it has commands under way and in line. */
static void go_early(const char *bytes, size_t size)
{
    g_autoptr(Fake) fake = fake_new(16);
    PtaSession *session = pta_session_new(&fake->env, NULL, NULL);
    unsigned budget = 1000;
    pta_session_discard_output(session);
    pta_session_feed(session, bytes, size, &budget);
    pta_session_finish(session);
    pta_session_free(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char call[] =
        "\xff{\"jsonrpc\":\"2.0\",\"method\":\"nothing\",\"id\":\"the last\"}";
    const char *bytes = (const char *)data;
    pta_thread_init_main();

    GString *whole = split(bytes, size, size);
    GString *bytewise = split(bytes, size, 1);
    GString *pieces = split(bytes, size, 13);
    g_assert(g_string_equal(whole, bytewise) && g_string_equal(whole, pieces));
    g_string_free(whole, TRUE);
    g_string_free(bytewise, TRUE);
    g_string_free(pieces, TRUE);

    go_early(bytes, size);
    g_autoptr(Fake) fake = fake_new(16);
    g_autoptr(PtaSession) session = pta_session_new(&fake->env, NULL, NULL);
    GString *all = g_string_new("");
    feed(fake, session, bytes, size, size % 3, all);
    feed(fake, session, call, 1, 0, all); /* ends what was begun */
    pta_session_add_events(session);
    take_output(session, all);
    unsigned budget = 1;
    pta_session_feed(session, call + 1, sizeof(call) - 2, &budget);
    size_t len;
    const char *text = pta_session_output(session, &len);
    static const char reply[] = "{\"jsonrpc\": \"2.0\", \"result\": {}, \"id\": \"the last\"}\r\n";
    g_assert(len == strlen(reply) && memcmp(text, reply, len) == 0);
    g_string_free(all, TRUE);
    return 0;
}
