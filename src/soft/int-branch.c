/*
 * Near control transfer: JMP, CALL, RET, Jcc, LOOP, JrCXZ, BOUND, INTO. The generic handlers are
 * run with c->rip preset to the next instruction; the specialised ones (64-bit mode) go straight to
 * the next block, and CMP or TEST with the Jcc behind it is one step.
 */
#include "config.h"

#include "src/soft/int.h"

/* ---- any mode ---- */

static uint64_t truncate_target(const X86Insn *in, uint64_t target)
{
    return in->width == 2 ? (uint16_t)target : in->width == 4 ? (uint32_t)target : target;
}

static void jump(X86Cpu *c, const X86Insn *in, uint64_t target)
{
    target = truncate_target(in, target);
    x86_check_target(c, in, target);
    c->rip = target;
}

static uint64_t relative_target(const X86Cpu *c, const X86Insn *in)
{
    return x86_next_rip(c, in) + in->imm;
}

void op_jmp(X86Cpu *c, const X86Insn *in)
{
    jump(c, in, in->form == X86_F_E_I ? relative_target(c, in) : x86_e_load(c, in, in->width));
}

void op_jcc(X86Cpu *c, const X86Insn *in)
{
    if (x86_cond(&c->flags, in->opcode & 15)) {
        jump(c, in, relative_target(c, in));
    }
}

void op_call(X86Cpu *c, const X86Insn *in)
{
    uint64_t target = in->form == X86_F_E_I ? relative_target(c, in) : x86_e_load(c, in, in->width);
    target = truncate_target(in, target);
    x86_check_target(c, in, target);
    x86_push(c, in, in->width, x86_next_rip(c, in));
    c->rip = target;
}

void op_ret(X86Cpu *c, const X86Insn *in)
{
    uint64_t target = truncate_target(in, x86_stack_top(c, in, in->width));
    x86_check_target(c, in, target);
    x86_stack_add(c, in->width + (int64_t)(in->opcode == 0xc2 ? in->imm & 0xffff : 0));
    c->rip = target;
}

/* Width of the counter: the address size. */
static unsigned counter_width(const X86Cpu *c, const X86Insn *in)
{
    if (in->ea & X86_EA_A16) {
        return 2;
    }
    return (in->ea & X86_EA_A32) || (c->mode & X86_MODE_SIZE) != X86_MODE_64 ? 4 : 8;
}

void op_jcxz(X86Cpu *c, const X86Insn *in)
{
    if (x86_reg(c, PTA_X86_RCX * 8, counter_width(c, in)) == 0) {
        jump(c, in, relative_target(c, in));
    }
}

void op_loop(X86Cpu *c, const X86Insn *in)
{
    unsigned width = counter_width(c, in);
    uint64_t count = (x86_reg(c, PTA_X86_RCX * 8, width) - 1) & x86_width_mask(width);
    bool zf = x86_zf(&c->flags);
    bool taken = count != 0 && (in->opcode == 0xe2 || zf == (in->opcode == 0xe1));
    uint64_t target = truncate_target(in, relative_target(c, in));
    if (taken) {
        x86_check_target(c, in, target);
        c->rip = target;
    }
    x86_set_reg(c, PTA_X86_RCX * 8, width, count);
}

void op_bound(X86Cpu *c, const X86Insn *in)
{
    unsigned width = in->width;
    uint64_t lin = x86_ea(c, in, width * 2, X86_READ);
    int64_t low = (int64_t)x86_sign_extend(x86_load(c, in, lin, width), width);
    int64_t high = (int64_t)x86_sign_extend(x86_load(c, in, lin + width, width), width);
    int64_t i = (int64_t)x86_sign_extend(x86_reg(c, in->reg, width), width);
    if (i < low || i > high) {
        x86_raise(c, in, X86_BR, -1);
    }
}

void op_into(X86Cpu *c, const X86Insn *in)
{
    if (x86_of(&c->flags)) {
        x86_soft_int(c, in, X86_OFV);
    }
}

/* ---- specialised: 64-bit mode ---- */

static void jmp_near(X86Cpu *c, const X86Insn *in)
{
    X86_BRANCH_NEAR(c, in);
}

