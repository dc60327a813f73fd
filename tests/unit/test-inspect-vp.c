/* Inspect of virtual processors that run, that do not come out of a device, that go away meanwhile. */
#include "config.h"

#include "src/machine/inspect-vp.h"
#include "tests/lib/partition-fixture.h"

typedef struct Look {
    unsigned done;
    PtaInspectNode *node;
} Look;

static void on_done(void *data, PtaInspectNode *node)
{
    Look *look = data;
    look->done++;
    look->node = node;
}

static void look_at(PtaVm *vm, unsigned index, const char *path, unsigned deadline_ms, Look *look)
{
    PtaVpRef ref = { vm, index }; /* not needed for what comes later */
    PtaInspectParams params = { .path = path, .depth = UINT_MAX };
    *look = (Look){ 0 };
    pta_inspect_start(pta_vp_inspect, &ref, &params, deadline_ms, on_done, look);
}

static void assert_registers(Look *look)
{
    assert_int_equal(look->done, 1);
    const PtaInspectNode *registers = pta_inspect_node_find(look->node, "registers");
    assert_non_null(registers);
    assert_int_equal(registers->kind, PTA_INSPECT_DIR);
    assert_non_null(pta_inspect_node_find(registers, "rip"));
    g_clear_pointer(&look->node, pta_inspect_node_free);
}

static void registers_of_running_vps(void **state)
{
    Fixture *f = *state;
    PtaVm vm = { .partition = f->p, .backend = &fake_backend };
    Look looks[N_VPS];
    pta_partition_start(f->p);
    for (unsigned i = 0; i < N_VPS; i++) {
        fixture_wait_running(f, i);
        look_at(&vm, i, "", 60000, &looks[i]);
        assert_int_equal(looks[i].done, 0); /* it was not waited for */
    }
    for (unsigned i = 0; i < N_VPS; i++) {
        fixture_wait_for(&looks[i].done, 1);
        assert_registers(&looks[i]);
        uint64_t before = fake_vp_executed(fixture_vp(f, i));
        while (fake_vp_executed(fixture_vp(f, i)) == before) {} /* it went on */
    }
    /* What else there is does not take it out. */
    unsigned entered = fake_vp_entered(fixture_vp(f, 0));
    look_at(&vm, 0, "state", 60000, &looks[0]);
    assert_int_equal(looks[0].done, 1);
    assert_string_equal(looks[0].node->value.str, "running");
    pta_inspect_node_free(looks[0].node);
    assert_int_equal(fake_vp_entered(fixture_vp(f, 0)), entered);
    pta_partition_stop(f->p);
    look_at(&vm, 0, "", 60000, &looks[0]);
    fixture_wait_for(&looks[0].done, 1);
    assert_registers(&looks[0]);
}

/* ---- a VP that is in a device, which takes its time ---- */

typedef struct Door {
    GMutex lock;
    GCond changed;
    bool inside, open; /* LOCKED */
} Door;

static void wait_at_door(void *opaque)
{
    Door *door = opaque;
    g_mutex_lock(&door->lock);
    door->inside = true;
    g_cond_broadcast(&door->changed);
    while (!door->open) {
        g_cond_wait(&door->changed, &door->lock);
    }
    g_mutex_unlock(&door->lock);
}

static void lead_in(Fixture *f, unsigned vp, Door *door)
{
    g_mutex_init(&door->lock);
    g_cond_init(&door->changed);
    fake_vp_in_guest(fixture_vp(f, vp), wait_at_door, door);
    pta_partition_start(f->p);
    g_mutex_lock(&door->lock);
    while (!door->inside) {
        g_cond_wait(&door->changed, &door->lock);
    }
    g_mutex_unlock(&door->lock);
}

static void open_door(Door *door)
{
    g_mutex_lock(&door->lock);
    door->open = true;
    g_cond_broadcast(&door->changed);
    g_mutex_unlock(&door->lock);
}

static void door_clear(Door *door)
{
    g_cond_clear(&door->changed);
    g_mutex_clear(&door->lock);
}

static void a_vp_that_does_not_answer_in_time(void **state)
{
    Fixture *f = *state;
    PtaVm vm = { .partition = f->p, .backend = &fake_backend };
    Door door = { 0 };
    Look stuck, other;
    lead_in(f, 1, &door);
    look_at(&vm, 1, "", 200, &stuck);
    look_at(&vm, 2, "", 60000, &other);
    fixture_wait_for(&other.done, 1); /* while that one is stuck */
    assert_registers(&other);
    assert_int_equal(stuck.done, 0);
    fixture_wait_for(&stuck.done, 1);
    const PtaInspectNode *registers = pta_inspect_node_find(stuck.node, "registers");
    assert_int_equal(registers->kind, PTA_INSPECT_FAILED);
    assert_int_equal(registers->error.code, PTA_INSPECT_UNRESOLVED);
    assert_non_null(pta_inspect_node_find(stuck.node, "state")); /* the rest is there */
    pta_inspect_node_free(stuck.node);
    /* It comes out: the answer is too late and does no harm; the next question is answered. */
    open_door(&door);
    look_at(&vm, 1, "", 60000, &stuck);
    fixture_wait_for(&stuck.done, 1);
    assert_registers(&stuck);
    pta_partition_stop(f->p);
    fixture_drain();
    door_clear(&door);
}

static void the_partition_goes_meanwhile(void **state)
{
    Fixture *f = *state;
    PtaVm vm = { .partition = f->p, .backend = &fake_backend };
    Door door = { 0 };
    Look look;
    lead_in(f, 0, &door);
    look_at(&vm, 0, "", 60000, &look);
    open_door(&door);
    pta_partition_stop(f->p);
    g_clear_pointer(&f->p, pta_partition_free);
    fixture_wait_for(&look.done, 1); /* it had been asked while it was there */
    assert_registers(&look);
    door_clear(&door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(registers_of_running_vps),
        CASE(a_vp_that_does_not_answer_in_time),
        CASE(the_partition_goes_meanwhile),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
