/* The inspect tree: paths, depth, merging, values, updates, sensitivity, order. */
#include "config.h"

#include "src/machine/inspect.h"
#include "tests/lib/cmocka-all.h"

#include <string.h>

static void expect_params(PtaInspectFn *fn, const PtaInspectParams *params, const char *expected)
{
    g_autoptr(PtaInspectNode) node = pta_inspect(fn, NULL, params);
    json_t *json = pta_inspect_node_to_json(node);
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(text, expected);
    free(text);
    json_decref(json);
}

static void expect_depth(PtaInspectFn *fn, const char *path, unsigned depth, const char *expected)
{
    expect_params(fn, &(PtaInspectParams){ .path = path, .depth = depth }, expected);
}

static void expect(PtaInspectFn *fn, const char *path, const char *expected)
{
    expect_depth(fn, path, UINT_MAX, expected);
}

static void num(PtaInspect *req, const char *name, uint64_t value)
{
    pta_inspect_u64(req, name, PTA_INSPECT_PLAIN, value);
}

static void dir(PtaInspect *req, const char *name, PtaInspectFn *fn)
{
    pta_inspect_child(req, name, PTA_INSPECT_PLAIN, fn, NULL);
}

/* ---- paths ---- */

static void empty(void *obj, PtaInspect *req)
{
}

static void path_b(void *obj, PtaInspect *req)
{
    num(req, "c", 2);
    num(req, "d", 2);
    dir(req, "e", empty);
}

static void path_root(void *obj, PtaInspect *req)
{
    num(req, "a", 1);
    dir(req, "b", path_b);
}

static void paths(void **unused)
{
    expect(path_root, "", "{\"a\":1,\"b\":{\"c\":2,\"d\":2,\"e\":{}}}");
    expect(path_root, "/", "{\"a\":1,\"b\":{\"c\":2,\"d\":2,\"e\":{}}}");
    expect(path_root, NULL, "{\"a\":1,\"b\":{\"c\":2,\"d\":2,\"e\":{}}}");
    expect(path_root, "a", "1");
    expect(path_root, "///a", "1");
    expect(path_root, "b", "{\"c\":2,\"d\":2,\"e\":{}}");
    expect(path_root, "b/", "{\"c\":2,\"d\":2,\"e\":{}}");
    expect(path_root, "b/c", "2");
    expect(path_root, "b////c", "2");
    expect(path_root, "b/c/", "{\"$error\":\"not a directory\"}");
    expect(path_root, "b/c/x", "{\"$error\":\"not a directory\"}");
    expect(path_root, "a/", "{\"$error\":\"not a directory\"}");
    expect(path_root, "b/e", "{}");
    expect(path_root, "b/e/", "{}");
    expect(path_root, "b/e///", "{}");
    expect(path_root, "b/f", "{\"$error\":\"not found\"}");
    expect(path_root, "b/cc", "{\"$error\":\"not found\"}");
    expect(path_root, "b/e/x", "{\"$error\":\"not found\"}");
    expect(path_root, "x", "{\"$error\":\"not found\"}");
}

/* ---- merging ---- */

static void more(void *obj, PtaInspect *req)
{
    num(req, "b", 2);
}

static void merge_root(void *obj, PtaInspect *req)
{
    num(req, "a", 1);
    dir(req, "", more);
}

static void merge(void **unused)
{
    expect(merge_root, "", "{\"a\":1,\"b\":2}");
    expect(merge_root, "a", "1");
    expect(merge_root, "b", "2");
    expect(merge_root, "c", "{\"$error\":\"not found\"}");
}

static void y4(void *obj, PtaInspect *req)
{
    num(req, "y", 4);
}

static void y5(void *obj, PtaInspect *req)
{
    num(req, "y", 5);
}

static void x1(void *obj, PtaInspect *req)
{
    num(req, "b", 3);
    dir(req, "c", y4);
}

static void x2(void *obj, PtaInspect *req)
{
    num(req, "b", 4);
    dir(req, "d", y5);
}

