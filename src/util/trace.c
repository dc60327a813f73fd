/* Tracing of hot paths: PTA_TRACE=mmio,irq in the environment. The mask is set before threads start. */
#include "config.h"

#include "src/util/util.h"

#include <stdio.h>

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

void pta_trace_emit(const char *category, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    fprintf(stderr, "%" G_GUINT64_FORMAT " %s %s\n", pta_now_ns() / 1000,
            category + sizeof("PTA_TRACE_") - 1, text);
}
