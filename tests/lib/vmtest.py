"""A machine under test: the process `partita run`, its console, its monitor; and TAP.

Everything has a time limit, so that a test fails and does not hang. The limits are generous, for the
machine that runs the tests may be slow: they are not measurements.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

LIMIT = float(os.environ.get("PTA_TEST_LIMIT", "180"))


class Failure(Exception):
    pass


class Skip(Exception):
    """This host cannot do what the case needs."""


def wait_until(what, predicate, limit=LIMIT):
    end = time.monotonic() + limit
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure("waited %g s for %s" % (limit, what))
        time.sleep(0.01)


class Monitor:
    """A QMP client: commands wait for their answer, events are kept in order."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT)
        self.sock.connect(path)
        self.file = self.sock.makefile("rb")
        self.events = []
        self.greeting = self.read()
        self.command("qmp_capabilities")

    def read(self):
        line = self.file.readline()
        if not line:
            raise Failure("the monitor hung up")
        return json.loads(line)

    def answer(self):
        while True:
            message = self.read()
            if "event" in message:
                self.events.append(message)
            else:
                return message

    def send(self, name, arguments=None):
        request = {"execute": name}
        if arguments is not None:
            request["arguments"] = arguments
        self.sock.sendall(json.dumps(request).encode() + b"\n")

    def command(self, name, /, **arguments):
        self.send(name, arguments or None)
        answer = self.answer()
        if "error" in answer:
            raise Failure("%s: %s" % (name, answer["error"]["desc"]))
        return answer["return"]

    def error(self, name, /, **arguments):
        self.send(name, arguments or None)
        answer = self.answer()
        if "error" not in answer:
            raise Failure("%s succeeded: %s" % (name, answer))
        return answer["error"]

    def wait_event(self, name, after=0):
        """The first event of that name among those from index `after` on."""
        end = time.monotonic() + LIMIT
        while True:
            for event in self.events[after:]:
                if event["event"] == name:
                    return event
            if time.monotonic() > end:
                raise Failure("no event %s, but %s" % (name, [e["event"] for e in self.events]))
            message = self.read()
            if "event" in message:
                self.events.append(message)

    def count(self, name):
        self.command("query-status")  # what was sent before has arrived with the answer
        return sum(1 for event in self.events if event["event"] == name)

    def close(self):
        self.file.close()
        self.sock.close()


class Machine:
    """`partita run` on a description; the console is its standard input and output."""

    def __init__(self, description, args=(), may_warn=False):
        self.dir = tempfile.TemporaryDirectory(prefix="partita-test-")
        self.socket = os.path.join(self.dir.name, "vm.sock")
        description = dict(description)
        description.setdefault("name", "test")
        description["monitor"] = [{"type": "unix", "path": "vm.sock"}]
        if "PTA_TEST_BACKEND" in os.environ:
            description["partition"] = {**description["partition"], "backend": os.environ["PTA_TEST_BACKEND"]}
        self.file = os.path.join(self.dir.name, "machine.json")
        with open(self.file, "w") as out:
            json.dump(description, out)
        self.text = ""
        self.log = ""
        env = dict(os.environ)
        if may_warn:  # of what is tested; elsewhere a warning ends the process
            env.pop("G_DEBUG", None)
        self.process = subprocess.Popen(
            [partita(), "run", *args, self.file], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        self.readers = [threading.Thread(target=self._read, args=(self.process.stdout, "text")),
                        threading.Thread(target=self._read, args=(self.process.stderr, "log"))]
        for reader in self.readers:
            reader.start()

    def _read(self, stream, name):
        while True:
            data = stream.read1(65536)
            if not data:
                return
            setattr(self, name, getattr(self, name) + data.decode(errors="replace"))

    def monitor(self):
        def connect():
            if self.process.poll() is not None:
                raise Failure("partita ended with status %d: %s" % (self.process.returncode, self.log))
            try:
                return Monitor(self.socket)
            except (FileNotFoundError, ConnectionRefusedError):
                return None
        return wait_until("the monitor", connect)

    def wait_console(self, pattern, start=0):
        """Where the pattern ends on the console, looking from `start` on."""
        def look():
            match = re.compile(pattern).search(self.text, start)
            if not match and self.process.poll() is not None:
                self.readers[0].join()
                match = re.compile(pattern).search(self.text, start)
                if not match:
                    raise Failure("partita ended with status %d before %r: %s"
                                  % (self.process.returncode, pattern, self.log))
            return match
        return wait_until("%r on the console" % pattern, look)

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def shell(self, command, pattern=None):
        """Runs a command in the guest's shell, waits for its end or the pattern; gives its output."""
        mark = "done-%d" % time.monotonic_ns()
        start = len(self.text)
        # The echo of what is typed must not match.
        self.type("%s; echo '%s'''%s\n" % (command, mark[:4], mark[4:]))
        if pattern:
            return self.wait_console(pattern, start)
        self.wait_console(re.escape(mark), start)
        return self.text[start:]

    def wait_exit(self):
        try:
            status = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise Failure("partita did not end") from None
        for reader in self.readers:
            reader.join()
        return status

    def cpu_seconds(self):
        with open("/proc/%d/stat" % self.process.pid) as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()
        self.dir.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            for line in (self.text[-1500:] + "\n" + self.log[-1500:]).splitlines():
                print("# " + line)
        self.close()


def partita():
    return os.path.join(os.environ.get("abs_builddir", "."), "partita")


def guest_file(name):
    cache = os.environ.get("PTA_CACHE") or os.path.join(os.environ.get("abs_srcdir", "."), ".cache")
    return os.path.join(cache, "guest", name)


def check(condition, text):
    if not condition:
        raise Failure(text)


def equal(found, expected, what="value"):
    if found != expected:
        raise Failure("%s: expected %r, found %r" % (what, expected, found))


def main(cases, needs=()):
    """Runs the cases (functions) and prints TAP; skips all if a file is missing."""
    for need in needs:
        if not os.path.exists(need):
            print("1..0 # SKIP %s is not there: ./run-tests makes it" % need)
            return
    if len(sys.argv) > 1:
        cases = [case for case in cases if case.__name__ in sys.argv[1:]]
    print("1..%d" % len(cases), flush=True)
    for number, case in enumerate(cases, 1):
        name = case.__name__.replace("_", " ")
        begin = time.monotonic()
        try:
            case()
        except Skip as reason:
            print("ok %d - %s # SKIP %s" % (number, name, reason), flush=True)
        except (Failure, OSError, ValueError, KeyError) as error:
            for line in str(error).splitlines():
                print("# " + line)
            print("not ok %d - %s" % (number, name), flush=True)
        else:
            print("ok %d - %s (%.1f s)" % (number, name, time.monotonic() - begin), flush=True)
