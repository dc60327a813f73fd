/* The engine by small programs: blocks, self-modifying code, page crossings, strings, steps. */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "src/soft/engine.h"
#include "tests/cpu/cpu-harness.h"

#define RAM (8 * PTA_MIB)

#define RUN(h, ...)                                     \
    do {                                                \
        static const uint8_t code_[] = { __VA_ARGS__ }; \
        cpu_harness_code((h), 0, code_, sizeof(code_)); \
        cpu_harness_run(h);                             \
    } while (0)

static CpuHarness *h64, *h32, *h16;

static int setup(void **state)
{
    h64 = cpu_harness_new(64, RAM);
    h32 = cpu_harness_new(32, RAM);
    h16 = cpu_harness_new(16, RAM);
    return 0;
}

static int teardown(void **state)
{
    cpu_harness_free(h64);
    cpu_harness_free(h32);
    cpu_harness_free(h16);
    return 0;
}

static uint64_t reg(const CpuHarness *h, unsigned r)
{
    return h->c->gpr[r];
}

static void runs_a_loop(void **state)
{
    cpu_harness_reset(h64);
    /* mov ecx, 1000; xor eax, eax; 1: add rax, rcx; dec ecx; jnz 1b */
    RUN(h64, 0xb9, 0xe8, 0x03, 0, 0, 0x31, 0xc0, 0x48, 0x01, 0xc8, 0xff, 0xc9, 0x75, 0xf9);
    assert_int_equal(h64->vector, CPU_END);
    assert_int_equal(reg(h64, PTA_X86_RAX), 500500);
    cpu_harness_reset(h32);
    RUN(h32, 0xb9, 0xe8, 0x03, 0, 0, 0x31, 0xc0, 0x01, 0xc8, 0x49, 0x75, 0xfb);
    assert_int_equal(h32->vector, CPU_END);
    assert_int_equal(reg(h32, PTA_X86_RAX), 500500);
    cpu_harness_reset(h16);
    RUN(h16, 0xb9, 0x64, 0x00, 0x31, 0xc0, 0x01, 0xc8, 0xe2, 0xfc);
    assert_int_equal(h16->vector, CPU_END);
    assert_int_equal(reg(h16, PTA_X86_RAX), 5050);
}

static void raises_invalid_opcode(void **state)
{
    cpu_harness_reset(h64);
    RUN(h64, 0x90, 0x0f, 0x0b);
    assert_int_equal(h64->vector, X86_UD);
    assert_int_equal(h64->fault_rip, CPU_CODE + 1);
    /* LOCK where it may not be */
    cpu_harness_reset(h64);
    RUN(h64, 0xf0, 0x01, 0xc8);
    assert_int_equal(h64->vector, X86_UD);
    /* 16 bytes */
    cpu_harness_reset(h64);
    RUN(h64, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
        0x66, 0x90);
    assert_int_equal(h64->vector, X86_GP);
    /* DIV by zero in the middle of a block, flags and registers as before it */
    cpu_harness_reset(h64);
    RUN(h64, 0xb8, 5, 0, 0, 0, 0x31, 0xc9, 0x31, 0xd2, 0xf9, 0xf7, 0xf1);
    assert_int_equal(h64->vector, X86_DE);
    assert_int_equal(h64->fault_rip, CPU_CODE + 10);
    assert_int_equal(h64->fault_rflags & X86_STATUS, X86_CF | X86_ZF | X86_PF);
    assert_int_equal(reg(h64, PTA_X86_RAX), 5);
}

/* Stores into the block that runs, right behind the store. */
static void modifies_itself(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        cpu_harness_reset(h64);
        /* mov byte [rip + 2], 7 (the immediate of the next); mov al, 1; inc ah */
        RUN(h64, 0xc6, 0x05, 0x01, 0, 0, 0, (uint8_t)7, 0xb0, 0x01, 0xfe, 0xc4);
        assert_int_equal(h64->vector, CPU_END);
        assert_int_equal(reg(h64, PTA_X86_RAX), 0x107);
    }
}

/* A loop whose body counts up its own immediate, by the slow store each time. */
static void modifies_a_loop(void **state)
{
    cpu_harness_reset(h64);
    /* mov ecx, 100; xor eax, eax; 1: add eax, imm32 (0); inc byte [rip - 9]; dec ecx; jnz 1b */
    RUN(h64, 0xb9, 100, 0, 0, 0, 0x31, 0xc0, 0x05, 0, 0, 0, 0, 0xfe, 0x05, 0xf6, 0xff, 0xff, 0xff,
        0xff, 0xc9, 0x75, 0xf1);
    assert_int_equal(h64->vector, CPU_END);
    assert_int_equal(reg(h64, PTA_X86_RAX), 99 * 100 / 2);
}

