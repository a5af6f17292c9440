"""The article's haproxy.cfg as it stands (addresses apart) over three real redis-servers."""

import re
import shutil
import subprocess
import time

import pytest
import redis

from harness import RawClient, free_port, wait_until
from proxy_parts import PASSWORD, Article, SyslogSocket, article_text, message


@pytest.fixture
def log(tmp_path):
    made = SyslogSocket(tmp_path / "log")
    yield made
    made.end()


@pytest.fixture
def article(redis_server, vigie_proxy, log):
    return lambda **options: Article(redis_server, vigie_proxy, log, **options)


def client(port, **options):
    return redis.Redis(port=port, password=PASSWORD, socket_timeout=5, **options)


def test_only_the_master_is_in_service(article, log):
    a = article()
    a.wait_statuses("UP", "DOWN", "DOWN")
    row = a.proxy.stats()["bk_redis", "redis02"]
    assert row["check_status"].removeprefix("* ") == "L7TOUT"
    assert row["last_chk"] == " at step 6 of tcp-check (expect string 'role:master')"
    for _ in range(6):
        assert client(a.port).info("replication")["role"] == "master"
    down = log.wait("Server bk_redis/redis02 is DOWN")
    assert message(down)[0] in (129, 137)  # alert, to local0 and local1 both
    assert re.search(
        r"redis02 is DOWN, reason: Layer7 timeout, info: \" at step 6 of tcp-check \(expect string 'role:master'\)\", check duration: "
        r"1\d\d\dms\. [12] active and 0 backup servers left\. 0 sessions active, 0 requeued, 0 remaining in queue\.$", down), down


def test_sessions_are_logged_in_the_tcp_format(article, log):
    a = article()
    a.wait_statuses("UP", "DOWN", "DOWN")
    with RawClient(a.port) as raw:
        assert raw.call("AUTH", PASSWORD) == b"+OK\r\n"
        assert raw.call("SET", "key", "value") == b"+OK\r\n"
    line = log.wait("ft_redis bk_redis/redis01")
    priority, tag, text = message(line)
    assert (priority, tag) == (134, "haproxy")
    assert re.fullmatch(
        r"127\.0\.0\.1:\d+ \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] ft_redis bk_redis/redis01 0/\d+/\d+ 10 -- 1/1/0/0/0 0/0", text), text
    # 'log /dev/log local1 notice' gets what is at least a notice.
    assert not any(message(other)[0] == 142 for other in log.lines)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_new_master_is_in_service_within_moments_of_its_promotion(article, fault):
    a = article()
    a.wait_statuses("UP", "DOWN", "DOWN")
    client(a.port).set("key", "before")
    getattr(a.master.process, fault)()
    a.wait_statuses("DOWN", "DOWN", "DOWN")
    time.sleep(1)
    a.servers[1].call("REPLICAOF", "NO", "ONE")
    promoted = time.monotonic()

    def writes():
        try:
            return client(a.port).set("key", "after")
        except redis.RedisError:
            return False
    wait_until(writes, 5, every=0.01)
    took = time.monotonic() - promoted
    # HAProxy needs 1 to 2 s here: rise 2, inter 1s.
    assert took < 0.6, f"{took:.3f} s from promotion to the first write"
    assert a.statuses() == ["DOWN", "UP", "DOWN"]


def test_sessions_to_a_demoted_master_are_closed_when_its_check_has_failed(article, log):
    a = article()
    a.wait_statuses("UP", "DOWN", "DOWN")
    with RawClient(a.port, timeout=12) as raw:
        raw.call("AUTH", PASSWORD)
        a.promote(2)
        a.wait_statuses("DOWN", "DOWN", "UP")
        assert raw.closed(3)
    assert " D- " in log.wait("ft_redis bk_redis/redis01")
    assert client(a.port).set("key", "value")


def test_words_of_the_file_are_announced_where_they_differ_from_haproxy(article):
    a = article()
    text = a.proxy.log_text()
    for words in ["on-marked-down shutdown-sessions", "'option tcplog'", "log lines of 'global'", "every 100 ms"]:
        assert re.search(rf"\.cfg:\d+: backend 'bk_redis'.*{re.escape(words)}", text), words
    assert PASSWORD not in text


