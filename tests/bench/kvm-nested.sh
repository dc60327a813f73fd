#!/bin/sh
# Debian's kernel to its init, on real KVM in QEMU's emulated machine (tests/kvm/nested.py), beside QEMU's microvm and
# kvmtool (KVMTOOL, or lkvm in PATH) in the same place, the same kernel and initramfs; in turns; medians.
# usage: kvm-nested.sh [ROUNDS]
set -u
rounds=${1:-${KVM_NESTED_ROUNDS:-3}}
# shellcheck source=tests/bench/lib.sh
. "${srcdir:-.}/tests/bench/lib.sh"
bench_need "$qemu" qemu-system-x86
bench_need python3 python3
[ -x "$builddir/tests/bench/kvm-floor" ] || bench_skip "this build has no KVM back end"
bench_guest
python3 "$srcdir/tests/bench/kvm-nested.py" "$rounds" >"$dir/all" || bench_fail "no boots" "$dir/all"
if grep -q '^1..0' "$dir/all"; then
    bench_skip "$(sed -n 's/.*# SKIP //p' "$dir/all")"
fi
echo "nested KVM, from the start of the process to the end of a Debian kernel that resets from /init;"
echo "128 MiB, one processor; medians:"
for who in partita QEMU kvmtool; do
    sed -n "s/^\(# boot: \)*$who \([0-9]*\)\$/\2/p" "$dir/all" >"$dir/$who"
    [ -s "$dir/$who" ] || continue
    printf '  %-8s %6.3f s (%d boots)\n' $who "$(median "$dir/$who" 1 1e-6)" "$(wc -l <"$dir/$who")"
done
grep '^# boot: #' "$dir/all"
[ -s "$dir/partita" ] || bench_fail "partita's guest does not boot" "$dir/all"
[ -s "$dir/QEMU" ] || bench_skip "QEMU's guest does not boot here"
goal "KVM: boot of Debian, nested, partita to QEMU microvm" \
    "$(ratio "$(median "$dir/partita" 1)" "$(median "$dir/QEMU" 1)")" most 0.8
exit $missed
