/* cmocka wants these before it, in this order. */
#ifndef PTA_TESTS_CMOCKA_ALL_H
#define PTA_TESTS_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
