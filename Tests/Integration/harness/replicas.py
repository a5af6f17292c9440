"""A replica that the test plays itself, byte by byte."""

from .resp import RawClient


class PlayedReplica:
    """Speaks a replica's half of the protocol on one connection.

    `synchronise` asks and reads the snapshot, `acknowledge` makes the master count it as online; what is not read stays in
    the kernel's buffers and then in the master's.
    """

    def __init__(self, port, capabilities=("eof", "psync2"), small_window=False):
        self.client = RawClient(port, timeout=10)
        if small_window:
            import socket
            self.client.close()
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.settimeout(10)
            raw.connect(("127.0.0.1", port))
            self.client.socket = raw
        self.buffer = b""
        self.say("PING")
        self.say("REPLCONF", "listening-port", 7)
        for name in capabilities:
            self.say("REPLCONF", "capa", name)

    def say(self, *words):
        self.client.send(*words)
        return self.line()

    def more(self):
        data = self.client.socket.recv(65536)
        if not data:
            raise ConnectionError("the master closed the connection")
        self.buffer += data

    def line(self):
        """The next line that is not empty."""
        while True:
            while b"\n" not in self.buffer:
                self.more()
            line, _, self.buffer = self.buffer.partition(b"\n")
            if line.strip(b"\r"):
                return line.strip(b"\r").decode()

    def take(self, count):
        while len(self.buffer) < count:
            self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def snapshot(self):
        """The payload, whichever form it comes in; `form` says which."""
        header = self.line()
        assert header[0] == "$", header
        if header.startswith("$EOF:"):
            self.form = "eof"
            mark = header[5:].encode()
            while mark not in self.buffer:
                self.more()
            payload, _, self.buffer = self.buffer.partition(mark)
            return payload
        self.form = "length"
        return self.take(int(header[1:]))

    def synchronise(self, how=("PSYNC", "?", "-1")):
        self.client.send(*how)
        if how[0] == "PSYNC":
            words = self.line().split()
            assert words[0] == "+FULLRESYNC", words
            self.replication_id, self.offset = words[1], int(words[2])
        return self.snapshot()

    def acknowledge(self, offset=None):
        self.client.send("REPLCONF", "ACK", self.offset if offset is None else offset)

    def close(self):
        self.client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
