/* The inspect tree: paths, depth, merging, values, updates, sensitivity, order; what is answered
 * later, and what if it is not; rates; tables of fields. */
#include "config.h"

#include "src/util/inspect.h"
#include "tests/lib/cmocka-all.h"

#include <string.h>

static void expect_params(PtaInspectFn *fn, const PtaInspectParams *params, const char *expected)
{
    g_autoptr(PtaInspectNode) node = pta_inspect(fn, NULL, params);
    json_t *json = pta_inspect_node_to_json(node, false);
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
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        expect(values_root, cases[i].path, cases[i].expected);
    }
    g_autoptr(PtaInspectNode) node =
        pta_inspect(values_root, NULL, &(PtaInspectParams){ .path = "bin-max" });
    json_t *json = pta_inspect_node_to_json(node, false);
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
    json_t *json = pta_inspect_node_to_json(node, false);
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
    json_t *json = pta_inspect_node_to_json(node, false);
    char *dump = json_dumps(json, JSON_COMPACT);
    assert_string_equal(dump, "{\"child\":null,\"deep\":null,\"immut\":1,\"mut\":3}");
    free(dump);
    json_decref(json);
}

/* ---- answers that come later ---- */

typedef struct Later {
    PtaInspectDeferred *at[4];
    const char *names[4];
    unsigned n;
} Later;

static void later_root(void *obj, PtaInspect *req)
{
    Later *l = obj;
    num(req, "a", 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(l->names) && l->names[i]; i++) {
        PtaInspectDeferred *d = pta_inspect_defer(req, l->names[i], PTA_INSPECT_PLAIN);
        if (d) {
            l->at[l->n++] = d;
        }
    }
}

typedef struct Result {
    unsigned calls;
    char *text;
} Result;

static void take_result(void *data, PtaInspectNode *node)
{
    Result *r = data;
    json_t *json = pta_inspect_node_to_json(node, false);
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    g_free(r->text);
    r->text = g_strdup(text);
    r->calls++;
    free(text);
    json_decref(json);
    pta_inspect_node_free(node);
}

static void start_later(Later *l, const PtaInspectParams *params, unsigned deadline_ms, Result *r)
{
    l->n = 0;
    pta_inspect_start(later_root, l, params, deadline_ms, take_result, r);
}

static void expect_result(Result *r, const char *expected)
{
    while (r->calls == 0) {
        g_main_context_iteration(NULL, TRUE);
    }
    assert_int_equal(r->calls, 1);
    assert_string_equal(r->text, expected);
    g_clear_pointer(&r->text, g_free);
    r->calls = 0;
}

static const PtaInspectParams everything = { .depth = UINT_MAX };

static void deferred(void **unused)
{
    Later l = { .names = { "x", "y/z" } };
    Result r = { 0 };
    start_later(&l, &everything, 60000, &r);
    assert_int_equal(l.n, 2);
    assert_int_equal(r.calls, 0);
    pta_inspect_deferred_answer(l.at[1], path_root, NULL);
    assert_int_equal(r.calls, 0);
    assert_true(pta_inspect_deferred_wanted(l.at[0]));
    pta_inspect_deferred_answer(l.at[0], lazy_value, NULL); /* a child may be a value */
    expect_result(&r, "{\"a\":1,\"x\":9,\"y\":{\"z\":{\"a\":1,\"b\":{\"c\":2,\"d\":2,\"e\":{}}}}}");
    /* Nobody is asked for what is not wanted. */
    start_later(&l, &(PtaInspectParams){ .path = "a" }, 60000, &r);
    assert_int_equal(l.n, 0);
    expect_result(&r, "1");
    start_later(&l, &(PtaInspectParams){ .depth = 0 }, 60000, &r);
    assert_int_equal(l.n, 0);
    expect_result(&r, "{\"a\":1,\"x\":null,\"y\":null}");
    /* The path goes on below it. */
    start_later(&l, &(PtaInspectParams){ .path = "y/z/b/c" }, 60000, &r);
    assert_int_equal(l.n, 1);
    pta_inspect_deferred_answer(l.at[0], path_root, NULL);
    expect_result(&r, "2");
    start_later(&l, &(PtaInspectParams){ .path = "x/none" }, 60000, &r);
    pta_inspect_deferred_answer(l.at[0], path_root, NULL);
    expect_result(&r, "{\"$error\":\"not found\"}");
    start_later(&l, &(PtaInspectParams){ .path = "y", .depth = 1 }, 60000, &r);
    pta_inspect_deferred_answer(l.at[0], path_root, NULL);
    expect_result(&r, "{\"z\":{\"a\":1,\"b\":null}}");
}

