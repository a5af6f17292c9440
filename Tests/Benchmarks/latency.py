"""Latency at a fixed rate: 70 % of what redis-server answers at most, half SETs, half GETs, 50 connections, no pipeline."""

import json
import statistics
import subprocess

from harness import REPOSITORY
from peers import load_command
from throughput import drive

LOAD = 0.7
PERCENTILES = ["p50", "p99", "p99.9"]


def generator():
    subprocess.run(["swift", "build", "-c", "release", "--product", "open-loop"], cwd=REPOSITORY, check=True,
                   stdout=subprocess.DEVNULL)
    return REPOSITORY / ".build" / "release" / "open-loop"


def most(server, options):
    """Requests per second that redis-benchmark gets out of a server, SETs without pipeline."""
    done = subprocess.run(
        load_command("redis-benchmark", "-p", server.port, "-c", options.clients, "-n", 200_000, "-r", options.keys,
                     "-d", options.size, "-t", "set", "--csv"), capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1].split(",")[1].strip('"'))


def offer(program, server, rate, options, seconds=4):
    done = subprocess.run(
        load_command(program, "--port", server.port, "--rate", int(rate), "--seconds", seconds, "--connections",
                     options.clients, "--keys", options.keys, "--size", options.size), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"open-loop on port {server.port}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def run(peers, options):
    names = list(peers.servers)
    program = generator()
    for server in peers.servers.values():
        server.call("FLUSHALL")
        drive(server, "SET", 64, options.keys * 3, options)
    rate = LOAD * most(peers.servers.get("redis") or peers.servers[names[0]], options)
    runs = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in (names if turn % 2 == 0 else names[::-1]):
            runs[name].append(offer(program, peers.servers[name], rate, options))
    print(f"\nlatency in µs at {rate:.0f} requests/s ({LOAD:.0%} of the most that {names[0]} answers), median of {options.rounds}")
    print(f"{'':12}" + "".join(f" {name:>9}" for name in names) + ("     ratio" if len(names) == 2 else ""))
    rows = []
    for percentile in PERCENTILES:
        row = {"percentile": percentile, "rate": rate}
        for name in names:
            row[name] = statistics.median(one[percentile] for one in runs[name])
        text = f"{percentile:12}" + "".join(f" {row[name]:9.1f}" for name in names)
        if set(names) == {"redis", "vigie"}:
            row["ratio"] = row["vigie"] / row["redis"]
            text += f" {row['ratio']:9.2f}" + ("  missed" if percentile == "p99" and row["ratio"] > 1 else "")
        rows.append(row)
        print(text, flush=True)
    return rows
