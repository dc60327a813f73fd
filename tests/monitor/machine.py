"""`partita run`, `monitor` and `inspect` together, seen from outside. Prints TAP.

usage: machine.py PARTITA FOLDER   (FOLDER has the guest that guest.S makes)
"""
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time

PARTITA = os.path.abspath(sys.argv[1])
FOLDER = sys.argv[2]
TIMEOUT = 60  # of anything; a loaded machine under a sanitizer is slow

os.chdir(FOLDER)
os.environ.update(LC_ALL="C.UTF-8", TERM="xterm", XDG_STATE_HOME=FOLDER, HOME=FOLDER)
os.environ.pop("G_DEBUG", None)  # warnings are part of what is tested


class Client:
    """A socket of JSON lines; events are put aside."""

    def __init__(self, path="vm.sock", qmp=True):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(path)
        self.file = self.sock.makefile("r", encoding="ascii", newline="\n")
        self.events = []
        self.greeting = self.read()
        if qmp:
            self.call("qmp_capabilities")

    def read(self):
        line = self.file.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def send(self, message):
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def reply(self):
        while True:
            message = self.read()
            if "event" in message or ("method" in message and "id" not in message):
                self.events.append(message)
            else:
                return message

    def call(self, command, **arguments):
        self.send({"execute": command, "arguments": arguments} if arguments
                  else {"execute": command})
        reply = self.reply()
        if "return" not in reply:
            raise RuntimeError(reply["error"]["desc"])
        return reply["return"]

    def refused(self, command, **arguments):
        try:
            result = self.call(command, **arguments)
        except RuntimeError as error:
            return str(error)
        raise AssertionError(f"{command} returned {result}")

    def event(self, name):
        """The next event of that name; those before it are dropped."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event.get("event", event.get("method")) == name:
                    return event
            self.events.append(self.read())

    def names(self):
        """Names of the events so far; forgets them."""
        names = [event["event"] for event in self.events]
        self.events = []
        return names

    def close(self):
        self.file.close()
        self.sock.close()


class Machine:
    """A running `partita run` and the serial port of its guest."""

    def __init__(self, *options, **changes):
        description = {
            "name": "test", "uuid": "0c6d9c1c-4a3e-4f6d-8d53-3f2b1f0a7e11",
            "partition": {"vps": 2, "backend": "soft"}, "memory": {"size": "16M"},
            "boot": {"kernel": "guest"},
            "devices": [
                {"id": "serial0", "type": "uart16550",
                 "chardev": {"type": "unix", "path": "serial.sock"}},
                {"id": "log", "type": "uart16550", "chardev": {"type": "ringbuf"}},
                {"id": "rng0", "type": "virtio-rng"}],
            "monitor": [{"type": "unix", "path": "vm.sock"}, {"type": "unix", "path": "two.sock"}],
            "on-shutdown": "halt", "on-crash": "halt"}
        description.update(changes)
        with open("m.json", "w", encoding="utf-8") as file:
            json.dump(description, file)
        self.process = subprocess.Popen([PARTITA, "run", "--quiet", *options, "m.json"],
                                        stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        while not os.path.exists("two.sock"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("no monitor appears")
            time.sleep(0.01)
        self.serial = None

    def guest(self, text):
        """Types at the guest's serial port."""
        if not self.serial:
            self.serial = socket.socket(socket.AF_UNIX)
            self.serial.settimeout(TIMEOUT)
            self.serial.connect("serial.sock")
        self.serial.sendall(text.encode())

    def hear(self, text):
        """Waits until the guest has said it."""
        got = ""
        while text not in got:
            got += self.serial.recv(100).decode("latin-1")

    def wait(self):
        return self.process.wait(TIMEOUT)

    def end(self):
        if self.serial:
            self.serial.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"expected {expected!r}, found {found!r}")


def run(*words, text=None):
    """`partita WORDS`: its status, output and complaints."""
    done = subprocess.run([PARTITA, *words], input=text, capture_output=True, text=True,
                          timeout=TIMEOUT, check=False)
    return done.returncode, done.stdout, done.stderr


# ---- tests; each has a machine of its own ----