static void answers_that_come_later_merge(void **unused)
{
    Later l = { .names = { "a", "x", "x", "x/c" } };
    Result r = { 0 };
    start_later(&l, &everything, 60000, &r);
    assert_int_equal(l.n, 4);
    pta_inspect_deferred_answer(l.at[1], x2, NULL);
    pta_inspect_deferred_answer(l.at[3], y5, NULL);
    pta_inspect_deferred_answer(l.at[2], x1, NULL);
    pta_inspect_deferred_answer(l.at[0], lazy_value, NULL);
    expect_result(&r, "{\"a\":9,\"x\":{\"b\":3,\"c\":{\"y\":4},\"d\":{\"y\":5}}}");
}

static void dropped(void **unused)
{
    Later l = { .names = { "x", "y/z" } };
    Result r = { 0 };
    start_later(&l, &everything, 60000, &r);
    pta_inspect_deferred_drop(l.at[0]);
    pta_inspect_deferred_answer(l.at[1], empty, NULL);
    expect_result(&r, "{\"a\":1,\"x\":{\"$error\":\"dropped\"},\"y\":{\"z\":{}}}");
    start_later(&l, &(PtaInspectParams){ .path = "x/deeper" }, 60000, &r);
    pta_inspect_deferred_drop(l.at[0]);
    expect_result(&r, "{\"$error\":\"dropped\"}");
}

static void timeout(void **unused)
{
    Later l = { .names = { "x", "y/z" } };
    Result r = { 0 };
    uint64_t begin = pta_now_ns();
    start_later(&l, &everything, 50, &r);
    pta_inspect_deferred_answer(l.at[1], y4, NULL);
    expect_result(&r, "{\"a\":1,\"x\":{\"$error\":\"unresolved\"},\"y\":{\"z\":{\"y\":4}}}");
    assert_true(pta_now_ns() - begin >= 49 * 1000 * 1000);
    /* A late answer does no harm, nor does a late refusal. */
    assert_false(pta_inspect_deferred_wanted(l.at[0]));
    pta_inspect_deferred_answer(l.at[0], never, NULL);
    start_later(&l, &(PtaInspectParams){ .path = "x/b" }, 0, &r);
    expect_result(&r, "{\"$error\":\"unresolved\"}");
    pta_inspect_deferred_drop(l.at[0]);
    assert_int_equal(r.calls, 0);
    /* At once: nobody waits at all. */
    l.n = 0;
    g_autoptr(PtaInspectNode) node = pta_inspect(later_root, &l, &everything);
    assert_int_equal(pta_inspect_node_find(node, "x")->error.code, PTA_INSPECT_UNRESOLVED);
    pta_inspect_deferred_drop(l.at[0]);
    pta_inspect_deferred_drop(l.at[1]);
}

static void again_root(void *obj, PtaInspect *req)
{
    Later *l = obj;
    num(req, "v", 1);
    l->at[l->n++] = pta_inspect_defer(req, "more", PTA_INSPECT_PLAIN);
}

static void later_still(void **unused)
{
    Later l = { .names = { "y/z" } };
    Result r = { 0 };
    start_later(&l, &everything, 60000, &r);
    pta_inspect_deferred_answer(l.at[0], again_root, &l);
    assert_int_equal(r.calls, 0);
    pta_inspect_deferred_answer(l.at[1], y4, NULL);
    expect_result(&r, "{\"a\":1,\"y\":{\"z\":{\"more\":{\"y\":4},\"v\":1}}}");
}

static void in_the_call_root(void *obj, PtaInspect *req)
{
    PtaInspectDeferred *d = pta_inspect_defer(req, "x", PTA_INSPECT_PLAIN);
    pta_inspect_deferred_answer(d, y4, NULL);
    num(req, "a", 1);
}

static void deferred_and_answered_in_the_call(void **unused)
{
    expect(in_the_call_root, "", "{\"a\":1,\"x\":{\"y\":4}}");
}

