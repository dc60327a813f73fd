/* What a client makes of words, and of JSON. */
#include "config.h"

#include "qmp/client-schema.h"
#include "qmp/gen/introspect.h"
#include "qmp/pretty.h"
#include "qmp/rates.h"
#include "tests/lib/cmocka-all.h"

#include <string.h>

/* In the shape of QEMU's query-qmp-schema. */
static const char schema_text[] =
    "[{'name': 'add', 'meta-type': 'command', 'arg-type': '1', 'ret-type': '0'},"
    " {'name': 'none', 'meta-type': 'command', 'arg-type': '0', 'ret-type': '0'},"
    " {'name': 'HALT', 'meta-type': 'event', 'arg-type': '0'},"
    " {'name': '0', 'meta-type': 'object', 'members': []},"
    " {'name': '1', 'meta-type': 'object', 'tag': 'kind', 'members': ["
    "   {'name': 'kind', 'type': '2'}, {'name': 'id', 'type': 'str'},"
    "   {'name': 'count', 'type': 'int', 'default': null},"
    "   {'name': 'ratio', 'type': 'number', 'default': null},"
    "   {'name': 'on', 'type': 'bool', 'default': null},"
    "   {'name': 'any', 'type': 'any', 'default': null},"
    "   {'name': 'names', 'type': '[str]', 'default': null},"
    "   {'name': 'kinds', 'type': '[2]', 'default': null},"
    "   {'name': 'cache', 'type': '3', 'default': null},"
    "   {'name': 'either', 'type': '4', 'default': null},"
    "   {'name': 'nothing', 'type': 'null', 'default': null}],"
    "  'variants': [{'case': 'disk', 'type': '5'}, {'case': 'net', 'type': '0'}]},"
    " {'name': '2', 'meta-type': 'enum', 'values': ['disk', 'net']},"
    " {'name': '3', 'meta-type': 'object', 'members': [{'name': 'direct', 'type': 'bool'},"
    "   {'name': 'deep', 'type': '3'}]},"
    " {'name': '4', 'meta-type': 'alternate', 'members': [{'type': 'str'}, {'type': 'int'},"
    "   {'type': '3'}]},"
    " {'name': '5', 'meta-type': 'object', 'members': [{'name': 'file', 'type': 'str'}]},"
    " {'name': '[str]', 'meta-type': 'array', 'element-type': 'str'},"
    " {'name': '[2]', 'meta-type': 'array', 'element-type': '2'},"
    " {'name': 'str', 'meta-type': 'builtin', 'json-type': 'string'},"
    " {'name': 'int', 'meta-type': 'builtin', 'json-type': 'int'},"
    " {'name': 'number', 'meta-type': 'builtin', 'json-type': 'number'},"
    " {'name': 'bool', 'meta-type': 'builtin', 'json-type': 'boolean'},"
    " {'name': 'null', 'meta-type': 'builtin', 'json-type': 'null'},"
    " {'name': 'any', 'meta-type': 'builtin', 'json-type': 'value'}]";

static json_t *from_text(const char *text)
{
    g_autofree char *json = g_strdelimit(g_strdup(text), "'", '"');
    json_error_t e;
    json_t *value = json_loads(json, JSON_DECODE_ANY, &e);
    if (!value) {
        fail_msg("%s: %s", text, e.text);
    }
    return value;
}

static int setup(void **state)
{
    json_t *list = from_text(schema_text);
    *state = pta_client_schema_new(list);
    json_decref(list);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    pta_client_schema_free(*state);
    return 0;
}

