"""Values and files in the RDB format, between this store and Debian's redis-server, and bytes that are no such thing."""

import random
import subprocess

import pytest

from differential.checksum import crc64
from harness import PlayedReplica, free_port, vigie_role, wait_until
from harness.contents import contents, fill

SIZES = [1, 20, 200, 3000]


def fill_by_size(server):
    """Collections of every size with numbers, text and long elements."""
    draw = random.Random(5)
    with server.raw(timeout=20) as client:
        for size in SIZES:
            words = [draw.choice([str(draw.randrange(-10**9, 10**18)), f"w{n}", "long" * 50 + str(n)]) for n in range(size)]
            client.call("RPUSH", f"l{size}", *words)
            client.call("SADD", f"s{size}", *words)
            client.call("HSET", f"h{size}", *(x for n, word in enumerate(words) for x in (f"f{n}", word)))
            client.call("ZADD", f"z{size}", *(x for n, word in enumerate(words) for x in (draw.randrange(-50, 50) / 4, f"m{n}")))
            client.call("SADD", f"i{size}", *(draw.randrange(-2**40, 2**40) for _ in range(size)))
            client.call("SET", f"t{size}", "ab" * size)
            client.call("PEXPIRE", f"t{size}", 10**9)


@pytest.mark.parametrize("writer, reader", [("vigie", "redis"), ("redis", "vigie"), ("vigie", "vigie")])
def test_dump_is_restored(store_of, writer, reader):
    one, other = store_of(writer)(), store_of(reader)()
    fill(one)
    fill_by_size(one)
    for key in one.call("KEYS", "*"):
        assert other.call("RESTORE", key, 0, one.call("DUMP", key)) == b"OK", key
    without_expiry = {key: value[:2] for key, value in contents(one).items()}
    assert {key: value[:2] for key, value in contents(other).items()} == without_expiry


