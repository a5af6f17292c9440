"""The stats socket: HAProxy's columns, words and answers, compared with haproxy's own."""

import re
import socket
import time

import pytest

from harness import free_port, wait_until
from proxy_parts import FakeServer, connect, echo

CONFIGURATION = """
global
    stats socket {stats} mode 600 level {level}
    stats timeout 2s
defaults A
    mode tcp
    timeout connect 2s
    timeout server 10s
    timeout client 10s
defaults B
    mode tcp
    timeout connect 2s
    timeout server 10s
    timeout client 10s
frontend f1
    bind 127.0.0.1:{port}
    maxconn 100
    default_backend b1
listen l1
    bind 127.0.0.1:{port2}
    maxconn 50
    balance leastconn
    server s1 127.0.0.1:{server} maxconn 10
    server s2 127.0.0.1:{server} backup
backend b1
    option tcp-check
    tcp-check send PING
    tcp-check expect string PING
    server s1 127.0.0.1:{server} check inter 200ms
    server s2 127.0.0.1:{server} weight 50 disabled
    server s3 127.0.0.1:{refusing} check inter 200ms
"""


@pytest.fixture
def start(vigie_proxy, haproxy):
    servers = []

    def one(program, level="admin"):
        server = FakeServer(echo)
        servers.append(server)
        ports = dict(port=free_port(), port2=free_port(), refusing=free_port(), server=server.port)
        text = CONFIGURATION.format(stats="{stats}", level=level, **ports)
        proxy = {"vigie": vigie_proxy, "haproxy": haproxy}[program](text)
        wait_until(lambda: proxy.status("b1", "s3") == "DOWN", 5)
        wait_until(lambda: proxy.stats()["b1", "s1"]["check_status"].endswith("L7OK"), 5)
        proxy.port, proxy.server = ports["port"], server
        return proxy
    yield one
    for server in servers:
        server.end()


@pytest.fixture(params=["vigie", "haproxy"])
def proxy(request, start):
    return start(request.param)


def talk(port, words=b"hello"):
    with connect(port) as c:
        c.sendall(words)
        assert c.recv(100) == words


# What depends on the program itself or on the moment.
VOLATILE = {"lastchg", "downtime", "check_duration", "rate", "rate_max", "conn_rate", "conn_rate_max", "addr", "need_conn_est", "ttime", "ttime_max",
            "qtime", "ctime", "qtime_max", "ctime_max", "lastsess", "used_conn_cur"} | {f"h1_{x}" for x in (
                "open_connections", "open_streams", "total_connections", "total_streams", "bytes_in", "bytes_out")}


def test_show_stat_has_haproxys_columns_and_values(start):
    tables = {}
    for program in ("vigie", "haproxy"):
        proxy = start(program)
        for _ in range(5):
            talk(proxy.port)
            wait_until(lambda: proxy.stats()["f1", "FRONTEND"]["scur"] == "0", 5)
        tables[program] = proxy.ask("show stat"), proxy.stats()
    assert tables["vigie"][0].splitlines()[0] == tables["haproxy"][0].splitlines()[0]
    assert tables["vigie"][0].endswith(",\n\n")
    ours, theirs = tables["vigie"][1], tables["haproxy"][1]
    assert list(ours) == list(theirs)
    differences = []
    for entry, row in theirs.items():
        for column, value in row.items():
            mine = ours[entry][column]
            if column in VOLATILE:
                alike = (mine == "") == (value == "")
            else:
                alike = mine.removeprefix("* ") == value.removeprefix("* ")
            if not alike:
                differences.append((entry, column, mine, value))
    assert not differences


