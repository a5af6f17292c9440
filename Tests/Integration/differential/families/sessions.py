"""What several connections do to each other: wait for keys, watch them, listen to messages.

Every reply here is compared byte by byte, as it is not known which command of a waiting connection it belongs to.
"""

from ..generator import Block, Op
from .lists import mpop

FEW = [b"l0", b"l1", b"l2"]
SCORED = [b"z0", b"z1", b"z2"]


def _l(g):
    return g.choice(FEW) if g.chance(0.95) else g.any


def _z(g):
    return g.choice(SCORED) if g.chance(0.95) else g.any


def _wait(g):
    return 0 if g.chance(0.85) else 100


def _side(g):
    return g.choice(["LEFT", "RIGHT"])


def _few(g, make):
    return [make(g) for _ in range(g.rng.randint(1, 3))]


def _counted(g, make):
    keys = _few(g, make)
    return [len(keys), *keys]


WAITS = [
    (5, lambda g: ["BLPOP", *_few(g, _l), _wait(g)]),
    (5, lambda g: ["BRPOP", *_few(g, _l), _wait(g)]),
    (4, lambda g: ["BLMOVE", _l(g), _l(g), _side(g), _side(g), _wait(g)]),
    (2, lambda g: ["BRPOPLPUSH", _l(g), _l(g), _wait(g)]),
    (4, lambda g: ["BLMPOP", _wait(g), *_counted(g, _l), _side(g), *g.maybe(0.5, "COUNT", g.rng.randint(1, 3))]),
    (4, lambda g: ["BZPOPMIN", *_few(g, _z), _wait(g)]),
    (4, lambda g: ["BZPOPMAX", *_few(g, _z), _wait(g)]),
    (4, lambda g: ["BZMPOP", _wait(g), *_counted(g, _z), g.choice(["MIN", "MAX"]), *g.maybe(0.5, "COUNT", g.rng.randint(1, 3))]),
    # On a new connection, as one that waits already would begin to wait for this at a moment that nobody knows.
    (2, lambda g: [Op([], action="close"), Op(["BLPOP", _l(g), b"0.01"]), Op([], action="sleep")]),
    (2, lambda g: [Op([], action="close"), Op(["BZPOPMIN", _z(g), b"0.01"]), Op([], action="sleep")]),
    (1, lambda g: mpop(g, ["BLMPOP", 0], "l", ["LEFT", "RIGHT"])),
]
FEEDS = [
    (6, lambda g: ["RPUSH", _l(g), *_few(g, lambda g: g.value)]),
    (6, lambda g: ["LPUSH", _l(g), *_few(g, lambda g: g.value)]),
    (6, lambda g: ["ZADD", _z(g), *[x for _ in range(g.rng.randint(1, 3)) for x in (g.rng.randint(-3, 9), g.member)]]),
    (2, lambda g: ["LINSERT", _l(g), "BEFORE", g.value, g.value]),
    (2, lambda g: ["RPUSHX", _l(g), g.value]),
    (2, lambda g: ["LMOVE", _l(g), _l(g), _side(g), _side(g)]),
    (2, lambda g: ["ZINCRBY", _z(g), 1, g.member]),
    (2, lambda g: ["SET", g.choice([_l, _z])(g), g.value]),
    (2, lambda g: ["SADD", g.choice([_l, _z])(g), g.member]),
    (3, lambda g: ["RENAME", g.choice([_l, _z])(g), g.choice([_l, _z])(g)]),
    (2, lambda g: ["COPY", g.choice([_l, _z])(g), g.choice([_l, _z])(g), *g.maybe(0.5, "REPLACE"), *g.maybe(0.3, "DB", g.rng.randrange(3))]),
    (2, lambda g: ["SORT", _l(g), "BY", b"nosort", "STORE", g.choice([_l, _z])(g)]),
    (2, lambda g: ["ZUNIONSTORE", _z(g), 2, _z(g), _z(g)]),
    (2, lambda g: ["ZRANGESTORE", g.choice([_l, _z])(g), _z(g), 0, -1]),
    (2, lambda g: ["MOVE", g.choice([_l, _z])(g), g.rng.randrange(3)]),
    (3, lambda g: ["SWAPDB", g.rng.randrange(3), g.rng.randrange(3)]),
    (2, lambda g: ["SELECT", g.rng.randrange(3)]),
    (4, lambda g: ["DEL", g.choice([_l, _z])(g), *g.maybe(0.3, _l(g))]),
    (1, lambda g: ["PEXPIREAT", g.choice([_l, _z])(g), g.choice([1, 4000000000000])]),
    (2, lambda g: ["LPOP", _l(g)]),
    (2, lambda g: ["LRANGE", _l(g), 0, -1]),
    (1, lambda g: ["ZPOPMIN", _z(g), 2]),
    (1, lambda g: ["FLUSHALL"]),
    (1, lambda g: ["LREM", _l(g), 0, g.value]),
]


