"""Network cards in the hands of an unmodified Debian kernel: a network in the process, two machines on
a socket, QEMU at the other end of one, a tap interface in a network namespace.

Nothing but loopback, UNIX sockets and a namespace of our own is used.
"""

import ctypes
import hashlib
import http.server
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.request

sys.path.insert(0, os.path.join(os.environ.get("abs_srcdir", "."), "tests", "lib"))
from vmtest import Failure, Machine, Skip, check, equal, guest_file, main, wait_until  # noqa: E402

INITRD = guest_file("initrd-net.img")
BIG = bytes((i * 7 + i // 251) & 0xff for i in range(1500000))


def card(name, number, net, **more):
    return {"id": name, "type": "virtio-net", "mac": "52:54:00:00:00:%02x" % number, "net": net, **more}


def guest(*cards):
    return {
        "partition": {"vps": 1, "backend": "soft"},
        "memory": {"size": "256M"},
        "boot": {"kernel": guest_file("vmlinuz"), "initrd": INITRD,
                 "cmdline": "console=ttyS0 panic=0 quiet partita.mode=shell"},
        "devices": [{"id": "serial0", "type": "uart16550", "chardev": {"type": "stdio"}}, *cards]}


def to_shell(machine):
    machine.wait_console("exit powers it off")
    machine.shell("stty -echo")


def value(machine, command):
    """The output of a command, in one line."""
    return re.search(r"is=(.*)=", machine.shell("echo is=$(%s)=" % command)).group(1)


def up(machine, interface, address=None):
    machine.shell("ip link set %s up" % interface)
    if address:
        machine.shell("ip addr add %s dev %s" % (address, interface))


def lease(machine, interface):
    up(machine, interface)
    return machine.shell("udhcpc -i %s -n -q -t 10" % interface)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A page on the host's loopback."""

    def __enter__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = BIG if self.path == "/big" else b"a page of the host\n"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def fetch(url):
    """A page of the guest, which may still be about to serve it."""
    def look():
        try:
            with urllib.request.urlopen(url, timeout=20) as reply:
                return reply.read()
        except (OSError, ValueError):
            return None
    return wait_until(url, look)


def the_network_in_the_process():
    web, port7 = free_port(), free_port()
    net = {"type": "user", "hostname": "alto", "forward": [
        {"host-port": web, "guest-port": 80},
        {"protocol": "udp", "host-port": port7, "guest-port": 7}]}
    with Server() as server, Machine(guest(card("net0", 1, net))) as machine:
        monitor = machine.monitor()
        to_shell(machine)
        equal(value(machine, "cat /sys/class/net/eth0/address"), "52:54:00:00:00:01", "address")
        text = lease(machine, "eth0")
        check("guest: lease eth0 10.0.2.15/24 router 10.0.2.2 dns 10.0.2.3 name alto" in text, text)
        url = "http://10.0.2.2:%d" % server.port
        equal(value(machine, "wget -q -O - %s/" % url), "a page of the host", "the page")
        equal(value(machine, "wget -q -O - %s/big | md5sum" % url).split()[0],
              hashlib.md5(BIG).hexdigest(), "sum of what was fetched")
        # And the other way round, through the forwarded port.
        machine.shell("mkdir /tmp/www; head -c 700000 /dev/urandom >/tmp/www/page; httpd -p 80 -h /tmp/www")
        page = fetch("http://127.0.0.1:%d/page" % web)
        equal(hashlib.md5(page).hexdigest(), value(machine, "md5sum </tmp/www/page").split()[0],
              "sum of the guest's page")
        # UDP: nobody listens in the guest (busybox has no server), but its kernel counts what comes;
        # and what its syslogd sends arrives here.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            def arrived():
                udp.sendto(b"datagram", ("127.0.0.1", port7))
                return int(value(machine, "awk '/^Udp: [0-9]/ { print $3 }' /proc/net/snmp")) > 0
            wait_until("a datagram in the guest", arrived)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            udp.settimeout(60)
            machine.shell("syslogd -R 10.0.2.2:%d; logger from the guest" % udp.getsockname()[1])
            check(b"from the guest" in udp.recv(1000), "what syslogd sent")
        pair = monitor.command("inspect", path="/devices/net0/pair/0")
        check(pair["rx-packets"] > 100 and pair["tx-packets"] > 100, "statistics: %r" % pair)
        check(pair["rx-bytes"] > len(BIG) and pair["tx-bytes"] > 700000, "statistics: %r" % pair)
        # Saved, reset and restored in place: the connection's partner does not notice.
        check(monitor.command("pulse-save-restore")["units"] > 0, "units")
        equal(value(machine, "wget -q -O - %s/" % url), "a page of the host", "the page, later")


def a_restricted_network():
    web = free_port()
    net = {"type": "user", "net": "192.168.7.0/24", "restrict": True, "ipv6": False,
           "forward": [{"host-port": web, "guest-port": 80}]}
    with Server() as server, Machine(guest(card("net0", 1, net))) as machine:
        to_shell(machine)
        check("guest: lease eth0 192.168.7.15/24" in lease(machine, "eth0"), "lease")
        text = machine.shell("wget -T 3 -q -O - http://192.168.7.2:%d/ || echo no''thing" % server.port)
        check("nothing" in text and "a page" not in text, text)
        machine.shell("mkdir /tmp/www; echo here >/tmp/www/page; httpd -p 80 -h /tmp/www")
        equal(fetch("http://127.0.0.1:%d/page" % web), b"here\n", "the guest's page")


def the_cable():
    with Machine(guest(card("net0", 1, {"type": "user"}, mtu=1400),
                       card("net1", 2, {"type": "user", "net": "10.9.0.0/16"}))) as machine:
        monitor = machine.monitor()
        to_shell(machine)
        up(machine, "eth0")
        equal(value(machine, "cat /sys/class/net/eth0/mtu /sys/class/net/eth1/mtu"), "1400 1500", "MTU")
        equal(value(machine, "cat /sys/class/net/eth0/carrier"), "1", "carrier")
        monitor.command("set_link", name="net0", up=False)
        machine.shell("until grep -q 0 /sys/class/net/eth0/carrier; do sleep 0.1; done")
        monitor.command("set_link", name="net0", up=True)
        machine.shell("until grep -q 1 /sys/class/net/eth0/carrier; do sleep 0.1; done")
        equal(monitor.error("set_link", name="net9", up=True)["class"], "DeviceNotFound", "class")
        # Several cards, each on its network.
        check("lease eth0 10.0.2.15" in lease(machine, "eth0"), "lease of eth0")
        check("lease eth1 10.9.0.15/16" in lease(machine, "eth1"), "lease of eth1")
        # What the driver wants to receive.
        seen = len(monitor.events)
        monitor.command("query-rx-filter")
        machine.shell("ip link set eth0 promisc on")
        while monitor.wait_event("NIC_RX_FILTER_CHANGED", seen)["data"] != {
                "name": "net0", "path": "/devices/net0"}:
            seen += 1
        (info,) = monitor.command("query-rx-filter", name="net0")
        equal((info["name"], info["promiscuous"], info["main-mac"]), ("net0", True, "52:54:00:00:00:01"),
              "filter")
        equal(len(monitor.command("query-rx-filter")), 2, "cards")
        machine.shell("ip link set eth0 promisc off; ip link add link eth0 name v5 type vlan id 5 2>&1")
        (info,) = monitor.command("query-rx-filter", name="net0")
        check(not info["promiscuous"] and info["multicast-table"], "filter: %r" % info)
        # The driver's own address.
        machine.shell("ip link set eth0 down; ip link set eth0 address 52:54:00:00:00:77; ip link set eth0 up")
        (info,) = monitor.command("query-rx-filter", name="net0")
        equal(info["main-mac"], "52:54:00:00:00:77", "address")


def talk(left, right):
    """A page from one machine to the other."""
    up(left, "eth0", "10.5.0.1/24")
    up(right, "eth0", "10.5.0.2/24")
    left.shell("mkdir /tmp/www; head -c 2000000 /dev/urandom >/tmp/www/page; httpd -p 80 -h /tmp/www")
    right.shell("until ping -c 1 -W 1 10.5.0.1 >/dev/null; do sleep 0.2; done")
    return (value(left, "md5sum </tmp/www/page").split()[0],
            value(right, "wget -q -O - http://10.5.0.1/page | md5sum").split()[0])


def two_machines():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "wire")

        def end(**more):
            return {"type": "stream", "addr": {"type": "unix", "path": path}, **more}
        with Machine(guest(card("net0", 1, end(server=True))), may_warn=True) as left:
            monitor = left.monitor()
            to_shell(left)
            up(left, "eth0")
            equal(value(left, "cat /sys/class/net/eth0/carrier"), "0", "carrier of one that is alone")
            with Machine(guest(card("net0", 2, end(reconnect=1)))) as right:
                equal(monitor.wait_event("NETDEV_STREAM_CONNECTED")["data"],
                      {"netdev-id": "net0", "addr": {"type": "unix", "path": path}}, "event")
                to_shell(right)
                equal(*talk(left, right), "sums")
                equal(value(left, "cat /sys/class/net/eth0/carrier"), "1", "carrier")
            # The peer dies; the guest goes on, and the next peer is welcome.
            equal(monitor.wait_event("NETDEV_STREAM_DISCONNECTED")["data"], {"netdev-id": "net0"}, "event")
            left.shell("until grep -q 0 /sys/class/net/eth0/carrier; do sleep 0.1; done")
            seen = len(monitor.events)
            with Machine(guest(card("net0", 2, end()))) as right:
                monitor.wait_event("NETDEV_STREAM_CONNECTED", seen)
                to_shell(right)
                up(right, "eth0", "10.5.0.2/24")
                right.shell("until ping -c 1 -W 1 10.5.0.1 >/dev/null; do sleep 0.2; done")


def two_machines_on_datagrams():
    with tempfile.TemporaryDirectory() as folder:
        def end(own, other):
            return {"type": "dgram", "local": {"type": "unix", "path": os.path.join(folder, own)},
                    "remote": {"type": "unix", "path": os.path.join(folder, other)}}
        with Machine(guest(card("net0", 1, end("a", "b")))) as left, \
                Machine(guest(card("net0", 2, end("b", "a")))) as right:
            to_shell(left)
            to_shell(right)
            equal(*talk(left, right), "sums")


class Qemu:
    """A machine of QEMU, with the same guest, that can be talked to like ours."""

    def __init__(self, netdev):
        self.text = ""
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "microvm,acpi=on", "-accel", "tcg", "-m", "256", "-nodefaults",
             "-no-user-config", "-display", "none", "-serial", "stdio", "-kernel", guest_file("vmlinuz"),
             "-initrd", INITRD, "-append", "console=ttyS0 quiet partita.mode=shell tsc_early_khz=2600000",
             "-netdev", netdev, "-device", "virtio-net-device,netdev=n0,mac=52:54:00:00:00:33"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.readers = [threading.Thread(target=self._read)]
        self.readers[0].start()

    def _read(self):
        while True:
            data = self.process.stdout.read1(65536)
            if not data:
                return
            self.text += data.decode(errors="replace")

    log = ""
    wait_console = Machine.wait_console
    type = Machine.type
    shell = Machine.shell

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print("\n".join("# " + line for line in self.text[-1500:].splitlines()))
        self.process.kill()
        self.process.wait()
        self.readers[0].join()
        self.process.stdin.close()
        self.process.stdout.close()


def qemu_at_the_other_end():
    if not shutil.which("qemu-system-x86_64"):
        raise Skip("qemu-system-x86_64 is not installed")
    port = free_port()
    net = {"type": "stream", "addr": {"type": "inet", "port": port}, "server": True}
    with Machine(guest(card("net0", 1, net))) as ours:
        monitor = ours.monitor()
        with Qemu("stream,id=n0,server=off,addr.type=inet,addr.host=127.0.0.1,addr.port=%d" % port) as other:
            event = monitor.wait_event("NETDEV_STREAM_CONNECTED")["data"]
            equal((event["addr"]["type"], event["addr"]["host"]), ("inet", "127.0.0.1"), "event")
            to_shell(ours)
            to_shell(other)
            equal(*talk(ours, other), "sums, from us to QEMU")
            ours.shell("rm -r /tmp/www; killall httpd")
        monitor.wait_event("NETDEV_STREAM_DISCONNECTED")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "wire")
        with Qemu("stream,id=n0,server=on,addr.type=unix,addr.path=%s" % path) as other:
            wait_until("QEMU's socket", lambda: os.path.exists(path))
            net = {"type": "stream", "addr": {"type": "unix", "path": path}, "reconnect": 1}
            with Machine(guest(card("net0", 1, net))) as ours:
                to_shell(ours)
                to_shell(other)
                equal(*talk(other, ours), "sums, from QEMU to us")


