/*
 * A client of a monitor, ours or QEMU's: connects, negotiates, calls commands, collects events.
 * Blocking, except pta_client_receive(). One thread at a time.
 */
#ifndef PTA_CLIENT_H
#define PTA_CLIENT_H

#include <jansson.h>

#include "src/util/util.h"

typedef struct PtaClient PtaClient;

/* An event as QMP sends it; lent. */
typedef void PtaClientEventFn(void *opaque, const json_t *event);

/* Why a call failed; the domain of its errors is PTA_CLIENT_ERROR. */
typedef enum PtaClientError {
    PTA_CLIENT_ERROR_REFUSED, /* the server answered with an error: its text */
    PTA_CLIENT_ERROR_GONE,    /* no connection, or it has broken, or what came was not QMP */
} PtaClientError;

GQuark pta_client_error_quark(void);
#define PTA_CLIENT_ERROR pta_client_error_quark()

/* Also waits for the greeting (five seconds at most) and ends the negotiation. fn may be NULL:
 * events are dropped. */
PtaClient *pta_client_connect(const char *path, PtaClientEventFn *fn, void *opaque, GError **error);
void pta_client_free(PtaClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaClient, pta_client_free)

/* To poll for POLLIN; then pta_client_receive(). */
int pta_client_fd(const PtaClient *client);

/* The greeting's "QMP" member; lent. */
const json_t *pta_client_greeting(const PtaClient *client);

/* Runs a command; args (an object or NULL) is stolen. What it returned, a new reference; NULL and
 * *error otherwise. Events that come meanwhile are handed on. */
json_t *pta_client_call(PtaClient *client, const char *command, json_t *args, GError **error);

/* The same for a request that is complete but for its id. The reply, a new reference. */
json_t *pta_client_request(PtaClient *client, json_t *request, GError **error);

/* Hands on the events that have come, without waiting; false if the connection is gone. */
bool pta_client_receive(PtaClient *client, GError **error);

#endif
