# The system part of the software CPU: memory management, segments, exceptions, privileged instructions.
libpartita_a_SOURCES += src/soft/x86-cpu.h src/soft/x86-fpu-state.h src/soft/soft.h src/soft/system.h \
	src/soft/mmu.c src/soft/seg.c src/soft/exception.c src/soft/debug.c src/soft/task.c \
	src/soft/cr.c src/soft/msr.c src/soft/state.c src/soft/system.c src/soft/system-far.c \
	src/soft/system-io.c src/soft/system-seg.c

if HOST_X86_64
TESTS += tests/guests/test-guests.sh
endif
EXTRA_DIST += tests/guests/test-guests.sh tests/guests/link.ld tests/guests/guest.h \
	tests/guests/guest32.h tests/guests/runtime.c tests/guests/runtime64.c \
	tests/guests/runtime32.c tests/guests/start64.S tests/guests/start32.S \
	tests/guests/traps.c tests/guests/emulate.c tests/guests/paging.c tests/guests/syscall.c tests/guests/debug.c \
	tests/guests/smc.c tests/guests/smp.c tests/guests/smp-cpus.c tests/guests/smp.h tests/guests/strings.c tests/guests/lapic.c tests/guests/hyperv.c tests/guests/move.c tests/guests/segments.c \
	tests/guests/tasks.c tests/guests/vm86.c tests/guests/modes.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-mmu
tests_unit_test_mmu_SOURCES = tests/unit/test-mmu.c tests/lib/cmocka-all.h
tests_unit_test_mmu_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_mmu_LDADD = $(unit_libs)
TESTS += tests/unit/test-mmu
endif
