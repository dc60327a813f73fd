/* A VP: its life, and the loop around KVM_RUN. The VP's thread, but for the kick. */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the kick ---- */

/* Interrupts KVM_RUN and does nothing else. Not a real-time signal: of those only so many wait at a time. */
#define KICK_SIGNAL SIGUSR1

static void on_kick(int signum)
{
    (void)signum;
}

void kvm_install_kick_signal(void)
{
    struct sigaction action = { .sa_handler = on_kick, .sa_flags = SA_RESTART };
    sigaction(KICK_SIGNAL, &action, NULL);
}

/*
 * immediate_exit makes the next KVM_RUN come back at once, a signal the one under way. The VP says
 * that it is in KVM_RUN before the kernel looks at immediate_exit, and here it is the other way
 * round: one of the two sees the other. False: it is not in KVM_RUN.
 */
static bool leave_kvm_run(KvmVp *vp)
{
    __atomic_store_n(&vp->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    int tid = __atomic_load_n(&vp->tid, __ATOMIC_SEQ_CST);
    if (tid != 0) {
        syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL);
    }
    return tid != 0;
}

void kvm_vp_kick(PtaBackendVp *be_vp)
{
    KvmVp *vp = kvm_vp_of(be_vp);
    __atomic_store_n(&vp->kicked, true, __ATOMIC_SEQ_CST);
    leave_kvm_run(vp);
}

/* KVM_NMI is a VP's own call: it would wait for a VP that is in KVM_RUN, until that comes out by itself. */
void kvm_nmi(PtaBackend *be, unsigned index)
{
    KvmPartition *m = kvm_of(be);
    g_assert(index < m->n_vps);
    __atomic_store_n(&m->vps[index]->nmi, true, __ATOMIC_SEQ_CST);
    leave_kvm_run(m->vps[index]);
}

void kvm_vp_take_nmi(KvmVp *vp)
{
    if (G_UNLIKELY(__atomic_load_n(&vp->nmi, __ATOMIC_SEQ_CST)) &&
        __atomic_exchange_n(&vp->nmi, false, __ATOMIC_SEQ_CST) &&
        kvm_ioctl(vp->fd, KVM_NMI, NULL) < 0) {
        g_warning("vp%u: KVM_NMI: %s", vp->vp.index, g_strerror(errno));
    }
}

bool kvm_vp_take_kick(KvmVp *vp)
{
    /* In this order, the other way round than who kicks: none gets lost. */
    __atomic_store_n(&vp->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    kvm_vp_take_nmi(vp);
    return __atomic_exchange_n(&vp->kicked, false, __ATOMIC_SEQ_CST);
}

/* A VP that was told to come out, and has not yet. */
static bool is_inside(const KvmVp *vp, unsigned rounds)
{
    return __atomic_load_n(&vp->rounds, __ATOMIC_SEQ_CST) == rounds &&
           __atomic_load_n(&vp->tid, __ATOMIC_SEQ_CST) != 0;
}

void kvm_vps_come_out(KvmPartition *m)
{
    unsigned rounds[PTA_MAX_VPS];
    uint64_t waits = 0;
    for (unsigned i = 0; i < m->n_vps; i++) {
        rounds[i] = __atomic_load_n(&m->vps[i]->rounds, __ATOMIC_SEQ_CST);
        if (leave_kvm_run(m->vps[i])) {
            waits |= UINT64_C(1) << i;
        }
    }
    /* Microseconds, if they have a core of their own: not worth a wake-up from each of a VP's exits. */
    for (unsigned turns = 0; waits; turns++) {
        unsigned i = (unsigned)__builtin_ctzll(waits);
        if (!is_inside(m->vps[i], rounds[i])) {
            waits &= waits - 1;
        } else if (turns < 100) {
            sched_yield();
        } else {
            g_usleep(50);
        }
    }
}

/* ---- life ---- */

static bool map_run(KvmVp *vp, GError **error)
{
    KvmPartition *m = vp->m;
    void *run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vp->fd, 0);
    if (run == MAP_FAILED) {
        return pta_throw_errno(error, errno, "vp%u: cannot map struct kvm_run", vp->vp.index);
    }
    vp->run = run;
    unsigned page = m->caps.coalesced_page;
    if (page != 0 && !m->coalesced && (page + 1) * PTA_PAGE_SIZE <= m->run_size) {
        /* One ring a VM: every VP's mapping shows the same. */
        m->coalesced = (void *)((uint8_t *)run + page * PTA_PAGE_SIZE);
    }
    return true;
}

static bool set_up(KvmVp *vp, GError **error)
{
    g_autofree PtaX86State *state = g_new(PtaX86State, 1);
    pta_x86_state_reset(state, vp->vp.index, vp->vp.index == 0);
    kvm_clock_vp_init(vp);
    return kvm_vp_set_cpuid(vp, error) && kvm_msrs_init(vp, error) &&
           kvm_hyperv_vp_init(vp, error) && kvm_dirty_vp_init(vp, error) &&
           kvm_vp_set_state(&vp->vp, state, error);
}

PtaBackendVp *kvm_vp_create(PtaBackend *be, unsigned index, GError **error)
{
    KvmPartition *m = kvm_of(be);
    g_assert(index < m->n_vps && !m->vps[index]);
    if (!kvm_memory_commit(m, error)) {
        return NULL;
    }
    int fd = kvm_ioctl_val(m->vm_fd, KVM_CREATE_VCPU, index);
    if (fd < 0) {
        pta_throw_errno(error, errno, "vp%u: KVM_CREATE_VCPU", index);
        return NULL;
    }
    KvmVp *vp = g_new0(KvmVp, 1);
    vp->vp.be = be;
    vp->vp.index = index;
    vp->m = m;
    vp->fd = fd;
    vp->frozen.valid = true; /* the clock of a new partition stands still */
    m->vps[index] = vp;
    if (!map_run(vp, error) || !set_up(vp, error)) {
        g_prefix_error(error, "vp%u: ", index);
        kvm_vp_destroy(&vp->vp);
        return NULL;
    }
    return &vp->vp;
}

