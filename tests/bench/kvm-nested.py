"""Prints "NAME END", microseconds from the start of the process to its end, for each boot of Debian's kernel in
the second level of nested KVM: see kvm-nested.sh.
usage: kvm-nested.py ROUNDS"""

import json
import os
import sys
import tempfile

SRC = os.path.abspath(os.environ.get("abs_srcdir") or os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(SRC, "tests/kvm"))
from nested import BUILD, GUEST, IN_BUILD, FirstLevel, Result, Tree, prerequisites, which  # noqa: E402

# Ends by a reset, which all of the VMMs take for their end.
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/console
echo guest: up
/bin/busybox reboot -f
"""
CMDLINE = "console=ttyS0 quiet panic=-1"
MACHINE = {
    "name": "bench", "partition": {"backend": "kvm"}, "memory": {"size": "128M"},
    "boot": {"kernel": "/bench/vmlinuz", "initrd": "/bench/initrd", "cmdline": CMDLINE},
    "devices": [{"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}}],
    "on-shutdown": "exit", "on-reset": "exit", "on-crash": "exit"}
FIRMWARE = ("/usr/share/seabios/bios-microvm.bin", "/usr/share/qemu/bios-microvm.bin", "/usr/share/qemu/linuxboot_dma.bin",
            "/usr/share/qemu/pvh.bin", "/usr/share/qemu/kvmvapic.bin")
# The microvm without PIT and PIC takes its clock from the Hyper-V interface, as partita's guest does.
RUN = """#!/bin/sh
# run NAME COMMAND...: once more, and once more again, if it fails: QEMU's microvm does now and then in the emulated CPU,
# where the kernel jumps to what it has unpacked.
run() {
    name=$1
    shift
    try "$@" || try "$@" || try "$@"
}
try() {
    line=$(timeout -s KILL 40 /bench/stopwatch "$@" </dev/null 2>/tmp/log) # a reset has a status of its own
    case $line in
    ""|-1*) echo "# $name: $(head -c 60 /tmp/log | head -n 1)" && return 1 ;;
    *) echo "$name $line" | cut -d ' ' -f 1,3 ;;
    esac
}
round=0
while [ $round -lt %d ]; do
    run partita %s/partita run --quiet /bench/machine.json
    run QEMU %s -accel kvm -M microvm,acpi=on,pit=off,pic=off,rtc=off -cpu host,hv_passthrough -m 128 -smp 1 -nodefaults \\
        -no-user-config -display none -no-reboot -kernel /bench/vmlinuz -initrd /bench/initrd -append "%s" -serial stdio
    [ ! -x /bench/kvmtool ] || run kvmtool /bench/kvmtool run --kernel /bench/vmlinuz --initrd /bench/initrd --mem 128 \\
        --cpus 1 --console serial --network mode=none --params "%s reboot=k"
    round=$((round + 1))
done
"""


def initrd():
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree()
        tree.file("/bin/busybox", os.path.join(GUEST, "busybox"))
        tree.data("/init", INIT.encode(), 0o755)
        tree.folder("/dev")
        tree.write(folder + "/initrd")
        with open(folder + "/initrd", "rb") as file:
            return file.read()


def main():
    prerequisites()
    level = FirstLevel()
    qemu = which("qemu-system-x86_64")
    level.tree.program(qemu)
    for path in FIRMWARE:
        if os.path.exists(path):
            level.tree.file(path, path)
    kvmtool = os.environ.get("KVMTOOL") or which("lkvm")
    if kvmtool:
        level.tree.program(kvmtool, "/bench/kvmtool")
    level.tree.program(os.path.join(BUILD, "tests/bench/stopwatch"), "/bench/stopwatch")
    level.tree.file("/bench/vmlinuz", os.path.join(GUEST, "vmlinuz"))
    level.tree.data("/bench/initrd", initrd())
    level.tree.data("/bench/machine.json", json.dumps(MACHINE).encode())
    level.tree.data("/bench/run", (RUN % (int(sys.argv[1]), IN_BUILD, qemu, CMDLINE, CMDLINE)).encode(), 0o755)
    level.job("boot", "sh /bench/run", quiet=True)
    result = Result()
    level.run(result)
    return 0 if level.jobs["boot"].status == 0 else 1


sys.exit(main())
