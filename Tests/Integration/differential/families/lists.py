"""Lists. What waits is in episodes of several connections; here a blocking command is inside a transaction only."""


def _side(g):
    return g.choice(["LEFT", "RIGHT"]) if g.chance(0.96) else g.choice([b"UP", b"", b"LEFTX"])


def _pos(g):
    return ["LPOS", g.l, g.member, *g.some_of(0.3, ["RANK", g.negatable], ["COUNT", g.integer], ["MAXLEN", g.integer])]


def numkeys(g, kind):
    keys = g.keys(kind, 1, 3)
    return [len(keys) if g.chance(0.93) else g.integer, *keys]


def mpop(g, name, kind, sides):
    where = g.choice(sides) if g.chance(0.95) else g.choice([b"foo", b""])
    return [*name, *numkeys(g, kind), where, *g.maybe(0.5, "COUNT", g.integer), *g.maybe(0.05, "COUNT", 1)]


COMMANDS = [
    (8, lambda g: ["RPUSH", g.l, *g.values]),
    (8, lambda g: ["LPUSH", g.l, *g.values]),
    (3, lambda g: ["RPUSH", g.l, *g.members]),
    (2, lambda g: ["LPUSHX", g.l, *g.values]),
    (2, lambda g: ["RPUSHX", g.l, *g.values]),
    (4, lambda g: ["LPOP", g.l, *g.maybe(0.5, g.integer)]),
    (4, lambda g: ["RPOP", g.l, *g.maybe(0.5, g.integer)]),
    (2, lambda g: ["LLEN", g.l]),
    (6, lambda g: ["LRANGE", g.l, g.index, g.index]),
    (4, lambda g: ["LINDEX", g.l, g.index]),
    (4, lambda g: ["LSET", g.l, g.index, g.value]),
    (4, lambda g: ["LINSERT", g.l, g.choice(["BEFORE", "AFTER"]) if g.chance(0.95) else b"AT", g.value, g.value]),
    (4, lambda g: ["LREM", g.l, g.negatable, g.value]),
    (3, lambda g: ["LTRIM", g.l, g.index, g.index]),
    (5, _pos),
    (4, lambda g: ["LMOVE", g.l, g.l, _side(g), _side(g)]),
    (2, lambda g: ["RPOPLPUSH", g.l, g.l]),
    (4, lambda g: mpop(g, ["LMPOP"], "l", ["LEFT", "RIGHT"])),
    (1, lambda g: ["RPUSH", g.l, g.choice([b"big" * 40, b"big" * 1000, b"big" * 3000])]),
]


def _timeout(g):
    return 0 if g.chance(0.7) else g.choice([0.01, 1, b"-1", b"abc", b"1e400", b"0x1", b"", b"nan", b"1e300", b"1.5"])


BLOCKING = [
    (4, lambda g: ["BLPOP", *g.keys("l", 1, 3), _timeout(g)]),
    (4, lambda g: ["BRPOP", *g.keys("l", 1, 3), _timeout(g)]),
    (3, lambda g: ["BLMOVE", g.l, g.l, _side(g), _side(g), _timeout(g)]),
    (2, lambda g: ["BRPOPLPUSH", g.l, g.l, _timeout(g)]),
    (3, lambda g: mpop(g, ["BLMPOP", _timeout(g)], "l", ["LEFT", "RIGHT"])),
    (3, lambda g: ["BZPOPMIN", *g.keys("z", 1, 3), _timeout(g)]),
    (3, lambda g: ["BZPOPMAX", *g.keys("z", 1, 3), _timeout(g)]),
    (3, lambda g: mpop(g, ["BZMPOP", _timeout(g)], "z", ["MIN", "MAX"])),
]
