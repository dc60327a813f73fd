/* Rates from two answers of `inspect`. Any thread. */
#include "config.h"

#include "qmp/rates.h"

#include "src/util/util.h"

/* A number as inspect writes it: whole, or a string where JSON's numbers do not serve. */
static bool counter_value(const json_t *node, uint64_t *value)
{
    const json_t *counter = json_object_get(node, "$counter");
    if (json_is_integer(counter)) {
        *value = (uint64_t)json_integer_value(counter);
        return json_integer_value(counter) >= 0;
    }
    const char *text = json_string_value(counter);
    if (!text) {
        return false;
    }
    unsigned base = g_str_has_prefix(text, "0x") ? 16 : g_str_has_prefix(text, "0b") ? 2 : 10;
    return g_ascii_string_to_unsigned(base == 10 ? text : text + 2, base, 0, UINT64_MAX, value,
                                      NULL);
}

void pta_rates_add(json_t *now, const json_t *then, double seconds)
{
    uint64_t new, old;
    if (counter_value(now, &new)) {
        if (seconds > 0 && counter_value(then, &old)) {
            uint64_t grown = new >= old ? new - old : new;
            json_object_set_new(now, "$rate", json_real((double)grown / seconds));
        }
        return;
    }
    const char *key;
    json_t *child;
    json_object_foreach(now, key, child)
    {
        pta_rates_add(child, json_object_get(then, key), seconds);
    }
}
