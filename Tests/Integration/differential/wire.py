"""RESP in typed values, and one server with its connections as an episode uses them."""

import socket
import time

from harness import encode

# What a reply is when there is none.
SILENCE = ("silence", None)


class Gone(Exception):
    """A server closed a connection, or does not answer."""


class Incomplete(Exception):
    """The bytes end within a reply."""


def parse(data, position=0):
    """One reply from `position` on: ((kind, payload), end). Arrays and their like hold such pairs; nil of every kind has None."""
    end = data.find(b"\r\n", position)
    if end < 0:
        raise Incomplete
    kind, text = chr(data[position]), data[position + 1:end]
    end += 2
    if kind == ":":
        return (kind, int(text)), end
    if kind in "$=!":
        size = int(text)
        if size < 0:
            return (kind, None), end
        if len(data) < end + size + 2:
            raise Incomplete
        return (kind, data[end:end + size]), end + size + 2
    if kind in "*~>%|":
        size = int(text)
        if size < 0:
            return (kind, None), end
        items = []
        for _ in range(size * 2 if kind in "%|" else size):
            item, end = parse(data, end)
            items.append(item)
        return (kind, items), end
    if kind == "_":
        return (kind, None), end
    if kind in "+-,#(":
        return (kind, text), end
    raise AssertionError(f"not RESP: {data[position:position + 80]!r}")


def parse_all(data):
    """Every whole reply, and whatever is left behind them as text."""
    replies, position = [], 0
    while position < len(data):
        try:
            reply, position = parse(data, position)
        except Incomplete:
            replies.append(("incomplete", data[position:]))
            break
        replies.append(reply)
    return replies


class Side:
    """One of the two servers: a control connection, a subscriber of all keyspace events, and named connections.

    A step's commands may come from several connections; `settle` returns when the server has executed what was sent to any
    of them before, because it reads all that is ready before it writes.
    """

    TIMEOUT = 10.0

    def __init__(self, name, port):
        self.name, self.port = name, port
        self.connections, self.ids = {}, {}
        self.control = self._open()
        self.subscriber = self._open()
        self.nonce = 0
        self._ask(self.subscriber, b"PSUBSCRIBE", b"__key*__:*")
        self._ask(self.subscriber, b"SUBSCRIBE", b"end")

    def _open(self):
        connection = socket.create_connection(("127.0.0.1", self.port), self.TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _receive(self, connection):
        try:
            data = connection.recv(1 << 20)
        except TimeoutError:
            raise Gone(f"{self.name} does not answer") from None
        except OSError as error:
            raise Gone(f"{self.name}: {error}") from None
        if not data:
            raise Gone(f"{self.name} closed the connection")
        return data

    def _send(self, connection, data):
        try:
            connection.settimeout(self.TIMEOUT)
            connection.sendall(data)
        except OSError as error:
            raise Gone(f"{self.name}: {error}") from None

    def _ask(self, connection, *words):
        self._send(connection, encode(*words))
        data = b""
        while True:
            data += self._receive(connection)
            try:
                return parse(data)[0]
            except Incomplete:
                continue

    def ask(self, *words):
        """One command on the control connection."""
        return self._ask(self.control, *words)

    def open(self, name, protocol):
        """A connection of that name, in place of an earlier one."""
        self.close(name)
        connection = self._open()
        self.connections[name] = connection
        if protocol == 3:
            self._ask(connection, b"HELLO", b"3")
        self.ids[name] = self._ask(connection, b"CLIENT", b"ID")[1]

    def close(self, name):
        if name in self.connections:
            self.connections.pop(name).close()

    def close_all(self):
        for name in list(self.connections):
            self.close(name)

    def end(self):
        self.close_all()
        self.control.close()
        self.subscriber.close()

    def encoded(self, words):
        """A request; ("id", name) in place of a word stands for that connection's number."""
        return encode(*[str(self.ids.get(word[1], 0)) if isinstance(word, tuple) else word for word in words])

    def answers(self):
        """Whether somebody still answers on the port, on a new connection."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(encode(b"PING"))
                return connection.recv(100) != b""
        except OSError:
            return False

    # -- one connection, whose commands all answer

    def begin(self, name, requests):
        """Sends requests and a mark; `finish` reads up to it."""
        self.nonce += 1
        mark = b"mark%d" % self.nonce
        self._send(self.connections[name], b"".join(requests) + encode(b"ECHO", mark))
        return b"$%d\r\n%s\r\n" % (len(mark), mark)

    def finish(self, name, mark):
        """The raw replies up to the mark."""
        connection, pieces, tail = self.connections[name], [], b""
        while True:
            data = self._receive(connection)
            pieces.append(data)
            tail = (tail + data)[-len(mark):]
            if tail == mark:
                return b"".join(pieces)[:-len(mark)]

    # -- several connections, which may be waiting

    def send(self, name, request):
        if name in self.connections:
            self._send(self.connections[name], request)

    def settle(self):
        # What the first round trip's turn of the loop wrote last has left when the second is answered.
        self.ask(b"PING")
        self.ask(b"PING")

    def heard(self):
        """What each connection has received by now, as raw bytes by name."""
        result = {}
        for name, connection in self.connections.items():
            pieces = []
            connection.setblocking(False)
            while True:
                try:
                    data = connection.recv(1 << 20)
                except BlockingIOError:
                    break
                except OSError:
                    pieces.append(b"-CLOSED\r\n")
                    break
                if not data:
                    pieces.append(b"-CLOSED\r\n")
                    break
                pieces.append(data)
            if pieces:
                result[name] = b"".join(pieces)
        return result

    # -- notifications

    def events(self):
        """All messages that the subscriber received since the last call, raw."""
        self.nonce += 1
        mark = b"end%d" % self.nonce
        self.ask(b"PUBLISH", b"end", mark)
        last = b"$%d\r\n%s\r\n" % (len(mark), mark)
        data = b""
        self.subscriber.settimeout(self.TIMEOUT)
        while not data.endswith(last):
            data += self._receive(self.subscriber)
        return data[:-len(b"*3\r\n$7\r\nmessage\r\n$3\r\nend\r\n" + last)]


def wait_for_port(port, timeout=10.0):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Gone(f"nobody listens on port {port}")
