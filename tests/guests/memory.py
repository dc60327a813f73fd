"""An unmodified Debian kernel on memory of each kind that the host has."""

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import Machine, Skip, check, equal, guest_file, main, partita  # noqa: E402

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
SHMEM = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
MIB = 1 << 20


def debian(**memory):
    return {
        "partition": {"vps": 1, "backend": "soft", "cpu-model": "x86-64-v1", "hypervisor": "hyperv"},
        "memory": {"size": "256M", **memory},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd.img"),
                 "cmdline": "console=ttyS0 panic=0 partita.mode=shell"},
        "devices": [{"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}}]}


def read(path):
    with open(path) as file:
        return file.read()


class Setting:
    """A setting of the host that the test changes, if it may, and gives back."""

    def __init__(self, path, value):
        self.path, self.value = path, value

    def __enter__(self):
        try:
            self.lock = open(self.path)
        except OSError as error:
            raise Skip("%s: %s" % (self.path, error.strerror)) from None
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX)  # other tests may want to change it
            self.before = read(self.path)
            chosen = re.search(r"\[(\w+)\]", self.before)
            self.before = chosen.group(1) if chosen else self.before
            with open(self.path, "w") as out:
                out.write(self.value)
        except OSError as error:
            self.lock.close()
            raise Skip("%s: %s" % (self.path, error.strerror)) from None

    def __exit__(self, *why):
        with open(self.path, "w") as out:
            out.write(self.before)
        self.lock.close()


def smaps(machine, what):
    """KiB of all mappings of the process."""
    text = read("/proc/%d/smaps" % machine.process.pid)
    return sum(int(n) for n in re.findall(r"^%s: +(\d+) kB" % what, text, re.M))


def boot_and_use(machine):
    """Boots, fills most of the memory with files and reads them again; the memory is what was asked."""
    machine.wait_console("guest: up")
    machine.wait_console("exit powers it off")
    machine.shell("stty -echo")
    total = int(re.search(r"MemTotal: +(\d+) kB", machine.shell("cat /proc/meminfo")).group(1))
    check(180000 < total < 262144, "MemTotal %d kB of 256M" % total)
    output = machine.shell("mkdir -p /tmp/m; mount -t tmpfs -o size=180m none /tmp/m; "
                           "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/tmp/m/a bs=64k count=16; "
                           "cat /tmp/m/a /tmp/m/a /tmp/m/a /tmp/m/a >/tmp/m/b; for k in 1 2 3 4; do "
                           "cp /tmp/m/b /tmp/m/$i-$k; done; done 2>/dev/null; "
                           "for i in 1 2 3 4 5 6 7 8; do md5sum </tmp/m/$i-1; md5sum </tmp/m/$i-4; done")
    digests = re.findall("[0-9a-f]{32}", output)
    equal(len(digests), 16, "number of digests")
    equal(digests[0::2], digests[1::2], "digests of copies")
    equal(len(set(digests)), 8, "different files")


def power_off(machine):
    machine.type("exit\n")
    equal(machine.wait_exit(), 0, "exit status")


def prefault():
    with Machine(debian(prefault=True)) as machine:
        monitor = machine.monitor()
        equal(monitor.command("inspect", path="/memory/backing/0/resident-bytes"), 256 * MIB, "resident")
        check(re.search(r"all pages of 256M are there after \d+\.\d{3} s", machine.log), machine.log)
        boot_and_use(machine)
        power_off(machine)


def pinned():
    with Machine(debian(pin=True)) as machine:
        machine.monitor()
        check(smaps(machine, "Locked") >= 256 * 1024, "locked: %d kB" % smaps(machine, "Locked"))
        boot_and_use(machine)
        power_off(machine)


def a_pin_beyond_the_limit():
    if os.getuid() != 0:
        raise Skip("needs root, to give up its rights")
    with Machine(debian(pin=True)) as other:  # for its description
        description = read(other.file)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "machine.json")
        with open(path, "w") as out:
            out.write(description.replace('"vm.sock"', '"/tmp/partita-nobody-%d.sock"' % os.getpid()))
        done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "sh", "-c",
                               'ulimit -l 64 && exec "$0" run "$1"', partita(), path],
                              capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if "Permission denied" in done.stderr:
        raise Skip("nobody cannot run it here")
    equal(done.returncode, 2, "exit status: " + done.stderr)
    check("RLIMIT_MEMLOCK" in done.stderr, done.stderr)


def transparent_huge_pages():
    with Setting(SHMEM, "advise"):
        with Machine(debian(backing=[{"type": "memfd", "thp": True}])) as machine:
            machine.monitor()
            boot_and_use(machine)
            huge = smaps(machine, "ShmemPmdMapped")
            print("# %d kB of shared memory in huge pages" % huge)
            check(huge >= 2048, "no huge pages in shared memory")
            power_off(machine)


