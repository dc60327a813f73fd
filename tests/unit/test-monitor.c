/* The monitor against clients that are slow, hostile, many, or gone; and the sockets it makes. */
#include "config.h"

#include "qmp/monitor.h"
#include "tests/lib/cmocka-all.h"
#include "tests/monitor/fake.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_LIMIT 1048576

typedef struct Fixture {
    char *dir, *path;
    Fake *fake;
    PtaMonitor *monitor;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->dir = g_dir_make_tmp("pta-monitor-XXXXXX", NULL);
    assert_non_null(f->dir);
    f->path = g_build_filename(f->dir, "sock", NULL);
    f->fake = fake_new(64);
    f->monitor = pta_monitor_new(&f->fake->env, 0);
    assert_true(pta_monitor_listen(f->monitor, f->path, NULL));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    pta_monitor_free(f->monitor);
    assert_int_not_equal(access(f->path, F_OK), 0);
    fake_free(f->fake);
    assert_int_equal(g_rmdir(f->dir), 0);
    g_free(f->path);
    g_free(f->dir);
    g_free(f);
    return 0;
}

static void turn(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {}
}

static struct sockaddr_un address(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    assert_true(strlen(path) < sizeof(addr.sun_path));
    strcpy(addr.sun_path, path);
    return addr;
}

static int dial(Fixture *f)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    struct sockaddr_un addr = address(f->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    turn();
    return fd;
}

/* Sends all, letting the monitor work whenever the socket is full; false if it stays full. */
static bool push(int fd, const char *bytes, size_t len)
{
    unsigned stuck = 0;
    while (len > 0 && stuck < 3) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
            stuck = 0;
        } else {
            assert_int_equal(errno, EAGAIN);
            stuck++;
        }
        turn();
    }
    return len == 0;
}

static void say(int fd, const char *text)
{
    assert_true(push(fd, text, strlen(text)));
}

/* All that there is to read, and whether that was the end. */
static char *hear_end(int fd, bool *end)
{
    GString *text = g_string_new("");
    char buf[65536];
    ssize_t n;
    turn();
    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
        g_string_append_len(text, buf, n);
        turn();
    }
    *end = n == 0;
    return g_string_free(text, FALSE);
}

static char *hear(int fd)
{
    bool end;
    char *text = hear_end(fd, &end);
    assert_false(end);
    return text;
}

static void expect(int fd, const char *expected)
{
    g_autofree char *text = hear(fd);
    assert_string_equal(text, expected);
}

static void expect_end(int fd)
{
    bool end;
    g_autofree char *text = hear_end(fd, &end);
    assert_string_equal(text, "");
    assert_true(end);
    close(fd);
}

static int dial_qmp(Fixture *f)
{
    int fd = dial(f);
    g_autofree char *greeting = hear(fd);
    assert_true(g_str_has_prefix(greeting, "{\"QMP\": "));
    say(fd, "{\"execute\": \"qmp_capabilities\"}");
    expect(fd, "{\"return\": {}}\r\n");
    return fd;
}

static void assert_alive(int fd)
{
    say(fd, "{\"execute\": \"echo\", \"arguments\": {\"x\": 1}}\n");
    expect(fd, "{\"return\": {\"x\": 1}}\r\n");
}

static unsigned count(const char *text, const char *part)
{
    unsigned n = 0;
    while ((text = strstr(text, part))) {
        text += strlen(part);
        n++;
    }
    return n;
}

/* ---- hostile input ---- */

static void garbage_is_answered_once_a_line(void **state)
{
    int fd = dial_qmp(*state);
    for (unsigned i = 0; i < 100; i++) {
        say(fd, "\x01\x02}}}]]] GET / HTTP/1.1\r\n");
    }
    g_autofree char *text = hear(fd);
    assert_int_equal(count(text, "\"error\""), 100);
    assert_alive(fd);
    close(fd);
}

static void deep_nesting_is_refused(void **state)
{
    int fd = dial_qmp(*state);
    g_autofree char *deep = g_strnfill(100000, '[');
    say(fd, deep);
    say(fd, "\n");
    expect(fd, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, more than "
               "64 levels\"}}\r\n");
    assert_alive(fd);
    close(fd);
}