def _x(g):
    return g.choice([b"x0", b"x1"]) if g.chance(0.97) else g.any


def _behind(g):
    return g.choice([b"$", b"$", b"0", b"%d" % g.rng.randint(0, 30)])


STREAM_WAITS = [
    (6, lambda g: ["XREAD", *g.maybe(0.4, "COUNT", g.rng.randint(1, 3)), "BLOCK", 0, "STREAMS", *(lambda keys: keys + [_behind(g) for _ in keys])(_few(g, _x))]),
    # Consumers are there already (see STREAM_FEEDS): 7.2 makes them at another moment than 7.0.
    (8, lambda g: ["XREADGROUP", "GROUP", g.choice([b"g", b"h"]), g.choice([b"c", b"d"]), *g.maybe(0.4, "COUNT", g.rng.randint(1, 3)), *g.maybe(0.2, "NOACK"),
                   "BLOCK", 0, "STREAMS", _x(g), g.choice([b">", b">", b">", b"0"])]),
    (1, lambda g: [Op([], action="close"), Op(["XREAD", "BLOCK", 10, "STREAMS", _x(g), b"$"]), Op([], action="sleep")]),
]
STREAM_FEEDS = [
    (10, lambda g: ["XADD", _x(g), b"%d-*" % g.rng.randint(1, 30), b"f", g.value]),
    (4, lambda g: ["XADD", _x(g), b"%d-*" % g.rng.randint(30, 40), b"f", g.value]),
    (5, lambda g: [Op([*words]) for key, group in [(_x(g), g.choice([b"g", b"h"]))]
                   for words in (["XGROUP", "CREATE", key, group, g.choice([b"0", b"$"]), "MKSTREAM"], ["XGROUP", "CREATECONSUMER", key, group, b"c"],
                                 ["XGROUP", "CREATECONSUMER", key, group, b"d"])]),
    (2, lambda g: ["XGROUP", "DESTROY", _x(g), g.choice([b"g", b"h"])]),
    (2, lambda g: ["XGROUP", "SETID", _x(g), g.choice([b"g", b"h"]), g.choice([b"0", b"$"])]),
    (2, lambda g: ["XDEL", _x(g), b"%d-0" % g.rng.randint(1, 30)]),
    (2, lambda g: ["XLEN", _x(g)]),
    (2, lambda g: ["XPENDING", _x(g), b"g"]),
    (1, lambda g: ["XTRIM", _x(g), "MAXLEN", g.rng.randint(0, 3)]),
    (1, lambda g: ["COPY", _x(g), _x(g), "REPLACE"]),
]
MULTI = [
    (4, lambda g: ["MULTI"]),
    (4, lambda g: ["EXEC"]),
    (1, lambda g: ["DISCARD"]),
]
WATCHES = [
    (4, lambda g: ["WATCH", *_few(g, lambda g: g.any)]),
    (1, lambda g: ["UNWATCH"]),
    (2, lambda g: ["SET", g.any, g.value]),
    (1, lambda g: ["SET", g.s, g.value, "PXAT", 1000]),
    (1, lambda g: Op([], action="sleep")),
    (1, lambda g: ["INCR", g.any]),
    (1, lambda g: ["HSET", g.any, g.member, g.value]),
    (1, lambda g: ["SADD", g.any, g.member]),
    (1, lambda g: ["SREM", g.any, g.member]),
    (1, lambda g: ["GET", g.any]),
    (1, lambda g: ["EXPIRE", g.any, 100]),
    (1, lambda g: ["PERSIST", g.any]),
    (1, lambda g: ["GETEX", g.any, "PERSIST"]),
    (1, lambda g: ["TOUCH", g.any]),
    (1, lambda g: ["FLUSHDB"]),
    (1, lambda g: [b"NOSUCH"]),
    (1, lambda g: ["GET"]),
]
CHANNELS = [b"news", b"weather", b"x", b""]
# No two match the same channel: in which order their messages come is not defined.
GLOBS = [b"n*", b"?", b"we[a-b]*", b"[yz]*", b"nothing"]


