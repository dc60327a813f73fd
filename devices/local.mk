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
