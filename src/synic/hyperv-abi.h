/* Numbers of the Hyper-V Top Level Functional Specification, 6.0b. */
#ifndef PTA_HYPERV_ABI_H
#define PTA_HYPERV_ABI_H

#include <stdint.h>

/* Synthetic MSRs, appendix B. */
#define HV_MSR_GUEST_OS_ID           UINT32_C(0x40000000)
#define HV_MSR_HYPERCALL             UINT32_C(0x40000001)
#define HV_MSR_VP_INDEX              UINT32_C(0x40000002)
#define HV_MSR_RESET                 UINT32_C(0x40000003)
#define HV_MSR_TIME_REF_COUNT        UINT32_C(0x40000020)
#define HV_MSR_REFERENCE_TSC         UINT32_C(0x40000021)
#define HV_MSR_TSC_FREQUENCY         UINT32_C(0x40000022)
#define HV_MSR_APIC_FREQUENCY        UINT32_C(0x40000023)
#define HV_MSR_VP_ASSIST_PAGE        UINT32_C(0x40000073)
#define HV_MSR_CRASH_P0              UINT32_C(0x40000100)
#define HV_MSR_CRASH_P4              UINT32_C(0x40000104)
#define HV_MSR_CRASH_CTL             UINT32_C(0x40000105)
#define HV_MSR_TSC_INVARIANT_CONTROL UINT32_C(0x40000118)

/* HYPERCALL, REFERENCE_TSC, VP_ASSIST_PAGE: a page number from bit 12 on. */
#define HV_PAGE_ENABLE          UINT64_C(1)
#define HV_HYPERCALL_LOCKED     UINT64_C(2)
#define HV_VP_ASSIST_RESERVED   UINT64_C(0xffe)

#define HV_CRASH_NOTIFY         (UINT64_C(1) << 63)
#define HV_CRASH_NOTIFY_MESSAGE (UINT64_C(1) << 62)
#define HV_CRASH_MESSAGE_MAX    UINT64_C(4096)

/* Hypercall results. */
#define HV_STATUS_SUCCESS                UINT64_C(0)
#define HV_STATUS_INVALID_HYPERCALL_CODE UINT64_C(2)

#endif
