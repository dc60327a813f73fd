#!/bin/sh
# The machine moves between the back ends and back, with a tiny guest that looks at its clocks, its timer,
# its CPU and its hypercalls all the while. On what KVM there is; a guest that is a Debian system moves in
# tests/kvm/test-nested-move.sh.
#   test-move.sh --built FOLDER     takes the guest from there
set -u
srcdir=${srcdir:-.}
move=${abs_builddir:-$PWD}/tests/kvm/move
# shellcheck source=tests/lib/tap.sh
. "$srcdir/tests/lib/tap.sh"

[ -c /dev/kvm ] || tap_skip_all "no /dev/kvm"
[ -r /dev/kvm ] && [ -w /dev/kvm ] || tap_skip_all "/dev/kvm is not for this user"
command -v objcopy >/dev/null || [ "${1:-}" = --built ] || tap_skip_all "no objcopy (Debian: binutils)"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
if [ "${1:-}" = --built ]; then
    cp "$2/move.elf" "$work/"
else
    sh "$srcdir/tests/guests/test-guests.sh" --keep "$work" >"$work/log" 2>&1 ||
        tap_skip_all "the guest cannot be built here"
fi

cat >"$work/move.json" <<JSON
{ "name": "move",
  "partition": { "vps": 1, "backend": "auto", "cpu-model": "x86-64-v1", "hypervisor": "hyperv" },
  "memory": { "size": "16M" },
  "boot": { "kernel": "move.elf" },
  "devices": [ { "id": "com1", "type": "uart16550",
                 "chardev": { "type": "file", "path": "console", "append": true } } ] }
JSON
timeout -k 5 400 "$move" "$work/move.json" soft kvm soft kvm 2>"$work/err"
status=$?
sed 's/^/# /' "$work/err"
[ "$status" -eq 0 ] || tail -n 5 "$work/console" | sed 's/^/# /'
exit "$status"
