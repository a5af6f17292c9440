"""What the store says of its memory is true, what is large is freed in steps, and what lies sparse is moved together."""

import random
import socket

import pytest

from harness import wait_until
from harness.resp import encode

KEYS = 100_000


def memory(store):
    return store.client().info("memory")


def send(store, requests):
    """Sends requests on a connection of its own, in batches, and sees that none of them fails."""
    with socket.create_connection(("127.0.0.1", store.port)) as connection:
        batch = bytearray()

        def flush():
            connection.sendall(batch + encode("ECHO", "end-of-batch"))
            answer = b""
            while not answer.endswith(b"end-of-batch\r\n"):
                answer = answer[-64:] + connection.recv(1 << 20)
                assert b"-ERR" not in answer and b"-WRONG" not in answer
            batch.clear()
        for n, words in enumerate(requests):
            batch += encode(*words)
            if n % 1000 == 999:
                flush()
        flush()


COLLECTIONS = {
    "set": lambda i: ("SADD", "big", b"member:%09d" % i),
    "hash": lambda i: ("HSET", "big", b"field:%010d" % i, b"%016d" % i),
    "sorted set": lambda i: ("ZADD", "big", b"%d" % (i * 7919 % 100_003), b"member:%09d" % i),
    "list": lambda i: ("RPUSH", "big", b"i" * 100),
}


def strings(count):
    return (("SET", b"key:%012d" % i, b"v" * (64 + i % 4)) for i in range(count))


def test_used_memory_follows_what_is_resident(vigie_store):
    store = vigie_store()
    # The program's own pages become resident when they are first run.
    send(store, strings(1000))
    store.call("FLUSHALL")
    before = memory(store)
    send(store, strings(KEYS * 4))
    after = memory(store)
    used = after["used_memory"] - before["used_memory"]
    resident = after["used_memory_rss"] - before["used_memory_rss"]
    assert 0.97 < resident / used < 1.06
    assert after["used_memory_peak"] >= after["used_memory"]
    assert after["used_memory_dataset"] + after["used_memory_overhead"] == after["used_memory"]


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_a_collection_costs_what_memory_usage_says(vigie_store, kind):
    store = vigie_store()
    client = store.client()
    before = memory(store)["used_memory"]
    send(store, (COLLECTIONS[kind](i) for i in range(KEYS)))
    cost = memory(store)["used_memory"] - before
    # A tenth for what the server itself has taken meanwhile.
    assert 0.9 < client.memory_usage("big", samples=0) / cost < 1.1
    assert 0.85 < client.memory_usage("big") / client.memory_usage("big", samples=0) < 1.15
    small = {"set": ("sadd", "s", "a"), "hash": ("hset", "s", "a", "b"), "sorted set": ("zadd", "s", "1", "a"), "list": ("rpush", "s", "a")}[kind]
    client.execute_command(*small)
    assert 16 < client.memory_usage("s") < 150


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_a_large_value_is_freed_behind_the_reply(vigie_store, kind):
    store = vigie_store()
    client = store.client()
    base = memory(store)["used_memory"]
    send(store, (COLLECTIONS[kind](i) for i in range(KEYS)))
    full = memory(store)["used_memory"]
    assert client.delete("big") == 1
    assert client.exists("big") == 0
    wait_until(lambda: memory(store)["used_memory"] < base + (full - base) // 20, timeout=20)
    wait_until(lambda: memory(store)["lazyfree_pending_objects"] == 0, timeout=20)
    assert memory(store)["lazyfreed_objects"] > 0


def test_flushall_gives_the_memory_back_to_the_system(vigie_store):
    store = vigie_store()
    client = store.client()
    send(store, strings(KEYS))
    full = memory(store)
    client.flushall()
    assert client.dbsize() == 0
    wait_until(lambda: memory(store)["lazyfree_pending_objects"] == 0, timeout=20)
    client.memory_purge()
    now = memory(store)
    assert full["used_memory"] - now["used_memory"] > KEYS * 90
    assert full["used_memory_rss"] - now["used_memory_rss"] > KEYS * 85


def test_replaced_values_leave_no_holes_and_stay_what_they_are(vigie_store):
    store = vigie_store()
    client = store.client()
    numbers = random.Random(1)
    values = {}
    before = memory(store)

    def replace(chosen, size):
        for i in chosen:
            values[i] = b"%d:" % i + b"v" * size()
        send(store, (("SET", b"key:%012d" % i, values[i], *(("EX", "100000") if i % 3 == 0 else ())) for i in chosen))

    count = KEYS * 3
    replace(range(count), lambda: 58)
    full = memory(store)["used_memory_rss"] - before["used_memory_rss"]
    for _ in range(3):
        replace(numbers.sample(range(count), count // 2), lambda: numbers.randrange(1, 115))
    wait_until(lambda: memory(store)["used_memory_rss"] - before["used_memory_rss"] < full * 1.15, timeout=30)
    for start in range(0, count, 5000):
        keys = range(start, start + 5000)
        assert client.mget(["key:%012d" % i for i in keys]) == [values[i] for i in keys]
    assert sum(1 for i in range(0, 3000, 3) if 0 < client.ttl("key:%012d" % i) <= 100_000) == 1000
    assert client.ttl("key:%012d" % 1) == -1


def test_memory_stats_and_info_have_the_fields_of_redis(vigie_store, redis_server):
    ours, real = vigie_store(), redis_server()
    for store in (ours, real):
        store.client().set("k", "v")
    names = [store.call("MEMORY", "STATS")[::2] for store in (ours, real)]
    assert names[0] == names[1]
    assert set(memory(real)) <= set(memory(ours))
    assert ours.call("MEMORY", "HELP") == real.call("MEMORY", "HELP")
    assert ours.call("MEMORY", "DOCTOR") == real.call("MEMORY", "DOCTOR")
    for words in (["USAGE"], ["USAGE", "none"], ["USAGE", "k", "SAMPLES"], ["USAGE", "k", "SAMPLES", "x"], ["USAGE", "k", "SAMPLES", "-1"],
                  ["USAGE", "k", "COUNT", "1"], ["STATS", "x"], ["NONE"]):
        assert str(ours.call("MEMORY", *words)) == str(real.call("MEMORY", *words)), words
    assert b"slabs" in ours.call("MEMORY", "MALLOC-STATS")
