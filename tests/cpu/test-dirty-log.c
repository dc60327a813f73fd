/* The software CPU's dirty log: it is exact. */
#include "config.h"

#include "tests/cpu/dirty-suite.h"

#include "tests/lib/cmocka-all.h"

static void each_kind_of_store(void **unused)
{
    dirty_suite_stores(&pta_soft_backend, 0);
}

static void parts_stops_and_unmapping(void **unused)
{
    dirty_suite_parts(&pta_soft_backend, 0);
}

static void one_vp(void **unused)
{
    dirty_suite_crowd(&pta_soft_backend, 1, 0);
}

static void four_vps(void **unused)
{
    dirty_suite_crowd(&pta_soft_backend, 4, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_store),
        cmocka_unit_test(parts_stops_and_unmapping),
        cmocka_unit_test(one_vp),
        cmocka_unit_test(four_vps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
