/* Token buckets; see rate-limit.h. */
#include "config.h"

#include "devices/rate-limit.h"

#include "qmp/gen/types.h"

static void bucket_init(PtaBucket *b, const TokenBucketConfig *config)
{
    *b = (PtaBucket){ 0 };
    if (config) {
        /* Nothing here may overflow: tokens are signed, and multiplied by nanoseconds in 128 bits. */
        b->size = MIN(config->size, (uint64_t)INT64_MAX / 4);
        b->refill_ns = config->refill_time * UINT64_C(1000000);
        b->burst = MIN(config->one_time_burst, (uint64_t)INT64_MAX / 4);
        b->tokens = (int64_t)b->size;
    }
}

void pta_rate_limit_init(PtaRateLimit *limit, const RateLimitConfig *config)
{
    *limit = (PtaRateLimit){ 0 };
    bucket_init(&limit->bytes, config ? config->bandwidth : NULL);
    bucket_init(&limit->ops, config ? config->ops : NULL);
}

static void bucket_refill(PtaBucket *b, uint64_t now_ns)
{
    if (b->last_ns == 0 || now_ns < b->last_ns) {
        b->last_ns = now_ns;
        return;
    }
    uint64_t elapsed = now_ns - b->last_ns;
    __uint128_t gained = (__uint128_t)elapsed * b->size / b->refill_ns;
    if (gained == 0) {
        return; /* the time is kept until it is worth a token */
    }
    uint64_t missing = (uint64_t)((int64_t)b->size - b->tokens);
    if (gained >= missing) {
        b->tokens = (int64_t)b->size;
        b->last_ns = now_ns;
        return;
    }
    b->tokens += (int64_t)gained;
    b->last_ns += (uint64_t)(gained * b->refill_ns / b->size);
}

/* How long until n may be taken; 0: now. */
static uint64_t bucket_wait(const PtaBucket *b, uint64_t n)
{
    uint64_t need = MIN(n, b->size);
    if (n <= b->burst || b->tokens >= (int64_t)need) {
        return 0;
    }
    uint64_t missing = (uint64_t)((int64_t)need - b->tokens);
    __uint128_t wait = ((__uint128_t)missing * b->refill_ns + b->size - 1) / b->size;
    return (uint64_t)MIN(wait, (__uint128_t)UINT64_MAX / 2);
}

static void bucket_take(PtaBucket *b, uint64_t n)
{
    uint64_t from_burst = MIN(n, b->burst);
    b->burst -= from_burst;
    b->tokens -= (int64_t)(n - from_burst);
}

bool pta_rate_limit_take(PtaRateLimit *limit, uint64_t ops, uint64_t bytes, uint64_t now_ns,
                         uint64_t *wait_ns)
{
    PtaBucket *buckets[] = { &limit->bytes, &limit->ops };
    uint64_t amount[] = { bytes, ops };
    uint64_t wait = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(buckets); i++) {
        if (buckets[i]->size) {
            bucket_refill(buckets[i], now_ns);
            wait = MAX(wait, bucket_wait(buckets[i], amount[i]));
        }
    }
    if (wait > 0) {
        limit->n_waits++;
        *wait_ns = wait;
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(buckets); i++) {
        if (buckets[i]->size) {
            bucket_take(buckets[i], amount[i]);
        }
    }
    return true;
}

static void inspect_bucket(void *obj, PtaInspect *req)
{
    const PtaBucket *b = obj;
    pta_inspect_u64(req, "size", PTA_INSPECT_PLAIN, b->size);
    pta_inspect_u64(req, "refill-ms", PTA_INSPECT_PLAIN, b->refill_ns / 1000000);
    pta_inspect_s64(req, "tokens", PTA_INSPECT_PLAIN, b->tokens);
    pta_inspect_u64(req, "burst-left", PTA_INSPECT_PLAIN, b->burst);
}

void pta_rate_limit_inspect(void *obj, PtaInspect *req)
{
    PtaRateLimit *limit = obj;
    pta_inspect_u64(req, "waits", PTA_INSPECT_COUNTER, limit->n_waits);
    if (limit->bytes.size) {
        pta_inspect_child(req, "bandwidth", PTA_INSPECT_PLAIN, inspect_bucket, &limit->bytes);
    }
    if (limit->ops.size) {
        pta_inspect_child(req, "ops", PTA_INSPECT_PLAIN, inspect_bucket, &limit->ops);
    }
}
