"""`reply-after-replicas`: what it costs to let replies wait for a replica, and that it costs nothing while it is off.

A master on the CPU of its own that every measured server has, and a replica beside the load generator. The directive is switched at run
time, turn by turn, so that both settings meet the machine in the same mood; medians are compared. No other server has the directive:
the first rows compare the store with itself, the last ones two releases of it where VIGIE_BEFORE names the older program.
"""

import os
import statistics
import subprocess
import time

from harness import RawClient
from peers import PROGRAMS, cpu_nanoseconds, load_command

# The least share of the throughput without it that is to be kept, by pipeline.
KEPT = {16: 0.70}
CPU_CASES = [("SET", 16), ("SET", 64), ("GET", 16), ("GET", 64), ("SET", 1)]


def _load(server, command, pipeline, requests, options):
    """(requests a second, nanoseconds of the server's CPU per request)"""
    before = cpu_nanoseconds(server.pid)
    words = load_command("redis-benchmark", "-p", server.port, "-t", command.lower(), "-n", requests, "-c", options.clients, "-P", pipeline,
                         "-d", options.size, "-r", options.keys, "--csv")
    line = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    return float(line.split(",")[1].strip('"')), (cpu_nanoseconds(server.pid) - before) / requests


def _round_trip(server, number):
    """Median microseconds of a SET on one connection, one at a time."""
    with RawClient(server.port) as client:
        for _ in range(200):
            client.call("SET", "key", "value")
        took = []
        for _ in range(number):
            start = time.perf_counter()
            assert client.call("SET", "key", "value") == b"+OK\r\n"
            took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e6


def _with_replica(peers, kind):
    master = peers.start("vigie", reply_after_replicas_timeout="10000")
    replica = peers.start(kind)
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    replica.wait_replica_online()
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(replica.pid, set(range(1, os.cpu_count())))
    return master, replica


def run(peers, options):
    figures = {}
    print(f"\nreply-after-replicas 1 against 0: SET of {options.size} bytes, {options.clients} connections, one replica")
    for kind in ("vigie", "redis"):
        master, replica = _with_replica(peers, kind)
        rows = figures[f"replica {kind}"] = {}
        for pipeline, requests in ((16, 1_000_000), (1, 150_000)):
            found = {0: [], 1: []}
            for turn in range(max(1, options.rounds)):
                for number in ((0, 1) if turn % 2 == 0 else (1, 0)):
                    master.call("CONFIG", "SET", "reply-after-replicas", number)
                    found[number].append(_load(master, "SET", pipeline, int(requests * options.scale), options))
            rate = {number: statistics.median(one[0] for one in runs) for number, runs in found.items()}
            cpu = {number: statistics.median(one[1] for one in runs) for number, runs in found.items()}
            share = rate[1] / rate[0]
            rows[f"pipeline {pipeline}"] = {"rate": rate, "cpu_ns": cpu, "share": share}
            wanted = f" (wanted {KEPT[pipeline]:.2f})" if pipeline in KEPT else ""
            missed = "  missed" if share < KEPT.get(pipeline, 0) else ""
            print(f"  {kind:5} replica, pipeline {pipeline:2}: {rate[0]:9,.0f} -> {rate[1]:9,.0f} requests/s, {share:.2f}{wanted}{missed};"
                  f" master's CPU {cpu[0]:.0f} -> {cpu[1]:.0f} ns", flush=True)
        times = {0: [], 1: []}
        for _ in range(max(1, options.rounds)):
            for number in times:
                master.call("CONFIG", "SET", "reply-after-replicas", number)
                times[number].append(_round_trip(master, int(5000 * options.scale)))
        trip = {number: statistics.median(values) for number, values in times.items()}
        rows["one connection"] = trip
        print(f"  {kind:5} replica, one connection: {trip[0]:.0f} -> {trip[1]:.0f} µs a SET", flush=True)
        for server in (replica, master):
            server.stop()
    older = os.environ.get("VIGIE_BEFORE")
    if older:
        figures["off"] = _compare_releases(peers, options, older)
    return figures


def _compare_releases(peers, options, older):
    """CPU per request while it is off, beside a program that does not have it."""
    PROGRAMS["before"] = lambda: [older, "store"]
    servers = {"before": peers.start("before"), "now": peers.start("vigie")}
    rows = {}
    for command, pipeline in CPU_CASES:
        requests = int({1: 150_000, 16: 1_000_000}.get(pipeline, 2_000_000) * options.scale)
        found = {name: [] for name in servers}
        for server in servers.values():
            _load(server, "SET", 16, options.keys * 3, options)
        for turn in range(max(1, options.rounds)):
            for name in (servers if turn % 2 == 0 else reversed(servers)):
                found[name].append(_load(servers[name], command, pipeline, requests, options)[1])
        middle = {name: statistics.median(values) for name, values in found.items()}
        rows[f"{command} {pipeline}"] = {"runs": found, "medians": middle}
        print(f"  off: {command} at pipeline {pipeline:2}: {middle['before']:.0f} ns of CPU before, {middle['now']:.0f} now,"
              f" {middle['now'] / middle['before']:.3f} ({min(found['before']):.0f} - {max(found['before']):.0f},"
              f" {min(found['now']):.0f} - {max(found['now']):.0f})", flush=True)
    for server in servers.values():
        server.stop()
    return rows
