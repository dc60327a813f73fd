/*
 * What a debugger asks of a VP, on KVM: breakpoints, watchpoints, INT3, single steps. Steps are made by the
 * software CPU and, where there is none, by the kernel; the software CPU as a back end shows what is expected.
 */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include "src/kvm/kvm.h"
#include "tests/cpu/cpu-harness.h"
#include "tests/kvm/kvm-host.h"

#include <errno.h>
#include <string.h>

#define RAM        (8 * PTA_MIB)
#define BS         PTA_X86_DR6_BS
#define INT3       (~UINT64_C(3))
#define FAILED     (~UINT64_C(100)) /* the instruction cannot be executed here */
#define RFLAGS_TF  0x100u
#define RFLAGS_IF  0x200u
#define RFLAGS_RF  0x10000u
#define VECTOR_DB  1
#define VECTOR_NMI 2
#define VECTOR_BP  3
#define VECTOR_UD  6

static CpuHarness *h; /* of the test */
static enum { SOFT, SOFTWARE, KERNEL } how;

enum {
    NEEDS_BREAKPOINTS = 1, /* on execution, in debug registers */
    NEEDS_WATCHPOINTS = 2,
    NEEDS_INT3 = 4,
    NEEDS_SOFTWARE = 8, /* what TF cannot do */
    NEEDS_HLT = 16,
    NEEDS_TF = 32, /* of each iteration, and in ring 3 */
};

/* What does not work for reasons that are not ours: said, and left out. */
static bool lacks(unsigned needs)
{
    unsigned has = UINT_MAX;
    const char *why = "no software CPU";
    if (how == SOFT) {
        return false;
    }
    if (how == KERNEL) {
        has &= ~(unsigned)NEEDS_SOFTWARE;
    }
    if (kvm_host_is_emulated()) {
        why = "SVM in QEMU's TCG has no debug registers and no intercept of INT3";
        has &= ~(unsigned)(NEEDS_BREAKPOINTS | NEEDS_WATCHPOINTS | NEEDS_INT3 | NEEDS_HLT);
    }
    if (kvm_host_interprets()) {
        why = "KVM's interpreter has no watchpoints, and TF for nothing but ring 0";
        has &= ~(unsigned)(NEEDS_WATCHPOINTS |
                           (how == KERNEL ? NEEDS_TF | NEEDS_HLT | NEEDS_INT3 : 0));
    }
    if (needs & ~has) {
        print_message("# left out: %s\n", needs & ~has & NEEDS_SOFTWARE ? "no software CPU" : why);
        return true;
    }
    return false;
}

static void begin(unsigned bits)
{
    h = cpu_harness_new_on(how == SOFT ? &pta_soft_backend : &pta_kvm_backend, bits, RAM);
    if (how == KERNEL) {
        kvm_of(h->be)->stepper_ops = NULL;
    }
}

static int end(void **state)
{
    (void)state;
    g_clear_pointer(&h, cpu_harness_free);
    return 0;
}

static void ask(PtaGuestDebug debug)
{
    debug.enabled = true;
    h->be->ops->vp_set_debug(h->vp, &debug);
}

static void ask_nothing(void)
{
    h->be->ops->vp_set_debug(h->vp, &(PtaGuestDebug){ 0 });
}

static PtaX86Regs *load(void)
{
    return &cpu_harness_load(h)->regs;
}

static uint64_t gpr(unsigned n)
{
    return load()->gpr[n];
}

static void set_gpr(unsigned n, uint64_t value)
{
    load()->gpr[n] = value;
    cpu_harness_store(h);
}

static void set_rflags(uint64_t set)
{
    load()->rflags |= set;
    cpu_harness_store(h);
}

#define CODE(...)                                       \
    do {                                                \
        static const uint8_t code_[] = { __VA_ARGS__ }; \
        ask_nothing();                                  \
        cpu_harness_reset(h);                           \
        cpu_harness_code(h, 0, code_, sizeof(code_));   \
    } while (0)

