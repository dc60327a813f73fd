# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/util/i18n.h \
	src/util/inspect-fields.c \
	src/util/inspect-node.c \
	src/util/inspect-private.h \
	src/util/inspect.c \
	src/util/inspect.h \
	src/util/lazy-lib.c \
	src/util/lazy-lib.h \
	src/util/log.c \
	src/util/main-thread.c \
	src/util/reader.c \
	src/util/reader.h \
	src/util/signals.c \
	src/util/socket.c \
	src/util/socket.h \
	src/util/trace.c \
	src/util/tsan.h \
	src/util/util.c \
	src/util/util.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-util
tests_unit_test_util_SOURCES = tests/unit/test-util.c tests/lib/cmocka-all.h
tests_unit_test_util_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_util_LDADD = $(unit_libs)
TESTS += tests/unit/test-util
endif
