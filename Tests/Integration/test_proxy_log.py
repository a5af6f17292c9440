"""Ours and Debian's haproxy live through the same: what each writes to syslog must be the same, times and ports apart."""

import re
import socket
import time

import pytest

from harness import free_port, wait_until
from proxy_parts import FakeServer, SyslogSocket, connect, echo, message, reset

CONFIGURATION = """
global
    log {log} local0
    stats socket {stats} mode 660 level admin
defaults
    log global
    mode tcp
    option tcplog
    timeout connect 1s
    timeout server 1500ms
    timeout client 1500ms
"""


@pytest.fixture(params=["vigie", "haproxy"])
def stage(request, tmp_path, vigie_proxy, haproxy):
    """Starts one of the two programs on CONFIGURATION and what is added, with a syslog of its own."""
    log = SyslogSocket(tmp_path / "log")
    servers = []

    class Stage:
        program = request.param

        def server(self, behave):
            servers.append(FakeServer(behave))
            return servers[-1]

        def start(self, sections):
            factory = vigie_proxy if request.param == "vigie" else haproxy
            self.proxy = factory((CONFIGURATION + sections).replace("{log}", str(log.path)))
            wait_until(lambda: self.proxy.stats(), 5)
            return self.proxy

        def simple(self, behave, words=""):
            self.port = free_port()
            self.start(f"frontend f\n    bind 127.0.0.1:{self.port}\n    default_backend b\n"
                       f"backend b\n    server s 127.0.0.1:{self.server(behave).port} {words}\n")
            return self.port

        def session(self):
            """The session's line, with what differs from run to run as N."""
            line = wait_until(lambda: next((l for l in log.lines if re.search(r"\] f b/", l)), None), 8, f"session line in {log.lines}")
            log.lines.remove(line)
            priority, tag, text = message(line)
            assert (priority, tag) == (134, "haproxy")
            text = re.sub(r"^127\.0\.0\.1:\d+ \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] ", "", text)
            # HAProxy 2.6 counts a started millisecond of the queue.
            return re.sub(r" (-1|\d+)/(-1|\d+)/(\d+) ", lambda m: " %s/%s/N " % ("0" if m[1] in "01" else m[1][:1] + "N" if m[1] != "-1" else "-1",
                                                                                  "0" if m[2] in "012345" else m[2]), text)

        lines = log.lines
        wait = staticmethod(log.wait)
    yield Stage()
    log.end()
    for server in servers:
        try:
            server.end()
        except OSError:
            pass


def test_a_session_that_the_client_ends(stage):
    with connect(stage.simple(echo)) as c:
        c.sendall(b"hello")
        assert c.recv(10) == b"hello"
    assert stage.session() == "f b/s 0/0/N 5 -- 1/1/0/0/0 0/0"


def test_a_session_in_which_nothing_is_said(stage):
    connect(stage.simple(echo)).close()
    # HAProxy may notice the end before it has connected (CC).
    assert stage.session() in ("f b/s 0/0/N 0 -- 1/1/0/0/0 0/0", "f b/s 0/-1/N 0 CC 1/1/0/0/0 0/0")


def test_a_half_closed_session_gets_its_answer(stage):
    with connect(stage.simple(echo)) as c:
        c.sendall(b"hello")
        c.shutdown(socket.SHUT_WR)
        assert c.recv(10) == b"hello" and c.recv(10) == b""
    assert stage.session() == "f b/s 0/0/N 5 -- 1/1/0/0/0 0/0"


def test_a_client_that_resets(stage):
    c = connect(stage.simple(echo))
    c.sendall(b"hello")
    assert c.recv(10) == b"hello"
    reset(c)
    assert stage.session() == "f b/s 0/0/N 5 CD 1/1/0/0/0 0/0"


def test_a_server_that_resets(stage):
    def behave(connection):
        connection.sendall(connection.recv(10))
        time.sleep(0.2)
        reset(connection)
    with connect(stage.simple(behave)) as c:
        c.sendall(b"hello")
        assert c.recv(10) == b"hello"
        assert c.recv(10) == b""
    assert stage.session() == "f b/s 0/0/N 5 SD 1/1/0/0/0 0/0"