def test_a_connection_is_closed_when_no_server_is_up(article, log):
    a = article()
    a.wait_statuses("UP", "DOWN", "DOWN")
    a.master.process.kill()
    a.wait_statuses("DOWN", "DOWN", "DOWN")
    with RawClient(a.port) as raw:
        assert raw.closed(2)
    assert " bk_redis/<NOSRV> -1/-1/0 0 SC 1/1/0/0/0 0/0" in log.wait("<NOSRV>")
    assert message(log.wait("backend bk_redis has no server available!"))[0] in (128, 136)


def test_an_address_that_comes_later_works_without_a_restart(network, redis_server, processes, tmp_path, vigie_proxy):
    """The article's two proxies bind one address, which only one of them has."""
    network.host("a", "10.77.0.1/24")
    network.host("b", "10.77.0.2/24")
    stub = processes.start(
        ["socat", "TCP-LISTEN:7000,fork,reuseaddr", "EXEC:cat"], name="echo", netns=network.namespace("a"))
    proxy = vigie_proxy("""
global
    stats socket {stats} level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 5s
    timeout server 5s
listen redis
    bind 10.77.0.9:6379 name redis
    server one 127.0.0.1:7000
""", netns=network.namespace("a"))
    wait_until(lambda: proxy.stats()["redis", "FRONTEND"]["status"] == "OPEN", 5)

    def ask():
        return network.execute("b", "sh", "-c", "echo hello | socat -t1 - TCP:10.77.0.9:6379,connect-timeout=1", check=False)
    assert ask() == ""
    network.execute("a", "ip", "address", "add", "10.77.0.9/24", "dev", "eth0")
    wait_until(lambda: ask() == "hello\n", 5)
    assert proxy.alive() and stub.alive()


# MARK: hatop

class Terminal:
    """A program on a terminal of its own (tmux), with its keys and its screen."""

    def __init__(self, socket, command, columns=150):
        self.base = ["tmux", "-S", str(socket)]
        subprocess.run([*self.base, "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", "40", command], check=True)

    def screen(self):
        return subprocess.run([*self.base, "capture-pane", "-p"], capture_output=True, text=True).stdout

    def press(self, *keys):
        subprocess.run([*self.base, "send-keys", *keys], check=True)

    def wait(self, text, timeout=15):
        return wait_until(lambda: (screen := self.screen()) and re.search(text, screen) and screen, timeout, f"{text!r} on:\n{self.screen()}")

    def end(self):
        subprocess.run([*self.base, "kill-server"], capture_output=True)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(command):
        opened.append(Terminal(tmp_path / f"tmux-{len(opened)}", command))
        return opened[-1]
    yield start
    for one in opened:
        one.end()


@pytest.mark.skipif(not shutil.which("hatop") or not shutil.which("tmux"), reason="needs hatop and tmux")
def test_hatop_shows_and_toggles_the_servers(article, terminal):
    a = article()
    a.wait_statuses("UP", "DOWN", "DOWN")
    hatop = terminal(f"hatop -s {a.proxy.stats_socket}")
    screen = hatop.wait(r"redis03 +.*DOWN")
    assert "HAProxy Version: 2.6" in screen and "ft_redis" in screen and re.search(r"redis01 .* UP ", screen)
    while not re.search(r"REDIS01|redis01", hatop.screen()):
        time.sleep(0.1)
    # The cursor starts on the first line; down to redis01, then F10 disables it.
    for _ in range(20):
        hatop.press("Down")
        time.sleep(0.15)
        hatop.press("F10")
        try:
            wait_until(lambda: a.statuses()[0] == "MAINT", 0.5)
            break
        except AssertionError:
            for name in ("redis02", "redis03"):
                a.proxy.ask(f"enable server bk_redis/{name}")
    hatop.wait(r"redis01 .* MAINT")
    hatop.press("F9")
    wait_until(lambda: a.statuses()[0] == "UP", 5)
    hatop.wait(r"redis01 .* UP ")