void kvm_vp_destroy(PtaBackendVp *be_vp)
{
    KvmVp *vp = kvm_vp_of(be_vp);
    KvmPartition *m = vp->m;
    kvm_dirty_vp_fini(vp);
    kvm_msrs_fini(vp);
    if (vp->run) {
        if (vp->vp.index == 0) {
            m->coalesced = NULL;
        }
        munmap(vp->run, m->run_size);
    }
    pta_close(vp->fd);
    m->vps[vp->vp.index] = NULL;
    g_free(vp->scratch);
    g_free(vp);
}

/* ---- running ---- */

/* KVM_RUN, once, in this thread: 0 or errno. */
static int enter(KvmVp *vp, int tid)
{
    __atomic_store_n(&vp->tid, tid, __ATOMIC_SEQ_CST);
    int r = kvm_ioctl(vp->fd, KVM_RUN, NULL);
    int errnum = r < 0 ? errno : 0;
    __atomic_store_n(&vp->tid, 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&vp->rounds, 1, __ATOMIC_SEQ_CST);
    vp->stats[KVM_STAT_EXITS]++;
    return errnum;
}

/*
 * MMIO, ports and MSRs are finished by the next KVM_RUN only, so a VP is never left right after one
 * of them: a kick makes that KVM_RUN finish it and come back with EINTR.
 */
void kvm_vp_loop(KvmVp *vp, PtaExit *exit)
{
    exit->reason = PTA_EXIT_INTERRUPTED;
    int tid = (int)syscall(SYS_gettid);
    kvm_vp_take_nmi(vp);
    for (;;) {
        int errnum = enter(vp, tid);
        kvm_coalesced_drain(vp->m, vp);
        if (errnum == EINTR || errnum == EAGAIN) {
            if (G_UNLIKELY(vp->armed.step) && kvm_debug_stepped(vp, exit)) {
                return; /* a kick is for the next time */
            }
            if (kvm_vp_take_kick(vp)) {
                vp->stats[KVM_STAT_KICK]++;
                kvm_vp_settle(vp);
                return;
            }
            continue; /* an NMI, a signal of somebody else's, or an AP that has not begun */
        }
        if (errnum != 0) {
            kvm_internal_error(exit, "KVM_RUN: %s", g_strerror(errnum));
            return;
        }
        if (!kvm_vp_exit(vp, exit)) {
            return;
        }
        if (G_UNLIKELY(vp->armed.step)) { /* the access is finished, and then we look */
            __atomic_store_n(&vp->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        }
    }
}

/*
 * A signal that waits makes KVM_RUN come back before it enters the guest, but behind what it does on
 * the way there; immediate_exit would before that. The signal is this thread's own, and is taken from
 * it again.
 */
void kvm_vp_settle(KvmVp *vp)
{
    /* Its size is that of the kernel's sigset_t, which follows it. */
    _Alignas(struct kvm_signal_mask) uint8_t mask[sizeof(struct kvm_signal_mask) + 8];
    const uint32_t set_size = 8;
    sigset_t kick, before;
    PtaExit exit;
    sigemptyset(&kick);
    sigaddset(&kick, KICK_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &kick, &before);
    /* All others stay blocked in there. */
    uint64_t others = ~(UINT64_C(1) << (KICK_SIGNAL - 1));
    memcpy(mask, &set_size, sizeof(set_size));
    memcpy(mask + offsetof(struct kvm_signal_mask, sigset), &others, sizeof(others));
    g_autoptr(GError) error = NULL;
    uint8_t leave = 0;
    bool more = kvm_try(vp->fd, KVM_SET_SIGNAL_MASK, mask, &error) && raise(KICK_SIGNAL) == 0;
    for (unsigned turns = 0; more && turns < 16; turns++) {
        /* A kick meanwhile is for later, and comes out too early for us. */
        leave |= __atomic_exchange_n(&vp->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        int errnum = kvm_ioctl(vp->fd, KVM_RUN, NULL) < 0 ? errno : 0;
        if (errnum != 0 && errnum != EINTR && errnum != EAGAIN) {
            pta_throw_errno(&error, errnum, "KVM_RUN");
        }
        more = errnum == 0 ? kvm_vp_exit(vp, &exit)
                           : __atomic_load_n(&vp->run->immediate_exit, __ATOMIC_SEQ_CST) && !error;
    }
    if (leave) {
        __atomic_store_n(&vp->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    }
    sigtimedwait(&kick, NULL, &(struct timespec){ 0 });
    if (!error) {
        kvm_try(vp->fd, KVM_SET_SIGNAL_MASK, NULL, &error);
    }
    if (error) {
        g_warning("vp%u: what the kernel has put off may be lost: %s", vp->vp.index,
                  error->message);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void kvm_vp_run(PtaBackendVp *be_vp, PtaExit *exit)
{
    KvmVp *vp = kvm_vp_of(be_vp);
    if (vp->shutdown) {
        exit->reason = PTA_EXIT_SHUTDOWN;
    } else if (G_UNLIKELY(vp->trap) && !kvm_emulate(vp, exit)) {
        return; /* *exit says why */
    } else if (G_UNLIKELY(vp->debug.enabled)) {
        kvm_debug_run(vp, exit);
    } else {
        kvm_vp_loop(vp, exit);
    }
}
