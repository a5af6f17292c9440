"""Sorted sets."""

from ..comparing import drawn, pairs, remembered
from ..generator import Op
from .hashes import text_of
from .lists import mpop, numkeys


def _scored(g):
    return [x for pair in g.many(lambda: (g.score, g.member)) for x in pair]


def _bound(g):
    if g.chance(0.1):
        return g.choice([b"-inf", b"+inf", b"(-inf", b"(inf", b"(", b"((1", b"( 1", b"(nan", b"nan", b"(abc", b"[1", b"1)"])
    return b"(%s" % str(g.rng.randint(-3, 8)).encode() if g.chance(0.3) else g.score


def _lex(g):
    if g.chance(0.3):
        return g.choice([b"-", b"+", b"-", b"+", b"", b"a", b"--", b"+a", b"[", b"("])
    return g.choice([b"[", b"("]) + g.member


def _limit(g, probability=0.4):
    return g.maybe(probability, "LIMIT", g.integer, g.integer)


def _range_options(g):
    return g.some_of(0.3, ["BYSCORE"], ["BYLEX"], ["REV"], ["WITHSCORES"], ["LIMIT", g.integer, g.integer])


def _range(g, words):
    kind = g.rng.randrange(2)
    if kind == 0:
        return [*words, g.index, g.index, *g.some_of(0.3, ["REV"], ["WITHSCORES"])]
    return [*words, _bound(g), _bound(g), "BYSCORE", *g.some_of(0.3, ["REV"], ["WITHSCORES"], ["LIMIT", g.integer, g.integer])]


def _lexical(g):
    """What goes by member is defined for equal scores only, so it has a key of its own."""
    key = b"y"
    score = g.choice([0, 0, 1, b"-inf"])
    ops = [Op([b"DEL", key, b"y2"], isFixed=True), Op([b"SET", b"text", b"x"], isFixed=True), Op([b"ZADD", key, *[x for member in g.many(lambda: g.member, 1, 12) for x in (score, member)]], isFixed=True)]
    for _ in range(g.rng.randint(1, 6)):
        ops.append(Op(g.choice(_LEXICAL)(g, g.choice([key, key, key, key, key, b"text", b"absent"]))))
    return ops + [Op([b"DEL", key], isFixed=True)]


_LEXICAL = [
    lambda g, key: ["ZLEXCOUNT", key, _lex(g), _lex(g)],
    lambda g, key: ["ZRANGEBYLEX", key, _lex(g), _lex(g), *_limit(g)],
    lambda g, key: ["ZREVRANGEBYLEX", key, _lex(g), _lex(g), *_limit(g)],
    lambda g, key: ["ZREMRANGEBYLEX", key, _lex(g), _lex(g)],
    lambda g, key: ["ZRANGE", key, _lex(g), _lex(g), "BYLEX", *g.some_of(0.3, ["REV"], ["LIMIT", g.integer, g.integer])],
    lambda g, key: ["ZRANGESTORE", b"y2", key, _lex(g), _lex(g), "BYLEX", *g.some_of(0.3, ["REV"], ["LIMIT", g.integer, g.integer])],
    lambda g, key: ["ZRANGE", key, *[g.choice([_bound, _lex, lambda g: g.index])(g) for _ in range(2)], *_range_options(g)],
    lambda g, key: ["ZRANGESTORE", b"y2", key, *[g.choice([_bound, _lex, lambda g: g.index])(g) for _ in range(2)], *_range_options(g)],
]


def _sources(g):
    keys = [g.key(g.choice("zzzt")) for _ in range(g.rng.randint(1, 3))]
    return [len(keys) if g.chance(0.95) else g.integer, *keys]


def _weighted(g, words):
    sources = _sources(g)
    options = g.some_of(0.3, ["WEIGHTS", *[g.score for _ in range(len(sources) - 1 if g.chance(0.95) else 2)]],
                        ["AGGREGATE", g.choice(["SUM", "MIN", "MAX"]) if g.chance(0.95) else b"AVG"])
    return [*words, *sources, *options]


