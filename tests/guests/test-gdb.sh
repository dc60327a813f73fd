#!/bin/sh
# The real gdb on a small guest that is built here, and on an unmodified Debian kernel.
#   test-gdb.sh --keep FOLDER    builds the guest and leaves it there, for tests/kvm
set -u
srcdir=${srcdir:-.}
guests=$srcdir/tests/guests
CC=${CC:-cc}
# shellcheck source=tests/lib/tap.sh
. "$srcdir/tests/lib/tap.sh"

for program in python3 gdb objcopy; do
    command -v $program >/dev/null || tap_skip_all "$program is not installed"
done
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

flags="-std=gnu11 -m64 -mno-red-zone -Wall -Wextra -ffreestanding -fno-stack-protector -fno-builtin
    -fno-asynchronous-unwind-tables -mno-mmx -mno-sse -fcf-protection=none -c"
# gdb.elf, to run, and gdb.elf64, with symbols.
# shellcheck disable=SC2086
build() {
    $CC $flags -fpie -O1 -g0 "$guests/start64.S" -o "$work/start.o" &&
        $CC $flags -fpie -O1 -g0 "$guests/runtime.c" -o "$work/runtime.o" &&
        $CC $flags -fpie -O1 -g0 "$guests/runtime64.c" -o "$work/runtime64.o" &&
        $CC $flags -fno-pie -O0 -g "$guests/gdb-start.S" -o "$work/gdb-start.o" &&
        $CC $flags -fno-pie -O0 -g "$guests/gdb-guest.c" -o "$work/gdb-guest.o" &&
        $CC -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack \
            -Wl,-z,max-page-size=4096 -Wl,-T,"$guests/link.ld" "$work"/*.o -o "$work/gdb.elf64" &&
        objcopy -O elf32-i386 "$work/gdb.elf64" "$work/gdb.elf"
}
build >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    tap_skip_all "$CC does not build an x86 guest"
}
[ "${1:-}" = --keep ] && exec cp "$work/gdb.elf" "$work/gdb.elf64" "$2"
PYTHONDONTWRITEBYTECODE=1 python3 "$guests/gdb.py" "$work" "$@"