def transparent_huge_pages_of_private_memory():
    if "[never]" in read("/sys/kernel/mm/transparent_hugepage/enabled"):
        raise Skip("this host has none")
    with Machine(debian(backing=[{"type": "private", "thp": True}])) as machine:
        monitor = machine.monitor()
        equal(monitor.command("inspect", path="/memory/backing/1/type"), "private", "type")
        boot_and_use(machine)
        huge = smaps(machine, "AnonHugePages")
        print("# %d kB of private memory in huge pages" % huge)
        check(huge >= 2048, "no huge pages in private memory")
        check(monitor.command("inspect", path="/memory/backing/1/resident-bytes") > 100 * MIB, "resident")
        power_off(machine)


def without_them_it_says_so():
    with Setting(SHMEM, "never"):
        with Machine(debian(backing=[{"type": "memfd", "thp": True}])) as machine:
            machine.monitor()
            machine.wait_console("Linux version")
            equal(machine.log.count("will have no transparent huge pages"), 1, "lines of log")


def several_backings():
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        ram = os.path.join(folder, "ram")
        backing = [{"type": "memfd", "size": "64M"}, {"type": "private", "size": "33M"},
                   {"type": "file", "path": ram, "size": "99M"}, {"type": "memfd", "host-numa-node": 0}]
        if not os.path.exists("/sys/devices/system/node/has_memory"):
            del backing[-1]["host-numa-node"]
        with Machine(debian(backing=backing)) as machine:
            monitor = machine.monitor()
            equal([monitor.command("inspect", path="/memory/backing/%d/type" % i) for i in range(4)],
                  ["memfd", "private", "file", "memfd"], "types")
            equal(os.stat(ram).st_size, 99 * MIB, "size of the file")
            boot_and_use(machine)
            machine.shell("rm /tmp/m/*; yes partita-was-here | head -c 1700000 >/tmp/m/a; "
                          "for i in $(seq 100); do cat /tmp/m/a; done >/tmp/m/b")
            monitor.command("pulse-save-restore")
            with Machine(debian(backing=[{"type": "memfd", "size": "157M"},
                                         {"type": "file", "path": ram}])) as second:
                equal(second.wait_exit(), 2, "exit status of a second owner")
                check("is managed by process %d (partita) already" % machine.process.pid in second.log,
                      second.log)
            power_off(machine)
        with open(ram, "rb") as file:
            check(file.read().count(b"partita-was-here") > 100000, "the file does not hold the guest's memory")


def an_inherited_descriptor():
    description = debian(backing=[{"type": "memfd", "size": "64M"}, {"type": "fd", "fd": 9}])
    description["boot"]["cmdline"] = description["boot"]["cmdline"].replace("shell", "off")
    with tempfile.TemporaryDirectory() as folder:
        path, ram = os.path.join(folder, "machine.json"), os.path.join(folder, "ram")
        with open(path, "w") as out:
            json.dump({"name": "fd", **description}, out)

        def run(size, redirection):
            with open(ram, "wb") as out:
                out.truncate(size)
            return subprocess.run(["sh", "-c", 'exec "$0" run "$1" ' + redirection, partita(), path, ram],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)
        done = run(192 * MIB, '9<>"$2"')
        equal(done.returncode, 0, done.stderr)
        with open(ram, "rb") as file:
            check(file.read().count(b"\0") < 191 * MIB, "the guest has not used the memory")
        for size, redirection, status, text in (
                (191 * MIB, '9<>"$2"', 1, "has %d bytes; expected %d" % (191 * MIB, 192 * MIB)),
                (192 * MIB, '9<"$2"', 1, "open for reading and writing"),
                (192 * MIB, "9<>/dev/null", 1, "is no memory"),
                (192 * MIB, "9<&-", 2, "descriptor 9: Bad file descriptor")):
            done = run(size, redirection)
            equal(done.returncode, status, done.stderr)
            check("$.memory.backing[1]: " in done.stderr and text in done.stderr, done.stderr)


def huge_pages():
    before = int(read(POOL)) if os.path.exists(POOL) else 0
    with Setting(POOL, str(before + 127)):
        if int(read(POOL)) < before + 127:
            raise Skip("this host has no room for 127 huge pages")
        with Machine(debian(backing=[{"type": "hugetlb"}])) as machine:
            monitor = machine.monitor()
            equal([monitor.command("inspect", path="/memory/backing/1/" + name)
                   for name in ("type", "page-size", "resident-bytes")],
                  ["hugetlb", 2 * MIB, 254 * MIB], "backing")
            boot_and_use(machine)
            power_off(machine)
    equal(int(read(POOL)), before, "the pool afterwards")


def huge_pages_that_the_host_lacks():
    if not os.path.exists(POOL):
        raise Skip("this host has no huge pages")
    description = debian(backing=[{"type": "hugetlb"}])
    description["memory"]["size"] = "64G"
    with Machine(description) as machine:
        equal(machine.wait_exit(), 2, "exit status")
        check("increase the hugetlb pool" in machine.log, machine.log)
        check("$.memory.backing[0]: " in machine.log, machine.log)


if __name__ == "__main__":
    main([prefault, pinned, a_pin_beyond_the_limit, transparent_huge_pages,
          transparent_huge_pages_of_private_memory, without_them_it_says_so, several_backings,
          an_inherited_descriptor, huge_pages,
          huge_pages_that_the_host_lacks],
         needs=[guest_file("vmlinuz"), guest_file("initrd.img")])
