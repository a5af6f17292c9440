"""Malformed, cut and oversized requests on raw sockets: the store says and does, byte for byte, what Redis does."""

import selectors
import socket
import time

import pytest

from harness import encode

PING, SET = encode("PING"), encode("SET", "k", "v")
HELLO = {2: b"", 3: encode("HELLO", "3")}

# Each is sent to a fresh connection; what comes back until the connection is closed or falls silent is compared.
FRAMES = {
    # what an array's length may be
    "empty array": b"*0\r\n" + PING,
    "negative array": b"*-1\r\n" + PING,
    "very negative array": b"*-9223372036854775808\r\n" + PING,
    "below the range": b"*-9223372036854775809\r\n" + PING,
    "array length of no digits": b"*\r\n" + PING,
    "array length a letter": b"*a\r\n" + PING,
    "array length with a letter": b"*1a\r\n" + PING,
    "array length with a letter, unfinished": b"*1a",
    "array length with a plus": b"*+1\r\n$4\r\nPING\r\n",
    "array length with a leading zero": b"*01\r\n$4\r\nPING\r\n",
    "array length of two zeros": b"*00\r\n" + PING,
    "array length minus zero": b"*-0\r\n" + PING,
    "array length minus": b"*-\r\n" + PING,
    "array length with a space": b"* 1\r\n$4\r\nPING\r\n",
    "array length with a space behind": b"*1 \r\n$4\r\nPING\r\n",
    "array length hexadecimal": b"*0x1\r\n" + PING,
    "array length a fraction": b"*1.0\r\n" + PING,
    "array length of 2^31": b"*2147483648\r\n" + PING,
    "array length of 2^31 - 1": b"*2147483647\r\n$4\r\nPING\r\n",
    "array length of a million": b"*1000000\r\n$4\r\nPING\r\n",
    "array length of 2^63": b"*9223372036854775808\r\n" + PING,
    "array length of 30 digits": b"*" + b"9" * 30 + b"\r\n",
    "array length that does not end": b"*" + b"1" * 70_000,
    "array length of 60 000 digits, unfinished": b"*" + b"1" * 60_000,
    "array length with a zero byte": b"*1\x00\r\n$4\r\nPING\r\n",
    "only the star": b"*",
    "star and CR": b"*1\r",
    "array length ended by LF only": b"*1\n$4\nPING\n",
    "anything may be behind CR": b"*1\rX$4\rYPINGZZ" + PING,
    "CR in the array length": b"*1\r\r\n$4\r\nPING\r\n",
    # what a bulk string's length may be
    "no dollar": b"*1\r\nPING\r\n" + PING,
    "no dollar, unfinished": b"*1\r\nPING",
    "a colon for the dollar": b"*1\r\n:4\r\nPING\r\n",
    "an array in the array": b"*2\r\n$4\r\nECHO\r\n*1\r\n$1\r\na\r\n",
    "RESP3 kinds are not for requests": b"*2\r\n$4\r\nECHO\r\n_\r\n",
    "a RESP3 map": b"%1\r\n$4\r\nPING\r\n$1\r\na\r\n",
    "a reply": b"+OK\r\n-ERR x\r\n:1\r\n$5\r\nholla\r\n",
    "line end for the dollar": b"*1\r\n\r\n$4\r\nPING\r\n",
    "LF for the dollar": b"*1\r\n\n4\r\nPING\r\n",
    "a byte above 127 for the dollar": b"*1\r\n\xff4\r\nPING\r\n",
    "a zero byte for the dollar": b"*1\r\n\x004\r\nPING\r\n",
    "bulk length of no digits": b"*1\r\n$\r\nPING\r\n",
    "bulk length negative": b"*1\r\n$-1\r\n" + PING,
    "bulk length minus zero": b"*1\r\n$-0\r\n\r\n",
    "bulk length with a plus": b"*1\r\n$+4\r\nPING\r\n",
    "bulk length with a leading zero": b"*1\r\n$04\r\nPING\r\n",
    "bulk length a letter": b"*1\r\n$abc\r\nPING\r\n",
    "bulk length a letter, unfinished": b"*1\r\n$abc",
    "bulk length with a space": b"*1\r\n$4 \r\nPING\r\n",
    "bulk length with a zero byte": b"*1\r\n$4\x00\r\nPING\r\n",
    "bulk length one above proto-max-bulk-len": b"*2\r\n$4\r\nECHO\r\n$1048577\r\n",
    "bulk length far above": b"*2\r\n$4\r\nECHO\r\n$99999999999\r\n",
    "bulk length of 2^63": b"*2\r\n$4\r\nECHO\r\n$9223372036854775808\r\n",
    "bulk length of 40 digits": b"*2\r\n$4\r\nECHO\r\n$" + b"1" * 40 + b"\r\n",
    "bulk length that does not end": b"*2\r\n$4\r\nECHO\r\n$" + b"1" * 70_000,
    "bulk line that does not end": b"*2\r\n$4\r\nECHO\r\n" + b"a" * 70_000,
    "bulk of nothing": encode("ECHO", "") + PING,
    "a name of nothing": b"*1\r\n$0\r\n\r\n" + PING,
    "no name at all, arguments": b"*2\r\n$0\r\n\r\n$1\r\na\r\n",
    "longer than announced": b"*2\r\n$4\r\nECHO\r\n$3\r\nabcdef\r\n" + PING,
    "shorter than announced": b"*2\r\n$4\r\nECHO\r\n$6\r\nabc\r\n" + PING + PING,
    "anything may be behind the payload": b"*1\r\n$4\r\nPINGxx" + PING,
    # cut
    "cut in the name": b"*1\r\n$4\r\nPI",
    "cut before the last LF": b"*1\r\n$4\r\nPING\r",
    "cut behind the array length": b"*3\r\n",
    "cut between arguments": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n",
    "cut, then garbage where a dollar was to come": b"*3\r\n$3\r\nSET\r\nx\r\n",
    "cut in a long payload": b"*2\r\n$4\r\nECHO\r\n$100000\r\n" + b"a" * 5000,
    "a long payload, then garbage": b"*3\r\n$3\r\nSET\r\n$50000\r\n" + b"a" * 50000 + b"\r\nx4\r\n",
    "a long payload, then a bad length": b"*3\r\n$3\r\nSET\r\n$50000\r\n" + b"a" * 50000 + b"\r\n$-4\r\n",
    # what came before an error is answered, what comes behind it is not
    "good, then bad": SET + PING + b"*1\r\n$x\r\n" + PING,
    "good, bad, good inline": PING + b"*1\r\nfoo\r\nPING\r\n",
    "interleaved inline and arrays": b"PING\r\n" + PING + b"ECHO a\r\n" + encode("ECHO", "b") + b"\r\n\r\n" + PING,
    "a pipeline with an error in a reply": encode("INCR", "a", "b") + encode("NOSUCH", "x", "y") + PING,
    # inline
    "inline, LF only": b"PING\nECHO a\n",
    "inline, empty lines": b"\r\n\n\r\n\nPING\r\n",
    "inline, spaces only": b"    \r\nPING\r\n",
    "inline, tabs": b"\tECHO\t a \t\r\n",
    "inline, vertical tab inside a word": b"ECHO a\x0bb\r\n",
    "inline, form feed before a word": b"ECHO \x0ca\r\n",
    "inline, CR inside": b"ECHO a\rb\r\n",
    "inline, quotes": b'ECHO "a b\\x41\\n\\"\\\\\\t\\q"\r\n' + b"ECHO 'it\\'s \\x41'\r\n",
    "inline, quotes in the middle": b'ECHO ab"cd"\r\n',
    "inline, bad hexadecimal": b'ECHO "\\xZZ\\x4"\r\n',
    "inline, open quote": b'ECHO "abc\r\nPING\r\n',
    "inline, open single quote": b"ECHO 'abc\r\nPING\r\n",
    "inline, quote followed by a letter": b'ECHO "abc"d\r\n',
    "inline, empty quotes": b'ECHO ""\r\n' + b"''\r\n",
    "inline, bytes above 127": b"ECHO \xff\xfe\x80\r\n",
    "inline, a zero byte": b"ECHO a\x00b\r\nPING\r\n",
    "inline, a zero byte first": b"\x00PING\r\nPING\r\n",
    "inline, zero bytes without end": b"\x00" * 70_000,
    "inline, too big": b"A" * 100_000,
    "inline, 60 000 bytes": b"ECHO " + b"a" * 60_000 + b"\r\n",
    "inline, unfinished": b"PING",
    "inline, CR only": b"PING\r",
    "inline, a dollar": b"$4\r\nPING\r\n",
    "inline, JSON": b'{"a": 1}\r\n',
    # names and texts in errors
    "unknown command with long arguments": encode("x" * 300, "a" * 100, "b" * 100, "c"),
    "unknown command with zero bytes": encode(b"no\x00such", b"a\x00b"),
    "unknown command with line ends": encode(b"no\r\nsuch", b"a\r\nb"),
    "unknown command with bytes above 127": encode(b"\xff\xfe", b"\x80"),
    "unknown subcommand": encode("CONFIG", b"\xff\r\n\x00x") + encode("cLient", "nosuch", "x") + encode("COMMAND", "nosuch"),
    "every byte value": encode("ECHO", bytes(range(256))),
    # another protocol
    "HTTP GET": b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "HTTP with a host": b"GET / HTTP/1.1\r\nHost: example\r\nSET k v\r\n\r\n",
    "HTTP POST": b"POST / HTTP/1.1\r\nHost: example\r\n\r\nSET k v\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xab" * 200,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
}
SHORT = {name: frame for name, frame in FRAMES.items() if len(frame) < 150}

