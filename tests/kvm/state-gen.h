/* Random VP states that a VP can be in, and what differs between two states. For tests. */
#ifndef PTA_TESTS_STATE_GEN_H
#define PTA_TESTS_STATE_GEN_H

#include "src/partition/x86-cpuid.h"
#include "src/partition/x86-state.h"

typedef struct StateGen {
    uint64_t seed; /* advances */
    const PtaCpuidTable *cpuid;
    unsigned vp;
    uint64_t clock_ns;    /* of the partition: timers are around it */
    bool narrow_sysenter; /* SYSENTER_ESP and _EIP have 32 bits: AMD's */
} StateGen;

uint64_t state_gen_random(StateGen *g);
void state_gen(StateGen *g, PtaX86State *state);

/* Calls fn for each number and each blob in a state. */
typedef void StateFieldFn(void *opaque, const char *path, size_t offset, size_t size);
void state_each_field(StateFieldFn *fn, void *opaque);

/* "regs.cr0: 0x11 and 0x10; …" or NULL if there is no difference. Free with g_free. */
char *state_diff(const PtaX86State *a, const PtaX86State *b);

#endif
