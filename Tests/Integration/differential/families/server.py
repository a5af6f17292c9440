"""What concerns the whole: the database selected, thresholds of encodings, messages."""

from ..comparing import same_kind
from ..generator import Op

THRESHOLDS = {
    "list-max-listpack-size": [-2, -1, -5, 1, 2, 5, 8],
    "hash-max-listpack-entries": [0, 1, 3, 8, 128],
    "hash-max-listpack-value": [0, 1, 4, 64],
    "zset-max-listpack-entries": [0, 1, 3, 8, 128],
    "zset-max-listpack-value": [0, 1, 4, 64],
    "set-max-intset-entries": [0, 1, 3, 8, 512],
    "list-compress-depth": [0, 1],
    "stream-node-max-entries": [0, 1, 3, 10, 100],
    "stream-node-max-bytes": [0, 64, 300, 4096],
}
DEFAULTS = {
    "list-max-listpack-size": -2, "hash-max-listpack-entries": 128, "hash-max-listpack-value": 64,
    "zset-max-listpack-entries": 128, "zset-max-listpack-value": 64, "set-max-intset-entries": 512, "list-compress-depth": 0,
    "stream-node-max-entries": 100, "stream-node-max-bytes": 4096,
}


def _threshold(g):
    name = g.choice(sorted(THRESHOLDS))
    return Op(["CONFIG", "SET", name, g.choice(THRESHOLDS[name])], same_kind)


COMMANDS = [
    (4, lambda g: ["SELECT", g.db]),
    (2, lambda g: ["SWAPDB", g.db, g.db]),
    (4, _threshold),
    (1, lambda g: ["FLUSHDB", *g.maybe(0.3, g.choice(["SYNC", "ASYNC", b"foo"]))]),
    (1, lambda g: ["PUBLISH", g.member, g.value]),
    (1, lambda g: ["SPUBLISH", g.member, g.value]),
    (1, lambda g: ["PUBSUB", *g.one_of(["NUMPAT"], ["NUMSUB", b"end", g.member], ["CHANNELS", b"e*"], ["SHARDCHANNELS"], ["SHARDNUMSUB", b"x"],
                                       ["HELP"], ["NUMSUB"], ["SHARDNUMSUB"], [b"foo"], ["CHANNELS", b"e*", b"x"], ["CHANNELS", b"q*"])]),
    (1, lambda g: ["WATCH", *g.keys("s")]),
    (1, lambda g: ["UNWATCH"]),
    (1, lambda g: [g.choice(["EXEC", "DISCARD"])]),
    (1, lambda g: [g.choice([b"NOSUCHCOMMAND", b"", b"GETT", b"\x00"]), *g.values]),
    (1, lambda g: ["ECHO", g.value]),
    (1, lambda g: ["PING", *g.maybe(0.5, g.value)]),
]
