"""Latency while a snapshot of 2 M keys is written, under a fixed rate of requests, beside redis-server.

One BGSAVE begins in each window, which is a little longer than redis-server's takes: BGSAVE after BGSAVE would make the faster server fork
more often in the same time.

The rate is a share of what redis-server answers at most without a snapshot, half SETs, half GETs, over all keys, so that pages are copied
all the time. The child shares the server's CPU, as both servers are kept on one. Besides the percentiles: how long the fork stopped the
server, how long a snapshot took, and the memory that was copied, as the server says and as /proc/PID/smaps_rollup of the child says
while it lives.
"""

import json
import statistics
import subprocess
import threading
import time
from pathlib import Path

from latency import generator, most
from peers import load_command

KEYS = 2_000_000
LOAD = 0.35
SECONDS = 4
PERCENTILES = ["p50", "p99", "p99.9", "max"]


def fill(server, keys):
    """The keys that the generator asks for."""
    with server.raw(timeout=60) as client:
        for first in range(0, keys, 10_000):
            last = min(keys, first + 10_000)
            client.send_raw(b"".join(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$64\r\n%s\r\n" % (n, b"y" * 64) for n in range(first, last)))
            for _ in range(first, last):
                client.read()


def private_dirty(pid):
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Private_Dirty")), 0)


def child_of(server):
    found = subprocess.run(["pgrep", "-P", str(server.pid)], capture_output=True, text=True).stdout.split()
    return int(found[0]) if found else None


def save(server, saves):
    """One BGSAVE; what it took and copied."""
    with server.raw(timeout=30) as client:
        began, seen = time.monotonic(), 0
        assert client.call("BGSAVE")[:1] == b"+"
        fork = int(server.info()["latest_fork_usec"])
        child = child_of(server)
        while server.info("persistence")["rdb_bgsave_in_progress"] == "1":
            seen = max(seen, private_dirty(child)) if child else 0
            time.sleep(0.1)
        saves.append({"seconds": time.monotonic() - began, "fork_usec": fork, "said": int(server.info("persistence")["rdb_last_cow_size"]), "seen": seen})


def offer(program, server, rate, options, saving):
    saves = []
    # It begins when the generator has.
    thread = threading.Timer(0.4, save, (server, saves)) if saving else None
    if thread:
        thread.start()
    done = subprocess.run(
        load_command(program, "--port", server.port, "--rate", int(rate), "--seconds", SECONDS, "--connections", options.clients, "--keys",
                     int(KEYS * options.scale), "--size", 64), capture_output=True, text=True)
    if thread:
        thread.join()
    if done.returncode != 0:
        raise RuntimeError(f"open-loop on port {server.port}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout), saves


def run(peers, options):
    program = generator()
    names = list(peers.servers)
    rate = most(peers.servers[names[0]], options) * LOAD
    servers = {name: peers.start(name) for name in names}
    for server in servers.values():
        fill(server, int(KEYS * options.scale))
    found = {name: {"alone": [], "saving": [], "saves": []} for name in names}
    for turn in range(options.rounds):
        for name in (names if turn % 2 == 0 else names[::-1]):
            found[name]["alone"].append(offer(program, servers[name], rate, options, False)[0])
            line, saves = offer(program, servers[name], rate, options, True)
            found[name]["saving"].append(line)
            found[name]["saves"] += saves
    for server in servers.values():
        server.kill()
    print(f"\nlatency in µs at {rate:.0f} requests/s ({LOAD:.0%} of the most that {names[0]} answers), {int(KEYS * options.scale)} keys, median of {options.rounds}")
    print(f"{'':32}" + "".join(f" {name:>12}" for name in names) + ("     ratio" if len(names) == 2 else ""))
    rows = []

    def show(title, values, wanted=None):
        row = {"what": title, **values, "target": wanted}
        text = f"{title:32}" + "".join(f" {values[name]:12.1f}" for name in names)
        if len(names) == 2 and values[names[0]]:
            row["ratio"] = values[names[1]] / values[names[0]]
            text += f" {row['ratio']:9.2f}" + ("  missed" if wanted and row["ratio"] > wanted else "")
        rows.append(row)
        print(text, flush=True)

    for when in ("alone", "saving"):
        for percentile in PERCENTILES:
            show(f"{percentile}, {when}", {name: statistics.median(line[percentile] for line in found[name][when]) for name in names},
                 1 if percentile == "p99.9" and when == "saving" else None)
    for title, field, divisor in (("a snapshot, ms", "seconds", 0.001), ("pause of the fork, µs", "fork_usec", 1),
                                  ("copied as it says, MB", "said", 1 << 20), ("copied as /proc says, MB", "seen", 1 << 20)):
        show(title, {name: statistics.median(save[field] for save in found[name]["saves"]) / divisor for name in names})
    return rows
