"""What replication costs: the master's CPU with two replicas, a replica's CPU, a full synchronisation, and the return of a cut link.

Every figure is of pairs of one kind: a master and its replicas are both redis-server, or both vigie.
"""

import statistics
import subprocess
import time

from harness import Relay, wait_until
from peers import cpu_nanoseconds, load_command
from snapshots import fill

KEYS = 2_000_000
TARGETS = {"master": 0.5, "replica": 0.4, "full synchronisation": 0.5}
RETURN_TARGET = 0.1
PIPELINES = (64, 16)


def info(server, name):
    return server.info("replication").get(name)


def in_step(master, replicas):
    for replica in replicas:
        wait_until(lambda: info(replica, "slave_repl_offset") == info(master, "master_repl_offset"), 60, "a replica in step", every=0.01)


def start_pair(peers, name, count):
    master = peers.start(name, repl_diskless_sync_delay=0, client_output_buffer_limit=("replica", "0", "0", "0"))
    replicas = [peers.start(name, replicaof=("127.0.0.1", master.port)) for _ in range(count)]
    for replica in replicas:
        replica.wait_replica_online(60)
    return master, replicas


def writes(server, pipeline, count, options):
    subprocess.run(load_command("redis-benchmark", "-p", server.port, "-P", pipeline, "-c", options.clients, "-n", count, "-r", options.keys,
                                "-q", "SET", "key:__rand_int__", "x" * options.size), check=True, stdout=subprocess.DEVNULL)


def measure_writes(peers, name, pipeline, options):
    """µs of CPU per write, of the master and of one of its two replicas: medians."""
    master, replicas = start_pair(peers, name, 2)
    count = int(1_000_000 * options.scale)
    writes(master, pipeline, count // 10, options)
    in_step(master, replicas)
    of_master, of_replica = [], []
    for _ in range(options.rounds):
        before = cpu_nanoseconds(master.pid), cpu_nanoseconds(replicas[0].pid)
        writes(master, pipeline, count, options)
        in_step(master, replicas)
        of_master.append((cpu_nanoseconds(master.pid) - before[0]) / 1000 / count)
        of_replica.append((cpu_nanoseconds(replicas[0].pid) - before[1]) / 1000 / count)
    for server in (master, *replicas):
        server.kill()
    return statistics.median(of_master), statistics.median(of_replica)


def measure_synchronisation(peers, name, options):
    """Seconds from REPLICAOF to the link being up, of 2 M strings of 64 bytes: the median."""
    master = peers.start(name, repl_diskless_sync_delay=0)
    fill(master, int(KEYS * options.scale), ["SET", "key:__rand_int__", "x" * 64])
    taken = []
    for _ in range(options.rounds):
        replica = peers.start(name)
        with replica.raw(timeout=60) as client:
            began = time.monotonic()
            client.call("REPLICAOF", "127.0.0.1", master.port)
            while b"master_link_status:up" not in client.call("INFO", "replication"):
                time.sleep(0.002)
        taken.append(time.monotonic() - began)
        replica.kill()
    master.kill()
    return statistics.median(taken)


def measure_return(peers, name, options):
    """Seconds from the network's return to a replica that has what was written meanwhile: the longest of several cuts."""
    master = peers.start(name, repl_diskless_sync_delay=0, repl_backlog_size="50mb")
    longest = 0
    with Relay(master.port) as relay:
        replica = peers.start(name, replicaof=("127.0.0.1", relay.port)).wait_replica_online()
        for number, length in enumerate((0.1, 0.5, 1.0, 2.0, 3.3)):
            relay.refuse()
            relay.cut()
            with master.raw() as client:
                for i in range(5_000):
                    client.call("SET", f"key:{i}", "x" * 100)
                client.call("SET", "last", number)
            time.sleep(length)
            began = time.monotonic()
            relay.accept()
            with replica.raw(timeout=10) as client:
                while client.value("GET", "last") != str(number).encode():
                    time.sleep(0.001)
            longest = max(longest, time.monotonic() - began)
        full = master.info("stats")["sync_full"]
    for server in (master, replica):
        server.kill()
    return longest, full


def row(rows, text, what, names, values, target, unit):
    entry = {"what": what, **dict(zip(names, values)), "target": target}
    line = f"{text:52}" + "".join(f" {value:9.3f}" for value in values)
    if set(names) == {"redis", "vigie"}:
        entry["ratio"] = entry["vigie"] / entry["redis"]
        line += f" {entry['ratio']:9.2f}" + ("  missed" if target and entry["ratio"] > target else "")
    rows.append(entry)
    print(line + f"  {unit}", flush=True)


def run(peers, options):
    names = list(peers.names)
    rows = []
    print(f"\nreplication, median of {options.rounds}")
    print(f"{'':52}" + "".join(f" {name:>9}" for name in names) + ("     ratio" if len(names) == 2 else ""))
    for pipeline in PIPELINES:
        found = [measure_writes(peers, name, pipeline, options) for name in names]
        row(rows, f"master with two replicas, CPU per SET, pipeline {pipeline}", f"master {pipeline}", names, [f[0] for f in found],
            TARGETS["master"], "µs")
        row(rows, f"replica, CPU per applied SET, pipeline {pipeline}", f"replica {pipeline}", names, [f[1] for f in found],
            TARGETS["replica"], "µs")
    row(rows, f"full synchronisation of {int(KEYS * options.scale):,} keys, to link up", "full synchronisation", names,
        [measure_synchronisation(peers, name, options) for name in names], TARGETS["full synchronisation"], "s")
    returns = [measure_return(peers, name, options) for name in names]
    row(rows, "caught up after the network's return, longest", "return", names, [r[0] for r in returns], None, "s")
    for name, (longest, full) in zip(names, returns):
        if full != "1":
            print(f"  {name}: {full} full synchronisations where one was needed")
        if name == "vigie" and longest > RETURN_TARGET:
            print(f"  vigie: more than {RETURN_TARGET} s")
    return rows
