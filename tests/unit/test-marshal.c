/* Machine descriptions through the generated parser: what is taken, and each kind of refusal. */
#include "config.h"

#include "qmp/gen/commands.h"
#include "qmp/gen/introspect.h"
#include "qmp/gen/types.h"

#include <string.h>
#include <unistd.h>

#include "tests/lib/cmocka-all.h"

/* The description of the issue and of the README, as it stands. */
static const char example[] =
    "{ \"name\": \"debian\",\n"
    "  \"partition\": { \"vps\": 1, \"backend\": \"auto\", \"cpu-model\": \"x86-64-v1\","
    "  \"hypervisor\": \"hyperv\" },\n"
    "  \"memory\":    { \"size\": \"512M\" },\n"
    "  \"boot\":      { \"kernel\": \"vmlinuz\", \"initrd\": \"initrd.img\","
    "  \"cmdline\": \"console=ttyS0\" },\n"
    "  \"devices\": [\n"
    "    { \"id\": \"serial0\", \"type\": \"uart16550\", \"chardev\": { \"type\": \"stdio\" } },\n"
    "    { \"id\": \"disk0\", \"type\": \"virtio-blk\", \"block\": { \"type\": \"file\","
    "      \"path\": \"disk.img\", \"read-only\": false } },\n"
    "    { \"id\": \"rng0\", \"type\": \"virtio-rng\" } ],\n"
    "  \"monitor\": [ { \"type\": \"unix\", \"path\": \"vm.sock\" } ],\n"
    "  \"on-shutdown\": \"exit\", \"on-reset\": \"reset\", \"on-crash\": \"halt\" }\n";

static json_t *load(const char *text)
{
    json_error_t where;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    if (!json) {
        fail_msg("%s at %d:%d", where.text, where.line, where.column);
    }
    return json;
}

static void the_example_is_understood(void **state)
{
    json_t *json = load(example);
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineConfig) m = machine_config_from_json(json, "vm.json", &error);
    json_decref(json);
    assert_non_null(m);
    assert_string_equal(m->name, "debian");
    assert_null(m->uuid);
    assert_int_equal(m->partition->vps, 1);
    assert_int_equal(m->partition->backend, BACKEND_KIND_AUTO);
    assert_true(m->partition->has_cpu_model);
    assert_int_equal(m->partition->cpu_model, CPU_MODEL_X86_64_V1);
    assert_int_equal(m->partition->hypervisor, HYPERVISOR_KIND_HYPERV);
    assert_int_equal(m->memory->size, 512 * PTA_MIB);
    assert_string_equal(m->boot->kernel, "vmlinuz");
    assert_string_equal(m->boot->initrd, "initrd.img");
    assert_string_equal(m->boot->cmdline, "console=ttyS0");
    assert_int_equal(m->n_devices, 3);
    assert_string_equal(m->devices[0]->id, "serial0");
    assert_int_equal(m->devices[0]->type, DEVICE_CONFIG_TYPE_UART16550);
    assert_int_equal(m->devices[0]->uart16550->chardev->type, CHARDEV_CONFIG_TYPE_STDIO);
    assert_int_equal(m->devices[1]->type, DEVICE_CONFIG_TYPE_VIRTIO_BLK);
    const VirtioBlkConfig *blk = m->devices[1]->virtio_blk;
    assert_int_equal(blk->block->type, BLOCK_CONFIG_TYPE_FILE);
    assert_string_equal(blk->block->file->path, "disk.img");
    assert_false(blk->block->file->read_only);
    assert_int_equal(blk->block->file->aio, BLOCK_AIO_AUTO);
    assert_null(blk->serial);
    assert_int_equal(blk->queue_size, 256);
    assert_int_equal(m->devices[2]->type, DEVICE_CONFIG_TYPE_VIRTIO_RNG);
    assert_null(m->devices[2]->virtio_rng->source);
    assert_int_equal(m->n_monitor, 1);
    assert_string_equal(m->monitor[0]->unix_->path, "vm.sock");
    assert_int_equal(m->on_shutdown, HALT_ACTION_EXIT);
    assert_int_equal(m->on_reset, HALT_ACTION_RESET);
    assert_int_equal(m->on_crash, HALT_ACTION_HALT);
}

