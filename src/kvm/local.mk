# The KVM back end; included by Makefile.am, all paths from the top.
if HAVE_KVM
libpartita_a_SOURCES += \
	src/kvm/kvm-caps.c \
	src/kvm/kvm-clock.c \
	src/kvm/kvm-cpuid.c \
	src/kvm/kvm-debug.c \
	src/kvm/kvm-debug.h \
	src/kvm/kvm-dirty.c \
	src/kvm/kvm-emulate.c \
	src/kvm/kvm-exit.c \
	src/kvm/kvm-hyperv.c \
	src/kvm/kvm-ioctl.c \
	src/kvm/kvm-irq.c \
	src/kvm/kvm-lapic.c \
	src/kvm/kvm-memory.c \
	src/kvm/kvm-msrs.c \
	src/kvm/kvm-state.c \
	src/kvm/kvm-state.h \
	src/kvm/kvm-step.c \
	src/kvm/kvm-vp.c \
	src/kvm/kvm.c \
	src/kvm/kvm.h

EXTRA_DIST += tests/kvm/pvm.py

if HAVE_CMOCKA
check_PROGRAMS += tests/kvm/test-kvm-emulate
tests_kvm_test_kvm_emulate_SOURCES = tests/kvm/test-kvm-emulate.c tests/lib/cmocka-all.h
tests_kvm_test_kvm_emulate_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_kvm_test_kvm_emulate_LDADD = $(unit_libs)
TESTS += tests/kvm/test-kvm-emulate

check_PROGRAMS += tests/kvm/test-kvm-state
tests_kvm_test_kvm_state_SOURCES = tests/kvm/test-kvm-state.c tests/kvm/state-gen.c \
	tests/kvm/state-gen.h tests/lib/cmocka-all.h
tests_kvm_test_kvm_state_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_kvm_test_kvm_state_LDADD = $(unit_libs)
TESTS += tests/kvm/test-kvm-state
check_PROGRAMS += tests/kvm/test-kvm-irq
tests_kvm_test_kvm_irq_SOURCES = tests/kvm/test-kvm-irq.c tests/device/fixture.c tests/device/fixture.h
tests_kvm_test_kvm_irq_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_kvm_test_kvm_irq_LDADD = $(unit_libs)
TESTS += tests/kvm/test-kvm-irq

check_PROGRAMS += tests/kvm/test-kvm-dirty
tests_kvm_test_kvm_dirty_SOURCES = tests/kvm/test-kvm-dirty.c tests/kvm/kvm-host.c tests/kvm/kvm-host.h \
	$(dirty_suite) $(cpu_harness) tests/lib/cmocka-all.h
tests_kvm_test_kvm_dirty_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_kvm_test_kvm_dirty_LDADD = $(unit_libs)
TESTS += tests/kvm/test-kvm-dirty

check_PROGRAMS += tests/kvm/test-kvm-failures
tests_kvm_test_kvm_failures_SOURCES = tests/kvm/test-kvm-failures.c tests/kvm/kvm-host.c tests/kvm/kvm-host.h \
	tests/lib/cmocka-all.h
tests_kvm_test_kvm_failures_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_kvm_test_kvm_failures_LDADD = $(unit_libs)
TESTS += tests/kvm/test-kvm-failures
check_PROGRAMS += tests/kvm/test-kvm-debug
tests_kvm_test_kvm_debug_SOURCES = tests/kvm/test-kvm-debug.c tests/kvm/kvm-host.c tests/kvm/kvm-host.h \
	$(cpu_harness) tests/lib/cmocka-all.h
tests_kvm_test_kvm_debug_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_kvm_test_kvm_debug_LDADD = $(unit_libs)
TESTS += tests/kvm/test-kvm-debug

check_PROGRAMS += tests/kvm/test-kvm-clock
tests_kvm_test_kvm_clock_SOURCES = tests/kvm/test-kvm-clock.c tests/lib/cmocka-all.h
tests_kvm_test_kvm_clock_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_kvm_test_kvm_clock_LDADD = $(unit_libs)
TESTS += tests/kvm/test-kvm-clock

check_PROGRAMS += tests/kvm/move
tests_kvm_move_SOURCES = tests/kvm/move.c
tests_kvm_move_LDADD = $(unit_libs)
TESTS += tests/kvm/test-move.sh tests/kvm/test-nested-move.sh
EXTRA_DIST += tests/kvm/test-move.sh tests/kvm/test-nested-move.sh tests/kvm/nested-move.py \
	tests/kvm/move-init.sh
endif
endif

TESTS += tests/kvm/test-kvm-host.sh
EXTRA_DIST += tests/kvm/test-kvm-host.sh
TESTS += tests/kvm/test-nested-guests.sh tests/kvm/test-nested-debian.sh
EXTRA_DIST += tests/kvm/test-nested-guests.sh tests/kvm/test-nested-debian.sh tests/kvm/nested.py \
	tests/kvm/nested-guests.py tests/kvm/nested-debian.py tests/kvm/debian.py tests/kvm/inside.py tests/kvm/first-level.txt
