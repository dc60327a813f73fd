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
	devices/irq.h \
	devices/mmio-manager.c \
	devices/mmio-manager.h \
	devices/power.c \
	devices/power.h \
	devices/rtc-cmos.c \
	devices/uart16550.c

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
endif
