"""MIGRATE: keys moved from one server to another, in every direction between Redis and us, and what goes wrong with it."""

import os
import socket
import threading
import time

import pytest

from harness import free_port, wait_until
from harness.contents import contents, fill
from harness.resp import parse

DIRECTIONS = [("vigie", "redis"), ("redis", "vigie"), ("vigie", "vigie")]


def migrate(source, target, *keys, db=0, timeout=5000, options=()):
    if len(keys) == 1:
        return source.call("MIGRATE", "127.0.0.1", target.port, keys[0], db, timeout, *options)
    return source.call("MIGRATE", "127.0.0.1", target.port, "", db, timeout, *options, "KEYS", *keys)


@pytest.mark.parametrize("source, target", DIRECTIONS)
def test_a_whole_database_moves(store_of, source, target):
    one, other = store_of(source)(), store_of(target)()
    fill(one)
    before = contents(one, (0,))
    keys = one.call("KEYS", "*")
    assert migrate(one, other, *keys) == b"OK"
    assert contents(other, (0,)) == before
    assert one.call("DBSIZE") == 0
    assert other.call("TTL", "expiring") > 900
    assert migrate(one, other, *keys) == b"NOKEY"


@pytest.mark.parametrize("source, target", DIRECTIONS)
def test_copy_replace_database_and_passwords(store_of, source, target):
    one, other = store_of(source)(), store_of(target)(requirepass="secret")
    one.call("MSET", "a", "1", "b", "2", "c", "3")
    there = other.client(db=3, password="secret")
    with_password = ["AUTH", "secret"]
    assert "NOAUTH" in str(migrate(one, other, "a"))
    assert migrate(one, other, "a", db=3, options=["COPY", *with_password]) == b"OK"
    assert one.call("GET", "a") == b"1" and there.get("a") == b"1"
    one.call("SET", "a", "new")
    assert "BUSYKEY" in str(migrate(one, other, "a", "b", "none", db=3, options=with_password))
    # What could go has gone.
    assert one.call("MGET", "a", "b") == [b"new", None] and there.mget("a", "b") == [b"1", b"2"]
    assert migrate(one, other, "a", db=3, options=["REPLACE", "AUTH2", "default", "secret"]) == b"OK"
    assert one.call("GET", "a") is None and there.get("a") == b"new"
    assert "WRONGPASS" in str(migrate(one, other, "c", db=3, options=["AUTH", "wrong"]))
    assert one.call("GET", "c") == b"3"


def test_replies_are_redis_s(vigie_store, redis_server):
    """Everything that can be said without another server that answers, and what another server says."""
    ours, real = vigie_store(), redis_server()
    targets = [redis_server(databases=2), redis_server(databases=2)]
    nobody = free_port()
    for server in (ours, real):
        server.call("MSET", "a", "1", "b", "2")
    for words in (["{nobody}", "a", "0", "100"], ["{nobody}", "none", "0", "100"], ["{nobody}", "a", "x", "100"],
                  ["{nobody}", "a", "0", "x"], ["{nobody}", "a", "x", "x"], ["{nobody}", "a", "0", "100", "KEYS", "a"],
                  ["{nobody}", "", "0", "100"], ["{nobody}", "", "0", "100", "KEYS"], ["{nobody}", "a", "0", "100", "AUTH"],
                  ["{nobody}", "a", "0", "100", "AUTH2", "u"], ["{nobody}", "a", "0", "100", "COPY", "x"],
                  ["{nobody}", "a", "0", "100", "REPLACE", "KEYS"], ["99999", "a", "0", "100"], ["{nobody}", "a", "0"],
                  ["{nobody}", "a", "0", "-1"], ["{target}", "a", "7", "1000"],
                  ["{target}", "a", "0", "1000", "AUTH", "p"], ["{target}", "a", "0", "1000", "AUTH2", "u", "p"],
                  ["{target}", "a", "1", "1000", "copy"], ["{target}", "a", "1", "1000", "Copy"],
                  ["{target}", "a", "0", "1000", "KEYS", "b"], ["{target}", "", "0", "1000", "replace", "copy", "keys", "a", "b"],
                  ["{target}", "a", "1", "0", "REPLACE"], ["{target}", "a", "1", "1000"]):
        said, expected = (server.call("MIGRATE", "127.0.0.1", *[word.format(nobody=nobody, target=target.port) for word in words])
                          for server, target in zip((ours, real), targets))
        assert str(said) == str(expected), words
    assert [ours.call("KEYS", "*"), contents(targets[0], (0, 1))] == [real.call("KEYS", "*"), contents(targets[1], (0, 1))]


