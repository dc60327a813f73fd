/* KVM's dirty log, each of the ways in which it can be had. */
#include "config.h"

#include "src/kvm/kvm.h"
#include "tests/cpu/dirty-suite.h"
#include "tests/kvm/kvm-host.h"

#include "tests/lib/cmocka-all.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static PtaKvmIoctlFn *host_ioctl;

/* Which capabilities the host is said not to have; which request fails. */
static struct {
    bool no_ring, no_clear;
    unsigned long fails;
} lie;

static int lying_ioctl(int fd, unsigned long request, void *arg)
{
    if (request == KVM_CHECK_EXTENSION) {
        uintptr_t cap = (uintptr_t)arg;
        if ((lie.no_ring &&
             (cap == KVM_CAP_DIRTY_LOG_RING || cap == KVM_CAP_DIRTY_LOG_RING_ACQ_REL)) ||
            (lie.no_clear && cap == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)) {
            return 0;
        }
    }
    if (lie.fails && request == lie.fails) {
        errno = EIO;
        return -1;
    }
    return host_ioctl(fd, request, arg);
}

static unsigned loose(void)
{
    return DIRTY_LOOSE | DIRTY_USER | (kvm_host_interprets() ? DIRTY_LACKS : 0);
}

static bool has_ring(void)
{
    KvmCaps caps;
    int fd = kvm_open(&caps, NULL);
    pta_close(fd);
    return caps.dirty_ring_max != 0;
}

static void stores(void **unused)
{
    dirty_suite_stores(&pta_kvm_backend, loose());
}

static void parts(void **unused)
{
    bool whole = has_ring() || lie.no_clear;
    dirty_suite_parts(&pta_kvm_backend, loose() | (whole ? DIRTY_WHOLE : 0));
}

static void one_vp(void **unused)
{
    dirty_suite_crowd(&pta_kvm_backend, 1, loose());
}

static void four_vps(void **unused)
{
    dirty_suite_crowd(&pta_kvm_backend, 4, loose());
}

static int say(void **state)
{
    lie.no_ring = lie.no_clear = false;
    const char *how = *state;
    lie.no_ring = strcmp(how, "ring") != 0;
    lie.no_clear = strcmp(how, "get") == 0;
    return 0;
}

/* ---- a ring that is too small ---- */

#define BIG_RAM (64 * PTA_MIB)
#define N_PAGES 10000

static void mark(void *opaque, uint64_t gpa, uint64_t bits)
{
    uint64_t *words = opaque;
    assert_true(gpa < BIG_RAM);
    words[gpa / PTA_PAGE_SIZE / 64] |= bits;
}

static unsigned count(const uint64_t *words, uint64_t gpa, unsigned pages)
{
    unsigned n = 0;
    for (uint64_t page = gpa / PTA_PAGE_SIZE; pages-- > 0; page++) {
        n += words[page / 64] >> page % 64 & 1;
    }
    return n;
}

/* Writes to N_PAGES pages from 4 MiB on. */
static void write_all(CpuHarness *h)
{
    static const uint8_t code[] = {
        0xff, 0x07,                               /* 1: inc dword [rdi] */
        0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, /* add rdi, 4096 */
        0xff, 0xc9,                               /* dec ecx */
        0x75, 0xf3,                               /* jnz 1b */
    };
    cpu_harness_code(h, 0, code, sizeof(code));
    cpu_harness_load(h)->regs.gpr[PTA_X86_RDI] = 4 * PTA_MIB;
    h->state->regs.gpr[PTA_X86_RCX] = N_PAGES;
    cpu_harness_store(h);
    assert_int_equal(cpu_harness_run(h), CPU_END);
}

static uint64_t stat(const CpuHarness *h, unsigned which)
{
    uint64_t stats[KVM_N_STATS];
    h->be->ops->vp_get_stats(h->vp, stats);
    return stats[which];
}

static void more_pages_than_the_ring_has(void **unused)
{
    uint64_t words[BIG_RAM / PTA_PAGE_SIZE / 64] = { 0 };
    CpuHarness *h = cpu_harness_new_on(&pta_kvm_backend, 64, BIG_RAM);
    write_all(h);
    assert_true(h->be->ops->dirty_start(h->be, mark, words, NULL));
    for (unsigned round = 1; round <= 3; round++) {
        write_all(h);
        h->be->ops->dirty_fetch(h->be, 0, BIG_RAM);
        assert_int_equal(count(words, 4 * PTA_MIB, N_PAGES), N_PAGES);
        memset(words, 0, sizeof(words));
        if (has_ring()) {
            assert_true(stat(h, KVM_STAT_RING_FULL) >= 2 * round);
        }
    }
    h->be->ops->dirty_stop(h->be);
    write_all(h);
    assert_int_equal(count(words, 0, BIG_RAM / PTA_PAGE_SIZE), 0);
    cpu_harness_free(h);
}

