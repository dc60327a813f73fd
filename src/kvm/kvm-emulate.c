/* Instructions that KVM cannot execute. The VP's thread. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

bool kvm_emulate(KvmVp *vp, PtaExit *exit)
{
    (void)vp;
    return kvm_internal_error(exit, "KVM cannot emulate an instruction");
}

void kvm_emulate_fini(KvmPartition *m)
{
    (void)m;
}

bool kvm_emulate_map(KvmPartition *m, const KvmSlot *slot, GError **error)
{
    (void)m, (void)slot, (void)error;
    return true;
}

void kvm_emulate_unmap(KvmPartition *m, const KvmSlot *slot)
{
    (void)m, (void)slot;
}
