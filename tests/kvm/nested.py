"""Real KVM on any host: QEMU's TCG emulates a CPU with AMD's SVM, and on it Debian's kernel with kvm-amd
is the *first level*, in which tests run `partita` with /dev/kvm; its guests are the second level.

The first level has an initramfs that is put together here: busybox, the programs under test at the
paths that they have on this host, with the libraries that the loader names, python3 with the
modules that tests import, and the tests' own files. Four serial ports go in and out:

    ttyS0  the kernel's console and what the tests write to standard error: a log
    ttyS1  results: lines of TAP, each behind the name of its job
    ttyS2  what was left in /out, as a tar archive, at the end

All jobs of one boot are in a few lanes, which run side by side. A job's TAP becomes ours: numbered anew,
behind the job's name, and one more result says whether it came to its end. Nothing here can hang: the
whole boot has a time limit, and what has not come by then is a failure.

The emulated CPU is not faultless. An interrupt that VMRUN has injected is injected once more if QEMU is
asked meanwhile to leave the guest (helper_vmrun() leaves it in exception_index), so that a handler is entered
with IF clear; and a #VMEXIT can make QEMU forget an interrupt of the first level itself (interrupt_request is
changed without its lock). So guests panic, end in a triple fault or hang whatever runs them, and now and then
nothing goes on in the first level; more often with a thread for each processor, which is hardly faster here.
A job that fails is run again in another boot, and what failed is shown; a test fails that fails TRIES times.
"""

import os
import re
import select
import stat
import subprocess
import sys
import tempfile
import time

SRC = os.path.abspath(os.environ.get("abs_srcdir") or os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("abs_builddir") or ".")
CACHE = os.path.abspath(os.environ.get("PTA_CACHE") or os.path.join(SRC, ".cache"))
GUEST = os.path.join(CACHE, "guest")
MODULES = os.path.join(GUEST, "kvm-modules")
# The whole boot; a run takes a fraction of it on an idle machine.
LIMIT = float(os.environ.get("PTA_NESTED_LIMIT", "900"))
# Without a word of the first level, which says every two seconds that it lives.
SILENCE = 40
BOOTS = 8
TRIES = 6
# What the tests import. Compiled here: in the first level that would take longer than the tests.
PYTHON_MODULES = ("encodings.ascii encodings.latin_1 fcntl json os re select signal socket struct subprocess "
                  "sys tempfile threading time traceback").split()
# Where the sources, the build and the cache are in the first level.
IN_SRC, IN_BUILD, IN_CACHE = "/pta/src", "/pta/build", "/pta/cache"


def skip_all(reason):
    print("1..0 # SKIP " + reason)
    sys.exit(0)


def which(name):
    for folder in os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def python_program():
    """Debian's if it is there, so that gdb, which has its own, finds the same modules."""
    return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


def prerequisites():
    """Skips the whole test if something is missing."""
    if os.uname().machine != "x86_64":
        skip_all("the first level's programs are this host's, and that is no x86-64")
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"), ("ldd", "libc-bin")):
        if not which(program):
            skip_all("no %s (Debian: %s)" % (program, package))
    for need in ("vmlinuz", "busybox", "kvm-modules/order"):
        if not os.path.exists(os.path.join(GUEST, need)):
            skip_all("no %s (tests/lib/guest-files.sh .cache makes it)" % os.path.join(GUEST, need))
    partita = os.path.join(BUILD, "partita")
    with open(partita, "rb") as file:
        sanitized = re.search(rb"__(asan|tsan)_init", file.read())
    if sanitized and os.environ.get("PTA_NESTED_SANITIZED") != "1":
        skip_all("a build with sanitizers takes too long in an emulated machine "
                 "(PTA_NESTED_SANITIZED=1 runs it all the same)")


