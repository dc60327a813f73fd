#!/bin/sh
# The KVM back end, with small guests on this host's /dev/kvm, beside QEMU's microvm, kvmtool (KVMTOOL, or
# lkvm in PATH) and kvm-floor, which does nothing but the ioctls; in turns; medians:
#   - from the start of the process to the first byte on the serial port
#   - port and MMIO exits to user space a second
#   - memory of the VMM beyond the guest's: PSS
# The goal for exits is on CPU time, user and system: other work on this machine stretches wall time only.
# usage: kvm.sh [ROUNDS]
set -u
rounds=${1:-${KVM_ROUNDS:-25}}
exits=${KVM_EXITS:-100000}
# shellcheck source=tests/bench/lib.sh
. "${srcdir:-.}/tests/bench/lib.sh"
floor=$builddir/tests/bench/kvm-floor
kvmtool=${KVMTOOL:-$(command -v lkvm)}
[ -w /dev/kvm ] || bench_skip "no /dev/kvm that this user may use"
[ -x "$floor" ] || bench_skip "this build has no KVM back end"
bench_need "$qemu" qemu-system-x86

# Where a virtio-mmio device is: partita's first window, microvm's first transport.
bench_kernel "$dir/first" "$srcdir/tests/bench/first-byte.S"
KERNEL_CFLAGS="-DN=$exits" bench_kernel "$dir/port" "$srcdir/tests/bench/exits.S"
KERNEL_CFLAGS="-DN=$exits -DMMIO=0xd0000000" bench_kernel "$dir/mmio" "$srcdir/tests/bench/exits.S"
KERNEL_CFLAGS="-DN=$exits -DMMIO=0xfeb00000" bench_kernel "$dir/mmio-qemu" "$srcdir/tests/bench/exits.S"
KERNEL_CFLAGS="-DFLAT" bench_kernel "$dir/first-flat" "$srcdir/tests/bench/first-byte.S"
KERNEL_CFLAGS="-DFLAT -DN=$exits" bench_kernel "$dir/port-flat" "$srcdir/tests/bench/exits.S"
for guest in first port; do
    objcopy -O binary -j .text "$dir/$guest-flat" "$dir/$guest.bin" || bench_skip "no objcopy (Debian: binutils)"
done

# describe KERNEL: partita's description.
describe() {
    cat <<JSON
{ "name": "bench", "partition": { "backend": "kvm" }, "memory": { "size": "128M" },
  "boot": { "kernel": "$1" },
  "devices": [ { "id": "serial0", "type": "uart16550", "chardev": { "type": "stdio" } },
               { "id": "rng0", "type": "virtio-rng" }, { "id": "exit", "type": "debug-exit" } ] }
JSON
}
for guest in first port mmio; do describe $guest >"$dir/$guest.json"; done

# ours GUEST, theirs GUEST: the command line, run by what stands before it.
ours() {
    _guest=$1
    shift
    "$@" "$partita" run --quiet "$dir/$_guest.json" </dev/null 2>"$dir/log"
}
theirs() {
    _guest=$1
    shift
    "$@" "$qemu" -accel kvm -M microvm -cpu host -m 128 -smp 1 -nodefaults -no-user-config -display none \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -device virtio-rng-device -kernel "$dir/$_guest" \
        -serial stdio </dev/null 2>"$dir/log"
}
kvmtools() {
    _guest=$1
    shift
    "$@" "$kvmtool" run --kernel "$dir/$_guest.bin" --mem 128 --cpus 1 --console serial --network mode=none \
        </dev/null 2>"$dir/log"
}

# kvmtool asks the CPU for VMX or SVM itself, and does not run where /dev/kvm is there without.
if [ -z "$kvmtool" ]; then
    echo "kvm: no kvmtool (KVMTOOL=…, or lkvm in PATH): it is left out"
elif ! kvmtools first timeout -s KILL 20 "$stopwatch" -k >"$dir/try" || grep -q '^-1 ' "$dir/try"; then
    echo "kvm: kvmtool does not run here and is left out: $(sed -n 's/.*Error: //p' "$dir/log" | head -n 1)"
    kvmtool=
fi

# ---- start to first byte ----

round=0
while [ "$round" -lt "$rounds" ]; do
    ours first "$stopwatch" -k >>"$dir/start.ours" || bench_fail "no byte from partita's guest" "$dir/log"
    theirs first "$stopwatch" -k >>"$dir/start.theirs" || bench_fail "no byte from QEMU's guest" "$dir/log"
    "$stopwatch" -k "$floor" "$dir/first" >>"$dir/start.floor" || bench_fail "no byte from the floor's guest"
    "$stopwatch" "$partita" --version >>"$dir/start.none" || bench_fail "partita --version fails"
    if [ -n "$kvmtool" ]; then
        kvmtools first "$stopwatch" -k >>"$dir/start.kvmtool" || bench_fail "no byte from kvmtool's guest" "$dir/log"
    fi
    round=$((round + 1))
