# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	qmp/client.c qmp/client.h \
	qmp/client-schema.c qmp/client-schema.h \
	qmp/cmd.h qmp/cmd-debug.c qmp/cmd-devices.c qmp/cmd-machine.c qmp/cmd-memory.c \
	qmp/cmd-net.c qmp/cmd-tree.c \
	qmp/event-sink.c qmp/event-sink.h \
	qmp/json-stream.c qmp/json-stream.h \
	qmp/monitor.c qmp/monitor.h \
	qmp/pretty.c qmp/pretty.h \
	qmp/rates.c qmp/rates.h \
	qmp/reply.c qmp/reply.h \
	qmp/session.c qmp/session.h qmp/session-private.h \
	qmp/session-fds.c qmp/session-jsonrpc.c qmp/session-qmp.c \
	qmp/vm-monitor.c qmp/vm-monitor.h \
	src/cmd-client.h src/cmd-inspect.c src/cmd-monitor.c src/monitor-console.c src/monitor-console.h \
	src/machine/inspect-vp.c src/machine/inspect-vp.h \
	src/machine/machine-inspect.c src/machine/machine-inspect.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-json-stream
tests_unit_test_json_stream_SOURCES = tests/unit/test-json-stream.c
tests_unit_test_json_stream_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_json_stream_LDADD = $(unit_libs)
TESTS += tests/unit/test-json-stream
check_PROGRAMS += tests/unit/test-session
tests_unit_test_session_SOURCES = tests/unit/test-session.c tests/monitor/fake.c tests/monitor/fake.h
tests_unit_test_session_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_session_LDADD = $(unit_libs)
TESTS += tests/unit/test-session
check_PROGRAMS += tests/unit/test-inspect
tests_unit_test_inspect_SOURCES = tests/unit/test-inspect.c tests/lib/cmocka-all.h
tests_unit_test_inspect_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_inspect_LDADD = $(unit_libs)
TESTS += tests/unit/test-inspect
check_PROGRAMS += tests/unit/test-inspect-vp
tests_unit_test_inspect_vp_SOURCES = tests/unit/test-inspect-vp.c $(partition_fixture)
tests_unit_test_inspect_vp_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_inspect_vp_LDADD = $(unit_libs)
TESTS += tests/unit/test-inspect-vp
check_PROGRAMS += tests/unit/test-monitor
tests_unit_test_monitor_SOURCES = tests/unit/test-monitor.c tests/lib/cmocka-all.h \
	tests/monitor/fake.c tests/monitor/fake.h
tests_unit_test_monitor_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_monitor_LDADD = $(unit_libs)
TESTS += tests/unit/test-monitor
check_PROGRAMS += tests/unit/test-client
tests_unit_test_client_SOURCES = tests/unit/test-client.c tests/lib/cmocka-all.h
tests_unit_test_client_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_client_LDADD = $(unit_libs)
TESTS += tests/unit/test-client
endif
EXTRA_DIST += \
	tests/monitor/jsonrpc.session \
	tests/monitor/later.session \
	tests/monitor/mixed.session \
	tests/monitor/oob.session \
	tests/monitor/qmp.session \
	tests/monitor/replay.session

# A client's bytes, whatever they are.
check_PROGRAMS += tests/fuzz/fuzz-monitor
tests_fuzz_fuzz_monitor_SOURCES = tests/fuzz/fuzz-monitor.c tests/monitor/fake.c tests/monitor/fake.h
tests_fuzz_fuzz_monitor_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_monitor_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_monitor_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-monitor
endif
EXTRA_DIST += \
	tests/fuzz/corpus/monitor/batch \
	tests/fuzz/corpus/monitor/deep \
	tests/fuzz/corpus/monitor/garbage \
	tests/fuzz/corpus/monitor/jsonrpc \
	tests/fuzz/corpus/monitor/later \
	tests/fuzz/corpus/monitor/later-oob \
	tests/fuzz/corpus/monitor/mixed \
	tests/fuzz/corpus/monitor/oob \
	tests/fuzz/corpus/monitor/qmp \
	tests/fuzz/corpus/monitor/replay

# What may be asked of inspect.
check_PROGRAMS += tests/fuzz/fuzz-inspect
tests_fuzz_fuzz_inspect_SOURCES = tests/fuzz/fuzz-inspect.c
tests_fuzz_fuzz_inspect_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_inspect_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_inspect_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-inspect
endif
EXTRA_DIST += \
	tests/fuzz/corpus/inspect/all \
	tests/fuzz/corpus/inspect/bad-value \
	tests/fuzz/corpus/inspect/deep \
	tests/fuzz/corpus/inspect/dropped \
	tests/fuzz/corpus/inspect/late \
	tests/fuzz/corpus/inspect/on \
	tests/fuzz/corpus/inspect/safe \
	tests/fuzz/corpus/inspect/slashes

EXTRA_PROGRAMS += tests/bench/qmp
tests_bench_qmp_SOURCES = tests/bench/qmp.c
BENCHES += tests/bench/qmp.sh
EXTRA_DIST += tests/bench/qmp.sh

# All of it together, under `partita run`.
TESTS += tests/monitor/test-machine.sh tests/monitor/test-description.sh
EXTRA_DIST += tests/monitor/test-machine.sh tests/monitor/machine.py tests/monitor/guest.S \
	tests/monitor/test-description.sh tests/monitor/description.py