def queries():
    """queries have QEMU's shapes"""
    vm = Machine("--paused")
    try:
        c = Client()
        equal(sorted(c.greeting["QMP"]), ["capabilities", "version"])
        equal(c.call("query-status"), {"running": False, "singlestep": False,
                                       "status": "prelaunch"})
        equal(c.call("query-version"), c.greeting["QMP"]["version"])
        equal(c.call("query-name"), {"name": "test"})
        equal(c.call("query-uuid"), {"UUID": "0c6d9c1c-4a3e-4f6d-8d53-3f2b1f0a7e11"})
        equal(sorted(c.call("query-kvm")), ["enabled", "present"])
        cpus = c.call("query-cpus-fast")
        equal([cpu["cpu-index"] for cpu in cpus], [0, 1])
        equal([cpu["qom-path"] for cpu in cpus], ["/partition/vp/0", "/partition/vp/1"])
        for cpu in cpus:
            assert os.path.exists(f"/proc/{vm.process.pid}/task/{cpu['thread-id']}")
        equal(c.call("query-memory-size-summary"),
              {"base-memory": 16 << 20, "plugged-memory": 0})
        equal([(d["label"], d["frontend-open"]) for d in c.call("query-chardev")],
              [("serial0", True), ("log", True)])
        equal(c.call("query-block"), [])
        equal(c.call("query-halt"), {"halted": False})
        commands = [command["name"] for command in c.call("query-commands")]
        schema = c.call("query-qmp-schema")
        equal(sorted(commands),
              sorted(e["name"] for e in schema if e["meta-type"] == "command"))
        equal(c.refused("query-status", x=1),
              'query-status: $.x: expected no members, found the unknown member "x"')
        c.call("quit")
        equal(c.event("SHUTDOWN")["data"], {"guest": False, "reason": "host-qmp-quit"})
        equal(vm.wait(), 0)
        equal(os.path.exists("vm.sock"), False)
    finally:
        vm.end()


def run_states():
    """stop, cont, system_reset, and the events of each before its reply"""
    vm = Machine("--paused")
    try:
        c = Client()
        c.call("stop")
        equal(c.names(), [])
        equal(c.call("query-status")["status"], "prelaunch")
        c.call("cont")
        equal(c.names(), ["RESUME"])
        c.call("cont")
        equal(c.names(), [])
        equal(c.call("query-status"), {"running": True, "singlestep": False, "status": "running"})
        vm.guest("a")
        vm.hear("a")
        c.call("stop")
        equal(c.names(), ["STOP"])
        equal(c.call("query-status")["status"], "paused")
        before = c.call("inspect", path="/partition/vp/0/stats/instructions")
        vm.guest("b")  # the guest stands still: it says nothing
        time.sleep(0.2)
        equal(c.call("inspect", path="/partition/vp/0/stats/instructions"), before)
        c.call("cont")
        vm.hear("b")
        c.call("system_reset")
        equal(c.names(), ["RESUME", "RESET"])
        vm.hear("H")  # it has started again
        equal(c.call("query-status")["status"], "running")
        c.call("system_powerdown")
        equal(c.event("POWERDOWN")["event"], "POWERDOWN")
        c.call("stop")
        assert "running" in c.refused("system_powerdown")
        c.call("inject-nmi")  # and without an IDT the guest does not survive it
        equal(c.call("query-status")["status"], "paused")
        c.call("cont")
        equal(c.event("HALT")["data"]["reason"], "triple-fault")
        c.call("quit")
        equal(vm.wait(), 0)
    finally:
        vm.end()


def halt():
    """a triple fault is reported once, clear-halt answers true, then false"""
    vm = Machine()
    try:
        c = Client()
        vm.guest("t")
        data = c.event("HALT")["data"]
        equal((data["reason"], data["action"], data["vp"]), ("triple-fault", "halt", 0))
        equal(c.call("query-status")["status"], "guest-panicked")
        found = c.call("query-halt")
        equal((found["halted"], found["reason"], found["vp"]), (True, "triple-fault", 0))
        assert abs(found["time"]["seconds"] - time.time()) < TIMEOUT
        current = [line for line in found["instructions"] if line["current"]]
        equal([(line["text"], line["bytes"]) for line in current], [("int3", "cc")])
        equal(found["registers"]["rip"], hex(current[0]["address"]))
        before = found["instructions"][found["instructions"].index(current[0]) - 1]
        assert before["text"].startswith("lidt"), before
        assert "Resetting" in c.refused("cont")
        replay = c.call("events-replay", since=0)
        names = [event["event"] for event in replay["events"]]
        equal((names.count("HALT"), names.count("GUEST_PANICKED")), (1, 1))
        equal((replay["lost"], replay["last"]), (0, len(names)))
        c.names()
        equal(c.call("clear-halt"), True)
        time.sleep(0.2)  # it was reported once: a CPU in shutdown stays there until a reset
        equal(c.call("clear-halt"), False)
        equal(c.call("query-halt"), {"halted": False})
        assert "HALT" not in c.names()
        c.call("system_reset")
        vm.hear("H")
        c.close()
    finally:
        vm.end()


