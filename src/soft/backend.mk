# The back end of the software CPU: ops table, interrupts, time.
libpartita_a_SOURCES += \
	src/soft/ipi.c \
	src/soft/lapic-priv.h \
	src/soft/lapic.c \
	src/soft/lapic.h \
	src/soft/service.c \
	src/soft/soft.c \
	src/soft/soft.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-lapic
tests_unit_test_lapic_SOURCES = tests/unit/test-lapic.c tests/lib/cmocka-all.h
tests_unit_test_lapic_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_lapic_LDADD = $(unit_libs)
TESTS += tests/unit/test-lapic

check_PROGRAMS += tests/unit/test-soft
tests_unit_test_soft_SOURCES = tests/unit/test-soft.c tests/lib/cmocka-all.h
tests_unit_test_soft_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_soft_LDADD = $(unit_libs)
TESTS += tests/unit/test-soft
endif
