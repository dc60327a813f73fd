#!/bin/sh
# The loops of cpu-loops.S as a process of the host, as a guest of the software CPU, and as a guest of
# QEMU's (TCG): millions of instructions a second (MiB/s for rep movsb) of CPU time that the program
# used for them, and the ratios. The three run one after the other, ROUNDS times; medians.
# usage: cpu.sh [ROUNDS]
set -u
rounds=${1:-${CPU_ROUNDS:-3}}
# shellcheck source=tests/bench/lib.sh
. "${srcdir:-.}/tests/bench/lib.sh"
case $(uname -m) in
x86_64) ;;
*) bench_skip "the loops are for an x86-64 host" ;;
esac
bench_need "$qemu" qemu-system-x86
sources="$srcdir/tests/bench/cpu-guest.c $srcdir/tests/bench/cpu-loops.S"
# shellcheck disable=SC2086
BITS=64 KERNEL_CFLAGS=-mgeneral-regs-only bench_kernel "$dir/guest" \
    "$srcdir/tests/bench/cpu-entry.S" $sources
# shellcheck disable=SC2086
${CC:-cc} -O2 -I"$srcdir" -o "$dir/native" $sources || bench_fail "cannot build the loops"
cat >"$dir/m.json" <<'JSON'
{ "name": "bench", "partition": { "backend": "soft" }, "memory": { "size": "128M" },
  "boot": { "kernel": "guest" },
  "devices": [ { "id": "serial0", "type": "uart16550", "chardev": { "type": "stdio" } } ],
  "on-shutdown": "exit", "on-reset": "exit", "on-crash": "exit" }
JSON

# shellcheck disable=SC2317 # called by name, below
run_native() {
    timeout -s KILL 300 "$stopwatch" -l "$dir/native"
}
# shellcheck disable=SC2317
run_soft() {
    timeout -s KILL 300 "$stopwatch" -l "$partita" run --quiet "$dir/m.json"
}
# shellcheck disable=SC2317
run_qemu() {
    timeout -s KILL 300 "$stopwatch" -l "$qemu" -accel tcg,thread=single -M microvm -cpu max \
        -m 128 -smp 1 -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$dir/guest" -serial stdio
}

# The guests end by a triple fault, so their exit status says nothing; "done" does.
round=0
while [ "$round" -lt "$rounds" ]; do
    for who in native soft qemu; do
        run_$who </dev/null >"$dir/out" 2>"$dir/log"
        grep -q ' done$' "$dir/out" || bench_fail "no end of $who" "$dir/log"
        # The first run of a loop has as many iterations, so the same checksum, everywhere.
        awk -F '|' '/ end\|/ && !seen[$2]++ { print $2, $3, $7 }' "$dir/out" >"$dir/sums-$who"
        cmp -s "$dir/sums-native" "$dir/sums-$who" ||
            bench_fail "$who computes other results" "$dir/sums-$who"
        # The last run of a loop is the one that was long enough.
        awk -F '|' -v who=$who '
            / begin$/ { split($0, a, " "); begin = a[1] + 0 }
            / end\|/ { split($0, a, " "); us = a[1] - begin
                value[$2] = $4 ? $3 * $4 / us : $3 * $5 / us * 1e6 / 1048576 }
            END { for (name in value) print name "|" who "|" value[name] }' \
            "$dir/out" >>"$dir/results"
    done
    round=$((round + 1))
done

echo "loops, millions of instructions (rep movsb: MiB) a second of CPU time, median of $rounds:"
# In the order of the table; the medians of each loop and program.
awk -F '|' '/ end\|/ && !seen[$2]++ { print $2 }' "$dir/out" >"$dir/names"
sort -t '|' -k1,1 -k2,2 -k3,3n "$dir/results" | awk -F '|' '
    function middle(k,   c) { c = count[k]; return (v[k, int((c + 1) / 2)] + v[k, int(c / 2) + 1]) / 2 }
    FILENAME == "-" { k = $1 "|" $2; v[k, ++count[k]] = $3; next }
    { n = middle($1 "|native"); s = middle($1 "|soft"); q = middle($1 "|qemu")
      if (!head++) printf "  %-24s %10s %10s %10s %14s %12s\n", "", "native", "partita", "QEMU", "partita/native", "partita/QEMU"
      printf "  %-24s %10.0f %10.1f %10.1f %14.4f %12.3f\n", $1, n, s, q, s / n, s / q
      log_sum += log(s / q); loops++ }
    END { printf "  %-24s %45s %14.3f\n", "geometric mean", "", exp(log_sum / loops) }' - "$dir/names"

# String instructions are to go a page at a time, near memcpy.
a=$(grep '^rep movsb|soft|' "$dir/results" | tr '|' ' ' >"$dir/a" && median "$dir/a" 4)
b=$(grep '^rep movsb|native|' "$dir/results" | tr '|' ' ' >"$dir/b" && median "$dir/b" 4)
goal "rep movsb, partita to native" "$(ratio "$a" "$b")" least 0.5
exit $missed
