"""Keys of any type: names, expiry, databases, dumps."""

from ..comparing import drawn, near, remembered, same_kind, unordered
from ..generator import Op

TYPES = ["string", "list", "set", "zset", "hash", "stream", b"nothing", b""]


def _expire(g):
    name, time = g.choice([("EXPIRE", g.seconds), ("PEXPIRE", g.milliseconds), ("EXPIREAT", g.moment), ("PEXPIREAT", g.moment_ms)])
    options = g.some_of(0.15, ["NX"], ["XX"], ["GT"], ["LT"], [b"foo"] if g.chance(0.1) else ["GT"])
    if name in ("EXPIRE", "PEXPIRE") and ("GT" in options or "LT" in options) and g.chance(0.9):
        # Not a time that the key has already: which of the two is later would hang on the moment.
        time = g.rng.randint(100_000, 900_000_000)
    return [name, g.any, time, *options]


def _restore(g):
    """A value dumped by each server, taken back by itself and by the other."""
    options = g.some_of(0.3, ["REPLACE"], ["ABSTTL"], ["IDLETIME", g.integer], ["FREQ", g.integer], [b"foo"] if g.chance(0.05) else ["REPLACE"])
    return Op([g.any], action="restore", arguments={
        "target": g.any, "ttl": g.choice([0, 0, 0, 77777, 4000000000000, b"-1", b"abc"]), "options": options,
        "damage": g.rng.randrange(1 << 30) if g.chance(0.3) else None})


def _object(g):
    n = g.rng.randrange(10)
    if n < 6:
        return ["OBJECT", "ENCODING", g.any]
    if n == 6:
        return Op(["OBJECT", "IDLETIME", g.any], same_kind)
    if n == 7:
        return Op(["OBJECT", "FREQ", g.any], same_kind)
    if n == 8:
        return Op(["OBJECT", "REFCOUNT", g.any], same_kind)
    return ["OBJECT", g.choice(["HELP", "FOO", b"", "ENCODING"]), *g.maybe(0.3, g.any)]


def _random_key(g):
    return [Op(["KEYS", b"*"], remembered), Op(["RANDOMKEY"], drawn())]


def _copy(g):
    return ["COPY", g.any, g.any, *g.some_of(0.3, ["REPLACE"], ["DB", g.db], [b"foo"] if g.chance(0.05) else ["REPLACE"])]


def _scan(g):
    options = g.some_of(0.3, ["MATCH", g.pattern], ["COUNT", g.rng.randint(1, 50)], ["TYPE", g.choice(TYPES)])
    return Op(["SCAN", 0, *options], unordered, action="scan")


COMMANDS = [
    (6, lambda g: ["DEL", *[g.any for _ in range(g.rng.randint(1, 4))]]),
    (2, lambda g: ["UNLINK", g.any, *g.maybe(0.3, g.any)]),
    (3, lambda g: ["EXISTS", *[g.any for _ in range(g.rng.randint(1, 4))]]),
    (2, lambda g: ["TOUCH", *[g.any for _ in range(g.rng.randint(1, 4))]]),
    (3, lambda g: ["TYPE", g.any]),
    (12, _expire),
    (3, lambda g: Op(["TTL", g.any], near(3))),
    (3, lambda g: Op(["PTTL", g.any], near(3000))),
    (3, lambda g: Op(["EXPIRETIME", g.any], near(3))),
    (3, lambda g: Op(["PEXPIRETIME", g.any], near(3000))),
    (3, lambda g: ["PERSIST", g.any]),
    (6, lambda g: ["RENAME", g.any, g.any]),
    (4, lambda g: ["RENAMENX", g.any, g.any]),
    (5, lambda g: ["MOVE", g.any, g.db]),
    (8, _copy),
    (2, lambda g: Op(["KEYS", g.pattern], unordered)),
    (2, lambda g: ["DBSIZE"]),
    (2, _random_key),
    (3, _scan),
    (1, lambda g: Op(["SCAN", g.choice([b"abc", b"", b"-1", b" 1", b"1.5", b"18446744073709551616"]), *g.maybe(0.3, "COUNT", g.integer)], same_kind)),
    (1, lambda g: Op(["SCAN", 0, *g.some_of(0.5, ["COUNT", g.integer], ["MATCH", g.pattern], [b"foo"])], same_kind)),
    (8, _object),
    (8, _restore),
    (1, lambda g: ["DUMP", b"absent"]),
]
