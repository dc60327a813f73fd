/* Chardevs by themselves, with a front end that the test plays. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <utmp.h>
#include <unistd.h>

#include "devices/chardev/chardev.h"
#include "qmp/gen/types.h"

typedef struct Front {
    GString *got;
    size_t room;
    int n_got;
    int n_writable;
    int n_opened;
    int n_closed;
    int n_breaks;
    int n_quits;
} Front;

static size_t front_room(void *opaque)
{
    Front *fr = opaque;
    return fr->room - MIN(fr->room, fr->got->len);
}

static void front_receive(void *opaque, const uint8_t *data, size_t len)
{
    Front *fr = opaque;
    assert_true(len <= front_room(fr));
    g_string_append_len(fr->got, (const char *)data, (gssize)len);
    g_atomic_int_set(&fr->n_got, (int)fr->got->len);
}

static void front_writable(void *opaque)
{
    g_atomic_int_inc(&((Front *)opaque)->n_writable);
}

static void front_event(void *opaque, PtaChardevEvent event)
{
    Front *fr = opaque;
    fr->n_opened += event == PTA_CHARDEV_OPENED;
    fr->n_closed += event == PTA_CHARDEV_CLOSED;
    fr->n_breaks += event == PTA_CHARDEV_BREAK;
}

static void front_quit(void *opaque)
{
    ((Front *)opaque)->n_quits++;
}

static const PtaChardevFrontend front_ops = { front_room, front_receive, front_writable,
                                              front_event };

static PtaChardev *chardev_new(Fixture *f, Front *fr, ChardevConfig *config, GError **error)
{
    *fr = (Front){ .got = g_string_new(NULL), .room = 1000 };
    PtaChardevParams params = {
        .label = "c0", .context = f->context, .base_dir = f->dir, .quit = front_quit, .opaque = fr
    };
    PtaChardev *c = pta_chardev_new(&params, config, error);
    if (c) {
        pta_chardev_attach(c, &front_ops, fr);
        assert_true(pta_chardev_frontend_open(c));
    }
    return c;
}

static void chardev_end(PtaChardev *c, Front *fr)
{
    pta_chardev_free(c);
    g_string_free(fr->got, true);
}

static void output_to_a_file(void **unused)
{
    (void)unused;
    Fixture f;
    Front fr;
    fix_new(&f);
    g_autofree char *path = fix_path(&f, "log");
    assert_true(g_file_set_contents(path, "old\n", -1, NULL));
    for (int append = 0; append < 2; append++) {
        ChardevFileConfig file = { .path = (char *)"log", .append = append };
        ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_FILE, .file = &file };
        PtaChardev *c = chardev_new(&f, &fr, &config, NULL);
        assert_non_null(c);
        assert_string_equal(pta_chardev_label(c), "c0");
        g_autofree char *name = pta_chardev_filename(c);
        assert_string_equal(name, "file");
        assert_int_equal(pta_chardev_write(c, "new\n", 4), 4);
        chardev_end(c, &fr); /* what is buffered is written out */
        g_autofree char *text = NULL;
        assert_true(g_file_get_contents(path, &text, NULL, NULL));
        assert_string_equal(text, append ? "new\nnew\n" : "new\n");
    }
    ChardevFileConfig nowhere = { .path = (char *)"no/such/folder" };
    ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_FILE, .file = &nowhere };
    g_autoptr(GError) error = NULL;
    assert_null(chardev_new(&f, &fr, &config, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_HOST));
    g_string_free(fr.got, true);
    fix_free(&f);
}

