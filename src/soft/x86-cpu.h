/*
 * The software x86-64 CPU: its registers, a decoded instruction, and how handlers reach registers
 * and memory. Every file of src/soft/ includes this one; nothing outside does.
 *
 * Files: decode.c (Zydis -> X86Insn), block.c (cache of decoded blocks), engine.c (dispatch),
 * int-*.c (integer handlers), mmu.c (walk, TLB), seg.c, exception.c, system.c (privileged and
 * control transfer), fpu-*.c, sse-*.c, lapic.c, service.c (interrupts, time, HLT), world.c (what VPs
 * must know of one another), soft.c (the back end's ops table).
 *
 * Thread: all of X86Cpu belongs to its VP's thread while that runs, except the ATOMIC fields.
 *
 * Rules for a handler `void op_x(X86Cpu *c, const X86Insn *in)`:
 *   - compute, make every access that may fault, then commit: a fault undoes nothing;
 *   - c->rip is NOT current inside a block. x86_rip() is the address of `in`, x86_next_rip() of the
 *     following instruction. A row marked ENDS in opcodes-*.def ends its block: there c->rip has
 *     been set to the next instruction before the handler runs, and the handler may change it;
 *   - exceptions leave by x86_raise() and its sisters only, which never return (longjmp): hold no
 *     lock, own no memory, use no g_auto* above a call that may raise;
 *   - anything that changes what decoded code means (mode, paging, privilege) is in an ENDS row and
 *     calls x86_mode_changed().
 */
#ifndef PTA_SOFT_X86_CPU_H
#define PTA_SOFT_X86_CPU_H

#include <setjmp.h>

#include "src/partition/backend.h"
#include "src/partition/x86-cpuid.h"
#include "src/partition/x86-state.h"
#include "src/soft/x86-fpu-state.h"
#include "src/util/util.h"

typedef struct X86Cpu X86Cpu;
typedef struct X86Insn X86Insn;
typedef struct X86Machine X86Machine;       /* what the VPs of one soft partition share: soft.h */
typedef struct X86BlockCache X86BlockCache; /* block.c */
typedef struct X86Lapic X86Lapic;           /* lapic.c */
typedef void X86Handler(X86Cpu *c, const X86Insn *in);

/* ---- a decoded instruction ---- */

enum {
    X86_PFX_LOCK = 1 << 0,
    X86_PFX_REP = 1 << 1, /* F3, where it means REP or REPE */
    X86_PFX_REPNE = 1 << 2,
    X86_PFX_OPSIZE = 1 << 3, /* 66 */
    X86_PFX_REXW = 1 << 4,
};

enum {
    X86_EA_MEM = 1 << 0,   /* the ModRM operand is memory */
    X86_EA_CHECK = 1 << 1, /* not 64-bit mode: segment limit and rights apply */
    X86_EA_A32 = 1 << 2,   /* 32-bit addresses */
    X86_EA_A16 = 1 << 3,   /* 16-bit addresses */
    X86_EA_SS = 1 << 4,    /* the segment is SS: a bad address is #SS, not #GP */
    X86_EA_RIP = 1 << 5,   /* RIP-relative beyond what disp can hold with off added */
    X86_EA_SLOW = X86_EA_CHECK | X86_EA_A32 | X86_EA_A16 | X86_EA_RIP,
};

/* Pseudo registers behind the sixteen in c->gpr[]. */
#define X86_R_ZERO 16 /* always 0: no base, no index */
#define X86_R_CODE 17 /* RIP of the current block's page, offset 0 (RIP-relative operands) */

/* Pseudo segment with base 0 (CS, DS, ES, SS in 64-bit mode). */
#define X86_SEG_FLAT PTA_X86_N_SEGS

/*
 * Operands: `reg` is ModRM.reg (or the register in the opcode), `rm` is ModRM.rm. For general
 * registers both are BYTE OFFSETS into c->gpr, so that AH..BH need no special case (AL of register
 * n is n * 8, AH of register n is n * 8 + 1); for XMM, MMX, segment, control and debug registers
 * they are numbers.
 */
struct X86Insn {
    X86Handler *exec; /* engine.c's wrapper: runs the handler, then dispatches what follows */
    uint64_t imm; /* immediate, sign-extended as the instruction wants it; branch: displacement */
    int32_t disp;
    uint8_t base, index; /* indices into c->gpr, X86_R_* included */
    uint8_t scale;       /* shift count, 0-3 */
    uint8_t seg;         /* index into c->seg_base */
    uint8_t reg, rm;
    uint8_t width; /* operand size in bytes: 1, 2, 4, 8, 16 … */
    uint8_t ea;    /* X86_EA_* */
    uint16_t off;  /* offset in its page of the first byte */
    uint8_t len;
    uint8_t pfx;    /* X86_PFX_* */
    uint8_t opcode; /* last opcode byte */
    uint8_t modrm;  /* raw */
    uint16_t row;   /* its row in the opcode table */
    uint16_t n;     /* instructions of its block up to and with this one */
    uint8_t form;   /* which operands: decode.h */
    uint8_t reserved;
    uint64_t aux; /* the decoder's or a handler's own: linked block, second immediate */
};

/* ---- status flags, kept as result and carry-out vector (STYLE, section 12) ---- */

