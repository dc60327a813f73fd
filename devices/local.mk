# Sources and tests of this directory; included by Makefile.am, all paths from the top.

libpartita_a_SOURCES += \
	devices/bus.c \
	devices/bus.h \
	devices/debug-exit.c \
	devices/device.c \
	devices/device.h \
	devices/devices.h \
	devices/ioapic.c \
	devices/ioapic.h \
	devices/irq-fd.c \
	devices/irq-fd.h \
	devices/irq.h \
	devices/mmio-manager.c \
	devices/mmio-manager.h \
	devices/power.c \
	devices/power.h \
	devices/pvpanic.c \
	devices/rtc-cmos.c \
	devices/uart16550.c \
	devices/watchdog.c \
	devices/watchdog.h

libpartita_a_SOURCES += \
	devices/chardev/backend.h \
	devices/chardev/chardev.c \
	devices/chardev/chardev.h \
	devices/chardev/pty.c \
	devices/chardev/sink.c \
	devices/chardev/stdio.c \
	devices/chardev/unix.c \
	devices/io.c \
	devices/io.h

libpartita_a_SOURCES += \
	devices/net/address.c \
	devices/net/address.h \
	devices/net/dgram.c \
	devices/net/net.c \
	devices/net/net.h \
	devices/net/offload.c \
	devices/net/offload.h \
	devices/net/stream.c \
	devices/net/tap.c \
	devices/net/user.c \
	devices/rate-limit.c \
	devices/rate-limit.h \
	devices/virtio/net.c \
	devices/virtio/net-ctrl.c \
	devices/virtio/net-private.h \
	devices/virtio/net.h

libpartita_a_SOURCES += \
	devices/block/block.c \
	devices/block/block.h \
	devices/block/file-lock.c \
	devices/block/file-threads.c \
	devices/block/file-uring.c \
	devices/block/file.c \
	devices/block/file.h \
	devices/virtio/blk.c \
	devices/virtio/blk.h \
	devices/virtio/iov.h \
	devices/virtio/mmio.c \
	devices/virtio/mmio.h \
	devices/virtio/queue.c \
	devices/virtio/queue.h \
	devices/virtio/rng.c \
	devices/virtio/virtio.c \
	devices/virtio/virtio.h

if HAVE_CMOCKA
device_fixture = tests/device/fixture.c tests/device/fixture.h

check_PROGRAMS += tests/device/test-virtio-blk
tests_device_test_virtio_blk_SOURCES = tests/device/test-virtio-blk.c $(device_fixture)
tests_device_test_virtio_blk_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_virtio_blk_LDADD = $(unit_libs)
TESTS += tests/device/test-virtio-blk

check_PROGRAMS += tests/device/test-virtio-net
tests_device_test_virtio_net_SOURCES = tests/device/test-virtio-net.c $(device_fixture)
tests_device_test_virtio_net_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_virtio_net_LDADD = $(unit_libs)
TESTS += tests/device/test-virtio-net

check_PROGRAMS += tests/device/test-net-stream
tests_device_test_net_stream_SOURCES = tests/device/test-net-stream.c $(device_fixture)
tests_device_test_net_stream_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_net_stream_LDADD = $(unit_libs)
TESTS += tests/device/test-net-stream

check_PROGRAMS += tests/unit/test-rate-limit
tests_unit_test_rate_limit_SOURCES = tests/unit/test-rate-limit.c tests/lib/cmocka-all.h
tests_unit_test_rate_limit_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_rate_limit_LDADD = $(unit_libs)
TESTS += tests/unit/test-rate-limit

check_PROGRAMS += tests/device/test-uart16550
tests_device_test_uart16550_SOURCES = tests/device/test-uart16550.c $(device_fixture)
tests_device_test_uart16550_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_uart16550_LDADD = $(unit_libs)
TESTS += tests/device/test-uart16550

check_PROGRAMS += tests/device/test-chardev
tests_device_test_chardev_SOURCES = tests/device/test-chardev.c $(device_fixture)
tests_device_test_chardev_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_chardev_LDADD = $(unit_libs)
TESTS += tests/device/test-chardev

check_PROGRAMS += tests/device/test-virtio-queue
tests_device_test_virtio_queue_SOURCES = tests/device/test-virtio-queue.c $(device_fixture)
tests_device_test_virtio_queue_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_virtio_queue_LDADD = $(unit_libs)
TESTS += tests/device/test-virtio-queue

check_PROGRAMS += tests/device/test-virtio-mmio
tests_device_test_virtio_mmio_SOURCES = tests/device/test-virtio-mmio.c $(device_fixture)
tests_device_test_virtio_mmio_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_virtio_mmio_LDADD = $(unit_libs)
TESTS += tests/device/test-virtio-mmio

check_PROGRAMS += tests/device/test-placement
tests_device_test_placement_SOURCES = tests/device/test-placement.c $(device_fixture)
tests_device_test_placement_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_placement_LDADD = $(unit_libs)
TESTS += tests/device/test-placement

check_PROGRAMS += tests/device/test-platform
tests_device_test_platform_SOURCES = tests/device/test-platform.c $(device_fixture)
tests_device_test_platform_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_platform_LDADD = $(unit_libs)
TESTS += tests/device/test-platform

check_PROGRAMS += tests/device/test-irq-fd
tests_device_test_irq_fd_SOURCES = tests/device/test-irq-fd.c $(device_fixture)
tests_device_test_irq_fd_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_irq_fd_LDADD = $(unit_libs)
TESTS += tests/device/test-irq-fd

