"""An unmodified Debian kernel under the monitor: run states, clock, power, reset, halts."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import Machine, Skip, check, equal, guest_file, main, wait_until  # noqa: E402


def debian(mode="shell", disk=None, **more):
    devices = [
        {"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}},
        {"id": "rng0", "type": "virtio-rng"},
    ]
    if disk:
        devices.append({"id": "disk0", "type": "virtio-blk", "block": {"type": "file", "path": disk}})
    return {
        "partition": {"vps": 1, "backend": "soft", "cpu-model": "x86-64-v1", "hypervisor": "hyperv"},
        "memory": {"size": "256M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd.img"),
                 "cmdline": "console=ttyS0 panic=0 partita.mode=" + mode},
        "devices": devices, **more}


def boot_to_shell(machine):
    machine.wait_console("guest: up")
    machine.wait_console("exit powers it off")
    machine.shell("stty -echo")


def uptime(machine):
    return float(re.search(r"(\d+\.\d\d) \d", machine.shell("cat /proc/uptime")).group(1))


def run_states_and_the_clock():
    with Machine(debian()) as machine:
        monitor = machine.monitor()
        equal(monitor.greeting["QMP"]["capabilities"], ["oob"], "capabilities")
        boot_to_shell(machine)
        equal(monitor.command("query-status"),
              {"running": True, "singlestep": False, "status": "running"}, "query-status")
        machine.type("(while :; do cat /proc/uptime; sleep 0.1; done) &\n")
        machine.wait_console(r"\d+\.\d\d \d")
        monitor.command("stop")
        equal(monitor.command("query-status")["status"], "paused", "status")
        time.sleep(0.3)  # what was under way on the host's side
        console = len(machine.text)
        time.sleep(3)
        equal(len(machine.text), console, "length of the console's text while stopped")
        before = float(re.findall(r"(\d+\.\d\d) \d+\.\d\d\r?\n", machine.text)[-1])
        monitor.command("stop")  # idempotent
        monitor.command("cont")
        monitor.command("cont")
        after = float(machine.wait_console(r"(\d+\.\d\d) \d+\.\d\d\r?\n", console).group(1))
        check(0 <= after - before < 2, "the guest's clock went from %g to %g over a stop of 3 s"
              % (before, after))
        equal([e["event"] for e in monitor.events if e["event"] in ("STOP", "RESUME")][-2:],
              ["STOP", "RESUME"], "events")
        monitor.command("quit")
        equal(machine.wait_exit(), 0, "exit status")


def the_power_button_shuts_the_guest_down():
    with Machine(debian("idle")) as machine:
        monitor = machine.monitor()
        machine.wait_console("guest: idle")
        time.sleep(0.5)  # acpid opens its device
        monitor.command("system_powerdown")
        machine.wait_console("guest: power button")
        event = monitor.wait_event("SHUTDOWN")
        equal(event["data"], {"guest": True, "reason": "guest-shutdown"}, "SHUTDOWN")
        equal(machine.wait_exit(), 0, "exit status")


def a_signal_presses_the_power_button():
    with Machine(debian("idle")) as machine:
        machine.wait_console("guest: idle")
        time.sleep(0.5)
        machine.process.send_signal(signal.SIGTERM)
        machine.wait_console("guest: power button")
        equal(machine.wait_exit(), 0, "exit status")


def a_second_signal_quits():
    with Machine(debian("shell")) as machine:
        machine.wait_console("Linux version")
        machine.process.send_signal(signal.SIGTERM)
        wait_until("the first signal", lambda: "another signal quits" in machine.log)
        machine.process.send_signal(signal.SIGTERM)
        equal(machine.wait_exit(), 0, "exit status")
        check("guest: power button" not in machine.text, "the guest had time to see the button")


def resets_by_client_and_guest():
    with Machine(debian()) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        machine.shell("touch /tmp/first-boot")
        start = len(machine.text)
        monitor.command("system_reset")
        equal(monitor.wait_event("RESET")["data"],
              {"guest": False, "reason": "host-qmp-system-reset"}, "RESET")
        machine.wait_console("exit powers it off", start)
        check("gone" in machine.shell("[ -e /tmp/first-boot ] || echo go''ne"),
              "the second boot has the first one's files")
        start = len(machine.text)
        seen = len(monitor.events)
        machine.type("reboot -f\n")
        equal(monitor.wait_event("HALT", seen)["data"]["reason"], "reset", "HALT")
        equal(monitor.wait_event("RESET", seen)["data"],
              {"guest": True, "reason": "guest-reset"}, "RESET")
        machine.wait_console("exit powers it off", start)
        equal(monitor.command("query-status")["status"], "running", "status")


def a_power_off_that_halts():
    with Machine(debian(**{"on-shutdown": "halt"})) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        equal(monitor.command("query-halt")["halted"], False, "halted")
        machine.type("poweroff -f\n")
        equal(monitor.wait_event("HALT")["data"]["reason"], "power-off", "HALT")
        wait_until("the state", lambda: monitor.command("query-status")["status"] == "shutdown")
        equal(monitor.command("query-halt")["reason"], "power-off", "query-halt")
        error = monitor.error("cont")
        check("Resetting the Virtual Machine is required" in error["desc"], error["desc"])
        start = len(machine.text)
        monitor.command("system_reset")
        machine.wait_console("exit powers it off", start)
        equal(monitor.count("HALT"), 1, "number of HALT events")


def a_panic_is_reported():
    with Machine(debian()) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        machine.type("echo c > /proc/sysrq-trigger\n")
        equal(monitor.wait_event("GUEST_PANICKED")["data"]["action"], "pause", "GUEST_PANICKED")
        equal(monitor.wait_event("HALT")["data"]["reason"], "crash", "HALT")
        equal(monitor.command("query-status")["status"], "guest-panicked", "status")
        machine.wait_console("sysrq triggered crash")
        equal(monitor.command("clear-halt"), True, "clear-halt")
        equal(monitor.command("clear-halt"), False, "clear-halt again")


def the_disk_keeps_what_was_written():
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk.img")
        os.mkdir(os.path.join(folder, "files"))
        with open(os.path.join(folder, "files", "hello.txt"), "w") as out:
            out.write("hello\n")
        subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", os.path.join(folder, "files"), disk,
                        "64M"], check=True, stderr=subprocess.DEVNULL)
        with Machine(debian(disk=disk)) as machine:
            boot_to_shell(machine)
            output = machine.shell("dd if=/dev/urandom of=/mnt/data bs=64k count=200 2>/dev/null; sync; "
                                   "echo 3 > /proc/sys/vm/drop_caches; md5sum /mnt/data")
            digest = re.search("[0-9a-f]{32}", output).group(0)
            machine.type("exit\n")
            equal(machine.wait_exit(), 0, "exit status")
        subprocess.run(["/sbin/debugfs", "-R", "dump data " + os.path.join(folder, "copy"), disk],
                       check=True, stderr=subprocess.DEVNULL)
        found = subprocess.run(["md5sum", os.path.join(folder, "copy")], check=True,
                               capture_output=True, text=True).stdout.split()[0]
        equal(found, digest, "digest of what the guest wrote")
        equal(subprocess.run(["/sbin/e2fsck", "-fn", disk], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode, 0, "status of e2fsck")


def two_machines_cannot_write_one_disk():
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk.img")
        with open(disk, "wb") as out:
            out.truncate(1 << 20)
        with Machine(debian("idle", disk)) as first:
            first.monitor()
            with Machine(debian("idle", disk)) as second:
                equal(second.wait_exit(), 2, "exit status")
                check("disk.img" in second.log, second.log)


def an_idle_guest_costs_little():
    with Machine(debian("idle")) as machine:
        machine.wait_console("guest: idle")
        time.sleep(3)
        begin = machine.cpu_seconds()
        time.sleep(10)
        used = machine.cpu_seconds() - begin
        check(used <= 0.2, "%g s of CPU time in 10 s of idling" % used)
        stats = machine.monitor().command("inspect", path="/partition/vp/0/stats")
        for name in ("instructions", "interrupts", "halts", "exceptions"):
            check(stats[name] > 0, "inspect counts no %s: %s" % (name, stats))


def stops_under_load_lose_nothing():
    with Machine(debian()) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        expected = machine.shell("seq 1 20000 | md5sum")
        digest = re.search("[0-9a-f]{32}", expected).group(0)
        start = len(machine.text)
        machine.type("for i in 1 2 3 4 5 6; do seq 1 20000 | md5sum; done; echo all-''done\n")
        for _ in range(40):
            monitor.command("stop")
            monitor.command("query-cpus-fast")
            monitor.command("cont")
            time.sleep(0.02)
        machine.wait_console("all-done", start)
        equal(re.findall("[0-9a-f]{32}", machine.text[start:]), [digest] * 6, "digests")


def pulses_under_load_are_not_seen():
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk.img")
        subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", disk, "64M"], check=True,
                       stderr=subprocess.DEVNULL)
        with Machine(debian(disk=disk)) as machine:
            monitor = machine.monitor()
            boot_to_shell(machine)
            expected = machine.shell("seq 1 20000 | md5sum")
            digest = re.search("[0-9a-f]{32}", expected).group(0)
            start = len(machine.text)
            machine.type("for i in 1 2 3 4 5 6; do seq 1 20000 >/mnt/$i; sync; "
                         "echo 3 >/proc/sys/vm/drop_caches; md5sum </mnt/$i; done; echo all-''done\n")
            pulses = 0
            while "all-done" not in machine.text[start:]:
                result = monitor.command("pulse-save-restore")
                check(result["units"] >= 7 and result["downtime-us"] > 0, str(result))
                pulses += 1
                time.sleep(0.02)
            check(pulses >= 20, "only %d pulses" % pulses)
            machine.wait_console("all-done", start)
            equal(re.findall("[0-9a-f]{32}", machine.text[start:]), [digest] * 6, "digests")
            equal([e["event"] for e in monitor.events if e["event"] != "RESUME"], [], "events")
            dmesg = machine.shell("echo count=$(dmesg | grep -ciE "
                                  "'error|unstable|stall|lockup|timed out')")
            check("count=0" in dmesg, dmesg)
            # Stopped and powered off machines have a state as well.
            monitor.command("stop")
            monitor.command("pulse-save-restore")
            equal(monitor.command("query-status")["status"], "paused", "status")
            monitor.command("cont")
            machine.type("exit\n")
            equal(machine.wait_exit(), 0, "exit status")
        equal(subprocess.run(["/sbin/e2fsck", "-fn", disk], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode, 0, "status of e2fsck")


def a_halt_survives_a_pulse():
    with Machine(debian("off", **{"on-shutdown": "halt"})) as machine:
        monitor = machine.monitor()
        equal(monitor.wait_event("HALT")["data"]["reason"], "power-off", "HALT")
        before = monitor.command("query-halt")
        monitor.command("pulse-save-restore")
        equal(monitor.command("query-halt"), before, "query-halt")
        equal(monitor.command("query-status")["status"], "shutdown", "status")
        equal(monitor.count("HALT"), 1, "number of HALT events")
        equal(monitor.command("clear-halt"), True, "clear-halt")
        equal(monitor.command("clear-halt"), False, "clear-halt again")


def frozen_file_system(folder):
    """A file system in a file, whose writes hang while it is frozen; None if this host forbids it."""
    image = os.path.join(folder, "fs.img")
    mount = os.path.join(folder, "mnt")
    os.mkdir(mount)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", image, "128M"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = subprocess.run(["mount", "-o", "loop", image, mount], stderr=subprocess.DEVNULL)
    return mount if done.returncode == 0 else None


class HangingDisk:
    """A machine whose guest waits for a write to a frozen file system."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.mount = frozen_file_system(self.folder.name)
        if not self.mount:
            self.folder.cleanup()
            raise Skip("this host does not mount a file")
        disk = os.path.join(self.mount, "disk.img")
        with open(disk, "wb") as out:
            out.truncate(32 << 20)
        self.machine = Machine(debian(disk=disk), may_warn=True)
        self.monitor = self.machine.monitor()
        boot_to_shell(self.machine)
        subprocess.run(["fsfreeze", "-f", self.mount], check=True)
        self.start = len(self.machine.text)
        self.machine.type("dd if=/dev/zero of=/dev/vda bs=64k count=64 oflag=direct && "
                          "echo dd-''done\n")
        wait_until("a write that hangs", lambda:
                   self.monitor.command("inspect", path="/devices/disk0/in-flight") > 0)
        return self

    def thaw(self):
        subprocess.run(["fsfreeze", "-u", self.mount], stderr=subprocess.DEVNULL)

    def __exit__(self, *_):
        self.thaw()
        self.machine.__exit__(*_)
        subprocess.run(["umount", "-l", self.mount], check=True)
        self.folder.cleanup()


