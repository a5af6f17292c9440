"""Bytes through the proxy: all of them, in order, no faster than the other side takes them, no more held than allowed."""

import hashlib
import random
import socket
import threading
import time

import pytest

from harness import RawClient, free_port, wait_until
from proxy_parts import FakeServer, connect, echo

CONFIGURATION = """
global
    stats socket {{stats}} mode 660 level admin
{in_global}
defaults
    mode tcp
    timeout connect 2s
    timeout server {timeout}
    timeout client {timeout}
listen l
    bind 127.0.0.1:{port}
{words}
"""


@pytest.fixture
def relay(vigie_proxy):
    """Starts the proxy before one server that behaves so; returns it and its port."""
    servers = []

    def start(behave, words="", timeout="20s", in_global="", server_words=""):
        servers.append(FakeServer(behave))
        port = free_port()
        proxy = vigie_proxy(CONFIGURATION.format(
            port=port, timeout=timeout, in_global=in_global,
            words=f"{words}\n    server s 127.0.0.1:{servers[-1].port} {server_words}"))
        wait_until(lambda: proxy.stats(), 5)
        proxy.server = servers[-1]
        return proxy, port
    yield start
    for server in servers:
        try:
            server.end()
        except OSError:
            pass


def send_in_pieces(connection, data, seed):
    pieces = random.Random(seed)
    at = 0
    while at < len(data):
        size = pieces.choice([1, 7, 100, 1460, 16384, 65536, 300_000])
        connection.sendall(data[at:at + size])
        at += size


def receive(connection, count):
    digest, got = hashlib.sha256(), 0
    while got < count:
        data = connection.recv(min(262_144, count - got))
        assert data, f"ended after {got} of {count} bytes"
        digest.update(data)
        got += len(data)
    return digest.hexdigest()


@pytest.mark.parametrize("seed", range(3))
def test_large_transfers_arrive_whole_in_both_directions(relay, seed):
    _, port = relay(echo)
    data = random.Random(seed).randbytes(24 << 20)
    with connect(port) as c:
        sender = threading.Thread(target=send_in_pieces, args=(c, data, seed))
        sender.start()
        assert receive(c, len(data)) == hashlib.sha256(data).hexdigest()
        sender.join()


