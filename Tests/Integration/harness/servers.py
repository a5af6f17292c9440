"""The servers that tests start, real or ours, behind the same methods."""

import subprocess

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .resp import RawClient
from .waiting import wait_until


def options_as_arguments(options):
    """{"maxmemory_policy": "noeviction"} as redis-server's command line has it: --maxmemory-policy noeviction."""
    words = []
    for name, value in options.items():
        words.append("--" + name.replace("_", "-"))
        words.extend(str(part) for part in value) if isinstance(value, (list, tuple)) else words.append(str(value))
    return words


class Server:
    """Something that speaks RESP on a port, with the process behind it."""

    def __init__(self, process, port, host="127.0.0.1", password=None):
        self.process, self.port, self.host, self.password = process, port, host, password

    pid = property(lambda self: self.process.pid)
    alive = property(lambda self: self.process.alive)
    log_text = property(lambda self: self.process.log_text)
    wait_log = property(lambda self: self.process.wait_log)
    kill = property(lambda self: self.process.kill)
    stop = property(lambda self: self.process.stop)
    freeze = property(lambda self: self.process.freeze)
    thaw = property(lambda self: self.process.thaw)

    def client(self, **options):
        """A redis-py client that never retries by itself."""
        options = {"socket_timeout": 10, "password": self.password, **options}
        return redis.Redis(host=self.host, port=self.port, retry=Retry(NoBackoff(), 0), **options)

    def raw(self, timeout=5.0):
        """A connection that returns replies as raw bytes, authenticated if the server has a password."""
        client = RawClient(self.port, self.host, timeout)
        if self.password:
            assert client.call("AUTH", self.password) == b"+OK\r\n"
        return client

    def call(self, *words):
        """One command on a connection of its own, as Python values."""
        with self.raw() as client:
            return client.value(*words)

    def cli(self, *words, input=None, timeout=20, netns=None):
        """What Debian's redis-cli prints."""
        argv = ["ip", "netns", "exec", netns] if netns else []
        argv += ["redis-cli", "-h", self.host, "-p", str(self.port)]
        if self.password:
            argv += ["-a", self.password, "--no-auth-warning"]
        return subprocess.run(argv + [str(word) for word in words], input=input, capture_output=True, text=True,
                              timeout=timeout).stdout

    def info(self, section="everything"):
        """INFO as a dictionary of strings, as the server wrote them."""
        text = self.call("INFO", section)
        lines = (line.partition(":") for line in text.decode(errors="replace").splitlines() if ":" in line)
        return {name: value for name, _, value in lines}

    def wait_ready(self, timeout=10.0):
        def answers():
            if not self.process.alive():
                raise RuntimeError(f"{self.process.name} ended with {self.process.child.returncode}")
            with RawClient(self.port, self.host, 1.0) as client:
                reply = client.call("PING")
                return reply[:1] in (b"+", b"-") and not reply.startswith(b"-LOADING")
        try:
            wait_until(answers, timeout, f"{self.process.name} answering on port {self.port}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.process.log_text()}") from None
        return self


class Store(Server):
    """redis-server or `vigie store`."""

    def wait_replica_online(self, timeout=30.0):
        """On a replica: waits until it is in step with its master."""
        def in_step():
            info = self.info("replication")
            return info["master_link_status"] == "up" and info.get("master_sync_in_progress", "0") == "0"
        wait_until(in_step, timeout, f"the replica on {self.port} connected to its master")
        return self


class Sentinel(Server):
    """redis-sentinel or `vigie sentinel`; `file` is the configuration that it rewrites."""

    file = None

    def master_address(self, name="mymaster"):
        address = self.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        return (address[0].decode(), int(address[1])) if address else None

    def fields(self, *words):
        """SENTINEL MASTER name and the like: a flat list as a dictionary."""
        flat = self.call("SENTINEL", *words)
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}

    def rows(self, *words):
        """SENTINEL MASTERS, REPLICAS name, SENTINELS name: a list of dictionaries."""
        return [{row[i].decode(): row[i + 1].decode() for i in range(0, len(row), 2)}
                for row in self.call("SENTINEL", *words)]


class HAProxy:
    """haproxy or `vigie proxy`; `socket` is the stats socket, if the configuration has one."""

    def __init__(self, process, stats_socket=None):
        self.process, self.stats_socket = process, stats_socket

    pid = property(lambda self: self.process.pid)
    alive = property(lambda self: self.process.alive)
    log_text = property(lambda self: self.process.log_text)
    kill = property(lambda self: self.process.kill)
    stop = property(lambda self: self.process.stop)

    def ask(self, command):
        """One command on the stats socket, and the whole answer."""
        import socket
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.stats_socket))
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
        return answer.decode()

    def stats(self):
        """`show stat` as a dictionary from (proxy, server) to a dictionary of columns."""
        lines = [line for line in self.ask("show stat").splitlines() if line]
        names = lines[0].lstrip("# ").split(",")
        rows = (dict(zip(names, line.split(","))) for line in lines[1:])
        return {(row["pxname"], row["svname"]): row for row in rows}

    def status(self, proxy, server):
        return self.stats()[proxy, server]["status"]
