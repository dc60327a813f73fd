/*
 * SSE and MMX: moves between registers and memory, which raise no floating-point exception. One
 * handler for each direction, register and memory forms told apart where they differ.
 */
#include "config.h"

#include "src/soft/opcodes.h"
#include "src/soft/sse.h"

/* ---- 16 bytes ---- */

__m128i sse_load_slow(X86Cpu *c, const X86Insn *in, uint64_t lin)
{
    X86Vec v;
    x86_load_bytes(c, in, lin, &v, 16);
    return _mm_load_si128((const __m128i *)&v);
}

void sse_store_slow(X86Cpu *c, const X86Insn *in, uint64_t lin, __m128i value)
{
    X86Vec v;
    _mm_store_si128((__m128i *)&v, value);
    x86_store_bytes(c, in, lin, &v, 16);
}

/* MOVAPS MOVAPD MOVDQA xmm, xmm/m128; MOVNTDQA */
static void movaps(X86Cpu *c, const X86Insn *in)
{
    sse_set(c, in->reg, sse_rm128(c, in));
}

/* MOVAPS MOVAPD MOVDQA xmm/m128, xmm; MOVNTPS MOVNTPD MOVNTDQ */
static void movaps_st(X86Cpu *c, const X86Insn *in)
{
    if (sse_is_mem(in)) {
        sse_store_aligned(c, in, sse_get(c, in->reg));
    } else {
        sse_set(c, in->rm, sse_get(c, in->reg));
    }
}

/* MOVUPS MOVUPD MOVDQU LDDQU xmm, xmm/m128 */
static void movups(X86Cpu *c, const X86Insn *in)
{
    sse_set(c, in->reg, sse_is_mem(in) ? sse_load_unaligned(c, in) : sse_get(c, in->rm));
}

static void movups_st(X86Cpu *c, const X86Insn *in)
{
    if (sse_is_mem(in)) {
        sse_store_unaligned(c, in, sse_get(c, in->reg));
    } else {
        sse_set(c, in->rm, sse_get(c, in->reg));
    }
}

/* ---- scalars: a load from memory clears the rest, a register move keeps it ---- */

static void movss(X86Cpu *c, const X86Insn *in)
{
    if (sse_is_mem(in)) {
        sse_set(c, in->reg, sse_from32(sse_load32(c, in)));
    } else {
        c->xmm[in->reg].u32[0] = c->xmm[in->rm].u32[0];
    }
}

static void movss_st(X86Cpu *c, const X86Insn *in)
{
    if (sse_is_mem(in)) {
        x86_store32(c, in, x86_ea(c, in, 4, X86_WRITE), c->xmm[in->reg].u32[0]);
    } else {
        c->xmm[in->rm].u32[0] = c->xmm[in->reg].u32[0];
    }
}

static void movsd_xmm(X86Cpu *c, const X86Insn *in)
{
    if (sse_is_mem(in)) {
        sse_set(c, in->reg, sse_from64(sse_load64(c, in)));
    } else {
        c->xmm[in->reg].u64[0] = c->xmm[in->rm].u64[0];
    }
}

static void movsd_xmm_st(X86Cpu *c, const X86Insn *in)
{
    if (sse_is_mem(in)) {
        x86_store64(c, in, x86_ea(c, in, 8, X86_WRITE), c->xmm[in->reg].u64[0]);
    } else {
        c->xmm[in->rm].u64[0] = c->xmm[in->reg].u64[0];
    }
}

/* ---- halves ---- */

/* MOVLPS MOVLPD xmm, m64 */
static void movlps(X86Cpu *c, const X86Insn *in)
{
    c->xmm[in->reg].u64[0] = sse_load64(c, in);
}

/* MOVLPS MOVLPD m64, xmm */
static void movlps_st(X86Cpu *c, const X86Insn *in)
{
    x86_store64(c, in, x86_ea(c, in, 8, X86_WRITE), c->xmm[in->reg].u64[0]);
}

static void movhps(X86Cpu *c, const X86Insn *in)
{
    c->xmm[in->reg].u64[1] = sse_load64(c, in);
}

static void movhps_st(X86Cpu *c, const X86Insn *in)
{
    x86_store64(c, in, x86_ea(c, in, 8, X86_WRITE), c->xmm[in->reg].u64[1]);
}

void op_movhlps(X86Cpu *c, const X86Insn *in)
{
    c->xmm[in->reg].u64[0] = c->xmm[in->rm].u64[1];
}

void op_movlhps(X86Cpu *c, const X86Insn *in)
{
    c->xmm[in->reg].u64[1] = c->xmm[in->rm].u64[0];
}

/* ---- MOVD and MOVQ ---- */

