/*
 * Who owns shared memory: a lock on its file that belongs to an open file description. It goes when
 * the last descriptor and the last mapping of that description have gone, so with the process at
 * the latest; and it travels with the descriptor, so that it can be handed over without a moment in
 * which nobody has it.
 */
#include "config.h"

#include "src/memory/backing-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A descriptor of another process that shows this file and has a lock by its description. */
static bool holds(const char *pid, const char *fd, const struct stat *file)
{
    g_autofree char *link = g_build_filename("/proc", pid, "fd", fd, NULL);
    struct stat st;
    if (stat(link, &st) < 0 || st.st_dev != file->st_dev || st.st_ino != file->st_ino) {
        return false;
    }
    g_autofree char *path = g_build_filename("/proc", pid, "fdinfo", fd, NULL);
    g_autofree char *info = NULL;
    return g_file_get_contents(path, &info, NULL, NULL) && strstr(info, "OFDLCK");
}

static bool process_holds(const char *pid, const struct stat *file)
{
    g_autofree char *path = g_build_filename("/proc", pid, "fd", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *fd; dir && (fd = g_dir_read_name(dir));) {
        if (holds(pid, fd, file)) {
            return true;
        }
    }
    return false;
}

/* "process 1234 (partita)", or NULL: the kernel tells nobody who has such a lock, but shows it with
 * the descriptors of those processes that we may look into. Slow: for a refusal. */
static char *holder(int fd)
{
    struct stat file;
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    if (!proc || fstat(fd, &file) < 0) {
        return NULL;
    }
    for (const char *pid; (pid = g_dir_read_name(proc));) {
        if (!g_ascii_isdigit(*pid) || !process_holds(pid, &file)) {
            continue;
        }
        g_autofree char *path = g_build_filename("/proc", pid, "comm", NULL);
        g_autofree char *comm = NULL;
        if (!g_file_get_contents(path, &comm, NULL, NULL)) {
            return g_strdup_printf("process %s", pid);
        }
        g_autofree char *name = g_strescape(g_strchomp(comm), NULL);
        return g_strdup_printf("process %s (%s)", pid, name);
    }
    return NULL;
}

bool pta_backing_lock(int fd, const char *name, GError **error)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return true;
    }
    if (errno != EAGAIN && errno != EACCES) {
        return pta_throw_errno(error, errno, "memory: cannot lock \"%s\"", name);
    }
    g_autofree char *who = holder(fd);
    return pta_throw(error, PTA_ERROR_HOST,
                     "memory: \"%s\" is managed by %s already; expected nobody", name,
                     who ? who : "another process");
}
