# Sources and tests of this directory; included by Makefile.am, all paths from the top.
# x87, MMX and SSE of the software CPU.
libpartita_a_SOURCES += src/soft/fpu.h src/soft/fpu-state.c src/soft/fpu-x87.c src/soft/fpu-env.c src/soft/xsave.c \
	src/soft/fpu-kernel.h src/soft/fpu-kernel-x86.c src/soft/fpu-kernel-portable.c src/soft/sse.h src/soft/sse-move.c \
	src/soft/sse-int.c src/soft/sse-fp.c src/soft/sse-fast.c src/soft/sse-ext.c src/soft/sse-41.c src/soft/sse-string.c src/soft/sse-forms.h

if HAVE_CMOCKA
if HOST_X86_64
check_PROGRAMS += tests/cpu/test-xsave
tests_cpu_test_xsave_SOURCES = tests/cpu/test-xsave.c $(cpu_harness) tests/lib/cmocka-all.h
tests_cpu_test_xsave_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_xsave_LDADD = $(unit_libs)
TESTS += tests/cpu/test-xsave
endif
endif

# The differential test: the host's CPU against ours.
check_PROGRAMS += tests/cpu/diff
tests_cpu_diff_SOURCES = tests/cpu/diff.c tests/cpu/diff.h tests/cpu/diff-gen.c \
	tests/cpu/diff-native.c tests/cpu/diff-soft.c tests/cpu/diff-golden.c
tests_cpu_diff_LDADD = $(PARTITA_LIBS)
TESTS += tests/cpu/diff

# The same from recorded outcomes, on any host.
TESTS += tests/cpu/test-golden.sh
EXTRA_DIST += tests/cpu/test-golden.sh tests/cpu/golden-int.txt tests/cpu/golden-x87.txt \
	tests/cpu/golden-sse.txt tests/cpu/golden-found.txt

if HAVE_CMOCKA
# The kernel for other hosts, against this one's x87.
check_PROGRAMS += tests/cpu/test-x87-portable
tests_cpu_test_x87_portable_SOURCES = tests/cpu/test-x87-portable.c
tests_cpu_test_x87_portable_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_x87_portable_LDADD = $(unit_libs)
TESTS += tests/cpu/test-x87-portable

check_PROGRAMS += tests/cpu/test-fpu
tests_cpu_test_fpu_SOURCES = tests/cpu/test-fpu.c $(cpu_harness)
tests_cpu_test_fpu_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_cpu_test_fpu_LDADD = $(unit_libs)
TESTS += tests/cpu/test-fpu
endif
