"""Replication's options: how snapshots travel and are loaded, and what the directives promise."""

import time

import pytest

from harness import PlayedReplica, Relay, wait_until
from harness.contents import contents, fill

PAIRS = [("vigie", "vigie"), ("vigie", "redis"), ("redis", "vigie")]
DATABASES = (0, 3)


def same_contents(one, other):
    wait_until(lambda: contents(one, DATABASES) == contents(other, DATABASES), 15, "the same contents", every=0.1)


def online(master, count=1):
    def are():
        info = master.info("replication")
        return sum("state=online" in info.get(f"slave{i}", "") for i in range(int(info["connected_slaves"]))) == count
    wait_until(are, 15, f"{count} replicas online")


def key(server, name):
    return server.info("replication").get(name)


# -- how a snapshot travels

@pytest.mark.parametrize("load", ["disabled", "on-empty-db", "swapdb"])
@pytest.mark.parametrize("diskless", ["yes", "no"])
@pytest.mark.parametrize("kinds", PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_every_way_of_a_snapshot(store_of, kinds, diskless, load):
    master = store_of(kinds[0])(repl_diskless_sync=diskless)
    fill(master)
    replica = store_of(kinds[1])(repl_diskless_load=load)
    replica.call("SET", "old", "data")
    assert replica.call("REPLICAOF", "127.0.0.1", master.port) == b"OK"
    replica.wait_replica_online()
    master.call("SET", "after", "it")
    same_contents(master, replica)
    online(master)
    if kinds[0] == "vigie":
        assert ("target: disk" in master.process.log_text()) == (diskless == "no")
    if kinds[1] == "vigie":
        assert ("Loading DB in memory" in replica.process.log_text()) == (load != "swapdb")
        assert not list(replica.directory.glob("temp-*"))


@pytest.mark.parametrize("words", [("SYNC",), ("PSYNC", "?", "-1")])
def test_a_replica_that_knows_no_end_marks_is_told_the_length(vigie_store, processes, words):
    master = vigie_store(repl_ping_replica_period=3600)
    fill(master)
    with PlayedReplica(master.port, capabilities=()) as replica:
        payload = replica.synchronise(words)
        assert replica.form == "length"
        file = master.directory / "received.rdb"
        file.write_bytes(payload)
        assert "Checksum OK" in processes.run(["redis-check-rdb", file])
        # The stream follows without an acknowledgement, and no PING comes before its period has passed.
        time.sleep(0.25)
        master.call("SET", "k", "v")
        assert replica.take(7) == b"*2\r\n$6\r"


def test_what_is_written_during_a_disk_transfer_arrives(vigie_store, redis_server):
    master = vigie_store(repl_diskless_sync="no")
    with master.raw(timeout=30) as client:
        for start in range(0, 200_000, 1000):
            client.call("MSET", *(word for i in range(start, start + 1000) for word in (f"k{i}", "v" * 50)))
        replicas = [make(replicaof=("127.0.0.1", master.port), ready=True) for make in (redis_server, vigie_store)]
        count = 0
        while any(key(replica, "master_link_status") != "up" for replica in replicas):
            for _ in range(50):
                client.call("RPUSH", "during", str(count))
                count += 1
    for replica in replicas:
        wait_until(lambda: replica.call("LLEN", "during") == count, 15)
        assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")


def test_replicas_that_come_while_the_file_is_written_share_it(vigie_store):
    master = vigie_store(repl_diskless_sync="no")
    with master.raw(timeout=30) as client:
        for start in range(0, 300_000, 1000):
            client.call("MSET", *(word for i in range(start, start + 1000) for word in (f"k{i}", "v" * 100)))
    first, second = PlayedReplica(master.port), PlayedReplica(master.port)
    first.client.send("PSYNC", "?", "-1")
    first_answer = first.line()
    second.client.send("PSYNC", "?", "-1")
    assert second.line() == first_answer
    assert len(first.snapshot()) == len(second.snapshot())
    assert master.process.log_text().count("Background saving started") == 1
    first.close()
    second.close()


def test_the_delay_gathers_replicas_and_enough_of_them_end_it(vigie_store):
    master = vigie_store(repl_diskless_sync_delay=30, repl_diskless_sync_max_replicas=2)
    started = time.monotonic()
    first = vigie_store(replicaof=("127.0.0.1", master.port))
    time.sleep(0.5)
    assert key(master, "slave0").find("state=wait_bgsave") > 0
    second = vigie_store(replicaof=("127.0.0.1", master.port))
    for replica in (first, second):
        replica.wait_replica_online()
    assert time.monotonic() - started < 10
    assert master.process.log_text().count("Background RDB transfer started") == 1


def test_a_replica_that_takes_nothing_is_given_up_for_the_others(vigie_store):
    master = vigie_store(repl_diskless_sync_delay=1)
    with master.raw(timeout=30) as client:
        for i in range(40):
            client.call("SET", f"k{i}", "".join(chr(33 + (i * j * 7919) % 90) for j in range(1000)) * 1000)
        client.call("CONFIG", "SET", "rdbcompression", "no")
    stalled = PlayedReplica(master.port, small_window=True)
    stalled.client.send("PSYNC", "?", "-1")
    good = vigie_store(replicaof=("127.0.0.1", master.port))
    good.wait_replica_online(timeout=20)
    assert good.call("DBSIZE") == 40
    assert "Disconnecting timedout replica (full sync)" in master.process.log_text()
    stalled.close()


def test_a_replica_that_is_silent_after_its_snapshot_is_given_up_in_time(vigie_store):
    """One that loads says so with empty lines, and has all the time that it needs."""
    master = vigie_store(repl_timeout=1)
    with PlayedReplica(master.port) as silent, PlayedReplica(master.port) as loading:
        for replica in (silent, loading):
            replica.synchronise()
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            loading.client.send_raw(b"\n")
            time.sleep(0.2)
        assert master.info("replication")["connected_slaves"] == "1"
        assert "Disconnecting timedout replica (after its snapshot)" in master.log_text()
        loading.acknowledge()
        wait_until(lambda: "state=online" in master.info("replication").get("slave0", ""), 5)


def test_sync_files_can_be_removed(vigie_store):
    master = vigie_store(repl_diskless_sync="no", rdb_del_sync_files="yes")
    master.call("SET", "k", "v")
    replica = vigie_store(replicaof=("127.0.0.1", master.port), rdb_del_sync_files="yes").wait_replica_online()
    assert replica.call("GET", "k") == b"v"
    for server in (master, replica):
        assert not list(server.directory.glob("*.rdb"))


@pytest.mark.parametrize("load", ["disabled", "swapdb"])
def test_damage_on_the_way_costs_the_replica_nothing(vigie_store, load):
    master = vigie_store()
    fill(master)
    replica = vigie_store(repl_diskless_load=load)
    replica.call("SET", "old", "data")
    with PlayedReplica(master.port) as played:
        size = len(played.synchronise())
    with Relay(master.port) as relay:
        # The last place is in the checksum: some 125 bytes are said before the snapshot.
        for at in (2_000, size // 2, size + 121):
            relay.flip(at)
            relay.cut()
            seen = replica.process.log_text().count("Failed trying to load the MASTER synchronization DB")
            assert replica.call("REPLICAOF", "127.0.0.1", relay.port) == b"OK"
            wait_until(lambda: replica.process.log_text().count("Failed trying to load the MASTER synchronization DB") > seen, 10)
            assert replica.call("GET", "old") == b"data"
            assert replica.call("REPLICAOF", "NO", "ONE") == b"OK"
            assert replica.call("DBSIZE") == 1
        relay.flip(None)
        relay.cut()
        replica.call("REPLICAOF", "127.0.0.1", relay.port)
        replica.wait_replica_online()
        same_contents(master, replica)


def test_clients_are_told_that_the_snapshot_is_being_loaded(vigie_store, redis_server):
    master = vigie_store()
    with master.raw(timeout=30) as client:
        for start in range(0, 600_000, 1000):
            client.call("MSET", *(word for i in range(start, start + 1000) for word in (f"k{i}", "v" * 50)))
    replica = vigie_store()
    replica.call("SET", "old", "data")
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    seen = set()
    with replica.raw() as client:
        wait_until(lambda: seen.add(client.call("GET", "old")[:8]) or key(replica, "master_link_status") == "up", 30, every=0.001)
        assert b"-LOADING" in seen
        assert client.call("GET", "old") == b"$-1\r\n"
        assert client.value("DBSIZE") == 600_000


# -- what the directives promise

def test_names_that_replicas_announce(vigie_store, redis_server):
    for make_master in (vigie_store, redis_server):
        master = make_master()
        for make in (vigie_store, redis_server):
            make(replicaof=("127.0.0.1", master.port), replica_announce_ip="10.9.8.7", replica_announce_port=1234,
                 replica_priority=7).wait_replica_online()
        online(master, 2)
        for name in ("slave0", "slave1"):
            assert key(master, name).startswith("ip=10.9.8.7,port=1234,state=online,"), key(master, name)
        assert [row[:2] for row in master.call("ROLE")[2]] == [[b"10.9.8.7", b"1234"]] * 2


def test_old_words_and_new_ones(vigie_store):
    old = vigie_store(slave_read_only="no", slave_priority=5, slave_serve_stale_data="no", min_slaves_to_write=1,
                      min_slaves_max_lag=3, slave_announce_ip="1.2.3.4", slaveof=("127.0.0.1", 1))
    for word, value in (("replica-read-only", b"no"), ("replica-priority", b"5"), ("replica-serve-stale-data", b"no"),
                        ("min-replicas-to-write", b"1"), ("min-replicas-max-lag", b"3"), ("replica-announce-ip", b"1.2.3.4")):
        assert old.call("CONFIG", "GET", word) == [word.encode(), value]
    assert old.call("SLAVEOF", "NO", "ONE") == b"OK"
    assert old.call("ROLE")[0] == b"master"


def test_a_user_of_its_own_for_replicas(redis_server, vigie_store):
    master = redis_server()
    master.call("ACL", "SETUSER", "copier", "on", ">secret", "+psync", "+replconf", "+ping")
    master.call("ACL", "SETUSER", "default", "on", ">other", "~*", "+@all")
    with master.raw() as client:
        client.call("AUTH", "other")
        client.call("SET", "k", "v")
    replica = vigie_store(replicaof=("127.0.0.1", master.port), masteruser="copier", masterauth="secret")
    replica.wait_replica_online()
    assert replica.call("GET", "k") == b"v"


def test_stale_data_can_be_withheld(vigie_store, redis_server):
    for make in (vigie_store, redis_server):
        replica = make(replicaof=("127.0.0.1", 1), replica_serve_stale_data="no")
        assert replica.call("GET", "k").startswith("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
        assert replica.call("INFO", "replication")[:13] == b"# Replication"
        assert replica.call("CONFIG", "SET", "replica-serve-stale-data", "yes") == b"OK"
        assert replica.call("GET", "k") is None


def test_a_writable_replica(vigie_store, redis_server):
    for make in (vigie_store, redis_server):
        master = make()
        replica = make(replicaof=("127.0.0.1", master.port), replica_read_only="no").wait_replica_online()
        assert replica.call("SET", "own", "1") == b"OK"
        master.call("SET", "theirs", "2")
        wait_until(lambda: replica.call("GET", "theirs") == b"2", 5)
        assert master.call("EXISTS", "own") == 0
        assert key(replica, "slave_read_only") == "0"


def test_a_writable_replica_writes_over_what_has_expired(vigie_store, redis_server):
    """A key whose time is over is not there for a reader, and a writer begins anew."""
    seen = []
    for make in (redis_server, vigie_store):
        master = make()
        replica = make(replicaof=("127.0.0.1", master.port), replica_read_only="no").wait_replica_online()
        with replica.raw() as client:
            for words in (("SET", "n", "7", "PX", "30"), ("RPUSH", "l", "a"), ("PEXPIRE", "l", "30")):
                client.call(*words)
            time.sleep(0.1)
            replies = [client.value(*words) for words in (
                ("GET", "n"), ("INCR", "n"), ("GET", "n"), ("TTL", "n"), ("APPEND", "n", "x"), ("GET", "n"),
                ("RPUSH", "l", "b"), ("LRANGE", "l", "0", "-1"), ("TTL", "l"), ("DEL", "n", "l"), ("DBSIZE",))]
        seen.append(replies)
    assert seen[0] == seen[1]


def test_writes_need_replicas_that_keep_up(vigie_store, redis_server):
    for make in (vigie_store, redis_server):
        master = make(min_replicas_to_write=1, min_replicas_max_lag=2)
        assert master.call("SET", "k", "v").startswith("NOREPLICAS Not enough good replicas to write.")
        assert master.call("GET", "k") is None
        replica = vigie_store(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        wait_until(lambda: master.call("SET", "k", "v") == b"OK", 5)
        assert key(master, "min_slaves_good_slaves") == "1"
        replica.freeze()
        wait_until(lambda: master.call("SET", "k", "v") != b"OK", 8)
        replica.thaw()
        wait_until(lambda: master.call("SET", "k", "v") == b"OK", 8)
        # Without a lag nothing is asked for.
        master.call("CONFIG", "SET", "min-replicas-to-write", "5", "min-replicas-max-lag", "0")
        assert master.call("SET", "k", "v") == b"OK"
        assert key(master, "min_slaves_good_slaves") is None


@pytest.mark.parametrize("behavior", ["ignore", "panic-on-replicas", "panic"])
def test_a_command_that_fails_on_the_replica_only(vigie_store, behavior):
    master = vigie_store()
    replica = vigie_store(replicaof=("127.0.0.1", master.port), replica_read_only="no", propagation_error_behavior=behavior)
    replica.wait_replica_online()
    replica.call("SET", "k", "string")
    master.call("RPUSH", "k", "a")
    replica.process.wait_log("== CRITICAL ==")
    assert "after processing the command 'RPUSH'" in replica.process.log_text()
    if behavior == "ignore":
        assert replica.info("stats")["unexpected_error_replies"] == "1"
        master.call("SET", "next", "1")
        wait_until(lambda: replica.call("GET", "next") == b"1", 5)
    else:
        wait_until(lambda: not replica.process.alive(), 5)


def test_replicas_ignore_maxmemory_unless_told_otherwise(vigie_store):
    master = vigie_store()
    for ignores, expected in (("yes", 1000), ("no", None)):
        replica = vigie_store(replicaof=("127.0.0.1", master.port), maxmemory="3mb", maxmemory_policy="allkeys-lru",
                              replica_ignore_maxmemory=ignores).wait_replica_online()
        with master.raw(timeout=20) as client:
            for i in range(1000):
                client.call("SET", f"key-{i}", "x" * 10_000)
        wait_until(lambda: key(replica, "slave_repl_offset") == key(master, "master_repl_offset"), 10)
        count = replica.call("DBSIZE")
        assert count == expected if expected else 0 < count < 500


# -- what INFO and ROLE say

def names(server):
    return list(server.info("replication"))


def test_info_has_the_fields_of_redis_in_its_order(vigie_store, redis_server):
    seen = {}
    for name, make in (("ours", vigie_store), ("real", redis_server)):
        master = make(min_replicas_to_write=0)
        with master.raw(timeout=30) as client:
            for i in range(300):
                client.call("SET", f"k{i}", "".join(chr(33 + (i * j * 7919) % 90) for j in range(997)) * 20)
        with Relay(master.port) as relay:
            relay.slow(500_000)
            replica = make(replicaof=("127.0.0.1", relay.port), rdbcompression="no")
            wait_until(lambda: int(key(replica, "master_sync_read_bytes") or 0) > 0, 10)
            syncing = names(replica), replica.call("ROLE")[3]
            relay.slow(None)
            replica.wait_replica_online()
            online(master)
            both = names(master), names(replica), replica.call("ROLE")[:4:3]
            relay.refuse()
            relay.cut()
            wait_until(lambda: key(replica, "master_link_status") == "down", 5)
            down = names(replica), replica.call("ROLE")[4], key(replica, "master_last_io_seconds_ago")
        fresh = make(replicaof=("127.0.0.1", 1))
        never = (names(fresh), key(fresh, "slave_repl_offset"), key(fresh, "slave_read_repl_offset"),
                 key(fresh, "master_link_down_since_seconds"), fresh.call("ROLE")[4])
        seen[name] = syncing, both, down, never
    assert seen["ours"] == seen["real"]


def test_a_replica_that_loads_says_since_when(vigie_store):
    """Seconds since 1970, whatever clock the link itself goes by."""
    master = vigie_store(repl_diskless_sync="yes", enable_debug_command="yes", rdbcompression="no")
    master.call("DEBUG", "POPULATE", "200000", "k", "500")
    replica = vigie_store(repl_diskless_load="swapdb")
    began = int(time.time())
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    wait_until(lambda: key(replica, "master_sync_in_progress") == "1", 10, every=0.002)
    told = wait_until(lambda: replica.info("persistence").get("loading_start_time"), 10, every=0.002)
    assert began - 1 <= int(told) <= began + 15