class Tree:
    """The first level's root file system; written as an archive of cpio's `newc` kind."""

    def __init__(self):
        self.entries = {}
        for folder in ("dev", "proc", "sys", "tmp", "out", "root", "run", "etc"):
            self.folder("/" + folder)

    def folder(self, path):
        if path not in ("", "/") and path not in self.entries:
            self.folder(os.path.dirname(path))
            self.entries[path] = (stat.S_IFDIR | 0o755, b"")

    def data(self, path, data, mode=0o644):
        self.folder(os.path.dirname(path))
        self.entries[path] = (stat.S_IFREG | mode, data)

    def file(self, path, source):
        with open(source, "rb") as file:
            self.data(path, file.read(), 0o755 if os.access(source, os.X_OK) else 0o644)

    def link(self, path, to):
        self.folder(os.path.dirname(path))
        self.entries[path] = (stat.S_IFLNK | 0o777, to.encode())

    def files(self, path, source, keep=lambda name: True):
        """A folder with all that is in it."""
        for folder, _, names in os.walk(source):
            for name in names:
                if keep(name):
                    own = os.path.join(folder, name)
                    self.file(os.path.join(path, os.path.relpath(own, source)), own)

    def libraries(self, source):
        done = subprocess.run(["ldd", source], capture_output=True, text=True)
        if "not found" in done.stdout:
            raise OSError("%s lacks a library: %s" % (source, done.stdout))
        for library in re.findall(r"(/\S+) \(0x", done.stdout):
            if library not in self.entries:
                self.file(library, library)

    def lazy_libraries(self):
        """Those that partita opens when it wants them (src/util/lazy-lib.h)."""
        with open(os.path.join(SRC, "src/boot/decompress.c")) as file:
            names = re.findall(r'"(lib[a-z0-9]+\.so[.0-9]*)"', file.read())
        done = subprocess.run([which("ldconfig"), "-p"], capture_output=True, text=True, check=True)
        for name in names:
            path = re.search(r"^\t%s \(libc6,x86-64.*=> (\S+)" % re.escape(name), done.stdout, re.M).group(1)
            if path not in self.entries:
                self.file(path, path)

    def program(self, source, path=None):
        """A program at the path it has here, or another, and its libraries and loader."""
        self.file(path or source, source)
        self.libraries(source)

    def python(self, more=()):
        """The interpreter, the modules of PYTHON_MODULES and all that those import, other modules' files."""
        program = python_program()
        self.program(program)
        self.link("/bin/python3", program)
        script = ("import sys, py_compile as p, importlib.util as u, %s\n"
                  "files = [getattr(m, '__file__', None) for m in list(sys.modules.values())]\n"
                  "for f in filter(None, files + sys.argv[2:]):\n"
                  "    if f.endswith('.py'):\n"
                  "        c = u.cache_from_source(f)\n"
                  "        t = sys.argv[1] + c\n"
                  "        p.compile(f, t, f, True, invalidation_mode=p.PycInvalidationMode.UNCHECKED_HASH)\n"
                  "        print(f, c, t)\n"
                  "    else: print(f)\n" % ", ".join(PYTHON_MODULES))
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([program, "-I", "-c", script, folder, *more], check=True, capture_output=True,
                                  text=True)
            for line in done.stdout.splitlines():
                words = line.split()
                self.file(words[0], words[0])
                if len(words) == 3:
                    self.file(words[1], words[2])
                else:
                    self.libraries(words[0])
        # Python looks for this folder, empty or not, to know where it is installed.
        self.folder(next(os.path.dirname(path) for path in self.entries if path.endswith("/os.py")) +
                    "/lib-dynload")

    def write(self, path):
        with open(path, "wb") as out:
            number = 0
            for name, (mode, data) in [*sorted(self.entries.items()), ("TRAILER!!!", (0, b""))]:
                number += 1
                name = name.lstrip("/").encode() + b"\0"
                links = 2 if stat.S_ISDIR(mode) else 1
                fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
                head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
                out.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))


INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/sbin:/usr/bin:/bin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t devpts devpts /dev/pts
ip link set lo up
while read -r module; do insmod /lib/modules/$module; done </lib/modules/order
ln -s /proc/self/fd /dev/fd
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
exec 3>/dev/ttyS1 </dev/null
echo "@ up $(cut -d ' ' -f 1 /proc/uptime) $(ls /dev/kvm 2>&1)" >&3
(while sleep 2; do echo "@ beat" >&3; done) &
beat=$!
lanes=
for lane in /etc/lanes/*; do
    # A session each: so the scheduler shares the CPUs out among lanes, not among threads.
    setsid sh -c ". /etc/environment; . /etc/job; . $lane" &
    lanes="$lanes $!"
done
wait $lanes
kill $beat
[ -z "$(ls /out)" ] || tar -c -C /out . >/dev/ttyS2
echo "@ done $(cut -d ' ' -f 1 /proc/uptime)" >&3
exec 3>&- # waits until all is written
poweroff -f
"""

JOB = """# job NAME COMMAND...: in a folder of its own, its lines behind its name.
job() {
    name=$1
    shift
    echo "@ begin $name" >&3
    mkdir -p /tmp/$name && cd /tmp/$name
    { "$@"; echo "@ end $?"; } | awk -v name="$name" '{ print name "|" $0; fflush() }' >&3
    cd /
    rm -rf /tmp/$name
}
"""


class Result:
    """Our TAP, made of that of all jobs."""

    def __init__(self):
        self.number = 0
        self.failed = 0

    def line(self, good, text):
        self.number += 1
        self.failed += not good
        print("%s %d - %s" % ("ok" if good else "not ok", self.number, text), flush=True)

    def plan(self):
        print("1..%d" % self.number, flush=True)


class Job:
    """What has been heard of a job in this boot; told when it has come to its end."""

    def __init__(self, name, command, lane, quiet):
        self.name, self.command, self.lane, self.quiet = name, command, lane, quiet
        self.tries = 0
        self.passed = set()  # in an earlier try
        self.begin()

    def begin(self):
        self.lines = []
        self.status = None

    def failures(self, excuse):
        """Its lines that say so, without tests that have passed in an earlier try."""
        bad, good, seen, planned, complaints = [], set(), 0, None, 0
        for line in self.lines:
            test = re.match(r"(ok|not ok)\b *\d*(?: - )?(.*)", line)
            plan = re.match(r"1\.\.(\d+)", line)
            seen += bool(test)
            planned = int(plan.group(1)) if plan else planned
            if test and test.group(1) == "ok":
                good.add(test.group(2))
            elif test:
                complaints += 1
                if test.group(2) not in self.passed and excuse(self.name, test.group(2)) is None:
                    bad.append(line)
        if planned != seen or (self.status != 0 and not complaints):
            bad.append("status %s; %d of %s tests" % (self.status, seen, planned))
        self.passed |= good
        return [] if self.quiet else bad

    def hear(self, line):
        end = re.fullmatch(r"@ end (\d+)", line)
        if end:
            self.status = int(end.group(1))
        else:
            self.lines.append(line)

    def tell(self, result, excuse):
        seen, planned, skipped, complaints = 0, None, None, 0
        if self.quiet:
            for line in self.lines:
                if not re.match(r"(not )?ok |1\.\.", line):
                    print("# %s: %s" % (self.name, line), flush=True)
            return
        for line in self.lines:
            test = re.match(r"(ok|not ok)\b *\d*(?: - )?(.*)", line)
            plan = re.match(r"1\.\.(\d+)(?: # SKIP (.*))?$", line)
            if test:
                seen += 1
                text, good = test.group(2), test.group(1) == "ok"
                complaints += not good
                if not good and text in self.passed:
                    result.line(True, "%s: %s (in another boot)" % (self.name, text))
                    continue
                reason = None if good else excuse(self.name, text)
                result.line(good or reason is not None, "%s: %s%s" % (
                    self.name, text, " # SKIP " + reason if reason else ""))
            elif plan:
                planned, skipped = int(plan.group(1)), plan.group(2)
            elif line.strip():
                print("# %s: %s" % (self.name, line.lstrip("# ")), flush=True)
        if skipped is not None and planned == 0:
            result.line(True, "%s # SKIP %s" % (self.name, skipped))
        else:
            good = planned == seen and seen > 0 and (self.status == 0 or complaints > 0)
            result.line(good, "%s: comes to its end" % self.name)
            if not good:
                print("# status %s; %d of %s tests" % (self.status, seen, planned))


class FirstLevel:
    """One boot: add files to `tree` and jobs, then run()."""

    def __init__(self, memory=1536):
        self.memory = memory
        self.tree = Tree()
        self.jobs = {}
        self.environment = {
            "abs_srcdir": IN_SRC, "srcdir": IN_SRC, "builddir": IN_BUILD, "abs_builddir": IN_BUILD,
            "PTA_CACHE": IN_CACHE, "G_DEBUG": "fatal-warnings", "PYTHONDONTWRITEBYTECODE": "1",
            "ASAN_OPTIONS": "detect_leaks=0",
            "PTA_TEST_BACKEND": os.environ.get("PTA_TEST_BACKEND", "kvm")}
        self.tree.file("/bin/busybox", os.path.join(GUEST, "busybox"))
        self.tree.files("/lib/modules", MODULES)
        self.tree.program(os.path.join(BUILD, "partita"), IN_BUILD + "/partita")
        self.tree.lazy_libraries()

    def source(self, *names):
        """Files of the source tree, at the same place."""
        for name in names:
            self.tree.file(os.path.join(IN_SRC, name), os.path.join(SRC, name))

    def guest(self, *names):
        for name in names:
            self.tree.file(os.path.join(IN_CACHE, "guest", name), os.path.join(GUEST, name))

    def gdb(self):
        """The real gdb, and what tests/guests/gdb.py debugs, in /gdb; whether it is there. Gives what it
        needs of Python."""
        gdb = which("gdb")
        if not gdb:
            return None
        with tempfile.TemporaryDirectory(prefix="partita-gdb-") as folder:
            done = subprocess.run(["sh", os.path.join(SRC, "tests/guests/test-gdb.sh"), "--keep", folder],
                                  env={**os.environ, "srcdir": SRC}, stdout=subprocess.DEVNULL)
            if done.returncode != 0 or not os.path.exists(folder + "/gdb.elf"):
                return None
            for name in ("gdb.elf", "gdb.elf64"):
                self.tree.file("/gdb/" + name, os.path.join(folder, name))
        self.tree.program(gdb, "/usr/bin/gdb")
        done = subprocess.run(
            [gdb, "-nx", "-q", "-batch", "-ex", "python import sys; print('\\n'.join(m.__file__ for m in "
             "list(sys.modules.values()) if getattr(m, '__file__', None)))"], capture_output=True, text=True)
        return [line for line in done.stdout.splitlines()
                if line.startswith("/") and "dist-packages" not in line and os.path.exists(line)]

    def job(self, name, command, lane=0, quiet=False):
        """Jobs of a lane run in the order in which they are added. No results come of one that is quiet."""
        self.jobs[name] = Job(name, command, lane, quiet)

    def command(self, folder):
        ports = []
        for port in ("console", "results", "files"):
            ports += ["-chardev", "file,id=%s,path=%s/%s" % (port, folder, port), "-serial",
                      "chardev:" + port]
        return [which("qemu-system-x86_64"), "-M", "q35", "-accel", "tcg,thread=single,tb-size=512",
                "-cpu", os.environ.get("PTA_NESTED_CPU", "EPYC"), "-smp", "2", "-m", str(self.memory),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", *ports,
                "-kernel", os.path.join(GUEST, "vmlinuz"), "-initrd", folder + "/initrd",
                "-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check"]

    def run(self, result, excuse=lambda name, text: None):
        """Boots, and tells the results of all jobs; the caller prints the plan. Again for what was not done
        when the first level died, and for what failed."""
        environment = "".join("export %s='%s'\n" % pair for pair in sorted(self.environment.items()))
        self.tree.data("/etc/environment", environment.encode())
        self.tree.data("/etc/job", JOB.encode())
        self.tree.data("/init", INIT.encode(), 0o755)
        begin = time.monotonic()
        todo = list(self.jobs.values())
        with tempfile.TemporaryDirectory(prefix="partita-nested-") as folder:
            if os.environ.get("PTA_NESTED_KEEP"):
                folder = os.environ["PTA_NESTED_KEEP"]
                os.makedirs(folder, exist_ok=True)
            for boot in range(1, BOOTS + 1):
                for job in todo:
                    job.begin()
                self.again = []
                dead = self.boot(folder, todo, result, excuse)
                undone = [job for job in todo if job.status is None]
                if dead:
                    print("# the first level is dead (%s), boot %d of at most %d; not done: %s"
                          % (dead, boot, BOOTS, " ".join(job.name for job in undone)), flush=True)
                    self.show(folder)
                todo = undone + self.again if dead else self.again
                if not dead:
                    for job in undone:
                        job.tell(result, excuse)
                if not todo:
                    break
            for job in todo:
                job.tell(result, excuse)
            if result.failed:
                self.show(folder)
        print("# %.1f s in all" % (time.monotonic() - begin))

    def show(self, folder):
        print("# the first level's console:")
        for name in ("qemu.log", "console"):
            with open(os.path.join(folder, name), errors="replace") as file:
                lines = [line for line in file.read().splitlines() if "TCG doesn't support" not in line]
                for line in lines[-60:]:
                    print("#   " + line)

    def boot(self, folder, jobs, result, excuse):
        """One boot with these jobs; why the first level died, if it did."""
        for path in [path for path in self.tree.entries if path.startswith("/etc/lanes/")]:
            del self.tree.entries[path]
        for lane in {job.lane for job in jobs}:
            text = "".join("job %s %s\n" % (job.name, job.command) for job in jobs if job.lane == lane)
            self.tree.data("/etc/lanes/%d" % lane, text.encode())
        self.tree.write(folder + "/initrd")
        if os.path.exists(folder + "/results"):
            os.unlink(folder + "/results")
        os.mkfifo(folder + "/results")
        results = os.open(folder + "/results", os.O_RDONLY | os.O_NONBLOCK)
        with open(folder + "/qemu.log", "wb") as log:
            process = subprocess.Popen(self.command(folder), stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log)
        try:
            return self.listen(results, process, folder, result, excuse)
        finally:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(results)

    def listen(self, results, process, folder, result, excuse):
        """Lines of the results until the last one; why the first level died."""
        begin = beat = time.monotonic()
        text = b""
        while time.monotonic() - begin < LIMIT:
            ready = select.select([results], [], [], 0.2)[0]
            data = os.read(results, 65536) if ready else b""
            if not data:
                now = time.monotonic()
                if process.poll() is not None and now - begin > 1:
                    return "QEMU ended with status %d" % process.returncode
                if now - beat > SILENCE:
                    return "not a word for %d s" % SILENCE
                if now - beat > 10 and self.stalled(folder):
                    return "its kernel tells of stalls"
                time.sleep(0.05)
                continue
            beat = time.monotonic()
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                if self.hear(line.decode(errors="replace").rstrip("\r"), beat - begin, result, excuse):
                    return None
        print("# not all was done within %g s" % LIMIT)
        return None

    def ended(self, job, result, excuse):
        job.tries += 1
        bad = job.failures(excuse)
        if not bad or job.tries == TRIES:
            job.tell(result, excuse)
            return
        self.again.append(job)
        print("# %s: failed, try %d of at most %d:" % (job.name, job.tries, TRIES))
        for line in bad + [line for line in job.lines if line.startswith("#")][-20:]:
            print("#   " + line, flush=True)

    def stalled(self, folder):
        with open(folder + "/console", errors="replace") as file:
            return bool(re.search(r"soft lockup|rcu: INFO: .*stall", file.read()))

    def hear(self, line, now, result, excuse):
        name, _, rest = line.partition("|")
        if name in self.jobs and rest:
            job = self.jobs[name]
            job.hear(rest)
            if job.status is not None:
                self.ended(job, result, excuse)
        elif line.startswith("@ ") and line != "@ beat":
            print("# [%.1f s] first level: %s" % (now, line[2:]), flush=True)
            return line.startswith("@ done")
        return False