@pytest.mark.parametrize("command", ["show info", "show servers state", "show servers state b1", "show backend", "show cli sockets"])
def test_tables_have_haproxys_lines(start, command):
    answers = {}
    for program in ("vigie", "haproxy"):
        answer = start(program).ask(command)
        if command == "show info":
            answer = re.sub(r"(?m): .*$", "", answer)
        elif "servers" in command:
            # The port of the servers, the time of the last change, and whether a check is under way.
            answer = re.sub(r"(?m)^(\d+ \S+ \d+ \S+ \S+ \d \d \d+ \d+) \d+ (\d+ \d+ \d+) (\d) (.*) - \d+ - ",
                            lambda m: f"{m[1]} T {m[2]} {int(m[3]) & ~1} {m[4]} - PORT - ", answer)
        else:
            answer = re.sub(r"unix@\S+", "unix@PATH", answer)
        answers[program] = answer
    assert answers["vigie"] == answers["haproxy"]


ANSWERS = {
    "show version": r"2\.6\.12.*\n\n",
    "show cli level": r"admin\n\n",
    "show errors": r"Total events captured on \[.*\] : 0\n\n",
    "show sess": None,
    "set server nope/x state maint": r"No such backend\.\n\n",
    "set server b1/zz state maint": r"No such server\.\n\n",
    "set server b1/s1 state foo": r"'set server <srv> state' expects 'ready', 'drain' and 'maint'\.\n\n",
    "set server": r"Require 'backend/server'\.\n\n",
    "set server b1/s2 addr foo": r"Invalid addr 'foo' by 'stats socket command'\n\n",
    "set server b1/s2 addr 127.0.0.9 port 4": r"IP changed from '127.0.0.1' to '127.0.0.9', port changed from '\d+' to '4' by 'stats socket command'\n\n",
    "set server b1/s2 addr 127.0.0.9": r"no need to change the addr by 'stats socket command'\n\n",
    "set server b1/s2 addr 127.0.0.9 port 5": r"no need to change the addr, port changed from '4' to '5' by 'stats socket command'\n\n",
    "set weight b1/s1 12": r"\n",
    "get weight b1/s1": r"12 \(initial 1\)\n\n",
    "set weight b1/s1 1000": r"Absolute weight can only be between 0 and 256 inclusive\.\n\n",
    "set weight b1/s1 abc": r"Empty weight string empty or preceded by garbage\n",
    "set server b1/s2 weight 50%": r"\n",
    "disable server": r"Require 'backend/server'\.\n\n",
    "disable server zz/b": r"No such backend\.\n\n",
    "shutdown session": r"Session pointer expected \(use 'show sess'\)\.\n\n",
    "shutdown session 0x1234": r"No such session \(use 'show sess'\)\.\n\n",
    "shutdown sessions server b1/zz": r"No such server\.\n\n",
    "disable frontend": r"A frontend name is expected\.\n\n",
    "disable frontend zz": r"No such frontend\.\n\n",
    "enable frontend f1": r"All sockets are already enabled\.\n\n",
    "disable frontend f1": r"\n",
    "disable frontend  f1 ": r"All sockets are already disabled\.\n\n",
    "enable frontend  f1": r"\n",
    "set timeout cli 10s": r"\n",
    "set timeout cli": r"Expects an integer value\.\n\n",
    "set timeout cli zz": r"Invalid timeout value\.\n\n",
    "set timeout foo": r"'set timeout' only supports 'cli'\.\n\n",
    "clear counters": r"\n",
    "clear counters all": r"\n",
    "set maxconn server b1/s1 3": r"\n",
    "set maxconn server b1/s1": r"Require <maxconn>\.\n\n",
    "set maxconn frontend f1 10": r"\n",
    "set maxconn frontend": r"A frontend name is expected\.\n\n",
    "show version;show cli level": r"2\.6\.12.*\n\nadmin\n\n",
    "show version;quit;show version": r"2\.6\.12.*\n\n",
    "user;show cli level": r"\nuser\n\n",
    "operator;disable server b1/s1": r"\nPermission denied\n\n",
    "enable health b1/s1": r"\n",
    "show servers state zz": r"Can't find backend\.\n\n",
    "show sess 0x123": r"Session not found\.\n\n",
    "disable server b1/s1": r"\n",
    "enable server b1/s1": r"\n",
}


