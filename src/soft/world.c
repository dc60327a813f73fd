/*
 * What the VPs of a partition must know of one another: who is executing guest code, waiting until
 * another VP has seen something, and stopping all others for one instruction.
 *
 * Two words make this work without a lock in the common case: X86Cpu.inside and X86Machine.stopper.
 * A VP sets `inside` and then reads `stopper`; who stops the world sets `stopper` and then reads each
 * `inside`. So either the one sees that it has to wait, or the other does.
 *
 * Nobody waits while inside, so there is nothing to deadlock on: a VP that waits for another one may
 * itself be stopped, or be asked for something, which it does before it touches memory again. Waiting
 * first looks a few times, for the other VP is usually at the end of a block within a microsecond,
 * and then sleeps, for it may not even have a core.
 */
#include "config.h"

#include "src/soft/soft.h"

#include "src/soft/engine.h"

#define LOOKS 500

typedef bool Ready(const X86Machine *m, const X86Cpu *vp, uint64_t arg);

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void wait_until(X86Machine *m, Ready *ready, const X86Cpu *vp, uint64_t arg)
{
    for (unsigned i = 0; i < LOOKS; i++) {
        if (ready(m, vp, arg)) {
            return;
        }
        relax();
    }
    g_mutex_lock(&m->sync_lock);
    __atomic_add_fetch(&m->n_waiting, 1, __ATOMIC_SEQ_CST);
    while (!ready(m, vp, arg)) {
        g_cond_wait(&m->sync_cond, &m->sync_lock);
    }
    __atomic_sub_fetch(&m->n_waiting, 1, __ATOMIC_SEQ_CST);
    g_mutex_unlock(&m->sync_lock);
}

/* Comes after a sequentially consistent store of what somebody may wait for. */
void x86_tell_waiters(X86Machine *m)
{
    if (G_UNLIKELY(__atomic_load_n(&m->n_waiting, __ATOMIC_SEQ_CST) != 0)) {
        g_mutex_lock(&m->sync_lock);
        g_cond_broadcast(&m->sync_cond);
        g_mutex_unlock(&m->sync_lock);
    }
}

static bool is_inside(const X86Cpu *vp)
{
    return __atomic_load_n(&vp->inside, __ATOMIC_SEQ_CST);
}

static const X86Cpu *stopper(const X86Machine *m)
{
    return __atomic_load_n(&m->stopper, __ATOMIC_SEQ_CST);
}

/* ---- inside ---- */

static bool world_runs(const X86Machine *m, const X86Cpu *vp, uint64_t arg)
{
    (void)vp, (void)arg;
    return !stopper(m);
}

static void set_inside(X86Cpu *c)
{
    __atomic_store_n(&c->inside, 1, __ATOMIC_SEQ_CST);
}

void x86_leave(X86Cpu *c)
{
    __atomic_store_n(&c->inside, 0, __ATOMIC_SEQ_CST);
    x86_tell_waiters(c->machine);
}

void x86_enter(X86Cpu *c)
{
    X86Machine *m = c->machine;
    set_inside(c);
    while (G_UNLIKELY(stopper(m))) {
        x86_leave(c);
        wait_until(m, world_runs, NULL, 0);
        set_inside(c);
    }
    if (__atomic_load_n(&c->attention, __ATOMIC_SEQ_CST) & X86_ATT_FLUSH) {
        x86_blocks_protect(c);
    }
}

/* ---- waiting for another VP ---- */

static bool request_done(const X86Machine *m, const X86Cpu *vp, uint64_t asked)
{
    (void)m;
    return __atomic_load_n(&vp->blocks->done, __ATOMIC_SEQ_CST) >= asked || !is_inside(vp);
}

void x86_wait_request(X86Cpu *c, X86Cpu *vp, uint64_t asked)
{
    if (request_done(c->machine, vp, asked)) {
        return;
    }
    c->stats[X86_STAT_WAIT]++;
    x86_leave(c);
    wait_until(c->machine, request_done, vp, asked);
    x86_enter(c);
}

void x86_wait_request_host(X86Machine *m, const X86Cpu *vp, uint64_t asked)
{
    wait_until(m, request_done, vp, asked);
}

/* ---- stopping all others ---- */

static bool is_outside(const X86Machine *m, const X86Cpu *vp, uint64_t arg)
{
    (void)m, (void)arg;
    return !is_inside(vp);
}

void x86_lock_world(X86Cpu *c)
{
    X86Machine *m = c->machine;
    if (c->world_depth++ > 0 || m->n_vps == 1) {
        return;
    }
    c->stats[X86_STAT_WORLD]++;
    x86_leave(c);
    g_mutex_lock(&m->world);
    __atomic_store_n(&m->stopper, c, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < m->n_vps; i++) {
        if (m->vps[i] && m->vps[i] != c && is_inside(m->vps[i])) {
            x86_attend(m->vps[i], X86_ATT_FLUSH);
        }
    }
    for (unsigned i = 0; i < m->n_vps; i++) {
        if (m->vps[i] && m->vps[i] != c) {
            wait_until(m, is_outside, m->vps[i], 0);
        }
    }
    set_inside(c);
    x86_blocks_protect(c);
}

void x86_unlock_world(X86Cpu *c)
{
    X86Machine *m = c->machine;
    g_assert(c->world_depth > 0);
    if (--c->world_depth > 0 || m->n_vps == 1) {
        return;
    }
    __atomic_store_n(&m->stopper, NULL, __ATOMIC_SEQ_CST);
    g_mutex_unlock(&m->world);
    x86_tell_waiters(m);
}

void x86_world_attend(X86Cpu *c)
{
    if (stopper(c->machine)) {
        x86_leave(c);
        x86_enter(c);
    }
}

void x86_serialize(const X86Cpu *c)
{
    if (c->machine->n_vps > 1) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
}
