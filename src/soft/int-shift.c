/* Shifts, rotates, and double shifts. Flags that the SDM leaves undefined are as Intel's cores
 * leave them where that is simple: AF clear after shifts, OF as for a count of 1. */
#include "config.h"

#include "src/soft/int.h"

enum { SHL, SHR, SAR, ROL, ROR };

/* n is masked and not 0; a is zero-extended. Returns the result with flags set. For counts beyond
 * the width (8 and 16 bits) the shifts go through 64 bits. */
X86_INLINE uint64_t shift(X86Cpu *c, unsigned op, unsigned width, uint64_t a, unsigned n,
                          bool flags)
{
    unsigned bits = width * 8;
    uint64_t r;
    bool cf, of;
    switch (op) {
    case SHL:
        r = a << n;
        cf = n <= bits && (a >> (bits - n) & 1);
        of = (r >> (bits - 1) & 1) != cf;
        break;
    case SHR:
        r = a >> n;
        cf = a >> (n - 1) & 1;
        of = a >> (bits - 1) & 1;
        break;
    default: {
        int64_t s = (int64_t)x86_sign_extend(a, width);
        r = (uint64_t)(s >> n);
        cf = s >> (n - 1) & 1;
        of = false;
        break;
    }
    }
    if (flags) {
        x86_flags_set(c, width, r, x86_carry_of(width, cf, of, false));
    }
    return r;
}

/* CF and OF change, the rest stays. */
static void set_cf_of(X86Cpu *c, bool cf, bool of)
{
    uint64_t status = x86_flags_pack(&c->flags) & ~(uint64_t)(X86_CF | X86_OF);
    x86_set_status(c, status | (cf ? X86_CF : 0) | (of ? X86_OF : 0));
}

X86_INLINE uint64_t rotate(X86Cpu *c, unsigned op, unsigned width, uint64_t a, unsigned count)
{
    unsigned bits = width * 8;
    unsigned n = count & (bits - 1);
    uint64_t r = a;
    if (n) {
        r = op == ROL ? a << n | a >> (bits - n) : a >> n | a << (bits - n);
    }
    bool top = r >> (bits - 1) & 1;
    if (op == ROL) {
        set_cf_of(c, r & 1, top != (r & 1));
    } else {
        set_cf_of(c, top, top != (r >> (bits - 2) & 1));
    }
    return r;
}

static unsigned shift_count(const X86Cpu *c, const X86Insn *in)
{
    uint64_t n = in->form == X86_F_E_R ? c->gpr[PTA_X86_RCX] : in->imm;
    return n & (in->width == 8 ? 63 : 31);
}

/* A count of 0 changes nothing, but the operand is accessed, and a register written (upper half). */
static void shift_generic(X86Cpu *c, const X86Insn *in, unsigned op)
{
    unsigned n = shift_count(c, in);
    uint64_t lin;
    uint64_t a = x86_e_load_rmw(c, in, in->width, &lin);
    if (n == 0) {
        x86_e_store_rmw(c, in, in->width, lin, a);
        return;
    }
    X86Flags before = c->flags;
    uint64_t r = op >= ROL ? rotate(c, op, in->width, a, n) : shift(c, op, in->width, a, n, true);
    X86Flags after = c->flags;
    c->flags = before; /* the store may fault */
    x86_e_store_rmw(c, in, in->width, lin, r);
    c->flags = after;
}

void op_shl(X86Cpu *c, const X86Insn *in)
{
    shift_generic(c, in, SHL);
}

void op_shr(X86Cpu *c, const X86Insn *in)
{
    shift_generic(c, in, SHR);
}

void op_sar(X86Cpu *c, const X86Insn *in)
{
    shift_generic(c, in, SAR);
}

void op_rol(X86Cpu *c, const X86Insn *in)
{
    shift_generic(c, in, ROL);
}

void op_ror(X86Cpu *c, const X86Insn *in)
{
    shift_generic(c, in, ROR);
}

/* Rotation through CF: by one bit at a time, at most 63 times. */
static void rotate_carry(X86Cpu *c, const X86Insn *in, bool left)
{
    unsigned bits = in->width * 8u;
    const unsigned count = shift_count(c, in); /* the destination may be CL itself */
    const unsigned n = bits < 32 ? count % (bits + 1) : count;
    uint64_t lin;
    uint64_t a = x86_e_load_rmw(c, in, in->width, &lin);
    bool cf = x86_cf(&c->flags);
    uint64_t r = a;
    for (unsigned i = 0; i < n; i++) {
        bool out = left ? r >> (bits - 1) & 1 : r & 1;
        r = left ? r << 1 | cf : r >> 1 | (uint64_t)cf << (bits - 1);
        cf = out;
    }
    x86_e_store_rmw(c, in, in->width, lin, r);
    if (count == 0) {
        return;
    }
    bool top = r >> (bits - 1) & 1;
    set_cf_of(c, cf, left ? top != cf : top != (r >> (bits - 2) & 1));
}

