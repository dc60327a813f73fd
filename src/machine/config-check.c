/* What a description promises and the schema cannot know: that the host's files are there. Opens for
 * reading only and creates nothing, so that a wrong description leaves no trace. Main thread. */
#include "config.h"

#include "src/machine/machine-memory.h"
#include "src/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

typedef struct Check {
    const char *base_dir;
    GHashTable *owners; /* path of a file that only one may use -> JSON path of who does */
    GError **error;
} Check;

typedef enum FileKind {
    FILE_IMAGE, /* read as a whole */
    FILE_DISK,  /* a regular file or a block device */
    FILE_BYTES, /* anything to read from */
} FileKind;

/* Opens it, without waiting for whoever is at the other end, and looks at what it is. */
static bool check_file(const Check *c, const char *json_path, const char *name, int flags,
                       FileKind kind, const char *expected)
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
    if (kind != FILE_BYTES && !S_ISREG(st.st_mode) && !(kind == FILE_DISK && S_ISBLK(st.st_mode))) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                         "%s: \"%s\" is no regular file%s; expected %s", json_path, name,
                         kind == FILE_DISK ? " or block device" : "", expected);
    }
    if (kind != FILE_BYTES && S_ISREG(st.st_mode) && st.st_size == 0) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION, "%s: \"%s\" is empty; expected %s",
                         json_path, name, expected);
    }
    return true;
}

/* A file that is written to: no other part of the machine may use it. */
static bool check_owner(const Check *c, const char *json_path, const char *name)
{
    g_autofree char *path = pta_resolve_path(c->base_dir, name);
    char *canonical = g_canonicalize_filename(path, NULL);
    const char *owner = g_hash_table_lookup(c->owners, canonical);
    if (owner) {
        pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                  "%s: \"%s\" is used by %s already; expected another file", json_path, name,
                  owner);
        g_free(canonical);
        return false;
    }
    return g_hash_table_insert(c->owners, canonical, g_strdup(json_path));
}

/* The folder in which something will be made. */
static bool check_parent(const Check *c, const char *json_path, const char *name)
{
    g_autofree char *path = pta_resolve_path(c->base_dir, name);
    g_autofree char *dir = g_path_get_dirname(path);
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR)) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                         "%s: \"%s\" is in a folder that is not there (%s); expected one that is",
                         json_path, name, dir);
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
    return check_parent(c, json_path, name) && check_owner(c, json_path, name);
}

static bool check_output(const Check *c, const char *json_path, const char *name)
{
    g_autofree char *path = pta_resolve_path(c->base_dir, name);
    if (g_file_test(path, G_FILE_TEST_IS_DIR)) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                         "%s: \"%s\" is a folder; expected a file to write to, or nothing",
                         json_path, name);
    }
    return check_parent(c, json_path, name) && check_owner(c, json_path, name);
}

/* A link that another machine left behind is replaced (devices/chardev/pty.c). */
static bool check_link(const Check *c, const char *json_path, const char *name)
{
    g_autofree char *path = pta_resolve_path(c->base_dir, name);
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISLNK(st.st_mode)) {
        return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                         "%s: \"%s\" is there and is no link; expected nothing or an old link",
                         json_path, name);
    }
    return check_parent(c, json_path, name) && check_owner(c, json_path, name);
}

static bool check_power_of_two(const Check *c, const char *where, const char *member,
                               uint64_t value)
{
    return pta_is_pow2(value) ||
           pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                     "%s.%s: expected a power of two, found %" PRIu64, where, member, value);
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
        return check_output(c, at, chardev->file->path);
    case CHARDEV_CONFIG_TYPE_PTY:
        at = g_strdup_printf("%s.link", where);
        return !chardev->pty->link || check_link(c, at, chardev->pty->link);
    case CHARDEV_CONFIG_TYPE_RINGBUF:
        return check_power_of_two(c, where, "size", chardev->ringbuf->size);
    default:
        return true;
    }
}

static bool check_disk(const Check *c, const char *where, const VirtioBlkConfig *disk)
{
    const BlockFileConfig *file = disk->block->file;
    g_autofree char *at = g_strdup_printf("%s.block.path", where);
    return check_power_of_two(c, where, "queue-size", disk->queue_size) &&
           check_file(c, at, file->path, file->read_only ? O_RDONLY : O_RDWR, FILE_DISK,
                      file->read_only ? "a readable disk image" : "a writable disk image") &&
           (file->read_only || check_owner(c, at, file->path));
}

