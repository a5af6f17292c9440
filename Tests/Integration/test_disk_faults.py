"""Disks that fall behind, become full, fail or take nothing: the append-only file, its rewrite, SAVE and BGSAVE."""

import errno
import os
import resource
import subprocess
import time

import pytest

from harness import wait_until

root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
LATE = "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync to complete, this may slow down Redis."


def persistence(store, *names):
    info = store.info("persistence")
    return [info[name] for name in names]


def temporary(directory):
    return sorted(file.name for file in directory.rglob("*") if file.name.startswith("temp"))


def increment(store):
    return max((store.directory / "appendonlydir").glob("*.incr.aof"), key=lambda file: int(file.name.split(".")[2]))


# -- a disk that falls behind

@pytest.mark.parametrize("kind", ["redis", "vigie"])
def test_a_slow_fsync_postpones_writes_for_two_seconds_and_no_longer(store_of, disk_faults, kind):
    store = store_of(kind)(env=disk_faults.env, appendonly="yes", appendfsync="everysec")
    with store.raw() as client:
        client.call("SET", "before", "1")
        wait_until(lambda: persistence(store, "aof_pending_bio_fsync") == ["0"] and increment(store).stat().st_size > 0, 5)
        disk_faults.slow_fsync(5)
        # The fsync that takes long is begun.
        wait_until(lambda: client.call("SET", "begins", "1") and persistence(store, "aof_pending_bio_fsync") == ["1"], 5)
        size, began, worst = increment(store).stat().st_size, time.monotonic(), 0
        grown = None
        for turn in range(200):
            start = time.monotonic()
            assert client.call("SET", f"key{turn}", "v" * 100) == b"+OK\r\n"
            worst = max(worst, time.monotonic() - start)
            if increment(store).stat().st_size > size:
                grown = time.monotonic() - began
                break
            assert int(persistence(store, "aof_buffer_length")[0]) > 0
            time.sleep(0.02)
    # What is written meanwhile stays in memory for two seconds, and then goes out beside the fsync. Nobody had to wait.
    assert 1.5 < grown < 2.7 and worst < 0.5
    assert persistence(store, "aof_delayed_fsync", "aof_pending_bio_fsync") == ["1", "1"]
    assert store.log_text().count(LATE) == 1
    disk_faults.slow_fsync(0)
    wait_until(lambda: persistence(store, "aof_pending_bio_fsync", "aof_buffer_length") == ["0", "0"], 10)
    store.kill()
    again = store_of(kind)(dir=store.directory, appendonly="yes", aof_load_truncated="no")
    assert again.call("GET", f"key{turn}") == b"v" * 100


def test_a_slow_fsync_under_always_holds_up_replies_and_nothing_else(vigie_store, disk_faults):
    store = vigie_store(env=disk_faults.env, appendonly="yes", appendfsync="always")
    with store.raw() as writer, store.raw() as reader:
        writer.call("SET", "a", "1")
        disk_faults.slow_fsync(0.4)
        # The first one is waited for in the loop, as the disk was quick so far; then it is known to be slow.
        writer.call("SET", "a", "2")
        start = time.monotonic()
        writer.send("SET", "a", "3")
        assert store.call("PING") == b"PONG" and time.monotonic() - start < 0.9
        assert writer.read() == b"+OK\r\n" and time.monotonic() - start >= 0.4
        assert reader.call("GET", "a") == b"$1\r\n3\r\n"


# -- a disk that fails

def test_an_error_of_write_refuses_writes_until_it_is_over(vigie_store, disk_faults):
    store = vigie_store(env=disk_faults.env, appendonly="yes", appendfsync="everysec")
    with store.raw() as client:
        client.call("SET", "a", "1")
        size = wait_until(lambda: increment(store).stat().st_size, 5)
        disk_faults.fail_write(errno.EIO, "incr.aof")
        client.call("SET", "b", "1")
        wait_until(lambda: client.call("SET", "c", "1") == b"-MISCONF Errors writing to the AOF file: Input/output error\r\n", 5)
        text = store.log_text()
        assert f"Error writing to the AOF file {increment(store)}: Input/output error (0 of " in text and f"at byte {size})" in text
        assert persistence(store, "aof_last_write_status") == ["err"] and client.call("GET", "b") == b"$1\r\n1\r\n"
        disk_faults.fail_write(None, None)
        wait_until(lambda: client.call("SET", "c", "2") == b"+OK\r\n", 5)
    time.sleep(0.05)
    store.kill()
    again = vigie_store(dir=store.directory, appendonly="yes", aof_load_truncated="no")
    assert again.call("MGET", "a", "b", "c") == [b"1", b"1", b"2"]


