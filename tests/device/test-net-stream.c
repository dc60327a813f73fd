/* The back ends on sockets, with a peer that the test plays: framing, a peer that lies, one that goes
 * and comes, one that does not read; datagrams; what cannot be opened. */
#include "fixture.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/net/net.h"
#include "qmp/gen/types.h"

typedef struct End {
    Fixture f;
    PtaNet *net;
    GPtrArray *received; /* of GBytes */
    bool full;           /* no room for frames */
    int n_refused, n_writable, n_link;
    int n_received; /* as in the list */
    int n_events;
    PtaNetEvent last_event;
    char *path;
} End;

static bool end_receive(void *opaque, unsigned pair, const uint8_t *data, size_t len)
{
    End *e = opaque;
    assert_int_equal(pair, 0);
    if (e->full) {
        e->n_refused++;
        return false;
    }
    g_ptr_array_add(e->received, g_bytes_new(data, len));
    e->n_received++;
    return true;
}

static void end_writable(void *opaque)
{
    ((End *)opaque)->n_writable++;
}

static void end_link(void *opaque)
{
    ((End *)opaque)->n_link++;
}

static void end_event(void *opaque, PtaNetEvent event, const char *text)
{
    End *e = opaque;
    assert_true(*text != '\0');
    e->last_event = event;
    e->n_events++;
}

static const PtaNetFrontend front = { end_receive, end_writable, end_link };

static bool end_try(End *e, const NetConfig *config, GError **error)
{
    PtaNetParams params = { "net0", e->f.context, e->f.dir, end_event, e };
    e->net = pta_net_new(config, &params, error);
    if (e->net) {
        pta_net_attach(e->net, &front, e);
    }
    return e->net != NULL;
}

static void end_init(End *e)
{
    memset(e, 0, sizeof(*e));
    fix_new(&e->f);
    e->received = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    e->path = fix_path(&e->f, "wire");
}

static void end_clear(End *e)
{
    pta_net_free(e->net);
    g_ptr_array_unref(e->received);
    g_free(e->path);
    fix_free(&e->f);
}

static bool stream_try(End *e, const char *path, bool server, unsigned reconnect, GError **error)
{
    NetUnixAddress un = { .path = (char *)(uintptr_t)path };
    NetAddress addr = { .type = NET_ADDRESS_TYPE_UNIX, .unix_ = &un };
    NetStreamConfig stream = { .addr = &addr, .server = server, .reconnect = (uint16_t)reconnect };
    NetConfig config = { .type = NET_CONFIG_TYPE_STREAM, .stream = &stream };
    return end_try(e, &config, error);
}

static void stream_open(End *e, bool server, unsigned reconnect)
{
    g_autoptr(GError) error = NULL;
    if (!stream_try(e, e->path, server, reconnect, &error)) {
        fail_msg("%s", error->message);
    }
}

static void fill_addr(const End *e, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
    g_strlcpy(addr->sun_path, e->path, sizeof(addr->sun_path));
}

static int peer_connect(End *e)
{
    struct sockaddr_un addr;
    fill_addr(e, &addr);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    fix_run(&e->f);
    return fd;
}

static int peer_listen(const End *e)
{
    struct sockaddr_un addr;
    fill_addr(e, &addr);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void put_frame(GByteArray *bytes, size_t len, uint8_t value)
{
    uint32_t be = GUINT32_TO_BE((uint32_t)len);
    g_autofree uint8_t *frame = g_malloc(len + 1);
    memset(frame, value, len);
    g_byte_array_append(bytes, (const guint8 *)&be, 4);
    g_byte_array_append(bytes, frame, (guint)len);
}

static void check_frame(End *e, unsigned i, size_t len, uint8_t value)
{
    gsize n;
    const uint8_t *data = g_bytes_get_data(g_ptr_array_index(e->received, i), &n);
    assert_int_equal(n, len);
    for (size_t k = 0; k < n; k++) {
        assert_int_equal(data[k], value);
    }
}

static void frames_in_any_pieces(void **unused)
{
    (void)unused;
    static const size_t sizes[] = { 60, 0, 1514, 65535 + 22, 14, 69632, 1 };
    static const size_t pieces[] = { 1, 3, 4, 1000, 100000, 1000000 };
    g_autoptr(GByteArray) all = g_byte_array_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        put_frame(all, sizes[i], (uint8_t)i);
    }
    for (unsigned p = 0; p < G_N_ELEMENTS(pieces); p++) {
        End e;
        end_init(&e);
        stream_open(&e, true, 0);
        assert_false(pta_net_link_up(e.net));
        int fd = peer_connect(&e);
        assert_true(pta_net_link_up(e.net));
        assert_int_equal(e.n_link, 1);
        assert_int_equal(e.last_event, PTA_NET_EVENT_CONNECTED);
        size_t step = p == 0 ? 1 : pieces[p];
        size_t from = p == 0 ? all->len - 3000 : 0; /* bytes one by one take their time */
        if (p == 0) {
            assert_int_equal(write(fd, all->data, from), from);
            fix_run(&e.f);
        }
        for (size_t at = from; at < all->len; at += step) {
            size_t n = MIN(step, all->len - at);
            for (size_t done = 0; done < n;) {
                ssize_t w = send(fd, all->data + at + done, n - done, MSG_DONTWAIT);
                done += w > 0 ? (size_t)w : 0;
                fix_run(&e.f);
            }
        }
        assert_int_equal(e.received->len, G_N_ELEMENTS(sizes));
        for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
            check_frame(&e, i, sizes[i], (uint8_t)i);
        }
        close(fd);
        end_clear(&e);
    }
}