/* Addresses, ports and interfaces are the back ends' to judge. */
static bool check_network_card(const Check *c, const char *where, const VirtioNetConfig *card)
{
    const NetConfig *net = card->net;
    const NetAddress *listen = NULL;
    g_autofree char *at = NULL;
    if (net->type == NET_CONFIG_TYPE_STREAM && net->stream->server) {
        listen = net->stream->addr;
        at = g_strdup_printf("%s.net.addr.path", where);
    } else if (net->type == NET_CONFIG_TYPE_DGRAM) {
        listen = net->dgram->local;
        at = g_strdup_printf("%s.net.local.path", where);
    }
    return check_power_of_two(c, where, "queue-size", card->queue_size) &&
           (!listen || listen->type != NET_ADDRESS_TYPE_UNIX ||
            check_socket(c, at, listen->unix_->path));
}

static bool check_clock(const Check *c, const char *where, const char *base)
{
    g_autoptr(GDateTime) time =
        base && g_str_has_suffix(base, "Z") ? g_date_time_new_from_iso8601(base, NULL) : NULL;
    return !base || time ||
           pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                     "%s.base: expected YYYY-MM-DDTHH:MM:SSZ, found \"%s\"", where, base);
}

static bool check_device(const Check *c, const char *where, const DeviceConfig *d)
{
    g_autofree char *at = NULL;
    switch (d->type) {
    case DEVICE_CONFIG_TYPE_UART16550:
        at = g_strdup_printf("%s.chardev", where);
        return check_chardev(c, at, d->uart16550->chardev);
    case DEVICE_CONFIG_TYPE_VIRTIO_BLK:
        return check_disk(c, where, d->virtio_blk);
    case DEVICE_CONFIG_TYPE_VIRTIO_NET:
        return check_network_card(c, where, d->virtio_net);
    case DEVICE_CONFIG_TYPE_VIRTIO_RNG:
        at = g_strdup_printf("%s.source", where);
        return !d->virtio_rng->source ||
               check_file(c, at, d->virtio_rng->source, O_RDONLY, FILE_BYTES, "a readable file");
    case DEVICE_CONFIG_TYPE_RTC_CMOS:
        return check_clock(c, where, d->rtc_cmos->base);
    default:
        return true;
    }
}

/* The machine's own devices and units have ids as well. */
static bool check_id(const Check *c, const char *where, const DeviceConfig *d)
{
    static const char *const own[] = { "ioapic", "power", "partition", "synic", NULL };
    bool taken = g_strv_contains(own, d->id) ||
                 (g_str_equal(d->id, "rtc") && d->type != DEVICE_CONFIG_TYPE_RTC_CMOS);
    return !taken || pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                               "%s.id: \"%s\" is the name of a part that each machine has; "
                               "expected another id",
                               where, d->id);
}

static bool is_virtio(const DeviceConfig *d)
{
    return d->type == DEVICE_CONFIG_TYPE_VIRTIO_BLK || d->type == DEVICE_CONFIG_TYPE_VIRTIO_NET ||
           d->type == DEVICE_CONFIG_TYPE_VIRTIO_RNG;
}

/* What there is a fixed number of. */
static bool check_counts(const Check *c, const MachineConfig *config)
{
    unsigned uarts = 0, clocks = 0, watchdogs = 0, panics = 0, virtio = 0;
    for (size_t i = 0; i < config->n_devices; i++) {
        const DeviceConfig *d = config->devices[i];
        const char *what = NULL;
        unsigned max = 0;
        if (d->type == DEVICE_CONFIG_TYPE_UART16550 && ++uarts > 4) {
            what = "serial ports", max = 4;
        } else if (d->type == DEVICE_CONFIG_TYPE_RTC_CMOS && ++clocks > 1) {
            what = "clocks", max = 1;
        } else if (d->type == DEVICE_CONFIG_TYPE_WATCHDOG && ++watchdogs > 1) {
            what = "watchdogs", max = 1;
        } else if (d->type == DEVICE_CONFIG_TYPE_PVPANIC && ++panics > 1) {
            what = "panic devices", max = 1;
        } else if (is_virtio(d) && ++virtio > PTA_MACHINE_VIRTIO_MAX) {
            what = "virtio devices", max = PTA_MACHINE_VIRTIO_MAX;
        }
        if (what) {
            return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                             "$.devices[%zu]: expected at most %u %s, found another, \"%s\"", i,
                             max, what, d->id);
        }
    }
    return true;
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

/* A file that is there has the size of its backing; one that is not can be made. */
static bool check_backing_file(const Check *c, const char *where, const char *name, uint64_t size)
{
    g_autofree char *json_path = g_strdup_printf("%s.path", where);
    g_autofree char *path = pta_resolve_path(c->base_dir, name);
    struct stat st;
    if (!check_owner(c, json_path, name)) {
        return false;
    }
    if (stat(path, &st) < 0 && errno == ENOENT) {
        return check_parent(c, json_path, name);
    }
    if (!check_file(c, json_path, name, O_RDWR, FILE_IMAGE, "a file to read and write")) {
        return false;
    }
    return stat(path, &st) < 0 || (uint64_t)st.st_size == size ||
           pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                     "%s: \"%s\" has %" PRIu64 " bytes; expected %" PRIu64, json_path, name,
                     (uint64_t)st.st_size, size);
}

