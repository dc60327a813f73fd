/* What a description promises and the schema cannot know: that the host's files are there. Opens for
 * reading only and creates nothing, so that a wrong description leaves no trace. Main thread. */
#include "config.h"

#include "src/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

typedef struct Check {
    const char *base_dir;
    GError **error;
} Check;

/* A regular file or block device that can be opened like this. */
static bool check_file(const Check *c, const char *json_path, const char *name, int flags,
                       const char *expected)
{
    g_autofree char *path = pta_resolve_path(c->base_dir, name);
    pta_autofd int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                         "%s: cannot open \"%s\": %s; expected %s", json_path, name,
                         g_strerror(errno), expected);
    }
    struct stat st;
    if (fstat(fd, &st) < 0 || S_ISDIR(st.st_mode)) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION, "%s: \"%s\" is a folder; expected %s",
                         json_path, name, expected);
    }
    return true;
}

/* The folder in which something will be made. */
static bool check_parent(const Check *c, const char *json_path, const char *name)
{
    g_autofree char *path = pta_resolve_path(c->base_dir, name);
    g_autofree char *dir = g_path_get_dirname(path);
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR)) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                         "%s: \"%s\" is in a folder that is not there (%s)", json_path, name, dir);
    }
    return true;
}

/* A socket to be: nothing there, or a socket (a stale one is replaced later, a live one refused). */
static bool check_socket(const Check *c, const char *json_path, const char *name)
{
    g_autofree char *path = pta_resolve_path(c->base_dir, name);
    struct stat st;
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                         "%s: \"%s\" is %zu bytes long as a full path; expected at most %zu",
                         json_path, path, strlen(path),
                         sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    }
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                         "%s: \"%s\" is there and is no socket; expected nothing or a socket",
                         json_path, name);
    }
    return check_parent(c, json_path, name);
}

static bool check_chardev(const Check *c, const char *where, const ChardevConfig *chardev)
{
    g_autofree char *at = NULL;
    switch (chardev->type) {
    case CHARDEV_CONFIG_TYPE_UNIX:
        at = g_strdup_printf("%s.path", where);
        return check_socket(c, at, chardev->unix_->path);
    case CHARDEV_CONFIG_TYPE_FILE:
        at = g_strdup_printf("%s.path", where);
        return check_parent(c, at, chardev->file->path);
    case CHARDEV_CONFIG_TYPE_PTY:
        at = g_strdup_printf("%s.link", where);
        return !chardev->pty->link || check_parent(c, at, chardev->pty->link);
    default:
        return true;
    }
}

static bool check_device(const Check *c, const char *where, const DeviceConfig *d)
{
    g_autofree char *at = NULL;
    switch (d->type) {
    case DEVICE_CONFIG_TYPE_UART16550:
        at = g_strdup_printf("%s.chardev", where);
        return check_chardev(c, at, d->uart16550->chardev);
    case DEVICE_CONFIG_TYPE_VIRTIO_BLK: {
        const BlockFileConfig *file = d->virtio_blk->block->file;
        at = g_strdup_printf("%s.block.path", where);
        return check_file(c, at, file->path, file->read_only ? O_RDONLY : O_RDWR,
                          file->read_only ? "a readable disk image" : "a writable disk image");
    }
    case DEVICE_CONFIG_TYPE_VIRTIO_RNG:
        at = g_strdup_printf("%s.source", where);
        return !d->virtio_rng->source ||
               check_file(c, at, d->virtio_rng->source, O_RDONLY, "a readable file");
    default:
        return true;
    }
}

/* Two users of one resource: the terminal belongs to one device. */
static bool check_stdio(const Check *c, const MachineConfig *config)
{
    const char *owner = NULL;
    for (size_t i = 0; i < config->n_devices; i++) {
        const DeviceConfig *d = config->devices[i];
        if (d->type != DEVICE_CONFIG_TYPE_UART16550 ||
            d->uart16550->chardev->type != CHARDEV_CONFIG_TYPE_STDIO) {
            continue;
        }
        if (owner) {
            return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                             "$.devices[%zu].chardev.type: \"stdio\" is taken by device \"%s\"; "
                             "expected another chardev",
                             i, owner);
        }
        owner = d->id;
    }
    return true;
}

bool pta_machine_config_check(const MachineConfig *config, const char *base_dir, GError **error)
{
    const Check c = { base_dir, error };
    if (!check_file(&c, "$.boot.kernel", config->boot->kernel, O_RDONLY, "a kernel image") ||
        (config->boot->initrd &&
         !check_file(&c, "$.boot.initrd", config->boot->initrd, O_RDONLY, "an initial RAM disk"))) {
        return false;
    }
    for (size_t i = 0; i < config->n_devices; i++) {
        g_autofree char *where = g_strdup_printf("$.devices[%zu]", i);
        if (!check_device(&c, where, config->devices[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < config->n_monitor; i++) {
        g_autofree char *where = g_strdup_printf("$.monitor[%zu].path", i);
        if (!check_socket(&c, where, config->monitor[i]->unix_->path)) {
            return false;
        }
    }
    return check_stdio(&c, config);
}
