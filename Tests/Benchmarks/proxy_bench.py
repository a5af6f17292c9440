#!/usr/bin/python3
"""What a request through the proxy costs: ours beside Debian's haproxy, in one run, over one real redis-server.

    proxy_bench.py [--requests N] [--rounds N]

Prints the proxy's CPU time (user + system, from /proc) per request, and the requests per second that redis-benchmark saw.
The two take turns, so that what else goes on in the machine falls on both; the median of the rounds counts.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Integration"))
from harness import HAProxy, Processes, Store, free_port, vigie_binary, wait_until  # noqa: E402

CONFIGURATION = """
global
    stats socket {stats} mode 600 level admin
    nbthread 1
defaults
    mode tcp
    timeout connect 2s
    timeout server 30s
    timeout client 30s
listen redis
    bind 127.0.0.1:{port}
    server redis 127.0.0.1:{redis} check inter 1s
"""

CASES = [
    ("SET, 64 bytes, no pipeline", ["-t", "set", "-d", "64", "-c", "50"], 1.0),
    ("GET, 64 bytes, no pipeline", ["-t", "get", "-d", "64", "-c", "50"], 1.0),
    ("SET, 64 bytes, pipeline 64", ["-t", "set", "-d", "64", "-c", "50", "-P", "64"], 8.0),
    ("GET, 16 KiB, no pipeline", ["-t", "get", "-d", "16384", "-c", "50"], 0.6),
    ("SET, 16 KiB, no pipeline", ["-t", "set", "-d", "16384", "-c", "50"], 0.6),
    ("GET, 1 MiB, no pipeline", ["-t", "get", "-d", "1048576", "-c", "10"], 0.02),
    ("SET, 64 bytes, a connection each", ["-t", "set", "-d", "64", "-c", "20", "-k", "0"], 0.2),
]


def measure(processes, proxy, port, arguments, requests):
    before = sum(proxy.process.cpu_seconds())
    out = processes.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", port, "-n", requests, "--csv", *arguments], timeout=300)
    used = sum(proxy.process.cpu_seconds()) - before
    rate = float(out.strip().splitlines()[-1].split(",")[1].strip('"'))
    return used / requests * 1e6, rate


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", default="", help="only cases whose name contains this")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        processes = Processes(directory)
        try:
            redis_port = free_port()
            redis = Store(processes.start(["redis-server", "--port", redis_port, "--save", ""], name="redis"), redis_port).wait_ready()
            contenders = {}
            for name, program in {"vigie": [vigie_binary(), "proxy"], "haproxy": ["haproxy", "-db", "-f"]}.items():
                port, stats, file = free_port(), Path(directory) / f"{name}.sock", Path(directory) / f"{name}.cfg"
                file.write_text(CONFIGURATION.format(stats=stats, port=port, redis=redis_port))
                contenders[name] = HAProxy(processes.start([*program, file], name=name), stats), port
                wait_until(lambda: contenders[name][0].status("redis", "redis") == "UP", 5)
            print(f"CPU per request in microseconds (user + system), {options.requests} requests, median of {options.rounds} rounds\n")
            print(f"{'':34}{'vigie':>9}{'haproxy':>9}{'ratio':>8}   requests/s (vigie, haproxy)")
            for case, arguments, factor in CASES:
                if options.only not in case:
                    continue
                requests = max(1000, int(options.requests * factor))
                redis.call("SET", "key:__rand_int__", b"x" * int(arguments[3]))
                results = {name: [] for name in contenders}
                for _ in range(options.rounds):
                    for name, (proxy, port) in contenders.items():
                        results[name].append(measure(processes, proxy, port, arguments, requests))
                cpu = {name: statistics.median(r[0] for r in rows) for name, rows in results.items()}
                rate = {name: statistics.median(r[1] for r in rows) for name, rows in results.items()}
                print(f"{case:34}{cpu['vigie']:9.2f}{cpu['haproxy']:9.2f}{cpu['vigie'] / cpu['haproxy']:8.2f}"
                      f"   {rate['vigie']:.0f}, {rate['haproxy']:.0f}", flush=True)
        finally:
            processes.end()


if __name__ == "__main__":
    main()
