/*
 * The process's standard input and output. Whoever started us shares these file descriptions and
 * must find them as they were: O_NONBLOCK is never set on them (a terminal or pipe is opened anew
 * for that), and the terminal's settings are put back at the end, by exit(), by crash signals, and
 * whenever the process is stopped and continued.
 *
 * On a terminal Ctrl-A is an escape: x ends the machine, b sends a break, h helps.
 */
#include "config.h"

#include "devices/chardev/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE 0x01 /* Ctrl-A */

typedef struct Stdio {
    PtaChardev parent;
    int in;  /* ours to close; -1 if there is none */
    int out; /* ours to close */
    bool out_is_socket;
    bool terminal; /* standard input is one, and we set it to raw */
    bool escaped;  /* Ctrl-A came */
} Stdio;

/* ---- the terminal, which the process has one of: reached by signal handlers ---- */

static struct {
    volatile sig_atomic_t raw; /* it is set to raw, by us */
    struct termios saved;
    struct termios wanted;
} tty;

static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGQUIT, SIGSYS };

/* Async-signal-safe. */
static void tty_restore(void)
{
    if (tty.raw) {
        int saved = errno;
        tty.raw = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &tty.saved);
        errno = saved;
    }
}

static void on_crash(int sig)
{
    tty_restore();
    raise(sig); /* SA_RESETHAND: this time for good, once we return and it is unblocked */
}

/* The shell put its own settings in place while we were stopped. */
static void on_continue(int sig)
{
    (void)sig;
    int saved = errno;
    if (tty.raw && tcgetpgrp(STDIN_FILENO) == getpgrp()) {
        tcsetattr(STDIN_FILENO, TCSANOW, &tty.wanted);
    }
    errno = saved;
}

static void handle(int sig, void (*fn)(int), int flags)
{
    struct sigaction old;
    struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };
    sigemptyset(&sa.sa_mask);
    if (sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_DFL) {
        sigaction(sig, &sa, NULL);
    }
}

static bool tty_set_raw(void)
{
    static bool at_exit;
    if (tty.raw || !isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) != getpgrp() ||
        tcgetattr(STDIN_FILENO, &tty.saved) < 0) {
        return false; /* no terminal, or one that belongs to another job now */
    }
    tty.wanted = tty.saved;
    /* Output processing stays on: log lines go to the same terminal. */
    tty.wanted.c_iflag &=
        ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    tty.wanted.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    tty.wanted.c_cflag = (tty.wanted.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    tty.wanted.c_cc[VMIN] = 1;
    tty.wanted.c_cc[VTIME] = 0;
    tty.raw = 1;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &tty.wanted) < 0) {
        tty.raw = 0;
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(crash_signals); i++) {
        handle(crash_signals[i], on_crash, (int)SA_RESETHAND);
    }
    handle(SIGCONT, on_continue, SA_RESTART);
    if (!at_exit) {
        at_exit = atexit(tty_restore) == 0;
    }
    return true;
}

/* ---- streams ---- */

/* A description of our own, not waiting, where the kind of file allows it; else a duplicate. */
static int own_description(int fd, int mode, bool *is_socket)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return -1;
    }
    *is_socket = S_ISSOCK(st.st_mode);
    if (S_ISFIFO(st.st_mode) || isatty(fd)) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        int own = open(path, mode | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (own >= 0) {
            return own;
        }
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static bool stdio_open(PtaChardev *c, const void *config, const char *base_dir, GError **error)
{
    (void)config, (void)base_dir, (void)error;
    Stdio *s = (Stdio *)c;
    bool in_is_socket;
    s->in = own_description(STDIN_FILENO, O_RDONLY, &in_is_socket);
    s->out = own_description(STDOUT_FILENO, O_WRONLY, &s->out_is_socket);
    bool background = s->in >= 0 && isatty(s->in) && tcgetpgrp(s->in) != getpgrp();
    if (background) { /* to read would stop the process */
        pta_close(s->in);
        s->in = -1;
    }
    s->terminal = s->in >= 0 && tty_set_raw();
    handle(SIGPIPE, SIG_IGN, 0);
    c->in_fd = s->in;
    c->out_fd = s->out;
    c->open = s->out >= 0;
    return true;
}

static void stdio_close(PtaChardev *c)
{
    Stdio *s = (Stdio *)c;
    if (s->terminal) {
        tty_restore();
    }
    pta_close(s->in);
    pta_close(s->out);
}

/* What was typed after Ctrl-A. True if the character is for the guest. */
static bool escape_key(Stdio *s, uint8_t key)
{
    static const char help[] = "\r\nCtrl-A x  end the machine\r\n"
                               "Ctrl-A b  send a break\r\n"
                               "Ctrl-A h  this help\r\n"
                               "Ctrl-A Ctrl-A  send Ctrl-A\r\n";
    PtaChardev *c = &s->parent;
    switch (key) {
    case ESCAPE:
        return true;
    case 'x':
        if (c->quit) {
            c->quit(c->quit_opaque);
        }
        return false;
    case 'b':
        pta_chardev_send_event(c, PTA_CHARDEV_BREAK);
        return false;
    case 'h':
    case '?':
        pta_chardev_write(c, help, sizeof(help) - 1);
        return false;
    default:
        return false;
    }
}

static ssize_t stdio_read(PtaChardev *c, uint8_t *buf, size_t len)
{
    Stdio *s = (Stdio *)c;
    ssize_t n = read(s->in, buf, len);
    if (n <= 0) {
        return n < 0 ? -errno : -EPIPE; /* the end of standard input */
    }
    if (!s->terminal) {
        return n;
    }
    ssize_t kept = 0;
    for (ssize_t i = 0; i < n; i++) {
        if (s->escaped) {
            s->escaped = false;
            if (escape_key(s, buf[i])) {
                buf[kept++] = buf[i];
            }
        } else if (buf[i] == ESCAPE) {
            s->escaped = true;
        } else {
            buf[kept++] = buf[i];
        }
    }
    return kept;
}

static ssize_t stdio_write(PtaChardev *c, const uint8_t *buf, size_t len)
{
    Stdio *s = (Stdio *)c;
    ssize_t n = s->out_is_socket ? send(s->out, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                                 : write(s->out, buf, len);
    return n < 0 ? -errno : n;
}

/* Input may end while output goes on, and the other way round. */
static void stdio_hangup(PtaChardev *c, bool output)
{
    if (output) {
        pta_chardev_set_stream(c, c->in_fd, -1);
        pta_chardev_set_open(c, false);
    } else {
        pta_chardev_set_stream(c, -1, c->out_fd);
    }
}

static char *stdio_filename(PtaChardev *c)
{
    (void)c;
    return g_strdup("stdio");
}

const PtaChardevClass pta_chardev_stdio = {
    .instance_size = sizeof(Stdio),
    .open = stdio_open,
    .close = stdio_close,
    .read = stdio_read,
    .write = stdio_write,
    .hangup = stdio_hangup,
    .filename = stdio_filename,
};