/* Runs until the debugger hears of something: DR6, INT3; 0: the end, or a handler has run. */
static uint64_t run(void)
{
    for (unsigned i = 0; i < 10; i++) {
        cpu_harness_run(h);
        if (h->exit.reason == PTA_EXIT_DEBUG) {
            assert_true(h->exit.debug.rip == load()->rip);
            return h->exit.debug.vector == VECTOR_DB ? h->exit.debug.dr6
                                                     : ~(uint64_t)h->exit.debug.vector;
        }
        assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
        if (h->vector != CPU_STOPPED) {
            return 0;
        }
    }
    fail_msg("the VP only leaves and leaves");
    return 0;
}

static void step(uint64_t rip)
{
    ask((PtaGuestDebug){ .single_step = true, .block_interrupts = true });
    assert_int_equal(run(), BS);
    assert_int_equal(load()->rip, rip);
    assert_false(h->state->regs.rflags & RFLAGS_TF); /* the debugger's is not the guest's */
}

static uint64_t stub(unsigned vector)
{
    return CPU_STUBS + vector * 16;
}

/* ---- single steps ---- */

static void steps_of_instructions(void **state)
{
    begin(64);
    /* nop; mov eax, 1; jmp +2; (2 bytes); push rax; pop rcx */
    CODE(0x90, 0xb8, 1, 0, 0, 0, 0xeb, 0x02, 0x0f, 0x0b, 0x50, 0x59);
    step(CPU_CODE + 1);
    step(CPU_CODE + 6);
    assert_int_equal(gpr(PTA_X86_RAX), 1);
    step(CPU_CODE + 10);
    step(CPU_CODE + 11);
    step(CPU_CODE + 12);
    assert_int_equal(gpr(PTA_X86_RCX), 1);
    ask_nothing();
    run();
    assert_int_equal(h->vector, CPU_END);
    assert_false(load()->rflags & (RFLAGS_TF | RFLAGS_RF));
}

/* What only the kernel executes. */
static void steps_of_the_kernels_own(void **state)
{
    begin(64);
    /* cpuid; rdtsc; out 0x70, al; in al, 0x70; mov rax, cr0; mov cr0, rax; mov [mmio], eax; nop */
    CODE(0x0f, 0xa2, 0x0f, 0x31, 0xe6, 0x70, 0xe4, 0x70, 0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0, 0x89,
         0x07, 0x90);
    set_gpr(PTA_X86_RDI, CPU_MMIO);
    unsigned writes = h->mmio_writes;
    static const uint8_t lengths[] = { 2, 2, 2, 2, 3, 3, 2, 1 };
    uint64_t rip = CPU_CODE;
    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        rip += lengths[i];
        step(rip);
    }
    assert_int_equal(h->mmio_writes, writes + 1);
    ask_nothing();
    assert_int_equal(run(), 0);
    assert_int_equal(h->vector, CPU_END);
}

static void steps_of_strings(void **state)
{
    if (lacks(NEEDS_TF)) {
        return;
    }
    begin(64);
    CODE(0xf3, 0xa4);
    set_gpr(PTA_X86_RSI, CPU_DATA);
    set_gpr(PTA_X86_RDI, CPU_DATA + 64);
    set_gpr(PTA_X86_RCX, 3);
    step(CPU_CODE);
    assert_int_equal(gpr(PTA_X86_RCX), 2);
    step(CPU_CODE);
    step(CPU_CODE + 2);
    assert_int_equal(gpr(PTA_X86_RCX), 0);
}

static void steps_over_shadows(void **state)
{
    begin(64);
    /* mov eax, ss; mov ss, eax; nop; nop */
    CODE(0x8c, 0xd0, 0x8e, 0xd0, 0x90, 0x90);
    step(CPU_CODE + 2);
    if (how == KERNEL) { /* no trap behind MOV SS */
        return;
    }
    step(CPU_CODE + 4);
    assert_int_equal(cpu_harness_load(h)->events.interrupt_shadow, 2);
    cpu_harness_store(h); /* as a debugger does it */
    step(CPU_CODE + 5);
    assert_int_equal(cpu_harness_load(h)->events.interrupt_shadow, 0);
    step(CPU_CODE + 6);
}