def test_others_go_on_while_one_waits(vigie_store, redis_server):
    """Readers see the key, writers to it wait, everything else is as always."""
    ours, other = vigie_store(), redis_server()
    ours.call("MSET", "a", "1", "b", "2")
    ours.call("RPUSH", "list", "x")
    other.freeze()
    with ours.raw() as asking, ours.raw() as writer, ours.raw() as waiter, ours.raw() as flusher:
        number = asking.value("CLIENT", "ID")
        waiter.send("BLMOVE", "source", "list", "LEFT", "LEFT", "0")
        asking.send("MIGRATE", "127.0.0.1", other.port, "", "0", "10000", "KEYS", "a", "list")
        wait_until(lambda: ours.info("clients")["blocked_clients"] == "2", 5)
        assert ours.call("MGET", "a", "b") == [b"1", b"2"]
        assert ours.call("SET", "b", "3") == b"OK"
        writer.send("INCR", "a")
        flusher.send("SWAPDB", "0", "1")
        ours.call("RPUSH", "source", "element")
        wait_until(lambda: ours.info("clients")["blocked_clients"] == "4", 5)
        assert ours.call("GET", "a") == b"1" and ours.call("LRANGE", "list", "0", "-1") == [b"x"]
        assert ours.call("CLIENT", "UNBLOCK", number) == 0
        other.thaw()
        assert asking.read() == b"+OK\r\n"
        # They come to a key that is not there any more.
        assert writer.read() == b":1\r\n"
        assert waiter.read() == b"$7\r\nelement\r\n"
        assert flusher.read() == b"+OK\r\n"
    assert other.call("GET", "a") == b"1" and other.call("LRANGE", "list", "0", "-1") == [b"x"]
    there = ours.client(db=1)
    assert there.get("a") == b"1" and there.lrange("list", 0, -1) == [b"element"]


def test_transactions_wait_too_and_hold_none(vigie_store, redis_server):
    ours, other = vigie_store(), redis_server()
    ours.call("SET", "a", "1")
    other.freeze()
    with ours.raw() as asking, ours.raw() as other_client:
        asking.send("MIGRATE", "127.0.0.1", other.port, "a", "0", "10000")
        wait_until(lambda: ours.info("clients")["blocked_clients"] == "1", 5)
        for words in (["MULTI"], ["GET", "a"], ["APPEND", "a", "x"]):
            other_client.call(*words)
        other_client.send("EXEC")
        wait_until(lambda: ours.info("clients")["blocked_clients"] == "2", 5)
        other.thaw()
        assert asking.read() == b"+OK\r\n"
        assert parse(other_client.read()) == [None, 1]
        for words in (["MULTI"], ["MIGRATE", "127.0.0.1", other.port, "a", "0", "1000"]):
            other_client.call(*words)
        assert "inside a transaction" in str(other_client.value("EXEC"))


def test_a_target_that_does_not_answer(vigie_store, redis_server):
    ours, other = vigie_store(), redis_server()
    ours.call("MSET", "a", "1")
    other.freeze()
    started = time.monotonic()
    with ours.raw() as asking, ours.raw() as writer:
        asking.send("MIGRATE", "127.0.0.1", other.port, "a", "0", "300")
        writer.send("INCR", "a")
        assert asking.read() == b"-IOERR error or timeout reading to target instance\r\n"
        assert 0.25 < time.monotonic() - started < 2
        assert writer.read() == b":2\r\n"
    # More than the kernel's buffers take.
    ours.call("SET", "big", os.urandom(32 << 20))
    assert "writing" in str(migrate(ours, other, "big", timeout=300))
    assert ours.call("STRLEN", "big") == 32 << 20
    other.thaw()
    assert migrate(ours, other, "big", options=["REPLACE"]) == b"OK"
    assert other.call("STRLEN", "big") == 32 << 20 and ours.call("EXISTS", "big") == 0