def test_a_server_that_ends_first(stage):
    def behave(connection):
        connection.sendall(connection.recv(10))
        connection.close()
    with connect(stage.simple(behave)) as c:
        c.sendall(b"hello")
        assert c.recv(10) == b"hello" and c.recv(10) == b""
    assert stage.session() == "f b/s 0/0/N 5 -- 1/1/0/0/0 0/0"


def test_a_server_that_ends_first_and_a_client_that_stays(stage):
    def behave(connection):
        connection.sendall(connection.recv(10))
        connection.close()
    with connect(stage.simple(behave)) as c:
        c.sendall(b"hello")
        assert c.recv(10) == b"hello" and c.recv(10) == b""
        assert stage.session() == "f b/s 0/0/N 5 cD 1/1/0/0/0 0/0"


def test_an_idle_session(stage):
    with connect(stage.simple(echo)) as c:
        c.sendall(b"hello")
        assert c.recv(10) == b"hello"
        began = time.monotonic()
        assert c.recv(10) == b""
        assert 1.4 < time.monotonic() - began < 1.9
    assert stage.session() == "f b/s 0/0/N 5 cD 1/1/0/0/0 0/0"


def test_a_half_closed_session_whose_server_is_silent(stage):
    def behave(connection):
        while connection.recv(100):
            pass
        time.sleep(4)
    with connect(stage.simple(behave)) as c:
        c.sendall(b"hello")
        c.shutdown(socket.SHUT_WR)
        assert c.recv(10) == b""
    assert stage.session() == "f b/s 0/0/N 0 sD 1/1/0/0/0 0/0"


def test_a_quiet_client_lives_while_its_server_speaks(stage):
    def behave(connection):
        connection.recv(10)
        for _ in range(6):
            time.sleep(0.5)
            connection.sendall(b"x")
        connection.close()
    with connect(stage.simple(behave)) as c:
        c.sendall(b"hello")
        data = b""
        while got := c.recv(10):
            data += got
        assert data == b"xxxxxx"
    assert stage.session() == "f b/s 0/0/N 6 -- 1/1/0/0/0 0/0"


def test_a_server_that_refuses_is_tried_again_each_second(stage):
    port = stage.simple(echo)
    stage.proxy.ask(f"set server b/s addr 127.0.0.1 port {free_port()}")
    with connect(port) as c:
        began = time.monotonic()
        assert c.recv(10) == b""
        assert 1.3 < time.monotonic() - began < 1.9  # the client's time-out comes first
    assert stage.session() == "f b/s 0/-1/N 0 cC 1/1/0/0/2 0/0"


def test_no_server(stage):
    port = stage.simple(echo)
    stage.proxy.ask("set server b/s state maint")
    with connect(port) as c:
        assert c.recv(10) == b""
    assert stage.session() == "f b/<NOSRV> -1/-1/N 0 SC 1/1/0/0/0 0/0"


def test_sessions_that_an_operator_ends(stage):
    with connect(stage.simple(echo)) as c:
        c.sendall(b"hello")
        c.recv(10)
        assert stage.proxy.ask("shutdown sessions server b/s") == "\n"
        assert c.recv(10) == b""
    assert stage.session() == "f b/s 0/0/N 5 K- 1/1/0/0/0 0/0"


def test_sessions_of_a_server_that_goes_down(stage):
    server = stage.server(echo)
    port = free_port()
    stage.start(f"frontend f\n    bind 127.0.0.1:{port}\n    default_backend b\n"
                f"backend b\n    server s 127.0.0.1:{server.port} check inter 150ms on-marked-down shutdown-sessions\n")
    wait_until(lambda: stage.proxy.stats()["b", "s"]["check_status"] == "L4OK", 5)
    with connect(port) as c:
        c.sendall(b"hello")
        assert c.recv(10) == b"hello"
        server.end()
        assert c.recv(10) == b""
    assert stage.session() == "f b/s 0/0/N 5 D- 1/1/0/0/0 0/0"


def queue_stage(stage):
    port = free_port()
    stage.start(f"frontend f\n    bind 127.0.0.1:{port}\n    timeout client 8s\n    default_backend b\n"
                f"backend b\n    timeout queue 500ms\n    timeout server 8s\n    server s 127.0.0.1:{stage.server(echo).port} maxconn 1\n")
    return port


