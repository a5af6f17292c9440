"""The store under the programs that people use: redis-cli, redis-py, redis-benchmark; and under garbage."""

import os
import random
import re
import socket
import subprocess
import time

import pytest

from harness import RawClient, ServerClosed, encode, wait_until

BENCHMARK_TESTS = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET",
                   "SPOP", "ZADD", "ZPOPMIN", "LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)",
                   "LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)"]


@pytest.mark.parametrize("pipeline", [1, 64])
def test_redis_benchmarks_own_list(vigie_store, pipeline):
    store = vigie_store()
    done = subprocess.run(["redis-benchmark", "-p", str(store.port), "-n", "2000", "-P", str(pipeline), "-c", "20",
                           "-r", "1000", "--csv"], capture_output=True, text=True, timeout=120)
    tests = re.findall(r'^"([^"]+)","', done.stdout, re.M)
    missing = [test for test in BENCHMARK_TESTS if not any(test.split(" ")[0] in seen for seen in tests)]
    assert done.returncode == 0 and not missing, (missing, done.stdout, done.stderr)
    assert "ERR" not in done.stdout + done.stderr


def test_redis_cli(vigie_store, redis_server):
    """What redis-cli prints, tables and errors included, is what it prints for Redis."""
    script = "\n".join(["SET k v", "GET k", "GET none", "LPUSH l a b c", "LRANGE l 0 -1", "HSET h f v", "HGETALL h",
                        "ZADD z 1.5 m", "ZRANGE z 0 -1 WITHSCORES", "INCR k", "NOSUCH", "MULTI", "GET k", "EXEC",
                        "CONFIG GET maxmemory", "OBJECT ENCODING k", "EXPIRE k 100", "TYPE l", "ECHO 'a b'"])
    ours, real = vigie_store(), redis_server()
    for options in ([], ["--no-raw"], ["--csv"], ["-3", "--no-raw"], ["-n", "2"]):
        assert ours.cli(*options, input=script) == real.cli(*options, input=script), options


def test_redis_cli_scans_and_pipes(vigie_store, tmp_path):
    store = vigie_store()
    load = tmp_path / "load"
    load.write_bytes(b"".join(encode("SET", f"key:{i}", i) for i in range(5000)))
    with open(load, "rb") as data:
        done = subprocess.run(["redis-cli", "-p", str(store.port), "--pipe"], stdin=data, capture_output=True, text=True,
                              timeout=30)
    assert "errors: 0, replies: 5000" in done.stdout
    assert len(store.cli("--scan").split()) == 5000
    assert len(store.cli("--scan", "--pattern", "key:1*").split()) == 1111


def test_redis_cli_saves_and_follows(vigie_store, redis_server, tmp_path):
    """`redis-cli --rdb`, which people make backups with, and `--replica`, which shows the stream: by SYNC, not PSYNC."""
    for store in (vigie_store(), redis_server()):
        store.call("MSET", "a", "1", "b", "2")
        file = tmp_path / f"{store.port}.rdb"
        done = subprocess.run(["redis-cli", "-p", str(store.port), "--rdb", str(file)], capture_output=True, text=True, timeout=20)
        assert "Transfer finished with success" in done.stdout + done.stderr
        checked = subprocess.run(["redis-check-rdb", str(file)], capture_output=True, text=True, timeout=20)
        assert checked.returncode == 0 and "2 keys read" in checked.stdout, checked.stdout
        assert str(store.call("REPLCONF", "RDB-FILTER-ONLY", "nonsense")) == "ERR Unsupported rdb-filter-only option: nonsense"
        following = subprocess.Popen(["redis-cli", "-p", str(store.port), "--replica"], stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)
        try:
            wait_until(lambda: store.info("replication")["connected_slaves"] == "1", 10)
            wait_until(lambda: "state=online" in store.info("replication")["slave0"], 10)
            store.call("SET", "c", "3")
            seen = ""
            while '"c"' not in seen:
                line = following.stdout.readline()
                assert line, seen
                seen += line
            assert "Logging commands from master" in seen and '"MSET"' not in seen
        finally:
            following.kill()
            following.wait()


def test_redis_cli_info_and_latency_do_not_fail(vigie_store):
    store = vigie_store()
    assert "role:master" in store.cli("info", "replication")
    assert "redis_version:7.2" in store.cli("info", "server")
    assert store.cli("dbsize").strip() == "0"


def test_monitor_shows_what_others_ask(vigie_store, redis_server):
    """redis-cli's `monitor`, as the article's operator watches it."""
    def lines(server):
        with server.raw() as watching, server.raw() as acting:
            assert watching.call("MONITOR") == b"+OK\r\n"
            acting.call("SET", "k", 'quoted " \x00 \n')
            acting.call("SELECT", "1")
            acting.call("NOSUCH", "x")
            acting.call("AUTH", "secret")
            acting.call("INCR", "n")
            seen = [watching.read_value() for _ in range(3)]
            return [re.sub(rb"^[0-9]+\.[0-9]{6} \[(\d+) 127.0.0.1:\d+\]", rb"TIME [\1 ADDRESS]", line) for line in seen]
    assert lines(vigie_store()) == lines(redis_server())


