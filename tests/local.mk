# Sources and tests of this directory; included by Makefile.am, all paths from the top.
EXTRA_DIST += run-tests .ci/run tests/lib/packages.sh tests/lib/long-fuzz.sh tests/tsan.supp

TESTS += tests/unit/test-layers.sh
EXTRA_DIST += tests/unit/test-layers.sh
TESTS += tests/unit/test-translations.sh
EXTRA_DIST += tests/unit/test-translations.sh
TESTS += tests/unit/test-help.sh
EXTRA_DIST += tests/unit/test-help.sh

EXTRA_DIST += tests/lib/vmtest.py
TESTS += tests/guests/test-debian.sh
EXTRA_DIST += tests/guests/test-debian.sh tests/guests/debian.py
TESTS += tests/guests/test-memory.sh
EXTRA_DIST += tests/guests/test-memory.sh tests/guests/memory.py
TESTS += tests/guests/test-net.sh
EXTRA_DIST += tests/guests/test-net.sh tests/guests/net.py
TESTS += tests/guests/test-watchdog.sh
EXTRA_DIST += tests/guests/test-watchdog.sh tests/guests/watchdog.py
TESTS += tests/guests/test-pvpanic.sh
EXTRA_DIST += tests/guests/test-pvpanic.sh tests/guests/pvpanic.py
TESTS += tests/guests/test-gdb.sh
EXTRA_DIST += tests/guests/test-gdb.sh tests/guests/gdb.py tests/guests/gdb-guest.c \
	tests/guests/gdb-start.S
TESTS += tests/guests/test-smp.sh
EXTRA_DIST += tests/guests/test-smp.sh tests/guests/smp.py tests/guests/threads.c
TESTS += tests/guests/test-dirty.sh
EXTRA_DIST += tests/guests/test-dirty.sh tests/guests/dirty.py
