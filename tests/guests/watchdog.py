"""The watchdog in the hands of an unmodified Debian kernel: its driver wdat_wdt finds it in the ACPI
table WDAT, busybox's watchdog reloads it, and then nobody does.
"""

import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import Machine, check, equal, guest_file, main, wait_until  # noqa: E402

INITRD = guest_file("initrd-watchdog.img")
SYSFS = "/sys/class/watchdog/watchdog0/"


def guest(**more):
    return {
        "partition": {"vps": 1, "backend": "soft", "cpu-model": "x86-64-v1"},
        "memory": {"size": "256M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": INITRD,
                 "cmdline": "console=ttyS0 panic=0 partita.mode=shell"},
        "devices": [
            {"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}},
            {"id": "wd", "type": "watchdog"}], **more}


def boot_to_shell(machine, start=0):
    machine.wait_console("exit powers it off", start)
    machine.shell("stty -echo")


def sysfs(machine, name):
    return re.search(r"is=(.*)=", machine.shell("echo is=$(cat %s)=" % (SYSFS + name))).group(1)


def reload_every_second(machine, timeout):
    machine.shell("watchdog -T %d -t 1 /dev/watchdog0; "
                  "until grep -qx active /sys/class/watchdog/watchdog0/state; do sleep 0.1; done" % timeout)


def stop_reloading(machine):
    """As if it had died: the device is not closed in order, so the countdown goes on."""
    machine.type("killall -9 watchdog\n")


def wd(monitor):
    return monitor.command("inspect", path="/devices/wd")


def the_driver_finds_it():
    with Machine(guest()) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        check(not re.search("could not be reserved", machine.text), "resources overlap")
        equal([sysfs(machine, name) for name in ("identity", "bootstatus", "state", "timeout")],
              ["wdat_wdt", "0", "inactive", "30"], "sysfs")
        equal(wd(monitor)["running"], False, "running")
        reload_every_second(machine, 20)
        equal([sysfs(machine, name) for name in ("state", "timeout")], ["active", "20"], "sysfs")
        check(18 <= int(sysfs(machine, "timeleft")) <= 20, "timeleft")
        state = wd(monitor)
        equal((state["running"], state["count-ms"], state["on-expiry"]), (True, 20000, "reboot"),
              "inspect")
        # Saved, reset and restored in the middle of a count.
        check(monitor.command("pulse-save-restore")["units"] > 0, "units")
        state = wd(monitor)
        equal((state["running"], state["count-ms"]), (True, 20000), "inspect")
        check(state["left-ms"] > 17000, "left-ms")


def it_resets_a_guest_that_hangs():
    with Machine(guest()) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        reload_every_second(machine, 3)
        time.sleep(6)
        equal(monitor.count("WATCHDOG"), 0, "events while it is reloaded")
        start = len(machine.text)
        begin = time.monotonic()
        stop_reloading(machine)
        equal(monitor.wait_event("HALT")["data"], {"reason": "watchdog", "action": "reset"}, "HALT")
        check(time.monotonic() - begin > 1.5, "it expired before its time")
        equal(monitor.wait_event("WATCHDOG")["data"], {"action": "reset"}, "WATCHDOG")
        equal(monitor.wait_event("RESET")["data"], {"guest": True, "reason": "guest-reset"}, "RESET")
        boot_to_shell(machine, start)
        equal(sysfs(machine, "bootstatus"), "32", "bootstatus, WDIOF_CARDRESET")
        equal(sysfs(machine, "state"), "inactive", "state")
        # The next boot has another reason.
        start = len(machine.text)
        machine.type("reboot -f\n")
        boot_to_shell(machine, start)
        equal(sysfs(machine, "bootstatus"), "0", "bootstatus")
        equal(monitor.count("WATCHDOG"), 1, "number of events")


def a_kernel_that_panics_is_reset():
    # Hyper-V's crash registers would report it before the watchdog can.
    description = guest()
    description["partition"]["hypervisor"] = "none"
    with Machine(description) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        reload_every_second(machine, 3)
        start = len(machine.text)
        machine.type("echo c > /proc/sysrq-trigger\n")
        machine.wait_console("Kernel panic", start)
        equal(monitor.wait_event("HALT")["data"]["reason"], "watchdog", "HALT")
        boot_to_shell(machine, start)
        equal(sysfs(machine, "bootstatus"), "32", "bootstatus")


def magic_close():
    with Machine(guest(**{"on-watchdog": "halt"})) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        # A watchdog that ends in order writes V first.
        reload_every_second(machine, 2)
        machine.shell("killall watchdog; sleep 0.5")
        equal(sysfs(machine, "state"), "inactive", "state")
        equal(wd(monitor)["running"], False, "running")
        machine.shell("echo V > /dev/watchdog0")
        time.sleep(4)
        equal(monitor.count("HALT"), 0, "number of HALT events")
        # Without it the countdown goes on.
        machine.type("echo x > /dev/watchdog0\n")
        equal(monitor.wait_event("HALT")["data"]["reason"], "watchdog", "HALT")
        machine.wait_console("watchdog did not stop")


def it_halts_and_the_guest_may_go_on():
    with Machine(guest(**{"on-watchdog": "halt"})) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        reload_every_second(machine, 3)
        stop_reloading(machine)
        equal(monitor.wait_event("HALT")["data"], {"reason": "watchdog", "action": "halt"}, "HALT")
        equal(monitor.wait_event("WATCHDOG")["data"], {"action": "pause"}, "WATCHDOG")
        monitor.wait_event("STOP")
        equal(monitor.command("query-status"),
              {"running": False, "singlestep": False, "status": "watchdog"}, "query-status")
        equal(monitor.command("query-halt")["reason"], "watchdog", "query-halt")
        seen = len(monitor.events)
        time.sleep(4)
        equal(monitor.count("HALT"), 1, "number of HALT events")
        monitor.command("cont")
        equal(monitor.command("query-status")["status"], "running", "status")
        machine.shell("uname")
        # It still hangs, as far as the watchdog knows.
        equal(monitor.wait_event("HALT", seen)["data"]["reason"], "watchdog", "second HALT")
        equal(monitor.command("clear-halt"), True, "clear-halt")
        machine.shell("echo V > /dev/watchdog0")
        time.sleep(4)
        equal(monitor.command("query-status")["status"], "running", "status")
        equal(monitor.count("HALT"), 2, "number of HALT events")


def it_ends_the_process():
    with Machine(guest(**{"on-watchdog": "exit"})) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        reload_every_second(machine, 2)
        stop_reloading(machine)
        equal(monitor.wait_event("WATCHDOG")["data"], {"action": "poweroff"}, "WATCHDOG")
        equal(monitor.wait_event("SHUTDOWN")["data"], {"guest": True, "reason": "guest-reset"},
              "SHUTDOWN")
        equal(machine.wait_exit(), 6, "exit status")


def a_stopped_machine_is_not_a_hanging_one():
    with Machine(guest(**{"on-watchdog": "halt"})) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        reload_every_second(machine, 3)
        monitor.command("stop")
        before = wd(monitor)["left-ms"]
        time.sleep(6)
        equal(wd(monitor)["left-ms"], before, "what is left after 6 s")
        monitor.command("cont")
        time.sleep(4)
        equal(monitor.count("WATCHDOG"), 0, "number of WATCHDOG events")
        equal(monitor.command("query-status")["status"], "running", "status")
        check(int(sysfs(machine, "timeleft")) >= 1, "timeleft")


def actions_with_which_the_guest_runs_on():
    with Machine(guest()) as machine:
        monitor = machine.monitor()
        boot_to_shell(machine)
        machine.shell("watchdog -T 1 -t 600 /dev/watchdog0")  # it expires each second
        monitor.command("watchdog-set-action", action="none")
        for action, console in (("none", None), ("debug", None),
                                ("inject-nmi", "Dazed and confused"),
                                ("shutdown", "guest: power button")):
            seen = len(monitor.events)
            start = len(machine.text)
            monitor.command("watchdog-set-action", action=action)
            while monitor.wait_event("WATCHDOG", seen)["data"]["action"] != action:
                seen += 1
            if console:
                machine.wait_console(console, start)
            elif action == "debug":
                wait_until("the log", lambda: "the watchdog expired" in machine.log)
        equal(machine.wait_exit(), 0, "exit status")
        equal([e["data"] for e in monitor.events if e["event"] == "RESET"], [], "RESET events")


if __name__ == "__main__":
    main([the_driver_finds_it, it_resets_a_guest_that_hangs, a_kernel_that_panics_is_reset,
          magic_close, it_halts_and_the_guest_may_go_on, it_ends_the_process,
          a_stopped_machine_is_not_a_hanging_one, actions_with_which_the_guest_runs_on],
         needs=[guest_file("vmlinuz"), INITRD])
