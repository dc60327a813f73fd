/* What a debugger asks of a VP: single steps over everything, breakpoints, watchpoints, INT3. */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "src/soft/lapic.h"
#include "tests/cpu/cpu-harness.h"

#define RAM (8 * PTA_MIB)
#define BS  (UINT64_C(1) << 14)

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

static void ask(CpuHarness *h, PtaGuestDebug debug)
{
    debug.enabled = true;
    h->be->ops->vp_set_debug(h->vp, &debug);
}

static void ask_nothing(CpuHarness *h)
{
    h->be->ops->vp_set_debug(h->vp, &(PtaGuestDebug){ 0 });
}

#define CODE(h, ...)                                    \
    do {                                                \
        static const uint8_t code_[] = { __VA_ARGS__ }; \
        ask_nothing(h);                                 \
        cpu_harness_reset(h);                           \
        cpu_harness_code((h), 0, code_, sizeof(code_)); \
    } while (0)

/* Runs until the debugger hears of something; DR6, or ~vector for INT3. */
static uint64_t run(CpuHarness *h)
{
    for (unsigned i = 0; i < 10; i++) {
        cpu_harness_run(h);
        if (h->exit.reason == PTA_EXIT_DEBUG) {
            assert_true(h->exit.debug.rip == h->c->rip);
            return h->exit.debug.vector == X86_DB ? h->exit.debug.dr6
                                                  : ~(uint64_t)h->exit.debug.vector;
        }
        assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
        if (h->vector != CPU_STOPPED) {
            return 0; /* the end, or a handler has run */
        }
    }
    fail_msg("the VP only leaves and leaves");
    return 0;
}

static void step(CpuHarness *h, uint64_t rip)
{
    ask(h, (PtaGuestDebug){ .single_step = true, .block_interrupts = true });
    assert_int_equal(run(h), BS);
    assert_int_equal(h->c->rip, rip);
}

static uint64_t stub(unsigned vector)
{
    return CPU_STUBS + vector * 16;
}

/* ---- single steps ---- */

static void steps_of_instructions(void **state)
{
    /* nop; mov eax, 1; jmp +2; (2 bytes); push rax; pop rcx */
    CODE(h64, 0x90, 0xb8, 1, 0, 0, 0, 0xeb, 0x02, 0x0f, 0x0b, 0x50, 0x59);
    step(h64, CPU_CODE + 1);
    step(h64, CPU_CODE + 6);
    assert_int_equal(h64->c->gpr[PTA_X86_RAX], 1);
    step(h64, CPU_CODE + 10);
    step(h64, CPU_CODE + 11);
    step(h64, CPU_CODE + 12);
    assert_int_equal(h64->c->gpr[PTA_X86_RCX], 1);
    ask_nothing(h64);
    run(h64);
    assert_int_equal(h64->vector, CPU_END);
    assert_false(h64->c->rflags & (X86_TF | X86_RF));
}

static void steps_of_strings(void **state)
{
    CODE(h64, 0xf3, 0xa4);
    h64->c->gpr[PTA_X86_RSI] = CPU_DATA;
    h64->c->gpr[PTA_X86_RDI] = CPU_DATA + 64;
    h64->c->gpr[PTA_X86_RCX] = 3;
    step(h64, CPU_CODE);
    assert_int_equal(h64->c->gpr[PTA_X86_RCX], 2);
    step(h64, CPU_CODE);
    step(h64, CPU_CODE + 2);
    assert_int_equal(h64->c->gpr[PTA_X86_RCX], 0);
}

static void steps_over_shadows(void **state)
{
    /* mov eax, ss; mov ss, eax; nop; nop */
    CODE(h64, 0x8c, 0xd0, 0x8e, 0xd0, 0x90, 0x90);
    step(h64, CPU_CODE + 2);
    step(h64, CPU_CODE + 4);
    PtaX86State cpu;
    h64->be->ops->vp_get_state(h64->vp, &cpu);
    assert_int_equal(cpu.events.interrupt_shadow, 2);
    assert_true(h64->be->ops->vp_set_state(h64->vp, &cpu, NULL)); /* as a debugger does it */
    step(h64, CPU_CODE + 5);
    h64->be->ops->vp_get_state(h64->vp, &cpu);
    assert_int_equal(cpu.events.interrupt_shadow, 0);
    step(h64, CPU_CODE + 6);
}

