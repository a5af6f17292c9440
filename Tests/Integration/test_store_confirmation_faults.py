"""`reply-after-replicas` where it matters: a master dies, or is cut off, while clients write and read.

The replica hangs on a link that takes its time, so that the master always has bytes that the replica has not; whatever a client was
told, in whatever way, must be on the replica when it is promoted. Without the directive the same scene loses writes: the last two
tests show that it can.
"""

import threading
import time

import pytest

from harness import RawClient, ServerClosed, wait_until
from harness.resp import ReplyError
from harness.slow_link import SlowLink

WRITERS, READERS, KEYS = 4, 2, 20


class Load:
    """Clients that count, push, pop, read and listen, and remember what they were told."""

    def __init__(self, port):
        self.port, self.is_over, self.threads = port, False, []
        self.acknowledged = {}       # key: the highest number whose SET was answered OK
        self.seen = {}               # key: the highest number that a GET showed
        self.counted = 0             # the highest reply to an INCR
        self.pushed, self.popped = set(), set()
        self.unknown_pops = 0        # whoever takes elements and hears nothing of it may have taken one
        self.transactions = 0
        self.told = {}               # key: the highest number in a message
        self.refused = 0             # replies NOTCONFIRMED
        for number in range(WRITERS):
            self._start(self._write, number)
        for _ in range(READERS):
            self._start(self._read)
        for body in (self._push, self._pop, self._count, self._transact, self._listen):
            self._start(body)

    def _start(self, body, *arguments):
        def run():
            try:
                with RawClient(self.port, timeout=3) as client:
                    body(client, *arguments)
            except (OSError, ServerClosed):     # the master is gone, or silent
                pass
            except Exception as error:
                self.failure = error
        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    failure = None

    def _is_error(self, reply):
        if isinstance(reply, ReplyError):
            if reply.startswith(("READONLY ", "UNBLOCKED ", "EXECABORT ")):
                raise ConnectionError(reply)    # demoted: there is nothing more to do here
            assert reply.startswith(("NOTCONFIRMED ", "UNCONFIRMEDREAD ")), reply
            self.refused += 1
            return True
        return False

    def _write(self, client, number):
        """SETs of growing numbers, sixteen at a time; each key has one writer. Every second one is announced, in a transaction with it."""
        value = 0
        while not self.is_over:
            batch = []
            for _ in range(16):
                value += 1
                key = f"key:{number}:{value % KEYS}"
                if value % 2:
                    client.send("SET", key, value)
                else:
                    for command in (("MULTI",), ("SET", key, value), ("PUBLISH", "news", f"{key}={value}"), ("EXEC",)):
                        client.send(*command)
                batch.append((key, value))
            for key, written in batch:
                replies = [client.read_value() for _ in range(1 if written % 2 else 4)]
                if not self._is_error(replies[-1]):
                    self.acknowledged[key] = written

    def _read(self, client):
        turn = 0
        while not self.is_over:
            turn += 1
            key = f"key:{turn % WRITERS}:{turn // WRITERS % KEYS}"
            found = client.value("GET", key)
            if found is not None and not self._is_error(found):
                self.seen[key] = max(self.seen.get(key, 0), int(found))

    def _push(self, client):
        number = 0
        while not self.is_over:
            number += 1
            if not self._is_error(client.value("RPUSH", "queue", number)):
                self.pushed.add(number)

    def _pop(self, client):
        while not self.is_over:
            self.unknown_pops += 1              # until the reply is there
            found = client.value("BLPOP", "queue", "0.5")
            if found is None or not self._is_error(found):
                self.unknown_pops -= 1
                self.popped |= {int(found[1])} if found else set()

    def _count(self, client):
        while not self.is_over:
            found = client.value("INCR", "counter")
            if not self._is_error(found):
                self.counted = found

    def _transact(self, client):
        while not self.is_over:
            client.call("MULTI")
            client.call("INCR", "pair:a")
            client.call("INCR", "pair:b")
            found = client.value("EXEC")
            if not self._is_error(found):
                self.transactions = found[0]

    def _listen(self, client):
        client.call("SUBSCRIBE", "news")
        while not self.is_over:
            key, _, value = client.read_value()[2].decode().partition("=")
            self.told[key] = max(self.told.get(key, 0), int(value))

    def end(self):
        self.is_over = True
        for thread in self.threads:
            thread.join(5)
        if self.failure:
            raise self.failure

    def missing(self, survivor):
        """What clients were told that the promoted replica does not have, as texts."""
        with survivor.raw() as client:
            def number(key):
                return int(client.value("GET", key) or 0)
            kept = {f"key:{w}:{k}": number(f"key:{w}:{k}") for w in range(WRITERS) for k in range(KEYS)}
            queue = {int(element) for element in client.value("LRANGE", "queue", 0, -1)}
            lost = [f"{what} {key}={value}, there is {kept[key]}"
                    for what, told in (("acknowledged", self.acknowledged), ("read", self.seen), ("announced", self.told))
                    for key, value in told.items() if kept[key] < value]
            gone = self.pushed - queue - self.popped
            if len(gone) > self.unknown_pops:
                lost.append(f"pushed {gone} are gone, of which {self.unknown_pops} may have been taken")
            lost += [f"popped {element} is there again" for element in self.popped & queue]
            if number("counter") < self.counted:
                lost.append(f"counted up to {self.counted}, there is {number('counter')}")
            if min(number("pair:a"), number("pair:b")) < self.transactions or number("pair:a") != number("pair:b"):
                lost.append(f"transactions up to {self.transactions}, there are {number('pair:a')} and {number('pair:b')}")
        return lost