static void what_is_printed_parses_to_the_same(void **state)
{
    json_t *json = load(example);
    g_autoptr(MachineConfig) m = machine_config_from_json(json, NULL, NULL);
    json_decref(json);
    json_t *printed = machine_config_to_json(m);
    g_autoptr(MachineConfig) again = machine_config_from_json(printed, NULL, NULL);
    assert_non_null(again);
    json_t *printed_again = machine_config_to_json(again);
    assert_true(json_equal(printed, printed_again));
    json_decref(printed);
    json_decref(printed_again);
}

static void the_smallest_has_all_defaults(void **state)
{
    json_t *json =
        load("{\"name\":\"x\",\"memory\":{\"size\":\"1M\"},\"boot\":{\"kernel\":\"k\"}}");
    g_autoptr(MachineConfig) m = machine_config_from_json(json, NULL, NULL);
    json_decref(json);
    assert_non_null(m);
    assert_int_equal(m->partition->vps, 1);
    assert_false(m->partition->has_cpu_model);
    assert_int_equal(m->n_devices, 0);
    assert_null(m->devices);
    assert_int_equal(m->on_shutdown, HALT_ACTION_EXIT);
    assert_int_equal(m->on_crash, HALT_ACTION_HALT);
    assert_int_equal(m->on_watchdog, HALT_ACTION_RESET);
}

/* The example with `from` replaced by `to` must be refused with the message. */
typedef struct Refusal {
    const char *from;
    const char *to;
    const char *message;
} Refusal;

static const Refusal refusals[] = {
    { "\"vps\": 1", "\"vps\": 0",
      "$.partition.vps: expected a whole number from 1 to 64, found 0" },
    { "\"vps\": 1", "\"vps\": \"1\"",
      "$.partition.vps: expected a whole number from 1 to 64, found \"1\"" },
    { "\"vps\": 1", "\"vpus\": 1",
      "$.partition.vpus: expected only vps, backend, cpu-model, tsc-frequency, hypervisor, found the unknown "
      "member \"vpus\"" },
    { "\"auto\"", "\"qemu\"",
      "$.partition.backend: expected one of auto, kvm, soft, found \"qemu\"" },
    { "\"512M\"", "\"512 MB\"", "$.memory.size: expected a size from 1M to 64G, found \"512 MB\"" },
    { "\"512M\"", "\"65G\"", "$.memory.size: expected a size from 1M to 64G, found \"65G\"" },
    { "\"512M\"", "\"99999999999T\"",
      "$.memory.size: expected a size from 1M to 64G, found \"99999999999T\"" },
    { "\"512M\"", "-5", "$.memory.size: expected a size from 1M to 64G, found -5" },
    { "\"512M\"", "5.5", "$.memory.size: expected a size from 1M to 64G, found 5.5" },
    { "{ \"size\": \"512M\" }", "\"512M\"", "$.memory: expected an object, found \"512M\"" },
    { "{ \"size\": \"512M\" }", "{}",
      "$.memory.size: expected a size from 1M to 64G, found nothing" },
    { "\"kernel\": \"vmlinuz\", ", "", "$.boot.kernel: expected a path, found nothing" },
    { "\"vmlinuz\"", "\"\"", "$.boot.kernel: expected a path, found \"\"" },
    { "\"debian\"", "null", "$.name: expected a string, found null" },
    { "\"name\": \"debian\",", "", "$.name: expected a string, found nothing" },
    { "\"name\"", "\"uuid\": \"5\", \"name\"",
      "$.uuid: expected a UUID such as \"1b4e28ba-2fa1-11d2-883f-0016d3cca427\", found \"5\"" },
    { "\"disk0\"", "\"serial0\"",
      "$.devices[1].id: expected a unique id, found \"serial0\" again (first at index 0)" },
    { "\"disk0\"", "\"../disk\"",
      "$.devices[1].id: expected an id (a letter, then letters, digits, '-', '_', '.'), found "
      "\"../disk\"" },
    { "\"virtio-rng\"", "\"virtio-gpu\"",
      "$.devices[2].type: expected one of uart16550, virtio-blk, virtio-net, virtio-rng, rtc-cmos, "
      "debug-exit, watchdog, pvpanic, found \"virtio-gpu\"" },
    { "\"path\": \"disk.img\", ", "", "$.devices[1].block.path: expected a path, found nothing" },
    { "\"read-only\": false", "\"read-only\": \"no\"",
      "$.devices[1].block.read-only: expected true or false, found \"no\"" },
    { "{ \"type\": \"stdio\" }", "\"stdio\"",
      "$.devices[0].chardev: expected an object, found \"stdio\"" },
    { "{ \"id\": \"rng0\", \"type\": \"virtio-rng\" }", "[]",
      "$.devices[2]: expected an object, found an array" },
    { "\"monitor\": [ { \"type\": \"unix\", \"path\": \"vm.sock\" } ]", "\"monitor\": {}",
      "$.monitor: expected an array, found an object" },
    { "\"exit\"", "true", "$.on-shutdown: expected one of halt, reset, exit, found true" },
    /* What is found is shown short, and never as control characters. */
    { "\"exit\"", "\"\\u001b[2J\"",
      "$.on-shutdown: expected one of halt, reset, exit, found \"\\u001B[2J\"" },
    { "\"exit\"", "\"0123456789012345678901234567890123456789012345678901234567890123456789\"",
      "$.on-shutdown: expected one of halt, reset, exit, found "
      "\"012345678901234567890123456789012345678901234567890123456789\"\xe2\x80\xa6 (70 bytes)" },
    { "\"on-crash\"", "\"on\\u001bcrash\"",
      "$: expected only name, uuid, partition, memory, boot, devices, monitor, gdb, on-shutdown, "
      "on-reset, on-crash, on-watchdog, found the unknown member \"on\\u001Bcrash\"" },
};