def many_requests():
    """3,000 random requests on four processors are answered as a model says"""
    vm = Machine(partition={"vps": 4, "backend": "soft"})
    try:
        c = Client()
        rand = random.Random(3)
        state, halted, halts, trace = "running", False, 0, []
        for number in range(3000):
            what = rand.choice(("stop", "cont", "cont", "clear", "clear", "reset", "pulse", "off",
                                "off", "status", "button", "nothing"))
            trace = trace[-30:] + [what]
            if what == "stop":
                c.call("stop")
                state = "paused" if state == "running" else state
            elif what == "cont":
                if state == "shutdown":
                    assert '"shutdown"' in c.refused("cont"), trace
                else:
                    c.call("cont")
                    state = "running"
            elif what == "clear":
                equal(c.call("clear-halt"), halted)
                state, halted = ("running" if halted else state), False
            elif what == "reset":
                c.call("system_reset")
                state = "prelaunch" if state in ("paused", "prelaunch") else "running"
                halted = False
            elif what == "pulse":
                c.call("pulse-save-restore")
            elif what == "off" and state == "running":
                c.names()
                vm.guest("o")
                equal(c.event("HALT")["data"]["reason"], "power-off")
                state, halted, halts = "shutdown", True, halts + 1
            elif what == "button" and state != "running":
                assert f'"{state}"' in c.refused("system_powerdown"), trace
            if what != "nothing":
                status = c.call("query-status")
                equal((status["status"], status["running"], trace),
                      (state, state == "running", trace))
                equal((c.call("query-halt")["halted"], trace), (halted, trace))
        assert halts > 50, halts
        events = c.call("events-replay", since=0)
        assert events["last"] > 1000, events["last"]
        c.call("quit")
        equal(vm.wait(), 0)
    finally:
        vm.end()


def powered_off():
    """a guest power-off halts; a client that was away loses nothing; reset starts again"""
    vm = Machine()
    try:
        c = Client()
        last = c.call("events-replay", since=0)["last"]
        c.close()
        vm.guest("o")
        watcher = Client("two.sock", qmp=False)
        while True:  # a JSON-RPC client, in the meantime
            watcher.send({"jsonrpc": "2.0", "id": 1, "method": "query-status"})
            if watcher.reply()["result"]["status"] == "shutdown":
                break
            time.sleep(0.01)
        c = Client()
        missed = c.call("events-replay", since=last)
        names = [event["event"] for event in missed["events"]]
        assert "HALT" in names and "SHUTDOWN" in names, names
        equal([event["seq"] for event in missed["events"]],
              list(range(last + 1, missed["last"] + 1)))
        shutdown = missed["events"][names.index("SHUTDOWN")]
        equal(shutdown["data"], {"guest": True, "reason": "guest-shutdown"})
        c.call("system_reset")
        equal(watcher.event("RESET")["params"]["data"],
              {"guest": False, "reason": "host-qmp-system-reset"})
        vm.guest("x")
        vm.hear("x")
        c.call("quit")
        equal(vm.wait(), 0)
    finally:
        vm.end()


def exits():
    """on-shutdown: exit ends the process, events first"""
    vm = Machine(**{"on-shutdown": "exit"})
    try:
        c = Client()
        vm.guest("o")
        equal(c.event("SHUTDOWN")["data"], {"guest": True, "reason": "guest-shutdown"})
        equal(vm.wait(), 0)
    finally:
        vm.end()


def with_watchdog(**changes):
    return Machine(devices=[
        {"id": "serial0", "type": "uart16550", "chardev": {"type": "unix", "path": "serial.sock"}},
        {"id": "rng0", "type": "virtio-rng"}, {"id": "wd", "type": "watchdog"}], **changes)


def watchdog_resets():
    """an expiry of the watchdog resets, or does what the guest wanted"""
    vm = with_watchdog()
    try:
        c = Client()
        vm.guest("x")
        vm.hear("x")
        vm.guest("w")
        equal(c.event("HALT")["data"], {"reason": "watchdog", "action": "reset"})
        equal(c.event("WATCHDOG")["data"], {"action": "reset"})
        equal(c.event("RESET")["data"], {"guest": True, "reason": "guest-reset"})
        vm.hear("H")
        wd = c.call("inspect", path="/devices/wd")
        equal((wd["has-expired"], wd["running"], wd["count-ms"]), (True, False, 30000))
        equal(c.call("query-status")["status"], "running")
        # A guest that wants to be shut down gets what on-shutdown says: halt, here.
        vm.guest("W")
        equal(c.event("HALT")["data"], {"reason": "watchdog", "action": "halt"})
        equal(c.event("WATCHDOG")["data"], {"action": "pause"})
        equal(c.call("query-status")["status"], "watchdog")
        c.call("quit")
        equal(vm.wait(), 0)
    finally:
        vm.end()


def watchdog_halts():
    """an expiry of the watchdog halts, and again where the guest is made to run on"""
    vm = with_watchdog(**{"on-watchdog": "halt"})
    try:
        c = Client()
        vm.guest("w")
        equal(c.event("HALT")["data"], {"reason": "watchdog", "action": "halt"})
        equal(c.event("WATCHDOG")["data"], {"action": "pause"})
        equal(c.event("STOP")["event"], "STOP")
        equal(c.call("query-status"), {"running": False, "singlestep": False, "status": "watchdog"})
        equal(c.call("query-halt")["reason"], "watchdog")
        before = c.call("inspect", path="/devices/wd/left-ms")
        time.sleep(0.8)  # its time has stopped, so it is not told again
        equal(c.call("inspect", path="/devices/wd/left-ms"), before)
        equal(c.names(), [])
        c.call("cont")  # and it goes on from the full count
        equal(c.event("HALT")["data"]["reason"], "watchdog")
        equal(c.call("query-status")["status"], "watchdog")
        equal(c.call("clear-halt"), True)
        equal(c.event("HALT")["data"]["reason"], "watchdog")
        vm.guest("s")  # read when it runs: before 0.5 s have passed
        c.call("cont")
        vm.hear("s")
        c.names()
        time.sleep(0.8)
        equal(c.call("query-status")["status"], "running")
        equal(c.names(), [])
    finally:
        vm.end()


