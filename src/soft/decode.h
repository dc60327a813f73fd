/* decode.c: machine code -> X86Insn, by Zydis. No state but the decoders'. */
#ifndef PTA_SOFT_DECODE_H
#define PTA_SOFT_DECODE_H

#include "src/soft/opcodes.h"

/* X86Insn.form: which operands a row with X86_P_INT has; E is memory (ea has X86_EA_MEM) or rm. */
enum {
    X86_F_OTHER,
    X86_F_E_R, /* destination E, source reg; register to register always comes as this */
    X86_F_R_E, /* destination reg, source E */
    X86_F_E_I, /* destination E, source imm */
    X86_F_E,   /* E alone */
    X86_F_R_E_I,
    X86_F_MOFFS, /* A0-A3 with a 64-bit address, which is in imm */
};

typedef enum X86DecodeStatus {
    X86_DECODE_OK,
    X86_DECODE_MORE, /* the instruction goes on beyond the bytes given */
    X86_DECODE_UD,
    X86_DECODE_TOO_LONG,       /* #GP(0) */
    X86_DECODE_UNKNOWN,        /* #UD in a CPU of ours, but a CPU with more features may have it */
    X86_DECODE_UNKNOWN_VECTOR, /* the same, of AVX or later: only where XCR0 enables that */
} X86DecodeStatus;

/* What the builder of a block wants to know beside the instruction. */
typedef struct X86Decoded {
    uint16_t reads;  /* status flags */
    uint16_t writes; /* status flags that it defines whatever happens */
    bool may_fault;  /* or may otherwise show the flags before it to somebody */
    bool branch;     /* near branch: may leave the block */
} X86Decoded;

typedef struct X86Memo X86Memo;

typedef struct X86Decoder {
    ZydisDecoder size[3]; /* by mode & X86_MODE_SIZE */
    uint64_t features;
    X86Memo *memo; /* NULL: none */
} X86Decoder;

void x86_decoder_init(X86Decoder *d, uint64_t features);

/* Remembers what instructions decode to, so that most of them need no Zydis. Such a decoder belongs
 * to one thread; x86_decoder_clear() frees. */
void x86_decoder_remember(X86Decoder *d);
void x86_decoder_clear(X86Decoder *d);

/* Decodes the instruction at bytes; fills everything of *in but off, n, exec. If it is not OK,
 * *in is not valid. */
X86DecodeStatus x86_decode(const X86Decoder *d, unsigned mode, const uint8_t *bytes, size_t n,
                           X86Insn *in, X86Decoded *info);

#endif
