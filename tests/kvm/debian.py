"""What a user of KVM does with an unmodified Debian guest, by the monitor; nested-debian.py runs it on nested KVM."""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import Machine, check, equal, guest_file, main, wait_until  # noqa: E402


def debian(vps, hypervisor="hyperv", mode="shell"):
    return {
        "partition": {"vps": vps, "backend": "kvm", "hypervisor": hypervisor},
        "memory": {"size": "256M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd.img"),
                 "cmdline": "console=ttyS0 panic=0 quiet partita.mode=" + mode},
        "devices": [
            {"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}},
            {"id": "rng0", "type": "virtio-rng"}],
        "on-shutdown": "exit", "on-reset": "exit", "on-crash": "exit"}


def boot(machine):
    monitor = machine.monitor()
    machine.wait_console("exit powers it off")
    machine.shell("stty -echo")
    return monitor


def with_vps(vps):
    with Machine(debian(vps)) as machine:
        monitor = boot(machine)
        equal(monitor.command("query-status")["status"], "running", "status")
        check("is=%d=" % vps in machine.shell("echo is=$(grep -c ^processor /proc/cpuinfo)="), "VPs are missing")
        # Hyper-V's, or the TSC, which Linux takes if the interface says that it is invariant.
        clock = machine.shell("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
        check(re.search(r"(^|# )(tsc|hyperv_clocksource_tsc_page)\r?$", clock, re.M), "the clock is " + clock)
        inside = monitor.command("inspect", path="/partition/in-backend")
        equal({name: inside[name] for name in ("hyperv", "synic", "ioeventfd", "irqfd")},
              {"hyperv": True, "synic": True, "ioeventfd": True, "irqfd": True}, "what KVM does itself")
        machine.type("while :; do cat /proc/uptime; sleep 0.1; done &\n")
        machine.wait_console(r"\d+\.\d\d \d")
        monitor.command("stop")
        time.sleep(0.5)
        console = len(machine.text)
        time.sleep(2)
        equal(len(machine.text), console, "the console's length while stopped")
        before = float(re.findall(r"(\d+\.\d\d) \d+\.\d\d\r?\n", machine.text)[-1])
        monitor.command("cont")
        after = float(machine.wait_console(r"(\d+\.\d\d) \d+\.\d\d\r?\n", console).group(1))
        check(0 <= after - before < 1.5, "the clock went from %g to %g over a stop of 2.5 s" % (before, after))
        for vp in range(vps):
            state = monitor.command("inspect", path="/partition/vp/%d" % vp)
            check(state["stats"]["exits"] > 0, "vp %d never came out of KVM" % vp)
        check(monitor.command("pulse-save-restore")["units"] > 0, "pulse-save-restore saves nothing")
        machine.type("kill %1\n")
        check("done" in machine.shell("dmesg | grep -iE 'unstable|lockup|stall'; echo done"), "the shell")
        monitor.command("inject-nmi")
        machine.wait_console("Dazed and confused|NMI")
        machine.type("exit\n")
        equal(machine.wait_exit(), 0, "exit status")


def one_vp():
    with_vps(1)


def two_vps():
    with_vps(2)


def the_power_button():
    with Machine(debian(1, mode="idle")) as machine:
        monitor = machine.monitor()
        machine.wait_console("guest: idle")
        time.sleep(1)  # acpid opens its device
        monitor.command("system_powerdown")
        machine.wait_console("guest: power button")
        equal(machine.wait_exit(), 0, "exit status")


def without_an_interface():
    for hypervisor in "none", "kvm":
        with Machine(debian(2, hypervisor, "off")) as machine:
            machine.wait_console("reboot: Power down")
            equal(machine.wait_exit(), 0, "exit status")


def pages_that_are_written():
    with Machine(debian(2)) as machine:
        monitor = boot(machine)
        machine.shell("mkdir /big; mount -t tmpfs big /big")
        monitor.command("inspect", path="/memory/dirty/watch", value=True)
        machine.shell("dd if=/dev/zero of=/big/file bs=64k count=256 2>/dev/null")
        pages = monitor.command("inspect", path="/memory/dirty/pages")
        check(4096 <= pages < 8192, "4096 pages were written, %d are dirty" % pages)
        machine.type("while :; do dd if=/dev/zero of=/big/file bs=64k count=256 conv=notrunc 2>/dev/null; done\n")
        time.sleep(1)
        monitor.command("calc-dirty-rate", **{"calc-time": 1})
        wait_until("a dirty rate", lambda: monitor.command("query-dirty-rate")["status"] == "measured")
        check(monitor.command("query-dirty-rate")["dirty-rate"] >= 4, "nothing becomes dirty")
        monitor.command("quit")
        equal(machine.wait_exit(), 0, "exit status")


if __name__ == "__main__":
    main([one_vp, two_vps, the_power_button, without_an_interface, pages_that_are_written],
         needs=[guest_file("vmlinuz"), guest_file("initrd.img")])