done
a=$(median "$dir/start.ours" 1 1e-3) b=$(median "$dir/start.theirs" 1 1e-3)
echo "start of the process to the first byte on the serial port, 128 MiB, median of $rounds:"
printf '  partita %.2f ms (of them %.2f to load and print the version), QEMU %.2f ms, floor %.2f ms' "$a" \
    "$(median "$dir/start.none" 1 1e-3)" "$b" "$(median "$dir/start.floor" 1 1e-3)"
if [ -n "$kvmtool" ]; then
    printf ', kvmtool %.2f ms' "$(median "$dir/start.kvmtool" 1 1e-3)"
fi
echo
goal "KVM: start to first byte, partita to QEMU microvm" "$(ratio "$a" "$b")" most 0.10

# ---- exits ----

# rate FILE, cost FILE: exits a second of the time between first byte and end, and of CPU time; medians.
rate() {
    awk -v n="$exits" '{ print n / ($2 - $1) * 1e6 }' "$1" >"$1.rate"
    median "$1.rate" 1
}
cost() {
    awk -v n="$exits" '{ print n / ($3 + $4) * 1e6 }' "$1" >"$1.cost"
    median "$1.cost" 1
}
for kind in port mmio; do
    others=theirs
    [ $kind = mmio ] || [ -z "$kvmtool" ] || others="theirs kvmtool"
    round=0
    while [ "$round" -lt 7 ]; do
        ours $kind "$stopwatch" >>"$dir/$kind.ours"
        "$stopwatch" "$floor" "$dir/$kind" >>"$dir/$kind.floor" || bench_fail "the floor fails"
        if [ $kind = mmio ]; then
            theirs mmio-qemu "$stopwatch" >>"$dir/$kind.theirs"
        else
            theirs $kind "$stopwatch" >>"$dir/$kind.theirs"
            [ -z "$kvmtool" ] || kvmtools $kind "$stopwatch" >>"$dir/$kind.kvmtool"
        fi
        round=$((round + 1))
    done
    echo "$kind exits a second (a second of CPU time), median of 7:"
    for who in ours $others floor; do
        printf '  %-8s %8.0f (%.0f)\n' "$(echo $who | sed 's/ours/partita/; s/theirs/QEMU/')" \
            "$(rate "$dir/$kind.$who")" "$(cost "$dir/$kind.$who")"
    done
    goal "KVM: $kind exits a second of CPU time, partita to the floor" \
        "$(ratio "$(cost "$dir/$kind.ours")" "$(cost "$dir/$kind.floor")")" least 0.9
done

# ---- memory ----

# pss PID: KiB, without mappings as large as the guest's RAM (128 MiB).
pss() {
    awk '/^[0-9a-f]+-[0-9a-f]+ /{ name = $6 } /^Size:/ { ram = $2 >= 131072 || name ~ /guest-ram/ }
        /^Pss:/ { if (!ram) s += $2 } END { print s / 1024 }' "/proc/$1/smaps"
}
# weigh NAME COMMAND…: runs it until its guest has written its byte.
weigh() {
    _name=$1
    shift
    "$@" >"$dir/$_name.out" &
    child=$!
    _waited=0
    until [ -s "$dir/$_name.out" ]; do
        [ $_waited -lt 100 ] || bench_fail "$_name: no byte" "$dir/log"
        sleep 0.1
        _waited=$((_waited + 1))
    done
    sleep 0.5
    pss "$(pgrep -P $child || echo $child)" >"$dir/$_name.pss"
    pkill -KILL -P $child 2>/dev/null
    kill -KILL $child 2>/dev/null
    wait $child 2>/dev/null
    child=
}
weigh ours ours first
weigh theirs theirs first
[ -z "$kvmtool" ] || weigh kvmtool kvmtools first
printf 'memory of the VMM beyond the guest'"'"'s RAM, PSS: partita %.2f MiB, QEMU %.2f MiB' "$(cat "$dir/ours.pss")" \
    "$(cat "$dir/theirs.pss")"
[ -z "$kvmtool" ] || printf ', kvmtool %.2f MiB' "$(cat "$dir/kvmtool.pss")"
echo
goal "KVM: memory of the VMM, MiB" "$(cat "$dir/ours.pss")" most 5
exit $missed
