"""Seconds that SAVE takes, and that loading the file at start takes, beside redis-server."""

import re
import statistics
import subprocess
import time

from peers import load_command

# What is saved: (items, the command that makes each of them). Values of one letter repeated compress to nothing; the others do not.
INCOMPRESSIBLE = "".join(chr(33 + (i * 37 + i * i * 11) % 94) for i in range(64))
KINDS = {
    "strings of 64 bytes": (2_000_000, ["SET", "key:__rand_int__", "x" * 64]),
    "strings of 64 bytes that do not compress": (2_000_000, ["SET", "key:__rand_int__", INCOMPRESSIBLE]),
    "one sorted set": (1_000_000, ["ZADD", "zset", "__rand_int__", "element:__rand_int__"]),
    "one hash, 64-byte values": (1_000_000, ["HSET", "hash", "element:__rand_int__", "x" * 64]),
    "one list, 64-byte items": (1_000_000, ["RPUSH", "list", INCOMPRESSIBLE]),
}
TARGET = 0.5


def fill(server, count, words):
    subprocess.run(load_command("redis-benchmark", "-p", server.port, "-P", 64, "-n", count, "-r", 1_000_000_000, "-q", *words),
                   check=True, stdout=subprocess.DEVNULL)


def save(server):
    before = time.monotonic()
    with server.raw(timeout=120) as client:
        assert client.call("SAVE") == b"+OK\r\n"
    return time.monotonic() - before


def load(peers, server):
    """What a server that starts in the same folder says that loading took."""
    again = peers.start(server.name, folder=server.folder)
    again.wait_log("DB loaded from disk")
    seconds = float(re.findall(r"DB loaded from disk: ([0-9.]+) seconds", again.log_text())[-1])
    again.kill()
    return seconds


def run(peers, options):
    names = list(peers.servers)
    rows = []
    print(f"\nseconds for SAVE and for loading at start, median of {options.rounds}")
    print(f"{'':44}" + "".join(f" {name:>9}" for name in names) + ("     ratio" if len(names) == 2 else ""))
    for kind, (count, words) in KINDS.items():
        seconds = {"SAVE": {}, "load": {}}
        for name in names:
            server = peers.start(name)
            fill(server, int(count * options.scale), words)
            seconds["SAVE"][name] = statistics.median(save(server) for _ in range(options.rounds))
            server.kill()
            seconds["load"][name] = statistics.median(load(peers, server) for _ in range(options.rounds))
        for action, taken in seconds.items():
            row = {"kind": kind, "action": action, **taken, "target": TARGET}
            text = f"{action} {kind:39}" + "".join(f" {taken[name]:9.3f}" for name in names)
            if set(names) == {"redis", "vigie"}:
                row["ratio"] = taken["vigie"] / taken["redis"]
                text += f" {row['ratio']:9.2f}" + ("  missed" if row["ratio"] > TARGET else "")
            rows.append(row)
            print(text, flush=True)
    return rows
