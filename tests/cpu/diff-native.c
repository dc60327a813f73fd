/*
 * The differential test: the host's CPU. A child process maps the test's memory at the test's
 * addresses, loads a vector's whole state, runs the one instruction and captures what came of it,
 * either by the jump behind the instruction or in the handler of the signal that it raised.
 */
#include "config.h"

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/cpu/diff.h"

#ifdef __x86_64__

/*
 * The trampoline, copied to DIFF_STUB so that 32-bit code can jump back to it; everything in it is
 * relative to RIP. diff_stub_state is where the state goes in and comes out: FXSAVE image, 16
 * registers in the order of their numbers, RFLAGS, RIP, selector.
 */
__asm__(".pushsection .text\n"
        ".balign 64\n"
        ".globl diff_stub\n"
        "diff_stub:\n"
        "    push %rbx\n    push %rbp\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, 9f+8(%rip)\n"
        "    fxrstor64 8f(%rip)\n"
        "    pushq 8f+640(%rip)\n    popfq\n"
        "    mov 8f+512(%rip), %rax\n    mov 8f+520(%rip), %rcx\n    mov 8f+528(%rip), %rdx\n"
        "    mov 8f+536(%rip), %rbx\n    mov 8f+544(%rip), %rsp\n    mov 8f+552(%rip), %rbp\n"
        "    mov 8f+560(%rip), %rsi\n    mov 8f+568(%rip), %rdi\n    mov 8f+576(%rip), %r8\n"
        "    mov 8f+584(%rip), %r9\n    mov 8f+592(%rip), %r10\n    mov 8f+600(%rip), %r11\n"
        "    mov 8f+608(%rip), %r12\n    mov 8f+616(%rip), %r13\n    mov 8f+624(%rip), %r14\n"
        "    mov 8f+632(%rip), %r15\n"
        "    ljmp *8f+648(%rip)\n"
        ".globl diff_stub_capture\n"
        "diff_stub_capture:\n"
        "    mov %rax, 8f+512(%rip)\n    mov %rcx, 8f+520(%rip)\n    mov %rdx, 8f+528(%rip)\n"
        "    mov %rbx, 8f+536(%rip)\n    mov %rsp, 8f+544(%rip)\n    mov %rbp, 8f+552(%rip)\n"
        "    mov %rsi, 8f+560(%rip)\n    mov %rdi, 8f+568(%rip)\n    mov %r8, 8f+576(%rip)\n"
        "    mov %r9, 8f+584(%rip)\n    mov %r10, 8f+592(%rip)\n    mov %r11, 8f+600(%rip)\n"
        "    mov %r12, 8f+608(%rip)\n    mov %r13, 8f+616(%rip)\n    mov %r14, 8f+624(%rip)\n"
        "    mov %r15, 8f+632(%rip)\n"
        "    mov 9f+8(%rip), %rsp\n"
        "    pushfq\n    popq 8f+640(%rip)\n"
        "    fxsave64 8f(%rip)\n"
        ".globl diff_stub_resume\n"
        "diff_stub_resume:\n"
        "    mov 9f+8(%rip), %rsp\n"
        "    pushq $0x202\n    popfq\n"
        "    fninit\n    ldmxcsr 9f(%rip)\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbp\n    pop %rbx\n"
        "    ret\n"
        ".balign 16\n"
        ".globl diff_stub_state\n"
        "diff_stub_state:\n"
        "8:  .fill 672, 1, 0\n"
        "9:  .long 0x1f80\n    .long 0\n    .quad 0\n"
        ".globl diff_stub_end\n"
        "diff_stub_end:\n"
        ".popsection\n");
extern const uint8_t diff_stub[], diff_stub_capture[], diff_stub_resume[], diff_stub_state[],
    diff_stub_end[];

#define IN_STUB(symbol) (DIFF_STUB + (uint64_t)((symbol)-diff_stub))
#define CODE_LEN        (DIFF_BATCH * DIFF_SLOT)
#define USER_CS64       0x33
#define USER_CS32       0x23
#define USER_DS         0x2b

typedef struct StubState {
    uint8_t fx[512];
    uint64_t gpr[16];
    uint64_t rflags;
    uint32_t target; /* far pointer */
    uint16_t selector;
} StubState;

