# Benchmarks: `make bench` runs them and prints one table of the goals. No part of check.
EXTRA_PROGRAMS += tests/bench/stopwatch
tests_bench_stopwatch_SOURCES = tests/bench/stopwatch.c
EXTRA_PROGRAMS += tests/bench/memory-access
tests_bench_memory_access_SOURCES = tests/bench/memory-access.c
tests_bench_memory_access_LDADD = $(PARTITA_LIBS)
BENCHES += tests/bench/memory-access.sh
EXTRA_DIST += tests/bench/memory-access.sh
BENCHES += tests/bench/boot.sh tests/bench/start.sh tests/bench/memory.sh tests/bench/cpu.sh
EXTRA_DIST += tests/bench/boot.sh tests/bench/start.sh tests/bench/memory.sh tests/bench/cpu.sh \
	tests/bench/lib.sh tests/bench/run.sh tests/bench/first-byte.S tests/bench/cpu-entry.S \
	tests/bench/cpu-guest.c docs/bench.md
if HAVE_KVM
EXTRA_PROGRAMS += tests/bench/kvm-floor
tests_bench_kvm_floor_SOURCES = tests/bench/kvm-floor.c
endif
BENCHES += tests/bench/kvm.sh tests/bench/kvm-nested.sh
EXTRA_DIST += tests/bench/kvm.sh tests/bench/kvm-nested.sh tests/bench/kvm-nested.py tests/bench/exits.S
