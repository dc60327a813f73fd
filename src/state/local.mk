# Sources and tests of this directory; included by Makefile.am, all paths from the top.

libpartita_a_SOURCES += src/state/state.c src/state/state.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-state
tests_unit_test_state_SOURCES = tests/unit/test-state.c
tests_unit_test_state_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_state_LDADD = $(unit_libs)
TESTS += tests/unit/test-state
endif