/* What saves and loads the flags. */
static void steps_hide_the_trap_flag(void **state)
{
    if (lacks(NEEDS_SOFTWARE)) {
        return;
    }
    begin(64);
    CODE(0x9c, 0x58, 0x50, 0x9d, 0x90); /* pushf; pop rax; push rax; popf; nop */
    step(CPU_CODE + 1);
    step(CPU_CODE + 2);
    assert_false(gpr(PTA_X86_RAX) & RFLAGS_TF);
    step(CPU_CODE + 3);
    step(CPU_CODE + 4);
    step(CPU_CODE + 5);
}

static void steps_into_handlers(void **state)
{
    if (lacks(NEEDS_SOFTWARE)) {
        return;
    }
    begin(64);
    CODE(0x0f, 0x0b); /* ud2 */
    step(stub(VECTOR_UD));
    step(stub(VECTOR_UD) + 2);
    ask_nothing();
    CODE(0xcd, 0x05); /* int 5 */
    step(stub(5));
    CODE(0xcc); /* INT3, of which the debugger does not want to hear */
    step(stub(VECTOR_BP));
    /* The trap of the guest's own TF comes first. */
    CODE(0x90, 0x90);
    set_rflags(RFLAGS_TF);
    step(stub(VECTOR_DB));
    end(NULL);
    begin(32);
    CODE(0xcd, 0x05);
    step(stub(5));
    end(NULL);
    begin(16);
    CODE(0xcd, 0x05);
    step(stub(5));
}

/* An interrupt and an NMI are due while three instructions are stepped over, of which the last is HLT. */
static void step_to_hlt(void)
{
    CODE(0x90, 0x90, 0xf4, 0x90);
    set_rflags(RFLAGS_IF);
    cpu_harness_load(h)->lapic.page[0xf1] = 1; /* SVR: enabled */
    cpu_harness_store(h);
    h->be->ops->msi(h->be, 0xfee00000, 0x3f);
    h->be->ops->nmi(h->be, 0);
    step(CPU_CODE + 1);
    step(CPU_CODE + 2);
    step(CPU_CODE + 3);
}

static void interrupts_wait(void **state)
{
    begin(64);
    step_to_hlt();
}

static void steps_and_interrupts(void **state)
{
    if (lacks(NEEDS_HLT)) {
        return;
    }
    begin(64);
    step_to_hlt();
    assert_int_equal(cpu_harness_load(h)->events.activity, PTA_X86_HALTED);
    step(stub(VECTOR_NMI)); /* HLT ends */
    assert_int_equal(cpu_harness_load(h)->events.activity, PTA_X86_RUNNING);
    h->state->events.nmi_blocked = 0;
    h->state->regs.rip = CPU_CODE;
    h->state->regs.rflags |= RFLAGS_IF;
    cpu_harness_store(h);
    memcpy(h->ram + CPU_IDT + 0x3f * 16, h->ram + CPU_IDT + 5 * 16, 16);
    ask((PtaGuestDebug){ .single_step = true }); /* not held back */
    assert_int_equal(run(), BS);
    assert_int_equal(load()->rip, stub(5));
    assert_int_equal(h->state->events.activity, PTA_X86_RUNNING);
}

static void *kick_soon(void *data)
{
    (void)data;
    g_usleep(50 * 1000);
    h->be->ops->vp_kick(h->vp);
    return NULL;
}

/* A step of a VP that nothing wakes can be given up. */
static void a_halted_vp_is_kicked(void **state)
{
    if (lacks(NEEDS_HLT)) {
        return;
    }
    begin(64);
    CODE(0xf4, 0x90);
    set_rflags(RFLAGS_IF);
    step(CPU_CODE + 1);
    ask((PtaGuestDebug){ .single_step = true, .block_interrupts = true });
    GThread *thread = g_thread_new("kick", kick_soon, NULL);
    cpu_harness_run(h);
    g_thread_join(thread);
    assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
    assert_int_equal(load()->rip, CPU_CODE + 1);
    assert_int_equal(h->state->events.activity, PTA_X86_HALTED);
}

