/* The ring of events: sequence numbers, replay, texts made once for all clients. MAIN. */
#include "config.h"

#include "qmp/event-sink.h"

typedef struct Slot {
    PtaEvent event;
    char *text[PTA_EVENT_N_DIALECTS]; /* made when first asked for */
} Slot;

typedef struct Subscriber {
    PtaEventFn *fn;
    void *opaque;
} Subscriber;

struct PtaEventSink {
    unsigned capacity;
    uint64_t last;
    Slot *slots; /* event seq is in slots[seq % capacity] */
    GArray *subscribers;
};

PtaEventSink *pta_event_sink_new(unsigned capacity)
{
    g_assert(capacity > 0);
    PtaEventSink *sink = g_new0(PtaEventSink, 1);
    sink->capacity = capacity;
    sink->slots = g_new0(Slot, capacity);
    sink->subscribers = g_array_new(FALSE, FALSE, sizeof(Subscriber));
    return sink;
}

static void slot_clear(Slot *slot)
{
    json_decref(slot->event.data);
    for (unsigned i = 0; i < PTA_EVENT_N_DIALECTS; i++) {
        g_free(slot->text[i]);
    }
    *slot = (Slot){};
}

void pta_event_sink_free(PtaEventSink *sink)
{
    if (!sink) {
        return;
    }
    for (unsigned i = 0; i < sink->capacity; i++) {
        slot_clear(&sink->slots[i]);
    }
    g_free(sink->slots);
    g_array_unref(sink->subscribers);
    g_free(sink);
}

uint64_t pta_event_sink_last(const PtaEventSink *sink)
{
    return sink->last;
}

uint64_t pta_event_sink_first(const PtaEventSink *sink)
{
    return sink->last < sink->capacity ? 1 : sink->last - sink->capacity + 1;
}

static Slot *slot_of(const PtaEventSink *sink, uint64_t seq)
{
    if (seq < pta_event_sink_first(sink) || seq > sink->last) {
        return NULL;
    }
    return &sink->slots[seq % sink->capacity];
}

const PtaEvent *pta_event_sink_get(const PtaEventSink *sink, uint64_t seq)
{
    Slot *slot = slot_of(sink, seq);
    return slot ? &slot->event : NULL;
}

void pta_event_emit(PtaEventSink *sink, const char *name, json_t *data)
{
    pta_assert_main();
    g_assert(data == NULL || json_is_object(data));
    int64_t now = g_get_real_time();
    Slot *slot = &sink->slots[++sink->last % sink->capacity];
    slot_clear(slot);
    slot->event = (PtaEvent){
        .seq = sink->last,
        .name = g_intern_string(name),
        .data = data,
        .seconds = now / G_USEC_PER_SEC,
        .microseconds = (int)(now % G_USEC_PER_SEC),
    };
    PTA_TRACE(PTA_TRACE_MONITOR, "event %" G_GUINT64_FORMAT " %s", sink->last, name);
    for (unsigned i = 0; i < sink->subscribers->len; i++) {
        Subscriber *s = &g_array_index(sink->subscribers, Subscriber, i);
        s->fn(s->opaque);
    }
}

static json_t *timestamp(const PtaEvent *event)
{
    return json_pack("{s:I, s:i}", "seconds", (json_int_t)event->seconds, "microseconds",
                     event->microseconds);
}

json_t *pta_event_to_json(const PtaEvent *event)
{
    /* json_pack's "O*" leaves a member out whose value is NULL. */
    return json_pack("{s:o, s:s, s:O*, s:I}", "timestamp", timestamp(event), "event", event->name,
                     "data", event->data, "seq", (json_int_t)event->seq);
}

static json_t *to_jsonrpc(const PtaEvent *event)
{
    return json_pack("{s:s, s:s, s:{s:O*, s:o, s:I}}", "jsonrpc", "2.0", "method", event->name,
                     "params", "data", event->data, "timestamp", timestamp(event), "seq",
                     (json_int_t)event->seq);
}

const char *pta_event_text(PtaEventSink *sink, uint64_t seq, PtaEventDialect dialect)
{
    Slot *slot = slot_of(sink, seq);
    if (!slot) {
        return NULL;
    }
    if (!slot->text[dialect]) {
        json_t *message =
            dialect == PTA_EVENT_QMP ? pta_event_to_json(&slot->event) : to_jsonrpc(&slot->event);
        slot->text[dialect] = json_dumps(message, JSON_ENSURE_ASCII);
        json_decref(message);
    }
    return slot->text[dialect];
}

json_t *pta_event_sink_replay(const PtaEventSink *sink, uint64_t since)
{
    if (since > sink->last) {
        since = 0;
    }
    uint64_t first = pta_event_sink_first(sink);
    uint64_t lost = first > since + 1 ? first - since - 1 : 0;
    json_t *events = json_array();
    for (uint64_t seq = since + lost + 1; seq <= sink->last; seq++) {
        json_array_append_new(events, pta_event_to_json(pta_event_sink_get(sink, seq)));
    }
    return json_pack("{s:o, s:I, s:I}", "events", events, "lost", (json_int_t)lost, "last",
                     (json_int_t)sink->last);
}

void pta_event_sink_subscribe(PtaEventSink *sink, PtaEventFn *fn, void *opaque)
{
    Subscriber s = { .fn = fn, .opaque = opaque };
    g_array_append_val(sink->subscribers, s);
}

void pta_event_sink_unsubscribe(PtaEventSink *sink, void *opaque)
{
    for (unsigned i = 0; i < sink->subscribers->len; i++) {
        if (g_array_index(sink->subscribers, Subscriber, i).opaque == opaque) {
            g_array_remove_index(sink->subscribers, i);
            return;
        }
    }
}
