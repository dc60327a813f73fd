"""The real gdb on a small guest with symbols and on an unmodified Debian kernel."""

import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import (LIMIT, Failure, Machine, check, equal, guest_file, main,  # noqa: E402
                    wait_until)

GUEST = sys.argv.pop(1)  # folder with gdb.elf (multiboot, to run) and gdb.elf64 (symbols)


class Gdb:
    """gdb with commands through a pipe; each waits for its end and gives what was printed."""

    def __init__(self, symbols, device=None):
        self.text = ""
        self.process = subprocess.Popen(["gdb", "-nx", "-q", symbols], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.count = 0
        for setting in ("pagination off", "confirm off", "height 0", "width 0",
                        "remotetimeout 30", "tcp auto-retry off", "style enabled off"):
            self.run("set " + setting)
        if device:
            self.run("target remote " + device)

    def send(self, command):
        """Begins a command, for those that are interrupted."""
        self.count += 1
        self.process.stdin.write(("%s\necho \\nend-%d\\n\n" % (command, self.count)).encode())
        self.process.stdin.flush()

    def wait(self, limit=LIMIT):
        end = time.monotonic() + limit
        mark = "\nend-%d\n" % self.count
        while mark not in self.text:
            if not select.select([self.process.stdout], [], [], 0.1)[0]:
                if time.monotonic() > end:
                    raise Failure("gdb does not come back; it said: " + self.text[-2000:])
                continue
            data = self.process.stdout.read()
            if data == b"":
                raise Failure("gdb ended; it said: " + self.text[-2000:])
            self.text += (data or b"").decode(errors="replace")
        said, self.text = self.text.split(mark, 1)
        return said.replace("(gdb) ", "")

    def run(self, command):
        self.send(command)
        return self.wait()

    def expect(self, command, pattern):
        said = self.run(command)
        match = re.search(pattern, said)
        check(match, "%s: expected %r, gdb said:\n%s" % (command, pattern, said))
        return match

    def value(self, expression):
        return int(self.expect("p/d " + expression, r"= (-?\d+)").group(1))

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()


class Debugged(Machine):
    def __init__(self, description, args=()):
        super().__init__({**description, "gdb": {"type": "unix", "path": "gdb.sock"}}, args)
        self.gdb = os.path.join(self.dir.name, "gdb.sock")
        wait_until("the debugger's socket", lambda: os.path.exists(self.gdb) or self.process.poll())


def small(vps=1, args=(), **more):
    return Debugged({
        "partition": {"vps": vps, "backend": "soft", "hypervisor": "none"},
        "memory": {"size": "64M"},
        "boot": {"kernel": os.path.join(GUEST, "gdb.elf")},
        "devices": [{"id": "com1", "type": "uart16550", "chardev": {"type": "stdio"}},
                    {"id": "exit", "type": "debug-exit"}], **more}, args)


def symbols():
    return os.path.join(GUEST, "gdb.elf64")


def let_it_end(machine, gdb):
    """The guest goes on without a debugger, and ends."""
    gdb.run("delete")
    gdb.run("set var rounds_left = 3")
    gdb.run("set var spinning = 0")
    gdb.expect("detach", "detached")
    match = machine.wait_console(r"guest: done, (\d+) breakpoints, (\d+) traps")
    equal(machine.wait_exit(), 1, "exit status")
    return match


def breakpoints_and_steps():
    with small() as machine, Gdb(symbols()) as gdb:
        machine.wait_console("guest: ready")
        gdb.expect("target remote " + machine.gdb, "0x[0-9a-f]+ in|gdb-guest.c")
        gdb.expect("break innermost", "Breakpoint 1")
        first = int(gdb.expect("continue", r"Breakpoint 1, innermost \(n=(\d+)\)").group(1))
        again = int(gdb.expect("continue", r"Breakpoint 1, innermost \(n=(\d+)\)").group(1))
        equal(again, first + 1, "argument of the next call")
        trace = gdb.run("backtrace")
        frames = re.findall(r"#\d+ +(?:0x[0-9a-f]+ in )?(\w+) \(", trace)
        equal(frames[:4], ["innermost", "middle", "outer", "guest_main"], "backtrace")
        gdb.expect("step", "return n")
        gdb.expect("next", "^}|44|45|\\}")
        gdb.expect("finish", r"Value returned is \$\d+ = %d" % (2 * again + 1))
        before = gdb.value("$pc")
        gdb.run("stepi")
        check(0 < gdb.value("$pc") - before < 16, "stepi went from %#x to %#x"
              % (before, gdb.value("$pc")))
        gdb.expect("x/2i $pc", "=> 0x[0-9a-f]+ <middle")
        gdb.run("tbreak outer")
        gdb.expect("continue", "Breakpoint 1, innermost|outer")
        gdb.run("delete")
        gdb.run("tbreak outer")
        gdb.expect("continue", "outer")
        gdb.expect("next", "return result")  # over breakpoints of its own, in two calls
        count = gdb.value("int3_seen")
        gdb.run("break reads")
        gdb.run("continue")
        gdb.run("continue")
        equal(gdb.value("int3_seen"), count + 1, "the guest's own breakpoints, with one of ours set")
        let_it_end(machine, gdb)


def registers_and_memory():
    with small() as machine, Gdb(symbols(), machine.gdb) as gdb:
        gdb.run("break odd_after")
        gdb.expect("continue", "Breakpoint 1")
        said = gdb.run("info registers")
        for name in ("rax", "r15", "rip", "eflags", "cs", "ss", "fs_base", "gs_base", "k_gs_base",
                     "cr0", "cr3", "cr4", "cr8", "efer"):
            check(re.search(r"^%s +0x" % name, said, re.M), "info registers has no %s:\n%s"
                  % (name, said))
        equal(gdb.value("$cs"), 8, "$cs")
        equal(gdb.value("$cr3"), gdb.value("(long)&pml4"), "$cr3")
        gdb.expect("p $efer", "LME LMA NXE")
        gdb.expect("p $cr0", "PE .*PG")
        gdb.expect("stepi", "")
        gdb.expect("stepi", "")  # movsd vector, %xmm3
        gdb.expect("p $xmm3.v2_double[0]", r"= 1.5")
        gdb.run("set var $xmm3.v2_double[1] = -8")
        gdb.expect("p $xmm3.v2_double", r"\{1.5, -8\}")
        gdb.run("set var $r15 = 0x123456789abcdef0")
        gdb.run("set var $fs_base = 0x4000")
        gdb.run("maintenance flush register-cache")
        gdb.expect("p/x $r15", "0x123456789abcdef0")
        gdb.expect("p/x $fs_base", "0x4000")
        gdb.run("set var $r15 = 0")
        gdb.run("set var wide[3] = 0xfeedface")
        gdb.expect("x/gx &wide[3]", "0x00000000feedface")
        gdb.expect("p text_to", "a text that is moved")
        gdb.expect("p/x *(char *)odd_int3", "0xcc")
        gdb.expect("x/bx &odd_after", "0x90")
        gdb.expect("x/gx 0x7fff00000000", "Cannot access memory")
        gdb.expect("set var *(char *)0x7fff00000000 = 1", "Cannot access memory")
        gdb.expect("break *0x7fff00000000", "Breakpoint")
        gdb.expect("continue", "Cannot access memory|Cannot insert")
        gdb.run("delete")
        gdb.expect("set var $cs = 0x777", "")
        equal(gdb.value("$cs"), 8, "$cs after an impossible value")
        gdb.expect("monitor info registers", r"cr0 80010033")
        gdb.expect("monitor help", "system_reset")
        gdb.expect("monitor nonsense", "unknown command")
        let_it_end(machine, gdb)


def watchpoints():
    with small() as machine, Gdb(symbols(), machine.gdb) as gdb:
        gdb.run("tbreak outer")
        gdb.run("continue")
        gdb.expect("watch watched", "Hardware watchpoint")
        said = gdb.run("continue")
        match = re.search(r"Old value = (\d+)\s+New value = (\d+)", said)
        check(match, said)
        gdb.expect("continue", "New value = %d" % (int(match.group(2)) + 1))
        gdb.expect("info symbol $pc", "innermost")
        gdb.run("delete")
        gdb.expect("rwatch quiet", "read watchpoint")
        gdb.expect("continue", r"quiet\s+Value = 77")
        gdb.expect("info symbol $pc", "reads")
        gdb.run("delete")
        gdb.expect("awatch wide[1]", "access")
        gdb.expect("continue", "wide")
        gdb.run("delete")
        gdb.expect("watch text_to[5]", "Hardware")
        gdb.run("set var text_to[5] = 'X'")
        gdb.expect("continue", r"New value = 116 't'")  # within REP MOVSB
        check(gdb.value("$rcx") > 0, "REP MOVSB was not stopped half-way")
        gdb.run("delete")
        for n in range(5):
            gdb.run("hbreak *%d" % (0x400000 + n))
        gdb.expect("continue", "Could not insert hardware|too many|Cannot insert")
        gdb.run("delete")
        gdb.expect("hbreak middle", "Hardware assisted")
        gdb.expect("continue", "Breakpoint [0-9]+, middle")
        gdb.expect("continue", "Breakpoint [0-9]+, middle")
        gdb.expect("stepi", "middle|[0-9]")
        let_it_end(machine, gdb)


def odd_instructions():
    with small() as machine, Gdb(symbols(), machine.gdb) as gdb:
        gdb.run("break odd_movss")
        gdb.expect("continue", "Breakpoint 1")
        sizes = []
        for _ in range(3):
            before = gdb.value("$pc")
            gdb.run("stepi")
            sizes.append(gdb.value("$pc") - before)
        equal(sizes, [2, 2, 1], "steps over MOV SS and what follows it")
        gdb.run("set var text_to[0] = 0")
        gdb.run("stepi 3")
        at = gdb.value("$pc")
        equal(gdb.value("$ecx"), 21, "ECX")
        gdb.run("stepi")
        equal((gdb.value("$pc") == at, gdb.value("$ecx")), (True, 20), "one iteration of REP")
        gdb.run("stepi 20")
        equal(gdb.value("$pc"), gdb.value("(long)&odd_int3"), "RIP behind REP")
        gdb.expect("p text_to", "a text that is moved")
        count = gdb.value("int3_seen")
        gdb.run("stepi")  # the guest's own INT3: the handler is next
        gdb.expect("info symbol $pc", "trap_stubs")
        gdb.run("tbreak odd_after")
        gdb.expect("continue", "odd_after|breakpoint")
        equal(gdb.value("int3_seen"), count + 1, "the handler has run")
        equal(gdb.value("$pc"), gdb.value("(long)&odd_after"), "RIP")
        # RF and TF are the guest's: a step leaves them alone
        equal(gdb.value("$eflags & 0x10100"), 0, "TF and RF")
        gdb.run("set var $pc = *(long *)0x400000")
        gdb.run("set var $pc = &odd_after")
        ends = let_it_end(machine, gdb)
        equal(ends.group(2), "0", "traps that the guest did not ask for")


def threads():
    with small(4) as machine, Gdb(symbols()) as gdb:
        machine.wait_console("guest: ready")
        gdb.run("target remote " + machine.gdb)
        said = gdb.run("info threads")
        equal(re.findall(r'Thread (\d+) "vp(\d+)"', said),
              [("1", "0"), ("2", "1"), ("3", "2"), ("4", "3")], "info threads")
        equal(gdb.value("aps_up"), 3, "VPs that run")
        said = gdb.run("thread apply all backtrace 1")
        equal(len(re.findall("ap_main", said)), 3, "threads in ap_main")
        gdb.run("thread 1")
        gdb.run("break middle")
        # continue: all go on; step over a breakpoint: this thread alone
        for _ in range(20):
            gdb.expect("continue", "Breakpoint 1, middle")
        gdb.expect("thread", "Current thread is 1")
        gdb.run("delete")
        gdb.run("set scheduler-locking on")
        counts = [gdb.value("ap_count[%d]" % n) for n in (1, 2, 3)]
        gdb.run("thread 3")
        index = int(gdb.expect("frame function ap_main", r"index=(\d)").group(1))
        gdb.run("stepi 100")
        after = [gdb.value("ap_count[%d]" % n) for n in (1, 2, 3)]
        equal([n for n in (1, 2, 3) if after[n - 1] > counts[n - 1]], [index],
              "counters that went on while thread 3 alone was stepped")
        gdb.run("set scheduler-locking off")
        gdb.run("watch ap_count[%d]" % index)
        gdb.expect("continue", r"Thread 3 .*hit Hardware watchpoint")
        gdb.run("delete")
        gdb.run("break ap_main if 0")
        gdb.run("thread 1")
        let_it_end(machine, gdb)


def an_interrupt_stops_a_spinning_guest():
    with small(2) as machine, Gdb(symbols(), machine.gdb) as gdb:
        gdb.run("set var spinning = 1")
        gdb.run("delete")
        for _ in range(3):
            gdb.send("continue")
            time.sleep(0.5)
            said = gdb.interrupt()
            check("SIGINT" in said, "gdb said: " + said)
        before = gdb.value("spins")
        gdb.send("continue")
        time.sleep(0.3)
        gdb.interrupt()
        check(gdb.value("spins") > before, "the guest did not go on")
        gdb.run("thread 1")
        gdb.expect("backtrace", "spin")
        let_it_end(machine, gdb)


def nothing_is_reported_while_it_is_there():
    with small() as machine:
        monitor = machine.monitor()
        with Gdb(symbols(), machine.gdb) as gdb:
            gdb.run("break reads")
            gdb.expect("continue", "Breakpoint 1")
            tree = monitor.command("inspect", path="/partition/gdb")
            equal((tree["attached"], tree["stopped"], tree["listening"]), (True, True, True), "inspect")
            gdb.expect("stepi", "")
            gdb.run("delete")
            # a breakpoint is in the guest's memory when gdb is killed
            gdb.run("break innermost")
            gdb.run("set breakpoint always-inserted on")
            gdb.expect("continue", "Breakpoint")
            gdb.run("set var rounds_left = 50")
            gdb.run("set var int3_seen = 0")
            equal(monitor.command("query-status")["status"], "debug", "status")
        match = machine.wait_console(r"guest: done, (\d+) breakpoints, (\d+) traps")
        check(int(match.group(1)) in (49, 50, 51), "the guest saw %s breakpoints" % match.group(1))
        equal(machine.wait_exit(), 1, "exit status")
        equal(monitor.wait_event("HALT")["data"]["reason"], "debug-exit", "the first HALT")


def a_halt_is_handed_over():
    with small(**{"on-crash": "halt"}) as machine, Gdb(symbols(), machine.gdb) as gdb:
        monitor = machine.monitor()
        gdb.run("tbreak reads")
        gdb.run("continue")
        gdb.run("set var $rip = 0x7fff00000000")
        gdb.run("set var $rsp = 0x7fff00000000")
        gdb.expect("continue", "SIGSEGV")
        gdb.expect("continue", "SIGSEGV")  # it cannot go on
        equal(monitor.count("HALT"), 0, "HALT events while a debugger is there")
        equal(monitor.command("query-status")["status"], "debug", "status")
        check("debugger" in monitor.error("cont")["desc"], "cont was not refused")
        gdb.expect("detach", "detached")
        equal(monitor.wait_event("HALT")["data"]["reason"], "triple-fault", "HALT")
        equal(monitor.command("query-status")["status"], "guest-panicked", "status")


def others_have_the_monitor():
    """What a client does to a machine that the debugger holds leaves it held, and the debugger unharmed."""
    with small(2) as machine, Gdb(symbols()) as gdb:
        machine.wait_console("guest: ready")
        monitor = machine.monitor()
        gdb.run("target remote " + machine.gdb)
        gdb.run("hbreak innermost")
        gdb.expect("continue", "Breakpoint 1, innermost")
        for name in "pulse-save-restore", "stop":
            monitor.command(name)
        check("state \"debug\"" in monitor.error("clear-halt")["desc"], "clear-halt was not refused")
        check("state \"debug\"" in monitor.error("cont")["desc"], "cont was not refused")
        check("debugger" in monitor.error("qom-set", path="/partition", property="clear-halt",
                                          value=True)["desc"], "setting clear-halt was not refused")
        equal(monitor.command("query-status")["status"], "debug", "status")
        gdb.expect("flushregs", "flushed")
        gdb.expect("p $pc", "innermost")
        gdb.run("set var $rax = 77")
        equal(gdb.value("$rax"), 77, "$rax")
        gdb.expect("continue", "Breakpoint 1, innermost")
        monitor.command("system_reset")
        equal(monitor.command("query-status")["status"], "debug", "status after a reset")
        check(not monitor.command("inspect", path="/partition")["running"], "the VPs run")
        gdb.run("flushregs")
        check(gdb.value("$cr0") & 0x80000000 == 0, "$cr0 is not that of the first instruction")
        gdb.run("set var $rax = 0x2badb002")  # as the loader has it
        gdb.expect("continue", "Breakpoint 1, innermost")
        gdb.run("delete")
        gdb.expect("detach", "detached")
        equal(monitor.command("query-status")["status"], "running", "status at the end")
        equal(monitor.count("HALT"), 0, "HALT events")


def from_the_first_instruction_by_tcp():
    with small(args=("--paused",)) as machine:
        monitor = machine.monitor()
        check("already" in monitor.error("gdbserver", device="tcp::0")["desc"], "no refusal")
        monitor.command("gdbserver", device="none")
        check(not os.path.exists(machine.gdb), "the socket is still there")
        for bad in ("tcp:1234", "tcp::99999", "tcp::-1", "tcp::x", "unix:", "pty", ""):
            check("expected" in monitor.error("gdbserver", device=bad)["desc"], bad)
        for bad in ("tcp:0.0.0.0:0", "tcp:10.0.0.1:0", "tcp:example.com:1", "tcp:[::]:1"):
            check("127.0.0.0/8" in monitor.error("gdbserver", device=bad)["desc"], bad)
        answer = monitor.command("gdbserver", device="tcp:localhost:0")
        match = re.fullmatch(r"tcp:127\.0\.0\.1:(\d+)", answer["device"])
        check(match, "gdbserver: %s" % answer)
        browser = socket.create_connection(("127.0.0.1", int(match.group(1))))
        browser.settimeout(LIMIT)
        browser.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n$vKill;1#6e")
        try:
            equal(browser.recv(100), b"", "the end of what a browser says")
        except ConnectionResetError:
            pass
        browser.close()
        with Gdb(symbols(), "localhost:" + match.group(1)) as gdb:
            equal(gdb.value("$pc"), gdb.value("(long)&start"), "RIP at the beginning")
            equal(monitor.command("query-status")["status"], "prelaunch", "status")
            second = socket.create_connection(("127.0.0.1", int(match.group(1))))
            second.settimeout(LIMIT)
            check(b"E.another debugger is attached" in second.recv(100), "no refusal")
            equal(second.recv(100), b"", "end of the second connection")
            second.close()
            gdb.expect("hbreak guest_main", "Hardware assisted")
            gdb.expect("continue", "guest_main")
            equal(monitor.command("query-status")["status"], "debug", "status")
            gdb.run("delete")
            gdb.send("continue")
            machine.wait_console("guest: ready")
            equal(monitor.command("query-status")["status"], "running", "status")
            monitor.command("stop")
            gdb.interrupt()
            equal(monitor.command("query-status")["status"], "paused", "status")
            gdb.send("continue")
            wait_until("the machine", lambda: monitor.command("query-status")["running"])
            gdb.interrupt()
            gdb.expect("hbreak guest_main", "Hardware assisted")
            gdb.expect("monitor system_reset", "was reset")
            gdb.run("maintenance flush register-cache")
            equal(gdb.value("$pc"), gdb.value("(long)&start"), "RIP after a reset")
            gdb.expect("continue", "guest_main")
            gdb.expect("kill", "killed")
        equal(machine.wait_exit(), 0, "exit status")


def garbage_on_the_socket():
    with small() as machine:
        machine.wait_console("guest: ready")
        monitor = machine.monitor()

        def ask(sock, data, pattern):
            sock.sendall(data)
            said = b""
            while not re.search(pattern, said):
                more = sock.recv(65536)
                check(more, "it hung up after %r, having said %r" % (data[:40], said))
                said += more

        for _ in range(3):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(LIMIT)
            sock.connect(machine.gdb)
            ask(sock, b"\0\xff\r\nGET / HTTP/1.0\r\n\r\n$$$#$qC#00", rb"-")
            ask(sock, b"$" + b"m" * 100000 + b"#%02x" % (0x6d * 100000 & 255), rb"\$E07#")
            ask(sock, b"$qC#b4", rb"\$QC1#c5")
            ask(sock, b"$m" + b"f" * 17 + b",1#%02x" % ((0x6d + 0x66 * 17 + 0x2c + 0x31) & 255), rb"\$E16#")
            ask(sock, b"$Z0,400077,1#%02x" % (sum(b"Z0,400077,1") & 255), rb"\$OK#")
            ask(sock, b"$vCont;c#a8", rb"\+")
            sock.close()  # in the middle of it
            wait_until("the end of the session",
                       lambda: not monitor.command("inspect", path="/partition/gdb")["attached"])
        with Gdb(symbols(), machine.gdb) as gdb:
            let_it_end(machine, gdb)


def who_says_nothing_stops_nothing():
    with small() as machine:
        machine.wait_console("guest: ready")
        monitor = machine.monitor()
        monitor.command("gdbserver", device="none")
        where = monitor.command("gdbserver", device="tcp::0")
        port = int(where["device"].rsplit(":", 1)[1])
        silent = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(3)]
        time.sleep(0.2)
        equal(monitor.command("query-status")["status"], "running", "status")
        equal(monitor.command("inspect", path="/partition/gdb")["attached"], False, "attached")
        for sock in silent[:2]:  # each made way for the next one
            equal(sock.recv(1), b"", "what a silent client hears")
        browser = socket.create_connection(("127.0.0.1", port), LIMIT)
        browser.sendall(b"GET / HTTP/1.1\r\n\r\n")
        equal(browser.recv(1), b"", "what a browser hears")
        equal(monitor.command("query-status")["status"], "running", "status")
        with Gdb(symbols(), "127.0.0.1:%d" % port) as gdb:
            equal(monitor.command("query-status")["status"], "debug", "status")
            late = socket.create_connection(("127.0.0.1", port), LIMIT)
            check(b"another debugger" in late.recv(100), "a second debugger is told")
            let_it_end(machine, gdb)


