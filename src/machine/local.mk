# Sources and tests of this directory; included by Makefile.am, all paths from the top.
bin_PROGRAMS += partita
partita_SOURCES = src/main.c
partita_LDADD = $(PARTITA_LIBS)
libpartita_a_SOURCES += \
	src/machine/config-check.c \
	src/machine/io-thread.c \
	src/machine/io-thread.h \
	src/machine/machine.c \
	src/machine/machine.h \
	src/machine/units.c \
	src/machine/units.h