static void a_vp_that_waits_for_sipi(void **state)
{
    begin(64);
    CODE(0x90, 0x90);
    cpu_harness_load(h)->events.activity = PTA_X86_WAIT_FOR_SIPI;
    cpu_harness_store(h);
    ask((PtaGuestDebug){ .single_step = true, .block_interrupts = true });
    GThread *thread = g_thread_new("kick", kick_soon, NULL);
    cpu_harness_run(h);
    g_thread_join(thread);
    assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
    assert_int_equal(load()->rip, CPU_CODE); /* nothing was executed */
    assert_int_equal(h->state->events.activity, PTA_X86_WAIT_FOR_SIPI);
}

/* ---- breakpoints ---- */

static PtaGuestDebug execute_at(uint64_t lin)
{
    return (PtaGuestDebug){ .dr = { lin }, .dr7 = 2 };
}

static void breakpoint_in_a_loop(void **state)
{
    if (lacks(NEEDS_BREAKPOINTS)) {
        return;
    }
    begin(64);
    /* mov ecx, 5; 1: inc eax; nop; dec ecx; jnz 1b */
    CODE(0xb9, 5, 0, 0, 0, 0xff, 0xc0, 0x90, 0xff, 0xc9, 0x75, 0xf9);
    PtaGuestDebug debug = execute_at(CPU_CODE + 7);
    for (unsigned i = 1; i <= 5; i++) {
        ask(debug);
        assert_int_equal(run(), 1);
        assert_int_equal(load()->rip, CPU_CODE + 7);
        assert_int_equal(gpr(PTA_X86_RAX), i);
        debug.pass = false; /* without it: again, and nothing was executed */
        ask(debug);
        assert_int_equal(run(), 1);
        assert_int_equal(gpr(PTA_X86_RAX), i);
        debug.pass = true;
    }
    ask(debug);
    assert_int_equal(run(), 0);
    assert_int_equal(h->vector, CPU_END);
    assert_int_equal(gpr(PTA_X86_RAX), 5);
}

static void breakpoint_on_an_access(void **state)
{
    if (lacks(NEEDS_BREAKPOINTS)) {
        return;
    }
    begin(64);
    CODE(0x89, 0x07, 0x90); /* mov [mmio], eax; nop */
    set_gpr(PTA_X86_RDI, CPU_MMIO);
    unsigned writes = h->mmio_writes;
    PtaGuestDebug debug = execute_at(CPU_CODE);
    ask(debug);
    assert_int_equal(run(), 1);
    assert_int_equal(h->mmio_writes, writes);
    debug.pass = true;
    ask(debug);
    assert_int_equal(run(), 0);
    assert_int_equal(h->vector, CPU_END);
    assert_int_equal(h->mmio_writes, writes + 1);
}

static void breakpoint_comes_and_goes(void **state)
{
    if (lacks(NEEDS_BREAKPOINTS)) {
        return;
    }
    begin(64);
    CODE(0xff, 0xc0, 0xff, 0xc3, 0x90, 0x90);
    assert_int_equal(run(), 0);
    cpu_harness_reset(h);
    ask(execute_at(CPU_CODE + 2));
    assert_int_equal(run(), 1);
    assert_int_equal(load()->rip, CPU_CODE + 2);
    assert_int_equal(gpr(PTA_X86_RAX), 1);
    assert_int_equal(gpr(PTA_X86_RBX), 0);
    ask_nothing();
    assert_int_equal(run(), 0);
    assert_int_equal(h->vector, CPU_END);
    assert_int_equal(gpr(PTA_X86_RBX), 1);
    cpu_harness_reset(h);
    ask(execute_at(CPU_CODE + 0x1002));
    assert_int_equal(run(), 0);
    assert_int_equal(h->vector, CPU_END);
}

