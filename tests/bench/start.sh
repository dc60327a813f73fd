#!/bin/sh
# From the start of the process to the first byte on the serial port, for a guest that does nothing
# else, beside QEMU's microvm with the same guest and a software CPU as well; in turns; medians.
# What comes between a process and its main() is not ours: it is measured with `partita --version`.
# usage: start.sh [ROUNDS]
set -u
rounds=${1:-${START_ROUNDS:-25}}
# shellcheck source=tests/bench/lib.sh
. "${srcdir:-.}/tests/bench/lib.sh"
bench_need "$qemu" qemu-system-x86
bench_kernel "$dir/guest" "$srcdir/tests/bench/first-byte.S"
cat >"$dir/m.json" <<'JSON'
{ "name": "bench", "partition": { "backend": "soft" }, "memory": { "size": "128M" },
  "boot": { "kernel": "guest" },
  "devices": [ { "id": "serial0", "type": "uart16550", "chardev": { "type": "stdio" } } ] }
JSON

round=0
while [ "$round" -lt "$rounds" ]; do
    "$stopwatch" -k "$partita" run --quiet "$dir/m.json" </dev/null >>"$dir/ours" 2>"$dir/log" ||
        bench_fail "no byte from partita's guest" "$dir/log"
    "$stopwatch" -k "$qemu" -accel tcg -M microvm -cpu max -m 128 -smp 1 -nodefaults -no-user-config \
        -display none -kernel "$dir/guest" -serial stdio </dev/null >>"$dir/theirs" 2>"$dir/log" ||
        bench_fail "no byte from QEMU's guest" "$dir/log"
    "$stopwatch" "$partita" --version >>"$dir/none" || bench_fail "partita --version fails"
    round=$((round + 1))
done

# Wall time to the first byte; user and system CPU time together.
for who in ours theirs none; do
    awk '{ print $1, $3 + $4 }' "$dir/$who" >"$dir/$who.two"
done
echo "start of the process to the first byte on the serial port, 128 MiB, median of $rounds:"
for what in "wall 1" "CPU 2"; do
    # shellcheck disable=SC2086
    set -- $what
    a=$(median "$dir/ours.two" "$2" 1e-3) b=$(median "$dir/theirs.two" "$2" 1e-3)
    n=$(median "$dir/none.two" "$2" 1e-3)
    r=$(ratio "$a" "$b")
    printf '  %-4s partita %7.2f ms (of them %.2f to load and print the version), QEMU %7.2f ms, ratio %s\n' \
        "$1" "$a" "$n" "$b" "$r"
    [ "$1" = CPU ] || goal "start to first byte, partita to QEMU microvm" "$r" most 0.10
done
exit $missed