static void two_mebibytes_are_refused(void **state)
{
    int fd = dial_qmp(*state);
    g_autofree char *long_string = g_strnfill(2 * MESSAGE_LIMIT, 'x');
    say(fd, "{\"execute\": \"echo\", \"arguments\": {\"x\": \"");
    say(fd, long_string);
    say(fd, "\"}}\n");
    expect(fd, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, more than "
               "1048576 bytes\"}}\r\n");
    assert_alive(fd);
    close(fd);
}

static void a_mebibyte_is_not(void **state)
{
    static const char begin[] = "{\"execute\": \"echo\", \"arguments\": {\"x\": \"";
    int fd = dial_qmp(*state);
    g_autofree char *string = g_strnfill(MESSAGE_LIMIT - strlen(begin) - 3, 'x');
    say(fd, begin);
    say(fd, string);
    say(fd, "\"}}");
    g_autofree char *text = hear(fd);
    assert_true(g_str_has_prefix(text, "{\"return\": {\"x\": \"xxx"));
    assert_true(g_str_has_suffix(text, "xxx\"}}\r\n"));
    assert_alive(fd);
    close(fd);
}

static void thousands_of_tiny_messages(void **state)
{
    Fixture *f = *state;
    int fd = dial_qmp(f);
    int other = dial_qmp(f);
    GString *text = g_string_new("");
    for (unsigned i = 0; i < 20000; i++) {
        g_string_append_printf(text, "{\"execute\":\"nothing\",\"id\":%u}", i);
    }
    /* As long as it does not read, it is not read from after a while; others go on. */
    size_t sent = 0;
    for (unsigned stuck = 0; stuck < 3; stuck++) {
        ssize_t n = send(fd, text->str + sent, text->len - sent, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        turn();
    }
    assert_true(sent < text->len);
    assert_alive(other);
    /* It reads: everything comes, in order. */
    GString *got = g_string_new("");
    while (sent < text->len) {
        ssize_t n = send(fd, text->str + sent, text->len - sent, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        g_autofree char *part = hear(fd);
        g_string_append(got, part);
    }
    g_autofree char *rest = hear(fd);
    g_string_append(got, rest);
    GString *expected = g_string_new("");
    for (unsigned i = 0; i < 20000; i++) {
        g_string_append_printf(expected, "{\"return\": {}, \"id\": %u}\r\n", i);
    }
    assert_true(g_string_equal(got, expected));
    g_string_free(text, TRUE);
    g_string_free(got, TRUE);
    g_string_free(expected, TRUE);
    close(fd);
    close(other);
}

static void a_batch_cannot_multiply(void **state)
{
    /* Each of 10,000 calls would be answered with 100 kB: a client that does not read gets no more
     * than the mark and one of them. */
    Fixture *f = *state;
    int fd = dial(f);
    int other = dial_qmp(f);
    GString *text = g_string_new("[");
    for (unsigned i = 0; i < 10000; i++) {
        g_string_append_printf(text,
                               "%s{\"jsonrpc\":\"2.0\",\"method\":\"large\",\"params\":"
                               "{\"size\":100000},\"id\":%u}",
                               i ? "," : "", i);
    }
    g_string_append_c(text, ']');
    assert_true(text->len < MESSAGE_LIMIT);
    assert_true(push(fd, text->str, text->len));
    assert_alive(other);
    char buf[4096];
    size_t first = 0;
    ssize_t n;
    while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) { /* what had been sent, without more turns */
        first += (size_t)n;
    }
    assert_true(first < 1000000);
    size_t total = first;
    for (unsigned i = 0; i < 200; i++) {
        turn();
        while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
            total += (size_t)n;
        }
    }
    assert_true(total > 2 * first);
    close(fd); /* in the middle of it */
    turn();
    assert_alive(other);
    close(other);
    g_string_free(text, TRUE);
}

/* ---- clients that do not read, or go ---- */

