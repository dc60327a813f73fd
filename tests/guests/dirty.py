"""The dirty log under an unmodified Debian kernel: what it writes is dirty, and little else."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import Machine, check, equal, guest_file, main, wait_until  # noqa: E402

FILE_MIB = 24
FILE_PAGES = FILE_MIB * 256


def debian(vps):
    return {
        "partition": {"vps": vps, "backend": "soft", "cpu-model": "x86-64-v1", "hypervisor": "hyperv"},
        "memory": {"size": "256M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd.img"),
                 "cmdline": "console=ttyS0 panic=0 partita.mode=shell"},
        "devices": [
            {"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}},
            {"id": "rng0", "type": "virtio-rng"}]}


def watch(monitor, on):
    equal(monitor.command("inspect", path="/memory/dirty/watch", value=on), on, "watch")


def dirty(monitor):
    return monitor.command("inspect", path="/memory/dirty/pages")


def what_is_written_is_dirty(vps):
    with Machine(debian(vps)) as machine:
        monitor = machine.monitor()
        machine.wait_console("guest: up")
        machine.wait_console("exit powers it off")
        machine.shell("stty -echo; mkdir /big; mount -t tmpfs big /big")
        time.sleep(2)
        watch(monitor, True)
        time.sleep(3)
        idle = dirty(monitor)
        # A write of a file that is new; twice, for nothing may depend on what was mapped before.
        written = []
        for _ in range(2):
            watch(monitor, False)
            watch(monitor, True)
            machine.shell("dd if=/dev/zero of=/big/file bs=64k count=%d 2>/dev/null" % (FILE_MIB * 16))
            written.append(dirty(monitor))
        # Reading it is not writing.
        watch(monitor, False)
        watch(monitor, True)
        machine.shell("cat /big/file >/dev/null")
        read = dirty(monitor)
        print("# %d VPs: pages dirty: idle for 3 s %d; %d MiB (%d pages) written %s, read %d"
              % (vps, idle, FILE_MIB, FILE_PAGES, written, read), flush=True)
        check(idle < 600, "an idle guest has %d dirty pages" % idle)
        for pages in written:
            check(FILE_PAGES <= pages < FILE_PAGES * 1.3 + 1000,
                  "%d pages were written, %d are dirty" % (FILE_PAGES, pages))
        check(read < 2000, "reading makes %d pages dirty" % read)
        check(str(FILE_MIB << 20) in machine.shell("wc -c </big/file"), "the file is not whole")
        # As fast as it can, for two seconds.
        machine.type("while :; do dd if=/dev/zero of=/big/file bs=64k count=%d conv=notrunc "
                     "2>/dev/null; done\n" % (FILE_MIB * 16))
        time.sleep(1)
        monitor.command("calc-dirty-rate", **{"calc-time": 2})
        wait_until("a dirty rate",
                   lambda: monitor.command("query-dirty-rate")["status"] == "measured")
        rate = monitor.command("query-dirty-rate")["dirty-rate"]
        print("# %d VPs: %d MiB/s become dirty" % (vps, rate), flush=True)
        check(FILE_MIB // 2 - 2 <= rate <= FILE_MIB, "a dirty rate of %d MiB/s" % rate)
        monitor.command("quit")
        equal(machine.wait_exit(), 0, "exit status")


def one_vp():
    what_is_written_is_dirty(1)


def four_vps():
    what_is_written_is_dirty(4)


if __name__ == "__main__":
    main([one_vp, four_vps], needs=[guest_file("vmlinuz"), guest_file("initrd.img")])