static void named_merge_root(void *obj, PtaInspect *req)
{
    num(req, "a", 1);
    num(req, "a", 2);
    dir(req, "x", x1);
    dir(req, "x", x2);
}

static void named_merge(void **unused)
{
    expect(named_merge_root, "", "{\"a\":2,\"x\":{\"b\":4,\"c\":{\"y\":4},\"d\":{\"y\":5}}}");
    expect(named_merge_root, "x", "{\"b\":4,\"c\":{\"y\":4},\"d\":{\"y\":5}}");
    expect(named_merge_root, "x/d", "{\"y\":5}");
}

static void replace_root(void *obj, PtaInspect *req)
{
    num(req, "a", 1);
    dir(req, "a", y4);
    dir(req, "b", y4);
    num(req, "b", 2);
}

static void other_kinds_replace_one_another(void **unused)
{
    expect(replace_root, "", "{\"a\":{\"y\":4},\"b\":2}");
    expect(replace_root, "a", "{\"y\":4}");
    expect(replace_root, "b", "2");
}

/* ---- nested names and depth ---- */

static void nest_root(void *obj, PtaInspect *req)
{
    num(req, "x/a/b", 1);
    num(req, "x/a//c", 2);
}

static void nest(void **unused)
{
    expect(nest_root, "", "{\"x\":{\"a\":{\"b\":1,\"c\":2}}}");
    expect(nest_root, "x/a", "{\"b\":1,\"c\":2}");
    expect(nest_root, "x/a/c", "2");
    expect(nest_root, "x/a/c/", "{\"$error\":\"not a directory\"}");
    expect_depth(nest_root, "x", 0, "{\"a\":null}");
    expect_depth(nest_root, "x", 2, "{\"a\":{\"b\":1,\"c\":2}}");
    expect_depth(nest_root, "", 0, "{\"x\":null}");
    expect_depth(nest_root, "", 1, "{\"x\":{\"a\":null}}");
}

static void never(void *obj, PtaInspect *req)
{
    fail_msg("a child below the depth limit was evaluated");
}

static void depth_2b(void *obj, PtaInspect *req)
{
    dir(req, "3a", never);
}

static void depth_1d(void *obj, PtaInspect *req)
{
    num(req, "2a", 0);
    dir(req, "2b", depth_2b);
}

static void depth_root(void *obj, PtaInspect *req)
{
    num(req, "1a", 0);
    dir(req, "1d", depth_1d);
    num(req, "1d/2b/3b", 0);
}

static void depth(void **unused)
{
    expect_depth(depth_root, "1d", 0, "{\"2a\":0,\"2b\":null}");
    expect_depth(depth_root, "", 0, "{\"1a\":0,\"1d\":null}");
    expect_depth(depth_root, "", 1, "{\"1a\":0,\"1d\":{\"2a\":0,\"2b\":null}}");
    expect_depth(depth_root, "", 2, "{\"1a\":0,\"1d\":{\"2a\":0,\"2b\":{\"3a\":null,\"3b\":0}}}");
    expect_depth(depth_root, "1a", 0, "0");
}

/* ---- values ---- */

static void values_root(void *obj, PtaInspect *req)
{
    pta_inspect_u64(req, "hex", PTA_INSPECT_HEX, 0x1234);
    pta_inspect_u64(req, "hex-max", PTA_INSPECT_HEX, UINT64_MAX);
    pta_inspect_u64(req, "bin", PTA_INSPECT_BINARY, 0x1234);
    pta_inspect_u64(req, "bin0", PTA_INSPECT_BINARY, 0);
    pta_inspect_u64(req, "bin-max", PTA_INSPECT_BINARY, UINT64_MAX);
    pta_inspect_u64(req, "max", PTA_INSPECT_PLAIN, UINT64_MAX);
    pta_inspect_u64(req, "big", PTA_INSPECT_COUNTER, INT64_MAX);
    pta_inspect_s64(req, "neg", PTA_INSPECT_PLAIN, -5);
    pta_inspect_bool(req, "yes", PTA_INSPECT_PLAIN, true);
    pta_inspect_real(req, "half", PTA_INSPECT_PLAIN, 0.5);
    pta_inspect_str(req, "str", PTA_INSPECT_PLAIN, "caf\xe9");
    pta_inspect_bytes(req, "bytes", PTA_INSPECT_PLAIN, "\xab\xcd\xef", 3);
    g_autoptr(GError) error = g_error_new(PTA_ERROR, PTA_ERROR_HOST, "no luck");
    pta_inspect_error(req, "broken", PTA_INSPECT_PLAIN, error);
    json_t *json = json_pack("{s:[i,b,n,{s:s}], s:f}", "list", 7, 0, "k", "v", "pi", 3.25);
    pta_inspect_json(req, "json", PTA_INSPECT_PLAIN, json);
    json_decref(json);
}