static void events_do_not_pile_up(void **state)
{
    Fixture *f = *state;
    int slow = dial_qmp(f);
    int good = dial_qmp(f);
    g_autofree char *string = g_strnfill(10000, 'x');
    for (unsigned i = 0; i < 1000; i++) {
        pta_event_emit(f->fake->sink, "NOISE", json_pack("{s:s}", "x", string));
        g_autofree char *text = hear(good);
        assert_int_equal(count(text, "NOISE"), 1);
        assert_int_equal(count(text, "EVENTS_LOST"), 0);
    }
    /* What the slow one gets: what its socket and the mark took, the note, the ring's 64. */
    g_autofree char *text = hear(slow);
    const char *note = strstr(text, "\"EVENTS_LOST\", \"data\": {\"count\": ");
    assert_non_null(note);
    unsigned lost = (unsigned)atoi(strstr(note, "count") + strlen("count\": "));
    assert_int_equal(count(text, "EVENTS_LOST"), 1);
    assert_int_equal(count(text, "NOISE") + lost, 1000);
    assert_true(count(note, "NOISE") == 64);
    assert_alive(slow);
    close(slow);
    close(good);
}

static void half_close_still_gets_the_replies(void **state)
{
    int fd = dial_qmp(*state);
    say(fd, "{\"execute\":\"large\",\"arguments\":{\"size\":1000000},\"id\":1}"
            "{\"execute\":\"nothing\",\"id\":2}{\"execute\":");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    bool end;
    g_autofree char *text = hear_end(fd, &end);
    assert_true(end);
    assert_true(strlen(text) > 1000000);
    assert_true(g_str_has_suffix(
        text,
        "\", \"id\": 1}\r\n{\"return\": {}, \"id\": 2}\r\n{\"error\": {\"class\": "
        "\"GenericError\", \"desc\": \"JSON parse error, the message ends too early\"}}\r\n"));
    close(fd);
}

static void what_a_client_sent_before_it_went_is_done(void **state)
{
    Fixture *f = *state;
    int fd = dial_qmp(f);
    uint64_t last = pta_event_sink_last(f->fake->sink);
    static const char text[] = "{\"execute\":\"stop-it\"}{\"execute\":\"stop-it\"}";
    assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
    close(fd);
    turn();
    assert_int_equal(pta_event_sink_last(f->fake->sink), last + 2);
    assert_int_equal(pta_monitor_n_clients(f->monitor), 0);
}

static void gone_in_the_middle_of_a_reply(void **state)
{
    Fixture *f = *state;
    int other = dial_qmp(f);
    for (unsigned i = 0; i < 20; i++) {
        int fd = dial_qmp(f);
        say(fd, "{\"execute\":\"large\",\"arguments\":{\"size\":10000000}}");
        char buf[1000];
        assert_int_equal(recv(fd, buf, sizeof(buf), 0), sizeof(buf));
        close(fd);
        turn();
    }
    assert_int_equal(pta_monitor_n_clients(f->monitor), 1);
    assert_alive(other);
    close(other);
}

static void many_at_once_and_one_too_many(void **state)
{
    Fixture *f = *state;
    int fds[PTA_MONITOR_MAX_CLIENTS];
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = dial_qmp(f);
    }
    int late = dial(f);
    bool end;
    g_autofree char *refusal = hear_end(late, &end);
    assert_true(end);
    assert_string_equal(
        refusal, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"too many clients\"}}\r\n");
    close(late);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
            g_autofree char *text =
                g_strdup_printf("{\"execute\":\"echo\",\"arguments\":{\"i\":%u}}", i);
            assert_int_equal(send(fds[i], text, strlen(text), 0), strlen(text));
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
            g_autofree char *text = g_strdup_printf("{\"return\": {\"i\": %u}}\r\n", i);
            expect(fds[i], text);
        }
    }
    pta_event_emit(f->fake->sink, "TICK", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_autofree char *text = hear(fds[i]);
        assert_int_equal(count(text, "TICK"), 1);
        close(fds[i]);
    }
    turn();
    assert_int_equal(pta_monitor_n_clients(f->monitor), 0);
    close(dial_qmp(f)); /* there is room again */
}

