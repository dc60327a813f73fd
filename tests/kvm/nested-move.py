"""A running Debian guest, two VPs and a disk, moves from KVM to the software CPU and back, on nested KVM;
and so does the tiny guest of test-move.sh; and what test-kvm-clock asks of a KVM that can set TSCs."""

import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from nested import BUILD, GUEST, IN_BUILD, IN_SRC, SRC, FirstLevel, Result, Tree, prerequisites, skip_all  # noqa: E402

DESCRIPTION = {
    "name": "debian",
    "partition": {"vps": 2, "backend": "auto", "cpu-model": "x86-64-v2", "hypervisor": "hyperv"},
    "memory": {"size": "96M"},
    "boot": {"kernel": "vmlinuz", "initrd": "initrd.img", "cmdline": "console=ttyS0 quiet panic=-1"},
    "devices": [
        {"id": "serial0", "type": "uart16550",
         "chardev": {"type": "file", "path": "console", "append": True}},
        {"id": "disk0", "type": "virtio-blk", "block": {"type": "file", "path": "disk.img"}}],
    "on-shutdown": "halt", "on-reset": "halt", "on-crash": "halt"}


def initrd():
    """The test guests' own, and over it the /init that beats."""
    with tempfile.TemporaryDirectory() as folder:
        over = Tree()
        over.entries = {}
        over.file("/init", os.path.join(SRC, "tests/kvm/move-init.sh"))
        over.entries["/init"] = (over.entries["/init"][0] | 0o111, over.entries["/init"][1])
        over.write(folder + "/over")
        with open(os.path.join(GUEST, "initrd.img"), "rb") as below, open(folder + "/over", "rb") as above:
            data = below.read()
            return data + bytes(-len(data) % 512) + above.read()


def main():
    prerequisites()
    move = os.path.join(BUILD, "tests/kvm/move")
    if not os.path.exists(move):
        skip_all("tests/kvm/move is not built (KVM, cmocka)")
    level = FirstLevel()
    level.tree.program(move, IN_BUILD + "/tests/kvm/move")
    level.tree.program(os.path.join(BUILD, "tests/kvm/test-kvm-clock"), IN_BUILD + "/tests/kvm/test-kvm-clock")
    level.environment["CMOCKA_MESSAGE_OUTPUT"] = "TAP"
    level.source("tests/kvm/test-move.sh", "tests/lib/tap.sh")
    with tempfile.TemporaryDirectory(prefix="partita-guests-") as folder:
        done = subprocess.run(["sh", os.path.join(SRC, "tests/guests/test-guests.sh"), "--keep", folder],
                              env={**os.environ, "srcdir": SRC}, capture_output=True, text=True)
        if done.returncode != 0:
            skip_all("the guests cannot be built here: " + done.stdout.strip().replace("\n", " ")[-200:])
        level.tree.file("/guests/move.elf", os.path.join(folder, "move.elf"))
    level.tree.data("/debian/machine.json", json.dumps(DESCRIPTION).encode())
    level.tree.data("/debian/initrd.img", initrd())
    level.tree.data("/debian/disk.img", bytes(1 << 20))
    level.tree.file("/debian/vmlinuz", os.path.join(GUEST, "vmlinuz"))
    level.job("debian", IN_BUILD + "/tests/kvm/move /debian/machine.json kvm soft kvm")
    level.job("tiny", "sh %s/tests/kvm/test-move.sh --built /guests" % IN_SRC, 1)
    level.job("clock", IN_BUILD + "/tests/kvm/test-kvm-clock", 1)
    result = Result()
    level.run(result)
    result.plan()


if __name__ == "__main__":
    main()
