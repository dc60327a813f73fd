/* Memory goes to another process, and comes from one. Any thread. */
#include "config.h"

#include "src/memory/backing-share.h"

#include "src/memory/backing-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIMIT_MS   10000
#define MAX_REASON 400

/* The first byte of what is sent, and of what is answered. */
#define TO_SHARE     'S'
#define TO_HAND_OVER 'H'
#define TAKEN        'K'
#define REFUSED      'N' /* and why, as text */

void pta_shared_memory_free(PtaSharedMemory *m)
{
    for (size_t i = 0; m && i < m->n_backings; i++) {
        pta_backing_unref(m->backings[i]);
    }
    g_free(m);
}

static void close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pta_close(fds[i]);
        fds[i] = -1;
    }
}

/* ---- out ---- */

static bool may_leave(const PtaBacking *b, PtaShareMode mode, GError **error)
{
    if (pta_backing_is_private(b)) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "memory: guest memory is private and cannot be shared");
    }
    int seals = fcntl(pta_backing_fd(b), F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK)) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED,
                         "memory: guest memory in a file has no seals and cannot be given away; "
                         "others may open the file");
    }
    if (mode == PTA_HAND_OVER && !pta_backing_is_owned(b)) {
        return pta_throw(error, PTA_ERROR_BAD_STATE,
                         "memory: guest memory is not this process's to hand over");
    }
    return true;
}

static PtaSharedLayout layout_of(const PtaSharedMemory *m)
{
    PtaSharedLayout layout = { .n_backings = m->n_backings, .n_ranges = m->n_ranges };
    for (size_t i = 0; i < m->n_backings; i++) {
        layout.size[i] = pta_backing_size(m->backings[i]);
        layout.page_size[i] = pta_backing_page_size(m->backings[i]);
    }
    memcpy(layout.ranges, m->ranges, sizeof(layout.ranges));
    return layout;
}

/* The lock is with our open file description: it goes along, or a new one is made without it. */
static int descriptor_for(const PtaBacking *b, PtaShareMode mode, GError **error)
{
    if (mode == PTA_SHARE) {
        return pta_backing_reopen(b, error);
    }
    int fd = fcntl(pta_backing_fd(b), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        pta_throw_errno(error, errno, "memory: cannot duplicate a descriptor");
    }
    return fd;
}

json_t *pta_backing_export_fds(const PtaSharedMemory *m, PtaShareMode mode, int *fds,
                               GError **error)
{
    g_assert(m->n_backings > 0 && m->n_backings <= PTA_SHARE_BACKINGS && m->n_ranges > 0 &&
             m->n_ranges <= PTA_SHARE_RANGES);
    for (size_t i = 0; i < m->n_backings; i++) {
        if (!may_leave(m->backings[i], mode, error)) {
            return NULL;
        }
    }
    for (size_t i = 0; i < m->n_backings; i++) {
        fds[i] = descriptor_for(m->backings[i], mode, error);
        if (fds[i] < 0) {
            close_all(fds, i);
            return NULL;
        }
    }
    PtaSharedLayout layout = layout_of(m);
    return pta_shared_layout_to_json(&layout);
}

void pta_backing_handed_over(const PtaSharedMemory *m)
{
    for (size_t i = 0; i < m->n_backings; i++) {
        pta_backing_disown(m->backings[i]);
    }
}

/* ---- the socket ---- */

typedef union Control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * PTA_SHARE_BACKINGS)];
} Control;

static bool wait_for(int sock, short events, GError **error)
{
    struct pollfd p = { .fd = sock, .events = events };
    uint64_t end = pta_now_ns() + LIMIT_MS * UINT64_C(1000000);
    for (uint64_t now; (now = pta_now_ns()) < end;) {
        int n = poll(&p, 1, (int)((end - now) / 1000000) + 1);
        if (n > 0) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            return pta_throw_errno(error, errno, "memory: the other process");
        }
    }
    return pta_throw(error, PTA_ERROR_HOST, "memory: the other process does not answer");
}

