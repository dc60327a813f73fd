"""An unmodified Debian kernel on a KVM that lacks instructions (kvm_pvm): past the places where it
needs them, which the software CPU executes. On demand (`./run-tests --pvm`): ring 0 is interpreted
there, so this takes minutes, and user space is out of reach.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import vmtest  # noqa: E402
from vmtest import Machine, check, guest_file, main  # noqa: E402

vmtest.LIMIT = max(vmtest.LIMIT, 1200.0)

# What is on the console behind the first CMPXCHG16B (SLUB), XRSTORS, and the self-test of INT3.
PLACES = (r"SLUB: HWalign", r"x86/fpu: Enabled xstate features .*'compacted' format",
          r"rcu: Hierarchical SRCU implementation")


def virtualises():
    with open("/proc/cpuinfo") as cpuinfo:
        words = cpuinfo.read().split()
    return "vmx" in words or "svm" in words


def debian_on_a_kvm_that_lacks_instructions():
    with Machine({
            "partition": {"vps": 1, "backend": "kvm", "cpu-model": "host", "hypervisor": "hyperv"},
            "memory": {"size": "256M"},
            "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd.img"),
                     "cmdline": "console=ttyS0 earlyprintk=ttyS0 panic=-1"},
            "devices": [{"id": "com1", "type": "uart16550", "chardev": {"type": "stdio"}}],
            "on-shutdown": "exit", "on-reset": "exit", "on-crash": "exit"}) as machine:
        monitor = machine.monitor()
        for place in PLACES:
            machine.wait_console(place)
            count = monitor.command("inspect", path="/partition/vp/0/stats")["emulated"]
            print("# %r: %d instructions by the software CPU so far" % (place, count), flush=True)
            check(count > 0, "none by the software CPU")


if __name__ == "__main__":
    if not os.access("/dev/kvm", os.W_OK):
        print("1..0 # SKIP no /dev/kvm, or no permission")
    elif virtualises():
        print("1..0 # SKIP this host's KVM has all instructions")
    else:
        main([debian_on_a_kvm_that_lacks_instructions], [guest_file("vmlinuz"), guest_file("initrd.img")])