def a_script_in_batch_mode():
    with small() as machine, tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
        script.write("set pagination off\ntarget remote %s\nbreak middle\ncontinue\nbacktrace\n"
                     "delete\nset var rounds_left = 2\ndetach\n" % machine.gdb)
        script.flush()
        said = subprocess.run(["gdb", "-nx", "-batch", "-x", script.name, symbols()], timeout=LIMIT,
                              capture_output=True, text=True).stdout
        check(re.search(r"#2 .* in guest_main|#1 .* in outer", said), said)
        machine.wait_console("guest: done")
        equal(machine.wait_exit(), 1, "exit status")


# ---- an unmodified kernel ----

def debian(vps=1, disk=None, args=()):
    devices = [{"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}},
               {"id": "rng0", "type": "virtio-rng"}]
    if disk:
        devices.append({"id": "disk0", "type": "virtio-blk", "block": {"type": "file", "path": disk}})
    return Debugged({
        "partition": {"vps": vps, "backend": "soft", "cpu-model": "x86-64-v1", "hypervisor": "hyperv"},
        "memory": {"size": "256M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": guest_file("initrd.img"),
                 "cmdline": "console=ttyS0 panic=0 nokaslr partita.mode=shell"},
        "devices": devices}, args)


def make_kallsyms(path):
    """What the kernel itself says of its symbols: booted once, kept."""
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk.img")
        with open(disk, "wb") as out:
            out.truncate(16 << 20)
        with debian(disk=disk) as machine:
            machine.wait_console("exit powers it off")
            machine.shell("stty -echo")
            machine.shell("cat /proc/kallsyms > /dev/vda; sync")
            machine.type("poweroff -f\n")
            equal(machine.wait_exit(), 0, "exit status")
        with open(disk, "rb") as file:
            text = file.read().rstrip(b"\0")
    check(text.count(b"\n") > 10000, "kallsyms is too short")
    new = "%s.%d" % (path, os.getpid())
    with open(new, "wb") as out:
        out.write(text)
    os.rename(new, path)


def kernel_symbols():
    """An ELF file with the kernel's symbols; its sections have no contents."""
    path = guest_file("gdb-kallsyms")
    if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(guest_file("vmlinuz")):
        make_kallsyms(path)
    table = []
    with open(path) as file:
        for line in file:
            words = line.split()
            if len(words) == 3 and words[1] in "tTwWdDbBrR" and int(words[0], 16) >> 31 == 0x1ffffffff:
                table.append((int(words[0], 16), words[1] in "tTwW", words[2]))
    table.sort()
    names = bytearray(b"\0")
    symtab = bytearray(24)
    for n, (address, code, name) in enumerate(table):
        size = min(table[n + 1][0] - address, 0xffff) if n + 1 < len(table) else 0
        symtab += struct.pack("<IBBHQQ", len(names), 0x12 if code else 0x11, 0, 1, address, size)
        names += name.encode() + b"\0"
    code_start = table[0][0]
    strings = b"\0.text\0.symtab\0.strtab\0.shstrtab\0"
    at = 64
    headers = [(0,) * 10,
               (strings.index(b".text"), 8, 6, code_start, at, table[-1][0] + 1 - code_start,
                0, 0, 16, 0),
               (strings.index(b".symtab"), 2, 0, 0, at, len(symtab), 3, 1, 8, 24),
               (strings.index(b".strtab"), 3, 0, 0, at + len(symtab), len(names), 0, 0, 1, 0),
               (strings.index(b".shstrtab"), 3, 0, 0, at + len(symtab) + len(names), len(strings),
                0, 0, 1, 0)]
    start = at + len(symtab) + len(names) + len(strings)
    out = tempfile.NamedTemporaryFile(prefix="vmlinux-", suffix=".symbols")
    out.write(b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, code_start, 0,
                                                         start, 0, 64, 0, 0, 64, len(headers), 4))
    out.write(symtab + names + strings)
    for header in headers:
        out.write(struct.pack("<IIQQQQIIQQ", *header))
    out.flush()
    return out


