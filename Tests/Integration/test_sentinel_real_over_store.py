"""Debian's redis-sentinel monitoring our stores: found, down, promoted, and the old master made a replica."""

import pytest

from harness import wait_until

PASSWORD = "7xJtpLugAyu6hgPbuB3hX4R"


@pytest.mark.parametrize("kinds", [("vigie", "vigie", "vigie"), ("redis", "vigie", "vigie"), ("vigie", "redis", "redis")],
                         ids="-".join)
def test_failover_and_return(store_of, redis_sentinel, kinds):
    master = store_of(kinds[0])(password=PASSWORD)
    replicas = [store_of(kind)(password=PASSWORD, replicaof=("127.0.0.1", master.port)).wait_replica_online()
                for kind in kinds[1:]]
    # A real Sentinel takes most of a second to be answered by a master that it has just been told of. With less than that it holds each
    # new master for down, and goes on failing over between healthy ones.
    sentinels = [redis_sentinel(f"""
sentinel monitor mymaster 127.0.0.1 {master.port} 2
sentinel auth-pass mymaster {PASSWORD}
sentinel down-after-milliseconds mymaster 1500
sentinel failover-timeout mymaster 5000
""") for _ in range(3)]
    for sentinel in sentinels:
        wait_until(lambda: sentinel.fields("MASTER", "mymaster")["num-slaves"] == "2"
                   and sentinel.fields("MASTER", "mymaster")["num-other-sentinels"] == "2", 20, every=0.2)
    rows = sentinels[0].rows("REPLICAS", "mymaster")
    assert {int(row["port"]) for row in rows} == {replica.port for replica in replicas}
    wait_until(lambda: all(row["master-link-status"] == "ok" for row in sentinels[0].rows("REPLICAS", "mymaster")), 15)
    master.call("SET", "before", "1")
    master.call("WAIT", 2, 2000)
    port = master.port

    master.kill()
    wait_until(lambda: all(sentinel.master_address() != ("127.0.0.1", port) for sentinel in sentinels), 20,
               "a new master", every=0.1)
    heir = next(replica for replica in replicas if replica.port == sentinels[0].master_address()[1])
    other = next(replica for replica in replicas if replica is not heir)
    assert heir.info("replication")["role"] == "master"
    assert heir.call("GET", "before") == b"1"
    wait_until(lambda: other.info("replication").get("master_port") == str(heir.port), 20, every=0.1)
    other.wait_replica_online()
    heir.call("SET", "after", "2")
    wait_until(lambda: other.call("GET", "after") == b"2", 5)

    back = store_of(kinds[0])(port=port, password=PASSWORD)
    back.call("SET", "stray", "x")
    wait_until(lambda: back.info("replication")["role"] == "slave", 30, "the old master made a replica", every=0.1)
    back.wait_replica_online()
    wait_until(lambda: back.call("GET", "after") == b"2" and back.call("EXISTS", "stray") == 0, 10)


def test_failover_by_command(vigie_store, redis_sentinel):
    master = vigie_store()
    replica = vigie_store(replicaof=("127.0.0.1", master.port)).wait_replica_online()
    sentinel = redis_sentinel(f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
                              "sentinel down-after-milliseconds mymaster 1000\n")
    wait_until(lambda: sentinel.fields("MASTER", "mymaster")["num-slaves"] == "1", 15)
    wait_until(lambda: sentinel.call("SENTINEL", "FAILOVER", "mymaster") == b"OK", 15, every=0.3)
    wait_until(lambda: sentinel.master_address()[1] == replica.port, 20)
    wait_until(lambda: master.info("replication")["role"] == "slave", 20, "the old master following", every=0.1)
