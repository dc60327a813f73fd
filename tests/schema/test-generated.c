/*
 * The code that the schema compiler makes of small.json, which has one of everything: handlers are
 * called with what was sent, what they return arrives, and events go out.
 */
#include "config.h"

#include "tests/schema/gen/commands.h"
#include "tests/schema/gen/events.h"
#include "tests/schema/gen/introspect.h"

#include <string.h>

#include "tests/lib/cmocka-all.h"

/* ---- handlers ---- */

struct PtaVm {
    const char *fail; /* NULL, or what the handler says */
    unsigned calls;
    PtaQmpReply *reply; /* of the command that answers later */
    uint8_t n;
};

static bool called(PtaVm *vm, GError **error)
{
    vm->calls++;
    return !vm->fail || pta_throw(error, PTA_ERROR_BAD_STATE, "%s", vm->fail);
}

bool qmp_nothing(PtaVm *vm, GError **error)
{
    return called(vm, error);
}

bool qmp_echo_scalars(PtaVm *vm, const Scalars *args, Scalars **ret, GError **error)
{
    json_t *json = scalars_to_json(args);
    *ret = scalars_from_json(json, "echo", NULL);
    json_decref(json);
    return called(vm, error);
}

bool qmp_count_up(PtaVm *vm, const CountUpArgs *args, uint8_t **ret, size_t *n_ret, GError **error)
{
    *ret = g_new(uint8_t, args->to);
    *n_ret = args->to;
    for (uint8_t i = 0; i < args->to; i++) {
        (*ret)[i] = i + 1;
    }
    return called(vm, error);
}

bool qmp_get_named(PtaVm *vm, Named ***ret, size_t *n_ret, GError **error)
{
    *ret = g_new0(Named *, 2);
    *n_ret = 2;
    (*ret)[0] = g_new0(Named, 1);
    (*ret)[1] = g_new0(Named, 1);
    (*ret)[1]->id = g_strdup("second");
    return called(vm, error);
}

bool qmp_get_text(PtaVm *vm, char **ret, GError **error)
{
    *ret = g_strdup("caf\xc3\xa9 \xff!"); /* not UTF-8 */
    return called(vm, error);
}

bool qmp_get_flag(PtaVm *vm, bool *ret, GError **error)
{
    *ret = true;
    return called(vm, error);
}

bool qmp_get_any(PtaVm *vm, json_t **ret, GError **error)
{
    *ret = json_pack("[i, n]", 5);
    return called(vm, error);
}

bool qmp_get_colour(PtaVm *vm, Colour *ret, GError **error)
{
    *ret = COLOUR_DARK_GREEN;
    return called(vm, error);
}

/* How many shapes there are, or what was sent as `either`. */
bool qmp_draw(PtaVm *vm, const DrawArgs *args, Either **ret, GError **error)
{
    *ret = g_new0(Either, 1);
    (*ret)->kind = EITHER_TYPE_COUNT;
    (*ret)->count = args->n_shapes;
    if (args->either && args->either->kind == EITHER_TYPE_CIRCLE) {
        (*ret)->kind = EITHER_TYPE_CIRCLE;
        (*ret)->circle = g_new0(Circle, 1);
        (*ret)->circle->radius = args->either->circle->radius;
    }
    return called(vm, error);
}

/* Returns the result as text, or the error's. */
/* ---- those that answer later ---- */

void qmp_later(PtaVm *vm, PtaQmpReply *reply)
{
    vm->calls++;
    vm->reply = reply;
}

void qmp_later_shapes(PtaVm *vm, const LaterShapesArgs *args, PtaQmpReply *reply)
{
    vm->n = args->n;
    qmp_later(vm, reply);
}

void qmp_later_struct(PtaVm *vm, PtaQmpReply *reply)
{
    qmp_later(vm, reply);
}

void qmp_later_number(PtaVm *vm, PtaQmpReply *reply)
{
    qmp_later(vm, reply);
}

void qmp_later_any(PtaVm *vm, PtaQmpReply *reply)
{
    qmp_later(vm, reply);
}

static void note_reply(void *data, json_t *ret, const GError *error)
{
    char **text = data;
    assert_null(*text);
    assert_int_equal(ret == NULL, error != NULL);
    if (error) {
        *text = g_strdup(error->message);
        return;
    }
    char *dump = json_dumps(ret, JSON_ENCODE_ANY | JSON_COMPACT);
    *text = g_strdup(dump);
    free(dump);
}

