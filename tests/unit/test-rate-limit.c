/* Token buckets, with a clock that the test moves. */
#include "config.h"

#include "tests/lib/cmocka-all.h"

#include "devices/rate-limit.h"
#include "qmp/gen/types.h"

#define MS UINT64_C(1000000)

static bool take(PtaRateLimit *l, uint64_t ops, uint64_t bytes, uint64_t now)
{
    uint64_t wait = 0;
    bool ok = pta_rate_limit_take(l, ops, bytes, now, &wait);
    assert_true(ok == (wait == 0));
    if (!ok) { /* what it says is true, and not a nanosecond too much */
        PtaRateLimit then = *l;
        PtaRateLimit before = *l;
        uint64_t ignored;
        assert_true(pta_rate_limit_take(&then, ops, bytes, now + wait, &ignored));
        assert_false(wait > 1 &&
                     pta_rate_limit_take(&before, ops, bytes, now + wait - 1, &ignored));
    }
    return ok;
}

static PtaRateLimit limit(uint64_t size, uint64_t burst, uint64_t refill_ms)
{
    TokenBucketConfig bucket = { .size = size, .one_time_burst = burst, .refill_time = refill_ms };
    RateLimitConfig config = { .bandwidth = &bucket };
    PtaRateLimit l;
    pta_rate_limit_init(&l, &config);
    return l;
}

static void no_limit(void **unused)
{
    (void)unused;
    PtaRateLimit l;
    pta_rate_limit_init(&l, NULL);
    assert_false(pta_rate_limit_is_set(&l));
    assert_true(take(&l, UINT64_MAX, UINT64_MAX, 1));
}

static void refills(void **unused)
{
    (void)unused;
    PtaRateLimit l = limit(1000, 0, 100);
    uint64_t now = 5000 * MS;
    assert_true(pta_rate_limit_is_set(&l));
    assert_true(take(&l, 1, 1000, now));
    assert_false(take(&l, 1, 1, now));
    assert_false(take(&l, 1, 100, now + 9 * MS));
    assert_true(take(&l, 1, 100, now + 10 * MS));
    assert_false(take(&l, 1, 1, now + 10 * MS));
    assert_true(take(&l, 1, 1000, now + 1000 * MS)); /* never more than it holds */
    assert_false(take(&l, 1, 1, now + 1000 * MS));
    assert_false(take(&l, 1, 1, now)); /* a clock that goes back gives nothing */
}

static void bursts_once(void **unused)
{
    (void)unused;
    PtaRateLimit l = limit(100, 500, 100);
    assert_true(take(&l, 1, 550, MS));
    assert_true(take(&l, 1, 50, MS));
    assert_false(take(&l, 1, 1, MS));
    assert_true(take(&l, 1, 100, 101 * MS));
    assert_false(take(&l, 1, 101, 102 * MS)); /* the burst does not come back */
}

static void larger_than_the_bucket(void **unused)
{
    (void)unused;
    PtaRateLimit l = limit(100, 0, 100);
    assert_true(take(&l, 1, 1000, MS));     /* the bucket was full */
    assert_false(take(&l, 1, 1, 900 * MS)); /* 900 are owed */
    assert_true(take(&l, 1, 1, 902 * MS));
}

static void both_or_none(void **unused)
{
    (void)unused;
    TokenBucketConfig bytes = { .size = 100, .refill_time = 100 };
    TokenBucketConfig ops = { .size = 2, .refill_time = 1000 };
    RateLimitConfig config = { .bandwidth = &bytes, .ops = &ops };
    PtaRateLimit l;
    pta_rate_limit_init(&l, &config);
    assert_true(take(&l, 2, 10, MS));
    assert_false(take(&l, 1, 10, MS));
    assert_int_equal(l.bytes.tokens, 90);
    assert_true(take(&l, 1, 10, 501 * MS));
    assert_int_equal(l.n_waits, 1);
}

/* Over a long time it is the rate that was asked for, however it is taken. */
static void rate(void **unused)
{
    (void)unused;
    for (unsigned seed = 0; seed < 20; seed++) {
        g_autoptr(GRand) r = g_rand_new_with_seed(seed);
        uint64_t size = (uint64_t)g_rand_int_range(r, 1, 100000);
        uint64_t refill = (uint64_t)g_rand_int_range(r, 1, 2000);
        PtaRateLimit l = limit(size, 0, refill);
        uint64_t now = MS, taken = 0, wait = 0;
        const uint64_t end = 50 * refill * MS;
        while (now < end) {
            uint64_t n = (uint64_t)g_rand_int_range(r, 1, (gint32)MIN(size, 5000) + 1);
            if (pta_rate_limit_take(&l, 1, n, now, &wait)) {
                taken += n;
            } else {
                now += wait + (uint64_t)g_rand_int_range(r, 0, 1000);
            }
        }
        double expected = (double)size * (double)(now / MS) / (double)refill + (double)size;
        assert_true((double)taken <= expected + 1 && (double)taken >= 0.9 * expected - 5001);
    }
}

static void no_overflow(void **unused)
{
    (void)unused;
    PtaRateLimit l = limit(UINT64_MAX, UINT64_MAX, 86400000);
    assert_true(take(&l, 1, UINT64_MAX / 4, 1));
    uint64_t wait;
    pta_rate_limit_take(&l, 1, UINT64_MAX, UINT64_MAX / 2, &wait);
    pta_rate_limit_take(&l, 1, UINT64_MAX, UINT64_MAX, &wait);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit),     cmocka_unit_test(refills),
        cmocka_unit_test(bursts_once),  cmocka_unit_test(larger_than_the_bucket),
        cmocka_unit_test(both_or_none), cmocka_unit_test(rate),
        cmocka_unit_test(no_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
