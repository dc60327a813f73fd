/* Backings of guest memory: what goes together, what the host makes of it, who owns it. */
#include "config.h"

#include "src/memory/backing.h"

#include "tests/lib/cmocka-all.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HUGE (2 * PTA_MIB)

static void assert_error(GError *error, PtaError code, const char *text)
{
    assert_non_null(error);
    if (!g_error_matches(error, PTA_ERROR, (int)code) || !strstr(error->message, text)) {
        print_message("# expected \"%s\" in: %s\n", text, error->message);
    }
    assert_true(g_error_matches(error, PTA_ERROR, (int)code));
    assert_non_null(strstr(error->message, text));
}

/* A sysfs with two nodes, of which one has memory, and 2 MiB pages only. */
static char *fake_sysfs(bool huge)
{
    char *dir = g_dir_make_tmp("partita-sysfs-XXXXXX", NULL);
    assert_non_null(dir);
    g_autofree char *node = g_build_filename(dir, "devices/system/node", NULL);
    g_autofree char *pool =
        g_build_filename(dir, huge ? "kernel/mm/hugepages/hugepages-2048kB" : "kernel/mm", NULL);
    g_autofree char *list = g_build_filename(node, "has_memory", NULL);
    assert_int_equal(g_mkdir_with_parents(node, 0700), 0);
    assert_int_equal(g_mkdir_with_parents(pool, 0700), 0);
    assert_true(g_file_set_contents(list, "0,2-3\n", -1, NULL));
    return dir;
}

static void remove_tree(char *dir)
{
    const char *argv[] = { "rm", "-rf", dir, NULL };
    assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                             NULL, NULL));
    g_free(dir);
}

static void what_does_not_go_together(void **unused)
{
    static const struct {
        PtaBackingParams params;
        PtaError code;
        const char *text;
    } bad[] = {
        { { .private_anonymous = true, .legacy = true },
          PTA_ERROR_BAD_DESCRIPTION,
          "private memory cannot hold the first MiB" },
        { { .private_anonymous = true, .has_fd = true },
          PTA_ERROR_BAD_DESCRIPTION,
          "private memory cannot be made of a file or an existing descriptor" },
        { { .private_anonymous = true, .path = "x" },
          PTA_ERROR_BAD_DESCRIPTION,
          "private memory cannot be made of a file or an existing descriptor" },
        { { .private_anonymous = true, .hugepage_size = HUGE },
          PTA_ERROR_BAD_DESCRIPTION,
          "huge pages cannot be private memory" },
        { { .hugepage_size = HUGE, .has_fd = true },
          PTA_ERROR_BAD_DESCRIPTION,
          "huge pages cannot be asked of a file or an existing descriptor" },
        { { .hugepage_size = HUGE, .path = "x" },
          PTA_ERROR_BAD_DESCRIPTION,
          "huge pages cannot be asked of a file or an existing descriptor" },
        { { .hugepage_size = HUGE, .legacy = true },
          PTA_ERROR_BAD_DESCRIPTION,
          "huge pages cannot hold the first MiB" },
        { { .hugepage_size = HUGE, .thp = true },
          PTA_ERROR_BAD_DESCRIPTION,
          "huge pages cannot be transparent huge pages" },
        { { .path = "x", .has_fd = true },
          PTA_ERROR_BAD_DESCRIPTION,
          "cannot be both a file and an existing descriptor" },
        { { .path = "x", .has_numa_node = true }, PTA_ERROR_BAD_DESCRIPTION, "cannot be chosen" },
        { { .has_fd = true, .has_numa_node = true },
          PTA_ERROR_BAD_DESCRIPTION,
          "cannot be chosen" },
        { { .size = 4097 }, PTA_ERROR_BAD_DESCRIPTION, "expected a multiple of 4K" },
        { { .size = UINT64_MAX & PTA_PAGE_MASK }, PTA_ERROR_BAD_DESCRIPTION, "is too large" },
        { { .hugepage_size = 64 * PTA_KIB }, PTA_ERROR_BAD_DESCRIPTION, "64K: expected 2M or 1G" },
        { { .hugepage_size = 3 }, PTA_ERROR_BAD_DESCRIPTION, "expected 2M or 1G" },
        { { .hugepage_size = HUGE, .size = 3 * PTA_MIB },
          PTA_ERROR_BAD_DESCRIPTION,
          "size 3M: expected a multiple of the huge page size 2M" },
        { { .hugepage_size = PTA_GIB, .size = PTA_GIB },
          PTA_ERROR_UNSUPPORTED,
          "this host has no huge pages of 1G" },
        { { .has_numa_node = true, .numa_node = 1 },
          PTA_ERROR_UNSUPPORTED,
          "this host has no NUMA node 1 with memory; expected one of 0,2-3" },
        { { .has_numa_node = true, .numa_node = 4 }, PTA_ERROR_UNSUPPORTED, "NUMA node 4" },
    };
    char *sysfs = fake_sysfs(true);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        PtaBackingParams params = bad[i].params;
        params.name = "test";
        params.size = params.size ? params.size : 4 * PTA_MIB;
        assert_false(pta_backing_params_check_at(&params, sysfs, &error));
        assert_error(error, bad[i].code, bad[i].text);
        if (bad[i].code == PTA_ERROR_BAD_DESCRIPTION) {
            g_autoptr(GError) again = NULL;
            assert_null(pta_backing_new(&params, &again));
            assert_error(again, bad[i].code, bad[i].text);
        }
    }
    g_autoptr(GError) error = NULL;
    PtaBackingParams nothing = { .name = "test" };
    assert_false(pta_backing_params_check_at(&nothing, sysfs, &error));
    assert_error(error, PTA_ERROR_BAD_DESCRIPTION, "size 0");
    remove_tree(sysfs);
}