static void words_become_arguments(void **state)
{
    static const struct {
        const char *words, *json;
    } cases[] = {
        { "", "{}" },
        { "id=disk0", "{'id':'disk0'}" },
        { "id=5", "{'id':'5'}" },
        { "id=", "{'id':''}" },
        { "id=a=b", "{'id':'a=b'}" },
        { "count=5", "{'count':5}" },
        { "count=-5", "{'count':-5}" },
        { "count=0x1f", "{'count':31}" },
        { "count=512M", "{'count':536870912}" },
        { "count=9223372036854775807", "{'count':9223372036854775807}" },
        { "count=-9223372036854775808", "{'count':-9223372036854775808}" },
        { "ratio=0.5", "{'ratio':0.5}" },
        { "ratio=2", "{'ratio':2}" },
        { "on=true", "{'on':true}" },
        { "on=off", "{'on':false}" },
        { "nothing=null", "{'nothing':null}" },
        { "any=5", "{'any':5}" },
        { "any=x", "{'any':'x'}" },
        { "any={\"a\":[1]}", "{'any':{'a':[1]}}" },
        { "kind=net", "{'kind':'net'}" },
        { "file=x", "{'file':'x'}" },
        { "names=a,b", "{'names':['a','b']}" },
        { "names=[\"a,b\"]", "{'names':['a,b']}" },
        { "kinds=disk,net", "{'kinds':['disk','net']}" },
        { "cache.direct=on", "{'cache':{'direct':true}}" },
        { "cache.deep.deep.direct=on cache.direct=off",
          "{'cache':{'deep':{'deep':{'direct':true}},'direct':false}}" },
        { "cache={\"direct\":true}", "{'cache':{'direct':true}}" },
        { "either=5", "{'either':5}" },
        { "either=x", "{'either':'x'}" },
        { "either.direct=on", "{'either':{'direct':true}}" },
        { "id=a count=1 on=yes", "{'id':'a','count':1,'on':true}" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(GStrv) words = g_strsplit(cases[i].words, " ", -1);
        if (*cases[i].words == '\0') {
            words[0] = NULL;
        }
        g_autoptr(GError) error = NULL;
        json_t *args = pta_client_schema_parse(*state, "add", (const char *const *)words, &error);
        if (!args) {
            fail_msg("%s: %s", cases[i].words, error->message);
        }
        json_t *expected = from_text(cases[i].json);
        if (!json_equal(args, expected)) {
            char *text = json_dumps(args, 0);
            fail_msg("%s became %s", cases[i].words, text);
        }
        json_decref(args);
        json_decref(expected);
    }
}

static void wrong_words_are_explained(void **state)
{
    static const struct {
        const char *words, *why;
    } cases[] = {
        { "id", "expected key=value, found id" },
        { "=5", "expected key=value, found =5" },
        { "count=x", "count: expected INT, found x" },
        { "count=", "count: expected INT, found " },
        { "count=1.5", "count: expected INT, found 1.5" },
        { "count=9223372036854775808", "count: expected INT, found 9223372036854775808" },
        { "count=-9223372036854775809", "count: expected INT, found -9223372036854775809" },
        { "on=maybe", "on: expected BOOLEAN, found maybe" },
        { "kind=cd", "kind: expected disk|net, found cd" },
        { "kinds=disk,cd", "kinds: expected disk|net,…, found disk,cd" },
        { "cache=5", "cache: expected {…}, found 5" },
        { "id=a id=b", "id is given twice" },
        { "cache={} cache.direct=on cache.direct=off", "cache.direct is given twice" },
        { "what=5", "add has no argument what; it takes kind=disk|net id=STRING [count=INT] "
                    "[ratio=NUMBER] [on=BOOLEAN] [any=VALUE] [names=STRING,…] [kinds=disk|net,…] "
                    "[cache={…}] [either=STRING|INT|{…}] [nothing=NULL] file=STRING" },
        { "id.x=5", NULL },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(GStrv) words = g_strsplit(cases[i].words, " ", -1);
        g_autoptr(GError) error = NULL;
        assert_null(pta_client_schema_parse(*state, "add", (const char *const *)words, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
        if (cases[i].why) {
            assert_string_equal(error->message, cases[i].why);
        }
    }
}

static void without_a_schema_types_are_guessed(void **state)
{
    static const char *const words[] = { "a=5", "b=x", "c.d=true", NULL };
    json_t *expected = from_text("{'a':5,'b':'x','c':{'d':true}}");
    json_t *args = pta_client_schema_parse(NULL, "add", words, NULL);
    assert_true(json_equal(args, expected));
    json_decref(args);
    args = pta_client_schema_parse(*state, "not-known", words, NULL);
    assert_true(json_equal(args, expected));
    json_decref(args);
    json_decref(expected);
}

static void assert_names(char **names, const char *expected)
{
    g_autofree char *joined = g_strjoinv(" ", names);
    assert_string_equal(joined, expected);
    g_strfreev(names);
}

static void completion(void **state)
{
    PtaClientSchema *s = *state;
    assert_names(pta_client_schema_commands(s), "add none");
    assert_names(pta_client_schema_events(s), "HALT");
    assert_names(pta_client_schema_keys(s, "add", "k"), "kind= kinds=");
    assert_names(pta_client_schema_keys(s, "add", "ca"), "cache.");
    assert_names(pta_client_schema_keys(s, "add", "cache."), "cache.deep. cache.direct=");
    assert_names(pta_client_schema_keys(s, "add", "cache.deep.di"), "cache.deep.direct=");
    assert_names(pta_client_schema_keys(s, "add", "f"), "file=");
    assert_names(pta_client_schema_keys(s, "none", ""), "");
    assert_names(pta_client_schema_keys(s, "not-known", ""), "");
    assert_names(pta_client_schema_values(s, "add", "kind"), "disk net");
    assert_names(pta_client_schema_values(s, "add", "kinds"), "disk net");
    assert_names(pta_client_schema_values(s, "add", "cache.direct"), "false true");
    assert_names(pta_client_schema_values(s, "add", "id"), "");
    assert_names(pta_client_schema_values(s, "add", "not-known"), "");
}

/* Ours, as the server gives it. */
static void our_own_schema(void **state)
{
    json_t *list = pta_introspect_query_qmp_schema();
    g_autoptr(PtaClientSchema) s = pta_client_schema_new(list);
    json_decref(list);
    assert_true(pta_client_schema_has(s, "query-status"));
    assert_names(pta_client_schema_keys(s, "ringbuf-read", ""), "device= format= size=");
    assert_names(pta_client_schema_values(s, "ringbuf-read", "format"), "utf8 base64");
    assert_names(pta_client_schema_values(s, "qmp_capabilities", "enable"), "oob");
    static const char *const words[] = { "path=/devices", "depth=2", NULL };
    json_t *args = pta_client_schema_parse(s, "inspect", words, NULL);
    assert_int_equal(json_integer_value(json_object_get(args, "depth")), 2);
    json_decref(args);
}

static void json_for_people(void **state)
{
    static const struct {
        const char *json, *text;
    } cases[] = {
        { "{}", "" },
        { "5", "5\n" },
        { "true", "true\n" },
        { "null", "-\n" },
        { "'x'", "x\n" },
        { "'x\\ny\\n'", "x\ny\n" },
        { "'\\u001b[31m\\u009b'", "\\x1b[31m\\x9b\n" },
        { "{'a':1,'b':{'c':null,'d':{}},'e':[]}", "a: 1\nb:\n  c: -\n  d: {}\ne: []\n" },
        { "{'a':'x\\ny','b':{'$error':'no'}}", "a: x\\x0ay\nb: (no)\n" },
        { "{'a':{'$counter':7},'b':{'$counter':'0x10','$rate':2.5}}", "a: 7\nb: 0x10 (2.50/s)\n" },
        { "{'$counter':7,'$rate':123.4}", "7 (123/s)\n" },
        { "{'a':{'$counter':{}},'b':{'$counter':1,'x':2}}",
          "a:\n  $counter: {}\nb:\n  $counter: 1\n  x: 2\n" },
        { "[1,2]", "1\n2\n" },
        { "[{'n':'a','long':1},{'n':'bbbb','x':true}]",
          "N     LONG  X\na     1\nbbbb        true\n" },
        { "[{'n':'\xe4\xbd\xa0','x':1},{'n':'ab','x':2}]", "N   X\n\xe4\xbd\xa0  1\nab  2\n" },
        { "{'l':[{'n':1}]}", "l:\n  N\n  1\n" },
        { "[{'a':{'b':1},'c':2},[3]]", "- a:\n    b: 1\n  c: 2\n- 3\n" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *value = from_text(cases[i].json);
        g_autofree char *text = pta_pretty(value, false);
        assert_string_equal(text, cases[i].text);
        json_decref(value);
    }
    json_t *tree = from_text("{'a':null}");
    g_autofree char *text = pta_pretty(tree, true);
    assert_string_equal(text, "a: …\n");
    json_decref(tree);
    json_t *event = from_text("{'timestamp':{'seconds':0,'microseconds':5000},'event':'HALT',"
                              "'data':{'reason':'x\\ny','regs':{'a':1}},'seq':7}");
    g_autofree char *line = pta_pretty_event(event);
    assert_non_null(strstr(line, ".005 HALT reason=x\\x0ay regs={\"a\":1} (7)"));
    json_decref(event);
}

static void rates_of_two_answers(void **state)
{
    static const struct {
        const char *then, *now, *expected;
    } cases[] = {
        { "{'$counter':10}", "{'$counter':15}", "{\"$counter\":15,\"$rate\":2.5}" },
        { "{'$counter':10}", "{'$counter':4}", "{\"$counter\":4,\"$rate\":2.0}" },
        { "{'$counter':'0xf'}", "{'$counter':'0x11'}", "{\"$counter\":\"0x11\",\"$rate\":1.0}" },
        { "{'$counter':'0b1'}", "{'$counter':'0b11'}", "{\"$counter\":\"0b11\",\"$rate\":1.0}" },
        { "{'$counter':9223372036854775807}", "{'$counter':'9223372036854775809'}",
          "{\"$counter\":\"9223372036854775809\",\"$rate\":1.0}" },
        { "{'$counter':'x'}", "{'$counter':5}", "{\"$counter\":5}" },
        { "{'$counter':1}", "{'$counter':'5x'}", "{\"$counter\":\"5x\"}" },
        { "{'a':{'b':{'$counter':1}},'c':3}", "{'a':{'b':{'$counter':3},'n':{'$counter':1}},'c':5}",
          "{\"a\":{\"b\":{\"$counter\":3,\"$rate\":1.0},\"n\":{\"$counter\":1}},\"c\":5}" },
        { "7", "{'a':{'$counter':1}}", "{\"a\":{\"$counter\":1}}" },
        { "{'a':{'$counter':1}}", "null", "null" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *then = from_text(cases[i].then);
        json_t *now = from_text(cases[i].now);
        pta_rates_add(now, then, 2);
        char *text = json_dumps(now, JSON_COMPACT | JSON_ENCODE_ANY);
        assert_string_equal(text, cases[i].expected);
        free(text);
        json_decref(now);
        json_decref(then);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_of_two_answers),
        cmocka_unit_test(words_become_arguments),
        cmocka_unit_test(wrong_words_are_explained),
        cmocka_unit_test(without_a_schema_types_are_guessed),
        cmocka_unit_test(completion),
        cmocka_unit_test(our_own_schema),
        cmocka_unit_test(json_for_people),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