enum {
    X86_CF = 1 << 0,
    X86_PF = 1 << 2,
    X86_AF = 1 << 4,
    X86_ZF = 1 << 6,
    X86_SF = 1 << 7,
    X86_TF = 1 << 8,
    X86_IF = 1 << 9,
    X86_DF = 1 << 10,
    X86_OF = 1 << 11,
    X86_IOPL = 3 << 12,
    X86_NT = 1 << 14,
    X86_RF = 1 << 16,
    X86_VM = 1 << 17,
    X86_AC = 1 << 18,
    X86_VIF = 1 << 19,
    X86_VIP = 1 << 20,
    X86_ID = 1 << 21,
    X86_STATUS = X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF,
};

/* Control registers and EFER (SDM vol. 3, 2.5, 2.2.1). */
#define X86_CR0_PE         (UINT64_C(1) << 0)
#define X86_CR0_MP         (UINT64_C(1) << 1)
#define X86_CR0_EM         (UINT64_C(1) << 2)
#define X86_CR0_TS         (UINT64_C(1) << 3)
#define X86_CR0_ET         (UINT64_C(1) << 4)
#define X86_CR0_NE         (UINT64_C(1) << 5)
#define X86_CR0_WP         (UINT64_C(1) << 16)
#define X86_CR0_AM         (UINT64_C(1) << 18)
#define X86_CR0_NW         (UINT64_C(1) << 29)
#define X86_CR0_CD         (UINT64_C(1) << 30)
#define X86_CR0_PG         (UINT64_C(1) << 31)

#define X86_CR4_VME        (UINT64_C(1) << 0)
#define X86_CR4_PVI        (UINT64_C(1) << 1)
#define X86_CR4_TSD        (UINT64_C(1) << 2)
#define X86_CR4_DE         (UINT64_C(1) << 3)
#define X86_CR4_PSE        (UINT64_C(1) << 4)
#define X86_CR4_PAE        (UINT64_C(1) << 5)
#define X86_CR4_MCE        (UINT64_C(1) << 6)
#define X86_CR4_PGE        (UINT64_C(1) << 7)
#define X86_CR4_PCE        (UINT64_C(1) << 8)
#define X86_CR4_OSFXSR     (UINT64_C(1) << 9)
#define X86_CR4_OSXMMEXCPT (UINT64_C(1) << 10)
#define X86_CR4_UMIP       (UINT64_C(1) << 11)
#define X86_CR4_LA57       (UINT64_C(1) << 12)
#define X86_CR4_FSGSBASE   (UINT64_C(1) << 16)
#define X86_CR4_PCIDE      (UINT64_C(1) << 17)
#define X86_CR4_OSXSAVE    (UINT64_C(1) << 18)
#define X86_CR4_SMEP       (UINT64_C(1) << 20)
#define X86_CR4_SMAP       (UINT64_C(1) << 21)
#define X86_CR4_FRED       (UINT64_C(1) << 32)

#define X86_DR6_FIXED      UINT64_C(0xffff0ff0)
#define X86_DR6_BD         (UINT64_C(1) << 13)
#define X86_DR6_BS         (UINT64_C(1) << 14)
#define X86_DR6_BT         (UINT64_C(1) << 15)
#define X86_DR7_FIXED      (UINT64_C(1) << 10)
#define X86_DR7_GD         (UINT64_C(1) << 13)

#define X86_EFER_SCE       (UINT64_C(1) << 0)
#define X86_EFER_LME       (UINT64_C(1) << 8)
#define X86_EFER_LMA       (UINT64_C(1) << 10)
#define X86_EFER_NXE       (UINT64_C(1) << 11)

/* width in bits (8, 16, 32, 64), or 0: `result` holds the six flags themselves, packed. */
typedef struct X86Flags {
    uint64_t result;
    uint64_t carry;
    uint64_t width;
} X86Flags;

static inline bool x86_cf(const X86Flags *f)
{
    return f->width ? f->carry >> (f->width - 1) & 1 : f->result & X86_CF;
}

static inline bool x86_zf(const X86Flags *f)
{
    return f->width ? (f->result << (64 - f->width)) == 0 : (f->result & X86_ZF) != 0;
}

static inline bool x86_sf(const X86Flags *f)
{
    return f->width ? f->result >> (f->width - 1) & 1 : (f->result & X86_SF) != 0;
}

static inline bool x86_of(const X86Flags *f)
{
    return f->width ? (f->carry >> (f->width - 1) ^ f->carry >> (f->width - 2)) & 1
                    : (f->result & X86_OF) != 0;
}

static inline bool x86_pf(const X86Flags *f)
{
    return f->width ? !__builtin_parity((unsigned)(f->result & 0xff)) : (f->result & X86_PF) != 0;
}

static inline bool x86_af(const X86Flags *f)
{
    return f->width ? f->carry >> 3 & 1 : (f->result & X86_AF) != 0;
}

static inline uint64_t x86_flags_pack(const X86Flags *f)
{
    if (f->width == 0) {
        return f->result & X86_STATUS;
    }
    return (x86_cf(f) ? X86_CF : 0) | (x86_pf(f) ? X86_PF : 0) | (x86_af(f) ? X86_AF : 0) |
           (x86_zf(f) ? X86_ZF : 0) | (x86_sf(f) ? X86_SF : 0) | (x86_of(f) ? X86_OF : 0);
}