# The same for a client that has not said who it is.
UNAUTHENTICATED = {
    "a command": PING,
    "unknown command": encode("NOSUCH"),
    "unknown subcommand": encode("CONFIG", "NOSUCH"),
    "wrong number of arguments": encode("GET"),
    "ten arguments": encode(*["a"] * 10),
    "eleven arguments": encode(*["a"] * 11),
    "a million arguments": b"*1000000\r\n",
    "16384 bytes": encode("AUTH", "a" * 16384),
    "16385 bytes": encode("AUTH", "a" * 16385),
    "16385 bytes announced": b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
    "a length that is too long": b"*2\r\n$4\r\nAUTH\r\n$99999999999\r\n",
    "a long inline line": b"AUTH " + b"a" * 20_000 + b"\r\n",
    "QUIT": encode("QUIT") + PING,
    "RESET": encode("RESET") + PING,
    "HELLO": encode("HELLO", "3", "AUTH", "default", "wrong") + PING,
    "AUTH, then a command": encode("AUTH", "secret") + PING + encode(*["ECHO"] + ["a" * 20_000]),
    "AUTH, wrong": encode("AUTH", "wrong") + encode("AUTH", "default", "wrong") + encode("AUTH", "no", "secret") + PING,
    "AUTH with too much": encode("AUTH", "a", "b", "c"),
    "MULTI": encode("MULTI") + encode("EXEC"),
    "SUBSCRIBE": encode("SUBSCRIBE", "a"),
    "a malformed request": b"*1\r\n$x\r\n",
}


