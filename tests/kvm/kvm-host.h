/* What tests of the KVM back end ask of the host. */
#ifndef PTA_TESTS_KVM_HOST_H
#define PTA_TESTS_KVM_HOST_H

#include <stdbool.h>

/* Whether there is a KVM; says "1..0 # SKIP …" if not. */
bool kvm_host_usable(void);

/* No vmx, no svm: KVM interprets ring 0, and lacks instructions. */
bool kvm_host_interprets(void);

/* This host is a guest of QEMU's TCG, whose SVM loads no debug registers and lets no INT3 out. */
bool kvm_host_is_emulated(void);

#endif
