/*
 * Image locks by open file descriptions. A user of an image holds a shared lock on byte PERM + n for
 * each thing n that it does, and on byte SHARED + n for each thing that it does not let others do;
 * then it asks whether anybody's locks contradict its own. The numbers are QEMU's.
 */
#include "config.h"

#include "devices/block/file.h"

#include <errno.h>
#include <fcntl.h>

#define PERM_BASE            100
#define SHARED_BASE          200

#define PERM_CONSISTENT_READ 0
#define PERM_WRITE           1

static struct flock lock_of(short type, off_t byte)
{
    return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
}

static int hold(int fd, off_t byte)
{
    struct flock fl = lock_of(F_RDLCK, byte);
    return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

/* 1 if another description holds the byte. */
static int held_by_other(int fd, off_t byte)
{
    struct flock fl = lock_of(F_WRLCK, byte);
    if (fcntl(fd, F_OFD_GETLK, &fl) < 0) {
        return -errno;
    }
    return fl.l_type != F_UNLCK;
}

bool pta_file_lock(int fd, const char *path, bool read_only, GError **error)
{
    /* Everybody reads, and nobody lets others write. */
    int err = hold(fd, PERM_BASE + PERM_CONSISTENT_READ);
    if (err == 0) {
        err = hold(fd, SHARED_BASE + PERM_WRITE);
    }
    if (err == 0 && !read_only) {
        err = hold(fd, PERM_BASE + PERM_WRITE);
    }
    int conflict = err;
    if (err == 0) {
        conflict = held_by_other(fd, SHARED_BASE + PERM_CONSISTENT_READ);
    }
    if (conflict == 0) {
        conflict = held_by_other(fd, PERM_BASE + PERM_WRITE);
    }
    if (conflict == 0 && !read_only) {
        conflict = held_by_other(fd, SHARED_BASE + PERM_WRITE);
    }
    if (conflict > 0 || conflict == -EAGAIN || conflict == -EACCES) {
        return pta_throw(error, PTA_ERROR_HOST, "%s is in use by another machine", path);
    }
    if (conflict < 0) {
        g_warning("%s: images on this file system cannot be locked: %s", path,
                  g_strerror(-conflict));
    }
    return true;
}
