"""Vigie's store beside Debian's redis-server, in the same run.

    make bench                                            CPU per operation at pipelines 64, 16 and 1, and memory
    make bench BENCH="--tests SET,ZADD --pipelines 64 --rounds 3"
    make bench BENCH="cpu --only vigie"                   one server alone
    make bench BENCH="memory --items 200000"
    make bench BENCH="idle"
    make bench BENCH="snapshots"                          SAVE, and loading at start
    make bench BENCH="snapshot-latency"                   latency while snapshots are written, fork pause, copied memory
    make bench BENCH="aof --rounds 5"                     throughput with the append-only file
    make bench BENCH="replication"                        CPU of masters and replicas, full and partial synchronisation
    make bench BENCH="eviction --accesses 2000000"        hit rates of a cache that is too small
    make bench BENCH="confirm"                            reply-after-replicas, on and off
    make bench BENCH="growth --grow-to 10000000"          the longest turn of the loop while keys go in (root: SCHED_FIFO)

    make bench BENCH="--publish"                          also replaces figures.json and figures.svg, which the README shows

The figures go to .build/bench/ as JSON and as SVG. Nothing else should run on the machine meanwhile.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Integration"))

import aof  # noqa: E402
import chart  # noqa: E402
import confirm  # noqa: E402
import eviction  # noqa: E402
import growth  # noqa: E402
import latency  # noqa: E402
import memory  # noqa: E402
import replication  # noqa: E402
import snapshot_latency  # noqa: E402
import snapshots  # noqa: E402
import throughput  # noqa: E402
from harness import REPOSITORY  # noqa: E402
from peers import Peers  # noqa: E402

PARTS = {"cpu": throughput.run, "latency": latency.run, "memory": memory.run, "idle": memory.run_idle, "eviction": eviction.run,
         "snapshots": snapshots.run, "snapshot-latency": snapshot_latency.run, "aof": aof.run,
         "confirm": confirm.run, "growth": growth.run, "replication": replication.run}


def arguments():
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without one")
    parser.add_argument("--tests", default=",".join(throughput.STANDARD), type=lambda text: text.upper().split(","),
                        help="of " + ", ".join(throughput.COMMANDS) + ", or ALL")
    parser.add_argument("--pipelines", default="64,16,1", type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--scale", default=1.0, type=float, help="operations per measurement, times this")
    parser.add_argument("--clients", default=50, type=int)
    parser.add_argument("--keys", default=100_000, type=int, help="redis-benchmark's -r")
    parser.add_argument("--size", default=64, type=int, help="bytes of a value")
    parser.add_argument("--items", default=1_000_000, type=int, help="for memory")
    parser.add_argument("--connections", default=10_000, type=int, help="for idle")
    parser.add_argument("--idle", default=6.0, type=float, help="seconds before idle connections are measured")
    parser.add_argument("--cache-keys", default=100_000, type=int, help="for eviction")
    parser.add_argument("--accesses", default=1_000_000, type=int, help="for eviction")
    parser.add_argument("--grow-to", default=10_000_000, type=int, help="keys, for growth")
    parser.add_argument("--policies", default=",".join(eviction.POLICIES), type=lambda text: text.split(","), help="for eviction")
    parser.add_argument("--only", choices=["redis", "vigie"], help="measure one server alone")
    parser.add_argument("--json", default=str(REPOSITORY / ".build" / "bench"), help="folder for the figures")
    parser.add_argument("--publish", action="store_true", help="replace the figures that the README shows")
    options = parser.parse_args()
    if options.tests == ["ALL"]:
        options.tests = list(throughput.COMMANDS)
    for kind, given, known in (("test", options.tests, throughput.COMMANDS), ("part", options.parts, PARTS)):
        unknown = [name for name in given if name not in known]
        if unknown:
            parser.error(f"unknown {kind} {', '.join(unknown)}; accepted: {', '.join(known)}")
    return options


def main():
    options = arguments()
    names = [options.only] if options.only else ["redis", "vigie"]
    figures = {"when": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": platform.processor() or platform.machine(),
               "kernel": platform.release()}
    with Peers(names) as peers:
        figures["versions"] = {name: server.info("server").get("redis_version") for name, server in peers.servers.items()}
        print(", ".join(f"{name} {version}" for name, version in figures["versions"].items()))
        for part in options.parts or PARTS:
            figures[part] = PARTS[part](peers, options)
    folder = Path(options.json)
    folder.mkdir(parents=True, exist_ok=True)
    name = time.strftime("%Y%m%d-%H%M%S")
    files = [folder / name] + ([Path(__file__).parent / "figures"] if options.publish else [])
    for file in files:
        file.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
        file.with_suffix(".svg").write_text(chart.draw(figures))
        print(f"\nfigures in {file}.json, drawn in {file}.svg")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