static void events_of_the_end_are_still_sent(void **state)
{
    Fixture *f = *state;
    int fd = dial_qmp(f);
    pta_event_emit(f->fake->sink, "SHUTDOWN", NULL);
    pta_monitor_free(f->monitor);
    bool end;
    g_autofree char *text = hear_end(fd, &end);
    assert_true(end);
    assert_int_equal(count(text, "SHUTDOWN"), 1);
    close(fd);
    f->monitor = pta_monitor_new(&f->fake->env, 0);
}

/* ---- commands that answer later ---- */

#define LATER "{\"execute\":\"later\"}"

/* The main loop has nothing to do, that is, does not spin. */
static void assert_quiet(void)
{
    turn();
    assert_false(g_main_context_iteration(NULL, FALSE));
}

static void nobody_else_waits(void **state)
{
    Fixture *f = *state;
    int slow = dial_qmp(f);
    int other = dial_qmp(f);
    say(slow, LATER "{\"execute\":\"echo\",\"id\":1}");
    expect(slow, "");
    assert_quiet();
    assert_alive(other);
    say(other, LATER);
    assert_int_equal(f->fake->started, 2);
    assert_true(fake_end(f->fake));
    expect(slow, "{\"return\": {}}\r\n{\"return\": {}, \"id\": 1}\r\n");
    expect(other, "");
    assert_true(fake_end(f->fake));
    expect(other, "{\"return\": {}}\r\n");
    assert_alive(slow);
    close(slow);
    close(other);
}

static void a_client_is_not_read_from_while_it_waits(void **state)
{
    Fixture *f = *state;
    int fd = dial_qmp(f);
    say(fd, LATER);
    g_autofree char *many = g_strnfill(10 * 1000 * 1000, ' ');
    assert_false(push(fd, many, strlen(many)));
    assert_quiet();
    assert_true(fake_end(f->fake));
    expect(fd, "{\"return\": {}}\r\n");
    assert_alive(fd);
    close(fd);
}

static void half_closed_while_a_command_is_under_way(void **state)
{
    Fixture *f = *state;
    int fd = dial_qmp(f);
    say(fd, LATER LATER "{\"execute\":\"nothing\"}");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_quiet();
    expect(fd, "");
    assert_true(fake_end(f->fake));
    expect(fd, "{\"return\": {}}\r\n");
    assert_quiet();
    assert_true(fake_end(f->fake));
    bool end;
    g_autofree char *text = hear_end(fd, &end);
    assert_string_equal(text, "{\"return\": {}}\r\n{\"return\": {}}\r\n");
    assert_true(end);
    close(fd);
}

static void gone_while_a_command_is_under_way(void **state)
{
    Fixture *f = *state;
    int other = dial_qmp(f);
    /* Its last one: the client costs nothing any more. */
    int fd = dial_qmp(f);
    say(fd, LATER);
    close(fd);
    assert_quiet();
    assert_int_equal(pta_monitor_n_clients(f->monitor), 1);
    assert_true(fake_end(f->fake));
    /* There are more: those are carried out, in order. */
    fd = dial_qmp(f);
    say(fd, LATER "{\"execute\":\"stop-it\"}" LATER);
    uint64_t last = pta_event_sink_last(f->fake->sink);
    close(fd);
    assert_quiet();
    assert_int_equal(pta_monitor_n_clients(f->monitor), 2);
    assert_true(fake_end(f->fake));
    assert_quiet();
    assert_int_equal(pta_event_sink_last(f->fake->sink), last + 1);
    assert_int_equal(pta_monitor_n_clients(f->monitor), 1);
    assert_int_equal(f->fake->started, 3);
    assert_true(fake_end(f->fake));
    assert_false(fake_end(f->fake));
    g_autofree char *text = hear(other);
    assert_int_equal(count(text, "STOP"), 1);
    assert_alive(other);
    close(other);
}