static void jmp_far(X86Cpu *c, const X86Insn *in)
{
    X86_BRANCH_FAR(c, in);
}

static void jmp_r(X86Cpu *c, const X86Insn *in)
{
    uint64_t target = X86_REG64(c, in->rm);
    x86_check_target(c, in, target);
    X86_BRANCH_TO(c, in, target);
}

static void jmp_m(X86Cpu *c, const X86Insn *in)
{
    uint64_t target = x86_load64(c, in, x86_ea(c, in, 8, X86_READ));
    x86_check_target(c, in, target);
    X86_BRANCH_TO(c, in, target);
}

X86_INLINE void push_return(X86Cpu *c, const X86Insn *in)
{
    uint64_t sp = c->gpr[PTA_X86_RSP] - 8;
    x86_store64(c, in, sp, x86_next_rip(c, in));
    c->gpr[PTA_X86_RSP] = sp;
}

/*
 * The push may hit a code page, even this block: then all its links are dead, but `aux` of a dead
 * instruction still leads to a dead or live block, which is safe.
 */
static void call_near(X86Cpu *c, const X86Insn *in)
{
    push_return(c, in);
    X86_BRANCH_NEAR(c, in);
}

static void call_far(X86Cpu *c, const X86Insn *in)
{
    push_return(c, in);
    X86_BRANCH_FAR(c, in);
}

static void call_r(X86Cpu *c, const X86Insn *in)
{
    uint64_t target = X86_REG64(c, in->rm);
    x86_check_target(c, in, target);
    push_return(c, in);
    X86_BRANCH_TO(c, in, target);
}

static void call_m(X86Cpu *c, const X86Insn *in)
{
    uint64_t target = x86_load64(c, in, x86_ea(c, in, 8, X86_READ));
    x86_check_target(c, in, target);
    push_return(c, in);
    X86_BRANCH_TO(c, in, target);
}

static void ret_near(X86Cpu *c, const X86Insn *in)
{
    uint64_t sp = c->gpr[PTA_X86_RSP];
    uint64_t target = x86_load64(c, in, sp);
    if (G_UNLIKELY((int64_t)(target << 16) >> 16 != (int64_t)target)) {
        x86_raise_gp(c, in, 0);
    }
    c->gpr[PTA_X86_RSP] = sp + 8;
    X86_BRANCH_TO(c, in, target);
}

static void ret_imm(X86Cpu *c, const X86Insn *in)
{
    uint64_t sp = c->gpr[PTA_X86_RSP];
    uint64_t target = x86_load64(c, in, sp);
    x86_check_target(c, in, target);
    c->gpr[PTA_X86_RSP] = sp + 8 + (in->imm & 0xffff);
    X86_BRANCH_TO(c, in, target);
}

#define JCC(n)                                             \
    static void jcc_near_##n(X86Cpu *c, const X86Insn *in) \
    {                                                      \
        if (x86_cond(&c->flags, n)) {                      \
            X86_BRANCH_NEAR(c, in);                        \
        }                                                  \
        X86_NEXT(c, in);                                   \
    }                                                      \
    static void jcc_far_##n(X86Cpu *c, const X86Insn *in)  \
    {                                                      \
        if (x86_cond(&c->flags, n)) {                      \
            X86_BRANCH_FAR(c, in);                         \
        }                                                  \
        X86_NEXT(c, in);                                   \
    }
JCC(0)
JCC(1)
JCC(2)
JCC(3)
JCC(4)
JCC(5)
JCC(6)
JCC(7)
JCC(8)
JCC(9)
JCC(10)
JCC(11)
JCC(12)
JCC(13)
JCC(14)
JCC(15)
#define ALL(name)                                                                                 \
    {                                                                                             \
        name##_0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8, \
            name##_9, name##_10, name##_11, name##_12, name##_13, name##_14, name##_15,           \
    }

/* ---- CMP or TEST with the Jcc behind it ---- */