def test_a_session_that_waits_too_long_for_its_turn(stage):
    port = queue_stage(stage)
    with connect(port) as first:
        first.sendall(b"hello")
        first.recv(10)
        began = time.monotonic()
        with connect(port) as second:
            assert second.recv(10) == b""
        assert 0.4 < time.monotonic() - began < 0.8
        assert re.sub(r" \dN/", " N/", stage.session()) == "f b/<NOSRV> N/-1/N 0 sQ 2/2/1/0/0 0/1"


def test_a_session_that_gets_its_turn(stage):
    port = queue_stage(stage)
    first = connect(port)
    first.sendall(b"hello")
    first.recv(10)
    with connect(port) as second:
        second.sendall(b"queued")
        time.sleep(0.2)
        row = stage.proxy.stats()["b", "BACKEND"]
        assert (row["qcur"], row["qmax"]) == ("1", "1")
        first.close()
        assert second.recv(10) == b"queued"
    assert stage.session() == "f b/s 0/0/N 5 -- 2/2/1/0/0 0/0"
    assert re.sub(r" \dN/", " N/", stage.session()) == "f b/s N/0/N 6 -- 1/1/0/0/0 0/1"


CHECKS = """
    option log-health-checks
backend b_sequence
    option tcp-check
    tcp-check connect
    tcp-check send PING\\r\\n comment hello
    tcp-check expect string +PONG comment "pong please"
    server ends 127.0.0.1:{ends} check inter 500ms
    server resets 127.0.0.1:{resets} check inter 500ms
    server wrong 127.0.0.1:{wrong} check inter 500ms
    server silent 127.0.0.1:{silent} check inter 500ms
    server partial 127.0.0.1:{partial} check inter 500ms
    server refuses 127.0.0.1:{refuses} check inter 500ms
    server ok 127.0.0.1:{ok} check inter 500ms
backend b_unwanted
    option tcp-check
    tcp-check send PING\\r\\n
    tcp-check expect ! string PONG
    server ok 127.0.0.1:{ok} check inter 500ms
backend b_regex
    option tcp-check
    tcp-check send PING\\r\\n
    tcp-check expect rstring ^.P[AO]NG
    server ok 127.0.0.1:{ok} check inter 500ms
    server wrong 127.0.0.1:{wrong} check inter 500ms
backend b_binary
    option tcp-check
    tcp-check send-binary 50494e470d0a
    tcp-check expect binary 2b504f4e47
    server ok 127.0.0.1:{ok} check inter 500ms
    server wrong 127.0.0.1:{wrong} check inter 500ms backup
backend b_connect
    server ok 127.0.0.1:{ok} check inter 500ms
    server refuses 127.0.0.1:{refuses} check inter 500ms
frontend f
    bind 127.0.0.1:{port}
    default_backend b_connect
"""


def check_servers(stage):
    def ends(c):
        c.recv(100)
        c.close()

    def wrong(c):
        c.recv(100)
        c.sendall(b"-ERR wrong\r\n")
        time.sleep(0.1)
        c.close()

    def silent(c):
        while c.recv(100):
            pass

    def partial(c):
        c.recv(100)
        c.sendall(b"+PO")
        c.close()

    def ok(c):
        while c.recv(100):
            c.sendall(b"+PONG\r\n")

    def resets(c):
        c.recv(100)
        reset(c)
    ports = {f.__name__: stage.server(f).port for f in (ends, wrong, silent, partial, ok, resets)}
    return ports | {"refuses": free_port(), "port": free_port()}


