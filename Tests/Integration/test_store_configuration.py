"""redis.conf: include and globs, Debian's own file with the article's conf.d, the command line, rewriting, refusals."""

import subprocess
from pathlib import Path

import pytest

from harness import ARTICLE, free_port, vigie_binary, vigie_role, wait_until

PASSWORD = "7xJtpLugAyu6hgPbuB3hX4R"


def test_debians_file_with_the_articles_conf_d(vigie_store, tmp_path):
    """The package's redis.conf, unchanged but for its paths, includes conf.d/*.conf and starts as a replica."""
    conf_d = tmp_path / "conf.d"
    conf_d.mkdir()
    local = (ARTICLE / "redis-02/etc/redis/conf.d/local.conf").read_text()
    (conf_d / "local.conf").write_text(local)
    packaged = Path("/etc/redis/redis.conf").read_text()
    file = tmp_path / "redis.conf"
    file.write_text(packaged.replace("/var/log/redis", str(tmp_path)).replace("/run/redis", str(tmp_path))
                    .replace("daemonize yes", "daemonize no") + f"\ninclude {conf_d}/*.conf\n")
    store = vigie_store(file, port=free_port(), logfile="", ready=False)
    store.password = PASSWORD
    store.wait_ready()
    assert store.call("CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]
    assert store.call("CONFIG", "GET", "masterauth") == [b"masterauth", PASSWORD.encode()]
    assert store.call("CONFIG", "GET", "repl-diskless-sync-delay") == [b"repl-diskless-sync-delay", b"0"]
    assert store.info("replication")["role"] == "slave"
    assert store.info("replication")["master_host"] == "192.168.0.4"
    with store.raw() as client:
        client.call("AUTH", PASSWORD)
    from harness import RawClient
    with RawClient(store.port) as stranger:
        assert stranger.call("GET", "k") == b"-NOAUTH Authentication required.\r\n"
        assert stranger.call("AUTH", "wrong").startswith(b"-WRONGPASS ")


def test_include_takes_globs_in_order_and_the_last_word_counts(vigie_store, tmp_path):
    for name, value in (("10-first", "1mb"), ("20-second", "2mb"), ("30-third", "3mb")):
        (tmp_path / f"{name}.conf").write_text(f"maxmemory {value}\n")
    file = tmp_path / "main.conf"
    file.write_text(f"maxmemory 9mb\ninclude {tmp_path}/[12]0-*.conf\ninclude {tmp_path}/none-*.conf\n")
    store = vigie_store(file)
    assert store.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"2097152"]


def test_the_command_line_is_stronger_than_the_file(vigie_store, tmp_path):
    file = tmp_path / "redis.conf"
    file.write_text("maxmemory 1mb\nport 1\nsave 900 1\n")
    store = vigie_store(file, maxmemory="5mb")
    assert store.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"5242880"]
    assert store.call("CONFIG", "GET", "save") == [b"save", b""]


def test_one_quoted_word_may_hold_all_of_a_directives(vigie_store, redis_server, tmp_path):
    file = tmp_path / "redis.conf"
    file.write_text('lua-replicate-commands yes\nclient-output-buffer-limit "pubsub 1mb 2mb 3"\nbind "127.0.0.1 -::1"\n')
    for start in (vigie_store, redis_server):
        store = start(file, save="5 5 7 7")
        assert store.call("CONFIG", "GET", "save") == [b"save", b"5 5 7 7"]
        assert b"pubsub 1048576 2097152 3" in store.call("CONFIG", "GET", "client-output-buffer-limit")[1]


def test_rewriting_keeps_what_the_operator_wrote(vigie_store, tmp_path):
    """CONFIG REWRITE as Sentinel uses it: the replica line comes, changes and goes; comments stay."""
    file = tmp_path / "redis.conf"
    file.write_text("# the operator's own words\nmaxmemory 1mb\n\n# more words\ntimeout 0\n")
    store = vigie_store(file)
    store.call("REPLICAOF", "127.0.0.1", "1")
    store.call("CONFIG", "SET", "maxmemory", "2mb")
    assert store.call("CONFIG", "REWRITE") == b"OK"
    text = file.read_text()
    assert "# the operator's own words" in text and "# more words" in text
    assert "maxmemory 2mb" in text or "maxmemory 2097152" in text
    assert "replicaof 127.0.0.1 1" in text
    store.call("REPLICAOF", "NO", "ONE")
    store.call("CONFIG", "REWRITE")
    assert "replicaof 127.0.0.1" not in file.read_text()
    store.stop()
    again = vigie_store(file, port=free_port())
    assert again.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"2097152"]


@pytest.mark.parametrize("text, words", [
    ("port 6379\nnosuchdirective yes\n", ["2", "nosuchdirective"]),
    ("maxmemory lots\n", ["1", "maxmemory", "lots"]),
    ("\n\nport notaport\n", ["3", "port", "notaport"]),
    ("maxmemory-policy bogus\n", ["1", "bogus", "noeviction"]),
    ("appendonly perhaps\n", ["1", "appendonly", "perhaps", "yes"]),
    ('requirepass "unbalanced\n', ["1"]),
    ("replicaof onlyahost\n", ["1", "replicaof"]),
], ids=lambda value: value.split("\n")[0] if isinstance(value, str) else "")
def test_a_bad_file_is_refused_by_line(tmp_path, text, words):
    file = tmp_path / "bad.conf"
    file.write_text(text)
    done = subprocess.run([*vigie_role("store"), file, "--port", str(free_port())], capture_output=True, text=True,
                          timeout=10)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for word in words:
        assert word in said, said
    assert str(file) in said or "bad.conf" in said


def test_a_missing_file_is_named(tmp_path):
    done = subprocess.run([*vigie_role("store"), tmp_path / "absent.conf"], capture_output=True, text=True, timeout=10)
    assert done.returncode != 0 and "absent.conf" in done.stdout + done.stderr


def test_a_taken_port_is_named(vigie_store, tmp_path):
    first = vigie_store()
    done = subprocess.run([*vigie_role("store"), "--port", str(first.port), "--bind", "127.0.0.1"],
                          capture_output=True, text=True, timeout=10)
    assert done.returncode != 0 and str(first.port) in done.stdout + done.stderr


def test_passwords_stay_out_of_the_log(vigie_store):
    store = vigie_store(password="verysecretpassword", masterauth="othersecret", replicaof=("127.0.0.1", 1))
    store.call("CONFIG", "SET", "requirepass", "thirdsecret")
    store.password = "thirdsecret"
    store.call("PING")
    store.stop()
    for secret in ("verysecretpassword", "othersecret", "thirdsecret"):
        assert secret not in store.log_text()


def test_one_store_as_configs_single_has_it(vigie_store):
    store = vigie_store(ARTICLE.parent / "single" / "redis.conf")
    assert store.client().set("k", "v")


def test_signals_end_it_with_its_data_saved(vigie_store, tmp_path):
    """As init scripts stop a store: SIGTERM, data saved, exit status 0, and the next start has it."""
    store = vigie_store(save=("3600", "1"))
    store.call("SET", "k", "v")
    assert store.stop() == 0
    again = vigie_store(dir=store.directory)
    assert again.call("GET", "k") == b"v"


def test_unix_socket(vigie_store, tmp_path):
    from harness import RawClient
    path = str(tmp_path / "store.sock")
    vigie_store(unixsocket=path, unixsocketperm="700")
    with RawClient(0, path=path) as client:
        assert client.call("PING") == b"+PONG\r\n"
    assert oct(Path(path).stat().st_mode & 0o777) == "0o700"
