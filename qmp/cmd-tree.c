/* Commands on the device tree: inspect, and QEMU's qom-list, qom-get and qom-set. MAIN. */
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

static bool fail_node(const PtaInspectNode *node, const char *path, GError **error)
{
    PtaError code = node->error.code == PTA_INSPECT_NOT_FOUND ? PTA_ERROR_DEVICE_NOT_FOUND
                                                              : PTA_ERROR_GENERIC_ERROR;
    return pta_throw(error, code, "%s: %s", path, node->error.text);
}

bool qmp_inspect(PtaVm *vm, const InspectArgs *args, json_t **ret, GError **error)
{
    g_autofree char *update = args->value ? value_text(args->value) : NULL;
    PtaInspectParams params = {
        .path = args->path,
        .depth = args->has_depth ? args->depth : UINT_MAX,
        .update = update,
    };
    g_autoptr(PtaInspectNode) node = pta_inspect(pta_vm_inspect, vm, &params);
    if (node->kind == PTA_INSPECT_FAILED) {
        return fail_node(node, args->path, error);
    }
    *ret = pta_inspect_node_to_json(node);
    return true;
}

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

bool qmp_qom_list(PtaVm *vm, const QomListArgs *args, ObjectPropertyInfo ***ret, size_t *n_ret,
                  GError **error)
{
    PtaInspectParams params = { .path = args->path };
    g_autoptr(PtaInspectNode) node = pta_inspect(pta_vm_inspect, vm, &params);
    if (node->kind != PTA_INSPECT_DIR) {
        return pta_throw(error, PTA_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", args->path);
    }
    *n_ret = node->children->len;
    *ret = g_new0(ObjectPropertyInfo *, *n_ret);
    for (guint i = 0; i < node->children->len; i++) {
        const PtaInspectNode *child = g_ptr_array_index(node->children, i);
        ObjectPropertyInfo *info = (*ret)[i] = g_new0(ObjectPropertyInfo, 1);
        info->name = g_strdup(child->name);
        info->type = g_strdup(node_type(child));
    }
    return true;
}

/* Reads or, if update is not NULL, sets a property; NULL and *error if there is none. */
static PtaInspectNode *property(PtaVm *vm, const char *object, const char *name, const char *update,
                                GError **error)
{
    g_autofree char *dir = g_strconcat(object, "/", NULL);
    g_autoptr(PtaInspectNode) parent =
        pta_inspect(pta_vm_inspect, vm, &(PtaInspectParams){ .path = dir });
    if (parent->kind != PTA_INSPECT_DIR) {
        pta_throw(error, PTA_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", object);
        return NULL;
    }
    g_autofree char *path = g_strconcat(object, "/", name, NULL);
    PtaInspectParams params = { .path = path, .update = update };
    g_autoptr(PtaInspectNode) node = pta_inspect(pta_vm_inspect, vm, &params);
    if (*name == '\0' ||
        (node->kind == PTA_INSPECT_FAILED && node->error.code == PTA_INSPECT_NOT_FOUND)) {
        pta_throw(error, PTA_ERROR_GENERIC_ERROR, "Property '%s.%s' not found", object, name);
        return NULL;
    }
    if (node->kind == PTA_INSPECT_FAILED) {
        fail_node(node, path, error);
        return NULL;
    }
    return g_steal_pointer(&node);
}

bool qmp_qom_get(PtaVm *vm, const QomGetArgs *args, json_t **ret, GError **error)
{
    g_autoptr(PtaInspectNode) node = property(vm, args->path, args->property, NULL, error);
    if (!node) {
        return false;
    }
    if (node->kind == PTA_INSPECT_VALUE) {
        *ret = pta_inspect_node_to_json(node);
    } else { /* as in QEMU: the value of a child is its path */
        *ret = json_sprintf("%s%s%s", args->path, g_str_has_suffix(args->path, "/") ? "" : "/",
                            args->property);
    }
    return true;
}

bool qmp_qom_set(PtaVm *vm, const QomSetArgs *args, GError **error)
{
    g_autofree char *text = value_text(args->value);
    g_autoptr(PtaInspectNode) node = property(vm, args->path, args->property, text, error);
    return node != NULL;
}
