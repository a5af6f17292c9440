"""Hit rates under `maxmemory`: a cache that holds about a quarter of the keys, read by a Zipfian trace, beside the real server.

Both servers are asked the same in the same moments, so that their clocks mean the same to both: a batch of GETs, then a SET for each miss, as
an application fills its cache.
"""

import random

from harness.resp import encode
from peers import cpu_nanoseconds

SHARE = 0.25        # of the keys fit
BATCH = 250
EXPONENT = 0.99     # YCSB's
VALUE = b"v" * 100

POLICIES = ["allkeys-lru", "allkeys-lfu", "volatile-ttl", "allkeys-random"]


def _trace(keys, accesses, seed):
    """Ranks by popularity, 0 the most popular."""
    generator = random.Random(seed)
    cumulative, total = [], 0.0
    for rank in range(keys):
        total += 1 / (rank + 1) ** EXPONENT
        cumulative.append(total)
    return generator.choices(range(keys), cum_weights=cumulative, k=accesses), generator.sample(range(keys), keys)


def _lifetime(rank, noise):
    """Seconds that a key of that rank is given: the more popular it is, the longer, but for chance."""
    return int(3600 * (1 + 20 / (rank + 1) ** 0.3) * (0.5 + noise))


class Cache:
    def __init__(self, server, policy, names):
        self.server, self.names, self.volatile = server, names, policy.startswith("volatile")
        self.client = server.raw(timeout=60)
        self.noise = random.Random(7)
        self.hits = self.misses = 0
        value = self.client.value
        empty = int(server.info("memory")["used_memory"])
        # As much as a quarter of the keys takes, those that are asked for least.
        for start in range(int(len(names) * (1 - SHARE)), len(names), BATCH):
            self._fill(range(start, min(start + BATCH, len(names))))
        self.limit = int(server.info("memory")["used_memory"])
        self.per_key = (self.limit - empty) / (len(names) * SHARE)
        value("FLUSHALL")
        value("CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", self.limit)
        value("CONFIG", "RESETSTAT")

    def _fill(self, ranks):
        requests = bytearray()
        for rank in ranks:
            words = ["SET", self.names[rank], VALUE]
            if self.volatile:
                words += ["EX", _lifetime(rank, self.noise.random())]
            requests += encode(*words)
        self.client.send_raw(bytes(requests))
        for _ in ranks:
            assert self.client.read() == b"+OK\r\n"

    def access(self, ranks):
        self.client.send_raw(b"".join(encode("GET", self.names[rank]) for rank in ranks))
        missed = list(dict.fromkeys(rank for rank in ranks if self.client.read() == b"$-1\r\n"))
        self.misses += len(missed)
        self.hits += len(ranks) - len(missed)
        if missed:
            self._fill(missed)

    def calibrate(self):
        """Moves the limit until as many keys are held as the other server holds: the question is which ones, not how large they are."""
        self.limit += int((len(self.names) * SHARE - self.client.value("DBSIZE")) * self.per_key)
        self.client.value("CONFIG", "SET", "maxmemory", self.limit)

    rate = property(lambda self: self.hits / (self.hits + self.misses))


def run(peers, options):
    keys, accesses = options.cache_keys, options.accesses
    print(f"\nhit rates, {keys} keys, room for {SHARE:.0%} of them, {accesses} accesses of a Zipfian trace ({EXPONENT})")
    print(f"{'policy':16}" + "".join(f" {name:>8} {'keys':>7} {'usec/op':>8}" for name in peers.names) + f" {'ratio':>7}")
    rows = []
    ranks, order = _trace(keys, accesses, seed=42)
    names = [b"key:%08d" % number for number in order]
    for policy in options.policies:
        servers = {name: peers.start(name) for name in peers.names}
        caches = {name: Cache(server, policy, names) for name, server in servers.items()}
        before = {name: cpu_nanoseconds(server.pid) for name, server in servers.items()}
        steps = {accesses * step // 40 // BATCH * BATCH for step in range(6, 20)}
        # The first half warms the caches up.
        for start in range(0, accesses, BATCH):
            if start in steps:
                for cache in caches.values():
                    cache.calibrate()
            if start == accesses // 2 // BATCH * BATCH:
                for cache in caches.values():
                    cache.hits = cache.misses = 0
            for cache in caches.values():
                cache.access(ranks[start:start + BATCH])
        row = {"policy": policy}
        for name, cache in caches.items():
            usec = (cpu_nanoseconds(servers[name].pid) - before[name]) / 1000 / accesses
            row[name] = {"rate": cache.rate, "keys": cache.client.value("DBSIZE"), "usec": usec,
                         "evicted": int(servers[name].info("stats")["evicted_keys"])}
        if len(caches) == 2:
            row["ratio"] = row["vigie"]["rate"] / row["redis"]["rate"]
        rows.append(row)
        print(f"{policy:16}" + "".join(f" {row[name]['rate']:8.4f} {row[name]['keys']:7} {row[name]['usec']:8.2f}" for name in caches)
              + (f" {row['ratio']:7.3f}" if "ratio" in row else ""), flush=True)
        for server in servers.values():
            server.kill()
    return rows
