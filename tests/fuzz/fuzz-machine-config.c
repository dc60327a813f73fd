/* The parser of machine descriptions. What it takes must print, and parse again to the same. */
#include "config.h"

#include "qmp/gen/types.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (!json) {
        return 0;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineConfig) config = machine_config_from_json(json, "fuzz", &error);
    json_decref(json);
    if (!config) {
        g_assert(error != NULL && g_utf8_validate(error->message, -1, NULL));
        return 0;
    }
    g_assert(error == NULL);
    json_t *printed = machine_config_to_json(config);
    g_autoptr(MachineConfig) again = machine_config_from_json(printed, "again", &error);
    g_assert(again != NULL);
    json_t *same = machine_config_to_json(again);
    g_assert(json_equal(printed, same));
    json_decref(printed);
    json_decref(same);
    return 0;
}