static void start(PtaVm *vm, const char *name, const char *arguments, char **text)
{
    const PtaQmpCommand *command = pta_qmp_command_find(name);
    assert_non_null(command);
    assert_null(command->dispatch);
    json_t *args = arguments ? json_loads(arguments, 0, NULL) : NULL;
    command->start(vm, args, pta_qmp_reply_new(note_reply, text));
    json_decref(args);
}

/* Starts a command, ends it by `end` (an expression), and compares. */
#define assert_later(vm, name, arguments, end, expected) \
    do {                                                 \
        g_autofree char *got_ = NULL;                    \
        start(vm, name, arguments, &got_);               \
        assert_null(got_);                               \
        end;                                             \
        assert_string_equal(got_, expected);             \
    } while (0)

static void answers_that_come_later(void **state)
{
    PtaVm vm = { 0 };
    Named named = { .id = (char *)"x" };
    Named none = { 0 };
    Named *list[] = { &none, &named };
    json_t *any = json_pack("[i, n]", 5);
    g_autoptr(GError) error = NULL;
    pta_throw(&error, PTA_ERROR_BAD_STATE, "not now");
    assert_later(&vm, "later", NULL, qmp_later_return(vm.reply), "{}");
    assert_later(&vm, "later-shapes", "{\"n\":3}", qmp_later_shapes_return(vm.reply, list, 2),
                 "[{},{\"id\":\"x\"}]");
    assert_int_equal(vm.n, 3);
    assert_later(&vm, "later-shapes", "{\"n\":0}", qmp_later_shapes_return(vm.reply, NULL, 0),
                 "[]");
    assert_later(&vm, "later-struct", "{}", qmp_later_struct_return(vm.reply, &named),
                 "{\"id\":\"x\"}");
    assert_later(&vm, "later-number", NULL, qmp_later_number_return(vm.reply, 7), "7");
    assert_later(&vm, "later-any", NULL, qmp_later_any_return(vm.reply, any), "[5,null]");
    assert_int_equal(any->refcount, 1);
    assert_later(&vm, "later-any", NULL, pta_qmp_reply_fail(vm.reply, error), "not now");
    assert_int_equal(vm.calls, 7);
    json_decref(any);
}

static void wrong_arguments_are_answered_at_once(void **state)
{
    PtaVm vm = { 0 };
    g_autofree char *text = NULL;
    start(&vm, "later", "{\"x\":1}", &text);
    assert_string_equal(text, "later: $.x: expected no members, found the unknown member \"x\"");
    g_clear_pointer(&text, g_free);
    start(&vm, "later-shapes", NULL, &text);
    assert_string_equal(text,
                        "later-shapes: $.n: expected a whole number from 0 to 255, found nothing");
    assert_int_equal(vm.calls, 0);
}

static void a_forgotten_reply_may_still_be_ended(void **state)
{
    PtaVm vm = { 0 };
    g_autofree char *text = NULL;
    PtaQmpReply *reply = pta_qmp_reply_new(note_reply, &text);
    pta_qmp_command_find("later-number")->start(&vm, NULL, reply);
    assert_true(pta_qmp_reply_wanted(reply));
    pta_qmp_reply_forget(reply);
    assert_false(pta_qmp_reply_wanted(reply));
    qmp_later_number_return(vm.reply, 1);
    assert_null(text);
}

static char *call(PtaVm *vm, const char *name, const char *arguments)
{
    const PtaQmpCommand *command = pta_qmp_command_find(name);
    assert_non_null(command);
    json_t *args = arguments ? json_loads(arguments, 0, NULL) : NULL;
    assert_int_equal(args != NULL, arguments != NULL);
    json_t *ret = NULL;
    g_autoptr(GError) error = NULL;
    bool ok = command->dispatch(vm, args, &ret, &error);
    json_decref(args);
    assert_int_equal(ok, error == NULL);
    assert_int_equal(ok, ret != NULL);
    if (!ok) {
        return g_strdup(error->message);
    }
    char *dump = json_dumps(ret, JSON_ENCODE_ANY | JSON_COMPACT);
    json_decref(ret);
    char *text = g_strdup(dump);
    free(dump);
    return text;
}

