"""The command line: what starts, what is refused and how it says so, signals, the background, the other programs' names."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import ARTICLE, RawClient, free_port, vigie_binary, wait_until


def run(*arguments, program=None, timeout=20, **options):
    done = subprocess.run([program or vigie_binary(), *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, **options)
    return done.returncode, done.stdout + done.stderr


def answers(port):
    def ask():
        try:
            with RawClient(port, timeout=1) as client:
                return client.call("PING") == b"+PONG\r\n" or None
        except OSError:
            return None
    return wait_until(ask, 10, f"PING on port {port}")


def ends(pid):
    """The process is another's child and may linger as a zombie where nobody reaps it."""
    def gone():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z" or None
        except FileNotFoundError:
            return True
    return wait_until(gone, 10, f"the end of process {pid}")


@pytest.mark.parametrize("host", sorted(path.name for path in ARTICLE.iterdir() if path.is_dir()))
def test_the_articles_files_are_found_good(host):
    for file in sorted((ARTICLE / host / "etc").rglob("*")):
        if file.is_file() and file.name != "node.conf":
            status, said = run("check", file)
            assert status == 0, said


@pytest.mark.parametrize("name, text, said", [
    ("redis.conf", "port 1\nprot 2\n", ":2: 'prot 2'"),
    ("sentinel.conf", "port 26379\nsentinel monitor m 127.0.0.1 6379 none\n", ":2: "),
    ("haproxy.cfg", "frontend f\n  mode tcp\n  bnid :1\n", ":3: "),
    ("keepalived.conf", "vrrp_instance V {\n  interface lo\n  virtual_router_id 999\n}\n", ":3: "),
    ("node.conf", "store /nowhere/redis.conf\nstoer x\n", ":2: 'stoer' is not a role"),
])
def test_check_names_file_and_line(tmp_path, name, text, said):
    file = tmp_path / name
    file.write_text(text)
    status, output = run("check", file)
    assert status == 1 and f"{file}{said}" in output, output
    assert file.read_text() == text


def test_check_of_several_files_goes_on_after_a_bad_one(tmp_path):
    good, bad = tmp_path / "good.conf", tmp_path / "bad.conf"
    good.write_text("port 1\n")
    bad.write_text("port x\n")
    assert run("check", good)[0] == 0
    status, said = run("check", bad, good, tmp_path / "absent.conf")
    assert status == 1 and f"{bad}:1: " in said and "absent.conf" in said


def test_every_fault_of_a_file_is_named_at_once(tmp_path):
    file = tmp_path / "redis.conf"
    file.write_text("port x\ntimeout -1\n")
    status, said = run("store", file)
    assert status == 1 and f"{file}:1: " in said and f"{file}:2: " in said


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_in_order(vigie_store, stop):
    store = vigie_store()
    os.kill(store.process.pid, stop)
    wait_until(lambda: not store.alive() or None, 10, "the end")
    assert "bye bye" in store.log_text()


def test_shutdown_ends_the_process(vigie_store):
    store = vigie_store()
    with RawClient(store.port) as client:
        client.send("SHUTDOWN", "NOSAVE")
        wait_until(lambda: not store.alive() or None, 10, "the end")


def test_the_background(tmp_path):
    """The command returns when the daemon serves, with 0; the pid file goes with the daemon."""
    port, pidfile, log = free_port(), tmp_path / "store.pid", tmp_path / "store.log"
    status, said = run("store", "--port", port, "--daemonize", "yes", "--pidfile", pidfile, "--logfile", log, "--dir",
                       tmp_path, "--save", "")
    assert status == 0, said
    pid = int(pidfile.read_text())
    try:
        assert answers(port)
        # Taken already: the daemon says so in the terminal that started it.
        status, said = run("store", "--port", port, "--daemonize", "yes", "--pidfile", tmp_path / "other.pid", "--logfile",
                           tmp_path / "other.log", "--dir", tmp_path)
        assert status == 1 and str(port) in said
    finally:
        os.kill(pid, signal.SIGTERM)
    ends(pid)
    assert not pidfile.exists() and "Ready to accept connections" in log.read_text()


