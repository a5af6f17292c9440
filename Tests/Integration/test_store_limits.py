"""Clients that ask too much or too little: in each case the loop stays live, and nothing else is touched."""

import os
import re
import resource
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from harness import RawClient, ServerClosed, encode, wait_until


def processor_seconds(server):
    fields = open(f"/proc/{server.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(server):
    return int(re.search(r"VmRSS:\s+(\d+) kB", open(f"/proc/{server.pid}/status").read())[1]) * 1024


def assert_idle(server, seconds=1.0, share=0.1):
    """The server uses next to no processor time while nobody asks anything."""
    before = processor_seconds(server)
    time.sleep(seconds)
    used = processor_seconds(server) - before
    assert used <= seconds * share, f"{used:.2f} s of processor time in {seconds} s of idling"


class Watcher:
    """Another client that asks PING all the time; `worst` is the most processor time that the server spent on others before it
    answered, which says the same on a busy machine as on an idle one."""

    def __init__(self, server):
        self.server, self.client, self.worst, self.failure, self.over = server, server.raw(timeout=100), 0.0, None, False
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        try:
            while not self.over:
                before = processor_seconds(self.server)
                assert self.client.call("PING") == b"+PONG\r\n"
                self.worst = max(self.worst, processor_seconds(self.server) - before)
                time.sleep(0.01)
        except Exception as error:
            self.failure = error

    def end(self, limit):
        self.over = True
        self.thread.join()
        self.client.close()
        assert self.failure is None
        assert self.worst < limit, f"another client waited for {self.worst:.2f} s of work"


def test_a_client_that_never_reads_is_closed_at_the_hard_limit(vigie_store):
    store = vigie_store(client_output_buffer_limit=["normal", "4mb", "0", "0"])
    store.call("SET", "large", "x" * 100_000)
    watcher = Watcher(store)
    with RawClient(store.port) as client:
        client.send_raw(encode("GET", "large") * 1000)
        wait_until(lambda: store.info("clients")["connected_clients"] == "2", 10)
    watcher.end(0.5)
    assert resident_bytes(store) < 100_000_000
    assert_idle(store)


def test_a_client_that_never_reads_is_closed_at_the_soft_limit(vigie_store):
    store = vigie_store(client_output_buffer_limit=["normal", "0", "1mb", "1"])
    store.call("SET", "large", "x" * 100_000)
    with RawClient(store.port) as client:
        client.send_raw(encode("GET", "large") * 100)
        time.sleep(0.5)
        assert store.info("clients")["connected_clients"] == "2"
        wait_until(lambda: store.info("clients")["connected_clients"] == "1", 10)
        store.wait_log("closed for overcoming of output buffer limits")


def test_a_subscriber_that_never_reads_is_closed_at_its_class_limit(vigie_store):
    store = vigie_store(client_output_buffer_limit=["pubsub", "2mb", "0", "0"])
    with store.raw() as subscriber, store.raw() as publisher:
        subscriber.call("SUBSCRIBE", "news")
        for _ in range(400):
            publisher.call("PUBLISH", "news", "x" * 50_000)
        wait_until(lambda: store.call("PUBSUB", "NUMSUB", "news") == [b"news", 0], 10)
        assert publisher.call("PUBLISH", "news", "x") == b":0\r\n"


def test_clients_that_send_one_byte_at_a_time(vigie_store):
    """Twenty of them, a byte each 50 ms: each is answered when its request is whole, and costs nothing meanwhile."""
    store = vigie_store()
    request = encode("SET", "slow", "x" * 10)
    clients = [RawClient(store.port) for _ in range(20)]
    watcher = Watcher(store)
    before = processor_seconds(store)
    for i in range(len(request)):
        for client in clients:
            client.send_raw(request[i:i + 1])
        time.sleep(0.05)
    assert all(client.read() == b"+OK\r\n" for client in clients)
    assert processor_seconds(store) - before < 0.5
    watcher.end(0.2)


def test_a_long_request_in_small_pieces_is_not_read_again_and_again(vigie_store):
    """50 000 arguments in pieces of 1400 bytes: what has come is not looked at once more with each piece."""
    store = vigie_store()
    request = encode("DEL", *(b"key:%06d" % i for i in range(50_000)))
    before = processor_seconds(store)
    with RawClient(store.port, timeout=30) as client:
        for at in range(0, len(request), 1400):
            client.send_raw(request[at:at + 1400])
            if at % 14_000 == 0:
                time.sleep(0.001)
        assert client.read() == b":0\r\n"
    assert processor_seconds(store) - before < 1.0


def test_an_announcement_of_two_billion_arguments_costs_nothing(vigie_store):
    store = vigie_store()
    before = resident_bytes(store)
    clients = [RawClient(store.port) for _ in range(50)]
    for client in clients:
        client.send_raw(b"*2147483647\r\n$4\r\nPING\r\n$536870912\r\n")
    for _ in range(10):
        assert store.call("PING") == b"PONG"
    assert resident_bytes(store) - before < 20_000_000
    assert_idle(store)


def test_a_request_beyond_the_query_buffer_limit_ends_the_connection(vigie_store):
    store = vigie_store(client_query_buffer_limit="1mb")
    with RawClient(store.port) as client, pytest.raises((ServerClosed, ConnectionError)):
        client.send_raw(b"*100000\r\n" + b"$1000\r\n" * 1 + b"x" * 1000 + b"\r\n")
        for _ in range(3000):
            client.send_raw(b"$1000\r\n" + b"x" * 1000 + b"\r\n")
        client.read()
    assert store.call("PING") == b"PONG"


def test_without_descriptors_the_store_serves_who_is_there_and_recovers(vigie_store):
    store = vigie_store()
    with store.raw() as first:
        first.call("PING")
        open_now = len(os.listdir(f"/proc/{store.pid}/fd"))
        subprocess.run(["prlimit", "--pid", str(store.pid), f"--nofile={open_now + 5}:20000"], check=True)
        crowd = [RawClient(store.port, timeout=1) for _ in range(20)]
        served = [client for client in crowd if answers(client)]
        assert 1 <= len(served) <= 6
        assert first.call("SET", "k", "v") == b"+OK\r\n"
        assert_idle(store)
        assert first.call("GET", "k") == b"$1\r\nv\r\n"
        for client in served:
            client.close()
        waiting = [client for client in crowd if client not in served]
        # What they asked is answered as soon as there are descriptors for them.
        wait_until(lambda: sum(answered(client) for client in waiting) >= len(served) - 1, 5)
        subprocess.run(["prlimit", "--pid", str(store.pid), "--nofile=20000:20000"], check=True)
        wait_until(lambda: all(answered(client) for client in waiting), 5)
        assert store.call("PING") == b"PONG"


def answers(client, seconds=0.3):
    client.send("PING")
    return answered(client, seconds)


def answered(client, seconds=0.05):
    if not getattr(client, "has_answered", False):
        try:
            client.has_answered = client.read(timeout=seconds) == b"+PONG\r\n"
        except TimeoutError:
            client.has_answered = False
    return client.has_answered


def test_maxclients_can_be_changed(vigie_store, redis_server):
    for server in (vigie_store(maxclients=2), redis_server(maxclients=2)):
        with server.raw() as one, server.raw() as two:
            assert two.call("PING") == b"+PONG\r\n"
            with RawClient(server.port) as three:
                assert three.read() == b"-ERR max number of clients reached\r\n" and three.closed()
            assert one.call("CONFIG", "SET", "maxclients", "3") == b"+OK\r\n"
            with server.raw() as three:
                assert three.call("PING") == b"+PONG\r\n"
            assert b"rejected_connections:1\r\n" in one.value("INFO", "stats")


SYSTEM_OOM = b"-OOM command not allowed when the system gives no more memory.\r\n"


def limit_address_space(server, room=None):
    """The process may map `room` bytes more than it has mapped; None: as much as it likes."""
    mapped = int(re.search(r"VmSize:\s+(\d+) kB", open(f"/proc/{server.pid}/status").read())[1]) * 1024
    limit = "unlimited" if room is None else mapped + room
    subprocess.run(["prlimit", "--pid", str(server.pid), f"--as={limit}:unlimited"], check=True)


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu",
                                    "volatile-random", "volatile-ttl"])
