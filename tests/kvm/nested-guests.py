"""All freestanding guests of tests/guests/ on nested KVM: test-guests.sh itself runs in the first level.
What that CPU is known to do wrong (first-level.txt) is excused, unless QEMU with KVM passes it there."""

import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from nested import IN_SRC, SRC, FirstLevel, Result, prerequisites, skip_all, which  # noqa: E402

# Two lanes that take about as long.
LANES = (("smp", "emulate", "hyperv", "lapic", "debug", "strings", "smc"),
         ("traps", "paging", "syscall", "segments", "tasks", "vm86", "modes"))
# In the guests' command line: some tests would end the first level.
WORD = "first-level=tcg"
BASELINE = """#!/bin/sh
for cpu in host host,-smap,-pdpe1gb; do
    # Where KVM gives up, QEMU waits for somebody to look.
    sh -c 'echo $$ >qemu.pid; exec "$@"' sh timeout 20 qemu-system-x86_64 -M pc,pit=off -accel kvm -cpu $cpu -m 64 \\
        -nodefaults -display none -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel /guests/$1.elf \\
        -append %s </dev/null 2>&1 |
        awk '{ print; fflush() } /^KVM internal error/ { system("kill $(cat qemu.pid)"); exit }'
    [ $1 = paging ] || break
done | tr -d '\\r'
""" % WORD
FIRMWARE = ("/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/multiboot.bin", "/usr/share/qemu/multiboot_dma.bin",
            "/usr/share/qemu/kvmvapic.bin")


def known():
    """(guest, test) of first-level.txt, and whether it fails by chance."""
    with open(os.path.join(SRC, "tests/kvm/first-level.txt")) as file:
        lines = [line.strip() for line in file]
    return {tuple(line.lstrip("~ ").split(": ", 1)): line.startswith("~")
            for line in lines if line and not line.startswith("#")}


def build(level):
    with tempfile.TemporaryDirectory(prefix="partita-guests-") as folder:
        done = subprocess.run(["sh", os.path.join(SRC, "tests/guests/test-guests.sh"), "--keep", folder],
                              env={**os.environ, "srcdir": SRC}, capture_output=True, text=True)
        if done.returncode != 0:
            skip_all("the guests cannot be built here: " + done.stdout.strip().replace("\n", " ")[-200:])
        for name in os.listdir(folder):
            if name.endswith(".elf"):
                level.tree.file("/guests/" + name, os.path.join(folder, name))


class Excuses:
    def __init__(self, level):
        self.level, self.known = level, known()

    def __call__(self, job, text):
        name = re.sub(r" \([0-9a-f]+\)$", "", text.partition(job + ": ")[2])
        if (job, name) not in self.known:
            return None
        if self.known[job, name]:
            return "fails in this first level by chance"
        said = {}
        for line in self.level.jobs["baseline-" + job].lines:
            test = re.match(r"(ok|not ok) \d+ - (.*?)(?: \([0-9a-f]+\))?$", line)
            if test:
                said.setdefault(test.group(2), set()).add(test.group(1))
        if said.get(name) == {"ok"}:
            return None
        return ("QEMU with KVM fails it in this first level as well" if name in said
                else "the first level is known for it, and QEMU with KVM did not come as far")


def main():
    prerequisites()
    level = FirstLevel()
    level.environment.update({"PTA_TEST_GUEST_CMDLINE": WORD, "PTA_TEST_MANY_VPS": "5", "PTA_TEST_LIMIT": "60"})
    level.source("tests/guests/test-guests.sh", "tests/lib/tap.sh")
    build(level)
    level.tree.program(which("qemu-system-x86_64"), "/usr/bin/qemu-system-x86_64")
    for name in FIRMWARE:
        level.tree.file("/usr/share/qemu/" + os.path.basename(name), name)
    level.tree.data("/bin/baseline", BASELINE.encode(), 0o755)
    only = sys.argv[1:]
    needy = {guest for (guest, _), chance in known().items() if not chance}
    for lane, guests in enumerate(LANES):
        for guest in guests:
            if only and guest not in only:
                continue
            if guest in needy:
                level.job("baseline-" + guest, "baseline " + guest, lane, quiet=True)
            level.job(guest, "sh %s/tests/guests/test-guests.sh --built /guests %s" % (IN_SRC, guest), lane)
    result = Result()
    level.run(result, Excuses(level))
    result.plan()


if __name__ == "__main__":
    main()