/* Shared with the child. */
typedef struct Shared {
    DiffVector vectors[DIFF_BATCH];
    DiffOutcome outcomes[DIFF_BATCH];
    volatile unsigned running; /* index of the vector that the child is at */
} Shared;

static Shared *shared;
static pid_t child = -1;
static int to_child = -1, from_child = -1;
static bool has_compat;

/* ---- the child ---- */

static DiffOutcome *current;
static uint8_t alt_stack[64 * 1024] __attribute__((aligned(16)));

static void on_signal(int signo, siginfo_t *info, void *context)
{
    /* In the order of our register numbers. */
    static const int order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15 };
    ucontext_t *u = context;
    greg_t *g = u->uc_mcontext.gregs;
    if (!current || signo == SIGALRM) {
        _exit(3);
    }
    for (unsigned i = 0; i < 16; i++) {
        current->state.gpr[i] = (uint64_t)g[order[i]];
    }
    current->state.rip = (uint64_t)g[REG_RIP];
    current->state.rflags = (uint64_t)g[REG_EFL];
    memcpy(current->state.fx, u->uc_mcontext.fpregs, 512);
    current->vector = (uint32_t)g[REG_TRAPNO];
    current->error = (uint32_t)g[REG_ERR];
    current->cr2 = current->vector == X86_PFV ? (uint64_t)g[REG_CR2] : 0;
    g[REG_RIP] = (greg_t)IN_STUB(diff_stub_resume);
    g[REG_EFL] = 0x202;
    g[REG_CSGSFS] = (greg_t)((uint64_t)USER_DS << 48 | USER_CS64);
}

/* The instruction, then the way back; breakpoints everywhere else. */
static void place(const DiffVector *v)
{
    uint8_t *slot = (uint8_t *)(uintptr_t)v->in.rip; /* NOLINT: an address of ours */
    memset(slot, 0xcc, DIFF_SLOT);
    memcpy(slot, v->code, v->len);
    if (v->branches) {
        return;
    }
    uint8_t *back = slot + v->len;
    if (v->compat) {
        const uint32_t target = (uint32_t)IN_STUB(diff_stub_capture);
        const uint16_t selector = USER_CS64;
        back[0] = 0xea;
        memcpy(back + 1, &target, 4);
        memcpy(back + 5, &selector, 2);
    } else {
        const int32_t rel =
            (int32_t)((int64_t)IN_STUB(diff_stub_capture) - (int64_t)(uintptr_t)(back + 5));
        back[0] = 0xe9;
        memcpy(back + 1, &rel, 4);
    }
}

static void run_one(const DiffVector *v, DiffOutcome *out)
{
    StubState *s = (StubState *)(uintptr_t)IN_STUB(diff_stub_state);
    void (*enter)(void) = (void (*)(void))(uintptr_t)DIFF_STUB;
    memcpy(s->fx, v->in.fx, 512);
    memcpy(s->gpr, v->in.gpr, sizeof(s->gpr));
    s->rflags = v->in.rflags;
    s->target = (uint32_t)v->in.rip;
    s->selector = v->compat ? USER_CS32 : USER_CS64;
    memcpy((void *)(uintptr_t)DIFF_ARENA, v->in.arena, DIFF_ARENA_LEN);
    memcpy((void *)(uintptr_t)(DIFF_DATA_END - DIFF_EDGE_LEN), v->in.edge, DIFF_EDGE_LEN);
    out->vector = DIFF_NO_FAULT;
    out->error = 0;
    out->cr2 = 0;
    current = out;
    enter();
    current = NULL;
    if (out->vector == DIFF_NO_FAULT) {
        memcpy(out->state.fx, s->fx, 512);
        memcpy(out->state.gpr, s->gpr, sizeof(s->gpr));
        out->state.rflags = s->rflags;
        out->state.rip = v->in.rip + v->len;
    } else if (out->vector == X86_BP && v->branches) {
        out->vector = DIFF_NO_FAULT;
        out->error = 0;
        out->state.rip--;
    }
    memcpy(out->state.arena, (void *)(uintptr_t)DIFF_ARENA, DIFF_ARENA_LEN);
    memcpy(out->state.edge, (void *)(uintptr_t)(DIFF_DATA_END - DIFF_EDGE_LEN), DIFF_EDGE_LEN);
}

static bool map_at(uint64_t where, size_t len, int prot)
{
    return mmap((void *)(uintptr_t)where, len, prot,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
                0) == (void *)(uintptr_t)where;
}