@pytest.mark.parametrize("compression", ["yes", "no"])
@pytest.mark.parametrize("writer, reader", [("vigie", "redis"), ("redis", "vigie")])
def test_files_of_every_size(store_of, writer, reader, compression):
    one = store_of(writer)(rdbcompression=compression)
    fill_by_size(one)
    before = contents(one)
    one.call("SAVE")
    checked = subprocess.run(["redis-check-rdb", one.directory / "dump.rdb"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    other = store_of(reader)(dir=one.directory)
    assert contents(other) == before


def test_debug_reload_keeps_everything(vigie_store):
    store = vigie_store(enable_debug_command="yes")
    fill_by_size(store)
    before = contents(store)
    assert store.call("DEBUG", "RELOAD") == b"OK"
    assert contents(store) == before


def sealed(damaged):
    """With the checksum that belongs to it: what is inside must be looked at."""
    return bytes(damaged[:-8]) + crc64(bytes(damaged[:-8])).to_bytes(8, "little")


def test_damaged_values_are_refused_and_the_store_lives(vigie_store):
    store = vigie_store(rdbcompression="no")
    taken = 0
    fill_by_size(store)
    draw = random.Random(7)
    with store.raw(timeout=20) as client:
        for key in store.call("KEYS", "*"):
            dump = bytearray(store.call("DUMP", key))
            assert client.call("RESTORE", "r", 0, bytes(dump[:-1]), "REPLACE")[:4] == b"-ERR"
            for _ in range(40 if len(dump) < 20_000 else 10):
                damaged = bytearray(dump)
                for _ in range(draw.randrange(1, 4)):
                    damaged[draw.randrange(len(damaged) - 10)] = draw.randrange(256)
                taken += client.call("RESTORE", "r", 0, sealed(damaged), "REPLACE")[:1] == b"+"
                # Whatever it was taken for can be used and removed.
                kind = client.value("TYPE", "r")
                {b"zset": lambda: client.call("ZRANGE", "r", 0, -1), b"set": lambda: client.call("SMEMBERS", "r"),
                 b"hash": lambda: client.call("HGETALL", "r"), b"list": lambda: client.call("LRANGE", "r", 0, -1),
                 b"stream": lambda: client.call("XRANGE", "r", "-", "+"),
                 b"string": lambda: client.call("GET", "r"), b"none": lambda: None}[kind]()
                client.call("DEL", "r")
    assert store.call("PING") == b"PONG"
    assert taken > 30  # a changed element is one as well


def refused(folder, *arguments):
    done = subprocess.run([*vigie_role("store"), "--port", str(free_port()), "--dir", folder, *arguments], capture_output=True, text=True,
                          timeout=20)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_damaged_file_is_named_with_the_byte(vigie_store, tmp_path):
    store = vigie_store()
    fill_by_size(store)
    store.call("SAVE")
    data = (store.directory / "dump.rdb").read_bytes()
    file = tmp_path / "dump.rdb"
    file.write_bytes(data[:1000])
    assert f"{file}: byte " in refused(tmp_path)
    draw = random.Random(11)
    for _ in range(5):
        damaged = bytearray(data)
        damaged[draw.randrange(9, len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        assert f"{file}: byte " in refused(tmp_path)
        assert file.read_bytes() == damaged


@pytest.mark.parametrize("kind", [6, 7, 22, 24])
def test_what_cannot_be_read_is_refused_by_name(kind, tmp_path):
    (tmp_path / "dump.rdb").write_bytes(b"REDIS0012" + bytes([kind]) + b"\x06events" + b"\x00" * 30 + b"\xff" + bytes(8))
    text = refused(tmp_path)
    assert "key 'events'" in text and "not supported" in text


def length(number):
    return bytes([number]) if number < 64 else b"\x81" + number.to_bytes(8, "big")


def test_data_of_modules_is_read_over_with_a_message(vigie_store, tmp_path):
    """Before the keys and behind them; the name is in the module's number (here that of RedisBloom's first type)."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = 4
    for place, letter in enumerate("MBbloom--"):
        number |= letters.index(letter) << (58 - 6 * place)
    fields = b"\x01" + length(1 << 40) + b"\x02\x05" + b"\x03abcd" + b"\x04abcdefgh" + b"\x05\x03xyz" + b"\x00"
    record = b"\xf7" + length(number) + b"\x02\x02" + fields
    file = tmp_path / "dump.rdb"
    file.write_bytes(b"REDIS0010" + record + b"\xfe\x00" + b"\x00\x01k\x01v" + record + b"\xff" + bytes(8))
    store = vigie_store(dir=tmp_path)
    assert store.call("GET", "k") == b"v"
    assert store.log_text().count("data of the module 'MBbloom--' beside the keys was left out") == 2


# MARK: streams


def describe(server, key="s"):
    """Everything that is kept in a snapshot."""
    with server.raw() as client:
        groups = [dict(zip(group[::2], group[1::2])) for group in client.value("XINFO", "GROUPS", key)]
        pending = [client.value("XPENDING", key, group[b"name"], "-", "+", 10_000) for group in groups]
        return (contents(server)[0, key.encode()], [[entry[:2] + entry[3:] for entry in entries] for entries in pending],
                server.call("DEBUG", "DIGEST-VALUE", key))


def fill_with_gaps(server):
    """What is pending may be gone from the stream: no command can say that, but a snapshot does."""
    for i in range(300):
        server.call("XADD", "s", f"{i + 1}-0", "field", f"value {i}")
    server.call("XGROUP", "CREATE", "s", "g", "0")
    server.call("XREADGROUP", "GROUP", "g", "one", "COUNT", 120, "STREAMS", "s", ">")
    server.call("XREADGROUP", "GROUP", "g", "two", "COUNT", 20, "STREAMS", "s", ">")
    server.call("XDEL", "s", *(f"{i}-0" for i in (5, 6, 7, 130, 250)))
    server.call("XTRIM", "s", "MINID", "4-0")


@pytest.mark.parametrize("writer, reader", [("vigie", "redis"), ("redis", "vigie"), ("vigie", "vigie")])
@pytest.mark.parametrize("by", ["file", "dump"])
def test_streams_and_groups_cross_over(store_of, writer, reader, by):
    one = store_of(writer)(enable_debug_command="yes")
    fill_with_gaps(one)
    before = describe(one)
    if by == "file":
        one.call("SAVE")
        assert subprocess.run(["redis-check-rdb", one.directory / "dump.rdb"], capture_output=True).returncode == 0
        other = store_of(reader)(dir=one.directory, enable_debug_command="yes", sanitize_dump_payload="yes")
    else:
        other = store_of(reader)(enable_debug_command="yes", sanitize_dump_payload="yes")
        assert other.call("RESTORE", "s", 0, one.call("DUMP", "s")) == b"OK"
    assert describe(other) == before
    # It goes on: what was left out is next.
    reply = other.call("XREADGROUP", "GROUP", "g", "one", "COUNT", 1, "STREAMS", "s", ">")
    assert reply == one.call("XREADGROUP", "GROUP", "g", "one", "COUNT", 1, "STREAMS", "s", ">") and reply


def test_dumps_of_the_same_stream_are_the_same_bytes(vigie_store, redis_server):
    """Nodes are laid out as Redis's are, entry by entry."""
    ours, real = (start(rdbcompression="no") for start in (vigie_store, redis_server))
    for server in (ours, real):
        draw = random.Random(3)
        for i in range(1, 1500):
            words = ["name", f"n{i}", "age", i] if draw.random() < 0.9 else ["other", "x" * draw.randrange(300)]
            server.call("XADD", "s", f"{i // 5 + 1}-{i % 5}", *words)
        server.call("XDEL", "s", *(f"{i}-1" for i in range(1, 300, 3)))
        server.call("XTRIM", "s", "MAXLEN", 900)
    assert ours.call("XLEN", "s") == 900
    assert ours.call("DUMP", "s") == real.call("DUMP", "s")


def old_stream(kind):
    """A stream as Redis 5 (15), 7.0 (19) and 7.2 (21) write it: one entry, one group, one consumer, the entry pending."""
    def piece(number):
        return bytes([number, 1])

    pieces = [*map(piece, (1, 0, 1)), b"\x81f\x02", piece(0), *map(piece, (2, 0, 0)), b"\x81v\x02", piece(4)]
    body = b"".join(pieces)
    node = (len(body) + 7).to_bytes(4, "little") + len(pieces).to_bytes(2, "little") + body + b"\xff"
    entry = (7).to_bytes(8, "big") + (1).to_bytes(8, "big")
    moment = (1_700_000_000_000).to_bytes(8, "little")
    value = b"\x01\x10" + entry + length(len(node)) + node + b"\x01\x09\x00"
    if kind > 15:
        value += b"\x07\x01" + b"\x06\x02" + b"\x05"
    value += b"\x01" + b"\x01g" + b"\x07\x01" + (b"\x03" if kind > 15 else b"")
    value += b"\x01" + entry + moment + b"\x04"
    value += b"\x01" + b"\x01c" + moment + ((1_600_000_000_000).to_bytes(8, "little") if kind == 21 else b"") + b"\x01" + entry
    return bytes([kind]) + b"\x01s" + value


@pytest.mark.parametrize("kind, added, deleted, read, active", [
    (15, 1, b"0-0", 1, 1_700_000_000_000), (19, 5, b"6-2", 3, 1_700_000_000_000), (21, 5, b"6-2", 3, 1_600_000_000_000)])
def test_streams_of_every_version(vigie_store, redis_server, tmp_path, kind, added, deleted, read, active):
    (tmp_path / "dump.rdb").write_bytes((b"REDIS0011" if kind == 21 else b"REDIS0010") + b"\xfe\x00" + old_stream(kind) + b"\xff" + bytes(8))
    store = vigie_store(dir=tmp_path)
    if kind < 21:
        assert contents(redis_server(dir=tmp_path)) == contents(store)
    assert store.call("XRANGE", "s", "-", "+") == [[b"7-1", [b"f", b"v"]]]
    info = store.call("XINFO", "STREAM", "s", "FULL")
    info = dict(zip(info[::2], info[1::2]))
    assert [info[name] for name in (b"length", b"last-generated-id", b"recorded-first-entry-id", b"entries-added", b"max-deleted-entry-id")] == \
        [1, b"9-0", b"7-1", added, deleted]
    group = dict(zip(info[b"groups"][0][::2], info[b"groups"][0][1::2]))
    consumer = dict(zip(group[b"consumers"][0][::2], group[b"consumers"][0][1::2]))
    assert (group[b"entries-read"], group[b"pending"]) == (read, [[b"7-1", b"c", 1_700_000_000_000, 4]])
    assert (consumer[b"seen-time"], consumer[b"active-time"]) == (1_700_000_000_000, active)


def test_damaged_streams_are_refused_and_the_store_lives(vigie_store):
    store = vigie_store(rdbcompression="no")
    fill_with_gaps(store)
    draw = random.Random(9)
    dump = store.call("DUMP", "s")
    taken = 0  # as streams, though damaged: a field, a value, a time
    with store.raw(timeout=20) as client:
        for _ in range(3000):
            damaged = bytearray(dump)
            for _ in range(draw.randrange(1, 4)):
                damaged[draw.randrange(len(damaged) - 10)] = draw.randrange(256)
            if client.call("RESTORE", "r", 0, sealed(damaged), "REPLACE")[:1] == b"+" and client.value("TYPE", "r") == b"stream":
                taken += 1
                for words in (["XRANGE", "r", "-", "+"], ["XREVRANGE", "r", "+", "-"], ["XINFO", "STREAM", "r", "FULL"], ["XDEL", "r", "9-0", "200-0"],
                              ["XREADGROUP", "GROUP", "g", "one", "STREAMS", "r", ">"], ["XAUTOCLAIM", "r", "g", "x", 0, "-"], ["XTRIM", "r", "MAXLEN", 3]):
                    client.call(*words)
            client.call("DEL", "r")
    assert store.call("PING") == b"PONG"
    assert taken > 30


# MARK: functions

LIBRARY = "#!lua name=mylib\nredis.register_function('f', function() return 1 end)"


def test_functions_are_kept_and_come_back(redis_server, vigie_store):
    """A file of Redis's with functions, loaded and written again, is one whose functions Redis runs."""
    real = redis_server(rdbcompression="no")
    real.call("FUNCTION", "LOAD", LIBRARY)
    real.call("SET", "k", "v")
    real.call("SAVE")
    store = vigie_store(dir=real.directory, rdbcompression="no")
    assert store.call("GET", "k") == b"v"
    assert "functions cannot be run yet" in store.log_text()
    store.call("SET", "k", "w")
    store.call("FLUSHALL")
    store.call("SAVE")
    assert subprocess.run(["redis-check-rdb", store.directory / "dump.rdb"], capture_output=True).returncode == 0
    again = redis_server(dir=store.directory, rdbcompression="no")
    assert (again.call("FCALL", "f", 0), again.call("DBSIZE")) == (1, 0)
    assert again.call("FUNCTION", "DUMP") == store.call("FUNCTION", "DUMP")


def test_functions_of_a_client_are_refused_and_those_that_are_there_can_go(redis_server, vigie_store):
    real = redis_server(rdbcompression="no")
    real.call("FUNCTION", "LOAD", LIBRARY)
    payload = real.call("FUNCTION", "DUMP")
    real.call("SAVE")
    store = vigie_store(dir=real.directory, rdbcompression="no")
    for words in (["FUNCTION", "LOAD", LIBRARY.replace("mylib", "other")], ["FUNCTION", "RESTORE", payload]):
        assert "cannot be run" in str(store.call(*words))
    assert store.call("FUNCTION", "DUMP") == payload
    assert "Library not found" in str(store.call("FUNCTION", "DELETE", "other"))
    assert store.call("FUNCTION", "DELETE", "mylib") == b"OK"
    assert store.call("FUNCTION", "DUMP") == vigie_store().call("FUNCTION", "DUMP")


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_functions_pass_through_an_append_only_file(redis_server, vigie_store, preamble):
    options = {"appendonly": "yes", "appendfsync": "always", "aof_use_rdb_preamble": preamble}
    real = redis_server(**options)
    real.call("FUNCTION", "LOAD", LIBRARY)
    real.call("SET", "k", "v")
    real.stop()
    store = vigie_store(dir=real.directory, **options)
    assert store.call("GET", "k") == b"v"
    store.call("BGREWRITEAOF")
    wait_until(lambda: b"aof_rewrite_in_progress:0" in store.call("INFO", "persistence") and b"aof_rewrites:1" in store.call("INFO", "persistence"), 10)
    store.stop()
    again = redis_server(dir=store.directory, **options)
    assert (again.call("FCALL", "f", 0), again.call("GET", "k")) == (1, b"v")


@pytest.mark.parametrize("wanted, functions", [("functions", True), ("", False)], ids=["functions", "nothing"])
@pytest.mark.parametrize("kind", ["redis", "vigie"])
def test_a_replica_may_want_the_functions_alone_or_nothing(redis_server, store_of, kind, wanted, functions):
    real = redis_server(rdbcompression="no")
    real.call("FUNCTION", "LOAD", LIBRARY)
    real.call("SET", "left-out", "v")
    real.call("SAVE")
    store = store_of(kind)(dir=real.directory, rdbcompression="no")
    with PlayedReplica(store.port) as replica:
        assert replica.say("REPLCONF", "rdb-filter-only", wanted) == "+OK"
        payload = replica.synchronise()
    assert (b"register_function" in payload) == functions and b"left-out" not in payload


def test_functions_and_streams_reach_replicas(redis_server, vigie_store):
    """From Redis to us, and from us to Redis, before and after the full synchronisation."""
    real = redis_server(enable_debug_command="yes")
    real.call("FUNCTION", "LOAD", LIBRARY)
    fill_with_gaps(real)
    ours = vigie_store(replicaof=["127.0.0.1", real.port], enable_debug_command="yes", repl_diskless_sync_delay=0)
    below = redis_server(replicaof=["127.0.0.1", ours.port], enable_debug_command="yes")
    servers = (real, ours, below)
    wait_until(lambda: all(server.call("EXISTS", "s") == 1 for server in servers), 20)
    real.call("FUNCTION", "LOAD", LIBRARY.replace("mylib", "second").replace("'f'", "'g'"))
    real.call("XADD", "s", "*", "f", "v")
    real.call("XADD", "s", "MAXLEN", "~", 100, "*", "f", "v")
    real.call("XREADGROUP", "GROUP", "g", "three", "COUNT", 10, "STREAMS", "s", ">")
    real.call("XAUTOCLAIM", "s", "g", "four", 0, "-", "COUNT", 30)
    real.call("XACK", "s", "g", "20-0", "21-0")
    # Redis 7.0 does not tell its replicas how much a group has read by XREADGROUP.
    real.call("XGROUP", "SETID", "s", "g", "210-0", "ENTRIESREAD", 77)
    real.call("SET", "end", "1")
    wait_until(lambda: all(server.call("EXISTS", "end") == 1 for server in servers), 20)
    assert describe(ours) == describe(real) == describe(below)
    assert real.call("FUNCTION", "DUMP") and sorted(below.call("FUNCTION", "LIST")) == sorted(real.call("FUNCTION", "LIST"))


def test_what_a_group_reads_reaches_replicas_and_the_file(redis_server, vigie_store):
    ours = vigie_store(appendonly="yes", appendfsync="always", enable_debug_command="yes", repl_diskless_sync_delay=0)
    below = redis_server(replicaof=["127.0.0.1", ours.port], enable_debug_command="yes")
    wait_until(lambda: b"master_link_status:up" in below.call("INFO", "replication"), 20)
    fill_with_gaps(ours)
    ours.call("XADD", "s", "*", "f", "v")
    ours.call("XADD", "s", "MINID", "~", "150", "1000000000000000-*", "f", "v")
    ours.call("XCLAIM", "s", "g", "three", 0, "100-0", "5-0", "TIME", 1000, "RETRYCOUNT", 7)
    ours.call("XAUTOCLAIM", "s", "g", "four", 0, "-", "COUNT", 30)
    ours.call("XREADGROUP", "GROUP", "g", "five", "NOACK", "COUNT", 3, "STREAMS", "s", ">")
    ours.call("XGROUP", "DELCONSUMER", "s", "g", "two")
    ours.call("SET", "end", "1")
    wait_until(lambda: below.call("EXISTS", "end") == 1, 20)
    before = describe(ours)
    assert describe(below) == before
    ours.stop()
    again = vigie_store(dir=ours.directory, appendonly="yes", enable_debug_command="yes")
    assert describe(again) == before


def test_a_snapshot_that_fails_stops_writes_and_says_so(vigie_store, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    store = vigie_store(save=("1000", "1000"), dir=folder)
    store.call("SET", "k", "v")
    folder.rmdir()
    store.call("BGSAVE")
    wait_until(lambda: store.info("persistence")["rdb_last_bgsave_status"] == "err", 10)
    with store.raw() as client:
        assert client.call("SET", "k", "w").startswith(b"-MISCONF")
    assert store.call("GET", "k") == b"v"
    assert "Background saving error: open " in store.log_text()
    folder.mkdir()
    assert store.call("SAVE") == b"OK"
    assert store.call("SET", "k", "w") == b"OK"