static void what_does(void **unused)
{
    static const PtaBackingParams good[] = {
        { .legacy = true },
        { .thp = true, .pin = true, .has_numa_node = true },
        { .private_anonymous = true, .thp = true, .has_numa_node = true, .numa_node = 2 },
        { .hugepage_size = HUGE, .has_numa_node = true, .numa_node = 3, .pin = true },
        { .path = "x", .legacy = true, .thp = true },
        { .has_fd = true, .legacy = true, .pin = true },
    };
    char *sysfs = fake_sysfs(true);
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GError) error = NULL;
        PtaBackingParams params = good[i];
        params.size = 4 * PTA_MIB;
        assert_true(pta_backing_params_check_at(&params, sysfs, &error));
        assert_null(error);
    }
    remove_tree(sysfs);
}

static void a_kernel_without(void **unused)
{
    g_autoptr(GError) huge = NULL, node = NULL;
    char *sysfs = fake_sysfs(false);
    PtaBackingParams pages = { .size = HUGE, .hugepage_size = HUGE };
    assert_false(pta_backing_params_check_at(&pages, sysfs, &huge));
    assert_error(huge, PTA_ERROR_UNSUPPORTED, "this host's kernel has no huge pages");
    PtaBackingParams numa = { .size = HUGE, .has_numa_node = true };
    assert_false(pta_backing_params_check_at(&numa, "/nonexistent", &node));
    assert_error(node, PTA_ERROR_UNSUPPORTED, "this host's kernel has no NUMA nodes");
    remove_tree(sysfs);
}

/* ---- mappings ---- */

static PtaBacking *make(const PtaBackingParams *params)
{
    g_autoptr(GError) error = NULL;
    PtaBacking *backing = pta_backing_new(params, &error);
    if (error) {
        print_message("# %s\n", error->message);
    }
    assert_null(error);
    assert_non_null(backing);
    return backing;
}

/* A reservation whose address is a multiple of 2 MiB; for the life of the test. */
static uint8_t *reserve(uint64_t size)
{
    uint8_t *at =
        mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(at != MAP_FAILED);
    return (uint8_t *)(uintptr_t)pta_align_up((uintptr_t)at, HUGE);
}

static uint8_t *map_all(PtaBacking *backing)
{
    g_autoptr(GError) error = NULL;
    uint8_t *host = reserve(pta_backing_size(backing));
    if (!pta_backing_map(backing, 0, pta_backing_size(backing), host, true, &error)) {
        print_message("# %s\n", error->message);
    }
    assert_null(error);
    return host;
}