def test_many_sessions_at_a_time_do_not_mix(relay):
    proxy, port = relay(echo)
    failures = []

    def talk(number):
        data = random.Random(number).randbytes(200_000)
        try:
            with connect(port) as c:
                sender = threading.Thread(target=send_in_pieces, args=(c, data, number))
                sender.start()
                if receive(c, len(data)) != hashlib.sha256(data).hexdigest():
                    failures.append(number)
                sender.join()
        except Exception as error:
            failures.append((number, error))
    threads = [threading.Thread(target=talk, args=(n,)) for n in range(60)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    wait_until(lambda: proxy.stats()["l", "FRONTEND"]["scur"] == "0", 5)
    row = proxy.stats()["l", "s"]
    assert (row["stot"], row["bin"], row["bout"]) == ("60", "12000000", "12000000")


def test_a_slow_reader_is_waited_for_and_costs_no_memory(relay):
    size = 64 << 20
    block = random.Random(1).randbytes(1 << 20)

    def behave(connection):
        connection.recv(10)
        for _ in range(size >> 20):
            connection.sendall(block)
        connection.close()
    proxy, port = relay(behave)
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    c.connect(("127.0.0.1", port))
    c.settimeout(20)
    c.sendall(b"go")
    before = proxy.process.resident_bytes()
    time.sleep(1.5)
    assert proxy.process.resident_bytes() - before < 2 << 20
    want = hashlib.sha256()
    for _ in range(size >> 20):
        want.update(block)
    assert receive(c, size) == want.hexdigest()
    assert c.recv(1) == b""
    assert proxy.process.resident_bytes() - before < 4 << 20
    c.close()


def test_a_reader_slower_than_its_timeout_but_not_dead_is_served(relay):
    """The kernel holds some 3 MB for a client; a reader that takes less than a third of it within the time-out counts as dead,
    for haproxy too."""
    size = 16_000_000

    def behave(connection):
        connection.recv(10)
        connection.sendall(b"x" * size)
        connection.close()
    _, port = relay(behave, timeout="2s")
    with connect(port) as c:
        c.sendall(b"go")
        got = 0
        began = time.monotonic()
        while data := c.recv(100_000):
            got += len(data)
            time.sleep(0.03)
        assert got == size
        assert time.monotonic() - began > 3


def test_a_reader_that_stops_reading_is_let_go(relay):
    def behave(connection):
        connection.recv(10)
        while True:
            connection.sendall(b"x" * 100_000)
    proxy, port = relay(behave, timeout="1s")
    c = connect(port)
    c.sendall(b"go")
    wait_until(lambda: proxy.stats()["l", "FRONTEND"]["scur"] == "1", 2)
    wait_until(lambda: proxy.stats()["l", "FRONTEND"]["scur"] == "0", 6)
    c.close()


def test_each_half_ends_by_itself(relay):
    heard = []

    def behave(connection):
        data = b""
        while got := connection.recv(100):
            data += got
        heard.append(data)
        for n in range(5):
            connection.sendall(b"%d" % n)
            time.sleep(0.1)
        connection.close()
    _, port = relay(behave)
    with connect(port) as c:
        c.sendall(b"question")
        c.shutdown(socket.SHUT_WR)
        answer = b""
        while got := c.recv(10):
            answer += got
    assert (heard, answer) == ([b"question"], b"01234")


def test_a_server_that_ends_its_half_still_hears_the_client(relay):
    heard = []

    def behave(connection):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while got := connection.recv(100):
            data += got
        heard.append(data)
        connection.close()
    _, port = relay(behave)
    with connect(port) as c:
        assert c.recv(10) == b"bye" and c.recv(10) == b""
        c.sendall(b"one ")
        time.sleep(0.2)
        c.sendall(b"two")
        c.shutdown(socket.SHUT_WR)
        wait_until(lambda: heard == [b"one two"], 5)


def test_what_is_said_before_the_server_is_connected_is_kept(relay):
    """More than a buffer, while the session waits for its turn."""
    _, port = relay(echo, server_words="maxconn 1")
    data = random.Random(5).randbytes(1 << 20)
    first, second = connect(port), connect(port)
    first.sendall(b"hello")
    assert first.recv(10) == b"hello"
    sender = threading.Thread(target=second.sendall, args=(data,))
    sender.start()
    time.sleep(0.3)
    first.close()
    assert receive(second, len(data)) == hashlib.sha256(data).hexdigest()
    sender.join()
    second.close()


def test_round_robin_follows_the_weights(vigie_proxy):
    servers = {name: FakeServer(echo) for name in "abc"}
    port = free_port()
    proxy = vigie_proxy(CONFIGURATION.format(port=port, timeout="5s", in_global="", words=f"""
    server a 127.0.0.1:{servers['a'].port} weight 1
    server b 127.0.0.1:{servers['b'].port} weight 2
    server c 127.0.0.1:{servers['c'].port} weight 3"""))
    wait_until(lambda: proxy.stats(), 5)

    def talk(times):
        for _ in range(times):
            with connect(port) as c:
                c.sendall(b"x")
                assert c.recv(1) == b"x"
    talk(60)
    assert [s.accepted for s in servers.values()] == [10, 20, 30]
    proxy.ask("set server l/c weight 0")
    proxy.ask("set server l/b weight 50%")
    talk(20)
    assert [s.accepted for s in servers.values()] == [20, 30, 30]
    for server in servers.values():
        server.end()


def test_backups_serve_when_no_other_is_left(vigie_proxy):
    main, spare = FakeServer(echo), FakeServer(echo)
    port = free_port()
    proxy = vigie_proxy(CONFIGURATION.format(port=port, timeout="5s", in_global="", words=f"""
    balance leastconn
    server main 127.0.0.1:{main.port} check inter 100ms
    server spare 127.0.0.1:{spare.port} backup"""))
    wait_until(lambda: proxy.status("l", "main") == "UP", 5)

    def talk():
        with connect(port) as c:
            c.sendall(b"x")
            return c.recv(1)
    wait_until(lambda: proxy.stats()["l", "main"]["check_status"] == "L4OK", 5)
    assert talk() == b"x" and spare.accepted == 0
    main.end()
    wait_until(lambda: proxy.status("l", "main") == "DOWN", 5)
    assert talk() == b"x" and spare.accepted == 1
    assert proxy.status("l", "BACKEND") == "UP"
    spare.end()


def test_a_full_frontend_lets_clients_wait(relay):
    proxy, port = relay(echo, words="    maxconn 2")
    inside = [connect(port) for _ in range(2)]
    for c in inside:
        c.sendall(b"x")
        assert c.recv(1) == b"x"
    outside = connect(port, timeout=0.5)
    outside.sendall(b"y")
    with pytest.raises(TimeoutError):
        outside.recv(1)
    assert proxy.stats()["l", "FRONTEND"]["scur"] == "2"
    inside[0].close()
    assert outside.recv(1) == b"y"
    outside.close()
    inside[1].close()


def test_a_soft_stop_lets_sessions_finish(relay):
    import signal
    proxy, port = relay(echo)
    c = connect(port)
    c.sendall(b"x")
    assert c.recv(1) == b"x"
    proxy.process.signal(signal.SIGUSR1)
    time.sleep(0.3)
    with pytest.raises(ConnectionRefusedError):
        connect(port)
    c.sendall(b"still there")
    assert c.recv(20) == b"still there"
    c.close()
    wait_until(lambda: not proxy.alive(), 5)
    assert proxy.process.child.returncode == 0


def test_values_of_every_size_through_real_redis(redis_server, vigie_proxy):
    store, port = redis_server(), free_port()
    proxy = vigie_proxy(CONFIGURATION.format(
        port=port, timeout="10s", in_global="    tune.bufsize 1024", words=f"    server s 127.0.0.1:{store.port}"))
    wait_until(lambda: proxy.stats(), 5)
    with RawClient(port) as raw:
        for size in (0, 1, 1023, 1024, 1025, 16_383, 16_385, 65_536, 1 << 20, 10 << 20):
            value = random.Random(size).randbytes(size)
            assert raw.call("SET", "key", value) == b"+OK\r\n"
            assert raw.value("GET", "key") == value


def test_garbage_and_floods_leave_it_alive(relay):
    proxy, port = relay(echo)
    for seed in range(50):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(proxy.stats_socket))
            s.settimeout(2)
            try:
                s.sendall(random.Random(seed).randbytes(random.Random(seed).choice([10, 1000, 40_000])) + b"\n")
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
            except OSError:
                pass
    with connect(port) as c:
        c.sendall(b"x")
        assert c.recv(1) == b"x"
    assert proxy.alive()
