/*
 * A rate limit: two token buckets, of bytes and of operations, as Firecracker has them. A bucket holds
 * `size` tokens and is full at first, fills up within refill_time_ms, and has one_time_burst more
 * to begin with, which do not come back. size 0: no limit.
 *
 * Something larger than the whole bucket would wait for ever: it passes when the bucket is full, and
 * what is missing is owed.
 *
 * Threads: LOCKED by whoever owns it.
 */
#ifndef PTA_RATE_LIMIT_H
#define PTA_RATE_LIMIT_H

#include "src/util/inspect.h"
#include "src/util/util.h"

struct RateLimitConfig;   /* qmp/gen/types.h */
struct TokenBucketConfig; /* the same */

typedef struct PtaBucket {
    uint64_t size;      /* CONST: 0: no limit */
    uint64_t refill_ns; /* CONST: from empty to full */
    uint64_t burst;     /* what is left of the one-time burst */
    int64_t tokens;     /* below zero: owed */
    uint64_t last_ns;   /* tokens are those of that time */
} PtaBucket;

typedef struct PtaRateLimit {
    PtaBucket bytes;
    PtaBucket ops;
    uint64_t n_waits; /* how often something had to wait */
} PtaRateLimit;

/* config may be NULL: no limit. */
void pta_rate_limit_init(PtaRateLimit *limit, const struct RateLimitConfig *config);

/* Takes from both buckets, or from none: false, and *wait_ns until it is worth another try. */
bool pta_rate_limit_take(PtaRateLimit *limit, uint64_t ops, uint64_t bytes, uint64_t now_ns,
                         uint64_t *wait_ns);

static inline bool pta_rate_limit_is_set(const PtaRateLimit *limit)
{
    return limit->bytes.size != 0 || limit->ops.size != 0;
}

/* PtaInspectFn. */
void pta_rate_limit_inspect(void *limit, PtaInspect *req);

#endif
