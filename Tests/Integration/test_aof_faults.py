"""What the append-only file survives: kill -9, full disks, failing fsyncs, damage. AOF_KILLS=500 makes more rounds of kill -9."""

import os
import random
import subprocess
import threading
import time

import pytest

from harness import ServerClosed, free_port, vigie_role, wait_until
from harness.contents import contents, fill
from harness.resp import encode

MANIFEST = "appendonly.aof.manifest"
KILLS = int(os.environ.get("AOF_KILLS", "100"))


def folder(store):
    return store.directory / "appendonlydir"


def increment(store, number=1):
    return folder(store) / f"appendonly.aof.{number}.incr.aof"


# -- kill -9

class Writer(threading.Thread):
    """Counts up in keys of its own, and remembers the last answer and when it came."""

    def __init__(self, store, name):
        super().__init__()
        self.client, self.name_, self.acknowledged, self.times = store.raw(), name, 0, []

    def run(self):
        try:
            while True:
                answer = self.client.value("INCR", self.name_)
                self.acknowledged = answer
                self.times.append(time.monotonic())
        except (ServerClosed, ConnectionError, TimeoutError):
            pass


@pytest.mark.time_limit(60 + 3 * KILLS)
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_kill_9_at_random_moments(vigie_store, policy):
    draw = random.Random(4)
    store = vigie_store(appendonly="yes", appendfsync=policy)
    expected = [0] * 4
    total = 0
    for turn in range(KILLS):
        writers = [Writer(store, f"k{i}") for i in range(4)]
        for writer in writers:
            writer.start()
        # Some die in the middle of a rewrite, or of the change of files behind it.
        if turn % 3 == 0:
            time.sleep(draw.uniform(0, 0.05))
            store.call("BGREWRITEAOF")
        time.sleep(draw.uniform(0.005, 0.1))
        store.kill()
        ended = time.monotonic()
        for writer in writers:
            writer.join()
        total += sum(len(writer.times) for writer in writers)
        store = vigie_store(dir=store.directory, appendonly="yes", appendfsync=policy)
        for i, writer in enumerate(writers):
            found = int(store.call("GET", f"k{i}") or 0)
            older = sum(1 for moment in writer.times if moment < ended - 2)
            least = writer.acknowledged if policy == "always" else expected[i] + older
            assert found >= least, (turn, i, found, writer.acknowledged)
            # One may have been executed whose answer did not come.
            assert found <= writer.acknowledged + 1 or writer.acknowledged == 0
            expected[i] = found
    assert total > 20 * KILLS
    checked = subprocess.run(["redis-check-aof", folder(store) / MANIFEST], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


# -- disks that do not take what is written

def fails_to_write(store):
    """The next increment leads to /dev/full, where every write fails as on a full disk."""
    number = 1 + max(int(file.name.split(".")[2]) for file in folder(store).glob("*.incr.aof"))
    increment(store, number).symlink_to("/dev/full")
    store.call("BGREWRITEAOF")
    wait_until(lambda: store.info("persistence")["aof_rewrite_in_progress"] == "0", 10)
    return increment(store, number)


def fails_to_sync(store):
    """The next increment leads to /dev/null, which has no fsync."""
    number = 1 + max(int(file.name.split(".")[2]) for file in folder(store).glob("*.incr.aof"))
    increment(store, number).symlink_to("/dev/null")
    store.call("BGREWRITEAOF")
    wait_until(lambda: store.info("persistence")["aof_rewrite_in_progress"] == "0", 10)


def test_always_acknowledges_nothing_that_was_not_written(vigie_store):
    store = vigie_store(appendonly="yes", appendfsync="always")
    store.call("SET", "a", "1")
    fails_to_write(store)
    with store.raw() as client:
        client.send("SET", "b", "1")
        with pytest.raises((ServerClosed, ConnectionError)):
            client.read()
    assert store.process.child.wait(5) == 1
    assert "Can't recover from AOF write error" in store.log_text() and "No space left on device" in store.log_text()


def test_always_acknowledges_nothing_that_was_not_synced(vigie_store):
    store = vigie_store(appendonly="yes", appendfsync="always")
    store.call("SET", "a", "1")
    fails_to_sync(store)
    with store.raw() as client, store.raw() as other:
        client.send("SET", "b", "1")
        other.send("GET", "b")
        for one in (client, other):
            with pytest.raises((ServerClosed, ConnectionError)):
                one.read()
    assert store.process.child.wait(5) == 1
    assert "Can't persist AOF for fsync error" in store.log_text()


def test_everysec_refuses_writes_while_they_cannot_be_written(vigie_store):
    store = vigie_store(appendonly="yes", appendfsync="everysec")
    store.call("SET", "a", "1")
    broken = fails_to_write(store)
    with store.raw() as client:
        client.call("SET", "b", "1")  # taken: it is known only afterwards that it cannot be written
        wait_until(lambda: client.call("SET", "c", "1").startswith(b"-MISCONF Errors writing to the AOF file: No space left"), 5)
        assert client.call("GET", "a") == b"$1\r\n1\r\n"
        client.call("MULTI")
        assert client.call("SET", "c", "1").startswith(b"-MISCONF")
        client.call("DISCARD")
        assert store.info("persistence")["aof_last_write_status"] == "err"
    assert broken.is_symlink()
    # What was taken is kept until there is room.
    assert store.call("EXISTS", "b") == 1 and store.call("EXISTS", "c") == 0
    # It does not end in order while they are not written, unless it is told to.
    with store.raw() as client:
        assert client.call("SHUTDOWN") == b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n"
        client.send("SHUTDOWN", "FORCE")
        assert client.closed(5)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("policy", ["everysec", "no", "always"])
def test_a_disk_that_becomes_full(vigie_store, tmp_path, policy):
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=True)
    try:
        store = vigie_store(dir=mount, appendonly="yes", appendfsync=policy, auto_aof_rewrite_percentage="0")
        acknowledged = 0
        with store.raw() as client:
            try:
                while client.call("SET", f"k{acknowledged}", "v" * 9000) == b"+OK\r\n":
                    acknowledged += 1
                    assert acknowledged < 1000
            except (ServerClosed, ConnectionError):
                assert policy == "always"
        if policy == "always":
            assert store.process.child.wait(5) == 1
            store = vigie_store(dir=mount, appendonly="yes", appendfsync="always")
        else:
            # Half a command was written and is taken back: the file can be loaded as it is.
            assert store.info("persistence")["aof_last_write_status"] == "err"
            # Room: a larger disk.
            subprocess.run(["mount", "-o", "remount,size=4m", mount], check=True)
            wait_until(lambda: store.call("SET", "room", "1") == b"OK", 5)
            assert "AOF write error looks solved" in store.log_text()
            assert store.info("persistence")["aof_last_write_status"] == "ok"
            store.call("SET", "room", "2")
            time.sleep(0.05)
            store.kill()
            store = vigie_store(dir=mount, appendonly="yes", aof_load_truncated="no")
            assert store.call("GET", "room") == b"2"
        assert all(store.call("EXISTS", f"k{i}") for i in range(acknowledged))
        store.kill()
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def test_an_fsync_that_failed_is_never_forgotten(vigie_store):
    store = vigie_store(appendonly="yes", appendfsync="everysec")
    store.call("SET", "a", "1")
    fails_to_sync(store)
    # The folder takes no new files, so that no rewrite can heal it yet.
    next_increment = increment(store, 3)
    next_increment.mkdir()
    with store.raw() as client:
        client.call("SET", "b", "1")
        wait_until(lambda: client.call("SET", "c", "1").startswith(b"-MISCONF Errors writing to the AOF file: "), 5)
        text = store.log_text()
        assert "fsync of " in text and "may not be on the disk" in text
        # Long enough for the attempts that come one after the other, and the first that waits.
        wait_until(lambda: store.log_text().count("Can't rewrite append only file in background") >= 3, 10)
        assert client.call("SET", "c", "1").startswith(b"-MISCONF")
        # A new base with a new increment has everything: writes go on.
        next_increment.rmdir()
        wait_until(lambda: client.call("SET", "c", "1") == b"+OK\r\n", 20)
    time.sleep(0.05)
    store.kill()
    store = vigie_store(dir=store.directory, appendonly="yes")
    assert store.call("MGET", "a", "b", "c") == [b"1"] * 3


