"""What the commands of persistence say and do in every state, beside redis-server: children that run, are killed, or have failed."""

import os
import re
import signal
import subprocess
import time

import pytest

from harness import wait_until
from harness.contents import contents, fill

BOTH = pytest.mark.parametrize("kind", ["vigie", "redis"])
MISCONF = b"-MISCONF Redis is configured to save RDB snapshots"


def field(store, name):
    return store.info("persistence")[name]


def temporary(store):
    return sorted(file.name for file in store.directory.rglob("temp-*"))


def child(store):
    """The process that is writing for the store."""
    return int(wait_until(lambda: subprocess.run(["pgrep", "-P", str(store.pid)], capture_output=True, text=True).stdout.split(), 5)[0])


def begin_slowly(store, kind):
    """A BGSAVE of many keys that is not done before it is ended."""
    store.call("DEBUG", "POPULATE", "200000", "k", "50")
    if kind == "redis":
        store.call("CONFIG", "SET", "rdb-key-save-delay", "1000")
    assert store.call("BGSAVE") == b"Background saving started"
    if kind == "vigie":
        os.kill(child(store), signal.SIGSTOP)


@BOTH
def test_flushall_leaves_nothing_that_comes_back(store_of, kind):
    store = store_of(kind)(save=("10000", "10000"), enable_debug_command="yes")
    fill(store)
    store.call("SAVE")
    begin_slowly(store, kind)
    assert store.call("FLUSHALL") == b"OK"
    # The snapshot of nothing is there at once, and counts neither as one that was asked for nor as a change.
    assert (store.directory / "dump.rdb").stat().st_size < 200
    assert [field(store, name) for name in ("rdb_saves", "rdb_changes_since_last_save")] == ["2" if kind == "redis" else "1", "0"]
    wait_until(lambda: field(store, "rdb_bgsave_in_progress") == "0", 10)
    assert field(store, "rdb_last_bgsave_status") == "ok" and not temporary(store)
    store.kill()
    assert store_of(kind)(dir=store.directory).call("DBSIZE") == 0


@BOTH
def test_flushall_without_save_points_only_ends_the_child(store_of, kind):
    store = store_of(kind)(enable_debug_command="yes")
    store.call("SET", "a", "1")
    store.call("SAVE")
    before = (store.directory / "dump.rdb").read_bytes()
    begin_slowly(store, kind)
    store.call("FLUSHALL")
    wait_until(lambda: field(store, "rdb_bgsave_in_progress") == "0", 10)
    assert field(store, "rdb_last_bgsave_status") == "ok" and not temporary(store)
    assert (store.directory / "dump.rdb").read_bytes() == before
    # Every key that went is a change, for the save points.
    assert int(field(store, "rdb_changes_since_last_save")) >= 200001


@BOTH
def test_flushall_that_saves_reaches_the_file_and_replicas(store_of, kind):
    store = store_of(kind)(save=("10000", "10000"), appendonly="yes", appendfsync="always")
    replica = store_of(kind)(replicaof=("127.0.0.1", store.port))
    replica.wait_replica_online()
    for i in range(5):
        store.call("SET", f"k{i}", "v")
    wait_until(lambda: replica.call("DBSIZE") == 5, 10)
    store.call("FLUSHALL")
    wait_until(lambda: replica.call("DBSIZE") == 0, 10)
    # Passed on once more though there is nothing to remove.
    offset = int(store.info("replication")["master_repl_offset"])
    store.call("FLUSHALL")
    assert int(store.info("replication")["master_repl_offset"]) > offset
    store.kill()
    assert store_of(kind)(dir=store.directory, appendonly="yes").call("DBSIZE") == 0


def refusals(store, folder):
    """The replies of a store whose last BGSAVE has failed, without and with save points."""
    folder.rmdir()
    store.call("BGSAVE")
    wait_until(lambda: field(store, "rdb_last_bgsave_status") == "err", 10)
    asked = [("SET", "a", "1"), ("PING",), ("CONFIG", "SET", "save", "1000 1000"), ("SET", "a", "2"), ("PING",), ("PING", "x"), ("GET", "a"), ("MULTI",),
             ("PING",), ("SET", "a", "3"), ("EXEC",), ("CONFIG", "SET", "stop-writes-on-bgsave-error", "no"), ("PING",), ("SET", "a", "4"),
             ("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"), ("REPLICAOF", "127.0.0.1", "1"), ("SET", "a", "5"), ("PING",), ("GET", "a"),
             ("REPLICAOF", "NO", "ONE"), ("CONFIG", "SET", "save", ""), ("SET", "a", "6"), ("PING",)]
    with store.raw() as client:
        return [(words, client.call(*words)) for words in asked]


