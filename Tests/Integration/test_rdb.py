"""Values and files in the RDB format, between this store and Debian's redis-server, and bytes that are no such thing."""

import random
import subprocess

import pytest

from harness import free_port, vigie_role, wait_until
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


def test_damaged_values_are_refused_and_the_store_lives(vigie_store):
    store = vigie_store()
    fill_by_size(store)
    draw = random.Random(7)
    with store.raw(timeout=20) as client:
        for key in store.call("KEYS", "*"):
            dump = bytearray(store.call("DUMP", key))
            assert client.call("RESTORE", "r", 0, bytes(dump[:-1]), "REPLACE")[:4] == b"-ERR"
            for _ in range(40):
                damaged = bytearray(dump)
                for _ in range(draw.randrange(1, 4)):
                    damaged[draw.randrange(len(damaged) - 10)] = draw.randrange(256)
                damaged[-8:] = bytes(8)  # no checksum: what is inside must be looked at
                client.call("RESTORE", "r", 0, bytes(damaged), "REPLACE")
                # Whatever it was taken for can be used and removed.
                kind = client.value("TYPE", "r")
                {b"zset": lambda: client.call("ZRANGE", "r", 0, -1), b"set": lambda: client.call("SMEMBERS", "r"),
                 b"hash": lambda: client.call("HGETALL", "r"), b"list": lambda: client.call("LRANGE", "r", 0, -1),
                 b"string": lambda: client.call("GET", "r"), b"none": lambda: None}[kind]()
                client.call("DEL", "r")
    assert store.call("PING") == b"PONG"


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


def test_a_stream_is_refused_by_name(redis_server):
    real = redis_server()
    real.call("XADD", "events", "*", "a", "b")
    real.call("SAVE")
    text = refused(real.directory)
    assert "key 'events'" in text and "a stream" in text


def test_functions_are_left_out_with_a_warning(redis_server, vigie_store):
    real = redis_server()
    real.call("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)")
    real.call("SET", "k", "v")
    real.call("SAVE")
    store = vigie_store(dir=real.directory)
    assert store.call("GET", "k") == b"v"
    assert "functions" in store.log_text()


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
