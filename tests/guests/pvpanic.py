"""The panic device in the hands of an unmodified Debian kernel: its driver pvpanic-mmio finds it by
ACPI and says when the kernel has panicked.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import Machine, check, equal, guest_file, main  # noqa: E402


def guest(**more):
    return {
        # Without Hyper-V's crash registers nothing else could say so.
        "partition": {"vps": 1, "backend": "soft", "cpu-model": "x86-64-v1", "hypervisor": "none"},
        "memory": {"size": "256M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd-watchdog.img"),
                 "cmdline": "console=ttyS0 panic=0 partita.mode=shell"},
        "devices": [
            {"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}},
            {"id": "panic0", "type": "pvpanic"}], **more}


def boot(machine):
    monitor = machine.monitor()
    machine.wait_console("exit powers it off")
    machine.shell("stty -echo")
    check("QEMU0001:00" in machine.shell("ls /sys/bus/platform/drivers/pvpanic-mmio"), "the driver has no device")
    return monitor


def a_panic_is_reported():
    with Machine(guest(**{"on-crash": "halt"})) as machine:
        monitor = boot(machine)
        machine.type("echo c >/proc/sysrq-trigger\n")
        halt = monitor.wait_event("HALT")["data"]
        equal((halt["reason"], halt["action"]), ("crash", "halt"), "HALT")
        equal(monitor.wait_event("GUEST_PANICKED")["data"], {"action": "pause"}, "GUEST_PANICKED")
        equal(monitor.command("query-status")["status"], "guest-panicked", "status")


def a_panic_ends_the_process():
    with Machine(guest(**{"on-crash": "exit"})) as machine:
        boot(machine)
        machine.type("echo c >/proc/sysrq-trigger\n")
        check(machine.wait_exit() not in (0, None), "it ended as if all were well")


def it_can_be_read_from_sysfs():
    with Machine(guest()) as machine:
        boot(machine)
        found = machine.shell("find /sys/devices -name capability -o -name events -path '*QEMU0001*' | "
                              "while read f; do echo $f is=$(cat $f)=; done")
        check("capability is=0x3=" in found.lower() or "capability is=3=" in found, found)


if __name__ == "__main__":
    main([a_panic_is_reported, a_panic_ends_the_process, it_can_be_read_from_sysfs],
         needs=[guest_file("vmlinuz"), guest_file("initrd-watchdog.img")])