/* ---- TLB: direct-mapped, one for user and one for supervisor accesses ---- */

#define X86_TLB_BITS 10
#define X86_TLB_SIZE (1u << X86_TLB_BITS)
#define X86_TLB_NONE UINT64_C(1) /* a page tag that never matches */

typedef struct X86TlbEntry {
    uint64_t page;   /* linear address of the page, or X86_TLB_NONE */
    uint64_t addend; /* host address = linear address + addend */
} X86TlbEntry;

/* A write entry exists only where a store needs nothing but the store: D set, no code in the page,
 * no watchpoint, RAM, alignment not checked. */
typedef struct X86Tlb {
    X86TlbEntry read[X86_TLB_SIZE];
    X86TlbEntry write[X86_TLB_SIZE];
    X86TlbEntry
        fetch[X86_TLB_SIZE]; /* filled by x86_fetch_page(), dropped by mmu.c; linear + addend
                                      * is the GUEST-PHYSICAL address of code */
} X86Tlb;

enum {
    X86_TLB_SUPER,
    X86_TLB_USER,
    X86_TLB_EMPTY, /* never filled: used while every access has to take the slow path */
    X86_N_TLBS,
};

typedef enum X86Access {
    X86_READ,
    X86_WRITE, /* also a read-modify-write */
    X86_FETCH,
} X86Access;

/* ---- faults ---- */

enum {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OFV = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DFV = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS = 12,
    X86_GP = 13,
    X86_PFV = 14,
    X86_MF = 16,
    X86_ACV = 17,
    X86_MC = 18,
    X86_XM = 19,
};

typedef struct X86Fault {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t cr2; /* #PF only */
} X86Fault;

/* ---- reasons why the engine leaves a chain of blocks; ATOMIC bits of c->attention ---- */

/*
 * X86_ATT_STEP: whoever makes single-stepping necessary sets it: TF or DR7 loaded, c->shadow set,
 * debugger. The engine then runs one instruction at a time, clears c->shadow after an instruction,
 * delivers #DB for TF, code breakpoints (before, unless RF) and c->debug_hits (after), and clears
 * the bit when nothing needs it any more. While c->shadow is set it does not call x86_service().
 */
enum {
    X86_ATT_KICK = 1 << 0, /* vp_kick() */
    X86_ATT_IRQ = 1 << 1,  /* the local APIC may have something */
    X86_ATT_NMI = 1 << 2,
    X86_ATT_INIT = 1 << 3,
    X86_ATT_SIPI = 1 << 4,
    X86_ATT_FLUSH = 1 << 5, /* another VP or the host asks to drop TLB or code */
    X86_ATT_EXIT = 1 << 6,  /* the VP itself has an exit to report (c->exit) */
    X86_ATT_HALT = 1 << 7,  /* HLT was executed */
    X86_ATT_STEP = 1 << 8,  /* run one instruction at a time: TF, shadow, breakpoints, debugger */
    X86_ATT_TIMER = 1 << 9, /* look at the clock now */
};

/* ---- the CPU ---- */

/* Execution mode, derived by x86_mode_changed() (seg.c); part of a block's key. */
enum {
    X86_MODE_16 = 0, /* code size: CS.D = 0 */
    X86_MODE_32 = 1,
    X86_MODE_64 = 2,
    X86_MODE_SIZE = 3,      /* mask of the three */
    X86_MODE_SS32 = 1 << 2, /* stack pointer is ESP (SS.B) */
    X86_MODE_PROT = 1 << 3, /* CR0.PE and not virtual-8086 */
    X86_MODE_VM86 = 1 << 4,
    X86_MODE_LONG = 1 << 5,   /* EFER.LMA (64-bit or compatibility) */
    X86_MODE_USER = 1 << 6,   /* CPL 3 */
    X86_MODE_NO_X87 = 1 << 7, /* CR0.EM or CR0.TS: X86_P_X87 rows raise */
    X86_MODE_NO_SSE = 1 << 8, /* CR0.EM, CR0.TS or not CR4.OSFXSR: X86_P_MMX, X86_P_SSE rows may */
    X86_MODE_ENGINE = 15 << 28, /* the engine's own, in keys of blocks only */
};

typedef struct X86Seg {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint16_t attrs; /* as PtaX86Segment */
} X86Seg;

typedef union X86Vec {
    uint8_t u8[32];
    uint16_t u16[16];
    uint32_t u32[8];
    uint64_t u64[4];
    int8_t i8[32];
    int16_t i16[16];
    int32_t i32[8];
    int64_t i64[4];
    float f32[8];
    double f64[4];
} __attribute__((aligned(32))) X86Vec; /* the low 16 bytes are XMM */

