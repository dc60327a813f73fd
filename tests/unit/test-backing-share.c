/*
 * Memory between processes: the other one is this program again, which does what its first argument
 * says with the socket (or the memory) at descriptor 3.
 */
#include "config.h"

#include "src/memory/backing-share.h"

#include "tests/lib/cmocka-all.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (2 * PTA_MIB)

static void assert_error(GError *error, PtaError code, const char *text)
{
    assert_non_null(error);
    if (!g_error_matches(error, PTA_ERROR, (int)code) || !strstr(error->message, text)) {
        print_message("# expected \"%s\" in: %s\n", text, error->message);
    }
    assert_true(g_error_matches(error, PTA_ERROR, (int)code));
    assert_non_null(strstr(error->message, text));
}

static uint8_t *map(PtaBacking *b, GError **error)
{
    uint64_t size = pta_backing_size(b);
    uint64_t align = pta_backing_alignment(b);
    void *span =
        mmap(NULL, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(span != MAP_FAILED);
    uint8_t *host = (uint8_t *)(uintptr_t)pta_align_up((uintptr_t)span, align);
    return pta_backing_map(b, 0, size, host, true, error) ? host : NULL;
}

static PtaSharedMemory *make(size_t n)
{
    g_autoptr(GError) error = NULL;
    PtaSharedMemory *m = g_new0(PtaSharedMemory, 1);
    for (size_t i = 0; i < n; i++) {
        m->backings[i] =
            pta_backing_new(&(PtaBackingParams){ .name = "guest-ram", .size = SIZE }, &error);
        assert_null(error);
        m->ranges[i] = (PtaSharedRange){ i * PTA_GIB, SIZE, (unsigned)i, 0 };
    }
    m->n_backings = m->n_ranges = n;
    return m;
}

/* ---- the other process ---- */

static int to_stderr(const char *what, const GError *error)
{
    fprintf(stderr, "# peer: %s: %s\n", what, error ? error->message : "");
    return 1;
}

/* Reads 1, writes 2 behind it, is refused the ownership. */
static int peer_share(void)
{
    g_autoptr(GError) error = NULL, busy = NULL;
    g_autoptr(PtaSharedMemory) m = pta_backing_import(PTA_SHARE, 3, &error);
    if (!m || m->n_backings != 2 || m->ranges[1].gpa != PTA_GIB) {
        return to_stderr("import", error);
    }
    for (size_t i = 0; i < 2; i++) {
        uint8_t *host = map(m->backings[i], &error);
        if (!host || host[0] != 1 + i) {
            return to_stderr("content", error);
        }
        host[1] = (uint8_t)(11 + i);
    }
    g_autofree char *parent = g_strdup_printf("managed by process %d (", (int)getppid());
    if (pta_backing_is_owned(m->backings[0]) || pta_backing_own(m->backings[0], &busy) ||
        !strstr(busy->message, parent)) {
        return to_stderr("own", busy);
    }
    return 0;
}

/* Takes it over, waits for a byte, hands it back, until the socket ends. */
static int peer_ping_pong(void)
{
    char byte;
    for (unsigned round = 1; recv(3, &byte, 1, 0) == 1; round++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(PtaSharedMemory) m = pta_backing_import(PTA_HAND_OVER, 3, &error);
        uint8_t *host =
            m && pta_backing_is_owned(m->backings[0]) ? map(m->backings[0], &error) : NULL;
        if (!host) {
            return to_stderr("import", error);
        }
        host[0]++;
        if (!pta_backing_export(m, PTA_HAND_OVER, 3, &error)) {
            return to_stderr("export", error);
        }
        munmap(host, SIZE);
    }
    return 0;
}

/* An owner that shares and goes when it is told. */
static int peer_owner(void)
{
    char byte;
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaSharedMemory) m = make(1);
    if (!map(m->backings[0], &error) || !pta_backing_export(m, PTA_SHARE, 3, &error)) {
        return to_stderr("export", error);
    }
    return recv(3, &byte, 1, 0) == 1 ? 0 : 1;
}

