"""Sets."""

from ..comparing import drawn, remembered, unordered
from ..generator import Op
from .hashes import text_of
from .lists import numkeys


def _random(g):
    key = g.t
    options = g.maybe(0.7, g.count)
    return [Op(["SMEMBERS", key], remembered),
            Op(["SRANDMEMBER", key, *options], drawn(1, bool(options) and not str(text_of(options[0])).startswith("-")))]


def _pop(g):
    """What is left differs, so it goes."""
    key = g.t
    return [Op(["SMEMBERS", key], remembered), Op(["SPOP", key, *g.maybe(0.6, g.count)], drawn(1, True)),
            Op(["SCARD", key]), Op(["DEL", key], isFixed=True)]


def _numbers(g):
    width = g.choice([10, 1000, 100000, 10**12])
    return ["SADD", g.t, *_distinct(g.many(lambda: g.rng.randint(-width, width), 1, 20))]


def _distinct(members):
    """7.2 guesses the size of a set from the number of arguments, so that repeated ones would tell it from 7.0."""
    return list(dict.fromkeys(members))


COMMANDS = [
    (10, lambda g: ["SADD", g.t, *_distinct(g.members)]),
    (4, _numbers),
    (1, lambda g: ["SADD", g.t, *range(g.rng.randint(1, 600))]),
    (6, lambda g: ["SREM", g.t, *g.members]),
    (3, lambda g: ["SISMEMBER", g.t, g.member]),
    (3, lambda g: ["SMISMEMBER", g.t, *g.members]),
    (2, lambda g: ["SCARD", g.t]),
    (4, lambda g: Op(["SMEMBERS", g.t], unordered)),
    (4, _random),
    (3, _pop),
    (5, lambda g: ["SMOVE", g.t, g.t, g.member]),
    (4, lambda g: Op(["SINTER", *g.keys("t")], unordered)),
    (4, lambda g: ["SINTERSTORE", g.t, *g.keys("t")]),
    (4, lambda g: ["SINTERCARD", *numkeys(g, "t"), *g.maybe(0.4, "LIMIT", g.integer), *g.maybe(0.05, "LIMIT", 1)]),
    (4, lambda g: Op(["SUNION", *g.keys("t")], unordered)),
    (4, lambda g: ["SUNIONSTORE", g.t, *g.keys("t")]),
    (4, lambda g: Op(["SDIFF", *g.keys("t")], unordered)),
    (4, lambda g: ["SDIFFSTORE", g.t, *g.keys("t")]),
    (2, lambda g: Op(["SSCAN", g.t, 0, *g.some_of(0.3, ["MATCH", g.pattern], ["COUNT", g.rng.randint(1, 50)])], unordered, action="scan")),
    (1, lambda g: ["SSCAN", b"absent", g.integer, *g.some_of(0.3, ["MATCH", g.pattern], ["COUNT", g.integer], ["foo"])]),
]
