/* Log lines about the guest, which a guest cannot use to flood the host. Any thread. */
#include "config.h"

#include "src/util/util.h"

#define BURST     5u
#define REFILL_NS UINT64_C(1000000000)

bool pta_ratelimit_ok(PtaRatelimit *limit, uint32_t *missed)
{
    uint64_t now = pta_now_ns();
    bool ok = false;
    g_mutex_lock(&limit->lock);
    uint64_t refill = (now - limit->last_ns) / REFILL_NS;
    if (refill > 0) {
        limit->tokens_used -= (uint32_t)MIN(refill, limit->tokens_used);
        limit->last_ns = now;
    }
    if (limit->tokens_used < BURST) {
        limit->tokens_used++;
        *missed = limit->missed;
        limit->missed = 0;
        ok = true;
    } else {
        limit->missed++;
    }
    g_mutex_unlock(&limit->lock);
    return ok;
}

void pta_guest_error_log(const char *domain, uint32_t missed, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    if (missed > 0) {
        g_log(domain, G_LOG_LEVEL_INFO, "guest: %s (and %u more like it)", text, missed);
    } else {
        g_log(domain, G_LOG_LEVEL_INFO, "guest: %s", text);
    }
}
