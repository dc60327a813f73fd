/* A client's conversation: which dialect, in what order, what waits. The dialects themselves are in
 * session-qmp.c and session-jsonrpc.c. MAIN. */
#include "config.h"

#include "qmp/session-private.h"

#include <string.h>

#define OUT_SIZE      1024
#define OUT_KEEP_SIZE (256 * PTA_KIB) /* a larger buffer is given back once it is empty */

PtaSession *pta_session_new(const PtaSessionEnv *env, PtaSessionWakeFn *wake, void *owner)
{
    PtaSession *s = g_new0(PtaSession, 1);
    s->env = env;
    s->wake = wake;
    s->owner = owner;
    s->fd = -1;
    g_queue_init(&s->queue);
    s->out = g_string_sized_new(OUT_SIZE);
    s->stream = pta_json_stream_new();
    session_qmp_greet(s);
    return s;
}

static void item_clear(PtaJsonItem *item)
{
    json_decref(item->value);
    g_free(item->error);
    *item = (PtaJsonItem){};
}

static void item_free(gpointer data)
{
    item_clear(data);
    g_free(data);
}

void pta_session_free(PtaSession *s)
{
    if (!s) {
        return;
    }
    if (s->under_way) {
        pta_qmp_reply_forget(s->under_way);
    }
    json_decref(s->call.id);
    g_queue_clear_full(&s->queue, item_free);
    pta_json_stream_free(s->stream);
    json_decref(s->batch);
    g_string_free(s->out, TRUE);
    session_close_fds(s);
    g_free(s);
}

static bool has_room(const PtaSession *s)
{
    return s->mute || s->out->len - s->sent < PTA_SESSION_OUT_MARK;
}

static void put(PtaSession *s, const char *text)
{
    if (!s->mute) {
        g_string_append(s->out, text);
    }
}

static int append_bytes(const char *buffer, size_t size, void *data)
{
    g_string_append_len(data, buffer, (gssize)size);
    return 0;
}