/* The condition from the operands themselves, of type `width`; b is sign- or zero-extended. */
X86_INLINE bool compare_cond(unsigned cc, unsigned width, uint64_t a, uint64_t b)
{
    uint64_t mask = UINT64_MAX >> (64 - width * 8);
    uint64_t ua = a & mask, ub = b & mask;
    int64_t sa = (int64_t)x86_sign_extend(a, width), sb = (int64_t)x86_sign_extend(b, width);
    bool r;
    switch (cc >> 1) {
    case 1:
        r = ua < ub;
        break;
    case 2:
        r = ua == ub;
        break;
    case 3:
        r = ua <= ub;
        break;
    case 4:
        r = ((ua - ub) >> (width * 8 - 1) & 1) != 0;
        break;
    case 6:
        r = sa < sb;
        break;
    default:
        r = sa <= sb;
        break;
    }
    return r != (cc & 1);
}

X86_INLINE bool test_cond(unsigned cc, unsigned width, uint64_t v)
{
    int64_t s = (int64_t)x86_sign_extend(v, width);
    bool r;
    switch (cc >> 1) {
    case 2:
    case 3: /* CF is 0 */
        r = s == 0;
        break;
    case 7: /* OF is 0 */
        r = s <= 0;
        break;
    case 4:
    case 6:
        r = s < 0;
        break;
    default:
        r = false;
        break;
    }
    return r != (cc & 1);
}

enum { RR, RI, RM, MI, MR };

/* 1 taken, 0 not, -1: the slow way. Leaves the flags of the comparison. */
X86_INLINE int fused(X86Cpu *c, const X86Insn *in, bool test, unsigned cc, unsigned width,
                     unsigned form)
{
    uint64_t a, b;
    if (form == RR || form == RI) {
        a = x86_get(c, in->rm, width);
        b = form == RR ? x86_get(c, in->reg, width) : in->imm;
    } else {
        const void *p = x86_tlb_lookup(c->tlb->read, x86_ea_fast(c, in, X86_EAK_ANY), width);
        if (G_UNLIKELY(!p)) {
            return -1;
        }
        uint64_t m = x86_peek(p, width);
        a = form == RM ? x86_get(c, in->reg, width) : m;
        b = form == RM ? m : form == MI ? in->imm : x86_get(c, in->reg, width);
    }
    if (test) {
        uint64_t r = a & b;
        x86_flags_set(c, width, r, 0);
        return test_cond(cc, width, r);
    }
    uint64_t r = a - b;
    x86_flags_set(c, width, r, x86_carry_sub(a, b, r));
    return compare_cond(cc, width, a, b);
}

#define FUSED(name, test, slow, cc, w, form, branch) \
    static void name(X86Cpu *c, const X86Insn *in)   \
    {                                                \
        int taken = fused(c, in, test, cc, w, form); \
        in++;                                        \
        if (taken > 0) {                             \
            branch(c, in);                           \
        }                                            \
        if (form >= RM && G_UNLIKELY(taken < 0)) {   \
            slow(c, in - 1);                         \
            X86_GO(c, in);                           \
        }                                            \
        X86_NEXT(c, in);                             \
    }
