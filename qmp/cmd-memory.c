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

/* ---- how fast memory becomes dirty ---- */

bool qmp_calc_dirty_rate(PtaVm *vm, const CalcDirtyRateArgs *args, GError **error)
{
    enum { MIN_TIME = 1, MAX_TIME = 60, MIN_SAMPLES = 128, MAX_SAMPLES = 16384, SAMPLES = 512 };
    DirtyRateMeasureMode mode = args->has_mode ? args->mode : DIRTY_RATE_MEASURE_MODE_PAGE_SAMPLING;
    if (args->calc_time < MIN_TIME || args->calc_time > MAX_TIME) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "calc-time is out of range[%d, %d].",
                         MIN_TIME, MAX_TIME);
    }
    if (args->has_sample_pages && mode != DIRTY_RATE_MEASURE_MODE_PAGE_SAMPLING) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                         "either sample-pages or dirty-ring can be specified.");
    }
    if (args->has_sample_pages &&
        (args->sample_pages < MIN_SAMPLES || args->sample_pages > MAX_SAMPLES)) {
        return pta_throw(error, PTA_ERROR_GENERIC_ERROR, "sample-pages is out of range[%d, %d].",
                         MIN_SAMPLES, MAX_SAMPLES);
    }
    if (mode == DIRTY_RATE_MEASURE_MODE_DIRTY_RING) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "mode dirty-ring is not enabled, use other method instead.");
    }
    const DirtyRateInfo info = {
        .calc_time = args->calc_time,
        .sample_pages = args->has_sample_pages ? (uint64_t)args->sample_pages : SAMPLES,
        .mode = mode,
    };
    return pta_vm_calc_dirty_rate(vm, &info, error);
}

bool qmp_query_dirty_rate(PtaVm *vm, DirtyRateInfo **ret, GError **error)
{
    *ret = g_new0(DirtyRateInfo, 1);
    **ret = *pta_vm_dirty_rate(vm);
    return true;
}
