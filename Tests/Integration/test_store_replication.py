"""Replication between two of ours, and with real Redis on either side."""

import time

import pytest

from harness import wait_until
from harness.contents import contents, fill

DATABASES = (0, 3)
PAIRS = [("vigie", "vigie"), ("vigie", "redis"), ("redis", "vigie")]


def same_contents(one, other, timeout=15):
    wait_until(lambda: contents(one, DATABASES) == contents(other, DATABASES), timeout,
               "master and replica holding the same", every=0.1)


def offsets_meet(master, replica, timeout=10):
    def meet():
        return (master.info("replication")["master_repl_offset"]
                == replica.info("replication")["slave_repl_offset"])
    wait_until(meet, timeout, "the replica at the master's offset")


@pytest.fixture(params=PAIRS, ids=["-".join(pair) for pair in PAIRS])
def pair(request, store_of):
    """A master with data and a replica of it, in step."""
    master_kind, replica_kind = request.param
    master = store_of(master_kind)()
    fill(master)
    replica = store_of(replica_kind)(replicaof=("127.0.0.1", master.port)).wait_replica_online()
    return master, replica


def test_full_synchronisation_brings_everything(pair):
    master, replica = pair
    same_contents(master, replica)
    assert replica.call("TTL", "expiring") > 900
    assert master.info("replication")["connected_slaves"] == "1"
    assert master.info("stats")["sync_full"] == "1"


def test_writes_follow(pair):
    master, replica = pair
    with master.raw() as client:
        client.call("SET", "after", "1")
        client.call("INCR", "after")
        client.call("INCRBYFLOAT", "float", "0.1")
        client.call("RPUSH", "list-small", "more")
        client.call("LMOVE", "list-small", "list-new", "LEFT", "RIGHT")
        client.call("SPOP", "set-large", "10")
        client.call("ZADD", "zset-small", "INCR", "5", "member-1")
        client.call("ZPOPMIN", "zset-large")
        client.call("HINCRBY", "hash-small", "n", "7")
        client.call("SET", "relative", "x", "EX", "500")
        client.call("GETEX", "relative", "PX", "700000")
        client.call("DEL", "long", "none")
        client.call("RENAME", "compressible", "renamed")
        client.call("SUNIONSTORE", "union", "set-small", "intset-small")
        client.call("SELECT", "3")
        client.call("SET", "elsewhere", "changed")
        client.call("FLUSHDB")
        client.call("SET", "last", "word")
    same_contents(master, replica)
    assert abs(master.call("PTTL", "relative") - replica.call("PTTL", "relative")) < 1000
    offsets_meet(master, replica)


def test_transactions_and_blocked_pops_follow(pair):
    master, replica = pair
    with master.raw() as client, master.raw() as blocked:
        blocked.send("BLPOP", "queue", "0")
        client.call("MULTI")
        client.call("RPUSH", "queue", "a", "b")
        client.call("SET", "in-transaction", "1")
        client.call("EXEC")
        assert blocked.read_value() == [b"queue", b"a"]
    same_contents(master, replica)
    assert replica.call("LRANGE", "queue", 0, -1) == [b"b"]


def test_expiry_follows(pair):
    master, replica = pair
    master.call("SET", "short", "x", "PX", "300")
    wait_until(lambda: replica.call("EXISTS", "short") == 1, 3)
    wait_until(lambda: replica.call("GET", "short") is None, 3)
    wait_until(lambda: master.call("DBSIZE") == replica.call("DBSIZE"), 5, "the expired key gone on both")


def test_replica_refuses_writes_and_says_what_it_is(pair):
    master, replica = pair
    assert str(replica.call("SET", "k", "v")).startswith("READONLY You can't write against a read only replica.")
    role = replica.call("ROLE")
    assert role[:4] == [b"slave", b"127.0.0.1", master.port, b"connected"]
    wait_until(lambda: master.call("ROLE")[2], 5, "the master counting its replica")
    assert master.call("ROLE")[2][0][:2] == [b"127.0.0.1", str(replica.port).encode()]


