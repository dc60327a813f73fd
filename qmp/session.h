/*
 * One conversation with a client of the monitor, without the socket: messages in, text out.
 *
 * Two dialects, told apart message by message. An object with a member "jsonrpc", or an array (a
 * batch), is JSON-RPC 2.0; everything else is QMP.
 *
 *   QMP. The greeting comes unasked, as its clients wait for it. `qmp_capabilities` first; only with
 *   "oob" enabled is `exec-oob` taken.
 *
 *   JSON-RPC. Needs no negotiation: a client drops the greeting, which is the first line and has no
 *   "jsonrpc" in it. Commands are methods, parameters are passed by name.
 *
 *   Errors of text that is no message are reported in the dialect that the client last spoke.
 *
 * Commands are carried out and answered in the order in which they came. While one is under way (its
 * handler answers later: reply.h) no further input is taken. Only if the client has enabled "oob" is
 * input still looked at: `exec-oob` is carried out at once, everything else waits in line, up to
 * PTA_SESSION_QUEUE messages. A batch is not overtaken, as its replies are one array.
 *
 * Events go to a client from its successful qmp_capabilities on as QMP, or from its first valid
 * JSON-RPC call on as notifications; whichever came first decides the form for good. They are taken
 * from the ring (event-sink.h) whenever the client has room. One that is too slow for the ring is
 * told how many it missed, by EVENTS_LOST, and can go on from there with `events-replay`.
 *
 * Threads: MAIN.
 */
#ifndef PTA_SESSION_H
#define PTA_SESSION_H

#include "qmp/event-sink.h"
#include "qmp/gen/commands.h"
#include "src/util/inspect.h"

/* Above this much waiting output no further request is looked at and no event is added, so that a
 * client that does not read holds this and one reply at most. */
#define PTA_SESSION_OUT_MARK (64 * PTA_KIB)

/* How many messages of a client with "oob" may wait for the command under way; as many as in QEMU. */
#define PTA_SESSION_QUEUE 8

/* The version of QEMU whose names and shapes the commands follow: greeting and query-version. Our own
 * is in "package". */
#define PTA_QMP_QEMU_MAJOR 7
#define PTA_QMP_QEMU_MINOR 2
#define PTA_QMP_QEMU_MICRO 0

/* What a session works on; lent for its life. */
typedef struct PtaSessionEnv {
    PtaVm *vm;
    PtaEventSink *sink;
    const PtaQmpCommand *(*find)(const char *name);
} PtaSessionEnv;

typedef struct PtaSession PtaSession;

/* Its output begins with the greeting. wake(owner), which may be NULL, is called when a command that
 * was under way has been answered: there may be output, work and room for input. It may not call the
 * session. */
typedef void PtaSessionWakeFn(void *owner);
PtaSession *pta_session_new(const PtaSessionEnv *env, PtaSessionWakeFn *wake, void *owner);

/* A command under way is still carried out, its reply dropped. */
void pta_session_free(PtaSession *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaSession, pta_session_free)

/*
 * Works on input: at most len bytes, at most *budget messages (which it lowers), and only as long as
 * pta_session_takes_input(). Returns the bytes it took. Has to be called with len 0 as well, if
 * pta_session_has_work(), for what is left of a batch or waits in line.
 */
size_t pta_session_feed(PtaSession *session, const char *bytes, size_t len, unsigned *budget);

/* A descriptor came with what is fed next, for `getfd`; taken over. The last one counts. */
void pta_session_take_fd(PtaSession *session, int fd);

/* What waits to be sent, lent until the next call; and: the first n bytes of it have been. */
const char *pta_session_output(const PtaSession *session, size_t *len);
void pta_session_sent(PtaSession *session, size_t n);

/* There is room for output, and no command under way that further input has to wait for. */
bool pta_session_takes_input(const PtaSession *session);

/* Could go on without further input: a batch is to be continued, or messages wait in line. */
bool pta_session_has_work(const PtaSession *session);

/* Nothing is under way: all replies that will ever come have been written. */
bool pta_session_is_idle(const PtaSession *session);

/* Nothing but one command is under way, that is, no further one would be lost with the session. */
bool pta_session_only_waits(const PtaSession *session);

/* The client will send nothing more: reports a message that was cut short, after what is under way. */
void pta_session_finish(PtaSession *session);

/* Adds the events that there are, if there is room. */
void pta_session_add_events(PtaSession *session);

/* True if it wants events and there are some; and if it would take them now. */
bool pta_session_wants_events(const PtaSession *session);
bool pta_session_takes_events(const PtaSession *session);

/* PtaInspectFn: dialect, what was said and heard, what is under way. */
void pta_session_inspect(void *session, PtaInspect *req);

/* The client cannot be written to any more; what it sent is still carried out. */
void pta_session_discard_output(PtaSession *session);

#endif
