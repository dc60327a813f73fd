/* How fast guest memory becomes dirty, by a client of the dirty log and a timer. MAIN. */
#include "config.h"

#include "src/machine/machine-private.h"

static gboolean on_measured(void *data)
{
    PtaVm *vm = data;
    PtaDirtyRate *r = &vm->dirty_rate;
    uint64_t bytes =
        PTA_PAGE_SIZE * pta_dirty_client_take(r->client, 0, UINT64_MAX & PTA_PAGE_MASK, NULL, NULL);
    uint64_t us = MAX((pta_now_ns() - r->start_ns) / 1000, 1);
    g_clear_pointer(&r->client, pta_dirty_client_free);
    r->timer = 0;
    r->info.status = DIRTY_RATE_STATUS_MEASURED;
    r->info.has_dirty_rate = true;
    r->info.dirty_rate = (int64_t)((double)bytes / (double)us * 1e6 / (double)PTA_MIB);
    return G_SOURCE_REMOVE;
}

bool pta_vm_calc_dirty_rate(PtaVm *vm, const DirtyRateInfo *info, GError **error)
{
    pta_assert_main();
    PtaDirtyRate *r = &vm->dirty_rate;
    if (r->client) {
        return pta_throw(error, PTA_ERROR_BAD_STATE, "the dirty rate is already being measured.");
    }
    r->client = pta_dirty_client_new(pta_memory_dirty_log(vm->memory), "dirty-rate", error);
    if (!r->client) {
        return false;
    }
    r->info = *info;
    r->info.status = DIRTY_RATE_STATUS_MEASURING;
    r->start_ns = pta_now_ns();
    r->info.start_time = (int64_t)(r->start_ns / 1000000000);
    r->timer = g_timeout_add((guint)info->calc_time * 1000, on_measured, vm);
    return true;
}

const DirtyRateInfo *pta_vm_dirty_rate(const PtaVm *vm)
{
    return &vm->dirty_rate.info;
}

void pta_vm_end_dirty_rate(PtaVm *vm)
{
    PtaDirtyRate *r = &vm->dirty_rate;
    if (r->client) {
        g_source_remove(r->timer);
        g_clear_pointer(&r->client, pta_dirty_client_free);
    }
}