def test_a_snapshot_that_failed_refuses_what_redis_refuses(store_of, tmp_path):
    replies = {}
    for kind in ("redis", "vigie"):
        folder = tmp_path / f"gone-{kind}"
        folder.mkdir()
        replies[kind] = refusals(store_of(kind)(dir=folder), folder)
    assert replies["vigie"] == replies["redis"]
    assert sum(reply.startswith(MISCONF) for _, reply in replies["vigie"]) == 7


@BOTH
def test_a_child_that_is_killed_fails_and_leaves_nothing(store_of, kind):
    store = store_of(kind)(enable_debug_command="yes", appendonly="yes")
    store.call("DEBUG", "POPULATE", "200000", "k", "50")
    for command, running, status in (("BGSAVE", "rdb_bgsave_in_progress", "rdb_last_bgsave_status"),
                                     ("BGREWRITEAOF", "aof_rewrite_in_progress", "aof_last_bgrewrite_status")):
        store.call(command)
        pid = child(store)
        os.kill(pid, signal.SIGSTOP)
        assert field(store, running) == "1"
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: field(store, running) == "0", 10)
        assert field(store, status) == "err" and not temporary(store), command
        assert "terminated by signal 9" in store.log_text()
        store.call(command)
        wait_until(lambda: field(store, running) == "0", 20)
        assert field(store, status) == "ok", command


@pytest.mark.parametrize("save", ["", ("10000", "10000")])
@pytest.mark.parametrize("command", ["BGSAVE", "BGREWRITEAOF"])
@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT])
def test_an_end_while_a_child_writes_leaves_no_temporary_file(vigie_store, save, command, ended_by):
    store = vigie_store(enable_debug_command="yes", appendonly="yes", save=save)
    store.call("DEBUG", "POPULATE", "200000", "k", "50")
    store.call(command)
    os.kill(child(store), signal.SIGSTOP)
    time.sleep(0.02)
    store.process.signal(ended_by)
    assert store.process.child.wait(10) == 0
    assert not temporary(store)
    assert (store.directory / "dump.rdb").exists() == bool(save)


@BOTH
def test_a_snapshot_for_replicas_is_one_in_progress(store_of, kind):
    master = store_of(kind)(repl_diskless_sync="yes", enable_debug_command="yes", rdbcompression="no")
    master.call("DEBUG", "POPULATE", "60000", "k", "1000")
    with master.raw() as replica, master.raw() as client:
        # One that takes nothing: the child waits.
        replica.call("REPLCONF", "capa", "eof")
        replica.send("PSYNC", "?", "-1")
        wait_until(lambda: "Background RDB transfer started" in master.log_text(), 10)
        assert field(master, "rdb_bgsave_in_progress") == "1"
        for words in (("SAVE",), ("BGSAVE",), ("BGSAVE", "SCHEDULE")):
            assert client.call(*words) == b"-ERR Background save already in progress\r\n", words
        assert client.call("BGREWRITEAOF") == b"+Background append only file rewriting scheduled\r\n"


def test_what_config_set_says_of_every_directive(store_of):
    """The directives of persistence at run time, with what is right and what is wrong."""
    asked = {
        "save": ["", "1", "0 1", "a b", "900 1 300 10", "1 -1"], "dbfilename": ["a/b", "x y.rdb"], "dir": ["/nonexistent", "/etc/passwd"],
        "appendonly": ["maybe"], "appendfilename": ["x"], "appenddirname": ["y"], "appendfsync": ["x", "ALWAYS", "no", "everysec"],
        "no-appendfsync-on-rewrite": ["yes", "2"], "auto-aof-rewrite-percentage": ["-1", "0", "1x", "100"],
        "auto-aof-rewrite-min-size": ["1x", "-1", "1kb", "64mb"], "aof-use-rdb-preamble": ["no", "x"], "aof-timestamp-enabled": ["yes", "1"],
        "aof-load-truncated": ["no", "maybe"], "rdb-del-sync-files": ["yes", "y"], "rdb-key-save-delay": ["5", "x", "0"],
        "rdb-save-incremental-fsync": ["no", "x"], "aof-rewrite-incremental-fsync": ["no", "x"], "rdbcompression": ["no", "x"],
        "rdbchecksum": ["no"], "stop-writes-on-bgsave-error": ["no", "x"], "sanitize-dump-payload": ["clients", "yes", "x"],
    }
    ours, real = (store_of(kind)(enable_protected_configs="yes") for kind in ("vigie", "redis"))
    with ours.raw() as mine, real.raw() as other:
        for name, values in asked.items():
            for value in values:
                assert mine.call("CONFIG", "SET", name, value) == other.call("CONFIG", "SET", name, value), (name, value)
                if name != "dir":
                    assert mine.call("CONFIG", "GET", name) == other.call("CONFIG", "GET", name), (name, value)


