/*
 * The monitor: listens on UNIX sockets and serves any client on them, in the main loop, without ever
 * blocking.
 *
 * What a client can cost is bounded: requests are read only while less than PTA_SESSION_OUT_MARK of
 * output waits for it, so one that sends and never reads is left alone with its full socket; events
 * wait in the common ring and not for each client; a turn of the main loop works on a limited number
 * of messages of each; and there are at most max_clients. A client that has shut down its sending
 * side still gets all replies; one that has gone altogether still has its commands carried out. A
 * command that takes its time (reply.h) keeps nobody waiting but the client that gave it.
 *
 * Threads: MAIN.
 */
#ifndef PTA_MONITOR_H
#define PTA_MONITOR_H

#include "qmp/session.h"

#define PTA_MONITOR_MAX_CLIENTS 64

typedef struct PtaMonitor PtaMonitor;

/* env is lent for the monitor's life; max_clients 0 means PTA_MONITOR_MAX_CLIENTS. */
PtaMonitor *pta_monitor_new(const PtaSessionEnv *env, unsigned max_clients);

/* Sends what can be sent at once, hangs up, removes the sockets it made. Commands under way are still
 * carried out, their replies dropped. */
void pta_monitor_free(PtaMonitor *monitor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaMonitor, pta_monitor_free)

/* Listens at path, mode 0600. A socket that nobody listens on any more is replaced; anything else that
 * is there is an error (HOST), as is a path that is too long for a socket address. */
bool pta_monitor_listen(PtaMonitor *monitor, const char *path, GError **error);

/* Serves a connected stream socket, which it takes over, as one more client; refuses it politely if
 * there are too many. */
void pta_monitor_add_client(PtaMonitor *monitor, int fd);

/* PtaInspectFn: listeners and clients. */
void pta_monitor_inspect(void *monitor, PtaInspect *req);

unsigned pta_monitor_n_clients(const PtaMonitor *monitor);

#endif
