"""Streams. IDs are given, as those that a server chooses are a matter of the moment; times are compared with tolerance."""

from ..comparing import about_stream, same_kind
from ..generator import Op

GROUPS = [b"g", b"h", b"1", b""]
CONSUMERS = [b"c", b"d", b"e", b""]
# Nothing that two servers measure within a test lies between these.
IDLE = [0, 0, 0, 1, -5, 1000000, 100000000000]
TOLERANCE_MS = 60_000


def pending(ours, real, memory):
    """Entries of XPENDING: the third of each is a time."""
    def plain(value):
        if value[0] != "*" or value[1] is None:
            return value
        return [[part for i, part in enumerate(item[1]) if i != 2] if item[0] == "*" and item[1] else item for item in value[1]]
    return ours == real or plain(ours) == plain(real)


def consumers(ours, real, memory):
    def plain(value):
        if value[0] not in "*" or value[1] is None:
            return value
        found = []
        for item in value[1]:
            fields = dict(zip([name[1] for name in item[1][::2]], item[1][1::2]))
            fields.pop(b"inactive", None)
            idle = fields.pop(b"idle")
            found.append((fields, idle[1] < TOLERANCE_MS))
        return found
    return ours == real or plain(ours) == plain(real)


def _id(g):
    n = g.rng.random()
    if n < 0.75:
        return b"%d-%d" % (g.rng.randint(0, 12), g.rng.randint(0, 3))
    if n < 0.85:
        return b"%d" % g.rng.randint(0, 15)
    if n < 0.93:
        return b"%d-%d" % (g.rng.randint(0, 400), g.rng.randint(0, 2))
    return g.choice([b"18446744073709551615-18446744073709551615", b"18446744073709551615-5", b"18446744073709551615", b"5-18446744073709551615",
                     b"18446744073709551616-0", b"-1-0", b"1-", b"-", b"+", b"1-1-1", b"x", b"", b"0-0", b"0", b"1-x", b"+5-1", b" 5-1", b"007-1", b"1-\x00",
                     b"5-*", b"*-1", b"1 -1", b"0x1-1", b"1-+2"])


def _new(g):
    """An ID for XADD: mostly one that is higher than all before."""
    n = g.rng.random()
    if n < 0.55:
        g.lastStreamID = getattr(g, "lastStreamID", 0) + g.choice([0, 1, 1, 1, 2])
        return b"%d-*" % g.lastStreamID
    if n < 0.85:
        g.lastStreamID = getattr(g, "lastStreamID", 0) + 1
        return b"%d-%d" % (g.lastStreamID, g.rng.randint(0, 3))
    return _id(g)


def _bound(g):
    n = g.rng.random()
    if n < 0.25:
        return g.choice([b"-", b"+"])
    if n < 0.35:
        return b"(" + _id(g)
    if n < 0.6:
        return b"%d" % g.rng.randint(0, getattr(g, "lastStreamID", 5) + 2)
    return _id(g)


def _pairs(g):
    n = g.rng.random()
    if n < 0.5:
        return [x for name in (b"name", b"age") for x in (name, g.value)]
    if n < 0.6:
        return [b"f", g.choice([b"big" * 400, b"x" * 5000, b"12345"])]
    return [x for _ in range(g.rng.randint(1, 4)) for x in (g.member, g.value)]


def _cut(g):
    how = g.choice(["MAXLEN", "MINID"])
    threshold = (g.rng.randint(0, 30) if g.chance(0.9) else g.integer) if how == "MAXLEN" else _bound(g)
    sign = g.choice([[], ["="], ["~"], ["~"]])
    return [how, *sign, threshold, *g.maybe(0.25, "LIMIT", g.choice([0, 1, 5, 100, g.integer]))]


def _add(g):
    return ["XADD", g.x, *g.maybe(0.15, "NOMKSTREAM"), *(_cut(g) if g.chance(0.15) else []), _new(g), *_pairs(g), *g.maybe(0.02, b"odd")]


def _fill(g):
    """Several nodes of the same fields, and some of others."""
    key = g.x
    return [Op(["XADD", key, b"%d-*" % (getattr(g, "lastStreamID", 0) + i), *(_pairs(g) if g.chance(0.1) else [b"name", b"v%d" % i])])
            for i in range(g.rng.randint(5, 250))]


def _group(g):
    return g.choice(GROUPS[:2]) if g.chance(0.93) else g.choice(GROUPS + [b"none"])


def _consumer(g):
    return g.choice(CONSUMERS[:3]) if g.chance(0.95) else g.choice(CONSUMERS)


def _ids(g):
    return [_id(g) if g.chance(0.4) else b"%d-%d" % (g.rng.randint(0, getattr(g, "lastStreamID", 5) + 1), g.rng.randint(0, 2)) for _ in range(g.rng.randint(1, 4))]


def _create(g):
    return ["XGROUP", "CREATE", g.x, _group(g), g.choice([b"$", b"0", b"0", _id(g)]), *g.some_of(0.25, ["MKSTREAM"], ["ENTRIESREAD", g.choice([0, 3, -1, g.integer])])]