static void ring_buffer_keeps_the_end(void **unused)
{
    (void)unused;
    Fixture f;
    Front fr;
    fix_new(&f);
    ChardevRingbufConfig ringbuf = { .size = 1024 };
    ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_RINGBUF, .ringbuf = &ringbuf };
    PtaChardev *c = chardev_new(&f, &fr, &config, NULL);
    uint8_t all[5000];
    for (size_t i = 0; i < sizeof(all); i++) {
        all[i] = (uint8_t)(i * 7);
    }
    /* In pieces of every kind, the last 1024 are what stays. */
    static const size_t cuts[] = { 0, 1, 1000, 1024, 1030, 2500, 2501, 4990, 5000 };
    for (size_t i = 0; i + 1 < G_N_ELEMENTS(cuts); i++) {
        size_t n = cuts[i + 1] - cuts[i];
        assert_int_equal(pta_chardev_write(c, all + cuts[i], n), n);
    }
    g_autoptr(GBytes) a = pta_chardev_ringbuf_read(c, 24, NULL);
    g_autoptr(GBytes) b = pta_chardev_ringbuf_read(c, 4096, NULL);
    g_autoptr(GBytes) none = pta_chardev_ringbuf_read(c, 4096, NULL);
    assert_int_equal(g_bytes_get_size(a), 24);
    assert_memory_equal(g_bytes_get_data(a, NULL), all + 5000 - 1024, 24);
    assert_int_equal(g_bytes_get_size(b), 1000);
    assert_memory_equal(g_bytes_get_data(b, NULL), all + 4000, 1000);
    assert_int_equal(g_bytes_get_size(none), 0);
    chardev_end(c, &fr);

    ringbuf.size = 1000;
    g_autoptr(GError) error = NULL;
    assert_null(chardev_new(&f, &fr, &config, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
    g_string_free(fr.got, true);
    ChardevNullConfig null = { 0 };
    ChardevConfig nothing = { .type = CHARDEV_CONFIG_TYPE_NULL, .null = &null };
    c = chardev_new(&f, &fr, &nothing, NULL);
    assert_int_equal(pta_chardev_write(c, all, 5000), 5000);
    g_autoptr(GError) no_ring = NULL;
    assert_null(pta_chardev_ringbuf_read(c, 1, &no_ring));
    assert_string_equal(no_ring->message, "c0 is not a ring buffer");
    chardev_end(c, &fr);
    fix_free(&f);
}

static int dial(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static void one_client_after_the_other(void **unused)
{
    (void)unused;
    Fixture f;
    Front fr;
    char buf[64];
    fix_new(&f);
    g_autofree char *path = fix_path(&f, "sock");
    ChardevUnixConfig sock = { .path = (char *)"sock" };
    ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_UNIX, .unix_ = &sock };
    PtaChardev *c = chardev_new(&f, &fr, &config, NULL);
    assert_non_null(c);
    g_autofree char *name = pta_chardev_filename(c);
    assert_true(g_str_has_prefix(name, "disconnected:unix:/"));
    assert_int_equal(pta_chardev_write(c, "lost", 4), 4); /* nobody is there */
    int first = dial(path);
    int second = dial(path);
    fix_run_until(&f, &fr.n_opened, 1);
    g_autofree char *connected = pta_chardev_filename(c);
    assert_true(g_str_has_prefix(connected, "unix:/"));
    assert_int_equal(write(first, "hello", 5), 5);
    fix_run_until(&f, &fr.n_got, 5);
    assert_string_equal(fr.got->str, "hello");
    assert_int_equal(write(second, "later", 5), 5);
    pta_chardev_write(c, "out", 3);
    while (read(first, buf, sizeof(buf)) != 3) {
        g_main_context_iteration(f.context, false);
    }
    assert_memory_equal(buf, "out", 3);
    close(first);
    fix_run_until(&f, &fr.n_opened, 2);
    assert_int_equal(fr.n_closed, 1);
    fix_run_until(&f, &fr.n_got, 10);
    assert_string_equal(fr.got->str, "hellolater");
    close(second);
    fix_run_until(&f, &fr.n_closed, 2);

    /* A second server is refused while the first lives … */
    Front other;
    g_autoptr(GError) error = NULL;
    assert_null(chardev_new(&f, &other, &config, &error));
    assert_non_null(strstr(error->message, "in use"));
    g_string_free(other.got, true);
    chardev_end(c, &fr);
    assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    /* … a stale socket is replaced, and what is no socket is left alone. */
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(stale);
    c = chardev_new(&f, &fr, &config, NULL);
    assert_non_null(c);
    chardev_end(c, &fr);
    assert_true(g_file_set_contents(path, "precious", -1, NULL));
    g_autoptr(GError) error2 = NULL;
    assert_null(chardev_new(&f, &fr, &config, &error2));
    assert_non_null(strstr(error2->message, "no socket"));
    g_string_free(fr.got, true);
    assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    fix_free(&f);
}

/* Input is left outside until the front end has room, and asked for again when it says so. */
static void input_waits(void **unused)
{
    (void)unused;
    Fixture f;
    Front fr;
    fix_new(&f);
    g_autofree char *path = fix_path(&f, "sock");
    ChardevUnixConfig sock = { .path = path };
    ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_UNIX, .unix_ = &sock };
    PtaChardev *c = chardev_new(&f, &fr, &config, NULL);
    fr.room = 3;
    int fd = dial(path);
    assert_int_equal(write(fd, "abcdef", 6), 6);
    close(fd); /* gone already: what it sent still counts */
    fix_run_until(&f, &fr.n_got, 3);
    fix_run(&f);
    assert_int_equal(fr.n_got, 3);
    fr.room = 6;
    pta_chardev_accept_input(c);
    fix_run_until(&f, &fr.n_got, 6);
    assert_string_equal(fr.got->str, "abcdef");
    fr.room = 7;
    pta_chardev_accept_input(c);
    fix_run_until(&f, &fr.n_closed, 1);
    chardev_end(c, &fr);
    fix_free(&f);
}