/* MOVD MOVQ xmm, r/m32 or r/m64 */
static void movd_xmm(X86Cpu *c, const X86Insn *in)
{
    if (in->pfx & X86_PFX_REXW) {
        sse_set(c, in->reg, sse_from64(sse_is_mem(in) ? sse_load64(c, in) : X86_REG64(c, in->rm)));
    } else {
        sse_set(c, in->reg, sse_from32(sse_is_mem(in) ? sse_load32(c, in) : X86_REG32(c, in->rm)));
    }
}

/* MOVD MOVQ r/m32 or r/m64, xmm */
static void movd_xmm_st(X86Cpu *c, const X86Insn *in)
{
    const unsigned size = in->pfx & X86_PFX_REXW ? 8 : 4;
    const uint64_t v = c->xmm[in->reg].u64[0];
    if (sse_is_mem(in)) {
        x86_store(c, in, x86_ea(c, in, size, X86_WRITE), size, v);
    } else {
        x86_set_reg(c, in->rm, size, v);
    }
}

/* MOVQ xmm, xmm/m64 (F3 0F 7E) */
static void movq_xmm(X86Cpu *c, const X86Insn *in)
{
    sse_set(c, in->reg, sse_from64(sse_is_mem(in) ? sse_load64(c, in) : c->xmm[in->rm].u64[0]));
}

/* MOVQ xmm/m64, xmm (66 0F D6) */
static void movq_xmm_st(X86Cpu *c, const X86Insn *in)
{
    const uint64_t v = c->xmm[in->reg].u64[0];
    if (sse_is_mem(in)) {
        x86_store64(c, in, x86_ea(c, in, 8, X86_WRITE), v);
    } else {
        sse_set(c, in->rm, sse_from64(v));
    }
}

/* MOVD MOVQ mm, r/m32 or r/m64 */
static void movd_mmx(X86Cpu *c, const X86Insn *in)
{
    const unsigned size = in->pfx & X86_PFX_REXW ? 8 : 4;
    uint64_t v;
    mmx_check(c, in);
    v = sse_is_mem(in) ? x86_load(c, in, x86_ea(c, in, size, X86_READ), size)
                       : x86_reg(c, in->rm, size);
    mmx_commit(c);
    mmx_set(c, in->reg, v);
}

/* MOVD MOVQ r/m32 or r/m64, mm */
static void movd_mmx_st(X86Cpu *c, const X86Insn *in)
{
    const unsigned size = in->pfx & X86_PFX_REXW ? 8 : 4;
    const uint64_t v = mmx_get(c, in->reg);
    mmx_check(c, in);
    mmx_commit(c); /* processors do so even if the store faults */
    if (sse_is_mem(in)) {
        x86_store(c, in, x86_ea(c, in, size, X86_WRITE), size, v);
    } else {
        x86_set_reg(c, in->rm, size, v);
    }
}

/* MOVQ mm, mm/m64 */
static void movq_mmx(X86Cpu *c, const X86Insn *in)
{
    uint64_t v;
    mmx_check(c, in);
    v = mmx_rm(c, in);
    mmx_commit(c);
    mmx_set(c, in->reg, v);
}

/* MOVQ mm/m64, mm; MOVNTQ */
static void movq_mmx_st(X86Cpu *c, const X86Insn *in)
{
    const uint64_t v = mmx_get(c, in->reg);
    mmx_check(c, in);
    mmx_commit(c);
    if (sse_is_mem(in)) {
        x86_store64(c, in, x86_ea(c, in, 8, X86_WRITE), v);
    } else {
        mmx_set(c, in->rm, v);
    }
}

void op_movdq2q(X86Cpu *c, const X86Insn *in)
{
    mmx_check(c, in);
    mmx_commit(c);
    mmx_set(c, in->reg, c->xmm[in->rm].u64[0]);
}

void op_movq2dq(X86Cpu *c, const X86Insn *in)
{
    mmx_check(c, in);
    mmx_commit(c);
    sse_set(c, in->reg, sse_from64(mmx_get(c, in->rm)));
}

/* ---- sign masks ---- */

void op_movmskps(X86Cpu *c, const X86Insn *in)
{
    X86_REG64(c, in->reg) = (unsigned)_mm_movemask_ps(_mm_castsi128_ps(sse_get(c, in->rm)));
}

void op_movmskpd(X86Cpu *c, const X86Insn *in)
{
    X86_REG64(c, in->reg) = (unsigned)_mm_movemask_pd(_mm_castsi128_pd(sse_get(c, in->rm)));
}

static void pmovmskb_xmm(X86Cpu *c, const X86Insn *in)
{
    X86_REG64(c, in->reg) = (unsigned)_mm_movemask_epi8(sse_get(c, in->rm));
}