static void each_mistake_is_named(void **state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
        const Refusal *r = &refusals[i];
        const char *at = strstr(example, r->from);
        assert_non_null(at);
        g_autofree char *text =
            g_strdup_printf("%.*s%s%s", (int)(at - example), example, r->to, at + strlen(r->from));
        json_t *json = load(text);
        g_autoptr(GError) error = NULL;
        g_autoptr(MachineConfig) m = machine_config_from_json(json, "dir/vm.json", &error);
        json_decref(json);
        assert_null(m);
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
        g_autofree char *message = g_strconcat("dir/vm.json: ", r->message, NULL);
        assert_string_equal(error->message, message);
    }
}

static void without_a_place_the_message_starts_with_the_path(void **state)
{
    json_t *json = json_array();
    g_autoptr(GError) error = NULL;
    assert_null(machine_config_from_json(json, NULL, &error));
    assert_string_equal(error->message, "$: expected an object, found an array");
    assert_null(machine_config_from_json(json, NULL, NULL));
    json_decref(json);
}

static void files_are_strict_json(void **state)
{
    static const struct {
        const char *text;
        const char *error; /* behind the file's name; NULL if it is good */
    } cases[] = {
        { "{}\n", NULL },
        { "{\n \"a\": 1,\n \"a\": 2 }", ":3:4: " },
        { "{ \"a\": 1, }", ":1:11: " },
        { "", ":1:0: " },
        { "{} {}", ":1:4: " },
        { "{ \"a\": \"\xff\" }", ":1:" },
    };
    g_autofree char *dir = g_dir_make_tmp("partita-test-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "vm.json", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_true(g_file_set_contents(path, cases[i].text, -1, NULL));
        g_autoptr(GError) error = NULL;
        json_t *json = pta_json_load_file(path, &error);
        if (!cases[i].error) {
            assert_non_null(json);
            json_decref(json);
            continue;
        }
        assert_null(json);
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
        g_autofree char *start = g_strconcat(path, cases[i].error, NULL);
        if (!g_str_has_prefix(error->message, start)) {
            fail_msg("%s does not start with %s", error->message, start);
        }
    }
    unlink(path);
    g_autoptr(GError) error = NULL;
    assert_null(pta_json_load_file(path, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_HOST));
    assert_non_null(strstr(error->message, path));
    rmdir(dir);
}

