"""The longest turn of the loop while a table grows to many keys, then while a hash, a set and a sorted set do.

Vigie alone says how long its longest callback took. Its thread runs under SCHED_FIFO where that is allowed, so that what is
measured is its own time and not that of whoever else had the processor meanwhile; the involuntary switches say whether it was. One
client only, so that the thread sleeps in between: whoever runs more than 95 % of a second under SCHED_FIFO is held for the rest of it.
"""

import os
import subprocess
from pathlib import Path

from peers import load_command

# What goes in: (what it is called, the share of --grow-to, the command).
LOADS = [
    ("keys", 1.0, ["SET", "key:__rand_int__", "v" * 8]),
    ("fields of one hash", 0.5, ["HSET", "hash", "field:__rand_int__", "v" * 8]),
    ("members of one set", 0.5, ["SADD", "set", "member:__rand_int__"]),
    ("members of one sorted set", 0.2, ["ZADD", "zset", "__rand_int__", "member:__rand_int__"]),
]


def _undisturbed(pid):
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(10))
    except PermissionError:
        print("  not allowed to use SCHED_FIFO: the figures include the time that others had the processor")
        return False
    return True


def _switches(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("nonvoluntary_ctxt_switches:")[2].split()[0])


def run(peers, options):
    print(f"\nLongest turn of the loop while {options.grow_to:,} keys go in, microseconds")
    server = peers.start("vigie")
    figures = {"undisturbed": _undisturbed(server.pid)}
    for what, share, words in LOADS:
        count = int(options.grow_to * share)
        server.call("CONFIG", "RESETSTAT")
        before = _switches(server.pid)
        subprocess.run(load_command("redis-benchmark", "-p", server.port, "-n", count, "-r", 2_000_000_000, "-P", 64, "-c", 1, "-q", *words),
                       check=True, capture_output=True, timeout=1200)
        stats = server.info("stats")
        figures[what] = {"count": count, "longest_usec": int(stats["vigie_loop_longest_callback_usec"]),
                         "callback": stats["vigie_loop_longest_callback"], "preemptions": _switches(server.pid) - before}
        print(f"  {what:28} {count:>12,}  {figures[what]['longest_usec']:>6}  in '{figures[what]['callback']}'"
              f", preempted {figures[what]['preemptions']} times")
    server.kill()
    return figures