static bool send_all(int sock, char mode, const char *text, const int *fds, size_t n,
                     GError **error)
{
    Control control = { 0 };
    struct iovec iov[] = { { &mode, 1 }, { (char *)(uintptr_t)text, strlen(text) } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = G_N_ELEMENTS(iov) };
    if (n > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                               .cmsg_type = SCM_RIGHTS,
                               .cmsg_len = CMSG_LEN(sizeof(int) * n) };
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    while (wait_for(sock, POLLOUT, error)) {
        if (sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
            return true;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return pta_throw_errno(error, errno, "memory: cannot send to the other process");
        }
    }
    return false;
}

/* What the other process says, as text for a message of ours. */
static bool refused(const char *reason, size_t len, GError **error)
{
    g_autofree char *valid = g_utf8_make_valid(reason, (gssize)len);
    g_autofree char *text = g_strdelimit(g_steal_pointer(&valid), "\r\n\t\033", ' ');
    return pta_throw(error, PTA_ERROR_HOST, "memory: the other process refuses: %s", text);
}

static bool read_answer(int sock, int flags, GError **error)
{
    char answer[1 + MAX_REASON];
    ssize_t n = recv(sock, answer, sizeof(answer), flags);
    if (n == 1 && answer[0] == TAKEN) {
        return true;
    }
    if (n > 1 && answer[0] == REFUSED) {
        return refused(answer + 1, (size_t)n - 1, error);
    }
    return pta_throw(error, PTA_ERROR_HOST, "memory: the other process hung up without an answer");
}

/* After the limit the answer is no longer taken: but one that was given before is. */
static bool await_answer(int sock, GError **error)
{
    g_autoptr(GError) late = NULL;
    if (wait_for(sock, POLLIN, &late)) {
        return read_answer(sock, MSG_DONTWAIT, error);
    }
    shutdown(sock, SHUT_RDWR);
    if (read_answer(sock, MSG_DONTWAIT, NULL)) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&late));
    return false;
}

bool pta_backing_export(const PtaSharedMemory *m, PtaShareMode mode, int sock, GError **error)
{
    int fds[PTA_SHARE_BACKINGS];
    json_t *json = pta_backing_export_fds(m, mode, fds, error);
    if (!json) {
        return false;
    }
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    bool done = send_all(sock, mode == PTA_HAND_OVER ? TO_HAND_OVER : TO_SHARE, text, fds,
                         m->n_backings, error) &&
                await_answer(sock, error);
    free(text);
    close_all(fds, m->n_backings);
    if (done && mode == PTA_HAND_OVER) {
        pta_backing_handed_over(m);
    }
    return done;
}

/* ---- in ---- */

/* The seals: nobody changes the size under us, and we may write. */
static bool check_seals(int fd, size_t i, GError **error)
{
    enum { WANTED = F_SEAL_SHRINK | F_SEAL_GROW };
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & WANTED) != WANTED) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory to be taken: descriptor %zu is not sealed; expected seals against "
                         "shrinking and growing",
                         i);
    }
    if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory to be taken: descriptor %zu is sealed against writing", i);
    }
    return true;
}

static bool check_descriptor(int fd, const PtaSharedLayout *layout, size_t i, struct stat *st,
                             GError **error)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) != O_RDWR || (flags & O_PATH) || fstat(fd, st) < 0 ||
        !S_ISREG(st->st_mode)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory to be taken: descriptor %zu is no memory to read and write", i);
    }
    uint64_t page_size = pta_backing_page_size_of(fd, error);
    if (page_size == 0) {
        g_prefix_error(error, "memory to be taken: descriptor %zu: ", i);
        return false;
    }
    if ((uint64_t)st->st_size != layout->size[i] || page_size != layout->page_size[i]) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory to be taken: descriptor %zu has %" PRIu64 " bytes in pages of "
                         "%" PRIu64 "; expected %" PRIu64 " in pages of %" PRIu64,
                         i, (uint64_t)st->st_size, page_size, layout->size[i],
                         layout->page_size[i]);
    }
    return check_seals(fd, i, error);
}