static void a_full_buffer_is_told(void **unused)
{
    (void)unused;
    Fixture f;
    Front fr;
    fix_new(&f);
    g_autofree char *path = fix_path(&f, "sock");
    ChardevUnixConfig sock = { .path = path };
    ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_UNIX, .unix_ = &sock };
    PtaChardev *c = chardev_new(&f, &fr, &config, NULL);
    int fd = dial(path);
    fix_run_until(&f, &fr.n_opened, 1);
    g_autofree char *block = g_strnfill(10000, 'x');
    size_t sent = 0;
    size_t n = 0;
    do {
        n = pta_chardev_write(c, block, 10000);
        sent += n;
        fix_run(&f);
    } while (n == 10000);
    fix_run(&f);
    assert_int_equal(fr.n_writable, 0);
    char buf[8192];
    size_t got = 0;
    while (got < sent) {
        ssize_t r = read(fd, buf, sizeof(buf));
        got += r > 0 ? (size_t)r : 0;
        g_main_context_iteration(f.context, false);
    }
    assert_int_equal(fr.n_writable, 1);
    close(fd);
    chardev_end(c, &fr);
    fix_free(&f);
}

/* A byte after silence goes out with the next turn; those behind it wait for one another. */
static void output_goes_in_groups(void **unused)
{
    (void)unused;
    Fixture f;
    Front fr;
    char buf[64];
    fix_new(&f);
    g_autofree char *path = fix_path(&f, "sock");
    ChardevUnixConfig sock = { .path = path };
    ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_UNIX, .unix_ = &sock };
    PtaChardev *c = chardev_new(&f, &fr, &config, NULL);
    int fd = dial(path);
    fix_run_until(&f, &fr.n_opened, 1);
    unsigned n_grouped = 0;
    for (unsigned i = 0; i < 20; i++) {
        fix_run(&f);
        g_usleep(2000);
        pta_chardev_write(c, "1", 1);
        g_main_context_iteration(f.context, false);
        gint64 first = g_get_monotonic_time();
        assert_int_equal(read(fd, buf, sizeof(buf)), 1);
        pta_chardev_write(c, "2", 1);
        g_main_context_iteration(f.context, false);
        pta_chardev_write(c, "3", 1);
        ssize_t early = read(fd, buf, sizeof(buf));
        if (g_get_monotonic_time() - first < 900) { /* else this thread was held up */
            assert_int_equal(early, -1);
            n_grouped++;
        }
        for (ssize_t got = MAX(early, 0); got < 2;) {
            g_main_context_iteration(f.context, false);
            ssize_t n = read(fd, buf, sizeof(buf));
            got += MAX(n, 0);
        }
    }
    assert_true(n_grouped > 0);
    close(fd);
    chardev_end(c, &fr);
    fix_free(&f);
}

