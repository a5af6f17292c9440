"""The stream as replicas share it: one copy for all of them, and nobody waits for the slowest."""

import re
import time

import pytest

from harness import PlayedReplica, wait_until

MEGABYTE = 1 << 20


def stalled(store, count):
    """Replicas that are online and read nothing."""
    replicas = [PlayedReplica(store.port, small_window=True) for _ in range(count)]
    for replica in replicas:
        replica.synchronise()
        replica.acknowledge()
    wait_until(lambda: store.info("replication").get(f"slave{count - 1}", "").find("state=online") > 0, 10)
    return replicas


def write(store, megabytes, name="k"):
    with store.raw(timeout=30) as client:
        for i in range(megabytes * 16):
            client.call("SET", name, "x" * 65_536)


def replicas_of(store):
    lines = store.call("CLIENT", "LIST", "TYPE", "replica").decode().splitlines()
    return [dict(word.split("=", 1) for word in line.split(" ")) for line in lines]


def test_ten_replicas_that_do_not_read_cost_one_copy_of_the_stream(vigie_store):
    store = vigie_store()
    replicas = stalled(store, 10)
    before = int(store.info("memory")["used_memory"])
    write(store, 40)
    time.sleep(0.3)
    memory = store.info("memory")
    assert int(memory["used_memory"]) - before < 44 * MEGABYTE
    # The kernel has taken some already.
    assert 34 * MEGABYTE < int(memory["mem_total_replication_buffers"]) < 42 * MEGABYTE
    assert int(memory["mem_replication_backlog"]) == MEGABYTE
    assert 33 * MEGABYTE < int(memory["mem_clients_slaves"]) < 42 * MEGABYTE
    for client in replicas_of(store):
        assert 33 * MEGABYTE < int(client["omem"]) < 41 * MEGABYTE
        assert int(client["tot-mem"]) >= int(client["omem"])
    for replica in replicas:
        replica.close()
    wait_until(lambda: int(store.info("memory")["mem_total_replication_buffers"]) < 1.2 * MEGABYTE, 10,
               "the blocks given back")
    assert int(store.info("replication")["repl_backlog_histlen"]) >= MEGABYTE


def test_what_waits_for_replicas_is_not_evicted_for(vigie_store):
    store = vigie_store(maxmemory="20mb", maxmemory_policy="allkeys-lru")
    store.call("SET", "witness", "here")
    replicas = stalled(store, 2)
    write(store, 40)
    time.sleep(0.3)
    assert store.call("EXISTS", "witness") == 1
    assert int(store.info("memory")["mem_not_counted_for_evict"]) > 33 * MEGABYTE
    for replica in replicas:
        replica.close()


@pytest.mark.parametrize("limit", ["replica 8mb 0 0", "slave 0 4mb 1"])
def test_only_the_slow_replica_is_cut_off(vigie_store, store_of, limit):
    store = vigie_store(client_output_buffer_limit=limit.split())
    good = store_of("redis")(replicaof=("127.0.0.1", store.port)).wait_replica_online()
    stalled_one = stalled(store, 1)
    assert len(replicas_of(store)) == 2
    deadline = time.monotonic() + 15
    with store.raw(timeout=30) as client:
        i = 0
        while len(replicas_of(store)) == 2:
            assert time.monotonic() < deadline, replicas_of(store)
            for _ in range(20):
                client.call("SET", f"key-{i % 50}", "x" * 65_536)
                i += 1
            # The good one needs time to take it.
            wait_until(lambda: good.call("GET", f"key-{(i - 1) % 50}") is not None, 5)
    assert i * 65_536 >= 4 * MEGABYTE
    assert f":7 " in store.process.log_text() or "output buffer limits" in store.process.log_text()
    wait_until(lambda: good.info("replication")["slave_repl_offset"] == store.info("replication")["master_repl_offset"], 10)
    assert store.info("replication")["slave0"].find(f"port={good.port}") > 0
    for replica in stalled_one:
        replica.close()


