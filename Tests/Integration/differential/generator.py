"""What commands are made of: keys, values, numbers, options; and how right commands are made wrong."""

from dataclasses import dataclass, field

from .comparing import exact


@dataclass
class Op:
    """One command of an episode.

    A `str` among `words` is the protocol's own (a name, an option), whose letters may be written in any case; `bytes` are data;
    a tuple ("id", name) stands for the number of a connection. `how` compares the replies. `action` names something that is
    more than a command (a whole SCAN, a DUMP restored in the other server): see Playing.
    """

    words: list
    how: object = exact
    connection: str = "a"
    action: str = ""
    # Never spoilt: what follows relies on it.
    isFixed: bool = False
    arguments: dict = field(default_factory=dict)


@dataclass
class Block:
    """Commands that stay or go together when an episode is made smaller; of a divisible one single commands may go too."""

    ops: list
    isDivisible: bool = False


def text(value):
    return value if isinstance(value, (bytes, tuple)) else str(value).encode()


JUNK = [b"", b"abc", b" 1", b"1 ", b"1.5", b"+1", b"0x10", b"1e3", b"-", b"nan", b"\x00", b"\xff\xfe", b"--1", b"1\x00", b"-0", b"007", b"(1", b"[a"]
# Not -2^63+1: as a count of random elements it would never end.
EXTREME = [b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"-9223372036854775809",
           b"18446744073709551615", b"18446744073709551616", b"99999999999999999999999"]
WIDE = EXTREME + [b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"4294967295", b"4294967296", b"-9223372036854775807"]
FLOATS = [b"0", b"1", b"-1", b"1.5", b"-2.5", b"3.0", b"0.1", b"0.2", b"1e3", b"1e-5", b"3.0e2", b"1e15", b"1e16", b"1e17", b"123456789012345678",
          b"-0", b"0.0", b"1e21", b"1.1e-7", b"100000000000000000000", b"17179869184", b"9007199254740993", b"-9007199254740993",
          b"3.14159265358979", b"2.718281828459045235", b"1e100", b"-1e100", b"5e-324", b"1.7976931348623157e308", b"0.30000000000000004"]
BAD_FLOATS = [b"inf", b"-inf", b"+inf", b"Infinity", b"nan", b"-nan", b"1e400", b"-1e400", b"1e-400", b"0x1p3", b"0x10", b" 1", b"1 ", b"", b"abc",
              b"1.5abc", b"1,5", b"1e", b".5", b"5.", b".", b"+2", b"--1", b"1\x00", b"123456789012345678901234567890", b"1_0", b"infinit", b"1e5000"]
OVERFLOWING = {b"1e400", b"-1e400", b"1e-400", b"1e5000", b"5e-324"}
MEMBERS = [b"a", b"b", b"c", b"d", b"e", b"f", b"aa", b"ab", b"B", b"1", b"2", b"3", b"-5", b"0", b"007", b"100", b"-128", b"127", b"128", b"4095", b"4096",
           b"32767", b"-32769", b"8388608", b"2147483648", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"3.5", b"-0", b"+1",
           b"1e3", b"", b"\x00", b"\xff\x00\r\n", b"m" * 64, b"n" * 65, b"x" * 63, b"caf\xc3\xa9", b" 1", b"field", b"*", b"12", b"13", b"14"]
VALUES = [b"", b"v", b"value", b"10", b"-1", b"0", b"5", b"3.14", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775806", b"007", b"+7",
          b" 7", b"1e2", b"inf", b"nan", b"0x1f", b"ohmytext", b"mynewtext", b"\x00\x01\x02\xff", b"\r\n", b"y" * 20, b"y" * 21, b"z" * 44, b"z" * 45, b"w" * 64,
          b"w" * 65, b"q" * 300, b"99999999999999999999", b"10000", b"9999", b"-9999", b"1.0", b"17179869184.5", b"a{1}", b"100000000000000000000000"]
PATTERNS = [b"*", b"k*", b"?1", b"[stl]*", b"[^s]?", b"[a-m]*", b"\\*", b"*1*", b"", b"s0", b"[", b"[a", b"[]", b"h[0-2]", b"**", b"*\\", b"[z-a]?", b"a*",
            b"[\\]]*", b"?", b"??", b"x*y", b"[^", b"[-]"]
KINDS = "slhtzx"