EXPECTED_CHECKS = {
    "b_sequence/ends": 'failed, reason: Layer7 invalid response, info: "TCPCHK got an empty response at step 3 comment: \'pong please\'", check duration: Nms, status: 0/2 DOWN.',
    "b_sequence/resets": 'failed, reason: Socket error, info: "Connection reset by peer at step 3 of tcp-check (expect string \'+PONG\') comment: \'pong please\'", check duration: Nms, status: 0/2 DOWN.',
    "b_sequence/wrong": 'failed, reason: Layer7 invalid response, info: "TCPCHK did not match content \'+PONG\' at step 3 comment: pong please", check duration: Nms, status: 0/2 DOWN.',
    "b_sequence/silent": 'failed, reason: Layer7 timeout, info: " at step 3 of tcp-check (expect string \'+PONG\') comment: \'pong please\'", check duration: Nms, status: 0/2 DOWN.',
    "b_sequence/partial": 'failed, reason: Layer7 invalid response, info: "TCPCHK did not match content \'+PONG\' at step 3 comment: pong please", check duration: Nms, status: 0/2 DOWN.',
    "b_sequence/refuses": 'failed, reason: Layer4 connection problem, info: "Connection refused at step 1 of tcp-check (connect)", check duration: Nms, status: 0/2 DOWN.',
    "b_sequence/ok": 'succeeded, reason: Layer7 check passed, code: 0, info: "(tcp-check)", check duration: Nms, status: 3/3 UP.',
    "b_unwanted/ok": 'failed, reason: Layer7 invalid response, info: "TCPCHK matched unwanted content \'PONG\' at step 2", check duration: Nms, status: 0/2 DOWN.',
    "b_regex/ok": 'succeeded, reason: Layer7 check passed, code: 0, info: "(tcp-check)", check duration: Nms, status: 3/3 UP.',
    "b_regex/wrong": 'failed, reason: Layer7 invalid response, info: "TCPCHK did not match content (regex) at step 2", check duration: Nms, status: 0/2 DOWN.',
    "b_binary/ok": 'succeeded, reason: Layer7 check passed, code: 0, info: "(tcp-check)", check duration: Nms, status: 3/3 UP.',
    "b_binary/wrong": 'failed, reason: Layer7 invalid response, info: "TCPCHK did not match content (binary) at step 2", check duration: Nms, status: 0/2 DOWN.',
    "b_connect/ok": "succeeded, reason: Layer4 check passed, check duration: Nms, status: 3/3 UP.",
    "b_connect/refuses": 'failed, reason: Layer4 connection problem, info: "Connection refused", check duration: Nms, status: 0/2 DOWN.',
}


def test_health_checks_are_reported_in_haproxys_words(stage):
    stage.start(CHECKS.format(**check_servers(stage)))
    for server, words in EXPECTED_CHECKS.items():
        line = stage.wait(f"server {server} ")
        priority, _, text = message(line)
        assert priority == 133
        text = re.sub(r"duration: \d+ms", "duration: Nms", text)
        backup = "backup " if server == "b_binary/wrong" else ""
        assert text == f"Health check for {backup}server {server} {words}"
    assert message(stage.wait("Backup Server b_binary/wrong is DOWN. 1 active and 0 backup servers left."))[0] == 129
    assert message(stage.wait("backend b_unwanted has no server available!"))[0] == 128


def test_an_administrators_changes_are_reported_in_haproxys_words(stage):
    stage.simple(echo, "check inter 200ms")
    wait_until(lambda: stage.proxy.stats()["b", "s"]["check_status"] == "L4OK", 5)
    stage.lines.clear()
    for command in ["set server b/s state drain", "set server b/s state ready", "disable server b/s", "enable server b/s",
                    "set server b/s health down", "disable frontend f", "enable frontend f"]:
        assert stage.proxy.ask(command) == "\n"
        time.sleep(0.05)
    got = [message(line)[::2] for line in stage.lines if "is UP." not in line]
    tail = "0 sessions active, 0 requeued, 0 remaining in queue."
    assert got[:11] == [
        (133, "Server b/s enters drain state. 0 active and 0 backup servers online. 0 sessions requeued, 0 total in queue."),
        (128, "backend b has no server available!"),
        (133, "Server b/s is UP (leaving forced drain)."),
        (129, f"Server b/s is going DOWN for maintenance. 0 active and 0 backup servers left. {tail}"),
        (128, "backend b has no server available!"),
        (133, "Server b/s is UP/READY (leaving forced maintenance)."),
        (129, f"Server b/s is DOWN, changed from CLI. 0 active and 0 backup servers left. {tail}"),
        (128, "backend b has no server available!"),
        (132, "Paused frontend f."),
        (132, "Resumed frontend f."),
    ][:len(got)] and len(got) >= 10