static void breakpoint_is_linear(void **state)
{
    if (lacks(NEEDS_BREAKPOINTS)) {
        return;
    }
    begin(16);
    CODE(0x40, 0x43, 0x90);
    ask(execute_at(CPU_CODE + 1)); /* CS is 0x1000 */
    assert_int_equal(run(), 1);
    assert_int_equal(load()->rip, 1);
    end(NULL);
    begin(32);
    CODE(0x40, 0x43, 0x90);
    ask(execute_at(CPU_CODE + 1));
    assert_int_equal(run(), 1);
    step(CPU_CODE + 2);
    assert_int_equal(gpr(PTA_X86_RBX), 1);
}

static void all_four_breakpoints(void **state)
{
    if (lacks(NEEDS_BREAKPOINTS)) {
        return;
    }
    begin(64);
    CODE(0x90, 0x90, 0x90, 0x90, 0x90);
    PtaGuestDebug debug = { .dr = { CPU_CODE, CPU_CODE + 1, CPU_CODE + 3, CPU_CODE + 3 },
                            .dr7 = 0xaa };
    ask(debug);
    assert_int_equal(run(), 1);
    debug.pass = true;
    ask(debug);
    assert_int_equal(run(), 2);
    ask(debug);
    assert_int_equal(run(), 4 | 8);
    assert_int_equal(load()->rip, CPU_CODE + 3);
    debug.single_step = true; /* both at once */
    ask(debug);
    assert_int_equal(run(), BS);
    assert_int_equal(load()->rip, CPU_CODE + 4);
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
    if (lacks(NEEDS_WATCHPOINTS)) {
        return;
    }
    begin(64);
    /* mov [rdi], eax; inc ecx; mov ebx, [rdi]; mov [rdi+4], eax; nop */
    CODE(0x89, 0x07, 0xff, 0xc1, 0x8b, 0x1f, 0x89, 0x47, 0x04, 0x90);
    set_gpr(PTA_X86_RDI, CPU_DATA);
    set_gpr(PTA_X86_RAX, 0x11223344);
    ask(watch(CPU_DATA, 4, false));
    assert_int_equal(run(), 2);
    assert_int_equal(load()->rip, CPU_CODE + 2); /* behind the instruction, which is done */
    assert_int_equal(gpr(PTA_X86_RCX), 0);
    assert_int_equal(h->ram[CPU_DATA], 0x44);
    assert_int_equal(run(), 0); /* neither the read nor what is beside it */
    assert_int_equal(h->vector, CPU_END);
    cpu_harness_reset(h);
    set_gpr(PTA_X86_RDI, CPU_DATA);
    ask(watch(CPU_DATA, 1, true));
    assert_int_equal(run(), 2);
    assert_int_equal(load()->rip, CPU_CODE + 2);
    assert_int_equal(run(), 2);
    assert_int_equal(load()->rip, CPU_CODE + 6);
    assert_int_equal(run(), 0);
    /* The last byte of an access counts, too. */
    cpu_harness_reset(h);
    set_gpr(PTA_X86_RDI, CPU_DATA);
    ask(watch(CPU_DATA + 7, 1, false));
    assert_int_equal(run(), 2);
    assert_int_equal(load()->rip, CPU_CODE + 9);
    /* A step that meets it says both. */
    CODE(0x50, 0x90);
    PtaGuestDebug debug = watch(CPU_STACK - 8, 8, false);
    debug.single_step = true;
    ask(debug);
    assert_int_equal(run(), BS | 2);
}

/* ---- the guest debugs itself ---- */

static void guest_has_breakpoints(void **state)
{
    if (lacks(NEEDS_WATCHPOINTS)) {
        return;
    }
    begin(64);
    CODE(0x89, 0x07, 0x90, 0x90);
    cpu_harness_load(h)->debug.dr[2] = CPU_DATA;
    h->state->debug.dr7 = 0x400 | 1 << 4 | 0xd << 24;
    h->state->regs.gpr[PTA_X86_RDI] = CPU_DATA;
    cpu_harness_store(h);
    ask(execute_at(CPU_CODE + 3)); /* of the debugger's elsewhere: the guest's work as ever */
    assert_int_equal(run(), 0);
    assert_int_equal(h->vector, VECTOR_DB);
    assert_int_equal(h->fault_rip, CPU_CODE + 2);
    assert_int_equal(cpu_harness_load(h)->debug.dr6 & 15, 4);
    assert_int_equal(h->state->debug.dr[2], CPU_DATA);
    assert_int_equal(h->state->debug.dr[0], 0);
    assert_int_equal(h->state->debug.dr7, 0x400 | 1 << 4 | 0xd << 24);
}