static bool check_memory(const Check *c, const MemoryConfig *config)
{
    g_autoptr(PtaMachineMemory) plan = pta_machine_memory_plan(config, c->base_dir, c->error);
    if (!plan || !pta_machine_memory_check(plan, c->error)) {
        return false;
    }
    for (size_t i = 0; i < config->n_backing; i++) {
        const BackingConfig *b = config->backing[i];
        const PtaMachineBacking *planned =
            &plan->backings[plan->n_backings - config->n_backing + i];
        if (b->type == BACKING_CONFIG_TYPE_FILE &&
            !check_backing_file(c, planned->where, b->file->path, planned->params.size)) {
            return false;
        }
        for (size_t k = 0; k < i && b->type == BACKING_CONFIG_TYPE_FD; k++) {
            const BackingConfig *other = config->backing[k];
            if (other->type == BACKING_CONFIG_TYPE_FD && other->fd->fd == b->fd->fd) {
                return pta_throw(c->error, PTA_ERROR_BAD_DESCRIPTION,
                                 "%s.fd: descriptor %u is taken by $.memory.backing[%zu]; expected "
                                 "another",
                                 planned->where, b->fd->fd, k);
            }
        }
    }
    return true;
}

static bool check_all(const Check *c, const MachineConfig *config)
{
    if (!check_memory(c, config->memory)) {
        return false;
    }
    const BootConfig *boot = config->boot;
    if (!check_file(c, "$.boot.kernel", boot->kernel, O_RDONLY, FILE_IMAGE, "a kernel image") ||
        (boot->initrd && !check_file(c, "$.boot.initrd", boot->initrd, O_RDONLY, FILE_IMAGE,
                                     "an initial RAM disk"))) {
        return false;
    }
    for (size_t i = 0; i < config->n_devices; i++) {
        g_autofree char *where = g_strdup_printf("$.devices[%zu]", i);
        if (!check_id(c, where, config->devices[i]) ||
            !check_device(c, where, config->devices[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < config->n_monitor; i++) {
        g_autofree char *where = g_strdup_printf("$.monitor[%zu].path", i);
        if (!check_socket(c, where, config->monitor[i]->unix_->path)) {
            return false;
        }
    }
    if (config->gdb && config->gdb->type == GDB_CONFIG_TYPE_UNIX &&
        !check_socket(c, "$.gdb.path", config->gdb->unix_->path)) {
        return false;
    }
    return check_counts(c, config) && check_stdio(c, config);
}

bool pta_machine_config_check(const MachineConfig *config, const char *base_dir, GError **error)
{
    g_autoptr(GHashTable) owners = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    const Check c = { base_dir, owners, error };
    return check_all(&c, config);
}

/* ---- sockets of machines that run ---- */

static bool check_free(const char *base_dir, const char *json_path, const char *name,
                       GError **error)
{
    g_autofree char *path = pta_resolve_path(base_dir, name);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path)); /* its length was checked */
    pta_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool live =
        fd >= 0 && (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 || errno == EAGAIN);
    return !live ||
           pta_throw(error, PTA_ERROR_HOST,
                     "%s: another process listens on \"%s\"; expected nobody", json_path, name);
}

bool pta_machine_config_check_live(const MachineConfig *config, const char *base_dir,
                                   GError **error)
{
    for (size_t i = 0; i < config->n_monitor; i++) {
        g_autofree char *where = g_strdup_printf("$.monitor[%zu].path", i);
        if (!check_free(base_dir, where, config->monitor[i]->unix_->path, error)) {
            return false;
        }
    }
    if (config->gdb && config->gdb->type == GDB_CONFIG_TYPE_UNIX &&
        !check_free(base_dir, "$.gdb.path", config->gdb->unix_->path, error)) {
        return false;
    }
    for (size_t i = 0; i < config->n_devices; i++) {
        const DeviceConfig *d = config->devices[i];
        if (d->type != DEVICE_CONFIG_TYPE_UART16550 ||
            d->uart16550->chardev->type != CHARDEV_CONFIG_TYPE_UNIX) {
            continue;
        }
        g_autofree char *where = g_strdup_printf("$.devices[%zu].chardev.path", i);
        if (!check_free(base_dir, where, d->uart16550->chardev->unix_->path, error)) {
            return false;
        }
    }
    return true;
}