def test_connections_are_kept(vigie_store, redis_server):
    ours, other = vigie_store(), redis_server()
    before = int(other.info("stats")["total_connections_received"])
    for i in range(20):
        ours.call("SET", f"k{i}", i)
        assert migrate(ours, other, f"k{i}", db=i % 3) == b"OK"
    assert ours.info("stats")["migrate_cached_sockets"] == "1"
    assert int(other.info("stats")["total_connections_received"]) - before <= 2  # INFO's own, and that one
    assert [other.client(db=db).dbsize() for db in range(3)] == [7, 7, 6]
    # One that the other side has closed meanwhile is no error.
    other.call("CLIENT", "KILL", "TYPE", "normal")
    ours.call("SET", "k", "v")
    assert migrate(ours, other, "k") == b"OK"
    wait_until(lambda: ours.info("stats")["migrate_cached_sockets"] == "0", 15, "idle connections to be closed after 10 s")


def test_replicas_are_told_of_deletions(vigie_store, redis_server):
    ours, other = vigie_store(), redis_server()
    replica = redis_server(replicaof=("127.0.0.1", ours.port)).wait_replica_online()
    ours.call("MSET", "a", "1", "b", "2", "c", "3")
    wait_until(lambda: replica.call("DBSIZE") == 3, 5)
    with replica.raw() as monitor:
        monitor.call("MONITOR")
        assert migrate(ours, other, "a", "b") == b"OK"
        assert ours.call("WAIT", "1", "5000") == 1
        assert replica.call("KEYS", "*") == [b"c"]
        line = b""
        while b'"DEL"' not in line:
            line = monitor.read()
        assert b'"a"' in line and b'"b"' in line
    assert migrate(ours, other, "c", options=["COPY"]) == b"OK"
    assert ours.call("WAIT", "1", "5000") == 1 and replica.call("KEYS", "*") == [b"c"]


def test_a_client_that_goes_away(vigie_store, redis_server):
    ours, other = vigie_store(), redis_server()
    ours.call("SET", "a", "1")
    other.freeze()
    with ours.raw() as asking:
        asking.send("MIGRATE", "127.0.0.1", other.port, "a", "0", "10000")
        wait_until(lambda: ours.info("clients")["blocked_clients"] == "1", 5)
    wait_until(lambda: ours.info("clients")["blocked_clients"] == "0", 5)
    other.thaw()
    wait_until(lambda: ours.call("EXISTS", "a") == 0, 5, "the key to be deleted when it has arrived")
    assert other.call("GET", "a") == b"1"


def test_many_at_once(vigie_store, redis_server):
    """Clients that move keys to two targets at the same time, while others write."""
    ours, targets = vigie_store(), [redis_server(), redis_server()]
    for i in range(400):
        ours.call("SET", f"k{i}", i)
    wrong = []

    def move(first):
        client = ours.client()
        for i in range(first, 400, 8):
            said = client.execute_command("MIGRATE", "127.0.0.1", targets[i % 2].port, f"k{i}", 0, 5000)
            client.incr("counter")
            if said != b"OK":
                wrong.append(said)

    threads = [threading.Thread(target=move, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and ours.call("KEYS", "*") == [b"counter"] and ours.call("GET", "counter") == b"400"
    assert [target.call("DBSIZE") for target in targets] == [200, 200]
    assert all(targets[i % 2].call("GET", f"k{i}") == str(i).encode() for i in range(0, 400, 17))


def test_a_target_that_is_no_redis(vigie_store):
    ours = vigie_store()
    ours.call("SET", "a", "1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                time.sleep(0.5)
        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        assert "reading" in str(ours.call("MIGRATE", "127.0.0.1", port, "a", "0", "2000"))
        thread.join()
    assert ours.call("GET", "a") == b"1"