@pytest.mark.parametrize("fault", ["fail_write", "fail_fsync"])
def test_an_error_while_saving_leaves_the_old_file_and_no_other(vigie_store, disk_faults, fault):
    store = vigie_store(env=disk_faults.env, save=("1000", "1000"))
    store.call("SET", "a", "1")
    store.call("SAVE")
    before = (store.directory / "dump.rdb").read_bytes()
    store.call("SET", "a", "2")
    getattr(disk_faults, fault)(errno.EIO, "temp-")
    with store.raw() as client:
        assert client.call("SAVE") == b"-ERR\r\n"
        assert "Failed saving the DB: " in store.log_text() and f"{store.directory}/temp-{store.pid}.rdb: Input/output error" in store.log_text()
        assert client.call("SET", "a", "3") == b"+OK\r\n"  # as in Redis, only a BGSAVE that fails refuses writes
        client.call("BGSAVE")
        wait_until(lambda: persistence(store, "rdb_bgsave_in_progress", "rdb_last_bgsave_status") == ["0", "err"], 10)
        assert client.call("SET", "a", "4").startswith(b"-MISCONF Redis is configured to save RDB snapshots")
        assert "Background saving error: " in store.log_text()
        assert (store.directory / "dump.rdb").read_bytes() == before and not temporary(store.directory)
        # It goes on without, where the configuration says so.
        client.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        assert client.call("SET", "a", "4") == b"+OK\r\n"
        client.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
        assert client.call("SET", "a", "5").startswith(b"-MISCONF")
        getattr(disk_faults, fault)(None, None)
        client.call("BGSAVE")
        wait_until(lambda: persistence(store, "rdb_bgsave_in_progress", "rdb_last_bgsave_status") == ["0", "ok"], 10)
        assert client.call("SET", "a", "5") == b"+OK\r\n"
    assert (store.directory / "dump.rdb").read_bytes() != before


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("fault", ["fail_write", "fail_fsync"])
def test_an_error_while_rewriting_keeps_the_files_that_are_there(vigie_store, disk_faults, fault, preamble):
    store = vigie_store(env=disk_faults.env, appendonly="yes", appendfsync="always", aof_use_rdb_preamble=preamble)
    store.call("SET", "a", "1")
    getattr(disk_faults, fault)(errno.EIO, "temp-rewriteaof")
    store.call("BGREWRITEAOF")
    wait_until(lambda: persistence(store, "aof_rewrite_in_progress", "aof_last_bgrewrite_status") == ["0", "err"], 10)
    assert "Background AOF rewrite terminated with error: " in store.log_text() and "Input/output error" in store.log_text()
    assert not temporary(store.directory)
    store.call("SET", "b", "1")
    getattr(disk_faults, fault)(None, None)
    store.call("BGREWRITEAOF")
    wait_until(lambda: persistence(store, "aof_rewrite_in_progress", "aof_last_bgrewrite_status") == ["0", "ok"], 10)
    store.call("SET", "c", "1")
    store.kill()
    assert vigie_store(dir=store.directory, appendonly="yes").call("MGET", "a", "b", "c") == [b"1"] * 3


# -- a disk that is full, a file that may not grow, a folder that takes nothing

@pytest.fixture
def small_disk(tmp_path):
    """`small_disk("2m")` mounts one; again it becomes larger."""
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = []

    def size(text):
        options = f"remount,size={text}" if mounted else f"size={text}"
        subprocess.run(["mount", *([] if mounted else ["-t", "tmpfs"]), "-o", options, *([] if mounted else ["tmpfs"]), mount], check=True)
        mounted.append(text)
        return mount
    yield size
    if mounted:
        subprocess.run(["umount", "-l", mount], check=True)


def fill(store, keys, size=1000):
    """Values that do not compress."""
    with store.raw(timeout=20) as client:
        for i in range(keys):
            client.call("SET", f"key{i}", os.urandom(size))


@root
def test_a_full_disk_while_saving(vigie_store, small_disk):
    store = vigie_store(dir=small_disk("1m"), save=("1000", "100000"))
    store.call("SET", "small", "1")
    store.call("SAVE")
    before = (store.directory / "dump.rdb").read_bytes()
    fill(store, 2000)
    with store.raw(timeout=20) as client:
        assert client.call("SAVE") == b"-ERR\r\n"
        assert "No space left on device" in store.log_text() and not temporary(store.directory)
        client.call("BGSAVE")
        wait_until(lambda: persistence(store, "rdb_bgsave_in_progress", "rdb_last_bgsave_status") == ["0", "err"], 10)
        assert not temporary(store.directory) and (store.directory / "dump.rdb").read_bytes() == before
        assert client.call("SET", "a", "1").startswith(b"-MISCONF")
        # It does not end in order without its snapshot.
        assert client.call("SHUTDOWN", "SAVE").startswith(b"-ERR Errors trying to SHUTDOWN")
        small_disk("8m")
        client.call("BGSAVE")
        wait_until(lambda: persistence(store, "rdb_bgsave_in_progress", "rdb_last_bgsave_status") == ["0", "ok"], 10)
        assert client.call("SET", "a", "1") == b"+OK\r\n"
    store.kill()
    assert vigie_store(dir=store.directory).call("DBSIZE") == 2001


