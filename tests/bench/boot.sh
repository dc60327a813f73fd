#!/bin/sh
# From the start of the process to the power-off of a stock Debian kernel whose /init does nothing
# else, beside QEMU's microvm with its own software CPU; in turns; medians. Both load the same file:
# the vmlinux inside the bzImage, by PVH, which is QEMU's fastest way (with the bzImage its guest
# has to unpack the kernel; ours never does), or the bzImage where lz4 is missing. The goal is on
# the ratio of user CPU time when it and wall time differ, for this machine may have other work.
# usage: boot.sh [ROUNDS]; BOOT_MEMORY (256) in MiB, BOOT_LIMIT (12): the ratio to reach
set -u
rounds=${1:-${BOOT_ROUNDS:-5}}
memory=${BOOT_MEMORY:-256}
limit=${BOOT_LIMIT:-12}
# shellcheck source=tests/bench/lib.sh
. "${srcdir:-.}/tests/bench/lib.sh"
bench_need "$qemu" qemu-system-x86
bench_guest

kernel=$cache/guest/vmlinuz
way=bzImage
if command -v lz4 >/dev/null; then
    # The setup header of the boot protocol: payload_offset, payload_length, setup_sects.
    # shellcheck disable=SC2046
    set -- $(od -An -tu4 -j $((0x248)) -N 8 "$kernel") $(od -An -tu1 -j $((0x1f1)) -N 1 "$kernel")
    tail -c +$((($3 + 1) * 512 + $1 + 1)) "$kernel" | head -c $(($2 - 4)) >"$dir/payload"
    if lz4 -qdf "$dir/payload" "$dir/vmlinux" 2>/dev/null; then
        kernel=$dir/vmlinux
        way="vmlinux by PVH"
    fi
fi
cmdline="console=ttyS0 panic=-1 partita.mode=off"
cat >"$dir/m.json" <<JSON
{ "name": "bench", "partition": { "backend": "soft" }, "memory": { "size": "${memory}M" },
  "boot": { "kernel": "$kernel", "initrd": "$cache/guest/initrd.img", "cmdline": "$cmdline" },
  "devices": [ { "id": "serial0", "type": "uart16550", "chardev": { "type": "stdio" } } ],
  "on-shutdown": "exit", "on-reset": "exit", "on-crash": "exit" }
JSON

run_ours() {
    timeout -s KILL 300 "$stopwatch" "$partita" run --quiet "$dir/m.json" </dev/null
}
# Without tsc_early_khz, microvm hangs now and then in "Unable to calibrate against PIT".
run_theirs() {
    timeout -s KILL 300 "$stopwatch" "$qemu" -accel tcg,thread=single -M microvm,acpi=on -cpu max \
        -m "$memory" -smp 1 -nodefaults -no-user-config -display none -no-reboot -kernel "$kernel" \
        -initrd "$cache/guest/initrd.img" -append "$cmdline tsc_early_khz=2600000" \
        -serial stdio </dev/null
}

round=0
while [ "$round" -lt "$rounds" ]; do
    run_ours >>"$dir/ours" 2>"$dir/log" || bench_fail "partita's guest did not power off" "$dir/log"
    run_theirs >>"$dir/theirs" 2>"$dir/log" || bench_fail "QEMU's guest did not power off" "$dir/log"
    round=$((round + 1))
done

echo "Debian kernel to power-off, $memory MiB, one processor, $way, median of $rounds:"
for what in "wall 2" "user 3"; do
    # shellcheck disable=SC2086
    set -- $what
    a=$(median "$dir/ours" "$2" 1e-6) b=$(median "$dir/theirs" "$2" 1e-6)
    r=$(ratio "$a" "$b")
    printf '  %-4s partita %7.2f s, QEMU %7.2f s, ratio %s\n' "$1" "$a" "$b" "$r"
    goal "boot of Debian, $1 time, partita to QEMU TCG" "$r" most "$limit"
done
exit $missed