static void steps_into_handlers(void **state)
{
    CODE(h64, 0x0f, 0x0b); /* ud2 */
    step(h64, stub(X86_UD));
    step(h64, stub(X86_UD) + 2);
    assert_int_equal(h64->fault_rip, CPU_CODE);
    CODE(h64, 0xcd, 0x05); /* int 5 */
    step(h64, stub(5));
    CODE(h64, 0xcc); /* INT3, of which the debugger does not want to hear */
    step(h64, stub(X86_BP));
    CODE(h32, 0xcd, 0x05);
    step(h32, stub(5));
    CODE(h16, 0xcd, 0x05);
    step(h16, stub(5));
    /* The trap of the guest's own TF comes first. */
    CODE(h64, 0x90, 0x90);
    x86_set_rflags(h64->c, X86_TF, X86_TF);
    step(h64, stub(X86_DB));
}

/* An interrupt that is due: its vector, at the local APIC. */
static void interrupt_is_due(CpuHarness *h, unsigned vector)
{
    h->be->ops->msi(h->be, 0xfee00000, vector);
}

static void steps_and_interrupts(void **state)
{
    PtaX86State cpu;
    CODE(h64, 0x90, 0x90, 0xf4, 0x90);
    x86_set_rflags(h64->c, X86_IF, X86_IF);
    h64->be->ops->vp_get_state(h64->vp, &cpu);
    cpu.lapic.page[0xf1] = 1; /* SVR: enabled */
    assert_true(h64->be->ops->vp_set_state(h64->vp, &cpu, NULL));
    interrupt_is_due(h64, 0x1f);
    h64->be->ops->nmi(h64->be, 0);
    step(h64, CPU_CODE + 1); /* they wait … */
    step(h64, CPU_CODE + 2);
    step(h64, CPU_CODE + 3);
    h64->be->ops->vp_get_state(h64->vp, &cpu);
    assert_int_equal(cpu.events.activity, PTA_X86_HALTED);
    step(h64, stub(X86_NMI)); /* … but for HLT */
    h64->be->ops->vp_get_state(h64->vp, &cpu);
    assert_int_equal(cpu.events.activity, PTA_X86_RUNNING);
    cpu.events.nmi_blocked = 0;
    cpu.regs.rip = CPU_CODE;
    assert_true(h64->be->ops->vp_set_state(h64->vp, &cpu, NULL));
    ask(h64, (PtaGuestDebug){ .single_step = true }); /* not held back */
    if (!(cpu.regs.rflags & X86_IF)) {
        x86_set_rflags(h64->c, X86_IF, X86_IF);
    }
    assert_int_equal(run(h64), BS);
    assert_int_equal(h64->c->rip, stub(0x1f));
    assert_int_equal(h64->c->events.activity, PTA_X86_RUNNING);
}

/* ---- breakpoints ---- */

static PtaGuestDebug execute_at(uint64_t lin)
{
    return (PtaGuestDebug){ .dr = { lin }, .dr7 = 2 };
}

static void breakpoint_in_a_loop(void **state)
{
    /* mov ecx, 5; 1: inc eax; nop; dec ecx; jnz 1b */
    CODE(h64, 0xb9, 5, 0, 0, 0, 0xff, 0xc0, 0x90, 0xff, 0xc9, 0x75, 0xf9);
    PtaGuestDebug debug = execute_at(CPU_CODE + 7);
    for (unsigned i = 1; i <= 5; i++) {
        ask(h64, debug);
        assert_int_equal(run(h64), 1);
        assert_int_equal(h64->c->rip, CPU_CODE + 7);
        assert_int_equal(h64->c->gpr[PTA_X86_RAX], i);
        debug.pass = false; /* without it: again, and nothing was executed */
        ask(h64, debug);
        assert_int_equal(run(h64), 1);
        assert_int_equal(h64->c->gpr[PTA_X86_RAX], i);
        debug.pass = true;
    }
    ask(h64, debug);
    assert_int_equal(run(h64), 0);
    assert_int_equal(h64->vector, CPU_END);
    assert_int_equal(h64->c->gpr[PTA_X86_RAX], 5);
}

static void breakpoint_in_decoded_code(void **state)
{
    CODE(h64, 0xff, 0xc0, 0xff, 0xc3, 0x90, 0x90);
    assert_int_equal(run(h64), 0); /* decoded now */
    cpu_harness_reset(h64);
    ask(h64, execute_at(CPU_CODE + 2));
    assert_int_equal(run(h64), 1);
    assert_int_equal(h64->c->rip, CPU_CODE + 2);
    assert_int_equal(h64->c->gpr[PTA_X86_RAX], 1);
    assert_int_equal(h64->c->gpr[PTA_X86_RBX], 0);
    ask_nothing(h64);
    assert_int_equal(run(h64), 0);
    assert_int_equal(h64->vector, CPU_END);
    assert_int_equal(h64->c->gpr[PTA_X86_RBX], 1);
    /* In another page at the same offset there is none. */
    cpu_harness_reset(h64);
    ask(h64, execute_at(CPU_CODE + 0x1002));
    assert_int_equal(run(h64), 0);
    assert_int_equal(h64->vector, CPU_END);
}