void op_rcl(X86Cpu *c, const X86Insn *in)
{
    rotate_carry(c, in, true);
}

void op_rcr(X86Cpu *c, const X86Insn *in)
{
    rotate_carry(c, in, false);
}

/* SHLD, SHRD. With 16 bits and counts beyond them (undefined) the operand is taken as a:b:a. */
static void shift_double(X86Cpu *c, const X86Insn *in, bool left)
{
    unsigned width = in->width, bits = width * 8;
    unsigned n = shift_count(c, in);
    uint64_t lin;
    uint64_t a = x86_e_load_rmw(c, in, width, &lin);
    uint64_t b = x86_reg(c, in->reg, width);
    if (n == 0) {
        x86_e_store_rmw(c, in, width, lin, a);
        return;
    }
    uint64_t r;
    bool cf;
    if (width == 2) {
        uint64_t all = left ? a << 32 | b << 16 | a : a << 32 | b << 16 | a;
        r = left ? all >> (32 - n) : all >> n;
        cf = left ? all >> (48 - n) & 1 : all >> (n - 1) & 1;
    } else {
        r = left ? a << n | b >> (bits - n) : a >> n | b << (bits - n);
        cf = left ? a >> (bits - n) & 1 : a >> (n - 1) & 1;
    }
    x86_e_store_rmw(c, in, width, lin, r);
    bool of = ((r ^ a) >> (bits - 1)) & 1;
    x86_flags_set(c, width, r, x86_carry_of(width, cf, of, false));
}

void op_shld(X86Cpu *c, const X86Insn *in)
{
    shift_double(c, in, true);
}

void op_shrd(X86Cpu *c, const X86Insn *in)
{
    shift_double(c, in, false);
}

/* ---- specialised: registers of 4 and 8 bytes; the immediate is masked and not 0 ---- */

#define SHIFT(name, op, w)                                                       \
    static void name##_i_f##w(X86Cpu *c, const X86Insn *in)                      \
    {                                                                            \
        unsigned n = in->imm & (w * 8 - 1);                                      \
        x86_put(c, in->rm, w, shift(c, op, w, x86_get(c, in->rm, w), n, true));  \
        X86_NEXT(c, in);                                                         \
    }                                                                            \
    static void name##_i_n##w(X86Cpu *c, const X86Insn *in)                      \
    {                                                                            \
        unsigned n = in->imm & (w * 8 - 1);                                      \
        x86_put(c, in->rm, w, shift(c, op, w, x86_get(c, in->rm, w), n, false)); \
        X86_NEXT(c, in);                                                         \
    }                                                                            \
    static void name##_c_f##w(X86Cpu *c, const X86Insn *in)                      \
    {                                                                            \
        unsigned n = c->gpr[PTA_X86_RCX] & (w * 8 - 1);                          \
        uint64_t a = x86_get(c, in->rm, w);                                      \
        x86_put(c, in->rm, w, n ? shift(c, op, w, a, n, true) : a);              \
        X86_NEXT(c, in);                                                         \
    }
#define ROTATE(name, op, w)                                                \
    static void name##_i##w(X86Cpu *c, const X86Insn *in)                  \
    {                                                                      \
        unsigned n = in->imm & (w * 8 - 1);                                \
        x86_put(c, in->rm, w, rotate(c, op, w, x86_get(c, in->rm, w), n)); \
        X86_NEXT(c, in);                                                   \
    }
#define SHIFT_OP(name, op) SHIFT(name, op, 4) SHIFT(name, op, 8)
SHIFT_OP(shl, SHL)
SHIFT_OP(shr, SHR)
SHIFT_OP(sar, SAR)
ROTATE(rol, ROL, 4)
ROTATE(rol, ROL, 8)
ROTATE(ror, ROR, 4)
ROTATE(ror, ROR, 8)

X86Handler *x86_select_shift(const X86Insn *in, const X86Select *s)
{
    if (x86_e_mem(in) || in->width < 4) {
        return NULL;
    }
    bool wide = in->width == 8;
    if (in->form == X86_F_E_I && (in->imm & (wide ? 63 : 31)) == 0) {
        return NULL;
    }
#define PICK(name)                                             \
    in->form == X86_F_E_R ? (wide ? name##_c_f8 : name##_c_f4) \
    : s->flags_dead       ? (wide ? name##_i_n8 : name##_i_n4) \
                          : (wide ? name##_i_f8 : name##_i_f4)
    switch (in->row) {
    case X86_ROW_SHL:
        return PICK(shl);
    case X86_ROW_SHR:
        return PICK(shr);
    case X86_ROW_SAR:
        return PICK(sar);
    case X86_ROW_ROL:
        return in->form == X86_F_E_R ? NULL : wide ? rol_i8 : rol_i4;
    default:
        return in->form == X86_F_E_R ? NULL : wide ? ror_i8 : ror_i4;
    }
}
