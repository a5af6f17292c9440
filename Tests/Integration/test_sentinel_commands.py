"""What our Sentinel answers, beside redis-sentinel on the same master; events; clients."""

import threading

import pytest
import redis
from redis.sentinel import Sentinel as RedisPySentinel

from harness import PASSWORD, wait_until

# Asked of both; the replies must be the same to the byte.
SAME = """
SENTINEL
SENTINEL foo
SENTINEL MASTERS x
SENTINEL MASTER nope
SENTINEL REPLICAS nope
SENTINEL SENTINELS nope
SENTINEL GET-MASTER-ADDR-BY-NAME mymaster
SENTINEL GET-MASTER-ADDR-BY-NAME nope
SENTINEL CKQUORUM mymaster
SENTINEL CKQUORUM nope
SENTINEL FAILOVER nope
SENTINEL RESET nope*
SENTINEL MONITOR mymaster 127.0.0.1 1 1
SENTINEL MONITOR b host 1 1
SENTINEL MONITOR b 127.0.0.1 x 1
SENTINEL MONITOR b 127.0.0.1 99999 1
SENTINEL MONITOR b 127.0.0.1 17001 0
SENTINEL REMOVE nope
SENTINEL SET mymaster foo bar
SENTINEL SET mymaster down-after-milliseconds x
SENTINEL SET mymaster quorum
SENTINEL SET nope quorum 1
SENTINEL SET mymaster quorum 2
SENTINEL SET mymaster notification-script /x
SENTINEL PENDING-SCRIPTS
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 x 0 *
SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1
SENTINEL FLUSHCONFIG
SENTINEL INFO-CACHE nope
PUBLISH foo bar
PUBLISH __sentinel__:hello
GET a
SUBSCRIBE
SELECT 0
MULTI
AUTH a b
AUTH wrong
AUTH
HELLO 4
HELLO x
PING
PING a
PING a b
ROLE
CLIENT GETNAME
CLIENT SETNAME x
CLIENT SETNAME
CLIENT foo
TIME
ECHO a
ACL WHOAMI
""".strip().splitlines()


@pytest.fixture
def pair(quorum):
    return quorum(sentinels=("vigie", "redis")).wait_discovered()


def test_replies_are_those_of_redis_sentinel(pair):
    ours, real = pair.sentinels
    different = []
    for line in SAME:
        with ours.raw() as a, real.raw() as b:
            replies = a.call(*line.split()), b.call(*line.split())
        if replies[0] != replies[1]:
            different.append((line, *replies))
    assert not different


def test_fields_have_the_same_names_in_the_same_order(pair):
    ours, real = pair.sentinels
    for words in (["MASTERS"], ["REPLICAS", "mymaster"], ["SLAVES", "mymaster"], ["SENTINELS", "mymaster"]):
        for mine, theirs in zip(ours.rows(*words), real.rows(*words), strict=True):
            assert list(mine) == list(theirs), words
            if words[0] == "MASTERS":
                same = ["name", "ip", "port", "runid", "flags", "down-after-milliseconds", "role-reported", "config-epoch",
                        "num-slaves", "num-other-sentinels", "quorum", "failover-timeout", "parallel-syncs"]
                assert [mine[name] for name in same] == [theirs[name] for name in same]
    mine, theirs = (sorted(s.rows("REPLICAS", "mymaster"), key=lambda row: row["name"]) for s in pair.sentinels)
    for a, b in zip(mine, theirs, strict=True):
        for name in ("name", "runid", "flags", "master-link-status", "master-host", "master-port", "slave-priority"):
            assert a[name] == b[name]
    assert ours.rows("SENTINELS", "mymaster")[0]["name"] == real.call("SENTINEL", "MYID").decode()


def test_resp3_gives_maps(pair):
    for sentinel in pair.sentinels:
        with sentinel.raw() as client:
            assert client.call("HELLO", "3").startswith(b"%")
            assert client.call("SENTINEL", "MASTERS").startswith(b"*1\r\n%")
            assert client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "nope") == b"_\r\n"


def test_the_articles_operator_commands(quorum, vigie_sentinel):
    """redis-cli with -a, whether the Sentinel has a password or not."""
    q = quorum(sentinels=("vigie",), quorum=1).wait_discovered()
    with_password = vigie_sentinel("requirepass geheim\n" + q.configuration, password="geheim")
    wait_until(lambda: len(with_password.rows("REPLICAS", "mymaster")) == 2, 15)
    for sentinel, password in ((q.sentinels[0], PASSWORD), (with_password, "geheim")):
        def cli(*words):
            sentinel.password = password
            try:
                return sentinel.cli(*words)
            finally:
                sentinel.password = "geheim" if sentinel is with_password else None
        assert "mymaster" in cli("sentinel", "masters").split()
        assert cli("sentinel", "master", "mymaster").split()[:2] == ["name", "mymaster"]
        assert cli("sentinel", "slaves", "mymaster").split().count("runid") == 2
        cli("sentinel", "sentinels", "mymaster")
    with_password.password = None
    assert with_password.call("SENTINEL", "MASTERS") == "NOAUTH Authentication required."