static void values(void **unused)
{
    static const struct {
        const char *path, *expected;
    } cases[] = {
        { "hex", "\"0x1234\"" },
        { "hex-max", "\"0xffffffffffffffff\"" },
        { "bin", "\"0b1001000110100\"" },
        { "bin0", "\"0b0\"" },
        { "max", "\"18446744073709551615\"" },
        { "big", "9223372036854775807" },
        { "neg", "-5" },
        { "yes", "true" },
        { "half", "0.5" },
        { "str", "\"caf\xef\xbf\xbd\"" },
        { "bytes", "\"q83v\"" },
        { "broken", "{\"$error\":\"no luck\"}" },
        { "json", "{\"list\":{\"0\":7,\"1\":false,\"3\":{\"k\":\"v\"}},\"pi\":3.25}" },
        { "json/list/3/k", "\"v\"" },
        { "json/list/2", "{\"$error\":\"not found\"}" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        expect(values_root, cases[i].path, cases[i].expected);
    }
    g_autoptr(PtaInspectNode) node =
        pta_inspect(values_root, NULL, &(PtaInspectParams){ .path = "bin-max" });
    json_t *json = pta_inspect_node_to_json(node);
    assert_int_equal(json_string_length(json), 66);
    json_decref(json);
    g_autoptr(PtaInspectNode) counter =
        pta_inspect(values_root, NULL, &(PtaInspectParams){ .path = "big" });
    assert_int_equal(counter->kind, PTA_INSPECT_VALUE);
    assert_int_equal(counter->value.flags, PTA_INSPECT_COUNTER);
}

static void lazy_error(void *obj, PtaInspect *req)
{
    g_autoptr(GError) error = g_error_new(PTA_ERROR, PTA_ERROR_HOST, "not now");
    pta_inspect_error(req, "", PTA_INSPECT_PLAIN, error);
}

static void lazy_value(void *obj, PtaInspect *req)
{
    num(req, "", 9);
}

static void lazy_root(void *obj, PtaInspect *req)
{
    dir(req, "e", lazy_error);
    dir(req, "v", lazy_value);
}

static void a_child_may_be_a_value_or_fail(void **unused)
{
    expect(lazy_root, "", "{\"e\":{\"$error\":\"not now\"},\"v\":9}");
    expect(lazy_root, "e", "{\"$error\":\"not now\"}");
    expect(lazy_root, "v", "9");
    expect(lazy_root, "v/", "{\"$error\":\"not a directory\"}");
    expect(lazy_root, "v/x", "{\"$error\":\"not a directory\"}");
}

/* ---- updates ---- */

typedef struct Foo {
    uint64_t mut;
    struct Foo *child;
} Foo;

static void foo_get(void *obj, PtaInspect *req)
{
    num(req, "", *(uint64_t *)obj);
}

static bool foo_set(void *obj, const char *text, GError **error)
{
    uint64_t value;
    if (!pta_parse_size(text, &value)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "expected a number, found %s", text);
    }
    *(uint64_t *)obj = value;
    return true;
}

