# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/memory/backing.c \
	src/memory/backing.h \
	src/memory/device-memory.c \
	src/memory/device-memory.h \
	src/memory/layout.c \
	src/memory/layout.h \
	src/memory/mapper.c \
	src/memory/mapper.h \
	src/memory/mapping.c \
	src/memory/mapping.h \
	src/memory/memory-build.c \
	src/memory/memory-private.h \
	src/memory/memory.c \
	src/memory/memory.h \
	src/memory/region-private.h \
	src/memory/region-view.c \
	src/memory/region.c \
	src/memory/region.h \
	src/memory/view.c \
	src/memory/view.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-memory
tests_unit_test_memory_SOURCES = tests/unit/test-memory.c
tests_unit_test_memory_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_memory_LDADD = $(unit_libs)
TESTS += tests/unit/test-memory

check_PROGRAMS += tests/unit/test-region
tests_unit_test_region_SOURCES = tests/unit/test-region.c tests/lib/cmocka-all.h
tests_unit_test_region_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_region_LDADD = $(unit_libs)
TESTS += tests/unit/test-region

check_PROGRAMS += tests/guests/test-shadow
tests_guests_test_shadow_SOURCES = tests/guests/test-shadow.c tests/lib/cmocka-all.h
tests_guests_test_shadow_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_guests_test_shadow_LDADD = $(unit_libs)
TESTS += tests/guests/test-shadow

check_PROGRAMS += tests/unit/test-memory-build
tests_unit_test_memory_build_SOURCES = tests/unit/test-memory-build.c tests/lib/cmocka-all.h
tests_unit_test_memory_build_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_memory_build_LDADD = $(unit_libs)
TESTS += tests/unit/test-memory-build

check_PROGRAMS += tests/unit/test-memory-model
tests_unit_test_memory_model_SOURCES = tests/unit/test-memory-model.c tests/lib/cmocka-all.h
tests_unit_test_memory_model_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_memory_model_LDADD = $(unit_libs)
TESTS += tests/unit/test-memory-model
endif
