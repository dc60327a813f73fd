/* The client's side of QMP. */
#include "config.h"

#include "qmp/client.h"

#include "qmp/json-stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define GREETING_TIMEOUT_MS 5000
/* A server that we chose to ask may have much to say. */
#define MAX_REPLY_BYTES (256 * PTA_MIB)

G_DEFINE_QUARK(pta - client - error, pta_client_error)

struct PtaClient {
    int fd;
    PtaJsonStream *stream;
    PtaClientEventFn *fn;
    void *opaque;
    json_t *greeting;
    GQueue messages; /* of json_t: read and not looked at */
    json_int_t next_id;
};

static bool gone(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool gone(GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_assert(!error || !*error);
    if (error) {
        *error = g_error_new_valist(PTA_CLIENT_ERROR, PTA_CLIENT_ERROR_GONE, format, ap);
    }
    va_end(ap);
    return false;
}

static void free_message(gpointer message)
{
    json_decref(message);
}

void pta_client_free(PtaClient *c)
{
    if (!c) {
        return;
    }
    pta_close(c->fd);
    pta_json_stream_free(c->stream);
    g_queue_clear_full(&c->messages, free_message);
    json_decref(c->greeting);
    g_free(c);
}

int pta_client_fd(const PtaClient *c)
{
    return c->fd;
}

const json_t *pta_client_greeting(const PtaClient *c)
{
    return c->greeting;
}

/* Reads what there is, waiting for up to timeout milliseconds (-1: for ever) for the first of it. */
static bool fill(PtaClient *c, int timeout, GError **error)
{
    struct pollfd pfd = { .fd = c->fd, .events = POLLIN };
    int ready;
    do {
        ready = poll(&pfd, 1, timeout);
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        return timeout == 0 || gone(error, "it says nothing");
    }
    char buf[16384];
    ssize_t n = recv(c->fd, buf, sizeof(buf), 0);
    if (n < 0) {
        return errno == EINTR || gone(error, "%s", g_strerror(errno));
    }
    if (n == 0) {
        return gone(error, "the connection has ended");
    }
    for (size_t at = 0; at < (size_t)n;) {
        PtaJsonItem item;
        at += pta_json_stream_feed(c->stream, buf + at, (size_t)n - at, &item);
        if (item.error) {
            gone(error, "it sends what is not QMP: %s", item.error);
            g_free(item.error);
            return false;
        }
        if (item.value) {
            g_queue_push_tail(&c->messages, item.value);
        }
    }
    return true;
}

/* The next message that is no event, a new reference; NULL without an error if there is none yet and
 * wait is false. */
static json_t *next_message(PtaClient *c, bool wait, int timeout, GError **error)
{
    for (;;) {
        json_t *message = g_queue_pop_head(&c->messages);
        if (!message) {
            if (!wait || !fill(c, timeout, error)) {
                return NULL;
            }
            continue;
        }
        if (!json_object_get(message, "event")) {
            return message;
        }
        if (c->fn) {
            c->fn(c->opaque, message);
        }
        json_decref(message);
    }
}

bool pta_client_receive(PtaClient *c, GError **error)
{
    if (!fill(c, 0, error)) {
        return false;
    }
    json_t *message = next_message(c, false, 0, error);
    json_decref(message); /* nobody asked for it */
    return true;
}

json_t *pta_client_request(PtaClient *c, json_t *request, GError **error)
{
    json_int_t id = c->next_id++;
    json_object_set_new(request, "id", json_integer(id));
    char *text = json_dumps(request, JSON_COMPACT);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    free(text);
    for (size_t sent = 0, len = strlen(line); sent < len;) {
        ssize_t n = send(c->fd, line + sent, len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            gone(error, "%s", g_strerror(errno));
            return NULL;
        }
        sent += n > 0 ? (size_t)n : 0;
    }
    json_t *reply;
    while ((reply = next_message(c, true, -1, error))) {
        json_t *of = json_object_get(reply, "id");
        /* A reply without id is to something that the server could not read. */
        if (!of || json_integer_value(of) == id) {
            return reply;
        }
        json_decref(reply);
    }
    return NULL;
}

json_t *pta_client_call(PtaClient *c, const char *command, json_t *args, GError **error)
{
    json_t *request = json_pack("{s:s, s:o*}", "execute", command, "arguments", args);
    json_t *reply = request ? pta_client_request(c, request, error) : NULL;
    json_decref(request);
    if (!reply) {
        return NULL;
    }
    json_t *result = json_incref(json_object_get(reply, "return"));
    if (!result) {
        const char *desc =
            json_string_value(json_object_get(json_object_get(reply, "error"), "desc"));
        g_set_error_literal(error, PTA_CLIENT_ERROR, PTA_CLIENT_ERROR_REFUSED,
                            desc ?: "an answer without a result");
    }
    json_decref(reply);
    return result;
}

static int connect_socket(const char *path, GError **error)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    if (*path == '\0' || strlen(path) >= sizeof(addr.sun_path)) {
        gone(error, "the path of a socket has 1 to %zu bytes", sizeof(addr.sun_path) - 1);
        return -1;
    }
    strcpy(addr.sun_path, path);
    pta_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        gone(error, "%s", g_strerror(errno));
        return -1;
    }
    return g_steal_fd(&fd);
}

static bool negotiate(PtaClient *c, GError **error)
{
    json_t *message = next_message(c, true, GREETING_TIMEOUT_MS, error);
    if (!message) {
        return false;
    }
    c->greeting = json_incref(json_object_get(message, "QMP"));
    const char *refusal =
        json_string_value(json_object_get(json_object_get(message, "error"), "desc"));
    if (!c->greeting) {
        gone(error, "%s", refusal ?: "it is no monitor: it does not greet");
    }
    json_decref(message);
    if (!c->greeting) {
        return false;
    }
    json_t *result = pta_client_call(c, "qmp_capabilities", NULL, error);
    json_decref(result);
    return result != NULL;
}

PtaClient *pta_client_connect(const char *path, PtaClientEventFn *fn, void *opaque, GError **error)
{
    g_autoptr(PtaClient) c = g_new0(PtaClient, 1);
    c->fn = fn;
    c->opaque = opaque;
    c->stream = pta_json_stream_new();
    pta_json_stream_set_max_bytes(c->stream, MAX_REPLY_BYTES);
    c->fd = connect_socket(path, error);
    if (c->fd < 0 || !negotiate(c, error)) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    return g_steal_pointer(&c);
}
