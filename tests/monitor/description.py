"""Descriptions that are wrong, one fault each: what is said, with which status, and that nothing is made.

usage: description.py PARTITA KERNEL   (KERNEL: an ELF that partita can load)

A fault is a change of a good description. The answer has to be one line, that names the file, the
place in it and what was expected; `partita check` and `partita run` have to agree.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

PARTITA = os.path.abspath(sys.argv[1])
with open(sys.argv[2], "rb") as file:
    KERNEL = file.read()
LIMIT = 120  # seconds: a loaded machine under a sanitizer is slow
ABSENT = object()


def good():
    return {
        "name": "debian",
        "partition": {"vps": 1, "backend": "soft", "cpu-model": "x86-64-v1", "hypervisor": "hyperv"},
        "memory": {"size": "32M"},
        "boot": {"kernel": "kernel", "initrd": "initrd", "cmdline": "console=ttyS0"},
        "devices": [
            {"id": "serial0", "type": "uart16550", "chardev": {"type": "file", "path": "new.log"}},
            {"id": "disk0", "type": "virtio-blk",
             "block": {"type": "file", "path": "disk", "read-only": False}},
            {"id": "rng0", "type": "virtio-rng"},
            {"id": "serial1", "type": "uart16550", "chardev": {"type": "pty", "link": "new.pty"}},
            {"id": "serial2", "type": "uart16550", "chardev": {"type": "unix", "path": "new.ser"}},
            {"id": "old", "type": "uart16550", "chardev": {"type": "file", "path": "old.log"}}],
        "monitor": [{"type": "unix", "path": "vm.sock"}],
        "on-shutdown": "exit", "on-reset": "reset", "on-crash": "halt"}


def changed(*changes):
    """The good description with values put at paths; ABSENT takes away, an index at the end adds."""
    description = good()
    for path, value in changes:
        at = description
        words = [int(word) if word.isdigit() else word for word in path.split(".")]
        for word in words[:-1]:
            at = at[word]
        if value is ABSENT:
            del at[words[-1]]
        elif isinstance(at, list) and words[-1] == len(at):
            at.append(value)
        else:
            at[words[-1]] = value
    return description


def rngs(count):
    return [(f"devices.{6 + i}", {"id": f"r{i}", "type": "virtio-rng"}) for i in range(count)]


DISK = "devices.1.block.path"
MONITOR = "monitor.0.path"

# name, changes, JSON path in the answer, words of the answer
FAULTS = [
    ("unknown key", [("colour", 1)], "$.colour", "expected only name, uuid"),
    ("unknown key in a part", [("partition.cpus", 2)], "$.partition.cpus", "expected only vps"),
    ("unknown key in a device", [("devices.1.block.readonly", True)], "$.devices[1].block.readonly",
     "expected only type, path"),
    ("name is no string", [("name", 3)], "$.name", "expected a string, found 3"),
    ("name is null", [("name", None)], "$.name", "expected a string, found null"),
    ("memory is not there", [("memory", ABSENT)], "$.memory", "expected an object, found nothing"),
    ("kernel is not named", [("boot.kernel", ABSENT)], "$.boot.kernel", "found nothing"),
    ("size is a truth", [("memory.size", True)], "$.memory.size", "expected a size .* found true"),
    ("size of unknown unit", [("memory.size", "512Q")], "$.memory.size", 'found "512Q"'),
    ("size is empty", [("memory.size", "")], "$.memory.size", "expected a size"),
    ("size is negative", [("memory.size", -1)], "$.memory.size", "found -1"),
    ("size overflows", [("memory.size", "99999999999999999999G")], "$.memory.size", "expected"),
    ("size is too large", [("memory.size", "65G")], "$.memory.size", "1M to 64G"),
    ("size is no multiple of a page", [("memory.size", "3073K")], "$.memory.size",
     "expected a multiple of 4K, found 3146752"),
    ("backing of unknown type", [("memory.backing", [{"type": "tape"}])], "$.memory.backing[0].type",
     "expected one of memfd"),
    ("backing with another's key", [("memory.backing", [{"type": "private", "path": "x"}])],
     "$.memory.backing[0].path", "expected only"),
    ("backings too many", [("memory.backing", [{"type": "memfd", "size": "1M"}] * 17)],
     "$.memory.backing", "16"),
    ("backings too small", [("memory.backing", [{"type": "memfd", "size": "16M"}])],
     "$.memory.backing", "expected sizes that add up to 32M, found 16M"),
    ("two backings take the rest", [("memory.backing", [{"type": "memfd"}, {"type": "private"}])],
     "$.memory.backing[1].size", "expected a size"),
    ("nothing is the rest", [("memory.backing", [{"type": "memfd", "size": "32M"}, {"type": "private"}])],
     "$.memory.backing", "expected something left"),
    ("backing of half pages", [("memory.backing", [{"type": "memfd", "size": 1050625}, {"type": "private"}])],
     "$.memory.backing[0].size", "expected a multiple of 4K, found 1050625"),
    ("huge pages of odd size", [("memory.backing", [{"type": "hugetlb", "hugepage-size": "4M"}])],
     "$.memory.backing[0].hugepage-size", "expected 2M or 1G, found 4M"),
    ("half a huge page", [("memory.backing", [{"type": "memfd", "size": "3M"}, {"type": "hugetlb"}])],
     "$.memory.backing[1].size", "expected a multiple of the huge page size 2M, found 29M"),
    ("huge pages at an odd place",
     [("memory.size", "33M"), ("memory.backing", [{"type": "memfd", "size": "3M"}, {"type": "hugetlb"}])],
     "$.memory.backing[1]", "expected a place that is a multiple of the huge page size 2M, found 3M"),
    ("node that is not there", [("memory.backing", [{"type": "memfd", "host-numa-node": 1023}])],
     "$.memory.backing[0]", "this host.* NUMA node"),
    ("backing's file is a folder", [("memory.backing", [{"type": "file", "path": "folder"}])],
     "$.memory.backing[0].path", "expected a file to read and write"),
    ("backing's file has another size", [("memory.backing", [{"type": "file", "path": "noise"}])],
     "$.memory.backing[0].path", "bytes; expected 33554432"),
    ("backing's folder is missing", [("memory.backing", [{"type": "file", "path": "nowhere/ram"}])],
     "$.memory.backing[0].path", "in a folder that is not there"),
    ("one file for two backings", [("memory.backing", [{"type": "file", "path": "new.ram", "size": "16M"},
                                                 {"type": "file", "path": "new.ram"}])],
     "$.memory.backing[1].path", "is used by .*backing.0..path already"),
    ("kernel is none, with memory in a file",
     [("boot.kernel", "noise"), ("memory.backing", [{"type": "file", "path": "new.ram"}])],
     "$.boot", "noise: .* expected a Linux bzImage"),
    ("one descriptor for two backings",
     [("memory.backing", [{"type": "fd", "fd": 9, "size": "16M"}, {"type": "fd", "fd": 9}])],
     "$.memory.backing[1].fd", "descriptor 9 is taken by .*backing.0."),
    ("standard output as memory", [("memory.backing", [{"type": "fd", "fd": 1}])],
     "$.memory.backing[0].fd", "found 1"),
    ("memory too small for the initrd", [("memory.size", "1M")], "$.boot", "RAM"),
    ("no processor", [("partition.vps", 0)], "$.partition.vps", "1 to 64, found 0"),
    ("too many processors", [("partition.vps", 65)], "$.partition.vps", "1 to 64, found 65"),
    ("processors as text", [("partition.vps", "1")], "$.partition.vps", 'found "1"'),
    ("unknown CPU model", [("partition.cpu-model", "z80")], "$.partition.cpu-model",
     "expected one of x86-64-v1"),
    ("CPU model that the back end lacks", [("partition.cpu-model", "x86-64-v3")],
     "$.partition.cpu-model", "avx2"),
    ("unknown back end", [("partition.backend", "xen")], "$.partition.backend", "expected one of"),
    ("kernel is missing", [("boot.kernel", "nothing")], "$.boot.kernel", "No such file"),
    ("kernel is a folder", [("boot.kernel", "folder")], "$.boot.kernel", "is a folder"),
    ("kernel is a pipe", [("boot.kernel", "pipe")], "$.boot.kernel", "no regular file"),
    ("kernel is a device", [("boot.kernel", "/dev/zero")], "$.boot.kernel", "no regular file"),
    ("kernel is empty", [("boot.kernel", "empty")], "$.boot.kernel", "is empty"),
    ("kernel is none", [("boot.kernel", "noise")], "$.boot", "noise: .* expected a Linux bzImage"),
    ("kernel is truncated", [("boot.kernel", "half")], "$.boot", "half"),
    ("initrd is missing", [("boot.initrd", "nothing")], "$.boot.initrd", "No such file"),
    ("initrd is a folder", [("boot.initrd", "folder")], "$.boot.initrd", "is a folder"),
    ("initrd is too large", [("boot.initrd", "large")], "$.boot", "large: .* no free RAM"),
    ("command line has a line break", [("boot.cmdline", "a\nb")], "$.boot", "printable ASCII"),
    ("command line is too long", [("boot.cmdline", "x" * 70000)], "$.boot", "pass the limit"),
    ("same id twice", [("devices.2.id", "disk0")], "$.devices[2].id",
     'expected a unique id, found "disk0"'),
    ("id of another form", [("devices.2.id", "0 x")], "$.devices[2].id", "expected an id"),
    ("id of the machine's own", [("devices.2.id", "power")], "$.devices[2].id", "expected another"),
    ("id of a unit", [("devices.2.id", "partition")], "$.devices[2].id", "expected another"),
    ("id of another unit", [("devices.2.id", "synic")], "$.devices[2].id", "expected another"),
    ("device without a type", [("devices.2.type", ABSENT)], "$.devices[2].type", "found nothing"),
    ("device of unknown type", [("devices.2.type", "ide")], "$.devices[2].type", 'found "ide"'),
    ("device is a number", [("devices.2", 7)], "$.devices[2]", "expected an object, found 7"),
    ("devices are an object", [("devices", {})], "$.devices", "expected an array"),
    ("disk is missing", [(DISK, "nothing")], "$.devices[1].block.path", "No such file"),
    ("disk is a folder", [(DISK, "folder")], "$.devices[1].block.path", "irectory|folder"),
    ("disk is empty", [(DISK, "empty")], "$.devices[1].block.path", "is empty"),
    ("disk is a pipe", [(DISK, "pipe")], "$.devices[1].block.path", "no regular file or block"),
    ("disk is a character device", [(DISK, "/dev/null")], "$.devices[1].block.path", "no regular"),
    ("disk without a name", [(DISK, "")], "$.devices[1].block.path", "expected a path"),
    ("disk of unknown format", [("devices.1.block.type", "qcow2")], "$.devices[1].block.type",
     "expected file"),
    ("one disk twice", [("devices.6", {"id": "d", "type": "virtio-blk",
                                       "block": {"type": "file", "path": "./disk"}})],
     "$.devices[6].block.path", r"used by \$.devices\[1\].block.path"),
    ("queue size is no power of two", [("devices.1.queue-size", 3)], "$.devices[1].queue-size",
     "power of two, found 3"),
    ("serial number is too long", [("devices.1.serial", "x" * 21)], "$.devices[1].serial",
     "at most 20"),
    ("entropy source is missing", [("devices.2.source", "nothing")], "$.devices[2].source",
     "No such file"),
    ("ring buffer is no power of two", [("devices.0.chardev", {"type": "ringbuf", "size": "3K"})],
     "$.devices[0].chardev.size", "power of two, found 3072"),
    ("output is a folder", [("devices.0.chardev.path", "folder")], "$.devices[0].chardev.path",
     "is a folder"),
    ("output in no folder", [("devices.0.chardev.path", "no/x")], "$.devices[0].chardev.path",
     "folder that is not there"),
    ("link is a file", [("devices.3.chardev.link", "noise")], "$.devices[3].chardev.link",
     "is no link"),
    ("two on the terminal", [("devices.0.chardev", {"type": "stdio"}),
                             ("devices.3.chardev", {"type": "stdio"})],
     "$.devices[3].chardev.type", 'taken by device "serial0"'),
    ("a fifth serial port", [("devices.6", {"id": "s", "type": "uart16550",
                                            "chardev": {"type": "null"}})],
     "$.devices[6]", "at most 4 serial ports"),
    ("a second clock", [("devices.6", {"id": "a", "type": "rtc-cmos"}),
                        ("devices.7", {"id": "b", "type": "rtc-cmos"})],
     "$.devices[7]", "at most 1 clocks"),
    ("a second watchdog", [("devices.6", {"id": "a", "type": "watchdog"}),
                           ("devices.7", {"id": "b", "type": "watchdog"})],
     "$.devices[7]", "at most 1 watchdogs"),
    ("time of another form", [("devices.6", {"id": "a", "type": "rtc-cmos", "base": "noon"})],
     "$.devices[6].base", "expected YYYY"),
    ("more devices than interrupts", rngs(47), "$.devices[52]", "at most 48 virtio devices"),
    ("socket path is too long", [(MONITOR, "s" * 120)], "$.monitor[0].path", "at most 107"),
    ("a file where the socket will be", [(MONITOR, "noise")], "$.monitor[0].path", "is no socket"),
    ("a folder where the socket will be", [(MONITOR, "folder")], "$.monitor[0].path",
     "is no socket"),
    ("socket in no folder", [(MONITOR, "no/x")], "$.monitor[0].path", "folder that is not there"),
    ("monitor and console on one socket", [(MONITOR, "new.ser")], "$.monitor[0].path",
     r"used by \$.devices\[4\].chardev.path"),
    ("a file where the debugger's socket will be", [("gdb", {"type": "unix", "path": "noise"})],
     "$.gdb.path", "is no socket"),
    ("monitor and debugger on one socket", [("gdb", {"type": "unix", "path": "vm.sock"})],
     "$.gdb.path", r"used by \$.monitor\[0\].path"),
    ("no port of a debugger", [("gdb", {"type": "tcp"})], "$.gdb.port", "expected"),
    ("a port that is none", [("gdb", {"type": "tcp", "port": 65536})], "$.gdb.port", "65535"),
    ("a debugger by pigeon", [("gdb", {"type": "pigeon"})], "$.gdb.type", "expected one of unix, tcp"),
    ("unknown action", [("on-shutdown", "dance")], "$.on-shutdown", "expected one of halt, reset"),
    ("no UUID", [("uuid", "zz")], "$.uuid", "expected a UUID"),
]

# name, bytes of the file, what follows the file's name in the answer
TEXTS = [
    ("no JSON", b"hello", r":1:\d+: "),
    ("nothing", b"", r":1:\d+: "),
    ("a torn object", b'{"name": ', r":1:\d+: "),
    ("binary", bytes(range(256)) * 20, r":1:\d+: "),
    ("a NUL", b'{"name": "a\0"}', r":1:\d+: "),
    ("no UTF-8", b'{"name": "\xff\xfe"}', r":1:\d+: "),
    ("a number", b"42", r":1:\d+: "),
    ("an array", b"[]", r": \$: expected an object, found an array"),
    ("a member twice", b'{"name": "a", "name": "b"}', r":1:\d+: duplicate"),
    ("too deep", b"[" * 100000, r":1:\d+: "),
    ("a number too large", b'{"memory": {"size": 99999999999999999999999}}', r":1:\d+: "),
    ("text behind the end", json.dumps(good()).encode() + b"\n}", r":2:\d+: "),
    ("large", b'{"name": "' + b"a" * 4000000 + b'"}', r": \$\.[a-z]+: "),
]


def fill_folder():
    with open("kernel", "wb") as out:
        out.write(KERNEL)
    with open("half", "wb") as out:
        out.write(KERNEL[:60])
    for name, content in (("noise", b"\x01\x02noise" * 5000), ("empty", b""), ("disk", bytes(65536)),
                          ("initrd", bytes(2 << 20)), ("old.log", b"of an earlier run\n")):
        with open(name, "wb") as out:
            out.write(content)
    with open("large", "wb") as out:
        out.truncate(64 << 20)
    os.mkdir("folder")
    os.mkfifo("pipe")


def listing():
    return {name: (os.lstat(name).st_mode, os.lstat(name).st_size, os.lstat(name).st_mtime_ns)
            for name in os.listdir(".")}


def ask(word):
    before = listing()
    words = [PARTITA, word] + (["--quiet"] if word == "run" else []) + ["m.json"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT,
                          check=False)
    after = listing()
    made = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return done.returncode, done.stderr.decode(), done.stdout.decode(), made


def complaint(found, status, pattern):
    """What is wrong with an answer, or None."""
    code, err, out, made = found
    if code != status:
        return f"status {code}, expected {status}; {err!r}"
    if made:
        return f"made or changed {made}"
    if out:
        return f"said {out!r} on standard output"
    if not re.fullmatch(r"[^\n]+\n", err) or not re.match(pattern, err):
        return f"said {err!r}, expected one line {pattern!r}"
    return None


def refused(pattern, words=("check", "run"), status=1):
    for word in words:
        wrong = complaint(ask(word), status, pattern)
        if wrong:
            return f"{word}: {wrong}"
    return None


def write(content):
    with open("m.json", "wb") as out:
        out.write(content if isinstance(content, bytes) else json.dumps(content).encode())


def accepted():
    write(good())
    code, err, out, made = ask("check")
    if code != 0 or err or made or "debian" not in out:
        return f"status {code}, said {err!r} and {out!r}, made {made}"
    return None


def live_socket():
    """The same machine once more: refused by the host, before its files are emptied."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("vm.sock")
    listener.listen()
    write(good())
    wrong = refused(r"partita: m\.json: \$\.monitor\[0\]\.path: another process", ["run"], 2)
    listener.close()
    os.unlink("vm.sock")
    return wrong


