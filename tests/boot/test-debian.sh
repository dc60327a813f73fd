#!/bin/sh
# A stock Debian kernel in the machine, by each way into it. The guest's parts come from
# tests/lib/guest-files.sh, which ./run-tests calls: this test fetches nothing.
set -u
srcdir=${srcdir:-.}
cache=${PTA_CACHE:-${abs_srcdir:-$PWD}/.cache}
partita=${abs_builddir:-$PWD}/partita
# shellcheck source=tests/lib/tap.sh
. "$srcdir/tests/lib/tap.sh"
# shellcheck source=tests/lib/guest.sh
. "$srcdir/tests/lib/guest.sh"
limit=600 # generous: a build with sanitizers on a busy machine

for part in vmlinuz initrd.img; do
    [ -s "$cache/guest/$part" ] ||
        tap_skip_all "no $cache/guest/$part (tests/lib/guest-files.sh .cache makes it)"
done
PATH=$PATH:/sbin:/usr/sbin
for tool in mke2fs debugfs; do
    command -v $tool >/dev/null || tap_skip_all "no $tool (Debian: e2fsprogs)"
done

work=$(mktemp -d) || exit 1
pid=
cleanup() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

# describe NAME KERNEL MODE VPS: writes NAME.json and NAME.img.
describe() {
    mkdir -p "$work/files"
    echo "written outside for $1 by $$" >"$work/files/hello.txt"
    guest_disk "$work/$1.img" 16M "$work/files" 2>"$work/log" || return 1
    cat >"$work/$1.json" <<JSON
{ "name": "$1",
  "partition": { "vps": $4, "backend": "${PTA_TEST_BACKEND:-soft}", "cpu-model": "x86-64-v1", "hypervisor": "hyperv" },
  "memory":    { "size": "512M" },
  "boot":      { "kernel": "$2", "initrd": "$cache/guest/initrd.img",
                 "cmdline": "console=ttyS0 panic=-1 partita.mode=$3" },
  "devices": [
    { "id": "serial0", "type": "uart16550",  "chardev": { "type": "stdio" } },
    { "id": "disk0",   "type": "virtio-blk", "block": { "type": "file", "path": "$1.img" } },
    { "id": "rng0",    "type": "virtio-rng" } ],
  "on-shutdown": "exit", "on-reset": "exit", "on-crash": "exit" }
JSON
}

# run NAME: to its end; the console is in NAME.log.
run() {
    timeout -k 10 "$limit" "$partita" run "$work/$1.json" </dev/null >"$work/$1.log" 2>&1
}

# said NAME TEXT
said() {
    grep -qF -- "$2" "$work/$1.log"
}

# The check mode of guest-init.sh, from outside: the guest read our file, and wrote what we read now.
disk_went_both_ways() {
    said "$1" "guest: read written outside for $1 by $$" &&
        guest_disk_read "$work/$1.img" /from-guest.txt | grep -qxF "written outside for $1 by $$"
}

echo 1..6

describe bzimage "$cache/guest/vmlinuz" check 1 && run bzimage
tap_result $? "the bzImage boots and powers off by ACPI" "$work/bzimage.log"
disk_went_both_ways bzimage
tap_result $? "its virtio disk is read and written" "$work/bzimage.log"

grep -aqE 'guest: rng virtio_rng\.[0-9]+ [0-9a-f]{16}' "$work/bzimage.log" &&
    ! grep -aqE 'guest: rng .* 0{16}' "$work/bzimage.log"
tap_result $? "its virtio-rng gives random bytes" "$work/bzimage.log"

# The vmlinux in it has a PVH note. The payload is lz4 in Debian 12.
if command -v lz4 >/dev/null; then
    # shellcheck disable=SC2046
    set -- $(od -An -tu4 -j $((0x248)) -N 8 "$cache/guest/vmlinuz") \
        $(od -An -tu1 -j $((0x1f1)) -N 1 "$cache/guest/vmlinuz")
    tail -c +$((($3 + 1) * 512 + $1 + 1)) "$cache/guest/vmlinuz" | head -c $(($2 - 4)) >"$work/payload"
    if lz4 -qdf "$work/payload" "$work/vmlinux" 2>"$work/log"; then
        describe pvh "$work/vmlinux" off 1 && run pvh && said pvh "guest: up"
        tap_result $? "the vmlinux boots by PVH" "$work/pvh.log"
    else
        tap_skip "the vmlinux boots by PVH" "this kernel is not packed by lz4"
    fi
else
    tap_skip "the vmlinux boots by PVH" "no lz4 to unpack it"
fi

describe smp "$cache/guest/vmlinuz" off 2 && run smp && said smp "Brought up 1 node, 2 CPUs"
tap_result $? "two processors come up" "$work/smp.log"

describe button "$cache/guest/vmlinuz" idle 1
"$partita" run "$work/button.json" </dev/null >"$work/button.log" 2>&1 &
pid=$!
waited=0
until said button "guest: idle" || [ $waited -ge $limit ] || ! kill -0 $pid 2>/dev/null; do
    sleep 1
    waited=$((waited + 1))
done
kill -TERM $pid && wait $pid && said button "guest: power button"
tap_result $? "SIGTERM presses the power button, which the guest obeys" "$work/button.log"
pid=
