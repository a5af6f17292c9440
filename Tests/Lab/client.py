"""The lab's client: writes numbered records through the VIP and notes each one the platform acknowledged.

    client.py ADDRESS PORT PASSWORD session|fresh FILE

`session` keeps one connection while it works; `fresh` makes a connection for every record. A record is the number N
appended to the list `records`; no number is ever tried twice. FILE gets a line `N SECONDS` (monotonic clock) per
acknowledged record. Ends on SIGTERM, or when its parent ends.
"""

import signal
import socket
import sys
import time

PATIENCE = 0.5        # seconds to wait for a connection or a reply before giving the connection up
PAUSE = 0.001         # between records
PAUSE_AFTER_ERROR = 0.02

address, port, password, mode, file = sys.argv[1:]
running = True


def stop(*_):
    global running
    running = False


def request(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Link:
    """A connection on which every reply of the two commands used is one line."""

    def __init__(self):
        self.socket = socket.create_connection((address, int(port)), PATIENCE)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def line(self):
        while b"\r\n" not in self.buffer:
            data = self.socket.recv(4096)
            if not data:
                raise ConnectionError("closed")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def authenticate(self):
        self.socket.sendall(request(b"AUTH", password.encode()))
        if self.line() != b"+OK":
            raise ConnectionError("AUTH refused")

    def append(self, number):
        self.socket.sendall(request(b"RPUSH", b"records", b"%d" % number))
        reply = self.line()
        if not reply.startswith(b":"):
            raise ConnectionError(reply)

    def close(self):
        self.socket.close()


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, signal.SIG_IGN)
link, number = None, 0
with open(file, "w", buffering=1) as acknowledged:
    while running:
        number += 1
        try:
            if link is None:
                link = Link()
                link.authenticate()
            link.append(number)
            acknowledged.write(f"{number} {time.monotonic():.6f}\n")
            if mode == "fresh":
                link.close()
                link = None
            time.sleep(PAUSE)
        except OSError:
            if link:
                link.close()
            link = None
            time.sleep(PAUSE_AFTER_ERROR)