/* The descriptors from 3 on, the layout as the second argument. */
static int peer_inherit(const char *text)
{
    g_autoptr(GError) error = NULL;
    int fds[] = { 3, 4 };
    g_autoptr(PtaSharedMemory) m =
        pta_backing_import_fds(PTA_HAND_OVER, text, strlen(text), fds, 2, &error);
    uint8_t *host = m ? map(m->backings[1], &error) : NULL;
    return host && host[0] == 5 && pta_backing_is_owned(m->backings[1]) ? 0
                                                                        : to_stderr("fds", error);
}

static int peer_goes_away(void)
{
    char buf[4096];
    return recv(3, buf, sizeof(buf), 0) > 0 ? 0 : 1;
}

static int peer(const char *what, const char *more)
{
    alarm(60);
    return strcmp(what, "share") == 0       ? peer_share()
           : strcmp(what, "ping-pong") == 0 ? peer_ping_pong()
           : strcmp(what, "owner") == 0     ? peer_owner()
           : strcmp(what, "inherit") == 0   ? peer_inherit(more)
           : strcmp(what, "goes-away") == 0 ? peer_goes_away()
                                            : 1;
}

/* With n descriptors from 3 on. */
static pid_t spawn(const char *what, const char *more, const int *fds, int n)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int high[4];
        for (int i = 0; i < n; i++) {
            high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 100);
        }
        for (int i = 0; i < n; i++) {
            dup2(high[i], 3 + i);
        }
        execl("/proc/self/exe", "peer", what, more, NULL);
        _exit(126);
    }
    return child;
}

static pid_t start(const char *what, int *sock)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    pid_t child = spawn(what, NULL, &pair[1], 1);
    close(pair[1]);
    *sock = pair[0];
    return child;
}

static void assert_ends_well(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static unsigned n_open(void)
{
    unsigned n = 0;
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

/* ---- between two ---- */

static void both_see_what_the_other_writes(void **unused)
{
    unsigned before = n_open();
    int sock;
    pid_t child = start("share", &sock);
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaSharedMemory) m = make(2);
    uint8_t *one = map(m->backings[0], &error), *two = map(m->backings[1], &error);
    one[0] = 1;
    two[0] = 2;
    assert_true(pta_backing_export(m, PTA_SHARE, sock, &error));
    assert_ends_well(child);
    assert_int_equal(one[1], 11);
    assert_int_equal(two[1], 12);
    assert_true(pta_backing_is_owned(m->backings[0]));
    close(sock);
    munmap(one, SIZE);
    munmap(two, SIZE);
    pta_shared_memory_free(g_steal_pointer(&m));
    assert_int_equal(n_open(), before);
}

typedef struct Thief {
    int fd;
    int stop;   /* ATOMIC */
    int locked; /* ATOMIC: how often it got the lock */
    int tries;  /* ATOMIC */
} Thief;

static gpointer steal(gpointer data)
{
    Thief *t = data;
    while (!g_atomic_int_get(&t->stop)) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        g_atomic_int_inc(&t->tries);
        if (fcntl(t->fd, F_OFD_SETLK, &lock) == 0) {
            g_atomic_int_inc(&t->locked);
            break;
        }
    }
    return NULL;
}

/* Back and forth, while a third one tries to get hold of it. */
static void there_is_always_one_owner(void **unused)
{
    enum { ROUNDS = 100 };
    int sock;
    pid_t child = start("ping-pong", &sock);
    g_autoptr(GError) error = NULL;
    PtaSharedMemory *m = make(1);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", pta_backing_fd(m->backings[0]));
    Thief thief = { .fd = open(path, O_RDWR | O_CLOEXEC) };
    assert_true(thief.fd >= 0);
    GThread *thread = g_thread_new("thief", steal, &thief);
    for (unsigned i = 0; i < ROUNDS; i++) {
        assert_int_equal(send(sock, "x", 1, 0), 1);
        if (!pta_backing_export(m, PTA_HAND_OVER, sock, &error)) {
            print_message("# %s\n", error->message);
        }
        assert_null(error);
        g_autoptr(GError) gone = NULL, mine = NULL;
        assert_false(pta_backing_is_owned(m->backings[0]));
        assert_null(map(m->backings[0], &gone));
        assert_error(gone, PTA_ERROR_BAD_STATE, "was handed over to another process");
        int nowhere[PTA_SHARE_BACKINGS];
        assert_null(pta_backing_export_fds(m, PTA_HAND_OVER, nowhere, &mine));
        assert_error(mine, PTA_ERROR_BAD_STATE, "not this process's to hand over");
        pta_shared_memory_free(m);
        m = pta_backing_import(PTA_HAND_OVER, sock, &error);
        assert_non_null(m);
    }
    assert_int_equal(map(m->backings[0], &error)[0], ROUNDS);
    assert_int_equal(g_atomic_int_get(&thief.locked), 0);
    print_message("# %d attempts to get in between\n", g_atomic_int_get(&thief.tries));
    assert_true(g_atomic_int_get(&thief.tries) > 0);
    g_atomic_int_set(&thief.stop, 1);
    g_thread_join(thread);
    close(thief.fd);
    close(sock);
    assert_ends_well(child);
    pta_shared_memory_free(m);
}

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define FREE "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"

