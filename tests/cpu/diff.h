/*
 * The differential test of the software CPU: one instruction with a random state, executed by the
 * host's CPU in a child process (diff-native.c) and by the software CPU (diff-soft.c), and compared
 * (diff.c). diff-gen.c makes the vectors from the opcode table.
 */
#ifndef TESTS_CPU_DIFF_H
#define TESTS_CPU_DIFF_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "src/soft/decode.h"
#include "src/soft/opcodes.h"

/*
 * Linear addresses, the same on both sides and below 2 GiB, so that 32-bit code reaches all of it:
 * two pages of data around DIFF_MID, nothing mapped before and behind; then code. Of the data the
 * 512 bytes on either side of the page boundary and the last 64 are filled and compared.
 */
#define DIFF_DATA      UINT64_C(0x10000000)
#define DIFF_MID       (DIFF_DATA + 0x1000)
#define DIFF_DATA_END  (DIFF_DATA + 0x2000)
#define DIFF_ARENA     (DIFF_MID - 512)
#define DIFF_ARENA_LEN 1024
#define DIFF_EDGE_LEN  64
#define DIFF_STUB      UINT64_C(0x20000000) /* native side: trampoline */
#define DIFF_CODE      UINT64_C(0x20010000)
#define DIFF_SLOT      64 /* bytes of code a vector may use: instruction, way back, landing ground */
#define DIFF_BATCH     256

typedef struct DiffState {
    uint8_t fx[512] __attribute__((aligned(16))); /* FXSAVE64 image */
    uint64_t gpr[16];
    uint64_t rflags;
    uint64_t rip;
    uint8_t arena[DIFF_ARENA_LEN];
    uint8_t edge[DIFF_EDGE_LEN];
} DiffState;

#define DIFF_NO_FAULT 0xff

typedef struct DiffOutcome {
    DiffState state;
    uint32_t vector; /* DIFF_NO_FAULT, or the exception's */
    uint32_t error;
    uint64_t cr2; /* #PF only, else 0 */
} DiffOutcome;

typedef struct DiffVector {
    DiffState in; /* in.rip is the slot */
    uint8_t code[16];
    uint8_t len;
    bool compat;     /* 32-bit code segment */
    bool branches;   /* ends anywhere in its slot, by a breakpoint */
    uint64_t target; /* of the memory operand, if there is one */
} DiffVector;

/* ---- diff-gen.c ---- */

/* xorshift64*; never 0. */
typedef uint64_t DiffRand;

static inline uint64_t diff_rand(DiffRand *r)
{
    *r ^= *r >> 12;
    *r ^= *r << 25;
    *r ^= *r >> 27;
    return *r * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 … n - 1 */
static inline unsigned diff_below(DiffRand *r, unsigned n)
{
    return (unsigned)((diff_rand(r) >> 32) * n >> 32);
}

static inline bool diff_percent(DiffRand *r, unsigned percent)
{
    return diff_below(r, 100) < percent;
}

/* An encoding: prefix, map, opcode, ModRM fields that are not operands. */
typedef struct DiffForm {
    uint16_t row;
    uint8_t prefix; /* 0, 0x66, 0xf2, 0xf3 */
    uint8_t map;    /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
    uint8_t opcode;
    bool rex_w;
    bool opsize; /* 66 as operand size beside a mandatory prefix or none */
    bool compat;
    bool has_modrm;
    bool mem;       /* ModRM operand in memory */
    int8_t reg;     /* ModRM.reg if it is part of the opcode, else -1 */
    int8_t rm;      /* the same for ModRM.rm (x87) */
    uint8_t imm[2]; /* bytes of the immediates behind it; or of an absolute address */
    bool moffs;
    bool branches;
    bool lockable;
    uint16_t mem_size; /* bytes of the memory operand */
    uint16_t pinned;   /* registers that implied memory operands go by, one bit each */
    char text[96];     /* one disassembled example */
} DiffForm;

/* All encodings of all rows, found by decoding every opcode; free with g_array_unref. */
GArray *diff_forms(uint64_t features, bool compat);
/* Why a row is not for this test, or NULL. */
const char *diff_row_skipped(const X86Row *row);
/* A random vector of the form, to run in slot `slot`; false if this throw of the dice is not to be
 * run (undefined result, a touch of memory that is not ours): throw again. */
bool diff_make(const DiffForm *form, DiffRand *rand, unsigned slot, DiffVector *v);

/* ---- diff-golden.c ---- */

/* Whether the form's outcomes are the same on every host; makes a vector's line short; writes it. */
bool diff_golden_wanted(const DiffForm *form);
void diff_golden_shrink(const DiffForm *form, DiffVector *v);
void diff_golden_write(FILE *f, const DiffForm *form, const DiffVector *v, const DiffOutcome *out);
/* False: the line is not one. Of *form only row and mode are filled. */
bool diff_golden_read(const char *line, DiffForm *form, DiffVector *v, DiffOutcome *out);

/* ---- diff-native.c ---- */

/* Starts the child. False (and why): this host cannot do it. */
bool diff_native_start(const char **why);
bool diff_native_has_compat(void);
/* Runs all of them; false if the child died (it is started anew): *culprit is the vector. */
bool diff_native_run(const DiffVector *v, DiffOutcome *out, unsigned n, unsigned *culprit);
void diff_native_stop(void);

/* ---- diff-soft.c ---- */

void diff_soft_start(uint64_t features);
void diff_soft_run(const DiffVector *v, DiffOutcome *out, unsigned n);
void diff_soft_stop(void);
const X86Decoder *diff_decoder(void);

#endif
