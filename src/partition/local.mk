# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/partition/backend.h \
	src/partition/backends.c \
	src/partition/halt.c \
	src/partition/halt.h \
	src/partition/partition.c \
	src/partition/partition.h \
	src/partition/vp-set.c \
	src/partition/vp-set.h \
	src/partition/x86-cpuid.c \
	src/partition/x86-cpuid.h \
	src/partition/x86-state.c \
	src/partition/x86-state.h \
	src/partition/x86-walk.c \
	src/partition/x86-walk.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-cpuid
tests_unit_test_cpuid_SOURCES = tests/unit/test-cpuid.c tests/lib/cmocka-all.h
tests_unit_test_cpuid_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_cpuid_LDADD = $(unit_libs)
TESTS += tests/unit/test-cpuid

check_PROGRAMS += tests/unit/test-partition
tests_unit_test_partition_SOURCES = tests/unit/test-partition.c tests/lib/cmocka-all.h \
	tests/lib/fake-backend.c tests/lib/fake-backend.h
tests_unit_test_partition_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_partition_LDADD = $(unit_libs)
TESTS += tests/unit/test-partition
endif