# -- what a start refuses, and how it is mended

def start(directory, *arguments):
    """A start that must fail: its words."""
    done = subprocess.run([*vigie_role("store"), "--port", str(free_port()), "--dir", directory, "--appendonly", "yes", *arguments],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def written(vigie_store):
    """A folder with a base and an increment of 100 commands."""
    store = vigie_store(appendonly="yes", appendfsync="always")
    fill(store)
    store.call("BGREWRITEAOF")
    wait_until(lambda: store.info("persistence")["aof_rewrites"] == "1", 10)
    with store.raw() as client:
        for i in range(100):
            client.call("SET", f"key{i}", f"value{i}")
    wait_until(lambda: len(list(folder(store).iterdir())) == 3, 5)
    store.contents = contents(store)
    store.kill()
    return store


def test_files_that_are_missing_are_named(written):
    increment(written, 2).rename(written.directory / "elsewhere")
    text = start(written.directory)
    assert str(increment(written, 2)) in text and "doesn't exist" in text and str(folder(written) / MANIFEST) in text
    (written.directory / "elsewhere").rename(increment(written, 2))
    (folder(written) / MANIFEST).unlink()
    text = start(written.directory)
    assert str(folder(written) / MANIFEST) in text and "appendonly.aof.2.base.rdb, appendonly.aof.2.incr.aof" in text


@pytest.mark.parametrize("text, said", [
    ("file a seq 1 type b\nfile b seq 2 type b\n", "line 2: a second base, 'b' after 'a'"),
    ("file a seq 1 type x\n", "line 1: type 'x'; accepted are b, h and i"),
    ("file ../a seq 1 type b\n", "line 1: the file '../a' is a path"),
    ("# nothing\n", "it names no file"),
    ("file a seq 1 type h\n", "it names no file that is to be loaded: 'a' is history (type h)"),
    ("file a seq none type b\n", "line 1: seq 'none'"),
    ("file a seq 2 type i\nfile b seq 1 type i\n", "line 2: seq 1 of 'b' is not above 2"),
    ("rubbish\n", "line 1: 'rubbish' is not of the form 'file NAME seq NUMBER type b|h|i'"),
])
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path, text, said):
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / MANIFEST).write_text(text)
    words = start(tmp_path)
    assert said in words and f"{tmp_path}/appendonlydir/{MANIFEST}" in words


