#!/bin/sh
# Dependencies point one way: who may not include whose headers.
cd "${abs_srcdir:-.}" || exit 1
n=0
rule() {
    n=$((n + 1))
    found=$(grep -rnE "#include \"($2)" "$1" --include='*.c' --include='*.h' || true)
    if [ -z "$found" ]; then
        echo "ok $n - $1 does not include $2"
    else
        echo "$found" | sed 's/^/# /'
        echo "not ok $n - $1 includes $2"
    fi
}
echo 1..9
rule devices 'src/(kvm|soft|machine|partition|boot|libvirt)/|qmp/[a-z-]+\.h'
rule src/soft 'devices/|src/(kvm|machine|boot|memory)/|qmp/'
rule src/kvm 'devices/|src/(soft|machine|boot|memory|synic)/|qmp/'
rule src/partition 'devices/|src/(kvm|soft|machine|boot)/|qmp/'
rule src/memory 'devices/|src/(kvm|soft|machine|boot|partition)/|qmp/'
rule src/boot 'src/(kvm|soft|machine|synic)/|qmp/'
rule src/synic 'devices/|src/(kvm|soft|machine|boot)/|qmp/'
rule src/machine 'src/(kvm|soft)/|qmp/[a-z-]+\.h'
rule src/util 'devices/|src/(kvm|soft|machine|partition|memory|boot|synic|state)/|qmp/'