def no_file():
    if os.path.exists("m.json"):
        os.unlink("m.json")
    return refused(r"partita: .*m\.json.*: No such file or directory")


def main():
    cases = [("the good one is accepted", accepted), ("a file that is not there", no_file),
             ("a socket in use", live_socket)]

    def fault(changes, path, words):
        def run():
            write(changed(*changes))
            return refused(r"partita: m\.json: " + re.escape(path) + ": .*(" + words + ")")
        return run

    def text(content, pattern):
        def run():
            write(content)
            return refused(r"partita: m\.json" + pattern)
        return run

    cases += [(name, fault(changes, path, words)) for name, changes, path, words in FAULTS]
    cases += [("the file: " + name, text(content, pattern)) for name, content, pattern in TEXTS]
    print(f"1..{len(cases)}")
    for number, (name, case) in enumerate(cases, 1):
        try:
            wrong = case()
        except subprocess.TimeoutExpired as error:
            wrong = f"{error}"
        if wrong:
            print("# " + wrong.replace("\n", "\\n"))
        print(f"{'not ok' if wrong else 'ok'} {number} - {name}", flush=True)

folder = tempfile.mkdtemp(prefix="partita-test-")
os.environ.pop("G_DEBUG", None)
os.environ["LC_ALL"] = "C.UTF-8"
try:
    os.chdir(folder)
    fill_folder()
    main()
finally:
    os.chdir("/")
    shutil.rmtree(folder)
