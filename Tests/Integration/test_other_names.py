"""Under the names of the programs it replaces: their init scripts' ways of starting, replacing and ending them."""

import os
import signal
import socket
import subprocess
import time

import pytest

from harness import free_port, vigie_binary, wait_until


@pytest.fixture
def named(tmp_path):
    """`named("haproxy")`: the path of a symbolic link of that name."""
    def link(name):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        if not path.is_symlink():
            path.symlink_to(vigie_binary())
        return str(path)
    return link


@pytest.fixture
def ending():
    """Process ids that are to be gone after the test."""
    pids = []
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=20, **options)


def is_alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def haproxy_file(folder, port, backend):
    file = folder / "haproxy.cfg"
    file.write_text(f"""global
    stats socket {folder}/admin.sock mode 600 level admin

defaults
    mode tcp
    timeout connect 1s
    timeout client 1m
    timeout server 1m

listen front
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{backend}
""")
    return file


def test_haproxy_is_replaced_as_its_init_script_does(named, tmp_path, ending):
    """`haproxy -f FILE -D -p PIDFILE -sf $(cat PIDFILE)`: what is being served goes on, the new process has the rest."""
    backend = socket.create_server(("127.0.0.1", 0))
    port, pidfile = free_port(), tmp_path / "haproxy.pid"
    file = haproxy_file(tmp_path, port, backend.getsockname()[1])
    assert run(named("haproxy"), "-c", "-f", file).stdout.strip() == "Configuration file is valid"

    started = run(named("haproxy"), "-f", file, "-D", "-p", pidfile)
    assert started.returncode == 0, started.stderr
    old = int(pidfile.read_text())
    ending.append(old)
    client = socket.create_connection(("127.0.0.1", port))
    served, _ = backend.accept()

    replaced = run(named("haproxy"), "-f", file, "-D", "-p", pidfile, "-sf", old)
    assert replaced.returncode == 0, replaced.stderr
    new = int(pidfile.read_text())
    ending.append(new)
    assert new != old and is_alive(old)

    client.sendall(b"still here")
    assert served.recv(100) == b"still here"
    with socket.create_connection(("127.0.0.1", port)) as second:
        other, _ = backend.accept()
        second.sendall(b"new")
        assert other.recv(100) == b"new"
        other.close()
    client.close()
    served.close()
    wait_until(lambda: not is_alive(old), 5, "the old process to end with its last session")
    assert pidfile.exists() and (tmp_path / "admin.sock").exists()

    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not is_alive(new), 5, "the new process to end")
    assert not pidfile.exists()


def test_haproxy_names_what_is_wrong(named, tmp_path):
    file = tmp_path / "bad.cfg"
    file.write_text("defaults\n    mode tcp\n    colour blue\n")
    done = run(named("haproxy"), "-c", "-f", file)
    assert done.returncode == 1 and f"{file}:3:" in done.stderr
    assert "unknown option" in run(named("haproxy"), "--colour").stderr


KEEPALIVED = """
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    advert_int 1
    virtual_ipaddress {
        192.168.0.1/24
    }
}
"""


def test_keepalived_goes_to_the_background_and_ends_by_its_pidfile(named, tmp_path, network, ending):
    network.host("a", "192.168.0.2/24")
    file, pidfile = tmp_path / "keepalived.conf", tmp_path / "keepalived.pid"
    file.write_text(KEEPALIVED)
    inside = ["ip", "netns", "exec", network.namespace("a")]
    done = run(*inside, named("keepalived"), "-DP", "-f", file, "-p", pidfile, "-r", tmp_path / "vrrp.pid")
    assert done.returncode == 0, done.stderr
    pid = int(pidfile.read_text())
    ending.append(pid)
    assert (tmp_path / "vrrp.pid").read_text() == pidfile.read_text()
    wait_until(lambda: "192.168.0.1/24" in network.addresses("a"), 6, "the address")
    os.kill(pid, signal.SIGUSR1)
    time.sleep(0.3)
    assert is_alive(pid)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(pid), 5, "the process to end")
    assert "192.168.0.1/24" not in network.addresses("a") and not pidfile.exists()


def test_keepalived_checks_its_file(named, tmp_path):
    file = tmp_path / "keepalived.conf"
    file.write_text(KEEPALIVED)
    assert run(named("keepalived"), "-t", "-f", file).returncode == 0
    file.write_text(KEEPALIVED.replace("51", "0"))
    done = run(named("keepalived"), "--config-test", "--use-file", file)
    assert done.returncode == 1
    assert done.stderr.strip() == f"{file}:4: virtual_router_id '0': accepted is a number from 1 to 255"
    assert run(vigie_binary(), "check", file).returncode == 1


def test_keepalived_tells_systemd_that_it_is_ready(named, tmp_path, network, processes):
    network.host("a", "192.168.0.2/24")
    file = tmp_path / "keepalived.conf"
    file.write_text(KEEPALIVED)
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(5)
        processes.start([named("keepalived"), "--dont-fork", "-f", file, "-p", tmp_path / "pid"], name="keepalived",
                        netns=network.namespace("a"), env={"NOTIFY_SOCKET": str(path)})
        assert b"READY=1" in told.recv(1000)
