/*
 * Golden sessions (tests/monitor/NAME.session), each played twice: straight into a session, byte by
 * byte, and through a monitor and a socket. Lines:
 *   > TEXT     is sent, after the escapes \n \r \\ and \xNN
 *   < TEXT     is the next line that must come
 *   emit NAME DATA, ring CAPACITY, reconnect, hang-up (sends nothing more)
 *   end        the oldest command that is under way (`later`) is answered
 * At each "> ", "emit", "end" and the end everything expected before must have come, and nothing else.
 */
#include "config.h"

#include "qmp/monitor.h"
#include "tests/monitor/fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct Player {
    bool by_socket;
    Fake *fake;
    PtaSession *session;
    PtaMonitor *monitor;
    int fd;
    GString *unsent; /* what the session does not take yet */
    GString *got;
} Player;

static void player_connect(Player *p)
{
    if (p->by_socket) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                         0);
        p->monitor = pta_monitor_new(&p->fake->env, 0);
        pta_monitor_add_client(p->monitor, fds[1]);
        p->fd = fds[0];
    } else {
        p->session = pta_session_new(&p->fake->env, NULL, NULL);
    }
}

static void player_disconnect(Player *p)
{
    if (p->by_socket) {
        close(p->fd);
        while (pta_monitor_n_clients(p->monitor) > 0) {
            g_main_context_iteration(NULL, TRUE);
        }
        g_clear_pointer(&p->monitor, pta_monitor_free);
    } else {
        g_clear_pointer(&p->session, pta_session_free);
    }
}

/* Byte by byte, one message at a time. */
static void player_feed(Player *p)
{
    size_t n;
    unsigned budget;
    do {
        budget = 1;
        n = pta_session_feed(p->session, p->unsent->str, MIN(p->unsent->len, 1), &budget);
        g_string_erase(p->unsent, 0, (gssize)n);
    } while (n > 0 || budget == 0);
    assert_false(pta_session_has_work(p->session));
}

/* Takes all output that comes without further input. */
static void player_drain(Player *p)
{
    if (!p->by_socket) {
        player_feed(p);
        pta_session_add_events(p->session);
        size_t len;
        const char *text = pta_session_output(p->session, &len);
        g_string_append_len(p->got, text, (gssize)len);
        pta_session_sent(p->session, len);
        return;
    }
    while (g_main_context_iteration(NULL, FALSE)) {}
    char buf[4096];
    ssize_t n;
    while (n = read(p->fd, buf, sizeof(buf)), n > 0) {
        g_string_append_len(p->got, buf, n);
    }
    assert_true(n == 0 || errno == EAGAIN);
}

static void player_send(Player *p, const GString *bytes)
{
    if (p->by_socket) {
        assert_int_equal(write(p->fd, bytes->str, bytes->len), bytes->len);
        return;
    }
    g_string_append_len(p->unsent, bytes->str, (gssize)bytes->len);
    player_feed(p);
}

static void player_hang_up(Player *p)
{
    if (p->by_socket) {
        assert_int_equal(shutdown(p->fd, SHUT_WR), 0);
    } else {
        pta_session_finish(p->session);
    }
}

/* ---- the text of a session ---- */

static GString *unescape(const char *text)
{
    GString *bytes = g_string_new("");
    for (; *text; text++) {
        if (*text != '\\') {
            g_string_append_c(bytes, *text);
        } else if (*++text == 'n') {
            g_string_append_c(bytes, '\n');
        } else if (*text == 'r') {
            g_string_append_c(bytes, '\r');
        } else if (*text == 'x') {
            g_string_append_c(
                bytes, (char)(g_ascii_xdigit_value(text[1]) * 16 + g_ascii_xdigit_value(text[2])));
            text += 2;
        } else { /* one of JSON's, as it stands */
            g_string_append_c(bytes, '\\');
            g_string_append_c(bytes, *text);
        }
    }
    return bytes;
}

static char *expand(const char *line)
{
    GString *text = g_string_new(line);
    g_string_replace(
        text, "@GREETING@",
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, "
        "\"package\": \"@PACKAGE@\"}, \"capabilities\": [\"oob\"]}}",
        0);
    g_string_replace(text, "@PACKAGE@", PACKAGE_STRING, 0);
    return g_string_free(text, FALSE);
}

