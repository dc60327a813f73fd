# The system part of the software CPU: memory management, segments, exceptions, privileged instructions.
libpartita_a_SOURCES += src/soft/x86-cpu.h src/soft/x86-fpu-state.h src/soft/soft.h src/soft/system.h \
	src/soft/mmu.c src/soft/seg.c src/soft/exception.c src/soft/debug.c src/soft/task.c \
	src/soft/cr.c src/soft/msr.c src/soft/state.c src/soft/system.c src/soft/system-far.c \
	src/soft/system-io.c src/soft/system-seg.c
