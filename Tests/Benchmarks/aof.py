"""Throughput with the append-only file: `always` over 50 connections, `everysec` at pipeline 16, and none, beside the real server.

The files lie beside the build, on a disk, as a folder for temporary files may be memory. The servers take turns, so that both meet
the disk in the same mood; the medians are compared.
"""

import shutil
import statistics
import subprocess
import tempfile

from harness import REPOSITORY
from peers import load_command

CASES = [("always", 1, 100_000, 1.3), ("everysec", 16, 1_000_000, 2.0), ("off", 16, 1_000_000, None)]


def _measure(server, pipeline, requests, options):
    command = load_command("redis-benchmark", "-p", server.port, "-t", "set", "-n", requests, "-c", options.clients, "-P", pipeline,
                           "-d", options.size, "-r", options.keys, "--csv")
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    return float(line.split(",")[1].strip('"'))


def run(peers, options):
    figures = {}
    base = REPOSITORY / ".build" / "bench"
    base.mkdir(parents=True, exist_ok=True)
    print(f"\nappend-only file: SET of {options.size} bytes, {options.clients} connections, requests a second")
    for policy, pipeline, requests, target in CASES:
        folders, servers = [], {}
        for name in peers.names:
            folders.append(tempfile.mkdtemp(prefix="aof-", dir=base))
            kept = {} if policy == "off" else {"appendonly": "yes", "appendfsync": policy, "auto_aof_rewrite_percentage": "0"}
            servers[name] = peers.start(name, dir=folders[-1], **kept)
        found = {name: [] for name in servers}
        for _ in range(max(1, options.rounds)):
            for name, server in servers.items():
                found[name].append(_measure(server, pipeline, int(requests * options.scale), options))
        medians = {name: statistics.median(values) for name, values in found.items()}
        figures[policy] = {"pipeline": pipeline, "rates": found, "medians": medians, "target": target}
        words = ", ".join(f"{name} {rate:,.0f} ({min(found[name]):,.0f} - {max(found[name]):,.0f})" for name, rate in medians.items())
        if len(medians) == 2:
            figures[policy]["ratio"] = medians["vigie"] / medians["redis"]
            words += f": {figures[policy]['ratio']:.2f} times" + (f" (wanted {target})" if target else "")
        print(f"  {policy:9} pipeline {pipeline:2}  {words}", flush=True)
        for server in servers.values():
            server.stop()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return figures