def a_kernel_that_boots(vps):
    with kernel_symbols() as symbol_file, debian(vps, args=("--paused",)) as machine, \
            Gdb(symbol_file.name, machine.gdb) as gdb:
        # Its code is not unpacked yet: only a hardware breakpoint waits for it.
        gdb.expect("hbreak *start_kernel", "Hardware assisted")
        gdb.expect("continue", "Breakpoint 1, .*start_kernel")
        check(gdb.value("$cr3") & 0xfff == 0, "$cr3")
        gdb.run("delete")
        gdb.expect("break *rest_init", "Breakpoint")
        gdb.expect("continue", "Breakpoint [0-9]+, .*rest_init")
        check("Linux version" in machine.text, "start_kernel has said nothing")
        gdb.expect("backtrace 2", r"#1 .* in (arch_call_rest_init|start_kernel)")
        gdb.expect("x/i $pc", "=> 0xffffffff[0-9a-f]+ <rest_init>:")
        gdb.expect("stepi", "__fentry__|rest_init")
        gdb.run("delete")
        gdb.expect("break *vfs_read", "Breakpoint")
        gdb.expect("continue", "Breakpoint [0-9]+, .*vfs_read")
        gdb.expect("backtrace 2", r"#1 .* in (ksys_read|kernel_read|__kernel_read)")
        check(gdb.value("$gs_base") != 0, "$gs_base")
        for _ in range(3):
            gdb.expect("continue", "vfs_read")
        gdb.run("delete")
        gdb.expect("watch *(unsigned long *)&jiffies_64", "Hardware watchpoint")
        said = gdb.run("continue")
        values = [int(value) for value in re.findall(r"(?:Old|New) value = (\d+)", said)]
        check(len(values) == 2 and values[1] > values[0], "watch jiffies_64: " + said)
        gdb.expect("backtrace 1", "do_timer|tick_do_update|tick")
        gdb.run("delete")
        gdb.send("continue")
        machine.wait_console("exit powers it off")
        said = gdb.interrupt()
        check("SIGINT" in said, said)
        equal(len(re.findall('"vp', gdb.run("info threads"))), vps, "threads")
        gdb.expect("detach", "detached")
        machine.shell("stty -echo")
        equal(re.findall(r"cpus=(\d+)", machine.shell("echo cpus=$(nproc)")), [str(vps)], "nproc")
        machine.type("exit\n")
        equal(machine.wait_exit(), 0, "exit status")