@root
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_a_full_disk_while_rewriting(vigie_store, small_disk, preamble):
    store = vigie_store(dir=small_disk("3m"), appendonly="yes", appendfsync="everysec", auto_aof_rewrite_percentage="0", aof_use_rdb_preamble=preamble)
    fill(store, 2000)
    store.call("BGREWRITEAOF")
    wait_until(lambda: persistence(store, "aof_rewrite_in_progress", "aof_last_bgrewrite_status") == ["0", "err"], 10)
    assert "No space left on device" in store.log_text() and not temporary(store.directory)
    assert store.call("SET", "a", "1") == b"OK"  # the increment still has room
    small_disk("8m")
    store.call("BGREWRITEAOF")
    wait_until(lambda: persistence(store, "aof_rewrite_in_progress", "aof_last_bgrewrite_status") == ["0", "ok"], 10)
    store.call("SET", "b", "1")
    time.sleep(0.05)
    store.kill()
    assert vigie_store(dir=store.directory, appendonly="yes").call("DBSIZE") == 2002


@root
def test_a_folder_that_is_read_only(vigie_store, small_disk):
    mount = small_disk("1m")
    store = vigie_store(dir=mount, save=("1000", "1000"))
    store.call("SET", "a", "1")
    store.call("SAVE")
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    with store.raw() as client:
        assert client.call("SAVE") == b"-ERR\r\n"
        client.call("BGSAVE")
        wait_until(lambda: persistence(store, "rdb_bgsave_in_progress", "rdb_last_bgsave_status") == ["0", "err"], 10)
        assert client.call("SET", "a", "1").startswith(b"-MISCONF")
        assert client.call("CONFIG", "SET", "appendonly", "yes").endswith(b"Unable to turn on AOF. Check server logs.\r\n")
    text = store.log_text()
    assert f"Failed saving the DB: open {mount}/temp-{store.pid}.rdb: Read-only file system" in text
    assert f"Can't rewrite append only file in background: make the folder {mount}/appendonlydir: Read-only file system" in text
    subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
    assert store.call("SAVE") == b"OK" and store.call("SET", "a", "2") == b"OK"


def test_files_that_may_not_grow(vigie_store):
    """RLIMIT_FSIZE: an error of write, and not the end of the process, whose signal for it is ignored."""
    store = vigie_store(appendonly="yes", appendfsync="everysec", auto_aof_rewrite_percentage="0", save=("1000", "100000"))
    store.call("SET", "small", "1")
    store.call("SAVE")
    before = (store.directory / "dump.rdb").read_bytes()
    fill(store, 100)
    limits = resource.prlimit(store.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (150_000, limits[1]))
    with store.raw(timeout=20) as client:
        for i in range(1000):
            reply = client.call("SET", f"more{i}", os.urandom(1000))
            if reply != b"+OK\r\n":
                break
        assert reply == b"-MISCONF Errors writing to the AOF file: File too large\r\n"
        assert increment(store).stat().st_size <= 150_000
        resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (50_000, limits[1]))
        assert client.call("SAVE") == b"-ERR\r\n"
        assert (store.directory / "dump.rdb").read_bytes() == before and not temporary(store.directory)
        client.call("BGSAVE")
        wait_until(lambda: persistence(store, "rdb_bgsave_in_progress", "rdb_last_bgsave_status") == ["0", "err"], 10)
        assert store.alive() and not temporary(store.directory)
        resource.prlimit(store.pid, resource.RLIMIT_FSIZE, limits)
        # The file is written by itself when it can be; of the two reasons the snapshot is the one that is told, as in Redis.
        assert client.call("SET", "last", "1").startswith(b"-MISCONF Redis is configured to save RDB snapshots")
        wait_until(lambda: persistence(store, "aof_last_write_status") == ["ok"], 5)
        assert client.call("SAVE") == b"+OK\r\n"
        assert client.call("SET", "last", "1") == b"+OK\r\n"
        keys = client.value("DBSIZE")
    time.sleep(0.05)
    store.kill()
    assert vigie_store(dir=store.directory, appendonly="yes", aof_load_truncated="no").call("DBSIZE") == keys
