# Sources and tests of this directory; included by Makefile.am, all paths from the top.
bin_PROGRAMS += partita
partita_SOURCES = src/cmd-run.c src/commands.h src/main.c
partita_LDADD = $(PARTITA_LIBS)
libpartita_a_SOURCES += \
	src/machine/config-check.c \
	src/machine/dirty-rate.c \
	src/machine/io-thread.c \
	src/machine/io-thread.h \
	src/machine/jobs.c \
	src/machine/jobs.h \
	src/machine/machine-build.c \
	src/machine/machine-gdb.c \
	src/machine/machine-life.c \
	src/machine/machine-memory.c \
	src/machine/machine-memory.h \
	src/machine/machine-private.h \
	src/machine/machine-units.c \
	src/machine/machine.c \
	src/machine/machine.h \
	src/machine/memory-dump.c \
	src/machine/memory-stats.c \
	src/machine/platform.c \
	src/machine/units.c \
	src/machine/units.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-machine-memory
tests_unit_test_machine_memory_SOURCES = tests/unit/test-machine-memory.c tests/lib/cmocka-all.h
tests_unit_test_machine_memory_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_machine_memory_LDADD = $(unit_libs)
TESTS += tests/unit/test-machine-memory
check_PROGRAMS += tests/unit/test-units
tests_unit_test_units_SOURCES = tests/unit/test-units.c tests/lib/cmocka-all.h
tests_unit_test_units_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_units_LDADD = $(unit_libs)
TESTS += tests/unit/test-units
endif