static G_NORETURN void child_main(int in, int out)
{
    static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM };
    stack_t stack = { .ss_sp = alt_stack, .ss_size = sizeof(alt_stack) };
    struct sigaction action = { .sa_sigaction = on_signal,
                                .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
    if (!map_at(DIFF_DATA, 0x2000, PROT_READ | PROT_WRITE) ||
        !map_at(DIFF_STUB, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC) ||
        !map_at(DIFF_CODE, CODE_LEN, PROT_READ | PROT_WRITE | PROT_EXEC) ||
        sigaltstack(&stack, NULL) != 0) {
        _exit(2);
    }
    memcpy((void *)(uintptr_t)DIFF_STUB, diff_stub, (size_t)(diff_stub_end - diff_stub));
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaction(signals[i], &action, NULL);
    }
    /* 32-bit code needs real data segments; 64-bit code does not look at them. */
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(USER_DS));
    for (;;) {
        unsigned n;
        if (read(in, &n, sizeof(n)) != sizeof(n)) {
            _exit(0);
        }
        alarm(60); /* no batch takes that long */
        for (unsigned i = 0; i < n; i++) {
            place(&shared->vectors[i]);
        }
        for (unsigned i = 0; i < n; i++) {
            shared->running = i;
            run_one(&shared->vectors[i], &shared->outcomes[i]);
        }
        alarm(0);
        if (write(out, &n, sizeof(n)) != sizeof(n)) {
            _exit(0);
        }
    }
}

/* ---- the parent ---- */

static bool start_child(void)
{
    int a[2], b[2];
    if (pipe(a) != 0 || pipe(b) != 0) {
        return false;
    }
    child = fork();
    if (child == 0) {
        close(a[1]);
        close(b[0]);
        child_main(a[0], b[1]);
    }
    close(a[0]);
    close(b[1]);
    to_child = a[1];
    from_child = b[0];
    return child > 0;
}

void diff_native_stop(void)
{
    if (child > 0) {
        close(to_child);
        close(from_child);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        child = -1;
    }
}

bool diff_native_run(const DiffVector *v, DiffOutcome *out, unsigned n, unsigned *culprit)
{
    unsigned done;
    g_assert(n <= DIFF_BATCH);
    memcpy(shared->vectors, v, n * sizeof(*v));
    if (write(to_child, &n, sizeof(n)) != sizeof(n) ||
        read(from_child, &done, sizeof(done)) != sizeof(done)) {
        *culprit = shared->running;
        diff_native_stop();
        start_child();
        return false;
    }
    memcpy(out, shared->outcomes, n * sizeof(*out));
    return true;
}

/* A NOP, in 64-bit or 32-bit code. */
static bool probe(bool compat)
{
    DiffVector v = { .code = { 0x90 }, .len = 1, .compat = compat };
    DiffOutcome out;
    unsigned culprit;
    v.in.rip = DIFF_CODE;
    v.in.rflags = 0x202;
    v.in.fx[0] = 0x7f; /* FCW 037F */
    v.in.fx[1] = 0x03;
    v.in.fx[24] = 0x80; /* MXCSR 1F80 */
    v.in.fx[25] = 0x1f;
    v.in.gpr[PTA_X86_RSP] = DIFF_MID;
    v.in.gpr[PTA_X86_RBX] = 0x1234;
    return diff_native_run(&v, &out, 1, &culprit) && out.vector == DIFF_NO_FAULT &&
           out.state.gpr[PTA_X86_RBX] == 0x1234;
}

bool diff_native_start(const char **why)
{
    signal(SIGPIPE, SIG_IGN);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || !start_child()) {
        *why = "cannot start a child process";
        return false;
    }
    if (!probe(false)) {
        *why = "the host does not let a child map and run code at fixed addresses";
        return false;
    }
    has_compat = probe(true);
    return true;
}

bool diff_native_has_compat(void)
{
    return has_compat;
}

#else

bool diff_native_start(const char **why)
{
    *why = "the host is not x86-64";
    return false;
}

bool diff_native_has_compat(void)
{
    return false;
}

bool diff_native_run(const DiffVector *v, DiffOutcome *out, unsigned n, unsigned *culprit)
{
    return false;
}

void diff_native_stop(void)
{
}

#endif
