# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/util/i18n.h \
	src/util/log.c \
	src/util/trace.c \
	src/util/tsan.h \
	src/util/util.c \
	src/util/util.h