@pytest.fixture
def scene(store_of):
    """A master, a replica of it behind a slow link, and clients at work."""
    links = []

    def start(kind, **options):
        master = store_of("vigie")(reply_after_replicas_timeout=400, **options)
        link = SlowLink(master.port, delay=0.03)
        links.append(link)
        replica = store_of(kind)(replicaof=("127.0.0.1", link.port)).wait_replica_online()
        if options.get("reply_after_replicas"):
            wait_until(lambda: master.call("SET", "ready", "1") == b"OK", 10)
        load = Load(master.port)
        wait_until(lambda: load.transactions > 3 and load.told and load.popped and load.seen, 20, "everybody at work")
        time.sleep(1)
        return master, link, replica, load
    yield start
    for link in links:
        link.end()


def promote(replica):
    assert replica.call("REPLICAOF", "NO", "ONE") == b"OK"
    return replica


def kill(master, link, load):
    """The machine is gone with all that its network card had not sent."""
    link.cut()
    master.kill()
    load.end()


@pytest.mark.parametrize("kind", ["vigie", "redis"])
@pytest.mark.parametrize("options", [{}, {"appendonly": "yes", "appendfsync": "always"}], ids=["memory", "fsync"])
def test_a_master_that_dies_takes_nothing_with_it_that_anybody_was_told(scene, kind, options):
    master, link, replica, load = scene(kind, reply_after_replicas=1, **options)
    kill(master, link, load)
    assert sum(load.acknowledged.values()) > 100 and load.counted > 3
    assert load.missing(promote(replica)) == []


@pytest.mark.parametrize("kind", ["vigie", "redis"])
def test_a_master_that_is_cut_off_acknowledges_nothing_that_is_lost(scene, kind):
    master, link, replica, load = scene(kind, reply_after_replicas=1)
    link.cut()
    time.sleep(1.5)
    promote(replica)
    before = dict(load.acknowledged), load.counted
    time.sleep(1)
    # The clients are still at the old master, which has been writing and refusing ever since.
    assert load.refused > 10
    assert (dict(load.acknowledged), load.counted) == before
    assert master.call("REPLICAOF", "127.0.0.1", replica.port) == b"OK"
    load.end()
    assert load.missing(replica) == []
    master.wait_replica_online()
    assert load.missing(master) == []


def test_two_replicas_one_of_which_is_far_away(store_of):
    """Each write waits for the nearer one, and that is the one to promote."""
    master = store_of("vigie")(reply_after_replicas=1, reply_after_replicas_timeout=2000)
    near, far = SlowLink(master.port, 0.02), SlowLink(master.port, 0.3)
    try:
        replicas = [store_of("vigie")(replicaof=("127.0.0.1", link.port)).wait_replica_online() for link in (near, far)]
        wait_until(lambda: master.call("SET", "ready", "1") == b"OK", 10)
        load = Load(master.port)
        wait_until(lambda: load.transactions > 3 and load.told and load.popped and load.seen, 20)
        time.sleep(1)
        near.cut()
        kill(master, far, load)
        assert load.missing(promote(replicas[0])) == []
        assert load.missing(promote(replicas[1])) != []
    finally:
        near.end()
        far.end()


def test_without_the_directive_the_death_of_the_same_master_loses_writes(scene):
    master, link, replica, load = scene("vigie")
    kill(master, link, load)
    assert load.missing(promote(replica)) != []


def test_without_the_directive_the_same_partition_loses_writes(scene):
    master, link, replica, load = scene("vigie")
    link.cut()
    time.sleep(1)
    promote(replica)
    load.end()
    assert load.missing(replica) != []
