"""Seconds that SAVE takes, and that loading the file at start takes, beside redis-server; and loading append-only files of commands."""

import re
import shutil
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
# Append-only files of commands: (commands, the n-th of them).
COMMANDS = {
    "commands: SET": (1_000_000, lambda n: (b"SET", b"key:%012d" % n, b"x" * 64)),
    "commands: RPUSH to 1000 lists": (1_000_000, lambda n: (b"RPUSH", b"list:%d" % (n % 1000), b"element:%012d" % n)),
    "commands: HSET of 10 fields": (300_000, lambda n: (b"HSET", b"hash:%d" % n, *(b"field:%d" % (i // 2) if i % 2 == 0 else b"value:%d" % n for i in range(20)))),
    "commands: ZADD to one set": (500_000, lambda n: (b"ZADD", b"zset", b"%d" % (n * 7919 % 500_000), b"element:%012d" % n)),
}


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


def write_commands(folder, count, command):
    """An append-only file of one increment."""
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    with open(folder / "appendonly.aof.1.incr.aof", "wb") as file:
        file.write(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
        for n in range(count):
            words = command(n)
            file.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))


def load_commands(peers, name, folder):
    server = peers.start(name, folder=folder, appendonly="yes")
    server.wait_log("DB loaded from append only file", 60)
    seconds = float(re.findall(r"DB loaded from append only file: ([0-9.]+) seconds", server.log_text())[-1])
    server.kill()
    return seconds


def show(rows, names, kind, action, taken):
    row = {"kind": kind, "action": action, **taken, "target": TARGET}
    text = f"{action} {kind:39}" + "".join(f" {taken[name]:9.3f}" for name in names)
    if set(names) == {"redis", "vigie"}:
        row["ratio"] = taken["vigie"] / taken["redis"]
        text += f" {row['ratio']:9.2f}" + ("  missed" if row["ratio"] > TARGET else "")
    rows.append(row)
    print(text, flush=True)


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
            show(rows, names, kind, action, taken)
    for kind, (count, command) in COMMANDS.items():
        folder = peers.directory / kind.replace(" ", "-").replace(":", "")
        write_commands(folder / "appendonlydir", int(count * options.scale), command)
        taken = {name: statistics.median(load_commands(peers, name, folder) for _ in range(options.rounds)) for name in names}
        show(rows, names, kind, "load", taken)
        shutil.rmtree(folder)
    return rows
