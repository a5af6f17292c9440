"""A master, two replicas and Sentinels that watch them, each of either program."""

import re

from .waiting import wait_until

PASSWORD = "7xJtpLugAyu6hgPbuB3hX4R"


class Quorum:
    """`stores[0]` is the master at first. `sentinel_of` and `store_of` map "vigie" and "redis" to factories."""

    # A Redis Sentinel sends its first PING to a new master a second after the switch, and at 1000 counts that second as silence.
    def __init__(self, store_of, sentinel_of, stores=("redis",) * 3, sentinels=("vigie",) * 3, quorum=2,
                 down_after=1500, failover_timeout=10000, extra=""):
        self.store_of, self.kinds, self.sentinel_kinds = store_of, stores, sentinels
        self.stores = [store_of(stores[0])(password=PASSWORD)]
        for kind in stores[1:]:
            replica = store_of(kind)(password=PASSWORD, replicaof=("127.0.0.1", self.stores[0].port))
            self.stores.append(replica.wait_replica_online())
        self.old_port = self.stores[0].port
        self.configuration = f"""# what the operator wrote
sentinel monitor mymaster 127.0.0.1 {self.old_port} {quorum}
sentinel auth-pass mymaster {PASSWORD}
sentinel down-after-milliseconds mymaster {down_after}
sentinel failover-timeout mymaster {failover_timeout}
{extra}"""
        self.sentinels = [sentinel_of(kind)(self.configuration) for kind in sentinels]

    def wait_discovered(self):
        """Every Sentinel is connected to every other and sees every replica in step."""
        def discovered(sentinel):
            replicas = sentinel.rows("REPLICAS", "mymaster")
            others = sentinel.rows("SENTINELS", "mymaster")
            return (len(replicas) == len(self.stores) - 1 and len(others) == len(self.sentinels) - 1
                    and all(row["master-link-status"] == "ok" for row in replicas)
                    and all("disconnected" not in row["flags"] for row in replicas + others))
        for sentinel in self.sentinels:
            wait_until(lambda: discovered(sentinel), 30, f"{sentinel.process.name} has found everybody", every=0.1)
        return self

    def wait_switched(self, timeout=20):
        """All Sentinels name one new master, which is one. Returns it."""
        def ports():
            return {sentinel.master_address()[1] for sentinel in self.sentinels if sentinel.alive()}
        wait_until(lambda: len(ports()) == 1 and self.old_port not in ports(), timeout, "all Sentinels name one new master")
        port = ports().pop()
        heir = next(store for store in self.stores if store.port == port)
        wait_until(lambda: heir.info("replication")["role"] == "master", 5, "the heir is a master")
        return heir

    def wait_following(self, heir, timeout=20):
        """Every living store but the heir is its replica, in step."""
        for store in self.stores:
            if store is heir or not store.alive():
                continue
            wait_until(lambda: store.info("replication").get("master_port") == str(heir.port), timeout,
                       f"{store.process.name} follows {heir.port}")
            store.wait_replica_online()

    def restart_master(self):
        """The old master comes back as it was started: a master that knows of nothing."""
        self.stores[0] = self.store_of(self.kinds[0])(port=self.old_port, password=PASSWORD)
        return self.stores[0]

    def leaders(self):
        """The Sentinels that were elected, by their logs."""
        return [sentinel for sentinel in self.sentinels if "+elected-leader" in sentinel.log_text()]


def state_lines(sentinel):
    """What a Sentinel wrote into its file of its own accord, sorted."""
    pattern = r"^sentinel (?:myid|config-epoch|leader-epoch|current-epoch|known-replica|known-sentinel|monitor) .*$"
    return sorted(re.findall(pattern, sentinel.file.read_text(), re.M))
