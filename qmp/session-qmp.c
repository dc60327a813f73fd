/*
 * The QMP dialect, after QEMU's docs/interop/qmp-spec: greeting, negotiation, shape of requests and
 * replies, error classes and, where clients are known to match them, QEMU's sentences. MAIN.
 */
#include "config.h"

#include "qmp/session-private.h"

#include <string.h>

void session_qmp_greet(PtaSession *s)
{
    g_string_append_printf(
        s->out,
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": %d, \"minor\": %d, "
        "\"major\": %d}, \"package\": \"%s\"}, \"capabilities\": [\"oob\"]}}\r\n",
        PTA_QMP_QEMU_MICRO, PTA_QMP_QEMU_MINOR, PTA_QMP_QEMU_MAJOR, PACKAGE_STRING);
}

/* QEMU's names; a class of ours is GenericError to its clients. */
static const char *class_name(const GError *error)
{
    if (error->domain != PTA_ERROR || error->code > PTA_ERROR_KVM_MISSING_CAP) {
        return error_class_name(ERROR_CLASS_GENERIC_ERROR);
    }
    return error_class_name((ErrorClass)error->code); /* the same order: util.h */
}

static GString *reply_begin(const char *key)
{
    GString *text = g_string_sized_new(128);
    g_string_append_printf(text, "{\"%s\": ", key);
    return text;
}

static void reply_end(GString *text, json_t *id)
{
    if (id) {
        g_string_append(text, ", \"id\": ");
        session_append_json(text, id);
    }
    g_string_append_c(text, '}');
}

void session_qmp_error(PtaSession *s, json_t *id, const char *klass, const char *desc)
{
    GString *text = reply_begin("error");
    json_t *string = session_string(desc);
    g_string_append_printf(text, "{\"class\": \"%s\", \"desc\": ", klass);
    session_append_json(text, string);
    g_string_append_c(text, '}');
    reply_end(text, id);
    json_decref(string);
    session_reply(s, text);
}

static void fail(PtaSession *s, json_t *id, const char *klass, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
static void fail(PtaSession *s, json_t *id, const char *klass, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *desc = g_strdup_vprintf(format, ap);
    va_end(ap);
    session_qmp_error(s, id, klass, desc);
}

typedef struct Request {
    const char *name;
    json_t *args;
    json_t *id;
    bool oob;
} Request;

/* Reads the request; what is wrong with it has been replied if it returns false. */
static bool parse_request(PtaSession *s, json_t *message, Request *request)
{
    *request = (Request){};
    if (!json_is_object(message)) {
        fail(s, NULL, "GenericError", "QMP input must be a JSON object");
        return false;
    }
    json_t *id = request->id = json_object_get(message, "id");
    const char *command_key = NULL;
    const char *key;
    json_t *value;
    json_object_foreach(message, key, value)
    {
        bool oob = strcmp(key, "exec-oob") == 0;
        if (strcmp(key, "execute") == 0 || (oob && s->oob)) {
            if (!json_is_string(value)) {
                fail(s, id, "GenericError", "QMP input member '%s' must be a string", key);
                return false;
            }
            if (command_key) {
                fail(s, id, "GenericError", "QMP input member '%s' clashes with '%s'", key,
                     command_key);
                return false;
            }
            command_key = key;
            request->name = json_string_value(value);
            request->oob = oob;
        } else if (strcmp(key, "arguments") == 0) {
            if (!json_is_object(value)) {
                fail(s, id, "GenericError", "QMP input member 'arguments' must be an object");
                return false;
            }
            request->args = value;
        } else if (strcmp(key, "id") != 0) {
            fail(s, id, "GenericError", "QMP input member '%s' is unexpected", key);
            return false;
        }
    }
    if (!command_key) {
        fail(s, id, "GenericError", "QMP input lacks member 'execute'");
        return false;
    }
    return true;
}

/* The command, if it may be run now. */
static const PtaQmpCommand *find_command(PtaSession *s, const Request *request)
{
    const PtaQmpCommand *command = s->env->find(request->name);
    bool negotiation = strcmp(request->name, "qmp_capabilities") == 0;
    if (!s->negotiated && !negotiation) {
        fail(s, request->id, "CommandNotFound",
             "Expecting capabilities negotiation with 'qmp_capabilities'");
        return NULL;
    }
    if (s->negotiated && negotiation) {
        fail(s, request->id, "CommandNotFound",
             "Capabilities negotiation is already complete, command ignored");
        return NULL;
    }
    if (!command) {
        fail(s, request->id, "CommandNotFound", "The command %s has not been found", request->name);
        return NULL;
    }
    if (request->oob && !(command->flags & PTA_QMP_OOB)) {
        fail(s, request->id, "GenericError", "The command %s does not support OOB", request->name);
        return NULL;
    }
    return command;
}

void session_qmp_message(PtaSession *s, json_t *message)
{
    Request request;
    if (!parse_request(s, message, &request)) {
        return;
    }
    const PtaQmpCommand *command = find_command(s, &request);
    if (!command) {
        return;
    }
    session_run(s, command, request.args, false, request.id);
}

void session_qmp_answer(PtaSession *s, json_t *id, json_t *ret, const GError *error)
{
    if (error) {
        session_qmp_error(s, id, class_name(error), error->message);
        return;
    }
    GString *text = reply_begin("return");
    session_append_json(text, ret);
    reply_end(text, id);
    session_reply(s, text);
}

bool session_qmp_is_oob(const PtaSession *s, const json_t *message)
{
    return s->oob && json_object_get(message, "exec-oob") && !json_object_get(message, "execute") &&
           !json_object_get(message, "jsonrpc");
}
