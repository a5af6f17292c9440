"""The article's platform on loopback: three stores, three Sentinels and the proxy, each ours or the real one."""

from .binary import ARTICLE
from .ports import free_port
from .resp import RawClient
from .waiting import wait_until

PASSWORD = "7xJtpLugAyu6hgPbuB3hX4R"


class LoopbackPlatform:
    """Built from factories of conftest.py. `stores[0]` is the first master; `port` is the proxy's."""

    def __init__(self, store, sentinel, proxy, down_after=1000, inter="200ms"):
        self.start_store = store
        self.stores = [store(password=PASSWORD)]
        first = self.stores[0].port
        self.stores += [store(password=PASSWORD, slaveof=("127.0.0.1", first)) for _ in range(2)]
        for replica in self.stores[1:]:
            replica.wait_replica_online()
        text = (ARTICLE / "redis-01/etc/redis/sentinel.conf").read_text()
        lines = [line for line in text.splitlines()
                 if line.split(" ")[0] not in ("port", "daemonize", "logfile", "pidfile")]
        text = "\n".join(lines).replace("192.168.0.4 6379", f"127.0.0.1 {first}")
        text = text.replace("down-after-milliseconds mymaster 5000", f"down-after-milliseconds mymaster {down_after}")
        self.sentinels = [sentinel(text) for _ in range(3)]
        self.port = free_port()
        self.proxy = proxy(self._haproxy(inter))
        for one in self.sentinels:
            wait_until(lambda: (lambda f: (f["num-slaves"], f["num-other-sentinels"]))(one.fields("MASTER", "mymaster"))
                       == ("2", "2"), 30, "the Sentinels acquainted", every=0.1)
        wait_until(lambda: self.connect().call("PING") == b"+PONG\r\n", 15, "PING through the proxy")

    def _haproxy(self, inter):
        kept = []
        for line in (ARTICLE / "haproxy-01/etc/haproxy/haproxy.cfg").read_text().splitlines():
            words = line.split()
            if words[:1] in (["log"], ["chroot"], ["user"], ["group"], ["daemon"]):
                continue
            if words[:2] == ["stats", "socket"]:
                line = "    stats socket {stats} mode 660 level admin"
            kept.append(line)
        text = "\n".join(kept).replace("192.168.0.1:6379", f"127.0.0.1:{self.port}").replace("inter 1s", f"inter {inter}")
        for number, store in enumerate(self.stores):
            text = text.replace(f"192.168.0.{4 + number}:6379", f"127.0.0.1:{store.port}")
        return text

    def connect(self, timeout=2.0):
        """A connection through the proxy, authenticated."""
        client = RawClient(self.port, timeout=timeout)
        assert client.call("AUTH", PASSWORD) == b"+OK\r\n"
        return client

    def master(self):
        """The store that the first Sentinel names."""
        port = self.sentinels[0].master_address()[1]
        return next(store for store in self.stores if store.port == port)

    def wait_new_master(self, old, timeout=30):
        wait_until(lambda: self.master() is not old, timeout, "another master", every=0.1)
        return self.master()
