# Sources and tests of this directory; included by Makefile.am, all paths from the top.

libpartita_a_SOURCES += \
	devices/bus.c \
	devices/bus.h \
	devices/device.c \
	devices/device.h \
	devices/devices.h \
	devices/ioapic.c \
	devices/ioapic.h \
	devices/irq.h \
	devices/mmio-manager.c \
	devices/mmio-manager.h \
	devices/power.c \
	devices/power.h
