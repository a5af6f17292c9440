"""Our Sentinel alone and in one quorum with Debian's redis-sentinel: failover, return of the old master, state files."""

import re
import time

import pytest

from harness import state_lines, wait_until

MIXES = {
    "ours": ("vigie", "vigie", "vigie"),
    "one-of-ours": ("vigie", "redis", "redis"),
    "two-of-ours": ("vigie", "vigie", "redis"),
}


@pytest.fixture(params=MIXES.values(), ids=MIXES.keys())
def mix(request):
    return request.param


def test_killed_master_is_replaced_and_returns_as_replica(quorum, mix):
    q = quorum(sentinels=mix).wait_discovered()
    q.stores[0].call("SET", "before", "1")
    q.stores[0].call("WAIT", 2, 2000)
    q.stores[0].kill()
    heir = q.wait_switched()
    assert heir.call("GET", "before") == b"1"
    q.wait_following(heir)
    assert len(q.leaders()) == 1, "one leader"
    back = q.restart_master()
    back.call("SET", "stray", "1")
    wait_until(lambda: back.info("replication")["role"] == "slave", 30, "the old master follows")
    q.wait_following(heir)
    heir.call("SET", "after", "1")
    wait_until(lambda: back.call("GET", "after") == b"1" and back.call("EXISTS", "stray") == 0, 5)
    # A split vote takes a second epoch: what counts is that all have come to the same one.
    def agree():
        texts = [sentinel.file.read_text() for sentinel in q.sentinels]
        epochs = {re.search(r"^sentinel config-epoch mymaster (\d+)$", text, re.M)[1] for text in texts}
        return len(epochs) == 1 and all(f"sentinel monitor mymaster 127.0.0.1 {heir.port} 2" in text for text in texts)
    wait_until(agree, 10, "the state files agree on the master and the epoch that made it one")


@pytest.mark.parametrize("kind", ["vigie", "redis"])
@pytest.mark.parametrize("stores", [("redis",) * 3, ("vigie",) * 3], ids=["over-redis", "over-vigie"])
def test_whoever_leads(quorum, kind, stores):
    """SENTINEL FAILOVER makes the asked Sentinel the leader; the other kind follows it."""
    q = quorum(sentinels=("vigie", "redis", "vigie", "redis"), stores=stores).wait_discovered()
    leader = q.sentinels[0 if kind == "vigie" else 1]
    wait_until(lambda: leader.call("SENTINEL", "FAILOVER", "mymaster") == b"OK", 15, "FAILOVER accepted", every=0.3)
    heir = q.wait_switched()
    q.wait_following(heir)
    assert q.stores[0].info("replication")["role"] == "slave"
    assert q.leaders() == [leader]


def test_failover_over_our_own_stores(quorum):
    q = quorum(stores=("vigie",) * 3).wait_discovered()
    q.stores[0].kill()
    heir = q.wait_switched()
    q.wait_following(heir)
    back = q.restart_master()
    wait_until(lambda: back.info("replication")["role"] == "slave", 30, "the old master follows")
    q.wait_following(heir)


def test_frozen_master_is_replaced_and_put_right_when_it_thaws(quorum):
    q = quorum().wait_discovered()
    q.stores[0].freeze()
    heir = q.wait_switched()
    q.stores[0].thaw()
    wait_until(lambda: q.stores[0].info("replication")["role"] == "slave", 40, "the thawed master follows")
    q.wait_following(heir)


def test_own_part_is_quick(quorum):
    """From the first +sdown to the promotion, 300 ms at most."""
    q = quorum(down_after=1000).wait_discovered()
    start = time.monotonic()
    q.stores[0].kill()
    wait_until(lambda: any(s.info("replication")["role"] == "master" for s in q.stores[1:]), 10, "a new master", every=0.005)
    assert time.monotonic() - start < 1.0 + 0.3


def test_two_of_three_hosts_suffice(quorum):
    """The master's host is gone with its Sentinel, as in the article."""
    q = quorum().wait_discovered()
    q.sentinels[2].kill()
    q.stores[0].kill()
    q.wait_following(q.wait_switched())


def test_no_failover_without_a_majority(quorum):
    q = quorum(quorum=1).wait_discovered()
    for sentinel in q.sentinels[1:]:
        sentinel.kill()
    q.stores[0].kill()
    q.sentinels[0].wait_log("+odown master", 10)
    time.sleep(2)
    assert q.sentinels[0].master_address()[1] == q.old_port
    assert all(store.info("replication")["role"] == "slave" for store in q.stores[1:])
    assert q.sentinels[0].call("SENTINEL", "CKQUORUM", "mymaster").startswith("NOQUORUM 1 usable Sentinels.")


def test_a_sentinel_that_stood_still_only_watches(quorum):
    """TILT: after a stop of its own a Sentinel neither believes its timers nor votes for a master's being down."""
    q = quorum(sentinels=("vigie",), quorum=1).wait_discovered()
    q.sentinels[0].freeze()
    time.sleep(3)
    q.stores[0].kill()
    q.sentinels[0].thaw()
    q.sentinels[0].wait_log("+tilt #tilt mode entered", 5)
    time.sleep(2)
    assert "+sdown master" not in q.sentinels[0].log_text()
    assert q.sentinels[0].info("sentinel")["sentinel_tilt"] == "1"


@pytest.mark.parametrize("order", [("vigie", "redis"), ("redis", "vigie")], ids=["ours-then-real", "real-then-ours"])
def test_each_program_starts_from_the_others_file(quorum, sentinel_of, processes, order):
    q = quorum(sentinels=(order[0],) * 3).wait_discovered()
    q.stores[0].kill()
    heir = q.wait_switched()
    q.wait_following(heir)
    first = q.sentinels[0]
    first.stop()
    before = state_lines(first)
    text = "\n".join(line for line in first.file.read_text().splitlines() if not line.startswith(("port ", "dir ")))
    second = sentinel_of(order[1])(text, port=first.port)
    assert second.master_address() == ("127.0.0.1", heir.port)
    assert second.call("SENTINEL", "MYID").decode() in "\n".join(before)
    fields = second.fields("MASTER", "mymaster")
    assert (fields["config-epoch"], fields["num-slaves"], fields["num-other-sentinels"]) == ("1", "2", "2")
    assert state_lines(second) == before
    assert "# what the operator wrote" in second.file.read_text()
