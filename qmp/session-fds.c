/* Descriptors that a client has sent, and gives to the machine by name. MAIN. */
#include "config.h"

#include "devices/net/net.h"
#include "qmp/session-private.h"
#include "src/machine/machine.h"

#define MAX_NAMES 64

static void close_fd(gpointer data)
{
    pta_close(GPOINTER_TO_INT(data));
}

void pta_session_take_fd(PtaSession *s, int fd)
{
    pta_close(s->fd);
    s->fd = fd;
}

void session_close_fds(PtaSession *s)
{
    pta_close(s->fd);
    g_clear_pointer(&s->fds, g_hash_table_unref);
}

static bool find(PtaSession *s, const char *name, int *fd, GError **error)
{
    gpointer value;
    if (!s->fds || !g_hash_table_lookup_extended(s->fds, name, NULL, &value)) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "File descriptor named '%s' not found",
                         name);
    }
    *fd = GPOINTER_TO_INT(value);
    return true;
}

bool session_getfd(PtaSession *s, json_t *json, GError **error)
{
    g_autoptr(GetfdArgs) args = getfd_args_from_json(json, "getfd", error);
    if (!args) {
        return false;
    }
    pta_autofd int fd = s->fd; /* whatever comes of it */
    s->fd = -1;
    if (fd < 0) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                         "No file descriptor supplied via SCM_RIGHTS");
    }
    if (g_ascii_isdigit(*args->fdname)) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                         "Parameter 'fdname' expects a name not starting with a digit");
    }
    if (!s->fds) {
        s->fds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, close_fd);
    }
    if (g_hash_table_size(s->fds) >= MAX_NAMES && !g_hash_table_contains(s->fds, args->fdname)) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "more than %d file descriptors",
                         MAX_NAMES);
    }
    g_hash_table_replace(s->fds, g_strdup(args->fdname), GINT_TO_POINTER(g_steal_fd(&fd)));
    return true;
}

bool session_closefd(PtaSession *s, json_t *json, GError **error)
{
    g_autoptr(ClosefdArgs) args = closefd_args_from_json(json, "closefd", error);
    int fd;
    if (!args || !find(s, args->fdname, &fd, error)) {
        return false;
    }
    g_hash_table_remove(s->fds, args->fdname);
    return true;
}

bool session_net_set_fd(PtaSession *s, json_t *json, GError **error)
{
    g_autoptr(NetSetFdArgs) args = net_set_fd_args_from_json(json, "net-set-fd", error);
    int fd = -1;
    if (!args || !find(s, args->fdname, &fd, error)) {
        return false;
    }
    PtaDevice *dev = pta_vm_find_device(s->env->vm, args->name);
    PtaNet *net = dev && dev->klass->net ? dev->klass->net(dev) : NULL;
    if (!net) {
        return pta_throw(error, PTA_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", args->name);
    }
    if (!pta_net_set_fd(net, fd, error)) {
        return false;
    }
    gpointer name;
    g_hash_table_steal_extended(s->fds, args->fdname, &name, NULL);
    g_free(name);
    return true;
}