def watchdog_exits():
    """an expiry of the watchdog ends the process with a status of its own"""
    vm = with_watchdog(**{"on-watchdog": "exit"})
    try:
        c = Client()
        vm.guest("w")
        equal(c.event("HALT")["data"], {"reason": "watchdog", "action": "exit"})
        equal(c.event("WATCHDOG")["data"], {"action": "poweroff"})
        equal(c.event("SHUTDOWN")["data"], {"guest": True, "reason": "guest-reset"})
        equal(vm.wait(), 6)
    finally:
        vm.end()


def watchdog_actions():
    """watchdog-set-action: the guest runs on, or not"""
    vm = with_watchdog()
    try:
        c = Client()
        assert "expected one of reset, shutdown" in c.refused("watchdog-set-action", action="no")
        for action in ("none", "debug", "shutdown"):
            c.call("watchdog-set-action", action=action)
            vm.guest("w")
            equal(c.event("WATCHDOG")["data"], {"action": action})
            if action == "shutdown":
                equal(c.event("POWERDOWN")["event"], "POWERDOWN")
            vm.guest("s")
            vm.hear("s")
            equal(c.call("query-halt"), {"halted": False})
            equal(c.call("query-status")["status"], "running")
            names = c.names()
            assert "HALT" not in names and "RESET" not in names, names
        c.call("watchdog-set-action", action="inject-nmi")
        vm.guest("w")
        equal(c.event("WATCHDOG")["data"], {"action": "inject-nmi"})
        equal(c.event("HALT")["data"]["reason"], "triple-fault")  # it has no handler
        c.call("system_reset")
        vm.hear("H")
        # While the machine is stopped nothing expires.
        c.call("watchdog-set-action", action="none")
        vm.guest("w")
        equal(c.event("WATCHDOG")["data"], {"action": "none"})
        c.call("stop")
        time.sleep(1.2)  # equal events are a second apart
        c.call("query-status")
        equal([name for name in c.names() if name != "WATCHDOG"], ["STOP"])
        time.sleep(1.2)
        c.call("query-status")
        equal(c.names(), [])
        c.call("watchdog-set-action", action="pause")
        c.call("cont")
        equal(c.event("HALT")["data"], {"reason": "watchdog", "action": "halt"})
        c.call("watchdog-set-action", action="poweroff")
        c.call("cont")
        equal(c.event("WATCHDOG")["data"], {"action": "pause"})  # of the halt before
        equal(c.event("WATCHDOG")["data"], {"action": "poweroff"})
        equal(vm.wait(), 6)
    finally:
        vm.end()


