"""What the proxy's tests share: a syslog to listen to, servers that misbehave, the article's platform on loopback."""

import re
import socket
import struct
import threading

from harness import free_port, wait_until
from harness.binary import ARTICLE

PASSWORD = "7xJtpLugAyu6hgPbuB3hX4R"


class SyslogSocket:
    """A /dev/log of our own: every datagram that is sent to it."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self._ended = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while not self._ended:
            try:
                self.lines.append(self._socket.recv(65536).decode().rstrip("\n"))
            except TimeoutError:
                continue

    def wait(self, text, timeout=5.0):
        """The first line that contains `text`."""
        return wait_until(lambda: next((line for line in self.lines if text in line), None), timeout, f"{text!r} in syslog: {self.lines[-5:]}")

    def end(self):
        self._ended = True
        self._thread.join()
        self._socket.close()


def message(line):
    """Priority and text of a datagram, without date and process id."""
    match = re.fullmatch(r"<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d (\w+)\[\d+\]: (.*)", line)
    assert match, f"not a syslog line: {line!r}"
    return int(match[1]), match[2], match[3]


class FakeServer:
    """A TCP server on a free port whose every connection runs `behave(connection)` in a thread."""

    def __init__(self, behave, port=None):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port or 0))
        self.socket.listen(128)
        self.port = self.socket.getsockname()[1]
        self.behave = behave
        self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        try:
            self.behave(connection)
        except OSError:
            pass

    def end(self):
        # shutdown wakes the thread that is in accept; close alone would not.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def connect(port, timeout=10.0):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(timeout)
    return connection


def article_text(bind_port, server_ports, log, stats="{stats}"):
    """The article's haproxy.cfg with loopback addresses and ports that are free, and without what needs root."""
    text = (ARTICLE / "haproxy-01/etc/haproxy/haproxy.cfg").read_text()
    text = text.replace("/dev/log", str(log)).replace("/run/haproxy/admin.sock", stats)
    text = text.replace("192.168.0.1:6379", f"127.0.0.1:{bind_port}")
    for host, port in zip((4, 5, 6), server_ports):
        text = text.replace(f"192.168.0.{host}:6379", f"127.0.0.1:{port}")
    return re.sub(r"(?m)^ *(chroot|user|group|daemon)\b.*\n", "", text)


class Article:
    """Three real redis-servers behind the article's haproxy.cfg."""

    def __init__(self, redis_server, start_proxy, log, **options):
        self.master = redis_server(password=PASSWORD, **options)
        self.replicas = [
            redis_server(password=PASSWORD, replicaof=f"127.0.0.1 {self.master.port}", **options) for _ in range(2)]
        self.servers = [self.master, *self.replicas]
        self.port = free_port()
        self.log = log
        self.proxy = start_proxy(article_text(self.port, [s.port for s in self.servers], log.path))
        wait_until(lambda: self.proxy.status("bk_redis", "redis01") == "UP", 5)

    def statuses(self):
        stats = self.proxy.stats()
        return [stats["bk_redis", f"redis0{i}"]["status"] for i in (1, 2, 3)]

    def wait_statuses(self, *wanted, timeout=10):
        return wait_until(lambda: self.statuses() == list(wanted), timeout, f"{wanted}, not {self.statuses()}")

    def promote(self, index):
        """What a Sentinel does to the replica it chose, and to the others."""
        self.servers[index].call("REPLICAOF", "NO", "ONE")
        for other in self.servers:
            if other is not self.servers[index] and other.process.alive():
                other.call("REPLICAOF", "127.0.0.1", str(self.servers[index].port))
