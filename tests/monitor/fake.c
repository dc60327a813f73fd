/* Commands for tests of the monitor, and a machine that is none. */
#include "config.h"

#include "tests/monitor/fake.h"

#include <gio/gio.h>
#include <string.h>

static Fake *fake_of(PtaVm *vm)
{
    return (Fake *)vm;
}

static PtaEventSink *sink_of(PtaVm *vm)
{
    return fake_of(vm)->sink;
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

typedef struct Later {
    PtaQmpReply *reply;
    json_t *args;
} Later;

static void later_end(Later *l)
{
    if (json_object_get(l->args, "fail")) {
        g_autoptr(GError) error = NULL;
        pta_throw(&error, PTA_ERROR_BAD_STATE, "failed later");
        pta_qmp_reply_fail(l->reply, error);
    } else {
        pta_qmp_reply_return(l->reply, json_incref(l->args));
    }
    json_decref(l->args);
    g_free(l);
}

static void later(PtaVm *vm, json_t *args, PtaQmpReply *reply)
{
    Later *l = g_new0(Later, 1);
    l->reply = reply;
    l->args = args ? json_incref(args) : json_object();
    fake_of(vm)->started++;
    if (json_object_get(l->args, "now")) {
        later_end(l);
    } else {
        g_queue_push_tail(&fake_of(vm)->later, l);
    }
}

static const PtaQmpCommand commands[] = {
    { "closefd", PTA_QMP_SERVER, NULL },
    { "echo", 0, echo },
    { "emit", 0, emit },
    { "events-replay", PTA_QMP_SERVER, NULL },
    { "fail", 0, fail },
    { "fail-bytes", 0, fail_bytes },
    { "fail-foreign", 0, fail_foreign },
    { "fast", PTA_QMP_OOB, nothing },
    { "getfd", PTA_QMP_SERVER, NULL },
    { "large", 0, large },
    { "later", 0, NULL, later },
    { "net-set-fd", PTA_QMP_SERVER, NULL },
    { "nothing", 0, nothing },
    { "qmp_capabilities", PTA_QMP_SERVER, NULL },
    { "stop-it", 0, stop_it },
    { "text", 0, text },
};

static const PtaQmpCommand *find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

Fake *fake_new(unsigned capacity)
{
    Fake *fake = g_new0(Fake, 1);
    fake->sink = pta_event_sink_new(capacity);
    fake->env = (PtaSessionEnv){ .vm = (PtaVm *)fake, .sink = fake->sink, .find = find };
    g_queue_init(&fake->later);
    return fake;
}

bool fake_end(Fake *fake)
{
    Later *l = g_queue_pop_head(&fake->later);
    if (l) {
        later_end(l);
    }
    return l != NULL;
}

void fake_free(Fake *fake)
{
    if (fake) {
        while (fake_end(fake)) {}
        pta_event_sink_free(fake->sink);
        g_free(fake);
    }
}