def tree():
    """inspect, qom-list, qom-get, qom-set"""
    vm = Machine()
    try:
        c = Client()
        whole = c.call("inspect")
        equal(whole["state"], "running")
        equal(sorted(whole["partition"]["vp"]), ["0", "1"])
        assert whole["partition"]["vp"]["0"]["registers"]["rip"].startswith("0x1000")
        equal(c.call("inspect", depth=0)["partition"], None)
        equal(c.call("inspect", path="/devices/rng0/type"), "virtio-rng")
        assert "not found" in c.refused("inspect", path="/devices/none")
        assert "not a directory" in c.refused("inspect", path="/name/")
        assert "cannot be set" in c.refused("inspect", path="/name", value="x")
        equal(c.call("inspect", path="/trace", value="irq,mmio"), "mmio,irq")
        equal(c.call("qom-get", path="/", property="trace"), "mmio,irq")
        c.call("qom-set", path="/", property="trace", value="")
        equal(c.call("qom-get", path="/", property="trace"), "")
        assert "no trace category" in c.refused("qom-set", path="/", property="trace", value="x")
        equal(c.call("qom-get", path="/partition", property="vp"), "/partition/vp")
        registers = whole["partition"]["vp"]["1"]["registers"]
        for path in ("cs/selector", "gdtr/limit", "dr7", "msr/pat", "lapic/svr", "sse/mxcsr",
                     "x87/st7", "activity", "msr/mtrr/def-type"):
            value = registers
            for name in path.split("/"):
                value = value[name]
        equal(whole["devices"]["serial0"]["chardev"]["frontend-open"], True)
        equal(whole["devices"]["rng0"]["queues"]["0"]["size"], 64)
        equal(whole["memory"]["ram"]["0"]["backing"], 0)
        backing = whole["memory"]["backing"]["0"]
        equal([backing[name] for name in ("type", "page-size", "owned", "thp", "pinned")],
              ["memfd", 4096, True, False, False])
        assert 0 < backing["resident-bytes"] <= int(backing["size"], 16), backing
        equal(whole["partition"]["power-state"], "running")
        equal(whole["partition"]["topology"]["vps"], 2)
        equal(whole["synic"]["guest-os-id"], "0x0")
        assert whole["placement"]["0"]["kind"]
        me, = whole["monitor"]["clients"].values()
        equal((me["pid"], me["uid"], me["dialect"], me["under-way"]),
              (os.getpid(), os.getuid(), "qmp", "inspect"))
        equal(me["commands"], 2)
        assert me["bytes-received"] > 20 and me["bytes-sent"] > 20, me
        types = {p["name"]: p["type"] for p in c.call("qom-list", path="/partition")}
        equal((types["backend"], types["vp"]), ("string", "child<container>"))
        shown = c.call("inspect", path="/partition/vp/0", sensitivity="unspecified")
        assert "registers" not in shown and "state" in shown, shown
        shown = c.call("inspect", sensitivity="safe")
        assert "devices" not in shown and "partition" in shown, shown
        stats = c.call("inspect", path="/partition/vp/0/stats", counters=True)
        first = stats["instructions"]["$counter"]
        vm.guest("a")
        vm.hear("a")
        stats = c.call("inspect", path="/partition/vp/0/stats", rate=50)
        assert stats["instructions"]["$counter"] > first, stats
        assert stats["instructions"]["$rate"] >= 0, stats
        clock = c.call("inspect", path="/partition/clock/ns", rate=200)
        assert 0.5e9 < clock["$rate"] < 2e9, clock
        assert "not together" in c.refused("inspect", path="/trace", value="", rate=50)
        gone = Client()
        gone.send({"execute": "inspect", "arguments": {"rate": 100}})
        gone.close()
        asking = Client()
        asking.send({"execute": "inspect", "arguments": {"rate": 60000}})
        time.sleep(0.3)  # the first one's second look is due and not taken
        clients = c.call("inspect", path="/monitor/clients")
        equal(sorted(client.get("under-way") for client in clients.values()),
              ["inspect", "inspect"])
        asking.close()
        assert "whole number from 10" in c.refused("inspect", rate=1)
        equal(c.call("inspect", path="/partition/clear-halt"), False)
        equal(c.call("inspect", path="/partition/clear-halt", value=True), False)
        equal(c.call("inspect", path="/partition/clear-halt", value="false"), False)
        assert "expected true or false, found 1" in c.refused(
            "inspect", path="/partition/clear-halt", value=1)
        equal(c.refused("qom-list", path="/none"), "Device '/none' not found")
        equal(c.refused("qom-get", path="/", property="none"), "Property '/.none' not found")
        c.send({"execute": "qom-list", "arguments": {"path": "/none"}})
        equal(c.reply()["error"]["class"], "DeviceNotFound")
        equal(c.call("ringbuf-read", device="log", size=100), "")
        assert "not found" in c.refused("ringbuf-read", device="none", size=1)
        c.refused("ringbuf-read", device="serial0", size=1)
    finally:
        vm.end()


def saved_memory():
    """memsave, pmemsave"""
    vm = Machine()
    try:
        c = Client()
        with open("guest", "rb") as file:
            image = file.read()
        kib = 1024
        equal(c.call("pmemsave", val=0x100000, size=64 * kib, filename="new.bin"), {})
        with open("new.bin", "rb") as file:
            saved = file.read()
        equal(len(saved), 64 * kib)
        magic = saved.index(bytes.fromhex("02b0ad1b"))
        assert saved[magic:magic + 64] == image[image.index(bytes.fromhex("02b0ad1b")):][:64]
        # paging is off; and a client that has made the file and keeps it open
        with open("mine.bin", "w+b") as file:
            file.write(b"x" * 100 * kib)
            file.flush()
            c.call("memsave", val=0x100000, size=64 * kib, filename=os.path.abspath("mine.bin"),
                   **{"cpu-index": 1})
            file.seek(0)
            assert file.read() == saved
        everything = 16 * 1024 * kib
        c.call("pmemsave", val=0, size=everything, filename="all.bin")
        equal(os.path.getsize("all.bin"), everything)
        c.call("memsave", val=0, size=0, filename="none.bin")
        equal(os.path.getsize("none.bin"), 0)
        before = sorted(os.listdir())
        for value, size in ((everything - 4096, 8192), (everything, 1), (-4096, 4096), (-1, 2), (0, -1),
                            (1, everything), (0, 1 << 62)):
            text = f"Invalid addr 0x{value & (1 << 64) - 1:016x}/size {size} specified"
            equal(c.refused("pmemsave", val=value, size=size, filename="bad.bin"), text)
            equal(c.refused("memsave", val=value, size=size, filename="bad.bin"), text)
        for vp in (2, -1, 1 << 40):
            equal(c.refused("memsave", val=0, size=1, filename="bad.bin", **{"cpu-index": vp}),
                  "Parameter 'cpu-index' expects a CPU number")
        # what was there is emptied by what fails midway, and never more than that
        c.refused("memsave", val=everything - 8 * 1024 * kib, size=8 * 1024 * kib + 1,
                  filename="mine.bin")
        equal(os.path.getsize("mine.bin"), 0)
        equal(sorted(os.listdir()), before)
        os.mkfifo("fifo")
        try:
            for name, text in (("none/bad.bin", "No such file or directory"), (".", "Is a directory"),
                               ("/dev/null", "not a regular file"), ("fifo", "No such device")):
                found = c.refused("pmemsave", val=0, size=4096, filename=name)
                assert found.startswith("Could not open '") and text in found, found
        finally:
            os.unlink("fifo")
        equal(sorted(os.listdir()), before)
        # several at a time, from clients that do not wait
        for number in range(12):
            other = Client()
            other.send({"execute": "pmemsave", "arguments": {
                "val": 0, "size": everything, "filename": f"many-{number}.bin"}})
            other.close()
        c.call("quit")
        equal(vm.wait(), 0)
        for name in os.listdir():
            assert ".bin." not in name, name
    finally:
        vm.end()
        for name in os.listdir():
            if ".bin" in name:
                os.unlink(name)


