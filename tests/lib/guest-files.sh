#!/bin/sh
# Makes what the tests with a Linux guest need, in CACHE/guest: vmlinuz, busybox, initrd.img (with
# tests/lib/guest-init.sh), and initrd-watchdog.img, which has the watchdog's driver as well.
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
guest_initramfs "$1" "$here/guest-init.sh" "$1/guest/initrd.img" $PTA_GUEST_MODULES &&
    guest_initramfs "$1" "$here/guest-init.sh" "$1/guest/initrd-watchdog.img" $PTA_GUEST_MODULES wdat_wdt
