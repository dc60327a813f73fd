/* SSE4.2: comparison of short strings (SDM vol. 1, 14.11 and vol. 2, 4.1). */
#include "config.h"

#include "src/soft/sse-forms.h"

/* imm8 */
enum {
    WORDS = 1 << 0,
    SIGNED = 1 << 1,
    AGGREGATION = 3 << 2,
    ANY = 0 << 2,
    RANGES = 1 << 2,
    EACH = 2 << 2,
    ORDERED = 3 << 2,
    NEGATIVE = 1 << 4,
    VALID_ONLY = 1 << 5, /* NEGATIVE of valid elements alone */
    LAST = 1 << 6,       /* the index of the last; a mask of whole elements */
};

typedef struct Operands {
    X86Vec a, b;        /* destination, source */
    unsigned n, na, nb; /* elements there are, valid ones */
    unsigned imm;
} Operands;

static int element(const X86Vec *v, unsigned i, unsigned imm)
{
    if (imm & WORDS) {
        return imm & SIGNED ? v->i16[i] : v->u16[i];
    }
    return imm & SIGNED ? v->i8[i] : v->u8[i];
}

/* One comparison, with what the SDM says of elements behind the end. */
static bool matches(const Operands *o, unsigned i_a, unsigned i_b)
{
    const bool a_valid = i_a < o->na, b_valid = i_b < o->nb;
    const int a = element(&o->a, i_a, o->imm), b = element(&o->b, i_b, o->imm);
    switch (o->imm & AGGREGATION) {
    case ANY:
        return a_valid && b_valid && a == b;
    case RANGES:
        return a_valid && b_valid && (i_a & 1 ? a >= b : a <= b);
    case EACH:
        return a_valid && b_valid ? a == b : a_valid == b_valid;
    default: /* ORDERED: the needle may end anywhere */
        return !a_valid || (b_valid && a == b);
    }
}

static unsigned aggregate(const Operands *o)
{
    unsigned result = 0;
    for (unsigned i = 0; i < o->n; i++) {
        bool bit = false;
        switch (o->imm & AGGREGATION) {
        case ANY:
            for (unsigned k = 0; k < o->n; k++) {
                bit |= matches(o, k, i);
            }
            break;
        case RANGES:
            for (unsigned k = 0; k < o->n; k += 2) {
                bit |= matches(o, k, i) && matches(o, k + 1, i);
            }
            break;
        case EACH:
            bit = matches(o, i, i);
            break;
        default:
            bit = true;
            for (unsigned k = 0; i + k < o->n; k++) {
                bit &= matches(o, k, i + k);
            }
            break;
        }
        result |= (unsigned)bit << i;
    }
    if (o->imm & NEGATIVE) {
        result ^= o->imm & VALID_ONLY ? (1u << o->nb) - 1 : (1u << o->n) - 1;
    }
    return result;
}

/* Elements before the first zero. */
static unsigned implied_length(const X86Vec *v, unsigned n, unsigned imm)
{
    unsigned i = 0;
    while (i < n && element(v, i, imm) != 0) {
        i++;
    }
    return i;
}

/* EAX or EDX (RAX, RDX with REX.W): its magnitude, at most n. */
static unsigned explicit_length(const X86Cpu *c, const X86Insn *in, unsigned reg, unsigned n)
{
    const int64_t v = in->pfx & X86_PFX_REXW ? (int64_t)c->gpr[reg] : (int32_t)c->gpr[reg];
    const uint64_t magnitude = v < 0 ? -(uint64_t)v : (uint64_t)v;
    return magnitude < n ? (unsigned)magnitude : n;
}

/* The result's bits; flags are set. */
static unsigned compare(X86Cpu *c, const X86Insn *in, bool lengths, Operands *o)
{
    o->imm = (unsigned)in->imm;
    o->n = o->imm & WORDS ? 8 : 16;
    o->a = c->xmm[in->reg];
    /* The only 16-byte operands that need no alignment. */
    _mm_store_si128((__m128i *)&o->b,
                    sse_is_mem(in) ? sse_load_unaligned(c, in) : sse_get(c, in->rm));
    o->na =
        lengths ? explicit_length(c, in, PTA_X86_RAX, o->n) : implied_length(&o->a, o->n, o->imm);
    o->nb =
        lengths ? explicit_length(c, in, PTA_X86_RDX, o->n) : implied_length(&o->b, o->n, o->imm);
    const unsigned result = aggregate(o);
    x86_set_status(c, (result ? X86_CF : 0) | (o->nb < o->n ? X86_ZF : 0) |
                          (o->na < o->n ? X86_SF : 0) | (result & 1 ? X86_OF : 0));
    return result;
}

static void index_of(X86Cpu *c, const X86Insn *in, bool lengths)
{
    Operands o;
    const unsigned result = compare(c, in, lengths, &o);
    unsigned at = o.n;
    if (result) {
        at = o.imm & LAST ? 31u - (unsigned)__builtin_clz(result) : (unsigned)__builtin_ctz(result);
    }
    c->gpr[PTA_X86_RCX] = at;
}

static void mask_of(X86Cpu *c, const X86Insn *in, bool lengths)
{
    Operands o;
    X86Vec r = { 0 };
    const unsigned result = compare(c, in, lengths, &o);
    if (!(o.imm & LAST)) {
        r.u16[0] = (uint16_t)result;
    }
    for (unsigned i = 0; o.imm & LAST && i < o.n; i++) {
        if (o.imm & WORDS) {
            r.u16[i] = result >> i & 1 ? 0xffff : 0;
        } else {
            r.u8[i] = result >> i & 1 ? 0xff : 0;
        }
    }
    sse_set(c, 0, _mm_load_si128((const __m128i *)&r));
}

void op_pcmpistri(X86Cpu *c, const X86Insn *in)
{
    index_of(c, in, false);
}

void op_pcmpestri(X86Cpu *c, const X86Insn *in)
{
    index_of(c, in, true);
}

void op_pcmpistrm(X86Cpu *c, const X86Insn *in)
{
    mask_of(c, in, false);
}

void op_pcmpestrm(X86Cpu *c, const X86Insn *in)
{
    mask_of(c, in, true);
}