def a_disk_that_hangs_holds_up_nobody():
    with HangingDisk() as hanging:
        machine, two = hanging.machine, hanging.monitor
        one, three = machine.monitor(), machine.monitor()
        one.send("stop")
        three.send("pulse-save-restore")
        wait_until("the unit", lambda: two.command("inspect", path="/units/disk0/state")
                   == "stopping")
        equal(two.command("inspect", path="/units/partition/state"), "stopped", "partition")
        equal(two.command("inspect", path="/requests-waiting"), 2, "requests")
        equal(two.command("query-status")["status"], "paused", "status")
        two.command("inspect", path="/partition/vp/0/registers")
        check("dd-done" not in machine.text[hanging.start:], "the write was not frozen")
        hanging.thaw()
        for monitor in (one, three):
            check("return" in monitor.answer(), "stop and pulse succeed")
        equal(two.command("inspect", path="/units/disk0/state"), "stopped", "disk0")
        equal(two.command("inspect", path="/devices/disk0/in-flight"), 0, "in flight")
        two.command("cont")
        machine.wait_console("dd-done", hanging.start)
        machine.type("poweroff -f\n")
        equal(machine.wait_exit(), 0, "exit status")


def a_disk_that_hangs_does_not_keep_the_process():
    with HangingDisk() as hanging:
        hanging.monitor.command("quit")
        wait_until("the end of the patience",
                   lambda: "ending without it" in hanging.machine.log)
        hanging.thaw()  # the kernel lets a process go only when its I/O has ended
        equal(hanging.machine.wait_exit(), 0, "exit status")


if __name__ == "__main__":
    main([run_states_and_the_clock, the_power_button_shuts_the_guest_down,
          a_signal_presses_the_power_button, a_second_signal_quits, resets_by_client_and_guest,
          a_power_off_that_halts, a_panic_is_reported, the_disk_keeps_what_was_written,
          two_machines_cannot_write_one_disk, an_idle_guest_costs_little,
          stops_under_load_lose_nothing, pulses_under_load_are_not_seen, a_halt_survives_a_pulse,
          a_disk_that_hangs_holds_up_nobody,
          a_disk_that_hangs_does_not_keep_the_process],
         needs=[guest_file("vmlinuz"), guest_file("initrd.img")])
