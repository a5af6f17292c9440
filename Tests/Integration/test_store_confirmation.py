"""`reply-after-replicas`: replies wait for replicas, and nobody sees what may still be lost.

The replica is frozen where a test needs writes that are not confirmed; thawed, it confirms them.
"""

import time

import pytest

from harness import wait_until

KINDS = ("vigie", "redis")
WRITE = b"-NOTCONFIRMED "
READ = b"-UNCONFIRMEDREAD "
# A read that has to wait is silent for so many seconds; one that need not is answered sooner.
SOON = 0.15


class Confirmed:
    """A master that waits for one replica, and the replica."""

    def __init__(self, store_of, kind, **options):
        options = {"reply_after_replicas": 1, "reply_after_replicas_timeout": 20_000, **options}
        self.master = store_of("vigie")(**options)
        self.replica = store_of(kind)(replicaof=("127.0.0.1", self.master.port)).wait_replica_online()
        wait_until(lambda: self.master.call("SET", "ready", "1") == b"OK", 10, "the replica confirming")
        self.freeze, self.thaw = self.replica.freeze, self.replica.thaw
        self.raw, self.call = self.master.raw, self.master.call

    def info(self, field):
        return int(self.master.info("replication")[field])


@pytest.fixture(params=KINDS)
def pair(request, store_of):
    return Confirmed(store_of, request.param)


@pytest.fixture
def ours(store_of):
    """With one of our own as the replica, where it makes no difference."""
    return Confirmed(store_of, "vigie")


def waits(client):
    return client.silent(SOON)


def test_a_write_waits_for_the_replica_and_others_do_not_see_it(pair):
    pair.call("SET", "other", "there")
    pair.call("SET", "key", "old")
    pair.freeze()
    with pair.raw() as writer, pair.raw() as reader, pair.raw() as bystander:
        writer.send("SET", "key", "new")
        assert waits(writer)
        reader.send("GET", "key")
        assert waits(reader)
        started = time.monotonic()
        assert bystander.call("GET", "other") == b"$5\r\nthere\r\n"
        assert bystander.call("GET", "missing") == b"$-1\r\n"
        assert bystander.call("PING") == b"+PONG\r\n"
        assert time.monotonic() - started < SOON
        assert (pair.info("replies_waiting"), pair.info("unconfirmed_keys")) == (2, 1)
        pair.thaw()
        assert writer.read() == b"+OK\r\n"
        assert reader.read() == b"$3\r\nnew\r\n"
    assert (pair.info("replies_waiting"), pair.info("unconfirmed_keys"), pair.info("replies_not_confirmed")) == (0, 0, 0)


def test_replies_of_a_connection_keep_their_order(ours):
    ours.call("SET", "other", "there")
    ours.freeze()
    with ours.raw() as client:
        words = [("SET", "a", "1"), ("GET", "other"), ("PING",), ("INCR", "n"), ("GET", "a"), ("WRONG",), ("MGET", "a", "other", "none")]
        for command in words:
            client.send(*command)
        assert waits(client)
        ours.thaw()
        assert client.read() == b"+OK\r\n"
        assert client.read() == b"$5\r\nthere\r\n"
        assert client.read() == b"+PONG\r\n"
        assert client.read() == b":1\r\n"
        assert client.read() == b"$1\r\n1\r\n"
        assert client.read().startswith(b"-ERR unknown command")
        assert client.read() == b"*3\r\n$1\r\n1\r\n$5\r\nthere\r\n$-1\r\n"


def test_what_is_answered_before_a_waiting_reply_leaves_at_once(ours):
    ours.freeze()
    with ours.raw() as client:
        client.send("PING")
        client.send("SET", "a", "1")
        client.send("PING", "after")
        assert client.read() == b"+PONG\r\n"
        assert waits(client)
        ours.thaw()
        assert client.read() == b"+OK\r\n"
        assert client.read() == b"$5\r\nafter\r\n"


def test_a_write_that_changes_nothing_waits_only_for_what_it_has_seen(ours):
    ours.call("SET", "old", "1")
    ours.freeze()
    with ours.raw() as writer, ours.raw() as client:
        assert client.call("SETNX", "old", "2") == b":0\r\n"
        assert client.call("DEL", "nothing") == b":0\r\n"
        assert client.call("INCRBY", "old", "x").startswith(b"-ERR")
        writer.send("SET", "new", "1")
        assert waits(writer)
        client.send("SETNX", "new", "2")
        assert waits(client)
        ours.thaw()
        assert client.read() == b":0\r\n"


