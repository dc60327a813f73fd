# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	qmp/event-sink.c qmp/event-sink.h \
	qmp/json-stream.c qmp/json-stream.h