def memory_statistics():
    """/memory/stats, /memory/dirty"""
    vm = Machine()
    try:
        c = Client()
        stats = c.call("inspect", path="/memory/stats", deadline=30000)
        # the image, tables, and nothing like all of it
        assert 4096 < stats["guest-resident"] < 8 << 20, stats
        assert stats["guest-mapped"] <= stats["guest-resident"], stats
        assert 1 << 20 < stats["vmm-proportional"] <= stats["vmm-resident"], stats
        equal(c.call("inspect", path="/memory/dirty"), {"watch": False})
        equal(c.call("inspect", path="/memory/dirty/watch", value=True), True)
        vm.guest("a")
        vm.hear("a")
        # this guest writes nothing
        equal(c.call("inspect", path="/memory/dirty/pages"), 0)
        c.call("system_reset")
        pages = c.call("inspect", path="/memory/dirty/pages")
        assert 1 <= pages < 2048, pages
        equal(c.call("inspect", path="/memory/dirty/clients"),
              {"0": {"name": "inspect", "takes": 0, "pages-taken": 0}})
        equal(c.call("inspect", path="/memory/dirty/watch", value=False), False)
        equal(c.call("inspect", path="/memory/dirty"), {"watch": False})
        info = c.call("query-dirty-rate")
        equal((info["status"], "dirty-rate" in info), ("unstarted", False))
        for seconds in (0, 61, -1, 1 << 40):
            equal(c.refused("calc-dirty-rate", **{"calc-time": seconds}),
                  "calc-time is out of range[1, 60].")
        equal(c.refused("calc-dirty-rate", **{"calc-time": 1, "sample-pages": 127}),
              "sample-pages is out of range[128, 16384].")
        c.refused("calc-dirty-rate", **{"calc-time": 1, "sample-pages": 128, "mode": "dirty-bitmap"})
        c.refused("calc-dirty-rate", **{"calc-time": 1, "mode": "dirty-ring"})
        equal(c.call("calc-dirty-rate", **{"calc-time": 1}), {})
        equal(c.call("query-dirty-rate")["status"], "measuring")
        equal(c.refused("calc-dirty-rate", **{"calc-time": 1}),
              "the dirty rate is already being measured.")
        equal(c.call("inspect", path="/memory/dirty/clients/0/name"), "dirty-rate")
        deadline = time.monotonic() + TIMEOUT
        while c.call("query-dirty-rate")["status"] == "measuring":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        info = c.call("query-dirty-rate")
        equal((info["status"], info["dirty-rate"], info["mode"], info["sample-pages"]),
              ("measured", 0, "page-sampling", 512))
        # the machine ends with both
        c.call("inspect", path="/memory/dirty/watch", value=True)
        c.call("calc-dirty-rate", **{"calc-time": 60, "mode": "dirty-bitmap"})
        c.call("quit")
        equal(vm.wait(), 0)
    finally:
        vm.end()