/* Code in one page changes code of another one that was run and linked. */
static void modifies_another_page(void **state)
{
    cpu_harness_reset(h64);
    uint8_t *f = h64->ram + CPU_CODE + 0x1000; /* mov eax, imm32; ret */
    memcpy(f, "\xb8\x01\0\0\0\xc3", 6);
    h64->be->ops->host_wrote(h64->be, CPU_CODE + 0x1000, 6);
    /* xor ebx, ebx; mov ecx, 10; 1: call f; add ebx, eax; inc dword [f + 1]; loop 1b */
    RUN(h64, 0x31, 0xdb, 0xb9, 10, 0, 0, 0, 0xe8, 0xf4, 0x0f, 0, 0, 0x01, 0xc3, 0xff, 0x04, 0x25,
        0x01, 0x10, 0x01, 0x00, 0xe2, 0xf0);
    assert_int_equal(h64->vector, CPU_END);
    assert_int_equal(reg(h64, PTA_X86_RBX), 55);
}

static void host_writes_are_seen(void **state)
{
    cpu_harness_reset(h64);
    RUN(h64, 0xb0, 0x01);
    assert_int_equal(reg(h64, PTA_X86_RAX), 1);
    RUN(h64, 0xb0, 0x02);
    assert_int_equal(reg(h64, PTA_X86_RAX), 2);
}

/* An instruction over the end of a page, its second half changing. */
static void crosses_pages(void **state)
{
    static const uint8_t code[] = { 0xb8, 0x44, 0x33, 0x22, 0x11 };
    for (unsigned back = 1; back <= 5; back++) {
        cpu_harness_reset(h64);
        cpu_harness_code(h64, 0x1000 - back, code, sizeof(code));
        assert_int_equal(cpu_harness_run(h64), CPU_END);
        assert_int_equal(reg(h64, PTA_X86_RAX), 0x11223344);
        if (back == 5) {
            break;
        }
        h64->ram[CPU_CODE + 0x1000 - back + 4] = 0x55;
        h64->be->ops->host_wrote(h64->be, CPU_CODE + 0x1000 - back + 4, 1);
        h64->c->rip = CPU_CODE + 0x1000 - back;
        assert_int_equal(cpu_harness_run(h64), CPU_END);
        assert_int_equal(reg(h64, PTA_X86_RAX), 0x55223344);
    }
}

/* The second page is not present: #PF with CR2 at its beginning, RIP at the instruction. */
static void crossing_faults(void **state)
{
    static const uint8_t code[] = { 0xb8, 0x44, 0x33, 0x22, 0x11 };
    cpu_harness_reset(h64);
    unsigned last = 0x200000 - CPU_CODE - 2; /* the end of the first large page */
    cpu_harness_code(h64, last, code, sizeof(code));
    uint64_t *pde = (uint64_t *)(void *)(h64->ram + CPU_PD + 8);
    uint64_t old = *pde;
    *pde = 0;
    cpu_harness_run(h64);
    *pde = old;
    assert_int_equal(h64->vector, X86_PFV);
    assert_int_equal(h64->c->cr2, 0x200000);
    assert_int_equal(h64->fault_rip, 0x200000 - 2);
    cpu_harness_reset(h64);
    h64->c->rip = 0x200000 - 2;
    assert_int_equal(cpu_harness_run(h64), CPU_END);
    assert_int_equal(reg(h64, PTA_X86_RAX), 0x11223344);
}

static void fill_pattern(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(i * 7 + (i >> 8));
    }
}

static void string_regs(CpuHarness *h, uint64_t si, uint64_t di, uint64_t cx)
{
    h->c->gpr[PTA_X86_RSI] = si;
    h->c->gpr[PTA_X86_RDI] = di;
    h->c->gpr[PTA_X86_RCX] = cx;
}