static void deaf_while_a_command_is_under_way(void **state)
{
    Fixture *f = *state;
    int fd = dial_qmp(f);
    say(fd, LATER);
    assert_int_equal(shutdown(fd, SHUT_RD), 0); /* and goes on talking */
    assert_true(fake_end(f->fake));
    assert_quiet();
    say(fd, LATER LATER);
    assert_quiet();
    assert_int_equal(f->fake->started, 2);
    assert_true(fake_end(f->fake));
    assert_quiet();
    assert_true(fake_end(f->fake));
    assert_int_equal(pta_monitor_n_clients(f->monitor), 1);
    close(fd);
    assert_quiet();
    assert_int_equal(pta_monitor_n_clients(f->monitor), 0);
}

static void the_monitor_goes_first(void **state)
{
    Fixture *f = *state;
    int fd = dial_qmp(f);
    say(fd, LATER LATER);
    pta_monitor_free(f->monitor);
    assert_true(fake_end(f->fake));
    assert_false(fake_end(f->fake));
    expect_end(fd);
    f->monitor = pta_monitor_new(&f->fake->env, 0);
}

/* ---- sockets ---- */

static void assert_listen_fails(Fixture *f, const char *path, const char *why)
{
    g_autoptr(GError) error = NULL;
    assert_false(pta_monitor_listen(f->monitor, path, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_HOST));
    if (!strstr(error->message, why)) {
        fail_msg("expected \"%s\" in \"%s\"", why, error->message);
    }
}