static bool add_to_pool(int n)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(POOL, &text, NULL, NULL)) {
        return false;
    }
    g_autofree char *wanted = g_strdup_printf("%d\n", atoi(text) + n);
    g_autofree char *found = NULL;
    pta_autofd int fd = open(POOL, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && pta_write_full(fd, wanted, strlen(wanted)) &&
                g_file_get_contents(POOL, &found, NULL, NULL) && strcmp(found, wanted) == 0;
    if (!done && fd >= 0) {
        pta_write_full(fd, text, strlen(text));
    }
    return done;
}

static void huge_pages_go_as_well(void **unused)
{
    assert_true(add_to_pool(1));
    int sock;
    pid_t child = start("ping-pong", &sock);
    g_autoptr(GError) error = NULL;
    PtaSharedMemory *m = g_new0(PtaSharedMemory, 1);
    m->backings[0] = pta_backing_new(
        &(PtaBackingParams){ .name = "guest-ram", .size = SIZE, .hugepage_size = SIZE }, &error);
    assert_null(error);
    m->ranges[0] = (PtaSharedRange){ 0, SIZE, 0, 0 };
    m->n_backings = m->n_ranges = 1;
    assert_int_equal(send(sock, "x", 1, 0), 1);
    assert_true(pta_backing_export(m, PTA_HAND_OVER, sock, &error));
    pta_shared_memory_free(m);
    m = pta_backing_import(PTA_HAND_OVER, sock, &error);
    assert_non_null(m);
    assert_string_equal(pta_backing_type(m->backings[0]), "hugetlb");
    uint8_t *host = map(m->backings[0], &error);
    assert_int_equal(host[0], 1);
    munmap(host, SIZE);
    close(sock);
    assert_ends_well(child);
    pta_shared_memory_free(m);
    assert_true(add_to_pool(-1));
}

static void ownership_ends_with_the_owner(void **unused)
{
    int sock;
    pid_t child = start("owner", &sock);
    g_autoptr(GError) error = NULL, busy = NULL;
    g_autoptr(PtaSharedMemory) m = pta_backing_import(PTA_SHARE, sock, &error);
    assert_non_null(m);
    g_autofree char *who = g_strdup_printf("managed by process %d (", (int)child);
    assert_false(pta_backing_own(m->backings[0], &busy));
    assert_error(busy, PTA_ERROR_HOST, who);
    assert_int_equal(kill(child, SIGKILL), 0); /* however it ends */
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(pta_backing_own(m->backings[0], &error));
    assert_true(pta_backing_is_owned(m->backings[0]));
    close(sock);
}

static void a_child_inherits_it(void **unused)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaSharedMemory) m = make(2);
    int fds[PTA_SHARE_BACKINGS];
    uint8_t *host = map(m->backings[1], &error);
    host[0] = 5;
    json_t *json = pta_backing_export_fds(m, PTA_HAND_OVER, fds, &error);
    assert_non_null(json);
    char *text = json_dumps(json, JSON_COMPACT);
    pid_t child = spawn("inherit", text, fds, 2);
    close(fds[0]);
    close(fds[1]);
    free(text);
    json_decref(json);
    assert_ends_well(child);
    pta_backing_handed_over(m);
    assert_false(pta_backing_is_owned(m->backings[1]));
    munmap(host, SIZE);
}