static void no_room_for_a_while(void **unused)
{
    (void)unused;
    End e;
    end_init(&e);
    stream_open(&e, true, 0);
    int fd = peer_connect(&e);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    put_frame(bytes, 100, 1);
    put_frame(bytes, 200, 2);
    e.full = true;
    assert_int_equal(write(fd, bytes->data, bytes->len), bytes->len);
    fix_run(&e.f);
    assert_int_equal(e.n_refused, 1);
    close(fd); /* what it sent is not lost, and its end is not looked at again and again */
    fix_run(&e.f);
    assert_int_equal(e.n_refused, 1);
    e.full = false;
    pta_net_ready(e.net, 0);
    fix_run(&e.f);
    assert_int_equal(e.received->len, 2);
    check_frame(&e, 0, 100, 1);
    check_frame(&e, 1, 200, 2);
    assert_false(pta_net_link_up(e.net));
    end_clear(&e);
}

static void a_peer_that_lies(void **unused)
{
    (void)unused;
    static const uint32_t lengths[] = { 69633, 0x7fffffff, UINT32_MAX };
    for (unsigned i = 0; i < G_N_ELEMENTS(lengths); i++) {
        End e;
        char end;
        end_init(&e);
        stream_open(&e, true, 0);
        int fd = peer_connect(&e);
        uint32_t be = GUINT32_TO_BE(lengths[i]);
        assert_int_equal(write(fd, &be, 4), 4);
        fix_run(&e.f);
        assert_int_equal(read(fd, &end, 1), 0); /* hung up on */
        assert_int_equal(e.last_event, PTA_NET_EVENT_DISCONNECTED);
        assert_false(pta_net_link_up(e.net));
        close(fd);
        /* The next one is welcome. */
        fd = peer_connect(&e);
        for (unsigned turns = 0; turns < 1000 && !pta_net_link_up(e.net); turns++) {
            g_usleep(10000); /* after a pause */
            fix_run(&e.f);
        }
        assert_true(pta_net_link_up(e.net));
        close(fd);
        end_clear(&e);
    }
}

static PtaNetSent send_one(End *e, size_t len, uint8_t value)
{
    g_autofree uint8_t *frame = g_malloc(len);
    memset(frame, value, len);
    struct iovec iov[] = { { frame, len / 2 }, { frame + len / 2, len - len / 2 } };
    return pta_net_send(e->net, 0, iov, 2, len);
}

static void a_peer_that_does_not_read(void **unused)
{
    (void)unused;
    End e;
    end_init(&e);
    stream_open(&e, true, 0);
    assert_int_equal(send_one(&e, 100, 1), PTA_NET_DROPPED); /* nobody is there */
    int fd = peer_connect(&e);
    unsigned n = 0;
    PtaNetSent sent;
    while ((sent = send_one(&e, 1000, (uint8_t)n)) == PTA_NET_SENT) {
        pta_net_commit(e.net);
        n++;
        assert_true(n < 100000);
    }
    assert_int_equal(sent, PTA_NET_FULL);
    fix_run(&e.f);
    assert_int_equal(e.n_writable, 0);
    /* It reads: all is there, in order, and the front end hears of it. */
    uint8_t frame[1004];
    for (unsigned i = 0; i < n; i++) {
        for (size_t got = 0; got < sizeof(frame);) {
            ssize_t r = recv(fd, frame + got, sizeof(frame) - got, MSG_DONTWAIT);
            if (r > 0) {
                got += (size_t)r;
            } else {
                fix_run(&e.f);
            }
        }
        assert_int_equal(frame[2] << 8 | frame[3], 1000);
        assert_int_equal(frame[4], (uint8_t)i);
        assert_int_equal(frame[1003], (uint8_t)i);
    }
    assert_int_equal(e.n_writable, 1);
    /* It dies while the guest sends. */
    close(fd);
    for (unsigned i = 0; i < 10; i++) {
        send_one(&e, 1000, 0);
        pta_net_commit(e.net);
    }
    fix_run(&e.f);
    assert_false(pta_net_link_up(e.net));
    assert_int_equal(e.last_event, PTA_NET_EVENT_DISCONNECTED);
    assert_int_equal(send_one(&e, 100, 1), PTA_NET_DROPPED);
    end_clear(&e);
}