def test_a_folder_that_takes_no_files_is_refused(tmp_path):
    (tmp_path / "appendonlydir").write_text("no folder")
    assert "appendonlydir" in start(tmp_path)
    (tmp_path / "appendonlydir").unlink()
    if os.geteuid() == 0:
        # Root writes everywhere but on a file system that is read-only.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", tmp_path], check=True)
        try:
            assert "Read-only file system" in start(tmp_path)
        finally:
            subprocess.run(["umount", tmp_path], check=True)


def test_a_tail_that_was_cut_off(written, vigie_store):
    data = increment(written, 2).read_bytes()
    last = data.rindex(b"*3\r\n")
    for cut in (1, 5, 12, len(data) - last - 1):
        increment(written, 2).write_bytes(data[:-cut])
        text = start(written.directory, "--aof-load-truncated", "no")
        assert f"{increment(written, 2)}: byte {last}: Unexpected end of file" in text and "redis-check-aof --fix" in text
        store = vigie_store(dir=written.directory, appendonly="yes")
        assert "key99" not in str(contents(store)) and store.call("GET", "key98") == b"value98"
        assert f"at offset {last}: {len(data) - cut - last} bytes are dropped" in store.log_text()
        store.call("SET", "goes", "on")
        store.kill()
        store = vigie_store(dir=written.directory, appendonly="yes", aof_load_truncated="no")
        assert store.call("GET", "goes") == b"on"
        store.kill()


