"""Strings, and what counts in them."""


def _expiry(g):
    return g.one_of(["EX", g.seconds], ["PX", g.milliseconds], ["EXAT", g.moment], ["PXAT", g.moment_ms])


def _set(g):
    options = g.some_of(0.2, ["NX"], ["XX"], ["GET"], ["KEEPTTL"], _expiry(g), g.one_of(["EX"], ["foo"]) if g.chance(0.1) else ["GET"])
    return ["SET", g.s, g.value, *options]


def _lcs(g):
    return ["LCS", g.s, g.s, *g.some_of(0.3, ["LEN"], ["IDX"], ["WITHMATCHLEN"], ["MINMATCHLEN", g.integer])]


def _set_range(g):
    # No offset that both servers would allocate half a gigabyte for.
    offset = g.rng.randint(-2, 60) if g.chance(0.95) else g.choice([b"536870912", b"9223372036854775807", b"-9223372036854775808", b"abc", b"4294967296"])
    return ["SETRANGE", g.s, offset, g.value]


COMMANDS = [
    (10, _set),
    (6, lambda g: ["SET", g.s, g.value]),
    (2, lambda g: ["SET", g.any, g.value]),
    (6, lambda g: ["GET", g.s]),
    (4, lambda g: ["GETEX", g.s, *g.some_of(0.25, ["PERSIST"], _expiry(g), ["foo"] if g.chance(0.1) else _expiry(g))]),
    (2, lambda g: ["GETDEL", g.s]),
    (2, lambda g: ["GETSET", g.s, g.value]),
    (2, lambda g: ["SETNX", g.s, g.value]),
    (2, lambda g: ["SETEX", g.s, g.seconds, g.value]),
    (2, lambda g: ["PSETEX", g.s, g.milliseconds, g.value]),
    (3, lambda g: ["MGET", *g.keys("s"), *g.maybe(0.1, g.any)]),
    (3, lambda g: ["MSET", *[x for _ in range(g.rng.randint(1, 3)) for x in (g.s, g.value)], *g.maybe(0.05, g.s)]),
    (2, lambda g: ["MSETNX", *[x for _ in range(g.rng.randint(1, 3)) for x in (g.s, g.value)], *g.maybe(0.05, g.s)]),
    (3, lambda g: ["INCR", g.s]),
    (3, lambda g: ["DECR", g.s]),
    (4, lambda g: ["INCRBY", g.s, g.integer]),
    (4, lambda g: ["DECRBY", g.s, g.integer]),
    (6, lambda g: ["INCRBYFLOAT", g.s, g.float]),
    (4, lambda g: ["APPEND", g.s, g.value]),
    (2, lambda g: ["STRLEN", g.s]),
    (4, lambda g: ["GETRANGE", g.s, g.index, g.index]),
    (1, lambda g: ["SUBSTR", g.s, g.index, g.index]),
    (4, _set_range),
    (3, _lcs),
]
