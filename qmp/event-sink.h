/*
 * Where events go: every event of the machine gets a sequence number and stays in a bounded ring,
 * from which the monitor serves its clients, the fast and the slow alike, and `events-replay`
 * answers those that were away. Nothing is queued for a client, so a client costs no memory by
 * being slow; what the ring has overwritten before a client took it is reported to it as lost.
 *
 * Threads: MAIN.
 */
#ifndef PTA_EVENT_SINK_H
#define PTA_EVENT_SINK_H

#include <jansson.h>

#include "src/util/util.h"

typedef struct PtaEventSink PtaEventSink;

typedef struct PtaEvent {
    uint64_t seq;     /* from 1, without gaps, for the life of the process */
    const char *name; /* interned */
    json_t *data;     /* an object, or NULL */
    int64_t seconds;  /* CLOCK_REALTIME when it was emitted */
    int microseconds;
} PtaEvent;

/* How the texts of an event differ; see pta_event_text(). */
typedef enum PtaEventDialect {
    PTA_EVENT_QMP,
    PTA_EVENT_JSONRPC,
    PTA_EVENT_N_DIALECTS,
} PtaEventDialect;

#define PTA_EVENT_RING_DEFAULT 1024

/* capacity: how many events the ring keeps. */
PtaEventSink *pta_event_sink_new(unsigned capacity);
void pta_event_sink_free(PtaEventSink *sink);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaEventSink, pta_event_sink_free)

/* What the generated qmp_event_…() call. data: an object, stolen; may be NULL. */
void pta_event_emit(PtaEventSink *sink, const char *name, json_t *data);

/* The newest sequence number, 0 if there was no event yet; and the oldest that is still kept (the
 * one after the newest if none is). */
uint64_t pta_event_sink_last(const PtaEventSink *sink);
uint64_t pta_event_sink_first(const PtaEventSink *sink);

/* Lent until the next event; NULL if it is no longer, or not yet, there. */
const PtaEvent *pta_event_sink_get(const PtaEventSink *sink, uint64_t seq);

/*
 * The event as a message without line end, lent until the next event; made once for all clients.
 *   QMP       {"timestamp": {…}, "event": NAME, "data": {…}, "seq": N}
 *   JSON-RPC  {"jsonrpc": "2.0", "method": NAME, "params": {"data": {…}, "timestamp": {…}, "seq": N}}
 * "data" is absent where the event has none.
 */
const char *pta_event_text(PtaEventSink *sink, uint64_t seq, PtaEventDialect dialect);

/* The QMP object, a new reference. */
json_t *pta_event_to_json(const PtaEvent *event);

/*
 * The answer of `events-replay`, a new reference: {"events": [QMP objects with seq > since],
 * "lost": how many of those the ring no longer has, "last": newest sequence number}. A `since` beyond
 * the newest event can only be another process's: everything is returned, with lost 0.
 */
json_t *pta_event_sink_replay(const PtaEventSink *sink, uint64_t since);

/* fn is called after each event; it may not emit. One subscriber list, in order of subscription;
 * `opaque` identifies the subscription for the removal. */
typedef void PtaEventFn(void *opaque);
void pta_event_sink_subscribe(PtaEventSink *sink, PtaEventFn *fn, void *opaque);
void pta_event_sink_unsubscribe(PtaEventSink *sink, void *opaque);

#endif
