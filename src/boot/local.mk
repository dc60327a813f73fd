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
	src/boot/fdt.c \
	src/boot/fdt.h \
	src/boot/layout.h \
	src/boot/linux64.c \
	src/boot/loader.h \
	src/boot/map.c \
	src/boot/multiboot.c \
	src/boot/pvh.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-acpi tests/unit/test-boot tests/unit/test-boot-kernel \
	tests/unit/test-cmdline tests/unit/test-fdt

boot_fixture = tests/lib/boot-fixture.c tests/lib/boot-fixture.h
pack_libs = $(ZLIB_LIBS) $(LZMA_LIBS) $(ZSTD_LIBS) $(LZ4_LIBS) $(BZIP2_LIBS)

tests_unit_test_acpi_SOURCES = tests/unit/test-acpi.c $(boot_fixture)
tests_unit_test_acpi_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_acpi_LDADD = $(unit_libs) $(pack_libs)
tests_unit_test_boot_SOURCES = tests/unit/test-boot.c $(boot_fixture)
tests_unit_test_boot_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_boot_LDADD = $(unit_libs) $(pack_libs)
tests_unit_test_boot_kernel_SOURCES = tests/unit/test-boot-kernel.c $(boot_fixture)
tests_unit_test_boot_kernel_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_boot_kernel_LDADD = $(unit_libs) $(pack_libs)
tests_unit_test_cmdline_SOURCES = tests/unit/test-cmdline.c
tests_unit_test_cmdline_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_cmdline_LDADD = $(unit_libs)
tests_unit_test_fdt_SOURCES = tests/unit/test-fdt.c $(boot_fixture)
tests_unit_test_fdt_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_fdt_LDADD = $(unit_libs) $(pack_libs)

TESTS += tests/unit/test-acpi tests/unit/test-boot tests/unit/test-boot-kernel \
	tests/unit/test-cmdline tests/unit/test-fdt
endif

check_PROGRAMS += tests/boot/dump-tables
tests_boot_dump_tables_SOURCES = tests/boot/dump-tables.c tests/lib/boot-fixture.c \
	tests/lib/boot-fixture.h
tests_boot_dump_tables_LDADD = $(PARTITA_LIBS) $(ZLIB_LIBS) $(LZMA_LIBS) $(ZSTD_LIBS) $(LZ4_LIBS) $(BZIP2_LIBS)
TESTS += tests/boot/test-tables.sh tests/boot/test-debian.sh
EXTRA_DIST += tests/boot/test-tables.sh tests/boot/test-debian.sh tests/lib/tap.sh

# One image of each kind, and some that lie; libFuzzer grows its own corpus from them.
check_PROGRAMS += tests/fuzz/fuzz-boot
tests_fuzz_fuzz_boot_SOURCES = tests/fuzz/fuzz-boot.c
tests_fuzz_fuzz_boot_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_boot_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_boot_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-boot
endif
EXTRA_DIST += \
	tests/fuzz/corpus/boot/bzimage-bomb \
	tests/fuzz/corpus/boot/bzimage-bzip2 \
	tests/fuzz/corpus/boot/bzimage-gzip \
	tests/fuzz/corpus/boot/bzimage-lz4 \
	tests/fuzz/corpus/boot/bzimage-lz4-block \
	tests/fuzz/corpus/boot/bzimage-lzma \
	tests/fuzz/corpus/boot/bzimage-xz \
	tests/fuzz/corpus/boot/bzimage-zstd \
	tests/fuzz/corpus/boot/elf-overlap \
	tests/fuzz/corpus/boot/elf-wrap \
	tests/fuzz/corpus/boot/multiboot \
	tests/fuzz/corpus/boot/multiboot-addresses \
	tests/fuzz/corpus/boot/pvh \
	tests/fuzz/corpus/boot/script \
	tests/fuzz/corpus/boot/vmlinux

# Guests with a stock kernel: quickstart, run-tests and the tests that boot one.
EXTRA_DIST += quickstart tests/lib/guest.sh tests/lib/guest-files.sh tests/lib/guest-init.sh \
	tests/lib/guest-udhcpc.sh