struct X86Cpu {
    /* hot: what nearly every instruction touches */
    uint64_t gpr[18];     /* 16 registers, X86_R_ZERO, X86_R_CODE */
    X86Flags flags;       /* the six status flags */
    uint64_t rip;         /* see the rules above */
    X86Tlb *tlb;          /* the one that data accesses use now */
    uint64_t seg_base[8]; /* ES CS SS DS FS GS, FLAT = 0 */
    uint32_t attention;   /* ATOMIC */
    int32_t budget;       /* instructions until x86_service() looks at the clock; it sets it */
    uint32_t mode;        /* X86_MODE_*; right before code_gen: one key */
    uint32_t code_gen;    /* mmu.c adds 1 when it drops any fetch entry; seg.c when CS changes
                                   * outside 64-bit mode: blocks found by linear address are looked
                                   * up again */
    uint8_t cpl;
    bool string_again;     /* x86_string_again() */
    int32_t budget_start;  /* budget when insns was last brought up to date */
    const X86Insn *resume; /* builds without sibling calls: what to run next */
    uint8_t shadow;        /* interrupt shadow: 1 STI, 2 MOV SS; for the next instruction */
    uint64_t insns;        /* executed, for statistics */
    X86Tlb *fetch_tlb;     /* the one that fetches use now (SUPER or USER) */

    /* registers */
    uint64_t rflags; /* all but the six status flags; bit 1 set */
    X86Seg seg[PTA_X86_N_SEGS];
    X86Seg tr, ldtr;
    struct {
        uint64_t base;
        uint16_t limit;
    } gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, efer, xcr0, xss;
    uint64_t dr[4], dr6, dr7;
    PtaX86Msrs msr; /* kernel_gs_base, star, … (apic_base: lapic.c) */
    X86Vec xmm[16];
    X86Fpu fpu;          /* x87, MMX and MXCSR */
    uint64_t tsc_offset; /* TSC = clock * hz + offset, see x86_tsc() */

    /* between instructions */
    PtaX86Events events;
    X86Fault fault;      /* being raised */
    uint8_t fault_depth; /* 0, 1 delivering, 2 delivering #DF */
    bool fault_is_trap;
    bool fault_soft;      /* INT n, INT3, INTO: gate DPL is checked, no EXT bit */
    bool fault_int3;      /* INT3: a breakpoint of the debugger, perhaps */
    bool fault_external;  /* an interrupt or NMI, not an exception */
    bool in_engine;       /* unwind is valid */
    uint64_t fault_rip;   /* of the instruction whose event is being delivered */
    unsigned world_depth; /* how often x86_lock_world() is held */
    jmp_buf unwind;
    PtaExit exit;
    PtaGuestDebug debug;
    uint64_t debug_pass_lin; /* of the instruction that `debug.pass` is about */
    uint32_t debugger_hits;  /* the same as debug_hits, for the debugger */
    bool stepping;           /* a single instruction is under way */
    bool restart;            /* unwinding is no exception: the instruction at rip begins again */
    uint32_t debug_hits;     /* DR6 bits of data and I/O breakpoints that the current instruction
                                   * met: mmu.c, system.c; the engine raises #DB after it */

    /* owners */
    X86Machine *machine;
    unsigned index;
    const PtaCpuidTable *cpuid;
    X86BlockCache *blocks;
    X86Lapic *lapic;
    X86Tlb *tlbs;            /* X86_N_TLBS of them */
    struct X86MmuCache *mmu; /* mmu.c: larger, slower levels behind the TLB */
    GMutex wait_lock;        /* service.c: HLT sleeps here */
    GCond wait_cond;
    uint64_t look_ns;    /* service.c: when the clock was last looked at, */
    int32_t look_budget; /* with which budget since, */
    uint32_t look_rate;  /* and how many instructions go by between two looks */
    uint32_t pauses;     /* service.c: PAUSE instructions of this spin loop, */
    uint32_t pause_us;   /* how long it sleeps next, */
    uint64_t pause_at;   /* and when (in instructions) the last one was */
    bool slack_set;      /* the thread's timer slack is small */
    uint32_t inside;     /* ATOMIC: executes guest code now: x86_enter() */
    uint64_t stats[18];  /* X86_STAT_* */

    /* xsave.c: the canonical area as it was set, with the components that are not x87 and SSE as they
     * are now; which of those are in use; and what x87 and SSE were loaded as. */
    struct {
        uint8_t area[PTA_X86_XSAVE_SIZE];
        uint8_t image[512];
        uint64_t in_use;
    } xstate;
};

enum {
    X86_STAT_INSNS,
    X86_STAT_BLOCKS,
    X86_STAT_DECODED,
    X86_STAT_TLB_FILL,
    X86_STAT_TLB_FLUSH,
    X86_STAT_MMIO,
    X86_STAT_PIO,
    X86_STAT_IRQ,
    X86_STAT_EXCEPTION,
    X86_STAT_HLT,
    X86_STAT_KICK,
    X86_STAT_SMC,
    X86_STAT_MSR,
    X86_STAT_CPUID,
    X86_STAT_SPIN,  /* sleeps in spin loops */
    X86_STAT_WAIT,  /* waits for another VP to give up write access to a page of code */
    X86_STAT_WORLD, /* how often all other VPs were stopped for one instruction */
    X86_N_STATS,
};

/* ---- registers ---- */

static inline uint64_t x86_rip(const X86Cpu *c, const X86Insn *in)
{
    return c->gpr[X86_R_CODE] + in->off;
}

static inline uint64_t x86_next_rip(const X86Cpu *c, const X86Insn *in)
{
    return c->gpr[X86_R_CODE] + in->off + in->len;
}

