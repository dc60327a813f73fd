/* Commands about guest memory. MAIN. */
#include "config.h"

#include "qmp/gen/commands.h"
#include "qmp/reply.h"
#include "src/machine/machine.h"

static void end_reply(void *data, const GError *error)
{
    if (error) {
        pta_qmp_reply_fail(data, error);
    } else {
        pta_qmp_reply_return(data, NULL);
    }
}

void qmp_memsave(PtaVm *vm, const MemsaveArgs *args, PtaQmpReply *reply)
{
    int64_t vp = args->has_cpu_index ? args->cpu_index : 0;
    if (vp < 0) {
        vp = INT64_MAX; /* there is none */
    }
    pta_vm_save_memory(vm, vp, (uint64_t)args->val, (uint64_t)args->size, args->filename, end_reply,
                       reply);
}

void qmp_pmemsave(PtaVm *vm, const PmemsaveArgs *args, PtaQmpReply *reply)
{
    pta_vm_save_memory(vm, -1, (uint64_t)args->val, (uint64_t)args->size, args->filename, end_reply,
                       reply);
}
