/*
 * The same code natively and in the software CPU: flags of 8-bit operations exhaustively, and
 * random sequences of integer instructions, which reach what single instructions do not: flags that
 * nobody makes because nobody looks, comparisons that are one step with their branch, links.
 */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "src/soft/engine.h"
#include "tests/cpu/cpu-harness.h"

#define RAM      (8 * PTA_MIB)
#define SCRATCH  4096
#define N_REGS   16
#define R_STACK  4
#define R_INDEX  14
#define R_BUFFER 15

static CpuHarness *h;
static uint8_t *native_code;

/* ---- code ---- */

typedef struct Code {
    uint8_t bytes[4096];
    unsigned n;
} Code;

static void emit(Code *c, const void *bytes, unsigned n)
{
    g_assert(c->n + n <= sizeof(c->bytes));
    memcpy(c->bytes + c->n, bytes, n);
    c->n += n;
}

#define EMIT(c, ...)                              \
    do {                                          \
        const uint8_t bytes_[] = { __VA_ARGS__ }; \
        emit((c), bytes_, sizeof(bytes_));        \
    } while (0)

typedef void NativeCode(void *argument);

/* code ends in RET; argument goes to RDI. */
static void run_native(const Code *c, void *argument)
{
    memcpy(native_code, c->bytes, c->n);
    ((NativeCode *)(uintptr_t)native_code)(argument);
}

static void run_soft(const Code *c, uint64_t argument)
{
    cpu_harness_reset(h);
    cpu_harness_code(h, 0, c->bytes, c->n);
    uint64_t back = CPU_CODE + c->n; /* the OUT behind it */
    memcpy(h->ram + CPU_STACK - 8, &back, 8);
    h->c->gpr[PTA_X86_RSP] = CPU_STACK - 8;
    h->c->gpr[PTA_X86_RDI] = argument;
    assert_int_equal(cpu_harness_run(h), CPU_END);
}

/* ---- 8 bits, exhaustively ---- */

typedef struct Op8 {
    const char *name;
    uint8_t bytes[4]; /* AL (AX) op= BL; the count is in CL = BL */
    uint8_t n;
    uint16_t undefined;
} Op8;

#define UNDEF_SHIFT (X86_AF | X86_OF) /* OF: for a count of 1 there are the sequences */
static const Op8 ops8[] = {
    { "add", { 0x00, 0xd8 }, 2, 0 },
    { "or", { 0x08, 0xd8 }, 2, X86_AF },
    { "adc", { 0x10, 0xd8 }, 2, 0 },
    { "sbb", { 0x18, 0xd8 }, 2, 0 },
    { "and", { 0x20, 0xd8 }, 2, X86_AF },
    { "sub", { 0x28, 0xd8 }, 2, 0 },
    { "xor", { 0x30, 0xd8 }, 2, X86_AF },
    { "cmp", { 0x38, 0xd8 }, 2, 0 },
    { "test", { 0x84, 0xd8 }, 2, X86_AF },
    { "inc", { 0xfe, 0xc0 }, 2, 0 },
    { "dec", { 0xfe, 0xc8 }, 2, 0 },
    { "neg", { 0xf6, 0xd8 }, 2, 0 },
    { "not", { 0xf6, 0xd0 }, 2, 0 },
    { "mul", { 0xf6, 0xe3 }, 2, X86_SF | X86_ZF | X86_AF | X86_PF },
    { "imul", { 0xf6, 0xeb }, 2, X86_SF | X86_ZF | X86_AF | X86_PF },
    { "xadd", { 0x0f, 0xc0, 0xd8 }, 3, 0 },
    { "cmpxchg", { 0x0f, 0xb0, 0xcb }, 3, 0 },
    { "shl", { 0xd2, 0xe0 }, 2, UNDEF_SHIFT | X86_CF }, /* CF: undefined beyond 8 */
    { "shr", { 0xd2, 0xe8 }, 2, UNDEF_SHIFT | X86_CF },
    { "sar", { 0xd2, 0xf8 }, 2, UNDEF_SHIFT },
    { "rol", { 0xd2, 0xc0 }, 2, X86_OF },
    { "ror", { 0xd2, 0xc8 }, 2, X86_OF },
    { "rcl", { 0xd2, 0xd0 }, 2, X86_OF },
    { "rcr", { 0xd2, 0xd8 }, 2, X86_OF },
    { "shl 1", { 0xd0, 0xe0 }, 2, X86_AF },
    { "shr 1", { 0xd0, 0xe8 }, 2, X86_AF },
    { "sar 1", { 0xd0, 0xf8 }, 2, X86_AF },
    { "rol 1", { 0xd0, 0xc0 }, 2, 0 },
    { "ror 1", { 0xd0, 0xc8 }, 2, 0 },
    { "rcl 1", { 0xd0, 0xd0 }, 2, 0 },
    { "rcr 1", { 0xd0, 0xd8 }, 2, 0 },
};

