"""Every type in every encoding that a Redis 7.0 writes, both ways, and the encodings of older ones, whose bytes are made here.

Redis 7.0 reads the old ones too: what it makes of them is what must come out.
"""

import struct
import subprocess
import time

import pytest

from harness.contents import contents

# The kinds of value in a file of Redis 7.0 (rdb.h), and the special forms of strings behind 0xC0.
STRING, SET, HASH, ZSET2, INTSET, HASH_LISTPACK, ZSET_LISTPACK, QUICKLIST2 = 0, 2, 4, 5, 11, 16, 17, 18


def form_of(dump):
    """What a DUMP says of how the value is written: its kind, with the form of a string or of a node behind it."""
    kind = dump[0]
    if kind == STRING:
        return ("string", {0xC0: "int8", 0xC1: "int16", 0xC2: "int32", 0xC3: "lzf"}.get(dump[1], "raw"))
    if kind == QUICKLIST2:
        nodes = "many" if dump[1] != 1 else "one"
        at = 2 if dump[1] < 64 else 3
        return ("list", nodes, {1: "plain", 2: "packed"}[dump[at]], "lzf" if dump[at + 1] == 0xC3 else "raw")
    names = {SET: "set", HASH: "hash", ZSET2: "zset", INTSET: "intset", HASH_LISTPACK: "hash listpack", ZSET_LISTPACK: "zset listpack"}
    return (names[kind],)


FORMS = {("string", form) for form in ("int8", "int16", "int32", "lzf", "raw")} | {
    (name,) for name in ("set", "hash", "zset", "intset", "hash listpack", "zset listpack")} | {
    ("list", "one", "packed", "raw"), ("list", "one", "packed", "lzf"), ("list", "one", "plain", "raw"), ("list", "one", "plain", "lzf"),
    ("list", "many", "packed", "raw"), ("list", "many", "packed", "lzf"), ("list", "many", "plain", "raw"), ("list", "many", "plain", "lzf")}


def noise(size, seed=1):
    """Bytes that do not compress."""
    out, state = bytearray(), seed
    while len(out) < size:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        out.append(state >> 56)
    return bytes(out)


