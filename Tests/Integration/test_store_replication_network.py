"""Replication over a network that swallows everything for a while and says so to nobody: hosts in namespaces of their own.

The port of the bridge that the replica hangs on is disabled: packets get lost in both directions, and no interface loses its carrier. The
test speaks to the servers over Unix sockets.
"""

import shutil
import tempfile
import time
from pathlib import Path

import pytest

from harness import RawClient, wait_until
from test_store_replication_faults import OPTIONS, Writer

MASTER, REPLICA = "10.79.0.1", "10.79.0.2"
# Seconds. Far less than the kernel alone needs: after a cut of 3.3 s it tries again 2.9 s later.
SOON = 1.0


@pytest.fixture
def far(store_of, network):
    """A master and a replica on two hosts: `far(kind, kind, **options)`."""
    sockets = Path(tempfile.mkdtemp(prefix="vt-"))
    network.host("m", MASTER + "/24")
    network.host("r", REPLICA + "/24")

    def start(kind, name, address, **options):
        path = sockets / name
        store = store_of(kind)(netns=network.namespace(name), host=address, port=6379, ready=False, unixsocket=path, protected_mode="no",
                               repl_backlog_size="20mb", **OPTIONS, **options)
        store.raw = lambda timeout=5.0: RawClient(0, path=str(path), timeout=timeout)

        def answers():
            with store.raw() as client:
                return client.call("PING") == b"+PONG\r\n"
        wait_until(answers, 10, f"{name} answering")
        return store

    def both(master_kind, replica_kind, **options):
        master = start(master_kind, "m", MASTER, **options)
        replica = start(replica_kind, "r", REPLICA, replicaof=(MASTER, 6379), **options)
        replica.wait_replica_online()
        return master, replica

    both.network = network
    yield both
    shutil.rmtree(sockets)


def cut(network, replica, master, length, pull=False):
    """Cuts the network for so many seconds.

    Returns how long after its return the replica had what was written until then, in seconds.
    """
    network.pull_cable("r") if pull else network.swallow("r")
    time.sleep(length)
    # Something to be caught up with where nobody else writes, sent in vain like all before it.
    master.call("SET", "written", f"while it was cut for {length}")
    goal = int(master.info("replication")["master_repl_offset"])
    with replica.raw() as client:
        assert int(replica.info("replication")["slave_repl_offset"]) < goal, "nothing came through"
        network.plug_cable("r") if pull else network.let_pass("r")
        began = time.monotonic()

        def offset():
            fields = client.value("INFO", "replication").decode().split("\r\n")
            return int(next(line for line in fields if line.startswith("slave_repl_offset:")).split(":")[1])
        wait_until(lambda: offset() >= goal, 60, "the replica has caught up", every=0.003)
        return round(time.monotonic() - began, 3)


@pytest.mark.parametrize("kind", ["vigie", "redis"])
@pytest.mark.parametrize("writes", [False, True], ids=["idle", "writing"])
def test_a_silent_cut_is_made_good_before_the_kernel_notices(far, kind, writes):
    """The kernel may need as long again as the cut has lasted before it tries once more."""
    master, replica = far(kind, "vigie")
    took = {}
    writer = Writer(master) if writes else None
    for length in (0.6, 1.0, 1.9, 3.3, 5.0):
        took[length] = cut(far.network, replica, master, length)
        time.sleep(0.7)
    if writer:
        writer.stop()
    print(kind, "writing" if writes else "idle", took)
    wait_until(lambda: replica.info("replication")["slave_repl_offset"] == master.info("replication")["master_repl_offset"], 10)
    assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")
    assert master.info("stats")["sync_full"] == "1"
    assert max(took.values()) < SOON, took


@pytest.mark.parametrize("kind", ["vigie", "redis"])
@pytest.mark.parametrize("pull", [False, True], ids=["swallowed", "unplugged"])
def test_a_cut_longer_than_the_time_limit(far, kind, pull):
    """Both ends have given the link up by then, and the replica has been knocking since."""
    master, replica = far(kind, "vigie", repl_timeout=2, repl_ping_replica_period=1)
    with Writer(master):
        took = cut(far.network, replica, master, 6, pull)
    print(kind, "after the time limit,", "unplugged" if pull else "swallowed", took)
    wait_until(lambda: replica.info("replication")["slave_repl_offset"] == master.info("replication")["master_repl_offset"], 10)
    assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")
    assert master.info("stats")["sync_full"] == "1"
    # The neighbour's address has been forgotten by now, and the kernel asks for it once a second.
    assert took < 1 + SOON


def test_a_replica_that_may_have_missed_more_than_the_backlog_waits_for_the_kernel(far):
    """What stands in the master's output would be lost with the connection, and all be sent again."""
    master, replica = far("vigie", "vigie")
    for server in (master, replica):
        server.call("CONFIG", "SET", "repl-backlog-size", "64kb")
    with Writer(master, size=2000):
        time.sleep(1.5)
        cut(far.network, replica, master, 2)
    assert master.info("stats")["sync_full"] == "1"
    assert "The network to the MASTER is back" not in replica.log_text()


def test_a_redis_replica_notices_when_the_kernel_does(far):
    """A Redis waits for the next repetition of what its kernel, or ours, has sent: at most as long again as the cut."""
    master, replica = far("vigie", "redis")
    took = {}
    for length in (1.0, 3.3):
        took[length] = cut(far.network, replica, master, length)
        time.sleep(1)
    print("redis replica", took)
    assert master.info("stats")["sync_full"] == "1"
    assert all(seconds < 2 * length + 1 for length, seconds in took.items()), took
