"""Every directive of Redis beside the real server: known, with the same default, the same readings and the same errors."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from harness import RawClient, free_port, vigie_role, wait_until
from harness.servers import Store

FILES = Path(__file__).parent / "files"

# What differs on purpose, or follows from where a server was started.
OTHER_DEFAULTS = {
    "repl-diskless-sync-delay": "the first replica is served at once unless the file asks to wait",
    "port": "each its own", "dir": "each its own", "bind": "given to both", "save": "given to both",
}
# Directives that 7.2 has and 7.0.15 has not.
LATER = ["max-new-connections-per-cycle", "max-new-tls-connections-per-cycle", "set-max-listpack-entries", "set-max-listpack-value", "locale-collate", "cluster-announce-human-nodename",
         "server-cpulist", "bio-cpulist", "aof-rewrite-cpulist", "bgsave-cpulist"]


def directives(server):
    flat = server.call("CONFIG", "GET", "*")
    return {name.decode(): value.decode(errors="replace") for name, value in zip(flat[::2], flat[1::2])}


@pytest.fixture
def both(vigie_store, redis_server):
    return vigie_store(), redis_server()


def test_every_directive_is_known_with_the_same_default(both):
    ours, real = map(directives, both)
    assert len(real) > 180
    assert [name for name in real if name not in ours] == []
    different = {name: (ours[name], real[name]) for name in real if ours[name] != real[name]}
    # Debian's and ours are given these on the command line.
    assert {name: pair for name, pair in different.items() if name not in OTHER_DEFAULTS} == {}
    assert [name for name in LATER if name not in ours] == []


# Setting these would take the connection away, or needs what only one of the two has; 7.2 takes 64 samples at most.
NOT_PROBED = {"maxmemory-samples", "port", "bind", "dir", "tls-port", "tls-cluster", "tls-replication", "appendonly", "maxclients", "maxmemory", "maxmemory-clients",
              "requirepass", "tls-cert-file", "tls-key-file", "tls-ca-cert-file", "tls-ca-cert-dir", "tls-dh-params-file", "oom-score-adj",
              "oom-score-adj-values", "client-query-buffer-limit", "proto-max-bulk-len", "timeout", "activedefrag", "bind-source-addr"}
VALUES = ["", "-1", "0", "1", "7", "+5", "05", "1k", "1kb", "3MB", "abc", "yes", "NO", "99999999999", "10%", "101%", "1 2", "1 2 3",
          "9223372036854775808", "default", "nosave force", "KEA", "normal 1mb 2mb 3"]


def test_each_directive_reads_odd_values_as_redis_does(both):
    """CONFIG SET of each directive to values of every kind: the same reply, and the same value afterwards."""
    ours, real = both
    names = [name for name in directives(real) if name not in NOT_PROBED]
    tried, different = 0, []
    with ours.raw() as one, real.raw() as other:
        for name in names:
            for value in VALUES:
                replies = [client.call("CONFIG", "SET", name, value) for client in (one, other)]
                tried += 1
                if replies[0] != replies[1]:
                    # No size at all is 0 to the real server, and an error here.
                    if value == "" and b"memory value" in replies[0]:
                        other.call("CONFIG", "SET", name, one.value("CONFIG", "GET", name)[1])
                        continue
                    # No link of a cluster will ever have so much.
                    if (name, value) == ("cluster-link-sendbuf-limit", "9223372036854775808"):
                        other.call("CONFIG", "SET", name, one.value("CONFIG", "GET", name)[1])
                        continue
                    different.append((name, value, *replies))
                    continue
                values = [client.value("CONFIG", "GET", name)[1] for client in (one, other)]
                if values[0] != values[1]:
                    different.append((name, value, *values))
    assert tried > 2500
    assert different == [], "\n".join(map(repr, different))


ASKED = [
    ("GET", "MAXmemory"), ("GET", "maxmemory", "max*", "MAXMEMORY"), ("GET", "rdb-key-save-delay"), ("GET", "rdb-key*"), ("GET", "nosuch"),
    ("GET", "slave-priority", "replica-pri*"), ("GET", "[hj]z"), ("GET", "h?"), ("GET", "\\hz"),
    ("SET", "maxmemory"), ("SET", "maxmemory", "1", "hz"), ("SET", "nosuch", "1"), ("SET", "maxmemory", "x", "nosuch", "1"),
    ("SET", "hz", "5", "hz", "7"), ("SET", "hz", "5", "daemonize", "yes"), ("SET", "hz", "5", "dir", "/tmp"),
    ("SET", "slave-priority", "5", "replica-priority", "6"), ("SET", "HZ", "x"), ("SET", "Slave-Priority", "x"),
    ("SET", "port", "99999"), ("SET", "bind", "256.1.1.1"), ("SET", "maxclients", "0"), ("SET", "maxmemory", "+5"),
    ("SET", "maxmemory-clients", "101%"), ("SET", "maxmemory-clients", "x%"), ("SET", "oom-score-adj-values", "1 2"),
    ("SET", "oom-score-adj-values", "1 2 3000"), ("SET", "save", "900 1 300"), ("SET", "save", "10 5 20 6"),
    ("SET", "shutdown-on-sigterm", "save nosave"), ("SET", "proc-title-template", "{nosuch}"), ("SET", "proc-title-template", "{title"),
    ("SET", "notify-keyspace-events", "Q"), ("REWRITE",), ("REWRITE", "x"), ("RESETSTAT",), ("RESETSTAT", "x"), ("NOSUCH",),
]


def test_config_answers_as_redis_does(both):
    def pairs(reply):
        words = reply.split(b"\r\n")[2::2]
        return sorted(pair for pair in zip(words[::2], words[1::2]) if pair[0].decode() not in LATER)
    different = []
    with both[0].raw() as one, both[1].raw() as other:
        for words in ASKED:
            ours, real = one.call("CONFIG", *words), other.call("CONFIG", *words)
            same = pairs(ours) == pairs(real) if words[0] == "GET" and ours[:1] == b"*" else ours == real
            if not same:
                different.append((words, ours, real))
        assert one.call("CONFIG", "GET", "save") == other.call("CONFIG", "GET", "save")
    assert different == [], "\n".join(map(repr, different))


def test_setting_several_is_all_or_nothing(vigie_store):
    store = vigie_store(maxclients="100")
    before = directives(store)
    taken = socket.create_server(("127.0.0.1", 0))
    with store.raw() as client:
        # The first two are fine and in force until the port turns out to be taken.
        reply = client.call("CONFIG", "SET", "timeout", "77", "slowlog-max-len", "5", "port", taken.getsockname()[1])
        assert reply == (b"-ERR CONFIG SET failed (possibly related to argument 'port') - "
                         b"Unable to listen on this port. Check server logs.\r\n")
        assert client.call("CONFIG", "SET", "timeout", "78", "maxclients", "none").startswith(b"-ERR CONFIG SET failed")
        assert directives(store) == before
        assert client.call("CONFIG", "SET", "timeout", "77", "slowlog-max-len", "5") == b"+OK\r\n"
        assert client.value("CONFIG", "GET", "timeout", "slowlog-max-len")[1::2] == [b"77", b"5"]
    taken.close()


def test_the_port_can_be_changed_while_serving(vigie_store):
    store = vigie_store()
    port = free_port()
    with store.raw() as client:
        assert client.call("CONFIG", "SET", "port", port) == b"+OK\r\n"
        assert client.call("PING") == b"+PONG\r\n"
    with RawClient(port) as client:
        assert client.call("PING") == b"+PONG\r\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", store.port), 1)


def test_a_file_that_names_every_directive(vigie_store, tmp_path):
    """files/every-directive.conf: each one of 7.2 with its default, and with it no error and no warning about it."""
    text = (FILES / "every-directive.conf").read_text()
    named = {line.split()[0] for line in text.splitlines() if line and not line.startswith("#")}
    store = vigie_store(FILES / "every-directive.conf", daemonize="no", logfile="", pidfile=tmp_path / "pid")
    known = {name for name in directives(store)}
    aliases = {name for name in known if re.search("slave|ziplist|_cpulist|lua-time-limit", name)}
    # What no Redis has.
    own = {"reply-after-replicas", "reply-after-replicas-timeout"}
    assert sorted(known - named - aliases) == sorted(own)
    assert "has no effect" not in store.log_text()


def test_what_has_no_effect_is_said_once_with_its_reason(vigie_store, tmp_path):
    file = tmp_path / "redis.conf"
    file.write_text("hz 10\nio-threads 2\n\nio-threads 4\nio-threads 1\nio-threads 3\nactivedefrag yes\n")
    store = vigie_store(file)
    warnings = [line for line in store.log_text().splitlines() if "has no effect" in line]
    assert len(warnings) == 2
    assert f"{file}:6: io-threads '3' has no effect here: one thread serves all clients" in warnings[0]
    assert f"{file}:7: activedefrag 'yes' has no effect here: " in warnings[1]
    store.call("CONFIG", "SET", "activedefrag", "no")
    store.call("CONFIG", "SET", "hz", "100")
    wait_until(lambda: "CONFIG SET: hz '100' has no effect here: " in store.log_text(), 5, "the warning")


@pytest.mark.parametrize("line, accepted", [
    ("maxmemory-policy lru", "volatile-lru"), ("timeout five", "integer"), ("timeout 5 6", "wrong number"), ("hz", "wrong number"),
    ("daemonize maybe", "'yes' or 'no'"), ("unixsocketperm 9", "octal"), ("maxmemory 5tb", "memory value"), ("save 1 2 3", "Invalid save"),
    ("maxmemory-clients 200%", "less or equal to 100"), ("bind-source-addr host.invalid", "numeric"), ("oom-score-adj-values 1 2", "wrong number"),
    ("client-output-buffer-limit normal 1", "Wrong number of arguments"), ("proc-title-template {x", "template format"),
    ("rename-command NOSUCH x", "No such command"), ("include /nowhere/file.conf", "No such file"), ("supervised daemontools", "systemd"),
    ("shutdown-on-sigint save nosave", "can't be used simultaneously"), ("notify-keyspace-events Q", "Ag$lshzxeKEtmdn"),
    ("maxmemmory 5mb", "did you mean maxmemory?"), ("requirepass 'open", "quote"),
])
def test_a_malformed_directive_stops_the_start_by_line(tmp_path, line, accepted):
    file = tmp_path / "redis.conf"
    file.write_text(f"# one\nport {free_port()}\n\n{line}\n")
    done = subprocess.run([*vigie_role("store"), file], capture_output=True, text=True, timeout=10)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert f"{file}:4: " in said and accepted in said, said
    if not line.startswith(("requirepass", "include")):
        assert line.split()[0] in said


def test_standard_input_counts_between_file_and_options(processes, tmp_path):
    file = tmp_path / "redis.conf"
    file.write_text("maxmemory 1mb\ntimeout 1\nhz 20\n")
    for words in ([file, "--timeout", "3", "-"], ["-", "--timeout", "3"]):
        port = free_port()
        child = subprocess.Popen([*map(str, vigie_role("store")), *map(str, words[:1]), "--port", str(port), "--save", "", *map(str, words[1:])],
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path)
        try:
            child.stdin.write(b"maxmemory 2mb\ntimeout 2\n")
            child.stdin.close()
            store = Store(type("Running", (), {"alive": lambda self: child.poll() is None, "name": "store", "log_text": lambda self: ""})(), port)
            store.wait_ready()
            assert store.call("CONFIG", "GET", "maxmemory", "timeout")[1::2] == [b"2097152", b"3"]
            assert store.call("CONFIG", "GET", "hz")[1] == (b"20" if words[0] == file else b"10")
        finally:
            child.terminate()
            child.wait(10)


@pytest.mark.parametrize("words, directive, value", [
    (["--proc-title-template", "--mine--", "--loglevel", "verbose"], "proc-title-template", b"--mine--"),
    (["--save", "--loglevel", "verbose"], "save", b""),
    (["--save"], "save", b""),
    (["--save 10 1 20 2"], "save", b"10 1 20 2"),
    (["--shutdown-on-sigint", "nosave", "force"], "shutdown-on-sigint", b"nosave force"),
    (["--requirepass", "a b", "--masterauth", "x"], "masterauth", b"x"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_the_command_line_is_redis_own(processes, tmp_path, words, directive, value):
    for program in (vigie_role("store"), ["redis-server"]):
        port = free_port()
        store = Store(processes.start([*program, "--port", port, "--dir", tmp_path, *words]), port,
                      password="a b" if "--requirepass" in words else None).wait_ready()
        assert store.call("CONFIG", "GET", directive) == [directive.encode(), value]
        store.kill()


def test_rewriting_writes_what_redis_writes(vigie_store, redis_server, tmp_path):
    """The same file, the same changes, CONFIG REWRITE on both: the same lines, but for those about users and percentiles."""
    text = ("# my words\nmaxmemory 100mb\n\nsave 900 1\nsave 300 10\n# more words\nslave-priority 5\nTimeout 7\n"
            "client-output-buffer-limit normal 0 0 0\ninclude {}/none-*.conf\nrename-command FLUSHALL \"\"\nhz 10\n")
    written = []
    for start in (vigie_store, redis_server):
        folder = tmp_path / str(len(written))
        folder.mkdir()
        file = folder / "redis.conf"
        file.write_text(text.format(tmp_path))
        # Nothing on the command line but what the file cannot say.
        port = free_port()
        file.write_text(file.read_text() + f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
        store = start(file, port=port, dir=folder, save=("900", "1", "300", "10"), repl_diskless_sync_delay="5")
        with store.raw() as client:
            assert client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "repl-backlog-size", "5mb", "oom-score-adj-values", "1 2 3",
                               "maxmemory-clients", "10%", "masterauth", "a b\x01", "save", "60 5", "slowlog-max-len", "5", "maxmemory",
                               "1gb", "timeout", "0", "client-output-buffer-limit", "pubsub 1mb 512kb 3") == b"+OK\r\n"
            assert client.call("CONFIG", "REWRITE") == b"+OK\r\n"
            lines = file.read_text().replace(str(folder), "DIR").replace(str(port), "PORT").splitlines()
            # A second time changes nothing (Redis repeats buffer limits then).
            assert client.call("CONFIG", "REWRITE") == b"+OK\r\n"
            if start is vigie_store:
                assert file.read_text().replace(str(folder), "DIR").replace(str(port), "PORT").splitlines() == lines
                assert "client-output-buffer-limit pubsub 1mb 512kb 3" in lines
        written.append([line for line in lines if not line.startswith(("user ", "latency-tracking-info", "dir ", "repl-diskless-sync-delay",
                                                                              "client-output-buffer-limit"))])
        assert [name for name in os.listdir(folder) if name.endswith(".tmp")] == []
    def order(lines):
        mark = lines.index("# Generated by CONFIG REWRITE")
        return [line for line in lines[:mark] if line], sorted(line for line in lines[mark:] if line)
    assert order(written[0]) == order(written[1])


def test_rewriting_keeps_the_file_when_it_cannot_be_replaced(vigie_store, tmp_path):
    file = tmp_path / "conf" / "redis.conf"
    file.parent.mkdir()
    file.write_text("maxmemory 1mb\n")
    store = vigie_store(file)
    store.call("CONFIG", "SET", "maxmemory", "2mb")
    file.rename(tmp_path / "elsewhere.conf")
    file.parent.rmdir()
    assert store.raw().call("CONFIG", "REWRITE").startswith(b"-ERR Rewriting config file: No such file or directory")
    assert (tmp_path / "elsewhere.conf").read_text() == "maxmemory 1mb\n"


# MARK: the process


def test_a_daemon_has_its_pid_file_and_log(tmp_path):
    port = free_port()
    file = tmp_path / "redis.conf"
    file.write_text(f"daemonize yes\npidfile {tmp_path}/store.pid\nlogfile {tmp_path}/store.log\ndir {tmp_path}\nport {port}\n"
                    "loglevel verbose\nsave \"\"\n")
    assert subprocess.run([*vigie_role("store"), file], timeout=10, stdin=subprocess.DEVNULL).returncode == 0
    pid = int((tmp_path / "store.pid").read_text())
    try:
        with RawClient(port) as client:
            assert client.call("PING") == b"+PONG\r\n"
        assert "Ready to accept connections" in (tmp_path / "store.log").read_text()
        assert os.getsid(pid) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "store.pid").exists(), 5, "the pid file gone")


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def test_the_title_says_where_it_listens(vigie_store, tmp_path):
    store = vigie_store(bind="127.0.0.1")
    assert command_line(store.pid).endswith(f"127.0.0.1:{store.port}")
    assert store.call("CONFIG", "SET", "proc-title-template", "{title} at {port} {server-mode} ") == b"OK"
    assert command_line(store.pid).endswith(f" at {store.port}")
    # The environment lay where the title is now, and is still there.
    assert store.call("CONFIG", "SET", "proc-title-template", "x" * 500) == b"OK"
    assert command_line(store.pid).startswith("x" * 200)
    plain = vigie_store(set_proc_title="no", port=free_port())
    assert "--set-proc-title" in command_line(plain.pid)


def score(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.skipif(os.geteuid() != 0, reason="lowering a score again needs root")
def test_the_kernel_is_told_who_goes_first(vigie_store):
    base = score("self")
    master = vigie_store(oom_score_adj="relative", oom_score_adj_values=("10", "20", "30"))
    replica = vigie_store(oom_score_adj="absolute", oom_score_adj_values=("10", "20", "30"), replicaof=("127.0.0.1", master.port))
    assert (score(master.pid), score(replica.pid)) == (base + 10, 20)
    replica.wait_replica_online()
    replica.call("REPLICAOF", "NO", "ONE")
    assert score(replica.pid) == 10
    assert master.call("CONFIG", "SET", "oom-score-adj-values", "40 50 60") == b"OK"
    assert score(master.pid) == base + 40
    assert master.call("CONFIG", "SET", "oom-score-adj", "no") == b"OK"
    assert score(master.pid) == base


def test_huge_pages_are_turned_off_for_the_process(vigie_store):
    def allowed(store):
        return re.search(r"THP_enabled:\s+(\d)", Path(f"/proc/{store.pid}/status").read_text())[1]
    assert allowed(vigie_store()) == "0"
    assert allowed(vigie_store(disable_thp="no", port=free_port())) == "1"


def test_warnings_about_the_machine(vigie_store):
    store = vigie_store(tcp_backlog=1 << 24)
    assert "somaxconn is set to the lower value of" in store.log_text()
    overcommits = Path("/proc/sys/vm/overcommit_memory").read_text().strip() != "0"
    assert ("WARNING Memory overcommit must be enabled!" in store.log_text()) != overcommits


def test_systemd_hears_when_it_serves_and_ends(processes, tmp_path):
    path = str(tmp_path / "notify")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(path)
    notify.settimeout(10)
    port = free_port()
    # A supervised process stays in the foreground, whatever daemonize says.
    process = processes.start([*vigie_role("store"), "--port", port, "--supervised", "auto", "--daemonize", "yes", "--save", "",
                               "--pidfile", tmp_path / "pid", "--dir", tmp_path], env={"NOTIFY_SOCKET": path})
    assert notify.recv(4096).decode().splitlines() == ["STATUS=Ready to accept connections", "READY=1"]
    store = Store(process, port).wait_ready()
    assert store.info("server")["process_supervised"] == "systemd"
    assert store.pid == int(store.info("server")["process_id"])
    process.signal(signal.SIGTERM)
    assert "STOPPING=1" in notify.recv(4096).decode()
    assert process.child.wait(10) == 0


def test_signals_end_it_as_the_configuration_says(vigie_store, tmp_path):
    store = vigie_store(save=("3600", "1"), shutdown_on_sigint="nosave", shutdown_on_sigterm="save")
    store.call("SET", "k", "v")
    store.process.signal(signal.SIGINT)
    assert store.process.child.wait(10) == 0
    assert not (store.directory / "dump.rdb").exists()
    store = vigie_store(save="", shutdown_on_sigint="nosave", shutdown_on_sigterm="save", port=free_port())
    store.call("SET", "k", "v")
    store.process.signal(signal.SIGTERM)
    assert store.process.child.wait(10) == 0
    assert (store.directory / "dump.rdb").exists()


@pytest.mark.parametrize("bind, reachable", [
    ("* -::*", True), ("127.0.0.1 -::1", True), ("-203.0.113.9 127.0.0.1", True), ("203.0.113.9 127.0.0.1", False), ("-203.0.113.9", False),
])
def test_bind_with_stars_and_optional_addresses(processes, tmp_path, bind, reachable):
    port = free_port()
    process = processes.start([*vigie_role("store"), "--port", port, "--save", "", "--dir", tmp_path, "--bind", *bind.split()])
    if reachable:
        Store(process, port).wait_ready()
    else:
        assert process.child.wait(10) == 1
        assert "203.0.113.9" in process.log_text()


def test_more_clients_than_files_are_reduced(processes, tmp_path):
    port = free_port()
    def limited():
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    # Without the right to raise the hard limit; as root the right is taken away first.
    argv = ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"] if os.geteuid() == 0 else []
    child = subprocess.Popen([*argv, *map(str, vigie_role("store")), "--port", str(port), "--save", "", "--dir", str(tmp_path)],
                             preexec_fn=limited, stdout=open(tmp_path / "log", "wb"), stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: b"Ready" in (tmp_path / "log").read_bytes(), 10, "ready")
        with RawClient(port) as client:
            assert client.value("CONFIG", "GET", "maxclients")[1] == b"168"
            assert client.call("CONFIG", "SET", "maxclients", "5000") == (
                b"-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to handle "
                b"the specified number of clients, try with 168\r\n")
        assert b"maxclients has been reduced to 168" in (tmp_path / "log").read_bytes()
    finally:
        child.terminate()
        child.wait(10)
