/* What the files of a session share, and nobody else. */
#ifndef PTA_SESSION_PRIVATE_H
#define PTA_SESSION_PRIVATE_H

#include "qmp/json-stream.h"
#include "qmp/session.h"

/* Who gets the answer of a command. */
typedef struct SessionCall {
    json_t *id; /* NULL if there is none (of JSON-RPC: no answer either); owned */
    bool jsonrpc;
} SessionCall;

struct PtaSession {
    const PtaSessionEnv *env; /* CONST, lent */
    PtaSessionWakeFn *wake;   /* CONST */
    void *owner;              /* CONST */
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

    PtaQmpReply *under_way; /* the command that is; NULL if none */
    SessionCall call;       /* of under_way */
    const char *call_name;  /* of its command */
    bool starting;          /* its handler has not come back yet */
    GQueue queue;           /* PtaJsonItem: in-band, behind it */

    int fd;          /* came last, and has no name yet; -1: none */
    GHashTable *fds; /* name -> descriptor; NULL: none */

    uint64_t n_messages;
    uint64_t n_errors; /* of text that was no message */
    uint64_t n_commands;
    uint64_t n_received; /* bytes */
    uint64_t n_sent;     /* bytes */
    uint64_t n_events;
    uint64_t n_events_lost;
};

/* A new reference; what is not UTF-8 in text is replaced. */
json_t *session_string(const char *text);
void session_append_json(GString *text, const json_t *value);

/* Takes text. */
void session_reply(PtaSession *session, GString *text);
void session_begin_events(PtaSession *session, PtaEventDialect dialect);

/* Runs a command, which answers now or later. args: an object or NULL; id: lent. */
void session_run(PtaSession *session, const PtaQmpCommand *command, json_t *args, bool jsonrpc,
                 json_t *id);

/* session-fds.c */
bool session_getfd(PtaSession *session, json_t *json, GError **error);
bool session_closefd(PtaSession *session, json_t *json, GError **error);
bool session_net_set_fd(PtaSession *session, json_t *json, GError **error);
void session_close_fds(PtaSession *session);

void session_qmp_greet(PtaSession *session);
void session_qmp_message(PtaSession *session, json_t *message);
void session_qmp_error(PtaSession *session, json_t *id, const char *klass, const char *desc);
void session_qmp_answer(PtaSession *session, json_t *id, json_t *ret, const GError *error);
/* It wants to overtake. */
bool session_qmp_is_oob(const PtaSession *session, const json_t *message);

void session_jsonrpc_message(PtaSession *session, json_t *message);
/* id: NULL for a notification, which is never answered, not even with an error. */
void session_jsonrpc_answer(PtaSession *session, json_t *id, json_t *ret, const GError *error);
void session_jsonrpc_parse_error(PtaSession *session, const char *desc);

#endif
