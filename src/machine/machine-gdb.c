/* The debugger's way into a machine. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "machine"

#include "src/machine/machine-private.h"

static void on_go(void *opaque)
{
    PtaVm *vm = opaque;
    if (vm->state == PTA_RUN_STATE_PRELAUNCH || vm->state == PTA_RUN_STATE_PAUSED) {
        pta_vm_cont(vm, NULL, NULL);
    }
}

static void on_kill(void *opaque)
{
    pta_vm_quit(opaque, "host-qmp-quit", PTA_EXIT_STATUS_OK); /* as the command does */
}

static void on_reset(void *opaque, PtaGdbResetDone *done, void *data)
{
    pta_vm_reset(opaque, done, data);
}

bool pta_vm_open_gdb(PtaVm *vm, GError **error)
{
    const GdbConfig *config = vm->config->gdb;
    vm->gdb = pta_gdb_new(&(PtaGdbEnv){
        .partition = vm->partition,
        .memory = vm->memory,
        .go = on_go,
        .kill = on_kill,
        .reset = on_reset,
        .opaque = vm,
    });
    if (!config) {
        return true;
    }
    bool ok;
    if (config->type == GDB_CONFIG_TYPE_UNIX) {
        g_autofree char *path = pta_resolve_path(vm->base_dir, config->unix_->path);
        ok = pta_gdb_listen_unix(vm->gdb, path, error);
    } else {
        ok = pta_gdb_listen_tcp(vm->gdb, NULL, config->tcp->port, error);
    }
    if (!ok) {
        g_prefix_error(error, "$.gdb: ");
    }
    return ok;
}

bool pta_vm_gdbserver(PtaVm *vm, const char *device, GError **error)
{
    pta_assert_main();
    if (g_str_equal(device, "none")) {
        pta_gdb_close(vm->gdb);
        return true;
    }
    return pta_gdb_listen(vm->gdb, device, vm->base_dir, error);
}

const PtaGdb *pta_vm_gdb(const PtaVm *vm)
{
    return vm->gdb;
}
