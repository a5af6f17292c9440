"""Configurations, greetings and bytes that are wrong: refused in words, and the Sentinel lives on."""

import random

import pytest

from harness import ARTICLE, PASSWORD, RawClient, ServerClosed, free_port, vigie_role, wait_until


@pytest.mark.parametrize("line, complaint", [
    ("sentinel monitor m 127.0.0.1 6379 0", "quorum must be 1 or greater, found 0"),
    ("sentinel monitor m nohost 6379 2", "expected a numeric address, found 'nohost'"),
    ("sentinel monitor m 127.0.0.1 70000 2", "expected a number from 1 to 65535, found '70000'"),
    ("sentinel monitor m 127.0.0.1 6379", "expected 'sentinel monitor NAME ADDRESS PORT QUORUM'"),
    ("sentinel down-after-milliseconds nobody 5000", "no such master 'nobody'"),
    ("sentinel frobnicate m 1", "unknown option 'sentinel frobnicate'"),
    ("frobnicate yes", "unknown directive 'frobnicate'"),
    ('logfile "/x', "unbalanced quotes"),
    ("daemonize maybe", "expected yes, no, found 'maybe'"),
    ("sentinel resolve-hostnames yes", "'sentinel resolve-hostnames yes' is not supported"),
    ("tls-port 26380", "'tls-port' is not supported"),
    ("user bob on >x ~* +@all", "user 'bob' is not supported"),
    ("sentinel myid abc", "takes 40 hexadecimal digits"),
    ("include /nonexistent/file.conf", "can't read '/nonexistent/file.conf'"),
])
def test_a_wrong_line_is_refused_with_its_place(processes, tmp_path, line, complaint):
    file = tmp_path / "sentinel.conf"
    file.write_text(f"port {free_port()}\n\n{line}\n")
    process = processes.start([*vigie_role("sentinel"), file], name="refused")
    assert process.child.wait(10) != 0
    assert f"{file}:3: " in process.log_text() and complaint in process.log_text()
    assert file.read_text().endswith(f"\n\n{line}\n"), "the file is left alone"


def test_the_articles_file_starts_as_it_stands(vigie_sentinel):
    """Its addresses are not of this machine: everything but the port and what goes to /var is taken as it is."""
    files = sorted(ARTICLE.rglob("sentinel.conf"))
    assert files
    kept = [line for line in files[0].read_text().splitlines() if not line.startswith(("port", "logfile", "pidfile", "daemonize"))]
    sentinel = vigie_sentinel("\n".join(kept))
    master = sentinel.fields("MASTER", "mymaster")
    assert (master["ip"], master["port"], master["quorum"]) == ("192.168.0.4", "6379", "2")
    assert (master["down-after-milliseconds"], master["failover-timeout"]) == ("5000", "10000")
    for line in kept:
        assert line in sentinel.file.read_text()


HELLO = "127.0.0.1,26999,{id},0,mymaster,127.0.0.1,{port},0"


def wrong_hellos(port):
    good = HELLO.format(id="a" * 40, port=port).split(",")
    for index, value in [(0, "host"), (0, ""), (1, "0"), (1, "99999"), (1, "x"), (2, "short"), (2, "g" * 40), (3, "-1"),
                         (3, "18446744073709551615"), (4, ""), (5, "999.1.1.1"), (6, "-1"), (7, "x"), (7, "9" * 40)]:
        fields = list(good)
        fields[index] = value
        yield ",".join(fields)
    yield ",".join(good[:7])
    yield ",".join(good + ["x"])
    yield ""
    yield "," * 7
    yield "x" * 100_000


def test_wrong_greetings_are_refused(quorum):
    q = quorum(sentinels=("vigie",), quorum=1).wait_discovered()
    sentinel = q.sentinels[0]
    for hello in wrong_hellos(q.old_port):
        with sentinel.raw() as client:
            try:
                reply = client.call("PUBLISH", "__sentinel__:hello", hello)
            except ServerClosed:
                reply = b"-closed"
        assert reply.startswith(b"-"), hello
        q.stores[0].call("PUBLISH", "__sentinel__:hello", hello)
    q.stores[0].call("PUBLISH", "__sentinel__:hello", bytes(range(256)))
    wait_until(lambda: "passed on a hello message" in sentinel.log_text(), 5)
    assert sentinel.call("SENTINEL", "SENTINELS", "mymaster") == []
    assert sentinel.fields("MASTER", "mymaster")["config-epoch"] == "0"
    with sentinel.raw() as client:
        assert client.call("PUBLISH", "__sentinel__:hello", HELLO.format(id="a" * 40, port=q.old_port)) == b":1\r\n"
    assert len(sentinel.rows("SENTINELS", "mymaster")) == 1


def test_random_bytes_leave_it_alive(quorum):
    q = quorum(sentinels=("vigie",), quorum=1).wait_discovered()
    sentinel = q.sentinels[0]
    chance = random.Random(7)
    for _ in range(200):
        with RawClient(sentinel.port) as client:
            try:
                start = chance.choice([b"", b"*3\r\n$8\r\nSENTINEL\r\n", b"*", b"$", b"*1\r\n$99999999999\r\n", b"*-5\r\n", b"SENTINEL \""])
                client.send_raw(start + chance.randbytes(chance.randrange(200)) + b"\r\n")
            except (ServerClosed, OSError):
                pass
    assert sentinel.call("PING") == b"PONG"
    assert sentinel.alive()


def test_a_watched_process_that_talks_nonsense(vigie_sentinel):
    """A listener that answers whatever is asked with garbage is down, and nothing worse."""
    import socket
    import threading
    listener = socket.create_server(("127.0.0.1", 0))
    chance = random.Random(3)

    def serve():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            try:
                peer.recv(1000)
                peer.sendall(chance.choice([b"+PONG", b"$-2\r\n", b"*9999999999\r\n", b"hello\r\n", b"+PONG\r\n" * 50, b"\r\n"]) + chance.randbytes(50))
                peer.close()
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    sentinel = vigie_sentinel(f"sentinel monitor m 127.0.0.1 {listener.getsockname()[1]} 1\nsentinel down-after-milliseconds m 500\n"
                              f"sentinel auth-pass m {PASSWORD}\n")
    sentinel.wait_log("+sdown master m", 10)
    assert sentinel.call("PING") == b"PONG"
    assert PASSWORD not in sentinel.log_text()
    listener.close()
