"""What a store holds, in a form that two stores can be compared by."""


def contents(server, databases=(0,)):
    """{(database, key): (type, value, has an expiry)} of every key, by ordinary commands."""
    held = {}
    with server.raw(timeout=20) as client:
        for database in databases:
            assert client.call("SELECT", database) == b"+OK\r\n"
            for key in client.value("KEYS", "*"):
                kind = client.value("TYPE", key)
                held[database, key] = (kind, _value(client, kind, key), client.value("PTTL", key) >= 0)
    return held


def _value(client, kind, key):
    if kind == b"string":
        return client.value("GET", key)
    if kind == b"list":
        return client.value("LRANGE", key, 0, -1)
    if kind == b"set":
        return sorted(client.value("SMEMBERS", key))
    if kind == b"hash":
        flat = client.value("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2]))
    if kind == b"zset":
        # Redis 7.0 writes doubles with 17 digits, 7.2 as short as they can be: compared as numbers.
        flat = client.value("ZRANGE", key, 0, -1, "WITHSCORES")
        return [(member, float(score)) for member, score in zip(flat[::2], flat[1::2])]
    raise AssertionError(f"{key!r} is a {kind!r}")


def fill(server):
    """Every type, in its small and its large form, with odd bytes, expiries and a second database."""
    with server.raw(timeout=20) as client:
        def do(*words):
            reply = client.call(*words)
            assert reply[:1] != b"-", (words[:3], reply)
        do("SET", "string", "value")
        do("SET", "integer", "12345")
        do("SET", "negative", "-9223372036854775808")
        do("SET", "empty", "")
        do("SET", b"bytes\x00\xff\r\n", bytes(range(256)))
        do("SET", "long", "x" * 100_000)
        do("SET", "compressible", "ab" * 5000)
        do("SET", "expiring", "soon", "EX", "1000")
        for kind, count in (("small", 5), ("large", 2000)):
            do("RPUSH", f"list-{kind}", *(f"item-{i}" for i in range(count)))
            do("SADD", f"set-{kind}", *(f"member-{i}" for i in range(count)))
            do("SADD", f"intset-{kind}", *(str(i * 1_000_003 - 5) for i in range(count)))
            do("HSET", f"hash-{kind}", *(word for i in range(count) for word in (f"field-{i}", f"value-{i}")))
            do("ZADD", f"zset-{kind}", *(word for i in range(count) for word in (str(i * 0.5 - 3), f"member-{i}")))
        do("RPUSH", "list-mixed", "1", "-5", "abc", "", "x" * 10_000, "9223372036854775807", "3.14")
        do("HSET", "hash-wide", "f", "y" * 1000)
        do("ZADD", "zset-odd", "inf", "a", "-inf", "b", "0.1", "c", "1e-300", "d", "12345678901234567", "e")
        do("EXPIRE", "hash-small", "1000")
        do("SELECT", "3")
        do("SET", "elsewhere", "3")