#define FUSED_FORM(prefix, test, slow, cc, w, form)                                 \
    FUSED(prefix##_near_##form##w##_##cc, test, slow, cc, w, form, X86_BRANCH_NEAR) \
    FUSED(prefix##_far_##form##w##_##cc, test, slow, cc, w, form, X86_BRANCH_FAR)
#define FUSED_CMP(cc, w)                      \
    FUSED_FORM(cmp, false, op_cmp, cc, w, RR) \
    FUSED_FORM(cmp, false, op_cmp, cc, w, RI) \
    FUSED_FORM(cmp, false, op_cmp, cc, w, RM) \
    FUSED_FORM(cmp, false, op_cmp, cc, w, MI) \
    FUSED_FORM(cmp, false, op_cmp, cc, w, MR)
#define FUSED_TEST(cc, w)                      \
    FUSED_FORM(test, true, op_test, cc, w, RR) \
    FUSED_FORM(test, true, op_test, cc, w, RI) \
    FUSED_FORM(test, true, op_test, cc, w, MI)
#define FUSED_CMPS(cc)  FUSED_CMP(cc, 1) FUSED_CMP(cc, 4) FUSED_CMP(cc, 8)
#define FUSED_TESTS(cc) FUSED_TEST(cc, 1) FUSED_TEST(cc, 4) FUSED_TEST(cc, 8)

/* The conditions that compilers emit: no O, no P; after TEST no B. */
FUSED_CMPS(2)
FUSED_CMPS(3)
FUSED_CMPS(4)
FUSED_CMPS(5)
FUSED_CMPS(6)
FUSED_CMPS(7)
FUSED_CMPS(8)
FUSED_CMPS(9)
FUSED_CMPS(12)
FUSED_CMPS(13)
FUSED_CMPS(14)
FUSED_CMPS(15)
FUSED_TESTS(4)
FUSED_TESTS(5)
FUSED_TESTS(6)
FUSED_TESTS(7)
FUSED_TESTS(8)
FUSED_TESTS(9)
FUSED_TESTS(12)
FUSED_TESTS(13)
FUSED_TESTS(14)
FUSED_TESTS(15)

#define ENTRY(prefix, form, cc)                                            \
    {                                                                      \
        { prefix##_far_##form##1_##cc, prefix##_near_##form##1_##cc },     \
            { prefix##_far_##form##4_##cc, prefix##_near_##form##4_##cc }, \
            { prefix##_far_##form##8_##cc, prefix##_near_##form##8_##cc }, \
    }
#define CMP_ENTRY(cc)                   \
    [cc] = { [RR] = ENTRY(cmp, RR, cc), \
             [RI] = ENTRY(cmp, RI, cc), \
             [RM] = ENTRY(cmp, RM, cc), \
             [MI] = ENTRY(cmp, MI, cc), \
             [MR] = ENTRY(cmp, MR, cc) }
#define TEST_ENTRY(cc) \
    [cc] = { [RR] = ENTRY(test, RR, cc), [RI] = ENTRY(test, RI, cc), [MI] = ENTRY(test, MI, cc) }

/* [condition][form][width: 1, 4, 8][near] */
static X86Handler *const cmp_table[16][5][3][2] = {
    CMP_ENTRY(2), CMP_ENTRY(3), CMP_ENTRY(4),  CMP_ENTRY(5),  CMP_ENTRY(6),  CMP_ENTRY(7),
    CMP_ENTRY(8), CMP_ENTRY(9), CMP_ENTRY(12), CMP_ENTRY(13), CMP_ENTRY(14), CMP_ENTRY(15),
};
static X86Handler *const test_table[16][5][3][2] = {
    TEST_ENTRY(4), TEST_ENTRY(5),  TEST_ENTRY(6),  TEST_ENTRY(7),  TEST_ENTRY(8),
    TEST_ENTRY(9), TEST_ENTRY(12), TEST_ENTRY(13), TEST_ENTRY(14), TEST_ENTRY(15),
};

X86Handler *x86_select_fused(const X86Insn *in, bool near)
{
    bool test = in->row == X86_ROW_TEST;
    bool mem = x86_e_mem(in);
    if ((in->row != X86_ROW_CMP && !test) || x86_rows[in[1].row].handler != op_jcc ||
        in->width == 2 || (mem && (in->ea & X86_EA_SLOW))) {
        return NULL;
    }
    unsigned form = in->form == X86_F_R_E   ? RM
                    : in->form == X86_F_E_R ? (mem ? MR : RR)
                                            : (mem ? MI : RI);
    unsigned width = in->width == 1 ? 0 : in->width == 4 ? 1 : 2;
    return (test ? test_table : cmp_table)[in[1].opcode & 15][form][width][near];
}

X86Handler *x86_select_branch(const X86Insn *in, const X86Select *s)
{
    static X86Handler *const near_jcc[16] = ALL(jcc_near), *const far_jcc[16] = ALL(jcc_far);
    if (!s->wide) {
        return NULL;
    }
    bool relative = in->form == X86_F_E_I, mem = x86_e_mem(in);
    switch (in->row) {
    case X86_ROW_JMP:
        return relative ? (s->near ? jmp_near : jmp_far) : mem ? jmp_m : jmp_r;
    case X86_ROW_CALL:
        return relative ? (s->near ? call_near : call_far) : mem ? call_m : call_r;
    case X86_ROW_RET:
        return in->opcode == 0xc2 ? ret_imm : ret_near;
    default:
        return s->near ? near_jcc[in->opcode & 15] : far_jcc[in->opcode & 15];
    }
}
