/* The JSON codec of state tables: what is saved comes back, and what is not a state is refused. */
#include "config.h"

#include "src/state/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

typedef struct Inner {
    uint16_t a;
    uint16_t b;
} Inner;

typedef struct Outer {
    uint64_t wide;
    uint32_t word;
    uint8_t byte;
    uint8_t blob[3];
    uint32_t words[2];
    Inner one;
    Inner many[3];
} Outer;

static bool inner_validate(const void *state, GError **error)
{
    const Inner *s = state;
    return s->a != 0xdead || pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "a is dead");
}

static const PtaStateField inner_fields[] = { PTA_STATE_U16(Inner, a),
                                              PTA_STATE_U16(Inner, b),
                                              {} };
static const PtaStateDesc inner_desc = {
    .name = "inner",
    .version = 3,
    .size = sizeof(Inner),
    .fields = inner_fields,
    .validate = inner_validate,
};
static const PtaStateField outer_fields[] = {
    PTA_STATE_U64(Outer, wide),
    PTA_STATE_U32(Outer, word),
    PTA_STATE_U8(Outer, byte),
    PTA_STATE_BLOB(Outer, blob),
    PTA_STATE_UINT_ARRAY(Outer, words),
    PTA_STATE_SUB(Outer, one, &inner_desc),
    PTA_STATE_SUB_ARRAY(Outer, many, &inner_desc),
    {},
};
static const PtaStateDesc outer_desc = {
    .name = "outer",
    .version = 2,
    .size = sizeof(Outer),
    .fields = outer_fields,
};

static const Outer sample = {
    .wide = UINT64_MAX,
    .word = 0x80000001,
    .byte = 0,
    .blob = { 0, 0xff, 7 },
    .words = { 1, UINT32_MAX },
    .one = { 1, 2 },
    .many = { { 3, 4 }, { 5, 6 }, { 7, 0xffff } },
};

static void every_field_comes_back(void **unused)
{
    (void)unused;
    json_t *json = pta_state_save(&outer_desc, &sample);
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "fields"), "wide")),
                        "0xffffffffffffffff");
    char *text = json_dumps(json, 0);
    json_decref(json);
    json = json_loads(text, 0, NULL);
    free(text);
    Outer got;
    memset(&got, 0x55, sizeof(got));
    g_autoptr(GError) error = NULL;
    assert_true(pta_state_load(&outer_desc, json, &got, &error));
    assert_memory_equal(&got, &sample, sizeof(got));
    json_decref(json);
}

/* Each text replaces the value at fields.<key>; NULL removes it. */
static const struct {
    const char *key;
    const char *value;
    const char *message;
} bad[] = {
    { "word", NULL, "outer.word: missing" },
    { "extra", "1", "outer.extra: unknown field" },
    { "word", "1", "outer.word: expected an integer as a string \"0x…\"" },
    { "word", "\"12\"", "outer.word: expected an integer as a string \"0x…\"" },
    { "word", "\"0x\"", "outer.word: expected one to sixteen hexadecimal digits after 0x" },
    { "word", "\"0x1 \"", "outer.word: expected one to sixteen hexadecimal digits after 0x" },
    { "word", "\"0x-1\"", "outer.word: expected one to sixteen hexadecimal digits after 0x" },
    { "word", "\"0x1\\u0000\"", "outer.word: expected one to sixteen hexadecimal digits after 0x" },
    { "word", "\"0x100000000\"", "outer.word: the integer is too large for its field" },
    { "byte", "\"0x100\"", "outer.byte: the integer is too large for its field" },
    { "wide", "\"0x10000000000000000\"",
      "outer.wide: expected one to sixteen hexadecimal digits after 0x" },
    { "blob", "\"AP8\"", "outer.blob: expected base64 of exactly the field's size" },
    { "blob", "\"A*8H\"", "outer.blob: expected base64 of exactly the field's size" },
    { "blob", "\"AP8HAP8H\"", "outer.blob: expected base64 of exactly the field's size" },
    { "blob", "7", "outer.blob: expected base64 of exactly the field's size" },
    { "words", "[\"0x1\"]", "outer.words: expected an array with the field's number of elements" },
    { "words", "{}", "outer.words: expected an array with the field's number of elements" },
    { "words", "[\"0x1\",\"0x100000000\"]",
      "outer.words[1]: the integer is too large for its field" },
    { "one", "7", "outer.one: expected an object of version and fields" },
    { "one", "{\"version\":3}", "outer.one: expected an object of version and fields" },
    { "one", "{\"version\":3,\"fields\":{},\"x\":1}",
      "outer.one: expected an object of version and fields" },
    { "one", "{\"version\":4,\"fields\":{\"a\":\"0x1\",\"b\":\"0x1\"}}",
      "outer.one: the version of this state is not known" },
    { "one", "{\"version\":0,\"fields\":{\"a\":\"0x1\",\"b\":\"0x1\"}}",
      "outer.one: the version of this state is not known" },
    { "one", "{\"version\":3,\"fields\":{\"a\":\"0xdead\",\"b\":\"0x1\"}}",
      "outer.one: a is dead" },
    { "many", "[7,7,7]", "outer.many[0]: expected an object of version and fields" },
};

static void what_is_no_state_is_refused(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        json_t *json = pta_state_save(&outer_desc, &sample);
        json_t *fields = json_object_get(json, "fields");
        if (bad[i].value) {
            json_t *value = json_loads(bad[i].value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            assert_non_null(value);
            json_object_set_new(fields, bad[i].key, value);
        } else {
            json_object_del(fields, bad[i].key);
        }
        Outer got;
        memset(&got, 0x55, sizeof(got));
        Outer before = got;
        g_autoptr(GError) error = NULL;
        assert_false(pta_state_load(&outer_desc, json, &got, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
        assert_string_equal(error->message, bad[i].message);
        assert_memory_equal(&got, &before, sizeof(got));
        json_decref(json);
    }
}

static void an_older_version_is_accepted(void **unused)
{
    (void)unused;
    json_t *json = pta_state_save(&outer_desc, &sample);
    json_object_set_new(json, "version", json_integer(1));
    Outer got;
    assert_true(pta_state_load(&outer_desc, json, &got, NULL));
    json_object_set_new(json, "version", json_integer(3));
    assert_false(pta_state_load(&outer_desc, json, &got, NULL));
    assert_false(pta_state_load(&outer_desc, NULL, &got, NULL));
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_comes_back),
        cmocka_unit_test(what_is_no_state_is_refused),
        cmocka_unit_test(an_older_version_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
