/* What the files of a session share, and nobody else. */
#ifndef PTA_SESSION_PRIVATE_H
#define PTA_SESSION_PRIVATE_H

#include "qmp/json-stream.h"
#include "qmp/session.h"

struct PtaSession {
    const PtaSessionEnv *env; /* CONST, lent */
    GString *out;
    size_t sent; /* the first bytes of out that have been */
    PtaJsonStream *stream;
    bool mute;           /* nobody reads: out stays empty */
    bool negotiated;     /* QMP: qmp_capabilities has succeeded */
    bool oob;            /* QMP: and enabled it */
    bool speaks_jsonrpc; /* its last message was JSON-RPC */

    bool wants_events;
    PtaEventDialect event_dialect;
    uint64_t next_event;

    json_t *batch; /* JSON-RPC: being worked on, element batch_next comes next */
    size_t batch_next;
    bool batch_opened; /* its reply has begun */
};

/* A new reference; what is not UTF-8 in text is replaced. */
json_t *session_string(const char *text);
void session_append_json(GString *text, const json_t *value);

/* Takes text. */
void session_reply(PtaSession *session, GString *text);
void session_begin_events(PtaSession *session, PtaEventDialect dialect);

/* Runs a command; on success *ret is a new reference. args: an object or NULL. */
bool session_run(PtaSession *session, const PtaQmpCommand *command, json_t *args, json_t **ret,
                 GError **error);

void session_qmp_greet(PtaSession *session);
void session_qmp_message(PtaSession *session, json_t *message);
void session_qmp_error(PtaSession *session, json_t *id, const char *klass, const char *desc);

void session_jsonrpc_message(PtaSession *session, json_t *message);
void session_jsonrpc_parse_error(PtaSession *session, const char *desc);

#endif
