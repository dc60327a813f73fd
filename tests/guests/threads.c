/*
 * A program for Linux on several VPs: threads and processes that share, wait, map and unmap, with a
 * check of every result. Static; prints a line for each part, "threads: ok …" or "threads: FAILED …".
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 4000 };

static long cpus;
static int failed;

static void report(bool good, const char *what)
{
    printf("threads: %s %s\n", good ? "ok" : "FAILED", what);
    fflush(stdout);
    failed |= !good;
}

/* Runs fn in `n` threads; the number of those that returned NULL. */
static unsigned run(unsigned n, void *(*fn)(void *))
{
    pthread_t thread[THREADS];
    unsigned good = 0;
    for (uintptr_t i = 0; i < n; i++) {
        if (pthread_create(&thread[i], NULL, fn, (void *)i) != 0) {
            perror("threads: pthread_create");
            exit(2);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        void *result;
        pthread_join(thread[i], &result);
        good += !result;
    }
    return good;
}

/* ---- mutexes, spin locks, atomics ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_spinlock_t spin;
static uint64_t under_mutex, under_spin, atomic_add, atomic_cas;

static void *count(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        under_mutex++;
        pthread_mutex_unlock(&mutex);
        pthread_spin_lock(&spin);
        under_spin++;
        pthread_spin_unlock(&spin);
        __atomic_fetch_add(&atomic_add, 3, __ATOMIC_SEQ_CST);
        uint64_t old = __atomic_load_n(&atomic_cas, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&atomic_cas, &old, old + 1, true, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED)) {}
    }
    return NULL;
}

/* ---- condition variables: a queue of four ---- */

static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER, not_empty = PTHREAD_COND_INITIALIZER;
static unsigned queue[4], queued, head;
static uint64_t put_sum, got_sum;

static void *produce_or_consume(void *arg)
{
    bool producer = (uintptr_t)arg & 1;
    for (unsigned i = 1; i <= ROUNDS / 2; i++) {
        pthread_mutex_lock(&mutex);
        if (producer) {
            while (queued == 4) {
                pthread_cond_wait(&not_full, &mutex);
            }
            queue[(head + queued++) % 4] = i;
            put_sum += i;
            pthread_cond_signal(&not_empty);
        } else {
            while (queued == 0) {
                pthread_cond_wait(&not_empty, &mutex);
            }
            got_sum += queue[head];
            head = (head + 1) % 4;
            queued--;
            pthread_cond_signal(&not_full);
        }
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

/* ---- futexes: pairs that take turns ---- */

static struct {
    uint32_t turn;
    uint32_t value;
    char pad[56];
} pairs[THREADS / 2];

static void *ping_pong(void *arg)
{
    unsigned pair = (unsigned)(uintptr_t)arg / 2;
    uint32_t me = (uint32_t)(uintptr_t)arg & 1;
    uint32_t *turn = &pairs[pair].turn;
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        while (__atomic_load_n(turn, __ATOMIC_ACQUIRE) != me) {
            syscall(SYS_futex, turn, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
        }
        if (pairs[pair].value++ != i * 2 + me) {
            return arg ? arg : (void *)1;
        }
        __atomic_store_n(turn, !me, __ATOMIC_RELEASE);
        syscall(SYS_futex, turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return NULL;
}

/* ---- memory: every thread maps, fills, checks, protects, moves and unmaps ---- */

static bool holds(const uint64_t *p, size_t n, uint64_t value)
{
    for (size_t i = 0; i < n; i += 64) {
        if (p[i] != value + i) {
            return false;
        }
    }
    return true;
}

static void *map_and_unmap(void *arg)
{
    size_t size = 16 * 4096;
    size_t n = size / 8;
    for (uint64_t round = 0; round < 60; round++) {
        uint64_t value = round << 32 | (uint64_t)(uintptr_t)arg << 16;
        uint64_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || p[0] != 0 || p[n - 1] != 0) {
            return (void *)1;
        }
        for (size_t i = 0; i < n; i += 64) {
            p[i] = value + i;
        }
        if (mprotect(p, size, PROT_READ) != 0 || !holds(p, n, value) ||
            mprotect(p, size, PROT_READ | PROT_WRITE) != 0) {
            return (void *)1;
        }
        p = mremap(p, size, 2 * size, MREMAP_MAYMOVE);
        if (p == MAP_FAILED || !holds(p, n, value) || p[n] != 0) {
            return (void *)1;
        }
        if (madvise(p, size, MADV_DONTNEED) != 0 || p[64] != 0 || munmap(p, 2 * size) != 0) {
            return (void *)1;
        }
    }
    return NULL;
}

/* ---- processes ---- */

static uint32_t *shared;

static void *fork_storm(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < 12; i++) {
        uint64_t copied = (uint64_t)me << 8 | i; /* on a stack that the child gets a copy of */
        pid_t pid = fork();
        if (pid == 0) {
            for (unsigned k = 0; k < 100; k++) {
                __atomic_fetch_add(shared, 1, __ATOMIC_SEQ_CST);
            }
            _exit(copied == ((uint64_t)me << 8 | i) ? (int)(i + me) : 99);
        }
        copied = 0;
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
            WEXITSTATUS(status) != (int)(i + me) || copied != 0) {
            return (void *)1;
        }
    }
    return NULL;
}

/* ---- code that one thread writes and the others run ---- */

static uint8_t *code;
static uint32_t version, runs;

static void *jit(void *arg)
{
    for (uint32_t k = 1; k <= 100; k++) {
        uint8_t *at = code + k * 32;
        if (!arg) {
            at[0] = 0xb8; /* mov $k, %eax; ret */
            memcpy(at + 1, &k, 4);
            at[5] = 0xc3;
            __atomic_store_n(&version, k, __ATOMIC_RELEASE);
            while (__atomic_load_n(&runs, __ATOMIC_ACQUIRE) != k * 3) {
                sched_yield();
            }
        } else {
            while (__atomic_load_n(&version, __ATOMIC_ACQUIRE) != k) {
                sched_yield();
            }
            if (((uint32_t(*)(void))(uintptr_t)at)() != k) {
                return (void *)1;
            }
            __atomic_fetch_add(&runs, 1, __ATOMIC_SEQ_CST);
        }
    }
    return NULL;
}

/* ---- every CPU, and the clock on the way from one to the next ---- */

static void *wander(void *arg)
{
    struct timespec last = { 0, 0 };
    for (long i = 0; i < 40 * cpus; i++) {
        cpu_set_t set;
        CPU_ZERO(&set);
        long cpu = (i + (long)(uintptr_t)arg) % cpus;
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set) != 0 || sched_getcpu() != (int)cpu) {
            return (void *)1;
        }
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec)) {
            return (void *)1;
        }
        last = now;
    }
    return NULL;
}

int main(void)
{
    cpus = sysconf(_SC_NPROCESSORS_ONLN);
    printf("threads: %ld CPUs\n", cpus);
    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    bool all = run(THREADS, count) == THREADS;
    uint64_t n = THREADS * ROUNDS;
    report(all && under_mutex == n && under_spin == n, "mutexes and spin locks");
    report(atomic_add == 3 * n && atomic_cas == n, "atomic operations");
    all = run(THREADS, produce_or_consume) == THREADS;
    report(all && queued == 0 && put_sum == got_sum, "condition variables");
    report(run(THREADS, ping_pong) == THREADS, "futexes");
    report(run(THREADS, map_and_unmap) == THREADS, "mmap, mprotect, mremap, munmap");
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    report(run(4, fork_storm) == 4 && *shared == 4 * 12 * 100, "fork");
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    report(run(4, jit) == 4, "code written by another thread");
    report(run(4, wander) == 4, "affinity and the clock");
    printf("threads: end %d\n", failed);
    return failed;
}
