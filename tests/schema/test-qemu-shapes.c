/*
 * What we share with QEMU has QEMU's shape: its query-qmp-schema and ours, compared command by
 * command and event by event. Arguments must take all that a client may send to QEMU; results and
 * event data must be something that QEMU could have said.
 */
#include "config.h"

#include "qmp/gen/introspect.h"

#include <gio/gio.h>
#include <string.h>

#include "tests/lib/cmocka-all.h"

#define QEMU "qemu-system-x86_64"

typedef struct Side {
    json_t *all;
    json_t *by_name;
} Side;

static Side ours, theirs;
static GString *path; /* of what is compared: "query-status.status" */
static unsigned n_compared, n_wrong;

static void side_init(Side *side, json_t *all)
{
    side->all = all;
    side->by_name = json_object();
    size_t i;
    json_t *e;
    json_array_foreach(all, i, e)
    {
        json_object_set(side->by_name, json_string_value(json_object_get(e, "name")), e);
    }
}

static void side_clear(Side *side)
{
    json_decref(side->all);
    json_decref(side->by_name);
}

static const char *get(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* The member or value of a list of objects by name, NULL if there is none. */
static json_t *find(json_t *list, const char *key, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (strcmp(get(item, key), name) == 0) {
            return item;
        }
    }
    return NULL;
}

static bool is_optional(json_t *member)
{
    return json_object_get(member, "default") != NULL;
}

static void wrong(const char *what)
{
    print_message("# %s: %s\n", path->str, what);
    n_wrong++;
}

static void compare_type(const char *mine, const char *other, bool from_client);

/* from_client: what QEMU takes, we take. Else: what we say, QEMU might say. */
static void compare_object(json_t *mine, json_t *other, bool from_client)
{
    json_t *my_members = json_object_get(mine, "members");
    json_t *other_members = json_object_get(other, "members");
    size_t i;
    json_t *m, *o;
    json_array_foreach(my_members, i, m)
    {
        gsize len = path->len;
        g_string_append_printf(path, ".%s", get(m, "name"));
        o = find(other_members, "name", get(m, "name"));
        if (o) {
            if (from_client && is_optional(o) && !is_optional(m)) {
                wrong("is optional in QEMU");
            }
            if (!from_client && !is_optional(o) && is_optional(m)) {
                wrong("is always there in QEMU");
            }
            compare_type(get(m, "type"), get(o, "type"), from_client);
        } else if (!from_client || !is_optional(m)) {
            wrong("is not in QEMU");
        }
        g_string_truncate(path, len);
    }
    json_array_foreach(other_members, i, o)
    {
        if (!find(my_members, "name", get(o, "name")) && (from_client || !is_optional(o))) {
            gsize len = path->len;
            g_string_append_printf(path, ".%s", get(o, "name"));
            wrong("is missing");
            g_string_truncate(path, len);
        }
    }
    /* Branches; where we have a plain object, it must be what QEMU's branch for our tags is: empty. */
    json_t *my_tag = find(my_members, "name", get(other, "tag"));
    json_array_foreach(json_object_get(other, "variants"), i, o)
    {
        json_t *v = find(json_object_get(mine, "variants"), "case", get(o, "case"));
        if (v) {
            compare_type(get(v, "type"), get(o, "type"), from_client);
            continue;
        }
        json_t *values =
            json_object_get(json_object_get(ours.by_name, get(my_tag, "type")), "members");
        if (my_tag && find(values, "name", get(o, "case"))) {
            json_t *branch = json_object_get(theirs.by_name, get(o, "type"));
            if (json_array_size(json_object_get(branch, "members")) != 0) {
                wrong("has a branch in QEMU");
            }
        }
    }
}

static void compare_enum(json_t *mine, json_t *other, bool from_client)
{
    json_t *subset = json_object_get(from_client ? other : mine, "members");
    json_t *superset = json_object_get(from_client ? mine : other, "members");
    size_t i;
    json_t *value;
    json_array_foreach(subset, i, value)
    {
        if (!find(superset, "name", get(value, "name"))) {
            g_autofree char *what =
                g_strdup_printf("value %s is on one side only", get(value, "name"));
            wrong(what);
        }
    }
}

static void compare_type(const char *mine, const char *other, bool from_client)
{
    json_t *m = json_object_get(ours.by_name, mine);
    json_t *o = json_object_get(theirs.by_name, other);
    assert_non_null(m);
    assert_non_null(o);
    const char *meta = get(m, "meta-type");
    n_compared++;
    if (strcmp(meta, get(o, "meta-type")) != 0) {
        wrong("is another kind of type");
    } else if (strcmp(meta, "object") == 0) {
        compare_object(m, o, from_client);
    } else if (strcmp(meta, "enum") == 0) {
        compare_enum(m, o, from_client);
    } else if (strcmp(meta, "array") == 0) {
        compare_type(get(m, "element-type"), get(o, "element-type"), from_client);
    } else if (strcmp(get(m, "json-type"), get(o, "json-type")) != 0) {
        wrong("has another JSON type");
    }
}

static json_t *ask_qemu(void)
{
    static const char input[] = "{\"execute\":\"qmp_capabilities\"}\n"
                                "{\"execute\":\"query-qmp-schema\",\"id\":7}\n"
                                "{\"execute\":\"quit\"}\n";
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) qemu = g_subprocess_new(
        G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, &error, QEMU, "-machine",
        "none", "-nodefaults", "-display", "none", "-qmp", "stdio", NULL);
    if (!qemu) {
        return NULL;
    }
    g_autofree char *output = NULL;
    if (!g_subprocess_communicate_utf8(qemu, input, NULL, &output, NULL, &error)) {
        return NULL;
    }
    g_auto(GStrv) lines = g_strsplit(output, "\n", -1);
    for (char **line = lines; *line; line++) {
        json_t *json = json_loads(*line, 0, NULL);
        json_t *result = json_object_get(json, "id") ? json_object_get(json, "return") : NULL;
        if (json_is_array(result)) {
            json_incref(result);
            json_decref(json);
            return result;
        }
        json_decref(json);
    }
    return NULL;
}

static void what_we_share_has_its_shape(void **state)
{
    unsigned n_shared = 0;
    size_t i;
    json_t *e;
    json_array_foreach(ours.all, i, e)
    {
        const char *name = get(e, "name");
        bool command = strcmp(get(e, "meta-type"), "command") == 0;
        json_t *other = json_object_get(theirs.by_name, name);
        if (!other || strcmp(get(e, "meta-type"), get(other, "meta-type")) != 0 ||
            !(command || strcmp(get(e, "meta-type"), "event") == 0)) {
            continue;
        }
        n_shared++;
        g_string_assign(path, name);
        compare_type(get(e, "arg-type"), get(other, "arg-type"), command);
        /* We leave the union that describes the schema itself to the reader. */
        if (command && strcmp(name, "query-qmp-schema") != 0) {
            compare_type(get(e, "ret-type"), get(other, "ret-type"), false);
        }
    }
    print_message("# %u commands and events are QEMU's, %u types compared\n", n_shared, n_compared);
    assert_int_equal(n_wrong, 0);
    assert_true(n_shared >= 25);
    assert_true(n_compared > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_we_share_has_its_shape),
    };
    json_t *schema = ask_qemu();
    if (!schema) {
        g_print("1..0 # SKIP no " QEMU " that tells its schema\n");
        return 0;
    }
    side_init(&theirs, schema);
    side_init(&ours, pta_introspect_query_qmp_schema());
    path = g_string_new(NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    g_string_free(path, TRUE);
    side_clear(&ours);
    side_clear(&theirs);
    return failed;
}
