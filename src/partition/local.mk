# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/partition/backend.h \
	src/partition/backends.c \
	src/partition/gdb-break.c \
	src/partition/gdb-break.h \
	src/partition/gdb-command.c \
	src/partition/gdb-packet.c \
	src/partition/gdb-packet.h \
	src/partition/gdb-query.c \
	src/partition/gdb-server.c \
	src/partition/gdb-session.c \
	src/partition/gdb-session.h \
	src/partition/gdb-target.c \
	src/partition/gdb-target.h \
	src/partition/gdb.h \
	src/partition/halt.c \
	src/partition/halt.h \
	src/partition/partition-cpu.c \
	src/partition/partition-debug.c \
	src/partition/partition-private.h \
	src/partition/partition-state.c \
	src/partition/partition.c \
	src/partition/partition.h \
	src/partition/vp-set-state.c \
	src/partition/vp-set.c \
	src/partition/vp-set.h \
	src/partition/x86-cpuid.c \
	src/partition/x86-cpuid.h \
	src/partition/x86-disasm.c \
	src/partition/x86-disasm.h \
	src/partition/x86-state-check.c \
	src/partition/x86-state-check.h \
	src/partition/x86-state-table.c \
	src/partition/x86-state-table.h \
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

check_PROGRAMS += tests/unit/test-x86-state-check
tests_unit_test_x86_state_check_SOURCES = tests/unit/test-x86-state-check.c tests/lib/cmocka-all.h
tests_unit_test_x86_state_check_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_x86_state_check_LDADD = $(unit_libs)
TESTS += tests/unit/test-x86-state-check

partition_fixture = tests/lib/cmocka-all.h tests/lib/fake-backend.c tests/lib/fake-backend.h \
	tests/lib/partition-fixture.c tests/lib/partition-fixture.h

check_PROGRAMS += tests/unit/test-gdb
tests_unit_test_gdb_SOURCES = tests/unit/test-gdb.c tests/lib/cmocka-all.h
tests_unit_test_gdb_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_gdb_LDADD = $(unit_libs)
TESTS += tests/unit/test-gdb

check_PROGRAMS += tests/unit/test-gdb-session
tests_unit_test_gdb_session_SOURCES = tests/unit/test-gdb-session.c $(partition_fixture)
tests_unit_test_gdb_session_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_gdb_session_LDADD = $(unit_libs)
TESTS += tests/unit/test-gdb-session

check_PROGRAMS += tests/unit/test-partition
tests_unit_test_partition_SOURCES = tests/unit/test-partition.c $(partition_fixture)
tests_unit_test_partition_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_partition_LDADD = $(unit_libs)
TESTS += tests/unit/test-partition

check_PROGRAMS += tests/unit/test-partition-stress
tests_unit_test_partition_stress_SOURCES = tests/unit/test-partition-stress.c \
	tests/lib/cmocka-all.h tests/lib/fake-backend.c tests/lib/fake-backend.h
tests_unit_test_partition_stress_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_partition_stress_LDADD = $(unit_libs)
TESTS += tests/unit/test-partition-stress

check_PROGRAMS += tests/unit/test-partition-cpu
tests_unit_test_partition_cpu_SOURCES = tests/unit/test-partition-cpu.c tests/lib/fake-backend.c \
	tests/lib/fake-backend.h
tests_unit_test_partition_cpu_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_partition_cpu_LDADD = $(unit_libs)
TESTS += tests/unit/test-partition-cpu

check_PROGRAMS += tests/unit/test-partition-state
tests_unit_test_partition_state_SOURCES = tests/unit/test-partition-state.c $(partition_fixture)
tests_unit_test_partition_state_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_partition_state_LDADD = $(unit_libs)
TESTS += tests/unit/test-partition-state

check_PROGRAMS += tests/unit/test-vp-set
tests_unit_test_vp_set_SOURCES = tests/unit/test-vp-set.c $(partition_fixture)
tests_unit_test_vp_set_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_vp_set_LDADD = $(unit_libs)
TESTS += tests/unit/test-vp-set
endif

# A debugger's bytes, whatever they are.
check_PROGRAMS += tests/fuzz/fuzz-gdb
tests_fuzz_fuzz_gdb_SOURCES = tests/fuzz/fuzz-gdb.c tests/lib/fake-backend.c tests/lib/fake-backend.h
tests_fuzz_fuzz_gdb_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_gdb_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_gdb_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-gdb
endif
EXTRA_DIST += tests/fuzz/corpus/gdb

# A VP's state, whatever a snapshot says.
check_PROGRAMS += tests/fuzz/fuzz-x86-state
tests_fuzz_fuzz_x86_state_SOURCES = tests/fuzz/fuzz-x86-state.c
tests_fuzz_fuzz_x86_state_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_x86_state_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_x86_state_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-x86-state
endif
EXTRA_DIST += tests/fuzz/corpus/x86-state