def test_sentinels_with_a_password_find_each_other(redis_server, sentinel_of):
    master = redis_server(password=PASSWORD)
    file = (f"requirepass geheim\nsentinel monitor mymaster 127.0.0.1 {master.port} 2\n"
            f"sentinel auth-pass mymaster {PASSWORD}\n")
    sentinels = [sentinel_of(kind)(file, password="geheim") for kind in ("vigie", "redis", "vigie")]
    for sentinel in sentinels:
        wait_until(lambda: [row["flags"] for row in sentinel.rows("SENTINELS", "mymaster")] == ["sentinel"] * 2, 20)
        wait_until(lambda: all(int(row["last-ok-ping-reply"]) < 2000 for row in sentinel.rows("SENTINELS", "mymaster")), 10)


def test_redis_pys_sentinel_client_follows_a_failover(quorum):
    q = quorum().wait_discovered()
    client = RedisPySentinel([("127.0.0.1", s.port) for s in q.sentinels], socket_timeout=1, password=PASSWORD)
    assert client.discover_master("mymaster") == ("127.0.0.1", q.old_port)
    assert len(client.discover_slaves("mymaster")) == 2
    master = client.master_for("mymaster", redis_class=redis.Redis, socket_timeout=1)
    assert master.set("a", 1)
    q.stores[0].kill()
    wait_until(lambda: master.set("a", 2), 15, "writing again through the client")


def test_events_are_those_of_redis_sentinel(quorum):
    """The leader publishes what a real leader publishes, in that order."""
    q = quorum(sentinels=("vigie", "redis", "redis")).wait_discovered()
    heard = []
    pubsub = q.sentinels[0].client(socket_timeout=None).pubsub()
    pubsub.psubscribe("*")
    def listen():
        try:
            for message in pubsub.listen():
                if message["type"] == "pmessage":
                    heard.append((message["channel"].decode(), message["data"].decode()))
        except (redis.RedisError, OSError, ValueError):
            pass
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    wait_until(lambda: q.sentinels[0].call("SENTINEL", "FAILOVER", "mymaster") == b"OK", 15, every=0.3)
    heir = q.wait_switched()
    q.wait_following(heir)
    wait_until(lambda: any(channel == "+convert-to-slave" or channel == "+switch-master" for channel, _ in heard), 10)
    wait_until(lambda: [c for c, _ in heard].count("+slave") == 2, 10)
    old, new = q.old_port, heir.port
    other = next(s.port for s in q.stores if s.port not in (old, new))
    master = f"master mymaster 127.0.0.1 {old}"
    def slave(port, of):
        return f"slave 127.0.0.1:{port} 127.0.0.1 {port} @ mymaster 127.0.0.1 {of}"
    expected = [
        ("+new-epoch", "1"), ("+try-failover", master), ("+elected-leader", master),
        ("+failover-state-select-slave", master), ("+selected-slave", slave(new, old)),
        ("+failover-state-send-slaveof-noone", slave(new, old)), ("+failover-state-wait-promotion", slave(new, old)),
        ("-role-change", slave(new, old) + " new reported role is master"), ("+promoted-slave", slave(new, old)),
        ("+failover-state-reconf-slaves", master), ("+slave-reconf-sent", slave(other, old)),
        ("+slave-reconf-inprog", slave(other, old)), ("+slave-reconf-done", slave(other, old)), ("+failover-end", master),
        ("+switch-master", f"mymaster 127.0.0.1 {old} 127.0.0.1 {new}"),
        ("+slave", slave(other, new)), ("+slave", slave(old, new)),
    ]
    names = {name for name, _ in expected}
    assert [event for event in heard if event[0] in names][:len(expected)] == expected


def test_monitor_set_and_remove_at_run_time_are_written_down(quorum, vigie_sentinel):
    q = quorum(sentinels=("vigie",), quorum=1)
    sentinel = q.sentinels[0]
    assert sentinel.call("SENTINEL", "REMOVE", "mymaster") == b"OK"
    assert "mymaster" not in sentinel.file.read_text()
    assert sentinel.call("SENTINEL", "MONITOR", "second", "127.0.0.1", q.old_port, "1") == b"OK"
    assert sentinel.call("SENTINEL", "SET", "second", "auth-pass", PASSWORD, "down-after-milliseconds", "700") == b"OK"
    wait_until(lambda: sentinel.fields("MASTER", "second")["num-slaves"] == "2", 15)
    text = sentinel.file.read_text()
    assert f"sentinel monitor second 127.0.0.1 {q.old_port} 1" in text
    assert "sentinel down-after-milliseconds second 700" in text
    assert f"sentinel auth-pass second {PASSWORD}" in text
    assert PASSWORD not in sentinel.log_text()
    assert sentinel.call("SENTINEL", "RESET", "sec*") == 1


def test_shutdown_saves_and_ends(quorum):
    q = quorum(sentinels=("vigie",), quorum=1)
    with q.sentinels[0].raw() as client:
        client.send("SHUTDOWN")
        assert client.closed(5)
    assert q.sentinels[0].process.child.wait(5) == 0


def test_scripts_are_run(quorum, tmp_path):
    script = tmp_path / "notify.sh"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/notes\n')
    script.chmod(0o755)
    q = quorum(sentinels=("vigie",), quorum=1, extra=f"sentinel notification-script mymaster {script}\n"
               f"sentinel client-reconfig-script mymaster {script}\n").wait_discovered()
    q.stores[0].kill()
    heir = q.wait_switched()
    notes = tmp_path / "notes"
    wait_until(lambda: f"mymaster leader start 127.0.0.1 {q.old_port} 127.0.0.1 {heir.port}" in notes.read_text(), 5)
    assert f"+sdown master mymaster 127.0.0.1 {q.old_port}" in notes.read_text()
