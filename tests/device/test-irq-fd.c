/*
 * Eventfds of interrupt lines, with a kernel that the test plays: what is signalled arrives, by
 * whichever way is open just then, and is in the interrupt controller when the eventfd has stopped.
 */
#include "fixture.h"

#include <unistd.h>

#include "devices/irq-fd.h"

#define PIN 5

typedef struct Bench {
    Fixture f;
    PtaIrqFds *fds;
    PtaIrqFd *fd;
    PtaIrqLine line;
    int bound_fd; /* the kernel's; -1 */
    bool refuse;
    int by_kernel; /* ATOMIC: interrupts that it sent */
    int by_pin;    /* ATOMIC: edges */
    int level;
    int announced; /* ATOMIC: what the device wants to be seen … */
    int seen;      /* ATOMIC: … and what the last interrupt showed */
} Bench;

static void interrupted(Bench *b, int *by)
{
    int now = g_atomic_int_get(&b->announced);
    int before;
    do { /* interrupts may overtake one another */
        before = g_atomic_int_get(&b->seen);
    } while (before < now && !g_atomic_int_compare_and_exchange(&b->seen, before, now));
    g_atomic_int_inc(by);
}

static void on_pin(void *opaque, unsigned pin, bool level)
{
    Bench *b = opaque;
    assert_int_equal(pin, PIN);
    if (level && !g_atomic_int_get(&b->level)) {
        interrupted(b, &b->by_pin);
    }
    g_atomic_int_set(&b->level, level);
}

/* The kernel takes what is in the counter: when it is signalled, when it gets it and when it goes. */
static void kernel_looks(Bench *b)
{
    uint64_t count;
    if (b->bound_fd >= 0 && read(b->bound_fd, &count, sizeof(count)) == sizeof(count)) {
        interrupted(b, &b->by_kernel);
    }
}

static bool on_bind(void *opaque, unsigned pin, int fd, bool on, GError **error)
{
    Bench *b = opaque;
    assert_int_equal(pin, PIN);
    assert_int_equal(b->bound_fd, on ? -1 : fd);
    if (on && b->refuse) {
        return pta_throw(error, PTA_ERROR_HOST, "KVM_IRQFD: no");
    }
    if (on) {
        b->bound_fd = fd;
        kernel_looks(b);
    } else {
        kernel_looks(b);
        b->bound_fd = -1;
    }
    return true;
}

static void bench_open(Bench *b, bool direct)
{
    memset(b, 0, sizeof(*b));
    fix_new(&b->f);
    b->bound_fd = -1;
    b->fds = pta_irq_fds_new(&(PtaIrqFdsParams){
        .n_pins = 24,
        .context = b->f.context,
        .set = on_pin,
        .set_opaque = b,
        .bind = direct ? on_bind : NULL,
        .bind_opaque = b,
    });
    assert_int_equal(pta_irq_fds_direct(b->fds), direct);
    b->line = (PtaIrqLine){ .set = on_pin, .opaque = b, .pin = PIN, .fds = b->fds };
    b->fd = pta_irq_fd_new(&b->line, NULL);
    assert_non_null(b->fd);
}

static void bench_close(Bench *b)
{
    pta_irq_fd_free(b->fd);
    pta_irq_fds_free(b->fds);
    fix_free(&b->f);
}

/* As another process would. */
static void signal_fd(Bench *b)
{
    static const uint64_t one = 1;
    g_atomic_int_inc(&b->announced);
    assert_int_equal(write(pta_irq_fd_get(b->fd), &one, sizeof(one)), sizeof(one));
}

static void without_a_back_end_it_is_watched(void **unused)
{
    (void)unused;
    Bench b;
    bench_open(&b, false);
    pta_irq_fds_route(b.fds, PIN, true);
    signal_fd(&b); /* not started: it waits */
    fix_run(&b.f);
    assert_int_equal(b.by_pin, 0);
    pta_irq_fd_start(b.fd);
    fix_run(&b.f);
    assert_int_equal(b.by_pin, 1);
    signal_fd(&b);
    signal_fd(&b); /* before anybody looks: one edge */
    fix_run(&b.f);
    assert_int_equal(b.by_pin, 2);
    assert_int_equal(b.level, 0);
    assert_false(pta_irq_fd_signal(b.fd));
    /* In flight when it stops: on return it is in the interrupt controller. */
    signal_fd(&b);
    pta_irq_fd_stop(b.fd);
    assert_int_equal(b.by_pin, 3);
    fix_run(&b.f);
    assert_int_equal(b.by_pin, 3);
    bench_close(&b);
}

