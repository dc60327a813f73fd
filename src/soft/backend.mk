# The back end of the software CPU: ops table, interrupts, time.
libpartita_a_SOURCES += \
	src/soft/ipi.c \
	src/soft/lapic-priv.h \
	src/soft/lapic.c \
	src/soft/lapic.h \
	src/soft/service.c \
	src/soft/soft.c \
	src/soft/soft.h
