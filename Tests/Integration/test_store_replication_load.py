"""Masters and replicas, real and ours, under random writes of every family: the data sets agree at the end.

Longer by hand: REPLICATION_LOAD_EPISODES=500 python3 -m pytest test_store_replication_load.py
"""

import os
import time

import pytest

from differential.episodes import make_session, make_stream
from differential.families import FAMILIES
from differential.wire import Gone, Side
from harness import PlayedReplica, wait_until

EPISODES = int(os.environ.get("REPLICATION_LOAD_EPISODES", 60))
CHAINS = [("vigie", "vigie"), ("vigie", "redis"), ("redis", "vigie"), ("vigie", "redis", "vigie"), ("redis", "vigie", "redis"),
          ("vigie", "vigie", "redis")]
# Both write sets as 7.0 has them: DEBUG DIGEST does not look at encodings, RESTORE of a dump does.
OPTIONS = {"enable_debug_command": "yes", "set_max_listpack_entries": 0, "notify_keyspace_events": ""}
# What ends connections or stops the server, and what never comes back.
SKIPPED = {b"DEBUG", b"CONFIG", b"CLIENT", b"SHUTDOWN", b"MONITOR", b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"RESET", b"QUIT",
           b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BLMPOP", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP", b"WAIT", b"HELLO", b"AUTH",
           b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE", b"REPLICAOF", b"SLAVEOF", b"LATENCY", b"MIGRATE", b"BGSAVE", b"SAVE"}


def started(store_of, kinds):
    servers = []
    for kind in kinds:
        options = dict(OPTIONS)
        if kind == "redis":
            del options["set_max_listpack_entries"]
        if servers:
            options["replicaof"] = ("127.0.0.1", servers[-1].port)
        servers.append(store_of(kind)(**options))
        if len(servers) > 1:
            servers[-1].wait_replica_online()
    return servers


def in_step(servers, timeout=20):
    """Waits until the last of the chain has what the first has."""
    first = servers[0]
    for server in servers[1:]:
        wait_until(lambda: server.info("replication")["slave_repl_offset"] == first.info("replication")["master_repl_offset"],
                   timeout, "the replica at the master's offset", every=0.01)


def agree(servers, episode):
    in_step(servers)
    digests = [server.call("DEBUG", "DIGEST") for server in servers]
    assert len(set(digests)) == 1, f"{episode.name}: {digests}"


def play_stream(side, episode):
    side.close_all()
    side.open("a", 2)
    pending = []
    for block in episode.blocks:
        pending += [side.encoded(op.words) for op in block.ops if not op.action and op.words and op.words[0].upper() not in SKIPPED]
        if len(pending) > 50:
            send(side, pending)
    send(side, pending)
    side.close_all()


def send(side, pending):
    # A transaction whose end was left out would keep the mark for itself.
    mark = side.begin("a", pending + [side.encoded(["DISCARD"])])
    side.finish("a", mark)
    pending.clear()


@pytest.mark.parametrize("kinds", CHAINS, ids=["-".join(chain) for chain in CHAINS])
def test_random_writes_end_as_the_same_data(store_of, kinds):
    servers = started(store_of, kinds)
    side = Side("master", servers[0].port)
    names = list(FAMILIES)
    for seed in range(EPISODES):
        episode = make_stream(seed + 7000, names)
        side.ask("FLUSHALL")
        play_stream(side, episode)
        agree(servers, episode)
    side.end()


@pytest.mark.parametrize("kinds", CHAINS[:3], ids=["-".join(chain) for chain in CHAINS[:3]])
def test_blocking_and_transactions_of_many_connections_end_as_the_same_data(store_of, kinds):
    servers = started(store_of, kinds)
    side = Side("master", servers[0].port)
    for seed in range(EPISODES):
        episode = make_session(seed + 7000)
        side.close_all()
        side.ask("FLUSHALL")
        for name, protocol in episode.protocols.items():
            side.open(name, protocol)
        for block in episode.blocks:
            for op in block.ops:
                if not op.words or op.words[0].upper() in SKIPPED - {b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BLMPOP", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP"}:
                    continue
                try:
                    side.send(op.connection, side.encoded(op.words))
                except Gone:
                    side.open(op.connection, 2)
            side.settle()
            side.heard()
        side.close_all()
        agree(servers, episode)
    side.end()


# -- effects, in Redis's own forms

STEPS = [
    ("SADD t a b c d e f g", "SPOP t"), ("", "SPOP t 2"), ("SADD one x", "SPOP one"), ("", "SPOP t 100"),
    ("", "SET k v EX 100"), ("", "SET k v PX 100000"), ("", "SET k v EXAT 4000000000"), ("", "SET k v KEEPTTL"), ("", "SETEX k 100 v"),
    ("", "PSETEX k 100000 v"), ("", "EXPIRE k 100"), ("", "PEXPIRE k 100000"), ("", "EXPIREAT k 4000000000"), ("", "EXPIRE k -1"),
    ("SET k v", "GETEX k EX 100"), ("", "GETEX k PERSIST"), ("", "GETEX k"), ("", "GETDEL k"), ("SET f 1", "INCRBYFLOAT f 0.1"),
    ("HSET h f 1", "HINCRBYFLOAT h f 0.1"), ("", "SET n 1 NX"), ("", "SET n 1 NX"), ("", "SET n 2 XX GET"), ("", "SETRANGE n 0 xyz"),
    ("ZADD z 1 a 2 b", "ZADD z INCR 5 a"), ("", "ZADD z NX 1 a"), ("", "ZINCRBY z 0.1 a"), ("", "ZPOPMIN z"), ("", "ZPOPMAX z 5"),
    ("RPUSH l 1 2 3 4", "LMOVE l m LEFT RIGHT"), ("", "RPOPLPUSH l m"), ("", "LMPOP 2 none l LEFT COUNT 2"), ("", "BLPOP m 1"),
    ("RPUSH m 1 2 3", "BLMOVE m l LEFT LEFT 1"), ("", "BRPOPLPUSH m l 1"), ("", "BLMPOP 1 1 m LEFT"), ("ZADD z 1 a 2 b 3 c", "BZPOPMIN z 1"),
    ("", "BZMPOP 1 1 z MAX COUNT 2"), ("", "SORT l STORE sorted"), ("SADD s 3 1 2", "SORT s STORE sorted"), ("", "SUNIONSTORE u s s"),
    ("", "SINTERSTORE u none s"), ("", "DEL none"), ("", "UNLINK s"), ("", "RENAME u w"), ("", "COPY sorted copied"), ("", "MOVE sorted 1"),
    ("", "PERSIST k"), ("", "APPEND n q"), ("", "MSETNX a 1 b 2"), ("", "MSETNX a 1 b 2"), ("", "HSETNX h f 5"), ("", "HDEL h f"),
    ("", "LTRIM l 0 0"), ("", "LREM l 0 nothing"), ("", "FLUSHDB"), ("SET c 1", "GETSET c 2"), ("", "SMOVE t u x"), ("", "SWAPDB 0 1"), ("", "FLUSHALL"), ("", "RESTORE r 100000 {dump}"),
]


def stream_of(server):
    """What a replica is sent from now on, as lists of words."""
    replica = PlayedReplica(server.port)
    replica.synchronise()
    # A Redis listens to the first acknowledgement that comes after it has reaped the snapshot's child.
    wait_until(lambda: replica.acknowledge() or "state=online" in server.info("replication").get("slave0", ""), 10)
    return replica


def sent(server, replica):
    """The commands that have come, without pings."""
    end = int(server.info("replication")["master_repl_offset"])
    data = replica.take(end - replica.offset) if end > replica.offset else b""
    replica.offset = end
    commands, position = [], 0
    while position < len(data):
        count = int(data[position + 1:data.index(b"\r\n", position)])
        position = data.index(b"\r\n", position) + 2
        words = []
        for _ in range(count):
            size = int(data[position + 1:data.index(b"\r\n", position)])
            position = data.index(b"\r\n", position) + 2
            words.append(data[position:position + size])
            position += size + 2
        if words[0].upper() not in (b"PING", b"REPLCONF"):
            commands.append(words)
    return commands


def loosened(commands):
    """Moments rounded, so that two servers may differ by some seconds; names in capitals, for Redis passes on what clients wrote."""
    result = []
    for words in commands:
        result.append([words[0].upper()] + [
            b"in %d s" % (round(int(word) / 10_000 - time.time() / 10) * 10) if word.isdigit() and len(word) == 13 and abs(int(word) / 1000 - time.time()) < 1000 else word
            for word in words[1:]])
    return result


def test_what_is_passed_on_has_the_form_that_redis_gives_it(vigie_store, redis_server):
    seen = []
    for server in (vigie_store(), redis_server()):
        replica, passed = stream_of(server), []
        with server.raw() as client:
            client.call("SET", "source", "dumped")
            dump = client.value("DUMP", "source")
            for before, words in STEPS:
                if before:
                    client.call(*before.split())
                sent(server, replica)
                client.call(*(dump if word == "{dump}" else word for word in words.split()))
                passed.append((words, loosened(sent(server, replica))))
            # Transactions as units, and only if they change something.
            for body in (["SET a 1", "SET b 2"], ["GET a"], ["SET a 1"], ["SELECT 2", "SET a 1"], ["EXPIRE a 0", "SPOP none"]):
                client.call("MULTI")
                for words in body:
                    client.call(*words.split())
                client.call("EXEC")
                passed.append((body, loosened(sent(server, replica))))
            client.call("SELECT", 0)
            # Expiry: when it is met, and by itself.
            client.call("SET", "short", "x", "PX", "30")
            sent(server, replica)
            wait_until(lambda: client.value("EXISTS", "short") == 0, 5)
            passed.append(("expiry", loosened(sent(server, replica))))
            with server.raw() as waiting:
                waiting.send("BLPOP", "queue", 0)
                wait_until(lambda: server.info("clients")["blocked_clients"] == "1", 5)
                client.call("RPUSH", "queue", "a", "b")
                waiting.read()
                passed.append(("blocked", loosened(sent(server, replica))))
                waiting.send("BLMOVE", "queue2", "other", "LEFT", "RIGHT", 0)
                wait_until(lambda: server.info("clients")["blocked_clients"] == "1", 5)
                client.call("RPUSH", "queue2", "a")
                waiting.read()
                passed.append(("blocked move", loosened(sent(server, replica))))
        replica.close()
        seen.append(passed)
    different = [(ours, real) for ours, real in zip(*seen) if ours != real and not random_member(ours, real) and str(ours[0]) not in OTHER_FORMS]
    assert not different, "\n".join(f"{ours[0]}\n  ours {ours[1]}\n  real {real[1]}" for ours, real in different)


# What has another form, and the same effect.
OTHER_FORMS = {
    "SPOP t 2": "7.2 removes many with one SREM, 7.0 with a transaction of many",
    "SET n 2 XX GET": "without XX: the key was there",
    "RESTORE r 100000 {dump}": "with REPLACE: the key was not there",
    "['SET a 1']": "a transaction of one change is a transaction here too",
    "['SELECT 2', 'SET a 1']": "a transaction of one change is a transaction here too",
    "['EXPIRE a 0', 'SPOP none']": "a transaction of one change is a transaction here too",
    "blocked move": "LEFT and RIGHT in capitals",
}


def random_member(ours, real):
    """SPOP takes any: as many words of the same command."""
    if not str(ours[0]).startswith("SPOP"):
        return False
    return [(c[:2], len(c)) for c in ours[1]] == [(c[:2], len(c)) for c in real[1]]
