"""RESP as bytes: a client that returns each reply exactly as the server wrote it."""

import socket


class ServerClosed(Exception):
    """The server ended the connection."""


def as_bytes(word):
    if isinstance(word, bytes):
        return word
    if isinstance(word, (int, float)):
        return repr(word).encode()
    return str(word).encode()


def encode(*words):
    """A request: an array of bulk strings."""
    words = [as_bytes(word) for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class RawClient:
    """One connection. `call` returns the raw bytes of the reply, `value` the same as Python values."""

    def __init__(self, port, host="127.0.0.1", timeout=5.0, path=None):
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(path)
        else:
            self.socket = socket.create_connection((host, port), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self._buffer = bytearray()
        self._position = 0

    # -- sending

    def send(self, *words):
        self.socket.sendall(encode(*words))

    def send_raw(self, data):
        self.socket.sendall(data)

    def call(self, *words):
        self.send(*words)
        return self.read()

    def value(self, *words):
        return parse(self.call(*words))

    # -- receiving

    def read(self, timeout=None):
        """One whole reply (or push) as raw bytes."""
        self.socket.settimeout(self.timeout if timeout is None else timeout)
        self._position = 0
        self._skip_value()
        raw = bytes(self._buffer[:self._position])
        del self._buffer[:self._position]
        return raw

    def read_value(self, timeout=None):
        return parse(self.read(timeout))

    def silent(self, seconds=0.1):
        """True when the server says nothing for `seconds`."""
        if self._buffer:
            return False
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return True
        self._buffer += data
        return False

    def closed(self, timeout=None):
        """True when the server closes the connection in time, whatever it says before."""
        self.socket.settimeout(self.timeout if timeout is None else timeout)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _fill(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise ServerClosed(f"the server closed the connection after {bytes(self._buffer)!r}")
        self._buffer += data

    def _skip_line(self):
        while True:
            end = self._buffer.find(b"\r\n", self._position)
            if end >= 0:
                line = bytes(self._buffer[self._position:end])
                self._position = end + 2
                return line
            self._fill()

    def _skip_value(self):
        line = self._skip_line()
        kind, rest = line[:1], line[1:]
        if kind in b"+-:_,#(" and kind:
            return
        if kind in (b"$", b"=", b"!"):
            length = int(rest)
            if length < 0:
                return
            while len(self._buffer) < self._position + length + 2:
                self._fill()
            self._position += length + 2
            return
        if kind in (b"*", b"~", b">"):
            for _ in range(max(0, int(rest))):
                self._skip_value()
            return
        if kind in (b"%", b"|"):
            for _ in range(2 * int(rest)):
                self._skip_value()
            if kind == b"|":  # an attribute precedes the value it belongs to
                self._skip_value()
            return
        raise AssertionError(f"not RESP: {line!r}")


class ReplyError(str):
    """An error reply as a value."""


def parse(raw):
    """The Python value of one raw reply. Sets and maps keep their order as lists; a map is a list of pairs."""
    value, rest = _parse(raw)
    assert not rest, f"bytes behind the reply: {rest!r}"
    return value


def _parse(raw):
    line, _, rest = raw.partition(b"\r\n")
    kind, text = line[:1], line[1:]
    if kind == b"+":
        return text, rest
    if kind == b"-":
        return ReplyError(text.decode(errors="replace")), rest
    if kind in (b":", b"("):
        return int(text), rest
    if kind == b",":
        return float(text), rest
    if kind == b"#":
        return text == b"t", rest
    if kind == b"_":
        return None, rest
    if kind in (b"$", b"=", b"!"):
        length = int(text)
        return (None, rest) if length < 0 else (rest[:length], rest[length + 2:])
    if kind in (b"*", b"~", b">"):
        if int(text) < 0:
            return None, rest
        items = []
        for _ in range(int(text)):
            item, rest = _parse(rest)
            items.append(item)
        return items, rest
    if kind == b"%":
        pairs = []
        for _ in range(int(text)):
            key, rest = _parse(rest)
            value, rest = _parse(rest)
            pairs.append((key, value))
        return pairs, rest
    raise AssertionError(f"not RESP: {line!r}")