void session_append_json(GString *text, const json_t *value)
{
    int failed = json_dump_callback(value, append_bytes, text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    g_assert(failed == 0); /* memory is never short and every value has been valid */
}

json_t *session_string(const char *text)
{
    json_t *string = json_string(text);
    if (!string) { /* a file name, say */
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        string = json_string(valid);
    }
    return string;
}

/* ---- output ---- */

const char *pta_session_output(const PtaSession *s, size_t *len)
{
    *len = s->out->len - s->sent;
    return s->out->str + s->sent;
}

void pta_session_sent(PtaSession *s, size_t n)
{
    g_assert(n <= s->out->len - s->sent);
    s->sent += n;
    s->n_sent += n;
    if (s->sent == s->out->len && s->out->allocated_len > OUT_KEEP_SIZE) {
        g_string_free(s->out, TRUE);
        s->out = g_string_sized_new(OUT_SIZE);
        s->sent = 0;
    } else if (s->sent > s->out->len / 2) { /* moves each byte once at most */
        g_string_erase(s->out, 0, (gssize)s->sent);
        s->sent = 0;
    }
}

void session_begin_events(PtaSession *s, PtaEventDialect dialect)
{
    if (!s->wants_events) {
        s->wants_events = true;
        s->event_dialect = dialect;
        s->next_event = pta_event_sink_last(s->env->sink) + 1;
    }
}

bool pta_session_wants_events(const PtaSession *s)
{
    return s->wants_events && s->next_event <= pta_event_sink_last(s->env->sink);
}

/* A note for this client alone: it is no event of the machine, so it has no number. */
static void put_events_lost(PtaSession *s, uint64_t count)
{
    int64_t now = g_get_real_time();
    g_autofree char *data = g_strdup_printf("\"data\": {\"count\": %" G_GUINT64_FORMAT
                                            ", \"last\": %" G_GUINT64_FORMAT "}",
                                            count, s->next_event - 1);
    g_autofree char *timestamp =
        g_strdup_printf("\"timestamp\": {\"seconds\": %" G_GINT64_FORMAT ", \"microseconds\": %d}",
                        now / G_USEC_PER_SEC, (int)(now % G_USEC_PER_SEC));
    g_autofree char *text =
        s->event_dialect == PTA_EVENT_QMP
            ? g_strdup_printf("{%s, \"event\": \"EVENTS_LOST\", %s}\r\n", timestamp, data)
            : g_strdup_printf("{\"jsonrpc\": \"2.0\", \"method\": \"EVENTS_LOST\", "
                              "\"params\": {%s, %s}}\r\n",
                              data, timestamp);
    put(s, text);
}

bool pta_session_takes_events(const PtaSession *s)
{
    return !s->batch_opened && has_room(s); /* an array of replies cannot be interrupted */
}

void pta_session_add_events(PtaSession *s)
{
    if (!pta_session_takes_events(s)) {
        return;
    }
    while (has_room(s) && pta_session_wants_events(s)) {
        uint64_t first = pta_event_sink_first(s->env->sink);
        if (s->next_event < first) {
            uint64_t count = first - s->next_event;
            s->next_event = first;
            s->n_events_lost += count;
            put_events_lost(s, count);
        }
        put(s, pta_event_text(s->env->sink, s->next_event, s->event_dialect));
        put(s, "\r\n");
        s->next_event++;
        s->n_events++;
    }
}

/* Events that led to a reply come before it, as in QEMU: STOP, then the return of `stop`. */
void session_reply(PtaSession *s, GString *text)
{
    if (s->batch) {
        put(s, s->batch_opened ? ", " : "[");
        put(s, text->str);
        s->batch_opened = true;
    } else {
        pta_session_add_events(s);
        put(s, text->str);
        put(s, "\r\n");
    }
    g_string_free(text, TRUE);
}

/* ---- input ---- */

static void take_error(PtaSession *s, const PtaJsonItem *item)
{
    if (s->speaks_jsonrpc || (!s->negotiated && item->is_jsonrpc)) {
        session_jsonrpc_parse_error(s, item->error);
    } else {
        session_qmp_error(s, NULL, "GenericError", item->error);
    }
}

static void take_value(PtaSession *s, json_t *value)
{
    s->speaks_jsonrpc = json_is_array(value) || json_object_get(value, "jsonrpc");
    if (!s->speaks_jsonrpc) {
        session_qmp_message(s, value);
    } else if (json_is_array(value) && json_array_size(value) > 0) {
        s->batch = json_incref(value);
        s->batch_next = 0;
    } else {
        session_jsonrpc_message(s, value);
    }
}

static void take_item(PtaSession *s, PtaJsonItem *item)
{
    s->n_messages++;
    if (item->error) {
        s->n_errors++;
        take_error(s, item);
    } else {
        take_value(s, item->value);
    }
    item_clear(item);
}

static void take_next_in_line(PtaSession *s)
{
    PtaJsonItem *item = g_queue_pop_head(&s->queue);
    take_item(s, item);
    g_free(item);
}

/* Carried out at once if nothing is under way or it may overtake that. */
static void take_or_queue(PtaSession *s, PtaJsonItem *item)
{
    bool waits = s->under_way || s->batch || s->queue.length > 0;
    if (!waits || (item->value && session_qmp_is_oob(s, item->value))) {
        take_item(s, item);
    } else {
        g_queue_push_tail(&s->queue, g_memdup2(item, sizeof(*item)));
    }
}

static void batch_step(PtaSession *s)
{
    if (s->batch_next < json_array_size(s->batch)) {
        session_jsonrpc_message(s, json_array_get(s->batch, s->batch_next++));
        return;
    }
    if (s->batch_opened) {
        put(s, "]\r\n"); /* nothing at all if it was made of notifications */
    }
    json_decref(s->batch);
    s->batch = NULL;
    s->batch_opened = false;
}

bool pta_session_has_work(const PtaSession *s)
{
    return (s->batch || s->queue.length > 0) && !s->under_way && has_room(s);
}

bool pta_session_is_idle(const PtaSession *s)
{
    return !s->batch && !s->under_way && s->queue.length == 0;
}

bool pta_session_only_waits(const PtaSession *s)
{
    return s->under_way && s->queue.length == 0 &&
           (!s->batch || s->batch_next == json_array_size(s->batch));
}

bool pta_session_takes_input(const PtaSession *s)
{
    bool blocked = s->under_way && (!s->oob || s->batch || s->queue.length >= PTA_SESSION_QUEUE);
    return has_room(s) && !blocked;
}

size_t pta_session_feed(PtaSession *s, const char *bytes, size_t len, unsigned *budget)
{
    size_t taken = 0;
    while (*budget > 0 && pta_session_takes_input(s)) {
        if (pta_session_has_work(s)) {
            if (s->batch) {
                batch_step(s);
            } else {
                take_next_in_line(s);
            }
            (*budget)--;
            continue;
        }
        if (taken == len) {
            break;
        }
        PtaJsonItem item;
        size_t n = pta_json_stream_feed(s->stream, bytes + taken, len - taken, &item);
        taken += n;
        s->n_received += n;
        if (item.value || item.error) {
            take_or_queue(s, &item);
            (*budget)--;
        }
    }
    return taken;
}

void pta_session_finish(PtaSession *s)
{
    PtaJsonItem item;
    pta_json_stream_finish(s->stream, &item);
    if (item.value || item.error) {
        take_or_queue(s, &item);
    }
}

void pta_session_discard_output(PtaSession *s)
{
    s->mute = true;
    s->sent = 0;
    g_string_truncate(s->out, 0);
}

/* ---- commands, the same for both dialects ---- */

static bool run_capabilities(PtaSession *s, json_t *json, GError **error)
{
    g_autoptr(QmpCapabilitiesArgs) args =
        qmp_capabilities_args_from_json(json, "qmp_capabilities", error);
    if (!args) {
        return false;
    }
    s->negotiated = true;
    s->oob = args->n_enable > 0; /* there is but one */
    session_begin_events(s, PTA_EVENT_QMP);
    return true;
}

static bool run_replay(PtaSession *s, json_t *json, json_t **ret, GError **error)
{
    g_autoptr(EventsReplayArgs) args = events_replay_args_from_json(json, "events-replay", error);
    if (!args) {
        return false;
    }
    *ret = pta_event_sink_replay(s->env->sink, args->since);
    return true;
}

/* What the schema leaves to the server, because it is about the session. */
static bool run_here(PtaSession *s, const char *name, json_t *args, json_t **ret, GError **error)
{
    json_t *json = args ? json_incref(args) : json_object();
    bool ok;
    if (strcmp(name, "qmp_capabilities") == 0) {
        ok = run_capabilities(s, json, error);
    } else if (strcmp(name, "events-replay") == 0) {
        ok = run_replay(s, json, ret, error);
    } else if (strcmp(name, "getfd") == 0) {
        ok = session_getfd(s, json, error);
    } else if (strcmp(name, "closefd") == 0) {
        ok = session_closefd(s, json, error);
    } else if (strcmp(name, "net-set-fd") == 0) {
        ok = session_net_set_fd(s, json, error);
    } else {
        g_assert_not_reached();
    }
    json_decref(json);
    return ok;
}

static void answer(PtaSession *s, const SessionCall *call, json_t *ret, const GError *error)
{
    if (call->jsonrpc) {
        session_jsonrpc_answer(s, call->id, ret, error);
    } else {
        session_qmp_answer(s, call->id, ret, error);
    }
}

static void on_reply(void *data, json_t *ret, const GError *error)
{
    PtaSession *s = data;
    SessionCall call = s->call;
    s->call = (SessionCall){};
    s->under_way = NULL;
    answer(s, &call, ret, error);
    json_decref(call.id);
    if (s->wake && !s->starting) {
        s->wake(s->owner);
    }
}

static void start(PtaSession *s, const PtaQmpCommand *command, json_t *args,
                  const SessionCall *call)
{
    g_assert(!s->under_way); /* what has to wait is in line, and what overtakes answers at once */
    s->call = *call;
    json_incref(call->id);
    s->under_way = pta_qmp_reply_new(on_reply, s);
    s->call_name = command->name;
    s->starting = true;
    command->start(s->env->vm, args, s->under_way);
    s->starting = false;
}

void session_run(PtaSession *s, const PtaQmpCommand *command, json_t *args, bool jsonrpc,
                 json_t *id)
{
    PTA_TRACE(PTA_TRACE_MONITOR, "command %s", command->name);
    s->n_commands++;
    SessionCall call = { .id = id, .jsonrpc = jsonrpc };
    if (command->start) {
        start(s, command, args, &call);
        return;
    }
    json_t *ret = NULL;
    g_autoptr(GError) error = NULL;
    bool ok = command->dispatch ? command->dispatch(s->env->vm, args, &ret, &error)
                                : run_here(s, command->name, args, &ret, &error);
    g_assert(ok || error);
    if (ok && !ret) {
        ret = json_object();
    }
    answer(s, &call, ok ? ret : NULL, error);
    json_decref(ret);
}

/* ---- inspect ---- */

void pta_session_inspect(void *obj, PtaInspect *req)
{
    static const PtaInspectField counters[] = {
        PTA_INSPECT_OF_U64(PtaSession, n_messages, "messages", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(PtaSession, n_errors, "parse-errors", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(PtaSession, n_commands, "commands", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(PtaSession, n_received, "bytes-received", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(PtaSession, n_sent, "bytes-sent", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(PtaSession, n_events, "events-sent", PTA_INSPECT_COUNTER),
        PTA_INSPECT_OF_U64(PtaSession, n_events_lost, "events-lost", PTA_INSPECT_COUNTER),
        {},
    };
    const PtaSession *s = obj;
    pta_inspect_str(req, "dialect", PTA_INSPECT_PLAIN, s->speaks_jsonrpc ? "json-rpc" : "qmp");
    pta_inspect_bool(req, "negotiated", PTA_INSPECT_PLAIN, s->negotiated);
    pta_inspect_bool(req, "oob", PTA_INSPECT_PLAIN, s->oob);
    pta_inspect_bool(req, "wants-events", PTA_INSPECT_PLAIN, s->wants_events);
    pta_inspect_u64(req, "unsent", PTA_INSPECT_PLAIN, s->out->len - s->sent);
    pta_inspect_u64(req, "waiting", PTA_INSPECT_PLAIN, s->queue.length);
    if (s->under_way) {
        pta_inspect_str(req, "under-way", PTA_INSPECT_PLAIN, s->call_name);
    }
    pta_inspect_fields(req, counters, s);
}