def one_shot():
    """partita monitor and inspect: output and exit status"""
    vm = Machine()
    try:
        equal(run("monitor", "vm.sock", "stop"), (0, "", ""))
        equal(run("monitor", "vm.sock", "query-status"),
              (0, "running: false\nsinglestep: false\nstatus: paused\n", ""))
        status, out, _ = run("monitor", "--json", "vm.sock", "query-status")
        equal((status, json.loads(out)["status"]), (0, "paused"))
        status, out, _ = run("monitor", "vm.sock", "query-cpus-fast")
        equal(out.split("\n")[0].split(), ["CPU-INDEX", "QOM-PATH", "THREAD-ID", "TARGET"])
        equal(run("monitor", "vm.sock", "clear-halt"), (0, "false\n", ""))
        equal(run("monitor", "vm.sock", "qom-get", "path=/", "property=name"), (0, "test\n", ""))
        status, _, err = run("monitor", "vm.sock", "qom-get", "path=/", "property=none")
        equal((status, err), (1, "partita: Property '/.none' not found\n"))
        status, _, err = run("monitor", "vm.sock", "ringbuf-read", "device=log", "size=x")
        equal((status, err), (1, "partita: size: expected INT, found x\n"))
        equal(run("monitor", "vm.sock", "no-such-command")[0], 1)
        equal(run("monitor", "no.sock", "query-status")[0], 2)
        equal(run("monitor")[0], 2)
        equal(run("monitor", "--no-such-option")[0], 2)
        equal(run("monitor", "--help")[0], 0)
        equal(run("monitor", "vm.sock", text="# a script\nquery-name\n\nhelp stop\n"
                  "{\"execute\": \"query-name\"}\n")[:2],
              (0, "name: test\nstop \n  Stops all virtual processors and devices. On return none of "
                  "them runs. No effect on a stopped machine.\n"
                  "{\"return\": {\"name\": \"test\"}, \"id\": 3}\n"))
        equal(run("monitor", "vm.sock", text="none-such\nquery-name\n")[:2], (1, "name: test\n"))
        equal(run("inspect", "vm.sock", "/devices/rng0/type"), (0, "virtio-rng\n", ""))
        status, out, _ = run("inspect", "vm.sock", "--depth", "0")
        assert "devices: …\n" in out and "name: test\n" in out, out
        status, out, _ = run("inspect", "--json", "vm.sock", "partition", "-d", "1")
        equal((status, json.loads(out)["backend"]), (0, "soft"))
        equal(run("inspect", "vm.sock", "none")[0], 1)
        equal(run("inspect", "vm.sock", "trace", "--set", "irq"), (0, "irq\n", ""))
        equal(run("inspect", "vm.sock", "a", "b")[0], 2)
        for option, value in (("--watch", "0"), ("--watch", "-1"), ("--depth", "-1")):
            equal(run("inspect", "vm.sock", option, value)[0], 2)
        equal(run("inspect", "vm.sock", "trace", "--watch", "1", "--set", "irq")[0], 2)
        equal(run("inspect", "vm.sock", "none", "--watch", "1")[0], 1)
    finally:
        vm.end()


def watch():
    """inspect --watch: rates, in blocks, lines and in place"""
    vm = Machine()
    words = [PARTITA, "inspect", "vm.sock", "partition/clock", "--watch", "0.1"]
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as p:
            text = "".join(p.stdout.readline() for _ in range(7))
            p.kill()
        first, second = text.split("\n\n")
        assert re.search(r"^ns: \d+$", first, re.M), text
        rate = re.search(r"^ns: \d+ \((\d+)/s\)$", second, re.M)
        assert 0.5e9 < int(rate.group(1)) < 2e9, text
        with subprocess.Popen(words + ["--json"], stdout=subprocess.PIPE, text=True) as p:
            lines = [json.loads(p.stdout.readline()) for _ in range(3)]
            p.kill()
        assert "$rate" not in lines[0]["ns"] and lines[2]["ns"]["$rate"] > 0, lines
        assert lines[2]["ns"]["$counter"] > lines[1]["ns"]["$counter"], lines
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as p:
            p.stdout.readline()
            c = Client()
            c.call("quit")
            equal((p.wait(TIMEOUT), len(p.stderr.read().splitlines())), (2, 1))
    finally:
        vm.end()


def watch_in_place():
    """inspect --watch on a terminal"""
    vm = Machine()
    t = Terminal("inspect", "vm.sock", "partition/clock", "--watch", "0.1")
    try:
        t.see(r"ns: \d+\r\n")
        t.see(r"ns: \d+ \(\d+/s\)")
        t.see(r"ns: \d+ \(\d+/s\)")
        t.type("\x03")
        equal(t.status(), -signal.SIGINT)
    finally:
        t.end()
        vm.end()


class Terminal:
    """A subcommand, such as `partita monitor`, on a pseudo-terminal."""

    def __init__(self, *words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # libedit never frees the names of functions that are added to it.
            os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
            os.execv(PARTITA, [PARTITA, *words])
        self.seen = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def see(self, pattern):
        """Waits for it on the screen, after what was seen last; escape sequences left out."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)
            found = re.search(pattern, text)
            if found:
                self.seen = text[found.end():]
                return found
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            try:
                data = os.read(self.fd, 4096) if ready else b""
            except OSError:
                data = b""
            if not data:
                raise AssertionError(f"{pattern!r} does not appear after {self.seen!r}")
            self.seen += data.decode(errors="replace")

    def status(self):
        """Waits for its end."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end after {self.seen!r}")
            time.sleep(0.01)
        self.pid = None
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.status()


