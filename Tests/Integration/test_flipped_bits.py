"""One flipped bit anywhere in the files: a refusal that names file and byte, or what the format cannot tell, spoken of here.

An RDB file has a checksum over all of it. The increments of an append-only file have none, in Redis as here: a flip in what frames the
commands (counts, lengths, line ends) or in a command's name is found, one in a key or a value makes another key or value of it. The
manifest has none either; what it says is checked against the files that are there.

The files are loaded by DEBUG RELOAD and DEBUG LOADAOF, so that there is time for thousands of flips.
"""

import random
import re

import pytest

from harness import wait_until
from harness.contents import contents, fill

DATABASES = (0, 3)


def flipped(data, bit):
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


class Log:
    """What a store has said since the last time."""

    def __init__(self, store):
        self.path, self.position = store.process.log, store.process.log.stat().st_size

    def news(self):
        with open(self.path, "rb") as file:
            file.seek(self.position)
            text = file.read()
            self.position = file.tell()
        return text.decode(errors="replace")


@pytest.mark.parametrize("writer", ["vigie", "redis"])
def test_every_flip_in_a_snapshot_is_found(store_of, vigie_store, writer):
    source = store_of(writer)()
    fill(source)
    source.call("SAVE")
    store = vigie_store(enable_debug_command="yes", dir=source.directory)
    file = source.directory / "dump.rdb"
    data = file.read_bytes()
    log = Log(store)
    draw = random.Random(12)
    ends = [*range(300 * 8), *range(len(data) * 8 - 20 * 8, len(data) * 8)]
    with store.raw(timeout=20) as client:
        before = client.value("DEBUG", "DIGEST")
        for bit in ends + [draw.randrange(len(data) * 8) for _ in range(1500)]:
            file.write_bytes(flipped(data, bit))
            assert client.call("DEBUG", "RELOAD", "NOSAVE").startswith(b"-ERR Error trying to load the RDB dump"), bit
            said = re.findall(re.escape(f"DEBUG RELOAD: {file}: byte ") + r"(\d+)[:,]", log.news())
            # What it says is where it noticed, which is behind the flip at times, but in the file.
            assert len(said) == 1 and int(said[0]) <= len(data), bit
        assert client.value("DEBUG", "DIGEST") == before  # nothing of it was taken
        file.write_bytes(data)
        assert client.call("DEBUG", "RELOAD", "NOSAVE") == b"+OK\r\n" and client.value("DEBUG", "DIGEST") == before


@pytest.fixture
def written(vigie_store):
    """A base and an increment of commands of every type."""
    store = vigie_store(appendonly="yes", appendfsync="always", enable_debug_command="yes", aof_load_truncated="no", auto_aof_rewrite_percentage="0")
    fill(store)
    store.call("BGREWRITEAOF")
    wait_until(lambda: store.info("persistence")["aof_rewrites"] == "1", 10)
    with store.raw() as client:
        for i in range(40):
            client.call("SET", f"key{i}", f"value{i}")
            client.call("RPUSH", f"list{i}", "a", "b" * 20)
            client.call("HSET", f"hash{i}", "field", "value")
    folder = store.directory / "appendonlydir"
    wait_until(lambda: len(list(folder.iterdir())) == 3, 5)
    store.folder = folder
    return store


def words_of(data):
    """For each byte of an increment: None where it is framing, else (index of the command, index of the word in it)."""
    owners, at, command = [None] * len(data), 0, -1
    while at < len(data):
        end = data.index(b"\r\n", at)
        if data[at] == ord("*"):
            command, word = command + 1, -1
            at = end + 2
            continue
        size, word = int(data[at + 1:end]), word + 1
        for i in range(end + 2, end + 2 + size):
            owners[i] = (command, word)
        at = end + 2 + size + 2
    return owners


def test_flips_in_increments(written):
    file = written.folder / "appendonly.aof.2.incr.aof"
    data = file.read_bytes()
    owners = words_of(data)
    before = contents(written, DATABASES)
    framing = [i for i, owner in enumerate(owners) if owner is None]
    names = [i for i, owner in enumerate(owners) if owner and owner[1] == 0]
    values = [i for i, owner in enumerate(owners) if owner and owner[0] > 0 and owner[1] > 0]
    draw = random.Random(13)
    log = Log(written)

    def load(byte):
        file.write_bytes(flipped(data, byte * 8 + draw.randrange(8)))
        return client.call("DEBUG", "LOADAOF"), log.news()

    with written.raw(timeout=20) as client:
        for byte in draw.sample(framing, 500):
            reply, said = load(byte)
            assert reply.startswith(b"-ERR Error trying to load the AOF files"), byte
            assert re.search(re.escape(f"DEBUG LOADAOF: {file}: byte ") + r"\d+: ", said) and "redis-check-aof --fix" in said, (byte, said)
        for byte in draw.sample(names, 100):
            reply, said = load(byte)
            if reply == b"+OK\r\n":
                # The other case of a letter, or another command's name, which mostly fails and is spoken of.
                assert contents(written, DATABASES) == before or "commands were answered with errors, the first one at byte" in said, byte
            else:
                assert f"DEBUG LOADAOF: {file}: byte " in said
        changed = []
        for byte in draw.sample(values, 60):
            reply, said = load(byte)
            assert reply == b"+OK\r\n", (byte, said)
            found = contents(written, DATABASES)
            # One command is another than it was: its key is gone or new, or has another value. Nothing else is touched.
            different = {key for key in before.keys() | found.keys() if before.get(key) != found.get(key)}
            assert len(different) <= 2, (byte, different)
            changed.append(len(different))
        assert sum(changed) > 50
        file.write_bytes(data)
        assert client.call("DEBUG", "LOADAOF") == b"+OK\r\n"
    assert contents(written, DATABASES) == before


def test_flips_in_the_base(written):
    base = next(written.folder.glob("*.base.rdb"))
    data = base.read_bytes()
    draw = random.Random(14)
    log = Log(written)
    with written.raw(timeout=20) as client:
        for _ in range(500):
            bit = draw.randrange(len(data) * 8)
            base.write_bytes(flipped(data, bit))
            assert client.call("DEBUG", "LOADAOF").startswith(b"-ERR"), bit
            # Without its first bytes it is no snapshot but commands, and none of these.
            said = log.news()
            assert f"DEBUG LOADAOF: {base}: " in said and re.search(r"byte \d+", said), (bit, said)


def test_flips_in_the_manifest(written):
    manifest = written.folder / "appendonly.aof.manifest"
    data = manifest.read_bytes()
    log = Log(written)
    loaded = 0
    with written.raw(timeout=20) as client:
        before = client.value("DEBUG", "DIGEST")
        for bit in range(len(data) * 8):
            manifest.write_bytes(flipped(data, bit))
            reply, said = client.call("DEBUG", "LOADAOF"), log.news()
            if reply == b"+OK\r\n":
                assert client.value("DEBUG", "DIGEST") == before, bit
                loaded += 1
            else:
                assert f"DEBUG LOADAOF: {written.folder}" in said, (bit, said)
    # Letters of the other case, numbers that say nothing.
    assert 0 < loaded < len(data) * 8 / 4