static void a_client_that_tries_again(void **unused)
{
    (void)unused;
    End e;
    g_autoptr(GError) error = NULL;
    end_init(&e);
    assert_false(stream_try(&e, e.path, false, 0, &error)); /* nobody listens */
    assert_int_equal(error->code, PTA_ERROR_HOST);
    stream_open(&e, false, 1);
    assert_false(pta_net_link_up(e.net));
    int listener = peer_listen(&e);
    fix_run_until(&e.f, &e.n_events, 1);
    assert_true(pta_net_link_up(e.net));
    int fd = accept(listener, NULL, NULL);
    close(fd);
    fix_run_until(&e.f, &e.n_events, 2);
    assert_false(pta_net_link_up(e.net));
    fix_run_until(&e.f, &e.n_events, 3);
    assert_true(pta_net_link_up(e.net));
    fd = accept(listener, NULL, NULL);
    assert_int_equal(send_one(&e, 60, 7), PTA_NET_SENT);
    pta_net_commit(e.net);
    uint8_t frame[64];
    assert_int_equal(recv(fd, frame, sizeof(frame), MSG_WAITALL), 64);
    close(fd);
    close(listener);
    end_clear(&e);
}

static void what_cannot_be_opened(void **unused)
{
    (void)unused;
    End e;
    End other;
    g_autoptr(GError) error = NULL;
    end_init(&e);
    end_init(&other);
    stream_open(&e, true, 0);
    assert_false(stream_try(&other, e.path, true, 0, &error)); /* somebody listens there */
    g_clear_error(&error);
    g_autofree char *file = fix_path(&other.f, "file");
    assert_true(g_file_set_contents(file, "", 0, NULL));
    assert_false(stream_try(&other, file, true, 0, &error));
    g_clear_error(&error);
    g_autofree char *lengthy = g_strnfill(200, 'x');
    assert_false(stream_try(&other, lengthy, true, 0, &error));
    assert_int_equal(error->code, PTA_ERROR_BAD_DESCRIPTION);
    end_clear(&e);
    end_clear(&other);
}

static bool dgram_try(End *e, const char *local, const char *remote, GError **error)
{
    NetUnixAddress un[2] = { { .path = (char *)(uintptr_t)local },
                             { .path = (char *)(uintptr_t)remote } };
    NetAddress addr[2] = { { .type = NET_ADDRESS_TYPE_UNIX, .unix_ = &un[0] },
                           { .type = NET_ADDRESS_TYPE_UNIX, .unix_ = &un[1] } };
    NetDgramConfig dgram = { .local = &addr[0], .remote = &addr[1] };
    NetConfig config = { .type = NET_CONFIG_TYPE_DGRAM, .dgram = &dgram };
    return end_try(e, &config, error);
}

static void datagrams(void **unused)
{
    (void)unused;
    End a, b;
    g_autoptr(GError) error = NULL;
    end_init(&a);
    end_init(&b);
    assert_true(dgram_try(&a, a.path, b.path, &error));
    assert_true(pta_net_link_up(a.net));
    assert_int_equal(send_one(&a, 60, 1), PTA_NET_DROPPED); /* nobody is there yet */
    assert_true(dgram_try(&b, b.path, a.path, &error));
    assert_int_equal(send_one(&a, 60, 2), PTA_NET_SENT);
    b.full = true;
    assert_int_equal(send_one(&a, 1514, 3), PTA_NET_SENT);
    fix_run(&b.f);
    assert_int_equal(b.n_refused, 1);
    b.full = false;
    pta_net_ready(b.net, 0);
    fix_run(&b.f);
    assert_int_equal(b.received->len, 2);
    check_frame(&b, 0, 60, 2);
    check_frame(&b, 1, 1514, 3);
    /* An address that somebody is at; and one that somebody was at. */
    PtaNet *first = b.net;
    assert_false(dgram_try(&b, a.path, b.path, &error));
    assert_int_equal(error->code, PTA_ERROR_HOST);
    g_clear_error(&error);
    b.net = first;
    end_clear(&a);
    end_clear(&b);
}

static void a_descriptor_that_is_no_tap(void **unused)
{
    (void)unused;
    End e;
    g_autoptr(GError) error = NULL;
    NetTapConfig tap = { .queue_pairs = 1 };
    NetConfig config = { .type = NET_CONFIG_TYPE_TAP, .tap = &tap };
    end_init(&e);
    assert_true(end_try(&e, &config, &error)); /* waits for a descriptor */
    assert_false(pta_net_link_up(e.net));
    assert_int_equal(send_one(&e, 60, 1), PTA_NET_DROPPED);
    int fd = peer_listen(&e);
    assert_false(pta_net_set_fd(e.net, fd, &error));
    assert_int_equal(error->code, PTA_ERROR_HOST);
    g_clear_error(&error);
    close(fd);
    unlink(e.path);
    end_clear(&e);
    end_init(&e);
    stream_open(&e, true, 0);
    assert_false(pta_net_set_fd(e.net, 0, &error));
    assert_int_equal(error->code, PTA_ERROR_UNSUPPORTED);
    end_clear(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_in_any_pieces),
        cmocka_unit_test(no_room_for_a_while),
        cmocka_unit_test(a_peer_that_lies),
        cmocka_unit_test(a_peer_that_does_not_read),
        cmocka_unit_test(a_client_that_tries_again),
        cmocka_unit_test(what_cannot_be_opened),
        cmocka_unit_test(datagrams),
        cmocka_unit_test(a_descriptor_that_is_no_tap),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
