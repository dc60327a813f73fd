#!/bin/sh
# Makes what the tests with a Linux guest need, in CACHE/guest: vmlinuz, busybox, initrd.img (with
# tests/lib/guest-init.sh), initrd-watchdog.img, which has the drivers of watchdog and panic device as
# well, initrd-net.img, with the network card's, and initrd-smp.img, with stress-ng and smp-threads;
# kvm-modules, KVM for the first level of tests/kvm.
# Usage: guest-files.sh CACHE
set -u
if [ $# -ne 1 ]; then
    echo "usage: guest-files.sh CACHE" >&2
    exit 2
fi
here=$(dirname "$0")
# shellcheck source=tests/lib/guest.sh
. "$here/guest.sh"
guest_fetch "$1" || exit 1
# shellcheck disable=SC2086
guest_initramfs "$1" "$here/guest-init.sh" "$1/guest/initrd.img" $PTA_GUEST_MODULES || exit 1
# shellcheck disable=SC2086
guest_initramfs "$1" "$here/guest-init.sh" "$1/guest/initrd-watchdog.img" $PTA_GUEST_MODULES wdat_wdt \
    pvpanic-mmio || exit 1
guest_modules "$1" "$1/guest/kvm-modules" kvm-amd || exit 1

# make_net CACHE: the guest of tests/guests/net.py.
make_net() {
    _net=$1/guest/net
    rm -rf "$_net" && mkdir -p "$_net/etc/udhcpc" || return 1
    cp "$here/guest-udhcpc.sh" "$_net/etc/udhcpc/default.script" || return 1
    # shellcheck disable=SC2086
    GUEST_EXTRA=$_net guest_initramfs "$1" "$here/guest-init.sh" "$1/guest/initrd-net.img" \
        $PTA_GUEST_MODULES virtio_net af_packet || return 1
    rm -rf "$_net"
}
make_net "$1" || exit 1

# make_smp CACHE: the guest of tests/guests/smp.py; nothing else needs it.
make_smp() {
    _smp=$1/guest/smp
    mkdir -p "$_smp" || return 1
    [ -d "$_smp/stress-ng/root" ] || guest_unpack_program stress-ng "$_smp/stress-ng" || return 1
    rm -rf "$_smp/tree" && mkdir -p "$_smp/tree/bin" || return 1
    guest_add_program "$_smp/stress-ng/root" usr/bin/stress-ng "$_smp/tree" &&
        ${CC:-cc} -O2 -static -pthread -o "$_smp/tree/bin/smp-threads" \
            "$here/../guests/threads.c" || return 1
    # shellcheck disable=SC2086
    GUEST_EXTRA=$_smp/tree guest_initramfs "$1" "$here/guest-init.sh" "$1/guest/initrd-smp.img" \
        $PTA_GUEST_MODULES
}
make_smp "$1"