static void deferred_and_set(void **unused)
{
    Later l = { .names = { "foo" } };
    Result r = { 0 };
    Foo foo = { .mut = 2 };
    start_later(&l, &(PtaInspectParams){ .path = "foo/mut", .update = "7" }, 60000, &r);
    assert_int_equal(l.n, 1);
    pta_inspect_deferred_answer(l.at[0], foo_inspect, &foo);
    expect_result(&r, "7");
    assert_int_equal(foo.mut, 7);
    start_later(&l, &(PtaInspectParams){ .path = "foo", .update = "7" }, 60000, &r);
    pta_inspect_deferred_answer(l.at[0], foo_inspect, &foo);
    expect_result(&r, "{\"$error\":\"cannot be set\"}");
}

/* ---- rates ---- */

typedef struct Counted {
    uint64_t counter, plain, reset, fresh;
    bool has_fresh;
} Counted;

static void counted_inspect(void *obj, PtaInspect *req)
{
    Counted *c = obj;
    pta_inspect_u64(req, "d/counter", PTA_INSPECT_COUNTER, c->counter);
    pta_inspect_u64(req, "plain", PTA_INSPECT_PLAIN, c->plain);
    pta_inspect_u64(req, "reset", PTA_INSPECT_COUNTER | PTA_INSPECT_HEX, c->reset);
    if (c->has_fresh) {
        pta_inspect_u64(req, "fresh", PTA_INSPECT_COUNTER, c->fresh);
    }
}

static void expect_json(const PtaInspectNode *node, bool counters, const char *expected)
{
    json_t *json = pta_inspect_node_to_json(node, counters);
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(text, expected);
    free(text);
    json_decref(json);
}

static void since(void **unused)
{
    Counted c = { .counter = 1000, .plain = 5, .reset = 100 };
    g_autoptr(PtaInspectNode) then = pta_inspect(counted_inspect, &c, &everything);
    c = (Counted){ .counter = 1500, .plain = 7, .reset = 10, .fresh = 1, .has_fresh = true };
    g_autoptr(PtaInspectNode) now = pta_inspect(counted_inspect, &c, &everything);
    expect_json(now, false, "{\"d\":{\"counter\":1500},\"fresh\":1,\"plain\":7,\"reset\":\"0xa\"}");
    expect_json(now, true,
                "{\"d\":{\"counter\":{\"$counter\":1500}},\"fresh\":{\"$counter\":1},\"plain\":7,"
                "\"reset\":{\"$counter\":\"0xa\"}}");
    pta_inspect_node_since(now, then, 0); /* no time has passed: no rate */
    expect_json(now, false, "{\"d\":{\"counter\":1500},\"fresh\":1,\"plain\":7,\"reset\":\"0xa\"}");
    pta_inspect_node_since(now, then, 2);
    expect_json(now, false,
                "{\"d\":{\"counter\":{\"$counter\":1500,\"$rate\":250.0}},\"fresh\":1,\"plain\":7,"
                "\"reset\":{\"$counter\":\"0xa\",\"$rate\":5.0}}");
    /* What changed its kind in between has no rate. */
    g_autoptr(PtaInspectNode) other = pta_inspect(path_root, NULL, &everything);
    pta_inspect_node_since(other, then, 1);
    expect_json(other, false, "{\"a\":1,\"b\":{\"c\":2,\"d\":2,\"e\":{}}}");
}

/* ---- tables and atomics ---- */

typedef struct Plain {
    bool flag;
    uint8_t byte;
    uint16_t half;
    uint32_t word;
    uint64_t quad;
    int64_t sign;
    char *text;
    char *none;
    unsigned colour;
} Plain;

