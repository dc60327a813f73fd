"""An unmodified Debian kernel on several VPs: start-up, interrupts, CPUs that go and come back, threads,
stress-ng with its own checks, and nothing suspicious in the kernel's log."""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import Failure, Machine, check, equal, guest_file, main  # noqa: E402

STRESSORS = ("cpu", "matrix", "mutex", "futex", "pipe", "mmap", "switch", "tlb-shootdown")
SUSPICIOUS = (r"soft lockup|\bBUG\b|rcu.*(stall|starved)|clocksource.*(unstable|skew)|Oops|"
              r"WARNING|hung task|blocked for more than|did not respond|not responding|"
              r"Measured .* cycles TSC warp|general protection")


def debian(vps, model="x86-64-v1", hypervisor="hyperv"):
    return {
        "partition": {"vps": vps, "backend": "soft", "cpu-model": model, "hypervisor": hypervisor},
        "memory": {"size": "512M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd-smp.img"),
                 "cmdline": "console=ttyS0 panic=0 partita.mode=shell"},
        "devices": [{"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}},
                    {"id": "rng0", "type": "virtio-rng"}]}


def boot(machine, vps):
    machine.wait_console("guest: up")
    machine.wait_console("exit powers it off")
    machine.shell("stty -echo; dmesg -n 1")
    found = number(machine, "grep -c ^processor /proc/cpuinfo")
    equal(found, vps, "CPUs")


def number(machine, command):
    return int(re.search(r"is <(\d+)>", machine.shell('echo "is <$(%s)>"' % command)).group(1))


def log_is_clean(machine):
    log = machine.shell("dmesg")
    found = [line for line in log.splitlines() if re.search(SUSPICIOUS, line)]
    equal(found, [], "suspicious lines in the kernel's log")


def interrupts(machine, name, vps):
    """How many interrupts of that kind each CPU has had."""
    text = machine.shell("grep ' %s:' /proc/interrupts" % name)
    match = re.search(r"%s:((?:\s+\d+){%d})" % (name, vps), text)
    if not match:
        raise Failure("no line %s of %d CPUs: %s" % (name, vps, text))
    return [int(word) for word in match.group(1).split()]


def four_vps_work():
    with Machine(debian(4)) as machine:
        boot(machine, 4)
        cpus_go_and_come(machine)
        text = machine.shell("smp-threads")
        parts = re.findall(r"threads: (ok|FAILED) (.+?)\r?\n", text)
        equal([what for state, what in parts if state != "ok"], [], "what failed")
        equal(len(parts), 8, "parts of smp-threads")
        check("threads: end 0" in text and "threads: 4 CPUs" in text, text)
        stress(machine)
        for name in ("LOC", "RES", "CAL", "TLB"):
            counts = interrupts(machine, name, 4)
            check(all(counts), "interrupts %s: %s" % (name, counts))
        log_is_clean(machine)
        machine.type("exit\n")
        equal(machine.wait_exit(), 0, "exit status")


def cpus_go_and_come(machine):
    for cpu in (3, 1, 2, 1):
        machine.shell("echo 0 >/sys/devices/system/cpu/cpu%d/online" % cpu)
        equal(number(machine, "grep -c ^processor /proc/cpuinfo"), 3, "CPUs without CPU %d" % cpu)
        machine.shell("echo 1 >/sys/devices/system/cpu/cpu%d/online" % cpu)
        equal(number(machine, "grep -c ^processor /proc/cpuinfo"), 4, "CPUs with CPU %d again" % cpu)
        equal(number(machine, "taskset %x cat /proc/self/stat | cut -d ' ' -f 39" % (1 << cpu)), cpu,
              "where a process runs")


def stress(machine):
    command = "stress-ng --timeout 6s --verify --cpu-method crc16 --matrix-size 48 --mmap-bytes 8M "
    for name in STRESSORS:
        command += "--%s %d " % (name, 1 if name in ("mmap", "tlb-shootdown") else 2)
    text = machine.shell("cd /tmp; %s 2>&1; echo status $?; cd /" % command)
    check("status 0" in text, "stress-ng: " + text)
    check("successful run completed" in text, "stress-ng: " + text)
    check(not re.search(r"stress-ng: (fail|error)", text), "stress-ng: " + text)


def a_stop_and_a_reset_with_four_vps():
    with Machine(debian(4)) as machine:
        monitor = machine.monitor()
        boot(machine, 4)
        start = len(machine.text)
        machine.type("smp-threads\n")
        for _ in range(20):
            monitor.command("stop")
            monitor.command("cont")
            time.sleep(0.05)
        machine.wait_console("threads: end 0", start)
        monitor.command("stop")
        monitor.command("system_reset")
        start = len(machine.text)
        monitor.command("cont")
        machine.wait_console("exit powers it off", start)
        machine.shell("stty -echo")
        equal(number(machine, "grep -c ^processor /proc/cpuinfo"), 4, "CPUs after a reset")
        log_is_clean(machine)


def sixteen_vps_without_hyperv():
    with Machine(debian(16, "host", "none")) as machine:
        boot(machine, 16)
        text = machine.shell("smp-threads")
        check("threads: end 0" in text and "threads: 16 CPUs" in text, text)
        log_is_clean(machine)
        machine.type("exit\n")
        equal(machine.wait_exit(), 0, "exit status")


def sixty_four_vps_come_up():
    with Machine(debian(64)) as machine:
        boot(machine, 64)
        log_is_clean(machine)


if __name__ == "__main__":
    main([four_vps_work, a_stop_and_a_reset_with_four_vps, sixteen_vps_without_hyperv,
          sixty_four_vps_come_up],
         needs=[guest_file("vmlinuz"), guest_file("initrd-smp.img")])
