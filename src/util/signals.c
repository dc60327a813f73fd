/*
 * Signals as calls in the main loop. GLib has that too (g_unix_signal_add), but starts a thread for it:
 * a tenth of a millisecond of every start.
 */
#include "config.h"

#include "src/util/util.h"

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct Signals {
    int fd; /* CONST: an eventfd that handlers write to */
    PtaMainFn *fn;
    void *data;
} Signals;

static Signals *the_signals(void)
{
    static Signals signals = { .fd = -1 };
    return &signals;
}

static void on_signal(int signum)
{
    (void)signum;
    int errnum = errno;
    uint64_t one = 1;
    if (write(the_signals()->fd, &one, sizeof(one)) < 0) {
        /* the counter is full: it is known */
    }
    errno = errnum;
}

static gboolean dispatch(gint fd, GIOCondition condition, gpointer data)
{
    (void)condition, (void)data;
    uint64_t n;
    if (read(fd, &n, sizeof(n)) == sizeof(n)) {
        the_signals()->fn(the_signals()->data);
    }
    return G_SOURCE_CONTINUE;
}

bool pta_on_signals(const int *signums, size_t n, PtaMainFn *fn, void *data, GError **error)
{
    Signals *s = the_signals();
    pta_assert_main();
    g_assert(s->fd < 0);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return pta_throw_errno(error, errno, "eventfd");
    }
    *s = (Signals){ fd, fn, data };
    g_unix_fd_add(fd, G_IO_IN, dispatch, NULL);
    for (size_t i = 0; i < n; i++) {
        struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
        sigaction(signums[i], &action, NULL);
    }
    return true;
}