check_PROGRAMS += tests/device/test-watchdog
tests_device_test_watchdog_SOURCES = tests/device/test-watchdog.c $(device_fixture)
tests_device_test_watchdog_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_device_test_watchdog_LDADD = $(unit_libs)
TESTS += tests/device/test-watchdog
endif

# What guests and saved states can bring.
check_PROGRAMS += tests/fuzz/fuzz-virtio-queue
tests_fuzz_fuzz_virtio_queue_SOURCES = tests/fuzz/fuzz-virtio-queue.c tests/fuzz/device-fuzz.h
tests_fuzz_fuzz_virtio_queue_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_virtio_queue_LDADD = $(PARTITA_LIBS)
check_PROGRAMS += tests/fuzz/fuzz-virtio-mmio
tests_fuzz_fuzz_virtio_mmio_SOURCES = tests/fuzz/fuzz-virtio-mmio.c tests/fuzz/device-fuzz.h
tests_fuzz_fuzz_virtio_mmio_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_virtio_mmio_LDADD = $(PARTITA_LIBS)
check_PROGRAMS += tests/fuzz/fuzz-virtio-blk
tests_fuzz_fuzz_virtio_blk_SOURCES = tests/fuzz/fuzz-virtio-blk.c tests/fuzz/device-fuzz.h
tests_fuzz_fuzz_virtio_blk_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_virtio_blk_LDADD = $(PARTITA_LIBS)
check_PROGRAMS += tests/fuzz/fuzz-virtio-net
tests_fuzz_fuzz_virtio_net_SOURCES = tests/fuzz/fuzz-virtio-net.c tests/fuzz/device-fuzz.h
tests_fuzz_fuzz_virtio_net_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_virtio_net_LDADD = $(PARTITA_LIBS)
check_PROGRAMS += tests/fuzz/fuzz-net-stream
tests_fuzz_fuzz_net_stream_SOURCES = tests/fuzz/fuzz-net-stream.c tests/fuzz/device-fuzz.h
tests_fuzz_fuzz_net_stream_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_net_stream_LDADD = $(PARTITA_LIBS)
check_PROGRAMS += tests/fuzz/fuzz-device-state
tests_fuzz_fuzz_device_state_SOURCES = tests/fuzz/fuzz-device-state.c tests/fuzz/device-fuzz.h
tests_fuzz_fuzz_device_state_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_device_state_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_virtio_queue_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-virtio-queue
tests_fuzz_fuzz_virtio_mmio_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-virtio-mmio
tests_fuzz_fuzz_virtio_blk_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-virtio-blk
tests_fuzz_fuzz_virtio_net_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-virtio-net
tests_fuzz_fuzz_net_stream_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-net-stream
tests_fuzz_fuzz_device_state_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-device-state
endif
EXTRA_DIST += \
	tests/fuzz/corpus/virtio-queue/chain \
	tests/fuzz/corpus/virtio-queue/events \
	tests/fuzz/corpus/virtio-queue/hole \
	tests/fuzz/corpus/virtio-queue/indirect \
	tests/fuzz/corpus/virtio-queue/loop \
	tests/fuzz/corpus/virtio-queue/nested \
	tests/fuzz/corpus/virtio-queue/overlap \
	tests/fuzz/corpus/virtio-queue/runaway \
	tests/fuzz/corpus/virtio-queue/wrap \
	tests/fuzz/corpus/virtio-mmio/bad-ring \
	tests/fuzz/corpus/virtio-mmio/identify \
	tests/fuzz/corpus/virtio-mmio/lie \
	tests/fuzz/corpus/virtio-mmio/request \
	tests/fuzz/corpus/virtio-mmio/skip \
	tests/fuzz/corpus/virtio-mmio/start \
	tests/fuzz/corpus/virtio-blk/bounds \
	tests/fuzz/corpus/virtio-blk/large-blocks \
	tests/fuzz/corpus/virtio-blk/no-status \
	tests/fuzz/corpus/virtio-blk/read-write \
	tests/fuzz/corpus/virtio-blk/unmap \
	tests/fuzz/corpus/virtio-net/checksum \
	tests/fuzz/corpus/virtio-net/control \
	tests/fuzz/corpus/virtio-net/control-one-pair \
	tests/fuzz/corpus/virtio-net/no-merge \
	tests/fuzz/corpus/virtio-net/send \
	tests/fuzz/corpus/virtio-net/short \
	tests/fuzz/corpus/virtio-net/tso4 \
	tests/fuzz/corpus/virtio-net/tso6 \
	tests/fuzz/corpus/virtio-net/vnet-header \
	tests/fuzz/corpus/net-stream/cut \
	tests/fuzz/corpus/net-stream/frames \
	tests/fuzz/corpus/net-stream/lie \
	tests/fuzz/corpus/net-stream/no-room \
	tests/fuzz/corpus/net-stream/zero \
	tests/fuzz/corpus/device-state/ioapic \
	tests/fuzz/corpus/device-state/ioapic-select \
	tests/fuzz/corpus/device-state/net \
	tests/fuzz/corpus/device-state/net-table \
	tests/fuzz/corpus/device-state/not-json \
	tests/fuzz/corpus/device-state/rng \
	tests/fuzz/corpus/device-state/rng-queues \
	tests/fuzz/corpus/device-state/rng-ring \
	tests/fuzz/corpus/device-state/rng-status \
	tests/fuzz/corpus/device-state/watchdog \
	tests/fuzz/corpus/device-state/watchdog-ended
