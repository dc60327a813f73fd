/* Guest debug. The VP's thread, or MAIN while it does not run. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

void kvm_vp_set_debug(PtaBackendVp *be_vp, const PtaGuestDebug *debug)
{
    kvm_vp_of(be_vp)->debug = *debug;
}

void kvm_debug_enter(KvmVp *vp)
{
    (void)vp;
}

bool kvm_debug_exit(KvmVp *vp, PtaExit *exit)
{
    (void)vp;
    return kvm_internal_error(exit, "debug");
}