def test_run_puts_roles_into_one_process(tmp_path, processes):
    store, sentinel, proxy = free_port(), free_port(), free_port()
    (tmp_path / "redis.conf").write_text(f'bind 127.0.0.1\nport {store}\ndir {tmp_path}\nsave ""\n')
    (tmp_path / "sentinel.conf").write_text(f"bind 127.0.0.1\nport {sentinel}\nsentinel monitor m 127.0.0.1 {store} 1\n")
    (tmp_path / "haproxy.cfg").write_text(
        f"defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n"
        f"listen l\n  bind 127.0.0.1:{proxy}\n  server s 127.0.0.1:{store}\n")
    (tmp_path / "node.conf").write_text("store redis.conf\nsentinel sentinel.conf\nproxy haproxy.cfg\n")
    process = processes.start([vigie_binary(), "run", tmp_path / "node.conf"], name="node")
    for port in (store, sentinel, proxy):
        assert answers(port)
    with RawClient(proxy) as client:
        assert client.call("SET", "k", "v") == b"+OK\r\n"
    with RawClient(store) as client:
        assert client.value("GET", "k") == b"v"
    os.kill(process.pid, signal.SIGTERM)
    wait_until(lambda: not process.alive() or None, 10, "the end")


@pytest.mark.parametrize("name, arguments, said", [
    ("redis-server", ["--version"], "Redis server v=7.2"),
    ("redis-server", ["--port", "x"], "'port x'"),
    ("redis-sentinel", [], "needs its file"),
    ("haproxy", ["-v"], "HAProxy version"),
    ("haproxy", ["-c"], "expected one configuration file"),
    ("haproxy", ["--bogus"], "unknown option '--bogus'"),
    ("keepalived", ["-v"], "Keepalived v2"),
    ("keepalived", ["-Z"], "unknown option '-Z'"),
])
def test_other_names(tmp_path, name, arguments, said):
    link = tmp_path / name
    link.symlink_to(Path(vigie_binary()).resolve())
    assert said in run(*arguments, program=link)[1]


def test_haproxys_own_way_to_check(tmp_path):
    link = tmp_path / "haproxy"
    link.symlink_to(Path(vigie_binary()).resolve())
    status, said = run("-c", "-f", ARTICLE / "haproxy-01/etc/haproxy/haproxy.cfg", program=link)
    assert status == 0 and "Configuration file is valid" in said


def test_renamed_and_removed_commands(vigie_store, tmp_path):
    file = tmp_path / "redis.conf"
    file.write_text('rename-command FLUSHALL ""\nrename-command CONFIG Secret-Config\n')
    store = vigie_store(file)
    with store.raw() as client:
        assert client.call("FLUSHALL").startswith(b"-ERR unknown command 'FLUSHALL'")
        assert client.call("CONFIG", "GET", "port").startswith(b"-ERR unknown command")
        assert client.value("secret-config", "GET", "port") == [b"port", str(store.port).encode()]
    for line in ("rename-command nosuch x", "rename-command GET SET"):
        file.write_text(line)
        status, said = run("store", file)
        assert status == 1 and f"{file}:1: '{line}'" in said


def test_a_reader_over_the_soft_limit_is_closed(vigie_store):
    store = vigie_store()
    store.call("CONFIG", "SET", "client-output-buffer-limit", "normal 0 100kb 1")
    store.call("SET", "large", "x" * 1_000_000)
    with RawClient(store.port) as slow:
        for _ in range(20):
            slow.send("GET", "large")
        wait_until(lambda: "overcoming of output buffer limits" in store.log_text() or None, 10, "the end of the slow reader")
    assert store.call("PING") == b"PONG"


def test_systemd_is_told(tmp_path, processes):
    import socket
    port, path = free_port(), str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.settimeout(10)
        # As a unit does: the variable is in the environment of the service only.
        processes.start(["env", f"NOTIFY_SOCKET={path}", vigie_binary(), "store", "--port", port, "--bind", "127.0.0.1",
                         "--supervised", "systemd", "--save", "", "--dir", tmp_path], name="supervised")
        assert b"READY=1" in told.recv(1000)


def test_demo(tmp_path):
    """Up, written through, master killed, another one made, ended by Ctrl-C with nothing left behind."""
    port = free_port()
    before = set(Path("/tmp").glob("vigie-demo.*"))
    demo = subprocess.Popen([vigie_binary(), "demo", "--port", str(port)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    said = []
    try:
        for line in demo.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                break
        text = "".join(said)
        kill = next(line.split() for line in said if line.strip().startswith("kill -9"))
        with RawClient(port) as client:
            assert client.call("SET", "greeting", "hello") == b"+OK\r\n"
            assert client.call("WAIT", "2", "5000") == b":2\r\n"
        os.kill(int(kill[2]), signal.SIGKILL)

        def works():
            try:
                with RawClient(port, timeout=1) as client:
                    return client.value("GET", "greeting") == b"hello" and client.call("SET", "k", "v") == b"+OK\r\n" or None
            except (OSError, AssertionError):
                return None
        wait_until(works, 20, "a write through the proxy after the master was killed")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(20)
    assert demo.returncode == 0
    assert set(Path("/tmp").glob("vigie-demo.*")) <= before, text
    for line in said:
        if "PID" in line:
            assert ends(int(line.split("PID")[1].split()[0]))