def test_commands_are_answered_in_haproxys_words(proxy):
    wrong = {}
    for command, answer in ANSWERS.items():
        got = proxy.ask(command)
        if answer is not None and not re.fullmatch(answer, got):
            wrong[command] = got
    assert not wrong


def test_unknown_commands_name_what_there_is(proxy):
    assert re.match(r"Unknown command.*\n(  .*\n)*  show (stat|info) .*: ", proxy.ask("show foo"))
    assert "  help [<command>]                        : list matching or all commands\n" in proxy.ask("help")


def test_a_prompt_keeps_the_connection(proxy):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(3)
        s.connect(str(proxy.stats_socket))

        def ask(line, until=b"> "):
            s.sendall(line)
            got = b""
            while not got.endswith(until):
                data = s.recv(65536)
                assert data, got
                got += data
            return got
        assert ask(b"prompt\n") == b"\n> "
        assert re.fullmatch(rb"2\.6\.12.*\n\n> ", ask(b"show version\n"))
        assert ask(b"set weight b1/s1 3; show cli level\n", b"admin\n\n> ") == b"\n> admin\n\n> "
        s.sendall(b"quit\n")
        assert s.recv(100) == b""


@pytest.mark.parametrize("program, first", [("haproxy", b""), ("vigie", b""), ("vigie", b"prompt\n"), ("vigie", b"show ver")])
def test_an_idle_connection_is_closed_after_the_stats_timeout(start, program, first):
    """HAProxy closes what has said nothing, but mostly keeps those open, for 25 s at the least, that have said something."""
    proxy = start(program)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(str(proxy.stats_socket))
        s.sendall(first)
        if first.endswith(b"\n"):
            assert s.recv(100) == b"\n> "
        began = time.monotonic()
        assert s.recv(100) == b""
        assert 1.7 < time.monotonic() - began < 3


def test_servers_are_taken_out_and_put_back(proxy):
    assert proxy.status("b1", "s1") == "UP"
    proxy.ask("set server b1/s1 state drain")
    assert proxy.status("b1", "s1") == "DRAIN"
    proxy.ask("set server b1/s1 state maint")
    assert proxy.status("b1", "s1") == "MAINT"
    row = proxy.stats()["b1", "s1"]
    assert (row["check_status"], row["check_health"], row["chkfail"]) == ("", "", "0")
    with connect(proxy.port) as c:
        assert c.recv(10) == b""
    proxy.ask("set server b1/s2 state ready")
    assert proxy.status("b1", "s2") == "no check"
    talk(proxy.port)
    proxy.ask("set server b1/s1 state ready")
    wait_until(lambda: proxy.status("b1", "s1") == "UP", 5)


def test_sessions_are_listed_and_can_be_ended(proxy):
    with connect(proxy.port) as c:
        c.sendall(b"hello")
        assert c.recv(10) == b"hello"
        line = next(l for l in proxy.ask("show sess").splitlines() if "fe=f1" in l)
        match = re.match(r"(0x[0-9a-f]+): proto=tcpv4 src=127\.0\.0\.1:\d+ fe=f1 be=b1 srv=s1 ts=00 epoch=0 age=\ds calls=", line)
        assert match
        details = proxy.ask(f"show sess {match[1]}")
        assert re.search(r"frontend=f1 \(id=2 mode=tcp\)", details) and re.search(r"server=s1 \(id=1\) addr=127\.0\.0\.1:", details)
        assert proxy.ask(f"shutdown session {match[1]}") == "\n"
        assert c.recv(10) == b""


def test_lower_levels_may_look_and_not_touch(start):
    for level, may_see_sessions in (("user", False), ("operator", True)):
        for program in ("vigie", "haproxy"):
            proxy = start(program, level)
            assert proxy.ask("show cli level") == f"{level}\n\n"
            assert proxy.ask("disable server b1/s1") == "Permission denied\n\n"
            assert ("Permission denied" not in proxy.ask("show sess")) is may_see_sessions
            assert proxy.status("b1", "s1") == "UP"
