"""What replicas are told: a real replica's MONITOR shows the same below our master as below Debian's."""

import re

import pytest


def stream(master, replica, scenario):
    """The commands that reach the replica while `scenario` talks to the master, without SELECT and PING."""
    with replica.raw() as monitor:
        monitor.call("MONITOR")
        with master.raw() as a, master.raw() as b, master.raw() as c:
            scenario(a, b, c)
            a.call("SET", "the-end", "1")
        seen = []
        while True:
            line = monitor.read(timeout=5).decode("latin-1")
            words = re.findall(r'"((?:[^"\\]|\\.)*)"', line.split("] ", 1)[1])
            if words[0] == "SET" and words[1] == "the-end":
                return seen
            if words[0].upper() not in ("SELECT", "PING", "REPLCONF"):
                seen.append([words[0].upper(), *words[1:]])


def blocking_lists(a, b, c):
    b.send("BLPOP", "q", "none", "0")
    c.send("BRPOP", "q", "0")
    a.call("RPUSH", "q", "1")
    b.read()
    a.call("RPUSH", "q", "2", "3")
    c.read()
    # Redis 7.0 passes the ends on in small letters, 7.2 as they came.
    b.send("BLMOVE", "src", "dst", "left", "right", "0")
    a.call("LPUSH", "src", "x")
    b.read()
    b.send("BRPOPLPUSH", "src", "dst", "0")
    a.call("LPUSH", "src", "y", "z")
    b.read()
    b.send("BLMPOP", "0", "2", "m1", "m2", "RIGHT", "COUNT", "2")
    a.call("RPUSH", "m2", "1", "2", "3")
    b.read()


def lists_at_once(a, b, c):
    a.call("RPUSH", "l", "1", "2", "3", "4", "5", "6", "7", "8")
    a.call("BLPOP", "l", "1")
    a.call("BRPOP", "l", "1")
    a.call("LMPOP", "2", "none", "l", "LEFT", "COUNT", "2")
    a.call("BLMPOP", "1", "1", "l", "RIGHT")
    a.call("BLMOVE", "l", "k", "LEFT", "LEFT", "1")
    a.call("BRPOPLPUSH", "l", "k", "1")
    a.call("LTRIM", "k", "0", "5")
    a.call("LREM", "k", "0", "none")
    a.call("LPOP", "k", "9")
    a.call("LPOP", "k")


def a_chain_of_moves(a, b, c):
    b.send("BLMOVE", "one", "two", "left", "left", "0")
    c.send("BLPOP", "two", "0")
    a.call("RPUSH", "one", "v")
    b.read()
    c.read()


def transaction(a, b, c):
    b.send("BLPOP", "q", "0")
    a.call("MULTI")
    a.call("RPUSH", "q", "1", "2")
    a.call("LPOP", "q")
    a.call("HSET", "h", "f", "v")
    a.call("GET", "none")
    a.call("EXEC")
    b.read()


def nothing_in_transaction(a, b, c):
    a.call("MULTI")
    a.call("LPOP", "none")
    a.call("SREM", "none", "x")
    a.call("EXEC")


def hashes_and_sets(a, b, c):
    a.call("HSET", "h", "a", "1", "b", "2")
    a.call("HINCRBYFLOAT", "h", "a", "0.5")
    a.call("HINCRBY", "h", "b", "5")
    a.call("HSETNX", "h", "a", "no")
    a.call("HDEL", "h", "none")
    a.call("HDEL", "h", "a", "b")
    a.call("SADD", "s", "only")
    a.call("SADD", "s", "only")
    a.call("SPOP", "s")
    a.call("SADD", "s", "x", "y")
    a.call("SPOP", "s", "5")
    a.call("SADD", "s", "x", "y")
    a.call("SMOVE", "s", "t", "x")
    a.call("SMOVE", "s", "t", "none")
    a.call("SINTERSTORE", "u", "s", "t")
    a.call("SUNIONSTORE", "u", "s", "t")
    a.call("SINTERSTORE", "u", "s", "t")
    a.call("SRANDMEMBER", "t")


SCENARIOS = [blocking_lists, lists_at_once, a_chain_of_moves, transaction, nothing_in_transaction, hashes_and_sets]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_replicas_are_told_what_redis_tells_them(scenario, store_of):
    seen = {}
    for kind in ("redis", "vigie"):
        master = store_of(kind)()
        replica = store_of("redis")(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        seen[kind] = stream(master, replica, scenario)
    assert seen["vigie"] == seen["redis"]