static void only_the_owner_may_connect(void **state)
{
    Fixture *f = *state;
    struct stat st;
    assert_int_equal(lstat(f->path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void a_stale_socket_is_replaced_and_nothing_else(void **state)
{
    Fixture *f = *state;
    assert_listen_fails(f, f->path, "another process listens on it");
    close(dial_qmp(f)); /* and it still does */

    g_autofree char *path = g_build_filename(f->dir, "other", NULL);
    assert_true(g_file_set_contents(path, "precious", -1, NULL));
    assert_listen_fails(f, path, "is not a socket");
    assert_int_equal(g_unlink(path), 0);

    g_autofree char *target = g_build_filename(f->dir, "target", NULL);
    assert_int_equal(symlink(target, path), 0);
    assert_listen_fails(f, path, "is not a socket");
    assert_int_equal(g_unlink(path), 0);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un addr = address(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(fd);
    assert_true(pta_monitor_listen(f->monitor, path, NULL));
    g_autofree char *old = f->path;
    f->path = g_steal_pointer(&path);
    close(dial_qmp(f));
    g_free(f->path);
    f->path = g_steal_pointer(&old);

    assert_listen_fails(f, "", "the path of a socket has 1 to 107 bytes");
    g_autofree char *name = g_strnfill(120, 'x');
    g_autofree char *long_path = g_build_filename(f->dir, name, NULL);
    assert_listen_fails(f, long_path, "the path of a socket has 1 to 107 bytes");
    g_autofree char *missing = g_build_filename(f->dir, "none", "sock", NULL);
    assert_listen_fails(f, missing, "No such file or directory");
}

static void what_took_its_place_is_left_alone(void **state)
{
    Fixture *f = *state;
    assert_int_equal(g_unlink(f->path), 0);
    assert_true(g_file_set_contents(f->path, "precious", -1, NULL));
    pta_monitor_free(f->monitor);
    assert_int_equal(access(f->path, F_OK), 0);
    assert_int_equal(g_unlink(f->path), 0);
    f->monitor = pta_monitor_new(&f->fake->env, 0);
}

static void a_client_by_descriptor(void **state)
{
    Fixture *f = *state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    pta_monitor_add_client(f->monitor, fds[1]);
    g_autofree char *greeting = hear(fds[0]);
    assert_int_equal(count(greeting, "\"QMP\""), 1);
    say(fds[0], "{\"jsonrpc\":\"2.0\",\"method\":\"nothing\",\"id\":1}");
    expect(fds[0], "{\"jsonrpc\": \"2.0\", \"result\": {}, \"id\": 1}\r\n");
    assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
    expect_end(fds[0]);
}

static void say_with_fds(int to, const char *text, const int *fds, unsigned n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control = { 0 };
    struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = CMSG_SPACE(n * sizeof(int)),
    };
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(h), fds, n * sizeof(int));
    assert_int_equal(sendmsg(to, &msg, 0), iov.iov_len);
}

/* The other end of a pipe whose one end was given away: nobody has it any more. */
static bool is_closed(int reader)
{
    char byte;
    return read(reader, &byte, 1) == 0;
}

#define GETFD(name) "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"" name "\"}}\n"
#define NOT_FOUND                                                                          \
    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"File descriptor named 'x' not " \
    "found\"}}\r\n"

static void descriptors_have_names(void **state)
{
    Fixture *f = *state;
    int fd = dial_qmp(f);
    int pipes[4][2];
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
    }
    say(fd, GETFD("x"));
    expect(fd,
           "{\"error\": {\"class\": \"GenericError\", \"desc\": \"No file descriptor supplied via "
           "SCM_RIGHTS\"}}\r\n");
    say_with_fds(fd, GETFD("1x"), &pipes[0][1], 1);
    expect(
        fd,
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Parameter 'fdname' expects a name "
        "not starting with a digit\"}}\r\n");
    close(pipes[0][1]);
    assert_true(is_closed(pipes[0][0]));
    /* Of two the first; one under a name that is taken replaces it. */
    int two[] = { pipes[1][1], pipes[2][1] };
    say_with_fds(fd, GETFD("x"), two, 2);
    expect(fd, "{\"return\": {}}\r\n");
    close(two[0]);
    close(two[1]);
    assert_true(is_closed(pipes[2][0]));
    assert_false(is_closed(pipes[1][0]));
    say_with_fds(fd, GETFD("x"), &pipes[3][1], 1);
    expect(fd, "{\"return\": {}}\r\n");
    close(pipes[3][1]);
    assert_true(is_closed(pipes[1][0]));
    assert_false(is_closed(pipes[3][0]));
    say(fd, "{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"x\"}}\n");
    expect(fd, "{\"return\": {}}\r\n");
    assert_true(is_closed(pipes[3][0]));
    say(fd, "{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"x\"}}\n");
    expect(fd, NOT_FOUND);
    say(fd,
        "{\"execute\": \"net-set-fd\", \"arguments\": {\"fdname\": \"x\", \"name\": \"net0\"}}\n");
    expect(fd, NOT_FOUND);
    /* What is left ends with the client; also what it never gave a name. */
    int more[2][2];
    assert_int_equal(
        pipe2(more[0], O_CLOEXEC | O_NONBLOCK) | pipe2(more[1], O_CLOEXEC | O_NONBLOCK), 0);
    say_with_fds(fd, GETFD("y"), &more[0][1], 1);
    expect(fd, "{\"return\": {}}\r\n");
    say_with_fds(fd, " ", &more[1][1], 1);
    turn();
    close(more[0][1]);
    close(more[1][1]);
    assert_false(is_closed(more[0][0]));
    assert_false(is_closed(more[1][0]));
    close(fd);
    turn();
    assert_true(is_closed(more[0][0]));
    assert_true(is_closed(more[1][0]));
    for (unsigned i = 0; i < 4; i++) {
        close(pipes[i][0]);
    }
    close(more[0][0]);
    close(more[1][0]);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        T(garbage_is_answered_once_a_line),
        T(deep_nesting_is_refused),
        T(two_mebibytes_are_refused),
        T(a_mebibyte_is_not),
        T(thousands_of_tiny_messages),
        T(a_batch_cannot_multiply),
        T(events_do_not_pile_up),
        T(half_close_still_gets_the_replies),
        T(what_a_client_sent_before_it_went_is_done),
        T(gone_in_the_middle_of_a_reply),
        T(many_at_once_and_one_too_many),
        T(events_of_the_end_are_still_sent),
        T(nobody_else_waits),
        T(a_client_is_not_read_from_while_it_waits),
        T(half_closed_while_a_command_is_under_way),
        T(gone_while_a_command_is_under_way),
        T(deaf_while_a_command_is_under_way),
        T(the_monitor_goes_first),
        T(only_the_owner_may_connect),
        T(a_stale_socket_is_replaced_and_nothing_else),
        T(what_took_its_place_is_left_alone),
        T(a_client_by_descriptor),
        T(descriptors_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
