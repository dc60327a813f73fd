/* Commands for tests of the monitor, and a machine that is none. */
#include "config.h"

#include "tests/monitor/fake.h"

#include <gio/gio.h>
#include <string.h>

static PtaEventSink *sink_of(PtaVm *vm)
{
    return (PtaEventSink *)vm;
}

static bool echo(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    *ret = args ? json_incref(args) : json_object();
    return true;
}

static bool nothing(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    *ret = json_object();
    return true;
}

static bool text(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    *ret = json_string("caf\xc3\xa9 \"x\"");
    return true;
}

static bool fail(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    json_int_t code = json_integer_value(json_object_get(args, "code"));
    code = CLAMP(code, 0, PTA_ERROR_UNSUPPORTED);
    return pta_throw(error, (PtaError)code, "failure %d", (int)code);
}

static bool fail_bytes(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    return pta_throw(error, PTA_ERROR_HOST, "caf\xe9");
}

static bool fail_foreign(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "foreign");
    return false;
}

static bool stop_it(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    pta_event_emit(sink_of(vm), "STOP", NULL);
    *ret = json_object();
    return true;
}

static bool emit(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    for (json_int_t i = MIN(json_integer_value(json_object_get(args, "count")), 10000); i > 0;
         i--) {
        pta_event_emit(sink_of(vm), "TICK", NULL);
    }
    *ret = json_object();
    return true;
}

static bool large(PtaVm *vm, json_t *args, json_t **ret, GError **error)
{
    json_int_t size = json_integer_value(json_object_get(args, "size"));
    g_autofree char *string = g_strnfill((gsize)CLAMP(size, 0, 10000000), 'x');
    *ret = json_string(string);
    return true;
}

static const PtaQmpCommand commands[] = {
    { "echo", 0, echo },
    { "emit", 0, emit },
    { "events-replay", PTA_QMP_SERVER, NULL },
    { "fail", 0, fail },
    { "fail-bytes", 0, fail_bytes },
    { "fail-foreign", 0, fail_foreign },
    { "fast", PTA_QMP_OOB, nothing },
    { "large", 0, large },
    { "nothing", 0, nothing },
    { "qmp_capabilities", PTA_QMP_SERVER, NULL },
    { "stop-it", 0, stop_it },
    { "text", 0, text },
};

const PtaQmpCommand *fake_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

PtaSessionEnv fake_env(PtaEventSink *sink)
{
    return (PtaSessionEnv){ .vm = (PtaVm *)sink, .sink = sink, .find = fake_find };
}