def test_the_limit_holds_during_the_snapshot_too(vigie_store):
    store = vigie_store(client_output_buffer_limit=["replica", "6mb", "0", "0"])
    replica = PlayedReplica(store.port, small_window=True)
    replica.synchronise()
    # It has the snapshot and has not said so: the stream waits for it.
    write(store, 5)
    assert len(replicas_of(store)) == 1
    assert int(replicas_of(store)[0]["omem"]) > 4 * MEGABYTE
    write(store, 4)
    wait_until(lambda: not replicas_of(store), 5)
    assert "output buffer limits" in store.process.log_text()


def test_a_limit_below_the_backlog_is_not_taken_at_its_word(vigie_store):
    store = vigie_store(client_output_buffer_limit=["replica", "1mb", "0", "0"], repl_backlog_size="10mb")
    replica = stalled(store, 1)[0]
    write(store, 8)
    assert len(replicas_of(store)) == 1
    write(store, 6)
    wait_until(lambda: not replicas_of(store), 5)
    replica.close()


def test_a_stalled_replica_finds_every_byte_when_it_reads_again(vigie_store):
    store = vigie_store()
    replica = stalled(store, 1)[0]
    with store.raw() as client:
        for i in range(3000):
            client.call("SET", f"key:{i}", f"value-{i}-" + "y" * (i % 5000))
    expected = b"".join(
        b"*3\r\n$3\r\nSET\r\n$%d\r\nkey:%d\r\n$%d\r\n%s\r\n" % (len(f"key:{i}"), i, len(v), v)
        for i in range(3000) for v in [f"value-{i}-".encode() + b"y" * (i % 5000)])
    end = int(store.info("replication")["master_repl_offset"])
    got = replica.take(end - replica.offset).replace(b"*1\r\n$4\r\nPING\r\n", b"")
    assert got == b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n" + expected


def test_backlog_resizing_keeps_the_history(vigie_store):
    store = vigie_store(repl_backlog_size="2mb")
    with PlayedReplica(store.port) as replica:
        replica.synchronise()
        replica.acknowledge()
        wait_until(lambda: "state=online" in store.info("replication").get("slave0", ""), 5)
        first = replica.offset
    write(store, 1)
    store.call("CONFIG", "SET", "repl-backlog-size", "8mb")
    write(store, 4)
    with PlayedReplica(store.port) as replica:
        assert re.match(r"\+CONTINUE \w{40}", replica.say("PSYNC", store.info("replication")["master_replid"], first + 1))
    store.call("CONFIG", "SET", "repl-backlog-size", "1mb")
    wait_until(lambda: int(store.info("replication")["repl_backlog_histlen"]) < 1.1 * MEGABYTE, 5)
    info = store.info("replication")
    with PlayedReplica(store.port) as replica:
        answer = replica.say("PSYNC", info["master_replid"], info["repl_backlog_first_byte_offset"])
        assert answer.startswith("+CONTINUE")
        replica.take(int(info["repl_backlog_histlen"]))


def test_backlog_goes_when_nobody_has_come_back_for_long(vigie_store, redis_server):
    for store in (vigie_store(repl_backlog_ttl=1), redis_server(repl_backlog_ttl=1)):
        with PlayedReplica(store.port) as replica:
            replica.synchronise()
            replica.acknowledge()
        write(store, 1)
        before = store.info("replication")
        assert before["repl_backlog_active"] == "1"
        wait_until(lambda: store.info("replication")["repl_backlog_active"] == "0", 10)
        after = store.info("replication")
        assert after["master_replid"] != before["master_replid"]
        assert after["master_replid2"] == "0" * 40
        assert after["repl_backlog_histlen"] == "0"
        store.call("SET", "unrecorded", "x")
        assert store.info("replication")["master_repl_offset"] == after["master_repl_offset"]
