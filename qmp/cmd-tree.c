/* Commands on the device tree: inspect, and QEMU's qom-list, qom-get and qom-set. All answer once the
 * tree has: parts of it may take their time. MAIN. */
#include "config.h"

#include "qmp/gen/commands.h"
#include "src/machine/machine-inspect.h"

/* A value as one would type it: strings without quotes. */
static char *value_text(const json_t *value)
{
    if (json_is_string(value)) {
        return g_strdup(json_string_value(value));
    }
    char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    char *text = g_strdup(dump);
    free(dump);
    return text;
}

static void fail(PtaQmpReply *reply, PtaError code, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void fail(PtaQmpReply *reply, PtaError code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autoptr(GError) error = g_error_new_valist(PTA_ERROR, (int)code, format, ap);
    va_end(ap);
    pta_qmp_reply_fail(reply, error);
}

static void fail_node(PtaQmpReply *reply, const PtaInspectNode *node, const char *path)
{
    fail(reply,
         node->error.code == PTA_INSPECT_NOT_FOUND ? PTA_ERROR_DEVICE_NOT_FOUND
                                                   : PTA_ERROR_GENERIC_ERROR,
         "%s: %s", path, node->error.text);
}

/* Nobody waits any more, perhaps because the machine goes: it is not looked at again. */
static void abandon(PtaQmpReply *reply)
{
    fail(reply, PTA_ERROR_GENERIC_ERROR, "nobody waits");
}

/* ---- inspect ---- */

typedef struct Job {
    PtaVm *vm;
    PtaQmpReply *reply;
    char *path;
    PtaInspectParams params; /* path is the job's own; no update */
    unsigned deadline_ms;
    bool counters;
    unsigned rate_ms; /* 0: one look is enough */
    PtaInspectNode *first;
    uint64_t first_ns; /* when the looks began */
    uint64_t last_ns;
} Job;

static void job_free(Job *job)
{
    pta_inspect_node_free(job->first);
    g_free(job->path);
    g_free(job);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Job, job_free)

static void on_second_look(void *data, PtaInspectNode *answer)
{
    g_autoptr(Job) job = data;
    g_autoptr(PtaInspectNode) node = answer;
    if (node->kind == PTA_INSPECT_FAILED) {
        fail_node(job->reply, node, job->path);
        return;
    }
    if (job->first) {
        pta_inspect_node_since(node, job->first, (double)(job->last_ns - job->first_ns) / 1e9);
    }
    json_t *json = pta_inspect_node_to_json(node, job->counters);
    qmp_inspect_return(job->reply, json);
    json_decref(json);
}

static gboolean look_again(gpointer data)
{
    Job *job = data;
    if (!pta_qmp_reply_wanted(job->reply)) {
        abandon(job->reply);
        job_free(job);
        return G_SOURCE_REMOVE;
    }
    job->last_ns = pta_now_ns();
    pta_inspect_start(pta_vm_inspect, job->vm, &job->params, job->deadline_ms, on_second_look, job);
    return G_SOURCE_REMOVE;
}

static void on_first_look(void *data, PtaInspectNode *node)
{
    Job *job = data;
    if (job->rate_ms == 0 || node->kind == PTA_INSPECT_FAILED) {
        on_second_look(job, node);
        return;
    }
    job->first = node;
    g_timeout_add(job->rate_ms, look_again, job);
}

void qmp_inspect(PtaVm *vm, const InspectArgs *args, PtaQmpReply *reply)
{
    static const PtaInspectShow show[] = {
        [INSPECT_SENSITIVITY_SAFE] = PTA_INSPECT_SHOW_SAFE,
        [INSPECT_SENSITIVITY_UNSPECIFIED] = PTA_INSPECT_SHOW_UNSPECIFIED,
        [INSPECT_SENSITIVITY_SENSITIVE] = PTA_INSPECT_SHOW_ALL,
    };
    if (args->value && args->has_rate) {
        fail(reply, PTA_ERROR_BAD_DESCRIPTION, "inspect: $.rate: not together with \"value\"");
        return;
    }
    g_autofree char *update = args->value ? value_text(args->value) : NULL;
    Job *job = g_new0(Job, 1);
    job->vm = vm;
    job->reply = reply;
    job->path = g_strdup(args->path);
    job->params = (PtaInspectParams){
        .path = job->path,
        .depth = args->has_depth ? args->depth : UINT_MAX,
        .show = show[args->sensitivity],
    };
    job->deadline_ms = args->deadline;
    job->counters = args->counters;
    job->rate_ms = args->has_rate ? args->rate : 0;
    job->first_ns = pta_now_ns();
    PtaInspectParams params = job->params;
    params.update = update;
    pta_inspect_start(pta_vm_inspect, vm, &params, job->deadline_ms, on_first_look, job);
}

/* ---- objects and properties ---- */

#define DEADLINE_MS 1000

static const char *node_type(const PtaInspectNode *node)
{
    static const char *const types[] = {
        [PTA_INSPECT_U64] = "uint64",  [PTA_INSPECT_S64] = "int64",  [PTA_INSPECT_BOOL] = "bool",
        [PTA_INSPECT_REAL] = "number", [PTA_INSPECT_STR] = "string", [PTA_INSPECT_BYTES] = "bytes",
    };
    switch (node->kind) {
    case PTA_INSPECT_DIR:
    case PTA_INSPECT_UNEVALUATED:
        return "child<container>";
    case PTA_INSPECT_VALUE:
        return types[node->value.type];
    case PTA_INSPECT_FAILED:
        return "error";
    }
    g_assert_not_reached();
}

typedef struct Access {
    PtaVm *vm;
    PtaQmpReply *reply;
    char *object;
    char *property; /* NULL: the object's list is asked for */
    char *path;     /* of the property */
    char *update;   /* NULL: it is read */
    bool *
        at_once; /* to be set if the object answers before the command's start is over; then NULL */
} Access;

static Access *access_new(PtaVm *vm, PtaQmpReply *reply, const char *object, const char *property,
                          char *update)
{
    Access *a = g_new0(Access, 1);
    a->vm = vm;
    a->reply = reply;
    a->object = g_strdup(object);
    a->property = g_strdup(property);
    a->path = property ? g_strconcat(object, "/", property, NULL) : NULL;
    a->update = update;
    return a;
}

static void access_free(Access *a)
{
    g_free(a->object);
    g_free(a->property);
    g_free(a->path);
    g_free(a->update);
    g_free(a);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Access, access_free)

static void return_list(PtaQmpReply *reply, const PtaInspectNode *node)
{
    guint n = node->children->len;
    g_autofree ObjectPropertyInfo *infos = g_new0(ObjectPropertyInfo, n);
    g_autofree ObjectPropertyInfo **list = g_new0(ObjectPropertyInfo *, n);
    for (guint i = 0; i < n; i++) {
        const PtaInspectNode *child = g_ptr_array_index(node->children, i);
        infos[i].name = child->name;
        infos[i].type = (char *)node_type(child); /* lent, as all of it is */
        list[i] = &infos[i];
    }
    qmp_qom_list_return(reply, list, n);
}

static void return_value(const Access *a, const PtaInspectNode *node)
{
    json_t *json;
    if (node->kind == PTA_INSPECT_VALUE) {
        json = pta_inspect_node_to_json(node, false);
    } else { /* as in QEMU: the value of a child is its path */
        json = json_sprintf("%s%s%s", a->object, g_str_has_suffix(a->object, "/") ? "" : "/",
                            a->property);
    }
    qmp_qom_get_return(a->reply, json);
    json_decref(json);
}

static void on_property(void *data, PtaInspectNode *answer)
{
    g_autoptr(Access) a = data;
    g_autoptr(PtaInspectNode) node = answer;
    if (*a->property == '\0' ||
        (node->kind == PTA_INSPECT_FAILED && node->error.code == PTA_INSPECT_NOT_FOUND)) {
        fail(a->reply, PTA_ERROR_GENERIC_ERROR, "Property '%s.%s' not found", a->object,
             a->property);
    } else if (node->kind == PTA_INSPECT_FAILED) {
        fail_node(a->reply, node, a->path);
    } else if (a->update) {
        qmp_qom_set_return(a->reply);
    } else {
        return_value(a, node);
    }
}

static void on_object(void *data, PtaInspectNode *answer)
{
    Access *a = data;
    g_autoptr(PtaInspectNode) node = answer;
    bool at_once = a->at_once != NULL;
    if (at_once) {
        *a->at_once = true;
        a->at_once = NULL;
    }
    if (!at_once && !pta_qmp_reply_wanted(a->reply)) { /* nothing below such a one can be set */
        abandon(a->reply);
        access_free(a);
    } else if (node->kind != PTA_INSPECT_DIR) {
        fail(a->reply, PTA_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", a->object);
        access_free(a);
    } else if (!a->property) {
        return_list(a->reply, node);
        access_free(a);
    } else {
        PtaInspectParams params = { .path = a->path, .update = a->update };
        pta_inspect_start(pta_vm_inspect, a->vm, &params, DEADLINE_MS, on_property, a);
    }
}

static void access_start(Access *a)
{
    g_autofree char *dir = g_strconcat(a->object, "/", NULL);
    bool at_once = false;
    a->at_once = &at_once;
    pta_inspect_start(pta_vm_inspect, a->vm, &(PtaInspectParams){ .path = dir }, DEADLINE_MS,
                      on_object, a);
    if (!at_once) {
        a->at_once = NULL;
    }
}

void qmp_qom_list(PtaVm *vm, const QomListArgs *args, PtaQmpReply *reply)
{
    access_start(access_new(vm, reply, args->path, NULL, NULL));
}

void qmp_qom_get(PtaVm *vm, const QomGetArgs *args, PtaQmpReply *reply)
{
    access_start(access_new(vm, reply, args->path, args->property, NULL));
}

void qmp_qom_set(PtaVm *vm, const QomSetArgs *args, PtaQmpReply *reply)
{
    access_start(access_new(vm, reply, args->path, args->property, value_text(args->value)));
}
