#!/bin/sh
# Round trips of query-status a second beside QEMU's, with 1 and with 16 clients, in turns; the medians
# and their ratio. QEMU serves one client a monitor, so it gets 16 monitors. Both machines stand still.
# usage: qmp.sh [SECONDS [ROUNDS]]
set -eu

seconds=${1:-2}
rounds=${2:-5}
builddir=${builddir:-.}
clients=16
bench=$builddir/tests/bench/qmp
partita=$builddir/partita
qemu=${QEMU:-qemu-system-x86_64}

if ! command -v "$qemu" >/dev/null; then
    echo "qmp: SKIP: no $qemu (Debian: qemu-system-x86)"
    exit 0
fi

dir=$(mktemp -d)
ours=
theirs=
# shellcheck disable=SC2317 # called by the trap
cleanup() {
    [ -z "$ours" ] || kill "$ours" 2>/dev/null || :
    [ -z "$theirs" ] || kill "$theirs" 2>/dev/null || :
    wait
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# A kernel that is never run: a 64-bit ELF that loads nothing but itself.
cat >"$dir/k.S" <<'EOF'
.section .note.pvh, "a", @note
.long 4, 4, 18
.asciz "Xen"
.long 0x100000
.text
.globl _start
_start: hlt
EOF
if ! ${CC:-cc} -m32 -nostdlib -static -Wl,-Ttext-segment=0x100000 -Wl,--build-id=none \
    -Wl,-z,noseparate-code -Wl,-z,noexecstack -o "$dir/k" "$dir/k.S" 2>"$dir/cc.log"; then
    echo "qmp: SKIP: ${CC:-cc} cannot link a 32-bit kernel: $(head -n 1 "$dir/cc.log")"
    exit 0
fi
cat >"$dir/m.json" <<'EOF'
{ "name": "bench", "partition": { "backend": "soft" }, "memory": { "size": "16M" },
  "boot": { "kernel": "k" }, "monitor": [ { "type": "unix", "path": "ours" } ] }
EOF

"$partita" run --quiet --paused "$dir/m.json" &
ours=$!
args=
i=0
while [ $i -lt $clients ]; do
    args="$args -qmp unix:$dir/theirs$i,server=on,wait=off"
    i=$((i + 1))
done
# shellcheck disable=SC2086
"$qemu" -M none -S -display none $args 2>/dev/null &
theirs=$!

tries=0
until [ -S "$dir/ours" ] && [ -S "$dir/theirs$((clients - 1))" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then
        echo "qmp: a monitor does not appear" >&2
        exit 1
    fi
    sleep 0.1
done

median() {
    sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

round=0
while [ $round -lt "$rounds" ]; do
    "$bench" "$seconds" 1 "$dir/ours" >>"$dir/result-ours-1"
    "$bench" "$seconds" 1 "$dir/theirs0" >>"$dir/result-theirs-1"
    "$bench" "$seconds" $clients "$dir/ours" >>"$dir/result-ours-n"
    # shellcheck disable=SC2046
    "$bench" "$seconds" $clients $(i=0; while [ $i -lt $clients ]; do echo "$dir/theirs$i"; i=$((i + 1)); done) \
        >>"$dir/result-theirs-n"
    round=$((round + 1))
done

report() {
    a=$(median "$dir/result-ours-$2")
    b=$(median "$dir/result-theirs-$2")
    awk -v n="$1" -v a="$a" -v b="$b" 'BEGIN {
        printf "query-status, %2d clients: partita %6d/s, QEMU %6d/s, ratio %.1f\n", n, a, b, a / b
        printf "goal: query-status a second, %d clients, partita to QEMU %.2f (at least 3): %s\n",
            n, a / b, (a >= 3 * b ? "met" : "MISSED")
        exit !(a >= 3 * b) }' || missed=1
}
missed=0
report 1 1
report $clients n
exit $missed