static void a_memfd_is_sealed(void **unused)
{
    g_autoptr(PtaBacking) b = make(&(PtaBackingParams){ .name = "guest-ram", .size = 4 * HUGE });
    assert_false(pta_backing_is_private(b));
    assert_string_equal(pta_backing_type(b), "memfd");
    int fd = pta_backing_fd(b);
    int seals = fcntl(fd, F_GET_SEALS);
    assert_int_equal(seals & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(ftruncate(fd, 16 * HUGE), -1);
    uint8_t *one = map_all(b), *two = map_all(b);
    one[5] = 77;
    assert_int_equal(two[5], 77);
    uint64_t bytes = 0;
    assert_true(pta_backing_allocated(b, &bytes));
    assert_true(bytes >= 4096 && bytes < 4 * HUGE);
}

static void private_memory(void **unused)
{
    g_autoptr(PtaBacking) b = make(
        &(PtaBackingParams){ .name = "guest-ram", .size = 4 * HUGE, .private_anonymous = true });
    assert_true(pta_backing_is_private(b));
    assert_int_equal(pta_backing_fd(b), -1);
    uint8_t *host = map_all(b);
    uint64_t bytes;
    assert_false(pta_backing_allocated(b, &bytes));
    assert_int_equal(pta_backing_resident(host, 4 * HUGE), 0);
    host[HUGE] = 1;
    uint64_t resident = pta_backing_resident(host, 4 * HUGE);
    assert_true(resident >= 4096 && resident <= HUGE);
}

static void prefault_makes_all_pages(void **unused)
{
    enum { SIZE = 200 << 20 }; /* more than one thread's share */
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(PtaBacking) b = make(
            &(PtaBackingParams){ .name = "guest-ram", .size = SIZE, .private_anonymous = i == 1 });
        uint8_t *host = map_all(b);
        uint64_t begin = pta_now_ns();
        assert_true(pta_backing_prefault(host, SIZE, &error));
        print_message("# %s: 200 MiB in %.1f ms\n", pta_backing_type(b),
                      (double)(pta_now_ns() - begin) / 1e6);
        assert_int_equal(pta_backing_resident(host, SIZE), SIZE);
        munmap(host, SIZE);
    }
}

static void prefault_says_what_failed(void **unused)
{
    g_autoptr(GError) error = NULL;
    uint8_t *host = reserve(HUGE); /* no access */
    assert_false(pta_backing_prefault(host, HUGE, &error));
    assert_error(error, PTA_ERROR_HOST, "cannot make all pages");
}

static uint64_t locked_kib(void)
{
    g_autofree char *status = NULL;
    assert_true(g_file_get_contents("/proc/self/status", &status, NULL, NULL));
    const char *line = strstr(status, "VmLck:");
    assert_non_null(line);
    return g_ascii_strtoull(line + strlen("VmLck:"), NULL, 10);
}

static void pinned_memory_is_locked(void **unused)
{
    g_autoptr(PtaBacking) b =
        make(&(PtaBackingParams){ .name = "guest-ram", .size = 2 * PTA_MIB, .pin = true });
    uint64_t before = locked_kib();
    uint8_t *host = map_all(b);
    assert_int_equal(locked_kib() - before, 2048);
    assert_int_equal(pta_backing_resident(host, 2 * PTA_MIB), 2 * PTA_MIB);
    munmap(host, 2 * PTA_MIB);
}

/* In a process without the right to lock more than its limit. */
static int pin_beyond_the_limit(void)
{
    struct rlimit limit = { 65536, 65536 };
    g_autoptr(GError) error = NULL;
    if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 ||
        (getuid() == 0 && setresuid(65534, 65534, 65534))) {
        return 77;
    }
    g_autoptr(PtaBacking) b = pta_backing_new(
        &(PtaBackingParams){ .name = "guest-ram", .size = 2 * PTA_MIB, .pin = true }, NULL);
    uint8_t *host =
        mmap(NULL, 2 * PTA_MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!b || pta_backing_map(b, 0, 2 * PTA_MIB, host, true, &error)) {
        return 1;
    }
    /* And nothing is mapped: whoever writes there dies. */
    unsigned char vec[512];
    bool gone = mincore(host, 2 * PTA_MIB, vec) == 0 && (vec[0] & 1) == 0;
    return strstr(error->message, "RLIMIT_MEMLOCK") && gone ? 0 : 2;
}

