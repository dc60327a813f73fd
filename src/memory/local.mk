# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/memory/backing-check.c \
	src/memory/backing-host.c \
	src/memory/backing-layout.c \
	src/memory/backing-lock.c \
	src/memory/backing-private.h \
	src/memory/backing-share.c \
	src/memory/backing-share.h \
	src/memory/backing.c \
	src/memory/backing.h \
	src/memory/device-memory.c \
	src/memory/device-memory.h \
	src/memory/dirty.c \
	src/memory/dirty.h \
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
check_PROGRAMS += tests/unit/test-backing
tests_unit_test_backing_SOURCES = tests/unit/test-backing.c tests/lib/cmocka-all.h
tests_unit_test_backing_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_backing_LDADD = $(unit_libs)
TESTS += tests/unit/test-backing
check_PROGRAMS += tests/unit/test-backing-share
tests_unit_test_backing_share_SOURCES = tests/unit/test-backing-share.c tests/lib/cmocka-all.h
tests_unit_test_backing_share_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_backing_share_LDADD = $(unit_libs)
TESTS += tests/unit/test-backing-share
check_PROGRAMS += tests/unit/test-memory
tests_unit_test_memory_SOURCES = tests/unit/test-memory.c
tests_unit_test_memory_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_memory_LDADD = $(unit_libs)
TESTS += tests/unit/test-memory
check_PROGRAMS += tests/unit/test-dirty
tests_unit_test_dirty_SOURCES = tests/unit/test-dirty.c
tests_unit_test_dirty_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_dirty_LDADD = $(unit_libs)
TESTS += tests/unit/test-dirty

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

# The layout of memory that another process sends.
check_PROGRAMS += tests/fuzz/fuzz-shared-layout
tests_fuzz_fuzz_shared_layout_SOURCES = tests/fuzz/fuzz-shared-layout.c
tests_fuzz_fuzz_shared_layout_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_shared_layout_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_shared_layout_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-shared-layout
endif
EXTRA_DIST += \
	tests/fuzz/corpus/shared-layout/alias \
	tests/fuzz/corpus/shared-layout/beyond \
	tests/fuzz/corpus/shared-layout/deep \
	tests/fuzz/corpus/shared-layout/huge \
	tests/fuzz/corpus/shared-layout/negative \
	tests/fuzz/corpus/shared-layout/two