def _read(g):
    keys = g.keys("x", 1, 2)
    return ["XREAD", *g.some_of(0.4, ["COUNT", g.choice([1, 2, 5, g.integer])]), "STREAMS", *keys, *[g.choice([b"0", b"0-0", b"$", _id(g)]) for _ in keys], *g.maybe(0.02, b"0")]


def _read_group(g):
    keys = g.keys("x", 1, 2) if g.chance(0.2) else [g.x]
    group, consumer = _group(g), _consumer(g)
    words = ["XREADGROUP", "GROUP", group, consumer, *g.some_of(0.3, ["COUNT", g.choice([1, 2, 3, g.integer])], ["NOACK"]), "STREAMS", *keys,
             *[g.choice([b">", b">", b">", b"0", _id(g)]) for _ in keys]]
    return [Op(["XGROUP", "CREATECONSUMER", key, group, consumer], isFixed=True) for key in keys] + [Op(words, unspoilt)]


def _claim(g):
    options = g.some_of(0.25, ["IDLE", g.choice([0, 1000000, g.integer])], ["TIME", g.choice([1000, 0, g.integer])], ["RETRYCOUNT", g.choice([0, 5, g.integer])],
                        ["FORCE"], ["JUSTID"], ["LASTID", _id(g)])
    return _with_consumer(g, ["XCLAIM"], g.choice(IDLE), *_ids(g), *options, *g.maybe(0.02, b"FOO"))


def unspoilt(ours, real, memory):
    return ours == real


def _with_consumer(g, name, *words):
    """7.2 makes the consumer whether anything is claimed or not, 7.0 only then: it is made before."""
    which = [g.x, _group(g), _consumer(g)]
    return [Op(["XGROUP", "CREATECONSUMER", *which], isFixed=True), Op([*name, *which, *words], unspoilt)]


def _chosen(g):
    """With an ID of the server's."""
    return [Op(["XADD", b"chosen", b"*", b"f", b"v"], same_kind, isFixed=True), Op(["XLEN", b"chosen"]), Op(["DEL", b"chosen"], isFixed=True)]


COMMANDS = [
    (20, _add),
    (2, _fill),
    (1, _chosen),
    (2, lambda g: ["XLEN", g.x]),
    (8, lambda g: [g.choice(["XRANGE", "XREVRANGE"]), g.x, _bound(g), _bound(g), *g.maybe(0.3, "COUNT", g.choice([1, 3, 10, g.integer]))]),
    (5, lambda g: ["XDEL", g.x, *_ids(g)]),
    (4, lambda g: ["XTRIM", g.x, *_cut(g)]),
    (2, lambda g: ["XSETID", g.x, _id(g), *g.some_of(0.3, ["ENTRIESADDED", g.choice([0, 10, 1000, g.integer])], ["MAXDELETEDID", _id(g)])]),
    (5, _read),
    (6, _create),
    (12, _read_group),
    (2, lambda g: ["XGROUP", "SETID", g.x, _group(g), g.choice([b"$", b"0", _id(g)]), *g.maybe(0.3, "ENTRIESREAD", g.choice([0, 3, -1, g.integer]))]),
    (1, lambda g: ["XGROUP", "DESTROY", g.x, _group(g)]),
    (2, lambda g: ["XGROUP", "CREATECONSUMER", g.x, _group(g), _consumer(g)]),
    (1, lambda g: ["XGROUP", "DELCONSUMER", g.x, _group(g), _consumer(g)]),
    (1, lambda g: [g.choice(["XGROUP", "XINFO"]), g.choice(["HELP", b"FOO"])]),
    (5, lambda g: ["XACK", g.x, _group(g), *_ids(g)]),
    (5, _claim),
    (4, lambda g: _with_consumer(g, ["XAUTOCLAIM"], g.choice(IDLE), g.choice([b"-", b"0", _bound(g)]),
                                *g.some_of(0.3, ["COUNT", g.choice([1, 2, 10, 0, -1, b"x"])], ["JUSTID"]))),
    (3, lambda g: ["XPENDING", g.x, _group(g)]),
    (4, lambda g: Op(["XPENDING", g.x, _group(g), *g.maybe(0.3, "IDLE", g.choice([0, 1000000, 100000000000])), _bound(g), _bound(g), g.choice([1, 5, 100, g.integer]),
                      *g.maybe(0.3, _consumer(g))], pending)),
    (3, lambda g: Op(["XINFO", "STREAM", g.x], about_stream)),
    (3, lambda g: Op(["XINFO", "STREAM", g.x, "FULL", *g.maybe(0.4, "COUNT", g.choice([0, 1, 3, -1, g.integer]))], about_stream)),
    (3, lambda g: ["XINFO", "GROUPS", g.x]),
    (3, lambda g: Op(["XINFO", "CONSUMERS", g.x, _group(g)], consumers)),
    (1, lambda g: ["DEL", g.x]),
]