def _random(g):
    key = g.z
    options = g.maybe(0.7, g.count)
    if options:
        options += g.maybe(0.5, "WITHSCORES")
    isDistinct = bool(options) and not str(text_of(options[0])).startswith("-")
    step = 2 if len(options) > 1 else 1
    return [Op(["ZRANGE", key, 0, -1, *(["WITHSCORES"] if step == 2 else [])], remembered),
            Op(["ZRANDMEMBER", key, *options], drawn(step, isDistinct))]


COMMANDS = [
    (10, lambda g: ["ZADD", g.z, *_scored(g)]),
    (8, lambda g: ["ZADD", g.z, *g.some_of(0.25, ["NX"], ["XX"], ["GT"], ["LT"], ["CH"], ["INCR"]), *_scored(g), *g.maybe(0.02, g.score)]),
    (3, lambda g: ["ZADD", g.z, *g.some_of(0.3, ["NX"], ["XX"], ["GT"], ["LT"], ["CH"]), "INCR", g.score, g.member]),
    (4, lambda g: ["ZINCRBY", g.z, g.score, g.member]),
    (4, lambda g: ["ZREM", g.z, *g.members]),
    (3, lambda g: ["ZSCORE", g.z, g.member]),
    (3, lambda g: ["ZMSCORE", g.z, *g.members]),
    (1, lambda g: ["ZCARD", g.z]),
    (3, lambda g: ["ZRANK", g.z, g.member]),
    (3, lambda g: ["ZREVRANK", g.z, g.member]),
    (3, lambda g: ["ZCOUNT", g.z, _bound(g), _bound(g)]),
    (8, _lexical),
    (8, lambda g: _range(g, ["ZRANGE", g.z])),
    (6, lambda g: _range(g, ["ZRANGESTORE", g.z, g.z])),
    (3, lambda g: ["ZREVRANGE", g.z, g.index, g.index, *g.maybe(0.4, "WITHSCORES")]),
    (3, lambda g: ["ZRANGEBYSCORE", g.z, _bound(g), _bound(g), *g.some_of(0.3, ["WITHSCORES"], ["LIMIT", g.integer, g.integer])]),
    (3, lambda g: ["ZREVRANGEBYSCORE", g.z, _bound(g), _bound(g), *g.some_of(0.3, ["WITHSCORES"], ["LIMIT", g.integer, g.integer])]),
    (2, lambda g: ["ZREMRANGEBYRANK", g.z, g.index, g.index]),
    (2, lambda g: ["ZREMRANGEBYSCORE", g.z, _bound(g), _bound(g)]),
    (4, lambda g: _weighted(g, ["ZUNIONSTORE", g.z])),
    (4, lambda g: _weighted(g, ["ZINTERSTORE", g.z])),
    (4, lambda g: [*_weighted(g, ["ZUNION"]), *g.maybe(0.5, "WITHSCORES")]),
    (4, lambda g: [*_weighted(g, ["ZINTER"]), *g.maybe(0.5, "WITHSCORES")]),
    (3, lambda g: ["ZDIFF", *_sources(g), *g.maybe(0.5, "WITHSCORES")]),
    (3, lambda g: ["ZDIFFSTORE", g.z, *_sources(g)]),
    (3, lambda g: ["ZINTERCARD", *_sources(g), *g.maybe(0.5, "LIMIT", g.integer)]),
    (3, lambda g: ["ZPOPMIN", g.z, *g.maybe(0.5, g.integer)]),
    (3, lambda g: ["ZPOPMAX", g.z, *g.maybe(0.5, g.integer)]),
    (4, lambda g: mpop(g, ["ZMPOP"], "z", ["MIN", "MAX"])),
    (4, _random),
    (2, lambda g: Op(["ZSCAN", g.z, 0, *g.some_of(0.3, ["MATCH", g.pattern], ["COUNT", g.rng.randint(1, 50)])], pairs, action="scan")),
    (1, lambda g: ["ZSCAN", b"absent", g.integer, *g.some_of(0.3, ["MATCH", g.pattern], ["COUNT", g.integer], ["foo"])]),
    (1, lambda g: ["ZMPOP", *numkeys(g, "z"), g.choice(["MIN", "MAX"]), "COUNT", g.integer]),
]
