#!/bin/sh
# What `partita check` and `partita run` say to descriptions that are wrong: description.py.
set -u
srcdir=${srcdir:-.}
builddir=${builddir:-.}
if ! command -v python3 >/dev/null; then
    echo "1..0 # SKIP no python3"
    exit 0
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
if ! ${CC:-cc} -m32 -nostdlib -static -Wl,-Ttext-segment=0x100000 -Wl,--build-id=none \
    -Wl,-z,noseparate-code -Wl,-z,noexecstack -o "$work/kernel" "$srcdir/tests/monitor/guest.S" \
    2>"$work/log"; then
    echo "1..0 # SKIP ${CC:-cc} cannot make a 32-bit x86 guest: $(head -n 1 "$work/log")"
    exit 0
fi
python3 "$srcdir/tests/monitor/description.py" "$builddir/partita" "$work/kernel"