#define assert_call(vm, name, arguments, expected)         \
    do {                                                   \
        g_autofree char *got_ = call(vm, name, arguments); \
        assert_string_equal(got_, expected);               \
    } while (0)

#define SCALARS                                                                                \
    "{\"flag\":true,\"text\":\"t\",\"small\":255,\"port\":10,\"word\":4294967295,\"wide\":-1," \
    "\"signed\":-5,\"int\":-9223372036854775808,\"real\":0.25,\"bytes\":1024,"                 \
    "\"uuid\":\"1b4e28ba-2fa1-11d2-883f-0016d3cca427\",\"path\":\"/p\",\"id\":\"a.b_c-1\","    \
    "\"anything\":{\"x\":[]},\"colour\":\"7up\",\"secret\":\"1234\"}"

static void results_of_every_shape(void **state)
{
    PtaVm vm = { 0 };
    assert_call(&vm, "nothing", NULL, "{}");
    assert_call(&vm, "nothing", "{}", "{}");
    assert_call(&vm, "echo-scalars", SCALARS, SCALARS);
    assert_call(&vm, "count_up", "{\"to\":3}", "[1,2,3]");
    assert_call(&vm, "count_up", "{\"to\":0}", "[]");
    assert_call(&vm, "get-named", NULL, "[{},{\"id\":\"second\"}]");
    assert_call(&vm, "get-text", NULL, "\"caf\xc3\xa9 \xef\xbf\xbd!\"");
    assert_call(&vm, "get-flag", NULL, "true");
    assert_call(&vm, "get-any", NULL, "[5,null]");
    assert_call(&vm, "get-colour", NULL, "\"dark-green\"");
    assert_call(&vm, "draw", "{\"shapes\":[{\"name\":\"n\",\"type\":\"point\"}]}", "1");
    assert_call(&vm, "draw", "{\"shapes\":[],\"either\":{\"radius\":8}}", "{\"radius\":8}");
    assert_int_equal(vm.calls, 12);
}

static void wrong_arguments_never_reach_the_handler(void **state)
{
    PtaVm vm = { 0 };
    assert_call(&vm, "nothing", "{\"x\":1}",
                "nothing: $.x: expected no members, found the unknown member \"x\"");
    assert_call(&vm, "nothing", "[]", "nothing: $: expected an object, found an array");
    assert_call(&vm, "count_up", NULL,
                "count_up: $.to: expected a whole number from 0 to 255, found nothing");
    assert_call(&vm, "count_up", "{\"to\":256}",
                "count_up: $.to: expected a whole number from 0 to 255, found 256");
    assert_int_equal(vm.calls, 0);
}

static void errors_of_handlers_arrive_and_results_are_dropped(void **state)
{
    PtaVm vm = { .fail = "not now" };
    assert_call(&vm, "nothing", NULL, "not now");
    assert_call(&vm, "echo-scalars", SCALARS, "not now");
    assert_call(&vm, "count_up", "{\"to\":3}", "not now");
    assert_call(&vm, "get-named", NULL, "not now");
    assert_call(&vm, "get-text", NULL, "not now");
    assert_call(&vm, "get-any", NULL, "not now");
}

static void the_table_is_sorted_and_found_by_name(void **state)
{
    size_t n = 0;
    for (const PtaQmpCommand *c = pta_qmp_commands; c->name; c++, n++) {
        assert_ptr_equal(pta_qmp_command_find(c->name), c);
        assert_true(c == pta_qmp_commands || strcmp(c[-1].name, c->name) < 0);
        assert_int_equal((c->dispatch != NULL) + (c->start != NULL),
                         (c->flags & PTA_QMP_SERVER) == 0);
    }
    assert_int_equal(n, PTA_QMP_N_COMMANDS);
    assert_null(pta_qmp_command_find("count-up"));
    assert_null(pta_qmp_command_find(""));
    assert_int_equal(pta_qmp_command_find("count_up")->flags, PTA_QMP_OOB);
    assert_int_equal(pta_qmp_command_find("by-server")->flags, PTA_QMP_SERVER);
}

/* ---- events ---- */

static void assert_event(PtaEventSink *sink, uint64_t seq, const char *name, const char *data)
{
    const PtaEvent *event = pta_event_sink_get(sink, seq);
    assert_non_null(event);
    assert_string_equal(event->name, name);
    if (!data) {
        assert_null(event->data);
        return;
    }
    char *dump = json_dumps(event->data, JSON_COMPACT);
    assert_string_equal(dump, data);
    free(dump);
}

