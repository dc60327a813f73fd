/* What kvm-debug.c and kvm-step.c share. The VP's thread. */
#ifndef PTA_KVM_DEBUG_H
#define PTA_KVM_DEBUG_H

#include "src/kvm/kvm.h"

/* What the debugger asks for but the single step: for kvm_debug_arm(). */
void kvm_debug_ask(const KvmVp *vp, struct kvm_guest_debug *g);
/* A breakpoint at `lin` in a free register, which is added to `slots`; false: there is none. */
bool kvm_debug_add(struct kvm_guest_debug *g, uint64_t lin, uint32_t *slots);
/* DR6 bits of the debugger's breakpoints on execution there. */
uint32_t kvm_debug_breaks_at(const PtaGuestDebug *d, uint64_t lin);
/* Until disarm. False: *exit says why not. */
bool kvm_debug_arm(KvmVp *vp, struct kvm_guest_debug *g, PtaExit *exit);
void kvm_debug_disarm(KvmVp *vp);
uint64_t kvm_debug_linear_rip(KvmVp *vp);

#endif
