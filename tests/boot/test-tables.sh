#!/bin/sh
# The ACPI tables in the eyes of iasl: it disassembles each and, for the DSDT, compiles the result
# again without an error or a warning into the same machine language. The device tree in those of dtc.
set -u
builddir=${builddir:-.}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
echo 1..8

n=0
result() { # STATUS NAME [LOG]: one TAP line; on failure the log as comments
    n=$((n + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        if [ $# -gt 2 ]; then sed 's/^/# /' "$3"; fi
    fi
}
skip() {
    n=$((n + 1))
    echo "ok $n - $1 # SKIP $2"
}

"$builddir/tests/boot/dump-tables" "$work" >"$work/log" 2>&1
result $? "tables are written" "$work/log"

if command -v iasl >/dev/null; then
    for table in facp apic xsdt; do
        iasl -p "$work/$table" -d "$work/$table.aml" >"$work/log" 2>&1
        status=$?
        # In a data table iasl reports what it does not understand inside the listing.
        if grep -qiE 'invalid|incorrect|unknown' "$work/$table.dsl" "$work/log"; then status=1; fi
        result $status "iasl understands $table" "$work/log"
    done
    # iasl refuses the id "VMBus", which Hyper-V and Linux have, when it compiles: only disassembled.
    for table in vmbus-dsdt dsdt; do
        iasl -p "$work/$table" -d "$work/$table.aml" >"$work/log" 2>&1 && [ -s "$work/$table.dsl" ] &&
            ! grep -qiE 'error|warning|invalid' "$work/log"
        result $? "iasl disassembles $table" "$work/log"
    done
    if iasl -p "$work/again" -tc "$work/dsdt.dsl" >"$work/log" 2>&1 &&
        grep -qE '0 Errors, 0 Warnings' "$work/log" &&
        # The length, checksum and compiler's name in the header may differ; nothing else does.
        tail -c +37 "$work/dsdt.aml" >"$work/a" && tail -c +37 "$work/again.aml" >"$work/b" &&
        cmp "$work/a" "$work/b" >>"$work/log" 2>&1; then
        result 0 "iasl compiles it to the same bytes without a warning"
    else
        result 1 "iasl compiles it to the same bytes without a warning" "$work/log"
    fi
else
    for what in facp apic xsdt vmbus-dsdt dsdt "the same DSDT"; do skip "iasl understands $what" "no iasl"; done
fi

if command -v dtc >/dev/null; then
    dtc -I dtb -O dts -o "$work/machine.dts" "$work/machine.dtb" >"$work/log" 2>&1 &&
        [ ! -s "$work/log" ]
    result $? "dtc has no warning for the device tree" "$work/log"
else
    skip "dtc has no warning for the device tree" "no dtc"
fi