static void guest_steps_itself(void **state)
{
    if (lacks(NEEDS_BREAKPOINTS)) {
        return;
    }
    begin(64);
    CODE(0x90, 0x90, 0x90);
    set_rflags(RFLAGS_TF);
    ask(execute_at(CPU_CODE + 2));
    assert_int_equal(run(), 0);
    assert_int_equal(h->vector, VECTOR_DB);
    assert_int_equal(h->fault_rip, CPU_CODE + 1);
    assert_true(h->fault_rflags & RFLAGS_TF);
    assert_true(cpu_harness_load(h)->debug.dr6 & BS);
}

/* ---- ring 3 ---- */

static void enter_user(void)
{
    PtaX86Regs *r = load();
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        r->seg[i].selector |= 3;
        r->seg[i].attrs |= 3 << 5;
    }
    r->rflags |= 3 << 12; /* IOPL: the OUT at the end */
    cpu_harness_store(h);
}

static void user_steps(void **state)
{
    if (lacks(NEEDS_TF)) {
        return;
    }
    begin(64);
    CODE(0x90, 0xb8, 1, 0, 0, 0, 0xeb, 0x02, 0x0f, 0x0b, 0x50, 0x59);
    enter_user();
    step(CPU_CODE + 1);
    step(CPU_CODE + 6);
    step(CPU_CODE + 10);
    step(CPU_CODE + 11);
    step(CPU_CODE + 12);
    assert_int_equal(gpr(PTA_X86_RCX), 1);
}

/* ---- INT3 ---- */

static void int3_leaves(void **state)
{
    if (lacks(NEEDS_INT3)) {
        return;
    }
    const PtaGuestDebug debug = { .sw_breakpoints = true };
    begin(64);
    CODE(0x90, 0xcc, 0xcd, 0x03, 0x90);
    ask(debug);
    assert_int_equal(run(), INT3);
    assert_int_equal(load()->rip, CPU_CODE + 1);
    assert_int_equal(run(), INT3); /* until something is done about it */
    if (how == KERNEL) {
        return;
    }
    /* The guest's own: delivered as it would have been. */
    cpu_harness_load(h)->regs.rip++;
    h->state->events.exception_pending = 1;
    h->state->events.vector = VECTOR_BP;
    cpu_harness_store(h);
    assert_int_equal(cpu_harness_load(h)->events.vector, VECTOR_BP);
    assert_int_equal(h->state->events.exception_pending, 1);
    PtaX86State at = *h->state;
    ask(debug);
    assert_int_equal(run(), 0);
    assert_int_equal(h->vector, VECTOR_BP);
    assert_int_equal(h->fault_rip, CPU_CODE + 2);
    assert_false(h->fault_rflags & RFLAGS_RF);
    assert_int_equal(cpu_harness_load(h)->events.exception_pending, 0);
    /* A step is over when the handler is next. */
    *h->state = at;
    cpu_harness_store(h);
    ask((PtaGuestDebug){ .sw_breakpoints = true, .single_step = true, .block_interrupts = true });
    assert_int_equal(run(), BS);
    assert_int_equal(load()->rip, stub(VECTOR_BP));
}

/* ---- a kernel that says what hardware would ---- */

static PtaKvmIoctlFn *host_ioctl;
static struct {
    bool on;
    uint32_t exception;
    uint64_t dr6; /* which slots of ours were met */
    uint64_t next_rip;
    struct kvm_guest_debug armed; /* as the kernel was asked */
    unsigned runs;
} script;