/* Parts of one register under different types. */
typedef uint8_t X86Reg8;
typedef uint16_t __attribute__((may_alias)) X86Reg16;
typedef uint32_t __attribute__((may_alias)) X86Reg32;
typedef uint64_t __attribute__((may_alias)) X86Reg64;

#define X86_REG8(c, byte_offset)  (*(X86Reg8 *)((char *)(c)->gpr + (byte_offset)))
#define X86_REG16(c, byte_offset) (*(X86Reg16 *)((char *)(c)->gpr + (byte_offset)))
#define X86_REG32(c, byte_offset) (*(X86Reg32 *)((char *)(c)->gpr + (byte_offset)))
#define X86_REG64(c, byte_offset) (*(X86Reg64 *)((char *)(c)->gpr + (byte_offset)))

/* Width as data; a 4-byte write clears the upper half, as in 64-bit mode (harmless elsewhere). */
static inline uint64_t x86_reg(const X86Cpu *c, unsigned byte_offset, unsigned width)
{
    switch (width) {
    case 1:
        return X86_REG8(c, byte_offset);
    case 2:
        return X86_REG16(c, byte_offset);
    case 4:
        return X86_REG32(c, byte_offset);
    default:
        return X86_REG64(c, byte_offset);
    }
}

static inline void x86_set_reg(X86Cpu *c, unsigned byte_offset, unsigned width, uint64_t value)
{
    switch (width) {
    case 1:
        X86_REG8(c, byte_offset) = (uint8_t)value;
        break;
    case 2:
        X86_REG16(c, byte_offset) = (uint16_t)value;
        break;
    case 4:
        X86_REG64(c, byte_offset) = (uint32_t)value;
        break;
    default:
        X86_REG64(c, byte_offset) = value;
        break;
    }
}

static inline uint64_t x86_rflags(const X86Cpu *c)
{
    return c->rflags | x86_flags_pack(&c->flags);
}

static inline void x86_set_status(X86Cpu *c, uint64_t status)
{
    c->flags = (X86Flags){ .result = status & X86_STATUS };
}

/* ---- effective addresses: linear, i.e. with the segment's base ---- */

/* engine.c: the ways that are not 64-bit mode with 64-bit addresses. `size` and `access` for the
 * limit check, which raises. */
uint64_t x86_ea_slow(X86Cpu *c, const X86Insn *in, unsigned size, X86Access access);

static inline uint64_t x86_ea(X86Cpu *c, const X86Insn *in, unsigned size, X86Access access)
{
    if (G_UNLIKELY(in->ea & X86_EA_SLOW)) {
        return x86_ea_slow(c, in, size, access);
    }
    return c->gpr[in->base] + (c->gpr[in->index] << in->scale) + (uint64_t)(int64_t)in->disp +
           c->seg_base[in->seg];
}

/* The offset without the segment's base: LEA, and the operand of far transfers and INVLPG. */
uint64_t x86_ea_offset(const X86Cpu *c, const X86Insn *in);

/* ---- memory by linear address (mmu.c) ---- */

/* Everything that the TLB does not answer: page walk, page crossing, MMIO, code pages, watchpoints,
 * alignment check. `in` is the instruction to blame, or NULL if c->rip is already right. `user`:
 * as CPL 3; false is an implicit supervisor access (descriptor tables, TSS, exception frames). */
uint64_t x86_load_slow(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, bool user);
void x86_store_slow(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, uint64_t value,
                    bool user);
/* The same for 1 to 64 bytes of any alignment (XMM, FXSAVE pieces, descriptors). */
void x86_load_bytes(X86Cpu *c, const X86Insn *in, uint64_t lin, void *buf, unsigned size);
void x86_store_bytes(X86Cpu *c, const X86Insn *in, uint64_t lin, const void *buf, unsigned size);
/* Makes sure that `size` bytes may be written (read) without a fault, or raises. */
void x86_probe(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, X86Access access);

/* Host address if the access needs nothing but the access, else NULL. */
static inline void *x86_tlb_lookup(const X86TlbEntry *tlb, uint64_t lin, unsigned size)
{
    const X86TlbEntry *e = &tlb[(lin + size - 1) >> 12 & (X86_TLB_SIZE - 1)];
    return G_LIKELY((lin & ~UINT64_C(0xfff)) == e->page) ? (void *)(uintptr_t)(lin + e->addend)
                                                         : NULL;
}

#define X86_DEFINE_ACCESS(bits)                                                                    \
    static inline uint64_t x86_load##bits(X86Cpu *c, const X86Insn *in, uint64_t lin)              \
    {                                                                                              \
        const void *p = x86_tlb_lookup(c->tlb->read, lin, (bits) / 8);                             \
        uint##bits##_t v;                                                                          \
        if (G_LIKELY(p)) {                                                                         \
            __builtin_memcpy(&v, p, sizeof(v));                                                    \
            return v;                                                                              \
        }                                                                                          \
        return x86_load_slow(c, in, lin, (bits) / 8, c->cpl == 3);                                 \
    }                                                                                              \
    static inline void x86_store##bits(X86Cpu *c, const X86Insn *in, uint64_t lin, uint64_t value) \
    {                                                                                              \
        void *p = x86_tlb_lookup(c->tlb->write, lin, (bits) / 8);                                  \
        uint##bits##_t v = (uint##bits##_t)value;                                                  \
        if (G_LIKELY(p)) {                                                                         \
            __builtin_memcpy(p, &v, sizeof(v));                                                    \
        } else {                                                                                   \
            x86_store_slow(c, in, lin, (bits) / 8, value, c->cpl == 3);                            \
        }                                                                                          \
    }
