#!/bin/sh
# The ACPI tables in the eyes of iasl: it disassembles each and, for the DSDT, compiles the result
# again without an error or a warning into the same machine language. The device tree in those of dtc.
set -u
builddir=${builddir:-.} srcdir=${srcdir:-.}
# shellcheck source=tests/lib/tap.sh
. "$srcdir/tests/lib/tap.sh"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
echo 1..10

"$builddir/tests/boot/dump-tables" "$work" >"$work/log" 2>&1
tap_result $? "tables are written" "$work/log"

if command -v iasl >/dev/null; then
    for table in facp apic xsdt wdat; do
        iasl -p "$work/$table" -d "$work/$table.aml" >"$work/log" 2>&1
        status=$?
        # In a data table iasl reports what it does not understand inside the listing.
        if grep -qiE 'invalid|incorrect|unknown' "$work/$table.dsl" "$work/log"; then status=1; fi
        tap_result $status "iasl understands $table" "$work/log"
    done
    # What it compiles from its own reading of the watchdog's table is that table again.
    if iasl -p "$work/wdat-again" -tc "$work/wdat.dsl" >"$work/log" 2>&1 &&
        ! grep -qE '[1-9][0-9]* (Errors|Warnings)' "$work/log" &&
        tail -c +37 "$work/wdat.aml" >"$work/a" && tail -c +37 "$work/wdat-again.aml" >"$work/b" &&
        cmp "$work/a" "$work/b" >>"$work/log" 2>&1; then
        tap_result 0 "iasl compiles wdat to the same bytes"
    else
        tap_result 1 "iasl compiles wdat to the same bytes" "$work/log"
    fi
    # iasl refuses the id "VMBus", which Hyper-V and Linux have, when it compiles: only disassembled.
    for table in vmbus-dsdt dsdt; do
        iasl -p "$work/$table" -d "$work/$table.aml" >"$work/log" 2>&1 && [ -s "$work/$table.dsl" ] &&
            ! grep -qiE 'error|warning|invalid' "$work/log"
        tap_result $? "iasl disassembles $table" "$work/log"
    done
    if iasl -p "$work/again" -tc "$work/dsdt.dsl" >"$work/log" 2>&1 &&
        grep -qE '0 Errors, 0 Warnings' "$work/log" &&
        # The length, checksum and compiler's name in the header may differ; nothing else does.
        tail -c +37 "$work/dsdt.aml" >"$work/a" && tail -c +37 "$work/again.aml" >"$work/b" &&
        cmp "$work/a" "$work/b" >>"$work/log" 2>&1; then
        tap_result 0 "iasl compiles it to the same bytes without a warning"
    else
        tap_result 1 "iasl compiles it to the same bytes without a warning" "$work/log"
    fi
else
    for what in facp apic xsdt wdat "the same WDAT" vmbus-dsdt dsdt "the same DSDT"; do tap_skip "iasl understands $what" "no iasl"; done
fi

if command -v dtc >/dev/null; then
    dtc -I dtb -O dts -o "$work/machine.dts" "$work/machine.dtb" >"$work/log" 2>&1 &&
        [ ! -s "$work/log" ]
    tap_result $? "dtc has no warning for the device tree" "$work/log"
else
    tap_skip "dtc has no warning for the device tree" "no dtc"
fi