static void a_pin_that_fails_names_the_limit(void **unused)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(pin_beyond_the_limit());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_file_is_made_and_taken_again(void **unused)
{
    g_autofree char *dir = g_dir_make_tmp("partita-backing-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "ram", NULL);
    PtaBackingParams params = { .name = "guest-ram", .size = PTA_MIB, .path = path };
    g_autoptr(PtaBacking) b = make(&params);
    assert_string_equal(pta_backing_type(b), "file");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, PTA_MIB);
    assert_int_equal(st.st_mode & 0777, 0600);
    map_all(b)[4095] = 9;

    g_autoptr(GError) busy = NULL, size = NULL, type = NULL, missing = NULL;
    assert_null(pta_backing_new(&params, &busy));
    assert_error(busy, PTA_ERROR_HOST, "managed by process");
    params.size = 2 * PTA_MIB;
    assert_null(pta_backing_new(&params, &size));
    assert_error(size, PTA_ERROR_BAD_DESCRIPTION, "has 1048576 bytes; expected 2097152");
    params.path = dir;
    assert_null(pta_backing_new(&params, &type));
    assert_error(type, PTA_ERROR_HOST, "cannot open");
    params.path = "/nonexistent/ram";
    assert_null(pta_backing_new(&params, &missing));
    assert_error(missing, PTA_ERROR_HOST, "cannot open \"/nonexistent/ram\"");
    g_unlink(path);
    g_rmdir(dir);
}