def fill_every_encoding(server):
    with server.raw(timeout=20) as client:
        def do(*words):
            reply = client.call(*words)
            assert reply[:1] != b"-", (words[:3], reply)
        for n, number in enumerate([0, 1, -1, 12, 127, 128, -128, -129, 32767, 32768, -32768, -32769, 2**31 - 1, 2**31, -2**31, -2**31 - 1, 2**63 - 1, -2**63]):
            do("SET", f"int{n}", number)
            do("SET", f"1{n}000", number)  # keys that are numbers
        for n, text in enumerate([b"", b"a", b"007", b"+1", b"-0", b" 1", b"1.5", noise(20), noise(21), noise(44), noise(45), noise(300), noise(20_000),
                                  b"a" * 21, b"ab" * 30, b"abc" * 10_000, b"\x00" * 100_000, bytes(range(256)) * 40]):
            do("SET", f"text{n}", text)
        do("SET", "appended", "abc")
        do("APPEND", "appended", "def")  # raw, though it is short
        do("SET", b"key" * 100, "compressed key")
        for name, items in {"short": [b"a", b"1", b"-7", noise(100)], "numbers": [10**n for n in range(18)] + [-(10**n) for n in range(18)],
                            "same": [b"same" * 10] * 50, "long": [noise(70, n) for n in range(1000)], "longer": [b"x" * 60] * 2000}.items():
            do("RPUSH", f"list-{name}", *items)
        if server.call("INFO", "server").find(b"vigie") < 0:
            do("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "8500")  # elements from there on have nodes of their own, as they have here anyway
        do("RPUSH", "list-plain", noise(9000))
        do("RPUSH", "list-plain-lzf", b"y" * 9000)
        do("RPUSH", "list-plain-many", noise(9000), "small", noise(10_000), b"z" * 9000, noise(30))
        do("RPUSH", "list-plain-lzf-many", b"y" * 9000, "small")
        do("SADD", "intset16", 1, -2, 300)
        do("SADD", "intset32", 1, -2, 70_000)
        do("SADD", "intset64", 1, -2, 2**40, -2**62)
        do("SADD", "intset-large", *range(0, 512 * 7, 7))
        do("SADD", "set-of-numbers", *range(600))
        do("SADD", "set-small", "a", "1", noise(50))
        do("SADD", "set-large", *(f"member{n}" for n in range(300)), noise(500))
        do("HSET", "hash-small", "f", "v", "number", "123456789", "negative", "-5", "empty", "")
        do("HSET", "hash-lzf", *(word for n in range(50) for word in (f"field{n}", "value" * 10)))
        do("HSET", "hash-wide", "f", noise(65))
        do("HSET", "hash-large", *(word for n in range(600) for word in (f"field{n}", n)))
        do("ZADD", "zset-small", "1", "a", "-2.5", "b", "inf", "c", "-inf", "d", "1e300", "e", "0.1", "f", "-0", "g", "3", "12")
        do("ZADD", "zset-wide", "1", noise(65))
        do("ZADD", "zset-large", *(word for n in range(300) for word in (n / 7 - 20, f"member{n}")), "inf", "top", "-inf", "low")
        for key in ("int3", "text8", "list-short", "intset16", "set-small", "hash-large", "zset-small"):
            do("PEXPIREAT", key, 1_900_000_000_123)


def details(server):
    """For every key: contents, encoding, and the moment at which its time is over."""
    held = contents(server)
    with server.raw(timeout=20) as client:
        return {key: (value[:2], client.value("OBJECT", "ENCODING", key[1]), client.value("PEXPIRETIME", key[1])) for key, value in held.items()}


# A list of one small node is a listpack since 7.2, and a small set one of strings; strings read from a file are embedded where they are short.
NEWER = {(b"quicklist", b"listpack"), (b"hashtable", b"listpack"), (b"raw", b"embstr")}


@pytest.mark.parametrize("compression", ["yes", "no"])
def test_every_encoding_of_redis_7_0_both_ways(redis_server, vigie_store, compression):
    real = redis_server(rdbcompression=compression, list_compress_depth="1", enable_debug_command="yes")
    fill_every_encoding(real)
    forms = {form_of(real.call("DUMP", key)) for key in real.call("KEYS", "*")}
    assert forms == {form for form in FORMS if compression == "yes" or form[-1] != "lzf"}, "the test does not make them all"
    before = details(real)
    real.call("SAVE")
    ours = vigie_store(dir=real.directory, rdbcompression=compression)
    loaded = details(ours)
    assert loaded.keys() == before.keys()
    for key, (value, encoding, expiry) in before.items():
        assert loaded[key][0] == value and loaded[key][2] == expiry, key
        assert loaded[key][1] == encoding or (encoding, loaded[key][1]) in NEWER, (key, encoding, loaded[key][1])
    # What we write is read back by it to the same, encodings included.
    assert ours.call("SAVE") == b"OK"
    real.kill()
    checked = subprocess.run(["redis-check-rdb", ours.directory / "dump.rdb"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    again = details(redis_server(dir=ours.directory))
    for key, (value, encoding, expiry) in before.items():
        assert again[key][0] == value and again[key][2] == expiry, key
        assert again[key][1] == encoding or (encoding, again[key][1]) == (b"raw", b"embstr"), (key, encoding, again[key][1])


@pytest.mark.parametrize("policy, field", [("allkeys-lru", "IDLETIME"), ("allkeys-lfu", "FREQ")])
@pytest.mark.parametrize("writer, reader", [("redis", "vigie"), ("vigie", "redis")])
def test_what_is_known_of_the_use_of_keys_comes_along(store_of, writer, reader, policy, field):
    one = store_of(writer)(maxmemory_policy=policy)
    with one.raw() as client:
        for n in range(20):
            # RESTORE is the way to say it.
            client.call("SET", "source", f"value{n}")
            value = client.value("DUMP", "source")
            assert client.call("RESTORE", f"key{n}", "0", value, field if field == "FREQ" else "IDLETIME", str(n * 9)) == b"+OK\r\n"
        one.call("SAVE")
    two = store_of(reader)(dir=one.directory, maxmemory_policy=policy)
    with two.raw() as client:
        for n in range(20):
            found = client.value("OBJECT", field, f"key{n}")
            # The counter of LFU decays by one a minute; idle times go on.
            assert abs(found - n * 9) <= 2, (n, found)


# -- the encodings of older versions

def length(n):
    if n < 64:
        return bytes([n])
    if n < 16384:
        return bytes([0x40 | n >> 8, n & 255])
    return b"\x80" + struct.pack(">I", n)


def string(data):
    data = data if isinstance(data, bytes) else str(data).encode()
    return length(len(data)) + data


def ziplist(entries):
    body, previous, tail = b"", 0, 10
    for entry in entries:
        tail = 10 + len(body)
        lead = bytes([previous]) if previous < 254 else b"\xfe" + struct.pack("<I", previous)
        if isinstance(entry, int):
            if 0 <= entry <= 12:
                data = bytes([0xF1 + entry])
            elif -128 <= entry < 128:
                data = b"\xfe" + struct.pack("<b", entry)
            elif -2**15 <= entry < 2**15:
                data = b"\xc0" + struct.pack("<h", entry)
            elif -2**23 <= entry < 2**23:
                data = b"\xf0" + struct.pack("<i", entry)[:3]
            elif -2**31 <= entry < 2**31:
                data = b"\xd0" + struct.pack("<i", entry)
            else:
                data = b"\xe0" + struct.pack("<q", entry)
        else:
            size = len(entry)
            data = (bytes([size]) if size < 64 else bytes([0x40 | size >> 8, size & 255]) if size < 16384 else b"\x80" + struct.pack(">I", size)) + entry
        body += lead + data
        previous = len(lead + data)
    return struct.pack("<IIH", 11 + len(body), tail, len(entries)) + body + b"\xff"


def zipmap(pairs):
    def size(n):
        return bytes([n]) if n < 254 else b"\xfe" + struct.pack("<I", n)
    body = b"".join(size(len(field)) + field + size(len(value)) + bytes([free]) + value + b"\0" * free for field, value, free in pairs)
    return bytes([min(len(pairs), 254)]) + body + b"\xff"


def intset(numbers, width):
    return struct.pack("<II", width, len(numbers)) + b"".join(struct.pack({2: "<h", 4: "<i", 8: "<q"}[width], n) for n in sorted(numbers))


def text_double(value):
    special = {"nan": b"\xfd", "inf": b"\xfe", "-inf": b"\xff"}
    return special.get(value) or bytes([len(value)]) + value.encode()


def lzf(data, original_size):
    return b"\xc3" + length(len(data)) + length(original_size) + data


INTEGERS = [0, 12, 13, -1, 127, -128, 128, -32768, 32767, 32768, -2**23, 2**23 - 1, 2**23, -2**31, 2**31 - 1, 2**31, -2**63, 2**63 - 1]
WORDS = [b"", b"a", b"b" * 63, b"c" * 64, b"d" * 253, b"e" * 300, b"f" * 16383, b"g" * 16384, b"h"]

SHORT_ZIPMAP = zipmap([(b"f", b"value", 0), (b"g", b"value", 0)])

OLD = {
    "string": (0, string("value")), "int8": (0, b"\xc0\x85"), "int16": (0, b"\xc1\x00\x80"), "int32": (0, b"\xc2\x00\x00\x00\x80"),
    "lzf": (0, lzf(b"\x01aa\xe0\x50\x00", 91)),  # two literals, then 89 bytes from one back
    "long length": (0, b"\x80" + struct.pack(">I", 5) + b"value"), "14 bits": (0, b"\x40\x05value"),
    "list": (1, length(3) + string("a") + string(b"\xff\x00") + b"\xc0\x07"),
    "set": (2, length(2) + string("a") + string("17")),
    "zset text": (3, length(7) + b"".join(string(f"m{n}") + text_double(v) for n, v in enumerate(
        ["1", "-2.5", "inf", "-inf", "3.0000000000000004", "1e+300", "0.10000000000000001"]))),
    "hash": (4, length(2) + string("f") + string("v") + string("n") + b"\xc0\x05"),
    "zset binary": (5, length(3) + b"".join(string(f"m{n}") + struct.pack("<d", v) for n, v in enumerate([1.5, float("inf"), -0.1]))),
    "zipmap": (9, string(zipmap([(b"f", b"v", 0), (b"field", b"value with room", 7), (b"long" * 80, b"x" * 300, 0), (b"", b"", 0)]))),
    "zipmap lzf": (9, lzf(bytes([len(SHORT_ZIPMAP) - 1]) + SHORT_ZIPMAP, len(SHORT_ZIPMAP))),  # literals only
    "list ziplist": (10, string(ziplist(WORDS + INTEGERS))),
    "intset16": (11, string(intset([1, -5, 300], 2))), "intset32": (11, string(intset([1, 70000], 4))), "intset64": (11, string(intset([2**40, -1], 8))),
    "zset ziplist": (12, string(ziplist([b"low", b"-inf", b"a", -3, b"b", b"1.5", b"c", 12, b"high", b"inf"]))),
    "hash ziplist": (13, string(ziplist([b"f", b"v", b"n", 12345, b"wide", b"w" * 64]))),
    "quicklist": (14, length(3) + string(ziplist([b"a", 1])) + string(ziplist(WORDS)) + string(ziplist(INTEGERS))),
}
SINCE = {"quicklist": 7, "zset binary": 8, "zipmap": 1, "zipmap lzf": 1, "list ziplist": 2, "zset ziplist": 2, "intset16": 2, "intset32": 2, "intset64": 2,
         "hash ziplist": 4}


def old_file(version, values=OLD):
    """A file as a Redis of that version could have written it."""
    data = b"REDIS%04d" % version
    if version >= 7:
        data += b"\xfa" + string("redis-ver") + string("4.0.0") + b"\xfa" + string("made-up") + string("x")
    for database in (0, 3):
        data += b"\xfe" + length(database)
        if version >= 7:
            data += b"\xfb" + length(len(values)) + length(2)
        for name, (kind, value) in values.items():
            if SINCE.get(name, 1) > version:
                continue
            if name == "string":
                data += b"\xfd" + struct.pack("<i", 1_900_000_000)
            elif name == "hash" and version >= 3:
                data += b"\xfc" + struct.pack("<q", 1_900_000_000_123)
            elif name == "list" and version >= 9:
                data += b"\xf8" + length(100)
            elif name == "set" and version >= 9:
                data += b"\xf9\x05"
            data += bytes([kind]) + string(name) + value
    return data + b"\xff" + (bytes(8) if version >= 5 else b"")


@pytest.mark.parametrize("version", range(1, 10))
def test_files_of_older_versions(redis_server, vigie_store, tmp_path, version):
    found = []
    for start in (redis_server, vigie_store):
        folder = tmp_path / f"made-{len(found)}"
        folder.mkdir()
        (folder / "dump.rdb").write_bytes(old_file(version))
        store = start(dir=folder)
        with store.raw() as client:
            times = {key: client.value("PEXPIRETIME", key) for key in ("string", "hash", "list")}
        found.append((contents(store, (0, 3)), times))
        assert len(found[-1][0]) == 2 * sum(SINCE.get(name, 1) <= version for name in OLD)
    assert found[1] == found[0]
    assert found[1][1]["string"] == 1_900_000_000_000


def test_a_damaged_old_encoding_is_refused(vigie_store, tmp_path):
    """Every flip of a bit is read or refused; none ends a process otherwise, whatever it makes of the old encodings."""
    short = {"list ziplist": (10, string(ziplist(WORDS[:3] + INTEGERS))), "quicklist": (14, length(2) + string(ziplist([b"a", 1])) + string(ziplist(WORDS[:3])))}
    data = old_file(9, OLD | short)
    (tmp_path / "dump.rdb").write_bytes(data)
    store = vigie_store(dir=tmp_path, enable_debug_command="yes")
    refused = 0
    with store.raw(timeout=20) as client:
        for bit in range(0, len(data) * 8, 7):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            (tmp_path / "dump.rdb").write_bytes(damaged)
            reply = client.call("DEBUG", "RELOAD", "NOSAVE")
            refused += reply != b"+OK\r\n"
            assert client.call("DEBUG", "DIGEST")[:1] == b"+"
    assert refused > 500 and store.alive()


def test_the_data_of_a_module_beside_the_keys_is_read_over_and_spoken_of(vigie_store, tmp_path):
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    module = 0
    for letter in "rejson-RL":
        module = module << 6 | letters.index(letter)
    wide = b"\x81" + struct.pack(">Q", module << 10 | 3)
    fields = b"\x02" + b"\x81" + struct.pack(">Q", 2**64 - 1) + b"\x01\x07" + b"\x03" + struct.pack("<f", 1.5) + b"\x04" + struct.pack("<d", 2.5) \
        + b"\x05" + string(b"text" * 50) + b"\x05" + lzf(b"\x01aa\xe0\x50\x00", 91)
    data = b"REDIS0010" + b"\xf7" + wide + b"\x02\x02" + fields + b"\x00" + b"\xfe\x00" + b"\x00" + string("key") + string("value") \
        + b"\xf7" + wide + b"\x02\x01" + b"\x00" + b"\xff" + bytes(8)
    (tmp_path / "dump.rdb").write_bytes(data)
    store = vigie_store(dir=tmp_path)
    assert store.call("GET", "key") == b"value" and store.call("DBSIZE") == 1
    assert store.log_text().count("data of the module 'rejson-RL' beside the keys was left out") == 2
    store.kill()
    # A key of a module's type cannot be left out in silence.
    (tmp_path / "dump.rdb").write_bytes(data[:-9] + b"\x07" + string("document") + wide + b"\x00" + b"\xff" + bytes(8))
    store = vigie_store(dir=tmp_path, ready=False)
    assert store.process.child.wait(10) == 1
    assert "key 'document'" in store.log_text() and "a value of a Redis module" in store.log_text()


def test_sets_as_listpacks_of_newer_versions(vigie_store, tmp_path):
    """Version 11 (Redis 7.2): what a Redis 7.0 cannot read."""
    pack = b"\x81a\x02" + b"\x07\x01" + b"\x83abc\x04"
    pack = struct.pack("<IH", 7 + len(pack), 3) + pack + b"\xff"
    (tmp_path / "dump.rdb").write_bytes(b"REDIS0011\xfe\x00" + b"\x14" + string("set") + string(pack) + b"\xff" + bytes(8))
    store = vigie_store(dir=tmp_path)
    assert sorted(store.call("SMEMBERS", "set")) == [b"7", b"a", b"abc"] and store.call("OBJECT", "ENCODING", "set") == b"listpack"