static void who_gets_no_answer_stays_the_owner(void **unused)
{
    int sock;
    pid_t child = start("goes-away", &sock);
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaSharedMemory) m = make(1);
    assert_false(pta_backing_export(m, PTA_HAND_OVER, sock, &error));
    assert_error(error, PTA_ERROR_HOST, "hung up");
    assert_true(pta_backing_is_owned(m->backings[0]));
    assert_ends_well(child);
    assert_non_null(map(m->backings[0], NULL));
    close(sock);
}

static void a_refusal_comes_back(void **unused)
{
    int sock;
    pid_t child = start("ping-pong", &sock);
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaSharedMemory) m = make(1);
    assert_int_equal(send(sock, "x", 1, 0), 1);
    assert_false(pta_backing_export(m, PTA_SHARE, sock, &error));
    assert_error(error, PTA_ERROR_HOST,
                 "refuses: memory to be taken: expected it to be handed over");
    close(sock);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* ---- what cannot leave ---- */

static void private_memory_and_files_stay(void **unused)
{
    g_autofree char *dir = g_dir_make_tmp("partita-share-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "ram", NULL);
    const struct {
        PtaBackingParams params;
        const char *text;
    } cases[] = {
        { { .name = "guest-ram", .size = SIZE, .private_anonymous = true },
          "guest memory is private and cannot be shared" },
        { { .name = "guest-ram", .size = SIZE, .path = path }, "in a file has no seals" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        int fds[PTA_SHARE_BACKINGS];
        g_autoptr(PtaSharedMemory) m = make(1);
        m->backings[1] = pta_backing_new(&cases[i].params, &error);
        assert_null(error);
        m->n_backings = 2;
        assert_null(pta_backing_export_fds(m, PTA_SHARE, fds, &error));
        assert_error(error, PTA_ERROR_UNSUPPORTED, cases[i].text);
    }
    g_unlink(path);
    g_rmdir(dir);
}

/* ---- a sender that lies ---- */

static int memfd(uint64_t size, int seals)
{
    int fd = memfd_create("theirs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void send_raw(int sock, const char *text, const int *fds, size_t n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 64)];
    } control = { 0 };
    struct iovec iov = { (char *)(uintptr_t)text, strlen(text) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (n > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    assert_int_equal(sendmsg(sock, &msg, 0), (ssize_t)strlen(text));
}

/* What import says to it; and nothing of it stays open. */
static void assert_refused(const char *text, const int *fds, size_t n, const char *expected)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    send_raw(pair[0], text, fds, n);
    unsigned before = n_open();
    g_autoptr(GError) error = NULL;
    PtaSharedMemory *m = pta_backing_import(PTA_HAND_OVER, pair[1], &error);
    assert_null(m);
    assert_non_null(error);
    if (!strstr(error->message, expected)) {
        print_message("# expected \"%s\" in: %s\n", expected, error->message);
    }
    assert_non_null(strstr(error->message, expected));
    assert_int_equal(n_open(), before);
    close(pair[0]);
    close(pair[1]);
}

#define ONE                                                                                     \
    "H{\"partita-memory\":1,\"backings\":[{\"size\":2097152,\"page-size\":4096}],\"ranges\":[{" \
    "\"gpa\":0,\"size\":2097152,\"backing\":0,\"offset\":0}]}"

static void hostile_descriptors(void **unused)
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW };
    g_autofree char *tmp = NULL;
    int good = memfd(SIZE, SEALS);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", good);
    const struct {
        int fd;
        const char *text;
    } bad[] = {
        { memfd(SIZE - 4096, SEALS), "has 2093056 bytes in pages of 4096; expected 2097152" },
        { memfd(SIZE + 4096, SEALS), "has 2101248 bytes" },
        { memfd(SIZE, 0), "is not sealed" },
        { memfd(SIZE, F_SEAL_SHRINK), "is not sealed" },
        { memfd(SIZE, F_SEAL_GROW), "is not sealed" },
        { memfd(SIZE, SEALS | F_SEAL_WRITE), "sealed against writing" },
        { memfd(SIZE, SEALS | F_SEAL_FUTURE_WRITE), "sealed against writing" },
        { open(path, O_RDONLY | O_CLOEXEC), "no memory to read and write" },
        { open(path, O_PATH | O_CLOEXEC), "no memory to read and write" },
        { open("/dev/null", O_RDWR | O_CLOEXEC), "no memory to read and write" },
        { open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "no memory to read and write" },
        { socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "no memory to read and write" },
        { g_file_open_tmp("partita-XXXXXX", &tmp, NULL), "descriptor 0" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_true(bad[i].fd >= 0);
        assert_refused(ONE, &bad[i].fd, 1, bad[i].text);
        close(bad[i].fd);
    }
    g_unlink(tmp);
    int two[] = { good, good };
    assert_refused(ONE, two, 2, "2 descriptors; expected 1");
    assert_refused(ONE, NULL, 0, "0 descriptors; expected 1");
    assert_refused("H{\"partita-memory\":1,\"backings\":[{\"size\":2097152,\"page-size\":4096},"
                   "{\"size\":2097152,\"page-size\":4096}],\"ranges\":[{\"gpa\":0,\"size\":4096,"
                   "\"backing\":0,\"offset\":0}]}",
                   two, 2, "descriptor 1 is the memory of descriptor 0 once more");
    int many[60];
    for (size_t i = 0; i < G_N_ELEMENTS(many); i++) {
        many[i] = good;
    }
    assert_refused(ONE, many, G_N_ELEMENTS(many), "more than 65536 bytes or 32 descriptors");
    assert_refused("", many, 2, "hung up");
    assert_refused("S{}", two, 1, "expected it to be handed over");
    g_autofree char *long_text = g_strnfill(70000, ' ');
    long_text[0] = 'H';
    assert_refused(long_text, two, 1, "more than 65536 bytes");

    /* Owned by somebody else. */
    int other = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    assert_int_equal(fcntl(other, F_OFD_SETLK, &lock), 0);
    assert_refused(ONE, &good, 1, "managed by process");
    close(other);
    close(good);
}

/* The sender did not take them, and there are none. */
static void huge_pages_that_are_not_there(void **unused)
{
    int fd = memfd_create("theirs", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_refused("H{\"partita-memory\":1,\"backings\":[{\"size\":2097152,\"page-size\":2097152}],"
                   "\"ranges\":[{\"gpa\":0,\"size\":2097152,\"backing\":0,\"offset\":0}]}",
                   &fd, 1, "increase the hugetlb pool");
    close(fd);
}

static void hostile_layouts(void **unused)
{
    static const struct {
        const char *text, *expected;
    } bad[] = {
        { "", "expected JSON" },
        { "{", "expected JSON" },
        { "[]", "expected {\"partita-memory\": 1" },
        { "{'partita-memory':2,'backings':[],'ranges':[]}", "expected {\"partita-memory\": 1" },
        { "{'partita-memory':1,'backings':[],'ranges':[],'x':1}", "expected {\"partita" },
        { "{'partita-memory':1,'backings':[],'ranges':[]}", "expected 1 to 32 backings" },
        { "{'partita-memory':1,'backings':5,'ranges':[1]}", "expected 1 to 32 backings" },
        { "{'partita-memory':1,'backings':[3],'ranges':[1]}",
          "$.backings[0]: expected an object of size and page-size" },
        { "{'partita-memory':1,'backings':[{'size':4096,'page-size':1}],'ranges':[1]}",
          "$.backings[0]: expected a page-size" },
        { "{'partita-memory':1,'backings':[{'size':0,'page-size':4096}],'ranges':[1]}",
          "$.backings[0]: expected a size" },
        { "{'partita-memory':1,'backings':[{'size':4096,'page-size':2097152}],'ranges':[1]}",
          "$.backings[0]: expected a size" },
        { "{'partita-memory':1,'backings':[{'size':9007199254740992,'page-size':4096}],"
          "'ranges':[1]}",
          "$.backings[0]: expected a size" },
    };
    static const struct {
        const char *range, *expected;
    } ranges[] = {
        { "1", "expected an object of gpa" },
        { "{'gpa':-4096,'size':4096,'backing':0,'offset':0}", "expected an object of gpa" },
        { "{'gpa':0,'size':4096,'backing':1,'offset':0}", "expected the index of a backing" },
        { "{'gpa':0,'size':4096,'backing':-1,'offset':0}", "expected the index of a backing" },
        { "{'gpa':0,'size':4096,'backing':4294967296,'offset':0}", "expected the index" },
        { "{'gpa':0,'size':0,'backing':0,'offset':0}", "expected whole pages" },
        { "{'gpa':1,'size':4096,'backing':0,'offset':0}", "expected whole pages" },
        { "{'gpa':0,'size':4096,'backing':0,'offset':100}", "expected whole pages" },
        { "{'gpa':0,'size':12288,'backing':0,'offset':0}", "expected a range within its backing" },
        { "{'gpa':0,'size':8192,'backing':0,'offset':4096}", "expected a range within its" },
        { "{'gpa':0,'size':4096,'backing':0,'offset':9223372036854771712}", "within its backing" },
        { "{'gpa':4503599627370496,'size':4096,'backing':0,'offset':0}", "expected an end of" },
        { "{'gpa':4096,'size':4096,'backing':0,'offset':0},"
          "{'gpa':4096,'size':4096,'backing':0,'offset':4096}",
          "$.ranges[1]: expected a range behind" },
        { "{'gpa':0,'size':8192,'backing':0,'offset':0},"
          "{'gpa':8192,'size':4096,'backing':0,'offset':4096}",
          "$.ranges[1]: expected memory that is in no other range" },
    };
    PtaSharedLayout layout;
    for (size_t i = 0; i < G_N_ELEMENTS(bad) + G_N_ELEMENTS(ranges); i++) {
        bool whole = i < G_N_ELEMENTS(bad);
        const char *expected = whole ? bad[i].expected : ranges[i - G_N_ELEMENTS(bad)].expected;
        g_autofree char *text =
            whole ? g_strdup(bad[i].text)
                  : g_strdup_printf("{'partita-memory':1,'backings':[{'size':8192,'page-size':4096}"
                                    "],'ranges':[%s]}",
                                    ranges[i - G_N_ELEMENTS(bad)].range);
        g_strdelimit(text, "'", '"');
        g_autoptr(GError) error = NULL;
        assert_false(pta_shared_layout_parse(&layout, text, strlen(text), &error));
        assert_error(error, PTA_ERROR_BAD_DESCRIPTION, expected);
    }
}

/* ---- what this host cannot do ---- */

static void skipped(void **unused)
{
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
    int pool = open(POOL, O_RDONLY | O_CLOEXEC);
    if (pool >= 0) {
        flock(pool, LOCK_EX);
    }
    g_autofree char *free_pages = NULL;
    if (!g_file_get_contents(FREE, &free_pages, NULL, NULL) || atoi(free_pages) != 0) {
        leave_out(tests, n, huge_pages_that_are_not_there,
                  "huge_pages_that_are_not_there # SKIP no pool of huge pages that is empty");
    }
    if (!add_to_pool(1)) {
        leave_out(tests, n, huge_pages_go_as_well,
                  "huge_pages_go_as_well # SKIP no pages of 2 MiB can be reserved");
    } else {
        add_to_pool(-1);
    }
}

int main(int argc, char **argv)
{
    pta_thread_init_main();
    if (argc > 1) {
        return peer(argv[1], argc > 2 ? argv[2] : "");
    }
    struct CMUnitTest tests[] = {
        cmocka_unit_test(both_see_what_the_other_writes),
        cmocka_unit_test(there_is_always_one_owner),
        cmocka_unit_test(ownership_ends_with_the_owner),
        cmocka_unit_test(a_child_inherits_it),
        cmocka_unit_test(who_gets_no_answer_stays_the_owner),
        cmocka_unit_test(a_refusal_comes_back),
        cmocka_unit_test(private_memory_and_files_stay),
        cmocka_unit_test(hostile_descriptors),
        cmocka_unit_test(hostile_layouts),
        cmocka_unit_test(huge_pages_go_as_well),
        cmocka_unit_test(huge_pages_that_are_not_there),
    };
    skip_what_cannot_be(tests, G_N_ELEMENTS(tests));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