X86_DEFINE_ACCESS(8)
X86_DEFINE_ACCESS(16)
X86_DEFINE_ACCESS(32)
X86_DEFINE_ACCESS(64)

static inline uint64_t x86_load(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size)
{
    switch (size) {
    case 1:
        return x86_load8(c, in, lin);
    case 2:
        return x86_load16(c, in, lin);
    case 4:
        return x86_load32(c, in, lin);
    default:
        return x86_load64(c, in, lin);
    }
}

static inline void x86_store(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size,
                             uint64_t value)
{
    switch (size) {
    case 1:
        x86_store8(c, in, lin, value);
        break;
    case 2:
        x86_store16(c, in, lin, value);
        break;
    case 4:
        x86_store32(c, in, lin, value);
        break;
    default:
        x86_store64(c, in, lin, value);
        break;
    }
}

/* Implicit supervisor accesses. */
uint64_t x86_sys_load(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size);
void x86_sys_store(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, uint64_t value);

/*
 * A host pointer through which `size` bytes may be read and written atomically with host
 * instructions (LOCK), or NULL: device registers, or a split access. Then the caller takes
 * x86_lock_world(), uses x86_load/x86_store, and x86_unlock_world(); the load must come after an
 * x86_probe() for writing. After the access through the pointer the caller hands *written to
 * x86_rmw_done(). The pointer is aligned, but for what host_cas() in int-atomic.c can do.
 */
void *x86_host_rmw(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, uint64_t *written);
#define X86_RMW_PLAIN UINT64_MAX /* *written: nothing more is to be done */
void x86_rmw_done_slow(X86Cpu *c, uint64_t written, unsigned size);
static inline void x86_rmw_done(X86Cpu *c, uint64_t written, unsigned size)
{
    if (G_UNLIKELY(written != X86_RMW_PLAIN)) {
        x86_rmw_done_slow(c, written, size);
    }
}

/*
 * String instructions: host pointer and number of bytes, at most `len`, from lin to the end of its
 * page, or NULL if this page needs the slow way. Never raises.
 */
void *x86_host_span(X86Cpu *c, uint64_t lin, uint64_t len, X86Access access, uint64_t *n);

/* ---- MMU for others (mmu.c) ---- */

/* Walks without side effects on the CPU (A and D bits only if `set_ad`); false and *fault. */
bool x86_walk(X86Cpu *c, uint64_t lin, X86Access access, bool user, bool set_ad, uint64_t *gpa,
              X86Fault *fault);
/* gpa -> host RAM, or NULL (hole, MMIO). The whole page is there. *writable if stores may go. */
void *x86_phys_host(X86Cpu *c, uint64_t gpa, bool *writable);
void x86_tlb_flush(X86Cpu *c, bool global_too);
void x86_tlb_flush_page(X86Cpu *c, uint64_t lin);
/* Drops the write entries of one guest-physical page in this VP: code was decoded from it. */
void x86_tlb_protect(X86Cpu *c, uint64_t gpa);
/* Whether the VP, which may be running, has a write entry for the page. The caller has marked the
 * page as code before: what the VP fills later, it drops itself. Any VP's thread. */
bool x86_tlb_may_write(const X86Cpu *vp, uint64_t gpa);
/* The same two for all pages that the dirty log has as clean (dirty.c). */
void x86_tlb_drop_clean(X86Cpu *c);
bool x86_tlb_has_clean(const X86Cpu *vp);
/* Translates for an instruction fetch at the current privilege and fills the fetch TLB. `*host` is
 * the first byte of the page, NULL where no RAM is. False and *fault (#PF, #GP). */
bool x86_fetch_page(X86Cpu *c, uint64_t lin, uint64_t *gpa, const uint8_t **host, X86Fault *fault);
/* RFLAGS.AC was cleared under CR4.SMAP. */
void x86_tlb_close_smap(X86Cpu *c);
/* Pages (linear) with data breakpoints, at most 8: every access to them takes the slow path. */
void x86_mmu_watch(X86Cpu *c, const uint64_t *pages, unsigned n);
/* c->tlbs, c->mmu and c->tlb, c->fetch_tlb; of a zeroed X86Cpu. */
void x86_mmu_init(X86Cpu *c);
void x86_mmu_free(X86Cpu *c);
/* Control registers as MOV, LMSW and task switches write them: checks, mode transitions, flushes.
 * False: #GP(0), and nothing changed. */
bool x86_set_cr0(X86Cpu *c, uint64_t value);
bool x86_set_cr3(X86Cpu *c, uint64_t value);
bool x86_set_cr4(X86Cpu *c, uint64_t value);
bool x86_set_efer(X86Cpu *c, uint64_t value);
/* PAE paging: reads the four PDPTEs of `cr3`; false if a reserved bit is set in one. */
bool x86_load_pdptes(X86Cpu *c, uint64_t cr3);
/* A state was set: they are loaded when first needed, for memory may be restored later. */
void x86_pdptes_stale(X86Cpu *c);