READS = [
    # (what is written, the reads that see it, reads that do not)
    (("SET", "k", "v"), [("STRLEN", "k"), ("EXISTS", "x", "k"), ("TYPE", "k"), ("TTL", "k"), ("OBJECT", "ENCODING", "k"), ("DUMP", "k"),
                         ("MEMORY", "USAGE", "k"), ("GETRANGE", "k", 0, 1), ("TOUCH", "k"), ("SORT", "list", "BY", "w*", "GET", "k*")],
     [("GET", "other"), ("EXISTS", "x"), ("SORT", "list"), ("INFO", "keyspace"), ("LOLWUT",)]),
    (("SET", "k", "v"), [("DBSIZE",), ("KEYS", "*"), ("SCAN", 0), ("RANDOMKEY",), ("DEBUG", "DIGEST")], [("PUBSUB", "CHANNELS"), ("CLIENT", "ID")]),
    (("DEL", "other"), [("GET", "other"), ("EXISTS", "other"), ("TTL", "other"), ("DBSIZE",)], [("GET", "k")]),
    (("RENAME", "other", "moved"), [("EXISTS", "other"), ("GET", "moved")], [("LRANGE", "list", 0, -1)]),
    (("MOVE", "other", 1), [("EXISTS", "other"), ("MOVE", "none", 1)], [("LLEN", "list")]),
    (("COPY", "other", "copied"), [("GET", "copied")], [("GET", "other")]),
    (("EXPIRE", "other", 100), [("TTL", "other")], [("TTL", "list")]),
    (("SUNIONSTORE", "union", "set"), [("SMEMBERS", "union"), ("SINTERCARD", 2, "set", "union"), ("SUNION", "set", "union")],
     [("SMEMBERS", "set"), ("SINTERCARD", 1, "set")]),
    (("MSET", "a", 1, "b", 2), [("GET", "a"), ("MGET", "x", "b")], [("MGET", "x", "y")]),
    (("LPUSH", "list", 1), [("LLEN", "list"), ("LINDEX", "list", 0)], [("SCARD", "set")]),
    (("FLUSHDB",), [("GET", "other"), ("DBSIZE",), ("EXISTS", "never")], []),
    (("SWAPDB", 0, 1), [("GET", "other")], []),
    (("XADD", "events", "5-1", "f", "v"),
     [("XLEN", "events"), ("XRANGE", "events", "-", "+"), ("XREAD", "STREAMS", "events", "0"), ("XREAD", "COUNT", 5, "STREAMS", "log", "events", 0, 0),
      ("XINFO", "STREAM", "events"), ("XINFO", "GROUPS", "events"), ("XPENDING", "events", "readers")],
     [("XREAD", "COUNT", 5, "STREAMS", "log", 0), ("XLEN", "log"), ("XREAD", "STREAMS", "log", "log", "events", "0"), ("XREAD", "COUNT", 5)]),
    (("XREADGROUP", "GROUP", "readers", "c", "STREAMS", "log", ">"), [("XPENDING", "log", "readers"), ("XINFO", "CONSUMERS", "log", "readers")],
     [("XLEN", "events"), ("XREAD", "STREAMS", "events", 0)]),
    (("SPOP", "set"), [("SMEMBERS", "set"), ("SISMEMBER", "set", "a")], [("EXISTS", "list")]),
]


@pytest.mark.parametrize("write, seen, unseen", READS, ids=[f"{'-'.join(map(str, row[0]))[:20]}-{i}" for i, row in enumerate(READS)])
def test_what_sees_a_write_waits_for_it_and_nothing_else(store_of, write, seen, unseen):
    ours = Confirmed(store_of, "vigie", enable_debug_command="yes")
    ours.call("SET", "other", "there")
    ours.call("RPUSH", "list", "b", "c")
    ours.call("SADD", "set", "a", "b")
    for stream in ("events", "log"):
        ours.call("XADD", stream, "1-1", "f", "v")
        ours.call("XGROUP", "CREATE", stream, "readers", "0")
    ours.freeze()
    readers = [ours.raw() for _ in seen]
    with ours.raw() as writer, ours.raw() as bystander:
        writer.send(*write)
        assert waits(writer)
        for reader, command in zip(readers, seen):
            reader.send(*command)
        for reader, command in zip(readers, seen):
            assert reader.silent(0.03), f"{command} did not wait"
        for command in unseen:
            bystander.send(*command)
            assert bystander.read(timeout=1), f"{command} waited"
        ours.thaw()
        assert not writer.read().startswith(b"-")
        for reader, command in zip(readers, seen):
            assert not reader.read().startswith(READ), command
            reader.close()