static void breakpoint_is_linear(void **state)
{
    CODE(h16, 0x40, 0x43, 0x90);
    ask(h16, execute_at(CPU_CODE + 1)); /* CS is 0x1000 */
    assert_int_equal(run(h16), 1);
    assert_int_equal(h16->c->rip, 1);
    CODE(h32, 0x40, 0x43, 0x90);
    ask(h32, execute_at(CPU_CODE + 1));
    assert_int_equal(run(h32), 1);
    step(h32, CPU_CODE + 2);
    assert_int_equal(h32->c->gpr[PTA_X86_RBX], 1);
}

static void all_four_breakpoints(void **state)
{
    CODE(h64, 0x90, 0x90, 0x90, 0x90, 0x90);
    PtaGuestDebug debug = { .dr = { CPU_CODE, CPU_CODE + 1, CPU_CODE + 3, CPU_CODE + 3 },
                            .dr7 = 0xaa };
    ask(h64, debug);
    assert_int_equal(run(h64), 1);
    debug.pass = true;
    ask(h64, debug);
    assert_int_equal(run(h64), 2);
    ask(h64, debug);
    assert_int_equal(run(h64), 4 | 8);
    assert_int_equal(h64->c->rip, CPU_CODE + 3);
    debug.single_step = true; /* both at once */
    ask(h64, debug);
    assert_int_equal(run(h64), BS);
}

/* ---- watchpoints ---- */

static PtaGuestDebug watch(uint64_t lin, unsigned len, bool reads)
{
    static const uint8_t code[] = { [1] = 0, [2] = 1, [4] = 3, [8] = 2 };
    return (PtaGuestDebug){ .dr = { 0, lin },
                            .dr7 = 8 | (uint64_t)(code[len] << 2 | (reads ? 3 : 1)) << 20 };
}

static void watches_writes(void **state)
{
    /* mov [rdi], eax; inc ecx; mov ebx, [rdi]; mov [rdi+4], eax; nop */
    CODE(h64, 0x89, 0x07, 0xff, 0xc1, 0x8b, 0x1f, 0x89, 0x47, 0x04, 0x90);
    h64->c->gpr[PTA_X86_RDI] = CPU_DATA;
    h64->c->gpr[PTA_X86_RAX] = 0x11223344;
    ask(h64, watch(CPU_DATA, 4, false));
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE + 2); /* behind the instruction, which is done */
    assert_int_equal(h64->c->gpr[PTA_X86_RCX], 0);
    assert_int_equal(h64->ram[CPU_DATA], 0x44);
    assert_int_equal(run(h64), 0); /* neither the read nor what is beside it */
    assert_int_equal(h64->vector, CPU_END);
    cpu_harness_reset(h64);
    h64->c->gpr[PTA_X86_RDI] = CPU_DATA;
    ask(h64, watch(CPU_DATA, 1, true));
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE + 2);
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE + 6);
    assert_int_equal(run(h64), 0);
    /* The last byte of an access counts, too. */
    cpu_harness_reset(h64);
    h64->c->gpr[PTA_X86_RDI] = CPU_DATA;
    ask(h64, watch(CPU_DATA + 7, 1, false));
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE + 9);
}

static void watches_strings_and_stacks(void **state)
{
    CODE(h64, 0xf3, 0xa4, 0x50, 0x90);
    h64->c->gpr[PTA_X86_RSI] = CPU_DATA;
    h64->c->gpr[PTA_X86_RDI] = CPU_DATA + 0x1ffc; /* from one page into the next */
    h64->c->gpr[PTA_X86_RCX] = 10;
    ask(h64, watch(CPU_DATA + 0x2002, 1, false));
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE); /* half-way: behind its iteration */
    assert_int_equal(h64->c->gpr[PTA_X86_RCX], 3);
    ask(h64, watch(CPU_STACK - 8, 8, false));
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE + 3);
    assert_int_equal(h64->c->gpr[PTA_X86_RCX], 0);
    /* What an exception pushes: reported where its handler begins. */
    CODE(h64, 0x0f, 0x0b);
    ask(h64, watch(CPU_STACK - 8, 8, false));
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, stub(X86_UD));
    assert_int_equal(run(h64), 0);
    assert_int_equal(h64->vector, X86_UD);
    /* A step that meets it says both. */
    CODE(h64, 0x50, 0x90);
    PtaGuestDebug debug = watch(CPU_STACK - 8, 8, false);
    debug.single_step = true;
    ask(h64, debug);
    assert_int_equal(run(h64), BS | 2);
}