static void events_carry_their_data(void **state)
{
    g_autoptr(PtaEventSink) sink = pta_event_sink_new(8);
    uint32_t words[] = { 1, 2 };
    char one[] = "one";
    char *texts[] = { one };
    const Circle circle = { .radius = 5 };
    json_t *any = json_integer(7);
    qmp_event_empty(sink);
    qmp_event_all_of_it(sink, true, "t", true, 9, words, 2, texts, 1, &circle, COLOUR_X86_64, any,
                        8, 9);
    qmp_event_all_of_it(sink, false, "", false, 9, NULL, 0, NULL, 0, NULL, COLOUR_RED, NULL, 0, 0);
    qmp_event_named(sink, NULL);
    qmp_event_named(sink, "x");
    json_decref(any);
    assert_event(sink, 1, "EMPTY", NULL);
    assert_event(sink, 2, "ALL_OF_IT",
                 "{\"flag\":true,\"text\":\"t\",\"word\":9,\"words\":[1,2],\"texts\":[\"one\"],"
                 "\"circle\":{\"radius\":5},\"colour\":\"x86_64\",\"anything\":7,\"data\":8,"
                 "\"sink\":9}");
    assert_event(sink, 3, "ALL_OF_IT",
                 "{\"flag\":false,\"text\":\"\",\"words\":[],\"texts\":[],\"colour\":\"red\","
                 "\"data\":0,\"sink\":0}");
    assert_event(sink, 4, "NAMED", "{}");
    assert_event(sink, 5, "NAMED", "{\"id\":\"x\"}");
}

/* ---- types ---- */

/* Parses, prints, compares; or compares the refusal. */
static void check(const PtaTypeDesc *type, const char *text, const char *expected)
{
    json_error_t where;
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    if (!json) {
        fail_msg("%s: %s", text, where.text);
    }
    g_autoptr(GError) error = NULL;
    void *value = pta_marshal_parse(type, json, NULL, &error);
    json_decref(json);
    if (!value) {
        assert_string_equal(error->message, expected);
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
        return;
    }
    assert_null(error);
    json_t *printed = pta_marshal_print(type, value);
    pta_marshal_free(type, value);
    char *dump = json_dumps(printed, JSON_ENCODE_ANY | JSON_COMPACT);
    json_decref(printed);
    assert_string_equal(dump, expected);
    free(dump);
}

#define SAME(type, text) check(type, text, text)

static void optional_members(void **state)
{
    SAME(&optionals_desc, "{}");
    SAME(&optionals_desc,
         "{\"flag\":false,\"text\":\"\",\"word\":0,\"real\":0.0,\"colour\":\"red\","
         "\"inner\":{\"inner\":{}},\"anything\":null,"
         "\"shape\":{\"name\":\"n\",\"type\":\"point\"},\"either\":null,\"list\":[1]}");
    check(&optionals_desc, "{\"list\":[]}", "{}");
    check(&optionals_desc, "{\"text\":null}", "$.text: expected a string, found null");
    check(&optionals_desc, "{\"inner\":{\"inner\":{\"inner\":7}}}",
          "$.inner.inner.inner: expected an object, found 7");
}

static void defaults_are_filled_in(void **state)
{
    check(&defaults_desc, "{}",
          "{\"flag\":true,\"text\":\"say \\\"hi\\\"\",\"word\":4294967295,\"signed\":-7,"
          "\"real\":1.5,\"bytes\":524288,\"path\":\"/dev/null\",\"colour\":\"dark-green\","
          "\"inner\":{\"deep\":3}}");
    check(&defaults_desc, "{\"inner\":{\"deep\":4},\"bytes\":\"1G\",\"flag\":false}",
          "{\"flag\":false,\"text\":\"say \\\"hi\\\"\",\"word\":4294967295,\"signed\":-7,"
          "\"real\":1.5,\"bytes\":1073741824,\"path\":\"/dev/null\",\"colour\":\"dark-green\","
          "\"inner\":{\"deep\":4}}");
}

