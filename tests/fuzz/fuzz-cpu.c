/*
 * Random bytes as code: decoded and run, single-stepped, in blocks, under a debugger, and by a
 * stepper, in each mode. The first byte says how, the next eight seed the registers, the rest is code. Nothing may
 * crash, and a run ends when it is told to.
 */
#include "config.h"

#include <string.h>

#include "src/soft/engine.h"
#include "tests/cpu/cpu-harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM     (4 * PTA_MIB)
#define STEPS   64
#define TICK_US 1000

static CpuHarness *harness[3], *stepper[3];

/* Who ends a run that does not end by itself. */
static struct {
    GMutex lock;
    CpuHarness *running; /* LOCKED(lock) */
    unsigned ticks;      /* LOCKED(lock) */
} watch;

static gpointer watch_thread(gpointer data)
{
    for (;;) {
        g_usleep(TICK_US);
        g_mutex_lock(&watch.lock);
        if (watch.running && ++watch.ticks > 2) {
            watch.running->be->ops->vp_kick(watch.running->vp);
            watch.running = NULL;
        }
        g_mutex_unlock(&watch.lock);
    }
    return NULL;
}

static void set_watch(CpuHarness *h)
{
    g_mutex_lock(&watch.lock);
    watch.running = h;
    watch.ticks = 0;
    g_mutex_unlock(&watch.lock);
}

static void set_up(void)
{
    harness[0] = cpu_harness_new(16, RAM);
    harness[1] = cpu_harness_new(32, RAM);
    harness[2] = cpu_harness_new(64, RAM);
    for (unsigned i = 0; i < 3; i++) {
        stepper[i] = cpu_harness_new_stepper(16u << i, RAM);
    }
    g_thread_unref(g_thread_new("watch", watch_thread, NULL));
}

/* Steps, breakpoints and watchpoints; what is reported is reported between two instructions. */
static void run_debugged(CpuHarness *h, uint8_t how, uint8_t where)
{
    PtaGuestDebug debug = {
        .enabled = true,
        .single_step = how & 1,
        .sw_breakpoints = how & 2,
        .block_interrupts = how & 4,
        .dr = { CPU_CODE + (where & 15), CPU_DATA, CPU_STACK - 8, CPU_CODE + 0xff8 },
        .dr7 = (how & 8 ? 0x02 : 0) | (how & 16 ? 0x08 | 0xd << 20 : 0) |
               (how & 32 ? 0x20 | 0xb << 24 : 0) | (how & 64 ? 0x80 : 0),
    };
    for (unsigned i = 0; i < STEPS && h->c->events.activity == PTA_X86_RUNNING; i++) {
        h->be->ops->vp_set_debug(h->vp, &debug);
        set_watch(h);
        cpu_harness_run(h);
        set_watch(NULL);
        g_assert(h->c->world_depth == 0 && h->c->debugger_hits == 0 && !h->c->restart);
        if (h->exit.reason != PTA_EXIT_DEBUG) {
            break;
        }
        g_assert(h->exit.debug.rip == h->c->rip);
        g_assert(h->exit.debug.vector == X86_BP ? debug.sw_breakpoints : h->exit.debug.dr6 != 0);
        debug.pass = true;
    }
    h->be->ops->vp_set_debug(h->vp, &(PtaGuestDebug){ 0 });
}

/* As another back end uses it: the state goes there and back for each instruction, and what cannot be
 * done changes nothing of it. */
static void run_lent(CpuHarness *h)
{
    g_autofree PtaX86State *before = g_new(PtaX86State, 1);
    g_autofree PtaX86State *after = g_new(PtaX86State, 1);
    for (unsigned i = 0; i < STEPS && h->c->events.activity == PTA_X86_RUNNING; i++) {
        h->be->ops->vp_get_state(h->vp, before);
        if (!h->be->ops->vp_set_state(h->vp, before, NULL)) {
            return; /* the guest brought itself to where it cannot be */
        }
        h->be->ops->vp_run(h->vp, &h->exit);
        g_assert(h->c->world_depth == 0 && !h->c->restart && h->c->attention == 0);
        h->be->ops->vp_get_state(h->vp, after);
        if (h->exit.reason == PTA_EXIT_INTERNAL_ERROR) {
            g_assert(memcmp(before, after, sizeof(*before)) == 0);
            return;
        }
        g_assert(h->exit.reason == PTA_EXIT_INTERRUPTED || h->exit.reason == PTA_EXIT_SHUTDOWN);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t pointers[] = { CPU_DATA, CPU_DATA + 0xff8, CPU_CODE, CPU_MMIO,
                                         CPU_STACK - 64 };
    if (size < 10 || size > 1024) {
        return 0;
    }
    if (!harness[0]) {
        set_up();
    }
    bool lent = data[0] & 0x10;
    CpuHarness *h = (lent ? stepper : harness)[data[0] % 3];
    bool step = data[0] & 0x80;
    cpu_harness_clear(h);
    h->c->cr4 |= X86_CR4_OSXSAVE;
    h->c->xcr0 = 3;
    cpu_harness_code(h, data[0] & 0x40 ? 0xff8 : 0, data + 9, size - 9);
    for (unsigned i = 0; i < 16; i++) {
        uint8_t how = data[1 + i % 8] >> (i / 8 * 4) & 15;
        if (i != PTA_X86_RSP) {
            h->c->gpr[i] = how < 5 ? pointers[how] : how < 10 ? how : UINT64_MAX << (how * 4);
        }
        if (h->bits != 64) {
            h->c->gpr[i] = (uint32_t)h->c->gpr[i];
        }
    }
    if (lent) {
        run_lent(h);
    } else if (data[0] & 0x20) {
        run_debugged(h, data[1], data[2]);
    } else if (step) { /* as KVM's helper does it */
        for (unsigned i = 0; i < STEPS && h->c->events.activity == PTA_X86_RUNNING; i++) {
            x86_step(h->c);
        }
    } else {
        set_watch(h);
        cpu_harness_run(h);
        set_watch(NULL);
    }
    return 0;
}
