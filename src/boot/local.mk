# Sources and tests of this directory; included by Makefile.am, all paths from the top.
libpartita_a_SOURCES += \
	src/boot/acpi.c \
	src/boot/acpi.h \
	src/boot/aml.c \
	src/boot/aml.h \
	src/boot/boot.c \
	src/boot/boot.h \
	src/boot/bzimage.c \
	src/boot/cmdline.c \
	src/boot/cmdline.h \
	src/boot/decompress.c \
	src/boot/elf.c \
	src/boot/entry.c \
	src/boot/layout.h \
	src/boot/linux64.c \
	src/boot/loader.h \
	src/boot/map.c \
	src/boot/multiboot.c \
	src/boot/pvh.c