def test_databases_are_told_apart(ours):
    with ours.raw() as there:
        there.call("SELECT", "3")
        there.call("SET", "same", "three")
        ours.freeze()
        with ours.raw() as writer, ours.raw() as here:
            writer.send("SET", "same", "zero")
            assert waits(writer)
            assert there.call("GET", "same") == b"$5\r\nthree\r\n"
            here.send("GET", "same")
            assert waits(here)
            ours.thaw()
            assert here.read() == b"$4\r\nzero\r\n"


def test_an_expired_key_needs_no_confirmation(ours):
    ours.call("SET", "short", "x", "PX", "120")
    ours.freeze()
    time.sleep(0.3)
    with ours.raw() as client:
        started = time.monotonic()
        assert client.call("GET", "short") == b"$-1\r\n"
        assert time.monotonic() - started < SOON
    ours.thaw()


def test_an_evicted_key_is_a_deletion_that_waits(ours):
    value = "x" * 10_000
    for i in range(300):
        ours.call("SET", f"key:{i}", value)
    ours.freeze()
    with ours.raw() as client:
        assert client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "2mb") == b"+OK\r\n"
        wait_until(lambda: ours.master.info("stats")["evicted_keys"] != "0", 5)
        client.send("DBSIZE")
        assert waits(client)
        ours.thaw()
        assert client.read() != b":301\r\n"


# Transactions

