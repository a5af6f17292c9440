"""Hashes."""

from ..comparing import drawn, pairs, remembered, unordered
from ..generator import Op


def _pairs(g):
    # Distinct: 7.2 guesses the size of a hash from the number of arguments, so that repeated fields would tell it from 7.0.
    return [x for pair in dict(g.many(lambda: (g.member, g.value))).items() for x in pair]


def _random(g):
    key = g.h
    options = g.maybe(0.7, g.count)
    if options:
        options += g.maybe(0.5, "WITHVALUES")
    isDistinct = bool(options) and not str(text_of(options[0])).startswith("-")
    return [Op(["HGETALL", key], remembered) if len(options) > 1 else Op(["HKEYS", key], remembered),
            Op(["HRANDFIELD", key, *options], drawn(2 if len(options) > 1 else 1, isDistinct))]


def text_of(word):
    return word.decode(errors="replace") if isinstance(word, bytes) else word


def _scan(g):
    return Op(["HSCAN", g.h, 0, *g.some_of(0.3, ["MATCH", g.pattern], ["COUNT", g.rng.randint(1, 50)])], pairs, action="scan")


COMMANDS = [
    (10, lambda g: ["HSET", g.h, *_pairs(g), *g.maybe(0.02, g.member)]),
    (3, lambda g: ["HMSET", g.h, *_pairs(g), *g.maybe(0.02, g.member)]),
    (3, lambda g: ["HSETNX", g.h, g.member, g.value]),
    (5, lambda g: ["HGET", g.h, g.member]),
    (3, lambda g: ["HMGET", g.h, *g.members]),
    (5, lambda g: ["HDEL", g.h, *g.members]),
    (2, lambda g: ["HLEN", g.h]),
    (2, lambda g: ["HSTRLEN", g.h, g.member]),
    (2, lambda g: ["HEXISTS", g.h, g.member]),
    (3, lambda g: Op(["HGETALL", g.h], pairs)),
    (2, lambda g: Op(["HKEYS", g.h], unordered)),
    (2, lambda g: Op(["HVALS", g.h], unordered)),
    (5, lambda g: ["HINCRBY", g.h, g.member, g.integer]),
    (5, lambda g: ["HINCRBYFLOAT", g.h, g.member, g.float]),
    (4, _random),
    (1, lambda g: ["HRANDFIELD", b"absent", g.count, *g.maybe(0.3, g.choice(["WITHVALUES", "WITHSCORES"]))]),
    (2, _scan),
    (1, lambda g: ["HSCAN", b"absent", g.integer, *g.some_of(0.3, ["MATCH", g.pattern], ["COUNT", g.integer], ["foo"])]),
]