#define N8 0x20000 /* a, b, and all flags clear or set */

static void flags_of_8_bits(void **state)
{
    uint32_t *native = g_new0(uint32_t, N8);
    for (unsigned i = 0; i < G_N_ELEMENTS(ops8); i++) {
        const Op8 *op = &ops8[i];
        Code c = { .n = 0 };
        EMIT(&c, 0x53);             /* push rbx */
        EMIT(&c, 0x45, 0x31, 0xc0); /* xor r8d, r8d */
        unsigned loop = c.n;
        EMIT(&c, 0x44, 0x89, 0xc2);             /* mov edx, r8d */
        EMIT(&c, 0xc1, 0xea, 0x10);             /* shr edx, 16 */
        EMIT(&c, 0xf7, 0xda);                   /* neg edx */
        EMIT(&c, 0x81, 0xe2, 0xd5, 0x08, 0, 0); /* and edx, the status flags */
        EMIT(&c, 0x41, 0x0f, 0xb6, 0xc0);       /* movzx eax, r8b */
        EMIT(&c, 0x44, 0x89, 0xc3);             /* mov ebx, r8d */
        EMIT(&c, 0xc1, 0xeb, 0x08);             /* shr ebx, 8 */
        EMIT(&c, 0x0f, 0xb6, 0xdb);             /* movzx ebx, bl */
        EMIT(&c, 0x89, 0xd9);                   /* mov ecx, ebx */
        EMIT(&c, 0x52, 0x9d);                   /* push rdx; popf */
        emit(&c, op->bytes, op->n);
        EMIT(&c, 0x9c, 0x5a);                   /* pushf; pop rdx */
        EMIT(&c, 0x66, 0x89, 0x07);             /* mov [rdi], ax */
        EMIT(&c, 0x66, 0x89, 0x57, 0x02);       /* mov [rdi + 2], dx */
        EMIT(&c, 0x48, 0x83, 0xc7, 0x04);       /* add rdi, 4 */
        EMIT(&c, 0x41, 0xff, 0xc0);             /* inc r8d */
        EMIT(&c, 0x41, 0x81, 0xf8, 0, 0, 2, 0); /* cmp r8d, N8 */
        EMIT(&c, 0x75, (uint8_t)(loop - (c.n + 2)));
        EMIT(&c, 0x5b, 0xc3); /* pop rbx; ret */
        run_native(&c, native);
        run_soft(&c, CPU_DATA);
        const uint32_t *soft = (const uint32_t *)(void *)(h->ram + CPU_DATA);
        uint32_t mask = 0xffff | (uint32_t)(X86_STATUS & ~op->undefined) << 16;
        for (unsigned k = 0; k < N8; k++) {
            if ((native[k] ^ soft[k]) & mask) {
                fail_msg("%s a=%02x b=%02x flags=%u: %08x, not %08x", op->name, k & 0xff,
                         k >> 8 & 0xff, k >> 16, soft[k], native[k]);
            }
        }
    }
    g_free(native);
}

/* ---- random sequences ---- */

typedef struct Regs {
    uint64_t gpr[N_REGS];
    uint64_t flags;
    uint8_t scratch[SCRATCH];
} Regs;

static uint64_t random_state;

