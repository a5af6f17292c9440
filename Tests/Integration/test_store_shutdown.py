"""SHUTDOWN of a master waits until its replicas have what was written (`shutdown-timeout`)."""

import time

import pytest

from harness import wait_until

KINDS = ("vigie", "redis")


class Lagging:
    """A master, and a replica that is frozen while something is written."""

    def __init__(self, store_of, kind, **options):
        self.master = store_of("vigie")(**options)
        self.replica = store_of(kind)(replicaof=("127.0.0.1", self.master.port)).wait_replica_online()
        self.replica.freeze()
        for n in range(100):
            self.master.call("SET", f"key{n}", n)


@pytest.fixture(params=KINDS)
def lagging(request, store_of):
    return Lagging(store_of, request.param)


def gone(server):
    return lambda: not server.alive()


def test_it_waits_for_replicas_and_writes_wait_with_it(lagging):
    master = lagging.master
    with master.raw() as client, master.raw() as writer, master.raw() as reader:
        client.send("SHUTDOWN")
        wait_until(lambda: "Waiting for replicas before shutting down." in master.log_text(), 5)
        writer.send("SET", "late", 1)
        assert reader.call("GET", "key99") == b"$2\r\n99\r\n"
        assert writer.silent(0.3) and client.silent(0.05)
        # It can be called off, and everybody goes on.
        assert reader.call("SHUTDOWN", "ABORT") == b"+OK\r\n"
        assert client.read() == b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n"
        assert writer.read() == b"+OK\r\n"
        assert client.call("SET", "k", 1) == b"+OK\r\n"
        assert reader.call("SHUTDOWN", "ABORT") == b"-ERR No shutdown in progress.\r\n"
        client.send("SHUTDOWN")
        assert client.silent(0.3)
        writer.send("SET", "never", 1)
        lagging.replica.thaw()
        wait_until(gone(master), 5)
    assert "1 of 1 replicas are in sync when shutting down." in master.log_text()
    assert lagging.replica.call("MGET", "key99", "late", "k", "never") == [b"99", b"1", b"1", None]


def test_a_signal_waits_too_and_a_restarted_master_goes_on(store_of):
    scene = Lagging(store_of, "vigie", save="900 1")
    scene.master.process.child.terminate()
    time.sleep(0.4)
    assert scene.master.alive()
    scene.replica.thaw()
    wait_until(gone(scene.master), 5)
    again = store_of("vigie")(dir=scene.master.directory, port=scene.master.port)
    scene.replica.wait_replica_online()
    assert int(again.info("stats")["sync_partial_ok"]) == 1 and int(again.info("stats")["sync_full"]) == 0
    assert scene.replica.call("GET", "key99") == b"99"


def test_now_does_not_wait(lagging):
    with lagging.master.raw() as client:
        client.send("SHUTDOWN", "NOW")
        wait_until(gone(lagging.master), 3)


def test_now_ends_a_wait(lagging):
    with lagging.master.raw() as client, lagging.master.raw() as other:
        client.send("SHUTDOWN", "NOSAVE")
        assert client.silent(0.3)
        other.send("SHUTDOWN", "NOW")
        wait_until(gone(lagging.master), 3)


def test_it_waits_no_longer_than_it_is_told(store_of):
    scene = Lagging(store_of, "vigie", shutdown_timeout=1)
    with scene.master.raw() as client:
        began = time.monotonic()
        client.send("SHUTDOWN")
        wait_until(gone(scene.master), 8)
        assert time.monotonic() - began > 0.9
    text = scene.master.log_text()
    assert "0 of 1 replicas are in sync when shutting down." in text and "Lagging replica" in text


@pytest.mark.parametrize("words, is_saved", [(["NOSAVE"], False), (["SAVE"], True), ([], True)], ids=str)
def test_the_snapshot_is_taken_once_or_not_at_all(store_of, words, is_saved):
    store = store_of("vigie")(save="900 1")
    store.call("SET", "k", "v")
    with store.raw() as client:
        client.send("SHUTDOWN", *words)
        wait_until(gone(store), 5)
    assert (store.directory / "dump.rdb").exists() == is_saved
    assert store.log_text().count("User requested shutdown") == 1
