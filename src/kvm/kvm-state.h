/* What kvm-state.c, kvm-lapic.c and kvm-msrs.c share. VP's thread, or while the VP does not run. */
#ifndef PTA_KVM_STATE_H
#define PTA_KVM_STATE_H

#include "src/kvm/kvm.h"

#define KVM_MSR_TSC          0x10
#define KVM_MSR_TSC_DEADLINE 0x6e0

#define KVM_APIC_BASE_EXTD   (UINT64_C(1) << 10)

/* What the local APIC's state depends on. */
typedef struct KvmApicContext {
    uint64_t apic_base;
    int injected; /* a vector that KVM took out of the APIC and has not delivered; -1: none */
    uint64_t tsc;
} KvmApicContext;

/* Fills page and timer; returns IA32_TSC_DEADLINE. */
uint64_t kvm_lapic_get(KvmVp *vp, const KvmApicContext *context, PtaX86Lapic *lapic);
/* IA32_APIC_BASE and the TSC are set. */
bool kvm_lapic_set(KvmVp *vp, const PtaX86Lapic *lapic, uint64_t apic_base, uint64_t deadline,
                   GError **error);

/* All of PtaX86Msrs but apic_base and tsc_deadline. */
bool kvm_msrs_get(KvmVp *vp, PtaX86Msrs *msrs);
bool kvm_msrs_set(KvmVp *vp, const PtaX86Msrs *msrs, GError **error);

/* An ioctl that hands a state to the kernel: what it calls invalid is BAD_SNAPSHOT. */
#define kvm_give(vp, request, arg, error) kvm_give_named((vp), (request), (arg), #request, (error))
bool kvm_give_named(const KvmVp *vp, unsigned long request, const void *arg, const char *name,
                    GError **error);
/* One that fetches: failure is logged, and *arg is as it was. */
#define kvm_fetch(vp, request, arg) kvm_fetch_named((vp), (request), (arg), #request)
bool kvm_fetch_named(const KvmVp *vp, unsigned long request, void *arg, const char *name);

#endif
