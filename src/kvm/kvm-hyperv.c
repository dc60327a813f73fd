/* Hyper-V in the kernel, and in user mode where it has none. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

bool kvm_hyperv_init(KvmPartition *m, GError **error)
{
    (void)m, (void)error;
    return true;
}

bool kvm_hyperv_vp_init(KvmVp *vp, GError **error)
{
    (void)vp, (void)error;
    return true;
}

bool kvm_hyperv_msr_get(PtaBackendVp *vp, uint32_t msr, uint64_t *value)
{
    (void)vp, (void)msr, (void)value;
    return false;
}

bool kvm_hyperv_msr_set(PtaBackendVp *vp, uint32_t msr, uint64_t value)
{
    (void)vp, (void)msr, (void)value;
    return false;
}

bool kvm_hyperv_exit(KvmVp *vp, PtaExit *exit)
{
    (void)vp;
    return kvm_internal_error(exit, "hyperv");
}

bool kvm_system_event(KvmVp *vp, PtaExit *exit)
{
    return kvm_internal_error(exit, "system event %u", vp->run->system_event.type);
}

size_t kvm_hypercall_code(const PtaBackend *be, uint8_t code[16])
{
    (void)be;
    code[0] = 0xc3;
    return 1;
}

bool kvm_hypercall_port(KvmVp *vp)
{
    (void)vp;
    return false;
}