def test_info_has_the_fields_of_redis_in_their_order(store_of):
    for options in ({}, {"appendonly": "yes"}):
        names = [list(store_of(kind)(**options).info("persistence")) for kind in ("vigie", "redis")]
        assert names[0] == names[1]


def test_times_in_the_log_are_written_as_redis_writes_them(store_of):
    lines = {}
    for kind in ("redis", "vigie"):
        store = store_of(kind)(appendonly="no")
        fill(store)
        store.call("SAVE")
        store.kill()
        store = store_of(kind)(dir=store.directory)
        store.kill()
        file = store_of(kind)(appendonly="yes")
        file.call("SET", "a", "1")
        file.kill()
        text = store.log_text() + store_of(kind)(dir=file.directory, appendonly="yes").log_text()
        found = [re.search(pattern, text) for pattern in (
            r"RDB memory usage when created \d+\.\d\d Mb\n", r"DB loaded from disk: \d+\.\d{3} seconds\n", r"DB loaded from base file \S+ \d+\.\d{3} seconds\n",
            r"DB loaded from incr file \S+ \d+\.\d{3} seconds\n", r"DB loaded from append only file: \d+\.\d{3} seconds\n")]
        lines[kind] = [bool(one) for one in found]
    assert lines["redis"] == lines["vigie"] == [True] * 5


@pytest.mark.parametrize("writer, reader", [("vigie", "redis"), ("redis", "vigie"), ("vigie", "vigie")])
def test_names_with_spaces_and_quotes(store_of, writer, reader):
    options = {"appendonly": "yes", "appendfsync": "always", "appendfilename": 'my file "x".aof', "appenddirname": "a folder", "dbfilename": "a dump.rdb"}
    one = store_of(writer)(**options)
    fill(one)
    one.call("SAVE")
    one.call("BGREWRITEAOF")
    wait_until(lambda: field(one, "aof_rewrites") == "1", 20)
    one.call("SET", "later", "1")
    before = contents(one, (0, 3))
    manifest = one.directory / "a folder" / 'my file "x".aof.manifest'
    checked = subprocess.run(["redis-check-aof", manifest], capture_output=True, text=True)
    assert checked.returncode == 0 and "All AOF files and manifest are valid" in checked.stdout
    assert (one.directory / "a dump.rdb").exists()
    one.kill()
    assert contents(store_of(reader)(dir=one.directory, **options), (0, 3)) == before


@pytest.mark.parametrize("steps", ["yes", "no"])
def test_a_snapshot_is_brought_to_the_disk_in_steps_unless_it_is_told_not_to(vigie_store, disk_faults, steps):
    store = vigie_store(env=disk_faults.env, rdb_save_incremental_fsync=steps, rdbcompression="no", enable_debug_command="yes")
    store.call("DEBUG", "POPULATE", "100", "k", str(1 << 20))
    disk_faults.slow_fsync(0.4)
    with store.raw(timeout=30) as client:
        began = time.monotonic()
        assert client.call("SAVE") == b"+OK\r\n"
        took = time.monotonic() - began
    # The file and the folder; 100 MB make three steps more.
    assert took >= 2.0 if steps == "yes" else 0.8 <= took < 2.0


