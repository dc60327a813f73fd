/* Tracing of hot paths: PTA_TRACE=mmio,irq in the environment, or set while the machine runs. */
#include "config.h"

#include "src/util/util.h"

#include <stdio.h>
#include <string.h>

unsigned pta_trace_mask;

static const GDebugKey keys[] = {
    { "mmio", PTA_TRACE_MMIO },       { "pio", PTA_TRACE_PIO },     { "virtio", PTA_TRACE_VIRTIO },
    { "irq", PTA_TRACE_IRQ },         { "msr", PTA_TRACE_MSR },     { "cpu", PTA_TRACE_CPU },
    { "monitor", PTA_TRACE_MONITOR }, { "block", PTA_TRACE_BLOCK },
};

void pta_trace_init(void)
{
    pta_trace_mask = g_parse_debug_string(g_getenv("PTA_TRACE"), keys, G_N_ELEMENTS(keys));
}

char *pta_trace_text(void)
{
    GString *text = g_string_new("");
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (pta_trace_mask & keys[i].value) {
            g_string_append_printf(text, "%s%s", text->len ? "," : "", keys[i].key);
        }
    }
    return g_string_free(text, FALSE);
}

bool pta_trace_set(const char *text, GError **error)
{
    unsigned mask = 0;
    g_auto(GStrv) words = g_strsplit_set(text, ", ", -1);
    for (char **word = words; *word; word++) {
        if (**word == '\0') {
            continue;
        }
        size_t i = 0;
        while (i < G_N_ELEMENTS(keys) && strcmp(keys[i].key, *word) != 0) {
            i++;
        }
        if (i == G_N_ELEMENTS(keys)) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "there is no trace category '%s'",
                             *word);
        }
        mask |= keys[i].value;
    }
    __atomic_store_n(&pta_trace_mask, mask, __ATOMIC_RELAXED);
    return true;
}

void pta_trace_emit(const char *category, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    fprintf(stderr, "%" G_GUINT64_FORMAT " %s %s\n", pta_now_ns() / 1000,
            category + sizeof("PTA_TRACE_") - 1, text);
}
