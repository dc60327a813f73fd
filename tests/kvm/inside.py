"""More of an unmodified Debian kernel on KVM: its disk, two VPs and its memory under load. nested-debian.py runs
it on nested KVM."""

import os
import re
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import LIMIT, Machine, check, equal, guest_file, main  # noqa: E402
sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "guests"))
sys.argv.insert(1, "/gdb")  # which gdb.py takes
from gdb import Debugged, Gdb  # noqa: E402


def debian(vps, disk=None, model="x86-64-v1"):
    devices = [{"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}},
               {"id": "rng0", "type": "virtio-rng"}]
    if disk:
        devices.append({"id": "disk0", "type": "virtio-blk", "block": {"type": "file", "path": disk}})
    return {
        "partition": {"vps": vps, "backend": "kvm", "cpu-model": model, "hypervisor": "hyperv"},
        "memory": {"size": "256M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd.img"),
                 "cmdline": "console=ttyS0 panic=0 partita.mode=shell"},
        "devices": devices}


def boot(machine, vps):
    machine.wait_console("exit powers it off")
    machine.shell("stty -echo; dmesg -n 1")
    equal(re.findall(r"cpus=(\d+)", machine.shell("echo cpus=$(nproc)")), [str(vps)], "nproc")


def power_off(machine):
    machine.type("exit\n")
    equal(machine.wait_exit(), 0, "exit status")


def disk_memory_and_state_of_two_vps():
    """Under load: stops, pulses, memory that is saved, and not a bit of the data changes."""
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk.img")
        with open(disk, "wb") as out:
            out.truncate(32 << 20)
        with Machine(debian(2, disk)) as machine:
            monitor = machine.monitor()
            boot(machine, 2)
            digest = re.search("[0-9a-f]{32}", machine.shell("seq 1 30000 | md5sum")).group(0)
            start = len(machine.text)
            machine.type("work() { for i in 1 2 3; do seq 1 30000 | md5sum; done; }; "
                         "disk() { seq 1 30000 >/tmp/s; for i in 1 2; do dd if=/tmp/s of=/dev/vda bs=4k conv=sync 2>/dev/null; "
                         "echo 3 >/proc/sys/vm/drop_caches; head -c 168894 /dev/vda | md5sum; done; }; "
                         "work & work & disk & wait; echo all-''done\n")
            pulses = 0
            end = time.monotonic() + LIMIT
            while "all-done" not in machine.text[start:]:
                check(time.monotonic() < end, "the guest does not come to the end of its work")
                monitor.command("pulse-save-restore")
                monitor.command("stop")
                equal(monitor.command("query-status")["status"], "paused", "status")
                monitor.command("cont")
                pulses += 1
                time.sleep(0.2)
            print("# %d pulses" % pulses)
            check(pulses >= 3, "only %d pulses" % pulses)
            machine.wait_console("all-done", start)
            equal(re.findall("[0-9a-f]{32}", machine.text[start:]), [digest] * 8, "digests")
            stats = monitor.command("inspect", path="/devices/disk0")
            print("# disk: %s" % stats)
            log = machine.shell("dmesg")
            found = [line for line in log.splitlines()
                     if re.search(r"soft lockup|\bBUG\b|Oops|WARNING: CPU|rcu.*stall|I/O error", line)]
            equal(found, [], "suspicious lines in the kernel's log")
            power_off(machine)


def memory_goes_to_files():
    with tempfile.TemporaryDirectory() as folder:
        with Machine(debian(1)) as machine:
            monitor = machine.monitor()
            boot(machine, 1)
            machine.shell("mkdir /t; mount -t tmpfs t /t; yes partita-was-here | head -c 2000000 >/t/a")
            physical, linear = os.path.join(folder, "physical"), os.path.join(folder, "linear")
            monitor.command("stop")
            monitor.command("pmemsave", val=0, size=256 << 20, filename=physical)
            with open(physical, "rb") as file:
                check(file.read().count(b"partita-was-here") > 100000, "pmemsave lacks the guest's memory")
            # The kernel's text, through page tables that all of its processes share.
            monitor.command("memsave", val=0xffffffff81000000 - (1 << 64), size=4096, filename=linear)
            with open(linear, "rb") as file, open(physical, "rb") as whole:
                page = file.read()
                check(any(page) and page in whole.read(), "memsave of the kernel's text is nowhere in pmemsave's file")
            monitor.command("cont")
            power_off(machine)


def a_debugger_looks_and_steps():
    """One VP, for which that CPU is good enough. No breakpoints: QEMU's TCG has no #VMEXIT of INT3's #BP, so that QEMU with KVM and gdb in this first level
    does not stop at them either, and debug registers that one guest has set are seen to end others."""
    with Debugged(debian(1)) as machine:
        monitor = machine.monitor()
        boot(machine, 1)
        machine.type("while :; do :; done & busy=$!\n")
        with Gdb("-nh", machine.gdb) as gdb:
            equal(len(re.findall('"vp', gdb.run("info threads"))), 1, "threads")
            equal(monitor.command("query-status")["status"], "debug", "status")
            said = gdb.run("info registers")
            for name in ("rax", "r15", "rip", "eflags", "cs", "gs_base", "cr0", "cr3", "efer"):
                check(re.search(r"^%s +0x" % name, said, re.M), "info registers has no %s:\n%s" % (name, said))
            gdb.expect("p $cr0", "PE .*PG")
            gdb.expect("p/x *(unsigned int *)0xffffffff81000000", "= 0x[0-9a-f]+")
            seen = set()
            for _ in range(10):
                gdb.run("stepi")
                seen.add(gdb.value("$pc"))
            check(len(seen) > 2, "ten steps were at %s" % sorted(map(hex, seen)))
            gdb.send("continue")
            time.sleep(0.5)
            check("SIGINT" in gdb.interrupt(), "the guest was not interrupted")
            gdb.expect("detach", "detached")
        machine.shell("kill $busy")
        equal(re.findall(r"is=(\d+)=", machine.shell("echo is=$(nproc)=")), ["1"], "nproc afterwards")
        power_off(machine)


def the_host_model():
    with Machine(debian(2, model="host")) as machine:
        boot(machine, 2)
        power_off(machine)


if __name__ == "__main__":
    main([disk_memory_and_state_of_two_vps, memory_goes_to_files, the_host_model] +
         ([a_debugger_looks_and_steps] if os.path.exists("/usr/bin/gdb") else []),
         needs=[guest_file("vmlinuz"), guest_file("initrd.img")])
