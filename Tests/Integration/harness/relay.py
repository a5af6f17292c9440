"""A relay between a replica and its master, whose faults the test commands."""

import select
import socket
import struct
import threading
import time


class Relay:
    """Passes connections on to `target`. Ends with `end()`, or as a context manager.

    Faults: `cut()`, `cut_after(bytes)`, `stall()` and `go_on()` (nothing passes, nothing is said: a half-open connection),
    `refuse()`, `flip(byte)`. Bytes are counted from the master to the replica, anew for each connection.
    """

    def __init__(self, target, host="127.0.0.1"):
        self.target, self.host = target, host
        self.listener = socket.create_server((host, 0))
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self._pairs = []
        self._lock = threading.Lock()
        self._stalled = self._refusing = self._ended = False
        self._cut_after = self._flip_at = None
        self._rate = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    # -- what a test commands

    def cut(self, reset=True):
        """Ends all connections at once, on both sides."""
        with self._lock:
            for pair in self._pairs:
                pair.close(reset)
            self._pairs.clear()

    def cut_after(self, count):
        """Ends each new connection once `count` bytes have come from the master; None for never."""
        self._cut_after = count

    def flip(self, at):
        """Inverts the byte at this place of what the master sends, in each new connection; None for no more."""
        self._flip_at = at

    def stall(self):
        self._stalled = True

    def go_on(self):
        self._stalled = False

    def refuse(self):
        """New connections are closed at once; those that are there go on."""
        self._refusing = True

    def accept(self):
        self._refusing = False

    def slow(self, bytes_per_second):
        """At most so much from the master to the replica; None for no limit."""
        self._rate = bytes_per_second

    def end(self):
        self._ended = True
        self.thread.join(5)
        self.cut()
        self.listener.close()

    # -- the work

    def _run(self):
        while not self._ended:
            with self._lock:
                pairs = list(self._pairs)
            sockets = [self.listener]
            if not self._stalled:
                for pair in pairs:
                    sockets += pair.readable(self._rate)
            try:
                ready, _, _ = select.select(sockets, [], [], 0.005)
            except (OSError, ValueError):
                continue
            for one in ready:
                if one is self.listener:
                    self._accept()
            with self._lock:
                for pair in list(self._pairs):
                    if not pair.pump(ready, self._rate):
                        pair.close(True)
                        self._pairs.remove(pair)

    def _accept(self):
        replica, _ = self.listener.accept()
        self.accepted += 1
        if self._refusing:
            replica.close()
            return
        try:
            master = socket.create_connection((self.host, self.target), 2)
        except OSError:
            replica.close()
            return
        with self._lock:
            self._pairs.append(_Pair(replica, master, self._cut_after, self._flip_at))


class _Pair:
    def __init__(self, replica, master, cut_after, flip_at):
        self.replica, self.master, self.cut_after, self.flip_at = replica, master, cut_after, flip_at
        self.passed = 0
        self.started = time.monotonic()
        for one in (replica, master):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(2)

    def readable(self, rate):
        if rate and self.passed > rate * (time.monotonic() - self.started):
            return [self.replica]
        return [self.replica, self.master]

    def pump(self, ready, rate):
        """Passes on what is there. False when the connection is over."""
        try:
            if self.replica in ready:
                data = self.replica.recv(65536)
                if not data:
                    return False
                self.master.sendall(data)
            if self.master in ready:
                data = self.master.recv(min(65536, rate // 10) if rate else 65536)
                if not data:
                    return False
                return self._down(data)
        except OSError:
            return False
        return True

    def _down(self, data):
        if self.flip_at is not None and self.passed <= self.flip_at < self.passed + len(data):
            at = self.flip_at - self.passed
            data = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1:]
        over = self.cut_after is not None and self.passed + len(data) >= self.cut_after
        if over:
            data = data[:self.cut_after - self.passed]
        self.replica.sendall(data)
        self.passed += len(data)
        return not over

    def close(self, reset):
        for one in (self.replica, self.master):
            if reset:
                try:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    pass
            one.close()