static void foo_inspect(void *obj, PtaInspect *req)
{
    Foo *foo = obj;
    num(req, "immut", 1);
    pta_inspect_mutable(req, "mut", PTA_INSPECT_PLAIN, foo_get, foo_set, &foo->mut);
    pta_inspect_mutable(req, "deep/mut", PTA_INSPECT_PLAIN, foo_get, foo_set, &foo->mut);
    if (foo->child) {
        pta_inspect_child(req, "child", PTA_INSPECT_PLAIN, foo_inspect, foo->child);
    }
}

static void check_update(Foo *foo, const char *path, const char *text, const char *expected)
{
    PtaInspectParams params = { .path = path, .depth = UINT_MAX, .update = text };
    g_autoptr(PtaInspectNode) node = pta_inspect(foo_inspect, foo, &params);
    json_t *json = pta_inspect_node_to_json(node);
    char *dump = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(dump, expected);
    free(dump);
    json_decref(json);
}

static void update(void **unused)
{
    Foo child = { .mut = 102 };
    Foo foo = { .mut = 2, .child = &child };
    check_update(&foo, "immut", "12", "{\"$error\":\"cannot be set\"}");
    check_update(&foo, "mut/", "4", "{\"$error\":\"not a directory\"}");
    check_update(&foo, "mut/x", "4", "{\"$error\":\"not a directory\"}");
    check_update(&foo, "child", "4", "{\"$error\":\"cannot be set\"}");
    check_update(&foo, "deep", "4", "{\"$error\":\"cannot be set\"}");
    check_update(&foo, "", "4", "{\"$error\":\"cannot be set\"}");
    check_update(&foo, "none", "4", "{\"$error\":\"not found\"}");
    check_update(&foo, "mut", "x", "{\"$error\":\"cannot set it: expected a number, found x\"}");
    assert_int_equal(foo.mut, 2);
    assert_int_equal(child.mut, 102);
    check_update(&foo, "mut", "3", "3");
    assert_int_equal(foo.mut, 3);
    check_update(&foo, "//child/mut", "103", "103");
    assert_int_equal(child.mut, 103);
    check_update(&foo, "child//deep/mut", "104", "104");
    assert_int_equal(child.mut, 104);
    assert_int_equal(foo.mut, 3);
    /* reading does not set, and a field that can be set is shown as others are */
    check_update(&foo, "mut", NULL, "3");
    g_autoptr(PtaInspectNode) node =
        pta_inspect(foo_inspect, &foo, &(PtaInspectParams){ .path = "", .depth = 0 });
    json_t *json = pta_inspect_node_to_json(node);
    char *dump = json_dumps(json, JSON_COMPACT);
    assert_string_equal(dump, "{\"child\":null,\"deep\":null,\"immut\":1,\"mut\":3}");
    free(dump);
    json_decref(json);
}

/* ---- sensitivity ---- */

static void sens_3a(void *obj, PtaInspect *req)
{
    pta_inspect_u64(req, "4a", PTA_INSPECT_SAFE, 0);
}

static void sens_2b(void *obj, PtaInspect *req)
{
    pta_inspect_child(req, "3a", PTA_INSPECT_SENSITIVE, sens_3a, NULL);
}

static void sens_1d(void *obj, PtaInspect *req)
{
    pta_inspect_u64(req, "2a", PTA_INSPECT_SENSITIVE, 0);
    pta_inspect_child(req, "2b", PTA_INSPECT_SAFE, sens_2b, NULL);
}

static void sens_merged(void *obj, PtaInspect *req)
{
    pta_inspect_u64(req, "1e", PTA_INSPECT_SAFE, 0);
}

static void sens_root(void *obj, PtaInspect *req)
{
    pta_inspect_u64(req, "1a", PTA_INSPECT_SAFE, 0);
    num(req, "1b", 0);
    pta_inspect_u64(req, "1c", PTA_INSPECT_SENSITIVE, 0);
    pta_inspect_child(req, "1d", PTA_INSPECT_SAFE, sens_1d, NULL);
    num(req, "1d/2b/3b", 0);
    pta_inspect_child(req, "", PTA_INSPECT_SENSITIVE, sens_merged, NULL);
}