class Generator:
    """Draws everything from one random source; `rng` is a random.Random."""

    def __init__(self, rng, mayOverflow=True):
        self.rng = rng
        # SORT fails in Redis when some command before it has met a number beyond a double's range (errno is left over).
        self.floats, self.badFloats = ([f for f in some if mayOverflow or f not in OVERFLOWING] for some in (FLOATS, BAD_FLOATS))
        self.choice = rng.choice
        self.chance = lambda p: rng.random() < p

    # -- keys

    def key(self, kind):
        """Mostly one that holds what `kind` says: s(tring), l(ist), h(ash), t (set), z (sorted set), x (stream)."""
        n = self.rng.random()
        if n < 0.90:
            return b"%s%d" % (kind.encode(), self.rng.randrange(5))
        if n < 0.97:
            return b"%s%d" % (self.choice(KINDS).encode(), self.rng.randrange(5))
        return self.choice([b"missing", b"", b"\x00\xff\r\n bin", b"k" * 100, b"w_1", b"missing2", b"{s}0"])

    s = property(lambda self: self.key("s"))
    l = property(lambda self: self.key("l"))  # noqa: E741
    h = property(lambda self: self.key("h"))
    t = property(lambda self: self.key("t"))
    z = property(lambda self: self.key("z"))
    x = property(lambda self: self.key("x"))
    any = property(lambda self: self.key(self.choice(KINDS)))

    def keys(self, kind, low=1, high=4):
        return [self.key(kind) for _ in range(self.rng.randint(low, high))]

    # -- data

    @property
    def member(self):
        n = self.rng.random()
        if n < 0.80:
            return self.choice(MEMBERS)
        return b"%d" % self.rng.randrange(40) if n < 0.93 else b"e%d" % self.rng.randrange(300)

    @property
    def value(self):
        return self.choice(VALUES) if self.chance(0.8) else self.member

    def many(self, make, low=1, high=4):
        """Some; now and then very many, for the large encodings."""
        n = self.rng.randint(low, high) if self.chance(0.97) else self.rng.randint(20, 200)
        return [make() for _ in range(n)]

    members = property(lambda self: self.many(lambda: self.member))
    values = property(lambda self: self.many(lambda: self.value))

    # -- numbers

    @property
    def small(self):
        return self.rng.randint(-4, 12)

    @property
    def integer(self):
        """Mostly sensible; wrong or extreme now and then."""
        n = self.rng.random()
        if n < 0.80:
            return self.small
        if n < 0.88:
            return self.rng.randint(-1000, 1000)
        return self.choice(WIDE) if n < 0.95 else self.choice(JUNK)

    @property
    def negatable(self):
        """An integer that has a negative: 7.2 asks for that in places where 7.0 does not."""
        return self.rng.choice([n for n in [self.integer, 1, 1] if n != b"-9223372036854775808"])

    @property
    def count(self):
        """For what answers with that many elements: no large negative ones."""
        n = self.rng.random()
        if n < 0.85:
            return self.rng.randint(-6, 15)
        return self.choice([0, 1, -1, 100, -100, 300]) if n < 0.93 else self.choice(EXTREME + JUNK)

    @property
    def float(self):
        n = self.rng.random()
        if n < 0.5:
            return self.rng.randint(-5, 20)
        return self.choice(self.floats) if n < 0.9 else self.choice(self.badFloats)

    @property
    def score(self):
        n = self.rng.random()
        if n < 0.6:
            return self.rng.randint(-3, 8)
        if n < 0.92:
            return self.choice(self.floats)
        return self.choice([b"inf", b"-inf", b"+inf"]) if n < 0.96 else self.choice(self.badFloats)

    @property
    def index(self):
        return self.rng.randint(-8, 10) if self.chance(0.93) else self.integer

    @property
    def pattern(self):
        return self.choice(PATTERNS)

    @property
    def db(self):
        n = self.rng.random()
        return self.rng.randrange(3) if n < 0.9 else self.choice([15, 16, -1, b"abc", b"", 99999999999, b"0 "])

    # Times in steps so wide that what GT and LT say does not hang on the moment.
    @property
    def seconds(self):
        n = self.rng.random()
        if n < 0.75:
            return self.choice([100, 1000, 10000, 100000, 1000000])
        return self.choice([0, -1, -100]) if n < 0.85 else self.choice(WIDE + JUNK + [b"9223372036854775", b"9223372036854776", b"9223370000000000"])

    @property
    def milliseconds(self):
        n = self.rng.random()
        if n < 0.75:
            return self.choice([100000, 1000000, 10000000, 100000000])
        return self.choice([0, -1, -100]) if n < 0.85 else self.choice(EXTREME + JUNK + [-2147483648, b"9223370000000000000", 99999999999])

    @property
    def moment(self):
        """Seconds since 1970."""
        n = self.rng.random()
        if n < 0.75:
            return self.choice([4000000000, 4100000000, 5000000000, 33177117420])
        return self.choice([0, 1, -1, 1000000000]) if n < 0.88 else self.choice(WIDE + JUNK + [b"9223372036854775", b"9223372036854776"])

    @property
    def moment_ms(self):
        n = self.rng.random()
        if n < 0.75:
            return self.choice([4000000000000, 4100000000001, 5000000000999, 33177117420000])
        return self.choice([0, 1, -1, 1000000000000]) if n < 0.88 else self.choice(EXTREME + JUNK)

    # -- options

    def maybe(self, probability, *words):
        return list(words) if self.chance(probability) else []

    def some_of(self, probability, *groups):
        """Each group of words with that probability, in any order."""
        chosen = [list(group) for group in groups if self.chance(probability)]
        self.rng.shuffle(chosen)
        return [word for group in chosen for word in group]

    def one_of(self, *groups):
        return list(self.choice(groups))

    # -- wrong commands

    def finished(self, op, spoils=True):
        """The words as bytes, now and then spoilt: too few, too many, exchanged, or junk."""
        words = [self.cased(word) if isinstance(word, str) else text(word) for word in op.words]
        if spoils and not op.isFixed and op.how is exact and not op.action and self.chance(0.03):
            self.spoil(words)
        op.words = words
        return op

    def cased(self, word):
        n = self.rng.random()
        if n < 0.9:
            return word.encode()
        return (word.lower() if n < 0.96 else "".join(c.lower() if self.chance(0.5) else c for c in word)).encode()

    def spoil(self, words):
        how = self.rng.randrange(5)
        # These take one more word in 7.2, and a transaction would run on there.
        if how in (1, 3) and words[0].upper() in (b"ZRANK", b"ZREVRANK"):
            return
        if how == 0 and len(words) > 1:
            words.pop()
        elif how == 1:
            words.append(self.choice(JUNK + [b"extra", b"GET", b"WITHSCORES", b"LIMIT", b"1", b"COUNT"]))
        elif how == 2 and len(words) > 1:
            words[self.rng.randrange(1, len(words))] = self.choice(JUNK)
        elif how == 3 and len(words) > 2:
            place = self.rng.randrange(1, len(words))
            words.insert(self.rng.randrange(1, len(words)), words[place])
        elif how == 4:
            del words[1:]
