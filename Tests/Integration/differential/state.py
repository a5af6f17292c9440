"""The whole data set of two servers, compared: keys, types, encodings, times, values, and the dumps where they must agree."""

from .comparing import of_stream, same_scores
from .wire import parse_all

# Where a reader's key is, if not behind its name.
KEY = object()
READERS = {
    b"stream": [b"XINFO", b"STREAM", KEY, b"FULL", b"COUNT", 0],
    b"string": [b"GET"], b"list": [b"LRANGE", 0, -1], b"set": [b"SMEMBERS"], b"hash": [b"HGETALL"], b"zset": [b"ZRANGE", 0, -1, b"WITHSCORES"],
}
# Encodings whose bytes are Redis's own whatever way they came about.
EXACT = {b"stream", b"int", b"embstr", b"raw", b"intset", b"listpack"}
# What 7.2 has other encodings for.
OF_7_2 = {(b"set", b"listpack", b"hashtable"), (b"list", b"listpack", b"quicklist")}
TOLERANCE_MS = 5000


def _run(side, requests):
    mark = side.begin("state", [side.encoded(words) for words in requests])
    return parse_all(side.finish("state", mark))


def _databases(side):
    info = side.ask("INFO", "keyspace")[1].decode()
    return sorted(int(line[2:line.index(":")]) for line in info.splitlines() if line.startswith("db"))


def _canonical(kind, value):
    if kind == b"set":
        return sorted(item[1] for item in value[1])
    if kind == b"hash":
        items = [item[1] for item in value[1]]
        return sorted(zip(items[::2], items[1::2]))
    return of_stream(value) if kind == b"stream" else value


def _request(reader, key):
    return [key if word is KEY else word for word in reader] if KEY in reader else [reader[0], key, *reader[1:]]


def _contents(side, db):
    """A dictionary from key to (type, encoding, time, value, the same in the server's order, dump)."""
    keys = sorted(item[1] for item in _run(side, [[b"SELECT", db], [b"KEYS", b"*"]])[1][1])
    types = [reply[1] for reply in _run(side, [[b"TYPE", key] for key in keys])]
    requests = []
    for key, kind in zip(keys, types):
        if kind not in READERS:
            continue
        reader = READERS[kind]
        requests += [[b"OBJECT", b"ENCODING", key], [b"PEXPIRETIME", key], _request(reader, key), [b"DUMP", key]]
    replies = _run(side, requests)
    found, place = {}, 0
    for key, kind in zip(keys, types):
        if kind not in READERS:
            continue
        encoding, time, value, dump = replies[place:place + 4]
        place += 4
        found[key] = (kind, encoding[1], time[1], _canonical(kind, value), of_stream(value, isDated=True) if kind == b"stream" else value, dump[1])
    return found


def compare_state(ours, real):
    """Words for the first difference, or None."""
    for side in (ours, real):
        side.open("state", 2)
    try:
        dbs = _databases(ours), _databases(real)
        if dbs[0] != dbs[1]:
            return f"databases {dbs[0]} of ours, {dbs[1]} of the real one"
        for db in dbs[0]:
            a, b = _contents(ours, db), _contents(real, db)
            if a.keys() != b.keys():
                return f"db {db}: keys only in ours {sorted(a.keys() - b.keys())}, only in the real one {sorted(b.keys() - a.keys())}"
            for key in a:
                found = _compare_key(a[key], b[key])
                if found:
                    return f"db {db}, key {key!r}: {found}"
    finally:
        for side in (ours, real):
            side.close("state")
    return None


def _compare_key(a, b):
    (kind, encoding, time, value, order, dump), (real_kind, real_encoding, real_time, real_value, real_order, real_dump) = a, b
    if kind != real_kind:
        return f"type {kind!r} of ours, {real_kind!r} of the real one"
    if encoding != real_encoding and (kind, encoding, real_encoding) not in OF_7_2:
        return f"{kind.decode()} has encoding {encoding!r} of ours, {real_encoding!r} of the real one"
    if (time < 0 or real_time < 0) and time != real_time or abs(time - real_time) > TOLERANCE_MS:
        return f"expiry {time} of ours, {real_time} of the real one"
    if value != real_value and not (kind == b"zset" and same_scores(value, real_value)):
        return f"value {value!r:.600} of ours, {real_value!r:.600} of the real one"
    if encoding == real_encoding and order == real_order and encoding in EXACT and dump != real_dump:
        return f"{encoding.decode()} dump {dump!r:.600} of ours, {real_dump!r:.600} of the real one"
    return None
