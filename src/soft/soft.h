/*
 * What the VPs of one soft partition share: the memory slots, the page flags for decoded code, the
 * clock, what they need to wait for one another.
 */
#ifndef PTA_SOFT_SOFT_H
#define PTA_SOFT_SOFT_H

#include "src/partition/backend.h"
#include "src/soft/x86-cpu.h"

typedef struct X86Slot {
    uint64_t gpa, size;
    uint8_t *host;
    unsigned flags; /* PTA_MAP_* */
    /* Per page, one bit for each VP; ATOMIC. Block.c says how they are used. */
    uint64_t *code;    /* it has decoded code from there */
    uint64_t *writers; /* it may have a write entry in its TLB; NULL if there is one VP only */
    /* Dirty log (dirty.c): ATOMIC, a bit for each page, words of 64 pages aligned in guest addresses. */
    uint64_t *dirty;
} X86Slot;

/* All slots; never changed but replaced as a whole. `likely` is the one that most accesses are to: a
 * machine has one piece of RAM that is larger than the others by far. */
typedef struct X86Slots {
    const X86Slot *likely; /* NULL: there is none */
    unsigned n;
    X86Slot slot[]; /* sorted by gpa */
} X86Slots;

/* Components of the XSAVE area, from CPUID leaf 0DH: standard format. */
typedef struct X86XsaveLayout {
    uint64_t user;    /* which there are: XCR0 */
    uint64_t aligned; /* to 64 bytes in the compacted format */
    uint16_t offset[63], size[63];
} X86XsaveLayout;

struct X86Machine {
    PtaBackend be; /* base */
    const PtaPlatform *platform;
    const PtaCpuidTable *cpuid;
    unsigned n_vps;
    bool stepping;           /* PtaBackendParams.stepping */
    PtaCpuidTable own_cpuid; /* stepping: `cpuid`, which has all features that we know */
    X86XsaveLayout xsave;    /* CONST: xsave.c */
    X86Cpu *vps[PTA_MAX_VPS];
    X86Slots *slots;    /* ATOMIC; replaced only while no VP runs: others are readers (reader.h) */
    GMutex world;       /* world.c: held by `stopper` */
    X86Cpu *stopper;    /* ATOMIC: has stopped all others, or is about to */
    GMutex sync_lock;   /* world.c: VPs that wait for one another */
    GCond sync_cond;    /* LOCKED(sync_lock) */
    unsigned n_waiting; /* ATOMIC */
    uint64_t clock;     /* ATOMIC; soft.c: x86_clock_ns() reads it */
    uint64_t tsc_hz;    /* CONST once a VP has run */
    uint32_t dirty_on;  /* ATOMIC: writes are logged */
    GMutex dirty_lock;  /* dirty.c, and the slots while they are replaced */
    PtaDirtySinkFn *sink; /* LOCKED(dirty_lock) */
    void *sink_opaque;
    uint32_t lowest_turn; /* ATOMIC; ipi.c: whose turn among equals */
};

/* The input of the APIC timers ticks with the partition's clock, once a nanosecond, and so does the TSC
 * unless the machine asks for another frequency: an interpreter has none of its own, and so nothing is
 * converted anywhere, a saved machine fits every host, and the Hyper-V reference time is exact. */
#define X86_TSC_HZ  UINT64_C(1000000000)
#define X86_APIC_HZ UINT64_C(1000000000)

/* TSC ticks of the clock's first ns nanoseconds: the TSC is that plus the VP's offset. */
static inline uint64_t x86_tsc_ticks(const X86Machine *m, uint64_t ns)
{
    if (G_LIKELY(m->tsc_hz == X86_TSC_HZ)) {
        return ns;
    }
    return ns / X86_TSC_HZ * m->tsc_hz + ns % X86_TSC_HZ * m->tsc_hz / X86_TSC_HZ;
}

/* The first nanosecond that has so many ticks. */
static inline uint64_t x86_tsc_time(const X86Machine *m, uint64_t ticks)
{
    if (G_LIKELY(m->tsc_hz == X86_TSC_HZ)) {
        return ticks;
    }
    uint64_t s = ticks / m->tsc_hz, rest = ticks % m->tsc_hz * X86_TSC_HZ;
    if (s >= UINT64_MAX / X86_TSC_HZ) {
        return UINT64_MAX;
    }
    return s * X86_TSC_HZ + rest / m->tsc_hz + (rest % m->tsc_hz != 0);
}

/* A copy of `from` (NULL: empty) with room for `more`; free with g_free. */
X86Slots *x86_slots_copy(const X86Slots *from, unsigned more);
/* The slot that holds gpa, or NULL. A VP's thread, or a reader. */
const X86Slot *x86_slot(const X86Machine *m, uint64_t gpa);

static inline size_t x86_slot_page(const X86Slot *s, uint64_t gpa)
{
    return (gpa - s->gpa) >> PTA_PAGE_SHIFT;
}

static inline uint64_t x86_vp_bit(const X86Cpu *c)
{
    return UINT64_C(1) << c->index;
}

/* Nanoseconds of the partition's clock; any thread. */
uint64_t x86_clock_ns(const X86Machine *m);

/* Fills m->xsave. */
void x86_xsave_layout(X86Machine *m);

/* ---- dirty.c ---- */

static inline size_t x86_dirty_words(uint64_t gpa, uint64_t size)
{
    return ((gpa + size - 1) >> (PTA_PAGE_SHIFT + 6)) - (gpa >> (PTA_PAGE_SHIFT + 6)) + 1;
}

static inline uint64_t *x86_dirty_word(const X86Slot *s, uint64_t gpa)
{
    return &s->dirty[(gpa >> (PTA_PAGE_SHIFT + 6)) - (s->gpa >> (PTA_PAGE_SHIFT + 6))];
}

static inline bool x86_page_dirty(const X86Slot *s, uint64_t gpa)
{
    return __atomic_load_n(x86_dirty_word(s, gpa), __ATOMIC_SEQ_CST) >>
               (gpa >> PTA_PAGE_SHIFT & 63) &
           1;
}

static inline bool x86_dirty_on(const X86Machine *m)
{
    return G_UNLIKELY(__atomic_load_n(&m->dirty_on, __ATOMIC_SEQ_CST) != 0);
}

/* The VP wrote to this page in a way that needed no write entry: called after the write. */
void x86_dirty_mark(X86Machine *m, uint64_t gpa);
/* The slot is unmapped: what it has goes to the sink. LOCKED(dirty_lock). */
void x86_dirty_unmap(X86Machine *m, const X86Slot *s);
/* PtaBackendOps. */
bool x86_dirty_start(PtaBackend *be, PtaDirtySinkFn *sink, void *opaque, GError **error);
void x86_dirty_fetch(PtaBackend *be, uint64_t gpa, uint64_t size);
void x86_dirty_stop(PtaBackend *be);

/* ---- service.c ---- */

/* x86_attend(), and wakes the VP if it sleeps in HLT. Any thread. */
void x86_notify(X86Cpu *c, uint32_t bits);
/* The APIC timer was set: the clock must be looked at in time. VP thread, or stopped. */
void x86_timer_armed(X86Cpu *c);
/* Turns HLT, INIT, SIPI and NMI messages that wait into state. VP thread, or stopped. */
void x86_take_messages(X86Cpu *c);

#endif