static void unions_take_the_members_of_their_branch(void **state)
{
    SAME(&shape_desc, "{\"name\":\"n\",\"type\":\"point\"}");
    SAME(&shape_desc, "{\"name\":\"n\",\"lines\":[\"a\",\"b\"],\"type\":\"unix\",\"radius\":1}");
    check(&shape_desc, "{\"radius\":1,\"label\":\"l\",\"type\":\"round-circle\",\"name\":\"n\"}",
          "{\"name\":\"n\",\"type\":\"round-circle\",\"radius\":1,\"label\":\"l\"}");
    check(&shape_desc, "{\"name\":\"n\",\"type\":\"point\",\"radius\":1}",
          "$.radius: expected only name, lines, type, found the unknown member \"radius\"");
    check(&shape_desc, "{\"name\":\"n\"}",
          "$.type: expected one of point, unix, round-circle, found nothing");
    check(&shape_desc, "{\"name\":\"n\",\"lines\":[\"x\"],\"type\":\"unix\"}",
          "$.radius: expected a whole number from 0 to 4294967295, found nothing");
    check(&shape_desc, "{\"type\":\"unix\",\"radius\":1}",
          "$.name: expected a string, found nothing");
    check(&shape_desc, "7", "$: expected an object, found 7");
}

static void alternates_go_by_the_type_in_json(void **state)
{
    SAME(&either_desc, "null");
    SAME(&either_desc, "true");
    SAME(&either_desc, "200");
    SAME(&either_desc, "\"red\"");
    SAME(&either_desc, "{\"radius\":3}");
    check(&either_desc, "[]",
          "$: expected null or true or false or a whole number from 0 to 255 or one of red, "
          "dark-green, x86_64, 7up or an object, found an array");
    check(&either_desc, "300", "$: expected a whole number from 0 to 255, found 300");
    check(&either_desc, "\"blue\"",
          "$: expected one of red, dark-green, x86_64, 7up, found \"blue\"");
}

#define LISTS(words, ids, named)                                                                \
    "{\"flags\":[true,false],\"words\":" words ",\"reals\":[1.5],\"texts\":[\"\"],\"ids\":" ids \
    ",\"colours\":[\"red\"],\"shapes\":[{\"name\":\"\",\"type\":\"point\"}],\"named\":" named   \
    ",\"any\":[null,7]}"

static void lists(void **state)
{
    SAME(&lists_desc, LISTS("[1,65535]", "[\"a\",\"b\"]", "[{\"id\":\"a\"},{},{},{\"id\":\"b\"}]"));
    SAME(&lists_desc, LISTS("[]", "[]", "[]"));
    check(&lists_desc, LISTS("{}", "[]", "[]"), "$.words: expected an array, found an object");
    check(&lists_desc, LISTS("[1,0]", "[]", "[]"),
          "$.words[1]: expected a whole number from 1 to 65535, found 0");
    check(&lists_desc, LISTS("[1,2,3,4]", "[]", "[]"),
          "$.words: expected an array of at most 3 elements, found 4");
    check(&lists_desc, LISTS("[]", "[\"a\",\"b\",\"a\"]", "[]"),
          "$.ids[2]: expected a unique id, found \"a\" again (first at index 0)");
    check(&lists_desc, LISTS("[]", "[]", "[{\"id\":\"a\"},{},{\"id\":\"a\"}]"),
          "$.named[2].id: expected a unique id, found \"a\" again (first at index 0)");
    check(&lists_desc, "{\"flags\":[]}", "$.words: expected an array, found nothing");
}