static void derived_inspect(void *obj, PtaInspect *req)
{
    static const char *const colours[] = { "red", "green" };
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_BOOL(Plain, flag, "flag", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U8(Plain, byte, "byte", PTA_INSPECT_HEX),
        PTA_INSPECT_OF_U16(Plain, half, "half", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U32(Plain, word, "nested/word", PTA_INSPECT_BINARY),
        PTA_INSPECT_OF_U64(Plain, quad, "quad", PTA_INSPECT_SENSITIVE),
        PTA_INSPECT_OF_S64(Plain, sign, "sign", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_STR(Plain, text, "text", PTA_INSPECT_SAFE),
        PTA_INSPECT_OF_STR(Plain, none, "none", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_ENUM(Plain, colour, "colour", PTA_INSPECT_PLAIN, colours),
        {},
    };
    pta_inspect_fields(req, fields, obj);
}

static void derived(void **unused)
{
    Plain p = { true, 0xfe, 65535, 5, UINT64_C(1) << 40, -3, (char *)"t", NULL, 1 };
    g_autoptr(PtaInspectNode) node = pta_inspect(derived_inspect, &p, &everything);
    expect_json(
        node, false,
        "{\"byte\":\"0xfe\",\"colour\":\"green\",\"flag\":true,\"half\":65535,"
        "\"nested\":{\"word\":\"0b101\"},\"quad\":1099511627776,\"sign\":-3,\"text\":\"t\"}");
    g_autoptr(PtaInspectNode) safe =
        pta_inspect(derived_inspect, &p, &(PtaInspectParams){ .show = PTA_INSPECT_SHOW_SAFE });
    expect_json(safe, false, "{\"text\":\"t\"}");
    p.colour = 99; /* nothing outside the table is looked up */
    g_autoptr(PtaInspectNode) odd =
        pta_inspect(derived_inspect, &p, &(PtaInspectParams){ .path = "colour" });
    expect_json(odd, false, "99");
}

typedef struct Knobs {
    bool on;
    uint64_t level;
} Knobs;

static void knobs_inspect(void *obj, PtaInspect *req)
{
    Knobs *k = obj;
    pta_inspect_atomic_bool(req, "on", PTA_INSPECT_SAFE, &k->on);
    pta_inspect_atomic_u64(req, "level", PTA_INSPECT_SAFE | PTA_INSPECT_HEX, &k->level, 0xffff);
}

static void atomic_mut(void **unused)
{
    static const struct {
        const char *path, *text, *expected;
    } cases[] = {
        { "on", "true", "true" },
        { "on", "false", "false" },
        { "on", "1", "{\"$error\":\"cannot set it: expected true or false, found 1\"}" },
        { "on", "True", "{\"$error\":\"cannot set it: expected true or false, found True\"}" },
        { "on", "", "{\"$error\":\"cannot set it: expected true or false, found \"}" },
        { "level", "12", "\"0xc\"" },
        { "level", "0xffff", "\"0xffff\"" },
        { "level", "65536",
          "{\"$error\":\"cannot set it: expected a number up to 65535, found 65536\"}" },
        { "level", "-1",
          "{\"$error\":\"cannot set it: expected a number up to 65535, found -1\"}" },
        { "level", "0x",
          "{\"$error\":\"cannot set it: expected a number up to 65535, found 0x\"}" },
        { "level", "3 ",
          "{\"$error\":\"cannot set it: expected a number up to 65535, found 3 \"}" },
        { "level", NULL, "\"0xffff\"" },
    };
    Knobs k = { 0 };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        PtaInspectParams params = { .path = cases[i].path,
                                    .update = cases[i].text,
                                    .show = PTA_INSPECT_SHOW_SAFE };
        g_autoptr(PtaInspectNode) node = pta_inspect(knobs_inspect, &k, &params);
        expect_json(node, false, cases[i].expected);
    }
    assert_int_equal(k.level, 0xffff);
    assert_false(k.on);
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
    PtaInspectParams params = { .depth = UINT_MAX, .show = PTA_INSPECT_SHOW_SAFE };
    expect_params(sens_root, &params, "{\"1a\":0,\"1d\":{\"2b\":{}}}");
    params.path = "1c";
    expect_params(sens_root, &params, "{\"$error\":\"not found\"}");
    params = (PtaInspectParams){ .depth = UINT_MAX, .show = PTA_INSPECT_SHOW_UNSPECIFIED };
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
    pta_thread_init_main();
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
        cmocka_unit_test(deferred),
        cmocka_unit_test(answers_that_come_later_merge),
        cmocka_unit_test(dropped),
        cmocka_unit_test(timeout),
        cmocka_unit_test(later_still),
        cmocka_unit_test(deferred_and_answered_in_the_call),
        cmocka_unit_test(deferred_and_set),
        cmocka_unit_test(since),
        cmocka_unit_test(derived),
        cmocka_unit_test(atomic_mut),
        cmocka_unit_test(sensitivity),
        cmocka_unit_test(wants),
        cmocka_unit_test(natural_order),
        cmocka_unit_test(large_directories_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