static void the_kernel_has_it_while_it_can_send(void **unused)
{
    (void)unused;
    Bench b;
    bench_open(&b, true);
    pta_irq_fd_start(b.fd); /* masked: no route yet */
    assert_int_equal(b.bound_fd, -1);
    assert_false(pta_irq_fd_signal(b.fd));
    signal_fd(&b);
    fix_run(&b.f);
    assert_int_equal(b.by_pin, 1); /* where it waits for the mask to go */
    pta_irq_fds_route(b.fds, PIN, true);
    assert_int_equal(b.bound_fd, pta_irq_fd_get(b.fd));
    assert_true(pta_irq_fd_signal(b.fd));
    assert_int_equal(pta_irq_fds_signalled(b.fds, PIN), 1);
    kernel_looks(&b);
    fix_run(&b.f);
    assert_int_equal(b.by_kernel, 1);
    assert_int_equal(b.by_pin, 1);
    /* Masked with a signal under way: sent by the route that it still has. */
    signal_fd(&b);
    pta_irq_fds_route(b.fds, PIN, false);
    assert_int_equal(b.by_kernel, 2);
    assert_int_equal(b.bound_fd, -1);
    /* Signalled while masked, nobody has looked yet, and unmasked: once. */
    signal_fd(&b);
    pta_irq_fds_route(b.fds, PIN, true);
    fix_run(&b.f);
    assert_int_equal(b.by_kernel, 3);
    assert_int_equal(b.by_pin, 1);
    /* Stopped, and masked and unmasked by the restore of another state: nobody has it. */
    signal_fd(&b);
    pta_irq_fd_stop(b.fd);
    assert_int_equal(b.by_kernel, 4);
    assert_int_equal(b.bound_fd, -1);
    pta_irq_fds_route(b.fds, PIN, false);
    pta_irq_fds_route(b.fds, PIN, true);
    assert_int_equal(b.bound_fd, -1);
    pta_irq_fd_start(b.fd);
    assert_int_equal(b.bound_fd, pta_irq_fd_get(b.fd));
    pta_irq_fd_stop(b.fd);
    bench_close(&b);
}

static void a_refusal_is_the_long_way(void **unused)
{
    (void)unused;
    Bench b;
    bench_open(&b, true);
    b.refuse = true;
    pta_irq_fds_route(b.fds, PIN, true);
    g_test_expect_message("devices", G_LOG_LEVEL_WARNING, "*KVM_IRQFD: no*");
    pta_irq_fd_start(b.fd);
    g_test_assert_expected_messages();
    signal_fd(&b);
    fix_run(&b.f);
    assert_int_equal(b.by_pin, 1);
    pta_irq_fd_stop(b.fd);
    bench_close(&b);
}

static gpointer flip_routes(gpointer data)
{
    Bench *b = data;
    for (int i = 0; g_atomic_int_get(&b->announced) >= 0; i++) {
        pta_irq_fds_route(b->fds, PIN, i & 1);
        if (i % 15 == 0) {
            g_usleep(20);
        }
    }
    return NULL;
}

/* As a device does it, against a guest that masks and unmasks: what was announced has been seen when it
 * stands still. */
static void nothing_is_lost(void **unused)
{
    (void)unused;
    Bench b;
    bench_open(&b, true);
    fix_start_thread(&b.f);
    GThread *flipper = g_thread_new("guest", flip_routes, &b);
    int64_t deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    int direct = 0;
    for (int round = 1; round <= 400 || direct < 100; round++) {
        assert_true(g_get_monotonic_time() < deadline);
        pta_irq_fd_start(b.fd);
        for (int i = 0; i < round % 7 + 1; i++) {
            g_atomic_int_inc(&b.announced);
            if (pta_irq_fd_signal(b.fd)) {
                direct++;
            } else {
                on_pin(&b, PIN, false);
                on_pin(&b, PIN, true);
            }
        }
        pta_irq_fd_stop(b.fd);
        assert_int_equal(g_atomic_int_get(&b.seen), g_atomic_int_get(&b.announced));
    }
    g_atomic_int_set(&b.announced, -1);
    g_thread_join(flipper);
    bench_close(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_back_end_it_is_watched),
        cmocka_unit_test(the_kernel_has_it_while_it_can_send),
        cmocka_unit_test(a_refusal_is_the_long_way),
        cmocka_unit_test(nothing_is_lost),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