# ---- tap ----

def in_own_namespace():
    """This process moves into a network namespace of its own; what it starts is there as well."""
    if os.geteuid() != 0:
        raise Skip("a network namespace needs root")
    if not os.path.exists("/dev/net/tun") or not shutil.which("ip"):
        raise Skip("there is no /dev/net/tun, or no `ip`")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
        raise Skip("no network namespace can be made: %s" % os.strerror(ctypes.get_errno()))
    ip("link set lo up")


def ip(words):
    done = subprocess.run(["ip", *words.split()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise Failure("ip %s: %s" % (words, done.stdout.decode()))


class OwnNamespace:
    """The case runs in a child, so that the others keep the host's network."""

    def __init__(self, case):
        self.case = case
        self.__name__ = case.__name__

    def __call__(self):
        read, write = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            text = b"ok"
            os.close(read)
            try:
                in_own_namespace()
                self.case()
            except Skip as reason:
                text = b"skip" + str(reason).encode()
            except BaseException as error:
                text = b"fail" + repr(error).encode()
            sys.stdout.flush()
            os.write(write, text[:4000])
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            text = pipe.read().decode()
        os.waitpid(child, 0)
        if text.startswith("skip"):
            raise Skip(text[4:])
        if text != "ok":
            raise Failure(text[4:] or "the case died")


@OwnNamespace
def a_tap_interface():
    ip("tuntap add dev tap0 mode tap")
    ip("addr add 10.6.0.1/24 dev tap0")
    ip("link set tap0 up")
    with Machine(guest(card("net0", 1, {"type": "tap", "name": "tap0"})), may_warn=True) as machine:
        monitor = machine.monitor()
        to_shell(machine)
        up(machine, "eth0", "10.6.0.2/24")
        machine.shell("mkdir /tmp/www; head -c 3000000 /dev/urandom >/tmp/www/page; httpd -p 80 -h /tmp/www")
        page = fetch("http://10.6.0.2/page")
        equal(hashlib.md5(page).hexdigest(), value(machine, "md5sum </tmp/www/page").split()[0], "sum")
        with Server() as server:
            server.server.socket.close()
        pair = monitor.command("inspect", path="/devices/net0/pair/0")
        # Large segments: far fewer frames than 3,000,000 bytes need on a wire.
        check(pair["tx-packets"] < 1000, "segments were not left to the host: %r" % pair)
        # Another machine may not have it, and one that is not there is no tap interface.
        for name, text in (("tap0", "in use by another process"), ("tap9", "there is no interface tap9"),
                           ("lo", "is no tap interface")):
            with Machine(guest(card("net0", 1, {"type": "tap", "name": name})), may_warn=True) as other:
                equal(other.wait_exit(), 2, "exit status for %s: %s" % (name, other.log))
                check(text in other.log, "the log: %s" % other.log)
        # It is taken away: the guest goes on without.
        ip("link del tap0")
        monitor.wait_event("NETDEV_FAILED")
        machine.shell("until grep -q 0 /sys/class/net/eth0/carrier; do sleep 0.1; done")


@OwnNamespace
def a_tap_interface_with_several_queues():
    ip("tuntap add dev tap0 mode tap multi_queue")
    ip("addr add 10.6.0.1/24 dev tap0")
    ip("link set tap0 up")
    description = guest(card("net0", 1, {"type": "tap", "name": "tap0", "queue-pairs": 2}))
    description["partition"]["vps"] = 2
    with Machine(description) as machine:
        monitor = machine.monitor()
        to_shell(machine)
        up(machine, "eth0", "10.6.0.2/24")
        equal(value(machine, "ls -d /sys/class/net/eth0/queues/tx-* | wc -l"), "2", "queues")
        equal(monitor.command("inspect", path="/devices/net0/pairs"), 2, "pairs in use")
        machine.shell("mkdir /tmp/www; head -c 1000000 /dev/urandom >/tmp/www/page; httpd -p 80 -h /tmp/www")
        total = value(machine, "md5sum </tmp/www/page").split()[0]
        for _ in range(8):
            equal(hashlib.md5(fetch("http://10.6.0.2/page")).hexdigest(), total, "sum")
        check(monitor.command("pulse-save-restore")["units"] > 0, "units")
        equal(hashlib.md5(fetch("http://10.6.0.2/page")).hexdigest(), total, "sum, later")


def errors_at_the_start():
    with socket.socket() as busy, tempfile.TemporaryDirectory() as folder:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        nobody = os.path.join(folder, "nobody")
        for net, text in (
                ({"type": "user", "forward": [{"host-port": port, "guest-port": 80}]},
                 "forward[0]: cannot listen at tcp port %d of 127.0.0.1: Address already in use" % port),
                ({"type": "user", "net": "10.0.2.1/24"}, "is not the first address of the network"),
                ({"type": "user", "host": "10.0.3.2"}, "host: 10.0.3.2 is not in the network"),
                ({"type": "stream", "addr": {"type": "inet", "port": port}, "server": True},
                 "cannot listen at 127.0.0.1:%d: Address already in use" % port),
                ({"type": "stream", "addr": {"type": "unix", "path": nobody}},
                 "cannot connect with unix:%s: No such file" % nobody),
                ({"type": "tap", "name": "none-such0"}, "there is no interface none-such0")):
            with Machine(guest(card("net0", 1, net)), may_warn=True) as machine:
                check(machine.wait_exit() in (1, 2), "exit status")
                check(text in machine.log, "%s: %s" % (text, machine.log))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    main([the_network_in_the_process, a_restricted_network, the_cable, two_machines,
          two_machines_on_datagrams, qemu_at_the_other_end, a_tap_interface,
          a_tap_interface_with_several_queues, errors_at_the_start],
         needs=[guest_file("vmlinuz"), INITRD])