def test_wait_counts_the_replica(pair):
    master, replica = pair
    with master.raw() as client:
        client.call("SET", "k", "v")
        started = time.monotonic()
        assert client.value("WAIT", 1, 5000) == 1
        assert time.monotonic() - started < 2
        assert client.value("WAIT", 2, 100) == 1


def test_a_dropped_link_is_continued_from_the_backlog(pair):
    master, replica = pair
    for turn in range(3):
        master.call("SET", f"before-{turn}", "x" * 1000)
        assert master.call("CLIENT", "KILL", "TYPE", "replica") == 1
        master.call("SET", f"after-{turn}", "y" * 1000)
        wait_until(lambda: replica.call("GET", f"after-{turn}") is not None, 10)
    replica.wait_replica_online()
    same_contents(master, replica)
    stats = master.info("stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == ("1", "3")


def test_a_gap_longer_than_the_backlog_is_synchronised_in_full(store_of):
    for master_kind, replica_kind in PAIRS:
        master = store_of(master_kind)(repl_backlog_size="16kb")
        replica = store_of(replica_kind)(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        replica.freeze()
        master.call("CLIENT", "KILL", "TYPE", "replica")
        for i in range(100):
            master.call("SET", f"key-{i}", "z" * 1000)
        replica.thaw()
        wait_until(lambda: replica.call("DBSIZE") == 100, 15, f"{replica_kind} catching up with {master_kind}")
        assert master.info("stats")["sync_full"] == "2"


def test_promotion_keeps_the_history(store_of):
    """The sibling of a promoted replica continues from the backlog: PSYNC with the second replication id."""
    for kinds in (("vigie", "vigie", "vigie"), ("redis", "vigie", "redis"), ("vigie", "redis", "vigie"),
                  ("redis", "vigie", "vigie")):
        master = store_of(kinds[0])()
        fill(master)
        heir = store_of(kinds[1])(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        sibling = store_of(kinds[2])(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        master.call("SET", "last", "words")
        for replica in (heir, sibling):
            wait_until(lambda: replica.call("GET", "last") == b"words", 5)
        offsets_meet(master, heir)
        offsets_meet(master, sibling)
        master.kill()
        assert heir.call("REPLICAOF", "NO", "ONE") == b"OK"
        assert sibling.call("REPLICAOF", "127.0.0.1", heir.port) == b"OK"
        sibling.wait_replica_online()
        heir.call("SET", "new", "master")
        wait_until(lambda: sibling.call("GET", "new") == b"master", 5)
        stats = heir.info("stats")
        assert (stats["sync_full"], stats["sync_partial_ok"]) == ("0", "1"), kinds
        same_contents(heir, sibling)


def test_chain_of_replicas(store_of):
    for kinds in (("vigie", "vigie", "vigie"), ("redis", "vigie", "redis"), ("vigie", "redis", "vigie")):
        first = store_of(kinds[0])()
        fill(first)
        second = store_of(kinds[1])(replicaof=("127.0.0.1", first.port)).wait_replica_online()
        third = store_of(kinds[2])(replicaof=("127.0.0.1", second.port)).wait_replica_online()
        first.call("SET", "through", "all")
        wait_until(lambda: third.call("GET", "through") == b"all", 5, f"the end of the chain {kinds}")
        same_contents(first, third)


@pytest.mark.parametrize("diskless", ["yes", "no"])
@pytest.mark.parametrize("kind", ["vigie", "redis"])
def test_a_replica_of_a_replica_goes_on_in_the_stream_s_database(store_of, kind, diskless):
    """The stream is in the middle of a database when the second replica joins it: nobody says SELECT again."""
    master = store_of("vigie")()
    first = store_of("vigie")(replicaof=("127.0.0.1", master.port), repl_diskless_sync=diskless).wait_replica_online()
    with master.raw() as client:
        client.call("SELECT", "3")
        client.call("SET", "before", "1")
        wait_until(lambda: b"db3" in first.call("INFO", "keyspace"), 5)
        second = store_of(kind)(replicaof=("127.0.0.1", first.port)).wait_replica_online()
        client.call("SET", "behind", "2")
        with second.raw() as reader:
            reader.call("SELECT", "3")
            wait_until(lambda: reader.call("MGET", "before", "behind") == b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n", 5)
    assert b"db0" not in second.call("INFO", "keyspace")


def test_passwords(store_of):
    for master_kind, replica_kind in PAIRS:
        master = store_of(master_kind)(password="7xJtpLugAyu6hgPbuB3hX4R")
        master.call("SET", "k", "v")
        replica = store_of(replica_kind)(password="7xJtpLugAyu6hgPbuB3hX4R", slaveof=("127.0.0.1", master.port))
        replica.wait_replica_online()
        assert replica.call("GET", "k") == b"v"
        stranger = store_of(replica_kind)(replicaof=("127.0.0.1", master.port), masterauth="wrong")
        time.sleep(1.5)
        assert stranger.info("replication")["master_link_status"] == "down"
        assert stranger.call("DBSIZE") == 0


def test_a_replica_finds_its_master_again_after_a_restart(store_of):
    for master_kind, replica_kind in PAIRS:
        master = store_of(master_kind)()
        replica = store_of(replica_kind)(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        master.kill()
        wait_until(lambda: replica.info("replication")["master_link_status"] == "down", 10)
        again = store_of(master_kind)(port=master.port)
        again.call("SET", "k", "from the new process")
        wait_until(lambda: replica.call("GET", "k") == b"from the new process", 15)


def test_writing_during_the_full_synchronisation(store_of):
    for master_kind, replica_kind in PAIRS:
        master = store_of(master_kind)()
        with master.raw(timeout=30) as client:
            for start in range(0, 200_000, 1000):
                client.call("MSET", *(word for i in range(start, start + 1000) for word in (f"k{i}", "v" * 50)))
            replica = store_of(replica_kind)(replicaof=("127.0.0.1", master.port), ready=True)
            count = 0
            while replica.info("replication")["master_link_status"] != "up":
                for _ in range(50):
                    client.call("RPUSH", "during", str(count))
                    count += 1
        wait_until(lambda: replica.call("LLEN", "during") == count, 15)
        assert replica.call("DBSIZE") == master.call("DBSIZE")
        assert replica.call("LRANGE", "during", 0, -1) == [str(i).encode() for i in range(count)]


def restarted(store_of, kind, server, **options):
    """The same server again: same port, same folder, what SHUTDOWN has saved."""
    server.stop()
    return store_of(kind)(port=server.port, dir=server.directory, **options)


@pytest.mark.parametrize("kinds", PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_a_restarted_replica_continues_where_it_was(store_of, kinds):
    master = store_of(kinds[0])()
    fill(master)
    options = {"replicaof": ("127.0.0.1", master.port), "save": ("900", "1")}
    replica = store_of(kinds[1])(**options).wait_replica_online()
    with master.raw() as client:
        client.call("SELECT", "3")
        client.call("SET", "before", "1")
    offsets_meet(master, replica)
    replica.stop()
    with master.raw() as client:
        client.call("SELECT", "3")
        client.call("SET", "meanwhile", "2")
    replica = store_of(kinds[1])(port=replica.port, dir=replica.directory, **options).wait_replica_online()
    with master.raw() as client:
        client.call("SELECT", "3")
        client.call("SET", "after", "3")
    same_contents(master, replica)
    stats = master.info("stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == ("1", "1")


@pytest.mark.parametrize("kinds", PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_replicas_of_a_restarted_master_continue_where_they_were(store_of, kinds):
    master = store_of(kinds[0])(save=("900", "1"))
    fill(master)
    replica = store_of(kinds[1])(replicaof=("127.0.0.1", master.port)).wait_replica_online()
    master.call("SET", "soon-over", "x", "PX", "300")
    offsets_meet(master, replica)
    old = master.info("replication")["master_replid"]
    time.sleep(0.5) if kinds[0] == "vigie" else None
    master = restarted(store_of, kinds[0], master, save=("900", "1"))
    assert master.info("replication")["master_replid2"] == old
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up"
               and master.info("replication")["connected_slaves"] == "1", 10)
    master.call("SET", "after", "3")
    offsets_meet(master, replica)
    same_contents(master, replica)
    wait_until(lambda: replica.call("DBSIZE") == master.call("DBSIZE"), 5)
    stats = master.info("stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == ("0", "1")


def test_a_key_that_ran_out_while_the_master_was_down_is_deleted_on_the_replica(vigie_store):
    master = vigie_store(save=("900", "1"))
    replica = vigie_store(replicaof=("127.0.0.1", master.port)).wait_replica_online()
    master.call("SET", "soon-over", "x", "PX", "700")
    master.call("SET", "stays", "x")
    offsets_meet(master, replica)
    master.stop()
    time.sleep(0.8)
    master = vigie_store(port=master.port, dir=master.directory, save=("900", "1"))
    wait_until(lambda: master.call("DBSIZE") == 1 and replica.call("DBSIZE") == 1, 10)
    wait_until(lambda: master.info("stats")["sync_partial_ok"] == "1", 10)
    assert master.info("stats")["sync_full"] == "0"
    assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")


def test_a_snapshot_without_history_names_none(vigie_store, processes):
    store = vigie_store()
    store.call("SET", "k", "v")
    assert store.call("SAVE") == b"OK"
    assert "repl-id" not in processes.run(["redis-check-rdb", store.directory / "dump.rdb"])
    again = vigie_store(port=restarted_port(store), dir=store.directory)
    assert again.info("replication")["master_replid2"] == "0" * 40
    assert again.info("replication")["repl_backlog_active"] == "0"


def restarted_port(server):
    server.stop()
    return server.port


@pytest.mark.parametrize("kind", ["vigie", "redis"])
def test_a_master_that_steps_down_in_a_transaction_leaves_none_open(store_of, kind):
    """Its replicas would wait for an EXEC that never comes, queueing all that follows."""
    other = store_of("vigie")()
    master = store_of("vigie")()
    replica = store_of(kind)(replicaof=("127.0.0.1", master.port)).wait_replica_online()
    with master.raw() as client:
        for words in (("MULTI",), ("SET", "before", "1"), ("REPLICAOF", "127.0.0.1", other.port), ("EXEC",)):
            client.call(*words)
    assert master.call("ROLE")[0] == b"slave"
    master.call("REPLICAOF", "NO", "ONE")
    master.call("SET", "after", "2")
    wait_until(lambda: replica.call("GET", "after") == b"2", 10, "the replica going on")
    same_contents(master, replica)
    offsets_meet(master, replica)


def test_a_replica_that_is_promoted_in_a_transaction_passes_on_a_whole_one(store_of):
    master = store_of("vigie")()
    replica = store_of("vigie")(replicaof=("127.0.0.1", master.port), replica_read_only="no").wait_replica_online()
    below = store_of("vigie")(replicaof=("127.0.0.1", replica.port)).wait_replica_online()
    with replica.raw() as client:
        for words in (("MULTI",), ("SET", "before", "1"), ("REPLICAOF", "NO", "ONE"), ("SET", "after", "2"), ("EXEC",)):
            reply = client.call(*words)
    assert reply == b"*3\r\n+OK\r\n+OK\r\n+OK\r\n"
    wait_until(lambda: below.call("GET", "after") == b"2", 10)
    offsets_meet(replica, below)
    assert below.info("stats")["unexpected_error_replies"] == "0"