class Conversation:
    """One connection: what was said, and whether it was closed."""

    def __init__(self, port, data, selector):
        self.heard, self.closed, self.data = bytearray(), False, data
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.selector = selector
        selector.register(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def ready(self, events):
        if events & selectors.EVENT_WRITE:
            try:
                while self.data:
                    self.data = self.data[self.socket.send(self.data[:1] if self.piecewise else self.data):]
                    if self.piecewise:
                        break
            except BlockingIOError:
                pass
            except OSError:
                self.data = b""
            if not self.data:
                self.selector.modify(self.socket, selectors.EVENT_READ, self)
        if events & selectors.EVENT_READ:
            try:
                received = self.socket.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError:
                received = b""
            self.heard += received
            if not received:
                self.closed = True
                self.selector.unregister(self.socket)

    piecewise = False


def converse(servers, frames, before=b"", piecewise=False):
    """Says each frame to each server on a connection of its own.
    - Returns: for each server the answers by the frame's name: the bytes, and whether the connection was closed."""
    selector = selectors.DefaultSelector()
    told = [{name: Conversation(server.port, before + frame, selector) for name, frame in frames.items()} for server in servers]
    everyone = [conversation for answers in told for conversation in answers.values()]
    for conversation in everyone:
        conversation.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation.piecewise = piecewise
    quiet_since = time.monotonic()
    deadline = quiet_since + 20
    # Quiet for a while and agreed, or quiet for long.
    while time.monotonic() < deadline:
        for key, events in selector.select(0.05):
            key.data.ready(events)
            quiet_since = time.monotonic()
        quiet = time.monotonic() - quiet_since
        outcomes = [{name: (bytes(c.heard), c.closed) for name, c in answers.items()} for answers in told]
        if quiet > 2 or (quiet > 0.3 and all(outcome == outcomes[0] for outcome in outcomes)):
            break
    for conversation in everyone:
        conversation.socket.close()
    selector.close()
    return outcomes


def compare(ours, real, frames, before, piecewise=False):
    said, expected = converse([ours, real], frames, before, piecewise)
    differences = [f"{name}: said {said[name]!r:.400}\n    Redis: {expected[name]!r:.400}" for name in frames
                   if said[name] != expected[name]]
    assert not differences, f"{len(differences)} of {len(frames)}\n" + "\n".join(differences)


@pytest.mark.parametrize("protocol", [2, 3])
def test_malformed_requests(vigie_store, redis_server, protocol):
    options = {"proto_max_bulk_len": 1048576}
    ours, real = vigie_store(**options), redis_server(**options)
    # HELLO names the version and the connection's number, which differ: it goes without a reply.
    before = encode("CLIENT", "REPLY", "SKIP") + HELLO[3] if protocol == 3 else b""
    compare(ours, real, FRAMES, before)
    compare(ours, real, SHORT, before, piecewise=True)
    assert ours.call("PING") == b"PONG"


def test_unauthenticated_clients(vigie_store, redis_server):
    ours, real = vigie_store(requirepass="secret"), redis_server(requirepass="secret")
    compare(ours, real, UNAUTHENTICATED, b"")


def test_proto_max_bulk_len(vigie_store, redis_server):
    """The limit holds at once when it is changed, and for what is being received already it does not."""
    ours, real = vigie_store(), redis_server()
    for server in (ours, real):
        with server.raw() as client:
            assert client.call("CONFIG", "SET", "proto-max-bulk-len", "1048576") == b"+OK\r\n"
            assert client.call("ECHO", "a" * 1048576)[:10] == b"$1048576\r\n"
            # The value itself would meet a connection that is closed already.
            client.socket.sendall(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n")
            assert client.read() == b"-ERR Protocol error: invalid bulk length\r\n"
            assert client.closed()
