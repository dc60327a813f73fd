#!/bin/sh
# What a user is told where KVM cannot be used, and that nothing is left behind. Each case sees a /dev/kvm of its
# own, in a mount namespace.
set -u
srcdir=${srcdir:-.}
# shellcheck source=tests/lib/tap.sh
. "$srcdir/tests/lib/tap.sh"
partita=${abs_builddir:-$PWD}/partita
[ "$(id -u)" = 0 ] || tap_skip_all "needs root, for mount namespaces"
unshare -m true 2>/dev/null || tap_skip_all "no mount namespaces"
command -v setpriv >/dev/null || tap_skip_all "no setpriv (Debian: util-linux)"
grep -q "define PTA_HAVE_KVM 1" "${abs_builddir:-$PWD}/config.h" || tap_skip_all "no KVM back end in this build"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cp "$partita" "$work/partita"
printf '\177ELF' >"$work/kernel"
for backend in kvm auto; do
    cat >"$work/$backend.json" <<JSON
{ "name": "m", "partition": { "backend": "$backend" }, "memory": { "size": "64M" },
  "boot": { "kernel": "kernel" }, "devices": [], "monitor": [ { "type": "unix", "path": "$work/m.sock" } ] }
JSON
done

# A node for KVM's device, whether or not this host has the driver.
mknod "$work/node" c 10 232
chgrp daemon "$work/node"
chmod 660 "$work/node"
touch "$work/file"

# told NAME TEXT BACKEND SETUP [AS…]: what `partita run` says, in a namespace with SETUP done.
told() {
    name=$1 text=$2 backend=$3 setup=$4
    shift 4
    unshare -m sh -c "mount -t tmpfs none /mnt && cp -a /dev/null /dev/zero /dev/urandom /dev/random /mnt/ &&
        $setup
        mount --move /mnt /dev && exec timeout 60 \"\$@\"" sh "$@" "$work/partita" run "$work/$backend.json" \
        </dev/null >"$work/out" 2>&1
    status=$?
    # With `auto`, the kernel that is none ends it.
    expected=2
    [ "$backend" = auto ] && expected=1
    grep -qF -- "$text" "$work/out" && [ "$status" -eq $expected ] && ! [ -e "$work/m.sock" ]
    tap_result $? "$name (status $status)" "$work/out"
}

told "no device" "\$.partition.backend: kvm: there is no /dev/kvm: the CPU does not virtualise, or the module" kvm ":;"
told "a regular file in its place" "/dev/kvm is not KVM's device" kvm "cp '$work/file' /mnt/kvm;"
told "another device in its place" "/dev/kvm is not KVM's device" kvm "cp -a /dev/zero /mnt/kvm;"
told "no permission: whose it would be" \
    '/dev/kvm: permission denied: it is for the group "daemon", which this user is not in' kvm \
    "cp -a '$work/node' /mnt/kvm; chmod 755 /mnt;" setpriv --reuid 65534 --regid 65534 --clear-groups
told "no permission for anybody" "/dev/kvm: permission denied: it has mode 600 and belongs to root" kvm \
    "cp -a '$work/node' /mnt/kvm; chmod 600 /mnt/kvm; chmod 755 /mnt;" \
    setpriv --reuid 65534 --regid 65534 --clear-groups
# `auto` goes on with the software CPU, and says why in one line; the kernel of this test is none.
told "auto falls back" "back end soft (not kvm: there is no /dev/kvm" auto ":;"
told "auto falls back for want of permission" 'back end soft (not kvm: /dev/kvm: permission denied: it is for the group' \
    auto "cp -a '$work/node' /mnt/kvm; chmod 755 /mnt;" setpriv --reuid 65534 --regid 65534 --clear-groups
echo "1..$tap_n"