def test_an_empty_snapshot_is_not_taken_for_an_empty_data_set(written):
    base = folder(written) / "appendonly.aof.2.base.rdb"
    for length in (3, 0):
        base.write_bytes(base.read_bytes()[:length])
        assert f"{base}: byte 0: " in start(written.directory)
    assert base.stat().st_size == 0 and increment(written, 2).exists()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_databases_that_this_server_lacks_are_refused(written, in_transaction):
    data = increment(written, 2).read_bytes()
    more = encode("SELECT", "9") + encode("SET", "key1", "of database 9")
    more = encode("MULTI") + more + encode("EXEC") if in_transaction else more
    increment(written, 2).write_bytes(data + more)
    place = len(data) + (len(encode("MULTI")) if in_transaction else 0)
    assert f"{increment(written, 2)}: byte {place}: it holds database 9, and this server has 4" in start(written.directory, "--databases", "4")


def test_redis_check_aof_mends_what_we_refuse(written, vigie_store):
    data = bytearray(increment(written, 2).read_bytes())
    place = data.index(b"key50") - 4  # the length of the key
    data[place] = ord("x")
    increment(written, 2).write_bytes(data)
    text = start(written.directory)
    assert f"{increment(written, 2)}: byte {place}: Bad file format" in text
    subprocess.run(["redis-check-aof", "--fix", folder(written) / MANIFEST], input="y\n", text=True, check=True, capture_output=True)
    store = vigie_store(dir=written.directory, appendonly="yes")
    assert store.call("GET", "key49") == b"value49" and store.call("EXISTS", "key50") == 0


def test_a_length_that_became_too_large_is_not_taken_for_a_cut_tail(written):
    data = increment(written, 2).read_bytes()
    place = data.index(b"$5\r\nkey50")
    increment(written, 2).write_bytes(data[:place] + b"$9000\r\nkey50" + data[place + 9:])
    start_of_command = data.rindex(b"*3\r\n", 0, place)
    text = start(written.directory)
    assert f"a length in the command at byte {start_of_command} is wrong" in text
    assert len(increment(written, 2).read_bytes()) == len(data) + 3


def test_one_flipped_bit_never_crashes_and_loses_nothing_in_silence(written, vigie_store):
    """A flip in a key or a value is what the file cannot tell; every other one is refused or dropped with words."""
    draw = random.Random(9)
    whole = {file: file.read_bytes() for file in sorted(folder(written).iterdir())}
    base = next(file for file in whole if ".base." in file.name)
    outcomes = set()
    for turn in range(24):
        file = [increment(written, 2), base, folder(written) / MANIFEST][turn % 3]
        data = bytearray(whole[file])
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
        port = free_port()
        store = vigie_store(dir=written.directory, appendonly="yes", port=port, ready=False)
        deadline = time.monotonic() + 10
        while store.alive() and time.monotonic() < deadline and "Ready to accept" not in store.log_text():
            time.sleep(0.01)
        if store.alive():
            found = contents(store)
            changed = {key for key in written.contents if found.get(key) != written.contents[key]}
            # One command at most is another than it was; what the log speaks of may be missing.
            assert len(changed) <= 1 or "bytes are dropped" in store.log_text(), (file, changed)
            outcomes.add("loaded")
        else:
            assert store.process.child.returncode == 1, store.log_text()
            assert str(file.name) in store.log_text()
            outcomes.add("refused")
        store.kill()
        for name, content in whole.items():
            name.write_bytes(content)
    assert outcomes == {"loaded", "refused"}


def test_leftovers_of_a_killed_rewrite_are_removed(written, vigie_store):
    for name in ("temp-rewriteaof-bg-123.aof", "temp-rewriteaof-124.aof", "temp-appendonly.aof.incr"):
        (folder(written) / name).write_bytes(b"half")
    store = vigie_store(dir=written.directory, appendonly="yes")
    assert contents(store) == written.contents
    assert not list(folder(written).glob("temp-*"))