def a_debian_kernel():
    a_kernel_that_boots(1)


def a_debian_kernel_on_two_vps():
    a_kernel_that_boots(2)


def a_reboot_under_the_debugger():
    with kernel_symbols() as symbol_file, debian() as machine, Gdb(symbol_file.name) as gdb:
        machine.wait_console("exit powers it off")
        gdb.run("target remote " + machine.gdb)
        gdb.send("continue")
        start = len(machine.text)
        machine.type("reboot -f\n")
        check("SIGHUP" in gdb.wait(), "gdb did not hear of the reset")
        gdb.expect("hbreak *rest_init", "Hardware")
        gdb.expect("continue", "rest_init")
        check("Linux version" in machine.text[start:], "the kernel was not started again")
        gdb.run("delete")
        gdb.expect("detach", "detached")
        machine.wait_console("exit powers it off", start)
        monitor = machine.monitor()
        equal(monitor.command("query-status")["status"], "running", "status")
        monitor.command("quit")
        equal(machine.wait_exit(), 0, "exit status")


def a_power_off_ends_the_session():
    with kernel_symbols() as symbol_file, debian() as machine, Gdb(symbol_file.name) as gdb:
        machine.wait_console("exit powers it off")
        gdb.run("target remote " + machine.gdb)
        gdb.run("break *do_sys_openat2")
        gdb.send("continue")
        machine.type("cat /proc/version\n")
        check("do_sys_openat2" in gdb.wait(), "no breakpoint")
        gdb.expect("backtrace 2", r"#1 .* in .*sys_open")
        gdb.run("delete")
        gdb.send("continue")
        machine.type("poweroff -f\n")
        check("exited normally" in gdb.wait(), "gdb did not hear of the end")
        equal(machine.wait_exit(), 0, "exit status")


if __name__ == "__main__":
    cases = [breakpoints_and_steps, registers_and_memory, watchpoints, odd_instructions, threads,
             an_interrupt_stops_a_spinning_guest, nothing_is_reported_while_it_is_there,
             a_halt_is_handed_over, others_have_the_monitor, from_the_first_instruction_by_tcp,
             garbage_on_the_socket, who_says_nothing_stops_nothing, a_script_in_batch_mode]
    if os.path.exists(guest_file("vmlinuz")) and os.path.exists(guest_file("initrd.img")):
        cases += [a_debian_kernel, a_debian_kernel_on_two_vps, a_reboot_under_the_debugger,
                  a_power_off_ends_the_session]
    main(cases)
