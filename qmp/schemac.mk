# The schema compiler, what it makes, and the run-time part that the generated code calls.

SCHEMA = \
	schema/common.json \
	schema/machine.json \
	schema/control.json \
	schema/status.json \
	schema/devices.json \
	schema/memory.json \
	schema/net.json \
	schema/debug.json \
	schema/tree.json
EXTRA_DIST += $(SCHEMA)
# When the interface last changed: the date of its manual pages.
SCHEMA_DATE = November 25, 2026

# It is built without what instruments the rest for fuzzing: it runs while the rest is built.
if BUILD_SCHEMAC
noinst_PROGRAMS += qmp/schemac
qmp_schemac_SOURCES = \
	qmp/gen-c.c \
	qmp/gen-introspect.c \
	qmp/gen-lock.c \
	qmp/gen-man.c \
	qmp/gen.h \
	qmp/schema-check.c \
	qmp/schema-json.c \
	qmp/schema.c \
	qmp/schema.h \
	qmp/schemac.c \
	src/util/util.c
qmp_schemac_CFLAGS = -std=gnu11 $(WARN_CFLAGS) $(SANITIZE_CFLAGS) $(GLIB_CFLAGS) $(JANSSON_CFLAGS)
qmp_schemac_LDADD = $(GLIB_LIBS) $(JANSSON_LIBS)
schemac_program = qmp/schemac$(EXEEXT)
endif

schema_headers = \
	qmp/gen/commands.h \
	qmp/gen/events.h \
	qmp/gen/introspect.h \
	qmp/gen/types.h
schema_sources = \
	qmp/gen/commands.c \
	qmp/gen/events.c \
	qmp/gen/introspect.c \
	qmp/gen/types.c
schema_manuals = \
	qmp/gen/partita-machine.5 \
	qmp/gen/partita-qmp.7
schema_made = $(schema_headers) $(schema_sources) $(schema_manuals)

# Files that did not change keep their time, so the stamp stands for all of them.
qmp/gen.stamp: $(SCHEMA) qmp/schemac.mk $(schemac_program)
	$(AM_V_GEN)$(MKDIR_P) qmp/gen && $(SCHEMAC) -C $(srcdir) -o qmp/gen \
		--date '$(SCHEMA_DATE)' $(SCHEMA) && : > $@
$(schema_made): qmp/gen.stamp
	@test -f $@ || rm -f qmp/gen.stamp
	@test -f $@ || $(MAKE) $(AM_MAKEFLAGS) qmp/gen.stamp

BUILT_SOURCES += $(schema_made)
CLEANFILES += $(schema_made) qmp/gen.stamp
nodist_man_MANS += $(schema_manuals)

libpartita_a_SOURCES += \
	qmp/marshal-parse.c \
	qmp/marshal-private.h \
	qmp/marshal.c \
	qmp/marshal.h
nodist_libpartita_a_SOURCES += $(schema_headers) $(schema_sources)

# The parser of descriptions, with whatever comes.
check_PROGRAMS += tests/fuzz/fuzz-machine-config
tests_fuzz_fuzz_machine_config_SOURCES = tests/fuzz/fuzz-machine-config.c
tests_fuzz_fuzz_machine_config_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_machine_config_LDADD = $(PARTITA_LIBS)
if !FUZZ
tests_fuzz_fuzz_machine_config_SOURCES += tests/fuzz/replay.c
TESTS += tests/fuzz/fuzz-machine-config
endif
EXTRA_DIST += \
	tests/fuzz/corpus/machine-config/all.json \
	tests/fuzz/corpus/machine-config/backings.json \
	tests/fuzz/corpus/machine-config/big-size.json \
	tests/fuzz/corpus/machine-config/cut.json \
	tests/fuzz/corpus/machine-config/deep.json \
	tests/fuzz/corpus/machine-config/duplicate-id.json \
	tests/fuzz/corpus/machine-config/issue.json \
	tests/fuzz/corpus/machine-config/long.json \
	tests/fuzz/corpus/machine-config/negative.json \
	tests/fuzz/corpus/machine-config/no-type.json \
	tests/fuzz/corpus/machine-config/odd-keys.json \
	tests/fuzz/corpus/machine-config/smallest.json

# The compiler's own tests. SCHEMAC and SCHEMA go to them by the environment.
AM_TESTS_ENVIRONMENT += export SCHEMAC='$(SCHEMAC)' SCHEMA='$(SCHEMA)';
TESTS += tests/schema/test-schemac.sh
EXTRA_DIST += \
	tests/golden/schema.lock \
	tests/schema/bad \
	tests/schema/golden \
	tests/schema/small.json \
	tests/schema/test-schemac.sh

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-marshal tests/unit/test-schema tests/schema/test-generated \
	tests/schema/test-qemu-shapes

tests_unit_test_marshal_SOURCES = tests/unit/test-marshal.c
tests_unit_test_marshal_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_marshal_LDADD = $(unit_libs)

tests_unit_test_schema_SOURCES = \
	qmp/schema-check.c qmp/schema-json.c qmp/schema.c tests/unit/test-schema.c
tests_unit_test_schema_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_schema_LDADD = $(unit_libs)

# Code made of a small schema that has one of everything.
small_headers = \
	tests/schema/gen/commands.h \
	tests/schema/gen/events.h \
	tests/schema/gen/introspect.h \
	tests/schema/gen/types.h
small_sources = \
	tests/schema/gen/commands.c \
	tests/schema/gen/events.c \
	tests/schema/gen/introspect.c \
	tests/schema/gen/types.c
small_manuals = tests/schema/gen/defaults.5 tests/schema/gen/partita-qmp.7
tests/schema/gen.stamp: tests/schema/small.json $(schemac_program)
	$(AM_V_GEN)$(MKDIR_P) tests/schema/gen && $(SCHEMAC) -C $(srcdir) -o tests/schema/gen \
		--include tests/schema/gen --date 'January 1, 2026' tests/schema/small.json && : > $@
$(small_headers) $(small_sources): tests/schema/gen.stamp
	@test -f $@ || rm -f tests/schema/gen.stamp
	@test -f $@ || $(MAKE) $(AM_MAKEFLAGS) tests/schema/gen.stamp
tests_schema_test_generated_SOURCES = tests/schema/test-generated.c
nodist_tests_schema_test_generated_SOURCES = $(small_headers) $(small_sources)
tests_schema_test_generated_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_schema_test_generated_LDADD = $(unit_libs)
$(tests_schema_test_generated_OBJECTS): $(small_headers)
CLEANFILES += $(small_headers) $(small_sources) $(small_manuals) tests/schema/gen.stamp

tests_schema_test_qemu_shapes_SOURCES = tests/schema/test-qemu-shapes.c
tests_schema_test_qemu_shapes_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_schema_test_qemu_shapes_LDADD = $(unit_libs)

TESTS += tests/unit/test-marshal tests/unit/test-schema tests/schema/test-generated \
	tests/schema/test-qemu-shapes
endif
