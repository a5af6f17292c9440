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
    if kind == b"stream":
        return (_stream(client.value("XINFO", "STREAM", key, "FULL", "COUNT", 0)), client.value("XRANGE", key, "-", "+"))
    raise AssertionError(f"{key!r} is a {kind!r}")


# The nodes of a radix tree, which is not ours, and times that an append-only file does not keep.
_NOT_KEPT = (b"radix-tree-keys", b"radix-tree-nodes", b"seen-time", b"active-time")


def _stream(reply):
    """XINFO's reply without what is not kept."""
    if not isinstance(reply, list):
        return reply
    kept, skips = [], False
    for item in reply:
        if not skips and item not in _NOT_KEPT:
            kept.append(_stream(item))
        skips = not skips and item in _NOT_KEPT
    return kept


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
        _fill_streams(do)
        do("SELECT", "3")
        do("SET", "elsewhere", "3")


def _fill_streams(do):
    """Streams with gaps, with several forms of entries, without entries; groups with and without anything pending."""
    for i in range(1, 1001):
        do("XADD", "stream-large", f"{i}-{i % 3}", *(("name", f"n{i}", "age", i) if i % 10 else ("other", "x" * i, b"\x00\xff", "-7")))
    for i in range(3, 990, 7):
        do("XDEL", "stream-large", f"{i}-{i % 3}")
    do("XTRIM", "stream-large", "MAXLEN", 700)
    do("XADD", "stream-small", "18446744073709551610-18446744073709551600", "f", "v")
    do("XSETID", "stream-small", "18446744073709551615-5", "ENTRIESADDED", 12, "MAXDELETEDID", "7-7")
    do("XGROUP", "CREATE", "stream-empty", "waiting", "0", "MKSTREAM")
    do("XADD", "stream-emptied", "5-5", "f", "v")
    do("XDEL", "stream-emptied", "5-5")
    do("XGROUP", "CREATE", "stream-large", "readers", "0")
    do("XGROUP", "CREATE", "stream-large", "readers\r\n", "$")
    do("XGROUP", "CREATECONSUMER", "stream-large", "readers", "idle")
    do("XREADGROUP", "GROUP", "readers", "one", "COUNT", 100, "STREAMS", "stream-large", ">")
    do("XREADGROUP", "GROUP", "readers", "two", "COUNT", 50, "STREAMS", "stream-large", ">")
    do("XACK", "stream-large", "readers", *(entry for i in range(400, 450) for entry in (f"{i}-{i % 3}",)))
    do("XAUTOCLAIM", "stream-large", "readers", "three", 0, "-", "COUNT", 20)
    do("EXPIRE", "stream-small", "1000")