def console():
    """on a terminal: editing, completion, events above the line, history"""
    vm = Machine()
    t = Terminal("monitor", "vm.sock")
    try:
        t.see(r"Connected to partita")
        t.see(r"\(partita\) ")
        t.type("query-na\t")
        t.see(r"me ")
        t.type("\r")
        t.see(r"name: test")
        t.type("ringbuf-read for\tb\t")
        t.see(r"ase64 ")
        t.type("\x15")
        t.type("ringbuf-read \t")
        t.see(r"device= +format= +size=")
        t.type("\x15")
        t.type("inspect path=/dev\trn\tty\t")
        t.see(r"pe ")
        t.type("\r")
        t.see(r"virtio-rng")
        t.type("qom-li")
        t.see(r"qom-li")
        c = Client()
        c.call("stop")  # the event comes while the line is being typed
        t.see(r"STOP \(\d+\)")
        t.see(r"\(partita\) qom-li")
        t.type("st path=/memory\r")
        t.see(r"ram-size +uint64")
        t.see(r"\(partita\) ")
        t.type("some other \x03")  # is dropped
        t.type("nonsense\r")
        t.see(r"The command nonsense has not been found")
        t.type("\x1b[A\x1b[A\r")  # the command before that
        t.see(r"ram-size +uint64")
        t.type("help ring\t\r")
        t.see(r"ringbuf-read device=STRING size=INT \[format=utf8\|base64\]")
        t.type("\x04")
        equal(t.status(), 0)
        t = Terminal("monitor", "vm.sock")
        t.see(r"\(partita\) ")
        t.type("\x1b[A\r")  # history outlives the process
        t.see(r"ringbuf-read device=STRING")
        c.call("quit")
        t.see(r"the connection has ended")
        equal(t.status(), 2)
    finally:
        vm.end()
        t.end()


def typed_ahead():
    """on a terminal: Ctrl-D typed while a command runs ends it afterwards"""
    vm = Machine()
    t = Terminal("monitor", "vm.sock")
    try:
        t.see(r"\(partita\) ")
        os.kill(vm.process.pid, signal.SIGSTOP)  # the answer cannot come
        t.type("query-name\r")
        t.see(r"query-name\r?\n")
        time.sleep(0.3)  # the terminal is in its own mode again
        t.type("\x04")
        time.sleep(0.2)
        os.kill(vm.process.pid, signal.SIGCONT)
        t.see(r"name: test")
        equal(t.status(), 0)
    finally:
        os.kill(vm.process.pid, signal.SIGCONT)
        vm.end()
        t.end()


def during_a_pulse():
    """what comes in the middle of a save and restore neither disturbs it nor is lost"""
    with open("disk.img", "wb") as disk:
        disk.truncate(1 << 20)
    vm = Machine(devices=[
        {"id": "serial0", "type": "uart16550", "chardev": {"type": "unix", "path": "serial.sock"}},
        {"id": "disk0", "type": "virtio-blk", "block": {"type": "file", "path": "disk.img"}}])
    try:
        a, b = Client(), Client("two.sock")
        for _ in range(50):  # disks take their time, so others have their turn in between
            a.send({"execute": "pulse-save-restore"})
            b.call("system_powerdown")
            reply = a.reply()
            assert "return" in reply, reply
            equal(b.call("qom-get", path="/devices/power", property="events"), "0x1")
            b.call("system_reset")
            equal(b.call("qom-get", path="/devices/power", property="events"), "0x0")
        vm.guest("x")
        vm.hear("x")
        for _ in range(50):
            vm.guest("t")
            b.event("HALT")
            b.event("STOP")
            a.send({"execute": "pulse-save-restore"})
            equal(b.call("clear-halt"), True)
            equal(b.call("query-status")["status"], "running")
            reply = a.reply()
            assert "return" in reply, reply
            equal(b.call("query-halt"), {"halted": False})
            equal(b.call("query-status")["status"], "running")
            equal(b.call("qom-get", path="/partition", property="running"), True)
            b.call("system_reset")
    finally:
        vm.end()


def main():
    tests = [queries, run_states, halt, many_requests, during_a_pulse, powered_off, exits,
             watchdog_resets, watchdog_halts, watchdog_exits, watchdog_actions, tree, saved_memory,
             memory_statistics, one_shot, watch, watch_in_place,
             console, typed_ahead]
    print(f"1..{len(tests)}", flush=True)
    for number, test in enumerate(tests, 1):
        for name in ("vm.sock", "two.sock", "serial.sock"):
            if os.path.exists(name):
                os.unlink(name)
        try:
            test()
            print(f"ok {number} - {test.__doc__}", flush=True)
        except Exception as error:  # whatever it is, the next test is run
            where = error.__traceback__
            while where.tb_next and where.tb_frame.f_code.co_name == "main":
                where = where.tb_next
            print(f"not ok {number} - {test.__doc__}", flush=True)
            print(f"# line {where.tb_lineno}: {type(error).__name__}: {error}", flush=True)


main()