@pytest.mark.parametrize("skips", ["yes", "no"])
def test_no_fsync_while_a_child_writes_where_the_file_says_so(vigie_store, disk_faults, skips):
    store = vigie_store(env=disk_faults.env, appendonly="yes", appendfsync="always", no_appendfsync_on_rewrite=skips, enable_debug_command="yes")
    store.call("DEBUG", "POPULATE", "200000", "k", "50")
    store.call("BGSAVE")
    pid = child(store)
    os.kill(pid, signal.SIGSTOP)
    disk_faults.slow_fsync(2)
    with store.raw(timeout=20) as client:
        began = time.monotonic()
        assert client.call("SET", "a", "1") == b"+OK\r\n"
        took = time.monotonic() - began
        assert took < 1.5 if skips == "yes" else took >= 2
        disk_faults.slow_fsync(0.5)
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: field(store, "rdb_bgsave_in_progress") == "0", 20)
        began = time.monotonic()
        assert client.call("SET", "a", "2") == b"+OK\r\n"
        assert time.monotonic() - began >= 0.4  # afterwards as ever


@BOTH
def test_what_a_child_costs_is_told(store_of, kind):
    store = store_of(kind)(enable_debug_command="yes", appendonly="yes")
    store.call("DEBUG", "POPULATE", "200000", "k", "100")
    for command, running, cost in (("BGSAVE", "rdb_bgsave_in_progress", "rdb_last_cow_size"), ("BGREWRITEAOF", "aof_rewrite_in_progress", "aof_last_cow_size")):
        store.call(command)
        pid = child(store)
        os.kill(pid, signal.SIGSTOP)
        for i in range(0, 200000, 4000):
            store.call("SETRANGE", f"k:{i}", "0", "changed")
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: field(store, running) == "0", 20)
        assert int(field(store, cost)) >= 50 * 4096, command
    assert int(store.info("stats")["latest_fork_usec"]) > 0 and store.info("stats")["total_forks"] == "2"


@pytest.mark.parametrize("writer, reader", [("vigie", "redis"), ("redis", "vigie")])
def test_a_snapshot_without_a_checksum(store_of, writer, reader):
    one = store_of(writer)(rdbchecksum="no")
    fill(one)
    one.call("SAVE")
    before = contents(one, (0, 3))
    data = (one.directory / "dump.rdb").read_bytes()
    assert data[-8:] == bytes(8)
    assert subprocess.run(["redis-check-rdb", one.directory / "dump.rdb"], capture_output=True).returncode == 0
    one.kill()
    assert contents(store_of(reader)(dir=one.directory), (0, 3)) == before


@BOTH
def test_keys_whose_time_is_over_when_a_snapshot_is_loaded(store_of, kind):
    store = store_of(kind)(enable_debug_command="yes")
    store.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    store.call("SET", "stays", "1")
    for i in range(3):
        store.call("SET", f"goes{i}", "1", "PX", "50")
    store.call("SAVE")
    time.sleep(0.1)
    store.kill()
    store = store_of(kind)(dir=store.directory)
    assert [field(store, name) for name in ("rdb_last_load_keys_loaded", "rdb_last_load_keys_expired")] == ["1", "3"]
    assert store.call("DBSIZE") == 1


@BOTH
def test_history_is_kept_until_it_may_go(store_of, kind):
    store = store_of(kind)(appendonly="yes", aof_disable_auto_gc="yes")
    folder = store.directory / "appendonlydir"
    manifest = folder / "appendonly.aof.manifest"
    for _ in range(2):
        assert store.call("BGREWRITEAOF") == b"Background append only file rewriting started"
        wait_until(lambda: field(store, "aof_rewrite_in_progress") == "0", 20)
    assert manifest.read_text().count("type h") == 4 and len(list(folder.iterdir())) == 7
    assert subprocess.run(["redis-check-aof", manifest], capture_output=True).returncode == 0
    assert store.call("CONFIG", "SET", "aof-disable-auto-gc", "no") == b"OK"
    wait_until(lambda: len(list(folder.iterdir())) == 3 and "type h" not in manifest.read_text(), 5)


def test_redis_check_aof_cuts_our_file_off_at_a_time(vigie_store):
    store = vigie_store(appendonly="yes", appendfsync="always", aof_timestamp_enabled="yes")
    store.call("SET", "a", "1")
    time.sleep(2.1)
    store.call("SET", "b", "1")
    store.kill()
    manifest = store.directory / "appendonlydir" / "appendonly.aof.manifest"
    second = int(re.search(rb"#TS:(\d+)", manifest.with_name("appendonly.aof.1.incr.aof").read_bytes())[1])
    done = subprocess.run(["redis-check-aof", "--truncate-to-timestamp", str(second), manifest], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert vigie_store(dir=store.directory, appendonly="yes").call("MGET", "a", "b") == [b"1", None]
