# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/memory/backing.c \
	src/memory/backing.h \
	src/memory/memory.c \
	src/memory/memory.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-memory
tests_unit_test_memory_SOURCES = tests/unit/test-memory.c
tests_unit_test_memory_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_memory_LDADD = $(unit_libs)
TESTS += tests/unit/test-memory
endif
