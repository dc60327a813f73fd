/* The dirty log. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

bool kvm_dirty_init(KvmPartition *m, GError **error)
{
    (void)m, (void)error;
    return true;
}

void kvm_dirty_fini(KvmPartition *m)
{
    (void)m;
}

bool kvm_dirty_vp_init(KvmVp *vp, GError **error)
{
    (void)vp, (void)error;
    return true;
}

void kvm_dirty_vp_fini(KvmVp *vp)
{
    (void)vp;
}

bool kvm_dirty_start(PtaBackend *be, PtaDirtySinkFn *sink, void *opaque, GError **error)
{
    (void)be, (void)sink, (void)opaque;
    return pta_throw(error, PTA_ERROR_UNSUPPORTED, "dirty log");
}

void kvm_dirty_fetch(PtaBackend *be, uint64_t gpa, uint64_t size)
{
    (void)be, (void)gpa, (void)size;
}

void kvm_dirty_stop(PtaBackend *be)
{
    (void)be;
}

void kvm_dirty_ring_full(KvmVp *vp)
{
    (void)vp;
}

void kvm_dirty_unmap(KvmPartition *m, const KvmSlot *slot)
{
    (void)m, (void)slot;
}