def test_a_transaction_waits_as_a_whole(ours):
    ours.call("SET", "old", "1")
    ours.freeze()
    with ours.raw() as client, ours.raw() as reader:
        for command in (("MULTI",), ("GET", "old"), ("SET", "new", "1"), ("PING",)):
            client.send(*command)
        for expected in (b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n"):
            assert client.read() == expected
        client.send("EXEC")
        assert waits(client)
        reader.send("MULTI")
        reader.send("GET", "old")
        reader.send("EXEC")
        assert [reader.read(timeout=1) for _ in range(3)] == [b"+OK\r\n", b"+QUEUED\r\n", b"*1\r\n$1\r\n1\r\n"]
        reader.send("MULTI")
        reader.send("GET", "new")
        reader.send("EXEC")
        assert [reader.read(timeout=1) for _ in range(2)] == [b"+OK\r\n", b"+QUEUED\r\n"]
        assert waits(reader)
        ours.thaw()
        assert client.read() == b"*3\r\n$1\r\n1\r\n+OK\r\n+PONG\r\n"
        assert reader.read() == b"*1\r\n$1\r\n1\r\n"


def test_a_transaction_in_another_database_is_told_apart(ours):
    ours.freeze()
    with ours.raw() as writer, ours.raw() as reader:
        writer.send("SET", "same", "1")
        assert waits(writer)
        for command in (("MULTI",), ("SELECT", "2"), ("GET", "same"), ("EXEC",)):
            reader.send(*command)
        assert [reader.read(timeout=1) for _ in range(4)][3] == b"*2\r\n+OK\r\n$-1\r\n"
        ours.thaw()


def test_a_failed_watch_shows_that_somebody_wrote(ours):
    with ours.raw() as client, ours.raw() as writer:
        client.call("WATCH", "key")
        ours.freeze()
        writer.send("SET", "key", "1")
        assert waits(writer)
        for command in (("MULTI",), ("PING",)):
            client.call(*command)
        client.send("EXEC")
        assert waits(client)
        ours.thaw()
        assert client.read() == b"*-1\r\n"


def test_discard_waits_for_nothing(ours):
    ours.freeze()
    with ours.raw() as writer, ours.raw() as client:
        writer.send("SET", "key", "1")
        assert waits(writer)
        for command in (("MULTI",), ("GET", "key"), ("SET", "key", "2"), ("DISCARD",)):
            client.send(*command)
        assert [client.read(timeout=1) for _ in range(4)] == [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b"+OK\r\n"]
        ours.thaw()


# Clients that wait for keys

def test_a_client_that_a_write_wakes_waits_with_it(pair):
    with pair.raw() as blocked, pair.raw() as pusher:
        blocked.send("BLPOP", "queue", "0")
        wait_until(lambda: "blocked_clients:1" in pair.call("INFO", "clients").decode(), 5)
        pair.freeze()
        pusher.send("RPUSH", "queue", "a", "b")
        assert waits(pusher) and blocked.silent(0.05)
        pair.thaw()
        assert blocked.read() == b"*2\r\n$5\r\nqueue\r\n$1\r\na\r\n"
        assert pusher.read() == b":2\r\n"


def test_a_reader_of_a_stream_that_a_write_wakes_waits_with_it(pair):
    pair.call("XGROUP", "CREATE", "events", "readers", "0", "MKSTREAM")
    with pair.raw() as reader, pair.raw() as member, pair.raw() as writer:
        reader.send("XREAD", "BLOCK", 0, "STREAMS", "events", "$")
        member.send("XREADGROUP", "GROUP", "readers", "one", "BLOCK", 0, "STREAMS", "events", ">")
        wait_until(lambda: "blocked_clients:2" in pair.call("INFO", "clients").decode(), 5)
        pair.freeze()
        writer.send("XADD", "events", "5-1", "f", "v")
        assert waits(writer) and reader.silent(0.05) and member.silent(0.05)
        pair.thaw()
        assert b"5-1" in reader.read() and b"5-1" in member.read()
        assert writer.read() == b"$3\r\n5-1\r\n"


def test_a_wait_that_ends_with_nothing_waits_for_who_took_it(ours):
    ours.call("RPUSH", "queue", "only")
    ours.freeze()
    with ours.raw() as taker, ours.raw() as blocked, ours.raw() as elsewhere:
        taker.send("LPOP", "queue")
        assert waits(taker)
        blocked.send("BLPOP", "queue", "0.1")
        elsewhere.send("BLPOP", "another", "0.1")
        assert elsewhere.read(timeout=2) == b"*-1\r\n"
        assert blocked.silent(0.3)
        ours.thaw()
        assert blocked.read() == b"*-1\r\n"


def test_a_migrated_key_is_gone_when_that_is_confirmed(ours, vigie_store):
    target = vigie_store()
    ours.call("SET", "k", "v")
    ours.freeze()
    with ours.raw() as client, ours.raw() as reader:
        client.send("MIGRATE", "127.0.0.1", target.port, "k", 0, 5000)
        wait_until(lambda: target.call("GET", "k") == b"v", 5)
        assert waits(client)
        reader.send("GET", "k")
        assert waits(reader)
        ours.thaw()
        assert client.read() == b"+OK\r\n"
        assert reader.read() == b"$-1\r\n"


def test_wait_still_works(pair):
    with pair.raw() as client:
        assert client.call("SET", "key", "1") == b"+OK\r\n"
        assert client.call("WAIT", "1", "1000") == b":1\r\n"
        pair.freeze()
        client.send("SET", "key", "2")
        client.send("WAIT", "1", "200")
        assert client.silent(0.4)
        pair.thaw()
        assert client.read() == b"+OK\r\n"
        assert client.read() == b":0\r\n"


# Messages

def subscriber(pair, *channels, resp3=False):
    client = pair.raw()
    if resp3:
        client.call("HELLO", "3")
    client.send("PSUBSCRIBE", *channels)
    for _ in channels:
        client.read()
    return client


def message(pattern, channel, text, kind=b"*"):
    words = [b"pmessage", pattern.encode(), channel.encode(), text.encode()]
    return kind + b"4\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def test_keyspace_messages_wait_in_order(ours):
    ours.call("CONFIG", "SET", "notify-keyspace-events", "KA")
    listener = subscriber(ours, "__key*", "free")
    ours.freeze()
    with ours.raw() as writer, ours.raw() as publisher:
        writer.send("SET", "k", "1")
        assert waits(writer)
        assert publisher.call("PUBLISH", "free", "after") == b":1\r\n"
        assert publisher.call("PUBLISH", "nobody", "x") == b":0\r\n"
        assert waits(listener), "a message that is confirmed waits behind one that is not"
        assert ours.info("messages_waiting") == 2
        other = subscriber(ours, "free")
        assert publisher.call("PUBLISH", "free", "again") == b":2\r\n"
        assert other.read(timeout=1) == message("free", "free", "again"), "another subscriber waits for nothing"
        ours.thaw()
        assert listener.read() == message("__key*", "__keyspace@0__:k", "set")
        assert listener.read() == message("free", "free", "after")
        assert listener.read() == message("free", "free", "again")
        assert writer.read() == b"+OK\r\n"


def test_what_a_client_says_behind_a_waiting_write_waits_too(ours):
    listener = subscriber(ours, "news")
    ours.freeze()
    with ours.raw() as writer:
        writer.send("SET", "k", "1")
        writer.send("PUBLISH", "news", "k is 1")
        assert waits(writer) and listener.silent(0.05)
        ours.thaw()
        assert writer.read() == b"+OK\r\n" and writer.read() == b":1\r\n"
        assert listener.read() == message("news", "news", "k is 1")


def test_who_has_unsubscribed_meanwhile_hears_nothing(ours):
    ours.call("CONFIG", "SET", "notify-keyspace-events", "KA")
    listener = subscriber(ours, "__key*")
    ours.freeze()
    with ours.raw() as writer:
        writer.send("SET", "k", "1")
        assert waits(writer)
        assert listener.call("PUNSUBSCRIBE") == b"*3\r\n$12\r\npunsubscribe\r\n$6\r\n__key*\r\n:0\r\n"
        ours.thaw()
        assert writer.read() == b"+OK\r\n"
        assert listener.call("PING") == b"+PONG\r\n"


def test_a_monitor_sees_no_value_before_it_is_confirmed(ours):
    with ours.raw() as monitor, ours.raw() as writer:
        assert monitor.call("MONITOR") == b"+OK\r\n"
        ours.freeze()
        writer.send("SET", "k", "secret")
        assert waits(writer) and monitor.silent(0.05)
        ours.thaw()
        assert b'"SET" "k" "secret"' in monitor.read()


def test_pushes_survive_a_reply_that_becomes_an_error(ours):
    ours.call("CONFIG", "SET", "reply-after-replicas-timeout", "300")
    client = subscriber(ours, "news", resp3=True)
    ours.freeze()
    with ours.raw() as publisher:
        client.send("SET", "k", "1")
        client.send("PING")
        assert client.silent(0.05)
        publisher.call("PUBLISH", "news", "hello")
        client.send("SET", "k2", "1")
        client.send("PING")
        assert client.read().startswith(WRITE)
        assert client.read() == b"+PONG\r\n"
        assert client.read() == message("news", "news", "hello", b">")
        assert client.read().startswith(WRITE)
        assert client.read() == b"+PONG\r\n"
    ours.thaw()


# Ends

def test_time_outs_replace_the_replies_and_nothing_else(pair):
    pair.call("SET", "other", "there")
    pair.call("CONFIG", "SET", "reply-after-replicas-timeout", "300")
    pair.freeze()
    with pair.raw() as writer, pair.raw() as reader:
        started = time.monotonic()
        for command in (("SET", "k", "unseen"), ("GET", "other"), ("GET", "k"), ("MULTI",), ("GET", "k"), ("INCR", "n"), ("EXEC",), ("PING",)):
            writer.send(*command)
        reader.send("GET", "k")
        assert writer.read().startswith(WRITE + b"The write was applied here, but 1 replica did not confirm it within 300 ms")
        assert 0.28 < time.monotonic() - started < 0.6
        assert writer.read() == b"$5\r\nthere\r\n"
        assert writer.read().startswith(READ)
        assert [writer.read() for _ in range(3)] == [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n"]
        assert writer.read().startswith(WRITE)
        assert writer.read() == b"+PONG\r\n"
        assert reader.read().startswith(READ)
        assert b"unseen" not in bytes(reader._buffer) + bytes(writer._buffer)
        # It was applied, and is still not shown.
        reader.send("GET", "k")
        assert reader.read().startswith(READ)
        assert int(pair.master.info("replication")["replies_not_confirmed"]) == 5
        assert pair.master.info("errorstats")["errorstat_NOTCONFIRMED"] == "count=2"
        pair.thaw()
        wait_until(lambda: pair.call("GET", "k") == b"unseen", 10)
        assert pair.replica.call("GET", "k") == b"unseen"
        assert writer.call("SET", "k", "seen") == b"+OK\r\n"


def test_a_large_reply_is_replaced_whole(ours):
    ours.call("CONFIG", "SET", "reply-after-replicas-timeout", "300")
    value = "v" * 300_000
    ours.call("RPUSH", "list", *[value] * 3)
    ours.freeze()
    with ours.raw() as client:
        client.send("RPUSH", "list", "x")
        client.send("LRANGE", "list", 0, -1)
        client.send("PING")
        assert client.read().startswith(WRITE)
        assert client.read().startswith(READ)
        assert client.read() == b"+PONG\r\n"
    ours.thaw()


def test_without_replicas_a_write_is_applied_and_times_out(store_of):
    master = store_of("vigie")(reply_after_replicas=2, reply_after_replicas_timeout=200)
    with master.raw() as client:
        assert client.call("SET", "k", "1").startswith(WRITE + b"The write was applied here, but 2 replicas did not confirm it within 200 ms")
        assert client.call("GET", "other") == b"$-1\r\n"
        replica = store_of("vigie")(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        assert client.call("GET", "k").startswith(READ), "one of two is not enough"
        another = store_of("redis")(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        wait_until(lambda: client.call("SET", "k", "2") == b"+OK\r\n", 10)
        assert (replica.call("GET", "k"), another.call("GET", "k")) == (b"2", b"2")
        another.freeze()
        assert client.call("SET", "k", "3").startswith(WRITE)
        client.call("CONFIG", "SET", "reply-after-replicas", "1")
        assert client.call("SET", "k", "4") == b"+OK\r\n"
        another.thaw()


def test_offsets_go_on_without_a_backlog(store_of):
    """What replies wait for is counted on when the backlog has been let go of."""
    master = store_of("vigie")(reply_after_replicas=1, reply_after_replicas_timeout=200, repl_backlog_ttl=1)
    with master.raw() as client:
        assert client.call("SET", "k", "1").startswith(WRITE)
        wait_until(lambda: "Replication backlog freed after 1 seconds" in master.log_text(), 10)
        assert client.call("SET", "k", "2").startswith(WRITE)
        assert client.call("GET", "k").startswith(READ)
        replica = store_of("redis")(replicaof=("127.0.0.1", master.port)).wait_replica_online()
        wait_until(lambda: client.call("SET", "k", "3") == b"+OK\r\n", 10)
        assert client.call("GET", "k") == b"$1\r\n3\r\n" and replica.call("GET", "k") == b"3"


def test_a_demoted_master_tells_those_who_wait(ours):
    other = ours.replica
    ours.call("SET", "k", "old")
    ours.call("CONFIG", "SET", "notify-keyspace-events", "KA")
    listener = subscriber(ours, "__key*")
    ours.freeze()
    with ours.raw() as writer, ours.raw() as reader, ours.raw() as admin:
        writer.send("SET", "k", "new")
        writer.send("PING")
        assert waits(writer)
        reader.send("GET", "k")
        assert waits(reader)
        assert admin.call("REPLICAOF", "127.0.0.1", other.port) == b"+OK\r\n"
        assert writer.read().startswith(WRITE + b"The write was applied here, but this server became a replica before 1 replica confirmed it")
        assert writer.read() == b"+PONG\r\n"
        assert reader.read().startswith(READ)
        assert writer.call("SET", "k", "again").startswith(b"-READONLY")
        # Nor is it shown now, until the new master's data is here: it still has to be fetched, and that master is frozen.
        for command in (("GET", "k"), ("DBSIZE",), ("MGET", "other", "k")):
            assert reader.call(*command).startswith(READ), command
        assert reader.call("GET", "other") == b"$-1\r\n"
        assert reader.call("MULTI") + reader.call("GET", "k") == b"+OK\r\n+QUEUED\r\n"
        assert reader.call("EXEC").startswith(READ)
        assert listener.silent(0.1), "nobody hears of a write that may be lost"
        ours.thaw()
        other.call("REPLICAOF", "NO", "ONE")
        wait_until(lambda: reader.call("GET", "k") in (b"$3\r\nold\r\n", b"$3\r\nnew\r\n"), 15)
        assert ours.master.call("GET", "k") == other.call("GET", "k")
        assert ours.master.call("DBSIZE") == other.call("DBSIZE")


def test_a_transaction_that_demotes_the_master_does_not_leave_its_write_visible(ours):
    ours.call("SET", "k", "old")
    with ours.raw() as client, ours.raw() as reader:
        ours.freeze()
        for words in (("MULTI",), ("SET", "k", "new"), ("REPLICAOF", "127.0.0.1", ours.replica.port)):
            client.call(*words)
        assert client.call("EXEC").startswith(WRITE)
        assert reader.call("GET", "k").startswith(READ)
        assert reader.call("GET", "other") == b"$-1\r\n"
        ours.thaw()


def test_switching_it_off_lets_everything_out(ours):
    ours.call("CONFIG", "SET", "notify-keyspace-events", "KA")
    listener = subscriber(ours, "__key*")
    ours.freeze()
    with ours.raw() as writer, ours.raw() as reader:
        writer.send("SET", "k", "new")
        assert waits(writer)
        reader.send("GET", "k")
        assert waits(reader)
        assert ours.call("CONFIG", "SET", "reply-after-replicas", "0") == b"OK"
        assert writer.read() == b"+OK\r\n" and reader.read() == b"$3\r\nnew\r\n"
        assert listener.read() == message("__key*", "__keyspace@0__:k", "set")
        assert writer.call("SET", "k", "more") == b"+OK\r\n"
    ours.thaw()


def test_shutdown_tells_those_who_wait(ours):
    ours.freeze()
    with ours.raw() as writer:
        writer.send("SET", "k", "new")
        assert waits(writer)
        with ours.raw() as admin:
            admin.send("SHUTDOWN", "NOSAVE", "NOW")
            assert writer.read().startswith(WRITE + b"The write was applied here, but this server is shutting down")
            assert writer.closed()
    ours.thaw()


def test_quit_waits_behind_a_write_and_a_killed_client_does_not(ours):
    ours.freeze()
    with ours.raw() as quitting, ours.raw() as killed, ours.raw() as admin:
        number = killed.value("CLIENT", "ID")
        killed.send("SET", "k", "1")
        quitting.send("SET", "k", "2")
        quitting.send("QUIT")
        assert waits(quitting) and killed.silent(0.05)
        assert admin.value("CLIENT", "KILL", "ID", number) == 1
        assert killed.closed(timeout=1)
        wait_until(lambda: ours.info("replies_waiting") == 1, 2)
        ours.thaw()
        assert quitting.read() == b"+OK\r\n" and quitting.read() == b"+OK\r\n"
        assert quitting.closed(timeout=1)


def test_a_client_that_wants_no_replies_waits_for_none(ours):
    ours.freeze()
    with ours.raw() as client, ours.raw() as reader:
        client.send("CLIENT", "REPLY", "OFF")
        for i in range(100):
            client.send("SET", "k", i)
        client.send("CLIENT", "REPLY", "ON")
        assert client.read(timeout=1) == b"+OK\r\n"
        client.send("CLIENT", "REPLY", "SKIP")
        client.send("SET", "k2", "1")
        client.send("PING")
        assert client.read(timeout=1) == b"+PONG\r\n"
        reader.send("GET", "k")
        assert waits(reader)
        ours.thaw()
        assert reader.read() == b"$2\r\n99\r\n"


def test_what_is_held_counts_against_the_output_limit(ours):
    ours.call("CONFIG", "SET", "client-output-buffer-limit", "normal 2mb 0 0 pubsub 1mb 0 0", "notify-keyspace-events", "KA")
    ours.call("SET", "large", "x" * 300_000)
    listener = subscriber(ours, "__key*", "free")
    ours.freeze()
    with ours.raw() as client, ours.raw() as writer:
        client.send("SET", "k", "1")
        for _ in range(20):
            client.send("GET", "large")
        assert client.closed(timeout=5)
        writer.send("SET", "k", "1")
        for _ in range(20):
            writer.send("PUBLISH", "free", "x" * 100_000)
        assert listener.closed(timeout=5)
    ours.thaw()


def test_a_client_with_very_many_waiting_replies_is_served_in_turns(ours):
    """More than 65536 of them: it is not read from until half have left, and nothing is lost or reordered."""
    number = 150_000
    ours.freeze()
    with ours.raw(timeout=30) as client:
        client.socket.settimeout(30)
        request = b"".join(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" for _ in range(1000))
        for _ in range(number // 1000):
            client.send_raw(request)
        wait_until(lambda: ours.info("replies_waiting") > 60_000, 10)
        time.sleep(0.3)
        assert ours.info("replies_waiting") < 70_000
        assert ours.call("GET", "elsewhere") is None, "everybody else is served"
        ours.thaw()
        for i in range(number):
            assert client.read() == b":%d\r\n" % (i + 1)


# Settings

def test_configuration_is_set_read_and_rewritten(store_of, tmp_path):
    file = tmp_path / "redis.conf"
    file.write_text("reply-after-replicas 2\nreply-after-replicas-timeout 250\n")
    master = store_of("vigie")(str(file))
    assert master.call("CONFIG", "GET", "reply-after-replicas*") == [b"reply-after-replicas", b"2", b"reply-after-replicas-timeout", b"250"]
    assert master.info("replication")["reply_after_replicas"] == "2"
    assert "must be between 0 and" in master.call("CONFIG", "SET", "reply-after-replicas", "-1")
    assert master.call("CONFIG", "SET", "reply-after-replicas", "0", "reply-after-replicas-timeout", "700") == b"OK"
    assert "reply_after_replicas" not in master.info("replication")
    assert master.call("SET", "k", "1") == b"OK"
    assert master.call("CONFIG", "REWRITE") == b"OK"
    lines = file.read_text().splitlines()
    assert "reply-after-replicas-timeout 700" in lines
    assert not any(line.startswith("reply-after-replicas 2") for line in lines)


def test_a_time_out_of_zero_waits_as_long_as_it_takes(ours):
    ours.call("CONFIG", "SET", "reply-after-replicas-timeout", "100")
    ours.freeze()
    with ours.raw() as writer:
        assert writer.call("SET", "k", "1").startswith(WRITE)
        ours.call("CONFIG", "SET", "reply-after-replicas-timeout", "0")
        writer.send("SET", "k", "2")
        assert writer.silent(0.5)
        # A shorter time holds for those who wait already.
        ours.call("CONFIG", "SET", "reply-after-replicas-timeout", "200")
        assert writer.read(timeout=1).startswith(WRITE)
    ours.thaw()


def test_a_promoted_replica_waits_for_its_own_replicas(store_of):
    one = store_of("vigie")(reply_after_replicas=1, reply_after_replicas_timeout=300)
    two = store_of("vigie")(reply_after_replicas=1, reply_after_replicas_timeout=300, replicaof=("127.0.0.1", one.port)).wait_replica_online()
    wait_until(lambda: one.call("SET", "k", "1") == b"OK", 10)
    one.kill()
    assert two.call("REPLICAOF", "NO", "ONE") == b"OK"
    assert two.call("GET", "k") == b"1", "what it had as a replica counts as confirmed"
    assert two.call("SET", "k", "2").startswith("NOTCONFIRMED")
    store_of("redis")(replicaof=("127.0.0.1", two.port)).wait_replica_online()
    wait_until(lambda: two.call("SET", "k", "3") == b"OK", 10)


@pytest.mark.parametrize("kind", KINDS)
def test_it_combines_with_fsync_before_replies(store_of, kind):
    pair = Confirmed(store_of, kind, appendonly="yes", appendfsync="always")
    with pair.raw() as client, pair.raw() as other:
        for i in range(200):
            assert client.call("SET", f"k{i}", i) == b"+OK\r\n"
        pair.freeze()
        client.send("SET", "k", "1")
        assert waits(client)
        assert other.call("GET", "k1") == b"$1\r\n1\r\n"
        for i in range(50):
            client.send("INCR", "n")
        pair.thaw()
        assert client.read() == b"+OK\r\n"
        assert [client.read() for _ in range(50)] == [b":%d\r\n" % (i + 1) for i in range(50)]
    assert pair.replica.call("GET", "n") == b"50"
