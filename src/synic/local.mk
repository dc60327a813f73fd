# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/synic/hyperv-abi.h \
	src/synic/hyperv.c \
	src/synic/hyperv.h
