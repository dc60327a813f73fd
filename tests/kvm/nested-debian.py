"""Unmodified Debian guests, and the unit tests of the back end, on nested KVM (nested.py)."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from nested import BUILD, IN_BUILD, IN_SRC, FirstLevel, Result, prerequisites, which  # noqa: E402

# Of the software CPU's guest tests those that ask another thing of another back end.
GUEST_TESTS = ("resets_by_client_and_guest a_panic_is_reported the_disk_keeps_what_was_written "
               "pulses_under_load_are_not_seen")
KVM = ("one_vp", "two_vps", "the_power_button", "without_an_interface", "pages_that_are_written")
INSIDE = ("disk_memory_and_state_of_two_vps", "memory_goes_to_files", "the_host_model", "a_debugger_looks_and_steps")
UNIT_TESTS = ("tests/kvm/test-kvm-state", "tests/kvm/test-kvm-irq", "tests/kvm/test-kvm-dirty",
              "tests/kvm/test-kvm-debug", "tests/kvm/test-kvm-emulate", "tests/kvm/test-kvm-failures",
              "tests/unit/test-partition-stress")


def main():
    prerequisites()
    level = FirstLevel(memory=2048)
    # Busybox's shell takes its own mke2fs, whatever PATH says.
    level.tree.program(os.path.realpath("/bin/sh"), "/usr/bin/dash")
    gdb = level.gdb()
    level.tree.python(gdb or ())
    for program in "mke2fs", "debugfs", "e2fsck":
        if which(program):
            level.tree.program(which(program), "/sbin/" + program)
    if os.path.exists("/etc/mke2fs.conf"):
        level.tree.file("/etc/mke2fs.conf", "/etc/mke2fs.conf")
    level.source("tests/lib/vmtest.py", "tests/lib/tap.sh", "tests/lib/guest.sh", "tests/guests/debian.py",
                 "tests/guests/gdb.py", "tests/boot/test-debian.sh", "tests/kvm/debian.py", "tests/kvm/inside.py")
    level.guest("vmlinuz", "initrd.img")
    level.environment.update({"CMOCKA_MESSAGE_OUTPUT": "TAP", "PTA_TEST_LIMIT": "40"})
    only = sys.argv[1:]
    for test in UNIT_TESTS:
        name, path = os.path.basename(test), os.path.join(BUILD, test)
        if os.path.exists(path) and (not only or name in only):
            level.tree.program(path, IN_BUILD + "/" + test)
            level.job(name, IN_BUILD + "/" + test, 1)
    for name in KVM:
        if not only or "kvm" in only:
            level.job("kvm-" + name, "python3 %s/tests/kvm/debian.py %s" % (IN_SRC, name))
    for name in GUEST_TESTS.split():
        if not only or "debian" in only:
            level.job("debian-" + name, "python3 %s/tests/guests/debian.py %s" % (IN_SRC, name))
    for name in INSIDE:
        if (not only or "inside" in only) and (gdb is not None or "debugger" not in name):
            level.job("inside-" + name, "python3 %s/tests/kvm/inside.py %s" % (IN_SRC, name), 1)
    if not only or "boot" in only:
        level.job("boot", "/usr/bin/dash %s/tests/boot/test-debian.sh" % IN_SRC, 1)
    result = Result()
    if gdb is None:
        result.line(True, "gdb # SKIP no gdb, or no compiler for its guest")
    level.run(result)
    result.plan()


if __name__ == "__main__":
    main()