/* ---- blocks (block.c) ---- */

/* A store reached a page that code was decoded from; drops what overlaps, in all VPs. Called by
 * x86_store_slow() and for host writes. True if the current block was hit: the engine must leave
 * it after this instruction (block.c sees to that). */
bool x86_code_written(X86Cpu *c, uint64_t gpa, uint64_t len);
bool x86_page_has_code(const X86Machine *m, uint64_t gpa);
void x86_blocks_flush(X86Cpu *c);
/* Made with the VP, freed with it; c->machine and c->index are set. */
void x86_blocks_new(X86Cpu *c);
void x86_blocks_free(X86Cpu *c);
/* X86_ATT_FLUSH: does what other VPs and host threads asked for. Called by x86_service(). */
void x86_blocks_attend(X86Cpu *c);
/* The part of it that may not wait for the end of a block: gives up write access to pages that others
 * decode from. */
void x86_blocks_protect(X86Cpu *c);
/* Asks a VP to x86_tlb_drop_clean(); gives the number of the request. Any thread. */
uint64_t x86_request_clean(X86Cpu *vp);
/* For host_wrote(): any thread. Asks all VPs to drop what they decoded from there. */
void x86_code_host_wrote(X86Machine *m, uint64_t gpa, uint64_t len);

/* ---- several VPs (world.c) ---- */

/*
 * Between x86_enter() and x86_leave() a VP may touch guest memory and others have to wait for it;
 * x86_run() is inside but while it sleeps. Entering waits while another VP has the world, and does
 * x86_blocks_protect(). VP thread.
 */
void x86_enter(X86Cpu *c);
void x86_leave(X86Cpu *c);
/* Stops every other VP at the end of its block: for the read-modify-writes that the host cannot do
 * in one. Nests; x86_raise() unlocks. With one VP it costs nothing. */
void x86_lock_world(X86Cpu *c);
void x86_unlock_world(X86Cpu *c);
/* X86_ATT_FLUSH: stands still while another VP has the world. */
void x86_world_attend(X86Cpu *c);
/* Waits, outside, until `vp` has done what it was asked up to request number `asked`, or is outside
 * and does it before it comes back. Then x86_blocks_protect() has been called. */
void x86_wait_request(X86Cpu *c, X86Cpu *vp, uint64_t asked);
/* The same for a thread that is no VP's. */
void x86_wait_request_host(X86Machine *m, const X86Cpu *vp, uint64_t asked);
/* Somebody may wait for what this VP has just done. */
void x86_tell_waiters(X86Machine *m);

/* A serialising instruction or port I/O: all stores are visible before anything later is read
 * (SDM vol. 3, 8.2.5, 8.3). */
void x86_serialize(const X86Cpu *c);

/* ---- engine ---- */

/* Runs until c->exit is to be reported; fills *exit. */
void x86_run(X86Cpu *c, PtaExit *exit);
/* Decodes and runs exactly one instruction; exceptions are delivered. */
void x86_step(X86Cpu *c);
/* vp_run() of a stepper: the same on memory that others write, and fills *exit. */
void x86_run_one(X86Cpu *c, PtaExit *exit);
/* Stepper: nothing is done, the instruction is beyond it; `why` completes "an instruction …". */
G_NORETURN void x86_give_up(X86Cpu *c, const X86Insn *in, const char *why);
void x86_engine_init(void); /* once a process */

static inline void x86_attend(X86Cpu *c, uint32_t bits)
{
    __atomic_fetch_or(&c->attention, bits, __ATOMIC_SEQ_CST);
}

/* ---- exceptions (exception.c) ---- */

/* Faults: RIP is that of `in` (or c->rip if NULL). Error code -1: none. */
G_NORETURN void x86_raise(X86Cpu *c, const X86Insn *in, unsigned vector, int64_t error);
G_NORETURN void x86_raise_fault(X86Cpu *c, const X86Insn *in, const X86Fault *fault);
G_NORETURN void x86_raise_ud(X86Cpu *c, const X86Insn *in);
G_NORETURN void x86_raise_gp(X86Cpu *c, const X86Insn *in, uint32_t error);
/* Traps and software interrupts: RIP is already that of the next instruction (c->rip). */
G_NORETURN void x86_raise_trap(X86Cpu *c, unsigned vector);
G_NORETURN void x86_soft_int(X86Cpu *c, const X86Insn *in, unsigned vector);
/* #BP of an INT3 that lies before RIP; the debugger does not hear of it (again). */
G_NORETURN void x86_raise_int3(X86Cpu *c);
/* No exception: `in` begins again, as a single step. */
G_NORETURN void x86_restart(X86Cpu *c, const X86Insn *in);
/* Delivers c->fault through the IDT; called by the engine after an unwind. May raise again. */
void x86_deliver(X86Cpu *c);
/* Delivers an external interrupt or NMI now; between instructions. */
void x86_interrupt(X86Cpu *c, uint8_t vector);