/* ---- what does not work ---- */

static void store_once(CpuHarness *h)
{
    static const uint8_t code[] = { 0x89, 0x07 }; /* mov [rdi], eax */
    cpu_harness_code(h, 0, code, sizeof(code));
    cpu_harness_load(h)->regs.gpr[PTA_X86_RDI] = 4 * PTA_MIB;
    cpu_harness_store(h);
    assert_int_equal(cpu_harness_run(h), CPU_END);
}

static GLogWriterOutput count_warnings(GLogLevelFlags level, const GLogField *fields, gsize n,
                                       gpointer data)
{
    if (level & G_LOG_LEVEL_ERROR) {
        return g_log_writer_default(level, fields, n, NULL);
    }
    ++*(unsigned *)data;
    return G_LOG_WRITER_HANDLED;
}

static unsigned warnings;

/* The kernel refuses: a page is reported too often rather than not at all. */
static void nothing_is_lost(void **unused)
{
    static const unsigned long requests[] = { KVM_RESET_DIRTY_RINGS, KVM_GET_DIRTY_LOG,
                                              KVM_CLEAR_DIRTY_LOG };
    uint64_t words[BIG_RAM / PTA_PAGE_SIZE / 64] = { 0 };
    CpuHarness *h = cpu_harness_new_on(&pta_kvm_backend, 64, BIG_RAM);
    GLogLevelFlags fatal = g_log_set_always_fatal(G_LOG_FATAL_MASK);
    assert_true(h->be->ops->dirty_start(h->be, mark, words, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
        store_once(h);
        lie.fails = requests[i];
        warnings = 0;
        h->be->ops->dirty_fetch(h->be, 0, BIG_RAM);
        unsigned refused = warnings;
        assert_int_equal(count(words, 4 * PTA_MIB, 1), 1);
        memset(words, 0, sizeof(words));
        store_once(h);
        lie.fails = 0;
        h->be->ops->dirty_fetch(h->be, 0, BIG_RAM);
        assert_int_equal(count(words, 4 * PTA_MIB, 1), 1);
        memset(words, 0, sizeof(words));
        h->be->ops->dirty_fetch(h->be, 0, BIG_RAM);
        assert_int_equal(count(words, 4 * PTA_MIB, 1), 0);
        assert_true(refused <= 1);
        assert_true((requests[i] == KVM_RESET_DIRTY_RINGS) == has_ring() || !refused);
    }
    h->be->ops->dirty_stop(h->be);
    lie.fails = KVM_SET_USER_MEMORY_REGION;
    g_autoptr(GError) error = NULL;
    assert_false(h->be->ops->dirty_start(h->be, mark, words, &error));
    assert_non_null(strstr(error->message, "KVM_SET_USER_MEMORY_REGION"));
    lie.fails = 0;
    store_once(h);
    h->be->ops->dirty_fetch(h->be, 0, BIG_RAM);
    assert_int_equal(count(words, 0, BIG_RAM / PTA_PAGE_SIZE), 0);
    g_log_set_always_fatal(fatal);
    assert_true(h->be->ops->dirty_start(h->be, mark, words, NULL));
    store_once(h);
    h->be->ops->dirty_fetch(h->be, 0, BIG_RAM);
    assert_int_equal(count(words, 4 * PTA_MIB, 1), 1);
    h->be->ops->dirty_stop(h->be);
    cpu_harness_free(h);
}

/* The ring is not in our memory while nobody logs. */
static void a_ring_that_is_not_used(void **unused)
{
    uint64_t words[BIG_RAM / PTA_PAGE_SIZE / 64] = { 0 };
    CpuHarness *h = cpu_harness_new_on(&pta_kvm_backend, 64, BIG_RAM);
    KvmVp *vp = kvm_vp_of(h->vp);
    assert_int_equal(vp->ring != NULL, has_ring());
    for (unsigned i = 0; vp->ring && i < 2; i++) {
        write_all(h);
        assert_true(h->be->ops->dirty_start(h->be, mark, words, NULL));
        write_all(h);
        h->be->ops->dirty_stop(h->be);
        g_autofree char *smaps = NULL;
        assert_true(g_file_get_contents("/proc/self/smaps", &smaps, NULL, NULL));
        g_autofree char *start = g_strdup_printf("%lx-", (unsigned long)(uintptr_t)vp->ring);
        const char *mapping = strstr(smaps, start);
        assert_non_null(mapping);
        assert_true(g_str_has_prefix(strstr(mapping, "Rss:"), "Rss:                   0 kB"));
    }
    cpu_harness_free(h);
}

/* ---- pages that the CPU keeps back ---- */

static void *spin(void *data)
{
    cpu_harness_run(data);
    return NULL;
}

/* Fetches bring VPs out of guest code, and they go on without the partition hearing of it. */
static void vps_come_out(void **unused)
{
    static const uint8_t code[] = { 0xff, 0x07, 0xeb, 0xfc }; /* 1: inc dword [rdi]; jmp 1b */
    uint64_t words[BIG_RAM / PTA_PAGE_SIZE / 64] = { 0 };
    CpuHarness *h = cpu_harness_new_on(&pta_kvm_backend, 64, BIG_RAM);
    kvm_of(h->be)->caps.page_log = true;
    cpu_harness_code(h, 0, code, sizeof(code));
    cpu_harness_load(h)->regs.gpr[PTA_X86_RDI] = 4 * PTA_MIB;
    cpu_harness_store(h);
    assert_true(h->be->ops->dirty_start(h->be, mark, words, NULL));
    h->be->ops->dirty_fetch(h->be, 0, BIG_RAM); /* nobody is inside */
    GThread *thread = g_thread_new("vp", spin, h);
    while (!__atomic_load_n(&kvm_vp_of(h->vp)->tid, __ATOMIC_SEQ_CST)) {
        g_usleep(100);
    }
    uint64_t before = stat(h, KVM_STAT_EXITS);
    for (unsigned i = 0; i < 100; i++) {
        h->be->ops->dirty_fetch(h->be, 0, BIG_RAM);
        g_usleep(1000); /* it goes in again */
    }
    h->be->ops->vp_kick(h->vp);
    g_thread_join(thread);
    assert_int_equal(h->exit.reason, PTA_EXIT_INTERRUPTED);
    assert_true(stat(h, KVM_STAT_EXITS) >= before + 50);
    assert_int_equal(stat(h, KVM_STAT_KICK), 1);
    assert_int_equal(count(words, 4 * PTA_MIB, 1), 1);
    h->be->ops->dirty_stop(h->be);
    cpu_harness_free(h);
}

#define WITH(how, test)                              \
    {                                                \
        how ": " #test, test, say, NULL, (void *)how \
    }

#define ALL_BITMAPS                                                                              \
    WITH("clear", stores), WITH("clear", parts), WITH("clear", one_vp), WITH("clear", four_vps), \
        WITH("clear", more_pages_than_the_ring_has), WITH("clear", nothing_is_lost),             \
        WITH("clear", vps_come_out), WITH("get", stores), WITH("get", parts),                    \
        WITH("get", four_vps), WITH("get", nothing_is_lost)

int main(void)
{
    const struct CMUnitTest ring[] = {
        WITH("ring", stores),
        WITH("ring", parts),
        WITH("ring", one_vp),
        WITH("ring", four_vps),
        WITH("ring", more_pages_than_the_ring_has),
        WITH("ring", nothing_is_lost),
        WITH("ring", a_ring_that_is_not_used),
        WITH("ring", vps_come_out),
        ALL_BITMAPS,
    };
    const struct CMUnitTest bitmaps[] = { ALL_BITMAPS };
    if (!kvm_host_usable()) {
        return 0;
    }
    pta_thread_init_main();
    host_ioctl = pta_kvm_ioctl_hook;
    pta_kvm_ioctl_hook = lying_ioctl;
    g_log_set_writer_func(count_warnings, &warnings, NULL);
    if (has_ring()) {
        return cmocka_run_group_tests_name("ring and bitmaps", ring, NULL, NULL);
    }
    print_message("# the host has no dirty ring that can be relied on: bitmaps alone\n");
    return cmocka_run_group_tests(bitmaps, NULL, NULL);
}
