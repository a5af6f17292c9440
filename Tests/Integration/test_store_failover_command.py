"""FAILOVER, WAIT and WAITAOF."""

import threading
import time

import pytest

from harness import PlayedReplica, wait_until

PAIRS = [("vigie", "vigie"), ("vigie", "redis"), ("redis", "vigie")]


def state(server):
    return server.info("replication")["master_failover_state"]


def role(server):
    return server.info("replication")["role"]


def pair_of(store_of, kinds):
    master = store_of(kinds[0])()
    replica = store_of(kinds[1])(replicaof=("127.0.0.1", master.port)).wait_replica_online()
    wait_until(lambda: "state=online" in master.info("replication").get("slave0", ""), 10)
    return master, replica


@pytest.mark.parametrize("to", [True, False])
@pytest.mark.parametrize("kinds", PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_master_and_replica_change_places_without_losing_a_write(store_of, kinds, to):
    master, replica = pair_of(store_of, kinds)
    acknowledged, stop = [], threading.Event()

    def write():
        with master.raw() as client:
            for i in range(1_000_000):
                if stop.is_set() or client.call("SET", f"key-{i}", i) != b"+OK\r\n":
                    return
                acknowledged.append(i)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.2)
    words = ("TO", "127.0.0.1", replica.port) if to else ()
    assert master.call("FAILOVER", *words, "TIMEOUT", 10000) == b"OK"
    wait_until(lambda: role(replica) == "master" and role(master) == "slave", 10)
    writer.join(10)
    assert not writer.is_alive()
    master.wait_replica_online()
    assert state(master) == "no-failover"
    assert len(acknowledged) > 10
    assert all(replica.call("GET", f"key-{i}") == str(i).encode() for i in acknowledged[-20:])
    assert replica.call("DBSIZE") == len(acknowledged)
    replica.call("SET", "new", "master")
    wait_until(lambda: master.call("GET", "new") == b"master", 5)
    stats = replica.info("stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == ("0", "1")
    assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")


def test_a_failover_that_cannot_be_is_refused_as_redis_refuses_it(vigie_store, redis_server):
    said = []
    for make in (vigie_store, redis_server):
        alone = make()
        replies = [alone.call("FAILOVER", *words.split()) for words in (
            "", "ABORT", "TIMEOUT 0", "TIMEOUT -5", "TIMEOUT x", "TO", "TO a", "TO a b", "FORCE", "FORCE TIMEOUT 100", "ABORT TIMEOUT 5",
            "nonsense", "TO 127.0.0.1 99999999")]
        master = make()
        replica = make(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        wait_until(lambda: "state=online" in master.info("replication").get("slave0", ""), 10)
        replies += [master.call("FAILOVER", *words.split()) for words in (
            "TO 127.0.0.1 1", "FORCE", "TO 127.0.0.1 1 FORCE", "TIMEOUT 100 FORCE", "ABORT")]
        replies += [replica.call("FAILOVER"), replica.call("PSYNC", "?", "1", "FAILOVER"), master.call("PSYNC", "?", "1", "FAILOVER")]
        said.append(replies)
    assert said[0] == said[1]


def test_writes_wait_while_the_target_lags_and_go_on_when_it_is_given_up(vigie_store, redis_server):
    for make in (vigie_store, redis_server):
        master = make(repl_timeout=60)
        lagging = PlayedReplica(master.port)
        lagging.synchronise()
        lagging.acknowledge()
        wait_until(lambda: "state=online" in master.info("replication").get("slave0", ""), 10)
        master.call("SET", "k", "1")
        assert master.call("FAILOVER", "TIMEOUT", 1000) == b"OK"
        assert state(master) == "waiting-for-sync"
        assert str(master.call("FAILOVER")).startswith("ERR FAILOVER already in progress.")
        assert str(master.call("REPLICAOF", "127.0.0.1", 1)).startswith("ERR REPLICAOF not allowed while failing over.")
        with master.raw() as client:
            started = time.monotonic()
            client.send("SET", "k", "2")
            assert client.silent(0.3)
            assert master.call("GET", "k") == b"1"
            assert client.read(5) == b"+OK\r\n"
            assert 0.7 < time.monotonic() - started < 2
        assert state(master) == "no-failover"
        assert master.call("FAILOVER") == b"OK"
        assert master.call("FAILOVER", "ABORT") == b"OK"
        assert state(master) == "no-failover"
        assert master.call("SET", "k", "3") == b"OK"
        lagging.close()


def test_force_hands_over_to_a_target_that_lags(vigie_store):
    master, replica = vigie_store(), vigie_store()
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    replica.wait_replica_online()
    wait_until(lambda: "state=online" in master.info("replication").get("slave0", ""), 10)
    replica.freeze()
    master.call("SET", "lost", "1")
    assert master.call("FAILOVER", "TO", "127.0.0.1", replica.port, "FORCE", "TIMEOUT", 300) == b"OK"
    wait_until(lambda: state(master) == "failover-in-progress", 5)
    replica.thaw()
    wait_until(lambda: role(replica) == "master", 10)
    master.wait_replica_online()
    assert state(master) == "no-failover"
    assert master.call("DEBUG", "DIGEST") == replica.call("DEBUG", "DIGEST")


def test_a_target_that_refuses_leaves_the_master_a_master(vigie_store):
    master = vigie_store()
    replica = vigie_store(replicaof=("127.0.0.1", master.port)).wait_replica_online()
    wait_until(lambda: "state=online" in master.info("replication").get("slave0", ""), 10)
    replica.freeze()
    master.call("SET", "k", "1")
    master.call("FAILOVER", "TO", "127.0.0.1", replica.port, "FORCE", "TIMEOUT", 100)
    wait_until(lambda: state(master) == "failover-in-progress", 5)
    # In the meantime somebody has made a master of it.
    with replica.raw(timeout=20) as client:
        client.send("REPLICAOF", "NO", "ONE")
        replica.thaw()
        client.read()
    wait_until(lambda: state(master) == "no-failover", 10)
    assert role(master) == "master"
    assert master.call("SET", "k", "2") == b"OK"


def test_waitaof(vigie_store):
    master = vigie_store(appendonly="yes", appendfsync="everysec")
    with master.raw(timeout=10) as client:
        assert client.value("WAITAOF", 0, 0, 0) == [1, 0]
        client.call("SET", "k", "v")
        started = time.monotonic()
        assert client.value("WAITAOF", 1, 0, 5000) == [1, 0]
        assert time.monotonic() - started < 2.5
        assert client.value("WAITAOF", 1, 1, 100) == [1, 0]
        without = vigie_store(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        client.call("SET", "k", "w")
        assert client.value("WAITAOF", 1, 1, 1500) == [1, 0]
        replica = vigie_store(replicaof=("127.0.0.1", master.port), appendonly="yes").wait_replica_online()
        wait_until(lambda: replica.info("persistence")["aof_rewrite_in_progress"] == "0", 10)
        client.call("SET", "k", "x")
        assert client.value("WAITAOF", 1, 1, 5000) == [1, 1]
        assert str(without.call("WAITAOF", 0, 0, 0)).startswith("ERR WAITAOF cannot be used with replica instances.")
        assert str(client.value("WAITAOF", 2, 0, 0)).startswith("ERR value is out of range, must be between 0 and 1")
    plain = vigie_store()
    assert str(plain.call("WAITAOF", 1, 0, 0)).startswith(
        "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
    assert plain.call("WAITAOF", 0, 0, 0) == [0, 0]


def test_waitaof_waits_for_the_disk(vigie_store):
    master = vigie_store(appendonly="yes", appendfsync="no")
    with master.raw(timeout=10) as client:
        client.call("SET", "k", "v")
        assert client.value("WAITAOF", 1, 0, 300) == [0, 0]
        # Nothing is synced until somebody asks for it.
        master.call("CONFIG", "SET", "appendfsync", "everysec")
        assert client.value("WAITAOF", 1, 0, 5000) == [1, 0]
