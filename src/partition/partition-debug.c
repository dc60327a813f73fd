/* The debugger's part of the partition unit. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "partition"

#include "src/partition/partition-private.h"
#include "src/partition/x86-walk.h"

bool partition_report_to_debugger(PtaPartition *p, const PtaHaltReason *reason)
{
    PtaPartitionDebug *d = &p->debug;
    if (!d->attached) {
        return false;
    }
    PtaDebugHaltFn *notify = d->notify;
    if (notify) {
        d->notify = NULL;
        d->reported = true;
        if (p->params.on_debug) {
            p->params.on_debug(p->params.opaque, true);
        }
        notify(d->opaque, reason);
    }
    return true;
}

bool partition_hold_for_debugger(PtaPartition *p)
{
    if (!p->debug.reported) {
        return false;
    }
    g_assert(p->halt_reason);
    *p->halt_reason = (PtaHaltReason){ .kind = PTA_HALT_DEBUG_BREAK, .time_us = g_get_real_time() };
    p->halt_told = false;
    return true;
}

bool pta_partition_debug_attach(PtaPartition *p, GError **error)
{
    pta_assert_main();
    if (p->debug.attached) {
        return pta_throw(error, PTA_ERROR_BAD_STATE, "another debugger is attached");
    }
    p->debug = (PtaPartitionDebug){ .attached = true };
    return true;
}

static void set_debug(PtaBackendVp *vp, void *data)
{
    vp->be->ops->vp_set_debug(vp, data);
}

void pta_partition_debug_detach(PtaPartition *p)
{
    pta_assert_main();
    g_assert(p->debug.attached);
    PtaGuestDebug none = { 0 };
    pta_vp_set_call_all(p->vps, set_debug, &none, 0);
    for (unsigned i = 0; i < pta_vp_set_size(p->vps); i++) {
        pta_vp_set_suspend(p->vps, i, false);
    }
    p->debug = (PtaPartitionDebug){ 0 };
    if (p->halt_reason) {
        partition_report_halt(p);
    }
}

bool pta_partition_debug_attached(const PtaPartition *p)
{
    return p->debug.attached;
}

bool pta_partition_debug_holds(const PtaPartition *p)
{
    return p->debug.reported;
}

void pta_partition_debug_resume(PtaPartition *p, PtaDebugHaltFn *notify, void *opaque)
{
    pta_assert_main();
    g_assert(p->debug.attached && notify);
    p->debug.notify = notify;
    p->debug.opaque = opaque;
    if (p->debug.reported) {
        pta_partition_clear_halt(p);
    } else if (p->halt_reason) {
        partition_report_to_debugger(p, p->halt_reason);
    }
}

void pta_partition_debug_break(PtaPartition *p)
{
    pta_halt(p->halt, &(PtaHaltReason){ .kind = PTA_HALT_DEBUG_BREAK });
}

void pta_partition_debug_set(PtaPartition *p, unsigned vp, const PtaGuestDebug *debug)
{
    PtaGuestDebug copy = *debug;
    pta_vp_set_call(p->vps, vp, set_debug, &copy);
}

void pta_partition_debug_suspend(PtaPartition *p, unsigned vp, bool suspended)
{
    pta_vp_set_suspend(p->vps, vp, suspended);
}

size_t pta_partition_debug_read(PtaPartition *p, unsigned vp, uint64_t lin, void *buf, size_t len)
{
    g_autofree PtaX86State *state = g_new(PtaX86State, 1);
    pta_partition_get_vp_state(p, vp, state);
    return pta_x86_read_linear(p->params.memory, &state->regs, lin, buf, len);
}

size_t pta_partition_debug_write(PtaPartition *p, unsigned vp, uint64_t lin, const void *buf,
                                 size_t len)
{
    g_autofree PtaX86State *state = g_new(PtaX86State, 1);
    pta_partition_get_vp_state(p, vp, state);
    return pta_x86_write_linear(p->params.memory, &state->regs, lin, buf, len);
}