/* rep movs over several pages, all distances, against a model that goes byte by byte. */
static void copies(void **state)
{
    static const struct {
        uint64_t from, to, n;
    } cases[] = {
        { 0, 0x5000, 0x3123 },    { 0xffd, 0x8001, 0x2000 }, { 0x10, 0x11, 0x1800 },
        { 0x10, 0x13, 0x1800 },   { 0x10, 0x20, 0x1800 },    { 0x1000, 0xff8, 0x2000 },
        { 0x10, 0x1010, 0x2800 }, { 0, 0x5000, 0 },          { 7, 0x5003, 1 },
    };
    static const uint8_t codes[4][4] = {
        { 0xf3, 0xa4 }, { 0x66, 0xf3, 0xa5 }, { 0xf3, 0xa5 }, { 0xf3, 0x48, 0xa5 }
    };
    static const uint8_t lens[4] = { 2, 3, 2, 3 };
    g_autofree uint8_t *model = g_malloc(0x10000);
    for (unsigned k = 0; k < 4; k++) {
        unsigned width = 1u << k;
        for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
            for (unsigned down = 0; down < 2; down++) {
                uint64_t n = cases[i].n / width;
                uint64_t si = cases[i].from, di = cases[i].to;
                int64_t step = down ? -(int64_t)width : width;
                if (down && n) {
                    si += (n - 1) * width;
                    di += (n - 1) * width;
                }
                cpu_harness_reset(h64);
                fill_pattern(h64->ram + CPU_DATA, 0x10000);
                fill_pattern(model, 0x10000);
                string_regs(h64, CPU_DATA + si, CPU_DATA + di, n);
                h64->c->rflags |= down ? X86_DF : 0;
                cpu_harness_code(h64, 0, codes[k], lens[k]);
                assert_int_equal(cpu_harness_run(h64), CPU_END);
                for (uint64_t j = 0; j < n; j++) {
                    uint64_t v;
                    memcpy(&v, model + si, width);
                    memcpy(model + di, &v, width);
                    si += (uint64_t)step;
                    di += (uint64_t)step;
                }
                assert_memory_equal(model, h64->ram + CPU_DATA, 0x10000);
                assert_int_equal(reg(h64, PTA_X86_RCX), 0);
                assert_int_equal(reg(h64, PTA_X86_RSI), CPU_DATA + si);
                assert_int_equal(reg(h64, PTA_X86_RDI), CPU_DATA + di);
            }
        }
    }
}

static void stores_and_scans(void **state)
{
    cpu_harness_reset(h64);
    memset(h64->ram + CPU_DATA, 0, 0x8000);
    string_regs(h64, 0, CPU_DATA + 0xffe, 0x1001);
    h64->c->gpr[PTA_X86_RAX] = 0x11223344;
    RUN(h64, 0xf3, 0xab); /* rep stosd */
    for (unsigned i = 0; i < 0x1001; i++) {
        assert_memory_equal(h64->ram + CPU_DATA + 0xffe + i * 4, "\x44\x33\x22\x11", 4);
    }
    assert_int_equal(h64->ram[CPU_DATA + 0xffd], 0);
    assert_int_equal(h64->ram[CPU_DATA + 0xffe + 0x4004], 0);

    h64->ram[CPU_DATA + 0x2345] = 0xee;
    cpu_harness_reset(h64);
    string_regs(h64, 0, CPU_DATA, 0x8000);
    h64->c->gpr[PTA_X86_RAX] = 0xee;
    RUN(h64, 0xf2, 0xae); /* repne scasb */
    assert_int_equal(reg(h64, PTA_X86_RDI), CPU_DATA + 0x2346);
    assert_int_equal(reg(h64, PTA_X86_RCX), 0x8000 - 0x2346);
    assert_true(x86_zf(&h64->c->flags));

    memcpy(h64->ram + CPU_DATA + 0x10000, h64->ram + CPU_DATA, 0x8000);
    h64->ram[CPU_DATA + 0x13333] ^= 1;
    cpu_harness_reset(h64);
    string_regs(h64, CPU_DATA, CPU_DATA + 0x10000, 0x8000);
    RUN(h64, 0xf3, 0xa6); /* repe cmpsb */
    assert_int_equal(reg(h64, PTA_X86_RSI), CPU_DATA + 0x3334);
    assert_false(x86_zf(&h64->c->flags));

    /* A count of 0 leaves the flags. */
    cpu_harness_reset(h64);
    string_regs(h64, CPU_DATA, CPU_DATA, 0);
    x86_set_status(h64->c, X86_CF | X86_OF);
    RUN(h64, 0xf3, 0xa6);
    assert_int_equal(x86_flags_pack(&h64->c->flags), X86_CF | X86_OF);
}

