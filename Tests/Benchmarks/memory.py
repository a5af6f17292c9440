"""Resident bytes per item, and per idle connection."""

import random
import socket
import time

from harness import RawClient
from harness.resp import encode
from peers import allow_descriptors

VALUE = b"v" * 64


def _key(number):
    return b"key:%012d" % number


def _churned(count):
    """64-byte values, half of which are then replaced, three times over, by values of 1 to 127 bytes: 64 on average still."""
    yield from (("SET", _key(i), VALUE) for i in range(count))
    numbers = random.Random(1)
    for _ in range(3):
        for i in numbers.sample(range(count), count // 2):
            yield "SET", _key(i), b"v" * numbers.randint(1, 127)


CHURNED = "string, 64-byte value, half replaced 3 times"

# What is stored, for `count` items: (what it is called, payload bytes per item, requests).
KINDS = {
    "string, 64-byte value": (80, lambda count: (("SET", _key(i), VALUE) for i in range(count))),
    CHURNED: (80, _churned),
    "string, 8-byte value": (24, lambda count: (("SET", _key(i), b"x%07d" % i) for i in range(count))),
    "string, integer value": (16, lambda count: (("SET", _key(i), b"%d" % (i + 1_000_000)) for i in range(count))),
    "string, 64-byte value, TTL": (88, lambda count: (("SET", _key(i), VALUE, "EX", "86400") for i in range(count))),
    "hash of 10 fields, 16-byte values (per field)": (18, lambda count: (
        ("HSET", _key(i), *(word for f in range(10) for word in (b"f%d" % f, b"%016d" % i))) for i in range(count // 10))),
    "one hash, 16-byte values": (32, lambda count: (("HSET", "hash", _key(i), b"%016d" % i) for i in range(count))),
    "one sorted set": (24, lambda count: (("ZADD", "zset", b"%d" % (i * 7919 % 1_000_003), _key(i)) for i in range(count))),
    "one set": (16, lambda count: (("SADD", "set", _key(i)) for i in range(count))),
    "list of 100-byte items": (100, lambda count: (("RPUSH", "list", b"i" * 100) for i in range(count))),
}


# What Vigie is to need at most; the row of the replaced values is measured against that of the same values untouched.
TARGETS = [120, None, 60, 48, 130, 30, 72, 64, 40, 104]


def settled(server, patience=15.0):
    """Resident bytes, once they have not fallen for a second: what is moved together afterwards counts as moved."""
    lowest, since, end = server.process.resident_bytes(), time.monotonic(), time.monotonic() + patience
    while time.monotonic() < min(end, since + 1.0):
        time.sleep(0.1)
        now = server.process.resident_bytes()
        if now < lowest * 0.999:
            lowest, since = now, time.monotonic()
    return server.process.resident_bytes()


def send_all(server, requests):
    """Sends requests in batches and reads the replies only for their number."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        batch, pending = bytearray(), 0

        def flush():
            connection.sendall(batch + encode("ECHO", "end-of-batch"))
            answer = b""
            while not answer.endswith(b"end-of-batch\r\n"):
                answer = answer[-64:] + connection.recv(1 << 20)
                if b"-ERR" in answer or b"-WRONG" in answer:
                    raise RuntimeError(f"port {server.port}: {answer[-200:]!r}")
            batch.clear()
        for words in requests:
            batch += encode(*words)
            pending += 1
            if pending % 1000 == 0:
                flush()
        flush()


def run(peers, options):
    names = list(peers.servers)
    count, rows = options.items, []
    print(f"\nresident bytes per item, {count} items, 16-byte keys")
    print(f"{'kind':48}" + "".join(f" {name:>8}" for name in names) + f" {'payload':>8} {'target':>8}")
    for (kind, (payload, requests)), target in zip(KINDS.items(), TARGETS, strict=True):
        if kind == CHURNED and "vigie" in names:
            target = rows[0]["vigie"] * 1.15
        row = {"kind": kind, "payload": payload, "target": target}
        for name in names:
            server = peers.start(name)
            before = server.process.resident_bytes()
            send_all(server, requests(count))
            time.sleep(0.3)
            after = settled(server) if kind == CHURNED else server.process.resident_bytes()
            row[name] = (after - before) / count
            server.kill()
        rows.append(row)
        print(f"{kind:48}" + "".join(f" {row[name]:8.0f}" for name in names)
              + f" {payload:8}" + (f" {target:8.0f}" if target else ""), flush=True)
    return rows


def run_idle(peers, options):
    """User memory per idle connection, after each has had one reply and had time to give its buffers back."""
    count = options.connections
    allow_descriptors(count + 500)
    rows = []
    print(f"\nresident bytes per idle connection, {count} connections that have each had one reply")
    for name in peers.servers:
        server = peers.start(name, maxclients=count + 100)
        before = server.process.resident_bytes()
        clients = []
        try:
            for _ in range(count):
                client = RawClient(server.port)
                assert client.call("PING") == b"+PONG\r\n"
                clients.append(client)
            busy = server.process.resident_bytes()
            time.sleep(options.idle)
            after = server.process.resident_bytes()
        finally:
            for client in clients:
                client.close()
            server.kill()
        rows.append({"server": name, "connections": count, "bytes": (after - before) / count,
                     "before_idle": (busy - before) / count})
        print(f"{name:12} {(after - before) / count:9.0f}   ({(busy - before) / count:.0f} before {options.idle:.0f} s of idling)"
              + ("   target 1024" if name == "vigie" else ""), flush=True)
    return rows
