/*
 * The JSON-RPC 2.0 dialect (jsonrpc.org/specification): the commands of QMP as methods, parameters
 * by name, ids, notifications, batches. `qmp_capabilities` is no method: there is nothing to
 * negotiate. MAIN.
 *
 * Codes: the standard's, -32602 where a handler says that an argument is wrong, and -32000 - n for
 * the error of PtaError number n; error.data.class names it.
 */
#include "config.h"

#include "qmp/session-private.h"

#include <string.h>

enum {
    RPC_PARSE_ERROR = -32700,
    RPC_INVALID_REQUEST = -32600,
    RPC_METHOD_NOT_FOUND = -32601,
    RPC_INVALID_PARAMS = -32602,
    RPC_INTERNAL_ERROR = -32603,
    RPC_SERVER_ERROR = -32000,
};

static void reply_end(PtaSession *s, GString *text, json_t *id)
{
    g_string_append(text, ", \"id\": ");
    if (id) {
        session_append_json(text, id);
    } else {
        g_string_append(text, "null");
    }
    g_string_append_c(text, '}');
    session_reply(s, text);
}

/* klass may be NULL. */
static void reply_error(PtaSession *s, json_t *id, int code, const char *klass, const char *message)
{
    GString *text = g_string_sized_new(128);
    json_t *string = session_string(message);
    g_string_append_printf(text,
                           "{\"jsonrpc\": \"2.0\", \"error\": {\"code\": %d, \"message\": ", code);
    session_append_json(text, string);
    json_decref(string);
    if (klass) {
        g_string_append_printf(text, ", \"data\": {\"class\": \"%s\"}", klass);
    }
    g_string_append_c(text, '}');
    reply_end(s, text, id);
}

void session_jsonrpc_parse_error(PtaSession *s, const char *desc)
{
    reply_error(s, NULL, RPC_PARSE_ERROR, NULL, desc);
}

/* What is wrong with a call's frame, or NULL. */
static const char *check_frame(json_t *call)
{
    if (!json_is_object(call)) {
        return "a call must be an object";
    }
    const char *key;
    json_t *value;
    json_object_foreach(call, key, value)
    {
        if (strcmp(key, "jsonrpc") != 0 && strcmp(key, "method") != 0 &&
            strcmp(key, "params") != 0 && strcmp(key, "id") != 0) {
            return "a call has the members jsonrpc, method, params and id only";
        }
    }
    const char *version = json_string_value(json_object_get(call, "jsonrpc"));
    if (!version || strcmp(version, "2.0") != 0) {
        return "'jsonrpc' must be \"2.0\"";
    }
    if (!json_is_string(json_object_get(call, "method"))) {
        return "'method' must be a string";
    }
    json_t *params = json_object_get(call, "params");
    if (params && !json_is_object(params) && !json_is_array(params)) {
        return "'params' must be an object";
    }
    return NULL;
}

static bool is_id(const json_t *id)
{
    return json_is_string(id) || json_is_number(id) || json_is_null(id);
}

static void reply_failure(PtaSession *s, json_t *id, const GError *error)
{
    if (error->domain != PTA_ERROR) {
        reply_error(s, id, RPC_INTERNAL_ERROR, "GenericError", error->message);
        return;
    }
    int code = error->code == PTA_ERROR_BAD_DESCRIPTION ? RPC_INVALID_PARAMS
                                                        : RPC_SERVER_ERROR - error->code;
    reply_error(s, id, code, error_class_name((ErrorClass)error->code), error->message);
}

static void call(PtaSession *s, const char *method, json_t *params, json_t *id)
{
    const PtaQmpCommand *command = s->env->find(method);
    if (!command || strcmp(method, "qmp_capabilities") == 0) {
        if (id) {
            g_autofree char *message = g_strdup_printf("there is no method '%s'", method);
            reply_error(s, id, RPC_METHOD_NOT_FOUND, "CommandNotFound", message);
        }
        return;
    }
    if (json_is_array(params)) {
        if (json_array_size(params) > 0) {
            if (id) {
                reply_error(s, id, RPC_INVALID_PARAMS, NULL, "parameters are passed by name");
            }
            return;
        }
        params = NULL;
    }
    session_run(s, command, params, true, id);
}

void session_jsonrpc_answer(PtaSession *s, json_t *id, json_t *ret, const GError *error)
{
    if (!id) {
        return;
    }
    if (error) {
        reply_failure(s, id, error);
        return;
    }
    GString *text = g_string_sized_new(128);
    g_string_append(text, "{\"jsonrpc\": \"2.0\", \"result\": ");
    session_append_json(text, ret);
    reply_end(s, text, id);
}

void session_jsonrpc_message(PtaSession *s, json_t *message)
{
    json_t *id = json_object_get(message, "id");
    const char *wrong = check_frame(message);
    if (!wrong && id && !is_id(id)) {
        wrong = "'id' must be a string, a number or null";
    }
    if (wrong) {
        reply_error(s, id && is_id(id) ? id : NULL, RPC_INVALID_REQUEST, NULL, wrong);
        return;
    }
    session_begin_events(s, PTA_EVENT_JSONRPC);
    call(s, json_string_value(json_object_get(message, "method")),
         json_object_get(message, "params"), id);
}
