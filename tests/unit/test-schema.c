/* The schema's loader on the real schema: positions, references, and examples that are true. */
#include "config.h"

#include "qmp/gen/introspect.h"
#include "qmp/gen/types.h"
#include "qmp/schema.h"

#include <string.h>

#include "tests/lib/cmocka-all.h"

/* The files that this build compiles, from the environment. */
static Schema *load(void)
{
    g_auto(GStrv) files = g_strsplit(g_getenv("SCHEMA"), " ", -1);
    g_autoptr(GPtrArray) given = g_ptr_array_new();
    for (char **file = files; *file; file++) {
        if (**file) {
            g_ptr_array_add(given, *file);
        }
    }
    g_autoptr(GError) error = NULL;
    Schema *schema =
        schema_load(g_getenv("srcdir"), (const char *const *)given->pdata, given->len, &error);
    if (!schema) {
        fail_msg("%s", error->message);
    }
    return schema;
}

static void positions_are_those_of_the_file(void **state)
{
    g_autofree char *dir = g_build_filename(g_getenv("srcdir"), "tests", "schema", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(SchemaNode) root = schema_node_load(dir, "small.json", &error);
    assert_non_null(root);
    g_autofree char *path = g_build_filename(dir, "small.json", NULL);
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    /* Each entity's name, and each key one level down, is on the line that its node says. */
    size_t seen = 0;
    for (guint i = 0; i < root->items->len; i++) {
        const SchemaNode *entity = root->items->pdata[i];
        assert_string_equal(entity->pos.file, path);
        for (guint k = 0; k < entity->items->len; k++) {
            const SchemaNode *member = entity->items->pdata[k];
            g_autofree char *quoted = g_strdup_printf("\"%s\":", member->key);
            assert_non_null(strstr(lines[member->pos.line - 1], quoted));
            for (guint m = 0; member->items && m < member->items->len; m++) {
                const SchemaNode *inner = member->items->pdata[m];
                if (inner->key) {
                    g_autofree char *inner_quoted = g_strdup_printf("\"%s\":", inner->key);
                    assert_non_null(strstr(lines[inner->pos.line - 1], inner_quoted));
                    seen++;
                }
            }
        }
    }
    assert_true(seen > 50);
}

static void examples_are_true(void **state)
{
    g_autoptr(Schema) schema = load();
    const SchemaEntity *machine = schema_find(schema, "MachineConfig");
    assert_non_null(machine);
    assert_string_equal(machine->manual, "partita-machine");
    assert_non_null(machine->example);
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineConfig) config = machine_config_from_json(machine->example, "manual", &error);
    if (!config) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(config->n_devices, 4);
}

static void names_are_made_as_documented(void **state)
{
    static const char *const names[][3] = {
        { "VirtioBlkConfig", "virtio_blk_config", "VirtioBlkConfig" },
        { "Uart16550Config", "uart16550_config", "Uart16550Config" },
        { "QMPCapability", "qmp_capability", "QMPCapability" },
        { "UUID", "uuid", "Uuid" },
        { "qom-get", "qom_get", "QomGet" },
        { "GUEST_PANICKED", "guest_panicked", "GuestPanicked" },
        { "x86-64-v1", "x86_64_v1", "X8664V1" },
        { "KVMMissingCap", "kvm_missing_cap", "KVMMissingCap" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *snake = schema_snake(names[i][0]);
        g_autofree char *camel = schema_camel(names[i][0]);
        assert_string_equal(snake, names[i][1]);
        assert_string_equal(camel, names[i][2]);
    }
}

/* Each type that query-qmp-schema names is described, once; so is each command and event. */
static void introspection_is_complete(void **state)
{
    g_autoptr(Schema) schema = load();
    json_t *all = pta_introspect_query_qmp_schema();
    json_t *by_name = json_object();
    size_t i;
    json_t *e;
    json_array_foreach(all, i, e)
    {
        const char *name = json_string_value(json_object_get(e, "name"));
        assert_null(json_object_get(by_name, name));
        json_object_set(by_name, name, e);
    }
    static const char *const references[] = { "arg-type", "ret-type", "element-type", "type" };
    static const char *const lists[] = { "members", "variants" };
    json_array_foreach(all, i, e)
    {
        for (size_t r = 0; r < G_N_ELEMENTS(references); r++) {
            const char *type = json_string_value(json_object_get(e, references[r]));
            assert_true(!type || json_object_get(by_name, type));
        }
        for (size_t l = 0; l < G_N_ELEMENTS(lists); l++) {
            size_t k;
            json_t *member;
            json_array_foreach(json_object_get(e, lists[l]), k, member)
            {
                const char *type = json_string_value(json_object_get(member, "type"));
                assert_true(!type || json_object_get(by_name, type));
            }
        }
    }
    for (guint k = 0; k < schema->entities->len; k++) {
        const SchemaEntity *entity = schema->entities->pdata[k];
        json_t *found = json_object_get(by_name, entity->name);
        assert_int_equal(!schema_is_type(entity), found != NULL);
        if (found) {
            assert_string_equal(json_string_value(json_object_get(found, "meta-type")),
                                schema_kind_name(entity->kind));
        }
    }
    json_decref(by_name);
    json_decref(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_are_those_of_the_file),
        cmocka_unit_test(examples_are_true),
        cmocka_unit_test(names_are_made_as_documented),
        cmocka_unit_test(introspection_is_complete),
    };
    if (!g_getenv("srcdir") || !g_getenv("SCHEMA")) {
        g_print("1..0 # SKIP run by make check, which names the schema\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