/* One member of Scalars replaced. */
static void check_scalar(const char *member, const char *value, const char *expected)
{
    json_t *json = json_loads(SCALARS, 0, NULL);
    json_object_set_new(json, member, json_loads(value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    g_autofree char *message = g_strdup_printf("$.%s: %s", member, expected);
    check(&scalars_desc, text, message);
    free(text);
}

static void scalars_out_of_range_are_refused(void **state)
{
    check_scalar("flag", "1", "expected true or false, found 1");
    check_scalar("text", "7.5", "expected a string, found 7.5");
    check_scalar("text", "\"a\\u0000b\"", "expected a string, found \"a\\u0000b\"");
    check_scalar("small", "-1", "expected a whole number from 0 to 255, found -1");
    check_scalar("small", "1.0", "expected a whole number from 0 to 255, found 1.0");
    check_scalar("port", "9", "expected a whole number from 10 to 1000, found 9");
    check_scalar("port", "1001", "expected a whole number from 10 to 1000, found 1001");
    check_scalar("word", "4294967296",
                 "expected a whole number from 0 to 4294967295, found 4294967296");
    check_scalar("wide", "\"0x10\"", "expected a whole number, found \"0x10\"");
    check_scalar("signed", "-6", "expected a whole number from -5 to 5, found -6");
    check_scalar("signed", "6", "expected a whole number from -5 to 5, found 6");
    check_scalar("real", "\"1\"", "expected a number, found \"1\"");
    check_scalar("bytes", "\"2M\"", "expected a size from 1K to 1M, found \"2M\"");
    check_scalar("bytes", "\"1k\"", "expected a size from 1K to 1M, found \"1k\"");
    check_scalar("bytes", "1023", "expected a size from 1K to 1M, found 1023");
    check_scalar("bytes", "-1", "expected a size from 1K to 1M, found -1");
    check_scalar("uuid", "\"1b4e28ba\"",
                 "expected a UUID such as \"1b4e28ba-2fa1-11d2-883f-0016d3cca427\", found "
                 "\"1b4e28ba\"");
    check_scalar("path", "\"\"", "expected a path of at most 16 bytes, found \"\"");
    check_scalar("path", "\"/a/path/too/longer\"",
                 "expected a path of at most 16 bytes, found \"/a/path/too/longer\"");
    check_scalar("id", "\"1a\"",
                 "expected an id (a letter, then letters, digits, '-', '_', '.'), found \"1a\"");
    check_scalar("id", "\"\"",
                 "expected an id (a letter, then letters, digits, '-', '_', '.'), found \"\"");
    check_scalar("colour", "\"Red\"",
                 "expected one of red, dark-green, x86_64, 7up, found \"Red\"");
    /* What is sensitive is never shown. */
    check_scalar("secret", "\"12345\"",
                 "expected a string of at most 4 bytes, found something else");
}

static void names_of_enums(void **state)
{
    Colour colour;
    assert_true(colour_parse("7up", &colour));
    assert_int_equal(colour, COLOUR_7UP);
    assert_false(colour_parse("7UP", &colour));
    assert_string_equal(colour_name(COLOUR_DARK_GREEN), "dark-green");
    assert_int_equal(COLOUR__MAX, 4);
    assert_int_equal(SHAPE_TYPE_ROUND_CIRCLE, 2);
    assert_int_equal(ERROR_CLASS_KVM_MISSING_CAP, 1);
}

static void info_for_completion(void **state)
{
    size_t n = 0;
    for (const PtaQmpInfo *info = pta_qmp_command_info; info->name; info++, n++) {
        assert_non_null(pta_qmp_command_find(info->name));
        assert_string_not_equal(info->doc, "");
    }
    assert_int_equal(n, PTA_QMP_N_COMMANDS);
    assert_ptr_equal(pta_marshal_find(&shape_desc, "label")->type, NULL);
    assert_string_equal(pta_marshal_find(&shape_desc, "lines")->doc, "Its lines.");
    assert_null(pta_marshal_find(&shape_desc, "colour"));
    assert_string_equal(pta_qmp_event_info[2].name, "NAMED");
    assert_ptr_equal(pta_qmp_event_info[2].type, &named_desc);
    assert_null(pta_qmp_event_info[0].type);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_of_every_shape),
        cmocka_unit_test(wrong_arguments_never_reach_the_handler),
        cmocka_unit_test(errors_of_handlers_arrive_and_results_are_dropped),
        cmocka_unit_test(answers_that_come_later),
        cmocka_unit_test(wrong_arguments_are_answered_at_once),
        cmocka_unit_test(a_forgotten_reply_may_still_be_ended),
        cmocka_unit_test(the_table_is_sorted_and_found_by_name),
        cmocka_unit_test(events_carry_their_data),
        cmocka_unit_test(optional_members),
        cmocka_unit_test(defaults_are_filled_in),
        cmocka_unit_test(unions_take_the_members_of_their_branch),
        cmocka_unit_test(alternates_go_by_the_type_in_json),
        cmocka_unit_test(lists),
        cmocka_unit_test(scalars_out_of_range_are_refused),
        cmocka_unit_test(names_of_enums),
        cmocka_unit_test(info_for_completion),
    };
    pta_thread_init_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