static void pmovmskb_mmx(X86Cpu *c, const X86Insn *in)
{
    mmx_check(c, in);
    mmx_commit(c);
    X86_REG64(c, in->reg) = (unsigned)_mm_movemask_epi8(sse_from64(mmx_get(c, in->rm)));
}

/* ---- byte-masked stores to DS:[rDI] (or another segment) ---- */

/* The bytes that the mask leaves alone are not written, so neither lost to another VP's store nor
 * faulting: each page that has a byte to be written is probed first, then bytes go one by one. */
static void masked_store(X86Cpu *c, const X86Insn *in, const uint8_t *data, const uint8_t *mask,
                         unsigned size)
{
    uint64_t lin;
    if (in->ea & X86_EA_CHECK) {
        const uint64_t di = c->gpr[PTA_X86_RDI] & (in->ea & X86_EA_A16 ? 0xffff : 0xffffffff);
        lin = x86_seg_check(c, in, in->seg, di, size, X86_WRITE);
    } else {
        const uint64_t di = c->gpr[PTA_X86_RDI];
        lin = (in->ea & X86_EA_A32 ? (uint32_t)di : di) + c->seg_base[in->seg];
    }
    for (unsigned i = 0; i < size; i++) {
        if (mask[i] & 0x80) {
            x86_probe(c, in, lin + i, 1, X86_WRITE);
        }
    }
    for (unsigned i = 0; i < size; i++) {
        if (mask[i] & 0x80) {
            x86_store8(c, in, lin + i, data[i]);
        }
    }
}

void op_maskmovdqu(X86Cpu *c, const X86Insn *in)
{
    masked_store(c, in, c->xmm[in->reg].u8, c->xmm[in->rm].u8, 16);
}

void op_maskmovq(X86Cpu *c, const X86Insn *in)
{
    uint64_t data = mmx_get(c, in->reg);
    uint64_t mask = mmx_get(c, in->rm);
    mmx_check(c, in);
    mmx_commit(c);
    masked_store(c, in, (const uint8_t *)&data, (const uint8_t *)&mask, 8);
}

/* ---- the instructions: which form an encoding is ---- */

#define BY_DIRECTION(name, load, is_store)       \
    void op_##name(X86Cpu *c, const X86Insn *in) \
    {                                            \
        if (is_store) {                          \
            load##_st(c, in);                    \
        } else {                                 \
            load(c, in);                         \
        }                                        \
    }
BY_DIRECTION(movaps, movaps, in->opcode & 1)    /* 28, 29 */
BY_DIRECTION(movdqa, movaps, in->opcode & 0x10) /* 6F, 7F */
BY_DIRECTION(movups, movups, in->opcode & 1)    /* 10, 11 */
BY_DIRECTION(movdqu, movups, in->opcode & 0x10) /* 6F, 7F */
BY_DIRECTION(movss, movss, in->opcode & 1)      /* 10, 11 */
BY_DIRECTION(movsd_xmm, movsd_xmm, in->opcode & 1)
BY_DIRECTION(movlps, movlps, in->opcode & 1) /* 12, 13 */
BY_DIRECTION(movhps, movhps, in->opcode & 1) /* 16, 17 */

/* MOVNTPS MOVNTPD MOVNTDQ: there are no caches here to go past. */
void op_movntps(X86Cpu *c, const X86Insn *in)
{
    movaps_st(c, in);
}

void op_movntq(X86Cpu *c, const X86Insn *in)
{
    movq_mmx_st(c, in);
}

void op_movd(X86Cpu *c, const X86Insn *in)
{
    const bool store = in->opcode == 0x7e;
    if (in->pfx & X86_PFX_OPSIZE) {
        (store ? movd_xmm_st : movd_xmm)(c, in);
    } else {
        (store ? movd_mmx_st : movd_mmx)(c, in);
    }
}

/* Four instructions in one mnemonic: 6E and 7E with REX.W are MOVD's, 6F and 7F MMX's, 66 D6 and
 * F3 7E those between XMM registers and memory. */
void op_movq(X86Cpu *c, const X86Insn *in)
{
    switch (in->opcode) {
    case 0x6f:
        movq_mmx(c, in);
        break;
    case 0x7f:
        movq_mmx_st(c, in);
        break;
    case 0xd6:
        movq_xmm_st(c, in);
        break;
    case 0x7e:
        if (in->pfx & X86_PFX_REP) {
            movq_xmm(c, in);
            break;
        }
        /* fall through */
    default:
        op_movd(c, in);
        break;
    }
}

void op_pmovmskb(X86Cpu *c, const X86Insn *in)
{
    (in->pfx & X86_PFX_OPSIZE ? pmovmskb_xmm : pmovmskb_mmx)(c, in);
}
