# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/synic/hyperv-abi.h \
	src/synic/hyperv.c \
	src/synic/hyperv.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-hyperv
tests_unit_test_hyperv_SOURCES = tests/unit/test-hyperv.c tests/lib/cmocka-all.h
tests_unit_test_hyperv_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_hyperv_LDADD = $(unit_libs)
TESTS += tests/unit/test-hyperv
endif
