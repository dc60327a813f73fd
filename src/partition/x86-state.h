/*
 * The canonical state of an x86 VP: one set of structs for every back end, for save, gdb, inspect
 * and migration. Names are those of the Intel SDM; layouts are ours and have no padding, so that
 * states can be compared with memcmp.
 */
#ifndef PTA_X86_STATE_H
#define PTA_X86_STATE_H

#include <stdint.h>

enum {
    PTA_X86_RAX,
    PTA_X86_RCX,
    PTA_X86_RDX,
    PTA_X86_RBX,
    PTA_X86_RSP,
    PTA_X86_RBP,
    PTA_X86_RSI,
    PTA_X86_RDI,
    PTA_X86_R8,
    PTA_X86_R9,
    PTA_X86_R10,
    PTA_X86_R11,
    PTA_X86_R12,
    PTA_X86_R13,
    PTA_X86_R14,
    PTA_X86_R15,
    PTA_X86_N_GPRS,
};

/* In the order of the encoding (SDM vol. 2, table 2-2 ff.: ES CS SS DS FS GS). */
enum {
    PTA_X86_ES,
    PTA_X86_CS,
    PTA_X86_SS,
    PTA_X86_DS,
    PTA_X86_FS,
    PTA_X86_GS,
    PTA_X86_N_SEGS,
};

/*
 * A segment register with its hidden part. attrs: bits 8..15 and 20..23 of a descriptor's second
 * dword, shifted right by 8 (type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15), and
 * PTA_X86_SEG_UNUSABLE. limit is in bytes (G applied).
 */
typedef struct PtaX86Segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint16_t attrs;
} PtaX86Segment;

#define PTA_X86_SEG_UNUSABLE (UINT16_C(1) << 11) /* a null selector was loaded */

#define PTA_X86_DR6_BS       (UINT64_C(1) << 14) /* a single step led to the #DB */

typedef struct PtaX86Table {
    uint64_t base;
    uint16_t limit;
    uint16_t reserved[3];
} PtaX86Table;

typedef struct PtaX86Regs {
    uint64_t gpr[PTA_X86_N_GPRS];
    uint64_t rip;
    uint64_t rflags;
    PtaX86Segment seg[PTA_X86_N_SEGS];
    PtaX86Segment tr, ldtr;
    PtaX86Table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t efer;
    uint64_t xcr0;
    uint64_t xss;
} PtaX86Regs;

typedef struct PtaX86DebugRegs {
    uint64_t dr[4];
    uint64_t dr6, dr7;
} PtaX86DebugRegs;

/* The XSAVE area, standard (not compacted) format, SDM vol. 1, 13.4. Without XSAVE in the model
 * only the first 512 bytes (FXSAVE) count. */
#define PTA_X86_XSAVE_SIZE 4096
typedef struct PtaX86Xsave {
    uint8_t area[PTA_X86_XSAVE_SIZE];
} PtaX86Xsave;

typedef struct PtaX86Mtrrs {
    uint64_t def_type;
    uint64_t fixed[11]; /* 64K, 16K x 2, 4K x 8 */
    uint64_t phys_base[8], phys_mask[8];
} PtaX86Mtrrs;

typedef struct PtaX86Msrs {
    uint64_t apic_base;
    uint64_t star, lstar, cstar, sfmask;
    uint64_t kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat;
    uint64_t tsc_adjust, tsc_aux, tsc_deadline;
    uint64_t misc_enable;
    uint64_t spec_ctrl;
    PtaX86Mtrrs mtrrs;
} PtaX86Msrs;

typedef enum PtaX86Activity {
    PTA_X86_RUNNING = 0,
    PTA_X86_HALTED = 1,        /* HLT */
    PTA_X86_WAIT_FOR_SIPI = 2, /* an AP after INIT */
    PTA_X86_SHUTDOWN = 3,      /* triple fault */
} PtaX86Activity;

/* What is between two instructions: SDM vol. 3, 6.8 and 24.4.2. */
typedef struct PtaX86Events {
    uint32_t activity;        /* PtaX86Activity */
    uint8_t interrupt_shadow; /* bit 0: after STI, bit 1: after MOV SS or POP SS */
    uint8_t nmi_pending;
    uint8_t nmi_blocked;
    uint8_t smi_blocked;
    uint8_t exception_pending; /* 1: `vector` is to be delivered first */
    uint8_t vector;
    uint8_t has_error_code;
    uint8_t sipi_vector;
    uint32_t error_code;
} PtaX86Events;

/* Local APIC: the register page as the SDM lays it out (vol. 3, table 10-1), one dword every 16
 * bytes, which is also KVM_GET_LAPIC's form; and what the page does not say. */
typedef struct PtaX86Lapic {
    uint8_t page[1024];
    uint64_t timer_expiry_ns; /* host-independent: nanoseconds of the partition's clock; 0 = off */
} PtaX86Lapic;

typedef struct PtaX86State {
    PtaX86Regs regs;
    PtaX86DebugRegs debug;
    PtaX86Msrs msrs;
    PtaX86Events events;
    PtaX86Lapic lapic;
    PtaX86Xsave xsave;
    uint64_t tsc; /* value at the partition's clock when the VPs were stopped */
} PtaX86State;

/* The state after power-up (SDM vol. 3, table 9-1); the BSP runs, others wait for SIPI. */
void pta_x86_state_reset(PtaX86State *state, uint32_t apic_id, int is_bsp);

#endif