static void a_file_keeps_its_content_and_is_free_after_its_owner(void **unused)
{
    g_autofree char *dir = g_dir_make_tmp("partita-backing-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "ram", NULL);
    PtaBackingParams params = { .name = "guest-ram", .size = PTA_MIB, .path = path };
    PtaBacking *first = make(&params);
    uint8_t *host = map_all(first);
    host[4095] = 9;
    pta_backing_unref(first);
    /* The mapping holds on to the lock: whoever still maps it is not done with it. */
    g_autoptr(GError) busy = NULL;
    assert_null(pta_backing_new(&params, &busy));
    assert_error(busy, PTA_ERROR_HOST, "expected nobody");
    munmap(host, PTA_MIB);
    g_autoptr(PtaBacking) second = make(&params);
    assert_int_equal(map_all(second)[4095], 9);
    g_unlink(path);
    g_rmdir(dir);
}

static void a_full_disk_is_an_error_and_leaves_no_file(void **unused)
{
    g_autofree char *dir = g_dir_make_tmp("partita-backing-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "ram", NULL);
    g_autoptr(GError) error = NULL;
    PtaBackingParams params = { .name = "guest-ram", .size = UINT64_C(1) << 50, .path = path };
    assert_null(pta_backing_new(&params, &error));
    assert_error(error, PTA_ERROR_HOST, "failed to allocate");
    assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    g_rmdir(dir);
}

static void existing_descriptors(void **unused)
{
    pta_autofd int fd = memfd_create("theirs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, PTA_MIB), 0);
    assert_int_equal(pwrite(fd, "x", 1, 100), 1);
    PtaBackingParams params = { .name = "guest-ram", .size = PTA_MIB, .has_fd = true, .fd = fd };
    g_autoptr(PtaBacking) b = make(&params);
    assert_int_equal(map_all(b)[100], 'x');
    assert_int_equal(ftruncate(fd, 0), -1); /* it was sealed */

    g_autoptr(GError) size = NULL, type = NULL, mode = NULL, none = NULL, seal = NULL;
    params.size = 2 * PTA_MIB;
    assert_null(pta_backing_new(&params, &size));
    assert_error(size, PTA_ERROR_BAD_DESCRIPTION, "has 1048576 bytes; expected 2097152");
    params.size = PTA_MIB;
    pta_autofd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    params.fd = null;
    assert_null(pta_backing_new(&params, &type));
    assert_error(type, PTA_ERROR_BAD_DESCRIPTION, "is no memory");
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    pta_autofd int reader = open(path, O_RDONLY | O_CLOEXEC);
    params.fd = reader;
    assert_null(pta_backing_new(&params, &mode));
    assert_error(mode, PTA_ERROR_BAD_DESCRIPTION, "open for reading and writing");
    params.fd = 12345;
    assert_null(pta_backing_new(&params, &none));
    assert_error(none, PTA_ERROR_HOST, "descriptor 12345");
    pta_autofd int open_end = memfd_create("theirs", MFD_CLOEXEC); /* sealed against seals */
    assert_int_equal(ftruncate(open_end, PTA_MIB), 0);
    params.fd = open_end;
    assert_null(pta_backing_new(&params, &seal));
    assert_error(seal, PTA_ERROR_HOST, "cannot seal");
}

static void memory_of_a_node(void **unused)
{
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        PtaBackingParams params = {
            .name = "guest-ram", .size = PTA_MIB, .has_numa_node = true, .private_anonymous = i == 1
        };
        if (!pta_backing_params_check(&params, &error)) {
            print_message("# not tested: %s\n", error->message);
            return;
        }
        g_autoptr(PtaBacking) b = pta_backing_new(&params, &error);
        assert_non_null(b);
        uint8_t *host = map_all(b);
        int mode = -1;
        unsigned long mask[16] = { 0 };
        host[0] = 1;
        /* MPOL_F_ADDR: of the page at the address. */
        assert_int_equal(syscall(SYS_get_mempolicy, &mode, mask, 1024UL, host, 2UL), 0);
        assert_int_equal(mode, 2 /* MPOL_BIND */);
        assert_int_equal(mask[0], 1);
    }
    g_autoptr(GError) error = NULL;
    assert_null(pta_backing_new(
        &(PtaBackingParams){
            .name = "guest-ram", .size = PTA_MIB, .has_numa_node = true, .numa_node = 999 },
        &error));
    assert_error(error, PTA_ERROR_UNSUPPORTED, "NUMA node 999");
}

/* Only whether the advice reaches the mapping: what the kernel makes of it is its own affair. */
static void transparent_huge_pages_are_advised(void **unused)
{
    g_autoptr(PtaBacking) b = make(&(PtaBackingParams){
        .name = "guest-ram", .size = 4 * HUGE, .private_anonymous = true, .thp = true });
    uint8_t *host = map_all(b);
    g_autofree char *smaps = NULL;
    assert_true(g_file_get_contents("/proc/self/smaps", &smaps, NULL, NULL));
    g_autofree char *start = g_strdup_printf("%lx-", (unsigned long)(uintptr_t)host);
    const char *at = strstr(smaps, start);
    assert_non_null(at);
    const char *flags = strstr(at, "VmFlags:");
    assert_non_null(flags);
    g_autofree char *line = g_strndup(flags, strcspn(flags, "\n"));
    g_autofree char *text = NULL;
    if (g_file_get_contents("/sys/kernel/mm/transparent_hugepage/enabled", &text, NULL, NULL)) {
        assert_non_null(strstr(line, " hg"));
        if (!strstr(text, "[never]")) {
            host[HUGE] = 1; /* one byte brings 2 MiB */
            assert_int_equal(pta_backing_resident(host + HUGE, HUGE), HUGE);
        }
    }
}

/* ---- huge pages ---- */

#define POOLS "/sys/kernel/mm/hugepages/hugepages-"

static unsigned read_pool(const char *path)
{
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? (unsigned)g_ascii_strtoull(text, NULL, 10)
                                                        : 0;
}

static bool write_pool(const char *path, unsigned n)
{
    g_autofree char *text = g_strdup_printf("%u\n", n);
    pta_autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && pta_write_full(fd, text, strlen(text)) && read_pool(path) == n;
}

/* n pages more; false, and none more, if the host has no room for them or we no right. */
static bool grow_pool(const char *path, unsigned n)
{
    unsigned before = read_pool(path);
    if (write_pool(path, before + n)) {
        return true;
    }
    write_pool(path, before);
    return false;
}

static void shrink_pool(const char *path, unsigned n)
{
    assert_true(write_pool(path, read_pool(path) - n));
}

static void use_huge_pages(const char *pool, uint64_t page, unsigned n)
{
    assert_true(grow_pool(pool, n));
    g_autoptr(GError) error = NULL;
    PtaBackingParams params = { .name = "guest-ram", .size = n * page, .hugepage_size = page };
    g_autoptr(PtaBacking) b = make(&params);
    assert_string_equal(pta_backing_type(b), "hugetlb");
    assert_int_equal(pta_backing_page_size(b), page);
    assert_int_equal(pta_backing_alignment(b), page);
    assert_int_equal(fcntl(pta_backing_fd(b), F_GET_SEALS) & F_SEAL_SHRINK, F_SEAL_SHRINK);
    uint64_t bytes = 0;
    assert_true(pta_backing_allocated(b, &bytes));
    assert_int_equal(bytes, n * page); /* they are there before anybody touches them */
    void *span =
        mmap(NULL, (n + 1) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(span != MAP_FAILED);
    uint8_t *host = (uint8_t *)(uintptr_t)pta_align_up((uintptr_t)span, page);
    assert_true(pta_backing_map(b, 0, n * page, host, true, &error));
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(host[i * page], 0);
        host[i * page] = 1;
    }
    munmap(span, (n + 1) * page);
    pta_backing_unref(g_steal_pointer(&b));
    shrink_pool(pool, n);
}

static void huge_pages(void **unused)
{
    use_huge_pages(POOLS "2048kB/nr_hugepages", HUGE, 4);
}

static void huge_pages_of_1_gib(void **unused)
{
    use_huge_pages(POOLS "1048576kB/nr_hugepages", PTA_GIB, 1);
}

static void a_small_pool_says_how_to_increase_it(void **unused)
{
    g_autoptr(GError) error = NULL;
    PtaBackingParams params = { .name = "guest-ram",
                                .size = UINT64_C(64) * 1024 * PTA_GIB,
                                .hugepage_size = HUGE };
    assert_null(pta_backing_new(&params, &error));
    assert_error(error, PTA_ERROR_HOST, "increase the hugetlb pool");
    assert_non_null(strstr(error->message, "hugepages-2048kB/nr_hugepages"));
}

/* ---- what this host cannot do ---- */

static void skipped(void **unused)
{
}

static bool has_pool(const char *path, unsigned n)
{
    bool has = grow_pool(path, n);
    if (has) {
        write_pool(path, read_pool(path) - n);
    }
    return has;
}

/* The name is what TAP takes a reason from. */
static void leave_out(struct CMUnitTest *tests, size_t n, CMUnitTestFunction fn, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (tests[i].test_func == fn) {
            tests[i].name = name;
            tests[i].test_func = skipped;
        }
    }
}

static void skip_what_cannot_be(struct CMUnitTest *tests, size_t n)
{
    /* Tests that change the pool wait for one another, until the process ends. */
    int pool = open(POOLS "2048kB/nr_hugepages", O_RDONLY | O_CLOEXEC);
    if (pool >= 0) {
        flock(pool, LOCK_EX);
    }
    PtaBackingParams node = { .name = "node", .size = PTA_MIB, .has_numa_node = true };
    PtaBackingParams huge = { .name = "huge", .size = HUGE, .hugepage_size = HUGE };
    if (!pta_backing_params_check(&node, NULL)) {
        leave_out(tests, n, memory_of_a_node, "memory_of_a_node # SKIP no NUMA node 0");
    }
    if (!has_pool(POOLS "2048kB/nr_hugepages", 4)) {
        leave_out(tests, n, huge_pages, "huge_pages # SKIP no pages of 2 MiB can be reserved");
    }
    if (!has_pool(POOLS "1048576kB/nr_hugepages", 1)) {
        leave_out(tests, n, huge_pages_of_1_gib,
                  "huge_pages_of_1_gib # SKIP no page of 1 GiB can be reserved");
    }
    if (!pta_backing_params_check(&huge, NULL)) {
        leave_out(tests, n, a_small_pool_says_how_to_increase_it,
                  "a_small_pool_says_how_to_increase_it # SKIP no huge pages");
    }
}

int main(void)
{
    pta_thread_init_main();
    struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_go_together),
        cmocka_unit_test(what_does),
        cmocka_unit_test(a_kernel_without),
        cmocka_unit_test(a_memfd_is_sealed),
        cmocka_unit_test(private_memory),
        cmocka_unit_test(prefault_makes_all_pages),
        cmocka_unit_test(prefault_says_what_failed),
        cmocka_unit_test(pinned_memory_is_locked),
        cmocka_unit_test(a_pin_that_fails_names_the_limit),
        cmocka_unit_test(a_file_is_made_and_taken_again),
        cmocka_unit_test(a_file_keeps_its_content_and_is_free_after_its_owner),
        cmocka_unit_test(a_full_disk_is_an_error_and_leaves_no_file),
        cmocka_unit_test(existing_descriptors),
        cmocka_unit_test(memory_of_a_node),
        cmocka_unit_test(transparent_huge_pages_are_advised),
        cmocka_unit_test(huge_pages),
        cmocka_unit_test(huge_pages_of_1_gib),
        cmocka_unit_test(a_small_pool_says_how_to_increase_it),
    };
    skip_what_cannot_be(tests, G_N_ELEMENTS(tests));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