def _channels(g):
    return [g.choice(CHANNELS) for _ in range(g.rng.randint(1, 3))]


def _globs(g):
    return [g.choice(GLOBS) for _ in range(g.rng.randint(1, 3))]


MESSAGES = [
    (6, lambda g: ["SUBSCRIBE", *_channels(g)]),
    (4, lambda g: ["PSUBSCRIBE", *_globs(g)]),
    (4, lambda g: ["SSUBSCRIBE", *_channels(g)]),
    # Without names the order of the answers is that of a table: one name is enough for it to be defined.
    (4, lambda g: ["UNSUBSCRIBE", *_channels(g)]),
    (3, lambda g: ["PUNSUBSCRIBE", *_globs(g)]),
    (3, lambda g: ["SUNSUBSCRIBE", *_channels(g)]),
    (1, lambda g: [Op(["UNSUBSCRIBE", *CHANNELS]), Op(["UNSUBSCRIBE"]), Op(["PUNSUBSCRIBE", *GLOBS]), Op(["PUNSUBSCRIBE"])]),
    (1, lambda g: [Op(["SUNSUBSCRIBE", *CHANNELS]), Op(["SUNSUBSCRIBE"])]),
    (10, lambda g: ["PUBLISH", g.choice(CHANNELS), g.value]),
    (5, lambda g: ["SPUBLISH", g.choice(CHANNELS), g.value]),
    (2, lambda g: ["PUBSUB", "NUMSUB", *CHANNELS]),
    (2, lambda g: ["PUBSUB", "SHARDNUMSUB", *CHANNELS]),
    (1, lambda g: ["PUBSUB", "NUMPAT"]),
    (1, lambda g: ["PUBSUB", "CHANNELS", b"news"]),
    (1, lambda g: ["PUBSUB", "SHARDCHANNELS", b"news"]),
    (2, lambda g: ["PING", *g.maybe(0.5, g.value)]),
    (1, lambda g: ["GET", g.s]),
    (1, lambda g: ["SET", g.s, g.value]),
    (1, lambda g: ["RESET"]),
    (1, lambda g: ["SELECT", 1]),
]
ENDS = [
    (2, lambda g: Op([], action="close")),
    (2, lambda g: ["CLIENT", "UNBLOCK", ("id", g.choice("abcd")), *g.maybe(0.5, g.choice(["TIMEOUT", "ERROR"]))]),
]

SESSIONS = [
    WAITS + FEEDS + ENDS,
    WAITS + FEEDS,
    WAITS + FEEDS + MULTI + ENDS,
    WATCHES + MULTI + FEEDS,
    STREAM_WAITS + STREAM_FEEDS,
    STREAM_WAITS + STREAM_FEEDS + MULTI + ENDS,
    MESSAGES,
    MESSAGES + MULTI + ENDS,
    WAITS + FEEDS + MULTI + WATCHES + MESSAGES + ENDS,
]


def step_block(g, names, chooser):
    """One step of one of the connections."""
    name = g.choice(names)
    ops = []
    for op in chooser.draw(g):
        op.connection = name
        ops.append(g.finished(op, spoils=False))
    return Block(ops)
