/* The debugger's door. MAIN. */
#include "config.h"

#include "qmp/gen/commands.h"
#include "src/machine/machine.h"

bool qmp_gdbserver(PtaVm *vm, const GdbserverArgs *args, GdbServerInfo **ret, GError **error)
{
    if (!pta_vm_gdbserver(vm, args->device, error)) {
        return false;
    }
    PtaGdbInfo info;
    pta_gdb_info(pta_vm_gdb(vm), &info);
    *ret = g_new0(GdbServerInfo, 1);
    (*ret)->listening = info.device != NULL;
    (*ret)->device = g_strdup(info.device);
    return true;
}