static uint64_t rnd(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static unsigned below(unsigned n)
{
    return (unsigned)(rnd() >> 20) % n;
}

static uint64_t interesting(void)
{
    static const uint64_t values[] = {
        0,
        1,
        UINT64_MAX,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        UINT64_C(0x7fffffffffffffff),
        UINT64_C(0x8000000000000000),
    };
    return below(3) ? rnd() : values[below(G_N_ELEMENTS(values))];
}

static unsigned any_reg(void)
{
    unsigned r;
    do {
        r = below(14);
    } while (r == R_STACK);
    return r;
}

typedef struct Gen {
    Code code;
    unsigned defined; /* flags that the SDM defines at this point */
} Gen;

/* Prefixes and REX for an operand size; a byte operand gets a REX so that 4-7 are SPL… */
static void prefix(Gen *g, unsigned width, unsigned reg, unsigned index, unsigned rm)
{
    if (width == 2) {
        EMIT(&g->code, 0x66);
    }
    unsigned rex = 0x40 | (width == 8 ? 8 : 0) | (reg >> 3) << 2 | (index >> 3) << 1 | rm >> 3;
    if (rex != 0x40 || width == 1) {
        EMIT(&g->code, (uint8_t)rex);
    }
}

/* ModRM for a register, or memory in the scratch buffer (with or without index). */
static bool modrm(Gen *g, unsigned width, const uint8_t *opcode, unsigned n, unsigned reg,
                  bool allow_mem, unsigned imm_bytes)
{
    unsigned kind = allow_mem ? below(4) : 0;
    if (kind < 2) {
        unsigned rm = any_reg();
        prefix(g, width, reg, 0, rm);
        emit(&g->code, opcode, n);
        EMIT(&g->code, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
        return false;
    }
    uint8_t disp = (uint8_t)below(128);
    prefix(g, width, reg, kind == 3 ? R_INDEX : 0, R_BUFFER);
    emit(&g->code, opcode, n);
    if (kind == 2) {
        EMIT(&g->code, (uint8_t)(0x40 | (reg & 7) << 3 | (R_BUFFER & 7)), disp);
    } else {
        EMIT(&g->code, (uint8_t)(0x44 | (reg & 7) << 3),
             (uint8_t)(below(4) << 6 | (R_INDEX & 7) << 3 | (R_BUFFER & 7)), disp);
    }
    (void)imm_bytes;
    return true;
}

static void imm(Gen *g, unsigned bytes)
{
    uint64_t v = interesting();
    emit(&g->code, &v, bytes);
}

static unsigned cond_flags(unsigned cc)
{
    static const unsigned needs[8] = { X86_OF, X86_CF, X86_ZF,          X86_CF | X86_ZF,
                                       X86_SF, X86_PF, X86_SF | X86_OF, X86_SF | X86_OF | X86_ZF };
    return needs[cc >> 1];
}

/* A condition on defined flags only, or -1. */
static int condition(const Gen *g)
{
    for (unsigned i = 0; i < 20; i++) {
        unsigned cc = below(16);
        if ((cond_flags(cc) & ~g->defined) == 0) {
            return (int)cc;
        }
    }
    return -1;
}

static unsigned any_width(void)
{
    static const unsigned widths[] = { 1, 2, 4, 4, 4, 8, 8, 8 };
    return widths[below(8)];
}

static void gen_alu(Gen *g)
{
    unsigned width = any_width(), op;
    do {
        op = below(8);
    } while ((op == 2 || op == 3) && !(g->defined & X86_CF));
    unsigned form = below(5);
    uint8_t byte = width == 1 ? 0 : 1;
    if (form < 2) {
        uint8_t opcode = (uint8_t)(op << 3 | (form == 1 ? 2 : 0) | byte);
        modrm(g, width, &opcode, 1, any_reg(), true, 0);
    } else if (form == 2) {
        uint8_t opcode = 0x84 | byte; /* TEST */
        modrm(g, width, &opcode, 1, any_reg(), true, 0);
        op = 1;
    } else {
        bool small = width == 1 || below(2);
        uint8_t opcode = width == 1 ? 0x80 : small ? 0x83 : 0x81;
        modrm(g, width, &opcode, 1, op, true, 0);
        imm(g, small ? 1 : width == 2 ? 2 : 4);
    }
    bool logic = op == 1 || op == 4 || op == 6;
    g->defined = X86_STATUS & ~(logic ? X86_AF : 0u);
}

static void gen_unary(Gen *g)
{
    static const uint8_t table[4][2] = { { 0xfe, 0 }, { 0xfe, 1 }, { 0xf6, 2 }, { 0xf6, 3 } };
    unsigned which = below(4), width = any_width();
    uint8_t opcode = table[which][0] | (width == 1 ? 0 : 1);
    modrm(g, width, &opcode, 1, table[which][1], true, 0);
    if (which < 2) {
        g->defined |= X86_STATUS & ~X86_CF;
    } else if (which == 3) {
        g->defined = X86_STATUS;
    }
}

static void gen_shift(Gen *g)
{
    static const uint8_t ops[] = { 0, 1, 2, 3, 4, 5, 7 };
    unsigned width = any_width(), op = ops[below(7)];
    if ((op == 2 || op == 3) && !(g->defined & X86_CF)) {
        op = 0;
    }
    unsigned form = below(3);
    uint8_t opcode = (uint8_t)((form == 0 ? 0xc0 : form == 1 ? 0xd0 : 0xd2) | (width == 1 ? 0 : 1));
    modrm(g, width, &opcode, 1, op, true, 1);
    unsigned n = 1;
    if (form == 0) {
        n = 1 + below(width * 8 - 1);
        EMIT(&g->code, (uint8_t)n);
    }
    if (op < 4) { /* rotates: CF, and OF for a count of 1 */
        unsigned set = form == 2 ? 0 : X86_CF | (n == 1 ? X86_OF : 0u);
        g->defined = (g->defined & ~(X86_OF | (form == 2 ? 0u : 0u))) | set;
    } else if (form == 2) { /* perhaps by 0; beyond the width CF is undefined */
        g->defined &= ~(X86_AF | X86_OF | (width < 4 ? X86_CF : 0u));
    } else {
        g->defined = X86_STATUS & ~(X86_AF | (n == 1 ? 0u : X86_OF));
    }
}

static void gen_multiply(Gen *g)
{
    unsigned width = any_width();
    if (width == 1) {
        width = 4;
    }
    switch (below(3)) {
    case 0:
        modrm(g, width, (const uint8_t[]){ 0x0f, 0xaf }, 2, any_reg(), true, 0);
        break;
    case 1:
        modrm(g, width, (const uint8_t[]){ 0x69 }, 1, any_reg(), true, 0);
        imm(g, width == 2 ? 2 : 4);
        break;
    default: /* MUL, IMUL */
        modrm(g, width, (const uint8_t[]){ 0xf7 }, 1, 4 + below(2), true, 0);
        break;
    }
    g->defined = X86_CF | X86_OF;
}

static void gen_move(Gen *g)
{
    unsigned width = any_width();
    uint8_t opcode[2] = { 0x0f, 0 };
    switch (below(7)) {
    case 0:
    case 1:
        opcode[0] = (uint8_t)(0x88 | (width == 1 ? 0 : 1) | (below(2) ? 2 : 0));
        modrm(g, width, opcode, 1, any_reg(), true, 0);
        break;
    case 2: /* MOVZX, MOVSX */
        opcode[1] = (uint8_t)(0xb6 | below(2) | (below(2) ? 8 : 0));
        modrm(g, width == 1 ? 4 : width, opcode, 2, any_reg(), true, 0);
        break;
    case 3: /* LEA with all of it */
        width = below(2) ? 8 : 4;
        unsigned reg = any_reg(), base = any_reg(), index = any_reg();
        prefix(g, width, reg, index, base);
        EMIT(&g->code, 0x8d, (uint8_t)(0x44 | (reg & 7) << 3),
             (uint8_t)(below(4) << 6 | (index & 7) << 3 | (base & 7)), (uint8_t)rnd());
        break;
    case 4: /* MOVSXD, CDQE and so on */
        if (below(2)) {
            modrm(g, 8, (const uint8_t[]){ 0x63 }, 1, any_reg(), true, 0);
        } else {
            prefix(g, below(2) ? 8 : 4, 0, 0, 0);
            EMIT(&g->code, (uint8_t)(0x98 | below(2)));
        }
        break;
    case 5: /* MOV r, imm */
        opcode[0] = width == 1 ? 0xc6 : 0xc7;
        modrm(g, width, opcode, 1, 0, true, 0);
        imm(g, width == 8 ? 4 : width);
        break;
    default: /* BSWAP, XCHG */
        if (below(2)) {
            unsigned r = any_reg();
            prefix(g, 8, 0, 0, r);
            EMIT(&g->code, 0x0f, (uint8_t)(0xc8 | (r & 7)));
        } else {
            opcode[0] = width == 1 ? 0x86 : 0x87;
            modrm(g, width, opcode, 1, any_reg(), true, 0);
        }
        break;
    }
}

static void gen_condition(Gen *g)
{
    int cc = condition(g);
    if (cc < 0) {
        return;
    }
    uint8_t opcode[2] = { 0x0f, (uint8_t)(0x90 | cc) };
    if (below(2)) {
        modrm(g, 1, opcode, 2, 0, true, 0);
    } else {
        opcode[1] = (uint8_t)(0x40 | cc);
        static const unsigned widths[] = { 2, 4, 8 };
        modrm(g, widths[below(3)], opcode, 2, any_reg(), true, 0);
    }
}

static void gen_bits(Gen *g)
{
    uint8_t opcode[2] = { 0x0f, 0xba };
    static const unsigned widths[] = { 2, 4, 8 };
    unsigned width = widths[below(3)];
    switch (below(4)) {
    case 0: /* BT* by an immediate, memory too */
        modrm(g, width, opcode, 2, 4 + below(4), true, 1);
        imm(g, 1);
        g->defined = (g->defined & X86_ZF) | X86_CF;
        break;
    case 1:
        opcode[1] = (uint8_t)(0xa3 | below(4) << 3);
        modrm(g, width, opcode, 2, any_reg(), false, 0);
        g->defined = (g->defined & X86_ZF) | X86_CF;
        break;
    case 2: /* SHLD, SHRD */
        opcode[1] = below(2) ? 0xa4 : 0xac;
        width = below(2) ? 4 : 8;
        modrm(g, width, opcode, 2, any_reg(), true, 1);
        unsigned n = 1 + below(width * 8 - 1);
        EMIT(&g->code, (uint8_t)n);
        g->defined = X86_STATUS & ~(X86_AF | (n == 1 ? 0u : X86_OF));
        break;
    default: /* CLC, STC, CMC, LAHF */
        if (g->defined & X86_CF) {
            EMIT(&g->code, 0xf5);
        } else {
            EMIT(&g->code, (uint8_t)(0xf8 | below(2)));
            g->defined |= X86_CF;
        }
        break;
    }
}

static void gen_one(Gen *g, unsigned depth);

static void gen_skip(Gen *g, unsigned depth)
{
    int cc = condition(g);
    if (cc < 0 || depth > 3) {
        return;
    }
    Gen inner = { .defined = g->defined };
    unsigned n = 1 + below(3);
    for (unsigned i = 0; i < n; i++) {
        gen_one(&inner, depth + 1);
    }
    if (inner.code.n > 127) {
        return;
    }
    EMIT(&g->code, (uint8_t)(0x70 | cc), (uint8_t)inner.code.n);
    emit(&g->code, inner.code.bytes, inner.code.n);
    g->defined &= inner.defined;
}

static void gen_one(Gen *g, unsigned depth)
{
    switch (below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        gen_alu(g);
        break;
    case 5:
        gen_unary(g);
        break;
    case 6:
    case 7:
        gen_shift(g);
        break;
    case 8:
        gen_multiply(g);
        break;
    case 9:
        gen_bits(g);
        break;
    case 10:
        gen_condition(g);
        break;
    case 11: { /* PUSH, POP */
        unsigned a = any_reg(), b = any_reg();
        prefix(g, 4, 0, 0, a);
        EMIT(&g->code, (uint8_t)(0x50 | (a & 7)));
        gen_move(g);
        prefix(g, 4, 0, 0, b);
        EMIT(&g->code, (uint8_t)(0x58 | (b & 7)));
        break;
    }
    case 12:
    case 13:
        gen_alu(g);
        gen_skip(g, depth);
        break;
    default:
        gen_move(g);
        break;
    }
}

/* mov r, [rdi + 8 * r] for all but RSP (RDI last), flags; and the way back through a pushed RDI. */
static void prologue(Code *c)
{
    EMIT(c, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x57);
    EMIT(c, 0xff, 0xb7, 0x80, 0, 0, 0, 0x9d); /* push [rdi + 128]; popf */
    for (unsigned i = 0; i < N_REGS; i++) {
        unsigned r = i == N_REGS - 1 ? 7 : i < 7 ? i : i + 1;
        if (r != R_STACK) {
            EMIT(c, (uint8_t)(0x48 | (r >> 3) << 2), 0x8b, (uint8_t)(0x47 | (r & 7) << 3),
                 (uint8_t)(r * 8));
        }
    }
}

static void epilogue(Code *c)
{
    EMIT(c, 0x9c, 0x57);                   /* pushf; push rdi */
    EMIT(c, 0x48, 0x8b, 0x7c, 0x24, 0x10); /* mov rdi, [rsp + 16] */
    for (unsigned r = 0; r < N_REGS; r++) {
        if (r != R_STACK && r != 7) {
            EMIT(c, (uint8_t)(0x48 | (r >> 3) << 2), 0x89, (uint8_t)(0x47 | (r & 7) << 3),
                 (uint8_t)(r * 8));
        }
    }
    EMIT(c, 0x58, 0x48, 0x89, 0x47, 0x38);          /* pop rax; mov [rdi + 56], rax */
    EMIT(c, 0x58, 0x48, 0x89, 0x87, 0x80, 0, 0, 0); /* pop rax; mov [rdi + 128], rax */
    EMIT(c, 0x5f, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
}

static void show(const Code *c)
{
    GString *s = g_string_new(NULL);
    for (unsigned i = 0; i < c->n; i++) {
        g_string_append_printf(s, "%02x", c->bytes[i]);
    }
    print_message("# code: %s\n", s->str);
    g_string_free(s, TRUE);
}

static void one_sequence(unsigned seed)
{
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    Regs native = { .flags = 2 | (rnd() & X86_STATUS) }, soft;
    for (unsigned i = 0; i < N_REGS; i++) {
        native.gpr[i] = interesting();
    }
    for (unsigned i = 0; i < SCRATCH; i++) {
        native.scratch[i] = (uint8_t)rnd();
    }
    native.gpr[R_STACK] = 0;
    native.gpr[R_INDEX] = below(300);
    soft = native;
    native.gpr[R_BUFFER] = (uintptr_t)native.scratch;
    soft.gpr[R_BUFFER] = CPU_DATA + offsetof(Regs, scratch);

    Gen g = { .defined = X86_STATUS };
    prologue(&g.code);
    unsigned n = 4 + below(40);
    for (unsigned i = 0; i < n; i++) {
        gen_one(&g, 0);
    }
    epilogue(&g.code);

    memcpy(h->ram + CPU_DATA, &soft, sizeof(soft));
    run_native(&g.code, &native);
    run_soft(&g.code, CPU_DATA);
    memcpy(&soft, h->ram + CPU_DATA, sizeof(soft));
    native.gpr[R_BUFFER] = soft.gpr[R_BUFFER] = 0;
    bool same = memcmp(native.gpr, soft.gpr, sizeof(native.gpr)) == 0 &&
                memcmp(native.scratch, soft.scratch, SCRATCH) == 0 &&
                ((native.flags ^ soft.flags) & g.defined) == 0;
    if (!same) {
        show(&g.code);
        for (unsigned i = 0; i < N_REGS; i++) {
            if (native.gpr[i] != soft.gpr[i]) {
                print_message("# r%u: 0x%" G_GINT64_MODIFIER "x, not 0x%" G_GINT64_MODIFIER "x\n",
                              i, soft.gpr[i], native.gpr[i]);
            }
        }
        for (unsigned i = 0; i < SCRATCH; i++) {
            if (native.scratch[i] != soft.scratch[i]) {
                print_message("# scratch[0x%x]: %02x, not %02x\n", i, soft.scratch[i],
                              native.scratch[i]);
            }
        }
        fail_msg("sequence %u: flags %x, not %x (of %x)", seed, (unsigned)soft.flags,
                 (unsigned)native.flags, g.defined);
    }
}

static void random_sequences(void **state)
{
    const char *text = g_getenv("PTA_SEQUENCES");
    unsigned n = text ? (unsigned)strtoul(text, NULL, 0) : 20000;
    for (unsigned i = 0; i < n; i++) {
        one_sequence(i);
    }
}

int main(void)
{
    h = cpu_harness_new(64, RAM);
    native_code = mmap(NULL, PTA_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (native_code == MAP_FAILED) {
        print_message("1..0 # SKIP no memory may be executed here\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_of_8_bits),
        cmocka_unit_test(random_sequences),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    cpu_harness_free(h);
    return rc;
}