def test_redis_py(vigie_store):
    """The client library's own view: pipelines, transactions, pub/sub, blocking, locks, both protocols' types."""
    store = vigie_store()
    client = store.client(decode_responses=True)
    with client.pipeline() as pipe:
        pipe.set("a", 1).incr("a").expire("a", 100).get("a").hset("h", mapping={"x": "1", "y": "2"}).hgetall("h")
        assert pipe.execute() == [True, 2, True, "2", 2, {"x": "1", "y": "2"}]

    def increase(pipe):
        pipe.multi()
        pipe.incr("a")

    assert client.transaction(increase, "a") == [3]
    client.zadd("z", {"one": 1, "two": 2.5})
    assert client.zrange("z", 0, -1, withscores=True) == [("one", 1.0), ("two", 2.5)]
    client.sadd("s", *range(1000))
    assert len(list(client.sscan_iter("s"))) == 1000
    assert {key for key in client.scan_iter()} == {"a", "h", "z", "s"}
    subscription = client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe("news")
    wait_until(lambda: client.publish("news", "hello") == 1 or None, 3)
    message = wait_until(lambda: subscription.get_message(timeout=1), 3)
    assert message["data"] == "hello"
    assert client.blpop("none", timeout=1) is None
    assert client.info("server")["redis_version"].startswith("7.2")
    assert client.client_list()[0]["cmd"]
    assert client.config_get("port") == {"port": str(store.port)}
    assert client.ping()


def test_a_large_value_goes_in_and_out_whole(vigie_store):
    store = vigie_store()
    value = random.Random(1).randbytes(50_000_000)
    with store.raw(timeout=30) as client:
        assert client.call("SET", "large", value) == b"+OK\r\n"
        assert client.value("GET", "large") == value
        assert client.call("STRLEN", "large") == b":50000000\r\n"


def test_no_reply_is_lost_or_reordered_in_a_long_pipeline(vigie_store):
    """100 000 requests of mixed sizes before the first reply is read, by a client with a small receive buffer."""
    store = vigie_store()
    sizes = [i * 7919 % 3000 for i in range(100_000)]
    data = b"".join(encode("ECHO", b"%06d" % i + b"x" * size) for i, size in enumerate(sizes))
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", store.port))
    client.settimeout(60)
    import threading
    sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
    sender.start()
    raw = RawClient.__new__(RawClient)
    raw.socket, raw.timeout, raw._buffer, raw._position = client, 60, bytearray(), 0
    for i, size in enumerate(sizes):
        assert raw.read() == b"$%d\r\n%06d%s\r\n" % (size + 6, i, b"x" * size)
    sender.join()
    client.close()


def test_requests_split_at_every_byte(vigie_store):
    store = vigie_store()
    data = encode("SET", "split", "value") + b"PING\r\n" + encode("GET", "split")
    expected = b"+OK\r\n+PONG\r\n$5\r\nvalue\r\n"
    for cut in range(1, len(data)):
        with RawClient(store.port) as client:
            client.send_raw(data[:cut])
            time.sleep(0.001)
            client.send_raw(data[cut:])
            assert b"".join(client.read() for _ in range(3)) == expected, cut


def test_garbage_ends_the_connection_and_nothing_else(vigie_store):
    store = vigie_store()
    watcher = store.raw()
    chance = random.Random(7)
    seeds = [encode("SET", "k", "v"), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$-1\r\n", b"*1\r\n$4\r\nPI", b"\xff" * 100,
             b"*" + b"9" * 30 + b"\r\n", b"$5\r\nhello\r\n", b"A" * 100_000, b"*-1\r\n", b"*1\r\n$99999999999\r\n"]
    for turn in range(400):
        data = bytearray(chance.choice(seeds) * chance.randint(1, 3))
        for _ in range(chance.randint(0, 6)):
            data[chance.randrange(len(data))] = chance.choice(b"*$\r\n-0199AZ\x00\xff")
        with RawClient(store.port, timeout=0.5) as client:
            try:
                client.send_raw(bytes(data))
            except ConnectionError:
                pass
        if turn % 20 == 0:
            assert watcher.call("PING") == b"+PONG\r\n", turn
    assert store.alive() and watcher.call("PING") == b"+PONG\r\n"


def test_slow_reader_does_not_stop_the_others(vigie_store):
    store = vigie_store()
    store.call("SET", "large", "x" * 1_000_000)
    with RawClient(store.port) as slow, store.raw() as other:
        for _ in range(200):
            slow.send("GET", "large")
        for _ in range(100):
            started = time.monotonic()
            assert other.call("PING") == b"+PONG\r\n"
            assert time.monotonic() - started < 1
        total = 0
        slow.socket.settimeout(20)
        while total < 200 * (1_000_000 + 12):
            total += len(slow.socket.recv(1 << 20))


def test_pubsub_push_does_not_overtake_the_reply(vigie_store):
    """RESP3: a client subscribed to its own channel gets the push and its reply whole, in Redis's order."""
    store = vigie_store()
    with store.raw() as client:
        client.call("HELLO", "3")
        client.call("SUBSCRIBE", "own")
        client.send("PUBLISH", "own", "x")
        got = [client.read(), client.read()]
    assert sorted(got) == sorted([b">3\r\n$7\r\nmessage\r\n$3\r\nown\r\n$1\r\nx\r\n", b":1\r\n"])


def test_many_clients_at_once(vigie_store):
    store = vigie_store()
    clients = [store.raw() for _ in range(800)]
    for client in clients:
        client.send("INCR", "n")
    seen = sorted(client.read_value() for client in clients)
    assert seen == list(range(1, 801))
    assert store.info("clients")["connected_clients"] == "801"
    for client in clients:
        client.close()
    wait_until(lambda: store.info("clients")["connected_clients"] == "1", 5)


def test_replies_that_nobody_wants_take_no_memory(vigie_store):
    store = vigie_store()
    store.call("SET", "large", "x" * 10_000)
    with store.raw() as client:
        before = store.process.resident_bytes()
        client.send("CLIENT", "REPLY", "OFF")
        for _ in range(100):
            client.send_raw(encode("GET", "large") * 100)
        client.send("CLIENT", "REPLY", "ON")
        assert client.read() == b"+OK\r\n"
        assert store.process.resident_bytes() - before < 40 << 20, "a hundred megabytes of replies"