/*
 * Single step and breakpoints (debug.c). While x86_step_needed(), X86_ATT_STEP stays set and the
 * engine runs x86_step() only, which calls x86_step_begin() before the instruction (it raises the
 * #DB of an instruction breakpoint, and clears RF) and x86_step_end() after one that completed (it
 * raises the #DB of TF and c->debug_hits as a trap, unless c->shadow, as that instruction left it,
 * says MOV SS: then it waits for one more).
 *
 * The debugger's breakpoints (c->debug) cost nothing elsewhere: code is decoded with a stop at each
 * place that may be one (x86_debug_break_at()), and an access to what is watched starts its
 * instruction again as a single step. Either is reported when the instruction is done, by step_end
 * or, where that took the VP to a handler, by x86_debug_delivered().
 */
bool x86_step_needed(const X86Cpu *c);
bool x86_step_begin(X86Cpu *c); /* false: leave x86_run(), c->exit is set */
void x86_step_end(X86Cpu *c);
/* After DR0-3 or DR7 changed, c->debug included. */
void x86_debug_changed(X86Cpu *c);
/* What the debugger wants from now on; the VP does not run. */
void x86_debug_set(X86Cpu *c, const PtaGuestDebug *debug);
/* Data is about to be accessed in a watched page; notes what to trap for, or unwinds. */
void x86_debug_data(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, X86Access access);
/* The first instruction of a handler is next. */
void x86_debug_delivered(X86Cpu *c);
/* Whether an instruction at this offset of any page has to begin in step_begin. */
bool x86_debug_break_at(const X86Cpu *c, unsigned offset);
/* Port `port` of `size` bytes was read or written: I/O breakpoints. */
void x86_debug_io(X86Cpu *c, uint16_t port, unsigned size);

/* ---- segments and modes (seg.c) ---- */

/* Recomputes mode, CPL-dependent TLB pointers and segment bases; call after any change to CR0, CR4,
 * EFER, CS, SS, RFLAGS.VM/AC or CPL. */
void x86_mode_changed(X86Cpu *c);
void x86_load_seg(X86Cpu *c, const X86Insn *in, unsigned seg, uint16_t selector);
/* Limit and rights of a data access in legacy and compatibility modes; raises. Gives the linear
 * address. */
uint64_t x86_seg_check(X86Cpu *c, const X86Insn *in, unsigned seg, uint64_t offset, unsigned size,
                       X86Access access);
void x86_set_rflags(X86Cpu *c, uint64_t value, uint64_t mask);
/* Near branch target: canonical, or within CS's limit; raises #GP(0) blamed on `in`. */
void x86_check_target(X86Cpu *c, const X86Insn *in, uint64_t target);
/* Push and pop with the stack's width rules; do not commit RSP: the caller does. */
uint64_t x86_stack_mask(const X86Cpu *c);

/* ---- canonical state (state.c): all of it but lapic, tsc and the APIC's MSRs ---- */

void x86_get_state(X86Cpu *c, PtaX86State *state);
void x86_get_regs(X86Cpu *c, PtaX86Regs *regs);
/* Refuses what is not architecturally valid (BAD_SNAPSHOT); then nothing was changed. */
bool x86_set_state(X86Cpu *c, const PtaX86State *state, GError **error);

/* ---- time, interrupts, exits (service.c, lapic.c) ---- */

/* Called by the engine between blocks when attention or the budget asks for it. False: leave
 * x86_run(); c->exit is set. */
bool x86_service(X86Cpu *c);
/* An exception that was pending when the state was set comes first (PtaX86Events). Throws. */
void x86_raise_pending(X86Cpu *c);
uint64_t x86_tsc(X86Cpu *c);
bool x86_rdmsr(X86Cpu *c, uint32_t msr, uint64_t *value); /* msr.c; false: #GP */
bool x86_wrmsr(X86Cpu *c, uint32_t msr, uint64_t value);
uint64_t x86_lapic_tpr(X86Cpu *c); /* CR8 */
void x86_lapic_set_tpr(X86Cpu *c, uint64_t tpr);
bool x86_lapic_mmio(X86Cpu *c, uint64_t gpa, bool write, unsigned size,
                    uint64_t *value); /* false: not the APIC page */

#define X86_APIC_BASE_X2 (UINT64_C(1) << 10)

/* Whether accesses to this page go to the local APIC's registers. */
static inline bool x86_lapic_covers(const X86Cpu *c, uint64_t gpa)
{
    uint64_t b = c->msr.apic_base; /* bit 11: enabled, bit 10: x2APIC */
    return (b & 0xc00) == 0x800 && (b & UINT64_C(0xfffffffffffff000)) == (gpa & ~UINT64_C(0xfff));
}

/* ---- FPU and SSE (fpu-*.c, xsave.c) ---- */

void x86_fpu_reset(X86Cpu *c);
/* Around x86_run(): the host's MXCSR and x87 control word become the guest's (exceptions masked). */
void x86_fpu_enter(X86Cpu *c);
void x86_fpu_leave(X86Cpu *c);
/* XCR0 as XSETBV takes it. */
bool x86_xcr0_valid(const X86Cpu *c, uint64_t xcr0);
void x86_fpu_get(X86Cpu *c, PtaX86Xsave *area);
bool x86_fpu_set(X86Cpu *c, const PtaX86Xsave *area, GError **error);

#endif