static void pseudo_terminal(void **unused)
{
    (void)unused;
    Fixture f;
    Front fr;
    char buf[64];
    fix_new(&f);
    g_autofree char *link = fix_path(&f, "console");
    ChardevPtyConfig pty = { .link = (char *)"console" };
    ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_PTY, .pty = &pty };
    g_autoptr(GError) error = NULL;
    PtaChardev *c = chardev_new(&f, &fr, &config, &error);
    if (!c) {
        fail_msg("%s", error->message);
    }
    g_autofree char *name = pta_chardev_filename(c);
    g_autofree char *target = g_file_read_link(link, NULL);
    assert_true(g_str_has_prefix(name, "pty:/dev/pts/"));
    assert_string_equal(name + 4, target);
    for (int round = 1; round <= 2; round++) { /* people come back */
        int fd = open(link, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        assert_true(fd >= 0);
        fix_run_until(&f, &fr.n_opened, round);
        assert_int_equal(write(fd, "hi\n", 3), 3);
        fix_run_until(&f, &fr.n_got, 3 * round);
        pta_chardev_write(c, "a\nb", 3);
        while (read(fd, buf, sizeof(buf)) != 3) {
            g_main_context_iteration(f.context, false);
        }
        assert_memory_equal(buf, "a\nb", 3); /* raw */
        close(fd);
        fix_run_until(&f, &fr.n_closed, round);
    }
    chardev_end(c, &fr);
    assert_false(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
    fix_free(&f);
}

/* ---- stdio: in a child, whose standard streams the test holds ---- */

typedef enum Scene {
    ECHO_UNTIL_EOF, /* writes back what comes; ends at quit, or when told "end" */
    CRASH,          /* aborts as soon as the terminal is raw */
} Scene;

static void stdio_child(Scene scene)
{
    Fixture f;
    Front fr;
    fix_new(&f);
    ChardevStdioConfig stdio = { 0 };
    ChardevConfig config = { .type = CHARDEV_CONFIG_TYPE_STDIO, .stdio = &stdio };
    PtaChardev *c = chardev_new(&f, &fr, &config, NULL);
    if (scene == CRASH) {
        pta_chardev_write(c, "R", 1);
        g_autoptr(GSource) wait = g_timeout_source_new(20);
        g_source_set_callback(wait, G_SOURCE_FUNC(abort), NULL, NULL);
        g_source_attach(wait, f.context);
    }
    size_t echoed = 0;
    pta_chardev_write(c, "R", 1);
    while (fr.n_quits == 0 && !strstr(fr.got->str, "end")) {
        g_main_context_iteration(f.context, true);
        echoed += pta_chardev_write(c, fr.got->str + echoed, fr.got->len - echoed);
        if (fr.n_breaks > 0) {
            fr.n_breaks = 0;
            pta_chardev_write(c, "<break>", 7);
        }
    }
    chardev_end(c, &fr);
    fix_free(&f);
    exit(fr.n_quits ? 42 : 0);
}

static int wait_for(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* Reads until `text` has come; everything so far in *all. */
static void expect(int fd, GString *all, const char *text)
{
    int64_t deadline = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (!strstr(all->str, text)) {
        char buf[256];
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        assert_true(g_get_monotonic_time() < deadline);
        if (poll(&pfd, 1, 100) > 0) {
            ssize_t n = read(fd, buf, sizeof(buf));
            if (n <= 0) {
                fail_msg("the stream ended before \"%s\", after \"%s\"", text, all->str);
            }
            g_string_append_len(all, buf, n);
        }
    }
}

static bool is_raw(int tty)
{
    struct termios t;
    assert_int_equal(tcgetattr(tty, &t), 0);
    return !(t.c_lflag & ICANON);
}

static pid_t on_terminal(Scene scene, int *master, int *slave)
{
    assert_int_equal(openpty(master, slave, NULL, NULL, NULL), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(*master);
        login_tty(*slave);
        stdio_child(scene);
    }
    return pid;
}

static void keys_on_a_terminal(void **unused)
{
    (void)unused;
    int master;
    int slave;
    g_autoptr(GString) all = g_string_new(NULL);
    pid_t pid = on_terminal(ECHO_UNTIL_EOF, &master, &slave);
    expect(master, all, "R");
    assert_true(is_raw(slave));
    assert_int_equal(write(master, "q\001\001w\001b\003", 7), 7);
    expect(master, all, "q\001w\003");
    expect(master, all, "<break>");
    assert_int_equal(write(master, "\001h", 2), 2);
    expect(master, all, "end the machine");
    assert_int_equal(write(master, "\001x", 2), 2);
    int status = wait_for(pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    assert_false(is_raw(slave));
    close(master);
    close(slave);
}

static void a_crash_restores_the_terminal(void **unused)
{
    (void)unused;
    int master;
    int slave;
    g_autoptr(GString) all = g_string_new(NULL);
    pid_t pid = on_terminal(CRASH, &master, &slave);
    expect(master, all, "R");
    int status = wait_for(pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_false(is_raw(slave));
    close(master);
    close(slave);
}

/* Pipes: Ctrl-A means nothing, the end of input ends nothing, and flags stay as they were. */
static void pipes_and_closed_streams(void **unused)
{
    (void)unused;
    for (int closed = 0; closed < 2; closed++) {
        int in[2];
        int out[2];
        g_autoptr(GString) all = g_string_new(NULL);
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0) {
            dup2(in[0], 0);
            dup2(out[1], 1);
            close(in[1]);
            if (closed) {
                close(0);
                alarm(1); /* there is nothing that could end it */
            }
            stdio_child(ECHO_UNTIL_EOF);
        }
        expect(out[0], all, "R");
        assert_false(fcntl(in[0], F_GETFL) & O_NONBLOCK);
        assert_false(fcntl(out[1], F_GETFL) & O_NONBLOCK);
        if (!closed) {
            assert_int_equal(write(in[1], "\001x", 2), 2);
            expect(out[0], all, "\001x");
            assert_int_equal(write(in[1], "end", 3), 3);
        }
        close(in[1]);
        int status = wait_for(pid);
        if (closed) {
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
        } else {
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        close(in[0]);
        close(out[0]);
        close(out[1]);
    }
}

/* At the end of input the thread sleeps: the child's processor time says so. */
static void end_of_input_costs_nothing(void **unused)
{
    (void)unused;
    int out[2];
    g_autoptr(GString) all = g_string_new(NULL);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        dup2(null, 0);
        dup2(out[1], 1);
        stdio_child(ECHO_UNTIL_EOF);
    }
    expect(out[0], all, "R");
    g_usleep(300000);
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *stat = NULL;
    assert_true(g_file_get_contents(path, &stat, NULL, NULL));
    g_auto(GStrv) fields = g_strsplit(strrchr(stat, ')') + 2, " ", 0);
    guint64 ticks = g_ascii_strtoull(fields[11], NULL, 10) + g_ascii_strtoull(fields[12], NULL, 10);
    assert_true(ticks < 15); /* of 10 ms */
    kill(pid, SIGKILL);
    wait_for(pid);
    close(out[0]);
    close(out[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_to_a_file),
        cmocka_unit_test(ring_buffer_keeps_the_end),
        cmocka_unit_test(one_client_after_the_other),
        cmocka_unit_test(input_waits),
        cmocka_unit_test(a_full_buffer_is_told),
        cmocka_unit_test(output_goes_in_groups),
        cmocka_unit_test(pseudo_terminal),
        cmocka_unit_test(keys_on_a_terminal),
        cmocka_unit_test(a_crash_restores_the_terminal),
        cmocka_unit_test(pipes_and_closed_streams),
        cmocka_unit_test(end_of_input_costs_nothing),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