static int scripted_ioctl(int fd, unsigned long request, void *arg)
{
    if (!script.on) {
        return host_ioctl(fd, request, arg);
    }
    if (request == KVM_SET_GUEST_DEBUG) {
        const struct kvm_guest_debug *g = arg;
        if (g->control) {
            script.armed = *g;
        }
        return 0;
    }
    if (request != KVM_RUN) {
        return host_ioctl(fd, request, arg);
    }
    if (script.runs++ >
        0) { /* what was the guest's own has been given to it: it goes on, and is kicked */
        h->be->ops->vp_kick(h->vp);
        errno = EINTR;
        return -1;
    }
    struct kvm_run *run = kvm_vp_of(h->vp)->run;
    struct kvm_regs regs;
    assert_int_equal(host_ioctl(fd, KVM_GET_REGS, &regs), 0);
    regs.rip = script.next_rip;
    assert_int_equal(host_ioctl(fd, KVM_SET_REGS, &regs), 0);
    run->exit_reason = KVM_EXIT_DEBUG;
    run->debug.arch.exception = script.exception;
    run->debug.arch.dr6 = script.dr6 | 0xffff0ff0;
    run->debug.arch.pc = regs.rip;
    return 0;
}

static void scripted(uint32_t exception, uint64_t dr6, uint64_t next_rip)
{
    memset(&script, 0, sizeof(script));
    script.on = true;
    script.exception = exception;
    script.dr6 = dr6;
    script.next_rip = next_rip;
    h->exit.reason = PTA_EXIT_HALT;
    h->be->ops->vp_run(h->vp, &h->exit);
    script.on = false;
}

static void what_the_debugger_hears(void **state)
{
    begin(64);
    CODE(0x90, 0x90, 0x90);
    PtaGuestDebug debug = watch(CPU_DATA, 4, false);
    debug.sw_breakpoints = true;
    ask(debug);
    scripted(1, 2, CPU_CODE + 1);
    assert_int_equal(script.armed.control,
                     KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP);
    assert_int_equal(script.armed.arch.debugreg[1], CPU_DATA);
    assert_int_equal(script.armed.arch.debugreg[7], 0x8 | 0xdu << 20);
    assert_int_equal(h->exit.reason, PTA_EXIT_DEBUG);
    assert_int_equal(h->exit.debug.vector, 1);
    assert_int_equal(h->exit.debug.dr6, 2);
    assert_int_equal(h->exit.debug.rip, CPU_CODE + 1);
    scripted(3, 0, CPU_CODE + 2);
    assert_int_equal(h->exit.reason, PTA_EXIT_DEBUG);
    assert_int_equal(h->exit.debug.vector, 3);
    assert_int_equal(h->exit.debug.rip, CPU_CODE + 2);
    /* Conditions of registers that are not in use are nobody's. */
    scripted(1, 1, CPU_CODE + 2);
    assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
    assert_int_equal(cpu_harness_load(h)->events.exception_pending, 0);
}

static void what_the_guest_hears(void **state)
{
    begin(64);
    CODE(0x90, 0x90, 0x90);
    cpu_harness_load(h)->debug.dr[1] = CPU_DATA + 8;
    h->state->debug.dr[3] = CPU_CODE + 2;
    h->state->debug.dr7 = 0x400 | 1 << 2 | 1 << 6 | 1 << 20;
    cpu_harness_store(h);
    ask(watch(CPU_DATA, 4, false)); /* register 1: the guest's are in 0 and 2 */
    scripted(1, 1, CPU_CODE + 1);
    assert_int_equal(script.armed.arch.debugreg[0], CPU_DATA + 8);
    assert_int_equal(script.armed.arch.debugreg[2], CPU_CODE + 2);
    assert_int_equal(script.armed.arch.debugreg[7], 0x400 | 0x2a | 0xd << 20 | 1 << 16);
    assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
    assert_int_equal(cpu_harness_load(h)->events.exception_pending, 1);
    assert_int_equal(h->state->events.vector, 1);
    assert_int_equal(h->state->debug.dr6 & 0xf00f, 2);
    assert_int_equal(h->state->debug.dr7, 0x400 | 1 << 2 | 1 << 6 | 1 << 20);
    /* Both at once: the debugger hears of his, the guest's waits. */
    h->state->events.exception_pending = 0;
    cpu_harness_store(h);
    ask(watch(CPU_DATA, 4, false));
    scripted(1, 2 | 4, CPU_CODE + 2);
    assert_int_equal(h->exit.reason, PTA_EXIT_DEBUG);
    assert_int_equal(h->exit.debug.dr6, 2);
    assert_int_equal(cpu_harness_load(h)->events.exception_pending, 1);
    assert_int_equal(h->state->debug.dr6 & 0xf00f, 8);
    /* The guest's own single step. */
    h->state->events.exception_pending = 0;
    cpu_harness_store(h);
    scripted(1, BS, CPU_CODE + 1);
    assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
    assert_int_equal(cpu_harness_load(h)->events.exception_pending, 1);
    assert_int_equal(h->state->debug.dr6 & 0xf00f, BS);
}

