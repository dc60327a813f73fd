# Sources and tests of this directory; included by Makefile.am, all paths from the top.
# The engine of the software CPU: table, decoder, blocks, dispatch, general-purpose instructions.
libpartita_a_SOURCES += src/soft/x86-cpu.h src/soft/x86-fpu-state.h src/soft/opcodes.h \
	src/soft/opcodes.def src/soft/opcodes-int.def src/soft/opcodes-sys.def src/soft/opcodes-fp.def \
	src/soft/decode.c src/soft/decode.h src/soft/block.c src/soft/engine.c src/soft/engine.h \
	src/soft/int.h src/soft/int-alu.c src/soft/int-atomic.c src/soft/int-bits.c \
	src/soft/int-branch.c src/soft/int-decimal.c src/soft/int-move.c src/soft/int-mul.c \
	src/soft/int-select.c src/soft/int-shift.c src/soft/int-stack.c src/soft/int-string.c \
	src/soft/world.c src/soft/dirty.c

cpu_harness = tests/cpu/cpu-harness.c tests/cpu/cpu-harness.h
dirty_suite = tests/cpu/dirty-suite.c tests/cpu/dirty-suite.h
if HAVE_CMOCKA
check_PROGRAMS += tests/cpu/test-engine
tests_cpu_test_engine_SOURCES = tests/cpu/test-engine.c $(cpu_harness) tests/lib/cmocka-all.h
tests_cpu_test_engine_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_engine_LDADD = $(unit_libs)
TESTS += tests/cpu/test-engine

check_PROGRAMS += tests/cpu/test-step
tests_cpu_test_step_SOURCES = tests/cpu/test-step.c $(cpu_harness) tests/lib/cmocka-all.h
tests_cpu_test_step_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_step_LDADD = $(unit_libs)
TESTS += tests/cpu/test-step

check_PROGRAMS += tests/cpu/test-debugger
tests_cpu_test_debugger_SOURCES = tests/cpu/test-debugger.c $(cpu_harness) tests/lib/cmocka-all.h
tests_cpu_test_debugger_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_debugger_LDADD = $(unit_libs)
TESTS += tests/cpu/test-debugger

check_PROGRAMS += tests/cpu/test-dirty-log
tests_cpu_test_dirty_log_SOURCES = tests/cpu/test-dirty-log.c $(dirty_suite) $(cpu_harness) \
	tests/lib/cmocka-all.h
tests_cpu_test_dirty_log_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_dirty_log_LDADD = $(unit_libs)
TESTS += tests/cpu/test-dirty-log

check_PROGRAMS += tests/cpu/test-decode
tests_cpu_test_decode_SOURCES = tests/cpu/test-decode.c tests/lib/cmocka-all.h
tests_cpu_test_decode_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_decode_LDADD = $(unit_libs)
TESTS += tests/cpu/test-decode

if HOST_X86_64
check_PROGRAMS += tests/cpu/test-sequences
tests_cpu_test_sequences_SOURCES = tests/cpu/test-sequences.c $(cpu_harness) tests/lib/cmocka-all.h
tests_cpu_test_sequences_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_sequences_LDADD = $(unit_libs)
TESTS += tests/cpu/test-sequences
endif
endif

EXTRA_PROGRAMS += tests/bench/dirty
tests_bench_dirty_SOURCES = tests/bench/dirty.c $(cpu_harness)
tests_bench_dirty_LDADD = $(PARTITA_LIBS)

if HOST_X86_64
EXTRA_PROGRAMS += tests/bench/cpu-engine
tests_bench_cpu_engine_SOURCES = tests/bench/cpu-engine.c tests/bench/cpu-loops.S \
	tests/bench/cpu-loops.h $(cpu_harness)
tests_bench_cpu_engine_LDADD = $(PARTITA_LIBS)
endif

check_PROGRAMS += tests/fuzz/fuzz-cpu
tests_fuzz_fuzz_cpu_SOURCES = tests/fuzz/fuzz-cpu.c $(cpu_harness)
tests_fuzz_fuzz_cpu_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_cpu_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_cpu_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-cpu
endif
EXTRA_DIST += tests/fuzz/corpus/cpu