static void watches_atomics_and_vectors(void **state)
{
    /* lock xadd [rdi], eax; movups [rdi], xmm0; cmpxchg [rdi], ecx; nop */
    CODE(h64, 0xf0, 0x0f, 0xc1, 0x07, 0x0f, 0x11, 0x07, 0x0f, 0xb1, 0x0f, 0x90);
    memset(h64->ram + CPU_DATA, 0, 16);
    h64->c->gpr[PTA_X86_RDI] = CPU_DATA;
    h64->c->gpr[PTA_X86_RAX] = 7;
    ask(h64, watch(CPU_DATA, 4, false));
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE + 4);
    assert_int_equal(h64->ram[CPU_DATA], 7); /* once */
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE + 7);
    assert_int_equal(h64->c->world_depth, 0);
    assert_int_equal(run(h64), 2);
    assert_int_equal(h64->c->rip, CPU_CODE + 10);
}

/* The guest has debug registers of its own. */
static void the_guest_debugs_itself(void **state)
{
    CODE(h64, 0x89, 0x07, 0x90, 0x90);
    h64->c->gpr[PTA_X86_RDI] = CPU_DATA;
    h64->c->dr[2] = CPU_DATA;
    h64->c->dr7 = X86_DR7_FIXED | 1 << 4 | 0xd << 24;
    x86_debug_changed(h64->c);
    ask(h64, watch(CPU_DATA, 4, false));
    assert_int_equal(run(h64), 2); /* the debugger first, in the guest's handler */
    assert_int_equal(h64->c->rip, stub(X86_DB));
    assert_int_equal(h64->c->dr6 & 15, 4);
    assert_int_equal(run(h64), 0);
    assert_int_equal(h64->vector, X86_DB);
    assert_int_equal(h64->fault_rip, CPU_CODE + 2);
}

/* ---- INT3 ---- */

static void int3_leaves(void **state)
{
    const PtaGuestDebug debug = { .sw_breakpoints = true };
    CODE(h64, 0x90, 0xcc, 0xcd, 0x03, 0x90);
    ask(h64, debug);
    assert_int_equal(run(h64), ~(uint64_t)X86_BP);
    assert_int_equal(h64->c->rip, CPU_CODE + 1);
    assert_int_equal(run(h64), ~(uint64_t)X86_BP); /* until something is done about it */
    /* The guest's own: delivered as it would have been. */
    PtaX86State cpu;
    h64->be->ops->vp_get_state(h64->vp, &cpu);
    cpu.regs.rip++;
    cpu.events.exception_pending = 1;
    cpu.events.vector = X86_BP;
    assert_true(h64->be->ops->vp_set_state(h64->vp, &cpu, NULL));
    ask(h64, debug);
    assert_int_equal(run(h64), 0);
    assert_int_equal(h64->vector, X86_BP);
    assert_int_equal(h64->fault_rip, CPU_CODE + 2);
    assert_false(h64->fault_rflags & X86_RF);
    /* INT 3 is no breakpoint. */
    cpu_harness_reset(h64);
    h64->c->rip = CPU_CODE + 2;
    assert_int_equal(run(h64), 0);
    assert_int_equal(h64->vector, X86_BP);
    assert_int_equal(h64->fault_rip, CPU_CODE + 4);
    /* A step is over when the handler is next. */
    cpu.regs.gpr[PTA_X86_RSP] = CPU_STACK;
    assert_true(h64->be->ops->vp_set_state(h64->vp, &cpu, NULL));
    ask(h64, (PtaGuestDebug){ .sw_breakpoints = true, .single_step = true });
    assert_int_equal(run(h64), BS);
    assert_int_equal(h64->c->rip, stub(X86_BP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_of_instructions),      cmocka_unit_test(steps_of_strings),
        cmocka_unit_test(steps_over_shadows),         cmocka_unit_test(steps_into_handlers),
        cmocka_unit_test(steps_and_interrupts),       cmocka_unit_test(breakpoint_in_a_loop),
        cmocka_unit_test(breakpoint_in_decoded_code), cmocka_unit_test(breakpoint_is_linear),
        cmocka_unit_test(all_four_breakpoints),       cmocka_unit_test(watches_writes),
        cmocka_unit_test(watches_strings_and_stacks), cmocka_unit_test(watches_atomics_and_vectors),
        cmocka_unit_test(the_guest_debugs_itself),    cmocka_unit_test(int3_leaves),
    };
    return cmocka_run_group_tests_name("debugger", tests, setup, teardown);
}
