"""SORT: every option, with what BY and GET look up."""

from ..comparing import collated, same_shape, unordered
from ..generator import Op

PATTERNS = [b"w_*", b"h*->a", b"h*->1", b"s*", b"w_*->f", b"nosort", b"*", b"*->", b"->*", b"w_*_*", b"#", b"x", b"h0->*", b"", b"s[*]", b"w_*->"]


def _weights(g):
    return ["MSET", *[x for member in g.rng.sample([b"a", b"b", b"c", b"1", b"2", b"3", b"0"], 4)
                      for x in (b"w_" + member, g.score if g.chance(0.9) else g.value)]]


def _sort(g):
    key = g.choice([lambda: g.l, lambda: g.t, lambda: g.z, lambda: g.any])()
    by = g.choice(PATTERNS) if g.chance(0.5) else None
    isAlphabetic = g.chance(0.6)
    gets = [x for _ in range(g.choice([0, 0, 1, 2])) for x in ("GET", g.choice(PATTERNS))]
    limit = ["LIMIT", g.rng.randint(-2, 5), g.rng.randint(-2, 8)] if g.chance(0.3) else []
    groups = [["ALPHA"]] if isAlphabetic else []
    if by is not None:
        groups.append(["BY", by])
    if gets:
        groups.append(gets)
    if limit:
        groups.append(limit)
    if g.chance(0.5):
        groups.append([g.choice(["ASC", "DESC"])])
    how = None
    if by is not None and b"*" not in by:
        # Unsorted: a set's own order, which is not ours.
        how = unordered if not limit else same_shape
    elif by is not None and isAlphabetic:
        # Equal texts stay in an order that is not defined.
        how = unordered if not limit else same_shape
    name = "SORT"
    if how is None or (by is not None and b"*" not in by and not limit and not gets and key.startswith(b"t")):
        if g.chance(0.3):
            groups.append(["STORE", g.choice([g.l, g.l, g.any])])
        elif g.chance(0.2):
            name = "SORT_RO"
    if not groups or groups[-1][0] != "STORE":
        g.rng.shuffle(groups)
    words = [name, key, *[word for group in groups for word in group]]
    if how is same_shape and gets:
        # What is got of elements that differ may be there or not.
        return ["EXISTS", key]
    if how is None and isAlphabetic and b"STORE" not in words and "STORE" not in words:
        how = collated
    return Op(words, how) if how else words


COMMANDS = [
    (2, _weights),
    (2, lambda g: ["RPUSH", g.l, *[g.rng.randint(-5, 20) for _ in range(5)]]),
    (1, lambda g: ["HSET", b"w_" + g.choice([b"a", b"1", b"2"]), b"f", g.score]),
    (10, _sort),
    (1, lambda g: Op(["SORT", g.l, *g.some_of(0.4, ["LIMIT", g.integer], ["BY"], ["GET"], ["LIMIT", g.integer, g.integer], [b"foo"])], same_shape)),
    (1, lambda g: ["SORT", g.l, "STORE"]),
]
