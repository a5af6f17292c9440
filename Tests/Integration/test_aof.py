"""The append-only file, beside Debian's redis-server and redis-check-aof: written by one, checked and loaded by the other."""

import re
import subprocess
import time

import pytest

from harness import wait_until
from harness.contents import contents, fill
from harness.resp import encode

BOTH_BASES = pytest.mark.parametrize("preamble", ["yes", "no"])
MANIFEST = "appendonly.aof.manifest"


def folder(store):
    return store.directory / "appendonlydir"


def check(store):
    """redis-check-aof accepts every file of the store."""
    done = subprocess.run(["redis-check-aof", folder(store) / MANIFEST], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All AOF files and manifest are valid" in done.stdout


def rewrite(store):
    before = int(store.info("persistence")["aof_rewrites"])
    assert store.call("BGREWRITEAOF").startswith(b"Background append only file rewriting")
    wait_until(lambda: int(store.info("persistence")["aof_rewrites"]) > before, 20, "a rewrite")


def again(start, store, **options):
    """The store is killed, and one of the other kind starts on its folder."""
    store.kill()
    return start(dir=store.directory, appendonly="yes", **options)


def change(server):
    """What is told in other words than it was said, besides fill's plain commands."""
    with server.raw(timeout=20) as client:
        def do(*words):
            reply = client.call(*words)
            assert reply[:1] != b"-", (words, reply)
            return reply
        do("SET", "ttl", "v", "EX", "100")
        do("SETEX", "setex", "100", "v")
        do("EXPIRE", "string", "500")
        do("GETEX", "integer", "PX", "500000")
        do("SET", "gone", "v", "PX", "1")
        do("INCRBYFLOAT", "float", "1.5")
        do("SPOP", "set-large", "100")
        do("HINCRBYFLOAT", "hash-small", "f", "0.25")
        do("LPOP", "list-large", "3")
        do("ZPOPMIN", "zset-large")
        do("MULTI")
        do("SET", "in-multi", "1")
        do("SELECT", "5")
        do("SET", "in-multi", "5")
        do("EXEC")
        do("SELECT", "9")
        do("RPUSH", "l", "1")
        do("MOVE", "l", "3")
        do("PUBLISH", "channel", "nobody hears it again")


@BOTH_BASES
@pytest.mark.parametrize("rewritten", ["as it was written", "rewritten", "rewritten and gone on"])
@pytest.mark.parametrize("writer, reader", [("vigie", "redis"), ("redis", "vigie"), ("vigie", "vigie")])
def test_files_are_read_by_the_other(store_of, writer, reader, rewritten, preamble):
    options = {"aof_use_rdb_preamble": preamble}
    one = store_of(writer)(appendonly="yes", appendfsync="always", **options)
    fill(one)
    change(one)
    if rewritten != "as it was written":
        rewrite(one)
    if rewritten == "rewritten and gone on":
        one.call("SET", "later", "1")
        one.call("DEL", "list-large")
    wait_until(lambda: one.call("EXISTS", "gone") == 0, 5)
    before = contents(one, (0, 3, 5, 9))
    check(one)
    other = again(store_of(reader), one, **options)
    assert contents(other, (0, 3, 5, 9)) == before


def test_the_other_goes_on_with_our_files_and_we_with_its(store_of):
    server = store_of("vigie")(appendonly="yes", appendfsync="always")
    directory = server.directory
    for kind in ("redis", "vigie", "redis", "vigie"):
        server.call("INCR", "starts")
        rewrite(server)
        server.call("INCR", "starts")
        server.kill()
        server = store_of(kind)(dir=directory, appendonly="yes", appendfsync="always")
    assert server.call("GET", "starts") == b"8"


@BOTH_BASES
def test_a_single_file_of_the_old_form_becomes_the_base(store_of, vigie_store, redis_server, preamble, tmp_path):
    # A Redis before 7 kept one file: what a base and an increment hold, one behind the other.
    real = redis_server(appendonly="yes", appendfsync="always", aof_use_rdb_preamble=preamble)
    fill(real)
    rewrite(real)
    real.call("SET", "later", "1")
    before = contents(real, (0, 3))
    real.kill()
    names = re.findall(r"^file (\S+) seq \d+ type [bi]$", (folder(real) / MANIFEST).read_text(), re.M)
    old = tmp_path / "old"
    old.mkdir()
    (old / "appendonly.aof").write_bytes(b"".join((folder(real) / name).read_bytes() for name in names))
    store = vigie_store(dir=old, appendonly="yes", appendfsync="always")
    assert contents(store, (0, 3)) == before
    assert not (old / "appendonly.aof").exists()
    store.call("SET", "more", "1")
    store.kill()
    store = vigie_store(dir=old, appendonly="yes")
    assert store.call("GET", "more") == b"1"
    store.kill()
    assert contents(redis_server(dir=old, appendonly="yes"), (0, 3)) == before | {(0, b"more"): (b"string", b"1", False)}


def test_an_upgrade_that_was_cut_short_is_gone_on_with(vigie_store, tmp_path):
    (tmp_path / "d" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "d" / "appendonlydir" / MANIFEST).write_text("file appendonly.aof seq 1 type b\n")
    (tmp_path / "d" / "appendonly.aof").write_bytes(encode("SELECT", "0") + encode("SET", "a", "1"))
    assert vigie_store(dir=tmp_path / "d", appendonly="yes").call("GET", "a") == b"1"


def test_the_file_wins_over_the_snapshot(vigie_store):
    store = vigie_store(appendonly="yes", appendfsync="always")
    store.call("SET", "a", "snapshot")
    store.call("SAVE")
    store.call("SET", "a", "file")
    assert again(vigie_store, store).call("GET", "a") == b"file"


def test_times_that_are_over_when_the_file_is_loaded_do_not_undo_what_came_later(vigie_store):
    store = vigie_store(appendonly="yes", appendfsync="always")
    with store.raw() as client:
        for first in (("SET", "a", "1", "PX", "300"), ("SET", "b", "1"), ("SET", "c", "1", "PX", "300")):
            client.call(*first)
        client.call("PEXPIRE", "b", "300")
        client.call("GETEX", "c", "PX", "300")
        for key in "abc":
            assert client.call("PERSIST", key) == b":1\r\n"
    time.sleep(0.4)
    store = again(vigie_store, store)
    assert store.call("MGET", "a", "b", "c") == [b"1", b"1", b"1"]


def test_switching_on_and_off_while_running(vigie_store, redis_server):
    store = vigie_store()
    fill(store)
    assert not folder(store).exists()
    assert store.call("CONFIG", "SET", "appendonly", "yes") == b"OK"
    store.call("SET", "while", "rewriting")
    wait_until(lambda: store.info("persistence")["aof_rewrite_in_progress"] == "0", 10)
    assert store.info("persistence")["aof_enabled"] == "1"
    store.call("CONFIG", "SET", "appendfsync", "always")
    store.call("SET", "after", "rewriting")
    check(store)
    assert store.call("CONFIG", "SET", "appendonly", "no") == b"OK"
    before = contents(store, (0, 3))
    store.call("SET", "not", "kept")
    assert store.info("persistence")["aof_enabled"] == "0"
    real = again(redis_server, store)
    assert contents(real, (0, 3)) == before
    real.kill()
    # Off and on again: the numbers go on, and nothing of the time between is missing.
    store = vigie_store(dir=store.directory)
    store.call("SET", "second", "life")
    assert store.call("CONFIG", "SET", "appendonly", "yes") == b"OK"
    wait_until(lambda: store.info("persistence")["aof_rewrites"] == "1", 10)
    assert contents(again(vigie_store, store)) == {(0, b"second"): (b"string", b"life", False)}


def test_a_transaction_is_kept_whole(vigie_store):
    store = vigie_store(appendonly="yes", appendfsync="always")
    with store.raw() as client:
        client.call("MULTI")
        for key in "abc":
            client.call("SET", key, "1")
        client.call("EXEC")
    increment = folder(store) / "appendonly.aof.1.incr.aof"
    data = increment.read_bytes()
    start, end = data.index(b"*1\r\n$5\r\nMULTI"), len(data)
    assert data.endswith(b"*1\r\n$4\r\nEXEC\r\n")
    store.kill()
    for cut in (end - 1, end - 14, end - 20, start + 15):
        increment.write_bytes(data[:cut])
        store = vigie_store(dir=store.directory, appendonly="yes")
        assert store.call("DBSIZE") == 0
        assert f"at offset {start}" in store.log_text()
        assert increment.read_bytes() == data[:start]
        store.kill()


def test_rewrites_begin_by_themselves(vigie_store):
    store = vigie_store(appendonly="yes", auto_aof_rewrite_min_size="20kb", auto_aof_rewrite_percentage="100")
    for _ in range(600):
        store.call("SET", "k", "v" * 50)
    wait_until(lambda: int(store.info("persistence")["aof_rewrites"]) > 0, 10, "an automatic rewrite")
    wait_until(lambda: len(list(folder(store).iterdir())) == 3, 5, "the old files removed")
    assert int(store.info("persistence")["aof_base_size"]) < 20_000


def test_bgsave_and_bgrewriteaof_wait_for_each_other(store_of):
    for kind in ("vigie", "redis"):
        store = store_of(kind)(appendonly="yes", enable_debug_command="yes")
        store.call("DEBUG", "POPULATE", "300000", "k", "100")
        replies = [store.call("BGSAVE"), store.call("BGREWRITEAOF")]
        assert replies == [b"Background saving started", b"Background append only file rewriting scheduled"], kind
        wait_until(lambda: store.info("persistence")["aof_rewrites"] == "1", 20)
        store.call("BGREWRITEAOF")
        with store.raw() as client:
            assert client.call("BGREWRITEAOF") == b"-ERR Background append only file rewriting already in progress\r\n", kind
            assert client.call("BGSAVE").startswith(b"-ERR Another child process is active (AOF?)"), kind
        assert store.call("BGSAVE", "SCHEDULE") == b"Background saving scheduled"
        wait_until(lambda: store.info("persistence")["rdb_saves"] == "2", 20)


def test_info_has_the_fields_of_redis(store_of):
    def names(kind, **options):
        fields = store_of(kind)(**options).info("persistence")
        return [name for name in fields if name.startswith("aof")]
    for options in ({}, {"appendonly": "yes"}):
        ours, real = names("vigie", **options), names("redis", **options)
        # 7.0 has no counter of rewrites that failed in a row yet.
        assert [name for name in ours if name in real] == real
        assert set(ours) - set(real) <= {"aof_rewrites_consecutive_failures"}


def test_timestamps_are_written_and_read(store_of):
    options = {"appendonly": "yes", "appendfsync": "always", "aof_timestamp_enabled": "yes", "aof_use_rdb_preamble": "no"}
    store = store_of("vigie")(**options)
    store.call("SET", "a", "1")
    rewrite(store)
    store.call("SET", "b", "1")
    files = [file.read_bytes() for file in sorted(folder(store).glob("*.aof"))]
    assert len(files) == 2 and all(re.match(rb"#TS:\d{10}\r\n", data) for data in files)
    check(store)
    directory = store.directory
    for kind in ("redis", "vigie"):
        store.kill()
        store = store_of(kind)(dir=directory, appendonly="yes")
        assert store.call("MGET", "a", "b") == [b"1", b"1"]


@pytest.mark.parametrize("master", ["vigie", "redis"])
def test_a_replica_keeps_what_its_master_says(store_of, vigie_store, master):
    one = store_of(master)()
    fill(one)
    replica = vigie_store(appendonly="yes", appendfsync="always", replicaof=("127.0.0.1", one.port))
    replica.wait_replica_online()
    wait_until(lambda: replica.info("persistence")["aof_rewrites"] == "1", 20, "the rewrite after the synchronisation")
    change(one)
    wait_until(lambda: one.call("EXISTS", "gone") == 0, 5)
    before = contents(one, (0, 3, 5, 9))
    wait_until(lambda: contents(replica, (0, 3, 5, 9)) == before, 10)
    check(replica)
    assert contents(again(vigie_store, replica), (0, 3, 5, 9)) == before


def test_debug_loadaof(vigie_store):
    store = vigie_store(appendonly="yes", enable_debug_command="yes")
    fill(store)
    store.call("EXPIRE", "string", "100")
    before = contents(store, (0, 3))
    assert store.call("DEBUG", "LOADAOF") == b"OK"
    assert contents(store, (0, 3)) == before
    store.call("SET", "more", "1")
    assert store.call("DEBUG", "LOADAOF") == b"OK"
    assert store.call("GET", "more") == b"1"


def test_shutdown_brings_everything_to_the_disk(vigie_store):
    for appendfsync in ("everysec", "no"):
        store = vigie_store(appendonly="yes", appendfsync=appendfsync)
        with store.raw() as client:
            for i in range(1000):
                client.send("SET", f"k{i}", "v")
            client.send("SHUTDOWN")
            assert client.closed(5)
        store.process.child.wait(5)
        assert "Calling fsync() on the AOF file." in store.log_text()
        assert vigie_store(dir=store.directory, appendonly="yes").call("DBSIZE") == 1000


def test_a_snapshot_that_would_not_be_loaded_is_spoken_of(vigie_store):
    store = vigie_store()
    store.call("SET", "a", "1")
    store.call("SAVE")
    later = again(vigie_store, store)
    assert later.call("DBSIZE") == 0
    assert f"the snapshot {store.directory}/dump.rdb" in later.log_text() and "is NOT loaded" in later.log_text()