static bool check_descriptors(const int *fds, size_t n, const PtaSharedLayout *layout,
                              GError **error)
{
    struct stat st[PTA_SHARE_BACKINGS];
    if (n != layout->n_backings) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory to be taken: %zu descriptors; expected %zu", n,
                         layout->n_backings);
    }
    for (size_t i = 0; i < n; i++) {
        if (!check_descriptor(fds[i], layout, i, &st[i], error)) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (st[k].st_dev == st[i].st_dev && st[k].st_ino == st[i].st_ino) {
                return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                                 "memory to be taken: descriptor %zu is the memory of descriptor "
                                 "%zu once more",
                                 i, k);
            }
        }
    }
    return true;
}

static PtaSharedMemory *take(PtaShareMode mode, const PtaSharedLayout *layout, int *fds,
                             GError **error)
{
    g_autoptr(PtaSharedMemory) m = g_new0(PtaSharedMemory, 1);
    for (size_t i = 0; i < layout->n_backings; i++) {
        PtaBacking *b = pta_backing_new_shared(g_steal_fd(&fds[i]), layout->size[i],
                                               layout->page_size[i], error);
        if (!b) {
            return NULL;
        }
        m->backings[m->n_backings++] = b;
        if (mode == PTA_HAND_OVER && !pta_backing_own(b, error)) {
            return NULL;
        }
    }
    m->n_ranges = layout->n_ranges;
    memcpy(m->ranges, layout->ranges, sizeof(m->ranges));
    return g_steal_pointer(&m);
}

PtaSharedMemory *pta_backing_import_fds(PtaShareMode mode, const char *text, size_t len, int *fds,
                                        size_t n_fds, GError **error)
{
    g_autofree PtaSharedLayout *layout = g_new(PtaSharedLayout, 1);
    PtaSharedMemory *m = NULL;
    if (pta_shared_layout_parse(layout, text, len, error) &&
        check_descriptors(fds, n_fds, layout, error)) {
        m = take(mode, layout, fds, error);
    }
    close_all(fds, n_fds);
    return m;
}

/* The descriptors that came, of however many messages; those without room are closed. */
static size_t take_descriptors(struct msghdr *msg, int *fds)
{
    size_t n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (n < PTA_SHARE_BACKINGS) {
                fds[n++] = fd;
            } else {
                pta_close(fd);
            }
        }
    }
    return n;
}

/* The mode's byte and the text; *n_fds descriptors, also if it fails. */
static ssize_t receive(int sock, char *buf, size_t size, int *fds, size_t *n_fds, GError **error)
{
    Control control;
    struct iovec iov = { buf, size };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = sizeof(control.bytes) };
    if (!wait_for(sock, POLLIN, error)) {
        return -1;
    }
    ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n >= 0) {
        *n_fds = take_descriptors(&msg, fds);
    }
    if (n <= 0) {
        pta_throw(error, PTA_ERROR_HOST, "memory: the other process hung up");
        return -1;
    }
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                  "memory to be taken: more than %d bytes or %d descriptors", PTA_SHARE_TEXT,
                  PTA_SHARE_BACKINGS);
        return -1;
    }
    return n;
}

static PtaSharedMemory *receive_memory(PtaShareMode mode, int sock, GError **error)
{
    int fds[PTA_SHARE_BACKINGS];
    size_t n_fds = 0;
    g_autofree char *buf = g_malloc(1 + PTA_SHARE_TEXT);
    ssize_t n = receive(sock, buf, 1 + PTA_SHARE_TEXT, fds, &n_fds, error);
    if (n > 0 && buf[0] != (mode == PTA_HAND_OVER ? TO_HAND_OVER : TO_SHARE)) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "memory to be taken: expected it to be %s",
                  mode == PTA_HAND_OVER ? "handed over" : "shared");
        n = -1;
    }
    if (n < 0) {
        close_all(fds, n_fds);
        return NULL;
    }
    return pta_backing_import_fds(mode, buf + 1, (size_t)n - 1, fds, n_fds, error);
}

PtaSharedMemory *pta_backing_import(PtaShareMode mode, int sock, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(PtaSharedMemory) m = receive_memory(mode, sock, &why);
    if (m && send_all(sock, TAKEN, "", NULL, 0, &why)) {
        return g_steal_pointer(&m);
    }
    if (!m) {
        /* If this does not reach the sender, the end of the socket does. */
        g_autofree char *reason = g_strndup(why->message, MAX_REASON);
        send_all(sock, REFUSED, reason, NULL, 0, NULL);
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}
