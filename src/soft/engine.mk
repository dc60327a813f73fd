# Sources and tests of this directory; included by Makefile.am, all paths from the top.
# The engine of the software CPU: table, decoder, blocks, dispatch, general-purpose instructions.
libpartita_a_SOURCES += src/soft/x86-cpu.h src/soft/x86-fpu-state.h src/soft/opcodes.h \
	src/soft/opcodes.def src/soft/opcodes-int.def src/soft/opcodes-sys.def src/soft/opcodes-fp.def