static void sensitivity(void **unused)
{
    PtaInspectParams params = { .depth = UINT_MAX, .max_flags = PTA_INSPECT_SAFE };
    expect_params(sens_root, &params, "{\"1a\":0,\"1d\":{\"2b\":{}}}");
    params.path = "1c";
    expect_params(sens_root, &params, "{\"$error\":\"not found\"}");
    params = (PtaInspectParams){ .depth = UINT_MAX, .max_flags = PTA_INSPECT_PLAIN_ONLY };
    expect_params(sens_root, &params, "{\"1a\":0,\"1b\":0,\"1d\":{\"2b\":{\"3b\":0}}}");
    expect(
        sens_root, "",
        "{\"1a\":0,\"1b\":0,\"1c\":0,\"1d\":{\"2a\":0,\"2b\":{\"3a\":{\"4a\":0},\"3b\":0}},\"1e\":0}");
}

/* ---- laziness ---- */

static void wants_root(void *obj, PtaInspect *req)
{
    num(req, "wants/a", pta_inspect_wants(req, "a", 0));
    num(req, "wants/b", pta_inspect_wants(req, "b/c/d", 0));
}

static void wants(void **unused)
{
    expect(wants_root, "", "{\"wants\":{\"a\":1,\"b\":1}}");
    expect(wants_root, "wants", "{\"a\":0,\"b\":0}");
    /* deeper than what is opened */
    expect_depth(wants_root, "", 1, "{\"wants\":{\"a\":1,\"b\":0}}");
}

/* ---- order ---- */

static void order_root(void *obj, PtaInspect *req)
{
    static const char *const names[] = { "vp10", "vp2",  "b",  "vp1", "a10b3", "a10b20",
                                         "a9",   "vp02", "vp", "10",  "9",     "vp002" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        num(req, names[i], i);
    }
}

static void natural_order(void **unused)
{
    expect(order_root, "",
           "{\"9\":10,\"10\":9,\"a9\":6,\"a10b3\":4,\"a10b20\":5,\"b\":2,\"vp\":8,\"vp1\":3,"
           "\"vp002\":11,\"vp02\":7,\"vp2\":1,\"vp10\":0}");
    assert_int_equal(pta_natural_compare("vp2", "vp2"), 0);
    assert_true(pta_natural_compare("vp2", "vp10") < 0);
    assert_true(pta_natural_compare("vp10", "vp2") > 0);
    assert_true(pta_natural_compare("0", "00") != 0);
    assert_true(pta_natural_compare("99999999999999999999999", "100000000000000000000000") < 0);
}

static void many(void *obj, PtaInspect *req)
{
    for (unsigned i = 5000; i-- > 0;) {
        char name[16];
        g_snprintf(name, sizeof(name), "n%u", i * 7919 % 5000);
        num(req, name, i);
    }
}

static void large_directories_are_sorted(void **unused)
{
    g_autoptr(PtaInspectNode) node = pta_inspect(many, NULL, &(PtaInspectParams){ 0 });
    assert_int_equal(node->kind, PTA_INSPECT_DIR);
    assert_int_equal(node->children->len, 5000);
    for (unsigned i = 0; i < 5000; i++) {
        const PtaInspectNode *child = g_ptr_array_index(node->children, i);
        g_autofree char *name = g_strdup_printf("n%u", i);
        assert_string_equal(child->name, name);
    }
    assert_non_null(pta_inspect_node_find(node, "n4999"));
    assert_null(pta_inspect_node_find(node, "n5000"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),
        cmocka_unit_test(merge),
        cmocka_unit_test(named_merge),
        cmocka_unit_test(other_kinds_replace_one_another),
        cmocka_unit_test(nest),
        cmocka_unit_test(depth),
        cmocka_unit_test(values),
        cmocka_unit_test(a_child_may_be_a_value_or_fail),
        cmocka_unit_test(update),
        cmocka_unit_test(sensitivity),
        cmocka_unit_test(wants),
        cmocka_unit_test(natural_order),
        cmocka_unit_test(large_directories_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
