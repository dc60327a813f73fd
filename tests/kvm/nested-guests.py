"""All freestanding guests of tests/guests/ on nested KVM."""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from nested import IN_SRC, SRC, FirstLevel, Result, prerequisites, skip_all  # noqa: E402

# Two lanes that take about as long.
LANES = (("smp",),
         ("traps", "paging", "syscall", "debug", "smc", "strings", "lapic", "hyperv", "segments", "tasks", "vm86",
          "modes"))


def main():
    prerequisites()
    level = FirstLevel(lanes=len(LANES))
    level.source("tests/guests/test-guests.sh", "tests/lib/tap.sh")
    with tempfile.TemporaryDirectory(prefix="partita-guests-") as folder:
        done = subprocess.run(["sh", os.path.join(SRC, "tests/guests/test-guests.sh"), "--keep", folder],
                              env={**os.environ, "srcdir": SRC}, capture_output=True, text=True)
        if done.returncode != 0:
            skip_all("the guests cannot be built here: " + done.stdout.strip().replace("\n", " ")[-200:])
        for name in os.listdir(folder):
            if name.endswith(".elf"):
                level.tree.file("/guests/" + name, os.path.join(folder, name))
    only = sys.argv[1:]
    for lane, guests in enumerate(LANES):
        for guest in guests:
            if not only or guest in only:
                level.job(guest, "sh %s/tests/guests/test-guests.sh --built /guests %s" % (IN_SRC, guest), lane)
    result = Result()
    level.run(result)
    result.plan()


if __name__ == "__main__":
    main()