/* A fault in the middle: registers are those of the element that faulted. */
static void string_faults(void **state)
{
    cpu_harness_reset(h64);
    uint64_t *pde = (uint64_t *)(void *)(h64->ram + CPU_PD + 2 * 8); /* 4 MiB */
    uint64_t old = *pde;
    *pde = 0;
    string_regs(h64, CPU_DATA, 0x400000 - 0x1803, 0x3000);
    RUN(h64, 0xf3, 0xa4);
    *pde = old;
    assert_int_equal(h64->vector, X86_PFV);
    assert_int_equal(h64->error, 2);
    assert_int_equal(h64->c->cr2, 0x400000);
    assert_int_equal(reg(h64, PTA_X86_RDI), 0x400000);
    assert_int_equal(reg(h64, PTA_X86_RCX), 0x3000 - 0x1803);
    assert_int_equal(h64->fault_rip, CPU_CODE);
}

/* 16-bit addresses wrap, 32-bit ones too; the upper halves stay or clear. */
static void string_address_sizes(void **state)
{
    cpu_harness_reset(h16);
    memset(h16->ram + CPU_REAL_DATA, 0, 0x10000);
    string_regs(h16, 0, 0xabcdfffe, 0x12340004);
    h16->c->gpr[PTA_X86_RAX] = 0x77;
    RUN(h16, 0xf3, 0xaa); /* rep stosb */
    assert_int_equal(h16->vector, CPU_END);
    assert_int_equal(h16->ram[CPU_REAL_DATA + 0xffff], 0x77);
    assert_int_equal(h16->ram[CPU_REAL_DATA + 1], 0x77);
    assert_int_equal(h16->ram[CPU_REAL_DATA + 2], 0);
    assert_int_equal(reg(h16, PTA_X86_RDI), 0xabcd0002);
    assert_int_equal(reg(h16, PTA_X86_RCX), 0x12340000);
}

static void string_to_devices(void **state)
{
    cpu_harness_reset(h64);
    h64->mmio_writes = h64->mmio_reads = 0;
    string_regs(h64, CPU_DATA, CPU_MMIO, 5);
    RUN(h64, 0xf3, 0xa5);
    assert_int_equal(h64->vector, CPU_END);
    assert_int_equal(h64->mmio_writes, 5);
}

/* TF: a trap after each instruction, and after each iteration. */
static void single_steps(void **state)
{
    cpu_harness_reset(h64);
    x86_set_rflags(h64->c, X86_TF, X86_TF);
    RUN(h64, 0x90, 0x90);
    assert_int_equal(h64->vector, X86_DB);
    assert_int_equal(h64->fault_rip, CPU_CODE + 1);
    assert_true(h64->c->dr6 & X86_DR6_BS);
    cpu_harness_reset(h64);
    string_regs(h64, CPU_DATA, CPU_DATA + 64, 10);
    x86_set_rflags(h64->c, X86_TF, X86_TF);
    RUN(h64, 0xf3, 0xa4);
    assert_int_equal(h64->vector, X86_DB);
    assert_int_equal(h64->fault_rip, CPU_CODE);
    assert_int_equal(reg(h64, PTA_X86_RCX), 9);
    /* POPF that sets TF: the trap is after the next one. */
    cpu_harness_reset(h64);
    RUN(h64, 0x9c, 0x80, 0x4c, 0x24, 0x01, 0x01, 0x9d, 0x90, 0x90);
    assert_int_equal(h64->vector, X86_DB);
    assert_int_equal(h64->fault_rip, CPU_CODE + 8);
    /* A code breakpoint: a fault before the instruction. */
    cpu_harness_reset(h64);
    h64->c->dr[1] = CPU_CODE + 2;
    h64->c->dr7 = X86_DR7_FIXED | 1 << 2;
    x86_debug_changed(h64->c);
    RUN(h64, 0x90, 0x90, 0x90);
    assert_int_equal(h64->vector, X86_DB);
    assert_int_equal(h64->fault_rip, CPU_CODE + 2);
    assert_int_equal(h64->c->dr6 & 15, 2);
    assert_false(h64->fault_rflags & X86_RF); /* SDM vol. 3, 17.3.1.1 */
}

/* The stack pointer of the host must not move however long a chain is: 18 million instructions
 * would need gigabytes. */
static void stack_does_not_grow(void **state)
{
    cpu_harness_reset(h64);
    uint64_t insns = h64->c->insns;
    /* mov ecx, 2000000; 1: push rcx; pop rax; cmp rax, rcx; je 2f; 2: call 3f; jmp 4f; 3: ret;
     * 4: dec ecx; jnz 1b */
    RUN(h64, 0xb9, 0x80, 0x84, 0x1e, 0, 0x51, 0x58, 0x48, 0x39, 0xc8, 0x74, 0x00, 0xe8, 0x02, 0, 0,
        0, 0xeb, 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xed);
    assert_int_equal(h64->vector, CPU_END);
    assert_in_range(h64->c->insns - insns, 9 * 2000000, 9 * 2000000 + 10);
}