static void zero_timestamps(GString *text)
{
    g_autoptr(GRegex) regex =
        g_regex_new("\"seconds\": [0-9]+, \"microseconds\": [0-9]+", 0, 0, NULL);
    g_autofree char *zeroed = g_regex_replace_literal(
        regex, text->str, -1, 0, "\"seconds\": 0, \"microseconds\": 0", 0, NULL);
    g_string_assign(text, zeroed);
}

static void check_output(Player *p, GString *expected, const char *file, unsigned line)
{
    player_drain(p);
    zero_timestamps(p->got);
    /* The rest of a line, that is, of a batch's array, may come later. */
    const char *end = strrchr(p->got->str, '\n');
    size_t len = end ? (size_t)(end + 1 - p->got->str) : 0;
    if (len != expected->len || memcmp(p->got->str, expected->str, len) != 0) {
        fail_msg("%s:%u (%s):\nexpected\n%sgot\n%s", file, line,
                 p->by_socket ? "socket" : "session", expected->str, p->got->str);
    }
    g_string_erase(p->got, 0, (gssize)len);
    g_string_truncate(expected, 0);
}

static void play_line(Player *p, const char *line, GString *expected, const char *file, unsigned at)
{
    if (*line == '#' || *line == '\0') {
        return;
    }
    if (g_str_has_prefix(line, "< ")) {
        g_autofree char *text = expand(line + 2);
        g_string_append_printf(expected, "%s\r\n", text);
        return;
    }
    if (g_str_has_prefix(line, "ring ")) { /* the first line, if there is one */
        player_disconnect(p);
        fake_free(p->fake);
        p->fake = fake_new((unsigned)atoi(line + 5));
        player_connect(p);
        return;
    }
    check_output(p, expected, file, at);
    if (g_str_has_prefix(line, "> ")) {
        GString *bytes = unescape(line + 2);
        player_send(p, bytes);
        g_string_free(bytes, TRUE);
    } else if (g_str_has_prefix(line, "emit ")) {
        g_auto(GStrv) words = g_strsplit(line, " ", 3);
        json_t *data = json_loads(words[2], JSON_DECODE_ANY, NULL);
        assert_non_null(data);
        pta_event_emit(p->fake->sink, words[1], json_is_null(data) ? NULL : data);
    } else if (strcmp(line, "end") == 0) {
        assert_true(fake_end(p->fake));
    } else if (strcmp(line, "hang-up") == 0) {
        player_hang_up(p);
    } else if (strcmp(line, "reconnect") == 0) {
        player_disconnect(p);
        player_connect(p);
    } else {
        fail_msg("%s:%u: what is this line?", file, at);
    }
}

static void play(const char *name, bool by_socket)
{
    g_autofree char *file =
        g_strdup_printf("%s/tests/monitor/%s.session", g_getenv("srcdir") ?: ".", name);
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(file, &text, NULL, NULL));
    Player p = { .by_socket = by_socket, .fake = fake_new(PTA_EVENT_RING_DEFAULT) };
    p.unsent = g_string_new("");
    p.got = g_string_new("");
    player_connect(&p);
    GString *expected = g_string_new("");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    unsigned i = 0;
    for (; lines[i]; i++) {
        play_line(&p, lines[i], expected, file, i + 1);
    }
    check_output(&p, expected, file, i);
    assert_int_equal(p.got->len, 0);
    player_disconnect(&p);
    g_string_free(expected, TRUE);
    g_string_free(p.got, TRUE);
    g_string_free(p.unsent, TRUE);
    fake_free(p.fake);
}

static void session(void **state)
{
    play(*state, false);
    play(*state, true);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        { "qmp", session, NULL, NULL, (void *)"qmp" },
        { "oob", session, NULL, NULL, (void *)"oob" },
        { "jsonrpc", session, NULL, NULL, (void *)"jsonrpc" },
        { "mixed", session, NULL, NULL, (void *)"mixed" },
        { "later", session, NULL, NULL, (void *)"later" },
        { "replay", session, NULL, NULL, (void *)"replay" },
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
