"""RDB files, ours read by Redis and Redis's read by us."""

import os
import shutil
import signal
import subprocess

import pytest

from harness import vigie_role, free_port, wait_until
from harness.contents import contents, fill

DATABASES = (0, 3)


@pytest.mark.parametrize("writer, reader", [("vigie", "vigie"), ("vigie", "redis"), ("redis", "vigie")])
def test_a_saved_file_is_read(store_of, writer, reader, tmp_path):
    one = store_of(writer)()
    fill(one)
    before = contents(one, DATABASES)
    assert one.call("SAVE") == b"OK"
    folder = tmp_path / "copied"
    folder.mkdir()
    shutil.copy(one.directory / "dump.rdb", folder)
    other = store_of(reader)(dir=folder)
    assert contents(other, DATABASES) == before
    assert other.call("TTL", "expiring") > 900


def test_bgsave_writes_the_file_while_serving(vigie_store):
    store = vigie_store()
    fill(store)
    stamp = store.call("LASTSAVE")
    assert store.call("BGSAVE") == b"Background saving started"
    assert store.call("PING") == b"PONG"
    wait_until(lambda: store.info("persistence")["rdb_bgsave_in_progress"] == "0", 10)
    assert store.info("persistence")["rdb_last_bgsave_status"] == "ok"
    assert (store.directory / "dump.rdb").exists()
    assert store.call("LASTSAVE") >= stamp
    checked = subprocess.run(["redis-check-rdb", store.directory / "dump.rdb"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_save_points_save_by_themselves(vigie_store):
    store = vigie_store(save=("1", "1"))
    store.call("SET", "k", "v")
    wait_until((store.directory / "dump.rdb").exists, 10, "the file that `save 1 1` asks for")


def test_shutdown_save_and_nosave(vigie_store):
    store = vigie_store()
    store.call("SET", "k", "v")
    with store.raw() as client:
        client.send("SHUTDOWN", "NOSAVE")
        assert client.closed(5)
    wait_until(lambda: not store.alive(), 5)
    assert not (store.directory / "dump.rdb").exists()
    store = vigie_store()
    store.call("SET", "k", "v")
    with store.raw() as client:
        client.send("SHUTDOWN", "SAVE")
        assert client.closed(5)
    wait_until(lambda: not store.alive(), 5)
    assert (store.directory / "dump.rdb").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "magic", "version", "checksum"])
def test_a_damaged_file_is_refused_and_kept(vigie_store, redis_server, damage, tmp_path):
    real = redis_server()
    fill(real)
    real.call("SAVE")
    data = bytearray((real.directory / "dump.rdb").read_bytes())
    if damage == "truncated":
        data = data[:len(data) // 2]
    elif damage == "flipped":
        for at in range(200, len(data), 997):
            data[at] ^= 0x55
    elif damage == "magic":
        data[:5] = b"RUBIS"
    elif damage == "version":
        data[5:9] = b"9999"
    elif damage == "checksum":
        data[-1] ^= 1
    folder = tmp_path / "damaged"
    folder.mkdir()
    file = folder / "dump.rdb"
    file.write_bytes(data)
    done = subprocess.run([*vigie_role("store"), "--port", str(free_port()), "--dir", folder], capture_output=True,
                          text=True, timeout=20)
    assert done.returncode not in (0, -signal.SIGSEGV, -signal.SIGILL, -signal.SIGABRT), done.stdout + done.stderr
    assert file.read_bytes() == data