/* Whatever is broken off the example, in whatever place, nothing leaks and the rest is refused. */
static void any_member_may_be_missing_or_wrong(void **state)
{
    for (size_t depth = 0; depth < 200; depth++) {
        json_t *json = load(example);
        /* Walk to the depth-th value in document order and turn it into a list of lists. */
        g_autoptr(GPtrArray) queue = g_ptr_array_new();
        g_ptr_array_add(queue, json);
        size_t seen = 0;
        bool done = false;
        for (guint i = 0; i < queue->len && !done; i++) {
            json_t *parent = queue->pdata[i];
            const char *key;
            json_t *value;
            json_object_foreach(parent, key, value)
            {
                if (seen++ == depth) {
                    json_object_set_new(parent, key, json_pack("[[]]"));
                    done = true;
                    break;
                }
                g_ptr_array_add(queue, value);
            }
            for (size_t k = 0; json_is_array(parent) && k < json_array_size(parent); k++) {
                g_ptr_array_add(queue, json_array_get(parent, k));
            }
        }
        g_autoptr(GError) error = NULL;
        g_autoptr(MachineConfig) m = machine_config_from_json(json, NULL, &error);
        json_decref(json);
        assert_int_equal(m == NULL, done);
        if (!done) {
            assert_true(depth > 20);
            return;
        }
        assert_non_null(error);
    }
    fail();
}

static void error_classes_are_the_codes(void **state)
{
    /* util.h says that they are the same, in the same order. */
    static const struct {
        ErrorClass class;
        PtaError code;
    } pairs[] = {
        { ERROR_CLASS_GENERIC_ERROR, PTA_ERROR_GENERIC_ERROR },
        { ERROR_CLASS_COMMAND_NOT_FOUND, PTA_ERROR_COMMAND_NOT_FOUND },
        { ERROR_CLASS_DEVICE_NOT_ACTIVE, PTA_ERROR_DEVICE_NOT_ACTIVE },
        { ERROR_CLASS_DEVICE_NOT_FOUND, PTA_ERROR_DEVICE_NOT_FOUND },
        { ERROR_CLASS_KVM_MISSING_CAP, PTA_ERROR_KVM_MISSING_CAP },
        { ERROR_CLASS_BAD_DESCRIPTION, PTA_ERROR_BAD_DESCRIPTION },
        { ERROR_CLASS_BAD_IMAGE, PTA_ERROR_BAD_IMAGE },
        { ERROR_CLASS_BAD_SNAPSHOT, PTA_ERROR_BAD_SNAPSHOT },
        { ERROR_CLASS_BAD_STATE, PTA_ERROR_BAD_STATE },
        { ERROR_CLASS_HOST, PTA_ERROR_HOST },
        { ERROR_CLASS_UNSUPPORTED, PTA_ERROR_UNSUPPORTED },
    };
    assert_int_equal(G_N_ELEMENTS(pairs), ERROR_CLASS__MAX);
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        assert_int_equal(pairs[i].class, pairs[i].code);
        assert_int_equal(pairs[i].class, i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_is_understood),
        cmocka_unit_test(what_is_printed_parses_to_the_same),
        cmocka_unit_test(the_smallest_has_all_defaults),
        cmocka_unit_test(each_mistake_is_named),
        cmocka_unit_test(without_a_place_the_message_starts_with_the_path),
        cmocka_unit_test(files_are_strict_json),
        cmocka_unit_test(any_member_may_be_missing_or_wrong),
        cmocka_unit_test(error_classes_are_the_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
