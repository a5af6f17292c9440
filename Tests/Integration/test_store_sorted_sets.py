"""Sorted sets beside Debian's redis-server: random commands, right and wrong ones, and every reply compared."""

import random

import pytest

# Scores are halves and whole numbers: Redis 7.0 prints others with 17 digits, 7.2 (and we) with as few as will do.
KEYS, WEIGHTS = ["k1", "k2", "k3", "set", "string", "list", "nothing"], [10, 10, 6, 2, .3, .3, 1]


class Requests:
    """Commands drawn from a seed. BYLEX ranges go to `lex`, whose scores are all equal: others are unspecified."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        kinds = [(12, self.zadd), (8, lambda: ["ZADD", "lex", 0, self.member()]), (2, lambda: ["ZREM", "lex", self.member()])]
        for weight, text in SIMPLE:
            kinds.append((weight, lambda words=text.split(): [self.word(word) for word in words]))
        kinds += [(8, lambda: ["ZRANGE", *self.range(["WITHSCORES"])]), (4, lambda: ["ZRANGESTORE", self.target(), *self.range([])])]
        for name, weight in (("ZUNION", 2), ("ZINTER", 2), ("ZDIFF", 1), ("ZINTERCARD", 2)):
            kinds.append((weight, lambda name=name: [name, *self.combination(name)]))
            if name != "ZINTERCARD":
                kinds.append((weight, lambda name=name: [name + "STORE", self.target(), *self.combination(name, stores=True)]))
        kinds += [(2, lambda: ["ZMPOP", *self.several(), self.one("MIN MAX"), *self.maybe(.5, "COUNT", self.one("1 2 0 x"))]),
                  (1, lambda: ["BZMPOP", "0.001", *self.several(), self.one("MIN MAX")])]
        self.kinds, self.weights = [kind for _, kind in kinds], [weight for weight, _ in kinds]

    def __call__(self):
        return [str(word) for word in self.random.choices(self.kinds, self.weights)[0]()]

    def one(self, words):
        return self.random.choice(words.split())

    def maybe(self, chance, *words):
        return words if self.random.random() < chance else ()

    def word(self, word):
        maker = {"key": self.key, "target": self.target, "lexkey": self.lexkey, "member": self.member, "score": self.score,
                 "bound": self.bound, "lexbound": self.lexbound, "index": self.index, "count": lambda: self.one("1 0 3 -1 x")}
        return maker[word]() if word in maker else word

    def key(self):
        return self.random.choices(KEYS, WEIGHTS)[0]

    def target(self):
        return self.one("k1 k2 k3")

    def lexkey(self):
        return self.one("lex lex lex string nothing2")

    def member(self):
        if self.random.random() < .05:
            return self.random.choice(["", "x" * 70, "5", "-3"])
        return f"m{self.random.randrange(self.random.choice([8, 40]))}"

    def score(self):
        return self.random.choices([self.random.randrange(10), self.random.randrange(-40, 40) / 2, "inf", "-inf", "nan", "abc", "1e3", ""],
                                   [30, 30, 1, 1, .5, .5, 1, .2])[0]

    def bound(self):
        return self.one("-inf +inf x") if self.random.random() < .1 else self.random.choice(["", "("]) + str(self.score())

    def lexbound(self):
        return self.random.choices(["-", "+", "[" + self.member(), "(" + self.member(), "bad", ""], [3, 3, 8, 8, .5, .2])[0]

    def index(self):
        return self.random.randrange(-12, 12) if self.random.random() < .97 else self.one("x 1.5 99999999999999999999")

    def zadd(self):
        options = [word for word in ("NX", "XX", "GT", "LT", "CH", "INCR") if self.random.random() < .15]
        self.random.shuffle(options)
        pairs = [word for _ in range(self.random.choice([1, 1, 2, 3])) for word in (self.score(), self.member())]
        return ["ZADD", self.key(), *options, *pairs, *self.maybe(.02, "1")]

    def range(self, flags):
        kind = self.random.choice(["", "BYSCORE", "BYLEX"])
        bound = {"": self.index, "BYSCORE": self.bound, "BYLEX": self.lexbound}[kind]
        parts = [[word] for word in [kind, *flags] if word and (word == kind or self.random.random() < .3)]
        parts += [["REV"]] if self.random.random() < .4 else []
        parts += [["LIMIT", self.one("0 1 3 -1"), self.one("0 2 5 -1")]] if self.random.random() < .3 else []
        self.random.shuffle(parts)
        key = self.lexkey() if kind == "BYLEX" else self.key()
        return [key, bound(), bound(), *(word for part in parts for word in part)]

    def several(self):
        count = self.random.randrange(1, 4)
        return [count if self.random.random() < .95 else self.one("0 -1 x 9"), *(self.key() for _ in range(count))]

    def combination(self, name, stores=False):
        keys = self.several()
        if name == "ZINTERCARD":
            return [*keys, *self.maybe(.6, "LIMIT", self.one("0 1 3 -1 x"))]
        options = list(self.maybe(.6, "WITHSCORES")) if not stores else []
        if name != "ZDIFF" or self.random.random() < .1:
            options += self.maybe(.4, "WEIGHTS", *(self.one("1 2 0.5 1 2 0.5 -1 inf x") for _ in keys[1:]))
            options += self.maybe(.4, "AGGREGATE", self.one("SUM MIN MAX MIN MAX bad"))
        return [*keys, *options]


SIMPLE = [
    (4, "ZINCRBY key score member"), (5, "ZREM key member member"), (2, "ZSCORE key member"), (2, "ZMSCORE key member member"),
    (1, "ZCARD key"), (3, "ZCOUNT key bound bound"), (3, "ZLEXCOUNT lexkey lexbound lexbound"), (2, "ZRANK key member"),
    (2, "ZREVRANK key member"), (2, "ZREVRANGE key index index WITHSCORES"), (3, "ZRANGEBYSCORE key bound bound WITHSCORES LIMIT 1 3"),
    (3, "ZREVRANGEBYSCORE key bound bound LIMIT 0 -1"), (3, "ZRANGEBYLEX lexkey lexbound lexbound"),
    (3, "ZREVRANGEBYLEX lexkey lexbound lexbound LIMIT 1 4"), (1, "ZREMRANGEBYRANK key index index"),
    (1, "ZREMRANGEBYSCORE key bound bound"), (1, "ZREMRANGEBYLEX lexkey lexbound lexbound"), (1, "ZPOPMIN key"),
    (1, "ZPOPMIN key count"), (1, "ZPOPMAX key"), (1, "ZPOPMAX key count"), (1, "BZPOPMIN key key 0.001"), (1, "BZPOPMAX key 0.001"),
    (.3, "BZPOPMAX key -1"), (1, "TYPE key"), (.5, "OBJECT ENCODING target"), (.3, "DEL target"), (.3, "ZRANDMEMBER nothing2 2"),
    (.3, "ZSCAN nothing2 0"), (.3, "ZADD key"), (.3, "ZRANGE key"), (.3, "ZUNION"),
]


@pytest.mark.parametrize("protocol", [2, 3], ids=["RESP2", "RESP3"])
@pytest.mark.parametrize("entries", [128, 20, 0], ids=lambda entries: f"listpack-{entries}")
def test_random_commands_get_the_same_replies(vigie_store, redis_server, protocol, entries):
    servers = [make(zset_max_listpack_entries=entries) for make in (vigie_store, redis_server)]
    with servers[0].raw(timeout=20) as ours, servers[1].raw(timeout=20) as real:
        for client in (ours, real):
            client.call("HELLO", protocol)
            client.call("SET", "string", "x")
            client.call("RPUSH", "list", "a")
            client.call("SADD", "set", *(f"m{i}" for i in range(0, 30, 3)))
        draw = Requests(seed=entries * 10 + protocol)
        for number in range(4000):
            request = draw()
            assert ours.call(*request) == real.call(*request), (number, request)
        for key in ("k1", "k2", "k3", "lex"):
            assert ours.call("ZRANGE", key, 0, -1, "WITHSCORES") == real.call("ZRANGE", key, 0, -1, "WITHSCORES")