/* A branch to an address that is not canonical faults at the branch, and pushes nothing. */
static void branches_to_nowhere(void **state)
{
    static const uint8_t codes[][8] = {
        { 0xe9, 0, 0, 0, 0x70 }, { 0xe8, 0, 0, 0, 0x70 }, { 0xff, 0xd0 }, { 0xff, 0xe0 }, { 0xc3 },
    };
    static const uint8_t lens[] = { 5, 5, 2, 2, 1 };
    uint64_t at = UINT64_C(0x7fffffffe000); /* the last page of the lower half, mapped here */
    for (unsigned i = 0; i < G_N_ELEMENTS(codes); i++) {
        cpu_harness_reset(h64);
        uint64_t entry = CPU_PDPT | 7;
        memcpy(h64->ram + CPU_PML4 + 255 * 8, &entry, 8); /* 512 GiB of the first GiB … */
        entry = CPU_PD | 7;
        memcpy(h64->ram + CPU_PDPT + 511 * 8, &entry, 8);
        entry = 0x87;
        memcpy(h64->ram + CPU_PD + 511 * 8, &entry, 8); /* … ends at 2 MiB */
        memcpy(h64->ram + 0x1fe000, codes[i], lens[i]);
        h64->be->ops->host_wrote(h64->be, 0x1fe000, 8);
        h64->c->gpr[PTA_X86_RAX] = UINT64_C(0x800000000000);
        memcpy(h64->ram + CPU_STACK - 8, &h64->c->gpr[PTA_X86_RAX], 8);
        h64->c->gpr[PTA_X86_RSP] = CPU_STACK - 8;
        h64->c->rip = at;
        cpu_harness_run(h64);
        assert_int_equal(h64->vector, X86_GP);
        assert_int_equal(h64->fault_rip, at);
        uint64_t frame = ((CPU_STACK - 8) & ~15) - 48; /* SS … error code */
        assert_int_equal(reg(h64, PTA_X86_RSP), frame);
    }
}

static void every_row_has_its_place(void **state)
{
    for (unsigned i = 1; i < X86_N_ROWS; i++) {
        assert_non_null(x86_rows[i].handler);
        assert_non_null(x86_rows[i].exec);
        assert_int_equal(x86_row_of(x86_rows[i].key), i); /* no key twice */
    }
}

/* 16 bytes at CPU_DATA + 0xff8 .. over a page end, LOCKed and not. */
static void locked_and_split(void **state)
{
    static const unsigned at[] = { 0x100, 0x103, 0xffc, 0xffe };
    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        cpu_harness_reset(h64);
        uint64_t v = 41;
        memcpy(h64->ram + CPU_DATA + at[i], &v, 8);
        h64->c->gpr[PTA_X86_RDI] = CPU_DATA + at[i];
        h64->c->gpr[PTA_X86_RBX] = 58;
        /* lock inc qword [rdi]; lock xadd [rdi], rbx; mov rax, 100; lock cmpxchg [rdi], rbx */
        RUN(h64, 0xf0, 0x48, 0xff, 0x07, 0xf0, 0x48, 0x0f, 0xc1, 0x1f, 0x48, 0xc7, 0xc0, 100, 0, 0,
            0, 0xf0, 0x48, 0x0f, 0xb1, 0x1f);
        assert_int_equal(h64->vector, CPU_END);
        assert_int_equal(reg(h64, PTA_X86_RBX), 42);
        memcpy(&v, h64->ram + CPU_DATA + at[i], 8);
        assert_int_equal(v, 42);
        assert_true(x86_zf(&h64->c->flags));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_has_its_place),
        cmocka_unit_test(runs_a_loop),
        cmocka_unit_test(raises_invalid_opcode),
        cmocka_unit_test(modifies_itself),
        cmocka_unit_test(modifies_a_loop),
        cmocka_unit_test(modifies_another_page),
        cmocka_unit_test(host_writes_are_seen),
        cmocka_unit_test(crosses_pages),
        cmocka_unit_test(crossing_faults),
        cmocka_unit_test(copies),
        cmocka_unit_test(stores_and_scans),
        cmocka_unit_test(string_faults),
        cmocka_unit_test(string_address_sizes),
        cmocka_unit_test(string_to_devices),
        cmocka_unit_test(single_steps),
        cmocka_unit_test(locked_and_split),
        cmocka_unit_test(stack_does_not_grow),
        cmocka_unit_test(branches_to_nowhere),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