static int refuse_debug(int fd, unsigned long request, void *arg)
{
    if (request == KVM_SET_GUEST_DEBUG) {
        errno = EINVAL;
        return -1;
    }
    return host_ioctl(fd, request, arg);
}

static void requests_that_fail(void **state)
{
    begin(64);
    CODE(0x90, 0x90);
    ask(execute_at(CPU_CODE + 1));
    PtaKvmIoctlFn *was = pta_kvm_ioctl_hook;
    pta_kvm_ioctl_hook = refuse_debug;
    h->be->ops->vp_run(h->vp, &h->exit);
    pta_kvm_ioctl_hook = was;
    assert_int_equal(h->exit.reason, PTA_EXIT_INTERNAL_ERROR);
    assert_non_null(strstr(h->exit.error.text, "KVM_SET_GUEST_DEBUG"));
}

#define CASES(prefix, n)                                                                   \
    CASE(prefix, n, steps_of_instructions), CASE(prefix, n, steps_of_the_kernels_own),     \
        CASE(prefix, n, steps_of_strings), CASE(prefix, n, steps_over_shadows),            \
        CASE(prefix, n, steps_hide_the_trap_flag), CASE(prefix, n, steps_into_handlers),   \
        CASE(prefix, n, interrupts_wait), CASE(prefix, n, steps_and_interrupts),           \
        CASE(prefix, n, a_halted_vp_is_kicked), CASE(prefix, n, a_vp_that_waits_for_sipi), \
        CASE(prefix, n, breakpoint_in_a_loop), CASE(prefix, n, breakpoint_on_an_access),   \
        CASE(prefix, n, breakpoint_comes_and_goes), CASE(prefix, n, breakpoint_is_linear), \
        CASE(prefix, n, all_four_breakpoints), CASE(prefix, n, watches_writes),            \
        CASE(prefix, n, guest_has_breakpoints), CASE(prefix, n, guest_steps_itself),       \
        CASE(prefix, n, user_steps), CASE(prefix, n, int3_leaves)
#define CASE(prefix, n, test)                          \
    {                                                  \
        prefix ": " #test, test, choose_##n, end, NULL \
    }

static int choose_soft(void **state)
{
    how = SOFT;
    return 0;
}

static int choose_software(void **state)
{
    how = SOFTWARE;
    return 0;
}

static int choose_kernel(void **state)
{
    how = KERNEL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASES("soft", soft),
        CASES("kvm, steps by software", software),
        CASES("kvm, steps by the kernel", kernel),
        CASE("kvm", kernel, what_the_debugger_hears),
        CASE("kvm", kernel, what_the_guest_hears),
        CASE("kvm", kernel, requests_that_fail),
    };
    if (!kvm_host_usable()) {
        return 0;
    }
    pta_thread_init_main();
    host_ioctl = pta_kvm_ioctl_hook;
    pta_kvm_ioctl_hook = scripted_ioctl;
    return cmocka_run_group_tests_name("debugger", tests, NULL, NULL);
}