def test_when_the_system_gives_no_more_memory(vigie_store, policy):
    store = vigie_store(maxmemory_policy=policy)
    evicts = policy != "noeviction"
    value, batch = "v" * 1000, 1000
    with store.raw(timeout=60) as client:
        assert client.call("SET", "kept", "value") == b"+OK\r\n"
        limit_address_space(store, 64 << 20)
        refused = sent = 0
        for start in range(0, 200_000, batch):
            words = ["EX", "10000"] if policy.startswith("volatile") else []
            client.socket.sendall(b"".join(encode("SET", f"key:{i}", value, *words) for i in range(start, start + batch)))
            replies = [client.read() for _ in range(batch)]
            assert set(replies) <= {b"+OK\r\n", SYSTEM_OOM}
            sent += batch
            refused += replies.count(SYSTEM_OOM)
            if refused:
                break
        assert (refused > 0) != evicts
        assert sent > 30_000, "it gave up long before there was no memory"
        kept = int(client.call("DBSIZE")[1:-2])
        assert kept > 25_000 and (kept < sent)
        assert "The system gives no more memory." in store.log_text()
        # Everybody is served: who reads, who deletes, and who asks for more than there is.
        if evicts:
            assert client.call("SET", "new", "value") == b"+OK\r\n"
        else:
            assert client.call("GET", "kept") == b"$5\r\nvalue\r\n"
            assert client.call("SET", "new", "value") == SYSTEM_OOM
        assert client.call("SETRANGE", "kept", 200_000_000, "x") == SYSTEM_OOM
        with store.raw(timeout=60) as other:
            other.socket.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$200000000\r\n")
            assert other.read() == b"-ERR Protocol error: out of memory for a bulk string of 200000000 bytes\r\n"
            with pytest.raises(ServerClosed):
                other.read()
        for start in range(0, sent, batch):
            client.socket.sendall(encode("DEL", *(f"key:{i}" for i in range(start, start + batch // 2))))
            assert client.read().startswith(b":")
        assert client.call("SET", "new", "value") == b"+OK\r\n"
        limit_address_space(store)
        wait_until(lambda: "The system gives memory again." in store.log_text(), 10)
        assert client.call("SETRANGE", "kept", 200_000_000, "x") == b":200000001\r\n"
        assert client.call("GET", "new") == b"$5\r\nvalue\r\n"


@pytest.mark.parametrize("words", [["RPUSH", "l"], ["SADD", "s"], ["HSET", "h", "f"], ["MSET", "k"], ["SETNX", "k"], ["GETSET", "k"]], ids=lambda words: words[0])
def test_a_long_argument_that_there_is_no_memory_to_copy(vigie_store, words):
    """It fits once, while it is received, and not twice. What keeps the memory that it was received into needs no more."""
    store = vigie_store()
    with store.raw(timeout=60) as client:
        client.call("PING")
        limit_address_space(store, 70 << 20)
        client.send(*words, b"x" * (50 << 20))
        fits = words[0] in ("MSET", "SETNX", "GETSET")
        assert (client.read() == SYSTEM_OOM) != fits
        if not fits:
            # A queue keeps a copy whatever the command.
            assert client.call("MULTI") == b"+OK\r\n"
            assert client.call("SET", "k", b"x" * (50 << 20)) == SYSTEM_OOM
            assert client.call("EXEC").startswith(b"-EXECABORT")
    assert store.call("DBSIZE") == (1 if fits else 0)


def test_a_copy_that_there_is_no_memory_for_is_refused(vigie_store):
    store = vigie_store()
    with store.raw(timeout=60) as client:
        assert client.call("SETRANGE", "big", 100_000_000, "x") == b":100000001\r\n"
        for start in range(0, 1_000_000, 10_000):
            client.call("SADD", "set", *(f"member:{n}" for n in range(start, start + 10_000)))
        limit_address_space(store, 20 << 20)
        assert client.call("COPY", "big", "copy") == SYSTEM_OOM
        assert client.call("COPY", "set", "copy") == SYSTEM_OOM
        limit_address_space(store)
        assert client.call("COPY", "big", "copy") == b":1\r\n"
        assert client.call("COPY", "set", "copy", "REPLACE") == b":1\r\n"
        assert client.call("SCARD", "copy") == b":1000000\r\n"


@pytest.mark.parametrize("words", [["SRANDMEMBER", "set"], ["HRANDFIELD", "hash"], ["ZRANDMEMBER", "zset"]], ids=lambda words: words[0])
def test_more_repeated_elements_than_any_memory_holds_are_refused(vigie_store, words):
    store = vigie_store()
    with store.raw(timeout=60) as client:
        client.call("SADD", "set", "m"), client.call("HSET", "hash", "f", "v"), client.call("ZADD", "zset", 1, "m")
        for count in (-(2**63) + 1, -(2**62), -(2**40)):
            assert client.call(*words, count) == SYSTEM_OOM
        client.send(*words, -300_000)
        assert client.read().startswith(b"*300000\r\n")


def test_a_reply_that_there_is_no_memory_for_ends_the_connection(vigie_store):
    store = vigie_store()
    with store.raw(timeout=60) as client, store.raw(timeout=60) as other:
        other.call("PING")
        assert client.call("SETRANGE", "big", 200_000_000, "x") == b":200000001\r\n"
        limit_address_space(store, 64 << 20)
        client.send("GET", "big")
        with pytest.raises(ServerClosed):
            while True:
                client.read()
        assert other.call("SET", "k", "v") == b"+OK\r\n"
        assert other.call("STRLEN", "big") == b":200000001\r\n"
        limit_address_space(store)
        other.send("GET", "big")
        assert len(other.read()) > 200_000_000


def test_every_byte_and_nothing_at_all_as_key_and_value(vigie_store):
    store = vigie_store()
    every = bytes(range(256))
    names = [b"", every, every[::-1] * 20, *(bytes([byte]) for byte in range(256))]
    with store.raw() as client:
        for name in names:
            for value in (b"", every, name):
                assert client.call("SET", name, value) == b"+OK\r\n"
                assert client.value("GET", name) == value
            assert client.call("RPUSH", b"list:" + name, b"", every, name) == b":3\r\n"
            assert client.value("LRANGE", b"list:" + name, 0, -1) == [b"", every, name]
            client.call("HSET", b"hash:" + name, name, every, b"", b"")
            assert client.value("HGET", b"hash:" + name, b"") == (b"" if name else b"")
            client.call("SADD", b"set:" + name, name, b"", every)
            assert sorted(client.value("SMEMBERS", b"set:" + name)) == sorted({name, b"", every})
            client.call("ZADD", b"zset:" + name, 1, name)
            assert client.value("ZRANGE", b"zset:" + name, 0, -1) == [name]
        assert client.call("EXISTS", *names) == b":%d\r\n" % len(names)
        assert client.value("DBSIZE") == 5 * len(names)


class Sink:
    """Reads a bulk string of a known size without keeping it."""

    @staticmethod
    def read(client, size, byte):
        head = b"$%d\r\n" % size
        area = bytearray(1 << 20)
        left = len(head) + size + 2
        first = True
        while left:
            count = client.socket.recv_into(area, min(left, len(area)))
            assert count > 0
            if first:
                assert area[:len(head)] == head
                assert area[len(head):count].count(byte) >= count - len(head) - 2
                first = False
            left -= count
        assert area[:count].endswith(b"\r\n")


@pytest.mark.time_limit(180)
def test_keys_and_values_of_512_megabytes(vigie_store):
    """proto-max-bulk-len's default exactly, as value and as key; one byte more is refused. About 1.6 GB of memory."""
    store = vigie_store()
    size = 512 << 20
    block = b"x" * (1 << 20)
    watcher = Watcher(store)
    began = time.monotonic()
    with store.raw(timeout=60) as client:
        def send_block(head, tail):
            client.send_raw(head + b"$%d\r\n" % size)
            for _ in range(512):
                client.send_raw(block)
            client.send_raw(b"\r\n" + tail)

        send_block(b"*3\r\n$3\r\nSET\r\n$1\r\nv\r\n", b"")
        assert client.read() == b"+OK\r\n"
        assert client.call("STRLEN", "v") == b":%d\r\n" % size
        assert client.call("APPEND", "v", "y") == b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"
        client.send("GET", "v")
        Sink.read(client, size, b"x")
        assert client.call("DEL", "v") == b":1\r\n"
        send_block(b"*3\r\n$3\r\nSET\r\n", b"$1\r\nv\r\n")
        assert client.read() == b"+OK\r\n"
        send_block(b"*2\r\n$3\r\nGET\r\n", b"")
        assert client.read() == b"$1\r\nv\r\n"
        assert client.call("FLUSHALL") == b"+OK\r\n"
        client.send_raw(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % (size + 1))
        assert client.read() == b"-ERR Protocol error: invalid bulk length\r\n" and client.closed()
    took = time.monotonic() - began
    watcher.end(2.0)
    wait_until(lambda: resident_bytes(store) < 200_000_000, 5)
    print(f"{took:.1f} s, the longest turn {watcher.worst:.2f} s")


@pytest.mark.time_limit(400)
def test_100_000_connections_opened_and_dropped(vigie_store):
    """Some say nothing, some half a request, some whole ones; some end in order, most with a reset."""
    store = vigie_store()
    watcher = Watcher(store)
    for _ in range(1000):
        RawClient(store.port).close()
    before = resident_bytes(store)
    program = textwrap.dedent("""
        import socket, struct, sys
        port, count = int(sys.argv[1]), int(sys.argv[2])
        reset = struct.pack("ii", 1, 0)
        says = [b"", b"PING\\r\\n", b"*1\\r\\n$4\\r\\nPI", b"*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$1\\r\\nv\\r\\n", b"\\xff\\xff"]
        for i in range(count):
            client = socket.socket()
            if i % 50:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.connect(("127.0.0.1", port))
            if says[i % 5]:
                client.send(says[i % 5])
            client.close()
        """)
    began = time.monotonic()
    workers = [subprocess.Popen([sys.executable, "-c", program, str(store.port), "50000"]) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    took = time.monotonic() - began
    # A connection that is reset before it is accepted is not seen.
    wait_until(lambda: int(store.info("stats")["total_connections_received"]) >= 90_000, 10)
    wait_until(lambda: store.info("clients")["connected_clients"] == "2", 10)
    watcher.end(1.0)
    assert resident_bytes(store) - before < 8_000_000
    assert len(os.listdir(f"/proc/{store.pid}/fd")) < 30
    assert_idle(store)
    print(f"100 000 connections in {took:.1f} s, the longest turn {watcher.worst:.2f} s")


def test_idle_connections_cost_at_most_a_kibibyte_each(vigie_store):
    count = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    store = vigie_store(maxclients=count + 100)
    before = resident_bytes(store)
    clients = []
    try:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", store.port))
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
            clients.append(client)
        wait_until(lambda: (resident_bytes(store) - before) / count <= 1024, 10)
        assert_idle(store)
    finally:
        for client in clients:
            client.close()


def test_timeout_and_keepalive(vigie_store, redis_server):
    """`timeout` ends clients that say nothing, but not those that wait or listen."""
    for server in (vigie_store(timeout=1, tcp_keepalive=77), redis_server(timeout=1, tcp_keepalive=77)):
        with server.raw() as idle, server.raw() as waiting, server.raw() as listening, server.raw() as watching:
            idle.call("PING")
            waiting.send("BLPOP", "none", "0")
            listening.call("SUBSCRIBE", "news")
            sockets = subprocess.run(["ss", "-tnoH", "state", "established", f"sport = :{server.port}"], capture_output=True, text=True).stdout
            assert re.search(r"keepalive,1min1\dsec", sockets), sockets
            assert idle.closed(timeout=5)
            assert server.call("PUBLISH", "news", "x") == 1
            assert server.call("LPUSH", "none", "x") == 1
            assert waiting.read_value() == [b"none", b"x"]


def test_protected_mode(tmp_path):
    """Without a password only the host itself is served; others hear why not. In a network of its own, from an address that
    is not a loopback address."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    from harness import vigie_role
    script = tmp_path / "ask"
    script.write_text(textwrap.dedent("""
        import socket, subprocess, sys, time
        server = subprocess.Popen([*sys.argv[1:], "--port", "7000", "--save", "", "--bind", "*"], stdout=subprocess.DEVNULL)
        try:
            def connect(address):
                for _ in range(100):
                    try:
                        return socket.create_connection((address, 7000))
                    except OSError:
                        time.sleep(0.05)
            with connect("127.0.0.1") as local:
                def ask(text):
                    local.sendall(text)
                    print(local.recv(1000))
                ask(b"PING\\r\\n")
                with connect("192.0.2.1") as other:
                    print(other.recv(5000)[:80], other.recv(10))
                ask(b"CONFIG SET protected-mode no\\r\\n")
                with connect("192.0.2.1") as other:
                    other.sendall(b"PING\\r\\n")
                    print(other.recv(100))
                ask(b"CONFIG SET protected-mode yes requirepass x\\r\\n")
                with connect("192.0.2.1") as other:
                    other.sendall(b"PING\\r\\n")
                    print(other.recv(100))
        finally:
            server.kill()
        """))
    def run(role):
        command = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo && exec " + " ".join(
            [sys.executable, str(script), *map(str, role)])
        return subprocess.run(["unshare", "-n", "sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, timeout=30)
    ours, real = run(vigie_role("store")), run(["redis-server"])
    assert ours.stdout == real.stdout and ours.stdout.count("PONG") == 2, (ours, real)
